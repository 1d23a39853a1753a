"""The tree of RFC 6962: published vectors, and proofs that prove exactly one thing."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tellegen.journal.merkle import MerkleError, MerkleTree, entry_hash, verify_consistency, verify_inclusion
from tellegen.records import tree_root

# The leaves and roots with which Certificate Transparency's implementations test each other.
LEAVES = [
    bytes.fromhex(text)
    for text in (
        "",
        "00",
        "10",
        "2021",
        "3031",
        "40414243",
        "5051525354555657",
        "606162636465666768696a6b6c6d6e6f",
    )
]
ROOTS = [
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]
# (index, size): proof of inclusion; (old, new): proof of consistency
INCLUSION = {
    (0, 8): [
        "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
    ],
    (2, 3): ["fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125"],
}
CONSISTENCY = {
    (1, 8): INCLUSION[0, 8],
    (6, 8): [
        "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a",
        "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    ],
    (2, 5): [
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
    ],
}


def reference_tree() -> MerkleTree:
    return MerkleTree(entry_hash(leaf) for leaf in LEAVES)


def test_the_reference_trees_have_their_published_roots() -> None:
    tree = reference_tree()
    assert [tree.root(size).hex() for size in range(9)] == ROOTS


def test_published_proofs() -> None:
    tree = reference_tree()
    for (index, size), proof in INCLUSION.items():
        assert [node.hex() for node in tree.inclusion_proof(index, size)] == proof
    for (old, new), proof in CONSISTENCY.items():
        assert [node.hex() for node in tree.consistency_proof(old, new)] == proof


@given(st.integers(1, 40), st.data())
def test_an_inclusion_proof_proves_its_leaf_and_no_other(size: int, data: st.DataObject) -> None:
    leaves = [entry_hash(bytes([k])) for k in range(size)]
    tree = MerkleTree(leaves)
    index = data.draw(st.integers(0, size - 1))
    proof = tree.inclusion_proof(index)
    assert verify_inclusion(leaves[index], index, size, proof, tree.root())
    other = data.draw(st.integers(0, size).filter(lambda k: k != index))
    assert not verify_inclusion(leaves[index], other, size, proof, tree.root())
    assert not verify_inclusion(entry_hash(b"other"), index, size, proof, tree.root())
    assert not verify_inclusion(leaves[index], index, size, [*proof, bytes(32)], tree.root())
    assert not proof or not verify_inclusion(leaves[index], index, size, proof[:-1], tree.root())
    assert tree.root() == tree_root(leaves)


@given(st.integers(0, 40), st.integers(0, 40))
def test_a_consistency_proof_proves_growth_and_nothing_else(one: int, other: int) -> None:
    old, new = sorted((one, other))
    tree = MerkleTree(entry_hash(bytes([k])) for k in range(new))
    proof = tree.consistency_proof(old)
    assert verify_consistency(old, new, tree.root(old), tree.root(), proof)
    assert not verify_consistency(old, new, entry_hash(b"forked"), tree.root(), proof)
    assert not verify_consistency(old, new, tree.root(old), entry_hash(b"forked"), proof) or old == 0
    assert not verify_consistency(old, new, tree.root(old), tree.root(), [*proof, bytes(32)])


def test_what_the_tree_does_not_hold_cannot_be_proved() -> None:
    tree = reference_tree()
    with pytest.raises(MerkleError, match="leaf 8 is not in a tree of 8"):
        tree.inclusion_proof(8)
    with pytest.raises(MerkleError, match="size 9"):
        tree.root(9)
    with pytest.raises(MerkleError, match="no prefix"):
        tree.consistency_proof(5, 4)
