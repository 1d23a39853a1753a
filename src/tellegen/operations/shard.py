"""The market of a shard: many feeders, one writer, from bids on record to balances (law 5).

Its inputs stand in the journal of the shard's intake, which it only reads; what follows from them goes into a journal
of its own at ``DIR/market``, and from there into the books. Signatures and codes were checked by the intake, which
lists the rows that do not count; the market adds what only it can know: whether an order stands at its customer's own
node, and within the price limits of the rulebook.

Per interval and feeder its journal holds ``awards``, ``schedules``, ``prices`` and then ``clearings``, which names them
as its causes: a clearing is complete when that is on record. Their name, ``gate/SIZE``, says which part of the intake's
journal the book was made of, and a row number of an award is one of that book. After the readings come ``energy``
(named ``read/SIZE``) and ``postings``. Everything else that the market remembers is a fold of the two journals.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from types import TracebackType
from typing import Self
from zoneinfo import ZoneInfo

import numpy as np

from tellegen.books import Ledger
from tellegen.errors import TellegenError
from tellegen.grid.network import FloatArray
from tellegen.journal import Journal
from tellegen.market import OrderBook, Warm, clear, to_records
from tellegen.market.facts import schedules
from tellegen.operations.connected import Connected, ConnectionHistory
from tellegen.operations.facts import REAL_TIME
from tellegen.operations.recorder import Recorder, Span
from tellegen.operations.shard_facts import admissible, interval_facts
from tellegen.operations.shard_feeders import ShardFeeder, put_feeders, read_feeders
from tellegen.operations.shard_metering import ShardMeters
from tellegen.operations.stages import Stages
from tellegen.operations.submitted import Bids, Submitted
from tellegen.privacy import Vault
from tellegen.records import (
    OPERATOR,
    Awards,
    Clearings,
    Energy,
    Orders,
    Postings,
    Prices,
    Refusal,
    Refusals,
    Schedules,
)
from tellegen.rules import Rulebook, Rules
from tellegen.settlement import ClearedPeriod, settle_intervals
from tellegen.units import MICROS, IntArray, interval_start

MARKET_KEY = "market signing"
_GATE, _READ = "gate/", "read/"


class ShardError(TellegenError):
    """The market of a shard is asked for what its record does not allow."""


@dataclass(frozen=True, slots=True, eq=False)
class GateClosed:
    """How an interval cleared; arrays have one element per feeder.

    Attributes
    ----------
    bids : submissions on record for the interval, refused ones included.
    orders : rows that took part.
    status : int64, `ClearingStatus`. binding : int64, limits that bind. root_wh : int64, energy taken from the root.
    """

    bids: int
    orders: int
    status: IntArray
    binding: IntArray
    root_wh: IntArray


@dataclass(frozen=True, slots=True)
class Settled:
    """What an interval settled to: customers settled, those with estimates, rows of postings."""

    customers: int
    estimated: int
    postings: int


@dataclass(frozen=True, slots=True, eq=False)
class _Cleared:
    """A clearing that waits for its readings."""

    period: ClearedPeriod
    entry: int


class ShardMarket:
    """The market of the shard in a directory; `create` or `open` give one."""

    def __init__(self, path: Path, intake: Journal, journal: Journal, vault: Vault) -> None:
        self._journal, self._vault, self._intake = journal, vault, intake
        shard = self._recorder("")
        self.feeders = read_feeders(shard)
        self._rulebook = _rulebook(shard)
        self._rules: dict[date, Rules] = {}
        self._submitted = Submitted(Recorder(intake, vault, ""))
        self._history = ConnectionHistory([f.name for f in self.feeders], [f.substation for f in self.feeders])
        self._meters = ShardMeters()
        self._carry = np.zeros((0, 2), dtype=np.int64)
        self._warm: list[Warm | None] = [None] * len(self.feeders)
        self._spread: list[FloatArray | None] = [None] * len(self.feeders)
        self._gates: dict[int, int] = {}
        self._reads: dict[int, int] = {}
        self._waiting: dict[tuple[int, int], _Cleared] = {}
        self._settled: set[tuple[int, int]] = set()
        self.stages = Stages()
        self._fold()
        books = path / "books.sqlite"
        self.ledger = Ledger.open(books) if books.exists() else Ledger.create(books)
        self._catch_up()

    @classmethod
    def create(
        cls, path: Path | str, feeders: Sequence[ShardFeeder], rulebook: Rulebook, *, interval: int, known_at: int
    ) -> Self:
        """Set the market of a shard up whose intake has its journal and vault in `path` already.

        Raises
        ------
        JournalError : there is a market already.
        InputError : there is no shard, or names of feeders or networks are not unique.
        """
        path = Path(path)
        with Journal.open(path) as intake:
            origin = f"{intake.verifier.name}/market"
        with Vault.open(path / "vault") as vault:
            key = vault.purpose_key(MARKET_KEY)
            with Journal.create(path / "market", origin, key) as journal:
                recorder, span = Recorder(journal, vault, ""), Span(known_at, interval)
                put_feeders(recorder, feeders, span)
                for document in rulebook.documents():
                    recorder.put_document(document, span)
                journal.commit(known_at)
        return cls.open(path)

    @classmethod
    def open(cls, path: Path | str) -> Self:
        """Open a market, folding what it knows from the journals; its books are brought up to them.

        Raises
        ------
        InputError : there is none. JournalError, VaultError : it cannot be read, or another process writes it.
        """
        path = Path(path)
        with ExitStack() as held:
            vault = held.enter_context(Vault.open(path / "vault"))
            journal = held.enter_context(Journal.open(path / "market", vault.purpose_key(MARKET_KEY)))
            market = cls(path, held.enter_context(Journal.open(path)), journal, vault)
            held.pop_all()
            return market

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Release the files; everything that was said to be done is on record."""
        self.ledger.close()
        self._journal.close()
        self._intake.close()
        self._vault.close()

    # Gate closure

    def close_gate(self, interval: int, root_price_micros: int, known_at: int) -> GateClosed:
        """Close the gate of an interval: clear every feeder with the bids on record by now, record and publish.

        Once closed, a gate stays closed: asked again, feeders that were cleared are not cleared again.

        Parameters
        ----------
        root_price_micros : micro-currency/kWh at which the root buys and sells.
        known_at : seconds since the epoch.

        Raises
        ------
        ShardError : the interval is settled. JournalError : the disk refused.
        """
        if any((interval, k) in self._settled for k in range(len(self.feeders))):
            raise ShardError(f"interval {interval} is settled; its gate closed long ago")
        with self.stages("collect"):
            size = self._gates.setdefault(interval, self._refresh())
            connected = self._connected(interval)
            bids = self._submitted.bids(interval, size)
        orders = 0
        for k, feeder in enumerate(self.feeders):
            if (interval, k) not in self._waiting:
                given = bids.get(feeder.name, Bids(Orders.empty(), 0))
                orders += self._clear(k, interval, root_price_micros, given.orders, connected, known_at)
        with self.stages("commit"):
            self._journal.commit(known_at)
        facts = [self._waiting[interval, k].period.clearing for k in range(len(self.feeders))]
        return GateClosed(
            bids=sum(given.recorded for given in bids.values()),
            orders=orders,
            status=np.array([int(f.status[0]) for f in facts]),
            binding=np.array([int(f.binding[0]) for f in facts]),
            root_wh=np.array([int(f.root_wh[0]) for f in facts]),
        )

    def _clear(
        self, k: int, interval: int, root_price_micros: int, orders: Orders, connected: Connected, known_at: int
    ) -> int:
        feeder, rules, root_price = self.feeders[k], self._rules_of(interval), root_price_micros / MICROS
        with self.stages("clear"):
            here = connected.on(k)
            customer, node = connected.customer[here], connected.node[here]
            taken, place = admissible(orders, customer, node, rules)
            accepted = orders.take(taken)
            outcome = clear(
                feeder.network,
                OrderBook.from_orders(accepted),
                root_price,
                root_limit_kw=feeder.root_limit_kw,
                parameters=rules.market,
                warm=self._warm[k],
                tie_context=f"{feeder.name}/{REAL_TIME}/{interval}",
                last_spread=self._spread[k],
            )
            self._warm[k] = outcome.warm or self._warm[k]
            self._spread[k] = outcome.prices.energy - root_price
        with self.stages("to whole numbers"):
            # customers are numbered along the feeder here, so that what is carried is as short as the feeder
            facts = to_records(
                outcome,
                replace(accepted, customer=(place + 1).astype(np.int32)),
                root_price_micros=root_price_micros,
                carry=self._carry[customer],
            )
            self._carry[customer] = facts.carry
            awards = replace(facts.awards, customer=accepted.customer, order=taken.astype(np.int32))
            scheduled = replace(facts.schedules, customer=customer[facts.schedules.customer - 1].astype(np.int32))
        with self.stages("seal"):
            recorder, span = self._recorder(feeder.name), Span(known_at, interval, 1, REAL_TIME)
            name = f"{_GATE}{self._gates[interval]}"
            if taken.size < len(orders):
                row = np.setdiff1d(np.arange(len(orders), dtype=np.int32), taken)
                refused = Refusals(row=row, refusal=np.full(row.size, Refusal.OUT_OF_RANGE, dtype=np.uint8))
                recorder.put(refused, span, name=name)
            parts = [recorder.put(table, span, name=name) for table in (awards, scheduled, facts.prices)]
            entry = recorder.put(facts.clearing, span, name=name, causes=parts)
        self._waiting[interval, k] = _Cleared(ClearedPeriod(scheduled, facts.prices, facts.clearing), entry)
        return int(taken.size)

    # Settlement

    def settle(self, interval: int, known_at: int) -> Settled:
        """Validate the readings on record by now, settle and post an interval; what is missing is estimated.

        Intervals settle in their order, each once; feeders that were settled before a crash are left as they are.

        Raises
        ------
        ShardError : a feeder has not been cleared, or all have been settled.
        JournalError, BooksError : the disk refused.
        """
        open_feeders = [k for k in range(len(self.feeders)) if (interval, k) not in self._settled]
        if not open_feeders:
            raise ShardError(f"interval {interval} is settled; later readings of it are corrections")
        for k in open_feeders:
            if (interval, k) not in self._waiting:
                name = self.feeders[k].name
                raise ShardError(f"interval {interval} of {name} has not been cleared; close its gate first")
        with self.stages("collect"):
            size = self._reads.setdefault(interval, self._refresh())
            readings = self._submitted.readings(interval, size)
            connected = self._connected(interval)
        with self.stages("validate"):
            energy = self._meters.read(interval, readings, connected)
        rules = self._rules_of(interval)
        posted: list[tuple[int, Postings]] = []
        for k in open_feeders:
            cleared = self._waiting.pop((interval, k))
            here = connected.on(k)
            with self.stages("settle"):
                measured = energy.take(np.arange(here.start, here.stop))
                substation = replace(energy.take([connected.customers + k]), customer=np.array([OPERATOR], dtype="i4"))
                facts = interval_facts(interval, connected, here, cleared.period, measured, substation)
                postings = settle_intervals(facts, rules.settlement)
            with self.stages("seal"):
                recorder, span = self._recorder(self.feeders[k].name), Span(known_at, interval, 1, REAL_TIME)
                said = Energy.concat([substation, measured])
                validated = recorder.put(said, span, name=f"{_READ}{size}")
                entry = recorder.put(postings, span, causes=(validated, cleared.entry))
            posted.append((entry, postings))
            self._settled.add((interval, k))
        with self.stages("commit"):
            self._journal.commit(known_at)
        with self.stages("post"):
            self.ledger.post_all(posted)
        return Settled(
            customers=connected.customers,
            estimated=int(np.count_nonzero(energy.quality[: connected.customers])),
            postings=sum(len(postings) for _, postings in posted),
        )

    # What follows from the record

    def _fold(self) -> None:
        """Carries, meters, and what is cleared and not settled, from the two journals."""
        self._refresh()
        shard = self._recorder("")
        number = {feeder.name: k for k, feeder in enumerate(self.feeders)}
        clearings: dict[int, list[int]] = {}
        for index in self._journal.find(kind=Clearings.kind):
            header = self._journal.entry(index)
            clearings.setdefault(header.interval, []).append(index)
            self._gates[header.interval] = int(header.name.removeprefix(_GATE))
        for index in self._journal.find(kind=Postings.kind):
            header = self._journal.entry(index)
            self._settled.add((header.interval, number[header.feeder]))
            self._reads[header.interval] = int(self._journal.entry(header.causes[0]).name.removeprefix(_READ))
        for interval, entries in sorted(clearings.items()):
            connected = self._connected(interval)
            bids = self._submitted.bids(interval, self._gates[interval])
            for entry in entries:
                header = self._journal.entry(entry)
                k = number[header.feeder]
                of_awards, of_schedules, of_prices = header.causes
                awards = shard.table(of_awards, Awards)
                self._fold_carry(awards, bids, header.feeder, connected.customer[connected.on(k)])
                if (interval, k) not in self._settled:
                    period = ClearedPeriod(
                        shard.table(of_schedules, Schedules),
                        shard.table(of_prices, Prices),
                        shard.table(entry, Clearings),
                    )
                    self._waiting[interval, k] = _Cleared(period, entry)
            # an interval that is settled in part keeps its readings, and is read when the rest of it settles
            if all((interval, k) in self._settled for k in range(len(self.feeders))):
                self._meters.read(interval, self._submitted.readings(interval, self._reads[interval]), connected)

    def _fold_carry(self, awards: Awards, bids: dict[str, Bids], feeder: str, customer: IntArray) -> None:
        if not len(awards):
            return
        place = (np.searchsorted(customer, awards.customer) + 1).astype(np.int32)
        orders = replace(bids[feeder].orders.take(awards.order), customer=place)
        _, self._carry[customer] = schedules(replace(awards, customer=place), orders, self._carry[customer])

    def _catch_up(self) -> None:
        """Post what is on record and not in the books: a crash may stand between the two."""
        applied = self.ledger.applied()
        behind = [index for index in self._journal.find(kind=Postings.kind) if index not in applied]
        for index in behind:
            self.ledger.post(self._recorder("").table(index, Postings), index)

    def _refresh(self) -> int:
        size = self._submitted.refresh()
        self._history.add(self._submitted.new_connections())
        return size

    def _connected(self, interval: int) -> Connected:
        """Who is on the feeders in an interval, as known when its gate closed."""
        connected = self._history.at(interval, self._gates[interval])
        beyond = int(connected.customer.max(initial=-1)) + 1 - len(self._carry)
        if beyond > 0:
            self._carry = np.concatenate([self._carry, np.zeros((beyond, 2), dtype=np.int64)])
        return connected

    def _rules_of(self, interval: int) -> Rules:
        """The rules of the billing day that an interval belongs to."""
        zone = ZoneInfo(self._rulebook.versions[-1].settlement.time_zone)
        day = interval_start(interval).astimezone(zone).date()
        if day not in self._rules:
            self._rules[day] = self._rulebook.at(day)
        return self._rules[day]

    def _recorder(self, feeder: str) -> Recorder:
        return Recorder(self._journal, self._vault, feeder, live=True)


def _rulebook(recorder: Recorder) -> Rulebook:
    """The rulebook on record."""
    names = [recorder.journal.entry(index).name for index in recorder.journal.find(kind="document")]
    return Rulebook.from_documents({name: recorder.document(name) for name in names if name.startswith("rulebook/")})
