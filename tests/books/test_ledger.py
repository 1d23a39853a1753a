"""The books balance, take a batch once, and can be rebuilt from the journal."""

import sqlite3
from datetime import date

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tellegen.books import BooksError, Ledger, fold, group_sums, negated, net, require_balanced, row_sums
from tellegen.errors import InputError
from tellegen.records import Account, Postings
from tellegen.rules import Rulebook
from tellegen.settlement import settle_day, specimen_day
from tellegen.units import QuantityError


def book(*rows: tuple[int, int, int, int]) -> Postings:
    """Postings from (account, interval, line, amount) at price 0."""
    account, interval, line, amount = (list(column) for column in zip(*rows, strict=True))
    nothing = [0] * len(rows)
    return Postings(
        unit=nothing,
        account=account,
        interval=interval,
        line=line,
        quantity=nothing,
        price=nothing,
        amount=amount,
        cause=nothing,
    )


MONDAY = book((1, 10, 1, 500), (2, 10, 1, -200), (-10, 10, 20, -300), (1, 11, 2, 7), (-10, 11, 21, -7))
TUESDAY = book((1, 300, 1, -100), (2, 300, 3, 100))


def test_balances_add_up_and_the_trial_balance_is_zero(tmp_path):
    with Ledger.create(tmp_path / "books.sqlite") as ledger:
        assert ledger.post(MONDAY, entry=3)
        assert ledger.post(TUESDAY, entry=8)
        assert ledger.balances() == {-10: -307, 1: 407, 2: -100}
        assert ledger.balances_by_line()[1, 1] == 400
        assert ledger.trial_balance() == 0
        assert ledger.balance(99) == 0


def test_a_batch_is_applied_once(tmp_path):
    """Idempotent by journal index: a batch that comes again after a crash changes nothing."""
    path = tmp_path / "books.sqlite"
    with Ledger.create(path) as ledger:
        ledger.post(MONDAY, entry=3)
        before = path.read_bytes()
        assert not ledger.post(MONDAY, entry=3)
    with Ledger.open(path) as ledger:
        assert not ledger.post(MONDAY, entry=3)
        with pytest.raises(BooksError, match="other postings have been applied as entry 3"):
            ledger.post(TUESDAY, entry=3)
    assert path.read_bytes() == before


def test_what_a_stretch_of_the_journal_holds_is_posted_once(tmp_path):
    """Catching up reads from `posted_until` on; postings that were not there then are refused."""
    other = book((1, 5, 1, 1), (2, 5, 1, -1))
    with Ledger.create(tmp_path / "books.sqlite") as ledger:
        assert ledger.posted_until == 0
        assert ledger.post_all([(3, MONDAY)], until=5) == 1
        assert ledger.post_all([(8, TUESDAY)], until=9) == 1
        assert (ledger.posted_until, list(ledger.applied())) == (9, [8])
        before = (ledger.balances(), ledger.digest)
        assert ledger.post_all([(3, MONDAY), (8, TUESDAY)], until=9) == 0
        assert not ledger.post(TUESDAY, entry=8)
        for entry in (7, 8):
            with pytest.raises(BooksError, match=f"other postings have been applied as entry {entry}"):
                ledger.post(other, entry)
        with pytest.raises(BooksError, match="up to 9 are applied, 4 lies below"):
            ledger.post_all([], until=4)
        assert (ledger.balances(), ledger.digest) == before
        assert ledger.post(other, entry=12)
        assert ledger.post_all([(12, other)], until=20) == 0
        assert (ledger.posted_until, list(ledger.applied())) == (20, [12])


def test_books_are_held_against_all_postings_of_the_journal(tmp_path):
    with Ledger.create(tmp_path / "books.sqlite") as ledger:
        ledger.post_all([(3, MONDAY)], until=5)
        ledger.post_all([(8, TUESDAY)], until=9)
        assert ledger.check([(3, MONDAY), (8, TUESDAY)]) == ""
        assert "account 1 has 407, the journal 307" in ledger.check([(3, MONDAY), (8, TUESDAY), (12, TUESDAY)])
        assert "account 1 has 407, the journal 507" in ledger.check([(3, MONDAY)])
        assert "other postings were applied below entry 9" in ledger.check([(4, MONDAY), (8, TUESDAY)])
    with Ledger.rebuild(tmp_path / "again.sqlite", [(3, MONDAY), (8, TUESDAY)], until=9) as again:
        assert again.posted_until == 9
        assert again.check([(3, MONDAY), (8, TUESDAY)]) == ""


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ("UPDATE balances SET nanos = nanos + 1 WHERE account = 1", "account 1 has"),
        ("DELETE FROM balances_by_line WHERE account = 1", "account and line"),
        ("DELETE FROM applied", "entry 8 has None"),
        ("UPDATE applied SET sha256 = 'x'", "entry 8 has x"),
        ("UPDATE posted SET since = 0", "entry 3 has None"),
        ("UPDATE posted SET since = 9", "the journal None"),
        ("UPDATE posted SET until = 4", "below entry 4"),
        ("UPDATE posted SET sha256 = ''", "below entry 9"),
    ],
)
def test_every_altered_table_is_found(tmp_path, change, found):
    path = tmp_path / "books.sqlite"
    with Ledger.create(path) as ledger:
        ledger.post_all([(3, MONDAY)], until=5)
        ledger.post_all([(8, TUESDAY)], until=9)
    with sqlite3.connect(path) as database:
        database.execute(change)
    database.close()
    with Ledger.open(path) as ledger:
        assert found in ledger.check([(3, MONDAY), (8, TUESDAY)])


def test_rebuilding_from_the_journal_gives_the_same_books(tmp_path):
    """Law 3: deleting the index and folding the journal again gives the same contents, byte for byte."""
    paths = [tmp_path / name for name in ("first.sqlite", "second.sqlite")]
    for path in paths:
        Ledger.rebuild(path, [(3, MONDAY), (8, TUESDAY)]).close()
    assert paths[0].read_bytes() == paths[1].read_bytes()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["first.sqlite", "second.sqlite"], (
        "a closed ledger is one file"
    )


def test_the_order_of_batches_does_not_matter(tmp_path):
    with (
        Ledger.rebuild(tmp_path / "a.sqlite", [(3, MONDAY), (8, TUESDAY)]) as one,
        Ledger.rebuild(tmp_path / "b.sqlite", [(8, TUESDAY), (3, MONDAY)]) as other,
    ):
        assert (one.balances(), one.balances_by_line(), one.applied()) == (
            other.balances(),
            other.balances_by_line(),
            other.applied(),
        )


def test_an_unbalanced_transaction_is_refused_whole(tmp_path):
    """Double entry: nothing of the batch is kept, although its first transaction balances."""
    broken = book((1, 10, 1, 5), (2, 10, 1, -5), (1, 11, 1, 3), (2, 11, 1, -2))
    with Ledger.create(tmp_path / "books.sqlite") as ledger:
        with pytest.raises(BooksError, match=r"interval 11\) sums to 1 nano"):
            ledger.post(broken, entry=1)
        assert ledger.balances() == {}
        assert ledger.applied() == {}


def test_transactions_of_one_interval_and_two_causes_balance_each_for_itself():
    split = book((1, 10, 1, 5), (2, 10, 1, -5))
    apart = Postings.from_rows(split.rows())
    apart.cause[1] = 9
    require_balanced(split)
    with pytest.raises(BooksError, match="cause 0"):
        require_balanced(apart)


def test_a_balance_that_leaves_int64_is_refused(tmp_path):
    """Law 1: no balance wraps, and none turns into a float."""
    most = 2**62
    heavy = book((1, 1, 1, most), (2, 1, 1, -most))
    with Ledger.create(tmp_path / "books.sqlite") as ledger:
        ledger.post(heavy, entry=1)
        with pytest.raises(BooksError, match="entry 2 cannot be applied"):
            ledger.post(heavy, entry=2)
        assert ledger.balances() == {1: most, 2: -most}
        assert ledger.trial_balance() == 0
    with pytest.raises(QuantityError):
        fold(book((1, 1, 1, most), (1, 1, 1, most)), "account")


def test_errors_name_the_file_and_the_remedy(tmp_path):
    with pytest.raises(InputError, match="rebuilds the books"):
        Ledger.open(tmp_path / "none.sqlite")
    other = tmp_path / "other.sqlite"
    sqlite3.connect(other).close()
    with pytest.raises(InputError, match="is not a ledger"):
        Ledger.open(other)
    other.write_bytes(b"no database at all" * 100)
    with pytest.raises(InputError, match="is not a ledger"):
        Ledger.open(other)
    with pytest.raises(InputError, match="exists already"):
        Ledger.create(other)


def test_a_ledger_opened_to_read_cannot_be_posted_to(tmp_path):
    path = tmp_path / "books.sqlite"
    Ledger.rebuild(path, [(3, MONDAY)]).close()
    with Ledger.open(path, read_only=True) as ledger:
        assert ledger.trial_balance() == 0
        with pytest.raises(BooksError, match="entry 4 cannot be applied"):
            ledger.post(TUESDAY, entry=4)


rows = st.lists(
    st.tuples(st.integers(1, 4), st.integers(0, 3), st.integers(1, 3), st.integers(-(2**61), 2**61)),
    min_size=1,
    max_size=12,
)


@given(rows=rows)
def test_folds_are_exact(rows):
    """Law 1: sums agree with unbounded integers, or are refused."""
    exact: dict[tuple[int, int], int] = {}
    for account, _, line, amount in rows:
        exact[account, line] = exact.get((account, line), 0) + amount
    if any(abs(total) >= 2**63 for total in exact.values()):
        with pytest.raises(QuantityError):
            fold(book(*rows), "account", "line")
    else:
        assert fold(book(*rows), "account", "line").amounts() == exact


@given(rows=rows.filter(lambda rows: sum(abs(row[3]) for row in rows) < 2**63))
def test_postings_and_their_reversal_net_to_nothing(rows):
    postings = book(*rows)
    assert len(net([postings, negated(postings)], cause=5)) == 0


@given(st.lists(st.lists(st.integers(-(2**62), 2**62), min_size=3, max_size=3), min_size=1, max_size=4))
def test_row_sums_never_wrap(values):
    totals = [sum(row) for row in values]
    if any(abs(total) >= 2**63 for total in totals):
        with pytest.raises(QuantityError):
            row_sums(np.array(values))
    else:
        assert row_sums(np.array(values)).tolist() == totals


def test_sums_of_no_groups_are_none():
    assert group_sums(np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.intp)).size == 0


def test_a_settled_day_goes_into_the_books(tmp_path):
    """Law 8 in the books: the pools stand at zero."""
    postings = settle_day(specimen_day(6), Rulebook.load().at(date(2016, 5, 1)).settlement)
    with Ledger.rebuild(tmp_path / "books.sqlite", [(0, postings)]) as ledger:
        assert ledger.trial_balance() == 0
        assert ledger.balance(Account.RENT) == ledger.balance(Account.UNACCOUNTED) == 0
