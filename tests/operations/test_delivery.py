"""Who claims and does not deliver: what is counted, and that a hold cannot be dodged and ends by itself."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tellegen.operations.delivery import BLOCK, BLOCKS, CoarseMeters, Deliveries, awarded_by
from tellegen.records import Energy, Holds, Quality, Schedules
from tellegen.rules.price_run import PriceRun

RULES = PriceRun()
MIDNIGHT = 4_875_408
"""In Berlin, in summer."""
DAY = 288


def energy(interval: int, net_wh: dict[int, int], missing: tuple[int, ...] = ()) -> Energy:
    """What meters show; of those that are missing what validation assumes."""
    who, wh = np.array(list(net_wh)), np.array(list(net_wh.values()))
    return Energy(
        customer=who,
        interval=np.full(who.size, interval),
        import_wh=np.maximum(wh, 0),
        export_wh=np.maximum(-wh, 0),
        reactive_varh=0 * wh,
        quality=np.where(np.isin(who, missing), Quality.ESTIMATED, Quality.MEASURED),
        rule=0 * wh,
    )


def settled(
    deliveries: Deliveries, interval: int, awarded: dict[int, int], read: Energy, rules: PriceRun = RULES
) -> list[int]:
    """An interval passes; who is held by it, from the next but one on."""
    counted = {who: wh for who, wh in awarded.items() if who not in deliveries.held(interval)}
    deliveries.award(interval, list(counted), list(counted.values()))
    holds = deliveries.over(interval, read, rules, interval + 2)
    deliveries.settle(interval, read)
    deliveries.hold(holds)
    return holds.customer.tolist()


def days_of(claim: dict[int, int], draw: dict[int, int], intervals: range, deliveries: Deliveries) -> dict[int, int]:
    """The first interval in which each customer is held, where it claims and draws the same all the time."""
    found: dict[int, int] = {}
    for t in intervals:
        for who in settled(deliveries, t, claim, energy(t, draw)):
            found.setdefault(who, t)
    return found


def test_paper_sun_is_held_when_it_is_beyond_both_bounds() -> None:
    """8 kW of sun that never shines is 667 Wh an interval: 5 kWh is passed with the eighth."""
    found = days_of({1: -667, 2: 800}, {1: 0, 2: 500}, range(MIDNIGHT, MIDNIGHT + 30), Deliveries())
    assert found == {1: MIDNIGHT + 7}, "who misses its awards by less than half of them is not meant"


@pytest.mark.parametrize("first", range(MIDNIGHT - 10, MIDNIGHT + 2))
def test_midnight_is_no_place_to_hide(first: int) -> None:
    """Whenever it begins, the eighth interval ends it."""
    assert days_of({1: -667}, {1: 0}, range(first, first + 30), Deliveries()) == {1: first + 7}


def test_orders_that_cancel_out_make_no_claim_look_small() -> None:
    """Schedules are net: 20 kW bought and sold beside the claim are no award."""
    schedules = Schedules(
        customer=[1, 2],
        node=[1, 2],
        energy_wh=[-667, 0],
        reactive_varh=[0, 9],
        reserve_up_wh=[0, 0],
        reserve_down_wh=[0, 0],
        **{f"carry_{name}": [0, 0] for name in ("energy", "reactive", "reserve_up", "reserve_down")},
    )
    customer, wh = awarded_by(schedules)
    assert (customer.tolist(), wh.tolist()) == ([1], [-667]), "and who was awarded no energy cannot miss it"


def test_who_was_awarded_nothing_or_was_not_read_does_not_deviate() -> None:
    deliveries = Deliveries()
    for t in range(MIDNIGHT, MIDNIGHT + 40):
        assert settled(deliveries, t, {1: 900}, energy(t, {1: 0, 2: 5_000}, missing=(1,))) == []


def test_a_hold_ends_by_itself_and_comes_again_by_new_deeds_alone() -> None:
    deliveries, rules = Deliveries(), replace(RULES, hold_hours=2)
    free = MIDNIGHT + 8 + 1 + 24
    for t in range(MIDNIGHT, free):
        assert settled(deliveries, t, {1: -667}, energy(t, {1: 0}), rules) == [1] * (t == MIDNIGHT + 7)
        assert deliveries.held(t).tolist() == [1] * (t >= MIDNIGHT + 9)
    assert deliveries.held(free).tolist() == []
    goes_on = Deliveries.of(deliveries.parts())
    for t in range(free, free + 9):
        assert settled(goes_on, t, {1: -667}, energy(t, {1: 0}), rules) == [1] * (t == free + 7)
    for t in range(free, free + 2 * DAY):
        assert settled(deliveries, t, {1: -667}, energy(t, {1: -667}), rules) == []


def test_what_is_long_past_counts_no_more() -> None:
    deliveries = Deliveries()
    assert days_of({1: -667}, {1: 0}, range(MIDNIGHT, MIDNIGHT + 7), deliveries) == {}
    later = (MIDNIGHT // BLOCK + BLOCKS) * BLOCK + BLOCK
    for t in range(MIDNIGHT + 7, later):
        settled(deliveries, t, {}, energy(t, {1: 0}))
    assert days_of({1: -667}, {1: 0}, range(later, later + 30), deliveries) == {1: later + 7}
    assert later - MIDNIGHT <= DAY + BLOCK


AWARDS = st.dictionaries(st.integers(1, 6), st.integers(-900, 900), max_size=6)
COURSE = st.lists(st.tuples(AWARDS, AWARDS, st.integers(1, 40)), min_size=1, max_size=25)


@given(COURSE, st.data())
@settings(max_examples=60, deadline=None)
def test_a_state_that_was_kept_goes_on_as_if_it_had_not_been(
    course: list[tuple[dict[int, int], dict[int, int], int]], data: st.DataObject
) -> None:
    """Sums in chunks, from a snapshot at any time, feeder by feeder, are the sums at once, and so are the holds."""
    once, often, rules = Deliveries(), Deliveries(), replace(RULES, hold_wh=700, hold_hours=1)
    t = MIDNIGHT
    for awarded, drawn, step in course:
        t += step
        read = energy(t, dict.fromkeys(range(1, 7), 0) | drawn, missing=(6,))
        counted = {who: wh for who, wh in awarded.items() if who not in once.held(t)}
        once.award(t, list(counted), list(counted.values()))
        for who, wh in counted.items():
            often.award(t, [who], [wh])
        if data.draw(st.booleans()):
            often = Deliveries.of(often.parts())
        found = [each.over(t, read, rules, t + 2) for each in (once, often)]
        assert found[0].equals(found[1])
        for each in (once, often):
            each.settle(t, read)
            each.hold(found[0])
    assert once.over(t, energy(t, {}), rules, t + 2).equals(Holds.empty())
    kept = [each.parts() for each in (once, Deliveries.of(often.parts()))]
    assert kept[0].keys() == kept[1].keys()
    assert all(sorted(kept[0][name].ravel()) == sorted(kept[1][name].ravel()) for name in kept[0])


def test_of_who_was_erased_nothing_is_left() -> None:
    deliveries, others = Deliveries(), Deliveries()
    for t in range(MIDNIGHT, MIDNIGHT + 12):
        settled(deliveries, t, {1: -667, 2: 400, 3: 100}, energy(t, {1: 0, 2: 90, 3: 0}))
        settled(others, t, {2: 400, 3: 100}, energy(t, {2: 90, 3: 0}))
    assert deliveries.held(MIDNIGHT + 20).tolist() == [1]
    late = MIDNIGHT + 12 + DAY  # its hold is over, and nobody else is awarded anything
    for t in range(MIDNIGHT + 12, late):
        for each in (deliveries, others):
            settled(each, t, {}, energy(t, {}))
    settled(deliveries, late, {1: -667}, energy(late, {1: 0}))
    settled(others, late, {}, energy(late, {}))
    deliveries.show(late + 2, np.array([1]), np.array([[7], [3]]))
    found, net = deliveries.shown(late + 2, np.array([1, 2]))
    assert (found.tolist(), net.tolist()) == ([True, False], [[7, 0], [3, 0]])
    deliveries.forget(np.array([1]))
    mine, theirs = deliveries.parts(), others.parts()
    assert mine.keys() == theirs.keys()
    assert all(np.array_equal(mine[name], theirs[name]) for name in mine)


def test_a_coarse_meter_is_judged_over_its_span() -> None:
    """Who is awarded 9 kW in one interval of three and shows 3 kW in each has delivered."""
    deliveries, coarse = Deliveries(), CoarseMeters(np.array([1, 2]), np.array([3, 3]))
    read = {1: 250, 2: 0, 3: 250}
    first: dict[int, int] = {}
    for t in range(MIDNIGHT, MIDNIGHT + 36):
        if t % 3 == 0:  # a span settles when its gates are on record
            for k in range(3):
                awarded = 750 if k == 0 else 0
                deliveries.award(t + k, [1, 2, 3], [awarded, awarded, 250])
        holds = deliveries.over(t, energy(t, read), RULES, t + 5, coarse)
        deliveries.settle(t, energy(t, read), coarse)
        deliveries.hold(holds)
        first |= {who: t for who in holds.customer.tolist()}
    assert first == {2: MIDNIGHT + 18}, "5 kWh is passed with the seventh span"
    assert not deliveries.over(MIDNIGHT + 36, energy(MIDNIGHT + 36, read), RULES, MIDNIGHT + 41, coarse).customer.size
