"""Keys of meters' codes, by derivation: master, generation, meter (HKDF-SHA256, RFC 5869).

The master is extracted with the generation as its salt; that gives the key of the generation, which is expanded with a
serial number to the key of a meter. Whoever checks codes holds the keys of the generations in use (`codes_purpose`),
and no master: what is stolen there opens no later generation. A code is made with what checks it, so whoever checks
can make one, too: it tells the head-end who spoke, and convinces nobody else.
"""

from __future__ import annotations

import hmac
from collections.abc import Iterable

from tellegen.registry.identity import RegistryError

KEY_BYTES = 32
MASTER_BYTES_MIN = 32
_CODES = "meter codes "
_RENEWED = f"{_CODES}renewed "


def codes_purpose(generation: int) -> str:
    """Purpose in the vault of the key of a generation.

    >>> codes_purpose(0)
    'meter codes 0'
    """
    return f"{_CODES}{generation}"


def renewed_purpose(generation: int) -> str:
    """Purpose that marks from which generation on keys derive of another master than before."""
    return f"{_RENEWED}{generation}"


def held_generations(purposes: Iterable[str]) -> list[int]:
    """Generations whose keys are in a vault, by its purposes.

    >>> held_generations(["meter codes 0", "meter codes 3", "meter codes renewed 4", "market"])
    [0, 3]
    """
    tails = [purpose.removeprefix(_CODES) for purpose in purposes if purpose.startswith(_CODES)]
    return [int(tail) for tail in tails if tail.isdigit()]


def first_generation(purposes: Iterable[str]) -> int:
    """The first generation that a meter may be given now: what came before may have been stolen with its master."""
    return max((int(p.removeprefix(_RENEWED)) for p in purposes if p.startswith(_RENEWED)), default=0)


def generation_key(master: bytes, generation: int) -> bytes:
    """The key from which those of all meters of one generation derive, 32 bytes.

    Raises
    ------
    RegistryError : the master key is too short.
    """
    if len(master) < MASTER_BYTES_MIN:
        raise RegistryError(f"a master key has at least {MASTER_BYTES_MIN} bytes, not {len(master)}")
    salt = f"tellegen codes of generation {generation}".encode() if generation else bytes(KEY_BYTES)
    return hmac.digest(salt, master, "sha256")


def meter_key(of_generation: bytes, meter: int, generation: int) -> bytes:
    """The key of one meter, 32 bytes, from that of its generation.

    >>> len(meter_key(generation_key(bytes(32), 1), 77, 1))
    32
    """
    info = f"tellegen meter {meter}" + (f" generation {generation}" if generation else "")
    return hmac.digest(of_generation, info.encode() + b"\x01", "sha256")
