"""What moves money in settlement: wash trades, cycling for shares, booked losses, self-dealing, a shaded root price.

Each amount is the difference of two settlements of the same day by `settle_day`, with the trick and without. Energy,
prices and keys of the day are facts, as settlement takes them; the keys of a day are frozen before its first order.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path

import numpy as np

from tellegen.assess.registry import Figure
from tellegen.assess.tricks.scene import recorded
from tellegen.assess.tricks.stage import Stage
from tellegen.assess.tricks.strategy import Trick
from tellegen.books import fold
from tellegen.operations.booked import booked
from tellegen.operations.record import ShardRecord
from tellegen.records import Account, AllocationKeys, Line, Postings
from tellegen.rules import Rulebook
from tellegen.settlement import DayFacts, settle_day, specimen_day
from tellegen.settlement.parameters import Parameters
from tellegen.units import NANOS, IntArray

TIGHTER_PU, SHADED_PPM, CYCLED_WH, LOST_PPM = 0.002, 10_000, 10_000, 100_000
CUSTOMERS, HOURS, SEED = 100, 24, 5
DAY_POOLS = (Line.NETWORK_TRUE_UP, Line.RENT_SHARE, Line.UNACCOUNTED_SHARE)
UNIT = "currency"


@dataclass(frozen=True, slots=True, eq=False)
class Moved:
    """How much more each customer owes with a trick than without, nano-currency, before cents are rounded.

    Attributes
    ----------
    nanos : int64[n], by column of the day. accounts : of those who play.
    """

    nanos: IntArray
    accounts: tuple[int, ...]

    @property
    def gain(self) -> float:
        """What those who play have of it, currency."""
        return -float(self.nanos[list(self.accounts)].sum()) / NANOS

    @property
    def others(self) -> float:
        """Most that the bill of somebody else moves by, currency."""
        rest = np.delete(self.nanos, self.accounts)
        return float(np.abs(rest).max(initial=0)) / NANOS


def moved(before: DayFacts, after: DayFacts, rules: Parameters, accounts: tuple[int, ...]) -> Moved:
    """By two settlements of a day."""
    owed = [_owed(day, rules) for day in (before, after)]
    return Moved(owed[1] - owed[0], accounts)


def wash(day: DayFacts, rules: Parameters, wh: int) -> Moved:
    """One account buys day-ahead what another at the same node sells it, in every interval; neither means it."""
    steps = _at_one_node(day)
    forward = steps.steps.forward_wh.copy()
    forward[:, 0] += wh
    forward[:, 1] -= wh
    return moved(steps, replace(steps, steps=replace(steps.steps, forward_wh=forward)), rules, (0, 1))


def cycled(day: DayFacts, rules: Parameters, wh: int) -> Moved:
    """A battery is charged and discharged within every interval, so that more withdrawal is metered."""
    imported, exported = day.steps.import_wh.copy(), day.steps.export_wh.copy()
    imported[:, 0] += wh
    exported[:, 0] += wh
    after = replace(day, steps=replace(day.steps, import_wh=imported, export_wh=exported))
    return moved(day, after, rules, (0,))


def booked_losses(day: DayFacts, rules: Parameters, share_ppm: int) -> Moved:
    """Whoever clears books more losses than there are; the root's meter and everybody's stand."""
    losses = day.steps.losses_wh + day.steps.losses_wh * share_ppm // 1_000_000
    return moved(day, replace(day, steps=replace(day.steps, losses_wh=losses)), rules, ())


def _at_one_node(day: DayFacts) -> DayFacts:
    prices = {name: getattr(day.steps, name).copy() for name in ("forward_price", "real_time_price")}
    for each in prices.values():
        each[:, 1] = each[:, 0]
    return replace(day, steps=replace(day.steps, **prices))


def _owed(day: DayFacts, rules: Parameters) -> IntArray:
    postings = settle_day(day, rules)
    exact = postings.take((postings.account > 0) & (postings.line != Line.ROUNDING))
    amounts = {account: amount for (account,), amount in fold(exact, "account").amounts().items()}
    return np.array([amounts.get(int(customer), 0) for customer in day.customer], dtype=np.int64)


def key_worth(postings: Postings, keys: AllocationKeys, days: int) -> float:
    """What a kWh of metered withdrawal more has earned once it has left the keys again, currency.

    It stands in the keys of the `days` after it, and has of each day's pools what they come to by kWh of keys. Other
    days are taken to have pools like this one's.
    """
    shares = postings.take((postings.account > 0) & np.isin(postings.line, DAY_POOLS))
    return -days * float(shares.amount.sum()) / NANOS / (float(keys.weight_wh.sum()) / 1000.0)


def book_figures(run: Path) -> list[Figure]:
    """The amounts as benchmark ``tricks`` reports them, on made-up facts and on the played day."""
    rules = Rulebook.load().at(date(2016, 7, 1))
    settlement, day = rules.settlement, specimen_day(SEED, hours=HOURS, customers=CUSTOMERS)
    washed, turned = wash(day, settlement, 1_000), cycled(day, settlement, 100)
    losses = booked_losses(day, settlement, LOST_PPM)
    with ShardRecord.open(run, use_snapshot=False) as record:
        record.refresh()
        entries = list(record.journal.find(kind=Postings.kind))
        postings = Postings.concat([table for _, table in booked(record, entries)])
        keys = [table for _, table in record.tables(record.journal.find(kind=AllocationKeys.kind))]
        scene = recorded(record)
    assert isinstance(keys[0], AllocationKeys)
    worth = key_worth(postings, keys[0], rules.trailing_days)
    tariff = (settlement.network_withdrawal_micros_per_kwh + settlement.energy_tax_micros_per_kwh) / 1e6
    wholesale = -float(postings.amount[postings.account == Account.WHOLESALE].sum()) / NANOS
    network = [int(p.amount[p.account == Account.NETWORK].sum()) for p in (settle_day(day, settlement),)]
    regulated = settlement.network_revenue_nanos(CUSTOMERS)
    stage = Stage(scene, played=scene.tighter(TIGHTER_PU), peer=False)
    own = stage.hourly(Trick("the DSO's own account", 1, 20, hour=10), every=4)
    return [
        Figure("wash trade, 12 kWh an hour between two accounts, a day", washed.gain + 0.0, UNIT, 0.0,
               conditions={"most that another bill moves": washed.others}),
        Figure("cycling a battery, 1.2 kWh an hour, the same day", turned.gain, UNIT, 0.0,
               conditions={"of which by the day's pools": "only what everybody has of its tariffs"}),
        Figure("cycling for shares of later days", worth - tariff, "currency/kWh", 0.0,
               conditions={"shares earned by a kWh in the keys": round(worth, 6), "network tariff and tax": tariff,
                           "losses of the battery": "come on top"}),
        Figure("booked losses a tenth higher: most that a bill moves", round(losses.others, 8), UNIT, 0.0),
        Figure("self-dealing: what the network account has beyond regulated revenue, whatever is cleared",
               -(network[0] + regulated) / NANOS, UNIT, 0.0),
        Figure(f"self-dealing: limits kept {TIGHTER_PU:g} pu tighter, 20 kW ahead in an account of its own",
               own.answered, "currency/h",
               conditions={"what catches it": "limits stand in the network's document on record, for all to see"}),
        Figure("shaded root price: 1 % on all that the feeder bought in the hours played",
               wholesale * SHADED_PPM / 1e6, UNIT,
               conditions={"what catches it": "tellegen verify --root-prices FILE"}),
    ]  # fmt: skip
