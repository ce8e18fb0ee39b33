"""Residual networks (He, Zhang, Ren, Sun: "Deep Residual Learning for Image Recognition", CVPR 2016) and plain twins.

A network is a stem, stages of blocks and a linear head. Within a stage all blocks but the first are equal, so
they run under `nn.scan`: their parameters are stacked on a leading axis, and the compiler sees one block however
deep the network is. A block is a module class, and the network's field `block` says which one.

`PreActResNet` is the network of "Identity Mappings in Deep Residual Networks" (He et al. 2016b), and `wide` the one of
"Wide Residual Networks" (Zagoruyko and Komodakis 2016). Options are those of ResNet-D (He, T. et al. 2019: "Bag of
Tricks for Image Classification with Convolutional Neural Networks"), stochastic depth and dropout.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from ...errors import InputError
from ..layers import Conv, Dropout, batch_norm, check_images, check_positive, precision
from .resnet_blocks import (
    PROJECTIONS,
    BasicBlock,
    Block,
    BottleneckBlock,
    PreActBasicBlock,
    PreActBottleneckBlock,
)

PADDED_BY_ONE: Any = ((1, 1), (1, 1))  # flax declares a string only


class ResNet(nn.Module):
    """Stem, stages, global average pooling, linear head.

    Attributes:
      num_classes: number of classes, the width of the logits.
      block: class of the blocks: `BasicBlock`, `PlainBlock` or `BottleneckBlock`.
      stage_sizes: number of blocks of each stage.
      width: number of channels of the first stage; each further stage has twice as many on half the grid.
      stem_width: number of channels of the stem; by default `width`.
      imagenet_stem: 7×7/2 convolution and 3×3/2 max pooling; otherwise one 3×3 convolution.
      deep_stem: three 3×3 convolutions in place of the 7×7 (ResNet-D).
      shortcut: shortcut where shapes differ: "project" (option B), "pad" (option A) or "pool_project" (ResNet-D).
      zero_init_residual: start the residual branch of each block at 0, by the scale of its last BatchNorm.
      drop_path: stochastic depth: the branch of block l of L is dropped with probability drop_path·l/L; may be traced.
      dropout: dropout rate of the pooled features; may be traced.
      block_dropout: dropout rate before the last convolution of each block (Zagoruyko & Komodakis 2016, section 2.4);
        may be traced.
      remat: recompute each scanned block in the backward pass instead of keeping its activations.
      axis_name: name of the pmap axis over which BatchNorm averages in training; None elsewhere.
      dtype: data type of the computation. Logits are float32.
      param_dtype: data type of the parameters.
    """

    num_classes: int = 1000
    block: type[Block] = BasicBlock
    stage_sizes: Sequence[int] = (2, 2, 2, 2)
    width: int = 64
    stem_width: int | None = None
    imagenet_stem: bool = True
    deep_stem: bool = False
    shortcut: str = "project"
    zero_init_residual: bool = False
    drop_path: float | jax.Array = 0.0
    dropout: float | jax.Array = 0.0
    block_dropout: float | jax.Array = 0.0
    remat: bool = False
    axis_name: str | None = None
    dtype: DTypeLike = jnp.float32
    param_dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool = False) -> jax.Array:
        """Images [batch, height, width, channel] -> logits [batch, num_classes], float32.

        Draws from the stream "dropout" where a rate is not 0.

        Raises: InputError if x is not of rank 4, a size is not positive, the stem or shortcut does not
          exist, or drop_path is outside [0, 1].
        """
        check_positive(self, "num_classes", "stage_sizes", "width")
        check_images(self, x)
        if self.deep_stem and not self.imagenet_stem:
            raise InputError("deep_stem is a kind of imagenet_stem, which is off.")
        if self.shortcut not in ("pad", *PROJECTIONS):
            raise InputError(f"There is no shortcut {self.shortcut!r}. Valid are: pad, {', '.join(PROJECTIONS)}.")
        return self.classify(self.pyramid(x, train)[-1], train)

    def pyramid(self, x: jax.Array, train: bool) -> list[jax.Array]:
        """The grid after each stage, to be called where modules can be made; the last one through `end`."""
        rates = block_rates(self.drop_path, sum(self.stage_sizes))
        x, grids = self.stem(x.astype(self.dtype), train), []
        first = 0
        for stage, blocks in enumerate(self.stage_sizes):
            x = self._stage(x, stage, blocks, None if rates is None else rates[first : first + blocks], train)
            grids.append(x)
            first += blocks
        return [*grids[:-1], self.end(x, train)]

    def classify(self, x: jax.Array, train: bool) -> jax.Array:
        """The head: the last grid [batch, height, width, channel] -> logits [batch, num_classes], float32."""
        x = Dropout(self.dropout)(x.mean((1, 2)), train)
        x = nn.Dense(self.num_classes, **precision(self), name="fc")(x)
        return x.astype(jnp.float32)

    def stem(self, x: jax.Array, train: bool) -> jax.Array:
        x = nn.relu(batch_norm(self, train, name="bn1")(self.stem_conv(x, train)))
        return nn.max_pool(x, (3, 3), (2, 2), PADDED_BY_ONE) if self.imagenet_stem else x

    def stem_conv(self, x: jax.Array, train: bool) -> jax.Array:
        """One convolution, or three of which all but the last are normalized here."""
        conv = partial(Conv, **precision(self))
        width = self.stem_width or self.width
        if not self.deep_stem:
            size, stride = (7, 2) if self.imagenet_stem else (3, 1)
            return conv(width, size, stride, name="conv1")(x)
        for i, stride in ((1, 2), (2, 1)):
            x = conv(width // 2, 3, stride, name=f"stem_conv{i}")(x)
            x = nn.relu(batch_norm(self, train, name=f"stem_bn{i}")(x))
        return conv(width, 3, name="stem_conv3")(x)

    def end(self, x: jax.Array, train: bool) -> jax.Array:
        """Runs after the last stage: here nothing."""
        del train
        return x

    def steps(self, stage: int) -> tuple[int, int, int]:
        """(stride of a stage's first block, dilation of that block, dilation of the others)"""
        return (1 if stage == 0 else 2), 1, 1

    def _stage(self, x: jax.Array, stage: int, blocks: int, rates: jax.Array | None, train: bool) -> jax.Array:
        features = self.width * 2**stage
        stride, dilation, later_dilation = self.steps(stage)
        block = partial(
            self.block,
            features,
            zero_init_residual=self.zero_init_residual,
            dropout=self.block_dropout,
            axis_name=self.axis_name,
            **precision(self),
        )
        same_shape = stride == 1 and x.shape[-1] == features * self.block.expansion
        shortcut = "none" if same_shape else self.shortcut
        first = block(stride=stride, dilation=dilation, shortcut=shortcut, name=f"layer{stage + 1}_first")
        x = first(x, train, None if rates is None else rates[0])
        if blocks == 1:
            return x

        def body(module, x, rate):
            return module(x, train, rate), None

        body = nn.remat(body, prevent_cse=False) if self.remat else body
        rest = nn.scan(
            body,
            variable_axes={"params": 0, "batch_stats": 0},
            split_rngs={"params": True, "dropout": True},
            length=blocks - 1,
        )
        later = block(dilation=later_dilation, name=f"layer{stage + 1}_rest")
        return rest(later, x, None if rates is None else rates[1:])[0]


class PreActResNet(ResNet):
    """A `ResNet` of pre-activation blocks: the stem ends at its convolution, and the last stage in BatchNorm and ReLU.

    Attributes:
      block: class of the blocks: `PreActBasicBlock` or `PreActBottleneckBlock`.
    """

    block: type[Block] = PreActBasicBlock

    def stem(self, x: jax.Array, train: bool) -> jax.Array:
        x = self.stem_conv(x, train)
        return nn.max_pool(x, (3, 3), (2, 2), PADDED_BY_ONE) if self.imagenet_stem else x

    def end(self, x: jax.Array, train: bool) -> jax.Array:
        return nn.relu(batch_norm(self, train, name="norm")(x))


def block_rates(drop_path: float | jax.Array, blocks: int) -> jax.Array | None:
    """The rates of stochastic depth, which grow linearly with depth (Huang et al. 2016, equation 4).

    Args:
      drop_path: rate of the last block; may be traced.
      blocks: L, number of blocks. (timm begins at 0 instead of at drop_path/L.)
    Returns: rates [blocks], or None if `drop_path` is the number 0.
    Raises: InputError for a number outside [0, 1].
    """
    if isinstance(drop_path, int | float):
        if not 0 <= drop_path <= 1:
            raise InputError(f"drop_path is {drop_path}; it must be in [0, 1].")
        if drop_path == 0:
            return None
    return drop_path * jnp.arange(1, blocks + 1) / blocks


def cifar(depth: int, *, block: type[Block] = BasicBlock, **fields: Any) -> ResNet:
    """The CIFAR family (section 4.2): three stages of n blocks with 16, 32, 64 channels, depth 6n + 2.

    Args:
      depth: number of layers with weights: 8, 14, 20, …
      block: `BasicBlock`, or `PlainBlock` for the plain twin.
      fields: other fields of `ResNet`; by default 10 classes and option A.
    Raises: InputError if depth is not 6n + 2 with n ≥ 1.
    """
    return ResNet(block=block, **(_cifar_fields(depth) | fields))


def preact_cifar(depth: int, **fields: Any) -> PreActResNet:
    """The CIFAR family with pre-activation blocks; arguments and errors are those of `cifar`."""
    return PreActResNet(**(_cifar_fields(depth) | fields))


def _cifar_fields(depth: int) -> dict[str, Any]:
    if depth < 8 or depth % 6 != 2:
        raise InputError(f"depth is {depth}; the CIFAR family has depths 6n + 2: 8, 14, 20, 26, 32, …")
    n = (depth - 2) // 6
    return {"stage_sizes": (n, n, n), "num_classes": 10, "width": 16, "imagenet_stem": False, "shortcut": "pad"}


def wide(depth: int, factor: int, **fields: Any) -> PreActResNet:
    """WRN-depth-factor (Zagoruyko and Komodakis 2016, table 1): pre-activation, stages from 16·factor channels on.

    WRN-28-10 has 36.5 M parameters at 10 classes. The paper counts the projection as a layer: depth 6n + 4.

    Args:
      depth: number of layers with weights: 10, 16, 22, 28, 34, 40, …
      factor: width, as a multiple of the CIFAR family's.
      fields: other fields of `ResNet`; by default 10 classes and projections. The paper's dropout is `block_dropout`.
    Raises: InputError if depth is not 6n + 4 with n ≥ 1, or factor < 1.
    """
    if depth < 10 or depth % 6 != 4 or factor < 1:
        raise InputError(
            f"depth is {depth} and factor {factor}; wide networks have depths 6n + 4: 10, 16, 22, 28, … and factors "
            "of at least 1."
        )
    n = (depth - 4) // 6
    defaults: dict[str, Any] = {
        "num_classes": 10,
        "stage_sizes": (n, n, n),
        "width": 16 * factor,
        "stem_width": 16,
        "imagenet_stem": False,
    }
    return PreActResNet(**(defaults | fields))


# Table 1 of the paper.
IMAGENET = {
    18: (BasicBlock, (2, 2, 2, 2)),
    34: (BasicBlock, (3, 4, 6, 3)),
    50: (BottleneckBlock, (3, 4, 6, 3)),
    101: (BottleneckBlock, (3, 4, 23, 3)),
    152: (BottleneckBlock, (3, 8, 36, 3)),
}
PRE_ACTIVATION = {BasicBlock: PreActBasicBlock, BottleneckBlock: PreActBottleneckBlock}


def imagenet(depth: int, **fields: Any) -> ResNet:
    """The ImageNet family of table 1, with torchvision's strides.

    Args:
      depth: 18, 34, 50, 101 or 152.
      fields: other fields of `ResNet`; by default 1000 classes.
    Raises: InputError for another depth.
    """
    block, stage_sizes = _imagenet_stages(depth)
    return ResNet(block=block, stage_sizes=stage_sizes, **fields)


def preact_imagenet(depth: int, **fields: Any) -> PreActResNet:
    """The ImageNet family with pre-activation blocks, timm's `resnetv2_<depth>`.

    Arguments and errors are those of `imagenet`.
    """
    block, stage_sizes = _imagenet_stages(depth)
    return PreActResNet(block=PRE_ACTIVATION[block], stage_sizes=stage_sizes, **fields)


def _imagenet_stages(depth: int) -> tuple[type[Block], tuple[int, ...]]:
    if depth not in IMAGENET:
        raise InputError(f"depth is {depth}; the ImageNet family has depths {', '.join(map(str, IMAGENET))}.")
    return IMAGENET[depth]


# ResNet-D of He, T. et al. 2019, which is timm's `resnet<depth>d`.
RESNET_D: dict[str, Any] = {"deep_stem": True, "shortcut": "pool_project"}
