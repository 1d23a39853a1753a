"""OpenDSS's regulators and capacitor controls as `Controls`; those without a model stand still and are named."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from tellegen.errors import InputError
from tellegen.grid.controls import (
    CapacitorControl,
    CapacitorSignal,
    Controls,
    Pick,
    Regulator,
    ReverseSettings,
    SwitchedCapacitor,
    TapTransformer,
    entries,
)
from tellegen.grid.importers.draft import listed
from tellegen.grid.importers.opendss_elements import Element, Nodes
from tellegen.grid.importers.opendss_script import Row, Script
from tellegen.grid.primitives import GROUND, delta_direction

IntArray = NDArray[np.int64]

_PICKS = {"avg": Pick.MEAN, "max": Pick.LARGEST, "min": Pick.SMALLEST}
_SIGNALS = {"voltage": CapacitorSignal.VOLTAGE, "current": CapacitorSignal.CURRENT, "kvar": CapacitorSignal.KVAR}


def controls(
    script: Script, nodes: Nodes, parts: list[Element], rows: dict[str, IntArray], warnings: list[str]
) -> Controls | None:
    """The regulators and capacitor controls of a script; None where it has none.

    Parameters
    ----------
    parts : the elements of the circuit; rows : branch rows of their ends, where they are metered.
    warnings : the controls that stand still are added.
    """
    place = _Places(script, nodes, {part.primitive.name: part for part in parts}, rows)
    still: list[str] = list(script.standing)
    transformers: dict[str, TapTransformer] = {}
    banks: dict[str, SwitchedCapacitor] = {}
    regulators: list[Regulator] = []
    switches: list[CapacitorControl] = []
    for row in script.tables["RegControl"]:
        regulator = _regulator(place, row, transformers)
        if regulator is None:
            still.append(f"regcontrol.{row['Name']}".lower())
        else:
            regulators.append(regulator)
    for row in script.tables["CapControl"]:
        switch = _switch(place, row, banks)
        if switch is None:
            still.append(f"capcontrol.{row['Name']}".lower())
        else:
            switches.append(switch)
    if still:
        warnings.append(f"stay where OpenDSS left them, for their control has no model here: {listed(still)}")
    if not regulators and not switches:
        return None
    return Controls(
        transformers=tuple(transformers.values()),
        capacitors=tuple(banks.values()),
        regulators=tuple(regulators),
        switches=tuple(switches),
        rest=_rest(parts, {*transformers, *banks}, len(nodes.index)),
    )


@dataclass(frozen=True, slots=True)
class _Places:
    """Where controls measure."""

    script: Script
    nodes: Nodes
    part: dict[str, Element]
    rows: dict[str, IntArray]

    def terminal(self, name: str, number: int) -> tuple[int, IntArray, IntArray]:
        """Phases, nodes of the conductors, and their branch rows (none where not metered) of a terminal from 1."""
        kind, _, short = name.partition(".")
        table = next((t for k, t in self.script.tables.items() if k.lower() == kind), [])
        row = next((row for row in table if str(row["Name"]).lower() == short), None)
        if row is None:
            raise InputError(self.script.source, name, "is monitored by a control, but not enabled or not known")
        phases, element = int(row["Phases"]), self.part.get(name)
        if element is None:
            ends = np.array(self.nodes.ends(row["Bus1"], phases, phases, name), dtype=np.int64)
            return phases, ends, np.zeros(0, dtype=np.int64)
        node = element.primitive.node
        conductors = phases + 1 if kind == "transformer" else phases
        if kind in ("capacitor", "reactor") and node.size != 2 * phases:
            conductors = node.size
        at = slice((number - 1) * conductors, number * conductors)
        if node[at].size == 0:
            raise InputError(self.script.source, name, f"has no terminal {number}, which a control monitors")
        return phases, node[at], self.rows[name][at] if name in self.rows else np.zeros(0, dtype=np.int64)

    def far(self, bus: str, name: str) -> tuple[IntArray, IntArray]:
        """The node of a remote bus such as ``"671.2"`` or ``"671.1.2"``, and the second one or ground."""
        called = self.nodes.at(bus, name)
        numbers = [int(word) for word in bus.split(".")[1:]] or [1]
        found = [self.nodes.index.get((called, number), GROUND) for number in [*numbers, 0][:2]]
        if found[0] == GROUND:
            raise InputError(self.script.source, name, f"watches bus {bus}, to which nothing is connected")
        return np.array(found[:1], dtype=np.int64), np.array(found[1:], dtype=np.int64)


def _regulator(place: _Places, row: Row, transformers: dict[str, TapTransformer]) -> Regulator | None:
    name = f"regcontrol.{row['Name']}".lower()
    element = place.part.get(f"transformer.{row['Transformer']}".lower())
    if element is None or not isinstance(element.model, TapTransformer) or row["Cogen"]:
        return None
    model = replace(element.model, row=place.rows[element.primitive.name])
    winding, tap_winding = int(row["Winding"]) - 1, int(row["TapWinding"]) - 1
    if not (0 <= winding < len(model.windings) and 0 <= tap_winding < len(model.windings)):
        raise InputError(place.script.source, name, f"names a winding that {model.name} does not have")
    for what, positive in (("PTRatio", row["PTRatio"]), ("CTPrim", row["CTPrim"]), ("RemotePTRatio", 1)):
        if not float(positive) > 0:
            raise InputError(place.script.source, name, f"needs a positive {what.lower()}")
    conductors = model.phases + 1
    first = winding * conductors
    ends = model.node[first : first + conductors]
    if model.windings[winding].delta:
        direction = 1 if model.phases == 1 else delta_direction(model.windings, model.low_voltage_leads)
        modulus = model.phases if model.phases > 2 else conductors
        other = np.array([ends[(k + direction) % modulus] for k in range(model.phases)], dtype=np.int64)
    else:
        other = np.full(model.phases, ends[model.phases], dtype=np.int64)
    high, low = ends[: model.phases], other
    local = high[:1], low[:1]
    current = model.row[first : first + model.phases]
    remote = bool(row["Bus"])
    pick, chosen = _phase(str(row["PTPhase"]), 1 if remote else model.phases)
    if remote:
        high, low = place.far(str(row["Bus"]), name)
        if not model.windings[winding].delta:
            low = np.full(1, GROUND, dtype=np.int64)
    elif chosen is not None:
        high, low, current = high[chosen], low[chosen], current[chosen]
    compensated = bool(row["R"] or row["X"] or row["LDC_Z"])
    if compensated and not remote and (current < 0).any():
        return None
    transformers.setdefault(model.name, model)
    real = model.row[first : first + conductors]
    return Regulator(
        name=name,
        transformer=list(transformers).index(model.name),
        winding=winding,
        tap_winding=tap_winding,
        v_reg=float(row["VReg"]),
        band=float(row["Band"]),
        high=high,
        low=low,
        pick=pick,
        local_high=local[0],
        local_low=local[1],
        current_row=current,
        power_row=real[real >= 0],
        pt_ratio=float(row["PTRatio"]),
        sense_pt_ratio=float(row["RemotePTRatio"] if remote else row["PTRatio"]),
        ct_primary_a=float(row["CTPrim"]),
        r_volt=float(row["R"]),
        x_volt=float(row["X"]),
        magnitude_volt=float(row["LDC_Z"]),
        v_limit=float(row["VLimit"]),
        delay_s=float(row["Delay"]),
        inverse_time=bool(row["InverseTime"]),
        steps_max=int(row["MaxTapChange"]),
        remote=remote,
        reverse=None
        if not row["Reversible"]
        else ReverseSettings(
            threshold_kw=float(row["RevThreshold"]),
            delay_s=float(row["RevDelay"]),
            to_neutral=bool(row["RevNeutral"]),
            neutral_delay_s=float(row["TapDelay"]),
            v_reg=float(row["RevVReg"]),
            band=float(row["RevBand"]),
            r_volt=float(row["RevR"]),
            x_volt=float(row["RevX"]),
            magnitude_volt=float(row["Rev_Z"]),
        ),
    )


def _switch(place: _Places, row: Row, banks: dict[str, SwitchedCapacitor]) -> CapacitorControl | None:
    name = f"capcontrol.{row['Name']}".lower()
    signal = _SIGNALS.get(str(row["Type"]).lower())
    element = place.part.get(f"capacitor.{row['Capacitor']}".lower())
    if signal is None or element is None or not isinstance(element.model, SwitchedCapacitor) or row["UserModel"]:
        return None
    bank = element.model
    monitored = str(row["Element"]).lower()
    phases, ends, rows = place.terminal(monitored, int(row["Terminal"]))
    real = rows[rows >= 0]
    if signal != CapacitorSignal.VOLTAGE and real.size == 0:
        return None
    voltage_pick, at = _phase(str(row["PTPhase"]), phases)
    high, low = _volts(ends, phases, voltage_pick, at, bank)
    current_pick, conductor = _phase(str(row["CTPhase"]), phases)
    current = rows[: min(bank.phases, rows.size)] if conductor is None else rows[conductor]
    if signal == CapacitorSignal.CURRENT and (current < 0).any():
        return None
    over_high, over_low, over_pick = high, low, voltage_pick
    if row["VBus"]:
        bus = place.nodes.at(str(row["VBus"]), name)
        there = np.array([k for (b, _), k in place.nodes.index.items() if b == bus][: bank.phases], dtype=np.int64)
        if there.size == 0 or (at is not None and at.stop > there.size):
            raise InputError(place.script.source, name, f"watches bus {bus}, which has not the phase asked for")
        over_high, over_low = _volts(there, there.size, voltage_pick, at, bank)
    banks.setdefault(bank.name, bank)
    override = bool(row["VoltOverride"])
    return CapacitorControl(
        name=name,
        capacitor=list(banks).index(bank.name),
        signal=signal,
        on=float(row["OnSetting"]),
        off=float(row["OffSetting"]),
        high=high,
        low=low,
        voltage_pick=voltage_pick,
        current_row=current if signal == CapacitorSignal.CURRENT else np.zeros(0, dtype=np.int64),
        current_pick=current_pick,
        power_row=real,
        pt_ratio=float(row["PTRatio"]),
        ct_ratio=float(row["CTRatio"]),
        override_min=float(row["VMin"]) if override else 0.0,
        override_max=float(row["VMax"]) if override else np.inf,
        override_high=over_high,
        override_low=over_low,
        override_pick=over_pick,
        delay_on_s=float(row["Delay"]),
        delay_off_s=float(row["DelayOff"]),
        dead_s=float(row["DeadTime"]),
    )


def _volts(
    ends: IntArray, phases: int, pick: Pick, at: slice | None, bank: SwitchedCapacitor
) -> tuple[IntArray, IntArray]:
    """Nodes between which a capacitor's control measures: a delta bank goes by the voltage between phases."""
    if at is None:
        return ends[:phases], np.full(min(phases, ends.size), GROUND, dtype=np.int64)
    if bank.delta and bank.phases > 1:
        following = 0 if at.start + 1 >= bank.phases else at.start + 1
        return ends[at], ends[following : following + 1]
    return ends[at], np.full(1, GROUND, dtype=np.int64)


def _phase(text: str, phases: int) -> tuple[Pick, slice | None]:
    """How phases are picked, and the one that is named; a number beyond the phases means the first."""
    word = text.strip().lower()
    if word in _PICKS:
        return _PICKS[word], None
    number = int(word) if int(word) <= phases else 1
    return Pick.MEAN, slice(number - 1, number)


def _rest(parts: list[Element], moving: set[str], size: int) -> sp.csr_matrix:
    """What standing elements contribute at the entries that moving ones touch, siemens."""
    touched = [np.zeros(0, dtype=np.int64)]
    for part in parts:
        if part.primitive.name in moving:
            model = part.model
            if isinstance(model, SwitchedCapacitor):
                model = replace(model, on=np.ones_like(model.on))
            assert model is not None
            row, column, _ = entries(model.node, model.admittance())
            touched.append(row * size + column)
    keys = np.unique(np.concatenate(touched))
    total = np.zeros(keys.size, dtype=np.complex128)
    near = set((keys // size).tolist())
    for part in parts:
        if part.primitive.name not in moving and near.intersection(part.primitive.node.tolist()):
            row, column, value = entries(part.primitive.node, part.primitive.admittance)
            key = row * size + column
            found = np.searchsorted(keys, key)
            hit = keys[np.minimum(found, keys.size - 1)] == key
            np.add.at(total, found[hit], value[hit])
    return sp.csr_matrix((total, (keys // size, keys % size)), shape=(size, size))
