"""Tasks whose answer is text, token by token: translation, and a language model.

A network reads what stands before a token and says how likely each token is there. Every token counts alike, a text's
end included, so that long texts count more; padding counts for nothing. Rows may hold several texts (`data.text.pack`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from .. import losses, metrics
from ..data.text import BEGIN, PAD, SEGMENTS
from ..models.sequences import begins
from .mean import Mean
from .task import Aux, Batch, Task, example_weights


def translation(
    model: nn.Module,
    lengths: tuple[int, int],
    *,
    label_smoothing: float = 0.0,
    traced_fields: Sequence[str] = (),
) -> Task:
    """The target's tokens, given those of the source: batch["source"] and batch["target"], int32 [batch, length].

    Where several pairs stand in a row, batch["source_segments"] and batch["target_segments"] number them.

    Args:
      model: (source, target so far, segments of both, train) -> logits [batch, target length, vocabulary].
      lengths: number of tokens of a source and of a target.
      label_smoothing: probability that is moved from the token to all tokens alike, in training only, in [0, 1).
      traced_fields: fields of the model that training takes from the hyperparameters of these names, such as
        "dropout", so that a population can vary them.
    Returns: a task whose loss is in nats per token, with the metric `accuracy` of the tokens.
    """

    def predict(model: Any, variables: Any, batch: Batch, **options: Any) -> jax.Array:
        segments = [batch.get(name + SEGMENTS) for name in ("source", "target")]
        target = shifted(batch["target"], segments[1])
        return model.apply(variables, batch["source"], target, *segments, **options)

    return _next_token(model, "target", lengths, predict, label_smoothing, traced_fields)


def language_model(
    model: nn.Module, length: int, *, label_smoothing: float = 0.0, traced_fields: Sequence[str] = ()
) -> Task:
    """The next token of a text, given those before it: batch["text"], int32 [batch, length], and its segments.

    Args:
      model: (tokens so far, segments, train) -> logits [batch, length, vocabulary].
      length: number of tokens of a row.
      label_smoothing, traced_fields: same as in `translation`.
    Returns: a task whose loss is in nats per token, with the metric `accuracy` of the tokens.
    """

    def predict(model: Any, variables: Any, batch: Batch, **options: Any) -> jax.Array:
        segments = batch.get("text" + SEGMENTS)
        return model.apply(variables, shifted(batch["text"], segments), segments, **options)

    return _next_token(model, "text", (length,), predict, label_smoothing, traced_fields)


def shifted(tokens: jax.Array, segments: jax.Array | None = None) -> jax.Array:
    """What stands before each token: BEGIN before a text's first one. [batch, length] -> the same.

    Args:
      tokens: [batch, length].
      segments: number of the text in its row that a token belongs to, [batch, length]; None for one text in each row.

    >>> shifted(jnp.array([[7, 8, 2, 9, 2, 0]]), jnp.array([[1, 1, 1, 2, 2, 0]])).tolist()
    [[1, 7, 8, 1, 9, 1]]
    """
    before = jnp.pad(tokens[:, :-1], ((0, 0), (1, 0)), constant_values=BEGIN)
    return before if segments is None else jnp.where(begins(segments), BEGIN, before)


def _next_token(
    model: nn.Module,
    column: str,
    lengths: Sequence[int],
    predict: Callable[..., jax.Array],
    label_smoothing: float,
    traced_fields: Sequence[str],
) -> Task:
    def init(key):
        return model.init({"params": key}, *(jnp.zeros((1, length), jnp.int32) for length in lengths))

    def loss(params, model_state, batch, key, train, hyper):
        variables = {"params": params, **model_state}
        if train:
            traced = model.clone(**{name: hyper[name] for name in traced_fields})
            logits = predict(traced, variables, batch, train=True, rngs={"dropout": key})
        else:
            logits = predict(model, variables, batch)
        tokens, logits = batch[column].reshape(-1), logits.reshape(-1, logits.shape[-1])
        weights = (example_weights(batch)[:, None] * (batch[column] != PAD)).reshape(-1)
        per_token = losses.cross_entropy(logits, tokens, label_smoothing=label_smoothing if train else 0.0)
        accuracy = Mean.of(metrics.accuracy(logits, tokens), weights)
        return Mean.of(per_token, weights), Aux(model_state, {"accuracy": accuracy})

    return Task(init, loss)
