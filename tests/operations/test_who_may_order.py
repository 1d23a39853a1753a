"""What registry and rulebook let customers order, at the gates of a market: devices, who vouches for them, credit."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tellegen.assess.faults.hamlet import NAMES, SELLERS, STREETS, Hamlet, HamletPlan, found, root_prices, rules
from tellegen.assess.faults.hamlet_play import DAY, FIRST, Play
from tellegen.operations.awards import awarded_to
from tellegen.operations.keeping import state_parts
from tellegen.operations.market import Market
from tellegen.operations.rerun import rerun
from tellegen.records import Awards, Clearings, Connections, Device, Refusal, RefusedOrders
from tellegen.records.market import DAY_AHEAD, REAL_TIME
from tellegen.simulation.shard import GATEWAY
from tellegen.units import MARKET_INTERVAL_S

EVERYBODY = {customer for street in STREETS for customer in street}


@contextmanager
def hamlet_with(folder: Path, *, timed: bool = False, **keys: str) -> Iterator[tuple[Play, Market]]:
    """A hamlet whose rulebook has other values, as its first day begins; everybody has bid for its gates."""
    book = rules({"2016-06-01": {"time_zone": '"Pacific/Pago_Pago"', **keys}})
    play = Play(found(folder / "shard", HamletPlan(FIRST, book, DAY.isoformat())))
    with Market.open(play.path, timed=timed) as market:
        for gate, step in ((DAY_AHEAD, 12), (REAL_TIME, 1)):
            market.take_prices(gate, root_prices(range(FIRST, FIRST + 24 * step, step)), play.clock.now())
        play.clock.wait(FIRST * MARKET_INTERVAL_S - 1)
        play.take(*play.hamlet.bids(DAY_AHEAD, FIRST, 24), *play.hamlet.bids(REAL_TIME, FIRST))
        play.clock.wait(FIRST * MARKET_INTERVAL_S)
        play.tick()
        yield play, market
    play.close()


def told(market: Market, gate: str) -> dict[int, set[Refusal]]:
    """What every customer is told about its orders of a gate."""
    market.record.refresh()
    answer = awarded_to(market.record, GATEWAY, gate, FIRST)
    assert answer.cleared
    said: dict[int, set[Refusal]] = {customer: set() for customer in answer.whose.tolist()}
    for customer, problem in answer.refused():
        said[customer].add(problem.refusal)
    return said


def awarded(market: Market, gate: str) -> set[int]:
    tables = [market.record.table(k, Awards) for k in market.record.journal.find(kind=Awards.kind, market=gate)]
    return {customer for table in tables for customer in table.customer.tolist()}


def refused(market: Market) -> int:
    return sum(market.record.journal.entry(k).rows for k in market.record.journal.find(kind=RefusedOrders.kind))


@pytest.fixture
def roofs(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """What the registry says of the sellers' panels."""
    plain = Hamlet.beginnings

    def changed(self: Hamlet, street: int) -> Connections:
        table = plain(self, street)
        behind = table.device != Device.LOAD
        if request.param is None:
            return table.take(~behind)
        where = {name: np.where(behind, value, getattr(table, name)) for name, value in request.param.items()}
        return replace(table, **{name: column.astype(getattr(table, name).dtype) for name, column in where.items()})

    monkeypatch.setattr(Hamlet, "beginnings", changed)


UNATTESTED = {"attested_by": b""}


@pytest.mark.parametrize(
    ("roofs", "keys", "reason"),
    [
        ({}, {}, None),
        (None, {}, Refusal.NOT_REGISTERED),
        (None, {"within_devices": "false"}, None),
        ({"node": -1}, {}, Refusal.NOT_REGISTERED),
        (UNATTESTED, {}, Refusal.NOT_ATTESTED),
        (UNATTESTED, {"attested": "false"}, None),
        ({"export_limit_w": 2_499}, {}, Refusal.BEYOND_DEVICE),
        ({"export_limit_w": 2_500}, {}, None),
    ],
    indirect=["roofs"],
)
@pytest.mark.usefixtures("roofs")
def test_panels_sell_what_is_registered_of_them(tmp_path: Path, keys: dict[str, str], reason: Refusal | None) -> None:
    """The reason stands on record, the sender is told it with what would be right, and clearing again agrees."""
    with hamlet_with(tmp_path, **keys) as (play, market):
        market.close_gate(REAL_TIME, FIRST, play.clock.now())
        expected = {who: {reason} if reason and who in SELLERS else set() for who in EVERYBODY}
        assert told(market, REAL_TIME) == expected
        assert refused(market) == (len(SELLERS) if reason else 0)
        assert (set(SELLERS) <= awarded(market, REAL_TIME)) == (reason is None)
    checks = {check.name: check for check in rerun(play.path)}
    assert checks["real-time clearings"].ok
    assert checks["real-time clearings"].count == len(NAMES)


@pytest.mark.parametrize("roofs", [{}], indirect=True)
@pytest.mark.parametrize("timed", [False, True])
@pytest.mark.usefixtures("roofs")
def test_who_could_not_pay_for_its_positions_has_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, timed: bool
) -> None:
    """A seller has to buy back what it does not deliver; one of the two has a limit of its own in the registry."""
    plain = Hamlet.beginnings

    def trusted(self: Hamlet, street: int) -> Connections:
        table = plain(self, street)
        whose = (table.customer == SELLERS[1]) & (table.device == Device.LOAD)
        return replace(table, credit=np.where(whose, 100, 0).astype(np.int32))

    monkeypatch.setattr(Hamlet, "beginnings", trusted)
    with hamlet_with(tmp_path, timed=timed, limit_per_account='"10"') as (play, market):
        now = play.clock.now()
        market.close_gate(DAY_AHEAD, FIRST, now)
        while market.clearing is not None:
            assert "market.exposed" in state_parts(market.state)
            market.work(now, 1.0)
        assert "market.exposed" not in state_parts(market.state)
        expected = {who: {Refusal.BEYOND_CREDIT} if who == SELLERS[0] else set() for who in EVERYBODY}
        assert told(market, DAY_AHEAD) == expected
        assert SELLERS[0] not in awarded(market, DAY_AHEAD)
        assert SELLERS[1] in awarded(market, DAY_AHEAD)
        assert refused(market) == 24  # one of each hour
        assert len(market.record.journal.find(kind=Clearings.kind, market=DAY_AHEAD)) == 24 * len(NAMES)
    assert all(check.ok for check in rerun(play.path))
