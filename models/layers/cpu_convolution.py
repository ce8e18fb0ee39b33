"""The convolution behind `convolution.conv`: a primitive whose derivatives are fast on a CPU too.

XLA's CPU compiler has slow code for the derivatives of a convolution, so here they are written as convolutions that it
has fast code for. The convolution is a jax primitive of its own, and its derivatives consist of the same primitive:
what holds for the first derivative holds for those of every order, in forward and in reverse mode.

This file uses `jax.extend`, `jax.interpreters` and the types of `shard_map`, which may change between versions of jax;
pyproject.toml states the versions that were tested.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import jax
import jax.core
import jax.numpy as jnp
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

Pair = tuple[int, int]


class Window(NamedTuple):
    """How a kernel meets an image, each vertical and horizontal. dilation: of x and of the kernel, by zeros between.

    Attributes:
      strides: steps between outputs.
      padding: (before, after) zeros.
      x_dilation: steps between the pixels of x, with zeros between them.
      kernel_dilation: steps between the entries of the kernel, with zeros between them.
    """

    strides: Pair
    padding: tuple[Pair, Pair]
    x_dilation: Pair = (1, 1)
    kernel_dilation: Pair = (1, 1)


def lax_conv(x: jax.Array, kernel: jax.Array, window: Window, groups: int = 1) -> jax.Array:
    """XLA's own convolution, with its own derivatives. Args: same as `conv`."""
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


def convolve_groups(x: jax.Array, kernel: jax.Array, window: Window, groups: int) -> jax.Array:
    """A convolution whose channels and features are cut into groups, each convolved alone.

    Args:
      x: [batch, height, width, channel].
      kernel: [height, width, channel / groups, features].
      window: how the kernel meets the image.
      groups: number of groups, at least 2.
    Returns: [batch, height', width', features].
    """
    by_group = partial(_group_by_group, window=window, groups=groups)
    by_xla = partial(lax_conv, window=window, groups=groups)
    if kernel.shape[2] < MIN_CHANNELS:
        return by_xla(x, kernel)
    return jax.lax.platform_dependent(x, kernel, cpu=by_group, default=by_xla)


MIN_CHANNELS = 4  # of a group that is worth a convolution of its own on a CPU


def _group_by_group(x, kernel, window: Window, groups: int):
    """XLA's CPU compiler has no fast convolution in groups, and none at all for their derivatives."""
    parts = zip(jnp.split(x, groups, -1), jnp.split(kernel, groups, -1), strict=True)
    return jnp.concatenate([convolve(part, its_kernel, window) for part, its_kernel in parts], -1)


# XLA writes the derivatives of a convolution as convolutions with other orders of axes. Outside of loops its CPU
# compiler turns them back into the order that it has fast code for; inside (`lax.scan`, `fori_loop`) it does not, and
# they take about fifty times as long (509 against 9 ms for a kernel of 16 to 16 channels on 128 × 28 × 28). So on a
# CPU the axes are put in that order here. Other platforms keep XLA's own.
CONV = Primitive("etude_conv")


def convolve(x: jax.Array, kernel: jax.Array, window: Window) -> jax.Array:
    """The primitive: [batch, height, width, channel], [height, width, channel, features] -> as `conv`."""
    # Within `shard_map` what differs from device to device has another type than what does not.
    varying = jax.typeof(x).manual_axis_type.varying | jax.typeof(kernel).manual_axis_type.varying
    x, kernel = (_varying(array, varying) for array in (x, kernel))
    return CONV.bind(x, kernel, window=window)


def _varying(array: jax.Array, axes: frozenset) -> jax.Array:
    missing = axes - jax.typeof(array).manual_axis_type.varying
    return jax.lax.pcast(array, tuple(missing), to="varying") if missing else array


def _shape(x, kernel, *, window: Window):
    return jax.make_jaxpr(partial(lax_conv, window=window))(x, kernel).out_avals[0]


def _transposed_for_x(g, x, kernel, *, window: Window):
    def by_xla(kernel, g):
        return jax.linear_transpose(partial(lax_conv, kernel=kernel, window=window), x.aval)(g)[0]

    def in_order(kernel, g):
        return input_gradient(x.aval.shape, kernel, g, window)

    return _on_platform(by_xla, in_order, x.aval, kernel, g)


def _transposed_for_kernel(g, x, kernel, *, window: Window):
    def by_xla(x, g):
        return jax.linear_transpose(lambda kernel: lax_conv(x, kernel, window), kernel.aval)(g)[0]

    def in_order(x, g):
        return _kernel_gradient(x, kernel.aval.shape, g, window)

    return _on_platform(by_xla, in_order, kernel.aval, x, g)


def _on_platform(by_xla, in_order, aval, other, g):
    if g.size == 0:  # an empty batch, or an image smaller than the kernel: as a kernel, g would have no entries
        return jnp.zeros(aval.shape, aval.dtype)
    if jax.sharding.get_abstract_mesh().explicit_axes:  # where each order of axes would want its shardings told
        return by_xla(other, g)
    return jax.lax.platform_dependent(other, g, cpu=in_order, default=by_xla)


def _batched(arguments, axes, *, window: Window):
    x, kernel = arguments
    if axes[1] is not None:  # XLA's own way with many kernels
        return jax.vmap(partial(lax_conv, window=window), in_axes=axes)(x, kernel), 0
    x = jnp.moveaxis(x, axes[0], 0)
    y = convolve(x.reshape(-1, *x.shape[2:]), kernel, window)
    return y.reshape(*x.shape[:2], *y.shape[1:]), 0


def _on_cpu(x, kernel, *, window: Window):
    """XLA's CPU has no fast code for a kernel larger than its image, whatever the padding: so pad first.

    (366 against 7 ms for 512 to 512 channels on 64 × 2 × 2; and a kernel's gradient has the size of the result for its
    own kernel.) The barrier keeps XLA from taking the padding into the convolution again.
    """
    reach = [(size - 1) * step + 1 for size, step in zip(kernel.shape[:2], window.kernel_dilation, strict=True)]
    sizes = [(size - 1) * step + 1 for size, step in zip(x.shape[1:3], window.x_dilation, strict=True)]
    if reach[0] > sizes[0] or reach[1] > sizes[1]:
        margins = [(*pads, step - 1) for pads, step in zip(window.padding, window.x_dilation, strict=True)]
        x = jax.lax.optimization_barrier(jax.lax.pad(x, jnp.zeros((), x.dtype), [(0, 0, 0), *margins, (0, 0, 0)]))
        window = Window(window.strides, ((0, 0), (0, 0)), kernel_dilation=window.kernel_dilation)
    return lax_conv(x, kernel, window)


CONV.def_impl(jax.jit(convolve, static_argnames="window"))
CONV.def_abstract_eval(_shape)
ad.defbilinear(CONV, _transposed_for_x, _transposed_for_kernel)
batching.primitive_batchers[CONV] = _batched
mlir.register_lowering(CONV, mlir.lower_fun(lax_conv, multiple_results=False))
mlir.register_lowering(CONV, mlir.lower_fun(_on_cpu, multiple_results=False), platform="cpu")


def input_gradient(shape: Sequence[int], kernel: jax.Array, g: jax.Array, window: Window) -> jax.Array:
    """The transposed convolution: g, spread by the strides, meets the flipped kernel.

    Args:
      shape: of the image that was convolved, [batch, height, width, channel].
      kernel: [height, width, channel, features].
      g: of the result's shape, [batch, height', width', features].
      window: of the convolution.
    Returns: of `shape`.
    """
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
    return convolve(g, kernel[::-1, ::-1].swapaxes(2, 3), transposed)


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
    y = convolve(g, kernel.reshape(m, n, features, -1), Window((1, 1), pads))
    y = y.reshape(len(y), rows, columns, s, t, channels).swapaxes(2, 3).reshape(len(y), rows * s, columns * t, channels)
    # Pixel i of x lies at i + top. Where the padding cut pixels off, the margins are positive, and these get 0.
    margins = [(0, 0, 0), (-top, shape[1] + top - rows * s, 0), (-left, shape[2] + left - columns * t, 0), (0, 0, 0)]
    return jax.lax.pad(y, jnp.zeros((), y.dtype), margins)


def _kernel_gradient(x, shape, g, window: Window):
    """dL/dw[k, l] = Σ x[i·stride + k, j·stride + l]ᵀ g[i, j].

    Part by part of the batch, but not where the compiler spreads it over a mesh that `jax.set_mesh` tells of: it would
    take the loop over the parts for one that all devices run together. A device that sees its own part, as within
    `shard_map` and `pmap`, may cut it.
    """
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.size > 1 and len(mesh.manual_axes) < len(mesh.axis_names):
        return _sum_over_batch(x, shape, g, window)
    return _sum_over_parts(x, shape, g, window)


PART = 2**17  # entries of the larger of x and g that a core's caches hold besides what a convolution makes of them


def _sum_over_parts(x, shape, g, window: Window):
    """Part by part of the batch, in single precision at least.

    x and g of a part stay in the caches while their axes are put in order and they meet: 2 to 4 times as fast as the
    whole batch at once where that is large (118 against 38 ms for 64 to 64 channels on 100 × 32 × 32), and about a
    third faster where it is small. A part has at least as many entries as the kernel, whose gradient is added up.
    """
    entries = max(x[0].size, g[0].size, 1)
    size = max(2, min(8, PART // entries), math.prod(shape) // entries)
    if len(x) < 2 * size:
        return _sum_over_batch(x, shape, g, window)
    # The images that fill no part begin the sum, or those of the first part do.
    begin = len(x) % size or size

    def add(total, part):
        return total + _sum_over_batch(part[0], shape, part[1], window), None

    total = _sum_over_batch(x[:begin], shape, g[:begin], window)
    total = total.astype(jnp.promote_types(total.dtype, jnp.float32))
    stacked = tuple(array[begin:].reshape(-1, size, *array.shape[1:]) for array in (x, g))
    return jax.lax.scan(add, total, stacked)[0].astype(g.dtype)


def _sum_over_batch(x, shape, g, window: Window):
    """As one convolution, in which the batch stands for the channels.

    x meets g as its kernel or, where g has fewer features than x has channels, g meets x: the more features, the faster
    (46 against 14 ms for 128 to 3 channels on 64 × 32 × 32).
    """
    pads = []
    if shape[3] < shape[2] and window == Window((1, 1), window.padding):
        for axis in (0, 1):
            low, _ = window.padding[axis]
            pads.append((shape[axis] - 1 - low, low + x.shape[axis + 1] - g.shape[axis + 1]))
        flipped = convolve(g.transpose(3, 1, 2, 0), x.transpose(1, 2, 0, 3), Window((1, 1), tuple(pads)))
        return flipped[:, ::-1, ::-1].transpose(1, 2, 3, 0)
    for axis in (0, 1):
        low, _ = window.padding[axis]
        length = (x.shape[axis + 1] - 1) * window.x_dilation[axis] + 1
        spread = (g.shape[axis + 1] - 1) * window.strides[axis] + 1
        reach = window.kernel_dilation[axis] * (shape[axis] - 1) + 1
        pads.append((low, reach - length - low + spread - 1))
    met = Window(window.kernel_dilation, tuple(pads), window.x_dilation, window.strides)
    return convolve(x.transpose(3, 1, 2, 0), g.transpose(1, 2, 0, 3), met).transpose(1, 2, 0, 3)
