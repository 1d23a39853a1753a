"""What the journal asks of a disk, and the disk of the operating system.

Everything that the journal does to files goes through a `Storage`, so that a simulated disk can stand in for the real
one and lose, tear or refuse what it is given.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Protocol

DRAFT_SUFFIX = ".new"
"""What a file that is to take another's place is called besides."""
_OWNER_ONLY = 0o600
_fdatasync = getattr(os, "fdatasync", os.fsync)  # macOS has no fdatasync


class StoredFile(Protocol):
    """An open file. Every method may raise OSError."""

    def size(self) -> int:
        """Bytes in the file now, whoever wrote them."""

    def read(self, at: int, length: int) -> bytes:
        """Bytes from `at` on; fewer than `length` where the file ends."""

    def write(self, at: int, data: bytes) -> None:
        """Put all of `data` at `at`; not yet durable. If it fails, some of it may stand there."""

    def truncate(self, size: int) -> None:
        """Cut the file to `size` bytes; not yet durable."""

    def sync(self) -> None:
        """Make what the file holds durable. If it fails, nothing is known of what was written since the last sync."""

    def lock(self) -> bool:
        """Become the file's only writer until it is closed; False where somebody else is."""

    def close(self) -> None:
        """Release the file, and the lock with it."""


class Storage(Protocol):
    """Files by path. Every method may raise OSError."""

    def open(self, path: Path, *, write: bool = False) -> StoredFile:
        """Open a file; for writing it is made where it is missing."""

    def exists(self, path: Path) -> bool:
        """Whether there is a file at `path`."""

    def names(self, folder: Path) -> list[str]:
        """Names of everything in a folder, sorted; empty where there is no folder."""

    def make_folder(self, path: Path) -> None:
        """Make a folder, and those above it."""

    def rename(self, old: Path, new: Path) -> None:
        """Give a file another name atomically, in place of what had it; durable with `sync_folder`."""

    def remove(self, path: Path) -> None:
        """Take a file away where there is one; durable with `sync_folder`."""

    def sync_folder(self, path: Path) -> None:
        """Make durable which files a folder holds."""

    def sync_all(self, files: Sequence[StoredFile]) -> None:
        """Make several files durable, at the same time where the disk can."""


class DiskFile:
    """A file of the operating system."""

    def __init__(self, path: Path, *, write: bool) -> None:
        self._handle = os.open(path, os.O_RDWR | os.O_CREAT if write else os.O_RDONLY, 0o644)

    def size(self) -> int:
        """See `StoredFile`."""
        return os.fstat(self._handle).st_size

    def read(self, at: int, length: int) -> bytes:
        """See `StoredFile`."""
        data = os.pread(self._handle, length, at)
        while data and len(data) < length:  # the system call may give fewer
            more = os.pread(self._handle, length - len(data), at + len(data))
            if not more:
                break
            data += more
        return data

    def write(self, at: int, data: bytes) -> None:
        """See `StoredFile`."""
        view = memoryview(data)
        while view:  # the system call may take fewer
            count = os.pwrite(self._handle, view, at)
            view, at = view[count:], at + count

    def truncate(self, size: int) -> None:
        """See `StoredFile`."""
        os.ftruncate(self._handle, size)

    def sync(self) -> None:
        """See `StoredFile`."""
        _fdatasync(self._handle)

    def lock(self) -> bool:
        """See `StoredFile`."""
        if sys.platform != "win32":
            import fcntl

            try:
                fcntl.flock(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return False
        return True

    def close(self) -> None:
        """See `StoredFile`."""
        handle, self._handle = self._handle, -1
        if handle >= 0:
            os.close(handle)

    def __del__(self) -> None:
        if hasattr(self, "_handle"):
            self.close()


class FileStorage:
    """The disk of the operating system. Several files are made durable by as many threads."""

    def __init__(self) -> None:
        self._threads: ThreadPoolExecutor | None = None

    def open(self, path: Path, *, write: bool = False) -> StoredFile:
        """See `Storage`."""
        return DiskFile(path, write=write)

    def exists(self, path: Path) -> bool:
        """See `Storage`."""
        return path.is_file()

    def names(self, folder: Path) -> list[str]:
        """See `Storage`."""
        return sorted(os.listdir(folder)) if folder.is_dir() else []

    def make_folder(self, path: Path) -> None:
        """See `Storage`."""
        path.mkdir(parents=True, exist_ok=True)

    def rename(self, old: Path, new: Path) -> None:
        """See `Storage`."""
        old.replace(new)

    def remove(self, path: Path) -> None:
        """See `Storage`."""
        path.unlink(missing_ok=True)

    def sync_folder(self, path: Path) -> None:
        """See `Storage`."""
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)

    def sync_all(self, files: Sequence[StoredFile]) -> None:
        """See `Storage`."""
        if len(files) > 1 and self._threads is None:
            self._threads = ThreadPoolExecutor(2, "sync")
        others = [self._threads.submit(file.sync) for file in files[1:]] if self._threads is not None else []
        try:
            for file in files[:1]:
                file.sync()
        finally:  # no sync may still run when the caller closes the files
            failures = [failure for other in others if (failure := other.exception()) is not None]
        for failure in failures:
            raise failure


FILES = FileStorage()
"""The storage of everything that names no other."""


def read_file(storage: Storage, path: Path) -> bytes:
    """Everything a file holds.

    Raises
    ------
    OSError : it cannot be read; FileNotFoundError where there is none.
    """
    file = storage.open(path)
    try:
        return file.read(0, file.size())
    finally:
        file.close()


def draft_file(storage: Storage, path: Path, data: bytes) -> StoredFile:
    """Write `data` beside `path`, under the name with ``.new``; not yet durable."""
    file = storage.open(path.with_name(path.name + DRAFT_SUFFIX), write=True)
    try:
        file.truncate(0)
        file.write(0, data)
    except BaseException:
        file.close()
        raise
    return file


def adopt_draft(storage: Storage, path: Path) -> None:
    """Put the durable draft of `path` in its place: readers see the old bytes or the new ones.

    A crash may bring the old ones back until the folder is synced.
    """
    storage.rename(path.with_name(path.name + DRAFT_SUFFIX), path)


def replace_file(path: Path, data: bytes, storage: Storage = FILES) -> None:
    """Put `data` at `path`, atomically and durably."""
    file = draft_file(storage, path, data)
    try:
        file.sync()
    finally:
        file.close()
    adopt_draft(storage, path)
    storage.sync_folder(path.parent)


@contextmanager
def private_draft(path: Path) -> Iterator[BinaryIO]:
    """A file to be filled that takes the name `path` at the end, or is removed; only its owner may read it.

    What tells of customers is written so: whoever may look into the folder, and whatever the umask.
    """
    draft = path.with_name(f".{path.name}{DRAFT_SUFFIX}")
    handle = os.open(draft, os.O_CREAT | os.O_TRUNC | os.O_WRONLY | getattr(os, "O_NOFOLLOW", 0), _OWNER_ONLY)
    try:
        with os.fdopen(handle, "wb") as file:
            if hasattr(os, "fchmod"):
                os.fchmod(handle, _OWNER_ONLY)  # it may have been left by somebody with another umask
            yield file
        draft.replace(path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise


def write_private(path: Path, text: str) -> None:
    """Write text, whole or not at all, that only its owner may read."""
    with private_draft(path) as file:
        file.write(text.encode())


def write_secret(path: Path, content: bytes) -> None:
    """Write a file of this machine's disk, durably, that only its owner may read.

    Raises
    ------
    FileExistsError : it is there already. OSError : the disk refused.
    """
    handle = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, _OWNER_ONLY)
    with os.fdopen(handle, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(handle)
