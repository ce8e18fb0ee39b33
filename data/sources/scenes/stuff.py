"""The background of scenes: sky, grass, water and sand, each with a texture, one below the other."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

STUFF = ("sky", "grass", "water", "sand")
_SKY, _GRASS, _WATER, _SAND = range(4)

# What is at the top, in the middle and at the bottom.
_LAYOUTS = (
    (_SKY, _GRASS, _GRASS),
    (_SKY, _SAND, _SAND),
    (_SKY, _WATER, _WATER),
    (_SKY, _WATER, _SAND),
    (_SKY, _WATER, _GRASS),
    (_GRASS, _GRASS, _GRASS),
    (_SAND, _SAND, _SAND),
)
_COLORS = ((158, 202, 240), (116, 172, 78), (52, 112, 176), (228, 204, 150))


def background(key: jax.Array, size: int) -> tuple[jax.Array, jax.Array]:
    """Draws what is behind the objects.

    Args:
      key: one key.
      size: pixels per side.
    Returns: (colors, float32 [size, size, 3] in 0 … 255; index into `STUFF` of each pixel, int32 [size, size]).
    """
    layout_key, texture_key = jax.random.split(key)
    layout, tint = jnp.split(jax.random.uniform(layout_key, (21,)), [9])
    stuff = _bands(layout, size)
    colors = _textures(texture_key, size) * (0.9 + 0.2 * tint.reshape(len(STUFF), 1, 1, 3))
    chosen = jnp.take_along_axis(jnp.clip(colors, 0, 255), stuff[None, :, :, None], axis=0)[0]
    return chosen, stuff


def _bands(drawn: jax.Array, size: int) -> jax.Array:
    """Index into `STUFF` of each pixel: three bands, with wavy borders, from nine numbers in [0, 1)."""
    layout = jnp.asarray(_LAYOUTS)[(drawn[0] * len(_LAYOUTS)).astype(jnp.int32)]
    first, second = 0.25 + 0.25 * drawn[1], 0.6 + 0.2 * drawn[2]
    strength, cycles, phase = drawn[3:].reshape(3, 2)
    x, y = _centers(size), _centers(size)[:, None]
    waves = 0.05 * strength * jnp.sin(2 * jnp.pi * (x[:, None] * (0.5 + 2 * cycles) + phase))  # [size, 2]
    return jnp.where(y < first + waves[:, 0], layout[0], jnp.where(y < second + waves[:, 1], layout[1], layout[2]))


def _textures(key: jax.Array, size: int) -> jax.Array:
    """The four textures, float32 [4, size, size, 3], before they are tinted."""
    # Rows and columns of independent values; one draw for all, since a program with many draws takes long to compile.
    shapes = {"clouds": (6, 4), "blades": (12, size), "patches": (4, 4), "ripples": (6, 6), "dunes": (5, 3)}
    shapes["grains"] = (size, size)
    ends = np.cumsum([rows * columns for rows, columns in shapes.values()])
    values = jnp.split(jax.random.normal(key, (int(ends[-1]),)), ends[:-1])
    noise = {name: _smooth(each.reshape(shapes[name]), size) for name, each in zip(shapes, values, strict=True)}
    sky, grass, water, sand = jnp.asarray(_COLORS, jnp.float32)
    y = _centers(size)[:, None, None]
    bright = sky + 40 * (y - 0.5)
    clouds = 0.6 * jnp.clip(noise["clouds"], 0, 1) * (255 - bright)
    blades = 14 * (noise["blades"] + noise["patches"]) * jnp.array([1.0, 1.0, 0.6])
    ripples = 22 * jnp.sin(2 * jnp.pi * (9 * y + 0.6 * noise["ripples"]))
    grains = 9 * noise["grains"] + 10 * noise["dunes"]
    return jnp.stack([bright + clouds, grass + blades, water + ripples, sand + grains])


def _smooth(values: jax.Array, size: int) -> jax.Array:
    """Values at evenly spread knots, with what is between them interpolated: [size, size, 1]."""
    down, right = (jnp.asarray(_interpolation(size, knots), jnp.float32) for knots in values.shape)
    return jnp.matmul(jnp.matmul(down, values), right.T)[..., None]


def _interpolation(size: int, knots: int) -> np.ndarray:
    """Weights [size, knots] of the two nearest of some evenly spread knots."""
    place = np.linspace(0, knots - 1, size)[:, None]
    return np.clip(1 - np.abs(place - np.arange(knots)), 0, 1)


def _centers(size: int) -> jax.Array:
    """Centers of the pixels of a row, in 0 … 1."""
    return (jnp.arange(size) + 0.5) / size
