"""How loads draw power: between which nodes, and how it depends on their voltage.

A connection lies from a node to another node or to ground. With ``m`` the magnitude of its voltage per unit of its
rated voltage, a load of rated power ``P + jQ`` draws ``P f(m, a) + j Q f(m, b)``, where

    f(m, n) = m^2                                                    m <= low
              m (low + (minimum^(e - 1) - low) (m - low) / (minimum - low))   low < m <= minimum
              m^n                                                    minimum < m <= maximum
              maximum^(e - 2) m^2                                    m > maximum

Exponents 0, 1, 2 are constant power, current, impedance. Outside the band a load turns into an impedance; ``e`` is
the exponent at which its current meets the edge. That is what OpenDSS does with ``vlowpu``, ``vminpu``, ``vmaxpu``.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float64]
ComplexArray = NDArray[np.complex128]

SMALLEST_PU = 1e-12
GROUND = -1
"""`other` end of a connection to ground."""


@dataclass(frozen=True, slots=True, eq=False)
class LoadLaw:
    """How each of L loads depends on the voltage across it.

    Attributes
    ----------
    rated_pu : float64[L], rated voltage, per unit of the base of the load's first node.
    p_exponent, q_exponent : float64[L], of voltage inside the band.
    edge_exponent : float64[L], at the edges of the band.
    low, minimum, maximum : float64[L], of rated voltage; 0, 0 and ``inf`` for no band.
    """

    rated_pu: FloatArray
    p_exponent: FloatArray
    q_exponent: FloatArray
    edge_exponent: FloatArray
    low: FloatArray
    minimum: FloatArray
    maximum: FloatArray

    def factors(self, size: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
        """Shares ``(f_p, f_q, df_p/dm, df_q/dm)`` of rated power at voltages `size` of rated, each float64[L].

        >>> one = np.ones(1)
        >>> law = LoadLaw(one, 0 * one, 2 * one, 0 * one, 0.5 * one, 0.95 * one, 1.05 * one)
        >>> [round(float(x[0]), 6) for x in law.factors(1.02 * one)]
        [1.0, 1.0404, 0.0, 2.04]
        """
        m = np.maximum(size, SMALLEST_PU)
        span = np.where(self.minimum > self.low, self.minimum - self.low, 1.0)
        with np.errstate(divide="ignore", over="ignore"):
            slope = (np.where(self.minimum > 0, self.minimum, 1.0) ** (self.edge_exponent - 1) - self.low) / span
            above = np.where(np.isfinite(self.maximum), self.maximum, 1.0) ** (self.edge_exponent - 2)
        cases = [m <= self.low, m <= self.minimum, m > self.maximum]
        ramp, ramp_slope = m * (self.low + slope * (m - self.low)), self.low + slope * (2 * m - self.low)
        values = []
        for exponent in (self.p_exponent, self.q_exponent):
            values.append(np.select(cases, [m**2, ramp, above * m**2], m**exponent))
        for exponent in (self.p_exponent, self.q_exponent):
            values.append(np.select(cases, [2 * m, ramp_slope, 2 * above * m], exponent * m ** (exponent - 1)))
        return values[0], values[1], values[2], values[3]

    def beside(self, other: LoadLaw) -> LoadLaw:
        """The laws of these loads and then of `other`."""
        return LoadLaw(*(np.concatenate([getattr(self, name), getattr(other, name)]) for name in _PARTS))

    def take(self, part: slice) -> LoadLaw:
        """The laws of some of the loads."""
        return LoadLaw(*(getattr(self, name)[part] for name in _PARTS))


_PARTS = ("rated_pu", "p_exponent", "q_exponent", "edge_exponent", "low", "minimum", "maximum")


@dataclass(frozen=True, slots=True, eq=False)
class Draw:
    """The current that demand takes from the free nodes, per unit, and how it answers to their voltage.

    Attributes
    ----------
    load : complex128[n], constant power at the free nodes to ground, consumption positive.
    incidence : real sparse [n, L], ``incidence.T @ v`` are the voltages of the connections.
    power : complex128[L], rated power of the connections; law : how they depend on voltage.
    """

    load: ComplexArray
    incidence: sp.csr_matrix | None = None
    power: ComplexArray | None = None
    law: LoadLaw | None = None

    def size(self) -> FloatArray:
        """Magnitude of rated power at each free node, float64[n]."""
        if self.incidence is None or self.power is None:
            return np.abs(self.load)
        return np.asarray(np.abs(self.load) + abs(self.incidence) @ np.abs(self.power))

    def across(self, voltage: ComplexArray) -> ComplexArray:
        """Voltage of each connection, complex128[L]."""
        if self.incidence is None:
            return np.zeros(0, dtype=np.complex128)
        across = self.incidence.T @ voltage
        # Between equal nodes there is no direction; so small a voltage moves no current that counts.
        return np.where(np.abs(across) < SMALLEST_PU, SMALLEST_PU + 0j, across)

    def drawn(self, across: ComplexArray) -> tuple[ComplexArray, ComplexArray]:
        """Power of each connection and its derivative with the magnitude of its voltage, complex128[L] each."""
        if self.law is None or self.power is None:
            return np.zeros(0, dtype=np.complex128), np.zeros(0, dtype=np.complex128)
        f_p, f_q, d_p, d_q = self.law.factors(np.abs(across) / self.law.rated_pu)
        p, q = self.power.real, self.power.imag
        slope = np.asarray(p * d_p + 1j * q * d_q, dtype=np.complex128) / self.law.rated_pu
        return np.asarray(p * f_p + 1j * q * f_q, dtype=np.complex128), slope

    def current(self, voltage: ComplexArray) -> ComplexArray:
        """Current taken at each free node, complex128[n]."""
        current = np.conj(self._per_volt(self.load, voltage))
        if self.incidence is not None:
            across = self.across(voltage)
            current = current + self.incidence @ np.conj(self.drawn(across)[0] / across)
        return np.asarray(current)

    def _per_volt(self, load: ComplexArray, volt: ComplexArray) -> ComplexArray:
        """``load / volt``, 0 where there is no load: a neutral stands at zero volts."""
        return np.divide(load, volt, out=np.zeros_like(load), where=load != 0)

    def coefficients(self, across: ComplexArray) -> tuple[ComplexArray, ComplexArray]:
        """``(a, c)`` with ``d current = a du + c conj(du)`` for each connection, [..., L], at voltages `across`.

        With ``i = conj(s(|u|) / u)``: ``a = conj(s') / (2 |u|)`` and ``c = conj(s') u / (2 |u| conj(u)) -
        conj(s / u^2)``.
        """
        power, slope = self.drawn(across)
        direct = np.conj(slope) / (2 * np.abs(across))
        return direct, direct * across / np.conj(across) - np.conj(power / across**2)

    def plain_derivative(self, voltage: ComplexArray) -> ComplexArray:
        """``c`` with ``d current = c conj(dv)`` of the constant power to ground, complex128[n]."""
        return np.asarray(-np.conj(self._per_volt(self.load, voltage**2)))

    def derivative(self, voltage: ComplexArray) -> tuple[sp.csr_matrix, sp.csr_matrix]:
        """Sparse ``(A, C)`` with ``d current = A dv + C conj(dv)``."""
        plain = sp.diags(self.plain_derivative(voltage), format="csr")
        if self.incidence is None:
            return sp.csr_matrix(plain.shape, dtype=np.complex128), plain
        direct, mirrored = self.coefficients(self.across(voltage))
        m = self.incidence
        return m @ sp.diags(direct) @ m.T, plain + m @ sp.diags(mirrored) @ m.T
