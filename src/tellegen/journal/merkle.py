"""A Merkle tree that grows, with proofs (RFC 6962 section 2.1, unchanged in RFC 9162).

The tree keeps every complete subtree, 32 bytes each, one run of bytes per level, so that a leaf costs 64 bytes of
memory, an append amortised one hash, and a root or proof O(log n) look-ups. Any earlier size can still be asked for,
because a complete subtree never changes. A tree may begin behind leaves that it does not hold: it goes on from their
peaks, the roots of the complete subtrees that they fall into, and asks elsewhere for what lies below.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence

from tellegen.errors import TellegenError

HASH_BYTES = 32
EMPTY_ROOT = hashlib.sha256(b"").digest()


class MerkleError(TellegenError):
    """A position or size that the tree does not have."""


def entry_hash(entry: bytes) -> bytes:
    """Leaf hash of a log entry: SHA-256(0x00 || entry)."""
    return hashlib.sha256(b"\x00" + entry).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Hash of an inner node: SHA-256(0x01 || left || right)."""
    return hashlib.sha256(b"\x01" + left + right).digest()


class MerkleTree:
    """An append-only tree over leaf hashes.

    >>> tree = MerkleTree(entry_hash(data) for data in (b"a", b"b", b"c"))
    >>> proof = tree.inclusion_proof(2, 3)
    >>> verify_inclusion(entry_hash(b"c"), 2, 3, proof, tree.root())
    True
    """

    __slots__ = ("_held", "_older", "_size")

    def __init__(self, leaf_hashes: Iterable[bytes] = ()) -> None:
        self._held: tuple[list[int], list[bytearray]] = [0], [bytearray()]  # by height: first position held, and hashes
        self._size = 0
        self._older: Callable[[int, int], bytes] = _nothing_older
        for leaf in leaf_hashes:
            self.append(leaf)

    @classmethod
    def behind(cls, size: int, peaks: Sequence[bytes], older: Callable[[int, int], bytes]) -> MerkleTree:
        """A tree of `size` leaves that holds only their peaks.

        Parameters
        ----------
        peaks : roots of the complete subtrees that the leaves fall into, the largest first.
        older : gives the node of a height and position below the peaks; whoever gives it answers for it.
        """
        tree = cls()
        firsts, levels, left = [], [], list(peaks)
        for height in range(max(size.bit_length(), 1)):
            firsts.append(size >> height & ~1)
            levels.append(bytearray(left.pop() if size >> height & 1 else b""))
        tree._held, tree._size, tree._older = (firsts, levels), size, older
        return tree

    def __len__(self) -> int:
        return self._size

    def peaks(self, size: int) -> list[bytes]:
        """Roots of the complete subtrees that the first `size` leaves fall into, the largest first.

        Raises
        ------
        MerkleError : the tree is smaller.
        """
        stop = self._checked(size)
        heights = [height for height in reversed(range(stop.bit_length())) if stop >> height & 1]
        return [self.node(height, (stop >> height) - 1) for height in heights]

    def forget(self, before: int, older: Callable[[int, int], bytes]) -> None:
        """Give up what lies below the peaks of the first `before` leaves; `older` gives it from now on."""
        self._older = older
        firsts, levels = self._held
        later: tuple[list[int], list[bytearray]] = [], []
        for height, (first, level) in enumerate(zip(firsts, levels, strict=True)):
            begin = max(first, before >> height & ~1)
            later[0].append(begin)
            later[1].append(level[HASH_BYTES * (begin - first) :])
        self._held = later  # at once: who reads a node meanwhile has the one or the other

    def append(self, leaf_hash: bytes) -> int:
        """Add a leaf hash (32 bytes); returns its index."""
        node = leaf_hash
        for height in range(64):
            level = self._level(height)
            level += node
            if len(level) % (2 * HASH_BYTES):
                break
            node = hashlib.sha256(b"\x01" + level[-2 * HASH_BYTES :]).digest()
        self._size += 1
        return self._size - 1

    def extend(self, leaf_hashes: bytes) -> None:
        """Add many leaf hashes, one after the other (32 bytes each): a fraction of the work of adding them singly."""
        sha256 = hashlib.sha256
        firsts, levels = self._held
        levels[0] += leaf_hashes
        for height in range(64):
            level, pair = levels[height], 2 * HASH_BYTES
            if len(level) < pair:
                break
            above = self._level(height + 1)
            start = 2 * (len(above) + HASH_BYTES * firsts[height + 1]) - HASH_BYTES * firsts[height]
            above += b"".join(
                [sha256(b"\x01" + level[at : at + pair]).digest() for at in range(start, len(level) - pair + 1, pair)]
            )
        self._size += len(leaf_hashes) // HASH_BYTES

    def _level(self, height: int) -> bytearray:
        firsts, levels = self._held
        if height == len(levels):
            firsts.append(0)
            levels.append(bytearray())
        return levels[height]

    def node(self, height: int, position: int) -> bytes:
        """Hash of the complete subtree over leaves [position * 2^height, (position + 1) * 2^height); a leaf at 0.

        Raises
        ------
        MerkleError : the tree does not have it yet.
        """
        if not 0 <= height < 64 or position < 0 or (position + 1) << height > self._size:
            raise MerkleError(f"no complete subtree {position} of height {height} in a tree of {len(self)}")
        firsts, levels = self._held
        at = HASH_BYTES * (position - firsts[height])
        return bytes(levels[height][at : at + HASH_BYTES]) if at >= 0 else self._older(height, position)

    def root(self, size: int | None = None) -> bytes:
        """Root of the first `size` leaves (default: all).

        Raises
        ------
        MerkleError : the tree is smaller.
        """
        stop = self._checked(size)
        return self._range(0, stop) if stop else EMPTY_ROOT

    def inclusion_proof(self, index: int, size: int | None = None) -> list[bytes]:
        """Siblings from leaf `index` up to the root at `size` (RFC 6962, 2.1.1).

        Raises
        ------
        MerkleError : no such leaf, or the tree is smaller.
        """
        stop = self._checked(size)
        if not 0 <= index < stop:
            raise MerkleError(f"leaf {index} is not in a tree of {stop}")
        proof: list[bytes] = []
        start = 0
        while stop - start > 1:
            split = start + _left_size(stop - start)
            if index < split:
                proof.append(self._range(split, stop))
                stop = split
            else:
                proof.append(self._range(start, split))
                start = split
        return proof[::-1]

    def consistency_proof(self, old_size: int, size: int | None = None) -> list[bytes]:
        """Nodes that show the tree at `old_size` to be a prefix of the tree at `size` (2.1.2).

        Raises
        ------
        MerkleError : `old_size` is above `size`, or the tree is smaller.
        """
        stop = self._checked(size)
        if not 0 <= old_size <= stop:
            raise MerkleError(f"a tree of {old_size} is no prefix of a tree of {stop}")
        if old_size in (0, stop):
            return []
        proof: list[bytes] = []
        start, whole = 0, True  # whole: the old tree is a complete subtree that the verifier knows
        while old_size != stop:
            split = start + _left_size(stop - start)
            if old_size <= split:
                proof.append(self._range(split, stop))
                stop = split
            else:
                proof.append(self._range(start, split))
                start, whole = split, False
        if not whole:
            proof.append(self._range(start, stop))
        return proof[::-1]

    def _checked(self, size: int | None) -> int:
        stop = len(self) if size is None else size
        if not 0 <= stop <= len(self):
            raise MerkleError(f"size {stop} is not in a tree of {len(self)}")
        return stop

    def _range(self, start: int, stop: int) -> bytes:
        """Hash of leaves [start, stop); `start` is aligned as the RFC's split leaves it."""
        rights: list[bytes] = []
        position = start
        while position < stop:
            height = (stop - position).bit_length() - 1
            rights.append(self.node(height, position >> height))
            position += 1 << height
        node = rights.pop()
        while rights:
            node = node_hash(rights.pop(), node)
        return node


def _nothing_older(height: int, position: int) -> bytes:
    raise MerkleError(f"the subtree {position} of height {height} is not held")


def _left_size(size: int) -> int:
    """Largest power of two below `size` (size >= 2)."""
    return 1 << ((size - 1).bit_length() - 1)


def verify_inclusion(leaf_hash: bytes, index: int, size: int, proof: Sequence[bytes], root: bytes) -> bool:
    """Whether `proof` shows `leaf_hash` at `index` of the tree of `size` with `root` (RFC 9162, 2.1.3.2)."""
    if not 0 <= index < size or any(len(node) != HASH_BYTES for node in proof):
        return False
    position, last, node = index, size - 1, leaf_hash
    for sibling in proof:
        if last == 0:
            return False
        if position & 1 or position == last:
            node = node_hash(sibling, node)
            while not position & 1 and position:  # a node without a right sibling moves up unchanged
                position, last = position >> 1, last >> 1
        else:
            node = node_hash(node, sibling)
        position, last = position >> 1, last >> 1
    return last == 0 and node == root


def verify_consistency(old_size: int, size: int, old_root: bytes, root: bytes, proof: Sequence[bytes]) -> bool:
    """Whether `proof` shows the old tree to be a prefix of the new one (RFC 9162, 2.1.4.2)."""
    if not 0 <= old_size <= size or any(len(node) != HASH_BYTES for node in proof):
        return False
    if old_size == size:
        return not proof and old_root == root
    if old_size == 0:
        return not proof and old_root == EMPTY_ROOT
    path = list(proof)
    if old_size & (old_size - 1) == 0:
        path.insert(0, old_root)
    if not path:
        return False
    position, last = old_size - 1, size - 1
    while position & 1:
        position, last = position >> 1, last >> 1
    old_node = new_node = path[0]
    for sibling in path[1:]:
        if last == 0:
            return False
        if position & 1 or position == last:
            old_node, new_node = node_hash(sibling, old_node), node_hash(sibling, new_node)
            while not position & 1 and position:
                position, last = position >> 1, last >> 1
        else:
            new_node = node_hash(new_node, sibling)
        position, last = position >> 1, last >> 1
    return last == 0 and old_node == old_root and new_node == root
