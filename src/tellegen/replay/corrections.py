"""Unwinding a wrong fact: re-settle what depends on it, and post only the difference.

A corrected reading changes the quantities of its interval and everything that a day derives from
them: pools, true-up, tax, cents. Prices, dispatch and sharing keys stay as recorded. The interval
settlements are independent of one another, so only those whose facts changed run again, and the
day closes once more. What is posted is new less old per account, interval and line; nothing on
record is edited, and the sums of original and differences equal a settlement from scratch with the
corrected facts, to the last nano.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tellegen.books import negated, net, require_balanced
from tellegen.errors import TellegenError
from tellegen.records import Energy, Postings
from tellegen.settlement import (
    DAY_LINES,
    INTERVAL_LINES,
    DayFacts,
    IntervalFacts,
    Parameters,
    close_day,
    settle_day,
    settle_intervals,
    with_energy,
)


class ReplayError(TellegenError):
    """A correction that cannot be applied."""


@dataclass(frozen=True, slots=True, eq=False)
class Correction:
    """The outcome of re-settling a day.

    Attributes
    ----------
    postings : the differences, ``cause`` the correction's journal index; each transaction sums to
        zero. Empty where nothing changed.
    day : the facts as they are known now.
    steps_rerun, steps_total : interval settlements that ran again, and how many the day has.
    """

    postings: Postings
    day: DayFacts
    steps_rerun: int
    steps_total: int


def resettle(before: DayFacts, after: DayFacts, posted: Postings, parameters: Parameters, *, cause: int) -> Correction:
    """Differences that take the books of a day from the facts `before` to the facts `after`.

    Parameters
    ----------
    before, after : facts as known before and now: same customers, same intervals. Where a price or a
        key differs (the regulator's act), the difference follows from that as well.
    posted : every posting of the day so far, earlier differences included.
    parameters : rules of the day, whatever rules hold now.
    cause : journal index of the correction, > 0.

    Raises
    ------
    ReplayError : `cause` is not positive or has postings already, or `posted` is not of this day alone.
    SettlementError : the facts do not fit one another.
    """
    if cause <= 0:
        raise ReplayError(f"a correction's cause is its journal index, not {cause}: 0 is the first settlement")
    if bool((posted.cause == cause).any()):
        raise ReplayError(f"correction {cause} has been posted already")
    if not bool(np.isin(posted.interval, before.steps.interval).all()):
        raise ReplayError("the postings are not of this day alone")
    rows = np.flatnonzero(before.steps.changed_rows(after.steps))
    of_day = np.isin(posted.line, DAY_LINES)
    of_steps = np.isin(posted.line, sorted(INTERVAL_LINES))  # reserves depend on nothing that is corrected
    affected = of_steps & np.isin(posted.interval, after.steps.interval[rows])
    rerun = settle_intervals(after.steps.take(rows), parameters)
    steps = Postings.concat([posted.take(~of_day & ~affected), rerun])
    close = close_day(after, steps, parameters)
    superseded = negated(posted.take(affected | of_day))
    differences = net([superseded, rerun, close], cause=cause)
    require_balanced(differences)
    return Correction(differences, after, int(rows.size), int(after.steps.interval.size))


def differences(old: IntervalFacts, new: IntervalFacts, parameters: Parameters, *, cause: int) -> Postings:
    """What takes the books of some intervals from the facts `old` to the facts `new`: parties settle apart.

    An interval's postings are sums over its parties and the substation of terms that know nothing of one another. So it
    is enough to give the columns of the customers who changed (`IntervalFacts.of_parties`; none at all where only the
    substation did): whatever is equal in both cancels, and what comes out is the difference of two full settlements.

    Parameters
    ----------
    old, new : facts about the same intervals, customers and nodes.
    parameters : rules of their day, whatever rules hold now.
    cause : journal index of what made the change known.

    Returns
    -------
    Postings : one row per account, interval, line and price; each transaction sums to zero.

    Raises
    ------
    SettlementError : the facts are about different places.
    """
    old.require_same_places(new)
    return net([settle_intervals(new, parameters), negated(settle_intervals(old, parameters))], cause=cause)


def correct(day: DayFacts, corrected: Energy, posted: Postings, parameters: Parameters, *, cause: int) -> Correction:
    """Differences that follow from corrected energy: `resettle` with some readings replaced.

    Corrections commute as long as they are about different customers and intervals; about the same
    one the latest in the journal counts (`settlement.latest_energy`).
    """
    return resettle(day, with_energy(day, corrected), posted, parameters, cause=cause)


def full_replay(day: DayFacts, corrected: Energy, parameters: Parameters) -> Postings:
    """The counterfactual: the day settled from scratch as if `corrected` had been read at once."""
    return settle_day(with_energy(day, corrected), parameters)


def same_books(first: Postings, second: Postings) -> bool:
    """Whether two sets of postings amount to the same per account, interval, line and price.

    >>> same_books(Postings.empty(), Postings.empty())
    True
    """
    return net([first], cause=0).equals(net([second], cause=0))
