"""What relief there is behind each limit that has a price, and without whom it falls short.

The equations stand in `market.market_power`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tellegen.errors import InputError
from tellegen.grid.network import FloatArray, IntArray
from tellegen.market.book import OrderBook
from tellegen.market.clearing import InFull
from tellegen.market.limits import LimitType
from tellegen.market.operating_point import slopes_at
from tellegen.market.paper import PAPER
from tellegen.market.steps import Effect

SUPPLIERS_MAX = 10
ROUNDS_MAX = 10
SMALL_KW = 1e-6
"""What is short by less is not short."""
_NOT_NEGATIVE = (
    "residual_min",
    "price_reach",
    "margin",
    "conduct_share",
    "conduct_price",
    "impact_share",
    "impact_price",
)


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
    conduct_share, conduct_price : by how much an offer may exceed its reference and stay as it is: a share of the root
        price's magnitude, and currency/kWh; the lower of the two holds.
    impact_share, impact_price : likewise; where holding offers would lower no price by more, it is not done.
    storage_efficiency : energy out of a store per energy into it, round trip; what is sold from it is worth at least
        what it costs to buy it back.
    rounds_max : clearings after the first: a limit that binds only once others are mitigated is tested too.
    """

    jointly: int = 1
    residual_min: float = 1.0
    shift_min: float = 0.01
    price_reach: float = np.inf
    margin: float = 0.1
    conduct_share: float = 0.0
    conduct_price: float = np.inf
    impact_share: float = 0.0
    impact_price: float = np.inf
    storage_efficiency: float = 0.9
    rounds_max: int = 3

    def __post_init__(self) -> None:
        for name, low, high in (("jointly", 1, SUPPLIERS_MAX), ("rounds_max", 1, ROUNDS_MAX), ("shift_min", 0.0, 1.0)):
            if not low <= getattr(self, name) <= high:
                raise InputError("market power test", name, f"must be {low} to {high}")
        if not 0 < self.storage_efficiency <= 1:
            raise InputError("market power test", "storage_efficiency", "must be above 0 and at most 1")
        for name in _NOT_NEGATIVE:
            if not getattr(self, name) >= 0:
                raise InputError("market power test", name, "must not be negative")

    def conduct(self, root_price: float) -> float:
        """By how much an offer may exceed its reference, currency/kWh.

        >>> PivotalTest(conduct_share=0.5, conduct_price=0.025).conduct(0.03)
        0.015
        """
        return min(self.conduct_share * abs(root_price), self.conduct_price)

    def impact(self, root_price: float) -> float:
        """By how much holding offers must lower some price, currency/kWh."""
        return min(self.impact_share * abs(root_price), self.impact_price)


@dataclass(frozen=True, slots=True, eq=False)
class PricedLimit:
    """A limit with a price, and what each order could do about it.

    Attributes
    ----------
    row : of the task's limits; dual_price : its price. power : kW at the limit per unit of its row.
    book_row, who : int64[k], orders that may be taken, and whose they are.
    relief, own_relief : float64[k], kW at the limit that each may give, as others' relief and as its owner's.
    needed_kw : relief that the limit asks of all of them together.
    """

    row: int
    dual_price: float
    power: float
    book_row: IntArray
    who: IntArray
    relief: FloatArray
    own_relief: FloatArray
    needed_kw: float


def priced_limits(run: InFull, book: OrderBook, rules: PivotalTest) -> list[PricedLimit]:
    """Each limit with a price and the relief that there is; none after a fallback."""
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
    required = np.isin(steps.channels.effect[steps.channel[step]], (Effect.REQUIRE_UP, Effect.REQUIRE_DOWN))
    # How far the price at each order's place would have to move before more of it is taken, or less.
    dear = _gain(run)[step]
    listed: list[PricedLimit] = []
    powers = limits.kw_per_unit(tested)
    for row, slope, power, dual in zip(tested.tolist(), slopes.rows, powers.tolist(), duals.tolist(), strict=True):
        every = steps.spread(slope) * power
        shift = every[step]
        excess = float(found.point.values[row]) * power - float(every[shed] @ found.point.y[shed])
        loads = (shift > 0) & (required | (-dear > rules.price_reach))
        relieves = shift < -rules.shift_min
        listed.append(
            PricedLimit(
                row=row,
                dual_price=dual / power,
                power=power,
                book_row=rows,
                who=book.participant[rows],
                relief=np.where(relieves & (dear <= rules.price_reach), -shift * most, 0.0),
                own_relief=np.where(relieves, -shift * most, 0.0),
                needed_kw=excess - float(shift @ taken) + float(shift[loads] @ most[loads]),
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


def pivotal_groups(
    who: IntArray, relief: FloatArray, own_relief: FloatArray, needed: float, rules: PivotalTest
) -> list[tuple[int, ...]]:
    """Participants without whom relief is short, each with those that the joint test leaves out besides."""
    if needed <= SMALL_KW:
        return []
    names, place = np.unique(who, return_inverse=True)
    supply = np.bincount(place, relief, minlength=names.size)
    own = np.bincount(place, own_relief, minlength=names.size)
    # Nobody's orders (-1) are no supplier, they are always there.
    suppliers = np.flatnonzero((names >= 0) & (supply > 0))
    order = suppliers[np.argsort(-supply[suppliers], kind="stable")]
    largest = order[: rules.jointly]
    besides = np.full(names.size, float(supply[largest[: rules.jointly - 1]].sum()))
    besides[largest] = float(supply[largest].sum()) - supply[largest]
    short = supply.sum() - supply - besides < rules.residual_min * needed - SMALL_KW
    return [
        (int(names[k]), *[int(names[j]) for j in largest.tolist() if j != k][: rules.jointly - 1])
        for k in np.flatnonzero((own > 0) & (names >= 0) & short).tolist()
    ]
