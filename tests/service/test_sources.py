"""What one source may have waiting and what it may cost, whatever the others do."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tellegen.intake.limits import IntakeLimits, Reason, RefusedBatchError
from tellegen.intake.rate import BATCH_COST, SAVED_S, SIGNED_COST, WAIT_S_MAX, cost_of_bytes, cost_of_rows
from tellegen.intake.sent import SentBids, SentReadings
from tellegen.records import Orders, Readings, Route, Submissions
from tellegen.service.bodies import NDJSON, decode
from tellegen.service.sources import Sources

RATE = 1_000


def charged(sources: Sources, source: str, cost: int) -> float | RefusedBatchError:
    try:
        return sources.charge(source, cost)
    except RefusedBatchError as error:
        return error


def is_held(sources: Sources, source: str, size: int) -> bool:
    try:
        sources.hold(source, size)
    except RefusedBatchError:
        return False
    return True


@given(st.lists(st.tuples(st.floats(0, 3), st.integers(1, 5_000)), max_size=60))
def test_no_source_costs_more_than_its_rate_and_what_it_saved(asked: list[tuple[float, int]]) -> None:
    now = [0.0]
    sources = Sources(IntakeLimits(rows_per_s_max=RATE), lambda: now[0])
    spent = 0
    for pause, cost in asked:
        now[0] += pause
        wait = charged(sources, "A", cost)
        if isinstance(wait, RefusedBatchError):
            assert (wait.reason, wait.too_much_of) == (Reason.RATE, "A")
            assert wait.retry_after_s is not None
            assert wait.retry_after_s > WAIT_S_MAX
            continue
        assert 0 <= wait <= WAIT_S_MAX
        # what is larger than all that can be saved up is let through when that is there, and owed
        assert spent + min(cost, SAVED_S * RATE) <= (now[0] + wait + SAVED_S) * RATE + 1e-6
        spent += cost


def test_who_waits_as_long_as_it_is_told_is_let_through() -> None:
    now = [0.0]
    sources = Sources(IntakeLimits(rows_per_s_max=RATE), lambda: now[0])
    for _ in range(20):
        wait = charged(sources, "A", 1_500)
        if isinstance(wait, RefusedBatchError):
            assert wait.retry_after_s is not None
            now[0] += wait.retry_after_s
            assert sources.charge("A", 1_500) == 0


def test_what_one_costs_is_not_charged_to_another() -> None:
    sources = Sources(IntakeLimits(rows_per_s_max=RATE), lambda: 0.0)
    sources.charge("A", 10 * RATE)
    sources.correct("A", 100 * RATE)
    with pytest.raises(RefusedBatchError):
        sources.charge("A", 1)
    assert sources.charge("B", SAVED_S * RATE) == 0


@given(st.lists(st.tuples(st.sampled_from("ABC"), st.integers(1, 400)), max_size=100), st.integers(1, 250))
def test_however_much_some_want_the_next_one_finds_room(asked: list[tuple[str, int]], size: int) -> None:
    """Three take what they get of 16,000 bytes; a fourth has room for a body of 250, and nobody is over its bounds."""
    limits = IntakeLimits(pending_bytes_max=16_000, body_bytes_max=400, source_batches_max=64)
    sources = Sources(limits)
    held: dict[str, int] = dict.fromkeys("ABC", 0)
    for source, wanted in asked * 10:
        if is_held(sources, source, wanted):
            held[source] += wanted
    assert max(held.values()) <= 12_000
    assert sum(held.values()) <= 15_750
    sources.hold("D", size)
    sources.release("D", size)


def test_batches_of_one_source_are_few() -> None:
    sources = Sources(IntakeLimits(source_batches_max=2))
    sources.hold("A", 1)
    sources.hold("A", 1)
    with pytest.raises(RefusedBatchError, match="2 batches of source 'A' wait") as refused:
        sources.hold("A", 1)
    assert (refused.value.reason, refused.value.too_much_of) == (Reason.BUSY, "A")
    sources.hold("B", 1)
    sources.release("A", 1)
    sources.hold("A", 1)


def test_what_cannot_be_read_costs_as_much_as_what_can() -> None:
    unreadable = decode(Route.READINGS, NDJSON, b"x\n" * 10_000, 10_000)
    assert cost_of_rows(unreadable) == BATCH_COST + 10_000
    assert cost_of_rows(SentReadings(Readings.empty(), np.empty(0, dtype=np.int64))) == BATCH_COST
    assert cost_of_bytes(6_400) == BATCH_COST + 100


def test_a_row_that_somebody_signed_costs_more() -> None:
    bids = SentBids(Submissions.empty(), Orders.empty(), np.empty(0, dtype=np.int64))
    assert cost_of_rows(bids) == BATCH_COST
    assert SIGNED_COST > 1
