"""What an auditor gets verifies, and holds no secret."""

import shutil
import stat
from pathlib import Path

import pytest

from tellegen.errors import InputError
from tellegen.journal import Journal, write_manifest
from tellegen.operations.bundle import write_bundle
from tellegen.privacy import Vault
from tellegen.records import Document
from tellegen.verify import verify_directory

ABOUT = {"feeder": "f", "interval": 0, "intervals": 1, "source": "market operator", "known_at": 1}


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A record with a table, a vault and a registry beside it."""
    path = tmp_path / "run"
    with Vault.create(path / "vault", [1], b"seed") as vault:
        key = vault.purpose_key("operator signature")
        with Journal.create(path, "example.org/feeder", key) as journal:
            journal.append(vault.seal_document(Document("rulebook", b"anybody may read it"), **ABOUT))  # type: ignore[arg-type]
            journal.commit(1)
        (path / "tables").mkdir()
        (path / "tables" / "bills.csv").write_text("customer,amount\n1,5\n")
        for name in ("registry/certificates.sqlite", "registry/root.pem", "keys/home.key", "state/part", "prices.csv"):
            (path / name).parent.mkdir(exist_ok=True)
            (path / name).write_text("x")
        with Journal.open(path) as journal:
            write_manifest(path, key, journal.checkpoint, ["tables/bills.csv"])
    return path


def names(path: Path) -> set[str]:
    return {each.relative_to(path).as_posix() for each in path.rglob("*") if each.is_file()}


JOURNAL = {
    f"journal/{name}" for name in ("operator.pub", "checkpoint", "checkpoints", "log/000000.seg", "payloads/000000.seg")
}


def test_a_bundle_holds_what_anybody_may_see_and_verifies(run: Path, tmp_path: Path) -> None:
    done = write_bundle(run, tmp_path / "out")
    assert names(tmp_path / "out") == JOURNAL | {"registry/root.pem"}
    assert done.files == len(JOURNAL) + 1
    assert stat.S_IMODE((tmp_path / "out").stat().st_mode) == 0o700  # as that of a run
    assert verify_directory(tmp_path / "out").ok


def test_bills_go_along_where_that_is_asked_for_and_are_their_owner_s(run: Path, tmp_path: Path) -> None:
    write_bundle(run, tmp_path / "out", bills=True)
    assert names(tmp_path / "out") == JOURNAL | {"registry/root.pem", "manifest", "tables/bills.csv"}
    assert stat.S_IMODE((tmp_path / "out" / "tables" / "bills.csv").stat().st_mode) == 0o600
    report = verify_directory(tmp_path / "out")
    assert report.ok
    assert "vault" not in report.checks[-1].detail


def test_a_bundle_is_made_of_a_record_at_rest_in_a_new_folder(run: Path, tmp_path: Path) -> None:
    with Vault.open(run / "vault") as vault:
        key = vault.purpose_key("operator signature")
    with Journal.open(run, key), pytest.raises(InputError, match="written to by another process"):
        write_bundle(run, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    with pytest.raises(InputError, match="not empty"):
        write_bundle(run, run)
    shutil.rmtree(run / "journal")
    with pytest.raises(InputError, match="is missing"):
        write_bundle(run, tmp_path / "out")


@pytest.mark.parametrize(
    "place", ["archive/2016/file", "archive/2016", "journal/log/000001.seg", "registry/issuing.pem"]
)
def test_a_link_is_refused_wherever_it_leads(run: Path, tmp_path: Path, place: str) -> None:
    (tmp_path / "secret").mkdir()
    (run / place).parent.mkdir(parents=True, exist_ok=True)
    (run / place).symlink_to(tmp_path / "secret" if place == "archive/2016" else run / "keys" / "home.key")
    with pytest.raises(InputError, match="a symbolic link"):
        write_bundle(run, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "name", ["../secret", "tables/../keys/home.key", "{}/secret", "tables//bills.csv", ".", "", "keys/home.key"]
)
def test_a_manifest_names_nothing_outside(run: Path, tmp_path: Path, name: str) -> None:
    (tmp_path / "secret").write_text("x")
    manifest = run / "manifest"
    manifest.write_bytes(manifest.read_bytes().replace(b"tables/bills.csv", name.format(tmp_path).encode()))
    with pytest.raises(InputError, match=r"no name below the directory|never published"):
        write_bundle(run, tmp_path / "out", bills=True)
    assert not (tmp_path / "out").exists()
