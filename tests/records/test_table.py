"""Law 4: batches, not objects; a row has one byte form."""

import hashlib
from dataclasses import fields

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tellegen.records import (
    STATEMENT_LINES,
    TABLES,
    Header,
    Postings,
    RecordError,
    Schedules,
    Statements,
    leaf_hash,
    tree_root,
)


@pytest.mark.parametrize("kind", sorted(TABLES))
def test_every_table_survives_its_canonical_bytes(kind: str) -> None:
    """law 4: canonical bytes and table are the same thing."""
    table = TABLES[kind]
    raw = np.random.default_rng(1).integers(0, 2, 5 * table.row_dtype().itemsize, dtype=np.uint8).tobytes()
    assert table.from_bytes(raw).rows().tobytes() == raw
    assert len(table.empty()) == 0


@pytest.mark.parametrize("kind", sorted(TABLES))
def test_every_column_says_unit_and_meaning(kind: str) -> None:
    for spec in fields(TABLES[kind]):
        assert spec.metadata["unit"], spec.name
        assert len(spec.metadata["doc"]) > 5, spec.name
        assert np.dtype(spec.metadata["dtype"]).base.kind in "iuSV", f"{spec.name}: no float on record"


def test_a_value_that_does_not_fit_is_refused() -> None:
    with pytest.raises(RecordError, match="does not fit"):
        Schedules(np.array([2**40]), *[np.array([1])] * 9)


def test_floats_and_unequal_columns_are_refused() -> None:
    with pytest.raises(RecordError, match="needed"):
        Schedules(np.array([1]), np.array([1]), np.array([1.0]), *[np.array([1])] * 7)
    with pytest.raises(RecordError, match="rows"):
        Schedules(np.array([1, 2]), *[np.array([1])] * 9)


def test_a_matrix_column_has_a_row_of_numbers_per_row() -> None:
    """law 4: a statement is one row, its lines are columns of a matrix."""
    lines = len(STATEMENT_LINES)
    wide = np.arange(2 * lines).reshape(2, lines)
    table = Statements(customer=[1, 2], day=[9, 9], quantities=wide, amounts=-wide, cents=wide)
    assert Statements.from_bytes(table.rows().tobytes()).equals(table)
    assert table.rows().tobytes()[8 : 8 + 8 * lines] == wide[0].astype("<i8").tobytes()
    assert Statements.concat([table, Statements.empty(), table]).take([3]).equals(table.take([1]))
    with pytest.raises(RecordError, match="two dimensions needed"):
        Statements(customer=[1, 2], day=[9, 9], quantities=[1, 2], amounts=wide, cents=wide)
    with pytest.raises(RecordError, match=f"rows of {lines - 1} numbers given, {lines} needed"):
        Statements(customer=[1, 2], day=[9, 9], quantities=wide[:, 1:], amounts=wide, cents=wide)


def test_rows_of_system_accounts_are_public() -> None:
    postings = Postings.from_bytes(bytes(2 * Postings.row_dtype().itemsize))
    assert postings.subjects().tolist() == [-1, -1]


def rfc6962_root(leaves: list[bytes]) -> bytes:
    """RFC 6962 section 2.1 as it is written: split at the largest power of two."""
    if not leaves:
        return hashlib.sha256(b"").digest()
    if len(leaves) == 1:
        return leaves[0]
    split = 1 << (len(leaves) - 1).bit_length() - 1
    return hashlib.sha256(b"\x01" + rfc6962_root(leaves[:split]) + rfc6962_root(leaves[split:])).digest()


@given(st.integers(0, 70))
def test_the_row_tree_is_the_tree_of_rfc_6962(size: int) -> None:
    """law 6: rows are bound by an RFC 6962 tree."""
    leaves = [leaf_hash(b"salt", bytes([k])) for k in range(size)]
    assert tree_root(leaves) == rfc6962_root(leaves)


def test_a_header_has_one_form() -> None:
    """law 6: the log entry is the canonical form of the header; any other text is refused."""
    header = Header("orders", "", "f", "real_time", 7, 1, "market", 0, (1, 2), 3, "00", "11")
    assert Header.from_bytes(header.to_bytes()) == header
    for broken in (header.to_bytes() + b" ", b"{}", b"x", header.to_bytes().replace(b'"rows":3', b'"rows":3.0')):
        with pytest.raises(RecordError):
            Header.from_bytes(broken)
