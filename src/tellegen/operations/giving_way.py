"""What gave way in a clearing, as it goes on record: the shadow price stays as evidence where cap and floor hold."""

from __future__ import annotations

import numpy as np

from tellegen.grid.network import Network
from tellegen.market import Clearing
from tellegen.market.paper import PaperTaken
from tellegen.records import Relaxations
from tellegen.units import MICROS, NANOS, ROW_LIMIT

NAME_BYTES_MAX = 64


def gave_way(outcome: Clearing, network: Network, taken: PaperTaken) -> Relaxations:
    """Limits that were exceeded, in the order of the outcome, then paper by node."""
    rows = np.zeros(len(outcome.relaxations) + taken.node.size, dtype=Relaxations.row_dtype())
    if not rows.size:
        return Relaxations.empty()
    names = [limit.name for limit in outcome.relaxations] + [f"paper at node {network.nodes[k]}" for k in taken.node]
    rows["limit"] = [name.encode("ascii", "replace")[:NAME_BYTES_MAX] for name in names]
    limits, paper = rows[: len(outcome.relaxations)], rows[len(outcome.relaxations) :]
    limits["node"], paper["node"] = -1, taken.node
    limits["excess_nano"] = [_whole(limit.excess, NANOS) for limit in outcome.relaxations]
    limits["price_micros"] = [_whole(limit.price, MICROS) for limit in outcome.relaxations]
    paper["paper_w"] = np.rint(taken.kw * 1_000)
    paper["price_micros"] = np.rint(outcome.prices.energy[taken.node] * MICROS)
    return Relaxations.from_rows(rows)


def _whole(value: float, scale: int) -> int:
    return round(max(min(value * scale, ROW_LIMIT - 1), 1 - ROW_LIMIT))
