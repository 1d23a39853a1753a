"""Estimates conserve: what a profile or a gap is made of is what it adds up to."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from tellegen.metering import (
    MeteringError,
    daily_profile,
    energy_from_registers,
    longest_stillness,
)
from tellegen.records import Quality

days = st.integers(1, 5).flatmap(
    lambda d: arrays(
        np.int64, st.tuples(st.just(d), st.integers(1, 12), st.integers(1, 3)), elements=st.integers(-999, 999)
    )
)


@given(days)
def test_a_profile_adds_up_to_the_mean_day(past: np.ndarray) -> None:
    """law 1: what divides is rounded cumulatively, so that rounding never accumulates."""
    profile = daily_profile(past)
    assert profile.shape == past.shape[1:]
    assert (profile.sum(axis=0) == past.sum(axis=(0, 1)) // len(past)).all()
    assert (np.abs(profile - past.mean(axis=0)) < 1).all()


def test_without_a_past_there_is_no_profile() -> None:
    with pytest.raises(MeteringError, match="with a day at least"):
        daily_profile(np.zeros((0, 288, 2), dtype=np.int64))


def test_stillness_counts_both_directions() -> None:
    imports, exports = np.array([[5, 0], [0, 0], [1, 0]]), np.array([[0, 2], [0, 0], [3, 0]])
    assert longest_stillness(imports, exports).tolist() == [1, 2]
    nothing = np.zeros((0, 2), dtype=np.int64)
    assert (longest_stillness(nothing, nothing) > 10**9).all()


@given(st.lists(st.integers(0, 10**6), min_size=1, max_size=20))
def test_corrected_registers_give_back_their_differences(moved: list[int]) -> None:
    registers = np.cumsum([5, *moved])
    energy = energy_from_registers(4, 1000, registers, registers * 0, -registers)
    assert energy.import_wh.tolist() == moved
    assert energy.reactive_varh.tolist() == [-m for m in moved]
    assert energy.interval.tolist() == list(range(1000, 1000 + len(moved)))
    assert (energy.quality == Quality.CORRECTED).all()


def test_a_corrected_register_that_goes_backwards_is_named() -> None:
    with pytest.raises(MeteringError, match="export register goes backwards in interval 1001"):
        energy_from_registers(4, 1000, [1, 2, 3], [5, 5, 4], [0, 0, 0])
    with pytest.raises(MeteringError, match="two or more"):
        energy_from_registers(4, 1000, [1], [5], [0])
