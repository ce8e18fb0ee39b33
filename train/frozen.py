"""Training a part of a network: an optimizer of some parameters, whatever it is, that leaves the others alone."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax
from flax import traverse_util

from ..errors import InputError


def only(
    optimizer: optax.GradientTransformation, trained: Callable[[tuple[str, ...]], bool]
) -> optax.GradientTransformationExtraArgs:
    """An optimizer of some parameters; the others are never changed, not by weight decay either, and have no state.

    What the optimizer sees is the tree of those parameters alone, so that norms of gradients are theirs too.

    Args:
      optimizer: any optimizer.
      trained: path of a parameter, such as ("head", "kernel") -> whether it is trained.
    Returns: the optax transformation, of trees of nested dicts.
    Raises: InputError from `init` if no parameter is trained.

    >>> head = only(optax.sgd(0.1), lambda path: path[0] == "head")
    >>> params = {"head": {"bias": jnp.array(1.0)}, "trunk": {"bias": jnp.array(1.0)}}
    >>> updates, _ = head.update(params, head.init(params), params)
    >>> print(updates["head"]["bias"], updates["trunk"]["bias"])
    -0.1 0.0
    """
    inner = optax.with_extra_args_support(optimizer)

    def pick(tree):
        flat = traverse_util.flatten_dict(tree)
        return traverse_util.unflatten_dict({path: leaf for path, leaf in flat.items() if trained(path)})

    def into(tree, picked):
        flat = traverse_util.flatten_dict(tree) | traverse_util.flatten_dict(picked)
        return traverse_util.unflatten_dict(flat)

    def init(params):
        picked = pick(params)
        if not picked:
            raise InputError("No parameter is left to train.")
        return inner.init(picked)

    def update(updates, state, params=None, *, grad=None, value_fn=None, **extra):
        if grad is not None:
            extra["grad"] = pick(grad)
        if value_fn is not None:
            extra["value_fn"] = lambda picked: value_fn(into(params, picked))
        changes, state = inner.update(pick(updates), state, None if params is None else pick(params), **extra)
        return into(jax.tree.map(jnp.zeros_like, updates), changes), state

    return optax.GradientTransformationExtraArgs(init, update)
