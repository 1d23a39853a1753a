"""`tellegen prices` as a publisher uses it, `tellegen verify --root-prices` as whoever distrusts an operator does."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tellegen.units import interval_start

Command = Callable[..., Any]
NAME = "exchange.example/DE-LU"
ROWS = "2026-03-02T23:00Z,0.06,0.05\n2026-03-03T00:00Z,0.061,0.051\n2026-03-03T01:00Z,,0.052\n"


def test_a_publisher_makes_a_key_and_signs(tellegen: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("prices.csv").write_text("time,real_time,day_ahead\n" + ROWS)
    made = tellegen("prices", "key", NAME)
    assert made.out.splitlines()[2:4] == ["[root_prices]", 'proof = "signature"']
    vkey = made.out.split('"')[-2]
    assert vkey.startswith(f"{NAME}+")
    assert Path("publisher.pub").read_text() == f"{vkey}\n"
    assert tellegen("prices", "key", NAME).err == "tellegen: publisher.key: file exists; a key is never overwritten\n"
    said = tellegen("prices", "sign", "prices.csv", "--name", NAME, "--key", "publisher.key")
    assert said.out == f"prices.csv: 3 rows signed by {NAME}\n"
    checked = tellegen("prices", "check", "prices.csv", "--publisher", vkey)
    assert (checked.status, checked.out) == (0, f"5 of 5 prices are signed by {NAME}\n")
    Path("prices.csv").write_text(Path("prices.csv").read_text().replace(",0.061,", ",0.061001,"))
    checked = tellegen("prices", "check", "prices.csv", "--publisher", vkey)
    assert (checked.status, checked.out) == (
        1,
        f"prices.csv: line 3: the real_time price is not signed by {NAME}\nNO: 4 of 5 prices are signed by {NAME}\n",
    )
    told = json.loads(tellegen("prices", "check", "prices.csv", "--publisher", vkey, "--json").out)
    assert told == {"ok": False, "signed": 4, "unsigned": [{"line": 3, "market": "real_time"}]}


def test_what_is_no_key_is_one_line(tellegen: Command, tmp_path: Path) -> None:
    (tmp_path / "prices.csv").write_text(ROWS)
    answer = tellegen("prices", "check", tmp_path / "prices.csv", "--publisher", "me")
    assert (answer.status, answer.err) == (
        2,
        "tellegen: command line: --publisher verifier key 'me' is not NAME+ID+BASE64\n",
    )
    assert tellegen("prices", "key", "a name").status == 2
    answer = tellegen("prices", "sign", tmp_path / "prices.csv", "--name", NAME, "--key", tmp_path / "prices.csv")
    assert (answer.status, answer.err.count("\n")) == (2, 1)


def test_a_difference_from_what_was_published_is_a_no(tellegen: Command, shard_directory: Path, tmp_path: Path) -> None:
    """A shard whose rules ask for no proof says so; its prices are still held against what somebody else has kept."""
    whole = tellegen("verify", shard_directory, "--json")
    words = next(check["detail"] for check in json.loads(whole.out)["checks"] if check["name"] == "root prices")
    assert "unproven, as the rules ask for no proof" in words
    assert "root_prices" not in json.loads(whole.out)
    first = 4_924_368
    rows = [(first + k, 250_000 + 1_000 * ((first + k) % 7)) for k in range(4)]

    def written(by: int) -> Path:
        lines = [f"{interval_start(t).isoformat()},{(m + (by if t == first + 2 else 0)) / 1e6:.6f}\n" for t, m in rows]
        (tmp_path / "published.csv").write_text("time,real_time\n" + "".join(lines))
        return tmp_path / "published.csv"

    assert tellegen("verify", shard_directory, "--root-prices", written(0)).status == 0
    answer = tellegen("verify", shard_directory, "--root-prices", written(1), "--json")
    found = json.loads(answer.out)["root_prices"]
    assert (answer.status, found["agree"], [each["interval"] for each in found["differ"]]) == (1, 3, [first + 2])
    assert found["differ"][0]["published"] - found["differ"][0]["recorded"] == 1
    answer = tellegen("verify", shard_directory, "--root-prices", tmp_path / "none.csv")
    assert (answer.status, answer.out) == (2, "")
    assert answer.err == f"tellegen: {tmp_path / 'none.csv'}: file cannot be read: No such file or directory\n"
