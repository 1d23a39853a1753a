"""The intake over HTTP: what a sender and an auditor see."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import numpy as np
import pytest
from cryptography import x509

pytest.importorskip("uvicorn")
pytest.importorskip("msgspec")


import msgspec

from tellegen.assess.load import Answered, Connection, LoadError, Reply, get_request, offer
from tellegen.journal import Journal, verify_consistency
from tellegen.metering import DeviceCodes
from tellegen.records import Readings
from tellegen.registry import RegistryError, create_shard
from tellegen.service.bodies import MSGPACK, NDJSON
from tellegen.service.client import post_request
from tellegen.simulation.batches import SignedBatch, bids_batch, bids_of, readings_batch, readings_of
from tellegen.simulation.shard import HEAD_END, ShardKeys, build_shard
from tellegen.units import MARKET_INTERVAL_S
from tellegen.verify.receipts import check_receipt

CUSTOMERS = np.arange(1, 41, dtype=np.int32)
FEEDER = "F 1/a"  # a name that must be percent-encoded


def this_interval() -> int:
    return int(time.time()) // MARKET_INTERVAL_S


@dataclass
class Served:
    """A shard, the process that serves it, and its senders."""

    keys: ShardKeys
    codes: DeviceCodes
    address: str
    process: subprocess.Popen[str]
    sequence: int = 0

    def readings(self, customers: np.ndarray = CUSTOMERS) -> Readings:
        self.sequence += 1
        return readings_of(self.keys, self.codes, customers, this_interval() - 1, self.sequence)

    def batch(self, rows: Readings | None = None) -> SignedBatch:
        table = self.readings() if rows is None else rows
        return readings_batch(self.keys, table, FEEDER, this_interval() - 1, self.sequence)

    def bids(self) -> SignedBatch:
        self.sequence += 1
        submissions, orders = bids_of(self.keys, CUSTOMERS, FEEDER, "real_time", this_interval() + 1)
        return bids_batch(self.keys, submissions, orders, FEEDER, "real_time", this_interval() + 1, self.sequence)

    def ask(self, *requests: bytes) -> list[Reply]:
        async def go() -> list[Reply]:
            async with await Connection.open(self.address) as connection:
                return [await connection.send(request) for request in requests]

        return asyncio.run(go())

    def get(self, target: str) -> Reply:
        return self.ask(get_request(target))[0]


def start(path: Path, *options: str) -> tuple[subprocess.Popen[str], str]:
    command = [sys.executable, "-c", "from tellegen.cli import main; main()", "serve", str(path)]
    command += ["--simulation", *options]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2] / "src"), "OPENBLAS_NUM_THREADS": "1"}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
    assert process.stdout is not None
    line = process.stdout.readline()
    assert " at http://" in line, process.communicate()[1]
    return process, line.split()[-1]


@pytest.fixture(scope="module")
def shard(tmp_path_factory: pytest.TempPathFactory) -> ShardKeys:
    path = tmp_path_factory.mktemp("served") / "shard"
    return build_shard(path, {FEEDER: CUSTOMERS}, b"service", first_interval=this_interval() - 100)


@pytest.fixture(scope="module")
def served(shard: ShardKeys) -> Iterator[Served]:
    limits = ["--rows", "200", "--body-bytes", "20000", "--body-seconds", "0.3", "--pending-bytes", "60000"]
    process, address = start(shard.path, *limits)
    codes = DeviceCodes(shard.meter_master, shard.meters_of(CUSTOMERS))
    yield Served(shard, codes, address, process)
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=20)
    assert (process.returncode, err) == (0, "")


def problem(reply: Reply, status: int, name: str) -> dict[str, Any]:
    document = json.loads(reply.body)
    assert (reply.status, document["status"], document["type"]) == (status, status, f"/problems/{name}"), document
    assert document["title"]
    assert document["detail"]
    assert document["instance"].startswith("/")
    return dict(document)


def test_a_receipt_verifies_offline(served: Served) -> None:
    for batch in (served.batch(), served.bids()):
        (reply,) = served.ask(post_request(batch))
        answer = json.loads(reply.body)
        assert (reply.status, answer["accepted"], answer["refused"]) == (200, 40, [])
        with Journal.open(served.keys.path) as journal:
            for entry, receipt in zip(answer["entries"], answer["receipts"], strict=True):
                proven = check_receipt(receipt, journal.entry(entry).to_bytes(), served.keys.vkey)
                assert (proven.index, proven.header.evidence) == (
                    entry,
                    batch.statement.evidence(batch.signature),
                )


def test_the_same_batch_again_is_the_same_record(served: Served) -> None:
    request = post_request(served.batch())
    first, again = (json.loads(reply.body) for reply in served.ask(request, request))
    assert (first["entries"], first["again"], again["again"]) == (again["entries"], False, True)


def test_good_rows_land_and_bad_ones_are_named(served: Served) -> None:
    rows = served.readings().rows()
    rows["tag"][3] = bytes(16)
    (reply,) = served.ask(post_request(served.batch(Readings.from_rows(rows))))
    answer = json.loads(reply.body)
    assert (answer["accepted"], len(answer["entries"])) == (39, 2)
    assert [(row["row"], row["reason"]) for row in answer["refused"]] == [(3, "code")]


def as_text(readings: Readings) -> list[dict[str, Any]]:
    names = readings.row_dtype().names or ()
    rows = [dict(zip(names, row, strict=True)) for row in readings.rows().tolist()]
    return [row | {"tag": base64.b64encode(row["tag"]).decode()} for row in rows]


def resigned(served: Served, batch: SignedBatch, body: bytes) -> SignedBatch:
    """The batch with another body, signed for it."""
    statement = replace(batch.statement, body_sha256=hashlib.sha256(body).hexdigest())
    return SignedBatch(statement, served.keys.sign_as(statement.source, statement.to_bytes()), body)


def test_lines_of_json_with_a_line_that_is_none(served: Served) -> None:
    batch = served.batch()
    lines = [json.dumps(row) for row in as_text(Readings.from_bytes(batch.body))]
    lines[1] = '{"customer": "two"}'
    lines[2] = "no json"
    sent = resigned(served, batch, "\n".join(lines).encode())
    (reply,) = served.ask(post_request(sent, NDJSON))
    answer = json.loads(reply.body)
    assert answer["accepted"] == 38
    assert [(row["row"], row["reason"]) for row in answer["refused"]] == [(1, "malformed"), (2, "malformed")]
    assert "$.customer" in answer["refused"][0]["detail"]


def test_the_sender_of_the_documents_is_understood(served: Served) -> None:
    page = (Path(__file__).parents[2] / "docs" / "ingestion.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"^```python\n(.*?)^```", page, re.DOTALL | re.MULTILINE)
    names: dict[str, Any] = {}
    exec(code, names)
    lines = "\n".join(json.dumps(row) for row in as_text(served.readings()))
    where = {"source": HEAD_END, "feeder": FEEDER, "interval": this_interval() - 1, "sequence": served.sequence}
    where |= {"origin": served.keys.origin}
    key = served.keys.sender_seed(HEAD_END)
    assert names["send"](served.address, "readings", lines.encode(), key, **where)["accepted"] == len(CUSTOMERS)
    refused = names["send"](served.address, "readings", b"{}", key, **where)
    assert refused["type"] == "/problems/conflict"


def test_messagepack_of_bids(served: Served) -> None:
    served.sequence += 1
    interval = this_interval() + 1
    submissions, orders = bids_of(served.keys, CUSTOMERS[:3], FEEDER, "real_time", interval, steps=1)
    names = [name for name in orders.row_dtype().names or () if name != "customer"]
    bids = [
        {
            "customer": int(customer),
            "sequence": 0,
            "signature": signature,
            "orders": [{name: getattr(orders, name)[k].item() for name in names}],
        }
        for k, (customer, signature) in enumerate(
            zip(submissions.customer, submissions.signature.tolist(), strict=True)
        )
    ]
    body = msgspec.msgpack.encode(bids)
    batch = resigned(
        served, bids_batch(served.keys, submissions, orders, FEEDER, "real_time", interval, served.sequence), body
    )
    (reply,) = served.ask(post_request(batch, MSGPACK))
    assert (reply.status, json.loads(reply.body)["accepted"]) == (200, 3)


Change = Callable[[Served], bytes]


@pytest.mark.parametrize(
    ("request_of", "status", "name"),
    [
        (lambda s: post_request(s.batch(), "text/csv"), 415, "media-type"),
        (lambda s: post_request(replace(s.batch(), signature=bytes(64))), 401, "bad-signature"),
        (lambda s: post_request(s.batch()).replace(b"signature: ", b"signature: !"), 401, "bad-signature"),
        (lambda s: post_request(s.batch()).replace(b"tellegen-signature", b"another-header"), 401, "bad-signature"),
        (lambda s: post_request(s.batch()).replace(b"source=head-end", b"source=stranger"), 403, "unknown-source"),
        (lambda s: post_request(s.batch()).replace(b"source=", b"sauce="), 400, "malformed"),
        (lambda s: post_request(s.batch()).replace(b"?source=", b"?sequence=1&source="), 400, "malformed"),
        (lambda s: post_request(s.batch()).replace(b"interval=", b"interval=-"), 400, "malformed"),
        (lambda s: post_request(s.batch()).replace(b"source=head-end", b"source=%ff"), 400, "malformed"),
        (lambda s: post_request(s.batch()).replace(b"POST", b"PUT"), 405, "method"),
        (lambda s: post_request(resigned(s, s.batch(), b"xyz")), 400, "malformed"),
        (lambda s: post_request(resigned(s, s.batch(), s.batch().body * 8)), 413, "too-large"),
        (lambda s: post_request(resigned(s, s.batch(), bytes(68 * 201))), 413, "too-large"),
        (lambda s: post_request(resigned(s, s.batch(), b"\xdd\xff\xff\xff\xff"), MSGPACK), 400, "malformed"),
        (lambda s: post_request(resigned(s, s.batch(), bytes(68))), 422, "no-good-row"),
        (lambda s: get_request("/v1/nothing"), 404, "not-found"),
        (lambda s: get_request("/v1/receipt?entry=999999"), 404, "not-found"),
        (lambda s: get_request("/v1/receipt?entry=x"), 400, "malformed"),
        (lambda s: get_request("/v1/consistency?from=7&to=3"), 404, "not-found"),
    ],
)  # fmt: skip
def test_everything_else_is_a_problem_with_its_remedy(
    served: Served, request_of: Change, status: int, name: str
) -> None:
    before = json.loads(served.get("/healthz").body)["entries"]
    problem(served.ask(request_of(served))[0], status, name)
    assert json.loads(served.get("/healthz").body)["entries"] == before


def test_a_number_stands_for_one_batch(served: Served) -> None:
    first = served.batch()
    served.sequence -= 1
    other = served.batch()
    other = readings_batch(served.keys, served.readings(), FEEDER, this_interval() - 1, first.statement.sequence)
    assert served.ask(post_request(first))[0].status == 200
    problem(served.ask(post_request(other))[0], 409, "conflict")


def raw(served: Served, talk: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[bytes]]) -> bytes:
    async def go() -> bytes:
        host, port = served.address.removeprefix("http://").split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        try:
            return await talk(reader, writer)
        finally:
            writer.close()

    return asyncio.run(go())


def test_a_slow_sender_is_told_so(served: Served) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
        writer.write(post_request(served.batch())[:-10])
        return await reader.read()

    assert b" 408 " in raw(served, talk)


def test_a_body_that_was_refused_is_not_waited_for_either(served: Served) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
        writer.write(b"POST /v1/nothing HTTP/1.1\r\nhost: x\r\ncontent-length: 1000000\r\n\r\n")
        answer = await reader.readuntil(b"\r\n\r\n")

        async def trickle() -> None:
            while True:
                writer.write(b"x")
                await asyncio.sleep(0.1)

        trickling = asyncio.create_task(trickle())
        with contextlib.suppress(ConnectionResetError):
            await asyncio.wait_for(reader.read(), 20)  # until the server closes
        trickling.cancel()
        return answer

    assert b" 405 " in raw(served, talk)


def test_a_body_without_a_length_is_limited_as_it_comes(served: Served) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
        head, _, _ = post_request(served.batch()).partition(b"content-length")
        writer.write(head + b"tellegen-signature: " + b"A" * 86 + b"==\r\ntransfer-encoding: chunked\r\n\r\n")
        for _ in range(21):
            writer.write(b"3e8\r\n" + bytes(1000) + b"\r\n")
        return await reader.read()

    assert b" 413 " in raw(served, talk)


def test_of_what_waits_the_slowest_goes(served: Served) -> None:
    """Bodies count as they come: who sent most of one and no more makes room for who sends all of it."""

    async def go() -> Reply:
        async with await Connection.open(served.address) as slow, await Connection.open(served.address) as second:
            big = post_request(resigned(served, served.batch(), bytes(19_000)))
            unproven = big.partition(b"content-digest")[0] + b"\r\n" + big.partition(b"\r\n\r\n")[2]
            slow._writer.write(unproven[:-100])
            await slow._writer.drain()
            while b"pending_bytes 18900" not in (await second.send(get_request("/metrics"))).body:
                pass
            reply = await second.send(unproven)
            with pytest.raises(LoadError):
                await slow.send(unproven[-100:])
            return reply

    problem(asyncio.run(go()), 400, "malformed")


def test_endless_headers_end_the_connection(served: Served) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
        writer.write(b"GET /healthz HTTP/1.1\r\n")
        for k in range(40):
            writer.write(b"h%d: " % k + b"x" * 500 + b"\r\n")
        return await reader.read()

    try:
        reply = raw(served, talk)
    except ConnectionError:  # what was sent and not read resets the connection, sometimes before its last words
        reply = b" 400 "
    assert b" 400 " in reply.split(b"\r\n")[0]


def test_the_log_can_be_audited(served: Served) -> None:
    served.ask(post_request(served.batch()))
    with Journal.open(served.keys.path) as journal:
        old = journal.checkpoint
        served.ask(post_request(served.batch()))
        journal.refresh()
        new = journal.checkpoint
        assert served.get("/checkpoint").body.decode() == new.note
        receipt = served.get(f"/v1/receipt?entry={old.size}").body.decode()
        check_receipt(receipt, journal.entry(old.size).to_bytes(), served.keys.vkey)
    lines = served.get(f"/v1/consistency?from={old.size}&to={new.size}").body.split()
    proof = [base64.b64decode(line) for line in lines]
    assert verify_consistency(old.size, new.size, old.root, new.root, proof)


def test_the_log_is_served_as_tlog_tiles_has_it(served: Served) -> None:
    """Tiles are bytes that never change; whoever only asks whether one is there gets its size."""
    served.ask(post_request(served.batch()))
    for path, kind, caching in (
        ("/tile/entries/000.p/1", "application/octet-stream", "public, max-age=31536000, immutable"),
        ("/checkpoint", "text/plain; charset=utf-8", "no-cache"),
    ):
        with urlopen(f"{served.address}{path}") as reply:
            size = len(reply.read())
            assert (reply.headers["content-type"], reply.headers["cache-control"]) == (kind, caching)
        with urlopen(Request(f"{served.address}{path}", method="HEAD")) as reply:
            assert (reply.status, reply.headers["content-length"], reply.read()) == (200, str(size), b"")


def test_health_and_counts_are_shown(served: Served) -> None:
    assert json.loads(served.get("/healthz").body)["status"] == "ok"
    text = served.get("/metrics").body.decode()
    assert 'tellegen_rows_accepted_total{route="readings"}' in text
    assert 'tellegen_commit_seconds_bucket{le="+Inf"}' in text
    assert served.get("/problems/busy").status == 200


def test_a_burst_is_answered_whole(served: Served) -> None:
    """Fifty batches at once over eight connections: every one answered with a receipt, every row on record."""
    requests = [post_request(served.batch()) for _ in range(50)]
    answers: list[Answered] = []
    asyncio.run(offer(served.address, requests, 1e6, connections=8, answered=lambda _, a: answers.append(a)))
    entries = [json.loads(a.reply.body)["entries"][0] for a in answers]
    with Journal.open(served.keys.path) as journal:
        assert len(set(entries)) == 50
        assert sum(journal.entry(entry).rows for entry in entries) == 50 * len(CUSTOMERS)


def test_a_server_that_is_asked_to_end_answers_first_and_loses_nothing(tmp_path: Path) -> None:
    keys = build_shard(tmp_path / "s", {FEEDER: CUSTOMERS}, b"end", first_interval=this_interval() - 100)
    process, address = start(keys.path)
    codes = DeviceCodes(keys.meter_master, keys.meters_of(CUSTOMERS))
    served = Served(keys, codes, address, process)
    requests = [post_request(served.batch()) for _ in range(200)]
    answers: dict[int, Answered] = {}

    def answered(number: int, answer: Answered) -> None:
        answers[number] = answer
        if len(answers) == 5:
            process.send_signal(signal.SIGINT)

    with contextlib.suppress(LoadError, OSError):
        asyncio.run(offer(address, requests, 1e6, connections=4, answered=answered))
    assert process.wait(timeout=20) == 0
    with Journal.open(keys.path) as journal:
        for answer in answers.values():
            if answer.reply.status == 200:
                document = json.loads(answer.reply.body)
                entry = journal.entry(document["entries"][0])
                check_receipt(document["receipts"][0], entry.to_bytes(), keys.vkey)


def test_a_server_that_is_killed_has_lost_nothing_it_acknowledged(tmp_path: Path) -> None:
    """Killed under load; then everything is sent again, and each batch is on record once, where it was said."""
    keys = build_shard(tmp_path / "s", {FEEDER: CUSTOMERS}, b"kill", first_interval=this_interval() - 100)
    codes = DeviceCodes(keys.meter_master, keys.meters_of(CUSTOMERS))
    process, address = start(keys.path)
    served = Served(keys, codes, address, process)
    requests = [post_request(served.batch()) for _ in range(200)]
    told: dict[int, list[int]] = {}

    def answered(number: int, answer: Answered) -> None:
        told[number] = json.loads(answer.reply.body)["entries"]
        if len(told) == 60:
            served.process.kill()

    with contextlib.suppress(LoadError, OSError):
        asyncio.run(offer(address, requests, 1e6, connections=6, answered=answered))
    process.wait()
    process, address = start(keys.path)
    documents: dict[int, dict[str, Any]] = {}
    asyncio.run(
        offer(
            address, requests, 1e6, connections=6, answered=lambda n, a: documents.update({n: json.loads(a.reply.body)})
        )
    )
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=20) == 0
    for number, entries in told.items():
        assert (documents[number]["entries"], documents[number]["again"]) == (entries, True)
    with Journal.open(keys.path) as journal:
        names = [journal.entry(index).name for index in journal.find(kind=Readings.kind)]
    assert sorted(names) == sorted(f"readings/{n + 1}" for n in range(len(requests)))


def test_a_shard_that_is_none_is_one_line(tmp_path: Path, tellegen: Callable[..., Any]) -> None:
    answer = tellegen("serve", tmp_path)
    assert answer.status == 2
    assert answer.err.count("\n") == 1


def test_a_simulation_is_not_served_in_earnest(tmp_path: Path, tellegen: Callable[..., Any]) -> None:
    """Whoever knows its seed knows every key: vault, name and certificates say so."""
    keys = build_shard(tmp_path / "s", {FEEDER: CUSTOMERS}, b"seed", first_interval=this_interval() - 100)
    assert keys.origin.startswith("simulated/")
    create_shard(tmp_path / "c", "city.example/north", int(time.time()), seed=b"seed")
    for command in (("serve", keys.path), ("registry", "list", tmp_path / "c")):
        answer = tellegen(*command)
        assert (answer.status, "made from a seed" in answer.err, answer.err.count("\n")) == (2, True, 1)
    assert tellegen("registry", "list", tmp_path / "c", "--simulation").status == 0
    answer = tellegen("witness", tmp_path / "w", "--log", keys.vkey, "--name", "witness.example/1")
    assert (answer.status, "is a simulation" in answer.err) == (2, True)
    with pytest.raises(RegistryError, match="simulation"):
        create_shard(tmp_path / "d", "simulated/city.example/north", int(time.time()))
    root = x509.load_pem_x509_certificate((tmp_path / "c" / "registry" / "root.pem").read_bytes())
    assert "simulated/city.example/north" in root.subject.rfc4514_string()


def test_a_shard_has_one_server(served: Served, tellegen: Callable[..., Any]) -> None:
    answer = tellegen("serve", served.keys.path, "--simulation")
    assert answer.status == 2
    assert "another writer" in answer.err
