"""Commands of a shard's keys: where each lies, a key from outside, an authority on a stick, a meter's own key."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tellegen.metering import DeviceCodes
from tellegen.privacy import Vault
from tellegen.records import Readings
from tellegen.registry.meter_keys import generation_key, meter_key

Tellegen = Callable[..., Any]
HEAD = "customer,device,asset,feeder,node,phases,from_interval,capacity_w,import_limit_w,export_limit_w"


@pytest.fixture
def shard(tellegen: Tellegen, tmp_path: Path) -> Path:
    made = tellegen("registry", "init", tmp_path / "north", "--origin", "city.example/north")
    assert (made.status, "not wrapped: whoever reads" in made.out) == (0, True)
    return tmp_path / "north"


def test_an_authority_goes_on_a_stick_and_comes_back_when_it_is_needed(
    tellegen: Tellegen, shard: Path, tmp_path: Path
) -> None:
    """The ceremony of docs/keys.md."""
    stick, wrapping = tmp_path / "stick", tmp_path / "vault-key"
    (shard / "vault" / "authority").rename(stick)
    assert tellegen("vault", "key", wrapping).status == 0
    assert tellegen("vault", "key", wrapping).status == 2
    wrapped = tellegen("vault", "wrap", shard, "--key", f"file:{wrapping}")
    assert wrapped.status == 0, wrapped.err
    assert str(wrapping) not in wrapped.out
    told = json.loads(tellegen("vault", "status", shard, "--json").out)
    assert {each["name"]: each["wrapped_by"] for each in told} == {
        "keys": "file",
        "log": "file",
        "registrar": "file",
        "market": "kept elsewhere",
        "meters": "kept elsewhere",
        "root": "kept elsewhere",
        "issuing": "kept elsewhere",
    }
    who = ("--role", "head-end", "--name", "NORTH")
    tellegen("registry", "request", tmp_path / "one")
    locked = tellegen("registry", "enrol", shard, tmp_path / "one.csr", *who)
    assert (locked.status, "TELLEGEN_VAULT_KEY" in locked.err, locked.err.count("\n")) == (2, True, 1)
    os.environ["TELLEGEN_VAULT_KEY"] = f"file:{wrapping}"
    try:
        away = tellegen("registry", "enrol", shard, tmp_path / "one.csr", *who)
        assert (away.status, "is kept elsewhere" in away.err) == (2, True)
        assert tellegen("registry", "enrol", shard, tmp_path / "one.csr", *who, "--authority", stick).status == 0
        (tmp_path / "new.csv").write_text(f"{HEAD}\n7,load,77,F1,3,0,0,9000,9000,4000\n")
        assert tellegen("registry", "import", shard, tmp_path / "new.csv").status == 0
        assert tellegen("registry", "renew", shard, "--role", "registrar", "--authority", stick).status == 0
        assert tellegen("registry", "renew", shard, "--role", "issuing", "--authority", stick).status == 0
        assert tellegen("registry", "renew", shard, "--role", "king").status == 2
    finally:
        del os.environ["TELLEGEN_VAULT_KEY"]
    checks = json.loads(tellegen("verify", shard, "--json").out)["checks"]
    assert all(check["ok"] for check in checks if check["name"] in ("registry", "senders"))


@pytest.mark.skipif(os.name != "posix", reason="modes of files")
def test_a_meter_is_given_its_key_and_another_one(tellegen: Tellegen, shard: Path, tmp_path: Path) -> None:
    out = tmp_path / "meter.key"
    before = os.umask(0)
    try:
        assert tellegen("registry", "meter-key", shard, "--meter", 77, "--out", out).status == 0
    finally:
        os.umask(before)
    assert out.stat().st_mode & 0o777 == 0o600
    assert tellegen("registry", "meter-key", shard, "--meter", 77, "--out", out).status == 2
    with Vault.open(shard / "vault") as vault:
        master = vault.role_key("meter master")
    said = json.loads(out.read_text())
    assert (said["meter"], said["generation"]) == (77, 0)
    assert bytes.fromhex(said["key"]) == meter_key(generation_key(master, 0), 77, 0)
    assert tellegen("registry", "renew", shard, "--role", "meters").status == 0
    (tmp_path / "all.csv").write_text("meter,from_counter\n77,10\n78,20\n")
    rotated = tellegen("registry", "rotate-codes", shard, tmp_path / "all.csv", "--json")
    assert json.loads(rotated.out)["meters"] == 2
    for words in ("meter\n77\n", "meter,from_counter\n77,-1\n", "meter,from_counter\n77,x\n"):
        (tmp_path / "bad.csv").write_text(words)
        assert tellegen("registry", "rotate-codes", shard, tmp_path / "bad.csv").status == 2
    assert tellegen("registry", "meter-key", shard, "--meter", 77, "--out", tmp_path / "new.key").status == 0
    new = json.loads((tmp_path / "new.key").read_text())
    with Vault.open(shard / "vault") as vault:
        renewed = vault.role_key("meter master")
    assert renewed != master
    assert (new["generation"], bytes.fromhex(new["key"])) == (1, meter_key(generation_key(renewed, 1), 77, 1))
    row = Readings(*(np.array([k]) for k in (7, 77, 1, 0, 0, 0, 0)), tag=np.zeros(1, "V16"))
    assert DeviceCodes(master, [77]).check(DeviceCodes(master, [77]).tag(row, 5), 5).all()


def test_keys_are_put_back_in_clear_and_one_alone_is_wrapped(tellegen: Tellegen, shard: Path, tmp_path: Path) -> None:
    key = tmp_path / "vault-key"
    tellegen("vault", "key", key)
    assert tellegen("vault", "wrap", shard, "--key", f"file:{key}", "--only", "log").status == 0
    named = {each["name"]: each["wrapped_by"] for each in json.loads(tellegen("vault", "status", shard, "--json").out)}
    assert (named["log"], named["keys"]) == ("file", "not wrapped")
    assert tellegen("vault", "wrap", shard, "--key", "file:none").status == 2
    assert tellegen("vault", "wrap", shard, "--key", f"file:{key}", "--only", "king").status == 2
    os.environ["TELLEGEN_VAULT_KEY_LOG"] = f"file:{key}"
    try:
        assert tellegen("vault", "unwrap", shard).status == 0
    finally:
        del os.environ["TELLEGEN_VAULT_KEY_LOG"]
    assert tellegen("registry", "list", shard).status == 0
    assert tellegen("vault", "status", tmp_path).status == 2
