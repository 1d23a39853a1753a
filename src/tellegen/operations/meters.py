"""The meters of a simulated feeder, the head-end that reads them, and the one that fails."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tellegen.metering import (
    DeviceCodes,
    Estimate,
    Limits,
    MeterState,
    daily_profile,
    longest_stillness,
    validate,
)
from tellegen.metering.validation import Registers
from tellegen.operations.setup import Setup
from tellegen.operations.world import FeederWorld, Observation
from tellegen.records import OPERATOR, Energy, Readings
from tellegen.units import INTERVALS_PER_HOUR

NOMINAL_MV = 230_000
VOLTAGE_LOW_MV, VOLTAGE_HIGH_MV = 160_000, 290_000
SUBSTATION_METER = 1
ESTIMATE_DAYS = 7
"""Days whose mean stands in for a reading that was rejected."""


class Meters:
    """Registers as sent and as validated; row 0 of everything is the substation."""

    def __init__(self, setup: Setup, world: FeederWorld, master_key: bytes) -> None:
        self._setup, self._world = setup, world
        customers = setup.community.customers
        self._number = np.concatenate([[OPERATOR], np.asarray(customers.customer)])
        self._serial = np.concatenate([[SUBSTATION_METER], np.asarray(customers.meter)])
        self._node = np.concatenate([[int(setup.network.source[0])], setup.node])
        self._codes = DeviceCodes(master_key, self._serial)
        self._state = MeterState.installed(self._number, self._serial, Registers(*world.registers.whole()))
        net = setup.past_net_wh
        whole = np.concatenate([net.sum(axis=2, keepdims=True), net], axis=2)
        imports, exports = np.maximum(whole, 0), np.maximum(-whole, 0)
        fuse_w = np.asarray(customers.fuse_w, dtype=np.int64)
        self._limits = Limits(
            fuse_w=np.concatenate([[fuse_w.sum()], fuse_w]),
            voltage_low_mv=np.full(self._number.size, VOLTAGE_LOW_MV),
            voltage_high_mv=np.full(self._number.size, VOLTAGE_HIGH_MV),
            longest_still=longest_stillness(*(e.reshape(-1, self._number.size) for e in (imports, exports))),
        )
        self._profile = tuple(daily_profile(e[-ESTIMATE_DAYS:]) for e in (imports, exports, np.zeros_like(imports)))
        fault = setup.scenario.fault
        self._faulty = setup.community.names.index(fault.customer) + 1 if fault else 0
        self.fault_first = setup.first + fault.start_hour * INTERVALS_PER_HOUR if fault else 0
        self._fault_end = self.fault_first + fault.hours * INTERVALS_PER_HOUR if fault else 0
        self._stuck = np.zeros(3, dtype=np.int64)
        self._true: list[NDArray[np.int64]] = []

    def read(self, interval: int, seen: Observation) -> tuple[Readings, Energy]:
        """Readings at the end of an interval as they arrive, and the energy that passes validation."""
        registers = np.stack(self._world.registers.whole())
        if self._faulty:
            registers = self._with_fault(interval, registers)
        readings = self._codes.tag(
            Readings(
                customer=self._number,
                meter=self._serial,
                counter=np.full(self._number.size, interval - self._setup.first + 1),
                import_wh=registers[0],
                export_wh=registers[1],
                reactive_varh=registers[2],
                voltage_mv=np.rint(seen.voltage_pu[self._node] * NOMINAL_MV).astype(np.int64),
                tag=np.zeros(self._number.size, dtype="V16"),
            ),
            interval,
        )
        at = (interval - self._setup.first) % 288
        estimate = Estimate(*(profile[at] for profile in self._profile))
        genuine = self._codes.check(readings, interval)
        energy, self._state = validate(interval, readings, genuine, self._state, self._limits, estimate)
        return readings, energy

    def true_registers(self) -> NDArray[np.int64]:
        """Registers that the faulty meter should have shown: import, export, reactive; int64[3, k + 1].

        The first value stands at the start of the first wrong interval. The interval after the fault is
        included, because its energy was estimated too.
        """
        return np.stack(self._true, axis=1) if self._true else np.zeros((3, 0), dtype=np.int64)

    def _with_fault(self, interval: int, registers: NDArray[np.int64]) -> NDArray[np.int64]:
        """The registers of the faulty meter stand still while it fails."""
        shown = registers.copy()
        if self.fault_first - 1 <= interval <= self._fault_end:
            self._true.append(registers[:, self._faulty].copy())
        if interval == self.fault_first - 1:
            self._stuck = registers[:, self._faulty].copy()
        if self.fault_first <= interval < self._fault_end:
            shown[:, self._faulty] = self._stuck
        return shown
