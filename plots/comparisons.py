"""Figures that compare several trainings: races, networks by depth, width and cost, gaps between kinds of errors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from matplotlib.ticker import FormatStrFormatter, LogLocator, MaxNLocator, NullFormatter, NullLocator

from .style import BLUE, CYCLE, DASHES, GRAY, ORANGE, figure


def race(
    errors: Mapping[str, np.ndarray],
    rates: Mapping[str, float],
    curves: Mapping[str, tuple[np.ndarray, np.ndarray]],
) -> Figure:
    """Test errors of all entrants with their spread over seeds, and their validation losses over training.

    Args:
      errors: Entrant -> test errors [seeds] in percent.
      rates: Entrant -> its learning rate.
      curves: Entrant -> (epochs [n], validation losses [n, seeds]).
    """
    order = sorted(errors, key=lambda name: -errors[name].mean())
    styles = {name: (CYCLE[i % len(CYCLE)], DASHES[i // len(CYCLE) % len(DASHES)]) for i, name in enumerate(errors)}
    with figure(8.2, 0.28 * len(order) + 1.6) as fig:
        left, right = fig.subplots(1, 2, width_ratios=(1, 1.15))
        for place, name in enumerate(order):
            color, values = styles[name][0], errors[name]
            left.errorbar(values.mean(), place, xerr=values.std(), fmt="s", color=color, capsize=3, markersize=4)
            left.plot(values, np.full(len(values), place), ".", color=GRAY, markersize=3, alpha=0.6, zorder=0)
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
    """Results of networks against their width: a row of panels for each measure, a column for each depth.

    Args:
      depth: Number of hidden layers [n]; 0 is the linear model, drawn as a line across all panels.
      width: Units of a hidden layer [n].
      kind: Names [n], such as those of activations, with a line for each.
      measures: Label -> (means [n], standard deviations [n]).
    """
    depths, kinds = np.unique(depth[depth > 0]), list(dict.fromkeys(kind[depth > 0].tolist()))
    with figure(2.7 * len(depths) + 1.3, 2.2 * len(measures) + 0.3) as fig:
        grid = fig.subplots(len(measures), len(depths), squeeze=False, sharex=True, sharey="row")
        for row, (label, (means, stds)) in zip(grid, measures.items(), strict=True):
            for axes, layers in zip(row, depths, strict=True):
                axes.set(xscale="log", yscale="log")
                axes.axhline(means[depth == 0][0], color=GRAY, linewidth=0.9, label="linear model")
                for i, name in enumerate(kinds):
                    shown = (depth == layers) & (kind == name)
                    # Side by side, so that no error bar hides another.
                    aside = 1.05 ** (i - (len(kinds) - 1) / 2)
                    axes.errorbar(
                        aside * width[shown],
                        means[shown],
                        yerr=stds[shown],
                        label=name.replace("_", " "),
                        color=CYCLE[i % len(CYCLE)],
                        linestyle=DASHES[i % len(DASHES)],
                        marker="o",
                        markersize=3,
                        capsize=2,
                        elinewidth=0.8,
                    )
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
    """Errors of several kinds for each training, and the gaps between them, in the order of the last kind.

    Args:
      errors: Training -> kind of error -> values [seeds] in percent; the same kinds for each.
    """
    names = sorted(errors, key=lambda name: errors[name][list(errors[name])[-1]].mean(), reverse=True)
    kinds = list(next(iter(errors.values())))
    with figure(5.2, 0.32 * len(names) + 0.9) as fig:
        axes = fig.add_subplot(xlabel="error (%)")
        places = np.arange(len(names))
        means = np.array([[errors[name][kind].mean() for name in names] for kind in kinds])
        axes.hlines(places, means.min(0), means.max(0), color=GRAY, linewidth=1, zorder=0)
        for kind, mean, color, marker in zip(kinds, means, (BLUE, ORANGE), "os", strict=False):
            spread = [errors[name][kind].std() for name in names]
            axes.errorbar(
                mean,
                places,
                xerr=spread,
                label=kind,
                color=color,
                marker=marker,
                markersize=4,
                linestyle="none",
                capsize=2,
                elinewidth=0.9,
            )
        axes.set_yticks(places, names)
        axes.set_xlim(left=min(0.0, axes.get_xlim()[0]))
        seeds = len(next(iter(next(iter(errors.values())).values())))
        axes.legend(title=f"mean ± std, {seeds} seeds", loc="best")
    return fig


def depths(curves: Mapping[str, Mapping[int, tuple[np.ndarray, np.ndarray]]]) -> Figure:
    """Errors over training at several depths, a panel for each kind of network: He et al. 2015, figure 6.

    Args:
      curves: Kind -> depth -> (epochs [n], errors [n, seeds] in percent); bands go from lowest to highest.
    """
    with figure(2.9 * len(curves) + 1.7, 2.8) as fig:
        row = fig.subplots(1, len(curves), squeeze=False, sharey=True)[0]
        for axes, (kind, of_depth) in zip(row, curves.items(), strict=True):
            axes.set(xlabel="epoch", title=f"{kind} networks")
            # Linear below a tenth of a percent, so that an error of 0 has a place too.
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
        )
    return fig


def comparison(
    names: Sequence[str], costs: Mapping[str, np.ndarray], errors: np.ndarray, spreads: np.ndarray
) -> Figure:
    """Errors of networks against their costs, a panel for each kind of cost; cheap and good is at the lower left.

    Args:
      names: Names of the networks, [n].
      costs: Label -> costs [n], positive.
      errors: Means over seeds [n], in percent.
      spreads: Standard deviations over seeds [n], in percent.
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
            # Whole decades, so that at least two ticks have numbers, and room beside the outermost points.
            axes.set_xlim(10 ** np.floor(np.log10(cost.min() / 1.3)), 10 ** np.ceil(np.log10(1.3 * cost.max())))
            axes.xaxis.set_minor_formatter(NullFormatter())
            middle = np.sqrt(cost.min() * cost.max())
            for i, name in enumerate(names):
                color, side = CYCLE[i % len(CYCLE)], 1 if cost[i] <= middle else -1
                axes.errorbar(
                    cost[i],
                    shown[i],
                    yerr=spreads[i],
                    color=color,
                    marker=MARKERS[i // len(CYCLE) % len(MARKERS)],
                    markersize=5,
                    linestyle="none",
                    capsize=2,
                    elinewidth=0.9,
                )
                axes.annotate(
                    name,
                    (cost[i], shown[i]),
                    (6 * side, lifts[i]),
                    textcoords="offset points",
                    color=color,
                    fontsize=7,
                    ha="left" if side > 0 else "right",
                    va="center",
                    zorder=4,
                    path_effects=[withStroke(linewidth=2, foreground="white")],  # above others' error bars
                )
        row[0].set_ylabel("test error (%), mean ± std over seeds")
        row[0].yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        row[0].yaxis.set_major_formatter(FormatStrFormatter("%g"))
        row[0].yaxis.set_minor_locator(NullLocator())
    return fig


MARKERS = "osD^v"


def _apart(places: np.ndarray, gap: float) -> np.ndarray:
    """The places in the same order, moved up where two are closer than `gap`."""
    moved = np.array(places, float)
    order = np.argsort(places)
    for below, above in pairwise(order):
        moved[above] = max(moved[above], moved[below] + gap)
    return moved
