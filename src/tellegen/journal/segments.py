"""Numbered append-only files of frames: how log entries and payloads lie on disk.

A frame is ``length u32 | crc32 u32 | bytes``, little-endian; the checksum covers the length field
and the bytes. A frame never spans files. Files are ``000000.seg``, ``000001.seg``, and so on.
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from tellegen.journal.note import JournalError

_FRAME = struct.Struct("<II")
sync_data = getattr(os, "fdatasync", os.fsync)  # macOS has no fdatasync


@dataclass(frozen=True, slots=True)
class FramePlace:
    """Where a frame's bytes lie."""

    segment: int
    offset: int
    length: int


def _checksum(length: int, data: bytes) -> int:
    return zlib.crc32(data, zlib.crc32(length.to_bytes(4, "little")))


def frame_bytes(data: bytes) -> bytes:
    """A frame as it lies on disk."""
    return _FRAME.pack(len(data), _checksum(len(data), data)) + data


class Segments:
    """The frames of one folder, in order.

    Opening reads the frames' lengths only; `read` checks the checksum of what it returns. A tail
    that is not a whole frame is left out of `places` (and removed by `truncate`).
    """

    def __init__(self, folder: Path, segment_bytes_max: int, frame_bytes_max: int) -> None:
        self._folder, self._segment_max, self._frame_max = folder, segment_bytes_max, frame_bytes_max
        self.places: list[FramePlace] = []
        self.torn = False
        self._handle: int | None = None
        self._handle_segment = -1
        self._scan()

    def _path(self, segment: int) -> Path:
        return self._folder / f"{segment:06d}.seg"

    def _scan(self) -> None:
        segment = 0
        while self._path(segment).is_file():
            if self.torn:  # what follows a torn frame is torn with it
                return
            with self._path(segment).open("rb") as file:
                size = os.fstat(file.fileno()).st_size
                at = 0
                while at < size:
                    head = file.read(_FRAME.size)
                    length = _FRAME.unpack(head)[0] if len(head) == _FRAME.size else size
                    if length > self._frame_max or at + _FRAME.size + length > size:
                        self.torn = True
                        break
                    self.places.append(FramePlace(segment, at + _FRAME.size, length))
                    at = file.seek(at + _FRAME.size + length)
            segment += 1

    def __len__(self) -> int:
        return len(self.places)

    def read(self, index: int) -> bytes:
        """Bytes of frame `index`.

        Raises
        ------
        JournalError : unreadable, or its checksum does not match.
        """
        place = self.places[index]
        path = self._path(place.segment)
        try:
            with path.open("rb") as file:
                file.seek(place.offset - _FRAME.size)
                frame = file.read(_FRAME.size + place.length)
        except OSError as error:
            raise JournalError(f"{path}: {error.strerror}") from None
        data = frame[_FRAME.size :]
        if len(data) != place.length or _FRAME.unpack_from(frame) != (place.length, _checksum(place.length, data)):
            raise JournalError(f"{path}: corruption: frame {index} at byte {place.offset} fails its checksum")
        return data

    def append(self, frames: Iterable[bytes]) -> None:
        """Write frames to the end of the newest file (or a new one when it is full); not yet durable."""
        last = self.places[-1] if self.places else FramePlace(0, 0, 0)
        segment, at = last.segment, last.offset + last.length
        parts: list[bytes] = []
        for data in frames:
            if at + _FRAME.size + len(data) > self._segment_max and at > 0:
                self._write(segment, b"".join(parts))
                self.sync()
                segment, at, parts = segment + 1, 0, []
            parts += [_FRAME.pack(len(data), _checksum(len(data), data)), data]
            self.places.append(FramePlace(segment, at + _FRAME.size, len(data)))
            at += _FRAME.size + len(data)
        self._write(segment, b"".join(parts))

    def _write(self, segment: int, data: bytes) -> None:
        if not data:
            return
        if self._handle_segment != segment:
            self.close()
            self._handle = os.open(self._path(segment), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
            self._handle_segment = segment
            sync_folder(self._folder)
        assert self._handle is not None
        write_all(self._handle, data)

    def sync(self) -> None:
        """Make everything written durable (fdatasync)."""
        if self._handle is not None:
            sync_data(self._handle)

    def truncate(self, count: int) -> None:
        """Keep the first `count` frames and nothing else."""
        self.close()
        del self.places[count:]
        last = self.places[-1] if self.places else FramePlace(0, 0, 0)
        segment = last.segment
        if self._path(segment).exists():
            with self._path(segment).open("r+b") as file:
                file.truncate(last.offset + last.length)
                os.fsync(file.fileno())
        while self._path(segment + 1).exists():
            segment += 1
            self._path(segment).unlink()
        sync_folder(self._folder)
        self.torn = False

    def close(self) -> None:
        """Release the file; what is written stays."""
        if self._handle is not None:
            os.close(self._handle)
        self._handle, self._handle_segment = None, -1


def write_all(handle: int, data: bytes) -> None:
    """Write every byte: the system call may take fewer."""
    view = memoryview(data)
    while view:
        view = view[os.write(handle, view) :]


def sync_folder(folder: Path) -> None:
    """Make the creation, renaming or removal of files in a folder durable."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def replace_file(path: Path, data: bytes, *, durable: bool = True) -> None:
    """Put `data` at `path` atomically: readers see the old bytes or the new ones.

    Without `durable` a crash may bring the old ones back.
    """
    draft = path.with_name(path.name + ".new")
    handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    try:
        write_all(handle, data)
        sync_data(handle)
    finally:
        os.close(handle)
    draft.replace(path)
    if durable:
        sync_folder(path.parent)
