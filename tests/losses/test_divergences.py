"""Divergences against Monte Carlo, quadrature and their properties."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from etude import losses
from scipy import integrate, stats


@pytest.fixture(scope="module")
def moments():
    """Means and log variances of two Gaussians, for 6 examples of 4 entries."""
    rng = np.random.default_rng(0)
    return [jnp.asarray(rng.normal(0, 0.7, (6, 4)), jnp.float32) for _ in range(4)]


def test_kl_equals_the_mean_of_the_log_ratio_over_draws(moments):
    mean, log_variance, other_mean, other_log_variance = moments
    draws = mean + jnp.exp(log_variance / 2) * jax.random.normal(jax.random.key(0), (100_000, 6, 4))
    here = stats.norm.logpdf(draws, mean, np.exp(log_variance / 2))
    there = stats.norm.logpdf(draws, other_mean, np.exp(other_log_variance / 2))
    ratios = (here - there).sum(-1)
    error = ratios.std(0) / np.sqrt(len(ratios))
    assert (np.abs(ratios.mean(0) - losses.gaussian_kl_between(*moments)) < 4 * error).all()


def test_kl_equals_its_integral(moments):
    mean, log_variance, other_mean, other_log_variance = (float(x[0, 0]) for x in moments)
    here, there = stats.norm(mean, np.exp(log_variance / 2)), stats.norm(other_mean, np.exp(other_log_variance / 2))
    expected, _ = integrate.quad(lambda x: here.pdf(x) * (here.logpdf(x) - there.logpdf(x)), -20, 20)
    measured = losses.gaussian_kl_between(*(x[:1, :1] for x in moments))
    np.testing.assert_allclose(measured, [expected], rtol=1e-5)


def test_kl_to_the_standard_normal_is_the_formula_of_the_paper(moments):
    mean, log_variance = np.float64(moments[0]), np.float64(moments[1])
    expected = -0.5 * (1 + log_variance - mean**2 - np.exp(log_variance)).sum(-1)
    np.testing.assert_allclose(losses.gaussian_kl(*moments[:2]), expected, rtol=1e-5)


def test_kl_is_zero_for_equal_distributions_and_positive_for_others(moments):
    mean, log_variance, *_ = moments
    np.testing.assert_array_equal(losses.gaussian_kl_between(mean, log_variance, mean, log_variance), 0)
    assert (losses.gaussian_kl_between(*moments) > 0).all()


def test_kl_of_nearly_equal_variances_keeps_its_digits():
    # ½ (e^r − 1 − r) is about r²/4, far below what is left of e^r − 1 in float32.
    log_variance = jnp.full((1, 1), 1e-3)
    np.testing.assert_allclose(losses.gaussian_kl(jnp.zeros((1, 1)), log_variance), [1e-6 / 4], rtol=1e-3)


def test_kl_does_not_change_when_both_are_moved_and_stretched(moments):
    mean, log_variance, other_mean, other_log_variance = moments
    moved = [3 * mean + 1, log_variance + 2 * jnp.log(3.0), 3 * other_mean + 1, other_log_variance + 2 * jnp.log(3.0)]
    np.testing.assert_allclose(
        losses.gaussian_kl_between(*moved), losses.gaussian_kl_between(*moments), rtol=1e-4, atol=1e-5
    )


def test_kl_sums_over_all_entries_of_an_example_and_in_float32(moments):
    folded = [x.reshape(6, 2, 2).astype(jnp.bfloat16) for x in moments]
    measured = losses.gaussian_kl_between(*folded)
    assert (measured.shape, measured.dtype) == ((6,), jnp.float32)
    np.testing.assert_allclose(measured, losses.gaussian_kl_between(*moments), rtol=0.05)


def test_shapes_that_would_broadcast_are_refused():
    with pytest.raises(ValueError, match="one shape"):
        losses.gaussian_kl(jnp.ones((4, 2)), jnp.ones((1, 2)))
    with pytest.raises(ValueError, match="one shape"):
        losses.gaussian_kl_between(jnp.ones((4, 2)), jnp.ones((4, 2)), jnp.ones((4,)), jnp.ones((4, 2)))
