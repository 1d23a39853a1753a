"""The meters of a simulated feeder and the head-end that reads them; one of them may fail for some hours.

Meters of a quarter of an hour send when one ends, silent ones never. A meter that fails shows registers that stand
still. Its memory goes on counting, and is read out later: the true readings of the same intervals, under counters of
their own.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tellegen.metering import DeviceCodes
from tellegen.records import Readings
from tellegen.simulation.batches import SignedBatch, readings_batch
from tellegen.simulation.setup import Setup
from tellegen.simulation.shard import ShardKeys
from tellegen.units import INTERVALS_PER_HOUR

NOMINAL_MV = 230_000

IntArray = NDArray[np.int64]


class HeadEnd:
    """Reads every meter at the end of each interval; row 0 of everything is the substation's.

    Parameters
    ----------
    setup : says who has which meter, and which of them fails when.
    keys : the key of each meter, and the head-end's own.
    """

    def __init__(self, setup: Setup, keys: ShardKeys) -> None:
        self._keys, self._feeder = keys, setup.feeder
        self._number = np.concatenate([[setup.substation], setup.community.customers.customer]).astype(np.int32)
        self._serial = setup.meters
        self._codes = DeviceCodes(keys.meter_master, self._serial)
        self._counter = 0
        self._sequence = 0
        self._every, self._silent = np.append(1, setup.reads_every), np.append(False, setup.silent)
        fault = setup.scenario.fault
        self._faulty = setup.community.names.index(fault.customer) + 1 if fault else 0
        first = setup.first + fault.start_hour * INTERVALS_PER_HOUR if fault else 0
        self._failing = range(first, first + fault.hours * INTERVALS_PER_HOUR if fault else 0)
        self._stuck = np.zeros(3, dtype=np.int64)
        self._memory: list[tuple[int, Readings]] = []

    def read(self, interval: int, registers: IntArray, voltage_pu: NDArray[np.float64]) -> SignedBatch:
        """The coded readings at the end of an interval.

        Parameters
        ----------
        registers : int64[3, n + 1], import and export in Wh and reactive in varh as the meters have them.
        voltage_pu : float64[n + 1], at each meter.
        """
        true = self._readings(registers, voltage_pu)
        shown = true
        if interval == self._failing.start - 1:
            self._stuck = registers[:, self._faulty].copy()
        if interval in self._failing:
            self._memory.append((interval, true.take([self._faulty])))
            shown_registers = registers.copy()
            shown_registers[:, self._faulty] = self._stuck
            shown = self._readings(shown_registers, voltage_pu)
        self._counter += 1
        return self._batch(shown.take(~self._silent & ((interval + 1) % self._every == 0)), interval)

    def late(self) -> tuple[SignedBatch, ...]:
        """What the memory of the meter that failed holds: its true readings, interval by interval."""
        batches = []
        for interval, reading in self._memory:
            rows = reading.rows().copy()
            rows["counter"] = self._counter
            self._counter += 1
            batches.append(self._batch(Readings.from_rows(rows), interval))
        self._memory = []
        return tuple(batches)

    def _readings(self, registers: IntArray, voltage_pu: NDArray[np.float64]) -> Readings:
        count = self._number.size
        return Readings(
            customer=self._number,
            meter=self._serial,
            counter=np.full(count, self._counter),
            import_wh=registers[0],
            export_wh=registers[1],
            reactive_varh=registers[2],
            voltage_mv=np.rint(voltage_pu * NOMINAL_MV).astype(np.int64),
            tag=np.zeros(count, dtype="V16"),
        )

    def _batch(self, readings: Readings, interval: int) -> SignedBatch:
        self._sequence += 1
        return readings_batch(
            self._keys, self._codes.tag(readings, interval), self._feeder, interval, self._sequence - 1
        )
