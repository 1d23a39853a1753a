"""The quadratic program of one step, solved exactly: a climb over prices where bids are new, then a descent.

The climb finds about where the optimum is, the descent goes there member by member. Where many variables are free
between their bounds, because bids slope, the climb goes all the way alone.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ParamSpec, TypeVar

import numpy as np

from tellegen.grid.elimination import Engine
from tellegen.grid.network import FloatArray, IntArray
from tellegen.grid.twofold import Twofold
from tellegen.market.climb import HARDER, climb
from tellegen.market.descent import descend
from tellegen.market.program import Program, Solution

ParamT = ParamSpec("ParamT")
AnswerT = TypeVar("AnswerT")

SOFTNESS_NEAR, SOFTNESS_FAR = 0.02, 1.0
"""Price range over which steps answer at first, relative to the size of prices: from a point with duals, from none."""
SOFTNESS_LAST = 1e-4
"""From a guess that hardly anything disagrees with."""
FIRMNESS = 1e-3
"""Share of what all variables could answer to a row that its dual's own centre adds, at softness 1."""
STAGES_FIRST, STAGES_MAX = 3, 10
"""Centres of a climb from no duals, and of one that goes all the way."""
FREE_MAX = 100
"""So many free variables are a descent's."""
SLOPED, SLOPED_MAX = 1e-3, 30
"""Unless the price of more than so many of them varies by more than that share over their width."""
LAST_MAX = 400
"""The last resort's dense system has at most so many free variables."""
DESCENTS_MAX = 3
WRONG_MAX = 10
"""A guess that more variables at their bounds disagree with is none."""
WRONG = 1e-10
MET, TOGETHER = 1e-9, 1e-7
"""Excess of a row that is met, as a share of its size; share of their effects in which rows say different things."""


def solve_program(
    program: Program,
    bound: IntArray,
    stair: IntArray,
    y: FloatArray | None = None,
    dual: FloatArray | None = None,
) -> Solution:
    """Solve a program from a guess of its active sets (see `Solution`); any guess is allowed.

    Parameters
    ----------
    bound, stair : guess of the active sets.
    y, dual : a point and duals to start from where the guess proves wrong; where absent, what bound and stair say.

    Examples
    --------
    Two sellers at 1 and 2 must deliver 3 of their 2 + 2 (row: -(y0 + y1) <= -3): the dual is the dearer price.

    >>> program = Program(
    ...     linear=np.array([1.0, 2.0]), diagonal=np.full(2, 1e-12), upper=np.full(2, 2.0),
    ...     channel=np.zeros(2, int), gain=np.ones(2), factor=np.zeros((1, 0)), rows=-np.ones((1, 1)),
    ...     limit=np.array([-3.0]), kink=np.array([[0.0, 1.0]]), penalty=np.array([[9.0, 99.0]]))
    >>> answer = solve_program(program, np.full(2, -1), np.zeros(1, int))
    >>> answer.y.round(9).tolist(), answer.dual.round(9).tolist()
    ([2.0, 1.0], [2.0])
    """
    far = y is None or dual is None
    if y is None:
        y = np.where(bound < 0, 0.0, np.where(bound > 0, program.upper, program.upper / 2))
    if dual is None:
        levels = np.concatenate([np.zeros((stair.size, 1)), program.penalty], axis=1)
        dual = levels[np.arange(stair.size), stair // 2]
    y, dual = np.clip(y, 0.0, program.upper), np.clip(dual, 0.0, program.penalty[:, 1])
    softness = SOFTNESS_FAR if far else SOFTNESS_NEAR
    wrong = bound * program.conditions(y, dual)[0] > WRONG * np.abs(program.linear)
    few = _few(program, bound)
    if not far and int(wrong.sum()) <= WRONG_MAX:
        softness = SOFTNESS_LAST
        found = descended(program, y, dual, bound, stair) if few else None
        if found is not None:
            return found
    stages = STAGES_FIRST if far else 1 if few else STAGES_MAX
    near = climbed(program, softness, y, dual, stages)
    while not near.exact:
        last = stages == STAGES_MAX
        if _few(program, near.bound) or (last and int((near.bound == 0).sum()) <= LAST_MAX):
            found = descended(program, near.y, near.dual, near.bound, near.stair)
            if found is not None:
                return found
        if last:
            break
        softness, stages = softness * HARDER**stages, STAGES_MAX
        near = climbed(program, softness, near.y, near.dual, stages)
    return near


def load_loops(engine: Engine) -> None:
    """Solve a little program, so that no clearing waits for loops to be loaded, or compiled if they never were."""
    one = np.ones(1)
    program = Program(
        linear=one,
        diagonal=one,
        upper=one,
        channel=np.zeros(1, dtype=np.int64),
        gain=one,
        factor=np.ones((1, 1)),
        rows=-np.ones((1, 1)),
        limit=-one / 2,
        kink=np.array([[0.0, 1.0]]),
        penalty=np.array([[9.0, 99.0]]),
        engine=engine,
    )
    near = climbed(program, SOFTNESS_FAR, np.zeros(1), np.zeros(1), 1)
    descended(program, near.y, near.dual, near.bound, near.stair)


def _few(program: Program, bound: IntArray) -> bool:
    """Whether what is free is a descent's."""
    free = bound == 0
    sloped = program.diagonal * program.upper > SLOPED * np.abs(program.linear)
    return int(free.sum()) <= FREE_MAX and int((free & sloped).sum()) <= SLOPED_MAX


def descended(program: Program, y: FloatArray, dual: FloatArray, bound: IntArray, stair: IntArray) -> Solution | None:
    """Where a descent ends, the optimum; None where it fails."""
    y, dual, bound, stair = y.copy(), dual.copy(), bound.astype(np.int64), stair.astype(np.int64)
    price = float((np.abs(program.linear) / np.abs(program.gain)).max(initial=1e-12))
    # Where there is no room for one more member, or numbers fail, it begins anew where it stands.
    try:
        if not any(_run(program, descend)(program.terms, price, y, dual, bound, stair) for _ in range(DESCENTS_MAX)):
            return None
    except np.linalg.LinAlgError:
        return None
    answer = Solution(np.clip(y, 0.0, program.upper), np.maximum(dual, 0.0), bound, stair, exact=True)
    return _levelled(program, answer, price)


def _levelled(program: Program, answer: Solution, price: float) -> Solution:
    """Where limits bind together in what is free to move, the least of the duals that say the same.

    Which of such rows a descent holds depends on the way that it took.
    """
    met = np.flatnonzero(np.abs(program.excess(answer.y)) <= MET * program.row_size())
    held = answer.stair % 2 == 1
    if (answer.stair[met] > 1).any() or met.size <= int(held[met].sum()):
        return answer
    free = np.flatnonzero(answer.bound == 0)
    reach = program.rows[met][:, program.channel[free]] * program.gain[free] / program.row_size()[met, None]
    pull = (answer.dual[met] * program.row_size()[met]) @ reach
    scale = 1.0 / (np.abs(reach).max(axis=0, initial=0.0) + 1e-300)
    least = np.linalg.lstsq((reach * scale).T, pull * scale, rcond=TOGETHER)[0]
    dual, stair = answer.dual.copy(), answer.stair.copy()
    dual[met] = least / program.row_size()[met]
    stair[met] = 1
    slope = program.conditions(answer.y, dual)[0] / np.abs(program.gain)
    wrong = np.where(answer.bound == 0, np.abs(slope), answer.bound * slope)
    if (least < 0.0).any() or (dual > program.penalty[:, 0])[met].any() or wrong.max(initial=0.0) > WRONG * price:
        return answer
    return Solution(answer.y, dual, answer.bound, stair, exact=True)


def climbed(program: Program, softness: float, y: FloatArray, dual: FloatArray, stages: int) -> Solution:
    """Where a climb of so many centres ends."""
    y, dual, reach = y.copy(), dual.copy(), np.abs(program.gain)
    price = max(float(np.median(np.abs(program.linear) / reach)) if reach.size else 0.0, 1e-12)
    unit = price * reach / program.upper
    answers = program.total(program.gain / (program.diagonal + unit))
    firmness = FIRMNESS * (program.rows**2 @ answers) + 1e-300
    try:
        exact = _run(program, climb)(program.terms, unit, firmness, softness, price, stages, y, dual)
    except np.linalg.LinAlgError:
        exact = False  # as far as it came
    first, last = program.penalty.T
    bound = (y >= program.upper).astype(np.int64) - (y <= 0.0)
    stair = (dual > 0).astype(np.int64) + (dual >= first) + (dual > first) + (dual >= last)
    return Solution(y, dual, bound, stair, exact=bool(exact))


def _run(program: Program, function: Twofold[ParamT, AnswerT]) -> Callable[ParamT, AnswerT]:
    return function.compiled if program.engine is Engine.SWEEPS else function.plain
