"""The journal of one shard: batches in, receipts out, nothing ever edited (laws 3, 5 and 6).

Files, all under ``journal/``:

=================  ================================================================================
``log/*.seg``      frames of entries: the canonical header of one batch each
``payloads/*.seg`` frames of payloads, in the order of the entries
``checkpoints``    every checkpoint ever signed, one after the other (C2SP tlog-checkpoint)
``checkpoint``     a copy of the newest of them
``operator.pub``   the verifier key of the checkpoints
``index/*.idx``    what stands where in the log, so that opening reads its newest part only (`stretch`): derived
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

import hashlib
import threading
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import chain, pairwise
from pathlib import Path
from types import TracebackType
from typing import overload

from tellegen.errors import InputError
from tellegen.journal.catalogue import CLOCKS, Catalogue, Sought, submission_key
from tellegen.journal.checkpoints import Checkpoint, CheckpointFile, size_of
from tellegen.journal.index import JournalIndex, Source, stretch_of
from tellegen.journal.merkle import MerkleTree, entry_hash
from tellegen.journal.note import JournalError, NoteSigner, NoteVerifier
from tellegen.journal.payload import PAYLOAD_BYTES_MAX, LivePayload, Payload, Stub
from tellegen.journal.receipts import proof, row_proof
from tellegen.journal.segments import Segments
from tellegen.journal.storage import FILES, Storage, read_file, replace_file
from tellegen.journal.stretch import STRETCH_HEIGHT, Head
from tellegen.records import Clocks, Header, RecordError, SealedBatch

ENTRY_BYTES_MAX = 65_535  # what a C2SP entry bundle can hold
PENDING_BYTES_MAX = 1 << 29
SEGMENT_BYTES_MAX = 1 << 28
HEADERS_CACHED_MAX = 8192  # a fold asks for the headers of some thousand entries, then for their rows


class Journal:
    """Append-only log of batches with one writer.

    Parameters are those of `create` and `open`, which are the ways to get one.
    """

    def __init__(
        self,
        storage: Storage,
        folder: Path,
        verifier: NoteVerifier,
        signer: NoteSigner | None,
        segment_bytes_max: int,
        stretch_height: int,
    ) -> None:
        self._storage, self._folder, self.verifier, self._signer = storage, folder, verifier, signer
        self._segment_bytes_max = segment_bytes_max
        self._log, self._payloads = self._segments("log"), self._segments("payloads")
        self._tree, self._catalogue = MerkleTree(), Catalogue()
        self._headers: dict[int, Header] = {}  # the latest asked for
        self._stored_last: tuple[int, bytes] = (-1, b"")
        self._pending: list[tuple[bytes, SealedBatch]] = []  # entries, with their batches, not yet committed
        self._pending_bytes = 0
        self._closed = False
        self._state, self._committing = threading.RLock(), threading.Lock()
        self._checkpoints = CheckpointFile(storage, folder, verifier)
        source = Source(lambda: self._segments("log"), lambda: self._segments("payloads"), self._checkpoints.covering)
        self._index = JournalIndex(storage, folder / "index", stretch_height, source, writable=signer is not None)
        if signer is not None:
            self._checkpoints.lock()

    def _segments(self, part: str) -> Segments:
        frame_bytes_max = ENTRY_BYTES_MAX if part == "log" else PAYLOAD_BYTES_MAX
        return Segments(self._storage, self._folder / part, self._segment_bytes_max, frame_bytes_max)

    @classmethod
    def create(
        cls,
        path: Path | str,
        origin: str,
        signing_key: bytes,
        *,
        segment_bytes_max: int = SEGMENT_BYTES_MAX,
        stretch_height: int = STRETCH_HEIGHT,
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
            journal = cls(storage, folder, signer.verifier, signer, segment_bytes_max, stretch_height)
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
        stretch_height: int = STRETCH_HEIGHT,
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
            journal = cls(storage, folder, verifier, signer, segment_bytes_max, stretch_height)
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
        if self._begin_with_index(copy):
            try:
                self._load_rest(copy)
            except JournalError as error:
                self._index.notices.append(f"{self._folder / 'index'}: does not fit ({error}); all of the log is read")
                self._begin(None)
                self._load_rest(copy)
        else:
            self._load_rest(copy)
        if self._signer is not None:
            self._log.cut()
            self._payloads.cut()
            self._checkpoints.recover()
            if self._checkpoints.newest is None:
                self._sign(0, self._tree.root())
            self._index.tidy()
            self._seal()

    def _begin_with_index(self, copy: bytes) -> bool:
        """Take up behind the newest stretch whose checkpoint stands where it says, and may be believed."""
        believed = None if self._signer is not None else size_of(copy)
        for head in self._index.found():
            if (believed is None or head.noted.size <= believed) and self._checkpoints.begin_at(head.noted):
                self._begin(head)
                return True
        return False

    def _begin(self, head: Head | None) -> None:
        self._index.begin_at(head)
        self._tree, self._catalogue = MerkleTree(), Catalogue()
        if head is not None:
            self._tree = MerkleTree.behind(head.stop, head.peaks, self._index.node)
            self._catalogue = Catalogue(head.stop, head.known_at)
        self._log.begin_at(self._index.stop, (0, 0) if head is None else head.log, self._index.log_place)
        self._payloads.begin_at(self._index.stop, (0, 0) if head is None else head.payload, self._index.payload_place)
        self._checkpoints.begin_at(None if head is None else head.noted)

    def _load_rest(self, copy: bytes) -> None:
        verified = self._checkpoints.load(None if self._signer is not None else copy)
        self._checkpoints.check_copy(copy)
        if self._checkpoints.newest is None and (self._signer is None or self._storage.names(self._folder / "log")):
            raise JournalError(f"corruption: {self._folder} has no checkpoint; it is signed from its creation on")
        self._take_in(verified)

    def _seal(self) -> None:
        """Write the stretches that are full and signed for, and hold them in memory no longer.

        What the disk does not take stays in memory, and is tried again: nothing rests on these files.
        """
        height, sealed = self._index.height, list[Head]()
        while True:
            before = sealed[-1] if sealed else self._index.newest
            number = 0 if before is None else before.number + 1
            stop = (number + 1) << height
            if stop > self.checkpoint.size:
                break
            with self._state:
                parts = (self._catalogue, self._tree, self._log, self._payloads)
                stretch = stretch_of(height, number, before, *parts, self._checkpoints.covering(stop))
            try:
                self._index.write(stretch)
            except OSError as error:
                self._index.notices.append(f"{self._folder / 'index'}: cannot be written ({error.strerror})")
                break
            sealed.append(stretch[0])
        if sealed:
            with self._state:
                for head in sealed:
                    self._index.add(head)
                before_all = self._index.stop
                self._tree.forget(before_all, self._index.node)
                self._catalogue.forget(before_all)
                self._log.forget(before_all, self._index.log_place)
                self._payloads.forget(before_all, self._index.payload_place)

    def _take_in(self, verified: Sequence[Checkpoint]) -> None:
        """Take in what new checkpoints cover, and hold it against their roots."""
        size = verified[-1].size if verified else 0
        try:
            self._tree.extend(self._catalogue.extend(self._log.scan(size)))
        except RecordError as error:
            raise JournalError(f"corruption: entry {len(self._catalogue)} of {self._folder}: {error}") from None
        self._payloads.skim(size)
        for checkpoint in verified:
            if self._tree.root(checkpoint.size) != checkpoint.root:
                raise JournalError(
                    f"corruption: the entries of {self._folder} do not have the root signed at size {checkpoint.size}"
                )

    def refresh(self) -> int:
        """For a reader: take in what the writer has committed since; returns the number of entries there are.

        Raises
        ------
        JournalError : closed, corruption, or the disk refused; then the journal must be opened again.
        """
        with self._state:
            if self._closed:
                raise JournalError(f"{self._folder} is closed")
            try:
                if self._signer is None:
                    self._take_in(self._checkpoints.load(self._checkpoints.copy()))
            except BaseException as error:
                self.close()
                if isinstance(error, OSError):
                    raise JournalError(f"{self._folder}: {error.strerror}") from error
                raise
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
            for known in (*self._index.of_leaf(leaf, header.known_at), *self._catalogue.of_leaf(leaf)):
                if self._tree.node(0, known) == leaf:
                    return known
            if header.known_at < self._catalogue.latest_known_at and header.kind != Clocks.kind:
                raise JournalError(
                    f"batch {header.kind}: became known at {header.known_at}, before the newest entry "
                    f"({self._catalogue.latest_known_at}); times on record do not run back"
                )
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
            self._seal()
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
    def index(self) -> JournalIndex:
        """Its index, for who moves payloads or repairs the journal; only the journal adds to it."""
        return self._index

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
        header, data = self.entry(index), self._stored(index)
        if Stub.is_stub(data):
            raise JournalError(f"entry {index} is compacted: its rows are in {Stub.from_bytes(data).file}")
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

    def archive_file(self, index: int) -> str | None:
        """File to which an entry's rows have gone, from the directory of the journal; None where the payload is here.

        Raises
        ------
        JournalError : no such entry, or what stands in the payload's place is damaged.
        """
        data = self._stored(index)
        return Stub.from_bytes(data).file if Stub.is_stub(data) else None

    def _stored(self, index: int) -> bytes:
        with self._state:
            pending = self._pending_at(index)
            if pending is not None:
                return pending[1].payload
            if self._stored_last[0] != index:  # who asks where rows lie mostly asks for them next
                self._stored_last = index, self._payloads.read(index)
            return self._stored_last[1]

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
        sought = Sought.of(kind, market, interval, name)
        with self._state:
            found = self._index.candidates(sought, since) + self._catalogue.candidates(sought, since)
            return found if name is None else [index for index in found if self.entry(index).name == name]

    def latest(
        self, kind: str, market: str | None = None, interval: int | None = None, name: str | None = None, count: int = 1
    ) -> list[int]:
        """Up to `count` newest entries that match, the newest first, as far back as one must look for them."""
        sought, found = Sought.of(kind, market, interval, name), list[int]()
        with self._state:
            newest = reversed(self._catalogue.candidates(sought, 0))
            for index in chain(newest, self._index.descending(sought)):
                if len(found) == count:
                    break
                if name is None or self.entry(index).name == name:
                    found.append(index)
        return found

    def submission(self, source: str, name: str, *, since: int = 0) -> list[int]:
        """Indices, from `since` on, of the entries that a source handed in under a name; empty where it did not."""
        key = submission_key(source, name)
        with self._state:
            found = self._index.of_submission(key, since) + self._catalogue.of_submission(key)
            headers = ((index, self.entry(index)) for index in found if index >= since)
            return [index for index, header in headers if header.source == source and header.name == name]

    def known_at(self, index: int) -> int:
        """When an entry became known, seconds since the epoch, without reading its header.

        Raises
        ------
        JournalError : no such entry.
        """
        with self._state:
            self._check_index(index)
            return (self._index.time_of if index < self._index.stop else self._catalogue.known_at)(index)

    def first_at(self, time: int) -> int:
        """The first entry from which on everything became known at `time` or later; the number of entries if none did.

        Times on record rise, but where an operator has set the clock right (`records.Clocks`): what was recorded under
        the wrong clock then lies before whatever comes after.
        """
        with self._state:
            found = self._catalogue.first_at(time)
            return found if found > self._catalogue.first else self._index.first_at(time)

    def earliest_at(self, time: int) -> int:
        """The first entry that became known at `time` or later; the number of entries if none did.

        Nothing before it did, under whatever clock: where something cannot have been recorded sooner, it is here or
        behind. Under times that only rise that is `first_at`.
        """
        for begin, end in pairwise((0, *self.find(kind=CLOCKS.decode()))):
            found = begin + bisect_left(range(begin, end), time, key=self.known_at)
            if found < end:
                return found
        return self.first_at(time)

    @property
    def notices(self) -> tuple[str, ...]:
        """What was found missing or damaged in the index, and made again or done without, one line each."""
        return tuple(self._index.notices)

    # Proving

    def receipt(self, index: int, at: Checkpoint | None = None) -> str:
        """Proof that an entry is on record (C2SP tlog-proof), under a checkpoint of this log, else the newest.

        It proves the entry's bytes, `Header.to_bytes`, to whoever knows the operator's key, and carries them in its
        ``extra`` line, so that it can be checked by itself.

        Raises
        ------
        JournalError : the entry is not committed; a receipt is final and comes after durability.
        """
        return self._proof(index, self.entry_bytes(index), at or self.checkpoint)

    def receipts(self, indices: Iterable[int]) -> list[str]:
        """Receipts of several entries, all under one checkpoint.

        Raises
        ------
        JournalError : one of them is not committed.
        """
        checkpoint = self.checkpoint
        return [self._proof(index, self.entry_bytes(index), checkpoint) for index in indices]

    def row_receipt(self, index: int, row: int, leaves: list[bytes] | None = None, at: Checkpoint | None = None) -> str:
        """Proof that one row is on record, complete but for the row and its salt.

        `leaves` are the leaf hashes of the entry's rows where the payload does not hold them: of a live batch from
        the vault, of a compacted one from the archive.

        The form is that of `receipts.row_proof`, in the ``extra`` line of a tlog-proof.

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
        return self._proof(index, row_proof(index, header, row, leaves), at or self.checkpoint)

    def _proof(self, index: int, extra: bytes, checkpoint: Checkpoint) -> str:
        self._check_index(index)
        if index >= checkpoint.size or checkpoint.size > self.checkpoint.size:
            raise JournalError(f"entry {index} is not committed; receipts come after durability")
        with self._state:  # a refresh takes in the checkpoint first, and then its entries
            nodes = self._tree.inclusion_proof(index, checkpoint.size)
        return proof(index, nodes, checkpoint, extra)


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
