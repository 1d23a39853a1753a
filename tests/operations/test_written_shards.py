"""Shards that earlier versions wrote are opened, verified and replayed by this one.

`written/YYYY-MM.tar.xz` are a hamlet's two days as the operator of that month put them on record (a simulation, made
from a seed). Whoever changes a format adds another shard here, and what takes the older ones over to it.
"""

from __future__ import annotations

import tarfile
from pathlib import Path

import pytest

from tellegen.assess.faults.folded import differing, folded_from_zero, parts_of
from tellegen.custody.roles import ROLES
from tellegen.operations.market import Market
from tellegen.operations.record import ShardRecord
from tellegen.operations.rerun import rerun
from tellegen.records import Statements
from tellegen.verify import verify_directory

WRITTEN = Path(__file__).parent / "written"
BILLS_CENTS = {"2026-11": {1: 1070, 2: 342, 3: 114, 4: 518, 5: 35, 6: 777, 7: 739, 8: 687, 9: -332}}
"""What each customer was billed for both days, by the shard's name."""


@pytest.fixture(params=sorted(BILLS_CENTS))
def written(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, Path]:
    """The name of a shard, and a copy of it."""
    with tarfile.open(WRITTEN / f"{request.param}.tar.xz") as file:
        file.extractall(tmp_path, filter="data")
    return request.param, tmp_path / "shard"


def test_every_written_shard_is_tried() -> None:
    assert {path.name.removesuffix(".tar.xz") for path in WRITTEN.iterdir()} == set(BILLS_CENTS)


def test_an_older_shard_verifies_and_bills_what_it_billed(written: tuple[str, Path]) -> None:
    name, path = written
    assert [check for check in verify_directory(path).checks if not check.ok] == []
    cents: dict[int, int] = {}
    with ShardRecord.open(path) as record:
        for entry in record.journal.find(kind=Statements.kind):
            rows = record.table(entry, Statements)
            for customer, owed in zip(rows.customer.tolist(), rows.cents.sum(axis=1).tolist(), strict=True):
                cents[customer] = cents.get(customer, 0) + owed
    assert cents == BILLS_CENTS[name]


def test_an_older_shard_replays_and_goes_on(written: tuple[str, Path]) -> None:
    """Its newest snapshot is what its records say, and its market opens from it."""
    _, path = written
    assert [check for check in rerun(path) if not check.ok] == []
    with Market.open(path) as market:
        assert differing(parts_of(market.state), parts_of(folded_from_zero(market.record))) == []
        assert market.ledger.trial_balance() == 0
        assert not ROLES.keys() & market.record.vault._store.purposes().keys(), (
            "keys of roles lie in files of their own"
        )
        assert (path / "vault" / "market.key").stat().st_mode & 0o777 == 0o600
        assert market.snapshot(market.record.journal.known_at(len(market.record.journal) - 1), afresh=True)
