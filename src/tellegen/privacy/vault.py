"""The vault of a run: one secret per customer, and sealing and unsealing with them."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tellegen.journal import Payload
from tellegen.privacy.keystore import SECRET_BYTES, KeyStore, VaultError
from tellegen.privacy.sealing import FRESH, WorkingKeys, batch_identity, derive, open_rows, row_salt, seal_rows
from tellegen.records import NOBODY, OPERATOR, TABLES, Document, Header, SealedBatch, Table


class Unsealed(NamedTuple):
    """What could be read of a batch.

    Attributes
    ----------
    table : the readable rows, in their order.
    present : bool per row of the batch; False where the customer's key is gone.
    """

    table: Table
    present: NDArray[np.bool_]


class Vault:
    """Keys of the customers of a run, and sealing and unsealing with them.

    Without a seed every secret is fresh from the operating system. A simulation gives a seed, from
    which HKDF-SHA256 derives each secret, so that the same scenario gives the same journal, bit for
    bit. Whoever knows the seed can then derive what was erased: erasure in a simulation shows the
    mechanism, it does not protect anybody.

    >>> import tempfile
    >>> from tellegen.records import AllocationKeys
    >>> folder = tempfile.TemporaryDirectory()
    >>> vault = Vault.create(folder.name, customers=[1, 2], seed=b"example")
    >>> keys = AllocationKeys(customer=np.array([1, 2]), weight_wh=np.array([500, 700]))
    >>> batch = vault.seal(keys, feeder="f", interval=0, intervals=288, source="dso", known_at=0)
    >>> vault.erase(1)
    >>> seen = vault.unseal(batch.header, batch.payload)
    >>> seen.table.weight_wh.tolist(), seen.present.tolist()
    ([700], [False, True])
    >>> vault.close(); folder.cleanup()
    """

    def __init__(self, store: KeyStore, seed: bytes | None) -> None:
        self._store, self._seed = store, seed
        self._keys: dict[int, WorkingKeys] = {n: WorkingKeys.of(s) for n, s in store.secrets().items()}
        self._purposes = store.purposes()

    @classmethod
    def create(cls, path: Path | str, customers: Iterable[int], seed: bytes | None = None) -> Vault:
        """Start a vault in the folder `path` (``keys.sqlite``) with a secret for each customer and the operator.

        Raises
        ------
        VaultError : there is one already.
        """
        vault = cls(KeyStore(_file(path), create=True), seed)
        vault.enrol([OPERATOR, *customers])
        return vault

    @classmethod
    def open(cls, path: Path | str, seed: bytes | None = None) -> Vault:
        """Open the vault in the folder `path`; `seed` only matters for customers enrolled later.

        Raises
        ------
        VaultError : there is none.
        """
        return cls(KeyStore(_file(path)), seed)

    def __enter__(self) -> Vault:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Forget the keys in memory and release the file."""
        self._keys.clear()
        self._purposes.clear()
        self._store.close()

    # Keys

    @property
    def customers(self) -> list[int]:
        """Numbers whose keys are here, ascending; 0 is the operator."""
        return sorted(self._keys)

    @property
    def erased(self) -> list[int]:
        """Numbers whose keys have been destroyed, ascending."""
        return sorted(self._store.erased())

    def enrol(self, customers: Iterable[int]) -> None:
        """Give each customer a secret who has none yet.

        Raises
        ------
        VaultError : a number is negative, or its key was destroyed (numbers are never used again).
        """
        gone = self._store.erased()
        new = sorted({int(c) for c in customers} - self._keys.keys())
        for number in new:
            if number < OPERATOR or number in gone:
                raise VaultError(f"customer {number} cannot be enrolled: {'erased' if number in gone else 'negative'}")
        secrets = [(n, self._fresh(f"customer {n}")) for n in new]
        self._store.add(secrets)
        self._keys.update((n, WorkingKeys.of(s)) for n, s in secrets)

    def purpose_key(self, purpose: str) -> bytes:
        """A 32-byte secret of the operator's, made on first use (``"operator signing"``, ``"meters"``)."""
        if purpose not in self._purposes:
            secret = self._fresh(f"purpose {purpose}")
            self._store.add_purpose(purpose, secret)
            self._purposes[purpose] = secret
        return self._purposes[purpose]

    def erase(self, customer: int) -> None:
        """Destroy a customer's key. No row of theirs can be read again; every proof still verifies.

        Raises
        ------
        VaultError : there is no such key, or it is the operator's, without which nothing can be settled.
        """
        if customer == OPERATOR or customer not in self._keys:
            raise VaultError(f"customer {customer} has no key that may be destroyed")
        self._store.erase(customer)
        del self._keys[customer]

    def _fresh(self, label: str) -> bytes:
        return os.urandom(SECRET_BYTES) if self._seed is None else derive(self._seed, f"simulated secret {label}")

    def _keys_of(self, customer: int) -> WorkingKeys:
        try:
            return self._keys[customer]
        except KeyError:
            raise VaultError(f"customer {customer} has no key: not enrolled, or erased") from None

    # Sealing

    def seal(
        self,
        table: Table,
        *,
        feeder: str,
        interval: int,
        intervals: int,
        source: str,
        known_at: int,
        name: str = "",
        market: str = "",
        causes: Iterable[int] = (),
    ) -> SealedBatch:
        """Make a journal batch of a table; fields are those of `records.Header`.

        Raises
        ------
        VaultError : a row is about a customer without a key.
        """
        header = _fresh_header(table.kind, name, feeder, market, interval, intervals, source, known_at, causes)
        return seal_rows(header, table.rows().tobytes(), table.row_dtype().itemsize, table.subjects(), self._keys_of)

    def seal_document(
        self,
        document: Document,
        *,
        feeder: str,
        interval: int,
        intervals: int,
        source: str,
        known_at: int,
        market: str = "",
        causes: Iterable[int] = (),
    ) -> SealedBatch:
        """Make a journal batch of a document: one row, its content; the operator's where private."""
        header = _fresh_header("document", document.name, feeder, market, interval, intervals, source, known_at, causes)
        subject = np.array([OPERATOR if document.private else NOBODY], dtype=np.int64)
        return seal_rows(header, document.content, len(document.content), subject, self._keys_of)

    # Unsealing

    def unseal(self, header: Header, payload: bytes, *, check_rows: bool = False) -> Unsealed:
        """Read the rows of a batch; those of erased customers are missing.

        Parameters
        ----------
        header, payload : as they stand in the journal.
        check_rows : also recompute every readable row's salted hash (the audit of the operator:
            what was encrypted is what the row root binds).

        Raises
        ------
        VaultError : the payload is not the header's, is damaged, or fails under its key.
        RecordError : the kind is unknown or the bytes are not rows of it.
        """
        if header.kind not in TABLES:
            raise VaultError(f"batch of kind {header.kind!r} is not a table")
        schema = TABLES[header.kind]
        row_bytes = schema.row_dtype().itemsize
        data, present = open_rows(header, payload, self._keys.values(), check_rows=check_rows)
        if data.shape[1] != row_bytes:
            raise VaultError(f"batch of {header.kind} has rows of {data.shape[1]} bytes, {row_bytes} needed")
        return Unsealed(schema.from_bytes(data[present].tobytes()), present)

    def unseal_document(self, header: Header, payload: bytes, *, check_rows: bool = False) -> Document | None:
        """Read a document back; None where its key is gone.

        Raises
        ------
        VaultError : not a document, or as in `unseal`.
        """
        if header.kind != "document" or header.rows != 1:
            raise VaultError(f"batch of kind {header.kind!r} is not a document")
        data, present = open_rows(header, payload, self._keys.values(), check_rows=check_rows)
        private = not len(Payload.from_bytes(payload).public_numbers)
        return Document(header.name, data[0].tobytes(), private) if present[0] else None

    def salt(self, header: Header, customer: int, row: int) -> bytes:
        """Salt of a customer's row, for its owner to check a receipt with (`Journal.row_receipt`).

        Raises
        ------
        VaultError : the customer has no key.
        """
        _, salt_key = self._keys_of(customer).in_batch(batch_identity(header))
        return row_salt(salt_key, row)


def _fresh_header(
    kind: str,
    name: str,
    feeder: str,
    market: str,
    interval: int,
    intervals: int,
    source: str,
    known_at: int,
    causes: Iterable[int],
) -> Header:
    """A header whose rows are still to be sealed."""
    return Header(
        kind=kind,
        name=name,
        feeder=feeder,
        market=market,
        interval=int(interval),
        intervals=int(intervals),
        source=source,
        known_at=int(known_at),
        causes=tuple(int(c) for c in causes),
        rows=0,
        row_root=FRESH,
        payload_sha256=FRESH,
    )


def _file(path: Path | str) -> Path:
    return Path(path) / "keys.sqlite"
