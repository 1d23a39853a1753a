"""Who and what is connected, and who may speak: a fold of the journal, for look-ups by the thousand.

Every answer depends on two times: the one asked about, and the one by which it was known. Without the second
everything on record counts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tellegen.errors import TellegenError
from tellegen.journal import Journal
from tellegen.privacy import Archive, Vault
from tellegen.records import (
    Admissions,
    Connections,
    ConnectionsAtFirst,
    Device,
    Header,
    KeyGenerations,
    Refusal,
    Revocations,
    Role,
    Table,
)
from tellegen.records.submission import MAY_HAND_IN
from tellegen.registry.identity import NUMBERED, Identity
from tellegen.registry.versions import NONE, Versions
from tellegen.units import IntArray

KINDS = (Admissions.kind, Revocations.kind, Connections.kind, ConnectionsAtFirst.kind, KeyGenerations.kind)
"""Kinds of records that a directory is a fold of."""
NOWHERE = -1
"""Node of what is disconnected; meter of a customer without one."""
KEY_BYTES = 32
SENDERS_KEPT_MAX = 256
"""Answers of `sender` that are kept until the record changes: a sender brings many batches in a second."""

ByteArray = NDArray[np.uint8]


_REVOKED = np.dtype([("certificate_sha256", "V32"), ("revoked_at", "<i8"), ("known_at", "<i8"), ("reason", "<i8")])

Parts = Mapping[str, Mapping[str, NDArray[Any]]]


_CONNECTIONS = {device: f"directory.connections.{device.name.lower()}" for device in Device}
"""Names of parts that are about customers."""
_SHARED, _YOUNGER = ("feeder", "attested_by"), ("reads_every", "attested_by", "credit")
"""Columns of connections with texts that many rows share, and those that came later."""


def _without(columns: Mapping[str, NDArray[Any]], customers: ArrayLike) -> Mapping[str, NDArray[Any]]:
    gone = np.isin(columns["customer"], np.asarray(customers, dtype=np.int64))
    return {name: column[~gone] for name, column in columns.items()} if gone.any() else columns


def meters_of_none_but(customers: ArrayLike, parts: Parts) -> IntArray:
    """Meters in a directory's parts that only these customers ever had, ascending."""
    columns = parts[_CONNECTIONS[Device.LOAD]]
    theirs = np.isin(columns["customer"], np.asarray(customers, dtype=np.int64))
    meters = np.setdiff1d(columns["asset"][theirs], columns["asset"][~theirs])
    return meters[meters >= 0].astype(np.int64)


class NotAdmittedError(TellegenError):
    """Somebody speaks who may not; `refusal` says why in one number, the text with a remedy."""

    def __init__(self, refusal: Refusal, who: str) -> None:
        self.refusal = refusal
        super().__init__(f"{who} {_REASONS[refusal]}")


_REASONS = {
    Refusal.UNKNOWN: "is not admitted; enrol it first (`tellegen registry enrol`)",
    Refusal.REVOKED: "has a certificate that is revoked or not valid at this time; enrol it with a new key",
}


@dataclass(frozen=True, slots=True)
class Sender:
    """Who hands in batches: in which role (`records.submission.MAY_HAND_IN` says what), and its Ed25519 key."""

    role: Role
    public_key: bytes


@dataclass(frozen=True, slots=True)
class Standing:
    """An admission, when it became known, and why it does not count (NONE: it does)."""

    admission: Admissions
    known_at: int
    refusal: Refusal


class Directory:
    """Identities and connections as they stand on record.

    >>> from tellegen.records import Admissions
    >>> directory = Directory()
    >>> row = dict(role=[Role.HEAD_END], number=[0], name=[b"head-end 1"], public_key=np.array([bytes(32)], "V32"),
    ...            certificate_sha256=np.array([bytes(32)], "V32"), valid_from=[100], valid_until=[200])
    >>> header = Header("admissions", "", "", "", 0, 1, "operator", 90, (), 1, "", "")
    >>> directory.apply(header, Admissions(**row))
    >>> directory.sender("head-end 1", at=150).role.name
    'HEAD_END'
    """

    def __init__(self) -> None:
        self._names: dict[bytes, int] = {}
        self._identities = {role: Versions(Admissions, "number", "valid_from") for role in NUMBERED}
        self._named = Versions(Admissions, "number", "valid_from")  # number: order in which names came up
        self._connections = {device: Versions(Connections, "customer", "from_interval", _SHARED) for device in Device}
        self._generations: list[KeyGenerations] = []
        self._revoked: dict[bytes, list[tuple[int, int, int]]] = {}
        self._revoked_prefixes = np.empty(0, dtype=np.uint64)
        self._senders: dict[tuple[str, int, int | None], Sender] = {}

    @classmethod
    def of(
        cls, journal: Journal, vault: Vault, parts: Parts | None = None, since: int = 0, until: int | None = None
    ) -> Directory:
        """Fold a journal; connections of erased customers are missing.

        Parameters
        ----------
        parts, since : what the entries below `since` have been folded to (`parts`).
        until : fold the entries below it; None: all.
        """
        directory = cls() if parts is None else cls.of_parts(parts, vault.erased)
        stop = len(journal) if until is None else until
        archive = Archive(journal.folder.parent, vault)
        for kind in KINDS:
            found = [index for index in journal.find(kind=kind, since=since) if index < stop]
            tables = {index: seen.table for index, seen in archive.unseal_each(journal, found)}
            for index in sorted(tables):
                directory.apply(journal.entry(index), tables[index])
        return directory

    def parts(self, without: ArrayLike = ()) -> dict[str, Mapping[str, NDArray[Any]]]:
        """All that it knows as columns by part; folds of the same record give the same.

        Parameters
        ----------
        without : customers whose connections are left out, as a fold does once they are erased.
        """
        parts: dict[str, Mapping[str, NDArray[Any]]] = {
            n: versions.columns() for n, versions in self._versions().items()
        }
        for name in _CONNECTIONS.values():
            kept = _without(parts[name], without)
            # a part that says no more than before there was a column is kept as it was then
            parts[name] = {n: c for n, c in kept.items() if n not in _YOUNGER or (c != c.dtype.type()).any()}
        rows = [(f, *entry) for f, entries in self._revoked.items() for entry in entries]
        for name, table in (
            ("directory.revoked", np.array(rows, dtype=_REVOKED)),
            ("directory.generations", self.key_generations().rows()),
        ):
            parts[name] = {column: table[column] for column in table.dtype.names or ()}
        return parts

    @classmethod
    def of_parts(cls, parts: Parts, without: ArrayLike = ()) -> Directory:
        """Inverse of `parts`; other parts are passed over."""
        directory = cls()
        for name, versions in directory._versions().items():
            columns = parts[name]
            versions.append_columns(_without(columns, without) if name in _CONNECTIONS.values() else columns)
        named = directory._named.rows
        directory._names = dict(zip(named["name"].tolist(), named["number"].tolist(), strict=True))
        revoked = parts["directory.revoked"]
        for fingerprint, *entry in zip(*(revoked[name].tolist() for name in _REVOKED.names or ()), strict=True):
            directory._revoked.setdefault(fingerprint, []).append((entry[0], entry[1], entry[2]))
        directory._sort_revoked()
        generations = KeyGenerations(**parts["directory.generations"])
        directory._generations = [generations] if len(generations) else []
        return directory

    def _versions(self) -> dict[str, Versions]:
        """By name of the part."""
        roles = {f"directory.{role.name.lower()}": versions for role, versions in self._identities.items()}
        connections = {_CONNECTIONS[device]: versions for device, versions in self._connections.items()}
        return roles | {"directory.named": self._named} | connections

    def apply(self, header: Header, table: Table) -> None:
        """Take in the next batch on record; kinds other than `KINDS` say nothing here."""
        self._senders.clear()
        match table:
            case Admissions():
                self._admit(table, header.known_at)
            case Revocations():
                self._revoke(table, header.known_at)
            case ConnectionsAtFirst():
                self.apply(header, table.now())
            case Connections():
                for device, versions in self._connections.items():
                    versions.append(table.take(table.device == device).rows(), header.known_at)
            case KeyGenerations():
                self._generations.append(table)

    def _admit(self, table: Admissions, known_at: int) -> None:
        for role, versions in self._identities.items():
            versions.append(table.take(table.role == role).rows(), known_at)
        named = table.take(~np.isin(table.role, tuple(self._identities))).rows()
        for row in named:
            row["number"] = self._names.setdefault(bytes(row["name"]), len(self._names))
        self._named.append(named, known_at)

    def _revoke(self, table: Revocations, known_at: int) -> None:
        for fingerprint, revoked_at, reason in table.rows().tolist():
            self._revoked.setdefault(fingerprint, []).append((revoked_at, known_at, reason))
        self._sort_revoked()

    def _sort_revoked(self) -> None:
        prefixes = np.frombuffer(b"".join(f[:8] for f in self._revoked), dtype=np.uint64)
        self._revoked_prefixes = np.sort(prefixes)

    # Who may speak

    def sender(self, source: str, at: int, known_at: int | None = None) -> Sender:
        """Role and key of who hands in batches.

        Raises
        ------
        NotAdmittedError : unknown, in a role that hands in nothing, revoked or out of its validity; says which.
        """
        sender = self._senders.get((source, at, known_at))
        if sender is None:
            sender = self._sender(source, at, known_at)
            if len(self._senders) >= SENDERS_KEPT_MAX:
                self._senders.clear()
            self._senders[source, at, known_at] = sender
        return sender

    def _sender(self, source: str, at: int, known_at: int | None) -> Sender:
        number = self._names.get(source.encode(), NONE)
        row, refusal = self._standing(self._named, [number], at, known_at)
        if refusal[0] == Refusal.NONE and self._named.rows["role"][row[0]] not in MAY_HAND_IN:
            refusal[0] = Refusal.UNKNOWN
        if refusal[0] != Refusal.NONE:
            raise NotAdmittedError(Refusal(int(refusal[0])), f"source {source!r}")
        found = self._named.rows[row[0]]
        return Sender(Role(int(found["role"])), bytes(found["public_key"].tobytes()))

    def standing(self, role: Role, number: int, name: str, at: int, known_at: int | None = None) -> Standing | None:
        """How one identity stands: the admission recorded last that holds by then, and why it may not count."""
        versions = self._identities.get(role, self._named)
        place = number if role in self._identities else self._names.get(name.encode(), NONE)
        row, refusal = self._standing(versions, [place], at, known_at)
        if row[0] < 0 or versions.rows["role"][row[0]] != role:
            return None
        admission = Admissions.from_rows(versions.rows[row[0] : row[0] + 1])
        return Standing(admission, int(versions.known_at[row[0]]), Refusal(int(refusal[0])))

    def named_roles(self) -> dict[str, Role]:
        """Role of each name that was ever admitted."""
        rows = self._named.rows
        return {n.decode(): Role(r) for n, r in zip(rows["name"].tolist(), rows["role"].tolist(), strict=True)}

    def customer_keys(self, customers: ArrayLike, at: int, known_at: int | None = None) -> list[bytes | None]:
        """Ed25519 public key of each customer's agent; None where none counts (`refusals` says why)."""
        return self.keys(Role.PARTICIPANT, customers, at, known_at)

    def keys(self, role: Role, numbers: ArrayLike, at: ArrayLike, known_at: int | None = None) -> list[bytes | None]:
        """Ed25519 public key of each meter (by serial) or participant (by customer number); None where none counts."""
        versions = self._identities[role]
        row, refusal = self._standing(versions, numbers, at, known_at)
        if not len(versions):
            return [None] * row.size
        keys: list[bytes | None] = versions.rows["public_key"][row].tolist()
        for bad in np.flatnonzero(refusal).tolist():
            keys[bad] = None
        return keys

    def refusals(self, role: Role, numbers: ArrayLike, at: ArrayLike, known_at: int | None = None) -> ByteArray:
        """Why each meter or participant may not speak: `records.Refusal` UNKNOWN, REVOKED, or NONE; uint8[n]."""
        return self._standing(self._identities[role], numbers, at, known_at)[1]

    def certificates(
        self, role: Role, numbers: ArrayLike, at: ArrayLike, known_at: int | None = None
    ) -> list[bytes | None]:
        """Fingerprint of the certificate that counts for each; None where none does."""
        versions = self._identities[role]
        row, refusal = self._standing(versions, numbers, at, known_at)
        return [
            versions.rows["certificate_sha256"][r].tobytes() if r >= 0 and not bad else None
            for r, bad in zip(row.tolist(), refusal.tolist(), strict=True)
        ]

    def _standing(
        self, versions: Versions, numbers: ArrayLike, at: ArrayLike, known_at: int | None
    ) -> tuple[IntArray, ByteArray]:
        row = versions.standing(numbers, at, known_at)
        refusal = np.where(row < 0, Refusal.UNKNOWN, Refusal.NONE).astype(np.uint8)
        found = np.flatnonzero(row >= 0)
        if not found.size:
            return row, refusal
        when = np.asarray(at, dtype=np.int64)
        expired = versions.rows["valid_until"][row[found]] <= (when[found] if when.ndim else when)
        refusal[found[expired]] = Refusal.REVOKED
        if self._revoked_prefixes.size:
            fingerprint = np.ascontiguousarray(versions.rows["certificate_sha256"][row[found]])
            prefix = fingerprint.view(np.uint64).reshape(-1, 4)[:, 0]
            near = np.searchsorted(self._revoked_prefixes, prefix)
            met = self._revoked_prefixes[np.minimum(near, self._revoked_prefixes.size - 1)]
            for k in np.flatnonzero(met == prefix).tolist():
                if self._is_revoked(fingerprint[k].tobytes(), int(when[found[k]] if when.ndim else when), known_at):
                    refusal[found[k]] = Refusal.REVOKED
        return row, refusal

    def _is_revoked(self, fingerprint: bytes, at: int, known_at: int | None) -> bool:
        return any(
            since <= at and (known_at is None or known <= known_at)
            for since, known, _ in self._revoked.get(fingerprint, ())
        )

    def revoked(self) -> dict[bytes, list[tuple[int, int, int]]]:
        """Revoked certificates by fingerprint: from when on, when that became known, and the reason (RFC 5280)."""
        return dict(self._revoked)

    def is_revoked(self, fingerprint: bytes) -> bool:
        """Whether a certificate was ever revoked."""
        return fingerprint in self._revoked

    # What is connected

    def meters_of(
        self, customers: ArrayLike, interval: ArrayLike | None = None, known_at: int | None = None
    ) -> IntArray:
        """Serial number of each customer's meter, int64[n]; `NOWHERE` (-1) for an unknown or disconnected customer.

        `interval`: one or one per customer; None asks for the latest connection on record.
        """
        return self.places_of(customers, interval, known_at)[0]

    def feeder_of(
        self, customers: ArrayLike, interval: ArrayLike | None = None, known_at: int | None = None
    ) -> NDArray[np.bytes_]:
        """Feeder on which each customer hangs, ``|S32``; empty for an unknown or disconnected customer."""
        return self.places_of(customers, interval, known_at)[1]

    def places_of(
        self, customers: ArrayLike, interval: ArrayLike | None = None, known_at: int | None = None
    ) -> tuple[IntArray, NDArray[np.bytes_]]:
        """Meters and feeders, as `meters_of` and `feeder_of` have them."""
        points = self._connections[Device.LOAD]
        row = self._connected(points, customers, interval, known_at)
        if not len(points):
            return row, np.zeros(row.size, dtype="S32")
        there, rows = row >= 0, points.rows
        feeder: NDArray[np.bytes_] = points.text("feeder", row)
        if not there.all():
            feeder[~there] = b""
        return np.where(there, rows["asset"][row], NOWHERE), feeder

    def customers(self) -> IntArray:
        """Every customer ever connected, ascending."""
        return self._connections[Device.LOAD].numbers()

    def connections(
        self,
        customers: ArrayLike,
        interval: ArrayLike | None = None,
        known_at: ArrayLike | None = None,
        device: Device = Device.LOAD,
    ) -> tuple[Connections, NDArray[np.bool_]]:
        """Connection (or asset) of each customer that has one, disconnected included; and bool[n], which have."""
        versions = self._connections[device]
        row = versions.standing(customers, interval, known_at)
        present = row >= 0
        return Connections.from_rows(versions.full(row[present])), present

    def connected_since(self, customers: ArrayLike) -> IntArray:
        """First interval from which each customer was ever connected, int64[n]; 2^63 - 1 where it never was."""
        points, wanted = self._connections[Device.LOAD], np.asarray(customers, dtype=np.int64)
        number = points.rows["customer"].astype(np.int64)
        order = np.lexsort((points.rows["from_interval"], number))
        number = number[order]
        place = np.searchsorted(number, wanted)
        since = np.full(wanted.size, 2**63 - 1, dtype=np.int64)
        there = place < number.size
        there[there] = number[place[there]] == wanted[there]
        since[there] = points.rows["from_interval"][order[place[there]]]
        return since

    def connection_history(self, customer: int) -> list[tuple[int, Connections]]:
        """Everything ever recorded about a customer's connection and assets: when known, and the row."""
        found = [
            (int(versions.known_at[row]), Connections.from_rows(versions.full(np.array([row]))))
            for versions in self._connections.values()
            for row in versions.history(customer).tolist()
        ]
        return sorted(found, key=lambda each: (int(each[1].device[0]), each[0]))

    def key_generations(self) -> KeyGenerations:
        """Generations of meters' code keys, in the order of the record."""
        return KeyGenerations.concat(self._generations)

    def identities(self, role: Role) -> list[tuple[Identity, int]]:
        """Everybody ever admitted in a role, and when first, in the order of the record."""
        versions = self._identities.get(role, self._named)
        found: dict[Identity, int] = {}
        for row, known_at in zip(
            versions.rows[["role", "number", "name"]].tolist(), versions.known_at.tolist(), strict=True
        ):
            if row[0] == role:
                identity = Identity(role, row[1]) if role in self._identities else Identity(role, name=row[2].decode())
                found.setdefault(identity, known_at)
        return list(found.items())

    @staticmethod
    def _connected(
        points: Versions, customers: ArrayLike, interval: ArrayLike | None, known_at: int | None
    ) -> IntArray:
        row = points.standing(customers, interval, known_at)
        return np.where((row >= 0) & (points.rows["node"][row] < 0), NONE, row) if len(points) else row
