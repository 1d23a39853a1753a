"""Relief that was there and was not offered: physical withholding by who is pivotal.

An offer that is too dear can be held to a reference; one that was never made cannot. It can be found: whoever could
have relieved a limit with more than it offered, at a price above what that energy is worth to it, and without whom the
limit could not be met, has withheld relief. That is a question put to it, not a proof: a store may be empty.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tellegen.grid.network import FloatArray, IntArray
from tellegen.market.book import OrderBook
from tellegen.market.clearing import InFull
from tellegen.market.pivotal import PivotalTest, pivotal_groups, priced_limits
from tellegen.market.steps import Scenario


@dataclass(frozen=True, slots=True, eq=False)
class Idle:
    """Energy that devices could have sold and did not offer, or were awarded and did not deliver.

    Attributes
    ----------
    participant, node : int64[n]. kw : float64[n] > 0. worth : float64[n], currency/kWh, what it is worth elsewhere.
    """

    participant: IntArray
    node: IntArray
    kw: FloatArray
    worth: FloatArray


@dataclass(frozen=True, slots=True)
class Withheld:
    """A participant that kept back what would have relieved a limit.

    Attributes
    ----------
    limit : its name; dual_price : its price.
    needed_kw, others_kw : relief that the limit asks, and that all others offer, kW at the limit.
    idle_kw : what was kept back, kW at the device. worth : the least it is worth elsewhere; price : the highest at
        the nodes where it stands, currency/kWh.
    """

    participant: int
    limit: str
    dual_price: float
    needed_kw: float
    others_kw: float
    idle_kw: float
    worth: float
    price: float


def withheld(run: InFull, book: OrderBook, idle: Idle, test: PivotalTest) -> tuple[Withheld, ...]:
    """Who kept relief back, by limit and participant.

    Parameters
    ----------
    run : of the book, as it was cleared last.
    """
    task, point = run.task, None if run.found is None else run.found.point
    price = run.clearing.prices.energy[idle.node] if idle.node.size else np.zeros(0)
    # NaN where nothing is energised: nothing could be sold there
    paid = np.flatnonzero(price > idle.worth + test.conduct(task.root_price))
    if point is None or not paid.size:
        return ()
    who, node, kw = idle.participant[paid], idle.node[paid], idle.kw[paid]
    line = point.lines[task.steps.scenarios.index(Scenario.DISPATCH)]
    limits = task.limits
    listed = []
    for at in priced_limits(run, book, test):
        row = np.array([at.row])
        if limits.quantity[at.row] < 0 or limits.scenario[at.row] != Scenario.DISPATCH:
            continue  # reserve, and what holds once it is called
        raw = line.projected(limits.quantity[row], limits.index[row], node, np.ones(node.size, dtype=np.complex128))
        shift = raw[0] * (limits.sign[at.row] / limits.scale[at.row]) * at.power
        relief = np.where(shift > test.shift_min, shift * kw, 0.0)
        everybody = np.concatenate([at.who, who])
        groups = pivotal_groups(
            everybody,
            np.concatenate([at.relief, np.zeros(who.size)]),
            np.concatenate([at.own_relief, relief]),
            at.needed_kw,
            test,
        )
        for group in groups:
            mine = (who == group[0]) & (relief > 0)
            if mine.any():
                listed.append(
                    Withheld(
                        participant=group[0],
                        limit=limits.name(at.row),
                        dual_price=at.dual_price,
                        needed_kw=at.needed_kw,
                        others_kw=float(at.relief[~np.isin(at.who, group)].sum()),
                        idle_kw=float(kw[mine].sum()),
                        worth=float(idle.worth[paid][mine].min()),
                        price=float(price[paid][mine].max()),
                    )
                )
    return tuple(listed)
