"""MixUp and CutMix: one example made of two, both image and label.

Both take a batch and return one whose labels are probabilities. Each example has a partner in the same batch; the
distance between partners is the same for all and drawn from the key. How much comes from the partner, and which part,
is drawn per example, from a key that the example's index selects, as in `per_example`.

So an example depends on its neighbors, and on the layout where a program sees only a part of the batch: under `jit`
over a mesh the batch is whole, but a replica of `pmap` mixes within its own part. Its numbers then differ from those of
the other layouts, and so does the choice of partners; the distribution of the shares is the same.

Give these functions a key of their own, not one that `per_example` uses too.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp

from ...errors import InputError
from . import geometry
from ._check import Batch, Scalar, require_batch, require_between


def mixup(key: jax.Array, batch: Batch, *, alpha: Scalar, num_classes: int) -> dict[str, jax.Array]:
    """x̃ = λ x_i + (1 − λ) x_j and ỹ = λ y_i + (1 − λ) y_j, with λ ~ Beta(α, α) for each example.

    The authors draw one λ per batch and say that one per example works as well.

    Args:
      key: One key.
      batch: "image" [batch, height, width, channel], "index" int [batch], and "label": int [batch] in
        [0, num_classes), or probabilities [batch, num_classes].
      alpha: α ≥ 0. At 0, λ is 1, so that only the form of the batch changes; as α grows, λ approaches 1/2. May be
        traced.
      num_classes: Number of classes.
    Returns: The batch, with "image" float32 in the units that it had and "label" float32 [batch, num_classes].
    Raises: InputError for a batch that does not fit or a concrete α that is negative.
    Source: Zhang et al. 2018, equation 1; the lecture's "MixUp".

    >>> images = jnp.arange(4.0).reshape(4, 1, 1, 1) * jnp.ones((1, 8, 8, 3))
    >>> batch = {"image": images, "label": jnp.arange(4), "index": jnp.arange(4)}
    >>> mixed = mixup(jax.random.key(0), batch, alpha=0.2, num_classes=10)
    >>> mixed["label"].shape, bool(jnp.allclose(mixed["label"].sum(1), 1))
    ((4, 10), True)
    """
    labels = _probabilities("mixup", batch, num_classes)
    require_between("mixup", 0, _LARGEST, alpha=alpha)
    pair_key, draw_key = jax.random.split(key)
    share = _per_index(lambda key: _beta(key, alpha), draw_key, batch)
    partner = _partner(pair_key, len(labels))

    def mix(x):
        weight = share.reshape(-1, *(1,) * (x.ndim - 1))
        return weight * x + (1 - weight) * partner(x)

    return {**batch, "image": mix(batch["image"].astype(jnp.float32)), "label": mix(labels)}


def cutmix(key: jax.Array, batch: Batch, *, alpha: Scalar, num_classes: int) -> dict[str, jax.Array]:
    """Pastes a rectangle of another image at the same place; labels mix by area.

    With λ ~ Beta(α, α) for each example, the rectangle has √(1 − λ) of the height and of the width, and its center is
    any pixel. The rectangle is cut at the borders, and the labels are mixed by the λ that remains, 1 − area.

    Args:
      key, batch, num_classes: Same as for `mixup`.
      alpha: α ≥ 0; the authors take 1. At 0, λ is 1, so that only the form of the batch changes. May be traced.
    Returns: The batch, with "image" of the same shape and dtype and "label" float32 [batch, num_classes].
    Raises: InputError for a batch that does not fit or a concrete α that is negative.
    Source: Yun et al. 2019, section 3.1 and supplementary algorithm A1.
    """
    labels, images = _probabilities("cutmix", batch, num_classes), batch["image"]
    require_between("cutmix", 0, _LARGEST, alpha=alpha)
    pair_key, draw_key = jax.random.split(key)
    partner = _partner(pair_key, len(labels))

    def draw(key):
        share_key, place_key = jax.random.split(key)
        side = jnp.sqrt(1 - _beta(share_key, alpha))
        size = jnp.array(images.shape[1:3])
        height, width = jnp.floor(size * side).astype(jnp.int32)
        row, column = jax.random.randint(place_key, (2,), 0, size)
        return geometry.rectangle(images.shape[1:], row - height // 2, column - width // 2, height, width)

    pasted = _per_index(draw, draw_key, batch)  # [batch, height, width]
    share = 1 - pasted.mean((1, 2))[:, None]
    return {
        **batch,
        "image": jnp.where(pasted[..., None], partner(images), images),
        "label": share * labels + (1 - share) * partner(labels),
    }


# Largest α. Gamma variables of a larger shape no longer differ in float32.
_LARGEST = 1e6


def _probabilities(function: str, batch: Batch, num_classes: int) -> jax.Array:
    """The labels as float32 [batch, num_classes]; raises ValueError for a batch that does not fit."""
    require_batch(function, batch)
    labels, examples = batch["label"], len(batch["image"])
    if labels.shape == (examples,) and jnp.issubdtype(labels.dtype, jnp.integer):
        return jax.nn.one_hot(labels, num_classes, dtype=jnp.float32)
    if labels.shape == (examples, num_classes) and jnp.issubdtype(labels.dtype, jnp.floating):
        return labels.astype(jnp.float32)
    raise InputError(
        f"{function} wants integer labels [{examples}] or probabilities [{examples}, {num_classes}], got "
        f"{labels.dtype} {list(labels.shape)}."
    )


def _partner(key: jax.Array, examples: int) -> Callable[[jax.Array], jax.Array]:
    """x [batch, …] -> x of each example's partner: never itself, unless it is alone."""
    # A rotation, not a permutation: the order of an epoch is random already, and a rotation has no fixed points.
    offset = jax.random.randint(key, (), 1, max(examples, 2))
    return lambda x: jnp.roll(x, offset, axis=0)


def _per_index(draw: Callable[[jax.Array], jax.Array], key: jax.Array, batch: Batch) -> jax.Array:
    """Draws [batch, …], each a function of the key and the example's index."""
    return jax.vmap(lambda index: draw(jax.random.fold_in(key, index)))(batch["index"])


def _beta(key: jax.Array, alpha: Scalar) -> jax.Array:
    """λ ~ Beta(α, α), and 1 at α = 0, where jax.random.beta returns NaN."""
    alpha = jnp.asarray(alpha, jnp.float32)
    positive = jnp.where(alpha > 0, alpha, 1)
    return jnp.where(alpha > 0, jax.random.beta(key, positive, positive), 1)
