"""The shard of a scenario: its community enrolled, its wires, rules and histories on record before the first gate."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from tellegen.journal import Journal
from tellegen.metering import daily_profile, longest_stillness
from tellegen.operations.market import Market
from tellegen.operations.record import FIRST_DAY, LAST_INTERVAL, NAMES
from tellegen.operations.topology import Feeder, put_feeders
from tellegen.privacy import Vault
from tellegen.privacy.recorder import Recorder, Span
from tellegen.records import Connections, Device, Document, Histories, Profiles
from tellegen.registry import SIGNING_PURPOSE
from tellegen.simulation.registered import homes_assets
from tellegen.simulation.setup import Setup
from tellegen.simulation.shard import SIMULATED, ShardKeys, build_shard
from tellegen.units import MARKET_INTERVAL_S

SCENARIO = "scenario"
"""Name of the document with the scenario."""
ENROLLED_BEFORE_S = 86_400
"""How long before the played day everything became known."""
ESTIMATE_DAYS = 7
"""Days whose mean stands in for a reading that is missing or rejected."""
_PER_DAY = 288


def enrolled_at(setup: Setup) -> int:
    """When everybody was enrolled, seconds since the epoch."""
    return setup.first * MARKET_INTERVAL_S - ENROLLED_BEFORE_S


def build_community_shard(setup: Setup, folder: Path, origin: str) -> ShardKeys:
    """Make the directory of a scenario's shard.

    Everybody is connected one interval before the day, for whose end the first registers are read: energy is counted
    from them.

    Raises
    ------
    InputError : the folder is not empty.
    """
    known_at = enrolled_at(setup)
    keys = build_shard(
        folder,
        {setup.feeder: connections(setup)},
        f"tellegen scenario {setup.scenario.seed}".encode(),
        first_interval=setup.first - 1,
        known_at=known_at,
        origin=origin,
    )
    numbers = [*range(1, setup.node.size + 1), setup.substation]
    names = dict(zip(map(str, numbers), (*setup.community.names, "substation"), strict=True))
    span = Span(known_at, setup.first, setup.intervals)
    with Vault.open(folder / "vault") as vault, Journal.open(folder, vault.purpose_key(SIGNING_PURPOSE)) as journal:
        recorder = Recorder(journal, vault, setup.feeder, live=True)
        for document in (
            *setup.rulebook.documents(),
            Document(SCENARIO, _scenario_text(setup), private=True),
            Document(NAMES, json.dumps(names, sort_keys=True).encode(), private=True),
            Document(FIRST_DAY, setup.scenario.day.date.isoformat().encode()),
            Document(LAST_INTERVAL, str(setup.first + setup.intervals - 1).encode()),
        ):
            recorder.put_document(document, span)
        put_feeders(recorder, [Feeder(setup.feeder, setup.network, setup.substation)], span)
        recorder.put(histories(setup), span)
        recorder.put(profiles(setup), span)
        journal.commit(known_at)
    Market.create(folder)
    return keys


def connections(setup: Setup) -> Connections:
    """Where everybody is connected, and the substation by a connection that carries them all; and their devices."""
    count = setup.node.size + 1
    fuse_w = np.asarray(setup.community.customers.fuse_w, dtype=np.int64)
    capacity = np.append(fuse_w, fuse_w.sum())
    points = Connections(
        customer=np.arange(1, count + 1, dtype=np.int32),
        device=np.full(count, Device.LOAD, dtype=np.uint8),
        asset=np.roll(setup.meters, -1),
        feeder=np.full(count, setup.feeder.encode(), dtype="S32"),
        node=np.append(setup.node, setup.network.source[0]).astype(np.int32),
        phases=np.zeros(count, dtype=np.uint8),
        from_interval=np.full(count, setup.first - 1),
        capacity_w=capacity,
        import_limit_w=capacity,
        export_limit_w=capacity,
        reads_every=np.append(setup.reads_every, 1).astype(np.uint8),
        attested_by=np.full(count, SIMULATED, dtype="S32"),
        credit=np.zeros(count, dtype=np.int32),
    )
    return Connections.concat([points, homes_assets(points, setup.fleet.homes, setup.community.charging_w)])


def histories(setup: Setup) -> Histories:
    """What the meters counted before: for the sharing keys of the day, and for what counts as standing still."""
    imports, exports = _past(setup)
    count = imports.shape[2]
    return Histories(
        customer=np.arange(1, count + 1, dtype=np.int32),
        trailing_wh=imports[-setup.rules.trailing_days :].sum(axis=(0, 1)),
        longest_still=longest_stillness(imports.reshape(-1, count), exports.reshape(-1, count)).astype(np.int32),
    )


def profiles(setup: Setup) -> Profiles:
    """Everybody's mean day of the week before, by time of day in UTC."""
    imports, exports = (daily_profile(past[-ESTIMATE_DAYS:]) for past in _past(setup))
    count = imports.shape[1]
    place = (setup.first + np.arange(_PER_DAY)) % _PER_DAY
    return Profiles(
        customer=np.tile(np.arange(1, count + 1, dtype=np.int32), _PER_DAY),
        place=np.repeat(place, count).astype(np.int32),
        import_wh=imports.ravel().astype(np.int32),
        export_wh=exports.ravel().astype(np.int32),
    )


def _past(setup: Setup) -> tuple[np.ndarray, np.ndarray]:
    """Imports and exports of the days before, int64[days, 288, n + 1]; the last column is the substation's."""
    net = setup.past_net_wh
    whole = np.concatenate([net, net.sum(axis=2, keepdims=True)], axis=2)
    return np.maximum(whole, 0), np.maximum(-whole, 0)


def _scenario_text(setup: Setup) -> bytes:
    """The scenario without paths of the machine; the prices themselves stand in the clearings."""
    fields = setup.scenario.model_dump(mode="json", exclude={"rulebook": True})
    fields["prices"]["file"] = setup.wholesale.source
    return json.dumps(fields, sort_keys=True).encode()
