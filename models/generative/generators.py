"""Generators: latent vectors to images in [−1, 1], as in DCGAN and in residual GANs.

They begin at a small grid and double it: `count_halvings` says how often, and refuses images that do not fit.
"""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from ...errors import InputError
from ..layers import ConvTranspose, batch_norm, precision, upscale_nearest
from .gan_layers import BRANCH, GLOROT, NORMAL_002, check_labels, conv_layer, count_halvings


class Generator(nn.Module):
    """The common part of generators.

    Attributes:
      image_shape: (height, width, channel) of an image; `count_halvings` must be able to halve it.
      num_classes: number of classes of the labels; None for a generator without labels.
      axis_name: name of the pmap axis over which BatchNorm averages in training; None elsewhere.
      dtype: data type of the computation. Images are float32.
      param_dtype: data type of the parameters.
    """

    image_shape: tuple[int, int, int]
    num_classes: int | None = None
    axis_name: str | None = None
    dtype: DTypeLike = jnp.float32
    param_dtype: DTypeLike = jnp.float32

    def check(self, z: jax.Array, labels: jax.Array | None) -> None:
        if z.ndim != 2:
            raise InputError(f"{type(self).__name__} needs z of shape [batch, latent]; it was given {z.shape}.")
        check_labels(self, labels, len(z))

    def smallest_grid(self, z: jax.Array, features: int, init: nn.initializers.Initializer, bias: bool) -> jax.Array:
        """A dense layer, laid out as a grid: [batch, latent] -> [batch, height, width, features]."""
        factor = 2 ** count_halvings(self.image_shape[:2])
        height, width = self.image_shape[0] // factor, self.image_shape[1] // factor
        dense = nn.Dense(
            height * width * features,
            use_bias=bias,
            **precision(self),
            kernel_init=init,
            name="project",
        )
        return dense(z.astype(self.dtype)).reshape(len(z), height, width, features)


class DCGANGenerator(Generator):
    """Dense layer, then 4×4 transposed convolutions of stride 2, with BatchNorm and ReLU between (figure 1).

    The paper's kernels are 5×5; 4×4, which the stride divides, is what its successors have. Labels join z as one-hot
    vectors (Mirza & Osindero 2014).

    Attributes:
      width: number of channels of the last hidden grid; each grid before has half the side and twice the channels.
    """

    width: int = 128

    @nn.compact
    def __call__(self, z: jax.Array, labels: jax.Array | None = None, *, train: bool = False) -> jax.Array:
        """Latent vectors [batch, latent], labels int [batch] or None -> images [batch, *image_shape] in [−1, 1].

        Raises: InputError for another shape of z, labels that are missing, unexpected or of another shape, or an
          image_shape that cannot be halved.
        """
        self.check(z, labels)
        if labels is not None and self.num_classes is not None:
            z = jnp.concatenate([z, jax.nn.one_hot(labels, self.num_classes, dtype=z.dtype)], -1)
        halvings = count_halvings(self.image_shape[:2])
        features = self.width * 2 ** (halvings - 1)
        x = self.smallest_grid(z, features, NORMAL_002, bias=False)
        x = nn.relu(batch_norm(self, train, name="bn0")(x))
        for i in range(1, halvings):
            features //= 2
            x = self._double(features, f"conv{i}")(x)
            x = nn.relu(batch_norm(self, train, name=f"bn{i}")(x))
        x = self._double(self.image_shape[2], f"conv{halvings}", bias=True)(x)
        return jnp.tanh(x.astype(jnp.float32))

    def _double(self, features: int, name: str, *, bias: bool = False) -> ConvTranspose:
        return ConvTranspose(features, 4, 2, 1, use_bias=bias, kernel_init=NORMAL_002, **precision(self), name=name)


class ResNetGenerator(Generator):
    """Dense layer, residual blocks that double the grid, BatchNorm, ReLU, 3×3 convolution (Miyato 2018, table 4).

    Labels choose scale and shift after each BatchNorm of a block (Dumoulin et al. 2017, as Miyato & Koyama 2018 do).

    Attributes:
      width: number of channels of every grid; 256 at 32×32, with latent vectors of 128 numbers, is the paper's
        (4,276,739 parameters).
    """

    width: int = 256

    @nn.compact
    def __call__(self, z: jax.Array, labels: jax.Array | None = None, *, train: bool = False) -> jax.Array:
        """Latent vectors [batch, latent], labels int [batch] or None -> images [batch, *image_shape] in [−1, 1].

        Raises: same as `DCGANGenerator`.
        """
        self.check(z, labels)
        x = self.smallest_grid(z, self.width, GLOROT, bias=True)
        common = (self.width, self.num_classes, self.axis_name, self.dtype, self.param_dtype)
        for i in range(1, count_halvings(self.image_shape[:2]) + 1):
            x = UpBlock(*common, name=f"block{i}")(x, labels, train)
        x = nn.relu(batch_norm(self, train, name="bn")(x))
        x = conv_layer(self, self.image_shape[2], 3, name="conv", init=GLOROT)(x)
        return jnp.tanh(x.astype(jnp.float32))


class UpBlock(nn.Module):
    """BatchNorm, ReLU, doubling, convolution, BatchNorm, ReLU, convolution, with a 1×1 convolution as the shortcut.

    (Figure 8 of Miyato 2018.)

    Attributes:
      width: number of output channels.
      num_classes: number of classes of the labels; None without labels.
      axis_name: name of the pmap axis over which BatchNorm averages in training; None elsewhere.
      dtype: data type of the computation.
      param_dtype: data type of the parameters.
    """

    width: int
    num_classes: int | None = None
    axis_name: str | None = None
    dtype: DTypeLike = jnp.float32
    param_dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, labels: jax.Array | None, train: bool) -> jax.Array:
        """[batch, height, width, channel] -> [batch, 2·height, 2·width, width]."""
        y = nn.relu(_conditional_batch_norm(self, x, labels, train, "bn1"))
        y = conv_layer(self, self.width, 3, name="conv1", init=BRANCH)(upscale_nearest(y, 2))
        y = nn.relu(_conditional_batch_norm(self, y, labels, train, "bn2"))
        y = conv_layer(self, self.width, 3, name="conv2", init=BRANCH)(y)
        # Copying pixels and mixing their channels commute; this order needs a quarter of the work.
        return y + upscale_nearest(conv_layer(self, self.width, 1, name="shortcut", init=GLOROT)(x), 2)


def _conditional_batch_norm(module: Any, x: jax.Array, labels: jax.Array | None, train: bool, name: str) -> jax.Array:
    """BatchNorm, whose scale and shift labels change by a factor 1 + γ_y and a summand β_y, which begin at 1 and 0."""
    x = batch_norm(module, train, name=name)(x)
    if labels is None:
        return x
    factor, summand = (
        nn.Embed(
            module.num_classes,
            x.shape[-1],
            **precision(module),
            embedding_init=nn.initializers.zeros,
            name=f"{name}_{part}",
        )(labels)[:, None, None]
        for part in ("factor", "summand")
    )
    return x * (1 + factor) + summand
