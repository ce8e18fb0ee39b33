"""The block of transformers, and a stack of equal ones: vision transformers, text encoders and decoders share them.

A block is attention of x to itself, for decoders attention to a context, and an MLP for each token alone; each with a
shortcut, and LayerNorm before it (pre-norm) or behind its shortcut (post-norm, as first published). What a decoder
needs to go on position by position, the keys and values of its attentions, goes in and comes out as arrays.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from .activations import get_activation
from .attention import KeyValues, MultiHeadAttention
from .dropout import Dropout
from .norms import layer_norm
from .precision import precision
from .remat import is_expensive


class MLP(nn.Module):
    """A dense layer, an activation, and a dense layer back, for each token alone.

    Attributes:
      hidden: width of the hidden layer.
      dropout: dropout rate after both layers; may be traced.
      activation: a name of `ACTIVATIONS`.
      dtype: data type of the computation.
      param_dtype: data type of the parameters.
    """

    hidden: int
    dropout: float | jax.Array = 0.0
    activation: str = "gelu"
    dtype: DTypeLike = jnp.float32
    param_dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """[batch, length, width] -> the same."""
        activation = get_activation(self.activation)
        y = Dropout(self.dropout)(activation(self._dense(self.hidden, "fc1")(x)), train)
        return Dropout(self.dropout)(self._dense(x.shape[-1], "fc2")(y), train)

    def _dense(self, features: int, name: str) -> nn.Dense:
        init = nn.initializers.xavier_uniform()
        return nn.Dense(features, **precision(self), kernel_init=init, name=name)


class Memory(NamedTuple):
    """Keys and values of a block's attentions."""

    own: KeyValues
    """Of x, with room for all positions that will come."""
    context: KeyValues | None = None
    """Of the context."""


class Block(nn.Module):
    """x + Attention(LayerNorm(x)), the same with a context if there is one, then with an MLP.

    Attributes:
      num_heads: number of attention heads.
      mlp_ratio: hidden width of the MLP, as a multiple of the width.
      norm_first: LayerNorm before each part (pre-norm); False for LayerNorm(x + Attention(x)), as first published.
      activation: activation of the MLP, a name of `ACTIVATIONS`.
      epsilon: ε of LayerNorm.
      dropout: dropout rate after both dense layers of the MLP and the last one of each attention; may be traced.
      attention_dropout: dropout rate of the attention weights; may be traced.
      dtype: data type of the computation.
      param_dtype: data type of the parameters.
    Source: Vaswani et al. 2017, figure 1; pre-norm as in Xiong et al. 2020 (https://arxiv.org/abs/2002.04745).
    """

    num_heads: int
    mlp_ratio: float = 4.0
    norm_first: bool = True
    activation: str = "gelu"
    epsilon: float = 1e-6
    dropout: float | jax.Array = 0.0
    attention_dropout: float | jax.Array = 0.0
    dtype: DTypeLike = jnp.float32
    param_dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self,
        x: jax.Array,
        train: bool = False,
        *,
        drop_path: float | jax.Array = 0.0,
        context: jax.Array | None = None,
        context_mask: jax.Array | None = None,
        memory: Memory | None = None,
        at: jax.Array | int | None = None,
        **own: Any,
    ) -> tuple[jax.Array, Memory]:
        """[batch, length, width] -> the same, and what its attentions attended to.

        Args:
          x: [batch, length, width].
          train: apply dropout.
          drop_path: rate of `stochastic_depth` of each part; may be traced.
          context: [batch, key, any width], attended to after x itself; None for no such part.
          context_mask: bool, broadcasts to [batch, heads, length, key] of the context.
          memory: of an earlier call; then the context is that of `memory.context`.
          at: position of x in the memory.
          own: mask, causal, bias and rotate of the attention to x itself, same as in `MultiHeadAttention`.
        """
        dtypes = precision(self)

        def attend(name: str) -> MultiHeadAttention:
            return MultiHeadAttention(self.num_heads, dropout=self.attention_dropout, **dtypes, name=name)

        def added(x: jax.Array, norm: str, part: Callable[[jax.Array], jax.Array]) -> jax.Array:
            """x + part(x), with a normalization where it belongs."""
            normalize = layer_norm(self, norm, self.epsilon)
            y = part(normalize(x) if self.norm_first else x)
            x = x + Dropout(drop_path, whole_examples=True)(y, train)
            return x if self.norm_first else normalize(x)

        def to_itself(x):
            nonlocal kept
            past = None if memory is None else memory.own
            y, kept = attend("attn").remembering(x, memory=past, at=at, train=train, **own)
            return Dropout(self.dropout)(y, train)

        def to_context(x):
            nonlocal kept_context
            past = None if memory is None else memory.context
            y, kept_context = attend("cross_attn").remembering(x, context, mask=context_mask, memory=past, train=train)
            return Dropout(self.dropout)(y, train)

        kept, kept_context = None, None
        x = added(x, "norm1", to_itself)
        if context is not None or (memory is not None and memory.context is not None):
            x = added(x, "cross_norm", to_context)
        mlp = MLP(int(self.mlp_ratio * x.shape[-1]), self.dropout, self.activation, **dtypes, name="mlp")
        x = added(x, "norm2", lambda x: mlp(x, train))
        assert kept is not None
        return x, Memory(kept, kept_context)


def run_blocks(
    block: Block,
    x: jax.Array,
    depth: int,
    train: bool,
    *,
    drop_path: jax.Array | None = None,
    memory: Memory | None = None,
    remember: bool = False,
    remat: bool = False,
    **arguments: Any,
) -> tuple[jax.Array, Memory | None]:
    """Equal blocks, one after another, under `nn.scan`: parameters are stacked, and one block is compiled.

    Args:
      block: the block, bound inside a module's `__call__`.
      x: [batch, length, width].
      depth: number of blocks.
      train: apply dropout.
      drop_path: rates of stochastic depth, [depth]; None for none.
      memory: `Memory` of an earlier call, whose arrays have a leading axis of blocks.
      remember: return the memory.
      remat: keep nothing of a block but its input for the backward pass; otherwise keep what `is_expensive`.
      arguments: the same for all blocks: context, context_mask, at, mask, causal, bias, rotate.
    Returns: (x after the last block, the memory of all blocks or None).
    """

    def body(block, x, own):
        rate, past = own
        y, kept = block(x, train, drop_path=0.0 if rate is None else rate, memory=past, **arguments)
        if past is not None and past.context is not None:
            kept = kept._replace(context=None)  # it is what went in: no copy of it for each position
        return y, kept if remember else None

    run = nn.scan(
        nn.remat(body, prevent_cse=False, policy=None if remat else is_expensive),
        variable_axes={"params": 0, "intermediates": 0},
        split_rngs={"params": True, "dropout": True},
        length=depth,
    )
    x, kept = run(block, x, (drop_path, memory))
    if kept is not None and kept.context is None and memory is not None:
        kept = kept._replace(context=memory.context)
    return x, kept
