"""Random changes of an image together with its annotation: one map is drawn and applied to image, masks and boxes.

An annotated example is a dict with "image" [height, width, channel] and any of

  semantic  int32 [height, width], a class for each pixel, −1 for none;
  regions   int32 [height, width], the number of each pixel's connected region, from 1 on, 0 for none;
  masks     uint8 [objects, height, width], 1 where the object is;
  boxes     float32 [objects, 4], (left, top, right, bottom) in pixels;
  labels    int32 [objects], the class of each object, −1 where there is none.

Other arrays stay as they are. A change is (key, example) -> example, and `per_example` applies it to batches. Places
that come into view are 0 in the image and in `regions`, and −1 in `semantic`. An object that is moved keeps its place
in the list; its box is the smallest around its mask or, without masks, around its moved box, cut at the borders. Where
less than `LEAST_VISIBLE` of an object remains in the image, it is dropped: label −1, box and mask 0.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from ... import losses
from ...errors import InputError
from . import geometry
from ._check import Batch, Scalar, example_keys, is_traced, require_between, require_image

Example = Mapping[str, Any]
Change = Callable[[jax.Array, Example], dict[str, Any]]

LEAST_VISIBLE = 0.1
PARTS = ("image", "semantic", "regions", "masks", "boxes", "labels")


def random_flip(key: jax.Array, example: Example, *, probability: Scalar = 0.5) -> dict[str, Any]:
    """Mirrors an example left to right with a given probability, in [0, 1]; it may be traced."""
    return affine(example, geometry.mirror(geometry.draw_flip(key, probability)))


def random_turn(key: jax.Array, example: Example) -> dict[str, Any]:
    """Turns an example by 0, 90, 180 or 270 degrees, or, if it is not square, by 0 or 180: no pixel is interpolated."""
    height, width, _ = example["image"].shape
    step = 1 if height == width else 2
    degrees = 90 * step * jax.random.randint(key, (), 0, 4 // step)
    return affine(example, jnp.round(geometry.rotation(degrees)))


def random_affine(
    key: jax.Array,
    example: Example,
    *,
    degrees: Scalar = 0.0,
    scale: Scalar = 0.0,
    translate: Scalar = 0.0,
    shear: Scalar = 0.0,
) -> dict[str, Any]:
    """Shears, zooms, rotates and moves an example.

    Args:
      key: One key.
      example: An annotated example.
      degrees, scale, translate, shear: Same as for `geometry.draw_affine`. May be traced.
    """
    shape = example["image"].shape
    return affine(
        example,
        geometry.draw_affine(key, shape, degrees=degrees, scale=scale, translate=translate, shear=shear),
    )


def large_scale_jitter(
    key: jax.Array, example: Example, *, lowest: Scalar = 0.1, highest: Scalar = 2.0
) -> dict[str, Any]:
    """Zooms an example by a factor and puts it at a random place: a crop of a larger one, or a smaller one on black.

    Args:
      key: One key.
      example: An annotated example.
      lowest, highest: Bounds of the factor, which is uniform between them; 0 < lowest ≤ highest. May be traced.
    Raises: InputError for concrete bounds out of order.
    Source: Ghiasi et al. 2021, section 3.
    """
    if not is_traced(lowest) and not is_traced(highest) and not 0 < float(lowest) <= float(highest):
        raise InputError(f"large_scale_jitter wants 0 < lowest ≤ highest, got {lowest} and {highest}.")
    height, width, _ = example["image"].shape
    factor_key, place_key = jax.random.split(key)
    factor = jax.random.uniform(factor_key, minval=lowest, maxval=highest)
    x, y = jax.random.uniform(place_key, (2,), minval=-0.5, maxval=0.5) * jnp.abs(factor - 1)
    return affine(example, geometry.compose(geometry.zoom(factor), geometry.translation(x * width, y * height)))


def random_crop(key: jax.Array, example: Example, *, size: int) -> dict[str, Any]:
    """A square part of an example, at a random place.

    Args:
      key: One key.
      example: An annotated example.
      size: Side of the part in pixels; not traced: it is a shape.
    Returns: The example, with an image of [size, size, channel].
    Raises: InputError for a size that is not positive or more than the image has.
    """
    require_image("random_crop", example["image"])
    height, width, _ = example["image"].shape
    if not 0 < size <= min(height, width):
        raise InputError(f"random_crop wants a size of 1 to {min(height, width)} pixels, got {size}.")
    top, left = jax.random.randint(key, (2,), 0, jnp.array([height, width]) - size + 1)

    def cut(array: jax.Array) -> jax.Array:
        rest = array.ndim - 2
        return jax.lax.dynamic_slice(array, (top, left, *[0] * rest), (size, size, *array.shape[2:]))

    changed = _moved(example, cut, lambda mask, fill: cut(mask))
    if "boxes" in example and "masks" not in example:
        whole = example["boxes"] - jnp.stack([left, top, left, top]).astype(jnp.float32)
        changed = _with_cut_boxes(changed, whole, jnp.clip(whole, 0, size))
    return {name: changed[name] for name in example}


def random_elastic(key: jax.Array, example: Example, *, std: Scalar, points: int = 3) -> dict[str, Any]:
    """Bends an example: displacements of a coarse grid of points, interpolated with cubic splines.

    Args:
      key: One key.
      example: An annotated example; boxes need masks, which say what becomes of them.
      std: Standard deviation of the displacements of the grid's points, in pixels, at least 0. May be traced.
      points: Number of points along each side, at least 2.
    Raises: InputError for a concrete std below 0, fewer points, or boxes without masks.
    Source: Ronneberger et al. 2015, section 3.1: 3 × 3 points, 10 pixels.
    """
    require_image("random_elastic", example["image"])
    require_between("random_elastic", 0, jnp.inf, std=std)
    if points < 2:
        raise InputError(f"random_elastic wants at least 2 points along a side, got {points}.")
    if "boxes" in example and "masks" not in example:
        raise InputError("random_elastic can't bend boxes; give masks besides, around which new boxes are drawn.")
    height, width, _ = example["image"].shape
    coarse = std * jax.random.normal(key, (points, points, 2))
    field = jax.image.resize(coarse, (height, width, 2), "cubic")
    row = jnp.arange(height)[:, None] + field[..., 0]
    column = jnp.arange(width) + field[..., 1]
    changed = _moved(
        example,
        lambda image: geometry.look_up_image(image, row, column),
        lambda mask, fill: geometry.look_up_mask(mask, row, column, fill=fill),
    )
    return {name: changed[name] for name in example}


def affine(example: Example, matrix: jax.Array) -> dict[str, Any]:
    """Moves an example by a matrix [3, 3] of `geometry`, from the image to the result."""
    changed = _moved(
        example,
        lambda image: geometry.affine_image(image, matrix),
        lambda mask, fill: geometry.affine_mask(mask, matrix, fill=fill),
        growth=jnp.abs(matrix[0, 0] * matrix[1, 1] - matrix[0, 1] * matrix[1, 0]),
    )
    if "boxes" in example and "masks" not in example:
        boxes, whole = (
            geometry.affine_boxes(example["boxes"], matrix, example["image"].shape, cut=cut) for cut in (True, False)
        )
        changed = _with_cut_boxes(changed, whole, boxes)
    return {name: changed[name] for name in example}


def mask_boxes(masks: jax.Array) -> jax.Array:
    """The smallest boxes around masks.

    Args:
      masks: [objects, height, width], 0 outside the objects.
    Returns: float32 [objects, 4]; (0, 0, 0, 0) for a mask without a pixel.

    >>> mask_boxes(jnp.zeros((1, 4, 6)).at[0, 1:3, 2:5].set(1)).tolist()
    [[2.0, 1.0, 5.0, 3.0]]
    """
    inside = masks > 0
    columns, rows = inside.any(1), inside.any(2)

    def ends(line: jax.Array) -> tuple[jax.Array, jax.Array]:
        return line.argmax(-1), line.shape[-1] - line[:, ::-1].argmax(-1)

    (left, right), (top, bottom) = ends(columns), ends(rows)
    boxes = jnp.stack([left, top, right, bottom], -1).astype(jnp.float32)
    return jnp.where(columns.any(-1)[:, None], boxes, 0)


def per_example(change: Change) -> Callable[[jax.Array, Batch], dict[str, jax.Array]]:
    """Applies a change of one annotated example to batches.

    Args:
      change: (key, example) -> example.
    Returns: (key, batch) -> batch, for batches with "image" [batch, height, width, channel] and "index" int [batch].
      The key of an example is `fold_in(key, index)`; arrays that are no annotation stay as they are. It raises
      InputError for images of another rank, or if there is not one index per image.
    """

    def changed(key: jax.Array, batch: Batch) -> dict[str, jax.Array]:
        keys = example_keys("per_example", key, batch)
        parts = {name: batch[name] for name in PARTS if name in batch}
        return {**batch, **jax.vmap(change)(keys, parts)}

    return changed


def mosaic(key: jax.Array, batch: Batch) -> dict[str, jax.Array]:
    """Shows parts of four examples around a random point, each in its quarter, at their own scale.

    The example itself is in the upper left quarter; the three others are its neighbors in the batch. Every image of the
    result has the objects of four: four times as many places in `masks`, `boxes` and `labels`.

    Args:
      key: One key.
      batch: "image" [batch, height, width, channel], "index" int [batch], and annotations, likewise batched.
    Returns: The batch; the weight of an example is that of its first part.
    Raises: InputError for images of another rank, or if there is not one index per image.
    Source: Bochkovskiy et al. 2020, section 3.3.
    """
    keys = example_keys("mosaic", key, batch)
    _, height, width, _ = batch["image"].shape
    x, y = jax.vmap(lambda key: jax.random.uniform(key, (2,), minval=0.25, maxval=0.75))(keys).T
    x, y = jnp.round(x * width), jnp.round(y * height)  # whole pixels, so that nothing is interpolated
    parts = {name: batch[name] for name in PARTS if name in batch}

    def quarter(number: int, example: Example, x: jax.Array, y: jax.Array) -> dict[str, Any]:
        right, below = number % 2, number // 2
        # The image's corner that faces the point is moved onto it.
        matrix = geometry.translation(x if right else x - width, y if below else y - height)
        seen = affine(example, matrix)
        across = jnp.arange(width) >= x if right else jnp.arange(width) < x
        down = jnp.arange(height) >= y if below else jnp.arange(height) < y
        return {**seen, "inside": down[:, None] & across}

    quarters = [
        jax.vmap(lambda example, x, y, number=number: quarter(number, example, x, y))(
            jax.tree.map(lambda array, number=number: jnp.roll(array, -number, 0), parts), x, y
        )
        for number in range(4)
    ]
    made = {}
    for name in parts:
        if name == "regions":  # numbers of four images, none of which has more regions than pixels
            apart = (
                jnp.where(each["regions"] > 0, each["regions"] + number * height * width, 0)
                for number, each in enumerate(quarters)
            )
            made[name] = sum(jnp.where(e["inside"], x, 0) for e, x in zip(quarters, apart, strict=True))
        elif name in ("image", "semantic"):
            masks = [each["inside"] if name == "semantic" else each["inside"][..., None] for each in quarters]
            made[name] = sum(jnp.where(mask, each[name], 0) for mask, each in zip(masks, quarters, strict=True))
        else:
            made[name] = jnp.concatenate([each[name] for each in quarters], 1)
    return {**batch, **made}


def _moved(
    example: Example,
    move_image: Callable[[jax.Array], jax.Array],
    move_mask: Callable[[jax.Array, int], jax.Array],
    growth: Scalar = 1.0,
) -> dict[str, Any]:
    """Moves all but boxes without masks.

    Args:
      example: An annotated example.
      move_image: image -> image.
      move_mask: (mask [height, width, ...], class of what comes into view) -> mask.
      growth: Factor by which areas grow.
    """
    changed = {**example, "image": move_image(example["image"])}
    if "semantic" in example:
        changed["semantic"] = move_mask(example["semantic"], -1)
    if "regions" in example:
        changed["regions"] = move_mask(example["regions"], 0)
    if "masks" not in example:
        return changed
    # One look-up of places for the masks of all objects.
    masks = jnp.moveaxis(move_mask(jnp.moveaxis(example["masks"], 0, -1), 0), -1, 0)
    expected = growth * example["masks"].sum((1, 2), dtype=jnp.float32)
    share = masks.sum((1, 2), dtype=jnp.float32) / jnp.maximum(expected, 1e-6)
    return _kept({**changed, "masks": masks, "boxes": mask_boxes(masks)}, share)


def _with_cut_boxes(example: Example, whole: jax.Array, boxes: jax.Array) -> dict[str, Any]:
    """An example with moved boxes [objects, 4], which were `whole` before the image's borders cut them."""
    area = losses.box_area(whole)
    share = jnp.where(area > 0, losses.box_area(boxes) / jnp.maximum(area, 1e-6), 0)
    return _kept({**example, "boxes": boxes}, share)


def _kept(example: Example, share: jax.Array) -> dict[str, Any]:
    """An example without the objects of which less than LEAST_VISIBLE is left: share [objects]."""
    kept, changed = share >= LEAST_VISIBLE, dict(example)
    if "labels" in example:
        kept &= example["labels"] >= 0
        changed["labels"] = jnp.where(kept, example["labels"], -1)
    changed["boxes"] = jnp.where(kept[:, None], example["boxes"], 0)
    if "masks" in example:
        changed["masks"] = jnp.where(kept[:, None, None], example["masks"], 0)
    return changed
