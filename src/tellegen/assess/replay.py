"""The dispatch of a clearing, solved again by OpenDSS with its own admittances (extra ``plant``)."""

from __future__ import annotations

import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from tellegen.errors import InputError
from tellegen.grid.network import ComplexArray, FloatArray, IntArray, Network


class ThreePhaseReplay:
    """A three-phase circuit in OpenDSS whose loads are replaced by a dispatch.

    Taps and capacitors stay where the script's own controls set them, as in the importer.

    Parameters
    ----------
    network : the network that `grid` made of the same script; nodes are found by bus and phase.
    script : text of a script, or the file that holds it.
    places : int64, nodes at which the dispatch may draw or inject.

    Raises
    ------
    InputError : the extra ``plant`` is not installed; OpenDSS refuses the script.
    """

    def __init__(self, network: Network, script: str | Path, places: IntArray) -> None:
        try:
            from dss import DSS, DSSException
        except ImportError:
            raise InputError("replay", "package dss-python", "is needed: pip install 'tellegen[plant]'") from None
        self.network = network
        self._places = np.unique(places)
        DSS.AllowChangeDir = False
        DSS.AllowForms = False
        self._engine: Any = DSS.NewContext()
        self._engine.AllowForms = False
        try:
            with tempfile.TemporaryDirectory() as folder:
                self._engine.DataPath = folder
                if isinstance(script, Path):
                    self._engine.Text.Command = f'redirect "{script.resolve()}"'
                else:
                    self._engine.Text.Commands(script)
            self._take_over()
        except DSSException as failure:
            raise InputError(network.name, "OpenDSS", f"refuses the script: {' '.join(str(failure).split())}") from None

    def _take_over(self) -> None:
        solution = self._engine.ActiveCircuit.Solution
        solution.MaxIterations, solution.MaxControlIterations = 500, 100
        solution.Solve()
        lines = ["set controlmode=off", "batchedit load..* enabled=no"]
        for k in self._places.tolist():
            at, kv = f"{self.network.nodes[k]}.{self.network.phase[k]}", float(self.network.base_kv[k])
            lines.append(
                f"new load.at{k} phases=1 bus1={at} kv={kv!r} kw=0 kvar=0 model=1 vminpu=.3 vmaxpu=2 vlowpu=.1"
            )
        self._engine.Text.Commands("\n".join([*lines, "set tolerance=1e-10", "set loadmult=1", "solve"]))

    def voltage_error_pu(self, demand_kva: ComplexArray, voltage: ComplexArray) -> float:
        """Largest difference of voltage magnitudes from those that OpenDSS finds for a demand.

        Parameters
        ----------
        demand_kva : complex128[N], consumption positive, zero outside `places`.
        voltage : complex128[N], per unit, of our power flow. Ideal source nodes behind an impedance have no name in
            OpenDSS and are not compared.

        Raises
        ------
        InputError : OpenDSS finds no solution.
        """
        self._set(demand_kva)
        circuit = self._engine.ActiveCircuit
        circuit.Solution.Solve()
        if not circuit.Solution.Converged:
            raise InputError(self.network.name, "OpenDSS", "finds no power flow for the dispatch")
        parts = np.asarray(circuit.AllBusVolts, dtype=np.float64)
        size = np.hypot(parts[0::2], parts[1::2])
        known = dict(zip((str(name).lower() for name in circuit.AllNodeNames), size.tolist(), strict=True))
        ours: FloatArray = np.abs(voltage)
        worst = 0.0
        for k, (bus, phase) in enumerate(zip(self.network.nodes, self.network.phase.tolist(), strict=True)):
            theirs = known.get(f"{bus}.{phase}")
            if theirs is not None:
                worst = max(worst, abs(theirs / (1000.0 * float(self.network.base_kv[k])) - float(ours[k])))
        return worst

    def _set(self, demand_kva: ComplexArray) -> None:
        lines = [
            f"load.at{k}.kw={power.real!r} kvar={power.imag!r}"
            for k, power in zip(self._places.tolist(), demand_kva[self._places].tolist(), strict=True)
        ]
        self._engine.Text.Commands("\n".join(lines))

    def resolve_ms(self, demand_kva: ComplexArray, repetitions: int) -> float:
        """Median time of one solution after every load has changed by up to a per cent."""
        self._set(demand_kva)
        solution = self._engine.ActiveCircuit.Solution
        solution.Solve()
        taken = []
        for k in range(repetitions):
            solution.LoadMult = 1.0 + 0.01 * ((k % 5) - 2) / 2
            start = time.perf_counter()
            solution.Solve()
            taken.append(1000.0 * (time.perf_counter() - start))
        solution.LoadMult = 1.0
        return statistics.median(taken)
