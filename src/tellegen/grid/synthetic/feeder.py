"""A synthetic feeder as a network: admittances of a layout, balanced or phase by phase."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from tellegen.errors import InputError
from tellegen.grid.elements import Elements, admittance_matrix, terminal_current_rows
from tellegen.grid.network import Branches, Case, FixedLoads, Generators, LimitKind, Network
from tellegen.grid.primitives import Winding, line, sequence_matrix, transformer
from tellegen.grid.synthetic.equipment import TRANSFORMERS
from tellegen.grid.synthetic.layout import LOW_KV, MEDIUM_KV, Layout, Part, draw_layout

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
ComplexArray = NDArray[np.complex128]

BASE_KVA = 100.0
FREQUENCY_HZ = 50.0
V_MIN_PU, V_MAX_PU = 0.9, 1.1
"""EN 50160: 10 % either way."""
CUSTOMERS_MAX = 20_000


@dataclass(frozen=True, slots=True, eq=False)
class Feeder:
    """A synthetic feeder with its customers.

    Attributes
    ----------
    case : network; its loads are the customers' demand at the peak, its generators none.
    layout : the tree it was built from.
    customer_node : int64[C], node index of each customer.
    customer_phase : int64[C], 0 where balanced, else 1 to 3.
    peak_kw, peak_kvar : float64[C], demand of each customer at the feeder's peak.
    """

    case: Case
    layout: Layout
    customer_node: IntArray
    customer_phase: IntArray
    peak_kw: FloatArray
    peak_kvar: FloatArray

    @property
    def network(self) -> Network:
        """The feeder's network."""
        return self.case.network


def synthetic_feeder(customers: int, *, phases: int = 3, seed: int = 0) -> Feeder:
    """Draw a European feeder: 0.4 kV streets behind 20 kV transformers, medium-voltage cables above them.

    Up to about 250 customers it is one substation, whose medium-voltage side is the root; more customers are more
    substations. Drawn from the seed are the substations, mains, laterals, spans, cables, demand and phases. With the
    same customers and seed, ``phases=1`` is the balanced equivalent of ``phases=3``. Planned for a lowest voltage 3 to
    8 % below the root's at the peak, with losses of 2 to 5 %.

    Parameters
    ----------
    customers : 1 to 20,000.
    phases : 1 for the balanced single-phase equivalent (a customer is a three-phase load); 3 for phase by phase, where
        each customer has one phase and neutral. Three-phase mains are 3 x 3 matrices with mutual coupling (neutrals
        reduced); a service drop counts phase and neutral, ``2 z``. Impedances: `tellegen.grid.synthetic.equipment`.
    seed : any number >= 0.

    Raises
    ------
    InputError : customers, phases or seed out of range.

    Examples
    --------
    >>> feeder = synthetic_feeder(200, phases=3, seed=1)
    >>> len(feeder.customer_node), sorted(set(feeder.customer_phase.tolist()))
    (200, [1, 2, 3])
    """
    for name, value, low, high in (("customers", customers, 1, CUSTOMERS_MAX), ("seed", seed, 0, 2**63 - 1)):
        if not low <= value <= high:
            raise InputError("synthetic feeder", f"{name} {value}", f"must be {low} to {high}")
    if phases not in (1, 3):
        raise InputError("synthetic feeder", f"phases {phases}", "must be 1 (balanced) or 3")
    layout = draw_layout(customers, seed)
    name = f"synthetic {customers}x{phases} seed {seed}"
    case, node = _balanced(layout, name) if phases == 1 else _three_phase(layout, name)
    return Feeder(
        case=case,
        layout=layout,
        customer_node=node,
        customer_phase=case.network.phase[node],
        peak_kw=layout.p_kw,
        peak_kvar=layout.q_kvar,
    )


def _bus_kv(layout: Layout) -> FloatArray:
    return np.where(layout.part <= Part.MEDIUM, MEDIUM_KV, LOW_KV)


def _balanced(layout: Layout, name: str) -> tuple[Case, IntArray]:
    size = len(layout.bus)
    kv = _bus_kv(layout)
    branch = np.arange(1, size)
    impedance, half_shunt = np.zeros(size - 1, dtype=np.complex128), np.zeros(size - 1, dtype=np.complex128)
    iron, rating = np.zeros(size - 1, dtype=np.complex128), np.zeros(size - 1)
    kinds = np.full(size - 1, int(LimitKind.CURRENT))
    for row, k in enumerate(branch.tolist()):
        base_ohm = kv[k] ** 2 * 1000.0 / BASE_KVA
        if layout.part[k] == Part.TRANSFORMER:
            unit = TRANSFORMERS[int(layout.kind[k])]
            own = unit.kva / BASE_KVA
            impedance[row] = complex(unit.copper_percent, unit.reactance_percent) / 100.0 / own
            iron[row] = complex(unit.iron_percent, -unit.magnetising_percent) / 100.0 * own
            rating[row], kinds[row] = own, int(LimitKind.APPARENT_POWER)
            continue
        cable, length = layout.cable(k), float(layout.length_km[k])
        impedance[row] = cable.positive_ohm_per_km * length / base_ohm
        half_shunt[row] = 1e-9j * np.pi * FREQUENCY_HZ * cable.c_nf_per_km * length * base_ohm
        rating[row] = cable.ampacity_a * np.sqrt(3.0) * kv[k] / BASE_KVA
    elements = Elements(
        name=_element_names(layout),
        from_node=layout.parent[1:],
        to_node=branch,
        impedance_pu=impedance,
        from_shunt_pu=half_shunt,
        to_shunt_pu=half_shunt + iron,
        ratio=np.ones(size - 1, dtype=np.complex128),
        node_shunt_pu=np.zeros(size, dtype=np.complex128),
    )
    network = Network(
        name=name,
        nodes=layout.bus,
        phase=np.zeros(size, dtype=np.int64),
        base_kva=BASE_KVA,
        base_kv=kv,
        admittance=admittance_matrix(elements),
        source=np.zeros(1, dtype=np.int64),
        source_voltage=np.array([layout.root_pu + 0j]),
        v_min=np.full(size, V_MIN_PU),
        v_max=np.full(size, V_MAX_PU),
        branches=Branches(
            element=elements.name + elements.name,
            node=np.concatenate([elements.from_node, elements.to_node]),
            current_rows=terminal_current_rows(elements),
            rating_pu=np.concatenate([rating, rating]),
            kind=np.concatenate([kinds, kinds]),
        ),
    )
    return _case(layout, network, layout.customer_bus, elements), layout.customer_bus


def _element_names(layout: Layout) -> tuple[str, ...]:
    kind = {Part.MEDIUM: "cable", Part.TRANSFORMER: "transformer", Part.MAIN: "main", Part.SERVICE: "service"}
    return tuple(
        f"{kind[Part(part)]} {bus}" for part, bus in zip(layout.part[1:].tolist(), layout.bus[1:], strict=True)
    )


def _three_phase(layout: Layout, name: str) -> tuple[Case, IntArray]:
    """Nodes stand bus by bus, phases 1, 2, 3; a customer's own bus has its phase only."""
    count = np.where(layout.part == Part.SERVICE, 1, 3)
    first = np.concatenate([[0], np.cumsum(count)[:-1]])
    owner = np.repeat(np.arange(count.size), count)
    phase = np.arange(owner.size) - first[owner] + 1
    phase[first[layout.customer_bus]] = layout.phase
    kv = _bus_kv(layout)[owner] / np.sqrt(3.0)
    names = _element_names(layout)
    phase_of = dict(zip(layout.customer_bus.tolist(), (layout.phase - 1).tolist(), strict=True))
    element: list[str] = []
    node, row, column, value, rating, kinds = [], [], [], [], [], []
    entry = 0
    for k in range(1, count.size):
        above = first[layout.parent[k]] + (np.arange(3) if count[k] == 3 else np.array([phase_of[k]]))
        ends = np.concatenate([above, first[k] + np.arange(count[k])])
        matrix, most = _primitive(layout, k, int(count[k]))
        at = entry + np.arange(ends.size)
        entry += ends.size
        element += [names[k - 1]] * ends.size
        node.append(ends)
        row.append(np.repeat(at, ends.size))
        column.append(np.tile(ends, ends.size))
        value.append(matrix.ravel())
        rating.append(np.full(ends.size, most))
        power = layout.part[k] == Part.TRANSFORMER
        kinds.append(np.full(ends.size, int(LimitKind.APPARENT_POWER if power else LimitKind.CURRENT)))
    at_node, kind = np.concatenate(node), np.concatenate(kinds)
    at_row, into = np.concatenate(row), np.concatenate(column)
    # siemens to per unit: current over base_kva / base_kv of its node, voltage over base_kv of its own
    scaled = np.concatenate(value) * kv[into] * kv[at_node[at_row]] * 1000.0 / BASE_KVA
    size = owner.size
    rows = sp.csr_matrix((scaled, (at_row, into)), shape=(entry, size))
    gather = sp.csr_matrix((np.ones(entry), (at_node, np.arange(entry))), shape=(size, entry))
    limit = np.concatenate(rating)
    turn = np.exp(-2j * np.pi * np.arange(3) / 3)
    network = Network(
        name=name,
        nodes=tuple(layout.bus[k] for k in owner.tolist()),
        phase=phase,
        base_kva=BASE_KVA,
        base_kv=kv,
        admittance=sp.csr_matrix(gather @ rows),
        source=np.arange(3),
        source_voltage=np.asarray(layout.root_pu * turn, dtype=np.complex128),
        v_min=np.full(size, V_MIN_PU),
        v_max=np.full(size, V_MAX_PU),
        branches=Branches(
            element=tuple(element),
            node=at_node,
            current_rows=rows,
            rating_pu=np.where(kind == LimitKind.CURRENT, limit * kv[at_node], limit) / BASE_KVA,
            kind=kind,
        ),
    )
    customer = first[layout.customer_bus]
    return _case(layout, network, customer, None), customer


def _primitive(layout: Layout, k: int, phases: int) -> tuple[ComplexArray, float]:
    """Admittance in siemens between the phases above and at bus k, and its rating: amperes, or kVA of a phase."""
    if layout.part[k] == Part.TRANSFORMER:
        unit = TRANSFORMERS[int(layout.kind[k])]
        half = unit.copper_percent / 2
        windings = (
            Winding(delta=True, kv=MEDIUM_KV, kva=unit.kva, tap=1.0, r_percent=half),
            Winding(delta=False, kv=LOW_KV, kva=unit.kva, tap=1.0, r_percent=half),
        )
        full = transformer(
            3,
            windings,
            np.array([unit.reactance_percent]),
            no_load_percent=unit.iron_percent,
            magnetising_percent=unit.magnetising_percent,
        )
        kept = np.array([0, 1, 2, 4, 5, 6])  # the delta has no neutral, the star's is earthed
        return full[np.ix_(kept, kept)], unit.kva / 3
    cable, length = layout.cable(k), float(layout.length_km[k])
    if phases == 1:
        series = np.array([[2 * cable.positive_ohm_per_km * length]])
        return line(series, np.zeros((1, 1)), FREQUENCY_HZ), cable.ampacity_a
    series = sequence_matrix(cable.positive_ohm_per_km, cable.zero_ohm_per_km, 3) * length
    return line(series, np.identity(3) * cable.c_nf_per_km * length, FREQUENCY_HZ), cable.ampacity_a


def _case(layout: Layout, network: Network, node: IntArray, elements: Elements | None) -> Case:
    none, nowhere = np.zeros(0), np.zeros(0, dtype=np.int64)
    return Case(
        network=network,
        loads=FixedLoads(
            name=tuple(layout.bus[k] for k in layout.customer_bus.tolist()),
            node=node,
            p_kw=layout.p_kw,
            q_kvar=layout.q_kvar,
        ),
        generators=Generators((), nowhere, none, none, none, none, none, none, np.zeros(0, dtype=np.bool_), none, none),
        root_price=None,
        elements=elements,
    )


__all__ = ["Feeder", "synthetic_feeder"]
