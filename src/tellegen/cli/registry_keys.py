"""``tellegen registry renew`` and ``meter-key``: new keys for the registry's roles, and a meter's own key."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tellegen.cli.shard import (
    INT64_MAX,
    AsJson,
    Directory,
    Offline,
    Server,
    Simulation,
    changing,
    done,
    now_s,
    opened,
    registry_app,
)
from tellegen.errors import InputError

if TYPE_CHECKING:
    from tellegen.units import IntArray

_ROLES = ("registrar", "issuing", "meters")


@registry_app.command()
def renew(
    directory: Directory,
    role: Annotated[str, typer.Option("--role", help="registrar, issuing (authority) or meters (the master).")],
    authority: Offline = None,
    as_json: AsJson = False,
    simulation: Simulation = False,
) -> None:
    """A new key in the place of an old or a stolen one; no intake may run meanwhile."""
    from tellegen.registry.renewal import renew_issuing, renew_meter_master, renew_registrar

    if role not in _ROLES:
        raise InputError("command line", f"--role {role!r}", f"is none of {', '.join(_ROLES)}")
    with opened(directory, simulation, write=True, authority=authority) as shard:
        now, entry = shard.journal.time(now_s()), None
        if role == "meters":
            renew_meter_master(shard.registrar.vault)
        else:
            entry = (renew_registrar if role == "registrar" else renew_issuing)(shard, now)
            shard.journal.commit(shard.journal.time(now))
    if as_json:
        print(json.dumps({"role": role, "entry": entry}, indent=2))
    elif entry is None:
        print("the meters' keys derive from a new master from their next generation on: `registry rotate-code`")
    else:
        print(f"the {role} has a new key, on record as entry {entry}")


@registry_app.command("meter-key")
def meter_key(
    directory: Directory,
    meter: Annotated[int, typer.Option(min=0, max=2**63 - 1, help="Serial of the meter.")],
    out: Annotated[Path, typer.Option(help="File to make, for its owner alone.")],
    generation: Annotated[
        int | None, typer.Option(min=0, max=2**31 - 1, help="Of the key; the newest on record without it.")
    ] = None,
    authority: Offline = None,
    simulation: Simulation = False,
) -> None:
    """Give a meter the key with which it codes its readings, in a file to be loaded into it and removed."""
    from tellegen.journal.storage import write_secret
    from tellegen.registry.meter_keys import meter_key as derived

    with opened(directory, simulation, authority=authority) as shard:
        if generation is None:
            known = shard.directory.key_generations()
            generation = int(known.generation[known.meter == meter].max(initial=0))
        key = derived(shard.registrar.codes_key(generation), meter, generation)
    said = {"meter": meter, "generation": generation, "code": "HMAC-SHA256, 16 bytes", "key": key.hex()}
    try:
        write_secret(out, json.dumps(said).encode() + b"\n")
    except FileExistsError:
        raise InputError(out, "file", "exists; a key is never overwritten") from None
    print(f"{out}: key of meter {meter}, generation {generation} (keep it secret; remove it once the meter has it)")


@registry_app.command("rotate-codes")
def rotate_codes(
    directory: Directory,
    file: Annotated[Path, typer.Argument(help="CSV with the columns meter,from_counter.")],
    server: Server = None,
    authority: Offline = None,
    as_json: AsJson = False,
    simulation: Simulation = False,
) -> None:
    """As `rotate-code`, for many meters at once: after `renew --role meters`, all of them."""
    import numpy as np

    from tellegen.records import KeyGenerations

    with changing(directory, server, simulation, authority) as shard:
        now, meters, counters = shard.journal.time(now_s()), *_counters(file)
        generation = shard.registrar.next_generations(meters)
        rows = KeyGenerations(meter=meters, generation=generation.astype(np.int32), from_counter=counters)
        index = shard.registrar.rotate_codes(rows, now)
        done(shard, index, now, {"meters": len(rows)}, f"{len(rows):,} meters have new code keys", as_json=as_json)


def _counters(file: Path) -> tuple[IntArray, IntArray]:
    import numpy as np

    with file.open(encoding="utf-8-sig", newline="") as stream:
        reader = csv.DictReader(stream)
        try:
            rows = [(int(row["meter"]), int(row["from_counter"])) for row in reader]
        except (KeyError, TypeError, ValueError, UnicodeDecodeError, csv.Error):
            raise InputError(file, f"line {reader.line_num}", "is not meter,from_counter in whole numbers") from None
    if not rows or min(map(min, rows)) < 0 or max(map(max, rows)) > INT64_MAX:
        raise InputError(file, "rows", "are none, or hold a number that no meter has")
    meters, counters = np.array(rows, dtype=np.int64).T
    return meters, counters
