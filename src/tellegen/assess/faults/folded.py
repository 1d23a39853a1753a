"""Is what a market knows the fold of its record? Its state part by part, in a form that can be compared."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from enum import Enum

import numpy as np

from tellegen.operations.accounts import Accounts
from tellegen.operations.delivery import Deliveries
from tellegen.operations.meters import Meters
from tellegen.operations.record import ShardRecord
from tellegen.operations.state import State
from tellegen.operations.writer import FOLD_ENTRIES
from tellegen.records import Table

_NOT_FOLDED = frozenset({"topology", "book", "_readings", "_takes", "_looked_up"})
"""What a state is given or has looked up, and does not learn from the market's record."""
Part = object


def parts_of(state: State) -> dict[str, Part]:
    """Every attribute of a state that follows from the record, as nested tuples that are equal where it is."""
    return {name: _part(value) for name, value in sorted(vars(state).items()) if name not in _NOT_FOLDED}


def differing(one: Mapping[str, Part], two: Mapping[str, Part]) -> list[str]:
    """Names of the parts that differ."""
    return [name for name in sorted(one.keys() | two.keys()) if one.get(name) != two.get(name)]


def folded_from_zero(record: ShardRecord) -> State:
    """The state that follows from the first record on, whatever snapshots there are."""
    record.refresh()
    state = State(record.topology, record.rulebook, record.registers)
    stop = len(record.journal)
    for start in range(0, stop, FOLD_ENTRIES):
        chunk = range(start, min(start + FOLD_ENTRIES, stop))
        tables = dict(record.tables([i for i in chunk if state.reads_kind(record.header(i).kind)]))
        for index in chunk:
            state.apply(index, record.header(index), tables.get(index))
    return state


def _part(value: object) -> Part:
    match value:
        case Accounts() | Deliveries() | Meters():
            return _part(value.parts())
        case np.ndarray():
            return (value.dtype.str, value.shape, value.tobytes())
        case Table():
            return (value.kind, value.rows().tobytes())
        case Enum() | int() | str() | None:
            return value
        case dict():
            return tuple(sorted(((_part(key), _part(each)) for key, each in value.items()), key=repr))
        case set() | frozenset():
            return tuple(sorted(map(_part, value), key=repr))
        case list() | tuple():
            return tuple(map(_part, value))
        case _ if is_dataclass(value):
            return tuple((spec.name, _part(getattr(value, spec.name))) for spec in fields(value))
    raise TypeError(f"a state holds {type(value).__name__}, and nobody has said how to compare it")
