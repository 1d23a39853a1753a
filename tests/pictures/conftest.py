"""A street of six buses as a user has it: a MATPOWER file, and orders."""

from __future__ import annotations

from pathlib import Path

import pytest

from tellegen.workbench import Feeder, load_network

STREET = """\
function mpc = street
mpc.version = '2';
mpc.baseMVA = 0.1;
mpc.bus = [
  1   3    0     0      0  0  1    1  0  10     1    1.05 0.95;
  2   1    0     0      0  0  1    1  0  0.4    1    1.05 0.95;
  3   1    0.004 0.001  0  0  1    1  0  0.4    1    1.05 0.95;
  4   1    0     0      0  0  1    1  0  0.4    1    1.05 0.95;
  5   1    0.006 0.002  0  0  1    1  0  0.4    1    1.05 0.95;
  6   1    0     0      0  0  1    1  0  0.4    1    1.05 0.95;
];
mpc.gen = [
  1   0     0  1     -1     1.02 0.1   1      1    -1;
  6   0     0  0.01  -0.01  1    0.1   1      0.02  0;
];
mpc.branch = [
  1    2  0.010 0.040 0 0.10  0     0     0     0     1;
  2    3  0.040 0.015 0 0.06  0     0     0     0     1;
  3    4  0.050 0.020 0 0     0     0     0     0     1;
  2    5  0.030 0.010 0 0.06  0     0     0     0     1;
  5    6  0.020 0.010 0 0     0     0     0     0     1;
];
mpc.gencost = [
  2     0       0        2 120 0 0;
  2     0       0        3 1000 40 0;
];
"""
ORDERS = """\
participant,node,phases,product,side,price,quantity_kw,kvar_per_kw
homes-4,4,,energy,buy,,4,0.2
solar-4,4,,energy,sell,0.02,50,
battery-3,3,,energy,buy,0.10,10,
car-4,4,,energy,buy,0.14,7,
shop-5,5,,energy,buy,0.5,9.5,0.3
wire-4,4,,reactive,buy,0.01,2,
"""


@pytest.fixture(scope="session")
def street_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("street") / "street.m"
    path.write_text(STREET)
    return path


@pytest.fixture(scope="session")
def street(street_file: Path) -> Feeder:
    return load_network(street_file)


@pytest.fixture(scope="session")
def orders_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("orders") / "orders.csv"
    path.write_text(ORDERS)
    return path
