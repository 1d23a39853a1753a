"""What is measured of a city: phases in which something is sent and the market does what follows, and what is due."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from tellegen.assess.city.audit import Findings
from tellegen.assess.city.market_desk import Did
from tellegen.operations.gating import GateClosed
from tellegen.operations.settling import Settled
from tellegen.operations.timetable import Verb
from tellegen.simulation.city.actors import Usage
from tellegen.simulation.city.load import Asked
from tellegen.simulation.city.population import City
from tellegen.units import IntArray


@dataclass(frozen=True, slots=True)
class Phase:
    """Something is sent, and the market does what follows.

    Attributes
    ----------
    sent_s : wall seconds from the first byte sent until the last receipt is there.
    total_s : until what follows is on record, published or posted.
    intake, market, load : what the processes of each kind used, all shards together; peaks add up.
    intake_stages : CPU seconds by stage. did : what the markets did, shard by shard.
    latency_s : of every request.
    accepted, refused : rows.
    """

    sent_s: float
    total_s: float
    intake: Usage
    market: Usage
    load: Usage
    intake_stages: dict[str, float]
    did: list[list[Did]]
    latency_s: list[float]
    accepted: int
    refused: int

    @property
    def market_stages(self) -> dict[str, float]:
        """CPU seconds of the markets by stage."""
        return summed(each.stages for shard in self.did for each in shard)

    def gates(self, verb: Verb) -> list[GateClosed]:
        """How a gate closed, shard by shard."""
        return [d.outcome for shard in self.did for d in shard if d.verb is verb and isinstance(d.outcome, GateClosed)]


@dataclass(frozen=True, slots=True)
class Upkeep:
    """Something that is due beside gates and settlement, as all shards did it at one time.

    Attributes
    ----------
    wall_s : of the shard that took longest. cpu_s : of all. outcomes : shard by shard.
    """

    verb: Verb
    wall_s: float
    cpu_s: float
    stages: dict[str, float]
    outcomes: list[object]

    @classmethod
    def of(cls, did: Sequence[Sequence[Did]]) -> list[Upkeep]:
        """Verbs that all shards did, in their order."""
        return [
            cls(
                verb=each[0].verb,
                wall_s=max(d.wall_s for d in each),
                cpu_s=sum(d.cpu_s for d in each),
                stages=summed(d.stages for d in each),
                outcomes=[d.outcome for d in each],
            )
            for each in zip(*did, strict=True)
        ]


@dataclass(frozen=True, slots=True)
class Interval:
    """An interval played: bids to published prices, readings to books, and what the making of both cost outside.

    late : rows sent with its readings that are about earlier intervals: of these, those of days that are closed.
    asked : requests for awards, shard by shard. upkeep : what was due when it had settled.
    """

    bids: Phase
    readings: Phase
    made_bids_s: float
    made_readings_s: float
    asked: list[Asked]
    upkeep: list[Upkeep] = field(default_factory=list)

    @property
    def wall_s(self) -> float:
        """Wall seconds of the platform's work."""
        return self.bids.total_s + self.readings.total_s

    @property
    def orders(self) -> int:
        """Rows of the books."""
        return sum(gate.orders for gate in self.bids.gates(Verb.CLOSE_REAL_TIME))

    @property
    def binding(self) -> IntArray:
        """Limits that bind, by feeder."""
        return np.concatenate([gate.binding for gate in self.bids.gates(Verb.CLOSE_REAL_TIME)])

    @property
    def status(self) -> IntArray:
        """How each feeder's clearing ended."""
        return np.concatenate([gate.status for gate in self.bids.gates(Verb.CLOSE_REAL_TIME)])

    @property
    def settled(self) -> list[Settled]:
        """What settled with its readings, shard by shard."""
        return [d.outcome for shard in self.readings.did for d in shard if isinstance(d.outcome, Settled)]

    @property
    def estimated(self) -> int:
        """Customers without a reading in time."""
        return sum(each.estimated for each in self.settled)

    @property
    def postings(self) -> int:
        """Rows posted."""
        return sum(each.postings for each in self.settled)


@dataclass(slots=True)
class Bulk:
    """Intervals in which nobody bids, and nobody's reading comes: gates are missed, meters estimated.

    Attributes
    ----------
    intervals : settled so. wall_s, cpu_s : of the markets, shards together in the second.
    """

    intervals: int = 0
    wall_s: float = 0.0
    cpu_s: float = 0.0


@dataclass(slots=True)
class CityRun:
    """Everything measured.

    Attributes
    ----------
    warm_up : the intervals before the first, in which nothing is known of any feeder yet; no figure counts them.
    day_ahead, made_day_ahead_s : the gate of a day, and what the making of its bids cost; None: not played.
    day_intervals : of the day that is closed, those that were settled. upkeep : opening, closing, corrections.
    bulk : what was made of the day before in bulk; with_readings : its intervals in which readings came.
    disk_bytes : of the shards' directories at the end, by part.
    """

    city: City
    feeders: int
    warm_up: list[Interval]
    intervals: list[Interval]
    findings: Findings
    set_up_s: float
    bulk: Bulk
    day_intervals: int
    with_readings: int
    day_ahead: Phase | None = None
    made_day_ahead_s: float = 0.0
    upkeep: list[Upkeep] = field(default_factory=list)
    disk_bytes: dict[str, int] = field(default_factory=dict)


def summed(stages: Iterable[dict[str, float]]) -> dict[str, float]:
    """Seconds by stage of several together."""
    total: dict[str, float] = {}
    for each in stages:
        for name, seconds in each.items():
            total[name] = total.get(name, 0.0) + seconds
    return total


def together(used: Sequence[Usage]) -> Usage:
    """What several processes used."""
    return Usage(sum(u.cpu_s for u in used), sum(u.written_bytes for u in used), sum(u.peak_bytes for u in used))
