"""What stands where in the log: a few dozen bytes of memory per entry, so that a day of a city fits.

Headers themselves stay on disk. Kept are what `find` compares (kind, market, interval, a hash of the name) and two
indexes by hash: entries by their bytes, and entries by source and name. A hash only proposes; who asks compares.
"""

from __future__ import annotations

import json
import re
from array import array
from collections.abc import Iterable

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


def _raw(text: str) -> bytes:
    """A text as the canonical JSON has it, without its quotes."""
    return json.dumps(text)[1:-1].encode("ascii")


def _submission_key(source: bytes, name: bytes) -> int:
    return hash((source, name)) & 0xFFFF_FFFF_FFFF_FFFF


def _name_key(name: bytes) -> int:
    return hash(name) & 0xFFFF_FFFF


class KeyIndex:
    """Indices by 64-bit key: twelve bytes each, sorted; the newest few thousand in a table beside.

    >>> index = KeyIndex()
    >>> index.extend(np.array([7, 5, 7], dtype=np.uint64))
    >>> index.of(7)
    [0, 2]
    """

    __slots__ = ("_count", "_indices", "_keys", "_recent")

    def __init__(self) -> None:
        self._keys, self._indices = np.empty(0, dtype=np.uint64), np.empty(0, dtype=np.int32)
        self._recent: dict[int, list[int]] = {}
        self._count = 0

    def extend(self, keys: NDArray[np.uint64]) -> None:
        """Give the next indices these keys."""
        for key in keys.tolist() if len(keys) <= RECENT_MAX else ():
            self._recent.setdefault(key, []).append(self._count)
            self._count += 1
        if len(keys) > RECENT_MAX:
            self._merge()
            self._count += len(keys)
            self._sort_in(keys, np.arange(self._count - len(keys), self._count, dtype=np.int32))
        elif self._count - len(self._keys) > RECENT_MAX:
            self._merge()

    def _merge(self) -> None:
        recent = [(key, index) for key, indices in self._recent.items() for index in indices]
        self._recent = {}
        self._sort_in(
            np.array([key for key, _ in recent], dtype=np.uint64), np.array([i for _, i in recent], dtype=np.int32)
        )

    def _sort_in(self, keys: NDArray[np.uint64], indices: NDArray[np.int32]) -> None:
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
    """Entries by what they are about, by their bytes, and by who handed them in."""

    def __init__(self) -> None:
        self._codes: dict[bytes, int] = {}
        self._kinds, self._markets = array("H"), array("H")
        self._intervals = array("q")
        self._names = array("I")
        self._by_leaf, self._by_submission = KeyIndex(), KeyIndex()
        self.latest_known_at = -_INTERVAL_MAX

    def __len__(self) -> int:
        return len(self._kinds)

    def extend(self, entries: Iterable[bytes]) -> bytes:
        """Take in the next entries; returns their leaf hashes, one after the other.

        Raises
        ------
        RecordError : the entry that would come next is not a header.
        """
        leaves, submitted = bytearray(), array("Q")
        for entry in entries:
            match = _PLAIN.fullmatch(entry) if b"\\" not in entry else None
            if match is not None:
                interval, kind, known_at, market, name, source = match.groups()
                about = kind, market, int(interval), name, int(known_at)
            else:
                header = Header.from_bytes(entry)
                name, source = _raw(header.name), _raw(header.source)
                about = _raw(header.kind), _raw(header.market), header.interval, name, header.known_at
            self._add(*about)
            submitted.append(_submission_key(source, name))
            leaves += entry_hash(entry)
        self._by_submission.extend(np.frombuffer(submitted, dtype=np.uint64))
        self._by_leaf.extend(np.frombuffer(leaves, dtype="<u8")[:: HASH_BYTES // 8].astype(np.uint64))
        return bytes(leaves)

    def _add(self, kind: bytes, market: bytes, interval: int, name: bytes, known_at: int) -> None:
        if not -_INTERVAL_MAX <= interval < _INTERVAL_MAX:
            raise JournalError(f"interval {interval} does not fit in 64 bits")
        codes = self._codes
        kind_code, market_code = codes.setdefault(kind, len(codes)), codes.setdefault(market, len(codes))
        if len(codes) >= _CODES_MAX:
            raise JournalError(f"more than {_CODES_MAX} different kinds and markets are on record")
        self._kinds.append(kind_code)
        self._markets.append(market_code)
        self._intervals.append(interval)
        self._names.append(_name_key(name))
        if known_at > self.latest_known_at:
            self.latest_known_at = known_at

    def of_leaf(self, leaf: bytes) -> list[int]:
        """Indices of entries that may have this leaf hash."""
        return self._by_leaf.of(int.from_bytes(leaf[:8], "little"))

    def of_submission(self, source: str, name: str) -> list[int]:
        """Indices of entries that may be of this source and name, ascending; few others among them."""
        return self._by_submission.of(_submission_key(_raw(source), _raw(name)))

    def candidates(
        self, kind: str | None, market: str | None, interval: int | None, name: str | None, since: int
    ) -> list[int]:
        """Indices from `since` on that match every given field, ascending; of `name`, few others among them."""
        chosen = np.ones(len(self) - min(since, len(self)), dtype=np.bool_)
        for text, codes in ((kind, self._kinds), (market, self._markets)):
            if text is not None:
                chosen &= np.frombuffer(codes, dtype=np.uint16)[since:] == self._codes.get(_raw(text), _CODES_MAX)
        if interval is not None:
            chosen &= np.frombuffer(self._intervals, dtype=np.int64)[since:] == interval
        if name is not None:
            chosen &= np.frombuffer(self._names, dtype=np.uint32)[since:] == _name_key(_raw(name))
        return [since + int(k) for k in np.flatnonzero(chosen)]
