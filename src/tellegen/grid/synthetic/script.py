"""A synthetic feeder as an OpenDSS script: for other programs, and for OpenDSS as referee."""

from __future__ import annotations

from tellegen.grid.synthetic.equipment import TRANSFORMERS
from tellegen.grid.synthetic.feeder import FREQUENCY_HZ, Feeder
from tellegen.grid.synthetic.layout import LOW_KV, MEDIUM_KV, Part

SOURCE_OHM = 1e-6
"""Reactance behind the root, which the feeder itself holds ideally."""


def opendss_script(feeder: Feeder) -> str:
    """Text of a script with lines, transformers and the customers' peak loads, phase by phase.

    Loads are constant power (the band in which OpenDSS keeps them so is widened). A balanced feeder gives the same
    script as its three-phase one.

    >>> from tellegen.grid.synthetic import synthetic_feeder
    >>> opendss_script(synthetic_feeder(3, seed=0)).splitlines()[0]
    'clear'
    """
    layout = feeder.layout
    short = f"r1=0 x1={SOURCE_OHM!r} r0=0 x0={SOURCE_OHM!r}"
    said = [
        "clear",
        f"set defaultbasefrequency={FREQUENCY_HZ:g}",
        f"new circuit.synthetic bus1=root basekv={MEDIUM_KV:g} pu={layout.root_pu!r} phases=3 angle=0 {short}",
    ]
    phase = dict(zip(layout.customer_bus.tolist(), layout.phase.tolist(), strict=True))
    for k in range(1, len(layout.bus)):
        above, bus, part = layout.bus[layout.parent[k]], layout.bus[k], Part(layout.part[k])
        if part == Part.TRANSFORMER:
            unit = TRANSFORMERS[int(layout.kind[k])]
            said.append(
                f"new transformer.{bus} phases=3 windings=2 buses=[{above} {bus}] conns=[delta wye] "
                f"kvs=[{MEDIUM_KV:g} {LOW_KV:g}] kvas=[{unit.kva:g} {unit.kva:g}] %loadloss={unit.copper_percent!r} "
                f"xhl={unit.reactance_percent!r} %noloadloss={unit.iron_percent!r} %imag={unit.magnetising_percent!r} "
                "ppm_antifloat=0"
            )
            continue
        cable, length = layout.cable(k), float(layout.length_km[k])
        if part == Part.SERVICE:
            r, x = 2 * cable.r1_ohm_per_km, 2 * cable.x1_ohm_per_km
            ends = f"phases=1 bus1={above}.{phase[k]} bus2={bus}.{phase[k]}"
            impedance = f"r1={r!r} x1={x!r} r0={r!r} x0={x!r} c1=0 c0=0"
        else:
            ends = f"phases=3 bus1={above} bus2={bus}"
            impedance = (
                f"r1={cable.r1_ohm_per_km!r} x1={cable.x1_ohm_per_km!r} r0={cable.r0_ohm_per_km!r} "
                f"x0={cable.x0_ohm_per_km!r} c1={cable.c_nf_per_km!r} c0={cable.c_nf_per_km!r}"
            )
        said.append(f"new line.{bus} {ends} {impedance} length={length!r} units=km normamps={cable.ampacity_a:g}")
    volt = LOW_KV / 3**0.5
    for k, kw, kvar in zip(layout.customer_bus.tolist(), layout.p_kw.tolist(), layout.q_kvar.tolist(), strict=True):
        said.append(
            f"new load.{layout.bus[k]} phases=1 bus1={layout.bus[k]}.{phase[k]} kv={volt!r} kw={kw!r} kvar={kvar!r} "
            "model=1 vminpu=.3 vmaxpu=2 vlowpu=.1"
        )
    said += [f"set voltagebases=[{MEDIUM_KV:g} {LOW_KV:g}]", "calcvoltagebases", "set tolerance=1e-10", "solve", ""]
    return "\n".join(said)
