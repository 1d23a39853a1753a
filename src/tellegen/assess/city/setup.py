"""The directories of the city's shards: registry, vault and journal of the intake, and the market beside them."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tellegen.assess.city.population import City, ShardPopulation, all_moves, shard_population
from tellegen.journal import Journal
from tellegen.operations.recorder import Recorder, Span
from tellegen.operations.shard import ShardMarket
from tellegen.operations.synthetic_shard import ShardKeys, build_shard
from tellegen.privacy import Vault
from tellegen.registry import SIGNING_PURPOSE
from tellegen.rules import Rulebook
from tellegen.units import MARKET_INTERVAL_S


def shard_seed(city: City, shard: int) -> bytes:
    """The seed of every key of a shard."""
    return f"tellegen city {city.seed} shard {shard}".encode()


def set_up(city: City, shard: int, folder: Path) -> tuple[ShardPopulation, ShardKeys]:
    """Enrol everybody, put connections and all moves to come on record, and set the market up.

    A move is a planned switching: known before the first interval, in force from its own.
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
        first_interval=city.first_interval,
        origin=f"city.example/shard{shard}",
    )
    known_at = city.first_interval * MARKET_INTERVAL_S
    with Vault.open(folder / "vault") as vault, Journal.open(folder, vault.purpose_key(SIGNING_PURPOSE)) as journal:
        recorder, span = Recorder(journal, vault, "", live=True), Span(known_at, city.first_interval)
        batches = population.connections(city.first_interval)
        planned = [
            moves.connections(population, interval)
            for interval, moves in all_moves(city, shard, population).items()
            if moves.who.size
        ]
        for k, batch in enumerate(batches + planned):
            recorder.put(batch, span, name=f"plan/{k}")
        journal.commit(known_at)
    ShardMarket.create(
        folder, population.feeders, Rulebook.load(), interval=city.first_interval, known_at=known_at
    ).close()
    return population, keys
