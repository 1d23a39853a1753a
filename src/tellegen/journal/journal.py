"""The journal of one shard: batches in, receipts out, nothing ever edited (laws 3, 5 and 6).

Files, all under ``journal/``:

=================  ================================================================================
``log/*.seg``      frames of entries: the canonical header of one batch each
``payloads/*.seg`` frames of payloads, in the order of the entries
``checkpoints``    every checkpoint ever signed, one after the other (C2SP tlog-checkpoint)
``checkpoint``     a copy of the newest of them
``operator.pub``   the verifier key of the checkpoints
``cosigned``       the newest checkpoint with the signatures of witnesses, where there are any
``elsewhere``      who is asked before anything is signed, where somebody is
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
7. A back-up that is restored would sign the sizes behind it again. Who is set up to be asked (`elsewhere`) knows every
   checkpoint before it is shown to anybody, and the journal is not opened for writing below what they know.

Threads: any may append and read while one commits; commits take turns. What is appended during a commit belongs to the
next.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

from tellegen.journal.checkpoints import Checkpoint
from tellegen.journal.elsewhere import Elsewhere, Plan, post_to_witness
from tellegen.journal.files import ENTRY_BYTES_MAX, SEGMENT_BYTES_MAX, JournalFiles, read_verifier
from tellegen.journal.merkle import entry_hash
from tellegen.journal.note import JournalError, NoteSigner, Signer
from tellegen.journal.payload import PAYLOAD_BYTES_MAX
from tellegen.journal.reader import JournalReader
from tellegen.journal.storage import FILES, Storage, replace_file
from tellegen.journal.stretch import STRETCH_HEIGHT
from tellegen.records import Clocks, SealedBatch

PENDING_BYTES_MAX = 1 << 29


class Journal(JournalReader):
    """Append-only log of batches with one writer; `create` and `open` are the ways to get one."""

    def __init__(self, files: JournalFiles, signer: NoteSigner | None) -> None:
        super().__init__(files)
        self._signer = signer
        self._pending_bytes = 0
        self._committing = threading.Lock()

    @classmethod
    def create(
        cls,
        path: Path | str,
        origin: str,
        signing_key: bytes | Signer,
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
        signing_key : 32-byte Ed25519 seed, or whoever signs with it.

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
            files = JournalFiles(storage, folder, signer.verifier, signer, segment_bytes_max, stretch_height)
            try:
                files.sign(0, files.tree.root())
            except BaseException:
                files.close()
                raise
        except OSError as error:
            raise JournalError(
                f"{folder}: {error.strerror}; nothing is on record, remove it and begin again"
            ) from error
        return cls(files, signer)

    @classmethod
    def open(
        cls,
        path: Path | str,
        signing_key: bytes | Signer | None = None,
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
        plan = None if signer is None else Plan.of(folder, storage)
        elsewhere = None if plan is None else Elsewhere(plan, verifier, post_to_witness)
        try:
            files = JournalFiles(storage, folder, verifier, signer, segment_bytes_max, stretch_height, elsewhere)
            try:
                files.load()
            except BaseException:
                files.close()
                raise
        except OSError as error:
            raise JournalError(f"{folder}: {error.strerror}") from error
        return cls(files, signer)

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Release the files. What was appended and not committed is gone, as after a crash."""
        self._files.close()

    def refresh(self) -> int:
        """For a reader: take in what the writer has committed since; returns the number of entries there are.

        Raises
        ------
        JournalError : closed, corruption, or the disk refused; then the journal must be opened again.
        """
        files = self._files
        with files.lock:
            if files.closed:
                raise JournalError(f"{files.folder} is closed")
            try:
                if self._signer is None:
                    files.catch_up()
            except BaseException as error:
                self.close()
                if isinstance(error, OSError):
                    raise JournalError(f"{files.folder}: {error.strerror}") from error
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
        with self._files.lock:
            self._check_writable()
            for known in (*self._files.index.of_leaf(leaf, header.known_at), *self._files.catalogue.of_leaf(leaf)):
                if self._files.tree.node(0, known) == leaf:
                    return known
            if header.known_at < self._files.catalogue.latest_known_at and header.kind != Clocks.kind:
                raise JournalError(
                    f"batch {header.kind}: became known at {header.known_at}, before the newest entry "
                    f"({self._files.catalogue.latest_known_at}); times on record do not run back"
                )
            if self._pending_bytes + len(batch.payload) > PENDING_BYTES_MAX:
                raise JournalError(f"more than {PENDING_BYTES_MAX} bytes wait for a commit; commit first")
            bad = [c for c in header.causes if not 0 <= c < len(self)]
            if bad:
                raise JournalError(f"batch {header.kind}: cause {bad[0]} is not on record before it")
            self._files.catalogue.extend([entry])
            self._pending.append((entry, batch))
            self._pending_bytes += len(batch.payload)
            return self._files.tree.append(leaf)

    @contextmanager
    def together(self) -> Iterator[None]:
        """What is appended within is made final by one commit: one that begins meanwhile waits, or leaves it out."""
        with self._files.lock:
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
            with self._files.lock:
                self._check_writable()
                group, size, root = self._pending[:], len(self._files.tree), self._files.tree.root()
                first = size - len(group)
            for index, (_, batch) in enumerate(group, first):
                if batch.header.known_at > known_at:
                    raise JournalError(
                        f"entry {index} became known at {batch.header.known_at}, after its commit at {known_at}"
                    )
            if not group:
                return self.checkpoint
            try:
                payloads = self._files.payloads.append([batch.payload for _, batch in group])
                log = self._files.log.append([entry for entry, _ in group])
                self._files.storage.sync_all([payloads, log])
                self._files.sign(size, root)
            except BaseException as error:
                self.close()
                if isinstance(error, OSError):
                    raise JournalError(f"{self._files.folder}: {error.strerror}; open the journal again") from error
                raise
            with self._files.lock:
                for index, (_, batch) in enumerate(group, first):
                    self._keep(index, batch.header)
                del self._pending[: len(group)]
                self._pending_bytes -= sum(len(batch.payload) for _, batch in group)
            self._files.seal()
            return self.checkpoint

    def time(self, clock: int) -> int:
        """What to write as the time of now: the clock's, or the latest on record where the clock has run behind it.

        So a clock that is set back does not stop the journal, and times on record do not run backwards. A clock that
        jumps ahead is the caller's to refuse: what it writes would hold the record at that time.

        Parameters
        ----------
        clock : reading of the clock, seconds since the epoch.
        """
        with self._files.lock:
            return max(clock, self._files.catalogue.latest_known_at)

    def _check_writable(self) -> None:
        if self._signer is None:
            raise JournalError(f"{self._files.folder} is open for reading only")
        if self._files.closed:
            raise JournalError(f"{self._files.folder} is closed")
