"""The journal of one shard: batches in, receipts out, nothing ever edited (laws 3, 5 and 6).

Files, all under ``journal/``:

=================  ================================================================================
``log/*.seg``      frames of entries: the canonical header of one batch each
``payloads/*.seg`` frames of payloads, in the order of the entries
``checkpoints``    every checkpoint ever signed, one after the other (C2SP tlog-checkpoint)
``checkpoint``     the newest of them
``operator.pub``   the verifier key of the checkpoints
=================  ================================================================================

A commit makes payloads durable, then the log, then signs; only then is there a receipt. What a
crash leaves behind beyond the last checkpoint was promised to nobody: whole entries are kept, a torn
tail is cut off. Damage below the last checkpoint is never repaired in silence.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import TracebackType

from tellegen.errors import InputError
from tellegen.journal.checkpoints import Checkpoint, CheckpointFile
from tellegen.journal.merkle import MerkleTree, entry_hash
from tellegen.journal.note import JournalError, NoteSigner, NoteVerifier
from tellegen.journal.payload import PAYLOAD_BYTES_MAX, LivePayload, Payload, Stub
from tellegen.journal.segments import Segments, replace_file
from tellegen.records import Header, RecordError, SealedBatch

ENTRY_BYTES_MAX = 65_535  # what a C2SP entry bundle can hold
PENDING_BYTES_MAX = 1 << 29
SEGMENT_BYTES_MAX = 1 << 28

PROOF_MAGIC = "c2sp.org/tlog-proof@v1"
ROW_PROOF_MAGIC = "tellegen-row-proof@v1"


class Journal:
    """Append-only log of batches with one writer.

    Parameters are those of `create` and `open`, which are the ways to get one.
    """

    def __init__(self, folder: Path, verifier: NoteVerifier, signer: NoteSigner | None, segment_bytes_max: int) -> None:
        self._folder, self.verifier, self._signer = folder, verifier, signer
        self._log = Segments(folder / "log", segment_bytes_max, ENTRY_BYTES_MAX)
        self._payloads = Segments(folder / "payloads", segment_bytes_max, PAYLOAD_BYTES_MAX)
        self._tree = MerkleTree()
        self._headers: list[Header] = []
        self._index_of: dict[bytes, int] = {}
        self._by_kind: dict[str, list[int]] = {}
        self._pending: list[tuple[bytes, bytes]] = []  # entries and payloads not yet written
        self._pending_bytes = 0
        self._broken = False
        self._checkpoints = CheckpointFile(folder / "checkpoints", verifier)
        if signer is not None:
            self._checkpoints.lock()

    @classmethod
    def create(
        cls, path: Path | str, origin: str, signing_key: bytes, *, segment_bytes_max: int = SEGMENT_BYTES_MAX
    ) -> Journal:
        """Start a journal under ``path/journal``, with a signed checkpoint of the empty log.

        Parameters
        ----------
        path : directory of the run.
        origin : name of the log, also the name of its key; no spaces, no ``+``.
        signing_key : 32-byte Ed25519 seed.

        Raises
        ------
        JournalError : a journal is there already, or origin or key are malformed.
        """
        signer = NoteSigner(origin, signing_key)
        folder = Path(path) / "journal"
        if folder.exists() and any(folder.iterdir()):
            raise JournalError(f"{folder} is not empty; a journal is never overwritten")
        for part in (folder / "log", folder / "payloads"):
            part.mkdir(parents=True, exist_ok=True)
        replace_file(folder / "operator.pub", (signer.verifier.vkey + "\n").encode())
        journal = cls(folder, signer.verifier, signer, segment_bytes_max)
        journal._sign()
        return journal

    @classmethod
    def open(
        cls, path: Path | str, signing_key: bytes | None = None, *, segment_bytes_max: int = SEGMENT_BYTES_MAX
    ) -> Journal:
        """Open the journal under ``path/journal``; without a key, for reading only.

        With a key, a torn tail that no checkpoint covers is cut off. Without one it is ignored, and
        so are whole entries beyond the last checkpoint.

        Raises
        ------
        InputError : there is no journal.
        JournalError : corruption below the last checkpoint, a key that is not the journal's, or
            another writer.
        """
        folder = Path(path) / "journal"
        try:
            vkey = (folder / "operator.pub").read_text()
        except (OSError, UnicodeDecodeError):
            raise InputError(folder, "operator.pub", "cannot be read; is this the directory of a run?") from None
        verifier = NoteVerifier.parse(vkey.removesuffix("\n"))
        signer = None if signing_key is None else NoteSigner(verifier.name, signing_key)
        if signer is not None and signer.verifier != verifier:
            raise JournalError(f"{folder}: the signing key is not that of operator.pub")
        journal = cls(folder, verifier, signer, segment_bytes_max)
        try:
            journal._load()
        except BaseException:
            journal.close()
            raise
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
        self._broken = True

    # Opening

    def _load(self) -> None:
        signed = self._checkpoints.load()
        covered = signed[-1].size if signed else 0
        self._check_latest(signed)
        for index in range(len(self._log)):
            try:
                entry = self._log.read(index)
                header = Header.from_bytes(entry)
                if index >= covered:
                    self._check_payload(index, header)
            except (JournalError, RecordError) as error:
                if index < covered:
                    raise JournalError(f"corruption: entry {index} of {self._folder}: {error}") from None
                break
            if index >= covered and self._signer is None:
                break
            self._admit(header, entry)
        if len(self._headers) < covered or len(self._payloads) < covered:
            raise JournalError(
                f"corruption: {self._folder} is signed at {covered} entries, but holds {len(self._headers)} entries "
                f"and {len(self._payloads)} payloads"
            )
        for checkpoint in signed:
            if self._tree.root(checkpoint.size) != checkpoint.root:
                raise JournalError(
                    f"corruption: the entries of {self._folder} do not have the root signed at size {checkpoint.size}"
                )
        if self._signer is not None:
            self._repair()

    def _check_latest(self, signed: list[Checkpoint]) -> None:
        path = self._folder / "checkpoint"
        latest = path.read_bytes() if path.exists() else b""
        # a crash may undo the last replacements of `checkpoint`: then it is behind, or, while the
        # journal is being created, not there; ahead it never is
        expected = [c.note.encode() for c in signed] + ([b""] if len(signed) < 2 else [])
        if latest not in expected:
            raise JournalError(f"corruption: {path} is not among {self._folder / 'checkpoints'}")
        if not signed and (self._signer is None or len(self._log) or len(self._payloads)):
            raise JournalError(f"corruption: {self._folder} has no checkpoint; it is signed from its creation on")

    def _check_payload(self, index: int, header: Header) -> None:
        if index >= len(self._payloads):
            raise JournalError("its payload was not written")
        if hashlib.sha256(self._payloads.read(index)).hexdigest() != header.payload_sha256:
            raise JournalError("its payload is not the one it names")

    def _repair(self) -> None:
        count = len(self._headers)
        for part in (self._log, self._payloads):
            if part.torn or len(part) != count:
                part.truncate(count)
        self._checkpoints.repair()
        if not self._checkpoints.signed:
            self._sign()
        else:
            note = self._checkpoints.signed[-1].note.encode()
            path = self._folder / "checkpoint"
            if not path.exists() or path.read_bytes() != note:
                replace_file(path, note)
        (self._folder / "checkpoint.new").unlink(missing_ok=True)

    def _admit(self, header: Header, entry: bytes) -> int:
        index = len(self._headers)
        self._headers.append(header)
        self._index_of[entry] = index
        self._by_kind.setdefault(header.kind, []).append(index)
        self._tree.append(entry_hash(entry))
        return index

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
        self._check_writable()
        entry = batch.header.to_bytes()
        known = self._index_of.get(entry)
        if known is not None:
            return known
        if len(entry) > ENTRY_BYTES_MAX or len(batch.payload) > PAYLOAD_BYTES_MAX:
            raise JournalError(
                f"batch {batch.header.kind}: {len(entry)} bytes of header (limit {ENTRY_BYTES_MAX}), "
                f"{len(batch.payload)} of payload (limit {PAYLOAD_BYTES_MAX})"
            )
        if self._pending_bytes + len(batch.payload) > PENDING_BYTES_MAX:
            raise JournalError(f"more than {PENDING_BYTES_MAX} bytes wait for a commit; commit first")
        if hashlib.sha256(batch.payload).hexdigest() != batch.header.payload_sha256:
            raise JournalError(f"batch {batch.header.kind}: the payload is not the one its header names")
        bad = [c for c in batch.header.causes if not 0 <= c < len(self._headers)]
        if bad:
            raise JournalError(f"batch {batch.header.kind}: cause {bad[0]} is not on record before it")
        self._pending.append((entry, batch.payload))
        self._pending_bytes += len(batch.payload)
        return self._admit(batch.header, entry)

    def commit(self, known_at: int) -> Checkpoint:
        """Make everything appended durable and sign for it.

        Parameters
        ----------
        known_at : time of the commit, seconds since the epoch; no entry of the group may be known
            later than this.

        Returns
        -------
        The newest checkpoint: a new one, or the last one where nothing was appended.

        Raises
        ------
        JournalError : read-only, an entry from the future, or the disk refused. After a refusal the
            journal must be opened again.
        """
        self._check_writable()
        late = [i for i in range(self.checkpoint.size, len(self._headers)) if self._headers[i].known_at > known_at]
        if late:
            raise JournalError(
                f"entry {late[0]} became known at {self._headers[late[0]].known_at}, after its commit at {known_at}"
            )
        if self.checkpoint.size == len(self._headers):
            return self.checkpoint
        try:
            self._payloads.append(payload for _, payload in self._pending)
            self._payloads.sync()
            self._log.append(entry for entry, _ in self._pending)
            self._log.sync()
            self._pending, self._pending_bytes = [], 0
            return self._sign()
        except OSError as error:
            self.close()
            raise JournalError(f"{self._folder}: {error.strerror}; open the journal again") from error

    def _sign(self) -> Checkpoint:
        assert self._signer is not None
        size, root = len(self._headers), self._tree.root()
        checkpoint = Checkpoint.signed_by(self._signer, size, root)
        self._checkpoints.append(checkpoint)
        # the copy for readers is written whole, but its renaming need not outlive a crash
        replace_file(self._folder / "checkpoint", checkpoint.note.encode(), durable=not checkpoint.size)
        return checkpoint

    def _check_writable(self) -> None:
        if self._signer is None:
            raise JournalError(f"{self._folder} is open for reading only")
        if self._broken:
            raise JournalError(f"{self._folder} is closed")

    # Reading

    @property
    def checkpoint(self) -> Checkpoint:
        """The newest checkpoint."""
        return self._checkpoints.signed[-1]

    @property
    def checkpoints(self) -> Sequence[Checkpoint]:
        """Every checkpoint, oldest first."""
        return tuple(self._checkpoints.signed)

    def __len__(self) -> int:
        return len(self._headers)

    def entries(self) -> Sequence[Header]:
        """Headers in the order of the log, so that position is index; appended ones included."""
        return tuple(self._headers)

    def entry(self, index: int) -> Header:
        """Header of one entry.

        Raises
        ------
        JournalError : no such entry.
        """
        return self._header(index)

    def submission(self, source: str, name: str) -> list[int]:
        """Indices of the entries that a source handed in under a name; empty where it did not."""
        return [i for i, h in enumerate(self._headers) if h.source == source and h.name == name]

    def refresh(self) -> int:
        """For a reader: take in what its writer has committed since; returns the number of entries there are."""
        if self._signer is None:
            fresh = Journal.open(self._folder.parent)
            self.close()
            self.__dict__.update(fresh.__dict__)
        return len(self._headers)

    def payload(self, index: int) -> bytes:
        """Payload bytes of an entry.

        Raises
        ------
        JournalError : no such entry, its rows have gone to the archive (which is named), or the stored bytes are not
            those the entry names.
        """
        header = self._header(index)
        written = len(self._headers) - len(self._pending)
        data = self._pending[index - written][1] if index >= written else self._payloads.read(index)
        if Stub.is_stub(data):
            raise JournalError(f"entry {index} is compacted: {Stub.from_bytes(data).file}")
        if hashlib.sha256(data).hexdigest() != header.payload_sha256:
            raise JournalError(f"corruption: payload {index} of {self._folder} is not the one its entry names")
        return data

    def find(
        self,
        kind: str | None = None,
        market: str | None = None,
        interval: int | None = None,
        name: str | None = None,
    ) -> list[int]:
        """Indices of the entries that match every given field, in the order of the log."""
        among = range(len(self._headers)) if kind is None else self._by_kind.get(kind, [])
        wanted = [(n, v) for n, v in (("market", market), ("interval", interval), ("name", name)) if v is not None]
        return [i for i in among if all(getattr(self._headers[i], n) == v for n, v in wanted)]

    def receipt(self, index: int) -> str:
        """Proof that an entry is on record, under the newest checkpoint (C2SP tlog-proof).

        It proves the entry's bytes, `Header.to_bytes`, to whoever knows the operator's key.

        Raises
        ------
        JournalError : the entry is not committed; a receipt is final and comes after durability.
        """
        return self._proof(index, None)

    def receipts(self, indices: Iterable[int]) -> list[str]:
        """Receipts of several entries, all under one checkpoint."""
        return [self.receipt(index) for index in indices]

    def row_receipt(self, index: int, row: int, leaves: list[bytes] | None = None) -> str:
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
        header = self._header(index)
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
        return self._proof(index, extra.encode())

    def _proof(self, index: int, extra: bytes | None) -> str:
        self._header(index)
        if index >= self.checkpoint.size:
            raise JournalError(f"entry {index} is not committed; receipts come after durability")
        lines = [PROOF_MAGIC]
        if extra is not None:
            lines.append(f"extra {base64.b64encode(extra).decode()}")
        lines.append(f"index {index}")
        lines += [base64.b64encode(n).decode() for n in self._tree.inclusion_proof(index, self.checkpoint.size)]
        return "\n".join([*lines, "", self.checkpoint.note])

    def _header(self, index: int) -> Header:
        if not 0 <= index < len(self._headers):
            raise JournalError(f"the journal has entries 0 to {len(self._headers) - 1}, not {index}")
        return self._headers[index]
