"""Admission, rotation, revocation and connection: each a record, and each felt at once."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from tellegen.errors import InputError
from tellegen.journal import JournalError
from tellegen.records import Connections, Device, KeyGenerations, Refusal, Role
from tellegen.registry import (
    Authority,
    Directory,
    Identity,
    NotAdmittedError,
    Reason,
    Refused,
    RegistryError,
    Request,
    Shard,
    admit_many,
    connection,
    create_shard,
    open_shard,
    parse_requests,
    read_csv,
    requests_body,
    rotation_message,
    signing_request,
    write_csv,
)
from tellegen.registry.certificates import CertificateStore
from tellegen.verify import check_receipt

ORIGIN = "simulated/city.example/shard-1"
NOW = 1_700_000_000
NORTH = Identity(Role.HEAD_END, name="NORTH")
SEVEN = Identity(Role.PARTICIPANT, 7)


def key(number: int) -> Ed25519PrivateKey:
    return Ed25519PrivateKey.from_private_bytes(number.to_bytes(32, "big"))


def request(identity: Identity, number: int) -> Request:
    return Request(identity, signing_request(key(number)))


def point(customer: int = 7, **other: object) -> Connections:
    fields: dict[str, object] = {"device": Device.LOAD, "asset": 77, "feeder": "F1", "node": 3, "phases": 0}
    fields |= {"from_interval": 0, "capacity_w": 9000, "import_limit_w": 9000, "export_limit_w": 4000}
    return connection(customer=customer, **(fields | other))


@pytest.fixture
def shard(tmp_path: Path) -> Iterator[Shard]:
    create_shard(tmp_path / "shard", ORIGIN, NOW, seed=b"test")
    with open_shard(tmp_path / "shard", write=True) as opened:
        yield opened


def test_an_admission_is_a_record_with_a_receipt(shard: Shard) -> None:
    index, (certificate,), refused = shard.registrar.admit([request(NORTH, 1)], NOW, vouched=True)
    assert refused == []
    shard.journal.commit(NOW)
    entry = shard.journal.entries()[index].to_bytes()
    assert check_receipt(shard.journal.receipt(index), entry, shard.journal.verifier.vkey).header.kind == "admissions"
    assert (
        shard.directory.sender("NORTH", NOW).public_key
        == key(1).public_key().public_bytes_raw()
        == certificate.public_key
    )
    again = Directory.of(shard.journal, shard.registrar.vault)
    assert again.sender("NORTH", NOW).public_key == certificate.public_key


def test_good_requests_land_with_bad_ones_beside_them(shard: Shard) -> None:
    asked = [request(SEVEN, 1), replace(request(SEVEN, 2), request=b"junk"), request(NORTH, 3)]
    asked.append(request(Identity(Role.GATEWAY, name="NORTH"), 4))
    _, issued, refused = shard.registrar.admit(asked, NOW, vouched=True)
    assert [c.identity for c in issued] == [SEVEN, NORTH]
    assert [(r.row, r.refusal) for r in refused] == [(1, Refusal.MALFORMED), (3, Refusal.MALFORMED)]
    assert "is that of a head-end already" in refused[1].reason


def test_a_new_key_is_endorsed_by_the_old_one(shard: Shard) -> None:
    shard.registrar.admit([request(SEVEN, 1)], NOW, vouched=True)
    new = request(SEVEN, 2)
    message = rotation_message(SEVEN, ORIGIN, new.request)
    for endorsement in (b"", key(3).sign(message), key(1).sign(message + b"x")):
        index, _, refused = shard.registrar.admit([replace(new, endorsement=endorsement)], NOW + 5, vouched=False)
        assert index is None
        assert refused[0].refusal == Refusal.SIGNATURE
    shard.registrar.admit([replace(new, endorsement=key(1).sign(message))], NOW + 5, vouched=False)
    assert shard.directory.customer_keys([7, 7], at=[NOW + 4, NOW + 5]) == [
        key(k).public_key().public_bytes_raw() for k in (1, 2)
    ]


def test_a_stranger_is_not_admitted_on_its_own_word(shard: Shard) -> None:
    message = rotation_message(SEVEN, ORIGIN, request(SEVEN, 1).request)
    own = replace(request(SEVEN, 1), endorsement=key(1).sign(message))
    _, _, (refused,) = shard.registrar.admit([own], NOW, vouched=False)
    assert refused.refusal == Refusal.UNKNOWN


def test_a_revoked_key_endorses_nobody(shard: Shard) -> None:
    _, (old,), _ = shard.registrar.admit([request(SEVEN, 1)], NOW, vouched=True)
    shard.registrar.revoke(old.fingerprint, Reason.KEY_COMPROMISE, NOW + 5)
    message = rotation_message(SEVEN, ORIGIN, request(SEVEN, 2).request)
    stolen = replace(request(SEVEN, 2), endorsement=key(1).sign(message))
    _, _, (refused,) = shard.registrar.admit([stolen], NOW + 6, vouched=False)
    assert refused.refusal == Refusal.UNKNOWN


def test_a_revoked_key_is_not_certified_again(shard: Shard) -> None:
    """Not by asking once more, and not by finishing an interrupted enrolment of many."""
    meter = Identity(Role.METER, 7)
    _, (old,), _ = shard.registrar.admit([request(meter, 1)], NOW, vouched=True)
    shard.registrar.revoke(old.fingerprint, Reason.KEY_COMPROMISE, NOW + 5)
    _, issued, (refused,) = shard.registrar.admit([request(meter, 1)], NOW + 6, vouched=True)
    assert not issued
    assert "make a new key" in refused.reason
    assert admit_many(shard.registrar, [request(meter, 1)], NOW + 6, processes=1)[0] == 0
    assert shard.directory.keys(Role.METER, [7], NOW + 6) == [None]
    assert shard.registrar.admit([request(meter, 2)], NOW + 7, vouched=True)[1]


def test_a_revocation_is_felt_at_once_and_listed(shard: Shard) -> None:
    _, (certificate,), _ = shard.registrar.admit([request(NORTH, 1)], NOW, vouched=True)
    shard.registrar.revoke(certificate.fingerprint, Reason.KEY_COMPROMISE, NOW + 9, since=NOW + 5)
    assert shard.directory.sender("NORTH", NOW + 4).public_key
    with pytest.raises(NotAdmittedError):
        shard.directory.sender("NORTH", NOW + 5)
    listed = x509.load_pem_x509_crl(shard.registrar.revocation_list(NOW + 10).encode())
    assert [entry.serial_number for entry in listed] == [certificate.serial]


@pytest.mark.parametrize(
    ("fingerprint", "since", "problem"),
    [(bytes(32), None, "no certificate has"), (None, NOW + 99, "now or earlier"), (None, NOW + 7, "revoked already")],
)
def test_a_revocation_that_makes_no_sense_is_refused(
    shard: Shard, fingerprint: bytes | None, since: int | None, problem: str
) -> None:
    _, (certificate,), _ = shard.registrar.admit([request(NORTH, 1)], NOW, vouched=True)
    shard.registrar.revoke(certificate.fingerprint, Reason.SUPERSEDED, NOW + 6)
    with pytest.raises(RegistryError, match=problem):
        shard.registrar.revoke(fingerprint or certificate.fingerprint, Reason.SUPERSEDED, NOW + 9, since)


def test_a_customer_that_is_switched_keeps_its_history(shard: Shard) -> None:
    shard.registrar.connect(point(), NOW)
    shard.registrar.connect(point(device=Device.PV, asset=900, capacity_w=5000, import_limit_w=0), NOW + 1)
    shard.registrar.connect(point(feeder="F2", node=8, from_interval=100), NOW + 2)
    assert shard.directory.feeder_of([7, 7], [99, 100]).tolist() == [b"F1", b"F2"]
    history = shard.directory.connection_history(7)
    assert [(known - NOW, int(row.asset[0]), row.feeder[0]) for known, row in history] == [
        (0, 77, b"F1"),
        (2, 77, b"F2"),
        (1, 900, b"F1"),
    ]
    shard.journal.commit(NOW + 2)
    again = Directory.of(shard.journal, shard.registrar.vault)
    assert again.feeder_of([7], 100).tolist() == [b"F2"]


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"import_limit_w": 9001}, "import_limit_w 9001 will not do: it is from 0 to the capacity"),
        ({"export_limit_w": -1}, "export_limit_w"),
        ({"capacity_w": -1, "import_limit_w": -1, "export_limit_w": -1}, "capacity_w"),
        ({"device": 99}, "device 99"),
        ({"customer": -1}, "customer -1"),
        ({"asset": -1}, "asset"),
        ({"node": -2}, "node"),
        ({"phases": 8}, "phases"),
        ({"feeder": ""}, "feeder"),
        ({"feeder": "a\x07"}, "feeder"),
        ({"from_interval": -1}, "from_interval"),
        ({"reads_every": 5}, "reads_every 5 will not do: it is market intervals that divide an hour"),
        ({"credit": -2}, "credit -2 will not do"),
        ({"device": Device.PV, "credit": 5}, "credit 5 will not do: it is the account's"),
        ({"attested_by": "a\x07"}, "attested_by"),
        ({"device": Device.PV, "reads_every": 3}, "reads_every 3 will not do: it is the meter's"),
        ({"device": Device.PV}, "customer 7 has no connection yet"),
    ],
)
def test_a_connection_that_cannot_stand_is_refused_whole(shard: Shard, change: dict[str, object], problem: str) -> None:
    entries = len(shard.journal)
    with pytest.raises(RegistryError, match=problem):
        shard.registrar.connect(Connections.concat([point(customer=6), point(**change)]), NOW)
    assert len(shard.journal) == entries


def test_a_customer_is_disconnected_by_a_row_without_a_feeder(shard: Shard) -> None:
    shard.registrar.connect(point(), NOW)
    shard.registrar.connect(point(node=-1, feeder="", from_interval=100), NOW + 1)
    assert shard.directory.feeder_of([7, 7], [99, 100]).tolist() == [b"F1", b""]


def test_generations_of_code_keys_are_a_record(shard: Shard) -> None:
    row = KeyGenerations(meter=np.array([77]), generation=np.array([1]), from_counter=np.array([500]))
    shard.registrar.rotate_codes(row, NOW)
    assert shard.directory.key_generations().equals(row)
    with pytest.raises(RegistryError, match="count from 1"):
        shard.registrar.rotate_codes(replace(row, generation=np.array([0])), NOW)


def test_connections_come_back_from_csv_as_they_went(tmp_path: Path) -> None:
    tables = [
        point(),
        point(reads_every=3, attested_by="installer 4711", credit=500),
        point(device=Device.PV, node=-1, feeder=""),
    ]
    write_csv(tmp_path / "c.csv", tables)
    assert read_csv(tmp_path / "c.csv").equals(Connections.concat(tables))
    assert "7,load,77,F1,3,0,0,9000,9000,4000" in (tmp_path / "c.csv").read_text()


@pytest.mark.parametrize(
    ("old", "new", "place"),
    [
        ("9000", "9 kW", "line 2, capacity_w '9 kW' is not a whole number"),
        ("load", "toaster", "line 2, device 'toaster' .* or one of load, pv"),
        ("F1", "é", "line 2, feeder 'é'"),
        ("customer,", "client,", "line 1 must name each of these columns once: customer,device"),
        (
            "credit",
            "kredit",
            "line 1, column 'kredit' is none of customer,device,.*,attested_by,credit; correct or remove it",
        ),
        (",77,", ",99999999999999999999,", "line 2, asset"),
        ("7,load", '7,"load', "after line 1 is not CSV"),
    ],
)
def test_a_bad_field_is_named_with_its_line(tmp_path: Path, old: str, new: str, place: str) -> None:
    write_csv(tmp_path / "c.csv", [point()])
    text = (tmp_path / "c.csv").read_text().replace(old, new, 1)
    (tmp_path / "c.csv").write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=place):
        read_csv(tmp_path / "c.csv")


def test_many_are_admitted_by_several_processes_and_an_interruption_is_made_good(shard: Shard) -> None:
    asked = [request(Identity(Role.METER, k), k) for k in range(1, 41)]
    asked[5] = replace(asked[5], request=b"junk")
    asked[6] = request(NORTH, 7)
    admit_many(shard.registrar, asked[:20], NOW, processes=1)
    admitted, refused = admit_many(shard.registrar, asked, NOW + 60, processes=2)
    assert admitted == 20
    assert [r.row for r in refused] == [5, 6]
    keys = shard.directory.keys(Role.METER, range(1, 41), at=NOW + 60)
    assert [k for k, found in enumerate(keys, 1) if found is None] == [6, 7]
    assert len(shard.registrar.certificates) == 38
    assert admit_many(shard.registrar, asked, NOW + 60, processes=1)[0] == 0


def test_a_shard_is_written_by_one_and_never_overwritten(shard: Shard) -> None:
    with pytest.raises(JournalError, match="another writer"), open_shard(shard.path, write=True):
        pass
    with pytest.raises(InputError, match="is not empty"):
        create_shard(shard.path, "x", NOW)
    with open_shard(shard.path) as reader:
        assert len(reader.journal) == len(shard.journal)


def test_a_shard_with_a_name_that_will_not_do_leaves_nothing_behind(tmp_path: Path) -> None:
    with pytest.raises(RegistryError, match="at most 64"):
        create_shard(tmp_path / "s", "x" * 65, NOW)
    assert not (tmp_path / "s").exists()
    with pytest.raises(InputError, match="tellegen registry init"), open_shard(tmp_path / "s"):
        pass


def test_a_shard_whose_root_certificate_is_not_its_own_is_not_opened(shard: Shard) -> None:
    other = Authority(ORIGIN, bytes(32), bytes(32), NOW)
    (shard.path / "registry" / "root.pem").write_text(other.root_pem)
    with pytest.raises(RegistryError, match="not the root certificate on record"), open_shard(shard.path):
        pass


def test_requests_come_back_from_lines_of_text_as_they_went() -> None:
    asked = [request(SEVEN, 1), replace(request(NORTH, 2), endorsement=b"e" * 64)]
    assert parse_requests(requests_body(asked)) == asked


def test_a_line_that_cannot_be_read_does_not_cost_the_others(shard: Shard) -> None:
    lines = requests_body([request(SEVEN, 1)]) + b"junk\n" + requests_body([request(NORTH, 2)])
    _, issued, refused = shard.registrar.admit(parse_requests(lines), NOW, vouched=True)
    assert [c.identity for c in issued] == [SEVEN, NORTH]
    assert [(r.row, r.reason) for r in refused] == [(1, "not a JSON object in one line")]


FIELD = st.recursive(st.none() | st.integers() | st.text(max_size=6) | st.booleans(), st.lists, max_leaves=3)
NAMES = st.sampled_from(["role", "number", "name", "request", "endorsement", "other"])


@given(st.one_of(st.binary(max_size=80), st.dictionaries(NAMES, FIELD).map(lambda d: json.dumps(d).encode())))
def test_no_line_does_more_than_be_refused(line: bytes) -> None:
    assert all(isinstance(each, Refused) for each in parse_requests(line))


def test_lines_have_limits() -> None:
    with pytest.raises(RegistryError, match="at most 10000 requests"):
        parse_requests(b"\n" * 10_001)
    for line in (b'{"role":' + b"[" * 8000, b'{"number":' + b"9" * 8000 + b"}", b"\xff\xfe{"):
        (refused,) = parse_requests(line)
        assert isinstance(refused, Refused)
    (refused,) = parse_requests(b" " * 20_000)
    assert "at most 16384 bytes" in refused.reason


def test_certificates_can_be_read_where_nothing_can_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A read-only medium: nothing can be locked there, and nobody changes it."""
    CertificateStore(tmp_path / "certificates.sqlite").close()
    monkeypatch.setattr("tellegen.registry.certificates.os.access", lambda path, mode: False)
    with CertificateStore(tmp_path / "certificates.sqlite") as store:
        assert len(store) == 0
    assert {path.name for path in tmp_path.iterdir()} == {"certificates.sqlite"}
    (tmp_path / "certificates.sqlite-wal").write_bytes(b"not yet in it")
    with pytest.raises(RegistryError, match="copy both"):
        CertificateStore(tmp_path / "certificates.sqlite")
