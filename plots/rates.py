"""Figures about learning rates: schedules, range tests, grid searches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from ..errors import InputError
from ..metrics import RangeTest
from .style import BLUE, GRAY, GREEN, ORANGE, RED, at, figure, legend, line, logarithmic, of_seeds, whole


def range_test(test: RangeTest, chosen: float | None = None) -> Figure:
    """The curve of a learning-rate range test, its regions, its steepest descent and the chosen rate.

    Args:
      test: The result of `metrics.range_test`. Its divergence is shaded from where the loss has blown up, not from its
        lowest point on.
      chosen: The rate to mark; None marks none.
    """
    with figure(6, 3) as fig:
        axes = fig.add_subplot(xlabel="learning rate", ylabel="minibatch loss")
        axes.plot(test.rates, test.losses, color=GRAY, alpha=0.4, linewidth=0.8, label="measured, one seed")
        axes.plot(test.rates, test.smoothed, color=BLUE, label="smoothed")
        axes.set(xlim=(test.rates[0], test.rates[-1]), ylim=_loss_limits(test))
        if test.steepest is not None:
            axes.axvline(test.steepest, color=GREEN, linestyle=":", label=f"steepest: {test.steepest:.2g}")
        if chosen is not None:
            axes.axvline(chosen, color=ORANGE, linestyle="--", label=f"chosen: {chosen:.2g}")
        for name, left, right, color, alpha in _regions(test):
            axes.axvspan(left, right, color=color, alpha=alpha, linewidth=0, label=name)
        logarithmic(axes.xaxis)
        legend(fig, axes)
    return fig


def _regions(test: RangeTest) -> list[tuple[str, float, float, str, float]]:
    """(name, first rate, last rate, color, opacity) of what the curve shows; between basin and divergence it rises."""
    first, last = test.rates[0], test.rates[-1]
    regions = []
    if test.descent_start is not None and test.basin is not None:
        start, end = test.descent_start, test.basin[1]
        regions += [("flat", first, start, GRAY, 0.15), ("descent and basin", start, end, GREEN, 0.12)]
    if test.divergence is not None:
        regions.append(("divergence", test.divergence, last, RED, 0.25))
    return regions


def _loss_limits(test: RangeTest) -> tuple[float, float]:
    """What matters lies below the initial loss, though the loss may diverge by orders of magnitude."""
    seen = test.losses[np.isfinite(test.losses) & (test.rates < (test.divergence or np.inf))]
    if not len(seen):
        return 0.0, 1.0
    high, low = seen.max(), seen.min()
    if test.descent_start is not None:
        seen = test.smoothed[np.isfinite(test.smoothed)]
        high, low = seen[: max(1, len(seen) // 10)].max(), seen.min()
    fall = high - low or 0.1
    return low - 0.2 * fall, high + 0.4 * fall


def range_tests(tests: Sequence[RangeTest]) -> Figure:
    """Range tests of several seeds: median and range of their smoothed curves, suggestion and steepest descent of each.

    Args:
      tests: Results of `metrics.range_test` over the same rates, one per seed.
    """
    rates = tests[0].rates
    smoothed = np.array([test.smoothed if len(test.smoothed) else np.full(len(rates), np.nan) for test in tests])
    with figure(6.4, 3.2) as fig:
        axes = fig.add_subplot(xlabel="learning rate", ylabel="minibatch loss")
        for test in tests:
            axes.plot(rates, test.losses, color=GRAY, alpha=0.15, linewidth=0.5)
        axes.plot([], [], color=GRAY, linewidth=0.8, label="measured, each seed")
        # Where a seed has diverged, NaN, the others are no longer a sample of all.
        lowest, highest = smoothed.min(0), smoothed.max(0)
        axes.fill_between(
            rates, lowest, highest, color=BLUE, alpha=0.25, linewidth=0, label="smoothed, lowest to highest"
        )
        label = f"smoothed, {of_seeds(len(tests), 'median')}"
        axes.plot(rates, np.median(smoothed, axis=0), color=BLUE, label=label)
        limits = np.array([_loss_limits(test) for test in tests])
        low, high = limits[:, 0].min(), limits[:, 1].max()
        axes.set(xlim=(rates[0], rates[-1]), ylim=(low - 0.2 * (high - low), high))
        bottom = axes.get_xaxis_transform()
        for name, place, color, marker in (("steepest", 0.04, GREEN, "v"), ("suggestion", 0.1, ORANGE, "o")):
            found = [getattr(test, name) for test in tests if getattr(test, name) is not None]
            style = {"color": color, "markersize": 4, "alpha": 0.8, "linestyle": "none", "marker": marker}
            axes.plot(found, np.full(len(found), place), **style, transform=bottom, label=f"{name}, each seed")
        logarithmic(axes.xaxis)
        legend(fig, axes)
    return fig


def grid_search(rates: np.ndarray, values: np.ndarray, chosen: float, *, ylabel: str, log: bool = True) -> Figure:
    """The result of each learning rate: one dot per seed, their median as a line, and a band from lowest to highest.

    Args:
      rates: Learning rates [n], ascending.
      values: Results [n, seeds]; NaN where a member diverged, which is marked at the upper edge.
      chosen: The rate to mark; NaN marks none.
      ylabel: Name of the values.
      log: Whether the vertical axis is logarithmic, if all values are positive.
    """
    seeds = values.shape[1]
    finite = np.isfinite(values).all(1)
    with figure(6.2, 3) as fig:
        axes = fig.add_subplot(xlabel="learning rate", ylabel=ylabel)
        if seeds > 1:
            band = {"color": BLUE, "alpha": 0.2, "linewidth": 0, "label": "lowest to highest"}
            axes.fill_between(rates[finite], values[finite].min(1), values[finite].max(1), **band)
            axes.plot(np.repeat(rates, seeds), values.ravel(), ".", color=BLUE, alpha=0.5, label="each seed")
        median = np.median(values[finite], 1)
        axes.plot(rates[finite], median, color=BLUE, marker="o", markersize=3, label=of_seeds(seeds, "median"))
        diverged = rates[~finite]
        if len(diverged):
            axes.plot(
                diverged,
                np.ones(len(diverged)),
                "x",
                color=RED,
                clip_on=False,
                transform=axes.get_xaxis_transform(),
                label="a seed diverged" if seeds > 1 else "diverged",
            )
        if np.isfinite(chosen):
            axes.axvline(chosen, color=ORANGE, linestyle="--", label=f"chosen: {chosen:.3g}")
        if log and (values[np.isfinite(values)] > 0).all():  # a loss may be negative
            logarithmic(axes.yaxis)
        logarithmic(axes.xaxis)
        at(axes.xaxis, rates)
        legend(fig, axes)
    return fig


def schedule(steps: np.ndarray, rates: Mapping[str, np.ndarray]) -> Figure:
    """Learning rates against steps.

    Args:
      steps: Steps [n].
      rates: Name -> learning rates [n], one line each.
    Raises: InputError if a line has another length.

    >>> figure = schedule(np.arange(3), {"linear": np.array([1.0, 0.5, 0.0])})
    >>> figure.axes[0].get_ylabel()
    'learning rate'
    """
    several = len(rates) > 1
    with figure(5.4 if several else 4, 2.6) as fig:
        axes = fig.add_subplot(xlabel="step", ylabel="learning rate")
        for i, (name, values) in enumerate(rates.items()):
            if np.shape(values) != np.shape(steps):
                raise InputError(f"{name} has shape {np.shape(values)}; the steps have {np.shape(steps)}.")
            axes.plot(steps, values, **line(i, len(steps)), label=name)
        axes.set_ylim(bottom=0)
        whole(axes.xaxis)
        if several:
            legend(fig, axes)
    return fig


def gallery(steps: np.ndarray, rates: Mapping[str, np.ndarray]) -> Figure:
    """Every schedule in a panel of its own, as on the lecture's slide.

    Args:
      steps: Steps [n].
      rates: Name -> learning rates [n], relative to the peak.
    """
    columns = 4
    rows = -(-len(rates) // columns)
    with figure(1.9 * columns, 1.4 * rows + 0.2) as fig:
        grid = fig.subplots(rows, columns, squeeze=False, sharex=True, sharey=True)
        for axes in grid.flat[len(rates) :]:
            axes.set_axis_off()
        for axes, (name, values) in zip(grid.flat, rates.items(), strict=False):
            axes.plot(steps, values, color=BLUE)
            axes.set_title(name.replace("_", " "), fontsize=8)
        for axes in grid[:, 0]:
            axes.set_ylabel("rate / peak", fontsize=8)
        for axes in grid.flat[max(0, len(rates) - columns) : len(rates)]:  # the lowest of each column
            axes.set_xlabel("step", fontsize=8)
            axes.tick_params(labelbottom=True)
        grid[0, 0].set_ylim(bottom=0)
    return fig
