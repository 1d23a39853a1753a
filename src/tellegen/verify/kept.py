"""Receipts against a record: what the operator signed for must still be there, where it was, as it was."""

from __future__ import annotations

from collections.abc import Sequence

from tellegen.verify.notes import OperatorKey, SignedHead
from tellegen.verify.receipts import checkpoint_within, entry_within, path_within
from tellegen.verify.record import Entries
from tellegen.verify.report import RefusedError
from tellegen.verify.tree import leaf, root_from_path, root_of


def check_kept(receipts: Sequence[str], logs: Sequence[tuple[OperatorKey, Entries]]) -> tuple[int, str]:
    """Each receipt's entry stands on record, and the state that it was signed under is one of this log's.

    Parameters
    ----------
    receipts : texts that carry their entries. logs : the journals, each with its key.

    Raises
    ------
    RefusedError : one is no receipt of these logs; or the operator signed for what is not there.
    """
    for number, receipt in enumerate(receipts, 1):
        try:
            _check(receipt, logs)
        except RefusedError as error:
            raise RefusedError(f"receipt {number}: {error}") from None
    return len(receipts), f"{len(receipts)} receipts: what they prove stands on record as they prove it"


def _check(receipt: str, logs: Sequence[tuple[OperatorKey, Entries]]) -> None:
    note, entry = checkpoint_within(receipt), entry_within(receipt)
    origin = note.partition("\n")[0]
    found = next(((key, entries) for key, entries in logs if key.name == origin), None)
    if found is None:
        raise RefusedError(f"it is of {origin}, another log")
    key, entries = found
    head = SignedHead.parse(note, key).head
    index, path = path_within(receipt)
    if entry is None:
        raise RefusedError("it carries no entry")
    if root_from_path(leaf(entry), index, head.size, path) != head.root:
        raise RefusedError("it proves nothing: the inclusion proof does not lead to the signed root")
    broken = "the operator has signed for it: keep the receipt, it proves that this record is not the one it was"
    if index >= len(entries):
        raise RefusedError(f"entry {index} is not on record, which ends at {len(entries)}; {broken}")
    if entries[index][1] != entry:
        raise RefusedError(f"entry {index} is another on record; {broken}")
    if head.size > len(entries):
        raise RefusedError(f"the log had {head.size} entries, and has {len(entries)}; {broken}")
    if root_of([leaf(data) for _, data in entries[: head.size]]) != head.root:
        raise RefusedError(f"the first {head.size} entries are not those that were signed; {broken}")
