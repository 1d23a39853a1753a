"""The gateways of the city, one a feeder: they bring their customers' bids, every one new, and ask for the awards.

A bid is two steps of demand, an offer of the roof where there is one, and two steps of the battery where there is one;
the customer signs it, all the hours of a day-ahead bid at once.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from nacl.bindings import crypto_sign, crypto_sign_seed_keypair
from numpy.typing import NDArray

from tellegen.grid.network import FloatArray
from tellegen.operations.exchange import Awarded, AwardsRequest
from tellegen.records import Device, Orders, Product, Route, Side, bids_body, sign_bids
from tellegen.simulation.city.batches import Batch, Sender, Whereabouts, by_feeder
from tellegen.simulation.city.population import City, Draw, ShardPopulation, generator
from tellegen.simulation.shard import ShardKeys
from tellegen.units import INTERVALS_PER_HOUR, IntArray

DAY_AHEAD, REAL_TIME = "day_ahead", "real_time"
_SIGNATURE_BYTES = 64
_KEPT = 2
"""Gates whose bids a gateway remembers: an award names a row of them."""


def gateway_of(feeder: str) -> str:
    """Name of a feeder's gateway in the registry."""
    return f"gateway-{feeder}"


@dataclass(frozen=True, slots=True, eq=False)
class _Offered:
    """Orders of a gate, customer by customer; those at place p of the population begin at row ``begin[p]``."""

    side: IntArray
    var_per_kw: IntArray
    begin: IntArray


class Gateways:
    """Everybody's bids; knows every customer's key."""

    def __init__(
        self, city: City, shard: int, population: ShardPopulation, keys: ShardKeys, places: Whereabouts
    ) -> None:
        self._city, self._shard, self._population, self._keys = city, shard, population, keys
        self._places, self._sender = places, Sender(keys)
        self._secret = {c: crypto_sign_seed_keypair(keys.customer_seed(c))[1] for c in population.customer.tolist()}
        self._offered: dict[int, _Offered] = {}

    def real_time(self, interval: int) -> list[Batch]:
        """Every customer's bid for an interval, signed."""
        rng = generator(self._city.seed, Draw.BIDS, self._shard, interval)
        feeder, node = self._places.at(interval)
        everybody = np.arange(self._population.customer.size)
        orders, count = self._orders(rng, everybody, np.zeros_like(everybody), node)
        stop = np.cumsum(count)
        self._remember(
            interval, _Offered(orders.side.astype(np.int64), orders.var_per_kw.astype(np.int64), stop - count)
        )
        batches = []
        for k, who in by_feeder(feeder, len(self._population.feeders)):
            lines = np.concatenate([np.arange(stop[c] - count[c], stop[c]) for c in who.tolist()])
            batches.append(self._batch(k, REAL_TIME, interval, orders.take(lines), who.size))
        return batches

    def day_ahead(self, first: int, hours: int) -> list[Batch]:
        """Every customer's bid for a day, signed once for all its hours.

        It is for the feeder on which the customer hangs as the day begins; who will have moved bids for the hours
        before.
        """
        home, _ = self._places.at(first)
        there = [self._places.at(first + hour * INTERVALS_PER_HOUR) for hour in range(hours)]
        stays = np.stack([feeder == home for feeder, _ in there], axis=1)
        nodes = np.stack([node for _, node in there], axis=1)
        batches = []
        for k, who in by_feeder(home, len(self._population.feeders)):
            rng = generator(self._city.seed, Draw.BIDS, self._shard, first, k, int(who[0]))
            row, hour = np.nonzero(stays[who])
            orders, _ = self._orders(rng, who[row], hour, nodes)
            batches.append(self._batch(k, DAY_AHEAD, first, orders, who.size))
        return batches

    def requests(self, interval: int, asked_at: int) -> Iterable[tuple[AwardsRequest, bytes]]:
        """What each gateway asks the operator after a gate, signed."""
        for feeder in self._population.feeders:
            source = gateway_of(feeder.name)
            request = AwardsRequest(self._keys.origin, source, REAL_TIME, interval, asked_at)
            yield request, self._keys.sign_as(source, request.to_bytes())

    def awarded(self, interval: int, answers: Iterable[Awarded]) -> tuple[IntArray, IntArray]:
        """What everybody was awarded, int64[n] each: Wh and varh over the interval, rounded; 0 to who did not bid."""
        energy, reactive = np.zeros((2, self._population.customer.size))
        offered = self._offered.get(interval)
        for answer in answers if offered is not None else ():
            assert offered is not None
            place = np.searchsorted(self._population.customer, answer.customer)
            row = offered.begin[place] + answer.order
            wh = offered.side[row] * answer.quantity_mw / (1e3 * INTERVALS_PER_HOUR)
            np.add.at(energy, place, wh)
            np.add.at(reactive, place, wh * offered.var_per_kw[row] / 1e3)
        return np.rint(energy).astype(np.int64), np.rint(reactive).astype(np.int64)

    def _remember(self, interval: int, offered: _Offered) -> None:
        self._offered[interval] = offered
        for old in sorted(self._offered)[:-_KEPT]:
            del self._offered[old]

    def _orders(
        self, rng: np.random.Generator, who: IntArray, period: IntArray, node: IntArray
    ) -> tuple[Orders, IntArray]:
        """Orders of customers in periods, pair by pair in the order given, and how many each pair has.

        Parameters
        ----------
        node : of everybody, int64[n], or in each period, int64[n, periods].
        """
        p, n = self._population, who.size
        demand = p.peak_kw[who] * rng.uniform(0.7, 1.3, n)
        first, sun = rng.uniform(0.5, 0.7, n), float(rng.uniform(0.1, 0.3))
        ratio = p.kvar_per_kw[who] * rng.uniform(0.8, 1.2, n)
        roof, battery = p.roof_kw[who], p.battery_kw[who]
        stored = battery * rng.uniform(0.3, 1.0, n)
        parts: list[tuple[IntArray, Device, Side, FloatArray, FloatArray, FloatArray]] = []

        def say(
            whose: NDArray[np.bool_] | None, device: Device, side: Side, low: float, high: float, kw: FloatArray
        ) -> None:
            at = np.arange(n) if whose is None else np.flatnonzero(whose)
            along = ratio[at] if device == Device.LOAD else np.zeros(at.size)
            parts.append((at, device, side, rng.uniform(low, high, at.size), kw[at], along))

        say(None, Device.LOAD, Side.BUY, 0.6, 2.0, demand * first)
        say(None, Device.LOAD, Side.BUY, 0.15, 0.6, demand * (1.0 - first))
        say(roof > 0, Device.PV, Side.SELL, 0.0, 0.06, roof * sun * rng.uniform(0.9, 1.0, n))
        say(battery > 0, Device.BATTERY, Side.BUY, 0.12, 0.24, stored)
        say(battery > 0, Device.BATTERY, Side.SELL, 0.27, 0.5, stored)
        pair = np.concatenate([part[0] for part in parts])
        order = np.argsort(pair, kind="stable")
        sizes = [part[0].size for part in parts]
        price, kw, along = (np.concatenate([part[k] for part in parts])[order] for k in (3, 4, 5))
        pair = pair[order]
        whose, when = who[pair], period[pair]
        orders = Orders(
            customer=p.customer[whose].astype(np.int32),
            period=when.astype(np.uint8),
            device=np.repeat([int(part[1]) for part in parts], sizes)[order].astype(np.uint8),
            node=(node[whose] if node.ndim == 1 else node[whose, when]).astype(np.int32),
            product=np.full(pair.size, Product.ENERGY, dtype=np.uint8),
            side=np.repeat([int(part[2]) for part in parts], sizes)[order].astype(np.int8),
            price_taker=np.zeros(pair.size, dtype=np.uint8),
            price_micros=np.rint(price * 1e6).astype(np.int64),
            quantity_w=np.maximum(np.rint(kw * 1e3), 1).astype(np.int64),
            var_per_kw=np.rint(along * 1e3).astype(np.int32),
        )
        return orders, np.bincount(pair, minlength=n)

    def _batch(self, feeder: int, market: str, interval: int, orders: Orders, rows: int) -> Batch:
        name = self._population.feeders[feeder].name
        signed = sign_bids(orders, self._keys.origin, name, market, interval, interval, self._sign)
        body = bids_body(signed, orders)
        return self._sender.batch(Route.BIDS, gateway_of(name), name, market, interval, body, rows)

    def _sign(self, customer: int, message: bytes) -> bytes:
        return bytes(crypto_sign(message, self._secret[customer])[:_SIGNATURE_BYTES])
