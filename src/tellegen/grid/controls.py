"""Taps and capacitor steps that can move, and the controls that decide when.

A network is frozen while the market clears. Between periods regulators move taps and switch capacitors
(`tellegen.grid.regulation`); what they need for that stands here: the data from which a moved element's admittance is
built anew, and the settings of the controls. Voltages in settings are on the secondary side of the instrument
transformers, as the field writes them (122 V on a base of 120).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import IntEnum

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from tellegen.grid.primitives import GROUND, Winding, opened, star_or_delta, transformer

IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float64]
ComplexArray = NDArray[np.complex128]

TAP_DIGITS = 12
"""Taps are kept to so many decimals, so that steps there and back end where they began."""


class Pick(IntEnum):
    """Which of several phases a control goes by."""

    MEAN = 0
    LARGEST = 1
    SMALLEST = 2

    def of(self, values: FloatArray) -> float:
        """The picked value of float64[p].

        >>> Pick.LARGEST.of(np.array([1.0, 3.0, 2.0]))
        3.0
        """
        if self == Pick.MEAN:
            return float(values.mean())
        return float(values.max() if self == Pick.LARGEST else values.min())


class CapacitorSignal(IntEnum):
    """What a capacitor's control measures."""

    VOLTAGE = 0
    CURRENT = 1
    KVAR = 2


@dataclass(frozen=True, slots=True, eq=False)
class TapTransformer:
    """A transformer with taps that a regulator moves.

    Attributes
    ----------
    name : class and name in lower case (``"transformer.reg1"``).
    node : int64[k], node of each conductor end, terminal by terminal, `GROUND` for the earth.
    row : int64[k], rows of the ends among the network's branches, -1 at ground.
    phases, windings, x_percent, no_load_percent, magnetising_percent, float_ppm, low_voltage_leads : see
        `tellegen.grid.primitives.transformer`.
    tap_min, tap_max : float64[w], ends of the range of each winding's tap, per unit of its rated voltage.
    steps : int64[w], steps between them.
    open_end : bool[k], ends that are disconnected.
    """

    name: str
    node: IntArray
    row: IntArray
    phases: int
    windings: tuple[Winding, ...]
    x_percent: FloatArray
    no_load_percent: float
    magnetising_percent: float
    float_ppm: float
    low_voltage_leads: bool
    tap_min: FloatArray
    tap_max: FloatArray
    steps: IntArray
    open_end: NDArray[np.bool_]

    def admittance(self) -> ComplexArray:
        """Primitive admittance at the present taps, complex128[k, k], siemens."""
        whole = transformer(
            self.phases,
            self.windings,
            self.x_percent,
            no_load_percent=self.no_load_percent,
            magnetising_percent=self.magnetising_percent,
            float_ppm=self.float_ppm,
            low_voltage_leads=self.low_voltage_leads,
        )
        return opened(whole, self.open_end)

    def step(self, winding: int) -> float:
        """One step of a winding's tap, per unit."""
        return float((self.tap_max[winding] - self.tap_min[winding]) / self.steps[winding])

    def moved(self, winding: int, steps: int) -> TapTransformer:
        """The transformer after so many steps of a winding's tap, at most to the end of its range."""
        tap = self.windings[winding].tap + steps * self.step(winding)
        tap = round(min(max(tap, float(self.tap_min[winding])), float(self.tap_max[winding])), TAP_DIGITS)
        return self.at(winding, tap)

    def at(self, winding: int, tap: float) -> TapTransformer:
        """The transformer with a winding's tap at `tap`."""
        windings = list(self.windings)
        windings[winding] = replace(windings[winding], tap=tap)
        return replace(self, windings=tuple(windings))


@dataclass(frozen=True, slots=True, eq=False)
class SwitchedCapacitor:
    """A capacitor bank whose steps a control switches.

    Attributes
    ----------
    name, node : as of `TapTransformer`.
    phases, delta : single-phase banks from each conductor to the second terminal, or around.
    step_siemens : complex128[S], admittance of each step per phase.
    on : bool[S], the steps that are in.
    """

    name: str
    node: IntArray
    phases: int
    delta: bool
    step_siemens: ComplexArray
    on: NDArray[np.bool_]

    def admittance(self) -> ComplexArray:
        """Primitive admittance with the present steps, complex128[k, k], siemens."""
        total = 0j
        for value in self.step_siemens[self.on].tolist():
            total += value
        return star_or_delta(
            np.full(self.phases, total, dtype=np.complex128),
            self.delta,
            self.node.size if self.delta else self.phases,
        )

    @property
    def last_on(self) -> int:
        """Number of the last step that is in, counted from 1; 0 for none."""
        return int(np.flatnonzero(self.on)[-1]) + 1 if self.on.any() else 0

    def moved(self, steps: int) -> SwitchedCapacitor:
        """The bank after its next step comes in (+1) or its last goes out (-1); as it is where there is none."""
        place = self.last_on if steps > 0 else self.last_on - 1
        if not 0 <= place < self.on.size:
            return self
        on = self.on.copy()
        on[place] = steps > 0
        return replace(self, on=on)


@dataclass(frozen=True, slots=True)
class ReverseSettings:
    """What a regulator does once more than `threshold_kw` has flowed backwards for `delay_s`.

    It goes to neutral, `neutral_delay_s` later, or regulates the other side by the settings here; see `Regulator`.
    """

    threshold_kw: float
    delay_s: float
    to_neutral: bool
    neutral_delay_s: float
    v_reg: float
    band: float
    r_volt: float
    x_volt: float
    magnitude_volt: float


@dataclass(frozen=True, slots=True, eq=False)
class Regulator:
    """A control that keeps a voltage in a band by a transformer's tap.

    Attributes
    ----------
    name : class and name in lower case (``"regcontrol.reg1"``).
    transformer : number of the `TapTransformer`; winding, tap_winding : the one that is measured, the one whose tap
        moves, counted from 0.
    v_reg, band : set-point and width of the band, secondary volts.
    high, low : int64[p], nodes between which the voltage of each phase is measured; pick : which phase counts.
    local_high, local_low : int64[1], the same at the winding itself, where a remote bus is measured.
    current_row : int64[p], branch rows of the current into the winding with each phase; -1 at ground.
    power_row : int64[c], branch rows of all conductors of the winding, for the direction of power.
    pt_ratio : volts per secondary volt at the winding; sense_pt_ratio : at the nodes measured (a remote bus).
    ct_primary_a : primary amperes of the current transformer (secondary: what r and x are set for).
    r_volt, x_volt : line-drop compensation, secondary volts at rated primary current; magnitude_volt : the same by
        magnitudes alone. All 0: none.
    v_limit : secondary volts at the winding that are never to be exceeded; 0: no such limit.
    delay_s : before the first step; inverse_time : shorter, the farther from the band.
    steps_max : most steps at once.
    remote : whether a bus elsewhere is measured; then neither compensation nor direction of power count.
    reverse : None for a control that looks one way only.
    """

    name: str
    transformer: int
    winding: int
    tap_winding: int
    v_reg: float
    band: float
    high: IntArray
    low: IntArray
    pick: Pick
    local_high: IntArray
    local_low: IntArray
    current_row: IntArray
    power_row: IntArray
    pt_ratio: float
    sense_pt_ratio: float
    ct_primary_a: float
    r_volt: float
    x_volt: float
    magnitude_volt: float
    v_limit: float
    delay_s: float
    inverse_time: bool
    steps_max: int
    remote: bool
    reverse: ReverseSettings | None


@dataclass(frozen=True, slots=True, eq=False)
class CapacitorControl:
    """A control that switches a capacitor bank, one step at a time.

    Attributes
    ----------
    name : class and name in lower case; capacitor : number of the `SwitchedCapacitor`.
    signal : what it measures. On voltage it closes below `on` and opens above `off`; on current and kvar it closes
        above `on` and opens below `off`.
    on, off : secondary volts, secondary amperes, or kvar into the monitored terminal.
    high, low : int64[p], nodes of the voltages measured; voltage_pick : which counts.
    current_row : int64[q], branch rows of the currents measured; current_pick : which counts.
    power_row : int64[c], branch rows of the monitored terminal; empty where its current is not known.
    pt_ratio, ct_ratio : instrument transformers.
    override_min, override_max : secondary volts outside of which the voltage decides whatever the signal; 0 and
        ``inf``: never. override_high, override_low, override_pick : where they are measured.
    delay_on_s, delay_off_s : before it closes, opens; dead_s : after it has opened, before it may close.
    """

    name: str
    capacitor: int
    signal: CapacitorSignal
    on: float
    off: float
    high: IntArray
    low: IntArray
    voltage_pick: Pick
    current_row: IntArray
    current_pick: Pick
    power_row: IntArray
    pt_ratio: float
    ct_ratio: float
    override_min: float
    override_max: float
    override_high: IntArray
    override_low: IntArray
    override_pick: Pick
    delay_on_s: float
    delay_off_s: float
    dead_s: float


@dataclass(frozen=True, slots=True, eq=False)
class Controls:
    """All that can move in a network, and what moves it.

    Attributes
    ----------
    transformers, capacitors : the elements; they are part of the network's admittance at their present positions.
    regulators, switches : their controls, in the order of the file.
    rest : sparse complex [N, N], siemens: what all other elements contribute at the entries that moving elements
        touch, so that the admittance after a move does not depend on the way there.
    """

    transformers: tuple[TapTransformer, ...]
    capacitors: tuple[SwitchedCapacitor, ...]
    regulators: tuple[Regulator, ...]
    switches: tuple[CapacitorControl, ...]
    rest: sp.csr_matrix

    def touched(self) -> tuple[IntArray, IntArray, ComplexArray]:
        """Entries ``(row, column, siemens)`` of the admittance that moving elements touch, at present positions.

        Rows and columns are those of `rest`, in its order.
        """
        rest = self.rest.tocoo()
        size = self.rest.shape[0]
        key = rest.row.astype(np.int64) * size + rest.col
        total = rest.data.astype(np.complex128)
        blocks = [(element.node, element.admittance()) for element in self.transformers]
        blocks += [(bank.node, bank.admittance()) for bank in self.capacitors]
        for node, admittance in blocks:
            row, column, value = entries(node, admittance)
            np.add.at(total, np.searchsorted(key, row * size + column), value)
        return rest.row.astype(np.int64), rest.col.astype(np.int64), total


def entries(node: IntArray, admittance: ComplexArray) -> tuple[IntArray, IntArray, ComplexArray]:
    """Entries ``(row, column, value)`` of a primitive that are not zero; the ground is left out."""
    row, column, value = np.repeat(node, node.size), np.tile(node, node.size), admittance.ravel()
    kept = (row != GROUND) & (column != GROUND) & (value != 0)
    return row[kept], column[kept], value[kept]
