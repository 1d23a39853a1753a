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

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tellegen.intake.calendar import Calendar
from tellegen.intake.entrance import Entrance
from tellegen.intake.known import OWNER, STATE, Known
from tellegen.intake.limits import IntakeLimits, Reason, RefusedBatchError, unavailable
from tellegen.intake.recording import SOURCE, Recording
from tellegen.intake.registry_changes import TABLES, SentChanges, check_changes
from tellegen.intake.row_checks import Places, refusals
from tellegen.intake.sent import RowProblem, Sent, SentReadings
from tellegen.intake.stages import Stages
from tellegen.intake.submitted import ROW_KINDS, Submitted, statement_of
from tellegen.journal import Journal, JournalError, Signer, height_for
from tellegen.journal.clock import STEP_MAX_S, RecordClock
from tellegen.journal.database import SQLITE, Databases
from tellegen.journal.storage import FILES, Storage
from tellegen.metering import DeviceCodes
from tellegen.privacy import Vault, VaultError
from tellegen.privacy.recorder import Recorder, start_clock
from tellegen.privacy.snapshots import KEPT, SnapshotFolder
from tellegen.records import (
    Connections,
    KeyGenerations,
    Readings,
    RecordError,
    Refusal,
    Route,
    Statement,
    Ticks,
    shard_of,
)
from tellegen.registry import RegistryError
from tellegen.registry.authority_record import Authorities
from tellegen.registry.meter_keys import codes_purpose
from tellegen.registry.shard import SIGNING_PURPOSE
from tellegen.units import MARKET_INTERVAL_S

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
        self.journal, self.vault, self.directory = journal, vault, known.directory
        self.limits, self.clock = limits, clock
        self.notices = (*journal.notices, *known.problems)
        """What was found missing or damaged and done without when the intake was opened, one line each."""
        self.folded_from = known.size
        """Entries that a snapshot had folded when the intake was opened."""
        self._kept_at = journal.known_at(min(known.size, len(journal) - 1)) if len(journal) else clock.now()
        self.known, self._snapshots = known, snapshots
        self._codes, self._replay, self._calendar = codes, known.replay, calendar
        self.stages = Stages()
        authorities = Authorities.of(Recorder(journal, vault, ""))
        self._entrance = Entrance(journal.verifier, limits, clock, calendar, known.directory, authorities)
        self._recording, self._record = Recording(journal, vault), Submitted(journal, vault)

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
        signer: Signer | None = None,
    ) -> Intake:
        """Open a shard for writing, and fold its record: who may speak, and which counters have been seen.

        Parameters
        ----------
        clock : makes the time of the record from the time of the newest entry.
        storage, databases : the disk of the journal, and of the vault.
        accept_clock : who says that the clock is right where it is too far from the newest entry; goes on record
            (`records.Clocks`), and time counts from there.
        signer : signs checkpoints; None: this process does, with the key in the vault.

        Raises
        ------
        InputError, JournalError, VaultError : there is no shard, it is damaged, or it has another writer.
        ClockError : the clock is too far from the newest entry, and nobody accepts it.
        """
        bounds = IntakeLimits() if limits is None else limits
        vault = Vault.open(path / "vault", databases=databases)
        try:
            height = height_for(len(vault.customers))
            key = vault.role_key(SIGNING_PURPOSE) if signer is None else signer
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
            codes = DeviceCodes(
                lambda generation: vault.held_purpose_key(codes_purpose(generation)), meters[meters >= 0], generations
            )
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
        return shard_of(self.journal.verifier.name)

    # Taking

    def check_sender(self, statement: Statement, signature: bytes) -> bytes:
        """Whether a batch is signed by its source, which may hand in now; the source's key, for `take`.

        Raises
        ------
        RefusedBatchError : it is not.
        """
        return self._entrance.check_sender(statement, signature, self.clock.now())

    def take(
        self, statement: Statement, signature: bytes, decode: Callable[[], Sent | SentChanges], checked: bytes = b""
    ) -> Taken:
        """Check a batch and append what is good of it.

        Parameters
        ----------
        statement : what the sender says of the batch; its digest must be that of the body.
        signature : the sender's, 64 bytes.
        decode : reads the body; called once it is known who sent it. May raise `RecordError`.
        checked : what `check_sender` said of it.

        Raises
        ------
        RefusedBatchError : nothing of it is on record.
        """
        now = self.clock.now()
        self._entrance.check_sender(statement, signature, now, checked)
        recorded = self._recorded(statement)
        if recorded:
            return self._again(statement, recorded, decode)
        self._entrance.check_time(statement, now)
        with self.stages("decode"):
            sent = self._entrance.decoded(decode)
        if isinstance(sent, SentChanges):
            return self._change(sent, statement, signature, now)
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
            # together, or a reader would see rows before it sees that they do not count
            with self.stages("seal"), self.journal.together():
                entries = self._append(kept, refusal, statement, signature, now)
        except (JournalError, VaultError) as error:
            raise unavailable(error) from error
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
            return self._recording.own(Ticks(time=np.array([now])), now)
        except (JournalError, VaultError) as error:
            raise unavailable(error) from error

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
            entry = self._recording.own(record, self.clock.now())
        except OSError as error:
            raise unavailable(JournalError(f"{self.journal.folder.parent / STATE}: {error.strerror}")) from error
        except (JournalError, VaultError) as error:
            raise unavailable(error) from error
        self._commit("snapshot")
        try:
            self._snapshots.keep(1 if afresh else KEPT)
        except (OSError, VaultError) as error:  # it is on record; the next one removes what this leaves
            if afresh:
                raise unavailable(JournalError(f"what older snapshots kept is still there: {error}")) from error
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
            raise unavailable(error) from error

    def receipts(self, taken: Sequence[Taken]) -> list[list[str]]:
        """Receipts of committed batches, one for each of their entries, all under one checkpoint."""
        with self.stages("receipts"):
            flat = self.journal.receipts([entry for each in taken for entry in each.entries])
        proofs = iter(flat)
        return [[next(proofs) for _ in each.entries] for each in taken]

    def check_request(self, source: str, message: bytes, signature: bytes) -> None:
        """Whether a source that may hand in has signed a request of its own.

        Raises
        ------
        RefusedBatchError : it is not admitted now, or has not signed this.
        """
        self._entrance.check_request(source, message, signature)

    def check_ahead(self, route: Route, source: str, announced: Statement | None, signature: bytes) -> bool:
        """Whether it is worth reading the body of a batch; True: its source has proved itself already.

        Parameters
        ----------
        announced : the statement, where the request says the body's digest; its signature must then be right. It
            proves its source where it is new: those on record are published.

        Raises
        ------
        RefusedBatchError : the batch would be refused, whatever the body.
        """
        now = self.clock.now()
        if announced is None:
            self._entrance.sender_key(route, source, now)
            return False
        self._entrance.check_sender(announced, signature, now)
        if self._recorded(announced):
            return False
        self._entrance.check_time(announced, now)
        return True

    # On to the record

    def _change(self, sent: SentChanges, statement: Statement, signature: bytes, now: int) -> Taken:
        """Put a change of the registry on record; it holds for whatever is taken after it."""
        table = sent.table
        try:
            sent.check_certified(self.origin, self._entrance.authorities.newest.issuing_key)
            check_changes(table, self.directory, now, self._calendar.longest_meter_intervals)
            if isinstance(table, Connections):
                self.vault.enrol(table.customer.tolist())
        except (RecordError, RegistryError, VaultError) as error:
            raise RefusedBatchError(Reason.NO_GOOD_ROW, f"nothing is changed: {error}") from None
        try:
            entries, header = self._recording.change(sent, statement, signature, now)
        except JournalError as error:
            raise unavailable(error) from error
        self.directory.apply(header, table)
        if isinstance(table, KeyGenerations):
            self._codes.rotate(table)
        return Taken(entries, len(table), ())

    def _append(
        self, sent: Sent, refusal: NDArray[np.uint8], statement: Statement, signature: bytes, now: int
    ) -> tuple[int, ...]:
        entries = self._recording.sent(sent, statement, signature, now)
        if refusal.any():
            entries += (self._recording.refuse_rows(refusal, statement, entries[-1], now),)
        if isinstance(sent, SentReadings):
            self._mark(sent.readings, refusal == Refusal.NONE)
        return entries

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
        sent = self._entrance.decoded(decode)
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
        oldest = None if since else self._entrance.oldest(self.clock.now())
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
            self._recording.refuse_rows(refusal, statement, batch, header.known_at)
            self.journal.commit(self.clock.now())


def _problems(sent: Sent, refusal: NDArray[np.uint8]) -> list[RowProblem]:
    rows = np.flatnonzero(refusal)
    return [RowProblem.of(n, r) for n, r in zip(sent.numbers[rows].tolist(), refusal[rows].tolist(), strict=True)]


def _in_order(problems: list[RowProblem]) -> tuple[RowProblem, ...]:
    return tuple(sorted(problems, key=lambda problem: problem.row))
