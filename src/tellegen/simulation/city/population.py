"""Who lives in the synthetic city: feeders of many kinds, customers, and who moves to another feeder when.

Everything is drawn from one seed, so that every process of a run knows the same city without being told.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import Enum

import numpy as np
from numpy.typing import NDArray

from tellegen.errors import InputError
from tellegen.grid.network import FloatArray, Network
from tellegen.grid.synthetic import Feeder, synthetic_feeder
from tellegen.market import OrderBook
from tellegen.operations.topology import Feeder as ShardFeeder
from tellegen.records import Connections, Device
from tellegen.simulation.registered import assets
from tellegen.simulation.shard import SIMULATED, ShardKeys
from tellegen.simulation.workload import Binding, Instance, limits_that_bind
from tellegen.units import IntArray

FEEDER_CUSTOMERS_MIN, FEEDER_CUSTOMERS_MAX = 200, 3_000
TOPOLOGIES_MAX = 40
THREE_PHASE_EVERY = 10
"""Every tenth topology is cleared phase by phase, the others as balanced equivalents."""
BINDING_OF_TEN = (
    Binding.LOWEST_VOLTAGE,
    Binding.NOTHING,
    Binding.NOTHING,
    Binding.ROOT,
    Binding.NOTHING,
    Binding.NOTHING,
    Binding.LOWEST_VOLTAGE,
    Binding.NOTHING,
    Binding.NOTHING,
    Binding.NOTHING,
)
"""What is made to bind on the feeders of each ten topologies: limits on three of ten."""
BINDING_DEPTH = 0.4
"""How far limits lie below what the planned peak would do: a fifth or so of what the market would do without them."""
MOVING_SHARE = 0.01
"""Of the customers, each interval."""
CAPACITY_W = 25_000
QUARTER_HOUR = 3
"""Market intervals that a reading of a coarse meter spans."""
SUBSTATION_W = 2**31 - 1


class Draw(Enum):
    """What a generator is for, so that no two share their numbers."""

    SIZES = 1
    EQUIPMENT = 2
    MOVES = 3
    BIDS = 4
    READINGS = 5
    SAMPLE = 6
    PRICES = 7
    HELD_BACK = 8
    PAST = 9
    METERS = 10


def generator(seed: int, draw: Draw, *more: int) -> np.random.Generator:
    """The random numbers of one purpose."""
    return np.random.default_rng([seed, draw.value, *more])


@dataclass(frozen=True, slots=True)
class City:
    """What is asked for; all else follows.

    Attributes
    ----------
    meters : customers, one meter each. intervals : market intervals that are measured.
    first_interval : the first that is played, to warm up. before : how many the market settles before that.
    shards : processes of each kind. warm_up : intervals that are played before those that are measured.
    coarse, silent : shares of the customers whose meters read every quarter of an hour, and of those whose readings
        never come.
    price_run : whether real time settles by price runs; else at the prices of the gates.
    """

    meters: int
    intervals: int
    first_interval: int
    seed: int = 1
    shards: int = 2
    before: int = 0
    warm_up: int = 1
    coarse: float = 0.0
    silent: float = 0.0
    price_run: bool = True

    def __post_init__(self) -> None:
        least = self.shards * FEEDER_CUSTOMERS_MIN
        if not least <= self.meters <= 4_000_000:
            raise InputError("bench city", f"--meters {self.meters}", f"must be {least} to 4,000,000")
        if not 1 <= self.intervals <= 288:
            raise InputError("bench city", f"--intervals {self.intervals}", "must be 1 to 288")
        for name, share in (("coarse", self.coarse), ("silent", self.silent)):
            if not 0.0 <= share <= 1.0:
                raise InputError("bench city", f"--{name} {100 * share:g}", "must be 0 to 100 per cent of the meters")

    @property
    def begin(self) -> int:
        """The first interval of the market."""
        return self.first_interval - self.before

    @property
    def rounds(self) -> range:
        """Intervals that are played: some to warm up, then those that are measured."""
        return range(self.first_interval, self.first_interval + self.warm_up + self.intervals)

    def feeder_sizes(self) -> IntArray:
        """Customers of each feeder, int64[feeders]; feeder k is of topology ``k % topologies``."""
        most = min(FEEDER_CUSTOMERS_MAX, max(FEEDER_CUSTOMERS_MIN + 50, self.meters // (2 * self.shards)))
        rng = generator(self.seed, Draw.SIZES)
        low, high = np.log(FEEDER_CUSTOMERS_MIN), np.log(most)
        pattern = np.rint(np.exp(rng.uniform(low, high, TOPOLOGIES_MAX))).astype(np.int64)
        repeated = np.tile(pattern, self.meters // int(pattern.sum()) + 1)
        full = int(np.searchsorted(np.cumsum(repeated), self.meters, side="right"))
        rest = self.meters - int(repeated[:full].sum())
        # the last feeder is not full; a rest too small for a feeder of its own is left to the one before
        sizes = np.append(repeated[:full], rest) if rest >= FEEDER_CUSTOMERS_MIN // 2 else repeated[:full].copy()
        if rest < FEEDER_CUSTOMERS_MIN // 2:
            sizes[-1] += rest
        return np.asarray(sizes, dtype=np.int64)

    def shard_of_feeders(self) -> IntArray:
        """Shard of each feeder, int64[feeders]: each goes to the one with fewest customers so far."""
        load = np.zeros(self.shards, dtype=np.int64)
        shards = []
        for size in self.feeder_sizes().tolist():
            shards.append(int(np.argmin(load)))
            load[shards[-1]] += size
        return np.array(shards, dtype=np.int64)

    def topology_sizes(self) -> IntArray:
        """Customers that each topology has room for, int64[topologies]."""
        sizes = self.feeder_sizes()
        kinds = min(TOPOLOGIES_MAX, sizes.size)
        return np.array([int(sizes[k::kinds].max()) for k in range(kinds)], dtype=np.int64)


@dataclass(frozen=True, slots=True, eq=False)
class Topology:
    """A feeder's wires with the limits under which its markets clear, and where its customers hang."""

    network: Network
    root_limit_kw: float | None
    binding: Binding
    customer_node: IntArray
    peak_kw: FloatArray
    peak_kvar: FloatArray


def topology(city: City, kind: int) -> Topology:
    """Draw one topology; with the limits that are made to bind there."""
    size = int(city.topology_sizes()[kind])
    phases = 3 if kind % THREE_PHASE_EVERY == THREE_PHASE_EVERY - 1 else 1
    feeder = synthetic_feeder(size, phases=phases, seed=city.seed * 1_000 + kind)
    binding = BINDING_OF_TEN[kind % len(BINDING_OF_TEN)]
    instance = _limited(feeder, binding)
    count = len(feeder.network.nodes)
    root = instance.limits.get("root_limit_kw")
    return Topology(
        network=replace(
            instance.network,
            name=f"{feeder.network.name} {kind}",
            v_min=np.broadcast_to(instance.limits["v_min"], count).astype(np.float64),
            v_max=np.broadcast_to(instance.limits["v_max"], count).astype(np.float64),
        ),
        root_limit_kw=None if root is None else float(root),
        binding=binding,
        customer_node=feeder.customer_node,
        peak_kw=feeder.peak_kw,
        peak_kvar=feeder.peak_kvar,
    )


def _limited(feeder: Feeder, binding: Binding) -> Instance:
    book = OrderBook.of(feeder.customer_node, 1, 1.0, feeder.peak_kw, kvar_per_kw=feeder.peak_kvar / feeder.peak_kw)
    return limits_that_bind(feeder.network, book, binding, depth=BINDING_DEPTH)


@dataclass(frozen=True, slots=True, eq=False)
class ShardPopulation:
    """Everybody on the feeders of one shard, where they begin.

    Attributes
    ----------
    feeders : as the market knows them. kind : int64[feeders], topology of each.
    customer, feeder, node : int64[n], ascending customer numbers; place of its feeder in `feeders`, and node there.
    peak_kw, kvar_per_kw, roof_kw, battery_kw : float64[n]; 0 where there is no roof or no battery.
    reads_every : int64[n], market intervals that one reading of the meter spans.
    silent : bool[n], whether no reading ever comes.
    topologies : by kind.
    """

    feeders: tuple[ShardFeeder, ...]
    kind: IntArray
    customer: IntArray
    feeder: IntArray
    node: IntArray
    peak_kw: FloatArray
    kvar_per_kw: FloatArray
    roof_kw: FloatArray
    battery_kw: FloatArray
    reads_every: IntArray
    silent: NDArray[np.bool_]
    topologies: dict[int, Topology]

    def connections(self, first_interval: int) -> list[Connections]:
        """Where everybody, their devices and the substations begin, one batch per feeder."""
        batches = []
        for k, feeder in enumerate(self.feeders):
            here = np.flatnonzero(self.feeder == k)
            root = int(feeder.network.source[0])
            numbers = np.append(self.customer[here], feeder.substation)
            nodes, capacity = np.append(self.node[here], root), np.full(numbers.size, CAPACITY_W)
            capacity[-1] = SUBSTATION_W
            every = np.append(self.reads_every[here], 1)
            points = _connections(numbers, [feeder.name] * numbers.size, nodes, first_interval, capacity, every)
            sun, stores = here[self.roof_kw[here] > 0], here[self.battery_kw[here] > 0]
            sun_w, stores_w = 1e3 * self.roof_kw[sun], 1e3 * self.battery_kw[stores]
            behind = [
                assets(points, Device.PV, self.customer[sun], 0, sun_w),
                assets(points, Device.BATTERY, self.customer[stores], stores_w, stores_w),
            ]
            batches.append(Connections.concat([points, *behind]))
        return batches


@dataclass(frozen=True, slots=True, eq=False)
class Moves:
    """Who hangs elsewhere from an interval on: places in the population, new feeders and nodes, int64[m]."""

    who: IntArray
    feeder: IntArray
    node: IntArray

    def connections(self, population: ShardPopulation, interval: int) -> Connections:
        """The moves as they stand in the registry."""
        names = [population.feeders[k].name for k in self.feeder.tolist()]
        capacity = np.full(self.who.size, CAPACITY_W)
        every = population.reads_every[self.who]
        return _connections(population.customer[self.who], names, self.node, interval, capacity, every)


def shard_population(city: City, shard: int) -> ShardPopulation:
    """Draw one shard of the city: its feeders, their customers and the equipment of these."""
    sizes = city.feeder_sizes()
    kinds = city.topology_sizes().size
    mine = np.flatnonzero(city.shard_of_feeders() == shard)
    if not mine.size:
        raise InputError("bench city", f"--meters {city.meters}", f"are too few feeders for {city.shards} shards")
    topologies = {kind: topology(city, kind) for kind in sorted({int(k) % kinds for k in mine})}
    first = 1 + np.concatenate([[0], np.cumsum(sizes)])
    feeders, customer, feeder, node, peak, ratio = [], [], [], [], [], []
    for place, k in enumerate(mine.tolist()):
        kind, count = topologies[k % kinds], int(sizes[k])
        feeders.append(ShardFeeder(f"F{k:04d}", kind.network, city.meters + 1 + k, kind.root_limit_kw))
        customer.append(np.arange(first[k], first[k] + count))
        feeder.append(np.full(count, place))
        node.append(kind.customer_node[:count])
        peak.append(kind.peak_kw[:count])
        ratio.append((kind.peak_kvar / kind.peak_kw)[:count])
    rng = generator(city.seed, Draw.EQUIPMENT, shard)
    n = int(sizes[mine].sum())
    meters = generator(city.seed, Draw.METERS, shard)
    return ShardPopulation(
        feeders=tuple(feeders),
        kind=mine % kinds,
        customer=np.concatenate(customer),
        feeder=np.concatenate(feeder),
        node=np.concatenate(node),
        peak_kw=np.concatenate(peak),
        kvar_per_kw=np.concatenate(ratio),
        roof_kw=np.where(rng.random(n) < 0.2, rng.uniform(3.0, 9.0, n), 0.0),
        battery_kw=np.where(rng.random(n) < 0.1, rng.uniform(2.0, 5.0, n), 0.0),
        reads_every=np.where(meters.random(n) < city.coarse, QUARTER_HOUR, 1),
        silent=meters.random(n) < city.silent,
        topologies=topologies,
    )


def all_moves(city: City, shard: int, population: ShardPopulation) -> dict[int, Moves]:
    """Who moves at the start of each interval after the first, 1 % of the customers each.

    Feeders of like size are neighbours in pairs. Equal numbers change sides over the tie between two neighbours, and
    each takes the connection of one who leaves, so that the load of both feeders stays what it was.
    """
    rng = generator(city.seed, Draw.MOVES, shard)
    feeder, node = population.feeder.copy(), population.node.copy()
    by_size = np.argsort(np.bincount(feeder, minlength=len(population.feeders)), kind="stable")
    pairs = by_size[: by_size.size // 2 * 2].reshape(-1, 2)
    moves: dict[int, Moves] = {}
    for interval in city.rounds[1:]:
        order = np.argsort(feeder, kind="stable")
        start = np.searchsorted(feeder[order], np.arange(len(population.feeders) + 1))
        leaving: list[IntArray] = []
        taking: list[IntArray] = []
        for one, other in pairs.tolist():
            sides = [order[start[k] : start[k + 1]] for k in (one, other)]
            count = min(round(MOVING_SHARE * sum(side.size for side in sides) / 2), *(side.size for side in sides))
            drawn = [rng.choice(side, count, replace=False) for side in sides]
            leaving += drawn
            taking += drawn[::-1]
        who = np.concatenate(leaving) if leaving else np.zeros(0, dtype=np.int64)
        whose = np.concatenate(taking) if taking else np.zeros(0, dtype=np.int64)
        moves[interval] = Moves(who, feeder[whose].copy(), node[whose].copy())
        feeder[who], node[who] = moves[interval].feeder, moves[interval].node
    return moves


def _connections(
    customer: IntArray,
    feeders: Sequence[str],
    node: IntArray,
    interval: int,
    capacity_w: IntArray,
    every: IntArray,
) -> Connections:
    count = customer.size
    return Connections(
        customer=customer.astype(np.int32),
        device=np.full(count, Device.LOAD, dtype=np.uint8),
        asset=ShardKeys.meters_of(customer),
        feeder=np.array([name.encode() for name in feeders], dtype="S32"),
        node=node.astype(np.int32),
        phases=np.zeros(count, dtype=np.uint8),
        from_interval=np.full(count, interval),
        capacity_w=capacity_w,
        import_limit_w=capacity_w,
        export_limit_w=capacity_w,
        reads_every=every.astype(np.uint8),
        attested_by=np.full(count, SIMULATED, dtype="S32"),
        credit=np.zeros(count, dtype=np.int32),
    )
