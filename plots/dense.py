"""Figures of classes and objects in images, beside the truth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import hsv_to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle

from ..errors import InputError
from .names import drawable
from .style import figure

TURN = 0.6180339887498949  # of the hues: each class is far from those before it
VOID = (1.0, 1.0, 1.0)
LUMINANCE = np.array([0.2126, 0.7152, 0.0722])  # of red, green and blue (ITU-R BT.709)
SIDE = 1.1  # inches of an image
PAIRS = 2  # examples in a row
PAIR_SIDE, COLUMNS_OF_PAIRS = 1.7, 2


def class_colors(number: int) -> np.ndarray:
    """A color for each class, float [number, 3]: hues in golden turns, each third of them darker or paler.

    >>> class_colors(3).shape
    (3, 3)
    """
    index = np.arange(number)
    saturation, value = np.array([0.85, 0.55, 0.9])[index % 3], np.array([0.9, 0.95, 0.55])[index % 3]
    return hsv_to_rgb(np.stack([index * TURN % 1, saturation, value], -1)) if number else np.zeros((0, 3))


def color_map(classes: np.ndarray, number: int) -> np.ndarray:
    """Maps of classes as colors: [..., height, width] integers -> float [..., height, width, 3]; −1 is white."""
    return np.concatenate([class_colors(number), [VOID]])[classes]


def segmentations(
    images: np.ndarray,
    truth: np.ndarray,
    predicted: np.ndarray,
    classes: Sequence[str],
    *,
    ids: tuple[np.ndarray, np.ndarray] | None = None,
    source: str = "",
) -> Figure:
    """Images beside the true and the predicted classes of their pixels.

    Args:
      images: Images [n, height, width, channel] uint8, 1 or 3 channels.
      truth: True classes [n, height, width], −1 where there is none.
      predicted: Predicted classes [n, height, width].
      classes: Names of the classes.
      ids: Ids of the segments in truth and prediction, each [n, height, width], around which lines are drawn; or None.
      source: Whose pictures these are, below the figure.
    Raises: InputError if the shapes do not belong together.
    """
    if np.ndim(images) != 4 or not np.shape(images)[:3] == np.shape(truth) == np.shape(predicted):
        raise InputError(
            "segmentations wants images [n, height, width, channel] and classes [n, height, width]; they are "
            f"{np.shape(images)}, {np.shape(truth)}, {np.shape(predicted)}."
        )
    count, height, width, _ = images.shape
    rows, shown = -(-count // PAIRS), [int(label) for label in np.unique([truth, predicted]) if label >= 0]
    names, fonts = drawable(classes, longest=20)
    colors = class_colors(len(classes))
    with figure(3 * PAIRS * SIDE + 1.6, rows * SIDE * height / width + 0.4, fonts) as fig:
        fig.set_layout_engine("compressed")
        grid = np.atleast_2d(fig.subplots(rows, 3 * PAIRS, squeeze=False))
        for axes in grid.flat:
            axes.set_axis_off()
        for axes, title in zip(grid[0], ("image", "truth", "prediction") * min(count, PAIRS), strict=False):
            axes.set_title(title)
        for i, axes in enumerate(grid.reshape(-1, 3)[:count]):
            _show(axes[0], images[i])
            for j, maps in ((1, truth), (2, predicted)):
                axes[j].imshow(color_map(maps[i], len(classes)), interpolation="nearest")
                if ids is not None:
                    axes[j].add_collection(_borders(ids[j - 1][i]))
        handles = [Patch(color=colors[label], label=names[label]) for label in shown]
        if (np.asarray(truth) < 0).any():
            handles.append(Patch(facecolor=VOID, edgecolor="gray", label="no class"))
        fig.legend(handles=handles, loc="outside right upper", alignment="left")
        if source:
            fig.supxlabel(source, fontsize=6)
    return fig


def detections(
    images: np.ndarray,
    truth: Mapping[str, np.ndarray],
    found: Mapping[str, np.ndarray],
    classes: Sequence[str],
    *,
    least_score: float = 0.3,
    source: str = "",
) -> Figure:
    """Images with the boxes that are there, and with those that were found, with names and scores.

    Args:
      images: Images [n, height, width, channel] uint8, 1 or 3 channels.
      truth: "boxes" [n, objects, 4] and "labels" [n, objects], −1 for none; perhaps "masks" [n, objects, height,
        width].
      found: The same and "scores" [n, objects].
      classes: Names of the classes.
      least_score: Objects of lower scores are not drawn.
      source: Whose pictures these are, below the figure.
    Raises: InputError if the numbers of images differ.
    """
    if not len(images) == len(truth["boxes"]) == len(found["boxes"]):
        raise InputError(
            f"detections wants as many images as annotations; they are {len(images)}, {len(truth['boxes'])} and "
            f"{len(found['boxes'])}."
        )
    count, height, width, _ = images.shape
    columns = 2 * COLUMNS_OF_PAIRS
    names, fonts = drawable(classes, longest=14)
    colors = class_colors(len(classes))
    rows = -(-count // COLUMNS_OF_PAIRS)
    with figure(columns * PAIR_SIDE + 0.2, rows * PAIR_SIDE * height / width + 0.5, fonts) as fig:
        fig.set_layout_engine("compressed")
        grid = np.atleast_2d(fig.subplots(rows, columns, squeeze=False))
        for axes in grid.flat:
            axes.set_axis_off()
        for axes, title in zip(grid[0], ("truth", "found") * min(count, COLUMNS_OF_PAIRS), strict=False):
            axes.set_title(title)
        for i, pair in enumerate(grid.reshape(-1, 2)[:count]):
            for axes, objects in zip(pair, (truth, found), strict=True):
                _show(axes, images[i])
                _draw_objects(axes, {name: each[i] for name, each in objects.items()}, names, colors, least_score)
        if source:
            fig.supxlabel(source, fontsize=6)
    return fig


def objects_in(
    image: np.ndarray, objects: Mapping[str, np.ndarray], classes: Sequence[str], *, longer_side: float = 6.0
) -> Figure:
    """One image with the objects that were found in it.

    Args:
      image: [height, width, channel] uint8, 1 or 3 channels.
      objects: "boxes" [n, 4], "labels" [n], "scores" [n] and perhaps "masks" [n, height, width].
      classes: names of the classes.
      longer_side: of the figure, in inches.
    """
    height, width = image.shape[:2]
    names, fonts = drawable(classes)
    scale = longer_side / max(height, width)
    with figure(max(width * scale, 0.5), max(height * scale, 0.5), fonts) as fig:
        fig.set_layout_engine("none")  # the image is the whole figure
        axes = fig.add_axes((0, 0, 1, 1))
        axes.set_axis_off()
        _show(axes, image)
        _draw_objects(axes, objects, names, class_colors(len(classes)), 0.0, fontsize=8)
    return fig


def segments_in(image: np.ndarray, classes: np.ndarray, names: Sequence[str], *, longer_side: float = 6.0) -> Figure:
    """One image under the colors of its pixels' classes, with a legend.

    Args:
      image: [height, width, channel] uint8, 1 or 3 channels.
      classes: [height, width] integers, −1 for none.
      names: of the classes.
      longer_side: of the image, in inches.
    """
    height, width = image.shape[:2]
    written, fonts = drawable(names, longest=20)
    scale, colors = longer_side / max(height, width), class_colors(len(names))
    with figure(max(width * scale, 1) + 1.6, max(height * scale, 1), fonts) as fig:
        axes = fig.subplots()
        axes.set_axis_off()
        _show(axes, image)
        layer = np.concatenate([color_map(classes, len(names)), np.full((height, width, 1), 0.5)], -1)
        layer[classes < 0, -1] = 0
        axes.imshow(layer, interpolation="nearest")
        shown = [int(label) for label in np.unique(classes) if label >= 0]
        handles = [Patch(color=colors[label], label=written[label]) for label in shown]
        fig.legend(handles=handles, loc="outside right upper", alignment="left")
    return fig


def _draw_objects(
    axes: Axes,
    objects: Mapping[str, np.ndarray],
    names: list[str],
    colors: np.ndarray,
    least_score: float,
    fontsize: float = 5,
) -> None:
    """Boxes, names and masks of the objects of one image over it."""
    right, bottom = axes.get_xlim()[1], axes.get_ylim()[0]
    width, height = right + 0.5, bottom + 0.5
    for j, label in enumerate(objects["labels"]):
        score = objects["scores"][j] if "scores" in objects else None
        if label < 0 or (score is not None and score < least_score):
            continue
        if "masks" in objects:
            layer = np.concatenate([colors[label], [0.5]]) * (objects["masks"][j] > 0)[..., None]
            axes.imshow(layer, interpolation="nearest")
        x0, y0, x1, y1 = objects["boxes"][j] - 0.5  # pixel 0 is drawn around 0
        axes.add_patch(Rectangle((x0, y0), x1 - x0, y1 - y0, fill=False, color=colors[label], linewidth=1.2))
        axes.text(
            min(max(x0, 0), 0.75 * width),
            y0,
            names[label] if score is None else f"{names[label]} {score:.2f}",
            fontsize=fontsize,
            va="top" if y0 < 0.08 * height else "bottom",  # inside of a box that has no room above it
            color="white" if colors[label] @ LUMINANCE < 0.6 else "black",
            clip_on=True,
            bbox={"facecolor": colors[label], "edgecolor": "none", "pad": 0.4},
        )
    axes.set(xlim=(-0.5, right), ylim=(bottom, -0.5))


def _show(axes: Axes, image: np.ndarray) -> None:
    axes.imshow(image.squeeze(-1) if image.shape[-1] == 1 else image, cmap="gray", vmin=0, vmax=255)


def _borders(ids: np.ndarray) -> LineCollection:
    """Lines between pixels [height, width] of different ids."""
    rows, columns = np.nonzero(ids[:, 1:] != ids[:, :-1])
    upright = np.stack([[columns + 0.5, rows - 0.5], [columns + 0.5, rows + 0.5]]).transpose(2, 0, 1)
    rows, columns = np.nonzero(ids[1:] != ids[:-1])
    level = np.stack([[columns - 0.5, rows + 0.5], [columns + 0.5, rows + 0.5]]).transpose(2, 0, 1)
    return LineCollection(list(np.concatenate([upright, level])), colors="black", linewidths=0.8)
