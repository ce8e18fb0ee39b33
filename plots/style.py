"""The style of every figure, and how it is saved.

The colors are Okabe & Ito's, which color-blind readers can tell apart. Lines differ in their dashes too, so that a gray
print is readable. Legends lie beside the axes, where nothing crosses them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import XAxis, YAxis
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_pdf import FigureCanvasPdf
from matplotlib.figure import Figure
from matplotlib.ticker import FormatStrFormatter, LogLocator, MaxNLocator, NullFormatter, NullLocator

from ..errors import InputError

BLUE, ORANGE, GREEN, RED, GRAY = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#666666"
CYCLE = (BLUE, ORANGE, GREEN, RED, "#CC79A7", "#56B4E9")
DASHES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (9, 2)))
MARKERS = ("o", "s", "^", "D", "v", "<", ">")
FEW = 20
"""Lines of at most this many points show each point."""

RC: Any = {  # a dict whose keys matplotlib types as a long list of literals
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 9,
    "legend.frameon": False,
    "legend.fontsize": 8,
    "legend.title_fontsize": 8,
    "lines.linewidth": 1.5,
    "pdf.fonttype": 42,
}
# Without dates, the same figure is the same file.
METADATA: dict[str, dict[str, Any]] = {".png": {"Software": None}, ".pdf": {"CreationDate": None}}


@contextmanager
def figure(width: float, height: float, fonts: Sequence[str] = ()) -> Iterator[Figure]:
    """A new figure in our style, to draw on inside the block.

    Args:
      width, height: in inches.
      fonts: font families that have the letters of users' names, from `names.drawable`.
    """
    with matplotlib.rc_context(RC | ({"font.family": list(fonts)} if fonts else {})):
        yield Figure(figsize=(width, height), layout="constrained")


def line(number: int, points: int) -> dict[str, Any]:
    """Color, dashes and marker of one of several lines; the first 42 differ in dashes or marker.

    Args:
      number: of the line, from 0 on.
      points: number of its points. Few are marked, so that a line of one point can be seen.

    >>> line(1, 100)["linestyle"], line(1, 100)["marker"], line(8, 100)["marker"]
    ('--', 'None', 's')
    """
    marked = points <= FEW or number >= len(DASHES)
    return {
        "color": CYCLE[number % len(CYCLE)],
        "linestyle": DASHES[number % len(DASHES)],
        "marker": MARKERS[number % len(MARKERS)] if marked else "None",
        "markersize": 3,
        "markevery": max(1, points // 10) if points > FEW else 1,
    }


def of_seeds(number: int, statistic: str) -> str:
    """What is drawn of several seeds, in words; of one seed there is no statistic.

    >>> of_seeds(5, "mean ± std"), of_seeds(1, "mean ± std")
    ('mean ± std of 5 seeds', 'one seed')
    """
    return f"{statistic} of {number} seeds" if number > 1 else "one seed"


def legend(fig: Figure, *panels: Axes, title: str | None = None, below: bool = False) -> None:
    """One legend to the right of all axes, or below them, with each label of the panels once."""
    known = {label: of for axes in panels for of, label in zip(*axes.get_legend_handles_labels(), strict=True)}
    loc = "outside lower center" if below else "outside right upper"
    fig.legend(list(known.values()), list(known), loc=loc, title=title, alignment="left")


def whole(axis: XAxis | YAxis) -> None:
    """Ticks at whole numbers only, at least two of them: of epochs, of steps. To be called when all is drawn."""
    axis.set_major_locator(MaxNLocator(6, integer=True, min_n_ticks=1, steps=[1, 2, 5, 10]))
    low, high = axis.get_data_interval()
    if high - low < 1 and np.isfinite([low, high]).all():
        axis.axes.set(**{f"{axis.axis_name}lim": (low - 1, high + 1)})


def logarithmic(axis: XAxis | YAxis) -> None:
    """Makes an axis logarithmic, with at least two numbers over any range. To be called when its limits are known.

    matplotlib has numbers at decades alone, or at single multiples of them, and so one or none over short ranges.
    """
    axis.axes.set(**{f"{axis.axis_name}scale": "log"})
    axis.set_minor_formatter(NullFormatter())
    low, high = sorted(axis.get_view_interval())
    decades = 10.0 ** np.arange(np.floor(np.log10(low)), np.ceil(np.log10(high)) + 1)
    for subs in ((1,), (1, 2, 5), (1, 1.5, 2, 3, 5, 7)):
        ticks = np.outer(decades, subs)
        if np.count_nonzero((low <= ticks) & (ticks <= high)) > 1:
            axis.set_major_locator(LogLocator(subs=subs))
            break
    else:
        axis.set_major_locator(MaxNLocator(3))
    if len(subs) > 1:
        axis.set_major_formatter(FormatStrFormatter("%g"))


def at(axis: XAxis | YAxis, values: np.ndarray) -> None:
    """Ticks of a logarithmic axis at the values that were tried, if there is room for their numbers."""
    values = np.unique(values)
    numbers, letter = [f"{value:g}" for value in values], 0.03  # a letter's share of a narrow axis
    if len(values) > 1 and np.diff(np.log(values)).min() > letter * (1 + max(map(len, numbers))) * np.ptp(
        np.log(values)
    ):
        axis.set_ticks(values, numbers)
        axis.set_minor_locator(NullLocator())


def save(figure: Figure, path: Path) -> None:
    """Writes a figure as PNG (200 dpi) or PDF, by the path's suffix.

    Raises: InputError for another suffix.
    """
    suffix = Path(path).suffix
    if suffix not in METADATA:
        raise InputError(f"A figure is saved as .png or .pdf, not as {str(path)!r}.")
    with matplotlib.rc_context(RC):
        (FigureCanvasAgg if suffix == ".png" else FigureCanvasPdf)(figure)
        figure.savefig(path, dpi=200, metadata=METADATA[suffix])
