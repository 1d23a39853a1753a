"""What a run came to: the document behind ``summary.json``, the closing table and the report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tellegen.journal import Journal
from tellegen.records import Account, ClearingStatus, Line, Postings, Quality, ValidationRule
from tellegen.records.market import MARKETS, REAL_TIME
from tellegen.report.day import ClearedRound, DayOnRecord, Names, guiding, node_prices, of_market, settling
from tellegen.units import MICROS, exact_sum, format_money, interval_start
from tellegen.verify import Report

Json = dict[str, Any]


def price_sections(day: DayOnRecord) -> Json:
    """Range, mean and parts of the prices that settle, and of those that guided."""
    held = {market: rounds for market in MARKETS if (rounds := settling(day, market))}
    if guide := guiding(day):
        held["guide"] = guide
    return {market: price_section(rounds) for market, rounds in held.items()}


def price_section(rounds: tuple[ClearedRound, ...]) -> Json:
    """Range, mean and parts of the prices of one market."""
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


def clearing_sections(day: DayOnRecord) -> Json:
    """How clearings ended, and the largest residuals on which they were accepted."""
    rows = [r.period.clearing for r in (*day.rounds, *day.runs)]
    status = np.concatenate([row.status for row in rows])

    def largest(column: str) -> float:
        return float(max(int(getattr(row, column)[0]) for row in rows)) * 1e-9

    return {
        "statuses": {s.name.lower(): int((status == s).sum()) for s in ClearingStatus},
        "homes_on_hold": int(np.unique(day.holds.customer).size),
        "binding_intervals": sum(int(r.period.clearing.binding[0]) > 0 for r in settling(day, REAL_TIME)),
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


def record_section(journals: Sequence[Journal], report: Report | None) -> Json:
    """Size of the record, and what an outsider's verification found; `journals`, that of the market last."""
    entries = [header for journal in journals for header in journal.entries()]
    receipts = [c.count for c in report.checks if c.name.endswith("inclusion proofs")] if report else []
    folders = [journal.folder for journal in journals]
    return {
        "entries": len(entries),
        "rows": sum(header.rows for header in entries),
        "checkpoints": sum(len(journal.checkpoints) for journal in journals),
        "receipts_checked": sum(receipts),
        "verify_ok": report.ok if report else None,
        "verify_checks": [asdict(check) for check in report.checks] if report else [],
        "root": journals[-1].checkpoint.root.hex(),
        "bytes": sum(p.stat().st_size for folder in folders for p in sorted(folder.rglob("*")) if p.is_file()),
    }


def late_section(day: DayOnRecord, customer: int, names: Names, currency: str, *, replay_equal: bool) -> Json:
    """What readings of a customer that came late moved, in words and figures.

    Parameters
    ----------
    day : with the postings and statements of the close that billed it.
    replay_equal : whether the books equal a settlement of the day from scratch.
    """
    first: dict[int, tuple[int, int, int]] = {}
    last: dict[int, int] = {}
    edited_from = None
    for index, energy in day.energy:
        theirs = energy.take(energy.customer == customer)
        net = theirs.import_wh - theirs.export_wh
        for t, wh, quality, rule in zip(
            theirs.interval.tolist(), net.tolist(), theirs.quality.tolist(), theirs.rule.tolist(), strict=True
        ):
            if t in first and edited_from is None:
                edited_from = index
            if t in first:
                last[t] = wh
            first.setdefault(t, (wh, quality, rule))
    if edited_from is None:
        return {}
    moved = Postings.concat([table for index, table in day.postings if index > edited_from])
    own, largest, count = _moves(moved, customer)
    intervals = sorted(last)
    flagged = [first[t] for t in intervals if first[t][1] == Quality.ESTIMATED]
    rule = ValidationRule(flagged[0][2] if flagged else 0).name.lower()
    again = np.unique(moved.interval[(moved.price != 0)]).size
    total = len({r.interval for r in of_market(day, REAL_TIME)})
    told_own, told_largest = format_money(own), format_money(abs(largest))
    equal = "equal" if replay_equal else "DO NOT EQUAL"
    return {
        "customer": names[customer],
        "from": interval_start(intervals[0]).isoformat(),
        "to": interval_start(intervals[-1] + 1).isoformat(),
        "intervals": len(intervals),
        "flagged": len(flagged),
        "rule": rule,
        "estimated_kwh": sum(first[t][0] for t in intervals) / 1000,
        "true_kwh": sum(last.values()) / 1000,
        "accounts_moved": count,
        "largest_move_eur": eur(max(own, largest, key=abs)),
        "own_move_eur": eur(own),
        "tasks_rerun": again,
        "tasks_total": total,
        "replay_equal": replay_equal,
        "text": f"{len(flagged)} of {len(intervals)} readings of {names[customer]} had been flagged and estimated. "
        f"The true readings moved its bill by {told_own} {currency} and nobody else's by more than {told_largest} "
        f"{currency}; {again} of {total} interval settlements ran again, and the books {equal} a settlement from "
        "scratch.",
    }


def _moves(differences: Postings, customer: int) -> tuple[int, int, int]:
    """Change of one customer's bill, largest change of another's (nano-currency), and how many bills changed."""
    theirs = differences.account > 0
    account, place = np.unique(differences.account[theirs], return_inverse=True)
    change = np.zeros(account.size, dtype=np.int64)
    np.add.at(change, place, differences.amount[theirs])
    own = change[account == customer].tolist()
    others = change[account != customer].tolist()
    return own[0] if own else 0, max(others, key=abs, default=0), int(np.count_nonzero(change))


def eur(nanos: int) -> float:
    """Money for display: whole cents. Exact amounts are in the books."""
    return float(format_money(nanos))
