"""Who plays a trick, put into the tasks of an interval: accounts of their own beside homes, or homes themselves."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from tellegen.assess.tricks.scene import Interval
from tellegen.assess.tricks.strategy import Trick, Withheld
from tellegen.errors import InputError
from tellegen.operations.gate import GateTask, Period
from tellegen.records import OPERATOR, Device, Orders, Product, Side
from tellegen.units import MICROS, IntArray

T = TypeVar("T", Period, GateTask)
D = TypeVar("D", bound=np.generic)
_OF_THE_NETWORK = frozenset({"taps", "spread_micros"})
"""Arrays of a task that have no row for each customer."""
REQUIRED_W, REQUIRED_PRICE = 10_000, 500_000
"""Reserve that the operator asks for where a trick offers some, and what it pays at most, micro-currency/kWh."""


@dataclass(frozen=True, slots=True, eq=False)
class Cast:
    """An interval with everybody who plays.

    Attributes
    ----------
    orders : of its gate, with what the trick says; rows of the recorded book first.
    who : rows of customers that act. holds : rows of those that hold the position.
    honest : the recorded book.
    """

    interval: Interval
    orders: Orders
    who: IntArray
    holds: IntArray
    honest: Orders


def cast(interval: Interval, trick: Trick) -> Cast:
    """Who plays a trick in an interval, and what they say.

    Raises
    ------
    InputError : it takes more homes than there are.
    """
    period = interval.gate.periods[0]
    homes = period.customer.size
    if trick.accounts > homes:
        raise InputError("tricks", f"{trick.accounts} accounts", f"are more than the {homes} homes of the feeder")
    if trick.of_homes:
        who = _homes(interval, trick)
        return Cast(interval, _kept_back(interval, trick, who), who, who, period.orders)
    count = trick.accounts * (2 if trick.apart else 1)
    beside = np.roll(np.argsort(-period.node, kind="stable"), -trick.seat)[: trick.accounts]
    more = np.tile(beside, 2)[:count]
    with_accounts = joined(interval, more)
    who = homes + np.arange(trick.accounts)
    holds = homes + np.arange(count - trick.accounts, count)
    orders = Orders.concat([period.orders, _claims(with_accounts.gate.periods[0], who, trick)])
    return Cast(with_accounts, orders, who, holds, period.orders)


def joined(interval: Interval, beside: IntArray) -> Interval:
    """An interval with accounts of their own, each like a home, without its orders; their meters show nothing.

    Parameters
    ----------
    beside : int64[k], row of the home at whose node each stands, and whose connection and devices are like its own.
    """
    metered = interval.delivered.metered
    columns = [each.name for each in fields(metered) if each.name != "spans"]
    shown: dict[str, Any] = {name: _with_rows(getattr(metered, name), beside) for name in columns}
    homes = metered.customer.size
    shown["customer"][homes:] = metered.customer[-1] + 1 + np.arange(beside.size)
    for name in ("net_w", "net_var", "missing"):
        shown[name][homes:] = 0
    delivered = replace(interval.delivered, metered=replace(metered, **shown))
    gate, run = (_joined(task, beside) for task in (interval.gate, interval.run))
    return Interval(gate, replace(run, periods=(replace(run.periods[0], delivered=delivered),)))


def _joined(task: GateTask, beside: IntArray) -> GateTask:
    more = _extended(task, task.customer, beside)
    return replace(more, periods=tuple(_with_accounts(each, beside) for each in task.periods))


def _with_accounts(period: Period, beside: IntArray) -> Period:
    known = period.known
    if known is not None:
        known = replace(known, export_w=_with_rows(known.export_w, beside))
    return replace(_extended(period, period.customer, beside), known=known)


def _extended(given: T, customer: IntArray, beside: IntArray) -> T:
    """A task or period with a row more of everything that has a row for each customer."""
    changed: dict[str, Any] = {}  # of what a field holds only its rows are known here
    for each in fields(given):
        value = getattr(given, each.name)
        if each.name not in _OF_THE_NETWORK and isinstance(value, np.ndarray) and value.shape[:1] == customer.shape:
            changed[each.name] = _with_rows(value, beside)
    changed["customer"][customer.size :] = customer[-1] + 1 + np.arange(beside.size)
    if "carry" in changed:
        changed["carry"][customer.size :] = 0
    return replace(given, **changed)


def _with_rows(values: NDArray[D], beside: IntArray) -> NDArray[D]:
    return np.concatenate([values, values[beside]])


def _homes(interval: Interval, trick: Trick) -> IntArray:
    """Rows of the homes that have most of what a trick keeps back."""
    period, metered = interval.gate.periods[0], interval.delivered.metered
    if trick.withheld is Withheld.NOTHING:
        return np.sort(np.argsort(-metered.net_w, kind="stable")[: trick.accounts])
    sells = is_relief(period.orders, period.root_price_micros) & (period.orders.side == Side.SELL)
    kept = period.orders.take(np.flatnonzero(sells))
    most = np.zeros(period.customer.size, dtype=np.int64)
    np.add.at(most, np.searchsorted(period.customer, kept.customer), kept.quantity_w)
    return np.sort(np.argsort(-most, kind="stable")[: trick.accounts])


def is_relief(orders: Orders, root_price_micros: int) -> NDArray[np.bool_]:
    """Which orders may count without an award: they help a limit, and earn nothing at the price of the root."""
    price = orders.price_micros
    helps = np.where(orders.side == Side.SELL, price >= root_price_micros, price <= root_price_micros)
    return np.asarray((orders.product == Product.ENERGY) & (orders.price_taker == 0) & helps)


def _kept_back(interval: Interval, trick: Trick, who: IntArray) -> Orders:
    """The book without the relief that homes keep back, row by row: at nothing, or at the cap."""
    period = interval.gate.periods[0]
    orders = period.orders
    if trick.withheld is Withheld.NOTHING:
        return orders
    theirs = np.isin(orders.customer, period.customer[who]) & (orders.side == Side.SELL)
    rows = theirs & is_relief(orders, period.root_price_micros)
    if trick.withheld is Withheld.NOT_OFFERED:
        return replace(orders, quantity_w=np.where(rows, 0, orders.quantity_w))
    cap = round(interval.gate.parameters.price_cap * MICROS)
    return replace(orders, price_micros=np.where(rows, cap, orders.price_micros))


def _claims(period: Period, who: IntArray, trick: Trick) -> Orders:
    """What accounts say, each account all of it; with what the operator requires, where they offer reserve."""
    parts = []
    for each in trick.claims:
        rows = np.zeros(who.size, dtype=Orders.row_dtype())
        rows["customer"], rows["node"] = period.customer[who], period.node[who]
        rows["device"], rows["product"] = Device.LOAD, each.product
        rows["side"] = Side.BUY if each.kw > 0 else Side.SELL
        price = round((each.price or 0.0) * MICROS) + (period.root_price_micros if each.from_root else 0)
        rows["price_taker"], rows["price_micros"] = each.price is None, price
        rows["quantity_w"] = abs(round(1000 * each.kw))
        parts.append(Orders.from_rows(rows))
    if any(each.product is Product.RESERVE_UP for each in trick.claims):
        rows = np.zeros(1, dtype=Orders.row_dtype())
        rows["customer"], rows["product"], rows["side"] = OPERATOR, Product.RESERVE_UP, Side.BUY
        rows["price_micros"], rows["quantity_w"] = REQUIRED_PRICE, REQUIRED_W
        parts.append(Orders.from_rows(rows))
    return Orders.concat(parts) if parts else Orders.empty()
