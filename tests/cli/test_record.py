"""``tellegen verify``, ``replay``, ``receipt`` and ``journal prove`` over a shard."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

Command = Callable[..., Any]


def test_a_healthy_shard_verifies_and_replays(shard_directory: Path, tellegen: Command) -> None:
    """Exit 0, in words and as one document; both journals are looked into."""
    answer = tellegen("verify", shard_directory)
    assert (answer.status, answer.err) == (0, "")
    assert "market: log" in answer.out
    assert answer.out.endswith("the record verifies\n")
    told = json.loads(tellegen("verify", shard_directory, "--json").out)
    assert told["ok"] is True
    assert {"gates", "settlements", "closes", "market: inclusion proofs"} <= {check["name"] for check in told["checks"]}
    answer = tellegen("replay", shard_directory, "--workers", 1, "--json")
    told = json.loads(answer.out)
    assert (answer.status, set(told)) == (0, {"ok", "checks"})
    assert all(set(check) == {"name", "ok", "count", "detail"} for check in told["checks"])


def test_a_shard_that_a_byte_was_changed_of_does_not(shard_copy: Path, tellegen: Command) -> None:
    file = shard_copy / "market" / "journal" / "checkpoints"
    file.write_text(file.read_text().replace("city.example", "city.exampla", 1))
    answer = tellegen("verify", shard_copy)
    assert answer.status == 1
    assert answer.out.endswith("NO: the record does not verify\n")


def test_receipts_come_from_either_journal(shard_directory: Path, tellegen: Command, tmp_path: Path) -> None:
    receipts = [
        tellegen("receipt", shard_directory, "--entry", 4, "--row", 0, *which, "--json").out
        for which in ((), ("--journal", "market"))
    ]
    keys = [json.loads(text)["key"].partition("+")[0] for text in receipts]
    assert keys == ["simulated/city.example/shard0", "simulated/city.example/shard0/market"]
    for number, text in enumerate(receipts):
        (tmp_path / f"{number}.json").write_text(text)
        assert tellegen("journal", "verify-receipt", tmp_path / f"{number}.json").status == 0
    proof = json.loads(tellegen("journal", "prove", shard_directory, "--entry", 4, "--journal", "market", "--json").out)
    assert "city.example/shard0/market+" in proof["key"]


def test_what_is_no_shard_cannot_be_replayed(tmp_path: Path, tellegen: Command) -> None:
    answer = tellegen("replay", tmp_path)
    assert (answer.status, answer.out) == (2, "")
    assert answer.err.startswith(f"tellegen: {tmp_path}")
    assert answer.err.count("\n") == 1
