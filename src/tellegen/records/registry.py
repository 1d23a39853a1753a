"""Who takes part: customers, their meters and keys; and documents that are whole texts."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from enum import IntEnum
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


class Role(IntEnum):
    """What an admitted identity may do."""

    METER = 1
    HEAD_END = 2
    PARTICIPANT = 3
    GATEWAY = 4
    WITNESS = 5


@dataclass(frozen=True, slots=True, eq=False)
class Admissions(Table):
    """Identities admitted by certificate; a later row of the same name is its key rotated.

    A head-end or gateway is known by `name`, a meter by its serial number, a participant by its customer number; the
    other fields of those kinds are empty or 0. Public: it says who may speak, not what was said.
    """

    kind: ClassVar[str] = "admissions"

    role: NDArray[np.uint8] = column("|u1", "Role", "what the identity may do")
    number: NDArray[np.int64] = column("<i8", "1", "meter serial or customer number; 0 for named roles")
    name: NDArray[np.bytes_] = column("|S100", "ASCII", "name of a head-end, gateway or witness")
    public_key: NDArray[np.void] = column("|V32", "bytes", "Ed25519 key")
    certificate_sha256: NDArray[np.void] = column("|V32", "bytes", "fingerprint of the certificate (DER)")
    valid_from: NDArray[np.int64] = column("<i8", "s", "since the epoch, UTC")
    valid_until: NDArray[np.int64] = column("<i8", "s", "since the epoch, UTC, exclusive")


@dataclass(frozen=True, slots=True, eq=False)
class Certifications(Table):
    """The issuing authority has certified everybody in a batch of admissions, which stands behind it.

    So whoever can write the record, or change the registry, cannot admit anybody: that takes the authority's key. What
    is signed is `admissions_message`.
    """

    kind: ClassVar[str] = "certifications"

    rows_sha256: NDArray[np.void] = column("|V32", "bytes", "of the canonical rows of the admissions")
    authority: NDArray[np.void] = column("|V32", "bytes", "Ed25519 key of the issuing authority")
    signature: NDArray[np.void] = column("|V64", "bytes", "Ed25519, of the issuing authority")


def admissions_message(origin: str, rows: bytes) -> bytes:
    """What the issuing authority signs for admissions.

    Parameters
    ----------
    origin : name of the shard's log. rows : their canonical bytes.

    >>> admissions_message("city.example/1", b"").splitlines()[:2]
    [b'tellegen-admissions@v1', b'city.example/1']
    """
    return f"tellegen-admissions@v1\n{origin}\n{hashlib.sha256(rows).hexdigest()}\n".encode("ascii")


AUTHORITY_DOCUMENT = "authority"
"""Name of the document with the certificates of root, issuing authority and registrar (PEM, in this order)."""


@dataclass(frozen=True, slots=True, eq=False)
class Revocations(Table):
    """Certificates that no longer count, from a time on."""

    kind: ClassVar[str] = "revocations"

    certificate_sha256: NDArray[np.void] = column("|V32", "bytes", "fingerprint of the certificate (DER)")
    revoked_at: NDArray[np.int64] = column("<i8", "s", "since the epoch, UTC; may lie before it became known")
    reason: NDArray[np.uint8] = column("|u1", "RFC 5280 CRLReason", "why it was revoked")


@dataclass(frozen=True, slots=True, eq=False)
class KeyGenerations(Table):
    """Generations of the keys under which meters code their readings; generation 0 needs no row. No secret is in it.

    A reading is coded under the generation that its counter falls in, so a late one stays good after a rotation.
    """

    kind: ClassVar[str] = "key_generations"

    meter: NDArray[np.int64] = column("<i8", "1", "serial number of the meter")
    generation: NDArray[np.int32] = column("<i4", "1", "generation of its key, from 1")
    from_counter: NDArray[np.int64] = column("<i8", "1", "first message counter under it")


@dataclass(frozen=True, slots=True, eq=False)
class Connections(Table):
    """The registry of assets: what hangs where, from an interval on (a fact with two times, law 2).

    A later row about the same customer and device replaces the earlier one from its interval on; `known_at` of the
    batch says when that became known. ``node`` -1: disconnected.
    """

    kind: ClassVar[str] = "connections-2"
    subject: ClassVar[str | None] = "customer"

    customer: NDArray[np.int32] = column("<i4", "1", "customer number")
    device: NDArray[np.uint8] = column("|u1", "Device", "LOAD: the connection point itself; else the asset behind it")
    asset: NDArray[np.int64] = column("<i8", "1", "serial number of the asset; that of the meter for LOAD")
    feeder: NDArray[np.bytes_] = column("|S32", "ASCII", "feeder it hangs on")
    node: NDArray[np.int32] = column("<i4", "1", "node index in the feeder's network; -1: disconnected")
    phases: NDArray[np.uint8] = column("|u1", "bits", "1, 2, 4 for phases 1, 2, 3; 0: all")
    from_interval: NDArray[np.int64] = column("<i8", "1", "first market interval of which this holds")
    capacity_w: NDArray[np.int64] = column("<i8", "W", "rated power of the asset, or of the connection")
    import_limit_w: NDArray[np.int64] = column("<i8", "W", "most that may be withdrawn")
    export_limit_w: NDArray[np.int64] = column("<i8", "W", "most that may be injected")
    reads_every: NDArray[np.uint8] = column("|u1", "intervals", "that one reading of the meter spans; 0: one")
    attested_by: NDArray[np.bytes_] = column("|S32", "ASCII", "who vouches for the capacity; empty: nobody")
    credit: NDArray[np.int32] = column("<i4", "currency", "most that may be owed; 0: the rulebook's limit, -1: nothing")


@dataclass(frozen=True, slots=True, eq=False)
class ConnectionsAtFirst(Table):
    """Connections as recorded before it was said how often a meter is read, and who vouches for a capacity."""

    kind: ClassVar[str] = "connections"
    subject: ClassVar[str | None] = "customer"

    customer: NDArray[np.int32] = column("<i4", "1", "customer number")
    device: NDArray[np.uint8] = column("|u1", "Device", "LOAD: the connection point itself; else the asset behind it")
    asset: NDArray[np.int64] = column("<i8", "1", "serial number of the asset; that of the meter for LOAD")
    feeder: NDArray[np.bytes_] = column("|S32", "ASCII", "feeder it hangs on")
    node: NDArray[np.int32] = column("<i4", "1", "node index in the feeder's network; -1: disconnected")
    phases: NDArray[np.uint8] = column("|u1", "bits", "1, 2, 4 for phases 1, 2, 3; 0: all")
    from_interval: NDArray[np.int64] = column("<i8", "1", "first market interval of which this holds")
    capacity_w: NDArray[np.int64] = column("<i8", "W", "rated power of the asset, or of the connection")
    import_limit_w: NDArray[np.int64] = column("<i8", "W", "most that may be withdrawn")
    export_limit_w: NDArray[np.int64] = column("<i8", "W", "most that may be injected")

    def now(self) -> Connections:
        """The same as it is recorded today: each interval is read, and nobody vouches."""
        rows = np.zeros(len(self), dtype=Connections.row_dtype())
        for name in self.row_dtype().names or ():
            rows[name] = getattr(self, name)
        return Connections.from_rows(rows)


@dataclass(frozen=True, slots=True)
class Document:
    """A text that goes on record whole (rulebook, scenario, network)."""

    name: str
    content: bytes
    private: bool = False
