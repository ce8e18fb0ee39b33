"""Gradients against distance are those of closed forms, and a run goes on from the trainings that it has."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from etude import lab, tasks
from etude.experiments import rnn_memory
from etude.experiments.rnn_memory import FirstSymbol, gradient_norms, gradient_slopes, name_first, sequences
from etude.models import Recurrent
from etude.models.layers.activations import ACTIVATIONS

WIDTH, SYMBOLS = 6, 4


@pytest.fixture
def linear(monkeypatch):
    """A linear Elman network and its variables, of one seed."""
    monkeypatch.setitem(ACTIVATIONS, "identity", lambda x: x)
    model = FirstSymbol(Recurrent(WIDTH, "elman", activation="identity"), SYMBOLS, WIDTH)
    return model, jax.vmap(model.init, (0, None))(jax.random.key(3)[None], jnp.zeros((1, 2), int))


def tokens(length, count=5):
    return np.random.default_rng(0).integers(SYMBOLS, size=(count, length), dtype=np.int32)


def test_the_gradient_of_a_linear_network_is_carried_back_by_powers_of_its_matrix(linear):
    model, variables = linear
    params = jax.tree.map(lambda x: np.asarray(x[0], np.float64), variables["params"])
    u, w = (params["network"]["layer0"][name] for name in ("input_kernel", "hidden_kernel"))
    logits = model.apply({"params": params}, tokens(8))
    error = np.asarray(nn.softmax(logits) - np.eye(SYMBOLS)[tokens(8)[:, 0]])
    at_end = error @ params["head"]["kernel"].T
    expected = [np.linalg.norm(at_end @ np.linalg.matrix_power(w.T, d) @ u.T, axis=1).mean() for d in range(8)]
    np.testing.assert_allclose(gradient_norms(model, variables, tokens(8))[0], expected, rtol=1e-4)


@pytest.mark.parametrize("factor", [1.0, 0.5])
def test_a_rotation_times_a_factor_has_the_slope_of_its_logarithm_also_far_below_the_square_of_float32(linear, factor):
    model, variables = linear
    layer = variables["params"]["network"]["layer0"]
    layer["hidden_kernel"] = factor * layer["hidden_kernel"]
    layer["input_kernel"] = jnp.eye(WIDTH)[None]
    norms = gradient_norms(model, variables, tokens(100))
    assert norms.min() > 1e-37
    np.testing.assert_allclose(gradient_slopes(norms), np.log(factor), atol=1e-4)


def test_norms_that_float32_has_lost_do_not_count_and_without_two_there_is_no_slope():
    norms = np.exp(-0.3 * np.arange(20.0))
    norms[0], norms[15:] = 50, 0
    np.testing.assert_allclose(gradient_slopes(np.stack([norms, np.zeros(20)])), [-0.3, np.nan], rtol=1e-12)


def test_the_label_is_the_first_symbol_and_splits_are_others_but_always_the_same():
    train, test = (sequences(3, SYMBOLS, split, 50).arrays() for split in ("train", "test"))
    assert train["tokens"].shape == (50, 4)
    np.testing.assert_array_equal(train["label"], train["tokens"][:, 0])
    assert (train["tokens"] != test["tokens"]).any()
    np.testing.assert_array_equal(train["tokens"], sequences(3, SYMBOLS, "train", 50).arrays()["tokens"])


def test_a_sequence_of_weight_0_changes_no_number():
    model = FirstSymbol(Recurrent(WIDTH), SYMBOLS, WIDTH)
    task, batch = name_first(model), {"tokens": tokens(4), "label": tokens(4)[:, 0]}
    params = task.init(jax.random.key(0))["params"]
    padded = batch | {"weight": np.array([1, 1, 1, 0, 0], np.float32)}
    whole = {name: x[:3] for name, x in batch.items()}
    one, other = (tasks.evaluation(task).statistics({"params": params}, each) for each in (padded, whole))
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-6), one, other)


def test_a_started_run_keeps_what_is_trained_and_ends_as_one_that_was_not_stopped(tmp_path, monkeypatch):
    config = lab.override(rnn_memory.PRESETS["smoke"], networks=("rnn",), distances=(2, 3), examples=64, out=tmp_path)
    config = lab.override(config, population=lab.SeedsOptions(seeds=2, mode="map"))
    fit, started = lab.fit, []

    def counted(part, *arguments, **options):
        started.append(part.folder.name)
        return fit(part, *arguments, **options)

    monkeypatch.setattr(lab, "fit", counted)
    whole = rnn_memory.main(config).metrics
    for lost in ("result.json", "rnn_3/table.csv"):
        (tmp_path / lost).unlink()
    assert rnn_memory.main(config).metrics == whole
    assert started == ["rnn_2", "rnn_3", "rnn_3"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"distances": (5, 2)}, "smallest first"),
        ({"networks": ()}, "at least one network"),
        ({"width": 7}, "width is 7; it must be even"),
        ({"batch_size": 512}, "only 256 train examples"),
    ],
)
def test_what_can_not_be_compared_is_named(options, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        rnn_memory.main(lab.override(rnn_memory.PRESETS["smoke"], **options, out=tmp_path))
