"""What the city's head-ends and gateways send in an interval: every bid new, every reading coded.

A bid is two steps of demand, an offer of the roof where there is one, and two steps of the battery where there is one;
the customer signs it. Readings follow the awards as devices would, a few per cent off, in registers that count whole
Wh. A concentrator signs each batch of up to 1,000.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from nacl.bindings import crypto_sign, crypto_sign_seed_keypair
from numpy.typing import NDArray

from tellegen.assess.city.population import City, Draw, Moves, ShardPopulation, generator
from tellegen.grid.network import FloatArray
from tellegen.metering import DeviceCodes
from tellegen.operations.facts import REAL_TIME
from tellegen.operations.synthetic_shard import GATEWAY, HEAD_END, ShardKeys
from tellegen.records import Device, Orders, Product, Readings, Route, Side, Statement, Submissions, bids_body
from tellegen.units import IntArray

BATCH_ROWS_MAX = 1_000
NOISE = 0.03
"""Standard deviation of what a device does over what it was awarded."""
NOMINAL_MV = 230_000
_SIGNATURE_BYTES = 64


@dataclass(frozen=True, slots=True)
class Batch:
    """One request, ready to be sent."""

    statement: Statement
    signature: bytes
    body: bytes
    rows: int


@dataclass(frozen=True, slots=True, eq=False)
class Awarded:
    """What the market told everybody of an interval, by place in the population and by feeder; int64, Wh and varh."""

    energy_wh: IntArray
    reactive_varh: IntArray
    losses_wh: IntArray


class Senders:
    """The customers, meters, head-end and gateway of a shard; knows every key of theirs."""

    def __init__(self, city: City, shard: int, population: ShardPopulation, keys: ShardKeys) -> None:
        self._city, self._shard, self._population, self._keys = city, shard, population, keys
        pairs = [crypto_sign_seed_keypair(keys.customer_seed(c))[1] for c in population.customer.tolist()]
        self._secret = np.frombuffer(b"".join(pairs), dtype="V64")
        self.feeder, self.node = population.feeder.copy(), population.node.copy()
        roots = np.array([feeder.substation for feeder in population.feeders])
        self._meter = keys.meters_of(np.concatenate([population.customer, roots]))
        self._codes = DeviceCodes(keys.meter_master, self._meter)
        self._registers = np.zeros((3, self._meter.size), dtype=np.int64)
        self._counter = 0
        self._sequence = {Route.BIDS: 0, Route.READINGS: 0}

    def move(self, moves: Moves) -> None:
        """Customers hang elsewhere from now on."""
        self.feeder[moves.who], self.node[moves.who] = moves.feeder, moves.node

    def bids(self, interval: int) -> list[Batch]:
        """Every customer's bid for an interval, signed."""
        orders, count = self._orders(interval)
        rows = orders.rows()
        data, size = rows.tobytes(), rows.dtype.itemsize
        prefix = f"{REAL_TIME}/{interval}/".encode()
        stop = np.cumsum(count)
        signatures = [
            crypto_sign(prefix + data[size * (end - rows_) : size * end], secret)[:_SIGNATURE_BYTES]
            for end, rows_, secret in zip(stop.tolist(), count.tolist(), self._secret.tolist(), strict=True)
        ]
        signed = Submissions(
            customer=self._population.customer.astype(np.int32),
            order_rows=count.astype(np.int32),
            signature=np.frombuffer(b"".join(signatures), dtype="V64"),
        )
        begin = stop - count
        batches = []
        for feeder, who in self._groups():
            lines = np.concatenate([np.arange(begin[c], stop[c]) for c in who.tolist()])
            body = bids_body(signed.take(who), Orders.from_rows(rows[lines]))
            batches.append(self._signed(Route.BIDS, GATEWAY, feeder, REAL_TIME, interval, body, who.size))
        return batches

    def readings(self, interval: int, awarded: Awarded) -> list[Batch]:
        """Every meter's reading at the end of an interval, coded, substations included."""
        rng = generator(self._city.seed, Draw.READINGS, self._shard, interval)
        net = np.rint(awarded.energy_wh * rng.normal(1.0, NOISE, awarded.energy_wh.size)).astype(np.int64)
        root = np.bincount(self.feeder, weights=net, minlength=len(self._population.feeders)).astype(np.int64)
        root += np.rint(awarded.losses_wh * rng.normal(1.0, NOISE, root.size)).astype(np.int64)
        moved = np.concatenate([net, root])
        self._registers[0] += np.maximum(moved, 0)
        self._registers[1] += np.maximum(-moved, 0)
        self._registers[2, : net.size] += awarded.reactive_varh
        roots = np.array([feeder.substation for feeder in self._population.feeders])
        untagged = Readings(
            customer=np.concatenate([self._population.customer, roots]).astype(np.int32),
            meter=self._meter,
            counter=np.full(moved.size, self._counter),
            import_wh=self._registers[0],
            export_wh=self._registers[1],
            reactive_varh=self._registers[2],
            voltage_mv=NOMINAL_MV + rng.integers(-80, 80, moved.size) * 100,
            tag=np.zeros(moved.size, dtype="V16"),
        )
        rows = self._codes.tag(untagged, interval).rows()
        self._counter += 1
        batches = []
        for feeder, who in self._groups(np.arange(net.size, moved.size)):
            batches.append(self._signed(Route.READINGS, HEAD_END, feeder, "", interval, rows[who].tobytes(), who.size))
        return batches

    def _orders(self, interval: int) -> tuple[Orders, IntArray]:
        """Orders of everybody, sorted by customer, and how many each has."""
        p, rng = self._population, generator(self._city.seed, Draw.BIDS, self._shard, interval)
        n = p.customer.size
        demand = p.peak_kw * rng.uniform(0.7, 1.3, n)
        first, sun = rng.uniform(0.5, 0.7, n), float(rng.uniform(0.1, 0.3))
        ratio = p.kvar_per_kw * rng.uniform(0.8, 1.2, n)
        stored = p.battery_kw * rng.uniform(0.3, 1.0, n)
        parts: list[tuple[IntArray, Device, Side, FloatArray, FloatArray, FloatArray]] = []

        def say(
            who: NDArray[np.bool_] | None, device: Device, side: Side, low: float, high: float, kw: FloatArray
        ) -> None:
            at = np.arange(n) if who is None else np.flatnonzero(who)
            along = ratio[at] if device == Device.LOAD else np.zeros(at.size)
            parts.append((at, device, side, rng.uniform(low, high, at.size), kw[at], along))

        say(None, Device.LOAD, Side.BUY, 0.6, 2.0, demand * first)
        say(None, Device.LOAD, Side.BUY, 0.15, 0.6, demand * (1.0 - first))
        say(p.roof_kw > 0, Device.PV, Side.SELL, 0.0, 0.06, p.roof_kw * sun * rng.uniform(0.9, 1.0, n))
        say(p.battery_kw > 0, Device.BATTERY, Side.BUY, 0.12, 0.24, stored)
        say(p.battery_kw > 0, Device.BATTERY, Side.SELL, 0.27, 0.5, stored)
        who = np.concatenate([part[0] for part in parts])
        order = np.argsort(who, kind="stable")
        sizes = [part[0].size for part in parts]
        price, kw, along = (np.concatenate([part[k] for part in parts])[order] for k in (3, 4, 5))
        orders = Orders(
            customer=p.customer[who[order]].astype(np.int32),
            device=np.repeat([int(part[1]) for part in parts], sizes)[order].astype(np.uint8),
            node=self.node[who[order]].astype(np.int32),
            product=np.full(who.size, Product.ENERGY, dtype=np.uint8),
            side=np.repeat([int(part[2]) for part in parts], sizes)[order].astype(np.int8),
            price_taker=np.zeros(who.size, dtype=np.uint8),
            price_micros=np.rint(price * 1e6).astype(np.int64),
            quantity_w=np.maximum(np.rint(kw * 1e3), 1).astype(np.int64),
            var_per_kw=np.rint(along * 1e3).astype(np.int32),
        )
        return orders, np.bincount(who, minlength=n)

    def _groups(self, roots: IntArray | None = None) -> Iterator[tuple[str, IntArray]]:
        """Feeder by feeder, who is in each batch; with `roots`, its substation in the first."""
        order = np.argsort(self.feeder, kind="stable")
        start = np.searchsorted(self.feeder[order], np.arange(len(self._population.feeders) + 1))
        for k, feeder in enumerate(self._population.feeders):
            who = order[start[k] : start[k + 1]]
            if roots is not None:
                who = np.append(roots[k], who)
            for at in range(0, who.size, BATCH_ROWS_MAX):
                yield feeder.name, who[at : at + BATCH_ROWS_MAX]

    def _signed(
        self, route: Route, source: str, feeder: str, market: str, interval: int, body: bytes, rows: int
    ) -> Batch:
        sequence = self._sequence[route]
        self._sequence[route] = sequence + 1
        statement = Statement.of(route, source, feeder, market, interval, sequence, body)
        return Batch(statement, self._keys.sign_as(source, statement.to_bytes()), body, rows)
