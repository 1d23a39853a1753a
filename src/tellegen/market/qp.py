"""The quadratic program of one step, solved exactly: active sets from a good guess, else a search over prices first.

An interior point, and a descent that cannot cycle, stand behind them.
"""

from __future__ import annotations

import numpy as np

from tellegen.grid.network import FloatArray, IntArray
from tellegen.market.active_set import active_sets, descend
from tellegen.market.interior_point import interior_point
from tellegen.market.price_search import PriceSearch
from tellegen.market.program import Program, Solution

SOFTNESS_NEAR, SOFTNESS_FAR = 0.005, 1.0
"""Price range over which steps answer at first, relative to the size of prices: from a point with duals, from none."""
SOFTNESS_SHARP = 0.05
"""At less than this softness the active sets are worth a try."""
CLIMBS_MAX = 8
DESCENT_STEPS_MAX = 500


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
    found = active_sets(program, bound, stair, y, dual)
    if found is not None:
        return found
    softness = SOFTNESS_FAR if y is None or dual is None else SOFTNESS_NEAR
    if y is None:
        y = np.where(bound < 0, 0.0, np.where(bound > 0, program.upper, program.upper / 2))
    if dual is None:
        levels = np.concatenate([np.zeros((stair.size, 1)), program.penalty], axis=1)
        dual = levels[np.arange(stair.size), stair // 2]
    found = _by_prices(program, PriceSearch(program, y, dual, softness))
    if found is not None:
        return found
    y, dual, bound, stair = interior_point(program)
    found = active_sets(program, bound, stair)
    if found is None:
        sides = np.where(bound < 0, 0.0, np.where(bound > 0, program.upper, y))
        found = descend(program, np.clip(sides, 0.0, program.upper), DESCENT_STEPS_MAX)
    return Solution(y, dual, bound, stair, exact=False) if found is None else found


def _by_prices(program: Program, search: PriceSearch) -> Solution | None:
    """Climb until the active sets settle on what was found; None where they do not."""
    for _ in range(CLIMBS_MAX):
        sharp = search.softness < SOFTNESS_SHARP
        bound, stair = search.climb()
        found = active_sets(program, bound, stair, search.y, search.dual) if sharp else None
        if found is not None:
            return found
    return None
