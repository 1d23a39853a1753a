"""Primitive admittances of multi-phase elements, in siemens, from their tables.

An element with k conductor ends has a k x k matrix ``Y`` with ``i = Y v``: currents into the element, voltages to
ground. Its ends are listed terminal by terminal. All impedances are at the circuit's frequency. Method: winding and
phase matrices by incidence (Dommel, EMTP theory book, 1986; Kersting, Distribution System Modeling and Analysis).
OpenDSS's ppm shunts, which hold a transformer winding that would float, are kept: the voltages to ground of such a
winding exist by them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float64]
ComplexArray = NDArray[np.complex128]

GROUND = -1
"""Node index of the earth in `Primitive.node`."""


@dataclass(frozen=True, slots=True, eq=False)
class Primitive:
    """One element between nodes.

    Attributes
    ----------
    name : class and name in lower case (``"line.650632"``).
    node : int64[k], node index of each conductor end, `GROUND` for the earth.
    admittance : complex128[k, k], siemens.
    """

    name: str
    node: IntArray
    admittance: ComplexArray


@dataclass(frozen=True, slots=True)
class Winding:
    """One winding of a transformer.

    `kv` is line to line for two and three phases, else across the winding. `kva` is its rating, `r_percent` its
    resistance on the base of the first winding. `neutral_ohm` (wye only) earths the neutral conductor; None leaves
    it to the node it is connected to.
    """

    delta: bool
    kv: float
    kva: float
    tap: float
    r_percent: float
    neutral_ohm: complex | None = None

    def rated_volt(self, phases: int) -> float:
        """Voltage across the winding of one phase."""
        star = not self.delta and phases in (2, 3)
        return self.kv * 1000.0 / (np.sqrt(3.0) if star else 1.0)


def series_branch(impedance_ohm: ComplexArray, shunt_siemens: ComplexArray) -> ComplexArray:
    """Pi of p conductors: series matrix [p, p], whole shunt matrix [p, p]; result [2p, 2p].

    >>> series_branch(np.array([[2.0 + 0j]]), np.zeros((1, 1), dtype=complex)).real
    array([[ 0.5, -0.5],
           [-0.5,  0.5]])
    """
    series = np.linalg.inv(impedance_ohm)
    size = len(series)
    result = np.empty((2 * size, 2 * size), dtype=np.complex128)
    result[:size, :size] = result[size:, size:] = series + shunt_siemens / 2
    result[:size, size:] = result[size:, :size] = -series
    return result


def line(impedance_ohm: ComplexArray, capacitance_nf: FloatArray, frequency_hz: float) -> ComplexArray:
    """Line of p conductors: series impedance [p, p] and capacitance matrix [p, p] of its whole length."""
    shunt = np.asarray(2e-9j * np.pi * frequency_hz * capacitance_nf, dtype=np.complex128)
    return series_branch(impedance_ohm, shunt)


def sequence_matrix(positive: complex, zero: complex, phases: int) -> ComplexArray:
    """Phase matrix [p, p] of an element with equal phases: own ``(2 z1 + z0) / 3``, mutual ``(z0 - z1) / 3``.

    One phase has its positive sequence only.
    """
    if phases == 1:
        return np.array([[positive]], dtype=np.complex128)
    own, mutual = (2 * positive + zero) / 3, (zero - positive) / 3
    return np.full((phases, phases), mutual, dtype=np.complex128) + (own - mutual) * np.identity(phases)


def _winding_admittance(windings: tuple[Winding, ...], x_percent: FloatArray, volt_ampere: float) -> ComplexArray:
    """Admittance [w, w] between windings of one phase, all referred to 1 V.

    Short circuits of pairs give ``Z_ij``; with winding 1 as reference the (w-1)-square impedance has ``Z_1i`` on its
    diagonal and ``(Z_1i + Z_1j - Z_ij) / 2`` beside it.
    """
    count = len(windings)
    short = np.zeros((count, count), dtype=np.complex128)
    pair = iter(x_percent.tolist())
    for i in range(count):
        for j in range(i + 1, count):
            short[i, j] = complex(windings[i].r_percent + windings[j].r_percent, next(pair)) / 100.0
            short[j, i] = short[i, j]
    first = short[0, 1:]
    impedance = (first[:, None] + first[None, :] - short[1:, 1:]) / 2.0
    incidence = np.vstack([np.ones(count - 1), -np.identity(count - 1)])
    return np.asarray(incidence @ np.linalg.inv(impedance / volt_ampere) @ incidence.T)


def delta_direction(windings: tuple[Winding, ...], low_voltage_leads: bool) -> int:
    """Which neighbour closes a delta: +1 the next phase, -1 the one before.

    Where the first two windings differ, the direction makes the low-voltage side (of equals: the second) lag by 30
    degrees, or lead.
    """
    a, b = windings[0], windings[1] if len(windings) > 1 else windings[0]
    if a.delta == b.delta:
        return 1
    high = a if a.kv >= b.kv else b
    return -1 if high.delta != low_voltage_leads else 1


def transformer(
    phases: int,
    windings: tuple[Winding, ...],
    x_percent: FloatArray,
    *,
    no_load_percent: float = 0.0,
    magnetising_percent: float = 0.0,
    float_ppm: float = 0.0,
    low_voltage_leads: bool = False,
) -> ComplexArray:
    """Transformer of w windings; each terminal has its phases and then one neutral conductor.

    Parameters
    ----------
    x_percent : float64[w (w-1) / 2], short-circuit reactances of pairs (1-2, 1-3, ..., 2-3, ...) on the base of the
        first winding's kVA.
    no_load_percent, magnetising_percent : iron losses and magnetising current, at the second winding.
    float_ppm : reactive shunt of each winding, parts per million of the rating, half at each end.

    Returns
    -------
    complex128[w (phases + 1), w (phases + 1)]. The neutral conductor of a delta winding is not connected.
    """
    volt_ampere = windings[0].kva * 1000.0 / phases
    core = _winding_admittance(windings, x_percent, volt_ampere)
    core[1, 1] += complex(no_load_percent, -magnetising_percent) / 100.0 * volt_ampere
    direction = delta_direction(windings, low_voltage_leads)
    conductors = phases + 1
    size = conductors * len(windings)
    result = np.zeros((size, size), dtype=np.complex128)
    for phase in range(phases):
        incidence = np.zeros((size, len(windings)))
        for w, winding in enumerate(windings):
            rated = winding.rated_volt(phases)
            here = w * conductors + phase
            if winding.delta:
                # One phase has two conductors, two phases three: an open delta's last conductor follows the first.
                there = (phase + (1 if phases == 1 else direction)) % (phases if phases > 2 else phases + 1)
            else:
                there = phases
            there += w * conductors
            incidence[here, w] = 1.0 / (rated * winding.tap)
            incidence[there, w] = -1.0 / (rated * winding.tap)
            hold = -0.5j * float_ppm * 1e-6 * volt_ampere / rated**2
            result[here, here] += hold
            result[there, there] += hold
        result += incidence @ core @ incidence.T
    for w, winding in enumerate(windings):
        neutral = w * conductors + phases
        if not winding.delta:
            if winding.neutral_ohm is not None:
                result[neutral, neutral] += 1 / winding.neutral_ohm if winding.neutral_ohm != 0 else 1e6
            elif float_ppm:
                result[neutral, neutral] += -0.5j * float_ppm * 1e-6 * volt_ampere / winding.rated_volt(phases) ** 2
    return result


def star_or_delta(admittance: ComplexArray, delta: bool, conductors: int) -> ComplexArray:
    """Single-phase admittances [p] as one shunt: from each conductor to a second terminal, or around a delta.

    A star has 2p ends (the second terminal is its other side), a delta as many as it has conductors.
    """
    phases = len(admittance)
    size = conductors if delta else 2 * phases
    result = np.zeros((size, size), dtype=np.complex128)
    for k, value in enumerate(admittance.tolist()):
        a, b = k, ((k + 1) % conductors if delta else k + phases)
        result[a, a] += value
        result[b, b] += value
        result[a, b] -= value
        result[b, a] -= value
    return result


def opened(admittance: ComplexArray, open_end: NDArray[np.bool_]) -> ComplexArray:
    """The element with some conductor ends disconnected (they carry no current): Kron's reduction."""
    if not open_end.any():
        return admittance
    kept, gone = np.flatnonzero(~open_end), np.flatnonzero(open_end)
    result = np.zeros_like(admittance)
    inner = admittance[np.ix_(gone, gone)]
    link = np.linalg.lstsq(inner, admittance[np.ix_(gone, kept)], rcond=None)[0]
    result[np.ix_(kept, kept)] = admittance[np.ix_(kept, kept)] - admittance[np.ix_(kept, gone)] @ link
    return result
