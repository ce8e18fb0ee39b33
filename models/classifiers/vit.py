"""Vision transformers (Dosovitskiy et al.: "An Image is Worth 16×16 Words", ICLR 2021) and DeiT's of the same shape.

An image is cut into square patches; each becomes a token, and from there on the network is an encoder of equal
pre-norm blocks. They run under `nn.scan`: their parameters are stacked on a leading axis, and the compiler sees one
block however deep the network is. The head reads a class token, the mean of the tokens, or a query that attends to
them.
"""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from ...errors import InputError
from ..layers import (
    GLOROT,
    MLP,
    Block,
    Dropout,
    MultiHeadAttention,
    check_positive,
    layer_norm,
    precision,
    run_blocks,
    sincos2d,
)


class PatchEmbed(nn.Module):
    """A convolution whose stride is its kernel's size, as one matrix product of patches.

    Attributes:
      width: number of features of each patch.
      patch_size: height and width of a patch, in pixels.
      dtype: data type of the computation.
      param_dtype: data type of the parameters.
    """

    width: int
    patch_size: int
    dtype: DTypeLike = jnp.float32
    param_dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[batch, height, width, channel] -> [batch, patches, features], patches row by row.

        Raises: InputError if x is not of rank 4 or the patch does not divide the image.
        """
        size = self.patch_size
        if x.ndim != 4:
            raise InputError(f"Images must be [batch, height, width, channel]; they were given as {x.shape}.")
        batch, height, width, channels = x.shape
        if not height or not width or height % size or width % size:
            raise InputError(f"Images of {height}×{width} pixels cannot be cut into patches of {size}×{size}.")
        kernel = self.param(
            "kernel", nn.initializers.lecun_normal(), (size, size, channels, self.width), self.param_dtype
        )
        bias = self.param("bias", nn.initializers.zeros, (self.width,), self.param_dtype)
        patches = x.astype(self.dtype).reshape(batch, height // size, size, width // size, size, channels)
        patches = patches.swapaxes(2, 3).reshape(batch, (height // size) * (width // size), -1)
        return patches @ kernel.astype(self.dtype).reshape(-1, self.width) + bias.astype(self.dtype)


class AttentionPool(nn.Module):
    """One learned query attends to all tokens, then a residual MLP (Lee et al. 2019, "PMA"; big_vision's MAP head).

    Attributes:
      num_heads: number of attention heads.
      mlp_ratio: hidden width of the MLP, as a multiple of the width.
      dtype: data type of the computation.
      param_dtype: data type of the parameters.
    """

    num_heads: int
    mlp_ratio: float = 4.0
    dtype: DTypeLike = jnp.float32
    param_dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[batch, length, width] -> [batch, width]."""
        width = x.shape[-1]
        dtypes = precision(self)
        latent = self.param("latent", GLOROT, (1, 1, width), self.param_dtype)
        query = jnp.broadcast_to(latent.astype(self.dtype), (len(x), 1, width))
        y = MultiHeadAttention(self.num_heads, **dtypes, name="attn")(query, x)
        mlp = MLP(int(self.mlp_ratio * width), **dtypes, name="mlp")
        return (y + mlp(layer_norm(self, "norm")(y), False))[:, 0]


POOLINGS = ("token", "average", "attention")
POSITIONS = ("learned", "sincos2d")


class ViT(nn.Module):
    """Patches, positions, blocks, pooling, linear head.

    Attributes:
      num_classes: number of classes, the width of the logits.
      patch_size: height and width of a patch, in pixels; images must consist of whole patches.
      width: width of the tokens.
      depth: number of blocks.
      num_heads: number of attention heads.
      mlp_ratio: hidden width of the MLPs, as a multiple of the width.
      pooling: what the head reads: "token" (a class token, normalized), "average" (the tokens' mean, normalized
        afterwards, as in timm) or "attention" (`AttentionPool` over the normalized tokens).
      positions: "learned", for the grid of the image that the parameters are made with (`interpolate_positions` moves
        them to another), or "sincos2d", for any grid; there a class token has the position 0.
      dropout: dropout rate after the positions and after every dense layer but those of queries, keys and values; may
        be traced.
      attention_dropout: dropout rate of the attention weights; may be traced.
      drop_path: rate of stochastic depth of the last block; it grows linearly from 0 at the first. May be traced.
      remat: keep nothing of a block but its input for the backward pass; otherwise keep what `is_expensive`.
      dtype: data type of the computation. Logits are float32 at least.
      param_dtype: data type of the parameters.
    """

    num_classes: int = 1000
    patch_size: int = 16
    width: int = 768
    depth: int = 12
    num_heads: int = 12
    mlp_ratio: float = 4.0
    pooling: str = "token"
    positions: str = "learned"
    dropout: float | jax.Array = 0.0
    attention_dropout: float | jax.Array = 0.0
    drop_path: float | jax.Array = 0.0
    remat: bool = False
    dtype: DTypeLike = jnp.float32
    param_dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool = False) -> jax.Array:
        """Images [batch, height, width, channel] -> logits [batch, num_classes].

        Raises: InputError if x is not of rank 4, patches do not divide it, heads do not divide the width, a size is not
          positive, the grid is not the one positions were learned for, or pooling, positions or a concrete rate are not
          valid.
        """
        check_positive(self, "num_classes", "patch_size", "width", "depth", "num_heads")
        if int(self.mlp_ratio * self.width) < 1:
            raise InputError(f"mlp_ratio is {self.mlp_ratio}; of {self.width} channels it must leave at least 1.")
        if self.pooling not in POOLINGS:
            raise InputError(f"pooling is {self.pooling!r}; valid are: {', '.join(POOLINGS)}.")
        dtypes = precision(self)
        tokens = PatchEmbed(self.width, self.patch_size, **dtypes, name="patch_embed")(x)
        grid = x.shape[1] // self.patch_size, x.shape[2] // self.patch_size
        if self.pooling == "token":
            first = self.param("cls_token", nn.initializers.zeros, (1, 1, self.width), self.param_dtype)
            first = jnp.broadcast_to(first.astype(self.dtype), (len(x), 1, self.width))
            tokens = jnp.concatenate([first, tokens], axis=1)
        tokens = tokens + self._positions(grid).astype(self.dtype)
        tokens = self._blocks(Dropout(self.dropout)(tokens, train), train)
        init = nn.initializers.truncated_normal(0.02)
        logits = nn.Dense(self.num_classes, kernel_init=init, **dtypes, name="head")(self._pool(tokens))
        return logits.astype(jnp.promote_types(logits.dtype, jnp.float32))

    def _positions(self, grid: tuple[int, int]) -> jax.Array:
        """[1, tokens, width]"""
        prefix = 1 if self.pooling == "token" else 0
        if self.positions == "sincos2d":
            return jnp.pad(sincos2d(grid, self.width), ((prefix, 0), (0, 0)))[None]
        if self.positions != "learned":
            raise InputError(f"positions is {self.positions!r}; valid are: {', '.join(POSITIONS)}.")
        shape = (1, prefix + grid[0] * grid[1], self.width)
        if self.has_variable("params", "pos_embed"):
            learned = self.get_variable("params", "pos_embed").shape
            if learned != shape:
                raise InputError(
                    f"The image has a grid of {grid[0]}×{grid[1]} patches, which needs positions of shape {shape}; "
                    f"those learned have {learned}. `interpolate_positions` moves them to another grid."
                )
        return self.param("pos_embed", nn.initializers.normal(0.02), shape, self.param_dtype)

    def _blocks(self, x: jax.Array, train: bool) -> jax.Array:
        """[batch, tokens, width] -> the same"""
        block = Block(
            self.num_heads,
            self.mlp_ratio,
            dropout=self.dropout,
            attention_dropout=self.attention_dropout,
            **precision(self),
            name="blocks",
        )
        return run_blocks(block, x, self.depth, train, drop_path=self._drop_path_rates(), remat=self.remat)[0]

    def _drop_path_rates(self) -> jax.Array | None:
        """[depth], or None where nothing is dropped."""
        if not isinstance(self.drop_path, jax.Array):
            if not 0 <= self.drop_path <= 1:
                raise InputError(f"drop_path is {self.drop_path}; it must be in [0, 1].")
            if self.drop_path == 0:
                return None
        return self.drop_path * jnp.linspace(0.0, 1.0, self.depth)

    def _pool(self, x: jax.Array) -> jax.Array:
        """[batch, tokens, width] -> [batch, width]"""
        if self.pooling == "average":
            return layer_norm(self, "fc_norm")(x.mean(1))
        if self.pooling == "token":
            return layer_norm(self, "norm")(x[:, 0])
        dtypes = precision(self)
        return AttentionPool(self.num_heads, self.mlp_ratio, **dtypes, name="attn_pool")(layer_norm(self, "norm")(x))


# (width, depth, num_heads): table 1 of the paper; Ti and S are DeiT's (Touvron et al. 2021, table 1).
SIZES = {
    "tiny": (192, 12, 3),
    "small": (384, 12, 6),
    "base": (768, 12, 12),
    "large": (1024, 24, 16),
    "huge": (1280, 32, 16),
}


def sized(size: str, patch_size: int, **fields: Any) -> ViT:
    """The network of a published size.

    Args:
      size: "tiny", "small", "base", "large" or "huge".
      patch_size: side of a patch, in pixels.
      fields: other fields of `ViT`.
    Raises: InputError for another size.
    """
    if size not in SIZES:
        raise InputError(f"size is {size!r}; valid are: {', '.join(SIZES)}.")
    width, depth, num_heads = SIZES[size]
    shape: dict[str, Any] = {"patch_size": patch_size, "width": width, "depth": depth, "num_heads": num_heads}
    return ViT(**(shape | fields))
