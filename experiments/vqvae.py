"""How few words of a learned vocabulary does an image need?

An encoder turns an image into a small grid of codes, each an entry of a codebook, and a decoder turns it back. Answer:
figures/reconstructions.png; result.json: "test_reconstruction" (mean squared error of images in −1 … 1), how many codes
are used, the bits that an image takes, and how many reconstructions a classifier recognizes as the original's class
("recognised"), of the same images that it recognizes themselves ("recognised_originals").
figures/interpolation.png: what the codes between two images mean.
"""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from .. import data, lab, models, plots, tasks, train
from ..models import VQVAE


@dataclass(frozen=True)
class Config:
    """The autoencoder and its codebook."""

    run: lab.RunOptions = lab.RunOptions()
    random: lab.RandomOptions = lab.RandomOptions()
    data: lab.DataOptions = lab.DataOptions()
    features: Annotated[int, lab.COUNT] = 32
    """Number of channels of encoder and decoder."""
    blocks: Annotated[int, lab.at_least(0)] = 1
    """Number of residual blocks of the encoder, and of the decoder."""
    halvings: Annotated[int, lab.at_least(0)] = 1
    """Number of times the grid is halved: 2 makes one code of 4×4 pixels."""
    num_codes: Annotated[int, lab.COUNT] = 64
    """Number of codes in the codebook."""
    code_dim: Annotated[int, lab.COUNT] = 16
    """Number of entries of a code."""
    commitment: Annotated[float, lab.NON_NEGATIVE] = 0.25
    """Weight of the distance from an encoding to its code."""
    codebook_decay: Annotated[float | None, lab.PROPER_FRACTION] = 0.99
    """Decay rate of the averages that the codes follow; with none the codes are trained by their loss."""
    batch: lab.BatchOptions = lab.BatchOptions(batch_size=128)
    accumulation: lab.AccumulationOptions = lab.AccumulationOptions()
    optimizer: lab.OptimizerOptions = lab.OptimizerOptions("adam")
    update: lab.UpdateOptions = lab.UpdateOptions(weight_decay=0.0)
    rate: lab.RateOptions = lab.RateOptions()
    shape: lab.ShapeOptions = lab.ShapeOptions()
    schedule: lab.ScheduleOptions = lab.ScheduleOptions(warmup_fraction=0.05)
    training: lab.TrainingOptions = lab.TrainingOptions(500)
    averaging: lab.AveragingOptions = lab.AveragingOptions()
    precision: lab.PrecisionOptions = lab.PrecisionOptions()
    layout: lab.LayoutOptions = lab.LayoutOptions()
    judge: lab.JudgeOptions = lab.JudgeOptions()
    population: lab.SeedsOptions = lab.SeedsOptions()
    grid: lab.GridOptions = lab.GridOptions()


DEMO = lab.override(Config(), num_codes=256)
PRESETS = {
    "smoke": lab.override(
        DEMO, preset="smoke", epochs=2, features=8, num_codes=8, judge="convnet", judge_epochs=1, samples=32
    ),
    "demo": DEMO,
    "fashion_mnist": lab.override(
        DEMO, preset="fashion_mnist", data="tfds:fashion_mnist", num_codes=128, halvings=2, epochs=3,
        judge_epochs=3, samples=1000,
    ),
    # van den Oord et al. 2017, section 4.1: 250,000 steps of 128 images at a rate of 2e-4; 351 steps an epoch.
    "paper": lab.override(
        DEMO, preset="paper", data="tfds:cifar10", features=256, blocks=2, halvings=2, num_codes=512, code_dim=64,
        epochs=713, learning_rate=2e-4, final_rate=1.0, judge="resnet20", judge_epochs=50, samples=10_000,
        parallel="data",
    ),
}  # fmt: skip  # a preset is read as a paragraph
METRICS = {"reconstruction": "mean squared error", "commitment": "distance to the codes", "perplexity": "perplexity"}


def main(config: Config) -> lab.Result:
    """Trains, encodes, judges and reports."""
    with lab.open_run("vqvae", config, PRESETS) as run:
        if run.result:
            return run.result
        lab.population_of(config.population, config.grid, config.layout)  # refuses a layout besides a population
        lab.prepare_judge(config.judge, config.data, config.batch.feed)
        training, model = autoencoder(config)
        encode = jax.jit(lambda variables, x: tasks.images_to_codes(model, variables, x))
        decode = jax.jit(lambda variables, codes: tasks.codes_to_images(model, variables, codes))

        def reconstruct(variables, images):
            codes = lab.in_batches(lambda x: encode(variables, x), images)
            return codes, lab.in_batches(lambda codes: decode(variables, codes), codes)

        shown = training.validation.read(np.arange(min(20, len(training.validation))))["image"]
        trained = lab.train_in_stages(
            run,
            training,
            lambda variables: reconstruct(variables, shown)[1],
            rate=config.rate,
            shape=config.shape.schedule,
            schedule=config.schedule,
            length=config.training,
            averaging=config.averaging,
            population=config.population,
            grid=config.grid,
            title=config.data.data,
        )
        judge = lab.train_judge(run, config.judge, config.data, config.batch.feed)
        test, layout = lab.load(config.data, "test"), train.make_layout()
        examples, evaluate = test.arrays(), training.evaluator(test, layout)

        def report(variables):
            codes, images = reconstruct(variables, examples["image"])
            count = len(judge.real)
            return {
                "test_reconstruction": float(evaluate(layout.place_variables(variables))["reconstruction"]),
                **use_of_codes(codes, config.num_codes),
                **judge.report(images[:count], examples["label"][:count]),
            }

        values = lab.over_seeds([report(variables) for variables in trained]) | judge.references()
        values["recognised_originals"] = judge.recognised_originals()
        lab.save_arrays(
            run.folder / "samples.npz",
            {
                "originals": examples["image"][:20],
                "reconstructions": reconstruct(trained[0], examples["image"][:20])[1],
                "validation": shown,
                "interpolation": interpolation(model, trained[0], examples["image"][:20]),
            },
        )
        return run.finish(values, draw(run.folder), claims(values, config))


def use_of_codes(codes: np.ndarray, num_codes: int) -> dict[str, float]:
    """How much of the codebook images use, and how many bits each needs: int [images, …] -> numbers."""
    used = np.bincount(codes.ravel(), minlength=num_codes) / codes.size
    entropy = float(-(used[used > 0] * np.log2(used[used > 0])).sum())
    return {
        "codes_used": int((used > 0).sum()),
        "perplexity": 2**entropy,
        "bits_per_image": codes[0].size * math.log2(num_codes),
        "bits_per_image_by_frequency": codes[0].size * entropy,
    }


def claims(values: dict[str, float], config: Config) -> list[lab.Claim]:
    """What the numbers decide."""
    lost, used = values["recognised_originals"] - values["recognised"], values["codes_used"] / config.num_codes
    return [
        lab.Claim("accuracy that reconstruction costs the classifier", lost, "<= 0.03", lost <= 0.03),
        lab.Claim("part of the codebook in use", used, ">= 0.5", used >= 0.5),
    ]


def autoencoder(config: Config) -> tuple[lab.Training, nn.Module]:
    """The task on its data, and the network."""
    source, axis_name = lab.load(config.data, "train"), train.make_layout(config.layout.parallel).axis_name
    shape = source.element_spec["image"].shape
    model = VQVAE(
        channels=shape[2],
        features=config.features,
        block_features=max(1, config.features // 4),
        halvings=config.halvings,
        blocks=config.blocks,
        num_codes=config.num_codes,
        code_dim=config.code_dim,
        decay=config.codebook_decay,
        axis_name=axis_name,
        dtype=jnp.dtype(config.precision.dtype),
    )
    models.count_parameters(model, shape)  # fails here, and not after training, if the images don't fit the network
    training = lab.make_training(
        tasks.vector_quantized(model, shape),
        source,
        lab.load(config.data, "validation"),
        batch=config.batch,
        optimizer=config.optimizer,
        update=config.update,
        seed=config.random.seed,
        layout=config.layout,
        accumulate=config.accumulation.accumulate,
        hyper={"commitment": config.commitment},
    )
    return training, model


def interpolation(model: nn.Module, variables: tasks.Variables, images: np.ndarray) -> np.ndarray:
    """What lies between pairs of images: on the line between their encodings, each point as its nearest codes say.

    Args:
      images: uint8 [n, height, width, channel].
    Returns: uint8 [at most 10 pairs, 9, height, width, channel], beginning and ending with reconstructions.
    """

    @jax.jit
    def encode(variables, images):
        encodings: Any = model.apply(variables, data.to_signed_unit(images), method="encode")
        return encodings

    @jax.jit
    def decode(variables, encodings):
        indices: Any = model.apply(variables, encodings, method="nearest_indices")
        return tasks.codes_to_images(model, variables, indices)

    points = lab.between_pairs(np.asarray(encode(variables, images)), 9)
    found = lab.in_batches(lambda z: decode(variables, z), points.reshape(-1, *points.shape[2:]))
    return found.reshape(*points.shape[:2], *found.shape[1:])


def draw(folder: Path) -> dict[str, plots.Figure]:
    """The figures, from curves.npz and samples.npz."""
    kept = lab.load_arrays(folder / "samples.npz")
    pairs = np.stack([kept["originals"], kept["reconstructions"]])
    epochs, images = lab.stages(folder)
    rows = ["original", *(f"epoch {epoch}" for epoch in epochs)]
    return {
        "loss": lab.draw_curves(folder, METRICS),
        "reconstructions": plots.image_grid(pairs, ["test image", "reconstruction"], width=7),
        "training": plots.image_grid(np.concatenate([kept["validation"][None], images]), rows, width=7),
        "interpolation": plots.image_grid(kept["interpolation"], xlabel="from one test image to another"),
    }


if __name__ == "__main__":
    sys.exit(lab.command(__doc__, Config, main, PRESETS))
