"""Bodies in memory: counted as their bytes arrive, never as they are announced.

A quarter of the room is for those who have not proved who they are. Where it is full, the address that holds the most
loses the body that has held the most for the longest: who announces and sends nothing holds nothing, and who is slow
goes before who is fast. Of the rest an admitted source has three times what it leaves free; beyond that only it is told
to wait.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tellegen.service.problems import BUSY, ProblemError

_OF_FREE = 3


class HeldBody:
    """One body while it is in memory; `grow` counts what has arrived.

    Attributes
    ----------
    owner : a source that has proved itself, or an address. proven : which of the two.
    """

    def __init__(self, bodies: Bodies, owner: str, proven: bool, end: Callable[[], object], began_at: float) -> None:
        self._bodies, self.owner, self.proven, self.end, self.began_at = bodies, owner, proven, end, began_at
        self.size = 0

    def grow(self, size: int) -> None:
        """Count bytes.

        Raises
        ------
        ProblemError : there is no room for more of this source.
        """
        self._bodies.grow(self, size)


class Bodies:
    """All bodies in memory.

    Parameters
    ----------
    bytes_max : of all of them. body_bytes_max : of one, which is always let in.
    clock : seconds of any beginning.

    Attributes
    ----------
    size : bytes in memory. put_out : bodies that had to go.
    """

    def __init__(self, bytes_max: int, body_bytes_max: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._of_strangers = max(bytes_max // 4, body_bytes_max)
        self._of_sources = max(bytes_max - bytes_max // 4, body_bytes_max)
        self._strangers: set[HeldBody] = set()
        self._of_source: Counter[str] = Counter()
        self._unproven = 0
        self.put_out = 0

    @property
    def size(self) -> int:
        """Bytes in memory."""
        return self._unproven + self._of_source.total()

    @contextmanager
    def holding(self, owner: str, proven: bool, end: Callable[[], object] = lambda: None) -> Iterator[HeldBody]:
        """A body of somebody; `end` ends its connection."""
        body = HeldBody(self, owner, proven, end, self._clock())
        if not proven:
            self._strangers.add(body)
        try:
            yield body
        finally:
            self._drop(body)

    def grow(self, body: HeldBody, size: int) -> None:
        """Count bytes that have arrived (`HeldBody.grow`)."""
        if body.proven:
            held = self._of_source[body.owner]
            free = self._of_sources - self._of_source.total() - size
            if free < 0 or (held > body.size and held + size > _OF_FREE * free):
                raise ProblemError(BUSY, f"{held} bytes of batches of '{body.owner}' are waiting", retry_after_s=1)
            self._of_source[body.owner] += size
            body.size += size
            return
        if body not in self._strangers:
            raise ProblemError(BUSY, "the body has held memory for too long; send it faster", retry_after_s=1)
        while self._unproven + size > self._of_strangers:
            slowest = self._slowest()
            self.put_out += 1
            self._drop(slowest)
            slowest.end()
            if slowest is body:
                raise ProblemError(BUSY, "too many bodies are waiting, and this is the slowest", retry_after_s=1)
        self._unproven += size
        body.size += size

    def _slowest(self) -> HeldBody:
        """Of the address that holds the most, the body that has held the most for the longest."""
        by_address: Counter[str] = Counter()
        for body in self._strangers:
            by_address[body.owner] += body.size
        most = max(by_address, key=lambda address: by_address[address])
        now = self._clock()
        return max(
            (body for body in self._strangers if body.owner == most),
            key=lambda body: body.size * (now - body.began_at),
        )

    def _drop(self, body: HeldBody) -> None:
        if body.proven:
            self._of_source[body.owner] -= body.size
            if not self._of_source[body.owner]:
                del self._of_source[body.owner]
        elif body in self._strangers:
            self._strangers.remove(body)
            self._unproven -= body.size
        body.size = 0
