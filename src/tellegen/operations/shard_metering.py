"""Every meter of a shard, substations included, validated in one pass per interval."""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np

from tellegen.metering import Estimate, Limits, MeterState, validate
from tellegen.metering.estimate import NOT_KNOWN
from tellegen.metering.validation import Registers
from tellegen.operations.connected import Connected
from tellegen.records import Energy, Readings
from tellegen.units import IntArray

VOLTAGE_LOW_MV, VOLTAGE_HIGH_MV = 160_000, 290_000


class ShardMeters:
    """The meters of a shard between intervals.

    A meter's first reading is the base from which it counts, so its first interval is an estimate of nothing. Where a
    reading is missing or rejected, the interval is estimated as the one before.
    """

    def __init__(self) -> None:
        none: IntArray = np.zeros(0, dtype=np.int64)
        self._state = MeterState.installed(none, none)
        self._last = np.zeros((3, 0), dtype=np.int64)

    def read(self, interval: int, readings: Readings, connected: Connected) -> Energy:
        """Validate an interval's readings; intervals are read in their order.

        Parameters
        ----------
        readings : those that the intake took, so that codes and counters are known to be good.
        connected : who is on the feeders now.

        Returns
        -------
        Energy of everybody connected, substations included, in the order of `connected`.
        """
        self._install(connected)
        place = np.searchsorted(self._state.customer, connected.customer)
        n = self._state.customer.size
        serial, capacity = self._state.meter.copy(), np.zeros(n, dtype=np.int64)
        serial[place], capacity[place] = connected.meter, connected.capacity_w
        limits = Limits(
            fuse_w=capacity,
            voltage_low_mv=np.full(n, VOLTAGE_LOW_MV),
            voltage_high_mv=np.full(n, VOLTAGE_HIGH_MV),
            longest_still=np.full(n, NOT_KNOWN),
        )
        genuine = np.ones(len(readings), dtype=np.bool_)
        state = replace(self._state, meter=serial)
        energy, self._state = validate(interval, readings, genuine, state, limits, Estimate(*self._last))
        self._last = np.stack([energy.import_wh, energy.export_wh, energy.reactive_varh])
        return energy.take(place)

    def _install(self, connected: Connected) -> None:
        new = np.setdiff1d(connected.customer, self._state.customer)
        if new.size:
            order = np.argsort(np.concatenate([self._state.customer, new]))
            nothing = np.zeros((3, new.size), dtype=np.int64)
            self._state = _merged(self._state, MeterState.installed(new, nothing[0]), order)
            self._last = np.concatenate([self._last, nothing], axis=1)[:, order]


def _merged(first: MeterState, second: MeterState, order: IntArray) -> MeterState:
    """Both states together, rows in the order given."""
    columns: dict[str, object] = {}
    for spec in fields(MeterState):
        ours, theirs = getattr(first, spec.name), getattr(second, spec.name)
        if isinstance(ours, Registers):
            columns[spec.name] = Registers(
                *(np.concatenate([getattr(ours, f.name), getattr(theirs, f.name)])[order] for f in fields(Registers))
            )
        else:
            columns[spec.name] = np.concatenate([ours, theirs])[order]
    return MeterState(**columns)  # type: ignore[arg-type]
