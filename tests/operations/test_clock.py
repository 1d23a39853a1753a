"""A market waits by a clock; the clock decides what happens meanwhile."""

import threading
from itertools import count

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tellegen.journal.clock import ClockError, Pace, RecordClock
from tellegen.operations.clock import Accelerated, Clock, Simulated, Wall


class Sleeper(threading.Event):
    """A stop that nobody sets: what is slept is counted by the clock below, and no time passes."""

    def __init__(self, stops_after: int = 10**9) -> None:
        super().__init__()
        self.slept, self.left = 0.0, stops_after

    def wait(self, timeout: float | None = None) -> bool:
        assert timeout is not None
        assert timeout > 0, "a busy loop"
        self.slept += timeout
        self.left -= 1
        if self.left <= 0:
            self.set()
        return self.is_set()


def wall(stop: Sleeper, step_at: float = 1e9, step: float = 0.0) -> Wall:
    return Wall(
        stop,
        RecordClock(
            wall=lambda: 1000.0 + stop.slept + (step if stop.slept >= step_at else 0.0), elapsed=lambda: stop.slept
        ),
    )


def test_the_wall_clock_sleeps_until_then():
    stop = Sleeper()
    clock: Clock = wall(stop)
    clock.wait(1300)
    assert clock.now() == 1300
    assert stop.slept == 300.0
    clock.wait(1200)
    assert stop.slept == 300.0


def test_a_wait_is_broken_off():
    stop = Sleeper(stops_after=2)
    wall(stop).wait(10_000)
    assert stop.slept <= 20.0


def test_a_small_step_of_the_wall_clock_is_followed_and_a_jump_is_not():
    stop = Sleeper()
    wall(stop, step_at=10.0, step=50.0).wait(1300)
    assert stop.slept == 250.0
    stop = Sleeper()
    clock = wall(stop, step_at=10.0, step=86_400.0)
    clock.wait(1300)
    assert stop.slept == 300.0
    assert clock.stepped_s == 86_400


def test_an_accelerated_clock_sleeps_so_much_less():
    stop = Sleeper()
    clock: Clock = Accelerated(Pace(100.0, 1000, 0.0), stop, lambda: stop.slept)
    clock.wait(1300)
    assert clock.now() >= 1300
    assert abs(stop.slept - 3.0) <= 0.005  # the shortest sleep
    stop.set()
    clock.wait(10**9)
    assert clock.now() < 1400


@given(
    acts=st.lists(st.tuples(st.integers(0, 50), st.integers(0, 3)), max_size=20),
    waits=st.lists(st.tuples(st.integers(0, 60), st.integers(0, 3)), max_size=10),
)
def test_acts_of_the_world_and_waits_are_one_queue(acts, waits):
    """By time, then order, of equals the act first; each at its own time."""
    clock, done = Simulated(0), []
    for number, (time, order) in enumerate(acts):
        clock.at(time, lambda n=number, t=time, o=order: done.append((t, o, 0, n, clock.now())), order)
    for number, (time, order) in zip(count(), sorted(waits), strict=False):
        clock.wait(time, order)
        done.append((time, order, 1, number, clock.now()))
    assert [each[:4] for each in done] == sorted(each[:4] for each in done)
    assert all(now == time for time, _, _, _, now in done)
    last = max(waits, default=(-1, 0))
    assert sum(each[2] == 0 for each in done) == sum(act <= last for act in acts)


def test_an_act_may_bring_another_about():
    clock, heard = Simulated(0), []
    clock.at(10, lambda: clock.at(20, lambda: heard.append(clock.now())))
    clock.wait(15)
    assert heard == []
    clock.wait(20)
    assert heard == [20]
    clock.at(5, lambda: heard.append(clock.now()))  # too late for its time: done at once, and time does not run back
    clock.wait(20)
    assert heard == [20, 20]
    assert clock.elapsed() == 20.0


def test_a_pace_is_shared_as_text():
    """The intake is another process; both read the same time off the same count of seconds."""
    pace = Pace(600.0, 1_459_000_000, 0.1 + 0.2)
    assert Pace.parse(str(pace)) == pace
    clock = pace.clock(0)
    assert abs(clock.now() - pace.time()) <= 600.0
    for text in ("fast", "0.5@1@1", "1e9@1@1", "nan@1@1", "2@1"):
        with pytest.raises(ClockError, match=r"pace|as fast"):
            Pace.parse(text)
