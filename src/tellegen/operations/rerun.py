"""``tellegen replay``: everything that can follow from the record is computed again and compared."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from nacl.signing import VerifyKey
from numpy.typing import NDArray

from tellegen.books import Ledger
from tellegen.grid import Network, network_from_json
from tellegen.market import OrderBook, Parameters, Warm, clear, to_records
from tellegen.market.submission import rejected_rows
from tellegen.operations.facts import DAY_AHEAD, REAL_TIME, RecordedDay, Round, latest_statements, read_day
from tellegen.operations.recorder import Recorder
from tellegen.operations.run_directory import Run
from tellegen.records import Statements, Submissions
from tellegen.replay import same_books
from tellegen.settlement import settle_day, statements
from tellegen.units import INTERVALS_PER_HOUR


@dataclass(frozen=True, slots=True)
class Replayed:
    """One comparison: its name, whether it held, how many things were compared, what was found."""

    name: str
    ok: bool
    count: int
    detail: str


def rerun(run: Run) -> list[Replayed]:
    """Fold, clear and settle the recorded day again; writes nothing but books that are missing.

    Where a customer has been erased, clearings and settlement cannot run again; the result says so and
    compares what is left: the books with the postings.
    """
    day = read_day(run.recorder)
    checks = [_books(run, day)]
    if day.erased:
        detail = f"not run: customer {day.erased[0]} has been erased, its orders and readings are gone"
        return [*checks, Replayed("clearings and settlement", True, 0, detail)]
    rules = run.rulebook().at(day.day)
    checks.append(_signatures(run.recorder, day))
    network = network_from_json(run.recorder.document("network"))
    customers = int(day.customers.customer.max())
    checks += [_clearings(network, day.of_market(market), rules.market, customers) for market in (DAY_AHEAD, REAL_TIME)]
    posted, settled = day.all_postings(), settle_day(day.facts(), rules.settlement)
    checks.append(
        Replayed(
            "settlement",
            same_books(posted, settled),
            len(settled),
            f"{len(settled)} postings of a settlement from scratch against {len(posted)} on record with corrections",
        )
    )
    checks.append(_statements(run.recorder, statements(settled)))
    return checks


def _books(run: Run, day: RecordedDay) -> Replayed:
    """Books folded from the journal against the file, table by table; where the file is gone, it is made again."""
    if not run.books.exists():
        with Ledger.rebuild(run.books, day.postings) as ledger:
            count = len(ledger.balances())
        return Replayed("books", True, count, f"{run.books.name} was missing: {count} balances folded from the journal")
    with Ledger.open(run.books, read_only=True) as ledger:
        difference = ledger.check(day.postings)
        if difference:
            return Replayed("books", False, 0, difference)
        count = len(ledger.balances())
    return Replayed("books", True, count, f"{count} balances and what makes them up, against the fold of the journal")


def _signatures(recorder: Recorder, day: RecordedDay) -> Replayed:
    keys = {
        int(c): VerifyKey(k.tobytes()) for c, k in zip(day.customers.customer, day.customers.public_key, strict=True)
    }
    signed = {(h.market, h.interval): table for _, h, table in recorder.read(Submissions)}
    bad = count = 0
    for r in day.rounds:
        submissions = signed[r.market, r.interval]
        bad += int(rejected_rows(r.orders, submissions, r.market, r.interval, keys).sum())
        count += len(submissions)
    return Replayed("order signatures", bad == 0, count, f"{count} signatures, {bad} orders not covered")


def _clearings(network: Network, rounds: tuple[Round, ...], parameters: Parameters, customers: int) -> Replayed:
    """Clear every round again from its recorded orders; every integer that went on record must come out."""
    warm: Warm | None = None
    spread: NDArray[np.float64] | None = None
    # for everybody from the start: who has no order in the first round may have one later
    carry = np.zeros((customers, 2), dtype=np.int64)
    different = 0
    market = rounds[0].market
    intervals = 1 if market == REAL_TIME else INTERVALS_PER_HOUR
    for r in rounds:
        price = int(r.period.clearing.root_price[0])
        cleared = clear(
            network,
            OrderBook.from_orders(r.orders),
            price / 1e6,
            parameters=parameters,
            warm=warm,
            tie_context=f"{market}/{r.interval}",
            last_spread=spread,
        )
        facts = to_records(cleared, r.orders, root_price_micros=price, intervals=intervals, carry=carry)
        warm = cleared.warm
        carry = facts.carry
        if market == REAL_TIME:
            spread = cleared.prices.energy - price / 1e6
        recorded = (r.awards, r.period.prices, r.period.schedules, r.period.clearing)
        again = (facts.awards, facts.prices, facts.schedules, facts.clearing)
        different += not all(a.equals(b) for a, b in zip(again, recorded, strict=True))
    return Replayed(
        f"{market.replace('_', '-')} clearings",
        different == 0,
        len(rounds),
        f"{len(rounds)} clearings run again, {different} with another price, award, schedule or loss",
    )


def _statements(recorder: Recorder, expected: Statements) -> Replayed:
    latest = latest_statements(recorder)
    return Replayed(
        "statements",
        latest.equals(expected),
        len(np.unique(expected.customer)),
        f"{len(expected)} lines as invoiced last against the settlement from scratch",
    )
