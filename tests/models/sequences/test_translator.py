"""Recurrent translators: position by position as for the whole, what padding must not change, where attention looks."""

from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from etude.models.sequences import RecurrentTranslator, beam_search, greedy

VOCABULARY = 11
SOURCE = jnp.array([[3, 4, 5, 9, 6, 2], [7, 8, 2, 0, 0, 0]])
TARGET = jnp.array([[1, 5, 6, 7, 10], [1, 3, 8, 0, 0]])
KINDS = [("gru", "none"), ("lstm", "additive"), ("elman", "dot")]


@cache
def network(cell, attention):
    model = RecurrentTranslator(VOCABULARY, 8, 2, cell, attention)
    return model, jax.jit(model.init)(jax.random.key(0), SOURCE, TARGET)


def close(a, b):
    np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_position_by_position_the_answers_are_those_of_the_whole_sequence(kind):
    model, variables = network(*kind)
    whole = model.apply(variables, SOURCE, TARGET)
    carried = model.apply(variables, SOURCE, 5, method="start")
    for at in range(TARGET.shape[1]):
        logits, carried = model.apply(variables, carried, TARGET[:, at], at, method="step")
        close(logits, whole[:, at])


@pytest.mark.parametrize("kind", KINDS)
def test_more_padding_changes_nothing(kind):
    model, variables = network(*kind)
    wider = jnp.pad(SOURCE, ((0, 0), (0, 4))), jnp.pad(TARGET, ((0, 0), (0, 3)))
    close(model.apply(variables, *wider)[:, :5], model.apply(variables, SOURCE, TARGET))


@pytest.mark.parametrize("kind", KINDS[1:])
def test_attention_is_a_mean_over_the_words_of_the_source(kind):
    model, variables = network(*kind)
    weights = model.apply(variables, SOURCE, TARGET, method="attend")
    assert weights.shape == (2, 5, 6)
    np.testing.assert_allclose(weights.sum(-1), 1, rtol=1e-5)
    assert not np.asarray(weights)[1, :, 3:].any()
    assert (np.asarray(weights)[0] > 0).all()


@pytest.mark.parametrize("kind", KINDS[1:])
def test_scores_are_those_of_the_papers(kind):
    model, variables = network(*kind)
    params = variables["params"]
    before = model.apply(variables, SOURCE, 5, method="start")
    _, after = model.apply(variables, before, TARGET[:, 0], 0, method="step")
    state, keys = after.state[0][-1], before.values @ params["keys"]["kernel"]
    if kind[1] == "dot":
        scores = jnp.einsum("bw,bsw->bs", state, keys) / model.width**0.5
    else:
        query, energy = params["query"], params["energy"]
        sums = (state @ query["kernel"] + query["bias"])[:, None] + keys
        scores = jnp.tanh(sums) @ energy["kernel"][:, 0] + energy["bias"]
    weights = jax.nn.softmax(jnp.where(SOURCE > 0, scores, -jnp.inf))
    close(after.attended, jnp.einsum("bs,bsw->bw", weights, before.values))


def test_without_attention_all_that_is_known_of_the_source_is_a_state():
    model, variables = network("gru", "none")
    carried = model.apply(variables, SOURCE, 5, method="start")
    blank = carried._replace(values=carried.values * 0, keys=carried.keys * 0)
    step = partial(model.apply, variables, method="step")
    close(step(blank, TARGET[:, 0], 0)[0], step(carried, TARGET[:, 0], 0)[0])
    looking, others = network("lstm", "additive")
    carried = looking.apply(others, SOURCE, 5, method="start")
    step, blank = partial(looking.apply, others, method="step"), carried._replace(values=carried.values * 0)
    assert not np.allclose(step(blank, TARGET[:, 0], 0)[0], step(carried, TARGET[:, 0], 0)[0])


@pytest.mark.parametrize("kind", KINDS)
def test_a_beam_of_1_is_greedy(kind):
    model, variables = network(*kind)
    start = model.apply(variables, SOURCE, 6, method="start")
    step, ends = partial(model.apply, variables, method="step"), {"begin": 1, "end": 2, "length": 6}
    beam = beam_search(step, start, 2, beam=1, axes=model.carried_axes, **ends)
    np.testing.assert_array_equal(beam.tokens[:, 0], greedy(step, start, 2, **ends).tokens)


@pytest.mark.parametrize("kind", KINDS)
def test_what_no_step_changes_need_not_be_moved_with_the_best_beginnings(kind):
    model, variables = network(*kind)
    start, step = model.apply(variables, SOURCE, 6, method="start"), partial(model.apply, variables, method="step")
    moved, left = (
        beam_search(step, start, 2, begin=1, end=2, length=6, beam=3, axes=model.carried_axes, fixed=fixed)
        for fixed in (False, model.carried_fixed)
    )
    np.testing.assert_array_equal(moved.tokens, left.tokens)
    np.testing.assert_allclose(moved.log_probability, left.log_probability, rtol=1e-6)


@pytest.mark.parametrize(("fields", "message"), [({"attention": "soft"}, "additive"), ({"cell": "gry"}, "gru")])
def test_what_is_not_valid_is_named(fields, message):
    with pytest.raises(ValueError, match=message):
        RecurrentTranslator(VOCABULARY, **fields).init(jax.random.key(0), SOURCE, TARGET)


@pytest.mark.parametrize("kind", KINDS)
def test_sentences_in_one_row_are_translated_as_each_alone(kind):
    model, variables = network(*kind)
    source, target = jnp.array([[3, 4, 5, 9, 6, 2, 7, 8, 2, 0]]), jnp.array([[1, 5, 6, 7, 10, 1, 3, 8, 0]])
    segments = jnp.array([[1] * 6 + [2] * 3 + [0]]), jnp.array([[1] * 5 + [2] * 3 + [0]])
    packed = model.apply(variables, source, target, *segments)
    alone = model.apply(variables, SOURCE, TARGET)
    close(packed[0, :5], alone[0])
    close(packed[0, 5:8], alone[1, :3])
