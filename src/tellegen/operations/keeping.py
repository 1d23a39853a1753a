"""The state as tables: what a snapshot keeps of the fold, and the fold back from it.

Equal states give equal columns, so that parts which have not changed need not be written again, and `replay` can tell
a snapshot from the fold of the record by their digests.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tellegen.operations.accounts import Accounts
from tellegen.operations.credit import Exposure
from tellegen.operations.delivery import Deliveries
from tellegen.operations.meters import Meters
from tellegen.operations.positions import QUANTITIES, Position
from tellegen.operations.state import NONE, Gate, OpenDay, State
from tellegen.operations.sums import LineSums
from tellegen.records import STATEMENT_LINES, AllocationKeys, CloseKind, Gates
from tellegen.records.market import CLEARED, MARKETS
from tellegen.units import IntArray

Columns = dict[str, NDArray[Any]]
Key = tuple[int, int]
PREFIX = "market."
"""Beginning of the names of the parts that are the market's own."""
EXPOSED = "exposed"
"""The part of what accounts owed as a gate closed that is being cleared."""


def state_parts(state: State) -> dict[str, Columns]:
    """Everything that a state is, as named columns by part."""
    return {
        f"{PREFIX}{name}": columns
        for name, columns in {
            "progress": _progress(state),
            "accounts": dict(state.accounts.parts()),
            "meters": dict(state.meters.parts()),
            "deliveries": state.deliveries.parts(),
            "gates": _gates(state),
            "positions": _positions(state),
            "days": _days(state),
            "late": _sums(state.late),
            "since_close": _sums(state.since_close),
            "keys": _keys(state),
            "small": _small(state),
            **_exposed(state),
        }.items()
    }


def restore(state: State, parts: Mapping[str, Mapping[str, NDArray[Any]]], size: int) -> None:
    """Put a fresh state where a snapshot was taken.

    Parameters
    ----------
    size : entries of the market's journal that were folded.
    """
    mine = {name.removeprefix(PREFIX): columns for name, columns in parts.items() if name.startswith(PREFIX)}
    state.accounts = Accounts.of({name: np.asarray(column) for name, column in mine["accounts"].items()})
    state.meters = Meters.of(dict(mine["meters"]))
    state.deliveries = Deliveries.of(mine.get("deliveries", {}))
    _restore_progress(state, mine["progress"])
    _restore_gates(state, mine["gates"])
    _restore_positions(state, mine["positions"])
    _restore_days(state, mine["days"])
    state.late, state.since_close = _restored_sums(mine["late"]), _restored_sums(mine["since_close"])
    _restore_keys(state, mine["keys"])
    _restore_small(state, mine["small"])
    if EXPOSED in mine:
        _restore_exposed(state, mine[EXPOSED])
    state.size = size


# Lists of different lengths, one after the other


def _lengths(arrays: Iterable[IntArray]) -> IntArray:
    return np.array([len(array) for array in arrays], dtype=np.int64)


def _joined(arrays: list[IntArray], width: tuple[int, ...] = ()) -> IntArray:
    return np.concatenate([np.zeros((0, *width), dtype=np.int64), *arrays])


def _split(column: NDArray[Any], lengths: NDArray[Any]) -> list[NDArray[Any]]:
    return [part.copy() for part in np.split(column, np.cumsum(lengths)[:-1])] if len(lengths) else []


def _pairs(keys: Iterable[Key]) -> IntArray:
    return np.array(sorted(keys), dtype=np.int64).reshape(-1, 2)


def _tuples(pairs: NDArray[Any]) -> list[Key]:
    return [(int(a), int(b)) for a, b in pairs]


# Part by part


def _progress(state: State) -> Columns:
    columns: Columns = {
        "settled": np.array([state.first, state.settled, state.final_until]),
        "corrected_until": np.array([state.corrected_until]),
        "spread_from": state.spread_from,
        "taps_from": state.taps_from,
    }
    if (state.run_spread_from != NONE).any():
        columns["run_spread_from"] = state.run_spread_from
    return columns | {f"start_from/{market}": state.start_from[market] for market in MARKETS}


def _restore_progress(state: State, columns: Mapping[str, NDArray[Any]]) -> None:
    state.first, state.settled, state.final_until = columns["settled"].tolist()
    state.corrected_until = int(columns["corrected_until"][0])
    state.spread_from = columns["spread_from"].copy()
    if "run_spread_from" in columns:
        state.run_spread_from = columns["run_spread_from"].copy()
    state.taps_from = columns["taps_from"].copy()
    state.start_from = {market: columns[f"start_from/{market}"].copy() for market in MARKETS}


def _gates(state: State) -> Columns:
    ordered = sorted(state.gates)
    gates = [state.gates[key] for key in ordered]
    rows = Gates.concat([gate.rows for gate in gates])
    columns: Columns = {f"row/{name}": getattr(rows, name) for name in Gates.row_dtype().names or ()}
    return columns | {
        "market": np.array([CLEARED.index(market) for market, _ in ordered], dtype=np.int64),
        "first": np.array([first for _, first in ordered], dtype=np.int64),
        "entry": np.array([gate.entry for gate in gates], dtype=np.int64),
        "cut": np.array([gate.cut for gate in gates], dtype=np.int64),
        "periods": np.array([gate.periods for gate in gates], dtype=np.int64),
        "cleared": _joined([gate.cleared.ravel() for gate in gates]),
    }


def _restore_gates(state: State, columns: Mapping[str, NDArray[Any]]) -> None:
    feeders = len(state.topology.feeders)
    rows = Gates(**{name: columns[f"row/{name}"] for name in Gates.row_dtype().names or ()})
    start = 0
    for market, first, entry, cut, periods in zip(
        *(columns[name].tolist() for name in ("market", "first", "entry", "cut", "periods")), strict=True
    ):
        stop = start + feeders * periods
        cleared = columns["cleared"][start:stop].reshape(feeders, periods).copy()
        state.gates[CLEARED[market], first] = Gate(entry, cut, rows.take(np.arange(start, stop)), cleared)
        start = stop


def _positions(state: State) -> Columns:
    ordered = sorted(state.positions)
    positions = [state.positions[key] for key in ordered]
    return {
        "key": _pairs(ordered),
        "hours": np.array([position.hours for position in positions], dtype=np.int64),
        "parties": _lengths(position.party for position in positions),
        "party": _joined([position.party for position in positions]),
        "wh": _joined([position.wh.ravel() for position in positions]),
        "clearing": _joined([position.clearing for position in positions]),
    }


def _restore_positions(state: State, columns: Mapping[str, NDArray[Any]]) -> None:
    hours, parties = columns["hours"], columns["parties"]
    party, clearing = _split(columns["party"], parties), _split(columns["clearing"], hours)
    wh = _split(columns["wh"], hours * len(QUANTITIES) * parties)
    for k, key in enumerate(_tuples(columns["key"])):
        shape = int(hours[k]), len(QUANTITIES), int(parties[k])
        state.positions[key] = Position(key[1], shape[0], party[k], wh[k].reshape(shape), clearing[k])


def _days(state: State) -> Columns:
    ordered = sorted(state.days)
    days = [state.days[key] for key in ordered]
    return _sums({key: state.days[key].sums for key in ordered}) | {
        "connected_customers": _lengths(day.customer for day in days),
        "connected_customer": _joined([day.customer for day in days]),
        "connected": _joined([day.connected for day in days]),
    }


def _restore_days(state: State, columns: Mapping[str, NDArray[Any]]) -> None:
    lengths = columns["connected_customers"]
    customer, connected = _split(columns["connected_customer"], lengths), _split(columns["connected"], lengths)
    for k, (key, sums) in enumerate(sorted(_restored_sums(columns).items())):
        state.days[key] = OpenDay(sums, customer[k], connected[k])


def _exposed(state: State) -> dict[str, Columns]:
    """Nothing where no day-ahead gate is being cleared."""
    ordered = sorted(state.exposed.items())
    columns: Columns = {
        "first": np.array([first for first, _ in ordered], dtype=np.int64),
        "customers": _lengths(each.number for _, each in ordered),
        "customer": _joined([each.number for _, each in ordered]),
        "nanos": _joined([each.nanos for _, each in ordered]),
    }
    return {EXPOSED: columns} if ordered else {}


def _restore_exposed(state: State, columns: Mapping[str, NDArray[Any]]) -> None:
    who, nanos = (_split(columns[name], columns["customers"]) for name in ("customer", "nanos"))
    for k, first in enumerate(columns["first"].tolist()):
        state.exposed[first] = Exposure(who[k], nanos[k])


def _sums(by_key: Mapping[Key, LineSums]) -> Columns:
    ordered = sorted(by_key)
    sums = [by_key[key] for key in ordered]
    lines = (len(STATEMENT_LINES),)
    return {
        "key": _pairs(ordered),
        "customers": _lengths(each.customer for each in sums),
        "customer": _joined([each.customer for each in sums]),
        "amount": _joined([each.amount for each in sums], lines),
        "quantity": _joined([each.quantity for each in sums], lines),
        "rent": np.array([each.rent for each in sums], dtype=np.int64),
        "unaccounted": np.array([each.unaccounted for each in sums], dtype=np.int64),
    }


def _restored_sums(columns: Mapping[str, NDArray[Any]]) -> dict[Key, LineSums]:
    lengths = columns["customers"]
    customer, amount, quantity = (_split(columns[name], lengths) for name in ("customer", "amount", "quantity"))
    rent, lost = columns["rent"].tolist(), columns["unaccounted"].tolist()
    return {
        key: LineSums(customer[k], amount[k], quantity[k], rent[k], lost[k])
        for k, key in enumerate(_tuples(columns["key"]))
    }


def _keys(state: State) -> Columns:
    ordered = sorted(state.keys)
    tables = [state.keys[key] for key in ordered]
    return {
        "key": _pairs(ordered),
        "customers": _lengths(table.customer for table in tables),  # type: ignore[misc]
        "customer": _joined([table.customer.astype(np.int64) for table in tables]),
        "weight_wh": _joined([table.weight_wh for table in tables]),
    }


def _restore_keys(state: State, columns: Mapping[str, NDArray[Any]]) -> None:
    lengths = columns["customers"]
    customer, weight = _split(columns["customer"], lengths), _split(columns["weight_wh"], lengths)
    for k, key in enumerate(_tuples(columns["key"])):
        state.keys[key] = AllocationKeys(customer=customer[k].astype(np.int32), weight_wh=weight[k])


def _small(state: State) -> Columns:
    prices = sorted((MARKETS.index(market), interval, m) for (market, interval), m in state.root_prices.items())
    edited, gaps, asked = sorted(state.edits), sorted(state.after_gap), sorted(state.requirements)
    return {
        "required": np.array(
            [(MARKETS.index(key[0]), key[1], entry) for key in asked for entry in state.requirements[key]], np.int64
        ).reshape(-1, 3),
        "root_prices": np.array(prices, dtype=np.int64).reshape(-1, 3),
        "reads": _pairs(state.reads.items()),
        "closed": np.array([(*key, int(state.closed[key])) for key in sorted(state.closed)], np.int64).reshape(-1, 3),
        "dirty": _pairs(state.dirty),
        "erased": np.array(sorted(state.erased), dtype=np.int64),
        "requested": _pairs(state.requested.items()),
        "edited": _pairs(edited),
        "edits": np.array([len(state.edits[key]) for key in edited], dtype=np.int64),
        "edit": np.array([entry for key in edited for entry in state.edits[key]], dtype=np.int64),
        "gap": np.array(gaps, dtype=np.int64),
        "gaps": _lengths(state.after_gap[interval] for interval in gaps),
        "gap_customer": _joined([state.after_gap[interval] for interval in gaps]),
    }


def _restore_small(state: State, columns: Mapping[str, NDArray[Any]]) -> None:
    for market, interval, entry in columns["required"].tolist():
        key = MARKETS[market], interval
        state.requirements[key] = (*state.requirements.get(key, ()), entry)
    state.root_prices = {(MARKETS[m], t): micros for m, t, micros in columns["root_prices"].tolist()}
    state.reads = dict(_tuples(columns["reads"]))
    state.closed = {(k, day): CloseKind(kind) for k, day, kind in columns["closed"].tolist()}
    state.dirty, state.erased = set(_tuples(columns["dirty"])), set(columns["erased"].tolist())
    state.requested = dict(_tuples(columns["requested"]))
    entries = _split(columns["edit"], columns["edits"])
    state.edits = {key: tuple(entries[k].tolist()) for k, key in enumerate(_tuples(columns["edited"]))}
    who = _split(columns["gap_customer"], columns["gaps"])
    state.after_gap = {int(interval): who[k] for k, interval in enumerate(columns["gap"].tolist())}
