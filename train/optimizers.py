"""Optimizer chains: (learning rate, hyperparameters) -> optax transformation.

The rate is a scalar, perhaps traced: `make_step` evaluates the schedule at the state's step and builds the
chain inside the compiled step. So no schedule hides a counter in the optimizer's state, and a population can
give every member its own rate.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax
import optax

Scalar = float | jax.Array
Hyper = Mapping[str, jax.Array]
MakeOptimizer = Callable[[Scalar, Hyper], optax.GradientTransformation]


def sgd(
    learning_rate: Scalar,
    *,
    momentum: Scalar = 0.9,
    nesterov: bool = False,
    weight_decay: Scalar = 0.0,
    clip_norm: float | None = None,
) -> optax.GradientTransformation:
    """Stochastic gradient descent with momentum (Polyak 1964; Sutskever et al. 2013).

    The decay is the classical one: λθ joins the gradient before the momentum, as in He et al. 2015.

    Args:
      learning_rate: α ≥ 0, may be traced.
      momentum: decay of the velocity, in [0, 1), may be traced.
      nesterov: look ahead along the velocity.
      weight_decay: λ ≥ 0 of the parameters in `decay_mask`, may be traced.
      clip_norm: largest global gradient norm, applied first; None for no clipping.
    """
    return optax.chain(
        _clip(clip_norm),
        optax.add_decayed_weights(weight_decay, mask=decay_mask),
        optax.trace(decay=momentum, nesterov=nesterov),
        optax.scale_by_learning_rate(learning_rate),
    )


def adamw(
    learning_rate: Scalar,
    *,
    b1: Scalar = 0.9,
    b2: Scalar = 0.999,
    eps: Scalar = 1e-8,
    weight_decay: Scalar = 0.0,
    clip_norm: float | None = None,
) -> optax.GradientTransformation:
    """Adam with decoupled weight decay (Loshchilov & Hutter 2019); with λ = 0, Adam (Kingma & Ba 2015).

    Args:
      learning_rate: α ≥ 0, may be traced; it scales the decay too.
      b1: decay of the first moment.
      b2: decay of the second moment.
      eps: added to the root of the second moment.
      weight_decay: λ ≥ 0 of the parameters in `decay_mask`, may be traced.
      clip_norm: largest global gradient norm, applied first; None for no clipping.
    """
    return optax.chain(
        _clip(clip_norm),
        optax.scale_by_adam(b1=b1, b2=b2, eps=eps),
        optax.add_decayed_weights(weight_decay, mask=decay_mask),
        optax.scale_by_learning_rate(learning_rate),
    )


NOT_DECAYED = frozenset({"bias", "scale"})


def decay_mask(params: Any) -> Any:
    """True where weight decay applies: everything but biases and the scales of normalisations.

    By name and not by rank, since the parameters of scanned blocks carry one axis more.
    """
    return jax.tree_util.tree_map_with_path(lambda path, _: path[-1].key not in NOT_DECAYED, params)


def _clip(clip_norm: float | None) -> optax.GradientTransformation:
    if clip_norm is None:
        return optax.identity()
    if clip_norm <= 0:
        raise ValueError(f"clip_norm is {clip_norm}; it must be positive, or None for no clipping.")
    return optax.clip_by_global_norm(clip_norm)
