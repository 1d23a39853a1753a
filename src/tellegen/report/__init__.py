"""What did the day look like? One self-contained page, and the tables at the end of a run.

In: a run's `summary.json` and `tables/*.parquet`. Out: `report.html` beside them, and tables for a
terminal.
"""

from tellegen.report.page import write_report
from tellegen.report.terminal import render_summary

__all__ = ["render_summary", "write_report"]
