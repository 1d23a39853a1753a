"""A short market day that is played once, and the command line as a function.

The suite may run in several processes (``make test``: pytest-xdist); what is costly to make, `made_once` shares.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # as the command line does: the same bits in every run

import numpy as np
import pytest
from hypothesis import HealthCheck, settings

from tellegen.cli import main
from tellegen.journal import Journal, Payload
from tellegen.records import Header, SealedBatch, tree_root

if TYPE_CHECKING:
    from tellegen.workbench import Feeder

# The same examples in every run: a suite that fails today fails tomorrow, and where it does not, CI can be believed.
# Nothing that takes long fails for that: how long is the machine's affair.
settings.register_profile(
    "same", derandomize=True, database=None, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("same")

SCENARIO = """\
name = "A short night on a small feeder"
seed = {seed}

[feeder]
grid = "simbench:1-LV-rural1--2-sw"
v_min_pu = 1.0
v_max_pu = 1.1
margin_pu = 0.02         # tight enough that charging cars meet the lower limit

[day]
date = 2016-05-14
hours = 4

[community]
pv_scale = 3.0
battery_scale = 2.0
vehicle_scale = 6.0
heat_pump_scale = 3.0

[prices]
file = "{prices}"

[fault]
customer = "home-003"
start_hour = 1
hours = 2
"""
MIDNIGHT = "2016-05-14T00:00:00"  # local; the file's own clock stands for the day's
PAST_DAYS = 8


class Answer(NamedTuple):
    """What a command came to: exit status, stdout, stderr."""

    status: int
    out: str
    err: str


def call_main(*arguments: object) -> int:
    """Exit status of the command line in this process."""
    before, sys.argv = sys.argv, ["tellegen", *map(str, arguments)]
    try:
        main()
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else 0
    finally:
        sys.argv = before
    raise AssertionError("the command line always states a status")


@pytest.fixture
def tellegen(capsys: pytest.CaptureFixture[str]) -> Callable[..., Answer]:
    """Run a command in this process; an exception that nobody turned into a line fails the test."""

    def command(*arguments: object) -> Answer:
        capsys.readouterr()
        status = call_main(*arguments)
        captured = capsys.readouterr()
        return Answer(status, captured.out, captured.err)

    return command


def write_prices(path: Path, *, different_from_hour: int | None = None) -> None:
    """Real-time and day-ahead prices of the day and those before; `different_from_hour` changes real time only."""
    midnight = np.datetime64(MIDNIGHT)
    step = np.arange(-PAST_DAYS * 288, 288)
    hour = step // 12
    ahead = 0.08 + 0.02 * np.sin(hour * 0.7)
    now = ahead + 0.03 * np.sin(step * 0.37) + 0.01 * np.cos(step * 1.9)
    if different_from_hour is not None:
        now = np.where(hour >= different_from_hour, 0.35 - now, now)
    time = midnight + 300 * step.astype("timedelta64[s]")
    rows = [f"{t}+02:00,{a:.6f},{b:.6f}" for t, a, b in zip(time, now, ahead, strict=True)]
    path.write_text("time,real_time,day_ahead\n" + "\n".join(rows) + "\n")


def write_scenario(folder: Path, *, seed: int = 11, different_from_hour: int | None = None) -> Path:
    """The short day's scenario file with its price file beside it."""
    write_prices(folder / "prices.csv", different_from_hour=different_from_hour)
    path = folder / "scenario.toml"
    path.write_text(SCENARIO.format(seed=seed, prices="prices.csv"))
    return path


def play(scenario: Path, out: Path) -> Path:
    """Play a scenario in this process."""
    from tellegen.simulation.play import simulate_day
    from tellegen.simulation.scenario import read_scenario

    simulate_day(read_scenario(scenario), out, lambda stage, done, total: None)
    return out


@pytest.fixture(scope="session")
def made_once(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, Callable[[Path], object]], Path]:
    """Folders by name, each filled by the first process that asks for it and read by all; nobody may change them."""
    own = tmp_path_factory.getbasetemp()
    common = own.parent if "PYTEST_XDIST_WORKER" in os.environ else own

    def folder(name: str, make: Callable[[Path], object]) -> Path:
        path, whole = common / name, common / f"{name}.whole"
        with (common / f"{name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # until the file is closed
            if not whole.exists():
                shutil.rmtree(path, ignore_errors=True)  # what another process began and could not end
                path.mkdir()
                make(path)
                whole.touch()
        return path

    return folder


@pytest.fixture(scope="session", autouse=True)
def converted_grids(pytestconfig: pytest.Config, made_once: Callable[..., Path]) -> Iterator[None]:
    """Grids, each converted once and kept between runs of the suite, apart from the user's own."""
    cache = getattr(pytestconfig, "cache", None)  # `-p no:cacheprovider`
    kept = cache.mkdir("tellegen") if cache is not None else made_once("grids", lambda folder: None)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TELLEGEN_CACHE", str(kept))
        yield


@pytest.fixture(scope="session")
def extras() -> None:
    """What a played day needs besides the base installation."""
    for package, extra in (("simbench", "grids"), ("pandapower", "grids"), ("dss", "plant")):
        if find_spec(package) is None:
            pytest.skip(f"{package} is not installed (extra `{extra}`)")


@pytest.fixture(scope="session")
def scenario_file(made_once: Callable[..., Path]) -> Path:
    """Scenario of the short day."""
    return made_once("scenario", write_scenario) / "scenario.toml"


@pytest.fixture(scope="session")
def run_directory(extras: None, scenario_file: Path, made_once: Callable[..., Path]) -> Path:
    """The short day, played once; nobody may change it."""
    return made_once("day", lambda folder: play(scenario_file, folder / "run")) / "run"


@pytest.fixture
def run_copy(run_directory: Path, tmp_path: Path) -> Path:
    """A copy of the short day that a test may change."""
    return Path(shutil.copytree(run_directory, tmp_path / "run"))


@pytest.fixture(scope="session")
def play_variant(extras: None, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Play the short day with another seed, or with other real-time prices from an hour on."""

    def variant(**changes: int) -> Path:
        folder = tmp_path_factory.mktemp("variant")
        return play(write_scenario(folder, **changes), folder / "run")

    return variant


@pytest.fixture(scope="session")
def shard_directory(made_once: Callable[..., Path]) -> Path:
    """A shard of two feeders that has lived through two closes (see `shards`); nobody may change it."""

    def make(folder: Path) -> None:
        from shards import play_two_days

        play_two_days(folder)

    return made_once("two days", make) / "shard"


@pytest.fixture
def shard_copy(shard_directory: Path, tmp_path: Path) -> Path:
    """A copy of that shard, which a test may change."""
    return Path(shutil.copytree(shard_directory, tmp_path / "shard"))


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
    """A street of six buses as a user has it: a MATPOWER file; `orders_file` are orders on it."""
    path = tmp_path_factory.mktemp("street") / "street.m"
    path.write_text(STREET)
    return path


@pytest.fixture(scope="session")
def street(street_file: Path) -> Feeder:
    from tellegen.workbench import load_network

    return load_network(street_file)


@pytest.fixture(scope="session")
def orders_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("orders") / "orders.csv"
    path.write_text(ORDERS)
    return path


LOG_KEY = hashlib.sha256(b"operator").digest()
LOG_ORIGIN = "example.org/feeder"


class Grow(Protocol):
    """Makes a journal of so many entries, or adds so many to one; another salt, another history."""

    def __call__(self, at: Path | Journal, count: int, *, salt: str = "", commit: bool = True) -> Journal: ...


@pytest.fixture
def grow() -> Iterator[Grow]:
    """Journals of any length, of batches with one public row; open for writing until the test ends."""
    opened: list[Journal] = []

    def one(number: int, salt: str) -> SealedBatch:
        row = hashlib.sha256(f"{salt}/{number}".encode()).digest()[:4]
        leaf = hashlib.sha256(b"\x00" + row).digest()
        payload = Payload(4, leaf, np.arange(1, dtype=np.uint32), row, ()).to_bytes()
        digest, root = hashlib.sha256(payload).hexdigest(), tree_root([leaf]).hex()
        return SealedBatch(Header("erasures", "", "f", "", number, 1, "operator", number, (), 1, root, digest), payload)

    def make(at: Path | Journal, count: int, *, salt: str = "", commit: bool = True) -> Journal:
        journal = at if isinstance(at, Journal) else Journal.create(at, LOG_ORIGIN, LOG_KEY)
        if journal is not at:
            opened.append(journal)
        for number in range(len(journal), len(journal) + count):
            journal.append(one(number, salt))
        if commit:
            journal.commit(len(journal))
        return journal

    yield make
    for journal in opened:
        journal.close()
