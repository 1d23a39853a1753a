"""Each energised island clears alone; where nothing is energised nothing is sold and there is no price."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse as sp

from tellegen.grid import load_case
from tellegen.grid.network import Branches, Network
from tellegen.market import NOT_ENERGISED, OrderBook, clear
from tellegen.records import ClearingStatus, Product
from tellegen.workbench import clear as clear_file
from tellegen.workbench import load_network, read_orders

Build = Callable[..., Network]
ROOT = 0.3
CASE = """function mpc = three
mpc.version = '2';
mpc.baseMVA = 1;
mpc.bus = [
  1 3 0 0 0 0 1 1 0 0.4 1 1.1 0.8;
  2 1 0 0 0 0 1 1 0 0.4 1 1.1 0.8;
  3 4 0.5 0 0 0 1 1 0 0.4 1 1.1 0.8;
  4 4 0 0 0 0 1 1 0 0.4 1 1.1 0.8;
];
mpc.gen = [ 1 0 0 10 -10 1 1 1 10 -10; ];
mpc.branch = [
  1 2 0.05 0 0 0 0 0 0 0 1 -360 360;
  2 3 0.05 0 0 0 0 0 0 0 0 -360 360;
];
mpc.gencost = [ 2 0 0 2 300 0; ];
"""
ORDERS = """participant,node,product,side,price,quantity_kw
shop,2,energy,buy,0.5,10
mill,3,energy,buy,0.9,20
solar,3,energy,sell,0.0,20
farm,4,energy,buy,,5
mill,3,reserve_up,sell,0.1,5
"""


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    network, orders = tmp_path / "three.m", tmp_path / "orders.csv"
    network.write_text(CASE)
    orders.write_text(ORDERS)
    return network, orders


def beside(one: Network, other: Network) -> Network:
    """Two feeders without a wire between them, as one network."""
    size = len(one.nodes)
    parts = one.branches, other.branches
    return replace(
        one,
        nodes=(*one.nodes, *(f"b{name}" for name in other.nodes)),
        phase=np.concatenate([one.phase, other.phase]),
        base_kv=np.concatenate([one.base_kv, other.base_kv]),
        admittance=sp.csr_matrix(sp.block_diag([one.admittance, other.admittance])),
        source=np.concatenate([one.source, size + other.source]),
        source_voltage=np.concatenate([one.source_voltage, other.source_voltage]),
        v_min=np.concatenate([one.v_min, other.v_min]),
        v_max=np.concatenate([one.v_max, other.v_max]),
        branches=Branches(
            element=(*parts[0].element, *(f"b {name}" for name in parts[1].element)),
            node=np.concatenate([parts[0].node, size + parts[1].node]),
            current_rows=sp.csr_matrix(sp.block_diag([part.current_rows for part in parts])),
            rating_pu=np.concatenate([part.rating_pu for part in parts]),
            kind=np.concatenate([part.kind for part in parts]),
        ),
    )


@pytest.mark.parametrize("by_phase", [False, True], ids=["balanced", "three phases"])
def test_islands_with_a_source_each_clear_as_if_alone(street: Build, phases: Build, by_phase: bool) -> None:
    """Both trade at the root price; limits and losses of one are nothing to the other."""
    one, other = street(), street(source_pu=1.02)
    if by_phase:
        one, other = phases(one), phases(other)
    both, size = beside(one, other), len(one.nodes)
    rng = np.random.default_rng(4)
    at = rng.integers(1, size, 12)
    book = OrderBook.of(at, rng.choice([1, 1, -1], 12), rng.uniform(0.1, 0.9, 12).round(3), rng.uniform(2, 6, 12))
    cold = replace(book, price=book.price[::-1].copy())
    limits = {"v_min": 0.993, "v_max": 1.0205}
    alone = [clear(one, book, ROOT, **limits), clear(other, cold, ROOT, **limits)]
    moved = replace(cold, node=size + cold.node)
    together = clear(both, OrderBook.concat(book, moved), ROOT, **limits)
    assert together.status == ClearingStatus.OPTIMAL
    assert any(part.limits for part in alone)
    np.testing.assert_allclose(together.prices.energy, np.concatenate([p.prices.energy for p in alone]), atol=1e-6)
    np.testing.assert_allclose(together.award_kw, np.concatenate([p.award_kw for p in alone]), atol=1e-4)
    assert together.welfare == pytest.approx(sum(part.welfare for part in alone), abs=1e-6)
    assert together.flow.root_kw == pytest.approx(sum(part.flow.root_kw for part in alone), abs=1e-4)
    np.testing.assert_allclose(together.prices.energy[both.source], ROOT, atol=1e-9)


def test_orders_where_nothing_is_energised_get_nothing_and_change_nothing(street: Build) -> None:
    network = street()
    live = OrderBook.of([9, 12, 5], [1, 1, -1], [0.5, np.nan, 0.1], [4.0, 6.0, 3.0], participant=[1, 2, 3])
    dead = OrderBook.of(NOT_ENERGISED, [1, -1, 1], [np.nan, 0.0, 5.0], [50.0, 90.0, 7.0], participant=[1, 4, 5])
    reserve = OrderBook.of(NOT_ENERGISED, -1, 0.0, [5.0], product=Product.RESERVE_UP)
    mixed = OrderBook.concat(dead, live, reserve)
    cleared, alone = clear(network, mixed, ROOT), clear(network, live, ROOT)
    np.testing.assert_array_equal(cleared.award_kw, [0, 0, 0, *alone.award_kw, 0])
    assert cleared.prices.energy.tobytes() == alone.prices.energy.tobytes()
    assert cleared.welfare == alone.welfare
    price = cleared.prices.of_orders(mixed)
    assert np.isnan(price[[0, 1, 2, 6]]).all()
    np.testing.assert_array_equal(price[3:6], alone.prices.of_orders(live))
    assert cleared.tie.tolist() == [-1, -1, -1, *alone.tie.tolist(), -1]


def test_a_book_without_any_energised_place_clears(street: Build) -> None:
    cleared = clear(street(), OrderBook.of(NOT_ENERGISED, 1, np.nan, [3.0]), ROOT)
    assert cleared.status == ClearingStatus.OPTIMAL
    assert cleared.award_kw.tolist() == [0.0]
    np.testing.assert_allclose(cleared.prices.energy, ROOT)


def test_importers_remember_what_they_leave_out(files: tuple[Path, Path]) -> None:
    """Buses 3 and 4 are isolated (type 4): neither is a node, both have a name."""
    case = load_case(str(files[0]))
    assert case.network.nodes == ("1", "2")
    assert set(case.network.not_energised) == {"3", "4"}
    book = read_orders(files[1], case.network).book
    assert book.node.tolist() == [1, *[NOT_ENERGISED] * 4]


def test_awards_say_who_was_not_energised(files: tuple[Path, Path]) -> None:
    result = clear_file(load_network(str(files[0])), files[1])
    told = json.loads(result.to_json())
    assert told["status"] == "optimal"
    shop, *others = told["awards"]
    assert shop["quantity_kw"] == pytest.approx(10.0)
    assert "status" not in shop
    for award in others:
        assert award["quantity_kw"] == 0.0
        assert award["price"] is None
        assert award["status"] == "not energised"
    assert {price["node"] for price in told["prices"]} == {"1", "2"}
    assert any("isolated buses" in warning for warning in told["warnings"])
    assert result.awards["price"].null_count() == 4


def test_what_lies_behind_an_open_switch_is_named_and_left_out(tmp_path: Path) -> None:
    pp = pytest.importorskip("pandapower", reason="needs the extra 'grids'")
    net = pp.create_empty_network()
    bus = [pp.create_bus(net, 0.4) for _ in range(3)]
    pp.create_ext_grid(net, bus[0])
    for a, b in ((0, 1), (1, 2)):
        pp.create_line(net, bus[a], bus[b], 0.1, "NAYY 4x50 SE")
    pp.create_switch(net, bus[1], 1, et="l", closed=False)
    pp.create_load(net, bus[2], 0.02, name="mill")
    path = tmp_path / "open.json"
    pp.to_json(net, str(path))
    orders = [
        {"participant": who, "node": node, "product": "energy", "side": "buy", "price": 0.5, "quantity_kw": 4}
        for who, node in (("shop", 1), ("mill", 2))
    ]
    result = clear_file(load_network(str(path)), orders, root_price=ROOT)
    assert result.awards["quantity_kw"].to_list() == pytest.approx([4.0, 0.0])
    assert result.awards["price"].to_list()[1] is None
    assert result.root_kw == pytest.approx(4.0, abs=0.1)  # the mill's 20 kW are not drawn either
    assert any("not connected to the root" in warning for warning in result.warnings)


def test_a_pandapower_feeder_split_in_two_trades_at_the_root_price_in_both(tmp_path: Path) -> None:
    """An open switch between two external grids: two islands, and between them nothing passes."""
    pp = pytest.importorskip("pandapower", reason="needs the extra 'grids'")
    net = pp.create_empty_network()
    bus = [pp.create_bus(net, 0.4) for _ in range(5)]
    pp.create_ext_grid(net, bus[0])
    pp.create_ext_grid(net, bus[3], vm_pu=1.01)
    for a, b in ((0, 1), (1, 2), (2, 3)):
        pp.create_line(net, bus[a], bus[b], 0.1, "NAYY 4x50 SE")
    pp.create_switch(net, bus[1], 1, et="l", closed=False)
    path, orders = tmp_path / "split.json", tmp_path / "orders.csv"
    pp.to_json(net, str(path))
    orders.write_text(
        "participant,node,product,side,price,quantity_kw\na,1,energy,buy,0.5,9\n"
        "b,2,energy,sell,0.1,6\nc,4,energy,buy,0.9,3\n"
    )
    result = clear_file(load_network(str(path)), orders, root_price=ROOT)
    assert result.status == "optimal"
    assert [award["quantity_kw"] for award in result.to_dict()["awards"]] == pytest.approx([9.0, 6.0, 0.0])
    price = {row["node"]: row["energy"] for row in result.to_dict()["prices"]}
    assert set(price) == {"0", "1", "2", "3"}
    assert price["0"] == price["3"] == pytest.approx(ROOT)
    assert price["2"] < ROOT < price["1"]  # one island imports, the other exports: losses have opposite signs
    assert result.root_kw == pytest.approx(3.0, abs=0.2)
