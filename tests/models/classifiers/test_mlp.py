"""The multilayer perceptron against its formula written by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from etude import models
from etude.models import MLP
from etude.models.layers import activations


def slides_network(**fields):
    """6 → 4 → 3 → 1, with parameters none of which is 0."""
    model = MLP(1, hidden=(4, 3), **fields)
    params = model.init(jax.random.key(0), jnp.zeros((1, 6)))["params"]
    rng = np.random.default_rng(1)
    return model, jax.tree.map(lambda leaf: jnp.asarray(rng.normal(size=leaf.shape), jnp.float32), params)


def test_the_slides_network_has_47_parameters():
    _, params = slides_network()
    sizes = [params[layer][kind].size for layer in ("hidden1", "hidden2", "output") for kind in ("kernel", "bias")]
    assert sizes == [24, 4, 12, 3, 3, 1]
    assert models.count_parameters(MLP(1, hidden=(4, 3)), (6,)) == 47


@pytest.mark.parametrize("name", activations.ACTIVATIONS)
def test_forward_equals_the_formula_written_by_hand(name):
    sigma = activations.get_activation(name)
    model, params = slides_network(activation=sigma)
    x = np.random.default_rng(2).normal(size=(5, 6)).astype(np.float32)
    # h(x) = b₃ + W₃ σ(b₂ + W₂ σ(b₁ + W₁ x)), one column x at a time; W is the transposed kernel.
    (w1, b1), (w2, b2), (w3, b3) = (
        (np.asarray(params[layer]["kernel"]).T, np.asarray(params[layer]["bias"]))
        for layer in ("hidden1", "hidden2", "output")
    )
    expected = [b3 + w3 @ sigma(b2 + w2 @ sigma(b1 + w1 @ column)) for column in x]
    np.testing.assert_allclose(model.apply({"params": params}, x), expected, rtol=1e-5, atol=1e-6)


def test_without_an_activation_between_them_layers_are_one_linear_map():
    model, params = slides_network(activation=lambda t: t)
    x, y = jax.random.normal(jax.random.key(3), (2, 4, 6))
    apply = lambda x: model.apply({"params": params}, x)
    np.testing.assert_allclose(apply(x + y) + apply(0 * x), apply(x) + apply(y), rtol=1e-4, atol=1e-4)
    bent, _ = slides_network(activation=jnp.tanh)
    apply = lambda x: bent.apply({"params": params}, x)
    assert not np.allclose(apply(x + y) + apply(0 * x), apply(x) + apply(y), atol=0.1)


def test_an_image_is_read_as_one_long_vector():
    model, params = slides_network()
    x = jax.random.normal(jax.random.key(4), (5, 1, 2, 3))
    flat = model.apply({"params": params}, x.reshape(5, 6))
    np.testing.assert_array_equal(model.apply({"params": params}, x), flat)


def test_the_computation_may_be_in_bfloat16_and_the_output_is_float32():
    model, params = slides_network(dtype=jnp.bfloat16)
    y = model.apply({"params": params}, jnp.ones((2, 6)))
    assert y.dtype == jnp.float32
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(params))


@pytest.mark.parametrize(
    ("model", "shape", "message"),
    [
        (MLP(1), (6,), r"\[batch, ...\]"),
        (MLP(1, hidden=(4, 0)), (1, 6), r"positive widths; they are \(4, 0\)"),
        (MLP(0, hidden=()), (1, 6), "positive widths"),
        (MLP(1, activation="tanh"), (1, 6), "activation is 'tanh'; give the function"),
    ],
)
def test_what_is_no_network_is_refused(model, shape, message):
    with pytest.raises(ValueError, match=message):
        model.init(jax.random.key(0), jnp.zeros(shape))
