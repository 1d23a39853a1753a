"""A script's circuit in a confined OpenDSS, whose loads are replaced and which is solved again and again.

A request is a word, a line end, and what belongs to it; arrays are float64 as bytes.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from tellegen.errors import InputError
from tellegen.foreign.opendss_engine import quiet_engine, tell

SCRIPT, PLACES, DEMAND, VOLTAGES, TIMES = b"script", b"places", b"demand", b"voltages", b"times"


def answer_replays() -> Callable[[bytes], bytes]:
    """Get ready for one circuit."""
    engine = quiet_engine()
    count = 0

    def answer(request: bytes) -> bytes:
        nonlocal count
        word, _, rest = request.partition(b"\n")
        if word == SCRIPT:
            tell(engine, rest.decode().split("\n"))
            if engine.NumCircuits == 0:
                raise InputError("", "circuit", "is missing: the script has no 'new circuit'")
        elif word == PLACES:
            places = json.loads(rest)
            count = len(places)
            return _take_over(engine, places)
        elif word == DEMAND:
            powers = np.frombuffer(rest).reshape(count, 2).tolist()
            tell(engine, [f"load.at{k}.kw={kw!r} kvar={kvar!r}" for k, (kw, kvar) in enumerate(powers)])
        elif word == VOLTAGES:
            return _voltages(engine)
        elif word == TIMES:
            return _times(engine, int(rest))
        return b""

    return answer


def _take_over(engine: Any, places: list[tuple[str, float]]) -> bytes:
    """Freeze controls where they settle, and put loads at the places (bus and node, kV) instead of the script's own."""
    solution = engine.ActiveCircuit.Solution
    solution.MaxIterations, solution.MaxControlIterations = 500, 100
    solution.Solve()
    commands = ["set controlmode=off", "batchedit load..* enabled=no"]
    for k, (at, kv) in enumerate(places):
        commands.append(f'new load.at{k} phases=1 bus1="{at}" kv={kv!r} kw=0 kvar=0 vminpu=.3 vmaxpu=2 vlowpu=.1')
    tell(engine, [*commands, "set tolerance=1e-10", "set loadmult=1", "solve"])
    return json.dumps([str(name).lower() for name in engine.ActiveCircuit.AllNodeNames]).encode()


def _voltages(engine: Any) -> bytes:
    """Magnitudes in volts, in the order of the nodes."""
    circuit = engine.ActiveCircuit
    circuit.Solution.Solve()
    if not circuit.Solution.Converged:
        raise InputError("", "OpenDSS", "finds no power flow for the dispatch")
    parts = np.asarray(circuit.AllBusVolts, dtype=np.float64)
    return np.hypot(parts[0::2], parts[1::2]).tobytes()


def _times(engine: Any, repetitions: int) -> bytes:
    """Median of milliseconds of a solution after every load has changed by up to a per cent."""
    solution = engine.ActiveCircuit.Solution
    solution.Solve()
    taken = []
    for k in range(repetitions):
        solution.LoadMult = 1.0 + 0.01 * ((k % 5) - 2) / 2
        start = time.perf_counter()
        solution.Solve()
        taken.append(1000.0 * (time.perf_counter() - start))
    solution.LoadMult = 1.0
    return np.array(statistics.median(taken)).tobytes()
