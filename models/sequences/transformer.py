"""Transformers for tokens: encoder and decoder (Vaswani et al. 2017), the decoder alone, and the encoder alone (BERT).

Their blocks are those of vision transformers (`layers.Block`). Tokens are integers [batch, length], of which `PAD` is
padding: it is attended to by none, and nothing depends on how much of it there is. A decoder goes on position by
position with what `start` and `step` hand over, as `decoding` does; its answers are those for the whole sequence.
"""

from __future__ import annotations

from functools import partial
from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from ...errors import InputError
from ..layers import (
    Block,
    Dropout,
    KeyValues,
    Memory,
    RelativeBias,
    check_positive,
    layer_norm,
    precision,
    rotary,
    run_blocks,
    sincos,
)

PAD = 0
"""The token that stands behind the end of a sequence."""
POSITIONS = ("sinusoidal", "learned", "rotary", "relative", "none")


class Stack(nn.Module):
    """Blocks that know positions.

    Attributes:
      width: width of the tokens.
      depth: number of blocks.
      num_heads: number of attention heads.
      mlp_ratio: hidden width of the MLPs, as a multiple of the width.
      causal: position i sees the positions up to i only.
      positions: "sinusoidal" or "learned" vectors that are added to the tokens, "rotary" queries and keys, "relative"
        biases of the distances, shared by all blocks, or "none".
      max_length: number of learned positions.
      norm_first: pre-norm blocks, with a normalization behind the last one; False for post-norm.
      embedding_norm: a normalization before the first block, as in BERT.
      activation: activation of the MLPs, a name of `ACTIVATIONS`.
      epsilon: ε of LayerNorm.
      dropout: dropout rate of the embedded tokens and in every block; may be traced.
      attention_dropout: dropout rate of the attention weights; may be traced.
      remat: keep nothing of a block but its input for the backward pass.
      dtype: data type of the computation.
      param_dtype: data type of the parameters.
    """

    width: int
    depth: int
    num_heads: int
    mlp_ratio: float = 4.0
    causal: bool = False
    positions: str = "sinusoidal"
    max_length: int = 512
    norm_first: bool = True
    embedding_norm: bool = False
    activation: str = "relu"
    epsilon: float = 1e-6
    dropout: float | jax.Array = 0.0
    attention_dropout: float | jax.Array = 0.0
    remat: bool = False
    dtype: DTypeLike = jnp.float32
    param_dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self,
        x: jax.Array,
        train: bool = False,
        *,
        mask: jax.Array | None = None,
        context: jax.Array | None = None,
        context_mask: jax.Array | None = None,
        positions: jax.Array | None = None,
        memory: Memory | None = None,
        at: jax.Array | int = 0,
        remember: bool = False,
    ) -> tuple[jax.Array, Memory | None]:
        """Embedded tokens [batch, length, width] -> the same, and the memory of all blocks, if it is wanted.

        Args:
          x: [batch, length, width].
          train: apply dropout.
          mask: bool [batch, key] or [batch, length, key], False where nothing is seen, such as padding; None where all
            is.
          context: [batch, key, any width]; None for none, or where the memory has it.
          context_mask: bool [batch, key of the context], or [batch, length, key of the context].
          positions: int [batch, length], where several sequences stand in a row; by default counted from `at`.
          memory: of an earlier call, with a leading axis of blocks.
          at: number of the first position of x; may be traced.
          remember: return the memory.
        Raises: InputError if positions is not valid or more positions are wanted than were learned.
        """
        own = at + jnp.arange(x.shape[1])
        keys = own if memory is None else jnp.arange(memory.own.keys.shape[2])
        added = own if positions is None else positions  # rotary and relative ones compare positions, which may begin
        arguments: dict[str, Any] = {}  # anywhere
        if self.positions == "sinusoidal":
            x = x + sincos(added, self.width).astype(x.dtype)
        elif self.positions == "learned":
            x = x + self._learned(added).astype(x.dtype)
        elif self.positions == "rotary":
            arguments["rotate"] = partial(rotary, positions=own)
        elif self.positions == "relative":
            table = RelativeBias(
                self.num_heads, both_ways=not self.causal, param_dtype=self.param_dtype, name="relative_bias"
            )
            arguments["bias"] = table(own, keys)
        elif self.positions != "none":
            raise InputError(f"positions is {self.positions!r}; valid are: {', '.join(POSITIONS)}.")
        if self.embedding_norm:
            x = layer_norm(self, "embed_norm", self.epsilon)(x)
        block = Block(
            self.num_heads,
            self.mlp_ratio,
            self.norm_first,
            self.activation,
            self.epsilon,
            self.dropout,
            self.attention_dropout,
            **precision(self),
            name="blocks",
        )
        x, memory = run_blocks(
            block,
            Dropout(self.dropout)(x, train),
            self.depth,
            train,
            memory=memory,
            remember=remember,
            remat=self.remat,
            context=context,
            context_mask=_over_keys(context_mask),
            at=None if memory is None else at,
            mask=_over_keys(mask),
            causal=self.causal,
            **arguments,
        )
        return layer_norm(self, "norm", self.epsilon)(x) if self.norm_first else x, memory

    def _learned(self, positions: jax.Array) -> jax.Array:
        """[..., length] -> [..., length, width]"""
        if positions.shape[-1] > self.max_length:
            raise InputError(f"{positions.shape[-1]} positions were given; max_length is {self.max_length}.")
        init = nn.initializers.normal(0.02)
        return self.param("pos_embed", init, (self.max_length, self.width), self.param_dtype)[positions]


def _over_keys(mask: jax.Array | None) -> jax.Array | None:
    """[batch, key] or [batch, query, key] -> [batch, head, query, key]"""
    if mask is None:
        return None
    return mask[:, None, None] if mask.ndim == 2 else mask[:, None]


def seen(segments: jax.Array, others: jax.Array | None = None) -> jax.Array:
    """Which positions of sequences in rows belong together: those of the same number, which is not 0.

    Args:
      segments: int [batch, length], of the positions that look.
      others: int [batch, key], of those looked at; None for the same.
    Returns: bool [batch, length, key].
    """
    others = segments if others is None else others
    return (segments[:, :, None] == others[:, None]) & (others > 0)[:, None]


def begins(segments: jax.Array) -> jax.Array:
    """The positions at which a sequence of a row begins: int [batch, length] -> bool [batch, length]."""
    return segments != jnp.pad(segments[:, :-1], ((0, 0), (1, 0)))


def positions_in(segments: jax.Array) -> jax.Array:
    """The number of each position in its own sequence of a row, from 0: [batch, length] -> the same.

    >>> positions_in(jnp.array([[1, 1, 1, 2, 2, 0]])).tolist()
    [[0, 1, 2, 0, 1, 0]]
    """
    place = jnp.broadcast_to(jnp.arange(segments.shape[1]), segments.shape)
    return place - jax.lax.cummax(jnp.where(begins(segments), place, 0), 1)


def _in_rows(segments: jax.Array | None) -> dict[str, Any]:
    """Arguments of `Stack` where several sequences stand in a row; {} where each has a row of its own."""
    return {} if segments is None else {"mask": seen(segments), "positions": positions_in(segments)}


def empty_memory(stack: Stack, batch: int, length: int) -> KeyValues:
    """Room for the keys and values of a decoder's own positions, with a leading axis of blocks."""
    shape = (stack.depth, batch, length, stack.num_heads, stack.width // stack.num_heads)
    return KeyValues(jnp.zeros(shape, stack.dtype), jnp.zeros(shape, stack.dtype))


class Transformer(nn.Module):
    """Encoder and decoder: tokens of a source and of the target so far -> logits of the target's next tokens.

    The defaults are the base model of the paper with one vocabulary for both languages, whose vectors are also the
    output's: 63.1 M parameters with 37,000 tokens (the paper says 65 M).

    Attributes:
      vocab_size: number of tokens.
      width, num_heads, mlp_ratio, positions, max_length, norm_first, activation: same as in `Stack`, for both.
      dropout, attention_dropout, remat: same as in `Stack`, for both.
      depth: number of blocks of the encoder, and of the decoder.
      tied: the vectors of the source's tokens, of the target's and of the output are the same.
      dtype: data type of the computation. Logits are float32 at least.
      param_dtype: data type of the parameters.
    """

    vocab_size: int = 37_000
    width: int = 512
    depth: int = 6
    num_heads: int = 8
    mlp_ratio: float = 4.0
    positions: str = "sinusoidal"
    max_length: int = 512
    norm_first: bool = False
    activation: str = "relu"
    tied: bool = True
    dropout: float | jax.Array = 0.0
    attention_dropout: float | jax.Array = 0.0
    remat: bool = False
    dtype: DTypeLike = jnp.float32
    param_dtype: DTypeLike = jnp.float32

    carried_axes: ClassVar[Any] = (1, 0)
    """Axis of the batch in what `start` gives and `step` carries, for `decoding.beam_search`."""
    carried_fixed: ClassVar[Any] = (Memory(False, True), True)  # type: ignore[arg-type]
    """Which of it no step changes."""

    def setup(self):
        check_positive(self, "vocab_size", "width", "depth", "num_heads")
        self.source_embed = embedding(self)
        self.target_embed = self.source_embed if self.tied else embedding(self)
        self.encoder, self.decoder = stack_of(self), stack_of(self, causal=True)
        if not self.tied:
            self.output = nn.Dense(self.vocab_size, **precision(self))

    def __call__(
        self,
        source: jax.Array,
        target: jax.Array,
        source_segments: jax.Array | None = None,
        target_segments: jax.Array | None = None,
        *,
        train: bool = False,
    ) -> jax.Array:
        """Tokens [batch, source], [batch, target] -> logits [batch, target, vocab_size] of what follows each.

        Several sentences may stand in a row: segments, int of the same shapes, are their numbers 1, 2, …, and 0 for
        padding (`data.text.pack`). None for one sentence in each row.
        """
        x, context = embedded(self.target_embed, target), self.encode(source, source_segments, train=train)
        context_mask = source != PAD
        if source_segments is not None and target_segments is not None:
            context_mask = seen(target_segments, source_segments)
        x, _ = self.decoder(x, train, context=context, context_mask=context_mask, **_in_rows(target_segments))
        return self._logits(x)

    def attend(self, source: jax.Array, target: jax.Array) -> jax.Array:
        """Tokens -> how much each position of the target looks at each of the source: [batch, target, source].

        The mean over the heads of the last block.
        """
        sown: Any
        looking, params = self.clone(parent=None), self.variables["params"]
        _, sown = looking.apply({"params": params}, source, target, mutable=["intermediates"])
        return sown["intermediates"]["decoder"]["blocks"]["cross_attn"]["weights"][0][-1].mean(1)

    def encode(self, source: jax.Array, segments: jax.Array | None = None, *, train: bool = False) -> jax.Array:
        """Tokens [batch, source] -> what the decoder attends to, [batch, source, width]."""
        where: dict[str, Any] = {"mask": source != PAD, **_in_rows(segments)}
        return self.encoder(embedded(self.source_embed, source), train, **where)[0]

    def start(self, source: jax.Array, length: int) -> tuple[Memory, jax.Array]:
        """What `step` needs to answer for up to `length` positions of the target, for tokens [batch, source]."""
        context, mask = self.encode(source), source != PAD
        anything = jnp.zeros((len(source), 1, self.width), self.dtype)  # keys and values of the context know no x
        _, kept = self.decoder(anything, context=context, context_mask=mask, remember=True)
        assert kept is not None
        return Memory(empty_memory(self.decoder, len(source), length), kept.context), mask

    def step(
        self, carried: tuple[Memory, jax.Array], tokens: jax.Array, at: jax.Array | int
    ) -> tuple[jax.Array, tuple[Memory, jax.Array]]:
        """One position of the target: tokens [batch] at position `at` -> logits [batch, vocab_size], what to carry."""
        memory, mask = carried
        x, memory = self.decoder(
            embedded(self.target_embed, tokens[:, None]), context_mask=mask, memory=memory, at=at, remember=True
        )
        assert memory is not None
        return self._logits(x)[:, 0], (memory, mask)

    def _logits(self, x: jax.Array) -> jax.Array:
        logits = self.target_embed.attend(x) if self.tied else self.output(x)
        return logits.astype(jnp.promote_types(logits.dtype, jnp.float32))


class LanguageModel(nn.Module):
    """A decoder alone: tokens -> logits of the next token behind each of them (Radford et al. 2018, "GPT").

    Attributes:
      vocab_size: number of tokens.
      width, depth, num_heads, mlp_ratio, positions, max_length, norm_first, activation: same as in `Stack`.
      dropout, attention_dropout, remat: same as in `Stack`.
      dtype: data type of the computation. Logits are float32 at least.
      param_dtype: data type of the parameters.
    """

    vocab_size: int = 256
    width: int = 256
    depth: int = 4
    num_heads: int = 4
    mlp_ratio: float = 4.0
    positions: str = "rotary"
    max_length: int = 512
    norm_first: bool = True
    activation: str = "gelu"
    dropout: float | jax.Array = 0.0
    attention_dropout: float | jax.Array = 0.0
    remat: bool = False
    dtype: DTypeLike = jnp.float32
    param_dtype: DTypeLike = jnp.float32

    carried_axes: ClassVar[Any] = 1
    """Axis of the batch in what `start` gives and `step` carries, for `decoding.beam_search`."""

    def setup(self):
        check_positive(self, "vocab_size", "width", "depth", "num_heads")
        self.embed = embedding(self)
        self.decoder = stack_of(self, causal=True)

    def __call__(self, tokens: jax.Array, segments: jax.Array | None = None, *, train: bool = False) -> jax.Array:
        """Tokens [batch, length] -> logits [batch, length, vocab_size] of what follows each.

        Several texts may stand in a row: segments, int [batch, length], are their numbers 1, 2, …, and 0 for padding
        (`data.text.pack`). None for one text in each row.
        """
        return self._logits(self.decoder(embedded(self.embed, tokens), train, **_in_rows(segments))[0])

    def start(self, batch: int, length: int) -> Memory:
        """What `step` needs to answer for up to `length` positions."""
        return Memory(empty_memory(self.decoder, batch, length))

    def step(self, memory: Memory, tokens: jax.Array, at: jax.Array | int) -> tuple[jax.Array, Memory]:
        """One position: tokens [batch] at position `at` -> logits [batch, vocab_size], what to carry."""
        x, kept = self.decoder(embedded(self.embed, tokens[:, None]), memory=memory, at=at, remember=True)
        assert kept is not None
        return self._logits(x)[:, 0], kept

    def _logits(self, x: jax.Array) -> jax.Array:
        logits = self.embed.attend(x)
        return logits.astype(jnp.promote_types(logits.dtype, jnp.float32))


def check_tokens(tokens: jax.Array) -> None:
    """Raises InputError if tokens are not integers of rank 2."""
    if tokens.ndim != 2 or not jnp.issubdtype(tokens.dtype, jnp.integer):
        raise InputError(f"Tokens are integers [batch, length]; got {tokens.shape} {tokens.dtype}.")


def stack_of(module: Any, *, causal: bool = False) -> Stack:
    """The blocks of a module with the fields of `Stack`."""
    return Stack(
        module.width,
        module.depth,
        module.num_heads,
        module.mlp_ratio,
        causal,
        module.positions,
        module.max_length,
        module.norm_first,
        activation=module.activation,
        dropout=module.dropout,
        attention_dropout=module.attention_dropout,
        remat=module.remat,
        **precision(module),
    )


def embedding(module: Any) -> nn.Embed:
    """Vectors of tokens, of norm about 1: as the output's weights, they give logits of size 1."""
    init = nn.initializers.normal(module.width**-0.5)
    return nn.Embed(module.vocab_size, module.width, **precision(module), embedding_init=init)


def embedded(embed: nn.Embed, tokens: jax.Array) -> jax.Array:
    """Vectors of tokens [batch, length], times √width (Vaswani et al. 2017, section 3.4), so that numbers are about 1.

    Raises: InputError if tokens are not integers of rank 2.
    """
    check_tokens(tokens)
    return embed(tokens) * jnp.asarray(embed.features**0.5, embed.dtype)
