"""Attention: the formula, jax's answer, masks, and what it does not know (order)."""

import doctest
import importlib
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from etude.models.layers import MultiHeadAttention, attention, cudnn_takes


def arrays(queries=5, keys=7, heads=3, width=4, value_width=4, dtype=jnp.float32):
    """(q, k, v), two of each in a batch."""
    shapes = [(2, queries, heads, width), (2, keys, heads, width), (2, keys, heads, value_width)]
    return [jax.random.normal(jax.random.key(i), shape, jnp.float32).astype(dtype) for i, shape in enumerate(shapes)]


def written_with_loops(q, k, v, scale):
    """softmax(scale · QKᵀ) V in float64, one batch, head and query after another."""
    q, k, v = (np.asarray(x, np.float64) for x in (q, k, v))
    out = np.empty((*q.shape[:3], v.shape[-1]))
    for batch, query, head in np.ndindex(q.shape[:3]):
        weights = np.exp(scale * k[batch, :, head] @ q[batch, query, head])
        out[batch, query, head] = weights @ v[batch, :, head] / weights.sum()
    return out


@pytest.mark.parametrize(
    ("queries", "keys", "heads", "width", "value_width"),
    [(5, 7, 3, 4, 4), (1, 6, 1, 5, 2), (6, 1, 2, 1, 3), (4, 4, 1, 2, 1)],
)
def test_attention_is_the_softmax_of_the_agreement_over_the_values(queries, keys, heads, width, value_width):
    q, k, v = arrays(queries, keys, heads, width, value_width)
    np.testing.assert_allclose(attention(q, k, v), written_with_loops(q, k, v, width**-0.5), rtol=1e-4, atol=1e-5)


def test_with_a_scale_of_one_it_is_the_formula_of_the_slide():
    q, k, v = arrays()
    np.testing.assert_allclose(attention(q, k, v, scale=1), written_with_loops(q, k, v, 1.0), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("masked", [False, True])
def test_values_and_gradients_agree_with_jax(causal, masked):
    q, k, v = arrays()
    # Some query may look nowhere when both masks meet: jax gives it the mean of all values too.
    mask = jax.random.bernoulli(jax.random.key(9), 0.6, (2, 1, 5, 7)) if masked else None

    def ours(q, k, v):
        return attention(q, k, v, mask=mask, causal=causal)

    def jaxs(q, k, v):
        return jax.nn.dot_product_attention(q, k, v, mask=mask, is_causal=causal)

    cotangent = jax.random.normal(jax.random.key(4), q.shape)

    @jax.jit
    def both(q, k, v):
        """Value and gradients of either, as one program."""
        return [(y, back(cotangent)) for y, back in (jax.vjp(function, q, k, v) for function in (ours, jaxs))]

    results = both(q, k, v)
    assert results[0][0].shape == q.shape
    np.testing.assert_allclose(results[0][0], results[1][0], rtol=1e-4, atol=1e-5)
    for mine, theirs in zip(results[0][1], results[1][1], strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-4, atol=1e-5)


def test_a_masked_key_is_as_if_it_were_not_there():
    q, k, v = arrays(keys=7)
    mask = (jnp.arange(7) != 2)[None, None, None]
    without = attention(q, jnp.delete(k, 2, axis=1), jnp.delete(v, 2, axis=1))
    np.testing.assert_allclose(attention(q, k, v, mask=mask), without, rtol=1e-5, atol=1e-6)


def test_a_query_that_may_look_nowhere_gets_the_mean_of_the_values_and_finite_gradients():
    q, k, v = arrays()
    nowhere = jnp.zeros((1, 1, 1, 7), bool)
    mean = jnp.broadcast_to(v.mean(1, keepdims=True), q.shape)
    np.testing.assert_allclose(attention(q, k, v, mask=nowhere), mean, rtol=1e-5, atol=1e-6)
    gradients = jax.grad(lambda *qkv: attention(*qkv, mask=nowhere).sum(), (0, 1, 2))(q, k, v)
    assert all(bool(jnp.isfinite(x).all()) for x in gradients)


def test_causal_attention_never_looks_ahead():
    q, k, v = arrays(queries=6, keys=6)
    attend = jax.jit(partial(attention, causal=True))
    answer = attend(q, k, v)
    for i in range(1, 6):
        changed = attend(q, k.at[:, i:].set(100.0), v.at[:, i:].set(-100.0))
        np.testing.assert_array_equal(changed[:, :i], answer[:, :i])
        assert not np.allclose(changed[:, i], answer[:, i])


def test_huge_agreements_stay_finite_in_value_and_gradient():
    q, k, v = (1e4 * x for x in arrays())
    value, pull = jax.vjp(attention, q, k, v)
    assert all(bool(jnp.isfinite(x).all()) for x in (value, *pull(jnp.ones_like(value))))


def test_in_bfloat16_the_answer_is_near_that_of_float32():
    q, k, v = arrays(dtype=jnp.bfloat16)
    answer = attention(q, k, v)
    assert answer.dtype == jnp.bfloat16
    expected = written_with_loops(*(x.astype(jnp.float32) for x in (q, k, v)), 0.5)
    np.testing.assert_allclose(answer.astype(jnp.float32), expected, rtol=2**-6, atol=2**-6)  # 8 bits of fraction


def test_a_population_of_scales_equals_each_alone():
    q, k, v = arrays()
    scales = jnp.array([0.1, 1.0, 3.0])
    together = jax.vmap(lambda scale: attention(q, k, v, scale=scale))(scales)
    for i, scale in enumerate([0.1, 1.0, 3.0]):
        np.testing.assert_allclose(together[i], attention(q, k, v, scale=scale), rtol=1e-5, atol=1e-6)


def test_cudnn_is_not_chosen_for_float32_odd_heads_or_a_cpu():
    assert not cudnn_takes(*arrays())
    assert not cudnn_takes(*arrays(width=9, value_width=9, dtype=jnp.bfloat16))
    if jax.devices()[0].platform == "cpu":
        assert not cudnn_takes(*arrays(width=64, value_width=64, dtype=jnp.bfloat16))


def test_the_example_of_the_docstring_holds():
    assert doctest.testmod(importlib.import_module("etude.models.layers.attention")).failed == 0


@pytest.mark.parametrize("seed", range(3))
def test_self_attention_without_positions_permutes_with_its_input(seed):
    x = jax.random.normal(jax.random.key(seed), (2, 6, 12))
    order = jax.random.permutation(jax.random.key(10 + seed), 6)
    layer = MultiHeadAttention(4)
    variables, apply = jax.jit(layer.init)(jax.random.key(1), x), jax.jit(layer.apply)
    np.testing.assert_allclose(apply(variables, x[:, order]), apply(variables, x)[:, order], rtol=1e-5, atol=1e-6)


def test_attention_to_a_context_knows_no_order_of_it():
    x, context = jax.random.normal(jax.random.key(0), (2, 3, 12)), jax.random.normal(jax.random.key(1), (2, 5, 7))
    layer = MultiHeadAttention(4)
    variables = jax.jit(layer.init)(jax.random.key(2), x, context)
    assert set(variables["params"]) == {"q", "kv", "proj"}
    answer = layer.apply(variables, x, context)
    assert answer.shape == x.shape
    np.testing.assert_allclose(layer.apply(variables, x, context[:, ::-1]), answer, rtol=1e-5, atol=1e-6)


def test_heads_are_attention_between_slices_of_the_projections():
    # Given one layer of two heads,
    x = jax.random.normal(jax.random.key(0), (2, 5, 8))
    layer = MultiHeadAttention(2)
    params = jax.jit(layer.init)(jax.random.key(1), x)["params"]

    # when its projections are cut by hand: queries, keys and values side by side, and in each head by head,
    qkv = x @ params["qkv"]["kernel"] + params["qkv"]["bias"]
    heads = []
    for head in range(2):
        q, k, v = (qkv[:, :, part * 8 + head * 4 :][:, :, :4] for part in range(3))
        heads.append(jax.nn.softmax(q @ k.swapaxes(1, 2) / 2) @ v)

    # then the output projection of their answers side by side is the layer's answer.
    expected = jnp.concatenate(heads, axis=-1) @ params["proj"]["kernel"] + params["proj"]["bias"]
    np.testing.assert_allclose(layer.apply({"params": params}, x), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("rate", [0.5, jnp.float32(0.5)])
def test_dropped_weights_keep_the_mean_of_the_answer_and_are_off_at_prediction(rate):
    x = jax.random.normal(jax.random.key(0), (1, 6, 8))
    layer = MultiHeadAttention(2, dropout=rate)
    variables = jax.jit(layer.init)(jax.random.key(1), x)
    plain = MultiHeadAttention(2).apply(variables, x)
    np.testing.assert_array_equal(layer.apply(variables, x), plain)
    keys = jax.random.split(jax.random.key(2), 4000)
    dropped = jax.jit(jax.vmap(lambda key: layer.apply(variables, x, train=True, rngs={"dropout": key})))
    answers = dropped(keys)
    assert answers.std(0).min() > 0
    np.testing.assert_array_less(np.abs(answers.mean(0) - plain), 5 * answers.std(0) / np.sqrt(len(keys)))


@pytest.mark.parametrize("heads", [4, 0, -5])
def test_heads_that_do_not_divide_the_width_are_refused(heads):
    with pytest.raises(ValueError, match=f"width of 10 cannot be cut into {heads} heads"):
        MultiHeadAttention(heads).init(jax.random.key(0), jnp.zeros((1, 3, 10)))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"q": jnp.zeros((5, 3, 4))}, r"batch, length, heads, head_dim.*\(5, 3, 4\)"),
        ({"k": jnp.zeros((2, 7, 3, 5))}, "do not fit"),
        ({"v": jnp.zeros((2, 6, 3, 4))}, "do not fit"),
        ({"mask": jnp.ones((2, 1, 5, 7))}, "boolean.*float32"),
        ({"mask": jnp.ones((2, 1, 5, 6), bool)}, r"\(2, 1, 5, 6\) does not broadcast"),
        ({"implementation": "flash"}, "'flash'.*cudnn, xla"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        attention(**dict(zip("qkv", arrays(), strict=True)) | change)
