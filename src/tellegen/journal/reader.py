"""Reading a journal: entries, payloads, what is found by kind and time, and receipts that prove it.

What is read is held against what was signed for: an entry against the tree, a payload against its entry.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, pairwise
from pathlib import Path
from typing import overload

from tellegen.journal.catalogue import CLOCKS, Sought, raw_text, submission_key
from tellegen.journal.checkpoints import Checkpoint
from tellegen.journal.files import JournalFiles
from tellegen.journal.index import JournalIndex
from tellegen.journal.merkle import MerkleTree, entry_hash
from tellegen.journal.note import JournalError
from tellegen.journal.payload import LivePayload, Payload, Stub
from tellegen.journal.receipts import proof, row_proof
from tellegen.records import Header, SealedBatch

HEADERS_CACHED_MAX = 8192
"""Headers kept in memory: those of a day of a feeder, which is read in several passes."""


class JournalReader:
    """What an open journal answers; `journal.Journal` is how to get one."""

    def __init__(self, files: JournalFiles) -> None:
        self._files, self.verifier = files, files.verifier
        self._headers: dict[int, Header] = {}  # the latest asked for, and written
        self._stored_last: tuple[int, bytes] = (-1, b"")
        self._pending: list[tuple[bytes, SealedBatch]] = []  # entries of the writer, with their batches, not committed

    @property
    def checkpoint(self) -> Checkpoint:
        """The newest checkpoint."""
        return self._files.newest

    @property
    def checkpoints(self) -> Sequence[Checkpoint]:
        """Every checkpoint, oldest first; each is read, and its signature verified, when it is asked for."""
        return self._files.checkpoints

    @property
    def tree(self) -> MerkleTree:
        """The tree over the entries, appended ones included: for proofs and tiles; only the journal adds to it."""
        return self._files.tree

    @property
    def index(self) -> JournalIndex:
        """Its index, for who moves payloads or repairs the journal; only the journal adds to it."""
        return self._files.index

    @property
    def folder(self) -> Path:
        """Where its files lie."""
        return self._files.folder

    def __len__(self) -> int:
        return len(self._files.tree)

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
        with self._files.lock:
            header = self._headers.get(index)
            if header is not None:
                return header
            pending = self._pending_at(index)
            if pending is not None:
                return pending[1].header
            header = Header.from_bytes(self.entry_bytes(index))
            self._keep(index, header)
            return header

    def _keep(self, index: int, header: Header) -> None:
        self._headers[index] = header
        if len(self._headers) > HEADERS_CACHED_MAX:
            del self._headers[next(iter(self._headers))]

    def entry_bytes(self, index: int) -> bytes:
        """The log entry itself: the canonical JSON of its header.

        Raises
        ------
        JournalError : no such entry, or the stored bytes are not those that were signed for.
        """
        with self._files.lock:
            pending = self._pending_at(index)
            entry = pending[0] if pending is not None else self._files.log.read(index)
            if entry_hash(entry) != self._files.tree.node(0, index):
                raise JournalError(
                    f"corruption: entry {index} of {self._files.folder} is not the one that was signed for"
                )
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
            raise JournalError(f"corruption: payload {index} of {self._files.folder} is not the one its entry names")
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
        with self._files.lock:
            pending = self._pending_at(index)
            if pending is not None:
                return pending[1].payload
            if self._stored_last[0] != index:  # who asks where rows lie mostly asks for them next
                self._stored_last = index, self._files.payloads.read(index)
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
        with self._files.lock:
            found = self._files.index.candidates(sought, since) + self._files.catalogue.candidates(sought, since)
            return found if name is None else [index for index in found if self.entry(index).name == name]

    def present(self, kinds: Iterable[str], *, since: int) -> list[str]:
        """Those of some kinds of which entries from `since` on there are, or near it where that is long ago."""
        with self._files.lock:
            texts = self._files.index.kinds(since) | self._files.catalogue.kinds(since)
        return [kind for kind in kinds if raw_text(kind) in texts]

    def latest(
        self, kind: str, market: str | None = None, interval: int | None = None, name: str | None = None, count: int = 1
    ) -> list[int]:
        """Up to `count` newest entries that match, the newest first, as far back as one must look for them."""
        sought, found = Sought.of(kind, market, interval, name), list[int]()
        with self._files.lock:
            newest = reversed(self._files.catalogue.candidates(sought, 0))
            for index in chain(newest, self._files.index.descending(sought)):
                if len(found) == count:
                    break
                if name is None or self.entry(index).name == name:
                    found.append(index)
        return found

    def submission(self, source: str, name: str, *, since: int = 0) -> list[int]:
        """Indices, from `since` on, of the entries that a source handed in under a name; empty where it did not."""
        key = submission_key(source, name)
        with self._files.lock:
            found = self._files.index.of_submission(key, since) + self._files.catalogue.of_submission(key)
            headers = ((index, self.entry(index)) for index in found if index >= since)
            return [index for index, header in headers if header.source == source and header.name == name]

    def known_at(self, index: int) -> int:
        """When an entry became known, seconds since the epoch, without reading its header.

        Raises
        ------
        JournalError : no such entry.
        """
        with self._files.lock:
            self._check_index(index)
            return (self._files.index.time_of if index < self._files.index.stop else self._files.catalogue.known_at)(
                index
            )

    def first_at(self, time: int) -> int:
        """The first entry from which on everything became known at `time` or later; the number of entries if none did.

        Times on record rise, but where an operator has set the clock right (`records.Clocks`): what was recorded under
        the wrong clock then lies before whatever comes after.
        """
        with self._files.lock:
            found = self._files.catalogue.first_at(time)
            return found if found > self._files.catalogue.first else self._files.index.first_at(time)

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
        return tuple(self._files.index.notices)

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
        with self._files.lock:  # a refresh takes in the checkpoint first, and then its entries
            nodes = self._files.tree.inclusion_proof(index, checkpoint.size)
        return proof(index, nodes, checkpoint, extra)


class _Entries(Sequence[Header]):
    """The first `count` headers of a journal, parsed as they are asked for."""

    def __init__(self, journal: JournalReader, count: int) -> None:
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
