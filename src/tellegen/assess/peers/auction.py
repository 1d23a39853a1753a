"""The same order book without a network, in our double auction and elsewhere."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp

from tellegen.assess.peers.instance import Arrays
from tellegen.grid import Branches, Network
from tellegen.grid.network import IntArray
from tellegen.market import Auction, OrderBook, clear, double_auction
from tellegen.units import MICROS


@dataclass(frozen=True, slots=True, eq=False)
class PlainBook:
    """Buyers and sellers of energy: side, micro-currency/kWh, W; int64[n] each."""

    side: IntArray
    price_micros: IntArray
    quantity_w: IntArray

    @classmethod
    def draw(cls, orders: int, seed: int) -> PlainBook:
        """As many buyers as sellers, 10 W to 1 kW each, at 0.05 to 0.35 currency/kWh."""
        rng = np.random.default_rng(seed)
        side = np.repeat([1, -1], orders)
        return cls(side, rng.integers(50_000, 350_001, 2 * orders), rng.integers(10, 1001, 2 * orders))

    def arrays(self, repetitions: int) -> Arrays:
        """What peers are given: price in currency/kWh, quantity in kW."""
        return {
            "side": self.side,
            "price": self.price_micros / MICROS,
            "quantity_kw": self.quantity_w / 1000.0,
            "repetitions": np.array(repetitions),
        }

    def auction(self) -> Auction:
        """Our outcome."""
        return double_auction(self.side, self.price_micros, self.quantity_w)

    def auction_s(self, repetitions: int) -> list[float]:
        """Seconds that it takes."""
        taken = []
        for _ in range(repetitions):
            begun = time.perf_counter()
            self.auction()
            taken.append(time.perf_counter() - begun)
        return taken

    def nodal_s(self, repetitions: int) -> list[float]:
        """Seconds that the nodal clearing takes for the book, on a line that loses next to nothing.

        The root may neither give nor take, so that the community finds its own price there too.
        """
        network = _stiff_line()
        book = OrderBook.of(np.ones(self.side.size, int), self.side, self.price_micros / 1e6, self.quantity_w / 1e3)
        taken = []
        for _ in range(repetitions):
            begun = time.perf_counter()
            clear(network, book, 0.2, root_limit_kw=0.0)
            taken.append(time.perf_counter() - begun)
        return taken


def _stiff_line() -> Network:
    y = sp.csr_matrix(1e4 * np.array([[1, -1], [-1, 1]], dtype=np.complex128))
    line = Branches(("line",), np.array([0]), y[:1], np.array([np.inf]), np.array([0]))
    return Network(
        name="a stiff line",
        nodes=("0", "1"),
        phase=np.zeros(2, dtype=np.int64),
        base_kva=100.0,
        base_kv=np.full(2, 0.4),
        admittance=y,
        source=np.array([0]),
        source_voltage=np.array([1.0 + 0j]),
        v_min=np.full(2, 0.8),
        v_max=np.full(2, 1.2),
        branches=line,
    )
