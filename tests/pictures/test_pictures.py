"""Pictures show what the result holds, and can be drawn for any result."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from tellegen import pictures
from tellegen.cli.pictures import network_show
from tellegen.errors import InputError
from tellegen.pictures import canvas
from tellegen.pictures.order_stacks import stacks
from tellegen.workbench import ClearingResult, Feeder, clear, powerflow

Tellegen = Callable[..., NamedTuple]
ALL = ("feeder", "prices", "voltages", "loadings", "orders", "price_parts")


@pytest.fixture(scope="module")
def result(street: Feeder, orders_file: Path) -> ClearingResult:
    return clear(street, orders_file, root_price=0.12)


@pytest.fixture
def drawn() -> None:
    pytest.importorskip("matplotlib", reason="matplotlib is not installed (extra `pictures`)")


def texts(figure: Any) -> str:
    from matplotlib.text import Text

    return " | ".join(text.get_text() for text in figure.findobj(Text))


def points(axes: Any) -> np.ndarray:
    """Centres of all dots."""
    from matplotlib.collections import PathCollection

    return np.concatenate([np.asarray(c.get_offsets()) for c in axes.collections if isinstance(c, PathCollection)])


def test_without_matplotlib_the_extra_is_named(street: Feeder, monkeypatch: pytest.MonkeyPatch) -> None:
    canvas._figure_type.cache_clear()
    for name in [name for name in sys.modules if name.partition(".")[0] == "matplotlib"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(InputError, match=r"pictures: package matplotlib is needed: pip install 'tellegen\[pictures\]'"):
        pictures.feeder(street)
    canvas._figure_type.cache_clear()


@pytest.mark.usefixtures("drawn")
@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("options", [{"orders_only": True}, {"v_max": 1.021, "v_min": 1.0}])
def test_every_picture_of_a_clearing_shows_itself(
    street: Feeder, orders_file: Path, name: str, options: dict[str, Any]
) -> None:
    figure = getattr(pictures, name)(clear(street, orders_file, **options))
    figure.set_dpi(40)
    assert figure._repr_png_()[:8] == b"\x89PNG\r\n\x1a\n"
    assert "street" in texts(figure)


@pytest.mark.usefixtures("drawn")
def test_profiles_show_every_node_at_its_distance(street: Feeder, result: ClearingResult) -> None:
    x = street.topology.distance_ohm
    (axes,) = pictures.prices(result).axes
    shown = points(axes)
    for place in zip(x, result.clearing.prices.energy, strict=True):
        assert np.isclose(shown, place).all(axis=1).any()
    (axes,) = pictures.voltages(powerflow(street)).axes
    assert np.isclose(points(axes)[:, 1], powerflow(street).voltages["pu"].max()).any()
    levels = {float(line.get_ydata()[0]) for line in axes.lines}
    assert levels == {0.95, 1.05}
    assert "per kWh" in texts(pictures.prices(result))


@pytest.mark.usefixtures("drawn")
def test_bars_of_price_parts_end_at_the_price(result: ClearingResult) -> None:
    (axes,) = pictures.price_parts(result, "4").axes
    nodes = [int(label.get_text()) - 1 for label in axes.get_xticklabels()]
    assert nodes == [0, 1, 2, 3]
    total = np.full(len(nodes), result.root_price)
    for bars in axes.containers:
        total += [bar.get_height() for bar in bars]
    np.testing.assert_allclose(total, result.clearing.prices.energy[nodes], rtol=0, atol=1e-9)
    with pytest.raises(InputError, match="node '99'"):
        pictures.price_parts(result, "99")
    with pytest.raises(InputError, match="phase 2"):
        pictures.price_parts(result, "4", phase=2)


def test_awarded_demand_and_losses_equal_awarded_supply(street: Feeder, orders_file: Path) -> None:
    """The two stacks meet: Tellegen's theorem on one picture."""
    for options in ({}, {"orders_only": True}, {"root_limit_kw": 3.0}, {"v_max": 1.03}):
        demand, supply = stacks(clear(street, orders_file, **options))
        assert demand.awarded_kw.sum() == pytest.approx(supply.awarded_kw.sum(), abs=1e-6)  # power flow mismatch
        own = 0.0 if "orders_only" in options else 10.0
        takers = demand.awarded_kw[np.isinf(demand.awarded_price)]
        assert takers.sum() == pytest.approx(4.0 + own + clear(street, orders_file, **options).losses_kw, abs=1e-6)
        assert demand.awarded_price.tolist() == sorted(demand.awarded_price, reverse=True)
        assert supply.awarded_price.tolist() == sorted(supply.awarded_price)


@pytest.mark.usefixtures("drawn")
def test_loadings_are_ranked(street: Feeder) -> None:
    flow = powerflow(street)
    (axes,) = pictures.loadings(flow, top=2).axes
    assert [bar.get_width() for bar in axes.patches] == sorted(flow.loadings["percent"], reverse=True)[:2]


@pytest.mark.usefixtures("drawn")
def test_a_feeder_shows_only_what_there_is(street: Feeder, result: ClearingResult) -> None:
    assert "load, 10 kW in all" in texts(pictures.feeder(street))
    assert "generator, 20 kW in all" in texts(pictures.feeder(street))
    assert "voltage limit binds" in texts(pictures.feeder(result))
    assert "% of rating" in texts(pictures.feeder(result, show="loadings"))
    assert "voltage, pu" in texts(pictures.feeder(powerflow(street)))
    for subject, show in ((street, "prices"), (street, "voltages"), (powerflow(street), "prices"), (result, "moods")):
        with pytest.raises(InputError, match=f"show '{show}'"):
            pictures.feeder(subject, show=show)


@pytest.mark.usefixtures("drawn")
def test_three_phases_are_told_apart(tmp_path: Path) -> None:
    pytest.importorskip("dss", reason="dss-python is not installed (extra `plant`)")
    from tellegen.workbench import load_network

    (tmp_path / "three.dss").write_text(
        "clear\nnew circuit.three basekv=0.4 bus1=head phases=3\n"
        "new linecode.c nphases=3 r1=0.3 x1=0.1 r0=1.2 x0=0.3 c1=0 c0=0 units=km\n"
        "new line.a bus1=head bus2=mid linecode=c length=1 units=km\n"
        "new line.b bus1=mid.2 bus2=end.2 phases=1 r1=0.5 x1=0 r0=0.5 x0=0 c1=0 c0=0 length=1 units=km\n"
        "new load.a bus1=end.2 phases=1 kv=0.23 kw=2\n"
        "set voltagebases=[0.4]\ncalcvoltagebases\nsolve\n"
    )
    feeder = load_network(tmp_path / "three.dss")
    assert "phase 2 only" in texts(pictures.feeder(feeder))
    assert "phase 1 only" not in texts(pictures.feeder(feeder))
    words = texts(pictures.voltages(powerflow(feeder)))
    assert all(f"phase {k}" in words for k in (1, 2, 3))
    assert "end.2" in words


@pytest.mark.usefixtures("drawn")
def test_the_command_line_writes_all_pictures(
    street_file: Path, orders_file: Path, tellegen: Tellegen, tmp_path: Path
) -> None:
    plain = tellegen("clear", "--network", street_file, "--orders", orders_file, "--json")
    folder = tmp_path / "pictures"
    answer = tellegen("clear", "--network", street_file, "--orders", orders_file, "--json", "--pictures", folder)
    assert answer.status == 0
    assert answer.out == plain.out
    assert sorted(path.stem for path in folder.iterdir()) == sorted(ALL)
    assert str(folder) in answer.err


@pytest.mark.usefixtures("drawn")
def test_a_network_is_drawn_from_the_command_line(street_file: Path, tmp_path: Path) -> None:
    app = typer.Typer()
    app.command()(network_show)
    for name, words in (("street.svg", []), ("street.png", ["--show", "voltages"])):
        out = tmp_path / name
        done = CliRunner().invoke(app, ["--network", str(street_file), "--out", str(out), *words])
        assert done.exit_code == 0
        assert out.stat().st_size > 1000
    done = CliRunner().invoke(app, ["--network", str(street_file), "--out", str(tmp_path / "street.txt")])
    assert isinstance(done.exception, InputError)
    assert "must end in .png" in str(done.exception)
