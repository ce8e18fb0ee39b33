"""Positions of tokens: vectors that are added, rotations of queries and keys, and biases of their distances.

Of vectors learned on one grid of patches, also how they are moved to another.
"""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from ...errors import InputError


def sincos(positions: jax.Array, width: int) -> jax.Array:
    """[sin(p ω_0), sin(p ω_1), …, cos(p ω_0), cos(p ω_1), …] with ω_k = 10000^(−2k / width).

    The paper interleaves sines and cosines, which is another order of the same numbers.

    Args:
      positions: any shape, real numbers.
      width: width of the vectors, even.
    Returns: [..., width], float32.
    Raises: InputError if the width is odd.
    Source: Vaswani et al. 2017, section 3.5.
    """
    if width % 2:
        raise InputError(f"Sine-cosine positions want an even width; it is {width}.")
    frequencies = 10_000.0 ** (-jnp.arange(width // 2) / (width // 2))
    angles = positions[..., None].astype(jnp.float32) * frequencies.astype(jnp.float32)
    return jnp.concatenate([jnp.sin(angles), jnp.cos(angles)], axis=-1)


def sincos2d(grid: tuple[int, int], width: int) -> jax.Array:
    """`sincos` of the column in the first half of each vector, of the row in the second, as in MAE and DiT.

    Args:
      grid: (rows, columns).
      width: a multiple of 4.
    Returns: [rows · columns, width], row by row, float32.
    Raises: InputError if the width is not a multiple of 4.
    Source: He et al. 2022 (MAE), `get_2d_sincos_pos_embed`.
    """
    if width % 4:
        raise InputError(f"Sine-cosine positions of a grid want a width that is a multiple of 4; it is {width}.")
    rows, columns = jnp.meshgrid(*map(jnp.arange, grid), indexing="ij")
    halves = [sincos(columns.ravel(), width // 2), sincos(rows.ravel(), width // 2)]
    return jnp.concatenate(halves, axis=-1)


def interpolate_positions(
    pos_embed: jax.Array, old_grid: tuple[int, int], new_grid: tuple[int, int], prefix_tokens: int = 1
) -> jax.Array:
    """Learned positions of one grid of patches for another, such as that of images of another resolution.

    Bicubic (Keys' kernel with a = −½), smoothed where the grid shrinks, as timm's `resample_abs_pos_embed` does.
    Affine fields keep their values except in two rows and columns at the border, where the kernel is cut off.

    Args:
      pos_embed: [1, prefix_tokens + rows · columns, width].
      old_grid: (rows, columns) of `pos_embed`.
      new_grid: (rows, columns) of the result.
      prefix_tokens: number of vectors at the front that belong to no patch (the class token's) and stay the same.
    Returns: [1, prefix_tokens + new rows · new columns, width], of the same dtype.
    Raises: InputError if the shape of `pos_embed` is not that of the old grid.
    Source: Dosovitskiy et al. 2021, section 3.2.
    """
    tokens = prefix_tokens + old_grid[0] * old_grid[1]
    if pos_embed.ndim != 3 or pos_embed.shape[:2] != (1, tokens):
        raise InputError(
            f"Positions of a {old_grid[0]}×{old_grid[1]} grid and {prefix_tokens} tokens before it have shape "
            f"(1, {tokens}, width); these have {pos_embed.shape}."
        )
    if old_grid == new_grid:
        return pos_embed
    width = pos_embed.shape[-1]
    prefix, patches = pos_embed[:, :prefix_tokens], pos_embed[:, prefix_tokens:].reshape(1, *old_grid, width)
    resized = jax.image.resize(patches.astype(jnp.float32), (1, *new_grid, width), "cubic", antialias=True)
    return jnp.concatenate([prefix, resized.reshape(1, -1, width).astype(pos_embed.dtype)], axis=1)


def rotary(x: jax.Array, positions: jax.Array, base: float = 10_000.0) -> jax.Array:
    """Turns each pair of numbers of a query or key by an angle that grows with its position.

    The inner product of a query and a key then depends on the distance of their positions alone. Pairs are (k, k + half
    of the width), as in GPT-NeoX and LLaMA; the paper pairs neighbors, which is another order of the same numbers.

    Args:
      x: [batch, length, heads, head_dim], of an even head_dim.
      positions: [length] or [batch, length].
      base: the slowest pair turns by about 1 / base a position.
    Returns: the shape and dtype of x.
    Raises: InputError if head_dim is odd.
    Source: Su et al. 2021 (https://arxiv.org/abs/2104.09864), equation (34).
    """
    width = x.shape[-1]
    if width % 2:
        raise InputError(f"Rotary positions turn pairs of numbers, so head_dim must be even; it is {width}.")
    frequencies = base ** (-jnp.arange(width // 2, dtype=jnp.float32) / (width // 2))
    angles = (positions[..., None] * frequencies)[..., None, :]  # [(batch,) length, 1, head_dim / 2]
    first, second = jnp.split(x.astype(jnp.promote_types(x.dtype, jnp.float32)), 2, -1)
    cos, sin = jnp.cos(angles), jnp.sin(angles)
    return jnp.concatenate([first * cos - second * sin, second * cos + first * sin], -1).astype(x.dtype)


def relative_buckets(
    distance: jax.Array, num_buckets: int = 32, max_distance: int = 128, *, both_ways: bool = True
) -> jax.Array:
    """The bucket of each distance: one for each short distance, then ever wider ones; all far distances share one.

    Args:
      distance: integers of any shape, position of the key minus that of the query.
      num_buckets: number of buckets. With both ways, half of them are for keys behind the query.
      max_distance: from this distance on there is one bucket.
      both_ways: False where keys behind the query are not seen: they are in the bucket of distance 0.
    Returns: integers in 0 … num_buckets − 1, of that shape.
    Source: Raffel et al. 2020 (T5, https://arxiv.org/abs/1910.10683), section 2.1 and the authors' code.
    """
    buckets = num_buckets // 2 if both_ways else num_buckets
    behind = jnp.where(both_ways & (distance > 0), buckets, 0)
    away = jnp.abs(distance) if both_ways else jnp.maximum(-distance, 0)
    exact = buckets // 2
    wider = jnp.log(jnp.maximum(away, exact) / exact) / jnp.log(max_distance / exact) * (buckets - exact)
    far = jnp.minimum(exact + wider.astype(jnp.int32), buckets - 1)
    return behind + jnp.where(away < exact, away, far)


class RelativeBias(nn.Module):
    """A learned number for each head and bucket of distances, added to the scores of attention.

    Attributes:
      num_heads: number of attention heads.
      num_buckets, max_distance, both_ways: same as in `relative_buckets`.
      param_dtype: data type of the parameters.
    """

    num_heads: int
    num_buckets: int = 32
    max_distance: int = 128
    both_ways: bool = True
    param_dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, queries: jax.Array, keys: jax.Array) -> jax.Array:
        """Positions [query] and [key] -> [heads, query, key]."""
        table = self.param(
            "embedding", nn.initializers.normal(0.02), (self.num_buckets, self.num_heads), self.param_dtype
        )
        buckets = relative_buckets(
            keys[None] - queries[:, None], self.num_buckets, self.max_distance, both_ways=self.both_ways
        )
        return jnp.moveaxis(table[buckets], -1, 0)
