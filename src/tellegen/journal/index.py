"""The index of a journal: what stands where in all but the newest entries, so that opening need not read them.

It is derived. A stretch that is missing or damaged is made again from the log when it is asked for, and `notices` says
so; leaf hashes that it gives are held against the peaks of the tree, which opening has held against a signed root.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from threading import RLock
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from tellegen.journal.catalogue import CLOCKS, Catalogue, Columns, KeyIndex, Sought, after_earlier
from tellegen.journal.checkpoints import Noted
from tellegen.journal.merkle import HASH_BYTES, MerkleTree, node_hash
from tellegen.journal.note import JournalError
from tellegen.journal.segments import Place, Segments, frame_end
from tellegen.journal.storage import Storage, replace_file
from tellegen.journal.stretch import (
    DTYPES,
    Head,
    StretchError,
    file_name,
    number_of,
    read_column,
    read_head,
    to_bytes,
)

HEADS_KEPT_MAX = 8192
COLUMNS_KEPT_MAX = 256
TREES_KEPT_MAX = 32
SUBMISSIONS_KEPT_MAX = 8192
"""Stretches whose keys of submissions are kept: sixteen bytes an entry."""
EARLIEST = -(1 << 63)
_NO_END = (0, 0)

Stretch = tuple[Head, Mapping[str, NDArray[Any]]]
_Key = TypeVar("_Key")
_Kept = TypeVar("_Kept")


@dataclass(frozen=True, slots=True)
class Source:
    """From what a stretch is made again: new readers of log and payloads, and where the checkpoint of a size stands."""

    log: Callable[[], Segments]
    payloads: Callable[[], Segments]
    covering: Callable[[int], Noted]


class JournalIndex:
    """Stretches of a journal, from its first entry up to `stop`.

    Parameters
    ----------
    storage, folder : where the files lie.
    height : of a stretch: it has ``2 ** height`` entries; that of the files, where there are any.
    source : from what a stretch is made again.
    writable : whether what is made again is also written.
    """

    def __init__(self, storage: Storage, folder: Path, height: int, source: Source, *, writable: bool) -> None:
        self._storage, self._folder, self.height, self._source = storage, folder, height, source
        self.writable = writable
        self.newest: Head | None = None
        """The last stretch; its peaks are those of the tree."""
        self.notices: list[str] = []
        self._lock = RLock()
        self._heads: dict[int, Head] = {}
        self._columns: dict[tuple[int, str], NDArray[Any]] = {}
        self._trees: dict[int, MerkleTree] = {}
        self._submissions: tuple[int, KeyIndex] | None = None  # from which stretch on

    @property
    def count(self) -> int:
        """How many stretches there are."""
        return 0 if self.newest is None else self.newest.number + 1

    @property
    def stop(self) -> int:
        """The first entry that is not in the index."""
        return 0 if self.newest is None else self.newest.stop

    @property
    def known_at(self) -> int:
        """The latest time of its entries."""
        return EARLIEST if self.newest is None else self.newest.known_at

    # Opening and adding

    def found(self) -> Iterator[Head]:
        """Heads that can be read, the newest first; damaged ones are passed over."""
        for number in reversed(self._numbers()):
            try:
                yield self._read_head(number, height=None)
            except (OSError, StretchError) as error:
                self._say(number, str(error))

    def _numbers(self) -> list[int]:
        """Stretches that have a file, ascending."""
        names = self._storage.names(self._folder)
        return sorted(number for name in names if (number := number_of(name)) is not None)

    def begin_at(self, head: Head | None) -> None:
        """Let the index end with a stretch."""
        with self._lock:
            self.newest = head
            self.height = self.height if head is None else head.height
            self._heads, self._columns, self._trees, self._submissions = {}, {}, {}, None

    def write(self, stretch: Stretch) -> None:
        """Put the file of a stretch in place, durably.

        Raises
        ------
        OSError : the disk refused.
        """
        if not self._storage.names(self._folder):
            self._storage.make_folder(self._folder)
            self._storage.sync_folder(self._folder.parent)
        replace_file(self._folder / file_name(stretch[0].number), to_bytes(*stretch), self._storage)

    def add(self, head: Head) -> None:
        """Let the index end with the stretch that follows, which is written."""
        assert head.number == self.count
        self.newest = head

    def drop_around(self, first: int, last: int) -> None:
        """Remove, durably, the files of stretches with entries from `first` to `last`, whose payloads are moved."""
        if self.newest is None:
            self.drop(0)
        else:
            self.drop(first >> self.height, last >> self.height)

    def drop(self, first: int, last: int | None = None) -> None:
        """Remove, durably, the files of stretches from `first` to `last`, or all from `first` on."""
        dropped = [number for number in self._numbers() if first <= number and (last is None or number <= last)]
        for number in dropped:
            self._storage.remove(self._folder / file_name(number))
        if dropped:
            self._storage.sync_folder(self._folder)

    def tidy(self) -> None:
        """Remove, durably, what a crash or another history of the log has left behind."""
        self.drop(self.count)
        drafts = [name for name in self._storage.names(self._folder) if number_of(name) is None]
        for name in drafts:
            self._storage.remove(self._folder / name)
        if drafts:
            self._storage.sync_folder(self._folder)

    def restore(self) -> None:
        """Make again every stretch whose file is missing."""
        for number in sorted({*range(self.count)} - {*self._numbers()}):
            self._make(number)

    def _say(self, number: int, problem: str) -> None:
        notice = f"{self._folder / file_name(number)}: {problem}; it is made again from the log"
        if notice not in self.notices:
            self.notices.append(notice)

    # Stretches

    def head(self, number: int) -> Head:
        """Head of a stretch."""
        with self._lock:
            if self.newest is not None and number == self.newest.number:
                return self.newest
            head = self._heads.get(number)
            if head is None:
                try:
                    head = self._read_head(number, self.height)
                except (OSError, StretchError) as error:
                    head = self._made_again(number, error)
                _keep(self._heads, number, head, HEADS_KEPT_MAX)
            return head

    def column(self, number: int, name: str) -> NDArray[Any]:
        """A column of a stretch."""
        with self._lock:
            column = self._columns.get((number, name))
            if column is None:
                try:
                    column = self._read_column(number, name)
                except (OSError, StretchError) as error:
                    self._made_again(number, error)
                    return self._columns[number, name]
                _keep(self._columns, (number, name), column, COLUMNS_KEPT_MAX)
            return column

    def _read_head(self, number: int, height: int | None) -> Head:
        file = self._storage.open(self._folder / file_name(number))
        try:
            head = read_head(file)
        finally:
            file.close()
        if head.number != number or height not in (None, head.height):
            raise StretchError(f"is of {1 << head.height} entries from {head.first}")
        return head

    def _read_column(self, number: int, name: str) -> NDArray[Any]:
        head = self.head(number)
        file = self._storage.open(self._folder / file_name(number))
        try:
            return read_column(file, head if head.columns else read_head(file), name)
        finally:
            file.close()

    def _made_again(self, number: int, error: OSError | StretchError) -> Head:
        self._say(number, (error.strerror or "cannot be read") if isinstance(error, OSError) else str(error))
        return self._make(number)

    def _make(self, number: int) -> Head:
        """Make a stretch again from log and payloads, and those before it that it needs for that."""
        start, before = number, None
        while start > 0 and before is None:
            try:
                before = self._read_head(start - 1, self.height)
            except (OSError, StretchError):
                start -= 1
        for k in range(start, number + 1):
            head, columns = self._from_log(k, before)
            before = head
            if self.writable:
                try:
                    self.write((head, columns))
                except OSError as error:
                    self._say(k, f"cannot be written ({error.strerror})")
        _keep(self._heads, number, head, HEADS_KEPT_MAX)
        for name, column in columns.items():
            _keep(self._columns, (number, name), column, COLUMNS_KEPT_MAX)
        return head

    def _from_log(self, number: int, before: Head | None) -> Stretch:
        first, stop = number << self.height, (number + 1) << self.height
        log, payloads = self._source.log(), self._source.payloads()
        try:
            log.begin_at(first, before.log if before is not None else _NO_END, self.log_place)
            payloads.begin_at(first, before.payload if before is not None else _NO_END, self.payload_place)
            catalogue = Catalogue(first, EARLIEST if before is None else before.known_at)
            tree = MerkleTree.behind(first, () if before is None else before.peaks, self.node)
            tree.extend(catalogue.extend(log.scan(stop)))
            payloads.skim(stop)
            return stretch_of(self.height, number, before, catalogue, tree, log, payloads, self._source.covering(stop))
        finally:
            log.close()
            payloads.close()

    # Looking up

    def node(self, height: int, position: int) -> bytes:
        """A node of the tree over the entries of the index.

        Raises
        ------
        JournalError : the entries of the log are not those that were signed for.
        """
        if height >= self.height:
            shift = height - self.height
            return self.head(((position + 1) << shift) - 1).nodes[shift]
        shift = self.height - height
        return self._tree(position >> shift).node(height, position & (1 << shift) - 1)

    def _tree(self, number: int) -> MerkleTree:
        """The tree over a stretch; its root is held against the peaks."""
        with self._lock:
            tree = self._trees.get(number)
            if tree is None:
                tree = self._grown(number)
                if not self._borne_out(number, tree.root()):
                    self._made_again(number, StretchError("is not of the entries that were signed for"))
                    tree = self._grown(number)
                    if not self._borne_out(number, tree.root()):
                        head = self.head(number)
                        raise JournalError(
                            f"corruption: entries {head.first} to {head.stop - 1} of {self._folder.parent} are not "
                            "those that were signed for"
                        )
                _keep(self._trees, number, tree, TREES_KEPT_MAX)
            return tree

    def _grown(self, number: int) -> MerkleTree:
        tree = MerkleTree()
        tree.extend(self.column(number, "leaf").tobytes())
        return tree

    def _borne_out(self, number: int, root: bytes) -> bool:
        """Whether a stretch with this root leads to the peak above it."""
        height, position, node, stop = self.height, number, root, self.stop
        while not (stop >> height & 1 and position == (stop >> height) - 1):
            sibling = self.node(height, position ^ 1)
            node = node_hash(sibling, node) if position & 1 else node_hash(node, sibling)
            height, position = height + 1, position >> 1
        assert self.newest is not None
        peak = (stop >> height + 1).bit_count()  # peaks are in the order of the bits, from the highest
        return node == self.newest.peaks[peak]

    def log_place(self, index: int) -> Place:
        """Where the frame of an entry lies."""
        return self._place(index, "log")

    def payload_place(self, index: int) -> Place:
        """Where the frame of a payload lies."""
        return self._place(index, "payload")

    def _place(self, index: int, name: str) -> Place:
        return Place(*self.column(index >> self.height, name)[:, self._within(index)].tolist())

    def _within(self, index: int) -> int:
        return index & (1 << self.height) - 1

    def candidates(self, sought: Sought, since: int) -> list[int]:
        """Indices from `since` on that match, ascending; of a name, few others among them."""
        numbers = reversed(list(self._stretches(sought, since)))
        return [index for number in numbers for index in self._matching(number, sought) if index >= since]

    def kinds(self, since: int) -> set[bytes]:
        """Kinds (and markets) of the entries of the stretches from that of `since` on."""
        return {text for number in range(since >> self.height, self.count) for text in self.head(number).texts}

    def descending(self, sought: Sought) -> Iterator[int]:
        """Indices that match, the newest first; what stands far back is not read before it is asked for."""
        for number in self._stretches(sought, 0):
            yield from reversed(self._matching(number, sought))

    def _stretches(self, sought: Sought, since: int) -> Iterator[int]:
        """Stretches in which something may match, the newest first; those without its kind are not looked into."""
        text = sought.market if sought.kind is None else sought.kind
        number, last = self.count - 1, since >> self.height
        if text is not None and self.newest is not None:
            number = self.newest.newest(text)
        while number >= last:
            head = self.head(number)
            if (sought.market is None or sought.market in head.texts) and (
                sought.interval is None or head.interval_first <= sought.interval <= head.interval_last
            ):
                yield number
            number = number - 1 if text is None else head.earlier.get(text, -1)

    def _matching(self, number: int, sought: Sought) -> list[int]:
        head = self.head(number)
        rows: list[int] = (head.first + self._facts(number, sought).candidates(sought)).tolist()
        return rows

    def _facts(self, number: int, sought: Sought) -> Columns:
        """Columns of a stretch as far as they are compared."""
        kind = self.column(number, "kind")

        def column(name: str, *, wanted: bool) -> NDArray[Any]:
            return self.column(number, name) if wanted else kind

        return Columns(
            self.head(number).texts,
            kind,
            column("market", wanted=sought.market is not None),
            column("interval", wanted=sought.interval is not None),
            kind,
            column("name", wanted=sought.name_key is not None),
            kind,
        )

    def of_submission(self, key: int, since: int) -> list[int]:
        """Indices from `since` on of entries that may be of the source and name with this key, ascending.

        Keys of late are kept in memory once they have been asked for; what lies further back is looked for stretch by
        stretch.
        """
        with self._lock:
            first, begin = since >> self.height, max(self.count - SUBMISSIONS_KEPT_MAX, 0)
            if self._submissions is None or self._submissions[0] > max(first, begin):
                self._submissions = max(first, begin), KeyIndex(max(first, begin) << self.height)
            kept, keys = self._submissions
            for number in range(len(keys) >> self.height, self.count):
                of_entries = np.empty(1 << self.height, dtype=np.uint64)
                of_entries[self.column(number, "submission_entry")] = self.column(number, "submission")
                keys.extend(of_entries)
            found: list[int] = []
            for number in range(first, kept):
                sought = self.column(number, "submission")
                start, stop = sought.searchsorted(np.uint64(key), "left"), sought.searchsorted(np.uint64(key), "right")
                rows = np.sort(self.column(number, "submission_entry")[start:stop]).astype(np.int64)
                found += (rows + (number << self.height)).tolist()
            if self.count - kept > 2 * SUBMISSIONS_KEPT_MAX:
                self._submissions = None
            return [index for index in (*found, *keys.of(key)) if index >= since]

    def of_leaf(self, leaf: bytes, known_at: int) -> list[int]:
        """Indices of entries with a leaf hash that became known at one time."""
        if known_at > self.known_at:
            return []
        first, stop = self.first_at(known_at), min(self.first_at(known_at + 1), self.stop)
        word, found = np.frombuffer(leaf[:8], dtype="<u8"), list[int]()
        for number in range(first >> self.height, -(-stop >> self.height)):
            leaves = self.column(number, "leaf").view("<u8")[:: HASH_BYTES // 8]
            found += ((number << self.height) + np.flatnonzero(leaves == word)).tolist()
        return found

    def time_of(self, index: int) -> int:
        """When an entry became known."""
        return int(self.column(index >> self.height, "known_at")[self._within(index)])

    def first_at(self, time: int) -> int:
        """The first entry here from which on everything became known at `time` or later.

        Times rise, but where an entry has set them anew. So stretches from such a one on are searched by halves, the
        newest of them first, and where nothing in them is earlier, those before.
        """
        stop = self.count
        while stop > 0:
            turn = max(self.head(stop - 1).newest(CLOCKS), 0)
            low, high, step = stop - 1, stop, 1  # stretches from `high` on hold nothing earlier
            while low > turn and self.head(low).known_min >= time:  # mostly it is asked about of late
                low, high, step = max(low - step, turn), low, 2 * step
            while low < high:
                middle = (low + high) // 2
                low, high = (middle + 1, high) if self.head(middle).known_min < time else (low, middle)
            if low > turn:
                return (low - 1 << self.height) + after_earlier(self.column(low - 1, "known_at"), time)
            stop = turn
        return 0


def stretch_of(
    height: int,
    number: int,
    before: Head | None,
    catalogue: Catalogue,
    tree: MerkleTree,
    log: Segments,
    payloads: Segments,
    noted: Noted,
) -> Stretch:
    """A stretch of entries that are all here: in the catalogue, the tree, and both segments."""
    first, stop = number << height, (number + 1) << height
    facts = catalogue.columns(first, stop)
    codes = np.union1d(facts.kind, facts.market)
    order = np.argsort(facts.submission, kind="stable")
    frames, stored = np.array(log.places(first, stop)), np.array(payloads.places(first, stop))
    completed = [k for k in range(height, stop.bit_length()) if stop % (1 << k) == 0]
    turn, times = facts.turn, facts.known_at
    since, earlier = EARLIEST, dict[bytes, int]()
    if before is not None:
        since, earlier = before.known_at, {**before.earlier, **dict.fromkeys(before.texts, before.number)}
    head = Head(
        height=height,
        number=number,
        known_at=max(int(times.max()), since) if turn < 0 else int(times[turn:].max()),
        known_min=int(times.min()),
        interval_first=int(facts.interval.min()),
        interval_last=int(facts.interval.max()),
        texts=tuple(facts.texts[code] for code in codes.tolist()),
        earlier=earlier,
        log=frame_end(*frames[:, -1].tolist()),
        payload=frame_end(*stored[:, -1].tolist()),
        noted=noted,
        nodes=tuple(tree.node(k, (stop >> k) - 1) for k in completed),
        peaks=tuple(tree.peaks(stop)),
        columns={},
    )
    leaves = b"".join(tree.node(0, index) for index in range(first, stop))
    columns: dict[str, NDArray[Any]] = {
        "kind": np.searchsorted(codes, facts.kind),
        "market": np.searchsorted(codes, facts.market),
        "interval": facts.interval,
        "known_at": facts.known_at,
        "name": facts.name,
        "submission": facts.submission[order],
        "submission_entry": order,
        "log": frames,
        "payload": stored,
        "leaf": np.frombuffer(leaves, dtype="V32"),
    }
    return head, {name: column.astype(DTYPES[name]) for name, column in columns.items()}


def _keep(kept: dict[_Key, _Kept], key: _Key, value: _Kept, count_max: int) -> None:
    kept.pop(key, None)
    kept[key] = value
    if len(kept) > count_max:
        del kept[next(iter(kept))]
