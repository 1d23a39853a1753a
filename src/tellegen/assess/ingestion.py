"""Benchmark ``ingestion``: receipts over HTTP from the real server, under load that does not wait for it.

The server is `tellegen serve` in a process of its own, or one for each of two shards. Another process makes the load:
it prepares and signs every request beforehand, then sends each at its time whatever became of the others, so that a
slow answer makes the next latencies worse and not fewer. Afterwards every batch that was answered with a receipt must
stand on record with the digest that its sender signed, and a sample of the receipts is verified offline.

Who authenticates what: a batch stands under its sender's Ed25519 signature, a reading under its meter's code
(HMAC-SHA256 under a key that the operator shares), a bid under its customer's Ed25519 signature.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from nacl.bindings import crypto_sign, crypto_sign_open, crypto_sign_seed_keypair
from numpy.typing import NDArray

from tellegen.assess.load import Answered, Connection, get_request, offer
from tellegen.assess.registry import Figure, Options, Report
from tellegen.assess.workers import run_together
from tellegen.errors import InputError, TellegenError
from tellegen.journal import Journal
from tellegen.metering import DeviceCodes
from tellegen.privacy import Vault
from tellegen.records import Orders, Readings, Submissions, Table, bids_body
from tellegen.service.client import post_request
from tellegen.simulation.batches import SignedBatch, bids_batch, bids_of, readings_batch, readings_of
from tellegen.simulation.shard import ShardKeys, build_shard
from tellegen.units import MARKET_INTERVAL_S
from tellegen.verify import check_receipt

FEEDER = "bench"
_START = "import sys; from tellegen.cli import main; main()"
_SAMPLES = 200
_PEER_BATCH = 1000


@dataclass(frozen=True, slots=True)
class Load:
    """What is offered.

    Attributes
    ----------
    name : of the row of figures.
    items_per_s : readings and bids together; 0: as many as are taken, over few connections.
    seconds : for how long.
    per_request : readings or bids in one request.
    bids : every other request holds bids.
    connections : kept open.
    p99_ms : target of the receipts' latency. sustained : whether the rate itself is one.
    """

    name: str
    items_per_s: int
    seconds: float
    per_request: int
    bids: bool = False
    connections: int = 32
    p99_ms: float | None = None
    sustained: bool = False

    @property
    def requests(self) -> int:
        """How many requests that is."""
        return max(2, round((self.items_per_s or UNBOUNDED_ITEMS_PER_S) * self.seconds / self.per_request))


UNBOUNDED_ITEMS_PER_S = 150_000
"""Items prepared for each second of a load without a rate."""
FULL = (
    Load("readings and bids", 6_700, 20, 100, bids=True, p99_ms=100),
    Load("readings", 6_700, 10, 100, p99_ms=100),
    Load("readings, the report's peak", 56_000, 60, 1000, p99_ms=500, sustained=True),
    Load("readings, as many as are taken", 0, 5, 1000, connections=4),
)
QUICK = (Load("readings and bids", 2_000, 1.0, 100, bids=True),)


@dataclass(slots=True)
class Outcome:
    """What a load came to, as its sender saw it.

    Attributes
    ----------
    latency_s : per request, from its time, in order. digests : what was signed, per request.
    entries : journal indices answered, per request.
    samples : receipts with their entries.
    """

    signing_s: float
    elapsed_s: float = 0.0
    client_cpu_s: float = 0.0
    accepted: int = 0
    latency_s: list[float] = field(default_factory=list)
    digests: list[str] = field(default_factory=list)
    entries: list[tuple[int, ...]] = field(default_factory=list)
    samples: list[tuple[int, str]] = field(default_factory=list)


class _Document(msgspec.Struct):
    entries: list[int]
    receipts: list[str]
    accepted: int
    again: bool


def measure(options: Options, report: Report) -> None:
    """Offer each load to one server, and the heaviest to two shards as well."""
    for package in ("uvicorn", "httptools"):
        if find_spec(package) is None:
            raise InputError("bench ingestion", package, "is not installed; install tellegen with the extra `service`")
    customers = np.arange(1, (2_000 if options.quick else 100_000) + 1, dtype=np.int32)
    with tempfile.TemporaryDirectory() as folder:
        interval = int(time.time()) // MARKET_INTERVAL_S - 1
        fresh = []
        for number in range(1 if options.quick else 2):
            options.progress(f"a shard of {customers.size} customers")
            path, seed = Path(folder) / f"fresh-{number}", b"bench %d" % number
            fresh.append(build_shard(path, {FEEDER: customers}, seed, first_interval=interval - 1))
        for load in QUICK if options.quick else FULL:
            _measure_load(load, fresh[:1], customers, interval, options, report)
        for load in () if options.quick else FULL[2:]:
            _measure_load(load, fresh, customers, interval, options, report)
        report.figures.append(_yardstick(500 if options.quick else 5_000))
        options.progress("peers: the same rows into SQLite, and into a bare file")
        _measure_peers(Path(folder), 20 if options.quick else 200, report)


def _measure_load(
    load: Load,
    fresh: Sequence[ShardKeys],
    customers: NDArray[np.int32],
    interval: int,
    options: Options,
    report: Report,
) -> None:
    shards = len(fresh)
    what = f"{load.name}{', two shards' if shards > 1 else ''}"
    options.progress(f"{what}: {load.items_per_s or 'unbounded'} items/s for {load.seconds:g} s")
    keys = [replace(each, path=each.path.with_name(f"{each.path.name} {what}")) for each in fresh]
    for each, own in zip(fresh, keys, strict=True):
        shutil.copytree(each.path, own.path)
    with ExitStack() as stack:
        servers = [stack.enter_context(_served(each.path)) for each in keys]
        before = [_cpu_seconds(address) for address in servers]
        load_before = os.getloadavg()[0]
        _, outcomes = run_together(
            prepare,
            [(each, address, load, shards, customers, interval) for each, address in zip(keys, servers, strict=True)],
        )
        server_cpu = sum(_cpu_seconds(address) for address in servers) - sum(before)
    options.progress(f"{what}: looking for every batch on record")
    lost = sum(_missing(each, outcome) for each, outcome in zip(keys, outcomes, strict=True))
    latency = 1000 * np.concatenate([np.array(outcome.latency_s) for outcome in outcomes])
    accepted, elapsed = sum(o.accepted for o in outcomes), max(o.elapsed_s for o in outcomes)
    conditions: dict[str, str | float] = {
        "items": accepted,
        "per request": load.per_request,
        "servers": shards,
        "signing before, CPU s": sum(o.signing_s for o in outcomes),
        "client CPU s": sum(o.client_cpu_s for o in outcomes),
        "load average before": load_before,
    }
    quantiles = {"p50": np.quantile(latency, 0.5), "p99.9": np.quantile(latency, 0.999), "max": latency.max()}
    report.figures += [
        Figure(
            f"{what}: receipts, p99",
            float(np.quantile(latency, 0.99)),
            "ms",
            load.p99_ms if load.items_per_s else None,
            {name: float(value) for name, value in quantiles.items()},
            conditions,
        ),
        Figure(f"{what}: taken", accepted / elapsed, "items/s"),
        Figure(f"{what}: server", 1e6 * server_cpu / max(accepted, 1), "us CPU/item"),
        Figure(f"{what}: acknowledged and not on record as signed", float(lost), "batches", 0.0),
    ]
    if load.sustained:
        report.figures.append(
            Figure(f"{what}: to take what is offered in {load.seconds:g} s", elapsed, "s", load.seconds + 0.5)
        )


# The sender's process


def prepare(keys: ShardKeys, address: str, load: Load, shards: int, customers: NDArray[np.int32], interval: int) -> Any:
    """Make and sign the requests of one shard; returns what sends them."""
    start = time.process_time()
    codes = DeviceCodes(keys.meter_master, keys.meters_of(customers))
    digests, requests = [], []
    for batch in _batches(keys, codes, load, load.requests // shards, customers, interval):
        digests.append(batch.statement.body_sha256)
        requests.append(post_request(batch))
    return partial(_send, address, requests, load, shards, Outcome(time.process_time() - start, digests=digests))


def _batches(
    keys: ShardKeys, codes: DeviceCodes, load: Load, count: int, customers: NDArray[np.int32], interval: int
) -> Iterator[SignedBatch]:
    groups = customers.size // load.per_request
    for number in range(count):
        turn, group = divmod(number, groups)
        chosen = customers[group * load.per_request : (group + 1) * load.per_request]
        if load.bids and number % 2:
            submissions, orders = bids_of(keys, chosen, FEEDER, "real_time", interval + 2)
            yield bids_batch(keys, submissions, orders, FEEDER, "real_time", interval + 2, number)
        else:
            readings = readings_of(keys, codes, chosen, interval, turn + 1)
            yield readings_batch(keys, readings, FEEDER, interval, number)


def _send(address: str, requests: Sequence[bytes], load: Load, shards: int, outcome: Outcome) -> Outcome:
    outcome.latency_s = [0.0] * len(requests)
    outcome.entries = [()] * len(requests)
    every = max(1, len(requests) // _SAMPLES)
    read = msgspec.json.Decoder(_Document).decode

    def answered(number: int, answer: Answered) -> None:
        outcome.latency_s[number] = answer.latency_s
        if answer.reply.status != 200:
            raise TellegenError(f"request {number}: {answer.reply.status} {answer.reply.body[:300]!r}")
        document = read(answer.reply.body)
        outcome.accepted += document.accepted
        outcome.entries[number] = tuple(document.entries)
        if number % every == 0:
            outcome.samples += zip(document.entries, document.receipts, strict=True)

    start = time.process_time()
    per_second = load.items_per_s / load.per_request / shards if load.items_per_s else float("inf")
    outcome.elapsed_s = asyncio.run(
        offer(address, requests, per_second, connections=load.connections, answered=answered)
    )
    outcome.client_cpu_s = time.process_time() - start
    return outcome


# The server's process


@contextmanager
def _served(path: Path) -> Iterator[str]:
    """Address of `tellegen serve` on a shard."""
    command = [sys.executable, "-c", _START, "serve", str(path), "--simulation", "--tied", "--rate", "100000000"]
    source = str(Path(__file__).parents[2])
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([source, os.environ.get("PYTHONPATH", "")])}
    process = subprocess.Popen(  # noqa: S603
        command,
        stdin=subprocess.PIPE,  # its end is ours: `--tied`
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line:
            raise TellegenError("the server did not start; its message stands above")
        yield line.split()[-1]
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=60)


def _cpu_seconds(address: str) -> float:
    async def ask() -> bytes:
        async with await Connection.open(address) as connection:
            return (await connection.send(get_request("/metrics"))).body

    match = re.search(rb"^process_cpu_seconds_total (\S+)$", asyncio.run(ask()), re.MULTILINE)
    assert match is not None
    return float(match[1])


def _missing(keys: ShardKeys, outcome: Outcome) -> int:
    """Batches with a receipt that are not on record as they were signed; a sample of receipts is verified besides."""
    missing = 0
    with Vault.open(keys.path / "vault") as vault, Journal.open(keys.path) as journal:

        def table(entry: int) -> Table:
            return vault.unseal(journal.entry(entry), journal.payload(entry)).table

        for digest, entries in zip(outcome.digests, outcome.entries, strict=True):
            body = b""
            if entries:
                first = table(entries[0])
                if isinstance(first, Readings):
                    body = first.rows().tobytes()
                else:
                    second = table(entries[1])
                    assert isinstance(first, Orders)
                    assert isinstance(second, Submissions)
                    body = bids_body(second, first)
            missing += hashlib.sha256(body).hexdigest() != digest
        for entry, receipt in outcome.samples:
            missing += check_receipt(receipt, journal.entry(entry).to_bytes(), keys.vkey).index != entry
    return missing


# Peers


def _yardstick(count: int) -> Figure:
    """What one Ed25519 verification costs in this run: other figures of CPU time go with it on a busy machine."""
    public, secret = crypto_sign_seed_keypair(bytes(32))
    message = crypto_sign(bytes(100), secret)
    start = time.process_time()
    for _ in range(count):
        crypto_sign_open(message, public)
    return Figure("yardstick: one Ed25519 verification", 1e6 * (time.process_time() - start) / count, "us CPU")


def _measure_peers(folder: Path, batches: int, report: Report) -> None:
    """The same rows without authentication, encryption, proofs or a network: one core of this process."""
    customers = np.arange(1, _PEER_BATCH + 1, dtype=np.int32)
    keys = ShardKeys(folder, "", bytes(32), b"peers")
    codes = DeviceCodes(keys.meter_master, keys.meters_of(customers))
    tables = [readings_of(keys, codes, customers, 1, turn + 1) for turn in range(batches)]
    names = Readings.row_dtype().names or ()
    rows = [[(*row[:-1], bytes(row[-1])) for row in table.rows().tolist()] for table in tables]
    database = sqlite3.connect(folder / "peer.sqlite", isolation_level=None)
    database.execute("PRAGMA journal_mode = WAL")
    database.execute("PRAGMA synchronous = FULL")
    database.execute(f"CREATE TABLE reading ({', '.join(names)}, PRIMARY KEY (meter, counter)) WITHOUT ROWID")
    insert = f"INSERT INTO reading VALUES ({', '.join('?' * len(names))})"  # noqa: S608
    cpu, wall = time.process_time(), time.perf_counter()
    for each in rows:
        database.execute("BEGIN")
        database.executemany(insert, each)
        database.execute("COMMIT")
    report.figures += _peer("SQLite WAL, FULL, a row per reading, 1,000 a transaction", batches, cpu, wall)
    database.close()
    handle = os.open(folder / "peer.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    sync = getattr(os, "fdatasync", os.fsync)
    cpu, wall = time.process_time(), time.perf_counter()
    for table in tables:
        os.write(handle, table.rows().tobytes())
        sync(handle)
    report.figures += _peer("append and fdatasync of 1,000 rows, nothing else", batches, cpu, wall)
    os.close(handle)


def _peer(name: str, batches: int, cpu: float, wall: float) -> list[Figure]:
    rows = batches * _PEER_BATCH
    return [
        Figure(f"peer: {name}", rows / (time.perf_counter() - wall), "rows/s"),
        Figure(f"peer: {name}", 1e6 * (time.process_time() - cpu) / rows, "us CPU/item"),
    ]
