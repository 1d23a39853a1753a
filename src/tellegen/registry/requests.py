"""Requests for admission, and the lines of text in which a sender hands them in.

One JSON object per line: ``role`` (as in ``head-end``), ``number`` or ``name``, ``request`` (PKCS#10 in DER, base64),
and for a key that replaces another ``endorsement`` (base64).
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Iterable
from dataclasses import dataclass

from tellegen.errors import InputError
from tellegen.foreign.documents import json_document
from tellegen.records import Refusal, Role
from tellegen.registry.authority import requested_key
from tellegen.registry.identity import NUMBERED, Identity, RegistryError, words

ROTATION_MAGIC = b"tellegen-rotation@v1\n"
LINES_MAX = 10_000
LINE_BYTES_MAX = 16_384
_FIELDS = {"role", "number", "name", "request", "endorsement"}
_ROLES = {words(role): role for role in Role}


@dataclass(frozen=True, slots=True)
class Request:
    """Somebody asks to be admitted.

    identity : as whom. request : PKCS#10, PEM or DER.
    endorsement : Ed25519 signature of `rotation_message` under the key that counts so far; empty where the registrar
        vouches.
    """

    identity: Identity
    request: bytes
    endorsement: bytes = b""


@dataclass(frozen=True, slots=True)
class Refused:
    """A request that was not taken: its place among those handed in, why in one number, and in words."""

    row: int
    refusal: Refusal
    reason: str


def rotation_message(identity: Identity, origin: str, request: bytes) -> bytes:
    """What the holder of the old key signs so that a new one takes its place.

    Raises
    ------
    RegistryError : the request cannot be used.
    """
    return ROTATION_MAGIC + f"{identity.uri(origin)}\n".encode() + requested_key(request).public_bytes_raw()


def requests_body(requests: Iterable[Request]) -> bytes:
    """Requests as lines of text; those in PEM should be in DER by then."""
    return b"".join(json.dumps(_line(request)).encode() + b"\n" for request in requests)


def parse_requests(body: bytes) -> list[Request | Refused]:
    """Requests from lines of text; a line that cannot be read is refused, the others are not lost with it.

    Raises
    ------
    RegistryError : more lines than are taken at once.

    >>> (bad,) = parse_requests(b'{"role": "king", "name": "X", "request": ""}')
    >>> bad.reason
    'role is one of meter, head-end, participant, gateway, witness'
    """
    ends = max(body.count(b"\n"), body.count(b"\r"))  # before there is an object for each line
    lines = body.splitlines() if ends <= LINES_MAX else []
    if max(ends, len(lines)) > LINES_MAX:
        raise RegistryError(f"at most {LINES_MAX} requests at once, not {max(ends, len(lines))}")
    out: list[Request | Refused] = []
    for row, line in enumerate(lines):
        try:
            out.append(_parse(line))
        except RegistryError as error:
            out.append(Refused(row, Refusal.MALFORMED, str(error)))
    return out


def _line(request: Request) -> dict[str, object]:
    identity = request.identity
    who: dict[str, object] = {"number": identity.number} if identity.role in NUMBERED else {"name": identity.name}
    line = {"role": words(identity.role), **who, "request": base64.b64encode(request.request).decode()}
    if request.endorsement:
        line["endorsement"] = base64.b64encode(request.endorsement).decode()
    return line


def _parse(line: bytes) -> Request:
    if len(line) > LINE_BYTES_MAX:
        raise RegistryError(f"a request has at most {LINE_BYTES_MAX} bytes, this one {len(line)}")
    try:
        fields = json_document(line.decode(), "request")
    except (UnicodeDecodeError, InputError):
        raise RegistryError("not a JSON object in one line") from None
    if not isinstance(fields, dict) or not fields.keys() <= _FIELDS:
        raise RegistryError(f"not a JSON object with the fields {', '.join(sorted(_FIELDS))}")
    role, number, name = fields.get("role"), fields.get("number", 0), fields.get("name", "")
    if type(role) is not str or role not in _ROLES:
        raise RegistryError(f"role is one of {', '.join(_ROLES)}")
    if type(number) is not int or type(name) is not str:
        raise RegistryError("number is a whole number, name is a text")
    try:
        request, endorsement = (base64.b64decode(fields.get(f, ""), validate=True) for f in ("request", "endorsement"))
    except (binascii.Error, ValueError, TypeError):
        raise RegistryError("request and endorsement are base64") from None
    return Request(Identity(_ROLES[role], number, name), request, endorsement)
