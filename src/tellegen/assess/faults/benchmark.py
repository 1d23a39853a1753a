"""Benchmark ``faults``: what journal, intake and market break when everything goes wrong; the target is nothing."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TypeVar

from tellegen.assess.faults.finished import Ground, play_finished
from tellegen.assess.faults.flips import flip_bits
from tellegen.assess.faults.intake_world import IntakeTally, shard_for_worlds, simulate_intake
from tellegen.assess.faults.kills import kill_rounds, writer_command
from tellegen.assess.faults.market_world import Founded, MarketTally, simulate_market
from tellegen.assess.faults.promises import ContradictionError
from tellegen.assess.faults.simulation import Tally, simulate
from tellegen.assess.faults.verified import Judgement, Outcome, judged, misses
from tellegen.assess.faults.worlds import played
from tellegen.assess.registry import Figure, Options, Report
from tellegen.errors import InputError
from tellegen.verify import verify_directory

_SEEDS, _INTAKE_SEEDS, _MARKET_SEEDS, _KILLS = 2000, 300, 100, 100
_FLIPS, _NOTES_MAX = 1000, 20
_Happened = dict[str, str | float]
TallyT = TypeVar("TallyT", Tally, IntakeTally, MarketTally)


def measure(options: Options, report: Report) -> None:
    """Simulated worlds, flipped bits, changed files, killed processes; with `flips`, changed files alone."""
    if options.flips:
        _files(options.flips, options, report)
        return
    seeds = options.seeds or (50 if options.quick else _SEEDS)
    _worlds("a journal", seeds, simulate, Tally(), options, report)
    seeds = options.seeds or (5 if options.quick else _INTAKE_SEEDS)
    with tempfile.TemporaryDirectory() as folder:
        keys = shard_for_worlds(Path(folder) / "shard")
        _worlds("an intake", seeds, partial(simulate_intake, keys), IntakeTally(), options, report)
    seeds = options.seeds or (5 if options.quick else _MARKET_SEEDS)
    with tempfile.TemporaryDirectory() as folder:
        founded = Founded.at(Path(folder))
        _worlds("a market", seeds, partial(simulate_market, founded), MarketTally(), options, report)

    options.progress("flipping bits")
    flips = flip_bits(step=97 if options.quick else 1)
    report.notes += [f"not named: {place}" for place in flips.missed[:10]]
    bits: _Happened = dict(flips.flipped)
    report.figures.append(
        Figure(f"flipped bits of {flips.flipped.total()} not named", len(flips.missed), "", 0.0, conditions=bits)
    )
    _files(10 if options.quick else _FLIPS, options, report)
    kills = options.kills or (3 if options.quick else _KILLS)
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        _kills("a writer", kills, lambda: _of_writer(run, kills, options), report)
        if find_spec("uvicorn") is None:
            report.notes.append("no server was killed: install tellegen with the extra `service`")
        else:
            _kills("a server under load", kills, lambda: _of_servers(Path(folder) / "shard", kills, options), report)
            what = "the processes of a shard, under a clock that stands meanwhile"
            _kills(what, kills, lambda: _of_markets(Path(folder) / "standing", kills, options), report)
            running = max(kills // 10, 1)
            what = "a market, under a clock that runs on"
            _kills(what, running, lambda: _of_running(Path(folder) / "running", running, options), report)


def _files(flips: int, options: Options, report: Report) -> None:
    """Files of a finished shard, changed one at a time and verified."""
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder) / "copies"
        scratch.mkdir()
        if options.directory is None:
            options.progress("playing a shard, of which files will be changed")
            ground = play_finished(Path(folder))
        else:
            ground = Ground.of(options.directory)
        if not verify_directory(ground.path, key=ground.key, market_key=ground.market_key).ok:
            raise InputError(ground.path, "directory", "does not verify as it is; see `tellegen verify`")
        judgements: list[Judgement] = []
        for judgement in judged(ground, scratch, flips):
            judgements.append(judgement)
            if len(judgements) % 100 == 0:
                options.progress(f"{len(judgements)} files changed")
    read = [each for each in judgements if each.looked_at]
    for kind in sorted({each.kind for each in read}):
        report.figures.append(_figure([each for each in read if each.kind == kind], f"{kind}: "))
    report.figures.append(_figure(read, "in all, "))
    beside: _Happened = dict(Counter(_beside(each) for each in judgements if not each.looked_at))
    name = "changed files at which verification does not look"
    report.figures.append(Figure(name, len(judgements) - len(read), "", conditions=beside))
    told = sorted((each for each in read if each.outcome is not Outcome.NAMED), key=lambda each: each.outcome)
    report.notes += [f"{each.outcome}: {each.words}; {each.why}" for each in told[:_NOTES_MAX]]


def _beside(judgement: Judgement) -> str:
    return f"{judgement.kind}: {judgement.why if judgement.outcome is Outcome.STILL_TRUE else judgement.outcome}"


def _figure(judgements: Sequence[Judgement], what: str) -> Figure:
    happened: _Happened = dict(Counter(str(each.outcome) for each in judgements))
    name = f"{what}{len(judgements)} changed files, not found or not named"
    return Figure(name, len(misses(judgements)), "", 0.0, conditions=happened)


def _worlds(
    what: str, seeds: int, play: Callable[[int], TallyT], tally: TallyT, options: Options, report: Report
) -> None:
    broken = 0
    for number, came in enumerate(played(play, range(seeds)), 1):
        if isinstance(came, str):
            broken += 1
            report.notes.append(came)
        else:
            tally.add(came)
        if number % 100 == 0:
            options.progress(f"{number} worlds of {what}")
    happened: _Happened = {name.replace("_", " "): count for name, count in asdict(tally).items()}
    name = f"promises broken in {seeds} simulated worlds of {what}"
    report.figures.append(Figure(name, broken, "", 0.0, conditions=happened))


def _kills(what: str, kills: int, run: Callable[[], _Happened], report: Report) -> None:
    broken, happened = 0, _Happened()
    try:
        happened = run()
    except ContradictionError as error:
        broken = 1
        report.notes.append(str(error))
    report.figures.append(Figure(f"promises broken by {kills} kills of {what}", broken, "", 0.0, conditions=happened))


def _of_writer(run: Path, kills: int, options: Options) -> _Happened:
    killed = kill_rounds(writer_command(run), run, kills, progress=options.progress)
    return {"receipts": killed.receipts, "entries": killed.entries}


def _of_servers(folder: Path, kills: int, options: Options) -> _Happened:
    from tellegen.assess.faults.servers import server_rounds

    killed = server_rounds(folder, kills, progress=options.progress)
    return {name.replace("_", " "): count for name, count in asdict(killed).items()}


def _of_markets(folder: Path, kills: int, options: Options) -> _Happened:
    from tellegen.assess.faults.hamlet_play import END
    from tellegen.assess.faults.market_kills import HOUR, standing_rounds

    lengths = (HOUR,) if options.quick else (HOUR, END, HOUR)
    killed = standing_rounds(folder, kills, lengths=lengths, progress=options.progress)
    return dict(asdict(killed))


def _of_running(folder: Path, kills: int, options: Options) -> _Happened:
    from tellegen.assess.faults.market_kills import running_rounds

    killed = running_rounds(folder, kills, progress=options.progress)
    return {"worlds": killed.worlds, "markets killed": killed.markets, "gates missed and flagged": killed.missed}
