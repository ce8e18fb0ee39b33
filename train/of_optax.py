"""Optimizers of optax by name, `optax:lion`, with the hyperparameters that all of ours have.

The tables are optax's: whatever `optax` and `optax.contrib` offer whose first parameter is a learning rate. What an
optimizer does not have, it is given around it: clipping and, where it has none, weight decay that is added to the
gradient, as in `sgd`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import optax
import optax.contrib

from ..errors import InputError, unknown_name
from .optimizers import NO_MOMENTUM, OPTIMIZERS, clip, decay_mask

PREFIX = "optax:"
# Not for a training step as it is: the parameters to evaluate at are not those that are trained, or the gradients would
# have to be those of single examples.
UNFIT = frozenset({"schedule_free_adamw", "schedule_free_sgd", "dpsgd"})


@cache
def optax_optimizers() -> Mapping[str, Callable[..., optax.GradientTransformation]]:
    """Name -> function of optax or `optax.contrib`, of all that a training step can use.

    >>> {"lion", "adan", "prodigy", "rprop"} <= optax_optimizers().keys()
    True
    """
    found = {}
    for module in (optax.contrib, optax):
        for name, function in vars(module).items():
            if name.startswith(("_", "scale_by_")) or name in UNFIT or not inspect.isfunction(function):
                continue
            if next(iter(inspect.signature(function).parameters), None) == "learning_rate":
                found[name] = function
    return dict(sorted(found.items()))


def optimizer_named(name: str) -> Callable[..., optax.GradientTransformation]:
    """The row of `OPTIMIZERS` of a name, or one made of an optimizer of optax.

    Args:
      name: "adamw", or "optax:lion".
    Returns: (learning rate, momentum, *, weight_decay, clip_norm, and arguments of the optimizer's own) -> optimizer.
      Momentum is the decay of the first moment or of the velocity; optimizers without either ignore it.
    Raises: InputError for a name that is in neither table.
    """
    if not name.startswith(PREFIX):
        if name not in OPTIMIZERS:
            raise unknown_name("optimizer", name, (*OPTIMIZERS, f"{PREFIX}NAME"))
        return OPTIMIZERS[name]
    short, table = name.removeprefix(PREFIX), optax_optimizers()
    if short in UNFIT:
        raise InputError(f"{name} can't be used here: it needs more than a gradient and a step.")
    if short not in table:
        raise unknown_name("optimizer of optax", short, table)
    function = table[short]
    parameters = inspect.signature(function).parameters

    def make(learning_rate, momentum, *, weight_decay=0.0, clip_norm=None, **options):
        given: dict[str, Any] = dict(options)
        own = _momentum_of(function)
        if own == "betas":
            given["betas"] = (momentum, parameters["betas"].default[1])
        elif own:
            given.setdefault(own, momentum)
        decays = next((own for own in ("weight_decay", "weight_decay_rate") if own in parameters), None)
        if decays:
            given[decays] = weight_decay
            given |= {mask: decay_mask for mask in ("mask", "weight_decay_mask") if mask in parameters}
        before = optax.identity() if decays else optax.add_decayed_weights(weight_decay, mask=decay_mask)
        optimizer = function(learning_rate, **given)
        if "hessian_diagonal_fn" in parameters:
            optimizer = _told_of_objective(optimizer)
        return optax.chain(clip(clip_norm), before, optimizer)

    return make


def takes_momentum(name: str) -> bool:
    """Whether the momentum has an effect on the optimizer of a name, as in `optimizer_named`.

    >>> takes_momentum("adam"), takes_momentum("sgd"), takes_momentum("optax:lion"), takes_momentum("optax:adagrad")
    (True, False, True, False)
    """
    if not name.startswith(PREFIX):
        return name not in NO_MOMENTUM
    return _momentum_of(optax_optimizers()[name.removeprefix(PREFIX)]) is not None


def needs_loss(name: str) -> bool:
    """Whether an optimizer wants more of a step than its gradient: the loss as a function of the parameters.

    >>> needs_loss("newton_cg"), needs_loss("optax:sophia"), needs_loss("adam"), needs_loss("optax:muon")
    (True, True, False, False)
    """

    def update(params):
        optimizer = optimizer_named(name)(0.1, 0.9)
        return optimizer.update(params, optimizer.init(params), params)

    try:
        jax.eval_shape(update, {"kernel": jnp.ones((2, 2))})
    except Exception:  # each optimizer misses its argument in its own way
        return True
    return False


def _momentum_of(function: Callable[..., optax.GradientTransformation]) -> str | None:
    """The parameter of an optimizer of optax that is its momentum; None if it has none."""
    parameters = inspect.signature(function).parameters
    return next((own for own in ("betas", "b1", "momentum", "beta") if own in parameters), None)


def _told_of_objective(optimizer: optax.GradientTransformation) -> optax.GradientTransformationExtraArgs:
    """The optimizer, which also gets `value_fn` by the name that Sophia has for it."""
    inner = optax.with_extra_args_support(optimizer)

    def update(updates, state, params=None, *, value_fn=None, **extra):
        return inner.update(updates, state, params, value_fn=value_fn, obj_fn=value_fn, **extra)

    return optax.GradientTransformationExtraArgs(inner.init, update)
