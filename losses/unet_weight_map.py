"""U-Net's weight of each pixel: high in the narrow gaps between objects, so that the network learns to keep them apart.

The distances to the two nearest objects are exact and Euclidean. They come from one sweep along each axis that carries
the two nearest objects of every pixel, so that time grows with height · width · (height + width) and not with the
number of objects. All of it runs under jit and vmap.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from ..errors import InputError


def unet_weight_map(
    instances: jax.Array,
    *,
    class_weights: jax.Array | tuple[float, float] = (1.0, 1.0),
    w0: float | jax.Array = 10.0,
    sigma: float | jax.Array = 5.0,
    reach: int | None = 32,
) -> jax.Array:
    """w(x) = w_c(x) + w0 · exp(−(d1(x) + d2(x))² / (2σ²)), the weights of the cross-entropy of one image's pixels.

    d1 and d2 are the distances, in pixels, to the nearest pixels of the nearest and the second nearest object. The
    second term is for the background alone, and needs two objects. So two objects must not touch: at least one pixel of
    background is between them.

    Args:
      instances: [height, width] integers: the object of each pixel, from 1 on; 0 is background, and so is −1, a pixel
        that a loss ignores.
      class_weights: w_c of background and of objects, such as the inverse frequencies in the training set. May be
        traced.
      w0: greatest weight of a gap. May be traced.
      sigma: σ > 0, width of a gap in pixels. May be traced.
      reach: an object further away than so many pixels is none; None for no limit. With σ = 5, what is left out is less
        than w0 · 1.3e-9, and a map of 512×512 takes a quarter of the time.
    Returns: [height, width] float32.
    Raises: InputError for another rank, or if the instances are not integers.
    Source: Ronneberger et al. 2015, equation (2); w0 = 10 and σ ≈ 5 pixels are theirs.

    >>> print(unet_weight_map(jnp.array([[1, 0, 2]])).round(2))  # a gap of one pixel: 1 + 10·exp(−2² / 50)
    [[ 1.    10.23  1.  ]]
    """
    background, objects = jnp.asarray(class_weights, jnp.float32)
    first, second = distances_to_objects(instances, reach)
    gap = w0 * jnp.exp(-((first + second) ** 2) / (2 * sigma**2))
    return jnp.where(instances > 0, objects, background + gap)


def distances_to_objects(instances: jax.Array, reach: int | None = None) -> tuple[jax.Array, jax.Array]:
    """Distances from each pixel to the nearest and to the second nearest object.

    Args:
      instances: [height, width] integers: the object of each pixel, from 1 on; others are no object.
      reach: greatest distance; None for no limit.
    Returns: two arrays [height, width] float32, in pixels between centers: 0 on an object, ∞ where there is none within
      reach.
    Raises: InputError for another rank, if the instances are not integers, or reach is negative.
    """
    if instances.ndim != 2 or not jnp.issubdtype(instances.dtype, jnp.integer):
        raise InputError(
            f"Instances of one image are integers [height, width]; got {instances.shape} {instances.dtype}."
        )
    if reach is not None and reach < 0:
        raise InputError(f"reach is {reach}; it must be at least 0.")
    reach = sum(instances.shape) if reach is None else reach
    labels = jnp.where(instances > 0, instances, 0).astype(jnp.int32)
    here = jnp.where(labels > 0, 0.0, jnp.inf)
    alone = Nearest(here, labels, jnp.full(labels.shape, jnp.inf), jnp.zeros_like(labels))
    # Of a column, no more than its two nearest objects can be among the two nearest of a pixel.
    columns = _sweep_rows(alone, reach)
    nearest = _sweep_rows(Nearest(*(x.T for x in columns)), reach)
    first, second = (jnp.sqrt(jnp.where(squared <= reach**2, squared, jnp.inf)).T for squared in nearest[::2])
    return first, second


class Nearest(NamedTuple):
    """Two different objects for each pixel, with squared distances in pixels²; ∞ and label 0 where there is none."""

    first: jax.Array
    first_label: jax.Array
    second: jax.Array
    second_label: jax.Array


_NOTHING = (jnp.inf, 0, jnp.inf, 0)


def _sweep_rows(found: Nearest, reach: int) -> Nearest:
    """The two nearest for each pixel among what was found in its column, up to `reach` rows above and below."""
    height = len(found.first)
    reach = min(reach, max(height - 1, 0))
    around = Nearest(
        *(
            jnp.pad(x, ((reach, reach), (0, 0)), constant_values=beyond)
            for x, beyond in zip(found, _NOTHING, strict=True)
        )
    )

    def look_at(nearest, start):
        candidates = Nearest(*(jax.lax.dynamic_slice_in_dim(x, start, height) for x in around))
        squared = ((start - reach) ** 2).astype(jnp.float32)
        nearest = _add(nearest, candidates.first + squared, candidates.first_label)
        return _add(nearest, candidates.second + squared, candidates.second_label), None

    nothing = Nearest(*(jnp.full_like(x, beyond) for x, beyond in zip(found, _NOTHING, strict=True)))
    return jax.lax.scan(look_at, nothing, jnp.arange(2 * reach + 1))[0]


def _add(nearest: Nearest, squared: jax.Array, label: jax.Array) -> Nearest:
    """The two nearest of three, of which the new one may be an object that is there already."""
    closer, known = squared < nearest.first, label == nearest.first_label
    runner_up = jnp.where(closer, nearest.first, squared)
    runner_up_label = jnp.where(closer, nearest.first_label, label)
    replaces = ~known & (closer | (runner_up < nearest.second))
    return Nearest(
        jnp.where(closer, squared, nearest.first),
        jnp.where(closer, label, nearest.first_label),
        jnp.where(replaces, runner_up, nearest.second),
        jnp.where(replaces, runner_up_label, nearest.second_label),
    )
