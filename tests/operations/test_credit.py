"""Credit: what an account may come to owe is checked before a day-ahead gate clears."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tellegen.assess.faults import hamlet
from tellegen.assess.faults.hamlet import Move
from tellegen.assess.faults.hamlet_play import FIRST, SHORT_DAY
from tellegen.grid import Engine
from tellegen.operations.accounts import Accounts
from tellegen.operations.book import Book
from tellegen.operations.credit import NO_CREDIT, Credit, Exposure, beyond_credit, cost_of
from tellegen.operations.market import Market
from tellegen.operations.positions import Position
from tellegen.operations.state import Gate
from tellegen.operations.tasks import TaskMaker
from tellegen.records import Connections, Gates, Line, Orders, Postings, Product, Side
from tellegen.records.market import DAY_AHEAD
from tellegen.rules.credit import CreditRule
from tellegen.units import NANOS

RULE = CreditRule(limit_nanos=100 * NANOS, price_micros=1_000_000)
WHO = np.array([1, 2])


def book(*rows: tuple[int, int, int, int], taker: bool = False, product: Product = Product.ENERGY) -> Orders:
    """Orders: customer, side, W, micro-currency per kWh."""
    table = np.zeros(len(rows), dtype=Orders.row_dtype())
    for name, column in zip(("customer", "side", "quantity_w", "price_micros"), zip(*rows, strict=True), strict=True):
        table[name] = column
    table["price_taker"], table["product"] = taker, product
    return Orders.from_rows(table)


def credit(own: tuple[int, int] = (0, 0), exposed: tuple[int, int] = (0, 0)) -> Credit:
    return Credit.of(RULE, np.array(own), np.array(exposed))


def test_an_order_counts_at_its_price_and_at_the_rule_s_at_most() -> None:
    """A sale counts at what buying it back costs above what it brings; who takes any price counts at the rule's."""
    orders = book((1, 1, 2_000, 300_000), (1, 1, 2_000, 5_000_000), (1, -1, 2_000, 300_000), (1, 1, 2_000, -100_000))
    assert (cost_of(orders, 12, RULE.price_micros) / NANOS).tolist() == [0.6, 2.0, 1.4, 0.0]
    assert (cost_of(book((1, -1, 2_000, 0), taker=True), 6, RULE.price_micros) / NANOS).tolist() == [1.0]
    assert not cost_of(book((1, -1, 2_000, 0), product=Product.RESERVE_UP), 12, RULE.price_micros).any()


def test_purchases_and_sales_of_one_hour_cannot_both_be_had() -> None:
    """A battery that buys at one price and sells at another needs credit for the dearer of the two."""
    hour = book((1, 1, 100_000, 600_000), (1, -1, 100_000, 600_000)), 12
    assert beyond_credit(credit(), WHO, [hour]).tolist() == [False, False]
    assert beyond_credit(credit(), WHO, [hour, hour]).tolist() == [True, False]


@pytest.mark.parametrize(("own", "most_w"), [(0, 100_000), (30, 30_000), (NO_CREDIT, 0)])
def test_an_account_s_own_limit_stands_before_the_rulebook_s(own: int, most_w: int) -> None:
    for watts, beyond in ((most_w, False), (most_w + 1, True)):
        orders = book((1, 1, watts, 1_000_000), (2, 1, 1, 1_000_000))
        assert beyond_credit(credit((own, 0)), WHO, [(orders, 12)]).tolist() == [beyond, False]


def test_who_owes_more_than_its_limit_may_still_order_what_costs_nothing() -> None:
    exposed = (200 * NANOS, 0)
    assert not beyond_credit(credit(exposed=exposed), WHO, [(book((1, 1, 5_000, 0)), 12)]).any()
    assert beyond_credit(credit(exposed=exposed), WHO, [(book((1, 1, 5_000, 1)), 12)]).tolist() == [True, False]


def test_exposure_is_what_is_owed_and_positions_of_hours_that_are_open() -> None:
    """Bought or sold: what was sold may have to be bought back."""
    accounts = Accounts()
    nothing = np.zeros(1, dtype=np.int64)
    row = np.zeros(1, dtype=Postings.row_dtype())
    row["account"], row["line"], row["amount"] = 2, Line.FORWARD, 7 * NANOS
    accounts.post(Postings.from_rows(row))
    position = Position(first=288, hours=3)
    for hour, wh in enumerate((9_000, 2_000, -3_000)):
        position.add(288 + 12 * hour, WHO[:1], nothing, np.array([[wh], [0], [0]]), clearing=hour)
    for settled, owed in ((-1, 14), (288 + 10, 14), (288 + 11, 5), (288 + 35, 0)):
        exposure = Exposure.of(accounts, [position], settled, RULE)
        assert (exposure.at(np.array([1, 2, 9])) / NANOS).tolist() == [owed, 7, 0]
    assert Exposure.of(accounts, [position], -1, RULE).without(WHO[:1]).at(WHO).tolist() == [0, 7 * NANOS]


def test_who_moves_within_the_day_has_its_own_limit_and_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On the feeder where it begins; who joins later has its own limit from then on, and nobody has the rulebook's."""
    own = {2: NO_CREDIT, 3: 30, 4: NO_CREDIT, 6: 50}
    plain, day = hamlet._connections, FIRST + 12

    def trusted(who: list[int], *about: Any) -> Connections:
        return replace(plain(who, *about), credit=np.array([own.get(each, 0) for each in who], dtype=np.int32))

    monkeypatch.setattr(hamlet, "_connections", trusted)
    moves = Move(day + 24, 2, 1, 0), Move(day + 24, 3, 1, 1), Move(day + 12, 4, 0, 3), Move(day + 12, 6, 0, 4)
    village = hamlet.found(tmp_path / "shard", replace(SHORT_DAY, moves=moves, absent=(4, 6)))
    with Market.open(village.keys.path) as market:
        hours = market.state.periods(DAY_AHEAD, day)
        rows = np.zeros(2 * len(hours), dtype=Gates.row_dtype())
        rows["start"] = rows["spread_from"] = rows["taps_from"] = -1
        market.state.gates[DAY_AHEAD, day] = Gate(0, 0, Gates.from_rows(rows), np.full((2, len(hours)), -1))
        market.state.exposed[day] = Exposure(np.array([3]), np.array([20 * NANOS]))
        maker = TaskMaker(market.record, market.state, Engine.SUPERLU)
        tasks = [maker.task(DAY_AHEAD, day, k, Book({})) for k in range(2)]
    left = []
    for task in tasks:
        assert task.credit is not None
        left.append(dict(zip(task.customer.tolist(), (task.credit.room_nanos // NANOS).tolist(), strict=True)))
    assert left == [{1: 1_000, 2: 0, 3: 10, 4: 0, 5: 1_000, 6: 50}, {2: 0, 3: -20, 7: 1_000, 8: 1_000, 9: 1_000}]


@given(
    st.lists(
        st.tuples(st.integers(1, 2), st.sampled_from(Side), st.integers(0, 10**15 - 1), st.integers(-(10**9), 10**9)),
        min_size=1,
        max_size=20,
    ),
    st.integers(1, 25),
)
def test_sums_are_exact_or_beyond_any_credit(rows: list[tuple[int, Side, int, int]], periods: int) -> None:
    """No book, however large, wraps around to what looks small."""
    orders = book(*rows)
    exact = {who: 0 for who in (1, 2)}
    for who in exact:
        each = cost_of(orders, 12, RULE.price_micros).tolist()
        sides = {s: sum(c for c, row in zip(each, rows, strict=True) if row[:2] == (who, s)) for s in Side}
        exact[who] = periods * max(sides.values())
    assert beyond_credit(credit(), WHO, [(orders, 12)] * periods).tolist() == [
        exact[who] > RULE.limit_nanos for who in (1, 2)
    ]
