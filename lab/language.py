"""What language models write."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from .. import tasks
from ..data.text import BEGIN, END, Tokenizer
from ..errors import InputError
from ..models import sequences
from .valid import COUNT, POSITIVE, Valid


@dataclass(frozen=True)
class SamplingOptions:
    """How the tokens of a text are drawn."""

    TITLE: ClassVar[str] = "sampling"

    temperature: Annotated[float, POSITIVE] = 1.0
    """Divisor of the logits: below 1 likely tokens become likelier."""
    top_k: Annotated[int | None, COUNT] = None
    """Number of the likeliest tokens that are drawn from; by default all."""
    top_p: Annotated[float, Valid("in (0, 1]", lambda x: 0 < x <= 1)] = 1.0
    """Probability of the likeliest tokens, together, that are drawn from; 1 for all."""


def continue_text(
    model: Any,
    variables: tasks.Variables,
    tokenizer: Tokenizer,
    text: str,
    key: jax.Array,
    *,
    length: int,
    samples: int = 1,
    options: SamplingOptions = SamplingOptions(),
) -> list[str]:
    """What a language model writes behind a text.

    Args:
      model: a language model, with `start` and `step`.
      variables: its variables.
      tokenizer: makes its tokens.
      text: the beginning; "" for none.
      key: decides what is drawn.
      length: the most tokens of text and continuation together.
      samples: number of continuations.
      options: how tokens are drawn.
    Returns: the continuations, without the text.
    Raises: InputError if the text leaves no room.
    """
    (own,) = tokenizer.encode([text], begin=True, end=False)
    room = length + 1 - len(own)
    if room < 1:
        raise InputError(
            f"The text has {len(own) - 1:,} tokens; the network reads and writes {length} in all. Give a shorter one."
        )

    def step(carried: Any, tokens: jax.Array, at: jax.Array) -> tuple[jax.Array, Any]:
        return model.apply(variables, carried, tokens, at, method="step")

    @jax.jit
    def write(tokens: jax.Array, key: jax.Array) -> jax.Array:
        def read(carried, position):
            token, at = position
            return step(carried, jnp.full(samples, token), at)[1], None

        before = jnp.arange(len(own) - 1)
        start = model.apply(variables, samples, length + 1, method="start")
        carried, _ = jax.lax.scan(read, start, (tokens[:-1], before))
        ends: dict[str, Any] = {"begin": tokens[-1], "end": END, "length": room}
        drawn = sequences.sample(
            lambda carried, tokens, at: step(carried, tokens, at + len(own) - 1),
            carried,
            samples,
            key,
            temperature=options.temperature,
            top_k=options.top_k,
            top_p=options.top_p,
            **ends,
        )
        return drawn.tokens

    assert own[0] == BEGIN
    return tokenizer.decode(np.asarray(write(jnp.asarray(own), key)))
