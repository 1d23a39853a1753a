"""A receipt, a case or a rulebook comes from anybody: whatever it is, the answer is one line."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tellegen.errors import InputError
from tellegen.operations.correction_file import read_correction

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
