"""Orders are signed by those who stand behind them, for one shard, feeder, market, period and number."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from nacl.signing import SigningKey

from tellegen.intake.row_checks import unsigned
from tellegen.records import Orders, RecordError, Submissions, bid_message, sign_bids
from tellegen.records.submission import bid_messages

KEYS = {n: SigningKey(bytes([n]) * 32) for n in (1, 2, 3)}
ABOUT = ("city.example/1", "F1", "day_ahead", 7)


def orders(customers: list[int], periods: list[int] | None = None) -> Orders:
    zeros = np.zeros(len(customers), dtype=np.int64)
    period = zeros if periods is None else np.array(periods, dtype=np.int64)
    return Orders(np.array(customers), period, zeros, zeros, zeros, zeros + 1, zeros, zeros + 9, zeros + 100, zeros)


def sign(customer: int, message: bytes) -> bytes:
    return KEYS[customer].sign(message).signature


def bad(book: Orders, signed: Submissions, *about: object, known: tuple[int, ...] = (1, 2, 3)) -> list[bool]:
    keys = [bytes(KEYS[c].verify_key) if c in known else None for c in signed.customer.tolist()]
    return unsigned(bid_messages(signed, book, *(about or ABOUT)), signed, keys).tolist()  # type: ignore[arg-type]


def test_one_signature_covers_all_periods_of_a_customers_day() -> None:
    book = orders([1, 1, 1, 2, 3], [0, 1, 24, 3, 0])
    signed = sign_bids(book, *ABOUT, 5, sign)
    assert signed.customer.tolist() == [1, 2, 3]
    assert signed.order_rows.tolist() == [3, 1, 1]
    assert bad(book, signed) == [False, False, False]
    rows = book.rows()[:3].tobytes()
    assert KEYS[1].verify_key.verify(bid_message(*ABOUT, 25, 5, rows), signed.signature[0].tobytes())


@pytest.mark.parametrize(
    "about",
    [
        ("city.example/2", "F1", "day_ahead", 7),
        ("city.example/1", "F2", "day_ahead", 7),
        ("city.example/1", "F1", "real_time", 7),
        ("city.example/1", "F1", "day_ahead", 8),
    ],
)
def test_a_signature_counts_for_one_shard_feeder_market_and_gate_only(about: tuple[str, str, str, int]) -> None:
    book = orders([1, 2])
    assert bad(book, sign_bids(book, *ABOUT, 0, sign), *about) == [True, True]


@given(st.sampled_from(Orders.row_dtype().names), st.integers(0, 3), st.integers(1, 7))
def test_whatever_is_changed_in_an_order_its_submission_is_refused_alone(name: str, row: int, change: int) -> None:
    book = orders([1, 1, 2, 3])
    signed = sign_bids(book, *ABOUT, 5, sign)
    forged = book.rows()
    forged[name][row] ^= change
    assert bad(Orders.from_rows(forged), signed) == [row in covered for covered in ((0, 1), (2,), (3,))]


def test_the_number_of_a_submission_is_signed_too() -> None:
    book = orders([1, 2])
    rows = sign_bids(book, *ABOUT, 5, sign).rows()
    rows["sequence"][1] = 6
    assert bad(book, Submissions.from_rows(rows)) == [False, True]


def test_who_has_no_key_has_signed_nothing() -> None:
    book = orders([1, 2])
    assert bad(book, sign_bids(book, *ABOUT, 5, sign), known=(1,)) == [False, True]


def test_scattered_rows_are_an_error() -> None:
    with pytest.raises(RecordError, match="together"):
        sign_bids(orders([1, 2, 1]), *ABOUT, 5, sign)
