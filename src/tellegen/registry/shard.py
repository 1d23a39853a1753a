"""The directory of a shard: journal, vault and registry, and the keys that open them.

==================================  =================================================================
``journal/``                        who was admitted, revoked and connected, and all else on record
``vault/``                          secrets: what seals rows, and a file for each role's key
``vault/authority/``                those that belong off the machine
``registry/root.pem``               the certificate that others must trust
``registry/issuing.pem``            the one that signs everybody's
``registry/certificates.sqlite``    every certificate issued
==================================  =================================================================
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from nacl.signing import SigningKey

from tellegen.custody import ROLES
from tellegen.errors import InputError
from tellegen.journal import Journal, height_for
from tellegen.privacy import Vault
from tellegen.privacy.recorder import Recorder, Span
from tellegen.privacy.vault import FOUNDED
from tellegen.records.succession import shard_of
from tellegen.registry.authority import Authority
from tellegen.registry.authority_record import Authorities, AuthorityRecord
from tellegen.registry.certificates import CertificateStore
from tellegen.registry.directory import Directory
from tellegen.registry.identity import RegistryError
from tellegen.registry.meter_keys import codes_purpose, generation_key
from tellegen.registry.registrar import ISSUING_PURPOSE, METER_PURPOSE, REGISTRAR_PURPOSE, Registrar
from tellegen.units import MARKET_INTERVAL_S

SIGNING_PURPOSE = "operator signature"
"""Purpose of the key that signs checkpoints."""
SIMULATED_PREFIX = "simulated/"
"""How the name of a shard begins whose keys come from a seed: in log, certificates, and all that is signed for it."""
ROOT_PURPOSE = "root authority"
_MARKET_PURPOSE = "market signing"


@dataclass(frozen=True, slots=True)
class Shard:
    """An open shard: its directory, and the registrar, which holds everything else."""

    path: Path
    registrar: Registrar

    @property
    def journal(self) -> Journal:
        """What is on record."""
        return self.registrar.journal

    @property
    def directory(self) -> Directory:
        """Who and what is connected, and who may speak."""
        return self.registrar.directory


def simulated_name(origin: str) -> str:
    """The name of a shard that is made from a seed.

    >>> simulated_name("city.example/north")
    'simulated/city.example/north'
    """
    return origin if origin.startswith(SIMULATED_PREFIX) else SIMULATED_PREFIX + origin


def require_earnest(vault: Vault, path: Path, simulation: bool) -> None:
    """Refuse a shard that was made from a seed, unless somebody says that it is a simulation.

    Raises
    ------
    InputError : whoever knows the seed knows every key of it.
    """
    if vault.simulated and not simulation:
        raise InputError(
            path, "vault", "was made from a seed, which gives away every key; give --simulation where that is meant"
        )


def create_shard(path: Path, origin: str, created: int, seed: bytes | None = None) -> None:
    """Make the directory of a shard: vault, empty journal, certificate authority.

    Parameters
    ----------
    origin : name of the shard: of its log, and in every certificate; begins with `SIMULATED_PREFIX` with a seed.
    created : now, seconds since the epoch.
    seed : of every secret, for simulations; without it they come from the operating system.

    Raises
    ------
    InputError : the directory holds something already.
    RegistryError, JournalError : the name will not do.
    """
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise InputError(path, "directory", "is not empty; a shard is never overwritten, give a new one")
    if seed is not None:
        origin = simulated_name(origin)
    elif origin.startswith(SIMULATED_PREFIX):
        raise RegistryError(f"the name {origin!r} is that of a simulation; take another")
    if shard_of(origin) != origin or origin.endswith("/market"):
        raise RegistryError(f"the name {origin!r} ends as that of a successor, or of a market's log; take another")
    Authority(origin, bytes(32), bytes(32), created)  # before anything is written: does the name do?
    path.mkdir(parents=True, exist_ok=True)
    with Vault.create(path / "vault", [], seed) as vault:
        record = found_roles(vault, origin, created)
        with Journal.create(path, origin, vault.role_key(SIGNING_PURPOSE)) as journal:
            put_authority(journal, vault, record, created)
            journal.commit(created)
    folder = path / "registry"
    folder.mkdir()
    CertificateStore(folder / "certificates.sqlite").close()
    (folder / "issuing.pem").write_text(record.issuing_pem)
    (folder / "root.pem").write_text(record.root_pem)


def found_roles(vault: Vault, origin: str, created: int) -> AuthorityRecord:
    """Make the keys of every role of a new shard (`custody.ROLES`), and of its meters' first codes; its authority."""
    for purpose in ROLES:
        if purpose != _MARKET_PURPOSE:  # made with the market's journal
            vault.purpose_key(purpose)
    vault.keep_purpose(codes_purpose(0), generation_key(vault.role_key(METER_PURPOSE), 0))
    vault.purpose_key(FOUNDED)
    authority = Authority(origin, vault.role_key(ROOT_PURPOSE), vault.role_key(ISSUING_PURPOSE), created)
    return AuthorityRecord.of(authority, public_key(vault.role_key(REGISTRAR_PURPOSE)), created)


def put_authority(journal: Journal, vault: Vault, record: AuthorityRecord, known_at: int) -> int:
    """Put an authority on record; its entry."""
    span = Span(known_at, known_at // MARKET_INTERVAL_S)
    return Recorder(journal, vault, "").put_document(record.document(), span)


def public_key(seed: bytes) -> bytes:
    """Public half of an Ed25519 key, 32 bytes."""
    return bytes(SigningKey(seed).verify_key)


@contextmanager
def open_shard(path: Path, *, write: bool = False, meters: int = 0, authority: Path | None = None) -> Iterator[Shard]:
    """Open the directory of a shard, for reading unless `write`.

    Parameters
    ----------
    meters : how many a new shard is to have at least (`journal.height_for`).
    authority : folder of the keys that are kept off the machine; the vault's own without it.

    Raises
    ------
    InputError : there is no shard at `path`.
    JournalError : somebody else writes, or the journal is damaged.
    RegistryError : the authority on record is not the one whose root certificate lies there.
    """
    if not (path / "registry").is_dir():
        raise InputError(path, "registry", "does not exist; `tellegen registry init` makes a shard")
    with ExitStack() as stack:
        vault = stack.enter_context(Vault.open(path / "vault", authority=authority))
        signing_key = vault.role_key(SIGNING_PURPOSE) if write else None
        height = height_for(max(len(vault.customers), meters))
        journal = stack.enter_context(Journal.open(path, signing_key, stretch_height=height))
        registrar = open_registrar(path, journal, vault, Directory.of(journal, vault))
        stack.enter_context(registrar.certificates)
        yield Shard(path, registrar)


def open_registrar(path: Path, journal: Journal, vault: Vault, directory: Directory) -> Registrar:
    """The registrar of a shard whose journal is open already: how a running writer admits.

    Its store of certificates is the caller's to close.

    Raises
    ------
    InputError : the shard has no root certificate.
    RegistryError : the authority on record is not the one whose root certificate lies there.
    """
    file = path / "registry" / "root.pem"
    try:
        root = x509.load_pem_x509_certificate(file.read_bytes())
    except (OSError, ValueError):
        raise InputError(file, "certificate", "cannot be read; `tellegen registry init` makes it") from None
    authorities = Authorities.of(Recorder(journal, vault, ""))
    if authorities.newest.root != root:
        raise RegistryError(f"{file} is not the root certificate on record")
    store = CertificateStore(path / "registry" / "certificates.sqlite")
    return Registrar(journal, vault, directory, authorities, store)
