"""An image can be turned and flipped; what is said of its pixels can be turned back, and averaged."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp


def over_turns(apply: Callable[[jax.Array], jax.Array], images: jax.Array) -> jax.Array:
    """The mean of what a function says of images and of their flips and turns, each turned back.

    Of square images these are all eight; of others the four that keep their shape. The views are taken one after
    another, so that they need the memory of one.

    Args:
      apply: images [batch, height, width, channel] -> [batch, height, width, any].
      images: [batch, height, width, channel].
    Returns: [batch, height, width, any].
    Source: Ronneberger et al. 2015, section 4 (the mean over seven rotated versions of the image).
    """
    turns = range(4) if images.shape[1] == images.shape[2] else (0, 2)
    views = [(turn, flipped) for turn in turns for flipped in (False, True)]
    total = sum(_back(apply(_turned(images, *view)), *view) for view in views)
    return jnp.asarray(total) / len(views)


def _turned(x: jax.Array, turn: int, flipped: bool) -> jax.Array:
    x = jnp.rot90(x, turn, (1, 2))
    return x[:, :, ::-1] if flipped else x


def _back(x: jax.Array, turn: int, flipped: bool) -> jax.Array:
    x = x[:, :, ::-1] if flipped else x
    return jnp.rot90(x, -turn, (1, 2))
