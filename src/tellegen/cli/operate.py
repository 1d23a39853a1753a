"""``tellegen init`` makes a shard from a network file; ``tellegen operate`` runs its intake and its market."""

from __future__ import annotations

import json
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tellegen.cli import app, errors
from tellegen.cli.vault import openness, say_if_open
from tellegen.journal.clock import AHEAD_MAX_S, BEHIND_MAX_S, Bounds

if TYPE_CHECKING:
    from tellegen.operations.clock import Clock

TRIAL_LEAD_S = 5
"""A time for trials begins so long before the first day opens, in seconds as they are counted: until all is ready."""
Directory = Annotated[Path, typer.Argument(help="Directory of a shard.")]


@app.command()
def init(
    directory: Annotated[Path, typer.Argument(help="Directory to make; it must not hold anything yet.")],
    network: Annotated[str, typer.Option(help="*.dss, *.m, *.json, simbench:CODE or pandapower:NAME.")],
    customers: Annotated[Path, typer.Option(help="CSV: customer,node,meter,capacity_kw; docs/operating.md has more.")],
    origin: Annotated[str, typer.Option(help="Name of the shard; it stays for good.")] = "tellegen.example/shard",
    feeder: Annotated[str | None, typer.Option(help="Name of the feeder; else the network's.")] = None,
    rulebook: Annotated[Path | None, typer.Option(help="Folder of rulebook versions; else the default.")] = None,
    prices: Annotated[Path | None, typer.Option(help="CSV of wholesale prices: time,real_time[,day_ahead].")] = None,
    connections: Annotated[
        Path | None, typer.Option(help="CSV of devices, limits, credit, as `registry import` takes it.")
    ] = None,
    reserves: Annotated[
        Path | None, typer.Option(help="CSV of reserve that is asked for: time,product,quantity_kw,price[,feeder].")
    ] = None,
    first_day: Annotated[
        datetime | None, typer.Option(formats=["%Y-%m-%d"], help="First day of the market; else the next possible.")
    ] = None,
    root_limit_kw: Annotated[float | None, typer.Option(min=0.001, help="Largest power through the root.")] = None,
    without_loads: Annotated[
        bool, typer.Option("--without-loads", help="Leave loads of the network file out that have no customer.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document.")] = False,
) -> None:
    """Make a shard that runs: a network, who hangs on it, the rules, wholesale prices."""
    from tellegen.operations.founding import Founding, found_shard

    given = Founding(
        network=network,
        customers=customers,
        origin=origin,
        feeder=feeder,
        rulebook=rulebook,
        prices=prices,
        reserves=reserves,
        connections=connections,
        first_day=None if first_day is None else first_day.date(),
        root_limit_kw=root_limit_kw,
        without_loads=without_loads,
    )
    made = found_shard(directory, given, int(time.time()))
    begins = f"{datetime.fromtimestamp(made.first_gate_at, tz=UTC):%Y-%m-%d %H:%M} UTC"
    if as_json:
        facts = {"directory": str(directory), "origin": origin, "feeder": made.feeder, "customers": made.customers}
        facts |= {"nodes": made.nodes, "first_day": made.first_day.isoformat(), "first_gate": begins}
        facts |= {"price_proof": made.price_proof}
        print(json.dumps({**facts, "keys_made": made.keys_made, "warnings": list(made.warnings)}, indent=2))
        return
    print(f"{directory}: shard {origin}, feeder {made.feeder}: {made.customers:,} customers on {made.nodes:,} nodes")
    print(f"  first day    {made.first_day}; its day-ahead gate closes at {begins}")
    print(f"  keys         {made.keys_made} private keys in {directory / 'keys'}: hand them over, then remove them")
    print(f"  prices       {directory / 'prices.csv'}: append to it while the shard is operated; {made.price_proof}")
    print(f"  authority    {directory / 'vault' / 'authority'}: take it off this machine; then give --authority")
    print(f"  vault        {openness(directory)}")
    print(f"  next         tellegen operate {directory}")
    for warning in made.warnings:
        errors.print(f"tellegen: warning: {warning}")


@app.command()
def operate(
    directory: Directory,
    host: Annotated[str, typer.Option(help="Address on which the intake listens.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Its port; 0 takes a free one.")] = 8440,
    accelerate: Annotated[
        float | None,
        typer.Option(min=1, max=10_000, help="For trials: a time that runs so much faster, from the first day on."),
    ] = None,
    workers: Annotated[
        int, typer.Option(min=0, help="Processes that clear, a day-ahead gate beside real time; 0: this one alone.")
    ] = 0,
    accept_clock: Annotated[
        str,
        typer.Option(metavar="NAME", help="You say that the clock is right although the record says otherwise."),
    ] = "",
    clock_ahead: Annotated[
        int, typer.Option(min=0, help="Seconds by which the clock may be ahead of the newest entry at the start.")
    ] = AHEAD_MAX_S,
    clock_behind: Annotated[int, typer.Option(min=0, help="Seconds by which it may be behind it.")] = BEHIND_MAX_S,
    simulation: Annotated[
        bool, typer.Option("--simulation", help="Operate a shard made from a seed, whose keys protect nothing.")
    ] = False,
) -> None:
    """Run a shard, its intake and its market, by the timetable of its rules; ends cleanly on SIGTERM or Ctrl-C."""
    from tellegen.cli.progress import Progress
    from tellegen.grid import best_engine
    from tellegen.journal.clock import Pace, RecordClock, elapsed_s
    from tellegen.market.qp import load_loops
    from tellegen.operations.clock import Accelerated, Wall
    from tellegen.operations.directory import ShardFiles, read_standing, sole_operator
    from tellegen.operations.directory import accept_clock as say_clock_is_right
    from tellegen.operations.market import Market
    from tellegen.operations.prices import PriceFile
    from tellegen.operations.process import Event, Operator, Verbs
    from tellegen.operations.requirements import ReserveFile
    from tellegen.operations.upkeep import is_due, keep_up
    from tellegen.report.days import days_of_close, publish_days
    from tellegen.rules import PriceProof
    from tellegen.service.child import IntakeProcess

    files, bounds = ShardFiles(directory), Bounds(clock_behind, clock_ahead)
    with sole_operator(directory), _stopped_by_signals() as stop, Progress(directory) as progress:
        if not simulation:
            say_if_open(directory)
        if accept_clock:
            say_clock_is_right(directory, accept_clock, bounds)
        standing = read_standing(directory)
        engine = best_engine()  # before any clock runs: the first time on a machine its loops are compiled
        load_loops(engine)
        options = ["--simulation"] if simulation else []
        options += ["--clock-ahead", str(clock_ahead), "--clock-behind", str(clock_behind)]
        clock: Clock
        if accelerate is None:
            clock = Wall(stop, RecordClock(not_before=standing.newest, bounds=bounds))
        else:
            begin = max(standing.newest, standing.opens_at - round(TRIAL_LEAD_S * accelerate))
            pace = Pace(accelerate, begin, elapsed_s())
            clock, options = Accelerated(pace, stop), [*options, "--pace", str(pace)]

        def warn(line: str) -> None:
            progress.tell(Event(clock.now(), warning=line))

        def keep_up_at_rest() -> None:
            with intake.paused():
                keep_up(directory, clock.now())

        def upkeep(market: Verbs, at: int) -> Callable[[], object] | None:
            # a time for trials does not wait until the intake is back
            wanted = accelerate is None and isinstance(market, Market) and is_due(market, at)
            return keep_up_at_rest if wanted else None

        intake = IntakeProcess(directory, host, port, options, warn)
        try:
            progress.begin(intake.start(), clock)
            today = max(datetime.fromtimestamp(clock.now(), tz=UTC).date(), standing.rulebook.versions[0].effective)
            proof = standing.rulebook.at(today).root_prices
            if proof.proof is PriceProof.NONE:
                warn(f"wholesale prices are {proof.words}")
            Operator(
                lambda: Market.open(directory, processes=workers, engine=engine, timed=accelerate is None),
                clock,
                stop,
                prices=PriceFile(files.prices, standing.rulebook),
                reserves=ReserveFile(files.reserves, standing.feeders, standing.rulebook)
                if files.reserves.exists()
                else None,
                publish=lambda day, at: publish_days(directory, days_of_close(directory, day)),
                upkeep=upkeep,
                tell=progress.tell,
            ).run()
        finally:
            intake.stop()


@contextmanager
def _stopped_by_signals() -> Iterator[threading.Event]:
    """An event that SIGTERM and Ctrl-C set; the verb under way is finished before anything ends."""
    stop = threading.Event()
    before = {each: signal.signal(each, lambda *_: stop.set()) for each in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield stop
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
