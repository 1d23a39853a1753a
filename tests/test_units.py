"""Law 1: exact numbers. Law 2: intervals."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tellegen.units import (
    QuantityError,
    allocate,
    amount_nanos,
    check_rows,
    cumulative_energy_wh,
    exact_sum,
    format_money,
    interval_at,
    interval_start,
    known_zone,
    tie_hash,
)

weights = st.lists(st.integers(0, 2**40), min_size=1, max_size=40)
totals = st.integers(-(2**62), 2**62)


@given(totals, weights)
def test_shares_sum_to_the_total_and_stay_within_one_of_proportion(total: int, weight: list[int]) -> None:
    """law 1: an allocation conserves its total, and nobody is off by a whole unit."""
    if sum(weight) == 0:
        weight[0] = 1
    shares = allocate(total, weight, tie_hash("t", range(len(weight))))
    assert sum(int(s) for s in shares) == total
    for share, w in zip(shares, weight, strict=True):
        assert abs(int(share) * sum(weight) - total * w) < sum(weight)


@given(totals, st.lists(st.integers(0, 2**61), min_size=1, max_size=3), st.integers(0, 5))
def test_shares_are_those_of_unbounded_arithmetic(total: int, weight: list[int], day: int) -> None:
    """law 1: largest remainders of exact fractions, however large the weights."""
    if sum(weight) == 0:
        weight[0] = 1
    ties = tie_hash(f"day {day}", range(len(weight)))
    exact = [divmod(abs(total) * w, sum(weight)) for w in weight]
    shares = [quotient for quotient, _ in exact]
    for k in sorted(range(len(weight)), key=lambda k: (-exact[k][1], ties[k]))[: abs(total) - sum(shares)]:
        shares[k] += 1
    assert allocate(total, weight, ties).tolist() == [share if total >= 0 else -share for share in shares]


@given(st.integers(1, 2**31), st.integers(2, 30))
def test_a_share_without_weight_is_nothing(total: int, n: int) -> None:
    """law 1: who has no weight gets nothing, not even a remainder."""
    assert int(allocate(total, [0] + [1] * n, tie_hash("z", range(n + 1)))[0]) == 0


def test_ties_are_fair_over_time() -> None:
    """law 1: hashed ties; no member always wins the odd cent."""
    wins = np.zeros(3, dtype=np.int64)
    for day in range(600):
        wins += allocate(1, [1, 1, 1], tie_hash(f"day {day}", range(3)))
    assert wins.sum() == 600
    # Binomial(600, 1/3) has a standard deviation of 11.5: five of them on either side
    assert wins.min() > 140


@given(st.integers(-(2**31) + 1, 2**31 - 1), st.integers(-(2**31) + 1, 2**31 - 1))
def test_an_energy_line_is_an_exact_product(energy_wh: int, price: int) -> None:
    """law 1: Wh times micro per kWh is nano-currency, without rounding."""
    assert int(amount_nanos(energy_wh, price)) == energy_wh * price


@pytest.mark.parametrize("energy", [2**31, -(2**31)])
def test_a_row_beyond_its_limit_is_refused(energy: int) -> None:
    """law 1: limits are checked."""
    with pytest.raises(QuantityError, match="limit"):
        amount_nanos(energy, 1)


def test_floats_do_not_enter_money() -> None:
    """law 1: float is for physics only."""
    with pytest.raises(QuantityError, match="integers"):
        amount_nanos(1.5, 100)


def test_a_sum_that_does_not_fit_raises() -> None:
    """law 1: every sum is overflow-checked."""
    assert exact_sum([2**62, -(2**62), 5]) == 5
    with pytest.raises(QuantityError, match="fit"):
        exact_sum([2**62, 2**62])


@given(st.lists(st.integers(-(10**9), 10**9), min_size=1, max_size=50))
def test_rounding_of_energy_never_accumulates(power_mw: list[int]) -> None:
    """law 1: interval energies are differences of cumulative sums; after any time less than 1 Wh is open."""
    cumulative = np.cumsum(power_mw)
    energy = np.diff(cumulative_energy_wh(cumulative), prepend=0)
    assert 0 <= int(cumulative[-1]) - int(energy.sum()) * 12_000 < 12_000


@given(st.datetimes(datetime(1971, 1, 1), datetime(2100, 1, 1)))
def test_an_interval_contains_its_times(moment: datetime) -> None:
    """law 2: half-open intervals numbered from the epoch."""
    time = moment.replace(tzinfo=UTC)
    start = interval_start(interval_at(time))
    assert start <= time < start + timedelta(minutes=5)


@pytest.mark.parametrize("name", ["Mars/Olympus", "Europe", "../../etc/passwd", "", "\0"])
def test_a_zone_that_is_none_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="is not a time zone"):
        known_zone(name)


def test_a_time_without_zone_is_refused() -> None:
    """law 2: times are UTC or carry an offset."""
    with pytest.raises(QuantityError, match="time zone"):
        interval_at(datetime(2016, 5, 8))


@given(st.integers(-(10**15), 10**15))
def test_money_prints_exactly_with_nine_decimals(nanos: int) -> None:
    whole, part = format_money(nanos, 9).split(".")
    assert int(whole + part) == nanos


def test_the_lowest_int64_passes_no_limit() -> None:
    """law 1: its magnitude has no int64, so that abs() leaves it negative."""
    lowest = np.array([-(2**63), -1])
    with pytest.raises(QuantityError):
        check_rows(lowest, "energy")
    with pytest.raises(QuantityError):
        exact_sum(lowest)
    with pytest.raises(QuantityError):
        exact_sum(np.array([2**63], dtype=np.uint64))
