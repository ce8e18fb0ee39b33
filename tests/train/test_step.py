"""A step against closed forms."""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from etude import models, tasks, train


class Linear(nn.Module):
    @nn.compact
    def __call__(self, x, *, train=False):
        return nn.Dense(3, name="dense")(x.reshape(len(x), -1))


@pytest.fixture
def batch():
    rng = np.random.default_rng(1)
    return {
        "image": rng.normal(size=(12, 2, 2, 1)).astype(np.float32),
        "label": rng.integers(0, 3, 12).astype(np.int32),
        "index": np.arange(12, dtype=np.int32),
    }


def run(batch, *, optimizer=train.sgd, hyper=None, steps=1, ema=False, schedule=None, **options):
    hyper = {"learning_rate": 0.1} | (hyper or {})
    task = tasks.classification(Linear(), (2, 2, 1))

    def make_optimizer(rate, _):
        return optimizer(rate)

    step = jax.jit(train.make_step(task, make_optimizer, schedule or constant, **options))
    state = train.create_state(task, make_optimizer, jax.random.key(0), hyper, ema=ema)
    states, metrics = [state], {}
    for _ in range(steps):
        state, metrics = step(state, batch)
        states.append(state)
    return states, {name: mean.value for name, mean in metrics.items()}


def constant(hyper):
    return lambda step: hyper["learning_rate"]


def test_plain_sgd_moves_by_the_rate_times_the_gradient_of_the_mean_loss(batch):
    (before, after), metrics = run(batch, optimizer=partial(train.sgd, momentum=0.0))
    x = batch["image"].reshape(12, -1)

    def loss(params):
        logits = x @ params["dense"]["kernel"] + params["dense"]["bias"]
        return (jax.nn.logsumexp(logits, -1) - logits[np.arange(12), batch["label"]]).mean()

    gradient = jax.grad(loss)(before.params)
    expected = jax.tree.map(lambda p, g: p - 0.1 * g, before.params, gradient)
    for name in ("kernel", "bias"):
        np.testing.assert_allclose(after.params["dense"][name], expected["dense"][name], rtol=1e-5, atol=1e-7)
    assert float(metrics["loss"]) == pytest.approx(float(loss(before.params)), rel=1e-5)
    assert float(metrics["gradient_norm"]) == pytest.approx(float(optax.tree.norm(gradient)), rel=1e-5)


@pytest.mark.parametrize("weights", [None, np.array([0, 0, 0, 1, 0, 0.5, 0, 3, 0, 0, 0, 2], np.float32)])
@pytest.mark.parametrize("parts", [2, 3, 12])
def test_accumulated_parts_give_the_update_of_the_whole_batch(batch, parts, weights):
    batch = batch if weights is None else {**batch, "weight": weights}
    (_, whole), metrics = run(batch)
    (_, parted), parted_metrics = run(batch, accumulate=parts)
    np.testing.assert_allclose(parted.params["dense"]["kernel"], whole.params["dense"]["kernel"], rtol=1e-5)
    for name in ("loss", "accuracy", "gradient_norm"):
        assert float(parted_metrics[name]) == pytest.approx(float(metrics[name]), rel=1e-5)


def test_an_optimizer_is_told_of_the_whole_batch_whatever_the_parts(batch):
    told = []

    def spy(rate, hyper):
        def update(updates, state, params=None, *, value, grad, value_fn):
            told.append((value, grad["dense"]["kernel"], value_fn(params)))
            return updates, state

        return optax.GradientTransformationExtraArgs(lambda params: (), update)

    task = tasks.classification(Linear(), (2, 2, 1))
    state = train.create_state(task, spy, jax.random.key(0), {"learning_rate": 0.1})
    weighted = {**batch, "weight": np.array([0, 0, 0, 1, 0, 0.5, 0, 3, 0, 0, 0, 2], np.float32)}
    for parts in (1, 3):
        train.make_step(task, spy, constant, accumulate=parts)(state, weighted)
    (value, gradient, again), (of_parts, its_gradient, its_again) = told
    assert float(again) == pytest.approx(float(value), rel=1e-5)
    assert float(of_parts) == pytest.approx(float(value), rel=1e-5)
    assert float(its_again) == pytest.approx(float(value), rel=1e-5)
    np.testing.assert_allclose(its_gradient, gradient, rtol=1e-4, atol=1e-7)


def test_clipping_bounds_the_update_and_reports_the_norm_before_it(batch):
    (before, after), metrics = run(batch, optimizer=partial(train.sgd, momentum=0.0, clip_norm=1e-3))
    moved = optax.tree.norm(jax.tree.map(jnp.subtract, after.params, before.params))
    assert float(moved) == pytest.approx(0.1 * 1e-3, rel=1e-3)
    assert float(metrics["gradient_norm"]) > 1e-2


@pytest.mark.parametrize("optimizer", [partial(train.sgd, momentum=0.0), train.adamw])
def test_weight_decay_shrinks_kernels_and_spares_biases(batch, optimizer):
    (before, without), _ = run(batch, optimizer=optimizer)
    (_, decayed), _ = run(batch, optimizer=partial(optimizer, weight_decay=0.1))
    np.testing.assert_array_equal(decayed.params["dense"]["bias"], without.params["dense"]["bias"])
    # A step of rate 0.1 takes 0.1 · 0.1 of the weight itself away, beside the gradient's part.
    expected = without.params["dense"]["kernel"] - 0.1 * 0.1 * before.params["dense"]["kernel"]
    np.testing.assert_allclose(decayed.params["dense"]["kernel"], expected, rtol=1e-4, atol=1e-6)


def test_the_decay_mask_goes_by_name_since_scanned_blocks_have_one_axis_more():
    params = {"blocks": {"conv": {"kernel": 0.0, "bias": 0.0}, "norm": {"scale": 0.0, "bias": 0.0}}}
    assert train.decay_mask(params) == {
        "blocks": {"conv": {"kernel": True, "bias": False}, "norm": {"scale": False, "bias": False}}
    }


@pytest.mark.parametrize(
    ("name", "inputs"),
    [("vit_micro_patch2_8", [(1, 8, 8, 1)]), ("dit_small_patch2", [(1, 8, 8, 3), (1,)])],
)
def test_the_kernels_of_a_transformer_are_decayed_and_nothing_else(name, inputs):
    model = models.create(name)
    params = jax.eval_shape(lambda: model.init(jax.random.key(0), *map(jnp.zeros, inputs)))["params"]
    decayed = {path[-1].key for path, yes in jax.tree_util.tree_leaves_with_path(train.decay_mask(params)) if yes}
    assert decayed
    assert all(name.endswith("kernel") for name in decayed), decayed


def test_the_average_follows_its_recursion(batch):
    states, _ = run(batch, steps=3, ema=True, ema_decay=0.5)
    average = np.asarray(states[0].params["dense"]["kernel"], np.float64)
    for step, state in enumerate(states[1:]):
        decay = min(0.5, (1 + step) / (10 + step))
        average = decay * average + (1 - decay) * np.asarray(state.params["dense"]["kernel"])
    np.testing.assert_allclose(states[-1].variables["params"]["dense"]["kernel"], average, rtol=1e-5)


def test_the_schedule_sees_the_step_and_the_hyperparameters(batch):
    def schedule(hyper):
        return lambda step: hyper["learning_rate"] / (1.0 + step)

    _, metrics = run(batch, steps=4, schedule=schedule, hyper={"learning_rate": 0.2})
    assert float(metrics["learning_rate"]) == pytest.approx(0.2 / 4)


def test_a_population_over_rates_equals_each_member_alone(batch):
    task = tasks.classification(Linear(), (2, 2, 1))

    def make_optimizer(rate, hyper):
        return train.sgd(rate, weight_decay=hyper["weight_decay"])

    step = train.make_step(task, make_optimizer, constant)

    def after(rate):
        hyper = {"learning_rate": rate, "weight_decay": 0.01}
        state = train.create_state(task, make_optimizer, jax.random.key(0), hyper)
        return jax.lax.fori_loop(0, 5, lambda _, s: step(s, batch)[0], state).params["dense"]["kernel"]

    rates = jnp.array([0.01, 0.1, 1.0])
    together = jax.jit(jax.vmap(after))(rates)
    for rate, kernel in zip(rates, together, strict=True):
        np.testing.assert_allclose(kernel, jax.jit(after)(rate), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"accumulate": 0}, "accumulate is 0"),
        ({"ema_decay": 1.0}, "ema_decay is 1.0"),
        ({"ema_decay": 0}, "ema"),
    ],
)
def test_numbers_out_of_range_are_refused(batch, options, message):
    with pytest.raises(ValueError, match=message):
        run(batch, **options)


def test_a_clip_norm_of_zero_is_refused():
    with pytest.raises(ValueError, match="clip_norm is 0"):
        train.sgd(0.1, clip_norm=0.0)


def test_a_compiled_creation_gives_the_state_of_the_plain_one():
    task = tasks.classification(Linear(), (2, 2, 1))

    def make_optimizer(rate, _):
        return train.adam(rate)

    arguments = jax.random.key(3), {"learning_rate": 0.1}
    plain = train.create_state(task, make_optimizer, *arguments, ema=True)
    compiled = train.compile_create(task, make_optimizer, ema=True)(*arguments)
    assert jax.tree.structure(plain) == jax.tree.structure(compiled)
    # Compilers may round the last bit of an initializer differently.
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-6, atol=1e-7), plain.variables, compiled.variables)
    assert jax.random.key_data(plain.key).tolist() == jax.random.key_data(compiled.key).tolist()
