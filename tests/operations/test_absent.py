"""Who is connected and sends no order stands, in a gate of real time, at what its meter showed last."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from tellegen.assess.faults import hamlet
from tellegen.assess.faults.hamlet import NAMES, STREETS, HamletPlan, root_prices
from tellegen.assess.faults.hamlet_play import Play
from tellegen.operations.market import Market
from tellegen.operations.reading import read_round
from tellegen.operations.record import ShardRecord
from tellegen.operations.rerun import rerun
from tellegen.operations.timetable import day_bounds, settle_at
from tellegen.records import OPERATOR, Awards, Energy, Holds, Product, Schedules
from tellegen.records.market import REAL_TIME
from tellegen.rules import Rulebook
from tellegen.units import INTERVALS_PER_HOUR, MARKET_INTERVAL_S
from tellegen.verify import verify_directory


def rules(**keys: str) -> Rulebook:
    """The default rules, by which the least that is not delivered is too much, and as given."""
    text = Rulebook.load().versions[0].content.decode().replace("hold_wh = 5000", "hold_wh = 0")
    for key, value in keys.items():
        assert f"{key} = true" in text
        text = text.replace(f"{key} = true", f"{key} = {value}")
    return Rulebook.parse({"2016-01-01.toml": text.encode()}, "absent")


DAY = date(2016, 6, 1)
FIRST = day_bounds(rules(), DAY).start
QUIET, INTERVALS = range(FIRST + 3, FIRST + 6), 8
"""Intervals at whose gates meters have shown something."""


def play_quiet(folder: Path, book: Rulebook) -> None:
    """Meters are read, and nobody bids for anything."""
    play = Play(hamlet.found(folder / "shard", HamletPlan(FIRST, book, DAY.isoformat())))
    play.at(FIRST * MARKET_INTERVAL_S + 1, lambda: play.take(*play.hamlet.readings(FIRST - 1)))
    for t in range(FIRST, FIRST + INTERVALS):
        play.at(t * MARKET_INTERVAL_S, play.tick)
        play.at((t + 1) * MARKET_INTERVAL_S + 20, partial(play._read, t, []))
        play.at((t + 1) * MARKET_INTERVAL_S + 60, play.tick)
    with Market.open(play.path) as market:
        market.take_prices(REAL_TIME, root_prices(range(FIRST, FIRST + INTERVALS)), play.clock.now())
        play.operate(market, settle_at(book, FIRST + INTERVALS - 1) + 1)
    play.close()


@pytest.fixture(scope="module")
def quiet(made_once: Callable[..., Path]) -> Path:
    return made_once("hours without bids", partial(play_quiet, book=rules())) / "shard"


def shown(record: ShardRecord, interval: int) -> dict[int, tuple[int, int]]:
    """What meters showed, Wh and varh, of those that moved."""
    energy = record.table(record.about(Energy, NAMES[0], interval)[0], Energy)
    energy = energy.take(energy.customer != OPERATOR)
    pairs = zip((energy.import_wh - energy.export_wh).tolist(), energy.reactive_varh.tolist(), strict=True)
    return dict(zip(energy.customer.tolist(), pairs, strict=True))


def scheduled(record: ShardRecord, interval: int) -> dict[int, tuple[int, int]]:
    found = record.table(record.about(Schedules, NAMES[0], interval, REAL_TIME)[0], Schedules)
    pairs = zip(found.energy_wh.tolist(), found.reactive_varh.tolist(), strict=True)
    return dict(zip(found.customer.tolist(), pairs, strict=True))


def test_the_gate_takes_what_meters_showed_last_and_awards_nothing(quiet: Path) -> None:
    with ShardRecord.open(quiet) as record:
        for t in QUIET:
            assert scheduled(record, t) == shown(record, t - 2)
            assert not len(record.table(record.about(Awards, NAMES[0], t, REAL_TIME)[0], Awards))
            orders, _ = read_round(record, NAMES[0], t).as_cleared()
            mine = orders.take(orders.product == Product.ENERGY)
            stood = dict(zip(mine.customer.tolist(), (mine.side * mine.quantity_w).tolist(), strict=True))
            assert stood == {who: wh * INTERVALS_PER_HOUR for who, (wh, _) in shown(record, t - 2).items() if wh}
        assert set(scheduled(record, QUIET[0])) == set(STREETS[0])


def test_nobody_is_held_for_what_it_never_claimed(quiet: Path) -> None:
    """Readings differ from interval to interval by more than half, and a single Wh would be too much."""
    with ShardRecord.open(quiet) as record:
        assert any(abs(wh - shown(record, FIRST)[who][0]) > 20 for who, (wh, _) in shown(record, FIRST + 2).items())
        assert record.journal.find(kind=Holds.kind) == []


def test_it_is_replayed_and_verified(quiet: Path) -> None:
    assert [check.name for check in rerun(quiet) if not check.ok] == []
    assert [check for check in verify_directory(quiet).checks if not check.ok] == []


@pytest.mark.parametrize(("key", "stays"), [("absent_stand", 0), ("stand_reactive", 1)])
def test_without_the_rules_the_gate_counts_nothing_of_them(tmp_path: Path, key: str, stays: int) -> None:
    play_quiet(tmp_path, rules(**{key: "false"}))
    with ShardRecord.open(tmp_path / "shard") as record:
        found = np.array(list(scheduled(record, QUIET[0]).values())).reshape(-1, 2)
        assert not found[:, stays:].any()
        assert bool(found[:, :stays].any()) == bool(stays)
