"""The directories of the city's shards: registry, vault and journal of the intake, and the market beside them."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tellegen.journal import Journal, height_for
from tellegen.metering.estimate import NOT_KNOWN
from tellegen.operations.market import Market
from tellegen.operations.record import FIRST_DAY, LAST_INTERVAL
from tellegen.operations.timetable import day_of
from tellegen.operations.topology import put_feeders
from tellegen.privacy import Vault
from tellegen.privacy.recorder import Recorder, Span
from tellegen.records import Document, Histories
from tellegen.registry import SIGNING_PURPOSE
from tellegen.rules import Rulebook
from tellegen.simulation.city.gateways import gateway_of
from tellegen.simulation.city.population import City, Draw, ShardPopulation, all_moves, generator, shard_population
from tellegen.simulation.shard import ShardKeys, build_shard
from tellegen.units import MARKET_INTERVAL_S

SET_UP_BEFORE = 576
"""Intervals before the first by which everybody is enrolled: the first day's gate is a day before it."""
DAILY_KWH = (6.0, 15.0)
"""What a customer has withdrawn a day before it joined."""


def city_rules(city: City) -> Rulebook:
    """The default rules, with the day-ahead gate at noon, and as the city's meters and prices want them."""
    changes = [(b'day_ahead_local = "24:00"', b'day_ahead_local = "12:00"')]
    if city.coarse:
        changes.append((b"longest_meter_minutes = 5", b"longest_meter_minutes = 15"))
    if not city.price_run:
        changes.append((b"settles = true", b"settles = false"))
    said = {rules.name: rules.content for rules in Rulebook.load().versions}
    for old, new in changes:
        said = {name: content.replace(old, new) for name, content in said.items()}
    return Rulebook.parse(said, source="rulebook of the city")


def shard_seed(city: City, shard: int) -> bytes:
    """The seed of every key of a shard."""
    return f"tellegen city {city.seed} shard {shard}".encode()


def set_up(
    city: City, shard: int, folder: Path, rulebook: Rulebook | None = None, last_interval: int | None = None
) -> tuple[ShardPopulation, ShardKeys]:
    """Enrol everybody, put connections and all moves to come on record, and set the market up.

    A move is a planned switching: known before the first interval, in force from its own.

    Parameters
    ----------
    rulebook : the rules that go on record; None: the default ones. last_interval : of the market; None: it goes on.
    """
    population = shard_population(city, shard)
    members = {
        feeder.name: np.append(population.customer[population.feeder == k], feeder.substation)
        for k, feeder in enumerate(population.feeders)
    }
    keys = build_shard(
        folder,
        members,
        shard_seed(city, shard),
        first_interval=city.begin - SET_UP_BEFORE,
        origin=f"city.example/shard{shard}",
        gateways=[gateway_of(feeder.name) for feeder in population.feeders],
    )
    known_at = (city.begin - SET_UP_BEFORE) * MARKET_INTERVAL_S
    with (
        Vault.open(folder / "vault") as vault,
        Journal.open(
            folder, vault.purpose_key(SIGNING_PURPOSE), stretch_height=height_for(len(vault.customers))
        ) as journal,
    ):
        recorder, span = Recorder(journal, vault, "", live=True), Span(known_at, city.begin)
        put_feeders(recorder, population.feeders, span)
        rulebook = Rulebook.load() if rulebook is None else rulebook
        first_day = day_of(rulebook, city.begin).isoformat().encode()
        ends = () if last_interval is None else (Document(LAST_INTERVAL, str(last_interval).encode()),)
        for document in (*rulebook.documents(), Document(FIRST_DAY, first_day), *ends):
            recorder.put_document(document, span)
        batches = population.connections(city.begin - SET_UP_BEFORE + 1)
        planned = [
            moves.connections(population, interval)
            for interval, moves in all_moves(city, shard, population).items()
            if moves.who.size
        ]
        for k, batch in enumerate(batches + planned):
            recorder.put(batch, span, name=f"plan/{k}")
        days = rulebook.at(day_of(rulebook, city.begin)).trailing_days
        for k, history in enumerate(_histories(city, shard, population, days)):
            recorder.put(history, span, name=f"history/{k}")
        journal.commit(known_at)
    Market.create(folder)
    return population, keys


def _histories(city: City, shard: int, population: ShardPopulation, days: int) -> list[Histories]:
    """What everybody withdrew before, one batch per feeder."""
    rng = generator(city.seed, Draw.PAST, shard)
    trailing = np.rint(rng.uniform(*DAILY_KWH, population.customer.size) * 1e3 * days).astype(np.int64)
    batches = []
    for k in range(len(population.feeders)):
        here = np.flatnonzero(population.feeder == k)
        still = np.full(here.size, NOT_KNOWN)
        batches.append(Histories(population.customer[here].astype(np.int32), trailing[here], still))
    return batches
