"""Boxes: their two forms, how much they overlap, and losses that are 1 − overlap.

A box is (x0, y0, x1, y1) in pixels, x to the right and y down, with area (x1 − x0)·(y1 − y0). A side that is negative
counts as 0. The measures of overlap here compare boxes pair by pair and broadcast. `pairwise_iou` compares every box
with every other one. All of them are finite, with finite gradients, for boxes without area: a box of zeros, as padding
is, overlaps with nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp

from ..errors import InputError

# Areas and squared lengths (in pixels²) below this are taken as 0: 1 / EMPTY² is still a float32.
EMPTY = 1e-12


def corners_to_center(boxes: jax.Array) -> jax.Array:
    """Corners (x0, y0, x1, y1) -> (center x, center y, height, width), the form on the lecture's slide.

    The height stands before the width. Other codebases write (center x, center y, width, height).

    Args:
      boxes: [..., 4] corners.
    Returns: [..., 4], same units.
    Raises: InputError if the last axis is not 4.

    >>> print(corners_to_center(jnp.array([10.0, 20, 30, 60])))
    [20. 40. 40. 20.]
    """
    _check("corners_to_center", boxes)
    x0, y0, x1, y1 = jnp.moveaxis(boxes, -1, 0)
    return jnp.stack([(x0 + x1) / 2, (y0 + y1) / 2, y1 - y0, x1 - x0], -1)


def center_to_corners(boxes: jax.Array) -> jax.Array:
    """(center x, center y, height, width) -> corners (x0, y0, x1, y1): the inverse of `corners_to_center`.

    Args:
      boxes: [..., 4], height before width.
    Returns: [..., 4] corners, same units.
    Raises: InputError if the last axis is not 4.

    >>> print(center_to_corners(jnp.array([20.0, 40, 40, 20])))
    [10. 20. 30. 60.]
    """
    _check("center_to_corners", boxes)
    x, y, height, width = jnp.moveaxis(boxes, -1, 0)
    return jnp.stack([x - width / 2, y - height / 2, x + width / 2, y + height / 2], -1)


def box_area(boxes: jax.Array) -> jax.Array:
    """(x1 − x0)·(y1 − y0) in pixels², 0 where a side is negative.

    Args:
      boxes: [..., 4] corners.
    Returns: [...] float32.
    Raises: InputError if the last axis is not 4.
    """
    _check("box_area", boxes)
    width, height = _sides(_proper(boxes))
    return width * height


def box_iou(boxes: jax.Array, others: jax.Array) -> jax.Array:
    """Intersection over union of each pair: 1 for equal boxes, 0 for disjoint ones.

    Args:
      boxes: [..., 4] corners, any float type; computed in float32.
      others: [..., 4] corners; the leading axes broadcast.
    Returns: [...] float32 in [0, 1]; 0 where neither box has an area.
    Raises: InputError if a last axis is not 4.

    >>> print(box_iou(jnp.array([0.0, 0, 2, 2]), jnp.array([[0.0, 0, 2, 1], [1, 1, 3, 3]])).round(3))
    [0.5   0.143]
    """
    _check("box_iou", boxes, others)
    intersection, union = _areas(_proper(boxes), _proper(others))
    return _ratio(intersection, union)


def pairwise_iou(boxes: jax.Array, others: jax.Array) -> jax.Array:
    """`box_iou` of every box with every other one.

    Args:
      boxes: [..., N, 4] corners.
      others: [..., M, 4] corners.
    Returns: [..., N, M] float32.
    Raises: InputError if a last axis is not 4, or there is no axis before it.
    """
    if min(boxes.ndim, others.ndim) < 2:
        raise InputError(f"pairwise_iou expects boxes [..., N, 4] and [..., M, 4]; got {boxes.shape}, {others.shape}.")
    return box_iou(boxes[..., :, None, :], others[..., None, :, :])


def box_giou(boxes: jax.Array, others: jax.Array) -> jax.Array:
    """Generalized IoU: IoU − (hull − union) / hull, where hull is the area of the least box around both.

    It falls with the distance of boxes that do not touch, where the IoU is 0 and has no gradient.

    Args, Raises: same as `box_iou`.
    Returns: [...] float32 in [−1, 1].
    Source: Rezatofighi et al. 2019, algorithm 1.
    """
    _check("box_giou", boxes, others)
    boxes, others = _proper(boxes), _proper(others)
    intersection, union = _areas(boxes, others)
    width, height = _hull_sides(boxes, others)
    return _ratio(intersection, union) - _ratio(width * height - union, width * height)


def box_diou(boxes: jax.Array, others: jax.Array) -> jax.Array:
    """Distance IoU: IoU − d² / c², with d between the centers and c the diagonal of the least box around both.

    Args, Raises: same as `box_iou`.
    Returns: [...] float32 in [−1, 1].
    Source: Zheng et al. 2020, equations (6) and (7).
    """
    _check("box_diou", boxes, others)
    boxes, others = _proper(boxes), _proper(others)
    shift = (boxes[..., :2] + boxes[..., 2:] - others[..., :2] - others[..., 2:]) / 2
    width, height = _hull_sides(boxes, others)
    return _ratio(*_areas(boxes, others)) - _ratio((shift**2).sum(-1), width**2 + height**2)


def box_ciou(boxes: jax.Array, others: jax.Array) -> jax.Array:
    """Complete IoU: distance IoU − α v, where v = 4/π² · (difference of arctan(width / height))².

    The weight α = v / (1 − IoU + v) has no gradient, as in the authors' code. A box without sides has no shape: it
    counts as a square.

    Args, Raises: same as `box_iou`.
    Returns: [...] float32 in (−2, 1].
    Source: Zheng et al. 2020, equations (8) to (11).
    """
    _check("box_ciou", boxes, others)
    boxes, others = _proper(boxes), _proper(others)
    v = 4 / math.pi**2 * (_shape_angle(boxes) - _shape_angle(others)) ** 2
    alpha = jax.lax.stop_gradient(_ratio(v, 1 - box_iou(boxes, others) + v))
    return box_diou(boxes, others) - alpha * v


def iou_loss(predictions: jax.Array, targets: jax.Array) -> jax.Array:
    """1 − IoU of each prediction and its target. It has no gradient where they do not touch.

    Args:
      predictions: [batch, ..., 4] corners in pixels, any float type; computed in float32.
      targets: same shape.
    Returns: [batch, ...] float32, in [0, 1].
    Raises: InputError if the shapes differ, or the last axis is not 4.
    """
    return _one_minus(box_iou, predictions, targets)


def giou_loss(predictions: jax.Array, targets: jax.Array) -> jax.Array:
    """1 − generalized IoU, in [0, 2].

    Args, Returns, Raises: same as `iou_loss`.
    Source: same as `box_giou`.
    """
    return _one_minus(box_giou, predictions, targets)


def diou_loss(predictions: jax.Array, targets: jax.Array) -> jax.Array:
    """1 − distance IoU, in [0, 2].

    Args, Returns, Raises: same as `iou_loss`.
    Source: same as `box_diou`.
    """
    return _one_minus(box_diou, predictions, targets)


def ciou_loss(predictions: jax.Array, targets: jax.Array) -> jax.Array:
    """1 − complete IoU, in [0, 3).

    Args, Returns, Raises: same as `iou_loss`.
    Source: same as `box_ciou`.
    """
    return _one_minus(box_ciou, predictions, targets)


BOX_LOSSES: Mapping[str, Callable[[jax.Array, jax.Array], jax.Array]] = {
    "iou": iou_loss,
    "giou": giou_loss,
    "diou": diou_loss,
    "ciou": ciou_loss,
}
"""name -> (predictions, targets) -> loss of each pair."""


def _one_minus(overlap, predictions, targets):
    if predictions.shape != targets.shape:
        raise InputError(f"Predicted boxes {predictions.shape} and targets {targets.shape} must have one shape.")
    return 1 - overlap(predictions, targets)


def _proper(boxes):
    """Boxes in float32 whose second corner is not before the first: a negative side becomes 0."""
    boxes = boxes.astype(jnp.float32)
    return jnp.concatenate([boxes[..., :2], jnp.maximum(boxes[..., :2], boxes[..., 2:])], -1)


def _sides(boxes):
    """(width, height) of each."""
    return boxes[..., 2] - boxes[..., 0], boxes[..., 3] - boxes[..., 1]


def _areas(boxes, others):
    """(intersection, union) of each pair."""
    corners = jnp.maximum(boxes[..., :2], others[..., :2]), jnp.minimum(boxes[..., 2:], others[..., 2:])
    width, height = _sides(jnp.concatenate(corners, -1))
    intersection = jnp.maximum(width, 0) * jnp.maximum(height, 0)
    return intersection, box_area(boxes) + box_area(others) - intersection


def _hull_sides(boxes, others):
    corners = jnp.minimum(boxes[..., :2], others[..., :2]), jnp.maximum(boxes[..., 2:], others[..., 2:])
    return _sides(jnp.concatenate(corners, -1))


def _shape_angle(boxes):
    """arctan(width / height) in radians."""
    width, height = _sides(boxes)
    point = width**2 + height**2 < EMPTY
    return jnp.arctan2(jnp.where(point, 1, width), jnp.where(point, 1, height))


def _ratio(part, whole):
    """part / whole, and 0 without a gradient where the whole is empty."""
    empty = whole < EMPTY
    return jnp.where(empty, 0, part / jnp.where(empty, 1, whole))


def _check(function, *arrays):
    for array in arrays:
        if not array.ndim or array.shape[-1] != 4:
            raise InputError(f"{function} expects boxes [..., 4]; got {array.shape}.")
