"""Is a journal whole? Every problem by its place, and the repair of those that may be repaired.

`check` reads every byte: checksums of frames, form of headers, digests of payloads, signatures of all checkpoints, and
the tree of the entries against each of their roots; then the index against all of that. It goes on after a problem as
far as it can.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tellegen.errors import InputError
from tellegen.journal.checkpoints import NOTE_LINES, Checkpoint, whole_notes
from tellegen.journal.files import ENTRY_BYTES_MAX, SEGMENT_BYTES_MAX, read_verifier
from tellegen.journal.journal import Journal
from tellegen.journal.merkle import MerkleTree, entry_hash
from tellegen.journal.note import JournalError, NoteSigner, NoteVerifier
from tellegen.journal.payload import PAYLOAD_BYTES_MAX, Stub
from tellegen.journal.segments import Frame, Place, Segments, segment_name
from tellegen.journal.storage import FILES, Storage, read_file, replace_file
from tellegen.journal.stretch import DTYPES, StretchError, number_of, read_column, read_head
from tellegen.records import Header, RecordError


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is not as it was written.

    Attributes
    ----------
    file : path below ``journal/``.
    place : where in the file ("frame 3 at byte 812", "line 6"); empty for the whole file.
    problem : what is wrong.
    repairable : whether `repair` may put it right without taking anything from what was signed.
    """

    file: str
    place: str
    problem: str
    repairable: bool = False

    def __str__(self) -> str:
        return f"{self.file}{', ' * bool(self.place)}{self.place}: {self.problem}"


def check(path: Path | str, *, storage: Storage = FILES) -> list[Problem]:
    """Every problem of the journal under ``path/journal``; none if it is whole and nobody is writing it just now.

    Raises
    ------
    InputError : there is no journal.
    """
    folder = Path(path) / "journal"
    if not storage.names(folder):
        raise InputError(folder, "journal", "does not exist; is this the directory of a run?")
    return list(_Inspection(storage, folder).problems())


def repair(path: Path | str, signing_key: bytes, *, storage: Storage = FILES) -> list[str]:
    """Put right what may be put right, and say what was; a journal in use cannot be repaired.

    That is: what lies beyond the last checkpoint is cut off, the copy ``checkpoint`` is made again unless it is ahead
    of ``checkpoints``, ``operator.pub`` is made again from the key, and the index from the log.

    Raises
    ------
    InputError : there is no journal.
    JournalError : damage to what was signed, which is never repaired: a mirror or a backup has the bytes.
    """
    folder = Path(path) / "journal"
    key_problems = [problem for problem in check(path, storage=storage) if problem.file == "operator.pub"]
    if key_problems:  # first, since without the key nothing else can be judged
        verifier = _signer_of(storage, folder, signing_key).verifier
        replace_file(folder / "operator.pub", (verifier.vkey + "\n").encode(), storage)
    problems = check(path, storage=storage)
    for problem in problems:
        if not problem.repairable:
            raise JournalError(f"corruption: {folder}: {problem}; cannot be repaired")
    if any(problem.file == "checkpoint" for problem in problems):
        newest = whole_notes(read_file(storage, folder / "checkpoints"))[-1]
        replace_file(folder / "checkpoint", newest, storage)
    for problem in problems:
        if problem.file.startswith("index/"):
            storage.remove(folder / problem.file)
    with Journal.open(path, signing_key, storage=storage) as journal:
        journal.index.restore()
    return [str(problem) for problem in key_problems + problems]


def _signer_of(storage: Storage, folder: Path, signing_key: bytes) -> NoteSigner:
    """The signer with this key, which must be the one of the newest checkpoint."""
    newest = whole_notes(read_file(storage, folder / "checkpoints"))[-1].decode()
    signer = NoteSigner(newest.partition("\n")[0], signing_key)
    Checkpoint.parse(newest, signer.verifier)
    return signer


class _Inspection:
    """One pass over the files of a journal."""

    def __init__(self, storage: Storage, folder: Path) -> None:
        self._storage, self._folder = storage, folder
        self._roots: dict[int, tuple[int, bytes]] = {}  # by size: line of the checkpoint, and root
        self._covered = 0
        self._digests: list[str] = []  # of payloads, by entry; empty where the entry is damaged
        self._leaves: list[bytes] = []
        self._places: dict[str, list[Place]] = {"log": [], "payload": []}

    def problems(self) -> Iterator[Problem]:
        verifier: NoteVerifier | None = None
        try:
            verifier = read_verifier(self._storage, self._folder)
        except (InputError, JournalError) as error:
            yield Problem("operator.pub", "", str(error), repairable=True)
        yield from self._checkpoints(verifier)
        yield from self._log()
        yield from self._payloads()
        yield from self._index()

    def _checkpoints(self, verifier: NoteVerifier | None) -> Iterator[Problem]:
        try:
            copy = read_file(self._storage, self._folder / "checkpoint")
        except OSError:
            copy = b""
        try:
            data = read_file(self._storage, self._folder / "checkpoints")
        except OSError as error:
            yield Problem("checkpoints", "", f"cannot be read: {error.strerror}")
            return
        notes = whole_notes(data)
        before = -1
        for number, note in enumerate(notes):
            line = number * NOTE_LINES + 1
            try:
                head = _head(note, verifier)
            except (JournalError, ValueError) as error:
                yield Problem("checkpoints", f"line {line}", str(error))
                continue
            if head.size <= before:
                yield Problem("checkpoints", f"line {line}", f"size {head.size} follows {before}")
            before = self._covered = max(before, head.size)
            self._roots[head.size] = line, head.root
        torn = len(data) - sum(map(len, notes))
        if torn:
            yield Problem("checkpoints", f"line {len(notes) * NOTE_LINES + 1}", "is cut short", repairable=bool(notes))
        if copy not in notes[-1:]:
            yield self._copy_problem(copy, notes, verifier)

    def _copy_problem(self, copy: bytes, notes: list[bytes], verifier: NoteVerifier | None) -> Problem:
        if copy in notes:
            return Problem("checkpoint", "", "is behind checkpoints, as after a crash", repairable=True)
        try:
            ahead = _head(copy, verifier).size > self._covered
        except (JournalError, ValueError):
            return Problem("checkpoint", "", "is not among checkpoints", repairable=bool(notes))
        words = "is ahead of checkpoints, which has lost its end" if ahead else "is not among checkpoints"
        return Problem("checkpoint", "", words, repairable=False)

    def _frames(self, part: str, frame_bytes_max: int) -> Iterator[tuple[int, Frame, Problem | None]]:
        """Frames that a checkpoint covers, numbered; then, where there is more, that there is."""
        segments = Segments(self._storage, self._folder / part, SEGMENT_BYTES_MAX, frame_bytes_max)
        number, last = 0, -1
        try:
            for frame in segments.walk(content=True):
                last = frame.segment
                place = f"frame {number} at byte {frame.at}"
                name = f"{part}/{segment_name(frame.segment)}"
                if number >= self._covered:
                    problem = Problem(name, place, "lies beyond the last checkpoint", repairable=True)
                    yield number, frame, problem
                    return
                yield number, frame, Problem(name, place, frame.problem) if frame.problem else None
                number += 1
            if number < self._covered:
                end = Problem(part, "", f"ends after frame {number}, {self._covered} are signed for")
                yield number, Frame(0, 0, 0, b"", end.problem), end
            for name in self._storage.names(self._folder / part):
                if name > segment_name(last):
                    stray = Problem(f"{part}/{name}", "", "lies beyond the last checkpoint", repairable=True)
                    yield number, Frame(0, 0, 0, b"", stray.problem), stray
        except JournalError as error:
            yield number, Frame(0, 0, 0, b"", str(error)), Problem(part, "", str(error))
        finally:
            segments.close()

    def _log(self) -> Iterator[Problem]:
        yield from self._check_root(MerkleTree())
        tree: MerkleTree | None = MerkleTree()  # None after damage, which has been named by then
        for index, frame, problem in self._frames("log", ENTRY_BYTES_MAX):
            if problem is None:
                problem = self._entry_problem(index, frame)
                self._leaves.append(entry_hash(frame.data))
                self._places["log"].append(Place(frame.segment, frame.at, frame.length))
            else:
                self._digests.append("")
            if problem is not None:
                yield problem
                tree = tree if problem.repairable else None
            elif tree is not None:
                tree.append(entry_hash(frame.data))
                yield from self._check_root(tree)

    def _entry_problem(self, index: int, frame: Frame) -> Problem | None:
        name, place = f"log/{segment_name(frame.segment)}", f"frame {index} at byte {frame.at}"
        try:
            header = Header.from_bytes(frame.data)
        except RecordError as error:
            self._digests.append("")
            return Problem(name, place, str(error))
        self._digests.append(header.payload_sha256)
        if any(not 0 <= cause < index for cause in header.causes):
            return Problem(name, place, "follows from an entry that is not before it")
        return None

    def _check_root(self, tree: MerkleTree) -> Iterator[Problem]:
        line, root = self._roots.get(len(tree), (0, b""))
        if line and root != tree.root():
            yield Problem("checkpoints", f"line {line}", f"the entries do not have the root signed at size {len(tree)}")

    def _payloads(self) -> Iterator[Problem]:
        for index, frame, problem in self._frames("payloads", PAYLOAD_BYTES_MAX):
            named = self._digests[index] if index < len(self._digests) else ""
            if problem is None:
                self._places["payload"].append(Place(frame.segment, frame.at, frame.length))
            if problem is not None:
                yield problem
            elif named and _digest(frame.data) != named:
                name, place = f"payloads/{segment_name(frame.segment)}", f"frame {index} at byte {frame.at}"
                yield Problem(name, place, f"is not the payload that entry {index} names")

    def _index(self) -> Iterator[Problem]:
        """Files of the index that are damaged, or are not of this log; nothing rests on them."""
        for name in self._storage.names(self._folder / "index"):
            try:
                problem = "" if number_of(name) is None else self._stretch_problem(name)
            except (OSError, StretchError) as error:
                problem = str(error)
            if problem:
                yield Problem(f"index/{name}", "", problem, repairable=True)

    def _stretch_problem(self, name: str) -> str:
        data = read_file(self._storage, self._folder / "index" / name)
        file = self._storage.open(self._folder / "index" / name)
        try:
            head = read_head(file)
            columns = {column: read_column(file, head, column) for column in DTYPES}
        finally:
            file.close()
        if max((at + size for at, size, _ in head.columns.values()), default=0) != len(data):
            return "is longer than its columns"
        where = slice(head.first, head.stop)
        same = columns["leaf"].tobytes() == b"".join(self._leaves[where]) and all(
            [Place(*place) for place in columns[part].T.tolist()] == places[where]
            for part, places in self._places.items()
        )
        return "" if same else "is not of the entries of this log"


def _digest(stored: bytes) -> str:
    """Digest of a payload, or the one that a stub in its place names."""
    return (Stub.from_bytes(stored).payload_sha256 if Stub.is_stub(stored) else hashlib.sha256(stored).digest()).hex()


def _head(note: bytes, verifier: NoteVerifier | None) -> Checkpoint:
    """A checkpoint; without the operator's key its signature stays unchecked."""
    if verifier is not None:
        return Checkpoint.parse(note.decode(), verifier)
    text = note.decode()
    lines = text.split("\n")
    if len(lines) != NOTE_LINES + 1:
        raise JournalError("is not a checkpoint")
    return Checkpoint(lines[0], int(lines[1]), base64.b64decode(lines[2], validate=True), text)
