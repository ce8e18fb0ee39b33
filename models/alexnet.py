"""AlexNet (Krizhevsky, Sutskever, Hinton: "ImageNet Classification with Deep Convolutional Neural Networks", 2012).

Five convolutions, three max poolings and a head of three dense layers. `one_tower` is the later network of a single
group (Krizhevsky 2014: "One weird trick for parallelizing convolutional neural networks"), which torchvision ships;
`original` is the one of 2012, in two groups and with local response normalisation. The head, its pooling to a fixed
grid and the poolings that leave small grids alone serve VGG too.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from .layers import Conv, Dropout, check_positive
from .torch_names import torch_entry


class AlexNet(nn.Module):
    """Convolutions with ReLU, pooled after the first, second and fifth; then `Head`.

    num_classes: width of the logits.
    features: channels of the five convolutions.
    groups: into how many parts each convolution is cut. The paper's two halves lived on one GPU each.
    response_norm: local response normalisation after the first two convolutions.
    hidden: widths of the hidden dense layers.
    grid: side to which the last grid is averaged; None leaves it alone and ties the network to one image size.
    dropout: of the hidden layers; may be traced.
    first_dropped: as of `Head`.
    dtype: of the computation; param_dtype: of the parameters. Logits are float32 at least.
    """

    num_classes: int = 1000
    features: Sequence[int] = (64, 192, 384, 256, 256)
    groups: Sequence[int] = (1, 1, 1, 1, 1)
    response_norm: bool = False
    hidden: Sequence[int] = (4096, 4096)
    grid: int | None = 6
    dropout: Any = 0.5
    first_dropped: int = 0
    dtype: Any = jnp.float32
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool = False) -> jax.Array:
        """Images [batch, height, width, channel] -> logits [batch, num_classes]. Draws from the stream "dropout".

        Raises: ValueError if x is not of rank 4 or smaller than 7×7.
        """
        if x.ndim != 4 or min(x.shape[1:3]) < 7:
            raise ValueError(
                f"AlexNet wants images [batch, height, width, channel] of at least 7×7; it was given shape {x.shape}."
            )
        x = x.astype(self.dtype)
        for i, (size, stride, padding, pooled) in enumerate(CONVOLUTIONS):
            conv = Conv(
                self.features[i], size, stride, padding, self.groups[i], use_bias=True,
                dtype=self.dtype, param_dtype=self.param_dtype, name=f"conv{i + 1}",
            )  # fmt: skip
            x = nn.relu(conv(x))
            if self.response_norm and i < 2:
                x = local_response_norm(x)
            if pooled:
                x = max_pool(x, 3, 2)
        head = Head(
            self.num_classes, self.hidden, self.grid, self.dropout, self.first_dropped,
            dtype=self.dtype, param_dtype=self.param_dtype, name="head",
        )  # fmt: skip
        return head(x, train)


# Kernel size, stride, padding, and whether pooling follows. With a padding of 2, images of 224×224 (which the paper
# names) give the 55×55 outputs that it has.
CONVOLUTIONS = ((11, 4, 2, True), (5, 1, 2, True), (3, 1, 1, False), (3, 1, 1, False), (3, 1, 1, True))


class Head(nn.Module):
    """Averages a grid to a fixed one; dense layers with ReLU and dropout follow, and a last dense layer.

    The first dense layer reads the whole grid. Its kernel keeps the grid's axes, [height, width, channel, features],
    so that it is a convolution's as it stands.

    num_classes: width of the output.
    hidden: widths of the hidden layers; none makes the head linear.
    grid: side to which the grid is averaged; None leaves it alone.
    dropout: may be traced.
    first_dropped: the first dense layer whose input falls to dropout; as many follow as there are hidden ones. With
      1 these are the outputs of the hidden layers, as the papers say; with 0 their inputs, as in torchvision's AlexNet.
    """

    num_classes: int
    hidden: Sequence[int]
    grid: int | None
    dropout: Any = 0.5
    first_dropped: int = 1
    dtype: Any = jnp.float32
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """[batch, height, width, channel] -> [batch, num_classes], float32 at least.

        Raises: ValueError if a width or the grid's side is not positive.
        """
        check_positive(self, "num_classes", "hidden")
        if self.grid is not None:
            check_positive(self, "grid")
            x = adaptive_average_pool(x, self.grid)
        for i, width in enumerate(self.hidden):
            x = nn.relu(self._dense(i, width, nn.initializers.he_normal(), f"dense{i + 1}", x, train))
        x = self._dense(len(self.hidden), self.num_classes, nn.initializers.lecun_normal(), "output", x, train)
        return x.astype(jnp.promote_types(x.dtype, jnp.float32))

    def _dense(
        self, i: int, width: int, init: nn.initializers.Initializer, name: str, x: jax.Array, train: bool
    ) -> jax.Array:
        if self.first_dropped <= i < self.first_dropped + len(self.hidden):
            x = Dropout(self.dropout)(x, train)
        layer = nn.DenseGeneral(
            width, axis=tuple(range(1, x.ndim)), dtype=self.dtype, param_dtype=self.param_dtype,
            kernel_init=init, name=name,
        )  # fmt: skip
        return layer(x)


def adaptive_average_pool(x: jax.Array, side: int) -> jax.Array:
    """Averages a grid of any size to side × side: cell i is the mean of the pixels ⌊i·n/side⌋ … ⌈(i + 1)·n/side⌉ − 1.

    Windows overlap where n is no multiple of side, and repeat pixels where n < side: PyTorch's AdaptiveAvgPool2d.

    Args:
      x: [batch, height, width, channel].
      side: of the result.
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


def max_pool(x: jax.Array, size: int, stride: int) -> jax.Array:
    """Max pooling without padding whose window is never larger than the grid, so that small images go through too.

    Args:
      x: [batch, height, width, channel].
      size: of the window; stride: between windows.
    Returns: [batch, height', width', channel].
    """
    window = (min(size, x.shape[1]), min(size, x.shape[2]))
    return nn.max_pool(x, window, (stride, stride))


def local_response_norm(
    x: jax.Array, *, size: int = 5, k: float = 2.0, alpha: float = 1e-4, beta: float = 0.75
) -> jax.Array:
    """x / (k + α Σ x²)^β, where the sum is over the `size` channels around each.

    The paper's α multiplies the plain sum. PyTorch's LocalResponseNorm divides the sum by `size`, so that its α is
    `size` times this one.

    Args:
      x: [..., channel].
      size: n, odd; k, alpha, beta: the paper's constants (section 3.3).
    Returns: as `x`. The sum is taken in float32 at least.
    Raises: ValueError if `size` is even or not positive.
    """
    if size < 1 or size % 2 == 0:
        raise ValueError(f"size is {size}; local response normalisation wants an odd number of channels.")
    wide = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    squares = jnp.pad(wide**2, [(0, 0)] * (x.ndim - 1) + [(size // 2, size // 2)])
    around = sum(squares[..., i : i + x.shape[-1]] for i in range(size))
    return (wide * (k + alpha * around) ** -beta).astype(x.dtype)


def one_tower(**fields: Any) -> AlexNet:
    """torchvision's `alexnet`: 61,100,840 parameters at 1000 classes. `fields`: of `AlexNet`."""
    return AlexNet(**fields)


def original(**fields: Any) -> AlexNet:
    """The network of 2012, 60,965,224 parameters: two groups where the paper's GPUs did not talk, response norms.

    Args:
      fields: of `AlexNet`.
    """
    defaults: dict[str, Any] = {
        "features": (96, 256, 384, 384, 256),
        "groups": (1, 2, 1, 2, 2),
        "response_norm": True,
        "first_dropped": 1,
    }
    return AlexNet(**(defaults | fields))


# Where torchvision's Sequentials, which count ReLU, pooling and dropout too, have our layers. A third hidden layer,
# which it lacks, keeps its name.
TORCH_NAMES = {
    "conv1": "features.0",
    "conv2": "features.3",
    "conv3": "features.6",
    "conv4": "features.8",
    "conv5": "features.10",
    "dense1": "classifier.1",
    "dense2": "classifier.4",
    "output": "classifier.6",
}


def torch_entries(path: tuple[str, ...], array: np.ndarray) -> list[tuple[str, np.ndarray]]:
    """(name, array) of torchvision's AlexNet for one of our leaves.

    Args:
      path: (collection, module, …, leaf).
      array: of our layout.
    """
    collection, *modules, leaf = path
    name, array = torch_entry([TORCH_NAMES.get(modules[-1], modules[-1])], collection, leaf, array)
    return [(name, flattened(array) if modules[0] == "head" else array)]


def flattened(array: np.ndarray) -> np.ndarray:
    """A leaf of `Head` in torch's layout, [features, channel, height, width], as its Flatten has it: one row each."""
    return array.reshape(len(array), -1) if array.ndim > 1 else array
