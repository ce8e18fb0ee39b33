"""The variational bound where the likelihood is known: pixels that are a rounded Gaussian, with the exact denoiser."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from etude import diffusion

MEAN, STD, LEVELS = 0.1, 0.25, 256


def exact(schedule):
    def denoise(x, t):
        alpha, sigma = schedule(t)
        return MEAN + alpha * STD**2 / (alpha**2 * STD**2 + sigma**2) * (x - alpha * MEAN)

    return denoise


@pytest.fixture(scope="module")
def images():
    """Gray levels of a Gaussian, rounded, [512, 4, 4, 1], and −log of their probabilities in nats, [512]."""
    rng = np.random.default_rng(0)
    half = 1 / (LEVELS - 1)
    x = np.round((rng.normal(MEAN, STD, (512, 4, 4, 1)) + 1) / (2 * half)) * 2 * half - 1
    x = x.clip(-1, 1)
    mass = np.asarray(
        jax.scipy.stats.norm.cdf(x + half, MEAN, STD) - jax.scipy.stats.norm.cdf(x - half, MEAN, STD), np.float64
    )
    return jnp.asarray(x, jnp.float32), -np.log(mass).sum((1, 2, 3))


def bound_of(images, times, schedule=None):
    schedule, keys = schedule or diffusion.linear(), jax.random.split(jax.random.key(1), len(images))
    return jax.jit(lambda x: diffusion.variational_bound(exact(schedule), x, keys, schedule, times))(images)


def test_the_bound_is_never_below_the_likelihood_and_tightens_with_steps(images):
    x, likelihood = images
    times = [diffusion.uniform_log_snr_times(diffusion.linear(), steps, last=1e-3) for steps in (10, 100, 1000)]
    bounds = [bound_of(x, each).nats for each in times]
    means = [float(bound.mean()) for bound in bounds]
    assert means == sorted(means, reverse=True)
    error = float((bounds[-1] - likelihood).std()) / len(x) ** 0.5  # the standard error of the mean difference
    gap = means[-1] - likelihood.mean()
    assert -3 * error < gap < 0.03 * 16  # 0.03 nats a pixel, of 5


def test_a_flow_that_begins_without_any_image_is_bounded_too(images):
    x, likelihood = images
    schedule = diffusion.rectified_flow()
    times = diffusion.uniform_log_snr_times(schedule, 1000, first=0.999, last=0.01).at[0].set(1.0)
    bound = bound_of(x, times, schedule)
    np.testing.assert_array_equal(bound.prior, 0)
    error = float((bound.nats - likelihood).std()) / len(x) ** 0.5
    assert -3 * error < bound.nats.mean() - likelihood.mean() < 0.04 * 16  # 0.04 nats a pixel, of 5


def test_a_worse_denoiser_has_a_higher_bound(images):
    x, _ = images
    schedule, keys, times = diffusion.linear(), jax.random.split(jax.random.key(1), len(x)), diffusion.uniform_times(50)
    worse = lambda x, t: exact(schedule)(x, t) + 0.05
    assert diffusion.variational_bound(worse, x, keys, schedule, times).nats.mean() > bound_of(x, times).nats.mean() + 1


def test_the_prior_part_is_the_divergence_of_what_the_last_time_still_knows(images):
    x, _ = images
    schedule = diffusion.cosine(-2.0, 15.0)
    alpha, sigma = (float(part) for part in schedule(1.0))
    expected = 0.5 * ((alpha * x) ** 2 + sigma**2 - 1 - np.log(sigma**2)).sum((1, 2, 3))
    np.testing.assert_allclose(bound_of(x, diffusion.uniform_times(5), schedule).prior, expected, rtol=1e-4)


def test_the_last_step_spreads_a_mass_of_1_over_the_grey_levels():
    levels = jnp.linspace(-1, 1, LEVELS)
    schedule = diffusion.linear()
    for estimate in (-1.2, 0.3, 0.9999):
        bound = diffusion.variational_bound(
            lambda x, t, value=estimate: jnp.full_like(x, value),
            levels[:, None],
            jax.random.split(jax.random.key(0), LEVELS),
            schedule,
            jnp.array([1.0, 0.5, 0.05, 0.0]),
        )
        assert jnp.exp(-bound.reconstruction).sum() == pytest.approx(1, rel=1e-4)
        assert np.isfinite(bound.reconstruction).all()


def test_bad_input_is_told():
    with pytest.raises(ValueError, match="at least 2 steps"):
        diffusion.variational_bound(None, jnp.ones((1, 2)), None, diffusion.linear(), jnp.array([1.0, 0.0]))
