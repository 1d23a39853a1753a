"""What stands where in the log: a few dozen bytes of memory per entry, so that a day of a city fits.

Headers themselves stay on disk. Kept are what `find` compares (kind, market, interval, a hash of the name) and two
tables by hash: entries by their bytes, and entries by source and name. A hash only proposes; who asks compares.
"""

from __future__ import annotations

import json
import re
from array import array
from collections.abc import Callable, Iterator

import numpy as np

from tellegen.journal.note import JournalError
from tellegen.records import Header

_TEXT = rb'"([^"\\]*(?:\\.[^"\\]*)*)"'
_CANONICAL = re.compile(
    rb'\{"causes":\[[0-9,]*\],(?:"evidence":"[^"\\]*",)?"feeder":"[^"\\]*","interval":(-?[0-9]+),"intervals":[0-9]+,'
    rb'"kind":' + _TEXT + rb',"known_at":(-?[0-9]+),"market":' + _TEXT + rb',"name":' + _TEXT + rb","
    rb'"payload_sha256":"[0-9a-f]{64}","row_root":"[0-9a-f]{64}","rows":[0-9]+,"source":' + _TEXT + rb"\}"
)
_MASK64 = (1 << 64) - 1
_INTERVAL_MAX = 1 << 63
_KINDS_MAX = 1 << 16


def _text(raw: bytes) -> str:
    if b"\\" not in raw:
        return raw.decode()
    text = json.loads(b'"' + raw + b'"')
    assert isinstance(text, str)
    return text


class HashChains:
    """Indices by a 64-bit key, newest first; four bytes per index and eight to sixteen per different key.

    Parameters
    ----------
    key_of : the key of an index that was added.
    """

    __slots__ = ("_before", "_key_of", "_keys", "_slots")

    def __init__(self, key_of: Callable[[int], int]) -> None:
        self._key_of = key_of
        self._slots = array("i", [-1]) * 64
        self._before = array("i")
        self._keys = 0

    def add(self, key: int) -> None:
        """Add the next index; `key_of` need not know it yet."""
        if 2 * (self._keys + 1) > len(self._slots):
            self._grow()
        slot = self._slot(key)
        latest = self._slots[slot]
        self._slots[slot] = len(self._before)
        self._before.append(latest)
        if latest < 0:
            self._keys += 1

    def _slot(self, key: int) -> int:
        slots, mask = self._slots, len(self._slots) - 1
        slot = key & mask
        while (index := slots[slot]) >= 0 and self._key_of(index) != key:
            slot = (slot + 1) & mask
        return slot

    def _grow(self) -> None:
        latest = [index for index in self._slots if index >= 0]
        self._slots = array("i", [-1]) * (2 * len(self._slots))
        slots, mask = self._slots, len(self._slots) - 1
        for index in latest:
            slot = self._key_of(index) & mask
            while slots[slot] >= 0:
                slot = (slot + 1) & mask
            slots[slot] = index

    def of(self, key: int) -> Iterator[int]:
        """Every index added under a key, newest first."""
        index = self._slots[self._slot(key)]
        while index >= 0:
            yield index
            index = self._before[index]


class Catalogue:
    """Entries by what they are about, by their bytes, and by who handed them in.

    Parameters
    ----------
    leaf_at : leaf hash of an entry, by index.
    """

    def __init__(self, leaf_at: Callable[[int], bytes]) -> None:
        self._leaf_at = leaf_at
        self._codes: dict[str, int] = {}
        self._kinds, self._markets = array("H"), array("H")
        self._intervals = array("q")
        self._names = array("I")
        self._submitted = array("Q")
        self._by_leaf = HashChains(lambda index: int.from_bytes(leaf_at(index)[:8], "little"))
        self._by_submission = HashChains(self._submitted.__getitem__)
        self.latest_known_at = -_INTERVAL_MAX

    def __len__(self) -> int:
        return len(self._kinds)

    def add(self, header: Header, leaf: bytes) -> None:
        """Take in the next entry."""
        self._add(header.kind, header.market, header.interval, header.name, header.source, header.known_at, leaf)

    def add_bytes(self, entry: bytes, leaf: bytes) -> None:
        """Take in the next entry by its bytes; a tenth of the work of parsing it.

        Raises
        ------
        RecordError : it is not a header.
        """
        match = _CANONICAL.fullmatch(entry)
        if match is None:
            self.add(Header.from_bytes(entry), leaf)
            return
        interval, kind, known_at, market, name, source = match.groups()
        self._add(_text(kind), _text(market), int(interval), _text(name), _text(source), int(known_at), leaf)

    def _add(self, kind: str, market: str, interval: int, name: str, source: str, known_at: int, leaf: bytes) -> None:
        if not -_INTERVAL_MAX <= interval < _INTERVAL_MAX:
            raise JournalError(f"interval {interval} does not fit in 64 bits")
        codes = self._code(kind), self._code(market)
        self._kinds.append(codes[0])
        self._markets.append(codes[1])
        self._intervals.append(interval)
        self._names.append(hash(name) & 0xFFFFFFFF)
        key = hash((source, name)) & _MASK64
        self._submitted.append(key)
        self._by_submission.add(key)
        self._by_leaf.add(int.from_bytes(leaf[:8], "little"))
        self.latest_known_at = max(self.latest_known_at, known_at)

    def _code(self, text: str) -> int:
        code = self._codes.setdefault(text, len(self._codes))
        if code >= _KINDS_MAX:
            raise JournalError(f"more than {_KINDS_MAX} different kinds and markets are on record")
        return code

    def index_of(self, leaf: bytes) -> int | None:
        """Index of the entry with this leaf hash."""
        return next((i for i in self._by_leaf.of(int.from_bytes(leaf[:8], "little")) if self._leaf_at(i) == leaf), None)

    def submitted(self, source: str, name: str) -> list[int]:
        """Indices of entries that may be of this source and name, ascending; few others among them."""
        return list(self._by_submission.of(hash((source, name)) & _MASK64))[::-1]

    def candidates(
        self, kind: str | None, market: str | None, interval: int | None, name: str | None, since: int
    ) -> list[int]:
        """Indices from `since` on that match every given field, ascending; of `name`, few others among them."""
        chosen = np.ones(len(self) - min(since, len(self)), dtype=np.bool_)
        for text, codes in ((kind, self._kinds), (market, self._markets)):
            if text is not None:
                chosen &= np.frombuffer(codes, dtype=np.uint16)[since:] == self._codes.get(text, _KINDS_MAX)
        if interval is not None:
            chosen &= np.frombuffer(self._intervals, dtype=np.int64)[since:] == interval
        if name is not None:
            chosen &= np.frombuffer(self._names, dtype=np.uint32)[since:] == (hash(name) & 0xFFFFFFFF)
        return [since + int(k) for k in np.flatnonzero(chosen)]
