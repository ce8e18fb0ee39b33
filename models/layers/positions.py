"""Position vectors of tokens, and how vectors learned on one grid of patches are moved to another."""

from __future__ import annotations

import jax
import jax.numpy as jnp

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
