"""A log read from nothing but its tiles (C2SP tlog-tiles).

What the tiles lead to is believed only once it is a root that the operator has signed for.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.request import urlopen

from tellegen.verify.folder import Folder, Limits
from tellegen.verify.report import RefusedError
from tellegen.verify.tree import leaf, root_of

_WIDTH = 256
_HASH_BYTES = 32
_RESOURCE_BYTES_MAX = 1 << 25
_SECONDS_MAX = 30

Fetch = Callable[[str], bytes]
"""Content of a resource by its path; raises RefusedError where there is none."""


def fetch_from(place: str) -> Fetch:
    """How to fetch from a log: an ``http(s)://`` prefix, or the folder of an export."""
    if not place.startswith(("http://", "https://")):
        folder = Folder(Path(place), Limits())
        return lambda path: folder.read(path, _RESOURCE_BYTES_MAX)
    prefix = place.rstrip("/")

    def fetch(path: str) -> bytes:
        try:
            with urlopen(f"{prefix}/{path}", timeout=_SECONDS_MAX) as reply:  # noqa: S310 - http or https, see above
                data: bytes = reply.read(_RESOURCE_BYTES_MAX + 1)
        except HTTPError as error:
            raise RefusedError(f"{prefix}/{path}: {error.code} {error.reason}") from None
        except (URLError, OSError) as error:
            raise RefusedError(f"{prefix}/{path}: {error}") from None
        if len(data) > _RESOURCE_BYTES_MAX:
            raise RefusedError(f"{prefix}/{path}: more than {_RESOURCE_BYTES_MAX} bytes")
        return data

    return fetch


class TiledLog:
    """The log of `size` entries that tiles describe; each tile is fetched once."""

    def __init__(self, fetch: Fetch, size: int) -> None:
        self._fetch, self.size = fetch, size
        self._tiles: dict[tuple[int, int], bytes] = {}

    def root(self, size: int) -> bytes:
        """Root of its first `size` entries."""
        return self._node(0, self._within(size)) if size else root_of([])

    def inclusion(self, index: int) -> list[bytes]:
        """Proof that entry `index` is in it: siblings from the leaf upwards."""
        if not 0 <= index < self.size:
            raise RefusedError(f"entry {index} is not in a log of {self.size}")
        path: list[bytes] = []
        start, stop = 0, self.size
        while stop - start > 1:
            middle = start + _left(stop - start)
            path.append(self._node(middle, stop) if index < middle else self._node(start, middle))
            start, stop = (start, middle) if index < middle else (middle, stop)
        return path[::-1]

    def consistency(self, old_size: int) -> list[bytes]:
        """Proof that it begins with what it was at `old_size`, from the bottom upwards."""
        if not self._within(old_size) > 0:
            raise RefusedError("every log begins with the empty one; that needs no proof")
        path: list[bytes] = []
        start, stop, whole = 0, self.size, True
        while old_size != stop:
            middle = start + _left(stop - start)
            if old_size <= middle:
                path.append(self._node(middle, stop))
                stop = middle
            else:
                path.append(self._node(start, middle))
                start, whole = middle, False
        return ([] if whole else [self._node(start, stop)]) + path[::-1]

    def entry(self, index: int) -> bytes:
        """Bytes of an entry, as its leaf in the hash tile has them."""
        if not 0 <= index < self.size:
            raise RefusedError(f"entry {index} is not in a log of {self.size}")
        number, place = divmod(index, _WIDTH)
        bundle = self._resource("entries", number, min(_WIDTH, self.size - number * _WIDTH))
        at = 0
        for _ in range(place + 1):
            length = struct.unpack_from(">H", bundle, at)[0] if at + 2 <= len(bundle) else _RESOURCE_BYTES_MAX
            start, at = at + 2, at + 2 + length
            if at > len(bundle):
                raise RefusedError(f"entry bundle {number} is cut short")
        if leaf(bundle[start:at]) != self._node(index, index + 1):
            raise RefusedError(f"entry {index} in its bundle is not the one in the tree")
        return bundle[start:at]

    def _within(self, size: int) -> int:
        if not 0 <= size <= self.size:
            raise RefusedError(f"the log has {self.size} entries, not {size}")
        return size

    def _node(self, start: int, stop: int) -> bytes:
        """Hash of entries [start, stop), a range into which the RFC splits the tree."""
        count = stop - start
        if count & (count - 1):
            middle = start + _left(count)
            return root_of([self._node(start, middle), self._node(middle, stop)])
        level, shift = 0, 0
        while count >= _WIDTH:
            level, shift, count = level + 1, shift + 8, count // _WIDTH
        number, place = divmod(start >> shift, _WIDTH)
        tile = self._tile(level, number)
        return root_of(
            [tile[k : k + _HASH_BYTES] for k in range(_HASH_BYTES * place, _HASH_BYTES * (place + count), 32)]
        )

    def _tile(self, level: int, number: int) -> bytes:
        known = self._tiles.get((level, number))
        if known is None:
            width = min(_WIDTH, (self.size >> 8 * level) - number * _WIDTH)
            known = self._resource(str(level), number, width)[: width * _HASH_BYTES]
            if len(known) != width * _HASH_BYTES:
                raise RefusedError(f"tile {level}/{number} has {len(known)} bytes, not {width} hashes")
            self._tiles[level, number] = known
        return known

    def _resource(self, level: str, number: int, width: int) -> bytes:
        """A tile of at least this width: the partial one, or the full one that took its place."""
        groups = [f"{number:03d}"[-3:]]
        while number := number // 1000:
            groups.append(f"x{number % 1000:03d}")
        path = f"tile/{level}/{'/'.join(groups[::-1])}"
        if width == _WIDTH:
            return self._fetch(path)
        try:
            return self._fetch(f"{path}.p/{width}")
        except RefusedError:
            return self._fetch(path)


def _left(size: int) -> int:
    return 1 << ((size - 1).bit_length() - 1)
