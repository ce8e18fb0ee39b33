"""Figures of sequences: attention as a look-up, and how far back a network remembers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from .style import GRAY, at, figure, legend, line, logarithmic, of_seeds, whole

SEED: Any = {"markersize": 5, "markerfacecolor": "none", "markeredgewidth": 0.8}  # a point beside those of means


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


def gradient_decay(panels: Mapping[str, Mapping[str, np.ndarray]]) -> Figure:
    """Norms of gradients against the distance of what they are taken by, on a logarithmic axis.

    Args:
      panels: Title -> network -> norms [seed, distance], from distance 0 on; bands go from lowest to highest.
    """
    with figure(3.2 * len(panels) + 1.6, 3.0) as fig:
        row = fig.subplots(1, len(panels), squeeze=False)[0]
        for axes, (title, networks) in zip(row, panels.items(), strict=True):
            for i, (network, norms) in enumerate(networks.items()):
                distances, shown = np.arange(norms.shape[1]), np.where(norms > 0, norms, np.nan)
                style = line(i, norms.shape[1])
                axes.plot(distances, np.exp(np.log(shown).mean(0)), label=network, **style)
                axes.fill_between(distances, shown.min(0), shown.max(0), color=style["color"], alpha=0.2, linewidth=0)
            axes.set(xlabel="distance (positions)", title=title)
            whole(axes.xaxis)
            logarithmic(axes.yaxis)
        row[0].set_ylabel("norm of the gradient of the last loss")
        seeds = len(next(iter(next(iter(panels.values())).values())))
        legend(fig, *row, title=of_seeds(seeds, "geometric mean\nand range"))
    return fig


def remembered(accuracies: Mapping[str, Mapping[int, np.ndarray]], chance: float) -> Figure:
    """Accuracies against the distance over which a symbol had to be remembered, with the line of a guess.

    Args:
      accuracies: Network -> distance -> test accuracies [seed], the same distances for each.
      chance: Accuracy of a guess.
    """
    first = next(iter(accuracies.values()))
    distances, seeds = np.array(list(first)), len(next(iter(first.values())))
    with figure(5.8, 3.0) as fig:
        axes = fig.add_subplot(xlabel="distance (positions)", ylabel="test accuracy (%)", ylim=(0, 104))
        for i, (network, of_distance) in enumerate(accuracies.items()):
            values = 100 * np.stack(list(of_distance.values()))
            # Side by side, so that no network hides another.
            places, style = distances * 1.07 ** (i - (len(accuracies) - 1) / 2), line(i, len(distances))
            axes.plot(places, values.mean(1), label=network, **style)
            axes.plot(places, values, style["marker"], color=style["color"], **SEED)
        axes.plot([], [], "o", color=GRAY, **SEED, label="a seed")
        axes.axhline(100 * chance, color=GRAY, linewidth=0.9, label="a guess")
        logarithmic(axes.xaxis)
        at(axes.xaxis, distances)
        legend(fig, axes, title=of_seeds(seeds, "mean"))
    return fig
