"""A secret of 32 bytes in a file that only its owner may read, wrapped by a key from outside or in clear.

Four lines: what the file is, for what the secret is, by what it is wrapped (``clear``: by nothing), and the secret in
base64. In it stands which role's key it is, so that no file can be put in the place of another where it is wrapped.
"""

from __future__ import annotations

import base64
import binascii
import os
from dataclasses import dataclass
from pathlib import Path

from tellegen.custody.wrapping import KEY_BYTES, CustodyError, Wrapper, wrapper_for
from tellegen.journal.storage import FILES, private_draft, write_secret

_FORMAT = "tellegen-secret@v1"
_CLEAR = "clear"
_BYTES_MAX = 16_384


@dataclass(frozen=True, slots=True)
class SecretFile:
    """Where a secret lies, and for what it is."""

    path: Path
    purpose: str

    def exists(self) -> bool:
        """Whether there is one."""
        return self.path.is_file()

    def wrapped_by(self) -> str | None:
        """By what it is wrapped; None: by nothing.

        Raises
        ------
        CustodyError : as in `read`.
        """
        name, _ = self._parsed()
        return None if name == _CLEAR else name

    def read(self) -> bytes:
        """The secret.

        Raises
        ------
        CustodyError : it is not there, is another's, is damaged, or the key from outside does not open it. Nothing of
            it stands in the message.
        """
        name, data = self._parsed()
        if name != _CLEAR:
            try:
                data = wrapper_for(self.path.stem, name).unwrap(data, self._context)
            except CustodyError as error:
                raise CustodyError(f"{self.path}: {error}") from None
        if len(data) != KEY_BYTES:
            raise CustodyError(f"{self.path}: is damaged; restore it from a backup")
        return data

    def make(self, secret: bytes, wrapper: Wrapper | None = None) -> None:
        """Write it, durably.

        Raises
        ------
        CustodyError : there is one already.
        """
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            write_secret(self.path, self._bytes(secret, wrapper))
        except FileExistsError:
            raise CustodyError(f"{self.path}: exists; a key is never overwritten") from None
        FILES.sync_folder(self.path.parent)

    def wrap(self, wrapper: Wrapper | None) -> None:
        """Wrap it by another key from outside, None: by nothing; it lies there as before, or so, never in between."""
        self._replace(self._bytes(self.read(), wrapper))

    def replace(self, secret: bytes, wrapper: Wrapper | None) -> None:
        """Put another secret in its place."""
        self._replace(self._bytes(secret, wrapper))

    def _replace(self, content: bytes) -> None:
        with private_draft(self.path) as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        FILES.sync_folder(self.path.parent)

    @property
    def _context(self) -> bytes:
        return f"tellegen secret {self.purpose}".encode()

    def _bytes(self, secret: bytes, wrapper: Wrapper | None) -> bytes:
        name = _CLEAR if wrapper is None else wrapper.name
        if wrapper is not None and (not name or not name.isprintable() or len(name) > 200 or name == _CLEAR):
            raise CustodyError("a key from outside is called by at most 200 printable characters, not 'clear'")
        data = secret if wrapper is None else wrapper.wrap(secret, self._context)
        return f"{_FORMAT}\npurpose {self.purpose}\nwrapped {name}\n{base64.b64encode(data).decode()}\n".encode()

    def _parsed(self) -> tuple[str, bytes]:
        try:
            with self.path.open("rb") as file:
                lines = file.read(_BYTES_MAX).decode().split("\n")
        except FileNotFoundError:
            raise CustodyError(
                f"{self.path}: is not there: the key of '{self.purpose}' is kept elsewhere; see --authority"
            ) from None
        except OSError as error:
            raise CustodyError(f"{self.path}: cannot be read: {error.strerror}") from None
        except UnicodeDecodeError:
            lines = []
        if len(lines) != 5 or lines[0] != _FORMAT or not lines[2].startswith("wrapped "):
            raise CustodyError(f"{self.path}: is no file with the secret of a role")
        if lines[1] != f"purpose {self.purpose}":
            raise CustodyError(f"{self.path}: is not the key of '{self.purpose}'")
        try:
            return lines[2].removeprefix("wrapped "), base64.b64decode(lines[3], validate=True)
        except (binascii.Error, ValueError):
            raise CustodyError(f"{self.path}: is damaged; restore it from a backup") from None
