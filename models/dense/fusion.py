"""Panoptic fusion: of the objects found and the classes of pixels, one class and one id for every pixel."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from ...errors import InputError


class Panoptic(NamedTuple):
    """A class and an id for every pixel of one image. A segment is all pixels of one class and one id."""

    classes: jax.Array
    """[height, width] int32."""
    ids: jax.Array
    """[height, width] int32: 1 + the number of the object, or 0 for stuff, of which a class is one segment."""


def panoptic_fusion(
    masks: jax.Array,
    scores: jax.Array,
    labels: jax.Array,
    stuff_scores: jax.Array,
    stuff_classes: jax.Array,
    *,
    score_threshold: float | jax.Array = 0.3,
    visible_threshold: float | jax.Array = 0.5,
) -> Panoptic:
    """Puts objects over stuff, the surest first; every pixel that no object has goes to the likeliest stuff.

    An object gets the pixels of its mask that no surer object has. If those are less than a part of its mask, it is
    another view of what is there already, and gets none. The paper leaves pixels void where the classes of pixels say
    a thing and no object was found; here the best class of stuff has them, so that no pixel is void.

    Args:
      masks: [objects, height, width] in [0, 1]; a pixel above ½ belongs to an object.
      scores: [objects]. Not sorted, or padded with 0.
      labels: [objects] int32, classes of things; −1 for padding.
      stuff_scores: [height, width, stuff] logits or probabilities of the classes of stuff.
      stuff_classes: [stuff] int32, their numbers among all classes.
      score_threshold: least score of an object. May be traced.
      visible_threshold: least part of a mask that no surer object has, in [0, 1]. May be traced.
    Returns: one class and one id for every pixel; it can be jitted, and vmapped over images.
    Raises: InputError if shapes do not fit, or there is no class of stuff.
    Source: Kirillov et al. 2019 ("Panoptic Segmentation"), section 6, "Combining".
    """
    if (
        masks.ndim != 3
        or scores.shape != masks.shape[:1]
        or labels.shape != masks.shape[:1]
        or stuff_scores.shape != (*masks.shape[1:], *stuff_classes.shape)
    ):
        raise InputError(
            "panoptic_fusion expects masks [objects, height, width], scores and labels [objects], and scores [height, "
            f"width, stuff] of stuff_classes [stuff]; got {masks.shape}, {scores.shape}, {labels.shape}, "
            f"{stuff_scores.shape} and {stuff_classes.shape}."
        )
    if not len(stuff_classes):
        raise InputError("panoptic_fusion needs a class of stuff, for the pixels that no object has.")
    masks, scores, labels, stuff_classes = (jnp.asarray(each) for each in (masks, scores, labels, stuff_classes))
    stuff = stuff_classes.astype(jnp.int32)[jnp.asarray(stuff_scores).argmax(-1)]
    if not len(labels):
        return Panoptic(stuff, jnp.zeros(stuff.shape, jnp.int32))
    inside = masks > 0.5
    wanted = (labels >= 0) & (scores >= score_threshold)

    def paste(ids, number):
        free = inside[number] & (ids == 0)
        area = inside[number].sum()
        shown = wanted[number] & (area > 0) & (free.sum() >= visible_threshold * area)
        return jnp.where(free & shown, number + 1, ids), None

    order = jnp.argsort(-scores, stable=True).astype(jnp.int32)
    ids, _ = jax.lax.scan(paste, jnp.zeros(masks.shape[1:], jnp.int32), order)
    of_object = jnp.concatenate([jnp.zeros(1, jnp.int32), labels.astype(jnp.int32)])[ids]
    return Panoptic(jnp.where(ids > 0, of_object, stuff), ids)
