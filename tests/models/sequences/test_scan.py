"""A scan whose shared gradients are taken at once: values, gradients and second derivatives are those of `lax.scan`."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from etude.models.sequences.scan import scan_products

STEPS, BATCH, WIDTH = 5, 3, 4
PRODUCTS = {
    "hidden": lambda shared, h: h @ shared["kernel"] + shared["bias"],
    "looked": lambda shared, h: jnp.tanh(h[:, None] + shared["keys"]).sum(1),  # not linear
}


def body(product, carry, moving, held):
    h = jnp.tanh(moving["x"] + product("hidden", carry["h"]))
    h = jnp.where(held[:, None], h, carry["h"])
    return {"h": h, "count": carry["count"] + 1}, h * product("looked", h)


def by_lax(shared, carry, moving, held, reverse):
    def product(name, x):
        return PRODUCTS[name](shared, x)

    def step(carry, own):
        return body(product, carry, *own)

    return jax.lax.scan(step, carry, (moving, held), reverse=reverse)


def ours(shared, carry, moving, held, reverse):
    return scan_products(body, PRODUCTS, shared, carry, moving, held, reverse=reverse)


def arguments(seed=0):
    rng = np.random.default_rng(seed)

    def draw(*shape):
        return jnp.asarray(rng.normal(size=shape), jnp.float64)

    shared = {"kernel": draw(WIDTH, WIDTH), "bias": draw(WIDTH), "keys": draw(BATCH, 2, WIDTH)}
    moving, held = {"x": draw(STEPS, BATCH, WIDTH)}, jnp.asarray(rng.integers(0, 2, (STEPS, BATCH)), bool)
    return shared, draw(BATCH, WIDTH), moving, held


def loss(scan, reverse, shared, h, moving, held):
    end, answers = scan(shared, {"h": h, "count": jnp.zeros((), jnp.int32)}, moving, held, reverse)
    return (answers**2).sum() + (jnp.sin(end["h"]) * end["count"]).sum()


def assert_close(ours, theirs):
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-10, atol=1e-12), ours, theirs)


@pytest.mark.parametrize("reverse", [False, True])
def test_values_and_gradients_are_those_of_a_scan(reverse):
    with jax.enable_x64(True):
        shared, h, moving, held = arguments()
        each = [jax.jit(jax.value_and_grad(partial(loss, scan, reverse), (0, 1, 2))) for scan in (ours, by_lax)]
        assert_close(*[f(shared, h, moving, held) for f in each])


def test_second_derivatives_are_those_of_a_scan():
    with jax.enable_x64(True):
        shared, h, moving, held = arguments()
        direction = jax.tree.map(jnp.ones_like, shared)

        def curved(scan):
            gradient = jax.grad(lambda shared: loss(scan, False, shared, h, moving, held))
            forward = jax.jvp(gradient, (shared,), (direction,))[1]  # as Newton's method asks for it
            back = jax.grad(lambda shared: sum(x.sum() for x in jax.tree.leaves(gradient(shared))))(shared)
            return forward, back

        assert_close(curved(ours), curved(by_lax))


def test_gradients_of_a_population_are_those_of_its_members():
    with jax.enable_x64(True):
        members = [arguments(seed) for seed in range(2)]
        gradient = jax.grad(partial(loss, ours, False), (0, 1, 2))
        together = jax.vmap(gradient)(*jax.tree.map(lambda *x: jnp.stack(x), *members))
        alone = jax.tree.map(lambda *x: jnp.stack(x), *[gradient(*each) for each in members])
        assert_close(together, alone)


def test_no_step_sums_what_is_shared_over_devices():
    assert jax.device_count() > 1
    auto = jax.sharding.AxisType.Auto
    mesh = jax.make_mesh((jax.device_count(),), ("batch",), axis_types=(auto,))
    spread = jax.NamedSharding(mesh, jax.P(None, "batch"))
    kernel = {"kernel": jnp.ones((WIDTH, WIDTH))}
    x = jax.device_put(jnp.ones((STEPS, jax.device_count(), WIDTH)), spread)

    def step(product, h, x, held):
        del held
        h = jnp.tanh(x + product("hidden", h))
        return h, h

    def total(scan, kernel, x):
        return scan(kernel, jnp.zeros_like(x[0]), x)[1].sum()

    def sums(scan):
        """Whether devices sum at all, and whether they do in a loop."""
        text = jax.jit(jax.grad(partial(total, scan))).lower(kernel, x).compile().as_text()
        functions = [part for part in text.split("\n\n") if " all-reduce(" in part]
        return bool(functions), any("ENTRY" not in part for part in functions)

    def by_lax(shared, h, x):
        return jax.lax.scan(lambda h, x: step(lambda name, h: h @ shared["kernel"], h, x, None), h, x)

    products = {"hidden": lambda shared, h: h @ shared["kernel"]}
    assert sums(by_lax) == (True, True)
    assert sums(partial(scan_products, step, products)) == (True, False)
