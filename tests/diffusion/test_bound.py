"""The variational bound where the likelihood is known, with the exact denoiser.

Pixels are a rounded Gaussian, or one of the digits' 17 gray levels, each as likely.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from etude import diffusion
from etude.experiments.diffusion import SCHEDULES

MEAN, STD, LEVELS, COUNT = 0.1, 0.25, 256, 2048
DIMS = 4 * 4
PALETTE = np.round(np.arange(17) * 255 / 16).astype(np.float32) / 127.5 - 1


def exact(schedule):
    def denoise(x, t):
        alpha, sigma = schedule(t)
        return MEAN + alpha * STD**2 / (alpha**2 * STD**2 + sigma**2) * (x - alpha * MEAN)

    return denoise


def exact_of_palette(schedule):
    def denoise(x, t):
        alpha, sigma = schedule(t)
        return (jax.nn.softmax(-0.5 * ((x[..., None] - alpha * PALETTE) / sigma) ** 2, -1) * PALETTE).sum(-1)

    return denoise


@pytest.fixture(scope="module")
def images():
    """Gray levels of a Gaussian, rounded, [2048, 4, 4, 1], and −log of their probabilities in nats, [2048]."""
    rng = np.random.default_rng(0)
    half = 1 / (LEVELS - 1)
    x = np.round((rng.normal(MEAN, STD, (COUNT, 4, 4, 1)) + 1) / (2 * half)) * 2 * half - 1
    x = x.clip(-1, 1)
    mass = np.asarray(
        jax.scipy.stats.norm.cdf(x + half, MEAN, STD) - jax.scipy.stats.norm.cdf(x - half, MEAN, STD), np.float64
    )
    return jnp.asarray(x, jnp.float32), -np.log(mass).sum((1, 2, 3))


def bound_of(images, times, schedule=None, **choices):
    schedule, keys = schedule or diffusion.linear(), jax.random.split(jax.random.key(1), len(images))
    return jax.jit(lambda x: diffusion.variational_bound(exact(schedule), x, keys, schedule, times, **choices))(images)


def tight_bound_of(images, denoise, schedule, num_steps):
    """The bound of the second half of the images, with choices made on the first: nats, [batch]."""
    (chosen_on, images), keys = jnp.split(images, 2), jax.random.split(jax.random.key(1), len(images) // 2)
    measure = jax.jit(lambda times: diffusion.profile(denoise, chosen_on, keys, schedule, times))
    even = diffusion.bound_times(schedule, num_steps)
    times, spread = diffusion.tightest(measure(even), schedule, even)
    assert len(times) == num_steps + 1
    errors, other = measure(times).errors.mean(0), jax.random.split(jax.random.key(2), len(images))
    return jax.jit(
        lambda: diffusion.variational_bound(denoise, images, other, schedule, times, errors=errors, spread=spread).nats
    )()


@pytest.mark.parametrize("name", SCHEDULES)
def test_with_100_steps_the_bound_of_every_schedule_is_within_a_fiftieth_of_a_bit_of_the_likelihood(name, images):
    (x, likelihood), schedule = images, SCHEDULES[name]()
    excess = (tight_bound_of(x, exact(schedule), schedule, 100) - likelihood[COUNT // 2 :]) / DIMS / math.log(2)
    error = float(excess.std()) / len(excess) ** 0.5
    assert error < 0.01  # bits per pixel, of 7
    assert -3 * error < excess.mean() < 0.01  # half of what is promised, as the draw of the images is lucky by 0.005


def test_of_few_gray_levels_too_the_bound_knows_which_it_is(images):
    x = jnp.asarray(np.random.default_rng(1).choice(PALETTE, (COUNT, 4, 4, 1)))
    schedule = diffusion.cosine()
    bits = tight_bound_of(x, exact_of_palette(schedule), schedule, 100) / DIMS / math.log(2)
    error = float(bits.std()) / len(bits) ** 0.5
    assert -3 * error < bits.mean() - math.log2(17) < 0.1  # the estimate's error is far from normal, of 4.09 bits


def test_without_errors_the_steps_are_those_of_known_images_and_many_are_needed(images):
    x, likelihood = (part[:512] for part in images)
    times = [diffusion.uniform_log_snr_times(diffusion.linear(), steps, last=1e-3) for steps in (10, 100, 1000)]
    bounds = [bound_of(x, each).nats for each in times]
    means = [float(bound.mean()) for bound in bounds]
    assert means == sorted(means, reverse=True)
    error = float((bounds[-1] - likelihood).std()) / len(x) ** 0.5  # the standard error of the mean difference
    gap = means[-1] - likelihood.mean()
    assert -3 * error < gap < 0.03 * DIMS  # 0.03 nats a pixel, of 5
    assert means[1] - likelihood.mean() > 0.1 * DIMS
    keys, schedule = jax.random.split(jax.random.key(3), len(x)), diffusion.linear()
    errors = jax.jit(lambda: diffusion.profile(exact(schedule), x, keys, schedule, times[1]).errors.mean(0))()
    found = bound_of(x, times[1], errors=errors).nats  # with 100 steps, what 1000 give without
    error = float((found - likelihood).std()) / len(x) ** 0.5
    assert -3 * error < found.mean() - likelihood.mean() < 0.03 * DIMS


def test_a_flow_that_begins_without_any_image_is_bounded_too(images):
    schedule = diffusion.rectified_flow()
    np.testing.assert_array_equal(bound_of(images[0][:64], diffusion.bound_times(schedule, 10), schedule).prior, 0)


@pytest.mark.parametrize("name", SCHEDULES)
def test_the_times_lead_down_to_half_a_gray_level(name):
    schedule = SCHEDULES[name]()
    times = diffusion.bound_times(schedule, 20)
    assert (times[0], times[-1], len(times)) == (1, 0, 21)
    last = schedule(times[-2])
    assert last.sigma / last.alpha == pytest.approx(1 / 255, rel=1e-3)
    noisy = diffusion.cosine(log_snr_max=4.0)  # which has more noise at all times
    assert float(noisy(diffusion.bound_times(noisy, 20)[-2]).log_snr) == pytest.approx(4, rel=1e-2)


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


@pytest.mark.parametrize(
    ("times", "choices", "message"),
    [
        ([1.0, 0.0], {}, "1 steps and 256 levels; expected at least 2"),
        ([1.0, 0.5, 0.0], {"num_levels": 1}, "2 steps and 1 levels"),
        ([1.0, 0.5, 0.5, 0.0], {}, "must fall"),
        ([0.0, 0.5, 1.0], {}, "must fall"),
        ([1.0, 0.5, 0.1], {}, r"The last time is 0\.1"),
        ([1.0, 0.5, 0.0], {"errors": [0.1, 0.1, 0.1]}, r"errors have shape \(3,\)"),
        ([1.0, 0.5, 0.0], {"errors": -0.1}, r"at least 0; the least is -0\.1"),
    ],
)
def test_bad_input_is_told(times, choices, message):
    with pytest.raises(ValueError, match=message):
        diffusion.variational_bound(None, jnp.ones((1, 2)), None, diffusion.linear(), np.array(times), **choices)
