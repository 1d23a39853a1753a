"""What an intake knows from its record: who may speak, what is connected, and which counters it has seen.

It is a fold, kept in snapshots (`privacy.snapshots`) under ``DIR/state``, so that opening folds what came after.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tellegen.intake.submitted import Submitted
from tellegen.journal import Journal
from tellegen.metering import ReplayWindow
from tellegen.privacy import Vault
from tellegen.privacy.snapshots import Parts, SnapshotFolder
from tellegen.records import Snapshots
from tellegen.registry.directory import Directory, meters_of_none_but

OWNER = "intake"
STATE = "state"


@dataclass(frozen=True, slots=True)
class Known:
    """The fold of a record.

    Attributes
    ----------
    directory : identities and connections, of all entries.
    replay : counters of the readings below `size`; those after it are still to be marked.
    size : entries that a snapshot has folded.
    problems : snapshots that were passed over and why, one line each.
    """

    directory: Directory
    replay: ReplayWindow
    size: int
    problems: tuple[str, ...]

    @classmethod
    def of(cls, journal: Journal, vault: Vault, snapshots: SnapshotFolder) -> Known:
        """From the newest snapshot that is whole, and what the record says after it."""
        kept = snapshots.read_newest()
        if kept.entry >= 0:
            directory = Directory.of(journal, vault, kept.parts, kept.intake_size)
            replay = ReplayWindow.of_parts(kept.parts, meters_of_none_but(vault.erased, kept.parts))
            return cls(directory, replay, kept.intake_size, kept.problems)
        directory = Directory.of(journal, vault)
        meters = directory.meters_of(np.array(vault.customers, dtype=np.int64))
        return cls(directory, ReplayWindow(meters[meters >= 0]), 0, kept.problems)

    @classmethod
    def whole(cls, journal: Journal, vault: Vault, size: int) -> Known:
        """From the first record on, and to a size of the journal: what a snapshot of that size must hold."""
        directory, replay = Directory.of(journal, vault, until=size), ReplayWindow()
        for readings in Submitted(journal, vault).counted_readings(until=size):
            replay.mark(readings.meter, readings.counter)
        return cls(directory, replay, size, ())

    def parts(self, erased: list[int] | tuple[int, ...] = ()) -> Parts:
        """All of it as columns by part, but for what is about erased customers."""
        everything = self.directory.parts()
        counters = self.replay.parts(without=meters_of_none_but(erased, everything))
        return {**(self.directory.parts(without=erased) if erased else everything), **counters}

    def kept(self, snapshots: SnapshotFolder, erased: list[int], size: int, *, afresh: bool = False) -> Snapshots:
        """Put it on disk as the fold of `size` entries; returns the record of it, which is still to be appended.

        Parameters
        ----------
        erased : customers whose keys are destroyed: nothing of them is kept.
        afresh : under a key of its own throughout, so that all older keys may be destroyed.
        """
        return snapshots.write(self.parts(erased), intake_size=size, market_size=0, afresh=afresh)
