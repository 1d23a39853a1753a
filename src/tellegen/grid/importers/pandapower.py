"""pandapower networks: element tables to a `Case`, balanced or in three phases.

Models follow pandapower's own power flow with its defaults (documentation, "Electric Model" of
each element): lines as pi, two-winding transformers as T brought to pi, taps at their side. Three
phases add the zero sequence (`zero_sequence`) and the loads of single phases (`phase_injections`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from tellegen.errors import InputError
from tellegen.foreign.documents import json_document
from tellegen.grid.elements import ComplexArray, Elements, FloatArray, IntArray
from tellegen.grid.importers.draft import V_MAX_DEFAULT, V_MIN_DEFAULT, Draft, energise, listed
from tellegen.grid.importers.injections import generators, has_kind, loads, root_price, roots
from tellegen.grid.importers.phase_injections import (
    UNBALANCED_KINDS,
    phase_generators,
    phase_loads,
    root_admittances,
    summed_over_phases,
)
from tellegen.grid.importers.sequences import Sequences, TwoPorts
from tellegen.grid.importers.tables import Frame, Tables
from tellegen.grid.importers.zero_sequence import line_columns, transformer_two_ports
from tellegen.grid.network import Case, FixedLoads, LimitKind

READ = {"bus", "line", "trafo", "load", "sgen", "gen", "storage", "ext_grid", "switch", "shunt", "poly_cost"}
READ |= {"pwl_cost", *UNBALANCED_KINDS}
SWITCH_RX_RATIO = 2.0
"""R/X of a bus-bus switch that has an impedance (pandapower's default)."""


@dataclass(frozen=True, slots=True)
class _Part:
    """Elements of one kind over bus positions, with the limits of their terminals."""

    name: tuple[str, ...]
    from_bus: IntArray
    to_bus: IntArray
    impedance: ComplexArray
    from_shunt: ComplexArray
    to_shunt: ComplexArray
    ratio: ComplexArray
    rating_from: FloatArray
    rating_to: FloatArray
    kind: LimitKind
    live: NDArray[np.bool_]
    zero: TwoPorts | None = None
    length_km: FloatArray | None = None


def _check_understood(tables: Tables) -> list[str]:
    """Refuse tables with rows in service that have no model here; return warnings."""
    warnings = []
    for name in sorted(tables.frames):
        frame = tables.frames[name]
        if name in READ or not len(frame):
            continue
        active = int(frame.flags("in_service", True).sum())
        if not active:
            continue
        if name == "controller":
            warnings.append(f"controllers are not run: {active} left out, set-points as in the file")
        elif any("bus" in column for column in frame.columns):
            raise InputError(
                tables.source,
                f"table {name}",
                f"has {active} rows in service, for which there is no model; put them out of service or replace them",
            )
        else:
            warnings.append(f"table {name} is not read")
    return warnings


def _limit(frame: Frame) -> FloatArray:
    """Share of the nominal rating that binds: ``max_loading_percent``, 100 where not given."""
    return frame.numbers("max_loading_percent", 100.0) / 100.0


def _lines(tables: Tables, bus: Frame, base_kv: FloatArray, warnings: list[str] | None) -> _Part:
    """Lines as pi; with their zero sequence where `warnings` for it are given."""
    line = tables.frame("line")
    f, t = line.references("from_bus", bus), line.references("to_bus", bus)
    length, parallel = line.numbers("length_km"), line.numbers("parallel", 1.0)
    base_ohm = base_kv[f] ** 2 / tables.sn_mva
    ohm = line.numbers("r_ohm_per_km") + 1j * line.numbers("x_ohm_per_km")
    siemens = line.numbers("g_us_per_km", 0.0) * 1e-6
    siemens = siemens + 2j * np.pi * tables.f_hz * line.numbers("c_nf_per_km", 0.0) * 1e-9
    shunt = np.asarray(0.5 * siemens * length * parallel * base_ohm, dtype=np.complex128)
    rated_ka = line.numbers("max_i_ka", np.inf) * line.numbers("df", 1.0) * parallel * _limit(line)
    rated_ka[rated_ka <= 0] = np.inf  # as in MATPOWER, a rating of 0 says that none is known
    base_ka = tables.sn_mva / (np.sqrt(3.0) * base_kv)
    impedance = np.asarray(ohm * length / parallel / base_ohm, dtype=np.complex128)
    zero = None
    if warnings is not None:
        ohm0, nano_farad = line_columns(line, warnings)
        series = np.divide(
            base_ohm * parallel, ohm0 * length, out=np.zeros(len(line), dtype=np.complex128), where=ohm0 * length != 0
        )
        if (line.flags("in_service", True) & (series == 0)).any():
            row = int(np.argmax(line.flags("in_service", True) & (series == 0)))
            raise InputError(tables.source, line.label(row), "has zero impedance in the zero sequence")
        own = series + 1j * np.pi * tables.f_hz * nano_farad * 1e-9 * length * parallel * base_ohm
        zero = TwoPorts(own, -series, -series, own, np.zeros(0, dtype=np.complex128))
    return _Part(
        name=line.labels(),
        from_bus=f,
        to_bus=t,
        impedance=impedance,
        from_shunt=shunt,
        to_shunt=shunt,
        ratio=np.ones(len(line), dtype=np.complex128),
        rating_from=rated_ka / base_ka[f],
        rating_to=rated_ka / base_ka[t],
        kind=LimitKind.CURRENT,
        live=line.flags("in_service", True),
        zero=zero,
        length_km=length,
    )


def _tapped(frame: Frame, warnings: list[str]) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Rated voltages ``(hv_kv, lv_kv)`` and shift (degree) at the position of the tap changers."""
    rated = {"hv": frame.numbers("vn_hv_kv"), "lv": frame.numbers("vn_lv_kv")}
    shift = frame.numbers("shift_degree", 0.0)
    for tap in ("tap", "tap2"):
        position = frame.numbers(f"{tap}_pos", np.nan)
        steps = position - frame.numbers(f"{tap}_neutral", np.nan)
        moved = np.isfinite(steps) & (steps != 0)
        side = frame.texts(f"{tap}_side")
        percent, degree = frame.numbers(f"{tap}_step_percent", 0.0), frame.numbers(f"{tap}_step_degree", 0.0)
        type_known = f"{tap}_changer_type" in frame.columns
        kind = frame.texts(f"{tap}_changer_type")
        shifter = frame.flags(f"{tap}_phase_shifter", False)
        if frame.flags(f"{tap}_dependency_table", False).any():
            raise InputError(frame.source, "table trafo", f"{tap}_dependency_table is not read; set a plain tap")
        for row in np.nonzero(moved)[0].tolist():
            if side[row] not in rated:
                warnings.append(f"{frame.label(row)}: {tap}_pos without {tap}_side has no effect")
                continue
            if type_known and kind[row] not in ("Ratio", "Symmetrical", "Ideal"):
                # pandapower from 3.0 on: a position without a type of tap changer does nothing.
                warnings.append(
                    f"{frame.label(row)}: {tap}_pos {position[row]:g} has no tap changer type, so no effect"
                )
                continue
            sign = 1.0 if side[row] == "hv" else -1.0
            if kind[row] == "Ideal" or (not type_known and shifter[row]):
                turn = np.radians(degree[row] * steps[row])
                if degree[row] == 0:
                    turn = 2 * np.arcsin(steps[row] * percent[row] / 200)
                shift[row] += sign * np.degrees(turn)
                continue
            phasor = 1.0 + percent[row] * steps[row] / 100 * np.exp(1j * np.radians(degree[row]))
            rated[side[row]][row] *= abs(phasor)
            shift[row] += sign * np.degrees(np.arctan(phasor.imag / phasor.real))
    return rated["hv"], rated["lv"], shift


def _transformers(tables: Tables, bus: Frame, base_kv: FloatArray, warnings: list[str], *, three_phase: bool) -> _Part:
    """Two-winding transformers: T of two leakage halves and a magnetising branch, as pi at the low side."""
    frame = tables.frame("trafo")
    hv, lv = frame.references("hv_bus", bus), frame.references("lv_bus", bus)
    live = frame.flags("in_service", True)
    hv_kv, lv_kv, shift = _tapped(frame, warnings)
    rated_mva, parallel = frame.numbers("sn_mva"), frame.numbers("parallel", 1.0)
    vk, vkr = frame.numbers("vk_percent"), frame.numbers("vkr_percent")
    for row in np.nonzero((rated_mva <= 0) | (parallel < 1) | (abs(vkr) > abs(vk)) | (lv_kv <= 0) | (hv_kv <= 0))[0]:
        raise InputError(
            tables.source,
            frame.label(int(row)),
            "needs positive sn_mva, vn_kv, parallel, and vkr_percent <= vk_percent",
        )
    to_system = (lv_kv / base_kv[lv]) ** 2 * tables.sn_mva / rated_mva / parallel / 100
    leakage = (vkr + 1j * np.sign(vk) * np.sqrt(vk**2 - vkr**2)) * to_system
    iron_mw = frame.numbers("pfe_kw", 0.0) / 1000
    idle_mva = frame.numbers("i0_percent", 0.0) / 100 * rated_mva
    magnetising = iron_mw - 1j * np.sqrt(np.maximum(idle_mva**2 - iron_mw**2, 0.0))
    magnetising = magnetising / tables.sn_mva * parallel * (base_kv[lv] / lv_kv) ** 2
    share_r = frame.numbers("leakage_resistance_ratio_hv", 0.5)
    share_x = frame.numbers("leakage_reactance_ratio_hv", 0.5)
    at_hv = leakage.real * share_r + 1j * leakage.imag * share_x
    at_lv = leakage - at_hv
    # Star to triangle, multiplied through by the magnetising admittance, which may be zero.
    joint = at_hv * at_lv * magnetising + at_hv + at_lv
    rating = rated_mva * parallel * frame.numbers("df", 1.0) * _limit(frame) / tables.sn_mva
    ratio = np.asarray((hv_kv / lv_kv) / (base_kv[hv] / base_kv[lv]) * np.exp(1j * np.radians(shift)), np.complex128)
    zero = None
    if three_phase:
        base_ohm = base_kv**2 / tables.sn_mva
        zero = transformer_two_ports(frame, ratio, to_system, base_ohm[hv], base_ohm[lv], warnings)
    return _Part(
        name=frame.labels(),
        from_bus=hv,
        to_bus=lv,
        impedance=joint,
        from_shunt=magnetising * at_lv / joint,
        to_shunt=magnetising * at_hv / joint,
        ratio=ratio,
        rating_from=rating,
        rating_to=rating,
        kind=LimitKind.APPARENT_POWER,
        live=live,
        zero=zero,
    )


def _warn_of_switch_loops(switch: Frame, joined: tuple[tuple[int, int], ...], warnings: list[str]) -> None:
    """Name closed switches between buses that others already join."""
    group: dict[int, int] = {}

    def top(bus: int) -> int:
        while group.get(bus, bus) != bus:
            bus = group[bus]
        return bus

    loops = []
    for label, (a, b) in zip(switch.labels(), joined, strict=True):
        if top(a) == top(b):
            loops.append(label)
        group[top(a)] = top(b)
    if loops:
        warnings.append(
            f"closes a loop of switches without impedance, whose currents nothing determines; open it or give it "
            f"z_ohm: {listed(loops)}"
        )


def _switch_elements(
    tables: Tables, bus: Frame, base_kv: FloatArray, warnings: list[str]
) -> tuple[_Part, tuple[tuple[int, int], ...]]:
    """Closed bus-bus switches: those with impedance as elements, the others as joined pairs."""
    switch = tables.frame("switch")
    kind = np.array(switch.texts("et"), dtype=object)
    known = np.isin(kind, ["b", "l", "t", "t3"])
    if not known.all():
        row = int(np.nonzero(~known)[0][0])
        raise InputError(tables.source, f"{switch.label(row)}, et", "must be b, l or t")
    closed = switch.take((kind == "b") & switch.flags("closed", True))
    a, b = closed.references("bus", bus), closed.references("element", bus)
    ohm = closed.numbers("z_ohm", 0.0)
    usable = bus.flags("in_service", True)
    live = usable[a] & usable[b]
    joined = tuple((int(x), int(y)) for x, y in zip(a[live & (ohm <= 0)], b[live & (ohm <= 0)], strict=True))
    _warn_of_switch_loops(closed.take(live & (ohm <= 0)), joined, warnings)
    with_z = closed.take(ohm > 0)
    a, b, ohm, live = a[ohm > 0], b[ohm > 0], ohm[ohm > 0], live[ohm > 0]
    r_share = SWITCH_RX_RATIO / np.hypot(1.0, SWITCH_RX_RATIO)
    x_share = 1.0 / np.hypot(1.0, SWITCH_RX_RATIO)
    none, rows = np.full(len(ohm), np.inf), len(ohm)
    impedance = ohm / (base_kv[a] ** 2 / tables.sn_mva) * (r_share + 1j * x_share)
    part = _Part(
        name=with_z.labels(),
        from_bus=a,
        to_bus=b,
        impedance=impedance,
        from_shunt=np.zeros(rows, dtype=np.complex128),
        to_shunt=np.zeros(rows, dtype=np.complex128),
        ratio=np.ones(rows, dtype=np.complex128),
        rating_from=none,
        rating_to=none,
        kind=LimitKind.CURRENT,
        live=live,
        zero=TwoPorts(1 / impedance, -1 / impedance, -1 / impedance, 1 / impedance, np.zeros(0, dtype=np.complex128)),
    )
    return part, joined


def _open_ends(tables: Tables, bus: Frame, letter: str, part: _Part) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Whether the from and the to end of each element of a kind is open: ``(bool[E], bool[E])``."""
    switch = tables.frame("switch")
    kind = np.array(switch.texts("et"), dtype=object)
    opened = switch.take((kind == letter) & ~switch.flags("closed", True))
    target = tables.frame("line" if letter == "l" else "trafo")
    element, at = opened.references("element", target), opened.references("bus", bus)
    open_from, open_to = np.zeros(len(target), dtype=np.bool_), np.zeros(len(target), dtype=np.bool_)
    for row, (e, b) in enumerate(zip(element.tolist(), at.tolist(), strict=True)):
        if b == part.to_bus[e]:
            open_to[e] = True
        elif b == part.from_bus[e]:
            open_from[e] = True
        else:
            raise InputError(tables.source, opened.label(row), "is not at an end of its element")
    return open_from, open_to


def _bus_shunts(tables: Tables, bus: Frame, base_kv: FloatArray) -> ComplexArray:
    shunt = tables.frame("shunt")
    shunt = shunt.take(shunt.flags("in_service", True))
    if shunt.flags("step_dependency_table", False).any():
        raise InputError(tables.source, "table shunt", "step_dependency_table is not read; give p_mw and q_mvar")
    at = shunt.references("bus", bus)
    rated_kv = shunt.numbers("vn_kv", np.nan)
    scale = shunt.numbers("step", 1.0) * np.where(np.isnan(rated_kv), 1.0, base_kv[at] / rated_kv) ** 2
    out = np.zeros(len(bus), dtype=np.complex128)
    np.add.at(out, at, (shunt.numbers("p_mw") - 1j * shunt.numbers("q_mvar")) * scale / tables.sn_mva)
    return out


def _dangling(
    part: _Part,
    ports: TwoPorts,
    open_from: NDArray[np.bool_],
    open_to: NDArray[np.bool_],
    shunts: ComplexArray,
) -> None:
    """Add to `shunts` what an element with one open end draws at its closed end."""
    ff, ft, tf, tt = ports.entries()
    through = ft * tf
    at_from, at_to = part.live & open_to & ~open_from, part.live & open_from & ~open_to
    for at, bus, own, far in ((at_from, part.from_bus, ff, tt), (at_to, part.to_bus, tt, ff)):
        beyond = np.divide(through, far, out=np.zeros_like(through), where=far != 0)
        np.add.at(shunts, bus[at], (own - beyond)[at])


def _stack(parts: list[_Part], shunts: ComplexArray) -> Elements:
    return Elements(
        name=tuple(name for part in parts for name in part.name),
        from_node=np.concatenate([part.from_bus for part in parts]),
        to_node=np.concatenate([part.to_bus for part in parts]),
        impedance_pu=np.concatenate([part.impedance for part in parts]),
        from_shunt_pu=np.concatenate([part.from_shunt for part in parts]),
        to_shunt_pu=np.concatenate([part.to_shunt for part in parts]),
        ratio=np.concatenate([part.ratio for part in parts]),
        node_shunt_pu=shunts,
    )


def _keep(part: _Part, keep: NDArray[np.bool_]) -> _Part:
    return _Part(
        name=tuple(name for name, k in zip(part.name, keep, strict=True) if k),
        from_bus=part.from_bus[keep],
        to_bus=part.to_bus[keep],
        impedance=part.impedance[keep],
        from_shunt=part.from_shunt[keep],
        to_shunt=part.to_shunt[keep],
        ratio=part.ratio[keep],
        rating_from=part.rating_from[keep],
        rating_to=part.rating_to[keep],
        kind=part.kind,
        live=part.live[keep],
        zero=None if part.zero is None else part.zero.take(np.flatnonzero(keep), part.zero.ground),
        length_km=None if part.length_km is None else part.length_km[keep],
    )


def _coordinates(bus: Frame) -> FloatArray | None:
    """Where buses stand: the points that column `geo` holds as GeoJSON; what is none is left unknown."""
    if not bus.has("geo"):
        return None
    places = np.full((len(bus), 2), np.nan)
    for row, text in enumerate(bus.texts("geo")):
        try:
            x, y = json_document(text, bus.source)["coordinates"][:2]
            places[row] = float(x), float(y)
        except (InputError, ValueError, TypeError, KeyError):
            continue
    return places


def case_of_tables(tables: Tables, *, three_phase: bool | None = None) -> Case:
    """Convert the tables of a pandapower network.

    Buses are called by their index. Voltage limits are ``min_vm_pu`` and ``max_vm_pu`` of the bus,
    else 0.95 and 1.05; ratings are ``max_i_ka`` and ``sn_mva`` times ``max_loading_percent``.

    Parameters
    ----------
    three_phase : a node per phase; None: where the file holds asymmetric loads or generators in service.

    Raises
    ------
    InputError : an element in service has no model here, or a value is missing or impossible.
    """
    warnings = _check_understood(tables)
    bus = tables.frame("bus")
    if not len(bus):
        raise InputError(tables.source, "table bus", "has no rows")
    phases = any(has_kind(tables, kind) for kind in UNBALANCED_KINDS) if three_phase is None else three_phase
    base_kv, usable = bus.numbers("vn_kv"), bus.flags("in_service", True)
    if (base_kv <= 0).any():
        raise InputError(tables.source, bus.label(int(np.argmax(base_kv <= 0))), "needs a positive nominal voltage")
    lines = _lines(tables, bus, base_kv, warnings if phases else None)
    transformers = _transformers(tables, bus, base_kv, warnings, three_phase=phases)
    switches, fused = _switch_elements(tables, bus, base_kv, warnings)
    shunts = _bus_shunts(tables, bus, base_kv)
    zero_shunts = shunts.copy()  # a shunt is a star with its neutral earthed
    parts = [switches]
    for part, letter in ((lines, "l"), (transformers, "t")):
        live = _keep(part, part.live)
        zero = np.nonzero(live.impedance == 0)[0]
        if zero.size:
            raise InputError(
                tables.source, live.name[int(zero[0])], "has zero impedance; use a closed bus-bus switch instead"
            )
        open_from, open_to = _open_ends(tables, bus, letter, part)
        if letter == "l":  # a line to a bus out of service hangs on its other end, as with an open switch
            open_from, open_to = open_from | ~usable[part.from_bus], open_to | ~usable[part.to_bus]
        ends = (open_from[part.live], open_to[part.live])
        _dangling(live, TwoPorts.of(_stack([live], np.zeros(0, dtype=np.complex128))), *ends, shunts)
        if live.zero is not None:
            _dangling(live, live.zero, *ends, zero_shunts)
        whole = ~open_from & ~open_to & part.live & usable[part.from_bus] & usable[part.to_bus]
        half = [n for n, w, ok in zip(part.name, whole, part.live, strict=True) if ok and not w]
        if half:
            warnings.append(f"open at an end, so carrying no flow: {listed(half)}")
        parts.append(_keep(part, whole))
    parts[0] = _keep(switches, switches.live)

    at, voltage = roots(tables, bus)
    fixed = phase_loads(tables, bus, warnings) if phases else loads(tables, bus, warnings)
    units = phase_generators(tables, bus, warnings) if phases else generators(tables, bus, warnings)
    if three_phase is False:
        fixed, units = summed_over_phases(tables, bus, fixed, units, warnings)
    return energise(
        Draft(
            source=tables.source,
            name=tables.name,
            base_kva=tables.sn_mva * 1000,
            buses=tuple(str(k) for k in bus.index),
            base_kv=base_kv,
            v_min=bus.numbers("min_vm_pu", V_MIN_DEFAULT),
            v_max=bus.numbers("max_vm_pu", V_MAX_DEFAULT),
            elements=_stack(parts, shunts),
            rating_from_pu=np.concatenate([part.rating_from for part in parts]),
            rating_to_pu=np.concatenate([part.rating_to for part in parts]),
            kind=np.concatenate([np.full(len(part.name), int(part.kind)) for part in parts]).astype(np.int64),
            root=at,
            root_voltage=voltage,
            loads=fixed,
            generators=units,
            root_price=root_price(tables, warnings) if has_kind(tables, "ext_grid") else None,
            fused=fused,
            in_service=usable,
            coordinates=_coordinates(bus),
            warnings=warnings,
            sequences=_sequences(tables, bus, parts, zero_shunts, fixed, warnings) if phases else None,
            lengths_km=_lengths(parts),
        )
    )


def _lengths(parts: list[_Part]) -> tuple[tuple[str, float], ...]:
    return tuple(
        (name, km)
        for part in parts
        if part.length_km is not None
        for name, km in zip(part.name, part.length_km.tolist(), strict=True)
    )


def _sequences(
    tables: Tables,
    bus: Frame,
    parts: list[_Part],
    zero_shunts: ComplexArray,
    fixed: FixedLoads,
    warnings: list[str],
) -> Sequences:
    zero = replace(TwoPorts.open(0, 0), ground=zero_shunts)
    for part in parts:
        if part.zero is not None:
            zero = zero.joined(replace(part.zero, ground=np.zeros_like(zero_shunts)))
    negative, root_zero, names = root_admittances(tables, warnings)
    rating = np.concatenate(
        [part.rating_from if part.kind == LimitKind.APPARENT_POWER else np.zeros(len(part.name)) for part in parts]
    )
    rating[~np.isfinite(rating)] = 0.0
    demand = float(np.hypot(fixed.p_kw, fixed.q_kvar).sum()) / (tables.sn_mva * 1000)
    return Sequences(
        zero=zero,
        root_negative=negative,
        root_zero=root_zero,
        root_name=names,
        rating_pu=rating,
        size_pu=max(demand, float(rating.max(initial=0.0))) or 1.0,
    )
