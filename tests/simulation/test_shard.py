"""A synthetic shard has on record who may speak and who hangs where."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from nacl.signing import SigningKey, VerifyKey

from tellegen.errors import InputError
from tellegen.journal import Journal
from tellegen.privacy import Vault
from tellegen.privacy.recorder import Recorder
from tellegen.records import Admissions, Connections, Role
from tellegen.simulation.shard import GATEWAY, HEAD_END, ShardKeys, build_shard

FEEDERS = {"F1": np.arange(1, 6), "F2": np.arange(6, 9)}


def test_everybody_is_admitted_with_the_key_that_they_hold(tmp_path: Path) -> None:
    keys = build_shard(tmp_path / "shard", FEEDERS, b"seed", first_interval=100)
    with Vault.open(keys.path / "vault") as vault, Journal.open(keys.path) as journal:
        recorder = Recorder(journal, vault, "")
        admitted = Admissions.concat([table for _, _, table in recorder.read(Admissions)])
        connected = Connections.concat([table for _, _, table in recorder.read(Connections)])
    customers = admitted.take(admitted.role == Role.PARTICIPANT)
    assert customers.number.tolist() == list(range(1, 9))
    assert customers.public_key[4].tobytes() == bytes(SigningKey(keys.customer_seed(5)).verify_key)
    senders = {name: key.tobytes() for name, key in zip(admitted.name.tolist(), admitted.public_key, strict=True)}
    for sender in (HEAD_END, GATEWAY):
        VerifyKey(senders[sender.encode()]).verify(b"text", keys.sign_as(sender, b"text"))
    assert connected.feeder.tolist() == [b"F1"] * 5 + [b"F2"] * 3
    assert connected.asset.tolist() == ShardKeys.meters_of(np.arange(1, 9)).tolist()
    assert set(connected.from_interval.tolist()) == {100}


def test_a_shard_is_never_overwritten(tmp_path: Path) -> None:
    build_shard(tmp_path, FEEDERS, b"seed")
    with pytest.raises(InputError, match="never overwritten"):
        build_shard(tmp_path, FEEDERS, b"seed")
