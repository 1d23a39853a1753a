"""What each check stands for: which promise a failed one breaks, and what a verification cannot say."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

_WHOLE = "what is on record stays as it was written: nothing is changed, taken out or put in between"
_ONE = "everybody is shown one history"
_SENT = "nobody speaks in another's name, and each role hands in what it may"
_TIMES = "gates, settlements and closes come when the rules say, and count what was on record by then"
_MARKET_PRICE = "wholesale prices are those that were published"
_SUMS = "money and energy add up to the last unit"
_SIGNED_FOR = "what is published is what the operator signed for"
_OF_CHECK = {
    "operator key": "the record is that of the operator whose key you know",
    **dict.fromkeys(("journal files", "log", "checkpoints", "history", "payloads", "public rows"), _WHOLE),
    **dict.fromkeys(("archive", "inclusion proofs", "receipts"), _WHOLE),
    **dict.fromkeys(("cosignatures", "succession"), _ONE),
    "registry": "nobody is let in whom the authority has not certified",
    "senders": _SENT,
    **dict.fromkeys(("clocks", "rulebook", "gates", "settlements", "holds", "closes"), _TIMES),
    **dict.fromkeys(("root prices", "published root prices"), _MARKET_PRICE),
    **dict.fromkeys(("price parts", "postings", "recorded postings", "statements", "books"), _SUMS),
    **dict.fromkeys(("manifest", "published files"), _SIGNED_FOR),
}
_NEVER = (
    "that all that was handed in is on record: whoever handed it in shows it by a receipt",
    "that sealed rows are those that were sent, were refused rightly, and lead to these prices and bills: "
    "`tellegen replay`, with the vault",
    "who holds the keys of senders and customers: their authority says so",
)
NOT_REACHED = "not checked, because "
"""How a check begins that leans on a failed one."""
_PASSED_OVER = ("absent", "not published", "not compared", NOT_REACHED)
UNKNOWN_LOSS = "are lost is not known"
"""In what is said of a log that was taken up, where nobody says how far it had been signed."""
_MARKET = "market: "


class _Found(Protocol):
    @property
    def name(self) -> str: ...
    @property
    def ok(self) -> bool: ...
    @property
    def count(self) -> int: ...
    @property
    def detail(self) -> str: ...


def promise_of(check: str) -> str:
    """What is promised where a check holds; in the market's journal the same as in the intake's.

    >>> promise_of("market: cosignatures")
    'everybody is shown one history'
    """
    return _OF_CHECK.get(check.removeprefix(_MARKET), f"what is checked as {check!r}")


def broken(checks: Sequence[_Found]) -> dict[str, list[str]]:
    """Promises that do not hold, each with the checks that failed; those that were not reached break none."""
    found: dict[str, list[str]] = {}
    for check in checks:
        if not check.ok and not check.detail.startswith(NOT_REACHED):
            found.setdefault(promise_of(check.name), []).append(check.name)
    return found


def not_checked(checks: Sequence[_Found]) -> list[str]:
    """What the verification leaves open: what it was not given, what was not there, what it never sees."""
    left = []
    for check in checks:
        name = check.name.removeprefix(_MARKET)
        if name == "operator key" and check.ok and "not pinned" in check.detail:
            option = "--key" if name == check.name else "--market-key"
            left.append(f"whose key it is ({check.name}): give {option}")
        elif name == "cosignatures" and check.ok and not check.count:
            left.append(f"that nobody was shown another history ({check.name}): no witness that you named has signed")
        elif name == "clocks" and check.ok:
            left.append(
                f"that what was recorded before a clock was set right came in when it says, and before the gates that "
                f"closed after it ({check.name}): that the clock was wrong is the operator's word"
            )
        elif name == "succession" and check.ok and UNKNOWN_LOSS in check.detail:
            left.append(f"how much of a log that was taken up is lost ({check.name}): its operator does not say")
        elif check.detail.startswith(_PASSED_OVER):
            left.append(f"{check.name}: {check.detail}")
    return [*left, *_NEVER]
