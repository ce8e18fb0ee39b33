"""Checks that the networks share."""

from __future__ import annotations

from collections.abc import Sequence

import flax.linen as nn
import jax

from ...errors import InputError


def check_positive(network: nn.Module, *fields: str) -> None:
    """Checks that sizes which a user gives a network are at least 1.

    Args:
      network: a module with such fields.
      fields: names of the fields; each holds a number or several.
    Raises: InputError with the field and its value, if one is not.
    """
    for field in fields:
        value = getattr(network, field)
        if min(value if isinstance(value, Sequence) else (value,), default=1) < 1:
            raise InputError(f"{type(network).__name__} needs {field} of at least 1; it is {value}.")


def check_images(network: nn.Module, x: jax.Array) -> None:
    """Raises InputError unless x has rank 4, [batch, height, width, channel]."""
    if x.ndim != 4:
        name = type(network).__name__
        raise InputError(f"{name} needs images [batch, height, width, channel]; it was given shape {x.shape}.")
