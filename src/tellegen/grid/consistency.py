"""Whether a network that somebody hands in fits together: lengths, indices, bases.

Importers build networks that fit; a document may have been written by anybody.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tellegen.errors import printable
from tellegen.grid.controls import Controls
from tellegen.grid.network import Case, LimitKind, Network


def check_network(network: Network) -> None:
    """Refuse a network that contradicts itself.

    Raises
    ------
    ValueError : says what does not fit.
    """
    nodes, branches = len(network.nodes), network.branches
    rows = len(branches.element)
    _lengths(network, ("phase", "base_kv", "v_min", "v_max"), nodes, "nodes")
    _lengths(branches, ("node", "rating_pu", "kind"), rows, "branches.element")
    _shape(network.admittance, (nodes, nodes), "admittance")
    _shape(branches.current_rows, (rows, nodes), "branches.current_rows")
    _within(network.source, 0, nodes, "source")
    _within(branches.node, 0, nodes, "branches.node")
    if network.source_voltage.size != network.source.size or np.unique(network.source).size != network.source.size:
        raise ValueError("source and source_voltage do not fit together")
    if network.root_terminals is not None:
        _within(network.root_terminals, 0, rows, "root_terminals")
    if not np.isin(branches.kind, [int(kind) for kind in LimitKind]).all():
        raise ValueError("branches.kind is not a kind of limit")
    for name, values in (
        ("base_kva", np.array([network.base_kva])),
        ("base_kv", network.base_kv),
    ):
        if not (np.isfinite(values) & (values > 0)).all():
            raise ValueError(f"{name} is not positive")
    for name, numbers in (
        ("admittance", network.admittance.data),
        ("branches.current_rows", branches.current_rows.data),
        ("source_voltage", network.source_voltage),
    ):
        if not np.isfinite(numbers).all():
            raise ValueError(f"{name} is not finite")


def check_case(case: Case) -> None:
    """Refuse a case that contradicts itself.

    Raises
    ------
    ValueError : says what does not fit.
    """
    check_network(case.network)
    _check_names(case)
    nodes, loads, units = len(case.network.nodes), case.loads, case.generators
    _lengths(loads, ("node", "p_kw", "q_kvar"), len(loads.name), "loads.name")
    _within(loads.node, 0, nodes, "loads.node")
    if loads.other is not None:
        _lengths(loads, ("other",), len(loads.name), "loads.name")
        _within(loads.other, -1, nodes, "loads.other")
    if loads.law is not None:
        _lengths(loads.law, tuple(loads.law.__dataclass_fields__), len(loads.name), "loads.name")
    _lengths(units, tuple(name for name in units.__dataclass_fields__ if name != "name"), len(units.name), "generators")
    _within(units.node, 0, nodes, "generators.node")
    if case.elements is not None:
        elements = case.elements
        ends = ("from_node", "to_node", "impedance_pu", "from_shunt_pu", "to_shunt_pu", "ratio")
        _lengths(elements, ends, len(elements.name), "elements.name")
        _lengths(elements, ("node_shunt_pu",), nodes, "nodes")
        _within(elements.from_node, 0, nodes, "elements.from_node")
        _within(elements.to_node, 0, nodes, "elements.to_node")
    if case.coordinates is not None and case.coordinates.shape != (nodes, 2):
        raise ValueError(f"coordinates are {case.coordinates.shape}, not two for each of {nodes} nodes")
    if case.controls is not None:
        _check_controls(case.controls, nodes, len(case.network.branches.element))


def _check_names(case: Case) -> None:
    """Refuse a name that moves a cursor or shows nothing: it is printed, in tables and line by line."""
    network, controls = case.network, case.controls
    names = [network.name, *network.nodes, *network.branches.element, *case.loads.name, *case.generators.name]
    names += [name for pair in network.aliases for name in pair] + [name for name, _ in case.lengths_km]
    names += [*case.warnings, *(() if case.elements is None else case.elements.name)]
    if controls is not None:
        parts = (controls.transformers, controls.capacitors, controls.regulators, controls.switches)
        names += [part.name for those in parts for part in those]
    for name in names:
        if not name.isprintable() and printable(name) != name:
            raise ValueError(f"the name {name[:60]!a} has characters that are no text")


def _check_controls(controls: Controls, nodes: int, rows: int) -> None:
    _shape(controls.rest, (nodes, nodes), "controls.rest")
    for element in controls.transformers:
        windings = len(element.windings)
        _lengths(element, ("tap_min", "tap_max", "steps"), windings, f"windings of {element.name}")
        _lengths(element, ("node", "row", "open_end"), windings * (element.phases + 1), f"ends of {element.name}")
        _lengths(element, ("x_percent",), windings * (windings - 1) // 2, f"pairs of windings of {element.name}")
        _within(element.node, -1, nodes, element.name)
        _within(element.row, -1, rows, element.name)
        if windings < 2 or not (element.steps > 0).all() or not (element.tap_max > element.tap_min).all():
            raise ValueError(f"{element.name} has no range of taps")
        if not all(winding.kv > 0 and winding.kva > 0 and winding.tap > 0 for winding in element.windings):
            raise ValueError(f"{element.name} has a rating or a tap that is not positive")
    for bank in controls.capacitors:
        _lengths(bank, ("on",), bank.step_siemens.size, f"steps of {bank.name}")
        _within(bank.node, -1, nodes, bank.name)
        if bank.phases < 1 or (not bank.delta and bank.node.size != 2 * bank.phases):
            raise ValueError(f"{bank.name} has ends that do not fit its phases")
    for regulator in controls.regulators:
        _within(np.array([regulator.transformer]), 0, len(controls.transformers), regulator.name)
        known = len(controls.transformers[regulator.transformer].windings)
        _within(np.array([regulator.winding, regulator.tap_winding]), 0, known, regulator.name)
        _lengths(regulator, ("low",), regulator.high.size, f"phases of {regulator.name}")
        for name in ("high", "low", "local_high", "local_low"):
            _within(getattr(regulator, name), -1, nodes, f"{regulator.name} {name}")
        for name in ("current_row", "power_row"):
            _within(getattr(regulator, name), -1, rows, f"{regulator.name} {name}")
        if (
            regulator.high.size == 0
            or not min(regulator.pt_ratio, regulator.sense_pt_ratio, regulator.ct_primary_a) > 0
        ):
            raise ValueError(f"{regulator.name} measures nothing, or by a ratio that is not positive")
    for switch in controls.switches:
        _within(np.array([switch.capacitor]), 0, len(controls.capacitors), switch.name)
        for high, low in (("high", "low"), ("override_high", "override_low")):
            _lengths(switch, (low,), getattr(switch, high).size, f"phases of {switch.name}")
            _within(getattr(switch, high), -1, nodes, f"{switch.name} {high}")
            _within(getattr(switch, low), -1, nodes, f"{switch.name} {low}")
        for name in ("current_row", "power_row"):
            _within(getattr(switch, name), 0, rows, f"{switch.name} {name}")
        if switch.high.size == 0 or switch.override_high.size == 0 or not min(switch.pt_ratio, switch.ct_ratio) > 0:
            raise ValueError(f"{switch.name} measures nothing, or by a ratio that is not positive")


def _lengths(table: Any, names: tuple[str, ...], size: int, of: str) -> None:
    for name in names:
        if getattr(table, name).shape != (size,):
            raise ValueError(f"{name} has {getattr(table, name).size} rows, {of} {size}")


def _shape(matrix: Any, shape: tuple[int, int], name: str) -> None:
    if matrix.shape != shape:
        raise ValueError(f"{name} is {matrix.shape[0]} by {matrix.shape[1]}, not {shape[0]} by {shape[1]}")


def _within(index: Any, low: int, high: int, name: str) -> None:
    if index.size and not (index.min() >= low and index.max() < high):
        raise ValueError(f"{name} names a place outside of {low} to {high - 1}")
