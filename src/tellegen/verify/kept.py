"""Receipts against a record: what the operator signed for must still be there, where it was, as it was."""

from __future__ import annotations

from collections.abc import Sequence

from tellegen.records.succession import UNKNOWN_SIZE
from tellegen.verify.notes import OperatorKey, SignedHead
from tellegen.verify.receipts import checkpoint_within, entry_within, path_within
from tellegen.verify.record import Entries, PublicRows
from tellegen.verify.report import RefusedError
from tellegen.verify.succession import successions_of
from tellegen.verify.tree import complete_subtrees, leaf, root_from_path, root_of


def check_kept(
    receipts: Sequence[str], logs: Sequence[tuple[OperatorKey, Entries, Sequence[PublicRows]]]
) -> tuple[int, str]:
    """Each receipt's entry stands on record, and the state that it was signed under is one of this log's.

    A receipt of a log that one of these took up is held against what was taken up; behind it, it is among what is said
    to be lost, or convicts.

    Parameters
    ----------
    receipts : texts that carry their entries. logs : the journals, each with its key and its plain rows.

    Raises
    ------
    RefusedError : one is no receipt of these logs; or the operator signed for what is not there.
    """
    told = f"{len(receipts)} receipts: what they prove stands on record as they prove it"
    for number, receipt in enumerate(receipts, 1):
        try:
            lost = _check(receipt, logs)
        except RefusedError as error:
            raise RefusedError(f"receipt {number}: {error}") from None
        told += f"; but receipt {number}: {lost}" if lost else ""
    return len(receipts), told


def _check(receipt: str, logs: Sequence[tuple[OperatorKey, Entries, Sequence[PublicRows]]]) -> str:
    """What of it is said to be lost; empty where all of it is there."""
    note, entry = checkpoint_within(receipt), entry_within(receipt)
    origin = note.partition("\n")[0]
    known = [(key, entries, None) for key, entries, _ in logs]
    taken = [(s.predecessor, entries, s) for key, entries, rows in logs for s in successions_of(rows, key)]
    found = next((log for log in [*known, *taken] if log[0].name == origin), None)
    if found is None:
        raise RefusedError(f"it is of {origin}, another log")
    key, entries, said = found
    if said is not None:
        entries = entries[: said.head.size]
    head = SignedHead.parse(note, key).head
    index, path = path_within(receipt)
    if entry is None:
        raise RefusedError("it carries no entry")
    if root_from_path(leaf(entry), index, head.size, path) != head.root:
        raise RefusedError("it proves nothing: the inclusion proof does not lead to the signed root")
    broken = "the operator has signed for it: keep the receipt, it proves that this record is not the one it was"
    if said is not None and head.size > said.head.size:
        if UNKNOWN_SIZE != said.signed_for < head.size:
            raise RefusedError(f"it is for {head.size} entries, of which {said.signed_for} are said; {broken}")
        for (start, stop), node in complete_subtrees(leaf(entry), index, head.size, path)[0].items():
            if stop <= len(entries) and root_of([leaf(data) for _, data in entries[start:stop]]) != node:
                raise RefusedError(f"entries {start} to {stop - 1} are others than were taken up; {broken}")
        what = f"entry {index} is not on record" if index >= len(entries) else f"it is for {head.size} entries"
        return f"{what}: {said.predecessor.name} was taken up at {said.head.size}; {said.lost}, says {said.by}"
    if index >= len(entries):
        raise RefusedError(f"entry {index} is not on record, which ends at {len(entries)}; {broken}")
    if entries[index][1] != entry:
        raise RefusedError(f"entry {index} is another on record; {broken}")
    if head.size > len(entries):
        raise RefusedError(f"the log had {head.size} entries, and has {len(entries)}; {broken}")
    if root_of([leaf(data) for _, data in entries[: head.size]]) != head.root:
        raise RefusedError(f"the first {head.size} entries are not those that were signed; {broken}")
    return ""
