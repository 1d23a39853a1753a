"""Records of a day become the facts that settle."""

from datetime import date

import numpy as np
import pytest
from numpy.typing import ArrayLike

from tellegen.books import fold
from tellegen.records import Account, AllocationKeys, Clearings, Customers, Energy, Line, Prices, Schedules
from tellegen.rules import Rulebook
from tellegen.settlement import ClearedPeriod, SettlementError, assemble_day, settle_day, settle_intervals

RULES = Rulebook.load().at(date(2016, 7, 1)).settlement
FIRST = 4_838_400
CUSTOMERS = Customers(
    customer=[7, 3], node=[2, 1], meter=[70, 30], fuse_w=[9000, 9000], public_key=np.zeros(2, dtype="V32")
)
KEYS = AllocationKeys(customer=[3, 7], weight_wh=[100, 300])


def schedule(customer: list[int], node: list[int], energy_wh: ArrayLike) -> Schedules:
    nothing = np.zeros(len(customer), dtype=np.int64)
    return Schedules(customer, node, energy_wh, *[nothing] * 7)  # type: ignore[arg-type]


def period(k: int, scale: int) -> ClearedPeriod:
    """A cleared period whose numbers tell it apart; nodes are listed in another order than customers."""
    awarded = np.array([100 + k, -40 - k]) * scale
    energy = np.array([200_000 + 1000 * k, 190_000 + 1000 * k, 210_000 + 1000 * k])
    nothing = np.zeros(3, dtype=np.int64)
    prices = Prices(
        node=[2, 0, 1],
        energy=energy,
        root=energy,
        losses=nothing,
        congestion=nothing,
        voltage=nothing,
        low=energy,
        high=energy,
        reactive=[5, 6, 7],
        reserve_up=nothing,
        reserve_down=nothing,
    )
    single = {name: [0] for name in Clearings.row_dtype().names}
    root = {"root_price": [180_000 + k], "root_wh": [int(awarded.sum()) + 3 * scale], "losses_wh": [3 * scale]}
    return ClearedPeriod(
        schedule([3, 7], [1, 2], awarded),
        prices,
        Clearings(**(single | root)),
    )


def readings(intervals: int = 12, names: tuple[int, ...] = (0, 3, 7)) -> Energy:
    rows = [(name, FIRST + k) for k in range(intervals) for name in names]
    customer, interval = (np.array(column) for column in zip(*rows, strict=True))
    nothing = np.zeros(customer.size, dtype=np.int64)
    return Energy(
        customer=customer,
        interval=interval,
        import_wh=50 + customer,
        export_wh=nothing,
        reactive_varh=nothing,
        quality=nothing,
        rule=nothing,
    )


DAY_AHEAD = [period(0, 12)]
REAL_TIME = [period(k, 1) for k in range(12)]


def test_each_customer_is_priced_at_its_own_node():
    day = assemble_day(FIRST, CUSTOMERS, DAY_AHEAD, REAL_TIME, readings(), KEYS)
    assert day.customer.tolist() == [3, 7]
    assert day.key_wh.tolist() == [100, 300]
    assert day.steps.real_time_price[2].tolist() == [212_000, 202_000]
    assert day.steps.reactive_price[0].tolist() == [7, 5]
    assert day.steps.real_time_wh[2].tolist() == [102, -42]
    assert day.steps.import_wh[5].tolist() == [53, 57]
    assert day.steps.substation_wh.tolist() == [50] * 12


def test_hourly_awards_and_root_energy_are_conserved():
    """Law 1: an hour's award is spread over its intervals, and the root's energy with it."""
    day = assemble_day(FIRST, CUSTOMERS, DAY_AHEAD, REAL_TIME, readings(), KEYS)
    assert day.steps.forward_wh.sum(axis=0).tolist() == [1200, -480]
    assert int(day.steps.root_forward_wh.sum()) == 1200 - 480 + 36


def test_day_ahead_rent_is_that_of_the_clearing():
    """Schedules at prices less root cost: the hour's rent does not depend on how Wh were spread."""
    day = assemble_day(FIRST, CUSTOMERS, DAY_AHEAD, REAL_TIME, readings(), KEYS)
    postings = settle_intervals(day.steps, RULES)
    rent = fold(postings.take(postings.line == Line.RENT_FORWARD), "account").amounts()
    assert rent == {(Account.RENT,): -(1200 * 210_000 - 480 * 200_000 - 756 * 180_000)}
    assert not fold(settle_day(day, RULES), "cause", "interval").amount.any()


def test_an_interval_closes_with_all_its_estimates():
    rows = readings()
    keep = ~((rows.customer == 7) & (rows.interval == FIRST + 4))
    with pytest.raises(SettlementError, match="1 validated readings are missing, first that of customer 7"):
        assemble_day(FIRST, CUSTOMERS, DAY_AHEAD, REAL_TIME, rows.take(keep), KEYS)
    with pytest.raises(SettlementError, match="first that of customer 0"):
        assemble_day(FIRST, CUSTOMERS, DAY_AHEAD, REAL_TIME, readings(names=(3, 7)), KEYS)


def test_a_day_needs_every_real_time_period():
    with pytest.raises(SettlementError, match="1 day-ahead hours need 12 real-time periods, not 11"):
        assemble_day(FIRST, CUSTOMERS, DAY_AHEAD, REAL_TIME[:11], readings(), KEYS)


def test_a_schedule_of_a_stranger_is_refused():
    stranger = schedule([9], [1], [5])
    broken = [ClearedPeriod(stranger, REAL_TIME[0].prices, REAL_TIME[0].clearing), *REAL_TIME[1:]]
    with pytest.raises(SettlementError, match="customer 9, who is not enrolled"):
        assemble_day(FIRST, CUSTOMERS, DAY_AHEAD, broken, readings(), KEYS)


def test_a_node_without_a_price_is_refused():
    elsewhere = Customers(customer=[3], node=[8], meter=[30], fuse_w=[9000], public_key=np.zeros(1, dtype="V32"))
    schedules = schedule([3], [8], [5])
    hours = [ClearedPeriod(schedules, DAY_AHEAD[0].prices, DAY_AHEAD[0].clearing)]
    steps = [ClearedPeriod(schedules, p.prices, p.clearing) for p in REAL_TIME]
    with pytest.raises(SettlementError, match="node 8 of a customer has no price"):
        assemble_day(FIRST, elsewhere, hours, steps, readings(names=(0, 3)), KEYS)
