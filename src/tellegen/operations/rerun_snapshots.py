"""Snapshots made again: each part that was kept is what the fold from the first record comes to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from numpy.typing import NDArray

from tellegen.operations.keeping import state_parts
from tellegen.operations.record import ShardRecord
from tellegen.operations.state import State
from tellegen.operations.tally import Tally
from tellegen.records import Erasures, Header, Snapshots, Table
from tellegen.registry import Directory


class SnapshotsAgain:
    """Compares the digests of snapshots with the fold.

    Parameters
    ----------
    state : the fold, which has not taken in the record that `before` is shown.
    """

    def __init__(self, record: ShardRecord, state: State) -> None:
        self._record, self._state = record, state
        self._directory: tuple[int, Directory] = 0, Directory()
        self._erased_at = max(record.journal.find(kind=Erasures.kind), default=-1)
        self.tally = Tally("snapshots", "parts of snapshots", "are not what the fold comes to")

    def before(self, index: int, header: Header, table: Table | None) -> None:
        """Compare a snapshot with the fold of what comes before it."""
        if not isinstance(table, Snapshots):
            return
        if index < self._erased_at:
            self.tally.leave_out("from before a customer was erased")
            return
        parts = {**state_parts(self._state), **self._of_directory(int(table.intake_size[0]))}
        for name, digest in zip(table.part.tolist(), table.digest.tolist(), strict=True):
            columns = parts.get(name.decode("ascii"))
            same = columns is not None and self._record.snapshots.digest_of(name.decode(), columns) == bytes(digest)
            self.tally.compare(1, int(not same), f"entry {index}, part {name.decode()}")

    def _of_directory(self, size: int) -> dict[str, Mapping[str, NDArray[Any]]]:
        record, (since, directory) = self._record, self._directory
        parts = directory.parts()
        directory = Directory.of(record.intake, record.vault, parts if since else None, since, size)
        self._directory = size, directory
        return dict(directory.parts(without=record.vault.erased))
