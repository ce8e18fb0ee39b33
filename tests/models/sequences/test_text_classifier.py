"""Classifiers of texts: padding changes nothing, and a text without tokens has an answer."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from etude.models.sequences import TextClassifier
from etude.models.sequences.text_classifier import READERS

TOKENS = jnp.array([[3, 4, 5, 9], [7, 8, 0, 0], [0, 0, 0, 0]])


@pytest.mark.parametrize("reader", READERS)
def test_padding_changes_nothing_and_no_tokens_have_an_answer(reader):
    model = TextClassifier(3, 11, reader, width=8, num_heads=2)
    variables = model.init(jax.random.key(0), TOKENS)
    answers, wider = (model.apply(variables, jnp.pad(TOKENS, ((0, 0), (0, more)))) for more in (0, 5))
    assert answers.shape == (3, 3)
    assert np.isfinite(answers).all()
    np.testing.assert_allclose(wider, answers, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(answers[1], model.apply(variables, TOKENS[1:2, :2])[0], rtol=1e-5, atol=1e-6)


def test_an_unknown_reader_is_named():
    with pytest.raises(ValueError, match="attention"):
        TextClassifier(reader="atention").init(jax.random.key(0), TOKENS)
