"""Sun that no price counted, for its meter was silent: what it is paid, who has the rest."""

from dataclasses import replace
from datetime import date

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tellegen.books import fold, require_balanced
from tellegen.records import Account, Line, Postings
from tellegen.replay import differences
from tellegen.rules import Rulebook
from tellegen.settlement import (
    ENERGY_LINES,
    READ,
    IntervalFacts,
    SettlementError,
    settle_intervals,
    specimen_day,
)

RULES = Rulebook.load().at(date(2016, 7, 1)).settlement
OFF = replace(RULES, late_feed_in_micros_per_kwh=None)


def one(net_wh: int, counted_wh: int, price: int = 200_000) -> IntervalFacts:
    """One home in one interval, with nothing awarded; the substation saw as much."""
    steps = specimen_day(1, hours=1, customers=1).steps.take([0])
    nothing = np.zeros((1, 1), dtype=np.int64)
    return replace(
        steps,
        forward_wh=nothing,
        real_time_wh=nothing,
        real_time_price=nothing + price,
        import_wh=nothing + max(net_wh, 0),
        export_wh=nothing + max(-net_wh, 0),
        counted_feed_in_wh=nothing + counted_wh,
        losses_wh=nothing[0],
        root_forward_wh=nothing[0],
        substation_wh=nothing[0] + net_wh,
    )


def paid(postings: Postings) -> int:
    """What the home is paid for its energy, nano."""
    return -int(postings.amount[(postings.account > 0) & (postings.line == Line.IMBALANCE)].sum())


@pytest.mark.parametrize(
    ("fed_in", "counted", "unpaid_wh"),
    [
        (700, READ, 0),  # it was read
        (700, 700, 0),  # history expected as much
        (500, 700, 0),  # or more: what is missing is bought back at the price that counted it
        (700, 0, 700),  # nobody expected any
        (700, 450, 250),
        (-300, 0, 0),  # it drew: at the price, as ever
    ],
)
def test_only_what_nobody_expected_and_nobody_read_is_paid_no_more_than_the_limit(
    fed_in: int, counted: int, unpaid_wh: int
) -> None:
    facts = one(-fed_in, counted)
    postings = settle_intervals(facts, RULES)
    assert paid(postings) == (fed_in - unpaid_wh) * 200_000
    assert paid(settle_intervals(facts, OFF)) == fed_in * 200_000
    limited = settle_intervals(facts, replace(RULES, late_feed_in_micros_per_kwh=50_000))
    assert paid(limited) == fed_in * 200_000 - unpaid_wh * 150_000


@pytest.mark.parametrize("price", [-30_000, 0, 200_000])
def test_a_price_below_the_limit_stands(price: int) -> None:
    """Who feeds in where energy is a burden pays for it, read or not."""
    assert paid(settle_intervals(one(-700, 0, price), RULES)) == 700 * min(price, 0)


@given(seed=st.integers(0, 10**6), limit=st.one_of(st.none(), st.integers(-500_000, 500_000)))
@settings(max_examples=60, deadline=None)
def test_what_is_not_paid_is_rent_and_nothing_else_moves(seed: int, limit: int | None) -> None:
    steps = specimen_day(seed, hours=1, customers=5).steps
    before, after = (
        settle_intervals(steps, replace(RULES, late_feed_in_micros_per_kwh=each)) for each in (None, limit)
    )
    require_balanced(after)
    unpaid = 0
    if limit is not None:
        unpaid = int((steps.late_feed_in_wh * np.maximum(steps.real_time_price - limit, 0)).sum())
    sums = [fold(postings, "account", "line") for postings in (before, after)]
    moved = {key: 0 for each in sums for key in each.amounts()}
    for sign, each in zip((-1, 1), sums, strict=True):
        for key, amount in each.amounts().items():
            moved[key] += sign * amount
    moved = {key: amount for key, amount in moved.items() if amount}
    assert sum(amount for (account, _), amount in moved.items() if account > 0) == unpaid
    assert moved.get((int(Account.RENT), int(Line.RENT_DEVIATION)), 0) == -unpaid
    assert {line for (account, line) in moved if account > 0} <= {int(Line.IMBALANCE)}
    assert {account for account, _ in moved if account < 0} <= {int(Account.RENT)}
    rows = after.take(after.account > 0)
    assert np.array_equal(rows.amount, rows.quantity * rows.price), "a row for each price, each exact"
    energy = after.take(np.isin(after.line, sorted(ENERGY_LINES)))
    assert not fold(energy, "interval").quantity.any()


@given(seed=st.integers(0, 10**6), wh=st.integers(0, 3_000))
@settings(max_examples=40, deadline=None)
def test_to_come_late_never_pays_more_than_to_be_read(seed: int, wh: int) -> None:
    """At one price; and each Wh more is paid the limit or the price, whichever is less."""
    price = int(np.random.default_rng(seed).integers(-300_000, 300_000))
    late, read = (paid(settle_intervals(one(-wh, counted, price), RULES)) for counted in (0, READ))
    assert late == min(read, 0)


@given(seed=st.integers(0, 10**6), wh=st.integers(0, 900))
@settings(max_examples=40, deadline=None)
def test_a_reading_that_comes_late_posts_the_difference_of_two_settlements(seed: int, wh: int) -> None:
    old = specimen_day(seed, hours=1, customers=4).steps
    export = old.export_wh.copy()
    export[3, 1] += wh
    new = replace(old, export_wh=export)
    mine = [facts.of_parties([1]).take([3]) for facts in (old, new)]
    assert differences(*mine, RULES, cause=7).equals(differences(old, new, RULES, cause=7))


def test_less_than_nothing_was_never_counted() -> None:
    with pytest.raises(SettlementError, match="counted_feed_in_wh is negative"):
        one(-700, -2)
