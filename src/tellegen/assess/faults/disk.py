"""A disk that keeps only what it was made to keep: a seeded stand-in for the real one.

What is written stands in memory until it is synced. When the power goes, each unsynced write is kept, lost, or torn
into sectors, and the names of files that were made, renamed or removed since their folder was synced may be as before.
When only the process dies, everything written stays. A sync that fails leaves the written bytes to be read, and forgets
to write them: no later sync makes them durable.
"""

from __future__ import annotations

import errno
import os
import random
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path

from tellegen.journal.storage import StoredFile

SECTOR_BYTES = 512


class PowerLossError(BaseException):
    """The machine stops here; no `except Exception` may go on as if it had not."""


@dataclass(slots=True)
class _Content:
    """A file's bytes: as read now, as on the platter, and the writes in between (None: cut to a size)."""

    now: bytearray = field(default_factory=bytearray)
    platter: bytearray = field(default_factory=bytearray)
    unsynced: list[tuple[int, bytes | None]] = field(default_factory=list)
    writer: object | None = None


def _put(content: bytearray, at: int, data: bytes | None) -> None:
    if data is None:
        del content[at:]
        content.extend(bytes(at - len(content)))
        return
    content.extend(bytes(max(0, at - len(content))))
    content[at : at + len(data)] = data


@dataclass(slots=True)
class Faults:
    """How the disk fails: chances per operation, and what holds until it is changed.

    full_p : a write finds no room. sync_p : a sync fails. read_only : every change is refused.
    power_in : operations until the power goes; None: it does not.
    """

    full_p: float = 0.0
    sync_p: float = 0.0
    read_only: bool = False
    power_in: int | None = None

    @classmethod
    def drawn(cls, chance: random.Random, well_p: float, often_p: float) -> Faults:
        """A disk that is well, or one that fails in one way or another, now and then or often."""
        if chance.random() < well_p:
            return cls()
        return cls(
            full_p=chance.choice((0.0, 0.05, often_p)),
            sync_p=chance.choice((0.0, 0.05, often_p)),
            read_only=chance.random() < 0.1,
            power_in=chance.choice((None, chance.randint(0, 25))),
        )


class SimulatedDisk:
    """A `Storage` in memory, driven by a seeded generator.

    Parameters
    ----------
    random : the generator; the same seed fails in the same way.
    """

    def __init__(self, random: random.Random) -> None:
        self.random, self.faults = random, Faults()
        self.operations = 0
        self.meanwhile: Callable[[], None] = lambda: None
        self._files: dict[Path, _Content] = {}
        self._folders: set[Path] = set()
        self._named: dict[Path, _Content] = {}  # as the platter has it
        self._unsynced: list[dict[Path, _Content | None]] = []  # changes of names since; None: taken away

    # What the journal asks

    def open(self, path: Path, *, write: bool = False) -> StoredFile:
        """See `Storage`."""
        content = self._files.get(path)
        if content is None:
            if not write:
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))
            self._change(may_be_full=True)
            content = self._files[path] = _Content()
            self._unsynced.append({path: content})
        elif write:
            self._change()
        return _SimulatedFile(self, content)

    def exists(self, path: Path) -> bool:
        """See `Storage`."""
        return path in self._files

    def names(self, folder: Path) -> list[str]:
        """See `Storage`."""
        return sorted(path.name for path in {*self._files, *self._folders} if path.parent == folder)

    def make_folder(self, path: Path) -> None:
        """See `Storage`."""
        self._change()
        self._folders |= {path, *path.parents}

    def rename(self, old: Path, new: Path) -> None:
        """See `Storage`."""
        self._change()
        content = self._files[new] = self._files.pop(old)
        self._unsynced.append({new: content, old: None})

    def remove(self, path: Path) -> None:
        """See `Storage`."""
        if path in self._files:
            self._change()
            del self._files[path]
            self._unsynced.append({path: None})

    def sync_folder(self, path: Path) -> None:
        """See `Storage`."""
        self._syncing()
        waiting = self._unsynced
        self._unsynced = [change for change in waiting if all(name.parent != path for name in change)]
        for change in waiting:
            if any(name.parent == path for name in change):
                self._name(change)

    def sync_all(self, files: Sequence[StoredFile]) -> None:
        """See `Storage`; one after the other, in any order."""
        for file in self.random.sample(files, len(files)):
            file.sync()

    # What befalls it

    def kill_process(self) -> None:
        """Who had files open is gone; what was written stays."""
        for content in self._files.values():
            content.writer = None

    def lose_power(self) -> None:
        """Keep what was synced; of the rest, what chance keeps."""
        keep = self.random.randint(0, len(self._unsynced))
        for change in self._unsynced[:keep]:
            self._name(change)
        self._unsynced = []
        contents = {id(content): content for content in (*self._files.values(), *self._named.values())}
        for content in contents.values():
            self._settle(content, self._kept(content))
            content.writer = None
        self._files = dict(self._named)

    def write_back(self) -> None:
        """Some time passes: what was written reaches the platter by itself."""
        for change in self._unsynced:
            self._name(change)
        self._unsynced = []
        for content in self._files.values():
            if content.unsynced:
                self._settle(content, content.unsynced)

    def copy_in(self, folder: Path) -> None:
        """Put a real folder's files here, durably, under the same paths."""
        for path in sorted(folder.rglob("*")):
            self._folders |= {path.parent, *path.parents}
            if path.is_file():
                data = path.read_bytes()
                self._files[path] = self._named[path] = _Content(bytearray(data), bytearray(data))

    def copy(self, random: random.Random) -> SimulatedDisk:
        """Another disk that holds the same, with the same writes not yet durable; it fails by its own generator."""
        other = SimulatedDisk(random)
        held = (self._files, self._folders, self._named, self._unsynced)
        other._files, other._folders, other._named, other._unsynced = deepcopy(held)
        other.kill_process()
        return other

    def clear(self) -> None:
        """Somebody removes everything, durably."""
        self._files, self._named, self._folders, self._unsynced = {}, {}, set(), []

    def flip(self, path: Path, bit: int) -> None:
        """Turn over one bit of a file, as decay or malice would."""
        for image in (self._files[path].now, self._files[path].platter):
            image[bit // 8] ^= 1 << bit % 8

    def bytes_of(self, path: Path) -> bytes:
        """What a file holds now."""
        return bytes(self._files[path].now)

    def paths(self) -> list[Path]:
        """Every file there is."""
        return sorted(self._files)

    def _name(self, change: dict[Path, _Content | None]) -> None:
        for path, content in change.items():
            if content is None:
                self._named.pop(path, None)
            else:
                self._named[path] = content

    def _kept(self, content: _Content) -> list[tuple[int, bytes | None]]:
        """Unsynced writes that reach the platter: none, all, those up to one that is torn, or sectors by chance."""
        writes, fate = content.unsynced, self.random.random()
        if fate < 0.25:
            return []
        if fate < 0.5:
            return writes
        if fate < 0.75:
            kept = writes[: self.random.randint(0, len(writes))]
            if kept and (data := kept[-1][1]):
                kept = [*kept[:-1], (kept[-1][0], data[: self.random.randint(0, len(data))])]
            return kept
        sectors: list[tuple[int, bytes | None]] = []
        for at, data in writes:
            if data is None:
                sectors += [(at, None)] * self.random.randint(0, 1)
                continue
            start = 0
            while start < len(data):
                stop = min(len(data), start + SECTOR_BYTES - (at + start) % SECTOR_BYTES)
                if self.random.random() < 0.5:
                    sectors.append((at + start, data[start:stop]))
                start = stop
        return sectors

    def _settle(self, content: _Content, kept: list[tuple[int, bytes | None]]) -> None:
        for at, data in kept:
            _put(content.platter, at, data)
        content.unsynced = []
        content.now = bytearray(content.platter)

    def _change(self, *, may_be_full: bool = False) -> None:
        """Before anything is changed: the power may go, and the disk refuse."""
        self.operations += 1
        if self.faults.power_in is not None:
            self.faults.power_in -= 1
            if self.faults.power_in < 0:
                raise PowerLossError
        if self.faults.read_only:
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))
        if may_be_full and self.random.random() < self.faults.full_p:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def _syncing(self) -> None:
        self._change()
        if self.random.random() < self.faults.sync_p:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        self.meanwhile()

    def _write(self, content: _Content, at: int, data: bytes) -> None:
        try:
            self._change(may_be_full=True)
        except (OSError, PowerLossError):  # as far as it got
            part = data[: self.random.randint(0, len(data))]
            if part and not self.faults.read_only:
                _put(content.now, at, part)
                content.unsynced.append((at, part))
            raise
        _put(content.now, at, data)
        content.unsynced.append((at, data))

    def _truncate(self, content: _Content, size: int) -> None:
        self._change()
        _put(content.now, size, None)
        content.unsynced.append((size, None))

    def _sync(self, content: _Content) -> None:
        if not content.unsynced:
            return
        try:
            self._syncing()
        except OSError:
            if not self.faults.read_only:  # what did not arrive is forgotten, and still read as if it had
                now = content.now
                self._settle(content, self._kept(content))
                content.now = now
            raise
        for at, data in content.unsynced:
            _put(content.platter, at, data)
        content.unsynced = []


class _SimulatedFile:
    """See `StoredFile`."""

    def __init__(self, disk: SimulatedDisk, content: _Content) -> None:
        self._disk, self._content = disk, content

    def size(self) -> int:
        return len(self._content.now)

    def read(self, at: int, length: int) -> bytes:
        return bytes(self._content.now[at : at + length])

    def write(self, at: int, data: bytes) -> None:
        self._disk._write(self._content, at, data)

    def truncate(self, size: int) -> None:
        self._disk._truncate(self._content, size)

    def sync(self) -> None:
        self._disk._sync(self._content)

    def lock(self) -> bool:
        if self._content.writer not in (None, self):
            return False
        self._content.writer = self
        return True

    def close(self) -> None:
        if self._content.writer is self:
            self._content.writer = None
