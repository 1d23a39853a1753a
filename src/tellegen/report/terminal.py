"""The end of a run in a terminal: the figures a person asks for first."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from tellegen.report.measures import measures, world_title
from tellegen.report.summary import Summary, read_summary
from tellegen.report.words import (
    MARKET_TITLES,
    NONE,
    PART_TITLES,
    STATUSES,
    exact,
    in_order,
    in_words,
    long_date,
    market_titles,
    number,
    symbol,
)

REPLAY_MAX_PU, PRICE_ERROR_MAX = 1e-7, 5e-6
"""What the referees' figures must not exceed: voltages in OpenDSS, prices against finite differences."""


def render_summary(summary: dict[str, Any]) -> RenderableType:
    """Tables for the end of a run: the worlds compared, prices, money, record and correction.

    Parameters
    ----------
    summary : the parsed `summary.json`.

    Returns
    -------
    Something that a `rich.console.Console` prints; nothing in it is read as markup.

    Raises
    ------
    InputError : the summary lacks a required field or has one of a wrong type.

    >>> from rich.console import Console
    >>> day = {"date": "2016-05-08", "first_interval": 4875408, "intervals": 288}
    >>> console = Console(width=60)
    >>> with console.capture() as shown:
    ...     console.print(render_summary({"name": "A day", "day": day}))
    >>> shown.get().strip()
    'A day, Sunday 8 May 2016'
    """
    read = read_summary(summary)
    title = Text(f"{read.name}, {long_date(read.day.date)}", style="bold")
    if not read.day.complete:
        title.append(f" - rehearsal of {read.day.intervals / 12:.1f} hours", style="yellow")
    parts: list[RenderableType] = [title, *(Text(line, style="dim") for line in read.about)]
    if read.worlds:
        parts.append(_worlds(read))
    if read.prices:
        parts.append(_prices(read))
    facts = _facts(read)
    if facts.row_count:
        parts.append(facts)
    return Group(*parts)


def _worlds(summary: Summary) -> Table:
    table = Table(box=SIMPLE_HEAD, pad_edge=False, padding=(0, 0, 0, 1))
    table.add_column("")
    for world in summary.worlds:
        title = escape(world_title(world)).replace(", ", ",\n")
        table.add_column(title, justify="right", style="bold" if world.name == "market" else "")
    group = ""
    for row in measures(summary):
        if group and row.group != group:
            table.add_section()
        group = row.group
        table.add_row(escape(row.title), *(escape(cell) for cell in row.cells))
    return table


def _prices(summary: Summary) -> Table:
    parts = [part for part in PART_TITLES if any(part in p.parts_mean for p in summary.prices.values())]
    table = Table(box=SIMPLE_HEAD, pad_edge=False, padding=(0, 0, 0, 1))
    table.add_column(f"{symbol(summary.currency)}/kWh", no_wrap=True)
    for title in ("lowest", "mean", "highest", *(PART_TITLES[part] for part in parts), "<0"):
        table.add_column(title, justify="right", no_wrap=True)
    for market in in_order(summary.prices, MARKET_TITLES):
        prices = summary.prices[market]
        values = [prices.min, prices.mean, prices.max, *(prices.parts_mean.get(part) for part in parts)]
        name = escape(market_titles(summary.prices).get(market, in_words(market)))
        table.add_row(name, *(NONE if v is None else number(v, 4) for v in values), number(prices.negative_intervals))
        if prices.parts_largest:
            largest = (prices.parts_largest.get(part) for part in parts)
            table.add_row("  largest", "", "", "", *("" if v is None else number(v, 4) for v in largest), "")
    return table


def _verdict(good: bool, words: str) -> Text:
    return Text(("✓ " if good else "✗ ") + words, style="green" if good else "bold red")


def _facts(summary: Summary) -> Table:
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="dim")
    table.add_column(overflow="fold")
    currency = summary.currency
    for comparison in summary.comparisons:
        if comparison.text:
            table.add_row("Compared", Text(comparison.text))
    if summary.statuses:
        statuses = in_order(summary.statuses, STATUSES)
        ended = ", ".join(f"{number(summary.statuses[status])} {in_words(status)}" for status in statuses)
        if summary.homes_on_hold:
            count = summary.homes_on_hold
            ended += f"; {number(count)} home{'s' if count > 1 else ''} on hold for awards not delivered"
        table.add_row("Clearings", Text(ended))
    if summary.prices_source and not summary.about:  # it stands in the first lines
        table.add_row("Root prices", Text(summary.prices_source))
    found_by = summary.evidence
    if found_by.replay_max_dv_pu is not None:
        words, apart = f"OpenDSS replays the dispatch to {found_by.replay_max_dv_pu:.0e} pu; ", found_by.fd_max_relative
        if apart is None:
            words += "no price is unique, none was compared with finite differences"
        else:
            within = f"to {apart:.0e}" if apart else "to the micro-currency in which they are recorded"
            words += f"prices equal finite differences {within}"
        good = found_by.replay_max_dv_pu <= REPLAY_MAX_PU and (apart or 0.0) <= PRICE_ERROR_MAX
        table.add_row("Physics", _verdict(good, words))
    if summary.money is not None:
        books = summary.money
        equal = books.balanced and books.in_eur == books.out_eur
        words = f"in {exact(books.in_eur)} {'=' if equal else '≠'} out {exact(books.out_eur)} {symbol(currency)}"
        if found_by.settles_afresh is not None:
            words += f"; settled afresh, the day comes to {'the same' if found_by.settles_afresh else 'OTHER SUMS'}"
        table.add_row("Money", _verdict(equal and found_by.settles_afresh is not False, words))
    if summary.record is not None:
        record = summary.record
        words = f"{number(record.receipts_checked)} receipts checked, {number(record.checkpoints)} checkpoints"
        failed = [check.name for check in record.verify_checks if not check.ok]
        words += f"; failed: {', '.join(failed)}" if failed else ""
        table.add_row("Record", Text(words) if record.verify_ok is None else _verdict(record.verify_ok, words))
    if summary.correction is not None and summary.correction.accounts_moved is not None:
        found = summary.correction
        name = "an erased customer" if found.customer in summary.erased else found.customer
        own = f"{exact(found.own_move_eur or Decimal(0), signed=True)} {symbol(currency)}"
        words = f"{name}: {number(found.accounts_moved)} bills moved, {own} on its own bill"
        if found.replay_equal is None:
            table.add_row("Correction", Text(words))
        else:
            words += f"; the books {'equal' if found.replay_equal else 'differ from'} a full replay"
            table.add_row("Correction", _verdict(found.replay_equal, words))
    return table
