"""What a meter sent, checked without its operator: one reading, the meter's signed day, its certificates."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.x509.oid import ExtendedKeyUsageOID

from tellegen.records import Readings, RecordError
from tellegen.units import MARKET_INTERVAL_S, interval_start
from tellegen.verify.notes import strict_base64
from tellegen.verify.report import RefusedError
from tellegen.verify.tree import leaf, root_from_path

FORMAT = "tellegen-meter-proof@v1"
DOCUMENT_CHARACTERS_MAX = 1 << 17
_FIELDS: dict[str, type] = {
    "format": str,
    "meter": int,
    "day": int,
    "readings": int,
    "root": str,
    "signature": str,
    "interval": int,
    "reading": str,
    "position": int,
    "path": list,
    "certificates": list,
}
_SCHEME = "tellegen://"
_DAY_S = 86_400
_DAY_MAX = 1_000_000
"""Days since the epoch that a calendar knows."""
_CERTIFICATES = 2


@dataclass(frozen=True, slots=True)
class ProvenReading:
    """A reading that the meter itself has signed.

    certified_as : the meter as its certificate names it. day : UTC day since the epoch.
    reading : one row, as sent.
    """

    certified_as: str
    day: int
    interval: int
    reading: Readings

    def words(self) -> str:
        """What is proven, in a sentence."""
        row, when = self.reading, interval_start(self.interval + 1)
        return (
            f"{self.certified_as} signed that at {when:%Y-%m-%d %H:%M} UTC its registers stood at "
            f"{row.import_wh[0]} Wh import, {row.export_wh[0]} Wh export, {row.reactive_varh[0]} varh "
            f"(counter {row.counter[0]}, customer {row.customer[0]})"
        )


def verify_meter_proof(document: str, root_certificate: str, revoked: str | None = None) -> ProvenReading:
    """Check a proof of what a meter sent.

    Parameters
    ----------
    document : JSON, as `metering.meter_proof` makes it.
    root_certificate : PEM text of the root authority, known from elsewhere.
    revoked : PEM text of the authority's list of revoked certificates. Without it nothing is said about revocation.

    Raises
    ------
    RefusedError : it does not prove it; says why.
    """
    fields = _parse(document)
    day, meter = fields["day"], fields["meter"]
    if not 0 <= day <= _DAY_MAX or fields["interval"] * MARKET_INTERVAL_S // _DAY_S != day:
        raise RefusedError(f"interval {fields['interval']} is not of day {day}")
    raw = strict_base64(fields["reading"], "reading")
    try:
        reading = Readings.from_bytes(raw)
    except RecordError as error:
        raise RefusedError(str(error)) from None
    if len(reading) != 1 or int(reading.meter[0]) != meter:
        raise RefusedError(f"the reading is not one of meter {meter}")
    path = [strict_base64(node, "path") for node in fields["path"]]
    node = leaf(fields["interval"].to_bytes(8, "little", signed=True) + raw)
    if root_from_path(node, fields["position"], fields["readings"], path).hex() != fields["root"]:
        raise RefusedError("the path does not lead from the reading to the root that the meter signed")
    signed_at = datetime.fromtimestamp((day + 1) * _DAY_S, tz=UTC)  # a day is signed when it is over
    key, certified_as = _certified(fields["certificates"], root_certificate, revoked, meter, signed_at)
    origin = certified_as.removeprefix(_SCHEME).removesuffix(f"/meter/{meter}")
    message = f"tellegen-day@v2\n{origin}\n{meter}\n{day}\n{fields['readings']}\n{fields['root']}\n".encode()
    try:
        key.verify(strict_base64(fields["signature"], "signature"), message)
    except InvalidSignature:
        raise RefusedError(f"the day is not signed by {certified_as}") from None
    return ProvenReading(certified_as, day, fields["interval"], reading)


def _parse(document: str) -> dict[str, Any]:
    if len(document) > DOCUMENT_CHARACTERS_MAX:
        raise RefusedError(f"a proof has at most {DOCUMENT_CHARACTERS_MAX} characters")
    try:
        fields = json.loads(document)
    except (ValueError, RecursionError):
        raise RefusedError("not a JSON document") from None
    if not isinstance(fields, dict) or fields.keys() != _FIELDS.keys() or fields["format"] != FORMAT:
        raise RefusedError(f"not a document of the form {FORMAT}")
    for name, kind in _FIELDS.items():
        if type(fields[name]) is not kind or (kind is int and not 0 <= fields[name] < 2**63):
            raise RefusedError(f"{name} of the proof is not a {kind.__name__} that it can be")
    if any(type(each) is not str for name in ("path", "certificates") for each in fields[name]):
        raise RefusedError("path and certificates of the proof are texts")
    return fields


def _certified(
    texts: list[str], root_text: str, revoked: str | None, meter: int, at: datetime
) -> tuple[Ed25519PublicKey, str]:
    """Key and name of the meter, by certificates that lead to the root and were valid at a time."""
    if len(texts) != _CERTIFICATES:
        raise RefusedError(f"{_CERTIFICATES} certificates are needed: the meter's and its issuer's")
    own, issuer = (_load(text, what) for text, what in zip(texts, ("meter's", "issuer's"), strict=True))
    root = _load(root_text, "root")
    for certificate, signer, what in ((root, root, "root"), (issuer, root, "issuer's"), (own, issuer, "meter's")):
        try:
            certificate.verify_directly_issued_by(signer)
        except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
            raise RefusedError(f"the {what} certificate is not issued by the one above it") from None
        if not certificate.not_valid_before_utc <= at <= certificate.not_valid_after_utc:
            raise RefusedError(f"the {what} certificate was not valid at {at:%Y-%m-%d %H:%M} UTC")
    try:
        for authority in (root, issuer):
            usage = authority.extensions.get_extension_for_class(x509.KeyUsage).value
            if not _is_authority(authority) or not usage.key_cert_sign:
                raise RefusedError("a certificate above the meter's is not that of an authority")
        usage = own.extensions.get_extension_for_class(x509.KeyUsage).value
        purposes = own.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
        names = list(own.extensions.get_extension_for_class(x509.SubjectAlternativeName).value)
    except (x509.ExtensionNotFound, x509.DuplicateExtension, ValueError) as error:
        raise RefusedError(f"a certificate lacks what it must say: {error}") from None
    if _is_authority(own) or not usage.digital_signature or ExtendedKeyUsageOID.CLIENT_AUTH not in purposes:
        raise RefusedError("the meter's certificate is not one for signing as a device")
    name = names[0].value if len(names) == 1 else ""
    if not isinstance(name, str) or not name.startswith(_SCHEME) or not name.endswith(f"/meter/{meter}"):
        raise RefusedError(f"the certificate is not that of meter {meter}")
    if revoked is not None:
        _check_revoked(revoked, own, issuer, at)
    key = own.public_key()
    if not isinstance(key, Ed25519PublicKey):
        raise RefusedError("the meter's key is not an Ed25519 key")
    return key, name


def _is_authority(certificate: x509.Certificate) -> bool:
    return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca


def _load(text: str, what: str) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificate(text.encode())
    except (ValueError, x509.InvalidVersion):
        raise RefusedError(f"the {what} certificate cannot be read") from None


def _check_revoked(text: str, own: x509.Certificate, issuer: x509.Certificate, at: datetime) -> None:
    try:
        listed = x509.load_pem_x509_crl(text.encode())
        genuine = listed.issuer == issuer.subject and listed.is_signature_valid(issuer.public_key())  # type: ignore[arg-type]
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise RefusedError("the list of revoked certificates cannot be read") from None
    if not genuine:
        raise RefusedError("the list of revoked certificates is not the issuer's")
    entry = listed.get_revoked_certificate_by_serial_number(own.serial_number)
    if entry is not None and entry.revocation_date_utc <= at:
        raise RefusedError(f"the meter's certificate was revoked at {entry.revocation_date_utc:%Y-%m-%d %H:%M} UTC")
