"""Keys from outside, under which the vault's are wrapped.

Whoever runs a shard says in the environment where the key is (``TELLEGEN_VAULT_KEY``; for one role's key alone
``TELLEGEN_VAULT_KEY_LOG`` and so on, by the name of its file):

==================================  ====================================================================================
``file:PATH``                       32 bytes in a file that only its owner may read
``credential:NAME``                 the same, where a service manager puts it (``$CREDENTIALS_DIRECTORY``)
``pkcs11:token=T;object=K?...``     an AES key that never leaves its token (RFC 7512; python-pkcs11)
``kms:MODULE:FACTORY:ARGUMENT``     whatever `Wrapper` the function FACTORY of a module makes of ARGUMENT
==================================  ====================================================================================

A key wraps with AES-256-GCM of `cryptography`, or as the token or service does. What is wrapped says for what it is, so
that one cannot be put in the place of another.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Protocol, runtime_checkable

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from tellegen.errors import TellegenError

VARIABLE = "TELLEGEN_VAULT_KEY"
KEY_BYTES = 32
_NONCE_BYTES = 12
_OTHERS = 0o077


class CustodyError(TellegenError):
    """A key cannot be had, is not what it must be, or does not open what it should. No message holds any of a key."""


@runtime_checkable
class Wrapper(Protocol):
    """A key outside of the vault, which wraps the vault's. A service of keys (KMS) is one by these three."""

    @property
    def name(self) -> str:
        """What it is called where the vault says by what it is wrapped; no secret, at most 200 printable characters."""

    def wrap(self, secret: bytes, context: bytes) -> bytes:
        """Encrypt 32 bytes so that nobody can change them or use them in another context.

        Raises
        ------
        CustodyError : it cannot.
        """

    def unwrap(self, wrapped: bytes, context: bytes) -> bytes:
        """Inverse of `wrap`.

        Raises
        ------
        CustodyError : it is of another key or context, was changed, or the key cannot be had.
        """


def sealed(key: bytes, secret: bytes, context: bytes) -> bytes:
    """A nonce, and the secret encrypted under a key (AES-256-GCM) for a context."""
    nonce = os.urandom(_NONCE_BYTES)
    return nonce + AESGCM(key).encrypt(nonce, secret, context)


def opened(key: bytes, data: bytes, context: bytes) -> bytes | None:
    """Inverse of `sealed`; None where it is of another key or context, or was changed."""
    try:
        return AESGCM(key).decrypt(data[:_NONCE_BYTES], data[_NONCE_BYTES:], context)
    except (InvalidTag, ValueError):
        return None


@dataclass(frozen=True, slots=True)
class FileKey:
    """A key of 32 bytes from a file.

    >>> key = FileKey(bytes(32))
    >>> key.unwrap(key.wrap(b"secret", b"log"), b"log")
    b'secret'
    """

    key: bytes = field(repr=False)
    name: str = "file"

    @classmethod
    def read(cls, path: Path, name: str = "file") -> FileKey:
        """Read it.

        Raises
        ------
        CustodyError : no such file, others may read it, or it does not hold 32 bytes; nothing of it is quoted.
        """
        try:
            with path.open("rb") as file:
                mode, key = os.fstat(file.fileno()).st_mode, file.read(KEY_BYTES + 1)
        except OSError as error:
            raise CustodyError(f"{path}: the key that opens the vault cannot be read: {error.strerror}") from None
        if os.name == "posix" and mode & _OTHERS:
            raise CustodyError(f"{path}: others may read the key that opens the vault; `chmod 600` it")
        if len(key) != KEY_BYTES:
            raise CustodyError(f"{path}: a key that opens a vault is {KEY_BYTES} random bytes and nothing else")
        return cls(key, name)

    def wrap(self, secret: bytes, context: bytes) -> bytes:
        """See `Wrapper`."""
        return sealed(self.key, secret, context)

    def unwrap(self, wrapped: bytes, context: bytes) -> bytes:
        """See `Wrapper`."""
        secret = opened(self.key, wrapped, context)
        if secret is None:
            raise CustodyError(f"the key {self.name!r} does not open it: it is wrapped by another, or damaged")
        return secret


def wrapper_of(said: str, environment: Mapping[str, str] = os.environ) -> Wrapper:
    """The key that somebody names in one of the four ways above.

    Raises
    ------
    CustodyError : it is none of them, or the key cannot be had.
    """
    kind, _, rest = said.partition(":")
    match kind:
        case "file" if rest:
            return FileKey.read(Path(rest))
        case "credential" if rest and "/" not in rest:
            folder = environment.get("CREDENTIALS_DIRECTORY")
            if not folder:
                raise CustodyError(
                    "there is no CREDENTIALS_DIRECTORY, which the service manager sets, for credential:NAME"
                )
            return FileKey.read(Path(folder) / rest, f"credential {rest}")
        case "pkcs11" if rest:
            from tellegen.custody.pkcs11 import TokenKey

            return TokenKey.of(said)
        case "kms" if rest.count(":") >= 1:
            return _from_service(*rest.split(":", 2))
    # what was given is not repeated: it may be the key itself
    raise CustodyError(
        "what was given names no key; give file:PATH, credential:NAME, pkcs11:token=T;object=K?module-path=LIBRARY or "
        "kms:MODULE:FACTORY:ARGUMENT"
    )


def wrapper_for(name: str, wrapped_by: str, environment: Mapping[str, str] = os.environ) -> Wrapper:
    """The key from outside that opens a file of the vault, by the environment.

    Parameters
    ----------
    name : of the file, without its ending. wrapped_by : what the file says that it is wrapped by, for the message.

    Raises
    ------
    CustodyError : nobody says where it is, or it cannot be had.
    """
    said = environment.get(f"{VARIABLE}_{name.upper()}") or environment.get(VARIABLE)
    if not said:
        raise CustodyError(f"{name}: is wrapped by {wrapped_by!r}; say in {VARIABLE} where that key is, as file:PATH")
    return wrapper_of(said, environment)


def wrapper_wanted(name: str, environment: Mapping[str, str] = os.environ) -> Wrapper | None:
    """The key from outside that is to wrap a file which is made now; None: nobody names one, it lies in clear.

    Raises
    ------
    CustodyError : it cannot be had.
    """
    said = environment.get(f"{VARIABLE}_{name.upper()}") or environment.get(VARIABLE)
    return wrapper_of(said, environment) if said else None


def _from_service(module: str, factory: str, argument: str = "") -> Wrapper:
    try:
        made = getattr(import_module(module), factory)(argument)
    except (ImportError, AttributeError, ValueError) as error:
        problem = type(error).__name__  # its words may quote the argument
        raise CustodyError(f"kms:{module}:{factory}: there is no such service of keys ({problem})") from None
    if not isinstance(made, Wrapper):
        raise CustodyError(f"kms:{module}:{factory}: what that makes has no name, wrap and unwrap")
    return made
