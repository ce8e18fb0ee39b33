"""Can a network that only removes noise draw the digit that it is asked for?

A denoising network trains with labels, now and then without; guided samples of the test split's labels go to a
classifier that was trained apart. Process, prediction, weighting and sampler are independent choices. Answer:
figures/samples.png; result.json: how many samples are recognised as asked, their Fréchet distance to the test split
over that of as many training examples, and how far a fast sampler is from a thousand ancestral steps. A network that is
told no labels (--no-conditional) is asked for none: its samples are compared, not recognised.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

from .. import data, diffusion, models, plots, train
from ..losses import bits_per_dim
from ..models.denoising_unet import DenoisingUNet
from ..models.dit import DiT
from ._augmentation import AugmentationConfig, augmentation
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
class Network:
    """The denoising network. What the other kind has is not used."""

    kind: Literal["unet", "dit"] = "unet"
    """U-Net, or diffusion transformer."""
    width: int = 32
    """Channels of the finest grid, or of the tokens."""
    dropout: float = 0.1
    """Rate, in training."""
    num_heads: int = 1
    """Of the attention."""
    multipliers: tuple[int, ...] = (1, 2)
    """U-Net: of the width, on each level."""
    blocks: int = 2
    """U-Net: residual blocks of each level on the way down."""
    attention_levels: tuple[int, ...] = (1,)
    """U-Net: where there is attention besides the middle; 0 is the finest level."""
    depth: int = 6
    """Transformer: blocks."""
    patch_size: int = 2
    """Transformer: pixels a side."""


@dataclass(frozen=True)
class Config(GenerationConfig):
    """Process, network and sampler."""

    network: Network = field(default_factory=Network)
    """What predicts."""
    schedule: Literal["cosine", "linear", "rectified_flow", "ddpm"] = "cosine"
    """Of the noise; ddpm is the paper's table of 1,000 steps, linear its limit."""
    prediction: Literal["x0", "epsilon", "v", "flow"] = "v"
    """What the network says of a noisy image."""
    weighting: Literal["simple", "snr", "min_snr"] = "simple"
    """Of the noise levels: equal, or by the signal-to-noise ratio, cut off at 5."""
    conditional: bool = True
    """Whether it is told the class."""
    label_dropout: float = 0.1
    """Part of the examples that train without their label, if it is told any."""
    guidance: float = 1.2
    """Scale of classifier-free guidance; 1 for none."""
    rescale: float = 0.0
    """How far guided predictions are drawn back to the spread of the conditional ones."""
    flip: bool = False
    """Augment with left-right flips."""
    sampler: Literal["ancestral", "ancestral_large", "ddim", "dpm_solver_2m", "euler", "heun"] = "dpm_solver_2m"
    """The fast one; ancestral_large has the larger of the paper's variances."""
    steps: int = 20
    """Of the fast sampler."""
    ancestral_steps: int = 1000
    """Of the slow one that it is compared with; 0 for no comparison."""
    draws: int = 1
    """How many times `samples` images the distances are averaged over."""
    bound_steps: int = 100
    """Of the variational bound."""


DEMO = Config(preset="demo", batch_size=128, epochs=100, ema_decay=0.999, network=Network(blocks=1))
PRESETS = {
    "smoke": replace(
        DEMO, preset="smoke", epochs=2, judge_epochs=1, judge="convnet", samples=32, steps=2, ancestral_steps=3,
        bound_steps=3, network=Network(width=8, blocks=1),
    ),
    "demo": DEMO,
    "fashion_mnist": replace(
        DEMO, preset="fashion_mnist", data="tfds:fashion_mnist", epochs=7, clip_norm=1.0, judge_epochs=3, samples=1000,
        ancestral_steps=0, guidance=2.0,
        network=Network(kind="dit", width=128, depth=6, num_heads=4, patch_size=4, dropout=0.0),
    ),
    # Ho et al. 2020, appendix B and their code: 800,000 steps (351 an epoch) of 128 images, flips, a rate of 2e-4 after
    # 5,000 steps of warm-up, no labels, ε, 1,000 ancestral steps of the larger variance.
    # Not theirs: 45,000 of 50,000 images train, times between the 1,000 steps too, variables that validate best,
    # a bound of 100 steps, and distances of 10,000 images by this judge's features.
    "paper": replace(
        DEMO, preset="paper", data="tfds:cifar10", epochs=2280, learning_rate=2e-4, warmup_fraction=5_000 / 800_000,
        final_rate=1.0, clip_norm=1.0, ema_decay=0.9999, flip=True, schedule="ddpm", prediction="epsilon",
        conditional=False, guidance=1.0, sampler="ancestral_large", steps=1000, ancestral_steps=0,
        network=Network(width=128, multipliers=(1, 2, 2, 2), attention_levels=(1,)), parallel="data",
        samples=10_000, judge="resnet20", judge_epochs=50,
    ),
}  # fmt: skip
SCHEDULES = {
    "cosine": diffusion.cosine,
    "linear": diffusion.linear,
    "rectified_flow": diffusion.rectified_flow,
    "ddpm": lambda: diffusion.from_betas(diffusion.linear_betas()),
}
# Between which times the bound's steps are equal in log-SNR; the first begins at 1 all the same, and one more leads to
# 0. Of a rectified flow, λ is −∞ at time 1; at 0.01 it has the noise of the DDPM's first step.
BOUND_ENDS = {
    "cosine": (1.0, 1e-3),
    "linear": (1.0, 1e-3),
    "rectified_flow": (0.999, 1e-2),
    "ddpm": (1.0, 1e-3),
}
WEIGHTINGS = {"simple": diffusion.simple, "snr": diffusion.snr, "min_snr": diffusion.min_snr()}
SAMPLERS = {
    "ancestral": diffusion.ancestral,
    "ancestral_large": partial(diffusion.ancestral, variance=1.0),  # "fixedlarge" in the authors' code
    "ddim": diffusion.ddim,
    "dpm_solver_2m": diffusion.dpm_solver_2m,
    "euler": lambda denoise, schedule: diffusion.euler(diffusion.probability_flow(denoise, schedule)),
    "heun": lambda denoise, schedule: diffusion.heun(diffusion.probability_flow(denoise, schedule)),
}


def main(config: Config) -> Result:
    """Trains, samples, judges and reports."""
    with open_run("diffusion", config, PRESETS[config.preset]) as run:
        if run.result:
            return run.result
        problem, model = problem_of(config)
        classes, shape = len(problem.train.classes), problem.train.element_spec["image"].shape
        fast = sampling(config, model, problem, config.sampler, config.steps)
        some = np.arange(2 * classes) % classes
        trained = train_in_stages(run, problem, lambda variables: fast(variables, some, 1))
        judge = train_judge(run, config)
        labels, bound = judge.examples["label"], bounding(config, model, problem, judge.examples)
        samplers = {"": fast}
        if config.ancestral_steps:
            samplers["ancestral_"] = sampling(config, model, problem, "ancestral", config.ancestral_steps)
        run.journal.say("Sampling …")

        def report(variables):
            found = bound(variables)
            for prefix, sampler in samplers.items():
                images = [sampler(variables, labels, 2 + draw) for draw in range(config.draws)]
                drawn = over_seeds([judge.report(each, labels if config.conditional else None) for each in images])
                found |= {f"{prefix}{name}": value for name, value in drawn.items()}
            return found

        values, first = over_seeds([report(variables) for variables in trained]) | judge.references(), trained[0]
        save_arrays(
            run.folder / "samples.npz",
            {
                "samples": fast(first, np.repeat(np.arange(classes), 10), 0).reshape(classes, 10, *shape),
                "classes": problem.train.classes if config.conditional else (),
                **paths(config, model, problem, first),
            },
        )
        return run.finish(values, draw(run.folder), claims(values, config))


def problem_of(config: Config) -> tuple[Problem, nn.Module]:
    """The task on its data, and the network."""
    at_least(config, steps=1, ancestral_steps=0, draws=1, bound_steps=2)
    _check_guidance(config)
    if config.prediction == "epsilon" and not SCHEDULES[config.schedule]()(1.0).alpha > 0:
        raise ValueError(
            f"Sampling begins where {config.schedule} has nothing left of the image, and there the noise says nothing "
            "of it: prediction can't be epsilon; x0, v and flow can."
        )
    if not 0 <= config.network.dropout < 1:
        raise ValueError(f"network.dropout is {config.network.dropout}; it must be in [0, 1).")
    if not 0 <= config.rescale <= 1:
        raise ValueError(f"rescale is {config.rescale}; it must be in [0, 1].")
    where, source, shared = layout(config), load(config, "train"), config.network
    shape, classes = source.element_spec["image"].shape, len(source.classes) if config.conditional else None
    fields: dict[str, Any] = {
        "width": shared.width, "num_heads": shared.num_heads, "dropout": shared.dropout, "num_classes": classes,
        "dtype": jnp.dtype(config.dtype),
    }  # fmt: skip
    model = {
        "unet": lambda: DenoisingUNet(
            multipliers=shared.multipliers, blocks=shared.blocks, attention_levels=shared.attention_levels, **fields
        ),
        "dit": lambda: DiT(depth=shared.depth, patch_size=shared.patch_size, **fields),
    }[shared.kind]()
    models.count_parameters(model, shape)  # images that the network can't take must not come out after the data
    task = train.denoising(
        model, shape, schedule=SCHEDULES[config.schedule](), prediction=config.prediction,
        weighting=WEIGHTINGS[config.weighting], num_classes=classes, label_dropout=config.label_dropout,
    )  # fmt: skip
    augment = augmentation(AugmentationConfig(shift=0, flip=config.flip), source)
    return Problem(config, source, load(config, "validation"), where, task, augment), model


def _check_guidance(config: Config) -> None:
    """Raises: ValueError if it wants, or is to do without, what the network would never be trained with."""
    guidance, dropped = config.guidance, config.label_dropout
    if not config.conditional and guidance != 1:
        raise ValueError(
            f"guidance is {guidance}, and a network that is told no class can't be guided towards one: with "
            "--no-conditional give --guidance 1."
        )
    if config.conditional and dropped == 1:
        raise ValueError(
            f"label_dropout is {dropped}, and no class would ever be learned: give less than 1 or, for a network that "
            "is told none, --no-conditional."
        )
    if config.conditional and dropped == 0 and guidance != 1:
        raise ValueError(
            f"label_dropout is {dropped} and guidance {guidance}, and a network that always sees labels can't be "
            "guided away from having none: give a label_dropout above 0, or --guidance 1."
        )


def denoiser(config: Config, model: nn.Module, variables: Any, labels: jax.Array, classes: int, guidance: float):
    """x_t, t -> the estimate of x_0, in the range of images, for labels if the network is told any."""
    predict = train.predictor(model, variables)
    if config.conditional:
        predict = diffusion.guided(predict, labels, classes, guidance, rescale=config.rescale)
    return diffusion.denoiser(
        predict, config.prediction, SCHEDULES[config.schedule](), threshold=lambda x: x.clip(-1, 1)
    )  # fmt: skip


def sampling(config: Config, model: nn.Module, problem: Problem, sampler: str, steps: int):
    """(variables, labels [n], seed) -> images uint8 [n, …]: all steps of a batch are one compiled program."""
    shape, classes = problem.train.element_spec["image"].shape, len(problem.train.classes)
    schedule, times = SCHEDULES[config.schedule](), diffusion.uniform_times(steps)

    @jax.jit
    def run(variables, labels, keys):
        start, walk = jnp.moveaxis(jax.vmap(jax.random.split)(keys), 1, 0)
        x = schedule(times[0]).sigma * jax.vmap(lambda key: jax.random.normal(key, shape))(start)
        step = SAMPLERS[sampler](denoiser(config, model, variables, labels, classes, config.guidance), schedule)
        return data.to_pixels(diffusion.sample(step, x, times, walk))

    def images(variables, labels, seed):
        keys = jax.random.split(jax.random.fold_in(jax.random.key(config.seed), seed), len(labels))
        return in_batches(partial(run, variables), labels, keys)

    return images


def paths(config: Config, model: nn.Module, problem: Problem, variables: Any) -> dict[str, np.ndarray]:
    """How noise becomes an image of each class, and what lies between two noises."""
    shape, classes = problem.train.element_spec["image"].shape, len(problem.train.classes)
    schedule, labels = SCHEDULES[config.schedule](), jnp.arange(classes)
    times = diffusion.uniform_times(config.steps)

    @jax.jit
    def run(variables, x, labels):
        step = diffusion.ddim(denoiser(config, model, variables, labels, classes, config.guidance), schedule)
        return data.to_pixels(diffusion.trajectory(step, schedule(times[0]).sigma * x, times))

    first, last = jax.random.normal(jax.random.fold_in(jax.random.key(config.seed), 1), (2, classes, *shape))
    strip = np.asarray(run(variables, first, labels))
    shown = np.unique(np.linspace(0, config.steps, 9).round().astype(int))
    return {
        "strip": np.moveaxis(strip[shown], 0, 1),
        "strip_times": np.asarray(times)[shown],
        "interpolation": np.stack([run(variables, x, labels)[-1] for x in between(first, last, 9)], axis=1),
    }


def bounding(config: Config, model: nn.Module, problem: Problem, examples: Any):
    """variables -> the variational bound of examples in bits per dimension, for their labels if it is told any."""
    schedule, classes = SCHEDULES[config.schedule](), len(problem.train.classes)
    times = diffusion.uniform_log_snr_times(schedule, config.bound_steps, *BOUND_ENDS[config.schedule]).at[0].set(1.0)
    keys = jax.random.split(jax.random.key(config.seed), len(examples["label"]))

    @jax.jit
    def nats(variables, images, labels, keys):
        denoise = denoiser(config, model, variables, labels, classes, 1)
        return diffusion.variational_bound(denoise, data.to_unit(images), keys, schedule, times).nats

    def bound(variables):
        found = in_batches(partial(nats, variables), examples["image"], examples["label"], keys)
        return {"test_bits_per_dim": float(bits_per_dim(found.mean(), examples["image"][0].size))}

    return bound


def claims(values: dict[str, float], config: Config) -> list[Claim]:
    """What the numbers decide."""
    of_reference = values["frechet"] / values["reference_frechet"]
    found = [Claim("Fréchet distance over that of training examples", of_reference, "<= 3", of_reference <= 3)]
    if config.conditional:
        part = values["recognised"]
        found.insert(0, Claim("samples recognised as the asked class", part, ">= 0.95", part >= 0.95))
    if config.ancestral_steps:
        ratio = values["frechet"] / values["ancestral_frechet"]
        name = f"Fréchet distance, {config.steps} steps of {config.sampler} over {config.ancestral_steps} ancestral"
        found.append(Claim(name, ratio, "<= 1.1", ratio <= 1.1))
    return found


def draw(folder: Path) -> dict[str, Figure]:
    """The figures, from curves.npz and samples.npz. Rows are of no class where none was asked for."""
    kept = load_arrays(folder / "samples.npz")
    classes, times = [str(name) for name in kept["classes"]], [f"{t:.2f}" for t in kept["strip_times"]]
    rows = "asked class" if classes else ""
    return {
        "loss": draw_curves(folder, {"loss": "weighted squared error"}),
        "samples": plots.image_grid(kept["samples"], classes, ylabel=rows),
        "training": draw_stages(folder),
        "strip": plots.image_grid(kept["strip"], classes, times, xlabel="time t", ylabel=rows),
        "interpolation": plots.image_grid(
            kept["interpolation"], classes, xlabel="from one noise to another", ylabel=rows
        ),
    }


if __name__ == "__main__":
    from .cli import run

    sys.exit(run("diffusion"))
