"""Primal active sets: from a point and a guess of what is free and tight there, down to the optimum, member by member.

Rows are elastic, so every point of the box is feasible. A step goes to the optimum over the free variables, rows that
are held staying at their kinks; it stops where a variable meets a bound (which leaves the free ones) or a row a kink
(which is held from there on). After a whole step the member that wants to most changes sides. Each step goes down, so
nothing comes back but by rounding, and what is asked of the optimality system is one more or one less member: its
inverse is bordered, not made anew.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tellegen.grid.network import FloatArray, IntArray
from tellegen.market.program import Program, Solution

STEPS_MAX = 400
MEETINGS_MAX = 6
"""Rounds in which rows are brought to the kinks that the guess holds them at."""
DEPENDENT = 1e-7
"""A row of which free variables reach no more than this share beside others is not held."""
LEFT, LEFT_ROUGH, ROUGH_MAX = 1e-7, 0.1, 4
"""Share of the right side that a step may leave unsolved before the inverse is made anew, and even then; so many whole
steps of that kind in turn are followed by others."""
CONTENT = 1e-10
"""A member that wants to change sides by less than this, relative to the size of prices, stays."""


def descend(program: Program, y: FloatArray, dual: FloatArray, bound: IntArray, stair: IntArray) -> Solution | None:
    """The optimum, up to rounding; None where numbers fail, or it takes too many steps.

    Parameters
    ----------
    y, dual, bound, stair : near the optimum, as a climb over prices leaves them.
    """
    return _Descent(program, y, dual, bound, stair).run()


class _Descent:
    """A point, the members of its optimality system, and the system's inverse.

    Members are variables (their number) and rows (minus one less their number), each with a scale that brings its
    diagonal, or its largest entry, to one. `reach` float64[n, r + k] says what a unit of each does to the coordinates
    of the curvature and to the rows; for rows that is nothing.
    """

    def __init__(self, program: Program, y: FloatArray, dual: FloatArray, bound: IntArray, stair: IntArray) -> None:
        self.program, self.rank = program, program.factor.shape[1]
        self.levels = np.concatenate([np.zeros((stair.size, 1)), program.penalty], axis=1)
        self.edges = np.concatenate(
            [np.full((stair.size, 1), -np.inf), program.kink, np.full((stair.size, 1), np.inf)], axis=1
        )
        self.every = np.arange(stair.size)
        self.price = float(np.abs(program.linear).max(initial=1e-12))
        self.row_size = program.row_size()
        self.bound, self.stair = bound.copy(), stair.copy()
        self.y = np.where(bound < 0, 0.0, np.where(bound > 0, program.upper, y))
        self._meet()
        step, odd = self.stair // 2, self.stair % 2 == 1
        self.dual = np.where(odd, dual, self.levels[self.every, np.minimum(step, 2)])
        # What of duals and excesses leaves each row where it stands; held rows are not stopped by their kinks.
        self.floor = np.where(odd, -np.inf, self.edges[self.every, np.minimum(step, 2)])
        self.roof = np.where(odd, np.inf, self.edges[self.every, np.minimum(step, 2) + 1])
        self.steps, self.rough, self.sound = 0, 0, True

    def _meet(self) -> None:
        """Bring the rows that are held to their kinks by the free variables; those that cannot be are let go."""
        program = self.program
        held = np.flatnonzero(self.stair % 2 == 1)
        target = program.kink[held, np.minimum(self.stair[held] // 2, 1)]
        total = program.total(self.y)
        for _ in range(MEETINGS_MAX):
            free = np.flatnonzero(self.bound == 0)
            across = program.rows[np.ix_(held, program.channel[free])] * program.gain[free] * program.upper[free]
            chosen = _independent(across)
            held, target, across = held[chosen], target[chosen], across[chosen]
            gap = target - (program.rows[held] @ total - program.limit[held])
            if not held.size or float((np.abs(gap) / self.row_size[held]).max()) <= 1e-12:
                break
            try:
                moved = self.y[free] + program.upper[free] * (across.T @ np.linalg.solve(across @ across.T, gap))
            except np.linalg.LinAlgError:
                # Rows that rounding makes dependent all the same are let go below.
                break
            low, high = moved <= 0.0, moved >= program.upper[free]
            self.y[free] = np.where(low, 0.0, np.where(high, program.upper[free], moved))
            self.bound[free[low]], self.bound[free[high]] = -1, 1
            total = program.total(self.y)
        self.excess = program.rows @ total - program.limit
        self.z = total @ program.factor
        # What is not held stands where it stands.
        stair = 2 * (self.excess[:, None] > program.kink).sum(axis=1).astype(np.int64)
        gap = target - self.excess[held]
        met = np.abs(gap) <= 1e-9 * self.row_size[held]
        stair[held[met]] = self.stair[held[met]]
        self.stair = stair

    def run(self) -> Solution | None:
        """Go down to the optimum."""
        if not self._start():
            return None
        while self.steps < STEPS_MAX:
            self.steps += 1
            whole = self._step()
            if whole is None:
                return None
            if whole and not self._change():
                y = np.clip(self.y, 0.0, self.program.upper)
                return Solution(y, np.maximum(self.dual, 0.0), self.bound, self.stair, exact=False)
            if not self.sound:
                return None
        return None

    def _start(self) -> bool:
        """Make the system and its inverse."""
        program, rank = self.program, self.rank
        free, held = np.flatnonzero(self.bound == 0), np.flatnonzero(self.stair % 2 == 1)
        channel, gain = program.channel[free], program.gain[free]
        self.members = np.concatenate([free, -1 - held])
        self.reach = np.zeros((self.members.size, rank + self.every.size))
        self.reach[: free.size] = program.across[channel] * gain[:, None]
        if program.square is None:
            block = self.reach[: free.size, :rank] @ self.reach[: free.size, :rank].T
        else:
            block = program.square[np.ix_(channel, channel)] * gain * gain[:, None]
        block[np.diag_indices(free.size)] += program.diagonal[free]
        across = self.reach[: free.size, rank + held]
        system = np.zeros((self.members.size, self.members.size))
        system[: free.size, : free.size] = block
        system[: free.size, free.size :], system[free.size :, : free.size] = across, across.T
        self.scale = np.ones(self.members.size)
        self.scale[: free.size] = 1.0 / np.sqrt(np.diagonal(block))
        if free.size:
            self.scale[free.size :] = 1.0 / (np.abs(across.T * self.scale[: free.size]).max(axis=1) + 1e-300)
        self.system = system * self.scale * self.scale[:, None]
        return self._invert()

    def _invert(self) -> bool:
        if not self.members.size:
            self.inverse = np.zeros((0, 0))
            return True
        try:
            self.inverse = np.asarray(np.linalg.inv(self.system), dtype=np.float64)
        except np.linalg.LinAlgError:
            return False
        return bool(np.isfinite(self.inverse).all())

    def _solve(self, right: FloatArray) -> FloatArray | None:
        most = max(float(np.abs(right).max(initial=0.0)), 1e-300)
        for fresh in (False, True):
            answer = self.inverse @ right
            answer += self.inverse @ (right - self.system @ answer)
            share = float(np.abs(right - self.system @ answer).max(initial=0.0)) / most
            if share <= (LEFT_ROUGH if fresh else LEFT):
                # What a rough answer leaves is gone in the next steps.
                self.rough = self.rough + 1 if share > LEFT else 0
                return answer
            if fresh or not self._invert():
                break
        return None

    def _step(self) -> bool | None:
        """One step, or a part of it; whether it was whole, None where it cannot be solved for."""
        program, members, rank = self.program, self.members, self.rank
        variable = members >= 0
        ids = np.where(variable, members, 0)
        rows = -1 - members[~variable]
        at = self.y[ids]
        right = -(program.linear[ids] + program.diagonal[ids] * at + self.reach @ np.concatenate([self.z, self.dual]))
        target = program.kink[rows, np.minimum(self.stair[rows] // 2, 1)]
        right[~variable] = target - self.excess[rows]
        answer = self._solve(right * self.scale)
        if answer is None:
            return None
        answer *= self.scale
        move = np.where(variable, answer, 0.0)
        change = move @ self.reach
        share, place, row = self._stop(move, at, program.upper[ids], change[rank:])
        self.y[members[variable]] += share * move[variable]
        self.dual[rows] += share * answer[~variable]
        self.z += share * change[:rank]
        self.excess += share * change[rank:]
        if row >= 0:
            self._stand(row, self.stair[row] + (1 if change[rank + row] > 0 else -1))
            self._join(-1 - row)
        elif place >= 0:
            met, up = int(members[place]), bool(move[place] > 0)
            self.bound[met], self.y[met] = (1, program.upper[met]) if up else (-1, 0.0)
            self._leave(place)
        else:
            self.excess[rows] = target
            return not 0 < self.rough < ROUGH_MAX
        return False

    def _stop(self, move: FloatArray, at: FloatArray, upper: FloatArray, change: FloatArray) -> tuple[float, int, int]:
        """Share of a move that can be gone, and the member or the row that is met there (-1: none)."""
        with np.errstate(divide="ignore", invalid="ignore"):
            reach = np.where(move > 0, (upper - at) / move, np.where(move < 0, at / -move, np.inf))
            edge = np.where(change > 0, self.roof, self.floor)
            moving = np.abs(change) > 1e-14 * self.row_size
            row_reach = np.where(moving, np.maximum((edge - self.excess) / change, 0.0), np.inf)
        place = int(np.argmin(reach)) if reach.size else -1
        row = int(np.argmin(row_reach)) if row_reach.size else -1
        first = float(reach[place]) if place >= 0 else np.inf
        second = float(row_reach[row]) if row >= 0 else np.inf
        if min(first, second) >= 1.0 - 1e-12:
            return 1.0, -1, -1
        return (max(first, 0.0), place, -1) if first <= second else (second, -1, row)

    def _stand(self, row: int, stair: int) -> None:
        """Put a row on a tread or riser of its staircase."""
        self.stair[row] = stair
        tread = stair // 2
        if stair % 2:
            self.floor[row], self.roof[row] = -np.inf, np.inf
        else:
            self.dual[row] = self.levels[row, tread]
            self.floor[row], self.roof[row] = self.edges[row, tread], self.edges[row, tread + 1]

    def _change(self) -> bool:
        """Let the member that wants to most change sides; False where all are content."""
        program = self.program
        price = program.across @ np.concatenate([self.z, self.dual])
        want = self.bound * (program.linear + program.diagonal * self.y + program.spread(price))
        step = self.stair // 2
        low, high = self.levels[self.every, np.minimum(step, 2)], self.levels[self.every, np.minimum(step + 1, 2)]
        beyond = np.maximum(self.dual - high, low - self.dual) * self.row_size
        beyond = np.where(self.stair % 2 == 1, beyond, -np.inf)
        first, row = float(want.max(initial=0.0)), float(beyond.max(initial=0.0))
        if max(first, row) <= CONTENT * self.price:
            return False
        if first >= row:
            at = int(np.argmax(want))
            self.bound[at] = 0
            self._join(at)
        else:
            at = int(np.argmax(beyond))
            self._stand(at, self.stair[at] + (1 if self.dual[at] > high[at] else -1))
            self._leave(int(np.flatnonzero(self.members == -1 - at)[0]))
        return True

    def _join(self, member: int) -> None:
        program, rank = self.program, self.rank
        reach = np.zeros(self.reach.shape[1])
        if member >= 0:
            channel, gain = program.channel[member], program.gain[member]
            reach = program.across[channel] * gain
            variable = self.members >= 0
            if program.square is None:
                column = self.reach[:, :rank] @ reach[:rank]
                own = float(reach[:rank] @ reach[:rank])
            else:
                ids = np.where(variable, self.members, 0)
                column = program.square[channel, program.channel[ids]] * program.gain[ids] * gain
                own = float(program.square[channel, channel] * gain * gain)
            column[~variable] = reach[rank - 1 - self.members[~variable]]
            own += float(program.diagonal[member])
            scale = 1.0 / np.sqrt(own)
            column *= self.scale
        else:
            column, own = self.reach[:, rank - 1 - member] * self.scale, 0.0
            scale = 1.0 / (float(np.abs(column).max(initial=0.0)) + 1e-300)
        column, own = column * scale, own * scale * scale
        size = self.members.size
        gone = self.inverse @ column
        pivot = own - float(column @ gone)
        self.sound = abs(pivot) > 1e-15
        if not self.sound:
            return
        inverse, system = np.empty((size + 1, size + 1)), np.empty((size + 1, size + 1))
        inverse[:size, :size] = self.inverse + gone[:, None] * (gone / pivot)
        inverse[:size, size] = inverse[size, :size] = -gone / pivot
        inverse[size, size] = 1.0 / pivot
        system[:size, :size] = self.system
        system[:size, size] = system[size, :size] = column
        system[size, size] = own
        self.inverse, self.system = inverse, system
        self.members, self.scale = np.append(self.members, member), np.append(self.scale, scale)
        self.reach = np.concatenate([self.reach, reach[None, :]])

    def _leave(self, at: int) -> None:
        column = self.inverse[:, at]
        self.sound = abs(column[at]) > 1e-15
        if not self.sound:
            return
        keep = np.flatnonzero(np.arange(self.members.size) != at)
        inverse = self.inverse - column[:, None] * (column / column[at])
        both = keep[:, None], keep
        self.inverse, self.system = inverse[both], self.system[both]
        self.members, self.scale, self.reach = self.members[keep], self.scale[keep], self.reach[keep]


def _independent(across: FloatArray) -> NDArray[np.int64]:
    """Rows of a matrix that none of those before nearly is made of, in the order of how much they reach."""
    if not across.size:
        return np.zeros(0, dtype=np.int64)
    rest = across / np.maximum(np.linalg.norm(across, axis=1), 1e-300)[:, None]
    size = (rest**2).sum(axis=1)
    chosen: list[int] = []
    for _ in range(min(across.shape)):
        at = int(np.argmax(size))
        if size[at] <= DEPENDENT:
            break
        chosen.append(at)
        unit = rest[at] / np.sqrt(size[at])
        rest = rest - (rest @ unit)[:, None] * unit
        size = (rest**2).sum(axis=1)
        size[chosen] = -1.0
    return np.array(sorted(chosen), dtype=np.int64)
