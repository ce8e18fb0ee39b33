"""Which cell, or which anchor, of a detector answers for which object: its targets, as a function of fixed shape.

Every object gets a place of its own first, so that none is left out. Objects claim places in turn, and each takes the
best one that is still free. An object whose first choice is claimed by a better one waits until all first choices are
settled: nobody is driven from an undisputed place. More places may then be given to the objects by the usual rules.
Padding claims nothing. Time grows with objects · places.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.core
import jax.numpy as jnp
import numpy as np

from .. import losses
from ..errors import InputError
from ..models import dense

BACKGROUND = -1
IGNORED = -2


class Assignment(NamedTuple):
    """Places are cells, or anchors, in the order of `models.dense.grid`."""

    objects: jax.Array
    """[places] int32: the object that a place answers for, `BACKGROUND` (−1), or `IGNORED` (−2): no loss counts it."""
    own: jax.Array
    """[N] int32: the place that each object has for itself; −1 for padding, or where objects outnumber places."""


def assign_cells(
    boxes: jax.Array,
    valid: jax.Array,
    levels: Sequence[dense.Level],
    *,
    limits: Sequence[float] | None = None,
    radius: float = 0.0,
) -> Assignment:
    """Assigns the objects of one image to cells of an anchor-free detector: by size to a level, by center to a cell.

    An object belongs to a level by its longer side, and its first choice is the cell of that level which contains its
    center, or the nearest cell if the center is outside the image. If several objects have the same first choice, the
    smallest area wins, and of equal areas the first. The others, smallest first, each take the best cell that is free:

    1. of those whose center is inside the object's box, on its level; then on the other levels, nearest level first;
    2. of those whose center is outside, on its level; then on the other levels, nearest level first;

    and among equals the cell whose center is nearest to the object's, then the first. So every object has a cell as
    long as there are not more objects than cells; if there are, the largest of the displaced ones have none. A cell may
    have to predict a center outside itself: with an offset that is not limited to the cell, or with distances to the
    four sides, where the cell is inside the box.

    Args:
      boxes: [N, 4] corners in pixels. They may reach beyond the image or have no area.
      valid: [N] bool, False for padding. Objects that the image does not show at all should be False as well.
      levels: the grids, from the finest to the coarsest; those of `models.dense.grid_levels`.
      limits: the longer sides, in pixels, at which the next level begins: one fewer than levels, ascending. By default
        16 strides: in the paper the distances from a cell to the sides of a box end at 8 strides of its level.
      radius: in strides. Cells of an object's level whose centers are inside its box, and at most this far from its
        center along each axis, answer for it too, if they are no object's own; where several objects claim one, the
        smallest wins. 0: only its own cell.
    Returns: the `Assignment`; no cell is ignored.
    Raises: InputError if shapes or limits do not fit, or the radius is negative.
    Source: Tian et al. 2019 (FCOS), section 3.2 (levels by size; the smallest object wins); the radius is the center
      sampling of its journal version (2020), where it is 1.5. One cell for each object, that of its center: Redmon et
      al. 2016, section 2, and the lecture's slide. The rule for displaced objects is ours.

    >>> levels = dense.grid_levels(16, 16, (8,))
    >>> twins = jnp.array([[0.0, 0, 8, 8], [0, 0, 8, 8], [0, 0, 0, 0]])
    >>> assignment = assign_cells(twins, jnp.array([True, True, False]), levels)
    >>> print(assignment.objects, assignment.own)
    [ 0  1 -1 -1] [ 0  1 -1]
    """
    limits = tuple(16.0 * level.stride for level in levels[:-1]) if limits is None else tuple(limits)
    _check(boxes, valid)
    if len(limits) != len(levels) - 1 or list(limits) != sorted(limits):
        raise InputError(f"limits are {limits}; for {len(levels)} levels they are {len(levels) - 1} ascending numbers.")
    if not radius >= 0:
        raise InputError(f"radius is {radius}; it must be at least 0.")
    centers, numbers = dense.cell_centers(levels), dense.cell_levels(levels)  # [cells, 2], [cells]
    if not len(boxes):
        return Assignment(jnp.full(len(centers), BACKGROUND), jnp.zeros(0, jnp.int32))
    boxes = boxes.astype(jnp.float32)
    middles, areas = (boxes[:, :2] + boxes[:, 2:]) / 2, losses.box_area(boxes)
    of_object = (jnp.max(boxes[:, 2:] - boxes[:, :2], -1)[:, None] >= jnp.array(limits)).sum(-1)  # levels, [N]
    first_choices = _cells_of(middles, of_object, levels)

    def cost(n):
        box, level = boxes[n], of_object[n]
        outside = ~_inside(centers, box)
        levels_away = jnp.abs(numbers - level) + len(levels) * outside
        tier = jnp.where(jnp.arange(len(centers)) == first_choices[n], -1, levels_away)
        return tier.astype(jnp.float32), ((centers - middles[n]) ** 2).sum(-1)

    waits = _loses(first_choices, areas, valid)
    owners, own = _claim_in_turn(jnp.lexsort((areas, waits)), valid, len(centers), cost)
    if not radius:
        return Assignment(owners, own)
    strides = dense.cell_strides(levels)

    def claims(box, middle, level, is_object):
        near = jnp.abs(centers - middle).max(-1) <= radius * strides
        return is_object & near & (numbers == level) & _inside(centers, box)

    claimed = jax.vmap(claims)(boxes, middles, of_object, valid)  # [N, cells]
    smallest = jnp.where(claimed, areas[:, None], jnp.inf).argmin(0)
    shared = jnp.where(claimed.any(0), smallest, BACKGROUND).astype(jnp.int32)
    return Assignment(jnp.where(owners >= 0, owners, shared), own)


def assign_anchors(
    boxes: jax.Array,
    valid: jax.Array,
    anchors: jax.Array | np.ndarray,
    *,
    positive: float | jax.Array = 0.7,
    negative: float | jax.Array = 0.3,
) -> Assignment:
    """Assigns the objects of one image to anchors by IoU, and to each object its best anchor, however small the IoU.

    An anchor answers for the object that it overlaps most, of equal ones the first, if that IoU is at least `positive`;
    below `negative` it is background, and between them it is ignored. Besides, every object has an anchor of its own:
    its best one. If several objects have the same best anchor, that with the highest IoU has it, of equal ones the
    first. The others, highest IoU first, each take the best anchor that is free. Of equal IoUs, such as those of an
    object that overlaps with no anchor, the anchor with the nearest center is the best, then the first. So every object
    has an anchor as long as there are not more objects than anchors.

    Args:
      boxes: [N, 4] corners in pixels. They may reach beyond the image or have no area.
      valid: [N] bool, False for padding.
      anchors: [places, 4] corners in pixels, such as those of `models.dense.anchor_boxes`.
      positive: least IoU of an anchor with an object. May be traced.
      negative: IoU below which an anchor is background, at most `positive`. May be traced.
    Returns: the `Assignment`.
    Raises: InputError if shapes do not fit, or if concrete thresholds are not 0 ≤ negative ≤ positive.
    Source: Ren et al. 2015, section 3.1.2, whose thresholds are the defaults. In the paper all anchors of an object's
      highest IoU are positive, and two objects may share one; here each has exactly one for itself.
    """
    _check(boxes, valid)
    if anchors.ndim != 2 or anchors.shape[-1] != 4:
        raise InputError(f"Anchors are [places, 4]; got {anchors.shape}.")
    traced = isinstance(positive, jax.core.Tracer) or isinstance(negative, jax.core.Tracer)
    if not traced and not 0 <= negative <= positive:
        raise InputError(f"negative is {negative} and positive {positive}; wanted is 0 ≤ negative ≤ positive.")
    if not len(boxes):
        return Assignment(jnp.full(len(anchors), BACKGROUND), jnp.zeros(0, jnp.int32))
    boxes, anchors = boxes.astype(jnp.float32), jnp.asarray(anchors, jnp.float32)
    overlaps = jnp.where(valid[:, None], losses.pairwise_iou(boxes, anchors), -1)  # [N, places]
    middles, centers = (boxes[:, :2] + boxes[:, 2:]) / 2, (anchors[:, :2] + anchors[:, 2:]) / 2

    def cost(n):
        return -overlaps[n], ((centers - middles[n]) ** 2).sum(-1)

    first_choices = jax.vmap(lambda n: _cheapest(*cost(n)))(jnp.arange(len(boxes)))
    best = overlaps.max(1)
    waits = _loses(first_choices, -best, valid)
    owners, own = _claim_in_turn(jnp.lexsort((-best, waits)), valid, len(anchors), cost)
    highest = overlaps.max(0)
    by_overlap = jnp.where(
        highest >= positive, overlaps.argmax(0), jnp.where(highest >= negative, IGNORED, BACKGROUND)
    ).astype(jnp.int32)
    return Assignment(jnp.where(owners >= 0, owners, by_overlap), own)


def _claim_in_turn(order, valid, num_places, cost):
    """Each object takes its cheapest free place: (owners [places], own [N])."""

    def claim(owners, n):
        free = owners < 0
        first, second = cost(n)
        place = _cheapest(jnp.where(free, first, jnp.inf), jnp.where(free, second, jnp.inf))
        found = valid[n] & free.any()
        owners = owners.at[place].set(jnp.where(found, n, owners[place]))
        return owners, jnp.where(found, place, -1)

    owners, places = jax.lax.scan(claim, jnp.full(num_places, BACKGROUND, jnp.int32), order.astype(jnp.int32))
    return owners, jnp.zeros(len(order), jnp.int32).at[order].set(places.astype(jnp.int32))


def _cheapest(first, second):
    """The place of the least first cost; of equal ones that of the least second cost, then the lowest."""
    return jnp.where(first == first.min(), second, jnp.inf).argmin()


def _loses(first_choices, key, valid):
    """Which objects want a place that another one with a smaller key, or of equal keys an earlier one, wants too."""
    numbers = jnp.arange(len(key))
    ahead = (key < key[:, None]) | ((key == key[:, None]) & (numbers < numbers[:, None]))
    return (ahead & valid & (first_choices == first_choices[:, None])).any(-1)


def _cells_of(points, of_level, levels):
    """The cell of a level that contains each point, or the nearest one, [N]."""
    strides, heights, widths = (jnp.array(sizes)[of_level] for sizes in zip(*levels, strict=True))
    starts = np.cumsum([0, *(level.height * level.width for level in levels[:-1])])
    columns, rows = jnp.floor(points / strides[:, None]).T
    columns, rows = jnp.clip(columns, 0, widths - 1).astype(int), jnp.clip(rows, 0, heights - 1).astype(int)
    return jnp.asarray(starts)[of_level] + rows * widths + columns


def _inside(points, box):
    return ((points > box[:2]) & (points < box[2:])).all(-1)


def _check(boxes, valid):
    if boxes.ndim != 2 or boxes.shape[-1] != 4 or valid.shape != boxes.shape[:1]:
        raise InputError(f"Boxes of one image are [N, 4], and valid [N]; got {boxes.shape} and {valid.shape}.")
    if valid.dtype != bool:
        raise InputError(f"valid is {valid.dtype}; it must be bool, such as labels >= 0.")
