"""What a run came to: the document behind ``summary.json``, the closing table and the report."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tellegen.operations.baseline import bills
from tellegen.operations.correction import Unwound
from tellegen.operations.facts import DAY_AHEAD, REAL_TIME, RecordedDay, Round, node_prices
from tellegen.operations.run_directory import Run
from tellegen.operations.setup import Setup
from tellegen.operations.world_day import WorldDay
from tellegen.records import Account, ClearingStatus, Line, Postings, Quality, ValidationRule
from tellegen.settlement import RetailBills, RetailLine, compare_bills
from tellegen.units import MICROS, NANOS, exact_sum, format_money, interval_start
from tellegen.verify import Report

TITLES = {
    "market": "Market (this platform)",
    "flat": "Flat tariff, no response",
    "time_of_use": "Time-of-use tariff",
}
Json = dict[str, Any]


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
    network = setup.rules.settlement.network_revenue_nanos(setup.node.size)
    return {
        "name": day.name,
        "title": TITLES[day.name],
        "welfare_eur": _eur(round(-adjusted * NANOS)),
        "wholesale_cost_eur": _eur(wholesale_nanos),
        "bills_eur": _eur(bill_nanos),
        "tax_eur": _eur(tax_nanos),
        "network_eur": _eur(network),
        "discomfort_eur": round(day.discomfort, 4),
        "unmet_eur": round(unmet, 4),
        "wear_eur": round(day.wear, 4),
        "stored_change_eur": round(stored, 4),
        "adjusted_cost_eur": _eur(round(adjusted * NANOS)),
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
                "saving_eur": _eur(moved.saving_nanos),
                "real_saving_eur": round(real, 2),
                "transfer_eur": _eur(moved.transfer_nanos),
                "winners": moved.better_off,
                "losers": moved.worse_off,
                "text": f"Against '{TITLES[name]}' all bills together {_fall(moved.saving_nanos)} {currency}; "
                f"{format_money(moved.transfer_nanos)} {currency} more only moves between bills. The resources used "
                f"(energy bought, wear, comfort, unmet needs, stored energy) cost {abs(real):.2f} {currency} "
                f"{'less' if real >= 0 else 'MORE'}.",
            }
        )
    return worlds, comparisons, retail


def price_sections(day: RecordedDay) -> Json:
    """Range, mean and parts of both markets' prices."""
    return {market: _prices(day.of_market(market)) for market in (DAY_AHEAD, REAL_TIME)}


def _prices(rounds: tuple[Round, ...]) -> Json:
    energy = node_prices(rounds, "energy")
    return {
        "min": int(energy.min()) / MICROS,
        "mean": round(float(energy.mean()) / MICROS, 6),
        "max": int(energy.max()) / MICROS,
        "parts_mean": {
            part: round(float(node_prices(rounds, part).mean()) / MICROS, 6)
            for part in ("root", "losses", "congestion", "voltage")
        },
        "parts_largest": {part: _largest(node_prices(rounds, part)) for part in ("losses", "congestion", "voltage")},
        "negative_intervals": int((energy < 0).any(axis=1).sum()),
        "ranges": int((node_prices(rounds, "low") < node_prices(rounds, "high")).any(axis=1).sum()),
    }


def _largest(values: NDArray[np.int64]) -> float:
    """The value that is furthest from zero, in currency per kWh."""
    flat = values.ravel()
    return int(flat[np.abs(flat).argmax()]) / MICROS


def clearing_sections(day: RecordedDay) -> Json:
    """How clearings ended, and the largest residuals on which they were accepted."""
    rows = [r.period.clearing for r in day.rounds]
    status = np.concatenate([row.status for row in rows])

    def largest(column: str) -> float:
        return float(max(int(getattr(row, column)[0]) for row in rows)) * 1e-9

    return {
        "statuses": {s.name.lower(): int((status == s).sum()) for s in ClearingStatus},
        "binding_intervals": sum(int(r.period.clearing.binding[0]) > 0 for r in day.of_market(REAL_TIME)),
        "evidence": {
            "max_violation_pu": largest("violation_nano_pu"),
            "max_mismatch_pu": largest("mismatch_nano_pu"),
            "max_kkt": largest("kkt_nano"),
        },
    }


def money_sections(postings: Postings) -> Json:
    """Balances of the accounts, what came in and went out, and who paid whom."""
    balance: dict[int, int] = {}
    for account, amount in zip(postings.account.tolist(), postings.amount.tolist(), strict=True):
        balance[account] = balance.get(account, 0) + amount
    owed = sum(b for b in balance.values() if b > 0)
    due = -sum(b for b in balance.values() if b < 0)
    accounts = {a.name.lower(): format_money(balance[a], 9) for a in Account if a in balance}
    customers = sum(b for a, b in balance.items() if a > 0)

    def paid(*lines: Line) -> int:
        """What customers owe on some lines."""
        return exact_sum(postings.amount[(postings.account > 0) & np.isin(postings.line, lines)])

    flows = [
        ("customers", "market", paid(Line.FORWARD, Line.REAL_TIME, Line.IMBALANCE, Line.REACTIVE)),
        ("customers", "market", paid(Line.UNACCOUNTED_SHARE)),
        ("market", "customers", -paid(Line.RENT_SHARE)),
        ("market", "wholesale", -balance.get(Account.WHOLESALE, 0)),
        ("customers", "network operator", -balance.get(Account.NETWORK, 0)),
        ("customers", "taxes", -balance.get(Account.TAX, 0)),
        ("customers", "rounding to cents", -balance.get(Account.ROUNDING, 0)),
    ]
    return {
        "money": {
            "in_eur": format_money(owed, 9),
            "out_eur": format_money(due, 9),
            "balanced": owed == due,
            "accounts": {"customers": format_money(customers, 9), **accounts},
        },
        "flows": [{"from": f, "to": t, "eur": format_money(e, 9)} for f, t, e in flows],
    }


def record_section(run: Run, report: Report | None) -> Json:
    """Size of the record, and what an outsider's verification found."""
    journal = run.recorder.journal
    entries = journal.entries()
    receipts = [c.count for c in report.checks if c.name == "inclusion proofs"] if report else []
    return {
        "entries": len(entries),
        "rows": sum(header.rows for header in entries),
        "checkpoints": len(journal.checkpoints),
        "receipts_checked": sum(receipts),
        "verify_ok": report.ok if report else None,
        "verify_checks": [asdict(check) for check in report.checks] if report else [],
        "root": journal.checkpoint.root.hex(),
        "bytes": sum(p.stat().st_size for p in sorted((run.path / "journal").rglob("*")) if p.is_file()),
    }


def correction_section(outcome: Unwound, day: RecordedDay, currency: str) -> Json:
    """What a correction moved, in words and figures."""
    first_versions: dict[tuple[int, int], tuple[int, int]] = {}
    for _, energy in day.energy:
        for c, t, quality, why in zip(energy.customer, energy.interval, energy.quality, energy.rule, strict=True):
            first_versions.setdefault((int(c), int(t)), (int(quality), int(why)))
    span = range(outcome.first_interval, outcome.first_interval + outcome.intervals)
    seen = [first_versions.get((outcome.number, t), (0, 0)) for t in span]
    flagged = sum(quality == Quality.ESTIMATED for quality, _ in seen)
    rule = next((why for quality, why in seen if quality == Quality.ESTIMATED), 0)
    own, largest = format_money(outcome.own_nanos), format_money(abs(outcome.largest_other_nanos))
    equal = "equal" if outcome.replay_equal else "DO NOT EQUAL"
    return {
        "customer": outcome.customer,
        "from": interval_start(outcome.first_interval).isoformat(),
        "to": interval_start(outcome.first_interval + outcome.intervals).isoformat(),
        "intervals": outcome.intervals,
        "flagged": flagged,
        "rule": ValidationRule(rule).name.lower(),
        "estimated_kwh": outcome.before_wh / 1000,
        "true_kwh": outcome.after_wh / 1000,
        "accounts_moved": outcome.accounts_moved,
        "largest_move_eur": _eur(max(outcome.own_nanos, outcome.largest_other_nanos, key=abs)),
        "own_move_eur": _eur(outcome.own_nanos),
        "tasks_rerun": outcome.steps_rerun,
        "tasks_total": outcome.steps_total,
        "replay_equal": outcome.replay_equal,
        "text": f"{flagged} of {outcome.intervals} readings of {outcome.customer} had been flagged and estimated. "
        f"The true readings moved its bill by {own} {currency} and nobody else's by more than {largest} {currency}; "
        f"{outcome.steps_rerun} of {outcome.steps_total} interval settlements ran again, and the books {equal} a "
        "settlement from scratch.",
    }


def _fall(nanos: int) -> str:
    return f"{'fall' if nanos >= 0 else 'rise'} by {format_money(abs(nanos))}"


def _eur(nanos: int) -> float:
    """Money for display: whole cents. Exact amounts are in the books."""
    return float(format_money(nanos))
