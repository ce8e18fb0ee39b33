"""What does an autoencoder with a prior learn of images, and how many bits does it need for one?

A variational autoencoder trains on the evidence lower bound, several seeds at once; the best validation bound of each
is reported on the test split, with the importance-weighted bound above it. Answer: result.json's "test_elbo" (nats),
"test_bits_per_dim" and "test_importance_weighted"; figures/samples.png, interpolation.png and latent_map.png.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure
from sklearn.decomposition import PCA

from .. import models, plots, train
from ..models.vae import ConvVAE, DenseVAE
from ._generation import (
    GenerationConfig,
    at_least,
    between_pairs,
    draw_curves,
    draw_stages,
    in_batches,
    load_arrays,
    over_seeds,
    save_arrays,
    train_in_stages,
    train_judge,
)
from ._population import PopulationConfig
from ._problem import Problem, layout, load
from ._run import Claim, Result, open_run


@dataclass(frozen=True)
class Config(GenerationConfig):
    """The autoencoder and what its outputs mean."""

    network: Literal["dense", "conv"] = "dense"
    """Of encoder and decoder."""
    hidden: tuple[int, ...] = (512, 256)
    """Dense: widths of the encoder's hidden layers; the decoder's are the same, backwards."""
    features: tuple[int, ...] = (32, 64)
    """Convolutional: channels, each with half the grid of the one before."""
    latent: int = 8
    """How many numbers describe an image; with 2 the map shows them as they are."""
    likelihood: str = "discretized_logistic"
    """bernoulli, squared_error, gaussian, discretized_gaussian or discretized_logistic; bits per dimension are those of
    images for the discretized ones alone."""
    beta: float = 1.0
    """Weight of the divergence from the prior in training."""
    importance_samples: int = 100
    """k of the importance-weighted bound."""


DEMO = Config(preset="demo", batch_size=128, epochs=150, population=PopulationConfig(seeds=3))
PRESETS = {
    "smoke": replace(
        DEMO, preset="smoke", epochs=2, hidden=(16,), judge="convnet", judge_epochs=1, samples=32, importance_samples=4,
        population=PopulationConfig(seeds=2),
    ),
    "demo": DEMO,
    "fashion_mnist": replace(
        DEMO, preset="fashion_mnist", data="tfds:fashion_mnist", latent=16, epochs=30, judge_epochs=3, samples=1000,
        importance_samples=50,
    ),
    # Kingma & Welling 2013, section 5 and Burda et al. 2016, section 5: two layers of 200, 50 latents, k = 5,000.
    "paper": replace(
        DEMO, preset="paper", data="tfds:mnist", hidden=(200, 200), latent=50, likelihood="bernoulli", epochs=1000,
        batch_size=20, importance_samples=5000, samples=10_000,
    ),
}  # fmt: skip
METRICS = {"elbo": "evidence lower bound (nats)", "kl": "divergence from the prior (nats)"}


def main(config: Config) -> Result:
    """Trains, bounds, samples and reports."""
    with open_run("vae", config, PRESETS[config.preset]) as run:
        if run.result:
            return run.result
        problem, model = problem_of(config)
        decode = jax.jit(lambda variables, z: train.decode_images(model, variables, z, likelihood=config.likelihood))
        key, shape = jax.random.key(config.seed), problem.train.element_spec["image"].shape

        def generate(variables, count):
            z = jax.random.normal(jax.random.fold_in(key, count), (count, config.latent))
            return in_batches(lambda z: decode(variables, z), z)

        trained = train_in_stages(run, problem, lambda variables: generate(variables, 20))
        judge, test = train_judge(run, config), load(config, "test")
        bound = train.map_examples(importance_weighted(config, model), test, batch_size=64, resident=config.resident)
        evaluate = problem.evaluator(test)

        def report(variables):
            measured = evaluate(variables)
            found = {f"test_{name}": measured[name] for name in ("elbo", "bits_per_dim", "reconstruction", "kl")}
            found["test_importance_weighted"] = float(bound(variables)["bound"].mean(dtype=np.float64))
            return found | judge.report(generate(variables, len(judge.real)))

        values = over_seeds([report(variables) for variables in trained]) | judge.references()
        first = trained[0]
        save_arrays(
            run.folder / "samples.npz",
            {
                "samples": generate(first, 100).reshape(10, 10, *shape),
                "classes": test.classes,
                **latents(config, model, first, decode, test),
            },
        )
        above = values["test_importance_weighted"] - values["test_elbo"]
        claims = [Claim("importance-weighted bound minus ELBO, test (nats)", above, "> 0", above > 0)]
        return run.finish(values, draw(run.folder), claims)


def problem_of(config: Config) -> tuple[Problem, nn.Module]:
    """The task on its data, and the network."""
    at_least(config, beta=0, importance_samples=1)
    where, source = layout(config), load(config, "train")
    shape = source.element_spec["image"].shape
    model = {
        "dense": lambda: DenseVAE(shape, config.latent, dtype=jnp.dtype(config.dtype), hidden=config.hidden),
        "conv": lambda: ConvVAE(shape, config.latent, dtype=jnp.dtype(config.dtype), features=config.features),
    }[config.network]()
    models.count_parameters(model, shape)  # images that the network can't take must not come out later
    task = train.variational_autoencoder(model, shape, likelihood=config.likelihood)
    return Problem(config, source, load(config, "validation"), where, task, fixed={"beta": config.beta}), model


def importance_weighted(config: Config, model: nn.Module):
    """(variables, batch) -> the bound of each example; the key is fixed, as at every evaluation."""

    def bound(variables, batch):
        return {
            "bound": train.importance_weighted_bound(
                model, variables, batch, jax.random.key(0), config.importance_samples, likelihood=config.likelihood
            )
        }

    return bound


def latents(config: Config, model: nn.Module, variables, decode, test) -> dict[str, Any]:
    """Reconstructions, what lies between pairs of test images, and where the test images are in latent space."""
    encode = jax.jit(lambda x: train.encode_images(model, variables, x, likelihood=config.likelihood))
    examples = test.arrays()
    means, _ = in_batches(encode, examples["image"])
    between = between_pairs(means, 9)
    few = means.shape[1] <= 2  # a single latent is the map's first axis
    flat = np.pad(means, ((0, 0), (0, 2 - means.shape[1]))) if few else PCA(2, random_state=0).fit_transform(means)
    images = np.asarray(decode(variables, jnp.asarray(between.reshape(-1, config.latent))))
    return {
        "interpolation": images.reshape(*between.shape[:2], *images.shape[1:]),
        "originals": examples["image"][:10],
        "reconstructions": np.asarray(decode(variables, jnp.asarray(means[:10]))),
        "map": flat[:1000],
        "axes": "latent" if few else "principal component",
        "labels": examples["label"][:1000],
    }


def draw(folder: Path) -> dict[str, Figure]:
    """The figures, from curves.npz and samples.npz."""
    kept = load_arrays(folder / "samples.npz")
    pairs = np.stack([kept["originals"], kept["reconstructions"]])
    return {
        "loss": draw_curves(folder, METRICS),
        "samples": plots.image_grid(kept["samples"], width=4.5),
        "training": draw_stages(folder),
        "reconstructions": plots.image_grid(pairs, ["test image", "reconstruction"]),
        "interpolation": plots.image_grid(kept["interpolation"], xlabel="from one test image to another"),
        "latent_map": plots.latent_map(
            kept["map"], kept["labels"], [str(name) for name in kept["classes"]], str(kept["axes"])
        ),
    }


if __name__ == "__main__":
    from .cli import run

    sys.exit(run("vae"))
