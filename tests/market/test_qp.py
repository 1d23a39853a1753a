"""The quadratic programs: every road ends at the same optimum, and an outside solver agrees."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tellegen.grid.elimination import Engine, best_engine
from tellegen.market.program import Program, Solution
from tellegen.market.qp import descended, solve_program


@pytest.fixture(params=[Engine.SUPERLU, Engine.SWEEPS], scope="module")
def engine(request: pytest.FixtureRequest) -> Engine:
    """Array code and compiled loops alike."""
    if request.param is Engine.SWEEPS and best_engine() is not Engine.SWEEPS:
        pytest.skip("compiled loops need the extra 'fast'")
    return Engine(request.param)


def random_program(
    seed: int, size: int = 40, rows: int = 6, rank: int = 12, *, engine: Engine = Engine.SUPERLU
) -> Program:
    """Steps, most without a slope, with ties and shared channels; low-rank losses; rows that cut or are hopeless."""
    rng = np.random.default_rng(seed)
    count = max(3 * size // 4, 1)
    channel = np.concatenate([np.arange(count), rng.integers(0, count, size - count)])
    gain = rng.choice([-1.0, 1.0], size) * rng.uniform(0.5, 1.0, size)
    factor = rng.normal(size=(count, rank)) * 0.5 ** np.arange(rank)
    matrix = rng.uniform(0, 1, (rows, count)) * rng.choice([-1.0, 1.0], (rows, 1))
    inside = np.bincount(channel, gain * rng.uniform(0.2, 0.8, size), minlength=count)
    return Program(
        linear=np.round(3 * rng.normal(size=size)) / 3,
        diagonal=np.where(rng.random(size) < 0.3, 0.5, 1e-9),
        upper=np.ones(size),
        channel=channel,
        gain=gain,
        factor=factor,
        rows=matrix,
        limit=matrix @ inside - rng.choice([0.0, 1.0, 40.0], rows, p=[0.6, 0.3, 0.1]),
        kink=np.tile([0.0, 0.05], (rows, 1)),
        penalty=np.tile([3.0, 7.0], (rows, 1)),
        engine=engine,
    )


def objective(program: Program, y: np.ndarray) -> float:
    excess = np.maximum(program.excess(y), 0.0)
    first = np.minimum(excess, program.kink[:, 1])
    penalty = program.penalty[:, 0] @ first + program.penalty[:, 1] @ (excess - first)
    smooth = program.linear @ y + (program.diagonal * y) @ y / 2 + ((program.total(y) @ program.factor) ** 2).sum() / 2
    return float(smooth + penalty)


def assert_optimal(program: Program, answer: Solution) -> None:
    """Sufficient for the optimum of a convex program: signs of slopes, duals on their staircase."""
    y, dual = answer.y, answer.dual
    assert (y >= 0).all()
    assert (y <= program.upper).all()
    slope = program.conditions(y, dual)[0]
    tiny = 1e-8
    assert (slope[y < program.upper] >= -tiny).all()
    assert (slope[y > 0] <= tiny).all()
    excess = program.excess(y)
    first, second = program.penalty.T
    low = np.where(excess < -tiny, 0.0, np.where(excess < tiny, 0.0, first))
    low = np.where(excess > program.kink[:, 1] + tiny, second, low)
    high = np.where(excess < -tiny, 0.0, np.where(excess < program.kink[:, 1] - tiny, first, second))
    assert (dual >= low - tiny).all()
    assert (dual <= high + tiny).all()


@given(st.integers(0, 10**6))
@settings(max_examples=60, deadline=None)
def test_the_answer_meets_the_optimality_conditions(engine: Engine, seed: int) -> None:
    program = random_program(seed, engine=engine)
    answer = solve_program(program, np.full(40, -1), np.zeros(6, dtype=np.int64))
    assert answer.exact
    assert_optimal(program, answer)


@given(st.integers(0, 10**6), st.floats(0.0, 1.0))
@settings(max_examples=60, deadline=None)
def test_a_descent_ends_at_the_optimum_wherever_it_begins(engine: Engine, seed: int, share: float) -> None:
    program = random_program(seed, engine=engine)
    answer = solve_program(program, np.full(40, -1), np.zeros(6, dtype=np.int64))
    begin = np.random.default_rng(seed).random(40)
    bound = np.where(begin < share, -1, np.where(begin > 0.9, 1, 0))
    down = descended(program, begin, np.zeros(6), bound, np.zeros(6, dtype=np.int64))
    assert down is not None
    assert_optimal(program, down)
    assert objective(program, down.y) == pytest.approx(objective(program, answer.y), abs=1e-8)


@given(st.integers(0, 10**6))
@settings(max_examples=40, deadline=None)
def test_where_many_bids_slope_the_climb_ends_at_the_optimum(engine: Engine, seed: int) -> None:
    program = replace(random_program(seed, size=200, engine=engine), diagonal=np.full(200, 0.5))
    answer = solve_program(program, np.zeros(200, dtype=np.int64), np.zeros(6, dtype=np.int64))
    assert answer.exact
    assert_optimal(program, answer)


def test_a_good_guess_is_kept(engine: Engine) -> None:
    program = random_program(1, engine=engine)
    answer = solve_program(program, np.full(40, -1), np.zeros(6, dtype=np.int64))
    again = descended(program, answer.y, answer.dual, answer.bound, answer.stair)
    assert again is not None
    assert again.y == pytest.approx(answer.y, abs=1e-10)


@pytest.mark.parametrize(("size", "rank"), [(400, 12), (40, 12)], ids=["Woodbury", "dense"])
def test_piqp_agrees(engine: Engine, size: int, rank: int) -> None:
    """Law 10: an interior-point solver by others on the same program, penalties as extra variables."""
    piqp = pytest.importorskip("piqp")
    for seed in range(3):
        program = random_program(seed, size=size, rank=rank, engine=engine)
        k = program.limit.size
        across = program.spread(np.eye(program.factor.shape[0]))
        bend = across.T @ program.factor
        inner = bend @ bend.T + np.diag(program.diagonal)
        quadratic = np.zeros((size + 2 * k, size + 2 * k))
        quadratic[:size, :size] = inner
        solver = piqp.DenseSolver()
        solver.settings.eps_abs = solver.settings.eps_rel = 1e-9
        solver.setup(
            quadratic,
            np.concatenate([program.linear, program.penalty.T.ravel()]),
            None,
            None,
            np.hstack([program.rows @ across, -np.eye(k), -np.eye(k)]),
            np.full(k, -np.inf),
            program.limit,
            np.zeros(size + 2 * k),
            np.concatenate([program.upper, program.kink[:, 1], np.full(k, np.inf)]),
        )
        assert solver.solve() == piqp.PIQP_SOLVED
        answer = solve_program(program, np.full(size, -1), np.zeros(k, dtype=np.int64))
        ours = objective(program, answer.y)
        theirs = objective(program, np.clip(solver.result.x[:size], 0, program.upper))
        assert ours <= theirs + 1e-7
        assert ours == pytest.approx(theirs, abs=1e-5)


def small(prices: list[float], need: float, engine: Engine, *, slope: float = 1e-9, penalty: float = 9.0) -> Program:
    """Sellers of one unit each, every one on a channel of its own, who must deliver `need` together."""
    size = len(prices)
    return Program(
        linear=np.array(prices),
        diagonal=np.full(size, slope),
        upper=np.ones(size),
        channel=np.arange(size),
        gain=np.ones(size),
        factor=np.zeros((size, 0)),
        rows=-np.ones((1, size)),
        limit=np.array([-need]),
        kink=np.array([[0.0, 0.1]]),
        penalty=np.array([[penalty, 10 * penalty]]),
        engine=engine,
    )


@given(st.integers(0, 10**6), st.integers(0, 10**6))
@settings(max_examples=40, deadline=None)
def test_any_guess_ends_at_the_same_dispatch_and_prices(engine: Engine, seed: int, guess: int) -> None:
    program = random_program(seed, engine=engine)
    rng = np.random.default_rng(guess)
    plain = solve_program(program, np.full(40, -1), np.zeros(6, dtype=np.int64))
    other = solve_program(
        program, rng.integers(-1, 2, 40), rng.integers(0, 5, 6), rng.random(40), rng.uniform(0.0, 9.0, 6)
    )
    assert plain.exact
    assert other.exact
    assert other.y == pytest.approx(plain.y, abs=1e-7)
    assert other.dual @ program.rows == pytest.approx(plain.dual @ program.rows, abs=1e-7)


def test_one_variable(engine: Engine) -> None:
    answer = solve_program(small([2.0], 0.25, engine), np.array([1]), np.array([3]))
    assert answer.exact
    assert answer.y == pytest.approx([0.25], abs=1e-12)
    assert answer.dual == pytest.approx([2.0], rel=1e-9)


def test_equal_sellers_share_what_is_needed(engine: Engine) -> None:
    """Among ties only the tiny slope decides: equal shares, from any guess."""
    for bound in (np.full(3, -1), np.array([1, -1, 0]), np.array([-1, 1, 1])):
        answer = solve_program(
            small([1.0, 1.0, 1.0, 4.0], 1.5, engine), np.append(bound, 1), np.zeros(1, dtype=np.int64)
        )
        assert answer.exact
        assert answer.y == pytest.approx([0.5, 0.5, 0.5, 0.0], abs=1e-6)
        assert answer.dual == pytest.approx([1.0], abs=1e-6)


@pytest.mark.parametrize("penalty", [9.0, 1e9])
def test_what_cannot_be_delivered_costs_the_last_penalty(engine: Engine, penalty: float) -> None:
    answer = solve_program(small([1.0, 2.0], 3.0, engine, penalty=penalty), np.full(2, -1), np.zeros(1, dtype=np.int64))
    assert answer.exact
    assert answer.y.tolist() == [1.0, 1.0]
    assert answer.dual == pytest.approx([10 * penalty])


def test_a_huge_penalty_does_not_blur_a_price(engine: Engine) -> None:
    program = small([1.0, 2.0, 3.0], 1.5, engine, penalty=1e9)
    answer = solve_program(program, np.full(3, -1), np.zeros(1, dtype=np.int64))
    assert answer.exact
    assert answer.dual == pytest.approx([2.0], rel=1e-8)


def test_steps_alone_are_a_merit_order(engine: Engine) -> None:
    """Without curvature and with one row the optimum is to fill up by price."""
    rng = np.random.default_rng(4)
    price = rng.uniform(1.0, 2.0, 300)
    answer = solve_program(small(list(price), 120.5, engine), rng.integers(-1, 2, 300), np.zeros(1, dtype=np.int64))
    assert answer.exact
    order = np.argsort(price)
    assert answer.y[order][:120] == pytest.approx(np.ones(120), abs=1e-9)
    assert answer.y[order][120] == pytest.approx(0.5, abs=1e-6)
    assert answer.dual == pytest.approx([price[order][120]], rel=1e-7)


def test_two_ends_of_one_line_share_a_dual(engine: Engine) -> None:
    """Rows that bind together leave their duals open, but not what they cost."""
    one = small([1.0, 2.0], 1.5, engine)
    twice = Program(
        one.linear,
        one.diagonal,
        one.upper,
        one.channel,
        one.gain,
        one.factor,
        np.tile(one.rows, (2, 1)),
        np.tile(one.limit, 2),
        np.tile(one.kink, (2, 1)),
        np.tile(one.penalty, (2, 1)),
        engine,
    )
    answer = solve_program(twice, np.full(2, -1), np.zeros(2, dtype=np.int64))
    assert answer.exact
    assert answer.y == pytest.approx([1.0, 0.5], abs=1e-9)
    assert answer.dual.sum() == pytest.approx(2.0, rel=1e-8)


def test_no_rows_and_no_variables(engine: Engine) -> None:
    program = random_program(3, rows=0, engine=engine)
    answer = solve_program(program, np.full(40, -1), np.zeros(0, dtype=np.int64))
    assert answer.exact
    assert_optimal(program, answer)


@pytest.mark.parametrize(("size", "rows", "rank"), [(300, 20, 12), (300, 2, 12), (40, 6, 30), (40, 0, 5), (40, 6, 0)])
def test_arrays_and_compiled_loops_find_the_same(size: int, rows: int, rank: int) -> None:
    pytest.importorskip("numba", reason="compiled loops need the extra 'fast'")
    found = []
    for engine in (Engine.SUPERLU, Engine.SWEEPS):
        program = random_program(size + rows, size, rows, rank, engine=engine)
        found.append(solve_program(program, np.full(size, -1), np.zeros(rows, dtype=np.int64)))
    assert found[0].bound.tolist() == found[1].bound.tolist()
    assert found[0].y == pytest.approx(found[1].y, abs=1e-9)
    assert found[0].dual @ program.rows == pytest.approx(found[1].dual @ program.rows, abs=1e-9)
