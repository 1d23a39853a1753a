"""A shard of two short streets, and all that is sent to it: small enough that its market is played hundreds of times.

What anybody sends follows from a seed and the interval alone, never from what the market did: a world that was cut
short and went on is sent exactly what the undisturbed one is.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from importlib import resources
from pathlib import Path

import numpy as np
from nacl.bindings import crypto_sign, crypto_sign_seed_keypair
from numpy.typing import ArrayLike, NDArray

from tellegen.books import Ledger
from tellegen.grid.network import Network
from tellegen.grid.synthetic import synthetic_feeder
from tellegen.intake.registry_changes import REGISTRAR, SentChanges
from tellegen.journal import Journal
from tellegen.metering import DeviceCodes
from tellegen.operations.market import Market
from tellegen.operations.record import FIRST_DAY
from tellegen.operations.topology import Feeder, put_feeders
from tellegen.privacy import Vault
from tellegen.privacy.recorder import Recorder, Span
from tellegen.privacy.snapshots import DIGEST_PURPOSE
from tellegen.records import (
    Connections,
    Device,
    Document,
    Orders,
    Product,
    Readings,
    RootPrices,
    Route,
    Side,
    Statement,
    sign_bids,
)
from tellegen.registry.registrar import REGISTRAR_PURPOSE
from tellegen.registry.shard import SIGNING_PURPOSE
from tellegen.rules import Rulebook
from tellegen.simulation.batches import SignedBatch, bids_batch, readings_batch
from tellegen.simulation.registered import assets
from tellegen.simulation.shard import METER_FIRST, SIMULATED, ShardKeys, build_shard
from tellegen.units import MARKET_INTERVAL_S, IntArray

STREETS: tuple[tuple[int, ...], ...] = ((1, 2, 3, 4, 5), (6, 7, 8, 9))
"""Customers of each street, where they begin."""
SUBSTATIONS = (91, 92)
NAMES = ("H1", "H2")
SELLERS = (5, 9)
"""Who has a roof: they offer, and withdraw nothing."""
EXCHANGED_BY = 1_000
"""A meter's successor has a number so much higher."""
_SEED = b"hamlet"
_SPAN = 1_200
_BASE_WH = 10_000
_CAPACITY_W = 25_000
_ROOF_W = 5_000
_SIGNATURE_BYTES = 64
_ROOT_MICROS = 180_000


@dataclass(frozen=True, slots=True)
class Move:
    """A customer hangs elsewhere from an interval on.

    Attributes
    ----------
    street : place in `STREETS`; -1: nowhere any more. place : of the street's connections.
    meter : serial number; 0: the one it has.
    """

    interval: int
    customer: int
    street: int
    place: int = 0
    meter: int = 0


@dataclass(frozen=True, slots=True)
class HamletPlan:
    """What a hamlet begins with.

    Attributes
    ----------
    first : first market interval. rulebook : its rules; the day of `first` is the market's first.
    moves : known from the start, as a planned switching is.
    absent : customers who are not connected at the start.
    """

    first: int
    rulebook: Rulebook
    first_day: str
    moves: tuple[Move, ...] = ()
    absent: tuple[int, ...] = ()


def rules(versions: Mapping[str, Mapping[str, str]]) -> Rulebook:
    """The default rulebook with other values, by effective date; values as TOML.

    >>> book = rules({"2016-01-01": {"time_zone": '"Pacific/Pago_Pago"'}})
    >>> book.versions[0].settlement.time_zone
    'Pacific/Pago_Pago'
    """
    text = (resources.files("tellegen.rules") / "rulebooks" / "default" / "2016-01-01.toml").read_text()
    files = {}
    for number, (effective, changes) in enumerate(versions.items()):
        changed = text.replace('docket = "2015-17"', f'docket = "2015-{17 + number}"')
        for key, value in changes.items():
            changed, count = re.subn(rf"(?m)^{key} = .*$", f"{key} = {value}", changed)
            assert count == 1, key
        files[f"{effective}.toml"] = changed.encode()
    return Rulebook.parse(files, "hamlet")


@cache
def network() -> tuple[Network, tuple[int, ...]]:
    """The wires of a street, and the nodes of its connections."""
    drawn = synthetic_feeder(len(STREETS[0]), phases=1, seed=2)
    return replace(drawn.network, name="hamlet"), tuple(drawn.customer_node.tolist())


def found(folder: Path, plan: HamletPlan, feeders: Sequence[Feeder] = ()) -> Hamlet:
    """Make the shard; everybody is known an hour before the first interval, and connected one interval before it.

    Parameters
    ----------
    feeders : in place of the streets' own, under their names.
    """
    begin = plan.first - 1
    members = {name: [*who, root] for name, who, root in zip(NAMES, STREETS, SUBSTATIONS, strict=True)}
    known = begin - 11
    keys = build_shard(folder, members, _SEED, first_interval=known, origin="hamlet.example/shard")
    hamlet = Hamlet(keys, plan)
    at = known * MARKET_INTERVAL_S
    with (
        Vault.open(folder / "vault", _SEED) as vault,
        Journal.open(folder, vault.purpose_key(SIGNING_PURPOSE)) as journal,
    ):
        vault.purpose_key(DIGEST_PURPOSE)  # made on first use it would be drawn, and digests differ from play to play
        recorder, span = Recorder(journal, vault, "", live=True), Span(at, begin)
        wires, _ = network()
        streets = [Feeder(name, wires, root) for name, root in zip(NAMES, SUBSTATIONS, strict=True)]
        put_feeders(recorder, feeders or streets, span)
        for document in (*plan.rulebook.documents(), Document(FIRST_DAY, plan.first_day.encode())):
            recorder.put_document(document, span)
        for k, name in enumerate(NAMES):
            recorder.put(hamlet.beginnings(k), span, name=f"plan/{name}")
        for k, move in enumerate(plan.moves):
            recorder.put(hamlet.connection(move), span, name=f"plan/move {k}")
        journal.commit(at)
    Market.create(folder)
    Ledger.create(folder / "books.sqlite").close()
    return hamlet


@dataclass(slots=True)
class Hamlet:
    """Everybody who lives there, with the keys of all of them.

    Parameters
    ----------
    keys : of the shard. plan : how it began.
    """

    keys: ShardKeys
    plan: HamletPlan
    moves: list[Move] = field(default_factory=list)
    _codes: DeviceCodes = field(init=False)
    _wh: IntArray = field(init=False)

    def __post_init__(self) -> None:
        self.moves = [*self.plan.moves, *self.moves]
        everybody = [*(c for who in STREETS for c in who), *SUBSTATIONS]
        meters = self.keys.meters_of(everybody)
        self._codes = DeviceCodes(self.keys.meter_master, np.concatenate([meters, meters + EXCHANGED_BY]))
        self._wh = np.stack([np.random.default_rng([7, c]).integers(10, 80, _SPAN) for c in range(max(SUBSTATIONS))])

    # Connections

    def beginnings(self, street: int) -> Connections:
        """Where everybody of a street begins, the substation's meter last."""
        wires, nodes = network()
        who = STREETS[street]
        here = [-1 if c in self.plan.absent else nodes[place] for place, c in enumerate(who)]
        node = [*here, int(wires.source[0])]
        points = _connections([*who, SUBSTATIONS[street]], NAMES[street], node, self.plan.first - 1, 0)
        sellers = np.intersect1d(who, SELLERS).astype(np.int64)
        # a house that nobody lives in yet has its panels all the same
        roofs = replace(assets(points, Device.PV, sellers, 0, _ROOF_W), node=np.zeros(sellers.size, dtype=np.int32))
        return Connections.concat([points, roofs])

    def connection(self, move: Move) -> Connections:
        """A move as it stands in the registry."""
        _, nodes = network()
        node = -1 if move.street < 0 else nodes[move.place]
        return _connections([move.customer], NAMES[max(move.street, 0)], [node], move.interval, move.meter)

    def registered(self, move: Move, now: int) -> SignedBatch:
        """A move that nobody knew of, as the registrar hands it in; the hamlet lives by it from now on.

        Parameters
        ----------
        now : the interval in which that is.
        """
        self.moves.append(move)
        sent = SentChanges(self.connection(move))
        with Vault.open(self.keys.path / "vault") as vault:
            key = vault.role_key(REGISTRAR_PURPOSE)
        body = sent.to_bytes()
        said = Statement.of(self.keys.origin, Route.ADMISSIONS, REGISTRAR, "", "", now, now, body)
        _, secret = crypto_sign_seed_keypair(key)
        return SignedBatch(said, bytes(crypto_sign(said.to_bytes(), secret)[:_SIGNATURE_BYTES]), body)

    def place(self, customer: int, interval: int) -> tuple[int, int, int]:
        """Street, place and meter of a customer in an interval; street -1: none."""
        street = next(k for k, who in enumerate(STREETS) if customer in who)
        here = (street, STREETS[street].index(customer), METER_FIRST + customer)
        if customer in self.plan.absent:
            here = (-1, 0, METER_FIRST + customer)
        for move in sorted((m for m in self.moves if m.customer == customer), key=lambda m: m.interval):
            if move.interval <= interval:
                here = (move.street, move.place, move.meter or METER_FIRST + customer)
        return here

    # What they do

    def energy_wh(self, customer: int, interval: int) -> int:
        """Net energy of a customer in an interval, withdrawal positive."""
        used = int(self._wh[customer, interval - self.plan.first + 1])
        return -used if customer in SELLERS else used

    def bids(
        self, market: str, first: int, periods: int = 1, *, sequence: int = 0, part: int = 0, dearer_micros: int = 0
    ) -> list[SignedBatch]:
        """Everybody's bid for a gate, a batch for each street.

        Parameters
        ----------
        periods : of the gate. sequence : the customers' own number. part : of what a source sends about the gate.
        dearer_micros : by which every price is higher, micro-currency/kWh.
        """
        batches = []
        _, nodes = network()
        for k, name in enumerate(NAMES):
            rows: list[tuple[int, ...]] = []
            for customer in sorted(c for who in STREETS for c in who):
                street, place, _ = self.place(customer, first)
                if street != k:
                    continue
                drawn = np.random.default_rng([11, customer, first % 10_000]).integers(0, 60_000, (periods, 2))
                for period in range(periods):
                    one, two = (int(price) + dearer_micros for price in drawn[period])
                    if customer in SELLERS:
                        rows.append((customer, period, Device.PV, nodes[place], Side.SELL, 40_000 + one, 2_500, 0))
                    else:
                        rows.append((customer, period, Device.LOAD, nodes[place], Side.BUY, 300_000 + one, 600, 200))
                        rows.append((customer, period, Device.LOAD, nodes[place], Side.BUY, 150_000 + two, 500, 200))
            orders = _orders(rows)
            signed = sign_bids(orders, self.keys.origin, name, market, first, sequence, self._sign)
            number = (first * 2 + (market == "day_ahead")) * 100 + part * 10 + k
            batches.append(bids_batch(self.keys, signed, orders, name, market, first, number))
        return batches

    def readings(
        self, interval: int, who: ArrayLike | None = None, *, part: int = 0, again_at: int | None = None
    ) -> list[SignedBatch]:
        """Registers at the end of an interval, a batch for each street; substations included.

        Parameters
        ----------
        who : only these customers. part : of what the head-end sends about the interval.
        again_at : read again later: the interval in which that was.
        """
        asked = None if who is None else set(np.atleast_1d(np.asarray(who)).tolist())
        batches = []
        for k, name in enumerate(NAMES):
            rows = self._rows(k, interval, asked)
            if not rows:
                continue
            columns = np.array(rows, dtype=np.int64).T
            count = columns.shape[1]
            counter = 2 * (interval - self.plan.first + 2) if again_at is None else 2 * (again_at - self.plan.first) + 5
            table = Readings(
                customer=columns[0].astype(np.int32),
                meter=columns[1],
                counter=np.full(count, counter),
                import_wh=columns[2],
                export_wh=columns[3],
                reactive_varh=np.zeros(count, dtype=np.int64),
                voltage_mv=np.full(count, 230_000),
                tag=np.zeros(count, dtype="V16"),
            )
            coded = self._codes.tag(table, interval)
            batches.append(readings_batch(self.keys, coded, name, interval, interval * 1_000 + part * 10 + k))
        return batches

    def _rows(self, street: int, interval: int, asked: set[int] | None) -> list[tuple[int, int, int, int]]:
        rows = []
        for customer in (c for who in STREETS for c in who):
            here, _, meter = self.place(customer, interval)
            if here == street and (asked is None or customer in asked):
                rows.append((customer, meter, *self._registers(customer, meter, interval)))
        root = SUBSTATIONS[street]
        if asked is None or root in asked:
            net = [self._root_wh(street, t) for t in range(self.plan.first - 1, interval + 1)]
            taken, given = sum(max(wh, 0) for wh in net), sum(max(-wh, 0) for wh in net)
            rows.append((root, METER_FIRST + root, _BASE_WH + taken, _BASE_WH + given))
        return rows

    def _registers(self, customer: int, meter: int, interval: int) -> tuple[int, int]:
        about = [t for t in range(self.plan.first - 1, interval + 1) if self.place(customer, t)[2] == meter]
        wh = [self.energy_wh(customer, t) for t in about]
        return _BASE_WH + sum(max(each, 0) for each in wh), _BASE_WH + sum(max(-each, 0) for each in wh)

    def _root_wh(self, street: int, interval: int) -> int:
        everybody = (c for who in STREETS for c in who if self.place(c, interval)[0] == street)
        return sum(self.energy_wh(c, interval) for c in everybody) + 1 + interval % 3  # losses

    def _sign(self, customer: int, message: bytes) -> bytes:
        _, secret = crypto_sign_seed_keypair(self.keys.customer_seed(customer))
        return bytes(crypto_sign(message, secret)[:_SIGNATURE_BYTES])


def root_prices(intervals: Sequence[int] | range) -> RootPrices:
    """Wholesale prices of periods that begin with some intervals."""
    first = np.array(intervals, dtype=np.int64)
    return RootPrices(
        interval=first,
        micros=_ROOT_MICROS + 1_000 * (first % 11),
        source=np.full(first.size, b"hamlet", dtype="S64"),
    )


def _orders(rows: list[tuple[int, ...]]) -> Orders:
    customer, period, device, node, side, price, quantity, var = np.array(rows, dtype=np.int64).reshape(-1, 8).T
    return Orders(
        customer=customer.astype(np.int32),
        period=period.astype(np.uint8),
        device=device.astype(np.uint8),
        node=node.astype(np.int32),
        product=np.full(customer.size, Product.ENERGY, dtype=np.uint8),
        side=side.astype(np.int8),
        price_taker=np.zeros(customer.size, dtype=np.uint8),
        price_micros=price,
        quantity_w=quantity,
        var_per_kw=var.astype(np.int32),
    )


def _connections(who: list[int], street: str, node: list[int], interval: int, meter: int) -> Connections:
    customer: NDArray[np.int32] = np.array(who, dtype=np.int32)
    count = customer.size
    capacity = np.where(np.isin(customer, SUBSTATIONS), 2**31 - 1, _CAPACITY_W).astype(np.int64)
    return Connections(
        customer=customer,
        device=np.full(count, Device.LOAD, dtype=np.uint8),
        asset=np.full(count, meter) if meter else ShardKeys.meters_of(customer),
        feeder=np.full(count, street.encode(), dtype="S32"),
        node=np.array(node, dtype=np.int32),
        phases=np.zeros(count, dtype=np.uint8),
        from_interval=np.full(count, interval),
        capacity_w=capacity,
        import_limit_w=capacity,
        export_limit_w=capacity,
        reads_every=np.zeros(count, dtype=np.uint8),
        attested_by=np.full(count, SIMULATED, dtype="S32"),
        credit=np.zeros(count, dtype=np.int32),
    )
