"""What an intake has promised, held against the record."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

from tellegen.assess.faults.traffic import Batch
from tellegen.errors import TellegenError
from tellegen.intake.sent import Sent, SentBids, SentReadings, SentRoots
from tellegen.intake.submitted import ROW_KINDS, Submitted
from tellegen.journal import Journal
from tellegen.privacy import Vault
from tellegen.records import Refusal, bids_body


class ContradictionError(TellegenError):
    """A promise was broken; the message says which."""


def judge(journal: Journal, vault: Vault, acknowledged: Mapping[tuple[str, str], tuple[Batch, Sequence[int]]]) -> None:
    """Hold the record against what was acknowledged: batches by source and name, with their entries.

    Raises
    ------
    ContradictionError : a batch is not on record once, as it was sent, with its refusals; or a reading counts twice.
    """
    record = Submitted(journal, vault)
    for (source, name), (batch, entries) in acknowledged.items():
        if not set(journal.submission(source, name)) <= set(entries):
            raise ContradictionError(f"{source} {name}: entries {journal.submission(source, name)}, told {entries}")
        found = [i for i in journal.submission(source, name) if journal.entry(i).kind in ROW_KINDS]
        if len(found) != 1:
            raise ContradictionError(f"{source} {name} was acknowledged and is on record {len(found)} times")
        sent = record.sent(found[0])
        body = _body(sent)
        if hashlib.sha256(body).hexdigest() != batch.digest:
            raise ContradictionError(f"{source} {name} is not on record as it was sent")
        refusal = record.refusal_of_rows(found[0])
        if {row: why for row, why in enumerate(refusal.tolist()) if why} != batch.refused:
            raise ContradictionError(
                f"{source} {name}: refusals on record are {refusal.tolist()}, told {batch.refused}"
            )
    counted: set[tuple[int, int]] = set()
    for index in journal.find(kind="readings"):
        sent = record.sent(index)
        assert isinstance(sent, SentReadings)
        good = sent.readings.take(record.refusal_of_rows(index) == Refusal.NONE)
        rows = list(zip(good.meter.tolist(), good.counter.tolist(), strict=True))
        twice = counted.intersection(rows)
        if twice or len(set(rows)) != len(rows):
            raise ContradictionError(f"entry {index} counts a reading that counts already: {sorted(twice)[:1]}")
        counted.update(rows)


def _body(sent: Sent) -> bytes:
    match sent:
        case SentReadings():
            return sent.readings.rows().tobytes()
        case SentRoots():
            return sent.roots.rows().tobytes()
        case SentBids():
            return bids_body(sent.submissions, sent.orders)
