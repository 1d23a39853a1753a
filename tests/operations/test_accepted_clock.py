"""The documented way back after a clock that was wrong goes through both journals of a shard."""

from pathlib import Path

import pytest

from tellegen.journal import Journal
from tellegen.journal.clock import ClockError, RecordClock
from tellegen.operations.directory import accept_clock, read_standing
from tellegen.operations.market import Market
from tellegen.records import Clocks
from tellegen.simulation.city.population import City
from tellegen.simulation.city.setup import set_up


def test_a_shard_whose_record_is_years_away_is_operated_again(tmp_path: Path) -> None:
    set_up(City(200, 1, 4_923_912, shards=1), 0, tmp_path)
    with pytest.raises(ClockError, match="accept-clock"):
        RecordClock(not_before=read_standing(tmp_path).newest)
    accept_clock(tmp_path, "somebody")
    RecordClock(not_before=read_standing(tmp_path).newest)
    accept_clock(tmp_path, "nobody")  # there is nothing left to say
    with Journal.open(tmp_path) as intake, Journal.open(tmp_path / "market") as market:
        assert len(intake.find(kind=Clocks.kind)) == 1
        assert len(market) == 0  # nothing of it is wrong
    with Market.open(tmp_path):
        pass
