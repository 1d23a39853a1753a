"""What an auditor gets: a copy of what can be verified from outside, and nothing of what must stay.

Journals (their rows are sealed) and the archive (encrypted) go to anybody. Tables, books, summary and report show every
customer in clear; they go along only where that is asked for, for the copy's owner alone. The vault, the store of
certificates, keys, snapshots and price files never do.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from tellegen.errors import InputError
from tellegen.journal.manifest import MANIFEST_NAME, UNPUBLISHED
from tellegen.journal.storage import FILES, private_draft
from tellegen.operations.directory import ShardFiles, new_directory
from tellegen.verify import RefusedError
from tellegen.verify.folder import MANIFEST_BYTES_MAX, Folder, Limits

_HEADS = ("operator.pub", "checkpoints", "checkpoint", "cosigned")
_PARTS = ("log", "payloads")
_CERTIFICATES = ("root.pem", "issuing.pem")


@dataclass(frozen=True, slots=True)
class Bundle:
    """What was copied: files and their bytes; `bills`: those that show customers are among them."""

    files: int
    size: int
    bills: bool


def write_bundle(path: Path, out: Path, *, bills: bool = False) -> Bundle:
    """Copy what an auditor needs of a run or a shard.

    Parameters
    ----------
    path : the run or shard, which no process may write to meanwhile.
    out : a new folder.
    bills : what is published goes along, with every customer in clear.

    Raises
    ------
    InputError : there is no journal, a process writes to it, there is something at `out`, or a link among the files.
    """
    homes = [path, *([ShardFiles(path).market] if ShardFiles(path).market.is_dir() else [])]
    with ExitStack() as held:
        for home in homes:
            _hold(home, held)
        with new_directory(out) as made:
            size = files = 0
            for name in _open_names(path, homes):
                target = made / name
                with _source(path, name) as content:
                    target.parent.mkdir(parents=True, exist_ok=True)
                    with target.open("wb") as copy:
                        shutil.copyfileobj(content, copy)
                files, size = files + 1, size + target.stat().st_size
            for name in _published_names(path) if bills else ():
                target = made / name
                with _source(path, name) as content:
                    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                    with private_draft(target) as file:
                        shutil.copyfileobj(content, file)
                files, size = files + 1, size + target.stat().st_size
    return Bundle(files, size, bills)


def _hold(home: Path, held: ExitStack) -> None:
    """Be the one that could write to a journal, until the end."""
    checkpoints = home / "journal" / "checkpoints"
    if not checkpoints.is_file():
        raise InputError(home, "journal/", "is missing; give the directory of a run or a shard")
    lock = FILES.open(checkpoints, write=True)
    held.callback(lock.close)
    if not lock.lock():
        raise InputError(home, "journal", "is written to by another process; end that one first")


@contextmanager
def _source(path: Path, name: str) -> Iterator[BinaryIO]:
    """A file of the directory, reached without a link: nothing from elsewhere goes along, whatever a name says."""
    try:
        with Folder(path, Limits()).opened(name, sys.maxsize) as (content, _):
            yield content
    except RefusedError as error:
        raise InputError(path, "directory", f"is not copied: {error}") from None


def _open_names(path: Path, homes: list[Path]) -> Iterator[str]:
    """Files that anybody may see, relative to the directory; and links among them, for `_source` to refuse."""
    for home in homes:
        journal = home / "journal"
        found = [journal / name for name in _HEADS]
        found += [each for part in _PARTS for each in sorted((journal / part).glob("*.seg"))]
        found += sorted((home / "archive").rglob("*"))
        yield from (each.relative_to(path).as_posix() for each in found if _stands(each))
    yield from (f"registry/{name}" for name in _CERTIFICATES if _stands(path / "registry" / name))


def _stands(path: Path) -> bool:
    """Whether there is anything but a folder."""
    return path.is_symlink() or (path.exists() and not path.is_dir())


def _published_names(path: Path) -> Iterator[str]:
    """The manifest and what it lists."""
    if not _stands(path / MANIFEST_NAME):
        raise InputError(path, MANIFEST_NAME, "is missing: nothing has been published yet; leave out --bills")
    with _source(path, MANIFEST_NAME) as file:
        lines = file.read(MANIFEST_BYTES_MAX).partition(b"\n\n")[0].decode(errors="replace").split("\n")[4:]
    for name in (line.split(" ", 2)[-1] for line in lines):
        if name.split("/")[0] in UNPUBLISHED:
            raise InputError(path, MANIFEST_NAME, f"lists {name}, which is never published")
        yield name
    yield MANIFEST_NAME
