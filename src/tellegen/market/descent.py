"""Primal active sets: from a point and a guess of what is free and tight there, down to the optimum, member by member.

Rows are elastic, so every point of the box is feasible. A step goes to the optimum over the free variables, rows that
are held staying at their kinks; it stops where a variable meets a bound (which leaves the free ones) or a row a kink
(which is held from there on). After a whole step the member that wants to most changes sides. Each step goes down, so
nothing comes back but by rounding. Rows that the guess holds need not be met yet: at first steps are cut at bounds
variable by variable until all are, and a row gives way that what is still free cannot move.
"""

from __future__ import annotations

import numpy as np

from tellegen.grid.network import FloatArray, IntArray
from tellegen.grid.twofold import Twofold
from tellegen.market.loops import keenest, prices
from tellegen.market.members import (
    EMPTY,
    NOTHING,
    Place,
    Slots,
    answer_of,
    join,
    kink,
    leave,
    level,
    look_at,
    make,
    slot_of,
    stand,
)
from tellegen.market.program import Terms

STEPS_MAX = 400
SPARE = 8
"""Slots beside those of the guess, and half as many as those."""
MEETINGS_MAX = 6
"""Rounds in which rows are brought to the kinks that the guess holds them at."""
LEFT_ROUGH = 0.1
"""Share of the right side that a step may leave unsolved at the very most."""
CONTENT = 1e-10
"""A member that wants to change sides by less than this, relative to the size of prices, stays."""
MET, MET_ROUGH = 1e-10, 1e-7
"""Slope of what is free and gap of what is held that may be left in the end, relative to their size, and where rounding
allows no better."""
POLISHES_MAX = 3


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
    look_at(terms, place)
    space, wide = size + size // 2 + SPARE, terms.across.shape[1]
    slots = Slots(
        np.full(space, EMPTY), np.zeros(space), np.zeros((space, wide)), np.zeros((space, space)),
        np.zeros((space, space)),
    )  # fmt: skip
    make(terms, place, slots, wanted[:size])
    if not _meet(terms, place, slots):
        return False
    polishes = 0
    for _ in range(STEPS_MAX):
        answer, left = answer_of(terms, place, slots)
        if not left <= LEFT_ROUGH:
            return False
        share, met, row = _stop(terms, place, slots, answer)
        change = _go(place, slots, answer, share)
        if row >= 0:
            stair[row] += 1 if change[rank + row] > 0.0 else -1
            if not join(terms, slots, -1 - row, NOTHING):
                return False
        elif met >= 0:
            i, up = slots.member[met], answer[met] > 0.0
            bound[i] = 1 if up else -1
            y[i] = terms.upper[i] if up else 0.0
            leave(terms, place, slots, met)
        else:
            slope = prices(terms, np.concatenate((state[:rank], dual)))
            wish = _wish(terms, place, slots, slope, CONTENT * price)
            if wish == EMPTY:
                look_at(terms, place)
                left = _left(terms, place, slots, slope, price)
                if polishes and (left <= MET or polishes == POLISHES_MAX):
                    return bool(left <= MET_ROUGH)
                polishes += 1
                make(terms, place, slots, slots.member.copy())
            elif wish >= 0:
                bound[wish] = 0
                if not join(terms, slots, wish, NOTHING):
                    return False
            else:
                row = -1 - wish
                stair[row] += 1 if dual[row] > level(terms, row, stair[row] // 2 + 1) else -1
                dual[row] = level(terms, row, stair[row] // 2)
                leave(terms, place, slots, slot_of(slots, wish))
    return False


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
        answer, left = answer_of(terms, place, slots)
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
                leave(terms, place, slots, slot_of(slots, i))
        look_at(terms, place)
    rank = place.state.size - terms.limit.size
    for row in range(terms.limit.size):
        if place.stair[row] % 2 == 0:
            stand(terms, place, row)
        elif abs(kink(terms, row, place.stair[row]) - place.state[rank + row]) > 1e-9 * terms.row_size[row]:
            stand(terms, place, row)
            leave(terms, place, slots, slot_of(slots, -1 - row))
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
            beyond = max(dual - level(terms, row, tread + 1), level(terms, row, tread) - dual) * size[row]
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
            gap = kink(terms, row, place.stair[row]) - place.state[rank + row]
            left = max(left, abs(gap) / terms.row_size[row])
        elif member != EMPTY:
            left = max(left, abs(slope[member] / terms.gain[member]) / price)
    return left
