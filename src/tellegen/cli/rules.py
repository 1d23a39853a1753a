"""``tellegen rules``: what the regulator decided, and when."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from tellegen.cli import app

rules_app = typer.Typer(help="Rules by date: show a version, compare two.", no_args_is_help=True)
app.add_typer(rules_app, name="rules")

Folder = Annotated[Path | None, typer.Option(help="Folder of a rulebook; without it the default one.")]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON document.")]
_DAY = ["%Y-%m-%d"]


@rules_app.command()
def show(
    at: Annotated[datetime | None, typer.Option(formats=_DAY, help="Billing day; today without it.")] = None,
    folder: Folder = None,
    as_json: AsJson = False,
) -> None:
    """The rules that govern a day."""
    from tellegen.rules import Rulebook, entries, render

    day = (at or datetime.now(tz=UTC)).date()
    rules = Rulebook.load(folder).at(day)
    if as_json:
        head = {"name": rules.name, "effective": str(rules.effective), "adopted": str(rules.adopted)}
        print(json.dumps({**head, "sha256": rules.sha256, "rules": entries(rules)}, indent=2))
    else:
        print(render(rules))


@rules_app.command()
def diff(
    before: Annotated[datetime, typer.Argument(formats=_DAY, help="One billing day.")],
    after: Annotated[datetime, typer.Argument(formats=_DAY, help="Another billing day.")],
    folder: Folder = None,
    as_json: AsJson = False,
) -> None:
    """What the rules of one day state differently from those of another."""
    from tellegen.rules import Rulebook
    from tellegen.rules import diff as changes_between

    book = Rulebook.load(folder)
    changes = changes_between(book.at(before.date()), book.at(after.date()))
    if as_json:
        print(json.dumps([{"key": c.key, "before": c.before, "after": c.after} for c in changes], indent=2))
        return
    for change in changes:
        print(f"{change.key}: {change.before or '(not stated)'} -> {change.after or '(not stated)'}")
