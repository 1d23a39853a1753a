"""The archive: rows of closed epochs at rest, one Parquet file per kind, feeder and epoch, one row per customer.

Columns of a file: ``pseudonym`` (16 bytes), ``nonce`` (12) and ``block``, the AES-256-GCM ciphertext of the customer's
rows (`blocks`) under a key derived from the customer's secret for this file alone. The nonce is keyed BLAKE2b of the
file's identity and the plaintext, as in `sealing`; associated data are identity and pseudonym. Public rows are one more
block in clear, with an empty pseudonym and, for a nonce, 12 bytes of SHA-256 of identity and block.

The file's identity is SHA-256 of its path. A pseudonym is one AES block, under the operator's key, of the customer
number and eight bytes of that identity: no two are alike, and the operator finds a customer's block at once.

Files are never changed; their digests are on record (`records.Compactions`). Once a customer is erased, the leaf hashes
of their rows stand in a file of their own under ``erased/``, so that everybody else's rows can still be proved.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import quote

import numpy as np
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import ECB
from numpy.typing import NDArray

from tellegen.journal import Journal
from tellegen.journal.storage import FILES, replace_file
from tellegen.privacy.blocks import PLACE, block_dtype, pack_block, unpack_block
from tellegen.privacy.keystore import VaultError
from tellegen.privacy.sealing import encrypt
from tellegen.privacy.vault import Unsealed, Vault
from tellegen.records import NOBODY, TABLES, Header, Table

PURPOSE = "archive"
_LEAF = np.dtype([*PLACE, ("leaf", "V32")])


class Archive:
    """The files under ``archive/`` of a journal's directory.

    Parameters
    ----------
    directory : where ``journal/`` lies too.
    vault : opens the blocks of the customers whose keys it has.
    """

    def __init__(self, directory: Path | str, vault: Vault) -> None:
        self._directory, self._vault = Path(directory), vault

    @staticmethod
    def place(kind: str, feeder: str, day: int, epoch: int) -> str:
        """Path of a file from the directory.

        >>> Archive.place("readings", "F 1", 20_000, 7)
        'archive/readings/F%201/2024-10-04.7.parquet'
        """
        return f"archive/{kind}/{_folder(feeder)}/{_date(day)}.{epoch}.parquet"

    # Writing

    def write(self, place: str, rows: NDArray[np.void], subjects: NDArray[np.int64]) -> bytes:
        """Make a file durable; returns its SHA-256.

        Parameters
        ----------
        rows : of `blocks.block_dtype`, in any order.
        subjects : int64 per row, customer number or `NOBODY`.

        Raises
        ------
        VaultError : a customer has no key.
        """
        import polars as pl

        identity = _identity(place)
        order = np.lexsort((rows["@row"], rows["@entry"], subjects))
        rows, subjects = rows[order], subjects[order]
        customers, starts = np.unique(subjects, return_index=True)
        pseudonyms = self._pseudonyms(identity, customers)
        blocks: list[tuple[bytes, bytes, bytes]] = []
        for customer, name, part in zip(customers.tolist(), pseudonyms, np.split(rows, starts[1:]), strict=True):
            plain = pack_block(part)
            if customer == NOBODY:
                blocks.append((b"", _checksum(identity, plain), plain))
            else:
                keys = self._vault.archive_keys(customer, identity)
                blocks.append((name, *encrypt(keys, plain, identity, identity + name)))
        blocks.sort()  # by pseudonym: the order must not tell who is who
        columns = dict(zip(("pseudonym", "nonce", "block"), zip(*blocks, strict=True), strict=True))
        buffer = io.BytesIO()
        pl.DataFrame(columns, schema=dict.fromkeys(columns, pl.Binary)).write_parquet(
            buffer, compression="uncompressed", statistics=False
        )
        path = self._directory / place
        _make_folder(path.parent, self._directory)
        replace_file(path, buffer.getvalue())
        return hashlib.sha256(buffer.getvalue()).digest()

    # Reading

    def files(self, kind: str = "*", feeder: str | None = None, day: int | None = None) -> list[str]:
        """Paths of the files, from the directory, in order."""
        among = "*" if feeder is None else _folder(feeder)
        when = "*" if day is None else f"{_date(day)}.*"
        found = (self._directory / "archive").glob(f"{kind}/{among}/{when}.parquet")
        return sorted(path.relative_to(self._directory).as_posix() for path in found)

    def read(self, kind: str, feeder: str, day: int, customers: Iterable[int] | None = None) -> Table:
        """Rows that became known on a day, by entry and row; those of erased customers are missing.

        Parameters
        ----------
        day : UTC days since 1970.
        customers : only rows about these (all, and public rows, if None).

        Raises
        ------
        VaultError : there is no such file, or one is damaged.
        """
        schema = TABLES[kind]
        places = self.files(kind, feeder, day)
        if not places:
            raise VaultError(f"the archive of {self._directory} has no {kind} of {feeder!r} on {_date(day)}")
        rows = np.concatenate([self.rows(place, customers) for place in places])
        rows = rows[np.lexsort((rows["@row"], rows["@entry"]))]
        return _table(rows, schema)

    def rows(self, place: str, customers: Iterable[int] | None = None) -> NDArray[np.void]:
        """Readable rows of one file with their places on record (`blocks.block_dtype`).

        Raises
        ------
        VaultError : the file is damaged, or a block fails under its key.
        """
        schema = TABLES[place.split("/")[1]]
        identity = _identity(place)
        wanted = None if customers is None else set(customers)
        found = [np.empty(0, dtype=block_dtype(schema))]
        for customer, name, nonce, block in self._blocks(place):
            if wanted is not None and customer not in wanted:
                continue
            if customer == NOBODY:
                if nonce != _checksum(identity, block):
                    raise VaultError(f"{place}: the block of public rows is damaged")
                found.append(unpack_block(block, schema))
            elif self._vault.holds(customer):
                cipher = self._vault.archive_keys(customer, identity).cipher
                try:
                    found.append(unpack_block(cipher.decrypt(nonce, block, identity + name), schema))
                except InvalidTag:
                    raise VaultError(f"{place}: a block fails under its key") from None
        return np.concatenate(found)

    def check_digest(self, place: str, sha256: bytes) -> None:
        """Refuse a file that is not the one on record.

        Raises
        ------
        VaultError : it is missing, or another.
        """
        try:
            found = hashlib.sha256((self._directory / place).read_bytes()).digest()
        except OSError as error:
            raise VaultError(f"{self._directory / place} cannot be read: {error.strerror}") from None
        if found != sha256:
            raise VaultError(f"{self._directory / place} is not the file on record")

    def customers(self, place: str) -> set[int]:
        """Numbers of the customers who have a block in a file, erased ones included."""
        return {customer for customer, _, _, _ in self._blocks(place)} - {NOBODY}

    def leaves(self, place: str, entries: dict[int, Header]) -> dict[int, list[bytes]]:
        """Leaf hashes of every row of entries that lie in a file, by journal index.

        Raises
        ------
        VaultError : a row is missing: the file is damaged, or a customer was erased without leaving leaf hashes.
        """
        rows = self.rows(place)
        schema = TABLES[place.split("/")[1]]
        subjects = _table(rows, schema).subjects()
        erased = self._erased_leaves(place)
        gathered: dict[int, list[bytes]] = {}
        order = np.argsort(rows["@entry"], kind="stable")
        for index, header in entries.items():
            mine = order[slice(*np.searchsorted(rows["@entry"], [index, index + 1], sorter=order))]
            leaves = [b""] * header.rows
            numbers = rows["@row"][mine]
            if numbers.size and not 0 <= int(numbers.min()) <= int(numbers.max()) < header.rows:
                raise VaultError(f"{place}: entry {index} has rows that it does not count")
            for row, leaf in zip(
                numbers.tolist(),
                self._vault.row_leaves(header, _canonical(rows[mine], schema), numbers, subjects[mine]),
                strict=True,
            ):
                leaves[row] = leaf
            for row, leaf in erased.get(index, {}).items():
                leaves[row] = leaf
            if not all(leaves):
                raise VaultError(f"{place}: row {leaves.index(b'')} of entry {index} is missing")
            gathered[index] = leaves
        return gathered

    def leaves_of(self, journal: Journal, index: int) -> list[bytes]:
        """Leaf hashes of one entry's rows wherever they lie, for `Journal.row_receipt`.

        Raises
        ------
        VaultError : they cannot be had: keys are gone, or files damaged.
        """
        header, place = journal.entry(index), journal.archive_file(index)
        if place is None:
            return self._vault.leaves(header, journal.payload(index))
        return self.leaves(place, {index: header})[index]

    def unseal(self, journal: Journal, index: int) -> Unsealed:
        """Readable rows of one entry wherever they lie, as `Vault.unseal`.

        Raises
        ------
        VaultError : payload or file are damaged.
        """
        return next(self.unseal_each(journal, [index]))[1]

    def unseal_each(self, journal: Journal, indices: Iterable[int]) -> Iterator[tuple[int, Unsealed]]:
        """Readable rows of entries wherever they lie, each with its index; every file is read once.

        First come those whose payload is here, in the order given, then those of the archive, file by file.

        Raises
        ------
        VaultError : a payload or file is damaged.
        """
        filed: dict[str, list[int]] = {}
        for index in indices:
            place = journal.archive_file(index)
            if place is None:
                yield index, self._vault.unseal(journal.entry(index), journal.payload(index))
            else:
                filed.setdefault(place, []).append(index)
        for place, entries in filed.items():
            rows = self.rows(place)
            rows = rows[np.isin(rows["@entry"], entries)]
            rows = rows[np.lexsort((rows["@row"], rows["@entry"]))]
            for index in entries:
                mine = rows[slice(*np.searchsorted(rows["@entry"], [index, index + 1]))]
                header = journal.entry(index)
                present = np.zeros(header.rows, dtype=np.bool_)
                present[mine["@row"]] = True
                missing = set(np.flatnonzero(~present).tolist())
                if missing and not missing <= self._erased_leaves(place).get(index, {}).keys():
                    raise VaultError(
                        f"{place}: rows of entry {index} are missing, and not because their customers were erased"
                    )
                yield index, Unsealed(_table(mine, TABLES[header.kind]), present)

    # Erasure

    def keep_leaves(self, place: str, customer: int, entry: Callable[[int], Header]) -> int:
        """Store the leaf hashes of a customer's rows in a file, before the key goes; returns how many rows.

        `entry` gives the header of a journal index (`Journal.entry`).

        Raises
        ------
        VaultError : the customer's key is gone already.
        """
        rows = self.rows(place, [customer])
        schema = TABLES[place.split("/")[1]]
        kept = np.empty(len(rows), dtype=_LEAF)
        kept["@entry"], kept["@row"] = rows["@entry"], rows["@row"]
        at = 0
        for index in np.unique(rows["@entry"]).tolist():
            part = rows[rows["@entry"] == index]
            subjects = np.full(len(part), customer, dtype=np.int64)
            leaves = self._vault.row_leaves(entry(index), _canonical(part, schema), part["@row"], subjects)
            kept["leaf"][at : at + len(part)] = np.frombuffer(b"".join(leaves), dtype="V32")
            at += len(part)
        (name,) = self._pseudonyms(_identity(place), np.array([customer]))
        path = self._erased_folder(place) / f"{name.hex()}.leaves"
        _make_folder(path.parent, self._directory)
        replace_file(path, kept.tobytes())
        return len(rows)

    def _erased_folder(self, place: str) -> Path:
        return self._directory / "archive" / "erased" / place.removeprefix("archive/").removesuffix(".parquet")

    def _erased_leaves(self, place: str) -> dict[int, dict[int, bytes]]:
        found: dict[int, dict[int, bytes]] = {}
        for path in sorted(self._erased_folder(place).glob("*.leaves")):
            data = path.read_bytes()
            if len(data) % _LEAF.itemsize:
                raise VaultError(f"{path} is cut short")
            for index, row, leaf in np.frombuffer(data, dtype=_LEAF).tolist():
                found.setdefault(index, {})[row] = leaf
        return found

    # Blocks

    def _blocks(self, place: str) -> list[tuple[int, bytes, bytes, bytes]]:
        """Customer, pseudonym, nonce and stored bytes of every block of a file."""
        import polars as pl

        path = self._directory / place
        try:
            frame = pl.read_parquet(path, columns=["pseudonym", "nonce", "block"])
        except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError) as error:
            raise VaultError(f"{path} cannot be read: {error}") from None
        names = frame["pseudonym"].to_list()
        if any(len(name) not in (0, 16) for name in names):
            raise VaultError(f"{path}: a pseudonym is not 16 bytes")
        decrypt = self._cipher().decryptor()
        plain = np.frombuffer(decrypt.update(b"".join(names)) + decrypt.finalize(), dtype=[("c", "<i8"), ("i", "V8")])
        if any(found != _identity(place)[:8] for found in plain["i"].tolist()):
            raise VaultError(f"{path}: a block is not of this file")
        numbers = iter(plain["c"].tolist())
        customers = [next(numbers) if name else NOBODY for name in names]
        return list(zip(customers, names, frame["nonce"].to_list(), frame["block"].to_list(), strict=True))

    def _pseudonyms(self, identity: bytes, customers: NDArray[np.int64]) -> list[bytes]:
        encrypt_ = self._cipher().encryptor()
        plain = b"".join(number.to_bytes(8, "little", signed=True) + identity[:8] for number in customers.tolist())
        data = encrypt_.update(plain) + encrypt_.finalize()
        return [data[at : at + 16] for at in range(0, len(data), 16)]

    def _cipher(self) -> Cipher[ECB]:
        # one block a customer, never two alike: this is a permutation of numbers, not a mode for messages
        return Cipher(AES(self._vault.purpose_key(PURPOSE)), ECB())  # noqa: S305


def _table(rows: NDArray[np.void], schema: type[Table]) -> Table:
    return schema.from_rows(rows[list(schema.row_dtype().names or ())])


def _canonical(rows: NDArray[np.void], schema: type[Table]) -> NDArray[np.uint8]:
    return _table(rows, schema).rows().view(np.uint8).reshape(len(rows), schema.row_dtype().itemsize)


def _identity(place: str) -> bytes:
    return hashlib.sha256(f"tellegen {place}".encode()).digest()


def _folder(feeder: str) -> str:
    """Name of a feeder as that of a folder; no two are alike, and none leads elsewhere."""
    return quote(feeder, safe="").replace(".", "%2E") or "%"


def _checksum(identity: bytes, block: bytes) -> bytes:
    return hashlib.sha256(identity + block).digest()[:12]


def _date(day: int) -> str:
    return (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(days=day)).date().isoformat()


def _make_folder(folder: Path, top: Path) -> None:
    """Make a folder and those above it durable, down from `top`."""
    if not folder.is_dir():
        _make_folder(folder.parent, top)
        folder.mkdir(mode=0o700, exist_ok=True)
        FILES.sync_folder(folder.parent)
