"""The manifest: which published files belong to which state of the journal.

A C2SP signed note under the operator's key. Its text is::

    tellegen-manifest@v1
    origin NAME
    size ENTRIES
    root BASE64
    SHA256-HEX BYTES PATH        one line per file, by path; the path is relative to the run

Its second line is no number, so that a manifest can never be taken for a checkpoint.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable
from pathlib import Path

from tellegen.journal.checkpoints import Checkpoint
from tellegen.journal.note import JournalError, NoteSigner
from tellegen.journal.storage import replace_file

MANIFEST_NAME = "manifest"
MANIFEST_MAGIC = "tellegen-manifest@v1"
UNPUBLISHED = frozenset({"journal", "market", "registry", "state", "vault", "archive", "keys", "prices.csv"})
"""What a manifest does not list: signed by itself, secret, or not the operator's."""


def published_files(directory: Path | str) -> list[Path]:
    """Every file of a run that the manifest must list, relative to it, by path."""
    root = Path(directory)
    found = (p.relative_to(root) for p in root.rglob("*") if p.is_file() or p.is_symlink())
    return sorted(
        (p for p in found if p.parts[0] not in UNPUBLISHED and p.parts != (MANIFEST_NAME,)), key=lambda p: p.as_posix()
    )


def write_manifest(
    directory: Path | str, signing_key: bytes, checkpoint: Checkpoint, files: Iterable[Path | str] | None = None
) -> Path:
    """Sign for the published files of a run; written atomically, after everything else.

    Parameters
    ----------
    directory : the run.
    signing_key : the operator's 32-byte Ed25519 seed.
    checkpoint : state of the journal from which the files were made.
    files : paths relative to the run; all of `published_files` where not given.

    Raises
    ------
    JournalError : a file is missing or outside the run.
    """
    root = Path(directory)
    names = published_files(root) if files is None else sorted({Path(f) for f in files}, key=lambda p: p.as_posix())
    lines = [
        MANIFEST_MAGIC,
        f"origin {checkpoint.origin}",
        f"size {checkpoint.size}",
        f"root {base64.b64encode(checkpoint.root).decode()}",
    ]
    for name in names:
        path = root / name
        if name.is_absolute() or ".." in name.parts or path.is_symlink() or not path.is_file():
            raise JournalError(f"{path}: is not a file of the run; nothing is signed")
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        lines.append(f"{digest} {path.stat().st_size} {name.as_posix()}")
    note = NoteSigner(checkpoint.origin, signing_key).sign("\n".join([*lines, ""]))
    target = root / MANIFEST_NAME
    replace_file(target, note.encode())
    return target
