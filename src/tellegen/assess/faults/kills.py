"""Processes killed with signal 9 while they write, again and again over one journal.

The process may be any command that prints, for each record it has promised, one line of JSON with ``entry`` (the log
entry as text) and ``receipt``. Its whole process group is killed, so that a command may start a server besides.
"""

from __future__ import annotations

import json
import os
import random
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tellegen.assess.faults.promises import ContradictionError
from tellegen.journal import Journal, JournalError, check
from tellegen.verify import RefusedError, check_receipt

_START_S_MAX = 60.0


@dataclass(slots=True)
class Killed:
    """What was promised over all rounds, and held.

    rounds : processes killed. receipts : lines printed by them. entries : on record in the end, promised or not.
    """

    rounds: int = 0
    receipts: int = 0
    entries: int = 0
    promised: dict[int, bytes] = field(default_factory=dict, repr=False)


def writer_command(run: Path) -> list[str]:
    """The command of `writer`, for a journal under `run`."""
    return [sys.executable, "-m", "tellegen.assess.faults.writer", str(run)]


def kill_rounds(
    command: Sequence[str],
    run: Path,
    rounds: int,
    *,
    seed: int = 0,
    life_s_max: float = 0.1,
    progress: Callable[[str], None] = lambda words: None,
) -> Killed:
    """Start the command, kill it at a random moment after its first line, and hold the journal to what it printed.

    Parameters
    ----------
    run : directory whose journal the command writes.
    life_s_max : seconds that a process lives at most after its first line.

    Raises
    ------
    ContradictionError : a printed receipt does not verify, or what it proves is not on record.
    """
    chance = random.Random(seed)  # noqa: S311 (repeatable on purpose)
    killed = Killed()
    for number in range(rounds):
        lines = _one_life(command, chance.uniform(0.0, life_s_max))
        killed.rounds += 1
        killed.receipts += len(lines)
        try:
            _hold(run, lines, killed)
        except (JournalError, RefusedError) as error:
            raise ContradictionError(f"after kill {number + 1}: {error}") from error
        if number % 50 == 49:
            progress(f"{number + 1} kills, {killed.receipts} receipts, none contradicted")
    with Journal.open(run) as journal:
        killed.entries = len(journal)
        for index, entry in killed.promised.items():
            if journal.entry_bytes(index) != entry:
                raise ContradictionError(f"entry {index} is not the one that was promised")
    for problem in check(run):
        if not problem.repairable:  # a tail that nobody was promised is what a kill leaves
            raise ContradictionError(f"after the last kill: {problem}")
    return killed


def _one_life(command: Sequence[str], life_s: float) -> list[dict[str, str]]:
    """Whole lines that a process printed before it was killed."""
    process = subprocess.Popen(command, stdout=subprocess.PIPE, start_new_session=True)  # noqa: S603 (the caller's own)
    assert process.stdout is not None
    printed = bytearray()
    deadline = time.monotonic() + _START_S_MAX
    try:
        while (left := deadline - time.monotonic()) > 0:
            if not select.select([process.stdout], [], [], left)[0]:
                break
            chunk = os.read(process.stdout.fileno(), 1 << 16)
            if not chunk:
                raise ContradictionError(f"{command[0]} ended by itself, with status {process.wait()}")
            if not printed:
                deadline = time.monotonic() + life_s
            printed += chunk
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        printed += process.stdout.read()
        process.stdout.close()
        process.wait()
    return [json.loads(line) for line in printed.split(b"\n")[:-1]]


def _hold(run: Path, lines: list[dict[str, str]], killed: Killed) -> None:
    with Journal.open(run) as journal:
        for line in lines:
            entry = line["entry"].encode()
            proven = check_receipt(line["receipt"], entry, journal.verifier.vkey)
            if killed.promised.setdefault(proven.index, entry) != entry:
                raise ContradictionError(f"entry {proven.index} was promised to two batches")
            if journal.entry_bytes(proven.index) != entry:
                raise ContradictionError(f"entry {proven.index} is not the one that was promised")
            journal.payload(proven.index)
