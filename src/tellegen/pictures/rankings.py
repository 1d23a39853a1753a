"""The most loaded lines and transformers, as bars."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tellegen.pictures.canvas import BLUE, FAINT, INK, ORANGE, VERMILION, note, sheet
from tellegen.workbench import ClearingResult, FlowResult

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NEAR_PERCENT = 80.0
SHOWN_PERCENT_MIN = 0.05
"""Some files write ratings no line has, for want of a known one."""


def loadings(result: FlowResult | ClearingResult, *, top: int = 20) -> Figure:
    """Loadings of the `top` most loaded lines and transformers that have a rating.

    Raises
    ------
    InputError : matplotlib is not installed.
    """
    frame = (
        result.loadings.filter(result.loadings["percent"] >= SHOWN_PERCENT_MIN)
        .sort("percent", descending=True)
        .head(top)
    )
    names, percent = frame["element"].to_list(), frame["percent"].to_list()
    figure, axes = sheet(
        f"{result.feeder.name}: most loaded elements", height=1.4 + 0.24 * max(len(names), 4), grid="x"
    )
    if not names:
        axes.set_axis_off()
        axes.text(
            0.5,
            0.5,
            "no element carries a notable share of a rating",
            ha="center",
            va="center",
            color=FAINT,
            transform=axes.transAxes,
        )
        return figure
    colours = [VERMILION if p > 100.0 else ORANGE if p >= NEAR_PERCENT else BLUE for p in percent]
    places = range(len(names))
    axes.barh(places, percent, color=colours, height=0.72)
    axes.set_yticks(places, names)
    axes.invert_yaxis()
    axes.tick_params(axis="y", length=0)
    reach = max(100.0, max(percent)) if max(percent) > 25.0 else max(percent)
    for k, value in enumerate(percent):
        note(axes, f"{value:.1f}", (value, k), (4, 0), va="center")
    if reach >= 100.0:
        axes.axvline(100.0, color=INK, linewidth=1.0, linestyle="--")
    axes.set_xlim(0.0, 1.08 * reach)
    axes.set_xlabel("loading at the worst terminal, % of its rating")
    return figure
