"""The checks of a directory: of each of its journals, of what holds between them, and of what is published."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from tellegen.errors import InputError
from tellegen.records import shard_of
from tellegen.verify import authority, evidence, published, record
from tellegen.verify.calendar import Calendar
from tellegen.verify.folder import Folder, Limits
from tellegen.verify.kept import check_kept
from tellegen.verify.log import LogChecks, need
from tellegen.verify.market import IntakeTimes, MarketChecks
from tellegen.verify.notes import WitnessKey
from tellegen.verify.price_file import PublishedFile
from tellegen.verify.promises import NOT_REACHED
from tellegen.verify.published import MARKET
from tellegen.verify.report import Check, PriceComparison, RefusedError, Report, run_check
from tellegen.verify.root_prices import RootPriceChecks, judged

_SIMULATED = "simulated/"
"""Beginning of the name of a shard whose keys come from a seed."""
_POSTING_COLUMNS = ("unit", "account", "interval", "line", "quantity", "price", "amount", "cause")
_STATEMENT_COLUMNS = ("customer", "line", "quantity", "amount", "cents")


def verify_directory(
    path: Path | str,
    *,
    key: str | None = None,
    market_key: str | None = None,
    witnesses: Sequence[str] = (),
    publishers: Sequence[str] = (),
    receipts: Sequence[str] = (),
    root_prices: Path | None = None,
    limits: Limits | None = None,
    each: Callable[[Check], None] = lambda check: None,
) -> Report:
    """Check everything about a run or a shard that can be checked without its secrets.

    A shard has two journals: the intake's, and the market's in ``market/``; both are checked, each under its own key.

    Parameters
    ----------
    path : the directory.
    key : the operator's verifier key from elsewhere (``NAME+ID+BASE64``). Without it the report
        shows that the files agree with each other and with the key beside them, not whose key it is.
    market_key : the same of the market's journal (``NAME/market+ID+BASE64``).
    witnesses : verifier keys of witnesses that must have cosigned the log: the intake's, or that of the run.
    publishers : verifier keys of those who sign the wholesale prices; without any, the rulebook on record is believed.
    receipts : texts of receipts that the operator has given: what they prove must be on record.
    root_prices : wholesale prices as they were published; those on record are compared with them.
    limits : how much may be read; None: what this machine's memory bears. They bound each file before it is read. For a
        directory from a stranger see `confined`, which bounds the memory and the time of all of it.
    each : called with each check when it is done.

    Returns
    -------
    A report; it never raises for what is inside the directory.

    Raises
    ------
    InputError : there is no such directory, or no journal in it; or the prices cannot be read.
    RefusedError : a witness's key is malformed.
    """
    if not (Path(path) / "journal").is_dir():
        raise InputError(path, "journal/", "is missing; give the directory of a run or a shard")
    run = Folder(Path(path), Limits(_memory_bytes()) if limits is None else limits)
    keys = [WitnessKey.parse(witness) for witness in witnesses]
    published_prices = None if root_prices is None else PublishedFile.read(root_prices)
    return _Verification(run, key, market_key, keys, publishers, receipts, published_prices).report(each)


def _memory_bytes() -> int:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return Limits().memory_bytes  # no such question on Windows


class _Verification:
    """A directory's checks, and what each established for those after it (None where it failed)."""

    def __init__(
        self,
        run: Folder,
        pinned: str | None,
        market_pinned: str | None,
        witnesses: Sequence[WitnessKey],
        publishers: Sequence[str],
        receipts: Sequence[str],
        prices: PublishedFile | None,
    ) -> None:
        self._run = run
        self._intake = LogChecks(run, "", pinned, witnesses)
        has_market = run.has(MARKET) or market_pinned is not None
        self._market = LogChecks(run.below(MARKET), f"{MARKET}: ", market_pinned, ()) if has_market else None
        self._across: MarketChecks | None = None
        self._root_prices: RootPriceChecks | None = None
        self._publishers, self._receipts, self._price_file = publishers, receipts, prices
        self._comparison: PriceComparison | None = None
        self._manifest: published.Manifest | None = None
        self._published_ok = False
        self._postings: published.Columns | None = None

    def report(self, each: Callable[[Check], None]) -> Report:
        checks: list[Check] = []
        for check in self._checks():
            checks.append(check)
            each(check)
        return Report(all(check.ok for check in checks), checks, self._comparison)

    def _checks(self) -> Iterator[Check]:
        yield from self._intake.checks()
        yield run_check("registry", self._check_registry)
        yield run_check("senders", self._check_senders)
        if self._market is not None:
            yield from self._market.checks()
            yield from self._checks_across()
        if self._receipts:
            yield run_check("receipts", self._check_receipts)
        if self._price_file is not None:
            yield run_check("published root prices", self._check_published_prices)
        yield run_check("price parts", lambda: record.check_prices(self._facts().open_rows()))
        yield run_check("manifest", self._check_manifest)
        yield run_check("published files", self._check_published)
        yield run_check("postings", self._check_postings)
        yield run_check("recorded postings", self._check_recorded_postings)
        yield run_check("statements", self._check_statements)
        yield run_check("books", self._check_books)
        yield run_check("not looked at", self._passed_over)

    def _facts(self) -> LogChecks:
        """The journal in which prices, postings and statements stand."""
        return self._intake if self._market is None else self._market

    def _check_senders(self) -> tuple[int, str]:
        log, authorities = self._intake, need(self._intake.payloads, "payloads").authorities
        return evidence.check_senders(log.whole(), log.open_rows(), log.signer(), authorities)

    def _check_registry(self) -> tuple[int, str]:
        log, authorities = self._intake, need(self._intake.payloads, "payloads").authorities
        return authority.check_registry(log.whole(), log.open_rows(), authorities, shard_of(log.signer().name))

    def _check_receipts(self) -> tuple[int, str]:
        logs = [log for log in (self._intake, self._market) if log is not None]
        return check_kept(self._receipts, [(log.signer(), log.whole(), log.open_rows()) for log in logs])

    # Between the journals

    def _checks_across(self) -> Iterator[Check]:
        def of(check: Callable[[MarketChecks], tuple[int, str]]) -> Callable[[], tuple[int, str]]:
            return lambda: check(need(self._across, "rulebook"))

        yield run_check("rulebook", self._check_rulebook)
        yield run_check("gates", of(MarketChecks.check_gates))
        yield run_check("root prices", lambda: need(self._root_prices, "rulebook").check())
        yield run_check("settlements", of(MarketChecks.check_settlements))
        yield run_check("holds", of(MarketChecks.check_holds))
        yield run_check("closes", of(MarketChecks.check_closes))

    def _check_rulebook(self) -> tuple[int, str]:
        market = self._facts()
        names = self._intake.signer().name, market.signer().name
        if names[1] != f"{names[0]}/{MARKET}":
            raise RefusedError(f"the market's journal is of {names[1]}, not of {names[0]}/{MARKET}")
        documents = need(self._intake.payloads, "payloads").documents
        entries = market.whole()
        if not entries and not any(name.startswith("rulebook/") for name in documents):
            calendar = Calendar([])
        else:
            calendar = Calendar.of(documents)
        times, simulated = IntakeTimes(self._intake.whole()), names[0].startswith(_SIMULATED)
        self._across = MarketChecks(entries, market.open_rows(), times, calendar, simulated)
        self._root_prices = RootPriceChecks(market.open_rows(), calendar, self._publishers)
        return len(calendar), f"{len(calendar)} versions of the rules say when gates, settlements and closes were due"

    def _check_published_prices(self) -> tuple[int, str]:
        if self._market is None:
            raise RefusedError("there is no market's journal, in which root prices stand")
        checks, file = need(self._root_prices, "rulebook"), need(self._price_file, "the file")
        self._comparison = checks.compare(file)
        return judged(self._comparison)

    def _passed_over(self) -> tuple[int, str]:
        """What lies there and cannot be checked from outside; a vault is no part of what one hands on."""
        there = published.passed_over(self._run, self._manifest.files if self._manifest is not None else ())
        told = ", ".join(there) if there else "nothing"
        if "vault/" in there:
            told += "; vault/ holds the operator's secrets: give this directory to nobody, copy it without"
        return len(there), told

    # What is published

    def _check_manifest(self) -> tuple[int, str]:
        logs = [log for log in (self._intake, self._market) if log is not None]
        self._manifest = published.read_manifest(self._run, [(log.signer(), log.signed()) for log in logs])
        if self._manifest is None:
            return 0, "absent: nothing has been published yet"
        head, last = self._manifest.head, self._manifest.last
        about = "the last checkpoint" if head == last else f"the checkpoint of {head.size} entries"
        return 1, f"signed, about {about}, lists {len(self._manifest.files)} files"

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
        lying = {name for name in names if self._run.has(name)}
        if not self._published_ok and any(name in listed or name in lying - published.LIVING for name in names):
            raise RefusedError(f"{NOT_REACHED}published files failed")
        missing = next((name for name in names if name not in listed), None)
        return None if missing is None else f"{'not published' if missing in lying else 'absent'}: {missing}"

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
        facts, size = self._facts(), need(self._manifest, "manifest").head.size
        payloads = need(facts.payloads, "payloads")
        sealed = [k for k in payloads.hidden if k < size and facts.whole()[k][0].kind == "postings"]
        if sealed:
            return 0, f"not compared: {len(sealed)} batches of postings on record are live or in the archive"
        return published.check_recorded_postings(need(self._postings, "postings"), payloads.public)

    def _check_statements(self) -> tuple[int, str]:
        absent = self._absent(published.STATEMENTS, published.POSTINGS)
        if absent:
            return 0, absent
        statements = published.read_columns(self._run, published.STATEMENTS, _STATEMENT_COLUMNS)
        return published.check_statements(need(self._postings, "postings"), statements)

    def _check_books(self) -> tuple[int, str]:
        absent = self._absent(published.BOOKS, published.POSTINGS)
        if absent:
            return 0, absent
        return published.check_books(self._run, need(self._postings, "postings"))
