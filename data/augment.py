"""Changes to images, made on device: pure functions of one image and one key, which compose.

An augmentation is (key, image) -> image, for one image [height, width, channel]; it keeps shape and dtype.
`chain` composes them, `per_example` takes them to batches: there every example has a key of its own, named by
its index in the data set, so that what happens to it depends neither on its neighbours nor on the device it
is on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp

Augmentation = Callable[[jax.Array, jax.Array], jax.Array]
Batch = Mapping[str, jax.Array]


def random_shift(key: jax.Array, image: jax.Array, *, padding: int) -> jax.Array:
    """Moves an image by up to `padding` pixels each way; what comes into view is 0.

    The same as to pad with zeros and crop at random back to the size, as He et al. 2015 do for CIFAR (section
    4.2).

    Args:
      key: one key.
      image: [height, width, channel], any dtype.
      padding: all (2·padding + 1)² shifts are equally likely.
    Returns: as `image`.
    Raises: ValueError for an image of another rank or a negative padding.
    """
    _check_rank("random_shift", image)
    if padding < 0:
        raise ValueError(f"random_shift wants a padding of at least 0 pixels, got {padding}.")
    padded = jnp.pad(image, ((padding, padding), (padding, padding), (0, 0)))
    top, left = jax.random.randint(key, (2,), 0, 2 * padding + 1)
    return jax.lax.dynamic_slice(padded, (top, left, 0), image.shape)


def random_flip(key: jax.Array, image: jax.Array) -> jax.Array:
    """Mirrors an image left to right, one time in two.

    Args:
      key: one key.
      image: [height, width, channel], any dtype.
    Returns: as `image`.
    Raises: ValueError for an image of another rank.
    """
    _check_rank("random_flip", image)
    return jnp.where(jax.random.bernoulli(key), image[:, ::-1], image)


def normalise(image: jax.Array, mean: jax.typing.ArrayLike, std: jax.typing.ArrayLike) -> jax.Array:
    """(image / 255 - mean) / std: what a network reads. Not random, so it takes batches as they are.

    Args:
      image: uint8 [..., height, width, channel].
      mean: [channel], in units where 255 is 1; as `moments` gives it.
      std: [channel], likewise, positive.
    Returns: float32, shape of `image`.
    Raises: ValueError for an image that is not uint8 or has no channels, or moments of another shape.
    """
    if image.ndim < 3 or image.dtype != jnp.uint8:
        raise ValueError(
            "normalise wants uint8 images [..., height, width, channel], got an image of the wrong rank or "
            f"dtype: {image.dtype} {list(image.shape)}."
        )
    if not jnp.shape(mean) == jnp.shape(std) == image.shape[-1:]:
        raise ValueError(
            f"normalise wants mean and std of shape [channel] = {list(image.shape[-1:])}, got "
            f"{list(jnp.shape(mean))} and {list(jnp.shape(std))}."
        )
    return (image.astype(jnp.float32) / 255 - jnp.asarray(mean, jnp.float32)) / jnp.asarray(std, jnp.float32)


def chain(*augmentations: Augmentation) -> Augmentation:
    """The augmentations one after another, each with a key of its own; of none, the identity."""

    def chained(key: jax.Array, image: jax.Array) -> jax.Array:
        for position, augmentation in enumerate(augmentations):
            image = augmentation(jax.random.fold_in(key, position), image)
        return image

    return chained


def per_example(augmentation: Augmentation) -> Callable[[jax.Array, Batch], dict[str, jax.Array]]:
    """Takes an augmentation of one image to batches.

    Args:
      augmentation: (key, image [height, width, channel]) -> image.
    Returns: (key, batch) -> batch, for batches with "image" [batch, height, width, channel] and "index" int
      [batch], as `stream` gives them. The key of an example is `fold_in(key, index)`; everything but the
      images stays as it is. It raises ValueError for images of another rank, or indices that are not one per
      image.
    """

    def augmented(key: jax.Array, batch: Batch) -> dict[str, jax.Array]:
        images, indices = batch["image"], batch["index"]
        if images.ndim != 4:
            raise ValueError(
                "per_example wants images of rank 4, [batch, height, width, channel], got images of "
                f"the wrong rank: {images.ndim}, of shape {list(images.shape)}."
            )
        if indices.shape != images.shape[:1]:
            raise ValueError(
                f"per_example wants one index per image, [{images.shape[0]}], got indices of shape "
                f"{list(indices.shape)}."
            )
        keys = jax.vmap(jax.random.fold_in, in_axes=(None, 0))(key, indices)
        return {**batch, "image": jax.vmap(augmentation)(keys, images)}

    return augmented


def _check_rank(function: str, image: jax.Array) -> None:
    if image.ndim != 3:
        raise ValueError(
            f"{function} wants one image of rank 3, [height, width, channel], got an image of the wrong "
            f"rank: {image.ndim}, of shape {list(image.shape)}. per_example takes it to batches."
        )
