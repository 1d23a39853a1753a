"""Nobody waits for what somebody else has piled up: laws of the queue in which every source has its turn."""

from __future__ import annotations

from collections import Counter, deque
from itertools import groupby, pairwise

from hypothesis import given
from hypothesis import strategies as st

from tellegen.intake.fair_queue import FairQueue

SOURCES = st.sampled_from("ABCDE")
COSTS = st.integers(1, 300)
QUANTUM = 100
STEPS = st.lists(
    st.tuples(st.just("put"), SOURCES, COSTS)
    | st.tuples(st.just("take"), SOURCES, COSTS)
    | st.tuples(st.just("correct"), SOURCES, st.integers(-300, 3000)),
    max_size=200,
)


@given(STEPS)
def test_whoever_serves_never_stands_idle_and_each_source_keeps_its_order(steps: list[tuple[str, str, int]]) -> None:
    queue = FairQueue[tuple[str, int]](QUANTUM)
    waiting: dict[str, deque[int]] = {source: deque() for source in "ABCDE"}
    for number, (what, source, cost) in enumerate(steps):
        if what == "put":
            queue.put(source, (source, number), cost)
            waiting[source].append(number)
        elif what == "correct":
            queue.correct(source, cost)
        else:
            served = queue.take()
            assert (served is None) == (not any(waiting.values()))
            if served is not None:
                assert served[1] == waiting[served[0]].popleft()
        assert len(queue) == sum(map(len, waiting.values()))


@given(st.dictionaries(SOURCES, st.lists(st.integers(1, QUANTUM), min_size=60, max_size=60), min_size=2), st.data())
def test_no_source_is_passed_over_more_than_once_a_round(costs: dict[str, list[int]], data: st.DataObject) -> None:
    """Where no batch costs more than a round gives, every source that waits is served between two turns of another."""
    queue = FairQueue[str](QUANTUM)
    for source, each in costs.items():
        for cost in each:
            queue.put(source, source, cost)
    served = [queue.take() for _ in range(data.draw(st.integers(1, 60)))]  # nobody's queue is empty after that
    turns = [str(source) for source, _ in groupby(served)]
    for source in costs:
        places = [place for place, name in enumerate(turns) if name == source]
        for begin, end in pairwise(places):
            assert set(turns[begin + 1 : end]) == costs.keys() - {source}


@given(
    st.dictionaries(SOURCES, st.tuples(COSTS, st.integers(0, 300)), min_size=2),
    st.integers(1, 300),
)
def test_who_waits_gets_as_much_as_anybody_however_costly_the_work_of_others(
    kinds: dict[str, tuple[int, int]], turns: int
) -> None:
    """Also where the work turns out to cost more than was said."""
    queue = FairQueue[str](QUANTUM)
    spent: Counter[str] = Counter(dict.fromkeys(kinds, 0))
    for source, (cost, _) in kinds.items():
        queue.put(source, source, cost)
    dearest = max(cost + more for cost, more in kinds.values())
    for _ in range(turns):
        source = queue.take()
        assert source is not None
        cost, more = kinds[source]
        queue.put(source, source, cost)
        queue.correct(source, more)
        spent[source] += cost + more
        assert max(spent.values()) - min(spent.values()) <= QUANTUM + dearest


@given(st.integers(1, 10**5), COSTS)
def test_a_newcomer_waits_for_a_round_and_one_piece_of_work_at_most(pile: int, cost: int) -> None:
    queue = FairQueue[str](QUANTUM)
    for _ in range(QUANTUM + 2):
        queue.put("A", "a", pile)
    assert queue.take() == "a"
    queue.put("B", "b", cost)
    before = 0
    while queue.take() == "a":
        before += pile
    assert before <= QUANTUM + pile
