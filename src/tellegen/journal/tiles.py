"""The log as static files that any tlog client can audit (C2SP tlog-tiles).

==========================  ====================================================================
``checkpoint``              the newest checkpoint, with its cosignatures where it has any
``cosigned``                the newest checkpoint that witnesses have cosigned (not of the spec)
``tile/L/N[.p/W]``          W (256 without it) hashes of complete subtrees of 256**L entries
``tile/entries/N[.p/W]``    the entries themselves, each behind its length (u16, big-endian)
==========================  ====================================================================

N is written in groups of three digits, all but the last behind an ``x``: 1234067 is
``x001/x234/067``. Entries are headers of batches; payloads are no part of the log.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tellegen.journal.checkpoints import Checkpoint
from tellegen.journal.cosignature import COSIGNED_NAME
from tellegen.journal.cosigned import cosigned, newest
from tellegen.journal.journal import Journal
from tellegen.journal.merkle import MerkleTree
from tellegen.journal.note import JournalError
from tellegen.journal.storage import DRAFT_SUFFIX, FILES, adopt_draft, draft_file, replace_file

TILE_HEIGHT = 8
TILE_WIDTH = 1 << TILE_HEIGHT
CHECKPOINT_NAME = "checkpoint"
ENTRIES = -1
"""Level of the entry bundles, which lie below the hashes of level 0."""
_LEVEL_MAX = 63
_PATH = re.compile(r"tile/(entries|[0-9]{1,2})/((?:x[0-9]{3}/){0,6}[0-9]{3})(?:\.p/([0-9]{1,3}))?")
_LENGTH = struct.Struct(">H")


class NotFoundError(JournalError):
    """The log has no such resource, or not yet."""


@dataclass(frozen=True, slots=True)
class Tile:
    """A tile: `width` nodes (or entries) from number ``256 * index`` of its level.

    >>> Tile(0, 1234067).path
    'tile/0/x001/x234/067'
    >>> Tile.parse("tile/entries/x001/x234/067.p/8")
    Tile(level=-1, index=1234067, width=8)
    """

    level: int
    index: int
    width: int = TILE_WIDTH

    @property
    def path(self) -> str:
        """Path of the resource, without a leading slash."""
        digits = f"{self.index:03d}"
        digits = digits.zfill(-(-len(digits) // 3) * 3)
        groups = [digits[at : at + 3] for at in range(0, len(digits), 3)]
        number = "/".join([f"x{group}" for group in groups[:-1]] + groups[-1:])
        level = "entries" if self.level == ENTRIES else str(self.level)
        return f"tile/{level}/{number}" + ("" if self.width == TILE_WIDTH else f".p/{self.width}")

    @classmethod
    def parse(cls, path: str) -> Tile:
        """Read a path.

        Raises
        ------
        NotFoundError : no tile is called that.
        """
        match = _PATH.fullmatch(path)
        if match is None:
            raise NotFoundError(f"{path!r} is not the path of a tile")
        level, number, width = match.groups()
        tile = cls(
            ENTRIES if level == "entries" else int(level),
            int(number.replace("/", "").replace("x", "")),
            TILE_WIDTH if width is None else int(width),
        )
        if tile.level > _LEVEL_MAX or tile.path != path or not 0 < tile.width <= TILE_WIDTH:
            raise NotFoundError(f"{path!r} is not the path of a tile")
        return tile

    @property
    def nodes(self) -> range:
        """Numbers of its nodes within their level."""
        return range(self.index * TILE_WIDTH, self.index * TILE_WIDTH + self.width)


def tiles(size: int, since: int = 0) -> Iterator[Tile]:
    """Every tile of a tree of `size` entries that a tree of `since` does not have in full.

    >>> [tile.path for tile in tiles(256)]
    ['tile/entries/000', 'tile/0/000', 'tile/1/000.p/1']
    """
    for level in (ENTRIES, *range(_LEVEL_MAX + 1)):
        shift = TILE_HEIGHT * max(level, 0)
        nodes = size >> shift
        for index in range((since >> shift) // TILE_WIDTH, -(-nodes // TILE_WIDTH)):
            yield Tile(level, index, min(TILE_WIDTH, nodes - index * TILE_WIDTH))


def hashes(tree: MerkleTree, tile: Tile, size: int) -> bytes:
    """Content of a hash tile of the tree's first `size` leaves.

    Raises
    ------
    NotFoundError : that many entries do not fill it.
    """
    height = TILE_HEIGHT * tile.level
    if tile.nodes.stop > size >> height:
        raise NotFoundError(f"{tile.path}: the log has {size} entries")
    return b"".join(tree.node(height, number) for number in tile.nodes)


def resource(journal: Journal, path: str) -> bytes:
    """Content of a resource of the log; the same for ever, but for ``checkpoint`` and ``cosigned``.

    Parameters
    ----------
    journal : open for reading or writing; what no checkpoint covers is not served.
    path : as in the table above, without a leading slash.

    Raises
    ------
    NotFoundError : the log has no such resource, or not yet.
    """
    if path == CHECKPOINT_NAME:
        return newest(journal).note.encode()
    if path == COSIGNED_NAME:
        checkpoint = cosigned(journal)
        if checkpoint is None:
            raise NotFoundError("no witness has cosigned this log yet")
        return checkpoint.note.encode()
    return _content(journal, Tile.parse(path), journal.checkpoint.size)


def _content(journal: Journal, tile: Tile, size: int) -> bytes:
    if tile.level != ENTRIES:
        return hashes(journal.tree, tile, size)
    if tile.nodes.stop > size:
        raise NotFoundError(f"{tile.path}: the log has {size} entries")
    bundle = bytearray()
    for number in tile.nodes:
        entry = journal.entry_bytes(number)
        bundle += _LENGTH.pack(len(entry)) + entry
    return bytes(bundle)


@dataclass(frozen=True, slots=True)
class Export:
    """What an export did: checkpoint it ends at, files and bytes written."""

    checkpoint: Checkpoint
    files: int
    bytes_written: int


def export(journal: Journal, folder: Path) -> Export:
    """Write the log as a tree of files, to be served as they are.

    Each file appears whole, and the checkpoint last, so that a reader never sees a head without its
    tiles. An export into the same folder adds what is new; full tiles are never written again.

    Raises
    ------
    JournalError : the folder holds something else, or another history of this log.
    """
    checkpoint, since = newest(journal), 0
    present = folder / CHECKPOINT_NAME
    if present.exists():
        try:
            before = Checkpoint.parse(present.read_bytes().decode(), journal.verifier)
        except (JournalError, UnicodeDecodeError) as error:
            raise JournalError(f"{present}: {error}; give the folder of this log's export, or a new one") from None
        since = before.size
        if since > checkpoint.size or journal.tree.root(since) != before.root:
            raise JournalError(f"{present}: is a head of another history of {before.origin}; keep it as evidence")
    else:
        _clear_first(folder)
    new = list(tiles(checkpoint.size, since)) if since < checkpoint.size else []
    written = _write(journal, folder, new, checkpoint.size)
    folder.mkdir(parents=True, exist_ok=True)
    witnessed = cosigned(journal)
    if witnessed is not None:
        replace_file(folder / COSIGNED_NAME, witnessed.note.encode())
    replace_file(present, checkpoint.note.encode())
    return Export(checkpoint, len(new), written)


def _clear_first(folder: Path) -> None:
    """Remove what a first export left that was cut off: it may have been of another log.

    Raises
    ------
    JournalError : there is something else; then nothing is removed.
    """
    own = {CHECKPOINT_NAME, COSIGNED_NAME}
    found = sorted(folder.rglob("*"))
    left = [path for path in found if path.is_symlink() or not path.is_dir()]
    for path in found:
        name = path.relative_to(folder).as_posix()
        try:
            known = name == "tile" or (path not in left and name.startswith("tile/"))
            known = known or name.removesuffix(DRAFT_SUFFIX) in own or bool(Tile.parse(name.removesuffix(DRAFT_SUFFIX)))
        except NotFoundError:
            known = False
        if not known:
            raise JournalError(f"{folder} is not empty and holds no export; give a new folder")
    for path in left:
        path.unlink()


def _write(journal: Journal, folder: Path, new: Sequence[Tile], size: int) -> int:
    """Write tiles durably, all of them before the next checkpoint; what a cut-off export left is written again."""
    folders: set[Path] = set()
    written = 0
    for tile in new:
        path, content = folder / tile.path, _content(journal, tile, size)
        path.parent.mkdir(parents=True, exist_ok=True)
        draft_file(FILES, path, content).close()
        adopt_draft(FILES, path)
        if tile.width == TILE_WIDTH:
            _drop_partial(path)
        folders.update(p for p in path.parents if p == folder or folder in p.parents)
        written += len(content)
    for tile in new:
        file = FILES.open(folder / tile.path)
        try:
            file.sync()
        finally:
            file.close()
    for changed in sorted(folders):
        FILES.sync_folder(changed)
    return written


def _drop_partial(full: Path) -> None:
    """Remove what a full tile has made superfluous."""
    partial = full.with_name(full.name + ".p")
    if partial.is_dir():
        for path in partial.iterdir():
            path.unlink()
        partial.rmdir()
