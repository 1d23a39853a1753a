"""Flipped bits: each one, in each kind of file of a journal, is found and named."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from tellegen.assess.faults.batches import batch_of
from tellegen.assess.faults.disk import SimulatedDisk
from tellegen.journal import Journal, check

RUN = Path("/shard")
KEY = bytes(range(32))


@dataclass(slots=True)
class Flips:
    """Bits flipped by kind of file, and those that no problem named."""

    flipped: Counter[str] = field(default_factory=Counter)
    missed: list[str] = field(default_factory=list)


def small_journal(seed: int) -> SimulatedDisk:
    """A disk with a journal of seven entries in four commits, several segments, and an index of three stretches."""
    chance = random.Random(seed)  # noqa: S311 (repeatable on purpose)
    disk = SimulatedDisk(chance)
    sizes = {"segment_bytes_max": 1200, "stretch_height": 1}
    with Journal.create(RUN, "faults.example/shard", KEY, **sizes, storage=disk) as journal:
        for group in (range(2), range(2, 3), range(3, 6), range(6, 7)):
            for sequence in group:
                journal.append(batch_of("head-end 1", sequence, 1000 + sequence))
            journal.commit(2000)
    return disk


def flip_bits(step: int = 1, seed: int = 0) -> Flips:
    """Flip every `step`-th bit of every file, one at a time, and check the journal each time.

    >>> flip_bits(step=5000).missed
    []
    """
    disk, found = small_journal(seed), Flips()
    for path in disk.paths():
        name = path.relative_to(RUN / "journal").as_posix()
        for bit in range(seed % step, 8 * len(disk.bytes_of(path)), step):
            disk.flip(path, bit)
            found.flipped[name.partition("/")[0]] += 1
            if not any(problem.file == name for problem in check(RUN, storage=disk)):
                found.missed.append(f"{name}, bit {bit}")
            disk.flip(path, bit)
    return found
