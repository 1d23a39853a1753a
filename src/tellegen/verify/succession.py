"""Does a log say truly what it took over? What a successor says of the log before it, checked without the operator."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass

from tellegen.records.succession import UNKNOWN_SIZE, Successions, number_of, shard_of, successor_of
from tellegen.verify.histories import Comparison, Shown, Verdict, compare
from tellegen.verify.notes import OperatorKey, SignedHead, TreeHead
from tellegen.verify.promises import UNKNOWN_LOSS
from tellegen.verify.record import Entries, PublicRows
from tellegen.verify.report import RefusedError
from tellegen.verify.tiles import Fetch, TiledLog
from tellegen.verify.tree import leaf, root_of


@dataclass(frozen=True, slots=True)
class Succession:
    """One row of `Successions`, its predecessor's signature verified.

    Attributes
    ----------
    predecessor : whose log it was. head : what is taken over of it. signed_for : as the operator says; -1: unknown.
    by, reason : who says so, and why.
    """

    predecessor: OperatorKey
    head: TreeHead
    signed_for: int
    by: str
    reason: str

    @classmethod
    def of(cls, table: Successions, successor: str) -> Succession:
        """Read and verify it.

        Parameters
        ----------
        successor : name of the log in which it stands.

        Raises
        ------
        RefusedError : the predecessor has not signed for what is taken over, or is no log of the same shard.
        """
        if len(table) != 1:
            raise RefusedError(f"a succession names one log, not {len(table)}")
        try:
            texts = [
                bytes(column[0]).decode("ascii") for column in (table.predecessor, table.declared_by, table.reason)
            ]
        except UnicodeDecodeError:
            raise RefusedError("a succession is not ASCII") from None
        key, size, root = OperatorKey.parse(texts[0]), int(table.size[0]), table.root[0].tobytes()
        head = TreeHead(size, root)
        text = f"{key.name}\n{size}\n{base64.b64encode(root).decode()}\n"
        key.check(text, key.key_id + table.signature[0].tobytes())
        if successor_of(key.name) != successor:
            raise RefusedError(f"{successor} is not the name of the log that takes up {key.name}")
        signed_for = int(table.signed_for[0])
        if signed_for != UNKNOWN_SIZE and signed_for < size:
            raise RefusedError(f"{key.name} had signed for {size} entries, not for {signed_for}")
        return cls(key, head, signed_for, texts[1], texts[2])

    @property
    def lost(self) -> str:
        """What is lost, in words."""
        size = self.head.size
        if self.signed_for == UNKNOWN_SIZE:
            return f"how many entries behind {size} {UNKNOWN_LOSS}"
        lost = self.signed_for - size
        named = f"entry {size}" if lost == 1 else f"entries {size} to {self.signed_for - 1}"
        return f"{named} of it {'is' if lost == 1 else 'are'} lost" if lost else "none of it is lost"


def check_succession(entries: Entries, public: Sequence[PublicRows], key: OperatorKey) -> tuple[int, str]:
    """Each log that this one took up signed for the entries that it begins with, the first first."""
    rows = [rows for rows in public if isinstance(rows.table, Successions)]
    if len(rows) != number_of(key.name) - 1:
        raise RefusedError(f"{key.name} says that it took up {number_of(key.name) - 1} logs; {len(rows)} are on record")
    leaves, told = [leaf(data) for _, data in entries], list[str]()
    for batch, said in zip(rows, successions_of(public, key), strict=True):
        if said.head.size > batch.index or root_of(leaves[: said.head.size]) != said.head.root:
            raise RefusedError(f"entry {batch.index}: {said.predecessor.name} signed for other entries than these")
        told.append(
            f"took up {said.head.size} entries of {said.predecessor.name} ({said.reason}, says {said.by}); {said.lost}"
        )
    return len(rows), "; ".join(told)


def successions_of(public: Sequence[PublicRows], key: OperatorKey) -> list[Succession]:
    """What a log says of those that it took up, the first first; each predecessor's signature verified.

    Raises
    ------
    RefusedError : one has not signed for what is taken over.
    """
    name, found = shard_of(key.name), list[Succession]()
    for batch in public:
        if isinstance(batch.table, Successions):
            name = successor_of(name)
            found.append(Succession.of(batch.table, name))
    return found


def compare_with_successor(
    old: Shown, old_key: str, table: Successions, successor_key: str, fetch: Fetch | None = None
) -> Comparison:
    """Hold what somebody was shown of a log against what its successor says of it.

    Parameters
    ----------
    old, old_key : what was shown of the predecessor, and its verifier key.
    table, successor_key : the row that a receipt of the successor proves, and the successor's verifier key.
    fetch : reads the successor's log, which begins with what it took up; None: only the two are compared.

    Raises
    ------
    RefusedError : it is no succession of this log.
    """
    new = OperatorKey.parse(successor_key)
    said, successor = Succession.of(table, new.name), new.name
    if OperatorKey.parse(old_key) != said.predecessor:
        raise RefusedError(f"{successor} took up {said.predecessor.name} under another key than {old_key}")
    size = said.head.size
    taken = Shown(f"what {successor} took up", said.head, {(0, size): said.head.root} if size.bit_count() == 1 else {})
    finding = compare(old, taken)
    if finding.verdict is Verdict.UNDECIDED and old.head.size <= size and fetch is not None:
        return _found_in(old, fetch, new)
    if finding.verdict is Verdict.TWO_HISTORIES or old.head.size <= size:
        return finding
    if said.signed_for == UNKNOWN_SIZE:
        return Comparison(
            Verdict.UNDECIDED,
            f"{said.predecessor.name} was taken up at {size} entries ({said.reason}), and {said.by} does not say how "
            f"far it had been signed; {old.name} is for {old.head.size}",
        )
    if old.head.size <= said.signed_for:
        told = f"{said.predecessor.name} was taken up at {size} entries ({said.reason}); {said.lost}, says {said.by}"
        return Comparison(Verdict.CONSISTENT, told)
    return Comparison(
        Verdict.TWO_HISTORIES,
        f"{successor} says that {said.predecessor.name} had signed for {said.signed_for} entries; {old.name} is for "
        f"{old.head.size}",
    )


def _found_in(old: Shown, fetch: Fetch, key: OperatorKey) -> Comparison:
    """Whether a log begins with what was shown of the one that it took up."""
    today = SignedHead.parse(fetch("checkpoint").decode("utf-8", "replace"), key).head
    log, size = TiledLog(fetch, today.size), old.head.size
    if log.root(log.size) != today.root:
        raise RefusedError("the log's tiles do not lead to its own checkpoint")
    if size > log.size:
        raise RefusedError(f"the log shows {log.size} entries only")
    if log.root(size) != old.head.root:
        return Comparison(
            Verdict.TWO_HISTORIES, f"{key.name} does not begin with the {size} entries that {old.name} is for"
        )
    return Comparison(Verdict.CONSISTENT, f"{key.name} begins with the {size} entries that {old.name} is for")
