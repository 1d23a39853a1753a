"""``tellegen meters``: check and complete a load profile; hand readings in; decode what a DLMS meter pushed."""

from __future__ import annotations

import csv
import io
import json
import sys
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tellegen.cli import app, errors
from tellegen.errors import InputError

if TYPE_CHECKING:
    from tellegen.intake.sent import RowProblem
    from tellegen.metering import Editing, Outcome
    from tellegen.metering.dlms import Keys, Push
    from tellegen.metering.files import ProfileFile
    from tellegen.records import Readings

FRAMES_BYTES_MAX = 16 * 2**20
DAYS_SHOWN = 40
REJECTIONS_SHOWN = 20
EDIT_COLUMNS = ("meter", "start", "minutes", "import_wh", "export_wh", "reactive_varh", "rule", "reason")
PUSH_COLUMNS = ("import_wh", "export_wh", "reactive_varh")
_HEX = b"0123456789abcdefABCDEF \t\r\n"
AsJson = Annotated[bool, typer.Option("--json", help="One JSON document.")]

meters_app = typer.Typer(
    no_args_is_help=True, help="Load profiles of meters: validate, estimate, edit; send readings; decode pushes."
)
app.add_typer(meters_app, name="meters")


@meters_app.command()
def validate(
    file: Annotated[Path, typer.Argument(help="Load profile, .csv or .parquet; the layout is in docs/metering.md.")],
    edits: Annotated[Path | None, typer.Option(help="CSV file to write with every edit, its rule and reason.")] = None,
    capacity_kw: Annotated[
        float | None, typer.Option(min=0.001, help="What each connection can carry; without it HIGH is not checked.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the file of edits if it exists.")] = False,
    as_json: AsJson = False,
) -> None:
    """Check a load profile and estimate what fails; exit status 1 where rows were rejected or intervals stay open."""
    import numpy as np

    from tellegen.metering import Sites, edit, outcomes, profile_of
    from tellegen.metering.files import read_profile

    if edits is not None and edits.exists() and not force:
        raise InputError(edits, "file", "exists already; choose another name or give --force")
    found = read_profile(file)
    if not len(found.rows):
        raise InputError(file, "the table", f"holds no usable row of {found.rejected}: {found.rejections[0]}")
    meters = np.unique(found.rows.meter)
    nothing = np.zeros_like(meters)
    capacity_w = nothing if capacity_kw is None else nothing + round(capacity_kw * 1000)
    profile, repeats = profile_of(found.rows, Sites(meters, capacity_w, nothing, nothing))
    editing = edit(profile, sites=Sites(meters, capacity_w, nothing, nothing))
    days = outcomes(editing)
    if edits is not None:
        _write(edits, editing)
    if as_json:
        print(json.dumps(_document(file, found, repeats.tolist(), editing, days)))
    else:
        _print(found, len(repeats), editing, days)
    for rejection in found.rejections[:REJECTIONS_SHOWN]:
        errors.print(f"tellegen: {file}: {rejection}")
    if found.rejected > REJECTIONS_SHOWN:
        errors.print(f"tellegen: {file}: {found.rejected} rows rejected in all")
    if found.rejected or any(day.unresolved for day in days):
        raise typer.Exit(1)


@meters_app.command()
def decode(
    file: Annotated[str, typer.Argument(help="Frames as they follow each other, binary or hex digits; - is stdin.")],
    keys: Annotated[
        Path | None, typer.Option(help="Two lines of 32 hex digits: encryption key, authentication key.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Decode DLMS/COSEM load-profile pushes.

    A row that its own meter doubts is shown with the reason and without its registers.
    """
    from tellegen.foreign.regular import regular_bytes
    from tellegen.metering.dlms import decode as decode_frames

    source = "stdin" if file == "-" else file
    if file != "-":
        content = regular_bytes(Path(file), FRAMES_BYTES_MAX)
    else:
        content = sys.stdin.buffer.read(FRAMES_BYTES_MAX + 1)
    if len(content) > FRAMES_BYTES_MAX:
        raise InputError(source, "the input", f"is longer than the {FRAMES_BYTES_MAX} bytes that are read")
    if not content.strip(_HEX):
        try:
            content = bytes.fromhex(content.decode())
        except ValueError:
            raise InputError(source, "the input", "has an odd number of hex digits") from None
    pushes = decode_frames(content, _keys(keys), source)
    if as_json:
        print(json.dumps([_push_document(push) for push in pushes]))
    else:
        for push in pushes:
            _print_push(push)


@meters_app.command()
def send(
    file: Annotated[Path, typer.Argument(help="Coded readings, .csv or .parquet; the layout is in docs/metering.md.")],
    server: Annotated[str, typer.Option(help="Address of the shard's intake, such as http://127.0.0.1:8440.")],
    source: Annotated[str, typer.Option(help="Name under which the sender is admitted.")],
    feeder: Annotated[str, typer.Option(help="Feeder that the meters hang on.")],
    key: Annotated[Path, typer.Option(help="The sender's key, as `tellegen registry request` makes it.")],
    operator_key: Annotated[str, typer.Option(help="The shard's public key, known to you from elsewhere (a vkey).")],
    as_json: AsJson = False,
) -> None:
    """Hand coded readings in to an intake, interval by interval; exit status 1 where a row is not taken.

    What is said to be on record is proven by the shard's key; an answer that proves nothing ends it.

    The same file sent again is the same record.
    """
    from tellegen.intake.limits import RefusedBatchError
    from tellegen.metering.coded_readings import read_coded
    from tellegen.registry.private_key import read_private_key
    from tellegen.service.client import IntakeClient, send_readings
    from tellegen.service.problems import refused_rows

    found, sign = read_coded(file), read_private_key(key).sign
    client = IntakeClient(server, operator_key)
    answers, untaken = [], found.rejected
    for interval, readings in found.batches():
        try:
            reply = send_readings(client, source, feeder, interval, readings, sign)
        except RefusedBatchError as problem:
            errors.print(f"tellegen: interval {interval}: not taken: {problem}")
            untaken += len(readings)
            answers.append({"interval": interval, "accepted": 0, "refused": refused_rows(problem.rows)})
            _print_refused(readings, problem.rows, as_json)
            continue
        untaken += len(reply.refused)
        proven = {"entries": reply.entries, "receipts": reply.receipts}
        answers.append(
            {"interval": interval, "accepted": reply.accepted, "refused": refused_rows(reply.refused), **proven}
        )
        if not as_json:
            print(f"interval {interval}: {reply.accepted} accepted, {len(reply.refused)} refused; on record, proven")
            _print_refused(readings, reply.refused, as_json)
    if as_json:
        print(json.dumps({"batches": answers, "rejected": [str(r) for r in found.rejections], "not_taken": untaken}))
    for rejection in found.rejections[:REJECTIONS_SHOWN]:
        errors.print(f"tellegen: {file}: {rejection}")
    if untaken:
        raise typer.Exit(1)


def _print_refused(readings: Readings, refused: Iterable[RowProblem], as_json: bool) -> None:
    """Whose rows were not taken, and why; in JSON they stand already."""
    for row in () if as_json else refused:
        print(f"  customer {readings.customer[row.row]}: {row.refusal.name.lower()}: {row.detail}")


def _keys(path: Path | None) -> Keys | None:
    """Keys come from a file, so that no list of processes shows them; errors never quote them."""
    from tellegen.foreign.regular import regular_bytes
    from tellegen.metering.dlms import Keys

    if path is None:
        return None
    try:
        encryption, authentication = (bytes.fromhex(line) for line in regular_bytes(path, 4096).decode("ascii").split())
    except ValueError:
        raise InputError(path, "the file", "does not hold two keys of 32 hex digits, a line each") from None
    return Keys(encryption, authentication)


def _edit_rows(editing: Editing) -> Iterator[tuple[object, ...]]:
    """Edits under `EDIT_COLUMNS`; what a meter does not measure is None."""
    import numpy as np

    from tellegen.metering.editing import name
    from tellegen.records import EditReason, ValidationRule
    from tellegen.units import MARKET_INTERVAL_S

    profile = editing.raw
    metered = [channel.metered.tolist() for channel in profile.channels]
    edits = editing.edits(np.arange(profile.shape[0]))  # rows of the profile stand for customers
    columns = (
        edits.customer, edits.interval, edits.import_wh, edits.export_wh, edits.reactive_varh, edits.rule, edits.reason,
    )  # fmt: skip
    for row, interval, *quantities, rule, reason in zip(*(column.tolist() for column in columns), strict=True):
        said = [wh if measures[row] else None for wh, measures in zip(quantities, metered, strict=True)]
        meter, start = int(profile.meter[row]), _time(interval * MARKET_INTERVAL_S)
        yield meter, start, profile.interval_s // 60, *said, name(ValidationRule(rule)), name(EditReason(reason))


def _time(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _write(path: Path, editing: Editing) -> None:
    from tellegen.journal.storage import write_private

    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(EDIT_COLUMNS)
    writer.writerows(_edit_rows(editing))
    write_private(path, text.getvalue())


def _document(
    file: Path, found: ProfileFile, repeats: list[int], editing: Editing, days: list[Outcome]
) -> dict[str, object]:
    from tellegen.metering.editing import name

    profile = editing.raw
    return {
        "file": str(file),
        "meters": profile.shape[0],
        "intervals": profile.shape[1],
        "interval_minutes": profile.interval_s // 60,
        "start": _time(profile.first * profile.interval_s),
        "rows": len(found.rows),
        "rejected": found.rejected,
        "rejections": [
            {"line": r.line, "field": r.field, "problem": r.problem, "remedy": r.remedy} for r in found.rejections
        ],
        "repeats": repeats,
        "contradictory_spans": editing.findings.contradictory,
        "unconserved_spans": editing.estimates.unconserved,
        "days": [
            {
                "meter": day.meter,
                "date": day.date,
                "rules": {name(rule): count for rule, count in day.rules},
                "estimated": {name(reason): count for reason, count in day.reasons},
                "unresolved": day.unresolved,
            }
            for day in days
        ],
        "edits": [dict(zip(EDIT_COLUMNS, row, strict=True)) for row in _edit_rows(editing)],
    }


def _print(found: ProfileFile, repeats: int, editing: Editing, days: list[Outcome]) -> None:
    from collections import Counter

    from tellegen.metering.editing import name

    profile = editing.raw
    print(
        f"{profile.shape[0]} meters, {profile.shape[1]} intervals of {profile.interval_s // 60} minutes from "
        f"{_time(profile.first * profile.interval_s)}: {len(found.rows)} rows read, {found.rejected} rejected, "
        f"{repeats} repeated"
    )
    counts: Counter[str] = Counter()
    for day in days:
        counts.update({name(rule): count for rule, count in day.rules})
    for rule, count in counts.most_common():
        print(f"  {rule:<22}{count:>8}")
    edited = int(editing.replaced.any(axis=0).sum())
    print(f"{edited} intervals estimated, {sum(day.unresolved for day in days)} stay open")
    for day in days[:DAYS_SHOWN]:
        print(f"  {day.meter} {day.date}  {day.text}")
    if len(days) > DAYS_SHOWN:
        print(f"  and {len(days) - DAYS_SHOWN} more days; --json lists all")
    if editing.findings.contradictory or editing.estimates.unconserved:
        print(
            f"registers: {editing.findings.contradictory} spans go backwards or beyond the connection, "
            f"{editing.estimates.unconserved} hold less than was measured in them"
        )


def _push_document(push: Push) -> dict[str, object]:
    return {
        "device": push.device,
        "invoke_id": push.invoke_id,
        "authenticated": push.authenticated,
        "system_title": push.system_title.hex(),
        "counter": push.counter,
        "period_s": push.period_s,
        "rows": list(_push_rows(push)),
    }


def _push_rows(push: Push) -> Iterator[dict[str, object]]:
    from tellegen.metering.pushed_profile import Doubt

    profile = push.profile
    register, has = profile.rows.register.tolist(), profile.rows.has_register.tolist()
    stated = (profile.rows.end_s, profile.clock_status, profile.status, profile.doubts)
    for k, (end_s, clock_status, status, doubts) in enumerate(
        zip(*(column.tolist() for column in stated), strict=True)
    ):
        registers = {name: register[q][k] if has[q][k] else None for q, name in enumerate(PUSH_COLUMNS)}
        yield {
            "end": _time(end_s),
            **registers,
            "clock_status": clock_status,
            "status": status,
            "doubts": Doubt(doubts).words,
        }


def _print_push(push: Push) -> None:
    how = f"authenticated, counter {push.counter}" if push.authenticated else "in the clear: nobody vouches for it"
    print(f"{push.device or 'unnamed meter'}: push {push.invoke_id}, {how}, every {push.period_s} s")
    widths = (14, 14, 15)
    print(f"  {'end':<20}" + "".join(f"{name:>{width}}" for name, width in zip(PUSH_COLUMNS, widths, strict=True)))
    for row in _push_rows(push):
        registers = ("" if row[name] is None else row[name] for name in PUSH_COLUMNS)
        text = "".join(f"{value:>{width}}" for value, width in zip(registers, widths, strict=True))
        doubts = row["doubts"]
        said = f"  not believed: {', '.join(doubts)}" if isinstance(doubts, list) and doubts else ""
        print(f"  {row['end']:<20}{text}{said}".rstrip())
