"""Converted grids kept on disk, because opening one with its own package takes seconds.

Files are plain JSON and ``.npz`` without pickles, written whole or not at all. They lie in
``TELLEGEN_CACHE``, else ``XDG_CACHE_HOME/tellegen``, else ``~/.cache/tellegen``.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
import zipfile
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tellegen.errors import InputError
from tellegen.grid.importers.tables import Tables, tables_from_json, tables_to_json

FORMAT = 1
"""Raised whenever the content of a cached file changes meaning."""
EXTRA = "grids"


def cache_folder() -> Path:
    """Where converted grids are kept; the folder may not exist yet."""
    own = os.environ.get("TELLEGEN_CACHE")
    if own:
        return Path(own)
    shared = os.environ.get("XDG_CACHE_HOME")
    return (Path(shared) if shared else Path.home() / ".cache") / "tellegen"


def package_versions(spec: str, *packages: str) -> dict[str, str]:
    """Installed versions of the packages that a spec needs, read without importing them.

    Raises
    ------
    InputError : one is not installed; the message names the extra that brings it.
    """
    versions = {}
    for package in packages:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            raise InputError(spec, f"package {package}", f"is needed: pip install 'tellegen[{EXTRA}]'") from None
    return versions


def cache_path(spec: str, versions: Mapping[str, str], suffix: str) -> Path:
    """File of a spec under these versions: a readable stem and a digest of all that it depends on."""
    key = json.dumps([FORMAT, spec, sorted(versions.items())])
    digest = hashlib.blake2b(key.encode(), digest_size=8).hexdigest()
    stem = "".join(c if c.isalnum() or c in "-." else "-" for c in spec)[:80]
    return cache_folder() / f"{stem}-{digest}{suffix}"


def write_whole(path: Path, content: bytes) -> None:
    """Write a file so that a reader sees all of it or none; a folder that cannot be written is no error."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=path.name, suffix=".part")
    except OSError:
        return  # without a cache everything works, only slower
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        os.replace(name, path)
    except OSError:
        Path(name).unlink(missing_ok=True)


def read_cached_tables(path: Path, source: str) -> Tables | None:
    """Tables kept at `path`, or None where there are none or the file is damaged."""
    try:
        return tables_from_json(source, path.read_text(encoding="utf-8"))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def write_cached_tables(path: Path, tables: Tables) -> None:
    """Keep tables at `path`."""
    write_whole(path, tables_to_json(tables).encode())


def read_cached_arrays(path: Path) -> dict[str, NDArray[np.generic]] | None:
    """Arrays kept at `path`, or None where there are none or the file is damaged."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None
