"""What holds of a market whatever happens around it: played on the days of a hamlet."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import date
from functools import partial
from pathlib import Path
from random import Random

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tellegen.assess.faults.database import StoredDatabases
from tellegen.assess.faults.disk import SimulatedDisk
from tellegen.assess.faults.folded import differing, folded_from_zero, parts_of
from tellegen.assess.faults.hamlet import NAMES, HamletPlan, Move, found, root_prices, rules
from tellegen.assess.faults.hamlet_play import (
    BOOK,
    DAY,
    EVERYBODY,
    FIRST,
    NEXT,
    SHORT_DAY,
    UNPRICED,
    Play,
    give_prices,
)
from tellegen.assess.faults.outcome import Outcome
from tellegen.operations.corrections import believed
from tellegen.operations.market import Market
from tellegen.operations.record import ShardRecord
from tellegen.operations.timetable import close_at, day_bounds, day_number
from tellegen.records import (
    Account,
    AllocationKeys,
    Awards,
    Clearings,
    ClearingStatus,
    Closes,
    GateOutcome,
    Gates,
    Line,
    Postings,
    Prices,
    Statements,
)

START = FIRST * 300
CLOSE = close_at(BOOK, DAY)
NOON = FIRST + 6
Script = Callable[[Play], None]


class Days:
    """Worlds that were played, and are closed at the end."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._held, self._count = folder, ExitStack(), 0

    def play(
        self,
        script: Script,
        until: int = CLOSE,
        plan: HamletPlan = SHORT_DAY,
        prices: Callable[..., None] = give_prices,
    ) -> Market:
        """Play one until a time; the market is left open."""
        self._count += 1
        hamlet = found(self._folder / str(self._count), plan)
        disk = SimulatedDisk(Random(0))
        disk.copy_in(hamlet.keys.path)
        databases = StoredDatabases(disk)
        play = Play(hamlet, disk, databases)
        self._held.callback(play.close)
        script(play)
        market = self._held.enter_context(Market.open(play.path, storage=disk, databases=databases))
        prices(market, play.clock.now())
        play.operate(market, until)
        assert market.ledger.trial_balance() == 0
        assert differing(parts_of(market.state), parts_of(folded_from_zero(market.record))) == []
        return market

    def close(self) -> None:
        self._held.close()


@pytest.fixture
def days(tmp_path: Path) -> Iterator[Days]:
    worlds = Days(tmp_path)
    yield worlds
    worlds.close()


@pytest.fixture(scope="module")
def in_time(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Market]:
    """A day on which nothing happens."""
    worlds = Days(tmp_path_factory.mktemp("days"))
    yield worlds.play(everyday)
    worlds.close()


def everyday(play: Play, missing: dict[int, list[int]] | None = None) -> None:
    """Bids, readings and ticks of the first day."""
    play.day_ahead(DAY, START - 400)
    play.everyday(range(FIRST, FIRST + 12), missing)


def postings_of(record: ShardRecord, feeder: str = "") -> Postings:
    found = [i for i in record.journal.find(kind=Postings.kind) if feeder in ("", record.header(i).feeder)]
    return Postings.concat([record.table(i, Postings) for i in found])


def quantities(postings: Postings, line: Line, customer: int) -> dict[int, int]:
    """Wh of a customer on a line, by interval."""
    mine = postings.take((postings.line == line) & (postings.account == customer))
    return {int(t): int(mine.quantity[mine.interval == t].sum()) for t in np.unique(mine.interval)}


def pools(record: ShardRecord, feeder: str, day: range) -> dict[Account, int]:
    """What is left of a feeder's pools of a day."""
    postings = postings_of(record, feeder)
    postings = postings.take((postings.interval >= day.start) & (postings.interval < day.stop))
    return {pool: int(postings.amount[postings.account == pool].sum()) for pool in (Account.RENT, Account.UNACCOUNTED)}


def fixed_nanos(record: ShardRecord, customer: int, day: date) -> int:
    postings = postings_of(record)
    first = day_bounds(record.rulebook, day)
    here = (postings.interval >= first.start) & (postings.interval < first.stop)
    return int(postings.amount[here & (postings.line == Line.NETWORK_FIXED) & (postings.account == customer)].sum())


def statuses(record: ShardRecord, interval: int) -> list[int]:
    found = record.journal.find(kind=Clearings.kind, market="real_time", interval=interval)
    return [int(record.table(i, Clearings).status[0]) for i in found]


# -- readings --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Message:
    """Readings of an interval by some customers, and seconds after their interval when they come."""

    interval: int
    who: list[int]
    after_s: int


def late(messages: list[Message]) -> Script:
    """Readings come when they come, whatever order that is."""

    def script(play: Play) -> None:
        missing: dict[int, list[int]] = {}
        for message in messages:
            missing.setdefault(message.interval, []).extend(message.who)
        everyday(play, missing)
        for k, message in enumerate(messages):
            at = min((message.interval + 1) * 300 + message.after_s, CLOSE - 1)
            play.at(at, partial(_come, play, message, k + 1))

    return script


def _come(play: Play, message: Message, part: int) -> int:
    return play.take(*play.hamlet.readings(message.interval, message.who, part=part))


@given(
    delays=st.lists(st.integers(30, 3_600), min_size=6, max_size=6),
    who=st.lists(
        st.lists(st.sampled_from([1, 2, 3, 5, 7, 9, 91]), min_size=1, max_size=3, unique=True), min_size=6, max_size=6
    ),
)
@settings(
    max_examples=6,
    deadline=None,
    derandomize=True,
    phases=(Phase.generate,),
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_readings_in_any_order_end_in_the_same_energy_books_and_statements(
    days: Days, in_time: Market, delays: list[int], who: list[list[int]]
) -> None:
    """Prices as they are: bids do not depend on who was read."""
    intervals = [FIRST + k for k in (1, 2, 3, 4, 7, 9)]
    messages = [Message(*each) for each in zip(intervals, who, delays, strict=True)]
    same_end(in_time, days.play(late(messages)))


def same_end(one: Market, two: Market) -> None:
    """The same energy is believed, and the same is owed on every line."""
    assert Outcome.of(one.record).prices == Outcome.of(two.record).prices
    final = one.state.is_final(FIRST)  # nobody asks any more which version counts
    for k in range(len(NAMES)):
        for interval in range(FIRST, FIRST if final else FIRST + 12):
            energy = [believed(m.record, m.state, k, interval)[0] for m in (one, two)]
            for name in ("customer", "import_wh", "export_wh"):
                assert np.array_equal(*(getattr(rows, name) for rows in energy)), (k, interval, name)
    assert one.ledger.balances_by_line() == two.ledger.balances_by_line()
    assert cents(one.record) == cents(two.record)


def cents(record: ShardRecord) -> dict[int, int]:
    """What each customer was invoiced so far."""
    rows = Statements.concat([record.table(i, Statements) for i in record.journal.find(kind=Statements.kind)])
    return {int(c): int(rows.cents[rows.customer == c].sum()) for c in np.unique(rows.customer)}


def test_readings_of_a_closed_day_end_in_the_same_bills_at_the_next_close(days: Days) -> None:
    """What was estimated is billed, and put right: after both closes it is as if all had come in time."""
    end = close_at(BOOK, NEXT)

    def night(play: Play) -> None:
        asleep = CLOSE + 1_000
        play.at(asleep, lambda: play.clock.wait(end - 60))
        play.at(end - 30, play.tick)
        play.at(end + 30, play.tick)

    def in_time(play: Play) -> None:
        everyday(play)
        night(play)

    def afterwards(play: Play) -> None:
        # the keys of the second day are frozen before these intervals are settled: they are the same
        everyday(play, {FIRST + 10: [2], FIRST + 11: [2, 7, 92]})
        hand = play.hamlet.readings
        play.at(CLOSE + 40, lambda: play.take(*hand(FIRST + 11, [2, 92], part=1)))
        play.at(CLOSE + 50, lambda: play.take(*hand(FIRST + 10, [2], part=1)))
        play.at(CLOSE + 60, lambda: play.take(*hand(FIRST + 11, [7], part=2)))
        night(play)

    one, two = days.play(in_time, end), days.play(afterwards, end)
    same_end(one, two)
    for feeder in NAMES:
        assert set(pools(two.record, feeder, day_bounds(BOOK, DAY)).values()) == {0}
    # rules change at midnight: each gate names those of its own day
    book = two.record.rulebook
    for index in two.record.journal.find(kind=Gates.kind):
        header, rows = two.record.header(index), two.record.table(index, Gates)
        day = two.state.date_of(header.interval)
        assert {bytes(each) for each in rows.rules} == {bytes.fromhex(book.at(day).sha256)}


# -- gates -----------------------------------------------------------------------------------------------------------


def down(interval: int, until_s: int) -> Script:
    """An everyday hour in which the operator is down from before a gate until some seconds after it."""

    def script(play: Play) -> None:
        everyday(play)
        at = interval * 300
        play.at(at - 1, lambda: play.clock.wait(at + until_s))

    return script


def test_a_missed_gate_is_never_cleared_and_settles_at_the_administrative_price(days: Days) -> None:
    market = days.play(down(NOON, 900))
    record = market.record
    for interval, outcome in ((NOON, GateOutcome.MISSED), (NOON + 1, GateOutcome.MISSED)):
        (gate,) = record.journal.find(kind=Gates.kind, market="real_time", interval=interval)
        assert {*record.table(gate, Gates).outcome.tolist()} == {outcome}
        assert statuses(record, interval) == [ClearingStatus.ADMINISTRATIVE] * 2
        assert not list(record.journal.find(kind=Awards.kind, market="real_time", interval=interval))
        size = len(record.journal)
        market.close_gate("real_time", interval, CLOSE)
        assert len(record.journal) == size
    assert statuses(record, NOON + 3) == [ClearingStatus.OPTIMAL] * 2
    # the last spread of each node over the wholesale price of the interval
    last, now = (
        record.table(next(iter(record.journal.find(kind=Prices.kind, market="real_time", interval=t))), Prices)
        for t in (NOON - 1, NOON)
    )
    step = [int(root_prices([t]).micros[0]) for t in (NOON - 1, NOON)]
    assert np.array_equal(now.energy - step[1], last.energy - step[0])


def test_an_interval_without_a_wholesale_price_is_not_cleared_and_says_so(days: Days) -> None:
    market = days.play(everyday)
    (gate,) = market.record.journal.find(kind=Gates.kind, market="real_time", interval=UNPRICED)
    assert {*market.record.table(gate, Gates).outcome.tolist()} == {GateOutcome.NO_PRICE}
    assert statuses(market.record, UNPRICED) == [ClearingStatus.ADMINISTRATIVE] * 2
    assert market.take_prices("real_time", root_prices([UNPRICED]), CLOSE) == 0  # too late


def test_who_bids_on_the_past_while_the_operator_is_down_does_not_count(days: Days) -> None:
    """The gate closes late and clears with the bids that were there at its time."""

    def greedy(play: Play) -> None:
        down(NOON, 200)(play)
        bids = play.hamlet.bids
        play.at(NOON * 300 + 30, lambda: play.take(*bids("real_time", NOON, sequence=9, part=1, dearer_micros=900_000)))

    honest, market = days.play(down(NOON, 200)), days.play(greedy)
    assert statuses(market.record, NOON) == [ClearingStatus.OPTIMAL] * 2
    assert Outcome.of(honest.record).difference(Outcome.of(market.record)) == ""


@pytest.mark.parametrize("first", [False, True])
def test_the_highest_signed_number_counts_whichever_comes_last(days: Days, first: bool) -> None:
    def script(play: Play) -> None:
        everyday(play)
        bids = play.hamlet.bids
        for sequence, dearer, after in ((5, 50_000, 10 if first else 30), (3, 400_000, 20)):
            play.at(
                NOON * 300 - 100 + after,
                lambda s=sequence, d=dearer: play.take(  # type: ignore[misc]
                    *bids("real_time", NOON, sequence=s, part=s, dearer_micros=d)
                ),
            )

    def alone(play: Play) -> None:
        everyday(play)
        bids = play.hamlet.bids
        play.at(NOON * 300 - 90, lambda: play.take(*bids("real_time", NOON, sequence=5, part=5, dearer_micros=50_000)))

    assert Outcome.of(days.play(script).record).difference(Outcome.of(days.play(alone).record)) == ""


# -- who is connected ------------------------------------------------------------------------------------------------


def test_a_move_after_the_day_ahead_gate_is_bought_back_where_it_cleared(days: Days) -> None:
    """And one cannot earn by it: the new place begins with nothing sold forward."""

    def script(play: Play) -> None:
        everyday(play)
        play.at(START + 600, lambda: play.take(play.hamlet.registered(Move(NOON, 2, street=1, place=4), FIRST + 2)))

    record = days.play(script).record
    old, new = (postings_of(record, feeder) for feeder in NAMES)
    forward = quantities(old, Line.FORWARD, 2)
    assert {*forward} == {*range(FIRST, FIRST + 12)}
    assert not quantities(new, Line.FORWARD, 2)
    bought_back, deviates = quantities(old, Line.REAL_TIME, 2), quantities(old, Line.IMBALANCE, 2)
    for interval in range(NOON, FIRST + 12):
        assert forward[interval] > 0
        # at an administrative price nothing is traded in real time: all that differs deviates
        assert (deviates if interval == UNPRICED else bought_back)[interval] == -forward[interval]
    assert {*quantities(new, Line.REAL_TIME, 2), *quantities(new, Line.IMBALANCE, 2)} >= {NOON + 1}
    fixed = record.rulebook.at(DAY).settlement.network_fixed_nanos_per_day
    assert fixed_nanos(record, 2, DAY) == fixed


def test_who_joins_leaves_or_has_its_meter_exchanged_at_noon(days: Days) -> None:
    moves = (Move(NOON, 4, 0, 3), Move(NOON, 7, -1), Move(NOON, 1, 0, 0, meter=1_000_001_001))
    plan = HamletPlan(FIRST, BOOK, DAY.isoformat(), moves=moves, absent=(4,))
    market = days.play(everyday, plan=plan)
    record = market.record
    fixed = record.rulebook.at(DAY).settlement.network_fixed_nanos_per_day
    assert [fixed_nanos(record, customer, DAY) for customer in (1, 2, 4, 7)] == [fixed, fixed, fixed // 2, fixed // 2]
    drawn = quantities(postings_of(record), Line.NETWORK_ENERGY, 1)
    assert min(drawn[t] for t in range(NOON + 1, FIRST + 12)) > 0
    rows = Statements.concat([record.table(i, Statements) for i in record.journal.find(kind=Statements.kind)])
    assert {*rows.customer.tolist()} == {*EVERYBODY.tolist()}
    for feeder in NAMES:
        assert set(pools(record, feeder, day_bounds(BOOK, DAY)).values()) == {0}


def test_a_day_without_keys_closes_by_the_time_connected(days: Days) -> None:
    """The first day of a shard that knows nothing of anybody."""
    record = days.play(everyday).record
    keys = record.journal.find(kind=AllocationKeys.kind, interval=FIRST)
    assert len(keys) == 2
    assert not any(record.table(entry, AllocationKeys).weight_wh.any() for entry in keys)
    for feeder in NAMES:
        assert set(pools(record, feeder, day_bounds(BOOK, DAY)).values()) == {0}


@pytest.mark.parametrize(("day", "hours"), [(date(2016, 3, 27), 23), (date(2016, 10, 30), 25)])
def test_days_of_23_and_25_hours_close(days: Days, day: date, hours: int) -> None:
    book = rules({"2016-01-01": {}})
    bounds = day_bounds(book, day)
    until = close_at(book, day)

    def script(play: Play) -> None:
        play.at(bounds.start * 300 + 1, lambda: play.take(*play.hamlet.readings(bounds.start - 1)))
        play.at(bounds.start * 300 + 2, lambda: play.clock.wait(until - 60))
        play.at(until - 120, lambda: play.take(*play.hamlet.readings(bounds.stop - 2)))
        play.at(until + 1, play.tick)

    plan = HamletPlan(bounds.start, book, day.isoformat())
    record = days.play(script, until + 2, plan, prices=lambda market, at: None).record
    (first, _) = [record.table(i, Closes) for i in record.journal.find(kind=Closes.kind)]
    assert int(first.intervals[0]) == len(bounds) == 12 * hours
    fixed = record.rulebook.at(day).settlement.network_fixed_nanos_per_day
    assert [fixed_nanos(record, int(customer), day) for customer in EVERYBODY] == [fixed] * 9
    assert first.day.tolist() == [day_number(day)]
