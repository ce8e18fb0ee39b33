"""Augmentation from the command line: which changes of training images, and which copies vote at test time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp

from .. import data
from ..data import augment


@dataclass(frozen=True)
class AugmentationConfig:
    """How training images are changed, each time anew."""

    shift: int | None = None
    """Augment with shifts of up to this many pixels; by default an eighth of the height, 0 for none."""
    flip: bool = False
    """Augment with left-right flips."""
    rotate: float = 0.0
    """Augment with rotations of up to this many degrees."""
    zoom: float = 0.0
    """Augment with zooms: 0.1 for 0.9 to 1.1."""
    cutout: int = 0
    """Augment by a square of this many pixels a side that is set to 0."""
    random_augment: float = 0.0
    """Augment with two random operations an image, of this magnitude: at most 1."""
    mixup: float = 0.0
    """α of MixUp, 0 for none."""
    cutmix: float = 0.0
    """α of CutMix, 0 for none."""
    tta: int = 0
    """Test-time augmentation: average the predictions of an image and this many augmented copies."""


def augmentation(config: AugmentationConfig, source: data.Source) -> Callable | None:
    """(key, batch, hyper) -> batch as the config says: images changed one by one, then mixed; None of nothing."""
    change, classes = of_images(config, source), len(source.classes)
    mixing = {"mixup": (data.mixing.mixup, config.mixup), "cutmix": (data.mixing.cutmix, config.cutmix)}
    mixers = [partial(mix, alpha=alpha, num_classes=classes) for mix, alpha in mixing.values() if alpha]
    if len(mixers) > 1:
        raise ValueError(f"mixup is {config.mixup} and cutmix is {config.cutmix}; give one of them.")
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


def of_images(config: AugmentationConfig, source: data.Source) -> Callable | None:
    """(key, batch) -> batch: the config's augmentations of single images; None of nothing."""
    height = source.element_spec["image"].shape[0]
    shift = height // 8 if config.shift is None else config.shift
    # Rounding after each resampling would turn a difference in the last bit into a whole level of grey.
    resampled = config.rotate or config.zoom or config.random_augment
    steps: list[augment.Augmentation] = [lambda key, image: image.astype(jnp.float32)] if resampled else []
    steps += [partial(augment.random_shift, padding=shift)] if shift else []
    steps += [augment.random_flip] if config.flip else []
    if config.rotate or config.zoom:
        steps += [partial(augment.random_affine, degrees=config.rotate, scale=config.zoom)]
    if config.random_augment:
        steps += [partial(augment.random_augment, count=2, magnitude=config.random_augment)]
    steps += [partial(augment.random_cutout, size=config.cutout)] if config.cutout else []
    return augment.per_example(augment.chain(*steps)) if steps else None


def views(change: Callable, batch, *, copies: int) -> jax.Array:
    """A batch's images and augmented copies of them, each a function of its example's index: [1 + copies, batch, …]."""
    keys = [jax.random.fold_in(jax.random.key(0), copy) for copy in range(copies)]
    return jnp.stack([batch["image"], *(change(key, batch)["image"] for key in keys)])
