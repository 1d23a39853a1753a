"""A day-ahead gate is cleared beside real time, to what it would have come to at once."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from tellegen.assess.faults.hamlet import NAMES, SUBSTATIONS, Hamlet, Move, found, network
from tellegen.assess.faults.hamlet_play import BOOK, FIRST, SHORT_DAY, Play, give_prices, short_day
from tellegen.grid import Engine
from tellegen.operations.book import Book
from tellegen.operations.credit import Exposure
from tellegen.operations.market import Market
from tellegen.operations.refusals import NotYetError
from tellegen.operations.rerun import rerun
from tellegen.operations.state import Gate
from tellegen.operations.tasks import TaskMaker
from tellegen.operations.timetable import Verb, day_ahead_deadline
from tellegen.operations.topology import Feeder
from tellegen.records import Awards, Clearings, GateOutcome, Gates, Prices, Schedules, Starts
from tellegen.records.market import DAY_AHEAD, REAL_TIME
from tellegen.units import MARKET_INTERVAL_S
from tellegen.verify import verify_directory

START = FIRST * MARKET_INTERVAL_S
LATER = START + 2 * MARKET_INTERVAL_S + 61  # two intervals are settled
CLEARED = (Awards, Schedules, Prices, Starts)


@pytest.fixture(scope="module")
def shard(tmp_path_factory: pytest.TempPathFactory) -> Hamlet:
    """Two streets, each with wires of its own."""
    wires, _ = network()
    feeders = [
        Feeder(name, replace(wires, name=f"wires of {name}"), root)
        for name, root in zip(NAMES, SUBSTATIONS, strict=True)
    ]
    return found(tmp_path_factory.mktemp("hamlet") / "shard", SHORT_DAY, feeders)


@contextmanager
def playing(shard: Hamlet, folder: Path, **options: object) -> Iterator[tuple[Play, Market]]:
    """A copy of the shard, its clock at the day-ahead gate of its first day, whose record is there."""
    path = Path(shutil.copytree(shard.keys.path, folder / "shard"))
    play = Play(Hamlet(replace(shard.keys, path=path), SHORT_DAY))
    short_day(play)
    with Market.open(path, **options) as market:  # type: ignore[arg-type]
        give_prices(market, play.clock.now())
        yield play, market
    play.close()


def cleared(market: Market) -> dict[tuple[str, str, str, int], bytes]:
    """Everything that clearings put on record, wherever it stands."""
    journal, found = market.record.journal, {}
    for kind in CLEARED:
        for index in journal.find(kind=kind.kind):
            header = journal.entry(index)
            key = kind.kind, header.market, header.feeder, header.interval
            found[key] = market.record.table(index, kind).rows().tobytes()
    return found


@pytest.fixture(scope="module")
def at_once(shard: Hamlet, tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    with playing(shard, tmp_path_factory.mktemp("at once")) as (play, market):
        play.operate(market, LATER)
        return {"cleared": cleared(market), "balances": market.ledger.balances_by_line()}


@pytest.mark.parametrize("processes", [0, 1])
def test_beside_real_time_a_day_is_cleared_to_the_same(
    shard: Hamlet, at_once: dict[str, object], tmp_path: Path, processes: int
) -> None:
    with playing(shard, tmp_path, timed=True, processes=processes) as (play, market):
        play.operate(market, LATER)
        assert cleared(market) == at_once["cleared"]
        assert market.ledger.balances_by_line() == at_once["balances"]
        journal = market.record.journal
        gate = journal.find(kind=Gates.kind, market=DAY_AHEAD)[0]
        first = journal.find(kind=Clearings.kind, market=REAL_TIME)[0]
        assert gate < first < journal.find(kind=Clearings.kind, market=DAY_AHEAD)[0]
        told = [event for event in play.events if event.due is not None and event.due.verb is Verb.CLOSE_DAY_AHEAD]
        assert [event.due.key for event in told if event.due] == [FIRST]
        assert (told[0].result.status == 0).all()  # type: ignore[attr-defined]
    assert verify_directory(play.path).ok
    assert all(check.ok for check in rerun(play.path))


def test_a_market_that_was_stopped_goes_on_where_it_was(
    shard: Hamlet, at_once: dict[str, object], tmp_path: Path
) -> None:
    with playing(shard, tmp_path, timed=True) as (play, market):
        play.clock.wait(START)
        market.open_day(BOOK.versions[0].effective, START)
        market.close_gate(DAY_AHEAD, FIRST, START)
        assert market.work(START, 1.0) is None
        assert market.clearing == FIRST
        market.close()
        with Market.open(play.path, timed=True) as again:
            assert again.clearing == FIRST
            assert len(again.record.journal.find(kind=Clearings.kind, market=DAY_AHEAD)) == 1
            play.operate(again, LATER)
            assert cleared(again) == at_once["cleared"]
            assert again.ledger.balances_by_line() == at_once["balances"]


def test_a_feeder_that_is_late_has_no_day_ahead_market(shard: Hamlet, tmp_path: Path) -> None:
    with playing(shard, tmp_path, timed=True) as (play, market):
        play.clock.wait(START)
        market.close_gate(DAY_AHEAD, FIRST, START)
        assert market.work(START + 10, 1.0) is None
        deadline = day_ahead_deadline(BOOK, BOOK.versions[0].effective)
        assert market.work(deadline, 0.0) is None
        came_to = market.work(deadline + 1, 1.0)
        assert came_to is not None
        assert came_to.status.tolist() == [0, -1]
        assert outcomes(market) == [GateOutcome.CLOSED, GateOutcome.DEADLINE]
        assert market.clearing is None
        play.operate(market, LATER)
        assert market.state.settled == FIRST + 1
    assert verify_directory(play.path).ok
    assert all(check.ok for check in rerun(play.path))


def test_nothing_settles_before_its_day_ahead_market_is_known(shard: Hamlet, tmp_path: Path) -> None:
    with playing(shard, tmp_path, timed=True) as (play, market):
        play.clock.wait(START)
        market.close_gate(DAY_AHEAD, FIRST, START)
        market.close_gate(REAL_TIME, FIRST, START)
        with pytest.raises(NotYetError, match=f"the day-ahead market of interval {FIRST} is still being cleared"):
            market.settle(FIRST, START + 1)


def outcomes(market: Market) -> list[GateOutcome]:
    gate = market.state.gates[DAY_AHEAD, FIRST]
    return [gate.outcome(k) for k in range(len(NAMES))]


class Killer:
    """A network that kills whoever reads it."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return exec, ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)",)


@pytest.mark.parametrize("name", [DAY_AHEAD, REAL_TIME])
def test_a_worker_that_is_killed_twice_over_a_feeder_costs_that_feeder_alone(
    shard: Hamlet, at_once: dict[str, object], tmp_path: Path, name: str
) -> None:
    with playing(shard, tmp_path, timed=True, processes=1) as (play, market):
        play.clock.wait(START)
        market._clearers._networks["wires of H2"] = Killer()  # type: ignore[assignment]
        if name == REAL_TIME:
            market.close_gate(REAL_TIME, FIRST, START)
            row = market.state.gates[REAL_TIME, FIRST].rows
            assert row.outcome.tolist() == [GateOutcome.CLOSED, GateOutcome.DEADLINE]
            assert (market.state.gates[REAL_TIME, FIRST].cleared >= 0).all()  # H2 at the rulebook's price
        else:
            market.close_gate(DAY_AHEAD, FIRST, START)
            while market.work(START, 60.0) is None:
                continue
            assert outcomes(market) == [GateOutcome.CLOSED, GateOutcome.DEADLINE]
        expected = {key: said for key, said in at_once["cleared"].items() if key[1:] == (name, "H1", FIRST)}  # type: ignore[attr-defined]
        assert expected
        assert {key: said for key, said in cleared(market).items() if key[2] == "H1"} == expected


def test_who_moves_to_another_feeder_within_the_day_brings_no_part_of_a_watt_hour_along(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """Or it would matter which feeder is cleared first; from day to day on one feeder it does come along."""
    mover, next_day = 3, FIRST + 12
    plan = replace(SHORT_DAY, moves=(Move(next_day + 24, mover, 1, 0),))
    hamlet = found(tmp_path_factory.mktemp("mover") / "shard", plan)
    with Market.open(hamlet.keys.path) as market:
        hours = market.state.periods(DAY_AHEAD, next_day)
        market.state.accounts.carry(DAY_AHEAD, carrying(np.array([2, mover])))
        rows = np.zeros(2 * len(hours), dtype=Gates.row_dtype())
        rows["start"] = rows["spread_from"] = rows["taps_from"] = -1
        waiting = np.full((2, len(hours)), -1, dtype=np.int64)
        market.state.gates[DAY_AHEAD, next_day] = Gate(0, 0, Gates.from_rows(rows), waiting)
        market.state.exposed[next_day] = Exposure(np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64))
        maker = TaskMaker(market.record, market.state, Engine.SUPERLU)
        tasks = [maker.task(DAY_AHEAD, next_day, k, Book({})) for k in range(2)]
        brought = [dict(zip(task.customer.tolist(), task.carry[:, 0].tolist(), strict=True)) for task in tasks]
    assert (brought[0][2], brought[0][mover], brought[1][mover]) == (7, 0, 0)


def carrying(customer: NDArray[np.int64]) -> Schedules:
    columns = {name: np.zeros(customer.size, dtype=np.int64) for name in Schedules.row_dtype().names or ()}
    return Schedules(**columns | {"customer": customer, "carry_energy": np.full(customer.size, 7)})
