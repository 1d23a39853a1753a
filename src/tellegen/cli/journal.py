"""``tellegen journal``: look into the log, prove, export, have it witnessed, check and repair."""

from __future__ import annotations

import base64
import json
import sys
import time
from bisect import bisect_left
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from tellegen.cli import app
from tellegen.cli.record import WhichJournal
from tellegen.errors import InputError
from tellegen.journal.elsewhere import EVERY_S

if TYPE_CHECKING:
    from tellegen.journal import Journal

journal_app = typer.Typer(
    help="The log: inspect, prove, export, witness, compare, check, repair.", no_args_is_help=True
)
app.add_typer(journal_app, name="journal")

Directory = Annotated[Path, typer.Argument(help="Directory that holds journal/.")]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON document.")]
_FUTURE_S = 86_400
"""A witness's clock may be so far ahead of ours without a word."""


@journal_app.command()
def inspect(
    directory: Directory,
    last: Annotated[int, typer.Option(min=0, max=1000, help="How many of the newest entries to list.")] = 10,
    as_json: AsJson = False,
) -> None:
    """What is on record: entries by kind, bytes, checkpoints, the newest entries."""
    from tellegen.journal import Journal, cosigned

    with Journal.open(directory) as journal:
        entries, rows, newest_at = Counter[str](), Counter[str](), None
        headers = journal.entries()
        for header in headers:
            entries[header.kind] += 1
            rows[header.kind] += header.rows
            newest_at = header.known_at if newest_at is None else max(newest_at, header.known_at)
        witnessed = cosigned(journal)
        first = max(len(headers) - last, 0)
        document = {
            "origin": journal.verifier.name,
            "key": journal.verifier.vkey,
            "size": journal.checkpoint.size,
            "root": base64.b64encode(journal.checkpoint.root).decode(),
            "checkpoints": len(journal.checkpoints),
            "cosigned_size": None if witnessed is None else witnessed.size,
            "newest_known_at": newest_at,
            "log_bytes": _bytes_in(journal.folder / "log"),
            "payload_bytes": _bytes_in(journal.folder / "payloads"),
            "kinds": {kind: {"entries": entries[kind], "rows": rows[kind]} for kind in sorted(entries)},
            "last": [{"index": index, **asdict(headers[index])} for index in range(first, len(headers))],
        }
        listed = [(index, headers[index]) for index in range(first, len(headers))]
    if as_json:
        print(json.dumps(document, indent=2))
        return
    print(f"{document['origin']}: {document['size']:,} entries under {document['checkpoints']:,} checkpoints")
    print(f"  root       {document['root']}")
    print(f"  cosigned   {'never' if witnessed is None else f'at {witnessed.size:,} entries'}")
    print(f"  newest     {'nothing yet' if newest_at is None else time_text(newest_at)}")
    print(f"  bytes      {document['log_bytes']:,} of headers, {document['payload_bytes']:,} of payloads")
    _print_table(("kind", "entries", "rows"), [(k, f"{entries[k]:,}", f"{rows[k]:,}") for k in sorted(entries)], {1, 2})
    if listed:
        lines = [(f"{i:,}", h.kind, h.name, h.source, f"{h.rows:,}", time_text(h.known_at)) for i, h in listed]
        _print_table(("index", "kind", "name", "source", "rows", "known at"), lines, {0, 4})


@journal_app.command()
def prove(
    directory: Directory,
    entry: Annotated[int | None, typer.Option(help="Index of the entry to prove.")] = None,
    row: Annotated[int | None, typer.Option(help="Row of that entry's batch.")] = None,
    from_size: Annotated[int | None, typer.Option("--from", help="Earlier size, for a consistency proof.")] = None,
    to_size: Annotated[int | None, typer.Option("--to", help="Size of a later checkpoint; the newest without.")] = None,
    which: Annotated[
        WhichJournal, typer.Option("--journal", help="Of a shard: what came in, or what the market made of it.")
    ] = WhichJournal.INTAKE,
    as_json: AsJson = False,
) -> None:
    """Print a proof from the public files: that an entry or row is on record, or that the log only grew."""
    from tellegen.operations.proofs import open_log

    with open_log(directory, market=which is WhichJournal.MARKET) as journal:
        if entry is not None and from_size is None:
            document = _entry_proof(journal, entry, row)
        elif from_size is not None and entry is None and row is None:
            document = _growth_proof(journal, from_size, to_size)
        else:
            raise InputError("command line", "journal prove", "takes either --entry [--row] or --from [--to]")
        document["key"] = journal.verifier.vkey
    if as_json:
        print(json.dumps(document, indent=2))
    else:
        print(document.get("receipt") or document["proof"], end="")


def _entry_proof(journal: Journal, index: int, row: int | None) -> dict[str, object]:
    from tellegen.journal import strongest

    if not 0 <= index < journal.checkpoint.size:
        size = journal.checkpoint.size
        raise InputError(journal.folder, f"entry {index}", f"is not on record; there are {size}, from 0")
    at = strongest(journal, index)
    receipt = journal.receipt(index, at) if row is None else journal.row_receipt(index, row, at=at)
    return {"receipt": receipt, "index": index, "entry": journal.entry_bytes(index).decode(), "row": row}


def _growth_proof(journal: Journal, old_size: int, new_size: int | None) -> dict[str, object]:
    from tellegen.journal import Extension

    size = journal.checkpoint.size if new_size is None else new_size
    signed = journal.checkpoints
    number = bisect_left(signed, size, key=lambda checkpoint: checkpoint.size)
    if number == len(signed) or signed[number].size != size or not 0 <= old_size <= size:
        sizes = ", ".join(str(checkpoint.size) for checkpoint in signed[-5:])
        problem = f"are not both there; the last checkpoints are of {sizes} entries"
        raise InputError(journal.folder, f"sizes {old_size} to {size}", problem)
    return {"proof": str(Extension.of(journal, old_size, signed[number])), "from": old_size, "to": size}


@journal_app.command()
def bundle(
    directory: Directory,
    out: Annotated[Path, typer.Argument(help="A new folder.")],
    bills: Annotated[
        bool, typer.Option("--bills", help="Tables, books and report too, which show every customer in clear.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Copy what an auditor may have: journals and archive, and never the vault. `tellegen verify` reads the copy."""
    from tellegen.operations.bundle import write_bundle

    done = write_bundle(directory, out, bills=bills)
    if as_json:
        print(json.dumps(asdict(done)))
    else:
        shows = "every customer's bills among them: for whom you trust with them" if bills else "no customer is in them"
        print(f"{out}: {done.files:,} files of {done.size:,} bytes; {shows}")


@journal_app.command()
def export(
    directory: Directory,
    out: Annotated[Path, typer.Argument(help="Folder to serve; what is there of this log is added to.")],
    as_json: AsJson = False,
) -> None:
    """Write the log as static tiles that any tlog client can audit (C2SP tlog-tiles)."""
    from tellegen.journal import Journal, tiles

    with Journal.open(directory) as journal:
        done = tiles.export(journal, out)
    if as_json:
        print(json.dumps({"size": done.checkpoint.size, "files": done.files, "bytes": done.bytes_written}))
    else:
        print(f"{out}: {done.checkpoint.size:,} entries; {done.files:,} tiles of {done.bytes_written:,} bytes written")


@journal_app.command()
def check(directory: Directory, as_json: AsJson = False) -> None:
    """Check every byte of the journal's own files; each problem by its place."""
    from tellegen.journal import Journal, JournalError, Problem, cosigned
    from tellegen.journal import check as problems_of

    problems = problems_of(directory)
    if not problems:
        with Journal.open(directory) as journal:
            try:
                cosigned(journal)
            except JournalError as error:
                problems = [Problem("cosigned", "", str(error))]
    if as_json:
        print(json.dumps({"ok": not problems, "problems": [asdict(problem) for problem in problems]}, indent=2))
    else:
        for problem in problems:
            print(f"{problem}{'; `journal repair` puts it right' if problem.repairable else ''}")
        print("the journal is whole" if not problems else f"NO: {len(problems)} problems")
    sys.exit(1 if problems else 0)


@journal_app.command()
def repair(
    directory: Directory,
    vault: Annotated[Path | None, typer.Option(help="Vault with the operator's key; DIR/vault without.")] = None,
    as_json: AsJson = False,
) -> None:
    """Put right what may be: a tail that nobody holds a receipt for, copies that are behind."""
    from tellegen.journal import repair as repair_journal
    from tellegen.operations.compaction import signing_key
    from tellegen.privacy import Vault

    own = directory / "vault"  # a market's journal lies within the shard whose vault it is
    with Vault.open(vault or (own if own.is_dir() else directory.parent / "vault")) as keys:
        done = repair_journal(directory, signing_key(directory, keys))
    if as_json:
        print(json.dumps({"repaired": done}, indent=2))
    else:
        for line in done:
            print(line)
        print(f"{len(done)} things put right" if done else "nothing to repair")


@journal_app.command()
def guard(
    directory: Directory,
    counter: Annotated[
        list[str] | None, typer.Option(help="Folder on another disk, or command:PROGRAM, that has every checkpoint.")
    ] = None,
    witness: Annotated[list[str] | None, typer.Option(help="URL of a witness; give it once per witness.")] = None,
    witness_key: Annotated[list[str] | None, typer.Option(help="Its verifier key, in the same order.")] = None,
    needed: Annotated[int | None, typer.Option(min=0, help="How many of them must answer; all without.")] = None,
    every: Annotated[
        int, typer.Option(min=0, help="Seconds after which they are asked again; 0: for every checkpoint.")
    ] = EVERY_S,
    off: Annotated[bool, typer.Option("--off", help="Ask nobody any more.")] = False,
) -> None:
    """Have a log known elsewhere, so that a restored back-up is never signed on: whoever writes asks there first."""
    from tellegen.journal import Journal
    from tellegen.journal.elsewhere import ELSEWHERE_NAME, Plan, WitnessAddress, set_up

    urls, keys = witness or [], witness_key or []
    if len(urls) != len(keys):
        raise InputError("command line", "journal guard", "takes one --witness-key for each --witness")
    if off == bool(counter or urls):
        raise InputError("command line", "journal guard", "takes --counter or --witness, or --off")
    if needed is not None and needed > len(urls):
        raise InputError("command line", f"--needed {needed}", f"is more than the {len(urls)} witnesses there are")
    plan = Plan(
        tuple(place if place.startswith("command:") else str(Path(place).absolute()) for place in counter or ()),
        tuple(map(WitnessAddress, urls, keys)),
        len(urls) if needed is None else needed,
        every,
    )
    for folder in journals_of(directory):
        if off:
            (folder / "journal" / ELSEWHERE_NAME).unlink(missing_ok=True)
            continue
        with Journal.open(folder) as journal:
            set_up(plan, journal, journal.checkpoint, journal.verifier, journal.folder)
            print(f"{journal.verifier.name}: {journal.checkpoint.size:,} entries are known elsewhere")
    if off:
        print(f"{directory}: nobody is asked any more")


@journal_app.command()
def succeed(
    directory: Directory,
    out: Annotated[Path, typer.Argument(help="A new folder, for the successor.")],
    by: Annotated[str, typer.Option(metavar="NAME", help="Who says so; it goes on record.")],
    reason: Annotated[str, typer.Option(help="Why the log is not signed on; it goes on record.")],
    newest: Annotated[
        list[Path] | None,
        typer.Option(help="A newer checkpoint or receipt that somebody has kept: what is lost is counted from it."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Take a shard up under new keys: after a restore from a back-up, or where a key was lost or stolen."""
    from tellegen.cli.record import republish
    from tellegen.journal import MANIFEST_NAME
    from tellegen.operations.succession import Declaration, checkpoint_of
    from tellegen.operations.succession import succeed as take_up

    notes = tuple(checkpoint_of(path) for path in newest or ())
    done = take_up(directory, out, Declaration(by, reason, notes))
    if (out / MANIFEST_NAME).exists():
        republish(out, None, {})
    if as_json:
        print(json.dumps([asdict(each) | {"lost": each.lost} for each in done], indent=2))
        return
    for each in done:
        print(f"{each.successor}\n  takes up {each.size:,} entries of {each.predecessor}; {each.lost}")
    if done[0].signed_for != done[0].size:
        print(
            f"revocations, rotated codes and renewals from entry {done[0].size:,} on are lost too: make them again, "
            "the registrar's renewal first"
        )
    print(f"next: make the keys known, `tellegen journal guard {out}`, have witnesses watch them (docs/recovery.md)")


def journals_of(directory: Path) -> list[Path]:
    """Folders that hold a journal of a run or a shard: its own, and the market's."""
    from tellegen.operations.record import MARKET

    return [directory, *(part for part in (directory / MARKET,) if (part / "journal").is_dir())]


@journal_app.command("accept-clock")
def accept_clock(
    directory: Directory,
    by: Annotated[str, typer.Option(metavar="NAME", help="Who says so; it goes on record.")],
) -> None:
    """Say that the wall clock is right, where it is far from the newest entry; from then on time counts from it."""
    from tellegen.operations.directory import accept_clock as say

    if not by.strip():
        raise InputError("command line", "--by", "names nobody; who says that the clock is right stands on record")
    said = say(directory, by)
    told = (
        f"the clock is right, says {by}; that is on record (clocks)" if said else "the clock is near the record anyway"
    )
    print(f"{directory}: {told}")


@journal_app.command()
def cosign(
    directory: Directory,
    witness: Annotated[list[str], typer.Option(help="URL of a witness; give it once per witness.")],
    witness_key: Annotated[list[str], typer.Option(help="Its verifier key, in the same order.")],
    as_json: AsJson = False,
) -> None:
    """Bring the newest checkpoint to witnesses, and keep their cosignatures beside it."""
    from tellegen.journal import CosignatureVerifier, Journal, NotCosignedError, ask_witness, keep_cosignatures
    from tellegen.journal.elsewhere import post_to_witness

    if len(witness) != len(witness_key):
        raise InputError("command line", "journal cosign", "takes one --witness-key for each --witness")
    signed: list[dict[str, object]] = []
    refused: list[dict[str, object]] = []
    with Journal.open(directory) as journal:
        checkpoint = journal.checkpoint
        text = checkpoint.note.partition("\n\n")[0] + "\n"
        lines = []
        for url, vkey in zip(witness, witness_key, strict=True):
            verifier = CosignatureVerifier.parse(vkey)
            try:
                line = ask_witness(journal, checkpoint, verifier, lambda body, url=url: post_to_witness(url, body))  # type: ignore[misc]
            except NotCosignedError as error:
                refused.append({"witness": verifier.name, "problem": str(error)})
                continue
            lines.append(line)
            signed.append({"witness": verifier.name, "time": verifier.time_of(text, line)})
        if lines:
            keep_cosignatures(journal, checkpoint, lines)
    if as_json:
        document = {"size": checkpoint.size, "cosignatures": signed, "refused": refused}
        print(json.dumps(document, indent=2))
    else:
        for one in signed:
            print(f"{checkpoint.size:,} entries cosigned by {one['witness']} at {seen_text(int(str(one['time'])))}")
        for one in refused:
            print(f"NO: {one['problem']}")
    sys.exit(1 if refused else 0)


def time_text(seconds: int) -> str:
    """A time as people read it; as a count of seconds where it is none of theirs.

    >>> time_text(300_000_000_000)
    '300000000000 s from 1970 on, no time of a calendar'
    """
    try:
        return datetime.fromtimestamp(seconds, tz=UTC).strftime("%Y-%m-%d %H:%M:%SZ")
    except (OverflowError, ValueError, OSError):
        return f"{seconds} s from 1970 on, no time of a calendar"


def seen_text(seconds: int) -> str:
    """A time that a witness names, and whether it can be right."""
    ahead = seconds - time.time() > _FUTURE_S
    return f"{time_text(seconds)}{', which lies in the future: its clock is wrong' if ahead else ''}"


def _bytes_in(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.iterdir() if path.is_file())


def _print_table(headings: tuple[str, ...], rows: Sequence[tuple[str, ...]], right: set[int]) -> None:
    table = Table(box=None, pad_edge=False)
    for number, heading in enumerate(headings):
        table.add_column(heading, justify="right" if number in right else "left", overflow="fold")
    for row in rows:
        table.add_row(*map(escape, row))
    Console().print(table)
