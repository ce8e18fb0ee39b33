"""One run, four ways to lay it out over eight virtual devices."""

import itertools
from functools import cache

import jax
import numpy as np
import pytest
from etude import models, train
from etude.train.parallel import MODES

STEPS = 20


@pytest.fixture(scope="module")
def cifar_batches():
    rng = np.random.default_rng(0)
    return [
        {
            "image": rng.integers(0, 256, (16, 8, 8, 1), dtype=np.uint8),
            "label": rng.integers(0, 10, 16).astype(np.int32),
            "index": rng.permutation(16).astype(np.int32),
        }
        for _ in range(STEPS)
    ]


@cache
def problem(parallel):
    axis_name = train.layout(parallel).axis_name
    model = models.create("resnet8", num_classes=10, axis_name=axis_name)
    task = train.classification(model, (8, 8, 1), preprocess=lambda x: x / 127.5 - 1.0)
    optimizer = lambda rate, hyper: train.sgd(rate, weight_decay=hyper["weight_decay"])  # noqa: E731
    step = train.make_step(task, optimizer, lambda hyper: lambda step: hyper["learning_rate"], axis_name=axis_name)
    state = train.create_state(task, optimizer, jax.random.key(0), {"learning_rate": 0.01, "weight_decay": 5e-4})
    return train.compile_step(step, parallel=parallel), state


@cache
def trained(parallel, batches):
    compiled, state = problem(parallel)
    placed = compiled.place(state)
    for batch in batches():
        placed, metrics = compiled(placed, batch)
    return compiled.logical(placed), float(metrics["loss"])


@pytest.fixture(scope="module")
def run(cifar_batches):
    batches = lambda: cifar_batches  # noqa: E731  (hashable, for the cache)
    return lambda parallel: trained(parallel, batches)


@pytest.mark.parametrize("parallel", MODES[1:])
def test_a_resnet_has_the_same_parameters_after_20_steps_in_every_mode(run, tools, parallel):
    reference, loss = run("jit")
    state, other_loss = run(parallel)
    assert tools.relative_difference(state.params, reference.params) < 1e-5
    assert tools.relative_difference(state.model_state, reference.model_state) < 1e-5
    assert other_loss == pytest.approx(loss, rel=1e-4)


@pytest.mark.parametrize("resident", [True, False])
@pytest.mark.parametrize("parallel", MODES[1:])
def test_feeds_give_the_same_run_in_every_mode(tools, source, parallel, resident):
    reference = tools.Problem("jit").run(source, 8, resident=resident)
    state = tools.Problem(parallel).run(source, 8, resident=resident)
    assert tools.relative_difference(state.params, reference.params) < 1e-5


def test_fsdp_spreads_parameters_and_momentum_over_the_devices():
    compiled, state = problem("fsdp")
    placed = compiled.place(state)
    kernels = [x for x in jax.tree.leaves((placed.params, placed.opt_state)) if x.ndim == 4 and x.size > 1000]
    assert kernels
    for kernel in kernels:
        assert kernel.addressable_shards[0].data.size == kernel.size // 8


@pytest.mark.parametrize("parallel", ["fsdp", "pmap"])
def test_the_state_keeps_its_layout_from_step_to_step(run, cifar_batches, parallel):
    compiled, state = problem(parallel)
    placed = compiled.place(state)
    before = jax.tree.map(lambda x: x.sharding, placed)
    placed, _ = compiled(placed, cifar_batches[0])
    same = jax.tree.map(lambda x, y: x.is_equivalent_to(y.sharding, y.ndim), before, placed)
    assert all(jax.tree.leaves(same))


@pytest.mark.parametrize(("saved", "restored"), [*itertools.permutations(MODES, 2)])
def test_a_checkpoint_of_one_layout_restores_under_another(tmp_path, tools, source, saved, restored):
    state = tools.Problem(saved).run(source, 3)
    checkpoints = train.Checkpoints(tmp_path / "checkpoints")
    checkpoints.save(state, {}, None)
    other = tools.Problem(restored)
    found = checkpoints.restore(other.state)
    checkpoints.close()
    back = other.where.logical(other.where.place_state(found.state))
    assert found.step == 3
    assert tools.identical(back, state)


@pytest.mark.parametrize("parallel", MODES)
def test_placing_and_training_a_state_leaves_the_callers_state_as_it_was(source, tools, parallel):
    problem = tools.Problem(parallel)
    problem.run(source, 2)
    assert tools.identical(problem.state, tools.Problem(parallel).state)


def test_an_unknown_mode_names_the_valid_ones():
    with pytest.raises(ValueError, match="'tpu'; valid are jit, data, fsdp, pmap"):
        train.layout("tpu")


@pytest.mark.parametrize("batch_size", [0, -4])
def test_a_batch_must_be_positive(tools, source, batch_size):
    with pytest.raises(ValueError, match=f"batch_size is {batch_size}"):
        tools.Problem().feed(source, batch_size=batch_size)


def test_a_batch_must_cut_evenly_over_devices(tools, source):
    with pytest.raises(ValueError, match="multiple of 8 devices"):
        tools.Problem("data").feed(source, batch_size=12)


def test_a_batch_larger_than_the_data_is_refused(tools, source):
    with pytest.raises(ValueError, match="only 100 train examples"):
        tools.Problem().feed(source, batch_size=128)
