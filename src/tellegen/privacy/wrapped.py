"""All that is secret in the vault of a shard, file by file: where it lies, and by which key it is wrapped."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from tellegen.custody import ROLES, CustodyError, SecretFile, Wrapper
from tellegen.privacy.keystore import VaultError, read_wrapping
from tellegen.privacy.vault import KEYS, Vault

SEALING = "keys"
"""Name of the file of what seals rows, as the names of roles are."""
AWAY, CLEAR, SHUT = "kept elsewhere", "not wrapped", "not to be read by you"


@dataclass(frozen=True, slots=True)
class Kept:
    """One file of the vault.

    Attributes
    ----------
    name : of the role. does : what the key is for. path : where it lies.
    wrapped_by : by which key, `CLEAR`, or `AWAY` or `SHUT` where nobody can tell here.
    """

    name: str
    does: str
    path: Path
    wrapped_by: str

    @property
    def lies_open(self) -> bool:
        """Whether whoever reads the file has the key."""
        return self.wrapped_by == CLEAR


def kept(vault: Path, authority: Path | None = None) -> list[Kept]:
    """Every file that a vault has or would have; nothing is opened with a key.

    Parameters
    ----------
    authority : folder of the keys that are kept off the machine; the vault's own without it.

    Raises
    ------
    VaultError : there is no vault, or a file is damaged.
    """
    if not (vault / KEYS).is_file():
        raise VaultError(f"{vault}: is no vault; give the directory of a shard or a run")
    sealing = read_wrapping(vault / KEYS)
    found = [
        Kept(SEALING, "seals rows, snapshots and the archive", vault / KEYS, CLEAR if sealing is None else sealing)
    ]
    for role in ROLES.values():
        file = SecretFile(role.path(vault, authority), role.purpose)
        try:
            there = file.exists()
            by = AWAY if not there else (file.wrapped_by() or CLEAR) if os.access(file.path, os.R_OK) else SHUT
        except CustodyError as error:
            raise VaultError(str(error)) from None
        found.append(Kept(role.name, role.does, file.path, by))
    return found


def is_wrapped(vault: Path) -> bool:
    """Whether nothing of a vault lies open; the authority's folder does not count, it belongs elsewhere.

    Raises
    ------
    VaultError : as in `kept`.
    """
    online = {SEALING, *(role.name for role in ROLES.values() if not role.is_offline)}
    return not any(each.lies_open for each in kept(vault) if each.name in online)


def wrap_all(
    vault: Path,
    wrapper: Wrapper | None,
    only: Iterable[str] = (),
    authority: Path | None = None,
    each: Callable[[str], None] = lambda name: None,
) -> None:
    """Wrap every file that is here by a key from outside, or by nothing; one by one, each whole or not at all.

    What was wrapped before is opened by the key that the environment names. The same again finishes what was broken
    off.

    Parameters
    ----------
    only : names of the files; all without any. each : told the name of each when it is done.

    Raises
    ------
    VaultError : a key cannot be had, or there is no such file.
    """
    here = {found.name: found for found in kept(vault, authority) if found.wrapped_by not in (AWAY, SHUT)}
    names = list(only) or list(here)
    if strangers := set(names) - set(here):
        raise VaultError(f"{vault}: has no key {sorted(strangers)[0]!r} here; there are {', '.join(here)}")
    for name in names:
        if name == SEALING:
            with Vault.open(vault) as opened:
                opened.wrap(wrapper)
        else:
            role = next(role for role in ROLES.values() if role.name == name)
            try:
                SecretFile(role.path(vault, authority), role.purpose).wrap(wrapper)
            except CustodyError as error:
                raise VaultError(str(error)) from None
        each(name)
