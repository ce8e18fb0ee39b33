"""The U-Net of diffusion models (Ho, Jain, Abbeel: "Denoising Diffusion Probabilistic Models", NeurIPS 2020, app. B).

Residual blocks on ever coarser grids, and back up again; every result on the way down is handed to the block on
the way up that works on the same grid. The time (and the class) reaches each block as a vector. Options are those of
Nichol & Dhariwal 2021 ("Improved Denoising Diffusion Probabilistic Models"): several heads, and a condition that
also scales.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import ArrayLike, DTypeLike

from ...errors import InputError
from ..layers import (
    GLOROT,
    Conditioning,
    Conv,
    Dropout,
    GroupNorm,
    attention,
    check_positive,
    precision,
    sines_first,
    upscale_nearest,
)

# The authors' `default_init`; what ends a branch begins at 0.
INIT = nn.initializers.variance_scaling(1.0, "fan_avg", "uniform")
ZEROS = nn.initializers.zeros


class DenoisingUNet(nn.Module):
    """A noisy image and its time -> the prediction: noise, image or velocity. The defaults are for CIFAR-10.

    Attributes:
      width: number of channels of the finest grid; even, at least 4.
      multipliers: multiple of the width for each level, at least 1; every level has half the grid of the one before.
      blocks: number of residual blocks of each level on the way down, at least 1; there is one more on the way up.
      attention_levels: levels (from 0, the finest) with attention after each block; the middle always has it. The
        published network has it at level 1, 16×16 of 32×32 pixels.
      num_heads: number of attention heads; it divides the channels of every level with attention, and of the last.
      groups: largest number of groups of GroupNorm; groups never have fewer than the 4 channels that the published
        network has. (Groups of a single channel would subtract the mean by which the time makes itself known.)
      scale_shift: the time scales and shifts what was normalized; otherwise it is added before.
      num_classes: number of classes; None without classes. There is one more embedding, of number num_classes, for "no
        class".
      out_channels: number of output channels; by default those of the image. Published networks with a learned
        variance have twice as many; the first half is the prediction, and `diffusion` has no use for the other.
      dropout: dropout rate before the last convolution of each block; may be traced.
      dtype: data type of the computation. Normalization, softmax and output are float32 at least.
      param_dtype: data type of the parameters.
    """

    width: int = 128
    multipliers: Sequence[int] = (1, 2, 2, 2)
    blocks: int = 2
    attention_levels: Sequence[int] = (1,)
    num_heads: int = 1
    groups: int = 32
    scale_shift: bool = False
    num_classes: int | None = None
    out_channels: int | None = None
    dropout: float | jax.Array = 0.1
    dtype: DTypeLike = jnp.float32
    param_dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self, x: jax.Array, time: ArrayLike, labels: jax.Array | None = None, *, train: bool = False
    ) -> jax.Array:
        """[batch, height, width, channel] -> [batch, height, width, out_channels].

        Args:
          x: noisy images, centered at 0.
          time: [batch], or one number for all, in [0, 1]: step i of 1000 is i / 1000.
          labels: [batch] integers in [0, num_classes]; None for no class.
          train: apply dropout, drawn from the stream "dropout".
        Raises: InputError if x is not of rank 4, cannot be halved as often as there are levels, time or labels do not
          fit it, or a field is not valid.
        """
        self._check(x)
        dtypes = precision(self)
        condition = Conditioning(
            4 * self.width,
            sines_first,
            self.width,
            self.num_classes,
            kernel_init=INIT,
            class_init=nn.initializers.normal(1.0),
            **dtypes,
            name="conditioning",
        )
        condition = nn.silu(condition(time, labels, len(x)))
        y = self._levels(conv3(self, self.width, "conv_in")(x), condition, train)
        y = GroupNorm(self.groups, nn.silu, **dtypes, name="norm_out")(y)
        y = conv3(self, self.out_channels or x.shape[-1], "conv_out", ZEROS)(y)
        return y.astype(jnp.promote_types(y.dtype, jnp.float32))

    def _check(self, x: jax.Array) -> None:
        check_positive(self, "blocks", "num_heads", "multipliers")
        if self.width % 2 or self.width < 4:
            raise InputError(f"width is {self.width}; it must be even and at least 4.")
        if x.ndim != 4:
            raise InputError(f"Images must be [batch, height, width, channel]; they were given as {x.shape}.")
        levels = len(self.multipliers)
        if levels < 1:
            raise InputError("multipliers is empty; there must be a level at least.")
        factor = 2 ** (levels - 1)
        if x.shape[1] % factor or x.shape[2] % factor:
            raise InputError(
                f"Images of {x.shape[1]}×{x.shape[2]} pixels cannot be halved {levels - 1} times: with {levels} levels "
                f"height and width must be multiples of {factor}."
            )
        if not set(self.attention_levels) <= set(range(levels)):
            raise InputError(
                f"attention_levels is {tuple(self.attention_levels)}; the levels are 0 to {levels - 1}, or none: ()."
            )

    def _levels(self, x: jax.Array, condition: jax.Array, train: bool) -> jax.Array:
        """[batch, height, width, width] -> the same: all the way down and up."""
        widths = [self.width * multiplier for multiplier in self.multipliers]
        last = len(widths) - 1
        skips = [x]
        for level, features in enumerate(widths):
            attends = level in self.attention_levels
            for i in range(self.blocks):
                x = self._block(x, condition, features, attends, f"down{level}", i, train)
                skips.append(x)
            if level < last:
                # Zeros at the right and at the bottom only, as TensorFlow pads, and so the authors' code.
                x = jnp.pad(x, ((0, 0), (0, 1), (0, 1), (0, 0)))
                x = conv3(self, features, f"down{level}_sample", stride=2, padding=0)(x)
                skips.append(x)
        x = self._block(x, condition, widths[-1], True, "mid", 0, train)
        x = self._block(x, condition, widths[-1], False, "mid", 1, train)
        for up, level in enumerate(range(last, -1, -1)):
            attends = level in self.attention_levels
            for i in range(self.blocks + 1):
                x = jnp.concatenate([x, skips.pop()], axis=-1)
                x = self._block(x, condition, widths[level], attends, f"up{up}", i, train)
            if level > 0:
                x = conv3(self, widths[level], f"up{up}_sample")(upscale_nearest(x, 2))
        return x

    def _block(
        self, x: jax.Array, condition: jax.Array, features: int, attends: bool, place: str, number: int, train: bool
    ) -> jax.Array:
        """A residual block, and attention after it."""
        dtypes = precision(self)
        block = ResidualBlock(
            features, self.groups, self.scale_shift, self.dropout, **dtypes, name=f"{place}_block{number}"
        )
        x = block(x, condition, train)
        if not attends:
            return x
        return SelfAttention(self.num_heads, self.groups, **dtypes, name=f"{place}_attention{number}")(x)


def conv3(module: Any, features: int, name: str, init=INIT, *, stride: int = 1, padding: int = 1) -> Conv:
    """A 3×3 convolution with a bias, of a module's types."""
    return Conv(
        features,
        3,
        stride,
        padding,
        use_bias=True,
        **precision(module),
        kernel_init=init,
        name=name,
    )


class ResidualBlock(nn.Module):
    """Two convolutions, each after GroupNorm and SiLU; between them the condition comes in.

    Attributes:
      features: number of output channels.
      groups: same as in `DenoisingUNet`.
      scale_shift: same as in `DenoisingUNet`.
      dropout: dropout rate before the last convolution; may be traced.
      dtype: data type of the computation.
      param_dtype: data type of the parameters.
    """

    features: int
    groups: int = 32
    scale_shift: bool = False
    dropout: float | jax.Array = 0.0
    dtype: DTypeLike = jnp.float32
    param_dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, condition: jax.Array, train: bool) -> jax.Array:
        """[batch, height, width, channel] -> [batch, height, width, features]; condition [batch or 1, any width]."""
        dtypes = precision(self)
        y = GroupNorm(self.groups, nn.silu, **dtypes, name="norm1")(x)
        y = conv3(self, self.features, "conv1")(y)
        told = self.features * (2 if self.scale_shift else 1)
        moved = nn.Dense(told, kernel_init=INIT, **dtypes, name="condition")(condition)
        norm = GroupNorm(self.groups, nn.silu, **dtypes, name="norm2")
        if self.scale_shift:
            scale, shift = jnp.split(moved, 2, axis=-1)
            y = norm(y, scale, shift)
        else:
            y = norm(y + moved[:, None, None])
        y = Dropout(self.dropout)(y, train)
        y = conv3(self, self.features, "conv2", ZEROS)(y)
        if x.shape[-1] != self.features:
            x = Conv(self.features, 1, use_bias=True, kernel_init=INIT, **dtypes, name="shortcut")(x)
        return x + y


class SelfAttention(nn.Module):
    """x + attention of each pixel to all pixels. The projections are dense layers, that is 1×1 convolutions.

    Attributes:
      num_heads: number of attention heads.
      groups: same as in `DenoisingUNet`.
      dtype: data type of the computation.
      param_dtype: data type of the parameters.
    """

    num_heads: int = 1
    groups: int = 32
    dtype: DTypeLike = jnp.float32
    param_dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[batch, height, width, channel] -> the same.

        Raises: InputError if the channels are not a multiple of num_heads.
        """
        batch, height, width, channels = x.shape
        if channels % self.num_heads:
            raise InputError(f"num_heads is {self.num_heads}; it must divide the {channels} channels.")
        dtypes = precision(self)
        y = GroupNorm(self.groups, **dtypes, name="norm")(x).reshape(batch, height * width, channels)
        y = nn.Dense(3 * channels, kernel_init=GLOROT, **dtypes, name="qkv")(y)
        heads = (batch, height * width, self.num_heads, channels // self.num_heads)
        y = attention(*(part.reshape(heads) for part in jnp.split(y, 3, axis=-1)))
        y = nn.Dense(channels, kernel_init=ZEROS, **dtypes, name="proj")(y.reshape(batch, height * width, channels))
        return x + y.reshape(x.shape)
