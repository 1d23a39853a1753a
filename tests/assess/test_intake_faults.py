"""Whatever goes wrong with the intake, good rows count once, refusals stand, and no receipt is contradicted."""

from __future__ import annotations

from pathlib import Path

import pytest

from tellegen.assess.faults.intake_world import IntakeTally, shard_for_worlds, simulate_intake
from tellegen.assess.faults.promises import ContradictionError
from tellegen.operations.intake import Intake
from tellegen.operations.submission_record import SubmissionRecord
from tellegen.operations.synthetic_shard import ShardKeys


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> ShardKeys:
    return shard_for_worlds(tmp_path_factory.mktemp("worlds") / "s")


def played(keys: ShardKeys, worlds: int) -> IntakeTally:
    tally = IntakeTally()
    for seed in range(worlds):
        tally.add(simulate_intake(keys, seed))
    return tally


def test_no_promise_is_broken_in_forty_worlds(keys: ShardKeys) -> None:
    """Crashes, torn writes, full disks, clocks set wrong, batches lost, repeated, reordered, altered and replayed."""
    tally = played(keys, 40)
    assert min(getattr(tally, name) for name in IntakeTally.__dataclass_fields__) > 10, tally


@pytest.mark.slow
def test_no_promise_is_broken_in_a_thousand_worlds(keys: ShardKeys) -> None:
    played(keys, 1000)


def test_a_replay_window_that_forgets_is_found(keys: ShardKeys, monkeypatch: pytest.MonkeyPatch) -> None:
    """A referee that cannot fail referees nothing."""
    monkeypatch.setattr(SubmissionRecord, "counted_readings", lambda *_: iter(()))
    with pytest.raises(ContradictionError, match=r"seed \d+: .*refused"):
        played(keys, 40)


def test_refusals_that_are_not_recorded_are_found(keys: ShardKeys, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Intake, "_refuse_rows", lambda intake, refusal, statement, batch, now: batch)
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

    server_rounds(tmp_path / "s", 1000)
