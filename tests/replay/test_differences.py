"""Settlement is linear in what was metered: what changed settles alone."""

from dataclasses import fields, replace
from datetime import date

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tellegen.books import net, require_balanced
from tellegen.replay import differences
from tellegen.rules import Rulebook
from tellegen.settlement import IntervalFacts, SettlementError, settle_intervals, specimen_day

RULES = Rulebook.load().at(date(2016, 7, 1)).settlement
READINGS = st.tuples(st.integers(0, 2_000), st.integers(0, 2_000), st.integers(-500, 500))
PLACES = st.tuples(st.integers(0, 11), st.integers(0, 6))  # interval of the hour; 6: the substation


def changed(steps: IntervalFacts, changes: dict) -> IntervalFacts:
    arrays = {name: getattr(steps, name).copy() for name in ("import_wh", "export_wh", "reactive_varh")}
    substation = steps.substation_wh.copy()
    for (row, column), reading in changes.items():
        if column == 6:
            substation[row] = reading[0]
        else:
            for array, value in zip(arrays.values(), reading, strict=True):
                array[row, column] = value
    return replace(steps, substation_wh=substation, **arrays)


@given(
    seed=st.integers(0, 10**6),
    changes=st.dictionaries(PLACES, READINGS, min_size=1, max_size=10),
    bystanders=st.sets(st.integers(0, 5)),
)
@settings(max_examples=60, deadline=None)
def test_the_columns_that_changed_give_the_difference_of_two_full_settlements(seed, changes, bystanders):
    """Row by row: per account, interval, line and price, in Wh and in nano, whoever else is settled along."""
    old = specimen_day(seed, hours=1, customers=6).steps
    new = changed(old, changes)
    columns = sorted({column for _, column in changes if column < 6} | bystanders)
    rows = sorted({row for row, _ in changes})
    mine = [facts.of_parties(np.array(columns, dtype=np.int64)).take(rows) for facts in (old, new)]
    found = differences(mine[0], mine[1], RULES, cause=7)
    whole = differences(old, new, RULES, cause=7)
    assert found.equals(whole)
    assert net([settle_intervals(old, RULES), found], cause=0).equals(net([settle_intervals(new, RULES)], cause=0))
    require_balanced(found)


def test_what_cancels_may_be_anything():
    """A bystander's awards and prices need not be read: equal in both, they are in neither."""
    old = specimen_day(3, hours=1, customers=6).steps
    new = changed(old, {(4, 2): (900, 0, 10), (7, 6): (3_000, 0, 0)})
    blank = {f.name: 0 * getattr(old, f.name) for f in fields(old) if f.name.endswith(("forward_wh", "losses_wh"))}
    whole = differences(old, new, RULES, cause=7)
    assert differences(replace(old, **blank), replace(new, **blank), RULES, cause=7).equals(whole)


def test_facts_about_other_places_are_refused():
    steps = specimen_day(3, hours=1, customers=6).steps
    with pytest.raises(SettlementError, match="different intervals, customers or nodes"):
        differences(steps, replace(steps, node=steps.node + 1), RULES, cause=7)
