"""The meters of a shard between intervals: what validation remembers of each, substations included.

Readings are judged once, when their interval settles, and the verdicts go on record. From then on the state follows
from the record alone: `Meters.apply` takes the readings that counted and the rules that stand in the energy recorded,
whether it is the verb that calls it or a fold after a restart. What came late is folded in by `metering.refold`.
"""

from __future__ import annotations

from dataclasses import fields

import numpy as np
from numpy.typing import NDArray

from tellegen.metering.devices import MeteringError
from tellegen.metering.load_profile import Quantity
from tellegen.metering.past import Estimates
from tellegen.metering.runs import BoolArray
from tellegen.metering.standing import Standing
from tellegen.metering.validation import Limits, MeterState, Sent, advanced, energy_of, judged
from tellegen.operations.topology import Connected
from tellegen.records import Energy, MeterStates, Readings
from tellegen.units import IntArray


class Meters:
    """State of the meters by customer, in arrays.

    A customer has one row, of the meter installed last: an exchange ends one installation and starts another, whose
    own first reading is its base. Until something is measured there, an interval is estimated as the customer's last
    measured one.
    """

    def __init__(self, standing: Standing | None = None) -> None:
        self._standing = standing if standing is not None else Standing.nobody()

    @classmethod
    def of(cls, parts: dict[str, NDArray[np.generic]]) -> Meters:
        """Inverse of `parts`.

        Raises
        ------
        MeteringError : a column is missing.
        """
        missing = {"customer", "meter", *(spec.name for spec in fields(MeterState))} - parts.keys()
        if missing:
            raise MeteringError(f"meters: column {min(missing)} is missing from the snapshot; fold the record instead")
        columns = {name: np.asarray(column) for name, column in parts.items()}
        state = MeterState(*(columns[spec.name] for spec in fields(MeterState)))
        return cls(Standing(columns["customer"].astype(np.int64), columns["meter"].astype(np.int64), state))

    def parts(self) -> dict[str, NDArray[np.generic]]:
        """The state as named columns, by customer, little-endian: equal states are equal bytes."""
        standing = self._standing
        named = {spec.name: getattr(standing.state, spec.name) for spec in fields(MeterState)}
        every = {"customer": standing.customer.astype(np.int32), "meter": standing.meter, **named}
        return {
            name: np.ascontiguousarray(column.astype(column.dtype.newbyteorder("<"))) for name, column in every.items()
        }

    @property
    def standing(self) -> Standing:
        """All rows, ascending by customer."""
        return self._standing

    def bases(self, interval: int, before: Readings, connected: Connected) -> Standing:
        """Meters that are new in an interval and whose registers at its start were read: they count from these.

        Parameters
        ----------
        before : readings about the interval before that count, as `registers_of` gives them.
        """
        rows = np.flatnonzero(self._unknown(connected))
        rows = rows[np.argsort(connected.customer[rows], kind="stable")]
        sent = Sent.of(before, connected.customer[rows], connected.meter[rows])
        came = np.flatnonzero(sent.came)
        state = MeterState.installed(sent.registers[:, came], interval - 1)
        return Standing(connected.customer[rows[came]], connected.meter[rows[came]], state)

    def is_new(self, connected: Connected) -> bool:
        """Whether a meter is connected that nothing is known of."""
        return bool(self._unknown(connected).any())

    def _unknown(self, connected: Connected) -> BoolArray:
        known = self._standing
        if not known.customer.size:
            return np.ones(connected.customer.size, dtype=np.bool_)
        place = np.minimum(np.searchsorted(known.customer, connected.customer), known.customer.size - 1)
        return np.asarray((known.customer[place] != connected.customer) | (known.meter[place] != connected.meter))

    def judge(self, interval: int, readings: Readings, connected: Connected, estimates: Estimates) -> Energy:
        """Energy of everybody connected in an interval, substations included; changes nothing.

        Parameters
        ----------
        interval : intervals are judged in their order, each after the one before was applied.
        readings : those about the interval that count, as `registers_of` gives them.
        connected : who is on the feeders.
        estimates : of everybody in `connected`, in its order.

        Returns
        -------
        One row each, in the order of `connected`.
        """
        state = self._standing.at(connected.customer, connected.meter)
        sent = Sent.of(readings, connected.customer, connected.meter)
        limits = Limits.of(connected.capacity_w, estimates.longest_still)
        rule = judged(interval, sent, state, limits)
        assumed = estimates.energy(state.measured.astype(np.int64))
        return energy_of(interval, connected.customer, sent, state, rule, assumed, connected.reads_every)

    def apply(self, interval: int, readings: Readings, energy: Energy, connected: Connected) -> None:
        """Go on to the state after an interval, as it stands on record.

        Parameters
        ----------
        readings, connected : as they were given to `judge`.
        energy : what it returned, in any order.

        Raises
        ------
        MeteringError : somebody connected has no energy on record.
        """
        by_customer = np.argsort(energy.customer, kind="stable")
        place = np.searchsorted(energy.customer, connected.customer, sorter=by_customer)
        place = by_customer[np.minimum(place, max(len(energy) - 1, 0))] if len(energy) else place
        absent = (
            np.ones(place.size, dtype=np.bool_) if not len(energy) else energy.customer[place] != connected.customer
        )
        if absent.any():
            customer = int(connected.customer[np.argmax(absent)])
            raise MeteringError(f"customer {customer}, interval {interval}: no energy on record for who is connected")
        state = self._standing.at(connected.customer, connected.meter)
        sent = Sent.of(readings, connected.customer, connected.meter)
        after = advanced(interval, sent, state, energy.rule[place])
        self.replace(Standing.of(connected.customer, connected.meter, after))

    def replace(self, rows: Standing) -> None:
        """Put rows in place of those of the same customers: what `metering.refold` made of late readings."""
        self._standing = self._standing.replaced(rows)

    def last_net(self, customer: IntArray) -> tuple[IntArray, IntArray]:
        """Customers of some whose meters are known, and their net withdrawal in the last measured interval, Wh and
        varh, int64[2, k].
        """
        at = np.searchsorted(self._standing.customer, customer)
        there = at < self._standing.customer.size
        there[there] = self._standing.customer[at[there]] == customer[there]
        measured = self._standing.state.measured[:, at[there]].astype(np.int64)
        net_wh = measured[Quantity.WITHDRAWN] - measured[Quantity.INJECTED]
        return customer[there], np.stack([net_wh, measured[Quantity.REACTIVE]])

    def forget(self, customer: IntArray) -> None:
        """Leave customers out that were erased."""
        self._standing = self._standing.take(~np.isin(self._standing.customer, customer))


def meter_states(standing: Standing) -> MeterStates:
    """State of some meters as it stands on record."""
    state = standing.state
    return MeterStates(
        customer=standing.customer.astype(np.int32),
        meter=standing.meter,
        accepted=state.accepted.T,
        accepted_at=state.accepted_at,
        heard=state.heard.T,
        heard_at=state.heard_at,
        still=state.still,
        measured=state.measured.T,
    )


def standing_of(states: MeterStates) -> Standing:
    """Inverse of `meter_states`."""
    state = MeterState(
        np.ascontiguousarray(states.accepted.T),
        states.accepted_at,
        np.ascontiguousarray(states.heard.T),
        states.heard_at,
        states.still,
        np.ascontiguousarray(states.measured.T),
    )
    return Standing.of(states.customer.astype(np.int64), states.meter, state)
