"""Second-order methods that optax lacks: truncated Newton by conjugate gradients, and Shampoo.

Both are optax transformations without a learning rate; `optimizers` builds chains with them. Newton's method needs the
loss as a function of the parameters, which `make_step` passes to every optimizer as `value_fn`. Shampoo needs only
gradients.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.flatten_util import ravel_pytree

from ..errors import InputError

Scalar = float | jax.Array


def scale_by_newton_cg(
    *,
    damping: Scalar = 0.0,
    cg_steps: int = 10,
    tolerance: Scalar = 0.5,
    weight_decay: Scalar = 0.0,
    decay_mask: Callable[[Any], Any] | None = None,
) -> optax.GradientTransformationExtraArgs:
    """g -> p with (H + μ) p = g, approximately, where H is the Hessian of the loss on the minibatch.

    It runs conjugate gradients on Hessian-vector products from p = 0. It stops when the residual is at most
    min(τ, √‖g‖)·‖g‖, at a direction of negative curvature, or after `cg_steps`. At negative curvature it returns the p
    it has, which is a descent direction; if the first direction is one, it returns the gradient. A gradient that is not
    finite gives NaN.

    Args:
      damping: μ ≥ 0. May be traced.
      cg_steps: at least 1. Each step costs about two gradients.
      tolerance: τ ≥ 0. The book's ½ accepts a rough solution far from a minimum. 0 solves as far as `cg_steps` and
        rounding allow, which is the step of Newton's method. May be traced.
      weight_decay: λ ≥ 0 of λ/2 ‖θ‖², a part of the objective. May be traced.
      decay_mask: params -> tree of bools that says where λ applies; None for everywhere.
    Returns: a transformation whose `update` needs `params` and `value_fn`, params -> loss of the minibatch.
    Raises: InputError if `cg_steps` < 1, and from `update` without `value_fn`.
    Source: Nocedal & Wright 2006, algorithm 7.1; Martens 2010 for the damping.

    >>> loss = lambda x: (jnp.array([1.0, 4.0]) * x**2).sum() / 2
    >>> x, optimizer = jnp.array([3.0, -5.0]), scale_by_newton_cg(tolerance=0.0)
    >>> step, _ = optimizer.update(jax.grad(loss)(x), optimizer.init(x), x, value_fn=loss)
    >>> print((x - step).round(3) + 0.0)  # one step reaches the minimum of a quadratic
    [0. 0.]
    """
    if cg_steps < 1:
        raise InputError(f"cg_steps is {cg_steps}; it must be at least 1.")

    def update(updates, state, params=None, *, value_fn=None, **_):
        if value_fn is None or params is None:
            raise InputError(
                "Newton's method needs the loss as a function of the parameters: "
                "call update(…, params, value_fn=loss). make_step does so in every layout but pmap."
            )
        flat, unravel = ravel_pytree(params)
        decayed = jnp.asarray(weight_decay, flat.dtype) * _flat_mask(params, decay_mask)
        gradient = ravel_pytree(updates)[0] + decayed * flat
        slope = jax.grad(lambda flat: value_fn(unravel(flat)))

        def product(direction):
            return jax.jvp(slope, (flat,), (direction,))[1] + (decayed + damping) * direction

        return unravel(_conjugate_gradients(product, gradient, cg_steps, tolerance)), state

    return optax.GradientTransformationExtraArgs(lambda params: optax.EmptyState(), update)


def _flat_mask(params: Any, decay_mask: Callable[[Any], Any] | None) -> jax.Array:
    mask = jax.tree.map(lambda _: True, params) if decay_mask is None else decay_mask(params)
    return ravel_pytree(jax.tree.map(lambda x, kept: jnp.full(x.shape, kept, x.dtype), params, mask))[0]


def _conjugate_gradients(
    product: Callable[[jax.Array], jax.Array], gradient: jax.Array, steps: int, tolerance: Scalar
) -> jax.Array:
    size = jnp.linalg.norm(gradient)
    # NaN if the gradient is not finite. No residual is below NaN, so the system does not count as solved.
    enough = jnp.where(jnp.isfinite(size), jnp.minimum(tolerance, jnp.sqrt(size)) * size, jnp.nan)

    def unfinished(carry):
        step, _, residual, _, negative = carry
        return (step < steps) & ~(jnp.linalg.norm(residual) <= enough) & ~negative

    def body(carry):
        step, solution, residual, direction, _ = carry
        image = product(direction)
        curved = direction @ image
        negative = curved <= 0
        square = residual @ residual
        length = square / jnp.where(negative, 1.0, curved)
        fallback = jnp.where(step == 0, gradient, solution)
        solution = jnp.where(negative, fallback, solution + length * direction)
        after = residual - length * image
        direction = after + (after @ after) / square * direction
        return step + 1, solution, after, direction, negative

    start = (0, jnp.zeros_like(gradient), gradient, gradient, jnp.asarray(False))
    return jax.lax.while_loop(unfinished, body, start)[1]


class ShampooLeaf(NamedTuple):
    """Statistics of one parameter, in blocks. Vectors have no right side."""

    left: jax.Array
    """L of each block, [rows of blocks, columns of blocks, side, side]."""
    right: jax.Array | None
    """R of each block, likewise; None for vectors."""
    left_root: jax.Array
    """The inverse root of `left`, same shape."""
    right_root: jax.Array | None
    """The inverse root of `right`, same shape; None for vectors."""
    moment: jax.Array
    """Second moment of the gradient, for RMSProp's length; same shape as the parameter."""


class ShampooState(NamedTuple):
    """The state of `scale_by_shampoo`."""

    steps: jax.Array
    """Number of steps so far, int32 []."""
    leaves: tuple[ShampooLeaf, ...]
    """The statistics of each parameter, in the order of the tree."""


def scale_by_shampoo(
    *, b2: Scalar = 0.99, eps: Scalar = 1e-6, block_size: int = 128, update_every: int = 1
) -> optax.GradientTransformation:
    """G -> L^(−1/4) G R^(−1/4) for matrices, L^(−1/2) g for vectors, with the length of RMSProp's step.

    L is a moving average of G Gᵀ, R one of Gᵀ G. Parameters of higher rank are read as matrices whose columns are the
    last axis. Matrices are cut into blocks, each with its own statistics. A ridge of `eps` times the largest eigenvalue
    keeps the roots finite, even for zero gradients. The direction is Shampoo's; the length of each parameter's step is
    RMSProp's ("grafting").

    Args:
      b2: decay of the averages, in [0, 1). May be traced.
      eps: ε > 0. May be traced.
      block_size: largest side of a block, at least 1.
      update_every: number of steps between two computations of the roots, at least 1; the first step computes them. It
        saves nothing under `vmap`, which computes both branches.
    Returns: the optax transformation.
    Raises: InputError if `block_size` or `update_every` < 1.
    Source: Gupta, Koren & Singer 2018, algorithm 1; blocks, grafting and delayed roots of Anil et al. 2020, sections 3
      and 4.
    """
    for name, value in (("block_size", block_size), ("update_every", update_every)):
        if value < 1:
            raise InputError(f"{name} is {value}; it must be at least 1.")

    def init(params):
        return ShampooState(jnp.zeros((), jnp.int32), tuple(_init_leaf(p, block_size) for p in jax.tree.leaves(params)))

    def update(updates, state, params=None):
        del params
        gradients, structure = jax.tree.flatten(updates)
        count = state.steps + 1
        refresh = state.steps % update_every == 0
        done = [_update_leaf(g, leaf, count, refresh, b2, eps) for g, leaf in zip(gradients, state.leaves, strict=True)]
        steps, leaves = zip(*done, strict=True)
        return jax.tree.unflatten(structure, steps), ShampooState(count, leaves)

    return optax.GradientTransformation(init, update)  # pyright: ignore[reportArgumentType]


def _init_leaf(param: jax.Array, block_size: int) -> ShampooLeaf:
    rows, columns = _matrix_shape(param.shape)
    left = _eyes(_grid(rows, columns, block_size), min(rows, block_size))
    right = _eyes(_grid(rows, columns, block_size), min(columns, block_size)) if columns > 1 else None
    nothing = None if right is None else jnp.zeros_like(right)
    return ShampooLeaf(jnp.zeros_like(left), nothing, left, right, jnp.zeros(param.shape, jnp.float32))


def _matrix_shape(shape: tuple[int, ...]) -> tuple[int, int]:
    """(rows, columns) of a parameter. Its last axis becomes the columns; vectors and scalars have one column."""
    size = 1
    for side in shape[:-1]:
        size *= side
    return (size, shape[-1]) if size > 1 and len(shape) > 1 else (shape[-1] if shape else 1, 1)


def _grid(rows: int, columns: int, block_size: int) -> tuple[int, int]:
    return -(-rows // block_size), -(-columns // block_size)


def _eyes(grid: tuple[int, int], side: int) -> jax.Array:
    return jnp.broadcast_to(jnp.eye(side), (*grid, side, side))


def _update_leaf(
    gradient: jax.Array, leaf: ShampooLeaf, count: jax.Array, refresh: jax.Array, b2: Scalar, eps: Scalar
) -> tuple[jax.Array, ShampooLeaf]:
    g = gradient.astype(jnp.float32)
    blocks = _to_blocks(g, leaf)  # [grid rows, grid columns, side, side]
    left = b2 * leaf.left + (1 - b2) * blocks @ blocks.swapaxes(-1, -2)
    right = None
    if leaf.right is not None:
        right = b2 * leaf.right + (1 - b2) * blocks.swapaxes(-1, -2) @ blocks
    exponent = -0.25 if right is not None else -0.5
    # There is no bias correction: it would scale a root by a number, which the grafting removes again.
    left_root, right_root = jax.lax.cond(
        refresh,
        lambda: jax.tree.map(lambda statistic: _power(statistic, exponent, eps), (left, right)),
        lambda: (leaf.left_root, leaf.right_root),
    )
    direction = left_root @ blocks if right_root is None else left_root @ blocks @ right_root
    moment = b2 * leaf.moment + (1 - b2) * g**2
    grafted = g / (jnp.sqrt(moment / (1 - jnp.asarray(b2, jnp.float32) ** count)) + 1e-8)
    direction = _from_blocks(direction, g.shape)
    length = jnp.linalg.norm(grafted.ravel()) / jnp.maximum(jnp.linalg.norm(direction.ravel()), 1e-30)
    return (length * direction).astype(gradient.dtype), ShampooLeaf(left, right, left_root, right_root, moment)


def _to_blocks(g: jax.Array, leaf: ShampooLeaf) -> jax.Array:
    rows, columns = _matrix_shape(g.shape)
    across, along, height, _ = leaf.left.shape
    width = 1 if leaf.right is None else leaf.right.shape[-1]
    padded = jnp.pad(g.reshape(rows, columns), ((0, across * height - rows), (0, along * width - columns)))
    return padded.reshape(across, height, along, width).swapaxes(1, 2)


def _from_blocks(blocks: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    rows, columns = _matrix_shape(shape)
    across, along, height, width = blocks.shape
    matrix = blocks.swapaxes(1, 2).reshape(across * height, along * width)
    return matrix[:rows, :columns].reshape(shape)


def _power(matrices: jax.Array, exponent: float, eps: Scalar) -> jax.Array:
    """Powers of positive semidefinite matrices [..., n, n], with a ridge of eps times the largest eigenvalue."""
    values, vectors = jnp.linalg.eigh(matrices)
    largest = jnp.maximum(values[..., -1:], 1e-30)
    ridge = jnp.maximum(eps * largest, jnp.finfo(values.dtype).tiny)  # smaller numbers are flushed to 0
    powers = (jnp.maximum(values, 0.0) + ridge) ** exponent
    return (vectors * powers[..., None, :]) @ vectors.swapaxes(-1, -2)
