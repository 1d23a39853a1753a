"""A market that is killed, loses power or is refused by its disk goes on to what it comes to undisturbed."""

from __future__ import annotations

from pathlib import Path

import pytest

from tellegen.assess.faults import market_world
from tellegen.assess.faults.market_world import Founded, MarketTally, simulate_market
from tellegen.assess.faults.promises import ContradictionError


@pytest.fixture(scope="module")
def founded(tmp_path_factory: pytest.TempPathFactory) -> Founded:
    return Founded.at(tmp_path_factory.mktemp("hamlet"))


def test_no_law_is_broken_in_twenty_worlds(founded: Founded) -> None:
    """Market, intake, books, vault and snapshots on one disk that tears, fills up, refuses and loses power."""
    tally = MarketTally()
    for seed in range(20):
        tally.add(simulate_market(founded, seed))
    assert min(tally.kills, tally.power_losses) > 10
    assert min(tally.disk_refusals, tally.clock_jumps) > 3


def test_a_seed_repeats_its_world(founded: Founded) -> None:
    assert simulate_market(founded, 5) == simulate_market(founded, 5)


def test_the_simulation_finds_books_that_are_written_before_their_record(
    founded: Founded, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A referee that cannot fail referees nothing: balances that the record does not know of are seen."""
    monkeypatch.setattr(market_world, "_unlike", lambda market: "the books are not what the record folds to")
    with pytest.raises(ContradictionError, match="seed 1: the books"):
        simulate_market(founded, 1)


def test_twenty_kills_of_real_processes_change_nothing_under_a_clock_that_stands(tmp_path: Path) -> None:
    pytest.importorskip("uvicorn")
    from tellegen.assess.faults.market_kills import standing_rounds

    killed = standing_rounds(tmp_path, 20)
    assert killed.kills == 20
    assert min(killed.markets, killed.intakes) > 0


def test_under_a_clock_that_runs_what_is_missed_is_flagged(tmp_path: Path) -> None:
    pytest.importorskip("uvicorn")
    from tellegen.assess.faults.market_kills import running_rounds

    killed = running_rounds(tmp_path, 3, factor=400.0)
    assert killed.markets == 3
