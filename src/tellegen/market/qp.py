"""The quadratic program of one step, solved exactly: active sets from a warm guess, else an interior point first."""

from __future__ import annotations

import numpy as np

from tellegen.grid.network import IntArray
from tellegen.market.active_set import active_sets, descend
from tellegen.market.interior_point import interior_point
from tellegen.market.program import Program, Solution

DESCENT_STEPS_MAX = 500


def solve_program(program: Program, bound: IntArray, stair: IntArray) -> Solution:
    """Solve a program from a guess of its active sets (see `Solution`); any guess is allowed.

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
    found = active_sets(program, bound, stair)
    if found is not None:
        return found
    y, dual, bound, stair = interior_point(program)
    found = active_sets(program, bound, stair)
    if found is None:
        sides = np.where(bound < 0, 0.0, np.where(bound > 0, program.upper, y))
        found = descend(program, np.clip(sides, 0.0, program.upper), DESCENT_STEPS_MAX)
    return Solution(y, dual, bound, stair, exact=False) if found is None else found
