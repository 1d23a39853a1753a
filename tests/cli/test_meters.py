"""`tellegen meters`: what it prints, writes and refuses."""

from __future__ import annotations

import csv
import importlib.util
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tellegen.cli import meters  # noqa: F401 - commands register on import

Tellegen = Callable[..., Any]

_spec = importlib.util.spec_from_file_location("cosem", Path(__file__).parents[1] / "metering" / "cosem.py")
cosem = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(cosem)


def profile(tmp_path: Path, changes: dict[int, str]) -> Path:
    """A day of hours: 500 and 501 Wh in turn, some rows written otherwise."""
    usual = [f"4711,2026-01-15T{hour:02d}:00Z,60,{500 + hour % 2},Wh" for hour in range(24)]
    lines = ["meter,start,minutes,import,unit", *(changes.get(hour, row) for hour, row in enumerate(usual))]
    file = tmp_path / "profile.csv"
    file.write_text("".join(f"{line}\n" for line in lines if line), encoding="utf-8")
    return file


def test_a_hole_is_estimated_and_the_edit_written_with_its_reason(tellegen: Tellegen, tmp_path: Path) -> None:
    file, out = profile(tmp_path, {5: ""}), tmp_path / "edits.csv"
    done = tellegen("meters", "validate", file, "--edits", out, "--json")
    assert done.status == 0
    document = json.loads(done.out)
    (edit,) = document["edits"]
    assert edit == {
        "meter": 4711,
        "start": "2026-01-15T05:00:00Z",
        "minutes": 60,
        "import_wh": 500,
        "export_wh": None,
        "reactive_varh": None,
        "rule": "missing",
        "reason": "interpolation",
    }
    assert document["days"] == [
        {
            "meter": 4711,
            "date": "2026-01-15",
            "rules": {"missing": 1},
            "estimated": {"interpolation": 1},
            "unresolved": 0,
        }
    ]
    (row,) = csv.DictReader(io.StringIO(out.read_text()))
    assert row["import_wh"] == "500"
    again = tellegen("meters", "validate", file, "--edits", out)
    assert again.status == 2
    assert "exists already" in again.err


def test_a_rejected_row_is_said_and_the_answer_is_no(tellegen: Tellegen, tmp_path: Path) -> None:
    done = tellegen("meters", "validate", profile(tmp_path, {5: "4711,2026-01-15T05:00Z,60,5_0,Wh"}))
    assert done.status == 1
    assert "row 7, import '5_0' is not a number" in done.err
    assert "1 rejected" in done.out
    assert "missing (1); estimated: interpolation (1)" in done.out


def test_capacity_decides_what_is_high(tellegen: Tellegen, tmp_path: Path) -> None:
    file = profile(tmp_path, {5: "4711,2026-01-15T05:00Z,60,1.2,kWh"})
    found = json.loads(tellegen("meters", "validate", file, "--capacity-kw", "1", "--json").out)
    assert found["days"][0]["rules"] == {"unit": 1, "high": 1}


def test_a_file_without_a_usable_row_is_one_line(tellegen: Tellegen, tmp_path: Path) -> None:
    file = profile(tmp_path, {hour: f"x,2026-01-15T{hour:02d}:00Z,60,1,Wh" for hour in range(24)})
    done = tellegen("meters", "validate", file)
    assert done.status == 2
    assert "holds no usable row of 24: row 2, meter 'x' is not a number" in done.err
    assert done.err.count("\n") == 1
    assert tellegen("meters", "validate", tmp_path / "absent.csv").status == 2


def test_a_push_is_decoded_from_hex_and_with_keys(tellegen: Tellegen, tmp_path: Path) -> None:
    rows = [cosem.structure(cosem.date_time(cosem.MIDNIGHT), cosem.u32(1234), cosem.u32(5))]
    apdu = cosem.notification(cosem.push_body(rows))
    key, auth = bytes(range(16)), bytes(range(16, 32))
    clear, sealed, keys = tmp_path / "clear.hex", tmp_path / "sealed.bin", tmp_path / "keys"
    clear.write_text(cosem.wrapper(apdu).hex(" "))
    sealed.write_bytes(cosem.wrapper(cosem.ciphered(apdu, key, auth)))
    keys.write_text(f"{key.hex()}\n{auth.hex()}\n")
    done = tellegen("meters", "decode", clear)
    assert "ABC12345678: push 5, in the clear: nobody vouches for it, every 900 s" in done.out
    (push,) = json.loads(tellegen("meters", "decode", sealed, "--keys", keys, "--json").out)
    assert push["authenticated"]
    (row,) = push["rows"]
    assert row.pop("end") == "2026-01-15T00:00:00Z"
    assert row == {
        "import_wh": 1234, "export_wh": 5, "reactive_varh": None, "clock_status": 0, "status": 0, "doubts": []
    }  # fmt: skip
    keys.write_text("secret\n")
    refused = tellegen("meters", "decode", sealed, "--keys", keys)
    assert refused.status == 2
    assert "two keys of 32 hex digits" in refused.err
    assert "secret" not in refused.err


def test_a_row_that_its_meter_doubts_is_shown_with_the_reason_only(tellegen: Tellegen, tmp_path: Path) -> None:
    doubted = cosem.date_time(cosem.MIDNIGHT, 0, 0x0A)
    file = tmp_path / "push.hex"
    body = cosem.push_body([cosem.structure(doubted, cosem.u32(999), cosem.u32(5))])
    file.write_text(cosem.wrapper(cosem.notification(body)).hex())
    said = tellegen("meters", "decode", file).out
    assert "not believed: clock doubtful, clock status invalid" in said
    assert "999" not in said
    (push,) = json.loads(tellegen("meters", "decode", file, "--json").out)
    assert push["rows"][0]["doubts"] == ["clock doubtful", "clock status invalid"]
    assert push["rows"][0]["import_wh"] is None


def test_noise_is_one_line(tellegen: Tellegen, tmp_path: Path) -> None:
    noise = tmp_path / "noise.bin"
    noise.write_bytes(b"\x00\x02 no frame")
    done = tellegen("meters", "decode", noise)
    assert done.status == 2
    assert "byte 0 has WRAPPER version 2" in done.err
