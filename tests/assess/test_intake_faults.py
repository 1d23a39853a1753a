"""Whatever goes wrong with the intake, good rows count once, refusals stand, and no receipt is contradicted."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tellegen.assess.faults.intake_world import IntakeTally, shard_for_worlds, simulate_intake
from tellegen.assess.faults.promises import ContradictionError, judge
from tellegen.assess.faults.traffic import FEEDERS, SEED, Batch, Traffic
from tellegen.assess.load import Connection, Reply
from tellegen.intake.recording import Recording
from tellegen.intake.submitted import Submitted
from tellegen.journal import Journal
from tellegen.privacy import Vault
from tellegen.service.client import post_request
from tellegen.simulation.shard import ShardKeys, build_shard
from tellegen.units import MARKET_INTERVAL_S


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> ShardKeys:
    return shard_for_worlds(tmp_path_factory.mktemp("worlds") / "s")


def played(keys: ShardKeys, worlds: int) -> IntakeTally:
    tally = IntakeTally()
    for seed in range(worlds):
        tally.add(simulate_intake(keys, seed))
    return tally


def rarest(tally: IntakeTally) -> int:
    """How often that happened which happened least."""
    return min(getattr(tally, name) for name in IntakeTally.__dataclass_fields__)


def test_no_promise_is_broken_in_forty_worlds(keys: ShardKeys) -> None:
    """Crashes, torn writes, full disks, clocks set wrong, batches lost, repeated, reordered, altered and replayed."""
    tally = played(keys, 40)
    assert rarest(tally) > 10, tally


@pytest.mark.slow
def test_no_promise_is_broken_in_a_thousand_worlds(keys: ShardKeys) -> None:
    tally = played(keys, 1000)
    assert rarest(tally) > 250, tally


def test_a_replay_window_that_forgets_is_found(keys: ShardKeys, monkeypatch: pytest.MonkeyPatch) -> None:
    """A referee that cannot fail referees nothing."""
    monkeypatch.setattr(Submitted, "counted_readings", lambda *_, **__: iter(()))
    with pytest.raises(ContradictionError, match=r"seed \d+: .*(refused|not what the record says)"):
        played(keys, 40)


def test_refusals_that_are_not_recorded_are_found(keys: ShardKeys, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Recording, "refuse_rows", lambda recording, refusal, statement, batch, now: batch)
    with pytest.raises(ContradictionError, match=r"seed \d+: "):
        played(keys, 40)


def test_twenty_servers_killed_under_load_keep_what_they_acknowledged(tmp_path: Path) -> None:
    """`kill -9`; what had no answer is sent again, and is on record once."""
    pytest.importorskip("uvicorn", reason="uvicorn is not installed (extra `service`)")
    from tellegen.assess.faults.servers import server_rounds

    killed = server_rounds(tmp_path / "s", 20, life_s_max=0.1)
    assert killed.kills == 20
    assert min(killed.receipts, killed.unanswered, killed.refused_rows) > 20


@pytest.mark.slow
def test_a_thousand_servers_killed_under_load_keep_what_they_acknowledged(tmp_path: Path) -> None:
    pytest.importorskip("uvicorn", reason="uvicorn is not installed (extra `service`)")
    from tellegen.assess.faults.servers import server_rounds

    killed = server_rounds(tmp_path / "s", 1000)
    assert killed.kills == 1000
    assert min(killed.receipts, killed.unanswered, killed.refused_rows) > 1000


FULL = """
import resource, signal, sys
from pathlib import Path
from tellegen.service import group_commit
from tellegen.service.server import ServerOptions, serve
group_commit.REOPEN_AFTER_S = 0.0
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
size = int(sys.argv[2])
resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
def room(*_): resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
signal.signal(signal.SIGUSR1, room)
serve(Path(sys.argv[1]), ServerOptions(simulation=True), lambda address: print(address, flush=True))
"""


def test_a_server_on_a_full_disk_says_so_and_goes_on_once_there_is_room(tmp_path: Path) -> None:
    """The system's own refusal (RLIMIT_FSIZE): 507 or 503, nothing acknowledged is lost, and with room all lands."""
    pytest.importorskip("uvicorn", reason="uvicorn is not installed (extra `service`)")
    chance, path = random.Random(1), tmp_path / "s"
    interval = int(time.time()) // MARKET_INTERVAL_S
    keys = build_shard(path, FEEDERS, SEED, first_interval=interval - 100)
    traffic = Traffic(keys, chance)
    batches = [traffic.batch(interval) for _ in range(60)]
    largest = max(file.stat().st_size for file in path.rglob("*") if file.is_file())
    command = [sys.executable, "-c", FULL, str(path), str(largest + 8192)]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2] / "src")}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        address = process.stdout.readline().strip()

        async def send(each: list[Batch]) -> list[Reply]:
            async with await Connection.open(address) as connection:
                return [await connection.send(post_request(batch.signed)) for batch in each]

        try:
            before = asyncio.run(send(batches))
            process.send_signal(signal.SIGUSR1)
            assert any(asyncio.run(send(batches[-1:]))[0].status == 200 for _ in range(1000))
            after = asyncio.run(send(batches))
        finally:
            process.terminate()
    statuses = {reply.status for reply in before}
    assert {200, 507} <= statuses <= {200, 503, 507}
    assert {reply.status for reply in after} == {200}
    told = [json.loads(reply.body)["entries"] for reply in after]
    for first, entries in zip(before, told, strict=True):
        assert first.status != 200 or json.loads(first.body)["entries"] == entries
    with Journal.open(path) as journal, Vault.open(path / "vault") as vault:
        judge(journal, vault, {b.key: (b, entries) for b, entries in zip(batches, told, strict=True)})
