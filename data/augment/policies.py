"""RandAugment: a policy that draws which augmentations an image gets.

Its operations take one strength from −1 to 1; the table below says what each does at 1.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp

from ...errors import InputError
from . import color, geometry
from ._check import Scalar, require_between, require_image
from .images import random_noise


def rand_augment(key: jax.Array, image: jax.Array, *, num_operations: int, magnitude: Scalar) -> jax.Array:
    """RandAugment: draws operations from `OPERATIONS` with replacement and applies each with `magnitude`, up or down.

    The authors apply them in the order drawn. Here they are applied kind by kind: first what moves pixels, in the order
    drawn but in one resampling; then brightness, contrast, saturation, hue and noise, where an operation drawn twice is
    applied once, as strongly as both. So the image is blurred and rounded once, and the cost does not grow with
    `num_operations`: under vmap, each of as many branches would compute every operation.

    Args:
      key: One key.
      image: Image [height, width, 1 or 3], values in 0 … 255. With 1 channel, saturation and hue are not drawn.
      num_operations: Number of operations, at least 0. Not traced: it is a length.
      magnitude: Strength in [0, 1], as a fraction of the largest change in the table below. May be traced.
    Returns: Same shape and dtype as `image`.
    Raises: InputError for an image of another rank or number of channels, a negative number of operations, or a
      concrete magnitude out of range.
    Source: Cubuk et al. 2020, "RandAugment", figure 2, with the lecture's transformations.
    """
    require_image("rand_augment", image)
    require_between("rand_augment", 0, 1, magnitude=magnitude)
    draw_key, noise_key = jax.random.split(key)
    chosen, sign = draw_operations(draw_key, num_operations=num_operations, channels=image.shape[-1])
    strength = sign * magnitude

    def strengths(operation: str) -> jax.Array:
        return jnp.where(chosen == OPERATIONS.index(operation), strength, 0)  # [num_operations]

    moves = [partial(move, shape=image.shape) for move in (*_MOVES.values(), _stay)]
    steps = [jax.lax.switch(jnp.minimum(chosen[i], len(_MOVES)), moves, strength[i]) for i in range(num_operations)]
    changed = geometry.affine_image(image.astype(jnp.float32), geometry.compose(*steps))
    changed = color.brightness(changed, (1 + _MOST_FACTOR * strengths("brightness")).prod())
    changed = color.contrast(changed, (1 + _MOST_FACTOR * strengths("contrast")).prod())
    if image.shape[-1] == 3:
        changed = color.saturation(changed, (1 + _MOST_FACTOR * strengths("saturation")).prod())
        changed = color.hue(changed, _MOST_TURN * strengths("hue").sum())
    changed = random_noise(noise_key, changed, std=_MOST_NOISE * jnp.linalg.norm(strengths("noise")))
    return color.pixels(changed, image.dtype)


def draw_operations(key: jax.Array, *, num_operations: int, channels: int) -> tuple[jax.Array, jax.Array]:
    """Draws the operations of `rand_augment`.

    Args:
      key: One key.
      num_operations: Number of operations, at least 0.
      channels: Number of channels of the image, 1 or 3.
    Returns: (places in `OPERATIONS`, int32 [num_operations]; directions −1 or 1, float32 [num_operations]).
    Raises: InputError for another number of channels, or a negative number of operations.

    >>> chosen, sign = draw_operations(jax.random.key(0), num_operations=2, channels=3)
    >>> len([OPERATIONS[i] for i in chosen])
    2
    """
    if channels not in (1, 3):
        raise InputError(f"rand_augment wants images with 1 or 3 channels, got {channels}.")
    if num_operations < 0:
        raise InputError(f"rand_augment wants a num_operations of at least 0, got {num_operations}.")
    which_key, sign_key = jax.random.split(key)
    available = len(OPERATIONS) if channels == 3 else OPERATIONS.index("saturation")
    return (
        jax.random.randint(which_key, (num_operations,), 0, available),
        jax.random.rademacher(sign_key, (num_operations,), jnp.float32),
    )


# The operations at strength 1. Rotation, shear (a tangent of 0.3), translation (10 of CIFAR's 32 pixels) and the
# factors are those of Cubuk et al. 2019 ("AutoAugment", table 6); zoom, hue and noise, which they lack, are ours and
# about as visible.
_MOVES: dict[str, Callable[..., jax.Array]] = {
    "rotate": lambda strength, shape: geometry.rotation(30 * strength),
    "zoom": lambda strength, shape: geometry.zoom(1.5**strength),
    "translate_x": lambda strength, shape: geometry.translation(0.3 * shape[1] * strength, 0),
    "translate_y": lambda strength, shape: geometry.translation(0, 0.3 * shape[0] * strength),
    "shear_x": lambda strength, shape: geometry.shearing(16.7 * strength),
    "shear_y": lambda strength, shape: geometry.shearing(0, 16.7 * strength),
}
_MOST_FACTOR = 0.9  # brightness, contrast and saturation by 0.1 to 1.9
_MOST_TURN = 0.1  # of the circle of hues
_MOST_NOISE = 0.1  # standard deviation, in units where 255 is 1

OPERATIONS = (*_MOVES, "brightness", "contrast", "noise", "saturation", "hue")
"""The operations that `rand_augment` draws from; the last two only where there is color."""


def _stay(strength: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """The matrix of an operation that moves no pixels."""
    return jnp.eye(3)
