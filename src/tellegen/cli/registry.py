"""``tellegen registry``: certificates, admission and revocation; each change is a record."""

from __future__ import annotations

import base64
import binascii
import csv
import json
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tellegen.cli import errors
from tellegen.cli.connections import connection_fields, connection_words
from tellegen.cli.shard import (
    INT64_MAX,
    AsJson,
    Directory,
    Offline,
    Server,
    Simulation,
    changing,
    done,
    now_s,
    opened,
    registry_app,
    stamp,
)
from tellegen.cli.vault import openness
from tellegen.errors import InputError

if TYPE_CHECKING:
    from tellegen.registry import Certificate, Identity, Request, Shard

RequestFile = Annotated[Path, typer.Argument(help="Signing request (PKCS#10, PEM or DER).")]
RoleName = Annotated[str, typer.Option("--role", help="meter, participant, head-end, gateway or witness.")]
Number = Annotated[int | None, typer.Option(help="Serial of a meter, or number of a customer.")]
Name = Annotated[str | None, typer.Option(help="Name of a head-end, gateway or witness.")]
Days = Annotated[int, typer.Option(help="Days for which the certificate is valid.")]
Out = Annotated[Path | None, typer.Option(help="File to write to.")]
_DAYS = 3650
_BULK_COLUMNS = ["number", "request"]


@registry_app.command()
def init(
    directory: Directory,
    origin: Annotated[str, typer.Option(help="Name of the shard, such as city.example/north; it stays for good.")],
    as_json: AsJson = False,
) -> None:
    """Make the directory of a shard: journal, vault, certificate authority."""
    from tellegen.custody.roles import AUTHORITY
    from tellegen.registry import create_shard

    create_shard(directory, origin, now_s())
    with opened(directory, simulation=False) as shard:
        key = shard.journal.verifier.vkey
    if as_json:
        print(json.dumps({"directory": str(directory), "origin": origin, "verifier_key": key}, indent=2))
        return
    print(f"{directory}: shard {origin}")
    print(f"  verifier key      {key}")
    print(f"  root certificate  {directory / 'registry' / 'root.pem'}")
    print(f"  authority         {directory / 'vault' / AUTHORITY}: take it off this machine; then give --authority")
    print(f"  vault             {openness(directory)}")


@registry_app.command()
def request(
    out: Annotated[Path, typer.Argument(help="Makes OUT.key (secret, stays on the device) and OUT.csr.")],
    replaces: Annotated[
        Path | None, typer.Option(help="The old key: it endorses the new one, in OUT.endorsement.")
    ] = None,
    origin: Annotated[str | None, typer.Option(help="Name of the shard, for an endorsement.")] = None,
    role: Annotated[str | None, typer.Option("--role", help="As in `enrol`, for an endorsement.")] = None,
    number: Number = None,
    name: Name = None,
) -> None:
    """Make a key and a signing request for a device or an agent."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    from tellegen.journal.storage import write_secret
    from tellegen.registry import rotation_message, signing_request
    from tellegen.registry.private_key import read_private_key

    key = Ed25519PrivateKey.generate()
    asked = signing_request(key)
    files = {".csr": asked}
    if replaces is not None:
        if role is None or origin is None:
            raise InputError("command line", "--replaces", "needs --origin and --role with --number or --name as well")
        old = read_private_key(replaces)
        message = rotation_message(_identity(role, number, name), origin, asked)
        files[".endorsement"] = base64.b64encode(old.sign(message)) + b"\n"
    for suffix in (".key", *files):
        if (path := out.with_name(out.name + suffix)).exists():
            raise InputError(path, "file", "exists; a key is never overwritten")
    secret = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    write_secret(out.with_name(out.name + ".key"), secret)
    for suffix, content in files.items():
        out.with_name(out.name + suffix).write_bytes(content)
    print(f"{out}.key (keep it secret), " + ", ".join(f"{out}{suffix}" for suffix in files))


@registry_app.command()
def enrol(
    directory: Directory,
    csr: RequestFile,
    role: RoleName,
    number: Number = None,
    name: Name = None,
    days: Days = _DAYS,
    out: Out = None,
    server: Server = None,
    as_json: AsJson = False,
    authority: Offline = None,
    simulation: Simulation = False,
) -> None:
    """Certify a key as somebody's, and put the admission on record; the operator vouches for it."""
    from tellegen.registry import Request

    identity = _identity(role, number, name)
    asked = Request(identity, csr.read_bytes())
    _admit(directory, asked, csr, days, out, server, simulation, authority, vouched=True, as_json=as_json)


@registry_app.command()
def rotate(
    directory: Directory,
    csr: RequestFile,
    role: RoleName,
    number: Number = None,
    name: Name = None,
    endorsement: Annotated[
        Path | None, typer.Option(help="Made by `request --replaces`; without it the operator vouches.")
    ] = None,
    days: Days = _DAYS,
    out: Out = None,
    server: Server = None,
    as_json: AsJson = False,
    authority: Offline = None,
    simulation: Simulation = False,
) -> None:
    """Put a new key in the place of an old one, from now on; what the old key signed before stays good."""
    from tellegen.registry import Request

    signature = b""
    if endorsement is not None:
        try:
            signature = base64.b64decode(endorsement.read_bytes().strip(), validate=True)
        except binascii.Error:
            raise InputError(endorsement, "file", "is not an endorsement; `request --replaces` makes one") from None
    asked = Request(_identity(role, number, name), csr.read_bytes(), signature)
    vouched = endorsement is None
    _admit(directory, asked, csr, days, out, server, simulation, authority, vouched=vouched, as_json=as_json)


@registry_app.command("enrol-many")
def enrol_many(
    directory: Directory,
    file: Annotated[Path, typer.Argument(help="CSV with the columns number,request (base64 of PKCS#10, DER).")],
    role: RoleName,
    days: Days = _DAYS,
    as_json: AsJson = False,
    authority: Offline = None,
    simulation: Simulation = False,
) -> None:
    """Certify many meters or participants on every core; the same command finishes what was interrupted."""
    from tellegen.registry import admit_many

    def told(done: int) -> None:
        errors.print(f"tellegen registry: {done:,} requests", highlight=False)

    with opened(directory, simulation, write=True, authority=authority) as shard:
        admitted, refused = admit_many(
            shard.registrar, _requests(file, role), shard.journal.time(now_s()), days=days, progress=told
        )
    if as_json:
        rows = [{"row": each.row, "refusal": each.refusal.name.lower(), "reason": each.reason} for each in refused]
        print(json.dumps({"admitted": admitted, "refused": rows}, indent=2))
    else:
        print(f"{admitted:,} admitted, {len(refused):,} refused")
        for each in refused:
            print(f"  row {each.row}: {each.reason}")
    sys.exit(1 if refused else 0)


@registry_app.command()
def revoke(
    directory: Directory,
    role: RoleName,
    number: Number = None,
    name: Name = None,
    reason: Annotated[str, typer.Option(help="RFC 5280, such as key-compromise, superseded.")] = "unspecified",
    since: Annotated[
        datetime | None,
        typer.Option(
            formats=["%Y-%m-%dT%H:%M:%S", "%Y-%m-%dT%H:%M:%SZ"], help="UTC; from then on it does not count. Now."
        ),
    ] = None,
    server: Server = None,
    as_json: AsJson = False,
    simulation: Simulation = False,
) -> None:
    """Revoke the certificate that counts for somebody; the revocation goes on record."""
    from tellegen.registry import Reason

    identity = _identity(role, number, name)
    reasons = {each.name.lower().replace("_", "-"): each for each in Reason}
    if reason not in reasons:
        raise InputError("command line", f"--reason {reason!r}", f"is none of {', '.join(reasons)}")
    with changing(directory, server, simulation) as shard:
        now = shard.journal.time(now_s())
        standing = shard.directory.standing(identity.role, identity.number, identity.name, now)
        if standing is None:
            raise InputError(directory, str(identity), "is not admitted, so there is nothing to revoke")
        fingerprint = standing.admission.certificate_sha256[0].tobytes()
        at = now if since is None else int(since.replace(tzinfo=UTC).timestamp())
        index = shard.registrar.revoke(fingerprint, reasons[reason], now, at)
        words = f"{identity}: certificate {fingerprint.hex()} is revoked from {stamp(at)} on"
        facts = {"identity": str(identity), "certificate_sha256": fingerprint.hex(), "since": stamp(at)}
        done(shard, index, now, facts, words, as_json=as_json)


@registry_app.command("rotate-code")
def rotate_code(
    directory: Directory,
    meter: Annotated[int, typer.Option(min=0, max=INT64_MAX, help="Serial of the meter.")],
    from_counter: Annotated[int, typer.Option(min=0, max=INT64_MAX, help="First message counter under the new key.")],
    server: Server = None,
    as_json: AsJson = False,
    authority: Offline = None,
    simulation: Simulation = False,
) -> None:
    """A meter codes its readings under a new key from a counter on; late readings below it stay good."""
    import numpy as np

    from tellegen.records import KeyGenerations

    with changing(directory, server, simulation, authority) as shard:
        now = shard.journal.time(now_s())
        generation = int(shard.registrar.next_generations([meter])[0])
        row = KeyGenerations(
            meter=np.array([meter]), generation=np.array([generation]), from_counter=np.array([from_counter])
        )
        index = shard.registrar.rotate_codes(row, now)
        words = f"meter {meter}: code key of generation {generation} from counter {from_counter} on"
        facts = {"meter": meter, "generation": generation, "from_counter": from_counter}
        done(shard, index, now, facts, words, as_json=as_json)


@registry_app.command()
def show(
    directory: Directory,
    role: Annotated[str | None, typer.Option("--role", help="As in `enrol`.")] = None,
    number: Number = None,
    name: Name = None,
    customer: Annotated[int | None, typer.Option(help="A customer: connections and assets with their dates.")] = None,
    as_json: AsJson = False,
    simulation: Simulation = False,
) -> None:
    """One identity: its certificates and how they stand. One customer: what hangs where, since when."""

    if (role is None) == (customer is None):
        raise InputError("command line", "show", "needs either --role (with --number or --name) or --customer")
    with opened(directory, simulation) as shard:
        if customer is not None:
            facts = [
                {"known_at": stamp(known_at), **connection_fields(row)}
                for known_at, row in shard.directory.connection_history(customer)
            ]
            lines = [connection_words(fact) for fact in facts]
            document: dict[str, Any] = {"customer": customer, "connections": facts}
            head = f"customer {customer}: {len(facts)} rows"
        else:
            identity = _identity(role or "", number, name)
            facts = [_certificate(shard, each) for each in shard.registrar.certificates.of(identity)]
            lines = [
                f"  {fact['status']:16s} {fact['valid_from']} to {fact['valid_until']}  LFDI {fact['lfdi']}"
                for fact in facts
            ]
            document = {"identity": str(identity), "certificates": facts}
            head = f"{identity}: {len(facts)} certificates"
    print(json.dumps(document, indent=2) if as_json else "\n".join([head, *lines]))
    sys.exit(0 if facts else 1)


@registry_app.command("list")
def list_identities(
    directory: Directory,
    role: Annotated[str | None, typer.Option("--role", help="Only this role.")] = None,
    as_json: AsJson = False,
    simulation: Simulation = False,
) -> None:
    """Everybody who was ever admitted, and how they stand now."""
    from tellegen.records import Role

    roles = list(Role) if role is None else [_role(role)]
    with opened(directory, simulation) as shard:
        now = shard.journal.time(now_s())
        rows = [
            {"identity": str(identity), "status": _status(shard, identity, now), "admitted": stamp(known_at)}
            for each in roles
            for identity, known_at in shard.directory.identities(each)
        ]
    if as_json:
        print(json.dumps(rows, indent=2))
        return
    for row in rows:
        print(f"{row['identity']:30s} {row['status']:20s} admitted {row['admitted']}")


@registry_app.command()
def crl(
    directory: Directory,
    out: Out = None,
    authority: Offline = None,
    simulation: Simulation = False,
) -> None:
    """The list of revoked certificates (CRL, PEM), signed now."""

    with opened(directory, simulation, authority=authority) as shard:
        text = shard.registrar.revocation_list(now_s())
    if out is None:
        print(text, end="")
    else:
        out.write_text(text)
        print(out)


@registry_app.command("meter-proof")
def prove(
    directory: Directory,
    meter: Annotated[int, typer.Option(help="Serial of the meter.")],
    interval: Annotated[int, typer.Option(min=0, help="Market interval (300 s since 1970) that the reading ended.")],
    out: Out = None,
    simulation: Simulation = False,
) -> None:
    """Prove to a third party what a meter sent, by the day that it signed; `verify-proof` checks it."""
    from tellegen.intake.meter_proofs import prove_reading
    from tellegen.journal.storage import write_private

    with opened(directory, simulation) as shard:
        document = prove_reading(shard, meter, interval)
    if out is None:
        print(document)
    else:
        write_private(out, document + "\n")
        print(out)


@registry_app.command("verify-proof")
def verify_proof(
    file: Annotated[Path, typer.Argument(help="Proof of what a meter sent (JSON).")],
    root: Annotated[Path, typer.Option(help="Root certificate (PEM), known to you from elsewhere.")],
    crl: Annotated[Path | None, typer.Option(help="The authority's list of revoked certificates (PEM).")] = None,
    as_json: AsJson = False,
) -> None:
    """Check, without the operator, what a meter signed that it sent."""
    from tellegen.foreign.documents import bounded_text
    from tellegen.verify import RefusedError, verify_meter_proof

    texts = [bounded_text(path) for path in (file, root, *([crl] if crl else []))]
    try:
        proven = verify_meter_proof(texts[0], texts[1], texts[2] if crl else None)
        ok, detail = True, proven.words()
    except RefusedError as error:
        ok, detail = False, str(error)
    print(json.dumps({"ok": ok, "detail": detail}, indent=2) if as_json else (detail if ok else f"NO: {detail}"))
    sys.exit(0 if ok else 1)


def _admit(
    directory: Path,
    asked: Request,
    csr: Path,
    days: int,
    out: Path | None,
    server: str | None,
    simulation: bool,
    authority: Path | None,
    *,
    vouched: bool,
    as_json: bool,
) -> None:
    with changing(directory, server, simulation, authority) as shard:
        now = shard.journal.time(now_s())
        index, issued, refused = shard.registrar.admit([asked], now, vouched=vouched, days=days)
        if index is None:
            raise InputError(csr, "request", f"is not taken: {refused[0].reason}")
        file = out or csr.with_suffix(".pem")
        file.write_text(issued[0].pem + shard.registrar.authorities.newest.issuing_pem)
        facts = {**_certificate(shard, issued[0]), "identity": str(asked.identity), "file": str(file)}
        words = f"{asked.identity}: certificate in {file}, LFDI {issued[0].lfdi}"
        done(shard, index, now, facts, words, as_json=as_json)


def _requests(file: Path, role: str) -> Iterator[Request]:
    from tellegen.registry import Request

    with file.open(encoding="utf-8-sig", newline="") as stream:
        reader = csv.DictReader(stream)
        try:
            if not set(_BULK_COLUMNS) <= set(reader.fieldnames or []):
                raise InputError(file, "line 1", f"must name the columns {','.join(_BULK_COLUMNS)}")
            for row in reader:
                try:
                    number, der = int(row["number"] or ""), base64.b64decode(row["request"] or "", validate=True)
                except (ValueError, binascii.Error):
                    place = f"line {reader.line_num}"
                    raise InputError(file, place, "is not a number and base64 of a request") from None
                yield Request(_identity(role, number, None), der)
        except UnicodeDecodeError:
            raise InputError(file, "file", "is not UTF-8 text") from None
        except csv.Error as error:
            raise InputError(file, f"after line {reader.line_num}", f"is not CSV: {error}") from None


def _certificate(shard: Shard, certificate: Certificate) -> dict[str, Any]:
    """A certificate as it stands now."""
    identity = certificate.identity
    standing = shard.directory.standing(identity.role, identity.number, identity.name, now_s())
    revoked = shard.directory.revoked().get(certificate.fingerprint)
    if revoked:
        status = f"revoked {stamp(min(revoked)[0])}"
    elif standing is None or standing.admission.certificate_sha256[0].tobytes() != certificate.fingerprint:
        status = "replaced" if standing is not None else "not on record"
    else:
        status = "counts" if not standing.refusal else "not valid now"
    return {
        "status": status,
        "serial": f"{certificate.serial:x}",
        "sha256": certificate.fingerprint.hex(),
        "lfdi": certificate.lfdi,
        "valid_from": stamp(certificate.valid_from),
        "valid_until": stamp(certificate.valid_until),
    }


def _status(shard: Shard, identity: Identity, now: int) -> str:
    standing = shard.directory.standing(identity.role, identity.number, identity.name, now)
    if standing is None:
        return "not yet"
    return "revoked or expired" if standing.refusal else "counts"


def _role(title: str) -> Any:
    from tellegen.records import Role
    from tellegen.registry import words

    roles = {words(role): role for role in Role}
    if title not in roles:
        raise InputError("command line", f"--role {title!r}", f"is none of {', '.join(roles)}")
    return roles[title]


def _identity(role: str, number: int | None, name: str | None) -> Identity:
    from tellegen.registry import Identity, RegistryError
    from tellegen.registry.identity import NUMBERED

    which = _role(role)
    if which in NUMBERED and number is None:
        raise InputError("command line", f"--role {role}", "needs --number")
    try:
        return Identity(which, number or 0, name or "")
    except RegistryError as error:
        raise InputError(
            "command line", f"--role {role}", f"with its --number or --name will not do: {error}"
        ) from None
