"""A small run with every kind of file there is."""

import json
import sqlite3
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from tellegen.journal import Journal, write_manifest
from tellegen.privacy import Vault
from tellegen.records import Account, Document, Line, Orders, Postings, Prices, Table

ABOUT = {"feeder": "feeder", "intervals": 1, "source": "market operator"}


def frame(table: Table | dict[str, Any]) -> pl.DataFrame:
    """A table as it is published: lines by name."""
    columns = table if isinstance(table, dict) else {n: getattr(table, n) for n in table.row_dtype().names or ()}
    columns["line"] = [Line(value).name.lower() for value in columns["line"].tolist()]
    return pl.DataFrame(columns)


def postings() -> Postings:
    """Two customers at different prices, wholesale, rent and tax; every transaction sums to zero."""
    rows = [
        # account, interval, line, quantity, price, amount
        (1, 100, Line.FORWARD, 500, 200_000, 100_000_000),
        (2, 100, Line.FORWARD, -100, 100_000, -10_000_000),
        (1, 100, Line.ENERGY_TAX, 500, 20_000, 10_000_000),
        (Account.TAX, 100, Line.ENERGY_TAX, -500, 20_000, -10_000_000),
        (Account.WHOLESALE, 100, Line.WHOLESALE_FORWARD, -400, 150_000, -60_000_000),
        (Account.RENT, 100, Line.RENT_FORWARD, 0, 0, -30_000_000),
        (1, 100, Line.RENT_SHARE, 0, 0, -10_000_000),
        (2, 100, Line.RENT_SHARE, 0, 0, -20_000_000),
        (Account.RENT, 100, Line.RENT_SHARE, 0, 0, 30_000_000),
        (2, 101, Line.IMBALANCE, 7, 10_000, 70_000),
        (2, 101, Line.ROUNDING, 0, 0, -70_000),
        (Account.RENT, 101, Line.RENT_DEVIATION, 0, 0, -70_000),
        (Account.ROUNDING, 101, Line.ROUNDING, 0, 0, 70_000),
    ]
    account, interval, line, quantity, price, amount = (np.array(c, dtype=np.int64) for c in zip(*rows, strict=True))
    return Postings(
        unit=np.zeros(len(rows), dtype=np.int64),
        account=account,
        interval=interval,
        line=line,
        quantity=quantity,
        price=price,
        amount=amount,
        cause=np.zeros(len(rows), dtype=np.int64),
    )


def statements() -> dict[str, Any]:
    """The published table has a row per customer and line."""
    rows = [
        (1, Line.FORWARD, 500, 100_000_000, 10),
        (1, Line.ENERGY_TAX, 500, 10_000_000, 1),
        (1, Line.RENT_SHARE, 0, -10_000_000, -1),
        (2, Line.FORWARD, -100, -10_000_000, -1),
        (2, Line.IMBALANCE, 7, 70_000, 1),
        (2, Line.RENT_SHARE, 0, -20_000_000, -2),
        (2, Line.ROUNDING, 0, -70_000, -1),
    ]
    customer, line, quantity, amount, cents = (np.array(c, dtype=np.int64) for c in zip(*rows, strict=True))
    return {"customer": customer, "line": line, "quantity": quantity, "amount": amount, "cents": cents}


def prices(interval: int) -> Prices:
    n = np.arange(3)
    return Prices(
        node=n,
        energy=100_000 + n * 700 + interval,
        root=np.full(3, 100_000),
        losses=n * 500,
        congestion=n * 200,
        voltage=np.full(3, interval),
        low=n,
        high=n + 200_000,
        reactive=n * 3,
        reserve_up=n,
        reserve_down=n,
    )


def write_books(path: Path, table: Postings) -> None:
    balances: dict[int, int] = {}
    for account, amount in zip(table.account.tolist(), table.amount.tolist(), strict=True):
        balances[account] = balances.get(account, 0) + amount
    with sqlite3.connect(path) as database:
        database.execute(
            "CREATE TABLE balances (unit INTEGER, account INTEGER, nanos INTEGER NOT NULL, PRIMARY KEY (unit, account))"
        )
        database.executemany("INSERT INTO balances VALUES (0, ?, ?)", sorted(balances.items()))
    database.close()


def write_record(path: Path) -> tuple[str, bytes]:
    """The journal alone; returns the verifier key and the signing key."""
    with Vault.create(path / "vault", [1, 2], b"seed") as vault:
        signing_key = vault.purpose_key("operator signature")
        with Journal.create(path, "example.org/feeder", signing_key, segment_bytes_max=4000) as journal:
            document = Document("rulebook", b"a text that anybody may read")
            journal.append(vault.seal_document(document, interval=0, known_at=1, **ABOUT))  # type: ignore[arg-type]
            secret = Document("network", b"where the cables are", private=True)
            journal.append(vault.seal_document(secret, interval=0, known_at=1, **ABOUT))  # type: ignore[arg-type]
            journal.commit(1)
            for k in range(100, 103):
                order = Orders(
                    customer=[1, 2, 2],
                    period=[0, 0, 0],
                    device=[0, 0, 1],
                    node=[1, 2, 2],
                    product=[0, 0, 0],
                    side=[1, 1, -1],
                    price_taker=[1, 1, 0],
                    price_micros=[0, 0, 50_000],
                    quantity_w=[2000, 3000, 1000 + k],
                    var_per_kw=[0, 0, 0],
                )
                first = journal.append(vault.seal(order, interval=k, known_at=k, market="real_time", **ABOUT))  # type: ignore[arg-type]
                journal.append(vault.seal(prices(k), interval=k, known_at=k, causes=[first], **ABOUT))  # type: ignore[arg-type]
                journal.commit(k)
            journal.append(vault.seal(postings(), interval=100, known_at=200, **ABOUT))  # type: ignore[arg-type]
            journal.commit(200)
            return journal.verifier.vkey, signing_key


def publish(path: Path, signing_key: bytes) -> None:
    """Tables, books and the manifest, as a finished run has them."""
    (path / "tables").mkdir()
    frame(postings()).write_parquet(path / "tables" / "postings.parquet")
    frame(statements()).write_parquet(path / "tables" / "statements.parquet")
    pl.DataFrame({"interval": [100, 101]}).write_parquet(path / "tables" / "prices.parquet")
    write_books(path / "books.sqlite", postings())
    (path / "summary.json").write_text(json.dumps({"status": "complete"}))
    (path / "report.html").write_text("<p>report</p>\n")
    with Journal.open(path) as journal:
        write_manifest(path, signing_key, journal.checkpoint)


@pytest.fixture
def recorded(tmp_path: Path) -> tuple[Path, str, bytes]:
    """A run that has not ended: directory, verifier key, signing key."""
    return tmp_path, *write_record(tmp_path)


@pytest.fixture
def run(recorded: tuple[Path, str, bytes]) -> tuple[Path, str, bytes]:
    """A finished run."""
    publish(recorded[0], recorded[2])
    return recorded


@pytest.fixture(scope="session")
def lasting_run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[Path, bytes]]:
    """A finished run that examples change and put back, and the bytes of its files outside the vault."""
    path = tmp_path_factory.mktemp("run")
    publish(path, write_record(path)[1])
    files = sorted(p for p in path.rglob("*") if p.is_file() and p.relative_to(path).parts[0] != "vault")
    return path, {file: file.read_bytes() for file in files}


@pytest.fixture(scope="session")
def row_receipt(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, bytes, str]:
    """Receipt of a public row, the row's bytes, the operator's verifier key."""
    path = tmp_path_factory.mktemp("receipts")
    key, _ = write_record(path)
    journal = Journal.open(path)
    return journal.row_receipt(3, 1), prices(100).rows()[1].tobytes(), key
