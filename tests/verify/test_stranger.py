"""A directory from a stranger: whatever lies in it, `tellegen verify` answers, soon and within its memory."""

import contextlib
import io
import os
import re
import shutil
import socket
import sqlite3
import stat
import struct
from collections.abc import Callable, Collection
from datetime import date
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tellegen.errors import SPACES, InputError, printable
from tellegen.journal import Journal, write_manifest
from tellegen.verify import Limits, Report, verify_confined, verify_directory
from tellegen.verify.calendar import Rules
from tellegen.verify.folder import DEPTH_MAX, Folder
from tellegen.verify.report import RefusedError, run_check
from tellegen.verify.unpacked import unpacked

Run = tuple[Path, str, bytes]
SMALL = Limits(1 << 26)
"""65,536 rows of a table, 16 MiB unpacked."""


def failed(report: Report) -> dict[str, str]:
    return {check.name: check.detail for check in report.checks if not check.ok}


def resign(path: Path, signing_key: bytes) -> None:
    with Journal.open(path) as journal:
        write_manifest(path, signing_key, journal.checkpoint)


def pipe(path: Path) -> None:
    os.mkfifo(path)


def endless(path: Path) -> None:
    path.symlink_to("/dev/zero")


def elsewhere(path: Path) -> None:
    path.symlink_to("/etc/hostname")


def loop(path: Path) -> None:
    path.symlink_to(path.name)


def listening(path: Path) -> None:
    here = Path.cwd()
    os.chdir(path.parent)  # a socket's name is short
    try:
        socket.socket(socket.AF_UNIX).bind(path.name)
    finally:
        os.chdir(here)


def folder(path: Path) -> None:
    path.mkdir()


@pytest.mark.parametrize("kind", [pipe, endless, elsewhere, loop, listening, folder])
@pytest.mark.parametrize(
    "name",
    [
        "journal/operator.pub",
        "journal/checkpoint",
        "journal/checkpoints",
        "journal/cosigned",
        "journal/log/000000.seg",
        "journal/payloads/000000.seg",
        "journal/index/000000.idx",
        "manifest",
        "tables/postings.parquet",
        "books.sqlite",
        "summary.json",
    ],
)
def test_what_is_no_file_is_named_and_never_opened(run: Run, name: str, kind: Callable[[Path], None]) -> None:
    path = run[0] / name
    path.unlink(missing_ok=True)
    path.parent.mkdir(exist_ok=True)
    kind(path)
    report = verify_directory(run[0])
    assert not report.ok
    assert any(Path(name).name in why for why in failed(report).values())


@pytest.mark.parametrize("name", ["journal", "journal/log", "journal/payloads", "tables", "market"])
def test_a_folder_that_is_a_link_is_none(run: Run, name: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    away = tmp_path_factory.mktemp("away") / "moved"
    if (run[0] / name).exists():
        shutil.move(run[0] / name, away)
    else:
        shutil.copytree(run[0], away)
    (run[0] / name).symlink_to(away)
    report = verify_directory(run[0])
    assert not report.ok
    said = list(failed(report).values())
    assert any("symbolic link" in why or f"{Path(name).name} " in why for why in said)


@pytest.mark.parametrize(
    "name",
    ["/etc/passwd", "../outside", "tables/../../outside", "tables//postings.parquet", "./summary.json", "", ".."],
)
def test_a_manifest_names_only_what_lies_below(run: Run, name: str) -> None:
    from tellegen.journal import NoteSigner

    signer = NoteSigner("example.org/feeder", run[2])
    lines = (run[0] / "manifest").read_text().rpartition("\n\n")[0].split("\n")
    (run[0] / "manifest").write_text(signer.sign("\n".join([*lines, f"{'0' * 64} 1 {name}", ""])))
    assert "no name below the directory" in failed(verify_directory(run[0]))["published files"]


def test_depth_and_number_of_files_are_bounded(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    deep = run[0].joinpath(*["d"] * (DEPTH_MAX + 2))
    deep.mkdir(parents=True)
    (deep / "x").touch()
    assert "deeper than" in failed(verify_directory(run[0]))["published files"]
    shutil.rmtree(run[0] / "d")
    monkeypatch.setattr("tellegen.verify.folder.NAMES_MAX", 9)
    assert "more than 9 names" in failed(verify_directory(run[0]))["published files"]


def test_a_frame_that_announces_much_is_not_read(run: Run) -> None:
    segment = run[0] / "journal" / "payloads" / "000000.seg"
    with segment.open("wb") as file:
        file.write(struct.pack("<II", 0xFFFFFFF0, 0))
        file.truncate(8 + 0xFFFFFFF0)  # sparse: no byte of it is there
    assert "4294967280 bytes" in failed(verify_directory(run[0]))["payloads"]


def test_what_may_be_read_follows_from_the_memory(run: Run) -> None:
    little = failed(verify_directory(run[0], limits=Limits(1 << 12)))
    assert "more than the 256 bytes" in little["log"]
    assert "at most 256 are read" in little["checkpoints"]
    assert "bytes of open rows" in failed(verify_directory(run[0], limits=Limits(1 << 16)))["payloads"]


# Databases that compute


BOMBS = {
    "a view that never ends": (
        "DROP TABLE balances",
        "CREATE VIEW balances AS WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c) "
        "SELECT 0 AS unit, n AS account, 0 AS nanos FROM c",
    ),
    "a column that computes": (
        "DROP TABLE balances",
        "CREATE TABLE balances (unit INTEGER, account INTEGER, nanos AS (length(zeroblob(account))))",
        "INSERT INTO balances VALUES (0, 9000)",
    ),
    "a stored column that computes": (
        "DROP TABLE balances",
        "CREATE TABLE balances (unit INTEGER, account INTEGER, nanos INTEGER AS (account + 1) STORED)",
        "INSERT INTO balances VALUES (0, 9)",
    ),
    "a trigger": ("CREATE TRIGGER t AFTER INSERT ON balances BEGIN SELECT randomblob(1000000000); END",),
    "a view beside the table": ("CREATE VIEW v AS SELECT randomblob(1000000000)",),
    "a virtual table": (
        "DROP TABLE balances",
        "CREATE VIRTUAL TABLE balances USING fts5(unit, account, nanos)",
    ),
    "words": (
        "DROP TABLE balances",
        "CREATE TABLE balances (unit, account, nanos)",
        "INSERT INTO balances VALUES (0, 1, 'x')",
    ),
    "an account twice": (
        "DROP TABLE balances",
        "CREATE TABLE balances (unit, account, nanos)",
        "INSERT INTO balances VALUES (0, 1, 2), (0, 1, 2)",
    ),
    "nothing": ("DROP TABLE balances",),
}


@pytest.mark.parametrize("bomb", BOMBS)
def test_books_are_tables_and_nothing_in_them_computes(run: Run, bomb: str) -> None:
    with sqlite3.connect(run[0] / "books.sqlite") as database:
        for statement in BOMBS[bomb]:
            try:
                database.execute(statement)
            except sqlite3.OperationalError as error:
                pytest.skip(f"this SQLite has no such thing: {error}")
    database.close()
    resign(run[0], run[2])
    assert set(failed(verify_directory(run[0]))) == {"books"}


def test_books_that_go_on_for_longer_than_their_rows_are_stopped(run: Run) -> None:
    """A table of its own pages, of more rows than the memory bears."""
    with sqlite3.connect(run[0] / "books.sqlite") as database:
        database.executemany("INSERT INTO balances VALUES (7, ?, 0)", ((k,) for k in range(70_000)))
    database.close()
    resign(run[0], run[2])
    assert "more than the 65536 balances" in failed(verify_directory(run[0], limits=SMALL))["books"]


def test_books_with_a_write_ahead_log_are_read_without_it(run: Run) -> None:
    database = sqlite3.connect(run[0] / "books.sqlite")
    database.execute("PRAGMA journal_mode = WAL")
    database.close()
    resign(run[0], run[2])
    assert verify_directory(run[0]).ok


# Tables that unpack to more than they are


def test_a_table_is_measured_before_it_is_unpacked(run: Run) -> None:
    path = run[0] / "tables" / "postings.parquet"
    for rows in (100_000, 40_000):
        pl.DataFrame(
            {n: pl.repeat(0, rows, dtype=pl.Int64, eager=True) for n in pl.read_parquet(path).columns}
        ).write_parquet(path)
        assert path.stat().st_size < 20_000
        resign(run[0], run[2])
        assert f"unpacks to {rows} rows" in failed(verify_directory(run[0], limits=Limits(1 << 25)))["postings"]


def test_a_few_rows_of_much_text_are_measured_too(run: Run) -> None:
    path = run[0] / "tables" / "postings.parquet"
    table = pl.read_parquet(path).with_columns(line=pl.lit("x" * (1 << 25)))
    table.write_parquet(path, compression="zstd")
    assert path.stat().st_size < 1 << 20
    resign(run[0], run[2])
    assert "bytes are read" in failed(verify_directory(run[0], limits=SMALL))["postings"]


@pytest.mark.parametrize("dtype", [pl.List(pl.Int64), pl.Float64, pl.Struct({"a": pl.Int64}), pl.Boolean])
def test_columns_of_other_things_are_not_read(run: Run, dtype: pl.DataType) -> None:
    path = run[0] / "tables" / "postings.parquet"
    table = pl.read_parquet(path)
    table.with_columns(quantity=pl.Series([None] * len(table), dtype=dtype)).write_parquet(path)
    resign(run[0], run[2])
    assert "postings" in failed(verify_directory(run[0]))


def test_what_a_table_unpacks_to_is_what_its_pages_say() -> None:
    for rows, groups in ((0, 1), (1, 1), (5_000, 7)):
        file = io.BytesIO()
        table = pl.DataFrame(
            {"a": range(rows), "line": ["word", "longer word", "word", None, ""][: min(rows, 5)] * (-(-rows // 5))}
        )
        table.write_parquet(file, row_group_size=max(1, rows // groups), data_page_size=1_000)
        both, one = unpacked(file.getvalue(), ("a", "line")), unpacked(file.getvalue(), ("a",))
        assert both.rows == one.rows == rows
        assert one.size >= 16 * rows
        assert both.size >= one.size + 16 * rows


def renamed(table: bytes, places: Collection[int], name: bytes) -> bytes:
    """A table whose footer says another name of as many letters for `line`, at some of its places."""
    begin = len(table) - 8 - int.from_bytes(table[-8:-4], "little")
    footer = bytearray(table[begin:])
    found = [at.start() + 1 for at in re.finditer(b"\x04line", footer)]
    assert len(found) > max(places)
    for place in places:
        footer[found[place] : found[place] + 4] = name
    return table[:begin] + bytes(footer)


@pytest.mark.parametrize("name", [b"zzzz", b"unit"])
@pytest.mark.parametrize("places", [(0,), (1,), (2,), (1, 2)])
def test_columns_are_those_of_the_schema_whatever_their_pages_are_called(places: tuple[int, ...], name: bytes) -> None:
    """Whoever unpacks goes by the place of a column: a name given to its pages alone would hide them."""
    file = io.BytesIO()
    pl.DataFrame({"line": ["x" * 4096] * 8, "unit": range(8), "z": [[1]] * 8}).write_parquet(file, row_group_size=4)
    honest = unpacked(file.getvalue(), ("line", "unit"))
    assert honest.size > 4096
    assert honest == unpacked(renamed(file.getvalue(), (0, 1, 2), b"post"), ("post", "unit"))
    with pytest.raises(RefusedError, match=r"another column|one name"):
        unpacked(renamed(file.getvalue(), places, name), ("line", "unit"))


def test_values_of_a_fixed_length_are_short() -> None:
    """A page of their places in a dictionary says nothing of their length."""
    file = io.BytesIO()
    pl.DataFrame({"a": [1, 2]}, schema={"a": pl.Decimal(30, 0)}).write_parquet(file)
    table = file.getvalue()
    longer = re.sub(rb"\x15\x0e\x15[\x01-\x20]", b"\x15\x0e\x15\x22", table)
    assert longer != table
    assert unpacked(table, ("a",)).rows == 2
    with pytest.raises(RefusedError, match="any length"):
        unpacked(longer, ("a",))


def test_a_schema_of_other_columns_than_its_row_groups_is_refused() -> None:
    file = io.BytesIO()
    pl.DataFrame({"a": [1], "b": [2]}, schema={"a": pl.Int8, "b": pl.Int8}).write_parquet(file)
    table = file.getvalue()
    begin = len(table) - 8 - int.from_bytes(table[-8:-4], "little")
    # The root says how many columns there are: field 5, two, as a signed number.
    at = table.index(b"\x15\x04", begin)
    for said in (1, 3):
        with pytest.raises(RefusedError, match="schema"):
            unpacked(table[:at] + bytes((0x15, 2 * said)) + table[at + 2 :], ("a", "b"))


@given(st.data())
@settings(max_examples=300, deadline=None)
def test_a_damaged_table_is_measured_or_refused(data: st.DataObject) -> None:
    file = io.BytesIO()
    pl.DataFrame({"a": range(40), "line": ["x", "y"] * 20}).write_parquet(file)
    damaged = bytearray(file.getvalue())
    for _ in range(data.draw(st.integers(1, 6))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(RefusedError):
        assert unpacked(bytes(damaged), ("a", "line")).rows >= 0


@given(st.binary(max_size=300))
@settings(deadline=None)
def test_noise_for_a_footer_is_refused(noise: bytes) -> None:
    with pytest.raises(RefusedError):
        unpacked(b"PAR1" + noise + struct.pack("<I", len(noise)) + b"PAR1", ("a",))


# What is printed


@given(st.text(max_size=40))
def test_nothing_that_is_shown_moves_a_cursor_or_turns_a_line_around(text: str) -> None:
    shown = printable(text)
    assert all(c.isprintable() or c in SPACES for c in shown)
    shown.encode()  # names that are no Unicode can be shown, too
    if text.isprintable():
        assert shown == text


def test_names_are_shown_spelt_out(run: Run) -> None:
    names = [
        "\x1b]0;pwned\x07\x1b[2J\x1b[32mok\x1b[0m",
        "\u202elacigol.txt",
        "[green]ok[red]",
        os.fsdecode(b"\xff\xfe"),
        "a\nok",
    ]
    for name in names:
        (run[0] / "journal" / name).touch()
        why = failed(verify_directory(run[0]))["journal files"]
        assert why.isprintable()
        assert printable(name) in why
        (run[0] / "journal" / name).unlink()
    error = InputError("\x1b[2J", "row 1", "is\nwrong")
    assert str(error).isprintable()
    assert run_check("x", lambda: (1, "y" * 10_000)).detail.endswith("y ...")


# A process of its own


def test_a_run_verifies_in_a_process_of_its_own_as_it_does_here(run: Run) -> None:
    assert verify_confined(run[0], key=run[1]) == verify_directory(run[0], key=run[1])
    (run[0] / "extra.txt").touch()
    assert verify_confined(run[0], key=run[1]) == verify_directory(run[0], key=run[1])


def test_what_cannot_be_asked_is_refused_from_there_too(run: Run, tmp_path_factory: pytest.TempPathFactory) -> None:
    with pytest.raises(InputError, match="give the directory of a run"):
        verify_confined(tmp_path_factory.mktemp("empty"))
    with pytest.raises(RefusedError, match="verifier key"):
        verify_confined(run[0], witnesses=["nonsense"])


def test_a_verification_that_does_not_end_is_ended(run: Run, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Prices that nobody ever writes: the one file that is the asker's own, and may be a pipe."""
    prices = tmp_path_factory.mktemp("prices") / "prices.csv"
    os.mkfifo(prices)
    report = verify_confined(run[0], root_prices=prices, seconds=3)
    assert not report.ok
    assert "took longer than it may, at the beginning" in failed(report)["verification"]


@pytest.mark.skipif(os.uname().sysname != "Linux", reason="only Linux bounds the address space")
def test_a_verification_that_takes_more_than_its_memory_is_an_answer(run: Run) -> None:
    report = verify_confined(run[0], limits=Limits(1 << 28))
    assert not report.ok


def test_nothing_is_run_from_where_it_is_asked(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    (run[0] / "json.py").write_text("open('marker', 'w')\n")
    (run[0] / "polars.py").write_text("open('marker', 'w')\n")
    monkeypatch.chdir(run[0])
    assert "json.py is not in the manifest" in failed(verify_confined("."))["published files"]
    assert not Path("marker").exists()


def test_a_folder_reads_no_more_than_it_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"1234")
    here = Folder(tmp_path, Limits())
    assert here.read("file", 4) == b"1234"
    with pytest.raises(RefusedError, match="has 4 bytes; at most 3"):
        here.read("file", 3)
    assert here.has("file")
    assert not here.has("file/below")
    assert stat.S_ISREG((tmp_path / "file").stat().st_mode)


@pytest.mark.parametrize(
    "text",
    [
        'order = {adopted = "x", time_zone = "UTC"}',
        'order = {adopted = 2026-01-01, time_zone = "../../etc/passwd"}',
        'order = {adopted = 2026-01-01, time_zone = "UTC"}\ntimetable = {day_ahead_local = "9' + "9" * 5_000 + '"}',
        "a = " + "[" * 30_000,
        "a" + ".a" * 40_000 + " = 1",
        "order = 1",
    ],
)
def test_a_hostile_rulebook_is_an_answer(text: str) -> None:
    check = run_check("rules", lambda: (1, str(Rules.parse("2026-01-01.toml", date(2026, 1, 1), text.encode()))))
    assert not check.ok


def test_a_vault_beside_the_record_is_said_and_not_looked_at(run: Run) -> None:
    os.mkfifo(run[0] / "vault" / "pipe")
    report = verify_directory(run[0])
    assert report.ok
    assert "vault/ holds the operator's secrets" in report.checks[-1].detail
    shutil.rmtree(run[0] / "vault")
    assert verify_directory(run[0]).checks[-1].detail == "nothing"
