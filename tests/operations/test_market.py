"""The market's verbs: each in its order, each once, each a fold of what it put on record."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from playing import FIRST, ROOT_PRICE, Street, by_gates
from shards import MISSED, SECOND, THIRD

from tellegen.metering import DeviceCodes
from tellegen.operations.clearers import Clearers, Done
from tellegen.operations.gate import GateTask
from tellegen.operations.keeping import state_parts
from tellegen.operations.market import Market
from tellegen.operations.process import perform
from tellegen.operations.record import ShardRecord
from tellegen.operations.refusals import MarketError, NotYetError
from tellegen.operations.rerun import rerun
from tellegen.operations.settling import Settled
from tellegen.operations.state import State
from tellegen.operations.timetable import Verb, day_of, due, open_at, real_time_at, settle_at
from tellegen.operations.writer import folded
from tellegen.records import (
    Account,
    Clearings,
    ClearingStatus,
    Energy,
    GateOutcome,
    Gates,
    Line,
    Postings,
    Prices,
    Quality,
    Readings,
    Requirements,
    RootPrices,
    Route,
    Statement,
    Statements,
)
from tellegen.records.market import PRICE_RUN, REAL_TIME
from tellegen.rules import Rulebook
from tellegen.simulation.city.batches import Batch
from tellegen.simulation.shard import HEAD_END
from tellegen.units import MARKET_INTERVAL_S, NANOS_PER_CENT

METERS = 200
"""One feeder of the city."""
DAY_S = 86_400


def one_line(refusal: pytest.ExceptionInfo[MarketError]) -> str:
    text = str(refusal.value)
    assert "\n" not in text
    return text


def prices(micros: int, *intervals: int) -> RootPrices:
    count = len(intervals)
    return RootPrices(interval=list(intervals), micros=[micros] * count, source=np.full(count, b"test", dtype="S64"))


# Order


def test_each_verb_asserts_its_order_and_is_done_once(tmp_path: Path) -> None:
    street = Street(tmp_path / "shard", meters=METERS)
    with street.market() as market:
        book, day = market.book, day_of(market.book, FIRST)
        gate, settles = real_time_at(book, FIRST), settle_at(book, FIRST)

        def grows() -> int:
            return len(market.record.journal)

        assert market.take_prices(REAL_TIME, prices(ROOT_PRICE, FIRST), gate - 60) == 1
        size = grows()
        assert market.take_prices(REAL_TIME, prices(ROOT_PRICE, FIRST), gate - 60) == 0
        assert grows() == size

        with pytest.raises(MarketError, match="not at") as refusal:
            market.close_gate(REAL_TIME, FIRST, gate - 1)
        one_line(refusal)
        with pytest.raises(NotYetError, match="has not reached") as refusal:
            market.close_gate(REAL_TIME, FIRST, gate)
        one_line(refusal)
        with pytest.raises(MarketError, match="close its gate first") as refusal:
            market.settle(FIRST, settles)
        one_line(refusal)
        with pytest.raises(MarketError, match="no feeder 'F9999'") as refusal:
            market.take_requirements(REAL_TIME, "F9999", Requirements.empty(), gate)
        one_line(refusal)
        assert grows() == size

        street.clock.wait(gate - 1)
        street.bid(FIRST)
        street.clock.wait(gate)
        street.tick()
        assert market.close_gate(REAL_TIME, FIRST, gate).status.size == 1
        size = grows()
        market.close_gate(REAL_TIME, FIRST, gate)
        assert market.take_prices(REAL_TIME, prices(2 * ROOT_PRICE, FIRST), gate) == 0
        assert grows() == size, "what a gate was cleared with stands"

        with pytest.raises(MarketError, match="not at") as refusal:
            market.settle(FIRST, settles - 1)
        one_line(refusal)
        with pytest.raises(NotYetError, match="has not reached"):
            market.settle(FIRST, settles)
        street.clock.wait(settles)
        street.tick()
        assert market.settle(FIRST, settles).customers == METERS
        size = grows()
        assert market.settle(FIRST, settles) == Settled(0, 0, 0)
        assert grows() == size

        with pytest.raises(MarketError, match="not due at"):
            market.correct(settles + 1, settles)
        with pytest.raises(MarketError, match="is not settled") as refusal:
            market.close_day(day, settles)
        assert f"interval {FIRST + 1}" in one_line(refusal)
        assert not market.finalise(day, settles), "what is not closed is not final"
        assert market.snapshot(settles)
        assert not market.snapshot(settles)
        assert market.open_day(day, settles)
        assert not market.open_day(day, settles)
    street.close()


def test_a_market_that_has_settled_nothing_has_all_of_its_first_day_left_to_do(tmp_path: Path) -> None:
    """Whether or not anything is on its record yet."""
    street = Street(tmp_path / "shard", meters=METERS)
    for _ in range(2):
        with street.market() as market:
            assert market.first_day is not None
            begins = open_at(market.book, market.first_day)
            assert market.done_until == begins - 1
            first = due(market.book, market.done_until, begins, market.first_day)[0]
            assert (first.verb, first.day) == (Verb.OPEN_DAY, market.first_day)
            market.take_prices(REAL_TIME, prices(ROOT_PRICE, FIRST), street.clock.now())
    street.close()


def test_whatever_is_asked_for_again_is_on_record_already(shard_copy: Path) -> None:
    """After two closes and the end the whole timetable is gone through once more: nothing comes of it."""
    with Market.open(shard_copy) as market:
        size, balances = len(market.record.journal), market.ledger.balances_by_line()
        now = market.record.journal.known_at(size - 1)
        asked = due(market.book, market.done_until - DAY_S, now, market.first_day)
        assert {each.verb for each in asked} == {*Verb}
        for each in asked:
            perform(market, each, now)
            assert market.is_done(each) or each.verb in {Verb.CORRECT, Verb.SNAPSHOT, Verb.PUBLISH}
            assert len(market.record.journal) == size, each
        assert market.ledger.balances_by_line() == balances


# Gates


def test_a_gate_without_a_wholesale_price_is_never_cleared(shard_directory: Path) -> None:
    """It settles at the rulebook's administrative price, and says so."""
    with ShardRecord.open(shard_directory) as record:
        (gate,) = record.journal.find(kind=Gates.kind, market=REAL_TIME, interval=MISSED)
        assert set(record.table(gate, Gates).outcome.tolist()) == {GateOutcome.NO_PRICE}
        entries = record.journal.find(kind=Clearings.kind, market=REAL_TIME, interval=MISSED)
        status = [int(record.table(entry, Clearings).status[0]) for entry in entries]
        assert status == [ClearingStatus.ADMINISTRATIVE] * len(record.feeders)


# The fold


def test_a_market_opened_from_its_snapshot_knows_what_its_whole_record_says(shard_directory: Path) -> None:
    with ShardRecord.open(shard_directory) as some, ShardRecord.open(shard_directory, use_snapshot=False) as all_:
        assert some.kept.market_size > all_.kept.market_size <= 0
        assert same_state(folded(some), folded(all_)) == []


def same_state(one: State, other: State) -> list[str]:
    """Columns in which two states differ."""
    a, b = state_parts(one), state_parts(other)
    assert a.keys() == b.keys()
    return [
        f"{part}/{name}"
        for part in a
        for name in a[part].keys() | b[part].keys()
        if name not in a[part] or name not in b[part] or not np.array_equal(a[part][name], b[part][name])
    ]


# Days


def test_a_closed_day_leaves_nothing_with_the_operator(shard_directory: Path) -> None:
    """law 8: every transaction sums to zero, and the pools of each day are shared out, late readings included."""
    with ShardRecord.open(shard_directory) as record:
        for first, last in ((SECOND - 12, SECOND), (SECOND, THIRD)):
            pools = {Account.RENT: 0, Account.UNACCOUNTED: 0}
            for entry in record.journal.find(kind=Postings.kind):
                rows = record.table(entry, Postings)
                assert int(rows.amount.sum()) == 0
                about = (rows.interval >= first) & (rows.interval < last)
                for account in pools:
                    pools[account] += int(rows.amount[about & (rows.account == account)].sum())
            assert pools == {Account.RENT: 0, Account.UNACCOUNTED: 0}


def test_cents_invoiced_so_far_are_what_was_posted_until_the_last_close(shard_directory: Path) -> None:
    """law 1: whole cents, and each account behind them is whole cents, too, though differences were carried over."""
    owed: dict[int, int] = {}
    invoiced: dict[int, int] = {}
    with ShardRecord.open(shard_directory) as record:
        statements = record.journal.find(kind=Statements.kind)
        for entry in record.journal.find(kind=Postings.kind):
            if entry < max(statements):
                rows = record.table(entry, Postings)
                for account, amount in zip(rows.account.tolist(), rows.amount.tolist(), strict=True):
                    if account > 0:
                        owed[account] = owed.get(account, 0) + amount
        for entry in statements:
            said = record.table(entry, Statements)
            for customer, cents in zip(said.customer.tolist(), said.cents.sum(axis=1).tolist(), strict=True):
                invoiced[customer] = invoiced.get(customer, 0) + cents * NANOS_PER_CENT
    assert any(invoiced.values())
    assert owed == invoiced


# Readings

HELD = range(FIRST + 2, FIRST + 5)
"""Intervals of which some readings do not come in time."""


def some_late(interval: int, readings: Readings) -> NDArray[np.bool_]:
    """Of five customers three intervals in a row come late, of two the middle one; and the substation's of one."""
    held = (readings.customer % 40 == 3) & (interval in HELD)
    held |= (readings.customer % 100 == 9) & (interval == FIRST + 3)
    held |= (readings.customer > METERS) & (interval == FIRST + 4)
    return np.asarray(~held)


def played(
    folder: Path, arrivals: tuple[tuple[int, ...], ...], rules: Rulebook | None = None
) -> tuple[dict[tuple[int, int], int], State]:
    """Books and state after seven intervals; each group of intervals comes late together, then what is late settles."""
    rules = by_gates(Rulebook.load()) if rules is None else rules
    street = Street(folder, meters=METERS, keep=some_late if arrivals else None, rulebook=rules)
    with street.market() as market:
        street.prices(market, range(FIRST, FIRST + 8))
    street.schedule(range(FIRST, FIRST + 8))
    street.play((FIRST + 7) * MARKET_INTERVAL_S + 70)
    with street.market() as market:
        for group in arrivals:
            for interval in group:
                for batch in street.kept_back.pop(interval):
                    assert street.take(batch) > 0
            street.intake.commit()
            street.clock.wait(street.clock.now() + 1)
            street.tick()
            at = street.clock.now()
            assert market.correct(at, at).edits
        assert not street.kept_back
        answer = market.ledger.balances_by_line(), market.state
    street.close()
    return answer


@pytest.fixture(scope="module")
def in_time(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[tuple[int, int], int], State]:
    """Everything came in time."""
    return played(tmp_path_factory.mktemp("in time") / "shard", ())


@pytest.mark.parametrize(
    "arrivals",
    [
        (tuple(HELD),),
        (tuple(reversed(HELD)),),
        ((FIRST + 4,), (FIRST + 2,), (FIRST + 3,)),
        ((FIRST + 3,), (FIRST + 2, FIRST + 4)),
    ],
    ids=["together", "together, the last first", "one by one, the middle last", "the middle first"],
)
def test_readings_that_arrive_in_any_order_end_in_the_same_books(
    in_time: tuple[dict[tuple[int, int], int], State], tmp_path: Path, arrivals: tuple[tuple[int, ...], ...]
) -> None:
    books, state = played(tmp_path / "shard", arrivals)
    assert books == in_time[0]
    meters, expected = state.meters.parts(), in_time[1].meters.parts()
    assert meters.keys() == expected.keys()
    assert [name for name in meters if not np.array_equal(meters[name], expected[name])] == []


def test_the_price_of_a_run_stands_and_late_readings_move_energy_alone(tmp_path: Path) -> None:
    """In whatever order they come: each is settled at the price that was made without it."""
    ways = (tuple(HELD),), ((FIRST + 4,), (FIRST + 2, FIRST + 3))
    books = []
    for number, arrivals in enumerate(ways):
        folder = tmp_path / str(number)
        books.append(played(folder, arrivals, Rulebook.load())[0])
        with ShardRecord.open(folder) as record:
            runs = record.journal.find(kind=Clearings.kind, market=PRICE_RUN)
            assert len(runs) == 7  # one an interval, none for what came late
            for index in record.journal.find(kind=Postings.kind):
                table = record.table(index, Postings)
                here = table.take((table.line == Line.IMBALANCE) & (table.interval == FIRST + 2))
                if len(here):
                    prices = record.table(record.cause(runs[2], Prices), Prices)
                    assert set(here.price.tolist()) <= set(prices.energy.tolist())
    assert books[0] == books[1]


def test_a_run_that_is_not_done_in_time_leaves_the_rulebook_s_price(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Settlement goes on; on record stands why, and a replay agrees."""
    plain = Clearers.clear

    def late(self: Clearers, tasks: Sequence[GateTask], *, within_s: float | None = None) -> Iterator[Done]:
        if tasks and tasks[0].market == PRICE_RUN:
            return iter([Done(place, (), "not done in time") for place in range(len(tasks))])
        return plain(self, tasks, within_s=within_s)

    street = Street(tmp_path / "shard", meters=METERS)
    with street.market() as market:
        street.prices(market, range(FIRST, FIRST + 3))
    street.schedule(range(FIRST, FIRST + 3))
    with monkeypatch.context() as patch:
        patch.setattr(Clearers, "clear", late)
        street.play((FIRST + 2) * MARKET_INTERVAL_S + 70)
    street.close()
    with ShardRecord.open(street.folder) as record:
        (run,) = record.journal.find(kind=Gates.kind, market=PRICE_RUN, interval=FIRST + 1)
        assert set(record.table(run, Gates).outcome.tolist()) == {GateOutcome.DEADLINE}
        (cleared,) = record.journal.find(kind=Clearings.kind, market=PRICE_RUN, interval=FIRST + 1)
        assert int(record.table(cleared, Clearings).status[0]) == ClearingStatus.ADMINISTRATIVE
        assert record.journal.find(kind=Postings.kind, interval=FIRST + 1)
    assert [check.name for check in rerun(street.folder) if not check.ok] == []


@pytest.mark.parametrize("known", [True, False])
def test_the_first_interval_is_measured_where_registers_were_read_before_it(tmp_path: Path, known: bool) -> None:
    """A difference takes two registers; without the first there is only an estimate."""
    street = Street(tmp_path / "shard", meters=METERS)
    with street.market() as market:
        street.prices(market, range(FIRST, FIRST + 2))
    street.schedule(range(FIRST, FIRST + 2))
    if known:
        street.clock.at(FIRST * MARKET_INTERVAL_S, lambda: street.take(base(street)) and street.intake.commit())
    street.play((FIRST + 1) * MARKET_INTERVAL_S + 70)
    street.close()
    with ShardRecord.open(street.folder) as record:
        (entry,) = record.journal.find(kind=Energy.kind, interval=FIRST)
        quality = record.table(entry, Energy).quality
    assert set(quality.tolist()) == {Quality.MEASURED if known else Quality.ESTIMATED}


def base(street: Street) -> Batch:
    """Every register stands at zero when the first interval begins; a counter that its head-end does not use."""
    population, keys = street.population, street.keys
    customer = np.append(population.customer, [feeder.substation for feeder in population.feeders]).astype(np.int32)
    zero, one = np.zeros(customer.size, dtype=np.int64), np.ones(customer.size, dtype=np.int64)
    meter = keys.meters_of(customer)
    untagged = Readings(
        customer=customer,
        meter=meter,
        counter=one,
        import_wh=zero,
        export_wh=zero,
        reactive_varh=zero,
        voltage_mv=230_000 * one,
        tag=np.zeros(customer.size, dtype="V16"),
    )
    body = DeviceCodes(keys.meter_master, meter).tag(untagged, FIRST - 1).rows().tobytes()
    feeder = population.feeders[0].name
    statement = Statement.of(keys.origin, Route.READINGS, HEAD_END, feeder, "", FIRST - 1, 3_000_000, body)
    return Batch(statement, keys.sign_as(HEAD_END, statement.to_bytes()), body, customer.size)
