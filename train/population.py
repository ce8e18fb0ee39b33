"""Many runs of one program at once: the same step for every member, each with its own seed and hyperparameters.

A population is a `State` whose arrays have a leading member axis. Members see the batches of their own seed and
draw from their own key, so that each one's trajectory is that of the same run alone. How they are laid out is
a `Placement`, two numbers: over how many devices, and how many at a time on each. All members at once is `vmap`,
which fills an accelerator; one at a time is a loop inside the compiled program, which on CPUs beats batching small
matrices; one at a time on each of several devices uses all cores. The numbers are the same.

A member whose loss or gradient is not finite is frozen at the state before: its `step` stands still, its metrics are
NaN from there on, and no other member notices.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from .. import data
from .checkpoint import Checkpoints
from .evaluate import evaluation_batch, fill, per_example_metrics
from .feed import LONGEST_STRETCH, Feed, check_batch, epoch_batches, is_resident, stretch
from .journal import Journal
from .loop import SAVE_SECONDS, Stopped, next_count, stop_requested
from .optimizers import MakeOptimizer
from .state import State, compile_create
from .step import Step
from .task import Task, Variables

AXIS = "member"
MODES = ("auto", "vmap", "map", "devices")


@dataclass(frozen=True)
class Members:
    """Who is in a population.

    seeds: [members] int64, of initialisation, order of the data and augmentation.
    hyper: name -> [members] float, the hyperparameters.
    """

    seeds: np.ndarray
    hyper: Mapping[str, np.ndarray]

    def __len__(self) -> int:
        return len(self.seeds)


def grid(seeds: Sequence[int], hyper: Mapping[str, Sequence[float]]) -> Members:
    """Every combination of hyperparameters with every seed; the seed varies fastest.

    Args:
      seeds: at least one.
      hyper: name -> values, at least one each.
    Raises: ValueError if there are no seeds, or no values of a hyperparameter.
    """
    empty = [name for name, values in {"seeds": seeds, **hyper}.items() if not len(values)]
    if empty:
        raise ValueError(f"A population needs at least one value of each; it was given none of {', '.join(empty)}.")
    rows = list(product(*hyper.values(), seeds))
    columns = list(zip(*rows, strict=True))
    named = {name: np.asarray(column, np.float64) for name, column in zip(hyper, columns[:-1], strict=True)}
    return Members(np.asarray(columns[-1], np.int64), named)


@flax.struct.dataclass
class Member:
    """A run that may have ended.

    state: its `State`.
    diverged_at: int32 [], the step it could not take, or -1.
    order: int32 [], which of the population's orders of the data is its own.
    """

    state: State
    diverged_at: jax.Array
    order: jax.Array


@dataclass(frozen=True)
class Placement:
    """Where the members run. devices: how many. chunk: members at a time on each of them, by `vmap`."""

    devices: int
    chunk: int


def placement(mode: str, members: int, chunk: int | None = None) -> Placement:
    """The placement that a mode names.

    Args:
      mode: "vmap" (all members at once, spread over all devices), "map" (one after another on one device) or
        "devices" (one at a time on each device).
      members: how many.
      chunk: with vmap, at most this many at a time on each device; None for all.
    Raises: ValueError for another mode or a chunk that is not positive.
    """
    if chunk is not None and chunk < 1:
        raise ValueError(f"chunk is {chunk}; it must be at least 1 member.")
    devices = min(jax.device_count(), members)
    modes = {
        "vmap": lambda: Placement(devices, min(chunk or members, -(-members // devices))),
        "map": lambda: Placement(1, 1),
        "devices": lambda: Placement(devices, 1),
    }
    if mode not in modes:
        raise ValueError(f"The mode of a population is {mode!r}; valid are {', '.join(MODES)}.")
    return modes[mode]()


def fastest_placement(
    probe: Callable[[Placement], Callable[[int], Any]],
    members: int,
    *,
    steps: int,
    chunk: int | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> Placement:
    """The placement that a short measurement finds fastest.

    What is usually best comes first: vmap on accelerators; on CPUs one member at a time on each device. The
    other is compiled and measured only in runs so long that this is a small part of them.

    Args:
      probe: placement -> function that takes this many steps with all members and waits for them.
      members: how many.
      steps: that the run will take.
      chunk: as of `placement`.
      clock: in seconds.
    """
    by_loop = placement("devices", members)
    at_once = placement("vmap", members, chunk)
    first, second = (by_loop, at_once) if jax.default_backend() == "cpu" else (at_once, by_loop)

    def seconds(take: Callable[[int], Any], count: int) -> float:
        began = clock()
        take(count)
        return (clock() - began) / count

    takes = [probe(first)]
    compile_seconds = seconds(takes[0], 1)
    if first == second or seconds(takes[0], PROBE_STEPS) * steps < WORTH_MEASURING * compile_seconds:
        return first
    takes.append(probe(second))
    seconds(takes[1], 1)
    # In turn, and the fastest of several: other programs can only make a measurement longer.
    rounds = [[seconds(take, PROBE_STEPS) for take in takes] for _ in range(PROBE_ROUNDS)]
    one, other = np.min(rounds, axis=0)
    return second if other < CLEARLY_FASTER * one else first


PROBE_STEPS, PROBE_ROUNDS = 5, 3
CLEARLY_FASTER = 0.9
WORTH_MEASURING = 20  # times as long as compilation: then the measurement takes less than a tenth of the run


def create_population(task: Task, make_optimizer: MakeOptimizer, members: Members, *, ema: bool = False) -> Member:
    """The stack of members at step 0; the state of member i is `create_state(…, key(seeds[i]), hyper[i])`.

    Args:
      task: says how variables begin.
      make_optimizer: (learning rate, hyper) -> optax transformation.
      members: seeds and hyperparameters.
      ema: keep moving averages.
    """
    create = compile_create(task, make_optimizer, ema=ema)
    # One by one: batched, initialisers take twice as long to compile, and a call takes less than a millisecond.
    states = [
        create(jax.random.key(int(seed)), {name: values[i] for name, values in members.hyper.items()})
        for i, seed in enumerate(members.seeds)
    ]
    order = np.unique(members.seeds, return_inverse=True)[1]
    return Member(_stacked(states), jnp.full(len(members), -1, jnp.int32), jnp.asarray(order, jnp.int32))


def freezing(step: Step) -> Callable[[Member, Any], tuple[Member, Any]]:
    """A step that a diverged member does not take.

    Args:
      step: (state, batch) -> (state, metrics).
    Returns: (member, batch) -> (member, metrics): as `step` while loss and gradient are finite; from the first step on
      where they are not, the state as it was before it, and metrics of NaN.
    """

    def guarded(member: Member, batch):
        after, metrics = step(member.state, batch)
        # Not of the new parameters: to wait for them would keep the update and the choice from being one loop over
        # memory. Parameters that are not finite give a loss that is not, one step later.
        finite = jnp.isfinite(metrics["loss"]) & jnp.isfinite(metrics["gradient_norm"])
        running = member.diverged_at < 0
        kept = jax.tree.map(partial(jnp.where, running & finite), after, member.state)
        diverged_at = jnp.where(running & ~finite, member.state.step, member.diverged_at)
        metrics = jax.tree.map(lambda value: jnp.where(running & finite, value, jnp.nan), metrics)
        return replace(member, state=kept, diverged_at=diverged_at), metrics

    return guarded


@dataclass(frozen=True)
class PopulationLayout:
    """A population on the devices.

    members: how many. placement: see there.
    place: stacked tree -> the same on the devices, spread over them.
    shared: tree -> the same tree, whole on every device.
    logical: a tree as `place` or `compile` gave it -> stacked tree of `members`, on the host.
    compile: (function, donate) -> compiled function. The function is that of one member, (tree of one, *shared
      arguments) -> tree of one; the compiled one takes and gives placed stacks.
    """

    members: int
    placement: Placement
    place: Callable[[Any], Any]
    shared: Callable[[Any], Any]
    logical: Callable[[Any], Any]
    compile: Callable[..., Callable]


def population_layout(placement: Placement, members: int) -> PopulationLayout:
    """The layout of a placement; members are filled up with copies of the last one to a multiple of the devices."""
    count = placement.devices
    mesh = jax.make_mesh((count,), (AXIS,), axis_types=(AxisType.Auto,), devices=jax.devices()[:count])
    spread, whole = NamedSharding(mesh, PartitionSpec(AXIS)), NamedSharding(mesh, PartitionSpec())
    padded = -(-members // count) * count
    chunk = placement.chunk if placement.chunk > 1 else None

    def compile(function, donate=True):
        def of_device(stack, *arguments):
            return jax.lax.map(lambda one: function(one, *arguments), stack, batch_size=chunk)

        def of_all(stack, *arguments):
            specs = (PartitionSpec(AXIS), *(PartitionSpec() for _ in arguments))
            mapped = jax.shard_map(
                of_device, mesh=mesh, in_specs=specs, out_specs=PartitionSpec(AXIS), check_vma=False
            )  # fmt: skip
            return mapped(stack, *arguments)

        return jax.jit(of_all, donate_argnums=0 if donate else ())

    return PopulationLayout(
        members,
        placement,
        place=lambda tree: jax.device_put(_on_host(tree, np.minimum(np.arange(padded), members - 1)), spread),
        shared=lambda tree: jax.device_put(tree, whole),
        logical=partial(_on_host, rows=np.arange(members)),
        compile=compile,
    )


def _on_host(tree: Any, rows: np.ndarray) -> Any:
    """Some rows of every array, as copies on the host.

    Not by indexing on the devices: that would gather over them, and on CPUs several gathers in flight wait for each
    other for ever where there are fewer threads than devices.
    """

    def chosen(x):
        if jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
            return jax.random.wrap_key_data(jnp.asarray(np.asarray(jax.random.key_data(x))[rows]))
        return np.asarray(x)[rows]

    return jax.tree.map(chosen, tree)


def _stacked(trees: Sequence[Any]) -> Any:
    """Trees of one structure as one tree with a leading axis, on the host but for keys."""

    def stack(*parts):
        if jnp.issubdtype(parts[0].dtype, jax.dtypes.prng_key):
            return jax.random.wrap_key_data(jnp.asarray(np.stack([jax.random.key_data(x) for x in parts])))
        return np.stack(parts)

    return jax.tree.map(stack, *trees)


def population_feed(
    step: Step,
    source: data.Source,
    members: Members,
    where: PopulationLayout,
    *,
    batch_size: int,
    resident: bool | None = None,
    examples: Mapping[str, np.ndarray] | None = None,
) -> Feed:
    """A feed whose state is a placed stack of `Member`s and whose metrics are [count, members].

    Args:
      step: of one member, from `make_step`.
      source: the training examples, the same for all.
      members: whose seeds give the order of the examples.
      where: the layout.
      batch_size: of one member.
      resident: as of `feed`.
      examples: the source's arrays, where they have been read already.
    Raises: ValueError if `batch_size` is not positive or exceeds the data.
    """
    check_batch(source, batch_size, 1)
    seeds = [int(seed) for seed in np.unique(members.seeds)]
    if is_resident(source, resident):
        examples = source.arrays() if examples is None else examples
        return _resident(freezing(step), source, examples, seeds, where, batch_size)
    return _streaming(freezing(step), source, seeds, where, batch_size)


def _resident(step, source: data.Source, examples, seeds: list[int], where: PopulationLayout, batch_size: int) -> Feed:
    steps_per_epoch = len(source) // batch_size
    most = min(steps_per_epoch, LONGEST_STRETCH)
    take = stretch(step, most)
    examples = where.shared(examples)
    compiled = where.compile(
        lambda one, examples, orders, first, count: take(one, examples, orders[one.order], first, count)
    )
    placed_epoch, orders = None, None

    def advance(stack, first, count):
        nonlocal placed_epoch, orders
        epoch = first // steps_per_epoch
        if epoch != placed_epoch:
            orders = where.shared(np.stack([epoch_batches(source, batch_size, seed, epoch) for seed in seeds]))
            placed_epoch = epoch
        stack, metrics = compiled(stack, examples, orders, first, count)
        return stack, lambda: {name: np.asarray(x).T[:count] for name, x in where.logical(metrics).items()}

    return Feed(advance, steps_per_epoch, most)


def _streaming(step, source: data.Source, seeds: list[int], where: PopulationLayout, batch_size: int) -> Feed:
    compiled = where.compile(lambda one, batches: step(one, jax.tree.map(lambda x: x[one.order], batches)))
    position, streams = None, []

    def advance(stack, first, count):
        nonlocal position, streams
        if position != first:
            streams = [data.stream(source, batch_size=batch_size, seed=seed, start_step=first) for seed in seeds]
        rows = []
        for _ in range(count):
            batches = jax.tree.map(lambda *each: np.stack(each), *[next(stream) for stream in streams])
            stack, metrics = compiled(stack, where.shared(batches))
            rows.append(metrics)
        position = first + count
        return stack, lambda: {
            name: np.stack([np.asarray(where.logical(row)[name]) for row in rows]) for name in rows[0]
        }

    return Feed(advance, len(source) // batch_size, most=8)


def population_evaluator(
    task: Task, source: data.Source, where: PopulationLayout, *, batch_size: int, resident: bool | None = None
) -> Callable[[Variables], dict[str, np.ndarray]]:
    """Mean metrics of every member over every example of a split, each counted once.

    Args:
      task: its loss is called with train=False.
      source: the examples.
      where: the layout of the variables.
      batch_size: how many at once; the result does not depend on it.
      resident: as of `evaluator`.
    Returns: placed stack of variables -> {metric: [members] float64}.
    Raises: ValueError if `batch_size` is not positive or the split is empty.
    """
    batch_size = evaluation_batch(source, batch_size)
    rows_of = per_example_metrics(task)

    def sums(variables, batch, counted):
        return {name: (values * counted).sum() for name, values in rows_of(variables, batch).items()}

    def read():
        for batch in data.in_order(source, batch_size=batch_size):
            counted = np.arange(batch_size) < len(batch["index"])
            yield where.shared((fill(batch, batch_size), counted.astype(np.float32)))

    compiled = where.compile(sums, donate=False)
    kept = list(read()) if is_resident(source, resident) else None

    def evaluate(variables):
        parts = [compiled(variables, *batch) for batch in (kept if kept is not None else read())]
        sums = [{name: np.asarray(x, np.float64) for name, x in where.logical(part).items()} for part in parts]
        return {name: np.sum([part[name] for part in sums], axis=0) / len(source) for name in sums[0]}

    return evaluate


@dataclass(frozen=True)
class PopulationFitted:
    """What a run of `fit_population` ends with.

    last: the stack of members after the last step.
    best: stacked variables of each member's best validation (its last ones where there was none).
    best_epoch: int [members], 0 where there was none.
    epochs: one record per epoch: {"epoch", "step", "train": {metric: [members], mean over the epoch's
      minibatches}, "validation": {metric: [members]}}; NaN from a member's divergence on.
    """

    last: Member
    best: Variables
    best_epoch: np.ndarray
    epochs: tuple[Mapping[str, Any], ...]

    @property
    def diverged_at(self) -> np.ndarray:
        """int [members]: the step that could not be taken, or -1."""
        return np.asarray(self.last.diverged_at)

    def at_best(self, split: str, metric: str) -> np.ndarray:
        """float64 [members]: a metric of each member's best epoch; NaN where there was none."""
        values = np.stack([epoch[split][metric] for epoch in self.epochs])
        chosen = values[np.maximum(self.best_epoch - 1, 0), np.arange(values.shape[1])]
        return np.where(self.best_epoch > 0, chosen, np.nan)


def fit_population(
    stack: Member,
    feed: Feed,
    where: PopulationLayout,
    *,
    epochs: int,
    validate: Callable[[Variables], Mapping[str, np.ndarray]] | None = None,
    better: Callable[[Mapping[str, Any]], tuple[Any, ...]] = lambda validation: (-validation["loss"],),
    checkpoints: Checkpoints | None = None,
    journal: Journal | None = None,
    title: str = "population",
) -> PopulationFitted:
    """Trains a population for a number of epochs, or goes on from the newest checkpoint.

    Args:
      stack: the members at step 0, from `create_population`; or, in a run of several stages, those of the stage before.
      feed: from `population_feed`.
      where: the feed's layout.
      epochs: passes through the training examples.
      validate: placed stack of variables -> {metric: [members]}, called after every epoch.
      better: as of `fit`, on arrays [members].
      checkpoints: where the population is saved: after the last epoch, and others when `loop.SAVE_SECONDS` have passed.
      journal: is told what happens; records the median member.
      title: of the progress bar.
    Returns: `PopulationFitted`.
    Raises: ValueError if `epochs` < 1; `Stopped` after SIGINT or SIGTERM, with the last epoch saved.
    """
    if epochs < 1:
        raise ValueError(f"epochs is {epochs}; it must be at least 1.")
    journal = journal or Journal()
    per_epoch, total = feed.steps_per_epoch, epochs * feed.steps_per_epoch
    members = where.members

    initial = _Kept(stack, stack.state.variables, jnp.zeros(members, jnp.int32))
    restored = checkpoints.restore(initial) if checkpoints else None
    record = restored.record if restored else {"epochs": [], "score": None}
    step = restored.step if restored else 0
    if step > int(np.max(stack.state.step)):
        journal.say(f"Resuming after step {step} of {total}.")
    kept = where.place(restored.state if restored else initial)
    stack, best, best_epoch = kept.stack, kept.best, kept.best_epoch
    score = None if record["score"] is None else np.asarray(record["score"], np.float64)
    done = [_arrays(epoch) for epoch in record["epochs"]]
    select = where.compile(_select, donate=False)

    journal.begin(title, step, total)
    try:
        with stop_requested() as stop:
            saved_at = time.perf_counter()
            while step < total:
                rows, count = [], 1
                while step < (len(done) + 1) * per_epoch:
                    count = min(count, feed.most, per_epoch - step % per_epoch)
                    began = time.perf_counter()
                    stack, read = feed.advance(stack, step, count)
                    rows.append(read())
                    step += count
                    loss = rows[-1]["loss"][-1]
                    alive = int(np.isfinite(loss).sum())
                    middle = np.median(loss[np.isfinite(loss)]) if alive else math.nan
                    journal.progress(step, f"median loss {middle:.3f}, {alive} of {members} members")
                    seconds = time.perf_counter() - began
                    count = next_count(count, seconds)
                variables = stack.state.variables
                validation = dict(validate(variables)) if validate else {}
                alive = where.logical(stack.diverged_at) < 0
                validation = {name: np.where(alive, value, np.nan) for name, value in validation.items()}
                train = {name: np.concatenate([r[name] for r in rows]).mean(0, dtype=np.float64) for name in rows[0]}
                done.append({"epoch": len(done) + 1, "step": step, "train": train, "validation": validation})
                if validation:
                    now = np.stack([np.asarray(part, np.float64) for part in better(validation)])
                    improved = np.isfinite(now).all(0) & _greater(now, score)
                    score = np.where(improved, now, -np.inf if score is None else score)
                    chosen = where.place((jnp.asarray(improved), jnp.full(members, len(done), jnp.int32)))
                    best, best_epoch = select(((best, best_epoch), (variables, chosen[1]), chosen[0]))
                for split in ("train", "validation"):
                    if done[-1][split]:
                        journal.record(
                            split, step, len(done), {f"{k}_median": _median(v) for k, v in done[-1][split].items()}
                        )
                journal.say(_epoch_line(done[-1], epochs, int(np.sum(alive))))
                # The best members so far are part of what is saved, so that no epoch must be.
                if checkpoints and (step == total or stop() or time.perf_counter() - saved_at >= SAVE_SECONDS):
                    saved_at = time.perf_counter()
                    journal.flush()
                    logical = where.logical(_Kept(stack, best, best_epoch))
                    record = {
                        "epochs": [_lists(epoch) for epoch in done],
                        "score": None if score is None else score.tolist(),
                    }
                    checkpoints.save(logical, record, None, step=step)
                if stop() and step < total:
                    raise Stopped(f"stopped after step {step} of {total}")
    finally:
        if checkpoints:
            checkpoints.wait()
        journal.end()
    if not done or not done[-1]["validation"]:
        best = stack.state.variables
    return PopulationFitted(
        where.logical(stack), where.logical(best), np.asarray(where.logical(best_epoch)), tuple(done)
    )


@flax.struct.dataclass
class _Kept:
    """What a population's checkpoint holds."""

    stack: Member
    best: Any
    best_epoch: jax.Array


def _select(one):
    """(before, after, whether) -> after where whether, else before; of one member."""
    before, after, whether = one
    return jax.tree.map(partial(jnp.where, whether), after, before)


def _greater(now: np.ndarray, before: np.ndarray | None) -> np.ndarray:
    """Whether scores [parts, members] are greater, compared from the first part on."""
    if before is None:
        return np.ones(now.shape[1], bool)
    greater, equal = np.zeros(now.shape[1], bool), np.ones(now.shape[1], bool)
    for a, b in zip(now, before, strict=True):
        greater |= equal & (a > b)
        equal &= a == b
    return greater


def _median(values: np.ndarray) -> float:
    """The middle of what is finite, NaN where nothing is."""
    finite = values[np.isfinite(values)]
    return float(np.median(finite)) if len(finite) else math.nan


def _lists(epoch: Mapping[str, Any]) -> dict[str, Any]:
    return dict(epoch) | {
        split: {name: values.tolist() for name, values in epoch[split].items()} for split in ("train", "validation")
    }


def _arrays(epoch: Mapping[str, Any]) -> dict[str, Any]:
    return dict(epoch) | {
        split: {name: np.asarray(values, np.float64) for name, values in epoch[split].items()}
        for split in ("train", "validation")
    }


def _epoch_line(epoch: Mapping[str, Any], epochs: int, alive: int) -> str:
    parts = [f"epoch {epoch['epoch']}/{epochs}", f"{alive} members"]
    for split in ("train", "validation"):
        shown = {name: values for name, values in epoch[split].items() if name in ("loss", "accuracy")}
        parts += [f"{split} median " + ", ".join(f"{k} {_median(v):.4f}" for k, v in shown.items())] if shown else []
    return " · ".join(parts)
