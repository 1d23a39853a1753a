"""The certificate authority: signing requests in, X.509 certificates and lists of revoked ones out (RFC 5280).

A root signs one issuing authority at a time, and this signs everybody, and whom it admits (`admissions_message`), so
that nobody else can. The root's key is needed to begin, and for a new issuing authority. All keys are Ed25519. A
request proves possession of its key by its own signature; whom the certificate names is decided by the authority and
never by the request.

What a certificate says follows from identity, key and validity alone, its serial number too (a keyed hash of these,
159 bits), and Ed25519 signatures are deterministic: the same enrolment again is the same certificate.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import IntEnum

import numpy as np
from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from tellegen.records import Admissions, Certifications, admissions_message
from tellegen.registry.identity import SCHEME, Identity, RegistryError

REQUEST_BYTES_MAX = 8192
VALID_DAYS = 3650
"""Of a certificate, where nothing else is asked for: the life of a meter between two calibrations."""
AUTHORITY_DAYS = 3 * VALID_DAYS
CRL_DAYS = 7
ORIGIN_CHARACTERS_MAX = 64
"""What fits the organisation of a certificate (X.520)."""
_DAY_S = 86_400
_ROOT, _ISSUING = "root authority", "issuing authority"
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
    """Root and issuing authority of a shard, with the key of the issuing one.

    Parameters
    ----------
    origin : name of the shard; every certificate names it.
    root_seed, issuing_seed : their Ed25519 keys, 32 bytes each; that of the root is not kept.
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
        root = Ed25519PrivateKey.from_private_bytes(root_seed)
        issuing = Ed25519PrivateKey.from_private_bytes(issuing_seed)
        serial_key = _serial_key(issuing_seed)
        self._take(
            _certify_authority(
                _name(origin, _ROOT), _name(origin, _ROOT), root, root.public_key(), created, 1, serial_key
            ),
            _certify_authority(
                _name(origin, _ISSUING), _name(origin, _ROOT), root, issuing.public_key(), created, 0, serial_key
            ),
            issuing_seed,
        )

    @classmethod
    def of(cls, issuing_seed: bytes, root_pem: str, issuing_pem: str) -> Authority:
        """The issuing authority of these certificates: what certifies from day to day needs no root's key.

        Raises
        ------
        RegistryError : they are no such certificates, or the key is not that of the issuing one.
        """
        try:
            root, issuing = (x509.load_pem_x509_certificate(text.encode()) for text in (root_pem, issuing_pem))
            issuing.verify_directly_issued_by(root)
        except (ValueError, TypeError, InvalidSignature) as error:
            raise RegistryError(f"the certificates of the authority do not fit together: {error}") from None
        made = cls.__new__(cls)
        made._take(root, issuing, issuing_seed)
        if made._issuing.public_key() != issuing.public_key():
            raise RegistryError("the key of the issuing authority is not that of its certificate")
        return made

    def _take(self, root: x509.Certificate, issuing: x509.Certificate, issuing_seed: bytes) -> None:
        self.root, self.issuing, self._seed = root, issuing, issuing_seed
        self._issuing = Ed25519PrivateKey.from_private_bytes(issuing_seed)
        (named,) = root.subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)
        self.origin = str(named.value)
        self.created = int(issuing.not_valid_before_utc.timestamp())
        self.ends = int(issuing.not_valid_after_utc.timestamp()) + 1
        self._serial_key = _serial_key(issuing_seed)
        self._authority_key = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._issuing.public_key())

    @classmethod
    def successor(cls, root: x509.Certificate, root_seed: bytes, issuing_seed: bytes, begins: int) -> Authority:
        """Another issuing authority under the same root, which certifies it until its own end."""
        days = (int(root.not_valid_after_utc.timestamp()) + 1 - begins) // _DAY_S
        signer = Ed25519PrivateKey.from_private_bytes(root_seed)
        key = Ed25519PrivateKey.from_private_bytes(issuing_seed).public_key()
        (named,) = root.subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)
        name = _name(str(named.value), _ISSUING)
        issuing = _certify_authority(name, root.subject, signer, key, begins, 0, _serial_key(issuing_seed), days)
        return cls.of(issuing_seed, *(each.public_bytes(Encoding.PEM).decode() for each in (root, issuing)))

    def seeds(self) -> tuple[bytes, str, str]:
        """What makes the same authority in another process (`of`); secret."""
        return self._seed, self.root_pem, self.issuing_pem

    @property
    def issuing_key(self) -> bytes:
        """Public key of the issuing authority, 32 bytes."""
        return self._issuing.public_key().public_bytes_raw()

    def certify_admissions(self, admissions: Admissions) -> Certifications:
        """The row that goes on record before admissions: the issuing authority has certified all of them."""
        rows = admissions.rows().tobytes()
        signature = self._issuing.sign(admissions_message(self.origin, rows))
        return Certifications(
            rows_sha256=np.frombuffer(hashlib.sha256(rows).digest(), dtype="V32"),
            authority=np.frombuffer(self.issuing_key, dtype="V32"),
            signature=np.frombuffer(signature, dtype="V64"),
        )

    def certify_registrar(self, public_key: bytes, begins: int) -> x509.Certificate:
        """Certificate of the key that signs changes of the registry, until the authority's own end."""
        key = Ed25519PublicKey.from_public_bytes(public_key)
        title = "registrar"
        return self._certify(title, f"{SCHEME}{self.origin}/{title}", key, begins, self.ends)

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
        if days < 1 or valid_from < self.created or valid_until > self.ends:
            raise RegistryError(
                f"{identity}: a certificate is valid for a day or more, within the authority's own time from "
                f"{_time(self.created):%Y-%m-%d} on for {(self.ends - self.created) // _DAY_S} days"
            )
        built = self._certify(str(identity), identity.uri(self.origin), key, valid_from, valid_until)
        public = key.public_bytes(Encoding.Raw, PublicFormat.Raw)
        return Certificate(
            identity, public, built.serial_number, valid_from, valid_until, built.public_bytes(Encoding.DER)
        )

    def _certify(
        self, title: str, uri: str, key: Ed25519PublicKey, valid_from: int, valid_until: int
    ) -> x509.Certificate:
        said = f"{uri}\n{valid_from}\n{valid_until}\n".encode() + key.public_bytes_raw()
        return (
            x509.CertificateBuilder()
            .subject_name(_name(self.origin, title))
            .issuer_name(self.issuing.subject)
            .public_key(key)
            .serial_number(_serial(self._serial_key, said))
            .not_valid_before(_time(valid_from))
            .not_valid_after(_time(valid_until - 1))  # X.509 counts the last second in
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(digital_signature=True), critical=True)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False)
            .add_extension(x509.SubjectAlternativeName([x509.UniformResourceIdentifier(uri)]), critical=False)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
            .add_extension(self._authority_key, critical=False)
            .sign(self._issuing, None)
        )

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
    subject: x509.Name,
    issuer: x509.Name,
    root: Ed25519PrivateKey,
    public: Ed25519PublicKey,
    created: int,
    path_length: int,
    serial_key: bytes,
    days: int = AUTHORITY_DAYS,
) -> x509.Certificate:
    said = f"{subject.rfc4514_string()}\n{created}\n".encode() + public.public_bytes_raw()
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public)
        .serial_number(_serial(serial_key, said))
        .not_valid_before(_time(created))
        .not_valid_after(_time(created + days * _DAY_S))
        .add_extension(x509.BasicConstraints(ca=True, path_length=path_length), critical=True)
        .add_extension(_usage(key_cert_sign=True, crl_sign=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(root.public_key()), critical=False)
        .sign(root, None)
    )


def _serial_key(issuing_seed: bytes) -> bytes:
    return hashlib.blake2b(b"tellegen certificate serials", key=issuing_seed, digest_size=32).digest()


def _serial(key: bytes, said: bytes) -> int:
    digest = hashlib.blake2b(said, key=key, digest_size=_SERIAL_BYTES).digest()
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
