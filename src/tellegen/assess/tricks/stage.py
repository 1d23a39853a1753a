"""What a trick earns: gates and runs of some intervals cleared with it and without, by the operator's own code.

Neighbours answer the guide: what their meters show moves by as much as their awards do; or they do not, and stand as
recorded. Then the interval settles by the price run on the meters as they now are, and beside it at the prices of a
gate without the price run, which is how it was before there was one.

What a trick earns is what its accounts' bills come to less those of the same positions without it:
``(p - m) l - (p - m0) l0 + v (m - m0)``, with p bought ahead, m drawn, l the settled price, m0 and l0 without the
trick. v is what a kWh more is worth: nothing where it is drawn for the trick's sake, the price of curtailment where a
home goes without it, what it was offered at where a home keeps relief back. Reactive power is paid likewise. A position
is taken to have cost the price of the day-ahead gate as it was, whatever it would have done to that, so figures are the
trickster's best case. Sun that is not read in time is compared with the same sun, read, or switched off, whichever is
better. Taps stand.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from tellegen.assess.tricks.accounts import Cast, cast, is_relief
from tellegen.assess.tricks.scene import Interval, Scene, net_awards
from tellegen.assess.tricks.strategy import Trick, Withheld
from tellegen.market import can_start
from tellegen.operations.gate import Before, Cleared, Delivered, GateTask, Wires, clear_feeder
from tellegen.records import Orders, Prices, Product
from tellegen.rules.price_run import PriceRun
from tellegen.units import INTERVALS_PER_HOUR, MICROS, IntArray

FloatArray = NDArray[np.float64]
ComplexArray = NDArray[np.complex128]
W_PER_KW = 1000.0


@dataclass(frozen=True, slots=True)
class Amounts:
    """What a trick comes to, currency.

    Attributes
    ----------
    before : settled at the prices of a gate without the run. answered, deaf : by the run, with neighbours that answer
        the guide, and with neighbours that do not.
    moved : largest move of a settled price where every meter and all awards but the trick's stand as they were,
        micro-currency/kWh. rounded : the same, started from the gate as the operator does, whose last digit it has.
    at_price : by the run, with neighbours that answer, if what homes go without is worth no more than its price.
    unread : of that, what is earned by a reading that came too late for the price.
    free : intervals of an hour until its accounts are on hold; what is earned is of these.
    own_kwh : energy for which its accounts are paid or pay at the settled price.
    refused : accounts whose orders no gate took. root_price : mean, currency/kWh.
    """

    before: float = 0.0
    answered: float = 0.0
    deaf: float = 0.0
    moved: int = 0
    rounded: int = 0
    at_price: float = 0.0
    unread: float = 0.0
    own_kwh: float = 0.0
    refused: int = 0
    free: int = INTERVALS_PER_HOUR
    root_price: float = 0.0

    @classmethod
    def of_hour(cls, parts: list[Amounts]) -> Amounts:
        """Of an hour of which these are equal parts; currency an hour."""
        share = INTERVALS_PER_HOUR / len(parts)
        free = max(each.free for each in parts)
        names = ("before", "at_price", "unread", "own_kwh")
        while_free = share * free / INTERVALS_PER_HOUR
        return cls(
            **{name: share * sum(getattr(each, name) for each in parts) for name in names},
            **{name: while_free * sum(getattr(each, name) for each in parts) for name in ("answered", "deaf")},
            free=free,
            moved=max(each.moved for each in parts),
            rounded=max(each.rounded for each in parts),
            refused=max(each.refused for each in parts),
            root_price=sum(each.root_price for each in parts) / len(parts),
        )


@dataclass(frozen=True, slots=True, eq=False)
class _Plain:
    """Of an interval without a trick: the book's awards, net ones of homes, int64[2, n]; prices of a gate without
    paper, of the run, and of the run that starts from no gate.
    """

    awarded_mw: IntArray
    net: IntArray
    paperless: Prices
    settled: Prices
    cold: Prices


class Stage:
    """Intervals on which tricks are tried under some rules.

    Parameters
    ----------
    scene : with its own rules. rules : what becomes of these; None: they stand.
    peer : whether a gate without the run is cleared beside it.
    played : with the network on which tricks are played, if it is another one.
    """

    def __init__(
        self,
        scene: Scene,
        rules: Callable[[PriceRun], PriceRun] | None = None,
        *,
        peer: bool = True,
        played: Scene | None = None,
    ) -> None:
        self.scene, self._rules, self._peer = scene, rules or (lambda given: given), peer
        self._wires = Wires(scene.given)
        self._played = self._wires if played is None else Wires(played.given)
        self._known: dict[int, _Plain] = {}

    def hourly(self, trick: Trick, every: int = 1, offset: int = 0) -> Amounts:
        """What a trick comes to in its hour, as if this went on like every so many intervals of it."""
        return Amounts.of_hour([self.amounts(trick, each) for each in self.scene.at(trick.hour)[offset::every]])

    def amounts(self, trick: Trick, interval: Interval) -> Amounts:
        """What a trick comes to in one interval."""
        plain, played = self._plain(interval), cast(interval, trick)
        here, orders, who = played.interval, played.orders, played.who
        period, book = here.gate.periods[0], plain.awarded_mw.size
        gate = self._gate(here, orders, self._played)
        awarded = gate.awards.by_order(len(orders))
        moved = np.zeros((2, period.customer.size), dtype=np.int64)
        moved[:, : plain.net.shape[1]] = (
            net_awards(period.customer, orders, awarded)[:, : plain.net.shape[1]] - plain.net
        )
        acts = np.zeros_like(moved)
        acts[:, who] = _acts(trick, played, moved[:, who])
        moved[:, who] = 0
        run, wires = _Run(here, orders, gate, awarded), self._played
        silent = who if trick.silent else None
        answered = self._settled(run, wires, acts + moved, silent)
        deaf = self._settled(run, wires, acts, silent)
        without, still, cold = plain.settled, plain.settled, plain.cold
        read = self._settled(run, wires, acts + moved) if trick.silent else None
        if read is not None and trick.drawn_kw < 0:
            without = read
        if trick.only_says:
            own = replace(run, awarded_mw=np.append(plain.awarded_mw, awarded[book:]))
            still, cold = self._settled(own, wires), self._settled(replace(own, cold=True), wires)
        paperless = self._paperless(here, orders, wires)
        worth = _worth(trick, played, acts[:, who], awarded[:book] - plain.awarded_mw)
        wanted = _earned(trick, played, acts[:, who], worth, self._ruled(here.gate).price_run)
        earned, refused = self._admitted(played, wanted, gate, orders)
        claimed = net_awards(period.customer, orders, awarded)[0, who]
        reserve = _reserve(period.customer[who], gate, orders)
        return Amounts(
            before=wanted.by(plain.paperless, paperless) + reserve,
            answered=earned.beside(without, plain.settled, answered) + reserve,
            deaf=earned.beside(without, plain.settled, deaf) + reserve,
            moved=int(np.abs(plain.cold.energy - cold.energy).max()),
            rounded=int(np.abs(plain.settled.energy - still.energy).max()),
            at_price=earned.at_price().by(without, answered) if trick.undrawn else 0.0,
            unread=0.0 if read is None else earned.by(read, answered) - earned.by(read, read) - earned.unpaid(answered),
            own_kwh=float(np.abs(earned.ahead_kw - earned.net.real).sum()) / INTERVALS_PER_HOUR,
            refused=refused,
            free=self._free(here, claimed, acts[0, who]) if trick.only_says else INTERVALS_PER_HOUR,
            root_price=period.root_price_micros / MICROS,
        )

    def _free(self, here: Interval, awarded_w: IntArray, shown_w: IntArray) -> int:
        """Intervals of an hour in which accounts go on until the last of them is on hold; its gate then is closed."""
        rules = self._ruled(here.gate).price_run
        beside, awarded = np.abs(shown_w - awarded_w), np.abs(awarded_w)
        if rules is None or not rules.hold_hours or not awarded.any():
            return INTERVALS_PER_HOUR
        claims = awarded > 0
        held = beside[claims] * MICROS > awarded[claims] * rules.hold_ppm
        most = rules.hold_wh * INTERVALS_PER_HOUR // np.maximum(beside[claims], 1) + 2
        return int(min(np.where(held, most, INTERVALS_PER_HOUR).max(), INTERVALS_PER_HOUR))

    def _admitted(self, played: Cast, wanted: _Earned, gate: Cleared, orders: Orders) -> tuple[_Earned, int]:
        """What accounts really have, for a day-ahead gate refuses positions too; how many were refused something."""
        period = played.interval.gate.periods[0]
        rules = self._ruled(played.interval.gate).price_run
        refused = np.isin(period.customer, gate.refused.customer)
        ahead = wanted.ahead_kw
        if rules is not None and rules.within_connection and period.capacity_w is not None:
            rows = np.concatenate([played.who, played.holds])
            beyond = np.abs(ahead) * W_PER_KW > period.capacity_w[rows]
            ahead = np.where(beyond, 0.0, ahead)
            refused[rows[beyond]] = True
        return replace(wanted, ahead_kw=ahead), int(refused.sum())

    def says_relief(self, trick: Trick) -> bool:
        """Whether some order of a trick may count as relief without an award: idle homes are believed a little."""
        for interval in self.scene.at(trick.hour):
            played = cast(interval, trick)
            root = interval.gate.periods[0].root_price_micros
            mine = np.isin(played.orders.customer, played.interval.gate.periods[0].customer[played.who])
            if (mine & is_relief(played.orders, root)).any():
                return True
        return False

    def _plain(self, interval: Interval) -> _Plain:
        """An interval without a trick."""
        key = id(interval)
        if key not in self._known:
            period, wires = interval.gate.periods[0], self._wires
            gate = self._gate(interval, period.orders, wires)
            awarded = gate.awards.by_order(len(period.orders))
            run = _Run(interval, period.orders, gate, awarded)
            self._known[key] = _Plain(
                awarded,
                net_awards(period.customer, period.orders, awarded),
                paperless=self._paperless(interval, period.orders, wires),
                settled=self._settled(run, wires),
                cold=self._settled(replace(run, cold=True), wires),
            )
        return self._known[key]

    def _gate(self, here: Interval, orders: Orders, wires: Wires) -> Cleared:
        return _cleared(self._ruled(here.gate), orders, None, here.gate.start, wires)

    def _paperless(self, here: Interval, orders: Orders, wires: Wires) -> Prices:
        if not self._peer:
            return here.delivered.guide
        return _cleared(replace(here.gate, price_run=None), orders, None, None, wires).prices

    def _settled(self, run: _Run, wires: Wires, more: IntArray | None = None, silent: IntArray | None = None) -> Prices:
        """Prices of a run on meters that show so much more than recorded, int64[2, n], W and var.

        Of a silent account validation assumes what it did before: nothing.
        """
        given, gate = run.interval.delivered, run.gate
        metered = given.metered
        if more is not None:
            shown, missing = more.copy(), metered.missing.copy()
            if silent is not None:
                shown[:, silent], missing[silent] = 0, True
            metered = replace(
                metered, net_w=metered.net_w + shown[0], net_var=metered.net_var + shown[1], missing=missing
            )
        delivered = Delivered(run.awarded_mw, gate.prices, metered, given.sold_at)
        warm = can_start(gate.clearing) and not run.cold
        start = Before(gate.prices, gate.starts, gate.awards, run.orders) if warm else None
        return _cleared(self._ruled(run.interval.run), run.orders, delivered, start, wires).prices

    def _ruled(self, task: GateTask) -> GateTask:
        return task if task.price_run is None else replace(task, price_run=self._rules(task.price_run))


@dataclass(frozen=True, slots=True, eq=False)
class _Run:
    """What a run follows: the book and the outcome of its gate, from which it starts unless it is `cold`."""

    interval: Interval
    orders: Orders
    gate: Cleared
    awarded_mw: IntArray
    cold: bool = False


def _cleared(
    task: GateTask, orders: Orders, delivered: Delivered | None, start: Before | None, wires: Wires
) -> Cleared:
    period = replace(task.periods[0], orders=orders, delivered=delivered)
    return clear_feeder(replace(task, periods=(period,), start=start), wires)[0]


@dataclass(frozen=True, slots=True, eq=False)
class _Earned:
    """What those who act, then those who hold positions, have at their nodes, float64[k].

    Attributes
    ----------
    ahead_kw : bought day-ahead. before, net : drawn without the trick and with it, kW + j kvar.
    worth_per_h : what they have of what they draw more, currency an hour; None: it is worth its price without the
        trick.
    late_kw : of what they feed in, what no run counts because it is not read in time. limit : most that is paid for it,
        currency/kWh; None: the price.
    """

    node: IntArray
    ahead_kw: FloatArray
    before: ComplexArray
    net: ComplexArray
    worth_per_h: float | None
    late_kw: FloatArray
    limit: float | None

    def by(self, without: Prices, prices: Prices) -> float:
        """Currency in an interval, at prices without the trick and with it."""
        was, now = without.energy[self.node] / MICROS, prices.energy[self.node] / MICROS
        worth = self.worth_per_h
        if worth is None:
            worth = float((was * (self.net - self.before).real).sum())
        gain = (self.ahead_kw - self.net.real) * now - (self.ahead_kw - self.before.real) * was
        paid = self.before.imag * without.reactive[self.node] - self.net.imag * prices.reactive[self.node]
        gain += np.minimum(paid, 0) / MICROS  # what reactive power earns it earns as a service
        return (float(gain.sum()) + worth) / INTERVALS_PER_HOUR

    def unpaid(self, prices: Prices) -> float:
        """What is kept in an interval of the pay for sun that comes too late, currency."""
        if self.limit is None:
            return 0.0
        over = np.maximum(prices.energy[self.node] / MICROS - self.limit, 0)
        return float((self.late_kw * over).sum()) / INTERVALS_PER_HOUR

    def beside(self, without: Prices, off: Prices, prices: Prices) -> float:
        """`by`, less what is unpaid; where sun comes late beside the better of showing it and switching it off."""
        found = self.by(without, prices) - self.unpaid(prices)
        if self.late_kw.any():
            switched_off = replace(self, before=self.before + self.late_kw)
            found = min(found, switched_off.by(off, prices) - self.unpaid(prices))
        return found

    def at_price(self) -> _Earned:
        """Where what homes go without is worth no more than its price."""
        return replace(self, worth_per_h=None)


def _earned(trick: Trick, played: Cast, acts: IntArray, worth_per_h: float, rules: PriceRun | None) -> _Earned:
    period, metered = played.interval.gate.periods[0], played.interval.delivered.metered
    rows = np.concatenate([played.who, played.holds])
    who = np.arange(rows.size) < played.who.size
    shown = metered.net_w[rows] + 1j * metered.net_var[rows]
    before = np.asarray(np.where(who, shown, 0j) / W_PER_KW, dtype=np.complex128)
    net = before + np.where(who, np.resize(acts[0] + 1j * acts[1], rows.size), 0) / W_PER_KW
    unread = trick.silent and trick.drawn_kw < 0  # what the sun gives is there, read or not
    ahead = np.where(who, 0.0, trick.ahead_kw)
    counted = np.maximum(-before.real, 0)
    late = np.where(who & unread, np.maximum(-net.real - counted, 0), 0.0)
    micros = None if rules is None else rules.late_feed_in_micros
    limit = None if micros is None else micros / MICROS
    return _Earned(period.node[rows], ahead, net if unread else before, net, worth_per_h, late, limit)


def _acts(trick: Trick, played: Cast, awards: IntArray) -> IntArray:
    """What meters of those who act show more than before, int64[2, k], W and var; `awards`: what theirs moved by."""
    if trick.withheld is not Withheld.NOTHING:
        return awards
    if trick.undrawn:
        net_w = played.interval.delivered.metered.net_w[played.who]
        drawn = -np.rint(trick.undrawn * np.maximum(net_w, 0)).astype(np.int64)
        return np.stack([drawn, np.zeros_like(drawn)])
    return np.array([[round(1000 * trick.drawn_kw)], [round(1000 * trick.drawn_kvar)]]).repeat(played.who.size, axis=1)


def _worth(trick: Trick, played: Cast, acts: IntArray, moved_mw: IntArray) -> float:
    """What homes have of what they draw more, currency an hour: relief that is kept back by what it was offered at, and
    what they go without by what the rulebook says that nobody goes without for less.
    """
    if trick.undrawn:
        return played.interval.gate.parameters.curtailment_price * float(acts[0].sum()) / W_PER_KW
    if trick.withheld is Withheld.NOTHING:
        return 0.0
    period = played.interval.gate.periods[0]
    honest = played.honest
    rows = np.flatnonzero(np.isin(honest.customer, period.customer[played.who]) & (honest.product == Product.ENERGY))
    return float((moved_mw[rows] * honest.side[rows] / MICROS * honest.price_micros[rows]).sum()) / MICROS


def _reserve(customer: IntArray, gate: Cleared, orders: Orders) -> float:
    """What some customers are paid in an interval for reserve, currency."""
    mine = np.flatnonzero(np.isin(orders.customer, customer) & (orders.product == Product.RESERVE_UP))
    held = gate.awards.by_order(len(orders))[mine] / MICROS
    return float((held * gate.prices.reserve_up[orders.node[mine]]).sum()) / MICROS / INTERVALS_PER_HOUR
