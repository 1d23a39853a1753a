"""Gate closure: what the operator refuses before it clears."""

from dataclasses import replace

import numpy as np
import pytest

from tellegen.operations.admission import beyond_price_limits, refusals
from tellegen.records import Orders, Refusal

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
        found = refusals(book, who, where, FLOOR, CAP, np.array(capacity))
        assert found.tolist() == expected
    assert Refusal.BEYOND_CONNECTION == 11
    assert not refusals(book, who, where, FLOOR, CAP).any()
