"""Keys of many customers at once: secrets in arrays, what follows from them on demand.

From a customer's 32-byte secret, keyed BLAKE2b of one label each gives a *batch key*, a *payload key* and a
*nonce key*. Batch keys, of which every row needs one, are all derived when the vault is opened; ciphers are made
when a customer's rows are encrypted or read. A customer takes 72 bytes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from numpy.typing import NDArray

from tellegen.privacy.keystore import SECRET_BYTES, VaultError

CIPHERS_KEPT_MAX = 4096


def derive(secret: bytes, label: str) -> bytes:
    """32 bytes from a secret of 32 for one purpose: BLAKE2b of the label, keyed."""
    return hashlib.blake2b(f"tellegen {label}".encode(), key=secret, digest_size=SECRET_BYTES).digest()


@dataclass(frozen=True, slots=True)
class SealingKeys:
    """Cipher and nonce key under which something is sealed: of one customer, or of one epoch."""

    nonce: bytes = field(repr=False)
    cipher: AESGCM

    @classmethod
    def of(cls, secret: bytes) -> SealingKeys:
        """Derive them from a secret."""
        return cls(derive(secret, "nonce"), AESGCM(derive(secret, "payload")))


class CustomerKeys:
    """Keys by customer number.

    Attributes
    ----------
    numbers : int64[n], ascending: customers whose keys are here.
    """

    def __init__(self, secrets: Iterable[tuple[int, bytes]] = ()) -> None:
        self.numbers: NDArray[np.int64] = np.empty(0, dtype=np.int64)
        self._secrets: NDArray[np.uint8] = np.empty((0, SECRET_BYTES), dtype=np.uint8)
        self._batch_keys: NDArray[np.uint8] = np.empty((0, SECRET_BYTES), dtype=np.uint8)
        self._sealing: dict[int, SealingKeys] = {}
        self.add(secrets)

    def add(self, secrets: Iterable[tuple[int, bytes]]) -> None:
        """Take in customers who have no key here, in ascending order."""
        packed, derived = bytearray(), bytearray()
        blake2b, label = hashlib.blake2b, b"tellegen batch"
        for number, secret in secrets:
            packed += number.to_bytes(8, "little") + secret
            derived += blake2b(label, key=secret, digest_size=SECRET_BYTES).digest()
        rows = np.frombuffer(packed, dtype=[("number", "<i8"), ("secret", "u1", SECRET_BYTES)])
        batch_keys = np.frombuffer(derived, dtype=np.uint8).reshape(-1, SECRET_BYTES)
        places = np.searchsorted(self.numbers, rows["number"])
        self.numbers = np.insert(self.numbers, places, rows["number"])
        self._secrets = np.insert(self._secrets, places, rows["secret"], axis=0)
        self._batch_keys = np.insert(self._batch_keys, places, batch_keys, axis=0)

    def __contains__(self, customer: int) -> bool:
        return self.has_all(np.array([customer], dtype=np.int64))

    def has_all(self, customers: NDArray[np.int64]) -> bool:
        """Whether every one of these customers has a key here."""
        return bool(self._found(customers)[1].all())

    def remove(self, customers: Iterable[int]) -> None:
        """Forget keys; customers without any are passed over."""
        given = np.fromiter(customers, dtype=np.int64)
        kept = ~np.isin(self.numbers, given)
        self.numbers, self._secrets, self._batch_keys = self.numbers[kept], self._secrets[kept], self._batch_keys[kept]
        for customer in given.tolist():
            self._sealing.pop(customer, None)

    def batch_keys(self, customers: NDArray[np.int64]) -> list[bytes]:
        """Batch key of each given customer.

        Raises
        ------
        VaultError : one of them has no key.
        """
        keys: list[bytes] = self._batch_keys[self._places(customers)].view(f"V{SECRET_BYTES}").ravel().tolist()
        return keys

    def each_batch_key(self) -> Iterator[tuple[int, bytes]]:
        """Customers, ascending, with the batch key of each; whoever has found what it looks for leaves the rest."""
        start, stop = 0, 1  # the operator comes first, whose documents are most of what is sealed by customer
        while start < self.numbers.size:
            some = self.numbers[start:stop]
            yield from zip(some.tolist(), self.batch_keys(some), strict=True)
            start, stop = stop, 2 * stop

    def sealing(self, customers: NDArray[np.int64]) -> list[SealingKeys]:
        """Cipher and nonce key of each given customer; those of a few thousand are kept.

        Raises
        ------
        VaultError : one of them has no key.
        """
        if len(self._sealing) > CIPHERS_KEPT_MAX:
            self._sealing.clear()
        missing = np.array([c for c in customers.tolist() if c not in self._sealing], dtype=np.int64)
        secrets = self._secrets[self._places(missing)]
        self._sealing |= {c: SealingKeys.of(s.tobytes()) for c, s in zip(missing.tolist(), secrets, strict=True)}
        return [self._sealing[c] for c in customers.tolist()]

    def secret(self, customer: int) -> bytes:
        """Secret of a customer.

        Raises
        ------
        VaultError : the customer has no key.
        """
        secret: bytes = self._secrets[self._places(np.array([customer], dtype=np.int64))[0]].tobytes()
        return secret

    def _places(self, customers: NDArray[np.int64]) -> NDArray[np.intp]:
        places, found = self._found(customers)
        if not found.all():
            raise VaultError(f"customer {customers[np.argmin(found)]} has no key: not enrolled, or erased")
        return places

    def _found(self, customers: NDArray[np.int64]) -> tuple[NDArray[np.intp], NDArray[np.bool_]]:
        places = np.searchsorted(self.numbers, customers)
        inside = places < self.numbers.size
        places[~inside] = 0
        if not self.numbers.size:
            return places, inside
        return places, inside & (self.numbers[places] == customers)
