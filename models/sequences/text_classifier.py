"""Networks that classify texts: recurrent or transformers, with the mean over a text's tokens before the classes."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from ...errors import unknown_name
from ..layers import Dropout, check_positive, precision
from .recurrent import CELLS, Recurrent
from .text_encoder import mean_over_tokens
from .transformer import PAD, Stack, embedded, embedding

READERS = (*CELLS, "attention")


class TextClassifier(nn.Module):
    """Tokens [batch, length] -> logits [batch, classes].

    Attributes:
      num_classes: number of classes.
      vocab_size: number of tokens.
      reader: what reads them: "elman", "gru" or "lstm" in both directions, or "attention", a transformer.
      width: width of the tokens, and of the reader (in each direction).
      depth: number of layers or blocks.
      num_heads: number of attention heads of a transformer.
      dropout: dropout rate of the embedded tokens, within the reader, and before the classes; may be traced.
      dtype: data type of the computation. Logits are float32 at least.
      param_dtype: data type of the parameters.
    """

    num_classes: int = 2
    vocab_size: int = 8000
    reader: str = "attention"
    width: int = 128
    depth: int = 1
    num_heads: int = 4
    dropout: float | jax.Array = 0.1
    dtype: DTypeLike = jnp.float32
    param_dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, tokens: jax.Array, *, train: bool = False) -> jax.Array:
        """Tokens [batch, length], padded with `PAD` -> logits [batch, classes].

        Raises: InputError if tokens are not integers of rank 2, the reader is unknown, or a size is not positive.
        """
        check_positive(self, "num_classes", "vocab_size", "width", "depth", "num_heads")
        if self.reader not in READERS:
            raise unknown_name("reader", self.reader, READERS)
        x, inside, dtypes = embedded(embedding(self), tokens), tokens != PAD, precision(self)
        if self.reader == "attention":
            stack = Stack(self.width, self.depth, self.num_heads, dropout=self.dropout, **dtypes, name="blocks")
            x, _ = stack(x, train, mask=inside)
        else:
            x = Dropout(self.dropout)(x, train)
            layers = {"cell": self.reader, "depth": self.depth, "dropout": self.dropout, **dtypes}
            x, _ = Recurrent(self.width, bidirectional=True, **layers, name="layers")(x, inside.sum(1), train=train)
        mean = Dropout(self.dropout)(mean_over_tokens(x, tokens), train)
        logits = nn.Dense(self.num_classes, **dtypes, name="head")(mean)
        return logits.astype(jnp.promote_types(logits.dtype, jnp.float32))
