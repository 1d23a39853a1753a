"""After a run: is everything that was sent on record, settled and posted, and do proofs, books and prices hold?

Nothing here trusts the processes that did the work: the audit opens the two journals of a shard for reading.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np

from tellegen.assess.city.desks import Sent
from tellegen.assess.city.population import City, Draw, generator
from tellegen.assess.derivative import price_quotients, sample_ports
from tellegen.books import Ledger, fold
from tellegen.journal import Journal
from tellegen.market import OrderBook, clear
from tellegen.operations.recorder import Recorder
from tellegen.operations.shard_feeders import ShardFeeder, read_feeders
from tellegen.operations.submitted import Submitted
from tellegen.privacy import Vault
from tellegen.records import (
    OPERATOR,
    Awards,
    Clearings,
    Energy,
    Orders,
    Postings,
    Prices,
    Readings,
    Refusals,
    Schedules,
    Submissions,
    bids_body,
)
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
    lost : rows that were sent and answered with a receipt, and are not on record as sent; refused : rows refused.
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
    with Vault.open(folder / "vault") as vault, Journal.open(folder) as intake, Journal.open(folder / "market") as own:
        return _Audit(city, shard, folder, vault, intake, own).findings(sent, receipts, rows, clearings)


class _Audit:
    def __init__(self, city: City, shard: int, folder: Path, vault: Vault, intake: Journal, market: Journal) -> None:
        self._city, self._folder, self._vault, self._intake, self._market = city, folder, vault, intake, market
        self._rng = generator(city.seed, Draw.SAMPLE, shard)
        self._of_intake, self._of_market = Recorder(intake, vault, ""), Recorder(market, vault, "")

    def findings(
        self, sent: Sequence[Sent], receipts: Sequence[tuple[int, str]], rows: int, clearings: int
    ) -> Findings:
        accepted, lost, refused = self._on_record(sent)
        unposted = self._unposted()
        trial_balance, astray = self._books()
        proved, bad = self._receipts(receipts)
        bad += self._row_receipts(rows)
        recorded = [self._of_market.table(index, Clearings) for index in self._market.find(kind=Clearings.kind)]
        every = Clearings.concat(recorded)
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
        """Rows accepted by kind, rows lost, rows refused: each batch's rows must hash to what its sender signed."""
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
        return accepted, lost, sum(refused.values())

    def _body_sha256(self, index: int) -> str:
        header = self._intake.entry(index)
        if header.kind == Readings.kind:
            body = self._of_intake.table(index, Readings).rows().tobytes()
        else:
            orders = self._of_intake.table(header.causes[0], Orders)
            body = bids_body(self._of_intake.table(index, Submissions), orders)
        return hashlib.sha256(body).hexdigest()

    def _unposted(self) -> int:
        """Customers who were awarded or metered energy in an interval and have no posting of it."""
        missing = 0
        for index in self._market.find(kind=Postings.kind):
            validated, cleared = self._market.entry(index).causes
            energy = self._of_market.table(validated, Energy)
            scheduled = self._of_market.table(self._market.entry(cleared).causes[1], Schedules)
            moved = energy.customer[(energy.import_wh != energy.export_wh) & (energy.customer != OPERATOR)]
            due = np.union1d(scheduled.customer[scheduled.energy_wh != 0], moved)
            missing += int(np.count_nonzero(~np.isin(due, self._of_market.table(index, Postings).account)))
        return missing

    def _books(self) -> tuple[int, int]:
        due: dict[int, int] = {}
        for index in self._market.find(kind=Postings.kind):
            sums = fold(self._of_market.table(index, Postings), "account")
            for account, amount in zip(sums.keys[0].tolist(), sums.amount.tolist(), strict=True):
                due[account] = due.get(account, 0) + amount
        with Ledger.open(self._folder / "books.sqlite", read_only=True) as ledger:
            balances = ledger.balances()
        astray = sum(balances.get(account, 0) != due.get(account, 0) for account in balances.keys() | due.keys())
        return sum(balances.values()), astray

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
            table = self._vault.unseal(header, payload).table
            salt = self._vault.salt(header, int(table.subjects()[row]), row)
            receipt = self._intake.row_receipt(index, row, self._vault.leaves(header, payload))
            try:
                check_row_receipt(receipt, table.rows()[row].tobytes(), salt, self._intake.verifier.vkey)
            except RefusedError:
                bad += 1
        return bad

    def _prices(self, count: int) -> tuple[int, float]:
        """Recorded prices of clearings drawn by chance, against difference quotients of markets cleared again."""
        entries = np.array(self._market.find(kind=Clearings.kind))
        feeders = {feeder.name: feeder for feeder in read_feeders(self._of_market)}
        checked, worst = 0, 0.0
        for index in self._rng.choice(entries, min(count, entries.size), replace=False).tolist():
            errors = self._price_errors(index, feeders[self._market.entry(index).feeder])
            checked, worst = checked + len(errors), max([worst, *errors])
        return checked, worst

    def _price_errors(self, index: int, feeder: ShardFeeder) -> list[float]:
        header = self._market.entry(index)
        awards = self._of_market.table(header.causes[0], Awards)
        recorded = self._of_market.table(header.causes[2], Prices)
        summary = self._of_market.table(index, Clearings)
        root_price = float(summary.root_price[0]) / MICROS
        submitted = Submitted(self._of_intake)
        submitted.refresh()
        orders = submitted.bids(header.interval, int(header.name.partition("/")[2]))[feeder.name].orders
        book = OrderBook.from_orders(orders.take(awards.order))
        first = clear(feeder.network, book, root_price, root_limit_kw=feeder.root_limit_kw)
        quotients = price_quotients(
            lambda more: clear(feeder.network, more, root_price, root_limit_kw=feeder.root_limit_kw, warm=first.warm),
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
