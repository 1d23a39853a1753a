"""Numbered append-only files of frames: how log entries and payloads lie on disk.

A frame is ``length u32 | crc32 u32 | bytes``, little-endian; the checksum covers the length field
and the bytes. A frame never spans files. Files are ``000000.seg``, ``000001.seg``, and so on.

How many frames count is said from outside, by the last checkpoint: what lies beyond was promised to nobody.
"""

from __future__ import annotations

import struct
import zlib
from array import array
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from tellegen.journal.note import JournalError
from tellegen.journal.storage import Storage, StoredFile

_FRAME = struct.Struct("<II")
_CHUNK_BYTES = 1 << 22
_HEAD_READ_BYTES, _HEADS_WORTH_MORE = 1 << 9, 3
_HANDLES_MAX = 8


def _checksum(head: bytes, data: bytes) -> int:
    return zlib.crc32(data, zlib.crc32(head[:4]))


def _head(data: bytes) -> bytes:
    length = len(data).to_bytes(4, "little")
    return length + _checksum(length, data).to_bytes(4, "little")


def frame_bytes(data: bytes) -> bytes:
    """A frame as it lies on disk."""
    return _head(data) + data


class Frame(NamedTuple):
    """A frame as it was found.

    Attributes
    ----------
    segment, at : file number, and byte where the frame begins.
    length : bytes of its content.
    data : the content; empty where only lengths were read, or it is damaged.
    problem : what is wrong with it, or empty.
    """

    segment: int
    at: int
    length: int
    data: bytes
    problem: str


class Place(NamedTuple):
    """Where a frame lies: file number, byte where it begins, bytes of its content."""

    segment: int
    at: int
    length: int


def frame_end(segment: int, at: int, length: int) -> tuple[int, int]:
    """Segment and byte at which a frame ends."""
    return segment, at + _FRAME.size + length


def _nowhere(index: int) -> Place:
    raise JournalError(f"the place of frame {index} is not known")


def segment_name(segment: int) -> str:
    """File name of a segment."""
    return f"{segment:06d}.seg"


class Segments:
    """The frames of one folder, in order.

    In memory a frame is twelve bytes: its place. Frames are taken in with `scan` (content read and checked) or `skim`
    (lengths only; `read` checks later). The places of the first frames may be had elsewhere (`begin_at`, `forget`).
    """

    def __init__(self, storage: Storage, folder: Path, segment_bytes_max: int, frame_bytes_max: int) -> None:
        self._storage, self._folder = storage, folder
        self._segment_max, self._frame_max = segment_bytes_max, frame_bytes_max
        self._segments, self._starts, self._lengths = array("I"), array("I"), array("I")
        self._first, self._begin = 0, (0, 0)  # frames before the first whose place is here, and where they end
        self._older: Callable[[int], Place] = _nowhere
        self._readers: dict[int, StoredFile] = {}
        self._writer: StoredFile | None = None
        self._writer_segment = -1

    def __len__(self) -> int:
        return self._first + len(self._lengths)

    def path(self, segment: int) -> Path:
        """The file of a segment."""
        return self._folder / segment_name(segment)

    @property
    def end(self) -> tuple[int, int]:
        """Segment and byte at which the known frames end."""
        if not self._lengths:
            return self._begin
        return frame_end(self._segments[-1], self._starts[-1], self._lengths[-1])

    def begin_at(self, count: int, end: tuple[int, int], older: Callable[[int], Place]) -> None:
        """Know nothing but that `count` frames end at a segment and byte; `older` gives their places."""
        self._first, self._begin, self._older = count, end, older
        self._segments, self._starts, self._lengths = array("I"), array("I"), array("I")

    def places(self, first: int, stop: int) -> list[array[int]]:
        """Segments, starts and lengths of frames whose places are here."""
        where = slice(first - self._first, stop - self._first)
        return [self._segments[where], self._starts[where], self._lengths[where]]

    def forget(self, before: int, older: Callable[[int], Place]) -> None:
        """Give up the places of the first frames; `older` gives them from now on."""
        count = before - self._first
        if count > 0:
            self._begin, self._first, self._older = frame_end(*self._place(before - 1)), before, older
            del self._segments[:count], self._starts[:count], self._lengths[:count]

    def _place(self, index: int) -> Place:
        if index < self._first:
            return self._older(index)
        at = index - self._first
        return Place(self._segments[at], self._starts[at], self._lengths[at])

    # Taking in

    def scan(self, count: int) -> Iterator[bytes]:
        """Contents of the frames that follow those known, until `count` are.

        Raises
        ------
        JournalError : a frame is damaged, or there are fewer.
        """
        for frame in self._until(count, content=True):
            yield frame.data

    def skim(self, count: int) -> None:
        """Take in the places of frames until `count` are known.

        Raises
        ------
        JournalError : there are fewer, as far as lengths tell.
        """
        for _ in self._until(count, content=False):
            pass

    def _until(self, count: int, *, content: bool) -> Iterator[Frame]:
        frames = self.walk(content=content) if len(self) < count else iter(())
        while len(self) < count:
            frame = next(frames, None)
            if frame is None:
                where = self.path(self.end[0])
                raise JournalError(f"corruption: {where}: ends after frame {len(self)}, {count} are signed for")
            if frame.problem:
                raise JournalError(
                    f"corruption: {self.path(frame.segment)}: frame {len(self)} at byte {frame.at} {frame.problem}"
                )
            self._segments.append(frame.segment)
            self._starts.append(frame.at)
            self._lengths.append(frame.length)
            yield frame

    def walk(self, *, content: bool) -> Iterator[Frame]:
        """Every frame after those known, damaged ones with their problem, as far as lengths can be followed.

        Raises
        ------
        JournalError : a file cannot be read.
        """
        segment, at = self.end
        try:
            while self._storage.exists(self.path(segment)):
                file = self._reader(segment)
                size = file.size()
                yield from self._walk_file(file, segment, at, size, content)
                segment, at = segment + 1, 0
        except OSError as error:
            raise JournalError(f"{self.path(segment)}: {error.strerror}") from None

    def _walk_file(self, file: StoredFile, segment: int, at: int, size: int, content: bool) -> Iterator[Frame]:
        base, chunk, want, heads = at, b"", _CHUNK_BYTES if content else _HEAD_READ_BYTES, 0
        while at < size:
            if at + _FRAME.size > base + len(chunk):
                if not content:  # small frames are worth ever larger reads, large ones are stepped over
                    want = min(2 * want, _CHUNK_BYTES) if heads > _HEADS_WORTH_MORE else _HEAD_READ_BYTES
                base, chunk, heads = at, file.read(at, want), 0
            heads += 1
            head = chunk[at - base : at - base + _FRAME.size]
            length, checksum = _FRAME.unpack(head) if len(head) == _FRAME.size else (size, 0)
            stop = at + _FRAME.size + length
            if length > self._frame_max or stop > size:
                yield Frame(segment, at, 0, b"", "is cut short, or its length is damaged")
                return
            data = b""
            if content:
                if stop > base + len(chunk):
                    base, chunk = at, file.read(at, max(want, stop - at))
                data = chunk[at - base + _FRAME.size : stop - base]
            if content and _checksum(head, data) != checksum:
                yield Frame(segment, at, length, b"", "fails its checksum")
            else:
                yield Frame(segment, at, length, data, "")
            at = stop

    # Reading

    def _reader(self, segment: int) -> StoredFile:
        file = self._readers.pop(segment, None) or self._storage.open(self.path(segment))
        self._readers[segment] = file  # the newest is the last to go
        if len(self._readers) > _HANDLES_MAX:
            self._readers.pop(next(iter(self._readers))).close()
        return file

    def read(self, index: int) -> bytes:
        """Content of frame `index`.

        Raises
        ------
        JournalError : unreadable, or its checksum does not match.
        """
        segment, at, length = self._place(index)
        try:
            frame = self._reader(segment).read(at, _FRAME.size + length)
        except OSError as error:
            raise JournalError(f"{self.path(segment)}: {error.strerror}") from None
        head, data = frame[: _FRAME.size], frame[_FRAME.size :]
        if len(data) != length or _FRAME.unpack(head) != (length, _checksum(head, data)):
            raise JournalError(f"corruption: {self.path(segment)}: frame {index} at byte {at} fails its checksum")
        return data

    # Writing

    def append(self, contents: Sequence[bytes]) -> StoredFile:
        """Write frames to the end of the newest file (or a new one when it is full).

        Returns
        -------
        The newest file, which is durable when it is synced; those before it are.

        Raises
        ------
        OSError : the disk refused.
        """
        segment, at = self.end
        start, parts = at, list[bytes]()
        for data in contents:
            if at + _FRAME.size + len(data) > self._segment_max and at > 0:
                if parts:
                    file = self._written(segment)
                    file.write(start, b"".join(parts))
                    file.sync()
                segment, at, start, parts = segment + 1, 0, 0, []
            parts += [_head(data), data]
            self._segments.append(segment)
            self._starts.append(at)
            self._lengths.append(len(data))
            at += _FRAME.size + len(data)
        file = self._written(segment)
        file.write(start, b"".join(parts))
        return file

    def _written(self, segment: int) -> StoredFile:
        if self._writer is None or self._writer_segment != segment:
            if self._writer is not None:
                self._writer.close()
            self._writer, self._writer_segment = self._storage.open(self.path(segment), write=True), segment
            self._storage.sync_folder(self._folder)
        return self._writer

    def cut(self) -> None:
        """Remove, durably, everything beyond the known frames."""
        segment, at = self.end
        newest = segment_name(segment) if at else ""
        for name in reversed(self._storage.names(self._folder)):
            if name > newest:
                self._storage.remove(self._folder / name)
        if at and self._reader(segment).size() != at:
            file = self._written(segment)
            file.truncate(at)
            file.sync()
        self._storage.sync_folder(self._folder)

    def close(self) -> None:
        """Release the files; what is written stays."""
        for file in (*self._readers.values(), *([self._writer] if self._writer is not None else [])):
            file.close()
        self._readers, self._writer, self._writer_segment = {}, None, -1
