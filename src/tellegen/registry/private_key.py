"""The private key of a device or agent, from the file that `tellegen registry request` makes."""

from __future__ import annotations

from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from tellegen.errors import InputError


def read_private_key(path: Path) -> Ed25519PrivateKey:
    """Read an Ed25519 key in PEM.

    Raises
    ------
    InputError : no such file, or it holds something else; the message quotes nothing of it.
    """
    try:
        key = load_pem_private_key(path.read_bytes(), password=None)
    except OSError as error:
        raise InputError(path, "key", f"cannot be read: {error.strerror or error}") from None
    except (ValueError, TypeError):
        raise InputError(path, "file", "is not a private key in PEM without a password") from None
    if not isinstance(key, Ed25519PrivateKey):
        raise InputError(path, "file", "is not an Ed25519 key")
    return key
