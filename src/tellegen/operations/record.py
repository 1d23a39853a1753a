"""Both journals of a shard as its market has them: the intake's to read, its own to write.

The intake's says who is connected, what was bid and read, which rules and wires hold; the market's says what followed.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import TypeVar

from tellegen.intake.calendar import read_rulebook
from tellegen.intake.submitted import AHEAD_INTERVALS, Submitted
from tellegen.journal import Journal, height_for
from tellegen.journal.database import SQLITE, Databases
from tellegen.journal.storage import FILES, Storage
from tellegen.metering.past import Past
from tellegen.operations.registers import SpanEnds, registers_of
from tellegen.operations.topology import Connected, Feeder, Topology, read_feeders
from tellegen.privacy import Archive, Vault
from tellegen.privacy.recorder import Recorder
from tellegen.privacy.snapshots import Restored, SnapshotFolder
from tellegen.records import Header, Histories, Profiles, Readings, Table
from tellegen.registry import KINDS, Directory
from tellegen.rules import Rulebook
from tellegen.units import MARKET_INTERVAL_S, IntArray

MARKET_KEY = "market signing"
"""Purpose of the key of the vault that signs for the market's journal."""
STATE = "state"
"""Folder beside a journal in which snapshots of its fold lie."""
MARKET = "market"
"""Folder of a shard in which the market keeps its journal."""
NAMES, FIRST_DAY, LAST_INTERVAL = "names", "first day", "last interval"
"""Names of documents: customers' names by number, the day whose market is the first, and the last market interval of a
market that ends: nothing is cleared or settled after it, days close by what came before, and late facts go on moving
money until their days are final."""
RECENT_MAX = 24
"""Tables kept per feeder: those of what waits for its readings, and of its price runs. Those of the hours of a day,
whose prices are as long as a feeder, are read again once an hour."""
INTERVALS_FOUND_MAX = 100
"""Intervals and kinds of which it is kept where they stand on record."""
T = TypeVar("T", bound=Table)


@dataclass(slots=True)
class ShardRecord:
    """The journals of a shard, open; `open` gives one.

    Attributes
    ----------
    kept : the snapshot from which directory and state begin. snapshots : where the next one goes.
    intake : its journal, for reading. journal : the market's. submitted : what counts of what senders handed in.
    """

    path: Path
    vault: Vault
    intake: Journal
    journal: Journal
    submitted: Submitted
    directory: Directory
    feeders: tuple[Feeder, ...]
    rulebook: Rulebook
    first_day: date | None
    last_interval: int | None
    topology: Topology
    snapshots: SnapshotFolder
    kept: Restored
    span_ends: SpanEnds
    _archive: Archive
    _storage: Storage
    _held: ExitStack = field(repr=False)
    _seen: int = 0
    _past: tuple[tuple[tuple[int, ...], ...], Past] | None = field(default=None, repr=False)
    _registers: tuple[tuple[int, int, list[int]], Connected, Readings] | None = field(default=None, repr=False)
    _recent: OrderedDict[int, Table] = field(default_factory=OrderedDict, repr=False)
    _found: OrderedDict[tuple[str, str | None, int], tuple[int, dict[str, list[int]]]] = field(
        default_factory=OrderedDict, repr=False
    )

    @classmethod
    def open(
        cls,
        path: Path | str,
        *,
        write: bool = False,
        use_snapshot: bool = True,
        storage: Storage = FILES,
        databases: Databases = SQLITE,
    ) -> ShardRecord:
        """Open both journals, the market's for writing where asked.

        Parameters
        ----------
        use_snapshot : begin from the newest snapshot that is whole; else everything is folded from the first record.
        storage, databases : the disk of journals and snapshots, and of the vault.

        Raises
        ------
        InputError : there is no shard with a market. JournalError, VaultError : it cannot be read, or another process
            writes it.
        """
        folder = Path(path)
        with ExitStack() as held:
            vault = held.enter_context(Vault.open(folder / "vault", databases=databases))
            key = vault.purpose_key(MARKET_KEY) if write else None
            height = height_for(len(vault.customers))
            journal = held.enter_context(Journal.open(folder / MARKET, key, stretch_height=height, storage=storage))
            intake = held.enter_context(Journal.open(folder, storage=storage))
            shard = Recorder(intake, vault, "")
            feeders = read_feeders(shard)
            snapshots = SnapshotFolder(journal, folder / MARKET / STATE, vault, MARKET, storage=storage)
            kept = snapshots.read_newest() if use_snapshot else Restored()
            parts = kept.parts if kept.entry >= 0 else None
            directory = Directory.of(intake, vault, parts, kept.intake_size)
            submitted = Submitted(intake, vault)
            record = cls(
                path=folder,
                vault=vault,
                intake=intake,
                journal=journal,
                submitted=submitted,
                directory=directory,
                feeders=feeders,
                rulebook=read_rulebook(shard),
                first_day=read_first_day(shard),
                last_interval=_last_interval(shard),
                topology=Topology(feeders, directory),
                snapshots=snapshots,
                kept=kept,
                span_ends=SpanEnds(submitted),
                _archive=Archive(folder / MARKET, vault),
                _storage=storage,
                _held=held.pop_all(),
                _seen=len(intake),
            )
        record.refresh()
        return record

    def __enter__(self) -> ShardRecord:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Release the files."""
        self._held.close()

    def reopen(self, meanwhile: Callable[[], None]) -> None:
        """Let something be done to the files of the market's journal, which is closed meanwhile; for its writer."""
        self.journal.close()
        try:
            meanwhile()
        finally:
            key, folder, storage = self.vault.purpose_key(MARKET_KEY), self.path / MARKET, self._storage
            height = self.journal.index.height
            self.journal = self._held.enter_context(Journal.open(folder, key, stretch_height=height, storage=storage))
            self.snapshots = SnapshotFolder(self.journal, folder / STATE, self.vault, MARKET, storage=storage)

    def refresh(self) -> int:
        """Take in what the intake has committed since; the size of its journal as seen from now on.

        Who only reads sees what the market has committed, too.
        """
        self.journal.refresh()  # before the intake's: what it was made from is then there
        size = self.submitted.refresh()
        for kind in self.intake.present(KINDS, since=self._seen):
            for index in self.intake.find(kind=kind, since=self._seen):
                table = self.submitted.table(index)
                self.directory.apply(self.intake.entry(index), table)
                self.topology.forget()
        self._seen = size
        return size

    @property
    def folded(self) -> int:
        """Entries of the intake's journal that the directory has taken in."""
        return self._seen

    def has_ended(self, interval: int) -> bool:
        """Whether the market ends before an interval."""
        return self.last_interval is not None and interval > self.last_interval

    def last_of(self, bounds: range) -> int:
        """The last interval of a day, or of the market where that ends before."""
        return bounds[-1] if self.last_interval is None else min(bounds[-1], self.last_interval)

    def readings(self, interval: int, size: int) -> Readings:
        """Readings about an interval that count, below a size of the intake's journal."""
        return self.submitted.readings(interval, size).readings

    def registers(self, interval: int, size: int, connected: Connected) -> Readings:
        """Readings about an interval, those of coarse meters as `operations.registers` makes them."""
        key = interval, size, self.submitted.erased
        if self._registers is None or self._registers[0] != key or self._registers[1] is not connected:
            found = registers_of(connected, interval, lambda about, whose: self._sent(about, size, whose))
            self._registers = key, connected, found
        return self._registers[2]

    def _sent(self, interval: int, size: int, customer: IntArray | None) -> Readings:
        if customer is None:
            return self.readings(interval, size)
        return self.span_ends.readings(interval, size, customer).readings

    def histories(self) -> Histories:
        """What is known of customers from before they joined."""
        return Histories.concat([self._enrolled(index, Histories) for index in self.intake.find(kind=Histories.kind)])

    def past(self, size: int | None = None) -> Past:
        """Profiles and histories, with which readings that failed are estimated; the last answer is kept.

        Parameters
        ----------
        size : of the intake's journal, below which they stand; None: all.
        """
        kinds: tuple[type[Profiles], type[Histories]] = Profiles, Histories
        entries = tuple(tuple(i for i in self.intake.find(kind=k.kind) if size is None or i < size) for k in kinds)
        if self._past is None or self._past[0] != entries:
            profiles = Profiles.concat([self._enrolled(index, Profiles) for index in entries[0]])
            histories = Histories.concat([self._enrolled(index, Histories) for index in entries[1]])
            self._past = entries, Past(profiles, histories)
        return self._past[1]

    def has_past_since(self, size: int) -> bool:
        """Whether the intake has put profiles or histories on record since its journal had a size."""
        kinds = self.intake.present((Profiles.kind, Histories.kind), since=size)
        return any(self.intake.find(kind=kind, since=size) for kind in kinds)

    def _enrolled(self, index: int, kind: type[T]) -> T:
        table = self.submitted.table(index)
        assert isinstance(table, kind)
        return table

    # The market's journal

    def recorder(self, feeder: str = "") -> Recorder:
        """The way on to the market's record."""
        return Recorder(self.journal, self.vault, feeder, live=True)

    def table(self, index: int, kind: type[T]) -> T:
        """Rows of an entry of the market's journal, wherever they lie; those of erased customers are missing."""
        table = self._recent.get(index)
        if table is None:
            table = self._archive.unseal(self.journal, index).table
        assert isinstance(table, kind)
        return table

    def remember(self, index: int, table: Table) -> None:
        """Keep what has just been put on record: the next verbs read it."""
        self._recent[index] = table
        while len(self._recent) > RECENT_MAX * max(len(self.feeders), 1):
            self._recent.popitem(last=False)

    def forget(self) -> None:
        """Keep nothing: what was put is not on record after all."""
        self._recent.clear()
        self._found.clear()

    def tables(self, indices: Iterable[int]) -> Iterator[tuple[int, Table]]:
        """Rows of several entries of the market's journal, each file of the archive read once."""
        return ((index, seen.table) for index, seen in self._archive.unseal_each(self.journal, indices))

    def cause(self, entry: int, kind: type[Table]) -> int:
        """The entry of a kind from which another one follows directly.

        Raises
        ------
        KeyError : there is none.
        """
        for index in self.journal.entry(entry).causes:
            if self.journal.entry(index).kind == kind.kind:
                return index
        raise KeyError(f"entry {entry} follows from no {kind.kind}")

    def header(self, index: int) -> Header:
        """Header of an entry of the market's journal."""
        return self.journal.entry(index)

    def about(self, kind: type[Table], feeder: str, interval: int, market: str | None = None) -> list[int]:
        """Entries of a kind about a feeder and an interval, in their order; what was found is kept for the others."""
        key, size = (kind.kind, market, interval), len(self.journal)
        seen, found = self._found.pop(key, (-1, {}))
        if seen < 0:  # nothing is written sooner of an interval
            seen = self.journal.earliest_at((interval - AHEAD_INTERVALS) * MARKET_INTERVAL_S)
        if seen < size:
            for index in self.journal.find(kind=kind.kind, market=market, interval=interval, since=seen):
                found.setdefault(self.header(index).feeder, []).append(index)
        self._found[key] = size, found
        while len(self._found) > INTERVALS_FOUND_MAX:
            self._found.popitem(last=False)
        return found.get(feeder, [])


def read_first_day(recorder: Recorder) -> date | None:
    """The day whose market is the first, of a recorder over the intake's journal; None where none is named."""
    said = recorder.document(FIRST_DAY).decode("ascii", "replace")
    return date.fromisoformat(said) if said else None


def _last_interval(recorder: Recorder) -> int | None:
    said = recorder.document(LAST_INTERVAL)
    return int(said) if said else None
