"""``tellegen serve``: the intake of a shard over HTTP."""

from __future__ import annotations

import os
import signal
import ssl
import threading
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from tellegen.cli import app
from tellegen.cli.vault import say_if_open
from tellegen.errors import InputError
from tellegen.journal.clock import AHEAD_MAX_S, BEHIND_MAX_S, Bounds

_NEEDED = ("uvicorn", "httptools", "msgspec")


@app.command()
def serve(
    directory: Annotated[Path, typer.Argument(help="Directory of a shard.")],
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 takes a free one.")] = 0,
    cert: Annotated[Path | None, typer.Option(help="Certificate of the server (PEM), for TLS.")] = None,
    key: Annotated[Path | None, typer.Option(help="Its key (PEM).")] = None,
    late_intervals: Annotated[
        int | None,
        typer.Option(min=0, help="How many intervals late a row may come, where that is fewer than the rulebook says."),
    ] = None,
    ahead_intervals: Annotated[int, typer.Option(min=0, help="How many intervals ahead a bid may come.")] = 576,
    skew: Annotated[int, typer.Option(min=0, help="Seconds by which a head-end's clock may be ahead.")] = 30,
    rate: Annotated[int, typer.Option(min=1, help="Rows per second that one source may cost.")] = 20_000,
    rows: Annotated[int, typer.Option(min=1, help="Rows in one batch, orders included.")] = 10_000,
    body_bytes: Annotated[int, typer.Option(min=1, help="Bytes of one body.")] = 4 << 20,
    pending_bytes: Annotated[int, typer.Option(min=1, help="Bytes of bodies in memory at one time.")] = 64 << 20,
    body_seconds: Annotated[float, typer.Option(min=0.1, help="Within which a body must be there.")] = 30.0,
    mqtt: Annotated[
        str | None,
        typer.Option(help="Broker from which readings come too: mqtt://[user@]host[:port], or mqtts."),
    ] = None,
    connections: Annotated[int, typer.Option(min=1, help="Connections open at one time.")] = 1000,
    simulation: Annotated[
        bool, typer.Option("--simulation", help="Serve a shard made from a seed, whose keys protect nothing.")
    ] = False,
    accept_clock: Annotated[
        str,
        typer.Option(metavar="NAME", help="You say that the clock is right although the record says otherwise."),
    ] = "",
    signer: Annotated[
        Path | None,
        typer.Option(help="Socket of `tellegen vault signer`, which signs checkpoints; else one is started."),
    ] = None,
    clock_ahead: Annotated[
        int, typer.Option(min=0, help="Seconds by which the clock may be ahead of the newest entry at the start.")
    ] = AHEAD_MAX_S,
    clock_behind: Annotated[int, typer.Option(min=0, help="Seconds by which it may be behind it.")] = BEHIND_MAX_S,
    guarded: Annotated[
        bool, typer.Option("--guarded", help="Do not start where nobody elsewhere is asked (`journal guard`).")
    ] = False,
    pace: Annotated[
        str | None, typer.Option(hidden=True, help="Time for trials (`operate --accelerate`, `bench city`).")
    ] = None,
    tied: Annotated[bool, typer.Option("--tied", hidden=True, help="End when standard input ends.")] = False,
) -> None:
    """Take readings and bids for a shard, and answer with receipts; ends cleanly on SIGTERM or Ctrl-C."""
    for package in _NEEDED:
        if find_spec(package) is None:
            raise InputError("serve", package, "is not installed; install tellegen with the extra `service`")
    if (cert is None) != (key is None):
        raise InputError("serve", "--cert and --key", "come together; give both for TLS, or none")
    if cert is not None and key is not None:
        try:
            ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).load_cert_chain(cert, key, password="")
        except (OSError, ValueError) as error:
            place = f"--cert {cert}, --key {key}"
            raise InputError("serve", place, f"are no certificate and its key without a password: {error}") from None
    from tellegen.intake.limits import IntakeLimits
    from tellegen.journal.clock import Told
    from tellegen.journal.elsewhere import ELSEWHERE_NAME
    from tellegen.service.mqtt import Broker
    from tellegen.service.server import ServerOptions
    from tellegen.service.server import serve as serve_intake

    limits = IntakeLimits(
        body_bytes_max=body_bytes,
        rows_max=rows,
        late_intervals_max=late_intervals,
        ahead_intervals_max=ahead_intervals,
        skew_s_max=skew,
        rows_per_s_max=rate,
        pending_bytes_max=pending_bytes,
    )
    time = None if pace is None else Told.parse(pace)
    # not on the command line, where everybody on the machine could read it
    broker = None if mqtt is None else Broker.of(mqtt, os.environ.get("TELLEGEN_MQTT_PASSWORD"))
    options = ServerOptions(
        host, port, cert, key, connections, body_seconds, limits, broker, accept_clock, simulation, time, signer
    )
    options = replace(options, bounds=Bounds(clock_behind, clock_ahead))
    if guarded and not (directory / "journal" / ELSEWHERE_NAME).exists():
        raise InputError(
            directory, "journal", "asks nobody elsewhere before it signs; `tellegen journal guard` sets it up"
        )
    if tied:
        threading.Thread(target=_end_with_input, daemon=True).start()

    def ready(address: str) -> None:
        print(f"tellegen serves {directory} at {address}", flush=True)
        if not (simulation or tied):  # whose keys protect nothing; whose operator has said so
            say_if_open(directory)

    serve_intake(directory, options, ready)


def _end_with_input() -> None:
    """A process that another one started does not outlive it, however that one ends."""
    while os.read(0, 4096):  # not through a buffer, whose lock the interpreter wants at its end
        pass
    os.kill(os.getpid(), signal.SIGTERM)
