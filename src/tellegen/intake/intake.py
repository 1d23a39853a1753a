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

from tellegen.intake.calendar import Calendar
from tellegen.intake.known import OWNER, STATE, Known
from tellegen.intake.limits import IntakeLimits, Reason, RefusedBatchError
from tellegen.intake.rate import RowRate
from tellegen.intake.registry_changes import REGISTRAR, TABLES, SentChanges, check_changes
from tellegen.intake.row_checks import Places, refusals
from tellegen.intake.sent import RowProblem, Sent, SentBids, SentReadings, SentRoots
from tellegen.intake.stages import Stages
from tellegen.intake.submitted import ROW_KINDS, Submitted, statement_of
from tellegen.journal import Journal, JournalError, height_for
from tellegen.journal.clock import STEP_MAX_S, RecordClock
from tellegen.journal.database import SQLITE, Databases
from tellegen.journal.storage import FILES, Storage
from tellegen.metering import DeviceCodes
from tellegen.metering.daily import INTERVALS_PER_DAY
from tellegen.privacy import Vault, VaultError
from tellegen.privacy.recorder import start_clock
from tellegen.privacy.snapshots import KEPT, SnapshotFolder
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
    Ticks,
)
from tellegen.records.market import DAY_AHEAD, MARKETS
from tellegen.registry import NotAdmittedError, RegistryError
from tellegen.registry.shard import METER_PURPOSE, SIGNING_PURPOSE
from tellegen.units import MARKET_INTERVAL_S

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
    journal, vault, known, codes : of the shard; `open` brings them together.
    limits : of what comes from outside.
    clock : time of the record.
    calendar : times of the rulebook on record.
    snapshots : where what is known is kept.
    """

    def __init__(
        self,
        journal: Journal,
        vault: Vault,
        known: Known,
        codes: DeviceCodes,
        limits: IntakeLimits,
        clock: RecordClock,
        calendar: Calendar,
        snapshots: SnapshotFolder,
    ) -> None:
        self.journal, self.vault, self.directory, self.limits, self.clock = (
            journal,
            vault,
            known.directory,
            limits,
            clock,
        )
        self.notices = (*journal.notices, *known.problems)
        """What was found missing or damaged and done without when the intake was opened, one line each."""
        self.folded_from = known.size
        """Entries that a snapshot had folded when the intake was opened."""
        self._kept_at = journal.known_at(min(known.size, len(journal) - 1)) if len(journal) else clock.now()
        self.known, self._snapshots = known, snapshots
        self._codes, self._replay, self._calendar = codes, known.replay, calendar
        self.stages = Stages()
        self._rates: dict[str, RowRate] = {}
        self._record = Submitted(journal, vault)

    @classmethod
    def open(
        cls,
        path: Path,
        limits: IntakeLimits | None = None,
        clock: Callable[[int], RecordClock] | None = None,
        *,
        storage: Storage = FILES,
        databases: Databases = SQLITE,
        accept_clock: str = "",
    ) -> Intake:
        """Open a shard for writing, and fold its record: who may speak, and which counters have been seen.

        Parameters
        ----------
        clock : makes the time of the record from the time of the newest entry.
        storage, databases : the disk of the journal, and of the vault.
        accept_clock : who says that the clock is right where it is too far from the newest entry; goes on record
            (`records.Clocks`), and time counts from there.

        Raises
        ------
        InputError, JournalError, VaultError : there is no shard, it is damaged, or it has another writer.
        ClockError : the clock is too far from the newest entry, and nobody accepts it.
        """
        bounds = IntakeLimits() if limits is None else limits
        vault = Vault.open(path / "vault", databases=databases)
        try:
            height = height_for(len(vault.customers))
            key = vault.purpose_key(SIGNING_PURPOSE)
            journal = Journal.open(path, key, stretch_height=height, storage=storage)
        except BaseException:
            vault.close()
            raise
        try:
            time = start_clock(journal, vault, clock, SOURCE, accept_clock)
            snapshots = SnapshotFolder(journal, path / STATE, vault, OWNER, storage=storage)
            known = Known.of(journal, vault, snapshots)
            meters = known.directory.meters_of(np.array(vault.customers, dtype=np.int64))
            generations = known.directory.key_generations()
            codes = DeviceCodes(vault.purpose_key(METER_PURPOSE), meters[meters >= 0], generations)
            intake = cls(journal, vault, known, codes, bounds, time, Calendar.of(journal, vault), snapshots)
            intake._finish(known.size)
        except BaseException:
            journal.close()
            vault.close()
            raise
        return intake

    def close(self) -> None:
        """Release journal and vault; what was taken and not committed is gone, as after a crash."""
        self.journal.close()
        self.vault.close()

    @property
    def origin(self) -> str:
        """Name of the shard's log, which is part of whatever is signed for it."""
        return self.journal.verifier.name

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

    def tick(self, reach: int | None = None) -> int | None:
        """Put the time on record where nothing was for a while, so that what a gate may count ends; its entry.

        Parameters
        ----------
        reach : the time that the record has to have reached, where somebody waits for that; None: the rulebook says
            how long it may be quiet.
        """
        now = self.clock.now()
        newest = self.journal.entry(len(self.journal) - 1).known_at if len(self.journal) else -1
        if newest >= (now - self._calendar.tick_s(now) + 1 if reach is None else reach):
            return None
        try:
            return self.journal.append(_own(self.vault, Ticks(time=np.array([now])), now))
        except (JournalError, VaultError) as error:
            raise _unavailable(error) from error

    def is_snapshot_due(self) -> bool:
        """Whether what came since the newest snapshot, or the last try of one, took as long as the rulebook lets it."""
        now = self.clock.now()
        return abs(now - self._kept_at) >= self._calendar.snapshot_s(now)  # a clock may have been set back

    def snapshot(self, *, afresh: bool = False) -> int:
        """Keep what is known so far, so that opening folds what comes after; the entry that says so, final.

        To be called by the thread that takes. What older snapshots kept beyond the one before goes, with its keys.

        Parameters
        ----------
        afresh : after an erasure: nothing is kept under an older key, and all of those are destroyed.

        Raises
        ------
        RefusedBatchError : the disk refused.
        """
        self._kept_at = self.clock.now()
        try:
            record = self.known.kept(self._snapshots, self.vault.erased, len(self.journal), afresh=afresh)
            entry = self.journal.append(_own(self.vault, record, self.clock.now()))
        except OSError as error:
            raise _unavailable(JournalError(f"{self.journal.folder.parent / STATE}: {error.strerror}")) from error
        except (JournalError, VaultError) as error:
            raise _unavailable(error) from error
        self._commit("snapshot")
        try:
            self._snapshots.keep(1 if afresh else KEPT)
        except (OSError, VaultError) as error:  # it is on record; the next one removes what this leaves
            if afresh:
                raise _unavailable(JournalError(f"what older snapshots kept is still there: {error}")) from error
        return entry

    def commit(self) -> None:
        """Make everything taken so far final.

        Raises
        ------
        RefusedBatchError : the disk refused; the intake must be opened again. Whether what was taken since the last
            commit is on record is then open: the same batch again finds out.
        """
        self._commit("commit")

    def _commit(self, stage: str) -> None:
        try:
            # entries of another thread may be younger than this reading of the clock, by a step of it at most
            with self.stages(stage):
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
        if statement.origin != self.origin:
            raise RefusedBatchError(
                Reason.BAD_SIGNATURE, f"the batch is signed for '{statement.origin}', this is '{self.origin}'"
            )
        if statement.route is Route.ADMISSIONS and statement.source == REGISTRAR:
            key = self.journal.verifier.public_key
        elif statement.route is Route.ADMISSIONS:
            raise RefusedBatchError(Reason.UNKNOWN_SOURCE, f"source {statement.source!r} of admissions is not admitted")
        else:
            key = self._source_key(statement.source, now)
        check_signature(statement.to_bytes(), signature, key, statement.source)

    def check_request(self, source: str, message: bytes, signature: bytes) -> None:
        """Whether a source that may hand in has signed a request of its own.

        Raises
        ------
        RefusedBatchError : it is not admitted now, or has not signed this.
        """
        check_signature(message, signature, self._source_key(source, self.clock.now()), source)

    def _source_key(self, source: str, now: int) -> bytes:
        try:
            return self.directory.source_key(source, now, now)
        except NotAdmittedError as error:
            unknown = error.refusal == Refusal.UNKNOWN
            raise RefusedBatchError(Reason.UNKNOWN_SOURCE if unknown else Reason.REVOKED_SOURCE, str(error)) from None

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
        begins = self._calendar.day_start(statement.interval) if statement.market == DAY_AHEAD else statement.interval
        if statement.interval != begins:
            raise RefusedBatchError(
                Reason.MALFORMED,
                f"interval {statement.interval} does not begin a delivery day; of that day the first is {begins}",
            )
        if statement.route is Route.DAILY_ROOTS and (statement.interval + 1) % INTERVALS_PER_DAY:
            raise RefusedBatchError(
                Reason.MALFORMED,
                f"interval {statement.interval} does not end a UTC day; signed days name the last of their day",
            )
        oldest = self._oldest(now)
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

    def _oldest(self, now: int) -> int:
        """The oldest interval that is still taken."""
        window, limit = self._calendar.window_intervals(now), self.limits.late_intervals_max
        return now // MARKET_INTERVAL_S - (window if limit is None else min(window, limit))

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
        """Entries of a submission that is on record whole; what a crash left of one is recorded again.

        It was recorded when its interval may first have been sent, or later. So the same number for another batch is
        found out where that one is no older than this.
        """
        first = (statement.interval - self.limits.ahead_intervals_max) * MARKET_INTERVAL_S - self.limits.skew_s_max
        since = self.journal.earliest_at(first)
        entries = self.journal.submission(statement.source, statement.name(), since=since)
        return entries if any(self.journal.entry(i).kind in _WHOLE_KINDS for i in entries) else []

    def _again(self, statement: Statement, entries: list[int], decode: Callable[[], Sent | SentChanges]) -> Taken:
        """The batch that is on record under this name, where it is the same."""
        batch = next(i for i in entries if self.journal.entry(i).kind in _WHOLE_KINDS)
        header = self.journal.entry(batch)
        if statement_of(header, self.origin) != statement:
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

    def _finish(self, since: int) -> None:
        """Take up where the record ends: counters seen, and refusals that a crash has cut off.

        Those of entries below `since` are known; counters of intervals that are refused as too old need not be.
        """
        oldest = None if since else self._oldest(self.clock.now())
        for readings in self._record.counted_readings(oldest, since):
            self._mark(readings, np.ones(len(readings), dtype=np.bool_))
        batch = self._record.unfinished()
        if batch is None:
            return
        header, sent = self.journal.entry(batch), self._record.sent(batch)
        statement = statement_of(header, self.origin)
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


def check_signature(message: bytes, signature: bytes, key: bytes, source: str) -> None:
    """Refuse what a source has not signed.

    Raises
    ------
    RefusedBatchError : the Ed25519 signature over the message is not that of the key.
    """
    try:
        if len(signature) != _SIGNATURE_BYTES:
            raise BadSignatureError
        crypto_sign_open(signature + message, key)
    except BadSignatureError:
        raise RefusedBatchError(
            Reason.BAD_SIGNATURE,
            f"the signature is not that of source '{source}' over this for this shard; sign it with the key that is "
            "admitted",
        ) from None


def _own(vault: Vault, table: Table, now: int) -> SealedBatch:
    """What the intake itself has to say."""
    interval = now // MARKET_INTERVAL_S
    return vault.seal(table, feeder="", interval=interval, intervals=1, source=SOURCE, known_at=now)


def _in_order(problems: list[RowProblem]) -> tuple[RowProblem, ...]:
    return tuple(sorted(problems, key=lambda problem: problem.row))


def _unavailable(error: JournalError | VaultError) -> RefusedBatchError:
    cause = error.__cause__
    full = isinstance(cause, OSError) and cause.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    if full:
        return RefusedBatchError(Reason.DISK_FULL, "the disk of the record is full; nothing more can be taken")
    return RefusedBatchError(Reason.UNAVAILABLE, f"the record cannot be written: {error}", retry_after_s=5)
