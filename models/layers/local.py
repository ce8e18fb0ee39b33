"""Layers with a restricted receptive field, and their relation to dense layers and convolutions.

All are linear, so each is a matrix: any matrix for a dense layer; zeros outside each output's window for a locally
connected one; and for a convolution the same weights in every window. `dense_matrix_of` writes the matrix down.
Grids have one axis (sequences), two (images) or more.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from ...errors import InputError
from .convolution import conv

Padding = str | Sequence[tuple[int, int]]


def locally_connected(
    x: jax.Array, kernel: jax.Array, *, strides: Sequence[int] | None = None, padding: Padding = "SAME"
) -> jax.Array:
    """A convolution without shared weights: y[i] = Σ x[i·stride + k] w[i, k], each output with its own weights.

    With the same weights everywhere it is `conv`.

    Args:
      x: [batch, *grid, channel].
      kernel: [*grid', *window, channel, features], where grid' is that of the result.
      strides: steps between outputs, one for each axis of the grid; 1 by default.
      padding: "SAME", "VALID" or (low, high) zeros for each axis of the grid.
    Returns: [batch, *grid', features].
    Raises: InputError if the kernel does not fit the grid or the channels.
    """
    axes = x.ndim - 2
    if axes < 1 or kernel.ndim != 2 * axes + 2:
        raise InputError(
            f"x {x.shape} and kernel {kernel.shape} do not fit: wanted are [batch, *grid, channel] and "
            "[*grid', *window, channel, features]."
        )
    window = kernel.shape[axes : 2 * axes]
    strides, padding = _spans(x.shape[1:-1], window, strides, padding)
    grid = local_grid(x.shape[1:-1], window, strides=strides, padding=padding)
    features = kernel.shape[-1]
    if kernel.shape[:axes] != grid or kernel.shape[-2] != x.shape[-1]:
        raise InputError(f"The kernel is {kernel.shape}; x {x.shape} needs {(*grid, *window, x.shape[-1], features)}.")
    x = jax.lax.pad(x, jnp.zeros((), x.dtype), [(0, 0, 0), *((*pad, 0) for pad in padding), (0, 0, 0)])
    taps = [
        jax.lax.slice(
            x,
            (0, *offset, 0),
            (len(x), *(o + (n - 1) * s + 1 for o, n, s in zip(offset, grid, strides, strict=True)), x.shape[-1]),
            (1, *strides, 1),
        )
        for offset in itertools.product(*map(range, window))
    ]
    places, taps = math.prod(grid), jnp.stack(taps, axis=-2)
    windows = taps.reshape(len(x), places, -1)  # [batch, place, window · channel]
    weights = kernel.reshape(places, -1, features)  # [place, window · channel, features]
    return jnp.einsum("bpw,pwd->bpd", windows, weights).reshape(len(x), *grid, -1)


def local_grid(
    grid: Sequence[int], window: Sequence[int], *, strides: Sequence[int] | None = None, padding: Padding = "SAME"
) -> tuple[int, ...]:
    """Number of outputs along each axis.

    Args:
      grid: sizes of the input along each axis.
      window: sizes of the window along each axis.
      strides: same as in `locally_connected`.
      padding: same as in `locally_connected`.
    Raises: InputError if the numbers of axes differ, or no window fits.
    """
    strides, padding = _spans(grid, window, strides, padding)
    found = tuple(
        (n + low + high - k) // s + 1 for n, k, s, (low, high) in zip(grid, window, strides, padding, strict=True)
    )
    if min(found) < 1:
        raise InputError(f"No window of {tuple(window)} fits a grid of {tuple(grid)} with padding {padding}.")
    return found


def _spans(grid, window, strides, padding):
    """(strides, ((low, high), …)) in numbers."""
    strides = (1,) * len(grid) if strides is None else tuple(strides)
    if not len(grid) == len(window) == len(strides) or min(*window, *strides) < 1:
        raise InputError(
            f"A grid of {tuple(grid)} needs as many positive sizes and strides of the window; they are "
            f"{tuple(window)} and {strides}."
        )
    if isinstance(padding, str):
        padding = jax.lax.padtype_to_pads(grid, window, strides, padding)
    return strides, tuple((int(low), int(high)) for low, high in padding)


class LocallyConnected(nn.Module):
    """A layer of `locally_connected`, with a bias for each place.

    Attributes:
      features: number of output channels.
      kernel_size: size of the window along each axis of the grid.
      strides: same as in `locally_connected`.
      padding: same as in `locally_connected`.
      use_bias: add a bias of its own to each feature of each place.
      dtype: data type of the computation.
      param_dtype: data type of the parameters.
    """

    features: int
    kernel_size: Sequence[int]
    strides: Sequence[int] | None = None
    padding: Padding = "SAME"
    use_bias: bool = True
    dtype: DTypeLike = jnp.float32
    param_dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[batch, *grid, channel] -> [batch, *grid', features]."""
        axes = len(self.kernel_size)
        if x.ndim != axes + 2:
            raise InputError(f"x is {x.shape}; a window of {tuple(self.kernel_size)} needs rank {axes + 2}.")
        grid = local_grid(x.shape[1:-1], self.kernel_size, strides=self.strides, padding=self.padding)
        # The fan-in is that of one place.
        init = nn.initializers.variance_scaling(1.0, "fan_in", "truncated_normal", batch_axis=tuple(range(axes)))
        shape = (*grid, *self.kernel_size, x.shape[-1], self.features)
        kernel = self.param("kernel", init, shape, self.param_dtype).astype(self.dtype)
        y = locally_connected(x.astype(self.dtype), kernel, strides=self.strides, padding=self.padding)
        if self.use_bias:
            bias = self.param("bias", nn.initializers.zeros, (*grid, self.features), self.param_dtype)
            y = y + bias.astype(self.dtype)
        return y


def conv1d(x: jax.Array, kernel: jax.Array, *, stride: int = 1, padding: str | tuple[int, int] = "SAME") -> jax.Array:
    """1-D cross-correlation, Σ x[i·stride + k] w[k]: `conv` over images of height 1.

    Args:
      x: [batch, length, channel].
      kernel: [window, channel, features].
      stride: steps between outputs.
      padding: "SAME", "VALID" or (before, after) zeros.
    Returns: [batch, length', features].
    Raises: InputError if the ranks are not 3 or the channels do not match.
    """
    if x.ndim != 3 or kernel.ndim != 3:
        raise InputError(f"conv1d needs x and kernel of rank 3; they are {x.shape} and {kernel.shape}.")
    pads = padding if isinstance(padding, str) else ((0, 0), padding)
    return conv(x[:, None], kernel[None], strides=(1, stride), padding=pads)[:, 0]


def dense_matrix_of(linear: Callable[[jax.Array], jax.Array], input_shape: Sequence[int]) -> jax.Array:
    """The matrix W of a linear layer: linear(x).ravel() = W x.ravel() for one example x.

    Args:
      linear: [batch, *input_shape] -> [batch, ...], linear: a convolution, average pooling, a locally connected layer.
      input_shape: shape of one example.
    Returns: [outputs, inputs], entries in row-major order of the arrays.
    Raises: InputError if linear(0) is not 0: then it has a bias and is no matrix.
    """
    size = math.prod(input_shape)
    answers = linear(jnp.concatenate([jnp.eye(size), jnp.zeros((1, size))]).reshape(-1, *input_shape))
    if answers[-1].any():
        raise InputError("The layer does not map 0 to 0, so it is not linear: leave out its bias.")
    return answers[:-1].reshape(size, -1).T


def convolutionalize(dense_kernel: jax.Array, grid: tuple[int, int]) -> jax.Array:
    """Reads a dense layer over a whole grid as a convolution, and returns its kernel.

    With padding "VALID", the convolution gives the dense layer's answer on a grid of this size, and on a larger one
    the map of its answers to every window of this size. For a 1×1 grid it is the 1×1 convolution, a dense layer at
    each position.

    Args:
      dense_kernel: [height · width · channel, features], for a grid flattened in row-major order.
      grid: (height, width).
    Returns: [height, width, channel, features].
    Raises: InputError if the rows are no multiple of height · width.
    Source: Long, Shelhamer, Darrell 2015, "Fully convolutional networks for semantic segmentation", section 3.1.
    """
    rows, features = dense_kernel.shape
    if rows % math.prod(grid):
        raise InputError(f"A dense kernel of {rows} rows does not lie over a grid of {grid}: no whole channels.")
    return dense_kernel.reshape(*grid, -1, features)
