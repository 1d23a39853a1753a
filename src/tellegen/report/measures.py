"""The comparison of worlds, row by row: what the page and the terminal show of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tellegen.report.summary import Summary, World
from tellegen.report.words import NONE, WORLD_TITLES, clock, in_words, money, number

COST, BILLS = "Cost of the day", "Bills with taxes"
"""Titles of the rows that are sums."""


@dataclass(frozen=True, slots=True)
class Measure:
    """One row of the comparison of worlds: what it is called and what each world shows."""

    title: str
    cells: tuple[str, ...]
    group: str


def world_title(world: World) -> str:
    """Short title of a world."""
    return WORLD_TITLES.get(world.name, world.title or in_words(world.name))


def measures(summary: Summary) -> list[Measure]:
    """The comparison of worlds, row by row, shared by the page and the terminal."""
    worlds, currency, zone = summary.worlds, summary.currency, summary.day.timezone
    rows: list[Measure] = []

    def add(group: str, title: str, cells: Sequence[str]) -> None:
        if any(cell != NONE for cell in cells):
            rows.append(Measure(title, tuple(cells), group))

    def amount(title: str, field: str, group: str = "What it cost everybody", sign: int = 1) -> None:
        values = [getattr(world, field) for world in worlds]
        add(group, title, [NONE if v is None else money(sign * v, currency) for v in values])

    def figure(title: str, field: str, digits: int, unit: str, group: str = "What the wires saw") -> None:
        values = [getattr(world, field) for world in worlds]
        add(group, title, [NONE if v is None else f"{number(v, digits)}{unit}" for v in values])

    def held(title: str, store: str) -> None:
        ends = [world.stores.get(store) for world in worlds]
        cells = [NONE if e is None else f"{number(e[0])} → {number(e[1])}\xa0kWh" for e in ends]
        add("What was used", title, cells)

    amount("Energy bought wholesale", "wholesale_cost_eur")
    amount("Battery wear", "wear_eur")
    amount("Discomfort", "discomfort_eur")
    amount("Energy not served", "unmet_eur")
    amount("Energy drawn from stores", "stored_change_eur", sign=-1)
    amount(COST, "adjusted_cost_eur")
    amount("Bills before taxes", "bills_before_tax_eur", "Who paid")
    amount("of which network", "network_eur", "Who paid")
    amount("Taxes", "tax_eur", "Who paid")
    amount(BILLS, "bills_eur", "Who paid")
    figure("Imported, homes' meters", "import_kwh", 0, "\xa0kWh", "What was used")
    figure("Exported, homes' meters", "export_kwh", 0, "\xa0kWh", "What was used")
    figure("Used in the homes", "used_kwh", 0, "\xa0kWh", "What was used")
    figure("of which into cars", "cars_kwh", 0, "\xa0kWh", "What was used")
    figure("Drawn from stores", "drawn_from_stores_kwh", 1, "\xa0kWh", "What was used")
    held("In batteries, start → end", "batteries_kwh")
    held("Owed to cars, start → end", "owed_to_cars_kwh")
    held("Heat kept, start → end", "heat_kwh")
    peaks = [
        NONE
        if w.peak_kw is None
        else f"{number(w.peak_kw, 1)}\xa0kW" + (f",\xa0{clock(w.peak_at, zone)}" if w.peak_at else "")
        for w in worlds
    ]
    add("What the wires saw", "Highest draw, substation", peaks)
    figure("Highest feed-in", "export_peak_kw", 1, "\xa0kW")
    figure("Solar energy held back", "curtailed_kwh", 1, "\xa0kWh")
    figure("Lost in the wires", "losses_kwh", 1, "\xa0kWh")
    figure("share of the throughput", "losses_percent", 2, "\xa0%")
    spans = [
        NONE if w.v_min_pu is None or w.v_max_pu is None else f"{number(w.v_min_pu, 3)}–{number(w.v_max_pu, 3)}\xa0pu"
        for w in worlds
    ]
    add("What the wires saw", "Voltages", spans)
    limits = f"{number(summary.feeder.v_min_pu, 3)}–{number(summary.feeder.v_max_pu, 3)}"
    figure(f"Beyond {limits}, worst", "voltage_excess_pu", 4, "\xa0pu")
    figure("over nodes and hours", "voltage_excess_pu_hours", 2, "\xa0pu·h")
    figure("in node-intervals", "voltage_violations", 0, "")
    figure("Highest branch loading", "max_loading_percent", 0, "\xa0%")
    figure("Overload of branches", "overload_percent_hours", 1, "\xa0%·h")
    return rows
