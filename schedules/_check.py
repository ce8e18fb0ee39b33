"""Checks of a schedule's parameters, made before anything compiles.

Each message names the parameter and its valid range. A traced parameter has no value yet, so only its shape is checked.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise
from typing import NamedTuple

import jax
import jax.core
import jax.numpy as jnp

from ..errors import InputError

Scalar = float | jax.Array
"""A number: an int, a float, or an array of rank 0. It may be traced."""


class Valid(NamedTuple):
    """A set of valid values, as words for messages and as a predicate. NaN is never valid."""

    described: str
    holds: Callable[[float], bool]


POSITIVE = Valid("positive and finite", lambda value: 0 < value < math.inf)
NON_NEGATIVE = Valid("at least 0 and finite", lambda value: 0 <= value < math.inf)
FACTOR = Valid("greater than 0 and less than 1", lambda value: 0 < value < 1)
LENGTH = Valid("greater than 0 and less than 2^30 steps", lambda value: 0 < value < 2**30)
WAIT = Valid("at least 0 and less than 2^30 steps", lambda value: 0 <= value < 2**30)


def require(valid: Valid, **parameters: Scalar) -> None:
    """Raises InputError unless each parameter is a scalar and, if it is concrete, valid."""
    for name, value in parameters.items():
        _require_scalar(name, value)
        if not is_traced(value) and not valid.holds(float(value)):
            raise InputError(f"{name} is {value}; it must be {valid.described}.")


def require_order(*, strict: bool, **parameters: Scalar) -> None:
    """Raises InputError unless the parameters ascend in the order given. Skipped if any of them is traced."""
    if any(is_traced(value) for value in parameters.values()):
        return
    if any(low > high or (strict and low == high) for low, high in pairwise(map(float, parameters.values()))):
        given = ", ".join(f"{name} is {value}" for name, value in parameters.items())
        raise InputError(f"{given}; they must satisfy {(' < ' if strict else ' <= ').join(parameters)}.")


def is_traced(value: Scalar) -> bool:
    """Whether the value is known only when the compiled program runs."""
    return isinstance(value, jax.core.Tracer)


def _require_scalar(name: str, value: Scalar) -> None:
    if jnp.ndim(value) != 0:
        raise InputError(f"{name} has shape {jnp.shape(value)}; it must be a scalar (jax.vmap takes many values).")
