"""How fast does stochastic gradient descent converge, and does the lecture's theorem hold?

    min_t E‖∇f(θ_t)‖² ≤ (f(θ_0) − f*) / Σα_t + (Lσ²/2) Σα_t² / Σα_t

The left side is a mean over many seeds, all trained at once from the same θ_0; L is measured by power iteration along
the path, σ² as the exact second moment of the minibatch gradient, f* bounded from below. Without noise the gradient
falls like 1/T or faster; at a constant rate it stops at a floor proportional to α; where the rate decreases it goes on.
Answer: figures/convergence.png, and the claims of result.json; the CSV files of each problem have all numbers.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from matplotlib.figure import Figure

from .. import data, losses, metrics, plots, schedules, train
from ..data import augment
from ..models.mlp import MLP
from ._population import read_csv, write_csv
from ._run import Claim, Result, RunConfig, open_run

PROBLEMS = {"logistic regression": (), "smooth MLP": (32,)}
DECREASING = ("inverse time", "inverse square root", "step", "cosine")
HALVINGS = 4  # constant rates over a 16-fold range


@dataclass(frozen=True)
class Config(RunConfig):
    """Problem, budget and members."""

    data: str = "digits"
    """digits, tfds:<name> or folder:<path>; all of the training split is used at every logged step."""
    data_dir: Path | None = None
    """Where prepared TensorFlow data sets are."""
    examples: int | None = None
    """Use this many examples only."""
    batch_size: int = 8
    """Examples a step, drawn with replacement."""
    steps: int = 16_000
    """T."""
    seeds: int = 32
    """Over which the expectation is a mean."""
    seed: int = 0
    """Of θ_0; the members' own seeds count on from it."""
    l2: float = 0.01
    """λ of λ/2 ‖θ‖², part of f."""
    logged: int = 40
    """Steps, spaced evenly in log t, at which the gradient of all examples is taken."""
    chunk: int | None = None
    """At most this many members at a time on each device."""

    @property
    def many_devices(self) -> bool:
        return True


PRESETS = {
    "smoke": Config(preset="smoke", steps=200, seeds=4, logged=8, examples=128),
    "demo": Config(preset="demo"),
    "paper": Config(preset="paper", data="tfds:fashion_mnist", steps=200_000, seeds=256, logged=80),
}


def main(config: Config) -> Result:
    """Measures both problems, compares with the bound and draws."""
    with open_run("convergence_rate", config, PRESETS[config.preset]) as run:
        if run.result:
            return run.result
        for name, value in {"batch_size": config.batch_size, "seeds": config.seeds, "logged": config.logged}.items():
            if value < 1:
                raise ValueError(f"{name} is {value}; it must be at least 1.")
        if config.steps < 100 or config.l2 < 0:
            raise ValueError(f"Wanted steps >= 100 and l2 >= 0; given are {config.steps} and {config.l2}.")
        source = data.load(config.data, "train", data_dir=config.data_dir)
        source = source if config.examples is None else data.subset(source, config.examples)
        for problem, hidden in PROBLEMS.items():
            files = [file_of(run.folder, kind, problem) for kind in ("curves", "constants")]
            if not files[-1].exists():
                run.journal.say(f"{problem}: {config.steps} steps with {config.seeds} seeds of each schedule …")
                for file, (columns, rows) in zip(files, measure(config, source, hidden), strict=True):
                    write_csv(file, columns, rows)
        values, claims = judge(run.folder)
        return run.finish(values, draw(run.folder), claims)


def measure(config: Config, source: data.Source, hidden: tuple[int, ...]):
    """((columns, rows) of the curves, (columns, rows) of the constants) of one problem."""
    examples, objective, params = problem(config, source, hidden)
    lipschitz = float(
        jax.jit(lambda: train.curvature(objective, params, examples, jax.random.key(1), iterations=100))()
    )
    rates = {"no noise": np.full(config.steps, 1 / lipschitz)} | noisy_rates(0.5 / lipschitz, config.steps)
    logged = np.unique(np.geomspace(1, config.steps, config.logged).round().astype(np.int32)) - 1

    clean = path_of(objective, examples, params, rates["no noise"][None], [config.seed], logged, None, config.chunk)
    table = np.repeat(np.stack(list(rates.values())[1:]), config.seeds, axis=0)
    seeds = [config.seed + i for i in range(config.seeds)] * (len(rates) - 1)
    noisy = path_of(objective, examples, params, table, seeds, logged, config.batch_size, config.chunk)

    # f* from below: λ-strong convexity gives f* ≥ f − ‖∇f‖²/2λ; else the theorem's own "bounded from below by 0".
    lowest = 0.0
    if not hidden and config.l2 > 0:
        lowest = float(clean["loss"][0, -1] - clean["gradient_norm2"][0, -1] / (2 * config.l2))
    clean_constants = constants_along(objective, examples, clean["params"], 1, None)
    noisy_constants = constants_along(objective, examples, noisy["params"], config.seeds, config.batch_size)
    curves, constants = [], []
    for i, (name, rate) in enumerate(rates.items()):  # the first is the one without noise
        rows = slice(0, 1) if i == 0 else slice((i - 1) * config.seeds, i * config.seeds)
        paths = jax.tree.map(lambda x: x[rows], clean if i == 0 else noisy)  # noqa: B023
        squares = np.asarray(paths["gradient_norm2"], np.float64)
        gap = float(np.mean(paths["loss"][:, 0])) - lowest
        along, moment = (values[0 if i == 0 else i - 1] for values in (clean_constants if i == 0 else noisy_constants))
        left = np.minimum.accumulate(squares.mean(0))
        if i == 0:
            bound = metrics.gradient_descent_bound(rate, gap, along)[logged]
        else:
            bound = metrics.sgd_bound(rate, gap, along, moment)[logged]
        error = squares.std(0) / np.sqrt(len(squares))
        curves += [
            (name, int(t) + 1, *row)
            for t, *row in zip(logged, rate[logged], squares.mean(0), error, left, bound, strict=True)
        ]
        late = logged >= config.steps // 2
        constants.append((name, rate[0], along, moment, gap, squares[:, late].mean()))
    return (
        (("schedule", "steps", "rate", "mean_gradient_norm2", "standard_error", "left", "bound"), curves),
        (("schedule", "first_rate", "lipschitz", "second_moment", "gap", "floor"), constants),
    )


def problem(config: Config, source: data.Source, hidden: tuple[int, ...]) -> tuple[Any, Callable, Any]:
    """(examples, objective, θ_0): ℓ2-regularised softmax classification by a network with tanh, or a linear one."""
    arrays = source.arrays()
    mean, std = data.moments(source)
    examples = {"image": augment.normalise(jnp.asarray(arrays["image"]), mean, std), "label": arrays["label"]}
    examples = jax.tree.map(jnp.asarray, examples)
    model = MLP(len(source.classes), hidden=hidden, activation=nn.tanh)
    params = model.init(jax.random.key(config.seed), examples["image"][:1])["params"]

    def objective(params, batch):
        logits: Any = model.apply({"params": params}, batch["image"])
        penalty = config.l2 / 2 * optax.tree.norm(params, squared=True)
        return losses.cross_entropy(logits, batch["label"]).mean() + penalty

    return examples, objective, params


def noisy_rates(highest: float, steps: int) -> dict[str, np.ndarray]:
    """Name -> α_0 … α_{T−1}. All begin at the highest rate, but for the smaller constant ones."""
    time = np.arange(steps)
    shift = max(1, steps // 100)
    named = {f"constant/{2**k}" if k else "constant": schedules.constant(highest / 2**k) for k in range(HALVINGS + 1)}
    decreasing = (
        schedules.inverse_time(highest, shift),
        schedules.inverse_sqrt(highest, shift),
        schedules.step_decay(highest, 0.1, max(1, steps // 3)),
        schedules.cosine_decay(highest, steps),
    )
    named |= dict(zip(DECREASING, decreasing, strict=True))
    return {name: np.asarray(schedule(time), np.float64) for name, schedule in named.items()}


def path_of(objective, examples, params, rates, seeds, logged, batch_size, chunk) -> dict[str, Any]:
    """`train.sgd_path` of many members, by vmap: their steps are so small that a loop would only pay for its turns."""
    where = train.population_layout(train.placement("vmap", len(seeds), chunk), len(seeds))

    def one(member, examples, params, logged):
        rates, key = member
        return train.sgd_path(objective, params, examples, rates, key, logged, batch_size=batch_size)

    members = jnp.asarray(rates, jnp.float32), jnp.stack([jax.random.key(seed) for seed in seeds])
    shared = where.shared((examples, params, jnp.asarray(logged, jnp.int32)))
    return where.logical(where.compile(one, donate=False)(where.place(members), *shared))


def constants_along(
    objective, examples, paths, seeds: int, batch_size: int | None, *, points: int = 10
) -> tuple[np.ndarray, np.ndarray]:
    """(largest curvature [schedules], largest second moment [schedules]) at points of the first two seeds' paths.

    paths: parameters [schedules · seeds, logged, …].
    """
    logs = len(jax.tree.leaves(paths)[0][0])
    chosen = np.unique(np.linspace(0, logs - 1, points).round().astype(int))
    some = jax.tree.map(lambda x: x.reshape(-1, seeds, *x.shape[1:])[:, :2, chosen], paths)
    lead = jax.tree.leaves(some)[0].shape[:3]

    @jax.jit
    def at_all(some, examples):
        def at(params):
            return (
                train.curvature(objective, params, examples, jax.random.key(1)),
                train.second_moment(objective, params, examples, batch_size=batch_size),
            )

        return jax.lax.map(at, some)

    found = at_all(jax.tree.map(lambda x: jnp.asarray(x.reshape(-1, *x.shape[3:])), some), examples)
    curvatures, moments = (np.asarray(values, np.float64).reshape(lead).max((1, 2)) for values in found)
    return curvatures, moments


def judge(folder: Path) -> tuple[dict[str, float], list[Claim]]:
    """(metrics, claims) from the tables."""
    values, claims = {}, []

    def claim(name: str, value: float, target: float) -> None:
        claims.append(Claim(f"{problem}: {name}", float(value), f"<= {target}", bool(value <= target)))

    for problem in PROBLEMS:
        curves, constants = tables(folder, problem)
        claim("left side over bound, worst of all T and schedules", (curves["left"] / curves["bound"]).max(), 1)
        slopes = {name: slope(curves, name) for name in constants["schedule"]}
        claim("slope without noise", slopes["no noise"], -0.9)
        constant = np.char.startswith(constants["schedule"], "constant")
        floors = dict(zip(constants["schedule"][constant], constants["floor"][constant], strict=True))
        ratios = constants["floor"][constant] / constants["first_rate"][constant]
        claim(f"floor/α over a {2**HALVINGS}-fold range of α, highest over lowest", ratios.max() / ratios.min(), 2)
        for name in DECREASING:
            last = curves["left"][curves["schedule"] == name][-1]
            claim(f"end of {name}, over the floor of its first rate", last / floors["constant"], 1)
        for kind, numbers in (("slope", slopes), ("floor", floors)):
            values |= {re.sub(r"\W+", "_", f"{problem} {kind} {name}"): float(x) for name, x in numbers.items()}
    return values, claims


def slope(curves: dict[str, np.ndarray], schedule: str) -> float:
    """Slope of the left side over T on log-log axes: from T = 10 on without noise, else over the last decade."""
    chosen = curves["schedule"] == schedule
    steps, left = curves["steps"][chosen], curves["left"][chosen]
    first = 10 if schedule == "no noise" else steps[-1] / 10
    # Below 1e-10 the gradient is rounding of float32.
    fitted = (steps >= first) & (left > 1e-10)
    return metrics.loglog_slope(steps[fitted], left[fitted])


def file_of(folder: Path, kind: str, problem: str) -> Path:
    return folder / f"{kind}_{problem.replace(' ', '_')}.csv"


def tables(folder: Path, problem: str) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """The curves and the constants of a problem."""
    curves, constants = (read_csv(file_of(folder, kind, problem)) for kind in ("curves", "constants"))
    return curves, constants


def draw(folder: Path) -> dict[str, Figure]:
    """The figure, from the tables alone."""
    panels = []
    for problem in PROBLEMS:
        curves, constants = tables(folder, problem)
        constant = [name for name in constants["schedule"] if name.startswith("constant")]
        for title, names in (
            ("no noise, α = 1/L", ["no noise"]),
            ("constant α", constant),
            ("decreasing α", DECREASING),
        ):
            lines = []
            for name in names:
                chosen = curves["schedule"] == name
                label = f"α = {curves['rate'][chosen][0]:.2g}" if name in constant else name
                label += f", slope {slope(curves, name):.2f}"
                lines.append((label, curves["steps"][chosen], curves["left"][chosen], curves["bound"][chosen]))
            panels.append((f"{problem}: {title}", lines))
    return {"convergence": plots.convergence(panels, columns=3)}


if __name__ == "__main__":
    from .cli import run

    sys.exit(run("convergence_rate"))
