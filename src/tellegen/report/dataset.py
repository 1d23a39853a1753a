"""The series behind the charts: tables of a run, cut to its day and packed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from tellegen.errors import InputError
from tellegen.records import Quality
from tellegen.report.packing import pack_series
from tellegen.report.summary import Summary
from tellegen.report.words import LINE_TITLES, WORLD_TITLES, in_order
from tellegen.units import MARKET_INTERVAL_S

IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float64]

PRICE_STEP_MICROS = 10
"""Prices are shown to a thousandth of a cent."""
VOLTAGE_STEPS = 10_000
"""Voltages are shown to a ten-thousandth of nominal."""
POWER_STEPS_PER_KW = 100
"""Powers are shown to 10 W."""
PARTS = ("root", "losses", "congestion", "voltage")
DEVICE_ORDER = ("load", "heat_pump", "water_heater", "vehicle", "battery", "pv")


@dataclass(frozen=True, slots=True)
class Window:
    """The market intervals of the run: `count` from number `first`."""

    first: int
    count: int

    def cut(self, frame: pl.DataFrame) -> pl.DataFrame:
        """Rows whose interval lies in the window."""
        return frame.filter(pl.col("interval").is_between(self.first, self.first + self.count, closed="left"))


class Tables:
    """Parquet tables of a run; one that a run did not write reads as None."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def read(self, name: str, columns: Sequence[str], needed: bool = True) -> pl.DataFrame | None:
        """Columns of a table; if not `needed`, None also where a column is missing.

        Raises
        ------
        InputError : the table is there but unreadable, or lacks a needed column.
        """
        path = self.folder / f"{name}.parquet"
        if not path.exists():
            return None
        try:
            frame = pl.read_parquet(path)
        except (OSError, pl.exceptions.PolarsError) as error:
            raise InputError(path, "file", f"cannot be read ({error}); run the scenario again") from None
        for column in columns:
            if column not in frame.columns:
                if not needed:
                    return None
                raise InputError(path, f"column '{column}'", "is missing")
        return frame.select(columns)


def collect(summary: Summary, folder: Path) -> dict[str, object]:
    """Everything the charts draw, ready for JSON.

    Parameters
    ----------
    summary : names the day's window, the worlds and the customers that were erased.
    folder : holds the tables; each is optional.

    Raises
    ------
    InputError : a table lacks a column, or values for a node or customer it should have.
    """
    tables = Tables(folder)
    window = Window(summary.day.first_interval, summary.day.intervals)
    nodes = _nodes(tables)
    index_of = {} if nodes is None else {int(index): row for row, index in enumerate(nodes["node_index"])}
    return {
        "timezone": summary.day.timezone,
        "start": window.first * MARKET_INTERVAL_S,
        "step": MARKET_INTERVAL_S,
        "count": window.count,
        "currency": summary.currency,
        "limits": [summary.feeder.v_min_pu, summary.feeder.v_max_pu],
        "lines": LINE_TITLES,
        "nodes": None if nodes is None else _tree(nodes, index_of),
        "markets": _markets(tables, window, index_of),
        "worlds": _worlds(summary, tables, window, index_of),
        "wholesale": _wholesale(tables, window),
        "customers": _customers(summary, tables, window, index_of),
    }


def _nodes(tables: Tables) -> pl.DataFrame | None:
    frame = tables.read("nodes", ["node_index", "node", "parent", "path_r_pu", "customers"])
    return None if frame is None or frame.is_empty() else frame.sort("node_index")


def _tree(nodes: pl.DataFrame, index_of: dict[int, int]) -> dict[str, object]:
    return {
        "names": [str(name) for name in nodes["node"]],
        "parents": [index_of.get(int(parent), -1) for parent in nodes["parent"]],
        "distances": [round(float(value), 6) for value in nodes["path_r_pu"]],
        "customers": [int(value) for value in nodes["customers"]],
    }


def _held(matrix: FloatArray, missing: Callable[[int], InputError]) -> FloatArray:
    """Hold each row's last value through gaps (an hourly price stands until the next)."""
    known = ~np.isnan(matrix)
    if not known.any(axis=1).all():
        raise missing(int(np.flatnonzero(~known.any(axis=1))[0]))
    at = np.maximum.accumulate(np.where(known, np.arange(matrix.shape[1]), -1), axis=1)
    first = known.argmax(axis=1)
    return np.asarray(np.take_along_axis(matrix, np.where(at < 0, first[:, None], at), axis=1))


def _matrix(frame: pl.DataFrame, value: str, rows: FloatArray | IntArray, count: int, window: Window) -> FloatArray:
    """Long form to ``float64[count, window.count]``, NaN where there is no row."""
    matrix = np.full((count, window.count), np.nan)
    columns = frame["interval"].to_numpy().astype(np.int64) - window.first
    matrix[np.asarray(rows, dtype=np.int64), columns] = frame[value].to_numpy().astype(np.float64)
    return matrix


def _rounded(matrix: FloatArray) -> IntArray:
    return np.rint(matrix).astype(np.int64)


def _by_node(frame: pl.DataFrame, value: str, index_of: dict[int, int], window: Window, source: str) -> FloatArray:
    """``float64[node, interval]`` of a table with columns `node_index` and `interval`."""
    rows = frame["node_index"].replace_strict(list(index_of), list(index_of.values()), default=-1).to_numpy()
    if rows.size and int(rows.min()) < 0:
        unknown = int(frame["node_index"].to_numpy()[int(rows.argmin())])
        raise InputError(f"{source}.parquet", f"node {unknown}", "is not in nodes.parquet")
    names = list(index_of)
    return _held(
        _matrix(frame, value, rows, len(index_of), window),
        lambda row: InputError(f"{source}.parquet", f"node {names[row]}", f"has no {value} in the run's day"),
    )


def _markets(tables: Tables, window: Window, index_of: dict[int, int]) -> dict[str, object]:
    columns = ["market", "interval", "node_index", "energy", *PARTS, "low", "high"]
    settled, guide = tables.read("prices", columns), tables.read("guide_prices", columns)
    if settled is None or not index_of:
        return {}
    markets: dict[str, object] = {}
    for name, frame, market in (
        ("real_time", settled, "real_time"),
        ("day_ahead", settled, "day_ahead"),
        ("guide", guide, "real_time"),
    ):
        if frame is None or (rows := window.cut(frame).filter(pl.col("market") == market)).is_empty():
            continue
        series: dict[str, object] = {}
        for column in ("energy", *PARTS, "low", "high"):
            prices = _rounded(_by_node(rows, column, index_of, window, "prices") / PRICE_STEP_MICROS)
            if column == "energy":
                energy = prices
            if column in {"low", "high"}:
                # as distance from the price: nearly always zero, so nearly free
                prices = prices - energy
                if not prices.any():
                    continue
            if column == "root" and (prices == prices[0]).all():
                prices = prices[:1]
            series[column] = pack_series(prices, PRICE_STEP_MICROS * 1e-4)  # micros per kWh to cents per kWh
        markets[name] = series
    return markets


def _worlds(summary: Summary, tables: Tables, window: Window, index_of: dict[int, int]) -> list[dict[str, object]]:
    columns = ["root_kw", "losses_kw", "v_min_pu", "v_max_pu", "voltage_violations", "max_loading_percent"]
    units = [1 / POWER_STEPS_PER_KW, 1e-3, 1 / VOLTAGE_STEPS, 1 / VOLTAGE_STEPS, 1.0, 0.1]
    totals = tables.read("worlds", ["world", "interval", *columns])
    voltages = tables.read("voltages", ["world", "interval", "node_index", "pu"])
    worlds = []
    for world in summary.worlds:
        entry: dict[str, object] = {
            "name": world.name,
            "title": WORLD_TITLES.get(world.name, world.title or world.name),
        }
        if totals is not None:
            mine = window.cut(totals).filter(pl.col("world") == world.name)
            for column, unit in zip(columns if not mine.is_empty() else [], units, strict=False):
                held = _held(
                    _matrix(mine, column, np.zeros(mine.height, dtype=np.int64), 1, window),
                    lambda _, name=column, of=world.name: InputError(  # type: ignore[misc]
                        "worlds.parquet", f"world '{of}'", f"has no {name}"
                    ),
                )
                entry[column] = pack_series(_rounded(held / unit), unit)
        if voltages is not None and index_of:
            at_nodes = window.cut(voltages).filter(pl.col("world") == world.name)
            if not at_nodes.is_empty():
                held = _by_node(at_nodes, "pu", index_of, window, "voltages")
                entry["voltages"] = pack_series(_rounded(held * VOLTAGE_STEPS), 1 / VOLTAGE_STEPS)
        worlds.append(entry)
    return worlds


def _wholesale(tables: Tables, window: Window) -> dict[str, object]:
    frame = tables.read("wholesale", ["interval", "day_ahead", "real_time"])
    if frame is None:
        return {}
    inside = window.cut(frame)
    if inside.is_empty():
        return {}
    rows = np.zeros(inside.height, dtype=np.int64)
    series: dict[str, object] = {}
    for column in ("day_ahead", "real_time"):
        held = _held(
            _matrix(inside, column, rows, 1, window),
            lambda _, name=column: InputError("wholesale.parquet", f"column '{name}'", "is empty"),  # type: ignore[misc]
        )
        series[column] = pack_series(_rounded(held / PRICE_STEP_MICROS), PRICE_STEP_MICROS * 1e-4)
    return series


def _customers(summary: Summary, tables: Tables, window: Window, index_of: dict[int, int]) -> list[dict[str, object]]:
    """One entry per customer that was not erased, in the order of their numbers."""
    erased = summary.erased
    energy = tables.read("energy", ["customer", "name", "interval", "import_wh", "export_wh", "quality"])
    if energy is None:
        return []
    energy = window.cut(energy).filter((pl.col("customer") > 0) & ~pl.col("name").is_in(erased))
    names = energy.select("customer", "name").unique().sort("customer")
    numbers = [int(number) for number in names["customer"]]
    row_of = {number: row for row, number in enumerate(numbers)}
    entries: list[dict[str, object]] = [
        {"number": number, "name": str(name)} for number, name in zip(numbers, names["name"], strict=True)
    ]
    _add_nodes(entries, row_of, tables, index_of)
    _add_readings(entries, row_of, energy, window)
    _add_worlds(entries, row_of, tables, window)
    _add_devices(entries, row_of, tables, window)
    _add_bills(entries, row_of, tables)
    return entries


def _known(frame: pl.DataFrame, row_of: dict[int, int]) -> tuple[pl.DataFrame, IntArray]:
    """Rows of known customers, and which entry each belongs to."""
    kept = frame.filter(pl.col("customer").is_in(list(row_of)))
    rows = kept["customer"].replace_strict(list(row_of), list(row_of.values()), return_dtype=pl.Int64)
    return kept, rows.to_numpy()


def _add_nodes(
    entries: list[dict[str, object]], row_of: dict[int, int], tables: Tables, index_of: dict[int, int]
) -> None:
    # Enrolment where the run wrote it, else where the market priced the customer.
    for name in ("customers", "schedules"):
        frame = tables.read(name, ["customer", "node_index"], needed=False)
        if frame is not None:
            break
    else:
        return
    for number, node in frame.unique().sort("customer", "node_index").iter_rows():
        if int(number) in row_of and int(node) in index_of:
            entries[row_of[int(number)]]["node"] = index_of[int(node)]


def _add_readings(
    entries: list[dict[str, object]], row_of: dict[int, int], energy: pl.DataFrame, window: Window
) -> None:
    kept, rows = _known(energy, row_of)
    net = kept.with_columns(net=pl.col("import_wh").cast(pl.Int64) - pl.col("export_wh").cast(pl.Int64))
    net_wh = np.nan_to_num(_matrix(net, "net", rows, len(entries), window))
    if net["quality"].dtype == pl.String:
        ranks = {member.name.lower(): int(member) for member in Quality}
        net = net.with_columns(pl.col("quality").replace_strict(ranks, default=int(Quality.ESTIMATED)))
    quality = np.nan_to_num(_matrix(net, "quality", rows, len(entries), window))
    quality[quality == Quality.PROFILED] = Quality.MEASURED  # a reading stands behind it as well
    for row, entry in enumerate(entries):
        entry["metered"] = pack_series(_rounded(net_wh[row]), 0.012)  # Wh in 5 minutes to mean kW
        if quality[row].any():
            entry["quality"] = pack_series(_rounded(quality[row]))


def _add_worlds(entries: list[dict[str, object]], row_of: dict[int, int], tables: Tables, window: Window) -> None:
    frame = tables.read("world_energy", ["world", "customer", "interval", "net_wh"])
    if frame is None:
        return
    inside = window.cut(frame)
    for entry in entries:
        entry["worlds"] = {}
    for world in sorted(str(name) for name in inside["world"].unique()):
        kept, rows = _known(inside.filter(pl.col("world") == world), row_of)
        net_wh = np.nan_to_num(_matrix(kept, "net_wh", rows, len(entries), window))
        for row in np.unique(rows):
            series = entries[row]["worlds"]
            assert isinstance(series, dict)
            series[world] = pack_series(_rounded(net_wh[row]), 0.012)


def _add_devices(entries: list[dict[str, object]], row_of: dict[int, int], tables: Tables, window: Window) -> None:
    frame = tables.read("devices", ["customer", "interval", "device", "power_w"])
    if frame is None:
        return
    inside = window.cut(frame).group_by("customer", "interval", "device").agg(pl.col("power_w").sum())
    found = in_order(sorted(str(name) for name in inside["device"].unique()), DEVICE_ORDER)
    power_kw: dict[str, FloatArray] = {}
    for device in found:
        kept, rows = _known(inside.filter(pl.col("device") == device), row_of)
        power_kw[device] = np.nan_to_num(_matrix(kept, "power_w", rows, len(entries), window)) / 1000.0
    net = tables.read("world_energy", ["world", "customer", "interval", "net_wh"])
    if "load" not in power_kw and net is not None:
        # What no device drew is the household's own; the market's plant knows the net exactly.
        kept, rows = _known(window.cut(net).filter(pl.col("world") == "market"), row_of)
        net_kw = _matrix(kept, "net_wh", rows, len(entries), window) * 0.012
        rest = net_kw - sum(power_kw.values(), np.zeros_like(net_kw))
        power_kw = {"load": np.nan_to_num(rest)} | power_kw
    for row, entry in enumerate(entries):
        steps = {device: _rounded(series[row] * POWER_STEPS_PER_KW) for device, series in power_kw.items()}
        entry["devices"] = [
            [device, pack_series(series, 1 / POWER_STEPS_PER_KW)] for device, series in steps.items() if series.any()
        ]


def _add_bills(entries: list[dict[str, object]], row_of: dict[int, int], tables: Tables) -> None:
    """Bills by world: rows of line, quantity (None where unknown), amount in nanos, cents."""
    bills: list[dict[str, list[list[object]]]] = [{} for _ in entries]
    order = {line: place for place, line in enumerate(LINE_TITLES)}
    statements = tables.read("statements", ["customer", "line", "quantity", "amount", "cents"])
    others = tables.read("bills", ["world", "customer", "line", "amount", "cents"])
    parts = []
    if statements is not None:
        parts.append(statements.with_columns(world=pl.lit("market"), quantity=pl.col("quantity").cast(pl.Int64)))
    if others is not None:
        parts.append(others.with_columns(quantity=pl.lit(None, dtype=pl.Int64)))
    columns = ["world", "customer", "line", "quantity", "amount", "cents"]
    casts = [pl.col("customer").cast(pl.Int64), pl.col("amount").cast(pl.Int64), pl.col("cents").cast(pl.Int64)]
    for part in parts:
        kept = part.select(columns).with_columns(casts).filter(pl.col("customer").is_in(list(row_of)))
        rows = sorted(kept.iter_rows(), key=lambda r: (r[1], r[0], order.get(r[2], len(order)), r[2]))
        for world, customer, line, quantity, amount, cents in rows:
            bills[row_of[customer]].setdefault(world, []).append([line, quantity, amount, cents])
    for entry, mine in zip(entries, bills, strict=True):
        entry["bills"] = mine
