"""Discriminators: one score for each image, higher for real ones, as in DCGAN and in residual GANs.

The field `norm` picks the normalization, which keeps a discriminator in bounds.
"""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from ...errors import InputError
from ..layers import Conv, average_pool, batch_norm, check_images, leaky_relu, precision
from .gan_layers import BRANCH, GLOROT, NORMAL_002, check_labels, conv_layer, count_halvings

NORMS = ("batch", "layer", "spectral", "none")


SPECTRAL = "spectral"  # the collection of spectral normalization's singular vectors and values


LEAK = 0.2  # ibid.


class Discriminator(nn.Module):
    """The common part of discriminators.

    Attributes:
      norm: "batch" (BatchNorm; not for gradient penalties, which need a score that depends on one image alone), "layer"
        (LayerNorm over all entries of one image, which Gulrajani et al. 2017, section 4, propose instead), "spectral"
        (the kernel of each layer is divided by its largest singular value, so that the layer is 1-Lipschitz; Miyato et
        al. 2018) or "none".
      num_classes: number of classes of the labels; None for a discriminator without labels.
      axis_name: name of the pmap axis over which BatchNorm averages in training; None elsewhere.
      dtype: data type of the computation. Scores are float32.
      param_dtype: data type of the parameters.
    """

    norm: str = "batch"
    num_classes: int | None = None
    axis_name: str | None = None
    dtype: DTypeLike = jnp.float32
    param_dtype: DTypeLike = jnp.float32

    def check(self, x: jax.Array, labels: jax.Array | None) -> None:
        name = type(self).__name__
        check_images(self, x)
        if self.norm not in NORMS:
            raise InputError(f"The norm of {name} is {self.norm!r}; valid are: {', '.join(NORMS)}.")
        check_labels(self, labels, len(x))

    def score(
        self, x: jax.Array, labels: jax.Array | None, train: bool, init: nn.initializers.Initializer
    ) -> jax.Array:
        """w·φ + b, and e_y·φ besides where y is the label: [batch, features] -> [batch] float32.

        (Equation 3 of Miyato & Koyama 2018.)
        """
        dense = nn.Dense(1, **precision(self), kernel_init=init, name="head")
        scores = _weighted(self, dense, x, train)[:, 0]
        if labels is not None and self.num_classes is not None:
            embed = nn.Embed(
                self.num_classes,
                x.shape[-1],
                **precision(self),
                embedding_init=GLOROT,
                name="label",
            )
            scores = scores + (_weighted(self, embed, labels, train) * x).sum(-1)
        return scores.astype(jnp.float32)


class DCGANDiscriminator(Discriminator):
    """4×4 convolutions of stride 2 and leaky ReLU down to a small grid, which one dense layer reads.

    All but the first are normalized (section 3: BatchNorm at the input makes it unstable).

    Attributes:
      width: number of channels of the first grid; each further one has half the side and twice the channels.
    """

    width: int = 128

    @nn.compact
    def __call__(self, x: jax.Array, labels: jax.Array | None = None, *, train: bool = False) -> jax.Array:
        """Images [batch, height, width, channel], labels int [batch] or None -> scores [batch].

        Raises: InputError for images of another rank or that cannot be halved, labels that are missing, not wanted or
          of another shape, or another norm.
        """
        self.check(x, labels)
        for i in range(count_halvings((x.shape[1], x.shape[2]))):
            bias = i == 0 or self.norm not in ("batch", "layer")
            conv = Conv(
                self.width * 2**i,
                4,
                2,
                1,
                use_bias=bias,
                **precision(self),
                kernel_init=NORMAL_002,
                name=f"conv{i}",
            )
            x = _weighted(self, conv, x, train)
            x = leaky_relu(x if i == 0 else _normalized(self, x, train, f"norm{i}"), LEAK)
        return self.score(x.reshape(len(x), -1), labels, train, NORMAL_002)


class ResNetDiscriminator(Discriminator):
    """Residual blocks, ReLU, the sum over the grid and a dense layer (Miyato 2018, table 4).

    Attributes:
      norm: same as in `Discriminator`.
      width: number of channels of every grid; 128 at 32×32×3 is the paper's (1,053,825 parameters).
      halvings: number of blocks that halve the grid, at least 1.
      blocks: number of blocks after them that do not.
    """

    norm: str = "spectral"
    width: int = 128
    halvings: int = 2
    blocks: int = 2

    @nn.compact
    def __call__(self, x: jax.Array, labels: jax.Array | None = None, *, train: bool = False) -> jax.Array:
        """Images [batch, height, width, channel], labels int [batch] or None -> scores [batch].

        Raises: InputError for images of another rank or whose sides 2^halvings does not divide, labels that are
          missing, not wanted or of another shape, another norm, or numbers of blocks out of range.
        """
        self.check(x, labels)
        if self.halvings < 1 or self.blocks < 0:
            raise InputError(f"halvings is {self.halvings} and blocks is {self.blocks}; they must be at least 1 and 0.")
        if x.shape[1] % 2**self.halvings or x.shape[2] % 2**self.halvings:
            raise InputError(f"Images of {x.shape[1]}×{x.shape[2]} pixels cannot be halved {self.halvings} times.")
        common = (self.norm, self.axis_name, self.dtype, self.param_dtype)
        x = FirstBlock(self.width, *common, name="block1")(x, train)
        for i in range(2, self.halvings + self.blocks + 1):
            x = DownBlock(self.width, i <= self.halvings, *common, name=f"block{i}")(x, train)
        x = nn.relu(_normalized(self, x, train, "norm"))
        return self.score(x.sum((1, 2)), labels, train, GLOROT)


class FirstBlock(nn.Module):
    """The block that reads the image: a `DownBlock` without normalization and ReLU before its first convolution.

    Attributes:
      width: number of output channels.
      norm: same as in `Discriminator`.
      axis_name: name of the pmap axis over which BatchNorm averages in training; None elsewhere.
      dtype: data type of the computation.
      param_dtype: data type of the parameters.
    """

    width: int
    norm: str
    axis_name: str | None = None
    dtype: DTypeLike = jnp.float32
    param_dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """[batch, height, width, channel] -> [batch, height/2, width/2, width]."""
        y = _weighted(self, conv_layer(self, self.width, 3, name="conv1", init=BRANCH), x, train)
        y = nn.relu(_normalized(self, y, train, "norm2"))
        y = _weighted(self, conv_layer(self, self.width, 3, name="conv2", init=BRANCH), y, train)
        around = conv_layer(self, self.width, 1, name="shortcut", init=GLOROT)
        return average_pool(y, (2, 2)) + _weighted(self, around, average_pool(x, (2, 2)), train)


class DownBlock(nn.Module):
    """ReLU, convolution, ReLU, convolution, each after a normalization if there is one; then perhaps 2×2 averages.

    Attributes:
      width: number of output channels.
      halve: average 2×2 pixels at the end. Then a 1×1 convolution is the shortcut; otherwise it is the identity, which
        requires an input of `width` channels.
      norm: same as in `Discriminator`.
      axis_name: name of the pmap axis over which BatchNorm averages in training; None elsewhere.
      dtype: data type of the computation.
      param_dtype: data type of the parameters.
    """

    width: int
    halve: bool
    norm: str
    axis_name: str | None = None
    dtype: DTypeLike = jnp.float32
    param_dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """[batch, height, width, channel] -> [batch, height', width', width]."""
        y = x
        for i in (1, 2):
            y = nn.relu(_normalized(self, y, train, f"norm{i}"))
            y = _weighted(self, conv_layer(self, self.width, 3, name=f"conv{i}", init=BRANCH), y, train)
        if not self.halve:
            return y + x
        around = conv_layer(self, self.width, 1, name="shortcut", init=GLOROT)
        # Averaging pixels and mixing their channels commute; this order needs a quarter of the work.
        return average_pool(y, (2, 2)) + _weighted(self, around, average_pool(x, (2, 2)), train)


def _weighted(module: Any, layer: nn.Module, x: jax.Array, train: bool) -> jax.Array:
    """layer(x), with its matrix divided by its largest singular value where the module's norm is "spectral".

    A kernel [height, width, channel, features] is the matrix [height · width · channel, features]. Its singular vectors
    follow by one step of power iteration at each pass in training (Miyato et al. 2018, algorithm 1); at prediction
    such a step is taken too, but not kept. They count as constants for the gradient.
    """
    if module.norm != "spectral":
        return layer(x)  # pyright: ignore[reportCallIssue]  (a module with `__call__`)
    normalized = nn.SpectralNorm(layer, collection_name=SPECTRAL, name=f"{layer.name}_spectral")
    return normalized(x, update_stats=train)


def _normalized(module: Any, x: jax.Array, train: bool, name: str) -> jax.Array:
    """x, normalized as the module's norm says where that acts on what flows between layers."""
    if module.norm == "batch":
        return batch_norm(module, train, name=name)(x)
    if module.norm == "layer":
        norm = nn.LayerNorm(
            epsilon=1e-5,
            reduction_axes=(1, 2, 3),
            feature_axes=-1,
            # E[x²] − E[x]² loses digits where the mean is large; two passes do not.
            use_fast_variance=False,
            **precision(module),
            name=name,
        )
        return norm(x)
    return x
