"""`python -m supply.licences`: whether everything in the lock stands under a licence that we may build on.

A package says its licence twice, in its metadata and in the text that lies beside it, and the two may differ: a decoder
that we once used called itself MIT and was not. So both are asked. Texts of what a package carries inside itself (a
Fortran runtime in NumPy's wheel) come further down in its files and are not looked at.
"""

from __future__ import annotations

import re
import sys
from importlib import metadata

from packaging.licenses import InvalidLicenseExpression, canonicalize_license_expression
from packaging.utils import canonicalize_name

from supply.parts import closure, locked

FREE = {
    "0BSD", "Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "CC0-1.0", "ISC", "MIT", "MIT-0", "MIT-CMU", "MPL-2.0",
    "PSF-2.0", "Unlicense", "Zlib",
}  # fmt: skip
"""Licences, by SPDX identifier, under which a package may stand. No licence that reaches into a work beside it."""

CLASSIFIERS = {
    "Apache Software License": "Apache-2.0",
    "BSD License": "BSD-3-Clause",
    "ISC License (ISCL)": "ISC",
    "MIT License": "MIT",
    "Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
    "Python Software Foundation License": "PSF-2.0",
}
"""What older packages say in their classifiers."""

REFUSED = re.compile(
    r"GNU (?:AFFERO |LESSER |LIBRARY )?GENERAL PUBLIC|Business Source|Server Side Public|Commons Clause|Elastic License"
    r"|PolyForm|Functional Source|non-?commercial|competing use",
    re.IGNORECASE,
)
HEAD = 600
"""Characters of a licence file in which its title stands."""

EXCEPTIONS: dict[str, str] = {}
"""Package and reason why it may stand in the lock all the same."""


def said(name: str) -> str:
    """A package's licence by its metadata: an SPDX expression; where it gives none, its words."""
    about = metadata.metadata(name)
    for expression in about.get_all("License-Expression") or []:
        return str(expression)
    kinds = [line.rpartition(" :: ")[2] for line in about.get_all("Classifier") or [] if line.startswith("License ::")]
    if kinds:
        return " OR ".join(CLASSIFIERS.get(kind, kind) for kind in kinds)
    words = "\n".join(about.get_all("License") or []).strip().splitlines()
    return words[0] if words else "nothing"


def is_free(expression: str) -> bool:
    """Whether an SPDX expression can be met by licences of `FREE` alone; whatever is no expression is not free."""
    try:
        text = canonicalize_license_expression(expression)
    except InvalidLicenseExpression:
        return False
    if "(" in text:
        return False
    choices = text.split(" OR ")
    return any(all(term.partition(" WITH ")[0] in FREE for term in choice.split(" AND ")) for choice in choices)


def refused_text(name: str) -> str | None:
    """The first licence file of a package whose title names a licence that binds us, and the name; None: none does."""
    for file in metadata.files(name) or []:
        if file.suffix in {".py", ".pyc"} or not re.search(r"licen[cs]e|copying", file.name, re.IGNORECASE):
            continue
        title = REFUSED.search(file.read_text(encoding="utf-8")[:HEAD])
        if title:
            return f"{file.name} is headed {title[0]!r}"
    return None


def objection(name: str) -> str | None:
    """Why a package may not stand in the lock; None: it may."""
    if name in EXCEPTIONS:
        return None
    licence = said(name)
    if not is_free(licence):
        return f"its metadata says {licence!r}"
    return refused_text(name)


def main() -> int:
    """Print what is found; 1 where there is an objection."""
    here = {canonicalize_name(found.name) for found in metadata.distributions()}
    lock, product = locked(), closure()
    stand, elsewhere = sorted(set(lock) & here), sorted(set(lock) - here)
    objections = {name: why for name in stand if (why := objection(name))}
    for name, why in objections.items():
        room = "the product" if name in product else "a tool of development"
        print(f"{name} ({room}): {why}; replace it, or give the reason in supply/licences.py", file=sys.stderr)
    print(
        f"licences: {len(stand)} packages of the lock looked at, {len(product) - 1} of them the product's; "
        f"{len(objections)} refused, {len(EXCEPTIONS)} excepted"
        + (f"; not installed here: {', '.join(elsewhere)}" if elsewhere else "")
    )
    return 1 if objections else 0


if __name__ == "__main__":
    raise SystemExit(main())
