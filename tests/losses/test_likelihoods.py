"""Likelihoods against their definitions in float64, sums over all levels, and the far tails."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from etude import losses
from scipy import stats

LEVELS = np.linspace(-1, 1, 256)
DISCRETIZED = {"gaussian": losses.discretized_gaussian_nll, "logistic": losses.discretized_logistic_nll}


def spread(name, deviation):
    """What the likelihood is given for a Gaussian's σ or a logistic distribution's s."""
    return np.float32(2 * np.log(deviation) if name == "gaussian" else np.log(deviation))


def log_masses(name, mean, deviation):
    """[256]: log p of every level of one pixel."""
    nll = DISCRETIZED[name]
    return -nll(jnp.full(256, mean, jnp.float32), spread(name, deviation), jnp.asarray(LEVELS, jnp.float32))


def test_bernoulli_equals_its_definition_and_sums_over_pixels():
    rng = np.random.default_rng(0)
    logits, targets = rng.normal(0, 3, (5, 4, 3)), rng.uniform(0, 1, (5, 4, 3))
    p = 1 / (1 + np.exp(-logits))
    expected = -(targets * np.log(p) + (1 - targets) * np.log(1 - p)).sum((1, 2))
    np.testing.assert_allclose(losses.bernoulli_nll(jnp.asarray(logits), jnp.asarray(targets)), expected, rtol=1e-5)


def test_bernoulli_probabilities_of_all_black_and_white_images_sum_to_one():
    images = jnp.stack(jnp.meshgrid(*[jnp.array([0.0, 1.0])] * 4), -1).reshape(16, 4)
    logits = jnp.broadcast_to(jnp.array([-3.0, 0.1, 2.0, 0.7]), (16, 4))
    np.testing.assert_allclose(jnp.exp(-losses.bernoulli_nll(logits, images)).sum(), 1, rtol=1e-5)


def test_bernoulli_is_no_density_of_grey_images():
    # The integral over one pixel at p = ½ is ½, not 1: e^(−nll) is ½ whatever the gray.
    gray = jnp.linspace(0, 1, 101)
    np.testing.assert_allclose(jnp.exp(-losses.bernoulli_nll(jnp.zeros(101), gray)), 0.5, rtol=1e-6)


def test_bernoulli_is_finite_at_extreme_logits_with_the_slopes_of_its_limits():
    logits, targets = jnp.array([1e4, -1e4, 1e4, -1e4]), jnp.array([1.0, 0, 0, 1])
    np.testing.assert_allclose(losses.bernoulli_nll(logits, targets), [0, 0, 1e4, 1e4])
    slopes = jax.grad(lambda x: losses.bernoulli_nll(x, targets).sum())(logits)
    np.testing.assert_allclose(slopes, [0, 0, 1, -1], atol=1e-6)


def test_gaussian_equals_scipys_log_density():
    rng = np.random.default_rng(0)
    mean, log_variance, targets = rng.normal(0, 1, (3, 6, 2, 3))
    expected = -stats.norm.logpdf(targets, mean, np.exp(log_variance / 2)).sum((1, 2))
    measured = losses.gaussian_nll(*map(jnp.asarray, (mean, log_variance, targets)))
    np.testing.assert_allclose(measured, expected, rtol=1e-5)


def test_gaussian_of_variance_one_half_is_the_squared_error_and_a_constant():
    mean, targets = jax.random.normal(jax.random.key(0), (2, 5, 7))
    squares = ((mean - targets) ** 2).sum(-1)
    nll = losses.gaussian_nll(mean, jnp.log(0.5), targets)
    np.testing.assert_allclose(nll - squares, 3.5 * np.log(np.pi), rtol=1e-5)


@pytest.mark.parametrize("deviation", [1e-3, 1e-2, 0.1, 1, 30, 1e4])
@pytest.mark.parametrize("mean", [-3, -1, -0.3, 0, 0.998, 5])
@pytest.mark.parametrize("name", DISCRETIZED)
def test_the_probabilities_of_the_256_levels_sum_to_one(name, mean, deviation):
    total = np.exp(np.float64(log_masses(name, mean, deviation))).sum()
    # Each logarithm has float32's relative error, up to 12 · 6e-8 where probabilities matter.
    assert total == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("deviation", [0.02, 0.3, 2])
@pytest.mark.parametrize("name", DISCRETIZED)
def test_a_bin_has_the_distributions_mass_and_the_outer_ones_are_open(name, deviation):
    distribution = {"gaussian": stats.norm, "logistic": stats.logistic}[name](0.2, deviation)
    edges = np.concatenate([[-np.inf], LEVELS[:-1] + 1 / 255, [np.inf]])
    # From the nearer end, as 1 − cdf loses what the tail above has.
    below, above = np.diff(distribution.cdf(edges)), -np.diff(distribution.sf(edges))
    expected = np.where(LEVELS < 0.2, below, above)
    shown = expected > 1e-30
    np.testing.assert_allclose(log_masses(name, 0.2, deviation)[shown], np.log(expected[shown]), rtol=2e-5, atol=1e-5)


@pytest.mark.parametrize("name", DISCRETIZED)
def test_far_tails_keep_values_and_slopes(name):
    # Given a level 1.5 from the mean and ever smaller deviations,
    target = jnp.array([[LEVELS[200]]], jnp.float32)
    mean = target - 1.5
    for deviation in (1e-1, 1e-2, 1e-3, 1e-4):
        nll, slope = jax.value_and_grad(lambda m: DISCRETIZED[name](m, spread(name, deviation), target).sum())(mean)
        # then the bin's near edge decides: −log φ(t) and Mills' ratio 1/t for the one, t for the other.
        near = (1.5 - 1 / 255) / deviation
        if name == "gaussian":
            expected = near**2 / 2 + np.log(near) + 0.5 * np.log(2 * np.pi)
            np.testing.assert_allclose(slope, -near / deviation, rtol=1e-2)
        else:
            expected = near - np.log1p(-np.exp(-2 / 255 / deviation))
            np.testing.assert_allclose(slope, -1 / deviation, rtol=1e-3)
        np.testing.assert_allclose(nll, expected, rtol=1e-2 if name == "gaussian" and deviation > 0.05 else 1e-4)


@pytest.mark.parametrize("name", DISCRETIZED)
def test_gradients_are_those_of_differences_in_float64_everywhere(name):
    # Given pixels of every kind of bin: both ends, narrow, around the mean and beside it,
    targets = LEVELS[[0, 255, 100, 128, 150, 20, 0, 255]]
    mean = np.array([-1.2, 0.9, -0.21, 0.003, 0.1, 0.6, 0.4, 1.3])
    for deviation in (3e-3, 0.05, 0.7, 5):

        def value(mean, log_deviation):
            distribution = {"gaussian": stats.norm, "logistic": stats.logistic}[name](mean, np.exp(log_deviation))
            low = np.where(targets == -1, -np.inf, targets - 1 / 255)
            high = np.where(targets == 1, np.inf, targets + 1 / 255)
            upper = low > mean
            mass = np.where(
                upper, distribution.sf(low) - distribution.sf(high), distribution.cdf(high) - distribution.cdf(low)
            )
            with np.errstate(divide="ignore"):
                return -np.log(mass)

        factor = 2 if name == "gaussian" else 1
        by_mean, by_spread = jax.grad(
            lambda m, s: DISCRETIZED[name](m, s, jnp.asarray(targets, jnp.float32)).sum(), (0, 1)
        )(jnp.asarray(mean, jnp.float32), jnp.full(8, spread(name, deviation)))
        log_deviation, step = np.log(deviation), 1e-6
        with np.errstate(invalid="ignore"):  # infinities, which are left out
            slopes = value(mean + step * deviation, log_deviation) - value(mean - step * deviation, log_deviation)
            turns = value(mean, log_deviation + step) - value(mean, log_deviation - step)
        # Where float64 has a mass at all; 1e-6 of a difference leaves about six digits.
        exact = value(mean, log_deviation) < 500
        assert exact.sum() >= 4
        np.testing.assert_allclose(deviation * by_mean[exact], slopes[exact] / (2 * step), rtol=1e-3, atol=1e-4)
        np.testing.assert_allclose(factor * by_spread[exact], turns[exact] / (2 * step), rtol=1e-3, atol=1e-4)


def test_a_spread_may_be_one_number_or_one_for_each_channel():
    mean, targets = jnp.zeros((2, 3, 3, 2)), jnp.full((2, 3, 3, 2), 0.2)
    for nll in (losses.gaussian_nll, losses.discretized_gaussian_nll, losses.discretized_logistic_nll):
        whole = nll(mean, jnp.full(mean.shape, -1.0), targets)
        np.testing.assert_allclose(nll(mean, -1.0, targets), whole, rtol=1e-6)
        np.testing.assert_allclose(nll(mean, jnp.full(2, -1.0), targets), whole, rtol=1e-6)


def test_a_level_of_which_nothing_is_known_costs_eight_bits():
    nats = jnp.full(5, 12 * np.log(256))
    np.testing.assert_allclose(losses.bits_per_dim(nats, 12), 8, rtol=1e-6)
    with pytest.raises(ValueError, match="num_dims is 0"):
        losses.bits_per_dim(nats, 0)


def test_everything_is_computed_in_float32():
    small = jnp.zeros((2, 3), jnp.bfloat16)
    for nll in (losses.gaussian_nll, losses.discretized_gaussian_nll, losses.discretized_logistic_nll):
        assert nll(small, small, small).dtype == jnp.float32
    assert losses.bernoulli_nll(small, small).dtype == jnp.float32


@pytest.mark.parametrize(
    "shapes", [((4, 1), (), (4,)), ((4, 3), (4,), (4, 3)), ((), (), ()), ((2, 3), (1, 2, 3), (2, 3))]
)
def test_shapes_that_would_broadcast_wrongly_are_refused(shapes):
    mean, spread, targets = map(jnp.ones, shapes)
    for nll in (losses.gaussian_nll, losses.discretized_gaussian_nll, losses.discretized_logistic_nll):
        with pytest.raises(ValueError, match="one shape"):
            nll(mean, spread, targets)
    if mean.shape != targets.shape:
        with pytest.raises(ValueError, match="bernoulli_nll"):
            losses.bernoulli_nll(mean, targets)
