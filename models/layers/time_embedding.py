"""The condition of a denoising network as one vector: the time, and the class if there are classes.

Time runs from 0 (data) to 1 (noise), so that a network is the same for any number of steps; the published sinusoids
read steps of which there are 1000, and so do these. The last row of the classes' table belongs to no class: with it a
network gives the unconditional half of classifier-free guidance (Ho & Salimans 2022).
"""

from __future__ import annotations

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike, DTypeLike

from ...errors import InputError
from .precision import precision

STEPS = 1000.0  # time 1, in the units that the sinusoids read
LONGEST = 10_000.0  # the slowest sinusoid turns by one radian in about as many steps (Vaswani et al. 2017)

Sinusoids = Callable[[jax.Array, int], jax.Array]


def sines_first(time: jax.Array, width: int) -> jax.Array:
    """[sin(1000 t ω_0), …, cos(1000 t ω_0), …] with ω_k = 10000^(−k / (width/2 − 1)), as in DDPM.

    Args:
      time: any shape, in [0, 1].
      width: width of the vectors, even and at least 4.
    Returns: [..., width], float32 at least.
    Raises: InputError for another width.
    Source: Ho et al. 2020, their code's `get_timestep_embedding`: both ends of the range of frequencies are there.
    """
    if width % 2 or width < 4:
        raise InputError(f"These sinusoids want an even width of at least 4; it is {width}.")
    angles = _angles(time, np.linspace(0, 1, width // 2))
    return jnp.concatenate([jnp.sin(angles), jnp.cos(angles)], axis=-1)


def cosines_first(time: jax.Array, width: int) -> jax.Array:
    """[cos(1000 t ω_0), …, sin(1000 t ω_0), …] with ω_k = 10000^(−2k / width), as in GLIDE and DiT.

    Args:
      time: any shape, in [0, 1].
      width: width of the vectors, even.
    Returns: [..., width], float32 at least.
    Raises: InputError for an odd width.
    Source: Peebles & Xie 2023, section 3.2 and their code's `timestep_embedding`.
    """
    if width % 2:
        raise InputError(f"Sinusoids want an even width; it is {width}.")
    angles = _angles(time, np.arange(width // 2) / (width // 2))
    return jnp.concatenate([jnp.cos(angles), jnp.sin(angles)], axis=-1)


def _angles(time: jax.Array, exponents: np.ndarray) -> jax.Array:
    """[..., frequency]"""
    time = jnp.asarray(time)
    time = time.astype(jnp.promote_types(time.dtype, jnp.float32))
    return STEPS * time[..., None] * jnp.asarray(LONGEST**-exponents, time.dtype)


class Conditioning(nn.Module):
    """An MLP of the time's sinusoids, plus a learned vector for each class.

    Attributes:
      features: width of the vector, and of the MLP's hidden layer.
      sinusoids: `sines_first` or `cosines_first`.
      frequencies: number of sinusoids, half of them sines.
      num_classes: number of classes; None for networks without classes.
      kernel_init: initializer of the MLP.
      class_init: initializer of the classes' table.
      dtype: data type of the computation. The sinusoids are float32 at least.
      param_dtype: data type of the parameters.
    """

    features: int
    sinusoids: Sinusoids
    frequencies: int
    num_classes: int | None = None
    kernel_init: nn.initializers.Initializer = nn.initializers.normal(0.02)
    class_init: nn.initializers.Initializer = nn.initializers.normal(0.02)
    dtype: DTypeLike = jnp.float32
    param_dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, time: ArrayLike, labels: jax.Array | None, batch: int) -> jax.Array:
        """One vector for each example, or a single vector that all examples share.

        Args:
          time: [batch], or one number for all, in [0, 1].
          labels: [batch] integers in [0, num_classes], where num_classes means no class; None for no class at all.
          batch: number of examples.
        Returns: [batch, features], or [1, features] where neither time nor class differ.
        Raises: InputError if the shapes or types do not fit, or a network without classes is given some.
        """
        time = jnp.asarray(time)
        if time.shape not in ((), (batch,)):
            raise InputError(f"time must be one number or have shape ({batch},), like the batch; it has {time.shape}.")
        if not jnp.issubdtype(time.dtype, jnp.floating):
            raise InputError(f"time must be floating, in [0, 1]: step i of 1000 is i / 1000. Its type is {time.dtype}.")
        y = self.sinusoids(jnp.atleast_1d(time), self.frequencies).astype(self.dtype)
        y = self._dense("linear2")(nn.silu(self._dense("linear1")(y)))
        return y if self.num_classes is None and labels is None else y + self._of_classes(labels, batch)

    def _of_classes(self, labels: jax.Array | None, batch: int) -> jax.Array:
        """[batch or 1, features]"""
        if self.num_classes is None:
            raise InputError("This network knows no classes (num_classes is None), but labels were given.")
        table = self.param("classes", self.class_init, (self.num_classes + 1, self.features), self.param_dtype)
        if labels is None:
            return table[-1:].astype(self.dtype)
        labels = jnp.asarray(labels)
        if labels.shape != (batch,) or not jnp.issubdtype(labels.dtype, jnp.integer):
            raise InputError(
                f"labels must be integers of shape ({batch},), in [0, {self.num_classes}]; they are {labels.dtype} of "
                f"shape {labels.shape}."
            )
        # A label out of range gives NaN; -1 would be the last row.
        labels = jnp.where(labels < 0, len(table), labels)
        return jnp.take(table, labels, axis=0, mode="fill").astype(self.dtype)

    def _dense(self, name: str) -> nn.Dense:
        return nn.Dense(
            self.features,
            kernel_init=self.kernel_init,
            **precision(self),
            name=name,
        )
