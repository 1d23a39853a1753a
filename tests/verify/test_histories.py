"""A lying operator: two histories under one key, and what gives them away."""

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tellegen.journal import Extension, Journal, MerkleTree, tiles
from tellegen.journal.merkle import entry_hash
from tellegen.journal.tiles import Tile
from tellegen.verify import RefusedError, Shown, Verdict, compare, compare_by_proof, compare_in_log
from tellegen.verify.tiles import TiledLog
from tellegen.verify.tree import complete_subtrees, roots_from_consistency

Grow = Callable[..., Journal]


def receipt(journal: Journal, index: int, name: str = "a receipt") -> Shown:
    """What a customer holds who was given a receipt and knows its entry."""
    return Shown.of(journal.receipt(index), journal.verifier.vkey, name=name, entry=journal.entry(index).to_bytes())


def head(journal: Journal, name: str = "a checkpoint") -> Shown:
    return Shown.of(journal.checkpoint.note, journal.verifier.vkey, name=name)


def fetch(journal: Journal) -> Callable[[str], bytes]:
    return lambda path: tiles.resource(journal, path)


def forked(grow: Grow, folder: Path, shared: int, first: int, second: int) -> tuple[Journal, Journal]:
    """Two histories of one operator that begin alike."""
    one, other = grow(folder / "one", shared), grow(folder / "other", shared)
    return grow(one, first, salt="one"), grow(other, second, salt="other")


def test_receipts_of_one_history_never_contradict(grow: Grow, tmp_path: Path) -> None:
    """No receipt is ever contradicted, whenever it was given."""
    journal = grow(tmp_path, 1)
    shown: list[Shown] = []
    for growth in (0, 1, 2, 5, 8, 16, 3):
        grow(journal, growth)
        shown += [head(journal), *(receipt(journal, index) for index in range(len(journal)))]
    for one in shown:
        for other in shown:
            assert compare(one, other).verdict is not Verdict.TWO_HISTORIES
    assert compare_in_log(shown[0], shown[5], fetch(journal), journal.verifier.vkey).verdict is Verdict.CONSISTENT


def test_two_receipts_for_one_size_prove_the_lie(grow: Grow, tmp_path: Path) -> None:
    one, other = forked(grow, tmp_path, 6, 3, 3)
    finding = compare(receipt(one, 0, "Ada's receipt"), receipt(other, 0, "Ben's receipt"))
    assert finding.verdict is Verdict.TWO_HISTORIES
    assert finding.detail == "Ada's receipt and Ben's receipt are signed for 9 entries with different roots"


def test_two_receipts_for_different_sizes_prove_the_lie_by_themselves(grow: Grow, tmp_path: Path) -> None:
    """The same place in the log cannot hold two entries, nor a run of entries two hashes."""
    one, other = forked(grow, tmp_path, 4, 4, 9)
    finding = compare(receipt(one, 5, "Ada's receipt"), receipt(other, 5, "Ben's receipt"))
    assert finding == type(finding)(Verdict.TWO_HISTORIES, "Ada's receipt and Ben's receipt prove different entry 5")
    finding = compare(receipt(one, 0), receipt(other, 12))
    assert (finding.verdict, finding.detail.rpartition(" prove ")[2]) == (
        Verdict.TWO_HISTORIES,
        "different entries 0 to 7",
    )
    assert compare(head(one), receipt(other, 12)).verdict is Verdict.TWO_HISTORIES  # eight entries are one such run


def test_where_receipts_do_not_meet_the_log_itself_decides(grow: Grow, tmp_path: Path) -> None:
    one, other = forked(grow, tmp_path, 4, 2, 8)
    key = one.verifier.vkey
    ada, ben = head(one, "Ada's checkpoint"), head(other, "Ben's checkpoint")
    undecided = compare(ada, ben)
    assert undecided.verdict is Verdict.UNDECIDED
    assert "consistency proof" in undecided.detail
    finding = compare_in_log(ada, ben, fetch(other), key)
    assert finding.verdict is Verdict.TWO_HISTORIES
    assert finding.detail == "the log of 12 entries does not begin with the 6 entries that Ada's checkpoint is for"
    short = compare_in_log(ada, ben, fetch(one), key)
    assert (short.verdict, short.detail) == (
        Verdict.UNDECIDED,
        "the log shows 6 entries only; 12 have been signed for",
    )
    grow(one, 20, salt="one")
    assert compare_in_log(ada, ben, fetch(one), key).detail.endswith("that Ben's checkpoint is for")


def test_a_consistency_proof_settles_it_and_a_false_one_proves_nothing(grow: Grow, tmp_path: Path) -> None:
    one, other = forked(grow, tmp_path, 4, 2, 8)
    key = one.verifier.vkey
    small, early = head(one), one.checkpoint
    grow(one, 6, salt="one")
    proof = str(Extension.of(one, early.size, one.checkpoint))
    assert compare_by_proof(small, head(one), proof, key).verdict is Verdict.CONSISTENT
    assert compare_by_proof(head(one), small, proof, key).verdict is Verdict.CONSISTENT
    lies = str(Extension.of(other, early.size, other.checkpoint))
    assert compare_by_proof(small, head(other), lies, key).verdict is Verdict.UNDECIDED
    with pytest.raises(RefusedError, match="not from 6 entries"):
        compare_by_proof(small, head(other), proof, key)
    with pytest.raises(RefusedError, match="old size"):
        compare_by_proof(small, head(one), "nonsense", key)


def test_only_what_the_operator_signed_counts_against_it(grow: Grow, tmp_path: Path) -> None:
    """Nobody can slander an operator: forged heads, receipts and tiles are refused, not held against it."""
    one, other = forked(grow, tmp_path, 4, 2, 8)
    key = one.verifier.vkey
    forged = one.checkpoint.note.replace("\n6\n", "\n7\n")
    with pytest.raises(RefusedError, match="does not verify"):
        Shown.of(forged, key, name="forged")
    with pytest.raises(RefusedError, match="does not lead to the signed root"):
        Shown.of(one.receipt(1), key, name="forged", entry=one.entry(2).to_bytes())

    def mixed(path: str) -> bytes:
        return tiles.resource(one if path == "checkpoint" else other, path)

    with pytest.raises(RefusedError, match="do not lead to its own checkpoint"):
        compare_in_log(head(one), head(other), mixed, key)


@settings(max_examples=80, deadline=None)
@given(st.data())
def test_the_verifier_agrees_with_the_tree(data: st.DataObject) -> None:
    """Consistency proofs and runs of entries, read by code that shares nothing with what made them."""
    size = data.draw(st.integers(1, 600))
    tree = MerkleTree(entry_hash(str(k).encode()) for k in range(size))
    old, index = data.draw(st.integers(1, size)), data.draw(st.integers(0, size - 1))
    proof = tree.consistency_proof(old, size)
    assert roots_from_consistency(old, size, tree.root(old), proof) == (tree.root(old), tree.root(size))
    leaf = entry_hash(str(index).encode())
    runs, root = complete_subtrees(leaf, index, size, tree.inclusion_proof(index, size))
    assert root == tree.root(size)
    for (start, stop), node in runs.items():
        assert MerkleTree(entry_hash(str(k).encode()) for k in range(start, stop)).root() == node
    log = TiledLog(lambda path: tiles.hashes(tree, Tile.parse(path), size), size)
    assert log.consistency(old) == proof
    for wrong in (proof[1:], [*proof, bytes(32)], [bytes(32), *proof]):
        if len(wrong) != len(proof):
            with pytest.raises(RefusedError):
                roots_from_consistency(old, size, tree.root(old), wrong)
