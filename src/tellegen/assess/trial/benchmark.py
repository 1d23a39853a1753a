"""Benchmark ``trial``: thousands of random books, each outcome judged, each failure named so that it can be repeated.

A book is called ``GROUND:NUMBER``; `--only` tries one and says all that was asked of it. Books run on all cores, a
ground's books in shares of `SHARE`; what a share comes to depends on nothing but its books.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import FIRST_COMPLETED, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from functools import cache
from importlib.util import find_spec

import numpy as np

from tellegen.assess.registry import Figure, Options, Report
from tellegen.assess.replay import ThreePhaseReplay
from tellegen.assess.trial.again import quotient_errors, warm_errors
from tellegen.assess.trial.books import Market, draw_market
from tellegen.assess.trial.circuit import Circuit
from tellegen.assess.trial.grounds import ground_of, names
from tellegen.assess.trial.judge import judge, place_demand
from tellegen.assess.trial.questions import ALLOWED, Answer, Question
from tellegen.assess.trial.settled import settled_errors
from tellegen.errors import InputError, TellegenError, WorkerError
from tellegen.grid.threads import one_thread
from tellegen.market import Clearing, Scenario
from tellegen.records import ClearingStatus
from tellegen.spawned import pooled

BOOKS, BOOKS_QUICK, BOOKS_MAX = 1000, 40, 1_000_000
SHARE = 20
WARM_EACH, QUOTIENT_EACH = 5, 25
"""Every so many books are cleared again from another start, and for difference quotients."""
NAMED_MAX = 20
"""So many failed books of one question are named."""
PROGRESS_S = 10.0


@dataclass(frozen=True, slots=True)
class Tried:
    """What one book came to: the worst answer to each question that was asked of it."""

    name: str
    status: str
    answers: tuple[Answer, ...]
    cpu_s: float


def try_book(ground: str, number: int, *, everything: bool = False) -> Tried:
    """Draw, clear and judge one book; `everything` asks also what only every so many books are asked."""
    name = f"{ground}:{number}"
    market = draw_market(ground_of(ground), number)
    start = time.process_time()
    try:
        outcome = market.clear()
    except TellegenError as error:
        return Tried(name, "REFUSED", (Answer(Question.ENDS, 1.0, str(error)),), time.process_time() - start)
    spent = time.process_time() - start
    answers = list(judge(market, outcome, Circuit(market.network, market.loads, market.book.connections)))
    if outcome.status != ClearingStatus.FALLBACK:
        if everything or number % WARM_EACH == 0:
            answers += warm_errors(market, outcome, number)
        if everything or number % QUOTIENT_EACH == 0:
            answers += quotient_errors(market, outcome)
        answers += _replayed(ground, market, outcome)
    answers += settled_errors(market, number)
    return Tried(name, outcome.status.name, tuple(_worst(answers)), spent)


def _worst(answers: Iterable[Answer]) -> Iterable[Answer]:
    kept: dict[Question, Answer] = {}
    for answer in answers:
        if answer.question not in kept or not answer.error <= kept[answer.question].error:
            kept[answer.question] = answer
    return kept.values()


@cache
def _opendss(ground: str) -> ThreePhaseReplay | None:
    at = ground_of(ground)
    if at.script is None or len(at.connections) or find_spec("dss") is None:
        return None
    return ThreePhaseReplay(at.networks[0], at.script, at.place)


def _replayed(ground: str, market: Market, outcome: Clearing) -> Iterable[Answer]:
    replay = _opendss(ground)
    if replay is None or market.loads is not None:
        return
    demand = place_demand(market, outcome, Scenario.DISPATCH)
    try:
        yield Answer(Question.REPLAY, replay.voltage_error_pu(demand, outcome.flow.voltage))
    except InputError as failure:
        yield Answer(Question.REPLAY, 1.0, str(failure))


def try_books(ground: str, numbers: range) -> list[Tried]:
    """A worker's share."""
    return [try_book(ground, number) for number in numbers]


@dataclass(slots=True)
class Tally:
    """What all books came to so far."""

    status: Counter[str] = field(default_factory=Counter)
    asked: Counter[Question] = field(default_factory=Counter)
    worst: dict[Question, tuple[str, Answer]] = field(default_factory=dict)
    failed: Counter[Question] = field(default_factory=Counter)
    named: list[str] = field(default_factory=list)
    bad: int = 0
    cpu_s: list[float] = field(default_factory=list)
    slowest: str = ""

    def add(self, tried: Tried) -> list[str]:
        """Count a book; its failures in words, of each question so many as are named."""
        self.status[tried.status] += 1
        if tried.cpu_s >= max(self.cpu_s, default=0.0):
            self.slowest = tried.name
        self.cpu_s.append(tried.cpu_s)
        failures = []
        for answer in tried.answers:
            question = answer.question
            self.asked[question] += 1
            if question not in self.worst or not answer.error <= self.worst[question][1].error:
                self.worst[question] = (tried.name, answer)
            if not answer.passed:
                self.failed[question] += 1
                if self.failed[question] <= NAMED_MAX:
                    failures.append(f"FAILED {tried.name}: {question}: {answer.error:.3g} {answer.where}")
        self.named += failures
        self.bad += bool(any(not answer.passed for answer in tried.answers))
        return failures


def measure(options: Options, report: Report) -> None:
    """All figures of the benchmark."""
    grounds = names(options.networks)
    if options.only:
        ground, colon, number = options.only.rpartition(":")
        if not colon or not number.isdecimal() or ground not in grounds:
            raise InputError("--only", options.only, f"must be GROUND:NUMBER, ground one of {', '.join(grounds)}")
        tried = try_book(ground, int(number), everything=True)
        tally = Tally()
        tally.add(tried)
        report.notes += [f"{answer.question}: {answer.error:.3g} {answer.where}" for answer in tried.answers]
        _report(tally, report)
        return
    books = options.books or (BOOKS_QUICK if options.quick else BOOKS)
    if books > BOOKS_MAX:
        raise InputError("--books", str(books), f"must be at most {BOOKS_MAX}")
    _report(_run(_shares(grounds, books, report), books, options), report)


def _shares(grounds: list[str], books: int, report: Report) -> list[tuple[str, range]]:
    """Shares of all grounds in turn; a ground that cannot be read is a note."""
    usable = []
    for ground in grounds:
        try:
            ground_of(ground)
        except TellegenError as error:
            report.notes.append(f"left out: {error}")
            continue
        usable.append(ground)
    each = [books // len(usable) + (k < books % len(usable)) for k in range(len(usable))]
    shares = [
        (ground, range(first, min(first + SHARE, count)))
        for ground, count in zip(usable, each, strict=True)
        for first in range(0, count, SHARE)
    ]
    return sorted(shares, key=lambda share: share[1].start)


def _run(shares: list[tuple[str, range]], books: int, options: Options) -> Tally:
    tally, told = Tally(), time.monotonic()
    cores = max(1, min(os.cpu_count() or 1, len(shares)))
    with one_thread(), pooled(cores) as pool:
        open_shares = {pool.submit(try_books, *share): share for share in shares}
        try:
            while open_shares:
                for done in wait(open_shares, return_when=FIRST_COMPLETED).done:
                    for tried in done.result():
                        for failure in tally.add(tried):
                            options.progress(failure)
                    del open_shares[done]
                if time.monotonic() - told > PROGRESS_S:
                    told = time.monotonic()
                    options.progress(f"{tally.status.total():,} of {books:,} books, {tally.bad} failed")
        except BrokenProcessPool:
            lost = ", ".join(
                f"{ground}:{numbers.start} to {numbers.stop - 1}" for ground, numbers in open_shares.values()
            )
            raise WorkerError(f"a worker died in one of the books {lost[:300]}; repeat them with --only") from None
    return tally


def _report(tally: Tally, report: Report) -> None:
    books = tally.status.total()
    for status in (*(status.name for status in ClearingStatus), "REFUSED"):
        if tally.status[status] or status == ClearingStatus.FALLBACK.name:
            target = 0.0 if status in (ClearingStatus.FALLBACK.name, "REFUSED") else None
            report.figures.append(
                Figure(f"books that end {status.lower()}", tally.status[status], f"of {books}", target)
            )
    for question in Question:
        if question not in tally.worst:
            continue
        name, answer = tally.worst[question]
        report.figures.append(
            Figure(
                str(question),
                answer.error,
                "largest",
                target=ALLOWED[question] if np.isfinite(ALLOWED[question]) else None,
                conditions={
                    "asked": tally.asked[question],
                    "failed": tally.failed[question],
                    "book": name,
                    "at": answer.where,
                },
            )
        )
    report.notes += tally.named
    unnamed = tally.failed.total() - len(tally.named)
    if unnamed:
        report.notes.append(f"FAILED {unnamed} answers more: those beyond the first {NAMED_MAX} of a question")
    spread = {"p99": float(np.quantile(tally.cpu_s, 0.99)), "max": float(np.max(tally.cpu_s))}
    cpu_ms = {key: 1000 * value for key, value in spread.items()}
    report.figures.append(
        Figure(
            "CPU of a clearing",
            1000 * float(np.median(tally.cpu_s)),
            "ms",
            spread=cpu_ms,
            conditions={"slowest": tally.slowest},
        )
    )
