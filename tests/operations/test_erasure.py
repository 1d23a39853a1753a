"""Erasure waits until nothing of a customer may move; then its key goes, and books, market and proofs stand."""

import shutil
from collections.abc import Callable
from datetime import date
from pathlib import Path

import numpy as np
import pytest
from shards import SECOND, THIRD

from tellegen.errors import InputError
from tellegen.journal import Journal
from tellegen.operations.compaction import journals_of
from tellegen.operations.erasure import SECONDS_PER_DAY
from tellegen.operations.keeping import state_parts
from tellegen.operations.market import Market
from tellegen.operations.reading import closed_days, read_day
from tellegen.operations.record import ShardRecord
from tellegen.operations.refusals import MarketError
from tellegen.operations.upkeep import erase, is_due, keep_up
from tellegen.operations.writer import folded
from tellegen.privacy import Vault
from tellegen.privacy.recorder import Recorder, Span
from tellegen.records import Account, Connections
from tellegen.registry import SIGNING_PURPOSE, Directory
from tellegen.verify import verify_directory

CUSTOMER = 5
AT = (THIRD + 2) * 300


def leave(path: Path, interval: int) -> None:
    """The customer is not connected any more from an interval on."""
    with Vault.open(path / "vault") as vault, Journal.open(path, vault.purpose_key(SIGNING_PURPOSE)) as journal:
        rows, _ = Directory.of(journal, vault).connections([CUSTOMER])
        gone = rows.rows().copy()
        gone["node"], gone["from_interval"] = -1, interval
        Recorder(journal, vault, "", live=True).put(Connections.from_rows(gone), Span(AT, interval))
        journal.commit(AT)


def test_a_customer_who_is_connected_cannot_be_erased(shard_copy: Path) -> None:
    with pytest.raises(MarketError, match="is connected"):
        erase(shard_copy, CUSTOMER, AT)


def test_who_has_left_is_erased_when_its_last_day_is_final_and_not_before(shard_copy: Path) -> None:
    leave(shard_copy, THIRD)
    told = erase(shard_copy, CUSTOMER, AT)
    assert told.due == date(2016, 10, 28), "it left on the third day, whose window is one day"
    with Market.open(shard_copy) as market:
        assert market.state.requested == {CUSTOMER: (told.due - date(1970, 1, 1)).days}
        with Vault.open(shard_copy / "vault") as vault:
            assert vault.holds(CUSTOMER)
        size = len(market.record.journal)
        assert market.request_erasure(CUSTOMER, AT + 9) == told.due
        assert len(market.record.journal) == size, "asked again, nothing more goes on record"
        assert is_due(market, AT) is is_due(market, AT + 60)
    later = AT + 3 * SECONDS_PER_DAY
    assert erase(shard_copy, CUSTOMER, later).due is None
    with Vault.open(shard_copy / "vault") as vault:
        assert vault.erased == [CUSTOMER]


def test_upkeep_erases_who_is_due(shard_copy: Path) -> None:
    leave(shard_copy, SECOND + 6)
    later = AT + 4 * SECONDS_PER_DAY
    assert erase(shard_copy, CUSTOMER, AT).due is not None
    assert keep_up(shard_copy, later).erased == (), "its second day is not final"
    with Market.open(shard_copy) as market:
        market.finalise(date(2016, 10, 25), later)
        assert is_due(market, later)
    assert keep_up(shard_copy, later).erased == (CUSTOMER,)
    with Market.open(shard_copy) as market:
        assert not is_due(market, later)


def test_in_earnest_nobody_is_erased_early(shard_copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Vault, "simulated", False)
    with pytest.raises(InputError, match="only a simulation"):
        erase(shard_copy, CUSTOMER, AT, early=True)


def test_market_books_and_proofs_stand_over_an_erased_customer(shard_copy: Path) -> None:
    with Market.open(shard_copy) as market:
        owed = market.ledger.balance(CUSTOMER)
        others = {account: nanos for account, nanos in market.ledger.balances().items() if account != CUSTOMER}
        before = [read_day(market.record, day) for day in closed_days(market.record)]
    told = erase(shard_copy, CUSTOMER, AT, early=True)
    assert told.rows_hidden > 0
    with Market.open(shard_copy) as market:
        books = market.ledger.balances()
        assert CUSTOMER not in books
        assert books.pop(Account.ERASED) == owed
        assert books == others
        after = [read_day(market.record, day) for day in closed_days(market.record)]
        assert market.correct(AT + 300, AT + 300).postings == 0
        live = state_parts(market.state)
    with ShardRecord.open(shard_copy, use_snapshot=False) as record:
        again = state_parts(folded(record))
    for part, columns in live.items():
        for name, column in columns.items():
            assert np.array_equal(column, again[part][name]), (part, name)
    for was, day in zip(before, after, strict=True):
        assert day.erased == (CUSTOMER,)
        assert int(day.all_postings().amount.sum()) == 0
        for left, right in zip(was.rounds, day.rounds, strict=True):
            kept = left.orders.customer != CUSTOMER
            assert right.orders.equals(left.orders.take(kept))
            assert (right.awarded_mw == left.awarded_mw[kept]).all()
    assert [check for check in verify_directory(shard_copy).checks if not check.ok] == []


def test_an_erasure_cut_short_anywhere_is_finished_by_asking_again(shard_copy: Path, tmp_path: Path) -> None:
    class CutError(Exception):
        pass

    def cut_at(count: int) -> Callable[[str], None]:
        steps = iter(range(count))

        def step(what: str) -> None:
            if next(steps, None) is None:
                raise CutError(what)

        return step

    with Market.open(shard_copy) as market:
        whole = market.ledger.balances()
    owed = whole.pop(CUSTOMER)
    at = 1
    while True:
        path = tmp_path / f"cut-{at}"
        shutil.copytree(shard_copy, path)
        try:
            erase(path, CUSTOMER, AT, early=True, step=cut_at(at))
            break
        except CutError:
            pass
        with Vault.open(path / "vault") as vault:
            held = vault.holds(CUSTOMER)
        if held:
            erase(path, CUSTOMER, AT, early=True)
        with Market.open(path) as market:
            assert market.ledger.balances() == whole | {int(Account.ERASED): owed}
        shutil.rmtree(path)
        at += 31
    assert at > 60


def test_the_market_compacts_its_own_journal_while_it_is_open(shard_copy: Path) -> None:
    with Market.open(shard_copy) as market:
        journal = len(market.record.journal)
        with pytest.raises(MarketError, match="may be compacted"):
            market.compact(AT // SECONDS_PER_DAY, AT)
        market.correct(AT, AT)
        before = state_parts(market.state)
        filed = market.compact(AT // SECONDS_PER_DAY - 3, AT)
        assert filed.epochs == 0, "the intake's rows stand under the same keys"
        market.correct(AT, AT)
        after = state_parts(market.state)
        assert len(market.record.journal) >= journal
    for part, columns in before.items():
        for name, column in columns.items():
            assert np.array_equal(column, after[part][name]), (part, name)
    assert len(journals_of(shard_copy)) == 2
