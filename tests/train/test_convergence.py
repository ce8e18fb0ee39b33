"""The quantities of the convergence theorem, where they are known."""

from itertools import product

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from etude import metrics, train

EIGENVALUES = np.array([0.1, 1.0, 4.0])


def quadratic(params, batch):
    """½ Σ λ_k θ_k² − θ·(mean of x): its Hessian is diag(λ), its noise that of x."""
    return (jnp.asarray(EIGENVALUES) * params**2).sum() / 2 - params @ batch["x"].mean(0)


@pytest.fixture
def examples():
    x = np.random.default_rng(0).normal(size=(5, 3))
    return {"x": jnp.asarray(x - x.mean(0), jnp.float32)}


@pytest.mark.parametrize("sign", [1, -1])
def test_curvature_is_the_largest_absolute_eigenvalue_of_the_hessian(examples, sign):
    params = {"a": jnp.ones(1), "b": jnp.ones((1, 2))}
    flat = lambda p: jnp.concatenate([p["a"], p["b"].ravel()])
    found = train.curvature(lambda p, b: sign * quadratic(flat(p), b), params, examples, jax.random.key(0))
    assert float(found) == pytest.approx(4.0, rel=1e-4)


@pytest.mark.parametrize("batch_size", [1, 2])
def test_the_second_moment_is_the_mean_over_all_minibatches(examples, batch_size):
    params = jnp.array([1.0, -2.0, 0.5])
    norms = []
    for rows in product(range(5), repeat=batch_size):
        gradient = jax.grad(quadratic)(params, {"x": examples["x"][jnp.asarray(rows)]})
        norms.append(float(gradient @ gradient))
    found = train.second_moment(quadratic, params, examples, batch_size=batch_size, chunk=2)
    assert float(found) == pytest.approx(np.mean(norms), rel=1e-5)


def test_without_noise_the_second_moment_is_the_squared_gradient(examples):
    params = jnp.array([1.0, -2.0, 0.5])
    found = train.second_moment(quadratic, params, examples, batch_size=None)
    assert float(found) == pytest.approx(np.sum((EIGENVALUES * np.asarray(params)) ** 2), rel=1e-5)


def test_a_path_without_noise_has_the_closed_form_of_a_quadratic(examples):
    start, rate = jnp.array([1.0, -2.0, 0.5]), 0.2
    logged = jnp.array([0, 1, 5, 30])
    path = train.sgd_path(quadratic, start, examples, jnp.full(31, rate), jax.random.key(0), logged, batch_size=None)
    expected = np.asarray(start) * (1 - rate * EIGENVALUES) ** np.asarray(logged)[:, None]
    np.testing.assert_allclose(path["params"], expected, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(path["gradient_norm2"], ((EIGENVALUES * expected) ** 2).sum(1), rtol=1e-4, atol=1e-10)


def test_a_noisy_path_is_the_loop_over_its_own_minibatches(examples):
    start, rates = np.array([1.0, -2.0, 0.5]), 0.3 / np.arange(1, 9)
    key = jax.random.key(3)
    path = train.sgd_path(
        quadratic,
        jnp.asarray(start, jnp.float32),
        examples,
        jnp.asarray(rates, jnp.float32),
        key,
        jnp.arange(8),
        batch_size=2,
    )
    params = start
    for t in range(8):
        np.testing.assert_allclose(path["params"][t], params, rtol=1e-5, atol=1e-6)
        rows = np.asarray(jax.random.randint(jax.random.fold_in(key, t), (2,), 0, 5))
        params = params - rates[t] * (EIGENVALUES * params - np.asarray(examples["x"])[rows].mean(0))


def test_on_a_quadratic_the_theorem_holds_and_the_floor_is_that_of_the_stationary_distribution(examples):
    rate, steps, seeds = 0.1, 4000, 64
    logged = jnp.arange(0, steps, 20)
    run = lambda key: train.sgd_path(
        quadratic, jnp.zeros(3), examples, jnp.full(steps, rate), key, logged, batch_size=1
    )
    paths = jax.jit(jax.vmap(run))(jax.random.split(jax.random.key(0), seeds))
    floor = np.asarray(paths["gradient_norm2"])[:, 100:].mean()
    # θ_{t+1} = (1 − αλ)θ_t + αx: a stationary variance of α Var(x) / (λ (2 − αλ)), and ∇f = λθ.
    variance = np.asarray(examples["x"]).var(0)
    expected = (EIGENVALUES * rate * variance / (2 - rate * EIGENVALUES)).sum()
    assert floor == pytest.approx(expected, rel=0.05)
    moment = max(float(train.second_moment(quadratic, p, examples, batch_size=1)) for p in paths["params"][0])
    lowest = -((np.asarray(examples["x"]).mean(0) ** 2) / EIGENVALUES).sum() / 2
    bound = metrics.sgd_bound(np.full(steps, rate), 0 - lowest, EIGENVALUES.max(), moment)
    left = np.minimum.accumulate(np.asarray(paths["gradient_norm2"]).mean(0))
    assert (left <= bound[np.asarray(logged)]).all()
