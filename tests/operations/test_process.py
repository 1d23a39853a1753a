"""The operator's loop does what is due once, in order, whatever stops it in between."""

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tellegen.errors import TellegenError
from tellegen.journal import JournalError
from tellegen.operations.clock import Simulated
from tellegen.operations.prices import PriceFile
from tellegen.operations.process import Event, Operator, Verbs
from tellegen.operations.refusals import NotYetError
from tellegen.operations.requirements import ReserveFile
from tellegen.operations.timetable import Due, Verb, day_bounds, day_number, due
from tellegen.records import Requirements, RootPrices
from tellegen.rules import Rulebook

BOOK = Rulebook.load()
DAY = date(2016, 3, 26)
BOUNDS = day_bounds(BOOK, DAY)
START = BOUNDS.start * 300
AFTER = START - 600


@dataclass
class Recording:
    """A market that writes down what it is asked to do, and forgets nothing when it is closed."""

    done: list[Due] = field(default_factory=list)
    asked_at: dict[Due, int] = field(default_factory=dict)
    given: list[tuple[str, list[int], list[int], int]] = field(default_factory=list)
    asked: list[tuple[str, str, list[int], int]] = field(default_factory=list)
    opened: int = 0
    closed: int = 0
    refuses: int = 0  # so many verbs from now the disk refuses, once
    heard: Callable[[Due], bool] = lambda what: True

    @contextmanager
    def open(self) -> Iterator["Recording"]:
        self.opened += 1
        try:
            yield self
        finally:
            self.closed += 1

    @property
    def book(self) -> Rulebook:
        return BOOK

    @property
    def first_day(self) -> date:
        return DAY

    @property
    def done_until(self) -> int:
        return AFTER

    def is_done(self, what: Due) -> bool:
        return what in self.asked_at

    @property
    def feeders(self) -> tuple[str, ...]:
        return ("F1",)

    def take_requirements(self, market: str, feeder: str, rows: Requirements, at: int) -> None:
        self.asked.append((market, feeder, rows.quantity_w.tolist(), at - START))

    def take_prices(self, market: str, rows: RootPrices, at: int, provenance: object = None) -> None:
        self.given.append((market, rows.interval.tolist(), rows.micros.tolist(), at))

    def open_day(self, day: date, at: int) -> None:
        self._do(Verb.OPEN_DAY, day_number(day), at)

    def close_gate(self, market: str, period: int, at: int) -> None:
        self._do(Verb.CLOSE_DAY_AHEAD if market == "day_ahead" else Verb.CLOSE_REAL_TIME, period, at)

    @property
    def clearing(self) -> int | None:
        return None

    def work(self, at: int, wait_s: float) -> None:
        raise AssertionError("nothing is being cleared")

    def settle(self, interval: int, at: int) -> None:
        self._do(Verb.SETTLE, interval, at)

    def correct(self, run: int, at: int) -> None:
        self._do(Verb.CORRECT, run, at)

    def close_day(self, day: date, at: int) -> None:
        self._do(Verb.CLOSE_DAY, day_number(day), at)

    def publish(self, day: date, at: int) -> None:
        self._do(Verb.PUBLISH, day_number(day), at)

    def finalise(self, day: date, at: int) -> None:
        self._do(Verb.FINALISE, day_number(day), at)

    def snapshot(self, at: int) -> None:
        self._do(Verb.SNAPSHOT, at, at)

    def _do(self, verb: Verb, key: int, at: int) -> None:
        if self.refuses == 1:
            self.refuses = 0
            raise JournalError("journal: disk: no space left; make room")
        self.refuses = max(self.refuses - 1, 0)
        # the run and the snapshot of a time are those due then; of the others the key says which
        what = next(each for each in WHOLE if each.verb is verb and (each.key == key or verb is Verb.SNAPSHOT))
        if verb is Verb.SNAPSHOT:
            what = next(each for each in WHOLE if each.verb is verb and each not in self.asked_at)
        if not self.heard(what) and not (verb is Verb.CLOSE_REAL_TIME and at > what.at + 240):
            raise NotYetError("the intake's record has not reached it")
        self.done.append(what)
        self.asked_at[what] = at


END = START + 26 * 3600
WHOLE = due(BOOK, AFTER, END, DAY)


class Stop(threading.Event):
    """A stop whose waits take no time."""

    waited = 0.0

    def wait(self, timeout: float | None = None) -> bool:
        self.waited += timeout or 0.0
        return self.is_set()


def operator(market: Recording, clock: Simulated, **given: object) -> tuple[Operator, list[Event]]:
    events: list[Event] = []
    opened: Callable[[], AbstractContextManager[Verbs]] = market.open
    return Operator(opened, clock, Stop(), publish=market.publish, tell=events.append, **given), events


def test_a_day_is_run_by_its_timetable():
    market, clock = Recording(), Simulated(AFTER)
    run, events = operator(market, clock)
    run.run(END)
    assert tuple(market.done) == WHOLE
    assert all(at == what.at for what, at in market.asked_at.items())
    assert [event.due for event in events] == list(WHOLE)
    assert (market.opened, market.closed) == (1, 1)
    assert events[0].following == WHOLE[1]


def test_who_publishes_nothing_says_nothing_of_it():
    market, events = Recording(), []
    Operator(market.open, Simulated(AFTER), Stop(), tell=events.append).run(END)
    assert tuple(market.done) == tuple(each for each in WHOLE if each.verb is not Verb.PUBLISH)
    assert len(events) == len(market.done)


def test_a_wall_clock_that_jumps_is_told_once():
    class Jumping(Simulated):
        @property
        def stepped_s(self) -> int:
            return self.now() - START if START + 1000 < self.now() < START + 2000 else 0

    market = Recording()
    run, events = operator(market, Jumping(AFTER))
    run.run(START + 3000)
    assert [(event.at - START, event.warning) for event in events if event.warning] == [
        (1200, "the wall clock has jumped by 1200 s and is not followed; set it right")
    ]


def test_acts_of_the_world_come_before_the_gate_that_they_are_for():
    market, clock = Recording(), Simulated(AFTER)
    seen: list[int] = []
    clock.at(START - 1, lambda: seen.append(len(market.done)))
    run, _ = operator(market, clock)
    run.run(START)
    before = [each for each in WHOLE if each.at < START]
    assert seen == [len(before)]


@settings(max_examples=15, deadline=None)
@given(
    stops=st.lists(st.integers(1, len(WHOLE)), max_size=4),
    down=st.lists(st.integers(0, 40_000), min_size=4, max_size=4),
)
def test_what_was_due_while_nobody_operated_is_done_late(stops, down):
    """Killed between any two verbs, and down for some hours: everything is done once and in order."""
    market, clock = Recording(), Simulated(AFTER)
    for after, pause in zip(sorted(stops), down, strict=False):
        run, _ = operator(market, clock)

        def tell(event: Event, stop: threading.Event = run.stop, after: int = after) -> None:
            if len(market.done) >= after:
                stop.set()

        Operator(run.open_market, clock, run.stop, publish=run.publish, tell=tell).run(END)
        clock.wait(clock.now() + pause)
    operator(market, clock)[0].run(END)
    assert tuple(market.done) == WHOLE
    assert all(at >= what.at for what, at in market.asked_at.items())


@pytest.mark.parametrize("refuses", [1, 2, 30])
def test_a_disk_that_refuses_closes_the_market_and_it_is_opened_again(refuses: int):
    market, clock = Recording(refuses=refuses), Simulated(AFTER)
    run, events = operator(market, clock)
    run.run(END)
    assert tuple(market.done) == WHOLE
    assert (market.opened, market.closed) == (2, 2)
    assert [event.warning for event in events if event.warning] == [
        "the disk refuses (journal: disk: no space left; make room); the market opens again as soon as it can"
    ]


def test_a_market_that_does_not_open_is_told_once_while_it_is_tried_each_second():
    market, clock = Recording(refuses=5), Simulated(AFTER)
    run, events = operator(market, clock)
    tries = iter([True, False, False, True])

    @contextmanager
    def opened() -> Iterator[Verbs]:
        if not next(tries):
            raise JournalError("journal: disk: no space left; make room")
        with market.open() as one:
            yield one

    Operator(opened, clock, run.stop, publish=run.publish, tell=run.tell).run(END)
    assert tuple(market.done) == WHOLE
    assert sum(bool(event.warning) for event in events) == 1
    assert run.stop.waited == 3.0


def test_a_market_that_cannot_be_opened_at_all_says_so():
    @contextmanager
    def opened() -> Iterator[Verbs]:
        raise JournalError("journal: has another writer")
        yield

    with pytest.raises(JournalError, match="has another writer"):
        Operator(opened, Simulated(AFTER), Stop()).run(END)


def test_what_the_record_does_not_allow_ends_the_run():
    """An order that is broken is no disk: trying again would not help."""

    class Broken(Recording):
        def settle(self, interval: int, at: int) -> None:
            raise TellegenError(f"interval {interval} has not been cleared")

    run, _ = operator(Broken(), Simulated(AFTER))
    with pytest.raises(TellegenError, match="has not been cleared"):
        run.run(END)


def hearing(clock: Simulated, ticks: list[int], until: int) -> Callable[[Due], bool]:
    """An intake that ticks every seven seconds until a time."""
    for time in range(AFTER, until, 7):
        clock.at(time, lambda t=time: ticks.append(t))
    needs = (Verb.CLOSE_DAY_AHEAD, Verb.CLOSE_REAL_TIME, Verb.SETTLE)
    return lambda what: what.verb not in needs or (bool(ticks) and ticks[-1] >= what.at)


def test_a_gate_waits_for_the_intakes_time():
    """A tick says that nothing earlier will come; until then nobody knows which bids count."""
    clock = Simulated(AFTER)
    market = Recording()
    market.heard = hearing(clock, [], START + 4_000)
    run, events = operator(market, clock)
    run.run(START + 3_000)
    assert tuple(market.done) == tuple(each for each in WHOLE if each.at <= START + 3_000)
    waits = {at - what.at for what, at in market.asked_at.items()}
    assert min(waits) == 0
    assert max(waits) <= 7
    assert not [event for event in events if event.warning]


def test_an_intake_that_is_silent_holds_no_gate_up():
    """Gates go by the rulebook; what follows from readings waits, in order, until the intake is back."""
    clock, ticks = Simulated(AFTER), []
    market = Recording()
    market.heard = hearing(clock, ticks, START + 650)
    clock.at(START + 2_000, lambda: ticks.append(START + 2_000))
    clock.at(START + 2_300, lambda: ticks.append(START + 9_000))
    run, events = operator(market, clock)
    run.run(START + 3_000)
    whole = [each for each in WHOLE if each.at <= START + 3_000]
    assert sorted(market.done) == whole
    for verb in Verb:
        assert [each for each in market.done if each.verb is verb] == [each for each in whole if each.verb is verb]
    silent = [what for what in whole if what.verb is Verb.CLOSE_REAL_TIME and START + 650 < what.at < START + 2_000]
    assert [market.asked_at[what] - what.at for what in silent] == [241, 241, 241, 200]
    held = [what for what in whole if what.verb is Verb.SETTLE and START + 650 < what.at < START + 2_000]
    assert {market.asked_at[what] for what in held} == {START + 2_000}
    warned = [event.at - START for event in events if "intake has put nothing on record" in event.warning]
    assert warned == [660 + 301]


# Prices


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "prices.csv"
    path.write_text(
        "time,real_time,day_ahead\n"
        + "".join(f"2016-03-{25 + h // 24}T{h % 24:02}:00Z,0.{h:02}1,0.{h:02}2\n" for h in range(23, 26))
    )
    return path


def test_each_gate_gets_its_price(file: Path):
    market, clock = Recording(), Simulated(AFTER)
    run, events = operator(market, clock, prices=PriceFile(file, BOOK))
    run.run(START + 600)
    day_ahead = next(given for given in market.given if given[0] == "day_ahead")
    assert day_ahead == ("day_ahead", [BOUNDS.start + 12 * k for k in range(3)], [232_000, 242_000, 252_000], START)
    real_time = [given for given in market.given if given[0] == "real_time" and given[3] >= START]
    hour = [*range(BOUNDS.start, BOUNDS.start + 12)]  # the rest of it comes along
    assert real_time == [("real_time", hour[k:], [231_000] * (12 - k), START + 300 * k) for k in range(3)]
    assert [event.warning for event in events if event.warning] == [
        f"{file}: no day_ahead price from 2016-03-26 02:00 UTC on; gates go without, append to it",
    ]


def test_a_series_that_stops_is_told_before_and_when_it_stops(file: Path):
    market, clock = Recording(), Simulated(AFTER)
    run, events = operator(market, clock, prices=PriceFile(file, BOOK))
    run.run(START + 5 * 3600)
    warnings = [(event.at - START, event.warning.partition(": ")[2]) for event in events if event.warning]
    assert warnings[1:] == [
        (2 * 3600, "prices end at 2016-03-26 02:00 UTC; append to it"),
        (3 * 3600, "no real_time price from 2016-03-26 02:00 UTC on; gates go without, append to it"),
    ]
    assert max(given[3] for given in market.given) == START + 3 * 3600 - 300


def test_prices_that_are_appended_are_seen_at_the_next_gate(file: Path):
    market, clock = Recording(), Simulated(AFTER)

    def append() -> None:
        with file.open("a") as stream:
            stream.write("2016-03-26T02:00Z,-0.04,0.3\n2016-03-26T03:00Z,80,1\n")

    def mend() -> None:
        file.write_text(file.read_text().replace(",80,", ",0.08,"))

    clock.at(START + 3 * 3600 + 10, append)
    clock.at(START + 3 * 3600 + 610, mend)
    run, events = operator(market, clock, prices=PriceFile(file, BOOK))
    run.run(START + 3 * 3600 + 1000)
    late = [(given[1][0] - BOUNDS.start, given[2]) for given in market.given if given[3] >= START + 3 * 3600]
    assert late == [(36 + 3, [-40_000] * 9)]
    assert any("line 6, real_time '80' is beyond" in event.warning for event in events)


def test_a_price_file_that_is_gone_leaves_the_prices_that_were_read(file: Path):
    market, clock = Recording(), Simulated(AFTER)
    clock.at(START + 10, file.unlink)
    run, events = operator(market, clock, prices=PriceFile(file, BOOK))
    run.run(START + 900)
    assert [given[1][0] - BOUNDS.start for given in market.given if given[3] > START + 300] == [2, 3]
    assert sum("price file cannot be read" in event.warning for event in events) == 1


# Reserve


def test_each_gate_asks_for_the_reserve_that_holds_then(tmp_path: Path):
    file = tmp_path / "reserves.csv"
    file.write_text("time,product,quantity_kw,price\n2016-03-25T23:05Z,reserve_up,2.5,0.04\n")
    market, clock = Recording(), Simulated(AFTER)

    def append() -> None:
        with file.open("a") as stream:
            stream.write("2016-03-25T23:15Z,reserve_up,0,0\n2016-03-25T23:15Z,reserve_sideways,0,0\n")

    def mend() -> None:
        file.write_text(file.read_text().replace("sideways", "down"))

    clock.at(START + 610, append)
    clock.at(START + 910, mend)
    run, events = operator(market, clock, reserves=ReserveFile(file, ("F1",), BOOK))
    run.run(START + 1_200)
    day_ahead = next(asked for asked in market.asked if asked[0] == "day_ahead")
    assert day_ahead == ("day_ahead", "F1", [2_500] * 23, 0)  # of 24 hours the first begins before
    held = [asked for asked in market.asked if asked[0] == "real_time"]
    assert [(quantity, at) for _, _, quantity, at in held] == [
        ([2_500], 300),
        ([2_500], 600),
        ([2_500], 900),
        ([0, 0], 1_200),
    ]
    (warning,) = [event.warning for event in events if event.warning]
    assert "line 4, product 'reserve_sideways' is none of reserve_up, reserve_down; what was read" in warning
