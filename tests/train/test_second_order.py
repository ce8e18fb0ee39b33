"""Newton by conjugate gradients and Shampoo, where the answer is known."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from etude import tasks, train
from etude.train.second_order import scale_by_newton_cg, scale_by_shampoo

MATRIX = np.array([[3.0, 1.0, 0.0], [1.0, 2.0, 0.5], [0.0, 0.5, 0.2]])
OFFSET = np.array([1.0, -2.0, 0.3])


def quadratic(params):
    x = jnp.concatenate([params["a"], params["b"]])
    return x @ jnp.asarray(MATRIX) @ x / 2 - jnp.asarray(OFFSET) @ x


def newton_step(loss, params, **options):
    optimizer = scale_by_newton_cg(**options)
    return optimizer.update(jax.grad(loss)(params), optimizer.init(params), params, value_fn=loss)[0]


def test_newton_solves_a_quadratic_in_one_step_when_nothing_is_truncated():
    with jax.enable_x64(True):
        params = {"a": jnp.array([1.0, 2.0]), "b": jnp.array([3.0])}
        step = newton_step(quadratic, params, cg_steps=20, tolerance=0.0)
        found = np.concatenate([params["a"] - step["a"], params["b"] - step["b"]])
    np.testing.assert_allclose(found, np.linalg.solve(MATRIX, OFFSET), rtol=1e-9)


@pytest.mark.parametrize("tolerance", [0.5, 0.1, 1e-3])
def test_a_truncated_step_is_the_first_of_conjugate_gradients_within_its_tolerance(tolerance):
    x = np.array([1.0, 2.0, 3.0])
    params = {"a": jnp.asarray(x[:2], jnp.float32), "b": jnp.asarray(x[2:], jnp.float32)}
    gradient = MATRIX @ x - OFFSET
    relative = []
    for cg_steps in (1, 2, 3):
        step = newton_step(quadratic, params, cg_steps=cg_steps, tolerance=0.0)
        residual = MATRIX @ np.concatenate([step["a"], step["b"]]) - gradient
        relative.append(np.linalg.norm(residual) / np.linalg.norm(gradient))
    needed = 1 + next(i for i, left in enumerate(relative) if left <= tolerance)
    truncated = newton_step(quadratic, params, cg_steps=20, tolerance=tolerance)
    exactly = newton_step(quadratic, params, cg_steps=needed, tolerance=0.0)
    np.testing.assert_allclose(truncated["a"], exactly["a"], rtol=1e-5)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_gradient_that_is_not_finite_is_not_taken_for_a_minimum(bad):
    params = {"a": jnp.ones(2), "b": jnp.ones(1)}
    gradient = {"a": jnp.array([1.0, bad]), "b": jnp.ones(1)}
    step, _ = scale_by_newton_cg().update(gradient, optax.EmptyState(), params, value_fn=quadratic)
    assert np.isnan(step["b"]).all()


def test_damping_and_decay_are_added_to_the_hessian():
    params = {"a": jnp.array([1.0, 2.0]), "b": jnp.array([3.0])}
    step = newton_step(
        quadratic,
        params,
        damping=100.0,
        weight_decay=50.0,
        cg_steps=20,
        tolerance=0.0,
        decay_mask=lambda params: {"a": True, "b": False},
    )
    x, decay = np.array([1.0, 2.0, 3.0]), np.diag([50.0, 50.0, 0.0])
    expected = np.linalg.solve(MATRIX + decay + 100 * np.eye(3), MATRIX @ x - OFFSET + decay @ x)
    np.testing.assert_allclose(np.concatenate([step["a"], step["b"]]), expected, rtol=1e-5)


def test_negative_curvature_at_once_gives_the_gradient():
    step = newton_step(lambda p: -(p["a"] ** 2).sum(), {"a": jnp.array([1.0, 2.0])})
    np.testing.assert_allclose(step["a"], [-2.0, -4.0])


def test_negative_curvature_later_keeps_a_descent_direction():
    loss = lambda p: (jnp.array([4.0, 1.0, -0.5]) * p["a"] ** 2).sum() / 2
    params = {"a": jnp.array([1.0, 1.0, 0.1])}
    gradient = jax.grad(loss)(params)["a"]
    kept, first = (newton_step(loss, params, cg_steps=n, tolerance=0.0)["a"] for n in (20, 2))
    np.testing.assert_allclose(kept, first, rtol=1e-5)  # the third direction is the curved one
    assert float(kept @ gradient) > 0


def test_newton_reaches_the_optimum_of_logistic_regression_that_scikit_learn_finds():
    from sklearn.linear_model import LogisticRegression

    rng = np.random.default_rng(0)
    x = rng.normal(size=(200, 5))
    y = (x @ np.array([1.0, -2.0, 0.5, 0.0, 1.0]) + rng.normal(size=200) > 0).astype(int)
    reference = LogisticRegression(C=1.0, fit_intercept=False, tol=1e-10, max_iter=1000).fit(x, y).coef_[0]
    sign = jnp.asarray(2 * y - 1)
    with jax.enable_x64(True):
        loss = lambda p: jnp.logaddexp(0, -sign * (jnp.asarray(x) @ p["kernel"])).sum()
        params = {"kernel": jnp.zeros(5)}
        optimizer = train.newton_cg(1.0, damping=0.0, cg_steps=20, weight_decay=1.0)
        update = jax.jit(lambda p, s: optimizer.update(jax.grad(loss)(p), s, p, value_fn=loss))
        state = optimizer.init(params)
        for _ in range(8):
            updates, state = update(params, state)
            params = optax.apply_updates(params, updates)
    np.testing.assert_allclose(params["kernel"], reference, rtol=1e-5, atol=1e-7)


def test_newton_goes_through_vmap():
    params = {"a": jnp.array([[1.0, 2.0], [0.0, 1.0]]), "b": jnp.array([[3.0], [-1.0]])}
    together = jax.vmap(lambda p: newton_step(quadratic, p))(params)
    for i in range(2):
        alone = newton_step(quadratic, jax.tree.map(lambda x: x[i], params))
        np.testing.assert_allclose(together["a"][i], alone["a"], rtol=1e-4)


def test_newton_without_the_loss_says_what_it_needs():
    with pytest.raises(ValueError, match="needs the loss as a function"):
        scale_by_newton_cg().update({"a": jnp.ones(1)}, optax.EmptyState(), {"a": jnp.ones(1)})
    with pytest.raises(ValueError, match="cg_steps is 0"):
        scale_by_newton_cg(cg_steps=0)


def linear_regression():
    init = lambda key: {"params": {"kernel": jax.random.normal(key, (3,))}}

    def loss(params, model_state, batch, key, train, hyper):
        per_example = (batch["x"] @ params["kernel"] - batch["y"]) ** 2
        return tasks.Mean.of(per_example), tasks.Aux(model_state, {})

    rng = np.random.default_rng(0)
    batch = {
        "x": jnp.asarray(rng.normal(size=(12, 3)), jnp.float32),
        "y": jnp.asarray(rng.normal(size=12), jnp.float32),
    }
    return tasks.Task(init, loss), batch


def newton_training_step(**options):
    task, batch = linear_regression()
    make = lambda rate, hyper: train.newton_cg(rate, damping=0.0, cg_steps=10, tolerance=0.0)
    step = train.make_step(task, make, lambda hyper: lambda step: 1.0, **options)
    return step, train.create_state(task, make, jax.random.key(0), {}), batch


@pytest.mark.parametrize("accumulate", [1, 3])
def test_a_training_step_of_newton_is_least_squares_however_the_batch_is_cut(accumulate):
    step, state, batch = newton_training_step(accumulate=accumulate)
    after, _ = jax.jit(step)(state, batch)
    expected = np.linalg.lstsq(batch["x"], batch["y"], rcond=None)[0]
    np.testing.assert_allclose(after.params["kernel"], expected, rtol=1e-4, atol=1e-5)  # float32


def test_newton_refuses_pmap_whose_replicas_would_differentiate_different_losses():
    step, state, batch = newton_training_step(axis_name="replica")
    with pytest.raises(ValueError, match="in every layout but pmap"):
        jax.vmap(lambda batch: step(state, batch), axis_name="replica")(jax.tree.map(lambda x: x[None], batch))


def power(matrix, exponent, eps):
    values, vectors = np.linalg.eigh(matrix)
    return vectors @ np.diag((np.maximum(values, 0) + eps * values.max()) ** exponent) @ vectors.T


def reference_shampoo(gradients, b2, eps, update_every=1):
    """The updates of one matrix or vector, in float64."""
    g = gradients[0]
    matrix = g.reshape(len(g), -1)
    left, right, moment, updates = np.zeros((len(g),) * 2), np.zeros((matrix.shape[1],) * 2), np.zeros(g.shape), []
    for t, g in enumerate(gradients):
        matrix = g.reshape(len(g), -1)
        left = b2 * left + (1 - b2) * matrix @ matrix.T
        right = b2 * right + (1 - b2) * matrix.T @ matrix
        if t % update_every == 0:
            exponent = -0.25 if g.ndim == 2 else -0.5
            roots = power(left, exponent, eps), power(right, exponent, eps) if g.ndim == 2 else np.eye(1)
        direction = (roots[0] @ matrix @ roots[1]).reshape(g.shape)
        moment = b2 * moment + (1 - b2) * g**2
        length = np.linalg.norm(g / (np.sqrt(moment / (1 - b2 ** (t + 1))) + 1e-8))
        updates.append(direction * length / np.linalg.norm(direction))
    return updates


def shampoo_updates(gradients, **options):
    optimizer = scale_by_shampoo(**options)
    state, updates = optimizer.init(gradients[0]), []
    update = jax.jit(optimizer.update)
    for g in gradients:
        step, state = update(g, state)
        updates.append(np.asarray(step))
    return updates


@pytest.mark.parametrize("update_every", [1, 3])
@pytest.mark.parametrize("shape", [(4, 3), (5,)])
def test_shampoo_is_its_formula_in_float64(shape, update_every):
    rng = np.random.default_rng(0)
    gradients = [rng.normal(size=shape) for _ in range(25)]
    ours = shampoo_updates(
        [jnp.asarray(g, jnp.float32) for g in gradients], b2=0.9, eps=1e-4, update_every=update_every
    )
    for mine, expected in zip(ours, reference_shampoo(gradients, 0.9, 1e-4, update_every), strict=True):
        # float32 against float64 at a condition number of 1e4, where the first statistics have rank one.
        np.testing.assert_allclose(mine, expected, rtol=0, atol=5e-4 * np.abs(expected).max())


def test_blocks_are_preconditioned_as_parameters_of_their_own():
    rng = np.random.default_rng(0)
    gradients = [jnp.asarray(rng.normal(size=(6, 4)), jnp.float32) for _ in range(5)]
    whole = shampoo_updates(gradients, block_size=4)[-1]
    parts = [shampoo_updates([g[rows] for g in gradients], block_size=8)[-1] for rows in (slice(0, 4), slice(4, 6))]
    for rows, part in zip((slice(0, 4), slice(4, 6)), parts, strict=True):
        direction = whole[rows] / np.linalg.norm(whole[rows])  # lengths are grafted over the whole parameter
        np.testing.assert_allclose(direction, part / np.linalg.norm(part), rtol=1e-3, atol=1e-4)


def test_blocks_larger_than_the_parameter_change_nothing():
    g = jnp.asarray(np.random.default_rng(0).normal(size=(6, 4)), jnp.float32)
    np.testing.assert_array_equal(shampoo_updates([g], block_size=6)[0], shampoo_updates([g], block_size=128)[0])


def test_shampoo_goes_through_vmap():
    g = jnp.asarray(np.random.default_rng(0).normal(size=(4, 2, 5, 3)), jnp.float32)  # [steps, members, rows, columns]
    optimizer = scale_by_shampoo(update_every=2, block_size=4)

    def run(gradients):
        return jax.lax.scan(lambda state, g: optimizer.update(g, state)[::-1], optimizer.init(gradients[0]), gradients)

    _, together = jax.jit(jax.vmap(run, in_axes=1))(g)
    for member in range(2):
        np.testing.assert_allclose(together[member], run(g[:, member])[1], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("shape", [(3, 2), (3,)])
@pytest.mark.parametrize("eps", [1e-6, 1e-12])
def test_a_parameter_without_gradient_stays_where_it_is(shape, eps):
    for update in shampoo_updates([jnp.zeros(shape)] * 2, eps=eps):
        np.testing.assert_array_equal(update, 0)


@pytest.mark.parametrize("shape", [(), (1,), (7,), (5, 3), (1, 4), (3, 1), (3, 3, 2, 8), (2, 3, 3, 4, 4)])
def test_any_rank_keeps_its_shape_and_the_grafted_length(shape):
    g = jnp.asarray(np.random.default_rng(1).normal(size=shape), jnp.float32)
    update = shampoo_updates([g], block_size=4)[0]
    assert update.shape == shape
    assert np.linalg.norm(update) == pytest.approx(np.sqrt(g.size), rel=1e-3)  # RMSProp's first step is ±1


def test_shampoo_is_faster_than_gradient_descent_where_rows_and_columns_are_badly_scaled():
    scale = jnp.outer(jnp.logspace(0, -2, 6), jnp.logspace(0, -2, 5))
    loss = lambda p: (scale * (p["kernel"] - 1) ** 2).sum() / 2

    def final(optimizer):
        def step(carry, _):
            params, state = carry
            updates, state = optimizer.update(jax.grad(loss)(params), state, params)
            return (optax.apply_updates(params, updates), state), None

        params = {"kernel": jnp.zeros((6, 5))}
        return float(loss(jax.lax.scan(step, (params, optimizer.init(params)), None, 200)[0][0]))

    best = min(final(train.sgd(rate, momentum=0.0)) for rate in (0.5, 1.0, 1.9))  # 2 is where it diverges
    assert final(train.shampoo(0.03, momentum=0.0, b2=0.9)) < 0.1 * best


@pytest.mark.parametrize("name", ["block_size", "update_every"])
def test_numbers_below_one_are_refused(name):
    with pytest.raises(ValueError, match=f"{name} is 0"):
        scale_by_shampoo(**{name: 0})
