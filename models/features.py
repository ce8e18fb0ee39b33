"""What a classifier has learned to see: the vector that its last dense layer reads, as features of images."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax


def penultimate(model: nn.Module, variables: Mapping[str, Any], x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The logits of a classifier and what its last dense layer made them of.

    Args:
      model: (x, train=) -> logits, whose last layer with parameters is an `nn.Dense`.
      variables: its own.
      x: images [batch, height, width, channel], as the model reads them.
    Returns: (logits [batch, classes], features [batch, width]).
    Raises: ValueError if the model has no dense layer.
    """
    seen: list[jax.Array] = []

    def note(call, arguments, keywords, context):
        if isinstance(context.module, nn.Dense) and context.method_name == "__call__":
            seen[:] = arguments[:1]
        return call(*arguments, **keywords)

    with nn.intercept_methods(note):
        logits: Any = model.apply(variables, x, train=False)
    if not seen:
        raise ValueError(f"{type(model).__name__} has no dense layer whose input could be its features.")
    return logits, seen[0]
