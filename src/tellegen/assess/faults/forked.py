"""Processes that are killed again and again, forked from one that has loaded the program: a life costs what it does."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

_FORKS = """
import os, sys
from {module} import {function}
for line in sys.stdin:
    if not (child := os.fork()):
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        print(os.getpid(), flush=True)
        {function}(line.removesuffix("\\n"), lambda words: print(words, flush=True))
        os._exit(0)
    os.waitpid(child, 0)
    print("ended", flush=True)
"""


@dataclass(slots=True)
class Life:
    """One process, from its start to its end.

    Attributes
    ----------
    process : its number. ended : whether it is known to be gone; its number may then be another's.
    killed : whether it was from here.
    """

    process: int
    _told: IO[str]
    ended: bool = False
    killed: bool = False

    def line(self) -> str:
        """The next line that it says; empty once it has ended."""
        said = "" if self.ended else self._told.readline().rstrip("\n")
        self.ended = self.ended or said in ("", "ended")
        return "" if self.ended else said

    def wait(self) -> None:
        """Returns when it has ended by itself."""
        while self.line():
            pass

    def kill(self) -> None:
        """Signal 9; returns when the process is gone."""
        if not self.ended:
            self.killed = True
            with suppress(ProcessLookupError):
                os.kill(self.process, signal.SIGKILL)
            self.wait()


Start = Callable[[str], Life]


@contextmanager
def forking(module: str, function: str) -> Iterator[Start]:
    """Starts processes that run a function of a module on a line, one at a time; the last is killed at the end.

    Parameters
    ----------
    function : takes the line, and what to say lines with.
    """
    source = str(Path(__file__).parents[3])
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([source, os.environ.get("PYTHONPATH", "")])}
    command = [sys.executable, "-c", _FORKS.format(module=module, function=function)]
    lives: list[Life] = []
    with subprocess.Popen(  # noqa: S603 (our own)
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    ) as process:
        asked, told = process.stdin, process.stdout
        assert asked is not None
        assert told is not None

        def start(line: str) -> Life:
            print(line, file=asked, flush=True)
            lives.append(Life(int(told.readline()), told))
            return lives[-1]

        try:
            yield start
        finally:
            for life in lives[-1:]:
                life.kill()
            asked.close()
