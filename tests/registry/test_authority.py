"""The certificate authority: whom it certifies, what its certificates say, and that others believe them."""

from __future__ import annotations

import shutil
import subprocess
from datetime import UTC, datetime

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given
from hypothesis import strategies as st

from tellegen.records import Role
from tellegen.registry import (
    Authority,
    CertificateStore,
    Identity,
    Reason,
    RegistryError,
    requested_key,
    signing_request,
)

NOW = 1_700_000_000
AUTHORITY = Authority("city.example/shard-1", bytes(32), bytes([1]) * 32, NOW)
KEY = Ed25519PrivateKey.from_private_bytes(bytes([2]) * 32)
REQUEST = signing_request(KEY)
METER = Identity(Role.METER, 77)
OPENSSL = shutil.which("openssl")

IDENTITIES = st.one_of(
    st.builds(Identity, st.sampled_from([Role.METER, Role.PARTICIPANT]), st.integers(0, 2**31 - 1)),
    st.builds(
        Identity,
        st.sampled_from([Role.HEAD_END, Role.GATEWAY, Role.WITNESS]),
        name=st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=48),
    ),
)


@given(IDENTITIES)
def test_a_certificate_names_whom_the_authority_decided(identity: Identity) -> None:
    certificate = x509.load_der_x509_certificate(AUTHORITY.issue(identity, REQUEST, NOW).der)
    (uri,) = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert uri.value == identity.uri("city.example/shard-1")
    certificate.verify_directly_issued_by(AUTHORITY.issuing)
    AUTHORITY.issuing.verify_directly_issued_by(AUTHORITY.root)


def test_the_subject_of_a_request_counts_for_nothing() -> None:
    liar = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "head-end NORTH")])
    request = x509.CertificateSigningRequestBuilder().subject_name(liar).sign(KEY, None).public_bytes(Encoding.DER)
    assert AUTHORITY.issue(METER, request, NOW) == AUTHORITY.issue(METER, REQUEST, NOW)


def test_the_same_enrolment_again_is_the_same_certificate() -> None:
    first = AUTHORITY.issue(METER, REQUEST, NOW)
    assert AUTHORITY.issue(METER, REQUEST, NOW).der == first.der
    others = [AUTHORITY.issue(Identity(Role.METER, 78), REQUEST, NOW), AUTHORITY.issue(METER, REQUEST, NOW + 1)]
    assert len({first.serial, *(c.serial for c in others)}) == 3


def test_who_does_not_possess_the_key_is_refused() -> None:
    der = x509.load_pem_x509_csr(REQUEST).public_bytes(Encoding.DER)
    with pytest.raises(RegistryError, match="not signed by its own key"):
        requested_key(der[:-1] + bytes([der[-1] ^ 1]))


def test_only_ed25519_keys_are_certified() -> None:
    other = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    request = other.sign(ec.generate_private_key(ec.SECP256R1()), SHA256()).public_bytes(Encoding.PEM)
    with pytest.raises(RegistryError, match="Ed25519 is needed"):
        requested_key(request)


@given(st.one_of(st.binary(max_size=300), st.integers(0, 10_000).map(lambda k: k)))
def test_a_damaged_request_is_one_clear_error(damage: bytes | int) -> None:
    der = bytearray(x509.load_pem_x509_csr(REQUEST).public_bytes(Encoding.DER))
    if isinstance(damage, int):
        der[damage // 8 % len(der)] ^= 1 << damage % 8
        damage = bytes(der)
    with pytest.raises(RegistryError):
        requested_key(damage)


def test_a_request_of_any_length_is_not_read() -> None:
    with pytest.raises(RegistryError, match="at most 8192 bytes"):
        requested_key(REQUEST + b" " * 9000)


@pytest.mark.parametrize(("valid_from", "days"), [(NOW - 1, 10), (NOW, 0), (NOW, 20_000)])
def test_no_certificate_outlives_its_authority(valid_from: int, days: int) -> None:
    with pytest.raises(RegistryError, match="within the authority's own time"):
        AUTHORITY.issue(METER, REQUEST, valid_from, days)


@pytest.mark.parametrize(
    ("role", "number", "name"),
    [
        (Role.METER, -1, ""),
        (Role.METER, 1, "x"),
        (Role.PARTICIPANT, 2**31, ""),
        (Role.HEAD_END, 0, ""),
        (Role.HEAD_END, 3, "x"),
        (Role.GATEWAY, 0, "é"),
        (Role.GATEWAY, 0, " x"),
        (Role.WITNESS, 0, "x" * 49),
    ],
)
def test_an_identity_is_a_number_or_a_name(role: Role, number: int, name: str) -> None:
    with pytest.raises(RegistryError):
        Identity(role, number, name)


def test_a_revoked_certificate_stands_in_the_list_with_its_reason() -> None:
    issued = AUTHORITY.issue(METER, REQUEST, NOW)
    text = AUTHORITY.revocation_list([(issued.serial, NOW + 9, Reason.KEY_COMPROMISE)], number=4, now=NOW + 10)
    listed = x509.load_pem_x509_crl(text.encode())
    assert listed.is_signature_valid(AUTHORITY.issuing.public_key())
    (entry,) = listed
    assert entry.serial_number == issued.serial
    assert entry.revocation_date_utc == datetime.fromtimestamp(NOW + 9, tz=UTC)
    assert entry.extensions.get_extension_for_class(x509.CRLReason).value.reason == x509.ReasonFlags.key_compromise


@pytest.mark.skipif(OPENSSL is None, reason="no openssl program here")
def test_openssl_believes_the_chain_and_the_list(tmp_path) -> None:
    """An outside referee: purpose, chain, revocation; and it refuses the revoked one."""
    meters = [AUTHORITY.issue(Identity(Role.METER, number), REQUEST, NOW) for number in (77, 78)]
    revoked = AUTHORITY.revocation_list([(meters[1].serial, NOW, Reason.SUPERSEDED)], number=1, now=NOW)
    root_list = tmp_path / "empty.pem"
    for name, text in (("root", AUTHORITY.root_pem), ("issuing", AUTHORITY.issuing_pem), ("list", revoked)):
        (tmp_path / f"{name}.pem").write_text(text)
    root_list.write_text(revoked)

    def verdict(number: int, *more: str) -> tuple[int, str]:
        file = tmp_path / f"{number}.pem"
        file.write_text(meters[number - 77].pem)
        command = [str(OPENSSL), "verify", "-x509_strict", "-purpose", "sslclient", "-attime", str(NOW + 60), *more]
        command += ["-CAfile", str(tmp_path / "root.pem"), "-untrusted", str(tmp_path / "issuing.pem"), str(file)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        return done.returncode, done.stdout + done.stderr

    checked = ("-crl_check", "-CRLfile", str(tmp_path / "list.pem"))
    assert verdict(77)[0] == 0, verdict(77)[1]
    assert verdict(77, *checked)[0] == 0, verdict(77, *checked)[1]
    status, words = verdict(78, *checked)
    assert status != 0
    assert "revoked" in words


def test_certificates_are_found_by_fingerprint_and_identity(tmp_path) -> None:
    old, new = AUTHORITY.issue(METER, REQUEST, NOW), AUTHORITY.issue(METER, REQUEST, NOW + 5)
    other = AUTHORITY.issue(Identity(Role.HEAD_END, name="NORTH"), REQUEST, NOW)
    with CertificateStore(tmp_path / "certificates.sqlite") as store:
        store.add([old, new, other])
        store.add([old])
    with CertificateStore(tmp_path / "certificates.sqlite") as store:
        assert len(store) == 3
        assert store.by_fingerprint(new.fingerprint) == new
        assert store.by_fingerprint(bytes(32)) is None
        assert store.of(other.identity) == [other]
        assert store.of(METER) == [old, new]
        assert store.of(Identity(Role.METER, 79)) == []


def test_another_file_is_no_store_of_certificates(tmp_path) -> None:
    (tmp_path / "x").write_bytes(b"not a database, but long enough to look like a file")
    with pytest.raises(RegistryError, match="is not a store"):
        CertificateStore(tmp_path / "x")
