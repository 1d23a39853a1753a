"""Every meter of a shard, validated in one pass per interval: customers, and the substations of the feeders."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields, replace

import numpy as np

from tellegen.metering import Estimate, Limits, MeterState, validate
from tellegen.metering.estimate import NOT_KNOWN
from tellegen.metering.validation import Registers
from tellegen.operations.connected import Connected
from tellegen.operations.shard_feeders import ShardFeeder
from tellegen.records import OPERATOR, Energy, Readings
from tellegen.units import ROW_LIMIT, IntArray

VOLTAGE_LOW_MV, VOLTAGE_HIGH_MV = 160_000, 290_000
SUBSTATION_W_MAX = ROW_LIMIT - 1


class _Meters:
    """Meters of one kind by number: their state, and the last interval's energy, which stands in for a missing one."""

    def __init__(self) -> None:
        none: IntArray = np.zeros(0, dtype=np.int64)
        self.state = MeterState.installed(none, none)
        self.capacity_w: IntArray = none
        self.last = np.zeros((3, 0), dtype=np.int64)

    def install(self, number: IntArray, meter: IntArray, capacity_w: IntArray) -> None:
        """Take in who is new (registers unknown), and meters and capacities of everybody given."""
        new = ~np.isin(number, self.state.customer)
        if new.any():
            order = np.argsort(np.concatenate([self.state.customer, number[new]]))
            fresh = MeterState.installed(np.sort(number[new]), np.zeros(int(new.sum()), dtype=np.int64))
            self.state = _merged(self.state, fresh, order)
            self.capacity_w = np.concatenate([self.capacity_w, capacity_w[new]])[order]
            self.last = np.concatenate([self.last, np.zeros((3, int(new.sum())), dtype=np.int64)], axis=1)[:, order]
        place = np.searchsorted(self.state.customer, number)
        serial, capacity = self.state.meter.copy(), self.capacity_w.copy()
        serial[place], capacity[place] = meter, capacity_w
        self.state, self.capacity_w = replace(self.state, meter=serial), capacity

    def read(self, interval: int, readings: Readings) -> Energy:
        """Energy of everybody, in the order of the state; what did not come is as in the interval before."""
        n = self.state.customer.size
        limits = Limits(
            fuse_w=self.capacity_w,
            voltage_low_mv=np.full(n, VOLTAGE_LOW_MV),
            voltage_high_mv=np.full(n, VOLTAGE_HIGH_MV),
            longest_still=np.full(n, NOT_KNOWN),
        )
        # codes and counters were checked when the intake took the rows; what it refused is not here
        genuine = np.ones(len(readings), dtype=np.bool_)
        energy, self.state = validate(interval, readings, genuine, self.state, limits, Estimate(*self.last))
        self.last = np.stack([energy.import_wh, energy.export_wh, energy.reactive_varh])
        return energy


class ShardMeters:
    """The meters of a shard between intervals.

    A meter's first reading is the base from which it counts, so its first interval is an estimate of nothing.
    """

    def __init__(self, feeders: Sequence[ShardFeeder]) -> None:
        self._number = {feeder.name: k for k, feeder in enumerate(feeders)}
        self._customers, self._substations = _Meters(), _Meters()
        self._substations.install(
            np.arange(len(feeders)),
            np.array([feeder.substation_meter for feeder in feeders], dtype=np.int64),
            np.full(len(feeders), SUBSTATION_W_MAX),
        )

    def read(self, interval: int, readings: Mapping[str, Readings], connected: Connected) -> tuple[Energy, Energy]:
        """Validate an interval's readings.

        Parameters
        ----------
        readings : by feeder; those of customer 0 are of the feeder's substation.
        connected : who is on the feeders now.

        Returns
        -------
        Energy of everybody connected, in the order of `connected`; and of the substations, in the order of the feeders.
        """
        order = np.argsort(connected.customer)
        number = connected.customer[order]
        self._customers.install(number, connected.meter[order], connected.capacity_w[order])
        rows, roots = [], []
        for feeder, table in readings.items():
            root = table.customer == OPERATOR
            rows.append(table.take(~root))
            at_root = table.take(root)
            # a substation goes by the number of its feeder here, for all of them are customer 0
            roots.append(replace(at_root, customer=np.full(len(at_root), self._number[feeder])))
        energy = self._customers.read(interval, Readings.concat(rows))
        place = np.searchsorted(self._customers.state.customer, connected.customer)
        substations = self._substations.read(interval, Readings.concat(roots))
        return energy.take(place), replace(substations, customer=np.full(len(substations), OPERATOR))


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
