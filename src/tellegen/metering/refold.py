"""Late readings: what they change in the energy on record and in what is remembered of the meters.

Rows that come out differently are new versions (`records.Edits`). What is believed then is a function of the set of
readings, so the order in which they came does not matter. Rows are written as the fold would have written them had
all been there at first: quality and rule say what the interval is; version, editor and reason say that it came late.
Energy that a person put on record (quality CORRECTED) is left as it is.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tellegen.metering.gap_energy import GapEnergy, conserved
from tellegen.metering.load_profile import Quantity
from tellegen.metering.reentry import Fold, Folded, Known, pairs
from tellegen.metering.runs import BoolArray
from tellegen.metering.standing import Standing
from tellegen.records import Editor, EditReason, Edits, Quality
from tellegen.records.latest import latest
from tellegen.units import IntArray


@dataclass(frozen=True, slots=True, eq=False)
class Refolded:
    """What late readings change.

    Attributes
    ----------
    edits : new versions of energy, by customer and interval. A reading that changes the state of a meter and no energy
        gets a version too, of the same quantities, so that the record names every customer whose state to make again.
    standing : state of the meters, after the last interval settled, that is not what it was.
    intervals : how many intervals of a customer were folded.
    """

    edits: Edits
    standing: Standing
    intervals: int


def refold(
    customer: IntArray,
    interval: IntArray,
    until: int,
    known: Known,
    live: Standing,
    gap_energy: GapEnergy = GapEnergy.ESTIMATED,
) -> Refolded:
    """Fold late readings in.

    Parameters
    ----------
    customer, interval : int64[k], what the readings are about that were not there when it was settled; in any order.
        With conserved gap energy also every interval that came out AFTER_GAP since this was last done. What is about
        later intervals than `until` is left out: it is not late.
    until : the last interval that was settled.
    known : the record, late readings included.
    live : state of the meters after `until`, as settling left it.
    gap_energy : what becomes of the energy of a gap once the register after it is there.

    Raises
    ------
    MeteringError : a reading on which recorded energy rests is not there.
    """
    late = interval <= until
    each = latest([customer[late], interval[late]])
    who, when = customer[late][each], interval[late][each]
    folds, ends = [Folded.none()], [Standing.nobody()]
    rest = np.ones(who.size, dtype=np.bool_)
    while rest.any():
        # each customer's first late interval that no fold has passed yet
        first = np.flatnonzero(rest)
        first = first[np.append(True, np.diff(who[first]) != 0)]
        fold = Fold(known, who[first], when[first], until)
        folded = fold.run(pairs(who, when))
        folds.append(folded)
        ends.append(fold.open_ends())
        at = np.searchsorted(fold.customer, who)
        at[at == fold.customer.size] = 0
        rest &= (fold.customer[at] != who) | (when > fold.reached[at])
    rows = Folded.joined(folds)
    ended = _together(ends)
    changed = ended.take(_changed(ended, live))
    wh = np.where(rows.pinned, rows.believed_wh, rows.energy_wh)
    if gap_energy is GapEnergy.CONSERVED:
        wh = conserved(rows.customer, rows.interval, wh, rows.pinned, rows.base, rows.moved)
    return Refolded(_edits(rows, wh, changed.customer, pairs(who, when)), changed, rows.customer.size)


def _edits(rows: Folded, wh: IntArray, changed: IntArray, late: IntArray) -> Edits:
    """New versions of the rows that are not what they were, and one at least of each customer that has changed."""
    new = ~rows.pinned & (
        (wh != rows.believed_wh).any(axis=0)
        | (rows.quality != rows.believed_quality)
        | (rows.rule != rows.believed_rule)
    )
    unsaid = np.isin(rows.customer, np.setdiff1d(changed, rows.customer[new]))
    unsaid &= np.isin(pairs(rows.customer, rows.interval), late)
    first = np.flatnonzero(unsaid)
    new[first[np.append(True, np.diff(rows.customer[first]) != 0)[: first.size]]] = True
    at = np.flatnonzero(new)
    quality = np.where(rows.pinned, Quality.CORRECTED, rows.quality)[at]
    return Edits(
        customer=rows.customer[at].astype(np.int32),
        interval=rows.interval[at],
        intervals=np.ones(at.size, dtype=np.int32),
        version=(rows.version[at] + 1).astype(np.int32),
        import_wh=wh[Quantity.WITHDRAWN, at],
        export_wh=wh[Quantity.INJECTED, at],
        reactive_varh=wh[Quantity.REACTIVE, at],
        quality=quality,
        rule=np.where(rows.pinned, rows.believed_rule, rows.rule)[at],
        editor=np.where((quality == Quality.MEASURED) | (quality == Quality.PROFILED), Editor.METER, Editor.RULE),
        reason=np.full(at.size, EditReason.LATE_READING),
    )


def _changed(ended: Standing, live: Standing) -> BoolArray:
    """Which meters do not stand as they do live."""
    at = np.searchsorted(live.customer, ended.customer)
    there = at < live.customer.size
    there[there] = live.customer[at[there]] == ended.customer[there]
    changed = ~there
    same = np.flatnonzero(there)
    as_live = live.take(at[same])
    changed[same] = (as_live.meter != ended.meter[same]) | as_live.state.differs(ended.state.take(same))
    return changed


def _together(parts: list[Standing]) -> Standing:
    together = Standing.nobody()
    for part in parts:
        together = together.replaced(part) if part.customer.size else together
    return together
