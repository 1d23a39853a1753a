"""The members of a descent's optimality system, and its bordered inverse.

Members are the free variables and the rows that are held, each in a slot of its own; what a descent asks of the system
is one more or one less of them, so its inverse is bordered, not made anew. An empty slot is a row and a column of
zeros.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from tellegen.grid.network import FloatArray, IntArray
from tellegen.grid.twofold import Twofold
from tellegen.market.loops import add_outer
from tellegen.market.program import Terms

DEPENDENT = 1e-9
"""A row of which others leave less, when its largest effect on a member is one, is not held."""
NOTHING = 1e-15
FIRM = 1e-14
"""Scaled share of its dual by which a row gives way, so that every system has an inverse."""
LEFT = 1e-7
"""Share of the right side that an answer may leave unsolved before the inverse is made anew."""
EMPTY = 2**62
"""The member of an empty slot; rows are minus one less their number."""


class Place(NamedTuple):
    """Where the descent stands, see `Solution`; `state` float64[r + k]: coordinates of the curvature, then excesses."""

    y: FloatArray
    dual: FloatArray
    bound: IntArray
    stair: IntArray
    state: FloatArray


class Slots(NamedTuple):
    """The members, a scale that brings each one's diagonal or largest entry to one, the system so scaled, its inverse.

    `reach` float64[s, r + k] is what a unit of each does to the coordinates and to the rows; for rows that is nothing.
    """

    member: IntArray
    scale: FloatArray
    reach: FloatArray
    system: FloatArray
    inverse: FloatArray


@Twofold
def level(terms: Terms, row: int, tread: int) -> float:
    """Dual of a row on a tread of its staircase."""
    return 0.0 if tread == 0 else float(terms.penalty[row, min(tread, 2) - 1])


@Twofold
def kink(terms: Terms, row: int, stair: int) -> float:
    """Excess at which a row is held."""
    return float(terms.kink[row, min(stair // 2, 1)])


@Twofold
def look_at(terms: Terms, place: Place) -> None:
    """Coordinates and excesses at the variables."""
    place.state[:] = np.dot(np.bincount(terms.channel, terms.gain * place.y, terms.across.shape[0]), terms.across)
    rank = place.state.size - terms.limit.size
    for row in range(terms.limit.size):
        place.state[rank + row] -= terms.limit[row]


@Twofold
def stand(terms: Terms, place: Place, row: int) -> None:
    """Let a row stand on the tread where its excess is."""
    excess = place.state[place.state.size - terms.limit.size + row]
    tread = 2 if excess > terms.kink[row, 1] else 1 if excess > terms.kink[row, 0] else 0
    place.stair[row], place.dual[row] = 2 * tread, level(terms, row, tread)


@Twofold
def slot_of(slots: Slots, member: int) -> int:
    """Slot of a member, -1 where it has none."""
    for k in range(slots.member.size):
        if slots.member[k] == member:
            return k
    return -1


@Twofold
def make(terms: Terms, place: Place, slots: Slots, wanted: IntArray) -> None:
    """Make the inverse anew, of some members; rows that depend on those before stand where they stand."""
    rank, wanted = terms.across.shape[1] - terms.limit.size, wanted[wanted != EMPTY]
    size = wanted.size
    slots.member[:] = EMPTY
    slots.member[:size] = wanted
    reach = slots.reach[:size]
    reach[:] = 0.0
    for k in range(size):
        i = slots.member[k]
        if i >= 0:
            reach[k] = terms.across[terms.channel[i]] * terms.gain[i]
    bend = reach[:, :rank].copy()
    system = np.dot(bend, bend.T)
    for k in range(size):
        i = slots.member[k]
        if i >= 0:
            system[k, k] += terms.diagonal[i]
            slots.scale[k] = 1.0 / np.sqrt(system[k, k])
    for k in range(size):
        i = slots.member[k]
        if i < 0:
            column = reach[:, rank - 1 - i]
            slots.scale[k] = 1.0 / (np.max(np.abs(column * slots.scale[:size])) + 1e-100)
            system[k], system[:, k] = column, column
    for k in range(size):
        system[k] *= slots.scale[:size] * slots.scale[k]
        if slots.member[k] < 0:
            system[k, k] = -FIRM
    slots.system[:] = 0.0
    slots.inverse[:] = 0.0
    if size:
        slots.system[:size, :size] = system
        slots.inverse[:size, :size] = np.linalg.solve(system, np.eye(size))
    for k in range(size):
        if slots.member[k] < 0:
            # Whoever refines an answer asks for a row that does not give way.
            slots.system[k, k] = 0.0
    for k in range(size):
        if slots.member[k] < 0 and not abs(slots.inverse[k, k]) < 1.0 / DEPENDENT:
            make_in_turn(terms, place, slots, wanted)
            break


@Twofold
def make_in_turn(terms: Terms, place: Place, slots: Slots, wanted: IntArray) -> None:
    """The same member by member, which shows what rows depend on others."""
    slots.member[:] = EMPTY
    slots.system[:] = 0.0
    slots.inverse[:] = 0.0
    for member in wanted:
        if 0 <= member < EMPTY:
            join(terms, slots, member, NOTHING)
    for member in wanted:
        if member < 0 and not join(terms, slots, member, DEPENDENT):
            stand(terms, place, -1 - member)


@Twofold
def join(terms: Terms, slots: Slots, member: int, least: float) -> bool:
    """Border the inverse by one more member; False where there is no room, or others leave less than `least` of it."""
    at = slot_of(slots, EMPTY)
    if at < 0:
        return False
    rank = terms.across.shape[1] - terms.limit.size
    slots.reach[at] = 0.0
    if member >= 0:
        slots.reach[at] = terms.across[terms.channel[member]] * terms.gain[member]
        bend = slots.reach[at].copy()
        bend[rank:] = 0.0
        column = np.dot(slots.reach, bend)
        own = column[at] + terms.diagonal[member]
        for k in range(column.size):
            if slots.member[k] < 0:
                column[k] = slots.reach[at, rank - 1 - slots.member[k]]
        scale = 1.0 / np.sqrt(own)
        column *= slots.scale
        own = 1.0
    else:
        column, own = slots.reach[:, rank - 1 - member] * slots.scale, -FIRM
        scale = 1.0 / (np.max(np.abs(column)) + 1e-100)
    column *= scale
    # What stood in the slot before has left its numbers there.
    for k in range(column.size):
        if slots.member[k] == EMPTY:
            column[k] = 0.0
    gone = np.dot(slots.inverse, column)
    pivot = own - np.dot(column, gone)
    if abs(pivot) <= least:
        return False
    gone[at] = -1.0
    add_outer(slots.inverse, gone, gone, 1.0 / pivot)
    slots.system[at], slots.system[:, at] = column, column
    slots.system[at, at] = max(own, 0.0)
    slots.member[at], slots.scale[at] = member, scale
    return True


@Twofold
def leave(terms: Terms, place: Place, slots: Slots, at: int) -> None:
    """Take a member out of the inverse; where a row is met by it alone, that row stands where it stands."""
    if abs(slots.inverse[at, at]) <= DEPENDENT:
        most, row = 0.0, -1
        for k in range(slots.member.size):
            if slots.member[k] < 0 and abs(slots.inverse[at, k]) > most:
                most, row = abs(slots.inverse[at, k]), k
        if row >= 0:
            stand(terms, place, -1 - slots.member[row])
            drop(slots, row)
    drop(slots, at)
    if not np.all(np.isfinite(slots.inverse)):
        make(terms, place, slots, slots.member.copy())


@Twofold
def drop(slots: Slots, at: int) -> None:
    """Take a member out of the inverse."""
    column = slots.inverse[at].copy()
    add_outer(slots.inverse, column, column, -1.0 / column[at])
    slots.member[at] = EMPTY
    slots.inverse[at], slots.inverse[:, at] = 0.0, 0.0
    slots.system[at], slots.system[:, at] = 0.0, 0.0


@Twofold
def answer_of(terms: Terms, place: Place, slots: Slots) -> tuple[FloatArray, float]:
    """Moves of the variables and changes of the duals to the optimum over the members, and the share that is left."""
    rank = place.state.size - terms.limit.size
    answer, left = np.zeros(slots.member.size), 0.0
    for turn in range(2):
        if turn:
            make(terms, place, slots, slots.member.copy())
        pull = place.state.copy()
        pull[rank:] = place.dual
        right = -np.dot(slots.reach, pull)
        for k in range(right.size):
            member = slots.member[k]
            if member == EMPTY:
                right[k] = 0.0
            elif member < 0:
                right[k] = kink(terms, -1 - member, place.stair[-1 - member]) - place.state[rank - 1 - member]
            else:
                right[k] -= terms.linear[member] + terms.diagonal[member] * place.y[member]
        right *= slots.scale
        answer = np.dot(slots.inverse, right)
        answer += np.dot(slots.inverse, right - np.dot(slots.system, answer))
        left = np.max(np.abs(right - np.dot(slots.system, answer))) / (np.max(np.abs(right)) + 1e-100)
        if left <= LEFT:
            break
    return answer * slots.scale, left
