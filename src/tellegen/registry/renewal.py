"""New keys for the roles of the registry, once the old ones are out of date or stolen."""

from __future__ import annotations

import os

from tellegen.custody import CustodyError, wrapper_wanted
from tellegen.privacy import Vault
from tellegen.registry.authority import Authority
from tellegen.registry.authority_record import AuthorityRecord
from tellegen.registry.identity import RegistryError
from tellegen.registry.meter_keys import held_generations, renewed_purpose
from tellegen.registry.registrar import ISSUING_PURPOSE, METER_PURPOSE, REGISTRAR_PURPOSE, Registrar
from tellegen.registry.shard import ROOT_PURPOSE, Shard, public_key

_SEED_BYTES = 32


def renew_registrar(shard: Shard, now: int) -> int:
    """A new key for the registrar, certified by the issuing authority; the entry of its record.

    What the old one signs from then on is refused. The same again finishes what was broken off.

    Raises
    ------
    VaultError, RegistryError, CustodyError : a key that this takes is not here.
    """
    registrar = shard.registrar
    at, authority = _after(registrar, now), registrar.authority
    seed = renewed_role(registrar.vault, REGISTRAR_PURPOSE)
    return registrar.renew(AuthorityRecord.of(authority, public_key(seed), at), shard.journal.time(at))


def renew_issuing(shard: Shard, now: int) -> int:
    """A new issuing authority, certified by the root, which certifies the registrar anew; the entry of its record.

    Certificates on record stay good. What the old one certifies from then on admits nobody.

    Raises
    ------
    VaultError, RegistryError, CustodyError : a key that this takes is not here.
    """
    registrar, newest = shard.registrar, shard.registrar.authorities.newest
    at, vault = _after(registrar, now), shard.registrar.vault
    root = vault.role_key(ROOT_PURPOSE)
    if public_key(root) != newest.root_key:
        raise RegistryError("the root authority's key is not that of its certificate on record")
    registrar_seed = vault.role_key(REGISTRAR_PURPOSE)
    seed = renewed_role(vault, ISSUING_PURPOSE)
    successor = Authority.successor(newest.root, root, seed, at)
    record = AuthorityRecord.of(successor, public_key(registrar_seed), at)
    entry = registrar.renew(record, shard.journal.time(at))
    (shard.path / "registry" / "issuing.pem").write_text(record.issuing_pem)
    return entry


def renew_meter_master(vault: Vault) -> None:
    """A new master for meters' keys; whoever checks codes knows the old generations, and meters are given later ones.

    It also is what to do where whoever checks codes was broken into: the keys of the generations in use lie there.

    Raises
    ------
    VaultError, CustodyError : it is kept elsewhere, or cannot be written.
    """
    vault.purpose_key(renewed_purpose(max(held_generations(vault.purposes), default=0) + 1))
    renewed_role(vault, METER_PURPOSE)


def renewed_role(vault: Vault, purpose: str) -> bytes:
    """Make a role's key anew in its place, wrapped by what the environment names; in clear only where all lies so.

    Raises
    ------
    CustodyError : it cannot be written; no key from outside is named, and the old one, or what seals rows, is wrapped.
    """
    file = vault.role_file(purpose)
    assert file is not None
    by = (file.wrapped_by() if file.exists() else None) or vault.wrapped_by
    wrapper = wrapper_wanted(file.path.stem)
    if by is not None and wrapper is None:
        raise CustodyError(
            f"{file.path}: is not put in clear where keys are wrapped by {by!r}; "
            "name that key, or another, in TELLEGEN_VAULT_KEY"
        )
    seed = os.urandom(_SEED_BYTES)
    file.replace(seed, wrapper)
    return seed


def _after(registrar: Registrar, now: int) -> int:
    """A time later than that of every certificate on record."""
    newest = registrar.authorities.newest
    begun = max(each.not_valid_before_utc.timestamp() for each in (newest.issuing, newest.registrar))
    return max(now, int(begun) + 1)
