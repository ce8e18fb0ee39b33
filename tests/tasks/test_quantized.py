"""The vector-quantized task: its terms, its codebook from step to step, and digits as codes."""

from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from etude import data, tasks, train
from etude.models import VQVAE
from etude.tasks.quantized import COMMITMENT

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
def test_metrics_are_the_terms_of_the_loss(tools, model):
    task = tasks.vector_quantized(model, (8, 8, 1))
    (params, state), batch = begun(task), made_batch(6)
    outputs, quantized = model.apply({"params": params, **state}, batch["image"] / 127.5 - 1)
    reconstruction = ((outputs - (batch["image"] / 127.5 - 1)) ** 2).mean((1, 2, 3))
    for train_now, hyper, beta in (
        (True, {"commitment": 2.0}, 2.0),
        (True, {}, COMMITMENT),
        (False, {}, COMMITMENT),
    ):
        arguments = params, state, batch, jax.random.key(1), train_now, hyper
        of_each = tools.per_example(task, *arguments)
        expected = reconstruction + quantized.codebook + beta * quantized.commitment
        np.testing.assert_allclose(of_each["reconstruction"], reconstruction, rtol=1e-5)
        np.testing.assert_allclose(of_each["commitment"], quantized.commitment, rtol=1e-5)
        np.testing.assert_allclose(of_each["loss"], expected, rtol=1e-5)
        mean, aux = task.loss(*arguments)
        assert float(mean.value) == pytest.approx(float(expected.mean()), rel=1e-5)
        assert {float(x.weight) for x in (mean, *aux.metrics.values())} == {6}
        # A row of a prediction may not depend on the rest of its batch, as the perplexity does.
        assert ("perplexity" in aux.metrics) == train_now


def test_the_state_is_the_codebook_and_moves_in_training_only():
    task = tasks.vector_quantized(AVERAGED, (8, 8, 1))
    (params, state), batch = begun(task), made_batch(6)
    assert state.keys() == {"codebook"}
    after = task.loss(params, state, batch, jax.random.key(1), True, {})[1].model_state
    assert jax.tree.structure(after) == jax.tree.structure(state)
    for before, moved in zip(jax.tree.leaves(state), jax.tree.leaves(after), strict=True):
        assert np.abs(moved - before).max() > 0
    same = task.loss(params, state, batch, jax.random.key(1), False, {})[1].model_state
    jax.tree.map(np.testing.assert_array_equal, same, state)
    assert begun(tasks.vector_quantized(TRAINED, (8, 8, 1)))[1] == {}


def test_the_evaluation_of_a_split_does_not_depend_on_the_batch_size(source):
    task = tasks.vector_quantized(AVERAGED, (8, 8, 1))
    params, state = begun(task)
    evaluation = tasks.evaluation(task)
    expected = jax.tree.map(float, train.evaluator(evaluation, source, batch_size=100)({"params": params, **state}))
    measured = train.evaluator(evaluation, source, batch_size=7)({"params": params, **state})
    assert expected.keys() == {"loss", "reconstruction", "commitment"}
    assert measured == pytest.approx(expected, rel=1e-5)


def test_a_population_of_commitments_equals_each_alone():
    task, batch = tasks.vector_quantized(AVERAGED, (8, 8, 1)), made_batch(8)
    step = train.make_step(task, make_optimizer, constant)

    def after(commitment):
        state = train.create_state(task, make_optimizer, jax.random.key(0), {"commitment": commitment})
        return {name: mean.value for name, mean in step(state, batch)[1].items()}

    weights = [0.1, 1.0, 5.0]
    together = jax.jit(jax.vmap(after))(jnp.array(weights))
    for i, weight in enumerate(weights):
        for name, value in jax.jit(after)(weight).items():
            assert float(together[name][i]) == pytest.approx(float(value), rel=1e-4), name
    assert together["loss"][2] > together["loss"][0]


def sgd(rate, hyper):
    return train.sgd(rate)


@pytest.fixture(scope="module")
def after_a_step():
    @cache
    def after_a_step(parallel):
        # Given no dead codes, which replicas of pmap would replace by other draws,
        layout = train.make_layout(parallel)
        task = tasks.vector_quantized(VQVAE(**SMALL, revive_below=0.0, axis_name=layout.axis_name), (8, 8, 1))
        step = train.make_step(task, sgd, constant, axis_name=layout.axis_name, gather=layout.gather)
        compiled = layout.compile(step, ("state", "batch"), ("state", "members"))
        state = train.create_state(task, sgd, jax.random.key(0), {})
        placed, metrics = compiled(layout.place_state(state), layout.place_batch(made_batch(16), 0))
        return layout.state(placed), {name: float(x.value) for name, x in layout.unplace(metrics).items()}

    return after_a_step


@pytest.mark.parametrize("parallel", ["data", "pmap"])
def test_a_step_over_eight_devices_is_that_of_one(parallel, tools, after_a_step):
    (one, its_metrics), (many, metrics) = after_a_step("jit"), after_a_step(parallel)
    assert tools.relative_difference(many.params, one.params) < 1e-4
    assert tools.relative_difference(many.model_state, one.model_state) < 1e-5
    assert metrics == pytest.approx(its_metrics, rel=1e-4)


@pytest.mark.parametrize("model", [AVERAGED, TRAINED], ids=["averaged", "trained"])
def test_digits_come_back_from_their_codes(model):
    source = data.load("digits", "train")
    images = jnp.asarray(source.arrays()["image"])
    task = tasks.vector_quantized(model, (8, 8, 1))
    step = train.make_step(task, make_optimizer, constant)

    def body(number, state):
        index = jax.random.randint(jax.random.fold_in(jax.random.key(7), number), (64,), 0, len(images))
        return step(state, {"image": images[index], "index": index})[0]

    state = train.create_state(task, make_optimizer, jax.random.key(0), {})
    state = jax.jit(partial(jax.lax.fori_loop, 0, 200, body))(state)
    shown = images[:200]
    indices = tasks.images_to_codes(model, state.variables, shown)
    assert indices.shape == (200, 4, 4)
    back = tasks.codes_to_images(model, state.variables, indices)
    assert (back.shape, back.dtype) == (shown.shape, jnp.uint8)
    # Of 64 pixels of 17 greys, 16 codes of 5 bits keep most: measured are 11 and 14 % of the variance lost.
    lost = (np.float32(back) - np.float32(shown)).var() / np.float32(shown).var()
    assert lost < 0.2
    # Codes that nobody chose are replaced where codes follow averages, and only there: measured are 32 and 22 in use.
    assert model is TRAINED or len(np.unique(indices)) == 32
