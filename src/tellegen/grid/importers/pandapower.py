"""pandapower networks: balanced element tables to a `Case`.

Models follow pandapower's own power flow with its defaults (documentation, "Electric Model" of
each element): lines as pi, two-winding transformers as T brought to pi, taps at their side.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tellegen.errors import InputError
from tellegen.grid.elements import ComplexArray, Elements, FloatArray, IntArray, two_port
from tellegen.grid.importers.draft import V_MAX_DEFAULT, V_MIN_DEFAULT, Draft, energise, listed
from tellegen.grid.importers.injections import generators, has_kind, loads, root_price, roots
from tellegen.grid.importers.tables import Frame, Tables
from tellegen.grid.network import Case, LimitKind

READ = {"bus", "line", "trafo", "load", "sgen", "gen", "storage", "ext_grid", "switch", "shunt", "poly_cost"}
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
        elif name == "pwl_cost":
            raise InputError(
                tables.source, frame.label(0), "is a piecewise linear cost, which is not read; use poly_cost"
            )
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


def _lines(tables: Tables, bus: Frame, base_kv: FloatArray) -> _Part:
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
    return _Part(
        name=line.labels(),
        from_bus=f,
        to_bus=t,
        impedance=np.asarray(ohm * length / parallel / base_ohm, dtype=np.complex128),
        from_shunt=shunt,
        to_shunt=shunt,
        ratio=np.ones(len(line), dtype=np.complex128),
        rating_from=rated_ka / base_ka[f],
        rating_to=rated_ka / base_ka[t],
        kind=LimitKind.CURRENT,
        live=line.flags("in_service", True),
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


def _transformers(tables: Tables, bus: Frame, base_kv: FloatArray, warnings: list[str]) -> _Part:
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
    return _Part(
        name=frame.labels(),
        from_bus=hv,
        to_bus=lv,
        impedance=joint,
        from_shunt=magnetising * at_lv / joint,
        to_shunt=magnetising * at_hv / joint,
        ratio=np.asarray((hv_kv / lv_kv) / (base_kv[hv] / base_kv[lv]) * np.exp(1j * np.radians(shift)), np.complex128),
        rating_from=rating,
        rating_to=rating,
        kind=LimitKind.APPARENT_POWER,
        live=live,
    )


def _switch_elements(tables: Tables, bus: Frame, base_kv: FloatArray) -> tuple[_Part, tuple[tuple[int, int], ...]]:
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
    with_z = closed.take(ohm > 0)
    a, b, ohm, live = a[ohm > 0], b[ohm > 0], ohm[ohm > 0], live[ohm > 0]
    r_share = SWITCH_RX_RATIO / np.hypot(1.0, SWITCH_RX_RATIO)
    x_share = 1.0 / np.hypot(1.0, SWITCH_RX_RATIO)
    none, rows = np.full(len(ohm), np.inf), len(ohm)
    part = _Part(
        name=with_z.labels(),
        from_bus=a,
        to_bus=b,
        impedance=ohm / (base_kv[a] ** 2 / tables.sn_mva) * (r_share + 1j * x_share),
        from_shunt=np.zeros(rows, dtype=np.complex128),
        to_shunt=np.zeros(rows, dtype=np.complex128),
        ratio=np.ones(rows, dtype=np.complex128),
        rating_from=none,
        rating_to=none,
        kind=LimitKind.CURRENT,
        live=live,
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


def _dangling(part: _Part, open_from: NDArray[np.bool_], open_to: NDArray[np.bool_], shunts: ComplexArray) -> None:
    """Add to `shunts` what an element with one open end draws at its closed end."""
    elements = _stack([part], np.zeros(0, dtype=np.complex128))
    ff, ft, tf, tt = two_port(elements)
    at_from, at_to = part.live & open_to & ~open_from, part.live & open_from & ~open_to
    np.add.at(shunts, part.from_bus[at_from], (ff - ft * tf / tt)[at_from])
    np.add.at(shunts, part.to_bus[at_to], (tt - ft * tf / ff)[at_to])


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
    )


def _places(bus: Frame) -> FloatArray | None:
    """Where buses stand: the points that column `geo` holds as GeoJSON; what is none is left unknown."""
    if not bus.has("geo"):
        return None
    places = np.full((len(bus), 2), np.nan)
    for row, text in enumerate(bus.texts("geo")):
        try:
            x, y = json.loads(text)["coordinates"][:2]
            places[row] = float(x), float(y)
        except (ValueError, TypeError, KeyError):
            continue
    return places


def case_of_tables(tables: Tables) -> Case:
    """Convert the tables of a pandapower network.

    Buses are called by their index. Voltage limits are ``min_vm_pu`` and ``max_vm_pu`` of the bus,
    else 0.95 and 1.05; ratings are ``max_i_ka`` and ``sn_mva`` times ``max_loading_percent``.

    Raises
    ------
    InputError : an element in service has no model here, or a value is missing or impossible.
    """
    warnings = _check_understood(tables)
    bus = tables.frame("bus")
    if not len(bus):
        raise InputError(tables.source, "table bus", "has no rows")
    base_kv, usable = bus.numbers("vn_kv"), bus.flags("in_service", True)
    lines, transformers = _lines(tables, bus, base_kv), _transformers(tables, bus, base_kv, warnings)
    switches, fused = _switch_elements(tables, bus, base_kv)
    shunts = _bus_shunts(tables, bus, base_kv)
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
        _dangling(live, open_from[part.live], open_to[part.live], shunts)
        whole = ~open_from & ~open_to & part.live & usable[part.from_bus] & usable[part.to_bus]
        half = [n for n, w, ok in zip(part.name, whole, part.live, strict=True) if ok and not w]
        if half:
            warnings.append(f"open at an end, so carrying no flow: {listed(half)}")
        parts.append(_keep(part, whole))
    parts[0] = _keep(switches, switches.live)

    at, voltage = roots(tables, bus)
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
            loads=loads(tables, bus, warnings),
            generators=generators(tables, bus, warnings),
            root_price=root_price(tables, warnings) if has_kind(tables, "ext_grid") else None,
            fused=fused,
            in_service=usable,
            places=_places(bus),
            warnings=warnings,
        )
    )
