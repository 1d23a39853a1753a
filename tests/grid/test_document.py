"""Networks on record and on disk: what is read back is what was written, bit for bit."""

from __future__ import annotations

import contextlib
import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st

from tellegen.errors import InputError, printable
from tellegen.grid import (
    Branches,
    Case,
    FixedLoads,
    Generators,
    LoadLaw,
    Network,
    case_from_json,
    case_to_json,
    load_case,
    network_from_json,
    network_to_json,
    settle_taps,
    solve_powerflow,
)
from tellegen.grid.controls import CapacitorControl, Controls, Regulator, SwitchedCapacitor, TapTransformer
from tellegen.grid.elements import Elements

FEEDERS = Path(__file__).parents[2].parent / "shared" / "data" / "feeders"


def same(one: Any, other: Any) -> bool:
    """Equal in every field and every bit, the sign of a zero included."""
    if dataclasses.is_dataclass(one):
        fields = [field.name for field in dataclasses.fields(one)]
        return type(one) is type(other) and all(same(getattr(one, name), getattr(other, name)) for name in fields)
    if sp.issparse(one):
        a, b = (sp.csr_matrix(matrix).sorted_indices() for matrix in (one, other))
        return a.shape == b.shape and all(same(getattr(a, k), getattr(b, k)) for k in ("data", "indices", "indptr"))
    if isinstance(one, np.ndarray):
        return one.dtype == other.dtype and one.shape == other.shape and one.tobytes() == other.tobytes()
    if isinstance(one, tuple):
        return len(one) == len(other) and all(same(a, b) for a, b in zip(one, other, strict=True))
    return type(one) is type(other) and (one == other or one != one)


def small(**changes: Any) -> Case:
    """Two nodes, a line between them, a load that depends on voltage."""
    y = sp.csr_matrix(np.array([[10 - 20j, -10 + 20j], [-10 + 20j, 10 - 20j]]))
    line = Branches(("line 0",), np.array([0]), sp.csr_matrix(y[:1]), np.array([np.inf]), np.array([0]))
    network = Network(
        name="two",
        nodes=("a", "b"),
        phase=np.array([1, 1]),
        base_kva=1.0,
        base_kv=np.array([0.23, 0.23]),
        admittance=y,
        source=np.array([0]),
        source_voltage=np.array([1 + 0j]),
        v_min=np.full(2, 0.9),
        v_max=np.array([np.inf, 1.1]),
        branches=line,
        aliases=(("c", "b"),),
        root_terminals=np.array([0]),
    )
    one = np.ones(1)
    loads = FixedLoads(
        ("x",),
        np.array([1]),
        0.9 * one,
        -0.0 * one,
        np.array([-1]),
        LoadLaw(one, one, one, one, one, one, one * np.inf),
    )
    none = np.zeros(0)
    units = Generators((), np.zeros(0, int), none, none, none, none, none, none, np.zeros(0, bool), none, none)
    return dataclasses.replace(Case(network, loads, units, None, ("a warning",)), **changes)


@pytest.mark.parametrize("name", ["ieee13/IEEE13Nodeckt.dss", "ieee123/IEEE123Master.dss"])
def test_a_feeder_comes_back_bit_for_bit_with_its_controls(name: str, tmp_path: Path) -> None:
    pytest.importorskip("dss", reason="dss-python is not installed (extra `plant`)")
    if not (FEEDERS / name).is_file():
        pytest.skip("the test feeders are not here (../shared)")
    case = load_case(str(FEEDERS / name))
    path = tmp_path / "network.json"
    path.write_bytes(case_to_json(case))
    back = load_case(str(path))
    assert same(back, case)
    assert same(network_from_json(network_to_json(case.network)), case.network)
    none = np.zeros(len(case.network.nodes), dtype=complex)
    flows = [solve_powerflow(c.network, none, loads=c.loads).voltage for c in (case, back)]
    assert flows[0].tobytes() == flows[1].tobytes()
    assert settle_taps(back).moves == ()


MATPOWER = """function mpc = two
mpc.version = '2';
mpc.baseMVA = 1;
mpc.bus = [
  1 3 0 0 0 0 1 1.0 0 0.4 1 1.1 0.9;
  2 1 0.1 0.05 0 0.01 1 1.0 0 0.4 1 1.1 0.9;
];
mpc.gen = [
  1 0 0 10 -10 1 1 1 10 -10;
  2 0.05 0 0.1 -0.1 1 1 1 0.2 0;
];
mpc.branch = [
  1 2 0.05 0.1 0.02 0 0 0 0.98 3 1 -360 360;
];
mpc.gencost = [
  2 0 0 2 200 0;
  2 0 0 3 5 100 0;
];
"""


def test_a_balanced_case_comes_back_with_elements_and_generators(tmp_path: Path) -> None:
    path = tmp_path / "two.m"
    path.write_text(MATPOWER)
    case = load_case(str(path))
    assert case.elements is not None
    assert case.generators.has_cost.any()
    assert case.root_price == 0.2
    assert same(case_from_json(case_to_json(case)), case)


def test_the_map_and_the_lengths_of_lines_come_back() -> None:
    """Buses that the file does not place are NaN; a network of an earlier day has no map."""
    case = small(coordinates=np.array([[1.5, -0.0], [np.nan, np.nan]]), lengths_km=(("line 0", 0.25), ("x", 3.0)))
    assert same(case_from_json(case_to_json(case)), case)
    document = json.loads(case_to_json(case))
    del document["case"]["coordinates"], document["case"]["lengths_km"]
    assert same(case_from_json(json.dumps(document).encode()), small())


numbers = st.floats(allow_nan=False) | st.just(np.nan)


@settings(max_examples=50, deadline=None)
@given(st.lists(numbers, min_size=7, max_size=7), st.text(max_size=8).map(printable))
def test_every_number_and_name_comes_back(values: list[float], name: str) -> None:
    case = small()
    loads = dataclasses.replace(
        case.loads,
        name=(name,),
        p_kw=np.array(values[:1]),
        law=LoadLaw(*(np.array([value]) for value in values)),
    )
    case = dataclasses.replace(case, loads=loads, warnings=(name,), root_price=values[0])
    content = case_to_json(case)
    json.loads(content, parse_constant=lambda word: pytest.fail(f"{word} is not JSON"))
    assert same(case_from_json(content), case)


def test_a_balanced_network_recorded_in_the_first_format_is_read() -> None:
    network = dataclasses.replace(
        small().network, phase=np.zeros(2, dtype=np.int64), aliases=(), root_terminals=None, v_max=np.full(2, 1.1)
    )
    triplets = {"row": [0, 0, 1, 1], "column": [0, 1, 0, 1], "real": [10.0, -10.0, -10.0, 10.0]}
    document = {
        "format": "tellegen-network@v1",
        "name": "two",
        "nodes": ["a", "b"],
        "phase": [0, 0],
        "base_kva": 1.0,
        "base_kv": [0.23, 0.23],
        "admittance": {**triplets, "imag": [-20.0, 20.0, 20.0, -20.0]},
        "source": [0],
        "source_voltage": [[1.0, 0.0]],
        "v_min": [0.9, 0.9],
        "v_max": [1.1, 1.1],
        "branches": {
            "element": ["line 0"],
            "node": [0],
            "current_rows": {"row": [0, 0], "column": [0, 1], "real": [10.0, -10.0], "imag": [-20.0, 20.0]},
            "rating_pu": [None],
            "kind": [0],
        },
    }
    assert same(network_from_json(json.dumps(document).encode()), network)


FIELDS = {
    Case: "network loads generators root_price warnings elements lengths_km controls coordinates",
    Network: "name nodes phase base_kva base_kv admittance source source_voltage v_min v_max branches aliases "
    "root_terminals not_energised",
    Branches: "element node current_rows rating_pu kind",
    FixedLoads: "name node p_kw q_kvar other law",
    LoadLaw: "rated_pu p_exponent q_exponent edge_exponent low minimum maximum",
    Generators: "name node p_kw q_kvar p_min_kw p_max_kw q_min_kvar q_max_kvar has_cost cost_linear cost_quadratic",
    Elements: "name from_node to_node impedance_pu from_shunt_pu to_shunt_pu ratio node_shunt_pu",
    Controls: "transformers capacitors regulators switches rest",
    TapTransformer: "name node row phases windings x_percent no_load_percent magnetising_percent float_ppm "
    "low_voltage_leads tap_min tap_max steps open_end",
    SwitchedCapacitor: "name node phases delta step_siemens on",
    Regulator: "name transformer winding tap_winding v_reg band high low pick local_high local_low current_row "
    "power_row pt_ratio sense_pt_ratio ct_primary_a r_volt x_volt magnitude_volt v_limit delay_s inverse_time "
    "steps_max remote reverse",
    CapacitorControl: "name capacitor signal on off high low voltage_pick current_row current_pick power_row pt_ratio "
    "ct_ratio override_min override_max override_high override_low override_pick delay_on_s delay_off_s dead_s",
}


@pytest.mark.parametrize("kind", FIELDS, ids=lambda kind: kind.__name__)
def test_the_format_is_what_its_version_says(kind: type[Any]) -> None:
    """A field more needs a default (older documents lack it); one less, or another meaning, needs a new version."""
    assert [field.name for field in dataclasses.fields(kind)] == FIELDS[kind].split()


def spoilt(change: Any) -> bytes:
    document = json.loads(case_to_json(small()))
    change(document["case"], document)
    return json.dumps(document).encode()


def put(path: str, value: Any) -> Any:
    def change(case: dict[str, Any], _: dict[str, Any]) -> None:
        *way, last = path.split(".")
        for step in way:
            case = case[step]
        case[last] = value

    return change


SPOILT = {
    "another version": (lambda c, d: d.update(format="tellegen-case@v9"), "format 'tellegen-case@v9'"),
    "a field too many": (lambda c, d: c.update(extra=1), "'extra'"),
    "a field too few": (lambda c, d: c["network"].pop("nodes"), "lacks 'nodes'"),
    "something besides": (lambda c, d: d.update(more=1), "more"),
    "a node that is not there": (put("loads.node", [2]), "loads.node"),
    "a load too many": (put("loads.p_kw", [1.0, 2.0]), "p_kw has 2 rows"),
    "half a node": (put("network.source", [0.5]), "is float, not int"),
    "a node called true": (put("network.source", [True]), "is bool, not int"),
    "no number": (put("network.v_min", ["low", 1.0]), "'low'"),
    "a base of nothing": (put("network.base_kv", [0.23, 0.0]), "base_kv is not positive"),
    "an admittance without end": (put("network.admittance.real", ["inf", 0.0, 0.0, 0.0]), "admittance is not finite"),
    "a giant": (put("network.admittance.shape", [10**9, 10**9]), "the limit"),
    "an entry outside": (put("network.admittance.row", [0, 0, 1, 7]), "outside of its shape"),
    "a negative entry": (put("network.admittance.row", [0, 0, 1, -7]), "outside of its shape"),
    "a number too large for a place": (put("network.source", [2**70]), "too large"),
    "two sources at one node": (put("network.source", [0, 0]), "source"),
    "a list for a table": (put("loads", []), "is list, not dict"),
    "a node without place on the map": (put("coordinates", [[1.0, 2.0]]), "coordinates"),
    "half a place on the map": (put("coordinates", [[1.0, 2.0], [1.0]]), "same shape"),
    "a map of words": (put("coordinates", [["here", 2.0], [1.0, 2.0]]), "'here'"),
    "a kind of limit that nobody knows": (put("network.branches.kind", [5]), "kind of limit"),
}


@pytest.mark.parametrize("what", SPOILT)
def test_a_document_that_does_not_fit_is_refused_in_one_line(what: str) -> None:
    change, words = SPOILT[what]
    with pytest.raises(InputError) as refusal:
        case_from_json(spoilt(change), "mine.json")
    assert str(refusal.value).startswith("mine.json: ")
    assert words in str(refusal.value)


@pytest.mark.parametrize("content", [b"", b"[]", b"\xff", b"[" * 100_000, b'{"format": NaN}', b'{"a":'])
def test_what_is_no_document_is_refused(content: bytes) -> None:
    for read in (case_from_json, network_from_json):
        with pytest.raises(InputError):
            read(content)


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_a_document_with_a_hole_is_refused_or_read_but_never_breaks(data: st.DataObject) -> None:
    """Whatever is put in place of a part, the answer is a case or one line."""
    document = json.loads(case_to_json(small()))
    place: Any = document
    while isinstance(place, dict | list) and len(place) > 0:
        key = data.draw(st.sampled_from(sorted(place) if isinstance(place, dict) else list(range(len(place)))))
        inner = place[key]
        if not isinstance(inner, dict | list) or len(inner) == 0 or data.draw(st.booleans()):
            place[key] = data.draw(
                st.sampled_from([None, True, -1, 3, 2**64, 1.5, "x", "nan", [], [[1]], {}, {"real": []}, [1, 2, 3]])
            )
            break
        place = inner
    with contextlib.suppress(InputError):
        assert isinstance(case_from_json(json.dumps(document).encode()), Case)


@pytest.mark.parametrize("name", ["a\nb", "a\x1b[31mb", "a\u202eb", "a\rb", "a\x00"])
def test_a_name_that_is_no_text_is_refused(name: str) -> None:
    """A newline would forge a line of a table, a colour a verdict."""
    good = json.loads(case_to_json(small()))
    for change in (
        lambda case: case["network"].update(name=name),
        lambda case: case["network"]["nodes"].__setitem__(1, name),
        lambda case: case["network"]["branches"]["element"].__setitem__(0, name),
        lambda case: case["loads"]["name"].__setitem__(0, name),
        lambda case: case["warnings"].__setitem__(0, name),
    ):
        document = json.loads(json.dumps(good))
        change(document["case"])
        with pytest.raises(InputError, match="characters that are no text") as refusal:
            case_from_json(json.dumps(document).encode())
        assert str(refusal.value).isprintable()
