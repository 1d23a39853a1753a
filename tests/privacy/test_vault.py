"""The vault: confidential rows, and what is left of them when a key is destroyed."""

import os
import stat
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tellegen.journal import Payload
from tellegen.privacy import Vault, VaultError
from tellegen.privacy.sealing import batch_identity
from tellegen.records import (
    OPERATOR,
    AllocationKeys,
    Customers,
    Document,
    Header,
    Postings,
    Prices,
    SealedBatch,
    Table,
    leaf_hash,
    tree_root,
)

ABOUT = {"feeder": "feeder", "interval": 10, "intervals": 1, "source": "operator", "known_at": 3000}


def keys_table(customers: list[int]) -> AllocationKeys:
    number = np.array(customers, dtype=np.int32)
    return AllocationKeys(customer=number, weight_wh=number.astype(np.int64) * 1_000_003)


def sealed(vault: Vault, table: Table, name: str = "") -> SealedBatch:
    return vault.seal(table, name=name, **ABOUT)  # type: ignore[arg-type]


@pytest.fixture
def vault(tmp_path: Path) -> Vault:
    return Vault.create(tmp_path / "vault", [1, 2, 3], seed=b"scenario 1")


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.integers(0, 3), max_size=12), st.sets(st.sampled_from([1, 2, 3])))
def test_what_is_sealed_comes_back_but_for_the_erased(
    tmp_path_factory: pytest.TempPathFactory, customers: list[int], erased: set[int]
) -> None:
    """law 6: erasure destroys keys; the rows of others, and every proof, stay."""
    vault = Vault.create(tmp_path_factory.mktemp("v"), [1, 2, 3], seed=b"s")
    table = keys_table(customers)
    batch = sealed(vault, table)
    for customer in sorted(erased):
        vault.erase(customer)
    seen = vault.unseal(batch.header, batch.payload, check_rows=True)
    present = ~np.isin(table.customer, sorted(erased))
    assert seen.present.tolist() == present.tolist()
    assert seen.table.equals(table.take(present))
    assert tree_root(Payload.from_bytes(batch.payload).hash_list()).hex() == batch.header.row_root


def test_sealing_is_reproducible_from_the_seed_and_only_from_it(tmp_path: Path) -> None:
    table = keys_table([1, 2])
    one, same, other = (
        sealed(Vault.create(tmp_path / name, [1, 2], seed), table)
        for name, seed in (("a", b"seed"), ("b", b"seed"), ("c", b"other"))
    )
    fresh = sealed(Vault.create(tmp_path / "d", [1, 2]), table)
    assert one == same
    assert len({batch.header.row_root for batch in (one, other, fresh)}) == 3


def test_no_row_and_no_number_can_be_seen_without_a_key(vault: Vault) -> None:
    table = keys_table([1, 2, 2, 3])
    batch = sealed(vault, table)
    for row in table.rows():
        assert row.tobytes() not in batch.payload
        assert leaf_hash(b"", row.tobytes()) not in batch.payload, "an unsalted hash could be guessed"


def test_no_two_batches_show_the_same_pseudonym_or_nonce(vault: Vault) -> None:
    batches = [sealed(vault, keys_table([1, 2, 3]), name=f"{k}") for k in range(20)]
    segments = [s for batch in batches for s in Payload.from_bytes(batch.payload).segments]
    assert len({s.pseudonym for s in segments}) == len({s.nonce for s in segments}) == 60


def test_a_nonce_never_serves_two_plaintexts(vault: Vault) -> None:
    """The same batch identity with other contents must not repeat a nonce under a key."""
    one, other = (sealed(vault, AllocationKeys(customer=[1], weight_wh=[w])) for w in (5, 6))
    assert batch_identity(one.header) == batch_identity(other.header)
    nonces = [Payload.from_bytes(batch.payload).segments[0].nonce for batch in (one, other)]
    assert nonces[0] != nonces[1]


def test_equal_rows_have_unequal_leaves(vault: Vault) -> None:
    leaves = Payload.from_bytes(sealed(vault, keys_table([1, 1])).payload).hash_list()
    assert leaves[0] != leaves[1]


def test_public_rows_lie_open_and_survive_every_erasure(vault: Vault) -> None:
    n = np.arange(4)
    nothing = dict.fromkeys(("congestion", "voltage", "reserve_up", "reserve_down"), n * 0)
    prices = Prices(node=n, energy=n * 10, root=n * 9, losses=n, low=n, high=n, reactive=n, **nothing)
    batch = sealed(vault, prices)
    for customer in (1, 2, 3):
        vault.erase(customer)
    assert vault.unseal(batch.header, batch.payload, check_rows=True).table.equals(prices)
    assert prices.rows()[3].tobytes() in batch.payload


def test_postings_of_customers_are_theirs_and_those_of_accounts_are_public(vault: Vault) -> None:
    postings = Postings(
        unit=[0, 0, 0, 0],
        account=[1, -11, 2, -13],
        interval=[5, 5, 5, 5],
        line=[1, 1, 5, 5],
        quantity=[1, -1, 2, -2],
        price=[7, 7, 8, 8],
        amount=[7, -7, 16, -16],
        cause=[0, 0, 0, 0],
    )
    batch = sealed(vault, postings)
    assert Payload.from_bytes(batch.payload).public_numbers.tolist() == [1, 3]
    vault.erase(1)
    assert vault.unseal(batch.header, batch.payload).table.equals(postings.take([1, 2, 3]))


def test_an_owner_can_check_one_row_with_one_salt(vault: Vault) -> None:
    table = keys_table([3, 1, 3])
    batch = sealed(vault, table)
    leaves = Payload.from_bytes(batch.payload).hash_list()
    assert leaf_hash(vault.salt(batch.header, 3, 2), table.rows()[2].tobytes()) == leaves[2]
    assert leaf_hash(vault.salt(batch.header, 3, 0), table.rows()[2].tobytes()) != leaves[2]


@pytest.mark.parametrize("private", [False, True])
@pytest.mark.parametrize("content", [b"", b"the rulebook"])
def test_a_document_is_one_row(vault: Vault, private: bool, content: bytes) -> None:
    document = Document("rulebook", content, private)
    batch = vault.seal_document(document, **ABOUT)  # type: ignore[arg-type]
    assert vault.unseal_document(batch.header, batch.payload, check_rows=True) == document
    assert (content in batch.payload) == (not private or not content)


def test_a_changed_payload_is_refused(vault: Vault) -> None:
    batch = sealed(vault, keys_table([1]))
    damaged = batch.payload[:-1] + bytes([batch.payload[-1] ^ 1])
    with pytest.raises(VaultError, match="not the one its header names"):
        vault.unseal(batch.header, damaged)


def test_a_segment_moved_to_another_batch_fails_under_its_key(vault: Vault) -> None:
    """A segment is bound to its batch: an old reading cannot be replayed as a new one."""
    import hashlib
    from dataclasses import replace

    old = sealed(vault, keys_table([1]), name="old")
    new = sealed(vault, keys_table([1]), name="new")
    parts, target = Payload.from_bytes(old.payload), Payload.from_bytes(new.payload)
    moved = replace(parts.segments[0], pseudonym=target.segments[0].pseudonym)
    forged = replace(target, segments=(moved,)).to_bytes()
    header = replace(new.header, payload_sha256=hashlib.sha256(forged).hexdigest())
    with pytest.raises(VaultError, match="fails under its key"):
        vault.unseal(header, forged)


def files_of(path: Path) -> bytes:
    return b"".join(p.read_bytes() for p in sorted(path.rglob("*")) if p.is_file())


def test_an_erased_secret_is_in_no_file_of_the_vault(tmp_path: Path) -> None:
    """law 6: erasure destroys keys. The operator's and the neighbours' are still there."""
    path = tmp_path / "vault"
    with Vault.create(path, range(1, 200)) as vault:
        secrets = dict(vault._store.secrets())
        assert all(secret in files_of(path) for secret in secrets.values())
        vault.erase(7)
        vault.erase(150)
        assert secrets[7] not in files_of(path)
        assert secrets[150] not in files_of(path)
    bytes_left = files_of(path)
    assert {n for n, s in secrets.items() if s in bytes_left} == set(range(200)) - {7, 150}
    with Vault.open(path) as again:
        assert again.erased == [7, 150]
        assert 7 not in again.customers
        with pytest.raises(VaultError, match="customer 7 cannot be enrolled: erased"):
            again.enrol([7])


def test_a_crash_after_deleting_leaves_no_secret_once_the_vault_is_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "vault"
    vault = Vault.create(path, [1, 2])
    secret = dict(vault._store.secrets())[1]

    def crash() -> None:
        raise RuntimeError("power failure")

    monkeypatch.setattr(vault._store, "_scrub", crash)
    with pytest.raises(RuntimeError):
        vault.erase(1)
    vault._store.close()
    monkeypatch.undo()
    Vault.open(path).close()
    assert secret not in files_of(path)


def test_only_the_owner_may_read_the_vault(tmp_path: Path) -> None:
    Vault.create(tmp_path / "vault", [1]).close()
    for path in [tmp_path / "vault", *(tmp_path / "vault").iterdir()]:
        assert not stat.S_IMODE(os.stat(path).st_mode) & 0o077, path


def test_an_unknown_customer_cannot_be_sealed_for(vault: Vault) -> None:
    with pytest.raises(VaultError, match="customer 9 has no key"):
        sealed(vault, keys_table([9]))
    vault.enrol([9])
    assert len(vault.unseal(*_parts(sealed(vault, keys_table([9])))).table) == 1


def _parts(batch: SealedBatch) -> tuple[Header, bytes]:
    return batch.header, batch.payload


def test_the_operators_key_cannot_be_erased(vault: Vault) -> None:
    with pytest.raises(VaultError, match="customer 0"):
        vault.erase(OPERATOR)


def test_purpose_keys_last(tmp_path: Path) -> None:
    with Vault.create(tmp_path, [1]) as vault:
        key = vault.purpose_key("operator signature")
        assert vault.purpose_key("meters") != key
    with Vault.open(tmp_path) as vault:
        assert vault.purpose_key("operator signature") == key


def test_a_vault_is_never_overwritten_nor_invented(tmp_path: Path) -> None:
    with pytest.raises(VaultError, match="does not exist"):
        Vault.open(tmp_path / "none")
    Vault.create(tmp_path / "v", [1]).close()
    with pytest.raises(VaultError, match="never overwritten"):
        Vault.create(tmp_path / "v", [1])
    (tmp_path / "junk").mkdir()
    (tmp_path / "junk" / "keys.sqlite").write_bytes(b"x" * 5000)
    with pytest.raises(VaultError, match="not a key store"):
        Vault.open(tmp_path / "junk")


def test_byte_columns_survive(vault: Vault) -> None:
    table = Customers(
        customer=[2, 1],
        node=[4, 5],
        meter=[6, 7],
        fuse_w=[1, 2],
        public_key=np.frombuffer(os.urandom(64), dtype="V32"),
    )
    assert vault.unseal(*_parts(sealed(vault, table))).table.equals(table)
