"""A shard in which two roofs claim sun that does not shine: from the awards to the hold, and what it does."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tellegen.assess.faults import hamlet
from tellegen.assess.faults.folded import differing, folded_from_zero, parts_of
from tellegen.assess.faults.hamlet import NAMES, SELLERS, STREETS, HamletPlan, root_prices
from tellegen.assess.faults.hamlet_play import Play
from tellegen.operations.awards import awarded_to
from tellegen.operations.holds import all_holds, holds_behind
from tellegen.operations.keeping import restore, state_parts
from tellegen.operations.market import Market
from tellegen.operations.reading import read_round
from tellegen.operations.record import ShardRecord
from tellegen.operations.rerun import rerun
from tellegen.operations.state import State
from tellegen.operations.timetable import day_bounds, settle_at
from tellegen.records import (
    Awards,
    Clearings,
    Device,
    Orders,
    Prices,
    Refusal,
    RefusedOrders,
    Schedules,
    Side,
    sign_bids,
)
from tellegen.records.market import PRICE_RUN, REAL_TIME
from tellegen.rules import Rulebook
from tellegen.simulation.batches import bids_batch
from tellegen.simulation.shard import GATEWAY
from tellegen.units import INTERVALS_PER_HOUR, MARKET_INTERVAL_S, interval_start
from tellegen.verify import verify_directory

TRICKSTER = SELLERS[0]
INTERVALS, CLAIMED_FROM = 22, 9
CLAIMED_W = 5_000
"""As much as its roof is registered for: more is refused as such."""


def rules(**keys: object) -> Rulebook:
    """The default rules, with other bounds of a hold."""
    text = Rulebook.load().versions[0].content.decode()
    for key, value in keys.items():
        text, found = re.subn(rf"(?m)^{key} = .*$", f"{key} = {value}", text)
        assert found == 1, key
    return Rulebook.parse({"2016-01-01.toml": text.encode()}, "holds")


BOOK = rules(hold_share_percent='"65"', hold_wh=650, hold_hours=1)
DAY = date(2016, 6, 1)
FIRST = day_bounds(BOOK, DAY).start
FROM = FIRST + 5
"""A hamlet's roofs are awarded some 208 Wh an interval and show 45, beside which others miss little."""


def claim(play: Play, interval: int, quantity_w: int) -> None:
    """The trickster's sun, in place of what it bid before."""
    node = hamlet.network()[1][STREETS[0].index(TRICKSTER)]
    row = {name: np.zeros(1, dtype=np.int64) for name in Orders.row_dtype().names or ()}
    row |= {"customer": np.array([TRICKSTER]), "node": np.array([node]), "quantity_w": np.array([quantity_w])}
    row |= {"device": np.array([Device.PV]), "side": np.array([Side.SELL]), "price_taker": np.array([1])}
    orders, village = Orders(**row), play.hamlet
    signed = sign_bids(orders, village.keys.origin, NAMES[0], REAL_TIME, interval, 1, village._sign)
    batch = bids_batch(village.keys, signed, orders, NAMES[0], REAL_TIME, interval, 10_000_000 + interval)
    assert play.take(batch) == 1


def play_hours(folder: Path, book: Rulebook = BOOK, claimed_w: int = 0, stops: tuple[int, ...] = ()) -> None:
    """Two hours; from some interval on the trickster claims more.

    stops : the market is closed after each of these intervals, and goes on from a snapshot and the record.
    """
    play = Play(hamlet.found(folder / "shard", HamletPlan(FIRST, book, DAY.isoformat())))
    play.everyday(range(FIRST, FIRST + INTERVALS))
    for t in range(FIRST + CLAIMED_FROM, FIRST + INTERVALS) if claimed_w else ():
        play.at(t * MARKET_INTERVAL_S - 10, lambda t=t: claim(play, t, claimed_w))  # type: ignore[misc]
    for last in (*stops, FIRST + INTERVALS - 1):
        with Market.open(play.path) as market:
            market.take_prices(REAL_TIME, root_prices(range(FIRST, FIRST + INTERVALS)), play.clock.now())
            play.operate(market, settle_at(book, last) + 1)
            if last in stops[:1]:
                market.snapshot(play.clock.now())
    play.close()


@pytest.fixture(scope="module")
def hours(made_once: Callable[..., Path]) -> Path:
    return made_once("hours with holds", play_hours) / "shard"


@pytest.fixture(scope="module")
def luring(made_once: Callable[..., Path]) -> Path:
    return made_once("hours of paper sun", lambda folder: play_hours(folder, claimed_w=CLAIMED_W)) / "shard"


def entry(record: ShardRecord, kind: type, interval: int, market: str = REAL_TIME) -> int:
    return record.about(kind, NAMES[0], interval, market)[0]


def test_who_does_not_deliver_is_held_from_the_next_gate_and_told_so(hours: Path) -> None:
    with ShardRecord.open(hours) as record:
        found = all_holds(record)
        assert {each.customer for each in found} == set(SELLERS)
        mine = next(each for each in found if each.customer == TRICKSTER)
        assert (mine.from_interval, mine.until_interval) == (FROM, FROM + 12)
        assert mine.deviation_wh > 650
        assert 2 * mine.deviation_wh > mine.award_wh
        for t in range(FIRST + 1, FIRST + INTERVALS):
            told = awarded_to(record, GATEWAY, REAL_TIME, t)
            until = dict(zip(told.whose.tolist(), told.held_until.tolist(), strict=True))
            held = FROM <= t < FROM + 12
            assert until[TRICKSTER] == (FROM + 12 if held else 0)
            assert (TRICKSTER in told.customer) == (not held)
            clearing = entry(record, Clearings, t)
            assert bool(holds_behind(record, clearing)) == held
            assert record.table(clearing, Clearings).status[0] <= 1
            if held:
                refused = record.table(entry(record, RefusedOrders, t), RefusedOrders)
                assert refused.refusal.tolist() == [Refusal.NOT_DELIVERED]


def test_a_gate_takes_what_meters_showed_last_of_who_is_held(hours: Path) -> None:
    """What it is scheduled, nobody is awarded; of what is read back, it stands in for the orders."""
    with ShardRecord.open(hours) as record:
        for t in range(FROM, FROM + 12):
            schedules = record.table(entry(record, Schedules, t), Schedules)
            awards = record.table(entry(record, Awards, t), Awards)
            scheduled = dict(zip(schedules.customer.tolist(), schedules.energy_wh.tolist(), strict=True))
            assert scheduled[TRICKSTER] == -_shown(hours, t - 2)
            assert TRICKSTER not in awards.customer
            orders, _ = read_round(record, NAMES[0], t).as_cleared()
            mine = orders.take(orders.customer == TRICKSTER)
            assert (mine.side * mine.quantity_w).tolist() == [scheduled[TRICKSTER] * INTERVALS_PER_HOUR]


def _shown(path: Path, interval: int) -> int:
    """What the roof's meter showed, Wh."""
    return int(np.random.default_rng([7, TRICKSTER]).integers(10, 80, 1_200)[interval - FIRST + 1])


def test_replay_and_verification_find_the_same_holds(hours: Path) -> None:
    checks = {check.name: check for check in rerun(hours)}
    assert [name for name, check in checks.items() if not check.ok] == []
    assert checks["holds"].count >= 2
    report = verify_directory(hours)
    assert [check for check in report.checks if not check.ok] == []
    assert next(check for check in report.checks if check.name == "holds").count >= 1


def test_what_the_market_knows_of_deliveries_follows_from_the_record(hours: Path) -> None:
    with ShardRecord.open(hours) as record:
        whole = folded_from_zero(record)
        kept = State(record.topology, record.rulebook, record.readings)
        restore(kept, state_parts(whole), whole.size)
        assert set(differing(parts_of(kept), parts_of(whole))) <= {"snapshot_at"}


def test_a_market_that_stops_and_goes_on_holds_the_same_homes(hours: Path, tmp_path: Path) -> None:
    """While sums grow, between a hold and its first gate, while it lasts, and right before its end."""
    play_hours(tmp_path, stops=(FIRST + 1, FROM - 2, FROM - 1, FROM + 5, FROM + 10))
    with ShardRecord.open(hours) as one, ShardRecord.open(tmp_path / "shard") as other:
        rows = [[replace(each, entry=0) for each in all_holds(record)] for record in (one, other)]
        assert rows[0] == rows[1]
        for t in range(FIRST + 1, FIRST + INTERVALS):
            for kind in (Prices, Schedules):
                assert one.table(entry(one, kind, t), kind).equals(other.table(entry(other, kind, t), kind))


def test_paper_sun_lures_nobody_once_its_author_is_held(hours: Path, luring: Path) -> None:
    """law of the rule: prices and neighbours' awards are the same to the bit, whatever who is held claims."""
    with ShardRecord.open(hours) as honest, ShardRecord.open(luring) as lured:
        for t in range(FIRST + CLAIMED_FROM, FROM + 12):
            for market, kinds in ((REAL_TIME, (Prices, Awards, Schedules)), (PRICE_RUN, (Prices,))):
                for kind in kinds:
                    pair = [each.table(entry(each, kind, t, market), kind) for each in (honest, lured)]
                    assert pair[0].equals(pair[1]), (t, kind.kind)
        after = [each.table(entry(each, Schedules, FROM + 12), Schedules) for each in (honest, lured)]
        assert not after[0].equals(after[1]), "the hold has ended by itself"
        again = [each for each in all_holds(lured) if each.customer == TRICKSTER]
        assert [each.from_interval for each in again] == [FROM, FROM + 15], "five kilowatts of paper are soon enough"
    assert [check.name for check in rerun(luring) if not check.ok] == []


def test_without_the_rule_paper_sun_goes_on_luring(tmp_path: Path) -> None:
    """What breaks when it is turned off."""
    paths = []
    for name, claimed_w in (("honest", 0), ("lured", CLAIMED_W)):
        play_hours(tmp_path / name, rules(hold_hours=0), claimed_w)
        paths.append(tmp_path / name / "shard")
    with ShardRecord.open(paths[0]) as honest, ShardRecord.open(paths[1]) as lured:
        assert not all_holds(lured)
        last = FIRST + INTERVALS - 1
        guides = [each.table(entry(each, Prices, last), Prices).energy for each in (honest, lured)]
        assert (guides[1] < guides[0]).any()


def test_a_person_sees_who_is_held_until_when_and_why(hours: Path, tellegen: Callable[..., Any]) -> None:
    told = json.loads(tellegen("holds", hours, "--json").out)
    assert {each["customer"] for each in told} == {f"customer {who}" for who in SELLERS}
    begins = f"{interval_start(FROM):%Y-%m-%d %H:%M}"
    assert begins in tellegen("holds", hours, "--customer", f"customer {TRICKSTER}").out
    assert tellegen("holds", hours, "--customer", "customer 1").out == "customer 1: never on hold\n"
