"""The money flow as a picture: who paid whom, widths in proportion."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from html import escape

from tellegen.report.summary import Flow
from tellegen.report.words import money

WIDTH, HEIGHT, BAR, GAP = 1000.0, 360.0, 14.0, 34.0
LETTER = 7.8
"""Width that a letter of a label takes at most, on average."""
SHADES = 8
"""Parties take turns in this many colours."""


@dataclass(frozen=True, slots=True)
class Arrow:
    """Money that went from `origin` to `target`; `amount` is positive."""

    origin: str
    target: str
    amount: Decimal


def arrows(flows: Sequence[Flow]) -> list[Arrow]:
    """Flows as arrows: a negative amount turns its arrow round; same ends are added; nil is left out.

    >>> arrows([Flow(origin="homes", target="market", eur=Decimal(-2))])
    [Arrow(origin='market', target='homes', amount=Decimal('2'))]
    """
    net: dict[tuple[str, str], Decimal] = {}
    for flow in flows:
        ends = (flow.origin, flow.target) if flow.eur > 0 else (flow.target, flow.origin)
        net[ends] = net.get(ends, Decimal(0)) + abs(flow.eur)
    return [Arrow(origin, target, amount) for (origin, target), amount in net.items() if amount > 0]


def _unwound(drawn: Sequence[Arrow]) -> list[Arrow]:
    """Give a payment that returns to an earlier party an end of its own, so that nothing circles."""
    after: dict[str, set[str]] = {}

    def reaches(start: str, goal: str) -> bool:
        return start == goal or any(reaches(step, goal) for step in sorted(after.get(start, ())))

    straight = []
    # large payments first: they are the main direction, and what comes back is small
    for arrow in sorted(drawn, key=lambda a: -a.amount):
        if reaches(arrow.target, arrow.origin):
            straight.append(Arrow(arrow.origin, f"{arrow.target} (back)", arrow.amount))
        else:
            after.setdefault(arrow.origin, set()).add(arrow.target)
            straight.append(arrow)
    return straight


def _columns(drawn: Sequence[Arrow]) -> dict[str, int]:
    """Column of each party: one right of the last that pays it."""
    column = {name: 0 for arrow in drawn for name in (arrow.origin, arrow.target)}
    for _ in column:
        for arrow in drawn:
            column[arrow.target] = max(column[arrow.target], column[arrow.origin] + 1)
    return column


def _size(name: str, drawn: Sequence[Arrow]) -> Decimal:
    paid = sum((a.amount for a in drawn if a.origin == name), Decimal(0))
    got = sum((a.amount for a in drawn if a.target == name), Decimal(0))
    return max(paid, got)


def _label(x: float, y: float, anchor: str, kind: str, text: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" class="{kind}">{escape(text)}</text>'


def draw_flows(flows: Sequence[Flow], currency: str) -> str:
    """A Sankey diagram as SVG text; empty where no money moved.

    Parties stand in columns from payers to payees; band and bar heights are in proportion to money.
    """
    drawn = _unwound(arrows(flows))
    if not drawn:
        return ""
    column = _columns(drawn)
    stacks: dict[int, list[str]] = {}
    for name, place in column.items():
        stacks.setdefault(place, []).append(name)
    last = max(stacks)
    sizes = {name: _size(name, drawn) for name in column}
    scale = min(
        (HEIGHT - GAP * (len(names) + 1)) / float(max(sum((sizes[n] for n in names), Decimal(0)), Decimal("1e-9")))
        for names in stacks.values()
    )
    tops: dict[str, float] = {}
    lefts: dict[str, float] = {}
    left, right = (
        24.0 + LETTER * max(len(text) for name in stacks[end] for text in (name, money(sizes[name], currency)))
        for end in (0, last)
    )
    step = (WIDTH - left - right - BAR) / max(last, 1)
    rank: dict[str, float] = {}
    for place in sorted(stacks):
        payers = {n: [rank[a.origin] for a in drawn if a.target == n and a.origin in rank] for n in stacks[place]}
        names = sorted(
            stacks[place], key=lambda n: (sum(payers[n]) / len(payers[n]) if payers[n] else 0.0, -sizes[n], n)
        )
        filled = sum(float(sizes[n]) * scale for n in names) + GAP * (len(names) - 1)
        y = (HEIGHT - filled) / 2
        for position, name in enumerate(names):
            rank[name] = position + 0.01 * place
            tops[name], lefts[name] = y, left + place * step
            y += float(sizes[name]) * scale + GAP
    order = sorted(column, key=lambda n: (column[n], tops[n]))
    shade = {name: k % SHADES for k, name in enumerate(order)}
    leave, arrive = dict(tops), dict(tops)
    bands = []
    for arrow in sorted(drawn, key=lambda a: (tops[a.origin], tops[a.target])):
        thick = float(arrow.amount) * scale
        x0, x1 = lefts[arrow.origin] + BAR, lefts[arrow.target]
        y0, y1 = leave[arrow.origin], arrive[arrow.target]
        leave[arrow.origin] += thick
        arrive[arrow.target] += thick
        bend = (x0 + x1) / 2
        path = (
            f"M{x0:.1f},{y0:.1f} C{bend:.1f},{y0:.1f} {bend:.1f},{y1:.1f} {x1:.1f},{y1:.1f} "
            f"v{max(thick, 0.8):.1f} C{bend:.1f},{y1 + thick:.1f} {bend:.1f},{y0 + thick:.1f} "
            f"{x0:.1f},{y0 + thick:.1f} Z"
        )
        words = escape(f"{arrow.origin} → {arrow.target}: {money(arrow.amount, currency)}")
        bands.append(f'<path class="flow shade{shade[arrow.target]}" d="{path}"><title>{words}</title></path>')
    bars: list[str] = []
    payers_of = {arrow.origin for arrow in drawn}
    for name in order:
        high = max(float(sizes[name]) * scale, 1.0)
        x, y = lefts[name], tops[name]
        bars.append(
            f'<rect class="party shade{shade[name]}" x="{x:.1f}" y="{y:.1f}" width="{BAR}" height="{high:.1f}" rx="2"/>'
        )
        middle, amount = y + high / 2, money(sizes[name], currency)
        if column[name] == 0:
            bars += [_label(x - 8, middle - 2, "end", "who", name), _label(x - 8, middle + 15, "end", "sum", amount)]
        elif name not in payers_of:
            beside = x + BAR + 8
            bars += [
                _label(beside, middle - 2, "start", "who", name),
                _label(beside, middle + 15, "start", "sum", amount),
            ]
        else:  # money goes on to the right, so the label stands above
            bars.append(_label(x + BAR / 2, y - 8, "middle", "who", f"{name} {amount}"))
    top = min(tops.values()) - 30
    high = max(tops[name] + float(sizes[name]) * scale for name in order) + 26 - top
    return (
        f'<svg class="sankey" viewBox="0 {top:.0f} {WIDTH:.0f} {high:.0f}" role="img" aria-label="Money flow">'
        + "".join(bands)
        + "".join(bars)
        + "</svg>"
    )
