"""Figures that compare several trainings: races, networks by depth, width and cost, gaps between kinds of errors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FormatStrFormatter

from .style import BLUE, CYCLE, GRAY, GREEN, MARKERS, ORANGE, at, figure, legend, line, logarithmic, of_seeds, whole


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
    number = {name: i for i, name in enumerate(errors)}
    seeds = len(errors[order[0]])
    with figure(9, max(3.2, 0.28 * len(order) + 1.2)) as fig:
        left, right = fig.subplots(1, 2, width_ratios=(1, 1.15))
        for place, name in enumerate(order):
            color, values = CYCLE[number[name] % len(CYCLE)], errors[name]
            left.errorbar(values.mean(), place, xerr=values.std(), fmt="s", color=color, capsize=3, markersize=4)
            left.plot(values, np.full(len(values), place), ".", color=GRAY, markersize=3, alpha=0.6, zorder=0)
        left.set_yticks(range(len(order)), [f"{name.replace('_', ' ')}, α = {rates[name]:.3g}" for name in order])
        left.set(xlabel=f"test error (%), {of_seeds(seeds, 'mean ± std')}", ylim=(-0.6, len(order) - 0.4))
        for name, (epochs, losses) in curves.items():
            style = line(number[name], len(epochs))
            right.plot(epochs, np.median(losses, axis=1), **style, label=name.replace("_", " "))
        right.set(xlabel="epoch", ylabel=f"validation loss (nats), {of_seeds(seeds, 'median')}")
        logarithmic(right.yaxis)
        whole(right.xaxis)
        legend(fig, right)
    return fig


def widths(
    depth: np.ndarray,
    width: np.ndarray,
    kind: np.ndarray,
    measures: Mapping[str, tuple[np.ndarray, np.ndarray]],
    seeds: int,
) -> Figure:
    """Results of networks against their width: a row of panels for each measure, a column for each depth.

    Args:
      depth: Number of hidden layers [n]; 0 is the linear model, drawn as a line across all panels.
      width: Units of a hidden layer [n].
      kind: Names [n], such as those of activations, with a line for each.
      measures: Label -> (means [n], standard deviations [n]).
      seeds: Number of seeds that these are of.
    """
    depths, kinds = np.unique(depth[depth > 0]), list(dict.fromkeys(kind[depth > 0].tolist()))
    with figure(2.7 * len(depths) + 1.5, 2.2 * len(measures) + 0.3) as fig:
        grid = fig.subplots(len(measures), len(depths), squeeze=False, sharex=True, sharey="row")
        for row, (label, (means, stds)) in zip(grid, measures.items(), strict=True):
            for axes, layers in zip(row, depths, strict=True):
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
                        **line(i, int(shown.sum())),
                        capsize=2,
                        elinewidth=0.8,
                    )
            row[0].set_ylabel(label)
            # An error bar as long as its mean would end at −∞.
            row[0].set_ylim(means.min() / 2, 1.3 * (means + stds).max())
            logarithmic(row[0].yaxis)
        for axes, layers in zip(grid[0], depths, strict=True):
            axes.set_title(f"{layers:g} hidden layer{'s' if layers > 1 else ''}")
        for axes in grid[-1]:
            axes.set_xlabel("width of a hidden layer")
            logarithmic(axes.xaxis)
            at(axes.xaxis, width[depth > 0])
        legend(fig, grid[0, 0], title=of_seeds(seeds, "mean ± std"))
    return fig


def gaps(errors: Mapping[str, Mapping[str, np.ndarray]]) -> Figure:
    """Errors of several kinds for each training, and the gaps between them, in the order of the last kind.

    Args:
      errors: Training -> kind of error -> values [seeds] in percent; the same kinds for each.
    """
    names = sorted(errors, key=lambda name: errors[name][list(errors[name])[-1]].mean(), reverse=True)
    kinds = list(next(iter(errors.values())))
    with figure(6, 0.36 * len(names) + 0.9) as fig:
        axes = fig.add_subplot(xlabel="error (%)")
        places = np.arange(len(names))
        means = np.array([[errors[name][kind].mean() for name in names] for kind in kinds])
        axes.hlines(places, means.min(0), means.max(0), color=GRAY, linewidth=1, zorder=0)
        # One above the other, so that no error bar hides another.
        aside = 0.16 * ((len(kinds) - 1) / 2 - np.arange(len(kinds)))
        for kind, mean, color, marker, up in zip(kinds, means, (BLUE, ORANGE, GREEN), MARKERS, aside, strict=False):
            spread = [errors[name][kind].std() for name in names]
            axes.errorbar(
                mean,
                places + up,
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
        legend(fig, axes, title=of_seeds(seeds, "mean ± std"))
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
                style = line(i, len(epochs))
                axes.plot(epochs, errors.mean(1), label=f"{depth} layers", **style)
                axes.fill_between(epochs, errors.min(1), errors.max(1), color=style["color"], alpha=0.15, linewidth=0)
            whole(axes.xaxis)
        row[0].set(ylabel="training error (%)", ylim=(-0.01, 110))
        row[0].yaxis.set_major_formatter(FormatStrFormatter("%g"))
        seeds = next(iter(next(iter(curves.values())).values()))[1].shape[1]
        legend(fig, *row, title=of_seeds(seeds, "mean and range"))
    return fig


def comparison(
    names: Sequence[str], costs: Mapping[str, np.ndarray], errors: np.ndarray, spreads: np.ndarray, seeds: int
) -> Figure:
    """Errors of networks against their costs, a panel for each kind of cost; cheap and good is at the lower left.

    Args:
      names: Names of the networks, [n].
      costs: Label -> costs [n], positive.
      errors: Means over seeds [n], in percent.
      spreads: Standard deviations over seeds [n], in percent.
      seeds: Number of seeds.
    """
    # An error of 0 has no place on a logarithmic axis.
    shown = np.maximum(errors, 1e-2)
    limits = shown.min() / 1.6, 1.25 * (shown + spreads).max()
    with figure(2.7 * len(costs) + 1.6, max(2.9, 0.17 * len(names) + 0.4)) as fig:
        row = fig.subplots(1, len(costs), squeeze=False, sharey=True)[0]
        for axes, (label, cost) in zip(row, costs.items(), strict=True):
            for i in np.argsort(-shown, kind="stable"):
                axes.errorbar(
                    cost[i],
                    shown[i],
                    yerr=spreads[i],
                    label=names[i],
                    color=CYCLE[i % len(CYCLE)],
                    marker=MARKERS[i % len(MARKERS)],
                    markersize=5,
                    linestyle="none",
                    capsize=2,
                    elinewidth=0.9,
                )
            room = (cost.max() / cost.min()) ** 0.05 * 1.2  # beside the outermost points
            axes.set(xlabel=label, xlim=(cost.min() / room, room * cost.max()), ylim=limits)
            logarithmic(axes.xaxis)
        row[0].set_ylabel(f"test error (%), {of_seeds(seeds, 'mean ± std')}")
        logarithmic(row[0].yaxis)
        legend(fig, row[0])
    return fig
