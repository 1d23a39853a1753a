"""RFC 6962 trees, written from the RFC's recursive definition.

MTH(D[n]) = SHA-256(0x01 || MTH(D[0:k]) || MTH(D[k:n])), k the largest power of two below n.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence

from tellegen.verify.report import RefusedError


def leaf(data: bytes) -> bytes:
    """Hash of a leaf."""
    return hashlib.sha256(b"\x00" + data).digest()


def _inner(left: bytes, right: bytes) -> bytes:
    return hashlib.sha256(b"\x01" + left + right).digest()


def _split(size: int) -> int:
    k = 1
    while 2 * k < size:
        k *= 2
    return k


def growing_roots(leaves: Sequence[bytes]) -> Iterator[bytes]:
    """Root of the first 0, 1, 2, ... leaves.

    Kept on the way: the roots of the complete subtrees that the prefix falls into, largest first.

    >>> len(list(growing_roots([leaf(b"a"), leaf(b"b")])))
    3
    """
    yield hashlib.sha256(b"").digest()
    parts: list[tuple[int, bytes]] = []
    for node in leaves:
        parts.append((1, node))
        while len(parts) > 1 and parts[-1][0] == parts[-2][0]:
            (size, right), (_, left) = parts.pop(), parts.pop()
            parts.append((2 * size, _inner(left, right)))
        root = parts[-1][1]
        for _, left in parts[-2::-1]:
            root = _inner(left, root)
        yield root


def root_of(leaves: Sequence[bytes]) -> bytes:
    """Root of all leaves."""
    return Tree(leaves).root


class Tree:
    """A tree with every subtree's hash kept, for paths."""

    def __init__(self, leaves: Sequence[bytes]) -> None:
        self._leaves = leaves
        self._hash: dict[tuple[int, int], bytes] = {}
        self.root = self._fill(0, len(leaves)) if leaves else hashlib.sha256(b"").digest()

    def _fill(self, start: int, stop: int) -> bytes:
        if stop - start == 1:
            return self._leaves[start]
        middle = start + _split(stop - start)
        node = _inner(self._fill(start, middle), self._fill(middle, stop))
        self._hash[start, stop] = node
        return node

    def path(self, index: int) -> list[bytes]:
        """Siblings of a leaf, from the leaf upwards."""
        siblings: list[bytes] = []
        start, stop = 0, len(self._leaves)
        while stop - start > 1:
            middle = start + _split(stop - start)
            other = (middle, stop) if index < middle else (start, middle)
            siblings.append(self._leaves[other[0]] if other[1] - other[0] == 1 else self._hash[other])
            start, stop = (start, middle) if index < middle else (middle, stop)
        return siblings[::-1]


def root_from_path(node: bytes, index: int, size: int, path: Sequence[bytes]) -> bytes:
    """Root that a leaf and its siblings lead to.

    Raises
    ------
    RefusedError : the path has the wrong length for this place in a tree of this size.
    """
    if not 0 <= index < size:
        raise RefusedError(f"leaf {index} is not in a tree of {size}")
    if size == 1:
        if path:
            raise RefusedError("inclusion proof is too long")
        return node
    if not path:
        raise RefusedError("inclusion proof is too short")
    k = _split(size)
    if index < k:
        return _inner(root_from_path(node, index, k, path[:-1]), path[-1])
    return _inner(path[-1], root_from_path(node, index - k, size - k, path[:-1]))


def roots_from_consistency(old_size: int, size: int, old_node: bytes, path: Sequence[bytes]) -> tuple[bytes, bytes]:
    """Roots at `old_size` and at `size` that a consistency proof leads to (RFC 6962, 2.1.2).

    `old_node` is the root at `old_size`, which the proof leaves out where that tree is a subtree of the new one.
    The log at `size` begins with the one at `old_size` if both roots are those signed for. Where the second is and
    the first is not, the log does not.

    Raises
    ------
    RefusedError : the proof has the wrong length for these sizes.
    """
    if not 0 < old_size <= size:
        raise RefusedError(f"no consistency proof leads from {old_size} to {size} entries")
    return _extended(old_size, size, old_node, path, True)


def _extended(old: int, size: int, old_node: bytes, path: Sequence[bytes], whole: bool) -> tuple[bytes, bytes]:
    if old == size:
        if len(path) != (0 if whole else 1):
            raise RefusedError("consistency proof has the wrong length")
        node = old_node if whole else path[0]
        return node, node
    if not path:
        raise RefusedError("consistency proof is too short")
    k = _split(size)
    if old <= k:
        before, after = _extended(old, k, old_node, path[:-1], whole)
        return before, _inner(after, path[-1])
    before, after = _extended(old - k, size - k, old_node, path[:-1], False)
    return _inner(path[-1], before), _inner(path[-1], after)


def complete_subtrees(
    node: bytes, index: int, size: int, path: Sequence[bytes]
) -> tuple[dict[tuple[int, int], bytes], bytes]:
    """What an inclusion proof says of runs of 1, 2, 4, ... entries that the log never hashes otherwise; and its root.

    Such a run has one hash in every tree that holds it, so two proofs of one log agree on all that both have.

    Raises
    ------
    RefusedError : the path has the wrong length for this place in a tree of this size.
    """
    root_from_path(node, index, size, path)
    found: dict[tuple[int, int], bytes] = {}
    return found, _walk(node, index, 0, size, path, found)


def _walk(
    node: bytes, index: int, start: int, stop: int, path: Sequence[bytes], found: dict[tuple[int, int], bytes]
) -> bytes:
    if stop - start > 1:
        middle = start + _split(stop - start)
        left = index < middle
        here = _walk(node, index, *((start, middle) if left else (middle, stop)), path[:-1], found)
        _keep(found, (middle, stop) if left else (start, middle), path[-1])
        node = _inner(here, path[-1]) if left else _inner(path[-1], here)
    _keep(found, (start, stop), node)
    return node


def _keep(found: dict[tuple[int, int], bytes], run: tuple[int, int], node: bytes) -> None:
    count = run[1] - run[0]
    if count & (count - 1) == 0:
        found[run] = node
