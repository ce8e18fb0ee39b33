"""Measurements of the quantities in the convergence theorem of stochastic gradient descent: paths, curvature and noise.

For f with an L-Lipschitz gradient, minibatch gradients g with E g = ∇f(θ) and E‖g‖² ≤ σ², and rates α_0, α_1, …,

    min_{t<T} E‖∇f(θ_t)‖² ≤ (f(θ_0) − f*) / Σ_{t<T} α_t + (Lσ²/2) · Σ_{t<T} α_t² / Σ_{t<T} α_t.

Everything here is a function of (objective, parameters, examples). `metrics.convergence` has the right side. The
objective is that of a batch: (parameters, batch) -> scalar mean. Minibatches are drawn independently and with
replacement, as the theorem assumes, and not by epochs.
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
"""(parameters, batch) -> scalar, the mean over the batch."""


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
    """Runs plain gradient descent from `params`, and at given steps measures the loss and gradient over all examples.

    Args:
      objective: f, (parameters, batch) -> scalar mean.
      params: θ_0, any pytree.
      examples: {name: [n, …]}, all examples.
      rates: α_0 … α_{T−1}, [T].
      key: key of the minibatches; step t uses `fold_in(key, t)`.
      logged: ascending steps in 0 … T−1, int [logs]. The measurement at t precedes step t.
      batch_size: number of examples per step, drawn with replacement; None for all of them, without noise.
    Returns: {"loss": f(θ_t) [logs], "gradient_norm2": ‖∇f(θ_t)‖² [logs], "params": θ_t stacked, [logs, …]}.

    >>> half_square = lambda x, batch: (x**2).sum() / 2
    >>> path = sgd_path(half_square, jnp.ones(1), {"x": jnp.zeros((1, 1))}, jnp.full(3, 0.5), jax.random.key(0),
    ...                 jnp.arange(3), batch_size=None)
    >>> print(path["params"][:, 0])  # each step halves x
    [1.   0.5  0.25]
    """
    num_examples = len(jax.tree.leaves(examples)[0])

    def step(t, params):
        batch = examples
        if batch_size is not None:
            rows = jax.random.randint(jax.random.fold_in(key, t), (batch_size,), 0, num_examples)
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
    objective: Objective, params: Any, examples: Examples, key: jax.Array, *, num_iterations: int = 30
) -> jax.Array:
    """The largest |eigenvalue| of the Hessian, by power iteration on Hessian-vector products.

    The estimate approaches the value from below. Its largest value along a path is the L of that path.

    Args:
      objective: f, (parameters, batch) -> scalar mean.
      params: where to measure, any pytree.
      examples: {name: [n, …]}, all examples.
      key: key of the first direction.
      num_iterations: number of iterations. Each costs two gradients.
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
    return jax.lax.fori_loop(0, num_iterations, body, (direction, jnp.float32(0)))[1]


def second_moment(
    objective: Objective, params: Any, examples: Examples, *, batch_size: int | None, chunk: int = 256
) -> jax.Array:
    """E‖g‖² of a minibatch gradient, exactly.

    For draws with replacement it is ‖∇f‖² + (mean_i ‖∇f_i‖² − ‖∇f‖²) / B.

    Args:
      objective: f, (parameters, batch) -> mean over the examples of the batch.
      params: where to measure, any pytree.
      examples: {name: [n, …]}, all examples.
      batch_size: B; None for all examples, where it is ‖∇f‖².
      chunk: number of per-example gradients in memory at a time.
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
