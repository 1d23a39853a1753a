"""Turns: work for those who have not proved who they are is done a little at a time, one address after the other."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from tellegen.service.door import Door, GoneError, Visitor

_Line = dict[asyncio.Future[None], None]
"""Who waits, in their order; leaving costs nothing."""
_Lines = dict[str, dict[str, _Line]]


class Turns:
    """So many at one time; of those who wait, each address in turn, and of one address each name in turn.

    Every other turn is for addresses from which a source has proved itself before: it may come anew.

    Parameters
    ----------
    at_once : how many have a turn.
    door : knows these addresses, and whether there is work for those who have proved themselves.
    beside_s : how long a turn then waits before it begins.
    """

    def __init__(self, at_once: int, door: Door, beside_s: float = 0.0) -> None:
        self._free, self._door, self._beside_s = at_once, door, beside_s
        self._strangers: _Lines = {}
        self._known: _Lines = {}
        self._stranger_is_next = False

    @property
    def waiting(self) -> int:
        """How many wait."""
        both = (*self._strangers.values(), *self._known.values())
        return sum(len(line) for names in both for line in names.values())

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
            await asyncio.sleep(self._beside_s if self._door.is_attending() else 0)
            yield
        finally:
            self._pass_on()

    async def _wait(self, visitor: Visitor, name: str) -> None:
        granted = visitor.turn = asyncio.get_running_loop().create_future()
        lines = self._known if self._door.is_known(visitor.address) else self._strangers
        lines.setdefault(visitor.address, {}).setdefault(name, {})[granted] = None
        try:
            await granted
        except BaseException:
            if granted.done() and not granted.cancelled() and granted.exception() is None:
                self._pass_on()  # the turn came, and nobody has it
            else:
                _leave(lines, visitor.address, name, granted)
            raise
        finally:
            visitor.turn = None

    def _pass_on(self) -> None:
        while self._strangers or self._known:
            ours, others = self._known, self._strangers
            if self._stranger_is_next:
                ours, others = others, ours
            granted = _next(ours or others)
            if not granted.done():
                self._stranger_is_next = not self._stranger_is_next
                granted.set_result(None)
                return
        self._free += 1


def _next(lines: _Lines) -> asyncio.Future[None]:
    """The first of the first name of the first address; both then stand behind the others."""
    address = next(iter(lines))
    names = lines.pop(address)
    name = next(iter(names))
    line = names.pop(name)
    granted = next(iter(line))
    del line[granted]
    if line:
        names[name] = line
    if names:
        lines[address] = names
    return granted


def _leave(lines: _Lines, address: str, name: str, granted: asyncio.Future[None]) -> None:
    names = lines.get(address, {})
    line = names.get(name, {})
    line.pop(granted, None)
    if not line:
        names.pop(name, None)
    if not names:
        lines.pop(address, None)
