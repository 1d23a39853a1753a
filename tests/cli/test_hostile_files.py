"""A receipt, a case or a rulebook comes from anybody: whatever it is, the answer is one line."""

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tellegen.errors import InputError
from tellegen.operations.correction_file import read_correction
from tellegen.rules import Rulebook

Tellegen = Callable[..., Any]
RECEIPTS = {
    "deep": "{" + '"a":{' * 100_000,
    "deep lists": '{"receipts":' + "[" * 100_000,
    "digits": '{"receipt":' + "9" * 5000 + "}",
    "list": '{"receipt": ["x"]}',
    "no receipt": '{"key": "x"}',
    "key": '{"receipt": "x", "key": 7}',
    "entry": '{"receipt": "x", "key": "k", "entry": 7}',
    "row": '{"receipt": "x", "key": "k", "row_hex": 7}',
    "no hex": '{"receipt": "x", "key": "k", "row_hex": "xyz"}',
    "salt": '{"receipt": "x", "key": "k", "row_hex": "00", "salt_hex": {}}',
    "half a pair": '{"receipt": "\\ud800", "key": "k"}',
    "receipts of no text": '{"receipts": ["x", 7]}',
}


@pytest.mark.parametrize("name", RECEIPTS)
def test_a_document_that_is_no_receipt_is_refused_in_one_line(tellegen: Tellegen, tmp_path: Path, name: str) -> None:
    file = tmp_path / "receipt.json"
    file.write_text(RECEIPTS[name])
    for command in (("verify-receipt", file), ("compare", file, file)):
        answer = tellegen("journal", *command)
        assert (answer.status, answer.err.count("\n")) == (2, 1), answer.err
        assert "Error" not in answer.err


@pytest.mark.parametrize(
    "text", ["a = " + "[" * 100_000, "a = " + "9" * 5000, "a = 1979-13-01", "\x00", "a." * 5000 + "a=1"]
)
def test_a_correction_of_any_toml_is_refused_in_one_line(tmp_path: Path, text: str) -> None:
    file = tmp_path / "correction.toml"
    file.write_text(text)
    with pytest.raises(InputError) as refusal:
        read_correction(file)
    assert len(str(refusal.value).splitlines()) == 1


PIPES = {
    "pipe": [("journal", "verify-receipt"), ("journal", "compare", "{}"), ("meters", "decode")],
    "pipe.csv": [("meters", "validate")],
    "pipe.parquet": [("meters", "validate")],
    "pipe.json": [("powerflow", "--network"), ("journal", "verify-receipt")],
    "pipe.m": [("powerflow", "--network")],
}


@pytest.mark.skipif(sys.platform == "win32", reason="pipes have no names there")
@pytest.mark.parametrize(("name", "command"), [(name, c) for name, those in PIPES.items() for c in those])
def test_nobody_waits_at_a_pipe(tellegen: Tellegen, tmp_path: Path, name: str, command: tuple[str, ...]) -> None:
    pipe = tmp_path / name
    os.mkfifo(pipe)
    answer = tellegen(*[word.format(pipe) for word in command], pipe)
    assert (answer.status, answer.err.count("\n")) == (2, 1), answer.err
    assert "is no regular file" in answer.err


@pytest.mark.skipif(sys.platform == "win32", reason="pipes have no names there")
def test_a_rulebook_holds_neither_pipes_nor_links(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "2016-01-01.toml")
    with pytest.raises(InputError, match="no regular file"):
        Rulebook.load(tmp_path)
    (tmp_path / "2016-01-01.toml").unlink()
    (tmp_path / "2016-01-01.toml").symlink_to("/etc/hostname")
    with pytest.raises(InputError, match="a link"):
        Rulebook.load(tmp_path)


def test_an_error_does_not_quote_a_file_that_is_no_case(tellegen: Tellegen, tmp_path: Path) -> None:
    """It may be a link to a file that only the operator can read."""
    secret = "root:$6$salt$hash:19000:0:99999:7:::"
    for name, text, command in (
        ("a.m", secret, ("powerflow", "--network")),
        ("b.m", f"mpc.bus = [ {secret} ];", ("powerflow", "--network")),
        ("c.m", f"mpc.version = {secret}", ("powerflow", "--network")),
        ("d.csv", secret, ("meters", "validate")),
    ):
        (tmp_path / name).write_text(text)
        answer = tellegen(*command, tmp_path / name)
        assert answer.status == 2
        assert "salt" not in answer.err + answer.out
