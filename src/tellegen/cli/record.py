"""``tellegen verify``, ``replay``, ``correct`` and ``erase``: the record of a run."""

from __future__ import annotations

import json
import os
import sys
import time
from dataclasses import asdict
from datetime import date, datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from tellegen.cli import app, errors
from tellegen.units import format_money, interval_start

Directory = Annotated[Path, typer.Argument(help="Directory of a run or a shard.")]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON document.")]


class WhichJournal(StrEnum):
    """Of the two journals of a shard; a run has the first alone."""

    INTAKE = "intake"
    MARKET = "market"


@app.command()
def verify(
    directory: Directory,
    key: Annotated[str | None, typer.Option(help="The operator's public key as you know it (a vkey text).")] = None,
    market_key: Annotated[
        str | None, typer.Option(help="The same of the market's journal of a shard, NAME/market.")
    ] = None,
    witness_key: Annotated[
        list[str] | None, typer.Option(help="Verifier key of a witness that must have cosigned.")
    ] = None,
    publisher_key: Annotated[
        list[str] | None, typer.Option(help="Verifier key of who signs the wholesale prices, as you know it.")
    ] = None,
    receipt: Annotated[
        list[Path] | None, typer.Option(help="A receipt, or the answer of an intake: what it proves must be there.")
    ] = None,
    root_prices: Annotated[
        Path | None, typer.Option(help="Wholesale prices as their publisher has them: those on record must be these.")
    ] = None,
    memory_gb: Annotated[float, typer.Option(min=1, help="Memory that the verification may take, GiB.")] = 8,
    minutes: Annotated[float, typer.Option(min=0.1, help="Time that it may take.")] = 60,
    as_json: AsJson = False,
) -> None:
    """Check a run or a shard from outside, without any secret: signatures, proofs, gates, sums, statement lines.

    It may come from anybody: only regular files below it are read, in a process of bounded memory and time.
    """
    from tellegen.cli.evidence import receipts_in
    from tellegen.verify import Limits, verify_confined

    report = verify_confined(
        directory,
        key=key,
        market_key=market_key,
        witnesses=witness_key or (),
        publishers=publisher_key or (),
        receipts=[text for file in receipt or () for text in receipts_in(file)],
        root_prices=root_prices,
        limits=Limits(int(memory_gb * 2**30)),
        seconds=60 * minutes,
    )
    if as_json:
        print(report.to_json())
    else:
        _print_checks([(c.name, c.ok, c.count, c.detail) for c in report.checks])
        for left in report.not_checked:
            print(f"not checked: {left}")
        for promise, failed in report.broken.items():
            print(f"broken: {promise} ({', '.join(failed)})")
        print("the record verifies" if report.ok else "NO: the record does not verify")
    sys.exit(0 if report.ok else 1)


@app.command()
def replay(
    directory: Directory,
    workers: Annotated[
        int | None, typer.Option(min=0, help="Processes that clear; 0: this one alone. Default: one for each core.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Run everything again from the journals, clearings included, and compare."""
    from tellegen.operations.rerun import rerun

    checks = rerun(directory, processes=(os.cpu_count() or 1) if workers is None else workers)
    ok = all(check.ok for check in checks)
    if as_json:
        print(json.dumps({"ok": ok, "checks": [asdict(check) for check in checks]}, indent=2))
    else:
        _print_checks([(c.name, c.ok, c.count, c.detail) for c in checks])
        print("the record replays to the same books" if ok else "NO: the replay differs")
    sys.exit(0 if ok else 1)


@app.command()
def correct(
    directory: Directory,
    file: Annotated[Path, typer.Option(help="Correction file (TOML): whose registers were what.")],
    preview: Annotated[bool, typer.Option("--preview", help="Say what would move; write nothing.")] = False,
    as_json: AsJson = False,
) -> None:
    """Put a wrong reading right: unwind everything that followed from it, and only that."""
    from tellegen.operations.correction_file import read_correction
    from tellegen.operations.market import Market
    from tellegen.operations.orders import preview_correction
    from tellegen.operations.timetable import day_of
    from tellegen.operations.upkeep import bill_ended, time_of_act

    form = read_correction(file)
    if preview:
        outcome = preview_correction(directory, form, file)
    else:
        now = max(time_of_act(directory, int(time.time())), form.known)
        with Market.open(directory) as market:
            outcome = market.correct_by_order(form, file, now)
            bill_ended(market, now)
            day = day_of(market.book, form.first)
        republish(directory, [day], {})
    if as_json:
        print(json.dumps(asdict(outcome) | {"preview": preview}, indent=2))
    else:
        print(
            f"{'would correct' if preview else 'corrected'} {outcome.customer}, {outcome.intervals} intervals "
            f"from {interval_start(outcome.first_interval).isoformat()} ({outcome.reason})"
        )
        print(f"  energy            {outcome.before_wh / 1000:.3f} kWh -> {outcome.after_wh / 1000:.3f} kWh")
        print(f"  its own bill      {format_money(outcome.own_nanos)}")
        print(
            f"  others' bills     {outcome.accounts_moved} bills move, none but its own by more than "
            f"{format_money(abs(outcome.largest_other_nanos))}"
        )
        print(f"  run again         {outcome.steps_rerun} of {outcome.steps_total} interval settlements")
        if not outcome.meets_readings:
            print("  note              the registers do not meet the readings around them; was the meter changed?")
        print(f"  full replay       {'equal' if outcome.replay_equal else 'DIFFERS'}")
    sys.exit(0 if outcome.replay_equal else 1)


@app.command()
def erase(
    directory: Directory,
    customer: Annotated[str, typer.Option(help="Whose data to erase: a name such as home-017, or a number.")],
    now: Annotated[
        bool, typer.Option("--now", help="In a simulation: at once, though its days are not final; they become so.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask; this cannot be undone.")] = False,
    as_json: AsJson = False,
) -> None:
    """Erase one customer's data once its days are final: its key is destroyed, every proof still verifies.

    Where that is not due yet, the request goes on record, and the day is named on which it will be. Stop the intake and
    the market first; a shard that is operated does by itself what is due.
    """
    from tellegen.operations.erasure import without_customer
    from tellegen.operations.upkeep import erase as run
    from tellegen.operations.upkeep import number_of, time_of_act
    from tellegen.report.publication import SUMMARY, read_summary_json

    number = number_of(directory, customer)
    if not yes:
        typer.confirm(f"Destroy the key of {customer}? Nothing can bring its data back", abort=True, err=True)
    at = time_of_act(directory, int(time.time()))
    done = run(directory, number, at, early=now, step=lambda what: errors.print(f"tellegen erase: {what}"))
    if done.due is not None:
        told = {"customer": customer, "due": done.due.isoformat()}
        print(
            json.dumps(told, indent=2) if as_json else f"{customer}: may be erased from {done.due} on; it is on record"
        )
        return
    summary = directory / SUMMARY
    changes = without_customer(read_summary_json(directory), customer) if summary.exists() else {}
    ok = republish(directory, None, changes)
    if as_json:
        print(json.dumps({"ok": ok, "customer": customer, "rows_hidden": done.rows_hidden}, indent=2))
    else:
        print(f"{customer}: key destroyed; {done.rows_hidden} rows on record can no longer be read by anybody")
        print("the record verifies" if ok else "NO: the record does not verify")
    sys.exit(0 if ok else 1)


@app.command()
def publish(
    directory: Directory,
    day: Annotated[
        datetime | None, typer.Option(formats=["%Y-%m-%d"], help="Of a shard, only this day; else all that are closed.")
    ] = None,
) -> None:
    """Bring books, tables, summary and report up to the record and sign for them (after a crash, say)."""
    from tellegen.operations.market import Market
    from tellegen.report.days import all_closed

    with Market.open(directory) as market:
        market.rebuild_books()
    ok = republish(directory, [day.date()] if day is not None else all_closed(directory), {})
    print("the record verifies" if ok else "NO: the record does not verify")
    sys.exit(0 if ok else 1)


def republish(directory: Path, days: list[date] | None, changes: dict[str, object]) -> bool:
    """Publish a played day anew, or days of a shard; whether the record verifies.

    Parameters
    ----------
    days : of a shard; None: those that were published before. changes : sections of a played day's summary to replace.
    """
    from tellegen.operations.record import MARKET
    from tellegen.report.days import publish_days, published_days
    from tellegen.report.publication import SUMMARY
    from tellegen.report.publication import publish as publish_played
    from tellegen.verify import verify_directory

    if (directory / SUMMARY).exists():
        return publish_played(directory, changes).ok
    if (directory / MARKET).is_dir():
        chosen = published_days(directory) if days is None else days
        if chosen:
            publish_days(directory, chosen)
    return verify_directory(directory).ok


@app.command()
def receipt(
    directory: Directory,
    entry: Annotated[int, typer.Option(help="Journal index of the entry.")],
    row: Annotated[int | None, typer.Option(help="Row of the batch, for a proof of that row.")] = None,
    journal: Annotated[
        WhichJournal, typer.Option(help="Of a shard: what came in, or what the market made of it.")
    ] = WhichJournal.INTAKE,
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON document: the receipt and the bytes that it proves.")
    ] = False,
) -> None:
    """Print a receipt: a proof that an entry (or one row of it) is on record, checkable offline."""
    from tellegen.operations.proofs import prove

    proof = prove(directory, entry, row, market=journal is WhichJournal.MARKET)
    if as_json:
        print(json.dumps(asdict(proof), indent=2))
    else:
        print(proof.receipt, end="")


def _print_checks(rows: list[tuple[str, bool, int, str]]) -> None:
    table = Table(box=None, pad_edge=False)
    for heading in ("", "check", "count", "found"):
        table.add_column(heading, justify="right" if heading == "count" else "left", overflow="fold")
    for name, ok, count, detail in rows:
        table.add_row("[green]ok[/]" if ok else "[red]NO[/]", Text(name), f"{count:,}", Text(detail))
    Console().print(table)
