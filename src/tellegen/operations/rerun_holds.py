"""Holds found again: who is on hold follows from the awards and the energy on record, and nothing else."""

from __future__ import annotations

from tellegen.operations.record import ShardRecord
from tellegen.operations.state import State
from tellegen.operations.tally import Tally
from tellegen.records import OPERATOR, Energy, Header, Holds, Table


class HoldsAgain:
    """Judges deliveries again while the record is folded.

    Parameters
    ----------
    state : the fold, which has not taken in the record that `before` is shown.
    """

    def __init__(self, record: ShardRecord, state: State) -> None:
        self._state, self._feeders = state, len(record.feeders)
        self._energy: list[Energy] = []
        self._due = Holds.empty()
        self._found: list[Holds] = []
        self._where = ""
        self.tally = Tally(
            "holds", "holds for awards that were not delivered", "follow from no settlement, or are missing"
        )

    def before(self, index: int, header: Header, table: Table | None) -> None:
        """Compare holds with what the fold makes of the interval that has just settled."""
        if isinstance(table, Holds):
            self._found.append(table)
            self._where = f"entry {index}"
        if not isinstance(table, Energy):
            return
        self._compare()
        self._energy.append(table.take(table.customer != OPERATOR))
        if len(self._energy) == self._feeders:
            energy, self._energy = Energy.concat(self._energy), []
            self._due, self._where = self._state.to_hold(header.interval, energy), f"interval {header.interval}"

    def finish(self) -> None:
        """Compare what the last interval came to."""
        self._compare()

    def _compare(self) -> None:
        due, found = (set(map(tuple, rows.rows().tolist())) for rows in (self._due, Holds.concat(self._found)))
        self.tally.compare(len(found), len(due ^ found), self._where)
        self._due, self._found = Holds.empty(), []
