"""Was everybody shown one history? Two receipts or checkpoints of a log, held against each other.

A log only grows, so of two heads that it has signed the smaller one is what the larger one begins
with. Three things prove that it is not: two roots for one size; two hashes for one run of entries,
which two receipts can show by themselves; and a third signed head whose tiles lead to it and to
another root at an earlier size. Each proof holds before anybody who has the operator's key.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from enum import StrEnum

from tellegen.verify.notes import OperatorKey, SignedHead, TreeHead, strict_base64, strict_number
from tellegen.verify.receipts import checkpoint_within, entry_within, is_receipt, path_within
from tellegen.verify.report import RefusedError
from tellegen.verify.tiles import Fetch, TiledLog
from tellegen.verify.tree import complete_subtrees, leaf, root_of, roots_from_consistency


class Verdict(StrEnum):
    """What two heads of a log say about each other."""

    CONSISTENT = "consistent"
    TWO_HISTORIES = "two histories"
    UNDECIDED = "undecided"
    TWO_SUCCESSORS = "two successors of one name"


@dataclass(frozen=True, slots=True)
class Shown:
    """What somebody was shown of a log.

    Attributes
    ----------
    name : what to call it. head : signed by the operator.
    subtrees : hashes of entries [start, stop) that are bound to the head, most from a receipt with its entry.
    """

    name: str
    head: TreeHead
    subtrees: dict[tuple[int, int], bytes]

    @classmethod
    def of(cls, text: str, key: str, *, name: str, entry: bytes | None = None) -> Shown:
        """Read a receipt or a checkpoint.

        Parameters
        ----------
        text : tlog-proof, or checkpoint with or without cosignatures.
        key : the operator's verifier key.
        name : what to call it.
        entry : bytes of the entry that a receipt proves; without them, and without a row's inner
            proof, only its checkpoint counts.

        Raises
        ------
        RefusedError : not of this log, not signed by the key, or the receipt does not prove its entry.
        """
        operator = OperatorKey.parse(key)
        note = checkpoint_within(text) if is_receipt(text) else text
        head = SignedHead.parse(note, operator).head
        proven = (entry if entry is not None else entry_within(text)) if is_receipt(text) else None
        if proven is None:
            return cls(name, head, {(0, head.size): head.root} if head.size.bit_count() == 1 else {})
        index, path = path_within(text)
        subtrees, root = complete_subtrees(leaf(proven), index, head.size, path)
        if root != head.root:
            raise RefusedError(f"{name}: the inclusion proof does not lead to the signed root")
        return cls(name, head, subtrees)


@dataclass(frozen=True, slots=True)
class Comparison:
    """The verdict, and what it rests on or what is missing for one."""

    verdict: Verdict
    detail: str


def compare(one: Shown, other: Shown) -> Comparison:
    """Hold two things shown against each other, with nothing else to go by."""
    for shown in (one, other):
        if shown.head.size == 0 and shown.head.root != root_of([]):
            return Comparison(Verdict.TWO_HISTORIES, f"{shown.name} signs a root for no entries that no log has")
    if one.head.size == other.head.size and one.head.root != other.head.root:
        return Comparison(
            Verdict.TWO_HISTORIES,
            f"{one.name} and {other.name} are signed for {one.head.size} entries with different roots",
        )
    for (start, stop), node in sorted(one.subtrees.items(), key=lambda item: item[0][1] - item[0][0]):
        if other.subtrees.get((start, stop), node) != node:
            what = f"entry {start}" if stop - start == 1 else f"entries {start} to {stop - 1}"
            return Comparison(Verdict.TWO_HISTORIES, f"{one.name} and {other.name} prove different {what}")
    if one.head == other.head or 0 in (one.head.size, other.head.size):
        return Comparison(Verdict.CONSISTENT, f"{one.name} and {other.name} are heads of one history")
    small, large = sorted((one, other), key=lambda shown: shown.head.size)
    return Comparison(
        Verdict.UNDECIDED,
        f"they are of {small.head.size} and {large.head.size} entries; a consistency proof from the log is needed",
    )


def two_of_one_name(one: tuple[Shown, str], other: tuple[Shown, str]) -> Comparison:
    """What two things shown of one name say, each with the key that signed it: a name stands for one log, and one key.

    Parameters
    ----------
    one, other : what was shown, and the verifier key.
    """
    (first, key), (second, another) = one, other
    return Comparison(
        Verdict.TWO_SUCCESSORS,
        f"{first.name} is signed by {key}, {second.name} by {another}: if both keys were made known by the operator, "
        "it keeps two logs of one name",
    )


def compare_by_proof(one: Shown, other: Shown, proof: str, key: str) -> Comparison:
    """The same, with the operator's consistency proof: ``old SIZE``, hashes, a blank line, the larger checkpoint."""
    verdict = compare(one, other)
    if verdict.verdict is not Verdict.UNDECIDED:
        return verdict
    small, large = sorted((one.head, other.head), key=lambda head: head.size)
    first, gap, note = proof.partition("\n\n")
    size, *hashes = first.split("\n")
    if not gap or not size.startswith("old "):
        raise RefusedError("a consistency proof begins with an old size")
    old, path = strict_number(size.removeprefix("old "), "old size"), [strict_base64(node, "proof") for node in hashes]
    head = SignedHead.parse(note, OperatorKey.parse(key)).head
    if (old, head) != (small.size, large):
        raise RefusedError(f"the proof is not from {small.size} entries to the checkpoint of {large.size}")
    if roots_from_consistency(old, head.size, small.root, path) != (small.root, large.root):
        return Comparison(Verdict.UNDECIDED, "the consistency proof does not verify, which proves nothing")
    return Comparison(Verdict.CONSISTENT, f"the log of {large.size} entries begins with the one of {small.size}")


def compare_in_log(one: Shown, other: Shown, fetch: Fetch, key: str) -> Comparison:
    """The same, with what the log shows today: its checkpoint and its tiles.

    Raises
    ------
    RefusedError : the log cannot be read, or its tiles do not lead to its own checkpoint.
    """
    try:
        note = fetch("checkpoint").decode()
    except UnicodeDecodeError:
        raise RefusedError("the log's checkpoint is not text") from None
    today = Shown.of(note, key, name="the log today")
    log = TiledLog(fetch, today.head.size)
    if log.root(log.size) != today.head.root:
        raise RefusedError("the log's tiles do not lead to its own checkpoint")
    for first, second in itertools.combinations((one, other, today), 2):
        verdict = compare(first, second)
        if verdict.verdict is Verdict.TWO_HISTORIES:
            return verdict
    for shown in (one, other):
        if 0 < shown.head.size <= log.size:
            size = shown.head.size
            before, after = roots_from_consistency(size, log.size, log.root(size), log.consistency(size))
            if after != today.head.root:
                raise RefusedError(f"the log's tiles do not prove its state at {size} entries")
            if before != shown.head.root:
                return Comparison(
                    Verdict.TWO_HISTORIES,
                    f"the log of {log.size} entries does not begin with the {size} entries that {shown.name} is for",
                )
    larger = max(one.head.size, other.head.size)
    if larger > log.size:
        return Comparison(Verdict.UNDECIDED, f"the log shows {log.size} entries only; {larger} have been signed for")
    return Comparison(Verdict.CONSISTENT, f"the log of {log.size} entries begins with both")
