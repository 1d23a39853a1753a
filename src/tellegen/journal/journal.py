"""The journal of one shard: batches in, receipts out, nothing ever edited (laws 3, 5 and 6).

Files, all under ``journal/``:

=================  ================================================================================
``log/*.seg``      frames of entries: the canonical header of one batch each
``payloads/*.seg`` frames of payloads, in the order of the entries
``checkpoints``    every checkpoint ever signed, one after the other (C2SP tlog-checkpoint)
``checkpoint``     a copy of the newest of them
``operator.pub``   the verifier key of the checkpoints
=================  ================================================================================

Why no receipt is ever contradicted:

1. A commit syncs payloads and log, both at once; then it writes and syncs the checkpoint; only then can `receipt` be
   asked. So what a receipt proves is durable, and so is the signed head that it is proved under.
2. What the last whole checkpoint does not cover was promised to nobody. Opening for writing cuts all of it off,
   rather than keep what looks whole: after a failed sync a file may show bytes that the disk does not hold.
3. The last whole checkpoint is kept and written once more in its place, durably, before anything is appended. So its
   size is never signed again with another root, whether or not its commit was reported as done.
4. After any refusal of the disk the journal is closed, and no sync is tried again on the same file: the operating
   system may have dropped what it could not write, and a second sync would say that all is well. Opening the journal
   again is the way on.
5. A reader in another process believes the checkpoint that ``checkpoint`` names, which is put there after the one in
   ``checkpoints`` is durable. After a loss of power it may be behind until the journal is opened for writing.
6. Damage below the last checkpoint is an error that names file and place; it is never repaired in silence.

Threads: any may append and read while one commits; commits take turns. What is appended during a commit belongs to the
next.
"""

from __future__ import annotations

import base64
import hashlib
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import overload

from tellegen.errors import InputError
from tellegen.journal.catalogue import Catalogue
from tellegen.journal.checkpoints import Checkpoint, CheckpointFile
from tellegen.journal.merkle import MerkleTree, entry_hash
from tellegen.journal.note import JournalError, NoteSigner, NoteVerifier
from tellegen.journal.payload import PAYLOAD_BYTES_MAX, LivePayload, Payload, Stub
from tellegen.journal.segments import Segments
from tellegen.journal.storage import FILES, Storage, read_file, replace_file
from tellegen.records import Header, RecordError, SealedBatch

ENTRY_BYTES_MAX = 65_535  # what a C2SP entry bundle can hold
PENDING_BYTES_MAX = 1 << 29
SEGMENT_BYTES_MAX = 1 << 28
HEADERS_CACHED_MAX = 1024

PROOF_MAGIC = "c2sp.org/tlog-proof@v1"
ROW_PROOF_MAGIC = "tellegen-row-proof@v1"


class Journal:
    """Append-only log of batches with one writer.

    Parameters are those of `create` and `open`, which are the ways to get one.
    """

    def __init__(
        self, storage: Storage, folder: Path, verifier: NoteVerifier, signer: NoteSigner | None, segment_bytes_max: int
    ) -> None:
        self._storage, self._folder, self.verifier, self._signer = storage, folder, verifier, signer
        self._log = Segments(storage, folder / "log", segment_bytes_max, ENTRY_BYTES_MAX)
        self._payloads = Segments(storage, folder / "payloads", segment_bytes_max, PAYLOAD_BYTES_MAX)
        self._tree = MerkleTree()
        self._catalogue = Catalogue()
        self._headers: dict[int, Header] = {}  # the latest asked for
        self._pending: list[tuple[bytes, SealedBatch]] = []  # entries, with their batches, not yet committed
        self._pending_bytes = 0
        self._closed = False
        self._state, self._committing = threading.RLock(), threading.Lock()
        self._checkpoints = CheckpointFile(storage, folder, verifier)
        if signer is not None:
            self._checkpoints.lock()

    @classmethod
    def create(
        cls,
        path: Path | str,
        origin: str,
        signing_key: bytes,
        *,
        segment_bytes_max: int = SEGMENT_BYTES_MAX,
        storage: Storage = FILES,
    ) -> Journal:
        """Start a journal under ``path/journal``, with a signed checkpoint of the empty log.

        Parameters
        ----------
        path : directory of the run.
        origin : name of the log, also the name of its key; no spaces, no ``+``.
        signing_key : 32-byte Ed25519 seed.

        Raises
        ------
        JournalError : a journal is there already, origin or key are malformed, or the disk refused.
        """
        signer = NoteSigner(origin, signing_key)
        folder = Path(path) / "journal"
        try:
            if storage.names(folder):
                raise JournalError(f"{folder} is not empty; a journal is never overwritten")
            for part in (folder / "log", folder / "payloads"):
                storage.make_folder(part)
            replace_file(folder / "operator.pub", (signer.verifier.vkey + "\n").encode(), storage)
            journal = cls(storage, folder, signer.verifier, signer, segment_bytes_max)
            try:
                journal._sign(0, journal._tree.root())
            except BaseException:
                journal.close()
                raise
        except OSError as error:
            raise JournalError(
                f"{folder}: {error.strerror}; nothing is on record, remove it and begin again"
            ) from error
        return journal

    @classmethod
    def open(
        cls,
        path: Path | str,
        signing_key: bytes | None = None,
        *,
        segment_bytes_max: int = SEGMENT_BYTES_MAX,
        storage: Storage = FILES,
    ) -> Journal:
        """Open the journal under ``path/journal``; without a key, for reading only.

        What no checkpoint covers is cut off with a key, and ignored without one.

        Raises
        ------
        InputError : there is no journal.
        JournalError : corruption below the last checkpoint, a key that is not the journal's, another writer, or the
            disk refused.
        """
        folder = Path(path) / "journal"
        verifier = read_verifier(storage, folder)
        signer = None if signing_key is None else NoteSigner(verifier.name, signing_key)
        if signer is not None and signer.verifier != verifier:
            raise JournalError(f"{folder}: the signing key is not that of operator.pub")
        try:
            journal = cls(storage, folder, verifier, signer, segment_bytes_max)
            try:
                journal._load()
            except BaseException:
                journal.close()
                raise
        except OSError as error:
            raise JournalError(f"{folder}: {error.strerror}") from error
        return journal

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Release the files. What was appended and not committed is gone, as after a crash."""
        self._log.close()
        self._payloads.close()
        self._checkpoints.close()
        self._closed = True

    # Opening

    def _load(self) -> None:
        copy = self._checkpoints.copy()
        self._checkpoints.load(None if self._signer is not None else copy)
        self._checkpoints.check_copy(copy)
        if self._checkpoints.newest is None and (self._signer is None or self._log.path(0) in self._stored("log")):
            raise JournalError(f"corruption: {self._folder} has no checkpoint; it is signed from its creation on")
        self._take_in()
        if self._signer is not None:
            self._log.cut()
            self._payloads.cut()
            self._checkpoints.recover()
            if self._checkpoints.newest is None:
                self._sign(0, self._tree.root())

    def _stored(self, part: str) -> list[Path]:
        return [self._folder / part / name for name in self._storage.names(self._folder / part)]

    def _take_in(self) -> None:
        """Take in what the newest checkpoint covers, and hold it against its root."""
        checkpoint = self._checkpoints.newest
        if checkpoint is None:
            return
        try:
            self._tree.extend(self._catalogue.extend(self._log.scan(checkpoint.size)))
        except RecordError as error:
            raise JournalError(f"corruption: entry {len(self._catalogue)} of {self._folder}: {error}") from None
        self._payloads.skim(checkpoint.size)
        if self._tree.root() != checkpoint.root:
            raise JournalError(
                f"corruption: the entries of {self._folder} do not have the root signed at size {checkpoint.size}"
            )

    def refresh(self) -> int:
        """For a reader: take in what the writer has committed since; returns the number of entries there are.

        Raises
        ------
        JournalError : corruption, or the disk refused.
        """
        with self._state:
            try:
                if self._signer is None and self._checkpoints.load(self._checkpoints.copy()):
                    self._take_in()
            except OSError as error:
                raise JournalError(f"{self._folder}: {error.strerror}") from error
            return len(self)

    # Writing

    def append(self, batch: SealedBatch) -> int:
        """Take a batch in; it is on record once `commit` returns.

        The same header again is the same entry: its index is returned and nothing is written.

        Returns
        -------
        The entry's index in the log.

        Raises
        ------
        JournalError : read-only, over a limit, the payload is not the one the header names, or a
            cause is not on record before it.
        """
        entry, header = batch.header.to_bytes(), batch.header
        leaf = entry_hash(entry)
        if len(entry) > ENTRY_BYTES_MAX or len(batch.payload) > PAYLOAD_BYTES_MAX:
            raise JournalError(
                f"batch {header.kind}: {len(entry)} bytes of header (limit {ENTRY_BYTES_MAX}), "
                f"{len(batch.payload)} of payload (limit {PAYLOAD_BYTES_MAX})"
            )
        if hashlib.sha256(batch.payload).hexdigest() != header.payload_sha256:
            raise JournalError(f"batch {header.kind}: the payload is not the one its header names")
        with self._state:
            self._check_writable()
            for known in self._catalogue.of_leaf(leaf):
                if self._tree.node(0, known) == leaf:
                    return known
            if self._pending_bytes + len(batch.payload) > PENDING_BYTES_MAX:
                raise JournalError(f"more than {PENDING_BYTES_MAX} bytes wait for a commit; commit first")
            bad = [c for c in header.causes if not 0 <= c < len(self)]
            if bad:
                raise JournalError(f"batch {header.kind}: cause {bad[0]} is not on record before it")
            self._catalogue.extend([entry])
            self._pending.append((entry, batch))
            self._pending_bytes += len(batch.payload)
            return self._tree.append(leaf)

    @contextmanager
    def together(self) -> Iterator[None]:
        """What is appended within is made final by one commit: one that begins meanwhile waits, or leaves it out."""
        with self._state:
            yield

    def commit(self, known_at: int) -> Checkpoint:
        """Make everything appended before this call durable, and sign for it.

        Parameters
        ----------
        known_at : time of the commit, seconds since the epoch; no entry of the group may be known
            later than this (see `time`).

        Returns
        -------
        The newest checkpoint: a new one, or the last one where nothing was appended.

        Raises
        ------
        JournalError : read-only, an entry from the future, or the disk refused. After a refusal nothing of the group
            is final, and the journal must be opened again.
        """
        with self._committing:
            with self._state:
                self._check_writable()
                group, size, root = self._pending[:], len(self._tree), self._tree.root()
                first = size - len(group)
            for index, (_, batch) in enumerate(group, first):
                if batch.header.known_at > known_at:
                    raise JournalError(
                        f"entry {index} became known at {batch.header.known_at}, after its commit at {known_at}"
                    )
            if not group:
                return self.checkpoint
            try:
                payloads = self._payloads.append([batch.payload for _, batch in group])
                log = self._log.append([entry for entry, _ in group])
                self._storage.sync_all([payloads, log])
                self._sign(size, root)
            except BaseException as error:
                self.close()
                if isinstance(error, OSError):
                    raise JournalError(f"{self._folder}: {error.strerror}; open the journal again") from error
                raise
            with self._state:
                del self._pending[: len(group)]
                self._pending_bytes -= sum(len(batch.payload) for _, batch in group)
            return self.checkpoint

    def _sign(self, size: int, root: bytes) -> None:
        assert self._signer is not None
        self._checkpoints.append(Checkpoint.signed_by(self._signer, size, root))

    def time(self, clock: int) -> int:
        """What to write as the time of now: the clock's, or the latest on record where the clock has run behind it.

        So a clock that is set back does not stop the journal, and times on record do not run backwards. A clock that
        jumps ahead is the caller's to refuse: what it writes would hold the record at that time.

        Parameters
        ----------
        clock : reading of the clock, seconds since the epoch.
        """
        with self._state:
            return max(clock, self._catalogue.latest_known_at)

    def _check_writable(self) -> None:
        if self._signer is None:
            raise JournalError(f"{self._folder} is open for reading only")
        if self._closed:
            raise JournalError(f"{self._folder} is closed")

    # Reading

    @property
    def checkpoint(self) -> Checkpoint:
        """The newest checkpoint."""
        assert self._checkpoints.newest is not None
        return self._checkpoints.newest

    @property
    def checkpoints(self) -> Sequence[Checkpoint]:
        """Every checkpoint, oldest first; each is read, and its signature verified, when it is asked for."""
        return self._checkpoints

    @property
    def tree(self) -> MerkleTree:
        """The tree over the entries, appended ones included: for proofs and tiles; only the journal adds to it."""
        return self._tree

    @property
    def folder(self) -> Path:
        """Where its files lie."""
        return self._folder

    def __len__(self) -> int:
        return len(self._tree)

    def entries(self) -> Sequence[Header]:
        """Headers in the order of the log, so that position is index; appended ones included.

        The sequence is as long as the log is now; a header is read when it is asked for.
        """
        return _Entries(self, len(self))

    def entry(self, index: int) -> Header:
        """Header of one entry.

        Raises
        ------
        JournalError : no such entry, or it is unreadable.
        """
        with self._state:
            header = self._headers.get(index)
            if header is not None:
                return header
            pending = self._pending_at(index)
            if pending is not None:
                return pending[1].header
            header = Header.from_bytes(self.entry_bytes(index))
            self._headers[index] = header
            if len(self._headers) > HEADERS_CACHED_MAX:
                del self._headers[next(iter(self._headers))]
            return header

    def entry_bytes(self, index: int) -> bytes:
        """The log entry itself: the canonical JSON of its header.

        Raises
        ------
        JournalError : no such entry, or the stored bytes are not those that were signed for.
        """
        with self._state:
            pending = self._pending_at(index)
            entry = pending[0] if pending is not None else self._log.read(index)
            if entry_hash(entry) != self._tree.node(0, index):
                raise JournalError(f"corruption: entry {index} of {self._folder} is not the one that was signed for")
            return entry

    def payload(self, index: int) -> bytes:
        """Payload bytes of an entry.

        Raises
        ------
        JournalError : no such entry, its rows have gone to the archive (which is named), or the stored bytes are not
            those the entry names.
        """
        with self._state:
            header = self.entry(index)
            pending = self._pending_at(index)
            data = pending[1].payload if pending is not None else self._payloads.read(index)
        if Stub.is_stub(data):
            raise JournalError(f"entry {index} is compacted: {Stub.from_bytes(data).file}")
        if hashlib.sha256(data).hexdigest() != header.payload_sha256:
            raise JournalError(f"corruption: payload {index} of {self._folder} is not the one its entry names")
        return data

    def _pending_at(self, index: int) -> tuple[bytes, SealedBatch] | None:
        self._check_index(index)
        committed = len(self) - len(self._pending)
        return self._pending[index - committed] if index >= committed else None

    def _check_index(self, index: int) -> None:
        if not 0 <= index < len(self):
            raise JournalError(f"the journal has entries 0 to {len(self) - 1}, not {index}")

    def find(
        self,
        kind: str | None = None,
        market: str | None = None,
        interval: int | None = None,
        name: str | None = None,
        *,
        since: int = 0,
    ) -> list[int]:
        """Indices, from `since` on, of the entries that match every given field, in the order of the log."""
        with self._state:
            found = self._catalogue.candidates(kind, market, interval, name, since)
            return found if name is None else [index for index in found if self.entry(index).name == name]

    def submission(self, source: str, name: str) -> list[int]:
        """Indices of the entries that a source handed in under a name; empty where it did not."""
        with self._state:
            headers = ((index, self.entry(index)) for index in self._catalogue.of_submission(source, name))
            return [index for index, header in headers if header.source == source and header.name == name]

    # Proving

    def receipt(self, index: int, at: Checkpoint | None = None) -> str:
        """Proof that an entry is on record (C2SP tlog-proof), under a checkpoint of this log, else the newest.

        It proves the entry's bytes, `Header.to_bytes`, to whoever knows the operator's key.

        Raises
        ------
        JournalError : the entry is not committed; a receipt is final and comes after durability.
        """
        return self._proof(index, None, at or self.checkpoint)

    def receipts(self, indices: Iterable[int]) -> list[str]:
        """Receipts of several entries, all under one checkpoint.

        Raises
        ------
        JournalError : one of them is not committed.
        """
        checkpoint = self.checkpoint
        return [self._proof(index, None, checkpoint) for index in indices]

    def row_receipt(self, index: int, row: int, leaves: list[bytes] | None = None, at: Checkpoint | None = None) -> str:
        """Proof that one row is on record, complete but for the row and its salt.

        `leaves` are the leaf hashes of the entry's rows where the payload does not hold them: of a live batch from
        the vault, of a compacted one from the archive.

        A tlog-proof whose ``extra`` line carries, in base64, the inner proof::

            tellegen-row-proof@v1
            row NUMBER
            rows COUNT
            HASH                 base64, one per line, from the row's sibling upwards

            HEADER               the log entry: canonical JSON

        The row's leaf hash is SHA-256(0x00 || salt || canonical row bytes); its owner gets the salt
        from the vault.

        Raises
        ------
        JournalError : not committed, no such row, or the leaves are not those of the entry's rows.
        """
        header = self.entry(index)
        if not 0 <= row < header.rows:
            raise JournalError(f"entry {index} has rows 0 to {header.rows - 1}, not {row}")
        if leaves is None:
            data = self.payload(index)
            if LivePayload.is_live(data):
                raise JournalError(f"entry {index} is live: its row hashes come from the vault")
            leaves = Payload.from_bytes(data).hash_list()
        inner = MerkleTree(leaves)
        if inner.root().hex() != header.row_root:
            raise JournalError(f"entry {index}: the row hashes do not rebuild its row root")
        lines = [ROW_PROOF_MAGIC, f"row {row}", f"rows {header.rows}"]
        lines += [base64.b64encode(node).decode() for node in inner.inclusion_proof(row)]
        extra = "\n".join([*lines, "", header.to_bytes().decode(), ""])
        return self._proof(index, extra.encode(), at or self.checkpoint)

    def _proof(self, index: int, extra: bytes | None, checkpoint: Checkpoint) -> str:
        self._check_index(index)
        if index >= checkpoint.size or checkpoint.size > self.checkpoint.size:
            raise JournalError(f"entry {index} is not committed; receipts come after durability")
        lines = [PROOF_MAGIC]
        if extra is not None:
            lines.append(f"extra {base64.b64encode(extra).decode()}")
        lines.append(f"index {index}")
        lines += [base64.b64encode(n).decode() for n in self._tree.inclusion_proof(index, checkpoint.size)]
        return "\n".join([*lines, "", checkpoint.note])


class _Entries(Sequence[Header]):
    """The first `count` headers of a journal, parsed as they are asked for."""

    def __init__(self, journal: Journal, count: int) -> None:
        self._journal, self._count = journal, count

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, at: int) -> Header: ...
    @overload
    def __getitem__(self, at: slice) -> list[Header]: ...
    def __getitem__(self, at: int | slice) -> Header | list[Header]:
        numbers = range(self._count)[at]
        return self._journal.entry(numbers) if isinstance(numbers, int) else [self._journal.entry(k) for k in numbers]

    def __iter__(self) -> Iterator[Header]:
        return (self._journal.entry(k) for k in range(self._count))


def read_verifier(storage: Storage, folder: Path) -> NoteVerifier:
    """The operator's verifier key, from a journal's folder.

    Raises
    ------
    InputError : it cannot be read.
    JournalError : it is damaged.
    """
    path = folder / "operator.pub"
    try:
        text = read_file(storage, path).decode("ascii")
    except (OSError, UnicodeDecodeError):
        raise InputError(folder, "operator.pub", "cannot be read; is this the directory of a run?") from None
    if not text.endswith("\n"):
        raise JournalError(f"corruption: {path}: is cut short")
    try:
        return NoteVerifier.parse(text[:-1])
    except JournalError as error:
        raise JournalError(f"corruption: {path}: {error}") from None
