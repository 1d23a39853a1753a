"""One file that needs nothing else: the report of a run."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from html import escape
from importlib import resources
from pathlib import Path

from tellegen.errors import InputError
from tellegen.journal.storage import write_private
from tellegen.report import sections
from tellegen.report.dataset import collect
from tellegen.report.summary import Summary, read_summary
from tellegen.report.words import long_date

SCRIPTS = ("series.js", "charts.js", "feeder.js", "customer.js", "report.js")
"""Read in this order, in one closure; each is a page of plain script."""
_SLOT = re.compile(r"\{\{([a-z_]+)\}\}")


def write_report(directory: Path) -> None:
    """Write ``report.html`` into the folder of a run.

    Reads ``summary.json`` and whatever of ``tables/*.parquet`` is there. The page asks nothing of
    any network, holds no datum that is not escaped, and is the same to the byte for the same inputs.
    The file appears whole or not at all.

    Parameters
    ----------
    directory : folder of a run (``tellegen run --out``).

    Raises
    ------
    InputError : the summary or a table cannot be read.
    """
    path = directory / "summary.json"
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(path, "file", f"cannot be read ({error}); run the scenario again") from None
    if not isinstance(document, dict):
        raise InputError(path, "file", "must hold one JSON object")
    summary = read_summary(document, path)
    page = compose(summary, collect(summary, directory / "tables"))
    write_private(directory / "report.html", page)


def compose(summary: Summary, data: dict[str, object]) -> str:
    """The page as text."""
    charts = _asset("uPlot.iife.min.js")
    own = '"use strict";\n(() => {\n' + "\n".join(_asset(name) for name in SCRIPTS) + "\n})();\n"
    # In a script element only "<" can end the element or open a comment.
    text = json.dumps(data, separators=(",", ":"), ensure_ascii=False, allow_nan=False).replace("<", "\\u003c")
    correction, money = sections.correction_section(summary), sections.money_section(summary)
    record, evidence = sections.record_section(summary), sections.evidence_section(summary)
    slots = {
        "title": escape(f"{summary.name}, {long_date(summary.day.date)}"),
        "name": escape(summary.name),
        "date": escape(long_date(summary.day.date)),
        "grid": escape(summary.feeder.grid),
        "rehearsal": "" if summary.day.complete else '<span class="badge">rehearsal</span>',
        "policy": f"default-src 'none'; style-src 'unsafe-inline'; script-src {_digest(charts)} {_digest(own)}",
        "style": _asset("uPlot.min.css") + "\n" + _asset("report.css"),
        "headline": sections.headline(summary),
        "tiles": sections.tiles(summary),
        "comparison": sections.comparison_table(summary),
        "prices": sections.price_table(summary),
        "money": money or "<p>Nothing was paid.</p>",
        "correction": correction or "<p>Nothing was corrected.</p>",
        "record": record or "<p>This run kept no record.</p>",
        "evidence": evidence,
        "data": text,
        "charts": charts,
        "script": own,
        "licence": escape(_asset("uPlot-LICENSE.txt").replace("--", "- -")),
    }
    return _SLOT.sub(lambda slot: slots[slot[1]], _asset("report.html"))


def _asset(name: str) -> str:
    return resources.files("tellegen.report").joinpath("assets", name).read_text(encoding="utf-8")


def _digest(script: str) -> str:
    """The script's hash, by which the page's policy lets it and nothing else run."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"
