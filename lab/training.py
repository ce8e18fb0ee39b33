"""From a task on a data set to trained variables: one run, or a population of them, by the same path.

`Training` says what is trained, on what, and by which updates. `Training.start` lays it out over devices for
`train.fit`, as one run or as a population; `trained.fit` does both in one call, with the run's checkpoints, and keeps a
table of its members.

    training = Training(task, source, validation, make_optimizer=…, hyper={…}, seed=0)
    schedule = warmup_cosine(training.steps(epochs), ScheduleOptions())
    trained = fit(run, training, training.members(0.1), schedule, epochs)
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Protocol, TypeVar

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from .. import data, models, schedules, tasks, train
from ..data import NO_PROGRESS, Report
from ..errors import InputError
from .arrays import evaluation_batch
from .folder import write_json
from .grids import parse_grid
from .options import (
    BatchOptions,
    GridOptions,
    LayoutOptions,
    OptimizerOptions,
    ScheduleOptions,
    SeedsOptions,
    UpdateOptions,
)
from .saved_network import ROLES, SavedNetwork
from .valid import check_hyper

S = TypeVar("S", data.Source, data.text.Texts, covariant=True)
MOST_MEMBERS = 10_000
Schedule = Callable[[Mapping[str, Any]], Any]  # hyper -> (step -> learning rate)


class Loads(Protocol[S]):
    """A group of options that names a data set."""

    def load(self, split: str, report: Report = NO_PROGRESS) -> S:
        """One split."""
        ...


def load(options: Loads[S], split: str, report: Report = NO_PROGRESS) -> S:
    """One split ("train", "validation" or "test") of the data set that the options name.

    A folder of images is checked on its first load; what was found is kept in the user's cache.

    Args:
      options: name the data set.
      split: name of the split.
      report: called with (files checked, files in all) while a folder is checked.
    Returns: a `data.Source`, or `data.text.Texts` of options that name texts.
    """
    return options.load(split, report)


def make_optimizer(optimizer: OptimizerOptions, update: UpdateOptions, **options: Any) -> train.MakeOptimizer:
    """(learning rate, hyper) -> the optimizer that the options name; hyper has its momentum and weight decay.

    Args:
      optimizer: its name.
      update: only the largest gradient norm is read here; `hyperparameters` has the rest.
      options: arguments of the optimizer besides those that all have, such as b2.
    """
    make = train.optimizer_named(optimizer.optimizer)

    def of(learning_rate, hyper):
        return make(
            learning_rate, hyper["momentum"], weight_decay=hyper["weight_decay"], clip_norm=update.clip_norm, **options
        )

    return of


def named_network(name: str, role: str, dtype: str, axis_name: str | None, **fields: Any) -> nn.Module:
    """The network of a name.

    Args:
      name: of `models.names(role=role)`.
      role: a key of `saved_network.ROLES`.
      dtype: data type of activations and gradients.
      axis_name: of the devices over which BatchNorm averages; None for none.
      fields: of the network.
    Raises: InputError for an unknown name, a network of another role, or a field that it does not have.
    """
    found = models.entry(name).role
    if found != role:
        raise InputError(f"{name} is a {found} and does not {ROLES[role]}; choose one of models.names(role={role!r}).")
    model = models.create(name, dtype=jnp.dtype(dtype), **fields)
    return model.clone(axis_name=axis_name) if "axis_name" in models.fields(model) else model


def known_fields(name: str, options: Any, **given: Any) -> dict[str, Any]:
    """Fields of a named network that options set, without those that are None or that the network does not have.

    Args:
      name: same as in `models.create`.
      options: a group of options that are named as fields, such as `SizeOptions`.
      given: more of them: field -> value or None.
    """
    known = models.fields(models.create(name))
    every = asdict(options) | given
    return {field: value for field, value in every.items() if value is not None and field in known}


def population_of(
    population: SeedsOptions, grid: GridOptions = GridOptions(), layout: LayoutOptions = LayoutOptions()
) -> SeedsOptions | None:
    """How the members are laid out, or None where a single run is asked for.

    Raises: InputError if a population is to be spread over devices by its batches.
    """
    if population.seeds == 1 and not grid.active:
        return None
    if layout.parallel != "jit":
        raise InputError(
            f"parallel is {layout.parallel!r}; a population spreads whole members over the devices, and its layout is "
            "jit."
        )
    return population


def hyperparameters(update: UpdateOptions) -> dict[str, float]:
    """The hyperparameters of the optimizer besides the learning rate."""
    return {"weight_decay": update.weight_decay, "momentum": update.momentum}


def warmup_cosine(steps: int, options: ScheduleOptions | None = None) -> Schedule:
    """hyper -> linear warm-up to hyper["learning_rate"], then a cosine.

    Args:
      steps: number of steps in all.
      options: length of the warm-up and end of the cosine; None for a tenth of the steps and an end at 0.
    """
    fraction = 0.1 if options is None or options.warmup_fraction is None else options.warmup_fraction
    warmup = round(fraction * steps)
    final_rate = 0.0 if options is None else options.final_rate

    def of(hyper):
        peak = hyper["learning_rate"]
        return schedules.warmup_cosine(peak, warmup, steps, end_value=final_rate * peak)

    return of


@dataclass(frozen=True)
class Start:
    """A training at step 0, laid out over devices: what `train.fit` takes."""

    members: train.Members
    """Who trains: one member of a single run."""
    state: train.State
    """The state at step 0; of a population, stacked."""
    feed: train.Feed
    """Takes the steps."""
    layout: train.Layout
    """Where they are taken."""

    @property
    def num_parameters(self) -> int:
        """Number of parameters of one member."""
        return sum(x.size for x in jax.tree.leaves(self.state.params)) // (
            len(self.members) if self.layout.shape else 1
        )


@dataclass(frozen=True, kw_only=True)
class Training:
    """What is trained, on what, and by which updates: all of a run but its members, its schedule and its length."""

    task: tasks.Task | tasks.Game
    """What is minimized."""
    source: data.Source
    """The training split."""
    validation: data.Source
    """The split to choose on. The test split is loaded by whoever reports on it."""
    make_optimizer: train.MakeOptimizer
    """(learning rate, hyper) -> optax transformation."""
    hyper: Mapping[str, float]
    """Hyperparameters of a member besides the learning rate."""
    batch: BatchOptions = BatchOptions()
    """Size and place of the batches."""
    seed: int = 0
    """Seed of a single run, and of the first member of a population."""
    layout: train.Layout = field(default_factory=train.make_layout)
    """Layout of a single run."""
    augment: Callable[..., Any] | None = None
    """(key, batch, hyper) -> batch, or None."""
    make_step: Callable[..., train.Step] = train.make_step
    """`train.make_step`, or another function of the same arguments: `train.make_game_step`."""
    saved: SavedNetwork | None = None
    """What a run keeps of its network, so that it can be used later; None for nothing."""
    trained: Callable[[tuple[str, ...]], bool] | None = None
    """path of a parameter -> whether it is trained; None trains all."""
    variables: Any = None
    """Variables to start with instead of random ones, such as pretrained ones: same as in `train.create_state`."""

    def optimizer(self, learning_rate: Any, hyper: Mapping[str, Any]) -> Any:
        """`make_optimizer`, of the parameters that are trained."""
        made = self.make_optimizer(learning_rate, hyper)
        return made if self.trained is None else train.only(made, self.trained)

    def report_start(self) -> dict[str, float]:
        """Numbers of parameters that were loaded, initialized and trained, if the training begins with weights."""
        return {} if self.saved is None else dict(self.saved.weights.get("counts", {}))

    def steps(self, epochs: int) -> int:
        """The number of steps in so many epochs."""
        return epochs * (len(self.source) // self.batch.batch_size)

    def members(
        self, learning_rate: float, population: SeedsOptions = SeedsOptions(), grid: GridOptions = GridOptions()
    ) -> train.Members:
        """Every combination of the grid's hyperparameters, with each seed.

        Args:
          learning_rate: of all members, unless the grid has learning rates.
          population: number of seeds, counted up from the training's own.
          grid: values of hyperparameters, instead of those of a single run.
        Raises: InputError for a value that a hyperparameter can't have.
        """
        values = {name: [value] for name, value in {"learning_rate": learning_rate, **self.hyper}.items()}
        given = {name: text for name, text in asdict(grid).items() if text is not None}
        values |= {name: parse_grid(text, name.replace("_", " ")) for name, text in given.items()}
        for name, numbers in values.items():
            check_hyper(name, numbers)
        count = math.prod(len(numbers) for numbers in values.values()) * population.seeds
        if count > MOST_MEMBERS:
            raise InputError(f"The population has {count} members; it can have at most {MOST_MEMBERS}.")
        return train.grid(range(self.seed, self.seed + population.seeds), values)

    def state(self, members: train.Members, make_schedule: Schedule | None = None, *, ema: bool = False) -> train.State:
        """The state of the first member at step 0, of a schedule that begins at the learning rate if none is given."""
        create = train.compile_create(
            self.task, self.optimizer, make_schedule=make_schedule, ema=ema, start=self.variables
        )
        return create(jax.random.key(int(members.seeds[0])), {k: v[0] for k, v in members.hyper.items()})

    def start(
        self,
        members: train.Members,
        make_schedule: Schedule,
        steps: int,
        *,
        population: SeedsOptions | None = None,
        file: Path | None = None,
        ema_decay: float | None = None,
    ) -> Start:
        """Lays a run or a population out over devices.

        Args:
          members: seeds and hyperparameters, from `members`.
          make_schedule: hyper -> (step -> learning rate).
          steps: number of steps of the run.
          population: how the members of a population are laid out; None for a single run of the first member.
          file: keeps the placement that was found fastest, so that a resumed run has the same.
          ema_decay: decay of the moving average of the variables; None for none.
        """
        make_step = partial(
            self.make_step, self.task, self.optimizer, make_schedule, augment=self.augment, ema_decay=ema_decay
        )
        if population is None:
            state = self.state(members, make_schedule, ema=ema_decay is not None)
            step = make_step(axis_name=self.layout.axis_name, gather=self.layout.gather)
            return Start(members, state, self._feed(step, int(members.seeds[0]), self.layout), self.layout)

        step, state = (
            make_step(),
            train.create_population(
                self.task,
                self.optimizer,
                members,
                make_schedule=make_schedule,
                ema=ema_decay is not None,
                start=self.variables,
            ),
        )
        laid_out: dict[train.Placement, Start] = {}

        def start(placement: train.Placement) -> Start:
            if placement not in laid_out:
                layout = train.population_layout(placement, len(members))
                laid_out[placement] = Start(members, state, self._feed(step, members.seeds, layout), layout)
            return laid_out[placement]

        return start(chosen_placement(population, len(members), partial(_probe, start), steps, file))

    def _feed(self, step: train.Step, seed: int | np.ndarray, layout: train.Layout) -> train.Feed:
        return train.feed(
            step, self.source, batch_size=self.batch.batch_size, seed=seed, layout=layout, resident=self.batch.resident
        )

    def evaluator(self, source: data.Source, layout: train.Layout, task: tasks.Task | None = None) -> train.Measure:
        """Placed variables -> loss and metrics over a split, of the training's task or another one."""
        evaluation = tasks.evaluation(self.task if task is None else task)
        size = evaluation_batch(source)
        return train.evaluator(evaluation, source, layout, batch_size=size, resident=self.batch.resident)


def make_training(
    task: tasks.Task | tasks.Game,
    source: data.Source,
    validation: data.Source,
    *,
    batch: BatchOptions,
    optimizer: OptimizerOptions,
    update: UpdateOptions,
    seed: int = 0,
    layout: LayoutOptions = LayoutOptions(),
    accumulate: int = 1,
    hyper: Mapping[str, float] | None = None,
    augment: Callable[..., Any] | None = None,
) -> Training:
    """The training of a task that groups of options name.

    Args:
      task: what is minimized.
      source: the training split.
      validation: the split to choose on.
      batch, optimizer, update, layout: groups of options.
      seed: seed of the training.
      accumulate: number of parts of a batch.
      hyper: hyperparameters of the task, besides those of the optimizer.
      augment: (key, batch, hyper) -> batch, or None.
    Raises: InputError for a value that is not valid.
    """
    placed = train.make_layout(layout.parallel)
    train.check_batch(source, batch.batch_size, placed.devices, accumulate)
    without_loss = None
    if isinstance(task, tasks.Game):
        without_loss = "a game's players have none"
    elif placed.axis_name:
        without_loss = "the layout pmap has none to give"
    if without_loss and train.needs_loss(optimizer.optimizer):
        raise InputError(f"{optimizer.optimizer} needs the loss as a function of the parameters, and {without_loss}.")
    return Training(
        task=task,
        source=source,
        validation=validation,
        make_optimizer=make_optimizer(optimizer, update),
        hyper={**hyperparameters(update), **(hyper or {})},
        batch=batch,
        seed=seed,
        layout=placed,
        augment=augment,
        make_step=partial(train.make_step, accumulate=accumulate),
    )


def _probe(start: Callable[[train.Placement], Start], placement: train.Placement) -> Callable[[int], None]:
    """A function that takes so many steps of the members under a placement, and waits for them."""
    laid_out = start(placement)
    placed = laid_out.layout.place_state(laid_out.state)

    def take(count: int) -> None:
        nonlocal placed
        placed, read = laid_out.feed.advance(placed, 0, count)
        read()

    return take


def chosen_placement(
    options: SeedsOptions,
    members: int,
    probe: Callable[[train.Placement], Callable[[int], Any]],
    steps: int,
    file: Path | None,
) -> train.Placement:
    """The placement that the options name or, with mode auto, a measurement finds fastest.

    Args:
      options: mode and chunk.
      members: number of members.
      probe: same as `train.fastest_placement`.
      steps: number of steps of the run.
      file: keeps what was measured for later starts; None forgets it.
    """
    if options.mode != "auto":
        return train.placement(options.mode, members, options.chunk)
    if file is not None and file.exists():
        return train.Placement(**json.loads(file.read_text(encoding="utf-8")))
    chosen = train.fastest_placement(probe, members, steps=steps, chunk=options.chunk)
    if file is not None:
        write_json(file, asdict(chosen))
    return chosen
