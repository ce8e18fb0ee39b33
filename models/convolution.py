"""The one convolution. Every convolution of every network goes through `conv`, and only through it.

One door, because a CPU wants the derivatives of a convolution computed otherwise than XLA does there, without any
network knowing.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp

Pair = tuple[int, int]
FEWEST_CHANNELS = 4  # of a group that is worth a convolution of its own on a CPU


def conv(
    x: jax.Array,
    kernel: jax.Array,
    *,
    strides: Pair = (1, 1),
    padding: str | Sequence[Pair] = "SAME",
    groups: int = 1,
) -> jax.Array:
    """2-D convolution as libraries mean it: cross-correlation, Σ x[i + k, j + l] w[k, l].

    The convolution of mathematics (and of the lecture's slides) has the kernel flipped along both axes.

    Args:
      x: [batch, height, width, channel].
      kernel: [height, width, channel / groups, features].
      strides: steps between outputs, vertical and horizontal.
      padding: "SAME", "VALID" or ((top, bottom), (left, right)) zeros; negative ones cut pixels off.
      groups: channels and features are cut into as many parts, each convolved alone.
    Returns: [batch, height', width', features]. For the derivatives: reverse mode, and either mode over that; not
      forward mode alone (`jax.jvp` of it).
    Raises: ValueError if the ranks are not 4, or channels or features do not fit the kernel and the groups.
    """
    if x.ndim != 4 or kernel.ndim != 4:
        raise ValueError(f"conv wants x and kernel of rank 4; they are {x.shape} and {kernel.shape}.")
    if groups < 1 or kernel.shape[3] % groups:
        raise ValueError(f"groups is {groups}; it must divide the {kernel.shape[3]} features of the kernel.")
    if x.shape[-1] != kernel.shape[2] * groups:
        raise ValueError(f"x has {x.shape[-1]} channels; the kernel {kernel.shape} wants {kernel.shape[2] * groups}.")
    if isinstance(padding, str):
        padding = jax.lax.padtype_to_pads(x.shape[1:3], kernel.shape[:2], strides, padding)
    (top, bottom), (left, right) = padding
    window = Window((int(strides[0]), int(strides[1])), ((int(top), int(bottom)), (int(left), int(right))))
    if groups > 1:
        by_group = partial(_conv_of_groups, window=window, groups=groups)
        by_xla = partial(_lax_conv, window=window, groups=groups)
        if kernel.shape[2] < FEWEST_CHANNELS:
            return by_xla(x, kernel)
        return jax.lax.platform_dependent(x, kernel, cpu=by_group, default=by_xla)
    if kernel.shape[:2] == (1, 1) and window.padding == ((0, 0), (0, 0)):
        # A matrix product at every position, and so are its derivatives.
        return jnp.einsum("bijc,cd->bijd", x[:, :: strides[0], :: strides[1]], kernel[0, 0])
    return _conv(x, kernel, window)


class Window(NamedTuple):
    """How a kernel meets an image, each vertical and horizontal. dilation: of x and of the kernel, by zeros between."""

    strides: Pair
    padding: tuple[Pair, Pair]
    x_dilation: Pair = (1, 1)
    kernel_dilation: Pair = (1, 1)


def _lax_conv(x, kernel, window: Window, groups: int = 1):
    return jax.lax.conv_general_dilated(
        x,
        kernel,
        window.strides,
        window.padding,
        lhs_dilation=window.x_dilation,
        rhs_dilation=window.kernel_dilation,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=groups,
    )


def _conv_of_groups(x, kernel, window: Window, groups: int):
    """Group by group: XLA's CPU has no fast convolution in groups, and none at all for their derivatives."""
    parts = zip(jnp.split(x, groups, -1), jnp.split(kernel, groups, -1), strict=True)
    return jnp.concatenate([_conv(part, its_kernel, window) for part, its_kernel in parts], -1)


# XLA writes the derivatives of a convolution as convolutions with other orders of axes. Outside of loops its CPU
# compiler turns them back into the order that it has fast code for; inside (`lax.scan`, `fori_loop`) it does not, and
# they take about fifty times as long (509 against 9 ms for a kernel of 16 to 16 channels on 128 × 28 × 28). So on a
# CPU the axes are put in that order here. Other platforms keep XLA's own.
@partial(jax.custom_vjp, nondiff_argnums=(2,))
def _conv(x, kernel, window: Window):
    return _lax_conv(x, kernel, window)


def _conv_forward(x, kernel, window):
    return _lax_conv(x, kernel, window), (x, kernel)


def _conv_backward(window, residuals, g):
    x, kernel = residuals
    if g.size == 0:  # an empty batch, or an image smaller than the kernel: as a kernel, g would have no entries
        return jnp.zeros_like(x), jnp.zeros_like(kernel)

    def by_xla(x, kernel, g):
        return jax.vjp(lambda x, kernel: _lax_conv(x, kernel, window), x, kernel)[1](g)

    def in_order(x, kernel, g):
        return _input_gradient(x.shape, kernel, g, window), _kernel_gradient(x, kernel.shape, g, window)

    return jax.lax.platform_dependent(x, kernel, g, cpu=in_order, default=by_xla)


_conv.defvjp(_conv_forward, _conv_backward)


def _input_gradient(shape, kernel, g, window: Window):
    """The transposed convolution: g, spread by the strides, meets the flipped kernel."""
    if window.strides != (1, 1) and window.x_dilation == window.kernel_dilation == (1, 1):
        return _input_gradient_by_phases(shape, kernel, g, window)
    pads = []
    for axis in (0, 1):
        stride, (low, _) = window.strides[axis], window.padding[axis]
        reach = window.kernel_dilation[axis] * (kernel.shape[axis] - 1)
        before = reach - low
        length = (shape[axis + 1] - 1) * window.x_dilation[axis] + 1
        spread = (g.shape[axis + 1] - 1) * stride + 1
        pads.append((before, length - spread - before + reach))
    transposed = Window(window.x_dilation, tuple(pads), window.strides, window.kernel_dilation)
    return _lax_conv(g, kernel[::-1, ::-1].swapaxes(2, 3), transposed)


def _input_gradient_by_phases(shape, kernel, g, window: Window):
    """The same without the zeros between: one convolution for the pixels of all phases of the strides at once.

    Pixel s·q + r of the padded x is met by the kernel's rows r, r + s, …, at outputs q, q − 1, …; so the s·s phases
    r are so many features of a convolution of g with stride 1, which are then laid out side by side.
    """
    (s, t), (height, width, channels, features) = window.strides, kernel.shape
    m, n = -(-height // s), -(-width // t)
    kernel = jnp.pad(kernel, ((0, m * s - height), (0, n * t - width), (0, 0), (0, 0)))
    # [m, s, n, t, channels, features] -> [m, n, features, s, t, channels]
    kernel = kernel.reshape(m, s, n, t, channels, features)[::-1, :, ::-1].transpose(0, 2, 5, 1, 3, 4)
    (top, _), (left, _) = window.padding
    rows, columns = -(-(shape[1] + top) // s), -(-(shape[2] + left) // t)
    pads = ((m - 1, rows - g.shape[1]), (n - 1, columns - g.shape[2]))
    y = _lax_conv(g, kernel.reshape(m, n, features, -1), Window((1, 1), pads))
    y = y.reshape(len(y), rows, columns, s, t, channels).swapaxes(2, 3).reshape(len(y), rows * s, columns * t, channels)
    # Pixel i of x lies at i + top. Where the padding cut pixels off, the margins are positive, and these get 0.
    margins = [(0, 0, 0), (-top, shape[1] + top - rows * s, 0), (-left, shape[2] + left - columns * t, 0), (0, 0, 0)]
    return jax.lax.pad(y, jnp.zeros((), y.dtype), margins)


def _kernel_gradient(x, shape, g, window: Window):
    """dL/dw[k, l] = Σ x[i·stride + k, j·stride + l]ᵀ g[i, j]: x meets g as its kernel, the batch being summed over."""
    pads = []
    for axis in (0, 1):
        low, _ = window.padding[axis]
        length = (x.shape[axis + 1] - 1) * window.x_dilation[axis] + 1
        spread = (g.shape[axis + 1] - 1) * window.strides[axis] + 1
        reach = window.kernel_dilation[axis] * (shape[axis] - 1) + 1
        pads.append((low, reach - length - low + spread - 1))
    met = Window(window.kernel_dilation, tuple(pads), window.x_dilation, window.strides)
    return _lax_conv(x.transpose(3, 1, 2, 0), g.transpose(1, 2, 0, 3), met).transpose(1, 2, 0, 3)
