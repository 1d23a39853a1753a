"""Packages that stand in the lock, as they are installed here, and which of them the product needs."""

from __future__ import annotations

import re
import tomllib
from importlib import metadata
from itertools import chain
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

PROJECT = Path(__file__).parents[1]
PRODUCT = "tellegen"


def locked(path: Path = PROJECT / "requirements.lock") -> dict[str, dict[str, list[str]]]:
    """Packages of a lock by canonical name and version, each with the SHA-256 of every file in which it may come.

    Some are for other systems than this one, and some have another version for another Python.
    """
    found: dict[str, dict[str, list[str]]] = {}
    for line in path.read_text(encoding="utf-8").replace("\\\n", " ").splitlines():
        pinned = re.match(r"([A-Za-z0-9._-]+)==([^\s;]+)", line)
        if pinned:
            hashes = re.findall(r"--hash=sha256:([0-9a-f]{64})", line)
            found.setdefault(canonicalize_name(pinned[1]), {})[pinned[2]] = sorted(hashes)
    return found


def product_needs() -> set[str]:
    """Names of the packages that the product asks for on this system, with all of its extras."""
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras: dict[str, list[str]] = project["optional-dependencies"]
    return _names([*project["dependencies"], *chain.from_iterable(extras.values())])


def closure() -> dict[str, set[str]]:
    """All that the product needs, each with what it needs in turn; the product itself is one."""
    found = {PRODUCT: product_needs()}
    waiting = sorted(found[PRODUCT])
    while waiting:
        name = waiting.pop()
        if name not in found:
            found[name] = _names(metadata.distribution(name).requires or [])
            waiting += sorted(found[name])
    return found


def _names(asked: list[str]) -> set[str]:
    """Names of packages in requirements that hold on this system without an extra of whoever asks."""
    found: set[str] = set()
    for each in map(Requirement, asked):
        if each.marker is None or each.marker.evaluate({"extra": ""}):
            found.add(canonicalize_name(each.name))
    return found
