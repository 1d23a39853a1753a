"""Elimination in a fixed order: the same answers as a pivoting solver, on trees, loops, switches and neutrals."""

import sys
from collections.abc import Callable
from importlib.util import find_spec

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse.linalg import splu

from tellegen.grid.elimination import (
    Engine,
    MissingEngineError,
    Plan,
    SingularMatrixError,
    best_engine,
    blocks,
    eliminate,
    mirrored_blocks,
    plan_elimination,
)

compiled = pytest.mark.skipif(find_spec("numba") is None, reason="numba is not installed (extra `fast`)")
ENGINES = [pytest.param(Engine.SWEEPS, marks=compiled), Engine.SUPERLU]


def feeder(seed: int, size: int, loops: int, switches: int = 0, ground: float = 0.01) -> sp.csr_matrix:
    """Admittance of a random tree of lines with a few loops; a switch is a billion times a line's admittance."""
    rng = np.random.default_rng(seed)
    one = np.concatenate([np.arange(1, size), rng.integers(0, size, loops)])
    other = np.concatenate([[int(rng.integers(0, k)) for k in range(1, size)], rng.integers(0, size, loops)])
    apart = one != other
    one, other = one[apart], other[apart].astype(np.int64)
    y = 1.0 / (rng.uniform(0.05, 1, one.size) + 1j * rng.uniform(0.05, 1, one.size))
    y[rng.permutation(one.size)[:switches]] = 1e9
    shunt = ground * (rng.random(size) + 1j * rng.random(size))
    # The root is joined to a source.
    shunt[0] += 10.0
    incidence = sp.csr_matrix(
        (np.repeat([1.0, -1.0], one.size), (np.concatenate([one, other]), np.tile(np.arange(one.size), 2))),
        shape=(size, one.size),
    )
    return sp.csr_matrix(incidence @ sp.diags(y) @ incidence.T + sp.diags(shunt))


def values_of(plan: Plan, matrix: sp.spmatrix) -> np.ndarray:
    entries = sp.coo_matrix(matrix)
    values = np.zeros(plan.values, dtype=complex)
    np.add.at(values, plan.positions(entries.row, entries.col), entries.data)
    return values


def real_form(direct: sp.spmatrix, mirrored: sp.spmatrix) -> sp.csc_matrix:
    """The real 2n x 2n matrix of ``dv -> F dv + C conj(dv)``."""
    return sp.csc_matrix(
        sp.bmat(
            [[direct.real + mirrored.real, mirrored.imag - direct.imag],
             [direct.imag + mirrored.imag, direct.real - mirrored.real]]
        )
    )  # fmt: skip


def backward(matrix: sp.spmatrix, x: np.ndarray, right: np.ndarray) -> float:
    """Residual as a share of what its terms are, row by row: what rounding alone explains is near 1e-16."""
    return float((np.abs(matrix @ x - right) / (abs(matrix) @ np.abs(x) + np.abs(right))).max())


def sides(seed: int, *shape: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.normal(size=shape) + 1j * rng.normal(size=shape)


@pytest.mark.parametrize("engine", ENGINES)
@given(seed=st.integers(0, 2**32 - 1), size=st.integers(1, 60), loops=st.integers(0, 6), columns=st.integers(1, 12))
@settings(max_examples=25, deadline=None)
def test_complex_solutions_leave_no_residual(engine: Engine, seed: int, size: int, loops: int, columns: int) -> None:
    y = feeder(seed, size, loops)
    plan = plan_elimination(y)
    found = eliminate(plan, values_of(plan, y), engine=engine)
    right = sides(seed, size, columns)
    assert found.engine == engine
    assert not found.backward_error > 1e-13
    assert backward(y, found.solve(right), right) < 1e-13
    assert backward(y.T, found.solve(right, transposed=True), right) < 1e-13
    assert np.allclose(found.solve(right[:, 0]), found.solve(right)[:, 0], rtol=1e-9)


@pytest.mark.parametrize("engine", ENGINES)
@given(seed=st.integers(0, 2**32 - 1), size=st.integers(2, 60), loops=st.integers(0, 6), columns=st.integers(1, 70))
@settings(max_examples=25, deadline=None)
def test_jacobians_are_solved_both_ways(engine: Engine, seed: int, size: int, loops: int, columns: int) -> None:
    """With loads to ground and between nodes that the lines do not join."""
    rng = np.random.default_rng(seed)
    y = feeder(seed, size, loops)
    pairs = rng.integers(0, size, (4, 2))
    plan = plan_elimination(y, pairs)
    shape = (size, size)
    direct = y + sp.csr_matrix((0.02 * sides(seed, 4), (pairs[:, 0], pairs[:, 1])), shape=shape)
    mirrored = sp.csr_matrix((0.02 * sides(seed + 1, 4), (pairs[:, 1], pairs[:, 0])), shape=shape)
    mirrored = sp.csr_matrix(mirrored + sp.diags(0.02 * sides(seed + 2, size)))
    values = blocks(values_of(plan, direct)) + mirrored_blocks(values_of(plan, mirrored))
    found = eliminate(plan, values, engine=engine)
    whole, right = real_form(direct, mirrored), sides(seed + 3, size, columns)
    stacked = np.concatenate([right.real, right.imag])
    for transposed, matrix in ((False, whole), (True, whole.T)):
        x = found.solve(right, transposed=transposed)
        assert backward(matrix, np.concatenate([x.real, x.imag]), stacked) < 1e-12
    # The transpose of the real form is the adjoint of the map.
    w = found.solve(right, transposed=True)
    assert np.allclose(direct.conj().T @ w + mirrored.T @ np.conj(w), right, atol=1e-8)


@pytest.mark.parametrize("engine", ENGINES)
@given(seed=st.integers(0, 2**32 - 1), switches=st.integers(1, 8))
@settings(max_examples=25, deadline=None)
def test_switches_of_a_billionth_lose_nothing_that_pivoting_keeps(engine: Engine, seed: int, switches: int) -> None:
    y = feeder(seed, 40, 2, switches)
    plan = plan_elimination(y)
    found = eliminate(plan, values_of(plan, y), engine=engine)
    right = sides(seed, 40)
    reference = splu(y.tocsc()).solve(right)
    assert backward(y, found.solve(right), right) < 1e-14
    # Next to 1e9 an admittance of 1 is known to 1e-7 only, whoever solves.
    assert np.abs(found.solve(right) - reference).max() < 1e-5 * np.abs(reference).max()


@given(seed=st.integers(0, 2**32 - 1), rows=st.integers(1, 12), columns=st.integers(1, 12))
@settings(max_examples=25, deadline=None)
def test_the_pattern_holds_the_whole_factor(seed: int, rows: int, columns: int) -> None:
    """On a grid graph, which fills in: no entry of the dense Cholesky factor lies outside, and rows ascend."""
    grid = sp.csr_matrix(
        sp.kronsum(
            sp.diags([1.0, 1.0], [-1, 1], shape=(rows, rows)), sp.diags([1.0, 1.0], [-1, 1], shape=(columns, columns))
        )
    )
    plan = plan_elimination(grid)
    dense = grid.toarray() + 5.0 * np.eye(plan.size) + 0.0 * seed
    factor = np.linalg.cholesky(dense[np.ix_(plan.order, plan.order)])
    row, column = plan.coordinates()
    pattern = np.zeros(dense.shape, dtype=bool)
    pattern[row, column] = True
    assert pattern[np.abs(factor) > 1e-14].all()
    assert all((np.diff(plan.row[a:b]) > 0).all() for a, b in zip(plan.start, plan.start[1:], strict=False))


def test_a_radial_feeder_fills_in_nothing() -> None:
    assert plan_elimination(feeder(1, 500, 0)).row.size == 499


def test_nodes_that_nothing_joins_have_no_entry() -> None:
    plan = plan_elimination(sp.csr_matrix(np.diag([1.0, 2.0, 3.0])))
    with pytest.raises(KeyError, match="nodes 2 and 0 are not joined"):
        plan.positions(np.array([1, 2]), np.array([1, 0]))


@pytest.mark.parametrize("engine", ENGINES)
def test_a_network_without_ground_or_source_has_no_inverse(engine: Engine) -> None:
    matrix = sp.csr_matrix(np.array([[1.0, -1.0], [-1.0, 1.0]], dtype=complex))
    plan = plan_elimination(matrix)
    with pytest.raises(SingularMatrixError):
        eliminate(plan, values_of(plan, matrix), engine=engine)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("size", [0.0, 1e-14])
def test_a_vanishing_pivot_is_left_to_superlu_and_said(engine: Engine, size: float) -> None:
    """Swapping two nodes: nothing stands on the diagonal, yet the matrix is as regular as can be."""
    matrix = sp.csr_matrix(np.array([[size, 1.0], [1.0, 0.5 * size]], dtype=complex))
    plan = plan_elimination(matrix)
    for values in (values_of(plan, matrix), blocks(values_of(plan, matrix))):
        found = eliminate(plan, values, engine=engine)
        assert found.engine == Engine.SUPERLU
        assert np.allclose(found.solve(np.array([1.0, 2.0j])), [2.0j, 1.0], atol=1e-12)


@compiled
def test_both_engines_agree_and_each_serves_who_asks_for_it() -> None:
    y = feeder(3, 80, 3)
    plan, right = plan_elimination(y), sides(4, 80, 5)
    swept, plain = (eliminate(plan, values_of(plan, y), engine=engine) for engine in (Engine.SWEEPS, Engine.SUPERLU))
    assert best_engine() == Engine.SWEEPS
    assert (swept.engine, plain.engine) == (Engine.SWEEPS, Engine.SUPERLU)
    assert np.allclose(swept.solve(right), plain.solve(right), rtol=1e-10)


def test_without_numba_the_sweeps_are_refused_and_not_the_best(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "numba", None)
    monkeypatch.delitem(sys.modules, "tellegen.grid.sweeps", raising=False)
    monkeypatch.delattr("tellegen.grid.sweeps", raising=False)
    assert best_engine.__wrapped__() == Engine.SUPERLU
    plan = plan_elimination(feeder(3, 5, 0))
    with pytest.raises(MissingEngineError, match="extra 'fast'"):
        eliminate(plan, np.ones(plan.values, dtype=complex), engine=Engine.SWEEPS)


@compiled
def test_where_no_machine_code_can_be_kept_it_is_compiled_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """A read-only installation without a home: numba finds no place for its cache, which is no reason to stop."""
    from tellegen.grid import sweeps

    def njit(*, cache: bool = False, **options: object) -> Callable[[object], object]:
        if cache:
            raise RuntimeError("cannot cache function: no locator available")
        return lambda function: function

    monkeypatch.setattr(sweeps.numba, "njit", njit)

    def length(word: str) -> int:
        return len(word)

    assert sweeps.compiled(length)("abc") == 3
