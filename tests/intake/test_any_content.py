"""Rows of any content are read or refused, one by one."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from intake_bench import FIRST, NOW, Bench, moved, readings, refused

from tellegen.intake.limits import Reason
from tellegen.intake.registry_changes import SentChanges, check_changes
from tellegen.intake.sent import SentRoots
from tellegen.records import DailyRoots, Orders, Readings, RecordError, Route, Statement, Submissions
from tellegen.registry import Directory, RegistryError
from tellegen.simulation.batches import bids_batch
from tellegen.simulation.shard import HEAD_END


@given(st.binary(max_size=200), st.sampled_from([b"", b"revocations\n", b"connections\n", b"admissions\n"]))
def test_changes_of_any_content_are_read_or_refused(content: bytes, kind: bytes) -> None:
    try:
        sent = SentChanges.from_bytes(kind + content)
        check_changes(sent.table, Directory(), NOW, lambda interval: 1)
    except (RecordError, RegistryError):
        return
    assert sent.rows


def test_a_meter_that_reads_less_often_than_the_rules_wait_is_refused(bench: Bench) -> None:
    table = replace(moved(bench), reads_every=np.array([1, 3], dtype=np.uint8))
    check_changes(table, bench.intake.directory, NOW, lambda interval: 3)
    with pytest.raises(RecordError, match=r"row 1: reads_every is longer than the rules wait for .* enact rules"):
        check_changes(table, bench.intake.directory, NOW, lambda interval: 1)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(
    rows=st.integers(1, 4),
    content=st.binary(min_size=4 * 68, max_size=4 * 68),
    customer=st.integers(-(2**31), 2**31 - 1) | st.integers(0, 13),
    register=st.integers(-(2**63), 2**63 - 1),
)
def test_readings_of_any_content_are_refused_row_by_row(
    bench: Bench, rows: int, content: bytes, customer: int, register: int
) -> None:
    table = Readings.from_bytes(content[: rows * 68]).rows()
    table["customer"][0], table["counter"][0] = customer, register
    table["meter"][0] = bench.keys.meters_of([customer])[0]
    error = refused(lambda: bench.send(readings(bench, Readings.from_rows(table), 7)))
    assert (error.reason, len(error.rows)) == (Reason.NO_GOOD_ROW, rows)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(
    content=st.binary(min_size=6 * 33, max_size=6 * 33), customer=st.integers(-(2**31), 2**31 - 1) | st.integers(0, 13)
)
def test_bids_of_any_content_are_refused_row_by_row(bench: Bench, content: bytes, customer: int) -> None:
    orders = Orders.from_bytes(content)
    submissions = Submissions(
        customer=np.array([customer, 2, 3], dtype=np.int32),
        order_rows=np.array([1, 2, 3], dtype=np.int32),
        sequence=np.zeros(3, dtype=np.int64),
        signature=np.zeros(3, dtype="V64"),
    )
    batch = bids_batch(bench.keys, submissions, orders, "F1", "real_time", FIRST + 12, 9)
    error = refused(lambda: bench.send(batch))
    assert (error.reason, len(error.rows)) == (Reason.NO_GOOD_ROW, 3)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(content=st.binary(min_size=120, max_size=120), customer=st.integers(-(2**31), 2**31 - 1) | st.integers(0, 13))
def test_signed_days_of_any_content_are_refused_row_by_row(bench: Bench, content: bytes, customer: int) -> None:
    last = NOW // 86_400 * 288 - 1
    table = DailyRoots.from_bytes(content * 3).rows()
    table["customer"][1:], table["day"][2] = customer, last // 288
    table["meter"][2] = bench.keys.meters_of([customer])[0]
    body = table.tobytes()
    statement = Statement.of(bench.keys.origin, Route.DAILY_ROOTS, HEAD_END, "F1", "", last, 3, body)
    signature = bench.keys.sign_as(HEAD_END, statement.to_bytes())
    error = refused(lambda: bench.intake.take(statement, signature, lambda: SentRoots.from_bytes(body)))
    assert (error.reason, len(error.rows)) == (Reason.NO_GOOD_ROW, 3)
