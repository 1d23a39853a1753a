"""Receipts convince an outsider who has the operator's key and nothing else."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tellegen.journal import Journal
from tellegen.privacy import Vault
from tellegen.records import Orders
from tellegen.verify import RefusedError, check_receipt, check_row_receipt

Run = tuple[Path, str, bytes]


def test_every_entry_has_a_receipt_that_proves_it_and_no_other(recorded: Run) -> None:
    """law 6: a receipt is provable offline."""
    path, key, _ = recorded
    journal = Journal.open(path)
    entries = [header.to_bytes() for header in journal.entries()]
    for index, entry in enumerate(entries):
        proven = check_receipt(journal.receipt(index), entry, key)
        assert (proven.index, proven.size, proven.header) == (index, 9, journal.entries()[index])
        with pytest.raises(RefusedError):
            check_receipt(journal.receipt(index), entries[index - 1], key)


def test_a_customer_can_prove_its_row(recorded: Run) -> None:
    """The owner shows row, salt and receipt; the rows of others stay hidden."""
    path, key, _ = recorded
    journal = Journal.open(path)
    index = journal.find(kind="orders")[1]
    header = journal.entries()[index]
    with Vault.open(path / "vault") as vault:
        orders = vault.unseal(header, journal.payload(index)).table
        assert isinstance(orders, Orders)
        for row in range(len(orders)):
            salt = vault.salt(header, int(orders.customer[row]), row)
            bytes_of_row = orders.rows()[row].tobytes()
            receipt = journal.row_receipt(index, row)
            proven = check_row_receipt(receipt, bytes_of_row, salt, key)
            assert (proven.row, proven.entry.header) == (row, header)
            with pytest.raises(RefusedError, match="row root"):
                check_row_receipt(receipt, bytes_of_row, bytes(16), key)
            with pytest.raises(RefusedError, match="row root"):
                check_row_receipt(receipt, bytes_of_row[:-1] + b"\x01", salt, key)


def test_a_public_row_is_proved_without_a_salt(recorded: Run) -> None:
    path, key, _ = recorded
    journal = Journal.open(path)
    index = journal.find(kind="prices")[0]
    with Vault.open(path / "vault") as vault:
        rows = vault.unseal(journal.entries()[index], journal.payload(index)).table.rows()
    assert check_row_receipt(journal.row_receipt(index, 2), rows[2].tobytes(), b"", key).row == 2


def test_a_receipt_under_another_key_is_refused(recorded: Run) -> None:
    path, _, _ = recorded
    other = Journal.create(path / "other", "example.org/feeder", bytes(32))
    journal = Journal.open(path)
    with pytest.raises(RefusedError, match="signature"):
        check_receipt(journal.receipt(0), journal.entries()[0].to_bytes(), other.verifier.vkey)
    other.close()


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_no_byte_of_a_receipt_is_free(row_receipt: tuple[str, bytes, str], data: st.DataObject) -> None:
    receipt, row, key = row_receipt
    assert check_row_receipt(receipt, row, b"", key).row == 1
    raw = receipt.encode()
    at, change = data.draw(st.integers(0, len(raw) - 1)), data.draw(st.integers(1, 127))
    changed = (raw[:at] + bytes([raw[at] ^ change]) + raw[at + 1 :]).decode(errors="replace")
    with pytest.raises(RefusedError):
        check_row_receipt(changed, row, b"", key)
