"""Changed files before `verify`: is each change found and named, and does every verification come to its end?"""

from __future__ import annotations

import os
import random
import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path

from tellegen.assess.faults.changes import Change, Files, made
from tellegen.assess.faults.finished import Ground
from tellegen.errors import WorkerError
from tellegen.spawned import spawned
from tellegen.verify import Check, verify_directory

SECONDS_MAX = 120.0
"""After which a verification counts as one that hangs: some hundred times what it takes."""
_NOT_CHECKED = "not checked, because"
_BESIDE_EVERY = 10
"""For so many changes of files that are looked at one of a file that is not."""


class Outcome(StrEnum):
    """What `verify` made of a change."""

    NAMED = "found and named"
    FOUND = "found, not named"
    MISSED = "not found"
    BROKE = "broke the verification"
    HUNG = "took too long"
    STILL_TRUE = "still true"


@dataclass(frozen=True, slots=True)
class Judgement:
    """A change and its outcome; `why`: what was said, or why nothing was to be said."""

    kind: str
    words: str
    looked_at: bool
    outcome: Outcome
    why: str


def judge(ground: Ground, copy: Path, change: Change) -> Judgement:
    """Verify a copy with a change, under the keys that are known from elsewhere."""
    with made(change, copy):
        try:
            report = verify_directory(copy, key=ground.key, market_key=ground.market_key, witnesses=ground.witnesses)
        except Exception as error:  # it says that it never raises for what is inside the directory
            why = f"{type(error).__name__}: {error}"
            return Judgement(change.kind.name, change.words, not change.kind.passed_over, Outcome.BROKE, why)
    failed = [check for check in report.checks if not check.ok and not check.detail.startswith(_NOT_CHECKED)]
    told = next((check for check in failed if names(change, check)), failed[0] if failed else None)
    if report.ok:
        reason = change.still_true
        if not reason and change.kind.name == "cosignatures" and not ground.witnesses:
            reason = "no witness's key was given"
        outcome, why = Outcome.STILL_TRUE if reason else Outcome.MISSED, reason
    else:
        outcome = Outcome.NAMED if told is not None and names(change, told) else Outcome.FOUND
        why = "" if told is None else f"{told.name}: {told.detail}"
    return Judgement(change.kind.name, change.words, not change.kind.passed_over, outcome, why)


def names(change: Change, check: Check) -> bool:
    """Whether a failed check is of the journal in which the changed file lies, and says its name or what it is of."""
    for name in change.files:
        market, inner = name.startswith("market/"), name.removeprefix("market/")
        of_its_journal = check.name.startswith("market: ") == market
        if of_its_journal and any(word in check.detail for word in change.kinds[name].words):
            return True
        if name in check.detail or (market and check.name.startswith("market: ") and inner in check.detail):
            return True
    return False


def drawn(files: Files, seed: int, number: int) -> Change:
    """The change of a number; one of some is of a file at which verification does not look."""
    chance = random.Random(f"{seed} {number}")  # noqa: S311 (repeatable on purpose)
    beside = any(kind.passed_over for kind in files.names)
    return files.draw(chance, looked_at=not (beside and number % _BESIDE_EVERY == _BESIDE_EVERY - 1))


def judged(
    ground: Ground, scratch: Path, flips: int, *, seed: int = 0, processes: int = 0, seconds_max: float = SECONDS_MAX
) -> Iterator[Judgement]:
    """Change a directory in so many ways, one at a time; what came of each, in any order.

    Parameters
    ----------
    scratch : an empty folder for copies. flips : changes of files that verification looks at; a tenth of it besides is
        of files at which it does not. processes : that verify; 0: one for each core.

    Raises
    ------
    WorkerError : a process ended by itself.
    """
    files = Files.of(ground.path, ground.earlier)
    beside = any(kind.passed_over for kind in files.names)
    waiting = iter(range(flips + (flips // (_BESIDE_EVERY - 1) if beside else 0)))
    base, count = Path(shutil.copytree(ground.path, scratch / "base")), 0
    at_work: dict[Connection, tuple[BaseProcess, int, float]] = {}

    def start() -> None:
        nonlocal count
        number = next(waiting, None)
        if number is not None:
            count += 1
            process, channel = spawned(verify_changed, ground, base, scratch / f"copy {count}", seed)
            hand(process, channel, number)

    def hand(process: BaseProcess, channel: Connection, number: int) -> None:
        channel.send(number)
        # until it has loaded the program it verifies nothing
        at_work[channel] = process, number, time.monotonic() + seconds_max

    try:
        for _ in range(processes or os.cpu_count() or 1):
            start()
        while at_work:
            soonest = min(late for _, _, late in at_work.values())
            ready = wait(list(at_work), timeout=max(soonest - time.monotonic(), 0.0))
            for channel in ready:
                assert isinstance(channel, Connection)
                process, number, _ = at_work.pop(channel)
                try:
                    yield channel.recv()
                except EOFError:
                    change = drawn(files, seed, number)
                    raise WorkerError(f"verification ended by itself: {change.words}") from None
                following = next(waiting, None)
                if following is None:
                    channel.send(None)
                    process.join()
                else:
                    hand(process, channel, following)
            for channel, (process, number, late) in list(at_work.items()):
                if time.monotonic() > late and not channel.poll():
                    del at_work[channel]
                    process.kill()
                    process.join()
                    change = drawn(files, seed, number)
                    looked_at = not change.kind.passed_over
                    yield Judgement(change.kind.name, change.words, looked_at, Outcome.HUNG, f"{seconds_max:g} s")
                    start()
    finally:
        for process, _, _ in at_work.values():
            process.kill()
            process.join()


def verify_changed(channel: Connection, ground: Ground, base: Path, copy: Path, seed: int) -> None:
    """In a process: judge the changes whose numbers come in."""
    shutil.copytree(base, copy, copy_function=os.link)
    files = Files.of(base, ground.earlier)
    while (number := channel.recv()) is not None:
        channel.send(judge(ground, copy, drawn(files, seed, number)))


def misses(judgements: Sequence[Judgement]) -> list[Judgement]:
    """Those that were not found and named."""
    return [each for each in judgements if each.outcome not in (Outcome.NAMED, Outcome.STILL_TRUE)]
