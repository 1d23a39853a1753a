"""A shard in which a roof's meter is silent: what its sun is paid once it is read, and that all who look agree."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import date
from pathlib import Path

import numpy as np
import pytest

from tellegen.assess.faults import hamlet
from tellegen.assess.faults.hamlet import SELLERS, STREETS, HamletPlan, root_prices
from tellegen.assess.faults.hamlet_play import Play
from tellegen.operations.corrections import clearing_of, first_energy
from tellegen.operations.market import Market
from tellegen.operations.record import ShardRecord
from tellegen.operations.rerun import rerun
from tellegen.operations.timetable import day_bounds, settle_at
from tellegen.records import Clearings, ClearingStatus, Edits, Line, Postings, Prices, Quality
from tellegen.rules import Rulebook
from tellegen.verify import verify_directory

SILENT, INTERVALS = SELLERS[0], 10
DAY = date(2016, 6, 1)
TEXT = Rulebook.load().versions[0].content.decode()
LIMITS = {"0": 0, "settled": None, "0.01": 10_000}


def rules(limit: str) -> Rulebook:
    text, found = re.subn(r'(?m)^late_feed_in = ".*"$', f'late_feed_in = "{limit}"', TEXT)
    assert found == 1
    return Rulebook.parse({"2016-01-01.toml": text.encode()}, "late feed-in")


FIRST = day_bounds(rules("0"), DAY).start
GAP = range(FIRST + 3, FIRST + 7)


def play_an_hour(folder: Path, limit: str) -> None:
    """The roof's meter is silent for four intervals, and all of them come late."""
    book = rules(limit)
    play = Play(hamlet.found(folder / "shard", HamletPlan(FIRST, book, DAY.isoformat())))
    play.everyday(range(FIRST, FIRST + INTERVALS), {t: [SILENT] for t in GAP})
    with Market.open(play.path) as market:
        market.take_prices("real_time", root_prices(range(FIRST, FIRST + INTERVALS)), play.clock.now())
        play.operate(market, settle_at(book, FIRST + INTERVALS - 1) + 1)
        for t in GAP:
            play.take(*play.hamlet.readings(t, [SILENT], part=1))
        play.clock.wait(play.clock.now() + 1)
        play.tick()
        at = play.clock.now()
        assert market.correct(at, at).edits
    play.close()


@pytest.fixture(params=list(LIMITS))
def hour(made_once: Callable[..., Path], request: pytest.FixtureRequest) -> tuple[Path, int | None]:
    limit = str(request.param)
    path = made_once(f"late feed-in {limit}", lambda folder: play_an_hour(folder, limit)) / "shard"
    return path, LIMITS[limit]


def test_sun_that_nobody_expected_and_nobody_read_is_paid_what_the_rules_say(hour: tuple[Path, int | None]) -> None:
    """By hand, from what is on record: first energy, last energy, price. The rest is rent."""
    path, limit = hour
    street = next(k for k, who in enumerate(STREETS) if SILENT in who)
    node = hamlet.network()[1][STREETS[street].index(SILENT)]
    seen = 0
    with ShardRecord.open(path) as record:
        tables = [record.table(index, Postings) for index in record.journal.find(kind=Postings.kind)]
        posted = Postings.concat(tables)
        posted = posted.take(posted.line == Line.IMBALANCE)
        edits = [record.table(index, Edits) for index in record.journal.find(kind=Edits.kind)]
        for t in GAP:
            clearing = clearing_of(record, street, t)
            assert int(record.table(clearing, Clearings).status[0]) != ClearingStatus.ADMINISTRATIVE
            price = int(record.table(record.cause(clearing, Prices), Prices).energy[node])
            first = first_energy(record, street, t)
            first = first.take(first.customer == SILENT)
            assert first.quality.tolist() == [Quality.ESTIMATED]
            counted = max(int(first.export_wh[0] - first.import_wh[0]), 0)
            rows = [each.take((each.customer == SILENT) & (each.interval == t)) for each in edits]
            (last,) = [each for each in rows if len(each)]
            shown = int(last.export_wh[0] - last.import_wh[0])
            late = max(shown - counted, 0) if limit is not None and price > limit else 0
            mine = posted.take((posted.account == SILENT) & (posted.interval == t))
            at_limit = mine.take((mine.price == limit) & (limit is not None))
            assert -int(at_limit.quantity.sum()) == late
            deviates = int(mine.amount.sum())
            awarded = int(mine.quantity.sum()) + shown  # what it was awarded is bought back at the price
            assert deviates == (-shown + awarded) * price + late * (price - (limit or 0))
            seen += late
        assert (seen > 0) == (limit is not None)


def test_replay_and_verify_agree_and_books_balance(hour: tuple[Path, int | None]) -> None:
    path, _ = hour
    assert [check.name for check in rerun(path) if not check.ok] == []
    assert [check for check in verify_directory(path).checks if not check.ok] == []
    with ShardRecord.open(path) as record:
        for index in record.journal.find(kind=Postings.kind):
            table = record.table(index, Postings)
            sums = np.zeros(INTERVALS + 1, dtype=np.int64)
            np.add.at(sums, np.clip(table.interval - FIRST, 0, INTERVALS), table.amount)
            assert not sums.any()
