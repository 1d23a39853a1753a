"""A market platform for transactive energy: prices that are physics, money that balances.

>>> import tellegen
>>> sorted(set(dir(tellegen)) & {"clear", "load_network", "powerflow"})
['clear', 'load_network', 'powerflow']

`load_network`, `powerflow`, `clear` and the module `pictures` are for notebooks and scripts (``docs/python.md``). The
rooms of the house are in ``docs/architecture.md``; nothing of them is imported before it is used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tellegen import pictures
    from tellegen.errors import InputError, TellegenError
    from tellegen.workbench import ClearingResult, Feeder, FlowResult, clear, load_network, powerflow

__version__ = "0.1.0"

__all__ = [
    "ClearingResult",
    "Feeder",
    "FlowResult",
    "InputError",
    "TellegenError",
    "clear",
    "load_network",
    "pictures",
    "powerflow",
]

_HOME = {"InputError": "tellegen.errors", "TellegenError": "tellegen.errors"}


def __getattr__(name: str) -> Any:
    if name == "pictures":
        return import_module("tellegen.pictures")
    if name not in __all__:
        raise AttributeError(f"module 'tellegen' has no attribute '{name}'")
    value = getattr(import_module(_HOME.get(name, "tellegen.workbench")), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
