"""Versions: what was believed at a time can always be said, and nothing read is ever changed."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tellegen.metering import MeteringError, believed, late_reading, next_version
from tellegen.records import Editor, EditReason, Edits, Energy, Quality, ValidationRule

Fact = tuple[int, int, int]


def raw(*rows: Fact, quality: Quality = Quality.MEASURED) -> Energy:
    customer, interval, wh = (np.array(column) for column in zip(*rows, strict=True))
    zero = np.zeros_like(wh)
    return Energy(customer, interval, wh, zero, zero, np.full(wh.size, quality), zero)


def edited(version: int, *rows: Fact) -> Edits:
    energy = raw(*rows, quality=Quality.ESTIMATED)
    n = len(energy)
    return Edits(
        customer=energy.customer,
        interval=energy.interval,
        intervals=np.full(n, 1),
        version=np.full(n, version),
        import_wh=energy.import_wh,
        export_wh=energy.export_wh,
        reactive_varh=energy.reactive_varh,
        quality=energy.quality,
        rule=np.full(n, ValidationRule.SPIKE),
        editor=np.full(n, Editor.RULE),
        reason=np.full(n, EditReason.INTERPOLATION),
    )


def test_a_spike_its_estimate_and_the_true_reading_are_three_versions() -> None:
    record = [(100, raw((1, 9, 900), (2, 9, 20))), (200, edited(1, (1, 9, 30)))]
    true = late_reading(record, raw((1, 9, 33)))
    record.append((300, true))
    assert true.version.tolist() == [2]
    for at, wh, quality in ((99, [], []), (100, [900, 20], [0, 0]), (250, [30, 20], [1, 0]), (300, [33, 20], [2, 0])):
        known = believed(record, at)
        assert (known.import_wh.tolist(), known.quality.tolist()) == (wh, quality)
    assert record[0][1].import_wh.tolist() == [900, 20]


def test_two_edits_of_the_same_version_are_named() -> None:
    record = [(100, raw((4, 9, 900))), (200, edited(1, (4, 9, 30))), (300, edited(1, (4, 9, 31)))]
    with pytest.raises(MeteringError, match="customer 4, interval 9: an edit is version 1, 2 follows on record"):
        believed(record, 300)
    assert believed(record, 250).import_wh.tolist() == [30]


@given(st.lists(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3), st.integers(0, 99)), min_size=1), max_size=6))
def test_the_last_row_known_by_then_is_believed(batches: list[list[Fact]]) -> None:
    record = [(10 * k, raw(*batch)) for k, batch in enumerate(batches)]
    for at in range(0, 70, 10):
        want = {(c, i): wh for k, batch in enumerate(batches) if 10 * k <= at for c, i, wh in batch}
        known = believed(record, at)
        assert list(zip(known.customer.tolist(), known.interval.tolist(), known.import_wh.tolist(), strict=True)) == [
            (*key, want[key]) for key in sorted(want)
        ]
    count = [sum((c, i) == (1, 2) for batch in batches for c, i, _ in batch)]
    assert next_version(record, [1], [2]).tolist() == count
