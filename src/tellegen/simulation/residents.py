"""The people of a feeder with their homes: they bid, they hear what they were awarded, and their devices act.

They know the operator by what goes through its exchange and by nothing else: signed batches and requests go out,
awards and the prices at their own nodes come in. Each method is something that happens at one time; whoever plays the
world calls them in the order of their times.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from nacl.bindings import crypto_sign, crypto_sign_seed_keypair
from numpy.typing import NDArray

from tellegen.agents import (
    Actual,
    DeviceState,
    Offers,
    Plan,
    Response,
    Vehicles,
    bid_at,
    expected_prices,
    expected_sessions,
    price_statistics,
)
from tellegen.operations.exchange import Awarded, AwardsRequest
from tellegen.records import Orders, sign_bids
from tellegen.records.market import DAY_AHEAD, REAL_TIME
from tellegen.simulation.batches import SignedBatch, bids_batch
from tellegen.simulation.head_end import HeadEnd
from tellegen.simulation.opening import opening_state
from tellegen.simulation.setup import Setup
from tellegen.simulation.shard import GATEWAY, ShardKeys
from tellegen.simulation.world_day import WorldDay, WorldDiary
from tellegen.units import INTERVALS_PER_HOUR, MARKET_INTERVAL_S, MICROS

BATCH_ORDERS_MAX = 4_000
"""Orders in one batch of the gateway's; a customer's stay together."""
_PRICES_KEPT = 288
_SIGNATURE_BYTES = 64


@dataclass(frozen=True, slots=True, eq=False)
class Before:
    """What lies before the day: the state in which it finds all devices, and the cars of a week ago (`Setup`)."""

    opening: DeviceState
    last_week: Vehicles

    @classmethod
    def of(cls, setup: Setup) -> Before:
        """After a day alike, on which homes answered the wholesale prices that are published for the day itself."""
        wholesale = setup.wholesale
        day = slice(wholesale.past, wholesale.past + setup.community.intervals)
        price = wholesale.day_ahead_micros[day] / MICROS  # those of real time nobody knows yet
        return cls(opening_state(setup, setup.fleet, price, float(price.std())), setup.last_week())


class Residents:
    """Everybody on one feeder, and what belongs to them: devices, wires, meters, the gateway and the head-end.

    Parameters
    ----------
    setup : the scenario made ready. before : what lies before its day.
    keys : every secret outside the operator's vault.
    """

    def __init__(self, setup: Setup, before: Before, keys: ShardKeys) -> None:
        self._setup, self._keys, self._fleet = setup, keys, setup.fleet
        self._n = setup.node.size
        self._secret = [crypto_sign_seed_keypair(keys.customer_seed(c))[1] for c in range(1, self._n + 1)]
        self._wires = setup.world()
        self._head_end = HeadEnd(setup, keys)
        self._meter_node = np.concatenate([setup.network.source[:1], setup.node])
        self._voltage = np.ones(self._n + 1)
        past = setup.wholesale.real_time_micros[: setup.wholesale.past] / MICROS
        self._local_prices = np.tile(past[-_PRICES_KEPT:], (self._n, 1))
        self._before, self._state = before, before.opening
        opening = setup.close_devices(self._state, setup.first)
        self._diary = WorldDiary("market", self._fleet, self._wires, opening)
        self._draw = np.random.Generator(np.random.PCG64([setup.scenario.seed, 4]))
        self._held = np.zeros(self._n, dtype=np.bool_)
        self._ignoring = self._draw.random(self._n) < setup.scenario.plant.ignored_dispatch
        self._lost = np.random.Generator(np.random.PCG64([setup.scenario.seed, 6]))
        self._unheard = np.zeros(self._n, dtype=np.bool_)  # bids for the interval, or what became of them, are lost
        self._lived_until = setup.first
        self._on_wires: tuple[Actual, Response] | None = None  # what devices did, before bids could wait for the wires
        self._plan: Plan | None = None
        self._planned_at = 0
        self._offers: Offers | None = None
        self._awarded_mw = np.zeros(0, dtype=np.int64)
        self._batches = 0
        self._bids = 0

    # Bids

    def bid_day_ahead(self, at: int) -> list[SignedBatch]:
        """What everybody offers for each hour of the day, as far as the day is known at a time."""
        setup, fleet = self._setup, self._fleet
        known = self._planned_at = min(at // MARKET_INTERVAL_S + 1, setup.first)
        past, length = setup.reality.past(known), setup.community.intervals
        price = expected_prices(self._published(), np.zeros(0), np.zeros((self._n, 0)))
        self._plan = fleet.plan(past, price, setup.first)
        cars = expected_sessions(self._before.last_week, setup.first, length)
        offers = fleet.day_ahead_orders(self._plan, self._state, known_until=known, announced=cars)
        hours = setup.intervals // INTERVALS_PER_HOUR
        orders = Orders.concat([_of_period(offers[hour].orders, hour) for hour in range(hours)])
        orders = orders.take(np.argsort(orders.customer, kind="stable"))
        return self._signed(orders, DAY_AHEAD, setup.first)

    def bid(self, interval: int) -> list[SignedBatch]:
        """What everybody offers for a market interval, from what has been lived through by then."""
        past, plan = self._setup.reality.past(self._lived_until), self._planned()
        on_the_hour = (interval - self._setup.first) % INTERVALS_PER_HOUR == 0
        if on_the_hour and self._planned_at < interval:
            self._planned_at, plan = interval, self._fleet.replan(plan, past)
            self._plan = plan
        mean, deviation = price_statistics(self._local_prices)
        self._offers = self._fleet.real_time_orders(interval, plan, self._state, past, mean, deviation)
        orders = self._offers.orders
        plant = self._setup.scenario.plant
        self._awarded_mw = np.zeros(len(orders), dtype=np.int64)
        sent = self._lost.random(self._n) >= plant.lost_bids
        self._unheard = ~sent | (self._draw.random(self._n) < plant.lost_dispatch)
        return self._signed(orders.take(sent[orders.customer - 1]), REAL_TIME, interval)

    # What is heard of the operator

    def ask(self, market: str, interval: int, at: int) -> tuple[AwardsRequest, bytes]:
        """The gateway's request for the awards of everybody, with its signature."""
        request = AwardsRequest(
            origin=self._keys.origin,
            source=GATEWAY,
            market=market,
            interval=interval,
            asked_at=at,
        )
        return request, self._keys.sign_as(GATEWAY, request.to_bytes())

    def hear_day_ahead(self, awarded: Awarded, at: int) -> None:
        """Plan the day again under the prices it was cleared at; an hour without one keeps what was published."""
        plan, setup = self._planned(), self._setup
        price = plan.price.copy()
        for hour, energy_micros in enumerate(awarded.energy_micros):
            priced = awarded.status[hour] >= 0
            here = slice(hour * INTERVALS_PER_HOUR, (hour + 1) * INTERVALS_PER_HOUR)
            price[awarded.whose[priced] - 1, here] = energy_micros[priced, None] / MICROS
        self._planned_at = min(at // MARKET_INTERVAL_S, setup.first)
        self._plan = self._fleet.replan(plan, setup.reality.past(self._planned_at), price=price)

    def hear(self, awarded: Awarded) -> None:
        """Take in the awards of the interval that was last bid for; what is not named got nothing.

        Homes that hear nothing do what they bid at the last price that they know.
        """
        assert self._offers is not None
        orders = self._offers.orders
        begin = np.searchsorted(orders.customer, awarded.customer)
        self._awarded_mw[begin + awarded.order] = awarded.quantity_mw
        self._held = np.isin(np.arange(1, self._n + 1), awarded.whose[awarded.held_until > 0])
        alone = self._unheard[orders.customer - 1]
        last = self._local_prices[:, -1]
        self._awarded_mw[alone] = bid_at(orders, last[orders.customer - 1])[alone]
        here = _at_homes(awarded, last)
        here[self._unheard] = last[self._unheard]
        self._local_prices = np.concatenate([self._local_prices[:, 1:], here[:, None]], axis=1)

    def hear_settled(self, settled: Awarded, ago: int) -> None:
        """Remember of an interval at which price it settled, in place of its guide.

        Parameters
        ----------
        ago : intervals since, before the one that was last heard of.
        """
        self._local_prices[:, -1 - ago] = _at_homes(settled, self._local_prices[:, -1 - ago])

    # What happens

    def live(self, interval: int) -> None:
        """Devices follow their awards, but for the deaf and those on hold; the wires carry it when meters are read."""
        assert self._offers is not None
        actual, state = self._setup.reality.at(interval), self._state
        deaf = self._ignoring | self._held
        response = self._fleet.respond(interval, state, actual, self._offers, self._awarded_mw, deaf=deaf)
        self._state, self._lived_until = response.state, interval + 1
        self._on_wires = actual, response

    def read(self, interval: int) -> SignedBatch:
        """Coded readings of every meter at the end of an interval, the substation's among them."""
        if self._on_wires is not None:
            actual, response = self._on_wires
            seen = self._wires.step(
                interval,
                actual.load_kw,
                actual.load_kvar,
                response.customer_kw - actual.load_kw,
                response.customer_kvar - actual.load_kvar,
            )
            self._voltage = seen.voltage_pu[self._meter_node]
            self._diary.add(seen, response)
            self._on_wires = None
        return self._head_end.read(interval, np.stack(self._wires.registers.whole()), self._voltage)

    def late_readings(self) -> tuple[SignedBatch, ...]:
        """What the meter that failed had in its memory."""
        return self._head_end.late()

    def close(self) -> WorldDay:
        """The day as it was."""
        end = self._setup.first + self._setup.intervals
        return self._diary.close(self._setup.close_devices(self._state, end))

    def _published(self) -> NDArray[np.float64]:
        """Wholesale prices of the day as published the day before, currency per kWh."""
        wholesale = self._setup.wholesale
        day = slice(wholesale.past, wholesale.past + self._setup.community.intervals)
        return np.asarray(wholesale.day_ahead_micros[day] / MICROS)

    def _planned(self) -> Plan:
        assert self._plan is not None, "the day is planned before its day-ahead gate"
        return self._plan

    def _signed(self, orders: Orders, market: str, interval: int) -> list[SignedBatch]:
        """Every customer's orders under its signature, in batches of the gateway's."""
        self._bids += 1
        submissions = sign_bids(orders, self._keys.origin, self._setup.feeder, market, interval, self._bids, self._sign)
        count = submissions.order_rows
        begin = np.cumsum(count) - count
        part = begin // BATCH_ORDERS_MAX
        batches = []
        for who in np.split(np.arange(count.size), np.flatnonzero(np.diff(part)) + 1):
            here = slice(int(begin[who[0]]), int(begin[who[-1]] + count[who[-1]]))
            body = submissions.take(who), orders.take(np.arange(here.start, here.stop))
            batches.append(bids_batch(self._keys, *body, self._setup.feeder, market, interval, self._batches))
            self._batches += 1
        return batches

    def _sign(self, customer: int, message: bytes) -> bytes:
        return bytes(crypto_sign(message, self._secret[customer - 1])[:_SIGNATURE_BYTES])


def _at_homes(awarded: Awarded, otherwise: NDArray[np.float64]) -> NDArray[np.float64]:
    """Prices of an answer by home, currency per kWh; `otherwise` where it knows none."""
    here = otherwise.copy()
    for status, energy_micros in zip(awarded.status, awarded.energy_micros, strict=True):
        here[awarded.whose[status >= 0] - 1] = energy_micros[status >= 0] / MICROS
    return here


def _of_period(orders: Orders, period: int) -> Orders:
    rows = orders.rows().copy()
    rows["period"] = period
    return Orders.from_rows(rows)
