"""Senders: a batch on record is signed by whom it names, with a key that was admitted before."""

import hashlib
from pathlib import Path

import numpy as np
import pytest
from nacl.signing import SigningKey

from tellegen.journal import Journal, Payload
from tellegen.privacy import Vault
from tellegen.records import Admissions, Header, Revocations, Role, Route, SealedBatch, Statement, Table, tree_root
from tellegen.verify import RefusedError, Report, verify_directory, verify_evidence

ORIGIN = "simulated/example.org/shard"  # whose identities nobody certifies
ABOUT = {"feeder": "F1", "intervals": 1, "source": "operator"}
HEAD_END, OTHER = SigningKey(b"h" * 32), SigningKey(b"o" * 32)


def admission(
    key: SigningKey, *, name: bytes = b"head-end 1", role: Role = Role.HEAD_END, start: int = 0
) -> Admissions:
    return Admissions(
        role=[role],
        number=[0],
        name=[name],
        public_key=np.array([bytes(key.verify_key)], dtype="V32"),
        certificate_sha256=np.array([hashlib.sha256(bytes(key.verify_key)).digest()], dtype="V32"),
        valid_from=[start],
        valid_until=[1000],
    )


def revocation(key: SigningKey, at: int) -> Revocations:
    digest = hashlib.sha256(bytes(key.verify_key)).digest()
    return Revocations(certificate_sha256=np.array([digest], dtype="V32"), revoked_at=[at], reason=[1])


def signed(number: int, known_at: int, key: SigningKey, *, signed_sequence: int | None = None) -> SealedBatch:
    """One public row, sent by head-end 1 with a statement that `key` signed."""
    row = number.to_bytes(4, "little")
    leaf = hashlib.sha256(b"\x00" + row).digest()
    payload = Payload(4, leaf, np.arange(1, dtype=np.uint32), row, ()).to_bytes()
    sequence = number if signed_sequence is None else signed_sequence
    statement = Statement.of(ORIGIN, Route.READINGS, "head-end 1", "F1", "", 7, sequence, row)
    evidence = statement.evidence(key.sign(statement.to_bytes()).signature)
    digests = tree_root([leaf]).hex(), hashlib.sha256(payload).hexdigest()
    name = f"readings/{number}"
    header = Header("erasures", name, "F1", "", 7, 1, "head-end 1", known_at, (), 1, *digests, evidence)
    return SealedBatch(header, payload)


def report(path: Path, *batches: SealedBatch | Table) -> Report:
    vault = Vault.create(path / "vault", [1], b"seed")
    with vault, Journal.create(path, ORIGIN, bytes(range(32))) as journal:
        for batch in batches:
            if isinstance(batch, Table):
                known_at = journal.time(0)
                batch = vault.seal(batch, interval=0, known_at=known_at, **ABOUT)  # type: ignore[arg-type]
            journal.append(batch)
        journal.commit(10_000)
    return verify_directory(path)


def finding(found: Report) -> tuple[bool, str]:
    check = next(check for check in found.checks if check.name == "senders")
    return check.ok, check.detail


def test_what_an_admitted_sender_signed_verifies(tmp_path: Path) -> None:
    found = report(tmp_path, admission(HEAD_END), signed(1, 5, HEAD_END), signed(2, 6, HEAD_END))
    assert found.ok
    assert finding(found) == (True, "2 batches are signed by senders whose keys were on record before: head-end 1")


def test_a_statement_says_what_was_signed_and_no_other_key_did(tmp_path: Path) -> None:
    header = signed(3, 5, HEAD_END).header
    assert verify_evidence(header, bytes(HEAD_END.verify_key), ORIGIN).sequence == 3
    with pytest.raises(RefusedError, match="not signed by the key of head-end 1"):
        verify_evidence(header, bytes(OTHER.verify_key), ORIGIN)
    with pytest.raises(RefusedError, match="not signed"):
        verify_evidence(signed(3, 5, HEAD_END, signed_sequence=4).header, bytes(HEAD_END.verify_key), ORIGIN)


@pytest.mark.parametrize(
    ("batches", "problem"),
    [
        ((signed(1, 5, HEAD_END),), "entry 0: no head-end or gateway 'head-end 1' with a valid key"),
        ((signed(1, 5, HEAD_END), admission(HEAD_END)), "entry 0: no head-end"),
        ((admission(HEAD_END, role=Role.METER), signed(1, 5, HEAD_END)), "entry 1: no head-end"),
        ((admission(HEAD_END, name=b"head-end 2"), signed(1, 5, HEAD_END)), "entry 1: no head-end"),
        ((admission(HEAD_END), signed(1, 5, OTHER)), "entry 1: 'readings/1' is not signed by the key of head-end 1"),
        ((admission(HEAD_END), signed(1, 1000, HEAD_END)), "entry 1: no head-end"),
        ((admission(HEAD_END), revocation(HEAD_END, 4), signed(1, 5, HEAD_END)), "entry 2: no head-end"),
        ((admission(HEAD_END), admission(OTHER), signed(1, 5, HEAD_END)), "entry 2: 'readings/1' is not signed"),
        ((admission(HEAD_END), admission(OTHER), revocation(OTHER, 3), signed(1, 5, HEAD_END)), "entry 3: no head-end"),
    ],
)
def test_what_nobody_was_admitted_to_sign_is_found(
    tmp_path: Path, batches: tuple[SealedBatch | Table, ...], problem: str
) -> None:
    """Not admitted, admitted later, as a meter, under another name; expired, revoked, rotated for good."""
    ok, detail = finding(report(tmp_path, *batches))
    assert not ok
    assert detail.startswith(problem)


def test_keys_turn_over_without_a_gap(tmp_path: Path) -> None:
    """What was signed before a rotation or a revocation stays good; a new key counts from its first day."""
    found = report(
        tmp_path,
        admission(HEAD_END),
        signed(1, 5, HEAD_END),
        admission(OTHER, start=20),
        signed(2, 19, HEAD_END),
        signed(3, 20, OTHER),
        revocation(OTHER, 30),
        signed(4, 29, OTHER),
    )
    assert finding(found) == (True, "4 batches are signed by senders whose keys were on record before: head-end 1")
