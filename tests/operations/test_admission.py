"""Gate closure: what the operator refuses before it clears."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tellegen.operations.admission import Limits, beyond_price_limits, refusals
from tellegen.operations.devices import Devices, key_of
from tellegen.records import Device, Orders, Product, Refusal, Side

FLOOR, CAP = -500_000, 3_000_000


def orders(prices: list[int], takers: list[int]) -> Orders:
    n = len(prices)
    zeros = np.zeros(n, dtype=np.int64)
    rows = Orders.from_bytes(bytes(n * Orders.row_dtype().itemsize))
    return replace(
        rows,
        customer=np.array([1, 1, 2], dtype=np.int32),
        price_micros=np.array(prices),
        price_taker=np.array(takers, dtype=np.uint8),
        quantity_w=zeros + 100,
    )


@pytest.mark.parametrize("price", [3_000_001, -500_001])
def test_a_customer_with_one_price_outside_the_rules_is_refused_whole(price: int) -> None:
    """One signature covers all that a customer submits; nobody else loses an order by it."""
    assert beyond_price_limits(orders([price, 90_000, 90_000], [0, 0, 0]), FLOOR, CAP).tolist() == [True, True, False]


def test_the_cap_and_the_floor_themselves_are_admitted() -> None:
    assert not beyond_price_limits(orders([3_000_000, -500_000, 0], [0, 0, 0]), FLOOR, CAP).any()


def test_a_price_taker_names_no_price() -> None:
    assert not beyond_price_limits(orders([9_000_000, 90_000, 0], [1, 0, 0]), FLOOR, CAP).any()


def test_who_asks_for_more_than_its_connection_carries_is_refused_whole_with_the_reason() -> None:
    """All steps together, and what it offers by itself; nobody else loses an order by it."""
    book = replace(orders([1, 1, 1], [0, 0, 0]), side=np.array([1, 1, -1], dtype=np.int8))
    who, where = np.array([1, 2]), np.array([0, 0])
    for capacity, expected in (((200, 100), [0, 0, 0]), ((199, 100), [11, 11, 0]), ((200, 99), [0, 0, 11])):
        found = refusals(book, who, where, FLOOR, CAP, Limits(capacity_w=np.array(capacity)))
        assert found.tolist() == expected
    assert Refusal.BEYOND_CONNECTION == 11
    assert not refusals(book, who, where, FLOOR, CAP).any()


WHO, WHERE = np.array([1, 2]), np.array([0, 0])


def registered(import_w: int, export_w: int, *, attested: bool = True, device: Device = Device.BATTERY) -> Devices:
    """A device of customer 1, rated for the larger of what it draws and feeds in."""
    return Devices(
        key=np.array([256 + device]),
        import_w=np.array([import_w]),
        export_w=np.array([export_w]),
        capacity_w=np.array([max(import_w, export_w)]),
        attested=np.array([attested]),
    )


def of_battery(product: Product, side: Side, watts: int, var_per_kw: int = 0) -> Orders:
    """Two steps of customer 1's battery, and the load of customer 2."""
    return replace(
        orders([90_000] * 3, [0] * 3),
        device=np.array([Device.BATTERY, Device.BATTERY, Device.LOAD], dtype=np.uint8),
        product=np.array([product, product, Product.ENERGY], dtype=np.uint8),
        side=np.array([side, side, Side.BUY], dtype=np.int8),
        quantity_w=np.array([watts - 10, 10, 5_000]),
        var_per_kw=np.array([var_per_kw, var_per_kw, 0], dtype=np.int32),
    )


@pytest.mark.parametrize(
    ("product", "side", "most"),
    [
        (Product.ENERGY, Side.BUY, 3_000),
        (Product.ENERGY, Side.SELL, 2_000),
        (Product.REACTIVE, Side.BUY, 3_000),
        (Product.REACTIVE, Side.SELL, 3_000),
        (Product.RESERVE_UP, Side.SELL, 5_000),
        (Product.RESERVE_DOWN, Side.SELL, 5_000),
    ],
)
def test_orders_for_a_device_are_within_what_it_can_do_all_steps_together(
    product: Product, side: Side, most: int
) -> None:
    """Reserve may turn all that a battery draws into all that it feeds in."""
    limits = Limits(devices=registered(3_000, 2_000))
    for watts, reason in ((most, Refusal.NONE), (most + 1, Refusal.BEYOND_DEVICE)):
        book = of_battery(product, side, watts)
        assert refusals(book, WHO, WHERE, FLOOR, CAP, limits).tolist() == [reason, reason, Refusal.NONE]


@pytest.mark.parametrize("product", [Product.RESERVE_UP, Product.RESERVE_DOWN])
def test_a_connection_as_such_holds_no_reserve(product: Product) -> None:
    """Of a device it is known what could be held; whoever prequalifies reserve anywhere asks for no less."""
    book = replace(of_battery(product, Side.SELL, 1), device=np.full(3, Device.LOAD, dtype=np.uint8))
    for rule, reason in ((True, Refusal.NOT_REGISTERED), (False, Refusal.NONE)):
        limits = Limits(devices=registered(3_000, 2_000), reserve_of_devices=rule)
        assert refusals(book, WHO, WHERE, FLOOR, CAP, limits).tolist()[0] == reason


def test_reactive_power_that_comes_along_counts_as_such() -> None:
    limits = Limits(devices=registered(3_000, 2_000))
    book = of_battery(Product.ENERGY, Side.BUY, 1_000, var_per_kw=3_100)
    assert refusals(book, WHO, WHERE, FLOOR, CAP, limits).tolist() == [Refusal.BEYOND_DEVICE] * 2 + [Refusal.NONE]


def test_a_device_that_nobody_registered_or_vouches_for_has_its_own_reason() -> None:
    book = of_battery(Product.ENERGY, Side.BUY, 1_000)
    for devices, attested, reason in (
        (registered(3_000, 2_000, device=Device.PV), True, Refusal.NOT_REGISTERED),
        (registered(3_000, 2_000, attested=False), True, Refusal.NOT_ATTESTED),
        (registered(3_000, 2_000, attested=False), False, Refusal.NONE),
    ):
        found = refusals(book, WHO, WHERE, FLOOR, CAP, Limits(devices=devices, attested=attested))
        assert found.tolist() == [reason, reason, Refusal.NONE]


def test_no_quantity_is_so_large_that_it_wraps_around() -> None:
    limits = Limits(carries_w=np.array([25_000, 25_000]), devices=registered(3_000, 2_000))
    book = of_battery(Product.ENERGY, Side.BUY, 10**15 - 1, var_per_kw=-(2**31))
    assert refusals(book, WHO, WHERE, FLOOR, CAP, limits).tolist() == [Refusal.BEYOND_DEVICE] * 2 + [Refusal.NONE]


@given(st.lists(st.tuples(st.integers(1, 3), st.sampled_from(Device), st.integers(0, 9)), max_size=12))
def test_a_device_is_found_by_customer_and_kind(rows: list[tuple[int, Device, int]]) -> None:
    known = {256 * c + d: w for c, d, w in rows}
    key = np.array(sorted(known), dtype=np.int64)
    watts = np.array([known[k] for k in key.tolist()], dtype=np.int64)
    devices = Devices(key, watts, watts, watts, np.ones(key.size, dtype=np.bool_))
    asked = of_battery(Product.ENERGY, Side.BUY, 100)
    for order, row in zip(key_of(asked).tolist(), devices.row_of(asked).tolist(), strict=True):
        assert known.get(order) == (None if row < 0 else watts[row])
