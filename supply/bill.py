"""`python -m supply.bill`: the product's bill of materials, CycloneDX 1.6, from the lock and what is installed.

Everything that the product needs on this system with all of its extras: version, licence, who needs whom, and the
SHA-256 of every file in which the lock lets it come. The same commit gives the same bytes.
"""

from __future__ import annotations

import json
import sys
import uuid
from importlib import metadata
from typing import Any

from supply.licences import is_free, said
from supply.parts import PRODUCT, closure, locked


def bill() -> dict[str, Any]:
    """The bill as a JSON document; components ascending by name."""
    lock, needed = locked(), closure()
    version = metadata.version(PRODUCT)
    root = _component(PRODUCT, version, []) | {"type": "application"}
    components = []
    for name in sorted(set(needed) - {PRODUCT}):
        version = metadata.version(name)
        components.append(_component(name, version, lock[name][version]))
    places = {part["name"]: part["bom-ref"] for part in [root, *components]}
    depends = [
        {"ref": places[name], "dependsOn": sorted(places[other] for other in others)}
        for name, others in sorted(needed.items())
    ]
    body = {"metadata": {"component": root}, "components": components, "dependencies": depends}
    serial = uuid.uuid5(uuid.NAMESPACE_URL, json.dumps(body, sort_keys=True))
    head = {"bomFormat": "CycloneDX", "specVersion": "1.6", "serialNumber": serial.urn, "version": 1}
    return head | body


def _component(name: str, version: str, sha256: list[str]) -> dict[str, Any]:
    place = f"pkg:pypi/{name}@{version}"
    licence = said(name)
    part: dict[str, Any] = {"type": "library", "bom-ref": place, "name": name, "version": version, "purl": place}
    part["licenses"] = [{"expression": licence} if is_free(licence) else {"license": {"name": licence}}]
    if sha256:  # of every file of a release; each is one form in which the package may come
        part["externalReferences"] = [
            {"type": "distribution", "url": place, "hashes": [{"alg": "SHA-256", "content": digest}]}
            for digest in sha256
        ]
    return part


if __name__ == "__main__":
    json.dump(bill(), sys.stdout, indent=1)
    sys.stdout.write("\n")
