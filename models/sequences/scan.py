"""A scan that takes the gradients by what all of its steps share at once, not step by step."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

Product = Callable[[str, jax.Array], jax.Array]
"""(its name, what changes from step to step) -> its product with what is shared."""
Body = Callable[[Product, Any, Any, Any], tuple[Any, Any]]
"""(product, carry, moving, held) -> (carry, answer)."""
Products = Mapping[str, Callable[[Any, jax.Array], jax.Array]]
"""(shared, what changes from step to step) -> their product."""


def scan_products(
    body: Body, products: Products, shared: Any, carry: Any, moving: Any, held: Any = None, *, reverse: bool = False
) -> tuple[Any, Any]:
    """`lax.scan` of a body that uses shared arrays, such as matrices or what it looks at, in named products alone.

    The gradient by a shared array is a sum over steps. `lax.scan` adds it up in the loop: each step reads and writes
    arrays of that size, and sums them over devices where the batch is spread. Here the loop goes back through carries
    and products alone, and one large product makes the sum, as cuDNN does. Not for forward differentiation (`jax.jvp`).

    Args:
      body: one step. It closes over no traced array, and uses a product of a name once.
      products: the products that it uses.
      shared: arrays that they use.
      carry: before the first step.
      moving: arrays [steps, …], of which each step gets its own.
      held: the same, but integers, booleans or others without a gradient.
      reverse: scan from the last step to the first.
    Returns: (carry after the last step, answers [steps, …]).
    """
    return _scan(body, _Frozen(products), reverse, shared, carry, moving, held)


class _Frozen(dict):
    """A table that can be an argument which is not differentiated."""

    __hash__ = object.__hash__  # type: ignore[assignment]
    __eq__ = object.__eq__  # type: ignore[assignment]


@partial(jax.custom_vjp, nondiff_argnums=(0, 1, 2))
def _scan(body, products, reverse, shared, carry, moving, held):
    def product(name, x):
        return products[name](shared, x)

    return jax.lax.scan(lambda carry, own: body(product, carry, *own), carry, (moving, held), reverse=reverse)


def _forward(body, products, reverse, shared, carry, moving, held):
    def step(carry, own, added):
        """One step, with something added to each product, and what the products took."""
        taken = {}

        def product(name, x):
            taken[name] = x
            y = products[name](shared, x)
            return y if added is None else y + added[name]

        return body(product, carry, *own), taken

    first = jax.tree.map(lambda x: x[0], (moving, held))
    taken = jax.eval_shape(lambda carry, own: step(carry, own, None)[1], carry, first)
    steps = len(jax.tree.leaves(moving)[0])
    shapes = {name: jax.eval_shape(products[name], shared, x) for name, x in taken.items()}
    nothing = {name: jnp.zeros((steps, *each.shape), each.dtype) for name, each in shapes.items()}

    def run(carry, moving, added):
        def one(carry, own):
            (after, answer), taken = step(carry, own[:2], own[2])
            return after, (answer, taken)

        end, (answers, taken) = jax.lax.scan(one, carry, (moving, held, added), reverse=reverse)
        return (end, answers), taken

    out, back, taken = jax.vjp(run, carry, moving, nothing, has_aux=True)
    return out, (back, shared, taken)


def _backward(body, products, reverse, kept, cotangents):
    del body, reverse
    back, shared, taken = kept
    of_carry, of_moving, of_products = back(cotangents)

    def all_steps(shared):
        return {name: jax.vmap(partial(products[name], shared))(x) for name, x in taken.items()}

    (of_shared,) = jax.vjp(all_steps, shared)[1](of_products)
    return of_shared, of_carry, of_moving, None


_scan.defvjp(_forward, _backward)
