"""The one convolution. Every convolution of every network goes through `conv`, and only through it.

One door, because derivatives of convolutions are the slow part on a CPU and are computed otherwise there without any
network knowing.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import jax
import jax.numpy as jnp


def conv(
    x: jax.Array,
    kernel: jax.Array,
    *,
    strides: tuple[int, int] = (1, 1),
    padding: str | Sequence[tuple[int, int]] = "SAME",
    groups: int = 1,
) -> jax.Array:
    """2-D convolution as libraries mean it: cross-correlation, Σ x[i + k, j + l] w[k, l].

    The convolution of mathematics (and of the lecture's slides) has the kernel flipped along both axes.

    Args:
      x: [batch, height, width, channel].
      kernel: [height, width, channel / groups, features].
      strides: steps between outputs, vertical and horizontal.
      padding: "SAME", "VALID" or ((top, bottom), (left, right)) zeros.
      groups: channels and features are cut into as many parts, each convolved alone.
    Returns: [batch, height', width', features].
    Raises: ValueError if the ranks are not 4 or the channels do not match.
    """
    if x.ndim != 4 or kernel.ndim != 4:
        raise ValueError(f"conv wants x and kernel of rank 4; they are {x.shape} and {kernel.shape}.")
    if x.shape[-1] != kernel.shape[2] * groups:
        raise ValueError(f"x has {x.shape[-1]} channels; the kernel {kernel.shape} wants {kernel.shape[2] * groups}.")
    if isinstance(padding, str):
        padding = jax.lax.padtype_to_pads(x.shape[1:3], kernel.shape[:2], strides, padding)
    padding = tuple((int(low), int(high)) for low, high in padding)
    if groups > 1:
        return _lax_conv(x, kernel, strides, padding, groups)
    return _conv(x, kernel, tuple(strides), padding)


def _lax_conv(x, kernel, strides, padding, groups=1):
    return jax.lax.conv_general_dilated(
        x,
        kernel,
        strides,
        padding,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=groups,
    )


# On a CPU, XLA runs the derivatives of a convolution inside a loop (`lax.scan`, `fori_loop`) about thirty times
# slower than outside (39 against 1,168 ms for four layers of 16 channels), but not the convolution itself. So
# there the derivative for the input is written as a plain convolution, and that for the kernel as one matrix
# product per tap. Other platforms keep XLA's own.
@partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _conv(x, kernel, strides, padding):
    return _lax_conv(x, kernel, strides, padding)


def _conv_forward(x, kernel, strides, padding):
    return _lax_conv(x, kernel, strides, padding), (x, kernel)


def _conv_backward(strides, padding, residuals, g):
    x, kernel = residuals

    def by_xla(x, kernel, g):
        return jax.vjp(lambda x, kernel: _lax_conv(x, kernel, strides, padding), x, kernel)[1](g)

    def by_taps(x, kernel, g):
        return _input_gradient(x, kernel, g, strides, padding), _kernel_gradient(x, kernel, g, strides, padding)

    return jax.lax.platform_dependent(x, kernel, g, cpu=by_taps, default=by_xla)


_conv.defvjp(_conv_forward, _conv_backward)


def _input_gradient(x, kernel, g, strides, padding):
    """The transposed convolution: zeros between the rows of g, then a convolution with the flipped kernel."""
    interior = [(0, 0, 0), *((0, 0, stride - 1) for stride in strides), (0, 0, 0)]
    g = jax.lax.pad(g, jnp.zeros((), g.dtype), interior)
    flipped = kernel[::-1, ::-1].swapaxes(2, 3)
    pads = tuple(
        (size - 1 - low, x.shape[axis] - g.shape[axis] + low)
        for axis, size, (low, _) in zip((1, 2), kernel.shape[:2], padding, strict=True)
    )
    return _lax_conv(g, flipped, (1, 1), pads)


def _kernel_gradient(x, kernel, g, strides, padding):
    """dL/dw[k, l] = Σ x[i·stride + k, j·stride + l]ᵀ g[i, j], one matrix product for each (k, l)."""
    x = jax.lax.pad(x, jnp.zeros((), x.dtype), [(0, 0, 0), *((*pad, 0) for pad in padding), (0, 0, 0)])
    spans = [(count - 1) * stride + 1 for count, stride in zip(g.shape[1:3], strides, strict=True)]

    def tap(k, l):  # noqa: E741  (the lecture's names)
        rows = x[:, k : k + spans[0] : strides[0], l : l + spans[1] : strides[1]]
        return jnp.einsum("bijc,bijd->cd", rows, g, preferred_element_type=jnp.float32)

    taps = [[tap(k, l) for l in range(kernel.shape[1])] for k in range(kernel.shape[0])]  # noqa: E741
    return jnp.stack([jnp.stack(row) for row in taps]).astype(kernel.dtype)
