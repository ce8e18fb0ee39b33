"""Can a network that only removes noise draw the digit that it is asked for?

A denoising network trains with labels, now and then without; guided samples of the test split's labels go to a
classifier that was trained apart. Process, prediction, weighting and sampler are independent choices. Answer:
figures/samples.png; result.json: how many samples are recognised as asked, their Fréchet distance to the test split
over that of as many training examples, and how far a fast sampler is from a thousand ancestral steps. A network that is
told no labels (--no-conditional) is asked for none: its samples are compared, not recognised.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from .. import data, diffusion, lab, models, plots, tasks
from ..errors import InputError
from ..losses import bits_per_dim
from ..models import DenoisingUNet, DiT

SCHEDULES = {
    "cosine": diffusion.cosine,
    "linear": diffusion.linear,
    "rectified_flow": diffusion.rectified_flow,
    "ddpm": lambda: diffusion.from_betas(diffusion.linear_betas()),
}
WEIGHTINGS = {"simple": diffusion.simple, "snr": diffusion.snr, "min_snr": diffusion.min_snr()}
# Options of `Network` that only one kind has.
KINDS = {"unet": ("multipliers", "blocks", "attention_levels"), "dit": ("depth", "patch_size")}
SAMPLERS = {
    "ancestral": diffusion.ancestral,
    "ancestral_large": partial(diffusion.ancestral, variance=1.0),  # "fixedlarge" in the authors' code
    "ddim": diffusion.ddim,
    "dpm_solver_2m": diffusion.dpm_solver_2m,
    "euler": lambda denoise, schedule: diffusion.euler(diffusion.probability_flow(denoise, schedule)),
    "heun": lambda denoise, schedule: diffusion.heun(diffusion.probability_flow(denoise, schedule)),
}


@dataclass(frozen=True)
class Network:
    """The denoising network; options that only the other kind has are refused."""

    PREFIX: ClassVar[str] = "network."

    kind: Literal["unet", "dit"] = "unet"
    """Kind of the network: U-Net or diffusion transformer."""
    width: Annotated[int, lab.COUNT] = 32
    """Number of channels of the U-Net's finest grid, or of the transformer's tokens."""
    dropout: Annotated[float, lab.PROPER_FRACTION] = 0.1
    """Rate of dropout in training."""
    num_heads: Annotated[int, lab.COUNT] = 1
    """Number of attention heads."""
    multipliers: Annotated[tuple[int, ...], lab.COUNT] = (1, 2)
    """Factors of the width on each level of the U-Net, the finest first."""
    blocks: Annotated[int, lab.COUNT] = 2
    """Number of residual blocks on each level of the U-Net's way down."""
    attention_levels: Annotated[tuple[int, ...], lab.at_least(0)] = (1,)
    """Levels of the U-Net that have attention, besides the middle; 0 is the finest."""
    depth: Annotated[int, lab.COUNT] = 6
    """Number of the transformer's blocks."""
    patch_size: Annotated[int, lab.COUNT] = 2
    """Side of the transformer's patches, in pixels."""


@dataclass(frozen=True)
class Config:
    """Process, network and sampler."""

    run: lab.RunOptions = lab.RunOptions()
    random: lab.RandomOptions = lab.RandomOptions()
    data: lab.DataOptions = lab.DataOptions()
    batch: lab.BatchOptions = lab.BatchOptions(batch_size=128)
    accumulation: lab.AccumulationOptions = lab.AccumulationOptions()
    network: Network = Network(blocks=1)
    optimizer: lab.OptimizerOptions = lab.OptimizerOptions("adam")
    update: lab.UpdateOptions = lab.UpdateOptions(weight_decay=0.0)
    rate: lab.RateOptions = lab.RateOptions()
    # `schedule` is the option of the noise; this group can't have its name.
    decay: lab.ScheduleOptions = lab.ScheduleOptions(warmup_fraction=0.05)
    training: lab.TrainingOptions = lab.TrainingOptions(epochs=100)
    averaging: lab.AveragingOptions = lab.AveragingOptions(0.999)
    judge: lab.JudgeOptions = lab.JudgeOptions()
    precision: lab.PrecisionOptions = lab.PrecisionOptions()
    layout: lab.LayoutOptions = lab.LayoutOptions()
    grid: lab.GridOptions = lab.GridOptions()
    population: lab.SeedsOptions = lab.SeedsOptions()
    rate_schedule: Annotated[str, lab.Choice("schedule", lab.SCHEDULE_NAMES)] = "warmup_cosine"
    """Name of the schedule of the learning rate."""
    schedule: Annotated[str, lab.Choice("noise schedule", SCHEDULES)] = "cosine"
    """Schedule of the noise; ddpm is the paper's table of 1,000 steps, linear its limit."""
    prediction: Annotated[str, lab.Choice("prediction", diffusion.PREDICTIONS)] = "v"
    """Quantity that the network predicts from a noisy image."""
    weighting: Annotated[str, lab.Choice("weighting", WEIGHTINGS)] = "simple"
    """Weighting of the noise levels: equal, or by the signal-to-noise ratio, cut off at 5 for min_snr."""
    conditional: bool = True
    """Class labels as an input of the network."""
    label_dropout: Annotated[float, lab.FRACTION] = 0.1
    """Fraction of the examples that train without their label, if the network is told any."""
    guidance: float = 1.2
    """Scale of classifier-free guidance; 1 for none."""
    rescale: Annotated[float, lab.FRACTION] = 0.0
    """Fraction by which guided predictions are drawn back to the spread of the conditional ones."""
    flip: bool = False
    """Random left-right flips of training images."""
    sampler: Annotated[str, lab.Choice("sampler", SAMPLERS)] = "dpm_solver_2m"
    """Name of the fast sampler; ancestral_large has the larger of the paper's variances."""
    steps: Annotated[int, lab.COUNT] = 20
    """Number of steps of the fast sampler."""
    ancestral_steps: Annotated[int, lab.at_least(0)] = 1000
    """Number of steps of the slow sampler that it is compared with; 0 for no comparison."""
    draws: Annotated[int, lab.COUNT] = 1
    """Number of draws of --samples images that the distances are averaged over."""
    bound_steps: Annotated[int, lab.at_least(2)] = 100
    """Number of steps of the variational bound."""

    @property
    def without_effect(self) -> Mapping[str, str]:
        """Options that have no effect beside the others, each with the reason."""
        told = dict(lab.without_end(self.rate_schedule))
        if not self.conditional:
            told["label_dropout"] = "the network is told no labels"
        if self.guidance == 1:
            told["rescale"] = "guidance is 1, and nothing is guided"
        return told


DEMO = Config()
PRESETS = {
    "smoke": lab.override(
        DEMO,
        preset="smoke",
        epochs=2,
        judge_epochs=1,
        judge="convnet",
        samples=32,
        steps=2,
        ancestral_steps=3,
        bound_steps=3,
        network=Network(width=8, blocks=1),
    ),
    "demo": DEMO,
    "fashion_mnist": lab.override(
        DEMO,
        preset="fashion_mnist",
        data="tfds:fashion_mnist",
        epochs=7,
        clip_norm=1.0,
        judge_epochs=3,
        samples=1000,
        ancestral_steps=0,
        guidance=2.0,
        network=Network(kind="dit", width=128, depth=6, num_heads=4, patch_size=4, dropout=0.0),
    ),
    # Ho et al. 2020, appendix B and their code: 800,000 steps (351 an epoch) of 128 images, flips, a rate of 2e-4 after
    # 5,000 steps of warm-up, no labels, ε, 1,000 ancestral steps of the larger variance.
    # Not theirs: 45,000 of 50,000 images train, times between the 1,000 steps too, variables that validate best,
    # a bound of 100 steps, and distances of 10,000 images by this judge's features.
    "paper": lab.override(
        DEMO,
        preset="paper",
        data="tfds:cifar10",
        epochs=2280,
        learning_rate=2e-4,
        warmup_fraction=5_000 / 800_000,
        final_rate=1.0,
        clip_norm=1.0,
        ema_decay=0.9999,
        flip=True,
        schedule="ddpm",
        prediction="epsilon",
        conditional=False,
        guidance=1.0,
        sampler="ancestral_large",
        steps=1000,
        ancestral_steps=0,
        network=Network(width=128, multipliers=(1, 2, 2, 2), attention_levels=(1,)),
        parallel="data",
        samples=10_000,
        judge="resnet20",
        judge_epochs=50,
    ),
}


def main(config: Config) -> lab.Result:
    """Trains, samples, judges and reports."""
    with lab.open_run("diffusion", config, PRESETS) as run:
        if run.result:
            return run.result
        lab.population_of(config.population, config.grid, config.layout)  # refuses a layout besides a population
        lab.prepare_judge(config.judge, config.data, config.batch.feed)
        training, model = denoising(config)
        classes, shape = len(training.source.classes), training.source.element_spec["image"].shape
        fast = sampling(config, model, training.source, config.sampler, config.steps)
        some = np.arange(2 * classes) % classes
        trained = lab.train_in_stages(
            run,
            training,
            lambda variables: fast(variables, some, 1),
            rate=config.rate,
            shape=config.rate_schedule,
            schedule=config.decay,
            length=config.training,
            averaging=config.averaging,
            population=config.population,
            grid=config.grid,
            title=config.data.data,
        )
        judge = lab.train_judge(run, config.judge, config.data, config.batch.feed)
        labels, bound = judge.examples["label"], bounding(config, model, training, judge.examples)
        samplers = {"": fast}
        if config.ancestral_steps:
            samplers["ancestral_"] = sampling(config, model, training.source, "ancestral", config.ancestral_steps)
        run.display.doing("sampling …")

        def report(variables):
            found = bound(variables)
            for prefix, sampler in samplers.items():
                images = [sampler(variables, labels, 2 + draw) for draw in range(config.draws)]
                drawn = lab.over_seeds([judge.report(each, labels if config.conditional else None) for each in images])
                found |= {f"{prefix}{name}": value for name, value in drawn.items()}
            return found

        values, first = lab.over_seeds([report(variables) for variables in trained]) | judge.references(), trained[0]
        lab.save_arrays(
            run.folder / "samples.npz",
            {
                "samples": fast(first, np.repeat(np.arange(classes), 10), 0).reshape(classes, 10, *shape),
                "classes": training.source.classes if config.conditional else (),
                **paths(config, model, training.source, first),
            },
        )
        return run.finish(values, draw(run.folder), claims(values, config))


def denoising(config: Config) -> tuple[lab.Training, nn.Module]:
    """The task on its data, and the network."""
    check(config)
    source = lab.load(config.data, "train")
    shape, classes = source.element_spec["image"].shape, len(source.classes) if config.conditional else None
    model = make_network(config.network, classes, config.precision.dtype)
    models.count_parameters(model, shape)  # fails here, and not in training, if the images don't fit the network
    task = tasks.denoising(
        model,
        shape,
        schedule=SCHEDULES[config.schedule](),
        prediction=config.prediction,
        weighting=WEIGHTINGS[config.weighting],
        num_classes=classes,
        label_dropout=config.label_dropout,
    )
    training = lab.make_training(
        task,
        source,
        lab.load(config.data, "validation"),
        batch=config.batch,
        optimizer=config.optimizer,
        update=config.update,
        seed=config.random.seed,
        layout=config.layout,
        accumulate=config.accumulation.accumulate,
        augment=lab.make_augmentation(lab.AugmentationOptions(shift=0, flip=config.flip), source),
    )
    return training, model


def make_network(network: Network, classes: int | None, dtype: str) -> nn.Module:
    """The denoising network, for so many classes; None for a network that is told none."""
    shared: dict[str, Any] = {
        "width": network.width,
        "num_heads": network.num_heads,
        "dropout": network.dropout,
        "num_classes": classes,
        "dtype": jnp.dtype(dtype),
    }
    own = {name: getattr(network, name) for name in KINDS[network.kind]}
    return {"unet": DenoisingUNet, "dit": DiT}[network.kind](**own, **shared)


def check(config: Config) -> None:
    """Raises InputError for options that do not go together."""
    for name in (name for kind, names in KINDS.items() if kind != config.network.kind for name in names):
        given, preset = getattr(config.network, name), PRESETS[config.run.preset].network
        if given not in (getattr(preset, name), getattr(Network(), name)):
            raise InputError(f"network.{name} is {given}; a network of the kind {config.network.kind} has none.")
    if config.prediction == "epsilon" and not SCHEDULES[config.schedule]()(1.0).alpha > 0:
        raise InputError(
            f"Sampling begins where {config.schedule} has nothing left of the image, and there the noise says nothing "
            "of it: prediction can't be epsilon; x0, v and flow can."
        )
    _check_guidance(config)


def _check_guidance(config: Config) -> None:
    """Raises: ValueError if it wants, or is to do without, what the network would never be trained with."""
    guidance, dropped = config.guidance, config.label_dropout
    if not config.conditional and guidance != 1:
        raise InputError(
            f"guidance is {guidance}, and a network that is told no class can't be guided towards one: with "
            "--no-conditional give --guidance 1."
        )
    if config.conditional and dropped == 1:
        raise InputError(
            f"label_dropout is {dropped}, and no class would ever be learned: give less than 1 or, for a network that "
            "is told none, --no-conditional."
        )
    if config.conditional and dropped == 0 and guidance != 1:
        raise InputError(
            f"label_dropout is {dropped} and guidance {guidance}, and a network that always sees labels can't be "
            "guided away from having none: give a label_dropout above 0, or --guidance 1."
        )


def denoiser(config: Config, model: nn.Module, variables: Any, labels: jax.Array, classes: int, guidance: float):
    """x_t, t -> the estimate of x_0, in the range of images, for labels if the network is told any."""
    predict = tasks.predictor(model, variables)
    if config.conditional:
        predict = diffusion.guided(predict, labels, classes, guidance, rescale=config.rescale)
    return diffusion.denoiser(
        predict, config.prediction, SCHEDULES[config.schedule](), threshold=lambda x: x.clip(-1, 1)
    )


def sampling(config: Config, model: nn.Module, source: data.Source, sampler: str, steps: int):
    """(variables, labels [n], seed) -> images uint8 [n, …]: all steps of a batch are one compiled program."""
    shape, classes = source.element_spec["image"].shape, len(source.classes)
    schedule, times = SCHEDULES[config.schedule](), diffusion.uniform_times(steps)

    @jax.jit
    def run(variables, labels, keys):
        start, walk = jnp.moveaxis(jax.vmap(jax.random.split)(keys), 1, 0)
        x = schedule(times[0]).sigma * jax.vmap(lambda key: jax.random.normal(key, shape))(start)
        step = SAMPLERS[sampler](denoiser(config, model, variables, labels, classes, config.guidance), schedule)
        return data.to_pixels(diffusion.sample(step, x, times, walk))

    def images(variables, labels, seed):
        keys = jax.random.split(jax.random.fold_in(jax.random.key(config.random.seed), seed), len(labels))
        return lab.in_batches(partial(run, variables), labels, keys)

    return images


def paths(config: Config, model: nn.Module, source: data.Source, variables: Any) -> dict[str, np.ndarray]:
    """How noise becomes an image of each class, and what lies between two noises."""
    shape, classes = source.element_spec["image"].shape, len(source.classes)
    schedule, labels = SCHEDULES[config.schedule](), jnp.arange(classes)
    times = diffusion.uniform_times(config.steps)

    @jax.jit
    def run(variables, x, labels):
        step = diffusion.ddim(denoiser(config, model, variables, labels, classes, config.guidance), schedule)
        return data.to_pixels(diffusion.trajectory(step, schedule(times[0]).sigma * x, times))

    first, last = jax.random.normal(jax.random.fold_in(jax.random.key(config.random.seed), 1), (2, classes, *shape))
    strip = np.asarray(run(variables, first, labels))
    shown = np.unique(np.linspace(0, config.steps, 9).round().astype(int))
    return {
        "strip": np.moveaxis(strip[shown], 0, 1),
        "strip_times": np.asarray(times)[shown],
        "interpolation": np.stack([run(variables, x, labels)[-1] for x in lab.between(first, last, 9)], axis=1),
    }


def bounding(config: Config, model: nn.Module, training: lab.Training, examples: Any):
    """variables -> the variational bound of examples in bits per dimension, for their labels if it is told any.

    Its times, variances and decoder are chosen on as many validation images.
    """
    schedule, classes = SCHEDULES[config.schedule](), len(training.source.classes)
    validation = training.validation.read(np.arange(min(len(examples["label"]), len(training.validation))))

    def of_batch(function, variables, times, images, labels, keys):
        denoise = denoiser(config, model, variables, labels, classes, 1)
        return function(denoise, data.to_signed_unit(images), keys, schedule, times)

    def on(examples, draw, compiled, *arguments):
        keys = jax.random.split(jax.random.fold_in(jax.random.key(config.random.seed), draw), len(examples["label"]))
        return lab.in_batches(partial(compiled, *arguments), examples["image"], examples["label"], keys)

    measure = jax.jit(partial(of_batch, diffusion.profile))

    @jax.jit
    def final(errors, spread, *rest):
        return of_batch(partial(diffusion.variational_bound, errors=errors, spread=spread), *rest).nats

    def bound(variables):
        even = diffusion.bound_times(schedule, config.bound_steps)
        times, spread = diffusion.tightest(on(validation, 0, measure, variables, even), schedule, even)
        errors = on(validation, 1, measure, variables, times).errors.mean(0)
        nats = on(examples, 2, final, errors, spread, variables, times).mean()
        return {
            "test_bits_per_dim": float(bits_per_dim(nats, examples["image"][0].size)),
            "bound_last_time": float(times[-2]),
            "bound_spread": spread,
        }

    return bound


def claims(values: dict[str, float], config: Config) -> list[lab.Claim]:
    """What the numbers decide."""
    of_reference = values["frechet"] / values["reference_frechet"]
    found = [lab.Claim("Fréchet distance over that of training examples", of_reference, "<= 3", of_reference <= 3)]
    if config.conditional:
        part = values["recognised"]
        found.insert(0, lab.Claim("samples recognised as the asked class", part, ">= 0.95", part >= 0.95))
    if config.ancestral_steps:
        ratio = values["frechet"] / values["ancestral_frechet"]
        name = f"Fréchet distance, {config.steps} steps of {config.sampler} over {config.ancestral_steps} ancestral"
        found.append(lab.Claim(name, ratio, "<= 1.1", ratio <= 1.1))
    return found


def draw(folder: Path) -> dict[str, plots.Figure]:
    """The figures, from curves.npz and samples.npz. Rows are of no class where none was asked for."""
    kept = lab.load_arrays(folder / "samples.npz")
    classes, times = [str(name) for name in kept["classes"]], [f"{t:.2f}" for t in kept["strip_times"]]
    rows = "asked class" if classes else ""
    return {
        "loss": lab.draw_curves(folder, {"loss": "weighted squared error"}),
        "samples": plots.image_grid(kept["samples"], classes, ylabel=rows),
        "training": lab.draw_stages(folder),
        "strip": plots.image_grid(kept["strip"], classes, times, xlabel="time t", ylabel=rows),
        "interpolation": plots.image_grid(
            kept["interpolation"], classes, xlabel="from one noise to another", ylabel=rows
        ),
    }


if __name__ == "__main__":
    sys.exit(lab.command(__doc__, Config, main, PRESETS))
