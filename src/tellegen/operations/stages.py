"""What the stages of a process cost, in seconds of its own CPU and bytes written."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field


@dataclass(slots=True)
class Stages:
    """CPU seconds of this process by stage, added up since the start or the last `taken`.

    >>> stages = Stages()
    >>> with stages("clear"):
    ...     pass
    >>> list(stages.taken()), stages.cpu_s
    (['clear'], {})
    """

    cpu_s: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        """Count the CPU time of a block of code."""
        start = time.process_time()
        try:
            yield
        finally:
            self.cpu_s[stage] = self.cpu_s.get(stage, 0.0) + time.process_time() - start

    def taken(self) -> dict[str, float]:
        """What was added up, which begins again from nothing."""
        taken, self.cpu_s = self.cpu_s, {}
        return taken
