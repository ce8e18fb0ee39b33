"""Learned features of images: the vector that a classifier's last dense layer reads."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax

from ...errors import InputError


def penultimate(model: nn.Module, variables: Mapping[str, Any], x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The logits of a classifier, and the features that its last dense layer makes them from.

    Args:
      model: (x, train=) -> logits, whose last layer with parameters is an `nn.Dense`.
      variables: variables of the model.
      x: images [batch, height, width, channel], as the model reads them.
    Returns: (logits [batch, classes], features [batch, width]).
    Raises: InputError if the model has no dense layer.
    """
    seen: list[jax.Array] = []

    def note(call, arguments, keywords, context):
        if isinstance(context.module, nn.Dense) and context.method_name == "__call__":
            seen[:] = arguments[:1]
        return call(*arguments, **keywords)

    with nn.intercept_methods(note):
        logits: Any = model.apply(variables, x, train=False)
    if not seen:
        raise InputError(f"{type(model).__name__} has no dense layer whose input could be its features.")
    return logits, seen[0]
