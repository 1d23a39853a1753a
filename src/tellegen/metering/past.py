"""What is known of customers before they joined, and what that makes of a reading that failed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np

from tellegen.metering.estimate import NOT_KNOWN
from tellegen.metering.load_profile import DAY_S, Quantity
from tellegen.metering.runs import BoolArray
from tellegen.records import Histories, Profiles
from tellegen.records.latest import latest
from tellegen.units import MARKET_INTERVAL_S, IntArray

_PER_DAY = DAY_S // MARKET_INTERVAL_S


@dataclass(frozen=True, slots=True, eq=False)
class Estimates:
    """What to assume of n customers in an interval where no reading is believed.

    Attributes
    ----------
    profile : int64[3, n], energy at this time of day by `Quantity`, Wh and varh.
    profiled : bool[n], whether that is known; else the last interval that was measured is assumed again.
    longest_still : int64[n], longest run of intervals without movement in the past; `estimate.NOT_KNOWN`: none is
        too long.
    """

    profile: IntArray
    profiled: BoolArray
    longest_still: IntArray

    @classmethod
    def nothing(cls, customers: int) -> Self:
        """Nothing is known of anybody."""
        return cls(
            np.zeros((3, customers), dtype=np.int64),
            np.zeros(customers, dtype=np.bool_),
            np.full(customers, NOT_KNOWN, dtype=np.int64),
        )

    def take(self, where: IntArray) -> Estimates:
        """Some of the customers."""
        return Estimates(self.profile[:, where], self.profiled[where], self.longest_still[where])

    def energy(self, measured: IntArray) -> IntArray:
        """Energy to assume, int64[3, n], given that of each customer's last measured interval."""
        return np.where(self.profiled, self.profile, measured)


class Past:
    """Profiles and histories as they stand on record, ready to be asked about many customers at once.

    Parameters
    ----------
    profiles, histories : of several rows about the same the later counts.

    >>> past = Past(Profiles(customer=[5], place=[3], import_wh=[40], export_wh=[0]), Histories.empty())
    >>> known = past.estimates(np.array([5, 5, 6]), 288 + np.array([3, 4, 3]))
    >>> known.profile[0].tolist(), known.profiled.tolist()
    ([40, 0, 0], [True, False, False])
    """

    def __init__(self, profiles: Profiles, histories: Histories) -> None:
        self._profiles = profiles.take(latest([profiles.customer, profiles.place]))
        self._key = self._profiles.customer.astype(np.int64) * _PER_DAY + self._profiles.place
        self._histories = histories.take(latest([histories.customer]))

    def estimates(self, customer: IntArray, interval: int | IntArray) -> Estimates:
        """What to assume of customers, int64[n], in an interval, one for all or one for each."""
        known = Estimates.nothing(customer.size)
        at, there = _found(self._key, customer * _PER_DAY + np.asarray(interval) % _PER_DAY)
        known.profiled[there] = True
        known.profile[Quantity.WITHDRAWN, there] = self._profiles.import_wh[at]
        known.profile[Quantity.INJECTED, there] = self._profiles.export_wh[at]
        at, there = _found(self._histories.customer.astype(np.int64), customer)
        known.longest_still[there] = self._histories.longest_still[at]
        return known


def _found(keys: IntArray, wanted: IntArray) -> tuple[IntArray, BoolArray]:
    """Places of what is wanted among ascending keys, where it is there; and where that is."""
    at = np.searchsorted(keys, wanted).astype(np.int64)
    there = at < keys.size
    there[there] = keys[at[there]] == wanted[there]
    return at[there], there
