"""Finer grids by rules that are exact: unpooling, bed of nails, pixel shuffle, and the kernel of bilinear upscaling.

Together with `upscale_nearest`, `upscale_bilinear` and `conv_transpose` of `resampling` these are the ways by which a
network for dense prediction gets back to the grid of its image.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from ...errors import InputError
from .resampling import at_places, entries_at, place_of_largest, tiles_of


def max_pool_with_places(x: jax.Array, window: tuple[int, int] = (2, 2)) -> tuple[jax.Array, jax.Array]:
    """Max pooling by windows that do not overlap, and where in its window each maximum was.

    A window at the lower or right end that the grid does not fill has fewer entries (PyTorch's ceil_mode=True, and
    Caffe's rule, which SegNet has): no pixel is left out, whatever the size.

    PyTorch counts places in the whole image: its index of place p of window (i, j) in an image that is w pixels wide
    is (k·i + p // l)·w + l·j + p % l for windows of k × l.

    Args:
      x: [batch, height, width, channel].
      window: (k, l), height and width.
    Returns: (maxima [batch, ⌈height / k⌉, ⌈width / l⌉, channel], places, int32 of the same shape in [0, k·l)). Of
      several largest entries it is the first. The gradient goes to it alone.
    Raises: InputError for another rank, or a window that is not positive.
    """
    _check_window(x, window)
    rest = [(0, -size % w) for size, w in zip(x.shape[1:3], window, strict=True)]
    tiles = tiles_of(x, window, rest)
    places = place_of_largest(tiles)
    return entries_at(tiles, places), places


def max_unpool(x: jax.Array, places: jax.Array, shape: tuple[int, int], window: tuple[int, int] = (2, 2)) -> jax.Array:
    """Puts each entry where the maximum was, between zeros: the way back from `max_pool_with_places`.

    It is the adjoint of the pooling as a choice of entries, and involves no scattering.

    Args:
      x: [batch, ⌈height / k⌉, ⌈width / l⌉, channel].
      places: int32, same shape, of `max_pool_with_places`.
      shape: (height, width) of the image that was pooled.
      window: (k, l), of the pooling.
    Returns: [batch, height, width, channel].
    Raises: InputError if the shapes of x, places, image and window do not fit.
    Source: Badrinarayanan, Kendall, Cipolla 2017, "SegNet", section 3.
    """
    _check_window(x, window)
    grid = tuple(-(-size // w) for size, w in zip(shape, window, strict=True))
    if x.shape != places.shape or x.shape[1:3] != grid:
        raise InputError(
            f"x is {x.shape} and places {places.shape}; an image of {tuple(shape)} pixels that was pooled by windows "
            f"of {tuple(window)} has a grid of {grid}."
        )
    (rows, columns), (k, l) = grid, window  # noqa: E741 - as in the docstring
    tiles = jnp.where(at_places(places, window), x[:, :, None, :, None], 0)
    return tiles.reshape(len(x), rows * k, columns * l, x.shape[-1])[:, : shape[0], : shape[1]]


def bed_of_nails(x: jax.Array, factor: int) -> jax.Array:
    """Puts each entry into the upper left corner of a square of zeros, factor × factor pixels large.

    Args:
      x: [batch, height, width, channel].
      factor: at least 1.
    Returns: [batch, height · factor, width · factor, channel].
    Raises: InputError for another rank or factor.
    """
    _check_factor(x, factor)
    zero = jnp.zeros((), x.dtype)
    between = [(0, factor - 1, factor - 1)] * 2
    return jax.lax.pad(x, zero, [(0, 0, 0), *between, (0, 0, 0)])


def pixel_shuffle(x: jax.Array, factor: int) -> jax.Array:
    """Lays the channels of each pixel out as a square of factor × factor pixels ("sub-pixel convolution").

    Channel c·factor² + i·factor + j becomes channel c of row i and column j of the square, as in PyTorch.

    Args:
      x: [batch, height, width, channel · factor²].
      factor: at least 1.
    Returns: [batch, height · factor, width · factor, channel].
    Raises: InputError for another rank or factor, or channels that are no multiple of factor².
    Source: Shi et al. 2016, "Real-time single image and video super-resolution", equation 4.
    """
    _check_factor(x, factor)
    batch, height, width, channels = x.shape
    if channels % factor**2:
        raise InputError(f"x has {channels} channels; pixel_shuffle by {factor} needs a multiple of {factor**2}.")
    parts = x.reshape(batch, height, width, -1, factor, factor).transpose(0, 1, 4, 2, 5, 3)
    return parts.reshape(batch, height * factor, width * factor, -1)


def bilinear_kernel(key: Any, shape: tuple[int, ...], dtype: DTypeLike = jnp.float32) -> jax.Array:
    """The kernel with which a transposed convolution upscales each channel bilinearly: an initializer, without chance.

    With a side of 2s, stride s and padding s / 2, `ConvTranspose` then equals `upscale_bilinear` by s, except within
    s / 2 pixels of the border, where it fades to half (in corners to a quarter).

    Args:
      key: not used.
      shape: (side, side, features, channels), of equal features and channels.
      dtype: data type of the kernel.
    Returns: kernel of that shape: each feature reads the channel of its own number.
    Raises: InputError for another shape.
    Source: Long, Shelhamer, Darrell 2015, section 3.3 ("initialize to bilinear interpolation").
    """
    del key
    if len(shape) != 4 or shape[0] != shape[1] or shape[2] != shape[3]:
        raise InputError(f"A bilinear kernel is square and has as many features as channels; shape is {shape}.")
    side = shape[0]
    factor = (side + 1) // 2
    ramp = 1 - np.abs(np.arange(side) - (side - 1) / 2) / factor
    return jnp.asarray(np.einsum("h,w,cd->hwcd", ramp, ramp, np.eye(shape[2])), dtype)


def _check_window(x, window):
    if x.ndim != 4 or len(window) != 2 or min(window) < 1:
        raise InputError(
            f"x is {x.shape} and the window {tuple(window)}; wanted are [batch, height, width, channel] and two "
            "positive numbers."
        )


def _check_factor(x, factor):
    if x.ndim != 4 or factor < 1:
        raise InputError(
            f"x is {x.shape} and factor {factor}; wanted are [batch, height, width, channel] and at least 1."
        )
