"""Changes of the registry handed in to a running intake: the registrar signs here, the intake writes."""

from __future__ import annotations

from tellegen.records import Statement
from tellegen.service.client import IntakeClient


def hand_in(server: str, operator_key: str, statement: Statement, signature: bytes, body: bytes) -> int:
    """Have a running intake put a change on record; returns its journal index.

    Parameters
    ----------
    server : address of the intake, such as ``http://127.0.0.1:8440``.
    operator_key : the shard's verifier key.
    statement, signature, body : what the registrar says, of a number that was never used, and its signature.

    Raises
    ------
    RefusedBatchError : it does not take the change; says why.
    InputError : no intake answers there, or its answer does not prove that the change is on record.
    """
    return IntakeClient(server, operator_key).hand_in(statement, signature, body).entries[-1]
