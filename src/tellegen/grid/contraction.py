"""The fixed point of the power flow as one compiled loop, on the sweeps of an eliminated admittance matrix.

It does what `tellegen.grid.powerflow` does step by step with arrays, for the loads of `tellegen.grid.loads`.
Importing this module imports numba.
"""

# mypy: disable-error-code="misc, no-any-return"
from __future__ import annotations

import numpy as np

from tellegen.grid.loads import SMALLEST_PU
from tellegen.grid.sweeps import ComplexArray, FloatArray, IntArray, compiled, sweep_complex


@compiled
def raised(size: float, exponent: float) -> float:
    """``size ** exponent``, quick for constant power, current and impedance."""
    if exponent == 0.0:
        return 1.0
    if exponent == 1.0:
        return size
    if exponent == 2.0:
        return size * size
    return size**exponent


@compiled
def share(m: float, exponent: float, edge: float, low: float, minimum: float, maximum: float) -> float:
    """Share of rated power drawn at a voltage m of rated: the law of `tellegen.grid.loads`."""
    if m <= low:
        return m * m
    if m <= minimum:
        slope = (minimum ** (edge - 1.0) - low) / (minimum - low) if minimum > low else 0.0
        return m * (low + slope * (m - low))
    if m <= maximum:
        return raised(m, exponent)
    return maximum ** (edge - 2.0) * m * m


@compiled
def contract(
    start: IntArray,
    row: IntArray,
    diagonal: ComplexArray,
    lower: ComplexArray,
    upper: ComplexArray,
    source_current: ComplexArray,
    load: ComplexArray,
    size: FloatArray,
    leg_start: IntArray,
    leg_node: IntArray,
    leg_scale: FloatArray,
    power: ComplexArray,
    law: FloatArray,
    voltage: ComplexArray,
    aim: float,
    slowest: float,
    iterations_max: int,
) -> tuple[int, bool]:
    """The fixed point ``v <- -Y^-1 (Y_LS v_S + i(v))`` in place; iterations, and whether it arrived.

    Parameters
    ----------
    source_current, load, size, voltage : of the nodes in elimination order.
    leg_start, leg_node, leg_scale : compressed rows of the loads between nodes or with a law; power, law : theirs,
        the law as rows rated, p exponent, q exponent, edge exponent, low, minimum, maximum.
    aim : the step ``size |dv / v|`` to reach; slowest : largest ratio of two steps that is patience well spent.
    """
    count = diagonal.size
    fresh = np.empty(count, dtype=np.complex128)
    last = np.inf
    for k in range(1, iterations_max + 1):
        for n in range(count):
            fresh[n] = -source_current[n]
            if load[n] != 0.0:
                v = voltage[n]
                fresh[n] -= load[n].conjugate() * v / (v.real * v.real + v.imag * v.imag)
        for j in range(power.size):
            u = 0.0j
            for e in range(leg_start[j], leg_start[j + 1]):
                u += leg_scale[e] * voltage[leg_node[e]]
            square = u.real * u.real + u.imag * u.imag
            if square < SMALLEST_PU * SMALLEST_PU:
                u = complex(SMALLEST_PU, 0.0)
                square = SMALLEST_PU * SMALLEST_PU
            m = max(np.sqrt(square) / law[0, j], SMALLEST_PU)
            p = power[j].real * share(m, law[1, j], law[3, j], law[4, j], law[5, j], law[6, j])
            q = power[j].imag * share(m, law[2, j], law[3, j], law[4, j], law[5, j], law[6, j])
            current = complex(p, -q) * u / square
            for e in range(leg_start[j], leg_start[j + 1]):
                fresh[leg_node[e]] -= leg_scale[e] * current
        sweep_complex(start, row, diagonal, lower, upper, fresh)
        step = 0.0
        for n in range(count):
            if size[n] > 0.0:
                change, v = fresh[n] - voltage[n], fresh[n]
                square = (change.real * change.real + change.imag * change.imag) / (v.real * v.real + v.imag * v.imag)
                moved = size[n] * np.sqrt(square)
                if not moved <= step:
                    step = moved
            voltage[n] = fresh[n]
        if step <= aim:
            return k, True
        if not step < np.inf or (k > 4 and step > slowest * last):
            # Stagnation at rounding level is convergence; anything else is for Newton.
            return k, step <= 1e3 * aim
        last = step
    return iterations_max, False
