"""Figures of a training run: the range test before it, its schedule, its learning curves."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.figure import Figure

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
