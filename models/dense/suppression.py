"""Non-maximum suppression of fixed size: of boxes that overlap, the one with the best score stays.

Every variant is the same greedy loop: take the box with the best score, then lower the scores of what overlaps with it.
They differ in by how much, which is a function of the overlap (`hard_decay`, `linear_decay`, `gaussian_decay`). Shapes
do not depend on the data, so that all of it runs under jit and vmap. Time grows with N · max_outputs.

The losses of boxes, and overlaps with gradients, are in the room `losses`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from ...errors import InputError

Decay = Callable[[jax.Array], jax.Array]
"""IoU with the box that was taken, [N] -> factors of the scores, [N] in [0, 1]; 0 removes a box."""


class Kept(NamedTuple):
    """The boxes that stay, best first. What is free at the end is filled."""

    indices: jax.Array
    """[max_outputs] int32, places in the boxes that were given; −1 where there is none."""
    scores: jax.Array
    """[max_outputs] float32, with what soft suppression took from them; 0 where there is none."""
    valid: jax.Array
    """[max_outputs] bool."""

    def take(self, values: jax.Array, fill: float = 0) -> jax.Array:
        """What belongs to the boxes that stay.

        Args:
          values: [N, ...], something of each box: itself, its label, the coefficients of its mask.
          fill: stands where there is no box: 0 for boxes, −1 for labels.
        Returns: [max_outputs, ...], of the type of the values.
        Raises: InputError for N = 0, from which nothing can be taken.
        """
        if not len(values):
            raise InputError(f"There are no values to take from: their shape is {values.shape}.")
        valid = self.valid.reshape(-1, *[1] * (values.ndim - 1))
        return jnp.where(valid, values[self.indices], jnp.asarray(fill, values.dtype))


def hard_decay(iou_threshold: float = 0.5) -> Decay:
    """Removes boxes whose IoU is above the threshold, and keeps the others as they are.

    An IoU equal to the threshold is kept, as in torchvision.
    """
    _check_threshold(iou_threshold)
    return lambda iou: jnp.where(iou > iou_threshold, 0.0, 1.0)


def linear_decay(iou_threshold: float = 0.3) -> Decay:
    """Multiplies scores by 1 − IoU where the IoU is above the threshold.

    Source: Bodla et al. 2017, section 3, the first rescoring function; 0.3 is the authors' threshold. The paper has ≥,
    their code >, as here.
    """
    _check_threshold(iou_threshold)
    return lambda iou: jnp.where(iou > iou_threshold, 1 - iou, 1.0)


def gaussian_decay(sigma: float = 0.5) -> Decay:
    """Multiplies all scores by exp(−IoU² / σ).

    Source: Bodla et al. 2017, equation (3) and section 3: σ = 0.5.
    Raises: InputError if σ is not positive.
    """
    if not sigma > 0:
        raise InputError(f"sigma is {sigma}; it must be positive.")
    return lambda iou: jnp.exp(-(iou**2) / sigma)


def non_max_suppression(
    boxes: jax.Array,
    scores: jax.Array,
    *,
    max_outputs: int,
    labels: jax.Array | None = None,
    valid: jax.Array | None = None,
    score_threshold: float | jax.Array = 0.0,
    decay: Decay | None = None,
) -> Kept:
    """The greedy choice of boxes that do not overlap too much, for one image. `jax.vmap` makes it one for a batch.

    Of equal scores, the box that was given first is taken first. Scores that are NaN, and those at or below the
    threshold, are never taken.

    Args:
      boxes: [N, 4] corners (x0, y0, x1, y1), any float type; computed in float32. Boxes without area suppress nothing.
      scores: [N], any float type; at least 0 if the decay is a soft one.
      max_outputs: number of places in the result, at least 1.
      labels: [N] integers; only boxes of one class suppress each other. By default all do.
      valid: [N] bool, False for padding. By default all are boxes.
      score_threshold: a box is taken while its score is above this. May be traced. Soft suppression lowers scores, so
        that it needs a threshold above 0 to end.
      decay: what an overlap does to a score; by default `hard_decay()`: boxes with an IoU above 0.5 are removed.
    Returns: the `Kept`. Without a `max_outputs` that cuts it short, the result of hard suppression is the same as
      torchvision's `nms`, or `batched_nms` with labels.
    Raises: InputError if shapes do not fit, or `max_outputs` is below 1.
    Source: hard: Felzenszwalb et al. 2010, section 4.2 (other rules: see `hard_decay`). Soft: Bodla et al. 2017.

    >>> boxes = jnp.array([[0, 0, 10, 10], [1, 0, 11, 10], [20, 0, 30, 10.0]])
    >>> kept = non_max_suppression(boxes, jnp.array([0.6, 0.9, 0.7]), max_outputs=3)
    >>> print(kept.indices, kept.valid)
    [ 1  2 -1] [ True  True False]
    >>> soft = non_max_suppression(boxes, jnp.array([0.6, 0.9, 0.7]), max_outputs=3, decay=linear_decay())
    >>> print(soft.indices, soft.scores.round(2))
    [1 2 0] [0.9  0.7  0.11]
    """
    _check_shapes(boxes, scores, labels, valid)
    if max_outputs < 1:
        raise InputError(f"max_outputs is {max_outputs}; it must be at least 1.")
    if not len(boxes):
        return Kept(jnp.full(max_outputs, -1), jnp.zeros(max_outputs), jnp.zeros(max_outputs, bool))
    boxes, scores = boxes.astype(jnp.float32), scores.astype(jnp.float32)
    # −∞ marks what is taken or removed: no score is above any threshold there.
    candidates = scores > score_threshold if valid is None else valid & (scores > score_threshold)
    areas, decay = _area(boxes), decay or hard_decay()

    def take_best(scores, _):
        best = jnp.argmax(scores)  # the first of equal ones
        found = scores[best] > score_threshold
        factor = decay(_iou(boxes[best], areas[best], boxes, areas))
        if labels is not None:
            factor = jnp.where(labels == labels[best], factor, 1)
        lowered = jnp.where(factor > 0, scores * factor, -jnp.inf).at[best].set(-jnp.inf)
        kept = Kept(jnp.where(found, best, -1).astype(jnp.int32), jnp.where(found, scores[best], 0), found)
        return jnp.where(found, lowered, scores), kept

    _, kept = jax.lax.scan(take_best, jnp.where(candidates, scores, -jnp.inf), length=max_outputs)
    return kept


def _area(boxes):
    return jnp.maximum(boxes[..., 2] - boxes[..., 0], 0) * jnp.maximum(boxes[..., 3] - boxes[..., 1], 0)


def _iou(box, area, boxes, areas):
    """Of one box with all, [N]; 0 where the union has no area."""
    corners = jnp.maximum(box[:2], boxes[:, :2]), jnp.minimum(box[2:], boxes[:, 2:])
    intersections = _area(jnp.concatenate(corners, -1))
    unions = area + areas - intersections
    return jnp.where(unions > 0, intersections / jnp.where(unions > 0, unions, 1), 0)


def _check_threshold(iou_threshold):
    if not 0 <= iou_threshold <= 1:
        raise InputError(f"iou_threshold is {iou_threshold}; it must be in [0, 1].")


def _check_shapes(boxes, scores, labels, valid):
    if boxes.ndim != 2 or boxes.shape[-1] != 4:
        raise InputError(f"non_max_suppression expects boxes [N, 4] of one image; got {boxes.shape}.")
    for name, array in (("scores", scores), ("labels", labels), ("valid", valid)):
        if array is not None and array.shape != boxes.shape[:1]:
            raise InputError(f"There are {len(boxes)} boxes; {name} must be [{len(boxes)}], and it is {array.shape}.")
