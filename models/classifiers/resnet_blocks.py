"""Blocks of residual networks: basic, bottleneck, pre-activation, and the plain block without a shortcut.

A network's field `block` picks one of these classes. `resnet` stacks them.
"""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from ...errors import InputError
from ..layers import HE_FAN_OUT, Conv, Dropout, batch_norm, precision


class Block(nn.Module):
    """The common part of all blocks.

    Attributes:
      features: width of the stage.
      stride: stride of the block's strided convolution.
      dilation: dilation of the block's 3×3 convolutions: in `BottleneckBlock`s alone, as in torchvision.
      shortcut: "none" for the identity (shapes must agree), "pad" for the parameter-free option A, "project" for the
        1×1 convolution of option B, "pool_project" for ResNet-D's average pooling before it.
      zero_init_residual: start the residual branch at 0.
      dropout: dropout rate before the block's last convolution; may be traced.
      axis_name: name of the pmap axis over which BatchNorm averages in training; None elsewhere.
      dtype: data type of the computation.
      param_dtype: data type of the parameters.
    """

    features: int
    stride: int = 1
    dilation: int = 1
    shortcut: str = "none"
    zero_init_residual: bool = False
    dropout: float | jax.Array = 0.0
    axis_name: str | None = None
    dtype: DTypeLike = jnp.float32
    param_dtype: DTypeLike = jnp.float32
    expansion = 1

    def conv(
        self, features: int, kernel_size: int, stride: int = 1, *, dilation: int = 1, name: str, init=HE_FAN_OUT
    ) -> Conv:
        return Conv(features, kernel_size, stride, dilation=dilation, **precision(self), kernel_init=init, name=name)

    def norm(self, train: bool, *, name: str, last: bool = False) -> nn.BatchNorm:
        scale_init = nn.initializers.zeros if last and self.zero_init_residual else nn.initializers.ones
        return batch_norm(self, train, name=name, scale_init=scale_init)

    def drop(self, x: jax.Array, train: bool) -> jax.Array:
        return Dropout(self.dropout)(x, train)

    def shortcut_of(self, x: jax.Array, train: bool) -> jax.Array:
        """The shortcut, which is added to the residual branch."""
        if self.shortcut in PROJECTIONS:
            conv, bn = PROJECTIONS[self.shortcut]
            return self.norm(train, name=bn)(self.projected(x, conv))
        return self.padded(x) if self.shortcut == "pad" else x

    def padded(self, x: jax.Array) -> jax.Array:
        """Every stride-th pixel, with zeros for the channels that x lacks."""
        x = x[:, :: self.stride, :: self.stride]
        missing = self.features * self.expansion - x.shape[-1]
        return jnp.pad(x, ((0, 0), (0, 0), (0, 0), (missing // 2, missing - missing // 2)))

    def projected(self, x: jax.Array, name: str) -> jax.Array:
        """The 1×1 convolution of a shortcut, strided or after average pooling."""
        features = self.features * self.expansion
        if self.shortcut == "project":
            return self.conv(features, 1, self.stride, name=name)(x)
        return self.conv(features, 1, name=name)(average_pool(x, self.stride))


# Shortcuts with parameters: names of their convolution and normalization.
PROJECTIONS = {"project": ("downsample_conv", "downsample_bn"), "pool_project": ("pooled_conv", "pooled_bn")}


def average_pool(x: jax.Array, side: int) -> jax.Array:
    """Averages squares of side × side pixels; at the end of a grid that they do not divide, the pixels that remain.

    Args:
      x: [batch, height, width, channel].
    Returns: [batch, ⌈height / side⌉, ⌈width / side⌉, channel].
    """
    rest: Any = tuple((0, -size % side) for size in x.shape[1:3])  # flax declares a string only
    return nn.avg_pool(x, (side, side), (side, side), rest, count_include_pad=False)


def drop_branch(branch: jax.Array, drop_path: jax.Array | None, train: bool) -> jax.Array:
    """Stochastic depth; None is off, and draws nothing."""
    return branch if drop_path is None else Dropout(drop_path, whole_examples=True)(branch, train)


class BasicBlock(Block):
    """Two 3×3 convolutions (figure 5, left)."""

    @nn.compact
    def __call__(self, x: jax.Array, train: bool, drop_path: jax.Array | None = None) -> jax.Array:
        y = self.conv(self.features, 3, self.stride, name="conv1")(x)
        y = nn.relu(self.norm(train, name="bn1")(y))
        y = self.conv(self.features, 3, name="conv2")(self.drop(y, train))
        y = self.norm(train, name="bn2", last=True)(y)
        return nn.relu(drop_branch(y, drop_path, train) + self.shortcut_of(x, train))


class PlainBlock(Block):
    """A basic block without its shortcut, of the same parameters as one with option A."""

    @nn.compact
    def __call__(self, x: jax.Array, train: bool, drop_path: jax.Array | None = None) -> jax.Array:
        """Raises: InputError for stochastic depth, which would leave nothing."""
        if drop_path is not None:
            raise InputError("A plain block has no shortcut, so drop_path must be 0.")
        y = self.conv(self.features, 3, self.stride, name="conv1")(x)
        y = nn.relu(self.norm(train, name="bn1")(y))
        y = self.conv(self.features, 3, name="conv2")(self.drop(y, train))
        return nn.relu(self.norm(train, name="bn2")(y))


class BottleneckBlock(Block):
    """1×1, 3×3, 1×1 convolutions (figure 5, right); the stride is in the 3×3, as in torchvision ("v1.5")."""

    expansion = 4

    @nn.compact
    def __call__(self, x: jax.Array, train: bool, drop_path: jax.Array | None = None) -> jax.Array:
        y = self.conv(self.features, 1, name="conv1")(x)
        y = nn.relu(self.norm(train, name="bn1")(y))
        y = self.conv(self.features, 3, self.stride, dilation=self.dilation, name="conv2")(y)
        y = nn.relu(self.norm(train, name="bn2")(y))
        y = self.conv(self.features * self.expansion, 1, name="conv3")(self.drop(y, train))
        y = self.norm(train, name="bn3", last=True)(y)
        return nn.relu(drop_branch(y, drop_path, train) + self.shortcut_of(x, train))


class PreActBlock(Block):
    """The common part of blocks with normalization and ReLU before their convolutions (He et al. 2016b, figure 4e).

    The shortcut is the identity except where shapes change. There it begins at the activation, without a
    normalization of its own, as in the authors' code.

    zero_init_residual: the last convolution begins at 0. (A scale of 0 would put ReLU where its derivative is 0.)
    """

    def last_conv(self, features: int, kernel_size: int, *, name: str) -> Conv:
        init = nn.initializers.zeros if self.zero_init_residual else HE_FAN_OUT
        return self.conv(features, kernel_size, name=name, init=init)

    def preact_shortcut_of(self, x: jax.Array, activation: jax.Array) -> jax.Array:
        """The shortcut of x, whose normalized activation is `activation`."""
        if self.shortcut in PROJECTIONS:
            return self.projected(activation, PROJECTIONS[self.shortcut][0])
        return self.padded(activation) if self.shortcut == "pad" else x


class PreActBasicBlock(PreActBlock):
    """Two 3×3 convolutions."""

    @nn.compact
    def __call__(self, x: jax.Array, train: bool, drop_path: jax.Array | None = None) -> jax.Array:
        activation = nn.relu(self.norm(train, name="norm1")(x))
        y = self.conv(self.features, 3, self.stride, name="conv1")(activation)
        y = nn.relu(self.norm(train, name="norm2")(y))
        y = self.last_conv(self.features, 3, name="conv2")(self.drop(y, train))
        return drop_branch(y, drop_path, train) + self.preact_shortcut_of(x, activation)


class PreActBottleneckBlock(PreActBlock):
    """1×1, 3×3, 1×1 convolutions; the stride is in the 3×3, as in timm."""

    expansion = 4

    @nn.compact
    def __call__(self, x: jax.Array, train: bool, drop_path: jax.Array | None = None) -> jax.Array:
        activation = nn.relu(self.norm(train, name="norm1")(x))
        y = self.conv(self.features, 1, name="conv1")(activation)
        y = nn.relu(self.norm(train, name="norm2")(y))
        y = self.conv(self.features, 3, self.stride, name="conv2")(y)
        y = nn.relu(self.norm(train, name="norm3")(y))
        y = self.last_conv(self.features * self.expansion, 1, name="conv3")(self.drop(y, train))
        return drop_branch(y, drop_path, train) + self.preact_shortcut_of(x, activation)
