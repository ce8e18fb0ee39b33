"""Transformers for tokens: what each position may know, with every scheme of positions, and published sizes."""

from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from etude.models.layers import relative_buckets, rotary
from etude.models.sequences import PAD, LanguageModel, Transformer
from etude.models.sequences.transformer import POSITIONS

VOCABULARY = 11
SOURCE = jnp.array([[3, 4, 5, 9, 6, 2], [7, 8, 2, 0, 0, 0]])
TARGET = jnp.array([[1, 5, 6, 7, 10], [1, 3, 8, 0, 0]])


@cache
def translator(positions="sinusoidal", **fields):
    model = Transformer(VOCABULARY, 16, 2, 2, positions=positions, **fields)
    return model, jax.jit(model.init)(jax.random.key(0), SOURCE, TARGET)


@cache
def language_model(positions="rotary"):
    model = LanguageModel(VOCABULARY, 16, 2, 2, positions=positions)
    return model, jax.jit(model.init)(jax.random.key(0), TARGET)


def close(a, b):
    np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("norm_first", [True, False])
@pytest.mark.parametrize("positions", POSITIONS)
def test_position_by_position_a_translator_answers_as_for_the_whole_sequence(positions, norm_first):
    model, variables = translator(positions, norm_first=norm_first)
    whole = model.apply(variables, SOURCE, TARGET)
    length = TARGET.shape[1]
    carried = model.apply(variables, SOURCE, length + 3, method="start")  # with room to spare

    def step(carried, at):
        logits, carried = model.apply(variables, carried, TARGET[:, at], at, method="step")
        return carried, logits

    logits = jax.lax.scan(step, carried, jnp.arange(length))[1]
    close(logits.swapaxes(0, 1), whole)


@pytest.mark.parametrize("positions", POSITIONS)
def test_position_by_position_a_language_model_answers_as_for_the_whole_sequence(positions):
    model, variables = language_model(positions)
    whole = model.apply(variables, TARGET)
    carried = model.apply(variables, 2, TARGET.shape[1], method="start")
    for at in range(TARGET.shape[1]):
        logits, carried = model.apply(variables, carried, TARGET[:, at], at, method="step")
        close(logits, whole[:, at])


@pytest.mark.parametrize("positions", POSITIONS)
def test_no_position_of_a_decoder_has_a_gradient_to_a_later_one(positions):
    model, variables = language_model(positions)
    table = variables["params"]["embed"]["embedding"]
    tokens = jnp.arange(1, 6)[None]  # each its own row of the table

    def logits(table):
        # Tied, the table is the output, too: its part in that is left out.
        bound = {"params": variables["params"] | {"embed": {"embedding": table}}}
        x = model.apply(bound, tokens, method=lambda model, tokens: model.decoder(model.embed(tokens))[0])
        return (x * jnp.sin(jnp.arange(16))).sum(-1)[0]  # the plain sum of normalized numbers is 0

    by_token = jnp.abs(jax.jacobian(logits)(table)).sum(-1)[:, 1:6]  # [position, token of position]
    assert (np.triu(by_token, 1) == 0).all()
    assert (np.tril(by_token) + np.triu(np.ones_like(by_token), 1) > 0).all()


@pytest.mark.parametrize("positions", POSITIONS)
def test_more_padding_changes_nothing(positions):
    model, variables = translator(positions)
    wider = jnp.pad(SOURCE, ((0, 0), (0, 4))), jnp.pad(TARGET, ((0, 0), (0, 3)))
    logits, others = model.apply(variables, SOURCE, TARGET), model.apply(variables, *wider)
    close(others[:, : TARGET.shape[1]], logits)
    alone = model.apply(variables, SOURCE[1:, :3], TARGET[1:, :3])
    close(alone[0], logits[1, :3])


@pytest.mark.parametrize("positions", POSITIONS)
def test_only_without_positions_the_source_is_a_set(positions):
    model, variables = translator(positions)
    if positions in ("relative",):  # all biases of a fresh network are nearly alike
        variables = jax.tree.map(lambda x: x * 3, variables)
    turned = SOURCE.at[0].set(SOURCE[0, ::-1])
    same = np.allclose(model.apply(variables, SOURCE, TARGET), model.apply(variables, turned, TARGET), atol=1e-4)
    assert same == (positions == "none")


@pytest.mark.parametrize("positions", ["rotary", "relative", "none"])
def test_positions_that_are_relative_answer_alike_wherever_a_sentence_begins(positions):
    model, variables = language_model(positions)

    def at(start):
        return model.apply(variables, TARGET[:1], method=lambda m, x: m.decoder(m.embed(x), at=start)[0])

    close(at(0), at(40))


def test_rotary_products_depend_on_the_distance_alone():
    q, k = jax.random.normal(jax.random.key(0), (2, 1, 1, 1, 8))
    products = [float((rotary(q, jnp.array([p + 5])) * rotary(k, jnp.array([p]))).sum()) for p in (0, 1, 17, 300)]
    np.testing.assert_allclose(products, products[0], rtol=1e-4)
    np.testing.assert_allclose(jnp.linalg.norm(rotary(q, jnp.array([9]))), jnp.linalg.norm(q), rtol=1e-6)


@pytest.mark.parametrize("both_ways", [True, False])
def test_buckets_are_those_of_t5(both_ways):
    distances = np.arange(-300, 301)
    expected = []
    for distance in distances:  # transformers.models.t5.modeling_t5.T5Attention._relative_position_bucket, one by one
        buckets, bucket = 32, 0
        if both_ways:
            buckets //= 2
            bucket, distance = buckets * (distance > 0), abs(distance)
        else:
            distance = -min(distance, 0)
        exact = buckets // 2
        if distance < exact:
            expected.append(bucket + distance)
        else:
            far = exact + int(np.float32(np.log(distance / exact) / np.log(128 / exact) * (buckets - exact)))
            expected.append(bucket + min(far, buckets - 1))
    np.testing.assert_array_equal(relative_buckets(jnp.asarray(distances), both_ways=both_ways), expected)


def test_the_base_model_has_the_published_number_of_parameters():
    # Vaswani et al. 2017, table 3, say 65 million; this is what section 3 describes.
    shapes = jax.eval_shape(Transformer().init, jax.random.key(0), SOURCE, TARGET)
    width, hidden, blocks = 512, 2048, 6
    attention, norm, mlp = 4 * (width**2 + width), 2 * width, 2 * width * hidden + hidden + width
    encoder, decoder = attention + mlp + 2 * norm, 2 * attention + mlp + 3 * norm
    count = sum(x.size for x in jax.tree.leaves(shapes))
    assert count == 37_000 * width + blocks * (encoder + decoder) == 63_082_496


def test_untied_vectors_are_three_tables():
    _, tied = translator()
    model, untied = translator(tied=False)
    more = sum(x.size for x in jax.tree.leaves(untied)) - sum(x.size for x in jax.tree.leaves(tied))
    assert more == 2 * VOCABULARY * 16 + VOCABULARY
    assert model.apply(untied, SOURCE, TARGET).shape == (2, 5, VOCABULARY)


def test_dropout_is_drawn_in_training_alone():
    model, variables = translator(dropout=0.5)
    drawn = [model.apply(variables, SOURCE, TARGET, train=True, rngs={"dropout": jax.random.key(i)}) for i in (0, 0, 1)]
    np.testing.assert_array_equal(drawn[0], drawn[1])
    assert not np.allclose(drawn[0], drawn[2])


def test_padding_is_the_token_0():
    assert PAD == 0


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (partial(Transformer, VOCABULARY, 16, 2, 2, positions="rotating"), "rotary"),
        (partial(Transformer, VOCABULARY, 16, 2, 2, positions="learned", max_length=4), "max_length is 4"),
        (partial(Transformer, VOCABULARY, 16, 0, 2), "depth"),
        (partial(Transformer, VOCABULARY, 16, 2, 3), "3 heads"),
    ],
)
def test_what_is_not_valid_is_named(make, message):
    with pytest.raises(ValueError, match=message):
        make().init(jax.random.key(0), SOURCE, TARGET)


def test_tokens_are_integers():
    model, variables = language_model()
    with pytest.raises(ValueError, match="integers"):
        model.apply(variables, TARGET.astype(jnp.float32))


@pytest.mark.parametrize("positions", POSITIONS)
def test_sentences_in_one_row_are_translated_as_each_alone(positions):
    model, variables = translator(positions)
    source, target = jnp.array([[3, 4, 5, 9, 6, 2, 7, 8, 2, 0]]), jnp.array([[1, 5, 6, 7, 10, 1, 3, 8, 0]])
    segments = jnp.array([[1] * 6 + [2] * 3 + [0]]), jnp.array([[1] * 5 + [2] * 3 + [0]])
    packed, alone = model.apply(variables, source, target, *segments), model.apply(variables, SOURCE, TARGET)
    close(packed[0, :5], alone[0])
    close(packed[0, 5:8], alone[1, :3])


@pytest.mark.parametrize("positions", POSITIONS)
def test_texts_in_one_row_are_continued_as_each_alone(positions):
    model, variables = language_model(positions)
    row, segments = jnp.array([[1, 5, 6, 7, 10, 1, 3, 8, 0]]), jnp.array([[1] * 5 + [2] * 3 + [0]])
    packed, alone = model.apply(variables, row, segments), model.apply(variables, TARGET)
    close(packed[0, :5], alone[0])
    close(packed[0, 5:8], alone[1, :3])
