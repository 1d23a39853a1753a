"""Who signs checkpoints for the process that strangers talk to: a process of its own, which does nothing else.

It holds the key of one log and signs nothing but heads of that log, each larger than the one before: whoever takes over
the process that asks can neither take the key along, nor have a statement, a certificate or a second history signed.
They talk by a pipe, or by a socket of the file system where the agent runs as another user::

    request    length (u32, little-endian), text; of length 0: which key is it?
    answer     status (u8: 0 done, 1 refused), length (u32), signature, public key, or why not
"""

from __future__ import annotations

import base64
import binascii
import ctypes
import os
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, BinaryIO

from nacl.signing import SigningKey

from tellegen.custody.wrapping import CustodyError

TEXT_BYTES_MAX = 4096
SOCKET_MODE = 0o660
_LENGTH = struct.Struct("<I")
_ANSWER = struct.Struct("<BI")
_ROOT_BYTES, _SIGNATURE_BYTES, _KEY_BYTES = 32, 64, 32
_END_S = 5.0
_SET_DUMPABLE = 4


class _NotAHeadError(Exception):
    """Not to be signed; says why."""


class HeadSigner:
    """Signs heads of one log.

    Parameters
    ----------
    origin : name of the log. seed : Ed25519, 32 bytes.
    size, root : the newest head that was signed before; none yet without them.

    >>> signer = HeadSigner("example.org/log", bytes(32))
    >>> len(signer.sign(b"example.org/log\\n1\\n" + base64.b64encode(bytes(32)) + b"\\n"))
    64
    """

    def __init__(self, origin: str, seed: bytes, size: int = -1, root: bytes = b"") -> None:
        self._origin, self._key = origin, SigningKey(seed)
        self._size, self._root = size, root
        self._lock = threading.Lock()

    @property
    def public_key(self) -> bytes:
        """32 bytes."""
        return bytes(self._key.verify_key)

    def sign(self, text: bytes) -> bytes:
        """Signature of a head, 64 bytes.

        Raises
        ------
        CustodyError : it is no head of this log, or would contradict the last one.
        """
        try:
            size, root = self._head(text)
        except _NotAHeadError as why:
            raise CustodyError(f"the signer of {self._origin} does not sign it: {why}") from None
        with self._lock:
            if size < self._size or (size == self._size and root != self._root):
                raise CustodyError(
                    f"the signer of {self._origin} has signed {self._size} entries and does not sign "
                    + (f"{size}" if size < self._size else "as many with another root")
                )
            self._size, self._root = size, root
        return self._key.sign(text).signature

    def _head(self, text: bytes) -> tuple[int, bytes]:
        try:
            origin, size_text, root_text, end = text.decode().split("\n")
            size, root = int(size_text), base64.b64decode(root_text, validate=True)
        except (ValueError, binascii.Error):
            raise _NotAHeadError("it is not origin, size and root of a log") from None
        if origin != self._origin or end or str(size) != size_text or size < 0 or len(root) != _ROOT_BYTES:
            raise _NotAHeadError("it is not a head of that log")
        return size, root


def answer(signer: HeadSigner, requests: BinaryIO, answers: BinaryIO) -> None:
    """Answer until the requests end."""
    while len(head := requests.read(_LENGTH.size)) == _LENGTH.size:
        (length,) = _LENGTH.unpack(head)
        if length > TEXT_BYTES_MAX:
            return
        text = requests.read(length)
        if len(text) != length:
            return
        try:
            status, said = 0, signer.sign(text) if length else signer.public_key
        except CustodyError as error:
            status, said = 1, str(error).encode()
        answers.write(_ANSWER.pack(status, len(said)) + said)
        answers.flush()


def refuse(why: str, answers: BinaryIO) -> None:
    """Answer whatever is asked first with a refusal."""
    said = why.encode()[:TEXT_BYTES_MAX]
    answers.write(_ANSWER.pack(1, len(said)) + said)
    answers.flush()


def serve_socket(signer: HeadSigner, path: Path) -> None:
    """Answer whoever may open a socket of the file system: its owner and its group; until the process is ended.

    Raises
    ------
    CustodyError : the socket cannot be had.
    """
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        path.unlink(missing_ok=True)
        before = os.umask(0o777 & ~SOCKET_MODE)
        try:
            listener.bind(str(path))
        finally:
            os.umask(before)
        listener.listen()
    except OSError as error:
        raise CustodyError(f"{path}: the socket cannot be had: {error.strerror}") from None
    with listener:
        while True:
            connection, _ = listener.accept()
            threading.Thread(target=_answer_one, args=(signer, connection), daemon=True).start()


def _answer_one(signer: HeadSigner, connection: socket.socket) -> None:
    with connection, connection.makefile("rb") as requests, connection.makefile("wb") as answers:
        answer(signer, requests, answers)


def shield() -> None:
    """Let no other process of this user look into this one's memory, and leave no core; where the system can."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_SET_DUMPABLE, 0, 0, 0, 0)


class SigningAgent:
    """The other end: signs by asking (`journal.note.Signer`). Whoever asks never has the key.

    Parameters
    ----------
    command, environment : starts an agent that reads requests from its standard input, in this environment whenever
        one is started; or
    path : the socket of one that runs.

    Raises
    ------
    CustodyError : here and in `sign`: it does not start, has ended, or refuses.
    """

    def __init__(
        self, command: Sequence[str] = (), path: Path | None = None, environment: Mapping[str, str] | None = None
    ) -> None:
        self._command, self._path = list(command), path
        self._environment = None if environment is None else dict(environment)
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._socket: socket.socket | None = None
        self._out: IO[bytes] | None = None
        self._in: IO[bytes] | None = None
        self.public_key = self._ask(b"", _KEY_BYTES)

    def sign(self, message: bytes) -> bytes:
        """Signature of a head, 64 bytes."""
        return self._ask(message, _SIGNATURE_BYTES)

    def renew(self) -> None:
        """Ask another from now on, where it is started here: what was signed and then met a full disk is on no record.

        One that runs by itself stays as it is: whoever runs it looks before it signs a second head of one size.
        """
        if self._path is None:
            self.close()

    def close(self) -> None:
        """End the agent that was started here; let go of the one that was not."""
        with self._lock:
            self._hang_up()

    def _ask(self, text: bytes, length: int) -> bytes:
        with self._lock:
            try:
                if self._out is None or self._in is None:
                    self._call()
                assert self._out is not None
                assert self._in is not None
                self._out.write(_LENGTH.pack(len(text)) + text)
                self._out.flush()
                head = self._in.read(_ANSWER.size)
                status, size = _ANSWER.unpack(head) if len(head) == _ANSWER.size else (1, 0)
                said = self._in.read(min(size, TEXT_BYTES_MAX))
            except (OSError, ValueError) as error:
                self._hang_up()
                raise CustodyError(f"the signer cannot be asked: {error}") from None
            if status or len(said) != length:
                if not said:  # it has ended: the next one asks another
                    self._hang_up()
                raise CustodyError(said.decode(errors="replace") if said else "the signer has ended without an answer")
        return said

    def _call(self) -> None:
        if self._path is not None:
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            self._socket.connect(str(self._path))
            self._out, self._in = self._socket.makefile("wb"), self._socket.makefile("rb")
            return
        self._process = subprocess.Popen(  # noqa: S603
            self._command,
            stdin=subprocess.PIPE,  # it ends with us, however we end
            stdout=subprocess.PIPE,
            env=self._environment,
            start_new_session=True,  # Ctrl-C is for us, who end it
        )
        self._out, self._in = self._process.stdin, self._process.stdout

    def _hang_up(self) -> None:
        for file in (self._out, self._in):
            if file is not None:
                with suppress(OSError):  # it may have ended before us
                    file.close()
        if self._socket is not None:
            self._socket.close()
        if self._process is not None:
            try:
                self._process.wait(_END_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        self._out = self._in = self._socket = self._process = None
