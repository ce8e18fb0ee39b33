"""What translators make of several texts at once."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from etude import lab
from etude.data.text import train_tokenizer
from etude.errors import InputError
from etude.models.sequences import Transformer

LENGTH = 8


def test_texts_of_all_lengths_in_several_batches_are_answered_in_their_order():
    tokenizer = train_tokenizer(["abcdefghij"], "characters")
    model = Transformer(tokenizer.vocab_size, 16, 1, 2, tied=False)  # an untrained tied one says the same to all
    blank = jnp.ones((1, LENGTH), jnp.int32)
    variables = model.init(jax.random.key(0), blank, blank)
    rng = np.random.default_rng(0)
    texts = ["".join(rng.choice([*"abcdefghij"], rng.integers(1, LENGTH))) for _ in range(50)]
    sources = lab.rows_for(texts, tokenizer, LENGTH)
    translate = lab.translate(model, tokenizer, LENGTH)
    together = translate(variables, sources)
    assert len({made for made, *_ in together}) > 10
    assert together == [translate(variables, source[None])[0] for source in sources]


def test_a_network_that_cannot_write_is_refused_before_anything_is_compiled():
    class Mine(nn.Module):
        def start(self, source, length):
            return source

        def step(self, carried, tokens, at):
            return carried, carried

    tokenizer = train_tokenizer(["abc"], "characters")
    with pytest.raises(InputError, match=r"Mine cannot .* beam of 4: it has no carried_axes"):
        lab.translate(Mine(), tokenizer, LENGTH)
    with pytest.raises(InputError, match=r"Dense .* it has no start and no step;"):
        lab.translate(nn.Dense(1), tokenizer, LENGTH, lab.SearchOptions(beam=1))
    lab.translate(Mine(), tokenizer, LENGTH, lab.SearchOptions(beam=1))
