"""The feeders that the trial clears on: a street, three phases, a mesh, taps, loads with laws; and files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from zlib import crc32

import numpy as np

from tellegen.errors import InputError
from tellegen.grid import Branches, Case, Connections, Connector, FixedLoads, LoadLaw, Network, load_case
from tellegen.grid.elements import Elements, admittance_matrix, terminal_current_rows
from tellegen.grid.loads import GROUND
from tellegen.grid.network import FloatArray, IntArray
from tellegen.grid.synthetic import opendss_script, synthetic_feeder
from tellegen.grid.synthetic.layout import Part
from tellegen.simulation.workload import LoadCustomers

TIES = 3
"""Lines that close rings in the mesh."""
WEAK = 10.0
"""Impedance of the weak street's mains, of what a planner would have built."""
PHASE_WORDS = ("1", "2", "3", "", "1-2", "1-2-3", "2.3")
RATINGS = (1.0, 0.3, np.inf)
"""Every ground exists with its own ratings, tight ones, and none."""


@dataclass(frozen=True, slots=True, eq=False)
class Ground:
    """A feeder and where people may trade on it.

    Attributes
    ----------
    name : what `--only` calls it; seed : tells its books from those of other grounds.
    networks : one per entry of `RATINGS`.
    place : int64[C], where each customer hangs; peak_kw, peak_kvar : float64[C], its demand at the peak.
    connections : of the places beyond the nodes.
    loads : that the file itself declares and that hang between nodes or follow a law, or None.
    script : for OpenDSS, where the customers hang on nodes of a script's circuit; else None.
    """

    name: str
    seed: int
    networks: tuple[Network, ...]
    place: IntArray
    peak_kw: FloatArray
    peak_kvar: FloatArray
    connections: Connections
    loads: FixedLoads | None
    script: str | Path | None

    @classmethod
    def of(
        cls,
        name: str,
        network: Network,
        place: IntArray,
        power: tuple[FloatArray, FloatArray],
        *,
        connections: Connections | None = None,
        loads: FixedLoads | None = None,
        script: str | Path | None = None,
    ) -> Ground:
        """A ground, with the variants of its ratings."""
        rating, lines = network.branches.rating_pu, network.branches
        variants = tuple(
            replace(
                network, branches=replace(lines, rating_pu=rating * share if np.isfinite(share) else rating + share)
            )
            for share in RATINGS
        )
        table = Connections.none() if connections is None else connections
        return cls(name, crc32(name.encode()), variants, place, *power, table, loads, script)


def names(given: Sequence[str]) -> list[str]:
    """Grounds that ship with the product, and then those given as network files or specs."""
    return [*_SHIPPED, *given]


@cache
def ground_of(name: str) -> Ground:
    """The ground of a name; what is not one of those that ship is read as a network.

    Raises
    ------
    InputError : the network cannot be read, or has no customers.
    """
    if name in _SHIPPED:
        return _SHIPPED[name]()
    case, path = load_case(name), Path(name)
    customers = LoadCustomers.of(case.network, case.loads)
    return Ground.of(
        name,
        case.network,
        customers.customer_node,
        (customers.peak_kw, customers.peak_kvar),
        loads=_lawful(case),
        script=path if path.suffix.lower() == ".dss" else None,
    )


def _lawful(case: Case) -> FixedLoads | None:
    """The loads of a file that are more than power at a node, where none of them ends at a source."""
    loads = case.loads
    if loads.law is None and loads.other is None:
        return None
    ends = loads.node if loads.other is None else np.concatenate([loads.node, loads.other])
    return None if np.isin(ends, case.network.source).any() else loads


def _street() -> Ground:
    feeder = synthetic_feeder(25, phases=1, seed=3)
    return Ground.of("street", feeder.network, feeder.customer_node, (feeder.peak_kw, feeder.peak_kvar))


def _phases() -> Ground:
    """Customers on one phase each, as OpenDSS can replay them."""
    feeder = synthetic_feeder(20, phases=3, seed=5)
    power = (feeder.peak_kw, feeder.peak_kvar)
    return Ground.of("phases", feeder.network, feeder.customer_node, power, script=opendss_script(feeder))


def _laws() -> Ground:
    """Three phases; customers on two and three, between phases and in delta, beside loads of other laws."""
    feeder = synthetic_feeder(18, phases=3, seed=8)
    network, rng = feeder.network, np.random.default_rng(8)
    layout, connector = feeder.layout, Connector(feeder.network)
    joints = np.flatnonzero(layout.part == Part.MAIN)
    shares = [
        connector.place(layout.bus[int(rng.choice(joints))], PHASE_WORDS[k % len(PHASE_WORDS)]) for k in range(18)
    ]
    place = np.concatenate([feeder.customer_node[::2], shares]).astype(np.int64)
    power = rng.uniform(0.5, 2.0, place.size) * float(np.median(feeder.peak_kw))
    mains = {name: k for k, name in reversed(list(enumerate(network.nodes)))}
    at = np.array([mains[layout.bus[int(k)]] for k in rng.choice(joints, 9)]) + np.arange(9) % 3
    between = np.where(np.arange(9) < 5, at - np.arange(9) % 3 + (np.arange(9) + 1) % 3, GROUND)
    one, kind = np.ones(9), (np.arange(9) % 3).astype(np.float64)
    law = LoadLaw(one, kind, np.array([2.0, 1.0, 2.0] * 3), 0 * one, 0.5 * one, 0.9 * one, 1.1 * one)
    kw = rng.uniform(0.3, 1.0, 9) * float(np.median(feeder.peak_kw))
    loads = FixedLoads(tuple(f"load {k}" for k in range(9)), at, kw, 0.3 * kw, other=between, law=law)
    return Ground.of("laws", network, place, (power, 0.25 * power), connections=connector.table(), loads=loads)


def _mesh() -> Ground:
    """A street whose ends are joined: several rings."""
    feeder = synthetic_feeder(30, phases=1, seed=11)
    layout, given = feeder.layout, _elements(feeder.case)
    ends = np.setdiff1d(np.flatnonzero(layout.part == Part.MAIN), layout.parent)
    rng = np.random.default_rng(11)
    ends = rng.permutation(ends)[: 2 * TIES]
    mains = given.impedance_pu[np.flatnonzero(layout.part[1:] == Part.MAIN)]
    size, none = ends.size // 2, np.zeros(ends.size // 2, dtype=np.complex128)
    elements = Elements(
        name=(*given.name, *(f"tie {k}" for k in range(size))),
        from_node=np.concatenate([given.from_node, ends[:size]]),
        to_node=np.concatenate([given.to_node, ends[size : 2 * size]]),
        impedance_pu=np.concatenate([given.impedance_pu, 2 * mains[:size]]),
        from_shunt_pu=np.concatenate([given.from_shunt_pu, none]),
        to_shunt_pu=np.concatenate([given.to_shunt_pu, none]),
        ratio=np.concatenate([given.ratio, none + 1.0]),
        node_shunt_pu=given.node_shunt_pu,
    )
    lines, count = feeder.network.branches, given.from_node.size
    rating = np.concatenate([lines.rating_pu[:count], np.full(size, np.median(lines.rating_pu))])
    kind = np.concatenate([lines.kind[:count], np.zeros(size, dtype=np.int64)])
    network = _assembled(replace(feeder.network, name="mesh"), elements, rating, kind)
    return Ground.of("mesh", network, feeder.customer_node, (feeder.peak_kw, feeder.peak_kvar))


def _taps() -> Ground:
    """A long weak street with taps off nominal, a phase shift at its transformers and a regulator half way.

    Three times its peak is more than it carries, and so is all of its sun.
    """
    feeder = synthetic_feeder(25, phases=1, seed=7)
    layout, given = feeder.layout, _elements(feeder.case)
    ratio, impedance = given.ratio.copy(), given.impedance_pu.copy()
    ratio[layout.part[1:] == Part.TRANSFORMER] = 0.985 * np.exp(1j * np.pi / 6)
    mains = np.flatnonzero(layout.part[1:] == Part.MAIN)
    ratio[mains[mains.size // 2]] = 0.985
    impedance[mains] *= WEAK
    lines, count = feeder.network.branches, given.from_node.size
    elements = replace(given, ratio=ratio, impedance_pu=impedance)
    network = replace(feeder.network, name="taps", v_max=feeder.network.v_max + 0.02)
    network = _assembled(network, elements, lines.rating_pu[:count], lines.kind[:count])
    return Ground.of("taps", network, feeder.customer_node, (feeder.peak_kw, feeder.peak_kvar))


def _elements(case: Case) -> Elements:
    if case.elements is None:
        raise InputError(case.network.name, "elements", "are not there; only balanced feeders have them")
    return case.elements


def _assembled(network: Network, elements: Elements, rating_pu: FloatArray, kind: IntArray) -> Network:
    """A network with other elements; ratings and their kinds are of one terminal each."""
    return replace(
        network,
        admittance=admittance_matrix(elements),
        branches=Branches(
            element=elements.name + elements.name,
            node=np.concatenate([elements.from_node, elements.to_node]),
            current_rows=terminal_current_rows(elements),
            rating_pu=np.concatenate([rating_pu, rating_pu]),
            kind=np.concatenate([kind, kind]),
        ),
    )


_SHIPPED = {"street": _street, "phases": _phases, "mesh": _mesh, "taps": _taps, "laws": _laws}
