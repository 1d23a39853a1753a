"""The operator's intake is a process of its own, and ends with the operator."""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

pytest.importorskip("uvicorn")
pytest.importorskip("msgspec")

from tellegen.errors import InputError
from tellegen.journal import Journal
from tellegen.journal.clock import Pace, elapsed_s
from tellegen.registry import create_shard, open_shard
from tellegen.service.child import IntakeProcess

NOW = 1_459_000_000
TIED = "from tellegen.cli import main; main()"


@pytest.fixture
def shard(tmp_path: Path) -> Path:
    create_shard(tmp_path / "north", "north.example", NOW)
    with open_shard(tmp_path / "north", write=True) as opened:
        opened.journal.commit(NOW)
    return tmp_path / "north"


def test_it_serves_by_the_time_that_it_is_given_and_keeps_its_port(shard: Path):
    said: list[str] = []
    told = threading.Event()

    def tell(line: str) -> None:
        said.append(line)
        told.set()

    pace = Pace(600.0, NOW, elapsed_s())
    intake = IntakeProcess(shard, "127.0.0.1", 0, ["--pace", str(pace)], tell)
    address = intake.start()
    try:
        assert address.startswith("http://127.0.0.1:")
        first = intake.process_id
        os.kill(first, signal.SIGKILL)
        assert told.wait(60)
        assert intake.ready.wait(60)
        assert (intake.address, intake.process_id != first) == (address, True)
    finally:
        intake.stop()
    assert len(said) == 1
    assert said[0].startswith("the intake has ended (status -9")
    with Journal.open(shard) as journal:
        times = [journal.entry(k).known_at for k in range(len(journal))]
    assert all(NOW <= time <= pace.time() for time in times)


def test_an_intake_that_does_not_start_says_why(tmp_path: Path):
    intake = IntakeProcess(tmp_path, "127.0.0.1", 0, [], lambda line: None)
    with pytest.raises(InputError, match=r"intake does not start: .*tmp"):
        intake.start()


def test_it_does_not_outlive_whoever_started_it(shard: Path):
    """Its standard input ends with the operator, however that one ends."""
    command = [sys.executable, "-c", TIED, "serve", str(shard), "--tied", "--pace", f"1@{NOW}@{elapsed_s()!r}"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith(b"tellegen serves ")
        out, err = process.communicate(b"", timeout=60)
    assert (process.returncode, out, err) == (0, b"", b"")
