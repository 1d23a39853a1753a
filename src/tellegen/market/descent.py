"""Primal active sets: from a point and a guess of what is free and tight there, down to the optimum, member by member.

Rows are elastic, so every point of the box is feasible. A step goes to the optimum over the free variables, rows that
are held staying at their kinks; it stops where a variable meets a bound (which leaves the free ones) or a row a kink
(which is held from there on). After a whole step the member that wants to most changes sides. Each step goes down, so
nothing comes back but by rounding. Rows that the guess holds need not be met yet: at first steps are cut at bounds
variable by variable until all are, and a row gives way that what is still free cannot move.

Members of the optimality system are the free variables and the rows that are held, each in a slot of its own; what is
asked of the system is one more or one less of them, so its inverse is bordered, not made anew. An empty slot is a row
and a column of zeros.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from tellegen.grid.network import FloatArray, IntArray
from tellegen.grid.twofold import Twofold
from tellegen.market.loops import add_outer, keenest, prices
from tellegen.market.program import Terms

STEPS_MAX = 400
SPARE = 24
"""Slots beside those of the guess."""
MEETINGS_MAX = 6
"""Rounds in which rows are brought to the kinks that the guess holds them at."""
DEPENDENT = 1e-9
"""A row of which others leave less, when its largest effect on a member is one, is not held."""
NOTHING = 1e-15
FIRM = 1e-14
"""Scaled share of its dual by which a row gives way, so that every system has an inverse."""
LEFT, LEFT_ROUGH = 1e-7, 0.1
"""Share of the right side that a step may leave unsolved before the inverse is made anew, and even then."""
CONTENT = 1e-10
"""A member that wants to change sides by less than this, relative to the size of prices, stays."""
MET, MET_ROUGH = 1e-10, 1e-7
"""Slope of what is free and gap of what is held that may be left in the end, relative to their size, and where rounding
allows no better."""
POLISHES_MAX = 3
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
def descend(terms: Terms, price: float, y: FloatArray, dual: FloatArray, bound: IntArray, stair: IntArray) -> bool:
    """Go down to the optimum, `y`, `dual`, `bound` and `stair` moving along in place; False where that fails.

    Parameters
    ----------
    terms : of the program; price : size of its prices.
    y, dual, bound, stair : near the optimum, as in a `Solution`.
    """
    rank = terms.across.shape[1] - terms.limit.size
    state = np.zeros(terms.across.shape[1])
    place = Place(y, dual, bound, stair, state)
    wanted = np.empty(y.size + stair.size, np.int64)
    size = 0
    for i in range(y.size):
        if bound[i] == 0:
            wanted[size] = i
            size += 1
        else:
            y[i] = terms.upper[i] if bound[i] > 0 else 0.0
    for row in range(stair.size):
        if stair[row] % 2 == 1:
            wanted[size] = -1 - row
            size += 1
    _look(terms, place)
    space, wide = size + SPARE, terms.across.shape[1]
    slots = Slots(
        np.full(space, EMPTY), np.zeros(space), np.zeros((space, wide)), np.zeros((space, space)),
        np.zeros((space, space)),
    )  # fmt: skip
    _make(terms, place, slots, wanted[:size])
    if not _meet(terms, place, slots):
        return False
    polishes = 0
    for _ in range(STEPS_MAX):
        answer, left = _answer(terms, place, slots)
        if not left <= LEFT_ROUGH:
            return False
        share, met, row = _stop(terms, place, slots, answer)
        change = _go(place, slots, answer, share)
        if row >= 0:
            stair[row] += 1 if change[rank + row] > 0.0 else -1
            if not _join(terms, slots, -1 - row, NOTHING):
                return False
        elif met >= 0:
            i, up = slots.member[met], answer[met] > 0.0
            bound[i] = 1 if up else -1
            y[i] = terms.upper[i] if up else 0.0
            _leave(terms, place, slots, met)
        else:
            slope = prices(terms, np.concatenate((state[:rank], dual)))
            wish = _wish(terms, place, slots, slope, CONTENT * price)
            if wish == EMPTY:
                _look(terms, place)
                left = _left(terms, place, slots, slope, price)
                if polishes and (left <= MET or polishes == POLISHES_MAX):
                    return bool(left <= MET_ROUGH)
                polishes += 1
                _make(terms, place, slots, slots.member.copy())
            elif wish >= 0:
                bound[wish] = 0
                if not _join(terms, slots, wish, NOTHING):
                    return False
            else:
                row = -1 - wish
                stair[row] += 1 if dual[row] > _level(terms, row, stair[row] // 2 + 1) else -1
                dual[row] = _level(terms, row, stair[row] // 2)
                _leave(terms, place, slots, _slot(slots, wish))
    return False


@Twofold
def _level(terms: Terms, row: int, tread: int) -> float:
    """Dual of a row on a tread of its staircase."""
    return 0.0 if tread == 0 else float(terms.penalty[row, min(tread, 2) - 1])


@Twofold
def _kink(terms: Terms, row: int, stair: int) -> float:
    """Excess at which a row is held."""
    return float(terms.kink[row, min(stair // 2, 1)])


@Twofold
def _look(terms: Terms, place: Place) -> None:
    """Coordinates and excesses at the variables."""
    place.state[:] = np.dot(np.bincount(terms.channel, terms.gain * place.y, terms.across.shape[0]), terms.across)
    rank = place.state.size - terms.limit.size
    for row in range(terms.limit.size):
        place.state[rank + row] -= terms.limit[row]


@Twofold
def _stand(terms: Terms, place: Place, row: int) -> None:
    """Let a row stand on the tread where its excess is."""
    excess = place.state[place.state.size - terms.limit.size + row]
    tread = 2 if excess > terms.kink[row, 1] else 1 if excess > terms.kink[row, 0] else 0
    place.stair[row], place.dual[row] = 2 * tread, _level(terms, row, tread)


@Twofold
def _slot(slots: Slots, member: int) -> int:
    """Slot of a member, -1 where it has none."""
    for k in range(slots.member.size):
        if slots.member[k] == member:
            return k
    return -1


@Twofold
def _make(terms: Terms, place: Place, slots: Slots, wanted: IntArray) -> None:
    """Make the inverse anew, of some members; rows that depend on those before stand where they stand."""
    size, rank = 0, terms.across.shape[1] - terms.limit.size
    slots.member[:] = EMPTY
    for k in range(wanted.size):
        if wanted[k] != EMPTY:
            slots.member[size] = wanted[k]
            size += 1
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
            _make_in_turn(terms, place, slots, wanted)
            break


@Twofold
def _make_in_turn(terms: Terms, place: Place, slots: Slots, wanted: IntArray) -> None:
    """The same member by member, which shows what rows depend on others."""
    slots.member[:] = EMPTY
    slots.system[:] = 0.0
    slots.inverse[:] = 0.0
    for member in wanted:
        if 0 <= member < EMPTY:
            _join(terms, slots, member, NOTHING)
    for member in wanted:
        if member < 0 and not _join(terms, slots, member, DEPENDENT):
            _stand(terms, place, -1 - member)


@Twofold
def _join(terms: Terms, slots: Slots, member: int, least: float) -> bool:
    """Border the inverse by one more member; False where there is no room, or others leave less than `least` of it."""
    at = _slot(slots, EMPTY)
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
def _leave(terms: Terms, place: Place, slots: Slots, at: int) -> None:
    """Take a member out of the inverse; where a row is met by it alone, that row stands where it stands."""
    if abs(slots.inverse[at, at]) <= DEPENDENT:
        most, row = 0.0, -1
        for k in range(slots.member.size):
            if slots.member[k] < 0 and abs(slots.inverse[at, k]) > most:
                most, row = abs(slots.inverse[at, k]), k
        if row >= 0:
            _stand(terms, place, -1 - slots.member[row])
            _drop(slots, row)
    _drop(slots, at)
    if not np.all(np.isfinite(slots.inverse)):
        _make(terms, place, slots, slots.member.copy())


@Twofold
def _drop(slots: Slots, at: int) -> None:
    """Take a member out of the inverse."""
    column = slots.inverse[at].copy()
    add_outer(slots.inverse, column, column, -1.0 / column[at])
    slots.member[at] = EMPTY
    slots.inverse[at], slots.inverse[:, at] = 0.0, 0.0
    slots.system[at], slots.system[:, at] = 0.0, 0.0


@Twofold
def _answer(terms: Terms, place: Place, slots: Slots) -> tuple[FloatArray, float]:
    """Moves of the variables and changes of the duals to the optimum over the members, and the share that is left."""
    rank = place.state.size - terms.limit.size
    answer, left = np.zeros(slots.member.size), 0.0
    for turn in range(2):
        if turn:
            _make(terms, place, slots, slots.member.copy())
        pull = place.state.copy()
        pull[rank:] = place.dual
        right = -np.dot(slots.reach, pull)
        for k in range(right.size):
            member = slots.member[k]
            if member == EMPTY:
                right[k] = 0.0
            elif member < 0:
                right[k] = _kink(terms, -1 - member, place.stair[-1 - member]) - place.state[rank - 1 - member]
            else:
                right[k] -= terms.linear[member] + terms.diagonal[member] * place.y[member]
        right *= slots.scale
        answer = np.dot(slots.inverse, right)
        answer += np.dot(slots.inverse, right - np.dot(slots.system, answer))
        left = np.max(np.abs(right - np.dot(slots.system, answer))) / (np.max(np.abs(right)) + 1e-100)
        if left <= LEFT:
            break
    return answer * slots.scale, left


@Twofold
def _go(place: Place, slots: Slots, answer: FloatArray, share: float) -> FloatArray:
    """Go a share of an answer; what a whole one changes of the state."""
    move = np.zeros(answer.size)
    for k in range(answer.size):
        member = slots.member[k]
        if member < 0:
            place.dual[-1 - member] += share * answer[k]
        elif member != EMPTY:
            move[k] = answer[k]
            place.y[member] += share * answer[k]
    change: FloatArray = np.dot(move, slots.reach)
    place.state[:] += share * change
    return change


@Twofold
def _meet(terms: Terms, place: Place, slots: Slots) -> bool:
    """Bring the rows that are held to their kinks; those that are not met in the end stand where they stand."""
    for _ in range(MEETINGS_MAX):
        answer, left = _answer(terms, place, slots)
        if not left <= LEFT_ROUGH:
            return False
        _go(place, slots, answer, 1.0)
        cut = 0
        for k in range(slots.member.size):
            i = slots.member[k]
            if 0 <= i < EMPTY and not 0.0 <= place.y[i] <= terms.upper[i]:
                place.bound[i] = 1 if place.y[i] > 0.0 else -1
                place.y[i] = terms.upper[i] if place.y[i] > 0.0 else 0.0
                cut += 1
        if not cut:
            break
        # One that leaves may move the others to other slots.
        for i in slots.member.copy():
            if 0 <= i < EMPTY and place.bound[i] != 0:
                _leave(terms, place, slots, _slot(slots, i))
        _look(terms, place)
    rank = place.state.size - terms.limit.size
    for row in range(terms.limit.size):
        if place.stair[row] % 2 == 0:
            _stand(terms, place, row)
        elif abs(_kink(terms, row, place.stair[row]) - place.state[rank + row]) > 1e-9 * terms.row_size[row]:
            _stand(terms, place, row)
            _leave(terms, place, slots, _slot(slots, -1 - row))
    return True


@Twofold
def _stop(terms: Terms, place: Place, slots: Slots, answer: FloatArray) -> tuple[float, int, int]:
    """Share of an answer that can be gone, and the slot or the row that is met there (-1: none)."""
    rank = place.state.size - terms.limit.size
    share, met, row = 1.0 - 1e-12, -1, -1
    move = np.zeros(answer.size)
    for k in range(answer.size):
        i = slots.member[k]
        if 0 <= i < EMPTY and answer[k] != 0.0:
            move[k] = answer[k]
            here = max((terms.upper[i] - place.y[i]) / move[k] if move[k] > 0.0 else place.y[i] / -move[k], 0.0)
            if here < share:
                share, met = here, k
    change = np.dot(move, slots.reach)[rank:]
    for k in range(change.size):
        tread = place.stair[k] // 2
        up = change[k] > 0.0
        if place.stair[k] % 2 == 1 or abs(change[k]) <= 1e-14 * terms.row_size[k] or (tread == 2 if up else tread == 0):
            continue
        here = max((terms.kink[k, tread if up else tread - 1] - place.state[rank + k]) / change[k], 0.0)
        if here < share:
            share, met, row = here, -1, k
    return (share if met >= 0 or row >= 0 else 1.0), met, row


@Twofold
def _wish(terms: Terms, place: Place, slots: Slots, slope: FloatArray, content: float) -> int:
    """The member that wants to change sides most, a variable at a bound or a row that is held; `EMPTY` if none.

    `slope`, what the network pulls at variables, becomes all of their slope.
    """
    wish, most = EMPTY, content
    size = terms.row_size / (np.max(np.abs(terms.gain)) if slope.size else 1.0)
    at = keenest(terms, place.bound, place.y, slope)
    if at >= 0 and place.bound[at] * slope[at] > most * abs(terms.gain[at]):
        wish, most = at, place.bound[at] * slope[at] / abs(terms.gain[at])
    for k in range(slots.member.size):
        if slots.member[k] < 0:
            row = -1 - slots.member[k]
            tread, dual = place.stair[row] // 2, place.dual[row]
            beyond = max(dual - _level(terms, row, tread + 1), _level(terms, row, tread) - dual) * size[row]
            if beyond > most:
                wish, most = -1 - row, beyond
    return wish


@Twofold
def _left(terms: Terms, place: Place, slots: Slots, slope: FloatArray, price: float) -> float:
    """Largest slope of what is free, and gap of what is held relative to its size."""
    rank, left = place.state.size - terms.limit.size, 0.0
    for k in range(slots.member.size):
        member = slots.member[k]
        if member < 0:
            row = -1 - member
            gap = _kink(terms, row, place.stair[row]) - place.state[rank + row]
            left = max(left, abs(gap) / terms.row_size[row])
        elif member != EMPTY:
            left = max(left, abs(slope[member] / terms.gain[member]) / price)
    return left
