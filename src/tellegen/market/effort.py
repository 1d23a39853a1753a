"""How much a clearing has computed, all tries and rescues together, and how much it may."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Effort:
    """Quadratic programs solved so far, `spent`, of at most `most`.

    >>> effort = Effort(most=2)
    >>> effort.spend()
    >>> effort.left
    1
    """

    most: int
    spent: int = 0

    @property
    def left(self) -> int:
        """How many more may be solved."""
        return max(self.most - self.spent, 0)

    def spend(self) -> None:
        """Count one that is about to be solved."""
        self.spent += 1
