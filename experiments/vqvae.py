"""How few words of a learned vocabulary does an image need?

An encoder turns an image into a small grid of codes, each an entry of a codebook, and a decoder turns it back. Answer:
figures/reconstructions.png; result.json: "test_reconstruction" (mean squared error of images in −1 … 1), how many codes
are used, the bits that an image takes, and how many reconstructions a classifier recognises as the original's class.
figures/interpolation.png: what the codes between two images mean.
"""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

from .. import data, models, plots, train
from ..models.vqvae import VQVAE
from ._generation import (
    GenerationConfig,
    at_least,
    between_pairs,
    draw_curves,
    in_batches,
    load_arrays,
    over_seeds,
    save_arrays,
    stages,
    train_in_stages,
    train_judge,
)
from ._problem import Problem, layout, load
from ._run import Claim, Result, open_run


@dataclass(frozen=True)
class Config(GenerationConfig):
    """The autoencoder and its codebook."""

    features: int = 32
    """Channels of encoder and decoder."""
    blocks: int = 1
    """Residual blocks of each."""
    halvings: int = 1
    """How often the grid is halved: 2 makes one code of 4×4 pixels."""
    num_codes: int = 64
    """Entries of the codebook."""
    code_dim: int = 16
    """Numbers of an entry."""
    commitment: float = 0.25
    """Weight of the distance from an encoding to its code."""
    codebook_decay: float | None = 0.99
    """Of the averages that the codes follow; none trains them by their loss."""


DEMO = Config(preset="demo", batch_size=128, epochs=500, num_codes=256)
PRESETS = {
    "smoke": replace(
        DEMO, preset="smoke", epochs=2, features=8, num_codes=8, judge="convnet", judge_epochs=1, samples=32
    ),
    "demo": DEMO,
    "fashion_mnist": replace(
        DEMO, preset="fashion_mnist", data="tfds:fashion_mnist", num_codes=128, halvings=2, epochs=3,
        judge_epochs=3, samples=1000,
    ),
    # van den Oord et al. 2017, section 4.1: 250,000 steps of 128 images at a rate of 2e-4; 351 steps an epoch.
    "paper": replace(
        DEMO, preset="paper", data="tfds:cifar10", features=256, blocks=2, halvings=2, num_codes=512, code_dim=64,
        epochs=713, learning_rate=2e-4, final_rate=1.0, judge="resnet20", judge_epochs=50, samples=10_000,
        parallel="data",
    ),
}  # fmt: skip
METRICS = {"reconstruction": "mean squared error", "commitment": "distance to the codes", "perplexity": "perplexity"}


def main(config: Config) -> Result:
    """Trains, encodes, judges and reports."""
    with open_run("vqvae", config, PRESETS[config.preset]) as run:
        if run.result:
            return run.result
        problem, model = problem_of(config)
        encode = jax.jit(lambda variables, x: train.images_to_codes(model, variables, x))
        decode = jax.jit(lambda variables, codes: train.codes_to_images(model, variables, codes))

        def reconstruct(variables, images):
            codes = in_batches(lambda x: encode(variables, x), images)
            return codes, in_batches(lambda codes: decode(variables, codes), codes)

        shown = problem.validation.read(np.arange(min(20, len(problem.validation))))["image"]
        trained = train_in_stages(run, problem, lambda variables: reconstruct(variables, shown)[1])
        judge, test = train_judge(run, config), load(config, "test")
        examples, evaluate = test.arrays(), problem.evaluator(test)

        def report(variables):
            codes, images = reconstruct(variables, examples["image"])
            used = np.bincount(codes.ravel(), minlength=config.num_codes) / codes.size
            entropy = float(-(used[used > 0] * np.log2(used[used > 0])).sum())
            count = len(judge.real)
            return {
                "test_reconstruction": evaluate(variables)["reconstruction"],
                "codes_used": int((used > 0).sum()),
                "perplexity": 2**entropy,
                "bits_per_image": codes[0].size * math.log2(config.num_codes),
                "bits_per_image_by_frequency": codes[0].size * entropy,
                **judge.report(images[:count], examples["label"][:count]),
            }

        values = over_seeds([report(variables) for variables in trained]) | judge.references()
        save_arrays(
            run.folder / "samples.npz",
            {
                "originals": examples["image"][:20],
                "reconstructions": reconstruct(trained[0], examples["image"][:20])[1],
                "validation": shown,
                "interpolation": interpolation(model, trained[0], examples["image"][:20]),
            },
        )
        lost = values["judge_accuracy"] - values["recognised"]
        claims = [
            Claim("accuracy that reconstruction costs the classifier", lost, "<= 0.03", lost <= 0.03),
            Claim("part of the codebook in use", values["codes_used"] / config.num_codes, ">= 0.5",
                  values["codes_used"] / config.num_codes >= 0.5),
        ]  # fmt: skip
        return run.finish(values, draw(run.folder), claims)


def problem_of(config: Config) -> tuple[Problem, nn.Module]:
    """The task on its data, and the network."""
    at_least(config, num_codes=1, code_dim=1, features=1, blocks=0, commitment=0)
    if config.codebook_decay is not None and not 0 <= config.codebook_decay < 1:
        raise ValueError(f"codebook_decay is {config.codebook_decay}; it must be in [0, 1), or none.")
    where, source = layout(config), load(config, "train")
    shape = source.element_spec["image"].shape
    model = VQVAE(
        channels=shape[2], features=config.features, block_features=max(1, config.features // 4),
        halvings=config.halvings, blocks=config.blocks, num_codes=config.num_codes, code_dim=config.code_dim,
        decay=config.codebook_decay, axis_name=where.axis_name, dtype=jnp.dtype(config.dtype),
    )  # fmt: skip
    models.count_parameters(model, shape)  # images that the network can't take must not come out later
    task = train.vector_quantized(model, shape)
    problem = Problem(
        config, source, load(config, "validation"), where, task, fixed={"commitment": config.commitment}
    )  # fmt: skip
    return problem, model


def interpolation(model: nn.Module, variables: train.Variables, images: np.ndarray) -> np.ndarray:
    """What lies between pairs of images: on the line between their encodings, each point as its nearest codes say.

    Args:
      images: uint8 [n, height, width, channel].
    Returns: uint8 [at most 10 pairs, 9, height, width, channel], beginning and ending with reconstructions.
    """

    @jax.jit
    def encode(variables, images):
        encodings: Any = model.apply(variables, data.to_unit(images), method="encode")
        return encodings

    @jax.jit
    def decode(variables, encodings):
        indices: Any = model.apply(variables, encodings, method="nearest_indices")
        return train.codes_to_images(model, variables, indices)

    points = between_pairs(np.asarray(encode(variables, images)), 9)
    found = in_batches(lambda z: decode(variables, z), points.reshape(-1, *points.shape[2:]))
    return found.reshape(*points.shape[:2], *found.shape[1:])


def draw(folder: Path) -> dict[str, Figure]:
    """The figures, from curves.npz and samples.npz."""
    kept = load_arrays(folder / "samples.npz")
    pairs = np.stack([kept["originals"], kept["reconstructions"]])
    epochs, images = stages(folder)
    rows = ["original", *(f"epoch {epoch}" for epoch in epochs)]
    return {
        "loss": draw_curves(folder, METRICS),
        "reconstructions": plots.image_grid(pairs, ["test image", "reconstruction"], width=7),
        "training": plots.image_grid(np.concatenate([kept["validation"][None], images]), rows, width=7),
        "interpolation": plots.image_grid(kept["interpolation"], xlabel="from one test image to another"),
    }


if __name__ == "__main__":
    from .cli import run

    sys.exit(run("vqvae"))
