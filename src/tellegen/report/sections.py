"""The parts of the page that need no script: text, tiles and tables, every datum escaped."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from html import escape

from tellegen.report.measures import BILLS, COST, measures, world_title
from tellegen.report.sankey import arrows, draw_flows
from tellegen.report.summary import Comparison, Correction, Money, Summary
from tellegen.report.words import (
    MARKET_TITLES,
    NONE,
    PART_TITLES,
    STATUSES,
    cent,
    clock,
    device_list,
    exact,
    in_order,
    in_words,
    long_date,
    market_titles,
    money,
    number,
    scientific,
    symbol,
    world_phrase,
)


def headline(summary: Summary) -> str:
    """What happened, in a few plain sentences (HTML paragraphs)."""
    feeder, day, currency = summary.feeder, summary.day, summary.currency
    devices = device_list(feeder.devices)
    first = f"On {long_date(day.date)}, {number(feeder.customers)} homes"
    first += f" with {devices}" if devices else ""
    first += f" on the feeder {feeder.grid}" if feeder.grid else ""
    sentences = [first + " traded electricity every five minutes, at prices that follow the state of their own wires."]
    if not day.complete:
        sentences.append(f"This is a rehearsal: {number(day.intervals / 12, 1)} hours of the day were played.")
    sentences += [_comparison_words(c, currency) for c in summary.comparisons]
    sentences.append(_voltage_words(summary))
    about = f'<p class="about">{"<br>".join(escape(line) for line in summary.about)}</p>' if summary.about else ""
    return about + "".join(f"<p>{escape(sentence)}</p>" for sentence in sentences if sentence)


def _voltage_words(summary: Summary) -> str:
    feeder, market = summary.feeder, summary.world("market")
    if market is None or market.voltage_violations is None:
        return ""
    limits = f"{number(feeder.v_min_pu, 3)} to {number(feeder.v_max_pu, 3)}\xa0pu"
    if market.voltage_violations:
        own = f"was outside its limits ({limits}) in {number(market.voltage_violations)} node-intervals"
    else:
        own = f"stayed within its limits ({limits}) at every node, all the time"
    others = [
        f"in {number(w.voltage_violations)} node-intervals under {world_phrase(w.name)}"
        for w in summary.worlds
        if w.name != "market" and w.voltage_violations
    ]
    tail = f"; it was outside {', '.join(others)}" if others else ""
    return f"With the market the voltage {own}{tail}."


def _comparison_words(comparison: Comparison, currency: str) -> str:
    if comparison.text:
        return comparison.text
    if comparison.saving_eur is None:
        return ""
    verb = "fall" if comparison.saving_eur >= 0 else "rise"
    fall = f"All bills together {verb} by {money(abs(comparison.saving_eur), currency)}"
    return f"{fall} with the market, against {world_phrase(comparison.vs)}."


def tiles(summary: Summary) -> str:
    """The headline figures."""
    currency = summary.currency
    shown: list[tuple[str, str, str, str]] = []
    market, flat = summary.world("market"), summary.world("flat")
    against = next((c for c in summary.comparisons if c.vs == "flat"), None)
    if against is not None:
        cost, bills = (flat.adjusted_cost_eur, flat.bills_eur) if flat else (None, None)
        titles = ("Cost saved", "Extra cost")
        shown += _saving(titles, against.real_saving_eur, cost, "of wholesale energy, wear and comfort", currency)
        titles = ("All bills fall by", "All bills rise by")
        shown += _saving(titles, against.saving_eur, bills, "of the flat tariff's bills", currency)
    if market and market.peak_kw is not None:
        note = "" if flat is None or flat.peak_kw is None else f"{number(flat.peak_kw, 1)}\xa0kW under the flat tariff"
        shown.append(("Highest draw", f"{number(market.peak_kw, 1)}\xa0kW", note, ""))
    if market and market.voltage_violations is not None:
        note = "node-intervals outside"
        if flat and flat.voltage_violations is not None:
            note += f"; {number(flat.voltage_violations)} under the flat tariff"
        mood = "good" if market.voltage_violations == 0 else "bad"
        shown.append(("Limits broken", number(market.voltage_violations), note, mood))
    prices = summary.prices.get("real_time")
    if prices and prices.mean is not None and prices.min is not None and prices.max is not None:
        settled = "per kWh, as settled" if "guide" in summary.prices else "per kWh"
        note = f"{settled}; from {number(100 * prices.min, 1)} to {number(100 * prices.max, 1)} over nodes and day"
        shown.append(("Mean price", f"{number(100 * prices.mean, 1)}\xa0{cent(currency)}", note, ""))
    if market and market.losses_percent is not None:
        note = (
            ""
            if flat is None or flat.losses_percent is None
            else f"{number(flat.losses_percent, 2)}\xa0% under the flat tariff"
        )
        shown.append(("Lost in the wires", f"{number(market.losses_percent, 2)}\xa0%", note, ""))
    if summary.money is not None:
        note = "paid in equals paid out, exactly" if summary.money.balanced else "paid in and paid out differ"
        mood = "good" if summary.money.balanced else "bad"
        shown.append(("Money moved", money(summary.money.in_eur, currency), note, mood))
    record = summary.record
    if record is not None and record.verify_ok is not None:
        words = "verified" if record.verify_ok else "failed"
        note = f"{number(record.receipts_checked)} receipts checked"
        shown.append(("The record", words, note, "good" if record.verify_ok else "bad"))
    return "".join(
        f'<div class="tile {mood}"><dt>{escape(title)}</dt><dd>{escape(value)}</dd><small>{escape(note)}</small></div>'
        for title, value, note, mood in shown
    )


def _saving(
    titles: tuple[str, str], saved: Decimal | None, base: Decimal | None, note: str, currency: str
) -> list[tuple[str, str, str, str]]:
    if saved is None:
        return []
    share = f"{number(100 * abs(saved) / base, 1)}\xa0% " if base is not None and base > 0 else ""
    return [(titles[saved < 0], money(abs(saved), currency), share + note, "")]


def comparison_table(summary: Summary) -> str:
    """The worlds beside each other."""
    if not summary.worlds:
        return ""
    head = "".join(
        f'<th scope="col"><i class="swatch {escape(w.name)}"></i>{escape(world_title(w))}</th>' for w in summary.worlds
    )
    body, group = [], ""
    for row in measures(summary):
        if row.group != group:
            group = row.group
            body.append(f'<tr class="group"><th colspan="{len(summary.worlds) + 1}">{escape(group)}</th></tr>')
        strong = ' class="total"' if row.title in {COST, BILLS} else ""
        cells = "".join(f"<td>{escape(cell)}</td>" for cell in row.cells)
        body.append(f'<tr{strong}><th scope="row">{escape(row.title)}</th>{cells}</tr>')
    notes = []
    for c in summary.comparisons:
        if c.winners is not None and c.losers is not None:
            notes.append(
                f"Against {world_phrase(c.vs)}, {number(c.winners)} homes pay less and {number(c.losers)} pay more."
            )
    small = f'<p class="note">{escape(" ".join(notes))}</p>' if notes else ""
    return (
        f'<div class="scroll"><table class="figures"><thead><tr><th></th>{head}</tr></thead>'
        f"<tbody>{''.join(body)}</tbody></table></div>{small}"
    )


def price_table(summary: Summary) -> str:
    """Range and parts of the prices of each market, in cents."""
    if not summary.prices:
        return ""
    cents = f"{cent(summary.currency)}/kWh"
    markets, titles = in_order(summary.prices, MARKET_TITLES), market_titles(summary.prices)
    parts = [part for part in PART_TITLES if any(part in p.parts_mean for p in summary.prices.values())]
    head = "".join(
        f"<th scope='col'>{escape(t)}</th>"
        for t in ("lowest", "mean", "highest", *(f"{PART_TITLES[p]} part" for p in parts))
    )
    rows = []
    for market in markets:
        p = summary.prices[market]
        values = [p.min, p.mean, p.max, *(p.parts_mean.get(part) for part in parts)]
        cells = "".join(f"<td>{escape(NONE if v is None else number(100 * v, 2))}</td>" for v in values)
        cells += f"<td>{number(p.negative_intervals)}</td><td>{number(p.ranges)}</td>"
        title = escape(titles.get(market, in_words(market)))
        rows.append(f'<tr><th scope="row">{title}</th>{cells}</tr>')
        if p.parts_largest:
            largest = [None, None, None, *(p.parts_largest.get(part) for part in parts)]
            cells = "".join(f"<td>{'' if v is None else escape(number(100 * v, 2))}</td>" for v in largest)
            rows.append(f'<tr><th scope="row">largest part</th>{cells}<td></td><td></td></tr>')
    said = (
        "Settled: what real time is paid at, cleared again on what meters show. Guide: the prices that came with the "
        "awards, which devices answered. "
        if "guide" in summary.prices
        else ""
    )
    return (
        f'<div class="scroll"><table class="figures"><thead><tr><th>{escape(cents)}</th>{head}'
        "<th scope='col'>intervals below zero</th><th scope='col'>with a range</th></tr></thead>"
        f"<tbody>{''.join(rows)}</tbody></table></div>"
        f'<p class="note">{said}With a range: any price between two ends would clear the market; the middle counts.</p>'
    )


def money_section(summary: Summary) -> str:
    """Who paid whom: the picture, its sums, and the balances at the close."""
    books, currency = summary.money, summary.currency
    picture = draw_flows(summary.flows, currency)
    parts = [f'<div class="scroll">{picture}</div>'] if picture else []
    if books is not None:
        parts.append(_sums(books, currency))
    drawn = arrows(summary.flows)
    if drawn:
        payments = [(a.origin, a.target, money(a.amount, currency)) for a in drawn]
        parts.append(_folded("Every payment in the picture", ("from", "to", "amount"), payments))
    if books is not None and books.accounts:
        balances = [
            ("an erased customer" if name in summary.erased else in_words(name), exact(value))
            for name, value in books.accounts.items()
        ]
        if "customers" in books.accounts:
            balances.append(("sum", exact(sum(books.accounts.values(), Decimal(0)))))
        elif books.customers_eur is not None:
            balances.append(("customers, all together", exact(books.customers_eur)))
        heads = ("account", f"{symbol(currency)}, positive: owes")
        parts.append(_folded("Balances at the close, to the last billionth", heads, balances))
    return "".join(parts)


def _folded(title: str, heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table that opens on demand."""
    return f"<details><summary>{escape(title)}</summary>{_table(heads, rows)}</details>"


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    head = "".join(f"<th>{escape(text)}</th>" for text in heads)
    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return (
        "<div class='scroll'><table class='figures plain'>"
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def _sums(books: Money, currency: str) -> str:
    sign, mood = ("=", "good") if books.balanced and books.in_eur == books.out_eur else ("≠", "bad")
    paid, got = exact(books.in_eur), exact(books.out_eur)
    unit = escape(symbol(currency))
    return (
        f'<p class="equation {mood}"><span><small>paid in</small>{escape(paid)}\xa0{unit}</span><b>{sign}</b>'
        f"<span><small>paid out</small>{escape(got)}\xa0{unit}</span></p>"
    )


def _facts(pairs: Sequence[tuple[str, str]]) -> str:
    return (
        "<dl class='facts'>"
        + "".join(
            f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>"
            for name, value in pairs
            if value not in {"", NONE}
        )
        + "</dl>"
    )


def correction_section(summary: Summary) -> str:
    """What the day's correction moved; empty where nothing was corrected."""
    found = summary.correction
    if found is None:
        return ""
    customer = "a customer since erased" if found.customer in summary.erased else found.customer
    text = "" if found.customer in summary.erased else found.text
    link = "" if found.customer in summary.erased else f'<a href="#customer" data-home="{escape(found.customer)}">'
    told = f"<p>{escape(text)} {link and link + 'See its day.</a>'}</p>" if text else ""
    return told + _facts(_correction_facts(found, customer, summary))


def _correction_facts(found: Correction, customer: str, summary: Summary) -> list[tuple[str, str]]:
    zone, currency = summary.day.timezone, summary.currency
    when = f"{clock(found.start, zone)} to {clock(found.end, zone)}" if found.start and found.end else ""
    flagged = "" if found.flagged is None else f"{number(found.flagged)} of {number(found.intervals)} intervals"
    rule = f" (check: {in_words(found.rule).lower()})" if found.rule else ""
    reruns = ""
    if found.tasks_rerun is not None:
        reruns = number(found.tasks_rerun) + ("" if found.tasks_total is None else f" of {number(found.tasks_total)}")
    equal = {None: "", True: "equal, to the last unit", False: "they differ"}[found.replay_equal]
    estimate = "" if found.estimated_kwh is None else f"{number(found.estimated_kwh, 2)}\xa0kWh"
    true = "" if found.true_kwh is None else f"{number(found.true_kwh, 2)}\xa0kWh"
    return [
        ("Meter", customer),
        ("When", when),
        ("Found by validation", flagged + rule if flagged else ""),
        ("Estimated", estimate),
        ("Corrected to", true),
        ("Bills it moved", number(found.accounts_moved)),
        ("The customer's own bill", _move(found.own_move_eur, currency)),
        ("Largest move of any account", _move(found.largest_move_eur, currency)),
        ("Settlement steps run again", reruns),
        ("Books against a full replay", equal),
    ]


def _move(value: Decimal | None, currency: str) -> str:
    return NONE if value is None else f"{exact(value, signed=True)}\xa0{symbol(currency)}"


def record_section(summary: Summary) -> str:
    """What is on record, what checked it, and how anyone can."""
    record = summary.record
    if record is None:
        return ""
    size = f"{number(record.bytes / 1e6, 1)}\xa0MB" if record.bytes else ""
    facts = _facts(
        [
            ("Entries", number(record.entries)),
            ("Rows", number(record.rows)),
            ("Signed checkpoints", number(record.checkpoints)),
            ("Receipts checked", number(record.receipts_checked)),
            ("On disk", size),
        ]
    )
    found = [(f"{'✓' if c.ok else '✗'} {in_words(c.name)}", number(c.count), c.detail) for c in record.verify_checks]
    table = f"<div class='checks'>{_table(('check', 'count', 'finding'), found)}</div>" if found else ""
    root = f"<p class='note'>Root of the record: <code>{escape(record.root)}</code></p>" if record.root else ""
    return (
        f"{facts}{table}{root}<p>Check it yourself, without trusting the operator: "
        "<code>tellegen verify DIR</code> reads signatures, proofs and sums; <code>tellegen replay DIR</code> runs "
        "everything again and compares; DIR is the folder this file lies in.</p>"
    )


def evidence_section(summary: Summary) -> str:
    """How the clearings ended and on what evidence they were accepted."""
    found = summary.evidence
    ended = ", ".join(
        f"{number(summary.statuses[status])} {in_words(status)}" for status in in_order(summary.statuses, STATUSES)
    )
    return _facts(
        [
            ("Clearings ended", ended),
            ("Intervals with a binding limit", number(summary.binding_intervals)),
            ("Homes on hold, for awards not delivered", number(summary.homes_on_hold)),
            ("Largest limit excess, pu", scientific(found.max_violation_pu)),
            ("Largest power-flow mismatch, pu", scientific(found.max_mismatch_pu)),
            ("Largest optimality residual", scientific(found.max_kkt)),
            ("Voltage against OpenDSS, pu", scientific(found.replay_max_dv_pu)),
            ("Price against finite differences, relative", scientific(found.fd_max_relative)),
            ("The day settled afresh", {None: NONE, True: "comes to the same", False: "differs"}[found.settles_afresh]),
            ("Wholesale prices", summary.prices_source),
            ("Seed", str(summary.seed)),
        ]
    )
