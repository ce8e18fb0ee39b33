"""Augmentation: how training images are changed, and which copies of a test image vote."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any, ClassVar

import jax
import jax.numpy as jnp

from .. import data
from ..data import augment
from ..data.augment import annotated
from ..errors import InputError
from .valid import FRACTION, NON_NEGATIVE, PROPER_FRACTION, at_least


@dataclass(frozen=True)
class AugmentationOptions:
    """How each training image is changed, anew in every epoch."""

    TITLE: ClassVar[str] = "augmentation"

    shift: Annotated[int | None, at_least(0)] = None
    """Largest shift of an image, in pixels; by default an eighth of its height, 0 for none."""
    flip: bool = False
    """Random left-right flips."""
    rotate: Annotated[float, NON_NEGATIVE] = 0.0
    """Largest rotation of an image, in degrees, such as 10."""
    zoom: Annotated[float, PROPER_FRACTION] = 0.0
    """Largest change of an image's scale: 0.1 for 0.9 to 1.1."""
    cutout: Annotated[int, at_least(0)] = 0
    """Side of a random square that is set to 0, in pixels, such as a quarter of the height."""
    random_augment: Annotated[float, FRACTION] = 0.0
    """Magnitude of two random operations on each image (RandAugment), at most 1."""


@dataclass(frozen=True)
class AnnotatedOptions:
    """How each training image is changed together with its annotation, anew in every epoch."""

    TITLE: ClassVar[str] = "augmentation"

    flip: bool = False
    """Random left-right flips."""
    turn: bool = False
    """Random turns by quarters, of images that are not square by halves."""
    rotate: Annotated[float, NON_NEGATIVE] = 0.0
    """Largest rotation of an image, in degrees, such as 10."""
    zoom: Annotated[float, PROPER_FRACTION] = 0.0
    """Largest change of an image's scale: 0.1 for 0.9 to 1.1."""
    move: Annotated[float, FRACTION] = 0.0
    """Largest shift of an image, as a fraction of its side, such as 0.1."""
    elastic: Annotated[float, NON_NEGATIVE] = 0.0
    """Standard deviation of an elastic deformation (U-Net), in pixels, such as 10 for images of 512 pixels."""
    elastic_points: Annotated[int, at_least(2, 64)] = 3
    """Number of points along each side that the elastic deformation moves."""
    color: Annotated[float, FRACTION] = 0.0
    """Largest relative change of brightness, contrast and, of color images, saturation, such as 0.3."""
    crop: Annotated[int | None, at_least(1)] = None
    """Side in pixels of the random part of an image that training sees; by default the whole image."""
    crops: Annotated[int, at_least(1)] = 1
    """Number of random parts of each image in an epoch."""

    @property
    def without_effect(self) -> Mapping[str, str]:
        """Options that have no effect beside these, each with the reason."""
        return {} if self.crop else {"crops": "training sees whole images"}


@dataclass(frozen=True)
class MixingOptions:
    """How training images are mixed with one another."""

    TITLE: ClassVar[str] = "augmentation"

    mixup: Annotated[float, NON_NEGATIVE] = 0.0
    """Parameter α of MixUp's beta distribution, such as 0.2; 0 for no MixUp."""
    cutmix: Annotated[float, NON_NEGATIVE] = 0.0
    """Parameter α of CutMix's beta distribution, such as 1; 0 for no CutMix."""


@dataclass(frozen=True)
class ViewOptions:
    """How test images are augmented."""

    TITLE: ClassVar[str] = "augmentation"

    tta: Annotated[int, at_least(0)] = 0
    """Number of augmented copies of a test image whose predictions are averaged with its own."""


def make_augmentation(
    options: AugmentationOptions, source: data.Source, *, mixup: float = 0.0, cutmix: float = 0.0
) -> Callable | None:
    """The augmentation of training batches: images are changed one by one, then mixed.

    Args:
      options: how images are changed.
      source: the training split.
      mixup: α of MixUp, 0 for none.
      cutmix: α of CutMix, 0 for none.
    Returns: (key, batch, hyper) -> batch, or None if nothing is to be changed.
    Raises: InputError if both MixUp and CutMix are asked for.
    """
    change, classes = of_images(options, source), len(source.classes)
    mixing = {"mixup": (data.mixing.mixup, mixup), "cutmix": (data.mixing.cutmix, cutmix)}
    mixers = [partial(mix, alpha=alpha, num_classes=classes) for mix, alpha in mixing.values() if alpha]
    if len(mixers) > 1:
        raise InputError(f"mixup is {mixup} and cutmix is {cutmix}; give one of them.")
    if change is None and not mixers:
        return None

    def augmented(key, batch, hyper):
        del hyper
        image_key, mix_key = jax.random.split(key)
        batch = batch if change is None else change(image_key, batch)
        for mix in mixers:
            batch = mix(mix_key, batch)
        return batch

    return augmented


def make_annotated_augmentation(options: AnnotatedOptions) -> Callable | None:
    """(key, batch, hyper) -> batch whose images are changed together with their annotation; None for no change."""
    changes = []
    if options.color:
        changes.append(partial(_recolored, strength=options.color))
    if options.flip:
        changes.append(annotated.random_flip)
    if options.turn:
        changes.append(annotated.random_turn)
    if options.rotate or options.zoom or options.move:
        affine = partial(annotated.random_affine, degrees=options.rotate, scale=options.zoom, translate=options.move)
        changes.append(affine)
    if options.elastic:
        changes.append(partial(annotated.random_elastic, std=options.elastic, points=options.elastic_points))
    if options.crop:
        changes.append(partial(annotated.random_crop, size=options.crop))
    if not changes:
        return None

    def change(key: jax.Array, example: annotated.Example) -> dict[str, Any]:
        example = dict(example)
        for each, key_of in zip(changes, jax.random.split(key, len(changes)), strict=True):
            example = each(key_of, example)
        return dict(example)

    of_batch = annotated.per_example(change)
    return lambda key, batch, hyper: of_batch(key, batch)


def _recolored(key: jax.Array, example: annotated.Example, *, strength: float) -> dict[str, Any]:
    """An annotated image whose colors are changed, so that its annotation stays true."""
    image = example["image"]
    saturation = strength if image.shape[-1] == 3 else 0.0
    changed = augment.color_jitter(key, image, brightness=strength, contrast=strength, saturation=saturation)
    return {**example, "image": changed}


def of_images(options: AugmentationOptions, source: data.Source) -> Callable | None:
    """The augmentations of single images.

    Args:
      options: how images are changed.
      source: whose images; only their height counts.
    Returns: (key, batch) -> batch, or None if nothing is to be changed.
    """
    height = source.element_spec["image"].shape[0]
    shift = height // 8 if options.shift is None else options.shift
    # Rounding after each resampling would turn a difference in the last bit into a whole level of gray.
    resampled = options.rotate or options.zoom or options.random_augment
    steps: list[Callable] = [lambda key, image: image.astype(jnp.float32)] if resampled else []
    steps += [partial(augment.random_shift, padding=shift)] if shift else []
    steps += [augment.random_flip] if options.flip else []
    if options.rotate or options.zoom:
        steps += [partial(augment.random_affine, degrees=options.rotate, scale=options.zoom)]
    if options.random_augment:
        steps += [partial(augment.rand_augment, num_operations=2, magnitude=options.random_augment)]
    steps += [partial(augment.random_cutout, size=options.cutout)] if options.cutout else []
    return augment.per_example(augment.chain(*steps)) if steps else None


def voting_views(options: AugmentationOptions, source: data.Source, copies: int) -> Callable | None:
    """The views of a test image that vote on its class.

    Args:
      options: how a copy differs from its image.
      source: whose images; only their height counts.
      copies: how many augmented copies an image has.
    Returns: batch -> images [1 + copies, batch, …], or None for no copies.
    Raises: InputError if nothing would make copies differ.
    """
    change = of_images(options, source)
    if copies and change is None:
        raise InputError(f"tta is {copies}, and nothing makes copies of an image differ; give --shift or another.")
    return partial(views, change, copies=copies) if change is not None and copies else None


def views(change: Callable, batch, *, copies: int) -> jax.Array:
    """Images of a batch and augmented copies of them, each a function of its example's index.

    Args:
      change: (key, batch) -> batch.
      batch: has "image" [batch, …].
      copies: how many.
    Returns: [1 + copies, batch, …], the images themselves first.
    """
    keys = [jax.random.fold_in(jax.random.key(0), copy) for copy in range(copies)]
    return jnp.stack([batch["image"], *(change(key, batch)["image"] for key in keys)])
