"""Recurrent networks: torch's answers with the same weights, the slide's formula, and what padding must not change."""

from functools import cache, partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from etude.models import Recurrent, pretrained
from weights import weight

GOLDEN = np.load(Path(__file__).resolve().parents[2] / "golden" / "torch_sequences.npz")
BATCH, LENGTH, WIDTH, FEATURES = 3, 7, 6, 8
LENGTHS = np.array([7, 4, 1])
CELLS = ["elman", "gru", "lstm"]


def sequences():
    return weight("recurrent_sequences", (LENGTH, WIDTH, BATCH)).transpose(2, 0, 1)


def by_rule(model):
    """Variables by the names that torch has for them."""
    template = jax.eval_shape(model.init, jax.random.key(0), jnp.asarray(sequences(), model.dtype))
    zeros = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), template)
    state = {key: weight(key, x.shape) for key, x in pretrained.to_torch(model, zeros).items()}
    return pretrained.from_torch(model, state, template)


@cache
def network(cell, **fields):
    model = Recurrent(FEATURES, cell, **fields)
    return model, model.init(jax.random.key(0), sequences())


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("cell", CELLS)
def test_answers_states_and_gradients_are_torchs(cell, bidirectional):
    name = f"{cell}{2 if bidirectional else 1}"
    with jax.enable_x64(True):
        double = {"dtype": jnp.float64, "param_dtype": jnp.float64}
        model = Recurrent(FEATURES, cell, depth=2, bidirectional=bidirectional, **double)

        @jax.jit
        @partial(jax.grad, has_aux=True)
        def gradient(params):
            answer, states = model.apply({"params": params}, jnp.asarray(sequences(), jnp.float64), LENGTHS)
            answers = {"answer": answer, **{f"state{i}": each for i, each in enumerate(states)}}
            return sum((x * weight(f"{key}_factor", x.shape)).sum() for key, x in answers.items()), answers

        gradients, answers = gradient(by_rule(model)["params"])
    for key, answer in answers.items():
        np.testing.assert_allclose(answer, GOLDEN[f"{name}_{key}"], rtol=1e-4, atol=1e-6, err_msg=key)
    norms = {key: np.linalg.norm(x) for key, x in pretrained.to_torch(model, {"params": gradients}).items()}
    wanted = dict(zip(GOLDEN[f"{name}_gradient_names"], GOLDEN[f"{name}_gradient_norms"], strict=True))
    assert norms.keys() == wanted.keys()
    np.testing.assert_allclose([norms[key] for key in wanted], list(wanted.values()), rtol=1e-7)


def test_elmans_network_is_the_slides_loop():
    model, variables = network("elman", use_bias=False, activation="sigmoid")
    u, w = (variables["params"]["layer0"][name] for name in ("input_kernel", "hidden_kernel"))
    h, expected = np.zeros((BATCH, FEATURES)), []
    for t in range(LENGTH):
        h = 1 / (1 + np.exp(-(h @ np.asarray(w) + sequences()[:, t] @ np.asarray(u))))
        expected.append(h)
    answer, (end,) = model.apply(variables, sequences())
    np.testing.assert_allclose(answer, np.stack(expected, 1), rtol=1e-5)
    np.testing.assert_allclose(end[0], h, rtol=1e-5)


@pytest.mark.parametrize("cell", CELLS)
def test_one_call_equals_a_call_for_each_position_that_goes_on_where_the_last_one_ended(cell):
    model, variables = network(cell, depth=2)
    whole, ends = model.apply(variables, sequences())
    states, parts = model.initial_state(BATCH), []
    for t in range(LENGTH):
        part, states = model.apply(variables, sequences()[:, t : t + 1], state=states)
        parts.append(part)
    np.testing.assert_allclose(jnp.concatenate(parts, 1), whole, rtol=1e-5, atol=1e-6)
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6), states, ends)


@pytest.mark.parametrize("cell", CELLS)
def test_each_sequence_is_read_as_if_it_were_alone_whatever_stands_behind_its_end(cell):
    model, variables = network(cell, depth=2, bidirectional=True)
    inside = np.arange(LENGTH) < LENGTHS[:, None]
    padded = np.where(inside[..., None], sequences(), np.nan)
    answer, states = model.apply(variables, padded, LENGTHS)
    assert not np.asarray(answer)[~inside].any()
    for i, length in enumerate(LENGTHS):
        alone, own = model.apply(variables, sequences()[i : i + 1, :length])
        np.testing.assert_allclose(answer[i, :length], alone[0], rtol=1e-5, atol=1e-6)
        for state, mine in zip(states, own, strict=True):
            np.testing.assert_allclose(state[:, i], mine[:, 0], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("cell", CELLS)
def test_padding_has_no_gradient_not_even_where_it_is_nan(cell):
    model, variables = network(cell, bidirectional=True)
    inside = np.arange(LENGTH) < LENGTHS[:, None]
    padded = np.where(inside[..., None], sequences(), np.nan)
    gradient = jax.grad(lambda x: model.apply(variables, x, LENGTHS)[0].sum())(padded)
    assert np.isfinite(gradient).all()
    assert not np.asarray(gradient)[~inside].any()
    assert np.asarray(gradient)[inside].all(-1).all()


def test_reading_backward_is_reading_the_reversed_sequence():
    model, variables = network("gru", bidirectional=True)
    params = variables["params"]
    swapped = {"params": {"layer0": params["layer0_reverse"], "layer0_reverse": params["layer0"]}}
    answer, _ = model.apply(variables, sequences())
    mirrored, _ = model.apply(swapped, sequences()[:, ::-1])
    np.testing.assert_allclose(mirrored[:, ::-1, FEATURES:], answer[..., :FEATURES], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(mirrored[:, ::-1, :FEATURES], answer[..., FEATURES:], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("cell", ["gru", "lstm"])
def test_a_forget_bias_is_that_of_the_second_gate_alone(cell):
    bias = network(cell, forget_bias=1.5)[1]["params"]["layer0"]["input_bias"].reshape(-1, FEATURES)
    np.testing.assert_array_equal(bias[1], np.full(FEATURES, 1.5))
    assert not np.delete(bias, 1, 0).any()
    assert not network(cell)[1]["params"]["layer0"]["input_bias"].any()


@pytest.mark.parametrize("forget_bias", [0.0, 1.5])
def test_at_the_start_an_lstm_without_input_keeps_the_sigmoid_of_its_forget_bias(forget_bias):
    model, variables = network("lstm", forget_bias=forget_bias)
    state = jnp.zeros((1, BATCH, FEATURES)), jnp.full((1, BATCH, FEATURES), 0.5)
    _, (_, memory) = model.apply(variables, jnp.zeros((BATCH, 1, WIDTH)), state=state)
    np.testing.assert_allclose(memory, 0.5 / (1 + np.exp(-forget_bias)), rtol=1e-6)


def test_dropout_is_between_layers_alone():
    one, variables = network("gru", dropout=0.5)
    np.testing.assert_array_equal(
        one.apply(variables, sequences(), train=True)[0], one.apply(variables, sequences())[0]
    )
    two, variables = network("gru", depth=2, dropout=0.5)
    dropped, _ = two.apply(variables, sequences(), train=True, rngs={"dropout": jax.random.key(1)})
    assert not np.allclose(dropped, two.apply(variables, sequences())[0])


@pytest.mark.parametrize(
    ("fields", "arguments", "message"),
    [
        ({"cell": "lstn"}, {}, "lstm"),
        ({"activation": "tan"}, {}, "tanh"),
        ({"cell": "elman", "forget_bias": 1.0}, {}, "forget_bias is 1.0; only an LSTM or a GRU"),
        ({"use_bias": False, "forget_bias": 1.0}, {}, "with biases"),
        ({"features": 0}, {}, "features"),
        ({"depth": 0}, {}, "depth"),
        ({}, {"lengths": np.array([1.0, 2, 3])}, "integers"),
        ({}, {"lengths": np.array([1, 2])}, "3 sequences"),
        ({}, {"state": (np.zeros((1, 3, 8)),)}, "must be"),
        ({}, {"x": np.zeros((3, 4))}, r"\(3, 4\)"),
    ],
)
def test_what_is_not_valid_is_named(fields, arguments, message):
    model = Recurrent(**{"features": FEATURES, **fields})
    with pytest.raises(ValueError, match=message):
        model.init(jax.random.key(0), **{"x": sequences(), **arguments})


@pytest.mark.parametrize("cell", CELLS)
def test_sequences_in_one_row_are_read_as_each_alone(cell):
    model = Recurrent(4, cell, depth=2, bidirectional=True)
    parts = [jax.random.normal(jax.random.key(i), (1, length, 3)) for i, length in enumerate((3, 1, 4))]
    variables = model.init(jax.random.key(9), parts[0])
    row = jnp.concatenate([*parts, jnp.full((1, 2, 3), jnp.nan)], 1)
    segments = jnp.array([[1, 1, 1, 2, 3, 3, 3, 3, 0, 0]])
    answers, ends = model.apply(variables, row, segments=segments)
    alone = [model.apply(variables, part) for part in parts]
    np.testing.assert_allclose(answers[:, :8], jnp.concatenate([each for each, _ in alone], 1), rtol=1e-5, atol=1e-6)
    assert not answers[:, 8:].any()
    forward = slice(0, None, 2)  # of the last sequence; a backward direction ends in the first one
    for end, last, first in zip(ends, alone[-1][1], alone[0][1], strict=True):
        np.testing.assert_allclose(end[forward], last[forward], rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(end[1::2], first[1::2], rtol=1e-5, atol=1e-6)


def test_segments_are_given_for_all_positions_and_without_lengths():
    model, x = Recurrent(4), jnp.zeros((2, 5, 3))
    for options in (
        {"segments": jnp.ones((2, 4), int)},
        {"segments": jnp.ones((2, 5), int), "lengths": jnp.ones(2, int)},
    ):
        with pytest.raises(ValueError, match="lengths or segments"):
            model.init(jax.random.key(0), x, **options)
