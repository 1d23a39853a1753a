"""Changes of the registry handed in to a running intake: the operator certifies here, the intake writes."""

from __future__ import annotations

from nacl.signing import SigningKey

from tellegen.intake.registry_changes import REGISTRAR, SentChanges
from tellegen.records import Route, Statement, Table
from tellegen.service.client import IntakeClient
from tellegen.units import MARKET_INTERVAL_S


def hand_in(server: str, operator_key: str, table: Table, signing_key: bytes, known_at: int, sequence: int) -> int:
    """Have a running intake put a change on record; returns its journal index.

    Parameters
    ----------
    server : address of the intake, such as ``http://127.0.0.1:8440``.
    operator_key : the shard's verifier key.
    table : one of `registry_changes.TABLES`.
    signing_key : 32-byte Ed25519 seed of the key that signs the shard's checkpoints.
    known_at : now, seconds since the epoch.
    sequence : a number that was never used for a change of this shard.

    Raises
    ------
    RefusedBatchError : it does not take the change; says why.
    InputError : no intake answers there, or its answer does not prove that the change is on record.
    """
    body = SentChanges(table).to_bytes()
    client = IntakeClient(server, operator_key)
    statement = Statement.of(
        client.origin, Route.ADMISSIONS, REGISTRAR, "", "", known_at // MARKET_INTERVAL_S, sequence, body
    )
    signature = SigningKey(signing_key).sign(statement.to_bytes()).signature
    return client.hand_in(statement, signature, body).entries[0]
