"""Coarser and finer grids: pooling, upscaling and the transposed convolution.

(A strided convolution is `conv` with strides.) Paddings are written as for `conv`: "SAME", "VALID" or (low, high) for
each axis of the grid. PyTorch's `padding=p` is ((p, p), (p, p)); its "ceil_mode" is not here.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from ...errors import InputError
from .convolution import HE_FAN_OUT
from .cpu_convolution import Window, input_gradient

Padding = str | Sequence[tuple[int, int]]


def max_pool(
    x: jax.Array, window: Sequence[int], *, strides: Sequence[int] | None = None, padding: Padding = "VALID"
) -> jax.Array:
    """The largest entry of each window. Padding is −∞, as in PyTorch, and never the largest.

    The gradient goes to the first of the largest entries alone.

    Args:
      x: [batch, *grid, channel].
      window: size along each axis of the grid.
      strides: steps between windows; by default the window's size, as in PyTorch.
      padding: entries added around the grid.
    Returns: [batch, *grid', channel].
    Raises: InputError if x and window do not fit, or a window could lie in the padding alone.
    """
    _check_window(x, window, padding)
    window, strides = tuple(window), tuple(strides or window)
    if window == strides:
        return _max_of_tiles(x, window, padding)
    return nn.max_pool(x, window, strides, _lax_padding(padding))


def _max_of_tiles(x: jax.Array, window: tuple[int, ...], padding: Padding) -> jax.Array:
    """`max_pool` where windows do not overlap: the gradient is a choice of entries, which is one loop over memory.

    On a CPU forward and gradient together take a third of the time of `lax.reduce_window`, whose gradient scatters.
    """
    tiles = tiles_of(x, window, padding)
    return entries_at(tiles, place_of_largest(tiles))


def tiles_of(x: jax.Array, window: Sequence[int], padding: Padding) -> jax.Array:
    """A grid cut into windows that do not overlap; padding is −∞, and what fills no window is cut off at the end.

    Args:
      x: [batch, *grid, channel].
      window: size along each axis of the grid.
      padding: entries added around the grid.
    Returns: [batch, rows, window height, columns, window width, …, channel].
    """
    window = tuple(window)
    if isinstance(padding, str):
        padding = jax.lax.padtype_to_pads(x.shape[1:-1], window, window, padding)
    counts = [(size + low + high) // w for size, (low, high), w in zip(x.shape[1:-1], padding, window, strict=True)]
    # What fills no window is cut off by a negative padding.
    config = [
        (low, count * w - size - low, 0)
        for size, (low, _), w, count in zip(x.shape[1:-1], padding, window, counts, strict=True)
    ]
    x = jax.lax.pad(x, jnp.array(-jnp.inf, x.dtype), [(0, 0, 0), *config, (0, 0, 0)])
    return x.reshape(len(x), *itertools.chain.from_iterable(zip(counts, window, strict=True)), x.shape[-1])


def place_of_largest(tiles: jax.Array) -> jax.Array:
    """Where in its window the first of the largest entries is, or the last NaN.

    Args:
      tiles: of `tiles_of`.
    Returns: int32 [batch, rows, columns, …, channel], numbers of entries in row-major order of the window.
    """
    entries, window = jax.lax.stop_gradient(tiles), tiles.shape[2:-1:2]
    best, place = None, jnp.int32(0)
    for number, tap in enumerate(itertools.product(*map(range, window))):
        entry = entries[(slice(None), *itertools.chain.from_iterable((slice(None), at) for at in tap))]
        greater = jnp.isnan(entry) if best is None else (entry > best) | jnp.isnan(entry)
        place = jnp.where(greater, number, place)
        best = entry if best is None else jnp.where(greater, entry, best)
    return place


def at_places(places: jax.Array, window: Sequence[int]) -> jax.Array:
    """Which entries of the tiles are at these places of their windows, as booleans of the shape of the tiles."""
    axes = tuple(range(2, 2 + 2 * len(window), 2))
    numbers = jnp.arange(math.prod(window)).reshape([n for w in window for n in (1, w)] + [1])
    return jnp.expand_dims(places, axes) == numbers


def entries_at(tiles: jax.Array, places: jax.Array) -> jax.Array:
    """The entry of each window at its place: [batch, rows, columns, …, channel]."""
    window = tiles.shape[2:-1:2]
    return jnp.where(at_places(places, window), tiles, 0).sum(tuple(range(2, 2 + 2 * len(window), 2)))


def average_pool(
    x: jax.Array, window: Sequence[int], *, strides: Sequence[int] | None = None, padding: Padding = "VALID"
) -> jax.Array:
    """The mean of each window. Padding counts as zeros, as in PyTorch (count_include_pad) and unlike TensorFlow.

    Args and raises: same as `max_pool`.
    Returns: [batch, *grid', channel].
    """
    _check_window(x, window, padding)
    return nn.avg_pool(x, tuple(window), tuple(strides or window), _lax_padding(padding))


def _check_window(x, window, padding):
    if x.ndim != len(window) + 2 or min(window) < 1:
        raise InputError(f"x is {x.shape}; wanted [batch, *grid, channel] and a window for each axis, not {window}.")
    if not isinstance(padding, str) and any(max(pad) >= size for pad, size in zip(padding, window, strict=True)):
        raise InputError(f"A window of {tuple(window)} could lie in the padding {tuple(padding)} alone.")


def _lax_padding(padding) -> Any:  # flax declares a string only
    return padding if isinstance(padding, str) else tuple(padding)


def upscale_nearest(x: jax.Array, factor: int) -> jax.Array:
    """Repeats every pixel `factor` times along both axes of the grid.

    Args:
      x: [batch, height, width, channel].
      factor: at least 1.
    Returns: [batch, height · factor, width · factor, channel].
    Raises: InputError for another rank or factor.
    """
    _check_image(x)
    if factor < 1:
        raise InputError(f"factor is {factor}; it must be at least 1.")
    return x.repeat(factor, axis=1).repeat(factor, axis=2)


def upscale_bilinear(x: jax.Array, shape: tuple[int, int]) -> jax.Array:
    """Bilinear interpolation between pixel centers (PyTorch's align_corners=False, jax.image.resize).

    Pixels are squares, and the old and the new grid cover the same area. So some new centers lie farther out than all
    old ones: they repeat the border. An affine image is reproduced everywhere else.

    Args:
      x: [batch, height, width, channel].
      shape: the new height and width, not below the old ones.
    Returns: [batch, *shape, channel].
    Raises: InputError for another rank, or a smaller shape.
    """

    def positions(old, new):
        return jnp.clip((jnp.arange(new) + 0.5) * old / new - 0.5, 0, old - 1)

    return _interpolate(x, shape, positions)


def upscale_bilinear_corners(x: jax.Array, shape: tuple[int, int]) -> jax.Array:
    """Bilinear interpolation that keeps the corners (PyTorch's align_corners=True).

    Pixels are points, and the old and the new grid have the same four corners: an affine image is reproduced
    everywhere. The distance between pixels is that of (old − 1) / (new − 1), not that of old / new.

    Args, returns and raises: same as `upscale_bilinear`.
    """

    def positions(old, new):
        return jnp.linspace(0, old - 1, new)

    return _interpolate(x, shape, positions)


def _interpolate(x, shape, positions):
    """A matrix along each axis, whose row for a position p has 1 − |p − i| for each pixel i nearer than 1."""
    _check_image(x)
    if shape[0] < x.shape[1] or shape[1] < x.shape[2]:
        raise InputError(f"Upscaling needs a shape of at least {x.shape[1:3]}; it was given {tuple(shape)}.")
    rows, columns = (
        jnp.maximum(0, 1 - jnp.abs(positions(old, new)[:, None] - jnp.arange(old))).astype(x.dtype)
        for old, new in zip(x.shape[1:3], shape, strict=True)
    )
    return jnp.einsum("hi,bijc,wj->bhwc", rows, x, columns)


def _check_image(x):
    if x.ndim != 4:
        raise InputError(f"Wanted are images [batch, height, width, channel]; they are {x.shape}.")


def conv_transpose(
    x: jax.Array,
    kernel: jax.Array,
    *,
    strides: tuple[int, int] = (1, 1),
    padding: Padding = "SAME",
    output_shape: tuple[int, int] | None = None,
) -> jax.Array:
    """The adjoint of `conv` with the same kernel, strides and padding: multiplication by the transposed matrix.

    Every entry of x adds its multiple of the kernel to the output. It is no inverse: "deconvolution" is a misnomer.

    A strided convolution maps images of several sizes to the same grid. The default size is height · stride for
    "SAME", and otherwise the smallest, as PyTorch's with output_padding=0. Pixels that the convolution does not read
    are 0.

    Args:
      x: [batch, height', width', features], the shape of the convolution's result.
      kernel: [height, width, channel, features], the kernel of the convolution: its features go in, its channels come
        out.
      strides: steps of the convolution, that is, the factors of upscaling.
      padding: padding of the convolution: "SAME", "VALID" or ((top, bottom), (left, right)).
      output_shape: (height, width) of the image that the convolution would read.
    Returns: [batch, height, width, channel].
    Raises: InputError if the ranks are not 4, the features do not match, the padding is none of these, or the
      convolution of an image of `output_shape` has another size than x.
    """
    if x.ndim != 4 or kernel.ndim != 4:
        raise InputError(f"conv_transpose needs x and kernel of rank 4; they are {x.shape} and {kernel.shape}.")
    if x.shape[-1] != kernel.shape[-1]:
        raise InputError(f"x has {x.shape[-1]} channels; the kernel {kernel.shape} needs {kernel.shape[-1]}.")
    if isinstance(padding, str) and padding not in ("SAME", "VALID"):
        raise InputError(f"padding is {padding!r}; valid are SAME, VALID and ((top, bottom), (left, right)).")
    size, grid = kernel.shape[:2], x.shape[1:3]
    smallest = _smallest_shape(grid, size, strides, padding)
    default = tuple(n * s for n, s in zip(grid, strides, strict=True)) if padding == "SAME" else smallest
    shape = default if output_shape is None else tuple(output_shape)
    if not all(least <= n < least + s for n, least, s in zip(shape, smallest, strides, strict=True)):
        raise InputError(
            f"output_shape is {shape}; the convolution gives the {grid} of x for {smallest} and up to "
            "stride − 1 more along each axis."
        )
    pads = jax.lax.padtype_to_pads(shape, size, strides, padding) if isinstance(padding, str) else padding
    (top, bottom), (left, right) = pads
    window = Window((strides[0], strides[1]), ((top, bottom), (left, right)))
    return input_gradient((len(x), *shape, kernel.shape[2]), kernel, x, window)


def _smallest_shape(grid, size, strides, padding):
    """The smallest image that the convolution leads to the grid."""
    if padding == "SAME":
        return tuple((n - 1) * s + 1 for n, s in zip(grid, strides, strict=True))
    pads = ((0, 0), (0, 0)) if padding == "VALID" else padding
    return tuple((n - 1) * s + k - sum(pad) for n, s, k, pad in zip(grid, strides, size, pads, strict=True))


def adaptive_average_pool(x: jax.Array, side: int) -> jax.Array:
    """Averages a grid of any size to side × side: cell i is the mean of the pixels ⌊i·n/side⌋ … ⌈(i + 1)·n/side⌉ − 1.

    Windows overlap where n is no multiple of side, and repeat pixels where n < side: PyTorch's AdaptiveAvgPool2d.

    Args:
      x: [batch, height, width, channel].
      side: height and width of the result.
    Returns: [batch, side, side, channel], of the type of x; means are taken in float32 at least.
    """
    wide = jnp.promote_types(x.dtype, jnp.float32)
    rows, columns = (jnp.asarray(_window_means(size, side), wide) for size in x.shape[1:3])
    means = jnp.einsum("ih,jw,bhwc->bijc", rows, columns, x.astype(wide), precision=jax.lax.Precision.HIGHEST)
    return means.astype(x.dtype)


def _window_means(size: int, side: int) -> np.ndarray:
    """[side, size]: row i averages window i."""
    means = np.zeros((side, size))
    for i in range(side):
        low, high = i * size // side, -(-(i + 1) * size // side)
        means[i, low:high] = 1 / (high - low)
    return means


class ConvTranspose(nn.Module):
    """The adjoint of a square strided convolution that pads the same number of zeros on each side.

    Attributes:
      features: number of output channels.
      kernel_size: side of the kernel.
      stride: factor by which the grid grows. A kernel size that it divides treats all pixels alike (no checkerboard).
      padding: zeros on each side of the convolution that this is the adjoint of.
      use_bias: add a bias to each feature.
      dtype: data type of the computation.
      param_dtype: data type of the parameters.
      kernel_init: initializer of the kernel.
    """

    features: int
    kernel_size: int
    stride: int
    padding: int
    use_bias: bool = False
    dtype: DTypeLike = jnp.float32
    param_dtype: DTypeLike = jnp.float32
    kernel_init: nn.initializers.Initializer = HE_FAN_OUT

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[batch, height, width, channel] -> [batch, height', width', features]."""
        # Of the convolution that this is the adjoint of: its channels are what comes out here.
        shape = (self.kernel_size, self.kernel_size, self.features, x.shape[-1])
        kernel = self.param("kernel", self.kernel_init, shape, self.param_dtype)
        y = conv_transpose(
            x.astype(self.dtype),
            kernel.astype(self.dtype),
            strides=(self.stride, self.stride),
            padding=((self.padding, self.padding), (self.padding, self.padding)),
        )
        if self.use_bias:
            bias = self.param("bias", nn.initializers.zeros, (self.features,), self.param_dtype)
            y = y + bias.astype(self.dtype)
        return y
