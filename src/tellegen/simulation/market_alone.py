"""A scenario's market day by itself, in one process: for whoever plays many and looks at their records."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tellegen.intake.intake import Intake
from tellegen.journal.clock import TRIALS, RecordClock
from tellegen.operations.clock import Simulated
from tellegen.operations.in_process import InProcess
from tellegen.operations.market import Market
from tellegen.simulation.community_shard import build_community_shard, enrolled_at
from tellegen.simulation.course import MARKET_DAY, OpenCounter, World, play_day
from tellegen.simulation.draft import DraftDatabases, DraftStorage
from tellegen.simulation.opening import rested
from tellegen.simulation.operated import ORIGIN
from tellegen.simulation.residents import Before, Residents
from tellegen.simulation.setup import Setup


def play_market(
    setup: Setup, folder: Path, progress: Callable[[int, int], None] = lambda done, of: None
) -> dict[str, float]:
    """Play a scenario's day without the worlds that it is compared with, its report and its correction.

    Parameters
    ----------
    setup : the scenario made ready. folder : for the shard; must not be there yet. Its files need not outlast a crash.
    progress : told of intervals settled, and of how many.

    Returns
    -------
    CPU seconds by stage of the market's verbs in real time; "clear" are gates, "price" are price runs.
    """
    setup, draft = rested(setup), DraftStorage()
    keys, clock = build_community_shard(setup, folder, ORIGIN), Simulated(enrolled_at(setup))

    def time_of_record(newest: int) -> RecordClock:
        return RecordClock(wall=lambda: float(clock.now()), elapsed=clock.elapsed, not_before=newest, bounds=TRIALS)

    with Market.open(folder, storage=draft, databases=DraftDatabases()) as market:
        intake = Intake.open(folder, clock=time_of_record, storage=draft)

        def tick(at: int) -> None:
            if intake.tick(at) is not None:
                intake.commit()

        def told(stage: str, done: int, of: int) -> None:
            if stage == MARKET_DAY:
                progress(done, of)
            else:
                market.stages.taken()  # the day-ahead gate's

        try:
            exchange = InProcess(intake, market.record, receipts=False)
            residents = Residents(setup, Before.of(setup), keys)
            World(setup, residents, OpenCounter(exchange, market, clock), clock).begin()
            play_day(setup, market, clock, told, tick)
        finally:
            intake.close()
        draft.put_down()
        return market.stages.taken()
