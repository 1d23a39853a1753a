"""SimBench grids and the networks that pandapower ships, by name (extra ``grids``).

SimBench: Meinecke et al., "SimBench - A Benchmark Dataset of Electric Power Systems to Compare
Innovative Solutions Based on Power Flow Analysis", Energies 13 (2020) 3290. Its profiles cover 2016
in quarter-hours.
"""

from __future__ import annotations

import inspect
import io
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tellegen.errors import InputError
from tellegen.grid.importers.cache import (
    cache_path,
    package_versions,
    read_cached_arrays,
    read_cached_tables,
    write_cached_tables,
    write_whole,
)
from tellegen.grid.importers.tables import Tables, tables_of_net

NAME_LENGTH_MAX = 120


def _check_name(spec: str, name: str) -> None:
    if not name or len(name) > NAME_LENGTH_MAX or not all(c.isalnum() or c in "-_." for c in name):
        raise InputError(spec, f"name {name[:40]!r}", "must be letters, digits, '-', '_' and '.'")


def _open_simbench(spec: str, code: str) -> Any:
    import simbench

    known = simbench.collect_all_simbench_codes()
    if code not in known:
        near = sorted(k for k in known if k.startswith(code.split("--")[0]))[:3]
        remedy = f"codes like it: {', '.join(near)}" if near else "a code looks like 1-LV-rural3--2-no_sw"
        raise InputError(spec, f"code {code}", f"is not a SimBench code; {remedy}")
    return simbench.get_simbench_net(code)


def simbench_tables(code: str) -> Tables:
    """Element tables of a SimBench grid, from the cache where it has been opened before.

    Raises
    ------
    InputError : the code is unknown, or the extra ``grids`` is not installed.
    """
    spec = f"simbench:{code}"
    _check_name(spec, code)
    path = cache_path(spec, package_versions(spec, "simbench", "pandapower"), ".json")
    cached = read_cached_tables(path, spec)
    return cached if cached is not None else _convert_simbench(spec, code)[0]


def _convert_simbench(spec: str, code: str) -> tuple[Tables, Profiles]:
    """Open a grid once and keep both its tables and its profiles."""
    versions = package_versions(spec, "simbench", "pandapower")
    net = _open_simbench(spec, code)
    tables, profiles = tables_of_net(spec, net), _profiles_of_net(spec, net)
    buffer = io.BytesIO()
    np.savez(buffer, names=np.array(profiles.names), values=profiles.values, first=np.array(profiles.first_quarter))
    write_cached_tables(cache_path(spec, versions, ".json"), tables)
    write_whole(cache_path(spec, versions, ".npz"), buffer.getvalue())
    return tables, profiles


@dataclass(frozen=True, slots=True)
class Profiles:
    """Relative profiles of a grid.

    names : column names of the data set (``H0-A_pload``, ``PV3``).
    values : float32[P, Q], share of the element's nominal power in each quarter-hour.
    first_quarter : first time stamp as the data set writes it (``01.01.2016 00:00``).
    """

    names: tuple[str, ...]
    values: NDArray[np.float32]
    first_quarter: str

    def row(self, name: str) -> NDArray[np.float64]:
        """One profile as float64[Q].

        Raises
        ------
        KeyError : the grid has no such profile.
        """
        try:
            return np.asarray(self.values[self.names.index(name)], dtype=np.float64)
        except ValueError:
            raise KeyError(name) from None


def _profiles_of_net(spec: str, net: Any) -> Profiles:
    names: list[str] = []
    rows: list[NDArray[np.float32]] = []
    first = ""
    for kind in ("load", "renewables", "storage"):
        frame = net.profiles.get(kind)
        if frame is None or not len(frame):
            continue
        first = str(frame["time"].iloc[0])
        for column in frame.columns:
            if column != "time":
                names.append(str(column))
                rows.append(frame[column].to_numpy(dtype=np.float32))
    if not rows or len({row.size for row in rows}) != 1:
        raise InputError(spec, "profiles", "are missing or of different lengths")
    return Profiles(tuple(names), np.stack(rows), first)


def simbench_profiles(code: str) -> Profiles:
    """Profiles of a SimBench grid, from the cache where it has been opened before."""
    spec = f"simbench:{code}"
    _check_name(spec, code)
    path = cache_path(spec, package_versions(spec, "simbench", "pandapower"), ".npz")
    arrays = read_cached_arrays(path)
    if arrays is None or not {"names", "values", "first"} <= arrays.keys():
        return _convert_simbench(spec, code)[1]
    return Profiles(
        tuple(str(n) for n in arrays["names"]), arrays["values"].astype(np.float32), str(arrays["first"].item())
    )


def pandapower_tables(name: str) -> Tables:
    """Element tables of a network that pandapower ships, from the cache where opened before.

    Raises
    ------
    InputError : there is no such network, it needs arguments, or the extra is not installed.
    """
    spec = f"pandapower:{name}"
    _check_name(spec, name)
    path = cache_path(spec, package_versions(spec, "pandapower"), ".json")
    cached = read_cached_tables(path, spec)
    if cached is not None:
        return cached
    import pandapower.networks as shipped

    build = getattr(shipped, name, None)
    if not inspect.isfunction(build) or not build.__module__.startswith("pandapower.networks"):
        raise InputError(spec, f"network {name}", "is not among those that pandapower ships, such as case33bw")
    try:
        inspect.signature(build).bind()
    except TypeError:
        raise InputError(spec, f"network {name}", "needs arguments; save it with pandapower.to_json first") from None
    net = build()
    if not hasattr(net, "bus"):
        raise InputError(spec, f"network {name}", "is not a single network; save the one wanted as JSON")
    tables = tables_of_net(spec, net)
    write_cached_tables(path, tables)
    return tables
