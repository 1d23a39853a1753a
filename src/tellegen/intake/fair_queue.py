"""Work of many sources, served in turn, so that nobody waits for what somebody else has piled up.

Deficit round robin (M. Shreedhar, G. Varghese, SIGCOMM 1995) with the cost charged when work is served: whoever has
used up its quantum goes to the end of the round, and is passed over while it owes. So of two sources that both have
work waiting, neither is served for more than a quantum and one piece of work ahead of the other, however long their
queues are and however costly their work is. Where nobody else waits, rounds pass at once: nobody waits for a debt.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Generic, TypeVar

QUANTUM = 2_000
"""Cost that a source may have in each round."""
T = TypeVar("T")


@dataclass(slots=True)
class _Lane(Generic[T]):
    """Work of one source, and what it may still cost in this round; below 0 it owes."""

    credit: int
    waiting: deque[tuple[T, int]] = field(default_factory=deque)


class FairQueue(Generic[T]):
    """A queue per source; those with work take turns.

    Parameters
    ----------
    quantum : cost that a source may have in each round.

    >>> queue = FairQueue[str](quantum=1)
    >>> for source, work in (("A", "a1"), ("A", "a2"), ("B", "b1")):
    ...     queue.put(source, work, cost=1)
    >>> queue.take(), queue.take(), queue.take(), queue.take()
    ('a1', 'b1', 'a2', None)
    """

    def __init__(self, quantum: int = QUANTUM) -> None:
        self._quantum = quantum
        self._lanes: dict[str, _Lane[T]] = {}
        self._round: deque[str] = deque()  # each source with work once, the next in front

    def __len__(self) -> int:
        """How much work waits."""
        return sum(len(lane.waiting) for lane in self._lanes.values())

    def put(self, source: str, work: T, cost: int) -> None:
        """Work that a source has; who had none joins at the end of the round."""
        lane = self._lanes.get(source)
        if lane is None:
            lane = self._lanes[source] = _Lane(self._quantum)
            self._round.append(source)
        lane.waiting.append((work, cost))

    def take(self) -> T | None:
        """What is served next; None where nothing waits."""
        while self._round:
            source = self._round[0]
            lane = self._lanes[source]
            if lane.credit <= 0:
                lane.credit += self._quantum
                self._round.rotate(-1)
            elif lane.waiting:
                work, cost = lane.waiting.popleft()
                lane.credit -= cost
                return work
            else:  # who has nothing waiting saves nothing up, and leaves when it owes nothing
                self._round.popleft()
                del self._lanes[source]
        return None

    def correct(self, source: str, cost: int) -> None:
        """What a source was served has cost so much more, or less, than was said."""
        lane = self._lanes.get(source)
        if lane is not None:
            lane.credit -= cost
