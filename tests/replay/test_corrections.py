"""A wrong reading, and all that followed from it, is unwound as if it had been right at once."""

from dataclasses import replace
from datetime import date

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tellegen.books import Ledger, fold
from tellegen.records import Account, Energy, Line, Postings, Quality
from tellegen.replay import ReplayError, correct, full_replay, resettle, same_books
from tellegen.rules import Rulebook
from tellegen.settlement import (
    DAY_LINES,
    DayFacts,
    SettlementError,
    latest_energy,
    settle_day,
    specimen_day,
    statements,
    with_energy,
)

RULES = Rulebook.load().at(date(2016, 7, 1)).settlement
PLACES = st.tuples(st.integers(0, 23), st.integers(0, 8))  # interval of the day; 8: the substation
READINGS = st.tuples(st.integers(0, 2_000), st.integers(0, 2_000), st.integers(-500, 500))
CHANGES = st.dictionaries(PLACES, READINGS, min_size=1, max_size=12)
days = st.builds(specimen_day, st.integers(0, 10**6), hours=st.just(2), customers=st.just(8))
quick = settings(max_examples=40, deadline=None)


def corrected_energy(day: DayFacts, changes: dict) -> Energy:
    rows = [
        (0 if who == 8 else int(day.customer[who]), int(day.steps.interval[when]), *reading)
        for (when, who), reading in changes.items()
    ]
    customer, interval, import_wh, export_wh, varh = (np.array(column) for column in zip(*rows, strict=True))
    return Energy(
        customer=customer,
        interval=interval,
        import_wh=import_wh,
        export_wh=export_wh,
        reactive_varh=varh,
        quality=np.full(customer.size, Quality.CORRECTED),
        rule=0 * customer,
    )


def sums(*parts: Postings) -> dict:
    """Amount and quantity per (account, interval, line), nothing for what cancels out."""
    whole = fold(Postings.concat(parts), "account", "interval", "line")
    rows = zip(*(k.tolist() for k in whole.keys), whole.quantity.tolist(), whole.amount.tolist(), strict=True)
    return {key[:3]: key[3:] for key in rows if key[3:] != (0, 0)}


@given(day=days, changes=CHANGES)
@quick
def test_original_and_difference_equal_a_full_replay(day, changes):
    """Reversibility: per account, interval and line, in Wh and in nano, bit for bit."""
    original = settle_day(day, RULES)
    energy = corrected_energy(day, changes)
    outcome = correct(day, energy, original, RULES, cause=41)
    replayed = full_replay(day, energy, RULES)
    assert sums(original, outcome.postings) == sums(replayed)
    assert same_books(Postings.concat([original, outcome.postings]), replayed)


@given(day=days, changes=CHANGES)
@quick
def test_differences_balance_and_are_products(day, changes):
    """Each difference transaction sums to zero, and its priced rows are quantity times price."""
    outcome = correct(day, corrected_energy(day, changes), settle_day(day, RULES), RULES, cause=41)
    rows = outcome.postings
    assert set(rows.cause.tolist()) <= {41}
    assert not fold(rows, "cause", "interval").amount.any()
    priced = rows.take(rows.line <= Line.ENERGY_TAX)
    assert np.array_equal(priced.amount, priced.quantity * priced.price)
    assert ((rows.amount != 0) | (rows.quantity != 0)).all()


@given(day=days, changes=CHANGES)
@quick
def test_only_what_depends_on_the_reading_runs_again(day, changes):
    """Reversibility: no interval settles anew unless one of its facts changed."""
    energy = corrected_energy(day, changes)
    outcome = correct(day, energy, settle_day(day, RULES), RULES, cause=41)
    assert outcome.steps_rerun <= len({when for when, _ in changes})
    assert outcome.steps_total == 24
    steps = outcome.postings.take(~np.isin(outcome.postings.line, DAY_LINES))
    assert set(steps.interval.tolist()) <= {int(day.steps.interval[when]) for when, _ in changes}


@given(day=days, changes=CHANGES, split=st.integers(0, 12))
@quick
def test_corrections_commute(day, changes, split):
    """The order in which two faults are found does not matter to the books."""
    items = list(changes.items())
    parts = [dict(items[:split]), dict(items[split:])]
    if not all(parts):
        return
    energies = [corrected_energy(day, part) for part in parts]
    books = []
    for order in ((0, 1), (1, 0)):
        facts, posted = day, settle_day(day, RULES)
        for place, k in enumerate(order):
            outcome = correct(facts, energies[k], posted, RULES, cause=50 + place)
            facts, posted = outcome.day, Postings.concat([posted, outcome.postings])
        books.append(sums(posted))
    assert books[0] == books[1]


@given(day=days, changes=CHANGES)
@quick
def test_a_correction_of_a_correction_returns_to_the_start(day, changes):
    original = settle_day(day, RULES)
    there = correct(day, corrected_energy(day, changes), original, RULES, cause=60)
    steps = day.steps
    as_it_was = {
        (when, who): (
            (int(steps.import_wh[when, who]), int(steps.export_wh[when, who]), int(steps.reactive_varh[when, who]))
            if who < 8
            else (max(int(steps.substation_wh[when]), 0), max(-int(steps.substation_wh[when]), 0), 0)
        )
        for when, who in changes
    }
    posted = Postings.concat([original, there.postings])
    back = correct(there.day, corrected_energy(day, as_it_was), posted, RULES, cause=61)
    assert sums(posted, back.postings) == sums(original)
    assert sums(there.postings, back.postings) == {}


@given(day=days, changes=CHANGES)
@quick
def test_the_corrected_day_still_keeps_its_laws(day, changes):
    """Law 8: pools closed, revenue as regulated, statements in whole cents."""
    original = settle_day(day, RULES)
    outcome = correct(day, corrected_energy(day, changes), original, RULES, cause=41)
    books = Postings.concat([original, outcome.postings])
    balances = fold(books, "account").amounts()
    assert balances.get((Account.RENT,), 0) == balances.get((Account.UNACCOUNTED,), 0) == 0
    assert balances[(Account.NETWORK,)] == -8 * RULES.network_revenue_nanos_per_customer_day
    bill = statements(books, 17_000, closed=17_000)
    assert int(bill.cents.sum()) * 10_000_000 == int(bill.amounts.sum())


def test_the_ledger_after_a_correction_is_that_of_a_full_replay(tmp_path):
    """Law 3: balances by account and line are the same however the books came about."""
    day = specimen_day(12)
    energy = corrected_energy(day, {(3, 1): (900, 0, 40), (3, 8): (4000, 0, 0)})
    original = settle_day(day, RULES)
    outcome = correct(day, energy, original, RULES, cause=9)
    with (
        Ledger.rebuild(tmp_path / "a.sqlite", [(4, original), (9, outcome.postings)]) as unwound,
        Ledger.rebuild(tmp_path / "b.sqlite", [(4, full_replay(day, energy, RULES))]) as replayed,
    ):
        assert unwound.balances() == replayed.balances()
        assert unwound.balances_by_line() == replayed.balances_by_line()


def test_a_dead_meter_is_unwound_for_every_neighbour():
    """Three hours of standing registers moved the pools of the whole feeder; their share comes back."""
    day = specimen_day(21, hours=6, customers=8)
    dead = replace(day, steps=replace(day.steps, import_wh=day.steps.import_wh * 1, export_wh=day.steps.export_wh * 1))
    for array in (dead.steps.import_wh, dead.steps.export_wh):
        array[24:60, 2] = 0
    truth = corrected_energy(
        day,
        {
            (when, 2): (
                int(day.steps.import_wh[when, 2]),
                int(day.steps.export_wh[when, 2]),
                int(day.steps.reactive_varh[when, 2]),
            )
            for when in range(24, 60)
        },
    )
    wrong = settle_day(dead, RULES)
    outcome = correct(dead, truth, wrong, RULES, cause=77)
    assert sums(wrong, outcome.postings) == sums(settle_day(day, RULES))
    assert outcome.steps_rerun <= 36
    assert outcome.steps_total == 72
    assert np.unique(outcome.postings.account[outcome.postings.account > 0]).size > 1


def test_the_same_facts_again_post_nothing():
    day = specimen_day(3)
    same = {
        (5, 1): (int(day.steps.import_wh[5, 1]), int(day.steps.export_wh[5, 1]), int(day.steps.reactive_varh[5, 1]))
    }
    outcome = correct(day, corrected_energy(day, same), settle_day(day, RULES), RULES, cause=5)
    assert (len(outcome.postings), outcome.steps_rerun) == (0, 0)


def test_a_price_correction_reverses_the_old_product_and_posts_the_new():
    """Law 3: the regulator's act; each row of the difference still is quantity times price."""
    day = specimen_day(3)
    price = day.steps.real_time_price.copy()
    price[4] += 10_000
    after = replace(day, steps=replace(day.steps, real_time_price=price))
    original = settle_day(day, RULES)
    outcome = resettle(day, after, original, RULES, cause=8)
    assert sums(original, outcome.postings) == sums(settle_day(after, RULES))
    rows = outcome.postings.take(outcome.postings.line == Line.IMBALANCE)
    assert np.array_equal(rows.amount, rows.quantity * rows.price)
    assert len(set(rows.price.tolist())) > 1


def test_the_latest_version_of_a_reading_counts_in_any_order():
    """For the same reading the latest knowledge wins, whichever way the corrections are listed."""
    day = specimen_day(3)
    first, second = (corrected_energy(day, {(1, 1): (wh, 0, 0), (2, 1): (7, 0, 0)}) for wh in (100, 200))
    assert latest_energy([(5, first), (9, second)]).equals(latest_energy([(9, second), (5, first)]))
    known = with_energy(day, latest_energy([(9, second), (5, first)]))
    assert int(known.steps.import_wh[1, 1]) == 200


def test_a_correction_stands_on_the_record_once():
    day = specimen_day(3)
    energy = corrected_energy(day, {(1, 1): (100, 0, 0)})
    original = settle_day(day, RULES)
    outcome = correct(day, energy, original, RULES, cause=5)
    posted = Postings.concat([original, outcome.postings])
    with pytest.raises(ReplayError, match="correction 5 has been posted already"):
        correct(outcome.day, energy, posted, RULES, cause=5)
    with pytest.raises(ReplayError, match="0 is the first settlement"):
        correct(day, energy, original, RULES, cause=0)
    with pytest.raises(ReplayError, match="not of this day alone"):
        correct(day, energy, settle_day(specimen_day(3, first_interval=12), RULES), RULES, cause=5)


def test_energy_of_a_stranger_is_refused():
    day = specimen_day(3)
    stranger = corrected_energy(replace(day), {(1, 1): (100, 0, 0)})
    stranger = Energy.from_rows(stranger.rows())
    stranger.customer[:] = 9999
    with pytest.raises(SettlementError, match="customer 9999"):
        with_energy(day, stranger)
