"""Changes of the registry handed in to a running intake: the operator certifies here, the intake writes."""

from __future__ import annotations

from tellegen.operations.registry_changes import REGISTRAR, SentChanges
from tellegen.operations.sending import send
from tellegen.records import Route, Statement, Table
from tellegen.units import MARKET_INTERVAL_S


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
    statement = Statement.of(Route.ADMISSIONS, REGISTRAR, "", "", known_at // MARKET_INTERVAL_S, sequence, body)
    return int(send(server, statement, body, signing_key)["entries"][0])
