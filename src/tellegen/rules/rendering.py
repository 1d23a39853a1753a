"""Rules as text: what holds on a day, and what one version changes against another."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass

from tellegen.rules.rulebook import Rules


@dataclass(frozen=True, slots=True)
class Change:
    """One key that two versions state differently; None where a version does not state it."""

    key: str
    before: str | None
    after: str | None


def entries(rules: Rules) -> dict[str, str]:
    """Every key of a version with its value as the act states it, in the act's order."""
    document = tomllib.loads(rules.content.decode("utf-8"))
    return {f"{section}.{key}": str(value) for section, table in document.items() for key, value in table.items()}


def render(rules: Rules) -> str:
    """The rules as aligned text, one key a line.

    >>> from datetime import date
    >>> from tellegen.rules import Rulebook
    >>> print(render(Rulebook.load().at(date(2016, 5, 1))).splitlines()[0])
    Community market rules, docket 2015-17, in force from 2016-01-01, adopted 2015-11-30
    """
    stated = entries(rules)
    width = max(len(key) for key in stated)
    head = f"{rules.title}, docket {rules.docket}, in force from {rules.effective}, adopted {rules.adopted}"
    lines = [head, f"sha256 {rules.sha256}", ""]
    section = ""
    for key, value in stated.items():
        if key.split(".")[0] != section and section:
            lines.append("")
        section = key.split(".")[0]
        lines.append(f"{key:<{width}}  {value}{_unit(key, rules.currency)}")
    return "\n".join(lines)


def diff(before: Rules, after: Rules) -> tuple[Change, ...]:
    """What `after` states differently, in the order of its file; dropped keys last.

    >>> from datetime import date
    >>> from tellegen.rules import Rulebook
    >>> book = Rulebook.load()
    >>> [c.key for c in diff(book.versions[0], book.versions[1]) if c.key.startswith("taxes")]
    ['taxes.energy_per_kwh']
    """
    old, new = entries(before), entries(after)
    changed = [Change(key, old.get(key), value) for key, value in new.items() if old.get(key) != value]
    return (*changed, *(Change(key, value, None) for key, value in old.items() if key not in new))


def _unit(key: str, currency: str) -> str:
    if key.endswith("_per_kwh"):
        return f" {currency}/kWh"
    if key.endswith("_per_customer_day"):
        return f" {currency} per customer and day"
    if key.endswith("_percent") or "_percent_" in key:
        return " %"
    return ""
