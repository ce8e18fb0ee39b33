"""Noise schedules and the forward process against closed forms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from etude import diffusion
from hypothesis import given
from hypothesis import strategies as st

SMOOTH = {
    "linear": diffusion.linear(),
    "cosine": diffusion.cosine(),
    "shifted cosine": diffusion.cosine(shift=2 * np.log(64 / 256)),
    "rectified flow": diffusion.rectified_flow(),
}
SCHEDULES = SMOOTH | {
    "linear betas": diffusion.from_betas(diffusion.linear_betas()),
    "cosine betas": diffusion.from_betas(diffusion.cosine_betas()),
    "few betas": diffusion.from_betas([0.1, 0.5, 0.9]),
    "betas to noise alone": diffusion.from_betas([0.1, 0.5, 0.9, 1.0]),
}
inside = st.floats(1e-3, 1.0)


@pytest.mark.parametrize("name", SCHEDULES)
def test_noise_begins_at_next_to_nothing_and_grows_until_it_is_all(name):
    alpha, sigma = SCHEDULES[name](jnp.linspace(0, 1, 1001))
    assert alpha[0] == pytest.approx(1, abs=1e-3)
    assert sigma[0] == pytest.approx(0, abs=5e-3)
    assert (jnp.diff(alpha) <= 0).all()
    assert (jnp.diff(sigma) >= 0).all()
    assert alpha[-1] < 0.25
    assert (jnp.diff(SCHEDULES[name](jnp.linspace(0.001, 0.99, 200)).log_snr) < 0).all()


@pytest.mark.parametrize("name", [name for name in SCHEDULES if name != "rectified flow"])
@given(t=inside)
def test_variance_is_preserved(name, t):
    alpha, sigma = SCHEDULES[name](t)
    assert alpha**2 + sigma**2 == pytest.approx(1, rel=1e-6)


@given(t=inside)
def test_linear_equals_its_closed_form_in_float64(t):
    integral = 0.1 * t + 0.5 * 19.9 * t**2
    alpha, sigma = diffusion.linear()(t)
    assert alpha == pytest.approx(np.exp(-integral / 2), rel=1e-5)
    assert sigma == pytest.approx(np.sqrt(-np.expm1(-integral)), rel=1e-5)


@given(t=st.floats(0.02, 0.98), shift=st.floats(-3, 3))
def test_cosine_is_a_cosine_between_its_ends_and_shifted_in_log_snr(t, shift):
    wide = diffusion.cosine(-30.0, 30.0)(t)
    assert wide.alpha == pytest.approx(np.cos(np.pi * t / 2), abs=1e-4)
    assert wide.sigma == pytest.approx(np.sin(np.pi * t / 2), abs=1e-4)
    moved = diffusion.cosine(-30.0, 30.0, shift=shift)(t)
    assert moved.log_snr - wide.log_snr == pytest.approx(shift, abs=1e-4)


def test_cosine_ends_at_the_log_snrs_given():
    schedule = diffusion.cosine(-7.0, 12.0)
    assert schedule(0.0).log_snr == pytest.approx(12, rel=1e-4)
    assert schedule(1.0).log_snr == pytest.approx(-7, rel=1e-4)


@pytest.mark.parametrize("betas", [diffusion.linear_betas(), diffusion.cosine_betas(100), np.array([0.2, 0.4])])
def test_a_table_is_exact_at_its_steps(betas):
    steps = np.arange(1, len(betas) + 1)
    alpha, sigma = diffusion.from_betas(betas)((steps / len(betas)).astype(np.float32))
    product = np.cumprod(1 - betas)
    np.testing.assert_allclose(alpha, np.sqrt(product), rtol=1e-4)  # of λ, which is rounded and grows to 15
    np.testing.assert_allclose(sigma, np.sqrt(1 - product), rtol=1e-4)


@pytest.mark.parametrize("number", [2, 1000])
def test_a_last_beta_of_1_leaves_noise_alone_and_all_before_it_as_it_was(number):
    betas = np.append(diffusion.linear_betas(number - 1), 1.0)
    schedule, table = diffusion.from_betas(betas), np.sqrt(np.cumprod(1 - betas))
    assert tuple(schedule(1.0)) == (0, 1)
    steps = np.arange(1, number + 1, dtype=np.float32)
    np.testing.assert_allclose(schedule(steps / number).alpha, table, rtol=1e-4, atol=1e-7)
    between = schedule((number - np.array([0.75, 0.5, 0.25], np.float32)) / number)
    np.testing.assert_allclose(np.diff(between.alpha / between.sigma, n=2), 0, atol=1e-2 * between.alpha[0])


def test_the_schedule_of_betas_has_derivatives_at_both_ends():
    for betas in ([0.1, 0.5, 1.0], [0.1, 0.5]):
        for t in (0.0, 1.0):
            slopes = jax.jvp(lambda t, betas=betas: tuple(diffusion.from_betas(betas)(t)), (t,), (1.0,))[1]
            assert np.isfinite(slopes).all()


def test_the_tables_are_those_of_the_papers():
    linear, cosine = diffusion.linear_betas(), diffusion.cosine_betas()
    assert (linear[0], linear[-1], len(linear)) == (1e-4, 0.02, 1000)
    f = lambda t: np.cos((t + 0.008) / 1.008 * np.pi / 2) ** 2
    np.testing.assert_allclose(np.cumprod(1 - cosine)[:900], f(np.arange(1, 901) / 1000) / f(0), rtol=1e-9)
    assert cosine.max() == 0.999


def test_many_steps_of_the_ddpm_tend_to_the_linear_schedule():
    t = np.linspace(0.05, 1, 20, dtype=np.float32)
    betas = diffusion.linear_betas(20_000, 1e-4 / 20, 0.02 / 20)
    np.testing.assert_allclose(diffusion.from_betas(betas)(t).alpha, diffusion.linear()(t).alpha, rtol=2e-3)


def test_x_t_has_the_moments_of_its_closed_form_and_those_of_the_steps_one_by_one():
    betas, x0 = diffusion.linear_betas(50, 1e-3, 0.2), 0.7
    schedule, keys = diffusion.from_betas(betas), jax.random.split(jax.random.key(0), 51)
    count = 40_000
    walked = jnp.full(count, x0)
    for key, beta in zip(keys, betas, strict=False):  # q(x_i | x_{i-1}), Ho et al. 2020, equation 2
        walked = np.sqrt(1 - beta) * walked + np.sqrt(beta) * jax.random.normal(key, (count,))
    level = schedule(1.0)
    jumped = diffusion.diffuse(jnp.full(count, x0), jax.random.normal(keys[-1], (count,)), level)
    for x in (walked, jumped):  # standard errors are σ/√n and σ²√(2/n)
        assert x.mean() == pytest.approx(float(level.alpha * x0), abs=5 * float(level.sigma) / count**0.5)
        assert x.var() == pytest.approx(float(level.sigma**2), rel=5 * (2 / count) ** 0.5)


@pytest.mark.parametrize("name", SCHEDULES)
@given(s=st.floats(0.05, 0.5), gap=st.floats(0.05, 0.45))
def test_the_posterior_is_that_of_two_gaussians(name, s, gap):
    """q(x_s | x_t, x_0) by Bayes: x_s ~ N(α_s x_0, σ_s²), x_t | x_s ~ N(α_{t|s} x_s, σ²_{t|s})."""
    here, there = SCHEDULES[name](s + gap), SCHEDULES[name](s)
    x, x0 = jnp.array([0.3, -2.0]), jnp.array([1.0, 0.4])
    (a_t, s_t), (a_s, s_s) = (np.asarray(level, np.float64) for level in (here, there))
    ratio, fresh = a_t / a_s, s_t**2 - (a_t / a_s) ** 2 * s_s**2
    precision = 1 / s_s**2 + ratio**2 / fresh
    mean, variance = diffusion.posterior(x, x0, here, there)
    np.testing.assert_allclose(variance, 1 / precision, rtol=1e-3)
    np.testing.assert_allclose(mean, (a_s * x0 / s_s**2 + ratio * x / fresh) / precision, rtol=1e-3, atol=1e-5)


def test_the_posterior_of_a_ddpm_step_is_the_papers():
    betas = diffusion.linear_betas()
    product, i = np.cumprod(1 - betas), 500
    schedule = diffusion.from_betas(betas)
    x, x0 = jnp.array([0.3, -2.0]), jnp.array([1.0, 0.4])
    mean, variance = diffusion.posterior(x, x0, schedule((i + 1) / 1000), schedule(i / 1000))
    before, now, beta = product[i - 1], product[i], betas[i]  # Ho et al. 2020, equation 7
    expected = (np.sqrt(before) * beta * x0 + np.sqrt(1 - beta) * (1 - before) * x) / (1 - now)
    np.testing.assert_allclose(mean, expected, rtol=1e-4)
    assert variance == pytest.approx(beta * (1 - before) / (1 - now), rel=1e-3)


@pytest.mark.parametrize("name", SCHEDULES)
def test_schedules_work_under_jit_vmap_and_grad(name):
    schedule, t = SCHEDULES[name], jnp.array([0.2, 0.5, 0.7])
    plain = schedule(t)
    for a, b in zip(plain, jax.jit(jax.vmap(schedule))(t), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5)
    assert np.isfinite(jax.vmap(jax.grad(lambda t: schedule(t).sigma))(t)).all()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: diffusion.linear(0.0), "0 < beta_min"),
        (lambda: diffusion.linear(2.0, 1.0), "beta_max 1.0"),
        (lambda: diffusion.cosine(3.0, 1.0), "the first must be lower"),
        (lambda: diffusion.cosine(-np.inf), "must be finite"),
        (lambda: diffusion.cosine(log_snr_max=np.inf), "must be finite"),
        (lambda: diffusion.from_betas([0.1, 1.0, 0.5]), "number 2 of 3 is 1.0; expected numbers between 0 and 1"),
        (lambda: diffusion.from_betas([0.1, np.nan]), "number 2 of 2 is nan"),
        (lambda: diffusion.from_betas([1.0]), "number 1 of 1 is 1.0"),
        (lambda: diffusion.from_betas(0.1), "one axis"),
        (lambda: diffusion.from_betas([]), "one axis"),
        (lambda: diffusion.linear()(999), r"The time 999 is not in \[0, 1\]; step i of T, counted from 1, is at time"),
        (lambda: diffusion.cosine()(jnp.array([0.5, 1.01])), r"The time 1\.01 is not"),
        (lambda: diffusion.rectified_flow()(-0.1), r"The time -0\.1 is not"),
        (lambda: diffusion.from_betas([0.1, 0.2])(np.nan), "The time nan is not"),
        (lambda: diffusion.diffuse(jnp.ones((2, 3)), jnp.ones(3), diffusion.linear()(0.5)), "one shape"),
    ],
)
def test_what_is_not_valid_is_told(make, message):
    with pytest.raises(ValueError, match=message):
        make()
