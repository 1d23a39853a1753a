"""Receipts of both journals of a shard, of rows that only the vault can open too."""

from pathlib import Path

import pytest

from tellegen.errors import InputError
from tellegen.operations.proofs import open_log, prove
from tellegen.operations.record import ShardRecord
from tellegen.records import Postings, Prices, Submissions
from tellegen.verify import check_receipt, check_row_receipt


@pytest.mark.parametrize(("kind", "market"), [(Submissions, False), (Postings, True), (Prices, True)])
def test_a_row_of_either_journal_is_proved_to_an_outsider(
    shard_directory: Path, kind: type[Submissions | Postings | Prices], market: bool
) -> None:
    """Live rows too: a customer shows what it bid and what it owes, and nothing of anybody else."""
    with open_log(shard_directory, market=market) as journal:
        key = journal.verifier.vkey
        entry = next(iter(journal.find(kind=kind.kind)))
    proof = prove(shard_directory, entry, 3, market=market)
    assert proof.key == key
    row, salt = bytes.fromhex(proof.row_hex), bytes.fromhex(proof.salt_hex)
    assert check_row_receipt(proof.receipt, row, salt, key).row == 3
    assert bool(salt) == (kind is not Prices)
    with ShardRecord.open(shard_directory) as record:
        table = record.table(entry, kind) if market else record.submitted.table(entry)
    assert row == table.rows()[3].tobytes()


def test_an_entry_of_the_market_s_journal_is_proved(shard_directory: Path) -> None:
    proof = prove(shard_directory, 5, market=True)
    assert check_receipt(proof.receipt, proof.entry.encode(), proof.key).index == 5
    assert "city.example/shard0/market+" in proof.key


def test_where_there_is_no_market_there_is_no_receipt_of_it(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no market's journal"):
        prove(tmp_path, 0, market=True)
