"""TOML and JSON of strangers: depth, digits and size are limits, told in one line, whatever reads them."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tellegen.errors import InputError
from tellegen.foreign.documents import DEPTH_MAX, bounded_text, json_document, toml_document

NUMBER = "9" * 5000
DEEP = "[" * 100_000

TOML = {
    "a number": f"a = {NUMBER}",
    "a number with lines between digits": f"a = {'9_' * 5000}9",
    "a fraction": f"a = 0.{NUMBER}",
    "brackets": f"a = {DEEP}",
    "braces": "a = " + "{a=" * 1000,
    "dotted keys": ".".join("a" * 5000) + " = 1",
    "a dotted table": f"[{'.'.join('a' * 5000)}]",
    "brackets behind a comment's quotation mark": f'# "\na = {DEEP}',
    "a string that stays open": 'a = "' + '\\"' * 4_000_000,
    "a string that stays open to its line's end": 'a = "' + '\\"' * 4_000_000 + "\nb = 1",
    "a long string that stays open": 'a = """' + '\\"' * 4_000_000,
    "a long string of pairs that stays open": 'a = """' + '""\\"' * 2_000_000 + "\\",
    "a literal string that stays open": "a = '''" + "\n'" * 4_000_000,
    "dots within one key": ".".join("a" * 4_000_000) + " = 1",
    "dots between quotation marks": " . ".join(['"a"'] * 1_000_000) + " = 1",
    "digits up to the limit": ("9" * 400 + "x") * 40_000,
    "brackets behind quotation marks at a string's end": f"a = ['''b'''', {DEEP} , ']",
    "brackets behind a string": f"""b = "\\"["\na = {DEEP}""",
}
JSON = {
    "a number": f'{{"a": {NUMBER}}}',
    "an exponent": f'{{"a": 1e{NUMBER}}}',
    "brackets": DEEP,
    "braces": '{"a":' * 100_000,
    "brackets behind a string": f'{{"\\"[": {DEEP}',
    "an open string": '{"a',
    "an open string of quotation marks": '"' + '\\"' * 4_000_000,
    "an open string that ends within a mark": '"' + '\\"' * 4_000_000 + "\\",
}


@pytest.mark.parametrize("name", TOML)
def test_no_toml_breaks_its_reader(name: str) -> None:
    with pytest.raises(InputError) as refusal:
        toml_document(TOML[name], "f.toml")
    assert len(str(refusal.value).splitlines()) == 1
    assert len(str(refusal.value)) < 300


@pytest.mark.parametrize("name", JSON)
def test_no_json_breaks_its_reader(name: str) -> None:
    with pytest.raises(InputError) as refusal:
        json_document(JSON[name], "f.json")
    assert len(str(refusal.value).splitlines()) == 1


def test_brackets_and_digits_within_strings_are_text() -> None:
    text = "[" * 1000 + NUMBER
    assert json_document(json.dumps({"a": text, "b\\": [text]}), "f") == {"a": text, "b\\": [text]}
    said = f'a = \'{text}\'\nb = """{text}\n\\""""\nc = \'\'\'{text}\'\'\' # {text}\nd = "{text}\\"" '
    assert toml_document(said, "f") == tomllib.loads(said)
    assert json_document("[" * DEPTH_MAX + "]" * DEPTH_MAX, "f") is not None


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**30), 10**30) | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=20,
)


@given(st.text(alphabet="'\"\\ab[]#\n =,", max_size=40))
def test_what_is_text_to_toml_is_text_here(value: str) -> None:
    """Brackets that count are those that TOML counts: each way to write a string, with quotation marks at its end."""
    forms = [json.dumps(value)]
    forms += [f"'''\n{value}'''"] if "'''" not in value and not value.endswith("'''") else []
    escaped = value.replace("\\", "\\\\")
    forms += [f'"""\n{escaped}"""'] if '"""' not in value else []
    for form in forms:
        said = f"a = [{form}, 1] # {'['}\n"
        assert toml_document(said, "f") == tomllib.loads(said) == {"a": [value, 1]}
        with pytest.raises(InputError, match="nested too deeply"):
            toml_document(said + f"b = {DEEP}", "f")


@given(VALUES)
def test_whatever_json_is_within_the_limits_is_read(value: object) -> None:
    assert json_document(json.dumps(value), "f") == value


def test_a_file_that_is_too_large_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "f.toml"
    path.write_text("x" * 100)
    with pytest.raises(InputError, match="too large"):
        bounded_text(path, 99)
    assert bounded_text(path, 100) == "x" * 100


@pytest.mark.parametrize("content", [f"name = {NUMBER}", f"name = {DEEP}", TOML["dotted keys"]])
def test_a_scenario_and_a_rulebook_are_refused_in_one_line(
    content: str, tmp_path: Path, tellegen: Callable[..., Any]
) -> None:
    path = tmp_path / "2016-01-01.toml"
    path.write_text(content)
    for command in (("run", path, "--out", tmp_path / "day"), ("rules", "show", "--folder", tmp_path)):
        answer = tellegen(*command)
        assert answer.status == 2
        assert len(answer.err.strip().splitlines()) == 1
        assert f"{path.name}: file " in answer.err


@pytest.mark.parametrize("name", JSON)
@pytest.mark.parametrize("head", ["", '{"format": "tellegen network 1", "case": '])
def test_a_network_is_refused_in_one_line(name: str, head: str, tmp_path: Path, tellegen: Callable[..., Any]) -> None:
    path = tmp_path / "net.json"
    path.write_text(head + JSON[name])
    answer = tellegen("powerflow", "--network", path)
    assert answer.status == 2
    assert len(answer.err.strip().splitlines()) == 1
