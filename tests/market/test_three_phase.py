"""Clearing on unbalanced feeders: IEEE 13 and 123 with a market of their customers, each on its own phases.

Referees: finite differences of the optimum solved again, and OpenDSS with the dispatch played back.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tellegen.grid import Case, Connector, load_case
from tellegen.market import Clearing, LimitType, OrderBook, Parameters, clear, start_after
from tellegen.records import ClearingStatus, Product

FEEDERS = Path(__file__).parents[2].parent / "shared" / "data" / "feeders"
pytest.importorskip("dss", reason="OpenDSS scripts need the extra 'plant'")
pytestmark = pytest.mark.skipif(not FEEDERS.exists(), reason="the IEEE feeders are not beside the project")
ONE = Parameters(starts=0)
"""Differences are taken around the optimum at hand."""
FILES = {"13": "ieee13/IEEE13Nodeckt.dss", "123": "ieee123/IEEE123Master.dss"}


@dataclass(frozen=True)
class Market:
    """A feeder and the customers that its file's loads stand for."""

    path: Path
    case: Case
    connector: Connector
    place: np.ndarray
    kw: np.ndarray
    kvar_per_kw: np.ndarray

    def book(self, slope: float = 0.0) -> OrderBook:
        rng = np.random.default_rng(1)
        count, table = self.place.size, self.connector.table()
        ratio = self.kvar_per_kw
        must = OrderBook.of(self.place, 1, np.nan, 0.4 * self.kw, kvar_per_kw=ratio, connections=table)
        price = rng.uniform(0.2, 0.9, (2, count)).round(4)
        wish = OrderBook.of(
            np.tile(self.place, 2), 1, np.sort(price, axis=0)[::-1].ravel(), np.tile(0.5 * self.kw, 2),
            kvar_per_kw=np.tile(ratio, 2), slope=slope, connections=table,
        )  # fmt: skip
        sells = rng.random(count) < 0.3
        offer = OrderBook.of(
            self.place[sells], -1, rng.uniform(0.1, 0.5, sells.sum()).round(4), 0.5 * self.kw[sells],
            slope=slope, connections=table,
        )  # fmt: skip
        return OrderBook.concat(must, wish, offer)

    def sunny(self) -> OrderBook:
        """More offers than the feeder can let out, and inverters that may take in reactive power."""
        table = self.connector.table()
        price = 0.02 + 0.001 * np.arange(self.place.size)
        sun = OrderBook.of(self.place, -1, price, 4.0 * self.kw, connections=table)
        lag = OrderBook.of(self.place[::3], 1, 0.0, 0.3 * self.kw[::3], product=Product.REACTIVE, connections=table)
        must = OrderBook.of(self.place, 1, np.nan, 0.2 * self.kw, kvar_per_kw=self.kvar_per_kw, connections=table)
        return OrderBook.concat(sun, lag, must)


@cache
def market(name: str) -> Market:
    path = FEEDERS / FILES[name]
    case = load_case(str(path))
    network, loads, connector = case.network, case.loads, Connector(case.network)
    rows: dict[str, list[int]] = {}
    for k, load in enumerate(loads.name):
        rows.setdefault(load, []).append(k)
    place, kw, ratio = [], [], []
    for members in rows.values():
        ends = {(int(network.phase[loads.node[k]]), _phase(network, loads.other[k])) for k in members}
        if all(b == 0 for _, b in ends):
            phases = ".".join(str(a) for a, _ in sorted(ends))
        else:
            phases = "1-2-3" if len(ends) == 3 else "-".join(str(p) for p in sorted(next(iter(ends))))
        place.append(connector.place(network.nodes[loads.node[members[0]]], phases))
        kw.append(loads.p_kw[members].sum())
        ratio.append(loads.q_kvar[members].sum() / kw[-1])
    return Market(path, case, connector, np.array(place), np.array(kw), np.array(ratio))


def _phase(network: Any, node: int) -> int:
    return int(network.phase[node]) if node >= 0 else 0


CASES = {
    "13, ratings": ("13", "book", {"v_min": 0.9, "v_max": 1.1}, LimitType.RATING),
    "123, lowest voltage": ("123", "book", {"v_min": 0.985, "v_max": 1.1}, LimitType.VOLTAGE_MIN),
    "123, highest voltage in reverse flow": ("123", "sunny", {"v_min": 0.9, "v_max": 1.12}, LimitType.VOLTAGE_MAX),
    "123, root": ("123", "book", {"v_min": 0.8, "v_max": 1.1, "root_limit_kw": 2000.0}, LimitType.ROOT_IMPORT),
}


@cache
def cleared(name: str, slope: float) -> tuple[Market, OrderBook, Clearing]:
    feeder, kind, limits, _ = CASES[name]
    town = market(feeder)
    book = town.sunny() if kind == "sunny" else town.book(slope)
    return town, book, clear(town.case.network, book, 0.3, **limits)


@pytest.mark.parametrize("slope", [0.0, 1e-4], ids=["steps", "quadratic"])
@pytest.mark.parametrize("name", CASES)
def test_a_price_is_what_one_more_kwh_costs_on_its_phase(name: str, slope: float) -> None:
    """Law 7, at the nodes with the highest and lowest price and at two more, for active and reactive power."""
    town, book, base = cleared(name, slope)
    limits, kind = CASES[name][2:]
    assert base.status == ClearingStatus.OPTIMAL, base.reason
    assert kind in {limit.kind for limit in base.limits}
    network = town.case.network
    below = np.array([k for k in network.free if network.nodes[k] not in ("sourcebus", "150")])
    price = base.prices.energy[below]
    chosen = [below[np.argmax(price)], below[np.argmin(price)], *np.random.default_rng(5).choice(below, 2)]
    start = start_after(base, book)
    for node in chosen:
        for unit, own in ((1.0, base.prices.energy[node]), (1.0j, base.prices.reactive[node])):
            ends = []
            for h in (0.2, -0.2):
                extra = np.zeros(len(network.nodes), dtype=complex)
                extra[node] = h * unit
                ends.append(clear(network, book, 0.3, fixed_kva=extra, parameters=ONE, start=start, **limits).welfare)
            # 0.3 is the scale of prices: a reactive price may itself be near nothing.
            assert own == pytest.approx((ends[1] - ends[0]) / 0.4, rel=5e-6, abs=5e-6 * 0.3)


@pytest.mark.parametrize("name", CASES)
def test_opendss_finds_the_same_voltages_within_limits(name: str) -> None:
    town, book, base = cleared(name, 0.0)
    volt = opendss(town, book, base)
    network, limits = town.case.network, CASES[name][2]
    hidden = set(network.source.tolist())
    for k in range(len(network.nodes)):
        if k in hidden:
            continue
        pu = abs(volt[f"{network.nodes[k]}.{network.phase[k]}"]) / (1000 * network.base_kv[k])
        assert pu == pytest.approx(abs(base.flow.voltage[k]), abs=1e-7)
        if network.nodes[k] not in ("sourcebus", "150"):
            assert limits["v_min"] - 1e-7 <= pu <= limits["v_max"] + 1e-7


def opendss(town: Market, book: OrderBook, base: Clearing) -> dict[str, complex]:
    """Volts to ground by ``bus.phase`` with the file's own loads off and the dispatch drawn leg by leg."""
    from dss import DSS

    DSS.AllowChangeDir = False
    engine = DSS.NewContext()
    engine.Text.Command = f'redirect "{town.path}"'
    circuit = engine.ActiveCircuit
    circuit.Solution.Solve()
    engine.Text.Command = "set controlmode=off"
    engine.Text.Command = "batchedit load..* enabled=no"
    network, table = town.case.network, book.connections
    size = len(network.nodes)
    power = np.zeros(size + len(table), dtype=complex)
    award = np.where(book.product == Product.REACTIVE, 1j, 1 + 1j * book.kvar_per_kw) * book.side * base.award_kw
    np.add.at(power, book.node, award)
    legs = [(k, -1, power[k]) for k in range(size) if power[k]]
    for row in range(len(table)):
        at = slice(table.start[row], table.start[row + 1])
        legs += list(zip(table.node[at], table.other[at], table.share[at] * power[size + row], strict=True))
    for k, (a, b, s) in enumerate(legs):
        kv = network.base_kv[a] * (1 if b < 0 else np.sqrt(3))
        ends = f"{network.nodes[a]}.{network.phase[a]}" + ("" if b < 0 else f".{network.phase[b]}")
        engine.Text.Command = (
            f"new load.own{k} bus1={ends} phases=1 kv={kv:.9f} kw={s.real:.12f} kvar={s.imag:.12f} "
            "model=1 vminpu=0.1 vmaxpu=9 vlowpu=0.05"
        )
    circuit.Solution.Tolerance, circuit.Solution.MaxIterations = 1e-12, 1000
    for _ in range(2):
        circuit.Solution.Solve()
    flat = np.asarray(circuit.AllBusVolts, dtype=float)
    names = [name.lower() for name in circuit.AllNodeNames]
    return dict(zip(names, (flat[::2] + 1j * flat[1::2]).tolist(), strict=True))


GOLDEN = {
    "13, ratings": (378.582708, 4121.408195, {"671.1": 0.4468651, "675.2": 0.3131439, "634.3": 0.3962588}),
    "123, lowest voltage": (445.025565, 3906.272868, {"65.1": 0.5491427, "83.2": 0.3247331, "450.3": 0.2877754}),
    "123, highest voltage in reverse flow": (
        1239.273225, -4985.712994, {"65.1": 0.0114639, "83.1": -0.0231389, "83.3": 0.1011351},
    ),
    "123, root": (146.736663, 2000.0, {"65.1": 0.6588696, "83.2": 0.6391168, "450.3": 0.6409718}),
}  # fmt: skip
"""Welfare per hour, kW from the root, and prices at phases, as first found; finite differences stand behind them."""


@pytest.mark.parametrize("name", CASES)
def test_the_ieee_markets_clear_as_they_did(name: str) -> None:
    town, _, base = cleared(name, 0.0)
    welfare, root_kw, prices = GOLDEN[name]
    network = town.case.network
    assert base.welfare == pytest.approx(welfare, abs=1e-4)
    assert base.flow.root_kw == pytest.approx(root_kw, abs=1e-3)
    for node, price in prices.items():
        bus, _, phase = node.partition(".")
        at = next(k for k in range(len(network.nodes)) if (network.nodes[k], network.phase[k]) == (bus, int(phase)))
        assert base.prices.energy[at] == pytest.approx(price, abs=1e-6)


def test_parts_sum_and_connections_pay_the_mean_of_their_legs() -> None:
    town, book, base = cleared("123, lowest voltage", 0.0)
    prices, table = base.prices, book.connections
    np.testing.assert_allclose(
        prices.root + prices.losses + prices.congestion + prices.voltage, prices.energy, rtol=0, atol=1e-12
    )
    size = len(town.case.network.nodes)
    for row in range(len(table)):
        at = slice(table.start[row], table.start[row + 1])
        if (table.other[at] < 0).all():
            mean = prices.energy[table.node[at]] @ table.share[at]
            assert prices.energy[size + row] == pytest.approx(mean, rel=1e-12)


def test_money_out_of_the_market_is_rent() -> None:
    _, book, base = cleared("123, lowest voltage", 0.0)
    at = book.node
    unit = base.prices.energy[at] + book.kvar_per_kw * base.prices.reactive[at]
    paid = (book.side * base.award_kw * unit).sum()
    assert base.rent == pytest.approx(paid - 0.3 * base.flow.root_kw, abs=1e-9 * abs(paid))


def test_nobody_is_cleared_against_its_bid() -> None:
    for name in CASES:
        _, book, base = cleared(name, 0.0)
        at = book.node
        price = np.where(
            book.product == Product.REACTIVE,
            base.prices.reactive[at],
            base.prices.energy[at] + book.kvar_per_kw * base.prices.reactive[at],
        )
        gain = book.side * (book.price - price)
        served, full = base.award_kw > 1e-6, base.award_kw > book.quantity_kw - 1e-6
        assert (gain[served & ~book.price_taker] >= -1e-6).all()
        assert (gain[~full & ~book.price_taker] <= 1e-6).all()


def test_a_files_own_loads_with_laws_of_voltage_stay_in_the_market() -> None:
    """The price then counts that constant-current and constant-impedance loads answer to voltage."""
    town = market("13")
    network = town.case.network
    table = Connector(network)
    node = table.place("680", "2")
    places = [node, table.place("671", "1.2"), table.place("671", ""), table.place("634", "")]
    book = OrderBook.of(places, -1, [0.2, 0.25, 0.4, 0.5], [200.0, 90.0, 2500.0, 200.0], connections=table.table())

    def solve(extra: np.ndarray) -> Clearing:
        return clear(
            network, book, 0.3, loads=town.case.loads, fixed_kva=extra, v_min=0.9, v_max=1.1, root_limit_kw=2500.0
        )

    nothing = np.zeros(len(network.nodes), dtype=complex)
    base = solve(nothing)
    assert base.status == ClearingStatus.OPTIMAL, base.reason
    ends = []
    for h in (0.1, -0.1):
        extra = nothing.copy()
        extra[node] = h
        ends.append(solve(extra).welfare)
    assert base.prices.energy[node] == pytest.approx((ends[1] - ends[0]) / 0.2, rel=5e-6)
