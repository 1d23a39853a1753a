"""What registry and rulebook say holds at the gates of a market: agreements, market power, reserve for the grid."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from tellegen.assess.faults import hamlet
from tellegen.assess.faults.hamlet import NAMES, STREETS, SUBSTATIONS, Hamlet, Move
from tellegen.assess.faults.hamlet_play import BOOK, DAY, FIRST, SHORT_DAY, Play, give_prices, short_day
from tellegen.operations.findings import found_of
from tellegen.operations.market import Market
from tellegen.operations.rerun import rerun
from tellegen.operations.timetable import close_at
from tellegen.operations.topology import Feeder
from tellegen.records import (
    STATEMENT_LINES,
    Account,
    Awards,
    Connections,
    Line,
    Mitigations,
    Orders,
    Postings,
    Prices,
    Product,
    Requirements,
    Schedules,
    Side,
    Statements,
    sign_bids,
)
from tellegen.records.market import PRICE_RUN, REAL_TIME
from tellegen.report.days import publish_days
from tellegen.rules import Rulebook
from tellegen.simulation.batches import bids_batch
from tellegen.units import MARKET_INTERVAL_S
from tellegen.verify import verify_directory

SELLER, ROOT_KW = 5, 10.0
BID = FIRST + 2
"""The interval that a test is about."""


@contextmanager
def hamlet_of(folder: Path, plan: hamlet.HamletPlan = SHORT_DAY, **feeder: object) -> Iterator[tuple[Play, Market]]:
    wires, _ = hamlet.network()
    feeders = [Feeder(name, wires, root, **feeder) for name, root in zip(NAMES, SUBSTATIONS, strict=True)]  # type: ignore[arg-type]
    play = Play(hamlet.found(folder / "shard", plan, feeders))
    with Market.open(play.path) as market:
        give_prices(market, play.clock.now())
        yield play, market
    play.close()


def bid(play: Play, *rows: tuple[int, Product, Side, int | None, int], interval: int = BID, sequence: int = 1) -> None:
    """Bids on the first street, over those that count so far: customer, product, side, price (None: any), W."""
    customer, product, side, price, quantity = zip(*sorted(rows, key=lambda row: row[0]), strict=True)
    _, nodes = hamlet.network()
    columns = {name: np.zeros(len(rows), dtype=np.int64) for name in Orders.row_dtype().names or ()}
    columns |= {"customer": np.array(customer), "product": np.array(product), "side": np.array(side)}
    columns |= {"node": np.array([nodes[STREETS[0].index(who)] for who in customer]), "quantity_w": np.array(quantity)}
    columns |= {"price_taker": np.array([each is None for each in price]).astype(int)}
    orders = Orders(**columns | {"price_micros": np.array([each or 0 for each in price])})
    village = play.hamlet
    signed = sign_bids(orders, village.keys.origin, NAMES[0], REAL_TIME, interval, sequence, village._sign)
    assert play.take(bids_batch(village.keys, signed, orders, NAMES[0], REAL_TIME, interval, interval)) == len(signed)


def said(market: Market, kind: type, interval: int = BID, market_name: str = REAL_TIME) -> object:
    """What was put on record of the first street in an interval."""
    journal = market.record.journal
    (entry,) = (
        k
        for k in journal.find(kind=kind.kind, market=market_name, interval=interval)
        if journal.entry(k).feeder == NAMES[0]
    )
    return market.record.table(entry, kind)


def close(play: Play, market: Market, interval: int = BID) -> None:
    play.clock.wait(interval * MARKET_INTERVAL_S)
    play.tick()
    market.close_gate(REAL_TIME, interval, play.clock.now())


@pytest.mark.parametrize("limit_w", [1_000, 25_000])
def test_nobody_is_awarded_more_than_its_connection_agreement_allows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit_w: int
) -> None:
    """It stands in the registry, as the import and the export limit of the connection."""
    plain = Hamlet.connection

    def limited(self: Hamlet, move: Move) -> Connections:
        table = plain(self, move)
        return replace(table, export_limit_w=np.full(len(table), limit_w))

    monkeypatch.setattr(Hamlet, "connection", limited)
    plan = replace(SHORT_DAY, moves=(Move(BID, SELLER, 0, STREETS[0].index(SELLER)),))
    with hamlet_of(tmp_path, plan) as (play, market):
        play.clock.wait(FIRST * MARKET_INTERVAL_S)
        bid(play, (1, Product.ENERGY, Side.BUY, 900_000, 3_000), (SELLER, Product.ENERGY, Side.SELL, 10_000, 3_000))
        close(play, market)
        awards = said(market, Awards)
        assert isinstance(awards, Awards)
        sold = awards.quantity_mw[awards.customer == SELLER].sum()
        assert sold == min(limit_w, 3_000) * 1_000


def rules_with(test: str, *, run: bool) -> Rulebook:
    """The rules with or without the test of market power, and the price run; without, there is no paper either.

    What paper there is stands far above what sellers ask.
    """
    first = BOOK.versions[0]
    text = first.content.decode()
    assert text.count('test = "pivotal"') == text.count("settles = false") == 1
    text = text.replace('test = "pivotal"', f'test = "{test}"').replace(
        "settles = false", f"settles = {str(run).lower()}"
    )
    assert '["0.02", "0.06", "0.20", "0.75", "2.00"]' in text
    text = text.replace('["0.02", "0.06", "0.20", "0.75", "2.00"]', '["0.75", "0.75", "0.75", "0.75", "2.00"]')
    files = {f"{rules.effective}.toml": rules.content for rules in BOOK.versions}
    return Rulebook.parse(files | {f"{first.effective}.toml": text.encode()}, "market power")


@pytest.mark.parametrize("test", ["none", "pivotal"])
def test_who_alone_can_relieve_the_root_is_held_to_the_reference(tmp_path: Path, test: str) -> None:
    """Behind a root of 10 kW 18 are asked; without the 9 kW of one seller 2 cannot be had."""
    plan = replace(SHORT_DAY, rulebook=rules_with(test, run=False))
    with hamlet_of(tmp_path, plan, root_limit_kw=ROOT_KW) as (play, market):
        play.clock.wait(FIRST * MARKET_INTERVAL_S)
        bid(
            play,
            (1, Product.ENERGY, Side.BUY, None, 18_000),
            (2, Product.ENERGY, Side.SELL, 2_000_000, 9_000),
            (3, Product.ENERGY, Side.SELL, 310_000, 6_000),
        )
        close(play, market)
        prices = said(market, Prices)
        assert isinstance(prices, Prices)
        if test == "none":
            assert not market.record.journal.find(kind=Mitigations.kind)
            assert prices.energy.max() > 1_900_000
            return
        found = said(market, Mitigations)
        assert isinstance(found, Mitigations)
        root = market.state.root_prices[REAL_TIME, BID]
        mine = found.customer == 2
        assert found.mitigated[mine].tolist() == [1]
        assert found.offered_micros[mine].tolist() == [2_000_000]
        assert found.reference_micros[mine].tolist() == [round(1.05 * root)]
        assert prices.energy.max() < 400_000
    assert {check.name: check for check in rerun(play.path)}["real-time clearings"].ok


@pytest.mark.parametrize("test", ["none", "pivotal"])
def test_the_price_run_holds_what_a_pivotal_seller_delivered_to_its_reference(tmp_path: Path, test: str) -> None:
    """What settles is what its energy costs elsewhere, not what it asked; the record says so, and replays."""
    plan = replace(SHORT_DAY, rulebook=rules_with(test, run=True))
    with hamlet_of(tmp_path, plan, root_limit_kw=ROOT_KW) as (play, market):
        here = BID - FIRST + 1
        play.hamlet._wh[:, here] = 0
        play.hamlet._wh[1, here], play.hamlet._wh[SELLER, here] = 1_500, 750  # 18 kW and 9
        short_day(play)
        play.at(
            BID * MARKET_INTERVAL_S - 10,
            lambda: bid(
                play,
                (1, Product.ENERGY, Side.BUY, None, 18_000),
                (SELLER, Product.ENERGY, Side.SELL, 400_000, 12_000),
            ),
        )
        play.operate(market, (BID + 3) * MARKET_INTERVAL_S)
        prices = said(market, Prices, market_name=PRICE_RUN)
        assert isinstance(prices, Prices)
        root = market.state.root_prices[REAL_TIME, BID]
        if test == "none":
            assert prices.energy.max() == pytest.approx(400_000, rel=0.05)
        else:
            found = said(market, Mitigations, market_name=PRICE_RUN)
            assert isinstance(found, Mitigations)
            assert (found.customer.tolist(), found.mitigated.tolist()) == ([SELLER], [1])
            assert prices.energy.max() == pytest.approx(1.05 * root, rel=0.05)
            shown = [each for each in found_of(market.record) if each.market == PRICE_RUN and each.customer == SELLER]
            assert [(each.what, each.clearings, each.first) for each in shown] == [("held", 1, BID)]
            assert (shown[0].asked_micros, shown[0].reference_micros) == (400_000, round(1.05 * root))
    assert all(check.ok for check in rerun(play.path))
    assert verify_directory(play.path).ok


def test_reserve_is_bought_for_the_grid_and_billed_to_it(tmp_path: Path) -> None:
    """From what is asked for to the customer's statement and the tables that are published."""
    plan = replace(SHORT_DAY, rulebook=rules_with("none", run=False))  # each of two sellers is pivotal
    with hamlet_of(tmp_path, plan) as (play, market):
        short_day(play)
        asked = Requirements(
            interval=np.array([BID]),
            product=np.array([Product.RESERVE_UP], dtype=np.uint8),
            quantity_w=np.array([800]),
            price_micros=np.array([500_000]),
        )
        assert market.take_requirements(REAL_TIME, NAMES[0], asked, play.clock.now()) == 1
        assert market.take_requirements(REAL_TIME, NAMES[0], asked, play.clock.now()) == 0  # it stands
        play.at(
            BID * MARKET_INTERVAL_S - 10,
            lambda: bid(
                play,
                (1, Product.ENERGY, Side.BUY, 400_000, 2_000),
                (1, Product.RESERVE_UP, Side.SELL, 40_000, 600),
                (2, Product.ENERGY, Side.BUY, 400_000, 2_000),
                (2, Product.RESERVE_UP, Side.SELL, 60_000, 600),
            ),
        )
        play.operate(market, close_at(BOOK, DAY))
        schedules, prices = said(market, Schedules), said(market, Prices)
        assert isinstance(schedules, Schedules)
        assert isinstance(prices, Prices)
        assert prices.reserve_up.max() == 60_000
        held = dict(zip(schedules.customer.tolist(), schedules.reserve_up_wh.tolist(), strict=True))
        assert (held[1], held[2]) == (600 // 12, 200 // 12)
        postings = said(market, Postings)
        assert isinstance(postings, Postings)
        reserve = postings.take(postings.line == Line.RESERVE_UP)
        assert dict(zip(reserve.account.tolist(), reserve.quantity.tolist(), strict=True)) == {
            1: -50,
            2: -16,
            int(Account.RESERVES): 66,
        }
        assert reserve.amount.sum() == 0
        assert set(reserve.price.tolist()) == {60_000}
        journal = market.record.journal
        found = [market.record.table(k, Statements) for k in journal.find(kind=Statements.kind)]
        statements, place = Statements.concat(found), STATEMENT_LINES.index(Line.RESERVE_UP)
        billed = dict(zip(statements.customer.tolist(), statements.amounts[:, place].tolist(), strict=True))
        assert {who: nanos for who, nanos in billed.items() if nanos} == {1: -50 * 60_000, 2: -16 * 60_000}
    checks = {check.name: check for check in rerun(play.path)}
    assert checks["real-time clearings"].ok
    publish_days(play.path, [DAY])
    assert verify_directory(play.path).ok
    tables = next((play.path / "days").rglob(f"*{NAMES[0]}*/tables/statements.parquet"))
    shown = pl.read_parquet(tables)
    assert (shown["line"] == "reserve_up").sum() == 2
