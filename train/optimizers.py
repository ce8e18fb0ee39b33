"""First-order optimizer chains: (learning rate, hyperparameters) -> optax transformation.

The rate is a scalar that may be traced: `make_step` evaluates the schedule at the step of the state and builds the
chain inside the compiled step. So no schedule hides a counter in the optimizer's state, and every member of a
population can have its own rate.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax
import optax

from ..errors import InputError
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

    Weight decay is the classical one: λθ is added to the gradient before the momentum, as in He et al. 2015.

    Args:
      learning_rate: α ≥ 0. May be traced.
      momentum: decay of the velocity, in [0, 1). May be traced.
      nesterov: whether to look ahead along the velocity.
      weight_decay: λ ≥ 0, for the parameters in `decay_mask`. May be traced.
      clip_norm: largest global norm of the gradient, applied first; None for no clipping.
    Returns: the optax transformation.
    Raises: InputError if `clip_norm` is not positive.

    >>> import jax.numpy as jnp
    >>> optimizer, params = sgd(0.1, momentum=0.0, weight_decay=0.5), {"kernel": jnp.array(2.0), "bias": jnp.array(2.0)}
    >>> gradients = {"kernel": jnp.array(1.0), "bias": jnp.array(1.0)}
    >>> updates, _ = optimizer.update(gradients, optimizer.init(params), params)
    >>> print(updates["kernel"], updates["bias"])  # −0.1 (1 + 0.5 · 2); a bias is not decayed
    -0.2 -0.1
    """
    return optax.chain(
        clip(clip_norm),
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
    """Adam with decoupled weight decay (Loshchilov & Hutter 2019). With λ = 0 it is Adam (Kingma & Ba 2015).

    Args:
      learning_rate: α ≥ 0; it scales the weight decay too. May be traced.
      b1: decay of the first moment. May be traced.
      b2: decay of the second moment. May be traced.
      eps: added to the root of the second moment. May be traced.
      weight_decay: λ ≥ 0, for the parameters in `decay_mask`. May be traced.
      clip_norm: largest global norm of the gradient, applied first; None for no clipping.
    Returns: the optax transformation.
    Raises: InputError if `clip_norm` is not positive.
    """
    return optax.chain(
        clip(clip_norm),
        optax.scale_by_adam(b1=b1, b2=b2, eps=eps),
        optax.add_decayed_weights(weight_decay, mask=decay_mask),
        optax.scale_by_learning_rate(learning_rate),
    )


def adagrad(
    learning_rate: Scalar,
    *,
    initial_accumulator_value: Scalar = 0.1,
    eps: Scalar = 1e-7,
    weight_decay: Scalar = 0.0,
    clip_norm: float | None = None,
) -> optax.GradientTransformation:
    """AdaGrad: θ ← θ − α g / √(a + Σ g² + ε) (Duchi, Hazan & Singer 2011, figure 1, diagonal).

    Args:
      learning_rate: α ≥ 0. May be traced.
      initial_accumulator_value: a ≥ 0. May be traced.
      eps: ε > 0. May be traced.
      weight_decay: λ ≥ 0; λθ is added to the gradient first. May be traced.
      clip_norm: largest global norm of the gradient, applied first; None for no clipping.
    Returns: the optax transformation.
    Raises: InputError if `clip_norm` is not positive.
    """
    return optax.chain(
        clip(clip_norm),
        optax.add_decayed_weights(weight_decay, mask=decay_mask),
        optax.scale_by_rss(initial_accumulator_value, eps),  # pyright: ignore[reportArgumentType]
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
    """RMSProp as in PyTorch: v ← ρv + (1 − ρ)g²; θ ← θ − α g / (√v + ε) (Tieleman & Hinton 2012, lecture 6.5).

    Args:
      learning_rate: α ≥ 0. May be traced.
      decay: ρ in [0, 1). May be traced.
      eps: ε > 0. May be traced.
      weight_decay: λ ≥ 0; λθ is added to the gradient first. May be traced.
      clip_norm: largest global norm of the gradient, applied first; None for no clipping.
    Returns: the optax transformation.
    Raises: InputError if `clip_norm` is not positive.
    """
    return optax.chain(
        clip(clip_norm),
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
    """Adam (Kingma & Ba 2015, algorithm 1). With `nesterov` it is Nadam (Dozat 2016).

    Args:
      learning_rate: α ≥ 0. May be traced.
      b1: decay of the first moment. May be traced.
      b2: decay of the second moment. May be traced.
      eps: added to the root of the second moment. May be traced.
      nesterov: whether to look ahead along the first moment.
      weight_decay: λ ≥ 0; λθ is added to the gradient first, so, unlike in `adamw`, the moments scale it. May be
        traced.
      clip_norm: largest global norm of the gradient, applied first; None for no clipping.
    Returns: the optax transformation.
    Raises: InputError if `clip_norm` is not positive.
    """
    return optax.chain(
        clip(clip_norm),
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
    """Truncated Newton: θ ← θ − α p, where conjugate gradients solve (H + λ + μ) p = g + λθ; see `scale_by_newton_cg`.

    Args:
      learning_rate: α ≥ 0; 1 gives the step of Newton's method. May be traced.
      damping: μ ≥ 0. May be traced.
      cg_steps: the most products with the Hessian per step.
      tolerance: τ ≥ 0, the residual at which the solver stops, relative to ‖g‖; 0 to use all `cg_steps`. May be traced.
      weight_decay: λ ≥ 0, a part of the objective, so it enters the gradient and the Hessian. May be traced.
      clip_norm: largest norm of the whole step p; None for no clipping.
    Returns: the optax transformation.
    Raises: InputError if `clip_norm` is not positive, or if `cg_steps` < 1.
    """
    return optax.chain(
        second_order.scale_by_newton_cg(
            damping=damping,
            cg_steps=cg_steps,
            tolerance=tolerance,
            weight_decay=weight_decay,
            decay_mask=decay_mask,
        ),
        clip(clip_norm),
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
    """Blocked Shampoo (`second_order.scale_by_shampoo`), grafted on RMSProp, with momentum and decoupled weight decay.

    Args:
      learning_rate: α ≥ 0. Because of the grafting, rates that suit Adam suit it too. May be traced.
      momentum: decay of the velocity, in [0, 1). May be traced.
      b2: decay of the statistics. May be traced.
      eps: ridge, relative to the largest eigenvalue. May be traced.
      block_size: largest side of a block.
      update_every: number of steps between two computations of the inverse roots. It saves nothing under `vmap`.
      weight_decay: λ ≥ 0, decoupled as in `adamw`. May be traced.
      clip_norm: largest global norm of the gradient, applied first; None for no clipping.
    Returns: the optax transformation.
    Raises: InputError if `clip_norm`, `block_size` or `update_every` is not positive.
    """
    return optax.chain(
        clip(clip_norm),
        second_order.scale_by_shampoo(b2=b2, eps=eps, block_size=block_size, update_every=update_every),
        optax.trace(decay=momentum),
        optax.add_decayed_weights(weight_decay, mask=decay_mask),
        optax.scale_by_learning_rate(learning_rate),
    )


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
"""name -> (learning rate, momentum, weight_decay, clip_norm) -> transformation.

For Adam and its variants `momentum` is the decay of the first moment. Those of `NO_MOMENTUM` ignore it."""

NO_MOMENTUM = frozenset({"sgd", "adagrad", "rmsprop", "newton_cg"})


# As in timm, these include a transformer's position embeddings and class token, which are added to activations, like
# biases.
NOT_DECAYED = frozenset({"bias", "patch_bias", "scale", "pos_embed", "cls_token"})


def decay_mask(params: Any) -> Any:
    """True where weight decay applies: not to biases, scales of normalizations, learned positions and class tokens.

    It goes by name and not by rank, because the parameters of scanned blocks have one more axis. Parameters without a
    name are decayed.

    Args:
      params: the parameters, any pytree.
    Returns: a tree of bools of the same structure.

    >>> decay_mask({"dense": {"kernel": 1.0, "bias": 1.0}})
    {'dense': {'bias': False, 'kernel': True}}
    """

    def decayed(path, _):
        return not path or getattr(path[-1], "key", None) not in NOT_DECAYED

    return jax.tree_util.tree_map_with_path(decayed, params)


def clip(clip_norm: float | None) -> optax.GradientTransformation:
    """Scales gradients down to this global norm; None leaves them. Raises InputError if it is not positive."""
    if clip_norm is None:
        return optax.identity()
    if clip_norm <= 0:
        raise InputError(f"clip_norm is {clip_norm}; it must be positive, or None for no clipping.")
    return optax.clip_by_global_norm(clip_norm)
