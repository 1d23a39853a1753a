"""Keys of many customers at once: secrets in arrays, what follows from them on demand.

From a customer's 32-byte secret, keyed BLAKE2b of one label each gives a *batch key*, a *payload key* and a
*nonce key*. Batch keys, of which every row needs one, are all derived when the vault is opened; ciphers are made
when a customer's rows are encrypted or read. A customer takes 72 bytes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass

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

    nonce: bytes
    cipher: AESGCM

    @classmethod
    def of(cls, secret: bytes) -> SealingKeys:
        """Derive them from a secret."""
        return cls(derive(secret, "nonce"), AESGCM(derive(secret, "payload")))


class CustomerKeys:
    """Keys by customer number, given with their secrets in ascending order.

    Attributes
    ----------
    numbers : int64[n], ascending: customers whose keys are here.
    """

    def __init__(self, secrets: Iterable[tuple[int, bytes]] = ()) -> None:
        packed, batch_keys = bytearray(), bytearray()
        blake2b, label = hashlib.blake2b, b"tellegen batch"
        for number, secret in secrets:
            packed += number.to_bytes(8, "little") + secret
            batch_keys += blake2b(label, key=secret, digest_size=SECRET_BYTES).digest()
        rows = np.frombuffer(packed, dtype=[("number", "<i8"), ("secret", "u1", SECRET_BYTES)])
        self.numbers: NDArray[np.int64] = np.ascontiguousarray(rows["number"])
        self._secrets: NDArray[np.uint8] = np.ascontiguousarray(rows["secret"])
        self._batch_keys = np.frombuffer(batch_keys, dtype=np.uint8).reshape(-1, SECRET_BYTES)
        self._sealing: dict[int, SealingKeys] = {}

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

    def sealing(self, customer: int) -> SealingKeys:
        """Cipher and nonce key of a customer.

        Raises
        ------
        VaultError : the customer has no key.
        """
        known = self._sealing.get(customer)
        if known is None:
            if len(self._sealing) >= CIPHERS_KEPT_MAX:
                self._sealing.clear()
            known = self._sealing[customer] = SealingKeys.of(self.secret(customer))
        return known

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
