"""Synthetic feeders are like those in the street, the same for a seed, and as OpenDSS would build them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tellegen.errors import InputError
from tellegen.grid import PowerFlow, load_case, solve_powerflow
from tellegen.grid.synthetic import Feeder, opendss_script, synthetic_feeder
from tellegen.grid.synthetic.layout import Part

SIZES = [(200, 0), (200, 1), (200, 2), (200, 3), (500, 7), (1000, 0), (1000, 1), (1000, 2), (3000, 0), (3000, 1)]


def at_peak(feeder: Feeder) -> PowerFlow:
    nothing = np.zeros(len(feeder.network.nodes), dtype=complex)
    return solve_powerflow(feeder.network, nothing, loads=feeder.case.loads)


@pytest.mark.parametrize(("customers", "seed"), SIZES)
def test_a_feeder_at_its_peak_is_like_a_real_one(customers: int, seed: int) -> None:
    """Lowest voltage 3 to 8 % below the root, 2 to 5 % of the power lost, nothing overloaded."""
    feeder = synthetic_feeder(customers, phases=3, seed=seed)
    flow = at_peak(feeder)
    volt = np.abs(flow.voltage)
    assert 0.03 < feeder.layout.root_pu - volt.min() < 0.08
    assert 0.02 < flow.losses_kw / flow.root_kw < 0.05
    assert flow.loading_percent.max() < 105
    assert flow.loading_percent.max() > 40
    spans = feeder.layout.length_km[feeder.layout.part == Part.MAIN]
    assert 0.005 < spans.mean() < 0.1
    assert 1.0 < feeder.peak_kw.mean() < 2.0


def test_every_phase_carries_customers_and_no_two_phases_the_same() -> None:
    feeder = synthetic_feeder(300, phases=3, seed=4)
    per_phase = np.bincount(feeder.customer_phase, feeder.peak_kw)[1:]
    assert per_phase.min() > 0.2 * per_phase.sum()
    assert np.ptp(per_phase) > 0
    volt = np.abs(at_peak(feeder).voltage)
    low = [volt[feeder.network.phase == phase].min() for phase in (1, 2, 3)]
    assert max(low) - min(low) > 1e-3


def test_a_seed_gives_the_same_feeder_again() -> None:
    one, two = (synthetic_feeder(150, phases=3, seed=9) for _ in range(2))
    assert one.network.nodes == two.network.nodes
    assert (one.network.admittance != two.network.admittance).nnz == 0
    assert np.array_equal(one.peak_kw, two.peak_kw)
    assert np.array_equal(one.network.branches.rating_pu, two.network.branches.rating_pu)


def test_twenty_seeds_are_twenty_topologies() -> None:
    trees = [synthetic_feeder(200, phases=1, seed=seed).layout for seed in range(20)]
    assert len({tree.parent.tobytes() for tree in trees}) == 20
    depth = []
    for tree in trees:
        steps = np.zeros(tree.parent.size, dtype=int)
        for k in range(1, steps.size):
            steps[k] = steps[tree.parent[k]] + 1
        depth.append(int(steps.max()))
    assert max(depth) > 1.5 * min(depth)
    assert len({tree.parent.size for tree in trees}) > 10


@given(customers=st.integers(1, 400), seed=st.integers(0, 2**32), phases=st.sampled_from([1, 3]))
@settings(max_examples=15, deadline=None)
def test_any_feeder_is_a_tree_with_every_customer_on_it(customers: int, seed: int, phases: int) -> None:
    feeder = synthetic_feeder(customers, phases=phases, seed=seed)
    layout, network = feeder.layout, feeder.network
    assert (layout.parent[1:] < np.arange(1, layout.parent.size)).all()
    assert len(set(layout.bus)) == len(layout.bus)
    assert np.unique(feeder.customer_node).size == customers
    assert not np.isin(feeder.customer_node, network.source).any()
    assert np.array_equal(network.phase[feeder.customer_node], feeder.customer_phase)
    assert (feeder.peak_kw > 0).all()
    assert (network.branches.rating_pu > 0).all()
    volt = np.abs(at_peak(feeder).voltage)
    assert volt.min() > 0.9


def test_equal_phases_are_the_balanced_feeder() -> None:
    """Loads shared equally by the three phases of the joints: both models know the same voltages and powers."""
    one, three = (synthetic_feeder(260, phases=p, seed=3) for p in (1, 3))
    joints = np.flatnonzero(one.layout.part == Part.MAIN)
    balanced = np.zeros(len(one.network.nodes), dtype=complex)
    balanced[joints] = 2.4 + 0.7j
    phases = np.zeros(len(three.network.nodes), dtype=complex)
    names = {one.network.nodes[k] for k in joints}
    at = [k for k, name in enumerate(three.network.nodes) if name in names]
    phases[at] = (2.4 + 0.7j) / 3
    flow, flow3 = solve_powerflow(one.network, balanced), solve_powerflow(three.network, phases)
    volt = dict(zip(one.network.nodes, np.abs(flow.voltage), strict=True))
    expected = np.array([volt[name] for name in three.network.nodes])
    assert np.abs(np.abs(flow3.voltage) - expected).max() < 1e-9
    assert flow3.losses_kw == pytest.approx(flow.losses_kw, rel=1e-8)
    loading = loadings(one, flow)
    for key, value in loadings(three, flow3).items():
        assert value == pytest.approx(loading[key], rel=1e-6), key


def loadings(feeder: Feeder, flow: PowerFlow) -> dict[tuple[str, str], float]:
    """Percent of the rating at each end of each element, of its most loaded phase; service drops left out."""
    branches, found = feeder.network.branches, dict[tuple[str, str], float]()
    for name, node, value in zip(branches.element, branches.node.tolist(), flow.loading_percent.tolist(), strict=True):
        if not name.startswith("service"):
            key = (name, feeder.network.nodes[node])
            found[key] = max(found.get(key, 0.0), value)
    return found


def test_opendss_builds_the_same_feeder_from_the_script(tmp_path: Path) -> None:
    """Written for OpenDSS and read back from its tables: every voltage agrees (the source's 1e-6 ohm apart)."""
    pytest.importorskip("dss", reason="dss-python is not installed (extra `plant`)")
    feeder = synthetic_feeder(320, phases=3, seed=5)
    path = tmp_path / "feeder.dss"
    path.write_text(opendss_script(feeder))
    read = load_case(str(path))
    assert read.warnings == ()
    theirs = solve_powerflow(read.network, np.zeros(len(read.network.nodes), dtype=complex), loads=read.loads)
    ours = at_peak(feeder)
    place = {key: k for k, key in enumerate(zip(read.network.nodes, read.network.phase.tolist(), strict=True))}
    order = [place[key] for key in zip(feeder.network.nodes, feeder.network.phase.tolist(), strict=True)]
    assert np.abs(np.abs(ours.voltage) - np.abs(theirs.voltage[order])).max() < 1e-8
    assert ours.root_kw == pytest.approx(theirs.root_kw, rel=1e-6)


@pytest.mark.parametrize("arguments", [{"customers": 0}, {"customers": 10**6}, {"phases": 2}, {"seed": -1}])
def test_impossible_feeders_are_refused(arguments: dict[str, int]) -> None:
    with pytest.raises(InputError, match="synthetic feeder"):
        synthetic_feeder(**{"customers": 10, **arguments})
