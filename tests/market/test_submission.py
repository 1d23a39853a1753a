"""Orders are signed by those who stand behind them."""

import numpy as np
import pytest
from nacl.signing import SigningKey

from tellegen.market.submission import SubmissionError, rejected_rows, sign_orders
from tellegen.records import Orders, Submissions

KEYS = {n: SigningKey(bytes([n]) * 32) for n in (1, 2, 3)}
VERIFY = {n: key.verify_key for n, key in KEYS.items()}


def orders(customers: list[int]) -> Orders:
    n = len(customers)
    zeros = np.zeros(n, dtype=np.int64)
    return Orders(np.array(customers), zeros, zeros, zeros, zeros + 1, zeros, zeros + 9, zeros + 100, zeros)


def test_orders_as_signed_are_accepted() -> None:
    book = orders([1, 1, 2, 3])
    signed = sign_orders(book, "real_time", 7, KEYS)
    assert not rejected_rows(book, signed, "real_time", 7, VERIFY).any()


@pytest.mark.parametrize(("market", "interval"), [("day_ahead", 7), ("real_time", 8)])
def test_a_signature_counts_for_one_gate_closure_only(market: str, interval: int) -> None:
    book = orders([1, 2])
    assert rejected_rows(book, sign_orders(book, "real_time", 7, KEYS), market, interval, VERIFY).all()


def test_a_forged_row_is_refused_and_the_others_are_kept() -> None:
    book = orders([1, 1, 2, 3])
    signed = sign_orders(book, "real_time", 7, KEYS)
    forged = book.rows()
    forged["price_micros"][2] += 1
    assert rejected_rows(Orders.from_rows(forged), signed, "real_time", 7, VERIFY).tolist() == [
        False,
        False,
        True,
        False,
    ]


def test_an_unknown_or_silent_customer_is_refused() -> None:
    book = orders([1, 2])
    signed = sign_orders(book, "real_time", 7, KEYS)
    assert rejected_rows(book, signed, "real_time", 7, {1: VERIFY[1]}).tolist() == [False, True]
    assert rejected_rows(book, Submissions.empty(), "real_time", 7, VERIFY).all()


def test_scattered_rows_are_an_error() -> None:
    with pytest.raises(SubmissionError, match="together"):
        sign_orders(orders([1, 2, 1]), "real_time", 7, KEYS)
