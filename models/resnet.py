"""Residual networks (He, Zhang, Ren, Sun: "Deep Residual Learning for Image Recognition", CVPR 2016) and plain twins.

A network is a stem, stages of blocks and a linear head. Within a stage all blocks but the first are equal, so
they run under `nn.scan`: their parameters are stacked on a leading axis, and the compiler sees one block however
deep the network is. A block is a module class, and the network's field `block` says which one.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from .layers import Conv, batch_norm


class Block(nn.Module):
    """What blocks have in common: `features` is the width of the stage.

    stride: of the block's strided convolution.
    shortcut: "none" for the identity (shapes must agree), "pad" for the parameter-free option A, "project" for
      the 1×1 convolution of option B.
    zero_init_residual: the scale of the last BatchNorm begins at 0, so that the residual branch does.
    """

    features: int
    stride: int = 1
    shortcut: str = "none"
    zero_init_residual: bool = False
    axis_name: str | None = None
    dtype: Any = jnp.float32
    param_dtype: Any = jnp.float32
    expansion = 1

    def conv(self, features: int, kernel_size: int, stride: int = 1, *, name: str) -> Conv:
        return Conv(features, kernel_size, stride, dtype=self.dtype, param_dtype=self.param_dtype, name=name)

    def norm(self, train: bool, *, name: str, last: bool = False) -> nn.BatchNorm:
        scale_init = nn.initializers.zeros if last and self.zero_init_residual else nn.initializers.ones
        return batch_norm(self, train, name=name, scale_init=scale_init)

    def around(self, x: jax.Array, train: bool) -> jax.Array:
        """The shortcut: what is added to the residual branch."""
        features = self.features * self.expansion
        if self.shortcut == "pad":
            # Every stride-th pixel, and zeros for the channels that x does not have.
            x = x[:, :: self.stride, :: self.stride]
            missing = features - x.shape[-1]
            return jnp.pad(x, ((0, 0), (0, 0), (0, 0), (missing // 2, missing - missing // 2)))
        if self.shortcut == "project":
            x = self.conv(features, 1, self.stride, name="downsample_conv")(x)
            return self.norm(train, name="downsample_bn")(x)
        return x


class BasicBlock(Block):
    """Two 3×3 convolutions (figure 5, left)."""

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        y = self.conv(self.features, 3, self.stride, name="conv1")(x)
        y = nn.relu(self.norm(train, name="bn1")(y))
        y = self.conv(self.features, 3, name="conv2")(y)
        y = self.norm(train, name="bn2", last=True)(y)
        return nn.relu(y + self.around(x, train))


class PlainBlock(Block):
    """A basic block without its shortcut, of the same parameters as one with option A."""

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        y = self.conv(self.features, 3, self.stride, name="conv1")(x)
        y = nn.relu(self.norm(train, name="bn1")(y))
        y = self.conv(self.features, 3, name="conv2")(y)
        return nn.relu(self.norm(train, name="bn2")(y))


class BottleneckBlock(Block):
    """1×1, 3×3, 1×1 convolutions (figure 5, right); the stride is in the 3×3, as in torchvision ("v1.5")."""

    expansion = 4

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        y = self.conv(self.features, 1, name="conv1")(x)
        y = nn.relu(self.norm(train, name="bn1")(y))
        y = self.conv(self.features, 3, self.stride, name="conv2")(y)
        y = nn.relu(self.norm(train, name="bn2")(y))
        y = self.conv(self.features * self.expansion, 1, name="conv3")(y)
        y = self.norm(train, name="bn3", last=True)(y)
        return nn.relu(y + self.around(x, train))


PADDED_BY_ONE: Any = ((1, 1), (1, 1))  # flax declares a string only


class ResNet(nn.Module):
    """Stem, stages, global average pooling, linear head.

    num_classes: width of the logits.
    block: `BasicBlock`, `PlainBlock` or `BottleneckBlock`.
    stage_sizes: blocks of each stage.
    width: channels of the first stage; each further stage has twice as many on half the grid.
    imagenet_stem: 7×7/2 convolution and 3×3/2 max pooling; else one 3×3 convolution.
    shortcut: where shapes differ: "project" (option B) or "pad" (option A).
    zero_init_residual: the last BatchNorm scale of each block begins at 0.
    remat: recompute each scanned block in the backward pass instead of keeping its activations.
    axis_name: the pmap axis over which BatchNorm averages; None elsewhere.
    dtype: of the computation; param_dtype: of the parameters. Logits are float32.
    """

    num_classes: int = 1000
    block: type[Block] = BasicBlock
    stage_sizes: Sequence[int] = (2, 2, 2, 2)
    width: int = 64
    imagenet_stem: bool = True
    shortcut: str = "project"
    zero_init_residual: bool = False
    remat: bool = False
    axis_name: str | None = None
    dtype: Any = jnp.float32
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool = False) -> jax.Array:
        """Images [batch, height, width, channel] -> logits [batch, num_classes], float32.

        Raises: ValueError if x is not of rank 4.
        """
        if x.ndim != 4:
            raise ValueError(f"ResNet wants images [batch, height, width, channel]; it was given shape {x.shape}.")
        x = self._stem(x.astype(self.dtype), train)
        for stage, blocks in enumerate(self.stage_sizes):
            x = self._stage(x, stage, blocks, train)
        x = x.mean((1, 2))
        x = nn.Dense(self.num_classes, dtype=self.dtype, param_dtype=self.param_dtype, name="fc")(x)
        return x.astype(jnp.float32)

    def _stem(self, x: jax.Array, train: bool) -> jax.Array:
        size, stride = (7, 2) if self.imagenet_stem else (3, 1)
        conv = Conv(self.width, size, stride, dtype=self.dtype, param_dtype=self.param_dtype, name="conv1")
        x = nn.relu(batch_norm(self, train, name="bn1")(conv(x)))
        return nn.max_pool(x, (3, 3), (2, 2), PADDED_BY_ONE) if self.imagenet_stem else x

    def _stage(self, x: jax.Array, stage: int, blocks: int, train: bool) -> jax.Array:
        features = self.width * 2**stage
        stride = 1 if stage == 0 else 2
        block = partial(
            self.block,
            features,
            zero_init_residual=self.zero_init_residual,
            axis_name=self.axis_name,
            dtype=self.dtype,
            param_dtype=self.param_dtype,
        )
        same_shape = stride == 1 and x.shape[-1] == features * self.block.expansion
        shortcut = "none" if same_shape else self.shortcut
        x = block(stride=stride, shortcut=shortcut, name=f"layer{stage + 1}_first")(x, train)
        if blocks == 1:
            return x

        def body(module, x, _):
            return module(x, train), None

        body = nn.remat(body, prevent_cse=False) if self.remat else body
        rest = nn.scan(
            body,
            variable_axes={"params": 0, "batch_stats": 0},
            split_rngs={"params": True},
            length=blocks - 1,
        )
        return rest(block(name=f"layer{stage + 1}_rest"), x, None)[0]


def cifar(depth: int, *, block: type[Block] = BasicBlock, **fields: Any) -> ResNet:
    """The CIFAR family (section 4.2): three stages of n blocks with 16, 32, 64 channels, depth 6n + 2.

    Args:
      depth: 8, 14, 20, …: layers with weights.
      block: `BasicBlock`, or `PlainBlock` for the plain twin.
      fields: of `ResNet`; 10 classes and option A unless said otherwise.
    Raises: ValueError if depth is not 6n + 2 with n ≥ 1.
    """
    if depth < 8 or depth % 6 != 2:
        raise ValueError(f"depth is {depth}; the CIFAR family has depths 6n + 2: 8, 14, 20, 26, 32, …")
    n = (depth - 2) // 6
    defaults: dict[str, Any] = {"num_classes": 10, "width": 16, "imagenet_stem": False, "shortcut": "pad"}
    return ResNet(block=block, stage_sizes=(n, n, n), **(defaults | fields))


# Table 1 of the paper.
IMAGENET = {
    18: (BasicBlock, (2, 2, 2, 2)),
    34: (BasicBlock, (3, 4, 6, 3)),
    50: (BottleneckBlock, (3, 4, 6, 3)),
    101: (BottleneckBlock, (3, 4, 23, 3)),
    152: (BottleneckBlock, (3, 8, 36, 3)),
}


def imagenet(depth: int, **fields: Any) -> ResNet:
    """The ImageNet family of table 1, with torchvision's strides.

    Args:
      depth: 18, 34, 50, 101 or 152.
      fields: of `ResNet`; 1000 classes unless said otherwise.
    Raises: ValueError for another depth.
    """
    if depth not in IMAGENET:
        raise ValueError(f"depth is {depth}; the ImageNet family has depths {', '.join(map(str, IMAGENET))}.")
    block, stage_sizes = IMAGENET[depth]
    return ResNet(block=block, stage_sizes=stage_sizes, **fields)
