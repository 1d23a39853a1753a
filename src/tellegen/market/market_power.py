"""Who could set the price: pivotal suppliers of relief behind binding limits, and their mitigation.

A limit that binds has a price, and whoever can relieve it may be paid that price. The test asks of each binding limit
(ratings, voltages, the root, reserve that is required) and each participant: could the limit be met without what this
participant offers, by everybody else's orders at any price? With h_k the exact derivative of the limit with respect to
order k at the optimum, in kW at the limit per kW of the order, q_k what may be taken of it and x_k what was,

    needed = excess - sum_k h_k x_k                      what is left of the limit once no order is taken
    supply of others = sum over their orders with h_k < 0 of -h_k q_k

A participant without whom the supply is short of what is needed is *pivotal*. (Orders that load the limit may be turned
down, also at any price, so they need no relief; reserve that is required may not.) The joint test leaves out the
largest other suppliers besides, two of them in the three-pivotal-supplier test of PJM's market.

Whoever is pivotal and sells what relieves the limit is held to its reference price, once its offer exceeds that by more
than the conduct threshold, and only if that lowers some price by more than the impact threshold (both as in the
mitigation of New York's and New England's markets); then the market is cleared again. Who buys is never moved: nobody
is made to consume. That it was pivotal is found all the same.
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
from tellegen.market.outcome import Clearing
from tellegen.market.pivotal import PivotalTest, pivotal_groups, priced_limits
from tellegen.records import Product, Side

_SAME = 1e-9
"""Prices are whole micro-currency on record; what differs by less is one price."""


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
    offered : the price among them farthest from the reference; reference : the price that sellers are held to.
    mitigated : whether some of them were moved; never of a buyer.
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

    `book` is the book as it was cleared last, `findings` say who was pivotal on what, `run` is what is behind the
    clearing.
    """

    clearing: Clearing
    before: Clearing
    findings: tuple[Finding, ...]
    book: OrderBook
    run: InFull


def clear_mitigated(
    network: Network,
    book: OrderBook,
    root_price: float,
    *,
    references: References | None = None,
    test: PivotalTest | None = None,
    forgone: FloatArray | None = None,
    **options: Unpack[Options],
) -> Mitigated:
    """Clear; test who is pivotal on the limits that bind; hold sellers among those to references and clear again.

    Parameters
    ----------
    network, book, root_price, options : as for `market.clear`.
    references : published prices; the default rule for who has none.
    test : thresholds.
    forgone : float64[orders], currency/kWh, what else a seller of energy could do with it is worth so much: its
        reference is no lower. NaN, or None: nothing is known of that.

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
    worth = np.full(len(book), np.nan) if forgone is None else forgone
    first = run = clear_in_full(network, book, root_price, **options)
    moved, found = book, dict[tuple[object, ...], Finding]()
    for _ in range(rules.rounds_max):
        # What was offered is what was offered first, whatever the round in which it comes up.
        fresh = [
            f for f in _findings(run, moved, book.price, known, rules, worth) if _key(f) not in found or f.mitigated
        ]
        found |= {_key(f): f for f in fresh if _key(f) not in found}
        held = _held(moved, fresh, rules.conduct(root_price))
        if np.array_equal(held.price, moved.price, equal_nan=True):
            break
        again = clear_in_full(network, held, root_price, **options)
        if again.found is None and run.found is not None:
            break  # no optimum there: prices of one, even if dear, before prices of none
        moved, run = held, again
    before, after = (r.clearing.prices.of_orders(book) for r in (first, run))
    lowered = np.fmax.reduce(before - after, initial=0.0)  # NaN where nothing is energised
    if moved is not book and not lowered > rules.impact(root_price):
        moved, run, after = book, first, before
    findings = tuple(
        replace(
            f,
            mitigated=bool((moved.price[list(f.rows)] != book.price[list(f.rows)]).any()),
            price_before=float(before[list(f.rows)].mean()),
            price_after=float(after[list(f.rows)].mean()),
        )
        for f in found.values()
    )
    return Mitigated(run.clearing, first.clearing, findings, moved, run)


def _key(finding: Finding) -> tuple[object, ...]:
    return finding.participant, finding.limit, finding.product, finding.side, finding.reference


def _held(book: OrderBook, findings: Sequence[Finding], conduct: float) -> OrderBook:
    """The book with each offer that exceeds its reference by more than the conduct threshold at its reference."""
    price = book.price.copy()
    for finding in findings:
        if finding.mitigated:
            rows = list(finding.rows)
            beyond = price[rows] > finding.reference + conduct + _SAME
            price[rows] = np.where(beyond, finding.reference, price[rows])
    return replace(book, price=price)


def _findings(
    run: InFull, book: OrderBook, offered: FloatArray, references: References, rules: PivotalTest, forgone: FloatArray
) -> list[Finding]:
    """Pivotal participants on each limit with a price, in the order of limits and participants.

    Parameters
    ----------
    offered : float64[orders], prices as they were offered, before any were held.
    """
    task = run.task
    conduct = rules.conduct(task.root_price)
    listed: list[Finding] = []
    for at in priced_limits(run, book, rules):
        for group in pivotal_groups(at.who, at.relief, at.own_relief, at.needed_kw, rules):
            # A price-taker's flexible part has a price of its own, which is not an offer.
            mine = at.book_row[(at.who == group[0]) & (at.own_relief > 0)]
            mine = mine[~book.price_taker[mine]]
            kinds = {}
            for k in mine.tolist():
                product, side = int(book.product[k]), int(book.side[k])
                reference = references.price_of(
                    group[0], product, side, root=task.root_price, root_reactive=task.root_reactive_price,
                    margin=rules.margin,
                )  # fmt: skip
                if side == Side.SELL and product == Product.ENERGY:
                    reference = float(np.fmax(reference, forgone[k]))
                kinds[k] = product, side, reference
            for product, side, reference in sorted(set(kinds.values())):
                named = [k for k in mine.tolist() if kinds[k] == (product, side, reference)]
                price = float(offered[named].max() if side == Side.SELL else offered[named].min())
                listed.append(
                    Finding(
                        participant=group[0],
                        limit=task.limits.name(at.row),
                        kind=LimitType(task.limits.kind[at.row]),
                        dual_price=at.dual_price,
                        needed_kw=at.needed_kw,
                        own_kw=float(at.own_relief[at.who == group[0]].sum()),
                        others_kw=float(at.relief[~np.isin(at.who, group)].sum()),
                        besides=group[1:],
                        product=Product(product),
                        side=Side(side),
                        rows=tuple(named),
                        offered=price,
                        reference=reference,
                        mitigated=side == Side.SELL and price > reference + conduct + _SAME,
                        price_before=np.nan,
                        price_after=np.nan,
                    )
                )
    return listed
