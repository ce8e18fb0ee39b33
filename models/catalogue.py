"""The catalogue of networks: names, and what each name is.

`TABLE` has the names that people use; `FAMILIES` has networks that a number picks. A row (`Entry`) declares how the
network is made, its role, and the inputs it is called with; nothing is inferred from a signature. A network of your own
needs no row: `create` also takes an import path such as "my_models:tiny".

ResNet names are torchvision's where torchvision has them (`resnet50` is the ImageNet network); the CIFAR network of
that depth is `cifar_resnet50`. Pre-activation networks are `preact_resnet50` and `cifar_preact_resnet50` likewise. The
last number in a vision transformer's name is the side of the images that its published weights are for; the network
takes any image that its patches divide.
"""

from __future__ import annotations

import dataclasses
import difflib
import importlib
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from ..errors import InputError, listed
from .classifiers import MLP, ConvNet, PlainBlock, ResNet9, ViT, alexnet, resnet, resnet9, vgg, vit
from .dense import FCN, FCNResNet, GridDetector, SegNet, UNet
from .generative import (
    VAE,
    VQVAE,
    ConvVAE,
    DCGANDiscriminator,
    DCGANGenerator,
    DenoisingUNet,
    DenseVAE,
    Discriminator,
    DiT,
    Generator,
    ResNetDiscriminator,
    ResNetGenerator,
    dit,
)
from .sequences import LanguageModel, RecurrentTranslator, TextClassifier, TextEncoder, Transformer

Arguments = tuple[jax.ShapeDtypeStruct, ...]
Inputs = Callable[[nn.Module, tuple[int, ...]], Arguments]


def one_array(model: nn.Module, shape: tuple[int, ...]) -> Arguments:
    """A batch of one array of a shape: an image, a vector or a sequence."""
    del model
    return (jax.ShapeDtypeStruct((1, *shape), jnp.float32),)


def array_and_time(model: nn.Module, shape: tuple[int, ...]) -> Arguments:
    """A batch of one noisy array, and one time for all."""
    return (*one_array(model, shape), jax.ShapeDtypeStruct((), jnp.float32))


def array_and_label(model: nn.Module, shape: tuple[int, ...]) -> Arguments:
    """A batch of one array, and its label if the network has classes (field `num_classes`)."""
    label = () if getattr(model, "num_classes", None) is None else (jax.ShapeDtypeStruct((1,), jnp.int32),)
    return (*one_array(model, shape), *label)


def one_text(model: nn.Module, shape: tuple[int, ...]) -> Arguments:
    """A batch of one text of (length,) tokens."""
    del model
    return (jax.ShapeDtypeStruct((1, *shape), jnp.int32),)


def two_texts(model: nn.Module, shape: tuple[int, ...]) -> Arguments:
    """A batch of one source and one target, of (source, target) tokens; as many each where one number is given."""
    del model
    return tuple(jax.ShapeDtypeStruct((1, length), jnp.int32) for length in (shape[0], shape[-1]))


@dataclasses.dataclass(frozen=True)
class Entry:
    """A row of the catalogue: what a name stands for.

    A module of yours may hold one too, where the network is no classifier of single arrays:
    `denoise = models.Entry(MyNetwork, "denoiser", models.array_and_time)`, for `create("my_models:denoise")`.

    Attributes:
      make: returns the network, with no arguments given; every field of the network can then be changed.
      role: what the network is for: "classifier" (array -> logits), "denoiser" (noisy array and time -> noise, array
        or velocity), "generator" (latent vector -> image), "discriminator" (image -> score), "autoencoder" (image ->
        image, through latents), "segmenter" (image -> logits of each pixel), "detector" (image -> objects),
        "translator" (source and target so far -> logits of the target's next tokens), "language_model" (tokens ->
        logits of the next ones), "text_classifier" (tokens -> logits), "text_encoder" (tokens -> a vector for each).
      inputs: (network, shape of one example) -> shapes and types of the arguments that the network is called with.
    """

    make: Callable[..., nn.Module]
    role: str = "classifier"
    inputs: Inputs = one_array


_denoiser = partial(Entry, role="denoiser", inputs=array_and_time)
_generator = partial(Entry, role="generator", inputs=array_and_label)
_discriminator = partial(Entry, role="discriminator", inputs=array_and_label)
_autoencoder = partial(Entry, role="autoencoder")
_segmenter = partial(Entry, role="segmenter")
_detector = partial(Entry, role="detector")
_translator = partial(Entry, role="translator", inputs=two_texts)
_language_model = partial(Entry, role="language_model", inputs=one_text)
_text_classifier = partial(Entry, role="text_classifier", inputs=one_text)
_text_encoder = partial(Entry, role="text_encoder", inputs=one_text)

CIFAR_DEPTHS = (8, 14, 20, 32, 44, 56, 110, 1202)
WIDE = ((10, 2), (16, 4), (16, 8), (22, 8), (28, 10), (40, 4))
FCN_STRIDES = {"alexnet": (32,), **dict.fromkeys(("vgg16", "resnet18", "resnet50", "small"), (32, 16, 8))}
VIT_PATCHES = {"tiny": (16,), "small": (32, 16, 8), "base": (32, 16, 8), "large": (32, 16, 14), "huge": (14,)}

CLASSIFIERS: dict[str, Callable[..., nn.Module]] = {
    "mlp": MLP,
    "linear": partial(MLP, hidden=()),
    "convnet": ConvNet,
    **{f"resnet{depth}": partial(resnet.imagenet, depth) for depth in resnet.IMAGENET},
    **{f"resnet{depth}": partial(resnet.cifar, depth) for depth in CIFAR_DEPTHS},
    **{f"plain{depth}": partial(resnet.cifar, depth, block=PlainBlock) for depth in CIFAR_DEPTHS[:-1]},
    **{f"preact_resnet{depth}": partial(resnet.preact_imagenet, depth) for depth in resnet.IMAGENET},
    **{f"preact_resnet{depth}": partial(resnet.preact_cifar, depth) for depth in CIFAR_DEPTHS},
    **{f"resnet{depth}d": partial(resnet.imagenet, depth, **resnet.RESNET_D) for depth in resnet.IMAGENET},
    **{f"wrn{depth}_{factor}": partial(resnet.wide, depth, factor) for depth, factor in WIDE},
    "resnet9": ResNet9,
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
            ViT, num_classes=10, patch_size=patch, width=128, depth=6, num_heads=4
        )
        for patch, size in ((2, 8), (4, 28), (7, 28))
    },
}
TABLE: dict[str, Entry] = {
    **{name: Entry(make) for name, make in CLASSIFIERS.items()},
    "ddpm_cifar10": _denoiser(DenoisingUNet),
    **{
        f"dit_{size}_patch{patch}": _denoiser(partial(dit.sized, size, patch_size=patch))
        for size in dit.SIZES
        for patch in (2, 4, 8)
    },
    "dcgan_generator": _generator(partial(DCGANGenerator, (28, 28, 1))),
    "dcgan_discriminator": _discriminator(DCGANDiscriminator),
    "resnet_generator": _generator(partial(ResNetGenerator, (32, 32, 3))),
    "resnet_discriminator": _discriminator(ResNetDiscriminator),
    "dense_vae": _autoencoder(DenseVAE),
    "conv_vae": _autoencoder(ConvVAE),
    "vqvae": _autoencoder(VQVAE),
    **{
        f"fcn{stride}s_{trunk}": _segmenter(partial(FCN, trunk=trunk, stride=stride))
        for trunk, strides in FCN_STRIDES.items()
        for stride in strides
    },
    "fcn_resnet50": _segmenter(FCNResNet),
    "fcn_resnet101": _segmenter(partial(FCNResNet, stage_sizes=(3, 4, 23, 3))),
    "segnet": _segmenter(SegNet),
    "unet": _segmenter(UNet),
    "unet_bn": _segmenter(partial(UNet, batch_norm=True)),
    "unet_bn_16": _segmenter(partial(UNet, width=16, batch_norm=True)),
    "unet_small": _segmenter(partial(UNet, width=16, depth=3, batch_norm=True)),
    "unet_valid": _segmenter(partial(UNet, padding="VALID")),
    "grid_detector": _detector(GridDetector),
    "grid_detector_masks": _detector(partial(GridDetector, num_prototypes=16)),
    "grid_detector_panoptic": _detector(partial(GridDetector, num_prototypes=16, num_semantic=24)),
    "rnn_translator": _translator(partial(RecurrentTranslator, 8000, attention="none")),
    "attention_translator": _translator(partial(RecurrentTranslator, 8000)),
    "transformer_base": _translator(Transformer),
    "transformer_small": _translator(
        partial(Transformer, 8000, width=128, depth=2, num_heads=4, norm_first=True, dropout=0.1)
    ),
    "language_model_small": _language_model(LanguageModel),
    "text_rnn": _text_classifier(partial(TextClassifier, reader="elman")),
    "text_lstm": _text_classifier(partial(TextClassifier, reader="lstm")),
    "text_transformer": _text_classifier(partial(TextClassifier, depth=2)),
    "bert_base": _text_encoder(TextEncoder),
    "minilm_l6": _text_encoder(partial(TextEncoder, width=384, depth=6)),
}
FAMILIES: dict[str, Entry] = {
    "cifar_resnet<depth>": Entry(resnet.cifar),
    "cifar_plain<depth>": Entry(partial(resnet.cifar, block=PlainBlock)),
    "cifar_preact_resnet<depth>": Entry(resnet.preact_cifar),
    "wrn<depth>_<factor>": Entry(resnet.wide),
    "resnet9_<width>": Entry(resnet9.of_width),
    "vit_<size>_patch<patch>_<image>": Entry(lambda size, patch, image: vit.sized(size, patch)),
    "deit_<size>_patch<patch>_<image>": Entry(lambda size, patch, image: vit.sized(size, patch)),
}
# What our own networks are, however they were made. A class that is not here is a classifier.
CLASSES: dict[type[nn.Module], Entry] = {
    DenoisingUNet: _denoiser(DenoisingUNet),
    DiT: _denoiser(DiT),
    Generator: _generator(Generator),
    Discriminator: _discriminator(Discriminator),
    VAE: _autoencoder(VAE),
    VQVAE: _autoencoder(VQVAE),
    FCN: _segmenter(FCN),
    FCNResNet: _segmenter(FCNResNet),
    SegNet: _segmenter(SegNet),
    UNet: _segmenter(UNet),
    GridDetector: _detector(GridDetector),
    RecurrentTranslator: _translator(RecurrentTranslator),
    Transformer: _translator(Transformer),
    LanguageModel: _language_model(LanguageModel),
    TextClassifier: _text_classifier(TextClassifier),
    TextEncoder: _text_encoder(TextEncoder),
}


def names(role: str | None = None) -> tuple[str, ...]:
    """The names that `create` takes. (It takes the members of `FAMILIES` and import paths, too.)

    >>> names(role="denoiser")[:2]
    ('ddpm_cifar10', 'dit_small_patch2')

    Args:
      role: only networks of this role; by default all.
    Raises: InputError for a role that no network has.
    """
    roles = tuple(dict.fromkeys(entry.role for entry in TABLE.values()))
    if role is not None and role not in roles:
        raise InputError(f"There is no role {role!r}. Valid are: {', '.join(roles)}.")
    return tuple(name for name, entry in TABLE.items() if role in (None, entry.role))


def families() -> tuple[str, ...]:
    """The families that `create` takes members of, such as "cifar_resnet<depth>"."""
    return tuple(FAMILIES)


def create(name: str, **overrides: Any) -> nn.Module:
    """Makes a network by its name. Its parameters are not allocated.

    >>> create("resnet20", num_classes=100).num_classes
    100

    Args:
      name: one of `names()`; a member of a family such as "cifar_resnet62", "wrn40_2" or "vit_base_patch16_384"; or
        the import path of your own network, "package.module:function" (see `entry`).
      overrides: fields of the network to set, such as num_classes.
    Raises: InputError for an unknown name or field, for a depth or size that its family does not have, or for an
      import path that leads to no network.
    """
    make = entry(name).make
    with _current_folder_first() if ":" in name else nullcontext():
        model = make()
    if not isinstance(model, nn.Module):
        raise InputError(f"{name} made {type(model).__name__}, which is no flax.linen.Module.")
    known = fields(model)
    unknown = sorted(overrides.keys() - set(known))
    if unknown:
        raise InputError(f"{name} has no field {', '.join(unknown)}. Its fields are: {listed(known, like=unknown[0])}.")
    return model.clone(**overrides)


def entry(name: str) -> Entry:
    """What a name stands for: how it is made, its role and its inputs.

    >>> entry("ddpm_cifar10").role
    'denoiser'

    Args:
      name: as in `create`. An import path leads to a function or class that makes a network, which is a classifier
        then, or to an `Entry` that says what it is. The current folder is searched first.
    Raises: InputError for an unknown name, or an import path where there is no such module or function.
    """
    if ":" in name:
        return _imported(name)
    found = TABLE.get(name) or _member(name)
    if found is None:
        near = difflib.get_close_matches(name, TABLE, n=3)
        hint = f" Did you mean {' or '.join(near)}?" if near else ""
        valid = listed(TABLE, like=name, where="etude models lists them")
        raise InputError(
            f"There is no model {name!r}.{hint} Valid are: {valid}; and the import path of your own, "
            "package.module:function."
        )
    return found


def entry_of(model: nn.Module) -> Entry:
    """What a network is: the entry of its class in `CLASSES`, or a classifier."""
    return next((CLASSES[kind] for kind in type(model).__mro__ if kind in CLASSES), Entry(type(model)))


def fields(model: nn.Module) -> tuple[str, ...]:
    """The names of a network's hyperparameters.

    >>> fields(create("mlp"))[:3]
    ('num_classes', 'hidden', 'activation')
    """
    return tuple(f.name for f in dataclasses.fields(model) if f.name not in ("parent", "name"))


def example_inputs(model: nn.Module, input_shape: Sequence[int], inputs: Inputs | None = None) -> Arguments:
    """Shapes and types of the arguments that a network is called with: a batch of one example.

    Args:
      model: the network.
      input_shape: shape of one example: (height, width, channel) of an image, (length,) of a vector.
      inputs: as in `Entry`; by default those of the network's class.
    Raises: InputError if `input_shape` is not one to three positive numbers.
    """
    shape = tuple(input_shape)
    if not 1 <= len(shape) <= 3 or min(shape) < 1:
        raise InputError(
            f"input_shape is {shape}; it must be (height, width, channel) of an image or (length,) of a vector, "
            "without a batch."
        )
    return (inputs or entry_of(model).inputs)(model, shape)


def _member(name: str) -> Entry | None:
    """The member of a family that a name such as "wrn40_2" is."""
    for family, row in FAMILIES.items():
        pattern = re.sub(r"<\w+>", r"(\\d+)", family.replace("<size>", "([a-z]+)"))
        if match := re.fullmatch(pattern, name):
            parts = (int(part) if part.isdigit() else part for part in match.groups())
            return dataclasses.replace(row, make=partial(row.make, *parts))
    return None


def _imported(path: str) -> Entry:
    """The entry at an import path "package.module:function"."""
    module_name, _, attribute = path.partition(":")
    if not all(part.isidentifier() for part in (*module_name.split("."), attribute)):
        raise InputError(f"{path!r} is no import path; wanted: package.module:function.")
    try:
        with _current_folder_first():
            module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise  # the module is there, but imports one that is not
        raise InputError(
            f"There is no module {module_name!r} for the model {path!r}. The folder {Path.cwd()} was searched first."
        ) from error
    found = getattr(module, attribute, None)
    if isinstance(found, Entry):
        return found
    if not callable(found):
        own = [name for name, value in vars(module).items() if getattr(value, "__module__", None) == module_name]
        near = difflib.get_close_matches(attribute, own, n=3)
        hint = f" Did you mean {' or '.join(near)}?" if near else ""
        raise InputError(f"{module.__file__} has no function {attribute!r} that makes a model.{hint}")
    make: Any = found  # `create` checks what it returns
    return Entry(make)


@contextmanager
def _current_folder_first() -> Iterator[None]:
    """Imports look into the current folder first, as they do in a script that lies there."""
    folder = str(Path.cwd())
    sys.path.insert(0, folder)
    try:
        yield
    finally:
        sys.path.remove(folder)
