"""A wrapping key that never leaves its token (PKCS#11): a hardware security module, a smart card, SoftHSM.

The key is an AES key on the token, named by a URI (RFC 7512)::

    pkcs11:token=TOKEN;object=KEY?module-path=/usr/lib/softhsm/libsofthsm2.so&pin-source=file:/run/pin

It encrypts with CKM_AES_GCM there. The PIN stands in a file, never in the URI. Needs python-pkcs11 (MIT), which is
installed beside tellegen by who has a token.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from tellegen.custody.wrapping import CustodyError

_NONCE_BYTES, _TAG_BITS = 12, 128
_PIN_BYTES_MAX = 256


@dataclass(frozen=True, slots=True)
class TokenKey:
    """An AES key on a token; see `wrapping.Wrapper`.

    Attributes
    ----------
    module : library of the token's maker. token, label : which key. pin_file : whose first line is the PIN.
    """

    module: Path
    token: str
    label: str
    pin_file: Path

    @classmethod
    def of(cls, uri: str) -> TokenKey:
        """From a URI.

        Raises
        ------
        CustodyError : it lacks something, or has something else.
        """
        path, _, query = uri.removeprefix("pkcs11:").partition("?")
        fields = [part.partition("=") for part in [*path.split(";"), *query.split("&")] if part]
        said = {name: unquote(value) for name, _, value in fields}
        pin = said.get("pin-source", "").removeprefix("file:")
        if said.keys() != {"token", "object", "module-path", "pin-source"} or not all((*said.values(), pin)):
            raise CustodyError(
                "the URI of a token's key is pkcs11:token=TOKEN;object=KEY?module-path=LIBRARY&pin-source=file:PATH"
            )
        return cls(Path(said["module-path"]), said["token"], said["object"], Path(pin))

    @property
    def name(self) -> str:
        """See `wrapping.Wrapper`."""
        return f"pkcs11 token {self.token} key {self.label}"[:200]

    def wrap(self, secret: bytes, context: bytes) -> bytes:
        """See `wrapping.Wrapper`."""
        nonce = os.urandom(_NONCE_BYTES)
        return nonce + self._crypt("encrypt", secret, nonce, context)

    def unwrap(self, wrapped: bytes, context: bytes) -> bytes:
        """See `wrapping.Wrapper`."""
        return self._crypt("decrypt", wrapped[_NONCE_BYTES:], wrapped[:_NONCE_BYTES], context)

    def _crypt(self, what: str, data: bytes, nonce: bytes, context: bytes) -> bytes:
        try:
            import pkcs11
        except ImportError:
            raise CustodyError("python-pkcs11 is not installed; `pip install python-pkcs11` beside tellegen") from None
        try:
            with self._session(pkcs11) as session:
                key = session.get_key(object_class=pkcs11.ObjectClass.SECRET_KEY, label=self.label)
                parameters = pkcs11.GCMParams(nonce, context, _TAG_BITS)
                return bytes(getattr(key, what)(data, mechanism=pkcs11.Mechanism.AES_GCM, mechanism_param=parameters))
        except pkcs11.PKCS11Error as error:
            problem = type(error).__name__  # the token's own words may quote what they were given
            raise CustodyError(f"{self.name}: the token refuses to {what}: {problem}") from None

    def _session(self, pkcs11: Any) -> Any:
        try:
            pin = self.pin_file.read_bytes()[:_PIN_BYTES_MAX].partition(b"\n")[0].decode()
        except (OSError, UnicodeDecodeError):
            raise CustodyError(f"{self.pin_file}: the PIN of the token cannot be read") from None
        try:
            return pkcs11.lib(str(self.module)).get_token(token_label=self.token).open(user_pin=pin)
        except pkcs11.PKCS11Error:
            raise
        except RuntimeError as error:
            raise CustodyError(f"{self.module}: is no library of a token: {error}") from None
