"""A source is told what those were awarded whose bids it brought, and nobody else is."""

from __future__ import annotations

import asyncio
import base64
import json
import threading
import time
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import numpy as np
import pytest

from tellegen.intake.intake import Intake
from tellegen.intake.limits import IntakeLimits
from tellegen.intake.sent import SentBids
from tellegen.journal.clock import RecordClock
from tellegen.operations.clock import Simulated
from tellegen.operations.exchange import Awarded, AwardsRequest, PriceRole
from tellegen.operations.market import Market
from tellegen.operations.process import Operator
from tellegen.records import RootPrices
from tellegen.service.application import Application
from tellegen.service.awards import AwardsDesk, awarded_of, document_of
from tellegen.service.counters import Counters
from tellegen.service.group_commit import GroupCommit
from tellegen.simulation.city.batches import Whereabouts
from tellegen.simulation.city.gateways import Gateways, gateway_of
from tellegen.simulation.city.population import City
from tellegen.simulation.city.setup import set_up
from tellegen.simulation.shard import GATEWAY, HEAD_END, ShardKeys, build_shard
from tellegen.units import MARKET_INTERVAL_S

NUMBERS = np.array([3, 2**40, -7], dtype=np.int64)
ROLE = PriceRole.GUIDE, "price_run", 2460
NOBODY = np.zeros((1, 3), dtype=np.int64)
AWARDED = Awarded("real_time", 7, True, *[NUMBERS] * 5, *[NUMBERS[None]] * 3, NOBODY, NUMBERS, *ROLE)  # type: ignore[arg-type]


def read(source: str, market: str, interval: int) -> Awarded:
    """Stands for the record of the market."""
    assert (source, market, interval) == (GATEWAY, "real_time", 7)
    return AWARDED


async def answer(keys: ShardKeys, request: AwardsRequest, signature: bytes, market: bool = True) -> tuple[int, Any]:
    group = GroupCommit(lambda: Intake.open(keys.path), IntakeLimits(), Counters())
    await group.start()
    said = {"source": request.source, "market": request.market, "interval": request.interval, "time": request.asked_at}
    scope = {
        "type": "http",
        "method": "POST",
        "path": "/v1/awards",
        "query_string": urlencode(said).encode(),
        "headers": [(b"tellegen-signature", base64.b64encode(signature))],
    }
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        raise AssertionError("there is no body")

    async def send(message: Any) -> None:
        sent.append(message)

    application = Application(group, IntakeLimits(), Counters(), awards=read if market else None)
    try:
        await application(scope, receive, send)
    finally:
        await group.stop()
    return sent[0]["status"], json.loads(sent[1]["body"])


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> ShardKeys:
    path = tmp_path_factory.mktemp("awards") / "s"
    return build_shard(path, {"F1": np.arange(1, 4)}, b"awards", first_interval=int(time.time()) // 300)


def asked(keys: ShardKeys, ago_s: int = 0, **changed: object) -> AwardsRequest:
    fields: dict[str, Any] = {"origin": keys.origin, "source": GATEWAY, "market": "real_time", "interval": 7}
    return AwardsRequest(**(fields | {"asked_at": int(time.time()) - ago_s} | changed))


def test_the_source_is_told_and_gets_back_what_was_read(keys: ShardKeys) -> None:
    request = asked(keys)
    status, document = asyncio.run(answer(keys, request, keys.sign_as(GATEWAY, request.to_bytes())))
    assert status == 200
    assert document == document_of(AWARDED) == document_of(awarded_of(document))


@pytest.mark.parametrize(
    ("changed", "signer", "status"),
    [
        ({}, HEAD_END, 401),  # another source
        ({"origin": "city.example/other"}, GATEWAY, 401),  # for another shard
        ({"source": "nobody"}, GATEWAY, 403),
        ({"source": HEAD_END}, HEAD_END, 403),  # brings no bids
        ({"ago_s": 3600}, GATEWAY, 422),  # an old request
        ({"ago_s": -3600}, GATEWAY, 422),
    ],
)
def test_nobody_else_is(keys: ShardKeys, changed: dict[str, Any], signer: str, status: int) -> None:
    request = asked(keys, **changed)
    assert asyncio.run(answer(keys, request, keys.sign_as(signer, request.to_bytes())))[0] == status


def test_a_shard_without_a_market_says_so(keys: ShardKeys) -> None:
    request = asked(keys)
    status, document = asyncio.run(answer(keys, request, keys.sign_as(GATEWAY, request.to_bytes()), market=False))
    assert (status, document["type"]) == (404, "/problems/not-found")


def test_the_desk_reads_what_was_cleared_and_names_the_sources_own_customers_only(tmp_path: Path) -> None:
    """From the market's record, while its writer goes on; the head-end has brought no bid."""
    first = 4_923_912
    city = City(200, 1, first, shards=1)
    population, keys = set_up(city, 0, tmp_path)
    clock = Simulated((first - 2) * MARKET_INTERVAL_S)

    def record_clock(newest: int) -> RecordClock:
        return RecordClock(wall=lambda: float(clock.now()), elapsed=clock.elapsed, not_before=newest)

    intake = Intake.open(tmp_path, clock=record_clock)

    def bid() -> None:
        places = Whereabouts(population, {})
        for batch in Gateways(city, 0, population, keys, places).real_time(first):
            intake.take(batch.statement, batch.signature, lambda b=batch: SentBids.from_bytes(b.body))
        intake.commit()

    def tick() -> None:
        intake.tick(clock.now())
        intake.commit()

    with Market.open(tmp_path) as market:
        said = RootPrices(interval=np.array([first]), micros=np.array([250_000]), source=np.array([b"test"]))
        market.take_prices("real_time", said, clock.now())
    start = first * MARKET_INTERVAL_S
    clock.at(start - 2, bid)
    for late in (-MARKET_INTERVAL_S, 0, 60):
        clock.at(start + late, tick)
    with closing(AwardsDesk(tmp_path)) as desk:
        gateway = gateway_of(population.feeders[0].name)
        before = desk(gateway, "real_time", first)
        Operator(lambda: Market.open(tmp_path), clock, threading.Event()).run(start + 90)
        awarded, nothing = desk(gateway, "real_time", first), desk(HEAD_END, "real_time", first)
        unsettled = desk(gateway, "price_run", first)
        Operator(lambda: Market.open(tmp_path), clock, threading.Event()).run(start + MARKET_INTERVAL_S + 90)
        settled, none_of_it = desk(gateway, "price_run", first), desk(HEAD_END, "price_run", first)
    intake.close()
    assert before is not None
    assert not before.cleared
    assert awarded is not None
    assert awarded.cleared
    assert awarded.whose.tolist() == sorted(population.customer.tolist())
    assert (awarded.quantity_mw > 0).all()
    assert np.isin(awarded.customer, awarded.whose).all()
    assert nothing is not None
    assert (len(nothing.whose), len(nothing.customer)) == (0, 0)
    assert (awarded.prices, awarded.settled_in) == (PriceRole.GUIDE, "price_run")
    assert awarded.settled_at == start + MARKET_INTERVAL_S + 60
    assert unsettled is not None
    assert settled is not None
    assert (unsettled.cleared, unsettled.status.tolist()) == (False, [[-1] * len(awarded.whose)])
    assert settled.cleared
    assert (settled.prices, settled.settled_in) == (PriceRole.SETTLES, "price_run")
    assert settled.whose.tolist() == awarded.whose.tolist()
    assert len(settled.customer) == 0  # a run awards nothing
    assert (settled.energy_micros > 0).all()
    assert none_of_it is not None
    assert len(none_of_it.whose) == 0
    assert awarded_of(json.loads(json.dumps(document_of(awarded)))).quantity_mw.tolist() == awarded.quantity_mw.tolist()
