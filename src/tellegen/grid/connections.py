"""Where demand is connected, and from there to the `Draw` that the power flow solves.

A *place* is where a customer hangs: a node of the network, to ground; or a row of `Connections`, which shares its
power among legs between nodes (two or three phases, phase to phase, delta). Places are numbered nodes first, so a
feeder whose customers all hang on one node needs no table.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import scipy.sparse as sp
from scipy.sparse.linalg import SuperLU, splu

from tellegen.errors import InputError
from tellegen.grid.loads import GROUND, Draw, LoadLaw
from tellegen.grid.network import ComplexArray, FixedLoads, FloatArray, IntArray, Network

THREE_WIRE = 100.0
"""A bus that meets so many times more impedance to ground than between phases has no neutral."""
LEAK = 1e-9
"""Admittance to ground, per unit, that every node is given when that is asked."""


@dataclass(frozen=True, slots=True, eq=False)
class Connections:
    """Connections of customers other than one node to ground; row j is place ``N + j``.

    Attributes
    ----------
    start : int64[C + 1]; the legs of row j are ``start[j]:start[j + 1]``.
    node, other : int64[L], the ends of each leg; `other` is -1 for ground.
    share : float64[L], of the row's power; the shares of a row sum to 1.
    name : what orders call each row (``"675.1-2"``), length C.
    """

    start: IntArray
    node: IntArray
    other: IntArray
    share: FloatArray
    name: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.name)

    @classmethod
    def none(cls) -> Connections:
        """A table without rows."""
        nowhere = np.zeros(0, dtype=np.int64)
        return cls(np.zeros(1, dtype=np.int64), nowhere, nowhere, np.zeros(0), ())

    def same(self, other: Connections) -> bool:
        """Whether both tables give places the same meaning."""
        return self is other or (
            np.array_equal(self.start, other.start)
            and np.array_equal(self.node, other.node)
            and np.array_equal(self.other, other.other)
            and np.array_equal(self.share, other.share)
        )

    def bus(self, row: int) -> int:
        """The node that the first leg of a row hangs on."""
        return int(self.node[self.start[row]])


@dataclass(slots=True)
class Connector:
    """Finds places by bus and phases, and makes up the table of connections as it goes.

    >>> from tellegen.grid.network import Branches
    >>> none = sp.csr_matrix((0, 3), dtype=complex)
    >>> net = Network("bus", ("a", "a", "a"), np.array([1, 2, 3]), 1.0, np.ones(3), sp.csr_matrix((3, 3)),
    ...               np.zeros(0, int), np.zeros(0, complex), np.ones(3), np.ones(3),
    ...               Branches((), np.zeros(0, int), none, np.zeros(0), np.zeros(0, int)))
    >>> connector = Connector(net)
    >>> connector.place("a", "2"), connector.place("a", ""), connector.place("a", "1-2"), connector.place("a", "")
    (1, 3, 4, 3)
    >>> connector.table().share.round(3).tolist()
    [0.333, 0.333, 0.333, 1.0]
    """

    network: Network
    _node: dict[tuple[str, int], int] = field(init=False)
    _phases: dict[str, list[int]] = field(init=False)
    _known: dict[tuple[str, str], int] = field(default_factory=dict, init=False)
    _rows: dict[tuple[tuple[int, int], ...], int] = field(default_factory=dict, init=False)
    _name: list[str] = field(default_factory=list, init=False)
    _lu: SuperLU | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        network = self.network
        hidden = set(network.source.tolist()) if network.root_terminals is not None else set()
        self._node, self._phases = {}, {}
        for k, (name, phase) in enumerate(zip(network.nodes, network.phase.tolist(), strict=True)):
            if k not in hidden:
                self._node.setdefault((name, phase), k)
                if phase <= 3:
                    self._phases.setdefault(name, []).append(phase)
        for other, name in network.aliases:
            if name in self._phases and other not in self._phases:
                self._phases[other] = self._phases[name]
                self._node.update({(other, phase): self._node[name, phase] for phase in self._phases[name]})

    def place(self, bus: str, phases: str) -> int:
        """The place of a bus and phases as an order writes them: empty (all), ``1``, ``1.2`` or ``1-2``.

        Empty phases where a bus has no way to ground or a neutral lie between them: in delta.

        Raises
        ------
        ValueError : says what is wrong, for the caller to say where.
        """
        key = (bus, phases)
        if key not in self._known:
            self._known[key] = self._find(bus, phases)
        return self._known[key]

    def table(self) -> Connections:
        """The connections that were asked for, in the order of their places."""
        legs = list(self._rows)
        return Connections(
            start=np.cumsum([0, *(len(row) for row in legs)]).astype(np.int64),
            node=np.array([a for row in legs for a, _ in row], dtype=np.int64),
            other=np.array([b for row in legs for _, b in row], dtype=np.int64),
            share=np.array([1.0 / len(row) for row in legs for _ in row], dtype=np.float64),
            name=tuple(self._name),
        )

    def bus(self, name: str) -> str:
        """What the network calls a bus; a name in capitals may mean one in small letters, as OpenDSS keeps them."""
        return name.lower() if name not in self._phases and name.lower() in self._phases else name

    def _find(self, bus: str, phases: str) -> int:
        bus = self.bus(bus)
        if bus not in self._phases:
            inner, dot, end = bus.rpartition(".")
            if dot and inner in self._phases and end.isdigit():
                raise ValueError(f"is not in the network; name node {inner} and phases {end}")
            raise ValueError("is not in the network; `tellegen powerflow --json` lists nodes")
        here = self._phases[bus]
        if here == [0]:
            if phases not in ("", "0"):
                raise ValueError(f"has phases '{phases}', but the network is balanced; leave phases empty")
            return self._node[bus, 0]
        if len(here) > 1 and "-" not in phases and self._three_wire(bus):
            between = "-".join(str(p) for p in sorted(here))
            if phases:
                pair = "" if len(here) == 2 else f", or two of them, {between[:3]}"
                raise ValueError(f"has no way to ground for phases '{phases}'; give phases {between}{pair}")
            phases = between
        legs = tuple((self._at(bus, p), self._at(bus, q)) for p, q in _pairs(phases, here))
        if len(legs) == 1 and legs[0][1] == GROUND:
            return legs[0][0]
        if legs not in self._rows:
            self._rows[legs] = len(self.network.nodes) + len(self._rows)
            self._name.append(f"{bus}.{phases or '.'.join(str(p) for p in here)}")
        return self._rows[legs]

    def _three_wire(self, bus: str) -> bool:
        """Whether what all phases of a bus send to ground meets so much more than what one sends to another."""
        network = self.network
        free, at = network.free, [self._node[bus, phase] for phase in self._phases[bus]]
        if self._lu is None:
            # So little to ground that nothing else changes, for a section may have no way there at all.
            leak = sp.diags(np.full(free.size, LEAK))
            self._lu = splu(sp.csc_matrix(network.admittance[free][:, free] + leak, dtype=np.complex128))
        together, apart = np.zeros((2, len(network.nodes)), dtype=np.complex128)
        together[at], apart[at[:2]] = 1.0, (1.0, -1.0)
        seen = [abs((self._lu.solve(each[free]) @ each[free]) / (each @ each)) for each in (together, apart)]
        return bool(seen[0] > THREE_WIRE * seen[1])

    def _at(self, bus: str, phase: int) -> int:
        if phase == GROUND:
            return GROUND
        if (bus, phase) not in self._node:
            there = ", ".join(str(p) for p in sorted(self._phases[bus]))
            raise ValueError(f"has no phase {phase}; its phases are {there}")
        return self._node[bus, phase]


def _pairs(phases: str, here: list[int]) -> list[tuple[int, int]]:
    """Phase numbers of the ends of each leg."""
    if not phases:
        return [(phase, GROUND) for phase in sorted(here)]
    between = "-" in phases
    words = phases.split("-" if between else ".")
    if not all(word.isascii() and word.isdigit() and len(word) == 1 for word in words):
        raise ValueError(f"has phases '{phases}', which is none of: empty, 1, 1.2, 1.2.3, 1-2, 1-2-3")
    numbers = [int(word) for word in words]
    if len(set(numbers)) != len(numbers) or (between and len(numbers) not in (2, 3)) or 0 in numbers:
        raise ValueError(f"has phases '{phases}': name each phase once, 1 to 3")
    if not between:
        return [(number, GROUND) for number in sorted(numbers)]
    if len(numbers) == 2:
        return [(min(numbers), max(numbers))]
    return [(1, 2), (2, 3), (3, 1)]


@dataclass(frozen=True, slots=True, eq=False)
class Wiring:
    """What hangs on a network: places that demand may be given at, and loads with laws of their own.

    Attributes
    ----------
    network : N nodes; free : int64[n], those that are not sources.
    places : N + C.
    ports : real sparse [P, places] or None where places are nodes: how the demand of places falls on ports, which
        are the N nodes to ground and then the distinct pairs of nodes that legs lie between.
    incidence : real sparse [n, L + J] or None: ends of the L loads and J pairs, scaled to per unit of their first node.
    law : of the L loads and J pairs.
    power : complex128[L], rated power of the loads, per unit.
    """

    network: Network
    free: IntArray
    places: int
    ports: sp.csr_matrix | None
    incidence: sp.csr_matrix | None
    law: LoadLaw | None
    power: ComplexArray

    def port_demand(self, demand: ComplexArray) -> ComplexArray:
        """Demand of ports [P, ...] from demand of places [places, ...]."""
        return demand if self.ports is None else np.asarray(self.ports @ demand)

    def at_places(self, values: ComplexArray) -> ComplexArray:
        """Derivatives [m, places] from derivatives with respect to ports [m, P]."""
        return values if self.ports is None else np.asarray((self.ports.T @ values.T).T)

    def draw(self, demand_kva: ComplexArray) -> Draw:
        """What is drawn from the free nodes when demand at the places is `demand_kva` complex128[places]."""
        base, size = self.network.base_kva, len(self.network.nodes)
        ports = self.port_demand(demand_kva)
        load = ports[self.free] / base
        if self.incidence is None:
            return Draw(load)
        return Draw(load, self.incidence, np.concatenate([self.power, ports[size:] / base]), self.law)


def wire(
    network: Network, free: IntArray, loads: FixedLoads | None = None, connections: Connections | None = None
) -> Wiring:
    """Wiring of a network.

    Parameters
    ----------
    free : int64[n], nodes that are not sources.
    loads : loads with laws or between nodes; constant power to ground is for `with_plain_loads`.
    connections : of the places beyond the nodes.

    Raises
    ------
    InputError : a load or leg between nodes ends at a source.
    """
    size = len(network.nodes)
    lawful = loads is not None and loads.node.size > 0 and (loads.law is not None or loads.other is not None)
    many = connections is not None and len(connections) > 0
    if not lawful and not many:
        return Wiring(network, free, size, None, None, None, np.zeros(0, dtype=np.complex128))
    node, other, power = (np.zeros(0, dtype=np.int64),) * 2 + (np.zeros(0, dtype=np.complex128),)
    if lawful and loads is not None:
        node = loads.node
        other = np.full(node.size, GROUND, dtype=np.int64) if loads.other is None else loads.other
        power = np.asarray(loads.p_kw + 1j * loads.q_kvar, dtype=np.complex128) / network.base_kva
        held = np.flatnonzero(np.isin(node, network.source) | np.isin(other, network.source))
        if held.size:
            raise InputError(
                network.name, loads.name[int(held[0])], "ends at a source, where only constant power is served"
            )
    ports, places = None, size
    pair_node, pair_other = np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64)
    if many and connections is not None:
        ports, pair_node, pair_other = _ports(connections, size)
        places = size + len(connections)
        if np.isin(np.concatenate([pair_node, pair_other]), network.source).any():
            raise InputError(network.name, "connection", "between phases ends at a source")
    incidence = _incidence(network, np.concatenate([node, pair_node]), np.concatenate([other, pair_other]))[free]
    law = _constant_power(node.size) if not lawful or loads is None or loads.law is None else loads.law
    if pair_node.size:
        law = law.beside(_constant_power(pair_node.size))
    drawn = incidence.shape[1] > 0
    return Wiring(network, free, places, ports, incidence if drawn else None, law if drawn else None, power)


def _ports(connections: Connections, size: int) -> tuple[sp.csr_matrix, IntArray, IntArray]:
    """How places fall on ports, and the ends of the pairs among these."""
    row = np.repeat(np.arange(len(connections)), np.diff(connections.start))
    between = connections.other != GROUND
    key = connections.node[between] * size + connections.other[between]
    distinct, port = np.unique(key, return_inverse=True)
    at = connections.node.copy()
    at[between] = size + port
    everywhere = np.arange(size)
    matrix = sp.csr_matrix(
        (
            np.concatenate([np.ones(size), connections.share]),
            (np.concatenate([everywhere, at]), np.concatenate([everywhere, size + row])),
        ),
        shape=(size + distinct.size, size + len(connections)),
    )
    return matrix, (distinct // size).astype(np.int64), (distinct % size).astype(np.int64)


def _incidence(network: Network, node: IntArray, other: IntArray) -> sp.csr_matrix:
    """Real sparse [N, L]; the voltage of a load is per unit of the base of its first node."""
    column = np.arange(node.size)
    pair = np.flatnonzero(other != GROUND)
    scale = network.base_kv[other[pair]] / network.base_kv[node[pair]]
    return sp.csr_matrix(
        (
            np.concatenate([np.ones(node.size), -scale]),
            (np.concatenate([node, other[pair]]), np.concatenate([column, pair])),
        ),
        shape=(len(network.nodes), node.size),
    )


def with_plain_loads(network: Network, demand_kva: ComplexArray, loads: FixedLoads | None) -> ComplexArray:
    """Demand of the places (nodes first) with those `loads` that are constant power to ground."""
    demand = np.asarray(demand_kva, dtype=np.complex128)
    if loads is None or loads.law is not None or loads.other is not None:
        return demand
    demand = demand.copy()
    np.add.at(demand, loads.node, loads.p_kw + 1j * loads.q_kvar)
    return demand


def _constant_power(count: int) -> LoadLaw:
    one, none = np.ones(count), np.zeros(count)
    return LoadLaw(one, none, none, none, none, none, np.full(count, np.inf))
