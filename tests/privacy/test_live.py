"""Live batches: one encryption under the epoch's key, rows bound as ever."""

import sqlite3
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tellegen.journal import Journal, JournalError, LivePayload, Payload
from tellegen.privacy import Vault, VaultError
from tellegen.privacy.keys import CustomerKeys, derive
from tellegen.records import AllocationKeys, Postings, SealedBatch, Table, leaf_hash, tree_root
from tellegen.verify import check_row_receipt

DAY = 86_400
ABOUT = {"feeder": "feeder", "interval": 10, "intervals": 1, "source": "head-end 1"}


def keys_table(customers: list[int]) -> AllocationKeys:
    number = np.array(customers, dtype=np.int32)
    return AllocationKeys(customer=number, weight_wh=number.astype(np.int64) * 1_000_003)


def live(vault: Vault, table: Table, known_at: int = 3000, name: str = "") -> SealedBatch:
    return vault.seal_live(table, known_at=known_at, name=name, **ABOUT)  # type: ignore[arg-type]


@pytest.fixture
def vault(tmp_path: Path) -> Vault:
    return Vault.create(tmp_path / "vault", [1, 2, 3], seed=b"scenario 1")


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.integers(1, 3), max_size=12))
def test_both_forms_bind_the_same_rows(tmp_path_factory: pytest.TempPathFactory, customers: list[int]) -> None:
    """The form is a matter of storage: leaves, root and salts are one scheme."""
    vault = Vault.create(tmp_path_factory.mktemp("v"), [1, 2, 3])
    table = keys_table(customers)
    batch = live(vault, table)
    stored = vault.seal(table, known_at=3000, **ABOUT)  # type: ignore[arg-type]
    assert vault.unseal(batch.header, batch.payload, check_rows=True).table.equals(table)
    assert batch.header.row_root == stored.header.row_root
    assert vault.leaves(batch.header, batch.payload) == vault.leaves(stored.header, stored.payload)
    for row, (customer, content) in enumerate(zip(customers, table.rows(), strict=True)):
        salt = vault.salt(batch.header, customer, row)
        assert leaf_hash(salt, content.tobytes()) == vault.leaves(batch.header, batch.payload)[row]


def test_a_live_payload_shows_no_row_and_no_row_hash(vault: Vault) -> None:
    table = keys_table([1, 2, 2, 3])
    batch = live(vault, table)
    for row, leaf in zip(table.rows(), vault.leaves(batch.header, batch.payload), strict=True):
        assert row.tobytes() not in batch.payload
        assert leaf not in batch.payload


def test_public_rows_of_a_live_batch_have_no_salt(vault: Vault) -> None:
    n = np.arange(3)
    postings = Postings(unit=n * 0, account=[1, -11, 2], interval=n, line=n, quantity=n, price=n, amount=n, cause=n)
    batch = live(vault, postings)
    assert vault.leaves(batch.header, batch.payload)[1] == leaf_hash(b"", postings.rows()[1].tobytes())
    assert vault.unseal(batch.header, batch.payload, check_rows=True).table.equals(postings)


def test_a_batch_about_nobody_stays_public(vault: Vault) -> None:
    n = np.arange(2)
    accounts = Postings(unit=n * 0, account=[-11, -13], interval=n, line=n, quantity=n, price=n, amount=n, cause=n)
    batch = live(vault, accounts)
    assert not LivePayload.is_live(batch.payload)
    assert len(Payload.from_bytes(batch.payload).public_numbers) == 2


def test_a_nonce_never_serves_two_plaintexts(vault: Vault) -> None:
    one, other = (live(vault, AllocationKeys(customer=[1], weight_wh=[w])) for w in (5, 6))
    again = live(vault, AllocationKeys(customer=[1], weight_wh=[5]))
    assert one == again
    assert LivePayload.from_bytes(one.payload).nonce != LivePayload.from_bytes(other.payload).nonce


def test_an_epoch_is_a_day_and_its_rows_go_with_its_key(vault: Vault) -> None:
    first, later, next_day = (live(vault, keys_table([1]), at) for at in (0, DAY - 1, DAY))
    epochs = [LivePayload.from_bytes(batch.payload).epoch for batch in (first, later, next_day)]
    assert epochs == [1, 1, 2]
    vault.destroy_epoch(1)
    with pytest.raises(VaultError, match="epoch 1 has no key"):
        vault.unseal(first.header, first.payload)
    assert len(vault.unseal(next_day.header, next_day.payload).table) == 1
    assert [(e.day, e.keys is None) for e in vault.epochs] == [(0, True), (1, False)]
    afresh = live(vault, keys_table([1]), 5)
    assert LivePayload.from_bytes(afresh.payload).epoch == 3, "a destroyed key is never made again"


def test_a_destroyed_epoch_key_is_in_no_file(tmp_path: Path) -> None:
    with Vault.create(tmp_path, [1]) as vault:
        live(vault, keys_table([1]))
        ((_, _, _, secret),) = vault._store.epochs()
        assert secret is not None
        assert any(secret in p.read_bytes() for p in tmp_path.iterdir())
        vault.destroy_epoch(1)
        assert not any(secret in p.read_bytes() for p in tmp_path.iterdir())


def test_two_processes_share_a_vault(tmp_path: Path) -> None:
    """The intake seals, the market reads; what one adds or destroys the other sees."""
    with Vault.create(tmp_path, [1]) as intake, Vault.open(tmp_path) as market:
        intake.enrol([2])
        batch = live(intake, keys_table([1, 2]))
        assert len(market.unseal(batch.header, batch.payload, check_rows=True).table) == 2
        own = live(market, keys_table([2]), name="own")
        assert intake.unseal(own.header, own.payload, check_rows=True).present.all()
        assert intake.purpose_key("meters") == market.purpose_key("meters")
        intake.destroy_epoch(1)
        with pytest.raises(VaultError, match="epoch 1 has no key"):
            market.unseal(batch.header, batch.payload)
        intake.erase(2)
        with pytest.raises(VaultError, match="customer 2 has no key"):
            live(market, keys_table([2]))


def test_two_processes_cannot_give_one_customer_two_keys(tmp_path: Path) -> None:
    with Vault.create(tmp_path, [1]) as one, Vault.open(tmp_path) as other:
        one.enrol([2])
        with pytest.raises(VaultError, match="another process has just enrolled"):
            other.enrol([2])


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 40), unique=True), st.integers(0, 40))
def test_keys_may_be_added_in_any_portions(numbers: list[int], split: int) -> None:
    """Whatever came first: every customer keeps the key of its own secret."""
    secrets = {number: bytes([number]) * 32 for number in numbers}
    keys = CustomerKeys((n, secrets[n]) for n in sorted(numbers[:split]))
    keys.add((n, secrets[n]) for n in sorted(numbers[split:]))
    keys.remove(numbers[:2])
    assert keys.numbers.tolist() == sorted(numbers[2:])
    assert all(keys.secret(number) == secrets[number] for number in numbers[2:])
    assert keys.batch_keys(keys.numbers) == [derive(secrets[n], "batch") for n in sorted(numbers[2:])]


def test_a_vault_is_opened_and_read_while_another_process_writes(tmp_path: Path) -> None:
    with Vault.create(tmp_path, [1]) as vault:
        batch = live(vault, keys_table([1]))
    writer = sqlite3.connect(tmp_path / "keys.sqlite", isolation_level=None)
    writer.execute("BEGIN IMMEDIATE")
    with Vault.open(tmp_path) as reader:
        assert len(reader.unseal(batch.header, batch.payload).table) == 1
    writer.execute("ROLLBACK")
    writer.close()


def test_a_row_of_a_live_batch_is_proved(tmp_path: Path, vault: Vault) -> None:
    table = keys_table([1, 2, 3])
    with Journal.create(tmp_path, "shard", bytes(32)) as journal:
        index = journal.append(live(vault, table))
        journal.commit(3000)
        header = journal.entries()[index]
        receipt = journal.row_receipt(index, 1, vault.leaves(header, journal.payload(index)))
        row, salt = table.rows()[1].tobytes(), vault.salt(header, 2, 1)
        assert check_row_receipt(receipt, row, salt, journal.verifier.vkey).row == 1
        with pytest.raises(JournalError, match="come from the vault"):
            journal.row_receipt(index, 1)
        with pytest.raises(JournalError, match="do not rebuild"):
            journal.row_receipt(index, 1, [bytes(32)] * 3)


def test_a_live_payload_of_another_batch_fails(vault: Vault) -> None:
    from dataclasses import replace

    one, other = (live(vault, keys_table([1]), name=name) for name in ("one", "other"))
    forged = replace(other.header, payload_sha256=one.header.payload_sha256)
    with pytest.raises(VaultError, match="fails under the key of epoch 1"):
        vault.unseal(forged, one.payload)


def test_evidence_of_a_sender_goes_into_the_header(vault: Vault) -> None:
    batch = vault.seal_live(keys_table([1]), known_at=1, evidence="digest signature", **ABOUT)  # type: ignore[arg-type]
    assert batch.header.evidence == "digest signature"
    assert tree_root(vault.leaves(batch.header, batch.payload)).hex() == batch.header.row_root
