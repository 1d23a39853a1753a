"""Homes that mean what they bid pay by the price run nearly what they would have paid at its guide."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tellegen.assess.honest import (
    APART_CT_MAX,
    DEAF_APART_CT_MAX,
    PLANT,
    WORSE_PERCENT_MAX,
    Case,
    Played,
    compared,
    figures,
    play,
    widest,
)
from tellegen.errors import InputError
from tellegen.operations.reading import RecordedDay, read_day
from tellegen.operations.record import ShardRecord
from tellegen.records import Line
from tellegen.report.day import node_prices
from tellegen.simulation.scenario import read_scenario

CASE = Case("the short day")
BOUNDS = -1_000_000, 5_000_000


@pytest.fixture(scope="module")
def recorded(run_directory: Path, scenario_file: Path) -> tuple[RecordedDay, np.ndarray]:
    from tellegen.simulation.setup import prepare

    setup = prepare(read_scenario(scenario_file))
    with ShardRecord.open(run_directory) as record:
        record.refresh()
        return read_day(record, setup.scenario.day.date, setup.feeder), setup.node


@pytest.fixture(scope="module")
def short(recorded: tuple[RecordedDay, np.ndarray]) -> Played:
    return compared(*recorded, BOUNDS)


def test_figures_are_those_of_a_day_with_their_targets(short: Played) -> None:
    apart, worst, at_bound = figures(CASE, [short])
    assert apart.spread["mean"] <= apart.value <= apart.spread["most"]
    assert (apart.target, worst.target, at_bound.target) == (APART_CT_MAX, WORSE_PERCENT_MAX, 0)
    assert at_bound.value == 0


def test_the_two_bills_differ_by_energy_and_reactive_power_at_the_difference_of_prices(
    recorded: tuple[RecordedDay, np.ndarray], short: Played
) -> None:
    """Priced once more, posting by posting, at the guide."""
    day, node = recorded
    guide = {r.interval: k for k, r in enumerate(r for r in day.rounds if r.market == "real_time")}
    rounds = tuple(r for r in day.rounds if r.market == "real_time")
    energy, reactive = node_prices(rounds, "energy"), node_prices(rounds, "reactive")
    bill, late = np.zeros(node.size), set[int]()
    for posting in day.all_postings().rows():
        account, line = int(posting["account"]), int(posting["line"])
        if account <= 0 or line not in (Line.FORWARD, Line.REAL_TIME, Line.IMBALANCE, Line.REACTIVE):
            continue
        late |= {account - 1} if line == Line.IMBALANCE and posting["price"] == 0 else set()
        if line == Line.FORWARD:
            bill[account - 1] += posting["amount"] * 1e-9
        else:
            prices = reactive if line == Line.REACTIVE else energy
            price = prices[guide[int(posting["interval"])], node[account - 1]]
            bill[account - 1] += int(posting["quantity"]) * int(price) * 1e-9
    there = ~np.isin(np.arange(node.size), list(late))  # sun that no meter had shown in time goes by a price of its own
    assert there.sum() >= node.size - 2
    assert short.bill_guide[there] == pytest.approx(bill[there], abs=1e-6)


def test_what_is_furthest_is_named_with_its_time_and_its_limits(short: Played) -> None:
    first, *_ = widest(CASE, [short])
    assert f"{np.abs(short.apart_ct).max():.2f} apart" in first
    assert "kW off awards" in first


def test_a_day_without_runs_is_no_comparison(recorded: tuple[RecordedDay, np.ndarray]) -> None:
    from dataclasses import replace

    day, node = recorded
    with pytest.raises(InputError, match="does the rulebook"):
        compared(replace(day, runs=()), node, BOUNDS)


def test_honest_homes_settle_near_the_guide_even_where_many_are_deaf(extras: None) -> None:
    """The same hours over wires that are not the market's, with all homes listening and with three in ten deaf."""
    near = play(Case("heard", limits_pu=(1.0, 1.031), deaf=0.0, lost=0.0), 0, None, hours=4)
    far = play(Case("deaf", limits_pu=(1.0, 1.031), deaf=0.3, lost=0.2), 0, None, hours=4)
    assert far.off_kw.mean() > 4 * near.off_kw.mean()
    assert np.abs(far.apart_ct).mean() > 2 * np.abs(near.apart_ct).mean()
    assert np.quantile(np.abs(far.apart_ct), 0.99) <= DEAF_APART_CT_MAX
    assert near.run_s > 0
    assert all(figure.met for figure in figures(CASE, [near]))


def test_a_case_is_a_scenario_that_a_file_could_hold() -> None:
    case = Case("tight", limits_pu=(1.0, 1.031), deaf=0.3, lost=0.2, lost_bids=0.1)
    said = case.scenario(3, None, None)
    assert (said.feeder.v_min_pu, said.feeder.v_max_pu) == (1.0, 1.031)
    assert (said.plant.ignored_dispatch, said.plant.lost_dispatch, said.plant.lost_bids) == (0.3, 0.2, 0.1)
    assert said.plant.reactive_error == PLANT.reactive_error
    assert type(said).model_validate(said.model_dump()) == said
