"""`tellegen verify`: yes for what was signed, no for anything else, and never a traceback."""

import json
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tellegen.errors import InputError
from tellegen.journal import Journal, write_manifest
from tellegen.privacy import Vault
from tellegen.verify import Report, verify_directory

Run = tuple[Path, str, bytes]
MANDATORY = {"operator key", "journal files", "log", "checkpoints", "history", "payloads", "inclusion proofs"}


def failed(report: Report) -> list[str]:
    return [check.name for check in report.checks if not check.ok]


def detail(report: Report, name: str) -> str:
    return next(check.detail for check in report.checks if check.name == name)


def resign(path: Path, signing_key: bytes) -> None:
    """What an operator who cheats can do: sign anew for changed files."""
    with Journal.open(path) as journal:
        write_manifest(path, signing_key, journal.checkpoint)


def test_a_finished_run_verifies(run: Run) -> None:
    report = verify_directory(run[0], key=run[1])
    assert failed(report) == []
    assert report.ok
    counts = {check.name: check.count for check in report.checks}
    assert counts["log"] == counts["payloads"] == counts["inclusion proofs"] == 9
    assert counts["checkpoints"] == counts["history"] == 6
    assert counts["postings"] == 13
    assert counts["recorded postings"] == 6
    assert counts["books"] == 6
    assert counts["published files"] == 6
    assert counts["price parts"] == 9


def test_the_report_is_the_documented_json(run: Run) -> None:
    document = json.loads(verify_directory(run[0]).to_json())
    assert set(document) == {"ok", "checks", "broken", "not_checked"}
    assert all(set(check) == {"name", "ok", "count", "detail"} for check in document["checks"])


def test_a_run_that_has_not_ended_verifies_and_says_so(recorded: Run) -> None:
    report = verify_directory(recorded[0])
    assert report.ok
    assert detail(report, "manifest").startswith("absent")
    assert detail(report, "postings") == "absent: tables/postings.parquet"
    assert {check.name for check in report.checks if check.count} >= MANDATORY


def test_verifying_writes_nothing(run: Run) -> None:
    before = {p: p.stat().st_mtime_ns for p in run[0].rglob("*")}
    verify_directory(run[0])
    assert {p: p.stat().st_mtime_ns for p in run[0].rglob("*")} == before


def test_it_needs_no_secret(run: Run) -> None:
    shutil.rmtree(run[0] / "vault")
    assert verify_directory(run[0], key=run[1]).ok


def test_every_proof_still_verifies_after_an_erasure(run: Run) -> None:
    """law 6: erasure destroys keys and every proof still verifies."""
    with Vault.open(run[0] / "vault") as vault:
        vault.erase(1)
    assert verify_directory(run[0], key=run[1]).ok


def test_a_pinned_key_unmasks_a_journal_written_anew(run: Run, tmp_path_factory: pytest.TempPathFactory) -> None:
    forged = tmp_path_factory.mktemp("forged")
    Journal.create(forged, "example.org/feeder", bytes(32)).close()
    assert verify_directory(forged).ok
    assert "operator key" in failed(verify_directory(forged, key=run[1]))


def test_a_directory_that_is_no_run_is_an_input_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="journal/ is missing"):
        verify_directory(tmp_path)


FLIP, DELETE, INSERT, APPEND, TRUNCATE, DOUBLE_TAIL = "flip", "delete", "insert", "append", "truncate", "double tail"


def damaged(whole: bytes, kind: str, at: int, value: int) -> bytes:
    if kind == FLIP:
        return whole[:at] + bytes([whole[at] ^ value]) + whole[at + 1 :]
    if kind == DELETE:
        return whole[:at] + whole[at + 1 :]
    if kind == INSERT:
        return whole[:at] + bytes([value]) + whole[at:]
    if kind == APPEND:
        return whole + bytes([value])
    return whole[:at] if kind == TRUNCATE else whole + whole[at:]


@settings(max_examples=250, deadline=None)
@given(st.data())
def test_any_byte_changed_anywhere_makes_it_say_no(
    lasting_run: tuple[Path, dict[Path, bytes]], data: st.DataObject
) -> None:
    """law 3: nothing on record is ever edited; whoever tries is found out."""
    path, wholes = lasting_run
    file = data.draw(st.sampled_from(sorted(wholes)))
    whole = wholes[file]
    kind = data.draw(st.sampled_from([FLIP, FLIP, DELETE, INSERT, APPEND, TRUNCATE, DOUBLE_TAIL]))
    bad = damaged(whole, kind, data.draw(st.integers(0, len(whole) - 1)), data.draw(st.integers(1, 255)))
    try:
        file.write_bytes(bad)
        report = verify_directory(path)
    finally:
        file.write_bytes(whole)
    assert not report.ok, f"{kind} in {file.name}"


@pytest.mark.slow
@pytest.mark.parametrize("value", [1, 0x20, 0x80])
def test_no_byte_of_the_small_files_is_free(lasting_run: tuple[Path, dict[Path, bytes]], value: int) -> None:
    path, wholes = lasting_run
    for name in ("journal/checkpoint", "journal/checkpoints", "journal/operator.pub", "manifest"):
        file = path / name
        for at in range(len(wholes[file])):
            try:
                file.write_bytes(damaged(wholes[file], FLIP, at, value))
                assert not verify_directory(path).ok, f"{name} at {at}"
            finally:
                file.write_bytes(wholes[file])


@pytest.mark.parametrize(
    ("name", "check"),
    [
        ("journal/notes.txt", "journal files"),
        ("journal/log/000009.seg", "log"),
        ("journal/log/extra", "journal files"),
        ("journal/deeper", "journal files"),
        ("tables/extra.parquet", "published files"),
        ("extra.txt", "published files"),
    ],
)
@pytest.mark.parametrize("content", [b"", b"x"])
def test_a_stray_file_is_named(run: Run, name: str, check: str, content: bytes) -> None:
    file = run[0] / name
    file.write_bytes(content)
    report = verify_directory(run[0])
    assert check in failed(report)
    assert Path(name).name in detail(report, check)


def test_a_missing_file_makes_it_say_no(lasting_run: tuple[Path, dict[Path, bytes]]) -> None:
    path, wholes = lasting_run
    for file, whole in wholes.items():
        file.unlink()
        report = verify_directory(path)
        file.write_bytes(whole)
        assert not report.ok, file.name


def test_deleting_the_manifest_does_not_hide_a_changed_table(run: Run) -> None:
    (run[0] / "manifest").unlink()
    report = verify_directory(run[0])
    assert {"manifest", "published files", "postings", "statements", "books"} <= set(failed(report))


def test_an_entry_withdrawn_with_its_checkpoint_shows(run: Run) -> None:
    """Rolling the journal back consistently is still visible: the manifest is about a later state."""
    folder = run[0] / "journal"
    notes = (folder / "checkpoints").read_text().splitlines(keepends=True)
    (folder / "checkpoints").write_text("".join(notes[:-5]))
    (folder / "checkpoint").write_text("".join(notes[-10:-5]))
    report = verify_directory(run[0])
    assert {"history", "manifest"} <= set(failed(report))


def _postings_with(path: Path, change: Callable[[pl.DataFrame], pl.DataFrame]) -> None:
    file = path / "tables" / "postings.parquet"
    change(pl.read_parquet(file)).write_parquet(file)


def _set(column: str, row: int, value: object) -> Callable[[pl.DataFrame], pl.DataFrame]:
    def change(frame: pl.DataFrame) -> pl.DataFrame:
        values = frame[column].to_list()
        values[row] = value
        return frame.with_columns(pl.Series(column, values, dtype=frame[column].dtype))

    return change


@pytest.mark.parametrize(
    ("change", "check", "words"),
    [
        (_set("amount", 0, 100_000_001), "postings", "interval 100, cause 0, sums to 1"),
        (_set("cause", 0, 5), "postings", "sums to"),
        (_set("quantity", 0, 501), "postings", "posting 0: amount 100000000 is not quantity times price 100200000"),
        (_set("price", 6, 3), "postings", "not quantity times price"),
        (_set("account", 6, 2), "statements", "amount of customer and line"),
        (_set("account", 8, (-13)), "recorded postings", "account and line"),
        (_set("line", 8, "rent_real_time"), "recorded postings", "account and line"),
        (_set("line", 8, "bribe"), "postings", "column line"),
        (_set("quantity", 0, 2**40), "postings", "limit 2^31"),
        (_set("amount", 6, 2**62), "postings", "could overflow"),
        (lambda frame: frame.drop("price"), "postings", "no column price"),
        (lambda frame: frame.with_columns(pl.col("amount").cast(pl.Float64)), "postings", "column amount"),
    ],
)
def test_an_operator_who_signs_for_wrong_sums_is_found_out(
    run: Run, change: Callable[[pl.DataFrame], pl.DataFrame], check: str, words: str
) -> None:
    """The sums are checked, not only the signatures."""
    _postings_with(run[0], change)
    resign(run[0], run[2])
    report = verify_directory(run[0], key=run[1])
    assert check in failed(report)
    assert words in detail(report, check)


def test_statements_must_add_up_in_cents(run: Run) -> None:
    file = run[0] / "tables" / "statements.parquet"
    _set("cents", 0, 11)(pl.read_parquet(file)).write_parquet(file)
    resign(run[0], run[2])
    assert "customer 1: the cents add up to 11" in detail(verify_directory(run[0]), "statements")
    shifted = _set("cents", 1, 0)(pl.read_parquet(file))
    shifted.write_parquet(file)
    resign(run[0], run[2])
    assert "statement row 0" in detail(verify_directory(run[0]), "statements")


def test_cents_whose_product_wraps_are_found(run: Run) -> None:
    """law 1: 2^57 cents are a multiple of 2^64 nano-currency, which int64 arithmetic takes for nothing."""
    file = run[0] / "tables" / "statements.parquet"
    up = _set("cents", 0, 10 + 2**57)(pl.read_parquet(file))
    _set("cents", 1, 1 - 2**57)(up).write_parquet(file)
    resign(run[0], run[2])
    assert "statement row 0" in detail(verify_directory(run[0]), "statements")


def test_books_must_be_the_sums_of_the_postings(run: Run) -> None:
    database = sqlite3.connect(run[0] / "books.sqlite")
    database.execute("UPDATE balances SET nanos = nanos + 5 WHERE account = 1")
    database.commit()
    database.close()
    resign(run[0], run[2])
    report = verify_directory(run[0])
    assert failed(report) == ["books"]
    assert "balance of unit and account 0, 1:" in detail(report, "books")


def test_a_file_that_is_not_what_it_says_is_an_answer_not_a_crash(run: Run) -> None:
    for name in ("tables/postings.parquet", "tables/statements.parquet", "books.sqlite"):
        (run[0] / name).write_bytes(b"PAR1 no such thing PAR1")
    resign(run[0], run[2])
    assert {"postings", "statements", "books"} <= set(failed(verify_directory(run[0])))


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=60))
@example(b"[" * 60_000)
@example(b'{"causes":1}')
@example(b"null")
def test_whatever_a_hostile_operator_signs_there_is_an_answer(tmp_path: Path, entry: bytes) -> None:
    """Frames with a valid checksum and signature around nonsense."""
    import base64
    import struct
    import zlib

    from tellegen.journal import MerkleTree, NoteSigner
    from tellegen.journal.merkle import entry_hash

    shutil.rmtree(tmp_path / "journal", ignore_errors=True)
    folder = tmp_path / "journal"
    signer = NoteSigner("example.org/x", bytes(32))
    for part in ("log", "payloads"):
        (folder / part).mkdir(parents=True)
        length = struct.pack("<I", len(entry))
        frame = length + struct.pack("<I", zlib.crc32(length + entry)) + entry
        (folder / part / "000000.seg").write_bytes(frame)
    (folder / "operator.pub").write_text(signer.verifier.vkey + "\n")
    root = base64.b64encode(MerkleTree([entry_hash(entry)]).root()).decode()
    for name in ("checkpoint", "checkpoints"):
        (folder / name).write_text(signer.sign(f"example.org/x\n1\n{root}\n"))
    assert not verify_directory(tmp_path).ok
