"""The double auction: all of the welfare, prices that leave everybody content, whole watts, fair ties."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import linprog

from tellegen.errors import InputError
from tellegen.market import OrderBook, clear
from tellegen.market.auction import Auction, double_auction

FLOOR, CAP = 0, 20
ORDER = st.tuples(st.sampled_from([1, -1]), st.integers(FLOOR, CAP), st.integers(0, 30))
BOOK = st.lists(ORDER, max_size=14)
ROOT = st.one_of(st.none(), st.tuples(st.integers(FLOOR, CAP), st.one_of(st.none(), st.integers(0, 40))))


def run(rows: list[tuple[int, int, int]], root: tuple[int, int | None] | None = None) -> Auction:
    side, price, quantity = np.array(rows, dtype=np.int64).reshape(-1, 3).T
    at, limit = root if root is not None else (None, None)
    return double_auction(
        side, price, quantity, price_floor_micros=FLOOR, price_cap_micros=CAP, root_price_micros=at, root_limit_w=limit
    )


def content(rows: list[tuple[int, int, int]], award: np.ndarray, price: int) -> bool:
    """Whether no order would rather have another award at a price."""
    side, limit, quantity = np.array(rows, dtype=np.int64).reshape(-1, 3).T
    gain = side * (limit - price)
    return bool(np.all(np.where(gain > 0, award == quantity, np.where(gain < 0, award == 0, True))))


@given(BOOK, ROOT)
def test_no_other_award_has_more_welfare(rows: list[tuple[int, int, int]], root: tuple[int, int | None] | None) -> None:
    """A linear program, which knows nothing of merit orders, finds no more."""
    outcome = run(rows, root)
    side, price, quantity = np.array([*rows, (1, 0, 0)], dtype=np.int64).T
    cost, balance, bounds = -(side * price), side, [(0, int(q)) for q in quantity]
    if root is not None:
        limit = int(quantity.sum()) if root[1] is None else root[1]
        cost, balance = np.append(cost, root[0]), np.append(balance, -1)
        bounds.append((-limit, limit))
    best = -linprog(cost, A_eq=balance[None, :], b_eq=[0], bounds=bounds).fun
    assert outcome.welfare_nanos_per_h == pytest.approx(best, abs=1e-6)


@given(BOOK, ROOT)
def test_what_is_bought_is_sold_to_the_last_watt(
    rows: list[tuple[int, int, int]], root: tuple[int, int | None] | None
) -> None:
    outcome = run(rows, root)
    side, _, quantity = np.array(rows, dtype=np.int64).reshape(-1, 3).T
    bought, sold = outcome.award_w[side > 0].sum(), outcome.award_w[side < 0].sum()
    assert bought == sold + outcome.root_w
    assert outcome.volume_w == bought + max(-outcome.root_w, 0)
    assert ((outcome.award_w >= 0) & (outcome.award_w <= quantity)).all()
    if root is None or root[1] == 0:
        assert outcome.root_w == 0


@given(BOOK)
def test_the_range_is_every_price_at_which_all_are_content(rows: list[tuple[int, int, int]]) -> None:
    outcome = run(rows)
    supported = [price for price in range(FLOOR, CAP + 1) if content(rows, outcome.award_w, price)]
    assert supported
    assert (min(supported), max(supported)) == (outcome.low_micros, outcome.high_micros)
    assert outcome.price_micros == (outcome.low_micros + outcome.high_micros) // 2


@given(BOOK, ROOT)
def test_all_are_content_with_a_root_too(rows: list[tuple[int, int, int]], root: tuple[int, int | None] | None) -> None:
    outcome = run(rows, root)
    assert content(rows, outcome.award_w, outcome.price_micros)
    assert content(rows, outcome.award_w, outcome.low_micros)
    assert content(rows, outcome.award_w, outcome.high_micros)
    if root is not None and root[1] is None:
        assert outcome.price_micros == root[0]


@given(BOOK, st.randoms())
def test_the_order_of_rows_changes_neither_price_nor_volume(rows: list[tuple[int, int, int]], random: object) -> None:
    outcome = run(rows)
    mixed = list(rows)
    random.shuffle(mixed)  # type: ignore[attr-defined]
    other = run(mixed)
    assert (outcome.price_micros, outcome.volume_w) == (other.price_micros, other.volume_w)


def test_equal_orders_share_in_proportion() -> None:
    outcome = double_auction([1, -1, -1, -1], [30, 10, 10, 10], [100, 40, 80, 81], price_floor_micros=0)
    assert outcome.award_w[1:].sum() == 100
    assert np.abs(outcome.award_w[1:] - 100 * np.array([40, 80, 81]) / 201).max() < 1
    assert outcome.price_micros == 10


def test_ties_are_not_always_won_by_the_same_order() -> None:
    winners = {
        int(np.argmax(double_auction([1, -1, -1], [30, 10, 10], [1, 5, 5], context=f"interval {k}").award_w[1:]))
        for k in range(20)
    }
    assert winners == {0, 1}


def test_an_empty_book_and_one_side_alone_trade_nothing() -> None:
    assert run([]).volume_w == 0
    alone = run([(1, 7, 100)])
    assert (alone.volume_w, alone.low_micros, alone.high_micros) == (0, 7, CAP)
    null = run([(1, 7, 100), (-1, 9, 100)])
    assert (null.volume_w, null.low_micros, null.high_micros, null.price_micros) == (0, 7, 9, 8)


def test_price_takers_come_first_and_meet_the_cap_where_they_are_short() -> None:
    side, price, quantity = [1, 1, -1], [0, 200, 100], [50, 50, 60]
    outcome = double_auction(side, price, quantity, price_taker=[True, False, False])
    assert outcome.award_w.tolist() == [50, 10, 60]
    assert outcome.price_micros == 200
    short = double_auction(side, price, [80, 50, 60], price_taker=[True, False, False])
    assert short.award_w.tolist() == [60, 0, 60]
    assert short.price_micros == 5_000_000


def test_the_root_holds_the_price_until_its_limit() -> None:
    book = ([1, -1], [300, 100], [90, 50])
    free = double_auction(*book, root_price_micros=200)
    assert (free.award_w.tolist(), free.root_w, free.price_micros) == ([90, 50], 40, 200)
    tight = double_auction(*book, root_price_micros=200, root_limit_w=30)
    assert (tight.award_w.tolist(), tight.root_w, tight.price_micros) == ([80, 50], 30, 300)
    export = double_auction([1, -1], [300, 100], [50, 90], root_price_micros=200, root_limit_w=30)
    assert (export.award_w.tolist(), export.root_w, export.price_micros) == ([50, 80], -30, 100)


def test_neighbours_trade_before_the_root_at_its_price() -> None:
    outcome = double_auction([1, -1], [300, 200], [90, 50], root_price_micros=200)
    assert (outcome.award_w.tolist(), outcome.root_w) == ([90, 50], 40)


def test_it_is_the_clearing_on_wires_that_do_not_bind(tree) -> None:  # type: ignore[no-untyped-def]
    """One node on a stiff line: the nodal clearing has the same awards and the root's price."""
    rng = np.random.default_rng(4)
    side, price = np.repeat([1, -1], 30), rng.integers(50, 350, 60) * 1000
    quantity = rng.integers(10, 1000, 60)
    root = 200_000
    auction = double_auction(side, price, quantity, root_price_micros=root)
    book = OrderBook.of(np.ones(60, dtype=int), side, price / 1e6, quantity / 1e3)
    nodal = clear(tree([0], np.array([1e-7 + 0j])), book, root / 1e6)
    assert nodal.award_kw * 1e3 == pytest.approx(auction.award_w, abs=1e-6)
    assert nodal.welfare * 1e9 == pytest.approx(auction.welfare_nanos_per_h, rel=1e-6)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"side": [0]}, "row 0 has a side"),
        ({"quantity_w": [-1]}, "row 0 has a negative quantity"),
        ({"price_micros": [6_000_000]}, "row 0 has a price outside"),
        ({"root_limit_w": 5}, "needs a root price"),
        ({"price_floor_micros": 9_000_000}, "must be below the cap"),
    ],
)
def test_what_is_no_order_is_refused(change: dict[str, object], words: str) -> None:
    given_ = {"side": [1], "price_micros": [5], "quantity_w": [1], **change}
    with pytest.raises(InputError, match=words):
        double_auction(**given_)  # type: ignore[arg-type]
