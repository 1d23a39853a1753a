"""A submission is named for ever by source, route and sequence, and its statement is rebuilt from the record alone."""

from __future__ import annotations

import numpy as np
import pytest

from tellegen.records import (
    Admissions,
    Header,
    Orders,
    RecordError,
    Route,
    Statement,
    Submissions,
    bids_body,
    parse_bids_body,
)


def orders_and_submissions(customers: int = 3) -> tuple[Submissions, Orders]:
    number = np.arange(1, customers + 1, dtype=np.int32)
    orders = Orders(
        customer=np.repeat(number, 2),
        period=np.zeros(2 * customers, np.uint8),
        device=np.zeros(2 * customers, np.uint8),
        node=np.repeat(number, 2),
        product=np.zeros(2 * customers, np.uint8),
        side=np.ones(2 * customers, np.int8),
        price_taker=np.zeros(2 * customers, np.uint8),
        price_micros=np.arange(2 * customers),
        quantity_w=np.full(2 * customers, 500),
        var_per_kw=np.zeros(2 * customers, np.int32),
    )
    signed = Submissions(number, np.full(customers, 2), np.arange(customers), np.zeros(customers, "V64"))
    return signed, orders


def test_a_statement_comes_back_from_the_header_that_keeps_it() -> None:
    statement = Statement.of("city.example/1", Route.BIDS, "gateway 1", "F1", "real_time", 12, 7, b"body")
    again, signature = Statement.on_record(
        "city.example/1", "gateway 1", "F1", "real_time", 12, statement.name(), statement.evidence(b"s" * 64)
    )
    assert again == statement
    assert signature == b"s" * 64


@pytest.mark.parametrize("name", ["bids", "bids/", "bids/x", "bids/-1", "bids/01", "letters/1"])
def test_other_names_are_no_submission(name: str) -> None:
    statement = Statement.of("city.example/1", Route.BIDS, "g", "F1", "", 12, 1, b"")
    with pytest.raises(RecordError):
        Statement.on_record("city.example/1", "g", "F1", "", 12, name, statement.evidence(b""))


@pytest.mark.parametrize("source", ["", "x" * 101, "two\nlines", "Zürich"])
def test_a_source_is_a_short_printable_name(source: str) -> None:
    with pytest.raises(RecordError):
        Statement.of("city.example/1", Route.READINGS, source, "F1", "", 1, 1, b"")


def test_bids_keep_their_form_on_the_wire() -> None:
    signed, orders = orders_and_submissions()
    back_signed, back_orders = parse_bids_body(bids_body(signed, orders))
    assert back_signed.equals(signed)
    assert back_orders.equals(orders)


def test_a_body_that_does_not_add_up_is_refused() -> None:
    body = bids_body(*orders_and_submissions())
    for broken in (b"", body[:-1], body[: 4 + 72], b"\xff\xff\xff\xff" + body[4:], body[:-32]):
        with pytest.raises(RecordError):
            parse_bids_body(broken)


def test_evidence_is_part_of_a_header_only_where_there_is_some() -> None:
    plain = Header("readings", "", "F1", "", 1, 1, "s", 1, (), 0, "-", "-")
    assert b"evidence" not in plain.to_bytes()
    assert Header.from_bytes(plain.to_bytes()) == plain
    signed = Header("readings", "readings/1", "F1", "", 1, 1, "s", 1, (), 0, "-", "-", "digest signature")
    assert Header.from_bytes(signed.to_bytes()) == signed
    with pytest.raises(RecordError):
        Header.from_bytes(plain.to_bytes()[:-1] + b',"evidence":""}')


def test_a_name_that_is_too_long_is_refused_not_cut() -> None:
    row = dict(role=[2], number=[0], public_key=np.zeros(1, "V32"), certificate_sha256=np.zeros(1, "V32"),
               valid_from=[0], valid_until=[1])  # fmt: skip
    Admissions(name=np.array(["x" * 100]), **row)
    with pytest.raises(RecordError, match="longer"):
        Admissions(name=np.array(["x" * 101]), **row)
