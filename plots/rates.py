"""Figures about learning rates: schedules, range tests, grid searches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from ..errors import InputError
from ..metrics import RangeTest
from .style import BLUE, CYCLE, DASHES, GRAY, GREEN, ORANGE, RED, figure


def range_test(test: RangeTest, chosen: float | None = None) -> Figure:
    """The curve of a learning-rate range test, its three regions, its steepest descent and the chosen rate.

    Args:
      test: The result of `metrics.range_test`.
      chosen: The rate to mark; None marks none.
    """
    with figure(5, 3.2) as fig:
        axes = fig.add_subplot(xscale="log", xlabel="learning rate", ylabel="minibatch loss")
        axes.plot(test.rates, test.losses, color=GRAY, alpha=0.4, linewidth=0.8, label="measured")
        axes.plot(test.rates, test.smoothed, color=BLUE, label="smoothed")
        # The loss may diverge by orders of magnitude; what matters lies below the initial loss.
        seen = test.smoothed[np.isfinite(test.smoothed)]
        seen = seen if len(seen) else test.losses[np.isfinite(test.losses)]
        if len(seen):
            first, low = seen[: max(1, len(seen) // 10)].max(), seen.min()
            axes.set_ylim(low - 0.15 * abs(first - low) - 0.05, first + 0.5 * abs(first - low) + 0.05)
        axes.set_xlim(test.rates[0], test.rates[-1])
        if test.descent_start is not None and test.minimum is not None:
            edges = [test.rates[0], test.descent_start, test.minimum, test.rates[-1]]
            for name, color, left, right in zip(
                ("flat", "descent", "divergence"), (GRAY, GREEN, RED), edges[:-1], edges[1:], strict=True
            ):
                if right > left:
                    axes.axvspan(left, right, color=color, alpha=0.09, linewidth=0)
                    middle = np.sqrt(left * right)
                    axes.text(middle, 0.97, name, ha="center", va="top", transform=axes.get_xaxis_transform())
        if test.steepest is not None:
            axes.axvline(test.steepest, color=GREEN, linestyle=":", label=f"steepest: {test.steepest:.2g}")
        if chosen is not None:
            axes.axvline(chosen, color=ORANGE, linestyle="--", label=f"chosen: {chosen:.2g}")
        axes.legend(loc="lower left")
    return fig


def range_tests(tests: Sequence[RangeTest]) -> Figure:
    """Range tests of several seeds: median and range of their smoothed curves, suggestion and steepest descent of each.

    Args:
      tests: Results of `metrics.range_test` over the same rates, one per seed.
    """
    rates = tests[0].rates
    smoothed = np.stack([test.smoothed for test in tests])
    shown = np.isfinite(smoothed).all(0)
    with figure(5, 3.4) as fig:
        axes = fig.add_subplot(xscale="log", xlabel="learning rate", ylabel="smoothed minibatch loss")
        for test in tests:
            axes.plot(rates, test.losses, color=GRAY, alpha=0.15, linewidth=0.5)
        axes.fill_between(
            rates[shown],
            smoothed[:, shown].min(0),
            smoothed[:, shown].max(0),
            color=BLUE,
            alpha=0.25,
            linewidth=0,
            label=f"lowest to highest of {len(tests)} seeds",
        )
        median = np.median(smoothed[:, shown], axis=0)
        axes.plot(rates[shown], median, color=BLUE, label="median")
        low, high = median.min(), median[0]
        axes.set(xlim=(rates[0], rates[-1]), ylim=(low - 0.3 * (high - low), high + 0.5 * (high - low)))
        bottom = axes.get_xaxis_transform()
        for name, place, color, marker in (("steepest", 0.05, GREEN, "v"), ("suggestion", 0.12, ORANGE, "o")):
            found = [getattr(test, name) for test in tests if getattr(test, name) is not None]
            axes.plot(
                found,
                np.full(len(found), place),
                marker,
                color=color,
                markersize=4,
                alpha=0.8,
                transform=bottom,
                label={"steepest": "steepest descent of each", "suggestion": "suggestion of each"}[name],
            )
        axes.legend(loc="upper left")
    return fig


def grid_search(rates: np.ndarray, values: np.ndarray, chosen: float, *, ylabel: str, log: bool = True) -> Figure:
    """The result of each learning rate: one dot per seed, their median as a line, and a band from lowest to highest.

    Args:
      rates: Learning rates [n], ascending.
      values: Results [n, seeds]; NaN where a member diverged, which is marked at the upper edge.
      chosen: The rate to mark.
      ylabel: Name of the values.
      log: Whether the vertical axis is logarithmic, if all values are positive.
    """
    with figure(5, 3.2) as fig:
        log = log and bool((values[np.isfinite(values)] > 0).all())  # a loss may be negative
        axes = fig.add_subplot(xscale="log", yscale="log" if log else "linear", xlabel="learning rate", ylabel=ylabel)
        whole = np.isfinite(values).all(1)
        axes.fill_between(
            rates[whole],
            values[whole].min(1),
            values[whole].max(1),
            color=BLUE,
            alpha=0.2,
            linewidth=0,
        )
        axes.plot(rates[whole], np.median(values[whole], 1), color=BLUE, label=f"median of {values.shape[1]} seeds")
        axes.plot(np.repeat(rates, values.shape[1]), values.ravel(), ".", color=BLUE, alpha=0.5, markersize=3)
        diverged = np.flatnonzero(~whole)
        if len(diverged):
            axes.plot(
                rates[diverged],
                np.full(len(diverged), 0.97),
                "x",
                color=RED,
                clip_on=False,
                transform=axes.get_xaxis_transform(),
                label="a seed diverged",
            )
        axes.axvline(chosen, color=ORANGE, linestyle="--", label=f"chosen: {chosen:.3g}")
        axes.legend()
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
    with figure(4, 2.6) as fig:
        axes = fig.add_subplot(xlabel="step", ylabel="learning rate")
        for i, (name, values) in enumerate(rates.items()):
            if np.shape(values) != np.shape(steps):
                raise InputError(f"{name} has shape {np.shape(values)}; the steps have {np.shape(steps)}.")
            axes.plot(steps, values, color=CYCLE[i % len(CYCLE)], linestyle=DASHES[i % len(DASHES)], label=name)
        axes.set_ylim(bottom=0)
        axes.legend()
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
        for axes in grid[-1]:
            axes.set_xlabel("step", fontsize=8)
        grid[0, 0].set_ylim(bottom=0)
    return fig
