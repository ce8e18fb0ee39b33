"""The grids of cells of a single-pass detector: where cells are, and the anchor boxes around them.

A level with stride s covers an image with cells of s × s pixels. Cells are counted level by level, row by row. A
network that predicts [batch, height, width, ...] for each level has the same order once the grids are flattened and
joined.
Everything here is a constant of the network, made with numpy.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ...errors import InputError


class Level(NamedTuple):
    """One grid of cells."""

    stride: int
    """Side of a cell, in pixels of the image."""
    height: int
    """Number of rows."""
    width: int
    """Number of columns."""


def grid_levels(height: int, width: int, strides: Sequence[int]) -> tuple[Level, ...]:
    """The grids that cover an image; the last row and column may reach beyond it.

    Args:
      height: of the image, in pixels.
      width: of the image, in pixels.
      strides: of each level, in pixels, ascending.
    Returns: the levels.
    Raises: InputError if a number is below 1, or if the strides do not ascend.

    >>> grid_levels(64, 100, (8, 16))
    (Level(stride=8, height=8, width=13), Level(stride=16, height=4, width=7))
    """
    if min(height, width, *strides, 1) < 1 or not strides:
        raise InputError(f"A grid for {height} × {width} with strides {tuple(strides)}: each must be at least 1.")
    if any(a >= b for a, b in itertools.pairwise(strides)):
        raise InputError(f"strides are {tuple(strides)}; they must ascend.")
    return tuple(Level(stride, -(-height // stride), -(-width // stride)) for stride in strides)


def cell_centers(levels: Sequence[Level]) -> np.ndarray:
    """Centers (x, y) of all cells in pixels, [cells, 2] float32.

    >>> cell_centers([Level(stride=8, height=1, width=2)]).tolist()
    [[4.0, 4.0], [12.0, 4.0]]
    """
    grids = []
    for stride, height, width in levels:
        y, x = np.indices((height, width)).reshape(2, -1)
        grids.append((np.stack([x, y], -1) + 0.5) * stride)
    return np.concatenate(grids).astype(np.float32)


def cell_levels(levels: Sequence[Level]) -> np.ndarray:
    """The number of each cell's level, from 0 on, [cells] int32."""
    return np.repeat(np.arange(len(levels), dtype=np.int32), [level.height * level.width for level in levels])


def cell_strides(levels: Sequence[Level]) -> np.ndarray:
    """The side of each cell in pixels, [cells] float32."""
    return np.array([level.stride for level in levels], np.float32)[cell_levels(levels)]


def anchor_boxes(
    levels: Sequence[Level],
    *,
    scales: Sequence[float] = (4.0, 4.0 * 2 ** (1 / 3), 4.0 * 2 ** (2 / 3)),
    ratios: Sequence[float] = (0.5, 1.0, 2.0),
) -> np.ndarray:
    """Anchors around the center of each cell: one for each scale and ratio, with area (scale · stride)².

    Args:
      levels: the grids.
      scales: sides of square anchors, in strides.
      ratios: height / width.
    Returns: [cells · len(scales) · len(ratios), 4] float32 corners in pixels; the anchors of a cell are neighbors, and
      scales change more slowly than ratios.
    Raises: InputError if a scale or ratio is not positive.
    Source: Ren et al. 2015, section 3.1.1; the default scales are those of Lin et al. 2017, section 4.

    >>> anchor_boxes([Level(8, 1, 1)], scales=[2], ratios=[1, 4]).tolist()
    [[-4.0, -4.0, 12.0, 12.0], [0.0, -12.0, 8.0, 20.0]]
    """
    if min(*scales, *ratios, 1) <= 0:
        raise InputError(f"scales are {tuple(scales)} and ratios {tuple(ratios)}; all must be positive.")
    shapes = np.array([(scale / ratio**0.5, scale * ratio**0.5) for scale in scales for ratio in ratios])
    half = shapes * cell_strides(levels)[:, None, None] / 2  # [cells, shapes, (x, y)]
    centers = cell_centers(levels)[:, None]
    return np.concatenate([centers - half, centers + half], -1).reshape(-1, 4).astype(np.float32)
