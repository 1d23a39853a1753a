"""What stands where in the newest part of the log: a few dozen bytes of memory per entry.

Headers themselves stay on disk. Kept are what `find` compares (kind, market, interval, a hash of the name), when each
became known, and two indexes by hash: entries by their bytes, and entries by source and name. A hash only proposes; who
asks compares. What has gone to the index of the journal (`journal.index`) is forgotten here.
"""

from __future__ import annotations

import json
import re
from array import array
from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

from tellegen.journal.merkle import HASH_BYTES, entry_hash
from tellegen.journal.note import JournalError
from tellegen.records import Header

# of an entry without a backslash; sets of one excluded character are what the engine skips over fastest
_PLAIN = re.compile(
    rb'\{"causes":\[[^\]]*\],(?:"evidence":"[^"]*",)?"feeder":"[^"]*","interval":(-?[0-9]+),"intervals":[0-9]+,'
    rb'"kind":"([^"]*)","known_at":(-?[0-9]+),"market":"([^"]*)","name":"([^"]*)",'
    rb'"payload_sha256":"[^"]*","row_root":"[^"]*","rows":[0-9]+,"source":"([^"]*)"\}'
)
_INTERVAL_MAX = 1 << 63
_CODES_MAX = 1 << 16
RECENT_MAX = 1 << 14
CLOCKS = b"clocks"
"""Kind of the entries from which on time counts anew (`records.Clocks`): times on record rise, but for these."""


def raw_text(text: str) -> bytes:
    """A text as the canonical JSON has it, without its quotes."""
    return json.dumps(text)[1:-1].encode("ascii")


def _key(text: bytes, length: int) -> int:
    """The same in every process, as what is kept must be; collisions are looked through, whoever makes them."""
    return int.from_bytes(blake2b(text, digest_size=length).digest(), "little")


def _submission_key(source: bytes, name: bytes) -> int:
    return _key(b"%s\0%s" % (source, name), 8)


def _name_key(name: bytes) -> int:
    return _key(name, 4)


@dataclass(frozen=True, slots=True)
class Sought:
    """Fields that an entry must have, as the index compares them; None: whatever it has."""

    kind: bytes | None
    market: bytes | None
    interval: int | None
    name_key: int | None

    @classmethod
    def of(cls, kind: str | None, market: str | None, interval: int | None, name: str | None) -> Sought:
        """From the fields themselves."""
        return cls(
            None if kind is None else raw_text(kind),
            None if market is None else raw_text(market),
            interval,
            None if name is None else _name_key(raw_text(name)),
        )


def submission_key(source: str, name: str) -> int:
    """Key under which a submission is looked for."""
    return _submission_key(raw_text(source), raw_text(name))


@dataclass(frozen=True, slots=True)
class Columns:
    """What is kept of consecutive entries.

    Attributes
    ----------
    texts : kinds and markets, as the canonical JSON has them; `kind` and `market` are numbers of them.
    kind, market : uint16[n].
    interval, known_at : int64[n].
    name, submission : uint32[n] and uint64[n], keys of the name, and of source and name.
    """

    texts: tuple[bytes, ...]
    kind: NDArray[np.uint16]
    market: NDArray[np.uint16]
    interval: NDArray[np.int64]
    known_at: NDArray[np.int64]
    name: NDArray[np.uint32]
    submission: NDArray[np.uint64]

    @property
    def turn(self) -> int:
        """Position of the last entry that sets the time on record anew; -1 where none does."""
        if CLOCKS not in self.texts:
            return -1
        turns = np.flatnonzero(self.kind == self.texts.index(CLOCKS))
        return int(turns[-1]) if turns.size else -1

    def candidates(self, sought: Sought) -> NDArray[np.intp]:
        """Positions that match, ascending; of a name, few others among them."""
        chosen = np.ones(self.kind.size, dtype=np.bool_)
        for text, codes in ((sought.kind, self.kind), (sought.market, self.market)):
            if text is not None:
                chosen &= codes == (self.texts.index(text) if text in self.texts else _CODES_MAX - 1)
        if sought.interval is not None:
            chosen &= self.interval == sought.interval
        if sought.name_key is not None:
            chosen &= self.name == sought.name_key
        return np.flatnonzero(chosen)


class KeyIndex:
    """Indices by 64-bit key: sixteen bytes each, sorted; the newest few thousand in a table beside.

    >>> index = KeyIndex()
    >>> index.extend(np.array([7, 5, 7], dtype=np.uint64))
    >>> index.of(7)
    [0, 2]
    """

    __slots__ = ("_count", "_indices", "_keys", "_recent")

    def __init__(self, first: int = 0) -> None:
        self._keys, self._indices = np.empty(0, dtype=np.uint64), np.empty(0, dtype=np.int64)
        self._recent: dict[int, list[int]] = {}
        self._count = first

    def __len__(self) -> int:
        """The index that comes next."""
        return self._count

    def extend(self, keys: NDArray[np.uint64]) -> None:
        """Give the next indices these keys."""
        for key in keys.tolist() if len(keys) <= RECENT_MAX else ():
            self._recent.setdefault(key, []).append(self._count)
            self._count += 1
        if len(keys) > RECENT_MAX:
            self._merge()
            self._count += len(keys)
            self._sort_in(keys, np.arange(self._count - len(keys), self._count, dtype=np.int64))
        elif len(self._recent) > RECENT_MAX:
            self._merge()

    def forget(self, before: int) -> None:
        """Give up the first indices."""
        self._merge()
        kept = self._indices >= before
        self._keys, self._indices = self._keys[kept], self._indices[kept]

    def _merge(self) -> None:
        recent = [(key, index) for key, indices in self._recent.items() for index in indices]
        self._recent = {}
        self._sort_in(
            np.array([key for key, _ in recent], dtype=np.uint64), np.array([i for _, i in recent], dtype=np.int64)
        )

    def _sort_in(self, keys: NDArray[np.uint64], indices: NDArray[np.int64]) -> None:
        order = np.argsort(keys, kind="stable")
        self._keys = np.concatenate([self._keys, keys[order]])
        self._indices = np.concatenate([self._indices, indices[order]])
        order = np.argsort(self._keys, kind="stable")  # two sorted runs: linear
        self._keys, self._indices = self._keys[order], self._indices[order]

    def of(self, key: int) -> list[int]:
        """Every index with a key, ascending."""
        start = stop = int(self._keys.searchsorted(np.uint64(key)))
        while stop < self._keys.size and self._keys[stop] == key:
            stop += 1
        return [*self._indices[start:stop].tolist(), *self._recent.get(key, ())]


class Catalogue:
    """Entries from `first` on by what they are about, by their bytes, and by who handed them in.

    Parameters
    ----------
    first : entries before those that are taken in.
    latest_known_at : the latest time among those.
    """

    def __init__(self, first: int = 0, latest_known_at: int = -_INTERVAL_MAX) -> None:
        self.first, self.latest_known_at = first, latest_known_at
        self._codes: dict[bytes, int] = {}
        self._kinds, self._markets = array("H"), array("H")
        self._intervals, self._known_at = array("q"), array("q")
        self._names, self._submissions = array("I"), array("Q")
        self._by_leaf, self._by_submission = KeyIndex(first), KeyIndex(first)

    def __len__(self) -> int:
        return self.first + len(self._kinds)

    def extend(self, entries: Iterable[bytes]) -> bytes:
        """Take in the next entries; returns their leaf hashes, one after the other.

        Raises
        ------
        RecordError : the entry that would come next is not a header.
        """
        leaves, before = bytearray(), len(self._submissions)
        for entry in entries:
            match = _PLAIN.fullmatch(entry) if b"\\" not in entry else None
            if match is not None:
                interval, kind, known_at, market, name, source = match.groups()
                about = kind, market, int(interval), name, int(known_at)
            else:
                header = Header.from_bytes(entry)
                name, source = raw_text(header.name), raw_text(header.source)
                about = raw_text(header.kind), raw_text(header.market), header.interval, name, header.known_at
            self._add(*about)
            self._submissions.append(_submission_key(source, name))
            leaves += entry_hash(entry)
        self._by_submission.extend(np.array(self._submissions[before:], dtype=np.uint64))
        self._by_leaf.extend(np.frombuffer(leaves, dtype="<u8")[:: HASH_BYTES // 8].astype(np.uint64))
        return bytes(leaves)

    def _add(self, kind: bytes, market: bytes, interval: int, name: bytes, known_at: int) -> None:
        if not -_INTERVAL_MAX <= interval < _INTERVAL_MAX or not -_INTERVAL_MAX <= known_at < _INTERVAL_MAX:
            raise JournalError(f"interval {interval} or time {known_at} does not fit in 64 bits")
        codes = self._codes
        kind_code, market_code = codes.setdefault(kind, len(codes)), codes.setdefault(market, len(codes))
        if len(codes) >= _CODES_MAX:
            raise JournalError(f"more than {_CODES_MAX} different kinds and markets are on record")
        self._kinds.append(kind_code)
        self._markets.append(market_code)
        self._intervals.append(interval)
        self._known_at.append(known_at)
        self._names.append(_name_key(name))
        if known_at > self.latest_known_at or kind == CLOCKS:  # time goes on from where an operator said
            self.latest_known_at = known_at

    def columns(self, first: int, stop: int) -> Columns:
        """What is kept of entries `first` up to `stop`, which must be here: views, gone before the next is taken in."""
        where = slice(first - self.first, stop - self.first)
        return Columns(
            tuple(self._codes),
            np.frombuffer(self._kinds, dtype=np.uint16)[where],
            np.frombuffer(self._markets, dtype=np.uint16)[where],
            np.frombuffer(self._intervals, dtype=np.int64)[where],
            np.frombuffer(self._known_at, dtype=np.int64)[where],
            np.frombuffer(self._names, dtype=np.uint32)[where],
            np.frombuffer(self._submissions, dtype=np.uint64)[where],
        )

    def forget(self, before: int) -> None:
        """Give up the first entries: the index has them."""
        count = before - self.first
        for kept in (self._kinds, self._markets, self._intervals, self._known_at, self._names, self._submissions):
            del kept[:count]
        self._by_leaf.forget(before)
        self._by_submission.forget(before)
        self.first = before

    def of_leaf(self, leaf: bytes) -> list[int]:
        """Indices of entries that may have this leaf hash."""
        return self._by_leaf.of(int.from_bytes(leaf[:8], "little"))

    def of_submission(self, key: int) -> list[int]:
        """Indices of entries that may be of the source and name with this key, ascending; few others among them."""
        return self._by_submission.of(key)

    def candidates(self, sought: Sought, since: int) -> list[int]:
        """Indices from `since` on that match, ascending; of a name, few others among them."""
        since = min(max(since, self.first), len(self))
        return [since + int(k) for k in self.columns(since, len(self)).candidates(sought)]

    def kinds(self, since: int) -> set[bytes]:
        """Kinds of the entries that are here from `since` on."""
        columns = self.columns(min(max(since, self.first), len(self)), len(self))
        return {columns.texts[code] for code in np.unique(columns.kind).tolist()}

    def known_at(self, index: int) -> int:
        """When an entry that is here became known."""
        return self._known_at[index - self.first]

    def first_at(self, time: int) -> int:
        """The first entry here from which on everything became known at `time` or later."""
        return self.first + after_earlier(np.frombuffer(self._known_at, dtype=np.int64), time)


def after_earlier(known_at: NDArray[np.int64], time: int) -> int:
    """Position behind the last entry that became known before a time; 0 where none did."""
    earlier = np.flatnonzero(known_at < time)
    return int(earlier[-1]) + 1 if earlier.size else 0
