"""What counts in a price run: deliveries, relief of those who keep to their awards, and nothing that is only said."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tellegen.operations.awarded import AwardedPower, SpanAwards
from tellegen.operations.price_run import MeteredPower, run_orders
from tellegen.records import Device, Orders, Product, Side
from tellegen.rules.price_run import PriceRun

ROOT = 100_000
RULES = PriceRun()
Ints = NDArray[np.int64]


def orders_of(rows: list[tuple[int, int, int | None, int]], product: Product = Product.ENERGY) -> Orders:
    """Rows of customer, side, price (None: a price-taker) and W."""
    count = len(rows)
    return Orders(
        customer=[row[0] for row in rows],
        period=[0] * count,
        device=[0] * count,
        node=[row[0] for row in rows],
        product=[int(product)] * count,
        side=[row[1] for row in rows],
        price_taker=[int(row[2] is None) for row in rows],
        price_micros=[row[2] or 0 for row in rows],
        quantity_w=[row[3] for row in rows],
        var_per_kw=[0] * count,
    )


def metered(net_w: list[int], net_var: list[int] | None = None, missing: list[bool] | None = None) -> MeteredPower:
    count = len(net_w)
    fuse = np.full(count, 20_000)
    return MeteredPower(
        customer=np.arange(1, count + 1),
        node=np.arange(1, count + 1),
        net_w=np.array(net_w),
        net_var=np.zeros(count, dtype=np.int64) if net_var is None else np.array(net_var),
        missing=np.zeros(count, dtype=bool) if missing is None else np.array(missing),
        import_w=fuse,
        export_w=fuse,
    )


def run(orders: Orders, awarded_w: list[int], meters: MeteredPower, rules: PriceRun = RULES) -> Orders:
    return run_orders(orders, np.array(awarded_w) * 1000, meters, ROOT, rules)


def said(book: Orders) -> list[tuple[int, str, int, int | None, int]]:
    """Rows as customer, product, side, price and W (var)."""
    return [
        (int(c), Product(p).name, int(s), None if t else int(price), int(w))
        for c, p, s, t, price, w in zip(
            book.customer, book.product, book.side, book.price_taker, book.price_micros, book.quantity_w, strict=True
        )
    ]


def test_a_claim_without_energy_behind_it_is_not_there() -> None:
    claim = orders_of([(1, Side.BUY, 5_000_000, 120_000), (1, Side.SELL, 0, 50_000)])
    assert said(run(claim, [120_000, 0], metered([0]))) == []


def test_delivered_orders_keep_their_prices_and_the_rest_is_inflexible() -> None:
    home = orders_of([(1, Side.BUY, None, 1_000), (1, Side.BUY, 150_000, 3_000), (1, Side.BUY, 120_000, 2_000)])
    assert said(run(home, [1_000, 3_000, 2_000], metered([5_000]))) == [
        (1, "ENERGY", 1, None, 1_000),
        (1, "ENERGY", 1, 150_000, 3_000),
        (1, "ENERGY", 1, 120_000, 1_000),
    ]


def test_what_is_drawn_beyond_awards_is_inflexible() -> None:
    assert said(run(orders_of([(1, Side.BUY, 150_000, 3_000)]), [3_000], metered([22_000]))) == [
        (1, "ENERGY", 1, None, 19_000),
        (1, "ENERGY", 1, 150_000, 3_000),
    ]


def test_what_was_the_margin_may_grow_a_little_within_the_connection() -> None:
    """Or what others leave undone by a watt would make the price jump to the next order's, or to the root's."""
    home = orders_of([(1, Side.SELL, 90_000, 30_000), (1, Side.SELL, 85_000, 4_000)])
    tenth = replace(RULES, growth_ppm=100_000)
    assert said(run(home, [8_000, 4_000], metered([-12_000]), tenth)) == [
        (1, "ENERGY", -1, 90_000, 8_800),
        (1, "ENERGY", -1, 85_000, 4_000),  # awarded in full: the margin lies beyond it
    ]
    assert said(run(home, [15_900, 4_000], metered([-19_900]), tenth))[0] == (1, "ENERGY", -1, 90_000, 16_000)
    assert said(run(home, [8_000, 4_000], metered([-12_000])))[0][-1] == 8_000


def test_orders_of_equal_worth_share_what_is_left_in_whole_watts() -> None:
    book = orders_of([(1, Side.SELL, 50_000, 300), (1, Side.SELL, 50_000, 100)])
    assert said(run(book, [300, 100], metered([-101]), replace(RULES, relief=False))) == [
        (1, "ENERGY", -1, None, 1),
        (1, "ENERGY", -1, 50_000, 75),
        (1, "ENERGY", -1, 50_000, 25),
    ]


def test_relief_of_who_keeps_to_its_awards_stays_on_offer_up_to_its_connection() -> None:
    book = orders_of([(1, Side.SELL, 130_000, 30_000), (1, Side.BUY, 80_000, 2_000), (1, Side.BUY, 120_000, 2_000)])
    kept = said(run(book, [12_000, 0, 0], metered([-12_000])))
    assert kept == [
        (1, "ENERGY", -1, 130_000, 20_000),  # delivered, and what the connection may still feed in
        (1, "ENERGY", 1, 80_000, 2_000),  # a buyer above the root is no relief
    ]
    assert said(run(book, [4_000, 0, 0], metered([-4_000])))[0][-1] == 8_500, "as much again as it showed, and 500 W"
    assert said(run(book, [4_000, 0, 0], metered([-9_000])))[1][-1] == 4_000, "who does more than that offers none"
    assert [row[-1] for row in said(run(book, [4_000, 0, 0], metered([0])))] == [500, 500], "who shows nothing, little"
    without = run(book, [4_000, 0, 0], metered([-4_000]), replace(RULES, relief=False))
    assert said(without) == [(1, "ENERGY", -1, 130_000, 4_000)]


def test_a_coarse_meter_is_judged_by_the_mean_of_its_span() -> None:
    """9 kW awarded in one of three intervals, a meter that shows 3 kW in each: it did as it was told."""
    book = orders_of([(1, Side.SELL, 90_000, 9_000), (1, Side.SELL, 130_000, 5_000)])
    shown = metered([-3_000])
    assert said(run(book, [0, 0], shown)) == [(1, "ENERGY", -1, None, 3_000)]
    gates = [AwardedPower.of(book, np.array([award, 0]), np.array([1])) for award in (9_000_000, 0, 0)]
    coarse = replace(shown, spans=SpanAwards(np.array([0]), AwardedPower.mean(gates)))
    assert said(run(book, [0, 0], coarse)) == [
        (1, "ENERGY", -1, None, 3_000),
        (1, "ENERGY", -1, 130_000, 3_500),  # relief, as much again as it showed, and 500 W
    ]


def test_what_was_awarded_counts_by_customer_and_kind() -> None:
    energy = orders_of([(2, Side.BUY, 90_000, 4_000), (5, Side.SELL, 90_000, 4_000), (5, Side.BUY, 1, 4_000)])
    reactive = orders_of([(5, Side.SELL, 0, 700)], Product.REACTIVE)
    orders = Orders.concat([replace(energy, var_per_kw=np.full(3, 250, dtype=np.int32)), reactive])
    found = AwardedPower.of(orders, np.array([1_000_000, 4_000_000, 500_000, 700_000]), np.array([4, 5]))
    assert (found.bought_w.tolist(), found.sold_w.tolist()) == ([0, 500], [0, 4_000])
    assert (found.net_w.tolist(), found.net_var.tolist()) == ([0, -3_500], [0, -1_000 + 125 - 700])
    assert found.gross_var.tolist() == [0, 700]
    assert found.of_customers(np.array([4, 5]), np.array([1, 5, 9])).sold_w.tolist() == [0, 4_000, 0]


def test_who_idles_has_no_relief_to_offer_but_a_little() -> None:
    idle = orders_of([(1, Side.SELL, 103_500, 43_000)])
    assert said(run(idle, [0], metered([0]))) == [(1, "ENERGY", -1, 103_500, 500)]


def test_relief_of_a_device_for_which_somebody_vouches_counts_as_far_as_it_can_do() -> None:
    """Idle or not; without attestation, or of the connection itself, little is believed."""
    idle, offered = metered([0]), orders_of([(1, Side.SELL, 130_000, 9_000), (1, Side.SELL, 140_000, 9_000)])
    both = replace(offered, device=np.array([Device.BATTERY, Device.LOAD], dtype=np.uint8))
    assert [row[-1] for row in said(run(both, [0, 0], idle))] == [9_000, 500]
    for rules in (replace(RULES, attested=False), replace(RULES, within_devices=False)):
        assert [row[-1] for row in said(run(both, [0, 0], idle, rules))] == [500]
    beyond = run(both, [0, 0], metered([-4_000]))
    assert [row[-1] for row in said(beyond)] == [4_000], "who does what nobody awarded offers none"


def test_a_claim_takes_nothing_of_its_authors_own_relief() -> None:
    """Else whoever is long could have it withdrawn by what it says."""
    own = [(1, Side.SELL, 130_000, 9_000), (1, Side.BUY, None, 2_000)]
    before = said(run(orders_of(own), [0, 2_000], metered([2_000])))
    claimed = said(run(orders_of([*own, (1, Side.BUY, 5_000_000, 20_000)]), [0, 2_000, 20_000], metered([2_000])))
    assert before == claimed == [(1, "ENERGY", 1, None, 2_000), (1, "ENERGY", -1, 130_000, 2_500)]


def test_awarded_reactive_power_stays_flexible_where_meters_show_it() -> None:
    book = orders_of([(1, Side.BUY, 0, 10_000)], Product.REACTIVE)
    assert said(run(book, [5_000], metered([0], [5_000]))) == [(1, "REACTIVE", 1, 0, 5_500)]
    near = said(run(book, [5_000], metered([0], [4_000])))
    assert near == [(1, "REACTIVE", 1, 0, 4_400)], "up to a tenth beyond what was done"
    assert said(run(book, [5_000], metered([0], [0]))) == [], "what nobody did is not there"
    assert said(run(book, [5_000], metered([0], [-100]))) == [(1, "REACTIVE", -1, None, 100)]


def test_an_inverter_behind_a_load_moves_no_more_than_the_meter_shows_of_any_kind() -> None:
    book = orders_of([(1, Side.BUY, None, 5_000), (1, Side.SELL, 0, 9_000)], Product.REACTIVE)
    assert said(run(book, [5_000, 5_000], metered([3_000], [0]))) == [
        (1, "ENERGY", 1, None, 3_000),
        (1, "REACTIVE", 1, None, 3_000),
        (1, "REACTIVE", -1, 0, 3_300),
    ]
    assert said(run(book, [5_000, 5_000], metered([0], [0]))) == []


def test_a_missing_meter_is_inflexible_at_what_validation_assumes() -> None:
    book = orders_of([(1, Side.BUY, 150_000, 3_000)])
    assert said(run(book, [3_000], metered([2_000], missing=[True]))) == [(1, "ENERGY", 1, None, 2_000)]
    assert metered([0] * 5, missing=[True, False, False, False, False]).too_much_missing(199_999)
    assert not metered([0] * 5, missing=[True, False, False, False, False]).too_much_missing(200_000)


ROWS = st.lists(
    st.tuples(
        st.integers(1, 4),
        st.sampled_from([int(Side.BUY), int(Side.SELL)]),
        st.one_of(st.none(), st.integers(-500_000, 500_000)),
        st.integers(1, 50_000),
        st.integers(0, 1000),
    ),
    min_size=1,
    max_size=12,
)
NETS = st.lists(st.integers(-60_000, 60_000), min_size=4, max_size=4)


@given(ROWS, NETS, st.booleans())
@settings(max_examples=200, deadline=None)
def test_everybody_stands_with_what_its_meter_shows(
    rows: list[tuple[int, int, int | None, int, int]], net_w: list[int], relief: bool
) -> None:
    """Relief aside, filled and inflexible energy are the net reading; nothing is filled beyond its award."""
    orders = orders_of([row[:4] for row in rows])
    award = [row[3] * row[4] // 1000 for row in rows]
    book = run(orders, award, metered(net_w), replace(RULES, relief=False))
    signed = book.quantity_w * book.side
    for customer in range(1, 5):
        assert int(signed[book.customer == customer].sum()) == net_w[customer - 1]
        filled = (book.customer == customer) & (book.price_taker == 0)
        assert set(book.side[filled].tolist()) <= {int(np.sign(net_w[customer - 1]))}
        mine = sum(a for row, a in zip(rows, award, strict=True) if row[0] == customer and row[2] is not None)
        assert int(book.quantity_w[filled].sum()) <= mine


CLAIMS = st.lists(
    st.one_of(
        st.tuples(st.just(Product.ENERGY), st.just(Side.BUY), st.one_of(st.none(), st.integers(ROOT + 1, 5_000_000))),
        st.tuples(st.just(Product.ENERGY), st.just(Side.SELL), st.one_of(st.none(), st.integers(-1_000_000, ROOT - 1))),
        st.tuples(
            st.sampled_from([Product.REACTIVE, Product.RESERVE_UP, Product.RESERVE_DOWN]),
            st.sampled_from([Side.BUY, Side.SELL]),
            st.one_of(st.none(), st.integers(-1_000_000, 5_000_000)),
        ),
    ),
    min_size=1,
    max_size=6,
)


@given(ROWS, st.lists(st.integers(-60_000, 60_000), min_size=3, max_size=3), CLAIMS, st.integers(0, 4_000), st.data())
@settings(max_examples=200, deadline=None)
def test_who_shows_nothing_and_offers_no_relief_moves_nothing_whatever_it_claims(
    rows: list[tuple[int, int, int | None, int, int]],
    net_w: list[int],
    claims: list[tuple[Product, Side, int | None]],
    var_per_kw: int,
    data: st.DataObject,
) -> None:
    """The book of a run is the same to the row, so its prices are: a claim alone moves no price, while meters stand."""
    rows = [row for row in rows if row[0] != 4]
    orders = orders_of([row[:4] for row in rows])
    award = [row[3] * row[4] // 1000 for row in rows]
    kw = [data.draw(st.integers(1, 1_000_000)) for _ in claims]
    paper = [orders_of([(4, side, price, w)], product) for (product, side, price), w in zip(claims, kw, strict=True)]
    along = replace(Orders.concat(paper), var_per_kw=np.full(len(claims), var_per_kw, dtype=np.int32))
    claimed = [data.draw(st.integers(0, w)) for w in kw]
    idle = metered([*net_w, 0])
    assert run(Orders.concat([orders, along]), award + claimed, idle).equals(run(orders, award, idle))


@given(ROWS, NETS, st.lists(st.integers(1, 1_000_000), min_size=1, max_size=4))
@settings(max_examples=100, deadline=None)
def test_a_claim_at_the_cap_takes_no_relief_of_its_author(
    rows: list[tuple[int, int, int | None, int, int]], net_w: list[int], claims: list[int]
) -> None:
    """It may say more of what was really drawn; the rest of what its home offers stays believed."""
    orders = orders_of([row[:4] for row in rows])
    award = [row[3] * row[4] // 1000 for row in rows]
    sells = replace(RULES, fills=False)
    before = run(orders, award, metered(net_w), sells)
    paper = orders_of([(1, Side.BUY, 5_000_000, w) for w in claims])
    after = run(Orders.concat([orders, paper]), award + claims, metered(net_w), sells)
    relief = [int(book.quantity_w[(book.customer == 1) & (book.price_taker == 0)].sum()) for book in (before, after)]
    assert relief[1] >= relief[0]


@given(ROWS, NETS, st.lists(st.integers(1, 1_000_000), min_size=1, max_size=4))
@settings(max_examples=100, deadline=None)
def test_what_one_home_claims_beyond_its_meter_leaves_everybody_else_as_they_were(
    rows: list[tuple[int, int, int | None, int, int]], net_w: list[int], claims: list[int]
) -> None:
    orders = orders_of([row[:4] for row in rows])
    award = [row[3] * row[4] // 1000 for row in rows]
    before = run(orders, award, metered(net_w))
    paper = orders_of([(1, Side.BUY, 5_000_000, w) for w in claims])
    after = run(Orders.concat([orders, paper]), award + claims, metered(net_w))
    others = before.customer != 1, after.customer != 1
    assert before.take(others[0]).equals(after.take(others[1]))
