"""OpenDSS as an independent solver of the same script."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tellegen.grid import Case, PowerFlow, load_case, solve_powerflow


@dataclass(frozen=True)
class Answer:
    """OpenDSS's converged solution: volts to ground by ``bus.phase``, kW + j kvar at the sources.

    Losses in kW are all that is not drawn; OpenDSS's own figure leaves out what shunts dissipate.
    """

    volt: dict[str, complex]
    root: complex
    losses_kw: float
    engine: Any


def _solve(path: Path) -> Answer:
    dss = pytest.importorskip("dss", reason="dss-python is not installed (extra `plant`)")
    dss.DSS.AllowChangeDir = False
    engine = dss.DSS.NewContext()
    engine.Text.Command = f'redirect "{path}"'
    circuit = engine.ActiveCircuit
    solution = circuit.Solution
    solution.MaxIterations, solution.MaxControlIterations = 100, 100
    solution.Solve()
    engine.Text.Command = "set controlmode=off"
    # The default of 1e-4 leaves differences of 1e-6 pu that are no one's model.
    solution.Tolerance, solution.MaxIterations = 1e-12, 1000
    for _ in range(2):
        solution.Solve()
    flat = np.asarray(circuit.AllBusVolts, dtype=float)
    names = [name.lower() for name in circuit.AllNodeNames]
    power = circuit.TotalPower
    drawn = 0.0
    for name in circuit.AllElementNames:
        if name.partition(".")[0].lower() in {"load", "generator", "pvsystem"}:
            circuit.SetActiveElement(name)
            drawn += float(circuit.ActiveCktElement.TotalPowers[0])
    return Answer(
        dict(zip(names, (flat[::2] + 1j * flat[1::2]).tolist(), strict=True)),
        -complex(float(power[0]), float(power[1])),
        -float(power[0]) - drawn,
        engine,
    )


@pytest.fixture(scope="session")
def opendss() -> Callable[[Path], Answer]:
    return _solve


def own(path: Path) -> tuple[Case, PowerFlow]:
    case = load_case(str(path))
    return case, solve_powerflow(case.network, np.zeros(len(case.network.nodes), dtype=complex), loads=case.loads)


@pytest.fixture(scope="session")
def ours() -> Callable[[Path], tuple[Case, PowerFlow]]:
    pytest.importorskip("dss", reason="dss-python is not installed (extra `plant`)")
    return own


def _differences(case: Case, flow: PowerFlow, answer: Answer) -> np.ndarray:
    """Complex difference of every node's voltage, per unit; both must know the same nodes."""
    network = case.network
    found = {
        f"{bus}.{phase}": k
        for k, (bus, phase) in enumerate(zip(network.nodes, network.phase.tolist(), strict=True))
        if k not in set(network.source.tolist())
    }
    assert set(found) == set(answer.volt)
    at = np.array([found[name] for name in answer.volt])
    theirs = np.array(list(answer.volt.values())) / (1000.0 * network.base_kv[at])
    return flow.voltage[at] - theirs


@pytest.fixture(scope="session")
def differences() -> Callable[..., np.ndarray]:
    return _differences
