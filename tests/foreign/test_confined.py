"""A confined process can do nothing but answer: code that tries is run inside it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from attempts import ATTEMPTS

from tellegen.errors import InputError
from tellegen.foreign.barriers import offered
from tellegen.foreign.confined import MIB, Confined, Limits, printable

both = pytest.mark.skipif(bool(offered().missing), reason=f"the system has no {offered().missing}")


@pytest.fixture(scope="module")
def inside() -> Iterator[Confined]:
    with Confined("attempts:attempt", "file", "the parser") as process:
        yield process


@both
@pytest.mark.parametrize("name", ATTEMPTS)
def test_nothing_opens_behind_the_barriers(name: str, inside: Confined, tmp_path: Path) -> None:
    """Files of the parser's own user, sockets, processes, signals, libraries."""
    path = tmp_path / "secret"
    path.write_text("known to the user alone")
    answer = inside.ask(f"{name}|{path}".encode()).decode()
    assert answer in ("PermissionError", "OSError", "BlockingIOError")
    assert path.read_text() == "known to the user alone"
    assert [p.name for p in tmp_path.iterdir()] == ["secret"]


@pytest.fixture(scope="module")
def threaded() -> Iterator[Confined]:
    with Confined("attempts:attempt_with_threads", "file", "the parser", Limits(threads=True)) as process:
        yield process


@both
@pytest.mark.parametrize("name", ATTEMPTS)
def test_nothing_opens_in_any_thread(name: str, threaded: Confined, tmp_path: Path) -> None:
    if not threaded.barriers.seccomp:
        pytest.skip("calls of threads are not filtered on this architecture")
    path = tmp_path / "secret"
    path.write_text("known to the user alone")
    assert threaded.ask(b"thread|") == b"done"
    answer = threaded.ask(f"{name}|{path}".encode()).decode()
    assert answer in ("PermissionError", "OSError", "BlockingIOError")
    assert path.stat().st_mode & 0o777 != 0o777
    assert [p.name for p in tmp_path.iterdir()] == ["secret"]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the system has no Landlock and no seccomp")
@pytest.mark.parametrize("alone", ["landlock", "seccomp"])
def test_either_barrier_keeps_files_shut_alone(alone: str, tmp_path: Path) -> None:
    """Where a kernel has only one of the two, files stay shut all the same."""
    import subprocess

    if not getattr(offered(), alone):
        pytest.skip(f"the system has no {alone}")
    gone = "Barriers(0, True)" if alone == "seccomp" else f"Barriers({offered().landlock}, False)"
    path = tmp_path / "secret"
    path.write_text("x")
    code = (
        "import tellegen.foreign.barriers as b, os\n"
        f"from tellegen.foreign.barriers import Barriers\nb.offered = lambda: {gone}\n"
        f"assert b.raise_barriers() == {gone}\n"
        f"for flags in (os.O_RDONLY, os.O_WRONLY):\n try: os.open({str(path)!r}, flags)\n"
        " except PermissionError: print('shut')\n"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env={"PYTHONPATH": _source()})
    assert told.stdout == "shut\nshut\n", told.stderr


def _source() -> str:
    import tellegen

    return str(Path(tellegen.__file__).parents[1])


def test_no_environment_and_no_file_of_the_parent_is_inside(inside: Confined, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TELLEGEN_SECRET", "x")
    with Confined("attempts:attempt", "file", "the parser") as process:
        inherited = process.ask(b"environment|").decode().split()
    assert not [name for name in inherited if "TELLEGEN" in name or name in ("HOME", "PATH")]
    # Standard input, output and error, and the line for answers.
    assert int(inside.ask(b"open files|")) <= 5


ENDS = {
    "crash": "crashed on it (signal",
    "forever": "1 s of processor time",
    "asleep": "took more than 4 s",
    "much": "answers with more than it may",
}


@both
@pytest.mark.parametrize("name", ENDS)
def test_a_crash_and_every_limit_is_one_line(name: str) -> None:
    # Whoever does not work gets a short time; who works gets time for a busy machine, and little of the processor.
    limits = Limits(wall_s=4.0 if name == "asleep" else 120.0, cpu_s=1, answer_bytes=MIB)
    process = Confined("attempts:attempt", "feeder.dss", "OpenDSS", limits)
    with process, pytest.raises(InputError) as refusal:
        process.ask(f"{name}|".encode())
    assert str(refusal.value).startswith("feeder.dss: OpenDSS ")
    assert ENDS[name] in str(refusal.value)
    assert len(str(refusal.value).splitlines()) == 1


def test_memory_is_bounded(inside: Confined) -> None:
    with pytest.raises(InputError, match="memory"):
        inside.ask(b"memory|")
    assert inside.ask(b"environment|") is not None  # it lives on


def test_a_request_beyond_the_limit_is_not_sent() -> None:
    with Confined("attempts:attempt", "f", "it", Limits(request_bytes=10)) as process, pytest.raises(InputError):
        process.ask(b"x" * 11)


def test_a_parser_that_cannot_be_started_is_named_in_one_line() -> None:
    with Confined("attempts:broken", "f", "it") as process, pytest.raises(InputError) as refusal:
        process.ask(b"")
    assert "the engine is not there" in str(refusal.value)
    assert "\x1b" not in str(refusal.value)


def test_foreign_words_are_one_harmless_line() -> None:
    assert printable("a\n\x1b[2J\u202eb") == "a \\x1b[2J\\u202eb"
    assert len(printable("x" * 10_000)) == 300
