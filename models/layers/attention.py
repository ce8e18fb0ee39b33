"""Attention: every query takes the mean of the values, weighted by how well it agrees with their keys.

Every network attends through the function `attention`; `MultiHeadAttention` adds the projections. Masks and positions
are the caller's: without them the result does not depend on the order of the keys.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from ...errors import InputError
from .dropout import Dropout
from .precision import precision

# Glorot's uniform rule for each square matrix, also where several stand side by side (queries, keys and values).
GLOROT = nn.initializers.variance_scaling(1.0, "fan_in", "uniform")


def attention(
    q: jax.Array,
    k: jax.Array,
    v: jax.Array,
    *,
    mask: jax.Array | None = None,
    causal: bool = False,
    bias: jax.Array | None = None,
    scale: float | jax.Array | None = None,
    drop: Callable[[jax.Array], jax.Array] | None = None,
    implementation: str | None = None,
) -> jax.Array:
    """softmax(scale · QKᵀ + bias) V for each head (Vaswani et al. 2017, equation 1).

    With scale=1 it is the lecture's softmax(QKᵀ)V, a look-up that softens the keys' match:

    >>> films = jnp.array([[10.0, 0.0], [0.0, 10.0]])  # keys: a comedy and a drama
    >>> gross = jnp.array([[300.0], [20.0]])  # values: their box office
    >>> wanted = jnp.array([[5.0, 0.0]])  # query: something like the comedy
    >>> one_head = lambda x: x[None, :, None]
    >>> float(attention(one_head(wanted), one_head(films), one_head(gross), scale=1)[0, 0, 0, 0])
    300.0

    Args:
      q: queries [batch, query, heads, head_dim].
      k: keys [batch, key, heads, head_dim].
      v: values [batch, key, heads, value_dim].
      mask: bool, broadcasts to [batch, heads, query, key]; True where a query may attend. A query that may attend to
        nothing gets the plain mean of all values.
      causal: query i sees the keys up to i only.
      bias: what is added to the scores, broadcasts to [batch, heads, query, key], such as one for each distance.
      scale: factor of the scores QKᵀ; 1/√head_dim by default. May be traced, but not for cuDNN's kernel.
      drop: function applied to the weights [batch, heads, query, key], such as dropout.
      implementation: "cudnn" for the fused kernel of NVIDIA's library (bfloat16 or float16), "xla" for the formula
        written out. By default cuDNN where `cudnn_takes` these arrays, nothing is dropped and scale is no array.
    Returns: [batch, query, heads, value_dim], of v's dtype. The softmax is taken in float32 at least.
    Raises: InputError if shapes do not fit, the mask is not boolean or the implementation is unknown.
    """
    _check(q, k, v, mask, bias, implementation)
    if implementation is None:
        fused = drop is None and not isinstance(scale, jax.Array) and cudnn_takes(q, k, v, mask)
        implementation = "cudnn" if fused else "xla"
    if implementation == "cudnn":
        mask = None if mask is None else mask.reshape((1,) * (4 - mask.ndim) + mask.shape)
        scale = None if scale is None else float(scale)
        bias = None if bias is None else bias.astype(q.dtype).reshape((1,) * (4 - bias.ndim) + bias.shape)
        return jax.nn.dot_product_attention(
            q, k, v, bias=bias, mask=mask, is_causal=causal, scale=scale, implementation="cudnn"
        )
    return _written_out(q, k, v, mask, causal, bias, scale, drop)


def attention_weights(
    q: jax.Array,
    k: jax.Array,
    *,
    mask: jax.Array | None = None,
    causal: bool = False,
    bias: jax.Array | None = None,
    scale: float | jax.Array | None = None,
) -> jax.Array:
    """How much each query takes of each key in `attention`: softmax(scale · QKᵀ + bias).

    Args: same as `attention`.
    Returns: [batch, heads, query, key], float32 at least; each query's sum to 1.
    Raises: InputError if shapes do not fit, or the mask is not boolean.
    """
    _check(q, k, k, mask, bias, None)
    return jax.nn.softmax(_agreement(q, k, mask, causal, bias, scale))


def cudnn_takes(q: jax.Array, k: jax.Array, v: jax.Array, mask: jax.Array | None = None) -> bool:
    """Whether cuDNN's fused attention computes these shapes and dtypes on the default device.

    It needs a half-precision dtype, a head_dim that is a multiple of 8 up to 128, even lengths with a mask, and an
    NVIDIA GPU of compute capability 8 or later. (jax refuses the kernel while tracing where there is no such GPU, so
    that `jax.lax.platform_dependent` cannot choose.)
    """
    device = jax.devices()[0]
    return (
        q.dtype in (jnp.bfloat16, jnp.float16)
        and q.shape[-1] == v.shape[-1]
        and q.shape[-1] % 8 == 0
        and q.shape[-1] <= 128
        and (mask is None or (q.shape[1] % 2 == 0 and k.shape[1] % 2 == 0))
        and device.platform == "gpu"
        and "NVIDIA" in device.device_kind
        and float(device.compute_capability) >= 8
    )


def _agreement(q, k, mask, causal, bias, scale):
    """Scores [batch, heads, query, key] before the softmax."""
    scale = 1 / math.sqrt(q.shape[-1]) if scale is None else scale
    accumulator = jnp.promote_types(q.dtype, jnp.float32)
    agreement = jnp.einsum("bqhd,bkhd->bhqk", q, k, preferred_element_type=accumulator) * scale
    agreement = agreement.astype(accumulator) + (0 if bias is None else bias)
    if causal:
        causes = jnp.tril(jnp.ones(agreement.shape[-2:], bool))
        mask = causes if mask is None else mask & causes
    if mask is not None:
        # Finite, so that a query that may attend to nothing gives a mean and not NaN.
        agreement = jnp.where(mask, agreement, 0.7 * jnp.finfo(accumulator).min)
    return agreement


def _written_out(q, k, v, mask, causal, bias, scale, drop):
    agreement = _agreement(q, k, mask, causal, bias, scale)
    accumulator = agreement.dtype
    # Weights are normalized after the product with the values, which has fewer entries.
    weights = jnp.exp(agreement - jax.lax.stop_gradient(agreement.max(-1, keepdims=True)))
    total = weights.sum(-1, keepdims=True)
    weights = weights if drop is None else drop(weights)
    mean = jnp.einsum("bhqk,bkhd->bhqd", weights.astype(v.dtype), v, preferred_element_type=accumulator) / total
    return mean.astype(v.dtype).swapaxes(1, 2)


def _check(q, k, v, mask, bias, implementation):
    if q.ndim != 4 or k.ndim != 4 or v.ndim != 4:
        raise InputError(
            "attention needs q, k and v of shape [batch, length, heads, head_dim]; they are "
            f"{q.shape}, {k.shape} and {v.shape}."
        )
    (batch, queries, heads, width), keys = q.shape, k.shape[1]
    if k.shape != (batch, keys, heads, width) or v.shape[:3] != (batch, keys, heads):
        raise InputError(
            f"q {q.shape}, k {k.shape} and v {v.shape} do not fit: batch and heads must be equal, head_dim of q and k, "
            "and length of k and v."
        )
    if mask is not None and mask.dtype != bool:
        raise InputError(f"The mask must be boolean, True where a query may attend; its dtype is {mask.dtype}.")
    wanted = (batch, heads, queries, keys)
    for name, given in (("mask", mask), ("bias", bias)):
        if given is not None and not _broadcasts(given.shape, wanted):
            raise InputError(
                f"The {name}'s shape {given.shape} does not broadcast to [batch, heads, query, key], here {wanted}."
            )
    if implementation not in (None, "xla", "cudnn"):
        raise InputError(f"There is no implementation {implementation!r} of attention. Valid are: cudnn, xla, None.")


def _broadcasts(shape, wanted):
    return len(shape) <= len(wanted) and all(
        size in (1, full) for size, full in zip(shape[::-1], wanted[::-1], strict=False)
    )


class KeyValues(NamedTuple):
    """What queries attend to."""

    keys: jax.Array
    """[batch, key, heads, head_dim]."""
    values: jax.Array
    """[batch, key, heads, head_dim]."""


class MultiHeadAttention(nn.Module):
    """Attention in several subspaces at once, with the projections into and out of them (Vaswani et al. 2017, 3.2.2).

    Self-attention projects once, into queries, keys and values side by side (timm's `qkv`); attention to a context
    projects x into queries (`q`) and the context into keys and values (`kv`).

    Attributes:
      num_heads: number of heads, which divides the width.
      use_bias: add biases in the projections to queries, keys and values.
      dropout: dropout rate of the attention weights, drawn from the stream "dropout"; may be traced.
      implementation: same as in `attention`.
      dtype: data type of the computation.
      param_dtype: data type of the parameters.
      kernel_init: initializer of all projections.
    """

    num_heads: int
    use_bias: bool = True
    dropout: float | jax.Array = 0.0
    implementation: str | None = None
    dtype: DTypeLike = jnp.float32
    param_dtype: DTypeLike = jnp.float32
    kernel_init: nn.initializers.Initializer = GLOROT

    def __call__(
        self,
        x: jax.Array,
        context: jax.Array | None = None,
        *,
        mask: jax.Array | None = None,
        causal: bool = False,
        bias: jax.Array | None = None,
        rotate: Callable[[jax.Array], jax.Array] | None = None,
        train: bool = False,
    ) -> jax.Array:
        """[batch, length, width] -> the same.

        Args:
          x: [batch, length, width], from which queries are made.
          context: [batch, key, any width], from which keys and values are made; by default x.
          mask: bool, broadcasts to [batch, heads, length, key]; True where a query may attend.
          causal: position i sees the positions up to i only.
          bias: same as in `attention`.
          rotate: what turns queries and keys [batch, length, heads, head_dim] by their positions, such as `rotary`.
          train: apply dropout to the weights.
        Raises: InputError if the width is not a multiple of num_heads.
        """
        return self.remembering(x, context, mask=mask, causal=causal, bias=bias, rotate=rotate, train=train)[0]

    @nn.compact
    def remembering(
        self,
        x: jax.Array,
        context: jax.Array | None = None,
        *,
        mask: jax.Array | None = None,
        causal: bool = False,
        bias: jax.Array | None = None,
        rotate: Callable[[jax.Array], jax.Array] | None = None,
        memory: KeyValues | None = None,
        at: jax.Array | int | None = None,
        train: bool = False,
    ) -> tuple[jax.Array, KeyValues]:
        """The same, with the keys and values: for a decoder that goes on position by position.

        Where the collection "intermediates" may be written, it has the "weights", [batch, heads, query, key].

        Args:
          x, context, mask, causal, bias, rotate, train: same as for `__call__`.
          memory: keys and values of an earlier call. Those of a context stand for it. Those of x itself have room for
            all positions that will come, of which x has the next ones.
          at: number of the first position of x; None if the memory is a context's. May be traced.
        Returns: (what `__call__` gives, keys and values with those of x).
        """
        width = x.shape[-1]
        if self.num_heads < 1 or width % self.num_heads:
            raise InputError(
                f"A width of {width} cannot be cut into {self.num_heads} heads; num_heads must divide the width."
            )
        if context is None and (memory is None or at is not None):
            q, k, v = self._project(x, width, 3, "qkv")
            if rotate is not None:
                q, k = rotate(q), rotate(k)
            if memory is not None and at is not None:
                k, v = (
                    jax.lax.dynamic_update_slice_in_dim(kept, new.astype(kept.dtype), at, 1)
                    for kept, new in zip(memory, (k, v), strict=True)
                )
                seen = jnp.arange(k.shape[1]) <= at + jnp.arange(x.shape[1])[:, None]
                mask, causal = seen if mask is None else mask & seen, False
        else:
            (q,) = self._project(x, width, 1, "q")
            if memory is None:
                assert context is not None
                memory = KeyValues(*self._project(context, width, 2, "kv"))
            k, v = memory
        if self.is_mutable_collection("intermediates"):  # for those who look at them; never computed otherwise
            self.sow("intermediates", "weights", attention_weights(q, k, mask=mask, causal=causal, bias=bias))
        drops = train and (isinstance(self.dropout, jax.Array) or self.dropout != 0)
        drop = partial(Dropout(self.dropout), train=train) if drops else None
        y = attention(q, k, v, mask=mask, causal=causal, bias=bias, drop=drop, implementation=self.implementation)
        return self._dense(width, True, "proj")(y.reshape(x.shape)), KeyValues(k, v)

    def _project(self, x: jax.Array, width: int, parts: int, name: str) -> list[jax.Array]:
        """[batch, length, any] -> `parts` arrays [batch, length, heads, head_dim], out of one matrix product."""
        y = self._dense(parts * width, self.use_bias, name)(x)
        shape = (*x.shape[:2], self.num_heads, width // self.num_heads)
        return [part.reshape(shape) for part in jnp.split(y, parts, axis=-1)]

    def _dense(self, features: int, use_bias: bool, name: str) -> nn.Dense:
        return nn.Dense(
            features,
            use_bias=use_bias,
            **precision(self),
            kernel_init=self.kernel_init,
            name=name,
        )
