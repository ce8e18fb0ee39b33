"""What pixels are worth: brightness, contrast, saturation and hue of an image, changed by a given amount.

Values are 0 … 255 whatever the dtype; what would leave that range is cut, and integers are rounded. Nothing here
is random: `augment.random_colour` draws the amounts.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from ._check import Scalar

# How bright red, green and blue look: ITU-R BT.601, section 2.5.1, as PIL and torchvision have it.
_LUMA = (0.299, 0.587, 0.114)


def brightness(image: jax.Array, factor: Scalar) -> jax.Array:
    """factor · image.

    Args:
      image: [height, width, channel], values in 0 … 255.
      factor: at least 0; 1 changes nothing. May be traced.
    Returns: as `image`.
    """
    return pixels(image.astype(jnp.float32) * factor, image.dtype)


def contrast(image: jax.Array, factor: Scalar) -> jax.Array:
    """factor · image + (1 − factor) · its mean grey value.

    Args:
      image: [height, width, 1 or 3], values in 0 … 255.
      factor: at least 0; 1 changes nothing. May be traced.
    Returns: as `image`.
    """
    return _blend(image, grey(image).mean(), factor)


def saturation(image: jax.Array, factor: Scalar) -> jax.Array:
    """factor · image + (1 − factor) · the grey image.

    Args:
      image: [height, width, 3], values in 0 … 255.
      factor: at least 0; 0 leaves grey, 1 changes nothing. May be traced.
    Returns: as `image`.
    """
    return _blend(image, grey(image), factor)


def hue(image: jax.Array, turn: Scalar) -> jax.Array:
    """Turns the circle of colours, at the same saturation and value in the sense of HSV.

    Args:
      image: [height, width, 3], values in 0 … 255.
      turn: part of a full circle; 1/3 takes red to green, 0 changes nothing. May be traced.
    Returns: as `image`.
    """
    # Channel by channel: on CPU seven times as fast as with a last dimension of 3 (measured at 32×32).
    values = image.astype(jnp.float32)
    red, green, blue = values[..., 0], values[..., 1], values[..., 2]
    value = jnp.maximum(jnp.maximum(red, green), blue)
    chroma = value - jnp.minimum(jnp.minimum(red, green), blue)
    # The hue in sixths of a circle: 0 is red, 2 green, 4 blue. Of a grey pixel it does not matter.
    safe = jnp.where(chroma > 0, chroma, 1)
    of_red, of_green, of_blue = (green - blue) / safe, 2 + (blue - red) / safe, 4 + (red - green) / safe
    sixths = jnp.where(value == red, of_red, jnp.where(value == green, of_green, of_blue)) + 6 * turn

    def channel(offset):
        # The value, less the chroma times a trapezium over the circle (Wikipedia, "HSL and HSV", section "HSV to RGB
        # alternative").
        place = sixths + offset
        place -= 6 * jnp.floor(place / 6)
        return value - chroma * jnp.clip(jnp.minimum(place, 4 - place), 0, 1)

    turned = jnp.stack([channel(5), channel(3), channel(1)], -1)
    # There and back is exact up to rounding only.
    return pixels(jnp.where(turn == 0, values, turned), image.dtype)


def grey(image: jax.Array) -> jax.Array:
    """The grey image, [height, width, 1] float32, of one with 1 or 3 channels."""
    values = image.astype(jnp.float32)
    return values if image.shape[-1] == 1 else (values * jnp.array(_LUMA)).sum(-1, keepdims=True)


def pixels(values: jax.Array, dtype: jax.typing.DTypeLike) -> jax.Array:
    """Values as those of an image: cut to 0 … 255, and rounded where the dtype is of integers."""
    values = jnp.clip(values, 0, 255)
    return (jnp.round(values) if jnp.issubdtype(dtype, jnp.integer) else values).astype(dtype)


def _blend(image: jax.Array, other: jax.Array, factor: Scalar) -> jax.Array:
    # In this form, factor 1 gives the image to the bit.
    factor = jnp.asarray(factor, jnp.float32)
    return pixels(factor * image.astype(jnp.float32) + (1 - factor) * other, image.dtype)
