"""What is done when a key was stolen, played: what the thief can still do, and what others see of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from nacl.signing import SigningKey

from tellegen.custody import CustodyError, wrapper_wanted
from tellegen.intake.intake import Intake
from tellegen.intake.limits import Reason, RefusedBatchError
from tellegen.journal import Journal
from tellegen.journal.clock import RecordClock
from tellegen.metering import DeviceCodes
from tellegen.privacy import Vault, VaultError
from tellegen.privacy.recorder import Recorder, Span
from tellegen.records import (
    Admissions,
    Connections,
    Device,
    KeyGenerations,
    Readings,
    RecordError,
    Role,
    Route,
    Statement,
    Table,
)
from tellegen.registry import (
    METER_PURPOSE,
    SIGNING_PURPOSE,
    Authority,
    Identity,
    RegistryError,
    Request,
    admissions_of,
    connection,
    create_shard,
    open_shard,
    signing_request,
)
from tellegen.registry import (
    Reason as Why,
)
from tellegen.registry.authority_record import Authorities, AuthorityRecord
from tellegen.registry.changes import REGISTRAR, SentChanges
from tellegen.registry.meter_keys import codes_purpose, generation_key, meter_key
from tellegen.registry.registrar import ISSUING_PURPOSE, REGISTRAR_PURPOSE
from tellegen.registry.renewal import renew_issuing, renew_meter_master, renew_registrar, renewed_role
from tellegen.registry.shard import ROOT_PURPOSE, public_key
from tellegen.verify import verify_directory

ORIGIN, NOW = "city.example/north", 1_700_000_000
NORTH = Identity(Role.HEAD_END, name="NORTH")


def key(number: int) -> Ed25519PrivateKey:
    return Ed25519PrivateKey.from_private_bytes(number.to_bytes(32, "big"))


def request(identity: Identity, number: int) -> Request:
    return Request(identity, signing_request(key(number)))


def point(customer: int = 7) -> Connections:
    return connection(
        customer=customer,
        device=Device.LOAD,
        asset=77,
        feeder="F1",
        node=3,
        phases=0,
        from_interval=0,
        capacity_w=9000,
        import_limit_w=9000,
        export_limit_w=4000,
    )


@pytest.fixture
def shard(tmp_path: Path) -> Path:
    """A founded shard that has admitted a head-end and connected a customer."""
    path = tmp_path / "north"
    create_shard(path, ORIGIN, NOW)
    with open_shard(path, write=True) as opened:
        opened.registrar.admit([request(NORTH, 1)], NOW, vouched=True)
        opened.registrar.connect(point(), NOW)
        opened.journal.commit(NOW)
    return path


def finding(path: Path, name: str) -> tuple[bool, str]:
    check = next(check for check in verify_directory(path).checks if check.name == name)
    return check.ok, check.detail


def put(path: Path, table: Table, source: str = REGISTRAR) -> None:
    """Whoever has the key of the log puts a table there."""
    with (
        Vault.open(path / "vault") as vault,
        Journal.open(path, vault.role_key(SIGNING_PURPOSE)) as journal,
    ):
        vault.enrol([8])
        Recorder(journal, vault, "").put(table, Span(NOW + 9, NOW // 300), source=source)
        journal.commit(NOW + 9)


def made_up(number: int = 66) -> Admissions:
    """An admission of a key of one's own; the certificate is by an authority of one's own, too."""
    thief = Authority(ORIGIN, bytes(32), bytes([9]) * 32, NOW)
    return admissions_of([thief.issue(Identity(Role.HEAD_END, name="EVIL"), signing_request(key(number)), NOW)])


def sent(path: Path, changes: SentChanges, registrar: bytes, sequence: int = 1) -> object:
    """What a running intake makes of a change under a key."""
    body = changes.to_bytes()
    said = Statement.of(ORIGIN, Route.ADMISSIONS, REGISTRAR, "", "", NOW // 300, sequence, body)
    signature = SigningKey(registrar).sign(said.to_bytes()).signature
    intake = Intake.open(path, clock=lambda newest: RecordClock(wall=lambda: NOW + 20, elapsed=lambda: 0.0))
    try:
        taken = intake.take(said, signature, lambda: SentChanges.from_bytes(body))
        intake.commit()
        return taken
    except RefusedBatchError as refused:
        return refused.reason
    finally:
        intake.close()


def secret(path: Path, purpose: str) -> bytes:
    with Vault.open(path / "vault") as vault:
        return vault.role_key(purpose)


def test_every_role_has_a_key_of_its_own(shard: Path) -> None:
    with Vault.open(shard / "vault") as vault:
        keys = [vault.purpose_key(purpose) for purpose in vault.purposes]
        assert len(set(keys)) == len(keys)
    ok, detail = finding(shard, "registry")
    assert ok, detail
    assert detail.startswith("1 admissions are certified, 2 changes are the registrar's; root certificate SHA-256 ")
    assert finding(shard, "senders")[0]


def test_without_the_authority_the_shard_runs_and_nobody_is_admitted(shard: Path, tmp_path: Path) -> None:
    """Its keys are off the machine; connections and revocations need none of them."""
    (shard / "vault" / "authority").rename(tmp_path / "stick")
    assert sent(shard, SentChanges(point(8)), secret(shard, REGISTRAR_PURPOSE)) != Reason.BAD_SIGNATURE
    with open_shard(shard, write=True) as opened:
        with pytest.raises(VaultError, match="issuing authority' is kept elsewhere"):
            opened.registrar.admit([request(NORTH, 2)], NOW + 30, vouched=True)
        opened.registrar.connect(point(9), NOW + 30)
        opened.journal.commit(NOW + 30)
    with open_shard(shard, write=True, authority=tmp_path / "stick") as opened:
        assert opened.registrar.admit([request(NORTH, 2)], NOW + 31, vouched=True)[1]
        opened.journal.commit(NOW + 31)
    assert finding(shard, "registry")[0]
    assert not (shard / "vault" / "authority").exists()


def test_whoever_has_the_key_of_the_log_admits_nobody(shard: Path) -> None:
    put(shard, made_up())
    ok, detail = finding(shard, "registry")
    assert (ok, "without the registrar's signature" in detail) == (False, True), detail


def test_the_key_of_the_log_is_not_the_registrars(shard: Path) -> None:
    assert sent(shard, SentChanges(point(8)), secret(shard, SIGNING_PURPOSE)) is Reason.BAD_SIGNATURE
    put(shard, point(8))
    ok, detail = finding(shard, "registry")
    assert (ok, "connections-2 without the registrar's signature" in detail) == (False, True)


def test_a_registrar_who_admits_himself_is_refused_and_found(shard: Path) -> None:
    """He has his own key, and even that of the log: what he lacks is the authority's."""
    registrar, table = secret(shard, REGISTRAR_PURPOSE), made_up()
    thief = Authority(ORIGIN, bytes(32), bytes([9]) * 32, NOW)
    own_word = thief.certify_admissions(table)
    assert sent(shard, SentChanges(table, certification=own_word), registrar) is Reason.NO_GOOD_ROW
    with pytest.raises(RecordError, match="need the certification"):
        SentChanges(table).to_bytes()
    with open_shard(shard, write=True) as opened:
        said = Statement.of(ORIGIN, Route.ADMISSIONS, REGISTRAR, "", "", NOW // 300, 5, b"")
        signature = SigningKey(registrar).sign(said.to_bytes()).signature
        for each in (own_word, table):
            opened.registrar._append(each, said, signature, NOW + 5)
        opened.journal.commit(NOW + 5)
    ok, detail = finding(shard, "registry")
    assert (ok, "another key than that of the issuing authority" in detail) == (False, True), detail


def test_what_the_authority_once_certified_admits_nobody_a_second_time(shard: Path) -> None:
    """An old key put back by the registrar: every certification counts once."""
    with open_shard(shard, write=True) as opened:
        authority, registrar = opened.registrar.authority, SigningKey(secret(shard, REGISTRAR_PURPOSE))
        table = admissions_of([authority.issue(NORTH, signing_request(key(1)), NOW)])
        said = Statement.of(ORIGIN, Route.ADMISSIONS, REGISTRAR, "", "", NOW // 300, 6, b"")
        for each in (authority.certify_admissions(table), table):
            opened.registrar._append(each, said, registrar.sign(said.to_bytes()).signature, NOW + 5)
        opened.journal.commit(NOW + 5)
    ok, detail = finding(shard, "registry")
    assert (ok, "the same certification was used before" in detail) == (False, True), detail


def test_a_stolen_registrars_key_is_renewed(shard: Path) -> None:
    stolen = secret(shard, REGISTRAR_PURPOSE)
    with open_shard(shard, write=True) as opened:
        entry = renew_registrar(opened, NOW + 10)
        opened.journal.commit(NOW + 11)
        assert opened.journal.entry(entry).name == "authority"
    assert secret(shard, REGISTRAR_PURPOSE) != stolen
    assert sent(shard, SentChanges(point(8)), stolen) is Reason.BAD_SIGNATURE
    sent(shard, SentChanges(point(8)), secret(shard, REGISTRAR_PURPOSE))
    assert finding(shard, "registry")[0]
    with open_shard(shard, write=True) as opened:  # the thief writes the log besides
        said = Statement.of(ORIGIN, Route.ADMISSIONS, REGISTRAR, "", "", NOW // 300, 7, b"")
        opened.registrar._append(point(8), said, SigningKey(stolen).sign(said.to_bytes()).signature, NOW + 30)
        opened.journal.commit(NOW + 30)
    ok, detail = finding(shard, "senders")
    assert (ok, "not signed by the key of registrar" in detail) == (False, True)


def test_a_renewed_registrar_cannot_be_put_back(shard: Path) -> None:
    with open_shard(shard, write=True) as opened:
        old = opened.registrar.authorities.newest
        renew_registrar(opened, NOW + 10)
        opened.journal.commit(NOW + 11)
    with open_shard(shard, write=True) as opened:
        with pytest.raises(RegistryError, match="something older"):
            opened.registrar.renew(old, NOW + 12)
        Recorder(opened.journal, opened.registrar.vault, "").put_document(old.document(), Span(NOW + 12, 0))
        opened.journal.commit(NOW + 12)
        assert Authorities.of(Recorder(opened.journal, opened.registrar.vault, "")).newest != old
    ok, detail = finding(shard, "registry")
    assert (ok, "puts an older key in the place of a newer one" in detail) == (False, True)


def test_a_stolen_issuing_authoritys_key_is_renewed_by_the_root(shard: Path) -> None:
    stolen = Authority.of(secret(shard, ISSUING_PURPOSE), *pems(shard))
    with open_shard(shard, write=True) as opened:
        renew_issuing(opened, NOW + 10)
        opened.journal.commit(NOW + 11)
    table = admissions_of([stolen.issue(Identity(Role.HEAD_END, name="EVIL"), signing_request(key(66)), NOW)])
    word = stolen.certify_admissions(table)
    registrar = secret(shard, REGISTRAR_PURPOSE)
    assert sent(shard, SentChanges(table, certification=word), registrar) is Reason.NO_GOOD_ROW
    with open_shard(shard, write=True) as opened:
        assert opened.registrar.admit([request(Identity(Role.GATEWAY, name="GW"), 3)], NOW + 30, vouched=True)[1]
        opened.journal.commit(NOW + 30)
        assert opened.directory.sender("NORTH", NOW + 30)  # certified before: stays good
        north = opened.registrar.certificates.of(NORTH)[0]
        assert opened.registrar.authorities.issuer_pem(north.der) == pems_before(opened.registrar.authorities)
    assert finding(shard, "registry")[0]
    assert pems(shard)[1] == (shard / "registry" / "issuing.pem").read_text()


def pems(path: Path) -> tuple[str, str]:
    with open_shard(path) as opened:
        newest = opened.registrar.authorities.newest
        return newest.root_pem, newest.issuing_pem


def pems_before(authorities: Authorities) -> str:
    return authorities.records[0].issuing_pem


def test_another_root_takes_nobodys_place(shard: Path) -> None:
    other = AuthorityRecord.of(Authority(ORIGIN, bytes(32), bytes([9]) * 32, NOW + 5), public_key(bytes(32)), NOW + 5)
    with open_shard(shard, write=True) as opened:
        with pytest.raises(RegistryError, match="another root"):
            opened.registrar.renew(other, NOW + 12)
        Recorder(opened.journal, opened.registrar.vault, "").put_document(other.document(), Span(NOW + 12, 0))
        opened.journal.commit(NOW + 12)
    assert sent(shard, SentChanges(point(8)), bytes(32)) is Reason.BAD_SIGNATURE
    ok, detail = finding(shard, "registry")
    assert (ok, "another root than the one that founded the shard" in detail) == (False, True)


def test_a_stolen_senders_key_is_revoked_from_when_it_was_stolen(shard: Path) -> None:
    with open_shard(shard, write=True) as opened:
        certificate = opened.registrar.certificates.of(NORTH)[0]
        opened.registrar.revoke(certificate.fingerprint, Why.KEY_COMPROMISE, NOW + 10, since=NOW + 5)
        assert opened.registrar.admit([request(NORTH, 2)], NOW + 10, vouched=True)[1]
        opened.journal.commit(NOW + 10)
        assert opened.directory.sender("NORTH", NOW + 10).public_key == key(2).public_key().public_bytes_raw()
    assert finding(shard, "registry")[0]


def reading(counter: int) -> Readings:
    zero = np.zeros(1, dtype=np.int64)
    return Readings(
        customer=np.array([7], dtype=np.int32),
        meter=np.array([77]),
        counter=np.array([counter]),
        import_wh=zero,
        export_wh=zero,
        reactive_varh=zero,
        voltage_mv=zero + 230_000,
        tag=np.zeros(1, dtype="V16"),
    )


def checked(path: Path, tagged: Readings) -> bool:
    """Whether an intake takes a code, with the keys that it has."""
    with open_shard(path) as opened:
        vault, known = opened.registrar.vault, opened.directory.key_generations()
        codes = DeviceCodes(lambda generation: vault.held_purpose_key(codes_purpose(generation)), [77], known)
        return bool(codes.check(tagged, 5)[0])


def test_a_stolen_meters_key_is_good_no_more_from_the_next_counter_on(shard: Path) -> None:
    old = DeviceCodes(secret(shard, METER_PURPOSE), [77])
    with open_shard(shard, write=True) as opened:
        generation = int(opened.registrar.next_generations([77])[0])
        row = KeyGenerations(np.array([77]), np.array([generation], dtype=np.int32), np.array([100]))
        opened.registrar.rotate_codes(row, NOW + 10)
        opened.journal.commit(NOW + 10)
        known = opened.directory.key_generations()
    new = DeviceCodes(secret(shard, METER_PURPOSE), [77], known)
    assert checked(shard, old.tag(reading(99), 5))
    assert not checked(shard, old.tag(reading(100), 5))
    assert checked(shard, new.tag(reading(100), 5))


def test_what_checks_codes_opens_no_later_generation(shard: Path) -> None:
    """Whoever broke into the intake has the keys of the generations in use: after renewal, nothing that counts."""
    master = secret(shard, METER_PURPOSE)
    with Vault.open(shard / "vault") as vault:
        taken = vault.held_purpose_key(codes_purpose(0))
        assert taken == generation_key(master, 0) != master
        renew_meter_master(vault)
    with open_shard(shard, write=True) as opened:
        (generation,) = opened.registrar.next_generations([77]).tolist()
        assert generation == 1
        row = KeyGenerations(np.array([77]), np.array([generation], dtype=np.int32), np.array([0]))
        opened.registrar.rotate_codes(row, NOW + 10)
        opened.journal.commit(NOW + 10)
    assert not checked(shard, DeviceCodes(lambda _: taken, [77], row).tag(reading(5), 5))
    assert not checked(shard, DeviceCodes(master, [77], row).tag(reading(5), 5))  # nor has the old master
    assert checked(shard, DeviceCodes(secret(shard, METER_PURPOSE), [77], row).tag(reading(5), 5))


def test_after_a_renewal_no_meter_is_given_a_generation_from_before_it(shard: Path) -> None:
    with open_shard(shard, write=True) as opened:
        opened.registrar.codes_key(1)  # of the old master, in the vault
        renew_meter_master(opened.registrar.vault)
        assert opened.registrar.next_generations([77, 78]).tolist() == [2, 2]


def test_a_meters_key_is_the_one_that_its_codes_are_made_with(shard: Path) -> None:
    import hmac

    master = secret(shard, METER_PURPOSE)
    row = DeviceCodes(master, [77]).tag(reading(5), 5)
    covered = np.concatenate([row.rows().view(np.uint8)[:-16], np.array([5], dtype="<i8").view(np.uint8)]).tobytes()
    own = meter_key(generation_key(master, 0), 77, 0)
    assert hmac.digest(own, covered, "sha256")[:16] == row.tag.tobytes()


def test_a_root_that_is_another_shards_certifies_nobody_here(shard: Path, tmp_path: Path) -> None:
    create_shard(tmp_path / "other", ORIGIN, NOW)
    other = tmp_path / "other" / "vault" / "authority"
    with open_shard(shard, write=True, authority=other) as opened:
        with pytest.raises(RegistryError, match="not that of its certificate"):
            renew_issuing(opened, NOW + 10)
        with pytest.raises(RegistryError, match="not that of its certificate"):
            opened.registrar.admit([request(NORTH, 2)], NOW + 10, vouched=True)
    assert secret(tmp_path / "other", ROOT_PURPOSE) != secret(shard, ROOT_PURPOSE)


def test_no_key_is_put_in_clear_where_the_vault_is_wrapped(shard: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    outside = shard.parent / "outside.key"
    outside.write_bytes(bytes(range(32)))
    outside.chmod(0o600)
    monkeypatch.setenv("TELLEGEN_VAULT_KEY_KEYS", f"file:{outside}")
    file = shard / "vault" / "registrar.key"
    with Vault.open(shard / "vault") as vault:
        vault.wrap(wrapper_wanted("keys"))
        before = file.read_bytes()
        for there in (True, False):
            with pytest.raises(CustodyError, match="not put in clear"):
                renewed_role(vault, REGISTRAR_PURPOSE)
            assert (file.read_bytes() if file.exists() else None) == (before if there else None)
            file.unlink(missing_ok=True)
