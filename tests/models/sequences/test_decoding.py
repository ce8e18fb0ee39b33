"""Decoding against all sequences of a small vocabulary, and against itself where two ways must agree."""

from functools import cache, partial
from itertools import product

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from etude.models.sequences import PAD, LanguageModel, Transformer, beam_search, greedy, likely, sample

BEGIN, END, VOCABULARY, LENGTH = 1, 2, 5, 4
ENDS = {"begin": BEGIN, "end": END, "length": LENGTH}


def chain(seed):
    """A step whose logits depend on the last two tokens, and the log probability of sequences by a plain loop."""
    table = np.random.default_rng(seed).normal(size=(VOCABULARY, VOCABULARY, VOCABULARY)) * 2

    def step(before, tokens, at):
        del at
        return jnp.asarray(table, jnp.float32)[before, tokens], tokens

    def log_probability(sequence):
        before, last, total = BEGIN, BEGIN, 0.0
        for token in sequence:
            logits = table[before, last].copy()
            logits[PAD] = -np.inf
            total += logits[token] - np.log(np.exp(logits).sum())
            before, last = last, token
        return total

    return step, log_probability


def all_sequences():
    """Every sequence that ends with END within LENGTH, or has LENGTH tokens and no end."""
    words = [token for token in range(VOCABULARY) if token not in (PAD, END)]
    for count in range(LENGTH + 1):
        for sequence in product(words, repeat=count):
            if count == LENGTH:
                yield sequence
            else:
                yield (*sequence, END)


def score(sequence, log_probability, penalty):
    return log_probability(sequence) / ((5 + len(sequence)) / 6) ** penalty


def padded(sequence):
    return [*sequence, *[PAD] * (LENGTH - len(sequence))]


def carried(batch):
    return jnp.full(batch, BEGIN)


@pytest.mark.parametrize("penalty", [0.0, 0.6, 2.0])
@pytest.mark.parametrize("seed", range(4))
def test_a_wide_beam_finds_the_best_of_all_sequences_in_order(seed, penalty):
    step, log_probability = chain(seed)
    found = jax.jit(partial(beam_search, step, batch=2, beam=64, length_penalty=penalty, **ENDS))(carried(2))
    best = sorted(all_sequences(), key=lambda each: -score(each, log_probability, penalty))[:20]
    np.testing.assert_array_equal(found.tokens[0, :20], [padded(each) for each in best])
    np.testing.assert_allclose(found.log_probability[1, :20], [log_probability(each) for each in best], rtol=1e-4)


@pytest.mark.parametrize("seed", range(4))
def test_a_beam_of_1_is_greedy_and_both_follow_the_likeliest_token(seed):
    step, log_probability = chain(seed)
    sure = greedy(step, carried(3), 3, **ENDS)
    beam = beam_search(step, carried(3), 3, beam=1, **ENDS)
    np.testing.assert_array_equal(beam.tokens[:, 0], sure.tokens)
    np.testing.assert_allclose(beam.log_probability[:, 0], sure.log_probability, rtol=1e-5)
    sequence = []
    while len(sequence) < LENGTH and END not in sequence:
        words = range(1, VOCABULARY)
        sequence.append(max(words, key=lambda token: log_probability([*sequence, token])))
    assert sure.tokens[0].tolist() == padded(sequence)


@cache
def network(kind):
    if kind == "language":
        model = LanguageModel(VOCABULARY, 8, 2, 2)
        return model, model.init(jax.random.key(0), jnp.ones((1, 3), jnp.int32))
    model = Transformer(VOCABULARY, 8, 2, 2)
    return model, model.init(jax.random.key(1), jnp.ones((1, 3), jnp.int32), jnp.ones((1, 3), jnp.int32))


def test_beam_search_of_a_transformer_gives_each_sequence_the_probability_that_it_has_as_a_whole():
    model, variables = network("transformer")
    source = jnp.array([[3, 4, 1], [4, 0, 0]])
    start = model.apply(variables, source, LENGTH, method="start")
    step = partial(model.apply, variables, method="step")
    found = jax.jit(lambda start: beam_search(step, start, 2, beam=3, axes=model.carried_axes, **ENDS))(start)
    for i in range(2):
        for tokens, total in zip(found.tokens[i], found.log_probability[i], strict=True):
            target = jnp.concatenate([jnp.array([BEGIN]), tokens[:-1]])[None]
            logits = model.apply(variables, source[i : i + 1], target)[0].at[:, PAD].set(-jnp.inf)
            own = jnp.take_along_axis(jax.nn.log_softmax(logits), tokens[:, None], -1)[:, 0]
            np.testing.assert_allclose(jnp.where(tokens == PAD, 0, own).sum(), total, rtol=1e-4)


def test_what_no_step_changes_need_not_be_moved_with_the_best_beginnings():
    model, variables = network("transformer")
    source = jnp.array([[3, 4, 1], [4, 0, 0]])
    start = model.apply(variables, source, LENGTH, method="start")
    step = partial(model.apply, variables, method="step")
    moved, left = (
        beam_search(step, start, 2, beam=3, axes=model.carried_axes, fixed=fixed, **ENDS)
        for fixed in (False, model.carried_fixed)
    )
    np.testing.assert_array_equal(moved.tokens, left.tokens)
    np.testing.assert_array_equal(moved.log_probability, left.log_probability)


@pytest.mark.parametrize(("search", "steps"), [(greedy, 3), (partial(beam_search, beam=2), 4)])  # the second best ends
def test_no_step_is_taken_once_all_sequences_have_ended(search, steps):
    taken = []

    def step(carried, tokens, at):
        jax.debug.callback(lambda at: taken.append(int(at)), at)
        return jnp.zeros((len(tokens), VOCABULARY)).at[:, jnp.where(at < 2, 3, END)].set(50.0), carried

    found = search(step, (), 4, **ENDS | {"length": 9})
    jax.effects_barrier()
    assert sorted(set(taken)) == [*range(steps)]
    assert found.tokens.reshape(-1, 9)[0].tolist() == [3, 3, END] + [PAD] * 6


@pytest.mark.parametrize(("options", "allowed"), [({"top_k": 2}, {4, 3}), ({"top_p": 0.6}, {4, 3}), ({}, {1, 2, 3, 4})])
def test_draws_have_the_networks_probabilities_among_the_likely_tokens(options, allowed):
    probabilities = np.array([0, 0.1, 0.15, 0.25, 0.5])
    logits = jnp.log(jnp.asarray(np.maximum(probabilities, 1e-30), jnp.float32))

    def step(carried, tokens, at):
        del at
        return jnp.broadcast_to(logits, (len(tokens), VOCABULARY)), carried

    drawn = sample(step, (), 20_000, jax.random.key(0), begin=BEGIN, end=-1, length=1, **options).tokens[:, 0]
    counts = np.bincount(drawn, minlength=VOCABULARY) / len(drawn)
    wanted = np.array([p if token in allowed else 0 for token, p in enumerate(probabilities)])
    np.testing.assert_allclose(counts, wanted / wanted.sum(), atol=0.015)


def test_nothing_comes_behind_an_end_and_no_padding_before_it():
    model, variables = network("language")
    step = partial(model.apply, variables, method="step")
    start = model.apply(variables, 50, LENGTH, method="start")
    tokens = sample(step, start, 50, jax.random.key(3), temperature=3.0, **ENDS).tokens
    ended = np.cumsum(tokens == END, 1) - (tokens == END) > 0
    assert 0 < ended.sum() < tokens.size
    np.testing.assert_array_equal(tokens == PAD, ended)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: likely(jnp.zeros((1, 3)), top_k=0), "top_k is 0"),
        (lambda: likely(jnp.zeros((1, 3)), top_p=0.0), "top_p is 0"),
        (lambda: greedy(chain(0)[0], carried(1), 1, begin=BEGIN, end=END, length=0), "length is 0"),
        (lambda: beam_search(chain(0)[0], carried(1), 1, beam=0, **ENDS), "beam is 0"),
    ],
)
def test_what_is_not_valid_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
