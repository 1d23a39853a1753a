"""The quadratic program of one step, solved exactly: active sets from a good guess, else a search over prices first.

What the search finds is brought to the optimum by a descent member by member where few variables are free, and by
active sets all at once where many are.
"""

from __future__ import annotations

import numpy as np

from tellegen.grid.network import FloatArray, IntArray
from tellegen.market.active_set import active_sets
from tellegen.market.descent import descend
from tellegen.market.price_search import PriceSearch
from tellegen.market.program import Program, Solution

SOFTNESS_NEAR, SOFTNESS_FAR = 0.02, 1.0
"""Price range over which steps answer at first, relative to the size of prices: from a point with duals, from none."""
SOFTNESS_SHARP = 0.05
"""At less than this softness the active sets are worth a try."""
CLIMBS_MAX = 8
FREE_MAX = 100
"""So many free variables are a descent's; more settle together."""
MEMBERS_MAX = 400
"""The last resort's dense system has at most so many free variables and tight rows."""


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
    return _by_prices(program, PriceSearch(program, y, dual, softness))


def _by_prices(program: Program, search: PriceSearch) -> Solution:
    """Climb until what was found is sharp enough for the sets to settle; where they never do, what was found."""
    for _ in range(CLIMBS_MAX):
        sharp = search.softness < SOFTNESS_SHARP
        bound, stair = search.climb()
        if not sharp:
            continue
        y, dual = search.y, search.dual
        near = descend(program, y, dual, bound, stair) if int((bound == 0).sum()) <= FREE_MAX else None
        if near is not None:
            bound, stair, y, dual = near.bound, near.stair, near.y, near.dual
        answer = active_sets(program, bound, stair, y, dual)
        if answer is not None:
            return answer
    few = int((bound == 0).sum() + (stair % 2 == 1).sum()) <= MEMBERS_MAX
    near = descend(program, search.y, search.dual, bound, stair) if few else None
    if near is None:
        return Solution(search.y, search.dual, bound, stair, exact=False)
    return active_sets(program, near.bound, near.stair, near.y, near.dual) or near
