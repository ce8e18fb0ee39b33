"""What does an autoencoder with a prior learn of images, and how many bits does it need for one?

A variational autoencoder trains on the evidence lower bound, several seeds at once; the best validation bound of each
is reported on the test split, with the importance-weighted bound above it. Answer: result.json's "test_elbo" (nats),
"test_bits_per_dim" and "test_importance_weighted"; figures/samples.png, interpolation.png and latent_map.png.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from .. import lab, models, plots, tasks, train
from ..errors import InputError
from ..models import ConvVAE, DenseVAE


@dataclass(frozen=True)
class Config:
    """The autoencoder and what its outputs mean."""

    run: lab.RunOptions = lab.RunOptions()
    random: lab.RandomOptions = lab.RandomOptions()
    data: lab.DataOptions = lab.DataOptions()
    network: Literal["dense", "conv"] = "dense"
    """Kind of encoder and decoder: dense layers or convolutions."""
    hidden: Annotated[tuple[int, ...], lab.COUNT] = (512, 256)
    """Widths of a dense encoder's hidden layers; the decoder has the same in reverse order."""
    features: Annotated[tuple[int, ...], lab.COUNT] = (32, 64)
    """Channels of a convolutional encoder's layers; each has half the grid of the layer before."""
    latent: Annotated[int, lab.COUNT] = 8
    """Number of latents that describe an image; with 2 the map shows them as they are."""
    likelihood: Annotated[str, lab.Choice("likelihood", tasks.LIKELIHOODS)] = "discretized_logistic"
    """Distribution of an image given its latents; only the discretized ones give bits per dimension of 8-bit images."""
    binarize: Literal["none", "static", "dynamic"] = "none"
    """Draws of black and white pixels, for the likelihood bernoulli: once, or anew in each epoch of the training."""
    beta: Annotated[float, lab.NON_NEGATIVE] = 1.0
    """Weight of the divergence from the prior in training."""
    importance_samples: Annotated[int, lab.COUNT] = 100
    """Number of samples k of the importance-weighted bound."""
    batch: lab.BatchOptions = lab.BatchOptions(batch_size=128)
    accumulation: lab.AccumulationOptions = lab.AccumulationOptions()
    optimizer: lab.OptimizerOptions = lab.OptimizerOptions("adam")
    update: lab.UpdateOptions = lab.UpdateOptions(weight_decay=0.0)
    rate: lab.RateOptions = lab.RateOptions()
    shape: lab.ShapeOptions = lab.ShapeOptions()
    schedule: lab.ScheduleOptions = lab.ScheduleOptions(warmup_fraction=0.05)
    training: lab.TrainingOptions = lab.TrainingOptions(150)
    averaging: lab.AveragingOptions = lab.AveragingOptions()
    precision: lab.PrecisionOptions = lab.PrecisionOptions()
    layout: lab.LayoutOptions = lab.LayoutOptions()
    judge: lab.JudgeOptions = lab.JudgeOptions()
    population: lab.SeedsOptions = lab.SeedsOptions(seeds=3)
    grid: lab.GridOptions = lab.GridOptions()

    @property
    def without_effect(self) -> Mapping[str, str]:
        """Options of the other kind of network."""
        return {
            name: f"the network is {self.network}, and only a {kind} one has {name}"
            for kind, name in (("dense", "hidden"), ("conv", "features"))
            if kind != self.network
        }


DEMO = Config()
PRESETS = {
    "smoke": lab.override(
        DEMO, preset="smoke", epochs=2, hidden=(16,), judge="convnet", judge_epochs=1, samples=32,
        importance_samples=4, **{"population.seeds": 2},
    ),
    "demo": DEMO,
    "fashion_mnist": lab.override(
        DEMO, preset="fashion_mnist", data="tfds:fashion_mnist", latent=16, epochs=30, judge_epochs=3, samples=1000,
        importance_samples=50,
    ),
    # Burda et al. 2016, section 5, the VAE of one stochastic layer: MNIST in black and white, drawn anew in each epoch
    # ("dynamic"; their appendix has "static" too), two layers of 200, 50 latents, batches of 20, 3,280 epochs at rates
    # from 1e-3 to 1e-4, k = 5,000.
    # Not theirs: a cosine instead of steps, ReLU instead of tanh, variables that validate best, and test images drawn
    # once. Their static images are Larochelle's; ours are drawn here.
    "paper": lab.override(
        DEMO, preset="paper", data="tfds:mnist", hidden=(200, 200), latent=50, likelihood="bernoulli",
        binarize="dynamic", epochs=3280, learning_rate=1e-3, warmup_fraction=0.0, final_rate=0.1, batch_size=20,
        importance_samples=5000, samples=10_000,
    ),
}  # fmt: skip  # a preset is read as a paragraph
METRICS = {"elbo": "evidence lower bound (nats)", "kl": "divergence from the prior (nats)"}


def main(config: Config) -> lab.Result:
    """Trains, bounds, samples and reports."""
    with lab.open_run("vae", config, PRESETS) as run:
        if run.result:
            return run.result
        lab.population_of(config.population, config.grid, config.layout)  # refuses a layout besides a population
        lab.prepare_judge(config.judge, config.data, config.batch.feed)
        training, model = autoencoder(config)
        decode = jax.jit(lambda variables, z: tasks.decode_images(model, variables, z, likelihood=config.likelihood))
        key, shape = jax.random.key(config.random.seed), training.source.element_spec["image"].shape

        def generate(variables, count):
            z = jax.random.normal(jax.random.fold_in(key, count), (count, config.latent))
            return lab.in_batches(lambda z: decode(variables, z), z)

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
            grid=config.grid,
            title=config.data.data,
        )
        judge = lab.train_judge(run, config.judge, config.data, config.batch.feed)
        test, layout = lab.load(config.data, "test"), train.make_layout()
        evaluate = training.evaluator(test, layout)
        bound = train.map_examples(
            importance_weighted(config, model), test, layout, batch_size=64, resident=config.batch.resident
        )

        def report(variables):
            placed = layout.place_variables(variables)
            measured = evaluate(placed)
            found = {f"test_{name}": float(measured[name]) for name in ("elbo", "bits_per_dim", "reconstruction", "kl")}
            found["test_importance_weighted"] = float(bound(placed)["bound"].mean(dtype=np.float64))
            return found | judge.report(generate(variables, len(judge.real)))

        values, first = lab.over_seeds([report(variables) for variables in trained]) | judge.references(), trained[0]
        lab.save_arrays(
            run.folder / "samples.npz",
            {
                "samples": generate(first, 100).reshape(10, 10, *shape),
                "classes": test.classes,
                **latents(config, model, first, decode, test),
            },
        )
        above = values["test_importance_weighted"] - values["test_elbo"]
        claims = [lab.Claim("importance-weighted bound minus ELBO, test (nats)", above, "> 0", above > 0)]
        return run.finish(values, draw(run.folder), claims)


def autoencoder(config: Config) -> tuple[lab.Training, nn.Module]:
    """The task on its data, and the network."""
    if config.binarize != "none" and config.likelihood != "bernoulli":
        raise InputError(
            f"binarize is {config.binarize} and likelihood {config.likelihood}; black and white pixels have the "
            "likelihood bernoulli."
        )
    source, dtype = lab.load(config.data, "train"), jnp.dtype(config.precision.dtype)
    shape = source.element_spec["image"].shape
    model = {
        "dense": lambda: DenseVAE(shape, config.latent, dtype=dtype, hidden=config.hidden),
        "conv": lambda: ConvVAE(shape, config.latent, dtype=dtype, features=config.features),
    }[config.network]()
    models.count_parameters(model, shape)  # fails here, and not after training, if the images don't fit the network
    training = lab.make_training(
        tasks.variational_autoencoder(
            model,
            shape,
            likelihood=config.likelihood,
            binarized=None if config.binarize == "none" else config.binarize,
        ),
        source,
        lab.load(config.data, "validation"),
        batch=config.batch,
        optimizer=config.optimizer,
        update=config.update,
        seed=config.random.seed,
        layout=config.layout,
        accumulate=config.accumulation.accumulate,
        hyper={"beta": config.beta},
    )
    return training, model


def importance_weighted(config: Config, model: nn.Module):
    """(variables, batch) -> the bound of each example; the key is fixed, as at every evaluation."""

    def bound(variables, batch):
        batch = batch if config.binarize == "none" else tasks.binarize(batch)
        return {
            "bound": tasks.importance_weighted_bound(
                model, variables, batch, jax.random.key(0), config.importance_samples, likelihood=config.likelihood
            )
        }

    return bound


def latents(config: Config, model: nn.Module, variables, decode, test) -> dict[str, Any]:
    """Reconstructions, what lies between pairs of test images, and where the test images are in latent space."""
    from sklearn.decomposition import PCA  # not at the top: it takes long, and what is refused does not wait for it

    encode = jax.jit(lambda x: tasks.encode_images(model, variables, x, likelihood=config.likelihood))
    examples = test.arrays()
    if config.binarize != "none":
        examples["image"] = np.asarray(tasks.binarize({**examples, "index": jnp.arange(len(test))})["image"])
    means, _ = lab.in_batches(encode, examples["image"])
    between = lab.between_pairs(means, 9)
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


def draw(folder: Path) -> dict[str, plots.Figure]:
    """The figures, from curves.npz and samples.npz."""
    kept = lab.load_arrays(folder / "samples.npz")
    pairs = np.stack([kept["originals"], kept["reconstructions"]])
    return {
        "loss": lab.draw_curves(folder, METRICS),
        "samples": plots.image_grid(kept["samples"], width=4.5),
        "training": lab.draw_stages(folder),
        "reconstructions": plots.image_grid(pairs, ["test image", "reconstruction"]),
        "interpolation": plots.image_grid(kept["interpolation"], xlabel="from one test image to another"),
        "latent_map": plots.latent_map(
            kept["map"], kept["labels"], [str(name) for name in kept["classes"]], str(kept["axes"])
        ),
    }


if __name__ == "__main__":
    sys.exit(lab.command(__doc__, Config, main, PRESETS))
