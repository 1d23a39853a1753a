"""Payloads give way to stubs once their rows lie in the archive; the log and every proof stay as they are."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from tellegen.journal.checkpoints import CheckpointFile
from tellegen.journal.journal import SEGMENT_BYTES_MAX, Journal
from tellegen.journal.payload import PAYLOAD_BYTES_MAX, Stub
from tellegen.journal.segments import Segments, frame_bytes, replace_file


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
    folder = Path(path) / "journal"
    with Journal.open(path) as reader:
        headers, verifier = reader.entries(), reader.verifier
    lock = CheckpointFile(folder / "checkpoints", verifier)
    lock.lock()
    freed = 0
    try:
        payloads = Segments(folder / "payloads", SEGMENT_BYTES_MAX, PAYLOAD_BYTES_MAX)
        of_segment: dict[int, list[int]] = {}
        for index, place in enumerate(payloads.places):
            of_segment.setdefault(place.segment, []).append(index)
        for segment, indices in of_segment.items():
            stored = {index: payloads.read(index) for index in indices}
            if all(index not in files or Stub.is_stub(stored[index]) for index in indices):
                continue
            frames = []
            for index in indices:
                if index in files and not Stub.is_stub(stored[index]):
                    stub = Stub(bytes.fromhex(headers[index].payload_sha256), files[index]).to_bytes()
                    freed += len(stored[index]) - len(stub)
                    stored[index] = stub
                frames.append(frame_bytes(stored[index]))
            name = f"{segment:06d}.seg"
            replace_file(folder / "payloads" / name, b"".join(frames))
            done(name)
    finally:
        lock.close()
    return freed
