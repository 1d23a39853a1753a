"""What the worlds of a simulated day came to, beside each other: rows that only a simulation can know."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from tellegen.records import Account, Postings
from tellegen.report.figures import Json, eur
from tellegen.settlement import RetailBills, RetailLine, compare_bills
from tellegen.simulation.baseline import bills
from tellegen.simulation.setup import Setup
from tellegen.simulation.world_day import WorldDay
from tellegen.units import MICROS, NANOS, exact_sum, format_money, interval_start

TITLES = {
    "market": "Market (this platform)",
    "flat": "Flat tariff, no response",
    "time_of_use": "Time-of-use tariff",
}


def customer_totals(postings: Postings, customers: int) -> NDArray[np.int64]:
    """Bill of customers 1..n in nano-currency, int64[n]."""
    totals = np.zeros(customers + 1, dtype=np.int64)
    theirs = postings.account > 0
    np.add.at(totals, postings.account[theirs], postings.amount[theirs])
    return totals[1:]


def world_section(setup: Setup, day: WorldDay, wholesale_nanos: int, bill_nanos: int, tax_nanos: int) -> Json:
    """One row of the comparison of worlds.

    ``adjusted cost = wholesale cost + wear + discomfort + unmet - value of what is stored more``; the
    stored energy is valued at the day's mean day-ahead price. Welfare is its negative: what the other
    consumption is worth is the same in every world.
    """
    past, span = setup.wholesale.past, setup.intervals
    mean_price = float(setup.wholesale.day_ahead_micros[past : past + span].mean()) / MICROS
    stored = float((day.closing.stored_wh - day.opening.stored_wh).sum()) / 1000.0 * mean_price
    unmet = float(day.closing.unmet_cost.sum() - day.opening.unmet_cost.sum())
    cost = wholesale_nanos / NANOS
    adjusted = cost + day.wear + day.discomfort + unmet - stored
    peak, dip = int(day.root_kw.argmax()), float(day.root_kw.min())
    energy = float(day.import_wh[:, 1:].sum()) / 1000.0
    losses = float(day.losses_kw.sum()) / 12.0
    below = np.setdiff1d(np.arange(day.voltage_pu.shape[1]), setup.limits.source)
    part = Fraction(setup.intervals, setup.community.intervals)
    network = setup.rules.settlement.network_revenue_nanos(setup.node.size, part)
    return {
        "name": day.name,
        "title": TITLES[day.name],
        "welfare_eur": eur(round(-adjusted * NANOS)),
        "wholesale_cost_eur": eur(wholesale_nanos),
        "bills_eur": eur(bill_nanos),
        "tax_eur": eur(tax_nanos),
        "network_eur": eur(network),
        "discomfort_eur": round(day.discomfort, 4),
        "unmet_eur": round(unmet, 4),
        "wear_eur": round(day.wear, 4),
        "stored_change_eur": round(stored, 4),
        "adjusted_cost_eur": eur(round(adjusted * NANOS)),
        "energy_kwh": round(energy, 3),
        "peak_kw": round(float(day.root_kw[peak]), 3),
        "peak_at": interval_start(setup.first + peak).isoformat(),
        "export_peak_kw": round(max(-dip, 0.0), 3),
        "curtailed_kwh": round(day.curtailed_kwh, 3),
        "losses_kwh": round(losses, 3),
        "losses_percent": round(100.0 * losses / max(float(np.abs(day.root_kw).sum()) / 12.0, 1e-9), 4),
        "v_min_pu": round(float(day.voltage_pu[:, below].min()), 5),
        "v_max_pu": round(float(day.voltage_pu[:, below].max()), 5),
        "voltage_violations": int(day.voltage_violations.sum()),
        "loading_violations": int(day.loading_violations.sum()),
        "max_loading_percent": round(float(day.loading_percent_max.max()), 2),
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
        moved = compare_bills(billed.total, market_bills)
        real = worlds[-1]["adjusted_cost_eur"] - worlds[0]["adjusted_cost_eur"]
        comparisons.append(
            {
                "vs": name,
                "saving_eur": eur(moved.saving_nanos),
                "real_saving_eur": round(real, 2),
                "transfer_eur": eur(moved.transfer_nanos),
                "winners": moved.better_off,
                "losers": moved.worse_off,
                "text": f"Against '{TITLES[name]}' all bills together {_fall(moved.saving_nanos)} {currency}; "
                f"{format_money(moved.transfer_nanos)} {currency} more only moves between bills. The resources used "
                f"(energy bought, wear, comfort, unmet needs, stored energy) cost {abs(real):.2f} {currency} "
                f"{'less' if real >= 0 else 'MORE'}.",
            }
        )
    return worlds, comparisons, retail


def _fall(nanos: int) -> str:
    return f"{'fall' if nanos >= 0 else 'rise'} by {format_money(abs(nanos))}"
