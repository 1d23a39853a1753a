"""The world in a process of its own, by a clock of its own: what it has for the operator comes in letters.

The world waits for nothing but awards. So it lives through an interval, bids for the next and reads its meters while
the operator settles the one before. No result depends on how far ahead it is: letters come in the order of the world's
acts, and each is opened when the operator's clock has come to its time and place.
"""

from __future__ import annotations

from dataclasses import dataclass
from multiprocessing.connection import Connection
from types import TracebackType
from typing import TYPE_CHECKING, Any, NoReturn, Self

from tellegen.errors import TellegenError
from tellegen.spawned import spawned

if TYPE_CHECKING:  # a world is started before the rest is imported, which takes as long as its own start
    from tellegen.operations.clock import Simulated
    from tellegen.operations.exchange import Awarded, AwardsRequest
    from tellegen.operations.price_proof import Provenance
    from tellegen.records import RootPrices
    from tellegen.simulation.batches import SignedBatch
    from tellegen.simulation.course import Counter
    from tellegen.simulation.scenario import Scenario
    from tellegen.simulation.shard import ShardKeys
    from tellegen.simulation.world_day import WorldDay

_NEVER = 2**63, 0
"""Place of what is not for the operator: behind whatever is waited for."""


class WorldLostError(TellegenError):
    """The process of a world has died, or its day is not over."""


@dataclass(frozen=True, slots=True, eq=False)
class _Prices:
    market: str
    prices: RootPrices
    provenance: Provenance


@dataclass(frozen=True, slots=True, eq=False)
class _HandedIn:
    batch: SignedBatch


@dataclass(frozen=True, slots=True, eq=False)
class _Question:
    request: AwardsRequest
    signature: bytes


@dataclass(frozen=True, slots=True, eq=False)
class _Over:
    day: WorldDay


@dataclass(frozen=True, slots=True, eq=False)
class _Failed:
    error: TellegenError


@dataclass(frozen=True, slots=True, eq=False)
class _Letter:
    """What somebody in the world has done, with its time and place there (`Simulated.place`)."""

    place: tuple[int, int]
    about: _Prices | _HandedIn | _Question | _Over | _Failed


class _ByLetter:
    """The counter as the world sees it: nobody waits there but for awards."""

    def __init__(self, line: Connection, clock: Simulated) -> None:
        self._line, self._clock = line, clock

    def publish(self, market: str, prices: RootPrices, provenance: Provenance) -> None:
        self._send(_Prices(market, prices, provenance))

    def hand_in(self, batch: SignedBatch) -> None:
        self._send(_HandedIn(batch))

    def awards(self, request: AwardsRequest, signature: bytes) -> Awarded:
        self._send(_Question(request, signature))
        answer: Awarded = _heard(self._line)
        return answer

    def _send(self, about: _Prices | _HandedIn | _Question) -> None:
        _say(self._line, _Letter(self._clock.place, about))


class _OperatorGoneError(Exception):
    """Nobody meets the world any more."""


def _say(line: Connection, letter: _Letter) -> None:
    try:
        line.send(letter)
    except OSError:
        raise _OperatorGoneError from None


def _heard(line: Connection) -> Any:
    try:
        return line.recv()
    except (EOFError, OSError):
        raise _OperatorGoneError from None


class WorldApart:
    """A scenario's world in another process, and the clock by which its operator meets it; to be closed.

    Whoever waits opens the letters that come before, each at its time, as `Simulated` lets acts happen.
    """

    def __init__(self, scenario: Scenario) -> None:
        self._start = self._now = 0
        self._next: _Letter | None = None
        self._counter: Counter | None = None
        self._process, self._line = spawned(_play, scenario)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._line.close()
        self._process.join()

    def stand_at(self, start: int) -> None:
        """Say when the world begins, in seconds since the epoch: until its day does, time stands there."""
        self._start = self._now = start

    def begin(self, keys: ShardKeys, counter: Counter) -> None:
        """Let the day begin.

        Parameters
        ----------
        keys : every secret outside the operator's vault. counter : where the world's letters are opened.
        """
        self._counter = counter
        self._tell(keys)

    @property
    def stepped_s(self) -> int:
        """None: nobody sets it."""
        return 0

    def now(self) -> int:
        """The time: that of the letter which is being opened, or of what was last waited for."""
        return self._now

    def elapsed(self) -> float:
        """Seconds since the start."""
        return float(self._now - self._start)

    def wait(self, until: int, order: int = 0) -> None:
        """Open the letters that come before, and move to then."""
        while (letter := self._newest()).place <= (until, order):
            self._now, self._next = max(self._now, letter.place[0]), None
            self._open(letter)
        self._now = max(self._now, until)

    def close_day(self) -> WorldDay:
        """The day as it was, once it is over.

        Raises
        ------
        WorldLostError : it is not.
        """
        last = self._newest().about
        if not isinstance(last, _Over):
            raise WorldLostError("the world has not come to the end of its day")
        return last.day

    def _newest(self) -> _Letter:
        """The first letter that has not been opened; waits for it."""
        if self._next is None:
            try:
                letter: _Letter = self._line.recv()
            except (EOFError, OSError):
                raise WorldLostError("the process of the simulated world has died; run again") from None
            if isinstance(letter.about, _Failed):
                raise letter.about.error
            self._next = letter
        return self._next

    def _open(self, letter: _Letter) -> None:
        assert self._counter is not None
        match letter.about:
            case _Prices(market, prices, provenance):
                self._counter.publish(market, prices, provenance)
            case _HandedIn(batch):
                self._counter.hand_in(batch)
            case _Question(request, signature):
                self._tell(self._counter.awards(request, signature))

    def _tell(self, content: object) -> None:
        try:
            self._line.send(content)
        except OSError:
            self._lost()

    def _lost(self) -> NoReturn:
        """Say why the world does not hear any more: its own words are among the letters that are left."""
        while True:
            self._next = None
            self._newest()


def _play(line: Connection, scenario: Scenario) -> None:
    """What the world's process does; it ends with the operator."""
    from tellegen.operations.clock import Simulated
    from tellegen.simulation.community_shard import enrolled_at
    from tellegen.simulation.course import World, correction_at
    from tellegen.simulation.opening import rested
    from tellegen.simulation.residents import Before, Residents
    from tellegen.simulation.setup import prepare

    try:
        try:
            setup = rested(prepare(scenario))
            clock = Simulated(enrolled_at(setup))
            before = Before.of(setup)  # all this while the operator makes its shard
            residents = Residents(setup, before, _heard(line))
            World(setup, residents, _ByLetter(line, clock), clock).begin()
            clock.wait(correction_at(setup))
            _say(line, _Letter(_NEVER, _Over(residents.close())))
        except TellegenError as error:
            _say(line, _Letter((0, 0), _Failed(error)))
    except _OperatorGoneError:
        return
