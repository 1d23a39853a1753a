"""The sheet that all pictures are drawn on: one style, one palette, one way to ask for matplotlib."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any, Literal

from tellegen.errors import InputError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, FAINT, GRID = "#222222", "#777777", "#dddddd"
BLUE, VERMILION, GREEN, ORANGE, SKY = "#0072B2", "#D55E00", "#009E73", "#E69F00", "#56B4E9"
"""Colours of Okabe and Ito (Color Universal Design, 2008), which colour-blind readers tell apart."""
PHASE_COLOUR = {0: BLUE, 1: BLUE, 2: VERMILION, 3: GREEN}
PHASE_NAME = {0: "balanced", 1: "phase 1", 2: "phase 2", 3: "phase 3"}
SEQUENTIAL, DIVERGING = "viridis", "PuOr_r"
DPI = 150
_STYLE: Any = {
    "font.size": 9.5,
    "axes.edgecolor": FAINT,
    "axes.labelcolor": INK,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.titlesize": 11.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titlepad": 10.0,
    "axes.formatter.useoffset": False,
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.major.width": 0.8,
    "ytick.major.width": 0.8,
    "legend.frameon": False,
    "legend.fontsize": 9.0,
    "svg.hashsalt": "tellegen",
}


def sheet(
    title: str, *, width: float = 8.0, height: float = 4.5, grid: Literal["x", "y", "both", ""] = "y"
) -> tuple[Figure, Axes]:
    """An empty figure with one pair of axes, inches; `grid` is ``x``, ``y``, ``both`` or empty.

    Raises
    ------
    InputError : matplotlib is not installed; names the extra.
    """
    kind = _figure_type()
    import matplotlib as mpl

    with mpl.rc_context(_STYLE):
        figure = kind(figsize=(width, height), dpi=DPI, facecolor="white")
        figure.set_layout_engine("constrained", h_pad=0.1, w_pad=0.1)
        axes = figure.add_subplot()
        axes.set_title(title, color=INK)
        if grid:
            axes.grid(axis=grid, color=GRID, linewidth=0.6)
    return figure, axes


def legend_below(axes: Axes, **options: Any) -> None:
    """A legend under the axes, where it covers no data."""
    handles = options.pop("handles", axes.get_legend_handles_labels()[0])
    if handles:
        axes.figure.legend(
            handles=handles,
            loc="outside lower center",
            ncols=min(len(handles), 5),
            frameon=False,
            fontsize=9.0,
            **options,
        )


def note(axes: Axes, text: str, at: tuple[float, float], offset: tuple[float, float] = (0, 0), **options: Any) -> None:
    """Small text at a point of the data, `offset` in points, readable over whatever is drawn there."""
    from matplotlib import patheffects

    drawn = axes.annotate(text, at, xytext=offset, textcoords="offset points", fontsize=8.5, color=INK, **options)
    drawn.set_path_effects([patheffects.withStroke(linewidth=2.5, foreground="white")])


@cache
def _figure_type() -> type[Figure]:
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise InputError("pictures", "package matplotlib", "is needed: pip install 'tellegen[pictures]'") from None

    class Picture(Figure):  # type: ignore[misc, unused-ignore]
        """A figure that a notebook shows without pyplot."""

        def _repr_png_(self) -> bytes:
            from io import BytesIO

            buffer = BytesIO()
            self.savefig(buffer, format="png")
            return buffer.getvalue()

    return Picture
