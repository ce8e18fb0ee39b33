"""How far back does a network remember? One latent vector, the lecture says, has problems with long-term relations.

The first of a sequence of random symbols must be named at the last one, `distance` positions later, by an Elman RNN, an
LSTM and a block of attention of one width. Each trains at every distance, at its own best learning rate, chosen on
validation data, all rates and seeds at once. Answer: figures/gradient.png, the gradient of the last loss by the symbol
at each distance, and figures/accuracy.png. result.json: `rnn_gradient_slope`, by how much the logarithm of that
gradient's norm changes with each position before training (0: nothing fades; −0.1: a tenth at each), accuracies on
held-out sequences, and the longest distance at which nine answers of ten are right.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from .. import data, lab, losses, plots, tasks, train
from ..errors import InputError
from ..models.sequences import Recurrent, Stack

# name -> (width, forget bias) -> network: embedded symbols [batch, length, width] -> (answers of that shape, …)
NETWORKS: Mapping[str, Callable[[int, float], nn.Module]] = {
    "rnn": lambda width, bias: Recurrent(width, "elman"),
    "gru": lambda width, bias: Recurrent(width, "gru", forget_bias=bias),
    "lstm": lambda width, bias: Recurrent(width, "lstm", forget_bias=bias),
    "attention": lambda width, bias: Stack(width, depth=1, num_heads=1),
}
REMEMBERED = 0.9  # accuracy from which on a distance counts as remembered
HELD_OUT = 1024  # sequences to validate on, and to test on
EVEN = lab.Valid("even, at least 2 and at most 65,536", lambda x: x % 2 == 0 and 2 <= x <= 65_536)
MEASURED = 128  # sequences that a gradient's norm is the mean of
SMALLEST = 1e-37  # norm below which a float32 has not all its digits


@dataclass(frozen=True)
class Config:
    """The task, the networks and their budget; --population.learning-rate is the grid of rates."""

    run: lab.RunOptions = lab.RunOptions()
    random: lab.RandomOptions = lab.RandomOptions()
    networks: Annotated[tuple[str, ...], lab.Choice("network", NETWORKS), lab.DISTINCT] = (
        "rnn",
        "lstm",
        "attention",
    )
    """Names of the networks, one or more."""
    distances: Annotated[tuple[int, ...], lab.at_least(1, 10_000), lab.DISTINCT] = (2, 5, 10, 20, 40, 80)
    """Numbers of positions from the first symbol to the last one, the smallest first."""
    symbols: Annotated[int, lab.at_least(2, 10_000)] = 8
    """Number of different symbols; a guess is right once in so many times."""
    width: Annotated[int, EVEN] = 32
    """Width of embeddings, states and the block of attention."""
    forget_bias: float = 1.0
    """Initial bias of the gate by which an LSTM or a GRU keeps its state; 1 keeps about three quarters, 0 half."""
    examples: Annotated[int, lab.COUNT] = 16_384
    """Number of sequences to train on; validation and test have 1,024 each."""
    batch: lab.BatchOptions = lab.BatchOptions(32)
    optimizer: lab.OptimizerOptions = lab.OptimizerOptions("adam")
    update: lab.UpdateOptions = lab.UpdateOptions(weight_decay=0.0, clip_norm=1.0)
    rate: lab.RangeTestOptions = lab.RangeTestOptions()
    shape: lab.ShapeOptions = lab.ShapeOptions()
    schedule: lab.ScheduleOptions = lab.ScheduleOptions()
    training: lab.TrainingOptions = lab.TrainingOptions(2)
    population: lab.SeedsOptions = lab.SeedsOptions(seeds=3, mode="vmap")  # of small states that are batched
    grid: lab.GridOptions = lab.GridOptions("3e-3,1e-2")

    @property
    def without_effect(self) -> Mapping[str, str]:
        """The forget bias, where no network has one."""
        return {} if {"gru", "lstm"} & set(self.networks) else {"forget_bias": "only gru and lstm have one"}


DEMO = Config()
PRESETS = {
    "smoke": lab.override(
        DEMO,
        preset="smoke",
        networks=("rnn",),
        distances=(5,),
        examples=256,
        epochs=1,
        grid=lab.GridOptions("1e-2"),
        population=lab.SeedsOptions(seeds=2),
    ),
    "demo": DEMO,
    "paper": lab.override(
        DEMO,
        preset="paper",
        networks=tuple(NETWORKS),
        distances=(2, 5, 10, 20, 40, 80, 160, 320),
        width=128,
        examples=65_536,
        epochs=40,
        grid=lab.GridOptions("2**-12:2**-6"),
        population=lab.SeedsOptions(seeds=10),
    ),
}
COLUMNS = ("network", "distance", "seed", "learning_rate", "validation_accuracy", "test_accuracy")
GRADIENTS = ("network", "trained_at", "seed", "distance", "norm")  # trained_at 0: at initialization


class FirstSymbol(nn.Module):
    """Names the first symbol of a sequence by what a network answers at the last one."""

    network: nn.Module
    symbols: int
    width: int

    def setup(self):
        self.embed, self.head = nn.Embed(self.symbols, self.width), nn.Dense(self.symbols)

    def __call__(self, tokens: jax.Array, *, train: bool = False) -> jax.Array:
        """Integers [batch, length] -> logits [batch, symbols]; nothing is dropped in training."""
        del train
        return self.answer(self.embed(tokens))

    def answer(self, embedded: jax.Array) -> jax.Array:
        """The same of embedded symbols [batch, length, width]."""
        return self.head(self.network(embedded)[0][:, -1])


def main(config: Config) -> lab.Result:
    """Measures gradients, trains every network at every distance, tabulates and draws."""
    with lab.open_run(__file__, config, PRESETS) as run:
        if run.result:
            return run.result
        if not config.networks or list(config.distances) != sorted(config.distances) or not config.distances:
            raise InputError("There is nothing to compare; give at least one network and distances, smallest first.")
        tables: dict[str, list] = {"table": [], "gradients": []}
        for network in config.networks:
            make = NETWORKS[network]
            model = FirstSymbol(make(config.width, config.forget_bias), config.symbols, config.width)
            tables["gradients"] += before_training(config, network, model)
            for distance in config.distances:
                part = run.part(f"{network}_{distance}")
                if not (part.folder / "table.csv").exists():
                    run.display.say(f"{network}, distance {distance} …")
                    train_seeds(part, config, network, model, distance)
                for name, rows in tables.items():
                    rows += zip(*lab.read_csv(part.folder / f"{name}.csv").values(), strict=True)
        lab.write_csv(run.folder / "table.csv", COLUMNS, tables["table"])
        lab.write_csv(run.folder / "gradients.csv", GRADIENTS, tables["gradients"])
        values, claims = conclude(run.folder)
        return run.finish(values, draw(run.folder), claims)


def sequences(distance: int, symbols: int, split: str, count: int) -> data.Source:
    """Random symbols "tokens" [distance + 1], of which the first is the "label"; always the same ones."""
    seed = ("train", "validation", "test").index(split), distance, symbols
    tokens = np.random.default_rng(seed).integers(symbols, size=(count, distance + 1), dtype=np.int32)
    spec = {"tokens": jax.ShapeDtypeStruct((distance + 1,), np.int32), "label": jax.ShapeDtypeStruct((), np.int32)}
    return data.Source("sequences", split, data.Arrays({"tokens": tokens, "label": tokens[:, 0]}), spec)


def name_first(model: FirstSymbol) -> tasks.Task:
    """Naming "label" after reading "tokens", with the metric `accuracy`."""
    return tasks.classification(model, (2,), reads="tokens")


def before_training(config: Config, network: str, model: FirstSymbol) -> Iterator[tuple]:
    """The gradients of the seeds at initialization, over the longest distance."""
    seeds = config.random.seed + np.arange(config.population.seeds)
    variables = jax.vmap(name_first(model).init)(jnp.stack([jax.random.key(seed) for seed in seeds.tolist()]))
    tokens = sequences(max(config.distances), config.symbols, "test", MEASURED).arrays()["tokens"]
    return norm_rows(network, 0, seeds, gradient_norms(model, variables, tokens))


def train_seeds(part: lab.Run, config: Config, network: str, model: FirstSymbol, distance: int) -> None:
    """Trains one network at one distance; writes the rows of its seeds at the best rate, and their gradients."""
    train_split, validation, test = (
        sequences(distance, config.symbols, split, count)
        for split, count in (("train", config.examples), ("validation", HELD_OUT), ("test", HELD_OUT))
    )
    train.check_batch(train_split, config.batch.batch_size, 1, 1)
    plain = lab.Training(
        task=name_first(model),
        source=train_split,
        validation=validation,
        make_optimizer=lab.make_optimizer(config.optimizer, config.update),
        hyper=lab.hyperparameters(config.update),
        batch=config.batch,
        seed=config.random.seed,
    )
    epochs = config.training.epochs
    training, schedule = lab.scheduled(plain, config.shape.schedule, config.schedule, epochs)
    peak, _ = lab.choose_rate(part, plain, config.rate, config.population, config.grid)
    members = training.members(peak, config.population, config.grid)
    trained = lab.fit(
        part,
        training,
        members,
        schedule,
        epochs,
        population=config.population,
        better=lab.more_accurate,
        title=f"{len(members)} members, {network} at distance {distance}",
    )
    chosen = trained.chosen_rows(config.population.seeds)
    seeds, rates = members.seeds[chosen], members.hyper["learning_rate"][chosen]
    accuracies = trained.at_best("validation", "accuracy"), trained.measure(trained.fitted.best, test)["accuracy"]
    best = jax.tree.map(lambda x: x[chosen], trained.fitted.best)
    norms = gradient_norms(model, best, test.read(np.arange(MEASURED))["tokens"])
    lab.write_csv(part.folder / "gradients.csv", GRADIENTS, norm_rows(network, distance, seeds, norms))
    rows = zip(seeds, rates, *(accuracy[chosen] for accuracy in accuracies), strict=True)
    lab.write_csv(part.folder / "table.csv", COLUMNS, ((network, distance, *row) for row in rows))


def gradient_norms(model: FirstSymbol, variables: Any, tokens: np.ndarray) -> np.ndarray:
    """‖∂ loss / ∂ embedded symbol‖ of the loss at the last position, as a mean over sequences: one program.

    Args:
      model: names the first symbol.
      variables: of each seed, [seed, …].
      tokens: [sequence, length], the same for all seeds.
    Returns: [seed, length] by the distance from the end, the last position first.
    """

    def of_seed(variables):
        def loss(embedded):
            logits: Any = model.apply(variables, embedded, method="answer")
            return losses.cross_entropy(logits, jnp.asarray(tokens[:, 0])).sum()  # a sum: each has its own gradient

        gradient = jax.grad(loss)(variables["params"]["embed"]["embedding"][tokens])
        # Float32 has no square of a norm that is nearly lost.
        largest = jnp.maximum(jnp.abs(gradient).max(-1), SMALLEST)
        return (largest * jnp.linalg.norm(gradient / largest[..., None], axis=-1)).mean(0)[::-1]

    return np.asarray(jax.jit(jax.vmap(of_seed))(variables))


def gradient_slopes(norms: np.ndarray) -> np.ndarray:
    """[seed]: by least squares, the slope of ln norm [seed, distance] for each position, from distance 1 on.

    What is too small for a float32 of full precision does not count; NaN where fewer than two norms are left.
    """
    distances, slopes = np.arange(norms.shape[1]), []
    for of_seed in norms.astype(np.float64):
        told = (distances > 0) & (of_seed > SMALLEST)
        slopes.append(np.polyfit(distances[told], np.log(of_seed[told]), 1)[0] if told.sum() > 1 else np.nan)
    return np.array(slopes)


def norm_rows(network: str, trained_at: int, seeds: np.ndarray, norms: np.ndarray) -> Iterator[tuple]:
    """Rows of `GRADIENTS` for norms [seed, distance]."""
    for seed, of_seed in zip(seeds.tolist(), norms.tolist(), strict=True):
        for distance, norm in enumerate(of_seed):
            yield network, trained_at, seed, distance, norm


def conclude(folder: Path) -> tuple[dict[str, float], list[lab.Claim]]:
    """The numbers and claims of table.csv and gradients.csv: means and standard deviations over the seeds."""
    values, longest, slopes = {}, {}, {}
    for network, of_distance in accuracies(folder).items():
        slopes[network] = gradient_slopes(gradients(folder, 0)[network])
        values[f"{network}_gradient_slope"] = float(slopes[network].mean())
        values[f"{network}_gradient_slope_std"] = float(slopes[network].std())
        after = gradient_slopes(gradients(folder, max(of_distance))[network])
        values[f"{network}_gradient_slope_after_training"] = float(after.mean())
        for distance, accuracy in of_distance.items():
            values[f"{network}_accuracy_at_{distance}"] = float(accuracy.mean())
            values[f"{network}_accuracy_at_{distance}_std"] = float(accuracy.std())
        longest[network] = max((d for d, a in of_distance.items() if a.mean() >= REMEMBERED), default=0)
        values[f"{network}_longest_distance"] = longest[network]
    return values, list(claims(slopes, longest))


def claims(slopes: Mapping[str, np.ndarray], longest: Mapping[str, int]) -> Iterator[lab.Claim]:
    """What is claimed of the networks that took part, from their slopes [seed] and longest distances."""
    mean, spread = ({name: float(of(each)) for name, each in slopes.items()} for of in (np.mean, np.std))
    if "rnn" in mean:
        most = -3 * spread["rnn"]
        yield lab.Claim("slope of the RNN's gradient", mean["rnn"], f"< {most:.2g}, three spreads", mean["rnn"] < most)
    if {"rnn", "lstm"} <= mean.keys():
        gap, most = mean["rnn"] - mean["lstm"], -3 * (spread["rnn"] + spread["lstm"])
        yield lab.Claim("slope of the RNN's gradient minus the LSTM's", gap, f"< {most:.2g}, three spreads", gap < most)
        further = longest["lstm"] - longest["rnn"]
        yield lab.Claim("longest distance, LSTM minus RNN", further, "> 0", further > 0)
    if {"rnn", "attention"} <= mean.keys():
        part = abs(mean["attention"] / mean["rnn"])
        yield lab.Claim("size of attention's slope over the RNN's", part, "< 0.1", part < 0.1)
        further = longest["attention"] - longest["rnn"]
        yield lab.Claim("longest distance, attention minus RNN", further, "> 0", further > 0)


def accuracies(folder: Path) -> dict[str, dict[int, np.ndarray]]:
    """network -> distance -> test accuracies [seed], of table.csv."""
    table = lab.read_csv(folder / "table.csv")
    found: dict[str, dict[int, np.ndarray]] = {}
    for network, distance in dict.fromkeys(zip(table["network"].tolist(), table["distance"], strict=True)):
        rows = (table["network"] == network) & (table["distance"] == distance)
        found.setdefault(network, {})[int(distance)] = table["test_accuracy"][rows]
    return found


def gradients(folder: Path, trained_at: int) -> dict[str, np.ndarray]:
    """network -> norms [seed, distance] after training at a distance, or at initialization (0); of gradients.csv."""
    table = lab.read_csv(folder / "gradients.csv")
    found = {}
    for network in dict.fromkeys(table["network"].tolist()):
        rows = (table["network"] == network) & (table["trained_at"] == trained_at)
        found[network] = table["norm"][rows].reshape(len(np.unique(table["seed"][rows])), -1)
    return found


def draw(folder: Path) -> dict[str, plots.Figure]:
    """The figures, from table.csv, gradients.csv and the config."""
    config = lab.read_config(folder, Config, PRESETS)
    last = max(config.distances)
    panels = {"at initialization": gradients(folder, 0), f"after training at distance {last}": gradients(folder, last)}
    return {
        "gradient": plots.gradient_decay(panels),
        "accuracy": plots.remembered(accuracies(folder), 1 / config.symbols),
    }


if __name__ == "__main__":
    sys.exit(lab.command(__doc__, Config, main, PRESETS))
