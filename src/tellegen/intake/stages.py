"""What the stages of a process cost in CPU time."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field


@dataclass(slots=True)
class Stages:
    """CPU seconds by stage, of the threads that passed through, added up since the start or the last `taken`.

    No two threads pass through one stage at the same time.

    >>> stages = Stages()
    >>> with stages("clear"):
    ...     pass
    >>> list(stages.taken()), stages.cpu_s
    (['clear'], {})
    """

    cpu_s: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        """Count the CPU time that this thread spends in a block of code."""
        start = time.thread_time()
        try:
            yield
        finally:
            self.cpu_s[stage] = self.cpu_s.get(stage, 0.0) + time.thread_time() - start

    def taken(self) -> dict[str, float]:
        """What was added up, which begins again from nothing."""
        taken, self.cpu_s = self.cpu_s, {}
        return taken
