"""The meters of a shard: what is judged goes on record, and the order in which readings come in does not matter."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tellegen.metering import MeteringError
from tellegen.metering.coarse import moved_by, span_registers
from tellegen.metering.gap_energy import GapEnergy
from tellegen.metering.past import Estimates, Past
from tellegen.metering.reentry import NOWHERE, Places
from tellegen.metering.refold import Refolded, refold
from tellegen.operations.meters import Meters
from tellegen.operations.registers import registers_of
from tellegen.operations.topology import Connected
from tellegen.records import Edits, Energy, Histories, Profiles, Quality, Readings, ValidationRule
from tellegen.units import IntArray

FIRST, CAPACITY_W = 1000, 12_000  # 1000 Wh in five minutes
SUBSTATION = 90
PLACES = {1: (11, 12), 2: (21, 22), 3: (31, 32), SUBSTATION: (91, 91)}
"""Serial numbers of each customer's meter and of the one that may take its place."""
PROFILES = Profiles(
    customer=np.full(288, 2),
    place=np.arange(288),
    import_wh=np.arange(288) % 7 * 10,
    export_wh=np.zeros(288, dtype=np.int64),
)
ENERGIES = ("import_wh", "export_wh", "reactive_varh")
HISTORIES = Histories(customer=np.array([1, 2]), trailing_wh=np.array([9, 9]), longest_still=np.array([1, 3]))


@dataclass(frozen=True)
class Message:
    """A reading, what it is about, and how many intervals after its own it comes in; -1: it never does."""

    customer: int
    meter: int
    counter: int
    interval: int
    registers: tuple[int, int, int]
    voltage_mv: int = 230_000
    delay: int = 0


@dataclass
class Shard:
    """A record of readings and energy, as the operator keeps it, and the live state of its meters.

    `exchanged` and `away` say for some customers from which interval another meter is there, and in which intervals
    there is no connection; `every`, how many intervals one reading of theirs spans.
    """

    every: dict[int, int] = field(default_factory=dict)
    exchanged: dict[int, int] = field(default_factory=dict)
    away: dict[int, range] = field(default_factory=dict)
    gap_energy: GapEnergy = GapEnergy.ESTIMATED
    meters: Meters = field(default_factory=Meters)
    taken: list[Message] = field(default_factory=list)
    rows: dict[tuple[int, int], tuple[Energy, int]] = field(default_factory=dict)
    due: set[tuple[int, int]] = field(default_factory=set)
    past: Past = field(default_factory=lambda: Past(PROFILES, HISTORIES))
    asked: int = 0

    # what refolding asks

    def since(self, customer: IntArray) -> IntArray:
        return np.full(customer.size, FIRST)

    def readings(self, customer: IntArray, interval: IntArray) -> tuple[Readings, IntArray]:
        self.asked += 1
        every = np.array([self.every.get(c, 1) for c in customer.tolist()], dtype=np.int64)
        fine, coarse = np.flatnonzero(every == 1), np.flatnonzero(every > 1)
        wanted = set(zip(customer[fine].tolist(), interval[fine].tolist(), strict=True))
        found = [m for m in self.taken if (m.customer, m.interval) in wanted]
        meter = self.places(customer[coarse], interval[coarse]).meter
        shared, pair = span_registers(customer[coarse], meter, interval[coarse], every[coarse], self.about)
        about = np.array([m.interval for m in found], dtype=np.int64)
        return Readings.concat([table(found), shared]), np.append(about, interval[coarse[pair]])

    def about(self, interval: int) -> Readings:
        return table([m for m in self.taken if m.interval == interval])

    def energy(self, customer: IntArray, interval: IntArray) -> tuple[Energy, IntArray]:
        pairs = zip(customer.tolist(), interval.tolist(), strict=True)
        found = [self.rows[pair] for pair in pairs if pair in self.rows][::-1]
        return Energy.concat([row for row, _ in found]), np.array([version for _, version in found], dtype=np.int64)

    def places(self, customer: IntArray, interval: IntArray) -> Places:
        meter = [self.meter(c, t) for c, t in zip(customer.tolist(), interval.tolist(), strict=True)]
        every = np.array([self.every.get(c, 1) for c in customer.tolist()], dtype=np.int64)
        return Places(np.array(meter, dtype=np.int64), np.full(customer.size, CAPACITY_W), every)

    def estimates(self, customer: IntArray, interval: IntArray) -> Estimates:
        return self.past.estimates(customer, interval)

    # what the operator does

    def meter(self, customer: int, interval: int) -> int:
        if interval in self.away.get(customer, range(0)):
            return NOWHERE
        return PLACES[customer][interval >= self.exchanged.get(customer, 2**30)]

    def connected(self, interval: int) -> Connected:
        """Two feeders; nobody stands in ascending order of all."""
        here = [c for c in (3, 1, 2, SUBSTATION) if self.meter(c, interval) != NOWHERE]
        n = len(here)
        return Connected(
            customer=np.array(here),
            node=np.ones(n, dtype=np.int64),
            meter=np.array([self.meter(c, interval) for c in here]),
            capacity_w=np.full(n, CAPACITY_W),
            import_limit_w=np.full(n, CAPACITY_W),
            export_limit_w=np.full(n, CAPACITY_W),
            reads_every=np.array([self.every.get(c, 1) for c in here]),
            credit=np.zeros(n, dtype=np.int64),
            start=np.array([0, n - 1]),
        )

    def settle(self, interval: int) -> Energy:
        connected = self.connected(interval)
        readings = registers_of(connected, interval, lambda about, whose: self.about(about))
        estimates = self.past.estimates(connected.customer, interval)
        before = self.meters.parts()
        energy = self.meters.judge(interval, readings, connected, estimates)
        assert same(before, self.meters.parts()), "judging changes nothing"
        self.meters.apply(interval, readings, energy.take(np.arange(len(energy))[::-1]), connected)
        for row in range(len(energy)):
            self.rows[int(energy.customer[row]), interval] = energy.take([row]), 0
        after = energy.take(energy.rule == ValidationRule.AFTER_GAP)
        if self.gap_energy is GapEnergy.CONSERVED:
            self.due |= {(c, interval) for c in after.customer.tolist()}
        return energy

    def take(self, message: Message, settled: int) -> None:
        self.taken.append(message)
        every = self.every.get(message.customer, 1)
        moved = moved_by(message.interval, every) if every > 1 else [message.interval]
        self.due |= {(message.customer, t) for t in moved if FIRST <= t <= settled}

    def correct(self, until: int) -> Refolded:
        due = np.array(sorted(self.due), dtype=np.int64).reshape(-1, 2)
        self.due.clear()
        made = refold(due[:, 0], due[:, 1], until, self, self.meters.standing, self.gap_energy)
        self.record(made.edits)
        self.meters.replace(made.standing)
        changed = set(made.standing.customer.tolist())
        assert changed <= set(made.edits.customer.tolist()), "whoever changes is named on record"
        return made

    def record(self, edits: Edits) -> None:
        for row in range(len(edits)):
            pair = int(edits.customer[row]), int(edits.interval[row])
            assert edits.version[row] == self.rows[pair][1] + 1
            names = Energy.row_dtype().names or ()
            whole = Energy(**{name: getattr(edits, name)[[row]] for name in names})
            self.rows[pair] = whole, int(edits.version[row])

    def play(self, messages: list[Message], until: int, every: int = 4) -> Shard:
        """Days as they go: readings come in, intervals settle, now and then what came late is folded in."""
        for now in range(FIRST, until + 1):
            for message in messages:
                if message.delay >= 0 and message.interval + message.delay == now:
                    self.take(message, now - 1)
            self.settle(now)
            if (now - FIRST) % every == every - 1:
                self.correct(now)
        for message in sorted(messages, key=lambda m: m.interval + m.delay):
            if message.interval + message.delay > until:
                self.take(message, until)
        self.correct(until)
        return self

    def believed(self) -> dict[tuple[int, int], bytes]:
        return {pair: row.rows().tobytes() for pair, (row, _) in self.rows.items()}

    def of(self, customer: int) -> list[tuple[int, ValidationRule]]:
        rows = [self.rows[pair][0] for pair in sorted(self.rows) if pair[0] == customer]
        return [(int(row.import_wh[0]), ValidationRule(row.rule[0])) for row in rows]


def table(messages: list[Message]) -> Readings:
    columns = [
        np.array([getattr(m, name) for m in messages], dtype=np.int64) for name in ("customer", "meter", "counter")
    ]
    registers = np.array([m.registers for m in messages], dtype=np.int64).reshape(-1, 3)
    voltage = np.array([m.voltage_mv for m in messages], dtype=np.int64)
    return Readings(*columns, *registers.T, voltage, np.zeros(len(messages), dtype="V16"))  # type: ignore[arg-type]


def same(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> bool:
    return {name: column.tobytes() for name, column in one.items()} == {
        name: column.tobytes() for name, column in other.items()
    }


def day(customer: int, registers: list[int | None], meter: int | None = None) -> list[Message]:
    """Import registers at the end of each interval from `FIRST` on; None: nothing is ever sent."""
    serial = PLACES[customer][0] if meter is None else meter
    return [Message(customer, serial, k + 1, FIRST + k, (wh, 0, 0)) for k, wh in enumerate(registers) if wh is not None]


NONE, MISSING, AFTER_GAP, HIGH = (
    ValidationRule.NONE,
    ValidationRule.MISSING,
    ValidationRule.AFTER_GAP,
    ValidationRule.HIGH,
)


def test_a_first_reading_is_a_base_and_what_fails_is_the_last_measured_interval_again() -> None:
    shard = Shard().play(day(3, [700, 730, None, 800, 850]), FIRST + 4)
    assert shard.of(3) == [(0, AFTER_GAP), (30, NONE), (30, MISSING), (30, AFTER_GAP), (50, NONE)]


def test_where_a_profile_is_known_it_is_assumed() -> None:
    shard = Shard().play(day(2, [700, 730, None]), FIRST + 2)
    place = (FIRST + 2) % 288
    assert shard.of(2)[2] == (int(PROFILES.import_wh[place]), MISSING)


def test_an_exchange_at_noon_starts_from_the_new_meters_own_first_register() -> None:
    messages = day(3, [700, 730, 790]) + [
        replace(m, interval=m.interval + 3) for m in day(3, [5, 25], meter=PLACES[3][1])
    ]
    shard = Shard(exchanged={3: FIRST + 3}).play(messages, FIRST + 4)
    assert shard.of(3) == [(0, AFTER_GAP), (30, NONE), (60, NONE), (60, AFTER_GAP), (20, NONE)]


def test_a_late_reading_turns_two_estimates_into_what_flowed() -> None:
    """The example of the design: t2 and t3 of four, estimated at 100 Wh, come out as 130 and 170."""
    shard = Shard().play(day(3, [1000, 1100, 1200, None, 1500]), FIRST + 4)
    assert shard.of(3)[3:] == [(100, MISSING), (100, AFTER_GAP)]
    before = shard.meters.parts()
    shard.take(Message(3, 31, 99, FIRST + 3, (1330, 0, 0)), FIRST + 4)
    made = shard.correct(FIRST + 4)
    assert shard.of(3)[3:] == [(130, NONE), (170, NONE)]
    assert made.edits.version.tolist() == [1, 1]
    assert made.standing.customer.tolist() == [3], "the last measured interval is another now"
    assert not same(before, shard.meters.parts())


def test_a_late_reading_costs_what_it_touches() -> None:
    registers: list[int | None] = list(range(1000, 1000 + 50 * 90, 50))
    registers[40] = None
    shard = Shard().play(day(3, registers), FIRST + 89)
    shard.take(Message(3, 31, 99, FIRST + 40, (3010, 0, 0)), FIRST + 89)
    shard.asked = 0
    made = shard.correct(FIRST + 89)
    assert (made.intervals, made.standing.customer.size) == (3, 0)
    assert made.edits.import_wh.tolist() == [60, 40]
    assert shard.asked <= 6


def test_a_reading_of_a_higher_counter_replaces_what_was_measured() -> None:
    shard = Shard().play(day(3, [1000, 1100, 1200, 1300, 1400]), FIRST + 4)
    shard.take(Message(3, 31, 99, FIRST + 2, (1150, 0, 0)), FIRST + 4)
    shard.take(Message(3, 31, 2, FIRST + 3, (1301, 0, 0)), FIRST + 4)  # an older message than the one on record
    shard.correct(FIRST + 4)
    assert [wh for wh, _ in shard.of(3)] == [0, 100, 50, 150, 100]


def test_two_readings_replaced_by_the_same_shift_still_move_what_follows() -> None:
    """The energy between them stays as it stands on record, and yet the fold may not stop there."""
    shard = Shard().play(day(3, [1000, 1100, 1200, 1300, 1400]), FIRST + 4)
    for interval, wh in ((FIRST + 2, 1250), (FIRST + 3, 1350)):
        shard.take(Message(3, 31, interval, interval, (wh, 0, 0)), FIRST + 4)
    shard.correct(FIRST + 4)
    assert [wh for wh, _ in shard.of(3)] == [0, 100, 150, 100, 50]


def test_stillness_counts_from_the_last_movement_and_not_from_the_anchor() -> None:
    """Customer 1 never stood still for longer than one interval."""
    shard = Shard().play(day(1, [1000, 1100, 1100, None, 1200]), FIRST + 4)
    shard.take(Message(1, 11, 99, FIRST + 3, (1100, 0, 0)), FIRST + 4)
    shard.correct(FIRST + 4)
    assert shard.of(1)[2:] == [(0, NONE), (0, ValidationRule.ZERO), (0, AFTER_GAP)]


def test_a_meter_that_stands_still_is_folded_until_it_moves() -> None:
    """Customer 2 may stand still for three intervals; a late reading starts them earlier."""
    registers: list[int | None] = [1000, 1100, None, 1100, 1100, 1100, 1100, 1200]
    shard = Shard().play(day(2, registers), FIRST + 7)
    assert [rule for _, rule in shard.of(2)][4:7] == [NONE, NONE, ValidationRule.ZERO]
    shard.take(Message(2, 21, 99, FIRST + 2, (1100, 0, 0)), FIRST + 7)
    shard.correct(FIRST + 7)
    assert [rule for _, rule in shard.of(2)][4:7] == [NONE, ValidationRule.ZERO, ValidationRule.ZERO]


def quarters(registers: dict[int, int | None], delay: int = 2) -> list[Message]:
    """Registers of customer 3 at the end of quarters of an hour; quarter 0 ends with `FIRST` + 1."""
    return [
        Message(3, 31, k + 1, FIRST + 1 + 3 * k, (wh, 7 * wh, -wh), delay=delay)
        for k, wh in registers.items()
        if wh is not None
    ]


def late(shard: Shard, messages: list[Message], until: int) -> None:
    for message in messages:
        shard.take(message, until)
    shard.correct(until)


def test_a_quarter_of_an_hour_is_shared_evenly_and_to_the_watt_hour() -> None:
    shard = Shard(every={3: 3})
    for message in quarters({0: 1000, 1: 1100, 2: 1104}):
        shard.take(message, FIRST - 1)
    for interval in range(FIRST, FIRST + 8):
        shard.settle(interval)
    assert shard.of(3)[1:] == [(0, AFTER_GAP), *((wh, NONE) for wh in (33, 33, 34, 1, 1, 2))]
    rows = [shard.rows[3, FIRST + 2 + k][0] for k in range(6)]
    assert {int(row.quality[0]) for row in rows} == {Quality.PROFILED}
    assert [sum(int(getattr(row, name)[0]) for row in rows) for name in ("export_wh", "reactive_varh")] == [728, -104]


def test_what_a_coarse_meter_sends_within_its_span_counts_for_nothing() -> None:
    shard = Shard(every={3: 3})
    for message in [*quarters({0: 1000, 1: 1090}), Message(3, 31, 99, FIRST + 2, (1089, 7000, -1000))]:
        shard.take(message, FIRST - 1)
    for interval in range(FIRST, FIRST + 5):
        shard.settle(interval)
    assert [wh for wh, _ in shard.of(3)[2:]] == [30, 30, 30]


def test_a_late_quarter_is_missing_and_moves_energy_when_it_comes() -> None:
    """Its own span and the next, whose registers begin with it."""
    shard = Shard(every={3: 3})
    messages = quarters({0: 1000, 1: 1090, 2: 1200, 3: 1290})
    for message in messages[:2] + messages[3:]:
        shard.take(message, FIRST - 1)
    for interval in range(FIRST, FIRST + 11):
        shard.settle(interval)
    assert shard.of(3)[2:] == [(30, NONE)] * 3 + [(30, MISSING)] * 5 + [(30, AFTER_GAP)]
    late(shard, messages[2:3], FIRST + 10)
    assert shard.of(3)[5:] == [(36, NONE), (37, NONE), (37, NONE)] + [(30, NONE)] * 3
    assert {int(shard.rows[3, FIRST + 5 + k][0].quality[0]) for k in range(6)} == {Quality.PROFILED}


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 990), st.integers(0, 25)), min_size=2, max_size=9),
    st.sampled_from([2, 3, 4, 6, 12]),
    st.integers(1, 7),
)
def test_spans_sum_to_their_registers_whenever_readings_come(
    spans: list[tuple[int, int]], every: int, correct_every: int
) -> None:
    """In time or late, once they are there; nobody's energy is lost or made up within a span."""
    shard, register, messages = Shard(every={3: every}), 50, []
    end = FIRST + every - 1 - FIRST % every
    for k, (moved, delay) in enumerate([(0, 0), *spans]):
        register += moved
        messages.append(Message(3, 31, k + 1, end + k * every, (register, 2 * register, -register), delay=delay))
    until = messages[-1].interval
    shard.play(messages, until, correct_every)
    for before, after in pairwise(messages):
        rows = [shard.rows[3, t][0] for t in range(before.interval + 1, after.interval + 1)]
        assert {int(row.quality[0]) for row in rows} == {Quality.PROFILED}
        shares = [[int(getattr(row, name)[0]) for row in rows] for name in ENERGIES]
        assert [sum(each) for each in shares] == [b - a for a, b in zip(before.registers, after.registers, strict=True)]
        assert all(max(each) - min(each) <= 1 for each in shares)


def test_who_is_forgotten_has_no_meter() -> None:
    shard = Shard().play(day(3, [700, 730]), FIRST + 1)
    shard.meters.forget(np.array([3]))
    assert shard.meters.standing.customer.tolist() == [1, 2, SUBSTATION]


def test_a_late_reading_that_fails_as_well_says_so() -> None:
    shard = Shard().play(day(3, [1000, 1100, None, 1300]), FIRST + 3)
    shard.take(Message(3, 31, 99, FIRST + 2, (10**6, 0, 0)), FIRST + 3)
    shard.correct(FIRST + 3)
    assert shard.of(3)[2:] == [(100, HIGH), (100, AFTER_GAP)]


def test_a_late_reading_that_only_changes_what_is_remembered_is_on_record_all_the_same() -> None:
    """The wild register of a meter that was set anew is another one; its next reading will be measured against it."""
    shard = Shard().play(day(3, [1000, 1100, 10**6]), FIRST + 2)
    shard.take(Message(3, 31, 99, FIRST + 2, (2 * 10**6, 0, 0)), FIRST + 2)
    made = shard.correct(FIRST + 2)
    assert (made.edits.import_wh.tolist(), made.edits.rule.tolist()) == ([100], [HIGH])
    assert made.standing.state.heard[0].tolist() == [2 * 10**6]


def test_a_meter_that_is_not_installed_there_changes_nothing() -> None:
    shard = Shard().play(day(3, [1000, 1100, None, 1300]), FIRST + 3)
    shard.take(Message(3, 32, 99, FIRST + 2, (1200, 0, 0)), FIRST + 3)
    made = shard.correct(FIRST + 3)
    assert not len(made.edits)
    assert not made.standing.customer.size


def test_what_a_person_put_on_record_stays() -> None:
    shard = Shard().play(day(3, [1000, 1100, None, 1300, 1400]), FIRST + 4)
    row, version = shard.rows[3, FIRST + 3]
    assert version == 0
    fitted = Energy.from_rows(row.rows())
    fitted.quality[:], fitted.rule[:], fitted.import_wh[:] = Quality.CORRECTED, NONE, 77
    shard.rows[3, FIRST + 3] = fitted, 1
    shard.take(Message(3, 31, 99, FIRST + 2, (1190, 0, 0)), FIRST + 4)
    shard.correct(FIRST + 4)
    assert [wh for wh, _ in shard.of(3)] == [0, 100, 90, 77, 100]


def test_a_conserved_gap_sums_to_what_its_registers_moved() -> None:
    messages = day(3, [1000, 1100, None, None, 1460, 1500])
    shard = Shard(gap_energy=GapEnergy.CONSERVED).play(messages, FIRST + 5)
    assert shard.of(3)[2:] == [(120, MISSING), (120, MISSING), (120, AFTER_GAP), (40, NONE)]
    assert sum(wh for wh, _ in shard.of(3)) == 500


def test_a_base_that_has_gone_is_named() -> None:
    shard = Shard().play(day(3, [1000, 1100, None, 1300]), FIRST + 3)
    shard.taken = [m for m in shard.taken if m.interval != FIRST + 1]
    shard.take(Message(3, 31, 99, FIRST + 2, (1200, 0, 0)), FIRST + 3)
    with pytest.raises(MeteringError, match=f"customer 3, interval {FIRST + 1}: measured energy is on record"):
        shard.correct(FIRST + 3)


def test_a_record_without_somebody_connected_is_named() -> None:
    shard = Shard()
    connected = shard.connected(FIRST)
    with pytest.raises(MeteringError, match=f"customer 3, interval {FIRST}: no energy on record"):
        shard.meters.apply(FIRST, Readings.empty(), Energy.empty(), connected)


def test_a_snapshot_without_a_column_is_named() -> None:
    parts = Shard().play(day(3, [1000, 1100]), FIRST + 1).meters.parts()
    assert same(Meters.of(parts).parts(), parts)
    del parts["still"]
    with pytest.raises(MeteringError, match="column still is missing"):
        Meters.of(parts)


FAULTS = st.sampled_from(["", "", "", "", "never", "wild", "voltage", "reset", "again"])
STEP = st.tuples(st.sampled_from([0, 0, 1, 40, 40, 300, 1000]), st.sampled_from([0, 0, 30]), FAULTS, st.integers(0, 12))


@st.composite
def worlds(draw: st.DrawFn) -> tuple[Shard, list[Message], int]:
    """Meters that run, stop, jump, are changed and reconnected; each reading with a delay, some about one interval."""
    length = draw(st.integers(3, 26))
    until = FIRST + length - 1
    inside = st.integers(FIRST, until)
    shard = Shard(gap_energy=draw(st.sampled_from(GapEnergy)))
    messages = []
    for customer in (1, 2, SUBSTATION):
        if customer != SUBSTATION:
            shard.every[customer] = draw(st.sampled_from([1, 2, 3, 4, 12]))
        if draw(st.booleans()):
            shard.exchanged[customer] = draw(inside)
        if customer != SUBSTATION and draw(st.booleans()):
            gone = draw(inside)
            shard.away[customer] = range(gone, gone + draw(st.integers(1, 4)))
        registers, serial, counter = [500, 20, 0], 0, 0
        for interval, (import_wh, export_wh, fault, delay) in enumerate(
            draw(st.lists(STEP, min_size=length, max_size=length)), FIRST
        ):
            meter = shard.meter(customer, interval)
            if meter not in (NOWHERE, serial):
                serial, registers = meter, [interval % 7, 0, 0]
            registers = [registers[0] + import_wh, registers[1] + export_wh, registers[2] + import_wh - 20]
            counter += 1
            if fault == "never" or (interval + 1) % shard.every.get(customer, 1):
                continue
            if fault == "reset":
                registers = [0, 0, 0]
            shown = (registers[0] + 10**6 * (fault == "wild"), registers[1], registers[2])
            voltage = 999_999 if fault == "voltage" else 230_000
            sent = Message(customer, max(serial, 1), counter, interval, shown, voltage, delay)
            messages.append(sent)
            if fault == "again":  # the head-end asks once more, and gets something else
                counter += 1
                other = (shown[0] + draw(st.sampled_from([0, 3, 10**6])), *shown[1:])
                messages.append(replace(sent, counter=counter, registers=other, delay=draw(st.integers(0, 12))))
    return shard, draw(st.permutations(messages)), until


@settings(max_examples=80, deadline=None)
@given(worlds(), st.integers(1, 6))
def test_the_order_in_which_readings_come_does_not_matter(world: tuple[Shard, list[Message], int], every: int) -> None:
    """Believed energy and the live state of every meter are functions of the set of readings."""
    shard, messages, until = world
    in_time = [replace(m, delay=0) for m in messages]
    other = replace(shard, meters=Meters(), taken=[], rows={}, due=set())
    shard.play(messages, until, every)
    other.play(in_time, until, 3)
    assert shard.believed() == other.believed()
    assert same(shard.meters.parts(), other.meters.parts())
    assert not len(shard.correct(until).edits), "nothing is due twice"
