"""``tellegen verify``, ``replay``, ``correct`` and ``erase``: the record of a run."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from tellegen.cli import app
from tellegen.units import format_money, interval_start

Directory = Annotated[Path, typer.Argument(help="Directory of a run.")]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON document.")]


@app.command()
def verify(
    directory: Directory,
    key: Annotated[str | None, typer.Option(help="The operator's public key as you know it (a vkey text).")] = None,
    witness_key: Annotated[
        list[str] | None, typer.Option(help="Verifier key of a witness that must have cosigned.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Check a run from outside, without any secret: signatures, proofs, sums, statement lines."""
    from tellegen.verify import verify_directory

    report = verify_directory(directory, key=key, witnesses=witness_key or ())
    if as_json:
        print(report.to_json())
    else:
        _print_checks([(c.name, c.ok, c.count, c.detail) for c in report.checks])
        print("the record verifies" if report.ok else "NO: the record does not verify")
    sys.exit(0 if report.ok else 1)


@app.command()
def replay(directory: Directory, as_json: AsJson = False) -> None:
    """Run the whole day again from the journal, clearings included, and compare."""
    from tellegen.operations.rerun import rerun
    from tellegen.operations.run_directory import open_run

    with open_run(directory) as run:
        checks = rerun(run)
    ok = all(check.ok for check in checks)
    if as_json:
        print(json.dumps({"ok": ok, "checks": [asdict(check) for check in checks]}, indent=2))
    else:
        _print_checks([(c.name, c.ok, c.count, c.detail) for c in checks])
        print("the day replays to the same books" if ok else "NO: the replay differs")
    sys.exit(0 if ok else 1)


@app.command()
def correct(
    directory: Directory,
    file: Annotated[Path, typer.Option(help="Correction file (TOML): whose registers were what.")],
    preview: Annotated[bool, typer.Option("--preview", help="Say what would move; write nothing.")] = False,
    as_json: AsJson = False,
) -> None:
    """Put a wrong reading right: unwind everything that followed from it, and only that."""
    from tellegen.operations.correction import apply_correction, read_correction
    from tellegen.operations.facts import read_day
    from tellegen.operations.publish import publish
    from tellegen.operations.run_directory import open_run
    from tellegen.operations.summary import correction_section

    form = read_correction(file)
    with open_run(directory, write=not preview) as run:
        outcome = apply_correction(run, form, file, preview=preview)
        if not preview:
            day = read_day(run.recorder)
            currency = run.rulebook().at(day.day).currency
            publish(run, {"correction": correction_section(outcome, day, currency)})
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
    customer: Annotated[str, typer.Option(help="Whose data to erase, such as home-017.")],
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask; this cannot be undone.")] = False,
    as_json: AsJson = False,
) -> None:
    """Erase one customer's data: its key is destroyed, every proof still verifies."""
    from tellegen.operations.erasure import erase_customer, without_customer
    from tellegen.operations.publish import publish, read_summary_json
    from tellegen.operations.run_directory import open_run

    with open_run(directory, write=True) as run:
        run.number(customer, directory)
        if not yes:
            typer.confirm(f"Destroy the key of {customer}? Nothing can bring its data back", abort=True, err=True)
        hidden = erase_customer(run, customer, known_at=int(datetime.now(tz=UTC).timestamp()))
        report = publish(run, without_customer(read_summary_json(directory), customer))
    if as_json:
        print(json.dumps({"ok": report.ok, "customer": customer, "rows_hidden": hidden}, indent=2))
    else:
        print(f"{customer}: key destroyed; {hidden} rows on record can no longer be read by anybody")
        print("the record verifies" if report.ok else "NO: the record does not verify")
    sys.exit(0 if report.ok else 1)


@app.command()
def publish(directory: Directory) -> None:
    """Bring books, tables, summary and report up to the record and sign for them (after a crash, say)."""
    from tellegen.operations.publish import publish as publish_run
    from tellegen.operations.publish import rebuild_books
    from tellegen.operations.run_directory import open_run

    with open_run(directory, write=True) as run:
        rebuild_books(run)
        report = publish_run(run, {})
    print("the record verifies" if report.ok else "NO: the record does not verify")
    sys.exit(0 if report.ok else 1)


@app.command()
def receipt(
    directory: Directory,
    entry: Annotated[int, typer.Option(help="Journal index of the entry.")],
    row: Annotated[int | None, typer.Option(help="Row of the batch, for a proof of that row.")] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON document: the receipt and the bytes that it proves.")
    ] = False,
) -> None:
    """Print a receipt: a proof that an entry (or one row of it) is on record, checkable offline."""
    from tellegen.operations.proofs import prove_entry, prove_row
    from tellegen.operations.run_directory import open_run

    with open_run(directory) as run:
        proof = prove_entry(run, entry) if row is None else prove_row(run, entry, row)
    if as_json:
        print(json.dumps(asdict(proof), indent=2))
    else:
        print(proof.receipt, end="")


def _print_checks(rows: list[tuple[str, bool, int, str]]) -> None:
    table = Table(box=None, pad_edge=False)
    for heading in ("", "check", "count", "found"):
        table.add_column(heading, justify="right" if heading == "count" else "left", overflow="fold")
    for name, ok, count, detail in rows:
        table.add_row("[green]ok[/]" if ok else "[red]NO[/]", escape(name), f"{count:,}", escape(detail))
    Console().print(table)
