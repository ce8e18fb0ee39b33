"""The style of every figure, and how it is saved.

The colors are Okabe & Ito's, which color-blind readers can tell apart. Lines differ in their dashes too, so that a gray
print is readable.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_pdf import FigureCanvasPdf
from matplotlib.figure import Figure

from ..errors import InputError

BLUE, ORANGE, GREEN, RED, GRAY = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#666666"
CYCLE = (BLUE, ORANGE, GREEN, RED, "#CC79A7", "#56B4E9")
DASHES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (1, 1)))

RC: Any = {  # a dict whose keys matplotlib types as a long list of literals
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 9,
    "legend.frameon": False,
    "legend.fontsize": 8,
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
