"""The report of a run is one page that needs nothing else, shows nothing twice and hides what is erased."""

import base64
import hashlib
import json
import re
from decimal import Decimal
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from rich.console import Console

from tellegen.errors import InputError
from tellegen.report import render_summary, write_report
from tellegen.report.measures import measures
from tellegen.report.packing import pack_series
from tellegen.report.sankey import arrows, draw_flows
from tellegen.report.summary import Flow, read_summary

FIRST, COUNT = 4_875_408, 24
NODES = ["grid", "busbar", "pole-1", "pole-2"]
EVIL, GONE = "<script>alert('home')</script>", "home-gone"
NAMES = {1: "home-001", 2: EVIL, 3: GONE}
HOME = {1: 2, 2: 3, 3: 3}
WORLDS = ["market", "flat_smart", "time_of_use", "flat"]
ABOUT = ["Simulated: a <made up> day.", "Seed 7; rules: of nobody."]


def summary() -> dict[str, Any]:
    """A run's summary, small and plausible."""
    figures = {
        "welfare_eur": 1.5, "wholesale_cost_eur": 2.5, "bills_eur": 4.25, "adjusted_cost_eur": 2.75, "import_kwh": 31.0,
        "bills_before_tax_eur": 3.0, "tax_eur": 1.25, "used_kwh": 40.0, "stores": {"owed_to_cars_kwh": [179.2, 167.0]},
        "peak_kw": 9.4, "peak_at": "2016-05-07T23:15:00+00:00", "export_peak_kw": 3.0, "losses_kwh": 0.4,
        "losses_percent": 1.29, "v_min_pu": 0.97, "v_max_pu": 1.04, "voltage_violations": 0, "loading_violations": 0,
    }  # fmt: skip
    worlds = [{"name": name, "title": name, **figures} for name in WORLDS]
    worlds[3]["voltage_violations"] = 17
    return {
        "name": "A <b>bold</b> day",
        "about": ABOUT,
        "seed": 7,
        "feeder": {"grid": "test", "nodes": 4, "customers": 3, "devices": {"pv": 1, "batteries": 0, "vehicles": 2}},
        "day": {"date": "2016-05-08", "timezone": "Europe/Berlin", "first_interval": FIRST, "intervals": COUNT},
        "worlds": worlds,
        "comparisons": [
            {"vs": "flat", "saving_eur": 1.25, "winners": 2, "losers": 1, "text": "The market saves 1.25."}
        ],
        "prices": {"real_time": {"min": -0.01, "mean": 0.08, "max": 0.2, "parts_mean": {"root": 0.079}}},
        "statuses": {"optimal": 26, "relaxed": 0, "fallback": 0},
        "evidence": {"max_kkt": 2.5e-8, "fd_max_relative": None},
        "money": {
            "in_eur": "4.250000001",
            "out_eur": "4.250000001",
            "balanced": True,
            "accounts": {"customers": "4.250000001", "network": "-4.250000001", GONE: "0.000000000"},
        },
        "flows": [
            {"from": "customers", "to": "wholesale", "eur": "3.000000000"},
            {"from": "customers", "to": "network", "eur": "1.250000001"},
        ],
        "record": {
            "entries": 60,
            "checkpoints": 26,
            "receipts_checked": 52,
            "verify_ok": True,
            "verify_checks": [{"name": "receipts", "ok": True, "count": 52, "detail": "under a <signed> checkpoint"}],
        },
        "correction": {
            "customer": EVIL,
            "from": "2016-05-07T22:00:00+00:00",
            "to": "2016-05-07T23:00:00+00:00",
            "intervals": 12,
            "accounts_moved": 3,
            "own_move_eur": -0.02,
            "replay_equal": True,
            "text": "A meter stood still.",
        },
        "erased": [GONE],
    }


def tables() -> dict[str, pl.DataFrame]:
    """A run's tables: two hours on four nodes, three homes, one of them erased but left in every table."""
    intervals = np.arange(FIRST, FIRST + COUNT)
    per_node = {"interval": np.repeat(intervals, 4), "node_index": np.tile(np.arange(4), COUNT)}
    root = np.repeat(80_000 + 10 * np.arange(COUNT), 4)
    losses = np.tile([0, 10, 400, 900], COUNT)
    real_time = pl.DataFrame(
        {"market": "real_time", **per_node, "energy": root + losses, "root": root, "losses": losses}
    )
    hourly = real_time.filter(pl.col("interval") % 12 == 0).with_columns(market=pl.lit("day_ahead"))
    zero = [pl.lit(0).alias(name) for name in ("congestion", "voltage", "reactive")]
    prices = pl.concat([real_time, hourly]).with_columns(*zero, low=pl.col("energy") - 50, high=pl.col("energy") + 50)
    homes = pl.DataFrame({"customer": list(NAMES), "name": list(NAMES.values())})
    energy = homes.join(pl.DataFrame({"interval": intervals}), how="cross").with_columns(
        import_wh=pl.when(pl.col("customer") == 1).then(0).otherwise(100 * pl.col("customer")),
        export_wh=pl.when(pl.col("customer") == 1).then(250).otherwise(0),
        reactive_varh=pl.lit(5),
        quality=pl.when(pl.col("customer") == 2).then(pl.lit("corrected")).otherwise(pl.lit("measured")),
        rule=pl.lit("none"),
    )
    worlds = pl.DataFrame({"world": WORLDS}).join(pl.DataFrame({"interval": intervals}), how="cross")
    lines = pl.DataFrame({"line": ["forward", "network_fixed"], "quantity": [4000, 0]}).with_columns(
        amount=pl.Series([320_000_000, 150_000_000]), cents=pl.Series([32, 15])
    )
    return {
        "prices": prices,
        "nodes": pl.DataFrame(
            {
                "node_index": range(4),
                "node": NODES,
                "parent": [-1, 0, 1, 1],
                "path_r_pu": [0.0, 0.01, 0.05, 0.09],
                "customers": [0, 0, 1, 2],
            }
        ),
        "energy": energy,
        "devices": energy.select("customer", "name", "interval", device=pl.lit("pv"), power_w=pl.lit(-3000.0)),
        "worlds": worlds.with_columns(
            root_kw=pl.lit(5.5),
            losses_kw=pl.lit(0.2),
            v_min_pu=pl.lit(0.97),
            v_max_pu=pl.lit(1.04),
            voltage_violations=pl.lit(0),
            loading_violations=pl.lit(0),
            max_loading_percent=pl.lit(40.0),
        ),
        "voltages": worlds.join(pl.DataFrame({"node_index": range(4)}), how="cross").with_columns(
            pu=pl.lit(1.0125, dtype=pl.Float32)
        ),
        "wholesale": pl.DataFrame({"interval": intervals, "day_ahead": 80_000, "real_time": 81_000}),
        "world_energy": worlds.join(homes.select("customer"), how="cross").with_columns(net_wh=pl.lit(-250)),
        "statements": homes.join(lines, how="cross"),
        "bills": homes.join(lines.drop("quantity"), how="cross").with_columns(world=pl.lit("flat")),
        "schedules": pl.DataFrame({"customer": list(HOME), "node_index": list(HOME.values())}),
    }


def write_run(folder: Path, document: dict[str, Any], frames: dict[str, pl.DataFrame]) -> Path:
    (folder / "tables").mkdir(parents=True)
    (folder / "summary.json").write_text(json.dumps(document))
    for name, frame in frames.items():
        frame.write_parquet(folder / "tables" / f"{name}.parquet")
    return folder


def page_of(folder: Path) -> str:
    write_report(folder)
    return (folder / "report.html").read_text(encoding="utf-8")


def data_of(page: str) -> dict[str, Any]:
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.S)
    assert found
    data: dict[str, Any] = json.loads(found[1])
    return data


def unpacked(packed: dict[str, Any]) -> np.ndarray:
    """What the page's script reads: an independent reading of the packed form."""
    stream = iter(base64.b64decode(packed["data"]))

    def whole() -> int | None:
        value = shift = 0
        for byte in stream:
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value
        return None

    values, level = [], 0
    while (code := whole()) is not None:
        if code == 0:
            values += [level] * (1 + (whole() or 0))
        else:
            level += -((code + 1) // 2) if code % 2 else code // 2
            values.append(level)
    return np.array(values, dtype=np.int64).reshape(packed["rows"], -1)


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> str:
    return page_of(write_run(tmp_path_factory.mktemp("run"), summary(), tables()))


def test_the_page_asks_nothing_of_any_network(page: str) -> None:
    """The only address is in the chart library's licence comment, and nothing is loaded by one."""
    assert re.findall(r"(?:https?:)?//[a-z][\w.-]*\.[a-z]{2,}[^\s\"'*]*", page) == ["https://github.com/leeoniya/uPlot"]
    assert not re.findall(r"<(?:link|img|iframe|object|embed)\b|@import|\bsrc\s*=|\bfetch\(|XMLHttpRequest", page)
    assert set(re.findall(r'href="([^"]*)"', page)) <= {f"#{part}" for part in re.findall(r'<section id="(\w+)"', page)}


def test_only_the_scripts_of_the_page_may_run(page: str) -> None:
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]*)"', page)
    assert policy
    scripts = re.findall(r"<script>(.*?)</script>", page, re.S)
    allowed = re.findall(r"'sha256-([^']*)'", policy[1])
    assert allowed == [base64.b64encode(hashlib.sha256(s.encode()).digest()).decode() for s in scripts]
    assert "default-src 'none'" in policy[1]


def test_data_is_text_and_never_markup(page: str) -> None:
    assert EVIL not in page
    assert "<b>bold</b>" not in page
    assert "<signed>" not in page
    assert "&lt;b&gt;bold&lt;/b&gt;" in page
    assert [c["name"] for c in data_of(page)["customers"]] == ["home-001", EVIL]


def test_the_same_run_gives_the_same_page(page: str, tmp_path: Path) -> None:
    assert page_of(write_run(tmp_path / "again", summary(), tables())) == page


def test_an_erased_customer_is_nowhere_on_the_page(page: str) -> None:
    """Law 6: what is erased is not shown again, even if a table still names it."""
    assert GONE not in page
    assert "an erased customer" in page


def test_money_in_equals_money_out_to_the_last_unit(page: str, tmp_path: Path) -> None:
    shown = re.search(r'<p class="equation (\w+)">(.*?)</p>', page, re.S)
    assert shown
    assert shown[1] == "good"
    assert shown[2].count("4.250000001") == 2
    assert "<td>sum</td><td>0.000000000</td>" in page
    document = summary()
    document["money"]["out_eur"] = "4.250000002"
    assert '<p class="equation bad">' in page_of(write_run(tmp_path / "off", document, tables()))


def test_a_meter_that_exports_is_drawn_below_zero(page: str) -> None:
    first, second = data_of(page)["customers"]
    assert (unpacked(first["metered"]) == -250).all()
    assert first["metered"]["unit"] == pytest.approx(0.012)  # 1 Wh in five minutes is 12 W
    assert (unpacked(second["metered"]) == 200).all()
    assert "quality" not in first
    assert (unpacked(second["quality"]) == 2).all()


def test_an_hourly_price_stands_until_the_next(page: str) -> None:
    markets = data_of(page)["markets"]
    hourly, five_minutes = unpacked(markets["day_ahead"]["energy"]), unpacked(markets["real_time"]["energy"])
    assert hourly.shape == five_minutes.shape == (4, COUNT)
    assert (hourly == five_minutes[:, np.arange(COUNT) // 12 * 12]).all()


def test_price_parts_add_up_to_the_price(page: str) -> None:
    market = data_of(page)["markets"]["real_time"]
    parts = sum(unpacked(market[part]) for part in ("root", "losses", "congestion", "voltage"))
    assert (parts == unpacked(market["energy"])).all()
    assert market["energy"]["unit"] == pytest.approx(1e-3)  # ten micro-euro are a thousandth of a cent
    assert (unpacked(market["high"]) == 5).all()


def test_a_customer_is_priced_at_its_own_node(page: str) -> None:
    assert [c["node"] for c in data_of(page)["customers"]] == [2, 3]


def test_a_bill_keeps_its_cents(page: str) -> None:
    bills = data_of(page)["customers"][0]["bills"]
    assert bills["market"] == [["forward", 4000, 320_000_000, 32], ["network_fixed", 0, 150_000_000, 15]]
    assert bills["flat"] == [["forward", None, 320_000_000, 32], ["network_fixed", None, 150_000_000, 15]]


def test_a_short_run_has_a_page_of_what_there_is(tmp_path: Path) -> None:
    document = {key: summary()[key] for key in ("name", "day")} | {"erased": []}
    document["day"]["complete"] = False
    page = page_of(write_run(tmp_path / "bare", document, {}))
    assert "rehearsal" in page
    assert data_of(page)["customers"] == []
    kept = {name: tables()[name] for name in ("nodes", "voltages", "energy")}
    assert data_of(page_of(write_run(tmp_path / "some", document, kept)))["markets"] == {}


@pytest.mark.parametrize(
    ("name", "change", "words"),
    [
        ("prices", lambda f: f.drop("voltage"), "prices.parquet: column 'voltage' is missing"),
        ("prices", lambda f: f.filter(pl.col("node_index") != 2), "prices.parquet: node 2 has no energy"),
        ("voltages", lambda f: f.with_columns(node_index=pl.lit(9)), "voltages.parquet: node 9 is not in nodes"),
    ],
)
def test_a_broken_table_is_named_and_no_page_is_left(tmp_path: Path, name: str, change: Any, words: str) -> None:
    frames = tables()
    frames[name] = change(frames[name])
    folder = write_run(tmp_path / "broken", summary(), frames)
    with pytest.raises(InputError, match=re.escape(words)):
        write_report(folder)
    assert sorted(p.name for p in folder.iterdir()) == ["summary.json", "tables"]


def test_an_unreadable_summary_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"summary\.json: file cannot be read"):
        write_report(tmp_path)
    document = summary()
    document["day"]["timezone"] = "Mars/Olympus"
    with pytest.raises(InputError, match=r"key 'day\.timezone'"):
        write_report(write_run(tmp_path / "mars", document, {}))


@given(arrays(np.int64, st.tuples(st.integers(1, 4), st.integers(1, 30)), elements=st.integers(-(2**50), 2**50)))
def test_packing_loses_nothing(matrix: np.ndarray) -> None:
    assert (unpacked(pack_series(matrix)) == matrix).all()


@given(st.lists(st.sampled_from([0, 0, 0, 7]), min_size=1, max_size=600))
def test_packing_loses_nothing_of_flat_stretches(values: list[int]) -> None:
    assert unpacked(pack_series(np.array(values))).ravel().tolist() == values


def test_a_negative_payment_is_an_arrow_the_other_way() -> None:
    flows = [Flow(origin="homes", target="grid", eur=Decimal("-3")), Flow(origin="homes", target="tax", eur=Decimal(0))]
    assert [(a.origin, a.target, a.amount) for a in arrows(flows)] == [("grid", "homes", Decimal(3))]


def test_bands_of_the_money_flow_are_in_proportion() -> None:
    flows = [
        Flow(origin="homes", target="market", eur=Decimal(30)),
        Flow(origin="market", target="wholesale", eur=Decimal(20)),
        Flow(origin="market", target="homes", eur=Decimal(10)),  # comes back, so it gets an end of its own
    ]
    picture = draw_flows(flows, "EUR")
    heights = [float(h) for h in re.findall(r'<rect class="party[^>]*height="([\d.]+)"', picture)]
    assert sorted(round(h / min(heights), 2) for h in heights) == [1, 2, 3, 3]
    assert "homes (back)" in picture


def test_what_is_simulated_is_said_before_any_figure(page: str) -> None:
    lead = page[page.index('<div class="lead">') :]
    assert lead.startswith('<div class="lead"><p class="about">Simulated: a &lt;made up&gt; day.<br>Seed 7;')


def test_the_worlds_stand_beside_each_other_in_a_hundred_columns() -> None:
    """The usual terminal beside an editor: no figure and no title of a row is broken or cut."""
    document = summary()
    for world in document["worlds"]:
        world |= {"wholesale_cost_eur": -1234.56, "peak_kw": 402.9, "drawn_from_stores_kwh": -119.5}
    console = Console(file=StringIO(), width=100, force_terminal=False)
    console.print(render_summary(document))
    lines = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    assert [line.strip() for line in lines[1:3]] == ABOUT
    at = next(k for k, line in enumerate(lines) if "Energy bought wholesale" in line)
    rows = [line for line in lines[at:] if line.strip()][: len(measures(read_summary(document)))]
    assert [row.title for row in measures(read_summary(document))] == [line[1:28].strip() for line in rows]
    for row, line in zip(measures(read_summary(document)), rows, strict=True):
        assert all(cell in line for cell in row.cells)


def test_the_terminal_shows_the_figures_a_person_asks_for() -> None:
    document = summary()
    document["name"] = "A [red]day[/red]"
    console = Console(file=StringIO(), width=110, force_terminal=False)
    console.print(render_summary(document))
    shown = " ".join(console.file.getvalue().split())  # type: ignore[attr-defined]
    for words in ("A [red]day[/red]", "2.75", "9.4", "17", "0.0790", "in 4.250000001 = out 4.250000001", "52 receipts"):
        assert words in shown, words
    assert "3 bills moved" in shown
    assert "equal a full replay" in shown


def test_what_was_compared_is_shown_where_no_price_could_be() -> None:
    document = summary()
    document["evidence"] = {"replay_max_dv_pu": 2e-10, "fd_max_relative": None}
    console = Console(file=StringIO(), width=110, force_terminal=False)
    console.print(render_summary(document))
    shown = " ".join(console.file.getvalue().split())  # type: ignore[attr-defined]
    assert "OpenDSS replays the dispatch to 2e-10 pu; no price is unique, none was compared" in shown
