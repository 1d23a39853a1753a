"""The certificates that were issued, in one SQLite file, found by fingerprint, serial number or identity.

Whether one counts is not said here but on record: admissions and revocations are facts of the journal.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from zlib import crc32

from tellegen.records import Role
from tellegen.registry.authority import Certificate
from tellegen.registry.identity import Identity, RegistryError

# Half of a fingerprint tells certificates apart; the whole one is compared. Shorter keys make a third of the index.
_SCHEMA = """
CREATE TABLE certificate (
  fingerprint INTEGER NOT NULL, role INTEGER NOT NULL, number INTEGER NOT NULL, name TEXT NOT NULL,
  serial BLOB NOT NULL, valid_from INTEGER NOT NULL, valid_until INTEGER NOT NULL, public_key BLOB NOT NULL,
  der BLOB NOT NULL, checksum INTEGER NOT NULL) STRICT;
CREATE INDEX by_fingerprint ON certificate (fingerprint);
CREATE INDEX by_identity ON certificate (role, number, name);
"""
_COLUMNS = "role, number, name, serial, valid_from, valid_until, public_key, der"
_ROW = f"fingerprint, {_COLUMNS}"


class CertificateStore:
    """Certificates of a shard; reading raises `RegistryError` where one is damaged.

    Parameters
    ----------
    path : the file; made, for its owner alone, where it does not exist.

    Raises
    ------
    RegistryError : not a store of certificates.
    """

    def __init__(self, path: Path) -> None:
        fresh = not path.exists()
        self._path = path
        if fresh:  # it names everybody, so it is its owner's whatever the umask; so are the journals beside it
            with suppress(FileExistsError):
                os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        self._database = _connected(path)
        try:
            if _may_write(path):
                self._database.execute("PRAGMA journal_mode = WAL")
                self._database.execute("PRAGMA synchronous = FULL")
            if fresh:
                self._database.executescript(f"BEGIN; {_SCHEMA} COMMIT;")
            self._database.execute(f"SELECT {_ROW}, checksum FROM certificate LIMIT 1").fetchone()  # noqa: S608
        except (sqlite3.Error, UnicodeDecodeError) as error:  # a damaged file's own words need not be text
            self._database.close()
            raise RegistryError(f"{path} is not a store of certificates: {error}") from None

    def __enter__(self) -> CertificateStore:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Release the file."""
        self._database.close()

    def add(self, certificates: Iterable[Certificate]) -> None:
        """Keep certificates, durably; one that is there already stays one."""
        rows = [
            (
                _key(c.fingerprint),
                *(int(c.identity.role), c.identity.number, c.identity.name),
                *(_serial_bytes(c.serial), c.valid_from, c.valid_until, c.public_key, c.der),
            )
            for c in certificates
        ]
        self._database.execute("BEGIN IMMEDIATE")
        try:
            self._database.executemany(
                "INSERT INTO certificate SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10 "
                "WHERE NOT EXISTS (SELECT 1 FROM certificate WHERE fingerprint = ?1 AND der = ?9)",
                ((*row, _checksum(row)) for row in rows),
            )
        except BaseException:
            self._database.execute("ROLLBACK")
            raise
        self._database.execute("COMMIT")

    def __len__(self) -> int:
        (count,) = self._database.execute("SELECT count(*) FROM certificate").fetchone()
        return int(count)

    def by_fingerprint(self, fingerprint: bytes) -> Certificate | None:
        """The certificate with this SHA-256."""
        found = self._select("fingerprint = ?", (_key(fingerprint),))
        return next((c for c in found if c.fingerprint == fingerprint), None)

    def of(self, identity: Identity) -> list[Certificate]:
        """Every certificate of an identity, the one issued last at the end."""
        where = (int(identity.role), identity.number, identity.name)
        return list(self._select("role = ? AND number = ? AND name = ? ORDER BY rowid", where))

    def _select(self, where: str, values: tuple[object, ...]) -> Iterator[Certificate]:
        statement = f"SELECT {_ROW}, checksum FROM certificate WHERE {where}"  # noqa: S608
        try:
            for *row, checksum in self._database.execute(statement, values):
                _, role, number, name, serial, valid_from, valid_until, public_key, der = row
                if checksum != _checksum(tuple(row)):
                    raise RegistryError(f"{self._path} is damaged: a certificate of {name!r} is not as it was written")
                identity = Identity(Role(role), number, name)
                yield Certificate(identity, public_key, int.from_bytes(serial, "big"), valid_from, valid_until, der)
        except (sqlite3.Error, UnicodeDecodeError) as error:  # a damaged file's own words need not be text
            raise RegistryError(f"{self._path} cannot be read: {error}") from None


def _may_write(path: Path) -> bool:
    return os.access(path.parent, os.W_OK) and (not path.exists() or os.access(path, os.W_OK))


def _connected(path: Path) -> sqlite3.Connection:
    """The database; on a medium that cannot be written, as one that nobody changes, since it could lock nothing there.

    Raises
    ------
    RegistryError : it cannot be opened, or writes are left beside it that only a writer can bring in.
    """
    try:
        if _may_write(path):
            return sqlite3.connect(path, isolation_level=None)
        left = path.with_name(f"{path.name}-wal")
        if left.exists() and left.stat().st_size:
            raise RegistryError(f"{left} holds what is not yet in {path.name}: copy both to where they can be written")
        return sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro&immutable=1", uri=True, isolation_level=None)
    except sqlite3.Error as error:
        raise RegistryError(f"{path} cannot be opened: {error}") from None


def _checksum(row: tuple[object, ...]) -> int:
    """A bit that decays is named; whoever may write the file is not kept from anything."""
    return crc32(repr(row).encode())


def _key(fingerprint: bytes) -> int:
    return int.from_bytes(fingerprint[:8], "big", signed=True)


def _serial_bytes(serial: int) -> bytes:
    return serial.to_bytes(20, "big")
