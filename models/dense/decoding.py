"""From the answers of a `GridDetector` to objects: scores of boxes, and masks of prototypes and coefficients.

(What is one object and what another, non-maximum suppression decides, which does not live here.)
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from ...errors import InputError
from ..layers import upscale_bilinear
from .grid_detector import GridOutputs


class Candidates(NamedTuple):
    """A box for each cell, before any is suppressed."""

    boxes: jax.Array
    """[batch, cells, 4] float32: (x0, y0, x1, y1) in pixels."""
    scores: jax.Array
    """[batch, cells, num_classes] float32 in [0, 1]."""


def decode(outputs: GridOutputs) -> Candidates:
    """Boxes, and scores: probability of the class, times the quality of the box (FCOS, Tian et al. 2019, section 3.1).

    Args:
      outputs: of a `GridDetector`.
    """
    quality = jax.nn.sigmoid(outputs.quality_logits)[..., None]
    return Candidates(outputs.boxes, jax.nn.sigmoid(outputs.class_logits) * quality)


def mask_logits(prototypes: jax.Array, coefficients: jax.Array) -> jax.Array:
    """Logits of the masks of objects on the grid of the prototypes: weighted sums (YOLACT, equation 1, before σ).

    Args:
      prototypes: [batch, height', width', num_prototypes].
      coefficients: [batch, objects, num_prototypes].
    Returns: [batch, objects, height', width'].
    Raises: InputError if the numbers of prototypes differ.
    """
    if prototypes.shape[-1] != coefficients.shape[-1]:
        raise InputError(f"prototypes are {prototypes.shape} and coefficients {coefficients.shape}: last axes differ.")
    return jnp.einsum("bhwk,bnk->bnhw", prototypes, coefficients)


def crop_to_boxes(masks: jax.Array, boxes: jax.Array, scale: float = 1.0) -> jax.Array:
    """Masks that are 0 outside of their boxes: a pixel belongs to a box if its center does.

    Args:
      masks: [batch, objects, height, width].
      boxes: [batch, objects, 4], in pixels of the image.
      scale: side of a pixel of the masks in pixels of the image.
    Returns: same shape as `masks`. A box without area leaves nothing.
    """
    y, x = ((jnp.arange(size) + 0.5) * scale for size in masks.shape[-2:])
    x0, y0, x1, y1 = (boxes[..., i, None] for i in range(4))
    rows, columns = (y0 <= y) & (y < y1), (x0 <= x) & (x < x1)
    return jnp.where(rows[..., :, None] & columns[..., None, :], masks, 0)


def assemble_masks(
    prototypes: jax.Array, coefficients: jax.Array, boxes: jax.Array, shape: tuple[int, int], stride: int
) -> jax.Array:
    """Masks of objects in the image: prototypes weighed by coefficients, upscaled, and cropped to the boxes.

    Args:
      prototypes: [batch, height', width', num_prototypes].
      coefficients: [batch, objects, num_prototypes], of the cells that were chosen.
      boxes: [batch, objects, 4], in pixels of the image.
      shape: (height, width) of the image.
      stride: side of a pixel of the prototypes in pixels of the image: half of the detector's finest stride.
    Returns: [batch, objects, height, width] float32: probabilities, 0 outside of the boxes. A mask is where they exceed
      ½.
    Raises: InputError if the numbers of prototypes differ, or the prototypes do not cover the image.
    """
    height, width = prototypes.shape[1] * stride, prototypes.shape[2] * stride
    if height < shape[0] or width < shape[1]:
        raise InputError(f"Prototypes {prototypes.shape} of stride {stride} do not cover an image of {tuple(shape)}.")
    logits = mask_logits(prototypes, coefficients).transpose(0, 2, 3, 1)
    upscaled = upscale_bilinear(logits, (height, width))[:, : shape[0], : shape[1]].transpose(0, 3, 1, 2)
    return crop_to_boxes(jax.nn.sigmoid(upscaled), boxes)
