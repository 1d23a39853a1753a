"""Compaction and erasure of a shard: nothing lost, every proof kept, at any point of a crash."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tellegen.errors import InputError
from tellegen.journal import Journal, JournalError, LivePayload
from tellegen.operations.compaction import compact, compactions_on_record
from tellegen.operations.erasure import erase_from_shard
from tellegen.privacy import Archive, Vault, VaultError
from tellegen.privacy.blocks import block_dtype, pack_block, unpack_block
from tellegen.records import TABLES, AllocationKeys, Erasures, Postings, Readings, Submissions, Table
from tellegen.verify import check_row_receipt, verify_directory

DAY = 86_400
FIRST_DAY = 20_000
CUSTOMERS = [1, 2, 3]


def readings(interval: int, customers: list[int]) -> Readings:
    number = np.array(customers, dtype=np.int32)
    return Readings(
        customer=number,
        meter=number + 1000,
        counter=np.full(number.size, interval + 7),
        import_wh=number * 1000 + interval * 11 + interval % 3,
        export_wh=number * 0,
        reactive_varh=number - interval,
        voltage_mv=230_000 + 100 * (interval % 5) * number,
        tag=np.frombuffer(np.random.default_rng(interval).bytes(16 * number.size), dtype="V16"),
    )


def postings(interval: int) -> Postings:
    n = np.array([5, -5, 9, -9])
    return Postings(
        unit=n * 0, account=[1, -11, 2, -11], interval=n * 0 + interval, line=[1, 21, 1, 21], quantity=n, price=n,
        amount=n * n * n, cause=n * 0,
    )  # fmt: skip


class Shard:
    """A small shard: three customers, two feeders, intake's journal and market's."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.tables: dict[tuple[str, int], Table] = {}

    def copy(self, path: Path) -> Shard:
        """The same shard somewhere else."""
        shutil.copytree(self.path, path)
        twin = Shard(path)
        twin.tables = dict(self.tables)
        return twin

    def fill(self) -> None:
        """Two days of records."""
        path = self.path
        with Vault.create(path / "vault", CUSTOMERS, b"shard") as vault:
            for folder, purpose in ((".", "intake"), ("market", "market")):
                with Journal.create(path / folder, f"shard.{purpose}", vault.purpose_key(purpose)) as journal:
                    for interval in range(3):
                        for table, feeder in self._of(folder, interval):
                            at = FIRST_DAY * DAY + interval * (DAY // 2)
                            seal = vault.seal if isinstance(table, AllocationKeys) else vault.seal_live
                            batch = seal(table, feeder=feeder, interval=interval, intervals=1, source="s", known_at=at)
                            self.tables[folder, journal.append(batch)] = table
                        journal.commit(at)

    @staticmethod
    def _of(folder: str, interval: int) -> list[tuple[Table, str]]:
        if folder == "market":
            return [(postings(interval), "F1")]
        signatures = Submissions(
            customer=[1, 3], order_rows=[1, 2], sequence=[0, 4], signature=np.frombuffer(os.urandom(128), dtype="V64")
        )
        return [
            (readings(interval, [3, 1, 3]), "F1"),
            (readings(interval, [2]), "F/2"),
            (signatures, "F1"),
            (AllocationKeys(customer=[1, 2], weight_wh=[interval, 2]), "F1"),
        ]

    def vault(self) -> Vault:
        return Vault.open(self.path / "vault", b"shard")

    def proofs(self, vault: Vault) -> dict[tuple[str, int, int], tuple[str, bytes, bytes, str]]:
        """A receipt of every row that can be proved with its contents, by journal, entry and row."""
        found = {}
        for folder in (".", "market"):
            archive = Archive(self.path / folder, vault)
            with Journal.open(self.path / folder) as journal:
                for index, header in enumerate(journal.entries()):
                    if (folder, index) not in self.tables:
                        continue
                    leaves = archive.leaves_of(journal, index)
                    seen = archive.unseal(journal, index)
                    contents = iter(zip(seen.table.rows(), seen.table.subjects().tolist(), strict=True))
                    for row in np.flatnonzero(seen.present).tolist():
                        content, whom = next(contents)
                        salt = vault.salt(header, whom, row) if whom >= 0 else b""
                        receipt = journal.row_receipt(index, row, leaves)
                        found[folder, index, row] = (receipt, content.tobytes(), salt, journal.verifier.vkey)
        return found

    def check(self, vault: Vault, without: int | None = None) -> None:
        """Every row is there and proved but those of an erased customer."""
        proofs = self.proofs(vault)
        for (folder, index), table in self.tables.items():
            for row, (content, whom) in enumerate(zip(table.rows(), table.subjects().tolist(), strict=True)):
                if whom == without:
                    assert (folder, index, row) not in proofs
                    continue
                receipt, stored, salt, key = proofs[folder, index, row]
                assert stored == content.tobytes()
                assert check_row_receipt(receipt, stored, salt, key).row == row


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Shard:
    shard = Shard(tmp_path_factory.mktemp("model") / "shard")
    shard.fill()
    return shard


@pytest.fixture
def shard(model: Shard, tmp_path: Path) -> Shard:
    return model.copy(tmp_path / "shard")


NOW = (FIRST_DAY + 2) * DAY + 5


def test_a_closed_day_goes_to_the_archive_and_every_proof_stays(shard: Shard) -> None:
    with shard.vault() as vault:
        before = shard.proofs(vault)
        done = compact(shard.path, vault, known_at=NOW, until_day=FIRST_DAY)
        assert (done.epochs, done.files, done.entries) == (1, 4, 4 * 2)
        shard.check(vault)
        for receipt, row, salt, key in before.values():
            check_row_receipt(receipt, row, salt, key)
        assert [epoch.keys is None for epoch in vault.epochs] == [True, False]
        again = compact(shard.path, vault, known_at=NOW + 1, until_day=FIRST_DAY)
        assert (again.epochs, again.files) == (0, 0)
        with Journal.open(shard.path) as journal:
            assert len(compactions_on_record(journal, vault)) == 3
            with pytest.raises(
                JournalError, match="entry 0 is compacted: its rows are in archive/readings/F1/2024-10-04"
            ):
                journal.payload(0)
            live = [i for i in range(len(journal)) if journal.archive_file(i) is None]
            assert any(LivePayload.is_live(journal.payload(i)) for i in live), "the next day is live still"


def test_the_archive_reads_back_what_was_sealed(shard: Shard) -> None:
    with shard.vault() as vault:
        compact(shard.path, vault, known_at=NOW, until_day=FIRST_DAY)
        archive = Archive(shard.path, vault)
        day = Readings.concat([readings(interval, [3, 1, 3]) for interval in range(2)])
        assert archive.read("readings", "F1", FIRST_DAY).equals(day)
        assert archive.read("readings", "F1", FIRST_DAY, [1]).equals(day.take(day.customer == 1))
        assert len(archive.read("readings", "F/2", FIRST_DAY)) == 2
        with pytest.raises(VaultError, match="no readings of 'F1' on 2024-10-05"):
            archive.read("readings", "F1", FIRST_DAY + 1)


def test_an_archive_file_shows_no_row_and_no_customer_twice(shard: Shard) -> None:
    import polars as pl

    with shard.vault() as vault:
        compact(shard.path, vault, known_at=NOW, until_day=FIRST_DAY + 1)
        archive = Archive(shard.path, vault)
        names = [
            name for place in archive.files() for name in pl.read_parquet(shard.path / place)["pseudonym"].to_list()
        ]
        assert len(names) == len(set(names))
        stored = b"".join((shard.path / place).read_bytes() for place in archive.files())
        assert readings(0, [1]).rows()[0]["tag"].tobytes() not in stored


@pytest.mark.parametrize("folder", [".", "market"])
def test_a_flipped_bit_in_a_block_is_noticed_by_whoever_reads(shard: Shard, folder: str) -> None:
    """Blocks of customers fail under their keys, that of public rows by its checksum."""
    import polars as pl

    with shard.vault() as vault:
        compact(shard.path, vault, known_at=NOW, until_day=FIRST_DAY)
        archive = Archive(shard.path / folder, vault)
        place = archive.files()[0]
        frame = pl.read_parquet(shard.path / folder / place)
        for row, block in enumerate(frame["block"].to_list()):
            blocks = frame["block"].to_list()
            blocks[row] = block[:20] + bytes([block[20] ^ 1]) + block[21:]
            frame.with_columns(pl.Series("block", blocks)).write_parquet(shard.path / folder / place)
            with pytest.raises(VaultError, match=r"fails under its key|is damaged"):
                archive.rows(place)


def test_no_name_of_a_feeder_leads_out_of_the_archive() -> None:
    places = {Archive.place("readings", feeder, 0, 1) for feeder in ("..", ".", "", "a/b", "a%2Fb", "-", "*")}
    assert len(places) == 7
    assert all(len(Path(place).parts) == 4 and ".." not in Path(place).parts for place in places)


class CrashError(Exception):
    """The power fails."""


def crash_at(step: int) -> tuple[list[str], object]:
    told: list[str] = []

    def listen(what: str) -> None:
        told.append(what)
        if len(told) == step + 1:
            raise CrashError(what)

    return told, listen


def test_a_crash_between_any_two_steps_of_compaction_loses_nothing(model: Shard, tmp_path: Path) -> None:
    """Readable and provable after each crash, and the same compaction asked for again is finished."""
    step, told = 0, []
    while True:
        shard = model.copy(tmp_path / str(step))
        told, listen = crash_at(step)
        with shard.vault() as vault:
            try:
                compact(shard.path, vault, known_at=NOW, until_day=FIRST_DAY, step=listen)  # type: ignore[arg-type]
                break
            except CrashError:
                pass
        with shard.vault() as vault:
            shard.check(vault)
            compact(shard.path, vault, known_at=NOW + 9, until_day=FIRST_DAY)
            shard.check(vault)
            assert vault.epochs[0].keys is None
        step += 1
    assert step > 10
    assert told[-1] == "destroy the key of epoch 1"


def test_nothing_is_removed_for_an_archive_that_does_not_verify(shard: Shard, monkeypatch: pytest.MonkeyPatch) -> None:
    from tellegen.operations import compaction

    monkeypatch.setattr(compaction, "tree_root", lambda leaves: bytes(32))
    with shard.vault() as vault:
        with pytest.raises(VaultError, match="are not those on record"):
            compact(shard.path, vault, known_at=NOW, until_day=FIRST_DAY)
        shard.check(vault)
        assert vault.epochs[0].keys is not None


def test_a_changed_archive_file_is_noticed_before_anything_is_removed(shard: Shard) -> None:
    def crash(what: str) -> None:
        if what == "put stubs":
            raise CrashError

    with shard.vault() as vault:
        with pytest.raises(CrashError):
            compact(shard.path, vault, known_at=NOW, until_day=FIRST_DAY, step=crash)
        place = Archive(shard.path, vault).files()[0]
        data = bytearray((shard.path / place).read_bytes())
        data[100] ^= 1
        (shard.path / place).write_bytes(data)
        with pytest.raises(VaultError, match="is not the file on record"):
            compact(shard.path, vault, known_at=NOW, until_day=FIRST_DAY)
        shard.check(vault)


def test_an_outsider_finds_the_archive_in_order_or_says_what_is_not(shard: Shard) -> None:
    """`tellegen verify` needs no key for it: stubs, the record and the files must agree."""
    with shard.vault() as vault:
        compact(shard.path, vault, known_at=NOW, until_day=FIRST_DAY)
    report = {check.name: check for check in verify_directory(shard.path).checks}
    assert report["archive"].ok
    assert report["archive"].count == 3
    assert "rows are live" in report["payloads"].detail
    assert report["history"].ok
    assert report["inclusion proofs"].ok
    file = shard.path / Archive.place("readings", "F1", FIRST_DAY, 1)
    data = bytearray(file.read_bytes())
    data[200] ^= 1
    file.write_bytes(data)
    report = {check.name: check for check in verify_directory(shard.path).checks}
    assert not report["archive"].ok
    assert "is not the file on record" in report["archive"].detail


def test_compaction_waits_for_no_writer(shard: Shard) -> None:
    """A running intake or market keeps its day."""
    with shard.vault() as vault, Journal.open(shard.path / "market", vault.purpose_key("market")):
        with pytest.raises(JournalError, match="another writer"):
            compact(shard.path, vault, known_at=NOW, until_day=FIRST_DAY)
        assert vault.epochs[0].keys is not None
        shard.check(vault)


@pytest.mark.parametrize("customer", [1, 3])
def test_an_erased_customers_rows_are_gone_and_the_others_are_proved(shard: Shard, customer: int) -> None:
    with shard.vault() as vault:
        hidden = erase_from_shard(shard.path, vault, customer, known_at=NOW)
        mine = sum(int((t.subjects() == customer).sum()) for t in shard.tables.values() if t.kind != "keys")
        assert hidden == mine
        shard.check(vault, without=customer)
        archive = Archive(shard.path, vault)
        assert len(archive.read("readings", "F1", FIRST_DAY, [customer])) == 0
        with Journal.open(shard.path) as journal:
            (index,) = journal.find(kind=Erasures.kind)
            assert vault.unseal(journal.entries()[index], journal.payload(index)).table.customer.tolist() == [customer]  # type: ignore[attr-defined]
        with pytest.raises(InputError, match="erased already"):
            erase_from_shard(shard.path, vault, customer, known_at=NOW)


def test_a_clock_that_went_back_does_not_hinder_an_erasure(shard: Shard) -> None:
    with shard.vault() as vault:
        erase_from_shard(shard.path, vault, 1, known_at=FIRST_DAY * DAY - 7)
        shard.check(vault, without=1)


def test_what_an_erased_customer_owed_stays_on_record(shard: Shard) -> None:
    """The books of the market can still be folded: every transaction sums to zero."""
    with shard.vault() as vault:
        erase_from_shard(shard.path, vault, 1, known_at=NOW)
        archive = Archive(shard.path / "market", vault)
        with Journal.open(shard.path / "market") as journal:
            total = 0
            for index in journal.find(kind="postings"):
                table = archive.unseal(journal, index).table
                assert isinstance(table, Postings)
                total += int(table.amount.sum())
        assert total == 0


def test_a_crash_in_an_erasure_loses_nobody_elses_row(model: Shard, tmp_path: Path) -> None:
    step = 0
    while True:
        shard = model.copy(tmp_path / str(step))
        _, listen = crash_at(step)
        with shard.vault() as vault:
            try:
                erase_from_shard(shard.path, vault, 1, known_at=NOW, step=listen)  # type: ignore[arg-type]
                break
            except CrashError:
                pass
        with shard.vault() as vault:
            shard.check(vault)
            erase_from_shard(shard.path, vault, 1, known_at=NOW + 9)
            shard.check(vault, without=1)
        step += 1 if step < 2 else 5  # compaction's own steps have a test of theirs
    assert step > 20


def test_a_key_is_not_destroyed_while_rows_stand_under_an_epochs(shard: Shard) -> None:
    with shard.vault() as vault, pytest.raises(VaultError, match="compact first"):
        vault.erase(1)


def test_the_day_goes_on_after_an_erasure(shard: Shard) -> None:
    """Erasure closes the day's epoch; what comes later is sealed in a new one."""
    with shard.vault() as vault:
        at = FIRST_DAY * DAY + DAY + 6 * (DAY // 8)
        erase_from_shard(shard.path, vault, 1, known_at=at)
        with Journal.open(shard.path, vault.purpose_key("intake")) as journal:
            table = readings(9, [2, 3])
            batch = vault.seal_live(table, feeder="F1", interval=9, intervals=1, source="s", known_at=at)
            shard.tables[".", journal.append(batch)] = table
            journal.commit(at)
        shard.check(vault, without=1)
        compact(shard.path, vault, known_at=NOW, until_day=FIRST_DAY + 1)
        shard.check(vault, without=1)
        assert len(Archive(shard.path, vault).files("readings", "F1", FIRST_DAY + 1)) == 2


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(sorted(TABLES)), st.integers(0, 40), st.randoms(use_true_random=False))
def test_a_block_holds_any_rows(kind: str, count: int, draw: object) -> None:
    """Whatever the numbers: differences wrap, columns may be constant, texts and codes come back."""
    schema = TABLES[kind]
    dtype = block_dtype(schema)
    raw = np.random.default_rng(draw.getrandbits(32)).bytes(dtype.itemsize * count)  # type: ignore[attr-defined]
    rows = np.frombuffer(raw, dtype=dtype)
    assert unpack_block(pack_block(rows), schema).tobytes() == np.array(rows).tobytes()
