"""The intake of a shard, without a network: batches in, receipts out.

A batch is *taken* (checked, sealed, appended) and becomes final with the next *commit*; only then are there receipts.
Taking may go on in one thread while another commits: what is taken meanwhile belongs to the commit after.

Who is believed in what: the sender's Ed25519 signature says who brought the batch and that it is whole; a reading
counts by its meter's code, a signed day by its meter's signature, a bid by its customer's. A batch stands on record
as it was sent, refused rows included, with the sender's signature as evidence in its header; a batch of `Refusals`
behind it names the rows that do not count. Not on record are rows without a canonical form and rows of nobody who is
connected.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from nacl.bindings import crypto_sign_open
from nacl.exceptions import BadSignatureError
from numpy.typing import NDArray

from tellegen.journal import Journal, JournalError
from tellegen.journal.storage import FILES, Storage
from tellegen.metering import DeviceCodes, ReplayWindow
from tellegen.metering.daily import INTERVALS_PER_DAY
from tellegen.operations.intake_limits import IntakeLimits, Reason, RefusedBatchError
from tellegen.operations.rate import RowRate
from tellegen.operations.record_clock import STEP_MAX_S, RecordClock
from tellegen.operations.registry_changes import REGISTRAR, TABLES, SentChanges, check_changes
from tellegen.operations.row_checks import Places, refusals
from tellegen.operations.sent import RowProblem, Sent, SentBids, SentReadings, SentRoots
from tellegen.operations.stages import Stages
from tellegen.operations.submission_record import ROW_KINDS, SubmissionRecord, statement_of
from tellegen.privacy import Vault, VaultError
from tellegen.records import (
    Connections,
    KeyGenerations,
    Readings,
    RecordError,
    Refusal,
    Refusals,
    Route,
    SealedBatch,
    Statement,
    Table,
)
from tellegen.registry import Directory, NotAdmittedError, RegistryError
from tellegen.registry.shard import METER_PURPOSE, SIGNING_PURPOSE
from tellegen.units import MARKET_INTERVAL_S

MARKETS = ("day_ahead", "real_time")
SOURCE = "intake"
"""Who says which rows do not count."""
_SIGNATURE_BYTES = 64
_WHOLE_KINDS = (*ROW_KINDS, *TABLES)
"""A submission is on record whole when one of these is."""


@dataclass(frozen=True, slots=True)
class Taken:
    """A batch that will be final with the next commit, or is already.

    Attributes
    ----------
    entries : its journal indices, those of its refusals included.
    accepted : how many rows count.
    refused : the others, by their number as sent.
    again : it was on record before; these are its first entries.
    """

    entries: tuple[int, ...]
    accepted: int
    refused: tuple[RowProblem, ...]
    again: bool = False


class Intake:
    """What stands between senders and the journal of a shard; its only writer.

    Parameters
    ----------
    journal, vault, directory, codes, replay : of the shard; `open` brings them together.
    limits : of what comes from outside.
    clock : time of the record.
    """

    def __init__(
        self,
        journal: Journal,
        vault: Vault,
        directory: Directory,
        codes: DeviceCodes,
        replay: ReplayWindow,
        limits: IntakeLimits,
        clock: RecordClock,
    ) -> None:
        self.journal, self.vault, self.directory, self.limits, self.clock = journal, vault, directory, limits, clock
        self._codes, self._replay = codes, replay
        self.stages = Stages()
        self._rates: dict[str, RowRate] = {}
        self._record = SubmissionRecord(journal, vault)

    @classmethod
    def open(
        cls,
        path: Path,
        limits: IntakeLimits | None = None,
        clock: Callable[[int], RecordClock] | None = None,
        *,
        storage: Storage = FILES,
    ) -> Intake:
        """Open a shard for writing, and fold its record: who may speak, and which counters have been seen.

        Parameters
        ----------
        clock : makes the time of the record from the time of the newest entry.
        storage : the disk of the journal.

        Raises
        ------
        InputError, JournalError, VaultError : there is no shard, it is damaged, or it has another writer.
        """
        bounds = IntakeLimits() if limits is None else limits
        vault = Vault.open(path / "vault")
        try:
            journal = Journal.open(path, vault.purpose_key(SIGNING_PURPOSE), storage=storage)
        except BaseException:
            vault.close()
            raise
        try:
            newest = journal.entry(len(journal) - 1).known_at if len(journal) else 0
            time = RecordClock(not_before=newest) if clock is None else clock(newest)
            directory = Directory.of(journal, vault)
            meters = directory.meters_of(np.array(vault.customers, dtype=np.int64))
            meters = meters[meters >= 0]
            codes = DeviceCodes(vault.purpose_key(METER_PURPOSE), meters, directory.key_generations())
            intake = cls(journal, vault, directory, codes, ReplayWindow(meters), bounds, time)
            intake._finish()
        except BaseException:
            journal.close()
            vault.close()
            raise
        return intake

    def close(self) -> None:
        """Release journal and vault; what was taken and not committed is gone, as after a crash."""
        self.journal.close()
        self.vault.close()

    # Taking

    def take(self, statement: Statement, signature: bytes, decode: Callable[[], Sent | SentChanges]) -> Taken:
        """Check a batch and append what is good of it.

        Parameters
        ----------
        statement : what the sender says of the batch; its digest must be that of the body.
        signature : the sender's, 64 bytes.
        decode : reads the body; called once it is known who sent it. May raise `RecordError`.

        Raises
        ------
        RefusedBatchError : nothing of it is on record.
        """
        now = self.clock.now()
        self._check_sender(statement, signature, now)
        recorded = self._recorded(statement)
        if recorded:
            return self._again(statement, recorded, decode)
        self._check_time(statement, now)
        with self.stages("decode"):
            sent = self._decoded(decode)
        if isinstance(sent, SentChanges):
            return self._change(sent.table, statement, signature, now)
        self._check_rate(statement.source, sent.rows + len(sent.problems))
        places = Places.of(sent, statement, now, self.directory)
        known = places.connected
        unknown = [RowProblem.of(row, Refusal.UNKNOWN) for row in sent.numbers[~known].tolist()]
        kept = sent if known.all() else sent.take(known)
        with self.stages("authenticate"):
            refusal = self._refusals(kept, places.among_connected(), statement, now)
        refused = _in_order([*kept.problems, *unknown, *_problems(kept, refusal)])
        accepted = int((refusal == Refusal.NONE).sum())
        if not accepted:
            raise RefusedBatchError(Reason.NO_GOOD_ROW, "no row of the batch can be taken", rows=refused)
        try:
            with (
                self.stages("seal"),
                self.journal.together(),
            ):  # or a reader would see rows before it sees that they do not count
                entries = self._append(kept, refusal, statement, signature, now)
        except (JournalError, VaultError) as error:
            raise _unavailable(error) from error
        return Taken(entries, accepted, refused)

    def commit(self) -> None:
        """Make everything taken so far final.

        Raises
        ------
        RefusedBatchError : the disk refused; the intake must be opened again. Whether what was taken since the last
            commit is on record is then open: the same batch again finds out.
        """
        try:
            # entries of another thread may be younger than this reading of the clock, by a step of it at most
            with self.stages("commit"):
                self.journal.commit(self.clock.now() + 2 * STEP_MAX_S)
        except JournalError as error:
            raise _unavailable(error) from error

    def receipts(self, taken: Sequence[Taken]) -> list[list[str]]:
        """Receipts of committed batches, one for each of their entries, all under one checkpoint."""
        with self.stages("receipts"):
            flat = self.journal.receipts([entry for each in taken for entry in each.entries])
        proofs = iter(flat)
        return [[next(proofs) for _ in each.entries] for each in taken]

    # One batch

    def _check_sender(self, statement: Statement, signature: bytes, now: int) -> None:
        try:
            if statement.route is Route.ADMISSIONS and statement.source == REGISTRAR:
                key = self.journal.verifier.public_key
            elif statement.route is Route.ADMISSIONS:
                raise NotAdmittedError(Refusal.UNKNOWN, f"source {statement.source!r} of admissions")
            else:
                key = self.directory.source_key(statement.source, now, now)
        except NotAdmittedError as error:
            unknown = error.refusal == Refusal.UNKNOWN
            raise RefusedBatchError(Reason.UNKNOWN_SOURCE if unknown else Reason.REVOKED_SOURCE, str(error)) from None
        try:
            if len(signature) != _SIGNATURE_BYTES:
                raise BadSignatureError
            crypto_sign_open(signature + statement.to_bytes(), key)
        except BadSignatureError:
            raise RefusedBatchError(
                Reason.BAD_SIGNATURE,
                f"the signature is not that of source '{statement.source}' over this batch; sign its statement with "
                "the key that is admitted",
            ) from None

    def _check_time(self, statement: Statement, now: int) -> None:
        if statement.route is Route.ADMISSIONS:
            wrong, newest = bool(statement.market), (now + self.limits.skew_s_max) // MARKET_INTERVAL_S
        elif statement.route in (Route.READINGS, Route.DAILY_ROOTS):
            wrong, newest = bool(statement.market), (now + self.limits.skew_s_max) // MARKET_INTERVAL_S - 1
        else:
            wrong = statement.market not in MARKETS
            newest = now // MARKET_INTERVAL_S + self.limits.ahead_intervals_max
        if wrong:
            raise RefusedBatchError(
                Reason.MALFORMED,
                f"market '{statement.market}' is none for {statement.route}; bids name one of {', '.join(MARKETS)}, "
                "others none",
            )
        if statement.route is Route.DAILY_ROOTS and (statement.interval + 1) % INTERVALS_PER_DAY:
            raise RefusedBatchError(
                Reason.MALFORMED,
                f"interval {statement.interval} does not end a UTC day; signed days name the last of their day",
            )
        oldest = now // MARKET_INTERVAL_S - self.limits.late_intervals_max
        if statement.interval < oldest:
            raise RefusedBatchError(
                Reason.TOO_LATE, f"interval {statement.interval} is past; {oldest} is the oldest that is still taken"
            )
        if statement.interval > newest:
            raise RefusedBatchError(
                Reason.TOO_EARLY,
                f"interval {statement.interval} is too far ahead; {newest} is the newest that is taken now. Is the "
                "clock right?",
            )

    def _decoded(self, decode: Callable[[], Sent | SentChanges]) -> Sent | SentChanges:
        try:
            sent = decode()
        except RecordError as error:
            raise RefusedBatchError(Reason.MALFORMED, f"the body cannot be read: {error}") from None
        rows = sent.rows + (0 if isinstance(sent, SentChanges) else len(sent.problems))
        if rows > self.limits.rows_max:
            raise RefusedBatchError(
                Reason.TOO_LARGE, f"{rows} rows in one batch; at most {self.limits.rows_max}, send several"
            )
        return sent

    def _check_rate(self, source: str, rows: int) -> None:
        rate = self._rates.setdefault(source, RowRate(self.limits.rows_per_s_max))
        wait = rate.take(rows, self.clock.elapsed())
        if wait:
            raise RefusedBatchError(
                Reason.RATE,
                f"source '{source}' sends more than {self.limits.rows_per_s_max} rows a second",
                retry_after_s=wait,
            )

    # On to the record

    def _change(self, table: Table, statement: Statement, signature: bytes, now: int) -> Taken:
        """Put a change of the registry on record; it holds for whatever is taken after it."""
        try:
            check_changes(table, self.directory, now)
            if isinstance(table, Connections):
                self.vault.enrol(table.customer.tolist())
        except (RecordError, RegistryError, VaultError) as error:
            raise RefusedBatchError(Reason.NO_GOOD_ROW, f"nothing is changed: {error}") from None
        evidence = statement.evidence(signature)
        batch = self._seal(table, statement, statement.source, now, (), statement.name(), evidence)
        try:
            entry = self.journal.append(batch)
        except JournalError as error:
            raise _unavailable(error) from error
        self.directory.apply(batch.header, table)
        if isinstance(table, KeyGenerations):
            self._codes.rotate(table)
        return Taken((entry,), len(table), ())

    def _append(
        self, sent: Sent, refusal: NDArray[np.uint8], statement: Statement, signature: bytes, now: int
    ) -> tuple[int, ...]:
        evidence = statement.evidence(signature)

        def put(table: Table, causes: tuple[int, ...] = ()) -> int:
            batch = self._seal(table, statement, statement.source, now, causes, statement.name(), evidence)
            return self.journal.append(batch)

        match sent:
            case SentReadings():
                entries: tuple[int, ...] = (put(sent.readings),)
            case SentRoots():
                entries = (put(sent.roots),)
            case SentBids():
                offered = put(sent.orders)
                entries = (offered, put(sent.submissions, (offered,)))
        if refusal.any():
            entries += (self._refuse_rows(refusal, statement, entries[-1], now),)
        if isinstance(sent, SentReadings):
            self._mark(sent.readings, refusal == Refusal.NONE)
        return entries

    def _refuse_rows(self, refusal: NDArray[np.uint8], statement: Statement, batch: int, now: int) -> int:
        rows = np.flatnonzero(refusal)
        table = Refusals(row=rows, refusal=refusal[rows])  # type: ignore[arg-type]
        return self.journal.append(self._seal(table, statement, SOURCE, now, (batch,), statement.name(), ""))

    def _seal(
        self,
        table: Table,
        statement: Statement,
        source: str,
        known_at: int,
        causes: tuple[int, ...],
        name: str,
        evidence: str,
    ) -> SealedBatch:
        return self.vault.seal_live(
            table,
            feeder=statement.feeder,
            interval=statement.interval,
            intervals=1,
            source=source,
            known_at=known_at,
            name=name,
            market=statement.market,
            causes=causes,
            evidence=evidence,
        )

    def _mark(self, readings: Readings, counted: NDArray[np.bool_]) -> None:
        self._replay.mark(readings.meter[counted], readings.counter[counted])

    # What is on record

    def _refusals(self, sent: Sent, places: Places, statement: Statement, now: int) -> NDArray[np.uint8]:
        return refusals(sent, places, statement, now, self.directory, self._codes, self._replay)

    def _recorded(self, statement: Statement) -> list[int]:
        """Entries of a submission that is on record whole; what a crash left of one is recorded again."""
        entries = self.journal.submission(statement.source, statement.name())
        return entries if any(self.journal.entry(i).kind in _WHOLE_KINDS for i in entries) else []

    def _again(self, statement: Statement, entries: list[int], decode: Callable[[], Sent | SentChanges]) -> Taken:
        """The batch that is on record under this name, where it is the same."""
        batch = next(i for i in entries if self.journal.entry(i).kind in _WHOLE_KINDS)
        header = self.journal.entry(batch)
        if statement_of(header) != statement:
            raise RefusedBatchError(
                Reason.CONFLICT,
                f"source '{statement.source}' has used {statement.route} number {statement.sequence} for another "
                "batch; give each batch a number of its own",
            )
        sent = self._decoded(decode)
        if isinstance(sent, SentChanges):
            return Taken(tuple(entries), sent.rows, (), again=True)
        behind = self._record.refusals_behind(batch)
        entries = entries if behind is None else [*entries, behind]
        refusal = self._record.refusal_of_rows(batch)
        # the record says who was connected then; the registry may have changed within the same second
        recorded = self._record.customers(batch)
        known = np.isin(sent.customers(), recorded)
        unknown = [RowProblem.of(row, Refusal.UNKNOWN) for row in sent.numbers[~known].tolist()]
        refused = _in_order([*sent.problems, *unknown, *_problems(sent.take(known), refusal[recorded >= 0])])
        return Taken(tuple(entries), int((refusal == Refusal.NONE).sum()), refused, again=True)

    def _finish(self) -> None:
        """Take up where the record ends: counters seen, and refusals that a crash has cut off.

        Counters of intervals that are refused as too old need not be remembered.
        """
        oldest = self.clock.now() // MARKET_INTERVAL_S - self.limits.late_intervals_max
        for readings in self._record.counted_readings(oldest):
            self._mark(readings, np.ones(len(readings), dtype=np.bool_))
        batch = self._record.unfinished()
        if batch is None:
            return
        header, sent = self.journal.entry(batch), self._record.sent(batch)
        statement = statement_of(header)
        places = Places.of(sent, statement, header.known_at, self.directory)
        refusal = self._refusals(sent, places, statement, header.known_at)
        if isinstance(sent, SentReadings):
            self._mark(sent.readings, refusal == Refusal.NONE)
        if refusal.any():
            self._refuse_rows(refusal, statement, batch, header.known_at)
            self.journal.commit(self.clock.now())


def _problems(sent: Sent, refusal: NDArray[np.uint8]) -> list[RowProblem]:
    rows = np.flatnonzero(refusal)
    return [RowProblem.of(n, r) for n, r in zip(sent.numbers[rows].tolist(), refusal[rows].tolist(), strict=True)]


def _in_order(problems: list[RowProblem]) -> tuple[RowProblem, ...]:
    return tuple(sorted(problems, key=lambda problem: problem.row))


def _unavailable(error: JournalError | VaultError) -> RefusedBatchError:
    cause = error.__cause__
    full = isinstance(cause, OSError) and cause.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    if full:
        return RefusedBatchError(Reason.DISK_FULL, "the disk of the record is full; nothing more can be taken")
    return RefusedBatchError(Reason.UNAVAILABLE, f"the record cannot be written: {error}", retry_after_s=5)
