"""The checks of a run's directory, in the order in which they lean on each other."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

from tellegen.errors import InputError
from tellegen.records import Header
from tellegen.verify import evidence, published, record
from tellegen.verify.notes import OperatorKey, TreeHead, WitnessKey
from tellegen.verify.report import RefusedError, Report, run_check

T = TypeVar("T")
_POSTING_COLUMNS = ("account", "interval", "line", "quantity", "price", "amount", "cause")
_STATEMENT_COLUMNS = ("customer", "line", "quantity", "amount", "cents")


def verify_directory(path: Path | str, *, key: str | None = None, witnesses: Sequence[str] = ()) -> Report:
    """Check everything about a run that can be checked without its secrets.

    Parameters
    ----------
    path : directory of the run.
    key : the operator's verifier key from elsewhere (``NAME+ID+BASE64``). Without it the report
        shows that the files agree with each other and with the key beside them, not whose key it is.
    witnesses : verifier keys of witnesses that must have cosigned the log.

    Returns
    -------
    A report; it never raises for what is inside the directory.

    Raises
    ------
    InputError : there is no such directory, or no journal in it.
    RefusedError : a witness's key is malformed.
    """
    run = Path(path)
    if not (run / "journal").is_dir():
        raise InputError(run, "journal/", "is missing; give the directory that `tellegen run --out` wrote")
    return _Verification(run, key, [WitnessKey.parse(witness) for witness in witnesses]).report()


def _need(value: T | None, what: str) -> T:
    if value is None:
        raise RefusedError(f"not checked, because {what} failed")
    return value


class _Verification:
    """One run's checks, and what each established for those after it (None where it failed)."""

    def __init__(self, run: Path, pinned: str | None, witnesses: Sequence[WitnessKey]) -> None:
        self._run, self._pinned, self._witnesses = run, pinned, witnesses
        self._key: OperatorKey | None = None
        self._entries: list[tuple[Header, bytes]] | None = None
        self._heads: list[TreeHead] | None = None
        self._public: list[record.PublicRows] | None = None
        self._manifest: published.Manifest | None = None
        self._published_ok = False
        self._postings: published.Columns | None = None

    def report(self) -> Report:
        checks = [
            run_check("operator key", self._check_key),
            run_check("journal files", lambda: record.check_files(self._run)),
            run_check("log", self._check_log),
            run_check("checkpoints", self._check_checkpoints),
            run_check("history", self._check_history),
            run_check("cosignatures", self._check_cosignatures),
            run_check("payloads", self._check_payloads),
            run_check("public rows", self._check_public),
            run_check("inclusion proofs", self._check_proofs),
            run_check("senders", self._check_senders),
            run_check("price parts", lambda: record.check_prices(_need(self._public, "payloads"))),
            run_check("manifest", self._check_manifest),
            run_check("published files", self._check_published),
            run_check("postings", self._check_postings),
            run_check("recorded postings", self._check_recorded_postings),
            run_check("statements", self._check_statements),
            run_check("books", self._check_books),
        ]
        return Report(all(check.ok for check in checks), checks)

    def _check_key(self) -> tuple[int, str]:
        self._key = record.operator_key(self._run, self._pinned)
        trust = "is the pinned one" if self._pinned else "not pinned: compare it with what the operator made known"
        return 1, f"key of {self._key.name}, {trust}"

    def _check_log(self) -> tuple[int, str]:
        self._entries = record.read_log(self._run)
        return len(self._entries), f"{len(self._entries)} entries, whole, canonical and each after its causes"

    def _check_checkpoints(self) -> tuple[int, str]:
        self._heads = record.read_checkpoints(self._run, _need(self._key, "operator key"))
        return len(self._heads), f"{len(self._heads)} signatures verify; the last is for {self._heads[-1].size} entries"

    def _check_history(self) -> tuple[int, str]:
        return record.check_history(_need(self._entries, "log"), _need(self._heads, "checkpoints"))

    def _check_cosignatures(self) -> tuple[int, str]:
        key, entries = _need(self._key, "operator key"), _need(self._entries, "log")
        return record.check_cosignatures(self._run, key, entries, self._witnesses)

    def _check_payloads(self) -> tuple[int, str]:
        entries = _need(self._entries, "log")
        rows, self._public = record.check_payloads(self._run, entries)
        return len(entries), f"{len(entries)} payloads are those named; {rows} row hashes rebuild their row roots"

    def _check_public(self) -> tuple[int, str]:
        count = sum(len(batch.table) for batch in _need(self._public, "payloads"))
        return count, f"{count} plain rows hash to their leaves; none is about a customer"

    def _check_proofs(self) -> tuple[int, str]:
        return record.check_proofs(_need(self._entries, "log"), _need(self._heads, "checkpoints")[-1])

    def _check_senders(self) -> tuple[int, str]:
        return evidence.check_senders(_need(self._entries, "log"), _need(self._public, "payloads"))

    def _check_manifest(self) -> tuple[int, str]:
        head = _need(self._heads, "checkpoints")[-1]
        self._manifest = published.read_manifest(self._run, _need(self._key, "operator key"), head)
        if self._manifest is None:
            return 0, "absent: nothing has been published yet"
        return 1, f"signed, about the last checkpoint, lists {len(self._manifest.files)} files"

    def _check_published(self) -> tuple[int, str]:
        if self._manifest is None:
            loose = published.unsigned_files(self._run)
            if loose:
                raise RefusedError(f"nobody has signed for {loose[0]}")
            return 0, "absent: nothing has been published yet"
        result = published.check_published(self._run, self._manifest)
        self._published_ok = True
        return result

    def _absent(self, *names: str) -> str | None:
        """Why a table cannot be checked yet; raises where it cannot be trusted enough to be read."""
        listed = self._manifest.files if self._manifest is not None else {}
        for name in names:
            if (name in listed or (self._run / name).exists()) and not self._published_ok:
                raise RefusedError("not checked, because published files failed")
            if name not in listed:
                return f"absent: {name}"
        return None

    def _check_postings(self) -> tuple[int, str]:
        absent = self._absent(published.POSTINGS)
        if absent:
            return 0, absent
        postings = published.read_columns(self._run, published.POSTINGS, _POSTING_COLUMNS)
        result = published.check_postings(postings)
        self._postings = postings
        return result

    def _check_recorded_postings(self) -> tuple[int, str]:
        absent = self._absent(published.POSTINGS)
        if absent:
            return 0, absent
        return published.check_recorded_postings(_need(self._postings, "postings"), _need(self._public, "payloads"))

    def _check_statements(self) -> tuple[int, str]:
        absent = self._absent(published.STATEMENTS, published.POSTINGS)
        if absent:
            return 0, absent
        statements = published.read_columns(self._run, published.STATEMENTS, _STATEMENT_COLUMNS)
        return published.check_statements(_need(self._postings, "postings"), statements)

    def _check_books(self) -> tuple[int, str]:
        absent = self._absent(published.BOOKS, published.POSTINGS)
        if absent:
            return 0, absent
        return published.check_books(self._run, _need(self._postings, "postings"))
