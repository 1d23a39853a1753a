"""The market of a shard: it reads what the intake recorded, and everything it knows can be read again."""

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from nacl.signing import SigningKey

from tellegen.assess.city.population import City, all_moves
from tellegen.assess.city.results import MarketRecord
from tellegen.assess.city.senders import Batch, Senders
from tellegen.assess.city.setup import set_up
from tellegen.books import Ledger
from tellegen.market.submission import sign_orders
from tellegen.operations.intake import Intake
from tellegen.operations.sent import SentBids, SentReadings
from tellegen.operations.shard import ShardError, ShardMarket
from tellegen.operations.synthetic_shard import ShardKeys
from tellegen.records import Connections, Energy, Postings, Readings, Refusals, Route, Statement, bids_body
from tellegen.settlement import ENERGY_LINES

ROOT_PRICE = 250_000
FIRST = int(time.time()) // 300 - 6
NOW = FIRST * 300 + 1_500


class Shard:
    """A shard of two feeders, its intake, and everybody who sends to it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.city = City(400, 3, FIRST, shards=1)
        self.population, self.keys = set_up(self.city, 0, folder)
        self.senders = Senders(self.city, 0, self.population, self.keys)
        self.moves = all_moves(self.city, 0, self.population)
        self.intake = Intake.open(folder)

    def bid(self, interval: int) -> list[Batch]:
        """Everybody's bids go on record."""
        if interval in self.moves:
            self.senders.move(self.moves[interval])
        batches = self.senders.bids(interval)
        for batch in batches:
            assert self.take(batch) == batch.rows
        self.intake.commit()
        return batches

    def read(self, interval: int, keep: Callable[[Readings], np.ndarray] | None = None) -> None:
        """Readings that follow the awards go on record, or those that are kept."""
        record = MarketRecord(self.folder, self.population)
        for batch in self.senders.readings(interval, record.awarded(interval)):
            if keep is None:
                assert self.take(batch) == batch.rows
                continue
            table = Readings.from_bytes(batch.body)
            self.take(self.signed(batch, table.take(keep(table)).rows().tobytes()))
        record.close()
        self.intake.commit()

    def take(self, batch: Batch) -> int:
        read = SentBids.from_bytes if batch.statement.route is Route.BIDS else SentReadings.from_bytes
        return self.intake.take(batch.statement, batch.signature, lambda: read(batch.body)).accepted

    def signed(self, batch: Batch, body: bytes, sequence: int | None = None) -> Batch:
        """The same batch with another body."""
        said = batch.statement
        number = said.sequence if sequence is None else sequence
        statement = Statement.of(said.route, said.source, said.feeder, said.market, said.interval, number, body)
        return Batch(statement, self.keys.sign_as(said.source, statement.to_bytes()), body, batch.rows)


@pytest.fixture
def shard(tmp_path: Path) -> Iterator[Shard]:
    made = Shard(tmp_path / "shard")
    yield made
    made.intake.close()


def tables(market: ShardMarket, kind: type[Postings] | type[Energy], interval: int) -> list[Postings | Energy]:
    record = market._recorder("")
    return [record.table(index, kind) for index in record.journal.find(kind=kind.kind, interval=interval)]


def played(market: ShardMarket, shard: Shard, intervals: list[int]) -> None:
    for interval in intervals:
        shard.bid(interval)
        market.close_gate(interval, ROOT_PRICE, NOW)
        shard.read(interval)
        market.settle(interval, NOW)


def test_every_watt_hour_and_every_cent_of_an_interval_balances(shard: Shard) -> None:
    with ShardMarket.open(shard.folder) as market:
        played(market, shard, [FIRST, FIRST + 1])
        posted = Postings.concat(tables(market, Postings, FIRST + 1))  # type: ignore[arg-type]
        assert int(posted.amount.sum()) == 0
        assert int(posted.quantity[np.isin(posted.line, list(ENERGY_LINES))].sum()) == 0
        assert set(shard.population.customer.tolist()) <= set(posted.account.tolist())
        assert market.ledger.trial_balance() == 0


def test_the_first_reading_of_a_meter_is_its_base_and_the_second_is_energy(shard: Shard) -> None:
    with ShardMarket.open(shard.folder) as market:
        shard.bid(FIRST)
        market.close_gate(FIRST, ROOT_PRICE, NOW)
        shard.read(FIRST)
        assert market.settle(FIRST, NOW).estimated == 400
        shard.bid(FIRST + 1)
        market.close_gate(FIRST + 1, ROOT_PRICE, NOW)
        shard.read(FIRST + 1)
        assert market.settle(FIRST + 1, NOW).estimated == 0


def test_a_reading_that_does_not_come_is_estimated_as_the_interval_before(shard: Shard) -> None:
    silent = 7
    with ShardMarket.open(shard.folder) as market:
        played(market, shard, [FIRST, FIRST + 1])
        shard.bid(FIRST + 2)
        market.close_gate(FIRST + 2, ROOT_PRICE, NOW)
        shard.read(FIRST + 2, keep=lambda table: table.customer != silent)
        assert market.settle(FIRST + 2, NOW).estimated == 1
        before, now = (Energy.concat(tables(market, Energy, FIRST + k)) for k in (1, 2))  # type: ignore[arg-type]
        assert now.import_wh[now.customer == silent] == before.import_wh[before.customer == silent]


def test_a_market_without_an_interval_cleared_cannot_settle_it(shard: Shard) -> None:
    with ShardMarket.open(shard.folder) as market:
        with pytest.raises(ShardError, match="close its gate first"):
            market.settle(FIRST, NOW)
        played(market, shard, [FIRST])
        with pytest.raises(ShardError, match="closed long ago"):
            market.close_gate(FIRST, ROOT_PRICE, NOW)
        with pytest.raises(ShardError, match="corrections"):
            market.settle(FIRST, NOW)


def test_who_moves_after_the_gate_has_closed_settles_where_it_bid(shard: Shard) -> None:
    """A connection has two times: what became known after the gate does not change what was cleared, or its bill."""
    mover = int(shard.population.customer[0])
    home, away = (shard.population.feeders[k] for k in (0, 1))
    with ShardMarket.open(shard.folder) as market:
        shard.bid(FIRST)
        market.close_gate(FIRST, ROOT_PRICE, NOW)
        shard.read(FIRST)
        moved = Connections(
            customer=[mover],
            device=[0],
            asset=ShardKeys.meters_of([mover]),
            feeder=[away.name.encode()],
            node=[int(shard.population.node[-1])],
            phases=[0],
            from_interval=[FIRST],
            capacity_w=[9_000],
            import_limit_w=[9_000],
            export_limit_w=[9_000],
        )
        intake = shard.intake
        span = {"interval": FIRST, "intervals": 1, "source": "registrar", "known_at": intake.clock.now()}
        intake.journal.append(intake.vault.seal_live(moved, feeder=away.name, **span))
        intake.commit()
        market.settle(FIRST, NOW)
        record = market._recorder("")
        posted = {record.journal.entry(i).feeder: record.table(i, Postings) for i in record.journal.find("postings")}
        assert mover in posted[home.name].account
        assert mover not in posted[away.name].account


def test_a_bid_at_a_better_placed_neighbours_node_takes_no_part(shard: Shard) -> None:
    """The intake cannot know nodes; the market does, from the registry."""
    shard.senders.node[0], honest = shard.senders.node[1], shard.senders.node[0]
    assert shard.senders.node[0] != honest
    with ShardMarket.open(shard.folder) as market:
        shard.bid(FIRST)
        closed = market.close_gate(FIRST, ROOT_PRICE, NOW)
        record = market._recorder("")
        (index,) = record.journal.find(kind=Refusals.kind)
        refused = record.table(index, Refusals)
        assert closed.bids == 400
        assert len(refused) >= 1
        assert record.journal.entry(index).feeder == shard.population.feeders[int(shard.population.feeder[0])].name


def test_of_two_bids_the_later_counts(shard: Shard) -> None:
    """Last recorded, not first: a customer may think again until the gate closes."""
    first = shard.bid(FIRST)[0]
    orders = SentBids.from_bytes(first.body).orders
    customer = int(orders.customer[0])
    own = orders.take(orders.customer == customer)
    dearer = replace(own, price_micros=own.price_micros + 1)
    key = SigningKey(shard.keys.customer_seed(customer))
    again = bids_body(sign_orders(dearer, "real_time", FIRST, {customer: key}), dearer)
    shard.take(shard.signed(first, again, sequence=1_000))
    shard.intake.commit()
    with ShardMarket.open(shard.folder) as market:
        size = market._submitted.refresh()
        bids = market._submitted.bids(FIRST, size)[first.statement.feeder]
        assert bids.orders.take(bids.orders.customer == customer).equals(dearer)
        assert bids.recorded == first.rows + 1
        before = market._submitted.bids(FIRST, size - 2)[first.statement.feeder]
        assert before.orders.take(before.orders.customer == customer).equals(own)


def test_a_customer_that_moves_settles_at_the_price_of_its_new_feeder(shard: Shard) -> None:
    with ShardMarket.open(shard.folder) as market:
        played(market, shard, [FIRST, FIRST + 1])
        moves = shard.moves[FIRST + 1]
        assert moves.who.size == 4
        record = market._recorder("")
        for who, feeder in zip(moves.who.tolist(), moves.feeder.tolist(), strict=True):
            customer = int(shard.population.customer[who])
            name = shard.population.feeders[feeder].name
            (index,) = [
                i
                for i in record.journal.find(kind=Postings.kind, interval=FIRST + 1)
                if record.journal.entry(i).feeder == name
            ]
            assert customer in record.table(index, Postings).account


def balances(folder: Path) -> dict[int, int]:
    with Ledger.open(folder / "books.sqlite", read_only=True) as ledger:
        return ledger.balances()


@pytest.mark.parametrize("moment", ["clear", "gate commit", "settle", "settlement commit", "post"])
def test_a_market_that_dies_goes_on_where_the_record_stands(tmp_path: Path, moment: str) -> None:
    """Law 3: what a market remembers is a fold; its books are those of one that was closed and opened in peace.

    A market that starts again begins its search without the last interval's outcome, which may move a price by a
    micro-currency; so both start again, and one of them dies.
    """
    steady, dying = Shard(tmp_path / "steady"), Shard(tmp_path / "dying")
    with ShardMarket.open(steady.folder) as market:
        played(market, steady, [FIRST])
        steady.bid(FIRST + 1)
        if moment not in ("clear", "gate commit"):
            market.close_gate(FIRST + 1, ROOT_PRICE, NOW)
    with ShardMarket.open(steady.folder) as market:
        market.close_gate(FIRST + 1, ROOT_PRICE, NOW)
        steady.read(FIRST + 1)
        market.settle(FIRST + 1, NOW)
    with ShardMarket.open(steady.folder) as market:
        played(market, steady, [FIRST + 2])

    class DiedError(Exception):
        pass

    def die(*_: object, **__: object) -> None:
        raise DiedError

    market = ShardMarket.open(dying.folder)
    played(market, dying, [FIRST])
    dying.bid(FIRST + 1)
    if moment == "clear":
        once = market._clear
        calls: list[int] = []

        def first_only(*given: object) -> int:
            if calls:
                raise DiedError
            calls.append(1)
            return once(*given)  # type: ignore[arg-type]

        market._clear = first_only  # type: ignore[method-assign]
    elif moment == "gate commit":
        market._journal.commit = die  # type: ignore[method-assign, assignment]
    if moment in ("clear", "gate commit"):
        with pytest.raises(DiedError):
            market.close_gate(FIRST + 1, ROOT_PRICE, NOW)
        market.close()
        market = ShardMarket.open(dying.folder)
    market.close_gate(FIRST + 1, ROOT_PRICE, NOW)
    dying.read(FIRST + 1)
    if moment == "settle":
        market.close()
        market = ShardMarket.open(dying.folder)
    elif moment == "settlement commit":
        market._journal.commit = die  # type: ignore[method-assign, assignment]
    elif moment == "post":
        market.ledger.post_all = die  # type: ignore[method-assign, assignment]
    if moment in ("settlement commit", "post"):
        with pytest.raises(DiedError):
            market.settle(FIRST + 1, NOW)
        market.close()
        market = ShardMarket.open(dying.folder)
    if moment != "post":
        market.settle(FIRST + 1, NOW)
    market.close()
    with ShardMarket.open(dying.folder) as again:
        played(again, dying, [FIRST + 2])
    assert balances(dying.folder) == balances(steady.folder)
    steady.intake.close()
    dying.intake.close()
