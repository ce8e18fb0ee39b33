"""What the convergence theorem of stochastic gradient descent speaks of, measured: paths, curvature, noise.

For f with L-Lipschitz gradient, minibatch gradients g with E g = ∇f(θ) and E‖g‖² ≤ σ², and steps α_0, α_1, …,

    min_{t<T} E‖∇f(θ_t)‖² ≤ (f(θ_0) − f*) / Σ_{t<T} α_t + (Lσ²/2) · Σ_{t<T} α_t² / Σ_{t<T} α_t.

Everything here is a function of (objective, parameters, examples); `metrics.convergence` has the right side. The
objective is that of a batch: (parameters, batch) -> scalar mean. Minibatches are drawn independently and with
replacement, as the theorem wants them, and not by epochs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.flatten_util import ravel_pytree

Examples = Mapping[str, jax.Array]
Objective = Callable[[Any, Examples], jax.Array]


def sgd_path(
    objective: Objective,
    params: Any,
    examples: Examples,
    rates: jax.Array,
    key: jax.Array,
    logged: jax.Array,
    *,
    batch_size: int | None,
) -> dict[str, Any]:
    """Plain gradient descent from `params`, looked at now and then with the gradient of all examples.

    Args:
      objective: f.
      params: θ_0.
      examples: {name: [n, …]}, all of them.
      rates: α_0 … α_{T−1}, [T].
      key: draws the minibatches; step t uses `fold_in(key, t)`.
      logged: ascending steps 0 … T−1 at which to look, int [logs]: at t, before step t.
      batch_size: examples a step, drawn with replacement; None for all of them, without noise.
    Returns: {"loss" [logs] f(θ_t), "gradient_norm2" [logs] ‖∇f(θ_t)‖², "params": θ_t stacked [logs, …]}.
    """
    count = len(jax.tree.leaves(examples)[0])

    def step(t, params):
        batch = examples
        if batch_size is not None:
            rows = jax.random.randint(jax.random.fold_in(key, t), (batch_size,), 0, count)
            batch = {name: array[rows] for name, array in examples.items()}
        gradient = jax.grad(objective)(params, batch)
        return jax.tree.map(lambda p, g: p - rates[t] * g, params, gradient)

    def segment(params, ends):
        first, last = ends
        params = jax.lax.fori_loop(first, last, step, params)
        loss, gradient = jax.value_and_grad(objective)(params, examples)
        return params, {"loss": loss, "gradient_norm2": optax.tree.norm(gradient, squared=True), "params": params}

    begins = jnp.concatenate([jnp.zeros(1, logged.dtype), logged[:-1]])
    return jax.lax.scan(segment, params, (begins, logged))[1]


def curvature(
    objective: Objective, params: Any, examples: Examples, key: jax.Array, *, iterations: int = 30
) -> jax.Array:
    """The largest |eigenvalue| of the Hessian, by power iteration on Hessian-vector products.

    It approaches the value from below; along a path, its largest value is the L that the path has seen.

    Args:
      objective: f.
      params: where.
      examples: all of them.
      key: of the first direction.
      iterations: each costs two gradients.
    Returns: float32 [].
    """
    flat, unravel = ravel_pytree(params)
    gradient = jax.grad(lambda flat: objective(unravel(flat), examples))

    def body(_, carry):
        direction, _ = carry
        product = jax.jvp(gradient, (flat,), (direction,))[1]
        size = jnp.linalg.norm(product)
        return product / jnp.maximum(size, 1e-30), size

    direction = jax.random.normal(key, flat.shape)
    direction /= jnp.linalg.norm(direction)
    return jax.lax.fori_loop(0, iterations, body, (direction, jnp.float32(0)))[1]


def second_moment(
    objective: Objective, params: Any, examples: Examples, *, batch_size: int | None, chunk: int = 256
) -> jax.Array:
    """E‖g‖² of a minibatch gradient, exactly: ‖∇f‖² + (mean_i ‖∇f_i‖² − ‖∇f‖²) / B for draws with replacement.

    Args:
      objective: f, a mean over the examples of a batch.
      params: where.
      examples: all of them.
      batch_size: B; None for all examples, where it is ‖∇f‖².
      chunk: per-example gradients held at a time.
    Returns: float32 [].
    """
    whole = optax.tree.norm(jax.grad(objective)(params, examples), squared=True)
    if batch_size is None:
        return whole

    def one(example):
        batch = {name: x[None] for name, x in example.items()}
        return optax.tree.norm(jax.grad(objective)(params, batch), squared=True)

    single = jax.lax.map(one, dict(examples), batch_size=chunk).mean()
    return whole + (single - whole) / batch_size
