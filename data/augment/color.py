"""Brightness, contrast, saturation and hue of an image, changed by a given amount.

Values are 0 … 255 whatever the dtype; results are clipped to that range, and integers are rounded. Nothing here is
random: `color_jitter` draws the amounts.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from ._check import Scalar

# How bright red, green and blue look: ITU-R BT.601, section 2.5.1, as in PIL and torchvision.
_LUMA = (0.299, 0.587, 0.114)


def brightness(image: jax.Array, factor: Scalar) -> jax.Array:
    """factor · image.

    Args:
      image: Image [height, width, channel], values in 0 … 255.
      factor: At least 0; 1 changes nothing. May be traced.
    Returns: Same shape and dtype as `image`.

    >>> brightness(jnp.array([[[10], [200]]], jnp.uint8), 1.5).ravel()
    Array([ 15, 255], dtype=uint8)
    """
    return pixels(image.astype(jnp.float32) * factor, image.dtype)


def contrast(image: jax.Array, factor: Scalar) -> jax.Array:
    """factor · image + (1 − factor) · its mean gray value.

    Args:
      image: Image [height, width, 1 or 3], values in 0 … 255.
      factor: At least 0; 1 changes nothing. May be traced.
    Returns: Same shape and dtype as `image`.
    """
    return _blend(image, gray(image).mean(), factor)


def saturation(image: jax.Array, factor: Scalar) -> jax.Array:
    """factor · image + (1 − factor) · the gray image.

    Args:
      image: Image [height, width, 3], values in 0 … 255.
      factor: At least 0; 0 leaves gray, 1 changes nothing. May be traced.
    Returns: Same shape and dtype as `image`.
    """
    return _blend(image, gray(image), factor)


def hue(image: jax.Array, turn: Scalar) -> jax.Array:
    """Rotates the hue, keeping saturation and value in the sense of HSV.

    Args:
      image: Image [height, width, 3], values in 0 … 255.
      turn: Fraction of a full circle; 1/3 takes red to green, 0 changes nothing. May be traced.
    Returns: Same shape and dtype as `image`.

    >>> hue(jnp.array([[[200, 0, 0]]], jnp.uint8), 1 / 3).ravel()
    Array([  0, 200,   0], dtype=uint8)
    """
    # Channel by channel, which on CPU is seven times as fast as with a last dimension of 3 (measured at 32×32).
    values = image.astype(jnp.float32)
    red, green, blue = values[..., 0], values[..., 1], values[..., 2]
    value = jnp.maximum(jnp.maximum(red, green), blue)
    chroma = value - jnp.minimum(jnp.minimum(red, green), blue)
    # The hue in sixths of a circle: 0 is red, 2 green, 4 blue. For a gray pixel it does not matter.
    safe = jnp.where(chroma > 0, chroma, 1)
    of_red, of_green, of_blue = (green - blue) / safe, 2 + (blue - red) / safe, 4 + (red - green) / safe
    sixths = jnp.where(value == red, of_red, jnp.where(value == green, of_green, of_blue)) + 6 * turn

    def channel(offset):
        # The value minus the chroma times a trapezoid over the circle (Wikipedia, "HSL and HSV", section "HSV to RGB
        # alternative").
        place = sixths + offset
        place -= 6 * jnp.floor(place / 6)
        return value - chroma * jnp.clip(jnp.minimum(place, 4 - place), 0, 1)

    turned = jnp.stack([channel(5), channel(3), channel(1)], -1)
    # The way there and back is exact only up to rounding, so an image that is not turned is returned as it was.
    return pixels(jnp.where(turn == 0, values, turned), image.dtype)


def gray(image: jax.Array) -> jax.Array:
    """The gray image, float32 [height, width, 1], of an image with 1 or 3 channels."""
    values = image.astype(jnp.float32)
    return values if image.shape[-1] == 1 else (values * jnp.array(_LUMA)).sum(-1, keepdims=True)


def pixels(values: jax.Array, dtype: jax.typing.DTypeLike) -> jax.Array:
    """Makes values those of an image: clips them to 0 … 255, and rounds them where the dtype is an integer."""
    values = jnp.clip(values, 0, 255)
    return (jnp.round(values) if jnp.issubdtype(dtype, jnp.integer) else values).astype(dtype)


def _blend(image: jax.Array, other: jax.Array, factor: Scalar) -> jax.Array:
    # In this form, factor 1 returns the image to the bit.
    factor = jnp.asarray(factor, jnp.float32)
    return pixels(factor * image.astype(jnp.float32) + (1 - factor) * other, image.dtype)
