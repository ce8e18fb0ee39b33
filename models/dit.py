"""Diffusion transformers (Peebles & Xie: "Scalable Diffusion Models with Transformers", ICCV 2023).

A noisy image is cut into square patches, each a token with a fixed position, and what comes out of the last block is
put together again. What the network is told (time, class) sets scale, shift and gate of every branch of every block
("adaLN-Zero"): all gates begin at 0, so every block begins as the identity. Blocks run under `nn.scan`, as in `vit`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from .activations import gelu_tanh
from .attention import MultiHeadAttention
from .layers import Dropout, check_positive
from .positions import sincos2d
from .time_embedding import Conditioning, cosines_first
from .torch_names import torch_entry
from .vit import is_dear

XAVIER = nn.initializers.xavier_uniform()
ZEROS = nn.initializers.zeros
FREQUENCIES = 256  # numbers that the time's sinusoids are, whatever the width


class DiT(nn.Module):
    """A noisy image and its time -> what the loss asks for: noise, image or velocity. The defaults are DiT-XL/2's.

    patch_size: height and width of a patch, in pixels; images must be whole patches.
    width, depth, num_heads: of the transformer; the width is a multiple of 4 and of num_heads.
    mlp_ratio: hidden width of the MLPs, in widths.
    num_classes: None without classes; else there is one more embedding, of number num_classes, for "no class".
    out_channels: those of the image by default; twice as many for a learned variance.
    dropout: at the end of each branch; may be traced. The published networks have none.
    remat: keep nothing of a block but its input for the backward pass; else what `vit.is_dear` is kept.
    dtype: of the computation; param_dtype: of the parameters. Normalisation, softmax and answers are float32 at least.
    """

    patch_size: int = 2
    width: int = 1152
    depth: int = 28
    num_heads: int = 16
    mlp_ratio: float = 4.0
    num_classes: int | None = None
    out_channels: int | None = None
    dropout: Any = 0.0
    remat: bool = False
    dtype: Any = jnp.float32
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self, x: jax.Array, time: jax.typing.ArrayLike, labels: jax.Array | None = None, *, train: bool = False
    ) -> jax.Array:
        """[batch, height, width, channel] -> [batch, height, width, out_channels].

        Args:
          x: noisy images or latents, centred at 0.
          time: [batch], or one number for all, in [0, 1]: step i of 1000 is i / 1000.
          labels: [batch] integers in [0, num_classes]; None for no class.
          train: drops entries, from the stream "dropout".
        Raises: ValueError if x is not of rank 4, patches do not divide it, time or labels do not fit it, or a field is
          not valid.
        """
        check_positive(self, "patch_size", "width", "depth", "num_heads")
        dtypes: Any = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        condition = Conditioning(
            self.width, cosines_first, FREQUENCIES, self.num_classes, **dtypes, name="conditioning"
        )  # fmt: skip
        condition = nn.silu(condition(time, labels, len(x)))
        patches = patchify(x.astype(self.dtype), self.patch_size)
        grid = x.shape[1] // self.patch_size, x.shape[2] // self.patch_size
        tokens = self._embed(patches, x.shape[-1]) + sincos2d(grid, self.width).astype(self.dtype)
        tokens = self._blocks(tokens, condition, train)
        shift, scale = _modulation(self, condition, 2, "final_modulation")
        channels = self.out_channels or x.shape[-1]
        head = nn.Dense(self.patch_size**2 * channels, kernel_init=ZEROS, **dtypes, name="final_linear")
        y = head(modulated(tokens, shift, scale))
        return unpatchify(y.astype(jnp.promote_types(y.dtype, jnp.float32)), grid, self.patch_size)

    def _embed(self, patches: jax.Array, channels: int) -> jax.Array:
        """[batch, patch, numbers of a patch] -> [batch, patch, width]"""
        init = nn.initializers.xavier_uniform(in_axis=(0, 1, 2))
        shape = (self.patch_size, self.patch_size, channels, self.width)
        kernel = self.param("patch_kernel", init, shape, self.param_dtype)
        bias = self.param("patch_bias", ZEROS, (self.width,), self.param_dtype)
        return patches @ kernel.astype(self.dtype).reshape(-1, self.width) + bias.astype(self.dtype)

    def _blocks(self, x: jax.Array, condition: jax.Array, train: bool) -> jax.Array:
        """[batch, patch, width] -> the same"""
        block = Block(
            self.num_heads,
            self.mlp_ratio,
            self.dropout,
            dtype=self.dtype,
            param_dtype=self.param_dtype,
            name="blocks",
        )

        def body(block, x, condition):
            return block(x, condition, train), None

        body = nn.remat(body, prevent_cse=False, policy=None if self.remat else is_dear)
        to_every_block: Any = nn.broadcast  # flax declares a number only
        run = nn.scan(
            body,
            variable_axes={"params": 0},
            split_rngs={"params": True, "dropout": True},
            in_axes=to_every_block,
            length=self.depth,
        )
        return run(block, x, condition)[0]


def patchify(x: jax.Array, size: int) -> jax.Array:
    """Cuts images into patches, row by row; a patch is its pixels, row by row too.

    Args:
      x: [batch, height, width, channel].
      size: height and width of a patch.
    Returns: [batch, patch, size · size · channel].
    Raises: ValueError if x is not of rank 4 or not of whole patches.
    """
    if x.ndim != 4:
        raise ValueError(f"Images must be [batch, height, width, channel]; they were given as {x.shape}.")
    batch, height, width, channels = x.shape
    if height % size or width % size:
        raise ValueError(f"Images of {height}×{width} pixels can't be cut into patches of {size}×{size}.")
    x = x.reshape(batch, height // size, size, width // size, size, channels).swapaxes(2, 3)
    return x.reshape(batch, -1, size * size * channels)


def unpatchify(patches: jax.Array, grid: tuple[int, int], size: int) -> jax.Array:
    """The way back from `patchify`, for a grid of (rows, columns) patches."""
    x = patches.reshape(len(patches), *grid, size, size, -1).swapaxes(2, 3)
    return x.reshape(len(patches), grid[0] * size, grid[1] * size, -1)


class Block(nn.Module):
    """Attention, then an MLP, each normalised and modulated before and gated after (figure 3, "adaLN-Zero").

    num_heads, mlp_ratio, dropout, dtype, param_dtype: as of `DiT`.
    """

    num_heads: int
    mlp_ratio: float = 4.0
    dropout: Any = 0.0
    dtype: Any = jnp.float32
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, condition: jax.Array, train: bool) -> jax.Array:
        """[batch, length, width] -> the same; condition is [batch or 1, width]."""
        dtypes: Any = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        width = x.shape[-1]
        shift1, scale1, gate1, shift2, scale2, gate2 = _modulation(self, condition, 6, "modulation")
        attend = MultiHeadAttention(self.num_heads, kernel_init=XAVIER, **dtypes, name="attn")
        y = attend(modulated(x, shift1, scale1), train=train)
        x = x + gate1[:, None] * Dropout(self.dropout)(y, train)
        y = nn.Dense(int(self.mlp_ratio * width), kernel_init=XAVIER, **dtypes, name="fc1")(
            modulated(x, shift2, scale2)
        )
        y = nn.Dense(width, kernel_init=XAVIER, **dtypes, name="fc2")(gelu_tanh(y))
        return x + gate2[:, None] * Dropout(self.dropout)(y, train)


def _modulation(module: Any, condition: jax.Array, parts: int, name: str) -> list[jax.Array]:
    """[batch or 1, width] -> `parts` of that shape, all 0 at first."""
    dense = nn.Dense(
        parts * condition.shape[-1],
        kernel_init=ZEROS,
        dtype=module.dtype,
        param_dtype=module.param_dtype,
        name=name,
    )
    return jnp.split(dense(condition), parts, axis=-1)


def modulated(x: jax.Array, shift: jax.Array, scale: jax.Array) -> jax.Array:
    """LayerNorm (ε = 1e-6, no parameters) · (1 + scale) + shift.

    Args:
      x: [batch, length, width].
      shift, scale: [batch or 1, width].
    Returns: as `x`. Moments are float32 at least.
    """
    wide = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    wide = wide - wide.mean(-1, keepdims=True)
    wide = wide * jax.lax.rsqrt((wide**2).mean(-1, keepdims=True) + 1e-6)
    scale, shift = scale.astype(wide.dtype), shift.astype(wide.dtype)  # 1 + scale would be rounded to 8 bits
    return (wide * (1 + scale[:, None]) + shift[:, None]).astype(x.dtype)


# (width, depth, num_heads): table 1 of the paper.
SIZES = {
    "small": (384, 12, 6),
    "base": (768, 12, 12),
    "large": (1024, 24, 16),
    "xlarge": (1152, 28, 16),
}


def sized(size: str, patch_size: int, **fields: Any) -> DiT:
    """The network of a published size.

    Args:
      size: "small", "base", "large" or "xlarge".
      patch_size: in pixels; 2, 4 or 8 in the paper.
      fields: of `DiT`.
    Raises: ValueError for another size.
    """
    if size not in SIZES:
        raise ValueError(f"size is {size!r}; valid are: {', '.join(SIZES)}.")
    width, depth, num_heads = SIZES[size]
    shape: dict[str, Any] = {"patch_size": patch_size, "width": width, "depth": depth, "num_heads": num_heads}
    return DiT(**(shape | fields))


# The authors' names (facebookresearch/DiT). Their Sequentials count SiLU too.
TORCH_NAMES = {
    "linear1": "mlp.0",
    "linear2": "mlp.2",
    "conditioning": "t_embedder",
    "final_modulation": "final_layer.adaLN_modulation.1",
    "final_linear": "final_layer.linear",
    "modulation": "adaLN_modulation.1",
    "fc1": "mlp.fc1",
    "fc2": "mlp.fc2",
}


def torch_entries(path: tuple[str, ...], array: np.ndarray) -> list[tuple[str, np.ndarray]]:
    """(name, array) of the authors' DiT for one of our leaves: one for each block of the stack.

    Args:
      path: (collection, module, …, leaf).
      array: of our layout.
    """
    collection, *modules, leaf = path
    if leaf == "classes":
        return [("y_embedder.embedding_table.weight", array)]
    if leaf.startswith("patch_"):
        return [torch_entry(["x_embedder", "proj"], collection, leaf.removeprefix("patch_"), array)]
    names = [TORCH_NAMES.get(module, module) for module in modules]
    if names[0] == "blocks":
        return [torch_entry(["blocks", str(i), *names[1:]], collection, leaf, part) for i, part in enumerate(array)]
    return [torch_entry(names, collection, leaf, array)]


def without_positions(state_dict: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """A state dict of the authors without the positions, which they store although nothing learns them.

    Raises: ValueError if these are not the sines and cosines of a square grid.
    """
    rest = dict(state_dict)
    if (stored := rest.pop("pos_embed", None)) is not None:
        side = int(np.sqrt(stored.shape[1]))
        ours = np.asarray(sincos2d((side, side), stored.shape[-1]))
        # 2⁻¹⁰ is what float16 may round numbers up to 1 by.
        if stored.shape != (1, *ours.shape) or np.abs(ours - stored[0].astype(np.float32)).max() > 2**-9:
            raise ValueError("pos_embed is not the sines and cosines of a square grid that DiT has.")
    return rest
