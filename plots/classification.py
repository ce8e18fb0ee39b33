"""Figures of what a classifier predicts."""

from __future__ import annotations

from collections.abc import Sequence
from textwrap import fill

import numpy as np
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from ..errors import InputError
from .names import drawable
from .style import RED, figure, logarithmic

ANNOTATED_CLASSES = 20  # numbers in the cells are readable up to here
NAMED_CLASSES = 50  # names beside the rows are readable up to here
COLUMNS, LETTERS = 8, 16  # images in a row, and letters of 7 points that are as wide as one


def predictions(
    images: np.ndarray,
    labels: np.ndarray,
    predicted: np.ndarray,
    probabilities: np.ndarray,
    classes: Sequence[str],
) -> Figure:
    """A grid of images with the predicted class and its probability; mistakes are framed and name the true class.

    Args:
      images: Images [n, height, width, channel] uint8, 1 or 3 channels.
      labels: True classes [n].
      predicted: Predicted classes [n].
      probabilities: Probabilities of the predicted classes [n].
      classes: Names of the classes.
    Raises: InputError if the images are not of rank 4 or the lengths differ.
    """
    lengths = {len(labels), len(predicted), len(probabilities), len(images)}
    if np.ndim(images) != 4 or len(lengths) != 1:
        raise InputError(
            "predictions wants images [n, height, width, channel] and n of everything else; they are "
            f"{np.shape(images)}, {np.shape(labels)}, {np.shape(predicted)}, {np.shape(probabilities)}."
        )
    rows = -(-len(images) // COLUMNS)
    names, fonts = drawable(classes, longest=12)
    titles = [
        fill(f"{names[guess]} {100 * probability:.0f}%", LETTERS)
        + ("" if guess == label else "\n" + fill(f"✗ is {names[label]}", LETTERS))
        for label, guess, probability in zip(labels, predicted, probabilities, strict=True)
    ]
    lines = max((title.count("\n") for title in titles), default=0) + 1
    with figure(6.8, (0.93 + 0.11 * lines) * rows + 0.1, fonts) as fig:
        grid = np.atleast_2d(fig.subplots(rows, COLUMNS, squeeze=False))
        for axes in grid.flat:
            axes.set_axis_off()
        for axes, image, label, guess, title in zip(grid.flat, images, labels, predicted, titles, strict=False):
            axes.imshow(image.squeeze(-1) if image.shape[-1] == 1 else image, cmap="gray", vmin=0, vmax=255)
            if guess != label:
                axes.set_axis_on()
                axes.set(xticks=[], yticks=[])
                for spine in axes.spines.values():
                    spine.set(visible=True, color=RED, linewidth=2.5)
            axes.set_title(title, fontsize=7, pad=2, color=RED if guess != label else "black")
    return fig


def confusion_matrix(matrix: np.ndarray, classes: Sequence[str]) -> Figure:
    """Counts of true against predicted classes; color is logarithmic, so that rare mistakes can be seen.

    Args:
      matrix: Counts [classes, classes], rows true, columns predicted.
      classes: Names of the classes.
    Raises: InputError if the matrix is not square in the number of classes.

    >>> confusion_matrix(np.array([[50, 1], [0, 49]]), ("cat", "dog")).axes[0].get_title()
    '1 of 100 wrong'
    """
    matrix, count = np.asarray(matrix), len(classes)
    if matrix.shape != (count, count):
        raise InputError(f"The matrix has shape {matrix.shape}; {count} classes want ({count}, {count}).")
    annotated = count <= ANNOTATED_CLASSES
    size = max(3.8, min(7.0, 0.36 * count + 1.2))
    names, fonts = drawable(classes)
    with figure(size + 0.5, size, fonts) as fig:
        fig.set_layout_engine("compressed")  # for axes of a fixed aspect: the bar is as high as the matrix
        axes = fig.add_subplot(xlabel="predicted class", ylabel="true class")
        norm = LogNorm(1, max(2, matrix.max(initial=0)))
        image = axes.imshow(np.ma.masked_less(matrix, 1), cmap="Blues", norm=norm)
        bar = fig.colorbar(image, label="number of images")
        logarithmic(bar.ax.yaxis)
        ticks = range(0, count, 1 if count <= NAMED_CLASSES else -(-count // 25))
        rotate = 90 if max(map(len, names)) > 2 or count > ANNOTATED_CLASSES else 0
        fontsize = 9 if annotated else 6
        axes.set_xticks(ticks, [names[i] for i in ticks], rotation=rotate, fontsize=fontsize)
        axes.set_yticks(ticks, [names[i] for i in ticks], fontsize=fontsize)
        axes.spines[:].set_visible(False)
        axes.tick_params(length=0)
        if annotated:
            for row, column in zip(*np.nonzero(matrix), strict=True):
                dark = norm(matrix[row, column]) > 0.6
                color = "white" if dark else "black"
                axes.text(
                    column,
                    row,
                    str(matrix[row, column]),
                    ha="center",
                    va="center",
                    color=color,
                    fontsize=8,
                    fontweight="bold" if row != column else "normal",
                )
        correct = np.trace(matrix)
        axes.set_title(f"{matrix.sum() - correct} of {matrix.sum()} wrong")
    return fig
