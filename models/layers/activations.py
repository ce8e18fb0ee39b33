"""Activation functions σ: ℝ → ℝ, applied entry by entry.

Each is a pure function of its input and, where it has one, its parameter, which may be traced: so a population can vary
it and training can learn it. Networks take the function; `get_activation` finds it by the name that a user writes.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from ...errors import InputError

Activation = Callable[[jax.Array], jax.Array]


def leaky_relu(t: jax.Array, alpha: ArrayLike = 0.01) -> jax.Array:
    """max(0, t) + α min(0, t).

    Args:
      t: any shape.
      alpha: α, the slope where t < 0, small and positive; 0.01 in the paper. May be traced.
    Returns: same shape as `t`. At 0 the derivative is 1, where that of ReLU is 0.
    Source: Maas, Hannun, Ng 2013, "Rectifier nonlinearities improve neural network acoustic models".
    """
    return jax.nn.leaky_relu(t, alpha)


def swish(t: jax.Array, beta: ArrayLike = 1.0) -> jax.Array:
    """t / (1 + e^(−βt)): SiLU at β = 1, t/2 at β = 0, towards ReLU for large β.

    Args:
      t: any shape.
      beta: β, any real number. May be traced.
    Returns: same shape as `t`.
    Source: Ramachandran, Zoph, Le 2017, "Searching for activation functions".
    """
    return t * jax.nn.sigmoid(beta * t)


def gelu(t: jax.Array) -> jax.Array:
    """t Φ(t), where Φ is the distribution function of the normal distribution.

    Args:
      t: any shape.
    Returns: same shape as `t`.
    Source: Hendrycks & Gimpel 2016, "Gaussian error linear units", section 2.
    """
    return jax.nn.gelu(t, approximate=False)


def gelu_tanh(t: jax.Array) -> jax.Array:
    """t (1 + tanh(√(2/π) (t + 0.044715 t³))) / 2: GELU to within 5e-4, as in GPT-2.

    Args:
      t: any shape.
    Returns: same shape as `t`.
    Source: Hendrycks & Gimpel 2016, "Gaussian error linear units", section 2.
    """
    return jax.nn.gelu(t, approximate=True)


ACTIVATIONS: dict[str, Activation] = {
    "sigmoid": jax.nn.sigmoid,
    "tanh": jnp.tanh,
    "relu": jax.nn.relu,
    "leaky_relu": leaky_relu,
    "swish": swish,
    "gelu": gelu,
    "gelu_tanh": gelu_tanh,
}


def get_activation(name: str) -> Activation:
    """The activation of a name in `ACTIVATIONS`.

    >>> get_activation("relu")(-2.0).item()
    0.0

    Raises: InputError for an unknown name; it lists the valid ones.
    """
    if name not in ACTIVATIONS:
        raise InputError(f"There is no activation {name!r}. Valid are: {', '.join(ACTIVATIONS)}.")
    return ACTIVATIONS[name]
