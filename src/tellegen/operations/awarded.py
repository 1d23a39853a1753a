"""What customers were awarded, as power: by which the price run tells who kept to it.

A coarse meter shows what its home did over a span of market intervals, so there the award is the mean over the span.
All numbers are integers: W, var.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np

from tellegen.records import Orders, Product, Side
from tellegen.units import IntArray

MW_PER_W = 1_000


@dataclass(frozen=True, slots=True, eq=False)
class AwardedPower:
    """Awards by customer.

    Attributes
    ----------
    bought_w, sold_w : int64[n], energy.
    net_var : int64[n], reactive power, withdrawal positive, what goes along with energy included.
    gross_var : int64[n], magnitudes of what was awarded of reactive power by itself.
    """

    bought_w: IntArray
    sold_w: IntArray
    net_var: IntArray
    gross_var: IntArray

    @classmethod
    def of(cls, orders: Orders, awarded_mw: IntArray, customer: IntArray) -> AwardedPower:
        """Sums over the orders of some customers, int64[n] ascending; orders of others are left out.

        Parameters
        ----------
        awarded_mw : int64[orders].
        """
        at = np.searchsorted(customer, orders.customer)
        rows = np.flatnonzero(np.append(customer, -1)[at] == orders.customer)
        orders, at, award = orders.take(rows), at[rows], awarded_mw[rows] // MW_PER_W
        energy, of_var = orders.product == Product.ENERGY, orders.product == Product.REACTIVE
        signed = award * orders.side
        along = np.where(energy, signed * orders.var_per_kw // MW_PER_W, 0)
        parts = (
            np.where(energy & (orders.side == Side.BUY), award, 0),
            np.where(energy & (orders.side == Side.SELL), award, 0),
            np.where(of_var, signed, along),
            np.where(of_var, award, 0),
        )
        sums = np.zeros((len(parts), customer.size), dtype=np.int64)
        for total, values in zip(sums, parts, strict=True):
            np.add.at(total, at, values)
        return cls(*sums)

    @classmethod
    def mean(cls, several: Sequence[AwardedPower]) -> AwardedPower:
        """Means over intervals of equal length, rounded down; at least one is needed."""
        total = np.sum([[getattr(each, f.name) for f in fields(cls)] for each in several], axis=0)
        return cls(*(total // len(several)))

    @property
    def net_w(self) -> IntArray:
        """Energy, withdrawal positive."""
        return self.bought_w - self.sold_w

    def replaced(self, rows: IntArray, other: AwardedPower) -> AwardedPower:
        """These, some rows replaced by the other's, in its order."""
        columns = [getattr(self, f.name).copy() for f in fields(self)]
        for column, f in zip(columns, fields(other), strict=True):
            column[rows] = getattr(other, f.name)
        return AwardedPower(*columns)

    def of_customers(self, whose: IntArray, customer: IntArray) -> AwardedPower:
        """What some customers were awarded, given whose these are, ascending; 0 to all others."""
        at = np.searchsorted(whose, customer)
        there = np.append(whose, -1)[at] == customer
        return AwardedPower(*(np.where(there, np.append(getattr(self, f.name), 0)[at], 0) for f in fields(self)))

    def take(self, rows: IntArray) -> AwardedPower:
        """Some of the customers."""
        return AwardedPower(*(getattr(self, f.name)[rows] for f in fields(self)))


@dataclass(frozen=True, slots=True, eq=False)
class SpanAwards:
    """Awards of coarse meters, as means over their spans: int64[m], places among the customers, and what they had."""

    rows: IntArray
    awards: AwardedPower
