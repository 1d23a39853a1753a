"""Networks from files and data sets: MATPOWER, pandapower, SimBench, OpenDSS, to one `Case` each.

In goes a spec as the command line takes it, out comes an energised network in per unit with what the
file connects to it. Nothing in it is dropped in silence: `Case.warnings` names what is left out or
approximated, and what has no model is an `InputError`. Nothing in a file is executed; of an
OpenDSS script, OpenDSS is told what an allow-list lets through, in a process that can do nothing else.
"""

from __future__ import annotations

from pathlib import Path

from tellegen.errors import InputError
from tellegen.grid.document import is_case_document, read_case
from tellegen.grid.importers.matpower import read_matpower
from tellegen.grid.importers.opendss import read_opendss
from tellegen.grid.importers.pandapower import case_of_tables
from tellegen.grid.importers.simbench import Profiles, pandapower_tables, simbench_profiles, simbench_tables
from tellegen.grid.importers.tables import Frame, Tables, read_tables
from tellegen.grid.network import Case


def load_case(spec: str, *, three_phase: bool | None = None) -> Case:
    """Load a network.

    Parameters
    ----------
    spec : a MATPOWER file ``*.m``, a pandapower file or a network document ``*.json``, ``simbench:CODE`` or
        ``pandapower:NAME`` (the last two need the extra ``grids``), an OpenDSS script ``*.dss`` (three
        phases; needs the extra ``plant``).
    three_phase : of pandapower and SimBench networks: a node per phase, or per bus; None: per phase
        where the file holds asymmetric loads or generators. Other formats have only one form.

    Raises
    ------
    InputError : the file cannot be read or is inconsistent; says where, and what would be right.

    >>> load_case("feeder.glm")
    Traceback (most recent call last):
    ...
    tellegen.errors.InputError: feeder.glm: format is not known; a network is *.dss, *.m, *.json, \
simbench:CODE or pandapower:NAME
    """
    kind, _, name = spec.partition(":")
    if kind == "simbench":
        return case_of_tables(simbench_tables(name), three_phase=three_phase)
    if kind == "pandapower":
        return case_of_tables(pandapower_tables(name), three_phase=three_phase)
    suffix = Path(spec).suffix.lower()
    if three_phase is not None and suffix in (".dss", ".m") and three_phase != (suffix == ".dss"):
        only = "three phases" if suffix == ".dss" else "its balanced form, without zero sequence"
        raise InputError(spec, "format", f"gives a network only in {only}")
    if suffix == ".dss":
        return read_opendss(Path(spec))
    if suffix == ".m":
        return read_matpower(Path(spec))
    if suffix == ".json" and is_case_document(Path(spec)):
        return read_case(Path(spec))
    if suffix == ".json":
        return case_of_tables(read_tables(Path(spec)), three_phase=three_phase)
    raise InputError(spec, "format", "is not known; a network is *.dss, *.m, *.json, simbench:CODE or pandapower:NAME")


__all__ = ["Frame", "Profiles", "Tables", "case_of_tables", "load_case", "simbench_profiles", "simbench_tables"]
