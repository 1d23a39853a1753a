"""The head-end of the city: every meter's register after an interval, coded; some come late, some are read again.

Devices follow the awards a few per cent off, in registers that count whole Wh. A reading that comes late is the one
that was due, with its own counter; a correction is another register under a newer counter, and counts instead. Meters
of a quarter of an hour send when one ends; of silent ones nothing ever comes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from tellegen.metering import DeviceCodes
from tellegen.records import Readings, Route
from tellegen.simulation.city.batches import Batch, Sender, Whereabouts, by_feeder
from tellegen.simulation.city.population import City, Draw, ShardPopulation, generator
from tellegen.simulation.shard import HEAD_END, ShardKeys
from tellegen.units import INTERVALS_PER_HOUR, IntArray

NOISE = 0.03
"""Standard deviation of what a device does over what it was awarded."""
LOSSES = 0.02
"""Of what flows through a feeder, what its substation measures beyond its customers' meters."""
HELD_BACK, READ_AGAIN = 0.005, 0.0005
"""Shares of the meters whose reading of an interval comes late, and of those that are read again."""
NOMINAL_MV = 230_000


@dataclass(frozen=True, slots=True, eq=False)
class _Later:
    """Rows about an interval that are still to come, and on which feeder each meter hung then."""

    readings: Readings
    feeder: IntArray


class HeadEnd:
    """All meters of a shard; knows their keys."""

    def __init__(
        self, city: City, shard: int, population: ShardPopulation, keys: ShardKeys, places: Whereabouts
    ) -> None:
        self._city, self._shard, self._population, self._places = city, shard, population, places
        self._sender = Sender(keys)
        roots = np.array([feeder.substation for feeder in population.feeders])
        self._customer = np.concatenate([population.customer, roots]).astype(np.int32)
        self._meter = keys.meters_of(self._customer)
        self._codes = DeviceCodes(keys.meter_master, self._meter)
        self._registers = np.zeros((3, self._meter.size), dtype=np.int64)
        self._later: dict[int, _Later] = {}

    def used(self, interval: int) -> tuple[IntArray, IntArray]:
        """Energy in an interval in which the market awarded nothing: Wh and varh, int64[n] each."""
        p, rng = self._population, generator(self._city.seed, Draw.READINGS, self._shard, interval, 1)
        wh = p.peak_kw * rng.uniform(0.2, 0.5, p.peak_kw.size) * 1e3 / INTERVALS_PER_HOUR
        return np.rint(wh).astype(np.int64), np.rint(wh * p.kvar_per_kw).astype(np.int64)

    def readings(self, interval: int, energy_wh: IntArray, reactive_varh: IntArray, *, all_come: bool) -> list[Batch]:
        """Meters' readings at the end of an interval, coded, substations included.

        Parameters
        ----------
        energy_wh, reactive_varh : what everybody means to use, int64[n].
        all_come : else some are held back, and some read again (`later`).
        """
        rng = generator(self._city.seed, Draw.READINGS, self._shard, interval)
        feeder, _ = self._places.at(interval)
        count = len(self._population.feeders)
        net = np.rint(energy_wh * rng.normal(1.0, NOISE, energy_wh.size)).astype(np.int64)
        through = np.bincount(feeder, weights=net, minlength=count)
        root = np.rint(through + LOSSES * np.abs(through)).astype(np.int64)
        moved = np.concatenate([net, root])
        self._registers[0] += np.maximum(moved, 0)
        self._registers[1] += np.maximum(-moved, 0)
        self._registers[2, : net.size] += reactive_varh
        untagged = Readings(
            customer=self._customer,
            meter=self._meter,
            counter=np.full(moved.size, 2 * (interval - self._city.begin + 1)),
            import_wh=self._registers[0].copy(),
            export_wh=self._registers[1].copy(),
            reactive_varh=self._registers[2].copy(),
            voltage_mv=NOMINAL_MV + rng.integers(-80, 80, moved.size) * 100,
            tag=np.zeros(moved.size, dtype="V16"),
        )
        tagged = self._codes.tag(untagged, interval)
        hangs = np.concatenate([feeder, np.arange(count)])
        p = self._population
        sends = np.append(~p.silent & ((interval + 1) % p.reads_every == 0), np.ones(count, dtype=np.bool_))
        comes = np.flatnonzero(sends)
        if not all_come:
            comes = self._hold_back(interval, tagged, hangs, np.maximum(moved, 0), sends)
        # substations first: a feeder's first batch has its own
        comes = np.concatenate([comes[comes >= net.size], comes[comes < net.size]])
        return self._batches(interval, tagged.take(comes), hangs[comes])

    def later(self, interval: int) -> list[Batch]:
        """What was held back of an interval, and what was read again."""
        later = self._later.pop(interval)
        return self._batches(interval, later.readings, later.feeder)

    def _hold_back(
        self, interval: int, tagged: Readings, hangs: IntArray, withdrawn: IntArray, sends: NDArray[np.bool_]
    ) -> IntArray:
        """Rows that come in time; the others are kept."""
        n = self._population.customer.size
        rng = generator(self._city.seed, Draw.HELD_BACK, self._shard, interval)
        held, again = round(HELD_BACK * n), round(READ_AGAIN * n)
        drawn = rng.choice(n, held + again, replace=False)
        late, twice = (some[sends[some]] for some in (drawn[:held], drawn[held:]))
        first = tagged.take(twice)
        second = replace(first, counter=first.counter + 1, import_wh=first.import_wh - withdrawn[twice] // 2)
        rows = Readings.concat([tagged.take(late), self._codes.tag(second, interval)])
        self._later[interval] = _Later(rows, hangs[np.concatenate([late, twice])])
        comes = sends.copy()
        comes[late] = False
        return np.flatnonzero(comes)

    def _batches(self, interval: int, readings: Readings, feeder: IntArray) -> list[Batch]:
        rows, batches = readings.rows(), []
        for k, which in by_feeder(feeder, len(self._population.feeders)):
            name, body = self._population.feeders[k].name, rows[which].tobytes()
            batches.append(self._sender.batch(Route.READINGS, HEAD_END, name, "", interval, body, which.size))
        return batches
