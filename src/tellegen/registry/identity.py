"""Who somebody is: a role and a number or a name, and how a certificate says so."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import quote

from tellegen.errors import TellegenError
from tellegen.records import Role
from tellegen.records.submission import PLATFORM_SOURCES

NUMBERED = (Role.METER, Role.PARTICIPANT)
"""Roles known by a number, the serial of a meter or the number of a customer; the others are known by a name."""
NAME_CHARACTERS_MAX = 48
"""With its title it fits the common name of a certificate, 64 characters (X.520)."""
NUMBER_MAX = 2**63 - 1
CUSTOMER_MAX = 2**31 - 1
SCHEME = "tellegen://"


class RegistryError(TellegenError):
    """Something that the registry does not take; says what and what would be right."""


@dataclass(frozen=True, slots=True)
class Identity:
    """Whoever may speak: ``meter 77``, ``participant 7``, ``head-end NORTH``.

    Raises
    ------
    RegistryError : a number where a name belongs, or the other way round; a name that is not printable ASCII.

    >>> Identity(Role.METER, number=77).uri("city.example/shard-1")
    'tellegen://city.example/shard-1/meter/77'
    """

    role: Role
    number: int = 0
    name: str = ""

    def __post_init__(self) -> None:
        title = words(self.role)
        if self.role in NUMBERED:
            limit = CUSTOMER_MAX if self.role is Role.PARTICIPANT else NUMBER_MAX
            if self.name or not 0 <= self.number <= limit:
                raise RegistryError(f"a {title} is known by a number from 0 to {limit} and has no name")
        elif self.number or not self.name or len(self.name) > NAME_CHARACTERS_MAX:
            raise RegistryError(f"a {title} is known by a name of at most {NAME_CHARACTERS_MAX} characters, no number")
        elif not (self.name.isascii() and self.name.isprintable()) or self.name != self.name.strip():
            raise RegistryError(f"the name {self.name!r} is not printable ASCII without spaces around it")
        elif self.name in PLATFORM_SOURCES:
            raise RegistryError(f"the name {self.name!r} is the platform's own; take another")

    def __str__(self) -> str:
        return f"{words(self.role)} {self.name or self.number}"

    def uri(self, origin: str) -> str:
        """What a certificate says: who this is, in the registry of a shard."""
        return f"{SCHEME}{origin}/{words(self.role)}/{quote(self.name, safe='') or self.number}"


def words(role: Role) -> str:
    """A role as people write it: ``head-end``."""
    return role.name.lower().replace("_", "-")
