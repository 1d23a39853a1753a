"""What a notebook gets is what the engine found and what the command line prints."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl
import pytest

import tellegen
from tellegen.errors import InputError
from tellegen.grid import load_case
from tellegen.market import clear as clear_market
from tellegen.workbench import ClearingResult, Feeder, OptionError, clear, load_network, powerflow, read_orders

Tellegen = Callable[..., NamedTuple]


@pytest.fixture(scope="module")
def result(street: Feeder, orders_file: Path) -> ClearingResult:
    return clear(street, orders_file, root_price=0.12)


def test_importing_the_package_imports_no_room() -> None:
    program = "import sys, tellegen; print(sorted(m for m in sys.modules if m in ('numpy', 'polars', 'tellegen.grid')))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
    assert tellegen.clear is clear
    assert tellegen.InputError is InputError
    with pytest.raises(AttributeError, match="has no attribute 'cleer'"):
        tellegen.cleer  # noqa: B018


@pytest.mark.parametrize("options", [{}, {"orders_only": True, "v_max": 1.03}, {"root_limit_kw": 5.0}])
def test_the_command_line_prints_the_document(
    street_file: Path, street: Feeder, orders_file: Path, tellegen: Tellegen, options: dict
) -> None:
    words = []
    for name, value in options.items():
        words += [f"--{name.replace('_', '-')}", *([] if value is True else [value])]
    printed = tellegen("clear", "--network", street_file, "--orders", orders_file, "--json", *words)
    assert printed.out == clear(street, orders_file, **options).to_json() + "\n"
    flow = tellegen("powerflow", "--network", street_file, "--json")
    assert flow.out == powerflow(street).to_json() + "\n"


def test_frames_and_document_tell_the_same(result: ClearingResult) -> None:
    document = json.loads(result.to_json())
    assert document["status"] == result.status == "optimal"
    assert document["welfare"] == result.welfare
    assert document["rent"] == result.rent
    assert document["awards"] == result.awards.to_dicts()
    assert document["network"]["loadings"] == result.loadings.to_dicts()
    assert document["network"]["voltages"] == result.voltages.select("node", "phase", "pu").to_dicts()
    assert [limit["name"] for limit in document["limits"]] == result.limits["name"].to_list()
    assert [price["energy"] for price in document["prices"]] == result.prices["energy"].to_list()
    assert [price["energy_parts"]["voltage"] for price in document["prices"]] == result.prices["voltage_part"].to_list()
    assert document["evidence"]["iterations"] == result.evidence.iterations
    assert result.reserve_prices.columns == ["product", "price", "low", "high"]
    assert result.reserve_prices.is_empty()
    assert document["reserve_prices"] == []


def test_the_parts_of_a_price_sum_to_it(result: ClearingResult) -> None:
    parts = result.prices.select(pl.sum_horizontal(pl.col("^.*_part$")))["energy_part"]
    np.testing.assert_allclose(parts, result.prices["energy"], rtol=0, atol=1e-12)  # rounding of four sums
    assert (result.limits["kind"] == "voltage_max").any()


def test_orders_alone_clear_as_the_engine_clears_them(street_file: Path, street: Feeder, orders_file: Path) -> None:
    case = load_case(str(street_file))
    own = clear_market(case.network, read_orders(orders_file, case.network).book, 0.12)
    found = clear(street, orders_file, orders_only=True, root_price=0.12)
    assert found.awards["quantity_kw"].to_list() == own.award_kw.tolist()
    assert found.welfare == own.welfare
    assert not found.fixed_kva.any()


def test_without_orders_the_files_own_generators_are_dispatched(street: Feeder) -> None:
    found = clear(street)
    assert found.root_price == street.root_price == pytest.approx(0.12)
    assert found.awards.is_empty()
    assert found.clearing.award_kw.max() > 1.0
    assert found.losses_kw > 0


def test_a_warm_start_finds_the_same_prices_in_fewer_iterations(street: Feeder, orders_file: Path) -> None:
    cold = clear(street, orders_file)
    warm = clear(street, orders_file, warm=cold)
    assert warm.evidence.iterations < cold.evidence.iterations
    np.testing.assert_allclose(warm.prices["energy"], cold.prices["energy"], rtol=0, atol=1e-7)  # kkt accepted to 1e-6


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("v_min", 1.2),
        ("v_min", float("nan")),
        ("v_max", 0.9),
        ("root_price", float("inf")),
        ("root_limit_kw", -1.0),
        ("root_limit_kw", float("nan")),
    ],
)
def test_an_option_out_of_range_is_refused_by_name(
    street: Feeder, orders_file: Path, option: str, value: float
) -> None:
    with pytest.raises(OptionError) as caught:
        clear(street, orders_file, **{option: value})
    assert caught.value.option == option
    assert str(caught.value).startswith(f"clear: {option} ")


def test_limits_that_were_given_stand_beside_the_voltages(street: Feeder, orders_file: Path) -> None:
    own = powerflow(street).voltages
    assert own["v_max"].to_list() == [None, 1.05, 1.05, 1.05, 1.05, 1.05]
    given = clear(street, orders_file, v_max=1.03).voltages
    assert given["v_max"].to_list() == [None, 1.03, 1.03, 1.03, 1.03, 1.03]
    assert given["v_min"].to_list() == own["v_min"].to_list()
    assert given["pu"][1:].max() <= 1.03 + 1e-7


def test_a_feeder_says_what_it_holds(street: Feeder) -> None:
    assert repr(street) == "Feeder(street: 6 buses, balanced, 2 loads, 1 generators)"
    assert street.nodes["root"].to_list() == [True] + [False] * 5
    assert street.loads["p_kw"].to_list() == [4.0, 6.0]
    assert street.generators.row(0)[-2:] == pytest.approx((0.04, 0.002))
    assert street.elements["rating_kva"].to_list() == [100.0, 60.0, None, 60.0, None]
    assert street.elements["rating_a"].null_count() == 5
    assert "optimal" in repr(clear(street))
    assert "losses" in repr(powerflow(street))
    with pytest.raises(InputError, match="format is not known"):
        load_network("feeder.glm")


def test_bus_coordinates_of_a_script_are_kept(tmp_path: Path) -> None:
    pytest.importorskip("dss", reason="dss-python is not installed (extra `plant`)")
    (tmp_path / "places.csv").write_text("head, 10, 20\nend, 13, 24\n")
    (tmp_path / "map.dss").write_text(
        "clear\nnew circuit.map basekv=0.4 bus1=head phases=3\n"
        "new linecode.c nphases=3 r1=0.3 x1=0.1 r0=1.2 x0=0.3 c1=0 c0=0 units=km\n"
        "new line.a bus1=head bus2=mid linecode=c length=1 units=km\n"
        "new line.b bus1=mid.2 bus2=end.2 phases=1 r1=0.5 x1=0 r0=0.5 x0=0 c1=0 c0=0 length=1 units=km\n"
        "new load.a bus1=end.2 phases=1 kv=0.23 kw=2\n"
        "set voltagebases=[0.4]\ncalcvoltagebases\nbuscoords places.csv\nsolve\n"
    )
    feeder = load_network(tmp_path / "map.dss")
    nodes = feeder.nodes
    assert nodes.filter(node="head").select("x", "y").unique().rows() == [(10.0, 20.0)]
    assert nodes.filter(node="end").select("phase", "x", "y").rows() == [(2, 13.0, 24.0)]
    assert nodes.filter(node="mid")["x"].to_list() == [None] * 3
    assert "vsource.source" not in nodes["node"].to_list()


PHASES = """clear
new circuit.street basekv=0.4 bus1=head phases=3 mvasc3=20 mvasc1=20
new linecode.c nphases=3 r1=0.3 x1=0.1 r0=1.2 x0=0.3 c1=0 c0=0 units=km
new line.a bus1=head bus2=mid linecode=c length=0.3 units=km
new line.b bus1=mid.2 bus2=end.2 phases=1 r1=0.5 x1=0 r0=0.5 x0=0 c1=0 c0=0 length=0.2 units=km
new load.a bus1=end.2 phases=1 kv=0.23 kw=5 model=2
new load.b bus1=mid.1.3 phases=1 conn=delta kv=0.4 kw=3
set voltagebases=[0.4]
calcvoltagebases
solve
"""


def test_a_three_phase_street_with_reserve_from_order_to_document(tmp_path: Path, tellegen: Tellegen) -> None:
    """Phases, pairs of phases and reserve pass through frames and documents; the root's ideal node stays hidden."""
    pytest.importorskip("dss", reason="dss-python is not installed (extra `plant`)")
    script, file, limits = tmp_path / "street.dss", tmp_path / "orders.csv", tmp_path / "limits.csv"
    script.write_text(PHASES)
    file.write_text(
        "participant,node,phases,product,side,price,quantity_kw\n"
        "sun,end,2,energy,sell,0.01,6\nsun,end,2,reserve_down,sell,0.02,6\nweld,mid,1-3,energy,buy,0.9,4\n"
        "shop,mid,,energy,buy,0.8,6\nbank,mid,,reserve_up,sell,0.05,3\nutility,head,,reserve_up,buy,1,2\n"
        "utility,head,,reserve_down,buy,,3\n"
    )
    limits.write_text("participant,node,export_kw\nsun,end,5\n")
    feeder = load_network(script)
    found = clear(feeder, file, root_price=0.3, agreements=limits)
    assert found.status == "optimal"
    # The agreement names the bus, which is one phase here, as the order's own words do.
    assert found.awards["quantity_kw"].to_list() == pytest.approx([5, 3, 4, 6, 2, 2, 3], abs=1e-6)
    assert dict(found.reserve_prices.select("product", "price").iter_rows()) == pytest.approx(
        {"reserve_up": 0.05, "reserve_down": 0.02}, abs=1e-6
    )
    assert ("export of sun at node end.2", "export") in found.limits.select("name", "kind").rows()
    shown = found.prices.select("node", "phase").rows()
    assert shown == [(bus, phase) for bus in ("head", "mid") for phase in (1, 2, 3)] + [("end", 2)]
    document = json.loads(found.to_json())
    assert [price["reserve_up"] for price in document["prices"]] == found.prices["reserve_up"].to_list()
    words = ("clear", "--network", script, "--orders", file, "--root-price", 0.3, "--agreements", limits)
    assert tellegen(*words, "--json").out == found.to_json() + "\n"
    assert "reserve up 0.050000 per kW and h" in tellegen(*words).out
