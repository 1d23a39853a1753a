"""Zero sequence of pandapower's lines and two-winding transformers.

Sources: pandapower documentation, "Unbalanced power flow", for the meaning of the columns; Oswald, Berechnung von
Drehstromnetzen (2009), and IEC 60909-4 for the vector groups. A transformer is a T of two leakage shares ``z1`` (high
side) and ``z2`` with a magnetising branch ``z3``; what its terminals see is

    YNyn  the whole T                        Dyn   z2 + z1 || z3 from the low side to earth
    YNd   z1 + z2 || z3 from the high side   Yyn   z2 + z3 from the low side
    YNy   z1 + z3 from the high side         Yzn, Dzn  z1 + z2 from the low side (a zigzag does not magnetise)

and nothing where neither star point is earthed. A neutral impedance counts three times.
"""

from __future__ import annotations

import re

import numpy as np

from tellegen.errors import InputError
from tellegen.grid.elements import ComplexArray, FloatArray
from tellegen.grid.importers.draft import listed
from tellegen.grid.importers.sequences import TwoPorts
from tellegen.grid.importers.tables import Frame

VECTOR_GROUP = re.compile(r"(yn|y|d)(yn|y|d|zn|z)([0-9]{1,2})?")
READ_GROUPS = "YNyn, Dyn, YNd, Yyn, YNy, Yzn, Dzn, Yy, Yd, Dy, Dd, Yz, Dz"
DEGREES_PER_HOUR = 30.0


def line_columns(line: Frame, warnings: list[str]) -> tuple[ComplexArray, FloatArray]:
    """Zero-sequence impedance (ohm/km) and capacitance (nF/km) of each line.

    Raises
    ------
    InputError : a line in service has no ``r0_ohm_per_km`` or ``x0_ohm_per_km``.
    """
    live = line.flags("in_service", True)
    given = [line.numbers(column, np.nan) for column in ("r0_ohm_per_km", "x0_ohm_per_km", "c0_nf_per_km")]
    for column, values in zip(("r0_ohm_per_km", "x0_ohm_per_km"), given[:2], strict=True):
        missing = np.flatnonzero(live & np.isnan(values))
        if missing.size:
            raise InputError(
                line.source,
                f"{line.label(int(missing[0]))}, {column}",
                "is missing; three phases need it (pandapower.add_zero_impedance_parameters fills it in)",
            )
    bare = np.isnan(given[2])
    if (bare & live).any():
        names = [line.label(int(k)) for k in np.flatnonzero(bare & live)]
        warnings.append(f"c0_nf_per_km is missing, c_nf_per_km is taken: {listed(names)}")
    ohm = np.nan_to_num(given[0]) + 1j * np.nan_to_num(given[1])
    return np.asarray(ohm), np.where(bare, line.numbers("c_nf_per_km", 0.0), given[2])


def _groups(frame: Frame, warnings: list[str]) -> list[tuple[str, str, int]]:
    """High and low side of each vector group, and the sign of a zero sequence that passes."""
    out = []
    shift = frame.numbers("shift_degree", 0.0) / DEGREES_PER_HOUR
    live = frame.flags("in_service", True)
    for row, text in enumerate(frame.texts("vector_group")):
        if not live[row]:
            out.append(("d", "d", 1))
            continue
        found = VECTOR_GROUP.fullmatch(text.strip().lower())
        if not found:
            problem = f"is {text!r}" if text.strip() else "is missing"
            raise InputError(
                frame.source, f"{frame.label(row)}, vector_group", f"{problem}; three phases need one of {READ_GROUPS}"
            )
        high, low = found.group(1), found.group(2)
        odd = (high == "d") != (low == "d") if not low.startswith("z") else high != "d"
        hour = shift[row] % 12
        said = round(hour) if found.group(3) is None else int(found.group(3)) % 12
        if abs(hour - said) > 1e-6 or (round(hour) % 2 == 1) != odd:
            warnings.append(
                f"{frame.label(row)}: shift_degree {shift[row] * DEGREES_PER_HOUR:g} contradicts the vector group "
                f"{text.strip()}; the shift is taken"
            )
        out.append((high, low, 1 if round(hour) % 4 == 0 else -1))
    return out


def _leakage(frame: Frame, percent_to_pu: FloatArray, warnings: list[str]) -> tuple[ComplexArray, FloatArray]:
    """Zero-sequence leakage impedance and its magnitude before the square root's sign, per unit at the low side."""
    vk, vkr = frame.numbers("vk0_percent", 0.0), frame.numbers("vkr0_percent", 0.0)
    none = vk == 0
    if (none & frame.flags("in_service", True)).any():
        names = [frame.label(int(k)) for k in np.flatnonzero(none & frame.flags("in_service", True))]
        warnings.append(f"vk0_percent is missing, the positive sequence is taken: {listed(names)}")
    vk = np.where(none, frame.numbers("vk_percent"), vk)
    vkr = np.where(none, frame.numbers("vkr_percent"), vkr)
    wrong = np.flatnonzero(abs(vkr) > abs(vk))
    if wrong.size:
        raise InputError(frame.source, frame.label(int(wrong[0])), "needs vkr0_percent <= vk0_percent")
    impedance = (vkr + 1j * np.sign(vk) * np.sqrt(vk**2 - vkr**2)) * percent_to_pu
    return np.asarray(impedance), vk * percent_to_pu


def transformer_two_ports(
    frame: Frame, ratio: ComplexArray, percent_to_pu: FloatArray, base_ohm_high: FloatArray, base_ohm_low: FloatArray,
    warnings: list[str],
) -> TwoPorts:  # fmt: skip
    """Zero-sequence admittances of each transformer of a table.

    Parameters
    ----------
    ratio : complex128[T], positive-sequence ratio at the high side.
    percent_to_pu : float64[T], from percent of the rating to per unit at the low side, all parallel units.
    base_ohm_high, base_ohm_low : float64[T], impedance bases of the two buses.

    Raises
    ------
    InputError : no vector group, one without a model, or no magnetising impedance where the group needs it.
    """
    groups = _groups(frame, warnings)
    leakage, size = _leakage(frame, percent_to_pu, warnings)
    share = frame.numbers("mag0_percent", np.inf) / 100
    rx = frame.numbers("mag0_rx", 0.0)
    high_share = frame.numbers("si0_hv_partial", 0.5)
    neutral = frame.numbers("rn_ohm", 0.0) + 1j * frame.numbers("xn_ohm", 0.0)
    out = TwoPorts.open(len(frame), 0)
    for row, (high, low, sign) in enumerate(groups):
        a2 = abs(ratio[row]) ** 2
        earth = 3 * neutral[row] / (base_ohm_high[row] * a2 if high == "yn" else base_ohm_low[row])
        whole = leakage[row] + earth
        if whole == 0:
            raise InputError(frame.source, frame.label(row), "has no zero-sequence impedance")
        z1, z2 = high_share[row] * whole, (1 - high_share[row]) * whole
        y3 = np.sqrt(rx[row] ** 2 + 1) / (size[row] * share[row] * (rx[row] + 1j)) if np.isfinite(share[row]) else 0j
        if (high, low) in (("y", "yn"), ("yn", "y")) and y3 == 0:
            raise InputError(
                frame.source, f"{frame.label(row)}, mag0_percent", f"is missing; {high.upper()}{low} needs it"
            )
        if (high, low) == ("yn", "yn"):
            joint = z1 * z2 * y3 + z1 + z2
            through = -sign / (joint * np.sqrt(a2))
            out.from_from[row], out.to_to[row] = (1 + y3 * z2) / joint / a2, (1 + y3 * z1) / joint
            out.from_to[row] = out.to_from[row] = through
        elif (high, low) == ("d", "yn"):
            out.to_to[row] = 1 / (z2 + z1 / (1 + z1 * y3))
        elif (high, low) == ("yn", "d"):
            out.from_from[row] = 1 / (z1 + z2 / (1 + z2 * y3)) / a2
        elif (high, low) == ("y", "yn"):
            out.to_to[row] = y3 / (1 + z2 * y3)
        elif (high, low) == ("yn", "y"):
            out.from_from[row] = y3 / (1 + z1 * y3) / a2
        elif low == "zn" and high != "yn":
            out.to_to[row] = 1 / whole
        elif high == "yn":
            raise InputError(
                frame.source, f"{frame.label(row)}, vector_group", f"has no model; three phases need {READ_GROUPS}"
            )
    return out
