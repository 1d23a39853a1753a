"""Bills of a world without a market recover the same costs, exactly."""

from dataclasses import replace
from datetime import UTC, date, datetime
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tellegen.rules import Rulebook
from tellegen.settlement import (
    Plan,
    RetailDay,
    RetailLine,
    SettlementError,
    compare_bills,
    peak_intervals,
    retail_bills,
    specimen_day,
)
from tellegen.units import allocate, interval_at, tie_hash

RULES = Rulebook.load().at(date(2016, 7, 1)).settlement
MIDNIGHT = interval_at(datetime(2016, 6, 30, 22, tzinfo=UTC))


def retail_day(seed: int, customers: int = 6, hours: int = 24) -> RetailDay:
    day = specimen_day(seed, hours=hours, customers=customers, first_interval=MIDNIGHT)
    steps = day.steps
    return RetailDay(
        interval=steps.interval,
        customer=steps.customer,
        import_wh=steps.import_wh + 1,
        export_wh=steps.export_wh,
        substation_wh=steps.substation_wh,
        forward_price=steps.wholesale_forward_price,
        wholesale_price=steps.wholesale_real_time_price,
        key_wh=day.key_wh,
        day_intervals=288,
    )


worlds = st.builds(retail_day, st.integers(0, 10**6), st.integers(1, 6), st.integers(1, 24))


def _ties(day: RetailDay, hour: int) -> np.ndarray:
    members = day.interval[12 * hour : 12 * hour + 12].tolist()
    return tie_hash(f"retail day-ahead/{members[0]}", members)


@given(day=worlds, plan=st.sampled_from(Plan))
@settings(max_examples=30, deadline=None)
def test_bills_recover_wholesale_network_and_taxes_exactly(day, plan):
    """Law 1: the energy lines sum to the cost, the network lines to the regulated revenue."""
    bills = retail_bills(day, plan, RULES)
    sums = {line: int(amount.sum()) for line, amount in bills.lines.items()}
    by_hour = day.substation_wh.reshape(-1, 12)
    forward = by_hour.sum(axis=1) * day.forward_price[::12]
    # what an interval differs from an even hour settles in real time; the even hour is whole Wh by allocation
    real_time = int((day.substation_wh * day.wholesale_price).sum())
    even = np.concatenate([allocate(int(h.sum()), np.ones(12, int), _ties(day, k)) for k, h in enumerate(by_hour)])
    wholesale = int(forward.sum()) + real_time - int((even * day.wholesale_price).sum())
    assert sums[RetailLine.ENERGY] + sums[RetailLine.FEED_IN] == wholesale
    network = sums[RetailLine.NETWORK_ENERGY] + sums[RetailLine.NETWORK_FIXED] + sums[RetailLine.NETWORK_TRUE_UP]
    part = Fraction(day.interval.size, day.day_intervals)
    assert network == RULES.network_revenue_nanos(day.customer.size, part)
    assert int(bills.total.sum()) == wholesale + network + sums[RetailLine.ENERGY_TAX] + sums[RetailLine.SALES_TAX]


@given(day=worlds)
@settings(max_examples=20, deadline=None)
def test_a_flat_tariff_charges_every_kwh_alike(day):
    """One price: energy lines are pro rata to imports within one nano."""
    bills = retail_bills(day, Plan.FLAT, RULES)
    imported = day.import_wh.sum(axis=0)
    for share, energy in zip(bills.lines[RetailLine.ENERGY].tolist(), imported.tolist(), strict=True):
        assert abs(share * int(imported.sum()) - bills.energy_cost_nanos * energy) < int(imported.sum())


def test_time_of_use_moves_cost_from_night_to_day():
    """A customer who withdraws only off-peak pays less than under a flat price, in the given ratio."""
    day = retail_day(4, customers=2)
    peak = peak_intervals(day.interval, RULES)
    imports = np.where(peak[:, None], [[100, 0]], [[0, 100]])
    day = replace(day, import_wh=imports, export_wh=imports * 0)
    day = replace(day, wholesale_price=np.abs(day.wholesale_price), substation_wh=imports.sum(axis=1))
    flat, tou = retail_bills(day, Plan.FLAT, RULES), retail_bills(day, Plan.TIME_OF_USE, RULES)
    assert flat.peak_price_micros_per_kwh == flat.off_peak_price_micros_per_kwh
    assert tou.off_peak_price_micros_per_kwh < flat.peak_price_micros_per_kwh < tou.peak_price_micros_per_kwh
    by_day, by_night = tou.lines[RetailLine.ENERGY].tolist()
    paid_by_day, paid_by_night = by_day / (100 * peak.sum()), by_night / (100 * (~peak).sum())
    # one nano on a whole bill of 1e7 and more
    assert paid_by_night / paid_by_day == pytest.approx(0.5, rel=1e-7)
    assert int(flat.total.sum() - flat.lines[RetailLine.SALES_TAX].sum()) == int(
        tou.total.sum() - tou.lines[RetailLine.SALES_TAX].sum()
    )


def test_peak_hours_are_local():
    """Law 2: 17 to 22 o'clock in Berlin is 15 to 20 UTC in July and 16 to 21 UTC in January."""
    for month, shift in ((7, 2), (1, 1)):
        start = interval_at(datetime(2016, month, 5, tzinfo=UTC))
        peak = peak_intervals(start + np.arange(288), RULES)
        assert np.flatnonzero(peak)[[0, -1]].tolist() == [12 * (17 - shift), 12 * (22 - shift) - 1]


def test_costs_that_nobody_withdraws_cannot_be_recovered():
    day = retail_day(1)
    with pytest.raises(SettlementError, match="nobody withdraws"):
        retail_bills(replace(day, import_wh=day.import_wh * 0), Plan.FLAT, RULES)


@given(bills=st.lists(st.tuples(st.integers(-(10**12), 10**12), st.integers(-(10**12), 10**12)), min_size=1))
def test_a_transfer_is_no_saving(bills):
    """What one customer gains from another leaves the saving where it is, and is the transfer."""
    before, after = (np.array(side, dtype=np.int64) for side in zip(*bills, strict=True))
    change = compare_bills(before, after)
    saved = before - after
    assert change.saving_nanos == int(saved.sum())
    assert 2 * change.transfer_nanos == int(np.abs(saved).sum()) - abs(int(saved.sum()))
    assert change.better_off + change.worse_off <= before.size
