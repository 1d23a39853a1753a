"""What the market knows does not grow with its history: what is final is in the journal alone."""

from collections import deque
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tellegen.operations.keeping import restore, state_parts
from tellegen.operations.record import ShardRecord
from tellegen.operations.state import CLOSE, GATE, READ, State
from tellegen.privacy.snapshots import part_bytes
from tellegen.records import (
    AllocationKeys,
    Clearings,
    CloseKind,
    Closes,
    Edits,
    Energy,
    Gates,
    Header,
    Line,
    Postings,
    Readings,
    Requirements,
    RootPrices,
    Statements,
    Table,
    ValidationRule,
)
from tellegen.records.market import DAY_AHEAD, REAL_TIME
from tellegen.simulation.city.population import City
from tellegen.simulation.city.setup import set_up

FIRST = 4_923_912
WINDOW = 3
"""Days after which a day is final."""
CUSTOMERS = np.arange(1, 6)


class Days:
    """Applies the records of days to a state: one settled interval each, a late reading, its closes."""

    def __init__(self, state: State) -> None:
        self.state, self.index, self.first = state, 0, FIRST
        self.names = [feeder.name for feeder in state.topology.feeders]
        self.open: deque[int] = deque()

    def put(self, table: Table, feeder: str, interval: int, market: str = "", name: str = "") -> None:
        header = Header(table.kind, name, feeder, market, interval, 1, "", 300 * interval, (), len(table), "", "")
        self.state.apply(self.index, header, table)
        self.index += 1

    def rows(self, kind: type[Table], count: int = 1, **columns: object) -> Table:
        raw = np.zeros(count, dtype=kind.row_dtype())
        for name, value in columns.items():
            raw[name] = value
        return kind.from_rows(raw)

    def play(self) -> None:
        first, state = self.first, self.state
        day = state.day_range(first)
        self.put(self.rows(RootPrices, interval=first, micros=5), "", first, REAL_TIME)
        for name in self.names:
            self.put(self.rows(Requirements, interval=first), name, first, REAL_TIME)
            keys = self.rows(AllocationKeys, CUSTOMERS.size, customer=CUSTOMERS, weight_wh=1)
            self.put(keys, name, first)
        for market in (DAY_AHEAD, REAL_TIME):
            count = len(state.periods(market, first))
            gates = self.rows(Gates, count * len(self.names), interval=first)
            self.put(gates, "", first, market, f"{GATE}{self.index}")
        connected = state.connected(REAL_TIME, first, first)
        for k, name in enumerate(self.names):
            for market in (DAY_AHEAD, REAL_TIME):
                self.put(self.rows(Clearings), name, first, market)
            customer = np.append(0, connected.customer[connected.on(k)])
            energy = self.rows(Energy, customer.size, customer=customer, rule=ValidationRule.MISSING)
            self.put(energy, name, first, REAL_TIME, f"{READ}{self.index}")
            self.put(self.postings(first), name, first, REAL_TIME)
        for name in self.names:
            self.put(self.rows(Statements, CUSTOMERS.size, customer=CUSTOMERS), name, first)
            self.close(name, first, len(day), CloseKind.FIRST)
        for name in self.names:  # what comes late, and what follows from it
            self.put(self.rows(Edits, customer=1, interval=first), name, first, name=f"{READ}{self.index}")
            self.put(self.postings(first), name, first)
            self.close(name, first, len(day), CloseKind.CORRECTION)
            self.put(self.postings(first), name, first, name=CLOSE)
        self.open.append(first)
        if len(self.open) > WINDOW:
            last = self.open.popleft()
            for name in self.names:
                self.close(name, last, len(state.day_range(last)), CloseKind.FINAL)
        self.first = day.stop

    def close(self, name: str, first: int, intervals: int, kind: CloseKind) -> None:
        self.put(self.rows(Closes, first_interval=first, intervals=intervals, close_kind=kind), name, first)

    def postings(self, interval: int) -> Table:
        columns = {"interval": interval, "line": Line.NETWORK_ENERGY, "quantity": 100, "amount": 7}
        return self.rows(Postings, CUSTOMERS.size, account=CUSTOMERS, **columns)


@pytest.fixture
def state(tmp_path: Path) -> Iterator[State]:
    set_up(City(400, 1, FIRST, shards=1), 0, tmp_path)
    with ShardRecord.open(tmp_path) as record:
        yield State(record.topology, record.rulebook, lambda interval, cut, connected: Readings.empty())


def sizes(state: State) -> dict[str, int]:
    """Bytes of each part."""
    return {name: len(part_bytes(columns)) for name, columns in state_parts(state).items()}


def test_a_state_is_as_large_after_many_final_days_as_after_few(state: State) -> None:
    days = Days(state)
    trailing = max(rules.trailing_days for rules in state.book.versions)
    for _ in range(trailing + 5):
        days.play()
    few = sizes(state)
    for _ in range(25):
        days.play()
    assert state.final_until > FIRST + 288 * (trailing + 25)
    many = sizes(state)
    # the layout names the days of what was withdrawn, and these have as many digits; a day may have 23 or 25 hours
    assert many == few


def test_what_is_asked_for_in_reserve_is_kept_until_its_day_is_closed(state: State) -> None:
    days = Days(state)
    for market, interval in ((REAL_TIME, FIRST + 400), (DAY_AHEAD, FIRST + 288), (REAL_TIME, FIRST + 400)):
        days.put(days.rows(Requirements, interval=interval), days.names[0], interval, market)
    asked = {(REAL_TIME, FIRST + 400): (0, 2), (DAY_AHEAD, FIRST + 288): (1,)}
    assert state.requirements == asked
    again = State(state.topology, state.book, lambda interval, cut, connected: Readings.empty())
    restore(again, state_parts(state), state.size)
    days.play()
    assert again.requirements == state.requirements == asked
    days.play()
    assert state.requirements == {}
