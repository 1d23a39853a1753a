"""What is remembered of the meters of many customers, by customer."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Self

import numpy as np
from numpy.typing import NDArray

from tellegen.metering.devices import MeteringError
from tellegen.metering.validation import MeterState
from tellegen.units import IntArray


@dataclass(frozen=True, slots=True, eq=False)
class Standing:
    """State of the meter that each customer had last.

    Attributes
    ----------
    customer, meter : int64[n], customers ascending, each once; the serial number of the meter.
    state : of these.

    Raises
    ------
    MeteringError : customers are not ascending.
    """

    customer: IntArray
    meter: IntArray
    state: MeterState

    def __post_init__(self) -> None:
        if (np.diff(self.customer) <= 0).any():
            raise MeteringError("customers must be ascending, each once")

    @classmethod
    def nobody(cls) -> Self:
        """No meter was ever read."""
        none = np.zeros(0, dtype=np.int64)
        return cls(none, none, MeterState.unknown(0))

    @classmethod
    def of(cls, customer: IntArray, meter: IntArray, state: MeterState) -> Self:
        """Rows in any order."""
        order = np.argsort(customer, kind="stable")
        return cls(customer[order], meter[order], state.take(order))

    def take(self, where: NDArray[np.generic]) -> Standing:
        """Rows by integer index, ascending, or mask."""
        return Standing(self.customer[where], self.meter[where], self.state.take(where))

    def at(self, customer: IntArray, meter: IntArray) -> MeterState:
        """State of the given meters, int64[k]: of those not heard of yet and of those put in since, a fresh one.

        A fresh one keeps what the customer's last measured interval was.
        """
        at = np.searchsorted(self.customer, customer)
        there = at < self.customer.size
        there[there] = self.customer[at[there]] == customer[there]
        state = MeterState.unknown(customer.size)
        if there.all():
            state = self.state.take(at)
        elif there.any():
            state = state.with_rows(np.flatnonzero(there), self.state.take(at[there]))
        same = there.copy()
        same[there] = self.meter[at[there]] == meter[there]
        return state if same.all() else exchanged(state, ~same)

    def replaced(self, rows: Standing) -> Standing:
        """These, with other rows in place of those of the same customers, or beside them."""
        if np.array_equal(self.customer, rows.customer):
            return rows
        kept = self.take(~np.isin(self.customer, rows.customer))
        return Standing.of(
            np.concatenate([kept.customer, rows.customer]),
            np.concatenate([kept.meter, rows.meter]),
            kept.state.joined(rows.state),
        )


def exchanged(state: MeterState, where: NDArray[np.bool_]) -> MeterState:
    """A new meter where it says so: nothing is known of it but what its customer's last measured interval was."""
    fresh = replace(MeterState.unknown(len(state)), measured=state.measured)
    return fresh.where(where, state)
