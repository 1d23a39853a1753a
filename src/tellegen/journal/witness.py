"""A witness: it signs a log's checkpoint only if the log extends what it signed before.

Whoever trusts one witness knows that everybody who trusts it was shown one history. The witness
keeps, of each log, the newest checkpoint that it has signed; nothing else. Its answers are those of
C2SP tlog-witness, add-checkpoint, without the HTTP.

==================  ============================================================================
``witness.key``     its Ed25519 seed in hex (mode 0600)
``witness.pub``     its verifier key, to be made known
``*.checkpoint``    the newest checkpoint signed, one file per log, named for its origin
``*.contradiction`` another checkpoint of the same size that the log has signed: proof of two histories
==================  ============================================================================
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from urllib.parse import quote

from tellegen.errors import InputError
from tellegen.journal.checkpoints import Checkpoint
from tellegen.journal.cosignature import Cosigner
from tellegen.journal.extension import Extension
from tellegen.journal.merkle import EMPTY_ROOT, verify_consistency
from tellegen.journal.note import ED25519, JournalError, NoteVerifier, SignatureLine, check_key, key_id, split_note
from tellegen.journal.storage import FILES, StoredFile, replace_file, write_secret

REQUEST_BYTES_MAX = 1 << 17
_FILE_NAME_MAX = 200
TEXT = "text/plain; charset=utf-8"
SIZE = "text/x.tlog.size"


@dataclass(frozen=True, slots=True)
class Reply:
    """What the witness answers.

    Attributes
    ----------
    log : that has shown more than before; nobody else could.
    """

    status: HTTPStatus
    text: str
    content_type: str = TEXT
    log: str = ""


class Witness:
    """One witness and its memory; one process at a time holds it.

    Parameters
    ----------
    folder : where its key and memory lie.
    logs : the logs that it watches.
    clock : seconds since the epoch.

    Raises
    ------
    InputError : there is no witness in the folder.
    JournalError : its memory is damaged, or another process holds it. A witness never starts anew
        on a log of which it may have signed more.
    """

    def __init__(self, folder: Path, logs: Iterable[NoteVerifier], clock: Callable[[], int]) -> None:
        self._folder, self._clock = folder, clock
        self._logs = _by_name(logs)
        self._lock = _locked(folder)
        try:
            self._signer = _read_signer(folder)
            self._newest = {name: self._recall(log) for name, log in self._logs.items()}
        except BaseException:
            self.close()
            raise

    @staticmethod
    def create(folder: Path, name: str, seed: bytes | None = None) -> None:
        """Give a new witness its key; drawn from the operating system where no seed is given.

        Raises
        ------
        JournalError : a witness is there already, or the name is malformed.
        """
        seed = secrets.token_bytes(32) if seed is None else seed
        check_key(name, seed)
        folder.mkdir(parents=True, exist_ok=True)
        try:
            write_secret(folder / "witness.key", f"{name} {seed.hex()}\n".encode())
        except FileExistsError:
            raise JournalError(f"{folder}: holds a witness already") from None
        replace_file(folder / "witness.pub", f"{Cosigner(name, seed).verifier.vkey}\n".encode())

    @property
    def vkey(self) -> str:
        """Its verifier key."""
        return self._signer.verifier.vkey

    def close(self) -> None:
        """Let another process have it."""
        self._lock.close()

    def add_checkpoint(self, request: bytes) -> Reply:
        """Answer a request to cosign a checkpoint; what is signed is durable before it is signed."""
        try:
            extension = Extension.parse(request.decode())
            text, lines = split_note(extension.note)
        except (JournalError, UnicodeDecodeError) as error:
            return Reply(HTTPStatus.BAD_REQUEST, f"{error}\n")
        log = self._logs.get(text.partition("\n")[0])
        if log is None:
            return Reply(HTTPStatus.NOT_FOUND, "this witness does not know the log\n")
        try:
            log.open(extension.note)
        except JournalError as error:
            return Reply(HTTPStatus.FORBIDDEN, f"{error}\n")
        try:
            checkpoint = Checkpoint.parse(_signed_alone(text, lines, log), log, extended=True)
        except JournalError as error:
            return Reply(HTTPStatus.BAD_REQUEST, f"{error}\n")
        if extension.old_size > checkpoint.size:
            return Reply(HTTPStatus.BAD_REQUEST, "the old size is above the checkpoint's\n")
        return self._answer(extension, checkpoint, text)

    def _answer(self, extension: Extension, checkpoint: Checkpoint, text: str) -> Reply:
        newest = self._newest[checkpoint.origin]
        size, root = (0, EMPTY_ROOT) if newest is None else (newest.size, newest.root)
        contradicts = newest is not None and checkpoint.size == size and checkpoint.root != root
        if contradicts:
            replace_file(self._file(checkpoint.origin, "contradiction"), checkpoint.note.encode())
        if extension.old_size != size:
            return Reply(HTTPStatus.CONFLICT, f"{size}\n", SIZE)
        if contradicts:
            return Reply(HTTPStatus.UNPROCESSABLE_ENTITY, f"another root was signed for {size} entries\n")
        if not verify_consistency(size, checkpoint.size, root, checkpoint.root, extension.proof):
            return Reply(HTTPStatus.UNPROCESSABLE_ENTITY, "the consistency proof does not verify\n")
        grown = newest is None or checkpoint.size > size
        if grown:
            replace_file(self._file(checkpoint.origin, "checkpoint"), checkpoint.note.encode())
            self._newest[checkpoint.origin] = checkpoint
        cosignature = str(self._signer.cosign(text, self._clock()))
        return Reply(HTTPStatus.OK, cosignature, log=checkpoint.origin if grown else "")

    def _file(self, origin: str, kind: str) -> Path:
        return self._folder / f"{quote(origin, safe='')}.{kind}"

    def _recall(self, log: NoteVerifier) -> Checkpoint | None:
        path = self._file(log.name, "checkpoint")
        if len(path.name) > _FILE_NAME_MAX:
            raise JournalError(f"log {log.name!r}: its name is too long for this witness")
        if not path.exists():
            return None
        try:
            return Checkpoint.parse(path.read_bytes().decode(), log, extended=True)
        except (JournalError, UnicodeDecodeError) as error:
            raise JournalError(f"corruption: {path}: {error}; the witness does not start without it") from None


def _by_name(logs: Iterable[NoteVerifier]) -> dict[str, NoteVerifier]:
    """A witness remembers a log by its name; of two keys under one it could watch the one or the other."""
    known: dict[str, NoteVerifier] = {}
    for log in logs:
        if known.setdefault(log.name, log) != log:
            raise InputError("--log", log.name, "is given with two keys; a log has one, a successor another name")
    return known


def _signed_alone(text: str, lines: Iterable[SignatureLine], log: NoteVerifier) -> str:
    """The note with the log's own signature only: what others added is nothing to remember."""
    own_key = (log.name, key_id(log.name, ED25519, log.public_key))
    own = next(line for line in lines if (line.name, line.key_id) == own_key)
    return f"{text}\n{own}"


def _read_signer(folder: Path) -> Cosigner:
    path = folder / "witness.key"
    try:
        name, seed = path.read_text().split()
        return Cosigner(name, bytes.fromhex(seed))
    except (OSError, ValueError, JournalError):
        raise InputError(path, "key", "cannot be read; it is one line, name and 64 hex digits") from None


def _locked(folder: Path) -> StoredFile:
    """Hold the folder against other processes."""
    if not (folder / "witness.key").is_file():
        raise InputError(folder, "witness.key", "is missing; is this the directory of a witness?")
    lock = FILES.open(folder / "lock", write=True)
    if not lock.lock():
        lock.close()
        raise JournalError(f"{folder}: another process is this witness")
    return lock
