"""Can a network learn to draw from nothing but another network's attempts to tell its drawings from real ones?

Generator and discriminator take turns within one compiled step. Nothing but the last generator counts, or the moving
average of it; the discriminator is discarded. A classifier that was trained apart says how many of the classes the
samples cover. Answer: figures/samples.png; result.json: "smallest_class", the share of the rarest class,
"modes_covered", how many classes the samples have, and "mode_kl", how far from equally often (nats).
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from .. import data, lab, losses, plots, tasks, train
from ..errors import InputError
from ..models.generative.gan import NETWORKS


@dataclass(frozen=True)
class Config:
    """The players and their game."""

    # The losses of a game can't choose a setting, and discriminator_steps cuts the batch.
    REMOVED: ClassVar[Mapping[str, Any]] = {**lab.NO_GRID, "accumulate": 1}

    run: lab.RunOptions = lab.RunOptions()
    random: lab.RandomOptions = lab.RandomOptions()
    data: lab.DataOptions = lab.DataOptions()
    batch: lab.BatchOptions = lab.BatchOptions()
    optimizer: lab.OptimizerOptions = lab.OptimizerOptions("adam")
    update: lab.UpdateOptions = lab.UpdateOptions(momentum=0.0, weight_decay=0.0)
    rate: lab.RateOptions = lab.RateOptions(4e-4)
    shape: lab.ShapeOptions = lab.ShapeOptions()
    schedule: lab.ScheduleOptions = lab.ScheduleOptions(warmup_fraction=0.05, final_rate=0.1)
    training: lab.TrainingOptions = lab.TrainingOptions(epochs=200)
    averaging: lab.AveragingOptions = lab.AveragingOptions(0.998)
    judge: lab.JudgeOptions = lab.JudgeOptions()
    precision: lab.PrecisionOptions = lab.PrecisionOptions()
    layout: lab.LayoutOptions = lab.LayoutOptions()
    population: lab.SeedsOptions = lab.SeedsOptions()
    network: Annotated[str, lab.Choice("network", NETWORKS)] = "dcgan"
    """Kind of both players."""
    width: Annotated[int, lab.COUNT] = 32
    """Number of channels of the discriminator's finest hidden grid (dcgan) or of all its grids (resnet)."""
    generator_width: Annotated[int | None, lab.COUNT] = None
    """Number of channels of the generator's grids; by default that of the discriminator."""
    latent: Annotated[int, lab.COUNT] = 32
    """Number of latent variables from which an image is made."""
    norm: Literal["batch", "layer", "spectral", "none"] = "none"
    """Normalization in the discriminator."""
    loss: Annotated[str, lab.Choice("loss", losses.ADVERSARIAL_LOSSES)] = "non_saturating"
    """Loss that the players play for."""
    penalty: Annotated[str | None, lab.Choice("penalty", losses.GRADIENT_PENALTIES)] = "r1"
    """Penalty of the discriminator's gradient; wasserstein wants wgan_gp."""
    penalty_weight: Annotated[float, lab.NON_NEGATIVE] = 2.0
    """Weight of the penalty in the discriminator's loss."""
    discriminator_steps: Annotated[int, lab.COUNT] = 1
    """Number of the discriminator's updates for each of the generator; the batch is cut into as many parts."""
    rate_ratio: Annotated[float, lab.POSITIVE] = 1.0
    """Ratio of the discriminator's learning rate to the generator's."""
    second_momentum: Annotated[float | None, lab.PROPER_FRACTION] = None
    """Decay rate of the second moment, for adam, nadam and adamw alone; by default 0.999."""

    @property
    def without_effect(self) -> Mapping[str, str]:
        """The weight of a penalty that there is not."""
        return {"penalty_weight": "there is no penalty"} if self.penalty is None else {}


DEMO = Config()
PRESETS = {
    "smoke": lab.override(
        DEMO, preset="smoke", epochs=2, width=8, latent=4, judge="convnet", judge_epochs=1, samples=32
    ),
    "demo": DEMO,
    "fashion_mnist": lab.override(
        DEMO,
        preset="fashion_mnist",
        data="tfds:fashion_mnist",
        epochs=16,
        batch_size=128,
        judge_epochs=3,
        samples=1000,
    ),
    # Miyato et al. 2018, hinge loss and ResNets (table 4): Adam(0, 0.9), 5 discriminator steps of 64 images each, and
    # 50,000 updates of the generator, as in the authors' sn_cifar10_unconditional.yml; 140 an epoch. Their rate falls
    # linearly, and they keep no moving average.
    "paper": lab.override(
        DEMO,
        preset="paper",
        data="tfds:cifar10",
        network="resnet",
        width=128,
        generator_width=256,
        latent=128,
        norm="spectral",
        loss="hinge",
        penalty=None,
        epochs=358,
        batch_size=320,
        discriminator_steps=5,
        learning_rate=2e-4,
        second_momentum=0.9,
        final_rate=0.0,
        ema_decay=0.9999,
        judge="resnet20",
        judge_epochs=50,
        samples=10_000,
        parallel="data",
    ),
}
ADAMS = ("adam", "nadam", "adamw")
METRICS = {
    "discriminator_loss": "loss of the discriminator",
    "generator_loss": "loss of the generator",
    "real_score": "score of real images",
    "fake_score": "score of generated images",
}


def main(config: Config) -> lab.Result:
    """Plays, samples, judges and reports."""
    with lab.open_run("gan", config, PRESETS) as run:
        if run.result:
            return run.result
        lab.population_of(config.population, layout=config.layout)  # refuses a layout besides a population
        lab.prepare_judge(config.judge, config.data, config.batch.feed)
        training, generator = play(config)
        make = jax.jit(lambda variables, z: data.to_pixels(tasks.sample_generator(generator, variables, z)))
        key = jax.random.fold_in(jax.random.key(config.random.seed), 1)

        def generate(variables, count):
            z = jax.random.normal(jax.random.fold_in(key, count), (count, config.latent))
            return lab.in_batches(lambda z: make(variables, z), z)

        trained = lab.train_in_stages(
            run,
            training,
            lambda variables: generate(variables, 20),
            rate=config.rate,
            shape=config.shape.schedule,
            schedule=config.schedule,
            length=config.training,
            averaging=config.averaging,
            population=config.population,
            better=None,  # the losses of a game say nothing of its samples, so the last variables count
            title=config.data.data,
        )
        judge = lab.train_judge(run, config.judge, config.data, config.batch.feed)
        reports = [judge.report(generate(variables, len(judge.real))) for variables in trained]
        values = lab.over_seeds(reports) | judge.references()
        images = generate(trained[0], 100)
        ends = jax.random.normal(jax.random.fold_in(key, 0), (2, 10, config.latent))
        path = lab.between(ends[0], ends[1], 9).swapaxes(0, 1).reshape(-1, config.latent)
        lab.save_arrays(
            run.folder / "samples.npz",
            {
                "samples": images.reshape(10, 10, *images.shape[1:]),
                "interpolation": np.asarray(make(trained[0], path)).reshape(10, 9, *images.shape[1:]),
            },
        )
        rarest = min(report["smallest_class"] for report in reports)
        claims = [lab.Claim("share of the rarest class among the samples", rarest, ">= 0.05", rarest >= 0.05)]
        return run.finish(values, draw(run.folder), claims)


def play(config: Config) -> tuple[lab.Training, nn.Module]:
    """The game on its data, and the generator."""
    check(config)
    source, axis_name = lab.load(config.data, "train"), train.make_layout(config.layout.parallel).axis_name
    shape = source.element_spec["image"].shape
    shared: dict[str, Any] = {"width": config.width, "axis_name": axis_name, "dtype": jnp.dtype(config.precision.dtype)}
    make_generator, make_discriminator = NETWORKS[config.network]
    own: dict[str, Any] = {**shared, "width": config.generator_width or config.width}
    generator = make_generator(image_shape=shape, **own)
    discriminator = make_discriminator(norm=config.norm, **shared)
    game = tasks.adversarial(
        generator,
        discriminator,
        shape,
        latent=config.latent,
        loss=config.loss,
        penalty=config.penalty,
        penalty_weight=config.penalty_weight,
    )
    jax.eval_shape(game.init, jax.random.key(0))  # fails here, and not in training, if the images don't fit the players
    second = {} if config.second_momentum is None else {"b2": config.second_momentum}
    one = lab.make_optimizer(config.optimizer, config.update, **second)
    training = lab.make_training(
        game,
        source,
        lab.load(config.data, "validation"),
        batch=config.batch,
        optimizer=config.optimizer,
        update=config.update,
        seed=config.random.seed,
        layout=config.layout,
        hyper={"discriminator_rate_ratio": config.rate_ratio},
    )
    make_step = partial(train.make_game_step, discriminator_steps=config.discriminator_steps)
    return replace(training, make_optimizer=train.players(one, one), make_step=make_step), generator


def check(config: Config) -> None:
    """Raises InputError for options that do not go together."""
    if config.second_momentum is not None and config.optimizer.optimizer not in ADAMS:
        raise InputError(
            f"second_momentum is {config.second_momentum}; {config.optimizer.optimizer} has none, only "
            f"{', '.join(ADAMS)} do."
        )
    if config.batch.batch_size % config.discriminator_steps:
        raise InputError(
            f"batch_size is {config.batch.batch_size}; it must be a multiple of discriminator_steps, "
            f"{config.discriminator_steps}, as each step takes a part."
        )


def draw(folder: Path) -> dict[str, plots.Figure]:
    """The figures, from curves.npz and samples.npz."""
    kept = lab.load_arrays(folder / "samples.npz")
    return {
        "game": lab.draw_curves(folder, METRICS),
        "samples": plots.image_grid(kept["samples"], width=4.5),
        "training": lab.draw_stages(folder),
        "interpolation": plots.image_grid(kept["interpolation"], xlabel="from one latent to another", width=4.5),
    }


if __name__ == "__main__":
    sys.exit(lab.command(__doc__, Config, main, PRESETS))
