"""Figures of sequences: attention as a look-up, and how far back a network remembers."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure

from .style import GRAY, figure, legend, line, logarithmic


def lookup(
    weights: np.ndarray,
    values: Mapping[str, float],
    scales: np.ndarray,
    answers: Mapping[str, np.ndarray],
    scale: float,
) -> Figure:
    """Attention weights as a matrix of query × key, and the answers against the scale of the scores.

    Args:
      weights: Attention weights [query, key] at one scale.
      values: Key -> its value in M$.
      scales: Scales of the curves [n], ascending.
      answers: Query -> answers [n] in M$.
      scale: The scale that the weights are of.
    """
    with figure(9.8, 3.3) as fig:
        left, right = fig.subplots(1, 2, width_ratios=(1.2, 1))
        left.imshow(weights, cmap="Blues", vmin=0, vmax=1, aspect="auto")
        for (row, column), weight in np.ndenumerate(weights):
            dark = weight > 0.6
            left.text(
                column, row, f"{weight:.3f}", ha="center", va="center", color="white" if dark else "black", fontsize=8
            )
        left.set_xticks(range(len(values)), list(values), fontsize=8)
        left.set_yticks(range(len(answers)), list(answers), fontsize=8)
        left.set(xlabel="key, and its value", ylabel="query", title=rf"attention weights at $\beta$ = {scale:.4g}")
        left.tick_params(length=0)
        for i, (query, curve) in enumerate(answers.items()):
            right.plot(scales, curve, **line(i, len(scales)), label=query)
        right.axvline(scale, color=GRAY, linestyle=":", linewidth=1, label="weights at the left")
        right.set(xlabel=r"scale $\beta$ of the scores", ylabel="answer (M$)", title="answers")
        right.set_xlim(scales[0], scales[-1])
        logarithmic(right.xaxis)
        logarithmic(right.yaxis)
        legend(fig, right, title="query")
    return fig
