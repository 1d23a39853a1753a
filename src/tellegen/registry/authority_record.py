"""The authority on record: whose certificates count, and who may change the registry.

A document holds the certificates of the root, of the issuing authority, and of the registrar. The first of them founds
the shard; each later one keeps the root and renews what stands under it. Whoever can write the record can put one
there, but none that counts: the root has certified the issuing authority, and this the registrar.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding

from tellegen.privacy.recorder import Recorder
from tellegen.records import AUTHORITY_DOCUMENT, Document, shard_of
from tellegen.registry.authority import Authority
from tellegen.registry.identity import SCHEME, RegistryError

_CERTIFICATES = 3
_CHARACTERS_MAX = 16_384
_RENEWED_MAX = 1000
"""How often an authority may be renewed."""


@dataclass(frozen=True, slots=True)
class AuthorityRecord:
    """Three certificates, each but the first signed by the one before.

    Attributes
    ----------
    root, issuing, registrar : certificates.
    """

    root: x509.Certificate
    issuing: x509.Certificate
    registrar: x509.Certificate

    @classmethod
    def of(cls, authority: Authority, registrar_key: bytes, begins: int) -> AuthorityRecord:
        """As an authority certifies a registrar, by its public key (32 bytes), from a time on."""
        return cls(authority.root, authority.issuing, authority.certify_registrar(registrar_key, begins))

    @classmethod
    def parse(cls, content: bytes, origin: str) -> AuthorityRecord:
        """From the content of a document of the shard of this name.

        Raises
        ------
        RegistryError : it is no such document, or one certificate is not signed by the one before.
        """
        try:
            if len(content) > _CHARACTERS_MAX:
                raise ValueError("it is too long")
            found = x509.load_pem_x509_certificates(content)
            if len(found) != _CERTIFICATES:
                raise ValueError(f"it has {len(found)} certificates, not {_CERTIFICATES}")
            for above, below in ((found[0], found[0]), (found[0], found[1]), (found[1], found[2])):
                below.verify_directly_issued_by(above)
                if not isinstance(below.public_key(), Ed25519PublicKey):
                    raise TypeError("a key is not Ed25519")
            names = found[2].extensions.get_extension_for_class(x509.SubjectAlternativeName).value
            if names.get_values_for_type(x509.UniformResourceIdentifier) != [f"{SCHEME}{origin}/registrar"]:
                raise ValueError("it does not certify the registrar of this shard")
        except (ValueError, TypeError, InvalidSignature, x509.ExtensionNotFound) as error:
            raise RegistryError(f"the authority on record cannot be read: {error or 'a signature is wrong'}") from None
        return cls(*found)

    def document(self) -> Document:
        """As it goes on record."""
        content = b"".join(each.public_bytes(Encoding.PEM) for each in (self.root, self.issuing, self.registrar))
        return Document(AUTHORITY_DOCUMENT, content)

    def succeeds(self, before: AuthorityRecord) -> bool:
        """Whether it may take the place of another: under the same root, and no older in anything."""
        times = [(each.issuing.not_valid_before_utc, each.registrar.not_valid_before_utc) for each in (before, self)]
        renewed = self.registrar == before.registrar or times[1][1] > times[0][1]
        return self.root == before.root and times[1][0] >= times[0][0] and renewed

    @property
    def root_pem(self) -> str:
        """The certificate that others must trust."""
        return self.root.public_bytes(Encoding.PEM).decode()

    @property
    def issuing_pem(self) -> str:
        """The certificate between the root and everybody."""
        return self.issuing.public_bytes(Encoding.PEM).decode()

    @property
    def root_key(self) -> bytes:
        """Public key of the root authority, 32 bytes."""
        return _raw(self.root)

    @property
    def issuing_key(self) -> bytes:
        """Public key of the issuing authority, 32 bytes."""
        return _raw(self.issuing)

    @property
    def registrar_key(self) -> bytes:
        """Public key of the registrar, 32 bytes."""
        return _raw(self.registrar)


@dataclass(frozen=True, slots=True)
class Authorities:
    """Every authority that counted, the first one founding; none of a shard without one."""

    records: tuple[AuthorityRecord, ...] = ()

    @classmethod
    def of(cls, recorder: Recorder) -> Authorities:
        """From the record; a document that may not take the place of the one before counts for nothing."""
        found: list[AuthorityRecord] = []
        for content in _documents(recorder):
            try:
                each = AuthorityRecord.parse(content, shard_of(recorder.journal.verifier.name))
            except RegistryError:
                continue  # `tellegen verify` says so
            if not found or each.succeeds(found[-1]):
                found.append(each)
        return cls(tuple(found))

    @property
    def newest(self) -> AuthorityRecord:
        """The one that counts now.

        Raises
        ------
        RegistryError : there is none.
        """
        if not self.records:
            raise RegistryError("no authority is on record; `tellegen registry init` and `tellegen init` put one there")
        return self.records[-1]

    def issuer_pem(self, der: bytes) -> str:
        """Certificate of the issuing authority that signed a certificate.

        Raises
        ------
        RegistryError : none of them did.
        """
        certificate = x509.load_der_x509_certificate(der)
        for record in reversed(self.records):
            try:
                certificate.verify_directly_issued_by(record.issuing)
            except (ValueError, TypeError, InvalidSignature):
                continue
            return record.issuing_pem
        raise RegistryError("the certificate is of no issuing authority on record")


def _documents(recorder: Recorder) -> Iterator[bytes]:
    """Contents of the documents of an authority, in the order in which they went on record."""
    entries = sorted(recorder.journal.latest("document", name=AUTHORITY_DOCUMENT, count=_RENEWED_MAX))
    for index in entries:
        document = recorder.vault.unseal_document(recorder.journal.entry(index), recorder.journal.payload(index))
        if document is not None and not document.private:
            yield document.content


def _raw(certificate: x509.Certificate) -> bytes:
    key = certificate.public_key()
    assert isinstance(key, Ed25519PublicKey)
    return key.public_bytes_raw()
