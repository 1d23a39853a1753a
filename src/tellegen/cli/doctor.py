"""``tellegen doctor``: what is installed, what that allows, and what the system offers against strangers' files."""

from __future__ import annotations

import importlib.metadata
import json
import platform
from typing import Annotated

import typer

from tellegen import __version__
from tellegen.cli import app

_PARTS = {
    "numpy": "everything",
    "scipy": "power flow and clearing",
    "polars": "tables and reports",
    "pynacl": "signatures",
    "cryptography": "encryption at rest; ciphered pushes of meters",
    "dss-python": "simulated plant (extra `plant`)",
    "simbench": "SimBench grids and profiles (extra `grids`)",
    "pandapower": "networks that pandapower ships (extra `grids`)",
    "matplotlib": "pictures (extra `pictures`)",
    "aiomqtt": "readings by MQTT (extra `meters`)",
    "numba": "compiled elimination on large feeders (extra `fast`)",
}


@app.command()
def doctor(as_json: Annotated[bool, typer.Option("--json", help="One JSON document.")] = False) -> None:
    """Say what is installed and what is missing for what."""
    found: dict[str, str | None] = {}
    for part in _PARTS:
        try:
            found[part] = importlib.metadata.version(part)
        except importlib.metadata.PackageNotFoundError:
            found[part] = None
    from tellegen.foreign.barriers import offered

    here = offered()
    barriers = {"landlock": here.landlock, "seccomp": here.seccomp}
    if as_json:
        head = {"tellegen": __version__, "python": platform.python_version()}
        print(json.dumps({**head, "parts": found, "barriers": barriers}))
        return
    print(f"tellegen {__version__} on Python {platform.python_version()}")
    for part, use in _PARTS.items():
        print(f"  {part:14s} {found[part] or 'missing':10s} {use}")
    print("barriers around foreign parsers (docs/security.md)")
    print(f"  {'Landlock':14s} {f'version {here.landlock}' if here.landlock else 'missing':10s} no file opens")
    print(f"  {'seccomp':14s} {'there' if here.seccomp else 'missing':10s} no file, socket or process opens")
