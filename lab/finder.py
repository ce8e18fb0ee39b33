"""The learning-rate finder of a notebook: `lr_find(model, data)` runs a range test and shows its figure.

    lr_find(MyNetwork(), {"image": images, "label": labels}, optimizer=optax.lion)

The value of a cell is shown as its figure; `lr_find(…).suggestion` is the rate to train with.
"""

from __future__ import annotations

import inspect
import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from .. import data as sources
from .. import metrics, models, plots, tasks, train
from ..data import augment
from ..errors import InputError
from .options import BatchOptions, OptimizerOptions, RangeTestOptions, UpdateOptions
from .rates import sweep
from .training import Training, hyperparameters, make_optimizer


@dataclass(frozen=True)
class FoundRate:
    """What a range test found. A notebook shows it as its figure."""

    test: metrics.RangeTest
    """The curve and what was read from it."""
    figure: plots.Figure
    """The curve, its three regions and the suggestion."""

    @property
    def suggestion(self) -> float:
        """The rate to train with. Raises InputError, with the reason, if the curve shows none."""
        if self.test.suggestion is None:
            raise InputError(f"The range test suggests no rate: {self.test.reason}")
        return self.test.suggestion

    def __repr__(self) -> str:
        found = "no rate" if self.test.suggestion is None else f"{self.test.suggestion:.3g}"
        return f"FoundRate({found}: {self.test.reason})"

    def _repr_png_(self) -> bytes:
        file = io.BytesIO()
        self.figure.savefig(file, format="png", dpi=150)
        return file.getvalue()


def lr_find(
    model: str | nn.Module | tasks.Task,
    data: str | sources.Source | Mapping[str, Any],
    *,
    optimizer: str | Callable[[Any], optax.GradientTransformation] = "nesterov",
    lowest: float = 1e-5,
    highest: float = 10.0,
    steps_per_decade: int = 30,
    batch_size: int = 64,
    seed: int = 0,
) -> FoundRate:
    """Finds a learning rate in one short run, whose rate grows every step.

    Args:
      model: a name of `models.names(role="classifier")`; a linen module, images [batch, height, width, channel] ->
        logits, with or without an argument `train`; or a task with a loss of its own, for any data.
      data: a name such as "digits" (its training split), a source, or arrays of equal length by name: "image" and
        "label" for a classifier, what the loss reads for a task.
      optimizer: a name such as "adamw" or "optax:lion", or a function learning rate -> optax transformation, such as
        `optax.lion`.
      lowest: rate of the first step.
      highest: rate of the last step; the test goes on by itself where the loss still falls there.
      steps_per_decade: number of steps in which the rate rises tenfold.
      batch_size: number of examples in a step, at most all of them.
      seed: of initialization and the order of examples.
    Returns: the suggestion with its figure. Nothing that is given is changed.
    Raises: InputError for arguments that are not valid or do not fit together.
    """
    source = _source(data)
    task = model if isinstance(model, tasks.Task) else _classification(model, source)
    if not 1 <= batch_size <= len(source):
        raise InputError(f"batch_size is {batch_size}; it must be at least 1 and at most {len(source)}, all examples.")
    training = Training(
        task=task,
        source=source,
        validation=source,
        make_optimizer=_make_optimizer(optimizer),
        hyper=hyperparameters(UpdateOptions(weight_decay=0.0)),
        batch=BatchOptions(batch_size=batch_size),
        seed=seed,
    )
    rates, losses = sweep(training, RangeTestOptions(None, lowest, highest, steps_per_decade))
    test = metrics.range_test(rates, losses[:, 0])
    return FoundRate(test, plots.range_test(test, chosen=test.suggestion))


def _source(data: str | sources.Source | Mapping[str, Any]) -> sources.Source:
    if isinstance(data, str):
        return sources.load(data, "train")
    if isinstance(data, sources.Source):
        return data
    arrays = {name: np.asarray(values) for name, values in data.items()}
    lengths = {name: len(values) if values.ndim else 0 for name, values in arrays.items()}
    if len(set(lengths.values())) != 1 or 0 in lengths.values():
        raise InputError(f"data has arrays of lengths {lengths}; they must be equal, and at least 1.")
    if "label" in arrays and arrays["label"].ndim == 1:
        arrays["label"] = arrays["label"].astype(np.int32)
    spec = {name: jax.ShapeDtypeStruct(values.shape[1:], values.dtype) for name, values in arrays.items()}
    return sources.Source("arrays", "train", sources.Arrays(arrays), spec)


def _classification(model: str | nn.Module, source: sources.Source) -> tasks.Task:
    """Softmax classification; images of bytes are normalized, others are the model's as they are."""
    missing = {"image", "label"} - source.element_spec.keys()
    if missing:
        raise InputError(f"{source.name} has no {' and no '.join(sorted(missing))}; a classifier needs both.")
    if isinstance(model, str):
        classes = len(source.classes) or 1 + int(sources.labels(source).max())
        model = models.create(model, num_classes=classes)
    elif not isinstance(model, nn.Module):
        raise InputError(f"model is a {type(model).__name__}; give a name, a linen module or a task.")
    image = source.element_spec["image"]
    preprocess: Callable[[Any], Any] = jnp.asarray
    if image.dtype == np.uint8:
        mean, std = sources.moments(source)
        preprocess = partial(augment.normalize, mean=mean, std=std)
    if "train" not in inspect.signature(type(model).__call__).parameters:
        model = _WithoutTrain(model)
    logits: Any = jax.eval_shape(
        lambda key: model.init_with_output(key, preprocess(jnp.zeros((1, *image.shape), image.dtype)), train=False)[0],
        jax.random.key(0),
    )
    if logits.ndim != 2:
        raise InputError(
            f"The model makes {tuple(logits.shape)} of one image of shape {image.shape}; wanted: logits [1, classes]. "
            "For anything else, give a task."
        )
    return tasks.classification(model, image.shape, preprocess=preprocess)


class _WithoutTrain(nn.Module):
    """A network that does the same in training and after."""

    model: nn.Module

    @nn.compact
    def __call__(self, images, *, train: bool = False):
        del train
        return self.model(images)


def _make_optimizer(optimizer: str | Callable[[Any], optax.GradientTransformation]) -> train.MakeOptimizer:
    if isinstance(optimizer, str):
        return make_optimizer(OptimizerOptions(optimizer), UpdateOptions())
    if not callable(optimizer):
        raise InputError(
            f"optimizer is a {type(optimizer).__name__}; give a name, or a function of the learning rate such as "
            "optax.adam, not optax.adam(0.1)."
        )
    return lambda rate, hyper: optimizer(rate)
