"""Changes of the registry handed in to a running intake: the operator certifies here, the intake writes."""

from __future__ import annotations

import base64
import json
import urllib.error
import urllib.parse
import urllib.request
from http.client import HTTPException

from nacl.signing import SigningKey

from tellegen.errors import InputError
from tellegen.operations.registry_changes import REGISTRAR, SentChanges
from tellegen.records import Route, Statement, Table
from tellegen.units import MARKET_INTERVAL_S

ANSWER_BYTES_MAX = 1 << 20
ANSWER_SECONDS_MAX = 30.0


def hand_in(server: str, table: Table, signing_key: bytes, known_at: int, sequence: int) -> int:
    """Have a running intake put a change on record; returns its journal index.

    Parameters
    ----------
    server : address of the intake, such as ``http://127.0.0.1:8440``.
    table : one of `registry_changes.TABLES`.
    signing_key : 32-byte Ed25519 seed of the key that signs the shard's checkpoints.
    known_at : now, seconds since the epoch.
    sequence : a number that was never used for a change of this shard.

    Raises
    ------
    InputError : no intake answers there, or it does not take the change; says why.
    """
    body = SentChanges(table).to_bytes()
    interval = known_at // MARKET_INTERVAL_S
    statement = Statement.of(Route.ADMISSIONS, REGISTRAR, "", "", interval, sequence, body)
    signature = base64.b64encode(SigningKey(signing_key).sign(statement.to_bytes()).signature).decode()
    query = urllib.parse.urlencode({"source": REGISTRAR, "feeder": "", "interval": interval, "sequence": sequence})
    if urllib.parse.urlsplit(server).scheme not in ("http", "https"):
        raise InputError(server, "address", "must begin with http:// or https://")
    request = urllib.request.Request(  # noqa: S310
        f"{server.rstrip('/')}/v1/{Route.ADMISSIONS}?{query}",
        data=body,
        headers={"content-type": "application/vnd.tellegen.rows", "tellegen-signature": signature},
    )
    try:
        with urllib.request.urlopen(request, timeout=ANSWER_SECONDS_MAX) as answer:  # noqa: S310
            return int(json.loads(answer.read(ANSWER_BYTES_MAX))["entries"][0])
    except urllib.error.HTTPError as problem:
        try:
            why = json.loads(problem.read(ANSWER_BYTES_MAX))["detail"]
        except (ValueError, KeyError, TypeError):
            why = f"status {problem.code}"
        raise InputError(server, "change", f"is not taken: {why}") from None
    except (OSError, HTTPException, ValueError, KeyError, IndexError, TypeError) as error:
        raise InputError(
            server, "intake", f"does not answer as one ({error}); `tellegen registry show` says what is on record"
        ) from None
