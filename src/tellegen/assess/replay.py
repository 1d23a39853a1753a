"""The dispatch of a clearing, solved again by OpenDSS with its own admittances (extra ``plant``)."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from tellegen.errors import InputError
from tellegen.foreign.confined import Confined, Limits
from tellegen.foreign.opendss_reader import read_script
from tellegen.foreign.opendss_replay import DEMAND, PLACES, SCRIPT, TIMES, VOLTAGES
from tellegen.grid.network import ComplexArray, FloatArray, IntArray, Network

_LIMITS = Limits(cpu_s=36_000)
"""A trial solves for hours; a solution has its time like any other answer."""


class ThreePhaseReplay:
    """A three-phase circuit in OpenDSS whose loads are replaced by a dispatch, in a confined process of its own.

    Taps and capacitors stay where the script's own controls set them, as in the importer.

    Parameters
    ----------
    network : the network that `grid` made of the same script; nodes are found by bus and phase.
    script : text of a script of our own, or the file that holds one of anybody's.
    places : int64, nodes at which the dispatch may draw or inject.

    Raises
    ------
    InputError : the extra ``plant`` is not installed; the script is not allowed, or OpenDSS refuses it.
    """

    def __init__(self, network: Network, script: str | Path, places: IntArray) -> None:
        if find_spec("dss") is None:
            raise InputError("replay", "package dss-python", "is needed: pip install 'tellegen[plant]'")
        self.network = network
        self._places = np.unique(places)
        at = [(f"{network.nodes[k]}.{network.phase[k]}", float(network.base_kv[k])) for k in self._places.tolist()]
        said = script if isinstance(script, str) else "\n".join(c.text for c in read_script(script).commands)
        self._engine = Confined("tellegen.foreign.opendss_replay:answer_replays", network.name, "OpenDSS", _LIMITS)
        self._engine.ask(b"\n".join((SCRIPT, said.encode())))
        self._names: list[str] = json.loads(self._engine.ask(b"\n".join((PLACES, json.dumps(at).encode()))))

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
        size = np.frombuffer(self._engine.ask(VOLTAGES + b"\n"))
        known = dict(zip(self._names, size.tolist(), strict=True))
        ours: FloatArray = np.abs(voltage)
        worst = 0.0
        for k, (bus, phase) in enumerate(zip(self.network.nodes, self.network.phase.tolist(), strict=True)):
            theirs = known.get(f"{bus}.{phase}")
            if theirs is not None:
                worst = max(worst, abs(theirs / (1000.0 * float(self.network.base_kv[k])) - float(ours[k])))
        return worst

    def _set(self, demand_kva: ComplexArray) -> None:
        powers = np.ascontiguousarray(demand_kva[self._places], dtype=np.complex128)
        self._engine.ask(b"\n".join((DEMAND, powers.tobytes())))

    def resolve_ms(self, demand_kva: ComplexArray, repetitions: int) -> float:
        """Median time of one solution after every load has changed by up to a per cent."""
        self._set(demand_kva)
        return float(np.frombuffer(self._engine.ask(b"\n".join((TIMES, str(repetitions).encode()))))[0])
