"""A feeder's day closes, is shared anew after late readings, and the cents come out as if it had all been in time."""

from dataclasses import replace
from datetime import date
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tellegen.books import fold, net, require_balanced
from tellegen.records import STATEMENT_LINES, Account, Line, Postings
from tellegen.replay import differences
from tellegen.rules import Rulebook, ShareKey
from tellegen.settlement import (
    DAY_LINES,
    SHARED_LINES,
    FeederDay,
    IntervalFacts,
    OpenBills,
    Parameters,
    SettlementError,
    close_feeder,
    invoice,
    line_sums,
    round_bills,
    settle_intervals,
    specimen_day,
    statements,
)
from tellegen.units import NANOS, NANOS_PER_CENT

RULES = Rulebook.load().at(date(2016, 7, 1)).settlement
FREE = replace(
    RULES,
    network_withdrawal_micros_per_kwh=0,
    network_fixed_nanos_per_day=0,
    network_revenue_nanos_per_customer_day=0,
    energy_tax_micros_per_kwh=0,
    sales_tax_ppm=0,
)
MILLION = 1_000_000
quick = settings(max_examples=40, deadline=None)


class Book:
    """The postings of one feeder over several days, and the closes that follow from them alone."""

    def __init__(self, customer: list[int], keys: list[int], rules: Parameters) -> None:
        self.customer, self.keys, self.rules = np.array(customer), np.array(keys), rules
        self.posted, self.billed = Postings.empty(), Postings.empty()

    def post(self, postings: Postings) -> None:
        require_balanced(postings)
        self.posted = Postings.concat([self.posted, postings])

    def balance(self, account: int, *lines: Line) -> int:
        rows = self.posted.take(self.posted.account == account)
        return int(rows.amount[np.isin(rows.line, lines)].sum() if lines else rows.amount.sum())

    def day(self, first: int, intervals: int, bills: OpenBills | None = None) -> FeederDay:
        here = self.posted.take((self.posted.interval >= first) & (self.posted.interval < first + intervals))
        amounts, _ = line_sums(here.take(here.line != Line.ROUNDING), self.customer)
        pools = fold(here, "account").amounts()
        return FeederDay(
            first_interval=first,
            intervals=intervals,
            customer=self.customer,
            pieces=np.array([(number, 0, intervals) for number in self.customer]),
            key_wh=self.keys,
            amounts=amounts,
            open_rent_nanos=pools.get((Account.RENT,), 0),
            open_unaccounted_nanos=pools.get((Account.UNACCOUNTED,), 0),
            bills=bills,
        )

    def share(self, first: int, intervals: int) -> Postings:
        shared = close_feeder(self.day(first, intervals), self.rules, cause=9).postings
        self.post(shared)
        return shared

    def close(self, first: int, intervals: int) -> list[int]:
        """Close a day; returns the cents that it invoices to each customer."""
        new = self.posted.take(np.arange(len(self.billed), len(self.posted)))
        unbilled, _ = line_sums(new, self.customer)
        carry = np.array([-self.balance(number, Line.ROUNDING) for number in self.customer])
        closed = close_feeder(
            self.day(first, intervals, OpenBills(self.customer, unbilled.sum(axis=1), carry)), self.rules
        )
        self.post(closed.postings)
        bill = Postings.concat([new, closed.postings])
        self.billed = self.posted
        said = statements(bill, bill.interval // intervals, closed=first // intervals)
        return [int(said.cents[said.customer == number].sum()) for number in self.customer]

    def lines(self) -> dict[tuple[int, ...], int]:
        """Balance by account and line, without ROUNDING."""
        sums = fold(self.posted.take(self.posted.line != Line.ROUNDING), "account", "line").amounts()
        return {key: amount for key, amount in sums.items() if amount}


def metered(readings: dict[int, list[int]], substation: list[int]) -> IntervalFacts:
    """Intervals 0 to 3 with nothing awarded: 0.20 per kWh at every node, 0.18 at the root."""
    drawn = np.array(list(readings.values())).T
    nothing, none = 0 * drawn, np.zeros(4, dtype=np.int64)
    return IntervalFacts(
        interval=np.arange(4),
        customer=np.array(list(readings)),
        node=np.array(list(readings)),
        forward_wh=nothing,
        real_time_wh=nothing,
        forward_price=nothing,
        real_time_price=nothing + 200_000,
        reactive_price=nothing,
        import_wh=drawn,
        export_wh=nothing,
        reactive_varh=nothing,
        counted_feed_in_wh=nothing - 1,
        root_forward_wh=none,
        losses_wh=none,
        substation_wh=np.array(substation),
        wholesale_forward_price=none,
        wholesale_real_time_price=none + 180_000,
    )


A, B, C = 1, 2, 3
SUBSTATION = [200, 200, 230, 270]
ESTIMATED = metered({A: [50] * 4, B: [50] * 4, C: [100, 100, 100, 100]}, SUBSTATION)
READ = metered({A: [50] * 4, B: [50] * 4, C: [100, 100, 130, 170]}, SUBSTATION)


def millions(postings: Postings, line: Line) -> list[float]:
    sums = fold(postings.take(postings.line == line), "account").amounts()
    return [sums.get((number,), 0) / MILLION for number in (A, B, C)]


def test_a_late_reading_of_a_closed_day_by_hand():
    """C's third register comes after the close: the pools are shared anew, the next close puts cents right."""
    book = Book([A, B, C], [1, 1, 2], FREE)
    book.post(settle_intervals(ESTIMATED, FREE))
    assert (book.balance(Account.RENT), book.balance(Account.UNACCOUNTED)) == (-16 * MILLION, 18 * MILLION)
    assert book.close(0, 4) == [4, 4, 8]
    assert millions(book.posted, Line.RENT_SHARE) == [-4, -4, -8]
    assert millions(book.posted, Line.UNACCOUNTED_SHARE) == [4.5, 4.5, 9]
    assert [-book.balance(number, Line.ROUNDING) / MILLION for number in (A, B, C)] == [0.5, 0.5, 1.0]

    late = differences(ESTIMATED.of_parties([2]), READ.of_parties([2]), FREE, cause=9)
    late = late.take(late.amount != 0)  # Wh on lines whose tariff is zero
    rows = zip(late.account.tolist(), late.interval.tolist(), (late.amount / MILLION).tolist(), strict=True)
    assert sorted(rows) == [
        (Account.UNACCOUNTED, 2, -5.4),
        (Account.UNACCOUNTED, 3, -12.6),
        (Account.RENT, 2, -0.6),
        (Account.RENT, 3, -1.4),
        (C, 2, 6),
        (C, 3, 14),
    ]
    book.post(late)
    shared = book.share(0, 4)
    assert millions(shared, Line.RENT_SHARE) == [-0.5, -0.5, -1]
    assert millions(shared, Line.UNACCOUNTED_SHARE) == [-4.5, -4.5, -9]
    assert not (shared.line == Line.ROUNDING).any()
    assert book.balance(Account.RENT) == book.balance(Account.UNACCOUNTED) == 0
    assert len(book.share(0, 4)) == 0

    second = book.close(4, 4)  # an empty day
    assert sorted(second[:2]) == [-1, 0]
    assert second[2] == 1
    carried = [-book.balance(number, Line.ROUNDING) / MILLION for number in (A, B, C)]
    assert sorted(carried) == [-4.5, 1.0, 5.5]

    in_time = Book([A, B, C], [1, 1, 2], FREE)
    in_time.post(settle_intervals(READ, FREE))
    cents = np.array(in_time.close(0, 4)) + in_time.close(4, 4)
    assert cents.tolist() == [4 + second[0], 4 + second[1], 9]
    assert in_time.lines() == book.lines()


@given(
    seed=st.integers(0, 10**6),
    changes=st.dictionaries(
        st.tuples(st.integers(0, 11), st.integers(0, 4)), st.integers(0, 2_000), min_size=1, max_size=8
    ),
    shared_between=st.booleans(),
    data=st.data(),
)
@quick
def test_late_readings_end_in_the_books_and_cents_of_readings_in_time(seed, changes, shared_between, data):
    """Order-free: whatever came when, the next close leaves the same balances, and the same cents so far."""
    day = specimen_day(seed, hours=1, customers=4, first_interval=12)
    steps = day.steps
    late = data.draw(st.permutations(sorted(changes)))
    after = _with_imports(steps, changes)
    book, in_time = (Book(day.customer.tolist(), day.key_wh.tolist(), RULES) for _ in range(2))
    book.post(settle_intervals(steps, RULES))
    cents = np.array(book.close(12, 12))
    known = steps
    for place in late:
        then = _with_imports(known, {place: changes[place]})
        book.post(differences(known, then, RULES, cause=7))
        known = then
        if shared_between:
            book.share(12, 12)
    book.share(12, 12)
    cents += book.close(24, 12)
    in_time.post(settle_intervals(after, RULES))
    assert (np.array(in_time.close(12, 12)) + in_time.close(24, 12)).tolist() == cents.tolist()
    assert in_time.lines() == book.lines()


def _with_imports(steps: IntervalFacts, changes: dict[tuple[int, int], int]) -> IntervalFacts:
    imports, substation = steps.import_wh.copy(), steps.substation_wh.copy()
    for (row, column), value in changes.items():
        if column < imports.shape[1]:
            imports[row, column] = value
        else:
            substation[row] = value
    return replace(steps, import_wh=imports, substation_wh=substation)


@given(
    bills=st.lists(st.lists(st.integers(-(10**9), 10**9), min_size=4, max_size=4), min_size=1, max_size=5),
    moved=st.lists(st.integers(-(10**9), 10**9), min_size=4, max_size=4),
)
@quick
def test_cents_so_far_follow_from_the_bill_so_far_and_the_last_close(bills, moved):
    """Law 1: it does not matter in which close an amount was billed."""
    elsewhere = [list(bill) for bill in bills]
    elsewhere[0] = [a + b for a, b in zip(elsewhere[0], moved, strict=True)]
    elsewhere[-1] = [a - b for a, b in zip(elsewhere[-1], moved, strict=True)]
    customer = np.array([3, 5, 8, 13])
    so_far = []
    for world in (bills, elsewhere):
        carry = cents = np.zeros(4, dtype=np.int64)
        for k, unbilled in enumerate(world):
            rounding = round_bills(OpenBills(customer, np.array(unbilled), carry), 288 * k)
            added = line_sums(rounding, customer)[0].sum(axis=1)
            assert not ((unbilled + added) % NANOS_PER_CENT).any()
            cents = cents + (unbilled + added) // NANOS_PER_CENT
            carry = carry - added
        so_far.append(cents.tolist())
        assert np.abs(carry).max() < NANOS_PER_CENT
    assert so_far[0] == so_far[1]


def feeder_day(**changes: object) -> FeederDay:
    """Three homes on a feeder all day, each with 3.00 of energy to pay for."""
    amounts = np.zeros((3, len(STATEMENT_LINES)), dtype=np.int64)
    amounts[:, STATEMENT_LINES.index(Line.FORWARD)] = 3 * NANOS
    day = FeederDay(
        first_interval=288,
        intervals=288,
        customer=np.array([2, 4, 7]),
        pieces=np.array([(2, 0, 288), (4, 0, 288), (7, 0, 288)]),
        key_wh=np.array([5, 0, 15]),
        amounts=amounts,
        open_rent_nanos=-40,
        open_unaccounted_nanos=80,
    )
    return replace(day, **changes)  # type: ignore[arg-type]


def posted(close_postings: Postings, account: int, line: Line) -> int:
    rows = close_postings.take((close_postings.account == account) & (close_postings.line == line))
    return int(rows.amount.sum())


@given(cuts=st.sets(st.integers(1, 299), max_size=4), intervals=st.sampled_from([276, 288, 300]))
@quick
def test_the_pieces_of_a_day_pay_one_day(cuts, intervals):
    """Somebody who moved between feeders pays the fixed charge, and owes the regulated revenue, once."""
    bounds = [0, *sorted(c for c in cuts if c < intervals), intervals]
    pieces = list(pairwise(bounds))
    whole = feeder_day(intervals=intervals, pieces=np.array([(2, 0, intervals)]))
    for nanos in (RULES.network_fixed_nanos_per_day, RULES.network_revenue_nanos_per_customer_day, 1_000_003):
        shares = [feeder_day(intervals=intervals, pieces=np.array([(2, *p)])).pro_rata(nanos)[0] for p in pieces]
        assert sum(shares) == nanos == whole.pro_rata(nanos)[0]
    there_and_back = feeder_day(intervals=intervals, pieces=np.array([(2, *p) for p in pieces]))
    assert there_and_back.pro_rata(1_000_003).tolist() == [1_000_003, 0, 0]
    assert there_and_back.connected().tolist() == [intervals, 0, 0]


def test_who_joined_at_noon_owes_half_a_day_and_no_share_by_key():
    day = feeder_day(pieces=np.array([(2, 0, 288), (4, 144, 288), (7, 0, 288)]))
    closed = close_feeder(day, RULES)
    assert posted(closed.postings, 4, Line.NETWORK_FIXED) == RULES.network_fixed_nanos_per_day // 2
    assert posted(closed.postings, 4, Line.RENT_SHARE) == 0
    revenue = RULES.network_revenue_nanos_per_customer_day
    network = closed.postings.take(closed.postings.account == Account.NETWORK)
    assert int(network.amount.sum()) == -(2 * revenue + revenue // 2)
    assert not closed.keys_missing


def test_a_day_without_keys_is_shared_equally_and_says_so():
    """Law 8 needs a key; a feeder whose keys are all zero shares by the time each was connected."""
    day = feeder_day(key_wh=np.zeros(3, dtype=np.int64), pieces=np.array([(2, 0, 144), (4, 0, 288), (7, 0, 288)]))
    closed = close_feeder(day, RULES)
    assert closed.keys_missing
    assert [posted(closed.postings, number, Line.UNACCOUNTED_SHARE) for number in (2, 4, 7)] == [16, 32, 32]
    assert (closed.open_rent_nanos, closed.open_unaccounted_nanos) == (0, 0)
    equal = replace(RULES, **dict.fromkeys(("rent_key", "unaccounted_key", "true_up_key"), ShareKey.EQUAL))
    assert not close_feeder(day, equal).keys_missing


def test_pools_of_a_feeder_without_anybody_stay_open():
    nobody = feeder_day(
        customer=np.zeros(0, dtype=np.int64),
        pieces=np.zeros((0, 3), dtype=np.int64),
        key_wh=np.zeros(0, dtype=np.int64),
        amounts=np.zeros((0, len(STATEMENT_LINES)), dtype=np.int64),
    )
    closed = close_feeder(nobody, RULES)
    assert (len(closed.postings), closed.open_rent_nanos, closed.open_unaccounted_nanos) == (0, -40, 80)


def test_a_mover_is_invoiced_where_the_day_ends_with_the_lines_of_both_feeders():
    """All feeders are closed first; then each rounds the bills of who is there at the end."""
    left = feeder_day(pieces=np.array([(2, 0, 288), (4, 0, 288), (7, 0, 100)]))
    right = feeder_day(
        customer=np.array([7, 9]),
        pieces=np.array([(7, 100, 288), (9, 0, 288)]),
        key_wh=np.array([0, 4]),
        amounts=left.amounts[:2],
    )
    closed = [close_feeder(day, RULES) for day in (left, right)]
    assert not any((part.postings.line == Line.ROUNDING).any() for part in closed)
    fixed = [posted(part.postings, 7, Line.NETWORK_FIXED) for part in closed]
    assert sum(fixed) == RULES.network_fixed_nanos_per_day
    bill = np.array([closed[0].amounts[2].sum() + closed[1].amounts[0].sum(), closed[1].amounts[1].sum()])
    rounding = round_bills(OpenBills(np.array([7, 9]), bill, 0 * bill), 288)
    rows = [closed[0].amounts[2], closed[1].amounts[0], closed[1].amounts[1]]
    amounts = np.concatenate([rows, line_sums(rounding, np.array([7, 9]))[0]])
    customer = np.array([7, 7, 9, 7, 9])
    said = invoice(customer, np.full(5, 17_000), amounts, 0 * amounts, closed=17_000)
    assert said.customer.tolist() == [7, 9]
    assert (said.cents.sum(axis=1) * NANOS_PER_CENT == said.amounts.sum(axis=1)).all()


def test_a_close_posts_only_what_changed():
    """Closed with its own result, a day has nothing left to post; a late Wh moves pools, true-up and tax alone."""
    day = feeder_day(bills=OpenBills(np.array([2, 7]), np.array([0, 0]), np.array([0, 4])))
    closed = close_feeder(day, RULES)
    assert closed.invoiced.tolist() == [2, 7]
    assert set(closed.postings.account[closed.postings.line == Line.ROUNDING].tolist()) == {2, 7, Account.ROUNDING}
    again = replace(day, amounts=closed.amounts, open_rent_nanos=0, open_unaccounted_nanos=0, bills=None)
    assert len(close_feeder(again, RULES).postings) == 0
    later = close_feeder(replace(again, open_unaccounted_nanos=20), RULES, cause=5).postings
    assert set(later.cause.tolist()) == {5}
    assert posted(later, Account.UNACCOUNTED, Line.UNACCOUNTED_SHARE) == -20
    require_balanced(later)


def test_a_day_that_does_not_fit_is_refused():
    with pytest.raises(SettlementError, match="overlaps another"):
        feeder_day(pieces=np.array([(2, 0, 150), (2, 149, 288)]))
    with pytest.raises(SettlementError, match="no part of the day's 288 intervals"):
        feeder_day(pieces=np.array([(2, 0, 289)]))
    with pytest.raises(SettlementError, match="does not take part"):
        feeder_day(pieces=np.array([(3, 0, 288)]))
    with pytest.raises(SettlementError, match=r"key_wh must be integers of shape \(3,\)"):
        feeder_day(key_wh=np.array([1, 2]))
    with pytest.raises(SettlementError, match="ascend"):
        feeder_day(customer=np.array([4, 2, 7]))


def test_day_level_lines_are_the_shared_ones_and_rounding():
    assert {*SHARED_LINES, Line.ROUNDING} == set(DAY_LINES)
    assert net([close_feeder(feeder_day(), RULES).postings], cause=0).line.max() <= Line.SALES_TAX
