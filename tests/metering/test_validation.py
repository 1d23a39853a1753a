"""Validation: what is believed, what is estimated, and that no watt-hour is counted twice."""

from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tellegen.metering import Limits, MeteringError, MeterState, Sent, validate
from tellegen.records import Energy, Quality, Readings, ValidationRule
from tellegen.units import IntArray, QuantityError

FUSE_W = 12_000  # 1000 Wh in five minutes
ASSUMED = 40


@dataclass
class House:
    """One home with meter 9 behind customer 5, read interval by interval."""

    longest_still: int = 0
    interval: int = 100
    counter: int = 0
    import_wh: int = 70_000
    export_wh: int = 500
    state: MeterState = field(init=False)

    def __post_init__(self) -> None:
        registers = np.array([[self.import_wh], [self.export_wh], [0]])
        self.state = MeterState.installed(registers, self.interval)

    def reading(self, **changes: int) -> Readings:
        values = {
            "customer": 5,
            "meter": 9,
            "counter": self.counter,
            "import_wh": self.import_wh,
            "export_wh": self.export_wh,
            "reactive_varh": 0,
            "voltage_mv": 230_000,
        } | changes
        return Readings(**{k: np.array([v]) for k, v in values.items()}, tag=np.zeros(1, dtype="V16"))

    def read(self, moved: int, *, silent: bool = False, **changes: int) -> Energy:
        self.interval, self.counter, self.import_wh = self.interval + 1, self.counter + 1, self.import_wh + moved
        sent = Readings.empty() if silent else self.reading(**changes)
        arrived = Sent.of(sent, np.array([5]), np.array([9]))
        energy, self.state = validate(self.interval, np.array([5]), arrived, self.state, self.limits(), self.estimate())
        return energy

    def limits(self) -> Limits:
        return Limits(*(np.array([v]) for v in (FUSE_W, 160_000, 300_000, self.longest_still)))

    def estimate(self) -> IntArray:
        return np.array([[ASSUMED], [0], [7]])


def outcome(energy: Energy) -> tuple[ValidationRule, Quality, int]:
    return ValidationRule(energy.rule[0]), Quality(energy.quality[0]), int(energy.import_wh[0])


MEASURED, ESTIMATED = Quality.MEASURED, Quality.ESTIMATED
FAULTS = {
    ValidationRule.MISSING: {"silent": True},
    ValidationRule.NEGATIVE: {"import_wh": 69_999},
    ValidationRule.HIGH: {"import_wh": 72_000},
    ValidationRule.ZERO: {"import_wh": 70_030},
    ValidationRule.VOLTAGE: {"voltage_mv": 400_000},
}


@pytest.mark.parametrize(("rule", "fault"), FAULTS.items())
def test_a_fault_costs_two_estimates_and_no_register(rule: ValidationRule, fault: dict[str, int]) -> None:
    """The interval of the fault and the next are estimated; from then on the registers count again."""
    house = House()
    assert outcome(house.read(30)) == (ValidationRule.NONE, MEASURED, 30)
    assert outcome(house.read(50, **fault)) == (rule, ESTIMATED, ASSUMED)  # type: ignore[arg-type]
    assert outcome(house.read(60)) == (ValidationRule.AFTER_GAP, ESTIMATED, ASSUMED)
    assert outcome(house.read(70)) == (ValidationRule.NONE, MEASURED, 70)


def test_an_export_register_that_goes_backwards_is_negative() -> None:
    assert outcome(House().read(30, export_wh=499))[0] == ValidationRule.NEGATIVE


def test_reactive_energy_cannot_exceed_the_connection_either_way() -> None:
    for reactive in (2000, -2000):
        assert outcome(House().read(30, reactive_varh=reactive))[0] == ValidationRule.HIGH


def test_the_fuse_bounds_power_not_energy() -> None:
    """After a gap of three intervals four intervals' worth may have flowed, and no more."""
    house, other = House(), House()
    for home in (house, other):
        for _ in range(3):
            home.read(1000, silent=True)
    assert outcome(house.read(1000))[0] == ValidationRule.AFTER_GAP
    assert outcome(other.read(1002))[0] == ValidationRule.HIGH


def test_whole_watt_hours_do_not_trip_the_fuse() -> None:
    assert outcome(House().read(1001))[0] == ValidationRule.NONE
    assert outcome(House().read(1002))[0] == ValidationRule.HIGH


def test_standing_still_is_suspicious_only_where_it_is_new() -> None:
    assert outcome(House(longest_still=0).read(0))[0] == ValidationRule.ZERO
    house = House(longest_still=2)
    assert [outcome(house.read(0))[0] for _ in range(4)] == [ValidationRule.NONE] * 2 + [ValidationRule.ZERO] * 2
    assert outcome(house.read(30))[0] == ValidationRule.AFTER_GAP
    assert outcome(house.read(0)) == (ValidationRule.NONE, MEASURED, 0)


def test_another_customers_meter_is_not_mine() -> None:
    assert outcome(House().read(30, meter=8))[0] == ValidationRule.MISSING


def test_a_changed_meter_is_believed_from_its_second_reading_on() -> None:
    house = House()
    house.read(30)
    house.import_wh = 0
    assert outcome(house.read(20))[0] == ValidationRule.NEGATIVE
    assert outcome(house.read(25)) == (ValidationRule.AFTER_GAP, ESTIMATED, ASSUMED)
    assert outcome(house.read(35)) == (ValidationRule.NONE, MEASURED, 35)


def test_one_wild_reading_does_not_move_the_base() -> None:
    house = House()
    house.read(30)
    house.read(30, import_wh=10**9)
    assert outcome(house.read(30))[0] == ValidationRule.AFTER_GAP
    assert house.state.accepted[0, 0] == house.import_wh


def test_a_new_meter_with_unknown_registers_starts_with_an_estimate() -> None:
    house = House()
    house.state = MeterState.unknown(1)
    assert outcome(house.read(30)) == (ValidationRule.AFTER_GAP, ESTIMATED, ASSUMED)
    assert outcome(house.read(30)) == (ValidationRule.NONE, MEASURED, 30)


@given(
    st.lists(st.tuples(st.integers(1, 1000), st.sampled_from([None, *FAULTS])), min_size=1, max_size=30),
)
def test_measured_energy_is_exactly_what_the_registers_moved(day: list[tuple[int, ValidationRule | None]]) -> None:
    """law 1: interval energy is the difference of registers. No fault makes an interval count twice."""
    house = House()
    for number, (moved, fault) in enumerate(day, 1):
        change: dict[str, int] = dict(FAULTS[fault]) if fault is not None else {}
        accepted = int(house.state.accepted[0, 0])
        if "import_wh" in change:  # each wild jump another one: the same twice is a changed meter
            jump = {ValidationRule.NEGATIVE: -number, ValidationRule.HIGH: number * 10**8, ValidationRule.ZERO: 0}
            change["import_wh"] = accepted + jump[fault]
        energy = house.read(moved, **change)  # type: ignore[arg-type]
        if energy.quality[0] == Quality.MEASURED:
            assert energy.import_wh[0] == moved
            assert fault is None
        else:
            assert energy.import_wh[0] == ASSUMED
            assert energy.rule[0] != ValidationRule.NONE


def test_many_customers_in_any_order_with_strangers_and_duplicates() -> None:
    """The substation (customer 0) goes the same way as everybody."""
    n = 4
    zero = np.zeros(n, dtype=np.int64)
    state = MeterState.installed(np.zeros((3, n), dtype=np.int64), 6)
    customer = np.array([3, 99, 0, 2, 2, 1])
    sent = Readings(
        customer=customer,
        meter=customer + 10,
        counter=[1, 1, 1, 1, 2, 1],
        import_wh=[30, 9, 90, 7, 20, 10],
        export_wh=np.zeros(6, dtype=np.int64),
        reactive_varh=np.zeros(6, dtype=np.int64),
        voltage_mv=np.full(6, 230_000),
        tag=np.zeros(6, dtype="V16"),
    )
    full = np.full(n, 1)
    limits = Limits(full * 10**6, full, full * 10**6, zero)
    numbers = np.array([0, 1, 2, 3])
    arrived = Sent.of(sent, numbers, numbers + 10)
    energy, _ = validate(7, numbers, arrived, state, limits, np.zeros((3, n), dtype=np.int64))
    assert energy.customer.tolist() == [0, 1, 2, 3]
    assert energy.import_wh.tolist() == [90, 10, 20, 30]
    assert (energy.quality == Quality.MEASURED).all()


def test_registers_beyond_all_reason_are_refused_and_not_wrapped() -> None:
    for value in (2**63 - 1, -(2**63)):
        for column in ("import_wh", "export_wh", "reactive_varh"):
            energy = House().read(30, **{column: value})
            assert energy.quality[0] == ESTIMATED


def test_wrong_lengths_and_estimates_are_named() -> None:
    house = House()
    one, sent = np.array([5]), Sent.of(house.reading(), np.array([5]), np.array([9]))
    with pytest.raises(MeteringError, match=r"estimates have shape \(3, 2\)"):
        validate(1, one, sent, house.state, house.limits(), np.zeros((3, 2), dtype=np.int64))
    with pytest.raises(MeteringError, match=r"limits\.fuse_w has shape \(1,\), 2 meters"):
        validate(1, one, sent, MeterState.unknown(2), house.limits(), house.estimate())
    with pytest.raises(QuantityError, match="estimated energy"):
        validate(1, one, sent, house.state, house.limits(), house.estimate() + 2**31)
