"""Activations, their slopes and their curvatures against closed forms in float64, and far out."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from etude.models.layers import ACTIVATIONS, activations, get_activation, leaky_relu, swish
from scipy.special import erf

# Where none of them has a kink.
POINTS = np.concatenate([np.linspace(-30, 30, 241) + 1e-3, [-700.0, -90.0, -1e-6, 1e-6, 90.0, 700.0]])
C = np.sqrt(2 / np.pi)


def logistic(t):
    return np.exp(-np.logaddexp(0, -t))


def density(t):
    return np.exp(-(t**2) / 2) / np.sqrt(2 * np.pi)


def sech2(t):
    with np.errstate(over="ignore"):
        return 1 / np.cosh(t) ** 2


def swish_slope(t, beta):
    return logistic(beta * t) + beta * t * logistic(beta * t) * logistic(-beta * t)


def tanh_gelu_slope(t):
    inner = C * (t + 0.044715 * t**3)
    return (1 + np.tanh(inner)) / 2 + t / 2 * sech2(inner) * C * (1 + 3 * 0.044715 * t**2)


CLOSED_FORMS = {  # name -> (value, slope)
    "sigmoid": (logistic, lambda t: logistic(t) * logistic(-t)),
    "tanh": (lambda t: (1 - np.exp(-2 * np.abs(t))) / (1 + np.exp(-2 * np.abs(t))) * np.sign(t), sech2),
    "relu": (lambda t: np.maximum(0, t), lambda t: 1.0 * (t > 0)),
    "leaky_relu": (lambda t: np.maximum(0, t) + 0.01 * np.minimum(0, t), lambda t: np.where(t > 0, 1, 0.01)),
    "swish": (lambda t: t * logistic(t), lambda t: swish_slope(t, 1)),
    "gelu": (lambda t: t * (1 + erf(t / np.sqrt(2))) / 2, lambda t: (1 + erf(t / np.sqrt(2))) / 2 + t * density(t)),
    "gelu_tanh": (lambda t: t * (1 + np.tanh(C * (t + 0.044715 * t**3))) / 2, tanh_gelu_slope),
}


def test_every_activation_has_a_closed_form_here():
    assert ACTIVATIONS.keys() == CLOSED_FORMS.keys()


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_values_and_slopes_equal_the_closed_forms_in_float64(name):
    value, slope = CLOSED_FORMS[name]
    with jax.enable_x64(True):
        t = jnp.asarray(POINTS)
        # Where 1 ± tanh or 1 ± erf vanish they are rounded to 1e-16, which t or an inner slope multiplies.
        np.testing.assert_allclose(get_activation(name)(t), value(POINTS), rtol=1e-12, atol=1e-13)
        np.testing.assert_allclose(jax.vmap(jax.grad(get_activation(name)))(t), slope(POINTS), rtol=1e-12, atol=1e-13)


@pytest.fixture
def optimized():
    """Compiles as users do: without optimizations, XLA's tanh is a rounding less exact."""
    before = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", False)
    yield
    jax.config.update("jax_disable_most_optimizations", before)


@pytest.mark.usefixtures("optimized")
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_float32_is_within_its_rounding_of_the_closed_forms(name):
    value, slope = CLOSED_FORMS[name]
    t = np.linspace(-8, 8, 401, dtype=np.float32) + np.float32(1e-3)
    exact = t.astype(np.float64)
    # 1 + tanh is rounded to 6e-8, and t or the slope of what is in the tanh multiplies that.
    np.testing.assert_allclose(get_activation(name)(t), value(exact), rtol=2e-6, atol=2e-6)
    np.testing.assert_allclose(jax.vmap(jax.grad(get_activation(name)))(t), slope(exact), rtol=2e-6, atol=5e-6)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_value_slope_and_curvature_far_out_are_those_of_a_straight_line(name):
    sides = {"sigmoid": ((0, 0), (1, 0)), "tanh": ((-1, 0), (1, 0)), "leaky_relu": ((-100, 0.01), (1e4, 1))}
    for t, (value, slope) in zip((-1e4, 1e4), sides.get(name, ((0, 0), (1e4, 1))), strict=True):
        sigma = get_activation(name)
        measured = [sigma(t), jax.grad(sigma)(t), jax.grad(jax.grad(sigma))(t)]
        np.testing.assert_allclose(measured, [value, slope, 0], rtol=1e-6)


@pytest.mark.parametrize("beta", [-1.0, 0.0, 0.5, 20.0])
def test_swish_and_its_derivative_for_beta_equal_the_closed_forms(beta):
    with jax.enable_x64(True):
        t, betas = jnp.asarray(POINTS), jnp.full(len(POINTS), beta)
        np.testing.assert_allclose(swish(t, beta), POINTS * logistic(beta * POINTS), rtol=1e-12)
        for_t, for_beta = jax.vmap(jax.grad(swish, (0, 1)))(t, betas)
        np.testing.assert_allclose(for_t, swish_slope(POINTS, beta), rtol=1e-12, atol=1e-14)
        expected = POINTS**2 * logistic(beta * POINTS) * logistic(-beta * POINTS)
        # JAX computes s(1 − s), whose rounding of 1 − s is multiplied by t² ≤ 900.
        np.testing.assert_allclose(for_beta, expected, rtol=1e-12, atol=1e-12)


def test_swish_is_finite_for_any_beta_far_out():
    for t in (-1e4, 1e4):
        for beta in (-100.0, 0.0, 100.0):
            assert all(jnp.isfinite(x) for x in (swish(t, beta), *jax.grad(swish, (0, 1))(t, beta)))


def test_a_population_of_slopes_equals_each_alone():
    t, alphas = jnp.linspace(-2, 2, 9), jnp.array([0.0, 0.1, 0.3])
    together = jax.jit(jax.vmap(leaky_relu, (None, 0)))(t, alphas)
    for row, alpha in zip(together, alphas, strict=True):
        np.testing.assert_allclose(row, np.maximum(0, t) + float(alpha) * np.minimum(0, t), rtol=1e-6)


def test_the_tanh_form_of_gelu_is_within_5e_4_of_it():
    t = jnp.linspace(-6, 6, 2001)
    gap = jnp.abs(activations.gelu(t) - activations.gelu_tanh(t)).max()
    assert 1e-4 < gap < 5e-4


def test_an_unknown_name_lists_the_valid_ones():
    with pytest.raises(ValueError, match=r"no activation 'rely'\. Valid are: sigmoid, tanh, relu, leaky_relu"):
        get_activation("rely")
