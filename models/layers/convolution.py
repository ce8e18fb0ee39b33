"""The convolution of the lecture, and the layer that holds its kernel.

Every convolution of every network goes through `conv`. It checks its arguments and hands them to `cpu_convolution`,
which computes the same numbers, faster on a CPU than XLA alone, and is the only file that touches the internals of jax.
"""

from __future__ import annotations

from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from ...errors import InputError
from .cpu_convolution import Pair, Window, convolve, convolve_groups


def conv(
    x: jax.Array,
    kernel: jax.Array,
    *,
    strides: Pair = (1, 1),
    padding: str | Sequence[Pair] = "SAME",
    groups: int = 1,
    dilation: int = 1,
) -> jax.Array:
    """2-D convolution as libraries mean it, a cross-correlation: y[i, j] = Σ x[i·s + k, j·t + l] w[k, l].

    The convolution of mathematics, and of the lecture's slides, flips the kernel along both axes.

    A kernel that takes the difference of horizontal neighbors finds a vertical edge:

    >>> image = jnp.array([[0.0, 0.0, 1.0, 1.0]]).reshape(1, 1, 4, 1)
    >>> difference = jnp.array([[-1.0, 1.0]]).reshape(1, 2, 1, 1)
    >>> conv(image, difference, padding="VALID").ravel().tolist()
    [0.0, 1.0, 0.0]

    Args:
      x: [batch, height, width, channel].
      kernel: [height, width, channel / groups, features].
      strides: steps between outputs (s, t), vertical and horizontal.
      padding: "SAME", "VALID" or ((top, bottom), (left, right)) zeros; negative numbers cut pixels off.
      groups: number of parts into which channels and features are cut; each part is convolved alone.
      dilation: steps between the pixels that neighboring entries of the kernel meet ("à trous"): y[i, j] reads
        x[i·s + k·dilation, j·t + l·dilation].
    Returns: [batch, height', width', features].
    Raises: InputError if the ranks are not 4, the dilation is below 1, or channels or features do not fit the kernel
      and the groups.
    """
    if x.ndim != 4 or kernel.ndim != 4:
        raise InputError(f"conv needs x and kernel of rank 4; they are {x.shape} and {kernel.shape}.")
    if groups < 1 or kernel.shape[3] % groups:
        raise InputError(f"groups is {groups}; it must divide the {kernel.shape[3]} features of the kernel.")
    if x.shape[-1] != kernel.shape[2] * groups:
        raise InputError(f"x has {x.shape[-1]} channels; the kernel {kernel.shape} needs {kernel.shape[2] * groups}.")
    if dilation < 1:
        raise InputError(f"dilation is {dilation}; it must be at least 1.")
    if isinstance(padding, str):
        reach = [(size - 1) * dilation + 1 for size in kernel.shape[:2]]
        padding = jax.lax.padtype_to_pads(x.shape[1:3], reach, strides, padding)
    (top, bottom), (left, right) = padding
    pads = ((int(top), int(bottom)), (int(left), int(right)))
    window = Window((int(strides[0]), int(strides[1])), pads, kernel_dilation=(int(dilation), int(dilation)))
    if groups > 1:
        return convolve_groups(x, kernel, window, groups)
    if kernel.shape[:2] == (1, 1) and window.padding == ((0, 0), (0, 0)):
        # A matrix product at every position, and so are its derivatives.
        return jnp.einsum("bijc,cd->bijd", x[:, :: strides[0], :: strides[1]], kernel[0, 0])
    return convolve(x, kernel, window)


# Variance 2 / fan-out keeps the size of gradients through ReLU layers (He et al. 2015, section 2.2).
HE_FAN_OUT = nn.initializers.variance_scaling(2.0, "fan_out", "normal")
# Variance 1 / fan-in keeps the size of activations where no ReLU follows.
LECUN = nn.initializers.lecun_normal()


class Conv(nn.Module):
    """A square convolution that pads the same number of zeros on each side, whatever the stride, as PyTorch does.

    ("SAME" would pad a strided convolution unevenly.)

    Attributes:
      features: number of output channels.
      kernel_size: side of the kernel.
      stride: steps between outputs.
      padding: zeros on each side; by default dilation · (kernel_size // 2).
      groups: number of parts into which channels and features are cut; each part is convolved alone.
      dilation: same as in `conv`.
      use_bias: add a bias to each feature.
      dtype: data type of the computation.
      param_dtype: data type of the parameters.
      kernel_init: initializer of the kernel.
    """

    features: int
    kernel_size: int
    stride: int = 1
    padding: int | None = None
    groups: int = 1
    dilation: int = 1
    use_bias: bool = False
    dtype: DTypeLike = jnp.float32
    param_dtype: DTypeLike = jnp.float32
    kernel_init: nn.initializers.Initializer = HE_FAN_OUT

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[batch, height, width, channel] -> [batch, height', width', features]."""
        size = self.kernel_size
        pad = self.dilation * (size // 2) if self.padding is None else self.padding
        shape = (size, size, x.shape[-1] // self.groups, self.features)
        kernel = self.param("kernel", self.kernel_init, shape, self.param_dtype)
        y = conv(
            x.astype(self.dtype),
            kernel.astype(self.dtype),
            strides=(self.stride, self.stride),
            padding=((pad, pad), (pad, pad)),
            groups=self.groups,
            dilation=self.dilation,
        )
        if self.use_bias:
            bias = self.param("bias", nn.initializers.zeros, (self.features,), self.param_dtype)
            y = y + bias.astype(self.dtype)
        return y
