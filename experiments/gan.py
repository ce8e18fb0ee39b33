"""Can a network learn to draw from nothing but another network's attempts to tell its drawings from real ones?

Generator and discriminator take turns within one compiled step. Nothing but the last generator counts, or the moving
average of it; the discriminator is discarded. A classifier that was trained apart says how many of the classes the
samples cover. Answer: figures/samples.png; result.json: "smallest_class", the share of the rarest class,
"modes_covered", how many classes the samples have, and "mode_kl", how far from equally often (nats).
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

from .. import data, plots, train
from ..models import gan
from ._generation import (
    GenerationConfig,
    at_least,
    between,
    draw_curves,
    draw_stages,
    in_batches,
    load_arrays,
    over_seeds,
    save_arrays,
    train_in_stages,
    train_judge,
)
from ._problem import Problem, layout, load
from ._run import Claim, Result, open_run


@dataclass(frozen=True)
class Config(GenerationConfig):
    """The players and their game."""

    network: Literal["dcgan", "resnet"] = "dcgan"
    """Of both players."""
    width: int = 32
    """Channels of the discriminator's finest hidden grid (dcgan) or of all its grids (resnet)."""
    generator_width: int | None = None
    """The same of the generator; by default as many."""
    latent: int = 32
    """Numbers that an image is made of."""
    norm: Literal["batch", "layer", "spectral", "none"] = "none"
    """Normalisation in the discriminator."""
    loss: Literal["non_saturating", "hinge", "wasserstein"] = "non_saturating"
    """What the players play for."""
    penalty: Literal["wgan_gp", "r1"] | None = "r1"
    """Of the discriminator's gradient; wasserstein wants wgan_gp."""
    penalty_weight: float = 2.0
    """What the penalty counts."""
    discriminator_steps: int = 1
    """Updates of the discriminator for each one of the generator; the batch is cut into as many parts."""
    rate_ratio: float = 1.0
    """Learning rate of the discriminator over that of the generator."""
    second_momentum: float | None = None
    """Decay of the second moment for adam, nadam and adamw alone; by default 0.999."""


DEMO = Config(
    preset="demo", epochs=200, learning_rate=4e-4, final_rate=0.1, momentum=0.0, ema_decay=0.998,
)  # fmt: skip
PRESETS = {
    "smoke": replace(
        DEMO, preset="smoke", epochs=2, width=8, latent=4, judge="convnet", judge_epochs=1, samples=32,
    ),
    "demo": DEMO,
    "fashion_mnist": replace(
        DEMO, preset="fashion_mnist", data="tfds:fashion_mnist", epochs=16, batch_size=128, judge_epochs=3,
        samples=1000,
    ),
    # Miyato et al. 2018, hinge loss and ResNets (table 4): Adam(0, 0.9), 5 discriminator steps of 64 images each, and
    # 50,000 updates of the generator, as in the authors' sn_cifar10_unconditional.yml; 140 an epoch. Their rate falls
    # linearly, and they keep no moving average.
    "paper": replace(
        DEMO, preset="paper", data="tfds:cifar10", network="resnet", width=128, generator_width=256, latent=128,
        norm="spectral", loss="hinge", penalty=None, epochs=358, batch_size=320, discriminator_steps=5,
        learning_rate=2e-4, second_momentum=0.9, final_rate=0.0, ema_decay=0.9999, judge="resnet20", judge_epochs=50,
        samples=10_000, parallel="data",
    ),
}  # fmt: skip
ADAMS = ("adam", "nadam", "adamw")
METRICS = {
    "discriminator_loss": "loss of the discriminator",
    "generator_loss": "loss of the generator",
    "real_score": "score of real images",
    "fake_score": "score of generated images",
}


@dataclass(frozen=True, kw_only=True)
class GameProblem(Problem):
    """Two players on a data set."""

    config: Config
    task: train.AdversarialTask

    def make_optimizer(self, learning_rate, hyper):
        """Of both players."""
        return train.players(super().make_optimizer, super().make_optimizer)(learning_rate, hyper)

    def step(self, make_schedule: Callable, *, ema_decay: float | None = None):
        """Updates of the discriminator, then one of the generator."""
        return train.make_adversarial_step(
            self.task, self.make_optimizer, make_schedule, discriminator_steps=self.config.discriminator_steps,
            ema_decay=ema_decay, augment=self.augment, axis_name=self.where.axis_name, gather=self.where.gather,
        )  # fmt: skip


def main(config: Config) -> Result:
    """Plays, samples, judges and reports."""
    with open_run("gan", config, PRESETS[config.preset]) as run:
        if run.result:
            return run.result
        problem, generator = problem_of(config)
        make = jax.jit(lambda variables, z: data.to_pixels(train.sample_generator(generator, variables, z)))
        key = jax.random.fold_in(jax.random.key(config.seed), 1)

        def generate(variables, count):
            z = jax.random.normal(jax.random.fold_in(key, count), (count, config.latent))
            return in_batches(lambda z: make(variables, z), z)

        # The losses of a game say nothing of its samples: there is nothing to choose by, and the last one counts.
        trained = train_in_stages(run, problem, lambda variables: generate(variables, 20), better=None)
        judge = train_judge(run, config)
        reports = [judge.report(generate(variables, len(judge.real))) for variables in trained]
        values = over_seeds(reports) | judge.references()
        images = generate(trained[0], 100)
        ends = jax.random.normal(jax.random.fold_in(key, 0), (2, 10, config.latent))
        path = between(ends[0], ends[1], 9).swapaxes(0, 1).reshape(-1, config.latent)
        save_arrays(
            run.folder / "samples.npz",
            {
                "samples": images.reshape(10, 10, *images.shape[1:]),
                "interpolation": np.asarray(make(trained[0], path)).reshape(10, 9, *images.shape[1:]),
            },
        )
        rarest = min(report["smallest_class"] for report in reports)
        claims = [Claim("share of the rarest class among the samples", rarest, ">= 0.05", rarest >= 0.05)]
        return run.finish(values, draw(run.folder), claims)


def problem_of(config: Config) -> tuple[Problem, nn.Module]:
    """The game on its data, and the generator."""
    at_least(config, width=1, generator_width=1, latent=1, penalty_weight=0, discriminator_steps=1)
    if not 0 < config.rate_ratio < math.inf:
        raise ValueError(f"rate_ratio is {config.rate_ratio}; it must be positive and finite.")
    if config.second_momentum is not None:
        if config.optimizer not in ADAMS:
            raise ValueError(
                f"second_momentum is {config.second_momentum}; it must be none for {config.optimizer}, as only "
                f"{', '.join(ADAMS)} have one here."
            )
        if not 0 <= config.second_momentum < 1:
            raise ValueError(f"second_momentum is {config.second_momentum}; it must be in [0, 1), or none.")
    if config.batch_size % config.discriminator_steps:
        raise ValueError(
            f"batch_size is {config.batch_size}; it must be a multiple of discriminator_steps, "
            f"{config.discriminator_steps}, as each takes a part."
        )
    if config.accumulate != 1:
        raise ValueError("accumulate is of no use to two players; discriminator_steps cuts the batch here.")
    where, source = layout(config), load(config, "train")
    shape = source.element_spec["image"].shape
    shared: dict[str, Any] = {"width": config.width, "axis_name": where.axis_name, "dtype": jnp.dtype(config.dtype)}
    make_generator, make_discriminator = gan.NETWORKS[config.network]
    width: Any = config.width if config.generator_width is None else config.generator_width
    generator = make_generator(image_shape=shape, **shared | {"width": width})
    discriminator = make_discriminator(norm=config.norm, **shared)
    task = train.adversarial(
        generator, discriminator, shape, latent=config.latent, loss=config.loss, penalty=config.penalty,
        penalty_weight=config.penalty_weight,
    )  # fmt: skip
    jax.eval_shape(task.init, jax.random.key(0))  # images that the players can't take must not come out later
    problem = GameProblem(
        config=config, train=source, validation=load(config, "validation"), where=where, task=task,
        fixed={"discriminator_rate_ratio": config.rate_ratio},
        optimizer_options={} if config.second_momentum is None else {"b2": config.second_momentum},
    )  # fmt: skip
    if len(problem.members(config.learning_rate)) > config.population.seeds:
        raise ValueError("The losses of a game can't choose a setting; give the population one, and seeds alone.")
    return problem, generator


def draw(folder: Path) -> dict[str, Figure]:
    """The figures, from curves.npz and samples.npz."""
    kept = load_arrays(folder / "samples.npz")
    return {
        "game": draw_curves(folder, METRICS),
        "samples": plots.image_grid(kept["samples"], width=4.5),
        "training": draw_stages(folder),
        "interpolation": plots.image_grid(kept["interpolation"], xlabel="from one latent to another", width=4.5),
    }


if __name__ == "__main__":
    from .cli import run

    sys.exit(run("gan"))
