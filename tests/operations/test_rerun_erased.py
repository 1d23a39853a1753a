"""`tellegen replay` after an erasure of who left no award behind: refused orders, or relief that was not offered."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tellegen.assess.faults import hamlet
from tellegen.assess.faults.hamlet import NAMES, STREETS, SUBSTATIONS, Hamlet
from tellegen.assess.faults.hamlet_play import FIRST, SHORT_DAY, Play, give_prices
from tellegen.operations.market import Market
from tellegen.operations.rerun import rerun
from tellegen.operations.tally import Replayed
from tellegen.operations.topology import Feeder
from tellegen.operations.upkeep import erase
from tellegen.records import Connections, Device, Orders, RefusedOrders, Side, Withholdings, sign_bids
from tellegen.records.market import REAL_TIME
from tellegen.simulation.batches import bids_batch
from tellegen.simulation.registered import assets
from tellegen.units import MARKET_INTERVAL_S

BID = FIRST + 2
BUYER, STORE, SELLER = 1, 3, 5
"""Behind a root of 10 kW: 18 are asked, 6 come from a roof, and without the battery's 9 it cannot be met."""
DEAR = 100_000_000
"""Micro-currency per kWh, beyond the cap."""


def bid(play: Play, *rows: tuple[int, Device, int, int]) -> None:
    """Bids on the first street: customer, device, micro-currency per kWh, W; the buyer takes any price."""
    customer, device, price, quantity = (np.array(column) for column in zip(*rows, strict=True))
    _, nodes = hamlet.network()
    columns = {name: np.zeros(len(rows), dtype=np.int64) for name in Orders.row_dtype().names or ()}
    columns |= {"customer": customer, "device": device, "price_micros": price, "quantity_w": quantity}
    columns |= {"node": np.array([nodes[STREETS[0].index(who)] for who in customer.tolist()])}
    columns |= {
        "side": np.where(customer == BUYER, Side.BUY, Side.SELL),
        "price_taker": (customer == BUYER).astype(int),
    }
    orders, village = Orders(**columns), play.hamlet
    signed = sign_bids(orders, village.keys.origin, NAMES[0], REAL_TIME, BID, 1, village._sign)
    assert play.take(bids_batch(village.keys, signed, orders, NAMES[0], REAL_TIME, BID, BID)) == len(signed)


def replayed_without(
    folder: Path, monkeypatch: pytest.MonkeyPatch, gone: int, left: type, *offers: tuple[int, Device, int, int]
) -> Replayed:
    """What replay says of the gate of one interval after an erasure of who is named in a table beside its clearing."""
    plain = Hamlet.beginnings

    def stored(self: Hamlet, street: int) -> Connections:
        table = plain(self, street)
        battery = assets(table.take(table.device == Device.LOAD), Device.BATTERY, np.array([STORE]), 9_000, 9_000)
        return table if street else Connections.concat([table, battery])

    monkeypatch.setattr(Hamlet, "beginnings", stored)
    wires, _ = hamlet.network()
    feeders = [Feeder(name, wires, root, 10.0) for name, root in zip(NAMES, SUBSTATIONS, strict=True)]
    play = Play(hamlet.found(folder / "shard", replace(SHORT_DAY, moves=()), feeders))
    with Market.open(play.path) as market:
        give_prices(market, play.clock.now())
        play.clock.wait(FIRST * MARKET_INTERVAL_S)
        bid(play, (BUYER, Device.LOAD, 0, 18_000), *offers)
        play.clock.wait(BID * MARKET_INTERVAL_S)
        play.tick()
        now = play.clock.now()
        market.close_gate(REAL_TIME, BID, now)
        (entry,) = market.record.journal.find(kind=left.kind, market=REAL_TIME, interval=BID)
        assert market.record.table(entry, left).subjects().tolist() == [gone]
    play.close()
    before = {check.name: check for check in rerun(play.path)}["real-time clearings"]
    assert (before.ok, before.count) == (True, 2)
    erase(play.path, gone, now, early=True)
    return {check.name: check for check in rerun(play.path)}["real-time clearings"]


def test_who_was_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its orders cannot be judged again; the other feeder agrees."""
    found = replayed_without(
        tmp_path,
        monkeypatch,
        SELLER,
        RefusedOrders,
        (STORE, Device.BATTERY, 200_000, 9_000),
        (SELLER, Device.PV, DEAR, 1),
    )
    assert (found.ok, found.count) == (True, 1)
    assert "left out: 1 with bids of erased customers" in found.detail


def test_who_kept_relief_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It sent no bid: what was found of it is all that the gate says of it."""
    found = replayed_without(tmp_path, monkeypatch, STORE, Withholdings, (SELLER, Device.PV, 200_000, 5_000))
    assert (found.ok, found.count) == (True, 1)
    assert "left out: 1 with bids of erased customers" in found.detail
