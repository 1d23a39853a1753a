"""A shard as commands of ``tellegen registry`` open it, change it, and show the receipt of what they changed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tellegen.cli import app
from tellegen.journal.clock import BOUNDS

if TYPE_CHECKING:
    from tellegen.records import Statement
    from tellegen.registry import Shard

registry_app = typer.Typer(
    help="Who and what is connected, and who may speak: certificates and connections, on record.", no_args_is_help=True
)
app.add_typer(registry_app, name="registry")

Directory = Annotated[Path, typer.Argument(help="Directory of a shard.")]
Server = Annotated[
    str | None, typer.Option(help="Address of the shard's running intake, which then writes; nothing may run without.")
]
Simulation = Annotated[bool, typer.Option("--simulation", help="The shard is one made from a seed.")]
Offline = Annotated[
    Path | None, typer.Option("--authority", help="Folder of the authority's keys, where it is kept off the machine.")
]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON document.")]
INT64_MAX = 2**63 - 1


@contextmanager
def opened(directory: Path, simulation: bool, *, write: bool = False, authority: Path | None = None) -> Iterator[Shard]:
    """A shard, unless it is a simulation and nobody says so; `authority`: where its keys are, off the machine."""
    from tellegen.registry import open_shard
    from tellegen.registry.shard import require_earnest

    with open_shard(directory, write=write, authority=authority) as shard:
        require_earnest(shard.registrar.vault, directory, simulation)
        if write and not shard.registrar.vault.simulated:
            BOUNDS.check(now_s(), shard.journal.time(0))
        yield shard


@contextmanager
def changing(directory: Path, server: str | None, simulation: bool, authority: Path | None = None) -> Iterator[Shard]:
    """A shard whose registrar puts changes on record: here, or through the intake that runs."""
    from tellegen.service.live_changes import hand_in

    with opened(directory, simulation, write=server is None, authority=authority) as shard:
        if server is None:
            yield shard
            return

        def put(statement: Statement, signature: bytes, body: bytes) -> int:
            return hand_in(server, shard.journal.verifier.vkey, statement, signature, body)

        yield replace(shard, registrar=replace(shard.registrar, hand_in=put))


def done(shard: Shard, index: int, now: int, facts: dict[str, Any], words: str, *, as_json: bool) -> None:
    """Make it durable, then show the receipt."""
    if shard.registrar.hand_in is None:
        shard.journal.commit(now)
    else:
        shard.journal.refresh()
    receipt = shard.journal.receipt(index)
    if as_json:
        print(json.dumps({**facts, "entry": index, "receipt": receipt}, indent=2))
    else:
        print(f"{words}\non record as entry {index}:\n\n{receipt}", end="")


def now_s() -> int:
    """Seconds since the epoch, by the clock of this machine."""
    return int(datetime.now(tz=UTC).timestamp())


def stamp(seconds: int) -> str:
    """A second in words, UTC."""
    return f"{datetime.fromtimestamp(seconds, tz=UTC):%Y-%m-%dT%H:%M:%SZ}"
