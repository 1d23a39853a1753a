"""What a replay counts while it compares."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Replayed:
    """One comparison: its name, whether it held, how many things were compared, what was found."""

    name: str
    ok: bool
    count: int
    detail: str


@dataclass(slots=True)
class Tally:
    """A comparison under way.

    Attributes
    ----------
    name : of the comparison. things, differ : what is compared, and how to say that some are not the same.
    forgiven : why differences do not count against it; empty where they do.

    >>> tally = Tally("clearings", "clearings run again", "with another price")
    >>> tally.compare(3); tally.compare(1, 1, "entry 7"); tally.leave_out("of erased customers")
    >>> tally.result().detail
    '4 clearings run again, 1 with another price, the first in entry 7; left out: 1 of erased customers'
    """

    name: str
    things: str
    differ: str
    count: int = 0
    different: int = 0
    first: str = ""
    forgiven: str = ""
    left_out: Counter[str] = field(default_factory=Counter)

    def compare(self, count: int = 1, different: int = 0, where: str = "") -> None:
        """So many things were compared, some of which are not the same."""
        self.count += count
        self.different += different
        if different and not self.first:
            self.first = where

    def leave_out(self, why: str, count: int = 1) -> None:
        """Things that cannot be compared, and why."""
        self.left_out[why] += count

    def result(self) -> Replayed:
        """What was found."""
        words = f"{self.count} {self.things}, {self.different} {self.differ}"
        if self.different:
            words += f", the first in {self.first}"
            if self.forgiven:
                words += f" ({self.forgiven})"
        if self.left_out:
            words += "; left out: " + ", ".join(f"{count} {why}" for why, count in sorted(self.left_out.items()))
        return Replayed(self.name, not self.different or bool(self.forgiven), self.count, words)
