"""Who could set the price: pivotal suppliers of relief behind binding limits, and their mitigation.

A limit that binds has a price, and whoever can relieve it may be paid that price. The test asks of each binding limit
(ratings, voltages, the root, reserve that is required) and each participant: could the limit be met without what this
participant offers, by everybody else's orders at any price? With h_k the exact derivative of the limit with respect to
order k at the optimum, in kW at the limit per kW of the order, q_k what may be taken of it and x_k what was,

    needed = excess - sum_k h_k x_k                      what is left of the limit once no order is taken
    supply of others = sum over their orders with h_k < 0 of -h_k q_k

A participant without whom the supply is short of what is needed is *pivotal*. (Orders that load the limit may be turned
down, also at any price, so they need no relief; reserve that is required may not.) The joint test leaves out the
largest other suppliers besides, two of them in the three-pivotal-supplier test of PJM's market. Offers of who is
pivotal that relieve the limit are moved to a reference price, sellers' down and buyers' up, and the market is cleared
again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Unpack

import numpy as np
from numpy.typing import ArrayLike

from tellegen.errors import InputError
from tellegen.grid.network import FloatArray, IntArray, Network
from tellegen.market.book import OrderBook
from tellegen.market.clearing import InFull, Options, clear_in_full
from tellegen.market.limits import LimitType
from tellegen.market.operating_point import slopes_at
from tellegen.market.outcome import Clearing
from tellegen.market.paper import PAPER
from tellegen.market.steps import Effect
from tellegen.records import Product, Side

SUPPLIERS_MAX = 10
ROUNDS_MAX = 10
SMALL_KW = 1e-6
"""What is short by less is not short."""


@dataclass(frozen=True, slots=True)
class PivotalTest:
    """Parameters of the test and of the mitigation that follows from it.

    Attributes
    ----------
    jointly : how many suppliers are left out together: 1 for one pivotal supplier, 3 for the three-pivotal test.
    residual_min : supply that must be left, as a multiple of what is needed.
    shift_min : orders that move the limit by less than this share of their own power are no relief.
    price_reach : currency/kWh by which the price at an order's place would have to move for it to count as others'
        relief; infinite: at any price.
    margin : of the default reference, as a share of the root price's magnitude.
    impact_min : currency/kWh; where mitigation would move no price of those mitigated by more, it is not done.
    rounds_max : clearings after the first: a limit that binds only once others are mitigated is tested too.
    """

    jointly: int = 1
    residual_min: float = 1.0
    shift_min: float = 0.01
    price_reach: float = np.inf
    margin: float = 0.1
    impact_min: float = 0.0
    rounds_max: int = 3

    def __post_init__(self) -> None:
        for name, low, high in (("jointly", 1, SUPPLIERS_MAX), ("rounds_max", 1, ROUNDS_MAX), ("shift_min", 0.0, 1.0)):
            if not low <= getattr(self, name) <= high:
                raise InputError("market power test", name, f"must be {low} to {high}")
        for name in ("residual_min", "price_reach", "margin", "impact_min"):
            if not getattr(self, name) >= 0:
                raise InputError("market power test", name, "must not be negative")


@dataclass(frozen=True, slots=True, eq=False)
class References:
    """Published reference prices, one row per participant and product.

    Attributes
    ----------
    participant, product : int64[n], as in an order book.
    price : float64[n], currency/kWh (kvarh, per kW and h of reserve).
    """

    participant: IntArray
    product: IntArray
    price: FloatArray
    _known: dict[tuple[int, int], float] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        keys = list(zip(self.participant.tolist(), self.product.tolist(), strict=True))
        if len(set(keys)) != len(keys):
            raise InputError("references", "a participant and product", "are named twice; give one row each")
        if not np.isfinite(self.price).all():
            raise InputError("references", f"row {int(np.argmin(np.isfinite(self.price)))}, price", "must be finite")
        object.__setattr__(self, "_known", dict(zip(keys, self.price.tolist(), strict=True)))

    @classmethod
    def of(cls, participant: ArrayLike, product: ArrayLike, price: ArrayLike) -> References:
        """Build a table; scalars apply to every row.

        >>> References.of([1, 2], 0, 0.25).price.tolist()
        [0.25, 0.25]
        """
        who, what, at = (np.atleast_1d(part).copy() for part in np.broadcast_arrays(participant, product, price))
        return cls(who.astype(np.int64), what.astype(np.int64), at.astype(np.float64))

    @classmethod
    def none(cls) -> References:
        """No published references: the default rule for everybody."""
        return cls.of(np.zeros(0), 0, 0.0)

    def price_of(
        self, participant: int, product: int, side: int, *, root: float, root_reactive: float, margin: float
    ) -> float:
        """The published price, else the default.

        Energy: the root price, for a seller plus and for a buyer minus `margin` times its magnitude; reactive power:
        the same about the root's reactive price; reserve: `margin` times the root price's magnitude.

        >>> References.none().price_of(7, Product.ENERGY, Side.SELL, root=0.3, root_reactive=0.0, margin=0.1)
        0.33
        """
        known = self._known.get((participant, product))
        if known is not None:
            return known
        base = {int(Product.ENERGY): root, int(Product.REACTIVE): root_reactive}.get(product, 0.0)
        return round(base - side * margin * abs(root), 9)


@dataclass(frozen=True, slots=True)
class Finding:
    """A participant that is pivotal on a limit, with its orders of one product and side that relieve it.

    Attributes
    ----------
    participant : as in the book.
    limit : name of the limit; kind : what it is on; dual_price : its price, as `BindingLimit.price`.
    needed_kw : relief that the limit asks of all orders together, kW at the limit (of a voltage: kW-equivalent).
    own_kw, others_kw : relief that this participant offers, and what is left without it (and those left out besides).
    besides : participants left out together with it in the joint test.
    product, side : of its orders; rows : where they stand in the book.
    offered : the price among them farthest from the reference; reference : the price they were held to.
    mitigated : whether some of them were moved.
    price_before, price_after : mean price at its orders, as first cleared and as cleared last.
    """

    participant: int
    limit: str
    kind: LimitType
    dual_price: float
    needed_kw: float
    own_kw: float
    others_kw: float
    besides: tuple[int, ...]
    product: Product
    side: Side
    rows: tuple[int, ...]
    offered: float
    reference: float
    mitigated: bool
    price_before: float
    price_after: float

    @property
    def effect(self) -> float:
        """By how much mitigation moved the price at its orders."""
        return self.price_after - self.price_before


@dataclass(frozen=True, slots=True, eq=False)
class Mitigated:
    """A clearing after mitigation; the same as `before` where nobody was mitigated.

    `book` is the book as it was cleared last, `findings` say who was pivotal on what.
    """

    clearing: Clearing
    before: Clearing
    findings: tuple[Finding, ...]
    book: OrderBook


def clear_mitigated(
    network: Network,
    book: OrderBook,
    root_price: float,
    *,
    references: References | None = None,
    test: PivotalTest | None = None,
    **options: Unpack[Options],
) -> Mitigated:
    """Clear; test who is pivotal on the limits that bind; hold those to references and clear again.

    Parameters
    ----------
    network, book, root_price, options : as for `market.clear`.
    references : published prices; the default rule for who has none.
    test : thresholds.

    Raises
    ------
    InputError : as `market.clear`.

    Examples
    --------
    Behind a line of 10 kW that asks 18 kW, somebody sells 9 kW and somebody else 6: without the first, 8 kW cannot be
    had. Its offer of 2.00 is held to 0.33, the root price and a tenth.

    >>> import scipy.sparse as sp
    >>> from tellegen.grid.network import Branches
    >>> y = 1e6 * sp.csr_matrix(np.array([[1, -1], [-1, 1]], dtype=complex))
    >>> line = Branches(("line 0",), np.array([0]), y[:1], np.array([10.0]), np.array([1]))
    >>> net = Network("two", ("0", "1"), np.zeros(2, int), 1.0, np.full(2, 0.4), y, np.array([0]),
    ...               np.array([1 + 0j]), np.full(2, 0.8), np.full(2, 1.1), line)
    >>> book = OrderBook.of(1, [1, -1, -1], [np.nan, 2.0, 0.31], [18.0, 9.0, 6.0], participant=[1, 2, 3])
    >>> outcome = clear_mitigated(net, book, 0.3)
    >>> [(f.participant, round(f.others_kw, 2), f.offered, round(f.reference, 2)) for f in outcome.findings]
    [(2, 6.0, 2.0, 0.33)]
    >>> outcome.before.prices.energy[1].round(6), outcome.clearing.prices.energy[1].round(6)
    (np.float64(2.0), np.float64(0.33))
    """
    rules, known = test or PivotalTest(), references or References.none()
    first = run = clear_in_full(network, book, root_price, **options)
    moved, found = book, dict[tuple[object, ...], Finding]()
    for _ in range(rules.rounds_max):
        fresh = [f for f in _findings(run, moved, known, rules) if _key(f) not in found or f.mitigated]
        # What was offered is what was offered first, whatever the round in which it comes up.
        for f in fresh:
            offered = _farthest(book, f.rows, f.side)
            beyond = (offered - f.reference) * f.side < 0
            found.setdefault(_key(f), replace(f, offered=offered, mitigated=beyond))
        if not any(f.mitigated for f in fresh):
            break
        moved = _held(moved, fresh)
        run = clear_in_full(network, moved, root_price, **options)
    before, after = (r.clearing.prices.of_orders(book) for r in (first, run))
    findings = [
        replace(f, price_before=float(before[list(f.rows)].mean()), price_after=float(after[list(f.rows)].mean()))
        for f in found.values()
    ]
    if findings and max(abs(f.effect) for f in findings) < rules.impact_min:
        findings = [replace(f, mitigated=False, price_after=f.price_before) for f in findings]
        return Mitigated(first.clearing, first.clearing, tuple(findings), book)
    return Mitigated(run.clearing, first.clearing, tuple(findings), moved)


def _key(finding: Finding) -> tuple[object, ...]:
    return finding.participant, finding.limit, finding.product, finding.side


def _farthest(book: OrderBook, rows: Sequence[int], side: Side) -> float:
    price = book.price[list(rows)]
    return float(price.max() if side == Side.SELL else price.min())


def _held(book: OrderBook, findings: Sequence[Finding]) -> OrderBook:
    price = book.price.copy()
    for finding in findings:
        rows = list(finding.rows)
        bound = np.minimum if finding.side == Side.SELL else np.maximum
        price[rows] = bound(price[rows], finding.reference)
    return replace(book, price=price)


def _findings(run: InFull, book: OrderBook, references: References, rules: PivotalTest) -> list[Finding]:
    """Pivotal participants on each limit with a price, in the order of limits and participants."""
    task, found = run.task, run.found
    if found is None:
        return []
    steps, limits = task.steps, task.limits
    examined = (found.dual > 0) & (limits.kind[found.rows] < LimitType.EXPORT)
    tested, duals = found.rows[examined], found.dual[examined]
    if not tested.size:
        return []
    slopes = slopes_at(task, found.point, tested)
    # Neither paper nor what is shed is an order: both would not be there if it could be served otherwise.
    orders = steps.member[: run.energised.size]
    live = np.flatnonzero((orders >= 0) & (book.participant[run.energised] != PAPER))
    shed = np.ones(steps.width.size, dtype=bool)
    shed[steps.member[live]] = False
    step = steps.member[live]
    most = steps.share[live] * steps.width[step]
    taken = steps.share[live] * found.point.y[step]
    rows = run.energised[live]
    who, offers = book.participant[rows], ~book.price_taker[rows]
    required = np.isin(steps.channels.effect[steps.channel[step]], (Effect.REQUIRE_UP, Effect.REQUIRE_DOWN))
    # How far the price at each order's place would have to move before more of it is taken, or less.
    dear = _gain(run)[step]
    listed: list[Finding] = []
    powers = limits.kw_per_unit(tested)
    for row, slope, power, dual in zip(tested.tolist(), slopes.rows, powers.tolist(), duals.tolist(), strict=True):
        every = steps.spread(slope) * power
        shift = every[step]
        excess = float(found.point.values[row]) * power - float(every[shed] @ found.point.y[shed])
        loads = (shift > 0) & (required | (-dear > rules.price_reach))
        relief = np.where((shift < -rules.shift_min) & (dear <= rules.price_reach), -shift * most, 0.0)
        own_relief = np.where(shift < -rules.shift_min, -shift * most, 0.0)
        needed = excess - float(shift @ taken) + float(shift[loads] @ most[loads])
        for group in _pivotal(who, relief, own_relief, needed, rules):
            # A price-taker's flexible part has a price of its own, which is not an offer.
            mine = rows[(who == group[0]) & (own_relief > 0) & offers].tolist()
            kinds = {k: (int(book.product[k]), int(book.side[k])) for k in mine}
            for product, side in sorted(set(kinds.values())):
                named = tuple(k for k in mine if kinds[k] == (product, side))
                reference = references.price_of(
                    group[0], product, side, root=task.root_price, root_reactive=task.root_reactive_price,
                    margin=rules.margin,
                )  # fmt: skip
                offered = _farthest(book, named, Side(side))
                listed.append(
                    Finding(
                        participant=group[0],
                        limit=limits.name(row),
                        kind=LimitType(limits.kind[row]),
                        dual_price=dual / power,
                        needed_kw=needed,
                        own_kw=float(own_relief[who == group[0]].sum()),
                        others_kw=float(relief[~np.isin(who, group)].sum()),
                        besides=group[1:],
                        product=Product(product),
                        side=Side(side),
                        rows=named,
                        offered=offered,
                        reference=reference,
                        mitigated=(offered - reference) * side < 0,
                        price_before=np.nan,
                        price_after=np.nan,
                    )
                )
    return listed


def _gain(run: InFull) -> FloatArray:
    """Marginal cost of each variable less its price, float64[m]: <= 0 what is taken, >= 0 what is not."""
    task, found = run.task, run.found
    assert found is not None
    slopes = slopes_at(task, found.point, found.rows)
    price = slopes.cost + found.dual @ slopes.rows
    return np.asarray(task.steps.price + task.steps.slope * found.point.y + task.steps.spread(price))


def _pivotal(
    who: IntArray, relief: FloatArray, own_relief: FloatArray, needed: float, rules: PivotalTest
) -> list[tuple[int, ...]]:
    """Participants without whom relief is short, each with those that the joint test leaves out besides."""
    if needed <= SMALL_KW:
        return []
    names, place = np.unique(who, return_inverse=True)
    supply = np.bincount(place, relief, minlength=names.size)
    own = np.bincount(place, own_relief, minlength=names.size)
    order = np.argsort(-supply, kind="stable")
    found = []
    for k in np.flatnonzero((own > 0) & (names >= 0)).tolist():
        # Nobody's orders (-1) are no supplier, they are always there.
        besides = [j for j in order.tolist() if j != k and names[j] >= 0 and supply[j] > 0][: rules.jointly - 1]
        left = float(supply.sum() - supply[k] - supply[besides].sum())
        if left < rules.residual_min * needed - SMALL_KW:
            found.append((int(names[k]), *(int(names[j]) for j in besides)))
    return found
