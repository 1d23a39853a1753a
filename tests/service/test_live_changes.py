"""Whoever is admitted while the intake runs is heard at once."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from cryptography.hazmat.primitives.serialization import load_pem_private_key

pytest.importorskip("uvicorn")
pytest.importorskip("msgspec")

from tellegen.assess.load import Connection
from tellegen.journal import Journal
from tellegen.metering import DeviceCodes, sign_day
from tellegen.privacy import Vault
from tellegen.records import DailyRoots, Readings, Route, Statement
from tellegen.registry import METER_PURPOSE
from tellegen.service.client import post_request
from tellegen.simulation.batches import SignedBatch
from tellegen.units import MARKET_INTERVAL_S
from tellegen.verify import check_receipt

Tellegen = Callable[..., Any]
ORIGIN = "city.example/north"
HEAD = "customer,device,asset,feeder,node,phases,from_interval,capacity_w,import_limit_w,export_limit_w"


@pytest.fixture
def shard(tellegen: Tellegen, tmp_path: Path) -> Path:
    path = tmp_path / "north"
    tellegen("registry", "init", path, "--origin", ORIGIN)
    tellegen("registry", "request", tmp_path / "head")
    tellegen("registry", "enrol", path, tmp_path / "head.csr", "--role", "head-end", "--name", "NORTH")
    return path


@pytest.fixture
def server(shard: Path) -> Iterator[str]:
    command = [sys.executable, "-c", "from tellegen.cli import main; main()", "serve", str(shard)]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2] / "src"), "OPENBLAS_NUM_THREADS": "1"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        yield process.stdout.readline().split()[-1]
        process.terminate()
        assert process.wait(20) == 0


def secret(file: Path) -> Any:
    return load_pem_private_key(file.read_bytes(), None)


def reading(codes: DeviceCodes, counter: int, interval: int) -> Readings:
    row = Readings(
        customer=np.array([7], dtype=np.int32),
        meter=np.array([77]),
        counter=np.array([counter]),
        import_wh=np.array([5]),
        export_wh=np.array([0]),
        reactive_varh=np.array([0]),
        voltage_mv=np.array([230_000]),
        tag=np.zeros(1, dtype="V16"),
    )
    return codes.tag(row, interval)


def send(address: str, key: Path, codes: DeviceCodes, counter: int) -> dict[str, Any]:
    interval = int(time.time()) // MARKET_INTERVAL_S - 1
    return post(address, key, Route.READINGS, interval, reading(codes, counter, interval))


def post(address: str, key: Path, route: Route, interval: int, rows: Readings | DailyRoots) -> dict[str, Any]:
    body = rows.rows().tobytes()
    statement = Statement.of(ORIGIN, route, "NORTH", "F1", "", interval, time.time_ns(), body)
    batch = SignedBatch(statement, secret(key).sign(statement.to_bytes()), body)

    async def go() -> bytes:
        async with await Connection.open(address) as connection:
            return (await connection.send(post_request(batch))).body

    return dict(json.loads(asyncio.run(go())))


def test_a_meter_is_connected_and_heard_while_the_intake_runs(
    tellegen: Tellegen, shard: Path, server: str, tmp_path: Path
) -> None:
    key, live = tmp_path / "head.key", ("--server", server)
    with Vault.open(shard / "vault") as vault:
        codes = DeviceCodes(vault.purpose_key(METER_PURPOSE), [77])
    assert send(server, key, codes, 1)["refused"][0]["reason"] == "unknown"
    (tmp_path / "new.csv").write_text(f"{HEAD}\n7,load,77,F1,3,0,0,9000,9000,4000\n")
    beside = tellegen("registry", "import", shard, tmp_path / "new.csv")
    assert (beside.status, "writer" in beside.err) == (2, True), beside.err
    answer = tellegen("registry", "import", shard, tmp_path / "new.csv", *live, "--json")
    assert answer.status == 0, answer.err
    document = json.loads(answer.out)
    with Journal.open(shard) as journal:
        entry = journal.entry(document["entry"]).to_bytes()
        assert check_receipt(document["receipt"], entry, journal.verifier.vkey).index == document["entry"]
    assert send(server, key, codes, 1)["accepted"] == 1
    assert send(server, key, codes, 1)["refused"][0]["reason"] == "replayed"
    tellegen("registry", "request", tmp_path / "meter")
    meter = ("--role", "meter", "--number", 77)
    answer = tellegen("registry", "enrol", shard, tmp_path / "meter.csr", *meter, *live)
    assert answer.status == 0, answer.err
    last = int(time.time()) // 86_400 * 288 - 1
    day = sign_day(reading(codes, 1, last), last, ORIGIN, secret(tmp_path / "meter.key").sign)
    assert post(server, key, Route.DAILY_ROOTS, last, day)["accepted"] == 1
    forged = sign_day(reading(codes, 2, last), last, ORIGIN, secret(key).sign)
    assert post(server, key, Route.DAILY_ROOTS, last, forged)["refused"][0]["reason"] == "signature"
    assert tellegen("registry", "rotate-code", shard, "--meter", 77, "--from-counter", 10, *live).status == 0
    assert send(server, key, codes, 10)["refused"][0]["reason"] == "code"
    assert tellegen("registry", "revoke", shard, *meter, *live).status == 0
    assert send(server, key, codes, 9)["refused"][0]["reason"] == "revoked"
    again = tellegen("registry", "revoke", shard, *meter, *live)
    assert (again.status, "revoked already" in again.err) == (2, True)


def test_what_does_not_answer_is_one_line(tellegen: Tellegen, shard: Path, tmp_path: Path) -> None:
    (tmp_path / "new.csv").write_text(f"{HEAD}\n7,load,77,F1,3,0,0,9000,9000,4000\n")
    for server, said in (("http://127.0.0.1:1", "does not answer"), ("ftp://h", "must begin with http")):
        answer = tellegen("registry", "import", shard, tmp_path / "new.csv", "--server", server)
        assert (answer.status, said in answer.err) == (2, True), answer.err
    with Journal.open(shard) as journal:
        assert len(journal) == 3  # the authority, its word for the head-end, and that


def test_a_head_ends_file_lands_row_by_row(tellegen: Tellegen, shard: Path, server: str, tmp_path: Path) -> None:
    """CSV and Parquet in: good rows are recorded, the others named; the same file again is the same record."""
    (tmp_path / "new.csv").write_text(f"{HEAD}\n7,load,77,F1,3,0,0,9000,9000,4000\n")
    assert tellegen("registry", "import", shard, tmp_path / "new.csv", "--server", server).status == 0
    with Vault.open(shard / "vault") as vault:
        codes = DeviceCodes(vault.purpose_key(METER_PURPOSE), [77])
    last = int(time.time()) // MARKET_INTERVAL_S - 1
    rows = [(interval, reading(codes, counter, interval)) for counter, interval in ((1, last - 1), (2, last))]
    lines = [
        f"{interval},7,77,{counter},5,0,0,230000,{row.tag.tobytes().hex()}"
        for counter, (interval, row) in enumerate(rows, 1)
    ]
    file, parquet = tmp_path / "day.csv", tmp_path / "day.parquet"
    header = "interval,customer,meter,counter,import_wh,export_wh,reactive_varh,voltage_mv,tag"
    file.write_text("\n".join([header, *lines, lines[0].replace(",5,", ",five,"), lines[0][:-2] + "zz", ""]))
    operator = (shard / "journal" / "operator.pub").read_text().strip()
    where = ("--server", server, "--source", "NORTH", "--feeder", "F1", "--operator-key", operator)
    where += ("--key", tmp_path / "head.key")
    first = tellegen("meters", "send", file, *where, "--json")
    assert (first.status, "row 4, import_wh 'five'" in first.err, "row 5, tag" in first.err) == (1, True, True)
    sent = json.loads(first.out)
    assert [batch["accepted"] for batch in sent["batches"]] == [1, 1]
    pl.read_csv(file, infer_schema=False)[:2].write_parquet(parquet)
    again = json.loads(tellegen("meters", "send", parquet, *where, "--json").out)
    assert [batch["entries"] for batch in again["batches"]] == [batch["entries"] for batch in sent["batches"]]
    for bad, said in ((tmp_path / "head.csr", "not a private key"), (tmp_path / "none", "cannot be read")):
        answer = tellegen("meters", "send", file, *where[:-1], bad)
        assert (answer.status, said in answer.err) == (2, True)
    (tmp_path / "other.csv").write_text("meter,value\n1,2\n")
    answer = tellegen("meters", "send", tmp_path / "other.csv", *where)
    assert (answer.status, "column 'interval' is missing" in answer.err) == (2, True)
