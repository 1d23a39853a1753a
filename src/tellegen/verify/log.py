"""The checks of one journal, in the order in which they lean on each other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypeVar

from tellegen.records import Clocks
from tellegen.records.succession import Successions, number_of
from tellegen.verify import record
from tellegen.verify.archive import check_archive
from tellegen.verify.clocks import check_clocks
from tellegen.verify.folder import Folder
from tellegen.verify.notes import OperatorKey, TreeHead, WitnessKey
from tellegen.verify.promises import NOT_REACHED
from tellegen.verify.report import Check, RefusedError, run_check
from tellegen.verify.succession import check_succession

T = TypeVar("T")


def need(value: T | None, what: str) -> T:
    """What an earlier check established, or a refusal that names it."""
    if value is None:
        raise RefusedError(f"{NOT_REACHED}{what} failed")
    return value


class LogChecks:
    """One journal's checks, and what each established for those after it (None where it failed).

    Parameters
    ----------
    folder : that holds ``journal/``. prefix : of the names of its checks.
    pinned : the verifier key that is known from elsewhere, or None.
    """

    def __init__(self, folder: Folder, prefix: str, pinned: str | None, witnesses: Sequence[WitnessKey]) -> None:
        self._folder, self._prefix, self._pinned, self._witnesses = folder, prefix, pinned, witnesses
        self.key: OperatorKey | None = None
        self.entries: record.Entries | None = None
        self.heads: list[TreeHead] | None = None
        self.payloads: record.Payloads | None = None

    def checks(self) -> Iterator[Check]:
        """Run them, one by one."""
        named = [
            ("operator key", self._check_key),
            ("journal files", lambda: record.check_files(self._folder)),
            ("log", self._check_log),
            ("checkpoints", self._check_checkpoints),
            ("history", self._check_history),
            ("cosignatures", self._check_cosignatures),
            ("payloads", self._check_payloads),
            ("public rows", self._check_public),
            ("archive", self._check_archive),
            ("inclusion proofs", self._check_proofs),
        ]
        for name, check in named:
            yield run_check(self._prefix + name, check)
        if any(header.kind == Clocks.kind for header, _ in self.entries or ()):
            yield run_check(f"{self._prefix}clocks", lambda: check_clocks(self.whole(), self.open_rows()))
        if self._succeeds():
            yield run_check(f"{self._prefix}succession", self._check_succession)

    def open_rows(self) -> list[record.PublicRows]:
        """Rows that lie open; refused where the payloads are not those named."""
        return need(self.payloads, f"{self._prefix}payloads").public

    def whole(self) -> record.Entries:
        """The log; refused where it is not whole."""
        return need(self.entries, f"{self._prefix}log")

    def signed(self) -> list[TreeHead]:
        """Every checkpoint; refused where one is not signed."""
        return need(self.heads, f"{self._prefix}checkpoints")

    def signer(self) -> OperatorKey:
        """The key; refused where it is not one."""
        return need(self.key, f"{self._prefix}operator key")

    def _check_key(self) -> tuple[int, str]:
        self.key = record.operator_key(self._folder, self._pinned)
        trust = "is the pinned one" if self._pinned else "not pinned: compare it with what the operator made known"
        return 1, f"key of {self.key.name}, {trust}"

    def _check_log(self) -> tuple[int, str]:
        self.entries = record.read_log(self._folder)
        return len(self.entries), f"{len(self.entries)} entries, whole, canonical and each after its causes"

    def _check_checkpoints(self) -> tuple[int, str]:
        self.heads = record.read_checkpoints(self._folder, self.signer())
        return len(self.heads), f"{len(self.heads)} signatures verify; the last is for {self.heads[-1].size} entries"

    def _check_history(self) -> tuple[int, str]:
        return record.check_history(self.whole(), self.signed())

    def _check_cosignatures(self) -> tuple[int, str]:
        return record.check_cosignatures(self._folder, self.signer(), self.whole(), self._witnesses)

    def _check_payloads(self) -> tuple[int, str]:
        entries = self.whole()
        held = self.payloads = record.check_payloads(self._folder, entries)
        there = len(entries) - len(held.stubs)
        told = f"{there} payloads are those named; {held.bound} row hashes rebuild their row roots"
        return len(entries), told + (f"; {held.live} rows are live, bound by the vault alone" if held.live else "")

    def _check_public(self) -> tuple[int, str]:
        count = sum(len(batch.table) for batch in self.open_rows())
        return count, f"{count} plain rows hash to their leaves; none is about a customer"

    def _check_archive(self) -> tuple[int, str]:
        tables = [batch.table for batch in self.open_rows()]
        return check_archive(self._folder, need(self.payloads, "payloads").stubs, tables)

    def _succeeds(self) -> bool:
        """Whether it took up another log, by its name or by its record."""
        rows = [] if self.payloads is None else self.payloads.public
        named = self.key is not None and number_of(self.key.name) > 1
        return named or any(batch.header.kind == Successions.kind for batch in rows)

    def _check_succession(self) -> tuple[int, str]:
        return check_succession(self.whole(), self.open_rows(), self.signer())

    def _check_proofs(self) -> tuple[int, str]:
        return record.check_proofs(self.whole(), self.signed()[-1])
