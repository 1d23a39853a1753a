"""The keys of a shard's roles: what each is for, where it lies in the vault's folder, who opens it.

Every role has one key, and no key has two roles. Those of the authority lie in a folder of their own, which belongs
off the machine: its commands are told where it is (``--authority``), and nothing else needs it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

AUTHORITY = "authority"
"""Folder, within the vault's, of what belongs off the machine."""


@dataclass(frozen=True, slots=True)
class KeyRole:
    """A role that has a key.

    Attributes
    ----------
    purpose : name of the key. file : where it lies, relative to the vault's folder. does : what it is for, in words.
    """

    purpose: str
    file: str
    does: str

    @property
    def is_offline(self) -> bool:
        """Whether it belongs off the machine."""
        return self.file.startswith(f"{AUTHORITY}/")

    @property
    def name(self) -> str:
        """Name of the role: that of its file.

        >>> ROLES["operator signature"].name, ROLES["meter master"].name
        ('log', 'meters')
        """
        return Path(self.file).stem

    def path(self, vault: Path, authority: Path | None = None) -> Path:
        """Where the key lies.

        Parameters
        ----------
        authority : folder of what is kept off the machine; the vault's own without it.
        """
        return authority / Path(self.file).name if authority is not None and self.is_offline else vault / self.file


_TABLE = (
    KeyRole("operator signature", "log.key", "signs the checkpoints of the intake's log"),
    KeyRole("market signing", "market.key", "signs the checkpoints of the market's log, and what is published"),
    KeyRole("registrar", "registrar.key", "signs changes of the registry"),
    KeyRole("meter master", f"{AUTHORITY}/meters.key", "the keys of all meters' codes derive from it"),
    KeyRole("root authority", f"{AUTHORITY}/root.key", "certifies the issuing authority"),
    KeyRole("issuing authority", f"{AUTHORITY}/issuing.key", "certifies meters, participants, senders, the registrar"),
)
ROLES: dict[str, KeyRole] = {role.purpose: role for role in _TABLE}
"""Every role by the purpose of its key."""
