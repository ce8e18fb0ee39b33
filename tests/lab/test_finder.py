"""The learning-rate finder: one line, for any module, task, data and optimizer."""

import re

import flax.linen as nn
import jax
import numpy as np
import optax
import pytest
from etude import errors, lab, tasks


class Plain(nn.Module):
    """A network of a user, without an argument `train`."""

    @nn.compact
    def __call__(self, x):
        return nn.Dense(3)(nn.relu(nn.Dense(16)(x.reshape(len(x), -1))))


@pytest.fixture(scope="module")
def arrays():
    rng = np.random.default_rng(0)
    label = rng.integers(0, 3, 300)
    image = rng.normal(0, 1, (300, 4, 4, 1)).astype(np.float32)
    image[np.arange(300), label] += 2
    label[:60] = rng.integers(0, 3, 60)  # so that no rate brings the loss to 0
    return {"image": image, "label": label}


def test_a_users_module_and_optax_optimizer_have_a_rate_and_a_figure_in_one_line(arrays):
    found = lab.lr_find(Plain(), arrays, optimizer=optax.adam, steps_per_decade=20)
    assert 1e-3 < found.suggestion < 1
    assert found._repr_png_().startswith(b"\x89PNG")
    assert f"{found.suggestion:.3g}" in repr(found)
    bytes_too = {"image": np.clip(100 + 30 * arrays["image"], 0, 255).astype(np.uint8), "label": arrays["label"]}
    other = lab.lr_find(Plain(), bytes_too, optimizer="optax:adam", steps_per_decade=20)
    assert other.suggestion == pytest.approx(found.suggestion, rel=2)


def test_a_task_is_its_own_loss_and_a_constant_in_it_changes_no_rate():
    x = np.random.default_rng(0).normal(size=(200, 8)).astype(np.float32)

    def task(constant):
        def init(key):
            return {"params": {"kernel": jax.random.normal(key, (8,))}}

        def loss(params, model_state, batch, key, train, hyper):
            errors = (batch["x"] @ params["kernel"] - batch["x"].sum(-1)) ** 2 + constant
            return tasks.Mean.of(errors, tasks.example_weights(batch)), tasks.Aux(model_state, {})

        return tasks.Task(init, loss)

    found = [lab.lr_find(task(c), {"x": x}, optimizer="sgd", highest=1.0) for c in (0.0, -1.0, -3.0)]
    assert found[0].suggestion > 0
    for each in found[1:]:
        assert each.suggestion == pytest.approx(found[0].suggestion, rel=1e-3)
        assert len(each.test.rates) == len(found[0].test.rates)  # they stop at the same step


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"optimizer": "optax:lionn"}, "Did you mean lion?"),
        ({"optimizer": optax.adam(0.1)}, "such as optax.adam, not optax.adam(0.1)"),
        ({"model": nn.relu}, "give a name, a linen module or a task"),
        ({"model": nn.Dense(3)}, "wanted: logits [1, classes]"),
        ({"data": {"image": np.zeros((3, 2, 2, 1)), "label": np.zeros(2)}}, "they must be equal"),
        ({"data": {"x": np.zeros((3, 2))}}, "arrays has no image and no label"),
        ({"batch_size": 1000}, "batch_size is 1000; it must be at least 1 and at most 300"),
        ({"lowest": 1.0, "highest": 0.1}, "wanted: 0 < lowest < highest"),
    ],
)
def test_what_does_not_fit_is_refused_before_anything_compiles(change, message, arrays):
    given = {"model": Plain(), "data": arrays, **change}
    with pytest.raises(errors.InputError, match=re.escape(message)):
        lab.lr_find(given.pop("model"), given.pop("data"), **given)


def test_where_there_is_no_rate_the_figure_is_drawn_and_the_reason_said(arrays):
    found = lab.lr_find(Plain(), arrays, optimizer=lambda rate: optax.set_to_zero(), steps_per_decade=5)
    with pytest.raises(errors.InputError, match="suggests no rate"):
        found.suggestion  # noqa: B018 - a property that raises
    assert found._repr_png_()
