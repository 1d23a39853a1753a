"""The city benchmark at a small size: the same code as for a million meters."""

import json
from pathlib import Path

import numpy as np
import pytest

from tellegen.assess.city.costs import Hardware
from tellegen.assess.city.course import Course
from tellegen.assess.city.report import beside_figures, figures, scaling_figure
from tellegen.assess.city.run import play
from tellegen.errors import InputError
from tellegen.records import ClearingStatus
from tellegen.simulation.city.population import City, all_moves, shard_population


def test_a_city_of_a_million_has_twenty_kinds_of_feeders_and_more() -> None:
    """At least 20 topologies of 200 to 3,000 customers, shards of like size."""
    city = City(1_000_000, 12, 1)
    sizes, kinds = city.feeder_sizes(), city.topology_sizes()
    assert int(sizes.sum()) == 1_000_000
    assert kinds.size >= 20
    assert kinds.min() >= 200
    assert kinds.max() <= 3_000
    load = np.bincount(city.shard_of_feeders(), weights=sizes)
    assert load.max() - load.min() <= 3_000


@pytest.mark.parametrize("meters", [400, 777, 2_000, 9_999, 123_456])
def test_every_meter_has_a_place(meters: int) -> None:
    city = City(meters, 1, 1)
    assert int(city.feeder_sizes().sum()) == meters
    assert set(city.shard_of_feeders().tolist()) == {0, 1}


def test_one_in_a_hundred_moves_and_no_feeder_fills_up() -> None:
    """Who leaves is replaced by one from the neighbouring feeder, at the same connection."""
    city = City(2_000, 3, 10)
    population = shard_population(city, 0)
    feeder, node = population.feeder.copy(), population.node.copy()
    before = np.bincount(feeder)
    places = sorted(zip(feeder.tolist(), node.tolist(), strict=True))
    for moves in all_moves(city, 0, population).values():
        assert abs(moves.who.size - 0.01 * population.customer.size) <= 0.005 * population.customer.size
        assert (feeder[moves.who] != moves.feeder).all()
        feeder[moves.who], node[moves.who] = moves.feeder, moves.node
    np.testing.assert_array_equal(np.bincount(feeder), before)
    assert sorted(zip(feeder.tolist(), node.tolist(), strict=True)) == places


def test_cities_that_make_no_sense_are_refused() -> None:
    with pytest.raises(InputError, match="--meters 12"):
        City(12, 1, 1)
    with pytest.raises(InputError, match="--intervals 0"):
        City(1_000, 0, 1)


def test_a_cost_that_grows_with_the_city_is_not_linear() -> None:
    """Within 20 % per meter from the smallest city to the largest."""
    assert scaling_figure({10_000: 200.0, 100_000: 180.0, 1_000_000: 230.0}).met is True
    assert scaling_figure({10_000: 200.0, 1_000_000: 250.0}).met is False


def test_a_price_file_states_everything(tmp_path: Path) -> None:
    """Replicas are counted: three machines cost three times as much."""
    hardware = Hardware.read()
    one = Hardware(hardware.name, hardware.price, hardware.currency, 2, hardware.life_years, 1, hardware.basis)
    assert hardware.cost_per_transaction(10) == pytest.approx(hardware.replicas * one.cost_per_transaction(10))
    wrong = tmp_path / "prices.toml"
    wrong.write_text('[server]\nname = "x"\n')
    with pytest.raises(InputError, match="lacks 'price'"):
        Hardware.read(wrong)
    wrong.write_text('[server]\nname="x"\nprice=-1\ncurrency="EUR"\ncores=2\nlife_years=5\nreplicas=3\nbasis="none"\n')
    with pytest.raises(InputError, match="price"):
        Hardware.read(wrong)


def test_a_course_ends_with_an_hour_and_closes_a_day_of_288_intervals() -> None:
    """So that a run of corrections comes right behind what is measured; a day before it is settled whole."""
    course = Course.of(400, 12)
    assert len(course.closing) == 288
    assert course.city.first_interval == course.closing[-1]
    assert course.city.rounds.stop % 12 == 0
    assert Course.of(400, 3).city.rounds.stop == course.city.rounds.stop
    assert Course.of(400, 3).city.first_interval > course.closing[-1]
    held = {*Course.of(400, 3).tail}
    assert held < set(course.closing)
    assert not held & set(Course.of(400, 3).whole)
    with pytest.raises(InputError, match="--day-intervals 4"):
        Course.of(400, 2, day_intervals=4)


def test_a_small_city_plays_its_intervals_and_loses_nothing(tmp_path: Path) -> None:
    """Every read and bid on record, every award posted, late readings settled, books at zero, receipts and prices hold.

    The hour ends with the measured interval, and a run of corrections behind it.
    """
    for package in ("uvicorn", "httptools", "msgspec"):
        pytest.importorskip(package)
    course = Course.of(400, 1, shards=1, day_intervals=16)
    said: list[str] = []
    run = play(course, tmp_path, said.append)
    found = run.findings
    played = len(run.intervals) + 1
    assert found.bids == 400 * (played + 1)  # a day ahead too
    assert (found.lost, found.refused, found.unposted, found.bad_receipts) == (0, 0, 0, 0)
    assert (found.trial_balance, found.astray) == (0, 0)
    assert found.row_receipts > 0
    assert found.receipts > 0
    assert found.mismatch_pu < 1e-6
    assert found.prices_checked > 0
    # a price on record is whole micro-currency, so it may differ by half of one, and as much again by the warm start
    assert found.price_error < 2e-5
    # 0.5 % are late; who was late in the warm-up interval has no energy of its own in the one after it either
    assert all(2 <= each.estimated <= 4 for each in run.intervals)
    assert all((each.status <= ClearingStatus.RELAXED).all() for each in run.intervals)
    assert "auditing the record" in said
    made = {figure.name: figure for figure in figures(run, Hardware.read())}
    assert made["rows sent and not on record as sent"].met is True
    assert made["platform's CPU time per interval"].value > 0
    assert made["close of a day"].conditions["customers invoiced"] == 400
    assert made["close of a day"].conditions["feeders without keys"] == 0
    late = made["run of corrections"].conditions["late and corrected readings"]
    assert late == 2 * 2  # of the warm-up interval and of the closed day
    assert made["late and corrected readings that were not settled"].met is True
    assert made["day-ahead, every bid new: bids sent to prices published"].conditions["hours"] == 24
    json.dumps([figure.as_json() for figure in made.values()])


def test_a_city_that_waits_for_quarters_of_an_hour_warms_up_for_longer() -> None:
    """What settles while an interval is measured is the one two before, and has been bid for and read as well."""
    fine, coarse = Course.of(400, 3, coarse=0.0), Course.of(400, 3, coarse=0.1)
    assert (fine.behind, coarse.behind) == (0, 2)
    assert coarse.city.rounds.stop == fine.city.rounds.stop
    assert len(coarse.city.rounds) == len(fine.city.rounds) + 2
    with pytest.raises(InputError, match="--coarse 120 must be 0 to 100 per cent"):
        Course.of(400, 3, coarse=1.2)


def test_a_small_city_of_coarse_and_silent_meters_loses_nothing(tmp_path: Path) -> None:
    """With price runs and without, late quarters settled."""
    for package in ("uvicorn", "httptools", "msgspec"):
        pytest.importorskip(package)
    runs = []
    for price_run in (True, False):
        folder = tmp_path / str(price_run)
        folder.mkdir()
        course = Course.of(
            400, 1, shards=1, day_ahead=False, close=False, coarse=0.25, silent=0.05, price_run=price_run
        )
        runs.append(play(course, folder, lambda words: None))
    for run in runs:
        found = run.findings
        assert (found.lost, found.refused, found.unposted, found.bad_receipts) == (0, 0, 0, 0)
        assert (found.trial_balance, found.astray) == (0, 0)
        assert 12 <= run.intervals[0].estimated <= 40  # 20 or so are silent; who is late besides, 4 at most
        made = {figure.name: figure for figure in figures(run, Hardware.read())}
        assert made["late and corrected readings that were not settled"].met is True
    with_runs, without = (run.findings.clearings for run in runs)
    assert with_runs > without
    assert [figure.unit for figure in beside_figures(*runs)] == ["ratio"] * 3
