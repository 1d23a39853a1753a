"""A process that writes a journal as fast as it can and prints what it has promised, until it is killed.

``python -m tellegen.assess.faults.writer DIR`` starts or goes on with the journal of DIR. Each line that it prints is a
JSON object: ``entry``, the log entry as text, and ``receipt``.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from pathlib import Path

from tellegen.assess.faults.batches import batch_of
from tellegen.journal import Journal

ORIGIN, KEY = "faults.example/shard", bytes(range(32))
SEGMENT_BYTES_MAX = 20_000


def write(run: Path) -> None:
    """One thread appends, another commits and prints, for ever."""
    if (run / "journal").exists():
        journal = Journal.open(run, KEY, segment_bytes_max=SEGMENT_BYTES_MAX)
    else:
        journal = Journal.create(run, ORIGIN, KEY, segment_bytes_max=SEGMENT_BYTES_MAX)
    room = threading.Semaphore(20)  # batches that may wait for a commit

    def append() -> None:
        sequence = len(journal)
        while True:
            room.acquire()
            journal.append(batch_of("head-end 1", sequence, journal.time(int(time.time()))))
            sequence += 1

    threading.Thread(target=append, daemon=True).start()
    final = len(journal)
    while True:
        size = journal.commit(journal.time(int(time.time()) + 1)).size
        for index, receipt in zip(range(final, size), journal.receipts(range(final, size)), strict=True):
            print(json.dumps({"entry": journal.entry_bytes(index).decode(), "receipt": receipt}), flush=True)
            room.release()
        final = size


if __name__ == "__main__":
    write(Path(sys.argv[1]))
