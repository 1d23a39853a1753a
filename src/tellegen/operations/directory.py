"""The directory of a shard with a market: what lies where, how it is made, how it is opened for reading.

=====================  ================================================================================================
``journal/``           what anybody handed in, who is admitted and connected, rules, networks: the intake writes
``market/journal/``    what follows from it by the operator's verbs: the market writes
``market/state/``      snapshots of the fold of both
``vault/``             keys of customers and of the operator
``registry/``          certificates
``books.sqlite``       balances, folded from the market's postings
``prices.csv``         wholesale prices; whoever knows them appends
``reserves.csv``       reserve that the operator of the grid asks for; it appends
``days/``              what is published: a folder for each day, in it one for each feeder
``keys/``              private keys that were made for those who brought none: to be handed over and removed
=====================  ================================================================================================
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import numpy as np

from tellegen.books import Ledger
from tellegen.errors import InputError
from tellegen.intake.calendar import read_rulebook
from tellegen.intake.connecting import read_connections
from tellegen.intake.recording import SOURCE as INTAKE
from tellegen.journal import Journal, height_for
from tellegen.journal.clock import BOUNDS, Bounds, RecordClock
from tellegen.journal.storage import FILES
from tellegen.metering.estimate import NOT_KNOWN
from tellegen.operations.customers import Member
from tellegen.operations.record import FIRST_DAY, MARKET, MARKET_KEY, NAMES, read_first_day
from tellegen.operations.timetable import day_bounds, open_at
from tellegen.operations.topology import Feeder, feeder_names, put_feeders
from tellegen.privacy import Vault
from tellegen.privacy.recorder import SOURCE, Recorder, Span, start_clock
from tellegen.records import Connections, Device, Document, Histories, Role
from tellegen.registry import Identity, Request, create_shard, open_shard
from tellegen.registry.assets import FEEDER_CHARACTERS_MAX
from tellegen.registry.shard import SIGNING_PURPOSE, Shard
from tellegen.rules import Rulebook


@dataclass(frozen=True, slots=True)
class ShardFiles:
    """Where everything of a shard lies.

    >>> ShardFiles(Path("street")).books.as_posix()
    'street/books.sqlite'
    """

    path: Path

    @property
    def vault(self) -> Path:
        """Keys."""
        return self.path / "vault"

    @property
    def market(self) -> Path:
        """The market's journal and its snapshots."""
        return self.path / MARKET

    @property
    def books(self) -> Path:
        """Balances."""
        return self.path / "books.sqlite"

    @property
    def reserves(self) -> Path:
        """Reserve that is asked for."""
        return self.path / "reserves.csv"

    @property
    def prices(self) -> Path:
        """Wholesale prices."""
        return self.path / "prices.csv"

    @property
    def days(self) -> Path:
        """What is published."""
        return self.path / "days"

    @property
    def keys(self) -> Path:
        """Private keys made for others."""
        return self.path / "keys"

    @property
    def lock(self) -> Path:
        """Held by the one operator."""
        return self.market / "operator.lock"


@dataclass(frozen=True, slots=True)
class ShardPlan:
    """What a new shard is made of.

    Attributes
    ----------
    origin : name of its log; it stays for good.
    feeders : what the market clears on.
    members : who hangs on each feeder by its name, the substation's meter among them.
    rulebook : every version goes on record.
    first_day : whose market is the first. Everybody is connected one interval before, for whose end the first registers
        are read: energy is counted from them.
    senders : requests of head-ends and gateways.
    connections : file of rows that go on record after those of the members, as `tellegen registry import` takes them.
    """

    origin: str
    feeders: tuple[Feeder, ...]
    members: Mapping[str, Sequence[Member]]
    rulebook: Rulebook
    first_day: date
    senders: tuple[Request, ...] = ()
    connections: Path | None = None


# Making


@contextmanager
def new_directory(path: Path) -> Iterator[Path]:
    """A folder beside `path`, its owner's alone, to be filled, which takes its name at the end, or is removed.

    Raises
    ------
    InputError : there is something at `path`, or a folder that was left half-filled beside it.
    """
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise InputError(path, "directory", "is not empty; a shard is never overwritten, give a new one")
    partial = path.with_name(f".{path.name}.partial")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        partial.mkdir(mode=0o700)
    except FileExistsError:
        raise InputError(partial, "directory", "was left by a start that was broken off; remove it") from None
    try:
        yield partial
        partial.rename(path)
        FILES.sync_folder(path.parent)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def fill_shard(path: Path, plan: ShardPlan, now: int, seed: bytes | None = None) -> None:
    """Make a shard in an empty folder: vault, registry, both journals, books; all it needs to run is on record.

    Parameters
    ----------
    now : seconds since the epoch.
    seed : of every secret of the operator's, for simulations.

    Raises
    ------
    InputError : a name, row or request will not do.
    RegistryError, JournalError : the name of the shard will not do.
    """
    files = ShardFiles(path)
    create_shard(path, plan.origin, now, seed)
    with open_shard(path, write=True, meters=sum(map(len, plan.members.values()))) as shard:
        _put_on_record(shard, plan, now)
        shard.journal.commit(now)
        key = shard.registrar.vault.purpose_key(MARKET_KEY)
    Journal.create(files.market, f"{plan.origin}/market", key).close()
    Ledger.create(files.books).close()


def _put_on_record(shard: Shard, plan: ShardPlan, now: int) -> None:
    vault, bounds = shard.registrar.vault, day_bounds(plan.rulebook, plan.first_day)
    names: dict[str, str] = {}
    for name, members in plan.members.items():
        _check_feeder(name)
        shard.registrar.connect(_connections(name, members, bounds.start - 1), now)
        names |= {str(member.number): member.name for member in members}
    requests = [
        Request(Identity(Role.PARTICIPANT, member.number), member.request)
        for members in plan.members.values()
        for member in members
        if member.request
    ]
    _admit(shard, [*requests, *plan.senders], names, now)
    span = Span(now, bounds.start, len(bounds))
    recorder = Recorder(shard.journal, vault, "")
    for document in (
        *plan.rulebook.documents(),
        Document(NAMES, json.dumps(names, sort_keys=True).encode(), private=True),
        Document(FIRST_DAY, plan.first_day.isoformat().encode()),
    ):
        recorder.put_document(document, span)
    put_feeders(recorder, plan.feeders, span)
    if plan.connections is not None:
        shard.registrar.connect(read_connections(plan.connections, shard, now), now)
    for name, members in plan.members.items():
        known = [member for member in members if member.trailing_wh is not None]
        if known:
            Recorder(shard.journal, vault, name).put(_histories(known), span)


def _check_feeder(name: str) -> None:
    if not (name and len(name) <= FEEDER_CHARACTERS_MAX and name.isascii() and name.isprintable()):
        raise InputError("shard", f"feeder '{name}'", f"needs a name of 1 to {FEEDER_CHARACTERS_MAX} ASCII characters")


def _admit(shard: Shard, requests: Sequence[Request], names: Mapping[str, str], now: int) -> None:
    _, _, refused = shard.registrar.admit(requests, now, vouched=True)
    for each in refused:
        identity = requests[each.row].identity
        known = names.get(str(identity.number), "") if identity.role is Role.PARTICIPANT else identity.name
        raise InputError("shard", f"request of '{known}'", f"is not taken: {each.reason}")


def _connections(feeder: str, members: Sequence[Member], from_interval: int) -> Connections:
    count = len(members)
    capacity = np.array([member.capacity_w for member in members], dtype=np.int64)
    return Connections(
        customer=np.array([member.number for member in members], dtype=np.int32),
        device=np.full(count, Device.LOAD, dtype=np.uint8),
        asset=np.array([member.meter for member in members], dtype=np.int64),
        feeder=np.full(count, feeder.encode("ascii"), dtype="S32"),
        node=np.array([member.node for member in members], dtype=np.int32),
        phases=np.array([member.phases for member in members], dtype=np.uint8),
        from_interval=np.full(count, from_interval),
        capacity_w=capacity,
        import_limit_w=capacity,
        export_limit_w=capacity,
        reads_every=np.zeros(count, dtype=np.uint8),
        attested_by=np.full(count, b"", dtype="S32"),
        credit=np.zeros(count, dtype=np.int32),
    )


def _histories(members: Sequence[Member]) -> Histories:
    return Histories(
        customer=np.array([member.number for member in members], dtype=np.int32),
        trailing_wh=np.array([member.trailing_wh for member in members], dtype=np.int64),
        longest_still=np.full(len(members), NOT_KNOWN, dtype=np.int32),
    )


# Reading, operating


def read_names(intake: Recorder) -> dict[int, str]:
    """Public name of each customer number, of a recorder over the intake's journal."""
    return {int(number): name for number, name in json.loads(intake.document(NAMES) or b"{}").items()}


def read_number(intake: Recorder, name: str, source: object) -> int:
    """Customer number of a name.

    Raises
    ------
    InputError : nobody is called that.
    """
    for number, known in read_names(intake).items():
        if known == name:
            return number
    raise InputError(source, f"customer '{name}'", "is not enrolled in this shard")


def accept_clock(path: Path, who: str, bounds: Bounds = BOUNDS) -> int:
    """Say in the journals of a shard that the wall clock is right; in how many: not where it is near.

    Raises
    ------
    InputError : there is no shard at `path`. JournalError : it is served or operated just now.
    """
    files = ShardFiles(path)
    parts, said = [(path, SIGNING_PURPOSE, INTAKE), (files.market, MARKET_KEY, SOURCE)], 0
    with Vault.open(files.vault) as vault:
        for folder, purpose, source in parts if (files.market / "journal").is_dir() else parts[:1]:
            height = height_for(len(vault.customers))
            with Journal.open(folder, vault.purpose_key(purpose), stretch_height=height) as journal:
                before = len(journal)
                start_clock(journal, vault, lambda at: RecordClock(not_before=at, bounds=bounds), source, who)
                said += len(journal) > before
    return said


@dataclass(frozen=True, slots=True)
class Standing:
    """How far a shard is.

    Attributes
    ----------
    newest : time of the newest entry of either journal, seconds since the epoch. opens_at : when its first day opens.
    rulebook : on record. feeders : their names.
    """

    newest: int
    opens_at: int
    rulebook: Rulebook
    feeders: tuple[str, ...]


def read_standing(path: Path) -> Standing:
    """How far a shard is.

    Raises
    ------
    InputError : there is no shard with a market at `path`.
    """
    files = ShardFiles(path)
    _require_market(files)
    with Vault.open(files.vault) as vault, Journal.open(path) as intake, Journal.open(files.market) as market:
        recorder = Recorder(intake, vault, "")
        book = read_rulebook(recorder)
        first_day = read_first_day(recorder)
        if first_day is None:
            raise InputError(path, FIRST_DAY, "is not on record; `tellegen init` makes a shard that runs")
        newest = max(journal.entry(len(journal) - 1).known_at for journal in (intake, market) if len(journal))
        return Standing(newest, open_at(book, first_day), book, feeder_names(recorder))


def _require_market(files: ShardFiles) -> None:
    if not (files.market / "journal").is_dir():
        raise InputError(files.path, "directory", "holds no market; `tellegen init` makes a shard that has one")


@contextmanager
def sole_operator(path: Path) -> Iterator[None]:
    """Be the one operator of a shard until the end.

    Raises
    ------
    InputError : another process operates it.
    """
    files = ShardFiles(path)
    _require_market(files)
    lock = FILES.open(files.lock, write=True)
    try:
        if not lock.lock():
            said = lock.read(0, 32).decode("ascii", "replace").strip()
            raise InputError(path, "shard", f"is operated by process {said or 'unknown'} already; end that one first")
        lock.truncate(0)
        lock.write(0, str(os.getpid()).encode())
        yield
    finally:
        lock.close()
