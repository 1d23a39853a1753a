"""Turns: work for those who have not proved who they are is done a little at a time, one address after the other."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from tellegen.service.door import GoneError, Visitor

_Line = dict[asyncio.Future[None], None]
"""Who waits, in their order; leaving costs nothing."""


class Turns:
    """So many at one time; of those who wait, each address in turn, and of one address each name in turn.

    Parameters
    ----------
    at_once : how many have a turn.
    is_busy : whether there is work for those who have proved themselves.
    beside_s : how long a turn then waits before it begins.
    """

    def __init__(self, at_once: int, is_busy: Callable[[], bool] = lambda: False, beside_s: float = 0.0) -> None:
        self._free, self._is_busy, self._beside_s = at_once, is_busy, beside_s
        self._lines: dict[str, dict[str, _Line]] = {}

    @property
    def waiting(self) -> int:
        """How many wait."""
        return sum(len(line) for names in self._lines.values() for line in names.values())

    @asynccontextmanager
    async def turn(self, visitor: Visitor, name: str = "") -> AsyncIterator[None]:
        """Wait for one's turn, and have it.

        Raises
        ------
        GoneError : the visitor has gone.
        """
        if visitor.gone:
            raise GoneError
        if self._free:
            self._free -= 1
        else:
            await self._wait(visitor, name)
        try:
            await asyncio.sleep(self._beside_s if self._is_busy() else 0)
            yield
        finally:
            self._pass_on()

    async def _wait(self, visitor: Visitor, name: str) -> None:
        granted = visitor.turn = asyncio.get_running_loop().create_future()
        names = self._lines.setdefault(visitor.address, {})
        names.setdefault(name, {})[granted] = None
        try:
            await granted
        except BaseException:
            if granted.done() and not granted.cancelled() and granted.exception() is None:
                self._pass_on()  # the turn came, and nobody has it
            else:
                self._leave(visitor.address, name, granted)
            raise
        finally:
            visitor.turn = None

    def _leave(self, address: str, name: str, granted: asyncio.Future[None]) -> None:
        names = self._lines.get(address, {})
        line = names.get(name, {})
        line.pop(granted, None)
        if not line:
            names.pop(name, None)
        if not names:
            self._lines.pop(address, None)

    def _pass_on(self) -> None:
        """To the first of the first name of the first address; both then stand behind the others."""
        while self._lines:
            address = next(iter(self._lines))
            names = self._lines.pop(address)
            name = next(iter(names))
            line = names.pop(name)
            granted = next(iter(line))
            del line[granted]
            if line:
                names[name] = line
            if names:
                self._lines[address] = names
            if not granted.done():
                granted.set_result(None)
                return
        self._free += 1
