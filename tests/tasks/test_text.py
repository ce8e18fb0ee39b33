"""Translation and language modelling as tasks: all tokens count alike, padding and packing change nothing."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from etude import tasks
from etude.data import text
from etude.models import LanguageModel, RecurrentTranslator, Transformer

SOURCE = [np.array([5, 6, 7, 2], np.int32), np.array([8, 2], np.int32), np.array([9, 9, 2], np.int32)]
TARGET = [np.array([4, 2], np.int32), np.array([5, 6, 2], np.int32), np.array([10, 8, 7, 6, 2], np.int32)]
MODELS = {
    "transformer": Transformer(11, 16, 1, 2),
    "attention": RecurrentTranslator(11, 8),
    "rnn": RecurrentTranslator(11, 8, attention="none"),
}


@cache
def translation(name):
    task = tasks.translation(MODELS[name], (12, 12))
    return task, task.init(jax.random.key(0))


def alone(columns, length):
    return {name: jnp.asarray(text.padded(texts, length)) for name, texts in columns.items()}


def measure(task, variables, batch, train=False):
    return task.loss(variables["params"], {}, batch, jax.random.key(1), train, {})


@pytest.mark.parametrize("name", MODELS)
def test_rows_of_several_sentences_have_the_loss_of_one_sentence_each(name):
    task, variables = translation(name)
    columns = {"source": SOURCE, "target": TARGET}
    for batch in (alone(columns, 9), text.pack(columns, {"source": 10, "target": 12})):
        mean, aux = measure(task, variables, batch)
        assert mean.weight == sum(map(len, TARGET))
        reference, reference_aux = measure(task, variables, alone(columns, 5))
        np.testing.assert_allclose(mean.total, reference.total, rtol=1e-5)
        np.testing.assert_allclose(aux.metrics["accuracy"].total, reference_aux.metrics["accuracy"].total)


def test_the_loss_is_the_mean_of_minus_log_probability_given_the_tokens_before():
    task, variables = translation("transformer")
    mean, _ = measure(task, variables, alone({"source": SOURCE[:1], "target": TARGET[:1]}, 4))
    logits = MODELS["transformer"].apply(variables, jnp.asarray([SOURCE[0]]), jnp.array([[text.BEGIN, 4]]))
    log_probability = jax.nn.log_softmax(logits)[0]
    np.testing.assert_allclose(mean.value, -(log_probability[0, 4] + log_probability[1, 2]) / 2, rtol=1e-5)


def test_an_example_of_weight_0_counts_for_nothing():
    task, variables = translation("attention")
    batch = alone({"source": SOURCE, "target": TARGET}, 6)
    mean, _ = measure(task, variables, batch | {"weight": jnp.array([1.0, 0.0, 1.0])})
    rest = measure(task, variables, {name: x[jnp.array([0, 2])] for name, x in batch.items()})[0]
    np.testing.assert_allclose([mean.total, mean.weight], [rest.total, rest.weight], rtol=1e-5)


def test_a_language_model_of_packed_texts_has_the_loss_of_each_alone():
    task = tasks.language_model(LanguageModel(11, 16, 1, 2), 8)
    variables = task.init(jax.random.key(0))
    means = [
        measure(task, variables, batch)[0]
        for batch in (alone({"text": SOURCE}, 5), text.pack({"text": SOURCE}, {"text": 8}))
    ]
    assert means[0].weight == 9
    np.testing.assert_allclose(means[1].total, means[0].total, rtol=1e-5)
