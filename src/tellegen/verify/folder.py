"""A directory from a stranger: only regular files below it are opened, and none before its size is known.

A link, a pipe or a device is never opened, wherever it stands and whatever it is called: opening alone can wait for
ever. Each folder on the way down is opened inside the one above it, so that nothing can be put in its place meanwhile.
"""

from __future__ import annotations

import hashlib
import itertools
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path

from tellegen.verify.report import RefusedError

GIB = 1 << 30
NOTE_BYTES_MAX = 1 << 20
"""A key, a checkpoint, a checkpoint with its cosignatures."""
MANIFEST_BYTES_MAX = 1 << 26
NAMES_MAX = 1_000_000
"""Files and folders below a directory."""
DEPTH_MAX = 16
_KINDS = (
    (stat.S_ISLNK, "a symbolic link"),
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)
_CLOSE_ON_EXEC = getattr(os, "O_CLOEXEC", 0)
_NO_LINK = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0) | _CLOSE_ON_EXEC
_FOLDER = getattr(os, "O_DIRECTORY", 0)


@dataclass(frozen=True, slots=True)
class Limits:
    """What a verification may take; every limit of a file follows from the memory.

    What it takes for a byte of a file is bounded for each kind of file: entries and checkpoints become objects, some
    eight times their bytes; rows of tables are sorted and summed by key, some thousand bytes each.
    """

    memory_bytes: int = 8 * GIB

    @property
    def log_bytes(self) -> int:
        """Of all entries of a log, or of its checkpoints."""
        return self.memory_bytes // 16

    @property
    def open_bytes(self) -> int:
        """Of all rows and documents that lie open in a journal."""
        return self.memory_bytes // 8

    @property
    def table_rows(self) -> int:
        """Rows of one published table, or of the books."""
        return self.memory_bytes // 1024

    @property
    def unpacked_bytes(self) -> int:
        """What the columns that are read of one table unpack to."""
        return self.memory_bytes // 4

    @property
    def file_bytes(self) -> int:
        """Of a file that is read as a whole: a table, the books."""
        return self.memory_bytes // 16

    @property
    def published_bytes(self) -> int:
        """Of all published files, which are only hashed; of the archive 16 times as much."""
        return self.memory_bytes


class Folder:
    """A directory or a folder in it, of which names are given relative to it, with slashes.

    Parameters
    ----------
    top : the directory; a link to it is followed, for whoever calls has named it.
    limits : what may be read.
    below : names of the folders from there down to this one; that they are folders is seen whenever something is read.
    """

    def __init__(self, top: Path, limits: Limits, below: tuple[str, ...] = ()) -> None:
        self._top, self.limits, self._below = top, limits, below

    def below(self, name: str) -> Folder:
        """A folder in it, whether it is there or not."""
        return Folder(self._top, self.limits, (*self._below, *_parts(name)))

    def has(self, name: str) -> bool:
        """Whether there is anything of this name, even a link that leads nowhere."""
        return self._mode(*_parts(name)) != 0

    @contextmanager
    def opened(self, name: str, bytes_max: int) -> Iterator[tuple[BufferedReader, int]]:
        """A regular file for reading, and its size.

        Raises
        ------
        RefusedError : there is none, it is anything else, or larger than `bytes_max`.
        """
        handle = self._open(name)
        with os.fdopen(handle, "rb") as file:
            size = _regular(name, os.fstat(handle))
            if size > bytes_max:
                raise RefusedError(f"{name} has {size} bytes; at most {bytes_max} are read")
            yield file, size

    def read(self, name: str, bytes_max: int) -> bytes:
        """Content of a regular file.

        Raises
        ------
        RefusedError : as `opened`.
        """
        with self.opened(name, bytes_max) as (file, size):
            return file.read(size)

    def text(self, name: str, bytes_max: int) -> str:
        """The same, which must be UTF-8.

        Raises
        ------
        RefusedError : as `opened`, or it is no text.
        """
        try:
            return self.read(name, bytes_max).decode()
        except UnicodeDecodeError as error:
            raise RefusedError(f"{name} is no text: byte {error.start}") from None

    def sha256(self, name: str, bytes_max: int) -> str:
        """Digest of a regular file, in hex.

        Raises
        ------
        RefusedError : as `opened`.
        """
        with self.opened(name, bytes_max) as (file, _):
            return hashlib.file_digest(file, "sha256").hexdigest()

    def walk(self, without: frozenset[str] = frozenset()) -> Iterator[tuple[str, bool, bool]]:
        """Everything below it in the order of names: name, whether it is a folder, whether a regular file.

        Links are not followed; folders of the first level that are named in `without` are passed over.

        Raises
        ------
        RefusedError : it is no folder, more than `NAMES_MAX` names, or folders deeper than `DEPTH_MAX`.
        """
        mode = self._mode()
        if not stat.S_ISDIR(mode):
            raise RefusedError(f"{'/'.join(self._below)} is {_kind(mode)}, not a folder")
        here, count = self._top.joinpath(*self._below), 0
        waiting = [""]
        while waiting:
            part = waiting.pop()
            with os.scandir(here / part) as entries:
                found = sorted(itertools.islice(entries, NAMES_MAX + 1 - count), key=lambda entry: entry.name)
            folders = []
            for entry in found:
                count += 1
                name = f"{part}{entry.name}"
                if count > NAMES_MAX or name.count("/") > DEPTH_MAX:
                    raise RefusedError(f"{name}: more than {NAMES_MAX} names, or folders deeper than {DEPTH_MAX}")
                folder = entry.is_dir(follow_symlinks=False)
                if folder and name in without:
                    continue
                yield name, folder, entry.is_file(follow_symlinks=False)
                if folder:
                    folders.append(f"{name}/")
            waiting += reversed(folders)

    def _mode(self, *parts: str) -> int:
        """Mode of what stands there, a link not followed; 0 for nothing."""
        path, mode = self._top, stat.S_IFDIR
        for part in (*self._below, *parts):
            if not stat.S_ISDIR(mode):
                return 0
            path /= part
            try:
                mode = path.lstat().st_mode
            except (FileNotFoundError, NotADirectoryError):
                return 0
        return mode

    def _open(self, name: str) -> int:
        parts = [*self._below, *_parts(name)]
        if os.open not in os.supports_dir_fd:  # no such thing on Windows; then nobody may change folders meanwhile
            path = self._top.joinpath(*parts)
            _regular(name, _lstat(name, path))
            return os.open(path, os.O_RDONLY | _NO_LINK)
        folder = os.open(self._top, os.O_RDONLY | _FOLDER | _CLOSE_ON_EXEC)
        try:
            for part in parts[:-1]:
                mode = _lstat(name, part, folder).st_mode
                if not stat.S_ISDIR(mode):
                    raise RefusedError(f"{name}: {part} is {_kind(mode)}, not a folder")
                inner = os.open(part, os.O_RDONLY | _NO_LINK | _FOLDER, dir_fd=folder)
                os.close(folder)
                folder = inner
            _regular(name, _lstat(name, parts[-1], folder))
            return os.open(parts[-1], os.O_RDONLY | _NO_LINK, dir_fd=folder)
        finally:
            os.close(folder)


def _parts(name: str) -> list[str]:
    parts = name.split("/")
    if any(part in ("", ".", "..") or "\0" in part or os.sep in part for part in parts):
        raise RefusedError(f"{name!r} is no name below the directory")
    return parts


def _lstat(name: str, path: Path | str, folder: int | None = None) -> os.stat_result:
    try:
        return os.stat(path, dir_fd=folder, follow_symlinks=False)
    except (FileNotFoundError, NotADirectoryError):
        raise RefusedError(f"{name} is missing") from None


def _regular(name: str, found: os.stat_result) -> int:
    """Size of a regular file."""
    if not stat.S_ISREG(found.st_mode):
        raise RefusedError(f"{name} is {_kind(found.st_mode)}; only regular files below the directory are read")
    return found.st_size


def _kind(mode: int) -> str:
    if not mode:
        return "missing"
    return next((what for test, what in _KINDS if test(mode)), "a file")
