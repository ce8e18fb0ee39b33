"""Changes to images, made on device: pure functions of one image and one key, which compose.

An augmentation is (key, image) -> image, for one image [height, width, channel]; it keeps shape and dtype.
`chain` composes them, `per_example` takes them to batches: there every example has a key of its own, named by
its index in the data set, so that what happens to it depends neither on its neighbours nor on the device it
is on. What mixes examples is in `mixing`.

How strong a change is may be traced, so that a population can vary it; at strength 0 an image stays as it is, to the
bit. Where masks and boxes must follow, draw and apply in two steps, by `geometry`.

Images may be uint8, or float32 in the same units, 0 … 255, which `normalise` reads too. Floats are never rounded. Where
pixels are interpolated, give floats to train on: rounding to integers makes of a last bit that differs between two
compiled programs, such as those of two layouts, a whole unit now and then.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from . import colour, geometry
from ._check import Batch, Scalar, is_traced, require_batch, require_between, require_image

Augmentation = Callable[[jax.Array, jax.Array], jax.Array]


def random_shift(key: jax.Array, image: jax.Array, *, padding: int) -> jax.Array:
    """Moves an image by up to `padding` pixels each way; what comes into view is 0.

    The same as to pad with zeros and crop at random back to the size, as He et al. 2015 do for CIFAR (section
    4.2).

    Args:
      key: one key.
      image: [height, width, channel], any dtype.
      padding: all (2·padding + 1)² shifts are equally likely. Not traced: it is a shape.
    Returns: as `image`.
    Raises: ValueError for an image of another rank or a negative padding.
    """
    require_image("random_shift", image)
    if padding < 0:
        raise ValueError(f"random_shift wants a padding of at least 0 pixels, got {padding}.")
    padded = jnp.pad(image, ((padding, padding), (padding, padding), (0, 0)))
    top, left = jax.random.randint(key, (2,), 0, 2 * padding + 1)
    return jax.lax.dynamic_slice(padded, (top, left, 0), image.shape)


def random_flip(key: jax.Array, image: jax.Array, *, probability: Scalar = 0.5) -> jax.Array:
    """Mirrors an image left to right, one time in two or as often as one says.

    Args:
      key: one key.
      image: [height, width, channel], any dtype.
      probability: in [0, 1]. May be traced.
    Returns: as `image`.
    Raises: ValueError for an image of another rank or a concrete probability out of range.
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
    """Shears, zooms, rotates and moves an image, in one bilinear resampling; what comes into view is 0.

    Args:
      key: one key.
      image: [height, width, channel], any real dtype.
      degrees, scale, translate, shear: as of `geometry.draw_affine`. May be traced.
    Returns: as `image`.
    Raises: ValueError for an image of another rank or a concrete strength out of range.
    """
    require_image("random_affine", image)
    matrix = geometry.draw_affine(key, image.shape, degrees=degrees, scale=scale, translate=translate, shear=shear)
    return geometry.affine_image(image, matrix)


def random_colour(
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
      key: one key.
      image: [height, width, 1 or 3], values in 0 … 255.
      brightness: in [0, 1]: the factor of `colour.brightness` is uniform in 1 ± brightness. All may be traced.
      contrast: in [0, 1], likewise.
      saturation: in [0, 1], likewise.
      hue: in [0, 0.5]: the turn of `colour.hue` is uniform in ±hue.
    Returns: as `image`, rounded once.
    Raises: ValueError for an image of another rank or number of channels, a concrete strength out of range, or
      saturation or hue, if traced or not 0, where there is one channel.
    """
    require_image("random_colour", image)
    require_between("random_colour", 0, 1, brightness=brightness, contrast=contrast, saturation=saturation)
    require_between("random_colour", 0, 0.5, hue=hue)
    channels = image.shape[-1]
    if channels not in (1, 3):
        raise ValueError(f"random_colour wants images with 1 or 3 channels, got {channels}.")
    light, spread, purity, turn = jax.random.uniform(key, (4,), minval=-1.0, maxval=1.0)
    changed = image.astype(jnp.float32)
    if _used(brightness):
        changed = colour.brightness(changed, 1 + light * brightness)
    if _used(contrast):
        changed = colour.contrast(changed, 1 + spread * contrast)
    if channels == 1 and (_used(saturation) or _used(hue)):
        raise ValueError("random_colour wants 3 channels to change saturation or hue, got images with 1.")
    if _used(saturation):
        changed = colour.saturation(changed, 1 + purity * saturation)
    if _used(hue):
        changed = colour.hue(changed, turn * hue)
    return colour.pixels(changed, image.dtype)


def _used(strength: Scalar) -> bool:
    """Whether a change may be seen: what is 0 for sure need not be compiled."""
    return is_traced(strength) or bool(strength != 0)


def random_noise(key: jax.Array, image: jax.Array, *, std: Scalar) -> jax.Array:
    """Adds Gaussian noise, independent in each value. Cut at 0 and 255, it is not of mean 0 near black and white.

    Args:
      key: one key.
      image: [height, width, channel], values in 0 … 255.
      std: standard deviation in units where 255 is 1, in [0, 1]. May be traced.
    Returns: as `image`.
    Raises: ValueError for an image of another rank or a concrete std out of range.
    """
    require_image("random_noise", image)
    require_between("random_noise", 0, 1, std=std)
    return colour.pixels(image + 255 * std * jax.random.normal(key, image.shape), image.dtype)


def random_cutout(key: jax.Array, image: jax.Array, *, size: Scalar, fill: ArrayLike = 0) -> jax.Array:
    """Covers a square around a pixel of the image, of which every one is as likely; part of it may lie outside.

    Args:
      key: one key.
      image: [height, width, channel], any dtype.
      size: of a side in pixels, at least 0; rounded to a whole number. May be traced.
      fill: what covers it, a scalar or [channel], in the units of the image. The authors fill with the data set's
        mean.
    Returns: as `image`.
    Raises: ValueError for an image of another rank or a concrete size below 0.
    Source: DeVries & Taylor 2017, section 3.2.
    """
    require_image("random_cutout", image)
    require_between("random_cutout", 0, 2**30, size=size)
    side = jnp.round(jnp.asarray(size, jnp.float32)).astype(jnp.int32)
    row, column = jax.random.randint(key, (2,), 0, jnp.array(image.shape[:2]))
    covered = geometry.rectangle(image.shape, row - side // 2, column - side // 2, side, side)
    return jnp.where(covered[..., None], jnp.asarray(fill, image.dtype), image)


# Zhong et al. 2020, section 4.3 ("s_l", "s_h") and 4.2 ("r_1"): part of the image that is covered, least height over
# width.
_ERASED_LEAST, _ERASED_MOST = 0.02, 0.4
_ERASED_FLATTEST = 0.3


def random_erase(key: jax.Array, image: jax.Array, *, probability: Scalar = 0.5) -> jax.Array:
    """Covers a rectangle inside the image with uniform noise, one time in two or as often as one says.

    The rectangle is 2 to 40 % of the image, uniformly, with sides up to 1 : 0.3, log-uniformly. The authors draw again
    where it does not fit; here it is cut to the height or width of the image.

    Args:
      key: one key.
      image: [height, width, channel], values in 0 … 255.
      probability: in [0, 1]. May be traced.
    Returns: as `image`.
    Raises: ValueError for an image of another rank or a concrete probability out of range.
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
    noise = colour.pixels(jax.random.uniform(noise_key, image.shape, maxval=255.0), image.dtype)
    return jnp.where(covered[..., None], noise, image)


def random_augment(key: jax.Array, image: jax.Array, *, count: int, magnitude: Scalar) -> jax.Array:
    """Applies `count` operations, drawn from `OPERATIONS` with replacement, each at `magnitude` one way or the other.

    The authors do them in the order drawn. Here they are done kind by kind: what moves pixels first, in the order
    drawn but in one resampling; then brightness, contrast, saturation, hue and noise, where what was drawn twice is
    done once by as much as both. The image is blurred and rounded once, and the cost does not grow with `count`:
    under vmap, each of `count` branches would compute every operation.

    Args:
      key: one key.
      image: [height, width, 1 or 3], values in 0 … 255. With 1 channel, saturation and hue are not drawn.
      count: how many operations, at least 0. Not traced: it is a length.
      magnitude: in [0, 1], as a part of what the table below says is most. May be traced.
    Returns: as `image`.
    Raises: ValueError for an image of another rank or number of channels, a negative count, or a concrete magnitude
      out of range.
    Source: Cubuk et al. 2020, "RandAugment", figure 2, with the lecture's transformations.
    """
    require_image("random_augment", image)
    require_between("random_augment", 0, 1, magnitude=magnitude)
    draw_key, noise_key = jax.random.split(key)
    chosen, sign = draw_operations(draw_key, count=count, channels=image.shape[-1])
    strength = sign * magnitude

    def strengths(operation: str) -> jax.Array:
        return jnp.where(chosen == OPERATIONS.index(operation), strength, 0)  # [count]

    moves = [partial(move, shape=image.shape) for move in (*_MOVES.values(), _stay)]
    steps = [jax.lax.switch(jnp.minimum(chosen[i], len(_MOVES)), moves, strength[i]) for i in range(count)]
    changed = geometry.affine_image(image.astype(jnp.float32), geometry.compose(*steps))
    changed = colour.brightness(changed, (1 + _MOST_FACTOR * strengths("brightness")).prod())
    changed = colour.contrast(changed, (1 + _MOST_FACTOR * strengths("contrast")).prod())
    if image.shape[-1] == 3:
        changed = colour.saturation(changed, (1 + _MOST_FACTOR * strengths("saturation")).prod())
        changed = colour.hue(changed, _MOST_TURN * strengths("hue").sum())
    changed = random_noise(noise_key, changed, std=_MOST_NOISE * jnp.linalg.norm(strengths("noise")))
    return colour.pixels(changed, image.dtype)


def draw_operations(key: jax.Array, *, count: int, channels: int) -> tuple[jax.Array, jax.Array]:
    """Draws what `random_augment` does.

    Args:
      key: one key.
      count: how many operations, at least 0.
      channels: of the image, 1 or 3.
    Returns: (places in `OPERATIONS`, int32 [count]; directions −1 or 1, float32 [count]).
    Raises: ValueError for another number of channels, or a negative count.
    """
    if channels not in (1, 3):
        raise ValueError(f"random_augment wants images with 1 or 3 channels, got {channels}.")
    if count < 0:
        raise ValueError(f"random_augment wants a count of at least 0, got {count}.")
    which_key, sign_key = jax.random.split(key)
    available = len(OPERATIONS) if channels == 3 else OPERATIONS.index("saturation")
    return (
        jax.random.randint(which_key, (count,), 0, available),
        jax.random.rademacher(sign_key, (count,), jnp.float32),
    )


# What operations do at strength 1. Rotation, shear (a tangent of 0.3), translation (10 of CIFAR's 32 pixels) and the
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
"""What `random_augment` draws from; the last two only where there is colour."""


def _stay(strength: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """The move of what moves nothing."""
    return jnp.eye(3)


def normalise(image: jax.Array, mean: ArrayLike, std: ArrayLike) -> jax.Array:
    """(image / 255 - mean) / std: what a network reads. Not random, so it takes batches as they are.

    Args:
      image: [..., height, width, channel]: uint8, or float32 in the same units, 0 … 255, as `mixing.mixup` leaves it.
      mean: [channel], in units where 255 is 1; as `moments` gives it.
      std: [channel], likewise, positive.
    Returns: float32, shape of `image`.
    Raises: ValueError for an image of another dtype or without channels, or moments of another shape.
    """
    if image.ndim < 3 or image.dtype not in (jnp.uint8, jnp.float32):
        raise ValueError(
            "normalise wants uint8 or float32 images [..., height, width, channel], got an image of the wrong rank or "
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
        require_batch("per_example", batch)
        keys = jax.vmap(jax.random.fold_in, in_axes=(None, 0))(key, batch["index"])
        return {**batch, "image": jax.vmap(augmentation)(keys, batch["image"])}

    return augmented
