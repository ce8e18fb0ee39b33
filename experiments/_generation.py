"""What experiments that generate images share: training in stages, a judge that saw none of it, and the report.

A model is shown at several moments of its training, so training stops there, and goes on. What it generates is judged
by a classifier of the same data that was trained apart: whether it recognises the asked class, and how far its features
of the samples are from those of the test split, next to how far those of the training split are.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

from .. import metrics, models, plots, train
from ..models.features import penultimate
from ._classification import ClassificationConfig, ClassificationProblem
from ._members import fit_members
from ._problem import EVALUATION_BATCH, OptimizerName, Problem, ProblemConfig, load, warmup_cosine
from ._run import Run


@dataclass(frozen=True)
class GenerationConfig(ProblemConfig):
    """Budget, schedule and judge."""

    optimizer: OptimizerName = "adam"
    """sgd has no momentum."""
    weight_decay: float = 0.0
    """Of all parameters but biases and normalisation scales."""
    epochs: int = 100
    """Passes through the training split."""
    learning_rate: float = 1e-3
    """Peak rate."""
    warmup_fraction: float = 0.05
    """Part of the steps in which the rate rises from 0 to its peak."""
    final_rate: float = 0.0
    """Where the cosine that follows ends, as a part of the peak rate; 1 keeps the rate."""
    ema_decay: float | None = None
    """Generate with an exponential moving average of the variables."""
    samples: int = 359
    """How many images are judged, at most as many as the test split has."""
    judge: str = "resnet9_8"
    """The classifier that judges, a name of models.names(); its features are those of the distances."""
    judge_epochs: int = 20
    """Its passes through the training split."""


def at_least(config: GenerationConfig, **least: float) -> None:
    """Raises: ValueError if a number of the config is below its least, or infinite. A choice of none is no number."""
    for name, lowest in least.items():
        value = getattr(config, name)
        if value is not None and not lowest <= value < math.inf:
            raise ValueError(f"{name} is {value}; it must be at least {lowest} and finite.")


def draw_curves(folder: Path, names: Mapping[str, str]) -> Figure:
    """The figure of metrics over the epochs, from curves.npz; names: metric -> what to write at its axis."""
    kept = load_arrays(folder / "curves.npz")

    def of(split):
        prefix = f"{split}/"
        curves = {name.removeprefix(prefix): values for name, values in kept.items() if name.startswith(prefix)}
        return curves | {"epoch": kept["epoch"]}

    best = int(kept["best_epoch"])
    return plots.loss_curves(of("train"), of("validation"), names, best if best > 0 else None)


def _save_curves(folder: Path, epochs: Sequence[Mapping[str, Any]], best_epoch: int | None) -> None:
    """Of the first member; the best epoch is 0 where nothing was chosen."""
    curves = {
        f"{split}/{name}": np.array([epoch[split][name] for epoch in epochs])
        for split in ("train", "validation")
        for name in epochs[0][split]
    }
    numbers = np.array([epoch["epoch"] for epoch in epochs])
    save_arrays(folder / "curves.npz", curves | {"epoch": numbers, "best_epoch": best_epoch or 0})


def train_in_stages(
    run: Run,
    problem: Problem,
    show: Callable[[train.Variables], np.ndarray],
    *,
    better: Callable | None = lambda validation: (-validation["loss"],),
) -> Sequence[train.Variables]:
    """Trains, alone or as a population, and shows what the (first) model does at each of `stages_of` the epochs.

    Args:
      run: open; gets stages/<epoch>.npz and curves.npz, which `stages` and `draw_curves` read.
      problem: its config is a `GenerationConfig`.
      show: variables -> images uint8 [n, …]; an earlier start's are not made again.
      better: as of `train.fit`; None keeps the last variables and validates nothing.
    Returns: the variables of each seed: those of the best validation or, without one, the last.
    Raises: ValueError for a budget or a judge that can't be, which must not come out after the training.
    """
    config: Any = problem.config
    at_least(config, epochs=1, judge_epochs=1, samples=LEAST_SAMPLES)
    _judge_problem(config)
    (run.folder / "stages").mkdir(exist_ok=True)
    first, *later = stages_of(config.epochs)

    def file(epoch: int) -> Path:
        return run.folder / "stages" / f"{epoch}.npz"

    def look(epoch: int, variables: train.Variables) -> None:
        if not file(epoch).exists():
            save_arrays(file(epoch), {"images": show(variables)})

    look(first, problem.state(config.learning_rate).variables)
    later = [epoch for epoch in later if epoch == later[-1] or not file(epoch).exists()]
    train_all = _train_members if config.population.active else _train_one
    variables, epochs, best_epoch = train_all(run, problem, later, look, better)
    _save_curves(run.folder, epochs, best_epoch)
    return variables


def stages(folder: Path) -> tuple[list[int], np.ndarray]:
    """(epochs, what the first member's model showed after each: [stages, n, …]), from stages/<epoch>.npz."""
    files = (folder / "stages").glob("*.npz")
    epochs = sorted(int(file.stem) for file in files if file.stem.isdigit())  # a killed start leaves partial ones
    return epochs, np.stack([load_arrays(folder / "stages" / f"{epoch}.npz")["images"] for epoch in epochs])


def draw_stages(folder: Path) -> Figure:
    """The figure of what the model drew at each stage."""
    epochs, images = stages(folder)
    return plots.image_grid(images, [str(epoch) for epoch in epochs], ylabel="after epoch", width=7)


def _schedule(config: GenerationConfig, problem: Problem) -> Callable:
    return warmup_cosine(
        problem, config.epochs, warmup_fraction=config.warmup_fraction, final_rate=config.final_rate
    )  # fmt: skip


def _train_one(run: Run, problem: Problem, at: Sequence[int], look: Callable, better: Callable | None):
    config: Any = problem.config
    state = problem.state(config.learning_rate, ema=config.ema_decay is not None)
    feed = problem.feed(_schedule(config, problem), ema_decay=config.ema_decay)
    choice = {} if better is None else {"validate": problem.evaluator(problem.validation), "better": better}
    fitted = None
    for stage in at:
        fitted = train.fit(
            fitted.state if fitted else state, feed, problem.where, epochs=stage, checkpoints=run.checkpoints(),
            journal=run.journal, log_every=max(1, problem.steps(config.epochs) // 2000), title=config.data, **choice,
        )  # fmt: skip
        look(stage, fitted.state.variables)
    assert fitted is not None
    return [fitted.best], fitted.epochs, None if better is None else fitted.best_epoch["epoch"]


def _train_members(run: Run, problem: Problem, at: Sequence[int], look: Callable, better: Callable | None):
    config: Any = problem.config
    member = lambda tree, i: jax.tree.map(lambda x: x[i], tree)  # noqa: E731
    trained = fit_members(
        run, problem, problem.members(config.learning_rate), _schedule(config, problem), config.epochs, name="members",
        ema_decay=config.ema_decay, better=better, stops=at[:-1],
        look=lambda epoch, fitted: look(epoch, member(fitted.last.state, 0).variables),
    )  # fmt: skip
    rows, fitted = trained.chosen_rows(), trained.fitted
    epochs = [
        dict(epoch) | {split: {k: v[rows.start] for k, v in epoch[split].items()} for split in ("train", "validation")}
        for epoch in fitted.epochs
    ]
    best_epoch = None if better is None else int(fitted.best_epoch[rows.start])
    return [member(fitted.best, i) for i in range(rows.start, rows.stop)], epochs, best_epoch


def over_seeds(reports: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The mean of each number and, of several seeds, `<name>_std`."""
    columns = {name: np.array([report[name] for report in reports]) for name in reports[0]}
    means = {name: float(column.mean()) for name, column in columns.items()}
    spread = {f"{name}_std": float(column.std()) for name, column in columns.items()} if len(reports) > 1 else {}
    return means | spread


def save_arrays(file: Path, arrays: Mapping[str, Any]) -> None:
    """Writes an .npz file, all of it or nothing."""
    partial = file.with_suffix(".partial.npz")
    np.savez_compressed(partial, allow_pickle=False, **arrays)
    partial.replace(file)


def load_arrays(file: Path) -> dict[str, np.ndarray]:
    """The arrays of an .npz file."""
    with np.load(file) as arrays:
        return dict(arrays)


def stages_of(epochs: int, count: int = 4) -> list[int]:
    """Epochs to look at: before training, and about equally often in its logarithm."""
    return [0, *sorted({max(1, round(epochs ** (i / (count - 1)))) for i in range(count)})]


@dataclass(frozen=True)
class Judge:
    """A classifier apart.

    accuracy: on the test split.
    logits_and_features: images uint8 [n, height, width, channel] -> ([n, classes], [n, d]).
    examples: the first `samples` of the test split, which stand for it: their labels are what is asked for.
    real: their features, [n, d]; control: those of as many training examples.
    """

    accuracy: float
    logits_and_features: Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]
    examples: Mapping[str, np.ndarray]
    real: np.ndarray
    control: np.ndarray

    def report(self, images: np.ndarray, labels: np.ndarray | None = None) -> dict[str, float]:
        """What the judge says of generated images.

        Args:
          images: uint8 [n, height, width, channel], n as many as were announced.
          labels: what was asked for, [n], or None.
        Returns: "recognised", the share of labels that the judge sees, if there are any; how far features are from
          those of the test split; and of the judge's classes "smallest_class", the share of the rarest among the
          images, "modes_covered", how many are there at least half as often as if all were equally frequent, and
          "mode_kl", the divergence of their shares from equal ones in nats (Metz et al. 2017).
        """
        logits, features = self.logits_and_features(images)
        predicted = logits.argmax(-1)
        recognised = {} if labels is None else {"recognised": float((predicted == labels).mean())}
        classes = logits.shape[-1]
        found = metrics.mode_coverage(predicted, classes, minimum_share=COVERED / classes)
        coverage = {
            "smallest_class": float(found.shares.min()),
            "modes_covered": found.covered,
            "mode_kl": found.divergence,
        }
        return recognised | self._compared(features) | coverage

    def references(self) -> dict[str, float]:
        """The same of the training split: what a perfect model would come to."""
        compared = {f"reference_{name}": value for name, value in self._compared(self.control).items()}
        return {"judge_accuracy": self.accuracy} | compared

    def _compared(self, features: np.ndarray) -> dict[str, float]:
        """How far features are from those of the test split."""
        precision, recall = metrics.precision_recall(self.real, features)
        return {
            "frechet": metrics.frechet_distance(features, self.real),
            "kernel_distance": metrics.kernel_distance(features, self.real),
            "precision": precision,
            "recall": recall,
        }


def train_judge(run: Run, config: GenerationConfig) -> Judge:
    """Trains the judge, or loads the one of an earlier start. Its seed is 0, so that all runs have the same one."""
    part, problem = run.part("judge"), _judge_problem(config)
    schedule = warmup_cosine(problem, config.judge_epochs)
    fitted = train.fit(
        problem.state(JUDGE_RATE), problem.feed(schedule), problem.where, epochs=config.judge_epochs,
        validate=problem.evaluator(problem.validation), better=lambda v: (v["accuracy"], -v["loss"]),
        checkpoints=part.checkpoints(), journal=part.journal, title=f"judge: {config.judge}",
    )  # fmt: skip
    test = load(config, "test")
    accuracy = problem.evaluator(test)(fitted.best)["accuracy"]

    @jax.jit
    def answers(images):
        return penultimate(problem.model, fitted.best, problem.preprocess(images))

    def logits_and_features(images):
        return in_batches(answers, images)

    count = min(config.samples, len(test))
    # Of the training split as many as of the test split, spread over it.
    control = problem.train.read(np.linspace(0, len(problem.train) - 1, count).astype(np.int64))["image"]
    examples = test.read(np.arange(count))
    features = (logits_and_features(images)[1] for images in (examples["image"], control))
    return Judge(accuracy, logits_and_features, examples, *features)


JUDGE_RATE = 0.05
COVERED = 0.5  # the part of an equal share from which on a class counts as covered: 0.05 of the samples for ten classes
LEAST_SAMPLES = 4  # an example and its three nearest neighbours, which `metrics.precision_recall` wants


def _judge_problem(config: GenerationConfig) -> ClassificationProblem:
    problem = ClassificationProblem.of(
        ClassificationConfig(
            data=config.data, data_dir=config.data_dir, image_size=config.image_size, model=config.judge,
            feed=config.feed,
        )
    )  # fmt: skip
    models.count_parameters(problem.model, problem.train.element_spec["image"].shape)
    return problem


def between(first: jax.Array, last: jax.Array, count: int) -> jax.Array:
    """Points on the circle between normal vectors: [count, …]. (The length of a mean would be that of no noise.)"""
    angles = jnp.linspace(0, jnp.pi / 2, count)
    return jnp.stack([jnp.cos(angle) * first + jnp.sin(angle) * last for angle in angles])


def between_pairs(encodings: np.ndarray, count: int) -> np.ndarray:
    """Points on the lines between encodings 0 and 1, 2 and 3, …: [at most 10 pairs, count, …].

    Encodings are no draws of a normal distribution; between such, `between` leads.
    """
    pairs = min(10, len(encodings) // 2)
    ends = encodings[: 2 * pairs].reshape(pairs, 2, 1, *encodings.shape[1:])
    part = np.linspace(0, 1, count).reshape(1, count, *[1] * (encodings.ndim - 1))
    return (1 - part) * ends[:, 0] + part * ends[:, 1]


def in_batches(function: Callable, *arrays: Any, size: int = EVALUATION_BATCH) -> Any:
    """Applies a compiled function to batches of one size, as equal as can be, the last filled up by its last row.

    Args:
      function: arrays [size, …] -> tree of [size, …], row by row.
      arrays: [n, …] each.
      size: of a batch, at most.
    Returns: the tree, of numpy arrays [n, …].
    """
    count = len(arrays[0])
    size = -(-count // -(-count // size))
    parts = []
    for first in range(0, count, size):
        rows = np.minimum(np.arange(first, first + size), count - 1)
        parts.append(jax.tree.map(np.asarray, function(*(array[rows] for array in arrays))))
    return jax.tree.map(lambda *each: np.concatenate(each)[:count], *parts)
