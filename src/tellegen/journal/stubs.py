"""Payloads give way to stubs once their rows lie in the archive; the log and every proof stay as they are."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import groupby
from pathlib import Path

from tellegen.journal.checkpoints import CheckpointFile
from tellegen.journal.files import SEGMENT_BYTES_MAX
from tellegen.journal.journal import Journal
from tellegen.journal.note import JournalError
from tellegen.journal.payload import PAYLOAD_BYTES_MAX, Stub
from tellegen.journal.segments import Segments, frame_bytes, segment_name
from tellegen.journal.storage import FILES, replace_file


def put_stubs(path: Path | str, files: Mapping[int, str], done: Callable[[str], None] = lambda what: None) -> int:
    """Replace payloads by stubs, one segment file after the other, each at once; returns the bytes given back.

    The journal must be closed: this takes the writer's place. Cut short by a crash, it is finished by doing it again.

    Parameters
    ----------
    path : directory of the journal.
    files : by entry, the archive file in which the rows now lie.
    done : told each file replaced.

    Raises
    ------
    JournalError : somebody else writes, or a payload is damaged.
    """
    folder, freed = Path(path) / "journal", 0
    with Journal.open(path) as reader:
        lock = CheckpointFile(FILES, folder, reader.verifier)
        lock.lock()
        reader.refresh()  # whoever wrote until now has signed for it
        payloads = Segments(FILES, folder / "payloads", SEGMENT_BYTES_MAX, PAYLOAD_BYTES_MAX)
        try:
            numbered = zip(range(len(reader)), payloads.walk(content=True), strict=False)
            for segment, frames in groupby(numbered, key=lambda found: found[1].segment):
                stored: dict[int, bytes] = {}
                for index, frame in frames:
                    if frame.problem:
                        raise JournalError(f"corruption: {payloads.path(segment)}: frame {index} {frame.problem}")
                    stored[index] = frame.data
                stubs = {
                    index: Stub(bytes.fromhex(reader.entry(index).payload_sha256), files[index]).to_bytes()
                    for index, data in stored.items()
                    if index in files and not Stub.is_stub(data)
                }
                if stubs:
                    reader.index.drop_around(min(stored), max(stored))  # before their places move
                    freed += sum(len(stored[index]) - len(stub) for index, stub in stubs.items())
                    kept = b"".join(frame_bytes(data) for data in (stored | stubs).values())
                    replace_file(payloads.path(segment), kept)
                    done(segment_name(segment))
            reader.index.writable = True  # by the lock
            reader.index.restore()
        finally:
            payloads.close()
            lock.close()
    return freed
