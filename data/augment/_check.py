"""Checks of augmentations before anything compiles: shapes of images and batches, ranges of strengths; and the keys.

A traced strength has no value yet, so it is trusted.
"""

from __future__ import annotations

from collections.abc import Mapping

import jax
import jax.core

from ...errors import InputError

Batch = Mapping[str, jax.Array]
Scalar = float | jax.Array
"""A number: an int, a float, or an array of rank 0, perhaps traced."""


def require_image(function: str, image: jax.Array) -> None:
    """Raises InputError unless the image has rank 3."""
    if image.ndim != 3:
        raise InputError(
            f"{function} wants one image of rank 3, [height, width, channel], got an image of the wrong "
            f"rank: {image.ndim}, of shape {list(image.shape)}. per_example applies it to batches."
        )


def require_batch(function: str, batch: Batch) -> None:
    """Raises InputError unless the batch has images of rank 4 and one index for each."""
    images, indices = batch["image"], batch["index"]
    if images.ndim != 4:
        raise InputError(
            f"{function} wants images of rank 4, [batch, height, width, channel], got images of "
            f"the wrong rank: {images.ndim}, of shape {list(images.shape)}."
        )
    if indices.shape != images.shape[:1]:
        raise InputError(
            f"{function} wants one index per image, [{images.shape[0]}], got indices of shape {list(indices.shape)}."
        )


def example_keys(function: str, key: jax.Array, batch: Batch) -> jax.Array:
    """A key for each example, a function of the key and of the example's index alone; checks the batch first."""
    require_batch(function, batch)
    return jax.vmap(jax.random.fold_in, in_axes=(None, 0))(key, batch["index"])


def require_between(function: str, low: float, high: float, **strengths: Scalar) -> None:
    """Raises InputError unless each strength, where concrete, lies in [low, high]; NaN never does."""
    for name, value in strengths.items():
        if not is_traced(value) and not low <= float(value) <= high:
            raise InputError(f"{function} wants {name} between {low:g} and {high:g}, got {value}.")


def is_traced(value: Scalar) -> bool:
    """Whether the value is known only when the compiled program runs."""
    return isinstance(value, jax.core.Tracer)
