"""Orders that nobody means earn what the gate's prices let them, and nothing by the price run."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tellegen.assess.tricks import GAIN_MAX, TRICKS, Stage, Trick, random_trick
from tellegen.operations.record import ShardRecord
from tellegen.records import Energy

HOUR = 2
"""Of the short day."""
CLAIMS = [trick for trick in TRICKS if trick.claim_kw and not trick.drawn_kw]
ACTS = [trick for trick in TRICKS if trick.drawn_kw or trick.silent]


@pytest.fixture(scope="module")
def stage(run_directory: Path) -> Iterator[tuple[Stage, range]]:
    with ShardRecord.open(run_directory) as record:
        record.refresh()
        first = min(record.header(entry).interval for entry in record.journal.find(kind=Energy.kind)) + 12 * HOUR
        yield Stage(record, record.feeders[0].name), range(first, first + 2)


def named(trick: Trick) -> str:
    return trick.name


@pytest.mark.parametrize("trick", CLAIMS[:6], ids=named)
def test_a_claim_earns_nothing_and_moves_no_price_while_meters_stand(stage: tuple[Stage, range], trick: Trick) -> None:
    found = stage[0].amounts(trick, stage[1])
    assert found.moved == 0
    assert found.answered <= GAIN_MAX * len(stage[1]) / 12


def test_at_the_prices_of_gates_the_same_claim_pays(stage: tuple[Stage, range]) -> None:
    """What the run is for."""
    found = stage[0].amounts(replace(CLAIMS[0], claim_kw=600), stage[1])
    assert found.before > 10
    assert found.answered <= GAIN_MAX * len(stage[1]) / 12


@pytest.mark.parametrize("trick", ACTS, ids=named)
def test_real_acts_do_not_pay(stage: tuple[Stage, range], trick: Trick) -> None:
    found = stage[0].amounts(trick, stage[1])
    assert max(found.answered, found.deaf) <= 0


def test_strategies_at_random_move_no_price_while_meters_stand(stage: tuple[Stage, range]) -> None:
    rng = np.random.default_rng(3)
    for _ in range(8):
        trick = replace(random_trick(rng), hour=HOUR)
        assert stage[0].amounts(trick, stage[1][:1]).moved == 0, trick.name
