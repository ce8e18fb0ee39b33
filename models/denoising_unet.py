"""The U-Net of diffusion models (Ho, Jain, Abbeel: "Denoising Diffusion Probabilistic Models", NeurIPS 2020, app. B).

Residual blocks on ever coarser grids, and back up again; every result on the way down is handed over to the block on
the way up that works on the same grid. The time (and the class) reaches each block as a vector. Options are those of
Nichol & Dhariwal 2021 ("Improved Denoising Diffusion Probabilistic Models"): several heads, and a conditioning that
scales too.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from .attention import GLOROT, attention
from .layers import Conv, Dropout, check_positive
from .resampling import upscale_nearest
from .time_embedding import Conditioning, sines_first
from .torch_names import torch_entry

# The authors' `default_init`; what ends a branch begins at 0.
INIT = nn.initializers.variance_scaling(1.0, "fan_avg", "uniform")
ZEROS = nn.initializers.zeros


class DenoisingUNet(nn.Module):
    """A noisy image and its time -> what the loss asks for: noise, image or velocity. The defaults are for CIFAR-10.

    width: channels of the finest grid; even, at least 4.
    multipliers: of the width, for each level, at least 1; every level has half the grid of the one before.
    blocks: residual blocks of each level on the way down, at least 1; there is one more on the way up.
    attention_levels: levels (from 0, the finest) with attention after each block; the middle always has it. The
      published network has it at level 1, 16×16 of 32×32 pixels.
    num_heads: of the attention; they divide the channels of every level that has some, and of the last.
    groups: of GroupNorm, at most; never are they narrower than the 4 channels that the published network has. (Groups
      of a single channel would take away the mean by which the time makes itself known.)
    scale_shift: the time scales and shifts what was normalised; else it is added before.
    num_classes: None without classes; else there is one more embedding, of number num_classes, for "no class".
    out_channels: those of the image by default; twice as many for a learned variance.
    dropout: before the last convolution of each block; may be traced.
    dtype: of the computation; param_dtype: of the parameters. Normalisation, softmax and answers are float32 at least.
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
    dropout: Any = 0.1
    dtype: Any = jnp.float32
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self, x: jax.Array, time: jax.typing.ArrayLike, labels: jax.Array | None = None, *, train: bool = False
    ) -> jax.Array:
        """[batch, height, width, channel] -> [batch, height, width, out_channels].

        Args:
          x: noisy images, centred at 0.
          time: [batch], or one number for all, in [0, 1]: step i of 1000 is i / 1000.
          labels: [batch] integers in [0, num_classes]; None for no class.
          train: drops entries, from the stream "dropout".
        Raises: ValueError if x is not of rank 4, cannot be halved as often as there are levels, time or labels do not
          fit it, or a field is not valid.
        """
        self._check(x)
        dtypes: Any = {"dtype": self.dtype, "param_dtype": self.param_dtype}
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
            raise ValueError(f"width is {self.width}; it must be even and at least 4.")
        if x.ndim != 4:
            raise ValueError(f"Images must be [batch, height, width, channel]; they were given as {x.shape}.")
        levels = len(self.multipliers)
        if levels < 1:
            raise ValueError("multipliers is empty; there must be a level at least.")
        factor = 2 ** (levels - 1)
        if x.shape[1] % factor or x.shape[2] % factor:
            raise ValueError(
                f"Images of {x.shape[1]}×{x.shape[2]} pixels can't be halved {levels - 1} times: with {levels} levels "
                f"height and width must be multiples of {factor}."
            )
        if not set(self.attention_levels) <= set(range(levels)):
            raise ValueError(
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
        dtypes: Any = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        block = ResidualBlock(
            features, self.groups, self.scale_shift, self.dropout, **dtypes, name=f"{place}_block{number}"
        )  # fmt: skip
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
        dtype=module.dtype,
        param_dtype=module.param_dtype,
        kernel_init=init,
        name=name,
    )


class ResidualBlock(nn.Module):
    """Two convolutions, each after GroupNorm and SiLU; between them the condition comes in.

    features: channels of the answer.
    groups, scale_shift, dropout, dtype, param_dtype: as of `DenoisingUNet`.
    """

    features: int
    groups: int = 32
    scale_shift: bool = False
    dropout: Any = 0.0
    dtype: Any = jnp.float32
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, condition: jax.Array, train: bool) -> jax.Array:
        """[batch, height, width, channel] -> [batch, height, width, features]; condition [batch or 1, any width]."""
        dtypes: Any = {"dtype": self.dtype, "param_dtype": self.param_dtype}
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
    """x + what each pixel finds among all pixels. The projections are 1×1 convolutions, so dense layers.

    num_heads, groups, dtype, param_dtype: as of `DenoisingUNet`.
    """

    num_heads: int = 1
    groups: int = 32
    dtype: Any = jnp.float32
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[batch, height, width, channel] -> the same.

        Raises: ValueError if the channels are not a multiple of num_heads.
        """
        batch, height, width, channels = x.shape
        if channels % self.num_heads:
            raise ValueError(f"num_heads is {self.num_heads}; it must divide the {channels} channels.")
        dtypes: Any = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        y = GroupNorm(self.groups, **dtypes, name="norm")(x).reshape(batch, height * width, channels)
        y = nn.Dense(3 * channels, kernel_init=GLOROT, **dtypes, name="qkv")(y)
        heads = (batch, height * width, self.num_heads, channels // self.num_heads)
        y = attention(*(part.reshape(heads) for part in jnp.split(y, 3, axis=-1)))
        y = nn.Dense(channels, kernel_init=ZEROS, **dtypes, name="proj")(y.reshape(batch, height * width, channels))
        return x + y.reshape(x.shape)


FEWEST_CHANNELS = 4  # of a group: 128 channels in 32 groups


def num_groups(channels: int, most: int) -> int:
    """Into how many equal groups channels are cut: as many as possible, up to `most`, of at least 4 channels each."""
    if most < 1:
        raise ValueError(f"groups is {most}; it must be at least 1.")
    return next(n for n in range(max(1, min(most, channels // FEWEST_CHANNELS)), 0, -1) if channels % n == 0)


class GroupNorm(nn.Module):
    """Each group of channels of an example gets mean 0 and variance 1, then each channel its scale and shift.

    (Wu & He 2018.) Only its input is kept for the backward pass: to compute the rest again costs less than to write it
    to memory and read it, and an activation comes at no cost.

    groups: at most; see `num_groups`.
    activation: of what was normalised, scaled and shifted; by default none.
    dtype: of the answer; param_dtype: of the parameters. The computation is float32 at least.
    """

    groups: int = 32
    activation: Callable[[jax.Array], jax.Array] | None = None
    dtype: Any = jnp.float32
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, scale: jax.Array | None = None, shift: jax.Array | None = None) -> jax.Array:
        """[batch, height, width, channel] -> the same.

        Args:
          x: [batch, height, width, channel].
          scale, shift: [batch or 1, channel], to do · (1 + scale) + shift before the activation; or neither.
        """
        channels = x.shape[-1]
        own_scale = self.param("scale", nn.initializers.ones, (channels,), self.param_dtype)
        own_shift = self.param("bias", nn.initializers.zeros, (channels,), self.param_dtype)
        wide = jnp.promote_types(x.dtype, jnp.float32)
        factor, term = own_scale.astype(wide), own_shift.astype(wide)
        if scale is not None and shift is not None:
            scale, shift = 1 + scale.astype(wide), shift.astype(wide)
            factor, term = factor * scale, term * scale + shift
        groups = num_groups(channels, self.groups)

        @jax.checkpoint
        def normalised(x, factor, term):
            y = group_norm(x.astype(wide), factor[..., None, None, :], term[..., None, None, :], groups)
            return (y if self.activation is None else self.activation(y)).astype(self.dtype)

        return normalised(x, factor, term)


def group_norm(x: jax.Array, scale: jax.Array, shift: jax.Array, groups: int) -> jax.Array:
    """Each group of channels of an example gets mean 0 and variance 1 (but for ε = 1e-6), then · scale + shift.

    Both moments take a pass of their own: E[x²] − E[x]² loses digits where the mean is large.

    Args:
      x: [batch, height, width, channel].
      scale, shift: broadcast to x.
      groups: how many; they divide the channels.
    Returns: as `x`.
    """

    def mean(x):
        """[batch, 1, 1, channel]. First over the grid, where vector units can sum many channels at once."""
        means = x.mean((1, 2)).reshape(len(x), groups, -1)
        return jnp.broadcast_to(means.mean(-1, keepdims=True), means.shape).reshape(len(x), 1, 1, -1)

    x = x - mean(x)
    return x * (jax.lax.rsqrt(mean(x**2) + 1e-6) * scale) + shift


# diffusers' names (UNet2DModel) where they are not ours.
TORCH_NAMES = {
    "norm_out": "conv_norm_out",
    "linear1": "linear_1",
    "linear2": "linear_2",
    "condition": "time_emb_proj",
    "shortcut": "conv_shortcut",
    "norm": "group_norm",
    "proj": "to_out.0",
}
PARTS = {"block": "resnets", "attention": "attentions"}


def torch_entries(path: tuple[str, ...], array: np.ndarray) -> list[tuple[str, np.ndarray]]:
    """(name, array) of diffusers' UNet2DModel for one of our leaves: three for queries, keys and values.

    Args:
      path: (collection, module, …, leaf).
      array: of our layout.
    """
    collection, first, *inner, leaf = path
    if leaf == "classes":
        return [("class_embedding.weight", array)]
    names = [_place(first), *(TORCH_NAMES.get(module, module) for module in inner)]
    if names[-1] != "qkv":
        return [torch_entry(names, collection, leaf, array)]
    return [
        torch_entry([*names[:-1], f"to_{part}"], collection, leaf, values)
        for part, values in zip("qkv", np.split(array, 3, axis=-1), strict=True)
    ]


def _place(module: str) -> str:
    """Where one of the network's own modules is in diffusers' lists."""
    if module == "conditioning":
        return "time_embedding"
    if match := re.fullmatch(r"(down|up)(\d+)_sample", module):
        return f"{match[1]}_blocks.{match[2]}.{match[1]}samplers.0.conv"
    if match := re.fullmatch(r"(down|up)(\d+)_(block|attention)(\d+)", module):
        return f"{match[1]}_blocks.{match[2]}.{PARTS[match[3]]}.{match[4]}"
    if match := re.fullmatch(r"mid_(block|attention)(\d+)", module):
        return f"mid_block.{PARTS[match[1]]}.{match[2]}"
    return TORCH_NAMES.get(module, module)


# Files made before 2023, such as the published ones of DDPM, call the projections of attention otherwise.
OLD_NAMES = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}


def present_names(state_dict: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """A state dict of diffusers of any age under the names that `torch_entries` has."""

    def renamed(name: str) -> str:
        *modules, last, leaf = ["", "", *name.split(".")]
        return ".".join([*modules, OLD_NAMES.get(last, last), leaf]).lstrip(".")

    return {renamed(name): array for name, array in state_dict.items()}
