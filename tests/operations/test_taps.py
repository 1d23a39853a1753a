"""Taps and capacitors move between the gates of a market, and stand on record where they came to rest."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tellegen.assess.faults import hamlet
from tellegen.assess.faults.hamlet import NAMES, STREETS, SUBSTATIONS, Hamlet, root_prices
from tellegen.assess.faults.hamlet_play import FIRST, SHORT_DAY, Play
from tellegen.grid import Case
from tellegen.operations.keeping import state_parts
from tellegen.operations.market import Market
from tellegen.operations.rerun import rerun
from tellegen.operations.topology import Feeder, read_feeders
from tellegen.privacy.recorder import Recorder
from tellegen.records import Orders, Side, Taps, sign_bids
from tellegen.records.market import DAY_AHEAD, REAL_TIME
from tellegen.simulation.batches import bids_batch
from tellegen.units import MARKET_INTERVAL_S
from tellegen.verify import verify_directory

START = FIRST * MARKET_INTERVAL_S
HEAVY_KW, LIGHT_KW = 900, 100


@pytest.fixture
def play(regulated: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Play:
    """The hamlet's first street on the regulated line; nothing moves on the second."""
    network = regulated.network
    ends = [k for k, name in enumerate(network.nodes) if name == "b"]
    monkeypatch.setattr(hamlet, "network", lambda: (network, (*ends, *ends[:2])))
    feeders = [
        Feeder.of(NAMES[0], regulated, SUBSTATIONS[0]),
        Feeder(NAMES[1], replace(network, name="still"), SUBSTATIONS[1]),
    ]
    return Play(hamlet.found(tmp_path / "shard", replace(SHORT_DAY, moves=()), feeders))


def draw(village: Hamlet, play: Play, interval: int, kilowatts: int) -> None:
    """Three customers at the end of the line take so much each, whatever it costs."""
    who, count = np.array(STREETS[0][:3]), 3
    _, nodes = hamlet.network()
    columns = {name: np.zeros(count, dtype=np.int64) for name in Orders.row_dtype().names or ()}
    columns |= {"customer": who, "node": np.array(nodes[:3]), "side": np.full(count, Side.BUY)}
    columns |= {"price_taker": np.ones(count, dtype=np.int64), "var_per_kw": np.full(count, 400)}
    orders = Orders(**columns | {"quantity_w": np.full(count, 1_000 * kilowatts)})
    signed = sign_bids(orders, village.keys.origin, NAMES[0], REAL_TIME, interval, 0, village._sign)
    assert play.take(bids_batch(village.keys, signed, orders, NAMES[0], REAL_TIME, interval, interval)) == count


def test_taps_rest_where_the_last_gate_left_them(play: Play, regulated: Case) -> None:
    steps: list[list[int]] = []
    intervals = range(FIRST, FIRST + 12)
    with Market.open(play.path) as market:
        market.take_prices(REAL_TIME, root_prices(intervals), play.clock.now())
        for interval in intervals:
            if interval == FIRST + 4:
                market.snapshot(play.clock.now())
            play.clock.wait(interval * MARKET_INTERVAL_S - 10)
            draw(play.hamlet, play, interval, HEAVY_KW if interval < FIRST + 6 else LIGHT_KW)
            play.clock.wait(interval * MARKET_INTERVAL_S)
            play.tick()
            market.close_gate(REAL_TIME, interval, play.clock.now())
            entry = int(market.state.taps_from[0])
            assert market.record.header(entry).causes == (market.state.gates[REAL_TIME, interval].entry,) or steps
            steps.append(market.record.table(entry, Taps).step.tolist())
        journal = market.record.journal
        moves = journal.find(kind=Taps.kind)
        assert {journal.entry(move).feeder for move in moves} == {NAMES[0]}
        before = [int(market.state.gates[REAL_TIME, t].rows.taps_from[0]) for t in intervals]
        assert before[0] == -1
        assert all(k in moves for k in before[1:])
        assert steps[0] != [0] * len(steps[0])
        assert steps[-1] != steps[5]
        # the day-ahead market begins where real time left the wires
        next_day = FIRST + 12
        play.clock.wait(next_day * MARKET_INTERVAL_S)
        play.tick()
        market.close_gate(DAY_AHEAD, next_day, play.clock.now())
        assert market.state.gates[DAY_AHEAD, next_day].rows.taps_from[0] == market.state.taps_from[0]
        left = state_parts(market.state)["market.progress"]["taps_from"]
    with Market.open(play.path) as again:
        assert np.array_equal(state_parts(again.state)["market.progress"]["taps_from"], left)
        (kept, still) = read_feeders(Recorder(again.record.intake, again.record.vault, ""))
        assert kept.movable == len(steps[0])
        assert still.movable == 0
    found = {check.name: check for check in rerun(play.path)}
    assert found["real-time clearings"].ok
    assert found["real-time clearings"].count == 2 * len(intervals)
    play.close()
    assert verify_directory(play.path).ok
