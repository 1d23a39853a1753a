"""Cables and transformers of synthetic feeders, with where their figures come from.

Low-voltage cables are line codes of the IEEE PES European Low Voltage Test Feeder (2015), after Kron's reduction of the
neutral: positive and zero sequence, from which a three-phase matrix gets equal own and equal mutual impedances.
Ampacities are those of the same cross-section of NAYY cable in the ground (DIN VDE 0276-603). Medium-voltage cables
(NA2XS2Y, 12/20 kV) and transformers (20/0.4 kV, Trafo Union) are standard types of pandapower 3 with the manufacturers'
data. The zero sequence of a medium-voltage cable with earthed screens is taken as 4 R1 and 4 X1; no load current of it
flows, for the transformers are delta on that side.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Cable:
    """Sequence impedances per km at 50 Hz, capacitance to earth of both sequences, ampacity."""

    name: str
    r1_ohm_per_km: float
    x1_ohm_per_km: float
    r0_ohm_per_km: float
    x0_ohm_per_km: float
    c_nf_per_km: float
    ampacity_a: float

    @property
    def positive_ohm_per_km(self) -> complex:
        """Positive-sequence impedance."""
        return complex(self.r1_ohm_per_km, self.x1_ohm_per_km)

    @property
    def zero_ohm_per_km(self) -> complex:
        """Zero-sequence impedance."""
        return complex(self.r0_ohm_per_km, self.x0_ohm_per_km)


@dataclass(frozen=True, slots=True)
class TransformerType:
    """A 20/0.4 kV transformer, delta to earthed star; percentages on its own rating."""

    name: str
    kva: float
    short_circuit_percent: float
    copper_percent: float
    iron_kw: float
    no_load_current_percent: float

    @property
    def reactance_percent(self) -> float:
        """Reactive part of the short-circuit voltage."""
        return float((self.short_circuit_percent**2 - self.copper_percent**2) ** 0.5)

    @property
    def iron_percent(self) -> float:
        """Iron losses in per cent of the rating."""
        return 100.0 * self.iron_kw / self.kva

    @property
    def magnetising_percent(self) -> float:
        """Reactive part of the no-load current."""
        return float(max(self.no_load_current_percent**2 - self.iron_percent**2, 0.0) ** 0.5)


MAINS = (
    Cable("4c_70", 0.446, 0.071, 1.505, 0.083, 0.0, 176.0),
    Cable("4c_95_sac_xc", 0.322, 0.074, 0.804, 0.093, 0.0, 211.0),
    Cable("4c_185", 0.166, 0.068, 0.580, 0.078, 0.0, 308.0),
)
"""Low-voltage mains, thinnest first."""

SERVICE = Cable("2c_16", 1.15, 0.088, 1.2, 0.088, 0.0, 100.0)
"""Service drop to one customer."""

MEDIUM_VOLTAGE = (
    Cable("na2xs2y_95", 0.313, 0.132, 4 * 0.313, 4 * 0.132, 216.0, 252.0),
    Cable("na2xs2y_150", 0.206, 0.116, 4 * 0.206, 4 * 0.116, 250.0, 319.0),
    Cable("na2xs2y_240", 0.122, 0.112, 4 * 0.122, 4 * 0.112, 304.0, 421.0),
)
"""Medium-voltage cables, thinnest first."""

TRANSFORMERS = (
    TransformerType("250", 250.0, 6.0, 1.44, 0.80, 0.32),
    TransformerType("400", 400.0, 6.0, 1.425, 1.35, 0.3375),
    TransformerType("630", 630.0, 6.0, 1.206, 1.65, 0.2619),
)
"""Secondary substations, smallest first."""
