"""The door: every connection there is, how far it has come, and which one goes when there is no room for the next.

Who has not proved to be an admitted source competes with others who have not. When there is no room, the address with
the most connections loses one: the one that has waited the longest without a whole request. So an attacker pays with
connections of its own, and who comes and says something gets in, even from the attacker's address. A source that has
proved itself has a share of its own, from wherever it speaks.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum, auto
from heapq import nsmallest
from ipaddress import IPv6Network, ip_address
from typing import Any

HANDSHAKE_SECONDS_MAX = 5.0
HEADER_SECONDS_MAX = 10.0
IDLE_SECONDS_MAX = 120.0
ANSWER_SECONDS = 2.0
"""In which a last answer may still be read, and a connection that we close has to end."""
UNREAD_SECONDS_MAX = 10.0
UNREAD_BYTES_PER_S_MIN = 16 << 10
"""An answer is to be read within `UNREAD_SECONDS_MAX` and the time that its bytes take at this speed."""
UNREAD_BYTES_MAX = 64 << 20
"""Of answers that wait to be read, all connections together."""
_PREFIX_IPV6 = 64
ATTENDED_S = 0.5
"""Between two batches of a source strangers do not get more at once."""
KNOWN_MAX = 10_000
"""Addresses from which sources have proved themselves; the one where that was the longest ago is forgotten."""
FOREVER = float("inf")


class Stage(Enum):
    """How far a connection has come."""

    HANDSHAKE = auto()
    WAITING = auto()
    """Nothing was asked yet."""
    HEADERS = auto()
    BODY = auto()
    ANSWER = auto()
    """A request is there whole, and is being answered."""
    IDLE = auto()
    """What was asked has been answered."""
    CLOSING = auto()


_RANK = {Stage.CLOSING: 0, Stage.ANSWER: 2}


def address_of(peer: Any) -> str:
    """Whom a connection is counted for: an IPv4 address, or the /64 of an IPv6 address, which one customer has.

    >>> address_of(("2001:db8::7", 443, 0, 0)), address_of(("::ffff:192.0.2.1", 443, 0, 0)), address_of("")
    ('2001:db8::/64', '192.0.2.1', '')
    """
    if not isinstance(peer, tuple) or not peer:
        return ""
    found = ip_address(str(peer[0]).partition("%")[0])
    if found.version == 4:
        return str(found)
    return str(found.ipv4_mapped or IPv6Network((int(found), _PREFIX_IPV6), strict=False))


@dataclass(slots=True, eq=False)
class Visitor:
    """A connection.

    Attributes
    ----------
    address : as `address_of`.
    stage, deadline : how far it has come, and when it must have come further.
    since : when it came, or has had its last answer, or began to ask once more.
    unread_by : when the answer that waits for it must have been read.
    sources : admitted sources that have proved themselves here; the first one's share bears the connection.
    end : ends it at once, without waiting for anything.
    unread_bytes : of answers that wait for it.
    is_closing : whether it is being closed.
    gone : whether it is closed. turn : for which it waits, if it does.
    """

    address: str
    stage: Stage = Stage.HANDSHAKE
    since: float = 0.0
    deadline: float = FOREVER
    unread_by: float = FOREVER
    sources: set[str] = field(default_factory=set)
    group: Hashable = None
    end: Callable[[], object] = lambda: None
    unread_bytes: Callable[[], int] = lambda: 0
    is_closing: Callable[[], bool] = lambda: False
    gone: bool = False
    turn: asyncio.Future[None] | None = None


class GoneError(Exception):
    """Nobody waits for the answer any more."""


class Door:
    """Everybody who is connected.

    Parameters
    ----------
    connections_max : at one time. A quarter is left to those who have not proved themselves, and one source has at
        most an eighth.
    clock : seconds of any beginning.

    Attributes
    ----------
    put_out : how many had to go, by stage.
    """

    def __init__(self, connections_max: int, clock: Callable[[], float]) -> None:
        self._connections_max, self._clock = connections_max, clock
        self._share = max(4, connections_max // 8)
        self._room = max(1, connections_max // 64)
        self._attended = -FOREVER
        self._known: dict[str, None] = {}
        self._groups: dict[Hashable, set[Visitor]] = {}
        self._count = 0
        self.put_out: Counter[str] = Counter()

    def __len__(self) -> int:
        return self._count

    @property
    def proven(self) -> int:
        """Connections of sources that have proved themselves."""
        return sum(len(group) for key, group in self._groups.items() if _is_source(key))

    def enter(self, peer: Any) -> Visitor:
        """A connection that was taken; where there is no room, another one goes for it."""
        while self._count >= self._connections_max:
            self._make_room()
        visitor = Visitor(address_of(peer))
        self._join(visitor, ("address", visitor.address))
        self._count += 1
        self.move(visitor, Stage.HANDSHAKE, HANDSHAKE_SECONDS_MAX)
        return visitor

    def leave(self, visitor: Visitor) -> None:
        """It is closed."""
        if self._part(visitor):
            self._count -= 1
        visitor.gone = True
        if visitor.turn is not None and not visitor.turn.done():
            visitor.turn.set_exception(GoneError())

    def attend(self) -> None:
        """What a proven source has sent is in work."""
        self._attended = self._clock()

    def is_attending(self) -> bool:
        """Whether a proven source is being served, or has just been: strangers then get less."""
        return self._clock() < self._attended + ATTENDED_S

    def move(self, visitor: Visitor, stage: Stage, seconds: float = FOREVER) -> None:
        """It has come to a stage, and has so long for it."""
        now = self._clock()
        if stage in (Stage.HANDSHAKE, Stage.IDLE) or visitor.stage is Stage.IDLE:
            visitor.since = now
        visitor.stage, visitor.deadline = stage, now + seconds

    def prove(self, visitor: Visitor, source: str) -> None:
        """Over this connection came what only an admitted source could have made."""
        visitor.sources.add(source)
        self._known.pop(visitor.address, None)
        self._known[visitor.address] = None
        if len(self._known) > KNOWN_MAX:
            del self._known[next(iter(self._known))]
        if len(visitor.sources) > 1 or not self._part(visitor):
            return
        self._join(visitor, ("source", source))
        group = self._groups["source", source]
        if len(group) > self._share:
            self._put_out(min((each for each in group if each is not visitor), key=_patience))

    def is_known(self, address: str) -> bool:
        """Whether a source has proved itself from there lately; it may come anew."""
        return address in self._known

    def unread(self, visitor: Visitor) -> None:
        """Answers wait to be read; where it is too much for all together, who holds the most of it goes."""
        visitor.unread_by = self._clock() + UNREAD_SECONDS_MAX + visitor.unread_bytes() / UNREAD_BYTES_PER_S_MIN
        waiting = [each for each in self._everybody() if each.unread_by < FOREVER]
        if sum(each.unread_bytes() for each in waiting) > UNREAD_BYTES_MAX:
            self._put_out(max(waiting, key=lambda each: (not each.sources, each.unread_bytes())))

    def sweep(self) -> None:
        """Put out whoever is late."""
        now = self._clock()
        for visitor in list(self._everybody()):
            if min(visitor.deadline, visitor.unread_by) <= now:
                self._put_out(visitor)
            elif visitor.stage is not Stage.CLOSING and visitor.is_closing():
                self.move(visitor, Stage.CLOSING, ANSWER_SECONDS)

    def _everybody(self) -> Iterable[Visitor]:
        return (visitor for group in self._groups.values() for visitor in group)

    def _make_room(self) -> None:
        """Not for one alone, since looking for who goes costs more than letting go."""
        strangers = [group for key, group in self._groups.items() if not _is_source(key)]
        sources = [group for key, group in self._groups.items() if _is_source(key)]
        few = 4 * sum(map(len, strangers)) <= self._connections_max
        groups = sources if sources and few else strangers
        most = max(map(len, groups))
        heaviest = [visitor for group in groups if len(group) == most for visitor in group]
        for visitor in nsmallest(self._room, heaviest, key=_patience):
            self._put_out(visitor)

    def _put_out(self, visitor: Visitor) -> None:
        self.put_out[visitor.stage.name.lower()] += 1
        self.leave(visitor)
        visitor.end()

    def _join(self, visitor: Visitor, group: Hashable) -> None:
        visitor.group = group
        self._groups.setdefault(group, set()).add(visitor)

    def _part(self, visitor: Visitor) -> bool:
        group = self._groups.get(visitor.group)
        if group is None or visitor not in group:
            return False
        group.remove(visitor)
        if not group:
            del self._groups[visitor.group]
        return True


def visitor_of(scope: Mapping[str, Any]) -> Visitor:
    """Who asks in an ASGI scope; somebody without an address where no door was passed."""
    found = scope.get("visitor")
    return found if isinstance(found, Visitor) else Visitor("")


def _is_source(key: Hashable) -> bool:
    return isinstance(key, tuple) and key[0] == "source"


def _patience(visitor: Visitor) -> tuple[int, float]:
    """Who has the least goes: who is going, who has waited the longest without a whole request, the others."""
    return _RANK.get(visitor.stage, 1), visitor.since
