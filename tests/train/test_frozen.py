"""Training a part of a network: the part as if it were alone, and the rest as it was, to the bit."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from etude import tasks, train

PARAMS = {"trunk": {"kernel": jnp.ones((3, 3))}, "head": {"kernel": jnp.ones((3, 2)), "bias": jnp.ones(2)}}
GRADIENTS = jax.tree.map(lambda x: 0.1 * x, PARAMS)
HYPER = {"momentum": 0.9, "weight_decay": 0.1, "clip_norm": 0.05}


def is_head(path):
    return path[0] == "head"


def value_fn(params):
    return sum(jnp.sum((x - 0.3) ** 2) for x in jax.tree.leaves(params))


@pytest.mark.parametrize("name", train.OPTIMIZERS)
def test_every_optimizer_moves_the_part_as_if_it_were_all_and_nothing_else(name):
    make = train.OPTIMIZERS[name]
    whole = train.only(make(0.1, **HYPER), is_head)
    alone = train.only(make(0.1, **HYPER), lambda path: True)
    extra = {"value": 1.0, "grad": GRADIENTS, "value_fn": value_fn}
    updates, state = whole.update(GRADIENTS, whole.init(PARAMS), PARAMS, **extra)
    head = {"head": PARAMS["head"]}
    extra = {"value": 1.0, "grad": {"head": GRADIENTS["head"]}, "value_fn": value_fn}
    expected, _ = alone.update({"head": GRADIENTS["head"]}, alone.init(head), head, **extra)
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-6), updates["head"], expected["head"])
    assert np.abs(updates["head"]["kernel"]).min() > 0
    np.testing.assert_array_equal(updates["trunk"]["kernel"], 0)
    assert not any(np.shape(x) == (3, 3) for x in jax.tree.leaves(state))


def test_nothing_to_train_is_refused():
    with pytest.raises(ValueError, match="No parameter is left to train"):
        train.only(train.sgd(0.1), lambda path: False).init(PARAMS)


def test_a_state_begins_with_the_variables_that_are_given(tools):
    problem = tools.problem("jit", ema=True)
    own = problem.create(0, tools.HYPER)
    given = jax.tree.map(lambda x: np.asarray(x) + 1, {"params": own.params, **own.model_state})
    given["params"]["Dense_1"] = {"kernel": None, "bias": None}
    start = train.compile_create(problem.task, tools.make_optimizer, ema=True, start=given)(
        jax.random.key(0), tools.HYPER
    )
    for params in (start.params, start.ema["params"]):
        np.testing.assert_array_equal(params["Dense_0"]["kernel"], own.params["Dense_0"]["kernel"] + 1)
        np.testing.assert_allclose(params["Dense_1"]["kernel"], own.params["Dense_1"]["kernel"], rtol=1e-6)
    jax.tree.map(lambda x, y: np.testing.assert_array_equal(x, y + 1), start.model_state, own.model_state)


def test_a_frozen_classifier_gets_gradients_for_its_head_alone_and_keeps_its_statistics(tools):
    model, source = tools.SmallNet(), tools.make_source()
    task = tasks.classification(model, (8, 8, 1), label_smoothing=0.1, trained=lambda path: path[0] == "Dense_1")
    variables = task.init(jax.random.key(0))
    params, rest = variables["params"], {"batch_stats": variables["batch_stats"]}
    batch = {name: jnp.asarray(x) for name, x in source.read(np.arange(8)).items()}

    def loss(params):
        mean, aux = task.loss(params, rest, batch, jax.random.key(1), True, {})
        return mean.value, aux.model_state

    gradients, state = jax.grad(loss, has_aux=True)(params)
    assert float(jnp.abs(gradients["Dense_1"]["kernel"]).sum()) > 0
    assert all(float(jnp.abs(x).sum()) == 0 for x in jax.tree.leaves({**gradients, "Dense_1": {}}))
    jax.tree.map(np.testing.assert_array_equal, state, rest)
    # Labels are smoothed in training, and only there.
    assert float(loss(params)[0]) != float(task.loss(params, rest, batch, jax.random.key(1), False, {})[0].value)
