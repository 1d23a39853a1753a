"""`tellegen init` and `tellegen operate` as an operator sees them."""

import io
import json
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("uvicorn")
pytest.importorskip("msgspec")

from rich.console import Console

from tellegen.cli.progress import Progress, line
from tellegen.operations.clock import Simulated
from tellegen.operations.correcting import Corrected
from tellegen.operations.gating import GateClosed
from tellegen.operations.market import DayClosed
from tellegen.operations.process import Event
from tellegen.operations.record import ShardRecord
from tellegen.operations.settling import Settled
from tellegen.operations.timetable import Due, Verb

CUSTOMERS = "customer,node,meter,capacity_kw\nanna,3,1003,17\nbert,5,1005,20\nsubstation,1,1000,100\n"
NOW = 1_459_000_200


@pytest.fixture
def given(tmp_path: Path, street_file: Path) -> list[object]:
    (tmp_path / "customers.csv").write_text(CUSTOMERS)
    return ["--network", street_file, "--customers", tmp_path / "customers.csv"]


def test_init_says_what_it_made_and_what_comes_next(
    tellegen: Callable[..., Any], given: list[object], tmp_path: Path
) -> None:
    answer = tellegen("init", tmp_path / "north", *given, "--origin", "north.example")
    assert answer.status == 0
    assert "shard north.example, feeder street: 2 customers on 6 nodes" in answer.out
    assert "4 private keys" in answer.out
    assert f"next         tellegen operate {tmp_path / 'north'}" in answer.out
    assert answer.err.startswith("tellegen: warning: there are no wholesale prices; append them to prices.csv")
    assert tellegen("registry", "list", tmp_path / "north").status == 0
    answer = tellegen("init", tmp_path / "south", *given, "--json", "--feeder", "S1", "--first-day", "2099-05-01")
    facts = json.loads(answer.out)
    assert (facts["feeder"], facts["first_day"], facts["first_gate"]) == ("S1", "2099-05-01", "2099-04-30 22:00 UTC")


def test_bad_input_is_one_line(tellegen: Callable[..., Any], given: list[object], tmp_path: Path) -> None:
    (tmp_path / "customers.csv").write_text(CUSTOMERS.replace("anna,3", "anna,33"))
    answer = tellegen("init", tmp_path / "north", *given)
    assert (answer.status, answer.out) == (2, "")
    assert answer.err.count("\n") == 1
    assert "customers.csv: line 2, node '33' is not in the network" in answer.err
    assert not (tmp_path / "north").exists()


def test_what_is_no_shard_is_not_operated(tellegen: Callable[..., Any], tmp_path: Path) -> None:
    answer = tellegen("operate", tmp_path)
    assert answer.status == 2
    assert (
        answer.err == f"tellegen: {tmp_path}: directory holds no market; `tellegen init` makes a shard that has one\n"
    )


# Progress

CLEARED = GateClosed(
    bids=7,
    orders=21,
    status=np.array([0, 0, 2]),
    binding=np.array([0, 1, 0]),
    root_wh=np.array([10, 20, 30]),
    low_micros=-12_300,
    mean_micros=83_000,
    high_micros=310_000,
)
SAID = "3 feeders: 1 fallback, 2 optimal; prices -0.0123 / 0.0830 / 0.3100; 7 bids, 21 orders, 1 limits bind"
GATE = Due.of(Verb.CLOSE_REAL_TIME, NOW, NOW // 300)
SETTLE = Due.of(Verb.SETTLE, NOW + 360, NOW // 300)


def test_an_event_is_one_line() -> None:
    gate = Event(NOW + 2, GATE, CLEARED, following=SETTLE)
    assert line(gate) == f"2016-03-26 13:50:02 UTC  close_gate real_time 2016-03-26 13:50  {SAID}"
    closed = Event(NOW, Due.of(Verb.CLOSE_DAY, NOW, 16_886), DayClosed(customers=3, cents=12_345, without_keys=0))
    assert line(closed) == "2016-03-26 13:50:00 UTC  close_day 2016-03-26  3 statements, 123.45 billed"
    settled = Event(NOW, SETTLE, Settled(customers=3, estimated=1, postings=9))
    assert line(settled) == "2016-03-26 13:50:00 UTC  settle 2016-03-26 13:50  3 customers, 1 with estimates"
    run = Due.of(Verb.CORRECT, NOW, NOW)
    assert line(Event(NOW, run, Corrected())) == "2016-03-26 13:50:00 UTC  correct 2016-03-26 13:50"
    assert line(Event(NOW, run, Corrected(readings=2, edits=3))).endswith("13:50  2 late readings, 3 edits")
    assert line(Event(NOW, warning="prices end")) == "2016-03-26 13:50:00 UTC  warning: prices end"


def test_a_pipe_gets_a_line_per_event(tmp_path: Path) -> None:
    out = io.StringIO()
    with Progress(tmp_path, Console(file=out, soft_wrap=True, highlight=False, markup=False)) as progress:
        progress.begin("http://127.0.0.1:8440", Simulated(NOW))
        progress.tell(Event(NOW, GATE, CLEARED))
        progress.tell(Event(NOW, warning="prices end"))
    assert out.getvalue().splitlines() == [
        f"2016-03-26 13:50:00 UTC  {tmp_path}: intake at http://127.0.0.1:8440",
        f"2016-03-26 13:50:00 UTC  close_gate real_time 2016-03-26 13:50  {SAID}",
        "2016-03-26 13:50:00 UTC  warning: prices end",
    ]


def test_a_terminal_gets_a_panel(tmp_path: Path) -> None:
    out = io.StringIO()
    console = Console(file=out, force_terminal=True, width=160, highlight=False, markup=False)
    with Progress(tmp_path, console) as progress:
        progress.begin("http://127.0.0.1:8440", Simulated(NOW))
        progress.tell(Event(NOW, GATE, CLEARED, following=SETTLE))
        progress.tell(Event(NOW, warning="prices end"))
        console.print(progress.panel())
    shown = out.getvalue()
    for words in (
        "intake at http://127.0.0.1:8440",
        "13:50  3 feeders: 1 fallback",
        "settle 2016-03-26 13:50 at",
        "prices end",
    ):
        assert words in shown


# In processes


def test_a_shard_is_operated_by_one_process_until_it_is_told_to_stop(
    tellegen: Callable[..., Any], given: list[object], tmp_path: Path
) -> None:
    """Intake and market run, a second operator is refused, SIGTERM ends both, and the record opens again."""
    shard = tmp_path / "north"
    assert tellegen("init", shard, *given).status == 0
    command = [sys.executable, "-c", "from tellegen.cli import main; main()", "operate", str(shard), "--port", "0"]
    with subprocess.Popen([*command, "--accelerate", "300"], stdout=subprocess.PIPE, text=True) as running:
        assert running.stdout is not None
        said = iter(running.stdout)
        assert "intake at http://127.0.0.1:" in next(said)
        refused = tellegen("operate", shard)
        assert (refused.status, refused.out) == (2, "")
        assert refused.err == (
            f"tellegen: {shard}: shard is operated by process {running.pid} already; end that one first\n"
        )
        settled = next(line for line in said if " settle " in line)
        assert "2 customers, 2 with estimates" in settled
        running.send_signal(signal.SIGTERM)
        rest = running.communicate(timeout=60)[0]
    assert running.returncode == 0
    assert "Traceback" not in rest
    with ShardRecord.open(shard, write=True) as record:  # nobody writes any more
        assert len(list(record.journal.find(kind="clearings"))) >= 1
