"""A closed day goes to the archive: rows encrypted per customer, payloads give way to stubs, the epoch's key goes.

In this order, each step durable before the next one begins:

1. the epoch is closed: what is sealed from now on is of another one;
2. the archive files are written, read back, and every row root recomputed from them;
3. a `Compactions` batch with their digests goes on record;
4. stubs take the place of the live payloads;
5. once every journal of the shard has come so far, the epoch's key is destroyed.

A crash between any two leaves all rows readable; the same compaction asked for again goes on where it was. Nothing
else may write to the journals meanwhile: whoever does holds their locks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from tellegen.custody import ROLES
from tellegen.errors import InputError
from tellegen.journal import Journal, LivePayload, NoteSigner, put_stubs
from tellegen.journal.files import read_verifier
from tellegen.journal.storage import FILES
from tellegen.operations.record import MARKET, ShardRecord
from tellegen.privacy import Archive, Epoch, Vault, VaultError
from tellegen.privacy.blocks import block_dtype
from tellegen.records import TABLES, Compactions, Header, tree_root
from tellegen.units import MARKET_INTERVAL_S

SOURCE = "archive"
SECONDS_PER_DAY = 86_400


@dataclass(frozen=True, slots=True)
class Filed:
    """What a compaction did.

    epochs : how many keys were destroyed. files, entries, rows : what went to the archive. archive_bytes : size of
    the files. freed_bytes : what the payloads gave back.
    """

    epochs: int = 0
    files: int = 0
    entries: int = 0
    rows: int = 0
    archive_bytes: int = 0
    freed_bytes: int = 0


@dataclass(slots=True)
class _Group:
    """Live batches of one kind, feeder and epoch, by journal index."""

    kind: str
    feeder: str
    epoch: Epoch
    headers: dict[int, Header] = field(default_factory=dict)

    @property
    def place(self) -> str:
        return Archive.place(self.kind, self.feeder, self.epoch.day, self.epoch.number)


def compact(
    directory: Path | str,
    vault: Vault,
    *,
    known_at: int,
    until_day: int,
    step: Callable[[str], None] = lambda what: None,
) -> Filed:
    """Compact every epoch of the days up to `until_day`, in every journal of a shard.

    Parameters
    ----------
    directory : of the shard: ``journal/``, and ``market/journal/`` where there is one.
    known_at : time of the compaction, seconds since the epoch.
    until_day : last UTC day (since 1970) to compact.
    step : told each step before it is taken.

    Raises
    ------
    InputError : there is no journal.
    JournalError : another writer, or a damaged journal.
    VaultError : a row cannot be bound again (then nothing is removed), or an archive file is not the one on record.
    """
    epochs = [epoch for epoch in vault.epochs if epoch.keys is not None and epoch.day <= until_day]
    folders = journals_of(directory)
    if not epochs:
        return Filed()
    for epoch in epochs:
        step(f"close epoch {epoch.number}")
        vault.close_epoch(epoch.number)
    parts = [_compact_journal(folder, vault, epochs, known_at, step) for folder in folders]
    for epoch in epochs:
        step(f"destroy the key of epoch {epoch.number}")
        vault.destroy_epoch(epoch.number)
    totals = {name: sum(getattr(part, name) for part in parts) for name in ("files", "entries", "rows")}
    sizes = {name: sum(getattr(part, name) for part in parts) for name in ("archive_bytes", "freed_bytes")}
    return Filed(len(epochs), **totals, **sizes)


def journals_of(directory: Path | str) -> list[Path]:
    """Directories of a shard in which a journal lies.

    Raises
    ------
    InputError : there is none.
    """
    top = Path(directory)
    found = [folder for folder in (top, top / MARKET) if (folder / "journal").is_dir()]
    if not found:
        raise InputError(top, "directory", "holds no journal; give the directory of a shard or run")
    return found


def open_for_writing(folder: Path, vault: Vault) -> Journal:
    """Open a journal with the one of the vault's keys that signs for it.

    Raises
    ------
    VaultError : none of them does.
    """
    return Journal.open(folder, signing_key(folder, vault))


def signing_key(folder: Path, vault: Vault) -> bytes:
    """The one of the vault's keys that signs for the journal in a folder.

    Raises
    ------
    VaultError : none of them does. JournalError : its public key cannot be read.
    """
    verifier = read_verifier(FILES, folder / "journal")
    for purpose in vault.purposes:
        if purpose in ROLES and ROLES[purpose].is_offline:
            continue
        key = vault.purpose_key(purpose)
        if NoteSigner(verifier.name, key).verifier == verifier:
            return key
    raise VaultError(f"{folder}: no key of the vault is that of its journal")


def compact_own(
    record: ShardRecord, known_at: int, until_day: int, step: Callable[[str], None] = lambda what: None
) -> Filed:
    """Compact the market's own journal while its market is open; the intake's is its own to compact.

    The key of an epoch goes when no journal of the shard holds anything under it any more: with this call, or with the
    intake's compaction.

    Raises
    ------
    JournalError, VaultError : as in `compact`.
    """
    vault, folder = record.vault, record.path / MARKET
    epochs = [epoch for epoch in vault.epochs if epoch.keys is not None and epoch.day <= until_day]
    for epoch in epochs:
        step(f"close epoch {epoch.number}")
        vault.close_epoch(epoch.number)
    groups = _file_all(folder, record.journal, vault, epochs, known_at, step)
    freed = [0]

    def free_payloads() -> None:
        freed[0] = _put_stubs(folder, groups, step)

    record.forget()
    record.reopen(free_payloads)
    left = {group.epoch.number for group in _live_groups(record.intake, epochs)}
    gone = [epoch for epoch in epochs if epoch.number not in left]
    for epoch in gone:
        step(f"destroy the key of epoch {epoch.number}")
        vault.destroy_epoch(epoch.number)
    return replace(_filed(folder, groups, freed[0]), epochs=len(gone))


def _compact_journal(
    folder: Path, vault: Vault, epochs: Iterable[Epoch], known_at: int, step: Callable[[str], None]
) -> Filed:
    with open_for_writing(folder, vault) as journal:
        groups = _file_all(folder, journal, vault, epochs, known_at, step)
    return _filed(folder, groups, _put_stubs(folder, groups, step))


def _file_all(
    folder: Path,
    journal: Journal,
    vault: Vault,
    epochs: Iterable[Epoch],
    known_at: int,
    step: Callable[[str], None],
) -> list[_Group]:
    """Rows of epochs into the archive, verified and on record."""
    archive = Archive(folder, vault)
    groups = _live_groups(journal, epochs)
    recorded = compactions_on_record(journal, vault)
    digests: dict[str, bytes] = {}
    for group in groups:
        if group.place in recorded:
            archive.check_digest(group.place, recorded[group.place])
        else:
            step(f"write {group.place}")
            digests[group.place] = _file(archive, journal, vault, group)
            step(f"verify {group.place}")
            _verify(archive, group)
    if digests:
        step("put the archive on record")
        _record(journal, vault, [group for group in groups if group.place in digests], digests, known_at)
    return groups


def _put_stubs(folder: Path, groups: list[_Group], step: Callable[[str], None]) -> int:
    files = {index: group.place for group in groups for index in group.headers}
    step("put stubs")
    return put_stubs(folder, files, lambda name: step(f"replaced payloads/{name}"))


def _filed(folder: Path, groups: list[_Group], freed: int) -> Filed:
    return Filed(
        files=len(groups),
        entries=sum(len(group.headers) for group in groups),
        rows=sum(header.rows for group in groups for header in group.headers.values()),
        archive_bytes=sum((folder / group.place).stat().st_size for group in groups),
        freed_bytes=freed,
    )


def _live_groups(journal: Journal, epochs: Iterable[Epoch]) -> list[_Group]:
    by_number = {epoch.number: epoch for epoch in epochs}
    days = {epoch.day for epoch in epochs}
    groups: dict[tuple[str, str, int], _Group] = {}
    for index, header in enumerate(journal.entries()):
        if header.known_at // SECONDS_PER_DAY not in days or journal.archive_file(index) is not None:
            continue
        payload = journal.payload(index)
        if not LivePayload.is_live(payload):
            continue
        number = LivePayload.from_bytes(payload).epoch
        if number in by_number:
            key = (header.kind, header.feeder, number)
            groups.setdefault(key, _Group(header.kind, header.feeder, by_number[number])).headers[index] = header
    return [groups[key] for key in sorted(groups)]


def _file(archive: Archive, journal: Journal, vault: Vault, group: _Group) -> bytes:
    schema = TABLES[group.kind]
    parts = []
    for index, header in group.headers.items():
        table = vault.unseal(header, journal.payload(index)).table
        if len(table) != header.rows:
            raise VaultError(f"entry {index} has rows of a customer without a key; they cannot be archived")
        rows = np.empty(len(table), dtype=block_dtype(schema))
        for name in schema.row_dtype().names or ():
            rows[name] = getattr(table, name)
        rows["@entry"], rows["@row"] = index, np.arange(len(table))
        parts.append((rows, table.subjects()))
    return archive.write(
        group.place, np.concatenate([rows for rows, _ in parts]), np.concatenate([whom for _, whom in parts])
    )


def _verify(archive: Archive, group: _Group) -> None:
    for index, leaves in archive.leaves(group.place, group.headers).items():
        if tree_root(leaves).hex() != group.headers[index].row_root:
            raise VaultError(f"{group.place}: the rows of entry {index} are not those on record")


def compactions_on_record(journal: Journal, vault: Vault) -> dict[str, bytes]:
    """Digest of each archive file that is on record, by its path."""
    found: dict[str, bytes] = {}
    for index in journal.find(kind=Compactions.kind):
        table = vault.unseal(journal.entry(index), journal.payload(index)).table
        assert isinstance(table, Compactions)
        for k in range(len(table)):
            kind, feeder = table.rows_of[k].decode(), table.feeder[k].decode()
            place = Archive.place(kind, feeder, int(table.day[k]), int(table.epoch[k]))
            found[place] = table.file_sha256[k].tobytes()
    return found


def _record(journal: Journal, vault: Vault, groups: list[_Group], digests: Mapping[str, bytes], known_at: int) -> None:
    rows = np.zeros(len(groups), dtype=Compactions.row_dtype())
    rows["rows_of"] = [group.kind.encode() for group in groups]
    rows["feeder"] = [group.feeder.encode() for group in groups]
    rows["day"] = [group.epoch.day for group in groups]
    rows["epoch"] = [group.epoch.number for group in groups]
    rows["first_entry"] = [min(group.headers) for group in groups]
    rows["entries"] = [len(group.headers) for group in groups]
    rows["row_count"] = [sum(header.rows for header in group.headers.values()) for group in groups]
    rows["file_sha256"] = np.frombuffer(b"".join(digests[group.place] for group in groups), dtype="V32")
    table = Compactions.from_rows(rows)
    known_at = journal.time(known_at)
    at = journal.time(known_at)
    interval = at // MARKET_INTERVAL_S
    journal.append(vault.seal(table, feeder="", interval=interval, intervals=1, source=SOURCE, known_at=at))
    journal.commit(at)
