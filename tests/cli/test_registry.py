"""`tellegen registry`: what it prints, writes and refuses; every change is a record with a receipt."""

from __future__ import annotations

import base64
import json
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import load_pem_x509_csr

from tellegen.metering import meter_proof, sign_day
from tellegen.records import Readings, Role
from tellegen.registry import Authority, Identity, Reason, open_shard, signing_request
from tellegen.verify import check_receipt

Tellegen = Callable[..., Any]

CONNECTIONS = """customer,device,asset,feeder,node,phases,from_interval,capacity_w,import_limit_w,export_limit_w
7,load,77,F1,3,0,0,9000,9000,4000
7,pv,900,F1,3,0,0,5000,0,5000
8,load,78,F1,4,0,0,9000,9000,4000
"""
EXPORTED = (
    CONNECTIONS.splitlines()[0]
    + """,reads_every,attested_by,credit
7,load,77,F1,3,0,0,9000,9000,4000,0,,0
7,pv,900,F1,3,0,0,5000,0,5000,0,installer 4711,0
8,load,78,F1,4,0,0,9000,9000,4000,12,,-1
"""
)


@pytest.fixture
def shard(tellegen: Tellegen, tmp_path: Path) -> Path:
    path = tmp_path / "north"
    assert tellegen("registry", "init", path, "--origin", "city.example/north").status == 0
    return path


@pytest.fixture
def key(tellegen: Tellegen, tmp_path: Path) -> Callable[..., Path]:
    def make(title: str, *more: object) -> Path:
        answer = tellegen("registry", "request", tmp_path / title, *more)
        assert answer.status == 0, answer.err
        return tmp_path / f"{title}.csr"

    return make


def test_a_head_end_is_admitted_rotated_and_revoked_on_record(
    tellegen: Tellegen, shard: Path, key: Callable[..., Path], tmp_path: Path
) -> None:
    who = ("--role", "head-end", "--name", "NORTH")
    answer = tellegen("registry", "enrol", shard, key("one"), *who)
    assert answer.status == 0
    assert answer.out.startswith(f"head-end NORTH: certificate in {tmp_path / 'one.pem'}, LFDI ")
    assert "on record as entry 2:\n\nc2sp.org/tlog-proof@v1\nextra " in answer.out
    assert stat.S_IMODE((tmp_path / "one.key").stat().st_mode) == 0o600
    new = key("two", "--replaces", tmp_path / "one.key", "--origin", "city.example/north", *who)
    endorsement = ("--endorsement", tmp_path / "two.endorsement")
    rotated = json.loads(tellegen("registry", "rotate", shard, new, *who, *endorsement, "--json").out)
    assert rotated["entry"] == 4
    revoked = tellegen("registry", "revoke", shard, *who, "--reason", "key-compromise", "--json")
    assert json.loads(revoked.out)["certificate_sha256"] == rotated["sha256"]
    shown = json.loads(tellegen("registry", "show", shard, *who, "--json").out)
    assert [each["status"].split()[0] for each in shown["certificates"]] == ["replaced", "revoked"]
    assert "revoked or expired" in tellegen("registry", "list", shard).out
    assert "BEGIN X509 CRL" in tellegen("registry", "crl", shard).out
    with open_shard(shard) as opened:
        receipt = json.loads(revoked.out)["receipt"]
        entry = opened.journal.entries()[5].to_bytes()
        assert check_receipt(receipt, entry, opened.journal.verifier.vkey).index == 5


def test_a_new_key_that_the_old_one_did_not_endorse_is_refused(
    tellegen: Tellegen, shard: Path, key: Callable[..., Path], tmp_path: Path
) -> None:
    who = ("--role", "participant", "--number", 7)
    tellegen("registry", "enrol", shard, key("one"), *who)
    key("thief")
    new = key("two", "--replaces", tmp_path / "thief.key", "--origin", "city.example/north", *who)
    answer = tellegen("registry", "rotate", shard, new, *who, "--endorsement", tmp_path / "two.endorsement")
    assert answer.status == 2
    assert "not endorsed by the one that counts" in answer.err


def test_connections_go_in_and_out_as_csv(tellegen: Tellegen, shard: Path, tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_text(EXPORTED)
    assert json.loads(tellegen("registry", "import", shard, tmp_path / "in.csv", "--json").out)["rows"] == 3
    (tmp_path / "switch.csv").write_text(CONNECTIONS.splitlines()[0] + "\n7,load,77,F2,5,0,100,9000,9000,4000\n")
    assert tellegen("registry", "import", shard, tmp_path / "switch.csv").status == 0
    tellegen("registry", "export", shard, tmp_path / "before.csv", "--interval", 99)
    lines = (tmp_path / "before.csv").read_text().splitlines()
    assert sorted(lines) == sorted(EXPORTED.splitlines())
    tellegen("registry", "export", shard, tmp_path / "now.csv")
    assert "7,load,77,F2,5,0,100,9000,9000,4000,0,,0" in (tmp_path / "now.csv").read_text()
    shown = tellegen("registry", "show", shard, "--customer", 7)
    assert shown.out.startswith("customer 7: 3 rows\n  load ")
    assert "export 5000), attested by installer 4711, known" in shown.out
    assert (
        ", read every 60 minutes, no credit, attested by nobody"
        in tellegen("registry", "show", shard, "--customer", 8).out
    )
    assert tellegen("registry", "show", shard, "--customer", 99).status == 1
    (tmp_path / "later.csv").write_text(CONNECTIONS.splitlines()[0] + "\n8,load,78,F1,5,0,100,9000,9000,4000\n")
    said = tellegen("registry", "import", shard, tmp_path / "later.csv").err
    assert "1 rows say no reads_every, and one stood" in said
    assert "attested_by" not in said


def test_a_file_with_a_row_that_cannot_stand_changes_nothing(tellegen: Tellegen, shard: Path, tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_text(CONNECTIONS.replace("9000,9000,4000\n7", "9000,9001,4000\n7"))
    answer = tellegen("registry", "import", shard, tmp_path / "in.csv")
    assert answer.status == 2
    assert "in.csv: line 2: import_limit_w 9001 will not do" in answer.err
    assert tellegen("registry", "show", shard, "--customer", 7).status == 1


def test_many_meters_are_enrolled_from_one_file(tellegen: Tellegen, shard: Path, tmp_path: Path) -> None:
    lines = ["number,request"]
    for number in (1, 2):
        asked = load_pem_x509_csr(signing_request(Ed25519PrivateKey.from_private_bytes(bytes([number]) * 32)))
        lines.append(f"{number},{base64.b64encode(asked.public_bytes(Encoding.DER)).decode()}")
    (tmp_path / "many.csv").write_text("\n".join([*lines, "3,AAAA"]))
    answer = tellegen("registry", "enrol-many", shard, tmp_path / "many.csv", "--role", "meter", "--json")
    assert answer.status == 1
    document = json.loads(answer.out)
    assert document["admitted"] == 2
    assert [each["row"] for each in document["refused"]] == [2]
    shown = json.loads(tellegen("registry", "show", shard, "--role", "meter", "--number", 2, "--json").out)
    assert shown["certificates"][0]["status"] == "counts"


def test_the_code_key_of_a_meter_is_rotated_by_counter(tellegen: Tellegen, shard: Path) -> None:
    for generation, counter in ((1, 500), (2, 900)):
        answer = tellegen("registry", "rotate-code", shard, "--meter", 77, "--from-counter", counter, "--json")
        assert json.loads(answer.out)["generation"] == generation


def test_while_another_writes_the_registry_says_so_in_one_line(
    tellegen: Tellegen, shard: Path, key: Callable[..., Path]
) -> None:
    csr = key("one")
    with open_shard(shard, write=True):
        answer = tellegen("registry", "enrol", shard, csr, "--role", "meter", "--number", 7)
    assert answer.status == 2
    assert "has another writer; a shard has one" in answer.err
    assert len(answer.err.strip().splitlines()) == 1


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (("show", "{shard}"), "needs either --role"),
        (("show", "{shard}", "--role", "king", "--number", 1), "is none of meter, head-end"),
        (("show", "{shard}", "--role", "meter"), "needs --number"),
        (("show", "{shard}", "--role", "meter", "--number", -1), "is known by a number from 0"),
        (("revoke", "{shard}", "--role", "meter", "--number", 1), "is not admitted"),
        (("revoke", "{shard}", "--role", "meter", "--number", 1, "--reason", "x"), "is none of unspecified"),
        (("init", "{shard}", "--origin", "x"), "is not empty"),
        (("list", "{shard}/nowhere"), "tellegen registry init"),
        (("request", "{shard}/x", "--replaces", "y"), "needs --origin and --role"),
    ],
)
def test_what_makes_no_sense_is_one_line(
    tellegen: Tellegen, shard: Path, arguments: tuple[object, ...], problem: str
) -> None:
    answer = tellegen("registry", *(str(a).replace("{shard}", str(shard)) for a in arguments))
    assert answer.status == 2
    assert problem in answer.err
    assert len(answer.err.strip().splitlines()) == 1


def test_a_key_is_never_overwritten(tellegen: Tellegen, key: Callable[..., Path], tmp_path: Path) -> None:
    key("one")
    before = (tmp_path / "one.key").read_bytes()
    assert tellegen("registry", "request", tmp_path / "one").status == 2
    assert (tmp_path / "one.key").read_bytes() == before


def test_a_proof_that_is_none_is_answered_no(tellegen: Tellegen, shard: Path, tmp_path: Path) -> None:
    (tmp_path / "proof.json").write_text("{}")
    root = shard / "registry" / "root.pem"
    answer = tellegen("registry", "verify-proof", tmp_path / "proof.json", "--root", root)
    assert (answer.status, answer.out) == (1, "NO: not a document of the form tellegen-meter-proof@v1\n")


def test_a_proof_is_checked_without_the_shard(tellegen: Tellegen, tmp_path: Path) -> None:
    day, key = 19_675, Ed25519PrivateKey.from_private_bytes(bytes(32))
    authority = Authority("city.example/north", bytes(32), bytes([1]) * 32, day * 86_400)
    certificate = authority.issue(Identity(Role.METER, 77), signing_request(key), day * 86_400)
    one = np.ones(1, dtype=np.int64)
    readings = Readings(
        customer=7 * one.astype(np.int32),
        meter=77 * one,
        counter=one,
        import_wh=500 * one,
        export_wh=0 * one,
        reactive_varh=0 * one,
        voltage_mv=one,
        tag=np.zeros(1, dtype="V16"),
    )
    interval = day * 288
    signed = sign_day(readings, interval, "city.example/north", key.sign)
    proof = meter_proof(readings, interval, interval, signed, [certificate.pem, authority.issuing_pem])
    revoked = authority.revocation_list([(certificate.serial, day * 86_400, Reason.KEY_COMPROMISE)], 1, day * 86_400)
    for name, text in (("proof", proof), ("root", authority.root_pem), ("crl", revoked)):
        (tmp_path / name).write_text(text)
    command = ("registry", "verify-proof", tmp_path / "proof", "--root", tmp_path / "root")
    answer = tellegen(*command, "--json")
    assert (answer.status, json.loads(answer.out)["ok"]) == (0, True)
    assert "stood at 500 Wh import" in answer.out
    refused = tellegen(*command, "--crl", tmp_path / "crl")
    assert refused.status == 1
    assert "was revoked at 2023-11-14 00:00 UTC" in refused.out


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (("enrol", "{shard}", "one.csr", "--role", "gateway", "--name", "intake"), "is the platform's own"),
        (("revoke", "{shard}", "--role", "meter", "--number", 77, "--since", "0001-01-01T00:00:00"), "not before the"),
        (("rotate-code", "{shard}", "--meter", -1, "--from-counter", 5), "greater than or equal to 0"),
        (
            ("rotate-code", "{shard}", "--meter", 77, "--from-counter", 10**20),
            "less than or equal to 9223372036854775807",
        ),
        (("export", "{shard}", "out.csv", "--interval", 10**20), "less than or equal to 9223372036854775807"),
        (("enrol-many", "{shard}", "noise", "--role", "meter"), "is not UTF-8 text"),
        (("init", "other", "--origin", "\u00fcn\u00ef"), "printable ASCII"),
        (("init", "other", "--origin", "city.example/north~2"), "that of a successor"),
        (("init", "other", "--origin", "city.example/market"), "of a market's log"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(
    tellegen: Tellegen,
    shard: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[str, ...],
    problem: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert tellegen("registry", "request", "one").status == 0
    assert tellegen("registry", "enrol", shard, "one.csr", "--role", "meter", "--number", 77).status == 0
    (tmp_path / "noise").write_bytes(bytes(range(256)))
    before = (shard / "journal" / "checkpoints").read_bytes()
    answer = tellegen("registry", *(str(word).format(shard=shard) for word in arguments))
    assert (answer.status, answer.err.count("\n")) == (2, 1)
    assert problem in answer.err
    assert (shard / "journal" / "checkpoints").read_bytes() == before
    assert not (tmp_path / "other").exists()


@pytest.mark.skipif(os.name != "posix", reason="modes of files")
def test_what_names_everybody_is_its_owners_whatever_the_umask(tellegen: Tellegen, tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        tellegen("registry", "init", tmp_path / "open", "--origin", "city.example/north")
    finally:
        os.umask(before)
    secret = [tmp_path / "open" / "registry" / "certificates.sqlite", *(tmp_path / "open" / "vault").rglob("*")]
    assert {stat.S_IMODE(file.stat().st_mode) & 0o077 for file in secret} == {0}
