"""Whoever starts processes is outlived by none of them, however it ends."""

import signal
import subprocess
import sys
from concurrent.futures import Future
from pathlib import Path

import pytest

from tellegen.spawned import pooled

WAYS = {
    "a pool": """
with pooled(2) as pool:
    waiting = [pool.submit(pausing) for _ in range(2)]
    [each.result() for each in waiting]
""",
    "a process on a line": """
process, line = spawned(pausing)
process.join()
""",
    "benchmark workers": """
run_together(pausing, [(1,), (2,)])
""",
    "a city's process": """
actors = [Actor(pausing) for _ in range(2)]
actors[0].answer()
""",
}
"""Bodies of a program that starts processes, each of which says so and then does nothing for good."""
PROGRAM = """
import signal, threading
from tellegen.assess.workers import run_together
from tellegen.simulation.city.actors import Actor
from tellegen.spawned import pooled, spawned
def pausing(*given):
    print("begun", flush=True)
    threading.Event().wait()
if __name__ == "__main__":
"""


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM])
def test_nobody_outlives_who_started_it(way: str, end: signal.Signals, tmp_path: Path) -> None:
    """Its output ends once nobody is left to write to it."""
    program = tmp_path / "program.py"
    program.write_text(PROGRAM + "".join(f"    {line}\n" for line in WAYS[way].strip().splitlines()))
    with subprocess.Popen([sys.executable, program], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "begun\n"
        process.send_signal(end)
        process.communicate(timeout=60)
    assert process.returncode == -end


def test_a_pool_that_is_left_by_an_exception_waits_for_nobody() -> None:
    """What is asked of it and not done is given up."""
    asked: list[Future[None]] = []

    def interrupted() -> None:
        with pooled(1) as pool:
            asked.extend(pool.submit(signal.pause) for _ in range(3))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert len(asked) == 3
    assert all(each.done() for each in asked)


def test_a_pool_that_is_left_in_good_order_has_done_what_was_asked() -> None:
    """It waits."""
    with pooled(2) as pool:
        asked = [pool.submit(abs, -k) for k in range(5)]
    assert [each.result() for each in asked] == list(range(5))
