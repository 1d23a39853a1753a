"""Compiled loops of `tellegen.grid.elimination`: nothing is pivoted, so every loop runs over a fixed pattern.

All arrays stand in elimination order. Column ``k`` of the strict lower triangle holds rows
``row[start[k]:start[k + 1]]``, ascending; row ``k`` of the strict upper triangle holds the same places. ``A = L D U``
with unit triangles: `lower` and `upper` hold them without their diagonals, `diagonal` the inverse of ``D``. A block
``[[a, b], [c, d]]`` acts on the real and imaginary part of one node and is stored as ``a, b, c, d``.

Importing this module imports numba; only `tellegen.grid.elimination` does, once it is asked for.
"""

# mypy: disable-error-code="misc, no-any-return"
from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numba
import numpy as np
from numpy.typing import NDArray

from tellegen.grid.twofold import digest_of

IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float64]
ComplexArray = NDArray[np.complex128]

WIDTH_MAX = 64
"""Most right sides solved side by side: the loop over them must be long, and the tile stay in cache."""
FunctionT = TypeVar("FunctionT", bound=Callable[..., Any])


def compiled(function: FunctionT, *, inner: bool = False) -> FunctionT:
    """Compile at the first call; machine code is kept on disk where a folder for it can be written.

    What is `inner` is called by other compiled functions alone.
    """
    # What is kept goes by name and by the function's own file alone, not by those whose loops and constants it takes.
    function.__qualname__ += f".{digest_of(function.__module__)}"
    # Fused multiply-add is allowed; nothing that would change the order of sums is.
    options: dict[str, Any] = {"nogil": True, "error_model": "numpy", "fastmath": {"contract"}}
    if inner:
        options |= {"no_cpython_wrapper": True, "no_cfunc_wrapper": True}
    try:
        function = numba.njit(cache=True, **options)(function)
    except RuntimeError:
        function = numba.njit(**options)(function)
    return function


@compiled
def eliminate_complex(
    start: IntArray, row: IntArray, update: IntArray, diagonal: ComplexArray, lower: ComplexArray, upper: ComplexArray
) -> int:
    """Factorise in place; the first place whose pivot is zero or not finite, -1 where all is well."""
    at = 0
    for k in range(diagonal.size):
        pivot = diagonal[k]
        size = abs(pivot.real) + abs(pivot.imag)
        if not (size > 0.0 and size < np.inf):
            return k
        inverse = 1.0 / pivot
        diagonal[k] = inverse
        first, last = start[k], start[k + 1]
        for e in range(first, last):
            lower[e] *= inverse
        for e in range(first, last):
            left, right = lower[e], upper[e]
            diagonal[row[e]] -= left * right
            for f in range(e + 1, last):
                entry = update[at]
                at += 1
                lower[entry] -= lower[f] * right
                upper[entry] -= left * upper[f]
        for e in range(first, last):
            upper[e] *= inverse
    return -1


@compiled
def eliminate_blocks(
    start: IntArray, row: IntArray, update: IntArray, diagonal: FloatArray, lower: FloatArray, upper: FloatArray
) -> int:
    """As `eliminate_complex` for 2x2 blocks, arrays [., 4]."""
    at = 0
    for k in range(diagonal.shape[0]):
        a, b, c, d = diagonal[k, 0], diagonal[k, 1], diagonal[k, 2], diagonal[k, 3]
        determinant = a * d - b * c
        if not (determinant != 0.0 and abs(determinant) < np.inf):
            return k
        scale = 1.0 / determinant
        p, q, r, s = d * scale, -b * scale, -c * scale, a * scale
        diagonal[k, 0], diagonal[k, 1], diagonal[k, 2], diagonal[k, 3] = p, q, r, s
        first, last = start[k], start[k + 1]
        for e in range(first, last):
            a, b, c, d = lower[e, 0], lower[e, 1], lower[e, 2], lower[e, 3]
            lower[e, 0], lower[e, 1] = a * p + b * r, a * q + b * s
            lower[e, 2], lower[e, 3] = c * p + d * r, c * q + d * s
        for e in range(first, last):
            i = row[e]
            la, lb, lc, ld = lower[e, 0], lower[e, 1], lower[e, 2], lower[e, 3]
            ua, ub, uc, ud = upper[e, 0], upper[e, 1], upper[e, 2], upper[e, 3]
            diagonal[i, 0] -= la * ua + lb * uc
            diagonal[i, 1] -= la * ub + lb * ud
            diagonal[i, 2] -= lc * ua + ld * uc
            diagonal[i, 3] -= lc * ub + ld * ud
            for f in range(e + 1, last):
                entry = update[at]
                at += 1
                a, b, c, d = lower[f, 0], lower[f, 1], lower[f, 2], lower[f, 3]
                lower[entry, 0] -= a * ua + b * uc
                lower[entry, 1] -= a * ub + b * ud
                lower[entry, 2] -= c * ua + d * uc
                lower[entry, 3] -= c * ub + d * ud
                a, b, c, d = upper[f, 0], upper[f, 1], upper[f, 2], upper[f, 3]
                upper[entry, 0] -= la * a + lb * c
                upper[entry, 1] -= la * b + lb * d
                upper[entry, 2] -= lc * a + ld * c
                upper[entry, 3] -= lc * b + ld * d
        for e in range(first, last):
            a, b, c, d = upper[e, 0], upper[e, 1], upper[e, 2], upper[e, 3]
            upper[e, 0], upper[e, 1] = p * a + q * c, p * b + q * d
            upper[e, 2], upper[e, 3] = r * a + s * c, r * b + s * d
    return -1


@compiled
def sweep_complex(
    start: IntArray, row: IntArray, diagonal: ComplexArray, lower: ComplexArray, upper: ComplexArray, x: ComplexArray
) -> None:
    """Solve in place for one right side; with `lower` and `upper` exchanged, the transposed system."""
    size = diagonal.size
    for k in range(size):
        value = x[k]
        for e in range(start[k], start[k + 1]):
            x[row[e]] -= lower[e] * value
    for k in range(size - 1, -1, -1):
        value = x[k] * diagonal[k]
        for e in range(start[k], start[k + 1]):
            value -= upper[e] * x[row[e]]
        x[k] = value


@compiled
def solve_complex(
    order: IntArray,
    start: IntArray,
    row: IntArray,
    diagonal: ComplexArray,
    lower: ComplexArray,
    upper: ComplexArray,
    right: ComplexArray,
    solution: ComplexArray,
) -> None:
    """Solve for complex right sides [n, m], both in the network's order."""
    size = diagonal.size
    x = np.empty(size, dtype=np.complex128)
    for j in range(right.shape[1]):
        for k in range(size):
            x[k] = right[order[k], j]
        sweep_complex(start, row, diagonal, lower, upper, x)
        for k in range(size):
            solution[order[k], j] = x[k]


@compiled
def sweep_blocks(
    start: IntArray,
    row: IntArray,
    diagonal: FloatArray,
    lower: FloatArray,
    upper: FloatArray,
    transposed: bool,
    x: FloatArray,
) -> None:
    """As `sweep_complex` for 2x2 blocks and one right side [n, 2]."""
    size = diagonal.shape[0]
    # A transposed block has its two off-diagonal numbers exchanged.
    one, two = (2, 1) if transposed else (1, 2)
    for k in range(size):
        real, imag = x[k, 0], x[k, 1]
        for e in range(start[k], start[k + 1]):
            i = row[e]
            x[i, 0] -= lower[e, 0] * real + lower[e, one] * imag
            x[i, 1] -= lower[e, two] * real + lower[e, 3] * imag
    for k in range(size - 1, -1, -1):
        real = diagonal[k, 0] * x[k, 0] + diagonal[k, one] * x[k, 1]
        imag = diagonal[k, two] * x[k, 0] + diagonal[k, 3] * x[k, 1]
        for e in range(start[k], start[k + 1]):
            i = row[e]
            real -= upper[e, 0] * x[i, 0] + upper[e, one] * x[i, 1]
            imag -= upper[e, two] * x[i, 0] + upper[e, 3] * x[i, 1]
        x[k, 0], x[k, 1] = real, imag


@compiled
def sweep_tile(
    start: IntArray,
    row: IntArray,
    diagonal: FloatArray,
    lower: FloatArray,
    upper: FloatArray,
    transposed: bool,
    live: NDArray[np.bool_],
    x: FloatArray,
) -> None:
    """As `sweep_blocks` for w right sides [n, 2, w]; rows that are not `live` are zero."""
    size, wide = diagonal.shape[0], x.shape[2]
    one, two = (2, 1) if transposed else (1, 2)
    for k in range(size):
        if not live[k]:
            continue
        for e in range(start[k], start[k + 1]):
            i = row[e]
            live[i] = True
            a, b, c, d = lower[e, 0], lower[e, one], lower[e, two], lower[e, 3]
            for j in range(wide):
                real, imag = x[k, 0, j], x[k, 1, j]
                x[i, 0, j] -= a * real + b * imag
                x[i, 1, j] -= c * real + d * imag
    for k in range(size - 1, -1, -1):
        a, b, c, d = diagonal[k, 0], diagonal[k, one], diagonal[k, two], diagonal[k, 3]
        if live[k]:
            for j in range(wide):
                real, imag = x[k, 0, j], x[k, 1, j]
                x[k, 0, j] = a * real + b * imag
                x[k, 1, j] = c * real + d * imag
        for e in range(start[k], start[k + 1]):
            i = row[e]
            a, b, c, d = upper[e, 0], upper[e, one], upper[e, two], upper[e, 3]
            for j in range(wide):
                real, imag = x[i, 0, j], x[i, 1, j]
                x[k, 0, j] -= a * real + b * imag
                x[k, 1, j] -= c * real + d * imag


@compiled
def solve_blocks(
    order: IntArray,
    start: IntArray,
    row: IntArray,
    diagonal: FloatArray,
    lower: FloatArray,
    upper: FloatArray,
    transposed: bool,
    right: ComplexArray,
    solution: ComplexArray,
) -> None:
    """Solve for right sides [n, m], both in the network's order; few columns one by one, more in tiles."""
    size, count = right.shape
    if count == 1:
        x = np.empty((size, 2))
        for k in range(size):
            value = right[order[k], 0]
            x[k, 0], x[k, 1] = value.real, value.imag
        sweep_blocks(start, row, diagonal, lower, upper, transposed, x)
        for k in range(size):
            solution[order[k], 0] = complex(x[k, 0], x[k, 1])
        return
    tiles = (count + WIDTH_MAX - 1) // WIDTH_MAX
    live = np.empty(size, dtype=np.bool_)
    for t in range(tiles):
        first, last = t * count // tiles, (t + 1) * count // tiles
        tile = np.empty((size, 2, last - first))
        for k in range(size):
            at = order[k]
            some = False
            for j in range(last - first):
                value = right[at, first + j]
                tile[k, 0, j], tile[k, 1, j] = value.real, value.imag
                some |= value != 0
            live[k] = some
        sweep_tile(start, row, diagonal, lower, upper, transposed, live, tile)
        for k in range(size):
            at = order[k]
            for j in range(last - first):
                solution[at, first + j] = complex(tile[k, 0, j], tile[k, 1, j])


@compiled
def residual_complex(
    start: IntArray,
    row: IntArray,
    diagonal: ComplexArray,
    lower: ComplexArray,
    upper: ComplexArray,
    x: ComplexArray,
    right: ComplexArray,
) -> float:
    """Largest ``|A x - b| / (|A| |x| + |b|)`` of a row, for a matrix that is not yet factorised."""
    size = diagonal.size
    error, allowed = -right, np.abs(right)
    for k in range(size):
        error[k] += diagonal[k] * x[k]
        allowed[k] += abs(diagonal[k]) * abs(x[k])
        for e in range(start[k], start[k + 1]):
            i = row[e]
            error[i] += lower[e] * x[k]
            allowed[i] += abs(lower[e]) * abs(x[k])
            error[k] += upper[e] * x[i]
            allowed[k] += abs(upper[e]) * abs(x[i])
    worst = 0.0
    for k in range(size):
        share = abs(error[k]) / allowed[k]
        # A comparison with NaN is false: what is not a number is the worst there is.
        if not share <= worst:
            worst = share
    return worst


@compiled
def residual_blocks(
    start: IntArray,
    row: IntArray,
    diagonal: FloatArray,
    lower: FloatArray,
    upper: FloatArray,
    x: ComplexArray,
    right: ComplexArray,
) -> float:
    """As `residual_complex` for 2x2 blocks; real and imaginary parts are rows of their own."""
    size = diagonal.shape[0]
    error, allowed = np.empty((size, 2)), np.empty((size, 2))
    for k in range(size):
        error[k, 0], error[k, 1] = -right[k].real, -right[k].imag
        allowed[k, 0], allowed[k, 1] = abs(right[k].real), abs(right[k].imag)
    for k in range(size):
        real, imag = x[k].real, x[k].imag
        for part in range(2):
            a, b = diagonal[k, 2 * part] * real, diagonal[k, 2 * part + 1] * imag
            error[k, part] += a + b
            allowed[k, part] += abs(a) + abs(b)
        for e in range(start[k], start[k + 1]):
            i = row[e]
            for part in range(2):
                a, b = lower[e, 2 * part] * real, lower[e, 2 * part + 1] * imag
                error[i, part] += a + b
                allowed[i, part] += abs(a) + abs(b)
                a, b = upper[e, 2 * part] * x[i].real, upper[e, 2 * part + 1] * x[i].imag
                error[k, part] += a + b
                allowed[k, part] += abs(a) + abs(b)
    worst = 0.0
    for k in range(size):
        for part in range(2):
            share = abs(error[k, part]) / allowed[k, part]
            if not share <= worst:
                worst = share
    return worst
