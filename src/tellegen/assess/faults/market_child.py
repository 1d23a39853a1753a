"""What runs in a process that is to be killed: an intake, a market, or the upkeep of a shard.

Each takes one line: directory, time (`journal.clock.Told` or `Pace`), and what it needs besides.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from datetime import date
from functools import partial
from pathlib import Path

from tellegen.assess.faults.hamlet_play import give_prices
from tellegen.intake.limits import IntakeLimits
from tellegen.journal.clock import Pace, Told
from tellegen.operations.clock import Accelerated, Clock
from tellegen.operations.market import Market
from tellegen.operations.process import Operator
from tellegen.operations.reading import read_day
from tellegen.operations.record import ShardRecord
from tellegen.operations.upkeep import erase, keep_up
from tellegen.privacy import Vault
from tellegen.report.publication import published_of, sign_and_verify, write_tables
from tellegen.service.server import ServerOptions, serve

Say = Callable[[str], None]
_LOOK_S = 0.001


class _Standing:
    """A clock that somebody tells on, once it is said what is waited for."""

    def __init__(self, told: Told, say: Say) -> None:
        self._told, self._say = told, say
        self._since = told.time()

    @property
    def stepped_s(self) -> int:
        """None: it goes where it is told to."""
        return 0

    def now(self) -> int:
        """See `Clock`."""
        return int(self._told.time())

    def elapsed(self) -> float:
        """See `Clock`."""
        return self._told.time() - self._since

    def wait(self, until: int, order: int = 0) -> None:
        """See `Clock`."""
        if self.now() < until:
            self._say(f"waiting {until}")
            while self.now() < until:
                time.sleep(_LOOK_S)


def run_intake(line: str, say: Say) -> None:
    """``DIR TIME``: serve; says its address."""
    folder, clock = line.split()
    options = ServerOptions(limits=IntakeLimits(rows_per_s_max=10**9), simulation=True, pace=Told.parse(clock))
    serve(Path(folder), options, say)


def run_market(line: str, say: Say) -> None:
    """``DIR TIME UNTIL PROCESSES``: operate until a time; says what it waits for, and when it is done."""
    folder, text, until, processes = line.split()
    told, stop = Told.parse(text), threading.Event()
    clock: Clock = Accelerated(told, stop) if isinstance(told, Pace) else _Standing(told, say)
    with Market.open(Path(folder)) as market:
        give_prices(market, clock.now())

    def publish(day: date, at: int) -> None:
        with ShardRecord.open(Path(folder)) as record:
            run = published_of(record)
            write_tables(run, read_day(record, day))
            sign_and_verify(run)

    opened = partial(Market.open, Path(folder), processes=int(processes))
    Operator(opened, clock, stop, publish=publish).run(int(until))
    say("done")


def run_upkeep(line: str, say: Say) -> None:
    """``DIR AT CUSTOMER``: compact what may be, and erase a customer, or finish what was begun of it."""
    name, *numbers = line.split()
    folder, (at, customer) = Path(name), map(int, numbers)
    keep_up(folder, at)
    with Vault.open(folder / "vault") as vault:
        held = vault.holds(customer)
    if held:
        erase(folder, customer, at)
    say("done")
