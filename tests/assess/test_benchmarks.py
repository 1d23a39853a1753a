"""Benchmarks report what they measured: figures with units, conditions and targets, from processes of their own."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tellegen.assess import BENCHMARKS, Figure, Options, Report, run_benchmark
from tellegen.assess.clearing_speed import Case, prepare_fleet, prepare_opendss, prepare_single
from tellegen.assess.feeder_survey import prepare_survey, specs, subject_of
from tellegen.assess.replay import ThreePhaseReplay
from tellegen.errors import InputError, WorkerError
from tellegen.grid import load_case, solve_powerflow
from tellegen.grid.synthetic import opendss_script, synthetic_feeder
from tellegen.grid.threads import THREAD_VARIABLES, run_together
from tellegen.simulation.workload import BidForm, Binding, LoadCustomers, Situation

SHARED = Path(__file__).parents[2].parent / "shared" / "data" / "feeders"
SMALL = Case(30, 3, BidForm.STEPS, Situation.EVENING, Binding.LOWEST_VOLTAGE)


def test_a_target_is_an_upper_bound() -> None:
    assert Figure("x", 59.0, "ms", target=60.0).met
    assert Figure("x", 61.0, "ms", target=60.0).met is False
    assert Figure("x", 61.0, "ms").met is None
    assert Figure("x", 61.0, "ms").as_json() == {"name": "x", "value": 61.0, "unit": "ms"}


def test_a_name_that_is_none_is_refused() -> None:
    with pytest.raises(InputError, match="is none of clearing"):
        run_benchmark(BENCHMARKS, "speed")


def test_the_clearing_benchmark_clears_with_limits_binding() -> None:
    times = prepare_single(SMALL, 2, 1)()
    assert len(times.warm_ms) == len(times.recorded_ms) == 2
    assert len(times.cold_ms) == 1
    assert min(times.binding) >= 1
    assert times.fallbacks == 0
    assert times.conditions(SMALL)["bids"] == "steps"


def test_a_worker_clears_its_share_of_the_city() -> None:
    done = prepare_fleet(SMALL, range(2), 2)()
    assert done["clearings"] == 4
    assert done["fallbacks"] == 0
    assert done["binding"] >= 4


def test_two_processes_start_together_and_say_what_went_wrong() -> None:
    elapsed, results = run_together(partial, [(os.getenv, name) for name in THREAD_VARIABLES[:2]])
    assert elapsed > 0
    assert results == ["1", "1"]
    impossible = replace(SMALL, customers=0)
    with pytest.raises(WorkerError, match="customers 0"):
        run_together(prepare_single, [(impossible, 1, 1)])


@pytest.mark.parametrize("spec", ["synthetic:40x1", "synthetic:40x3"])
def test_a_network_is_judged_on_limits_prices_and_dispatch(spec: str) -> None:
    pytest.importorskip("dss", reason="dss-python is not installed (extra `plant`)")
    report = prepare_survey(spec, 1, 2)()
    assert report.notes == []
    judged = [figure for figure in report.figures if figure.target is not None]
    assert len(judged) == 8
    assert all(figure.met for figure in judged), [f.name for f in judged if not f.met]


def test_a_network_that_cannot_be_read_is_a_note_not_an_end(tmp_path: Path) -> None:
    report = prepare_survey(str(tmp_path / "nowhere.m"), 1, 1)()
    assert report.figures == []
    assert "nowhere.m" in report.notes[0]
    with pytest.raises(InputError, match="holds no OpenDSS script"):
        specs(Options(quick=True, networks=(str(tmp_path),)), Report())


def test_scripts_that_make_a_circuit_are_found_in_a_folder(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "Master.DSS").write_text("clear\nNew Object=Circuit.one\n")
    (tmp_path / "a" / "codes.dss").write_text("new linecode.x nphases=3\n! new circuit.old\n")
    found = specs(Options(quick=True, networks=(str(tmp_path),)), Report())
    assert [Path(spec).name for spec in found if not spec.startswith("synthetic")] == ["Master.DSS"]


def test_opendss_agrees_with_the_power_flow_of_a_dispatch() -> None:
    pytest.importorskip("dss", reason="dss-python is not installed (extra `plant`)")
    feeder = synthetic_feeder(120, phases=3, seed=8)
    replay = ThreePhaseReplay(feeder.network, opendss_script(feeder), feeder.customer_node)
    rng = np.random.default_rng(1)
    demand = np.zeros(len(feeder.network.nodes), dtype=complex)
    demand[feeder.customer_node] = rng.uniform(-4, 4, 120) + 0.3j
    flow = solve_powerflow(feeder.network, demand)
    assert replay.voltage_error_pu(demand, flow.voltage) < 1e-8
    assert replay.voltage_error_pu(1.01 * demand, flow.voltage) > 1e-5
    assert prepare_opendss(SMALL, 2)() > 0


@pytest.mark.parametrize("name", ["ieee13/IEEE13Nodeckt.dss", "ieee123/IEEE123Master.dss", "european-lv/Master.dss"])
def test_opendss_replays_a_file_with_other_loads(name: str) -> None:
    """Taps where the script's controls left them; each node's customer draws 0.8 of its rated power."""
    pytest.importorskip("dss", reason="dss-python is not installed (extra `plant`)")
    path = SHARED / name
    if not path.is_file():
        pytest.skip("no shared data beside this clone")
    case = load_case(str(path))
    customers = LoadCustomers.of(case.network, case.loads)
    demand = np.zeros(len(case.network.nodes), dtype=complex)
    demand[customers.customer_node] = 0.8 * (customers.peak_kw + 1j * customers.peak_kvar)
    replay = ThreePhaseReplay(case.network, path, customers.customer_node)
    assert replay.voltage_error_pu(demand, solve_powerflow(case.network, demand).voltage) < 1e-8
    assert subject_of(str(path)).script == path


def test_the_command_prints_one_document_and_writes_it(tellegen: Callable[..., Any], tmp_path: Path) -> None:
    answer = tellegen("bench", "record", "--quick", "--json", "--out", tmp_path / "figures.json")
    assert answer.status == 0
    document = json.loads(answer.out)
    assert document == json.loads((tmp_path / "figures.json").read_text())
    assert document["quick"] is True
    assert {figure["unit"] for figure in document["figures"]} == {"ms", "rows/s"}
    assert "sealing" in answer.err


def test_the_command_refuses_what_it_does_not_know(tellegen: Callable[..., Any], tmp_path: Path) -> None:
    assert tellegen("bench", "speed").status == 2
    assert tellegen("bench", "record", "--out", tmp_path / "none" / "x.json").status == 2
    listed = tellegen("bench", "list", "--json")
    assert set(json.loads(listed.out)) >= {"clearing", "feeders", "record"}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["clearing", "feeders"])
def test_a_quick_run_measures_everything(tellegen: Callable[..., Any], name: str) -> None:
    answer = tellegen("bench", name, "--quick", "--json")
    assert answer.status == 0, answer.err
    figures = json.loads(answer.out)["figures"]
    assert len(figures) > 10
    assert all(np.isfinite(figure["value"]) for figure in figures)


def test_the_storage_benchmark_reads_back_what_it_sealed_in_few_bytes() -> None:
    """At most 1.2 bytes a value at rest, encryption included; what comes back is compared inside."""
    result = run_benchmark(BENCHMARKS, "storage", Options(quick=True))
    (judged,) = [figure for figure in result.figures if figure.target is not None]
    assert judged.met
    sizes = {figure.name: figure.value for figure in result.figures}
    assert sizes["a read at rest with its code"] == pytest.approx(sizes["a read at rest, values only"] + 16)
