"""Tiles: the log as static files, as any tlog client reads them."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tellegen.journal import Journal, JournalError, MerkleTree, NoteSigner, tiles
from tellegen.journal.merkle import entry_hash
from tellegen.journal.storage import DRAFT_SUFFIX
from tellegen.journal.tiles import NotFoundError, Tile
from tellegen.verify import RefusedError
from tellegen.verify.tiles import TiledLog

Grow = Callable[..., Journal]
WIDE = MerkleTree(entry_hash(str(k).encode()) for k in range(70_000))


class TilesOf:
    """Serves the hash tiles of a bare tree."""

    def __init__(self, tree: MerkleTree, size: int) -> None:
        self.tree, self.size, self.asked = tree, size, list[str]()

    def __call__(self, path: str) -> bytes:
        self.asked.append(path)
        return tiles.hashes(self.tree, Tile.parse(path), self.size)


@pytest.mark.parametrize(
    ("tile", "path"),
    [
        (Tile(0, 1234067), "tile/0/x001/x234/067"),
        (Tile(0, 273, 112), "tile/0/273.p/112"),
        (Tile(63, 0, 1), "tile/63/000.p/1"),
        (Tile(tiles.ENTRIES, 1234067, 8), "tile/entries/x001/x234/067.p/8"),
        (Tile(1, 1000), "tile/1/x001/000"),
    ],
)
def test_paths_are_those_of_the_specification(tile: Tile, path: str) -> None:
    assert tile.path == path
    assert Tile.parse(path) == tile


NO_TILES = """
tile/0 tile/00/000 tile/64/000 tile/0/0 tile/0/x000/000 tile/0/000.p/0 tile/0/000.p/256 tile/0/000.p/08 tile/0/1234
tile/0/x1/000 /tile/0/000 tile/0/000/ tile/0/../000 tile/-1/000
"""


@pytest.mark.parametrize("path", ["", *NO_TILES.split()])
def test_a_tile_has_one_path_and_no_other(path: str) -> None:
    with pytest.raises(NotFoundError):
        Tile.parse(path)


def test_a_tree_of_70000_has_the_tiles_of_the_specification() -> None:
    """The worked example of c2sp.org/tlog-tiles."""
    widths = Counter((tile.level, tile.width) for tile in tiles.tiles(70_000) if tile.level >= 0)
    assert widths == {(0, 256): 273, (0, 112): 1, (1, 256): 1, (1, 17): 1, (2, 1): 1}
    assert [tile.path for tile in tiles.tiles(256) if tile.level >= 0] == ["tile/0/000", "tile/1/000.p/1"]


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_proofs_from_tiles_alone_are_those_of_the_tree(data: st.DataObject) -> None:
    """Nothing but static files is needed to prove inclusion and consistency."""
    size = data.draw(st.one_of(st.integers(1, 70_000), st.sampled_from([1, 2, 255, 256, 257, 512, 65_536, 65_537])))
    old, index = data.draw(st.integers(1, size)), data.draw(st.integers(0, size - 1))
    log = TiledLog(TilesOf(WIDE, size), size)
    assert log.root(size) == WIDE.root(size)
    assert log.inclusion(index) == WIDE.inclusion_proof(index, size)
    assert log.consistency(old) == WIDE.consistency_proof(old, size)


def test_a_client_asks_for_the_full_tile_where_the_partial_one_is_gone() -> None:
    asked: list[str] = []

    def nothing(path: str) -> bytes:
        asked.append(path)
        raise RefusedError("gone")

    with pytest.raises(RefusedError, match="gone"):
        TiledLog(nothing, 256 * 1234067 + 8).entry(256 * 1234067)
    assert asked == ["tile/entries/x001/x234/067.p/8", "tile/entries/x001/x234/067"]


def test_only_what_is_signed_for_is_served(grow: Grow, tmp_path: Path) -> None:
    journal = grow(tmp_path, 3)
    served = tiles.resource(journal, "tile/0/000.p/3")
    grow(journal, 2, commit=False)
    with pytest.raises(NotFoundError, match="has 3 entries"):
        tiles.resource(journal, "tile/0/000.p/5")
    with pytest.raises(NotFoundError, match="has 3 entries"):
        tiles.resource(journal, "tile/entries/000.p/4")
    assert tiles.resource(journal, "checkpoint").decode() == journal.checkpoint.note
    journal.commit(1000)
    assert tiles.resource(journal, "tile/0/000.p/5")[:96] == served
    assert tiles.resource(journal, "tile/0/000.p/3") == served
    with pytest.raises(NotFoundError, match="no witness"):
        tiles.resource(journal, "cosigned")


def test_entries_hash_to_their_tile(grow: Grow, tmp_path: Path) -> None:
    journal = grow(tmp_path, 300)
    log = TiledLog(lambda path: tiles.resource(journal, path), 300)
    entries = [header.to_bytes() for header in journal.entries()]
    assert [log.entry(index) for index in (0, 255, 256, 299)] == [entries[k] for k in (0, 255, 256, 299)]
    assert tiles.resource(journal, "tile/0/000") == b"".join(entry_hash(entry) for entry in entries[:256])


def test_an_export_is_the_log_and_adds_only_what_is_new(grow: Grow, tmp_path: Path) -> None:
    out = tmp_path / "out"
    journal = grow(tmp_path, 255)
    first = tiles.export(journal, out)
    assert (first.checkpoint.size, first.files) == (255, 2)
    grow(journal, 300)
    assert tiles.export(journal, out).files == 7
    files = sorted(p.relative_to(out).as_posix() for p in out.rglob("*") if p.is_file())
    assert files == sorted(["checkpoint"] + [tile.path for tile in tiles.tiles(555)])
    for name in files:
        assert (out / name).read_bytes() == tiles.resource(journal, name)
    assert tiles.export(journal, out).files == 0


def test_a_first_export_that_was_cut_off_goes_on(grow: Grow, tmp_path: Path) -> None:
    """Without its checkpoint nobody was shown it; of another log it leaves nothing."""
    out = tmp_path / "out"
    tiles.export(grow(tmp_path / "other", 300, salt="other"), out)
    (out / "checkpoint").rename(out / "checkpoint.new")
    (out / "tile" / "0" / "001.p" / f"7{DRAFT_SUFFIX}").write_bytes(b"half")
    (out / "checkpoint.new").rename(out / f"checkpoint{DRAFT_SUFFIX}")
    journal = grow(tmp_path, 9)
    tiles.export(journal, out)
    files = {path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()}
    assert files == {"checkpoint"} | {tile.path for tile in tiles.tiles(9)}
    (tmp_path / "begun" / "tile").mkdir(parents=True)
    assert tiles.export(journal, tmp_path / "begun").files == 2


def test_an_export_into_another_history_stops_and_keeps_it(grow: Grow, tmp_path: Path) -> None:
    """Two heads signed by one operator that do not agree are evidence, not something to write over."""
    one, other = grow(tmp_path / "one", 5), grow(tmp_path / "other", 6, salt="other")
    tiles.export(one, tmp_path / "out")
    before = (tmp_path / "out" / "checkpoint").read_bytes()
    with pytest.raises(JournalError, match="another history"):
        tiles.export(other, tmp_path / "out")
    assert (tmp_path / "out" / "checkpoint").read_bytes() == before
    (tmp_path / "else").mkdir()
    (tmp_path / "else" / "letter").write_text("dear")
    with pytest.raises(JournalError, match="holds no export"):
        tiles.export(one, tmp_path / "else")
    (tmp_path / "else" / "checkpoint").write_text(NoteSigner("other.org", bytes(32)).sign("other.org\n0\nAAAA\n"))
    with pytest.raises(JournalError, match="not signed by"):
        tiles.export(one, tmp_path / "else")
