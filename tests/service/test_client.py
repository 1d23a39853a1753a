"""An answer counts once it is proven: signed for by the shard, and about the very batch that was sent."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tellegen.errors import InputError
from tellegen.intake.intake import Intake
from tellegen.intake.sent import SentReadings
from tellegen.journal.clock import RecordClock
from tellegen.metering import DeviceCodes
from tellegen.operations.exchange import Reply
from tellegen.records import Readings
from tellegen.service.client import IntakeClient, UnprovenError, check_reply, send_readings
from tellegen.simulation.batches import SignedBatch, readings_batch, readings_of
from tellegen.simulation.shard import HEAD_END, ShardKeys, build_shard

FIRST = 5_900_000
NOW = 300 * (FIRST + 10)
ALL = np.arange(1, 5, dtype=np.int32)


def shard(path: Path, seed: bytes, origin: str) -> ShardKeys:
    return build_shard(path, {"F1": ALL}, seed, first_interval=FIRST, origin=origin)


def batch(keys: ShardKeys, number: int, bad: int | None = None) -> SignedBatch:
    codes = DeviceCodes(keys.meter_master, keys.meters_of(ALL))
    rows = readings_of(keys, codes, ALL, FIRST + 5, number).rows()
    if bad is not None:
        rows["tag"][bad] = bytes(16)
    return readings_batch(keys, Readings.from_rows(rows), "F1", FIRST + 5, number)


def answers(keys: ShardKeys, batches: list[SignedBatch]) -> list[Reply]:
    intake = Intake.open(keys.path, None, lambda newest: RecordClock(wall=lambda: NOW, not_before=newest))
    taken = [intake.take(b.statement, b.signature, lambda b=b: SentReadings.from_bytes(b.body)) for b in batches]
    intake.commit()
    found = [
        Reply(each.accepted, each.refused, each.entries, tuple(map(intake.journal.entry_bytes, each.entries)), tuple(r))
        for each, r in zip(taken, intake.receipts(taken), strict=True)
    ]
    intake.close()
    return found


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> tuple[ShardKeys, list[SignedBatch], list[Reply]]:
    keys = shard(tmp_path_factory.mktemp("given") / "s", b"client", "city.example/north")
    batches = [batch(keys, 1), batch(keys, 2, bad=3)]
    return keys, batches, answers(keys, batches)


def test_a_reply_is_checked_offline(given: tuple[ShardKeys, list[SignedBatch], list[Reply]]) -> None:
    keys, batches, replies = given
    for sent, reply in zip(batches, replies, strict=True):
        check_reply(reply, sent.statement, sent.signature, keys.vkey)
    assert [len(reply.entries) for reply in replies] == [1, 2]  # the second names a row that does not count


@pytest.mark.parametrize(
    "change",
    [
        lambda mine, other: other,
        lambda mine, other: replace(mine, receipts=other.receipts[:1]),
        lambda mine, other: replace(mine, headers=other.headers[:1]),
        lambda mine, other: replace(mine, entries=other.entries[:1]),
        lambda mine, other: replace(mine, entries=(), headers=(), receipts=()),
        lambda mine, other: replace(mine, accepted=3),
        lambda mine, other: replace(mine, receipts=("not a receipt at all",)),
        lambda mine, other: replace(
            mine, entries=other.entries[1:], headers=other.headers[1:], receipts=other.receipts[1:]
        ),
    ],
)
def test_a_receipt_of_anything_else_proves_nothing(
    given: tuple[ShardKeys, list[SignedBatch], list[Reply]], change: Callable[[Reply, Reply], Reply]
) -> None:
    keys, batches, replies = given
    with pytest.raises(UnprovenError, match="does not prove"):
        check_reply(change(*replies), batches[0].statement, batches[0].signature, keys.vkey)


def test_another_shards_receipt_proves_nothing(
    given: tuple[ShardKeys, list[SignedBatch], list[Reply]], tmp_path: Path
) -> None:
    _, batches, replies = given
    south = shard(tmp_path / "south", b"south", "city.example/south")
    with pytest.raises(UnprovenError):
        check_reply(replies[0], batches[0].statement, batches[0].signature, south.vkey)


@pytest.fixture
def impostor() -> Iterator[str]:
    """It says that everything is accepted."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            said: dict[str, Any] = {"accepted": 4, "refused": [], "entries": [3], "receipts": ["not a receipt at all"]}
            content = json.dumps(said).encode()
            self.send_response(200)
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


def test_an_impostor_is_not_believed(given: tuple[ShardKeys, list[SignedBatch], list[Reply]], impostor: str) -> None:
    keys, batches, _ = given
    rows = Readings.from_bytes(batches[0].body)
    with pytest.raises(InputError, match="does not"):
        send_readings(
            IntakeClient(impostor, keys.vkey), HEAD_END, "F1", FIRST + 5, rows, partial(keys.sign_as, HEAD_END)
        )
