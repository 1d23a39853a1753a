"""Requests read with limits: what a sender says of its batch, and its body."""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import re
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl

from tellegen.intake.limits import Reason, RefusedBatchError
from tellegen.records import RecordError, Route, Statement
from tellegen.service.bodies import MEDIA_TYPES
from tellegen.service.problems import MALFORMED, MEDIA, SLOW, TOO_LARGE, ProblemError

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

SIGNATURE_HEADER = b"tellegen-signature"
DIGEST_HEADER = b"content-digest"
_SHA256 = re.compile(rb"sha-256=:([A-Za-z0-9+/]{43}=):")
_NUMBER_DIGITS_MAX = 19
_FIELDS_MAX = 8


@dataclass(frozen=True, slots=True)
class BatchRequest:
    """What a request says before its body: a statement without its digest, the signature, and the format."""

    route: Route
    source: str
    feeder: str
    market: str
    interval: int
    sequence: int
    signature: bytes
    media_type: str
    body_bytes: int | None
    body_sha256: str

    @classmethod
    def of(cls, route: Route, scope: Scope) -> BatchRequest:
        """Read query and headers.

        Raises
        ------
        ProblemError : they are not what they must be.
        """
        headers: dict[bytes, bytes] = dict(scope["headers"])
        media_type = headers.get(b"content-type", b"").partition(b";")[0].strip().lower().decode("latin-1")
        check_media_type(media_type)
        fields = query(scope, ("source", "feeder", "interval", "sequence"), ("market",))
        return cls(
            route=route,
            source=fields["source"],
            feeder=fields["feeder"],
            market=fields.get("market", ""),
            interval=number("interval", fields["interval"]),
            sequence=number("sequence", fields["sequence"]),
            signature=signature_of(scope),
            media_type=media_type,
            body_bytes=_content_length(headers),
            body_sha256=_content_digest(headers),
        )

    def announced(self, origin: str) -> Statement | None:
        """The statement about the body that is to come, where the request says its digest.

        Raises
        ------
        ProblemError : the fields are not those of a submission.
        """
        return self._statement(origin, self.body_sha256) if self.body_sha256 else None

    def statement(self, origin: str, body: bytes) -> Statement:
        """What the sender has signed, if the signature is its own and meant for the shard `origin`.

        Raises
        ------
        ProblemError : the fields are not those of a submission.
        """
        return self._statement(origin, hashlib.sha256(body).hexdigest())

    def _statement(self, origin: str, digest: str) -> Statement:
        try:
            about = (self.source, self.feeder, self.market, self.interval, self.sequence)
            return Statement(origin, self.route, *about, digest)
        except RecordError as error:
            raise ProblemError(MALFORMED, str(error)) from None


def check_media_type(media_type: str) -> None:
    """Refuse a body of unknown form.

    Raises
    ------
    ProblemError : it is none of `MEDIA_TYPES`.
    """
    if media_type not in MEDIA_TYPES:
        raise ProblemError(MEDIA, f"content-type '{media_type[:100]}'; send one of {', '.join(MEDIA_TYPES)}")


def query(scope: Scope, required: tuple[str, ...], optional: tuple[str, ...] = ()) -> dict[str, str]:
    """Query parameters, each once and no others.

    Raises
    ------
    ProblemError : one is missing, unknown, given twice, or cannot be read.
    """
    try:
        pairs = parse_qsl(
            scope["query_string"].decode("ascii"),
            keep_blank_values=True,
            strict_parsing=bool(scope["query_string"]),
            errors="strict",
            max_num_fields=_FIELDS_MAX,
        )
    except ValueError:
        raise ProblemError(MALFORMED, "the query is not NAME=VALUE&...; percent-encode values") from None
    fields = dict(pairs)
    if len(fields) != len(pairs) or not set(required) <= fields.keys() <= {*required, *optional}:
        wanted = ", ".join(required) + (f" and, where it applies, {', '.join(optional)}" if optional else "")
        raise ProblemError(MALFORMED, f"the query must name {wanted or 'nothing'}, each once")
    return fields


def number(name: str, text: str) -> int:
    """A whole number from 0 in decimal digits.

    Raises
    ------
    ProblemError : it is not.
    """
    if not (text.isascii() and text.isdigit() and len(text) <= _NUMBER_DIGITS_MAX):
        raise ProblemError(MALFORMED, f"{name} '{text[:40]}' is not a number from 0, in digits")
    return int(text)


async def read_body(
    receive: Receive, bytes_max: int, seconds_max: float, arrived: Callable[[int], Awaitable[None]]
) -> bytes:
    """The whole body.

    Parameters
    ----------
    arrived : told how many bytes have come, before more are read.

    Raises
    ------
    ProblemError : more than `bytes_max`, not there within `seconds_max`, or cut short; or `arrived` says so.
    """
    parts: list[bytes] = []
    size, more = 0, True
    try:
        async with asyncio.timeout(seconds_max):
            while more:
                message = await receive()
                if message["type"] != "http.request":
                    raise ProblemError(MALFORMED, "the connection ended before the body did")
                part, more = message.get("body", b""), message.get("more_body", False)
                size += len(part)
                if size > bytes_max:
                    raise too_large(bytes_max)
                parts.append(part)
                await arrived(len(part))
    except TimeoutError:
        raise ProblemError(SLOW, f"the body was not there within {seconds_max:g} s; send smaller batches") from None
    return parts[0] if len(parts) == 1 else b"".join(parts)


def too_large(bytes_max: int) -> ProblemError:
    """The problem of a body over the limit."""
    return ProblemError(TOO_LARGE, f"a body has at most {bytes_max} bytes; send several batches")


def signature_of(scope: Scope) -> bytes:
    """The signature in a request's header.

    Raises
    ------
    ProblemError : there is none, or it is not base64.
    """
    try:
        return base64.b64decode(dict(scope["headers"])[SIGNATURE_HEADER], validate=True)
    except (KeyError, binascii.Error, ValueError):
        missing = RefusedBatchError(
            Reason.BAD_SIGNATURE,
            f"header {SIGNATURE_HEADER.decode()} must hold, in base64, the sender's Ed25519 signature of its statement",
        )
        raise ProblemError.of(missing) from None


def _content_digest(headers: dict[bytes, bytes]) -> str:
    """SHA-256 of the body in hex, where a request says it (RFC 9530); ``""`` where it does not."""
    found = _SHA256.fullmatch(headers.get(DIGEST_HEADER, b"").strip())
    return "" if found is None else base64.b64decode(found[1]).hex()


def _content_length(headers: dict[bytes, bytes]) -> int | None:
    text = headers.get(b"content-length")
    return None if text is None else number("content-length", text.decode("latin-1"))
