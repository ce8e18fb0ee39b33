"""Figures of functions of one or two variables: paths over level sets, and approximations."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure

from .style import BLUE, CYCLE, GRAY, RED, at, figure, legend, line, logarithmic, of_seeds, whole


def paths(points: Mapping[str, np.ndarray], condition: float) -> Figure:
    """Paths over the level sets of (x² + κ y²)/2, and the distance to the minimum against the step.

    Args:
      points: Method -> its path [steps + 1, 2].
      condition: The condition number κ.
    """
    every = np.concatenate(list(points.values()))
    reach, height = (
        factor * (size or np.abs(every).max()) for factor, size in zip((1.05, 1.3), np.abs(every).max(0), strict=True)
    )
    left, right = max(0.35 * reach, -1.05 * every[:, 0].min()), max(0.35 * reach, 1.05 * every[:, 0].max())
    x, y = np.meshgrid(np.linspace(-left, right, 300), np.linspace(-height, height, 200))
    surface = (x**2 + condition * y**2) / 2
    with figure(8.4, 1.55 * len(points) + 0.5) as fig:
        grid = fig.add_gridspec(len(points), 2, width_ratios=(1.6, 1))
        curve = fig.add_subplot(grid[:, 1], xlabel="step", ylabel="distance to the minimum")
        for row, (name, path) in enumerate(points.items()):
            axes = fig.add_subplot(grid[row, 0], title=name, ylabel="$y$")
            levels = np.geomspace(surface.max() / 2000, surface.max(), 12)
            axes.contour(x, y, surface, levels=levels, colors=GRAY, linewidths=0.5, alpha=0.6)
            axes.plot(*path.T, "o-", color=CYCLE[row % len(CYCLE)], markersize=2.5, linewidth=1)
            axes.plot(0, 0, "*", color=RED, markersize=8)
            axes.set(xlim=(-left, right), ylim=(-height, height))
            if row == len(points) - 1:
                axes.set_xlabel("$x$")
            curve.plot(np.linalg.norm(path, axis=1), **line(row, len(path)), label=name)
        logarithmic(curve.yaxis)
        whole(curve.xaxis)
        legend(fig, curve)
    return fig


def approximation(errors: Mapping[str, np.ndarray], fits: Mapping[str, np.ndarray]) -> Figure:
    """The largest error against the width of the network, and some of the fitted functions.

    Args:
      errors: Columns width, largest_error and chosen (1 for the best seed of a width, else 0).
      fits: Columns width, x, target and network.
    """
    chosen = errors["chosen"] == 1
    seeds = int((errors["width"] == errors["width"][0]).sum())
    with figure(8.6, 2.9) as fig:
        left, right = fig.subplots(1, 2)
        left.plot(errors["width"], errors["largest_error"], ".", color=GRAY, alpha=0.6, label=of_seeds(seeds, "each"))
        left.plot(
            errors["width"][chosen], errors["largest_error"][chosen], "o-", color=BLUE, label="best seed on the grid"
        )
        left.set(xlabel="hidden units", ylabel=r"$\max_x |g(x) - f(x)|$")
        logarithmic(left.yaxis)
        logarithmic(left.xaxis)
        at(left.xaxis, errors["width"])
        widths = np.unique(fits["width"])
        first = fits["width"] == widths[0]
        right.plot(fits["x"][first], fits["target"][first], color="black", linewidth=2.5, alpha=0.35, label="$g$")
        for i, width in enumerate(widths[[0, len(widths) // 2, -1]] if len(widths) > 2 else widths):
            rows = fits["width"] == width
            right.plot(
                fits["x"][rows],
                fits["network"][rows],
                **line(i + 1, int(rows.sum())),
                linewidth=1.1,
                label=f"{int(width)} hidden unit{'s' if width > 1 else ''}",
            )
        right.set(xlabel="$x$", ylabel="$g(x)$ and $f(x)$")
        legend(fig, left, right)
    return fig
