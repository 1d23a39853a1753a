"""Who takes part: customers, their meters and keys; and documents that are whole texts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from tellegen.records.table import Table, column

OPERATOR = 0
"""Customer number under which the operator's own confidential rows stand (network, substation)."""


@dataclass(frozen=True, slots=True, eq=False)
class Customers(Table):
    """Enrolment: connection point, meter and public key of each customer."""

    kind: ClassVar[str] = "customers"
    subject: ClassVar[str | None] = "customer"

    customer: NDArray[np.int32] = column("<i4", "1", "customer number, from 1")
    node: NDArray[np.int32] = column("<i4", "1", "node index of the connection point")
    meter: NDArray[np.int64] = column("<i8", "1", "serial number of the meter")
    fuse_w: NDArray[np.int64] = column("<i8", "W", "connection capacity, both directions")
    public_key: NDArray[np.void] = column("|V32", "bytes", "Ed25519 key that signs the orders")


@dataclass(frozen=True, slots=True, eq=False)
class AllocationKeys(Table):
    """Frozen sharing keys of the day: trailing metered withdrawal, which no trade of the day moves."""

    kind: ClassVar[str] = "keys"
    subject: ClassVar[str | None] = "customer"

    customer: NDArray[np.int32] = column("<i4", "1", "customer number")
    weight_wh: NDArray[np.int64] = column("<i8", "Wh", "withdrawal over the trailing window")


@dataclass(frozen=True, slots=True, eq=False)
class Erasures(Table):
    """Customers whose keys have been destroyed: their rows can never be read again."""

    kind: ClassVar[str] = "erasures"

    customer: NDArray[np.int32] = column("<i4", "1", "customer number")


@dataclass(frozen=True, slots=True)
class Document:
    """A text that goes on record whole (rulebook, scenario, network)."""

    name: str
    content: bytes
    private: bool = False
