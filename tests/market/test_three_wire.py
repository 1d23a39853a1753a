"""Orders behind a transformer in delta, where nothing leads to ground."""

from __future__ import annotations

from pathlib import Path

import pytest

from tellegen.errors import InputError
from tellegen.grid import load_case
from tellegen.grid.network import Case
from tellegen.market import clear
from tellegen.workbench import read_orders

SCRIPT = """
clear
new circuit.three basekv=12.47 pu=1.0 phases=3 bus1=a
new transformer.t phases=3 windings=2 buses=[a, c] conns=[delta delta] kvs=[12.47 0.48] kvas=[500 500] xhl=4
new line.cd bus1=c.1.2.3 bus2=d.1.2.3 phases=3 r1=0.01 x1=0.01 r0=0.03 x0=0.03 c1=0 c0=0 length=1
set voltagebases=[12.47 0.48]
calcv
solve
"""
HEADER = "participant,node,phases,product,side,price,quantity_kw,kvar_per_kw\n"


@pytest.fixture
def case(tmp_path: Path) -> Case:
    pytest.importorskip("dss", reason="OpenDSS scripts need the extra 'plant'")
    (tmp_path / "three.dss").write_text(SCRIPT)
    return load_case(str(tmp_path / "three.dss"))


def test_empty_phases_are_a_delta_where_there_is_no_neutral(case: Case, tmp_path: Path) -> None:
    """Beside a customer between two phases the three are not alike: to ground, their mean would move with nothing."""
    prices = []
    for phases in ("", "1-2-3"):
        path = tmp_path / f"orders{phases}.csv"
        path.write_text(f"{HEADER}x,d,{phases},energy,buy,0.9,30,0.1\ny,d,1-2,energy,buy,0.9,10,0.1\n")
        book = read_orders(path, case.network).book
        prices.append(clear(case.network, book, 0.25, loads=case.loads).prices.of_orders(book))
    assert prices[0] == pytest.approx(prices[1], abs=1e-12)


def test_phases_to_ground_are_refused_there(case: Case, tmp_path: Path) -> None:
    path = tmp_path / "orders.csv"
    path.write_text(f"{HEADER}x,d,1,energy,buy,0.9,10,0.1\n")
    with pytest.raises(InputError, match="no way to ground for phases '1'; give phases 1-2-3, or two of them, 1-2"):
        read_orders(path, case.network)
