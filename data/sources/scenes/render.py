"""One scene from one key, on device: jit, vmap and any size.

Objects are painted one over another, the last one on top. Their truth is what is seen: an object's mask has the pixels
where it is at least half opaque and no later object is. An object of which less than `LEAST_VISIBLE` would be seen,
because others cover it or it leaves the picture, is not painted at all, so that picture and truth always agree.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from ....errors import InputError
from ...augment import annotated
from .poses import Poses
from .sprites import DRAWN, LEVELS, SIDE, Sprites
from .stuff import background

MAX_OBJECTS = 5
SIZES = (32, 256)
"""Smallest and largest side of a scene in pixels."""
LEAST_VISIBLE = 0.5
"""Part of an object's own pixels that must be seen; else it is not painted."""
_CENTER = 0.18  # objects have their centers at least so far from each border, as a fraction of the side
_OPAQUE = 0.5


def scene(
    key: jax.Array, sprites: Sprites, poses: Poses, *, size: int, max_objects: int = MAX_OBJECTS
) -> dict[str, jax.Array]:
    """Renders one scene of 1 to `max_objects` objects over a background.

    The number of objects, their kinds, places and poses are uniform (the size within its band by its logarithm).
    Drawings keep their colors up to ±15 %; digits and shapes are painted in any color.

    Args:
      key: one key; the scene is a function of it.
      sprites: pictures of the kinds that may occur.
      poses: rotations and sizes that may occur, such as `Poses.of("train")`.
      size: pixels per side, 32 to 256.
      max_objects: N, the most objects.
    Returns:
      "image": uint8 [size, size, 3].
      "boxes": float32 [N, 4], around the visible part of each object; zeros where there is none. Objects come in the
        order in which they are painted, then what is empty.
      "labels": int32 [N], the kind as an index into `sprites`; −1 where there is none.
      "crowd": bool [N], all false.
      "masks": uint8 [N, size, size], 1 where the object is seen. No pixel is in two masks.
      "semantic": int32 [size, size], the label of what is seen: an object's, or len(sprites) + index into `STUFF`.
    Raises: InputError for a size out of range.
    """
    if not SIZES[0] <= size <= SIZES[1]:
        raise InputError(f"A scene has {SIZES[0]} to {SIZES[1]} pixels per side, got {size}.")
    behind, object_key = jax.random.split(key)
    colors, stuff = background(behind, size)
    layers, labels, wanted = _objects(object_key, sprites, poses, size, max_objects)
    visible = _uncovered(layers[:, 3] >= _OPAQUE).sum((1, 2))
    kept = (labels >= 0) & (visible >= LEAST_VISIBLE * wanted)
    order = jnp.argsort(~kept, stable=True)
    layers = jnp.where(kept[:, None, None, None], layers, 0.0)[order]
    labels = jnp.where(kept, labels, -1)[order]
    colors = jnp.moveaxis(colors, -1, 0)
    for layer in layers:
        colors = colors * (1 - layer[3:]) + 255 * layer[:3]
    masks = _uncovered(layers[:, 3] >= _OPAQUE)
    num_kinds = sprites.pixels.shape[0]
    semantic = jnp.where(masks.any(0), (masks * labels[:, None, None]).sum(0), num_kinds + stuff)
    return {
        "image": jnp.round(jnp.moveaxis(colors, 0, -1)).astype(jnp.uint8),
        "boxes": annotated.mask_boxes(masks),
        "labels": labels,
        "crowd": jnp.zeros(max_objects, bool),
        "masks": masks.astype(jnp.uint8),
        "semantic": semantic.astype(jnp.int32),
    }


def _objects(
    key: jax.Array, sprites: Sprites, poses: Poses, size: int, max_objects: int
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Draws objects: (layers float32 [N, 4, size, size] in 0 … 1; labels [N]; number of pixels of each [N]).

    A layer is red, green and blue, each times opacity, then opacity. Channels come first, since they are computed by
    themselves, and one after another in memory they take a third of the time.
    """
    pixels, area, painted = map(jnp.asarray, sprites)
    # One draw for all, since a program with many draws takes long to compile.
    drawn = jax.random.uniform(key, (11, max_objects))
    count = 1 + _whole(drawn[0, 0], max_objects)
    kinds, pose = _whole(drawn[1], len(area)), _whole(drawn[2], len(poses.degrees))
    degrees = _between(jnp.asarray(poses.degrees)[pose], drawn[3])
    length = size * jnp.exp(_between(jnp.log(jnp.asarray(poses.size))[pose], drawn[4]))
    center = size * _between((_CENTER, 1 - _CENTER), drawn[5:7].T)
    gains = jnp.where(painted[kinds, None], _paint(drawn[7]), 1.0) * _between((0.85, 1.15), drawn[8:].T)
    side = length * (SIDE / DRAWN)
    packed = jax.lax.bitcast_convert_type(pixels, jnp.uint32)
    layers = jax.vmap(_layer, (None, 0, 0, 0, 0, None))(packed, kinds, degrees, side, center, size)
    # Else XLA reads the sprites again for each result that is computed from them: twice the time.
    layers = jax.lax.optimization_barrier(layers)
    # Brighter than white is white, and black outlines stay black.
    gains = jnp.concatenate([gains, jnp.ones((max_objects, 1))], axis=1)
    layers = jnp.minimum(layers * gains[:, :, None, None], layers[:, 3:])
    labels = jnp.where(jnp.arange(max_objects) < count, kinds, -1)
    return jnp.where((labels >= 0)[:, None, None, None], layers, 0.0), labels, area[kinds] * side**2


def _paint(hue: jax.Array) -> jax.Array:
    """Lively colors [N, 3] from hues in [0, 1): red, green and blue at the corners of the color circle, lightened."""
    angle = 6 * hue[:, None]
    pure = jnp.clip(jnp.abs((angle + jnp.array([0.0, 4.0, 2.0])) % 6 - 3) - 1, 0, 1)
    return 0.25 + 0.75 * pure


def _layer(
    packed: jax.Array, kind: jax.Array, degrees: jax.Array, side: jax.Array, center: jax.Array, size: int
) -> jax.Array:
    """A sprite, turned and scaled to `side` pixels, in its place: float32 [4, size, size] in 0 … 1; 0 around it."""
    level = jnp.clip(jnp.round(jnp.log2(SIDE / side)), 0, LEVELS - 1).astype(jnp.int32)
    width = SIDE >> level
    begin = 2 * SIDE - 2 * width  # 0, 128, 192, 224: the columns of the levels before
    x = jnp.arange(size) + 0.5 - center[0]
    y = (jnp.arange(size) + 0.5)[:, None] - center[1]
    angle = jnp.deg2rad(degrees)
    cos, sin = jnp.cos(angle), jnp.sin(angle)
    scale = width / side
    column = scale * (cos * x - sin * y) + (width - 1) / 2
    row = scale * (sin * x + cos * y) + (width - 1) / 2

    # The outermost pixels of a sprite are empty: so is what is read beyond them.
    row, column = jnp.clip(row, 0, width - 1.001), jnp.clip(column, 0, width - 1.001)
    top, left = row.astype(jnp.int32), column.astype(jnp.int32)
    down, right = row - top, column - left

    def texel(row: jax.Array, column: jax.Array) -> jax.Array:
        bytes_ = packed[kind, row, begin + column] >> (8 * jnp.arange(4, dtype=jnp.uint32)[:, None, None])
        return (bytes_ & 255).astype(jnp.float32)

    above = texel(top, left) * (1 - right) + texel(top, left + 1) * right
    below = texel(top + 1, left) * (1 - right) + texel(top + 1, left + 1) * right
    return (above * (1 - down) + below * down) / 255


def _uncovered(opaque: jax.Array) -> jax.Array:
    """Where each object is seen: where it is opaque and no later one is. bool [N, size, size]."""
    later = jnp.triu(jnp.ones((len(opaque), len(opaque))), 1)
    covered = jnp.einsum("nm,mhw->nhw", later, opaque.astype(jnp.float32)) > 0
    return opaque & ~covered


def _between(ends: ArrayLike | tuple[float, float], part: jax.Array) -> jax.Array:
    """Between both ends, which are the last axis."""
    low, high = jnp.moveaxis(jnp.asarray(ends), -1, 0)
    return low + part * (high - low)


def _whole(part: jax.Array, number: int) -> jax.Array:
    """A whole number in 0 … number − 1 from one in [0, 1)."""
    return (part * number).astype(jnp.int32)
