"""Figures of generated images: grids with named rows and columns, latent maps, training curves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from ..errors import InputError
from .names import drawable
from .style import GRAY, figure, legend, line, whole

LARGEST = 0.7  # inches of an image


def image_grid(
    images: np.ndarray,
    rows: Sequence[str] = (),
    columns: Sequence[str] = (),
    *,
    xlabel: str = "",
    ylabel: str = "",
    width: float = 5.5,
) -> Figure:
    """Images as they are, side by side: samples of each class, over training time, along a path.

    Args:
      images: Images [rows, columns, height, width, channel] uint8, 1 or 3 channels.
      rows: Names of the rows, or none.
      columns: Names of the columns, or none.
      xlabel: Label of the columns.
      ylabel: Label of the rows.
      width: Largest width of the figure, in inches; that of few images is smaller.
    Raises: InputError for other shapes.

    >>> figure = image_grid(np.zeros((2, 3, 8, 8, 1), np.uint8), rows=["a", "b"])
    >>> [tick.get_text() for tick in figure.axes[0].get_yticklabels()]
    ['a', 'b']
    """
    shape = np.shape(images)
    if len(shape) != 5 or (rows and len(rows) != shape[0]) or (columns and len(columns) != shape[1]):
        raise InputError(
            f"image_grid wants images [rows, columns, height, width, channel] and a name for each row and column; they "
            f"are {shape}, {len(rows)} and {len(columns)}."
        )
    count, across, tall, wide, channels = shape
    gap = max(1, tall // 8)  # white, between the images
    canvas = np.full((count * (tall + gap) - gap, across * (wide + gap) - gap, channels), 255, np.uint8)
    for i in range(count):
        for j in range(across):
            top, left = i * (tall + gap), j * (wide + gap)
            canvas[top : top + tall, left : left + wide] = images[i, j]
    # Approximately what the names leave; any excess on one side would stay white.
    rows, fonts = drawable(rows)
    names = 0.1 + 0.2 * bool(ylabel) + 0.07 * max(map(len, rows), default=0)
    width = min(width, names + LARGEST * across)
    across_inches = width - names
    height = across_inches * canvas.shape[0] / canvas.shape[1] + 0.2 + 0.2 * bool(xlabel) + 0.2 * bool(columns)
    with figure(width, height, fonts) as fig:
        fig.set_layout_engine("compressed")  # for axes of a fixed aspect; "constrained" cuts off their labels
        axes = fig.add_subplot(xlabel=xlabel, ylabel=ylabel)
        axes.imshow(
            canvas.squeeze(-1) if channels == 1 else canvas, cmap="gray", vmin=0, vmax=255, interpolation="nearest"
        )
        axes.set_yticks((np.arange(count) * (tall + gap) + (tall - 1) / 2) if rows else [], rows or [])
        axes.set_xticks((np.arange(across) * (wide + gap) + (wide - 1) / 2) if columns else [], columns or [])
        axes.tick_params(length=0)
        for spine in axes.spines.values():
            spine.set_visible(False)
    return fig


def latent_map(points: np.ndarray, labels: np.ndarray, classes: Sequence[str], axis: str = "latent") -> Figure:
    """Where examples lie in a latent space of two dimensions: each one drawn as the name of its class.

    Args:
      points: Places in the latent space [n, 2].
      labels: Classes [n], integers.
      classes: Names of the classes; long ones are explained in a legend.
      axis: Name of the dimensions.
    Raises: InputError for other shapes.
    """
    if np.ndim(points) != 2 or np.shape(points)[1] != 2 or len(points) != len(labels):
        raise InputError(
            f"latent_map wants points [n, 2] and n labels; they are {np.shape(points)} and {len(labels)} labels."
        )
    colors = [f"C{i}" for i in range(10)]
    names, fonts = drawable(classes)
    short = max(map(len, names)) <= 2
    columns = -(-len(names) // 22)
    with figure(4.6 if short else 4.8 + 1.5 * columns, 4.4, fonts) as fig:
        axes = fig.add_subplot(xlabel=f"{axis} 1", ylabel=f"{axis} 2", aspect="equal", adjustable="datalim")
        axes.plot(points[:, 0], points[:, 1], alpha=0)  # sets the limits
        for (x, y), label in zip(points, labels, strict=True):
            axes.text(
                x,
                y,
                names[label] if short else str(label),
                color=colors[label % 10],
                fontsize=6,
                ha="center",
                va="center",
                clip_on=True,
            )
        if not short:
            for i, name in enumerate(names):
                # A legend leaves out labels that begin with "_".
                label = f" {name}" if name.startswith("_") else name
                axes.plot([], [], " ", marker=f"${i}$", color=colors[i % 10], label=label)
            fig.legend(loc="outside right upper", handletextpad=0.2, ncols=columns)
    return fig


def loss_curves(
    train: Mapping[str, np.ndarray], validation: Mapping[str, np.ndarray], names: Mapping[str, str], best: float | None
) -> Figure:
    """Metrics over the epochs, a panel each.

    Args:
      train: "epoch" [n] and metrics [n], as means over the epoch's minibatches.
      validation: The same, after each epoch.
      names: Metric -> label of its axis; metrics that neither has are left out.
      best: The epoch to mark, or None.
    """
    shown = [name for name in names if name in train or name in validation]
    with figure(1.6 + 2.7 * len(shown), 2.8) as fig:
        panels = fig.subplots(1, len(shown), squeeze=False)[0]
        for axes, name in zip(panels, shown, strict=True):
            for i, (label, curve) in enumerate((("training", train), ("validation", validation))):
                if name in curve:
                    axes.plot(curve["epoch"], curve[name], **line(i, len(curve["epoch"])), label=label)
            if best is not None:
                axes.axvline(best, color=GRAY, linestyle=":", label=f"best epoch: {best:.0f}")
            axes.set(xlabel="epoch", ylabel=names[name])
            whole(axes.xaxis)
        legend(fig, *panels, title="one seed")
    return fig
