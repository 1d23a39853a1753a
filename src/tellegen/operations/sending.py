"""Batches handed in to a running intake over HTTP: one request, one answer, one line where it is refused."""

from __future__ import annotations

import base64
import hashlib
import json
import urllib.error
import urllib.parse
import urllib.request
from http.client import HTTPException
from typing import Any

from nacl.signing import SigningKey

from tellegen.errors import InputError
from tellegen.records import Readings, Route, Statement

ROWS_MEDIA_TYPE = "application/vnd.tellegen.rows"
ANSWER_BYTES_MAX = 1 << 24
ANSWER_SECONDS_MAX = 30.0


class NotTakenError(InputError):
    """The intake answered, and refused the batch."""


def send(server: str, statement: Statement, body: bytes, signing_key: bytes) -> dict[str, Any]:
    """Hand a batch in and wait for its receipt; the same batch again is the same record.

    Parameters
    ----------
    server : address of the intake, such as ``http://127.0.0.1:8440``.
    statement : about `body`, which is in the binary form.
    signing_key : the sender's 32-byte Ed25519 seed.

    Returns
    -------
    The answer: entries, receipts, accepted, refused (docs/ingestion.md).

    Raises
    ------
    NotTakenError : the intake refuses the batch; says why.
    InputError : no intake answers there.
    """
    if urllib.parse.urlsplit(server).scheme not in ("http", "https"):
        raise InputError(server, "address", "must begin with http:// or https://")
    signature = base64.b64encode(SigningKey(signing_key).sign(statement.to_bytes()).signature).decode()
    about = {name: getattr(statement, name) for name in ("source", "feeder", "market", "interval", "sequence")}
    query = urllib.parse.urlencode({name: value for name, value in about.items() if name != "market" or value})
    request = urllib.request.Request(  # noqa: S310
        f"{server.rstrip('/')}/v1/{statement.route}?{query}",
        data=body,
        headers={"content-type": ROWS_MEDIA_TYPE, "tellegen-signature": signature},
    )
    try:
        with urllib.request.urlopen(request, timeout=ANSWER_SECONDS_MAX) as answer:  # noqa: S310
            document = json.loads(answer.read(ANSWER_BYTES_MAX))
            assert isinstance(document, dict)
            return document
    except urllib.error.HTTPError as problem:
        try:
            why = json.loads(problem.read(ANSWER_BYTES_MAX))["detail"]
        except (ValueError, KeyError, TypeError):
            why = f"status {problem.code}"
        raise NotTakenError(
            server, f"{statement.route} of interval {statement.interval}", f"not taken: {why}"
        ) from None
    except (OSError, HTTPException, ValueError, AssertionError) as error:
        raise InputError(
            server, "intake", f"does not answer as one ({error}); the same batch can be sent again"
        ) from None


def send_readings(
    server: str, source: str, feeder: str, interval: int, readings: Readings, signing_key: bytes
) -> dict[str, Any]:
    """`send` readings of one interval under a number that follows from them, so that sending again changes nothing.

    Raises
    ------
    NotTakenError, InputError : as `send`.
    """
    body = readings.rows().tobytes()
    digest = hashlib.sha256(f"{source}/{feeder}/{interval}/".encode() + body).digest()
    sequence = int.from_bytes(digest[:7], "big")
    return send(server, Statement.of(Route.READINGS, source, feeder, "", interval, sequence, body), body, signing_key)
