"""What does each regularisation technique do to the gap between training and test error?

One network on a small training set, all techniques and seeds as one population: dropout, weight decay, augmentation and
MixUp differ from plain training by hyperparameters alone. Early stopping is the plain network at its best validation
loss, test-time augmentation the plain network with augmented copies voting (which it has never seen in training: so the
augmented network with voters is there too); "all" has everything. Answer:
figures/regularization.png and table.csv, means and standard deviations over the seeds, in the order of the test error.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

from .. import data, plots, train
from ._augmentation import of_images
from ._classification import ClassificationConfig, ClassificationProblem
from ._members import fit_members
from ._population import PopulationConfig, read_csv, write_csv
from ._problem import EVALUATION_BATCH, load, require_population_of_seeds, warmup_cosine
from ._run import Claim, Result, open_run


@dataclass(frozen=True)
class Config(ClassificationConfig):
    """The strengths of dropout, weight decay, augmentation and MixUp are those that their techniques have."""

    train_size: int = 200
    """How many training examples."""
    epochs: int = 250
    """Passes through them."""
    learning_rate: float = 0.03
    """Peak rate, reached after a tenth of the steps and followed by a cosine."""


DEMO = Config(
    preset="demo", model="convnet", batch_size=50, dropout=0.5, weight_decay=5e-3, mixup=0.4, shift=1, rotate=10.0,
    zoom=0.1, tta=8, population=PopulationConfig(seeds=5),
)  # fmt: skip
PRESETS = {
    "smoke": replace(DEMO, preset="smoke", epochs=3, tta=2, population=PopulationConfig(seeds=2)),
    "demo": DEMO,
    "paper": Config(
        preset="paper", data="tfds:cifar10", train_size=5000, model="wrn16_4", epochs=200, learning_rate=0.1,
        batch_size=128, dropout=0.3, weight_decay=5e-4, mixup=1.0, shift=4, flip=True, cutout=8, tta=8,
        population=PopulationConfig(seeds=5),
    ),
}  # fmt: skip
COLUMNS = ("technique", "seed", "train_error", "validation_error", "test_error")


def main(config: Config) -> Result:
    """Trains the population, measures every technique, tabulates and draws."""
    with open_run("regularization", config, PRESETS[config.preset]) as run:
        if run.result:
            return run.result
        require_population_of_seeds(config)
        problem = small_problem(config)
        techniques = settings(config)
        seeds = problem.members(config.learning_rate).seeds
        members = train.Members(
            np.tile(seeds, len(techniques)),
            {
                name: np.repeat([setting[name] for setting in techniques.values()], len(seeds)).astype(np.float64)
                for name in techniques["none"]
            },
        )
        trained = fit_members(
            run, problem, members, warmup_cosine(problem, config.epochs), config.epochs,
             name="members", better=lambda validation: (-validation["loss"],),
        )  # fmt: skip
        trained.require_all()
        write_csv(run.folder / "table.csv", COLUMNS, measured(trained, list(techniques), list(seeds)))
        values, claims = conclude(run.folder)
        return run.finish(values, draw(run.folder), claims)


def settings(config: Config) -> dict[str, dict[str, float]]:
    """technique -> its hyperparameters: plain training, one technique at a time, all together.

    Raises: ValueError for a strength that is 0, where there would be nothing to see, or out of range: what is traced is
      not checked below.
    """
    plain = {"learning_rate": config.learning_rate, "momentum": config.momentum}
    plain |= dict.fromkeys(("dropout", "weight_decay", "augment", "mixup"), 0.0)
    strengths = {
        "dropout": {"dropout": config.dropout or 0.0},
        "weight decay": {"weight_decay": config.weight_decay},
        "augmentation": {"augment": 1.0},
        "MixUp": {"mixup": config.mixup},
    }
    for name, values in strengths.items():
        for value in values.values():
            if not value > 0:
                raise ValueError(f"The strength of {name} is {value:g}; give one above 0 to see its effect.")
    if config.dropout is not None and config.dropout >= 1:
        raise ValueError(f"The strength of dropout is {config.dropout:g}; it must be less than 1.")
    every = {name: value for values in strengths.values() for name, value in values.items()}
    return {"none": plain} | {name: plain | values for name, values in strengths.items()} | {"all": plain | every}


def small_problem(config: Config) -> ClassificationProblem:
    """The config's problem with a small training split, and with everything regularising read from the hyperparameters.

    Raises: ValueError if nothing augments, no copies vote, or images are to be mixed otherwise than by MixUp.
    """
    if config.cutmix:
        raise ValueError(f"cutmix is {config.cutmix}; examples are mixed by MixUp here, give --mixup alone.")
    problem = ClassificationProblem.of(replace(config, mixup=0.0))
    change = of_images(config, problem.train)
    if change is None or not config.tta:
        raise ValueError("Augmentation and test-time augmentation need --shift, --rotate or another, and --tta.")
    classes = len(problem.train.classes)

    def augmented(key, batch, hyper):
        image_key, mix_key = jax.random.split(key)
        changed = jnp.where(hyper["augment"] > 0, change(image_key, batch)["image"], batch["image"])
        return data.mixing.mixup(mix_key, {**batch, "image": changed}, alpha=hyper["mixup"], num_classes=classes)

    shape = problem.train.element_spec["image"].shape
    task = train.classification(
        problem.model, shape, preprocess=problem.preprocess, label_smoothing=config.label_smoothing,
        traced_fields=("dropout",),
    )  # fmt: skip
    return replace(problem, train=data.subset(problem.train, config.train_size), task=task, augment=augmented)


def measured(trained, techniques: list[str], seeds: list[int]):
    """Rows of table.csv: the errors of every technique and seed; the test split is read once for each technique."""
    problem, fitted, where = trained.problem, trained.fitted, trained.where
    splits = {"train": problem.train, "validation": problem.validation, "test": load(problem.config, "test")}

    def errors(variables, voting: bool) -> Mapping[str, np.ndarray]:
        task, placed = problem.test_task() if voting else problem.task, where.place(variables)
        of_split = {
            name: train.population_evaluator(task, source, where, batch_size=EVALUATION_BATCH)(placed)["accuracy"]
            for name, source in splits.items()
        }
        return {name: (1 - accuracy).reshape(len(techniques), len(seeds)) for name, accuracy in of_split.items()}

    last, best = fitted.last.state.variables, fitted.best
    at_end, stopped, voted, both = errors(last, False), errors(best, False), errors(last, True), errors(best, True)
    table = {name: (at_end, i) for i, name in enumerate(techniques) if name != "all"}
    table |= {
        "early stopping": (stopped, 0),
        "test-time augmentation": (voted, 0),
        "augmentation in both": (voted, techniques.index("augmentation")),
        "all": (both, techniques.index("all")),
    }
    for name, (of_split, row) in table.items():
        for column, seed in enumerate(seeds):
            yield (name, seed, *(of_split[split][row, column] for split in splits))


def conclude(folder: Path) -> tuple[dict[str, float], list[Claim]]:
    """The numbers and claims of table.csv."""
    values = {}
    for technique, errors in by_technique(folder).items():
        name = technique.replace(" ", "_").replace("-", "_")
        for split, each in errors.items():
            values |= {f"{name}_{split}_error": float(each.mean()), f"{name}_{split}_error_std": float(each.std())}
    ratio = values["all_test_error"] / values["none_test_error"]
    gaps = {name: values[f"{name}_test_error"] - values[f"{name}_train_error"] for name in ("none", "all")}
    return values, [
        Claim("test error, all techniques over none", ratio, "< 0.9", ratio < 0.9),
        Claim("gap between test and training error, all minus none", gaps["all"] - gaps["none"], "< 0",
              gaps["all"] < gaps["none"]),
    ]  # fmt: skip


def draw(folder: Path) -> dict[str, Figure]:
    """The figure, from table.csv."""
    errors = by_technique(folder)
    splits = {"training": "train", "test": "test"}
    return {
        "regularization": plots.gaps(
            {name: {label: 100 * each[split] for label, split in splits.items()} for name, each in errors.items()}
        )
    }


def by_technique(folder: Path) -> dict[str, dict[str, np.ndarray]]:
    """technique -> split -> errors [seeds]."""
    table = read_csv(folder / "table.csv")
    return {
        name: {split: table[f"{split}_error"][table["technique"] == name] for split in ("train", "validation", "test")}
        for name in dict.fromkeys(table["technique"].tolist())
    }


if __name__ == "__main__":
    from .cli import run

    sys.exit(run("regularization"))
