"""The operator's loop over one day: gate closure, clear, dispatch, read, settle, close.

Everything that the market decides or learns goes on the record before anything follows from it. The
simulated plant stands where devices and meters would; the loop does not know the difference.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from nacl.signing import SigningKey
from numpy.typing import NDArray

from tellegen.agents import Offers, Plan, expected_prices, expected_sessions, price_statistics
from tellegen.books import Ledger
from tellegen.grid import network_to_json
from tellegen.market import Clearing, OrderBook, Warm, clear, to_records
from tellegen.market.submission import rejected_rows, sign_orders
from tellegen.operations.facts import DAY_AHEAD, REAL_TIME
from tellegen.operations.meters import Meters
from tellegen.operations.recorder import Span
from tellegen.operations.referee import ClearedRound
from tellegen.operations.run_directory import Run
from tellegen.operations.setup import Setup
from tellegen.operations.world_day import WorldDay, WorldDiary
from tellegen.records import Customers, Document, Energy, Orders, Postings, Statements
from tellegen.rules import Tariff
from tellegen.settlement import ClearedPeriod, DayFacts, assemble_day, close_day, settle_intervals, statements
from tellegen.units import INTERVALS_PER_HOUR, MARKET_INTERVAL_S, MICROS

Progress = Callable[[str, int, int], None]
"""Told what is going on: stage, steps done, steps in all."""


@dataclass(frozen=True, slots=True, eq=False)
class DayPlayed:
    """What the loop hands on when the day is over.

    world : what happened in the plant. facts : what settled. true_registers : registers that the
    faulty meter should have shown, int64[3, k + 1], from the start of its first wrong interval.
    """

    world: WorldDay
    facts: DayFacts
    statements: Statements
    fault_first: int
    true_registers: NDArray[np.int64]


class MarketDay:
    """One day of the market, as it is played; `cleared` keeps the real-time clearings for the referee."""

    def __init__(self, setup: Setup, run: Run) -> None:
        self._setup, self._run, self._record = setup, run, run.recorder
        self._first = setup.first
        self._n = setup.node.size
        self._customers = np.arange(1, self._n + 1, dtype=np.int32)
        self._signing = {c: SigningKey(_derive(run, f"order signature {c}")) for c in self._customers.tolist()}
        self._verify = {c: key.verify_key for c, key in self._signing.items()}
        self._keys = setup.keys()
        self._enrolment = Customers(
            customer=self._customers,
            node=setup.node.astype(np.int32),
            meter=np.asarray(setup.community.customers.meter),
            fuse_w=np.asarray(setup.community.customers.fuse_w),
            public_key=np.frombuffer(b"".join(bytes(k) for k in self._verify.values()), dtype="V32"),
        )
        self._feeder_world = setup.world()
        self._meters = Meters(setup, self._feeder_world, _derive(run, "meter master"))
        past = setup.wholesale.real_time_micros[: setup.wholesale.past] / 1e6
        self._local_prices = np.tile(past[-288:], (self._n, 1))
        self._state = setup.fleet.settled_state(setup.fleet.initial_state(), float(past[-1]), self._local_prices)
        self._diary = WorldDiary(
            "market", setup.fleet, self._feeder_world, setup.close_devices(self._state, self._first)
        )
        self._wholesale = setup.wholesale.real_time_micros / 1e6
        self._carry = dict.fromkeys((DAY_AHEAD, REAL_TIME), np.zeros((self._n, 2), dtype=np.int64))
        self._warm: Warm | None = None
        self._day_ahead: list[ClearedPeriod] = []
        self._real_time: list[ClearedPeriod] = []
        self._energy: list[Energy] = []
        draw = np.random.Generator(np.random.PCG64([setup.scenario.seed, 4]))
        self._ignoring = draw.random(self._n) < setup.scenario.plant.ignored_dispatch
        self._draw = draw
        self._last_spread: NDArray[np.float64] | None = None
        self.cleared: list[ClearedRound] = []

    # The day

    def play(self, progress: Progress) -> DayPlayed:
        """Play the day from enrolment to the close of its books."""
        setup = self._setup
        with Ledger.create(self._run.books) as ledger:
            self._enrol()
            plan = self._play_day_ahead(progress)
            postings = []
            for step in range(setup.intervals):
                interval = self._first + step
                past = setup.reality.past(interval)
                if step % INTERVALS_PER_HOUR == 0 and step:
                    plan = setup.fleet.replan(plan, past)
                mean, deviation = price_statistics(self._local_prices)
                offers = setup.fleet.real_time_orders(interval, plan, self._state, past, mean, deviation)
                awarded = self._clear_real_time(interval, offers)
                self._let_pass(interval, offers, awarded)
                if step % INTERVALS_PER_HOUR == INTERVALS_PER_HOUR - 1:
                    postings.append(self._settle_hour(step // INTERVALS_PER_HOUR, ledger))
                progress("market day", step + 1, setup.intervals)
            facts = assemble_day(
                self._first, self._enrolment, self._day_ahead, self._real_time, Energy.concat(self._energy), self._keys
            )
            billed = self._close(facts, Postings.concat(postings), ledger)
        end = self._first + setup.intervals
        return DayPlayed(
            world=self._diary.close(setup.close_devices(self._state, end)),
            facts=facts,
            statements=billed,
            fault_first=self._meters.fault_first,
            true_registers=self._meters.true_registers(),
        )

    def _enrol(self) -> None:
        setup, known_at = self._setup, self._at(self._first) - 86400
        span = Span(known_at, self._first, setup.intervals)
        names = {str(c): name for c, name in zip(self._customers.tolist(), setup.community.names, strict=True)}
        documents = [
            Document("scenario", _scenario_text(setup), private=True),
            Document("day", setup.scenario.day.date.isoformat().encode()),
            Document("names", json.dumps(names, sort_keys=True).encode(), private=True),
            Document("network", network_to_json(setup.network), private=True),
            *setup.rulebook.documents(),
        ]
        for document in documents:
            self._record.put_document(document, span)
        self._record.put(self._enrolment, span)
        self._record.put(self._keys, span)
        self._record.commit(known_at)

    # Clearing

    def _play_day_ahead(self, progress: Progress) -> Plan:
        """Plan, offer and clear the coming day hour by hour; returns the plan under its prices."""
        setup, fleet = self._setup, self._setup.fleet
        past = setup.reality.past(self._first)
        wholesale, hours = setup.wholesale, setup.intervals // INTERVALS_PER_HOUR
        day = slice(wholesale.past, wholesale.past + setup.community.intervals)
        published = wholesale.day_ahead_micros[day] / 1e6
        price = expected_prices(published, np.zeros(0), np.zeros((self._n, 0)))
        plan = fleet.plan(past, price, self._first)
        cars = expected_sessions(setup.last_week, self._first, setup.community.intervals)
        offers = fleet.day_ahead_orders(plan, self._state, known_until=self._first, announced=cars)
        warm: Warm | None = None
        local = price.copy()
        for hour in range(hours):
            interval = self._first + hour * INTERVALS_PER_HOUR
            root_price = float(published[hour * INTERVALS_PER_HOUR])
            cleared, _ = self._round(DAY_AHEAD, interval, INTERVALS_PER_HOUR, offers[hour].orders, root_price, warm)
            warm = cleared.warm
            here = slice(hour * INTERVALS_PER_HOUR, (hour + 1) * INTERVALS_PER_HOUR)
            local[:, here] = cleared.prices.energy[setup.node][:, None]
            progress("day-ahead market", hour + 1, hours)
        return fleet.replan(plan, past, price=local)

    def _clear_real_time(self, interval: int, offers: Offers) -> NDArray[np.int64]:
        """Clear one interval; awards per order row in mW (mvar)."""
        root_price = float(self._wholesale[self._setup.wholesale.past + interval - self._first])
        cleared, awarded = self._round(REAL_TIME, interval, 1, offers.orders, root_price, self._warm)
        self._warm = cleared.warm
        here = cleared.prices.energy[self._setup.node]
        self._local_prices = np.concatenate([self._local_prices[:, 1:], here[:, None]], axis=1)
        return awarded

    def _round(
        self, market: str, interval: int, intervals: int, orders: Orders, root_price: float, warm: Warm | None
    ) -> tuple[Clearing, NDArray[np.int64]]:
        """Gate closure to published prices, for one period of one market."""
        record, setup = self._record, self._setup
        gate = self._at(interval) if market == REAL_TIME else self._at(self._first)
        span = Span(gate, interval, intervals, market)
        signed = sign_orders(orders, market, interval, self._signing)
        refused = rejected_rows(orders, signed, market, interval, self._verify)
        refused |= beyond_price_limits(orders, setup.rules.tariff)
        if refused.any():
            record.put(orders.take(refused), span, name="refused")
        accepted = orders.take(~refused)
        offered = record.put(accepted, span)
        record.put(signed, span, causes=(offered,))
        record.commit(gate)

        context = f"{market}/{interval}"
        book = OrderBook.from_orders(accepted)
        cleared = clear(
            setup.network,
            book,
            root_price,
            parameters=setup.rules.market,
            warm=warm,
            tie_context=context,
            last_spread=self._last_spread,
        )
        facts = to_records(
            cleared,
            accepted,
            root_price_micros=round(root_price * MICROS),
            intervals=intervals,
            carry=self._carry[market],
        )
        self._carry[market] = facts.carry
        for table in (facts.awards, facts.schedules, facts.prices, facts.clearing):
            record.put(table, span, causes=(offered,))
        record.commit(gate)
        if market == REAL_TIME:
            self._last_spread = cleared.prices.energy - root_price
            self.cleared.append(ClearedRound(interval, book, root_price, cleared))
        period = ClearedPeriod(facts.schedules, facts.prices, facts.clearing)
        (self._real_time if market == REAL_TIME else self._day_ahead).append(period)
        awarded = np.zeros(len(orders), dtype=np.int64)
        awarded[~refused] = facts.awards.quantity_mw
        return cleared, awarded

    # What happens, and what is known of it

    def _let_pass(self, interval: int, offers: Offers, awarded: NDArray[np.int64]) -> None:
        """Devices act, the plant responds, meters are read."""
        setup = self._setup
        actual = setup.reality.at(interval)
        deaf = self._ignoring | (self._draw.random(self._n) < setup.scenario.plant.lost_dispatch)
        response = setup.fleet.respond(interval, self._state, actual, offers, awarded, deaf=deaf)
        self._state = response.state
        seen = self._feeder_world.step(
            interval,
            actual.load_kw,
            actual.load_kvar,
            response.customer_kw - actual.load_kw,
            response.customer_kvar - actual.load_kvar,
        )
        self._diary.add(seen, response)
        readings, energy = self._meters.read(interval, seen)
        self._energy.append(energy)
        end = self._at(interval + 1)
        self._record.put(readings, Span(end, interval), source="head-end")
        self._record.commit(end)

    def _settle_hour(self, hour: int, ledger: Ledger) -> Postings:
        first = self._first + hour * INTERVALS_PER_HOUR
        here = slice(hour * INTERVALS_PER_HOUR, (hour + 1) * INTERVALS_PER_HOUR)
        energy = Energy.concat(self._energy[here])
        span = Span(self._at(first + INTERVALS_PER_HOUR), first, INTERVALS_PER_HOUR)
        validated = self._record.put(energy, span)
        facts = assemble_day(
            first, self._enrolment, self._day_ahead[hour : hour + 1], self._real_time[here], energy, self._keys
        )
        postings = settle_intervals(facts.steps, self._setup.rules.settlement)
        entry = self._record.put(postings, span, causes=(validated,))
        self._record.commit(span.known_at)
        ledger.post(postings, entry)
        return postings

    def _close(self, facts: DayFacts, postings: Postings, ledger: Ledger) -> Statements:
        """Share out the pools, charge the day, invoice in cents."""
        end = self._first + self._setup.intervals
        span = Span(self._at(end), self._first, self._setup.intervals)
        closing = close_day(facts, postings, self._setup.rules.settlement)
        entry = self._record.put(closing, span, name="day close")
        billed = statements(Postings.concat([postings, closing]))
        self._record.put(billed, span, causes=(entry,))
        self._record.commit(self._at(end))
        ledger.post(closing, entry)
        return billed

    def _at(self, interval: int) -> int:
        return interval * MARKET_INTERVAL_S


def beyond_price_limits(orders: Orders, tariff: Tariff) -> NDArray[np.bool_]:
    """Orders of customers with a price outside the rulebook's cap and floor; price-takers name no price.

    One signature covers all that a customer submits, so its orders are refused together.
    """
    price = orders.price_micros
    outside = (price > tariff.price_cap_micros_per_kwh) | (price < tariff.price_floor_micros_per_kwh)
    return np.isin(orders.customer, orders.customer[outside & (orders.price_taker == 0)])


def _scenario_text(setup: Setup) -> bytes:
    """The scenario without paths of the machine; the prices themselves stand in the clearings."""
    fields = setup.scenario.model_dump(mode="json", exclude={"rulebook": True})
    fields["prices"]["file"] = setup.wholesale.source
    return json.dumps(fields, sort_keys=True).encode()


def _derive(run: Run, purpose: str) -> bytes:
    """A secret of the simulation for one purpose; in reality the devices' own."""
    return hashlib.blake2b(
        purpose.encode(), key=run.recorder.vault.purpose_key("simulated devices"), digest_size=32
    ).digest()
