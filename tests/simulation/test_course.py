"""A simulated day against an operator that only clears: what the world hands in, and what it makes of the answers."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass, field, replace
from datetime import date
from pathlib import Path

import numpy as np
import pytest

from tellegen.errors import InputError, WorkerError
from tellegen.journal import Journal
from tellegen.market import OrderBook, clear, to_records
from tellegen.metering import DeviceCodes
from tellegen.operations.clock import Clock, Simulated
from tellegen.operations.exchange import Awarded, AwardsRequest, PriceRole, Published, Reply
from tellegen.operations.timetable import Verb, day_bounds
from tellegen.privacy import Vault, VaultError
from tellegen.privacy.recorder import Recorder
from tellegen.records import (
    Connections,
    Device,
    Histories,
    Orders,
    Profiles,
    Readings,
    RootPrices,
    Route,
    Statement,
    parse_bids_body,
)
from tellegen.records.market import DAY_AHEAD, REAL_TIME
from tellegen.simulation.apart import WorldApart, WorldLostError
from tellegen.simulation.baseline import BASELINES
from tellegen.simulation.community_shard import build_community_shard, enrolled_at
from tellegen.simulation.course import (
    CORRECTION_AFTER,
    OpenCounter,
    World,
    play_correction,
    play_day,
    verbs_of_day,
)
from tellegen.simulation.opening import rested
from tellegen.simulation.residents import Before, Residents
from tellegen.simulation.scenario import read_scenario
from tellegen.simulation.setup import Setup, prepare
from tellegen.simulation.shard import ShardKeys
from tellegen.simulation.watcher import Watcher
from tellegen.simulation.world_day import WorldDay
from tellegen.units import INTERVALS_PER_HOUR, MARKET_INTERVAL_S

FAULTY = 3
NOTHING = np.zeros(0, dtype=np.int64)


@dataclass
class StandIn:
    """Clears what it is handed in and answers with awards; settles nothing. With `deaf` it clears nothing either."""

    setup: Setup
    clock: Clock
    deaf: bool = False
    bids: dict[tuple[str, int], list[Orders]] = field(default_factory=dict)
    handed_in: list[tuple[int, Statement]] = field(default_factory=list)
    readings: list[tuple[int, int, Readings]] = field(default_factory=list)
    prices: dict[tuple[str, int], int] = field(default_factory=dict)
    answers: dict[tuple[str, int], Awarded] = field(default_factory=dict)
    done: list[tuple[str, int]] = field(default_factory=list)

    def hand_in(self, statement: Statement, signature: bytes, body: bytes) -> Reply:
        now = self.clock.now()
        self.handed_in.append((now, statement))
        if statement.route is Route.BIDS:
            submissions, orders = parse_bids_body(body)
            self.bids.setdefault((statement.market, statement.interval), []).append(orders)
            rows = len(submissions)
        else:
            readings = Readings.from_bytes(body)
            self.readings.append((now, statement.interval, readings))
            rows = len(readings)
        return Reply(rows, (), (0,), (b"",), ("",))

    def awards(self, request: AwardsRequest, signature: bytes) -> Awarded:
        unknown = np.zeros((0, 0), dtype=np.int64)
        nothing = (NOTHING, NOTHING, NOTHING, NOTHING, NOTHING)
        role = PriceRole.SETTLES, request.market, 0
        none = Awarded(request.market, request.interval, False, *nothing, *[unknown] * 4, NOTHING, *role)
        return self.answers.get((request.market, request.interval), none)

    def published(self, market: str, interval: int) -> tuple[Published, ...]:
        return ()

    def take_prices(self, market: str, prices: RootPrices, at: int, provenance: object = None) -> None:
        assert at == self.clock.now()
        self.prices |= {(market, t): p for t, p in zip(prices.interval.tolist(), prices.micros.tolist(), strict=True)}

    def close_gate(self, market: str, interval: int, at: int) -> None:
        self.done.append((f"close {market}", interval))
        if self.deaf:
            return
        orders = Orders.concat(self.bids[market, interval])
        n = self.setup.node.size
        periods = range(int(orders.period.max()) + 1)
        starts = np.searchsorted(orders.customer, np.arange(1, n + 1))
        found = [self._cleared(orders, market, interval, period) for period in periods]
        given = np.concatenate([rows[mw > 0] for rows, mw, _, _ in found])
        mw = np.concatenate([mw[mw > 0] for _, mw, _, _ in found])
        whose = orders.customer[given].astype(np.int64)
        self.answers[market, interval] = Awarded(
            market,
            interval,
            True,
            whose,
            orders.period[given].astype(np.int64),
            given - starts[whose - 1],
            mw,
            np.arange(1, n + 1),
            np.zeros((len(periods), n), dtype=np.int64),
            np.stack([energy for _, _, energy, _ in found]),
            np.stack([reactive for _, _, _, reactive in found]),
            np.zeros((len(periods), n), dtype=np.int64),
            np.zeros(n, dtype=np.int64),
            PriceRole.SETTLES,
            market,
            0,
        )

    def _cleared(
        self, orders: Orders, market: str, interval: int, period: int
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        rows = np.flatnonzero(orders.period == period)
        price = self.prices[market, interval + period * INTERVALS_PER_HOUR]
        cleared = clear(
            self.setup.network,
            OrderBook.from_orders(orders.take(rows)),
            price / 1e6,
            parameters=self.setup.rules.market,
        )
        facts = to_records(cleared, orders.take(rows), root_price_micros=price)
        here = self.setup.node
        return rows, facts.awards.by_order(rows.size), facts.prices.energy[here], facts.prices.reactive[here]

    def settle(self, interval: int, at: int) -> None:
        self.done.append(("settle", interval))

    def open_day(self, day: date, at: int) -> None:
        self.done.append(("open", 0))

    def close_day(self, day: date, at: int) -> None:
        self.done.append(("close", 0))

    def correct(self, run: int, at: int) -> None:
        self.done.append(("correct", run))

    def finalise(self, day: date, at: int) -> None:
        raise AssertionError("no day of this test is ever final")

    def snapshot(self, at: int) -> None:
        pass


@dataclass
class Played:
    setup: Setup
    keys: ShardKeys
    operator: StandIn
    world: WorldDay


def played(setup: Setup, folder: Path, *, deaf: bool = False) -> Played:
    keys = build_community_shard(setup, folder, "tellegen.example/feeder")
    clock = Simulated(enrolled_at(setup))
    operator, residents = StandIn(setup, clock, deaf), Residents(setup, Before.of(setup), keys)
    World(setup, residents, OpenCounter(operator, operator, clock), clock).begin()
    play_day(setup, operator, clock, lambda stage, done, total: None)
    play_correction(setup, operator, clock)
    return Played(setup, keys, operator, residents.close())


@pytest.fixture(scope="module")
def setup(extras: None, scenario_file: Path) -> Setup:
    return rested(prepare(read_scenario(scenario_file)))


@pytest.fixture(scope="module")
def day(setup: Setup, tmp_path_factory: pytest.TempPathFactory) -> Played:
    return played(setup, tmp_path_factory.mktemp("day") / "shard")


def test_everybody_bids_before_every_gate_and_is_read_after_every_interval(day: Played) -> None:
    setup = day.setup
    everybody = set(range(1, setup.node.size + 1))
    inside = range(setup.first, setup.first + setup.intervals)
    bids = [(now, s) for now, s in day.operator.handed_in if s.route is Route.BIDS and s.market == REAL_TIME]
    assert [s.interval for _, s in bids] == list(inside)
    assert all(now == s.interval * MARKET_INTERVAL_S - 1 for now, s in bids)
    for interval in inside:
        assert set(Orders.concat(day.operator.bids[REAL_TIME, interval]).customer.tolist()) == everybody
    ahead = Orders.concat(day.operator.bids[DAY_AHEAD, setup.first])
    assert set(ahead.customer.tolist()) == everybody
    assert set(ahead.period.tolist()) == set(range(setup.intervals // INTERVALS_PER_HOUR))
    read = [(now, t) for now, t, _ in day.operator.readings if now <= inside.stop * MARKET_INTERVAL_S]
    assert read == [((t + 1) * MARKET_INTERVAL_S, t) for t in (setup.first - 1, *inside)]


def test_registers_and_codes_are_those_of_the_meters(day: Played) -> None:
    """What two successive readings differ by is what the perfect meters of the world counted."""
    setup, codes = day.setup, DeviceCodes(day.keys.meter_master, day.setup.meters)
    of_day = [(t, r) for now, t, r in day.operator.readings if t == (now // MARKET_INTERVAL_S) - 1]
    imports = np.stack([r.import_wh for _, r in of_day])
    healthy = np.arange(setup.node.size + 1) != FAULTY
    assert np.array_equal(np.diff(imports, axis=0)[:, healthy], day.world.import_wh[:, healthy])
    assert all(codes.check(r, t).all() for _, t, r in day.operator.readings)
    assert all(r.customer.tolist() == [setup.substation, *range(1, setup.node.size + 1)] for _, r in of_day)


def test_a_meter_that_stands_still_comes_right_three_days_later(day: Played) -> None:
    setup, fault = day.setup, day.setup.scenario.fault
    assert fault is not None
    first = setup.first + fault.start_hour * INTERVALS_PER_HOUR
    wrong = range(first, first + fault.hours * INTERVALS_PER_HOUR)
    end = (setup.first + setup.intervals) * MARKET_INTERVAL_S
    shown = {t: int(r.import_wh[FAULTY]) for now, t, r in day.operator.readings if now <= end}
    assert {shown[t] for t in wrong} == {shown[first - 1]}
    late = [(now, t, r) for now, t, r in day.operator.readings if now > end]
    assert [t for _, t, _ in late] == list(wrong)
    arrival = day_bounds(setup.rulebook, setup.scenario.day.date + CORRECTION_AFTER).stop * MARKET_INTERVAL_S
    assert {now for now, _, _ in late} == {arrival}
    assert all(r.customer.tolist() == [FAULTY] for _, _, r in late)
    true = [shown[first - 1], *(int(r.import_wh[0]) for _, _, r in late), shown[wrong.stop]]
    counted = day.world.import_wh[:, FAULTY][first - setup.first : wrong.stop + 1 - setup.first]
    assert np.array_equal(np.diff(true), counted)
    counters = [int(r.counter[r.customer == FAULTY][0]) for _, _, r in day.operator.readings]
    assert sorted(set(counters)) == counters  # no counter is ever used again
    assert [verb for verb, _ in day.operator.done[-2:]] == ["correct", "close"]
    assert day.operator.done[-2][1] >= arrival


def test_awards_move_devices_and_an_operator_that_is_silent_is_outlived(
    day: Played, tmp_path: Path, setup: Setup
) -> None:
    """Where no award is heard, nobody's flexible devices get anything; bids and readings go on."""
    alone = played(setup, tmp_path / "shard", deaf=True)
    assert len(alone.operator.readings) == len(day.operator.readings)
    assert float(np.abs(day.world.device_w).sum()) > 1.05 * float(np.abs(alone.world.device_w).sum())


def test_bids_get_lost_and_who_hears_nothing_keeps_to_what_it_bid(day: Played, tmp_path: Path, setup: Setup) -> None:
    """Where no bid arrives, homes live by what they bid, at the price that they know: base load and needs are met."""
    plant = setup.scenario.plant.model_copy(update={"lost_bids": 0.5, "ignored_dispatch": 0.0})
    losing = replace(setup, scenario=setup.scenario.model_copy(update={"plant": plant}))
    half = played(losing, tmp_path / "shard")
    inside = range(setup.first, setup.first + setup.intervals)
    heard = [np.unique(Orders.concat(half.operator.bids[REAL_TIME, t]).customer).size for t in inside]
    assert 0.4 * setup.node.size < np.mean(heard) < 0.6 * setup.node.size
    assert float(half.world.import_wh[:, 1:].sum()) > 0.7 * float(day.world.import_wh[:, 1:].sum())


def test_the_same_scenario_is_the_same_day(day: Played, tmp_path: Path, setup: Setup) -> None:
    again = played(setup, tmp_path / "shard")
    assert np.array_equal(again.world.import_wh, day.world.import_wh)
    assert [s for _, s in again.operator.handed_in] == [s for _, s in day.operator.handed_in]


def test_verbs_come_in_the_order_of_the_timetable(day: Played) -> None:
    setup = day.setup
    verbs = list(verbs_of_day(setup))
    assert verbs[0].verb is Verb.OPEN_DAY
    assert verbs[1].verb is Verb.CLOSE_DAY_AHEAD
    assert verbs[-1].verb is Verb.CLOSE_DAY
    assert [each.at for each in verbs] == sorted(each.at for each in verbs)
    gates = [each.key for each in verbs if each.verb is Verb.CLOSE_REAL_TIME]
    assert gates == [each.key for each in verbs if each.verb is Verb.SETTLE]
    assert gates == list(range(setup.first, setup.first + setup.intervals))


def test_enrolment_puts_everybody_their_rules_and_their_past_on_record(day: Played) -> None:
    setup = day.setup
    count = setup.node.size + 1
    with Vault.open(day.keys.path / "vault") as vault, Journal.open(day.keys.path) as journal:
        recorder = Recorder(journal, vault, "")
        (connected,) = (table for _, _, table in recorder.read(Connections))
        (past,) = (table for _, _, table in recorder.read(Histories))
        (profile,) = (table for _, _, table in recorder.read(Profiles))
        assert recorder.document("feeders")
        names = [journal.entry(index).name for index in journal.find(kind="document")]
        latest = max(journal.entry(index).known_at for index in range(len(journal)))
    assert {f"rulebook/{v.name}" for v in setup.rulebook.versions} <= set(names)
    points = connected.take(connected.device == Device.LOAD)
    assert points.customer.tolist() == list(range(1, count + 1))
    assert set(connected.attested_by.tolist()) == {b"simulation"}
    assert points.node.tolist() == [*setup.node.tolist(), int(setup.network.source[0])]
    assert past.trailing_wh.tolist()[:-1] == setup.trailing_wh().tolist()
    assert latest <= setup.first * MARKET_INTERVAL_S - 86400
    mean_day = np.maximum(setup.past_net_wh[-7:], 0).sum(axis=(0, 1)) / 7
    of_homes = profile.take(profile.customer < count)
    daily = np.bincount(of_homes.customer, weights=of_homes.import_wh, minlength=count)[1:]
    assert np.abs(daily - mean_day).max() <= 1  # rounded once over the day
    assert sorted(set(profile.place.tolist())) == list(range(288))


def test_a_world_in_a_process_of_its_own_is_the_same_day(day: Played, setup: Setup, tmp_path: Path) -> None:
    keys = build_community_shard(setup, tmp_path / "shard", "tellegen.example/feeder")
    with WorldApart(setup.scenario) as world:
        operator = StandIn(setup, world)
        world.stand_at(enrolled_at(setup))
        world.begin(keys, OpenCounter(operator, operator, world))
        play_day(setup, operator, world, lambda stage, done, total: None)
        play_correction(setup, operator, world)
        lived = world.close_day()
    assert operator.handed_in == day.operator.handed_in
    assert operator.prices == day.operator.prices
    assert operator.done == day.operator.done
    assert np.array_equal(lived.voltage_pu, day.world.voltage_pu)
    assert np.array_equal(lived.device_w, day.world.device_w)


def test_what_stops_the_world_stops_the_operator(setup: Setup, tmp_path: Path) -> None:
    keys = build_community_shard(setup, tmp_path / "shard", "tellegen.example/feeder")
    with WorldApart(setup.scenario) as world:
        operator = StandIn(setup, world)
        world.stand_at(enrolled_at(setup))
        world.begin(keys, OpenCounter(operator, operator, world))
        with pytest.raises(WorldLostError, match="not come to the end"):
            world.close_day()
        world._process.kill()
        with pytest.raises(WorldLostError, match="has died"):
            play_day(setup, operator, world, lambda stage, done, total: None)


def test_a_world_that_died_is_named_where_the_operator_speaks_to_it(setup: Setup, tmp_path: Path) -> None:
    """A line that nobody holds is no reader of ours who has left."""
    keys = build_community_shard(setup, tmp_path / "shard", "tellegen.example/feeder")
    with WorldApart(setup.scenario) as world:
        operator = StandIn(setup, world)
        world.stand_at(enrolled_at(setup))
        world._process.kill()
        world._process.join()
        with pytest.raises(WorldLostError, match="has died"):
            world.begin(keys, OpenCounter(operator, operator, world))


def test_who_watches_says_what_failed_and_that_he_died(setup: Setup, tmp_path: Path) -> None:
    with Watcher(setup.scenario, tmp_path / "nothing") as watcher:
        watcher.begin()
        watcher.close_day()
        assert set(watcher.baselines()) == set(BASELINES)
        with pytest.raises(VaultError, match="nothing"):
            watcher.equals_afresh()
    with Watcher(setup.scenario, tmp_path) as watcher:
        watcher.begin()
        assert watcher._process is not None
        watcher._process.kill()
        watcher.close_day()
        with pytest.raises(WorkerError, match="has died"):
            watcher.baselines()
    assert not watcher._process.is_alive()


def test_an_operator_that_gives_up_leaves_no_process_behind(setup: Setup) -> None:
    with WorldApart(setup.scenario) as world:
        process = world._process
    assert not process.is_alive()


def test_what_is_wrong_with_the_world_reaches_the_operator(setup: Setup) -> None:
    wrong = setup.scenario.model_copy(update={"rulebook": Path("nowhere.toml")})
    with WorldApart(wrong) as world, pytest.raises(InputError, match=r"nowhere\.toml"):
        world.wait(1)


def test_a_world_can_be_started_before_the_operators_rooms_are_imported() -> None:
    """Or its process comes up only after the time that it could have had for itself."""
    rooms = "{name.split('.')[1] for name in sys.modules if name.startswith('tellegen.')}"
    started = "import tellegen.simulation.play, tellegen.simulation.scenario"
    code = f"import sys; sys.path[:] = {sys.path}; {started}; print(*{rooms})"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert set(found.split()) == {"errors", "foreign", "spawned", "units", "simulation"}
