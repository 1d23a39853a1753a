"""Sealing: how a batch's rows are bound and encrypted under customers' keys (law 6).

From a customer's 32-byte secret, HKDF-SHA256 with one label each gives a *batch key*, a *payload key*
and a *nonce key*. A batch has an identity, the SHA-256 of those header fields that are known before
its rows are sealed. Keyed BLAKE2b of the identity under the batch key gives, for this customer in
this batch, a pseudonym (16 bytes) and a salt key (32 bytes); keyed BLAKE2b of a row's number under
the salt key is that row's 16-byte salt. So a salt can be shown for one row and tells nothing of
another, and no two batches show the same pseudonym.

A customer's rows of a batch are encrypted together by AES-256-GCM with the identity and pseudonym as
associated data. The nonce is keyed BLAKE2b, 96 bits, of identity and plaintext under the nonce key:
equal nonces under one key need equal plaintexts in the same batch (up to a collision of 96 bits), so
sealing is reproducible without ever using a nonce for two messages.

Public rows are stored as they are and have no salt. What stays visible of the others: how many
customers a batch concerns, and how many rows each of them has.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

import numpy as np
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from numpy.typing import NDArray

from tellegen.journal import Payload, Segment
from tellegen.privacy.keystore import SECRET_BYTES, VaultError
from tellegen.records import NOBODY, Header, SealedBatch, leaf_hash, tree_root

SALT_BYTES = 16
FRESH = "-"
"""Stands in a header for what is not known before sealing."""


def derive(secret: bytes, label: str) -> bytes:
    """32 bytes from a secret for one purpose (HKDF-SHA256)."""
    return HKDF(SHA256(), SECRET_BYTES, salt=None, info=f"tellegen {label}".encode()).derive(secret)


@dataclass(frozen=True, slots=True)
class WorkingKeys:
    """Keys of one customer, ready for use."""

    batch: bytes
    nonce: bytes
    cipher: AESGCM

    @classmethod
    def of(cls, secret: bytes) -> WorkingKeys:
        """Derive them from the customer's secret."""
        return cls(derive(secret, "batch"), derive(secret, "nonce"), AESGCM(derive(secret, "payload")))

    def in_batch(self, identity: bytes) -> tuple[bytes, bytes]:
        """Pseudonym and salt key of the customer in a batch."""
        digest = hashlib.blake2b(identity, key=self.batch, digest_size=48).digest()
        return digest[:16], digest[16:]


def row_salt(salt_key: bytes, row: int) -> bytes:
    """Salt of a row by its number in the batch."""
    return hashlib.blake2b(row.to_bytes(4, "little"), key=salt_key, digest_size=SALT_BYTES).digest()


def batch_identity(header: Header) -> bytes:
    """SHA-256 over the header without its row count, row root and payload digest."""
    known = replace(header, rows=0, row_root=FRESH, payload_sha256=FRESH)
    return hashlib.sha256(known.to_bytes()).digest()


def seal_rows(
    header: Header, data: bytes, row_bytes: int, subjects: NDArray[np.int64], keys_of: Callable[[int], WorkingKeys]
) -> SealedBatch:
    """Bind and encrypt rows.

    Parameters
    ----------
    header : its row count, row root and digest are filled in.
    data : canonical bytes of all rows, in order.
    subjects : int64 per row, customer number or `NOBODY`.
    keys_of : keys by customer number; raises where there are none.
    """
    identity = batch_identity(header)
    count = subjects.size
    order = np.argsort(subjects, kind="stable")
    grouped = subjects[order]
    starts = np.flatnonzero(np.diff(grouped, prepend=NOBODY - 1)) if count else np.empty(0, dtype=np.int64)
    numbers = order.astype("<u4")
    number_bytes = numbers.tobytes()
    packed = np.frombuffer(data, dtype=np.uint8).reshape(count, row_bytes)[order].tobytes() if row_bytes else b""
    leaves: list[bytes] = [b""] * count
    public_numbers, public_rows = np.empty(0, dtype=np.uint32), b""
    segments: list[Segment] = []
    sha256, blake2b = hashlib.sha256, hashlib.blake2b
    rows_in_order = order.tolist()
    for start, stop in itertools.pairwise([*starts.tolist(), count]):
        customer = int(grouped[start])
        rows = packed[start * row_bytes : stop * row_bytes]
        if customer == NOBODY:
            public_numbers, public_rows = numbers[start:stop].astype(np.uint32), rows
            for k in range(start, stop):
                leaves[rows_in_order[k]] = leaf_hash(b"", packed[k * row_bytes : (k + 1) * row_bytes])
            continue
        keys = keys_of(customer)
        pseudonym, salt_key = keys.in_batch(identity)
        for k in range(start, stop):
            salt = blake2b(number_bytes[4 * k : 4 * k + 4], key=salt_key, digest_size=SALT_BYTES).digest()
            row = packed[k * row_bytes : (k + 1) * row_bytes]
            leaves[rows_in_order[k]] = sha256(b"\x00" + salt + row).digest()
        plain = number_bytes[4 * start : 4 * stop] + rows
        nonce = blake2b(identity + plain, key=keys.nonce, digest_size=12).digest()
        segments.append(Segment(pseudonym, nonce, keys.cipher.encrypt(nonce, plain, identity + pseudonym)))
    segments.sort(key=lambda segment: segment.pseudonym)  # the order must not tell who is who
    payload = Payload(row_bytes, b"".join(leaves), public_numbers, public_rows, tuple(segments)).to_bytes()
    sealed = replace(header, rows=count, row_root=tree_root(leaves).hex(), payload_sha256=sha256(payload).hexdigest())
    return SealedBatch(sealed, payload)


@dataclass(slots=True)
class _Opened:
    """Row numbers, canonical bytes and salt key of each part of a payload that could be read."""

    numbers: list[bytes]
    rows: list[bytes]
    salt_keys: list[bytes | None]


def open_rows(
    header: Header, payload: bytes, keys: Iterable[WorkingKeys], *, check_rows: bool
) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Read what the given keys can read.

    Returns
    -------
    uint8[rows, row_bytes], zero where unreadable; bool[rows], whether it was readable.

    Raises
    ------
    VaultError : the payload is not the header's, is damaged, or fails under a key; with
        `check_rows`, a row is not the one its salted hash binds.
    """
    what = f"{header.kind} {header.name or header.interval}"
    if hashlib.sha256(payload).hexdigest() != header.payload_sha256:
        raise VaultError(f"payload of {what} is not the one its header names")
    parts = Payload.from_bytes(payload)
    opened = _Opened([parts.public_numbers.astype("<u4").tobytes()], [parts.public_rows], [None])
    _decrypt(what, batch_identity(header), parts, keys, opened)
    numbers = np.frombuffer(b"".join(opened.numbers), dtype="<u4")
    rows = np.frombuffer(b"".join(opened.rows), dtype=np.uint8)
    if rows.size != numbers.size * parts.row_bytes or (numbers.size and int(numbers.max()) >= parts.rows):
        raise VaultError(f"payload of {what} holds rows that it does not count")
    data = np.zeros((parts.rows, parts.row_bytes), dtype=np.uint8)
    data[numbers] = rows.reshape(numbers.size, parts.row_bytes)
    present = np.zeros(parts.rows, dtype=np.bool_)
    present[numbers] = True
    if check_rows:
        _check_rows(what, parts, data, opened)
    return data, present


def _decrypt(what: str, identity: bytes, parts: Payload, keys: Iterable[WorkingKeys], opened: _Opened) -> None:
    wanted = {s.pseudonym: s for s in parts.segments}
    for customer_keys in keys:
        if not wanted:
            return
        pseudonym, salt_key = customer_keys.in_batch(identity)
        segment = wanted.pop(pseudonym, None)
        if segment is None:
            continue
        try:
            plain = customer_keys.cipher.decrypt(segment.nonce, segment.ciphertext, identity + pseudonym)
        except InvalidTag:
            raise VaultError(f"a segment of {what} fails under its key") from None
        split = 4 * (len(plain) // (4 + parts.row_bytes))
        opened.numbers.append(plain[:split])
        opened.rows.append(plain[split:])
        opened.salt_keys.append(salt_key)


def _check_rows(what: str, parts: Payload, data: NDArray[np.uint8], opened: _Opened) -> None:
    leaves = parts.hash_list()
    for raw, salt_key in zip(opened.numbers, opened.salt_keys, strict=True):
        for row in np.frombuffer(raw, dtype="<u4").tolist():
            salt = b"" if salt_key is None else row_salt(salt_key, row)
            if leaf_hash(salt, data[row].tobytes()) != leaves[row]:
                raise VaultError(f"row {row} of {what} is not the one on record")
