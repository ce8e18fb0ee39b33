"""Random changes to one image, on device: pure functions of a key and an image, which compose.

An augmentation is (key, image) -> image, for one image [height, width, channel]; it keeps shape and dtype. `chain`
composes augmentations and `per_example` applies them to batches. There every example has a key of its own, selected by
its index in the data set, so that the result depends neither on its neighbors nor on its device.

The strength of a change may be traced, so that a population can vary it; at strength 0 an image stays the same to the
bit. Where masks and boxes must follow, draw and apply in two steps, with `geometry`.

Images may be uint8, or float32 in the same units, 0 … 255, which `normalize` reads too. Floats are never rounded. Where
pixels are interpolated, train on floats: two compiled programs, such as those of two layouts, may differ in the last
bit, and rounding to integers now and then makes a whole unit of that.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from ...errors import InputError
from . import color, geometry
from ._check import Batch, Scalar, example_keys, is_traced, require_between, require_image

Augmentation = Callable[[jax.Array, jax.Array], jax.Array]


def random_shift(key: jax.Array, image: jax.Array, *, padding: int) -> jax.Array:
    """Moves an image by up to `padding` pixels each way; what comes into view is 0.

    This pads with zeros and crops at random back to the size, as He et al. 2015 do for CIFAR (section 4.2).

    Args:
      key: One key.
      image: Image [height, width, channel], any dtype.
      padding: Largest shift in pixels; all (2·padding + 1)² shifts are equally likely. Not traced: it is a shape.
    Returns: Same shape and dtype as `image`.
    Raises: InputError for an image of another rank or a negative padding.

    >>> random_shift(jax.random.key(0), jnp.ones((32, 32, 3), jnp.uint8), padding=4).shape
    (32, 32, 3)
    """
    require_image("random_shift", image)
    if padding < 0:
        raise InputError(f"random_shift wants a padding of at least 0 pixels, got {padding}.")
    padded = jnp.pad(image, ((padding, padding), (padding, padding), (0, 0)))
    top, left = jax.random.randint(key, (2,), 0, 2 * padding + 1)
    return jax.lax.dynamic_slice(padded, (top, left, 0), image.shape)


def random_flip(key: jax.Array, image: jax.Array, *, probability: Scalar = 0.5) -> jax.Array:
    """Mirrors an image left to right with a given probability.

    Args:
      key: One key.
      image: Image [height, width, channel], any dtype.
      probability: Probability of the change, in [0, 1]. May be traced.
    Returns: Same shape and dtype as `image`.
    Raises: InputError for an image of another rank or a concrete probability out of range.
    """
    require_image("random_flip", image)
    return geometry.flip(image, geometry.draw_flip(key, probability))


def random_affine(
    key: jax.Array,
    image: jax.Array,
    *,
    degrees: Scalar = 0.0,
    scale: Scalar = 0.0,
    translate: Scalar = 0.0,
    shear: Scalar = 0.0,
) -> jax.Array:
    """Shears, zooms, rotates and moves an image in one bilinear resampling; what comes into view is 0.

    Args:
      key: One key.
      image: Image [height, width, channel], any real dtype.
      degrees, scale, translate, shear: Same as for `geometry.draw_affine`. May be traced.
    Returns: Same shape and dtype as `image`.
    Raises: InputError for an image of another rank or a concrete strength out of range.
    """
    require_image("random_affine", image)
    matrix = geometry.draw_affine(key, image.shape, degrees=degrees, scale=scale, translate=translate, shear=shear)
    return geometry.affine_image(image, matrix)


def color_jitter(
    key: jax.Array,
    image: jax.Array,
    *,
    brightness: Scalar = 0.0,
    contrast: Scalar = 0.0,
    saturation: Scalar = 0.0,
    hue: Scalar = 0.0,
) -> jax.Array:
    """Changes brightness, contrast, saturation and hue, in this order.

    Args:
      key: One key.
      image: Image [height, width, 1 or 3], values in 0 … 255.
      brightness: Strength in [0, 1]: the factor of `color.brightness` is uniform in 1 ± brightness. All four may be
        traced.
      contrast: Strength in [0, 1], likewise.
      saturation: Strength in [0, 1], likewise.
      hue: Strength in [0, 0.5]: the turn of `color.hue` is uniform in ±hue.
    Returns: Same shape and dtype as `image`, rounded once.
    Raises: InputError for an image of another rank or number of channels, a concrete strength out of range, or
      saturation or hue, traced or not 0, for an image with one channel.

    >>> color_jitter(jax.random.key(0), jnp.full((8, 8, 3), 128, jnp.uint8), brightness=0.4).dtype
    dtype('uint8')
    """
    require_image("color_jitter", image)
    require_between("color_jitter", 0, 1, brightness=brightness, contrast=contrast, saturation=saturation)
    require_between("color_jitter", 0, 0.5, hue=hue)
    channels = image.shape[-1]
    if channels not in (1, 3):
        raise InputError(f"color_jitter wants images with 1 or 3 channels, got {channels}.")
    light, spread, purity, turn = jax.random.uniform(key, (4,), minval=-1.0, maxval=1.0)
    changed = image.astype(jnp.float32)
    if _used(brightness):
        changed = color.brightness(changed, 1 + light * brightness)
    if _used(contrast):
        changed = color.contrast(changed, 1 + spread * contrast)
    if channels == 1 and (_used(saturation) or _used(hue)):
        raise InputError("color_jitter wants 3 channels to change saturation or hue, got images with 1.")
    if _used(saturation):
        changed = color.saturation(changed, 1 + purity * saturation)
    if _used(hue):
        changed = color.hue(changed, turn * hue)
    return color.pixels(changed, image.dtype)


def _used(strength: Scalar) -> bool:
    """Whether a strength may differ from 0: what certainly changes nothing need not be compiled."""
    return is_traced(strength) or bool(strength != 0)


def random_noise(key: jax.Array, image: jax.Array, *, std: Scalar) -> jax.Array:
    """Adds Gaussian noise, independent in each value.

    The result is clipped to 0 … 255, so near black and white the mean of the noise is not 0.

    Args:
      key: One key.
      image: Image [height, width, channel], values in 0 … 255.
      std: Standard deviation in units where 255 is 1, in [0, 1]. May be traced.
    Returns: Same shape and dtype as `image`.
    Raises: InputError for an image of another rank or a concrete std out of range.
    """
    require_image("random_noise", image)
    require_between("random_noise", 0, 1, std=std)
    return color.pixels(image + 255 * std * jax.random.normal(key, image.shape), image.dtype)


def random_cutout(key: jax.Array, image: jax.Array, *, size: Scalar, fill: ArrayLike = 0) -> jax.Array:
    """Covers a square around a random pixel of the image; part of the square may lie outside.

    Args:
      key: One key.
      image: Image [height, width, channel], any dtype.
      size: Side of the square in pixels, at least 0; rounded to a whole number. May be traced.
      fill: Color of the square, a scalar or [channel], in the units of the image. The authors use the data set's mean.
    Returns: Same shape and dtype as `image`.
    Raises: InputError for an image of another rank or a concrete size below 0.
    Source: DeVries & Taylor 2017, section 3.2.
    """
    require_image("random_cutout", image)
    require_between("random_cutout", 0, 2**30, size=size)
    side = jnp.round(jnp.asarray(size, jnp.float32)).astype(jnp.int32)
    row, column = jax.random.randint(key, (2,), 0, jnp.array(image.shape[:2]))
    covered = geometry.rectangle(image.shape, row - side // 2, column - side // 2, side, side)
    return jnp.where(covered[..., None], jnp.asarray(fill, image.dtype), image)


# Zhong et al. 2020, section 4.3 ("s_l", "s_h") and 4.2 ("r_1"): fraction of the image that is covered, and smallest
# height over width.
_ERASED_LEAST, _ERASED_MOST = 0.02, 0.4
_ERASED_FLATTEST = 0.3


def random_erase(key: jax.Array, image: jax.Array, *, probability: Scalar = 0.5) -> jax.Array:
    """Covers a rectangle inside the image with uniform noise, with a given probability.

    The area of the rectangle is uniform in 2 to 40 % of the image, and the ratio of its sides log-uniform in 0.3 to
    1 / 0.3. The authors draw again where it does not fit; here it is cut to the height or width of the image.

    Args:
      key: One key.
      image: Image [height, width, channel], values in 0 … 255.
      probability: Probability of the change, in [0, 1]. May be traced.
    Returns: Same shape and dtype as `image`.
    Raises: InputError for an image of another rank or a concrete probability out of range.
    Source: Zhong et al. 2020, "Random Erasing Data Augmentation", algorithm 1.
    """
    require_image("random_erase", image)
    require_between("random_erase", 0, 1, probability=probability)
    choice_key, noise_key = jax.random.split(key)
    chance, part, stretch, down, right = jax.random.uniform(choice_key, (5,))
    height, width, _ = image.shape
    area = height * width * (_ERASED_LEAST + part * (_ERASED_MOST - _ERASED_LEAST))
    ratio = jnp.exp((1 - 2 * stretch) * jnp.log(_ERASED_FLATTEST))
    rows = jnp.clip(jnp.round(jnp.sqrt(area * ratio)), 1, height)
    columns = jnp.clip(jnp.round(jnp.sqrt(area / ratio)), 1, width)
    top, left = jnp.floor(down * (height - rows + 1)), jnp.floor(right * (width - columns + 1))
    covered = geometry.rectangle(image.shape, top, left, rows, columns) & (chance < probability)
    noise = color.pixels(jax.random.uniform(noise_key, image.shape, maxval=255.0), image.dtype)
    return jnp.where(covered[..., None], noise, image)


def normalize(image: jax.Array, mean: ArrayLike, std: ArrayLike) -> jax.Array:
    """(image / 255 − mean) / std: the input of a network. It is not random, so it takes batches as they are.

    Args:
      image: Images [..., height, width, channel]: uint8, or float32 in the same units, 0 … 255, as `mixing.mixup`
        returns them.
      mean: Mean of each channel, [channel], in units where 255 is 1, as `moments` returns it.
      std: Standard deviation of each channel, [channel], likewise, positive.
    Returns: float32, same shape as `image`.
    Raises: InputError for an image of another dtype or without channels, or moments of another shape.

    >>> normalize(jnp.full((2, 2, 1), 255, jnp.uint8), mean=jnp.array([0.5]), std=jnp.array([0.25])).ravel()
    Array([2., 2., 2., 2.], dtype=float32)
    """
    if image.ndim < 3 or image.dtype not in (jnp.uint8, jnp.float32):
        raise InputError(
            "normalize wants uint8 or float32 images [..., height, width, channel], got an image of the wrong rank or "
            f"dtype: {image.dtype} {list(image.shape)}."
        )
    if not jnp.shape(mean) == jnp.shape(std) == image.shape[-1:]:
        raise InputError(
            f"normalize wants mean and std of shape [channel] = {list(image.shape[-1:])}, got "
            f"{list(jnp.shape(mean))} and {list(jnp.shape(std))}."
        )
    return (image.astype(jnp.float32) / 255 - jnp.asarray(mean, jnp.float32)) / jnp.asarray(std, jnp.float32)


def chain(*augmentations: Augmentation) -> Augmentation:
    """The augmentations one after another, each with a key of its own; without any, the identity."""

    def chained(key: jax.Array, image: jax.Array) -> jax.Array:
        for position, augmentation in enumerate(augmentations):
            image = augmentation(jax.random.fold_in(key, position), image)
        return image

    return chained


def per_example(augmentation: Augmentation) -> Callable[[jax.Array, Batch], dict[str, jax.Array]]:
    """Applies an augmentation of one image to batches.

    Args:
      augmentation: (key, image [height, width, channel]) -> image.
    Returns: (key, batch) -> batch, for batches with "image" [batch, height, width, channel] and "index" int [batch], as
      `stream` returns them. The key of an example is `fold_in(key, index)`; only the images change. It raises
      ValueError for images of another rank, or if there is not one index per image.

    >>> batch = {"image": jnp.ones((4, 8, 8, 1), jnp.uint8), "index": jnp.arange(4)}
    >>> per_example(chain(random_flip))(jax.random.key(0), batch)["image"].shape
    (4, 8, 8, 1)
    """

    def augmented(key: jax.Array, batch: Batch) -> dict[str, jax.Array]:
        keys = example_keys("per_example", key, batch)
        return {**batch, "image": jax.vmap(augmentation)(keys, batch["image"])}

    return augmented
