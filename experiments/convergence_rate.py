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
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from .. import data, lab, losses, metrics, models, plots, schedules, train
from ..data import augment

PROBLEMS = {"logistic regression": (), "smooth MLP": (32,)}
DECREASING = ("inverse time", "inverse square root", "step", "cosine")
HALVINGS = 4  # constant rates over a 16-fold range


@dataclass(frozen=True)
class Config:
    """Problem, budget and members."""

    run: lab.RunOptions = lab.RunOptions()
    random: lab.RandomOptions = lab.RandomOptions()
    data: lab.DataOptions = lab.DataOptions()
    examples: Annotated[int | None, lab.COUNT] = None
    """Number of training examples, such as 500; by default all."""
    batch_size: Annotated[int, lab.COUNT] = 8
    """Number of examples in a step, drawn with replacement."""
    steps: Annotated[int, lab.at_least(100)] = 16_000
    """Number T of steps."""
    seeds: Annotated[int, lab.at_least(1, 10_000)] = 32
    """Number of seeds over which the expectation is a mean; they are counted up from --seed, that of θ_0."""
    l2: Annotated[float, lab.Valid("at least 0 and at most 1", lambda l2: 0 <= l2 <= 1)] = 0.01
    """Weight λ of the penalty λ/2 ‖θ‖², a part of f."""
    logged: Annotated[int, lab.at_least(8)] = 40  # with fewer, the last decade has less than the two that a slope needs
    """Number of steps, spaced evenly in log t, at which the gradient of all examples is taken."""
    chunk: Annotated[int | None, lab.COUNT] = None
    """Largest number of members at a time on each device, where memory is short; by default all."""

    @property
    def many_devices(self) -> bool:
        """Every CPU core should be a device: all members train at once."""
        return True


DEMO = Config()
PRESETS = {
    "smoke": lab.override(DEMO, preset="smoke", steps=200, seeds=4, logged=8, examples=128),
    "demo": DEMO,
    "paper": lab.override(DEMO, preset="paper", data="tfds:fashion_mnist", steps=200_000, seeds=256, logged=80),
}


def main(config: Config) -> lab.Result:
    """Measures both problems, compares with the bound and draws."""
    with lab.open_run(__file__, config, PRESETS) as run:
        if run.result:
            return run.result
        source = lab.load(config.data, "train")
        source = source if config.examples is None else data.subset(source, config.examples)
        for name, hidden in PROBLEMS.items():
            files = [file_of(run.folder, kind, name) for kind in ("curves", "constants")]
            if not files[-1].exists():
                run.display.say(f"{name}: {config.steps} steps with {config.seeds} seeds of each schedule …")
                for file, (columns, rows) in zip(files, measure(config, source, hidden), strict=True):
                    lab.write_csv(file, columns, rows)
        values, claims = judge(run.folder)
        return run.finish(values, draw(run.folder), claims)


@dataclass(frozen=True)
class Problem:
    """A function to minimize, and where to begin."""

    examples: Mapping[str, jax.Array]
    """{name: [n, …]}: f is a mean over these."""
    objective: Callable[[Any, Any], jax.Array]
    """f: (parameters, batch) -> scalar."""
    params: Any
    """θ_0."""


@dataclass(frozen=True)
class Measured:
    """What the seeds of one schedule did."""

    name: str
    """Name of the schedule."""
    rates: np.ndarray
    """[steps] float64: α_0 … α_{T−1}."""
    losses: np.ndarray
    """[seeds, logged]: f(θ_t)."""
    squares: np.ndarray
    """[seeds, logged] float64: ‖∇f(θ_t)‖²."""
    lipschitz: float
    """The largest curvature along the paths."""
    second_moment: float | None
    """The largest E‖g‖² along the paths; None without noise."""


def measure(config: Config, source: data.Source, hidden: tuple[int, ...]):
    """((columns, rows) of the curves, (columns, rows) of the constants) of one problem."""
    problem = problem_of(config, source, hidden)

    @jax.jit
    def first_curvature():
        return train.curvature(
            problem.objective, problem.params, problem.examples, jax.random.key(1), num_iterations=100
        )

    lipschitz = float(first_curvature())
    logged = np.unique(np.geomspace(1, config.steps, config.logged).round().astype(np.int32)) - 1
    still = {"no noise": np.full(config.steps, 1 / lipschitz)}
    clean = measured(problem, still, [config.random.seed], logged, None, config.chunk)
    seeds = range(config.random.seed, config.random.seed + config.seeds)
    noisy = measured(
        problem, noisy_rates(0.5 / lipschitz, config.steps), seeds, logged, config.batch_size, config.chunk
    )
    # f* from below: λ-strong convexity gives f* ≥ f − ‖∇f‖²/2λ; else the theorem's own "bounded from below by 0".
    lowest = 0.0
    if not hidden and config.l2 > 0:
        lowest = float(clean[0].losses[0, -1] - np.float32(clean[0].squares[0, -1]) / (2 * config.l2))
    every = [*clean, *noisy]
    curves = [row for each in every for row in curve_rows(each, logged, gap_of(each, lowest))]
    late = logged >= config.steps // 2
    constants = [constant_row(each, late, gap_of(each, lowest)) for each in every]
    return (
        (("schedule", "steps", "rate", "mean_gradient_norm2", "standard_error", "left", "bound"), curves),
        (("schedule", "first_rate", "lipschitz", "second_moment", "gap", "floor"), constants),
    )


def measured(
    problem: Problem,
    rates: Mapping[str, np.ndarray],
    seeds: Sequence[int],
    logged: np.ndarray,
    batch_size: int | None,
    chunk: int | None,
) -> list[Measured]:
    """Takes the paths of all schedules and seeds, as one program, and the theorem's constants along them.

    Args:
      problem: what is minimized.
      rates: schedule -> [steps].
      seeds: draw the minibatches.
      logged: steps at which to look, int [logged].
      batch_size: number of examples in a step; None for all of them.
      chunk: largest number of members at a time on each device.
    """
    table = np.repeat(np.stack(list(rates.values())), len(seeds), axis=0)
    paths = paths_of(problem, table, list(seeds) * len(rates), logged, batch_size, chunk)
    curvatures, moments = constants_along(problem, paths["params"], len(seeds), batch_size)
    found = []
    for i, (name, rate) in enumerate(rates.items()):
        rows = slice(i * len(seeds), (i + 1) * len(seeds))
        moment = None if batch_size is None else float(moments[i])
        squares = np.asarray(paths["gradient_norm2"][rows], np.float64)
        found.append(Measured(name, rate, paths["loss"][rows], squares, float(curvatures[i]), moment))
    return found


def gap_of(one: Measured, lowest: float) -> float:
    """f(θ_0) − f*."""
    return float(np.mean(one.losses[:, 0])) - lowest


def curve_rows(one: Measured, logged: np.ndarray, gap: float) -> Iterator[tuple[Any, ...]]:
    """Rows of the table of curves: both sides of the theorem at every logged step."""
    if one.second_moment is None:
        bound = metrics.gradient_descent_bound(one.rates, gap, one.lipschitz)[logged]
    else:
        bound = metrics.sgd_bound(one.rates, gap, one.lipschitz, one.second_moment)[logged]
    mean, error = one.squares.mean(0), one.squares.std(0) / np.sqrt(len(one.squares))
    left = np.minimum.accumulate(mean)
    for t, *row in zip(logged, one.rates[logged], mean, error, left, bound, strict=True):
        yield one.name, int(t) + 1, *row


def constant_row(one: Measured, late: np.ndarray, gap: float) -> tuple[Any, ...]:
    """The row of the table of constants; the floor is the mean over the late ones of the logged steps."""
    moment = one.second_moment if one.second_moment is not None else float(one.squares.max())
    return one.name, one.rates[0], one.lipschitz, moment, gap, one.squares[:, late].mean()


def problem_of(config: Config, source: data.Source, hidden: tuple[int, ...]) -> Problem:
    """ℓ2-regularized softmax classification by a network with tanh, or a linear one."""
    arrays = source.arrays()
    mean, std = data.moments(source)
    examples = {"image": augment.normalize(jnp.asarray(arrays["image"]), mean, std), "label": arrays["label"]}
    examples = jax.tree.map(jnp.asarray, examples)
    model = models.create("mlp", num_classes=len(source.classes), hidden=hidden, activation=nn.tanh)
    params = model.init(jax.random.key(config.random.seed), examples["image"][:1])["params"]

    def objective(params, batch):
        logits: Any = model.apply({"params": params}, batch["image"])
        penalty = config.l2 / 2 * optax.tree.norm(params, squared=True)
        return losses.cross_entropy(logits, batch["label"]).mean() + penalty

    return Problem(examples, objective, params)


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


def paths_of(
    problem: Problem,
    rates: np.ndarray,
    seeds: Sequence[int],
    logged: np.ndarray,
    batch_size: int | None,
    chunk: int | None,
) -> dict[str, Any]:
    """`train.sgd_path` of many members, by vmap: their steps are so small that a loop would only pay for its turns.

    Args:
      problem: what is minimized.
      rates: [members, steps].
      seeds: one for each member.
      logged, batch_size, chunk: same as `measured`.
    Returns: same as `train.sgd_path`, with a leading member axis.
    """
    layout = train.population_layout(train.placement("vmap", len(seeds), chunk), len(seeds))

    def one(member, examples, params, logged):
        rates, key = member
        return (train.sgd_path(problem.objective, params, examples, rates, key, logged, batch_size=batch_size),)

    follow = layout.compile(one, ("members", "shared", "shared", "shared"), ("members",), donate=False)
    members = jnp.asarray(rates, jnp.float32), jnp.stack([jax.random.key(seed) for seed in seeds])
    shared = layout.place_shared((problem.examples, problem.params, jnp.asarray(logged, jnp.int32)))
    (paths,) = follow(layout.place_members(members), *shared)
    return layout.unplace(paths)


def constants_along(
    problem: Problem, paths: Any, seeds: int, batch_size: int | None, *, points: int = 10
) -> tuple[np.ndarray, np.ndarray]:
    """(largest curvature [schedules], largest second moment [schedules]) at points of the first two seeds' paths.

    Args:
      problem: what is minimized.
      paths: parameters [schedules · seeds, logged, …].
      seeds: number of seeds of each schedule.
      batch_size: number of examples in a step; None for all of them.
      points: number of points of a path.
    """
    logs = len(jax.tree.leaves(paths)[0][0])
    chosen = np.unique(np.linspace(0, logs - 1, points).round().astype(int))
    some = jax.tree.map(lambda x: x.reshape(-1, seeds, *x.shape[1:])[:, :2, chosen], paths)
    lead = jax.tree.leaves(some)[0].shape[:3]

    @jax.jit
    def at_all(some, examples):
        def at(params):
            return (
                train.curvature(problem.objective, params, examples, jax.random.key(1)),
                train.second_moment(problem.objective, params, examples, batch_size=batch_size),
            )

        return jax.lax.map(at, some)

    found = at_all(jax.tree.map(lambda x: jnp.asarray(x.reshape(-1, *x.shape[3:])), some), problem.examples)
    curvatures, moments = (np.asarray(values, np.float64).reshape(lead).max((1, 2)) for values in found)
    return curvatures, moments


def judge(folder: Path) -> tuple[dict[str, float], list[lab.Claim]]:
    """(metrics, claims) from the tables."""
    values, claims = {}, []

    def claim(name: str, value: float, target: float) -> None:
        claims.append(lab.Claim(f"{problem}: {name}", float(value), f"<= {target}", bool(value <= target)))

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
    """The table of one kind ("curves" or "constants") of a problem."""
    return folder / f"{kind}_{problem.replace(' ', '_')}.csv"


def tables(folder: Path, problem: str) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """The curves and the constants of a problem."""
    curves, constants = (lab.read_csv(file_of(folder, kind, problem)) for kind in ("curves", "constants"))
    return curves, constants


def draw(folder: Path) -> dict[str, plots.Figure]:
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
                label += f", slope {slope(curves, name):z.2f}".replace("-", "−")
                lines.append((label, curves["steps"][chosen], *with_error(curves, chosen), curves["bound"][chosen]))
            panels.append((f"{problem}: {title}", lines))
    seeds = lab.read_config(folder, Config, PRESETS).seeds
    return {"convergence": plots.convergence(panels, num_columns=3, seeds=seeds)}


def with_error(curves: dict[str, np.ndarray], rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(the left side of the theorem [n], its standard error [n]: that of the lowest mean so far).

    >>> curves = {"left": np.array([4.0, 2, 2]), "standard_error": np.array([0.4, 0.2, 0.9])}
    >>> with_error(curves, np.arange(3))[1].tolist()
    [0.4, 0.2, 0.2]
    """
    left = curves["left"][rows]
    first = np.searchsorted(-left, -left)  # the left side falls; where it reached each value first
    return left, curves["standard_error"][rows][first]


if __name__ == "__main__":
    sys.exit(lab.command(__doc__, Config, main, PRESETS))
