"""The certificate authority: signing requests in, X.509 certificates and lists of revoked ones out (RFC 5280).

A root signs one issuing authority, and this signs everybody. All keys are Ed25519. A request proves possession of its
key by its own signature; whom the certificate names is decided by the authority and never by the request.

What a certificate says follows from identity, key and validity alone, its serial number too (a keyed hash of these,
159 bits), and Ed25519 signatures are deterministic: the same enrolment again is the same certificate.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import IntEnum

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from tellegen.registry.identity import Identity, RegistryError

REQUEST_BYTES_MAX = 8192
VALID_DAYS = 3650
"""Of a certificate, where nothing else is asked for: the life of a meter between two calibrations."""
AUTHORITY_DAYS = 3 * VALID_DAYS
CRL_DAYS = 7
ORIGIN_CHARACTERS_MAX = 64
"""What fits the organisation of a certificate (X.520)."""
_DAY_S = 86_400
_SERIAL_BYTES = 20


class Reason(IntEnum):
    """Why a certificate is revoked (RFC 5280, 5.3.1). A revocation is final here: holds are not offered."""

    UNSPECIFIED = 0
    KEY_COMPROMISE = 1
    CA_COMPROMISE = 2
    AFFILIATION_CHANGED = 3
    SUPERSEDED = 4
    CESSATION_OF_OPERATION = 5
    PRIVILEGE_WITHDRAWN = 9
    AA_COMPROMISE = 10


_FLAGS = {reason: x509.ReasonFlags[reason.name.lower()] for reason in Reason}


@dataclass(frozen=True, slots=True)
class Certificate:
    """A certificate and what the registry looks up by.

    Attributes
    ----------
    identity : whom it names. public_key : its Ed25519 key. der : the certificate itself.
    valid_from, valid_until : seconds since the epoch; the end is exclusive.
    """

    identity: Identity
    public_key: bytes
    serial: int
    valid_from: int
    valid_until: int
    der: bytes

    @property
    def fingerprint(self) -> bytes:
        """SHA-256 of the certificate."""
        return hashlib.sha256(self.der).digest()

    @property
    def lfdi(self) -> str:
        """Long-form device identifier: the fingerprint's leftmost 160 bits in hex (IEEE 2030.5, 6.3.4)."""
        return self.fingerprint[:20].hex().upper()

    @property
    def pem(self) -> str:
        """The certificate as text."""
        return pem(self.der)


class Authority:
    """Root and issuing authority of a shard.

    Parameters
    ----------
    origin : name of the shard; every certificate names it.
    root_seed, issuing_seed : their Ed25519 keys, 32 bytes each.
    created : when the authorities began, seconds since the epoch.

    Raises
    ------
    RegistryError : the name is too long, or not printable ASCII.

    >>> from tellegen.records import Role
    >>> authority = Authority("city.example/shard-1", bytes(32), bytes([1]) * 32, created=0)
    >>> key = Ed25519PrivateKey.from_private_bytes(bytes([2]) * 32)
    >>> meter = authority.issue(Identity(Role.METER, 77), signing_request(key), valid_from=0)
    >>> meter.identity, meter == authority.issue(Identity(Role.METER, 77), signing_request(key), valid_from=0)
    (Identity(role=<Role.METER: 1>, number=77, name=''), True)
    """

    def __init__(self, origin: str, root_seed: bytes, issuing_seed: bytes, created: int) -> None:
        if len(origin) > ORIGIN_CHARACTERS_MAX or not (origin.isascii() and origin.isprintable()):
            raise RegistryError(f"the name of a shard is printable ASCII, at most {ORIGIN_CHARACTERS_MAX} characters")
        self.origin, self.created = origin, created
        self._root = Ed25519PrivateKey.from_private_bytes(root_seed)
        self._issuing = Ed25519PrivateKey.from_private_bytes(issuing_seed)
        self._serial_key = hashlib.blake2b(b"tellegen certificate serials", key=issuing_seed, digest_size=32).digest()
        root_name, issuing_name = _name(origin, "root authority"), _name(origin, "issuing authority")
        self.root = self._certify_authority(root_name, root_name, self._root, path_length=1)
        self.issuing = self._certify_authority(issuing_name, root_name, self._issuing, path_length=0)
        self._authority_key = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._issuing.public_key())

    def seeds(self) -> tuple[str, bytes, bytes, int]:
        """What makes the same authority in another process; secret."""
        return self.origin, self._root.private_bytes_raw(), self._issuing.private_bytes_raw(), self.created

    @property
    def root_pem(self) -> str:
        """The certificate that others must trust."""
        return self.root.public_bytes(Encoding.PEM).decode()

    @property
    def issuing_pem(self) -> str:
        """The certificate between the root and everybody."""
        return self.issuing.public_bytes(Encoding.PEM).decode()

    def issue(self, identity: Identity, request: bytes, valid_from: int, days: int = VALID_DAYS) -> Certificate:
        """Certify whoever asks as `identity`.

        Parameters
        ----------
        request : PKCS#10 signing request, PEM or DER; only its key counts.
        valid_from : seconds since the epoch.

        Raises
        ------
        RegistryError : the request cannot be read, is not signed by its own key, or the key is not Ed25519; the
            certificate would outlive the authority.
        """
        key = requested_key(request)
        valid_until = valid_from + days * _DAY_S
        if days < 1 or valid_from < self.created or valid_until > self.created + AUTHORITY_DAYS * _DAY_S:
            raise RegistryError(
                f"{identity}: a certificate is valid for a day or more, within the authority's own time from "
                f"{_time(self.created):%Y-%m-%d} on for {AUTHORITY_DAYS} days"
            )
        public = key.public_bytes(Encoding.Raw, PublicFormat.Raw)
        said = f"{identity.uri(self.origin)}\n{valid_from}\n{valid_until}\n".encode() + public
        serial = self._serial(said)
        built = (
            x509.CertificateBuilder()
            .subject_name(_name(self.origin, str(identity)))
            .issuer_name(self.issuing.subject)
            .public_key(key)
            .serial_number(serial)
            .not_valid_before(_time(valid_from))
            .not_valid_after(_time(valid_until - 1))  # X.509 counts the last second in
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(digital_signature=True), critical=True)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False)
            .add_extension(
                x509.SubjectAlternativeName([x509.UniformResourceIdentifier(identity.uri(self.origin))]), critical=False
            )
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
            .add_extension(self._authority_key, critical=False)
            .sign(self._issuing, None)
        )
        return Certificate(identity, public, serial, valid_from, valid_until, built.public_bytes(Encoding.DER))

    def revocation_list(self, revoked: Iterable[tuple[int, int, Reason]], number: int, now: int) -> str:
        """The list of revoked certificates (CRL), PEM.

        Parameters
        ----------
        revoked : serial number, time (seconds since the epoch) and reason of each.
        number : of this list, rising.
        now : when it is issued; the next is due after `CRL_DAYS`.
        """
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(self.issuing.subject)
            .last_update(_time(now))
            .next_update(_time(now + CRL_DAYS * _DAY_S))
            .add_extension(x509.CRLNumber(number), critical=False)
            .add_extension(self._authority_key, critical=False)
        )
        for serial, at, reason in revoked:
            entry = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(_time(at))
            if reason is not Reason.UNSPECIFIED:  # 5.3.1: then the extension should be absent
                entry = entry.add_extension(x509.CRLReason(_FLAGS[reason]), critical=False)
            builder = builder.add_revoked_certificate(entry.build())
        return builder.sign(self._issuing, None).public_bytes(Encoding.PEM).decode()

    def _certify_authority(
        self, subject: x509.Name, issuer: x509.Name, key: Ed25519PrivateKey, path_length: int
    ) -> x509.Certificate:
        public = key.public_key()
        said = f"{subject.rfc4514_string()}\n{self.created}\n".encode() + public.public_bytes(
            Encoding.Raw, PublicFormat.Raw
        )
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(issuer)
            .public_key(public)
            .serial_number(self._serial(said))
            .not_valid_before(_time(self.created))
            .not_valid_after(_time(self.created + AUTHORITY_DAYS * _DAY_S))
            .add_extension(x509.BasicConstraints(ca=True, path_length=path_length), critical=True)
            .add_extension(_usage(key_cert_sign=True, crl_sign=True), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._root.public_key()), critical=False)
            .sign(self._root, None)
        )

    def _serial(self, said: bytes) -> int:
        digest = hashlib.blake2b(said, key=self._serial_key, digest_size=_SERIAL_BYTES).digest()
        return int.from_bytes(digest, "big") >> 1 | 1  # positive, at most 20 bytes (4.1.2.2)


def signing_request(key: Ed25519PrivateKey) -> bytes:
    """A PKCS#10 request for a certificate of a key, PEM; it names nobody, the authority decides that."""
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    return builder.sign(key, None).public_bytes(Encoding.PEM)


def requested_key(request: bytes) -> Ed25519PublicKey:
    """Key of a signing request whose sender has shown to possess it.

    Raises
    ------
    RegistryError : as in `Authority.issue`.
    """
    if len(request) > REQUEST_BYTES_MAX:
        raise RegistryError(f"a signing request has at most {REQUEST_BYTES_MAX} bytes, not {len(request)}")
    load = x509.load_pem_x509_csr if request.lstrip().startswith(b"-----") else x509.load_der_x509_csr
    try:
        parsed = load(request)
        key, possessed = parsed.public_key(), parsed.is_signature_valid
    except (ValueError, TypeError, UnsupportedAlgorithm, x509.InvalidVersion) as error:
        raise RegistryError(f"not a PKCS#10 signing request that can be used: {error}") from None
    if not isinstance(key, Ed25519PublicKey):
        raise RegistryError(f"the request is for a key of type {type(key).__name__}; Ed25519 is needed")
    if not possessed:
        raise RegistryError("the request is not signed by its own key, so nobody has shown to possess it")
    return key


def pem(der: bytes) -> str:
    """A certificate as text."""
    return x509.load_der_x509_certificate(der).public_bytes(Encoding.PEM).decode()


def _name(origin: str, title: str) -> x509.Name:
    return x509.Name(
        [x509.NameAttribute(NameOID.ORGANIZATION_NAME, origin), x509.NameAttribute(NameOID.COMMON_NAME, title)]
    )


def _usage(*, digital_signature: bool = False, key_cert_sign: bool = False, crl_sign: bool = False) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=digital_signature,
        key_cert_sign=key_cert_sign,
        crl_sign=crl_sign,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _time(seconds: int) -> datetime:
    return datetime.fromtimestamp(seconds, tz=UTC)
