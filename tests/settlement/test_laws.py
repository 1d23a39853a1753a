"""What holds of every settlement, whatever was awarded, metered or priced."""

from dataclasses import fields, replace
from datetime import date

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tellegen.books import fold
from tellegen.records import Account, Line, Postings
from tellegen.rules import Rulebook, ShareKey
from tellegen.settlement import (
    DAY_LINES,
    ENERGY_LINES,
    INTERVAL_LINES,
    SettlementError,
    close_day,
    settle_day,
    settle_intervals,
    specimen_day,
    statements,
)
from tellegen.units import NANOS_PER_CENT, QuantityError

RULES = Rulebook.load().at(date(2016, 7, 1)).settlement
days = st.builds(specimen_day, st.integers(0, 10**6), hours=st.integers(1, 2), customers=st.integers(1, 8))
quick = settings(max_examples=40, deadline=None)


def by_account(postings: Postings, *lines: Line) -> dict[int, int]:
    chosen = postings.take(np.isin(postings.line, lines)) if lines else postings
    return {account: amount for (account,), amount in fold(chosen, "account").amounts().items()}


@given(day=days)
@quick
def test_every_transaction_sums_to_zero(day):
    """Law 8 and double entry: interval by interval, and the day-level lines by themselves."""
    postings = settle_day(day, RULES)
    assert not fold(postings, "cause", "interval").amount.any()
    assert not fold(postings.take(np.isin(postings.line, DAY_LINES)), "line").amount.any()


@given(day=days)
@quick
def test_energy_balances_like_money(day):
    """Every Wh of an interval: wholesale = customers + modelled losses + unaccounted for."""
    postings = settle_intervals(day.steps, RULES)
    energy = postings.take(np.isin(postings.line, sorted(ENERGY_LINES)))
    assert not fold(energy, "interval").quantity.any()


@given(day=days)
@quick
def test_priced_lines_are_quantity_times_price(day):
    """Law 1: exact products, checkable by anybody who holds a statement."""
    postings = settle_day(day, RULES)
    priced = [line for line in INTERVAL_LINES if not line.name.startswith("RENT_")]
    rows = postings.take(np.isin(postings.line, priced))
    assert np.array_equal(rows.amount, rows.quantity * rows.price)
    allocations = postings.take(np.isin(postings.line, DAY_LINES))
    assert not allocations.price.any()
    assert not allocations.quantity.any()


@given(day=days)
@quick
def test_rent_and_unaccounted_energy_close_at_zero(day):
    """Law 8: both accounts hold nothing once the day is closed."""
    balances = by_account(settle_day(day, RULES))
    assert balances.get(Account.RENT, 0) == 0
    assert balances.get(Account.UNACCOUNTED, 0) == 0


@given(day=days)
@quick
def test_the_operator_earns_its_regulated_revenue_and_nothing_else(day):
    """Law 8: network revenue is the requirement, whatever was withdrawn."""
    balances = by_account(settle_day(day, RULES))
    assert balances[Account.NETWORK] == -RULES.network_revenue_nanos_per_customer_day * day.customer.size


@given(day=days)
@quick
def test_customers_pay_for_wholesale_network_and_tax_to_the_nano(day):
    """What customers owe is what the three counterparties are owed, but for half a cent of rounding."""
    balances = by_account(settle_day(day, RULES))
    owed = sum(amount for account, amount in balances.items() if account > 0)
    others = sum(balances.get(account, 0) for account in (Account.WHOLESALE, Account.NETWORK, Account.TAX))
    assert owed + others == -balances.get(Account.ROUNDING, 0)
    carried = int(day.rounding_carry_nanos.sum())
    assert abs(balances.get(Account.ROUNDING, 0) + carried) <= NANOS_PER_CENT // 2


@given(day=days, energy_wh=st.integers(1, 10**6), trader=st.integers(0, 7), row=st.integers(0, 11))
@quick
def test_a_wash_trade_earns_nothing_from_the_pools(day, energy_wh, trader, row):
    """Law 8: buying ahead and selling in real time at the same price moves nobody's bill."""
    trader %= day.customer.size
    steps = day.steps
    price = steps.forward_price.copy()
    price[row, trader] = steps.real_time_price[row, trader]
    wholesale = steps.wholesale_forward_price.copy()
    wholesale[row] = steps.wholesale_real_time_price[row]
    honest = replace(steps, forward_price=price, wholesale_forward_price=wholesale)
    forward, root = steps.forward_wh.copy(), steps.root_forward_wh.copy()
    forward[row, trader] += energy_wh
    root[row] += energy_wh
    washed = replace(honest, forward_wh=forward, root_forward_wh=root)
    before = by_account(settle_day(replace(day, steps=honest), RULES))
    after = by_account(settle_day(replace(day, steps=washed), RULES))
    assert before == after


@given(day=days)
@quick
def test_a_pool_cannot_be_farmed_by_the_days_own_trades(day):
    """Law 8: shares of the pools follow the frozen keys alone; who has no key gets nothing."""
    key = day.key_wh.copy()
    key[-1] = 0
    if not key.any():
        return
    postings = settle_day(replace(day, key_wh=key), RULES)
    shares = postings.take(np.isin(postings.line, (Line.RENT_SHARE, Line.UNACCOUNTED_SHARE)))
    assert int(day.customer[-1]) not in shares.account


@given(day=days)
@quick
def test_doubling_the_unit_of_money_doubles_every_product(day):
    """Law 1: amounts of an interval are linear in prices, with no rounding anywhere."""
    prices = [f.name for f in fields(day.steps) if f.name.endswith("price")]
    doubled = replace(day.steps, **{name: 2 * getattr(day.steps, name) for name in prices})
    rules = replace(
        RULES,
        network_withdrawal_micros_per_kwh=2 * RULES.network_withdrawal_micros_per_kwh,
        energy_tax_micros_per_kwh=2 * RULES.energy_tax_micros_per_kwh,
    )
    single, double = settle_intervals(day.steps, RULES), settle_intervals(doubled, rules)
    assert np.array_equal(2 * single.amount, double.amount)
    assert np.array_equal(single.quantity, double.quantity)


@given(day=days, chosen=st.sets(st.integers(0, 11), min_size=1))
@quick
def test_intervals_settle_apart(day, chosen):
    """Settling some intervals gives exactly those intervals' postings of the whole day."""
    rows = np.array(sorted(chosen))
    whole = settle_intervals(day.steps, RULES)
    part = settle_intervals(day.steps.take(rows), RULES)
    assert part.equals(whole.take(np.isin(whole.interval, day.steps.interval[rows])))


@given(day=days)
@quick
def test_statement_cents_add_up(day):
    """Law 1: lines add up to the bill, each within a cent of its exact sum, and the bills to the postings."""
    postings = settle_day(day, RULES)
    bill = statements(postings, 17_000, closed=17_000)
    exact = by_account(postings)
    for number in day.customer.tolist():
        mine = bill.customer == number
        assert int(bill.cents[mine].sum()) * NANOS_PER_CENT == exact.get(number, 0) == int(bill.amounts[mine].sum())
    assert (np.abs(bill.cents * NANOS_PER_CENT - bill.amounts) < NANOS_PER_CENT).all()


@given(day=days)
@quick
def test_cents_round_over_days_together(day):
    """Law 1: what a day's rounding takes or gives is carried, so that it never accumulates."""
    first = settle_day(day, RULES)
    given_away = by_account(first, Line.ROUNDING)
    left = np.array([-given_away.get(number, 0) for number in day.customer.tolist()])
    assert (np.abs(left) < NANOS_PER_CENT + np.abs(day.rounding_carry_nanos)).all()
    second = settle_day(replace(day, rounding_carry_nanos=left), RULES)
    total = by_account(second, Line.ROUNDING)
    both = [given_away.get(n, 0) + total.get(n, 0) for n in day.customer.tolist()]
    assert max(abs(value) for value in both) < NANOS_PER_CENT


def test_no_float_appears_in_what_settlement_returns():
    """Law 1: every column of postings and statements is an integer."""
    postings = settle_day(specimen_day(3), RULES)
    for table in (postings, statements(postings, 0, closed=0)):
        assert {getattr(table, f.name).dtype.kind for f in fields(table)} <= {"i", "u"}


def test_a_float_is_refused_at_the_door():
    steps = specimen_day(3).steps
    with pytest.raises(QuantityError, match="forward_price must be integers"):
        replace(steps, forward_price=steps.forward_price / 1.0)


def test_an_overflow_is_refused_not_wrapped():
    """Law 1: the limits of a row are checked where a difference could leave them."""
    steps = specimen_day(3).steps
    most = np.full_like(steps.forward_wh, 2**31 - 1)
    with pytest.raises(QuantityError, match="real-time less day-ahead"):
        settle_intervals(replace(steps, forward_wh=most, real_time_wh=-most), RULES)


def test_a_net_seller_pays_sales_tax_on_the_grid_lines_only():
    """A home that sold more than it bought is no taxable seller; its network charges are taxed."""
    day = specimen_day(5, customers=4)
    postings = settle_day(day, RULES)
    grid = by_account(postings, Line.NETWORK_ENERGY, Line.ENERGY_TAX, Line.NETWORK_FIXED, Line.NETWORK_TRUE_UP)
    supply = by_account(
        postings, Line.FORWARD, Line.REAL_TIME, Line.IMBALANCE, Line.REACTIVE, Line.RENT_SHARE, Line.UNACCOUNTED_SHARE
    )
    tax = by_account(postings, Line.SALES_TAX)
    base = {n: max(0, grid[n] + max(0, supply[n])) for n in day.customer.tolist()}
    assert any(supply[n] < 0 for n in base), "the specimen has a net seller"
    for number, amount in base.items():
        assert abs(tax.get(number, 0) - amount * RULES.sales_tax_ppm / 1_000_000) <= 1
    assert -tax[Account.TAX] == sum(base.values()) * RULES.sales_tax_ppm // 1_000_000


def test_pools_without_any_key_are_shared_equally():
    day = specimen_day(5)
    keyless = settle_day(replace(day, key_wh=day.key_wh * 0), RULES)
    equal = replace(RULES, true_up_key=ShareKey.EQUAL, rent_key=ShareKey.EQUAL, unaccounted_key=ShareKey.EQUAL)
    assert keyless.equals(settle_day(day, equal))


def test_an_unclosed_day_has_no_statement():
    with pytest.raises(SettlementError, match="not whole cents"):
        statements(settle_intervals(specimen_day(5).steps, RULES), 0, closed=0)


def test_closing_a_closed_day_changes_nothing():
    """Day-level lines are recomputed from interval postings alone."""
    day = specimen_day(9)
    postings = settle_day(day, RULES)
    assert close_day(day, postings, RULES).equals(postings.take(np.isin(postings.line, DAY_LINES)))


def test_facts_that_do_not_fit_are_refused():
    steps = specimen_day(2, customers=3).steps
    with pytest.raises(SettlementError, match=r"losses_wh has shape \(1,\)"):
        replace(steps, losses_wh=steps.losses_wh[:1])
    with pytest.raises(SettlementError, match="customer numbers must ascend"):
        replace(steps, customer=steps.customer[::-1])
    with pytest.raises(SettlementError, match="import_wh is negative"):
        replace(steps, import_wh=steps.import_wh - 10**6)
