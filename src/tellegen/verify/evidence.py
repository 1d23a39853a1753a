"""Who sent it? The signatures of senders, checked against the identities on record.

What is verified: the head-end or gateway that a batch names signed for exactly this log, route, feeder,
market, interval, sequence number and body digest, with a key that was admitted before, in a role that
may hand this in, valid, and not revoked; the rows are of the kind that it signed for, and no batch uses
the signature of another. What is not: the body itself, whose rows are sealed; and who stands behind
the key, which is the certificate authority's to say.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from nacl.exceptions import BadSignatureError
from nacl.signing import VerifyKey

from tellegen.records import (
    Admissions,
    Certifications,
    Header,
    Orders,
    RecordError,
    Revocations,
    Role,
    Route,
    Statement,
    Submissions,
    shard_of,
)
from tellegen.records.submission import MAY_HAND_IN, carries_evidence, may_hand_in, needs_evidence, not_its_role
from tellegen.verify.authority import REGISTRAR, Authorities
from tellegen.verify.notes import OperatorKey
from tellegen.verify.record import PublicRows
from tellegen.verify.report import RefusedError

_NAMES_MAX = 5
_NUMBERED = (Role.METER, Role.PARTICIPANT)


def verify_evidence(header: Header, public_key: bytes, origin: str) -> Statement:
    """What the sender signed for, if its signature in a log entry verifies.

    Parameters
    ----------
    header : the log entry.
    public_key : 32-byte Ed25519 key of the sender.
    origin : name of the log.

    Raises
    ------
    RefusedError : the entry holds no evidence, that of other kinds of rows, or the key has not signed it.
    """
    if not header.evidence:
        raise RefusedError(f"{header.kind} in the name of {header.source!r} without its signature")
    if not carries_evidence(header):
        raise RefusedError(f"{header.kind} of {header.source!r} stand under {header.name!r}, which says something else")
    try:
        statement, signature = Statement.on_record(
            origin, header.source, header.feeder, header.market, header.interval, header.name, header.evidence
        )
        VerifyKey(public_key).verify(statement.to_bytes(), signature)
    except RecordError as error:
        raise RefusedError(str(error)) from None
    except (BadSignatureError, ValueError):
        raise RefusedError(f"{header.name!r} is not signed by the key of {header.source}") from None
    return statement


@dataclass(frozen=True, slots=True)
class _Key:
    role: int
    public_key: bytes
    certificate: bytes
    valid_from: int
    valid_until: int


class _Senders:
    """Keys of head-ends and gateways as the record has them so far; changes of the registry are the registrar's."""

    def __init__(self, authorities: Authorities) -> None:
        self._authorities = authorities
        self._keys: dict[str, list[_Key]] = {}
        self._revoked_at: dict[bytes, int] = {}

    def learn(self, rows: PublicRows) -> None:
        table = rows.table
        if isinstance(table, Admissions):
            for k in range(len(table)):
                if table.role[k] not in _NUMBERED:
                    key = _Key(
                        int(table.role[k]),
                        table.public_key[k].tobytes(),
                        table.certificate_sha256[k].tobytes(),
                        int(table.valid_from[k]),
                        int(table.valid_until[k]),
                    )
                    self._keys.setdefault(bytes(table.name[k]).decode("ascii"), []).append(key)
        elif isinstance(table, Revocations):
            for k in range(len(table)):
                certificate, at = table.certificate_sha256[k].tobytes(), int(table.revoked_at[k])
                self._revoked_at[certificate] = min(at, self._revoked_at.get(certificate, at))

    def key(self, header: Header) -> bytes:
        """The key that counts for a batch: that of the last admission till then, if nothing has ended it."""
        name, at = header.source, header.known_at
        if name == REGISTRAR:
            if header.evidence and _route(header) is not Route.ADMISSIONS:
                raise RefusedError(f"{header.kind} handed in by the registrar, who hands in admissions alone")
            if self._authorities.newest is None:
                raise RefusedError("no registrar is on record before it")
            return self._authorities.newest.registrar_key
        for key in reversed(self._keys.get(name, [])):
            if key.valid_from <= at:
                revoked_at = self._revoked_at.get(key.certificate)
                if key.role in MAY_HAND_IN and at < key.valid_until and (revoked_at is None or at < revoked_at):
                    route = _route(header)
                    if route is not None and not may_hand_in(key.role, route):
                        raise RefusedError(f"{name!r} {not_its_role(key.role, route)}")
                    return key.public_key
                break
        raise RefusedError(f"no head-end or gateway {name!r} with a valid key is on record before it")


class _Used:
    """Signatures that batches stand under: each covers one batch, with bids two entries, the second after the first."""

    def __init__(self) -> None:
        self._whole: dict[str, int] = {}

    def use(self, index: int, header: Header, entries: Sequence[tuple[Header, bytes]]) -> None:
        if header.kind in (Orders.kind, Certifications.kind):  # what follows them is the batch; a crash may cut it off
            return
        if header.kind == Submissions.kind:
            orders = entries[header.causes[0]][0] if len(header.causes) == 1 else None
            with_it = (Orders.kind, header.source, header.evidence)
            if orders is None or (orders.kind, orders.source, orders.evidence) != with_it:
                raise RefusedError(f"{header.name!r} of {header.source!r} does not follow from the orders sent with it")
        before = self._whole.setdefault(header.evidence, index)
        if before != index:
            raise RefusedError(f"stands under the signature of entry {before}")


def _route(header: Header) -> Route | None:
    named = header.name.partition("/")[0]
    return next((route for route in Route if route == named), None)


def check_senders(
    entries: Sequence[tuple[Header, bytes]],
    public: Sequence[PublicRows],
    operator: OperatorKey,
    documents: Mapping[int, bytes] = MappingProxyType({}),
) -> tuple[int, str]:
    """Every batch that senders hand in is signed by the one it names, admitted on record before it to hand this in.

    What the platform itself writes carries no evidence; who writes in a sender's name without it has made it up.

    Parameters
    ----------
    documents : contents by entry, of those with an authority: in them stands whose the registrar's key is.
    """
    tables, shard = {rows.index: rows for rows in public}, shard_of(operator.name)
    authorities = Authorities(documents, shard)
    senders, used, seen, count = _Senders(authorities), _Used(), set[str](), 0
    for index, (header, _) in enumerate(entries):
        authorities.learn(index)
        if header.evidence or needs_evidence(header.kind, header.source):
            try:
                verify_evidence(header, senders.key(header), shard)
                used.use(index, header, entries)
            except RefusedError as error:
                raise RefusedError(f"entry {index}: {error}") from None
            seen.add(header.source)
            count += 1
        if index in tables:
            senders.learn(tables[index])
    if not count:
        return 0, "none on record: nobody but the operator has handed anything in"
    return count, f"{count} batches are signed by senders whose keys were on record before: {_names(seen)}"


def _names(senders: set[str]) -> str:
    names = sorted(senders)
    return ", ".join(names[:_NAMES_MAX]) + (f" and {len(names) - _NAMES_MAX} more" if len(names) > _NAMES_MAX else "")
