"""Senders: a batch on record is signed by whom it names, with a key that was admitted before."""

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from nacl.signing import SigningKey

from tellegen.journal import Journal
from tellegen.privacy import Vault
from tellegen.records import (
    Admissions,
    DailyRoots,
    Header,
    Orders,
    Readings,
    Revocations,
    Role,
    Route,
    SealedBatch,
    Statement,
    Submissions,
    Table,
)
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


@dataclass(frozen=True)
class Sent:
    """A table as a sender's batch: what stands in its header, and who signed for what."""

    table: Table
    known_at: int
    name: str
    evidence: str
    source: str = "head-end 1"
    market: str = ""
    causes: tuple[int, ...] = ()

    def sealed(self, vault: Vault) -> SealedBatch:
        about = {n: getattr(self, n) for n in ("known_at", "name", "evidence", "source", "market", "causes")}
        return vault.seal_live(self.table, feeder="F1", interval=7, intervals=1, **about)


def readings(import_wh: int = 500) -> Readings:
    tag = np.zeros(1, dtype="V16")
    fields = {"customer": [1], "meter": [7], "counter": [1], "import_wh": [import_wh], "export_wh": [0]}
    return Readings(**fields, reactive_varh=[0], voltage_mv=[230_000], tag=tag)  # type: ignore[arg-type]


def orders() -> Orders:
    whose = {"customer": [1], "period": [0], "device": [0], "node": [1], "product": [0], "side": [1]}
    what = {"price_taker": [1], "price_micros": [0], "quantity_w": [500], "var_per_kw": [0]}
    return Orders(**whose, **what)  # type: ignore[arg-type]


def submissions() -> Submissions:
    return Submissions(customer=[1], order_rows=[1], sequence=[0], signature=np.zeros(1, dtype="V64"))


def said(key: SigningKey, route: Route, sequence: int, source: str = "head-end 1", market: str = "") -> str:
    statement = Statement.of(ORIGIN, route, source, "F1", market, 7, sequence, b"body")
    return statement.evidence(key.sign(statement.to_bytes()).signature)


def signed(number: int, known_at: int, key: SigningKey, *, signed_sequence: int | None = None) -> Sent:
    """Readings that head-end 1 sent with a statement that `key` signed."""
    sequence = number if signed_sequence is None else signed_sequence
    return Sent(readings(), known_at, f"readings/{number}", said(key, Route.READINGS, sequence))


def bid(number: int, known_at: int, key: SigningKey, source: str = "gateway 1", first: int = 0) -> tuple[Sent, Sent]:
    """Orders, and who signed them, that `source` brought; `first` is the entry of the orders."""
    evidence = said(key, Route.BIDS, number, source, "real_time")
    sent = Sent(orders(), known_at, f"bids/{number}", evidence, source, "real_time")
    return sent, replace(sent, table=submissions(), causes=(first,))


def report(path: Path, *batches: Sent | Table) -> Report:
    vault = Vault.create(path / "vault", [1], b"seed")
    with vault, Journal.create(path, ORIGIN, bytes(range(32))) as journal:
        for batch in batches:
            if isinstance(batch, Sent):
                journal.append(batch.sealed(vault))
            else:
                journal.append(vault.seal(batch, interval=0, known_at=journal.time(0), **ABOUT))  # type: ignore[arg-type]
        journal.commit(10_000)
    return verify_directory(path)


def headers(path: Path, *batches: Sent) -> list[Header]:
    with Vault.create(path / "vault", [1], b"seed") as vault:
        return [batch.sealed(vault).header for batch in batches]


def finding(found: Report) -> tuple[bool, str]:
    check = next(check for check in found.checks if check.name == "senders")
    return check.ok, check.detail


def test_what_an_admitted_sender_signed_verifies(tmp_path: Path) -> None:
    found = report(tmp_path, admission(HEAD_END), signed(1, 5, HEAD_END), signed(2, 6, HEAD_END))
    assert found.ok
    assert finding(found) == (True, "2 batches are signed by senders whose keys were on record before: head-end 1")


def test_a_statement_says_what_was_signed_and_no_other_key_did(tmp_path: Path) -> None:
    header, of_another = headers(tmp_path, signed(3, 5, HEAD_END), signed(3, 5, HEAD_END, signed_sequence=4))
    assert verify_evidence(header, bytes(HEAD_END.verify_key), ORIGIN).sequence == 3
    with pytest.raises(RefusedError, match="not signed by the key of head-end 1"):
        verify_evidence(header, bytes(OTHER.verify_key), ORIGIN)
    with pytest.raises(RefusedError, match="not signed"):
        verify_evidence(of_another, bytes(HEAD_END.verify_key), ORIGIN)


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
    tmp_path: Path, batches: tuple[Sent | Table, ...], problem: str
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


GATEWAY = SigningKey(b"g" * 32)
ADMITTED = (admission(HEAD_END), admission(GATEWAY, name=b"gateway 1", role=Role.GATEWAY))
OWN = SigningKey(bytes(range(32)))
"""The operator's own key."""


def test_bids_come_from_a_gateway(tmp_path: Path) -> None:
    assert finding(report(tmp_path, *ADMITTED, signed(1, 5, HEAD_END), *bid(1, 6, GATEWAY, first=3)))[0]


@pytest.mark.parametrize(
    ("batches", "problem"),
    [
        (bid(1, 5, HEAD_END, "head-end 1", 2), "'head-end 1' is a head-end and hands in readings, daily-roots; bids"),
        (
            [Sent(readings(), 5, "readings/1", said(GATEWAY, Route.READINGS, 1, "gateway 1"), "gateway 1")],
            "'gateway 1' is a gateway and hands in bids; readings are for a head-end",
        ),
        (
            [Sent(admission(OTHER), 5, "admissions/1", said(HEAD_END, Route.ADMISSIONS, 1))],
            "'head-end 1' is a head-end and hands in readings, daily-roots; admissions are for a registrar",
        ),
        (
            [Sent(readings(), 5, "readings/1", said(OWN, Route.READINGS, 1, "registrar"), "registrar")],
            "readings handed in by the registrar, who hands in admissions alone",
        ),
    ],
)
def test_each_role_hands_in_what_it_may(tmp_path: Path, batches: tuple[Sent, ...], problem: str) -> None:
    ok, detail = finding(report(tmp_path, *ADMITTED, *batches))
    assert not ok
    assert problem in detail


MADE_UP = [
    Sent(readings(), 5, "readings/1", ""),
    Sent(DailyRoots.empty(), 5, "daily-roots/1", ""),
    Sent(orders(), 5, "bids/1", "", "gateway 1", "real_time"),
    Sent(submissions(), 5, "bids/1", "", "gateway 1", "real_time"),
]


@pytest.mark.parametrize("batch", MADE_UP, ids=lambda sent: sent.table.kind)
def test_nothing_is_made_up_in_a_sender_s_name(tmp_path: Path, batch: Sent) -> None:
    """Without its signature; with that of another batch, another kind, or for rows that stand on record already."""
    ok, detail = finding(report(tmp_path / "bare", *ADMITTED, batch))
    assert (ok, "without its signature" in detail) == (False, True)
    honest = signed(9, 5, HEAD_END), *bid(9, 5, GATEWAY, first=3)
    for number, taken in enumerate(honest):
        for name in (batch.name, taken.name):
            forged = replace(batch, name=name, evidence=taken.evidence, causes=taken.causes, known_at=6)
            ok, detail = finding(report(tmp_path / f"{number}-{name.replace('/', '-')}", *ADMITTED, *honest, forged))
            # orders that no submissions follow count nowhere: a crash may leave them
            harmless = forged.table.kind == Orders.kind and name == taken.name == "bids/9"
            assert ok is harmless, detail


def test_the_rows_of_a_batch_are_not_exchanged_by_recording_it_again(tmp_path: Path) -> None:
    sent = signed(9, 5, HEAD_END)
    again = replace(sent, table=readings(import_wh=900_000), known_at=6)
    ok, detail = finding(report(tmp_path, *ADMITTED, sent, again))
    assert (ok, detail) == (False, "entry 3: stands under the signature of entry 2")


def test_signed_bids_are_about_the_orders_that_came_with_them(tmp_path: Path) -> None:
    first, second = bid(1, 5, GATEWAY, first=2), bid(2, 6, GATEWAY, first=4)
    crossed = replace(second[1], causes=(2,))
    assert finding(report(tmp_path / "right", *ADMITTED, *first, *second))[0]
    ok, detail = finding(report(tmp_path / "crossed", *ADMITTED, *first, second[0], crossed))
    assert (ok, "entry 5: 'bids/2' of 'gateway 1' does not follow" in detail) == (False, True)
