"""Order books: recorded orders in the engine's units, and what cannot be cleared."""

from __future__ import annotations

import numpy as np
import pytest

from tellegen.errors import InputError
from tellegen.market import OrderBook
from tellegen.records import Orders


def test_recorded_orders_become_engine_units() -> None:
    orders = Orders(
        customer=np.array([1, 2]),
        period=np.array([0, 0]),
        device=np.array([0, 1]),
        node=np.array([4, 5]),
        product=np.array([0, 1]),
        side=np.array([1, -1]),
        price_taker=np.array([1, 0]),
        price_micros=np.array([0, 250_000]),
        quantity_w=np.array([1500, 700]),
        var_per_kw=np.array([200, 0]),
    )
    made = OrderBook.from_orders(orders)
    assert made.price_taker.tolist() == [True, False]
    assert made.price[1] == 0.25
    assert made.quantity_kw.tolist() == [1.5, 0.7]
    assert made.kvar_per_kw.tolist() == [0.2, 0.0]
    reserve = Orders(
        **{name: getattr(orders, name) for name in Orders.row_dtype().names} | {"product": np.array([0, 2])}
    )
    assert OrderBook.from_orders(reserve).product.tolist() == [0, 2]


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"price": np.inf}, "infinite price"),
        ({"quantity_kw": [-1.0]}, "negative"),
        ({"quantity_kw": [np.nan]}, "not finite"),
        ({"side": 0}, "neither"),
        ({"slope": -1.0}, "slope"),
        ({"product": 7}, "product"),
        ({"product": 1, "kvar_per_kw": 0.1}, "kvar_per_kw"),
    ],
)
def test_a_book_refuses_what_cannot_be_cleared(change: dict[str, object], problem: str) -> None:
    given = {"node": [1], "side": 1, "price": 0.3, "quantity_kw": [1.0], **change}
    with pytest.raises(InputError, match=problem):
        OrderBook.of(**given)  # type: ignore[arg-type]
