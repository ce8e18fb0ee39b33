"""Figures of a training run: the range test before it, its schedule, its learning curves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from matplotlib.ticker import FormatStrFormatter, LogLocator, MaxNLocator, NullFormatter, NullLocator

from .style import BLUE, CYCLE, DASHES, GREEN, GREY, ORANGE, RED, figure


def range_test(test: Any, chosen: float | None = None) -> Figure:
    """The curve of a learning-rate range test, its three regions, its steepest descent and the chosen rate.

    Args:
      test: a `metrics.RangeTest`.
      chosen: the rate to mark; None marks none.
    """
    with figure(5, 3.2) as fig:
        axes = fig.add_subplot(xscale="log", xlabel="learning rate", ylabel="minibatch loss")
        axes.plot(test.rates, test.losses, color=GREY, alpha=0.4, linewidth=0.8, label="measured")
        axes.plot(test.rates, test.smoothed, color=BLUE, label="smoothed")
        # The divergence may be orders of magnitude high; what matters lies below the initial loss.
        seen = test.smoothed[np.isfinite(test.smoothed)]
        seen = seen if len(seen) else test.losses[np.isfinite(test.losses)]
        if len(seen):
            first, low = seen[: max(1, len(seen) // 10)].max(), seen.min()
            axes.set_ylim(low - 0.15 * abs(first - low) - 0.05, first + 0.5 * abs(first - low) + 0.05)
        axes.set_xlim(test.rates[0], test.rates[-1])
        if test.descent_start is not None and test.minimum is not None:
            edges = [test.rates[0], test.descent_start, test.minimum, test.rates[-1]]
            for name, color, left, right in zip(
                ("flat", "descent", "divergence"), (GREY, GREEN, RED), edges[:-1], edges[1:], strict=True
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


def range_tests(tests: Sequence[Any]) -> Figure:
    """Range tests of several seeds: the median of their smoothed curves, the band from lowest to highest, and the
    suggestion and the steepest descent of each seed.

    Args:
      tests: `metrics.RangeTest`s over the same rates.
    """
    rates = tests[0].rates
    smoothed = np.stack([test.smoothed for test in tests])
    shown = np.isfinite(smoothed).all(0)
    with figure(5, 3.4) as fig:
        axes = fig.add_subplot(xscale="log", xlabel="learning rate", ylabel="smoothed minibatch loss")
        for test in tests:
            axes.plot(rates, test.losses, color=GREY, alpha=0.15, linewidth=0.5)
        axes.fill_between(
            rates[shown], smoothed[:, shown].min(0), smoothed[:, shown].max(0), color=BLUE, alpha=0.25, linewidth=0,
            label=f"lowest to highest of {len(tests)} seeds",
        )  # fmt: skip
        median = np.median(smoothed[:, shown], axis=0)
        axes.plot(rates[shown], median, color=BLUE, label="median")
        low, high = median.min(), median[0]
        axes.set(xlim=(rates[0], rates[-1]), ylim=(low - 0.3 * (high - low), high + 0.5 * (high - low)))
        bottom = axes.get_xaxis_transform()
        for name, place, color, marker in (("steepest", 0.05, GREEN, "v"), ("suggestion", 0.12, ORANGE, "o")):
            found = [getattr(test, name) for test in tests if getattr(test, name) is not None]
            axes.plot(
                found, np.full(len(found), place), marker, color=color, markersize=4, alpha=0.8, transform=bottom,
                label={"steepest": "steepest descent of each", "suggestion": "suggestion of each"}[name],
            )  # fmt: skip
        axes.legend(loc="upper left")
    return fig


def grid_search(rates: np.ndarray, values: np.ndarray, chosen: float, *, ylabel: str, log: bool = True) -> Figure:
    """What each learning rate led to: one dot per seed, their median as a line, the band from lowest to highest.

    Args:
      rates: [n], ascending.
      values: [n, seeds]; NaN where a member diverged: those are marked at the upper edge.
      chosen: the rate to mark.
      ylabel: what the values are.
      log: a logarithmic vertical axis.
    """
    with figure(5, 3.2) as fig:
        axes = fig.add_subplot(xscale="log", yscale="log" if log else "linear", xlabel="learning rate", ylabel=ylabel)
        whole = np.isfinite(values).all(1)
        axes.fill_between(
            rates[whole], values[whole].min(1), values[whole].max(1), color=BLUE, alpha=0.2, linewidth=0,
        )  # fmt: skip
        axes.plot(rates[whole], np.median(values[whole], 1), color=BLUE, label=f"median of {values.shape[1]} seeds")
        axes.plot(np.repeat(rates, values.shape[1]), values.ravel(), ".", color=BLUE, alpha=0.5, markersize=3)
        diverged = np.flatnonzero(~whole)
        if len(diverged):
            axes.plot(
                rates[diverged], np.full(len(diverged), 0.97), "x", color=RED, clip_on=False,
                transform=axes.get_xaxis_transform(), label="a seed diverged",
            )  # fmt: skip
        axes.axvline(chosen, color=ORANGE, linestyle="--", label=f"chosen: {chosen:.3g}")
        axes.legend()
    return fig


def learning_curves(
    train: Mapping[str, np.ndarray], validation: Mapping[str, np.ndarray], best: float | None = None
) -> Figure:
    """Loss and error against epochs, on training and validation data.

    Args:
      train: "epoch", "loss", "accuracy" [n]: means over each epoch's minibatches.
      validation: the same after each epoch.
      best: the epoch whose checkpoint was chosen.
    Raises: ValueError if the arrays of a split differ in length.
    """
    for name, split in (("train", train), ("validation", validation)):
        lengths = {key: len(values) for key, values in split.items()}
        if len(set(lengths.values())) > 1:
            raise ValueError(f"The {name} curves must be of one length; they are of {lengths}.")
    with figure(6.4, 2.8) as fig:
        left, right = fig.subplots(1, 2)
        for split, label, color, dashes, marker in (
            (train, "training", BLUE, "-", "o"), (validation, "validation", RED, "--", "s")
        ):  # fmt: skip
            style = {"color": color, "linestyle": dashes, "label": label, "marker": marker, "markersize": 2.5}
            left.plot(split["epoch"], split["loss"], **style)
            right.plot(split["epoch"], 100 * (1 - np.asarray(split["accuracy"])), **style)
        left.set(xlabel="epoch", ylabel="cross-entropy (nats)", yscale="log")
        right.set(xlabel="epoch", ylabel="error (%)", yscale="symlog", ylim=(0, 100))
        right.set_yticks([0, 1, 2, 5, 10, 20, 50, 100], ["0", "1", "2", "5", "10", "20", "50", "100"])
        for axes in (left, right):
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
            if best is not None:
                axes.axvline(best, color=GREY, linestyle=":", label=f"best, epoch {best:g}")
        right.legend()
    return fig


def schedule(steps: np.ndarray, rates: Mapping[str, np.ndarray]) -> Figure:
    """Learning rates against steps.

    Args:
      steps: [n].
      rates: name -> [n], one line each.
    Raises: ValueError if a line has another length.
    """
    with figure(4, 2.6) as fig:
        axes = fig.add_subplot(xlabel="step", ylabel="learning rate")
        for i, (name, values) in enumerate(rates.items()):
            if np.shape(values) != np.shape(steps):
                raise ValueError(f"{name} has shape {np.shape(values)}; the steps have {np.shape(steps)}.")
            axes.plot(steps, values, color=CYCLE[i % len(CYCLE)], linestyle=DASHES[i % len(DASHES)], label=name)
        axes.set_ylim(bottom=0)
        axes.legend()
    return fig


def convergence(
    panels: Sequence[tuple[str, Sequence[tuple[str, np.ndarray, np.ndarray, np.ndarray]]]], *, columns: int
) -> Figure:
    """Squared gradient norms against the number of steps on log-log axes, each with its bound dashed.

    Args:
      panels: (title, lines), row by row; a line is (label, steps [n], measured [n], bound [n]).
      columns: panels a row.
    """
    rows = -(-len(panels) // columns)
    with figure(3.3 * columns, 2.9 * rows) as fig:
        grid = fig.subplots(rows, columns, squeeze=False, sharex=True)
        for axes, (title, lines) in zip(grid.flat, panels, strict=True):
            for i, (label, steps, measured, bound) in enumerate(lines):
                axes.plot(steps, measured, color=CYCLE[i % len(CYCLE)], label=label)
                axes.plot(steps, bound, color=CYCLE[i % len(CYCLE)], linestyle="--", linewidth=0.9)
            axes.set(xscale="log", yscale="log", title=title)
            # Room below the curves for the legend.
            axes.set_ylim(bottom=min(measured.min() for _, _, measured, _ in lines) / 10 ** (0.45 * (len(lines) + 1)))
            axes.plot([], [], color=GREY, linestyle="--", linewidth=0.9, label="bound")
            axes.legend(fontsize=7, loc="lower left")
        for axes in grid[-1]:
            axes.set_xlabel("steps $T$")
        for axes in grid[:, 0]:
            axes.set_ylabel(r"$\min_{t<T}\ \mathbb{E}\,\|\nabla f(\theta_t)\|^2$")
    return fig


def race(
    errors: Mapping[str, np.ndarray],
    rates: Mapping[str, float],
    curves: Mapping[str, tuple[np.ndarray, np.ndarray]],
) -> Figure:
    """Who ended where, and how they got there: test errors with their spread over seeds, and validation losses.

    Args:
      errors: entrant -> [seeds] test errors in percent.
      rates: entrant -> its learning rate.
      curves: entrant -> (epochs [n], validation losses [n, seeds]).
    """
    order = sorted(errors, key=lambda name: -errors[name].mean())
    styles = {name: (CYCLE[i % len(CYCLE)], DASHES[i // len(CYCLE) % len(DASHES)]) for i, name in enumerate(errors)}
    with figure(8.2, 0.28 * len(order) + 1.6) as fig:
        left, right = fig.subplots(1, 2, width_ratios=(1, 1.15))
        for place, name in enumerate(order):
            color, values = styles[name][0], errors[name]
            left.errorbar(values.mean(), place, xerr=values.std(), fmt="s", color=color, capsize=3, markersize=4)
            left.plot(values, np.full(len(values), place), ".", color=GREY, markersize=3, alpha=0.6, zorder=0)
        left.set_yticks(range(len(order)), [f"{name.replace('_', ' ')}, α = {rates[name]:.3g}" for name in order])
        left.set(xlabel="test error (%), mean ± std over seeds", ylim=(-0.6, len(order) - 0.4))
        for name, (epochs, losses) in curves.items():
            color, dashes = styles[name]
            right.plot(epochs, np.median(losses, axis=1), color=color, linestyle=dashes, label=name.replace("_", " "))
        right.set(xlabel="epoch", ylabel="validation loss (nats), median", yscale="log")
        fig.legend(*right.get_legend_handles_labels(), loc="outside right upper", fontsize=7)
    return fig


def widths(
    depth: np.ndarray, width: np.ndarray, kind: np.ndarray, measures: Mapping[str, tuple[np.ndarray, np.ndarray]]
) -> Figure:
    """What networks came to against their width: a row of panels for each measure, a column for each depth.

    Args:
      depth: [n]; at 0 the linear model, a line across all panels.
      width: [n].
      kind: [n] names, a line each: activations.
      measures: label -> (means [n], standard deviations [n]).
    """
    depths, kinds = np.unique(depth[depth > 0]), list(dict.fromkeys(kind[depth > 0].tolist()))
    with figure(2.7 * len(depths) + 1.3, 2.2 * len(measures) + 0.3) as fig:
        grid = fig.subplots(len(measures), len(depths), squeeze=False, sharex=True, sharey="row")
        for row, (label, (means, stds)) in zip(grid, measures.items(), strict=True):
            for axes, layers in zip(row, depths, strict=True):
                axes.set(xscale="log", yscale="log")
                axes.axhline(means[depth == 0][0], color=GREY, linewidth=0.9, label="linear model")
                for i, name in enumerate(kinds):
                    shown = (depth == layers) & (kind == name)
                    # Side by side, so that no error bar hides another.
                    aside = 1.05 ** (i - (len(kinds) - 1) / 2)
                    axes.errorbar(
                        aside * width[shown], means[shown], yerr=stds[shown], label=name.replace("_", " "),
                        color=CYCLE[i % len(CYCLE)], linestyle=DASHES[i % len(DASHES)],
                        marker="o", markersize=3, capsize=2, elinewidth=0.8,
                    )  # fmt: skip
            row[0].set_ylabel(label)
            # An error bar as long as its mean would end at −∞.
            row[0].set_ylim(bottom=means.min() / 2)
            row[0].yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            row[0].yaxis.set_major_formatter(FormatStrFormatter("%g"))
            row[0].yaxis.set_minor_locator(NullLocator())
        for axes, layers in zip(grid[0], depths, strict=True):
            axes.set_title(f"{layers:g} hidden layer{'s' if layers > 1 else ''}")
        for axes in grid[-1]:
            axes.set_xlabel("width of a hidden layer")
            present = np.unique(width[depth > 0])
            axes.set_xticks(present, [f"{x:g}" for x in present])
            axes.xaxis.set_minor_locator(NullLocator())
        fig.legend(*grid[0, 0].get_legend_handles_labels(), loc="outside right upper")
    return fig


def gaps(errors: Mapping[str, Mapping[str, np.ndarray]]) -> Figure:
    """Errors of several kinds for each of several trainings, and the gaps between them, in the order of the last kind.

    Args:
      errors: training -> kind of error -> values [seeds] in percent; the same kinds for each.
    """
    names = sorted(errors, key=lambda name: errors[name][list(errors[name])[-1]].mean(), reverse=True)
    kinds = list(next(iter(errors.values())))
    with figure(5.2, 0.32 * len(names) + 0.9) as fig:
        axes = fig.add_subplot(xlabel="error (%)")
        places = np.arange(len(names))
        means = np.array([[errors[name][kind].mean() for name in names] for kind in kinds])
        axes.hlines(places, means.min(0), means.max(0), color=GREY, linewidth=1, zorder=0)
        for kind, mean, color, marker in zip(kinds, means, (BLUE, ORANGE), "os", strict=False):
            spread = [errors[name][kind].std() for name in names]
            axes.errorbar(
                mean, places, xerr=spread, label=kind, color=color, marker=marker, markersize=4, linestyle="none",
                capsize=2, elinewidth=0.9,
            )  # fmt: skip
        axes.set_yticks(places, names)
        axes.set_xlim(left=min(0.0, axes.get_xlim()[0]))
        seeds = len(next(iter(next(iter(errors.values())).values())))
        axes.legend(title=f"mean ± std, {seeds} seeds", loc="best")
    return fig


def depths(curves: Mapping[str, Mapping[int, tuple[np.ndarray, np.ndarray]]]) -> Figure:
    """Errors over training at several depths, a panel for each kind of network: He et al. 2015, figure 6.

    Args:
      curves: kind -> depth -> (epochs [n], errors [n, seeds] in percent); bands go from lowest to highest.
    """
    with figure(2.9 * len(curves) + 1.7, 2.8) as fig:
        row = fig.subplots(1, len(curves), squeeze=False, sharey=True)[0]
        for axes, (kind, of_depth) in zip(row, curves.items(), strict=True):
            axes.set(xlabel="epoch", title=f"{kind} networks")
            # Linear below a tenth of a percent, so that no error at all has a place too.
            axes.set_yscale("symlog", linthresh=0.1)
            for i, (depth, (epochs, errors)) in enumerate(of_depth.items()):
                line = {"color": CYCLE[i % len(CYCLE)], "linestyle": DASHES[i % len(DASHES)]}
                axes.plot(epochs, errors.mean(1), label=f"{depth} layers", **line)
                axes.fill_between(epochs, errors.min(1), errors.max(1), color=line["color"], alpha=0.15, linewidth=0)
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        row[0].set(ylabel="training error (%)", ylim=(0, 110))
        row[0].yaxis.set_major_formatter(FormatStrFormatter("%g"))
        seeds = next(iter(next(iter(curves.values())).values()))[1].shape[1]
        fig.legend(
            *row[0].get_legend_handles_labels(), loc="outside right upper", title=f"mean and range,\n{seeds} seeds"
        )  # fmt: skip
    return fig


def comparison(
    names: Sequence[str], costs: Mapping[str, np.ndarray], errors: np.ndarray, spreads: np.ndarray
) -> Figure:
    """Errors of networks against what they cost, a panel for each kind of cost; cheap and good is at lower left.

    Args:
      names: [n], of the networks.
      costs: label -> [n] positive numbers.
      errors: [n] means over seeds, in percent.
      spreads: [n] their standard deviations.
    """
    # An error of 0 has no place on a logarithmic axis.
    shown = np.maximum(errors, 1e-2)
    height, low, high = 2.9, shown.min() / 1.6, 1.25 * (shown + spreads).max()
    heights = 72 * 0.8 * height * np.log(shown / low) / np.log(high / low)
    lifts = _apart(heights, 9.0) - heights
    with figure(3.0 * len(costs) + 0.4, height) as fig:
        row = fig.subplots(1, len(costs), squeeze=False, sharey=True)[0]
        for axes, (label, cost) in zip(row, costs.items(), strict=True):
            axes.set(xscale="log", yscale="log", xlabel=label, ylim=(low, high))
            # Whole decades, so that two ticks at least have numbers, and room beside the outermost points.
            axes.set_xlim(10 ** np.floor(np.log10(cost.min() / 1.3)), 10 ** np.ceil(np.log10(1.3 * cost.max())))
            axes.xaxis.set_minor_formatter(NullFormatter())
            middle = np.sqrt(cost.min() * cost.max())
            for i, name in enumerate(names):
                color, side = CYCLE[i % len(CYCLE)], 1 if cost[i] <= middle else -1
                axes.errorbar(
                    cost[i], shown[i], yerr=spreads[i], color=color, marker=MARKERS[i // len(CYCLE) % len(MARKERS)],
                    markersize=5, linestyle="none", capsize=2, elinewidth=0.9,
                )  # fmt: skip
                axes.annotate(
                    name, (cost[i], shown[i]), (6 * side, lifts[i]), textcoords="offset points", color=color,
                    fontsize=7, ha="left" if side > 0 else "right", va="center",
                    zorder=4, path_effects=[withStroke(linewidth=2, foreground="white")],  # above others' error bars
                )  # fmt: skip
        row[0].set_ylabel("test error (%), mean ± std over seeds")
        row[0].yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        row[0].yaxis.set_major_formatter(FormatStrFormatter("%g"))
        row[0].yaxis.set_minor_locator(NullLocator())
    return fig


MARKERS = "osD^v"


def _apart(places: np.ndarray, gap: float) -> np.ndarray:
    """Places in the same order, moved up where they are nearer than `gap`."""
    moved = np.array(places, float)
    order = np.argsort(places)
    for below, above in pairwise(order):
        moved[above] = max(moved[above], moved[below] + gap)
    return moved


def gallery(steps: np.ndarray, rates: Mapping[str, np.ndarray]) -> Figure:
    """Every schedule in a panel of its own, as on the slide.

    Args:
      steps: [n].
      rates: name -> [n], relative to the peak.
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
