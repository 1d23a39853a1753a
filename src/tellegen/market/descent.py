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
    diagonal, or its largest entry, to one.
    """

    def __init__(self, program: Program, y: FloatArray, dual: FloatArray, bound: IntArray, stair: IntArray) -> None:
        self.program = program
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
        self.dual = np.where(self.stair % 2 == 1, dual, self._tread())
        self.steps, self.rough, self.sound = 0, 0, True

    def _tread(self) -> FloatArray:
        return np.asarray(self.levels[self.every, np.minimum(self.stair // 2, 2)])

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
            moved = self.y[free] + program.upper[free] * (across.T @ np.linalg.solve(across @ across.T, gap))
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
        free, held = np.flatnonzero(self.bound == 0), np.flatnonzero(self.stair % 2 == 1)
        if not self._start(np.concatenate([free, -1 - held])):
            return None
        while self.steps < STEPS_MAX:
            self.steps += 1
            whole = self._step()
            if whole is None:
                return None
            if whole and not self._change():
                y = np.clip(self.y, 0.0, self.program.upper)
                return Solution(y, np.maximum(self.dual, 0.0), self.bound, self.stair, exact=False)
        return None

    def _columns(self, members: IntArray, others: IntArray) -> FloatArray:
        """Entries of the system between members (rows) and others, scaled by neither."""
        program = self.program
        answer = np.zeros((members.size, others.size))
        one, two = members >= 0, others >= 0
        if one.any() and two.any():
            a, b = members[one], others[two]
            if program.square is not None:
                part = program.square[np.ix_(program.channel[a], program.channel[b])]
            else:
                part = program.factor[program.channel[a]] @ program.factor[program.channel[b]].T
            part = part * program.gain[b] * program.gain[a][:, None]
            part += np.where(a[:, None] == b, program.diagonal[b], 0.0)
            answer[np.ix_(one, two)] = part
        for first, second, turned in ((one, ~two, False), (~one, two, True)):
            if first.any() and second.any():
                row, variable = (others[~two], members[one]) if not turned else (members[~one], others[two])
                part = program.rows[np.ix_(-1 - row, program.channel[variable])] * program.gain[variable]
                answer[np.ix_(first, second)] = part if turned else part.T
        return answer

    def _start(self, members: IntArray) -> bool:
        """Make the system and its inverse anew."""
        system = self._columns(members, members)
        count = int((members >= 0).sum())
        scale = np.ones(members.size)
        diagonal = np.diagonal(system)
        scale[members >= 0] = 1.0 / np.sqrt(diagonal[members >= 0])
        if count and count < members.size:
            rows = members < 0
            scale[rows] = 1.0 / (np.abs(system[rows] * scale).max(axis=1) + 1e-300)
        self.members, self.scale = members, scale
        self.system = system * scale * scale[:, None]
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
        for fresh in (False, True):
            answer = self.inverse @ right
            left = right - self.system @ answer
            answer = answer + self.inverse @ left
            left = right - self.system @ answer
            share = float(np.abs(left).max(initial=0.0)) / max(float(np.abs(right).max(initial=0.0)), 1e-300)
            if share <= (LEFT_ROUGH if fresh else LEFT):
                # What a rough answer leaves is gone in the next steps.
                self.rough = self.rough + 1 if share > LEFT else 0
                return answer
            if fresh or not self._invert():
                break
        return None

    def _step(self) -> bool | None:
        """One step, or a part of it; whether it was whole, None where it cannot be solved for."""
        program, members = self.program, self.members
        variable, held = members >= 0, members < 0
        free, rows = members[variable], -1 - members[held]
        right = np.empty(members.size)
        channel, gain = program.channel[free], program.gain[free]
        price = program.factor[channel] @ self.z + self.dual @ program.rows[:, channel]
        right[variable] = -(program.linear[free] + program.diagonal[free] * self.y[free] + gain * price)
        target = program.kink[rows, np.minimum(self.stair[rows] // 2, 1)]
        right[held] = target - self.excess[rows]
        answer = self._solve(right * self.scale)
        if answer is None:
            return None
        answer = answer * self.scale
        move, turn = answer[variable], answer[held]
        moved = gain * move
        change = program.rows[:, channel] @ moved
        share, at, is_row = self._reach(free, move, change)
        self.y[free] += share * move
        self.dual[rows] += share * turn
        self.excess += share * change
        self.z += share * (moved @ program.factor[channel])
        if at < 0:
            self.excess[rows] = target
            return not 0 < self.rough < ROUGH_MAX
        if is_row:
            up = change[at] > 0
            self.stair[at] += 1 if up else -1
            self._join(-1 - at)
        else:
            i = int(np.flatnonzero(free == at)[0])
            self.bound[at] = 1 if move[i] > 0 else -1
            self.y[at] = program.upper[at] if move[i] > 0 else 0.0
            self._leave(int(np.flatnonzero(members == at)[0]))
        return False if self.sound else None

    def _reach(self, free: IntArray, move: FloatArray, change: FloatArray) -> tuple[float, int, bool]:
        """Share of a move that can be gone, what is met there (-1: nothing), and whether it is a row."""
        program = self.program
        with np.errstate(divide="ignore", invalid="ignore"):
            room = np.where(move > 0, program.upper[free] - self.y[free], self.y[free])
            reach = np.where(move != 0, room / np.abs(move), np.inf)
            tread = np.minimum(self.stair // 2, 2)
            edge = np.where(change > 0, self.edges[self.every, tread + 1], self.edges[self.every, tread])
            moving = (self.stair % 2 == 0) & (np.abs(change) > 1e-14 * self.row_size)
            row_reach = np.where(moving, np.maximum((edge - self.excess) / change, 0.0), np.inf)
        first, row = float(reach.min(initial=np.inf)), float(row_reach.min(initial=np.inf))
        if min(first, row) >= 1.0 - 1e-12:
            return 1.0, -1, False
        if first <= row:
            return max(first, 0.0), int(free[int(np.argmin(reach))]), False
        return row, int(np.argmin(row_reach)), True

    def _change(self) -> bool:
        """Let the member that wants to most change sides; False where all are content."""
        program = self.program
        price = program.factor @ self.z + self.dual @ program.rows
        slope = program.linear + program.diagonal * self.y + program.spread(price)
        want = self.bound * slope
        odd, step = self.stair % 2 == 1, self.stair // 2
        low = self.levels[self.every, np.minimum(step, 2)]
        high = self.levels[self.every, np.minimum(step + 1, 2)]
        beyond = np.where(odd, np.maximum(self.dual - high, low - self.dual) * self.row_size, -np.inf)
        first, row = float(want.max(initial=0.0)), float(beyond.max(initial=0.0))
        if max(first, row) <= CONTENT * self.price:
            return False
        if first >= row:
            at = int(np.argmax(want))
            self.bound[at] = 0
            self._join(at)
        else:
            at = int(np.argmax(beyond))
            self.stair[at] += 1 if self.dual[at] > high[at] else -1
            self.dual[at] = self.levels[at, self.stair[at] // 2]
            self._leave(int(np.flatnonzero(self.members == -1 - at)[0]))
        return bool(self.sound)

    def _join(self, member: int) -> None:
        one = np.array([member])
        column, corner = self._columns(self.members, one)[:, 0] * self.scale, self._columns(one, one)[0, 0]
        scale = 1.0 / np.sqrt(corner) if member >= 0 else 1.0 / (float(np.abs(column).max(initial=0.0)) + 1e-300)
        column, corner = column * scale, corner * scale * scale
        size = self.members.size
        gone = self.inverse @ column
        pivot = corner - float(column @ gone)
        self.sound = abs(pivot) > 1e-15
        if not self.sound:
            return
        inverse, system = np.empty((size + 1, size + 1)), np.empty((size + 1, size + 1))
        inverse[:size, :size] = self.inverse + gone[:, None] * (gone / pivot)
        inverse[:size, size] = inverse[size, :size] = -gone / pivot
        inverse[size, size] = 1.0 / pivot
        system[:size, :size] = self.system
        system[:size, size] = system[size, :size] = column
        system[size, size] = corner
        self.inverse, self.system = inverse, system
        self.members, self.scale = np.append(self.members, member), np.append(self.scale, scale)

    def _leave(self, at: int) -> None:
        keep = np.arange(self.members.size) != at
        column = self.inverse[:, at]
        self.sound = abs(column[at]) > 1e-15
        if not self.sound:
            return
        inverse = self.inverse - column[:, None] * (column / column[at])
        self.inverse, self.system = inverse[keep][:, keep], self.system[keep][:, keep]
        self.members, self.scale = self.members[keep], self.scale[keep]


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
