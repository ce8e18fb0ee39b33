"""Diffusion transformers (Peebles & Xie: "Scalable Diffusion Models with Transformers", ICCV 2023).

A noisy image is cut into square patches, each a token with a fixed position, and the tokens of the last block are
assembled to an image again. Time and class set scale, shift and gate of every branch of every block
("adaLN-Zero"): all gates begin at 0, so every block begins as the identity. Blocks run under `nn.scan`, as in `vit`.
"""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import ArrayLike, DTypeLike

from ...errors import InputError
from ..layers import (
    Conditioning,
    Dropout,
    MultiHeadAttention,
    check_positive,
    cosines_first,
    gelu_tanh,
    is_expensive,
    precision,
    sincos2d,
)

XAVIER = nn.initializers.xavier_uniform()
ZEROS = nn.initializers.zeros
FREQUENCIES = 256  # numbers that the time's sinusoids are, whatever the width


class DiT(nn.Module):
    """A noisy image and its time -> the prediction: noise, image or velocity. The defaults are DiT-XL/2's.

    Attributes:
      patch_size: height and width of a patch, in pixels; images must consist of whole patches.
      width: width of the tokens, a multiple of 4 and of num_heads.
      depth: number of blocks.
      num_heads: number of attention heads.
      mlp_ratio: hidden width of the MLPs, as a multiple of the width.
      num_classes: number of classes; None without classes. There is one more embedding, of number num_classes, for "no
        class".
      out_channels: number of output channels; by default those of the image. Published networks with a learned
        variance have twice as many; the first half is the prediction, and `diffusion` has no use for the other.
      dropout: dropout rate at the end of each branch; may be traced. The published networks have none.
      remat: keep nothing of a block but its input for the backward pass; otherwise keep what `is_expensive`.
      dtype: data type of the computation. Normalization, softmax and output are float32 at least.
      param_dtype: data type of the parameters.
    """

    patch_size: int = 2
    width: int = 1152
    depth: int = 28
    num_heads: int = 16
    mlp_ratio: float = 4.0
    num_classes: int | None = None
    out_channels: int | None = None
    dropout: float | jax.Array = 0.0
    remat: bool = False
    dtype: DTypeLike = jnp.float32
    param_dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self, x: jax.Array, time: ArrayLike, labels: jax.Array | None = None, *, train: bool = False
    ) -> jax.Array:
        """[batch, height, width, channel] -> [batch, height, width, out_channels].

        Args:
          x: noisy images or latents, centered at 0.
          time: [batch], or one number for all, in [0, 1]: step i of 1000 is i / 1000.
          labels: [batch] integers in [0, num_classes]; None for no class.
          train: apply dropout, drawn from the stream "dropout".
        Raises: InputError if x is not of rank 4, patches do not divide it, time or labels do not fit it, or a field is
          not valid.
        """
        check_positive(self, "patch_size", "width", "depth", "num_heads")
        dtypes = precision(self)
        condition = Conditioning(
            self.width, cosines_first, FREQUENCIES, self.num_classes, **dtypes, name="conditioning"
        )
        condition = nn.silu(condition(time, labels, len(x)))
        patches = patchify(x.astype(self.dtype), self.patch_size)
        grid = x.shape[1] // self.patch_size, x.shape[2] // self.patch_size
        tokens = self._embed(patches, x.shape[-1]) + sincos2d(grid, self.width).astype(self.dtype)
        tokens = self._blocks(tokens, condition, train)
        shift, scale = _modulation(self, condition, 2, "final_modulation")
        channels = self.out_channels or x.shape[-1]
        head = nn.Dense(self.patch_size**2 * channels, kernel_init=ZEROS, **dtypes, name="final_linear")
        y = head(modulated(tokens, shift, scale))
        return unpatchify(y.astype(jnp.promote_types(y.dtype, jnp.float32)), grid, self.patch_size)

    def _embed(self, patches: jax.Array, channels: int) -> jax.Array:
        """[batch, patch, numbers of a patch] -> [batch, patch, width]"""
        init = nn.initializers.xavier_uniform(in_axis=(0, 1, 2))
        shape = (self.patch_size, self.patch_size, channels, self.width)
        kernel = self.param("patch_kernel", init, shape, self.param_dtype)
        bias = self.param("patch_bias", ZEROS, (self.width,), self.param_dtype)
        return patches @ kernel.astype(self.dtype).reshape(-1, self.width) + bias.astype(self.dtype)

    def _blocks(self, x: jax.Array, condition: jax.Array, train: bool) -> jax.Array:
        """[batch, patch, width] -> the same"""
        block = Block(
            self.num_heads,
            self.mlp_ratio,
            self.dropout,
            **precision(self),
            name="blocks",
        )

        def body(block, x, condition):
            return block(x, condition, train), None

        body = nn.remat(body, prevent_cse=False, policy=None if self.remat else is_expensive)
        to_every_block: Any = nn.broadcast  # flax declares a number only
        run = nn.scan(
            body,
            variable_axes={"params": 0},
            split_rngs={"params": True, "dropout": True},
            in_axes=to_every_block,
            length=self.depth,
        )
        return run(block, x, condition)[0]


def patchify(x: jax.Array, size: int) -> jax.Array:
    """Cuts images into patches, row by row; a patch is its pixels, row by row too.

    Args:
      x: [batch, height, width, channel].
      size: height and width of a patch.
    Returns: [batch, patch, size · size · channel].
    Raises: InputError if x is not of rank 4 or not of whole patches.
    """
    if x.ndim != 4:
        raise InputError(f"Images must be [batch, height, width, channel]; they were given as {x.shape}.")
    batch, height, width, channels = x.shape
    if height % size or width % size:
        raise InputError(f"Images of {height}×{width} pixels cannot be cut into patches of {size}×{size}.")
    x = x.reshape(batch, height // size, size, width // size, size, channels).swapaxes(2, 3)
    return x.reshape(batch, -1, size * size * channels)


def unpatchify(patches: jax.Array, grid: tuple[int, int], size: int) -> jax.Array:
    """The way back from `patchify`, for a grid of (rows, columns) patches."""
    x = patches.reshape(len(patches), *grid, size, size, -1).swapaxes(2, 3)
    return x.reshape(len(patches), grid[0] * size, grid[1] * size, -1)


class Block(nn.Module):
    """Attention, then an MLP, each normalized and modulated before and gated after (figure 3, "adaLN-Zero").

    Attributes:
      num_heads: number of attention heads.
      mlp_ratio: hidden width of the MLP, as a multiple of the width.
      dropout: dropout rate at the end of each branch; may be traced.
      dtype: data type of the computation.
      param_dtype: data type of the parameters.
    """

    num_heads: int
    mlp_ratio: float = 4.0
    dropout: float | jax.Array = 0.0
    dtype: DTypeLike = jnp.float32
    param_dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, condition: jax.Array, train: bool) -> jax.Array:
        """[batch, length, width] -> the same; condition is [batch or 1, width]."""
        dtypes = precision(self)
        width = x.shape[-1]
        shift1, scale1, gate1, shift2, scale2, gate2 = _modulation(self, condition, 6, "modulation")
        attend = MultiHeadAttention(self.num_heads, kernel_init=XAVIER, **dtypes, name="attn")
        y = attend(modulated(x, shift1, scale1), train=train)
        x = x + gate1[:, None] * Dropout(self.dropout)(y, train)
        y = nn.Dense(int(self.mlp_ratio * width), kernel_init=XAVIER, **dtypes, name="fc1")(
            modulated(x, shift2, scale2)
        )
        y = nn.Dense(width, kernel_init=XAVIER, **dtypes, name="fc2")(gelu_tanh(y))
        return x + gate2[:, None] * Dropout(self.dropout)(y, train)


def _modulation(module: Any, condition: jax.Array, parts: int, name: str) -> list[jax.Array]:
    """[batch or 1, width] -> `parts` of that shape, all 0 at first."""
    dense = nn.Dense(
        parts * condition.shape[-1],
        kernel_init=ZEROS,
        **precision(module),
        name=name,
    )
    return jnp.split(dense(condition), parts, axis=-1)


def modulated(x: jax.Array, shift: jax.Array, scale: jax.Array) -> jax.Array:
    """LayerNorm (ε = 1e-6, no parameters) · (1 + scale) + shift.

    Args:
      x: [batch, length, width].
      shift, scale: [batch or 1, width].
    Returns: same shape as `x`. Moments are float32 at least.
    """
    wide = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    wide = wide - wide.mean(-1, keepdims=True)
    wide = wide * jax.lax.rsqrt((wide**2).mean(-1, keepdims=True) + 1e-6)
    scale, shift = scale.astype(wide.dtype), shift.astype(wide.dtype)  # 1 + scale would be rounded to 8 bits
    return (wide * (1 + scale[:, None]) + shift[:, None]).astype(x.dtype)


# (width, depth, num_heads): table 1 of the paper.
SIZES = {
    "small": (384, 12, 6),
    "base": (768, 12, 12),
    "large": (1024, 24, 16),
    "xlarge": (1152, 28, 16),
}


def sized(size: str, patch_size: int, **fields: Any) -> DiT:
    """The network of a published size.

    Args:
      size: "small", "base", "large" or "xlarge".
      patch_size: side of a patch, in pixels; 2, 4 or 8 in the paper.
      fields: other fields of `DiT`.
    Raises: InputError for another size.
    """
    if size not in SIZES:
        raise InputError(f"size is {size!r}; valid are: {', '.join(SIZES)}.")
    width, depth, num_heads = SIZES[size]
    shape: dict[str, Any] = {"patch_size": patch_size, "width": width, "depth": depth, "num_heads": num_heads}
    return DiT(**(shape | fields))
