"""Samplers with denoisers that are exact: of a Gaussian, whose flow has a closed form, and of a mixture of them."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from etude import diffusion

SCHEDULES = {
    "linear": diffusion.linear(),
    "cosine": diffusion.cosine(),
    "flow": diffusion.rectified_flow(),
    "zero terminal": diffusion.from_betas(np.append(diffusion.linear_betas(999), 1.0)),
}
MEANS, SPREADS, WEIGHTS = jnp.array([-2.0, 0.5, 3.0]), jnp.array([0.2, 0.4, 0.3]), jnp.array([0.5, 0.2, 0.3])


def of_gaussian(schedule, mean=0.5, std=0.3):
    """E[x_0 | x_t] of x_0 ~ N(mean, std²)."""

    def denoise(x, t):
        alpha, sigma = schedule(t)
        gain = alpha * std**2 / (alpha**2 * std**2 + sigma**2)
        return mean + gain * (x - alpha * mean)

    return denoise


def flow_of_gaussian(schedule, x, first, last, mean=0.5, std=0.3):
    """Where the probability flow leads: x_t stays as many standard deviations from its mean."""
    (a, s), (b, r) = schedule(first), schedule(last)
    spread = lambda alpha, sigma: jnp.sqrt(alpha**2 * std**2 + sigma**2)
    return b * mean + (x - a * mean) * spread(b, r) / spread(a, s)


def of_mixture(schedule):
    """E[x_0 | x_t] of a mixture of Gaussians, each coordinate alone."""

    def denoise(x, t):
        alpha, sigma = schedule(t)
        variance = alpha**2 * SPREADS**2 + sigma**2
        deviation = x[..., None] - alpha * MEANS
        log_weight = jnp.log(WEIGHTS) - 0.5 * (deviation**2 / variance + jnp.log(variance))
        estimate = MEANS + alpha * SPREADS**2 / variance * deviation
        return (jax.nn.softmax(log_weight, -1) * estimate).sum(-1)

    return denoise


def cdf_of_mixture(x):
    return (WEIGHTS * jax.scipy.stats.norm.cdf(x[:, None], MEANS, SPREADS)).sum(-1)


SAMPLERS = {
    "ancestral": diffusion.ancestral,
    "ancestral, larger variance": partial(diffusion.ancestral, variance=1.0),
    "ddim": diffusion.ddim,
    "ddim, noisy": partial(diffusion.ddim, eta=0.7),
    "dpm_solver_2m": diffusion.dpm_solver_2m,
    "euler": lambda denoise, schedule: diffusion.euler(diffusion.probability_flow(denoise, schedule)),
    "heun": lambda denoise, schedule: diffusion.heun(diffusion.probability_flow(denoise, schedule)),
}


@pytest.mark.parametrize("name", SAMPLERS)
@pytest.mark.parametrize("schedule", ["cosine", "flow"])
def test_with_an_exact_denoiser_samples_have_the_distribution_of_the_data(name, schedule, key):
    schedule, first = SCHEDULES[schedule], 0.999  # α > 0, for samplers that divide by it
    count, noise = 4096, schedule(first).sigma
    x = noise * jax.random.normal(key, (count, 1))
    sampler = SAMPLERS[name](of_mixture(schedule), schedule)
    keys = jax.random.split(jax.random.key(1), count)
    found = diffusion.sample(sampler, x, diffusion.uniform_times(200, first), keys)[:, 0]
    # Kolmogorov and Smirnov: 1.95/√n would be passed by chance once in a thousand; the rest is for 200 steps.
    distance = np.abs(np.asarray(cdf_of_mixture(jnp.sort(found))) - np.arange(1, count + 1) / count).max()
    assert distance < 1.95 / count**0.5 + 0.015


@pytest.mark.parametrize(
    ("name", "schedule", "order"),
    [
        ("ddim", "cosine", 1),
        ("ddim", "linear", 1),
        ("euler", "cosine", 1),
        ("euler", "flow", 1),
        ("dpm_solver_2m", "cosine", 2),
        ("dpm_solver_2m", "linear", 2),
        ("heun", "cosine", 2),
        ("heun", "linear", 2),
        ("heun", "flow", 2),
    ],
)
def test_a_solver_converges_at_its_order(name, schedule, order):
    with jax.enable_x64(True):
        schedule, first, last = SCHEDULES[schedule], 0.9, 0.1
        x = jnp.array([[-1.0], [0.2], [1.5]])
        exact = flow_of_gaussian(schedule, x, first, last)
        sampler = SAMPLERS[name](of_gaussian(schedule), schedule)
        steps = np.array([32, 64, 128])
        errors = [
            float(jnp.abs(diffusion.sample(sampler, x, diffusion.uniform_times(n, first, last)) - exact).max())
            for n in steps
        ]
    slopes = -np.diff(np.log(errors)) / np.diff(np.log(steps))
    assert slopes == pytest.approx([order, order], abs=0.25)


def test_a_second_order_solver_is_far_nearer_than_ddim_with_the_same_evaluations():
    schedule, x = diffusion.cosine(), jnp.array([[-1.0], [0.2], [1.5]])
    exact = flow_of_gaussian(schedule, x, 0.99, 0.01)
    times = diffusion.uniform_times(20, 0.99, 0.01)
    error = {
        name: float(jnp.abs(diffusion.sample(SAMPLERS[name](of_gaussian(schedule), schedule), x, times) - exact).max())
        for name in ("ddim", "dpm_solver_2m")
    }
    assert error["dpm_solver_2m"] < error["ddim"] / 4


@pytest.mark.parametrize("name", ["ddim", "dpm_solver_2m"])
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_a_step_is_exact_for_an_estimate_that_does_not_change(name, schedule, key):
    schedule = SCHEDULES[schedule]
    x0, noise = jax.random.normal(key, (2, 5, 3))
    at = lambda t: diffusion.diffuse(x0, noise, schedule(t))
    sampler = SAMPLERS[name](lambda x, t: x0, schedule)
    for times in ([0.9, 0.3], [0.9, 0.6, 0.5, 0.1]):
        found = diffusion.sample(sampler, at(0.9), jnp.array(times))
        np.testing.assert_allclose(found, at(times[-1]), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("begins", "name"),
    [
        *(("flow", name) for name in SAMPLERS),
        *(("zero terminal", name) for name in SAMPLERS if name not in ("euler", "heun")),  # a table is not smooth in t
    ],
)
@pytest.mark.parametrize("steps", [1, 3])
def test_a_sampler_begins_where_nothing_is_left_of_the_image(begins, name, steps, key):
    schedule = SCHEDULES[begins]  # of which α is 0 at time 1, and the log-SNR −∞
    sampler = SAMPLERS[name](of_gaussian(schedule, mean=0.5, std=1e-3), schedule)
    found = diffusion.sample(
        sampler, jax.random.normal(key, (4, 3)), diffusion.uniform_times(steps), jax.random.split(key, 4)
    )
    np.testing.assert_allclose(found, 0.5, atol=0.01)


@pytest.mark.parametrize("name", SAMPLERS)
def test_noise_of_half_precision_is_sampled_from_as_of_single_precision(name, key):
    schedule = diffusion.cosine()
    x, keys = jax.random.normal(key, (4, 3), jnp.bfloat16), jax.random.split(key, 4)
    sampler = SAMPLERS[name](of_gaussian(schedule), schedule)
    one, other = (diffusion.sample(sampler, y, diffusion.uniform_times(6), keys) for y in (x, x.astype(jnp.float32)))
    np.testing.assert_array_equal(one, other)


def test_ddim_with_eta_1_is_the_ancestral_sampler(key):
    schedule = diffusion.from_betas(diffusion.linear_betas())
    denoise, x = of_mixture(schedule), jax.random.normal(key, (6, 4))
    keys, times = jax.random.split(key, 6), diffusion.uniform_times(50)
    one = diffusion.trajectory(diffusion.ancestral(denoise, schedule), x, times, keys)
    other = diffusion.trajectory(diffusion.ddim(denoise, schedule, eta=1.0), x, times, keys)
    np.testing.assert_allclose(one, other, atol=2e-3)


def test_ddim_of_a_rectified_flow_is_eulers_method(key):
    schedule = diffusion.rectified_flow()
    denoise, x = of_mixture(schedule), jax.random.normal(key, (6, 4))
    times = diffusion.uniform_times(12, 1.0, 0.0)
    flow = lambda x, t: (x - denoise(x, t)) / t
    one = diffusion.sample(diffusion.ddim(denoise, schedule), x, times)
    np.testing.assert_allclose(one, diffusion.sample(diffusion.euler(flow), x, times), rtol=1e-4, atol=1e-5)


def test_the_larger_variance_adds_the_noise_that_the_forward_step_added(key):
    betas = np.full(10, 0.3)
    schedule, keys = diffusion.from_betas(betas), jax.random.split(key, 20_000)
    sampler = diffusion.ancestral(lambda x, t: jnp.zeros_like(x), schedule, variance=1.0)
    x = diffusion.sample(sampler, jnp.zeros((20_000, 1)), jnp.array([0.8, 0.7]), keys)
    assert x.var() == pytest.approx(0.3, rel=0.05)


@pytest.mark.parametrize("solver", [diffusion.euler, diffusion.heun])
@pytest.mark.parametrize("scale", [1.0, 2.0])
def test_a_guided_velocity_is_solved_for_as_one_that_is_given_each_examples_time(solver, scale, key):
    predict = lambda x, times, labels: x * times[:, None] + labels[:, None]
    velocity = diffusion.guided(predict, jnp.arange(4), 7, scale)
    x, times = jax.random.normal(key, (4, 3)), diffusion.uniform_times(3)
    found = diffusion.sample(solver(velocity), x, times)
    batched = solver(lambda x, t: velocity(x, jnp.full(4, t)))
    np.testing.assert_array_equal(found, diffusion.sample(batched, x, times))


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_no_noise_is_added_in_the_step_to_time_0(schedule, key):
    sampler = diffusion.ancestral(lambda x, t: jnp.zeros_like(x), SCHEDULES[schedule], variance=1.0)
    found = diffusion.sample(sampler, jnp.zeros((4, 3)), jnp.array([0.05, 0.0]), jax.random.split(key, 4))
    np.testing.assert_array_equal(found, 0)


def test_an_examples_noise_does_not_depend_on_its_batch(key):
    schedule = diffusion.cosine()
    sampler, times = diffusion.ancestral(of_mixture(schedule), schedule), diffusion.uniform_times(10)
    x, keys = jax.random.normal(key, (6, 3)), jax.random.split(key, 6)
    together = diffusion.sample(sampler, x, times, keys)
    apart = jnp.concatenate([diffusion.sample(sampler, x[i : i + 2], times, keys[i : i + 2]) for i in (0, 2, 4)])
    np.testing.assert_allclose(together, apart, rtol=1e-5, atol=1e-6)


def test_a_trajectory_begins_with_the_noise_and_ends_with_the_sample(key):
    schedule = diffusion.cosine()
    sampler, times = diffusion.dpm_solver_2m(of_mixture(schedule), schedule), diffusion.uniform_times(7)
    x = jax.random.normal(key, (2, 3))
    states = diffusion.trajectory(sampler, x, times)
    assert states.shape == (8, 2, 3)
    np.testing.assert_array_equal(states[0], x)
    np.testing.assert_allclose(states[-1], diffusion.sample(sampler, x, times), rtol=1e-6)


@pytest.mark.parametrize("name", SAMPLERS)
def test_sampling_works_under_jit_and_vmap_over_what_the_denoiser_is_given(name, key):
    schedule = diffusion.cosine()
    keys, x, times = jax.random.split(key, 2), jax.random.normal(key, (2, 3)), diffusion.uniform_times(5, 0.99)

    def run(mean):
        return diffusion.sample(SAMPLERS[name](of_gaussian(schedule, mean), schedule), x, times, keys)

    means = jnp.array([0.5, -1.0])
    together = jax.jit(jax.vmap(run))(means)
    assert np.isfinite(together).all()
    np.testing.assert_allclose(together[1], run(means[1]), rtol=1e-3, atol=1e-4)


def test_equal_distances_in_log_snr():
    schedule = diffusion.cosine()
    times = diffusion.uniform_log_snr_times(schedule, 10)
    assert (times[0], times[-1], len(times)) == (1.0, 0.0, 11)
    gaps = np.diff(schedule(times[:-1]).log_snr)
    np.testing.assert_allclose(gaps, gaps.mean(), rtol=1e-2)  # near time 1 a float32 has few digits of λ


def at_times(times):
    return diffusion.sample(diffusion.euler(lambda x, t: x), jnp.ones((2, 3)), np.array(times))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: diffusion.uniform_times(0), "at least 1 step"),
        (lambda: diffusion.uniform_times(3, 0.2, 0.5), "last < first"),
        (lambda: diffusion.uniform_log_snr_times(diffusion.linear(), 3, last=0.0), "above 0"),
        (lambda: diffusion.uniform_log_snr_times(diffusion.rectified_flow(), 3), "log-SNR is -inf at time 1.0"),
        (lambda: diffusion.ddim(None, None, eta=1.5), "eta is 1.5"),
        (lambda: diffusion.ancestral(None, None, variance=-1), "variance is -1"),
        (lambda: diffusion.sample(diffusion.euler(None), jnp.ones((2, 3)), jnp.ones(1)), "at least 2 times"),
        (lambda: at_times([0.5, 0.5]), r"times must fall at each step; number 0 is 0\.5, and the next is 0\.5"),
        (lambda: at_times([0.9, 0.5, 0.7]), r"number 1 is 0\.5, and the next is 0\.7"),
        (lambda: at_times([0.0, 1.0]), "must fall"),
        (lambda: at_times([1.0, float("nan"), 0.0]), "must fall"),
        (lambda: at_times([1.5, 0.0]), r"from 1\.5 to 0\.0; they must be in \[0, 1\]"),
        (lambda: at_times([1.0, -0.5]), r"to -0\.5"),
        (lambda: jax.jit(lambda: at_times([0.5, 0.5]))(), "must fall"),
        (lambda: at_times([0.5, 0.5 - 1e-9]), "must fall"),  # equal as float32
        (
            lambda: diffusion.sample(
                diffusion.ancestral(lambda x, t: x, diffusion.linear()), jnp.ones((2, 3)), jnp.array([0.5, 0.1])
            ),
            "give keys",
        ),
        (
            lambda: diffusion.sample(
                diffusion.euler(None), jnp.ones((2, 3)), jnp.array([0.5, 0.1]), jax.random.split(jax.random.key(0), 3)
            ),
            "one for each of 2",
        ),
    ],
)
def test_what_is_not_valid_is_told(call, message):
    with pytest.raises(ValueError, match=message):
        call()
