"""What orders that nobody means would earn: tricks on recorded gates, settled as before and by the price run.

The gates of some hours of a played day are cleared again, with a trick among their orders and without. Neighbours
answer the guide: what their meters show moves by as much as their awards do; or they do not, and stand as recorded.
Then each interval settles twice, at the gate's prices and at those of the price run on the meters as they now are.

What a trick earns is what its accounts' bills differ by from the same positions and the same energy at the prices of
the day without it, ``sum (drawn - bought ahead) x (price without - price with)``, less what it draws or leaves undrawn
for the trick's sake, at its price. A position is taken to have cost the recorded day-ahead price, whatever it would
have done to that, so the figures are the trickster's best case. Taps stand as in the network's document; no
order is refused for its size.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from tellegen.assess.registry import Figure, Options, Report
from tellegen.errors import InputError
from tellegen.market.facts import CARRIED
from tellegen.operations.gate import Cleared, Delivered, GateTask, Period, Wires, clear_feeder
from tellegen.operations.price_run import MeteredPower
from tellegen.operations.reading import read_round
from tellegen.operations.record import ShardRecord
from tellegen.operations.timetable import day_of
from tellegen.records import OPERATOR, Device, Energy, Orders, Prices, Product, Quality, Side
from tellegen.records.market import PRICE_RUN, REAL_TIME
from tellegen.rules.price_run import PriceRun
from tellegen.simulation.play import simulate_day
from tellegen.simulation.scenario import demo_scenario, with_options
from tellegen.simulation.setup import prepare
from tellegen.simulation.summary import about
from tellegen.units import INTERVALS_PER_HOUR, MICROS, IntArray

GAIN_MAX = 0.01
"""Most that a claim may earn, currency an hour."""
SEARCHED, QUICK_SEARCHED, QUICK_HOURS = 1_000, 10, 4
SEED = 7


@dataclass(frozen=True, slots=True)
class Trick:
    """What each of some accounts does in every interval of an hour, besides what its home does.

    Attributes
    ----------
    accounts : homes that do it, those at the nodes of the highest numbers.
    ahead_kw : bought day-ahead beyond what the home did; negative: sold.
    claim_kw : ordered in real time beyond what the home did; negative: offered for sale. price : its limit,
        currency/kWh; None: at any price.
    drawn_kw : drawn beyond what the home did, undeclared; negative: fed in, or left undrawn.
    silent : its meter is not read in time; it counts as missing, at what it would have shown.
    hour : local hour of the day, by intervals from its start.
    """

    name: str
    accounts: int
    ahead_kw: float
    claim_kw: float
    price: float | None = None
    drawn_kw: float = 0.0
    silent: bool = False
    hour: int = 19


TRICKS = (
    Trick("20 kW ahead and 120 claimed at any price, one account", 1, 20, 120),
    Trick("the same in two accounts", 2, 10, 60),
    Trick("five accounts, 20 kW ahead and 40 claimed each", 5, 20, 40),
    Trick("ten accounts, 20 kW ahead and 24 claimed each", 10, 20, 24),
    Trick("20 kW ahead and 120 claimed at the cap", 1, 20, 120, 5.0),
    Trick("paper sun at noon: 20 kW sold ahead, 300 offered at any price", 1, -20, -300, hour=12),
    Trick("paper sun at noon in five accounts, 60 kW each", 5, -4, -60, hour=12),
    Trick("paper sun at noon at the floor", 1, -20, -300, -1.0, hour=12),
    Trick("120 kW claimed at the cap, 20 drawn, 44 ahead", 1, 44, 120, 5.0, drawn_kw=20),
    Trick("22 kW drawn undeclared, 44 ahead", 1, 44, 0, drawn_kw=22),
    Trick("five homes draw 11 kW undeclared, 20 ahead each", 5, 20, 0, drawn_kw=11),
    Trick("five homes leave 3 kW undrawn, 20 sold ahead each", 5, -20, 0, drawn_kw=-3),
    Trick("five homes with 20 kW ahead go silent", 5, 20, 0, silent=True),
)


@dataclass(frozen=True, slots=True, eq=False)
class _Interval:
    """A recorded interval of a feeder: its gate's orders, its meters, and who holds what."""

    number: int
    orders: Orders
    guide: Prices
    root_price_micros: int
    energy: Energy
    node: IntArray
    capacity_w: IntArray

    @property
    def customer(self) -> IntArray:
        """Who is connected, ascending."""
        return self.energy.customer.astype(np.int64)


@dataclass(frozen=True, slots=True)
class Amounts:
    """What a trick earns, currency: settled at the gate's prices, by price run with neighbours that answer the guide,
    and with neighbours that do not; and the largest move of a settled price where all meters stand as recorded,
    micro-currency/kWh.
    """

    before: float = 0.0
    answered: float = 0.0
    deaf: float = 0.0
    moved: int = 0

    def __add__(self, other: Amounts) -> Amounts:
        return Amounts(
            self.before + other.before,
            self.answered + other.answered,
            self.deaf + other.deaf,
            max(self.moved, other.moved),
        )

    def hourly(self, times: int) -> Amounts:
        """Of an hour of which this was one part in so many."""
        return replace(self, before=times * self.before, answered=times * self.answered, deaf=times * self.deaf)

    def figures(self, trick: Trick, unit: str) -> list[Figure]:
        """As a benchmark reports them."""
        conditions = {
            "at the gate's prices": round(self.before, 4),
            "if nobody answers": round(self.deaf, 4),
            "largest move of a price, meters fixed": self.moved,
        }
        return [Figure(trick.name, round(self.answered, 6), unit, target=GAIN_MAX, conditions=conditions)]


@dataclass(frozen=True, slots=True, eq=False)
class _Plain:
    """Awards of orders, net awards of customers, prices of a gate without paper, and of the run; without a trick."""

    awarded_mw: IntArray
    net_award_w: IntArray
    paperless: IntArray
    settled: IntArray


class Stage:
    """Recorded gates of one feeder, on which tricks are tried.

    Parameters
    ----------
    record : of a played day or a shard. feeder : its name. rules : of the price run; None: the default ones.
    """

    def __init__(self, record: ShardRecord, feeder: str, rules: PriceRun | None = None) -> None:
        self._record, self._feeder = record, next(f for f in record.feeders if f.name == feeder)
        self._wires = Wires(self._feeder.wires)
        self._rules = rules or PriceRun()
        self._known: dict[int, _Interval] = {}
        self._honest: dict[int, _Plain] = {}

    def amounts(self, trick: Trick, intervals: Sequence[int]) -> Amounts:
        """What a trick comes to in some intervals."""
        total = Amounts()
        for number in intervals:
            here, plain = self._interval(number), self._plain(number)
            who = self._accounts(here, trick.accounts)
            claim = _claims(here, who, trick)
            orders = Orders.concat([here.orders, claim])
            paperless, gate = self._gate(here, orders, None), self._gate(here, orders, self._rules)
            awarded = _awarded(gate, len(orders))
            drawn = np.zeros(here.node.size, dtype=np.int64)
            drawn[who] = round(1000 * trick.drawn_kw)
            moved = _by_customer(here, orders, awarded) - plain.net_award_w
            moved[who] = 0
            silent = who if trick.silent else who[:0]
            answered = self._run(here, orders, awarded, drawn + moved, silent)
            deaf = self._run(here, orders, awarded, drawn, silent)
            own = np.append(plain.awarded_mw, awarded[len(here.orders) :])
            fixed = self._run(here, orders, own, 0 * drawn, silent[:0])
            node = here.node[who]
            total += Amounts(
                before=_earned(trick, plain.paperless[node], paperless.prices.energy[node]),
                answered=_earned(trick, plain.settled[node], answered[node]),
                deaf=_earned(trick, plain.settled[node], deaf[node]),
                moved=int(np.abs(plain.settled - fixed).max()),
            )
        return total

    def _interval(self, number: int) -> _Interval:
        if number not in self._known:
            record, name = self._record, self._feeder.name
            found = read_round(record, name, number)
            table = record.table(record.about(Energy, name, number)[0], Energy)
            energy = table.take(table.customer != OPERATOR)
            energy = energy.take(np.argsort(energy.customer, kind="stable"))
            customer = energy.customer.astype(np.int64)
            when = np.full(customer.size, number, dtype=np.int64)
            _, node, _, capacity, _ = record.topology.places(customer, when, np.full(customer.size, 2**62))
            price = int(found.period.clearing.root_price[0])
            self._known[number] = _Interval(number, found.orders, found.period.prices, price, energy, node, capacity)
        return self._known[number]

    @staticmethod
    def _accounts(here: _Interval, count: int) -> IntArray:
        """Rows of the homes that stand at the nodes of the highest numbers."""
        if count > here.node.size:
            raise InputError("tricks", f"{count} accounts", f"are more than the {here.node.size} on the feeder")
        return np.asarray(np.sort(np.argsort(-here.node, kind="stable")[:count]))

    def _plain(self, number: int) -> _Plain:
        """An interval without a trick."""
        if number not in self._honest:
            here = self._interval(number)
            gate = self._gate(here, here.orders, self._rules)
            awarded = _awarded(gate, len(here.orders))
            nobody = np.zeros(0, dtype=np.int64)
            self._honest[number] = _Plain(
                awarded_mw=awarded,
                net_award_w=_by_customer(here, here.orders, awarded),
                paperless=self._gate(here, here.orders, None).prices.energy,
                settled=self._run(here, here.orders, awarded, 0 * here.node, nobody),
            )
        return self._honest[number]

    def _gate(self, here: _Interval, orders: Orders, rules: PriceRun | None) -> Cleared:
        return self._cleared(here, REAL_TIME, orders, None, rules)

    def _run(
        self, here: _Interval, orders: Orders, awarded_mw: IntArray, more_w: IntArray, silent: IntArray
    ) -> IntArray:
        """Prices of a run on meters that show so much more than recorded."""
        energy = here.energy
        missing = energy.quality == Quality.ESTIMATED
        missing[silent] = True
        metered = MeteredPower(
            customer=here.customer,
            node=here.node,
            net_w=(energy.import_wh - energy.export_wh) * INTERVALS_PER_HOUR + more_w,
            net_var=energy.reactive_varh * INTERVALS_PER_HOUR,
            missing=missing,
            import_w=here.capacity_w,
            export_w=here.capacity_w,
        )
        return self._cleared(
            here, PRICE_RUN, orders, Delivered(awarded_mw, here.guide, metered), self._rules
        ).prices.energy

    def _cleared(
        self, here: _Interval, market: str, orders: Orders, delivered: Delivered | None, rules: PriceRun | None
    ) -> Cleared:
        customer = here.customer
        task = GateTask(
            feeder=self._feeder.name,
            market=market,
            periods=(Period(here.number, 1, here.root_price_micros, orders, customer, here.node, delivered),),
            network=self._feeder.network_name,
            parameters=self._record.rulebook.at(day_of(self._record.rulebook, here.number)).market,
            customer=customer,
            carry=np.zeros((customer.size, CARRIED), dtype=np.int64),
            root_limit_kw=self._feeder.root_limit_kw,
            price_run=rules,
            taps=np.zeros(self._feeder.movable, dtype=np.int64),
        )
        return clear_feeder(task, self._wires)[0]


def _earned(trick: Trick, without: IntArray, price: IntArray) -> float:
    """What a trick earns in an interval, currency, at its accounts' prices without it and with it."""
    beyond = (trick.drawn_kw - trick.ahead_kw) * float((without - price).sum())
    return (beyond - abs(trick.drawn_kw) * float(price.sum())) / INTERVALS_PER_HOUR / MICROS


def _awarded(gate: Cleared, orders: int) -> IntArray:
    return gate.awards.by_order(orders)


def _by_customer(here: _Interval, orders: Orders, awarded_mw: IntArray) -> IntArray:
    """Net award of energy of each customer, int64[n], W."""
    net = np.zeros(here.node.size, dtype=np.int64)
    energy = np.flatnonzero((orders.product == Product.ENERGY) & np.isin(orders.customer, here.customer))
    np.add.at(net, np.searchsorted(here.customer, orders.customer[energy]), (awarded_mw * orders.side)[energy] // 1000)
    return net


def _claims(here: _Interval, who: IntArray, trick: Trick) -> Orders:
    """The trick's orders, one an account."""
    if not trick.claim_kw:
        return Orders.empty()
    rows = np.zeros(who.size, dtype=Orders.row_dtype())
    rows["customer"], rows["node"] = here.customer[who], here.node[who]
    rows["device"], rows["product"] = Device.LOAD, Product.ENERGY
    rows["side"] = Side.BUY if trick.claim_kw > 0 else Side.SELL
    rows["price_taker"], rows["price_micros"] = trick.price is None, round((trick.price or 0.0) * MICROS)
    rows["quantity_w"] = abs(round(1000 * trick.claim_kw))
    return Orders.from_rows(rows)


def random_trick(rng: np.random.Generator) -> Trick:
    """A strategy at random: accounts, position, claim, price and draw, long and short."""
    accounts = int(rng.choice([1, 2, 5, 10]))
    ahead = float(np.round(rng.uniform(-60, 60) / accounts, 1))
    claim = float(np.round(rng.choice([-1, 1]) * np.exp(rng.uniform(np.log(2), np.log(400))) / accounts, 1))
    price = None if rng.random() < 0.5 else float(np.round(rng.uniform(-1, 5), 3))
    drawn = 0.0 if rng.random() < 0.7 else float(np.round(rng.uniform(-10, 30) / accounts, 1))
    said = "any price" if price is None else f"{price:g}"
    name = f"{accounts} accounts: {ahead:g} kW ahead, {claim:g} claimed at {said}, {drawn:g} drawn each"
    return Trick(name, accounts, ahead, claim, price, drawn)


def measure(options: Options, report: Report) -> None:
    """Play the demo's day, then try every trick on its gates."""
    scenario = with_options(demo_scenario(), hours=QUICK_HOURS) if options.quick else demo_scenario()
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "day"
        options.progress(f"playing the demo's day{' (the first hours of it)' if options.quick else ''}")
        simulate_day(scenario, run, lambda *done: None)
        report.about += about(prepare(scenario))
        with ShardRecord.open(run) as record:
            try_all(record, record.feeders[0].name, options, report)


def try_all(record: ShardRecord, feeder: str, options: Options, report: Report) -> None:
    """Every trick of the list, and a search at random, on a feeder's recorded day."""
    stage = Stage(record, feeder)
    first = min(record.header(entry).interval for entry in record.journal.find(kind=Energy.kind))
    last = QUICK_HOURS - 1 if options.quick else 23
    for each in TRICKS[:3] if options.quick else TRICKS:
        trick = replace(each, hour=min(each.hour, last))
        options.progress(trick.name)
        found = stage.amounts(trick, range(first + 12 * trick.hour, first + 12 * trick.hour + 12))
        report.figures += found.figures(trick, "currency/h")
    rng = np.random.default_rng(SEED)
    best: tuple[Trick, Amounts] | None = None
    worst_moved, count = 0, QUICK_SEARCHED if options.quick else SEARCHED
    options.progress(f"{count} strategies at random")
    for _ in range(count):
        trick = replace(random_trick(rng), hour=int(rng.integers(0, last + 1)))
        found = stage.amounts(trick, [first + 12 * trick.hour + int(rng.integers(0, 12))]).hourly(INTERVALS_PER_HOUR)
        worst_moved = max(worst_moved, found.moved)
        if best is None or found.answered > best[1].answered:
            best = trick, found
    assert best is not None
    trick, found = best
    report.figures.append(
        Figure(
            f"best of {count} strategies at random ({trick.name}, {trick.hour} h)",
            found.answered,
            "currency/h",
            target=GAIN_MAX,
            conditions={"at the gate's prices": round(found.before, 4), "if nobody answers": round(found.deaf, 4)},
        )
    )
    report.figures.append(
        Figure("largest move of a settled price, meters held as they were, of all of these", worst_moved,
               "micro-currency/kWh", target=0)
    )  # fmt: skip
