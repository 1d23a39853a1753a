"""What the worlds of a simulated day came to, beside each other: rows that only a simulation can know."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from tellegen.records import Account, Postings
from tellegen.report.figures import Json, eur
from tellegen.report.words import DEVICE_TITLES, WORLD_TITLES, long_date, number, season, world_phrase
from tellegen.settlement import RetailBills, RetailLine, compare_bills
from tellegen.simulation.baseline import bills
from tellegen.simulation.setup import Setup
from tellegen.simulation.world_day import DEVICE_KINDS, WorldDay
from tellegen.units import INTERVALS_PER_HOUR, MICROS, NANOS, exact_sum, format_money, interval_start


def about(setup: Setup) -> list[str]:
    """What whoever sees a figure of the day must know first: that it is simulated, from what, and under whose rules."""
    scenario, community, rules = setup.scenario, setup.community, setup.rules
    grid = scenario.feeder.grid.rpartition(":")[2]
    counts = community.devices
    kinds = [
        f"{number(counts[kind].here)} {title} ({number(counts[kind].data_set)})"
        for kind, title in DEVICE_TITLES.items()
        if counts[kind].here
    ]
    changed = any(each.here != each.data_set for each in counts.values())
    devices = f"Devices {'are multiplied' if changed else 'are those of the data set'}; here, and in the data set"
    return [
        f"Simulated: a {season(community.day)} day, {long_date(community.day)}, on the SimBench feeder {grid}; "
        "load, sun and need of heat are the data set's.",
        f"{devices}: {', '.join(kinds)}." if kinds else "Nobody has devices.",
        f"Wholesale prices - {setup.wholesale.source}; {rules.root_prices.words}.",
        f"Seed {scenario.seed}; rules: {rules.title}, docket {rules.docket}, rulebook {setup.rulebook.sha256[:12]}.",
    ]


def customer_totals(postings: Postings, customers: int) -> NDArray[np.int64]:
    """Bill of customers 1..n in nano-currency, int64[n]."""
    totals = np.zeros(customers + 1, dtype=np.int64)
    theirs = postings.account > 0
    np.add.at(totals, postings.account[theirs], postings.amount[theirs])
    return totals[1:]


def world_section(setup: Setup, day: WorldDay, wholesale_nanos: int, bill_nanos: int, tax_nanos: int) -> Json:
    """One column of the comparison of worlds; every figure is defined in ``docs/scenarios.md``.

    ``cost of the day = wholesale cost + wear + discomfort + unmet - value of what is stored more``; the
    stored energy is valued at the day's mean day-ahead price. Welfare is its negative: what the other
    consumption is worth is the same in every world.
    """
    past, span = setup.wholesale.past, setup.intervals
    mean_price = float(setup.wholesale.day_ahead_micros[past : past + span].mean()) / MICROS
    drawn_kwh = float((day.opening.stored_wh - day.closing.stored_wh).sum()) / 1000.0
    stored = -drawn_kwh * mean_price
    unmet = float(day.closing.unmet_cost.sum() - day.opening.unmet_cost.sum())
    cost = wholesale_nanos / NANOS
    adjusted = cost + day.wear + day.discomfort + unmet - stored
    part = Fraction(setup.intervals, setup.community.intervals)
    network = setup.rules.settlement.network_revenue_nanos(setup.node.size, part)
    return {
        "name": day.name,
        "title": WORLD_TITLES[day.name],
        "welfare_eur": eur(round(-adjusted * NANOS)),
        "wholesale_cost_eur": eur(wholesale_nanos),
        "bills_eur": eur(bill_nanos),
        "bills_before_tax_eur": eur(bill_nanos - tax_nanos),
        "tax_eur": eur(tax_nanos),
        "network_eur": eur(network),
        "discomfort_eur": round(day.discomfort, 4),
        "unmet_eur": round(unmet, 4),
        "wear_eur": round(day.wear, 4),
        "stored_change_eur": round(stored, 4),
        "adjusted_cost_eur": eur(round(adjusted * NANOS)),
        "drawn_from_stores_kwh": round(drawn_kwh, 3),
        "stores": {
            name: [round(float(held.sum()) / 1000.0, 3) for held in ends]
            for name, ends in (
                ("batteries_kwh", (day.opening.battery_wh, day.closing.battery_wh)),
                ("owed_to_cars_kwh", (day.opening.owed_wh, day.closing.owed_wh)),
                ("heat_kwh", (day.opening.heat_wh, day.closing.heat_wh)),
            )
        },
        **_energy(day),
        **_wires(setup, day),
    }


def _energy(day: WorldDay) -> Json:
    """What meters counted and devices used, kWh."""
    imported, exported = (float(wh[:, 1:].sum()) / 1000.0 for wh in (day.import_wh, day.export_wh))
    device = dict(zip(DEVICE_KINDS, (day.device_w.sum(axis=(0, 2), dtype=np.float64) / 12e3).tolist(), strict=True))
    return {
        "import_kwh": round(imported, 3),
        "export_kwh": round(exported, 3),
        # what neither the sun gave nor a battery took
        "used_kwh": round(imported - exported - device["pv"] - device["battery"], 3),
        "cars_kwh": round(device["vehicle"], 3),
        "curtailed_kwh": round(day.curtailed_kwh, 3),
    }


def _wires(setup: Setup, day: WorldDay) -> Json:
    """What the wires carried, and how far beyond their limits."""
    limits, free = setup.limits, setup.limits.free
    voltage = day.voltage_pu[:, free].astype(np.float64)
    excess = np.maximum(voltage - limits.v_max[free], limits.v_min[free] - voltage).clip(min=0.0)
    peak, dip = int(day.root_kw.argmax()), float(day.root_kw.min())
    losses = float(day.losses_kw.sum()) / INTERVALS_PER_HOUR
    through = float(np.abs(day.root_kw).sum()) / INTERVALS_PER_HOUR
    return {
        "peak_kw": round(float(day.root_kw[peak]), 3),
        "peak_at": interval_start(setup.first + peak).isoformat(),
        "export_peak_kw": round(max(-dip, 0.0), 3),
        "losses_kwh": round(losses, 3),
        "losses_percent": round(100.0 * losses / max(through, 1e-9), 4),
        "v_min_pu": round(float(voltage.min()), 5),
        "v_max_pu": round(float(voltage.max()), 5),
        "voltage_violations": int(day.voltage_violations.sum()),
        "voltage_excess_pu": round(float(excess.max()), 6),
        "voltage_excess_pu_hours": round(float(excess.sum()) / INTERVALS_PER_HOUR, 6),
        "loading_violations": int(day.loading_violations.sum()),
        "max_loading_percent": round(float(day.loading_percent_max.max()), 2),
        "overload_percent_hours": round(float(day.overload_percent.sum()) / INTERVALS_PER_HOUR, 4),
    }


def worlds_and_comparisons(
    setup: Setup, postings: Postings, days: Mapping[str, WorldDay]
) -> tuple[list[Json], list[Json], dict[str, RetailBills]]:
    """Every world's row, the market against each baseline, and the baselines' bills."""
    market_bills = customer_totals(postings, setup.node.size)
    wholesale = -exact_sum(postings.amount[postings.account == Account.WHOLESALE])
    tax = -exact_sum(postings.amount[postings.account == Account.TAX])
    currency = setup.rules.currency
    worlds = [world_section(setup, days["market"], wholesale, exact_sum(market_bills), tax)]
    comparisons: list[Json] = []
    retail: dict[str, RetailBills] = {}
    for name, day in days.items():
        if name == "market":
            continue
        billed = bills(setup, day)
        retail[name] = billed
        cost = billed.energy_cost_nanos + exact_sum(billed.lines[RetailLine.FEED_IN])
        taxes = exact_sum(billed.lines[RetailLine.ENERGY_TAX]) + exact_sum(billed.lines[RetailLine.SALES_TAX])
        worlds.append(world_section(setup, day, cost, exact_sum(billed.total), taxes))
        moved, untaxed = compare_bills(billed.total, market_bills), taxes - tax
        real = worlds[-1]["adjusted_cost_eur"] - worlds[0]["adjusted_cost_eur"]
        comparisons.append(
            {
                "vs": name,
                "saving_eur": eur(moved.saving_nanos),
                "real_saving_eur": round(real, 2),
                "transfer_eur": eur(moved.transfer_nanos),
                "winners": moved.better_off,
                "losers": moved.worse_off,
                "text": f"Against {world_phrase(name)}, bills before taxes "
                f"{_fall(moved.saving_nanos - untaxed, currency)} and taxes {_fall(untaxed, currency)}; "
                f"{format_money(moved.transfer_nanos)} {currency} more only moves between bills. The resources used "
                f"(energy bought, wear, comfort, unmet needs, stored energy) cost {abs(real):.2f} {currency} "
                f"{'less' if real >= 0 else 'MORE'}.",
            }
        )
    return worlds, comparisons, retail


def _fall(nanos: int, currency: str) -> str:
    return f"{'fall' if nanos >= 0 else 'rise'} by {format_money(abs(nanos))} {currency}"
