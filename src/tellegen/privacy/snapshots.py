"""A fold of the record, kept beside it, so that opening folds only what came after.

A snapshot is parts by name, a part is columns by name. Its bytes are canonical, so that equal states are equal bytes::

    magic      8    "TLPART01"
    length     4    of the layout, little-endian
    layout          canonical JSON: [name, dtype, shape] of each column, by name
    columns         one after the other, in C order, little-endian

A part lies in the folder as ``NAME-DIGEST``, where the digest is a BLAKE2b of name and bytes under a key of the
operator's: what a part holds can be told apart only by who has the vault. The file is sealed under the key of the
snapshot that wrote it::

    magic      8    "TLSNAP01"
    length     1    of the name of the key
    name            purpose in the vault
    nonce     12    follows from key, name and bytes
    ciphertext      AES-256-GCM, tag included

A part that has not changed is named by the next snapshot and not written again; it keeps its key. The record of a
snapshot, a table of kind ``snapshots``, is the caller's to append: parts are durable before it, and what no kept record
names is removed after it. Nothing rests on a snapshot: one that is missing, damaged or without its key is passed over.
"""

from __future__ import annotations

import hashlib
import json
import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from numpy.typing import NDArray

from tellegen.errors import TellegenError
from tellegen.journal import Journal
from tellegen.journal.storage import FILES, Storage, read_file, replace_file
from tellegen.privacy.keys import derive
from tellegen.privacy.vault import Vault
from tellegen.records import Snapshots

DIGEST_PURPOSE = "snapshot digests"
KEPT = 2
"""Snapshots whose parts are kept: should one be damaged, there is the one before."""
_PART, _SEALED = b"TLPART01", b"TLSNAP01"
_LENGTH = struct.Struct("<I")
_NONCE_BYTES = 12
_PLAIN_BYTES_MAX = (1 << 31) - 1 - 64  # what the cipher takes at once
_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_KINDS = "iufbSV"

Columns = Mapping[str, NDArray[Any]]
Parts = Mapping[str, Columns]


class SnapshotError(TellegenError):
    """A part that cannot be kept, or that is not as it was kept."""


@dataclass(frozen=True, slots=True)
class Restored:
    """The newest snapshot that could be read.

    Attributes
    ----------
    entry : of the record; -1 where there is none.
    intake_size, market_size : entries of the two journals that are folded into it.
    parts : by name.
    problems : what was passed over and why, one line each; empty where the newest snapshot was whole.
    """

    entry: int = -1
    intake_size: int = 0
    market_size: int = 0
    parts: Parts = field(default_factory=dict)
    problems: tuple[str, ...] = ()


def part_bytes(columns: Columns) -> bytes:
    """Canonical bytes of a part.

    Raises
    ------
    SnapshotError : a column is not of numbers, flags, or bytes.

    >>> part_columns(part_bytes({"b": np.arange(2), "a": np.array([b"x"])}))["b"].tolist()
    [0, 1]
    """
    layout, stored = [], []
    for name, column in sorted(columns.items()):
        if column.dtype.kind not in _KINDS or column.dtype.names is not None:
            raise SnapshotError(f"column {name!r} is of {column.dtype}; numbers, flags and bytes can be kept")
        little = column.astype(column.dtype.newbyteorder("<"), copy=False)
        layout.append([name, little.dtype.str, list(little.shape)])
        stored.append(little.tobytes())
    text = json.dumps(layout, separators=(",", ":")).encode("ascii")
    return b"".join([_PART, _LENGTH.pack(len(text)), text, *stored])


def part_columns(data: bytes) -> dict[str, NDArray[Any]]:
    """Inverse of `part_bytes`; the columns are not to be written to.

    Raises
    ------
    SnapshotError : these are no bytes of a part.
    """
    try:
        start = len(_PART) + _LENGTH.size
        (length,) = _LENGTH.unpack_from(data, len(_PART))
        at, columns = start + length, {}
        for name, dtype, shape in json.loads(data[start:at]):
            count = int(np.prod(shape, dtype=np.int64))
            columns[name] = np.frombuffer(data, np.dtype(dtype), count, at).reshape(shape)
            at += columns[name].nbytes
    except (struct.error, ValueError, TypeError) as error:
        raise SnapshotError(f"is no part of a snapshot: {error}") from None
    if not data.startswith(_PART) or at != len(data):
        raise SnapshotError("is no part of a snapshot")
    return columns


class SnapshotFolder:
    """Snapshots of one operator, in one folder, recorded in one journal.

    Parameters
    ----------
    journal : in which the records of snapshots stand.
    folder : of the parts.
    vault : holds the keys.
    owner : whose snapshots these are, in the names of the keys: a vault may serve several.
    storage : the disk.
    """

    def __init__(self, journal: Journal, folder: Path, vault: Vault, owner: str, *, storage: Storage = FILES) -> None:
        self._journal, self._folder, self._vault, self._storage = journal, folder, vault, storage
        self._prefix = f"snapshot {owner} "

    # Writing

    def write(self, parts: Parts, *, intake_size: int, market_size: int, afresh: bool = False) -> Snapshots:
        """Put parts on disk, durably; returns the record, for the caller to append and commit.

        Parameters
        ----------
        intake_size, market_size : entries of the two journals that are folded into the parts.
        afresh : write unchanged parts too, so that all older keys may be destroyed (`keep` with ``count=1``).

        Raises
        ------
        SnapshotError : a name or column cannot be kept.
        OSError : the disk refused; what lies there is removed by `keep`.
        """
        before = {} if afresh else {(name, digest): size for name, digest, size in self._named(1)}
        purpose = f"{self._prefix}{intake_size} {market_size}"
        rows: list[tuple[str, int, int, bytes]] = []
        for name, columns in sorted(parts.items()):
            if _NAME.fullmatch(name) is None:
                raise SnapshotError(f"{name!r} cannot be the name of a part; it is up to 64 of letters, digits, _ . -")
            data = part_bytes(columns)
            digest = self._digest(name, data)
            size = before.get((name, digest))
            if size is None or not self._storage.exists(self._path(name, digest)):
                size = self._put(name, digest, data, purpose)
            rows.append((name, max((len(column) for column in columns.values()), default=0), size, digest))
        names, row_counts, sizes, digests = zip(*rows, strict=True) if rows else ((), (), (), ())
        return Snapshots(
            part=np.array([name.encode() for name in names], dtype="S64"),
            row_count=np.array(row_counts, dtype=np.int64),
            size=np.array(sizes, dtype=np.int64),
            digest=np.array(digests, dtype="V32"),
            intake_size=np.full(len(rows), intake_size, dtype=np.int64),
            market_size=np.full(len(rows), market_size, dtype=np.int64),
        )

    def _put(self, name: str, digest: bytes, data: bytes, purpose: str) -> int:
        if len(data) > _PLAIN_BYTES_MAX:
            raise SnapshotError(f"part {name!r} has {len(data)} bytes; divide it, {_PLAIN_BYTES_MAX} can be sealed")
        if not self._storage.names(self._folder):
            self._storage.make_folder(self._folder)
            self._storage.sync_folder(self._folder.parent)
        key = self._vault.purpose_key(purpose)
        # the same bytes under the same name and key give the same nonce, others another
        nonce = hashlib.blake2b(digest, key=derive(key, "nonce"), digest_size=_NONCE_BYTES).digest()
        head = _SEALED + bytes([len(purpose)]) + purpose.encode("ascii")
        sealed = head + nonce + AESGCM(derive(key, "payload")).encrypt(nonce, data, head + name.encode() + digest)
        replace_file(self._path(name, digest), sealed, self._storage)
        return len(sealed)

    def keep(self, count: int = KEPT) -> list[str]:
        """Remove, durably, what the newest `count` records do not name, and destroy the keys of what is gone.

        Not to be called between `write` and the commit of its record.

        Returns
        -------
        Names of the files removed.
        """
        named = {self._path(name, digest).name for name, digest, _ in self._named(count)}
        gone = [name for name in self._storage.names(self._folder) if name not in named]
        for name in gone:
            self._storage.remove(self._folder / name)
        if gone:
            self._storage.sync_folder(self._folder)
        needed = {self._purpose_of(name) for name in named}
        for purpose in self._vault.purposes:
            if purpose.startswith(self._prefix) and purpose not in needed:
                self._vault.destroy_purpose(purpose)
        return gone

    def _purpose_of(self, name: str) -> str:
        """Under whose key a file is; empty where it cannot be read."""
        path = self._folder / name
        if not self._storage.exists(path):
            return ""
        file = self._storage.open(path)
        try:
            return _purpose(file.read(0, len(_SEALED) + 256))
        except SnapshotError:
            return ""
        finally:
            file.close()

    # Reading

    def read_newest(self, count: int = KEPT) -> Restored:
        """The newest snapshot whose parts are all there and whole, of the newest `count`; else nothing, and why."""
        problems: list[str] = []
        for entry in self._journal.latest(Snapshots.kind, count=count):
            record = self._record(entry)
            try:
                parts = {name: self._part(name, digest) for name, digest, _ in _rows(record)}
            except (OSError, SnapshotError) as error:
                why = (error.strerror or "cannot be read") if isinstance(error, OSError) else str(error)
                problems.append(f"{self._folder}: the snapshot of entry {entry} is passed over: {why}")
                continue
            if len(record):
                sizes = int(record.intake_size[0]), int(record.market_size[0])
                return Restored(entry, *sizes, parts, tuple(problems))
        return Restored(problems=tuple(problems))

    def _part(self, name: str, digest: bytes) -> dict[str, NDArray[Any]]:
        path = self._path(name, digest)
        sealed = read_file(self._storage, path)
        try:
            purpose = _purpose(sealed)
            key = self._vault.held_purpose_key(purpose)
            if key is None:
                raise SnapshotError("has no key any more")
            head = sealed[: len(_SEALED) + 1 + len(purpose)]
            nonce, ciphertext = sealed[len(head) :][:_NONCE_BYTES], sealed[len(head) + _NONCE_BYTES :]
            data = AESGCM(derive(key, "payload")).decrypt(nonce, ciphertext, head + name.encode() + digest)
            if self._digest(name, data) != digest:
                raise SnapshotError("is not what its digest says")
            return part_columns(data)
        except (InvalidTag, ValueError):
            raise SnapshotError(f"{path.name} is damaged") from None
        except SnapshotError as error:
            raise SnapshotError(f"{path.name} {error}") from None

    def _named(self, count: int) -> list[tuple[str, bytes, int]]:
        """Name, digest and size of the parts that the newest records name."""
        entries = self._journal.latest(Snapshots.kind, count=count)
        return [row for entry in entries for row in _rows(self._record(entry))]

    def _record(self, entry: int) -> Snapshots:
        table = self._vault.unseal(self._journal.entry(entry), self._journal.payload(entry)).table
        assert isinstance(table, Snapshots)
        return table

    def digest_of(self, name: str, columns: Columns) -> bytes:
        """Digest under which a part is on record: what a fold comes to is compared with what was kept."""
        return self._digest(name, part_bytes(columns))

    def _digest(self, name: str, data: bytes) -> bytes:
        digest = hashlib.blake2b(name.encode() + b"\0", key=self._vault.purpose_key(DIGEST_PURPOSE), digest_size=32)
        digest.update(data)
        return digest.digest()

    def _path(self, name: str, digest: bytes) -> Path:
        return self._folder / f"{name}-{digest.hex()}"


def _rows(record: Snapshots) -> list[tuple[str, bytes, int]]:
    columns = record.part.tolist(), record.digest.tolist(), record.size.tolist()
    return [(part.decode("ascii"), bytes(digest), size) for part, digest, size in zip(*columns, strict=True)]


def _purpose(sealed: bytes) -> str:
    at = len(_SEALED)
    if not sealed.startswith(_SEALED) or len(sealed) < at + 1 or len(sealed) < at + 1 + sealed[at]:
        raise SnapshotError("is damaged")
    try:
        return sealed[at + 1 : at + 1 + sealed[at]].decode("ascii")
    except UnicodeDecodeError:
        raise SnapshotError("is damaged") from None
