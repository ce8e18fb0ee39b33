"""Generators and discriminators: DCGAN's (Radford et al. 2015) and residual ones (Gulrajani et al. 2017, Miyato 2018).

A generator makes images in [−1, 1] of latent vectors; a discriminator gives each image a score, higher for real ones.
How they are trained against each other is not here. What keeps a discriminator in bounds is its field `norm`; where
there are classes, generators read them beside the latent vector and discriminators by projection (Miyato & Koyama
2018).

Generators begin at a small grid and double it: `count_halvings` says how often, and refuses images that do not fit.
"""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from .activations import leaky_relu
from .layers import Conv, batch_norm
from .resampling import average_pool, conv_transpose, upscale_nearest

NORMS = ("batch", "layer", "spectral", "none")
SPECTRAL = "spectral"  # the collection of spectral normalisation's singular vectors and values

NORMAL_002 = nn.initializers.normal(0.02)  # Radford et al. 2015, section 4
LEAK = 0.2  # ibid.
# What the authors of Miyato et al. 2018 begin their residual networks with: Chainer's GlorotUniform with gain √2 in
# residual branches, and 1 elsewhere.
BRANCH = nn.initializers.variance_scaling(2.0, "fan_avg", "uniform")
GLOROT = nn.initializers.glorot_uniform()


def count_halvings(shape: tuple[int, int]) -> int:
    """How often a grid is halved, at least twice and until its shorter side is less than 8: 32×32 to 4×4, 28×28 to 7×7.

    Args:
      shape: (height, width) of the images.
    Raises: ValueError where a side is odd before that.
    """
    height, width = shape
    count = 0
    while count < 2 or min(height, width) >= 8:
        if height % 2 or width % 2 or min(height, width) < 1:
            raise ValueError(
                f"Images of {shape[0]}×{shape[1]} pixels can't be halved at least twice and until their shorter side "
                "is less than 8; 8×8, 28×28, 32×32, 64×64 and 48×96, for example, can."
            )
        height, width, count = height // 2, width // 2, count + 1
    return count


class ConvTranspose(nn.Module):
    """The adjoint of a square strided convolution that pads the same number of zeros on each side.

    stride: factor by which the grid grows. A kernel that it divides is fair to all pixels (no checkerboard).
    """

    features: int
    kernel_size: int
    stride: int
    padding: int
    use_bias: bool = False
    dtype: Any = jnp.float32
    param_dtype: Any = jnp.float32
    kernel_init: nn.initializers.Initializer = NORMAL_002

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[batch, height, width, channel] -> [batch, height', width', features]."""
        # Of the convolution that this is the adjoint of: its channels are what comes out here.
        shape = (self.kernel_size, self.kernel_size, self.features, x.shape[-1])
        kernel = self.param("kernel", self.kernel_init, shape, self.param_dtype)
        y = conv_transpose(
            x.astype(self.dtype),
            kernel.astype(self.dtype),
            strides=(self.stride, self.stride),
            padding=((self.padding, self.padding), (self.padding, self.padding)),
        )
        if self.use_bias:
            bias = self.param("bias", nn.initializers.zeros, (self.features,), self.param_dtype)
            y = y + bias.astype(self.dtype)
        return y


class Generator(nn.Module):
    """What generators have in common.

    image_shape: (height, width, channel) of what they make; `count_halvings` must be able to halve it.
    num_classes: of what labels say; None for a generator without labels.
    axis_name: the pmap axis over which BatchNorm averages; None elsewhere.
    dtype: of the computation; param_dtype: of the parameters. Images are float32.
    """

    image_shape: tuple[int, int, int]
    num_classes: int | None = None
    axis_name: str | None = None
    dtype: Any = jnp.float32
    param_dtype: Any = jnp.float32

    def check(self, z: jax.Array, labels: jax.Array | None) -> None:
        if z.ndim != 2:
            raise ValueError(f"{type(self).__name__} wants z of shape [batch, latent]; it was given {z.shape}.")
        _check_labels(self, labels, len(z))

    def smallest_grid(self, z: jax.Array, features: int, init: nn.initializers.Initializer, bias: bool) -> jax.Array:
        """A dense layer, laid out as a grid: [batch, latent] -> [batch, height, width, features]."""
        factor = 2 ** count_halvings(self.image_shape[:2])
        height, width = self.image_shape[0] // factor, self.image_shape[1] // factor
        dense = nn.Dense(
            height * width * features,
            use_bias=bias,
            dtype=self.dtype,
            param_dtype=self.param_dtype,
            kernel_init=init,
            name="project",
        )
        return dense(z.astype(self.dtype)).reshape(len(z), height, width, features)


class DCGANGenerator(Generator):
    """Dense layer, then 4×4 transposed convolutions of stride 2, with BatchNorm and ReLU between (figure 1).

    The paper's kernels are 5×5; 4×4, which the stride divides, is what its successors have. Labels join z as one-hot
    vectors (Mirza & Osindero 2014).

    width: channels of the last hidden grid; each grid before has half the pixels a side and twice the channels.
    """

    width: int = 128

    @nn.compact
    def __call__(self, z: jax.Array, labels: jax.Array | None = None, *, train: bool = False) -> jax.Array:
        """Latent vectors [batch, latent], labels int [batch] or None -> images [batch, *image_shape] in [−1, 1].

        Raises: ValueError for another shape of z, labels that are missing, not wanted or of another shape, or an
          image_shape that can't be halved.
        """
        self.check(z, labels)
        if labels is not None and self.num_classes is not None:
            z = jnp.concatenate([z, jax.nn.one_hot(labels, self.num_classes, dtype=z.dtype)], -1)
        halvings = count_halvings(self.image_shape[:2])
        features = self.width * 2 ** (halvings - 1)
        x = self.smallest_grid(z, features, NORMAL_002, bias=False)
        x = nn.relu(batch_norm(self, train, name="bn0")(x))
        for i in range(1, halvings):
            features //= 2
            x = self._double(features, f"conv{i}")(x)
            x = nn.relu(batch_norm(self, train, name=f"bn{i}")(x))
        x = self._double(self.image_shape[2], f"conv{halvings}", bias=True)(x)
        return jnp.tanh(x.astype(jnp.float32))

    def _double(self, features: int, name: str, *, bias: bool = False) -> ConvTranspose:
        return ConvTranspose(features, 4, 2, 1, bias, self.dtype, self.param_dtype, name=name)


class ResNetGenerator(Generator):
    """Dense layer, residual blocks that double the grid, BatchNorm, ReLU, 3×3 convolution (Miyato 2018, table 4).

    Labels choose scale and shift after each BatchNorm of a block (Dumoulin et al. 2017, as Miyato & Koyama 2018 do).

    width: channels of every grid; 256 at 32×32, with a latent of 128 numbers, is the paper's (4,276,739 parameters).
    """

    width: int = 256

    @nn.compact
    def __call__(self, z: jax.Array, labels: jax.Array | None = None, *, train: bool = False) -> jax.Array:
        """Latent vectors [batch, latent], labels int [batch] or None -> images [batch, *image_shape] in [−1, 1].

        Raises: as of `DCGANGenerator`.
        """
        self.check(z, labels)
        x = self.smallest_grid(z, self.width, GLOROT, bias=True)
        common = (self.width, self.num_classes, self.axis_name, self.dtype, self.param_dtype)
        for i in range(1, count_halvings(self.image_shape[:2]) + 1):
            x = UpBlock(*common, name=f"block{i}")(x, labels, train)
        x = nn.relu(batch_norm(self, train, name="bn")(x))
        x = _conv(self, self.image_shape[2], 3, name="conv", init=GLOROT)(x)
        return jnp.tanh(x.astype(jnp.float32))


class UpBlock(nn.Module):
    """BatchNorm, ReLU, doubling, convolution, BatchNorm, ReLU, convolution, around which a 1×1 convolution leads.

    (Figure 8 of Miyato 2018.) Fields: as of `ResNetGenerator`.
    """

    width: int
    num_classes: int | None = None
    axis_name: str | None = None
    dtype: Any = jnp.float32
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, labels: jax.Array | None, train: bool) -> jax.Array:
        """[batch, height, width, channel] -> [batch, 2·height, 2·width, width]."""
        y = nn.relu(_conditional_batch_norm(self, x, labels, train, "bn1"))
        y = _conv(self, self.width, 3, name="conv1", init=BRANCH)(upscale_nearest(y, 2))
        y = nn.relu(_conditional_batch_norm(self, y, labels, train, "bn2"))
        y = _conv(self, self.width, 3, name="conv2", init=BRANCH)(y)
        # Copying pixels and mixing their channels may change places; this order has a quarter of the work.
        return y + upscale_nearest(_conv(self, self.width, 1, name="shortcut", init=GLOROT)(x), 2)


class Discriminator(nn.Module):
    """What discriminators have in common.

    norm: "batch" (BatchNorm; not for gradient penalties, which want a score to depend on one image alone), "layer"
      (over all that is of one image, as Gulrajani et al. 2017, section 4, propose in its place), "spectral" (the
      kernel of each layer is divided by its largest singular value, so that the layer is 1-Lipschitz; Miyato et al.
      2018) or "none".
    num_classes: of what labels say; None for a discriminator without labels.
    axis_name: the pmap axis over which BatchNorm averages; None elsewhere.
    dtype: of the computation; param_dtype: of the parameters. Scores are float32.
    """

    norm: str = "batch"
    num_classes: int | None = None
    axis_name: str | None = None
    dtype: Any = jnp.float32
    param_dtype: Any = jnp.float32

    def check(self, x: jax.Array, labels: jax.Array | None) -> None:
        name = type(self).__name__
        if x.ndim != 4:
            raise ValueError(f"{name} wants images [batch, height, width, channel]; it was given shape {x.shape}.")
        if self.norm not in NORMS:
            raise ValueError(f"The norm of {name} is {self.norm!r}; valid are: {', '.join(NORMS)}.")
        _check_labels(self, labels, len(x))

    def score(
        self, x: jax.Array, labels: jax.Array | None, train: bool, init: nn.initializers.Initializer
    ) -> jax.Array:
        """w·φ + b, and e_y·φ besides where y is the label: [batch, features] -> [batch] float32.

        (Equation 3 of Miyato & Koyama 2018.)
        """
        dense = nn.Dense(1, dtype=self.dtype, param_dtype=self.param_dtype, kernel_init=init, name="head")
        scores = _weighted(self, dense, x, train)[:, 0]
        if labels is not None and self.num_classes is not None:
            embed = nn.Embed(
                self.num_classes,
                x.shape[-1],
                dtype=self.dtype,
                param_dtype=self.param_dtype,
                embedding_init=GLOROT,
                name="label",
            )
            scores = scores + (_weighted(self, embed, labels, train) * x).sum(-1)
        return scores.astype(jnp.float32)


class DCGANDiscriminator(Discriminator):
    """4×4 convolutions of stride 2 and leaky ReLU down to a small grid, which one dense layer reads.

    All but the first are normalised (section 3: BatchNorm at the input makes it unstable).

    width: channels of the first grid; each further one has half the pixels a side and twice the channels.
    """

    width: int = 128

    @nn.compact
    def __call__(self, x: jax.Array, labels: jax.Array | None = None, *, train: bool = False) -> jax.Array:
        """Images [batch, height, width, channel], labels int [batch] or None -> scores [batch].

        Raises: ValueError for images of another rank or that can't be halved, labels that are missing, not wanted or
          of another shape, or another norm.
        """
        self.check(x, labels)
        for i in range(count_halvings((x.shape[1], x.shape[2]))):
            bias = i == 0 or self.norm not in ("batch", "layer")
            conv = Conv(
                self.width * 2**i, 4, 2, 1,
                use_bias=bias, dtype=self.dtype, param_dtype=self.param_dtype, kernel_init=NORMAL_002, name=f"conv{i}",
            )  # fmt: skip
            x = _weighted(self, conv, x, train)
            x = leaky_relu(x if i == 0 else _normalised(self, x, train, f"norm{i}"), LEAK)
        return self.score(x.reshape(len(x), -1), labels, train, NORMAL_002)


class ResNetDiscriminator(Discriminator):
    """Residual blocks, ReLU, the sum over the grid and a dense layer (Miyato 2018, table 4).

    width: channels of every grid; 128 at 32×32×3 is the paper's (1,053,825 parameters).
    halvings: how many blocks halve the grid, at least 1.
    blocks: how many follow that do not.
    """

    norm: str = "spectral"
    width: int = 128
    halvings: int = 2
    blocks: int = 2

    @nn.compact
    def __call__(self, x: jax.Array, labels: jax.Array | None = None, *, train: bool = False) -> jax.Array:
        """Images [batch, height, width, channel], labels int [batch] or None -> scores [batch].

        Raises: ValueError for images of another rank or whose sides 2^halvings does not divide, labels that are
          missing, not wanted or of another shape, another norm, or numbers of blocks out of range.
        """
        self.check(x, labels)
        if self.halvings < 1 or self.blocks < 0:
            raise ValueError(f"halvings is {self.halvings} and blocks is {self.blocks}; they must be at least 1 and 0.")
        if x.shape[1] % 2**self.halvings or x.shape[2] % 2**self.halvings:
            raise ValueError(f"Images of {x.shape[1]}×{x.shape[2]} pixels can't be halved {self.halvings} times.")
        common = (self.norm, self.axis_name, self.dtype, self.param_dtype)
        x = FirstBlock(self.width, *common, name="block1")(x, train)
        for i in range(2, self.halvings + self.blocks + 1):
            x = DownBlock(self.width, i <= self.halvings, *common, name=f"block{i}")(x, train)
        x = nn.relu(_normalised(self, x, train, "norm"))
        return self.score(x.sum((1, 2)), labels, train, GLOROT)


class FirstBlock(nn.Module):
    """The block that reads the image: as `DownBlock`, but nothing comes before its first convolution.

    Fields: as of `ResNetDiscriminator`.
    """

    width: int
    norm: str
    axis_name: str | None = None
    dtype: Any = jnp.float32
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """[batch, height, width, channel] -> [batch, height/2, width/2, width]."""
        y = _weighted(self, _conv(self, self.width, 3, name="conv1", init=BRANCH), x, train)
        y = nn.relu(_normalised(self, y, train, "norm2"))
        y = _weighted(self, _conv(self, self.width, 3, name="conv2", init=BRANCH), y, train)
        around = _conv(self, self.width, 1, name="shortcut", init=GLOROT)
        return average_pool(y, (2, 2)) + _weighted(self, around, average_pool(x, (2, 2)), train)


class DownBlock(nn.Module):
    """ReLU, convolution, ReLU, convolution, each after a normalisation if there is one; then perhaps 2×2 averages.

    halve: take them; then a 1×1 convolution leads around, else the identity, for which x has `width` channels.
    Other fields: as of `ResNetDiscriminator`.
    """

    width: int
    halve: bool
    norm: str
    axis_name: str | None = None
    dtype: Any = jnp.float32
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """[batch, height, width, channel] -> [batch, height', width', width]."""
        y = x
        for i in (1, 2):
            y = nn.relu(_normalised(self, y, train, f"norm{i}"))
            y = _weighted(self, _conv(self, self.width, 3, name=f"conv{i}", init=BRANCH), y, train)
        if not self.halve:
            return y + x
        around = _conv(self, self.width, 1, name="shortcut", init=GLOROT)
        # Means over pixels and mixtures of channels may change places; this order has a quarter of the work.
        return average_pool(y, (2, 2)) + _weighted(self, around, average_pool(x, (2, 2)), train)


# name -> (generator, discriminator).
NETWORKS: dict[str, tuple[type[Generator], type[Discriminator]]] = {
    "dcgan": (DCGANGenerator, DCGANDiscriminator),
    "resnet": (ResNetGenerator, ResNetDiscriminator),
}


def _conv(module: Any, features: int, kernel_size: int, *, name: str, init: nn.initializers.Initializer) -> Conv:
    return Conv(
        features,
        kernel_size,
        use_bias=True,
        dtype=module.dtype,
        param_dtype=module.param_dtype,
        kernel_init=init,
        name=name,
    )


def _weighted(module: Any, layer: nn.Module, x: jax.Array, train: bool) -> jax.Array:
    """layer(x), with its matrix divided by its largest singular value where the module's norm is "spectral".

    A kernel [height, width, channel, features] is the matrix [height · width · channel, features]. Its singular vectors
    follow by one step of power iteration at each pass in training (Miyato et al. 2018, algorithm 1); at prediction
    such a step is taken too, but not kept. They count as constants for the gradient.
    """
    if module.norm != "spectral":
        return layer(x)  # pyright: ignore[reportCallIssue]  (a module with `__call__`)
    normalised = nn.SpectralNorm(layer, collection_name=SPECTRAL, name=f"{layer.name}_spectral")
    return normalised(x, update_stats=train)


def _normalised(module: Any, x: jax.Array, train: bool, name: str) -> jax.Array:
    """x, normalised as the module's norm says where that acts on what flows between layers."""
    if module.norm == "batch":
        return batch_norm(module, train, name=name)(x)
    if module.norm == "layer":
        norm = nn.LayerNorm(
            epsilon=1e-5,
            reduction_axes=(1, 2, 3),
            feature_axes=-1,
            # E[x²] − E[x]² loses digits where the mean is large; two passes do not.
            use_fast_variance=False,
            dtype=module.dtype,
            param_dtype=module.param_dtype,
            name=name,
        )
        return norm(x)
    return x


def _conditional_batch_norm(module: Any, x: jax.Array, labels: jax.Array | None, train: bool, name: str) -> jax.Array:
    """BatchNorm, whose scale and shift labels change by a factor 1 + γ_y and a summand β_y, which begin at 1 and 0."""
    x = batch_norm(module, train, name=name)(x)
    if labels is None:
        return x
    factor, summand = (
        nn.Embed(
            module.num_classes,
            x.shape[-1],
            dtype=module.dtype,
            param_dtype=module.param_dtype,
            embedding_init=nn.initializers.zeros,
            name=f"{name}_{part}",
        )(labels)[:, None, None]
        for part in ("factor", "summand")
    )
    return x * (1 + factor) + summand


def _check_labels(module: Any, labels: jax.Array | None, batch: int) -> None:
    name = type(module).__name__
    if module.num_classes is None:
        if labels is not None:
            raise ValueError(f"This {name} has no classes (num_classes is None), but was given labels.")
    elif labels is None or labels.shape != (batch,) or not jnp.issubdtype(labels.dtype, jnp.integer):
        given = "none" if labels is None else f"{labels.dtype} {list(labels.shape)}"
        raise ValueError(f"This {name} wants integer labels [{batch}]; it was given {given}.")
