"""Translation gives the same numbers however rows of several sentences of any length are spread over devices."""

from functools import cache

import jax
import numpy as np
import pytest
from etude import data, tasks
from etude.data import text
from etude.models import RecurrentTranslator, Transformer

ROOM, VOCABULARY, STEPS = 20, 13, 2
MODELS = {
    "transformer": Transformer(VOCABULARY, 16, 1, 2, norm_first=True),
    "attention": RecurrentTranslator(VOCABULARY, 8, attention="dot"),
}


def pairs(count=70):
    """Rows of pairs of ragged lengths: a batch of 16, and one that is filled up."""
    rng = np.random.default_rng(0)
    texts = {
        name: [rng.integers(4, VOCABULARY, rng.integers(1, 9)) for _ in range(count)] for name in ("source", "target")
    }
    rows = text.pack(texts, dict.fromkeys(texts, ROOM))
    spec = {name: jax.ShapeDtypeStruct(each.shape[1:], each.dtype) for name, each in rows.items()}
    return data.Source("pairs", "train", data.Arrays(rows), spec)


SOURCE = pairs()


@pytest.fixture(scope="module")
def run(tools):
    @cache
    def run(name, layout):
        problem = tools.Problem(layout, task=tasks.translation(MODELS[name], (ROOM, ROOM)), augmented=False)
        state, metrics = problem.run(SOURCE, STEPS, drop_remainder=False)
        evaluate = problem.evaluate(SOURCE, batch_size=16)
        return state, metrics, evaluate(problem.layout.place_variables(state.variables))

    return run


@pytest.mark.parametrize(
    ("name", "layout"),
    [
        ("transformer", "data"),
        ("transformer", "fsdp"),
        ("transformer", "pmap"),
        ("attention", "pmap"),
        ("attention", "data"),
    ],
)
def test_every_layout_gives_the_same_numbers(tools, run, name, layout):
    (state, metrics, scores), (other, others, wanted) = run(name, layout), run(name, "jit")
    assert tools.relative_difference(state.params, other.params) < 1e-4
    for mine, reference in ((metrics, others), (scores, wanted)):
        for key, values in mine.items():
            np.testing.assert_allclose(values, reference[key], rtol=1e-4, err_msg=key)
