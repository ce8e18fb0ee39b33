"""Blocks of transformers: torch's answers with the same weights, and what the memory of a decoder must not change."""

from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from etude.models.layers import Block, MultiHeadAttention
from weights import weight

GOLDEN = np.load(Path(__file__).resolve().parents[2] / "golden" / "torch_sequences.npz")
WIDTH, HEADS, BATCH = 8, 2, 3
INSIDE = np.arange(7) < np.array([7, 4, 1])[:, None]
DENSE = {"qkv": "in_proj", "proj": "out_proj", "fc1": "linear1", "fc2": "linear2"}
NORMS = {
    "encoder": {"norm1": "norm1", "norm2": "norm2"},
    "decoder": {"norm1": "norm1", "cross_norm": "norm2", "norm2": "norm3"},
}


def sequences(name, length):
    return jnp.asarray(weight(f"{name}_sequences", (length, WIDTH, BATCH)).transpose(2, 0, 1), jnp.float64)


def torchs_names(params, kind):
    """Name in torch -> array in torch's layout of one layer of ours."""

    def dense(prefix, own):
        name = prefix + DENSE.get(own[0], own[0])
        joint = "_" if name.endswith("in_proj") else "."
        return {f"{name}{joint}weight": own[1]["kernel"].T, f"{name}{joint}bias": own[1]["bias"]}

    def attention(prefix, own):
        if "kv" in own:  # torch has one matrix for the projections of all three
            both = {leaf: jnp.concatenate([own["q"][leaf], own["kv"][leaf]], -1) for leaf in ("kernel", "bias")}
            own = {"qkv": both, "proj": own["proj"]}
        return {key: x for each in own.items() for key, x in dense(prefix, each).items()}

    if kind == "attention":
        return attention("", params)
    names = attention("self_attn.", params["attn"])
    if kind == "decoder":
        names |= attention("multihead_attn.", params["cross_attn"])
    for each in params["mlp"].items():
        names |= dense("", each)
    for own, name in NORMS[kind].items():
        names |= {f"{name}.weight": params[own]["scale"], f"{name}.bias": params[own]["bias"]}
    return names


def by_rule(shapes, kind):
    """Parameters of ours whose values torch has under its names: found by asking where each of them lies there."""
    zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, jnp.float64), shapes)
    state = {name: jnp.asarray(weight(name, x.shape), jnp.float64) for name, x in torchs_names(zeros, kind).items()}
    back = jax.linear_transpose(lambda params: torchs_names(params, kind), zeros)  # a permutation: its own inverse
    return back(state)[0]


def layers(name):
    """(our layer, its arguments) of what torch's script made."""
    double = {"dtype": jnp.float64, "param_dtype": jnp.float64}
    source, target = sequences("source", 7), sequences("target", 5)
    absent = INSIDE[:, None, None]
    if name == "attention":
        return MultiHeadAttention(HEADS, **double), (target, source), {"mask": absent}
    kind, norm = name.split("_")
    activation = "relu" if kind == "encoder" else "gelu"
    block = Block(HEADS, 1.5, norm_first=norm == "pre", activation=activation, epsilon=1e-5, **double)
    if kind == "encoder":
        return block, (source,), {"mask": absent}
    return block, (target,), {"causal": True, "context": source, "context_mask": absent}


@pytest.mark.parametrize("name", ["attention", "encoder_pre", "encoder_post", "decoder_pre", "decoder_post"])
def test_answers_and_gradients_are_torchs(name):
    kind = name.split("_")[0]
    with jax.enable_x64(True):
        layer, arguments, named = layers(name)
        shapes = jax.eval_shape(partial(layer.init, **named), jax.random.key(0), *arguments)["params"]

        @jax.jit
        @partial(jax.grad, has_aux=True)
        def gradient(params):
            answer = layer.apply({"params": params}, *arguments, **named)
            answer = answer if name == "attention" else answer[0]
            return (answer * weight("answer_factor", answer.shape)).sum(), answer

        gradients, answer = gradient(by_rule(shapes, kind))
        norms = {key: np.linalg.norm(x) for key, x in torchs_names(gradients, kind).items()}
    np.testing.assert_allclose(answer, GOLDEN[f"{name}_answer"], rtol=1e-5, atol=1e-6)
    wanted = dict(zip(GOLDEN[f"{name}_gradient_names"], GOLDEN[f"{name}_gradient_norms"], strict=True))
    assert norms.keys() == wanted.keys()
    np.testing.assert_allclose([norms[key] for key in wanted], list(wanted.values()), rtol=1e-6)
