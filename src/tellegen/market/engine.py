"""What computes a clearing: the program and the builds below it, named on record beside every gate.

Two builds of the same mathematics differ in the last bits, and a last bit may decide between steps of equal worth. So
a gate says what it was computed by, and a replay on another engine counts differences instead of failing for them.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
from functools import cache
from importlib.metadata import PackageNotFoundError, version

import numpy as np
import scipy

from tellegen import __version__
from tellegen.grid import Engine
from tellegen.grid.threads import THREAD_VARIABLES

EDITION = 4
"""Counted up whenever the search ends at other last bits for the same input."""
NAME_BYTES_MAX = 32
DIGEST_DIGITS = 12


@cache
def engine_name(engine: Engine) -> str:
    """Version of the program, who eliminates, and a digest of the builds that decide about last bits.

    Of the method's edition, of numpy, scipy and the BLAS of each and its threads, what numpy found the processor to be
    capable of, and numba where it compiles the loops. At most 32 bytes of ASCII, as the record's column holds.

    >>> engine_name(Engine.SUPERLU).split("/")[:2] == [__version__, "superlu"]
    True
    """
    builds = {
        "edition": EDITION,
        "machine": platform.machine(),
        "numpy": [np.__version__, _config(np.show_config(mode="dicts"))],
        "scipy": [scipy.__version__, _config(scipy.show_config(mode="dicts"))],
        "threads": [os.environ.get(name, "") for name in THREAD_VARIABLES],
        "numba": [_version(name) for name in ("numba", "llvmlite")] if engine is Engine.SWEEPS else [],
    }
    digest = hashlib.blake2b(json.dumps(builds, sort_keys=True).encode()).hexdigest()[:DIGEST_DIGITS]
    room = NAME_BYTES_MAX - len(f"//{engine}") - DIGEST_DIGITS
    return f"{__version__[:room]}/{engine}/{digest}"


def _config(said: object) -> list[object]:
    """The parts of a build's configuration that decide about last bits: its BLAS, and the processor's extensions."""
    config = said if isinstance(said, dict) else {}
    depends = config.get("Build Dependencies", {})
    keys = ("name", "version", "openblas configuration")
    blas = [depends.get(part, {}).get(key) for part in ("blas", "lapack") for key in keys]
    return [blas, config.get("SIMD Extensions", {})]


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""
