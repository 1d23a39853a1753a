"""Benchmark ``attacks``: the rate that a well-behaved sender keeps beside hostile connections.

For each kind of connection, 200 are kept open by a process of their own, each made anew when it is put out: from one
address, from 200 addresses, and from the sender's own. The sender comes once they are in place, over a new connection,
and hands in one request after the other. Its rate from its first receipt on is compared with that alone right before
and after, in the same run; how long the newcomer waits for its first receipt is told beside it.
"""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from tellegen.assess.attacks.connections import KINDS
from tellegen.assess.attacks.kinds import At, Kind, Target, trusting
from tellegen.assess.attacks.senders import CUSTOMERS, FEEDER, Batches, Checkpoints, Course, Requests, send
from tellegen.assess.attacks.servers import certificate, running
from tellegen.assess.attacks.siege import besieged
from tellegen.assess.load import Connection
from tellegen.assess.registry import Figure, Options, Report
from tellegen.errors import InputError
from tellegen.service.client import post_request
from tellegen.simulation.shard import HEAD_END, build_shard
from tellegen.units import MARKET_INTERVAL_S

LOST_PERCENT_MAX = 50.0
ORDERS_MS_MAX = 5000.0
"""Orders sent so long before their gate closes are on record in time."""
SENDER, ATTACKER = "127.0.0.1", "127.0.0.2"
_NAME = "witness.example/attacked"


@dataclass(frozen=True, slots=True)
class Attacked:
    """A server, what attackers know of it, and its well-behaved sender."""

    target: Target
    requests: Requests


def measure(options: Options, report: Report) -> None:
    """Add the figures of a run to the report.

    Raises
    ------
    InputError : the extra `service` is not installed, or the system has no addresses to attack from.
    """
    for package in ("msgspec", "uvicorn", "httptools"):
        if find_spec(package) is None:
            raise InputError("bench attacks", package, "is not installed; install tellegen with the extra `service`")
    if sys.platform != "linux":
        raise InputError("bench attacks", sys.platform, "has one loopback address; run it on Linux, which has many")
    count, seconds = (20, 0.5) if options.quick else (200, 3.0)
    kinds = [kind for kind in KINDS if options.only in kind.name]
    if not kinds:
        raise InputError("--only", options.only, f"is in the name of none: {'; '.join(k.name for k in KINDS)}")
    report.about.append(
        f"simulated: {count} hostile connections by loopback from a process of their own on the same "
        f"{os.cpu_count()} cores, a shard of {CUSTOMERS.size} customers, {seconds:g} s a measurement"
    )
    every_order: list[float] = []
    with tempfile.TemporaryDirectory() as folder, attacked(Path(folder), {kind.at for kind in kinds}) as grounds:
        for kind in kinds:
            options.progress(kind.name)
            report.figures.append(_kept(kind, grounds[kind.at], count, seconds, every_order))
    if every_order:
        name = "orders under attack: slowest receipt"
        told: dict[str, str | float] = {"batches of orders": len(every_order)}
        report.figures.append(Figure(name, 1000 * max(every_order), "ms", ORDERS_MS_MAX, {}, told))
    report.notes.append("each kind: what is lost at worst of three; kept: per cent of the rate alone, by who attacks")


def origins(count: int) -> Mapping[str, Sequence[str]]:
    """From which addresses attackers come, by what that is called."""
    many = [f"127.0.{1 + number // 250}.{1 + number % 250}" for number in range(count)]
    return {"one address": [ATTACKER] * count, f"{count} addresses": many, "the sender's": [SENDER] * count}


def _kept(kind: Kind, ground: Attacked, count: int, seconds: float, every_order: list[float]) -> Figure:
    """What a kind leaves to the sender, from each origin."""
    kept: dict[str, float] = {}
    told: dict[str, str | float] = {}
    alone = _course(ground, seconds)
    rates = [alone.per_second]
    for name, own in origins(count).items():
        with besieged(kind, ground.target, own) as tallies:
            course = _course(ground, seconds)
        rates.append(_course(ground, seconds).per_second)
        kept[f"from {name}: kept, %"] = 100 * course.per_second / (0.5 * (rates[-2] + rates[-1]))
        every_order += course.orders_s
        told |= {f"{name}: struck": tallies[0].struck, f"{name}: made anew": tallies[0].again}
        told |= {f"{name}: first receipt, ms": 1000 * course.first_s, f"{name}: sent again": course.failed}
    lost = max(0.0, 100 - min(kept.values()))
    said: dict[str, str | float] = {"alone, requests/s": sum(rates) / len(rates)}
    return Figure(f"{kind.name}: lost", lost, "%", LOST_PERCENT_MAX, kept, said | told)


def _course(ground: Attacked, seconds: float) -> Course:
    return asyncio.run(send(ground.requests, SENDER, seconds))


@contextmanager
def attacked(folder: Path, which: set[At], said: list[str] | None = None) -> Iterator[Mapping[At, Attacked]]:
    """Servers of these, each with its sender, running while the block does; then `said` is what they had to say."""
    grounds: dict[At, Attacked] = {}
    with ExitStack() as stack:
        for at in sorted(which):
            if at is At.WITNESS:
                keys = ("--log", Checkpoints.verifier_key(), "--name", _NAME, "--port", "0")
                address = stack.enter_context(running("witness", str(folder / "witness"), *keys, said=said))
                grounds[at] = Attacked(Target(address), Checkpoints(address))
                continue
            interval = int(time.time()) // MARKET_INTERVAL_S
            keys_of = build_shard(folder / at.name, {FEEDER: CUSTOMERS}, at.encode(), first_interval=interval - 10)
            tls: tuple[str, ...] = ()
            if at is At.INTAKE_TLS:
                pem, key = certificate(folder)
                tls = ("--cert", str(pem), "--key", str(key))
            address = stack.enter_context(running("serve", str(keys_of.path), "--simulation", *tls, said=said))
            batches = Batches(keys_of, address, 1)
            on_record = post_request(batches.batch())
            asyncio.run(_hand_in(address, on_record))
            query = f"source={HEAD_END}&feeder={FEEDER}&interval={interval - 1}&sequence=999999999"
            grounds[at] = Attacked(Target(address, on_record, query), batches)
        yield grounds


async def _hand_in(address: str, request: bytes) -> None:
    async with await Connection.open(address, tls=trusting() if address.startswith("https") else None) as connection:
        await connection.send(request)
