"""Inception-v3 (Szegedy et al. 2016: "Rethinking the Inception Architecture") for the Fréchet Inception Distance.

A stem of convolutions, eleven blocks of parallel branches whose outputs are concatenated, and global average pooling.
A block is a table of its branches; names are those of the published weights. This is the network of 2015 that Heusel
et al. 2017 took, with 1008 outputs, and not the one that classifies ImageNet in torchvision: averages within blocks
do not count the padding, and the last block takes maxima where the block before it averages. It is for features
alone, so it is not among `models.names()`. The distances between features are in `metrics.fidelity`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from ...errors import InputError
from ..layers import conv, precision

SIDE = 299
"""Height and width that images are resized to."""


class FIDInception(nn.Module):
    """Images -> the 2048 features of the last grid's mean, or the 1008 logits of them.

    The weights, which are not ours to ship, are pytorch-fid's `pt_inception-2015-12-05-6726825d.pth`, converted by
    `safetensors.torch.save_file`; `pretrained.load(FIDInception(), path, (299, 299, 3))` reads the result.
    Accelerators may round float32 products to fewer digits by default: `jax.default_matmul_precision("float32")` around
    the call forbids it.

    Attributes:
      num_classes: number of classes; 1008 in the published weights, of which TensorFlow's labels name 1000.
      logits: return the logits instead of the features, as the Inception Score needs. The parameters are the same
        either way.
      axis_name: name of the pmap axis over which BatchNorm averages in training; None elsewhere.
      dtype: data type of the computation. Outputs are float32 at least.
      param_dtype: data type of the parameters.
    """

    num_classes: int = 1008
    logits: bool = False
    axis_name: str | None = None
    dtype: DTypeLike = jnp.float32
    param_dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool = False) -> jax.Array:
        """Images [batch, height, width, 3] of any size, uint8 or float in [0, 255] -> [batch, 2048] or the logits.

        train: use the statistics of the batch and move the running ones. Features for a distance never do.

        Raises: InputError for another rank, or other channels or types.
        """
        wide = jnp.promote_types(self.dtype, jnp.float32)
        layer = partial(ConvNorm, axis_name=self.axis_name, **precision(self))
        x = normalized(x, wide).astype(self.dtype)
        for convolution, pooled in STEM:
            x = layer(convolution, name=convolution.name)(x, train)
            x = halved(x) if pooled else x
        for name, block in BLOCKS.items():
            x = Mixed(block, layer, name=name)(x, train)
        features = x.astype(wide).mean((1, 2))
        head = nn.Dense(self.num_classes, **precision(self), name="fc")
        logits = head(features).astype(wide)  # not computed under jit where nothing reads it
        return logits if self.logits else features


def normalized(images: jax.Array, dtype: DTypeLike = jnp.float32) -> jax.Array:
    """Images of any size as the network's input: 299×299 in [−1, 1].

    The resize is PyTorch's `interpolate(mode="bilinear", align_corners=False)` without `antialias`, in pytorch-fid's
    order, so before the scaling: pixels are squares, as `jax.image.resize` has them, and each new pixel is a mean of
    at most 2×2 old ones, however far the image shrinks. The original TensorFlow graph has another resize, whose pixels
    are points at x · old / new, and scales by (x − 128) / 128; clean-fid filters where an image shrinks (Parmar et al.
    2022). Distances after different resizes are not comparable.

    Args:
      images: [batch, height, width, 3], uint8 or float in [0, 255].
      dtype: data type of the result, float32 or wider.
    Returns: [batch, 299, 299, 3].
    Raises: InputError for another rank, or other channels or types.
    """
    if images.ndim != 4 or images.shape[-1] != 3:
        raise InputError(f"FIDInception needs images [batch, height, width, 3]; it was given shape {images.shape}.")
    if images.dtype != jnp.uint8 and not jnp.issubdtype(images.dtype, jnp.floating):
        raise InputError(f"FIDInception needs images of uint8, or of a float type in [0, 255]; got {images.dtype}.")
    shape = (len(images), SIDE, SIDE, 3)
    images = jax.image.resize(
        images.astype(dtype) / 255, shape, "bilinear", antialias=False, precision=jax.lax.Precision.HIGHEST
    )
    return 2 * images - 1


class Convolution(NamedTuple):
    """A row of a table of layers.

    Attributes:
      name: name in the published weights.
      features: number of output channels.
      height: height of the kernel.
      width: width of the kernel.
      stride: steps between outputs.
      padded: pad with zeros on all sides, so that a stride of 1 keeps the size of the grid.
    """

    name: str
    features: int
    height: int
    width: int
    stride: int = 1
    padded: bool = True


class ConvNorm(nn.Module):
    """A convolution without bias, BatchNorm and ReLU.

    Attributes:
      convolution: shape and stride of the convolution.
      axis_name: name of the pmap axis over which BatchNorm averages in training; None elsewhere.
      dtype: data type of the computation.
      param_dtype: data type of the parameters.
    """

    convolution: Convolution
    axis_name: str | None = None
    dtype: DTypeLike = jnp.float32
    param_dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """[batch, height, width, channel] -> [batch, height', width', features]."""
        _, features, height, width, stride, padded = self.convolution
        shape = (height, width, x.shape[-1], features)
        kernel = self.param("kernel", nn.initializers.he_normal(), shape, self.param_dtype)
        pads = [(size // 2, size // 2) if padded else (0, 0) for size in (height, width)]
        x = conv(x.astype(self.dtype), kernel.astype(self.dtype), strides=(stride, stride), padding=pads)
        norm = nn.BatchNorm(
            use_running_average=not train,
            momentum=0.9,
            epsilon=EPSILON,
            axis_name=self.axis_name if train else None,
            use_fast_variance=False,
            **precision(self),
            name="bn",
        )
        return nn.relu(norm(x))


EPSILON = 1e-3
"""ε of BatchNorm in the published weights; other networks have 1e-5."""


class Block(NamedTuple):
    """What a block concatenates: the ends of its branches, in this order, and of its pooling.

    Attributes:
      branches: branches, each a sequence of convolutions; a tuple in place of the last one has several side by side.
      pool: pooling of the block's input.
      pool_features: number of channels of the 1×1 convolution after the pooling; 0 for none.
    """

    branches: tuple[tuple[Convolution | tuple[Convolution, ...], ...], ...]
    pool: Callable[[jax.Array], jax.Array]
    pool_features: int = 0


class Mixed(nn.Module):
    """One block. layer: (convolution, name) -> the module of it.

    Attributes:
      block: the branches.
      layer: (convolution, name) -> the module of that convolution.
    """

    block: Block
    layer: Callable[..., nn.Module]

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """[batch, height, width, channel] -> [batch, height', width', sum of the branches' features]."""

        def apply(convolution, x):
            return self.layer(convolution, name=convolution.name)(x, train)

        outputs = []
        for branch in self.block.branches:
            y = x
            for step in branch:
                if isinstance(step, Convolution):
                    y = apply(step, y)
                else:
                    y = jnp.concatenate([apply(convolution, y) for convolution in step], -1)
            outputs.append(y)
        pooled = self.block.pool(x)
        if self.block.pool_features:
            pooled = apply(Convolution("branch_pool", self.block.pool_features, 1, 1), pooled)
        return jnp.concatenate([*outputs, pooled], -1)


AROUND: Any = ((1, 1), (1, 1))  # flax declares a string only


def means(x: jax.Array) -> jax.Array:
    """Averages of the 3×3 pixels around each pixel, without the padding."""
    return nn.avg_pool(x, (3, 3), (1, 1), AROUND, count_include_pad=False)


def maxima(x: jax.Array) -> jax.Array:
    """Maxima of the 3×3 pixels around each pixel."""
    return nn.max_pool(x, (3, 3), (1, 1), AROUND)


def halved(x: jax.Array) -> jax.Array:
    """Maxima of 3×3 pixels, at every second place, without padding."""
    return nn.max_pool(x, (3, 3), (2, 2))


STEM = (
    (Convolution("Conv2d_1a_3x3", 32, 3, 3, stride=2, padded=False), False),
    (Convolution("Conv2d_2a_3x3", 32, 3, 3, padded=False), False),
    (Convolution("Conv2d_2b_3x3", 64, 3, 3), True),
    (Convolution("Conv2d_3b_1x1", 80, 1, 1), False),
    (Convolution("Conv2d_4a_3x3", 192, 3, 3, padded=False), True),
)
"""(convolution, whether `halved` follows): 299×299 pixels become 35×35."""


def _fine(pool_features: int) -> Block:
    """On 35×35 pixels (figure 5 of the paper, with a 5×5 convolution kept in one)."""
    return Block(
        (
            (Convolution("branch1x1", 64, 1, 1),),
            (Convolution("branch5x5_1", 48, 1, 1), Convolution("branch5x5_2", 64, 5, 5)),
            (
                Convolution("branch3x3dbl_1", 64, 1, 1),
                Convolution("branch3x3dbl_2", 96, 3, 3),
                Convolution("branch3x3dbl_3", 96, 3, 3),
            ),
        ),
        means,
        pool_features,
    )


def _middle(width: int) -> Block:
    """On 17×17 pixels: 7×7 convolutions as a row and a column (figure 6). width: of the inner ones."""
    return Block(
        (
            (Convolution("branch1x1", 192, 1, 1),),
            (
                Convolution("branch7x7_1", width, 1, 1),
                Convolution("branch7x7_2", width, 1, 7),
                Convolution("branch7x7_3", 192, 7, 1),
            ),
            (
                Convolution("branch7x7dbl_1", width, 1, 1),
                Convolution("branch7x7dbl_2", width, 7, 1),
                Convolution("branch7x7dbl_3", width, 1, 7),
                Convolution("branch7x7dbl_4", width, 7, 1),
                Convolution("branch7x7dbl_5", 192, 1, 7),
            ),
        ),
        means,
        192,
    )


def _coarse(pool: Callable[[jax.Array], jax.Array]) -> Block:
    """On 8×8 pixels: rows and columns side by side (figure 7)."""
    return Block(
        (
            (Convolution("branch1x1", 320, 1, 1),),
            (
                Convolution("branch3x3_1", 384, 1, 1),
                (Convolution("branch3x3_2a", 384, 1, 3), Convolution("branch3x3_2b", 384, 3, 1)),
            ),
            (
                Convolution("branch3x3dbl_1", 448, 1, 1),
                Convolution("branch3x3dbl_2", 384, 3, 3),
                (Convolution("branch3x3dbl_3a", 384, 1, 3), Convolution("branch3x3dbl_3b", 384, 3, 1)),
            ),
        ),
        pool,
        192,
    )


BLOCKS: dict[str, Block] = {
    "Mixed_5b": _fine(32),
    "Mixed_5c": _fine(64),
    "Mixed_5d": _fine(64),
    "Mixed_6a": Block(
        (
            (Convolution("branch3x3", 384, 3, 3, stride=2, padded=False),),
            (
                Convolution("branch3x3dbl_1", 64, 1, 1),
                Convolution("branch3x3dbl_2", 96, 3, 3),
                Convolution("branch3x3dbl_3", 96, 3, 3, stride=2, padded=False),
            ),
        ),
        halved,
    ),
    "Mixed_6b": _middle(128),
    "Mixed_6c": _middle(160),
    "Mixed_6d": _middle(160),
    "Mixed_6e": _middle(192),
    "Mixed_7a": Block(
        (
            (
                Convolution("branch3x3_1", 192, 1, 1),
                Convolution("branch3x3_2", 320, 3, 3, stride=2, padded=False),
            ),
            (
                Convolution("branch7x7x3_1", 192, 1, 1),
                Convolution("branch7x7x3_2", 192, 1, 7),
                Convolution("branch7x7x3_3", 192, 7, 1),
                Convolution("branch7x7x3_4", 192, 3, 3, stride=2, padded=False),
            ),
        ),
        halved,
    ),
    "Mixed_7b": _coarse(means),
    "Mixed_7c": _coarse(maxima),
}
