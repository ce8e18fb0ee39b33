"""Can a network that only removes noise draw the digit that it is asked for?

A denoising network trains with labels, now and then without; guided samples of the test split's labels go to a
classifier that was trained apart. Process, prediction, weighting and sampler are independent choices. Answer:
figures/samples.png; result.json: how many samples are recognised as asked, their Fréchet distance to the test split
over that of as many training examples, and how far a fast sampler is from a thousand ancestral steps.
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
    label_dropout: float = 0.1
    """Part of the examples that train without their label."""
    guidance: float = 1.2
    """Scale of classifier-free guidance; 1 for none."""
    rescale: float = 0.0
    """How far guided predictions are drawn back to the spread of the conditional ones."""
    sampler: Literal["ancestral", "ddim", "dpm_solver_2m", "euler", "heun"] = "dpm_solver_2m"
    """The fast one."""
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
    # Ho et al. 2020, appendix B: 800,000 steps of 128 images at a rate of 2e-4, no label, ε, 1,000 ancestral steps.
    "paper": replace(
        DEMO, preset="paper", data="tfds:cifar10", epochs=2050, learning_rate=2e-4, final_rate=1.0, clip_norm=1.0,
        ema_decay=0.9999, schedule="ddpm", prediction="epsilon", label_dropout=1.0, guidance=1.0, sampler="ddim",
        steps=50, network=Network(width=128, multipliers=(1, 2, 2, 2), attention_levels=(1,)), parallel="data",
        samples=10_000, judge="resnet20", judge_epochs=50,
    ),
}  # fmt: skip
SCHEDULES = {
    "cosine": diffusion.cosine,
    "linear": diffusion.linear,
    "rectified_flow": diffusion.rectified_flow,
    "ddpm": lambda: diffusion.from_betas(diffusion.linear_betas()),
}
WEIGHTINGS = {"simple": diffusion.simple, "snr": diffusion.snr, "min_snr": diffusion.min_snr()}
SAMPLERS = {
    "ancestral": diffusion.ancestral,
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
                drawn = over_seeds([judge.report(each, labels) for each in images])
                found |= {f"{prefix}{name}": value for name, value in drawn.items()}
            return found

        values, first = over_seeds([report(variables) for variables in trained]) | judge.references(), trained[0]
        save_arrays(
            run.folder / "samples.npz",
            {
                "samples": fast(first, np.repeat(np.arange(classes), 10), 0).reshape(classes, 10, *shape),
                "classes": problem.train.classes,
                **paths(config, model, problem, first),
            },
        )
        return run.finish(values, draw(run.folder), claims(values, config))


def problem_of(config: Config) -> tuple[Problem, nn.Module]:
    """The task on its data, and the network."""
    at_least(config, steps=1, ancestral_steps=0, draws=1, bound_steps=2)
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
    shape, classes = source.element_spec["image"].shape, len(source.classes)
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
    return Problem(config, source, load(config, "validation"), where, task), model


def denoiser(config: Config, model: nn.Module, variables: Any, labels: jax.Array, classes: int, guidance: float):
    """x_t, t -> the estimate of x_0, in the range of images."""
    predict = diffusion.guided(train.predictor(model, variables), labels, classes, guidance, rescale=config.rescale)
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
    """variables -> the variational bound of examples in bits per dimension, conditional on the labels."""
    schedule, classes = SCHEDULES[config.schedule](), len(problem.train.classes)
    if config.schedule == "rectified_flow":
        return lambda variables: {}  # its first time has no image in it, and the bound wants one
    times = diffusion.uniform_log_snr_times(schedule, config.bound_steps)
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
    found = [
        Claim("samples recognised as the asked class", values["recognised"], ">= 0.95", values["recognised"] >= 0.95),
        Claim("Fréchet distance over that of training examples", of_reference, "<= 3", of_reference <= 3),
    ]
    if config.ancestral_steps:
        ratio = values["frechet"] / values["ancestral_frechet"]
        name = f"Fréchet distance, {config.steps} steps of {config.sampler} over {config.ancestral_steps} ancestral"
        found.append(Claim(name, ratio, "<= 1.1", ratio <= 1.1))
    return found


def draw(folder: Path) -> dict[str, Figure]:
    """The figures, from curves.npz and samples.npz."""
    kept = load_arrays(folder / "samples.npz")
    classes, times = [str(name) for name in kept["classes"]], [f"{t:.2f}" for t in kept["strip_times"]]
    return {
        "loss": draw_curves(folder, {"loss": "weighted squared error"}),
        "samples": plots.image_grid(kept["samples"], classes, ylabel="asked class"),
        "training": draw_stages(folder),
        "strip": plots.image_grid(kept["strip"], classes, times, xlabel="time t", ylabel="asked class"),
        "interpolation": plots.image_grid(
            kept["interpolation"], classes, xlabel="from one noise to another", ylabel="asked class"
        ),
    }


if __name__ == "__main__":
    from .cli import run

    sys.exit(run("diffusion"))
