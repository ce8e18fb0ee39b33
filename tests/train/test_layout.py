"""One run, four ways to lay it out over eight virtual devices."""

import itertools
from functools import cache

import jax
import numpy as np
import pytest
from etude import models, tasks, train
from etude.train import LAYOUTS

STEPS = 20


@pytest.fixture(scope="module")
def batches():
    rng = np.random.default_rng(0)
    return [
        {
            "image": rng.integers(0, 256, (16, 8, 8, 1), dtype=np.uint8),
            "label": rng.integers(0, 10, 16).astype(np.int32),
            "index": rng.permutation(16).astype(np.int32),
        }
        for _ in range(STEPS)
    ]


def make_optimizer(rate, hyper):
    return train.sgd(rate, weight_decay=hyper["weight_decay"])


@cache
def resnet(parallel):
    """(layout, compiled step, state at step 0)"""
    layout = train.make_layout(parallel)
    model = models.create("resnet8", num_classes=10, axis_name=layout.axis_name)
    task = tasks.classification(model, (8, 8, 1), preprocess=lambda x: x / 127.5 - 1.0)
    step = train.make_step(
        task,
        make_optimizer,
        lambda hyper: lambda step: hyper["learning_rate"],
        axis_name=layout.axis_name,
        gather=layout.gather,
    )
    state = train.compile_create(task, make_optimizer)(jax.random.key(0), {"learning_rate": 0.01, "weight_decay": 5e-4})
    return layout, layout.compile(step, ("state", "batch"), ("state", "members")), state


@pytest.fixture(scope="module")
def trained(batches):
    @cache
    def trained(parallel):
        """(state after the steps, last loss, whether each array stayed where it was in the first step)"""
        layout, step, state = resnet(parallel)
        placed = layout.place_state(state)
        before = jax.tree.map(lambda x: x.sharding, placed)
        stayed = []
        for batch in batches:
            placed, metrics = step(placed, layout.place_batch(batch, 0))
            same = jax.tree.map(lambda x, y: x.is_equivalent_to(y.sharding, y.ndim), before, placed)
            stayed.append(all(jax.tree.leaves(same)))
        return layout.state(placed), float(layout.unplace(metrics)["loss"].value), stayed

    return trained


@pytest.mark.parametrize("parallel", ["data", "fsdp", "pmap"])
def test_a_resnet_has_the_same_parameters_after_20_steps_in_every_layout(trained, tools, parallel):
    reference, loss, _ = trained("jit")
    state, other_loss, _ = trained(parallel)
    assert tools.relative_difference(state.params, reference.params) < 1e-5
    assert tools.relative_difference(state.model_state, reference.model_state) < 1e-5
    assert other_loss == pytest.approx(loss, rel=1e-4)


@pytest.mark.parametrize("parallel", LAYOUTS)
def test_the_state_keeps_its_layout_from_step_to_step(trained, parallel):
    assert all(trained(parallel)[2])


@pytest.mark.parametrize("parallel", LAYOUTS)
def test_placing_and_training_a_state_leaves_the_callers_state_as_it_was(trained, tools, parallel):
    trained(parallel)
    assert tools.identical(resnet(parallel)[2], resnet("jit")[2])


def test_fsdp_spreads_parameters_and_momentum_over_the_devices():
    layout, _, state = resnet("fsdp")
    placed = layout.place_state(state)
    kernels = [x for x in jax.tree.leaves((placed.params, placed.opt_state)) if x.ndim == 4 and x.size > 1000]
    assert kernels
    for kernel in kernels:
        assert kernel.addressable_shards[0].data.size == kernel.size // 8


@pytest.mark.parametrize("resident", [True, False])
@pytest.mark.parametrize("parallel", ["data", "fsdp", "pmap"])
def test_feeds_give_the_same_run_in_every_layout(tools, source, parallel, resident):
    reference, _ = tools.problem("jit").run(source, 8, resident=resident)
    state, _ = tools.problem(parallel).run(source, 8, resident=resident)
    assert tools.relative_difference(state.params, reference.params) < 1e-5


@pytest.mark.parametrize(("saved", "restored"), [*itertools.permutations(LAYOUTS, 2)])
def test_a_checkpoint_of_one_layout_restores_under_another(tmp_path, tools, source, saved, restored):
    state, _ = tools.problem(saved).run(source, 3)
    checkpoints = train.Checkpoints(tmp_path / "checkpoints")
    checkpoints.save(3, state, {})
    other = tools.problem(restored)
    found = checkpoints.restore(other.state)
    checkpoints.close()
    back = other.layout.state(other.layout.place_state(found.tree))
    assert found.step == int(back.step) == 3
    assert tools.identical(back, state)


def test_an_unknown_layout_names_the_valid_ones():
    with pytest.raises(ValueError, match="'tpu'; valid are jit, data, fsdp, pmap"):
        train.make_layout("tpu")


@pytest.mark.parametrize("batch_size", [0, -4])
def test_a_batch_must_be_positive(tools, source, batch_size):
    with pytest.raises(ValueError, match=f"batch_size is {batch_size}"):
        tools.problem().feed(source, batch_size=batch_size)


def test_a_batch_must_cut_evenly_over_devices_and_parts(tools, source):
    with pytest.raises(ValueError, match="multiple of 8 devices"):
        tools.problem("data").feed(source, batch_size=12)
    with pytest.raises(ValueError, match="multiple of 8 devices × 2 accumulated parts"):
        train.check_batch_size(24, 8, 2)
    with pytest.raises(ValueError, match="accumulate is 0"):
        train.check_batch_size(24, 8, 0)


def test_a_batch_larger_than_the_data_is_refused_unless_it_is_filled_up(tools, source):
    with pytest.raises(ValueError, match="only 100 train examples"):
        tools.problem().feed(source, batch_size=128)
    assert tools.problem().feed(source, batch_size=128, drop_remainder=False).steps_per_epoch == 1
