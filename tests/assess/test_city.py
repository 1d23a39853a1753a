"""The city benchmark at a small size: the same code as for a million meters."""

import json
import time
from pathlib import Path

import numpy as np
import pytest

from tellegen.assess.city.costs import Hardware
from tellegen.assess.city.population import City, all_moves, shard_population
from tellegen.assess.city.report import figures, scaling_figure
from tellegen.assess.city.run import play
from tellegen.errors import InputError
from tellegen.records import ClearingStatus


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


def test_a_small_city_plays_its_intervals_and_loses_nothing(tmp_path: Path) -> None:
    """Every read and bid on record, every award posted, books at zero, receipts and prices that hold."""
    for package in ("uvicorn", "httptools", "msgspec"):
        pytest.importorskip(package)
    city = City(400, 1, _an_interval_past(), shards=1)
    said: list[str] = []
    run = play(city, tmp_path, said.append)
    found = run.findings
    played = city.intervals + 1
    assert (found.bids, found.readings) == (400 * played, (400 + run.feeders) * played)
    assert (found.lost, found.refused, found.unposted, found.bad_receipts) == (0, 0, 0, 0)
    assert (found.trial_balance, found.astray) == (0, 0)
    assert found.row_receipts > 0
    assert found.receipts > 0
    assert found.mismatch_pu < 1e-6
    assert found.prices_checked > 0
    # a price on record is whole micro-currency, so it may differ by half of one, and as much again by the warm start
    assert found.price_error < 2e-5
    assert all(each.estimated == 0 for each in run.intervals)
    assert all((each.status == ClearingStatus.OPTIMAL).all() for each in run.intervals)
    assert "auditing the record" in said
    made = {figure.name: figure for figure in figures(run, Hardware.read())}
    assert made["rows sent and not on record as sent"].met is True
    assert made["platform's CPU time per interval"].value > 0
    json.dumps([figure.as_json() for figure in made.values()])


def _an_interval_past() -> int:
    return int(time.time()) // 300 - 4
