"""What translators make of several texts at once."""

import jax
import jax.numpy as jnp
import numpy as np
from etude import lab
from etude.data.text import train_tokenizer
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
