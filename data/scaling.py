"""The range in which generative networks read and write images: 0 … 255 to −1 … 1, and back."""

from __future__ import annotations

import jax
import jax.numpy as jnp


def to_signed_unit(images: jax.Array) -> jax.Array:
    """0 … 255 -> −1 … 1.

    Args:
      images: Values in 0 … 255, any shape, uint8 or float.
    Returns: float32, shape of `images`.

    >>> to_signed_unit(jnp.array([0, 255], jnp.uint8))
    Array([-1.,  1.], dtype=float32)
    """
    return images.astype(jnp.float32) / 127.5 - 1


def to_pixels(images: jax.Array) -> jax.Array:
    """−1 … 1 -> 0 … 255: rounds, and clips what lies outside. The inverse of `to_signed_unit`.

    Args:
      images: Any shape, float.
    Returns: uint8, shape of `images`.

    >>> to_pixels(jnp.array([-1.0, 0.0, 1.0, 7.0]))
    Array([  0, 128, 255, 255], dtype=uint8)
    """
    return jnp.clip(jnp.round((images + 1) * 127.5), 0, 255).astype(jnp.uint8)
