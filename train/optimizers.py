"""First-order optimizer chains: (learning rate, hyperparameters) -> optax transformation.

The rate is a scalar, perhaps traced: `make_step` evaluates the schedule at the state's step and builds the
chain inside the compiled step. So no schedule hides a counter in the optimizer's state, and a population can
give every member its own rate.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax

from . import second_order

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


def adagrad(
    learning_rate: Scalar,
    *,
    initial_accumulator: Scalar = 0.1,
    eps: Scalar = 1e-7,
    weight_decay: Scalar = 0.0,
    clip_norm: float | None = None,
) -> optax.GradientTransformation:
    """AdaGrad: θ ← θ − α g / √(a + Σ g² + ε) (Duchi, Hazan & Singer 2011, figure 1, diagonal).

    Args:
      learning_rate: α ≥ 0, may be traced.
      initial_accumulator: a ≥ 0, may be traced.
      eps: ε > 0, may be traced.
      weight_decay: λ ≥ 0; λθ joins the gradient first. May be traced.
      clip_norm: largest global gradient norm, applied first; None for no clipping.
    """
    return optax.chain(
        _clip(clip_norm),
        optax.add_decayed_weights(weight_decay, mask=decay_mask),
        optax.scale_by_rss(initial_accumulator, eps),  # pyright: ignore[reportArgumentType]
        optax.scale_by_learning_rate(learning_rate),
    )


def rmsprop(
    learning_rate: Scalar,
    *,
    decay: Scalar = 0.99,
    eps: Scalar = 1e-8,
    weight_decay: Scalar = 0.0,
    clip_norm: float | None = None,
) -> optax.GradientTransformation:
    """RMSProp: v ← ρv + (1 − ρ)g²; θ ← θ − α g / (√v + ε) (Tieleman & Hinton 2012, lecture 6.5), as in PyTorch.

    Args:
      learning_rate: α ≥ 0, may be traced.
      decay: ρ in [0, 1), may be traced.
      eps: ε > 0, may be traced.
      weight_decay: λ ≥ 0; λθ joins the gradient first. May be traced.
      clip_norm: largest global gradient norm, applied first; None for no clipping.
    """
    return optax.chain(
        _clip(clip_norm),
        optax.add_decayed_weights(weight_decay, mask=decay_mask),
        optax.scale_by_rms(decay, eps, eps_in_sqrt=False),  # pyright: ignore[reportArgumentType]
        optax.scale_by_learning_rate(learning_rate),
    )


def adam(
    learning_rate: Scalar,
    *,
    b1: Scalar = 0.9,
    b2: Scalar = 0.999,
    eps: Scalar = 1e-8,
    nesterov: bool = False,
    weight_decay: Scalar = 0.0,
    clip_norm: float | None = None,
) -> optax.GradientTransformation:
    """Adam (Kingma & Ba 2015, algorithm 1); with `nesterov`, Nadam (Dozat 2016).

    Args:
      learning_rate: α ≥ 0, may be traced.
      b1: decay of the first moment, may be traced.
      b2: decay of the second moment, may be traced.
      eps: added to the root of the second moment, may be traced.
      nesterov: look ahead along the first moment.
      weight_decay: λ ≥ 0; λθ joins the gradient first, and so is scaled by the moments, unlike in `adamw`. May be
        traced.
      clip_norm: largest global gradient norm, applied first; None for no clipping.
    """
    return optax.chain(
        _clip(clip_norm),
        optax.add_decayed_weights(weight_decay, mask=decay_mask),
        optax.scale_by_adam(b1=b1, b2=b2, eps=eps, nesterov=nesterov),
        optax.scale_by_learning_rate(learning_rate),
    )


def newton_cg(
    learning_rate: Scalar,
    *,
    damping: Scalar = 1e-2,
    cg_steps: int = 10,
    tolerance: Scalar = 0.5,
    weight_decay: Scalar = 0.0,
    clip_norm: float | None = None,
) -> optax.GradientTransformationExtraArgs:
    """Truncated Newton: θ ← θ − α p, where conjugate gradients solve (H + λ + μ) p = g + λθ; `scale_by_newton_cg`.

    Args:
      learning_rate: α ≥ 0, may be traced; 1 is Newton's own step.
      damping: μ ≥ 0, may be traced.
      cg_steps: most products with the Hessian a step.
      tolerance: τ ≥ 0, how roughly p may solve the system, relative to ‖g‖; 0 for as well as `cg_steps` allow. May be
        traced.
      weight_decay: λ ≥ 0, a part of the objective: in the gradient and in the Hessian. May be traced.
      clip_norm: largest norm of the whole step p; None for no clipping.
    """
    return optax.chain(
        second_order.scale_by_newton_cg(
            damping=damping,
            cg_steps=cg_steps,
            tolerance=tolerance,
            weight_decay=weight_decay,
            decay_mask=decay_mask,
        ),
        _clip(clip_norm),
        optax.scale_by_learning_rate(learning_rate),
    )


def shampoo(
    learning_rate: Scalar,
    *,
    momentum: Scalar = 0.9,
    b2: Scalar = 0.99,
    eps: Scalar = 1e-6,
    block_size: int = 128,
    update_every: int = 1,
    weight_decay: Scalar = 0.0,
    clip_norm: float | None = None,
) -> optax.GradientTransformation:
    """Blocked Shampoo, grafted on RMSProp, with momentum and decoupled decay; `second_order.scale_by_shampoo`.

    Args:
      learning_rate: α ≥ 0, may be traced; of the size that suits Adam, thanks to the grafting.
      momentum: decay of the velocity, in [0, 1), may be traced.
      b2: decay of the statistics, may be traced.
      eps: ridge, relative to the largest eigenvalue, may be traced.
      block_size: largest side of a block.
      update_every: steps between two computations of the inverse roots; saves nothing under `vmap`.
      weight_decay: λ ≥ 0, decoupled as in `adamw`. May be traced.
      clip_norm: largest global gradient norm, applied first; None for no clipping.
    """
    return optax.chain(
        _clip(clip_norm),
        second_order.scale_by_shampoo(b2=b2, eps=eps, block_size=block_size, update_every=update_every),
        optax.trace(decay=momentum),
        optax.add_decayed_weights(weight_decay, mask=decay_mask),
        optax.scale_by_learning_rate(learning_rate),
    )


# name -> (learning rate, momentum, weight_decay, clip_norm) -> transformation. `momentum` is the decay of the first
# moment for the Adams, and is not looked at by those that have none.
OPTIMIZERS: Mapping[str, Callable[..., optax.GradientTransformation]] = {
    "sgd": lambda rate, momentum, **common: sgd(rate, momentum=0.0, **common),
    "momentum": lambda rate, momentum, **common: sgd(rate, momentum=momentum, **common),
    "nesterov": lambda rate, momentum, **common: sgd(rate, momentum=momentum, nesterov=True, **common),
    "adagrad": lambda rate, momentum, **common: adagrad(rate, **common),
    "rmsprop": lambda rate, momentum, **common: rmsprop(rate, **common),
    "adam": lambda rate, momentum, **common: adam(rate, b1=momentum, **common),
    "nadam": lambda rate, momentum, **common: adam(rate, b1=momentum, nesterov=True, **common),
    "adamw": lambda rate, momentum, **common: adamw(rate, b1=momentum, **common),
    "newton_cg": lambda rate, momentum, **common: newton_cg(rate, **common),
    "shampoo": lambda rate, momentum, **common: shampoo(rate, momentum=momentum, **common),
}


IMPROVEMENT = 1e-4  # least relative fall of a loss that counts, as by default in optax and in PyTorch


def reduce_on_plateau(
    optimizer: optax.GradientTransformation,
    *,
    factor: float = 0.1,
    patience: int = 3,
    steps_per_value: int = 1,
    cooldown: int = 0,
    min_scale: float = 0.0,
) -> optax.GradientTransformationExtraArgs:
    """An optimizer whose rate is multiplied by `factor` whenever the loss no longer improves.

    The schedule that depends on more than the step: its state is part of the optimizer's. It watches the training
    loss, which `make_step` hands to every optimizer, averaged over `steps_per_value` steps. It improves if it falls by
    more than 0.01 % of its size, whatever its sign; by optax's own rule a constant negative loss always improves.

    Args:
      optimizer: what is slowed down.
      factor: in (0, 1).
      patience: values without improvement before the rate falls, at least 1.
      steps_per_value: steps averaged into one value; those of an epoch make patience count epochs.
      cooldown: values after a fall in which none is counted.
      min_scale: in [0, 1); the product of all factors stays at or above it.
    Returns: a transformation whose update needs `value=`, the loss.
    Raises: ValueError for numbers out of range, and from `update` without a value.
    Source: `optax.contrib.reduce_on_plateau`; the lecture's "adaptive to plateaus".
    """
    if not 0 < factor < 1:
        raise ValueError(f"factor is {factor}; it must be greater than 0 and less than 1.")
    for name, value, least in (
        ("patience", patience, 1),
        ("steps_per_value", steps_per_value, 1),
        ("cooldown", cooldown, 0),
    ):
        if value < least:
            raise ValueError(f"{name} is {value}; it must be at least {least}.")
    if not 0 <= min_scale < 1:
        raise ValueError(f"min_scale is {min_scale}; it must be at least 0 and less than 1.")
    plateau = optax.contrib.reduce_on_plateau(
        factor, patience, rtol=IMPROVEMENT, accumulation_size=steps_per_value, cooldown=cooldown, min_scale=min_scale
    )

    def update(updates, state: Any, params=None, *, value=None, **extra):
        if value is None:
            raise ValueError("A plateau needs a metric: call update(…, value=loss).")
        # optax wants less than (1 − r)·best, which lies above a negative best. It is shown the best for which this is
        # best − r·|best|, and given the true one back where nothing improved.
        best = state.best_value
        shown = jnp.where(best < 0, best * (1 + IMPROVEMENT) / (1 - IMPROVEMENT), best)
        after: Any
        updates, after = plateau.update(updates, state._replace(best_value=shown), params, value=value, **extra)
        return updates, after._replace(best_value=jnp.where(after.best_value == shown, best, after.best_value))

    return optax.chain(optimizer, optax.GradientTransformationExtraArgs(plateau.init, update))


# With a transformer's tables of positions and its class token, as in timm: they are added to activations as biases are.
NOT_DECAYED = frozenset({"bias", "patch_bias", "scale", "pos_embed", "cls_token"})


def decay_mask(params: Any) -> Any:
    """True where weight decay applies: all but biases, scales of normalisations, learned positions and class tokens.

    By name and not by rank, since the parameters of scanned blocks carry one axis more. What has no name is decayed.
    """

    def decayed(path, _):
        return not path or getattr(path[-1], "key", None) not in NOT_DECAYED

    return jax.tree_util.tree_map_with_path(decayed, params)


def _clip(clip_norm: float | None) -> optax.GradientTransformation:
    if clip_norm is None:
        return optax.identity()
    if clip_norm <= 0:
        raise ValueError(f"clip_norm is {clip_norm}; it must be positive, or None for no clipping.")
    return optax.clip_by_global_norm(clip_norm)
