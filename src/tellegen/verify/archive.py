"""Checks of the archive: what has left the journal's payloads lies in files whose digests are on record."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from urllib.parse import quote

from tellegen.records import Compactions, Header, Table
from tellegen.verify.folder import Folder
from tellegen.verify.report import RefusedError

STUB_MAGIC = b"TLPX"
_TIMES_PUBLISHED = 16
ERASED = "erased"
"""Folder of the archive with hashes of the rows of who was erased; they open nothing, and only the vault binds them."""


@dataclass(frozen=True, slots=True)
class Stub:
    """What stands in the place of the payload of an entry: the payload's digest, and where its rows are."""

    index: int
    header: Header
    file: str

    @classmethod
    def parse(cls, index: int, header: Header, data: bytes) -> Stub:
        """Read a stub; it names the payload that its entry names."""
        if data[4:36].hex() != header.payload_sha256:
            raise RefusedError(f"the stub of entry {index} is not of the payload that the entry names")
        try:
            return cls(index, header, data[36:].decode())
        except UnicodeDecodeError:
            raise RefusedError(f"the stub of entry {index} names no file") from None


def check_archive(run: Folder, stubs: list[Stub], tables: list[Table]) -> tuple[int, str]:
    """Each stub's file is on record as that of its kind, feeder and day, whole, and with all its entries."""
    recorded: dict[str, tuple[int, int, int, bytes]] = {}
    for table in tables:
        if isinstance(table, Compactions):
            for row in table.rows().tolist():
                kind, feeder, day, epoch, first, entries, rows, sha256 = row
                date = (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(days=day)).date()
                name = _folder(feeder.decode())
                recorded[f"archive/{kind.decode()}/{name}/{date}.{epoch}.parquet"] = first, entries, rows, sha256
    of_file: dict[str, list[Stub]] = defaultdict(list)
    for stub in stubs:
        of_file[stub.file].append(stub)
    _check_stubs(of_file, recorded)
    left = _TIMES_PUBLISHED * run.limits.published_bytes
    for file, (_, _, _, sha256) in recorded.items():
        if not run.has(file):
            raise RefusedError(f"{file} is not there, and its digest is on record")
        with run.opened(file, left) as (content, size):
            left -= size
            if hashlib.file_digest(content, "sha256").digest() != sha256:
                raise RefusedError(f"{file} is not the file on record")
    for name in _loose(run):
        if name not in recorded:
            raise RefusedError(f"{name} is not on record; where it is of a compaction that was stopped, compact again")
    if not recorded:
        return 0, "none: no day has been compacted"
    return len(recorded), f"{len(recorded)} files are those on record; {len(stubs)} entries' rows lie in them"


def _check_stubs(of_file: Mapping[str, list[Stub]], recorded: Mapping[str, tuple[int, int, int, bytes]]) -> None:
    """The entries that are said to lie in a file are those for which it stands on record."""
    for file, members in of_file.items():
        if file not in recorded:
            raise RefusedError(f"entry {members[0].index} is said to lie in {file}, which is not on record")
        first, entries, rows, _ = recorded[file]
        kind, feeder = file.split("/")[1:3]
        for stub in members:
            if stub.header.kind != kind or _folder(stub.header.feeder) != feeder:
                raise RefusedError(f"entry {stub.index} is said to lie in {file}, which is of another kind or feeder")
        count = sum(stub.header.rows for stub in members)
        if (members[0].index, len(members), count) != (first, entries, rows):
            raise RefusedError(f"{file} does not stand for as many entries and rows as are on record")


def _loose(run: Folder) -> list[str]:
    """All files of the archive but hashes of who was erased."""
    if not run.has("archive"):
        return []
    return [f"archive/{name}" for name, folder, _ in run.below("archive").walk(frozenset({ERASED})) if not folder]


def _folder(feeder: str) -> str:
    return quote(feeder, safe="").replace(".", "%2E") or "%"
