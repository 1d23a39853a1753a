"""A meter's message counts once: repeats are refused, late ones are not, those too old to tell are."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tellegen.metering import ReplayWindow
from tellegen.metering.replay_window import WINDOW
from tellegen.records import Refusal

MESSAGES = st.lists(
    st.tuples(st.integers(1, 3), st.one_of(st.integers(0, 40), st.integers(0, 3000), st.integers(-2, 2**62))),
    max_size=12,
)


class NaiveWindow:
    """What the window does, one message at a time."""

    def __init__(self) -> None:
        self.seen: dict[int, set[int]] = {}

    def check(self, batch: list[tuple[int, int]]) -> list[Refusal]:
        out = []
        for row, (meter, counter) in enumerate(batch):
            seen = self.seen.get(meter, set())
            highest = max(seen, default=-1)
            if not 0 <= counter < 2**62:
                out.append(Refusal.OUT_OF_RANGE)
            elif counter <= highest - WINDOW:
                out.append(Refusal.STALE_COUNTER)
            elif counter in seen:
                out.append(Refusal.REPLAYED)
            else:
                out.append(Refusal.DUPLICATE if (meter, counter) in batch[:row] else Refusal.NONE)
        return out

    def mark(self, batch: list[tuple[int, int]]) -> None:
        for meter, counter in batch:
            self.seen.setdefault(meter, set()).add(counter)


@given(st.lists(MESSAGES, max_size=12))
def test_the_window_is_that_of_a_set_of_counters(batches: list[list[tuple[int, int]]]) -> None:
    window, naive = ReplayWindow(), NaiveWindow()
    for batch in batches:
        meters, counters = (np.array([m[k] for m in batch], dtype=np.int64) for k in (0, 1))
        refusals = window.check(meters, counters)
        assert refusals.tolist() == naive.check(batch)
        good = refusals == Refusal.NONE
        window.mark(meters[good], counters[good])
        naive.mark([message for message, taken in zip(batch, good.tolist(), strict=True) if taken])
        window = ReplayWindow.of_parts(window.parts())  # kept and taken up again, it is the same


@given(st.integers(0, 5000), st.integers(0, 2000))
def test_a_gap_of_any_length_forgets_nothing_inside_the_window(start: int, gap: int) -> None:
    window = ReplayWindow([4])
    window.mark([4], [start])
    window.mark([4], [start + gap])
    inside = np.arange(max(0, start + gap - WINDOW + 1), start + gap + 1)
    seen = window.check(np.full(inside.size, 4), inside) == Refusal.REPLAYED
    assert inside[seen].tolist() == sorted({start, start + gap} & set(inside.tolist()))


def test_asking_leaves_no_trace() -> None:
    window = ReplayWindow()
    assert (window.check([1, 2], [5, 5]) == Refusal.NONE).all()
    assert (window.check([1, 2], [5, 5]) == Refusal.NONE).all()


def test_marking_twice_is_marking_once() -> None:
    """A journal is folded again after a crash."""
    window = ReplayWindow()
    for _ in range(2):
        window.mark([1, 1, 2], [5, 6, 5])
    assert window.check([1, 1, 1, 2], [5, 6, 7, 4]).tolist() == [Refusal.REPLAYED] * 2 + [Refusal.NONE] * 2


def test_equal_windows_are_equal_parts_in_whatever_order_meters_came() -> None:
    one, other = ReplayWindow([9, 8]), ReplayWindow()
    one.mark([1, 2], [5, 600])
    other.mark([2, 1], [600, 5])
    kept = one.parts()["counters"]
    assert {name: column.tobytes() for name, column in kept.items()} == {
        name: column.tobytes() for name, column in other.parts()["counters"].items()
    }
    assert kept["meter"].tolist() == [1, 2]
    assert one.parts(without=[1])["counters"]["meter"].tolist() == [2]


def test_a_meter_may_start_counting_at_any_number() -> None:
    assert (ReplayWindow().check([1, 2], [0, 2**40]) == Refusal.NONE).all()
