"""Language models, as a `Training`, and what they write."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from .. import tasks
from ..data.text import BEGIN, END, Tokenizer
from ..errors import InputError
from ..models import sequences
from .options import BatchOptions, LayoutOptions, OptimizerOptions, UpdateOptions
from .saved_network import SavedNetwork
from .texts import Corpus
from .training import Training, make_training, named_network
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


def language_model(
    corpus: Corpus,
    *,
    model: str | nn.Module,
    batch: BatchOptions,
    optimizer: OptimizerOptions,
    update: UpdateOptions,
    label_smoothing: float = 0.0,
    seed: int = 0,
    fields: Mapping[str, Any] | None = None,
    dtype: str = "float32",
    layout: LayoutOptions = LayoutOptions(),
    accumulate: int = 1,
) -> tuple[Training, nn.Module]:
    """The training of the network that options name, and the network.

    Args:
      corpus: texts, as tokens.
      model: a name of `models.names(role="language_model")`, or a module: (tokens, segments) -> logits of the next
      batch, optimizer, update, layout: groups of options.
      label_smoothing: probability that the training target moves from the token to all tokens alike.
      seed: seed of the training.
      fields: fields of the named network, such as {"width": 64}.
      dtype: data type of activations and gradients.
      accumulate: number of parts of a batch.
    Raises: InputError for a name, field or number that is not valid.
    """
    name, network = None, model
    if isinstance(model, str):
        name = model
        sizes = {"vocab_size": corpus.tokenizer.vocab_size}
        network = named_network(model, "language_model", dtype, None, **sizes, **(fields or {}))
    assert isinstance(network, nn.Module)
    (length,) = corpus.train.element_spec["text"].shape
    training = make_training(
        tasks.language_model(network, length, label_smoothing=label_smoothing),
        corpus.train,
        corpus.validation,
        batch=batch,
        optimizer=optimizer,
        update=update,
        seed=seed,
        layout=layout,
        accumulate=accumulate,
    )
    saved = SavedNetwork.of_texts(network, name, corpus.train, "language_model", corpus.tokenizer, (length,))
    return replace(training, saved=saved), network


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
