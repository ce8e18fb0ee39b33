"""Encoders of text with the weights of BERT's family (Devlin et al. 2019), and what a sentence is in one vector."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from ...errors import InputError
from ..layers import check_positive, precision
from .transformer import PAD, Stack, check_tokens


class TextEncoder(nn.Module):
    """Tokens -> a vector for each of them: BERT, post-norm blocks over learned positions.

    The defaults are BERT-base, uncased: 109,482,240 parameters with its pooler. all-MiniLM-L6-v2 is width 384, depth 6.

    Attributes:
      vocab_size: number of tokens.
      width, depth, num_heads, mlp_ratio, max_length, activation, dropout, attention_dropout, remat: same as in `Stack`.
      num_types: number of kinds of tokens, such as first and second sentence.
      dtype: data type of the computation.
      param_dtype: data type of the parameters.
    """

    vocab_size: int = 30_522
    width: int = 768
    depth: int = 12
    num_heads: int = 12
    mlp_ratio: float = 4.0
    max_length: int = 512
    num_types: int = 2
    activation: str = "gelu"
    dropout: float | jax.Array = 0.0
    attention_dropout: float | jax.Array = 0.0
    remat: bool = False
    dtype: DTypeLike = jnp.float32
    param_dtype: DTypeLike = jnp.float32

    def setup(self):
        check_positive(self, "vocab_size", "width", "depth", "num_heads", "num_types")
        self.embed, self.type_embed = self._table(self.vocab_size), self._table(self.num_types)
        self.encoder = Stack(
            self.width,
            self.depth,
            self.num_heads,
            self.mlp_ratio,
            positions="learned",
            max_length=self.max_length,
            norm_first=False,
            embedding_norm=True,
            activation=self.activation,
            epsilon=1e-12,
            dropout=self.dropout,
            attention_dropout=self.attention_dropout,
            remat=self.remat,
            **precision(self),
        )
        self.pooler = nn.Dense(self.width, **precision(self))

    def __call__(self, tokens: jax.Array, types: jax.Array | None = None, *, train: bool = False) -> jax.Array:
        """[batch, length, width].

        Args:
          tokens: integers [batch, length]; `PAD` is attended to by none.
          types: integers [batch, length], the kind of each token; None for 0.
          train: apply dropout.
        Raises: InputError if tokens are not integers of rank 2, or more than max_length.
        """
        check_tokens(tokens)
        types = jnp.zeros_like(tokens) if types is None else types
        return self.encoder(self.embed(tokens) + self.type_embed(types), train, mask=tokens != PAD)[0]

    def pooled(self, tokens: jax.Array, types: jax.Array | None = None, *, train: bool = False) -> jax.Array:
        """BERT's own vector of a text, [batch, width]: a dense layer and tanh over its first token."""
        return jnp.tanh(self.pooler(self(tokens, types, train=train)[:, 0]))

    def _table(self, rows: int) -> nn.Embed:
        return nn.Embed(rows, self.width, **precision(self), embedding_init=nn.initializers.normal(0.02))


def mean_over_tokens(x: jax.Array, tokens: jax.Array) -> jax.Array:
    """The mean vector of the tokens of each text; 0 of a text without any.

    Args:
      x: [batch, length, width].
      tokens: [batch, length]; `PAD` does not count.
    Returns: [batch, width].
    Raises: InputError if shapes do not fit.
    """
    if x.shape[:-1] != tokens.shape:
        raise InputError(f"Vectors {x.shape} do not belong to tokens {tokens.shape}.")
    inside = (tokens != PAD)[..., None]
    return jnp.where(inside, x, 0).sum(1) / jnp.maximum(inside.sum(1), 1)


def sentence_vectors(encoder: TextEncoder, variables: Any, tokens: jax.Array) -> jax.Array:
    """The vector of each sentence, of norm 1, as sentence-transformers' mean pooling gives it: [batch, width].

    Source: Reimers & Gurevych 2019 (https://arxiv.org/abs/1908.10084), section 3.
    """
    x: Any = encoder.apply(variables, tokens)
    mean = mean_over_tokens(x, tokens)
    return mean / jnp.maximum(jnp.linalg.norm(mean, axis=-1, keepdims=True), 1e-12)
