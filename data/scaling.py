"""Images as generative networks read and write them: 0 … 255 as numbers about 0, and back."""

from __future__ import annotations

import jax
import jax.numpy as jnp


def to_unit(images: jax.Array) -> jax.Array:
    """0 … 255 -> −1 … 1, float32.

    Args:
      images: any shape, uint8 or float.
    """
    return images.astype(jnp.float32) / 127.5 - 1


def to_pixels(images: jax.Array) -> jax.Array:
    """−1 … 1 -> 0 … 255, uint8: rounded, and what lies outside is cut off. The inverse of `to_unit`.

    Args:
      images: any shape, float.
    """
    return jnp.clip(jnp.round((images + 1) * 127.5), 0, 255).astype(jnp.uint8)
