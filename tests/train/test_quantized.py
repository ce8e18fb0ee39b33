"""The vector-quantised task: its terms, its codebook from step to step, and digits as codes."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from etude import data, train
from etude.models.vqvae import VQVAE
from etude.train.quantized import COMMITMENT

SMALL = {"features": 16, "block_features": 8, "blocks": 1, "halvings": 1, "num_codes": 32, "code_dim": 8}
AVERAGED = VQVAE(**SMALL)
TRAINED = VQVAE(**SMALL, decay=None)


def make_optimizer(rate, hyper):
    return train.adam(rate)


def constant(hyper):
    return lambda step: 3e-3


def made_batch(size, seed=0):
    rng = np.random.default_rng(seed)
    return {
        "image": rng.integers(0, 256, (size, 8, 8, 1)).astype(np.uint8),
        "label": np.zeros(size, np.int32),
        "index": np.arange(size, dtype=np.int32),
    }


def begun(task):
    variables = dict(jax.jit(task.init)(jax.random.key(0)))
    return variables.pop("params"), variables


@pytest.mark.parametrize("model", [AVERAGED, TRAINED], ids=["averaged", "trained"])
def test_metrics_are_the_terms_of_the_loss(model):
    task = train.vector_quantized(model, (8, 8, 1))
    (params, state), batch = begun(task), made_batch(6)
    outputs, quantized = model.apply({"params": params, **state}, batch["image"] / 127.5 - 1)
    reconstruction = ((outputs - (batch["image"] / 127.5 - 1)) ** 2).mean((1, 2, 3))
    for train_now, hyper, beta in (
        (True, {"commitment": 2.0}, 2.0),
        (True, {}, COMMITMENT),
        (False, {}, COMMITMENT),
    ):
        mean, aux = task.loss(params, state, batch, jax.random.key(1), train_now, hyper)
        expected = reconstruction + quantized.codebook + beta * quantized.commitment
        np.testing.assert_allclose(aux.metrics["reconstruction"], reconstruction, rtol=1e-5)
        np.testing.assert_allclose(aux.metrics["commitment"], quantized.commitment, rtol=1e-5)
        np.testing.assert_allclose(aux.metrics["loss"], expected, rtol=1e-5)
        assert float(mean) == pytest.approx(float(expected.mean()), rel=1e-5)
        assert {x.shape for x in aux.metrics.values()} == {(6,)}
        # A row of a prediction may not depend on the rest of its batch, as the perplexity does.
        assert ("perplexity" in aux.metrics) == train_now


def test_the_state_is_the_codebook_and_moves_in_training_only():
    task = train.vector_quantized(AVERAGED, (8, 8, 1))
    (params, state), batch = begun(task), made_batch(6)
    assert state.keys() == {"codebook"}
    after = task.loss(params, state, batch, jax.random.key(1), True, {})[1].model_state
    assert jax.tree.structure(after) == jax.tree.structure(state)
    for before, moved in zip(jax.tree.leaves(state), jax.tree.leaves(after), strict=True):
        assert np.abs(moved - before).max() > 0
    same = task.loss(params, state, batch, jax.random.key(1), False, {})[1].model_state
    jax.tree.map(np.testing.assert_array_equal, same, state)
    assert begun(train.vector_quantized(TRAINED, (8, 8, 1)))[1] == {}


def test_the_evaluation_of_a_split_does_not_depend_on_the_batch_size(source):
    task = train.vector_quantized(AVERAGED, (8, 8, 1))
    params, state = begun(task)
    expected = train.evaluator(task, source, batch_size=100)({"params": params, **state})
    measured = train.evaluator(task, source, batch_size=7)({"params": params, **state})
    assert measured == pytest.approx(expected, rel=1e-5)


def test_a_population_of_commitments_equals_each_alone():
    task, batch = train.vector_quantized(AVERAGED, (8, 8, 1)), made_batch(8)
    step = train.make_step(task, make_optimizer, constant)

    def after(commitment):
        state = train.create_state(task, make_optimizer, jax.random.key(0), {"commitment": commitment})
        return step(state, batch)[1]

    weights = [0.1, 1.0, 5.0]
    together = jax.jit(jax.vmap(after))(jnp.array(weights))
    for i, weight in enumerate(weights):
        for name, value in jax.jit(after)(weight).items():
            assert float(together[name][i]) == pytest.approx(float(value), rel=1e-4), name
    assert together["loss"][2] > together["loss"][0]


@pytest.mark.parametrize("parallel", ["data", "pmap"])
def test_a_step_over_eight_devices_is_that_of_one(parallel, tools):
    # Given no dead codes, which replicas of pmap would replace by other draws,
    states = {}
    for mode in ("jit", parallel):
        axis_name = train.layout(mode).axis_name
        task = train.vector_quantized(VQVAE(**SMALL, revive_below=0.0, axis_name=axis_name), (8, 8, 1))
        step = train.make_step(task, lambda rate, hyper: train.sgd(rate), constant, axis_name=axis_name)
        compiled = train.compile_step(step, parallel=mode)
        state = train.create_state(task, lambda rate, hyper: train.sgd(rate), jax.random.key(0), {})
        placed, metrics = compiled(compiled.place(state), made_batch(16))
        states[mode] = compiled.logical(placed), {name: float(x) for name, x in metrics.items()}
    (one, its_metrics), (many, metrics) = states["jit"], states[parallel]
    assert tools.relative_difference(many.params, one.params) < 1e-4
    assert tools.relative_difference(many.model_state, one.model_state) < 1e-5
    assert metrics == pytest.approx(its_metrics, rel=1e-4)


@pytest.mark.parametrize("model", [AVERAGED, TRAINED], ids=["averaged", "trained"])
def test_digits_come_back_from_their_codes(model):
    source = data.load("digits", "train")
    images = jnp.asarray(source.arrays()["image"])
    task = train.vector_quantized(model, (8, 8, 1))
    step = train.make_step(task, make_optimizer, constant)

    def body(number, state):
        index = jax.random.randint(jax.random.fold_in(jax.random.key(7), number), (64,), 0, len(images))
        return step(state, {"image": images[index], "index": index})[0]

    state = train.create_state(task, make_optimizer, jax.random.key(0), {})
    state = jax.jit(partial(jax.lax.fori_loop, 0, 200, body))(state)
    shown = images[:200]
    indices = train.images_to_codes(model, state.variables, shown)
    assert indices.shape == (200, 4, 4)
    back = train.codes_to_images(model, state.variables, indices)
    assert (back.shape, back.dtype) == (shown.shape, jnp.uint8)
    # Of 64 pixels of 17 greys, 16 codes of 5 bits keep most: measured are 11 and 14 % of the variance lost.
    lost = (np.float32(back) - np.float32(shown)).var() / np.float32(shown).var()
    assert lost < 0.2
    # Codes that nobody chose are replaced where codes follow averages, and only there: measured are 32 and 22 in use.
    assert model is TRAINED or len(np.unique(indices)) == 32
