"""A verifier that shares no code with the operator sees through prices that nobody else has said."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from tellegen.errors import InputError
from tellegen.journal import NoteVerifier
from tellegen.operations.price_signing import signed_table
from tellegen.operations.prices import read_prices
from tellegen.records import (
    GateOutcome,
    Gates,
    Header,
    PriceSources,
    PublishedPrices,
    RootPrices,
    Table,
    price_message,
)
from tellegen.rules import Rulebook
from tellegen.units import interval_start
from tellegen.verify import RefusedError
from tellegen.verify.calendar import Calendar
from tellegen.verify.price_file import PublishedFile
from tellegen.verify.record import PublicRows
from tellegen.verify.root_prices import RootPriceChecks

INTERVAL, AT = 4_900_000, 4_900_000 * 300
NAME, ADDRESS = "exchange.example/DE-LU", "https://exchange.example/DE-LU.csv"
KEY = Ed25519PrivateKey.from_private_bytes(bytes(32))
VKEY = NoteVerifier(NAME, KEY.public_key().public_bytes_raw()).vkey
SIGNED = f'proof = "signature"\nsource = "{ADDRESS}"\npublisher_key = "{VKEY}"\n'


def calendar(section: str) -> Calendar:
    content = Rulebook.load().versions[0].content + f"\n[root_prices]\n{section}".encode()
    return Calendar.of({"rulebook/2016-01-01.toml": content})


def batch(index: int, table: Table, *causes: int, market: str = "real_time", name: str = "") -> PublicRows:
    header = Header(table.kind, name, "", market, INTERVAL, 1, "market operator", AT, causes, len(table), "", "")
    return PublicRows(index, header, table)


def source(address: str = ADDRESS, retrieved_at: int = AT) -> PriceSources:
    return PriceSources(
        address=np.array([address.encode()], dtype="S200"),
        retrieved_at=np.array([retrieved_at]),
        size=np.array([0]),
        sha256=np.zeros(1, dtype="V32"),
    )


def published(micros: int = 60_000, intervals: int = 12, begins: int = INTERVAL, market: str = "real_time"):
    """A price that its publisher has signed."""
    signature = KEY.sign(price_message(NAME, market, begins, intervals, micros))
    columns = dict(interval=[begins], intervals=[intervals], micros=[micros])
    return PublishedPrices(**columns, signature=np.array([signature], dtype="V64"))


def price(micros: int = 60_000) -> RootPrices:
    return RootPrices(interval=[INTERVAL], micros=[micros], source=np.array([b"prices.csv"], dtype="S64"))


def gate(price: int, outcome: GateOutcome = GateOutcome.CLOSED) -> Gates:
    rows = np.zeros(1, dtype=Gates.row_dtype())
    rows["feeder"], rows["interval"], rows["intervals"] = b"F1", INTERVAL, 1
    rows["root_price"], rows["outcome"] = price, outcome
    return Gates.from_rows(rows)


def checked(section: str, *batches: PublicRows) -> str:
    return RootPriceChecks(batches, calendar(section)).check()[1]


def test_a_signed_price_that_its_gate_counts_holds() -> None:
    words = checked(SIGNED, batch(0, source()), batch(1, published()), batch(2, price(), 0, 1), batch(3, gate(60_000)))
    assert words.startswith(f"1 prices, each the one that its gate counted; 1 signed by {NAME}, not pinned")


def test_a_rulebook_that_names_the_operator_s_own_key_is_seen_through() -> None:
    """Who operates might put a rulebook on record that lets it sign for itself."""
    batches = batch(0, source()), batch(1, published()), batch(2, price(), 0, 1)
    assert RootPriceChecks(batches, calendar(SIGNED), [VKEY]).check()[1].endswith("whose key is pinned")
    other = NoteVerifier(NAME, bytes(32)).vkey
    with pytest.raises(RefusedError, match="which is no pinned key"):
        RootPriceChecks(batches, calendar(SIGNED), [other]).check()


@pytest.mark.parametrize(
    ("batches", "complaint"),
    [
        ([batch(2, price())], "names no document"),
        ([batch(0, source("https://other.example")), batch(2, price(), 0)], "read from https://other.example, the rul"),
        ([batch(0, source(retrieved_at=AT + 1)), batch(2, price(), 0)], "on record before its document was read"),
        ([batch(0, source()), batch(2, price(), 0)], f"is not what {NAME} signed"),
        ([batch(0, source()), batch(1, published()), batch(2, price(60_001), 0, 1)], f"is not what {NAME} signed"),
        ([batch(0, source()), batch(1, published(begins=INTERVAL - 12)), batch(2, price(), 0, 1)], "is not what"),
        ([batch(0, source()), batch(1, published(market="day_ahead")), batch(2, price(), 0, 1)], "signature is not"),
    ],
)
def test_a_price_without_the_proof_of_its_rules_is_refused(batches: list[PublicRows], complaint: str) -> None:
    with pytest.raises(RefusedError, match="entry 2: real_time price at 2016-07-31T21:20Z") as caught:
        checked(SIGNED, *batches)
    assert complaint in str(caught.value)


@given(st.sampled_from(["interval", "intervals", "micros"]), st.integers(1, 2**20))
def test_a_signed_price_cannot_be_changed(field: str, by: int) -> None:
    said = published()
    other = replace(said, **{field: getattr(said, field) + by})
    batches = batch(0, source()), batch(1, other), batch(2, price(int(other.micros[0])), 0, 1)
    with pytest.raises(RefusedError):
        checked(SIGNED, *batches)


@pytest.mark.parametrize(
    ("batches", "complaint"),
    [
        ([batch(0, price()), batch(1, gate(60_001))], "counts another price"),
        ([batch(1, gate(60_000))], "counts another price"),
        ([batch(0, gate(0, GateOutcome.NO_PRICE)), batch(1, price())], "came after its gate"),
        ([batch(0, price()), batch(1, gate(60_000, GateOutcome.NO_PRICE))], "whether there was a price"),
        ([batch(0, gate(0))], "whether there was a price"),
    ],
)
def test_a_gate_counts_what_was_on_record_before_it(batches: list[PublicRows], complaint: str) -> None:
    with pytest.raises(RefusedError, match=complaint):
        checked("", *batches)


# Two readers of one file


@given(
    step=st.sampled_from([1, 3, 6, 12]),
    rows=st.lists(st.tuples(st.booleans(), st.integers(-999_999, 4_999_999), st.integers(0, 3)), min_size=2),
    ask=st.tuples(st.integers(-5, 200), st.sampled_from([1, 12])),
)
def test_both_readers_say_the_same_of_a_file(
    tmp_path_factory: pytest.TempPathFactory, step: int, rows: list[tuple[bool, int, int]], ask: tuple[int, int]
) -> None:
    """The operator's and the verifier's were written apart; gaps, empty cells and means included."""
    path, at, lines = tmp_path_factory.getbasetemp() / "read.csv", INTERVAL, []
    for k, (said, micros, gap) in enumerate(rows):
        lines.append(f"{interval_start(at).isoformat()},{micros / 1e6:.6f},{f'{micros / 2e6:.6f}' if said else ''}\n")
        at += step * (1 if k == 0 else 1 + gap)
    path.write_text("".join(lines))
    path.write_text(signed_table(path, NAME, KEY.sign))
    period = range(INTERVAL + ask[0], INTERVAL + sum(ask))
    series, file = read_prices(path, None), PublishedFile.read(path)
    for market, column in (("real_time", series.real_time), ("day_ahead", series.day_ahead)):
        assert file.price(market, period) == column.mean(period)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (b"\xff", "file is no table of times and prices"),
        (b"now,0.1\n", "line 1, time 'now' is not a whole five minutes with an offset"),
        (b"2016-03-25T23:00Z,1e999999\n", "line 1, column 2 '1e999999' is not a price"),
        (b"2016-03-25T23:00Z,nan\n", "is not a price per kWh in whole millionths"),
        (b"2016-03-25T23:00Z,0.1\n2016-03-25T23:00Z,0.1\n", "times must be there and rise"),
        (b"time,real_time\n", "times must be there and rise"),
    ],
)
def test_a_file_that_says_no_prices_is_named(tmp_path: Path, text: bytes, complaint: str) -> None:
    path = tmp_path / "prices.csv"
    path.write_bytes(text)
    with pytest.raises(InputError, match=complaint):
        PublishedFile.read(path)
