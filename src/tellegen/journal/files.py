"""The files of a journal and how they fit together: log, payloads, checkpoints, index; the tree over the entries.

Opening takes in what the newest checkpoint that counts covers, and holds it against every root that was signed. Where
the index is whole it begins behind the newest stretch of that, and reads the rest only.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path

from tellegen.errors import InputError
from tellegen.journal.catalogue import Catalogue
from tellegen.journal.checkpoints import Checkpoint, CheckpointFile, size_of
from tellegen.journal.cosignature import store_cosignatures
from tellegen.journal.elsewhere import Elsewhere
from tellegen.journal.index import JournalIndex, Source, stretch_of
from tellegen.journal.merkle import MerkleTree
from tellegen.journal.note import JournalError, NoteSigner, NoteVerifier, SignatureLine
from tellegen.journal.payload import PAYLOAD_BYTES_MAX
from tellegen.journal.segments import Segments
from tellegen.journal.storage import Storage, read_file
from tellegen.journal.stretch import Head
from tellegen.records import RecordError

ENTRY_BYTES_MAX = 65_535
"""What a C2SP entry bundle can hold."""
SEGMENT_BYTES_MAX = 1 << 28


class JournalFiles:
    """The parts of one open journal.

    Parameters
    ----------
    folder : where the files lie.
    signer : who signs; None: for reading only.
    stretch_height : entries of a stretch of the index, as a power of two.
    elsewhere : who is asked before anything is cut or signed; None: nobody.

    Attributes
    ----------
    tree, catalogue : over the entries, those that wait for a commit included.
    lock : held by whoever reads or changes them.
    """

    def __init__(
        self,
        storage: Storage,
        folder: Path,
        verifier: NoteVerifier,
        signer: NoteSigner | None,
        segment_bytes_max: int,
        stretch_height: int,
        elsewhere: Elsewhere | None = None,
    ) -> None:
        self._elsewhere = elsewhere
        self.storage, self.folder, self.verifier, self._signer = storage, folder, verifier, signer
        self._segment_bytes_max = segment_bytes_max
        self.log, self.payloads = self._segments("log"), self._segments("payloads")
        self.tree, self.catalogue = MerkleTree(), Catalogue()
        self.lock = threading.RLock()
        self.closed = False
        self.checkpoints = CheckpointFile(storage, folder, verifier)
        source = Source(lambda: self._segments("log"), lambda: self._segments("payloads"), self.checkpoints.covering)
        self.index = JournalIndex(storage, folder / "index", stretch_height, source, writable=signer is not None)
        if signer is not None:
            self.checkpoints.lock()

    def _segments(self, part: str) -> Segments:
        frame_bytes_max = ENTRY_BYTES_MAX if part == "log" else PAYLOAD_BYTES_MAX
        return Segments(self.storage, self.folder / part, self._segment_bytes_max, frame_bytes_max)

    @property
    def newest(self) -> Checkpoint:
        """The newest checkpoint."""
        assert self.checkpoints.newest is not None
        return self.checkpoints.newest

    def sign(self, size: int, root: bytes) -> None:
        """Sign for the first entries, durably; who is asked elsewhere knows of it before anybody is shown it."""
        assert self._signer is not None
        checkpoint, lines = Checkpoint.signed_by(self._signer, size, root), list[SignatureLine]()

        def tell() -> None:
            if self._elsewhere is not None:
                lines.extend(self._elsewhere.keep(self, checkpoint))

        self.checkpoints.append(checkpoint, tell)
        self._store(checkpoint, lines)

    def _store(self, checkpoint: Checkpoint, lines: Sequence[SignatureLine]) -> None:
        if lines:
            store_cosignatures(self.folder, checkpoint, lines, self.storage)

    def close(self) -> None:
        """Release the files."""
        self.log.close()
        self.payloads.close()
        self.checkpoints.close()
        self.closed = True

    # Opening

    def load(self) -> None:
        """Take in what is on record; for the writer, cut off what is not.

        Raises
        ------
        JournalError : corruption below the last checkpoint. OSError : the disk refused.
        """
        copy = self.checkpoints.copy()
        if self._begin_with_index(copy):
            try:
                self._load_rest(copy)
            except JournalError as error:
                self.index.notices.append(f"{self.folder / 'index'}: does not fit ({error}); all of the log is read")
                self._begin(None)
                self._load_rest(copy)
        else:
            self._load_rest(copy)
        if self._signer is not None:
            lines = list[SignatureLine]()
            if self._elsewhere is not None and self.checkpoints.newest is not None:
                lines = self._elsewhere.check(self, self.newest)
            self.log.cut()
            self.payloads.cut()
            self.checkpoints.recover()
            if self.checkpoints.newest is None:
                self.sign(0, self.tree.root())
            self._store(self.newest, lines)
            self.index.tidy()
            self.seal()

    def _begin_with_index(self, copy: bytes) -> bool:
        """Take up behind the newest stretch whose checkpoint stands where it says, and may be believed."""
        believed = None if self._signer is not None else size_of(copy)
        for head in self.index.found():
            if (believed is None or head.noted.size <= believed) and self.checkpoints.begin_at(head.noted):
                self._begin(head)
                return True
        return False

    def _begin(self, head: Head | None) -> None:
        self.index.begin_at(head)
        self.tree, self.catalogue = MerkleTree(), Catalogue()
        if head is not None:
            self.tree = MerkleTree.behind(head.stop, head.peaks, self.index.node)
            self.catalogue = Catalogue(head.stop, head.known_at)
        self.log.begin_at(self.index.stop, (0, 0) if head is None else head.log, self.index.log_place)
        self.payloads.begin_at(self.index.stop, (0, 0) if head is None else head.payload, self.index.payload_place)
        self.checkpoints.begin_at(None if head is None else head.noted)

    def _load_rest(self, copy: bytes) -> None:
        verified = self.checkpoints.load(None if self._signer is not None else copy)
        self.checkpoints.check_copy(copy)
        if self.checkpoints.newest is None and (self._signer is None or self.storage.names(self.folder / "log")):
            raise JournalError(f"corruption: {self.folder} has no checkpoint; it is signed from its creation on")
        self._take_in(verified)

    def _take_in(self, verified: Sequence[Checkpoint]) -> None:
        """Take in what new checkpoints cover, and hold it against their roots."""
        size = verified[-1].size if verified else 0
        try:
            self.tree.extend(self.catalogue.extend(self.log.scan(size)))
        except RecordError as error:
            raise JournalError(f"corruption: entry {len(self.catalogue)} of {self.folder}: {error}") from None
        self.payloads.skim(size)
        for checkpoint in verified:
            if self.tree.root(checkpoint.size) != checkpoint.root:
                raise JournalError(
                    f"corruption: the entries of {self.folder} do not have the root signed at size {checkpoint.size}"
                )

    def catch_up(self) -> None:
        """Take in what the writer has committed since; for a reader.

        Raises
        ------
        JournalError : corruption. OSError : the disk refused.
        """
        self._take_in(self.checkpoints.load(self.checkpoints.copy()))

    def seal(self) -> None:
        """Write the stretches that are full and signed for, and hold them in memory no longer.

        What the disk does not take stays in memory, and is tried again: nothing rests on these files.
        """
        height, sealed = self.index.height, list[Head]()
        while True:
            before = sealed[-1] if sealed else self.index.newest
            number = 0 if before is None else before.number + 1
            stop = (number + 1) << height
            if stop > self.newest.size:
                break
            with self.lock:
                parts = (self.catalogue, self.tree, self.log, self.payloads)
                stretch = stretch_of(height, number, before, *parts, self.checkpoints.covering(stop))
            try:
                self.index.write(stretch)
            except OSError as error:
                self.index.notices.append(f"{self.folder / 'index'}: cannot be written ({error.strerror})")
                break
            sealed.append(stretch[0])
        if sealed:
            with self.lock:
                for head in sealed:
                    self.index.add(head)
                before_all = self.index.stop
                self.tree.forget(before_all, self.index.node)
                self.catalogue.forget(before_all)
                self.log.forget(before_all, self.index.log_place)
                self.payloads.forget(before_all, self.index.payload_place)


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
