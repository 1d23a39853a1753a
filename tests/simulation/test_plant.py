"""The plant is solved by OpenDSS; without perturbation it is the referee of the market's power flow."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tellegen.grid.elements import Elements
from tellegen.grid.importers.draft import Draft, energise
from tellegen.grid.network import Case, FixedLoads, Generators, LimitKind
from tellegen.grid.powerflow import solve_powerflow

pytest.importorskip("dss")

from tellegen.simulation.plant import Plant, PlantError, count_violations

NONE = np.zeros(0)


def feeder(buses: int = 12, *, shift_degree: float = 150.0, tap: float = 0.975, loop: bool = False) -> Case:
    """A transformer with tap and vector group, then a radial line with charging and one side branch."""
    chain = [(0, 1)] + [(k, k + 1) for k in range(1, buses - 2)] + [(2, buses - 1)]
    if loop:
        chain.append((3, buses - 1))
    f, t = (np.array(ends, dtype=np.int64) for ends in zip(*chain, strict=True))
    count = len(chain)
    z = np.full(count, 0.02 + 0.01j)
    z[0] = 0.004 + 0.05j
    ratio = np.ones(count, dtype=complex)
    ratio[0] = tap * np.exp(1j * np.radians(shift_degree))
    shunt = np.full(count, 1e-4j)
    shunt[0] = 0.002 - 0.01j
    elements = Elements(
        name=tuple(f"line {k}" for k in range(count)),
        from_node=f,
        to_node=t,
        impedance_pu=z,
        from_shunt_pu=shunt,
        to_shunt_pu=shunt,
        ratio=ratio,
        node_shunt_pu=np.array([0j] * (buses - 1) + [0.001 + 0.003j]),
    )
    return energise(
        Draft(
            source="test",
            name="feeder",
            base_kva=400.0,
            buses=tuple(str(k) for k in range(buses)),
            base_kv=np.full(buses, 0.4),
            v_min=np.full(buses, 0.95),
            v_max=np.full(buses, 1.05),
            elements=elements,
            rating_from_pu=np.full(count, 0.5),
            rating_to_pu=np.full(count, 0.5),
            kind=np.array([int(LimitKind.APPARENT_POWER)] + [int(LimitKind.CURRENT)] * (count - 1)),
            root=np.array([0]),
            root_voltage=np.array([1.02 * np.exp(0.1j)]),
            loads=FixedLoads((), np.zeros(0, dtype=np.int64), NONE, NONE),
            generators=Generators(
                (), np.zeros(0, dtype=np.int64), *([NONE] * 6), np.zeros(0, dtype=np.bool_), NONE, NONE
            ),
        )
    )


def demand(case: Case, seed: int, size_kw: float = 12.0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    count = len(case.network.nodes)
    return rng.normal(3.0, size_kw, count) + 1j * rng.normal(1.0, 4.0, count)


@pytest.mark.parametrize("loop", [False, True])
def test_without_perturbation_opendss_confirms_the_power_flow(loop: bool) -> None:
    """Law 10: the power flow has an independent referee."""
    case = feeder(loop=loop)
    plant = Plant(case, perturb=0.0)
    for seed in range(5):
        kva = demand(case, seed)
        state, flow = plant.solve(kva), solve_powerflow(case.network, kva)
        assert np.abs(state.voltage_pu - np.abs(flow.voltage)).max() < 1e-7
        # 1e-7 pu of 400 kVA
        assert state.root_kw == pytest.approx(flow.root_kw, abs=4e-5)
        assert state.root_kvar == pytest.approx(flow.root_kvar, abs=4e-5)
        assert state.losses_kw == pytest.approx(flow.losses_kw, abs=4e-5)
        assert np.abs(state.terminal_pu - flow.terminal_pu).max() < 1e-6
        assert np.abs(state.loading_percent - flow.loading_percent).max() < 1e-4


def test_the_plant_differs_from_the_markets_network_by_its_seed() -> None:
    """Law 10: the simulated plant is not the market's own model."""
    case = feeder()
    kva = demand(case, 1)
    market = np.abs(solve_powerflow(case.network, kva).voltage)
    first, again, other = (Plant(case, perturb=0.1, seed=s).solve(kva).voltage_pu for s in (1, 1, 2))
    assert np.array_equal(first, again)
    assert 1e-5 < np.abs(first - market).max() < 0.05
    assert not np.array_equal(first, other)
    factor = Plant(case, perturb=0.1, seed=1).elements.impedance_pu / case.elements.impedance_pu
    assert np.all(np.abs(factor - 1.0) <= 0.1)
    assert np.std(factor.real) > 0.01


def test_a_later_solution_does_not_depend_on_an_earlier_one() -> None:
    case = feeder()
    plant = Plant(case, perturb=0.05, seed=3)
    first = plant.solve(demand(case, 1))
    plant.solve(demand(case, 2, size_kw=25.0))
    assert np.abs(plant.solve(demand(case, 1)).voltage_pu - first.voltage_pu).max() < 1e-9


def test_two_plants_live_side_by_side() -> None:
    small, large = feeder(6), feeder(12)
    a, b = Plant(small, perturb=0.0), Plant(large, perturb=0.0)
    kva = demand(small, 4)
    b.solve(demand(large, 4))
    assert np.abs(a.solve(kva).voltage_pu - np.abs(solve_powerflow(small.network, kva).voltage)).max() < 1e-7


def test_a_plant_leaves_the_working_directory_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A relative --out means the same before and after OpenDSS has been opened."""
    Plant(feeder(6))
    monkeypatch.chdir(tmp_path)
    Plant(feeder(6)).solve(demand(feeder(6), 1))
    assert Path.cwd() == tmp_path


def test_violations_count_nodes_and_elements_once() -> None:
    case = feeder(tap=1.0)
    idle = Plant(case, perturb=0.0).solve(np.zeros(12, dtype=complex))
    assert count_violations(idle.voltage_pu, idle.loading_percent, case.network) == (0, 0)
    kva = np.zeros(12, dtype=complex)
    kva[10] = 300.0
    heavy = Plant(case, perturb=0.0).solve(kva)
    nodes, elements = count_violations(heavy.voltage_pu, heavy.loading_percent, case.network)
    low = np.abs(solve_powerflow(case.network, kva).voltage) < 0.95
    assert nodes == int(low.sum()) > 0
    assert elements == 10  # every element on the way to bus 10 carries more than half of 400 kVA


def test_demand_at_the_root_is_served_there() -> None:
    case = feeder()
    plant = Plant(case, perturb=0.0)
    kva = np.zeros(12, dtype=complex)
    without = plant.solve(kva)
    kva[0] = 10.0 + 2.0j
    with_it = plant.solve(kva)
    assert with_it.root_kw - without.root_kw == pytest.approx(10.0, abs=1e-6)
    assert with_it.losses_kw == pytest.approx(without.losses_kw, abs=1e-6)


def test_what_the_plant_refuses() -> None:
    case = feeder()
    plant = Plant(case, perturb=0.0)
    with pytest.raises(PlantError, match="one per node"):
        plant.solve(np.zeros(3, dtype=complex))
    with pytest.raises(PlantError, match="one per node"):
        plant.solve(np.full(12, np.nan + 0j))
    with pytest.raises(PlantError, match="no solution"):
        plant.solve(np.full(12, 1e6 + 0j))
    with pytest.raises(PlantError, match="below 1"):
        Plant(case, perturb=1.5)
    with pytest.raises(PlantError, match="no elements"):
        Plant(replace(case, elements=None))
    assert case.elements is not None
    turned = replace(case.elements, ratio=case.elements.ratio * np.exp(1j * np.arange(11)))
    looped = feeder(loop=True)
    assert looped.elements is not None
    with pytest.raises(PlantError, match="loop"):
        Plant(replace(looped, elements=replace(looped.elements, ratio=np.append(turned.ratio, 1.0 + 0j))))
