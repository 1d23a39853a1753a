"""Sealing: how a batch's rows are bound, and encrypted under customers' keys or an epoch's (law 6).

A batch has an identity, the SHA-256 of those header fields that are known before its rows are sealed. Keyed
BLAKE2b, under a customer's batch key, of identity and row number (u32, little-endian) is the 16-byte salt of a
customer's row; of the identity alone it is the 16-byte pseudonym of the customer in this batch. So a salt can be
shown for one row and tells nothing of another, and no two batches show the same pseudonym. Public rows have no salt.

Form 1 (`seal_rows`) encrypts a customer's rows of a batch together by AES-256-GCM with the identity and pseudonym
as associated data. The nonce is keyed BLAKE2b, 96 bits, of identity and plaintext under the nonce key: equal nonces
under one key need equal plaintexts in the same batch (up to a collision of 96 bits), so sealing is reproducible
without ever using a nonce for two messages. Public rows are stored as they are. What stays visible of the others:
how many customers a batch concerns, and how many rows each of them has.

Form 2 (`seal_live`) binds the rows in the same way and encrypts all of them at once under the key of an epoch. Its
nonce is keyed BLAKE2b of identity and row root: the root commits to every row (SHA-256), so the argument is the
same. What stays visible is the number of rows.
"""

from __future__ import annotations

import hashlib
import itertools
from dataclasses import dataclass, replace

import numpy as np
from cryptography.exceptions import InvalidTag
from numpy.typing import NDArray

from tellegen.journal import LivePayload, Payload, Segment
from tellegen.privacy.keys import CustomerKeys, SealingKeys
from tellegen.privacy.keystore import VaultError
from tellegen.records import NOBODY, Header, SealedBatch, leaf_hash, tree_root

SALT_BYTES = 16
FRESH = "-"
"""Stands in a header for what is not known before sealing."""
_NUMBERED = np.dtype([("identity", "V32"), ("row", "<u4")])


def batch_identity(header: Header) -> bytes:
    """SHA-256 over the header without its row count, row root and payload digest."""
    known = replace(header, rows=0, row_root=FRESH, payload_sha256=FRESH)
    return hashlib.sha256(known.to_bytes()).digest()


def row_salt(batch_key: bytes, identity: bytes, row: int) -> bytes:
    """Salt of a row by its number in the batch."""
    return hashlib.blake2b(identity + row.to_bytes(4, "little"), key=batch_key, digest_size=SALT_BYTES).digest()


def pseudonym(batch_key: bytes, identity: bytes) -> bytes:
    """What stands for a customer in a batch."""
    return hashlib.blake2b(identity, key=batch_key, digest_size=16).digest()


def row_leaves(
    identity: bytes,
    rows: NDArray[np.uint8],
    numbers: NDArray[np.int64],
    subjects: NDArray[np.int64],
    keys: CustomerKeys,
) -> list[bytes]:
    """Leaf hashes of rows of one batch.

    Parameters
    ----------
    rows : uint8[n, row_bytes], canonical bytes.
    numbers : int64[n], row numbers in the batch.
    subjects : int64[n], customer number or `NOBODY`.

    Raises
    ------
    VaultError : a customer has no key.
    """
    sha256 = hashlib.sha256
    private = subjects != NOBODY
    if not private.any():
        return [sha256(b"\x00" + row).digest() for row in _split(rows)]
    if not private.all():
        leaves = [b""] * subjects.size
        for where in (np.flatnonzero(~private), np.flatnonzero(private)):
            parts = row_leaves(identity, rows[where], numbers[where], subjects[where], keys)
            for place, leaf in zip(where.tolist(), parts, strict=True):
                leaves[place] = leaf
        return leaves
    numbered = np.empty(subjects.size, dtype=_NUMBERED)
    numbered["identity"], numbered["row"] = np.void(identity), numbers
    messages = _split(numbered.view(np.uint8).reshape(-1, _NUMBERED.itemsize))
    salts = _salts(messages, keys.batch_keys(subjects))
    # put together as one array: a sixth of the time of this function, against joining the parts of each row
    whole = np.zeros((subjects.size, 1 + SALT_BYTES + rows.shape[1]), dtype=np.uint8)
    whole[:, 1 : 1 + SALT_BYTES] = np.frombuffer(b"".join(salts), dtype=np.uint8).reshape(-1, SALT_BYTES)
    whole[:, 1 + SALT_BYTES :] = rows
    return [leaf.digest() for leaf in map(sha256, _split(whole))]


def _salts(messages: list[bytes], batch_keys: list[bytes]) -> list[bytes]:
    """As `row_salt`; where a customer has several rows, what its key comes to is taken in once."""
    blake2b, size = hashlib.blake2b, SALT_BYTES
    whose = set(batch_keys)
    if 2 * len(whose) > len(messages):
        return [blake2b(m, key=key, digest_size=size).digest() for m, key in zip(messages, batch_keys, strict=True)]
    keyed, salts = {key: blake2b(key=key, digest_size=size) for key in whose}, []
    for message, key in zip(messages, batch_keys, strict=True):
        salt = keyed[key].copy()
        salt.update(message)
        salts.append(salt.digest())
    return salts


def _split(rows: NDArray[np.uint8]) -> list[bytes]:
    """Rows of a byte matrix one by one."""
    count, width = rows.shape
    if not width:
        return [b""] * count
    contents: list[bytes] = np.ascontiguousarray(rows).view(f"V{width}").ravel().tolist()
    return contents


def seal_rows(header: Header, rows: NDArray[np.uint8], subjects: NDArray[np.int64], keys: CustomerKeys) -> SealedBatch:
    """Bind rows, and encrypt them per customer.

    Parameters
    ----------
    header : its row count, row root and digest are filled in.
    rows : uint8[n, row_bytes], canonical bytes of all rows, in order.
    subjects : int64[n], customer number or `NOBODY`.

    Raises
    ------
    VaultError : a customer has no key.
    """
    identity = batch_identity(header)
    count, row_bytes = rows.shape
    leaves = row_leaves(identity, rows, np.arange(count), subjects, keys)
    if (subjects == NOBODY).all():
        payload = Payload(row_bytes, b"".join(leaves), np.arange(count, dtype=np.uint32), rows.tobytes(), ())
        return _sealed(header, count, tree_root(leaves), payload.to_bytes())
    order = np.argsort(subjects, kind="stable")
    public = int((subjects == NOBODY).sum())  # the lowest number there is: public rows come first
    numbers, packed = order.astype("<u4"), rows[order].tobytes()
    number_bytes = numbers.tobytes()
    customers, starts = np.unique(subjects[order[public:]], return_index=True)
    stops = [*(starts + public).tolist(), count]
    segments: list[Segment] = []
    of_customers = zip(keys.sealing(customers), keys.batch_keys(customers), itertools.pairwise(stops), strict=True)
    for sealing, batch_key, (start, stop) in of_customers:
        name = pseudonym(batch_key, identity)
        plain = number_bytes[4 * start : 4 * stop] + packed[start * row_bytes : stop * row_bytes]
        segments.append(Segment(name, *encrypt(sealing, plain, identity, identity + name)))
    segments.sort(key=lambda segment: segment.pseudonym)  # the order must not tell who is who
    plain_rows = packed[: public * row_bytes]
    payload = Payload(row_bytes, b"".join(leaves), numbers[:public].astype(np.uint32), plain_rows, tuple(segments))
    return _sealed(header, count, tree_root(leaves), payload.to_bytes())


def encrypt(keys: SealingKeys, plain: bytes, identity: bytes, bound: bytes) -> tuple[bytes, bytes]:
    """Nonce and AES-256-GCM ciphertext; the nonce follows from identity and plaintext."""
    nonce = hashlib.blake2b(identity + plain, key=keys.nonce, digest_size=12).digest()
    return nonce, keys.cipher.encrypt(nonce, plain, bound)


def seal_live(
    header: Header,
    rows: NDArray[np.uint8],
    subjects: NDArray[np.int64],
    keys: CustomerKeys,
    epoch: int,
    epoch_keys: SealingKeys,
) -> SealedBatch:
    """Bind rows as `seal_rows` does, and encrypt them all under the keys of an epoch.

    Raises
    ------
    VaultError : a customer has no key.
    """
    identity = batch_identity(header)
    count, row_bytes = rows.shape
    root = tree_root(row_leaves(identity, rows, np.arange(count), subjects, keys))
    nonce = hashlib.blake2b(identity + root, key=epoch_keys.nonce, digest_size=12).digest()
    ciphertext = epoch_keys.cipher.encrypt(nonce, rows.tobytes(), identity)
    return _sealed(header, count, root, LivePayload(epoch, count, row_bytes, nonce, ciphertext).to_bytes())


def _sealed(header: Header, rows: int, root: bytes, payload: bytes) -> SealedBatch:
    digest = hashlib.sha256(payload).hexdigest()
    return SealedBatch(replace(header, rows=rows, row_root=root.hex(), payload_sha256=digest), payload)


def check_digest(header: Header, payload: bytes) -> None:
    """Refuse a payload that is not the header's."""
    if hashlib.sha256(payload).hexdigest() != header.payload_sha256:
        raise VaultError(f"payload of {_named(header)} is not the one its header names")


def open_live(header: Header, parts: LivePayload, epoch_keys: SealingKeys) -> NDArray[np.uint8]:
    """Rows of a live payload.

    Returns
    -------
    uint8[rows, row_bytes].

    Raises
    ------
    VaultError : it fails under the epoch's key, or does not hold the rows that its header counts.
    """
    try:
        plain = epoch_keys.cipher.decrypt(parts.nonce, parts.ciphertext, batch_identity(header))
    except InvalidTag:
        raise VaultError(f"payload of {_named(header)} fails under the key of epoch {parts.epoch}") from None
    if parts.rows != header.rows or len(plain) != parts.rows * parts.row_bytes:
        raise VaultError(f"payload of {_named(header)} does not hold the rows that it counts")
    return np.frombuffer(plain, dtype=np.uint8).reshape(parts.rows, parts.row_bytes)


@dataclass(slots=True)
class _Opened:
    """Row numbers, canonical bytes and batch key of each part of a payload that could be read."""

    numbers: list[bytes]
    rows: list[bytes]
    batch_keys: list[bytes | None]


def open_rows(
    header: Header, parts: Payload, keys: CustomerKeys, *, check_rows: bool
) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Read what the given keys can read.

    Returns
    -------
    uint8[rows, row_bytes], zero where unreadable; bool[rows], whether it was readable.

    Raises
    ------
    VaultError : the payload is damaged, or fails under a key; with `check_rows`, a row is not the one its salted
        hash binds.
    """
    what = _named(header)
    identity = batch_identity(header)
    opened = _Opened([parts.public_numbers.astype("<u4").tobytes()], [parts.public_rows], [None])
    _decrypt(what, identity, parts, keys, opened)
    numbers = np.frombuffer(b"".join(opened.numbers), dtype="<u4")
    rows = np.frombuffer(b"".join(opened.rows), dtype=np.uint8)
    if rows.size != numbers.size * parts.row_bytes or (numbers.size and int(numbers.max()) >= parts.rows):
        raise VaultError(f"payload of {what} holds rows that it does not count")
    data = np.zeros((parts.rows, parts.row_bytes), dtype=np.uint8)
    data[numbers] = rows.reshape(numbers.size, parts.row_bytes)
    present = np.zeros(parts.rows, dtype=np.bool_)
    present[numbers] = True
    if check_rows:
        _check_rows(what, identity, parts, data, opened)
    return data, present


def _decrypt(what: str, identity: bytes, parts: Payload, keys: CustomerKeys, opened: _Opened) -> None:
    wanted = {s.pseudonym: s for s in parts.segments}
    for customer, batch_key in keys.each_batch_key():
        if not wanted:
            return
        name = pseudonym(batch_key, identity)
        segment = wanted.pop(name, None)
        if segment is None:
            continue
        try:
            (sealing,) = keys.sealing(np.array([customer]))
            plain = sealing.cipher.decrypt(segment.nonce, segment.ciphertext, identity + name)
        except InvalidTag:
            raise VaultError(f"a segment of {what} fails under its key") from None
        split = 4 * (len(plain) // (4 + parts.row_bytes))
        opened.numbers.append(plain[:split])
        opened.rows.append(plain[split:])
        opened.batch_keys.append(batch_key)


def _check_rows(what: str, identity: bytes, parts: Payload, data: NDArray[np.uint8], opened: _Opened) -> None:
    leaves = parts.hash_list()
    for raw, batch_key in zip(opened.numbers, opened.batch_keys, strict=True):
        for row in np.frombuffer(raw, dtype="<u4").tolist():
            salt = b"" if batch_key is None else row_salt(batch_key, identity, row)
            if leaf_hash(salt, data[row].tobytes()) != leaves[row]:
                raise VaultError(f"row {row} of {what} is not the one on record")


def _named(header: Header) -> str:
    return f"{header.kind} {header.name or header.interval}"
