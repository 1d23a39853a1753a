"""A correction by authority moves what followed from a wrong reading, and nothing else."""

from datetime import date
from pathlib import Path

import numpy as np
import pytest
from shards import FIRST, SECOND

from tellegen.errors import InputError
from tellegen.operations.correction_file import CorrectionFile
from tellegen.operations.keeping import state_parts
from tellegen.operations.market import Market
from tellegen.operations.orders import preview_correction
from tellegen.operations.reading import read_day
from tellegen.operations.record import ShardRecord
from tellegen.operations.writer import folded
from tellegen.records import CloseKind, Editor, Edits
from tellegen.units import interval_start

CUSTOMER, DAY = 5, date(2016, 10, 25)
KNOWN = SECOND + 300
"""An interval long after the second day's close."""


@pytest.fixture
def named(shard_copy: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The shard, whose customers are called by their numbers."""
    monkeypatch.setattr("tellegen.operations.orders.read_number", lambda recorder, name, source: int(name))
    return shard_copy


def form(path: Path, added_wh: int, *, first: int = SECOND + 2, reason: str = "read again") -> CorrectionFile:
    """True registers of three intervals, with so much more in the second."""
    with ShardRecord.open(path) as record:
        rows = []
        for interval in range(first - 1, first + 3):
            shown = record.readings(interval, len(record.intake))
            shown = shown.take(shown.customer == CUSTOMER)
            last = int(np.argmax(shown.counter))
            rows.append((int(shown.import_wh[last]), int(shown.export_wh[last]), int(shown.reactive_varh[last])))
    imports, exports, reactive = (list(column) for column in zip(*rows, strict=True))
    return CorrectionFile(
        customer=str(CUSTOMER),
        reason=reason,
        known_at=interval_start(KNOWN),
        first_interval=interval_start(first),
        import_wh=(np.array(imports) + np.array([0, 0, 1, 1]) * added_wh).tolist(),
        export_wh=exports,
        reactive_varh=reactive,
    )


def test_a_preview_says_what_a_correction_then_does(named: Path) -> None:
    asked = form(named, 700)
    told = preview_correction(named, asked, "file")
    assert told.after_wh - told.before_wh == 700
    assert told.own_nanos > 0
    assert abs(told.largest_other_nanos) < told.own_nanos
    assert told.replay_equal
    assert not told.meets_readings
    assert told.steps_rerun == 3
    with Market.open(named) as market:
        before = market.ledger.balance(CUSTOMER)
        assert market.correct_by_order(asked, "file", asked.known) == told
        assert market.ledger.balance(CUSTOMER) - before == told.own_nanos
        assert market.ledger.trial_balance() == 0
        live = state_parts(market.state)
    with ShardRecord.open(named, use_snapshot=False) as record:
        again = state_parts(folded(record))
        (edits,) = [record.table(entry, Edits) for entry in record.journal.find(kind=Edits.kind, name=asked.name)]
        closes = read_day(record, DAY).closes
    assert (edits.editor == Editor.PERSON).all()
    assert [int(table.close_kind[0]) for _, table in closes].count(CloseKind.CORRECTION) == 1
    for part, columns in live.items():
        for name, column in columns.items():
            assert np.array_equal(column, again[part][name]), (part, name)


def test_undone_it_leaves_no_trace_in_what_anybody_owes(named: Path) -> None:
    wrong, right = form(named, 700), form(named, 0, reason="read once more")
    with Market.open(named) as market:
        before = market.ledger.balances()
        market.correct_by_order(wrong, "file", wrong.known)
        assert market.ledger.balances() != before
        undone = market.correct_by_order(right, "file", right.known)
        assert undone.meets_readings
        assert undone.replay_equal
        assert market.ledger.balances() == before


def test_what_cannot_be_corrected_is_refused_in_a_line(named: Path) -> None:
    final, once = form(named, 10, first=FIRST + 2), form(named, 10)
    early = once.model_copy(update={"known_at": interval_start(SECOND + 5)})
    much = form(named, 10_000_000)
    both = form(named, 10, first=SECOND - 2)
    with Market.open(named) as market:
        for bad, why in (
            (final, "is final"),
            (early, "is before"),
            (much, "takes"),
            (both, "leave the day"),
        ):
            with pytest.raises(InputError, match=why):
                market.correct_by_order(bad, "file", KNOWN * 300)
        market.correct_by_order(once, "file", once.known)
        with pytest.raises(InputError, match="on record already"):
            market.correct_by_order(once, "file", once.known)
