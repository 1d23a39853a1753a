"""The vault of a run: one secret per customer, and sealing and unsealing with them."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tellegen.custody import ROLES, CustodyError, SecretFile, Wrapper, wrapper_wanted
from tellegen.journal import LivePayload, Payload
from tellegen.journal.database import SQLITE, Databases
from tellegen.privacy.keys import CustomerKeys, SealingKeys, derive
from tellegen.privacy.keystore import SECRET_BYTES, KeyStore, VaultError
from tellegen.privacy.sealing import (
    FRESH,
    batch_identity,
    check_digest,
    open_live,
    open_rows,
    row_leaves,
    row_salt,
    seal_live,
    seal_rows,
)
from tellegen.records import NOBODY, OPERATOR, TABLES, Document, Header, SealedBatch, Table, tree_root

SECONDS_PER_DAY = 86_400
SIMULATED = "simulated"
"""Purpose whose key marks a vault that was made from a seed."""
KEYS = "keys.sqlite"
"""File of what seals rows."""
FOUNDED = "founded"
"""Purpose whose key marks the vault of a shard whose roles have their keys: none is made a second time."""


class Unsealed(NamedTuple):
    """What could be read of a batch.

    Attributes
    ----------
    table : the readable rows, in their order.
    present : bool per row of the batch; False where the customer's key is gone.
    """

    table: Table
    present: NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Epoch:
    """A stretch of a UTC day (days since 1970) whose live batches are encrypted under one key.

    Once it is closed nothing more is sealed in it. The key is None once it has been destroyed: the rows then lie in
    the archive.
    """

    number: int
    day: int
    closed: bool
    keys: SealingKeys | None


class Vault:
    """Keys of the customers of a run, and sealing and unsealing with them.

    Several processes may hold the same vault open; what one adds or destroys the others notice.

    Keys of roles (`custody.ROLES`) lie in files of their own beside it. They are read when they are asked for, and not
    kept: whoever opens the vault to seal and unseal has none of them in memory.

    Without a seed every secret is fresh from the operating system. A simulation gives a seed, from
    which each secret is derived (keyed BLAKE2b), so that the same scenario gives the same journal, bit for
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

    def __init__(self, store: KeyStore, seed: bytes | None, folder: Path, authority: Path | None = None) -> None:
        self._store, self._seed = store, None if seed is None else hashlib.sha256(seed).digest()
        self.folder, self.authority = folder, authority
        self._keys = CustomerKeys(store.secrets())
        self._erased = store.erased()
        self._purposes = store.purposes()
        self._epochs = self._read_epochs()

    @classmethod
    def create(cls, path: Path | str, customers: Iterable[int], seed: bytes | None = None) -> Vault:
        """Start a vault in the folder `path` (``keys.sqlite``) with a secret for each customer and the operator.

        Raises
        ------
        VaultError : there is one already; or it is to be wrapped by a key that cannot be had (`custody.wrapping`).
        """
        vault = cls(KeyStore(_file(path), create=True), seed, Path(path))
        if seed is not None:
            vault.purpose_key(SIMULATED)
        vault.enrol([OPERATOR, *customers])
        return vault

    @classmethod
    def open(
        cls,
        path: Path | str,
        seed: bytes | None = None,
        *,
        databases: Databases = SQLITE,
        authority: Path | None = None,
    ) -> Vault:
        """Open the vault in the folder `path`; `seed` only matters for customers enrolled later.

        Parameters
        ----------
        databases : on whose disk.
        authority : folder of the keys that are kept off the machine; the vault's own without it.

        Raises
        ------
        VaultError : there is none.
        """
        vault = cls(KeyStore(_file(path), databases=databases), seed, Path(path), authority)
        if seed is None and vault.simulated:
            # what a simulation needs later follows from its seed too, by way of the mark
            vault._seed = hashlib.sha256(vault.purpose_key(SIMULATED)).digest()
        vault._take_over_roles()
        return vault

    def _take_over_roles(self) -> None:
        """Put keys of roles that an earlier version kept beside what seals rows into files of their own."""
        for purpose in ROLES.keys() & self._purposes.keys():
            file = self.role_file(purpose)
            assert file is not None, purpose
            try:
                if not file.exists():
                    file.make(self._purposes[purpose], wrapper_wanted(file.path.stem))
            except CustodyError as error:
                raise VaultError(str(error)) from None
            self.destroy_purpose(purpose)

    def __enter__(self) -> Vault:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Forget the keys in memory and release the file."""
        self._keys = CustomerKeys()
        self._epochs = []
        self._purposes.clear()
        self._store.close()

    # Keys

    @property
    def customers(self) -> list[int]:
        """Numbers whose keys are here, ascending; 0 is the operator."""
        return [int(number) for number in self._keys.numbers]

    def holds(self, customer: int) -> bool:
        """Whether a customer's key is here."""
        return customer in self._keys

    @property
    def erased(self) -> list[int]:
        """Numbers whose keys have been destroyed, ascending."""
        self._look()
        return sorted(self._erased)

    def enrol(self, customers: Iterable[int]) -> None:
        """Give each customer a secret who has none yet.

        Raises
        ------
        VaultError : a number is negative, or its key was destroyed (numbers are never used again); another process
            has just enrolled one of them.
        """
        self._look()
        new = np.setdiff1d(np.fromiter(customers, dtype=np.int64), self._keys.numbers).tolist()
        for number in new:
            if number < OPERATOR or number in self._erased:
                why = "erased" if number in self._erased else "negative"
                raise VaultError(f"customer {number} cannot be enrolled: {why}")
        secrets = [(number, self._fresh(f"customer {number}")) for number in new]
        if secrets:
            self._store.add(secrets)
            self._keys.add(secrets)

    def purpose_key(self, purpose: str) -> bytes:
        """A 32-byte secret of the operator's, made on first use (``"operator signature"``, ``"snapshot digests"``).

        Raises
        ------
        VaultError : it is that of a role, and kept where it cannot be read.
        """
        file = self.role_file(purpose)
        if file is not None:
            return self._of_role(file)
        if purpose not in self._purposes:
            self._store.add_purpose(purpose, self._fresh(f"purpose {purpose}"))
            self._purposes = self._store.purposes()
        return self._purposes[purpose]

    def keep_purpose(self, purpose: str, secret: bytes) -> None:
        """Keep a secret of 32 bytes that was made elsewhere, unless there is one for this purpose."""
        self._store.add_purpose(purpose, secret)
        self._purposes = self._store.purposes()

    def role_file(self, purpose: str) -> SecretFile | None:
        """Where the key of a role lies; None: the purpose is no role's."""
        role = ROLES.get(purpose)
        return None if role is None else SecretFile(role.path(self.folder, self.authority), purpose)

    def role_key(self, purpose: str) -> bytes:
        """The key of a role, which must be here.

        Raises
        ------
        VaultError : it is kept elsewhere, or the key from outside does not open it.
        """
        file = self.role_file(purpose)
        assert file is not None, purpose
        try:
            return file.read()
        except CustodyError as error:
            raise VaultError(str(error)) from None

    def _of_role(self, file: SecretFile) -> bytes:
        if not file.exists() and (file.path.stem == "market" or FOUNDED not in self._purposes):
            try:
                file.make(self._fresh(f"purpose {file.purpose}"), wrapper_wanted(file.path.stem))
            except CustodyError as error:
                raise VaultError(str(error)) from None
        return self.role_key(file.purpose)

    @property
    def wrapped_by(self) -> str | None:
        """By which key from outside what seals rows is wrapped; None: it lies in clear."""
        return self._store.wrapped_by

    def wrap(self, wrapper: Wrapper | None) -> None:
        """Wrap what seals rows by a key from outside (`KeyStore.wrap`); files of roles are wrapped one by one."""
        self._store.wrap(wrapper)

    @property
    def simulated(self) -> bool:
        """Whether its secrets come from a seed, and protect nobody: the mark stands in the vault since it was made."""
        return SIMULATED in self._purposes

    @property
    def purposes(self) -> list[str]:
        """For what the operator has secrets here."""
        self._look()
        of_roles = [purpose for purpose in ROLES if (file := self.role_file(purpose)) is not None and file.exists()]
        return sorted([*self._purposes, *of_roles])

    def held_purpose_key(self, purpose: str) -> bytes | None:
        """As `purpose_key`; None, and nothing is made, where there is no such secret, or no more."""
        file = self.role_file(purpose)
        if file is not None:
            return self._of_role(file) if file.exists() else None
        self._look()
        return self._purposes.get(purpose)

    def destroy_purpose(self, purpose: str) -> None:
        """Destroy a secret of the operator's: what is encrypted under it can be read no more."""
        self._store.remove_purpose(purpose)
        self._purposes = self._store.purposes()

    def erase(self, customer: int) -> None:
        """Destroy a customer's key. No row of theirs can be read again; every proof still verifies.

        Raises
        ------
        VaultError : there is no such key, or it is the operator's, without which nothing can be settled; or an
            epoch's key is still there, under which rows of the customer may lie (compaction destroys it).
        """
        self._look()
        if customer == OPERATOR or customer not in self._keys:
            raise VaultError(f"customer {customer} has no key that may be destroyed")
        live = [epoch.number for epoch in self._epochs if epoch.keys is not None]
        if live:
            raise VaultError(f"customer {customer} may have rows under the key of epoch {live[0]}; compact first")
        self._store.erase(customer)
        self._forget_erased()

    def _fresh(self, label: str) -> bytes:
        return os.urandom(SECRET_BYTES) if self._seed is None else derive(self._seed, f"simulated secret {label}")

    # Epochs

    @property
    def epochs(self) -> list[Epoch]:
        """Every epoch there ever was, ascending."""
        self._look()
        return list(self._epochs)

    def close_epoch(self, number: int) -> None:
        """Let nothing more be sealed in an epoch: what comes later is of another one."""
        self._store.close_epoch(number)
        self._epochs = self._read_epochs()

    def destroy_epoch(self, number: int) -> None:
        """Destroy the key of an epoch: none of its live payloads can be read again."""
        self._store.destroy_epoch(number)
        self._epochs = self._read_epochs()

    def _epoch_at(self, known_at: int) -> tuple[int, SealingKeys]:
        """The epoch in which what becomes known now is sealed: the newest open one of its day, or a new one."""
        self._look()
        day = known_at // SECONDS_PER_DAY
        while True:
            for epoch in reversed(self._epochs):
                if epoch.day == day and not epoch.closed and epoch.keys is not None:
                    return epoch.number, epoch.keys
            number = len(self._epochs) + 1
            self._store.add_epoch(number, day, self._fresh(f"epoch {number}"))
            self._epochs = self._read_epochs()

    def _epoch_keys(self, number: int) -> SealingKeys:
        self._look()
        keys = next((epoch.keys for epoch in self._epochs if epoch.number == number), None)
        if keys is None:
            raise VaultError(f"epoch {number} has no key: its rows are in the archive, or it is of another vault")
        return keys

    def _read_epochs(self) -> list[Epoch]:
        return [
            Epoch(n, day, bool(closed), SealingKeys.of(secret) if secret else None)
            for n, day, closed, secret in self._store.epochs()
        ]

    def _look(self) -> None:
        """Take over what another process has added or destroyed."""
        if self._store.changed():
            self._purposes = self._store.purposes()
            self._epochs = self._read_epochs()
            self._forget_erased()

    def _forget_erased(self) -> None:
        self._erased = self._store.erased()
        self._keys.remove(self._erased)

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
        evidence: str = "",
    ) -> SealedBatch:
        """Make a journal batch of a table, encrypted per customer; fields are those of `records.Header`.

        Raises
        ------
        VaultError : a row is about a customer without a key.
        """
        header = _fresh_header(
            table.kind, name, feeder, market, interval, intervals, source, known_at, causes, evidence
        )
        return self._seal(header, _row_bytes(table), table.subjects())

    def seal_live(
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
        evidence: str = "",
    ) -> SealedBatch:
        """As `seal`, but encrypted at once under the key of the day's epoch, until the day is compacted.

        Rows are bound one by one, as `seal` binds them. A batch with no row about anybody is sealed as `seal` does:
        it stays public.

        Raises
        ------
        VaultError : a row is about a customer without a key.
        """
        header = _fresh_header(
            table.kind, name, feeder, market, interval, intervals, source, known_at, causes, evidence
        )
        subjects = table.subjects()
        if (subjects == NOBODY).all():
            return self._seal(header, _row_bytes(table), subjects)
        epoch, keys = self._epoch_at(header.known_at)
        self._take_in(subjects)
        return seal_live(header, _row_bytes(table), subjects, self._keys, epoch, keys)

    def _seal(self, header: Header, rows: NDArray[np.uint8], subjects: NDArray[np.int64]) -> SealedBatch:
        self._look()
        self._take_in(subjects)
        return seal_rows(header, rows, subjects, self._keys)

    def _take_in(self, subjects: NDArray[np.int64]) -> None:
        """Read the keys again where a customer may have been enrolled by another process."""
        if not self._keys.has_all(subjects[subjects != NOBODY]):
            self._keys = CustomerKeys(self._store.secrets())

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
        header = _fresh_header(
            "document", document.name, feeder, market, interval, intervals, source, known_at, causes, ""
        )
        subject = np.array([OPERATOR if document.private else NOBODY], dtype=np.int64)
        content = np.frombuffer(document.content, dtype=np.uint8).reshape(1, -1)
        return self._seal(header, content, subject)

    # Archive

    def archive_keys(self, customer: int, file: bytes) -> SealingKeys:
        """Keys of a customer's block in one file of the archive.

        Raises
        ------
        VaultError : the customer has no key.
        """
        return SealingKeys.of(derive(self._keys.secret(customer), f"archive {file.hex()}"))

    def row_leaves(
        self, header: Header, rows: NDArray[np.uint8], numbers: NDArray[np.int64], subjects: NDArray[np.int64]
    ) -> list[bytes]:
        """Leaf hashes of some rows of a batch.

        Parameters
        ----------
        rows : uint8[n, row_bytes], canonical bytes.
        numbers : int64[n], row numbers in the batch.
        subjects : int64[n], customer number or `NOBODY`.

        Raises
        ------
        VaultError : a customer has no key.
        """
        self._take_in(subjects)
        return row_leaves(batch_identity(header), rows, numbers, subjects, self._keys)

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
        check_digest(header, payload)
        if LivePayload.is_live(payload):
            data, present = self._open_live(header, payload, schema, check_rows=check_rows)
        else:
            data, present = self._open(header, payload, check_rows=check_rows)
        if data.shape[1] != row_bytes:
            raise VaultError(f"batch of {header.kind} has rows of {data.shape[1]} bytes, {row_bytes} needed")
        readable = data if present.all() else data[present]
        return Unsealed(schema.from_rows(readable.view(schema.row_dtype()).ravel()), present)

    def _open(self, header: Header, payload: bytes, *, check_rows: bool) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
        self._look()
        return open_rows(header, Payload.from_bytes(payload), self._keys, check_rows=check_rows)

    def _open_live(
        self, header: Header, payload: bytes, schema: type[Table], *, check_rows: bool
    ) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
        parts = LivePayload.from_bytes(payload)
        rows = open_live(header, parts, self._epoch_keys(parts.epoch))
        if not self._erased and not check_rows:
            return rows, np.ones(len(rows), dtype=np.bool_)
        subjects = schema.from_bytes(rows.tobytes()).subjects()
        present = ~np.isin(subjects, list(self._erased))
        if check_rows:
            leaves = self.row_leaves(header, rows, np.arange(len(rows)), subjects)
            if tree_root(leaves).hex() != header.row_root:
                raise VaultError(f"the rows of {header.kind} {header.name or header.interval} are not those on record")
        return rows, present

    def leaves(self, header: Header, payload: bytes) -> list[bytes]:
        """Leaf hash of every row of a batch, from which a proof of any of them is made (`Journal.row_receipt`).

        Raises
        ------
        VaultError : as in `unseal`; of a live batch, a customer's key is gone.
        """
        check_digest(header, payload)
        if not LivePayload.is_live(payload):
            return Payload.from_bytes(payload).hash_list()
        parts = LivePayload.from_bytes(payload)
        rows = open_live(header, parts, self._epoch_keys(parts.epoch))
        subjects = TABLES[header.kind].from_bytes(rows.tobytes()).subjects()
        return self.row_leaves(header, rows, np.arange(len(rows)), subjects)

    def unseal_document(self, header: Header, payload: bytes, *, check_rows: bool = False) -> Document | None:
        """Read a document back; None where its key is gone.

        Raises
        ------
        VaultError : not a document, or as in `unseal`.
        """
        if header.kind != "document" or header.rows != 1:
            raise VaultError(f"batch of kind {header.kind!r} is not a document")
        check_digest(header, payload)
        data, present = self._open(header, payload, check_rows=check_rows)
        private = not len(Payload.from_bytes(payload).public_numbers)
        return Document(header.name, data[0].tobytes(), private) if present[0] else None

    def salt(self, header: Header, customer: int, row: int) -> bytes:
        """Salt of a customer's row, for its owner to check a receipt with (`Journal.row_receipt`).

        Raises
        ------
        VaultError : the customer has no key.
        """
        self._look()
        return row_salt(self._keys.batch_keys(np.array([customer]))[0], batch_identity(header), row)


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
    evidence: str,
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
        evidence=evidence,
    )


def _row_bytes(table: Table) -> NDArray[np.uint8]:
    """Canonical bytes of a table as uint8[rows, row_bytes]."""
    return table.rows().view(np.uint8).reshape(len(table), table.row_dtype().itemsize)


def _file(path: Path | str) -> Path:
    return Path(path) / KEYS
