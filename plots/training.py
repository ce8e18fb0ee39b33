"""Figures of one training: learning curves, and gradient norms with the bounds of the convergence theorem."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from ..errors import InputError
from .names import drawable
from .style import CYCLE, DASHES, GRAY, figure, legend, line, logarithmic, of_seeds, whole


def learning_curves(
    train: Mapping[str, np.ndarray], validation: Mapping[str, np.ndarray], best: float | None = None
) -> Figure:
    """Loss and error against epochs, on training and validation data.

    Args:
      train: "epoch", "loss" and "accuracy", [n] each: means over each epoch's minibatches.
      validation: The same after each epoch.
      best: The epoch whose checkpoint was chosen; None marks none.
    Raises: InputError if the arrays of a split differ in length.

    >>> curves = {"epoch": np.arange(1, 4), "loss": np.array([2, 1, 0.5]), "accuracy": np.array([0.5, 0.7, 0.8])}
    >>> [axes.get_ylabel() for axes in learning_curves(curves, curves).axes]
    ['cross-entropy (nats)', 'error (%)']
    """
    for name, split in (("train", train), ("validation", validation)):
        lengths = {key: len(values) for key, values in split.items()}
        if len(set(lengths.values())) > 1:
            raise InputError(f"The {name} curves must have one length; they have {lengths}.")
    with figure(7.4, 2.8) as fig:
        left, right = fig.subplots(1, 2)
        for i, (split, label) in enumerate(((train, "training"), (validation, "validation"))):
            style = line(i, len(split["epoch"])) | {"label": label}
            left.plot(split["epoch"], split["loss"], **style)
            right.plot(split["epoch"], 100 * (1 - np.asarray(split["accuracy"])), **style)
        left.set(xlabel="epoch", ylabel="cross-entropy (nats)")
        logarithmic(left.yaxis)
        right.set(xlabel="epoch", ylabel="error (%)", yscale="symlog", ylim=(0, 100))
        right.set_yticks([0, 1, 2, 5, 10, 20, 50, 100], ["0", "1", "2", "5", "10", "20", "50", "100"])
        for axes in (left, right):
            if best is not None:
                axes.axvline(best, color=GRAY, linestyle=":", label=f"best, epoch {best:g}")
            whole(axes.xaxis)
        legend(fig, left, right, title="one seed")
    return fig


def compared_curves(curves: Mapping[str, Mapping[str, tuple[np.ndarray, np.ndarray]]]) -> Figure:
    """The curves of several runs, a panel for each measure.

    Args:
      curves: "loss" or "accuracy" -> name of a run -> (epochs [n], values [n]) on validation data; at most six runs.

    >>> one, other = (np.array([1, 2]), np.array([2, 1])), (np.array([1]), np.array([3]))
    >>> [axes.get_ylabel() for axes in compared_curves({"loss": {"a": one, "b": other}}).axes]
    ['validation loss']
    """
    labels = {"loss": "validation loss", "accuracy": "validation error (%)"}
    order = list(dict.fromkeys(run for lines in curves.values() for run in lines))
    names, fonts = drawable(order, longest=60)
    with figure(0.4 + 3.2 * len(curves), 2.9 + 0.18 * len(order), fonts) as fig:
        panels = fig.subplots(1, len(curves), squeeze=False)[0]
        for axes, (measure, lines) in zip(panels, curves.items(), strict=True):
            for run, (epochs, values) in lines.items():
                shown = 100 * (1 - values) if measure == "accuracy" else values
                number = order.index(run)
                # A name that begins with _ would be left out of the legend.
                axes.plot(epochs, shown, **line(number, len(epochs)), label=f" {names[number]}")
            axes.set(xlabel="epoch", ylabel=labels[measure])
            whole(axes.xaxis)
        legend(fig, *panels, below=True)
    return fig


Line = tuple[str, np.ndarray, np.ndarray, np.ndarray, np.ndarray]


def convergence(panels: Sequence[tuple[str, Sequence[Line]]], *, num_columns: int, seeds: int) -> Figure:
    """Squared gradient norms against the number of steps on log-log axes, each with its bound as a thin line.

    Args:
      panels: (title, lines) of each panel, row by row; a line is (label, steps [n], measured [n], standard error [n],
        bound [n]).
      num_columns: Panels per row.
      seeds: Number of seeds that the means and standard errors are over.
    """
    rows = -(-len(panels) // num_columns)
    height = 2.9
    with figure(3.3 * num_columns, height * rows) as fig:
        grid = fig.subplots(rows, num_columns, squeeze=False, sharex=True)
        for axes, (title, lines) in zip(grid.flat, panels, strict=True):
            for i, (label, steps, measured, error, bound) in enumerate(lines):
                style = {"color": CYCLE[i % len(CYCLE)], "linestyle": DASHES[i % len(DASHES)]}
                axes.plot(steps, measured, **style, label=label)
                # An error as large as its mean would end at −∞.
                below = np.maximum(measured - error, measured / 10)
                axes.fill_between(steps, below, measured + error, color=style["color"], alpha=0.25, linewidth=0)
                axes.plot(steps, bound, **style, linewidth=0.6)
            axes.plot([], [], color=GRAY, linewidth=0.6, label="its bound")
            axes.set(xscale="log", yscale="log", title=title)
            # Room below the curves for the legend, of lines of 0.15 inches.
            low, high = np.log10(axes.get_ylim())
            share = 0.15 * (len(lines) + 1.5) / (0.75 * height)
            axes.set_ylim(bottom=10 ** (low - (high - low) * share / (1 - share)))
            logarithmic(axes.yaxis)
            logarithmic(axes.xaxis)
            axes.legend(fontsize=7, loc="lower left")
        for axes in grid[-1]:
            axes.set_xlabel("steps $T$")
        for axes in grid[:, 0]:
            axes.set_ylabel(r"$\min_{t<T}\ \mathbb{E}\,\|\nabla f(\theta_t)\|^2$")
        fig.supxlabel(f"with noise: {of_seeds(seeds, 'mean ± standard error')}; without: one run", fontsize=8)
    return fig
