"""A task that is no mean of examples: tags of the words of padded sentences.

Every word counts alike, so that a sentence counts by its length, and padding for nothing. Parts of a batch differ in
their number of words; the steps are nevertheless those of the whole batch.
"""

from functools import cache

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from etude import data, tasks

LENGTH, VOCABULARY, TAGS = 6, 11, 3
COUNT, BATCH, STEPS = 26, 16, 10
PAD = 0


class Tagger(nn.Module):
    @nn.compact
    def __call__(self, tokens, *, train=False):
        x = nn.Embed(VOCABULARY, 8, name="embedding")(tokens)
        return nn.Dense(TAGS, name="output")(jnp.tanh(x))


def tagging(model):
    """Mean cross entropy of the tags of all words, each weighted like its sentence; the metric `accuracy`."""

    def init(key):
        return model.init(key, jnp.zeros((1, LENGTH), jnp.int32))

    def loss(params, model_state, batch, key, train, hyper):
        logits = model.apply({"params": params}, batch["tokens"], train=train)
        per_word = optax.softmax_cross_entropy_with_integer_labels(logits, batch["tags"])
        weights = tasks.example_weights(batch)[:, None] * (batch["tokens"] != PAD)
        right = logits.argmax(-1) == batch["tags"]
        metrics = {"accuracy": tasks.Mean.of(right, weights)}
        return tasks.Mean.of(per_word, weights), tasks.Aux(model_state, metrics)

    return tasks.Task(init, loss)


TASK = tagging(Tagger())


def sentences(pad_tag=0):
    rng = np.random.default_rng(0)
    records = []
    for _ in range(COUNT):
        words = rng.integers(1, VOCABULARY, rng.integers(1, LENGTH + 1))
        tags = (words + rng.integers(0, 2, len(words))) % TAGS
        padding = [(0, LENGTH - len(words))]
        records.append(
            {
                "tokens": np.pad(words, padding, constant_values=PAD).astype(np.int32),
                "tags": np.pad(tags, padding, constant_values=pad_tag).astype(np.int32),
            }
        )
    spec = {name: jax.ShapeDtypeStruct((LENGTH,), np.int32) for name in ("tokens", "tags")}
    return data.Source("sentences", "train", records, spec)


SOURCE = sentences()


@pytest.fixture(scope="module")
def run(tools):
    @cache
    def run(layout, accumulate=2, source=SOURCE):
        problem = tools.Problem(layout, task=TASK, augmented=False, accumulate=accumulate)
        return problem.run(source, STEPS, batch_size=BATCH, drop_remainder=False)

    return run


def assert_agree(tools, measured, expected):
    (state, metrics), (other, others) = measured, expected
    assert tools.relative_difference(state.params, other.params) < 1e-5
    for name, values in metrics.items():
        np.testing.assert_allclose(values, others[name], rtol=1e-5, err_msg=name)


@pytest.mark.parametrize(
    ("layout", "accumulate"), [("jit", 2), ("jit", 4), ("data", 1), ("pmap", 1), ("data", 2), ("pmap", 2), ("fsdp", 2)]
)
def test_words_count_alike_however_a_batch_is_cut(tools, run, layout, accumulate):
    assert_agree(tools, run(layout, accumulate), run("jit", 1))


def test_each_member_of_a_population_of_taggers_is_the_run_alone(tools, run):
    state, metrics = run("vmap")
    single = tools.Problem(task=TASK, augmented=False)  # each batch as a whole
    for i in range(len(tools.MEMBERS)):
        alone = single.alone(SOURCE, STEPS, i, batch_size=BATCH, drop_remainder=False)
        mine = jax.tree.map(lambda x, i=i: x[i], state)
        assert_agree(tools, (mine, {name: values[:, i] for name, values in metrics.items()}), alone)


def test_what_stands_in_the_padding_changes_nothing(tools, run):
    garbage = sentences(pad_tag=2)
    assert not np.array_equal(garbage.arrays()["tags"], SOURCE.arrays()["tags"])
    assert tools.identical(run("jit", 1, garbage), run("jit", 1))


@pytest.mark.parametrize("layout", ["jit", "pmap", "vmap"])
def test_the_evaluation_is_the_mean_over_words(tools, run, layout):
    problem = tools.problem(layout, task=TASK, augmented=False)
    measured = problem.evaluate(SOURCE, batch_size=BATCH)(problem.layout.place_variables(problem.state.variables))
    arrays = SOURCE.arrays()
    params = jax.tree.map(lambda x: np.asarray(x, np.float64), problem.state.params)
    words = arrays["tokens"] != PAD
    for i in np.ndindex(problem.layout.shape):
        mine = jax.tree.map(lambda x, i=i: x[i], params)
        logits = np.tanh(mine["embedding"]["embedding"][arrays["tokens"]]) @ mine["output"]["kernel"]
        logits = logits + mine["output"]["bias"]
        chosen = np.take_along_axis(logits, arrays["tags"][..., None], -1)[..., 0]
        losses = np.log(np.exp(logits).sum(-1)) - chosen
        expected = losses[words].mean()
        right = (logits.argmax(-1) == arrays["tags"])[words].mean()
        # A mean over sentences of means over their words would be another number.
        of_sentences = [row[own].mean() for row, own in zip(losses, words, strict=True)]
        assert abs(np.mean(of_sentences) - expected) > 1e-3
        assert measured["loss"][i] == pytest.approx(expected, rel=1e-6)
        assert measured["accuracy"][i] == pytest.approx(right, rel=1e-6)
