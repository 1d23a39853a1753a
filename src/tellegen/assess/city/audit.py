"""After a run: is everything that was sent on record, settled and posted, and do proofs, books and prices hold?

Nothing here trusts the processes that did the work: the audit opens the two journals of a shard for reading.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np

from tellegen.assess.derivative import price_quotients, sample_ports
from tellegen.books import Ledger, fold
from tellegen.market import OrderBook, clear, start_after
from tellegen.operations.book import Book
from tellegen.operations.corrections import cleared_at
from tellegen.operations.holds import holds_behind
from tellegen.operations.record import ShardRecord
from tellegen.operations.state import cut_of
from tellegen.operations.topology import Feeder
from tellegen.records import (
    OPERATOR,
    Clearings,
    ClearingStatus,
    Energy,
    Gates,
    Orders,
    Postings,
    Prices,
    Readings,
    Refusals,
    RefusedOrders,
    Submissions,
    bids_body,
)
from tellegen.records.market import REAL_TIME
from tellegen.simulation.city.load import Sent
from tellegen.simulation.city.population import City, Draw, generator
from tellegen.units import MICROS
from tellegen.verify import RefusedError, check_receipt, check_row_receipt

QUOTIENT_PORTS = 2
"""Nodes of a sampled clearing whose prices are held against difference quotients."""


@dataclass(frozen=True, slots=True)
class Findings:
    """What an audit of a shard found; faults are 0 where all is well.

    Attributes
    ----------
    bids, readings : rows found accepted on record.
    lost : rows that were sent and answered with a receipt, and are not on record as sent.
    refused : rows refused, orders at gates too.
    unposted : customers, per interval, with energy or an award of it and no posting.
    trial_balance : sum of all balances, nano-currency. astray : accounts whose balance is not the fold of the postings.
    receipts : that were verified offline; row_receipts : of single rows. bad_receipts : that did not verify.
    clearings : on record; not_optimal : of these, relaxed or fallback; binding : with a limit that binds.
    mismatch_pu, violation_pu : largest power-flow mismatch and limit excess of any clearing.
    prices_checked : prices held against difference quotients; price_error : largest relative error.
    """

    bids: int
    readings: int
    lost: int
    refused: int
    unposted: int
    trial_balance: int
    astray: int
    receipts: int
    row_receipts: int
    bad_receipts: int
    clearings: int
    not_optimal: int
    binding: int
    mismatch_pu: float
    violation_pu: float
    prices_checked: int
    price_error: float

    def and_also(self, other: Findings) -> Findings:
        """Both together: the largest of errors, the sum of all else."""
        largest = {"mismatch_pu", "violation_pu", "price_error"}
        ours = {f.name: getattr(self, f.name) for f in fields(self)}
        return Findings(
            **{
                name: max(value, getattr(other, name)) if name in largest else value + getattr(other, name)
                for name, value in ours.items()
            }
        )


def audit(
    city: City,
    shard: int,
    folder: Path,
    sent: Sequence[Sent],
    receipts: Sequence[tuple[int, str]],
    rows: int,
    clearings: int,
) -> Findings:
    """Audit a shard whose processes have ended.

    Parameters
    ----------
    sent, receipts : batches that were answered, and a sample of the receipts in the answers.
    rows : how many rows are proved one by one. clearings : how many are cleared again.
    """
    with ShardRecord.open(folder) as record:
        return _Audit(city, shard, record).findings(sent, receipts, rows, clearings)


class _Audit:
    def __init__(self, city: City, shard: int, record: ShardRecord) -> None:
        self._city, self._record = city, record
        self._intake, self._market = record.intake, record.journal
        self._rng = generator(city.seed, Draw.SAMPLE, shard)

    def findings(
        self, sent: Sequence[Sent], receipts: Sequence[tuple[int, str]], rows: int, clearings: int
    ) -> Findings:
        accepted, lost, refused = self._on_record(sent)
        unposted = self._unposted()
        trial_balance, astray = self._books()
        proved, bad = self._receipts(receipts)
        bad += self._row_receipts(rows)
        every = self._clearings()
        checked, error = self._prices(clearings)
        return Findings(
            bids=accepted[Submissions.kind],
            readings=accepted[Readings.kind],
            lost=lost,
            refused=refused,
            unposted=unposted,
            trial_balance=trial_balance,
            astray=astray,
            receipts=proved,
            row_receipts=rows,
            bad_receipts=bad,
            clearings=len(every),
            not_optimal=int(np.count_nonzero(every.status)),
            binding=int(np.count_nonzero(every.binding)),
            mismatch_pu=float(every.mismatch_nano_pu.max(initial=0)) / 1e9,
            violation_pu=float(every.violation_nano_pu.max(initial=0)) / 1e9,
            prices_checked=checked,
            price_error=error,
        )

    def _on_record(self, sent: Sequence[Sent]) -> tuple[dict[str, int], int, int]:
        """Rows accepted by kind, lost, and refused, by gates too: each batch must hash to what its sender signed."""
        refused = {
            self._intake.entry(index).causes[0]: self._intake.entry(index).rows
            for index in self._intake.find(kind=Refusals.kind)
        }
        accepted, lost = {Submissions.kind: 0, Readings.kind: 0}, 0
        for batch in sent:
            entries = [
                index
                for index in self._intake.submission(batch.source, batch.name)
                if self._intake.entry(index).kind in accepted
            ]
            if len(entries) != 1 or self._body_sha256(entries[0]) != batch.body_sha256:
                lost += batch.rows
                continue
            header = self._intake.entry(entries[0])
            accepted[header.kind] += header.rows - refused.get(entries[0], 0)
        at_gates = sum(self._market.entry(index).rows for index in self._market.find(kind=RefusedOrders.kind))
        return accepted, lost, sum(refused.values()) + at_gates

    def _body_sha256(self, index: int) -> str:
        header = self._intake.entry(index)
        if header.kind == Readings.kind:
            body = self._record.submitted.table(index).rows().tobytes()
        else:
            submissions, orders = (self._record.submitted.table(k) for k in (index, header.causes[0]))
            assert isinstance(submissions, Submissions)
            assert isinstance(orders, Orders)
            body = bids_body(submissions, orders)
        return hashlib.sha256(body).hexdigest()

    def _clearings(self) -> Clearings:
        """Everything that was cleared; where a gate was missed, nothing was."""
        found = dict(self._record.tables(self._market.find(kind=Clearings.kind)))
        every = Clearings.concat([table for table in found.values() if isinstance(table, Clearings)])
        return every.take(every.status != ClearingStatus.ADMINISTRATIVE)

    def _unposted(self) -> int:
        """Customers who were awarded or metered energy in an interval that was played and have no posting of it."""
        missing, record = 0, self._record
        for interval in self._city.rounds:
            for index in self._market.find(kind=Postings.kind, market=REAL_TIME, interval=interval):
                validated, cleared = self._market.entry(index).causes
                energy = record.table(validated, Energy)
                scheduled = cleared_at(record, cleared).schedules
                moved = energy.customer[(energy.import_wh != energy.export_wh) & (energy.customer != OPERATOR)]
                due = np.union1d(scheduled.customer[scheduled.energy_wh != 0], moved)
                missing += int(np.count_nonzero(~np.isin(due, record.table(index, Postings).account)))
        return missing

    def _books(self) -> tuple[int, int]:
        """Trial balance, and accounts whose balance is not the sum of all their postings."""
        with Ledger.open(self._record.path / "books.sqlite", read_only=True) as ledger:
            balances = ledger.balances()
        account = np.array(sorted(balances), dtype=np.int64)
        due, strange = np.zeros(account.size, dtype=np.int64), 0
        for _, postings in self._record.tables(self._market.find(kind=Postings.kind)):
            assert isinstance(postings, Postings)
            sums = fold(postings, "account")
            place = np.minimum(np.searchsorted(account, sums.keys[0]), account.size - 1)
            here = account[place] == sums.keys[0]
            due[place[here]] += sums.amount[here]
            strange += int(np.count_nonzero(~here))
        astray = int(np.count_nonzero(due != np.array([balances[k] for k in account.tolist()], dtype=np.int64)))
        return sum(balances.values()), astray + strange

    def _receipts(self, receipts: Sequence[tuple[int, str]]) -> tuple[int, int]:
        bad = 0
        for index, receipt in receipts:
            try:
                check_receipt(receipt, self._intake.entry(index).to_bytes(), self._intake.verifier.vkey)
            except RefusedError:
                bad += 1
        return len(receipts), bad

    def _row_receipts(self, count: int) -> int:
        """Rows of the intake drawn by chance, each proved to an outsider by row, salt and receipt."""
        entries = np.array([*self._intake.find(kind=Readings.kind), *self._intake.find(kind=Orders.kind)])
        bad = 0
        for index in self._rng.choice(entries, count).tolist():
            header, payload = self._intake.entry(index), self._intake.payload(index)
            row = int(self._rng.integers(header.rows))
            table = self._record.vault.unseal(header, payload).table
            salt = self._record.vault.salt(header, int(table.subjects()[row]), row)
            receipt = self._intake.row_receipt(index, row, self._record.vault.leaves(header, payload))
            try:
                check_row_receipt(receipt, table.rows()[row].tobytes(), salt, self._intake.verifier.vkey)
            except RefusedError:
                bad += 1
        return bad

    def _prices(self, count: int) -> tuple[int, float]:
        """Recorded prices of clearings drawn by chance, against difference quotients of markets cleared again."""
        entries = np.array([k for t in self._city.rounds for k in self._optimal(t)])
        feeders = {feeder.name: feeder for feeder in self._record.feeders}
        checked, worst = 0, 0.0
        for index in self._rng.choice(entries, min(count, entries.size), replace=False).tolist():
            errors = self._price_errors(index, feeders[self._market.entry(index).feeder])
            checked, worst = checked + len(errors), max([worst, *errors])
        return checked, worst

    def _optimal(self, interval: int) -> list[int]:
        """Real-time clearings of an interval at an optimum, of whose books nobody is on hold."""
        found = self._market.find(kind=Clearings.kind, market=REAL_TIME, interval=interval)
        whole = [k for k in found if not holds_behind(self._record, k)]
        return [k for k in whole if self._record.table(k, Clearings).status[0] == ClearingStatus.OPTIMAL]

    def _price_errors(self, index: int, feeder: Feeder) -> list[float]:
        record, header = self._record, self._market.entry(index)
        recorded = record.table(record.cause(index, Prices), Prices)
        root_price = float(record.table(index, Clearings).root_price[0]) / MICROS
        hours = (range(header.interval, header.interval + 1),)
        gate = record.cause(index, Gates)
        book_on_record = Book.of(record, REAL_TIME, hours, cut_of(header), gate, {feeder.name})
        orders = book_on_record.orders(feeder.name, 0)
        refused = RefusedOrders.concat(
            [
                record.table(k, RefusedOrders)
                for k in self._market.find(kind=RefusedOrders.kind, market=REAL_TIME, interval=header.interval)
                if self._market.entry(k).feeder == header.feeder
            ]
        )
        rows = np.setdiff1d(
            np.arange(len(orders)), book_on_record.rows_of(feeder.name, 0, refused.customer, refused.order)
        )
        book = OrderBook.from_orders(orders.take(rows))
        limit = feeder.root_limit_kw
        first = clear(feeder.network, book, root_price, root_limit_kw=limit)
        start = start_after(first, book)
        quotients = price_quotients(
            lambda more: clear(feeder.network, more, root_price, root_limit_kw=limit, start=start),
            book,
            first,
            sample_ports(first, np.unique(book.node), QUOTIENT_PORTS).tolist(),
            root_price=root_price,
            typical_kw=float(np.median(book.quantity_kw)),
        )
        return [
            max(q.error, abs(float(recorded.energy[q.port]) / MICROS - q.price) / max(abs(q.price), root_price))
            for q in quotients
            if not q.reactive
        ]
