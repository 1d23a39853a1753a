"""Snapshots: equal states are equal bytes, whatever a crash leaves is whole, and destroyed keys stay destroyed."""

import random
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from tellegen.assess.faults.batches import batch_of
from tellegen.assess.faults.disk import Faults, PowerLossError, SimulatedDisk
from tellegen.journal import Journal
from tellegen.privacy import Vault
from tellegen.privacy.snapshots import Parts, SnapshotError, SnapshotFolder, part_bytes, part_columns

RUN = Path("/shard")
STATE = RUN / "state"
KEY = bytes(range(32))


@pytest.fixture
def vault(tmp_path: Path) -> Iterator[Vault]:
    with Vault.create(tmp_path / "vault", [1, 2], b"snapshots") as vault:
        yield vault


def state(number: int) -> Parts:
    """A state of two parts; the one moves with every number, the other with every third."""
    return {
        "meters": {"serial": np.arange(5), "heard": np.full((5, 3), number, dtype=np.int64)},
        "registry": {"name": np.array([b"head-end", b"x"]), "version": np.array([number // 3], dtype=np.int32)},
    }


def same(one: Parts, other: Parts) -> bool:
    return {k: part_bytes(v) for k, v in one.items()} == {k: part_bytes(v) for k, v in other.items()}


def journal_on(disk: SimulatedDisk) -> Journal:
    journal = Journal.create(RUN, "snapshots.example/shard", KEY, storage=disk)
    journal.append(batch_of("head-end 1", 0, 1))
    journal.commit(1)
    return journal


def take(journal: Journal, folder: SnapshotFolder, vault: Vault, number: int, *, afresh: bool = False) -> None:
    record = folder.write(state(number), intake_size=number, market_size=len(journal), afresh=afresh)
    batch = vault.seal(record, feeder="", interval=0, intervals=1, source="operator", known_at=number)
    journal.append(batch)
    journal.commit(number)


@given(
    arrays(
        st.sampled_from(["<i8", ">i4", "u1", "?", "<f8", "S5"]),
        array_shapes(max_dims=2, max_side=4, min_side=0),
    )
)
def test_a_part_comes_back_as_it_was(column: np.ndarray) -> None:
    columns = {"one": column, "other": np.arange(3)}
    back = part_columns(part_bytes(columns))
    assert list(back) == ["one", "other"]
    assert back["one"].shape == column.shape
    assert back["one"].astype(column.dtype).tobytes() == column.tobytes()


def test_equal_columns_are_equal_bytes_however_they_lie_in_memory() -> None:
    table = np.arange(12).reshape(3, 4)
    assert part_bytes({"a": table.T}) == part_bytes({"a": np.ascontiguousarray(table.T).astype(">i8")})
    with pytest.raises(SnapshotError, match="is of object"):
        part_bytes({"a": np.array([None])})


def test_the_newest_snapshot_is_read_back_and_what_did_not_change_is_not_written_again(vault: Vault) -> None:
    disk = SimulatedDisk(random.Random(1))
    with journal_on(disk) as journal:
        folder = SnapshotFolder(journal, STATE, vault, "intake", storage=disk)
        assert folder.read_newest().entry == -1
        for number in (3, 4):
            take(journal, folder, vault, number)
        files = sorted(path.name.partition("-")[0] for path in disk.paths() if path.parent == STATE)
        assert files == ["meters", "meters", "registry"]
        restored = folder.read_newest()
        assert (restored.entry, restored.intake_size, restored.market_size, restored.problems) == (2, 4, 2, ())
        assert same(restored.parts, state(4))
        record = folder.write(state(4), intake_size=4, market_size=2)
        assert record.digest.tolist() == [folder.digest_of(name, columns) for name, columns in sorted(state(4).items())]


def test_a_damaged_snapshot_is_passed_over_and_named(vault: Vault) -> None:
    disk = SimulatedDisk(random.Random(1))
    with journal_on(disk) as journal:
        folder = SnapshotFolder(journal, STATE, vault, "intake", storage=disk)
        for number in (3, 4):
            take(journal, folder, vault, number)
        (newest,) = (
            path
            for path in disk.paths()
            if path.name == f"meters-{folder.digest_of('meters', state(4)['meters']).hex()}"
        )
        for bit in range(0, 8 * len(disk.bytes_of(newest)), 37):
            disk.flip(newest, bit)
            restored = folder.read_newest()
            assert same(restored.parts, state(3))
            assert newest.name in restored.problems[0]
            disk.flip(newest, bit)
        disk.remove(newest)
        assert "No such file" in folder.read_newest().problems[0]
        for path in disk.paths():
            if path.parent == STATE:
                disk.remove(path)
        restored = folder.read_newest()
        assert (restored.entry, restored.parts, len(restored.problems)) == (-1, {}, 2)


def test_what_no_kept_snapshot_names_is_removed_with_its_key(vault: Vault, tmp_path: Path) -> None:
    disk = SimulatedDisk(random.Random(1))
    with journal_on(disk) as journal:
        folder = SnapshotFolder(journal, STATE, vault, "intake", storage=disk)
        secrets = []
        for number in (3, 4, 6):
            take(journal, folder, vault, number)
            secrets.append(vault.purpose_key(f"snapshot intake {number} {len(journal) - 1}"))
        other = vault.purpose_key("snapshot market 1 1")
        assert [name.partition("-")[0] for name in folder.keep()] == ["meters"]
        # the registry of snapshot 3 is that of 4, and under the key of 3
        assert [p for p in vault.purposes if p.startswith("snapshot ")] == [
            "snapshot digests",
            *(f"snapshot intake {sizes}" for sizes in ("3 1", "4 2", "6 3")),
            "snapshot market 1 1",
        ]
        take(journal, folder, vault, 7, afresh=True)
        assert len(folder.keep(1)) == 3  # meters of 4 and 6, the registry of 4; that of 6 is written anew
        assert same(folder.read_newest().parts, state(7))
        assert vault.purpose_key("snapshot market 1 1") == other
        kept = (tmp_path / "vault" / "keys.sqlite").read_bytes()
        assert not any(secret in kept for secret in secrets)
        assert not any(secret in (tmp_path / "vault" / "keys.sqlite-journal").read_bytes() for secret in secrets)


@pytest.mark.parametrize("seed", range(20))
def test_wherever_power_goes_the_newest_record_has_its_parts(seed: int, tmp_path: Path) -> None:
    """Between part files, before and after the record, between removals: a state that was taken comes back, whole."""
    for power_in in range(seed, 120, 20):
        chance = random.Random(1000 * seed + power_in)
        disk = SimulatedDisk(chance)
        vault = Vault.create(tmp_path / f"vault {power_in}", [1], b"snapshots")
        with journal_on(disk) as journal:
            take(journal, SnapshotFolder(journal, STATE, vault, "intake", storage=disk), vault, 1)
        for start in (2, 50):
            try:
                with Journal.open(RUN, KEY, storage=disk) as journal:
                    folder = SnapshotFolder(journal, STATE, vault, "intake", storage=disk)
                    disk.faults = Faults(power_in=power_in)
                    for number in range(start, start + 5):
                        take(journal, folder, vault, number)
                        folder.keep()
            except PowerLossError:
                pass
            disk.faults = Faults()
            disk.lose_power()
            with Journal.open(RUN, KEY, storage=disk) as journal:
                folder = SnapshotFolder(journal, STATE, vault, "intake", storage=disk)
                restored = folder.read_newest()
                assert restored.problems == ()
                assert same(restored.parts, state(restored.intake_size))
                folder.keep()
                assert {p.name for p in disk.paths() if p.parent == STATE} >= {
                    f"{name}-{folder.digest_of(name, columns).hex()}" for name, columns in restored.parts.items()
                }
        vault.close()
