"""What a schedule refuses before anything compiles: parameters that are out of range, told by their names.

A traced parameter has no value yet, so only its shape is checked.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise
from typing import NamedTuple

import jax
import jax.core
import jax.numpy as jnp

Scalar = float | jax.Array
"""A number: an int, a float, or an array of rank 0, perhaps traced."""


class Valid(NamedTuple):
    """The values that a parameter may have, for people and for the program. NaN is in none."""

    described: str
    holds: Callable[[float], bool]


POSITIVE = Valid("positive and finite", lambda value: 0 < value < math.inf)
NON_NEGATIVE = Valid("at least 0 and finite", lambda value: 0 <= value < math.inf)
FACTOR = Valid("greater than 0 and less than 1", lambda value: 0 < value < 1)
LENGTH = Valid("greater than 0 and less than 2^30 steps", lambda value: 0 < value < 2**30)
WAIT = Valid("at least 0 and less than 2^30 steps", lambda value: 0 <= value < 2**30)


def require(valid: Valid, **parameters: Scalar) -> None:
    """Raises ValueError unless each parameter is a scalar and, where concrete, valid."""
    for name, value in parameters.items():
        _require_scalar(name, value)
        if not is_traced(value) and not valid.holds(float(value)):
            raise ValueError(f"{name} is {value}; it must be {valid.described}.")


def require_order(*, strict: bool, **parameters: Scalar) -> None:
    """Raises ValueError unless the parameters, where all are concrete, ascend in the order in which they are given."""
    if any(is_traced(value) for value in parameters.values()):
        return
    if any(low > high or (strict and low == high) for low, high in pairwise(map(float, parameters.values()))):
        given = ", ".join(f"{name} is {value}" for name, value in parameters.items())
        raise ValueError(f"{given}; wanted: {(' < ' if strict else ' <= ').join(parameters)}.")


def is_traced(value: Scalar) -> bool:
    """Whether the value is known only when the compiled program runs."""
    return isinstance(value, jax.core.Tracer)


def _require_scalar(name: str, value: Scalar) -> None:
    if jnp.ndim(value) != 0:
        raise ValueError(f"{name} has shape {jnp.shape(value)}; it must be a scalar (jax.vmap takes many at once).")
