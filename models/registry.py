"""Names of networks, and what can be said of a network without allocating it.

`TABLE` has the names people use; `FAMILIES` has the networks that a number picks. ResNet names are torchvision's
where torchvision has them (`resnet50` is the ImageNet network); the CIFAR networks of such a depth are
`cifar_resnet50`. Pre-activation networks are `preact_resnet50` and `cifar_preact_resnet50` likewise. The last number
of a vision transformer's name is the side of the images that its published weights are for; the network takes any that
its patches divide.
"""

from __future__ import annotations

import dataclasses
import difflib
import inspect
import math
import re
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from . import alexnet, denoising_unet, dit, mlp, resnet, resnet9, vgg, vit

CIFAR_DEPTHS = (8, 14, 20, 32, 44, 56, 110, 1202)
WIDE = ((10, 2), (16, 4), (16, 8), (22, 8), (28, 10), (40, 4))
VIT_PATCHES = {"tiny": (16,), "small": (32, 16, 8), "base": (32, 16, 8), "large": (32, 16, 14), "huge": (14,)}

TABLE: dict[str, Callable[..., nn.Module]] = {
    "mlp": mlp.MLP,
    "linear": partial(mlp.MLP, hidden=()),
    "convnet": mlp.ConvNet,
    **{f"resnet{depth}": partial(resnet.imagenet, depth) for depth in resnet.IMAGENET},
    **{f"resnet{depth}": partial(resnet.cifar, depth) for depth in CIFAR_DEPTHS},
    **{f"plain{depth}": partial(resnet.cifar, depth, block=resnet.PlainBlock) for depth in CIFAR_DEPTHS[:-1]},
    **{f"preact_resnet{depth}": partial(resnet.preact_imagenet, depth) for depth in resnet.IMAGENET},
    **{f"preact_resnet{depth}": partial(resnet.preact_cifar, depth) for depth in CIFAR_DEPTHS},
    **{f"resnet{depth}d": partial(resnet.imagenet, depth, **resnet.RESNET_D) for depth in resnet.IMAGENET},
    **{f"wrn{depth}_{factor}": partial(resnet.wide, depth, factor) for depth, factor in WIDE},
    "resnet9": resnet9.ResNet9,
    "alexnet": alexnet.one_tower,
    "alexnet_original": alexnet.original,
    **{f"vgg{depth}": partial(vgg.vgg, depth) for depth in vgg.STAGE_SIZES},
    **{f"vgg{depth}_bn": partial(vgg.vgg, depth, batch_norm=True) for depth in vgg.STAGE_SIZES},
    **{
        f"vit_{size}_patch{patch}_224": partial(vit.sized, size, patch_size=patch)
        for size, patches in VIT_PATCHES.items()
        for patch in patches
    },
    **{f"deit_{size}_patch16_224": partial(vit.sized, size, patch_size=16) for size in ("tiny", "small", "base")},
    "vit_tiny_patch4_32": partial(vit.sized, "tiny", patch_size=4, num_classes=10),
    **{
        f"vit_micro_patch{patch}_{size}": partial(
            vit.ViT, num_classes=10, patch_size=patch, width=128, depth=6, num_heads=4
        )
        for patch, size in ((2, 8), (4, 28), (7, 28))
    },
    # Denoising networks, which are called with a time too.
    "ddpm_cifar10": denoising_unet.DenoisingUNet,
    **{
        f"dit_{size}_patch{patch}": partial(dit.sized, size, patch_size=patch)
        for size in dit.SIZES
        for patch in (2, 4, 8)
    },
}
FAMILIES: dict[str, Callable[..., nn.Module]] = {
    "cifar_resnet<depth>": resnet.cifar,
    "cifar_plain<depth>": partial(resnet.cifar, block=resnet.PlainBlock),
    "cifar_preact_resnet<depth>": resnet.preact_cifar,
    "wrn<depth>_<factor>": resnet.wide,
    "resnet9_<width>": resnet9.of_width,
    "vit_<size>_patch<patch>_<image>": lambda size, patch, image, **fields: vit.sized(size, patch, **fields),
}


def names() -> tuple[str, ...]:
    """The names of `create`, which knows the members of `FAMILIES` too."""
    return tuple(TABLE)


def create(name: str, **overrides: Any) -> nn.Module:
    """A network by its name.

    Args:
      name: one of `names()`, or a member of a family such as "cifar_resnet62", "wrn40_2" or "vit_base_patch16_384".
      overrides: fields of the module, such as num_classes.
    Raises: ValueError for an unknown name or field, or a depth or size that its family does not have.
    """
    make = TABLE.get(name) or _member(name)
    if make is None:
        near = difflib.get_close_matches(name, TABLE, n=1)
        hint = f" Did you mean {near[0]}?" if near else ""
        raise ValueError(f"There is no model {name!r}.{hint} Valid are: {', '.join((*TABLE, *FAMILIES))}.")
    model = make()
    known = fields(model)
    unknown = sorted(overrides.keys() - set(known))
    if unknown:
        raise ValueError(f"{name} has no field {', '.join(unknown)}. Its fields are: {', '.join(known)}.")
    return model.clone(**overrides)


def _member(name: str) -> Callable[..., nn.Module] | None:
    """What makes the member of a family that a name such as "wrn40_2" is."""
    for family, make in FAMILIES.items():
        pattern = re.sub(r"<\w+>", r"(\\d+)", family.replace("<size>", "([a-z]+)"))
        if match := re.fullmatch(pattern, name):
            return partial(make, *(int(part) if part.isdigit() else part for part in match.groups()))
    return None


def fields(model: nn.Module) -> tuple[str, ...]:
    """The names of a network's hyperparameters."""
    return tuple(f.name for f in dataclasses.fields(model) if f.name not in ("parent", "name"))


def count_parameters(model: nn.Module, input_shape: Sequence[int]) -> int:
    """How many parameters a network has for inputs of a shape; allocates nothing.

    Args:
      model: the network.
      input_shape: of one input: (height, width, channel) of an image, (length,) of a vector.
    Raises: ValueError if `input_shape` is not one to three positive numbers.
    """
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(_shapes(model, input_shape)))


def summary(model: nn.Module, input_shape: Sequence[int]) -> str:
    """One line per layer of a network: parameters and their bytes; allocates nothing.

    Blocks that run under `nn.scan` are one block here, with the parameters of all of them.

    Args:
      model: the network.
      input_shape: of one input: (height, width, channel) of an image, (length,) of a vector.
    Raises: ValueError if `input_shape` is not one to three positive numbers.
    """
    layers: dict[str, tuple[int, int]] = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(_shapes(model, input_shape)):
        names = [key.key for key in path]
        layer = "/".join(names[:-1] or names)  # a parameter of the network itself is a line of its own
        count, size = layers.get(layer, (0, 0))
        layers[layer] = count + math.prod(leaf.shape), size + math.prod(leaf.shape) * leaf.dtype.itemsize
    total = tuple(map(sum, zip(*layers.values(), strict=True)))
    width = max(map(len, [*layers, "total"]))
    rows = [*layers.items(), ("total", total)]
    return "\n".join(f"{name:<{width}} {count:>17,} {_readable(size):>9}" for name, (count, size) in rows)


def _readable(size: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"


def _shapes(model: nn.Module, input_shape: Sequence[int]) -> Any:
    """The parameters' shapes and dtypes."""
    inputs = example_inputs(model, input_shape)
    return jax.eval_shape(partial(model.init, train=False), jax.random.key(0), *inputs)["params"]


def example_inputs(model: nn.Module, input_shape: Sequence[int]) -> tuple[jax.ShapeDtypeStruct, ...]:
    """Shapes of what a network is called with: a batch of one input, and a time if it is a denoising network.

    Args:
      model: the network.
      input_shape: of one input: (height, width, channel) of an image, (length,) of a vector.
    Raises: ValueError if `input_shape` is not one to three positive numbers.
    """
    shape = tuple(input_shape)
    if not 1 <= len(shape) <= 3 or min(shape) < 1:
        raise ValueError(
            f"input_shape is {shape}; it must be (height, width, channel) of an image or (length,) of a vector, "
            "without a batch."
        )
    batch = jax.ShapeDtypeStruct((1, *shape), jnp.float32)
    return (batch, jax.ShapeDtypeStruct((), jnp.float32)) if takes_time(model) else (batch,)


def takes_time(model: nn.Module) -> bool:
    """Whether a network is called with a time besides its input: a denoising network, which gives no logits."""
    return "time" in inspect.signature(type(model).__call__).parameters
