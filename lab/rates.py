"""How large the steps are: the range test that finds a peak rate, and the schedule that leads to it and away from it.

training, schedule = scheduled(training, "warmup_cosine", config.schedule, epochs)
rates, losses = range_test(run, training, config.rate)
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from .. import metrics, plots, schedules, tasks, train
from ..errors import InputError
from .options import GridOptions, RangeTestOptions, ScheduleOptions, SeedsOptions
from .run import Run
from .tables import read_csv, write_csv
from .training import Schedule, Training

FURTHER = 6
"""Decades by which a range test goes on, at most, if its range ends before the loss rises again."""
MOST_STEPS = 100_000
LARGEST = 1e37  # a rate that float32 holds


def scheduled(training: Training, name: str, options: ScheduleOptions, epochs: int) -> tuple[Training, Schedule]:
    """A training under the schedule of a name.

    Args:
      training: what is trained.
      name: one of `SCHEDULE_NAMES`: a shape, with a warm-up before it if it begins with "warmup_".
      options: length of the warm-up and final rate, for any shape.
      epochs: number of passes through the training split.
    Returns: (the training, whose optimizer slows down by itself on plateaus if the name says so; its schedule, hyper ->
      (step -> learning rate)).
    Raises: InputError for plateaus of a game, which has no loss that falls, or that end at the peak rate.
    """
    steps, epoch = training.steps(epochs), training.steps(1)
    if name == "plateau":
        training = on_plateaus(training, min_scale=options.final_rate)
        name, options = "constant", replace(options, final_rate=0.0)
    return training, schedule_of(name, options, steps, epoch)


def schedule_of(name: str, options: ScheduleOptions, steps: int, epoch: int) -> Schedule:
    """The schedule of a name but plateau, hyper -> (step -> learning rate).

    Args:
      name, options: same as `scheduled`.
      steps: number of steps of the run.
      epoch: number of steps of an epoch.
    """
    make = schedules.SCHEDULES[name.removeprefix("warmup_")]
    fraction = options.warmup_fraction
    if fraction is None:
        fraction = 0.1 if name.startswith("warmup_") else 0.0
    warm = min(round(fraction * steps), steps - 1)

    def of(hyper):
        peak = hyper["learning_rate"]
        shape = make(peak, steps - warm, min(epoch, steps - warm))
        return schedules.warmup(lambda t: options.final_rate * peak + (1 - options.final_rate) * shape(t), warm)

    return of


def on_plateaus(training: Training, *, min_scale: float = 0.0) -> Training:
    """A training whose optimizer slows down by 0.3 where the loss of an epoch no longer falls.

    Args:
      training: of one loss.
      min_scale: lower limit of all factors together.
    """
    if isinstance(training.task, tasks.Game):
        raise InputError("The schedule plateau needs a loss that falls, and the players of a game have none.")
    if min_scale >= 1:
        raise InputError(f"final_rate is {min_scale}; on plateaus the rate falls, so it must be less than 1.")
    inner, epoch = training.make_optimizer, training.steps(1)

    def make_optimizer(learning_rate, hyper):
        slowed = inner(learning_rate, hyper)
        return train.reduce_on_plateau(
            slowed, factor=0.3, patience=1, accumulation_size=max(1, epoch), min_scale=min_scale
        )

    return replace(training, make_optimizer=make_optimizer)


def choose_rate(
    run: Run,
    training: Training,
    options: RangeTestOptions,
    population: SeedsOptions = SeedsOptions(),
    grid: GridOptions = GridOptions(),
) -> tuple[float, dict[str, plots.Figure]]:
    """The peak rate: as given, or the suggestion of a range test, with its figure. Of a grid, every member has its own.

    Args:
      run: open; shows the progress.
      training: what is trained, without its schedule.
      options: the rate, or the range of the test.
      population: how the test's one member is laid out.
      grid: hyperparameters of the members.
    Raises: InputError if a rate is given twice, or the range test suggests none.
    """
    if options.learning_rate is not None and grid.learning_rate is not None:
        raise InputError(
            f"learning_rate is {options.learning_rate} and population.learning_rate {grid.learning_rate}; give one of "
            "them."
        )
    if options.learning_rate is not None:
        return options.learning_rate, {}
    if grid.learning_rate is not None:
        return 1.0, {}  # replaced by that of each member
    rates, losses = range_test(run, training, options, replace(population, seeds=1))
    curve = metrics.range_test(rates, losses[:, 0])
    if curve.suggestion is None:
        raise InputError(f"The range test suggests no rate: {curve.reason} Give one with --learning-rate.")
    run.display.say(f"The range test suggests a learning rate of {curve.suggestion:.3g}.")
    return curve.suggestion, {"range_test": plots.range_test(curve, chosen=curve.suggestion)}


def range_test(
    run: Run,
    training: Training,
    options: RangeTestOptions,
    population: SeedsOptions = SeedsOptions(),
) -> tuple[np.ndarray, np.ndarray]:
    """Runs a learning-rate range test, or reads what an earlier start of the same run measured (range_test.csv).

    Args:
      run: open; shows the progress.
      training: what is trained; the state that the test trains is thrown away.
      options: same as `sweep`.
      population: number of seeds.
    Returns: same as `sweep`.
    Raises: InputError for a range that is empty or has too few or too many steps.
    """
    file = run.folder / "range_test.csv"
    check_range(options)
    if not file.exists():
        journal = train.Journal(display=run.display)
        rates, losses = sweep(
            training,
            options,
            population,
            journal=journal,
            introduce=run.introduce,
            file=file.with_suffix(".json"),
        )
        names = ("learning_rate", *(f"loss_seed{training.seed + i}" for i in range(population.seeds)))
        write_csv(file, names, np.column_stack([rates, losses]))
    rates, *losses = read_csv(file).values()
    return rates, np.column_stack(losses)


def sweep(
    training: Training,
    options: RangeTestOptions,
    population: SeedsOptions = SeedsOptions(),
    *,
    journal: train.Journal | None = None,
    introduce: Callable[[int], None] = lambda num_parameters: None,
    file: Path | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """The losses of a learning-rate range test.

    If the range ends before the loss of every seed has risen again, the test goes on to higher rates, a decade at a
    time and `FURTHER` decades at most.

    Args:
      training: what is trained; the state that the test trains is thrown away.
      options: the range, and how slowly the rate grows through it: by 10^(1/steps_per_decade) a step. It is given in
        steps per decade, so that moving an end of the range does not change what is measured in between.
      population: number of seeds.
      journal: shows the progress.
      introduce: called with the number of parameters, before anything trains.
      file: keeps the placement of the members, for later starts.
    Returns: (rates [n], losses [n, seeds]).
    Raises: InputError for a range that is empty or has too few or too many steps.
    """
    steps = check_range(options)
    journal = journal or train.Journal()
    lowest, highest, decade = options.range_lowest, options.range_highest, options.range_steps_per_decade
    most = steps + decade * max(0, min(FURTHER, math.floor(math.log10(LARGEST / highest))))
    top = lowest * (highest / lowest) ** ((most - 1) / (steps - 1))
    rate = schedules.exponential_sweep(lowest, top, most)
    rates = np.asarray(rate(np.arange(most)))
    members = training.members(lowest, population)
    start = training.start(
        members, lambda hyper: rate, most, population=population if len(members) > 1 else None, file=file
    )

    introduce(start.num_parameters)

    def further(losses: np.ndarray) -> int:
        done = len(losses)
        curves = losses.reshape(done, -1).T
        if done == most or not any(metrics.range_test(rates[:done], each).open for each in curves):
            return 0
        journal.display.say(f"The loss has not risen again at a rate of {rates[done - 1]:.2g}; the range test goes on.")
        return min(decade, most - done)

    placed = start.layout.place_state(start.state)
    losses = train.sweep(placed, start.feed, steps=steps, further=further, journal=journal)
    return rates[: len(losses)], losses.reshape(len(losses), -1)


def check_range(options: RangeTestOptions) -> int:
    """The number of steps of a range.

    Raises: InputError if the range is empty, or has too few or too many steps.
    """
    lowest, highest, decade = options.range_lowest, options.range_highest, options.range_steps_per_decade
    if not 0 < lowest < highest <= LARGEST:
        raise InputError(
            f"The swept range is {lowest} to {highest}; wanted: 0 < lowest < highest, and highest at most {LARGEST:g}."
        )
    decades = math.log10(highest) - math.log10(lowest)
    steps = 1 + round(decade * decades)
    if steps < metrics.MIN_POINTS:
        raise InputError(
            f"The range test from {lowest} to {highest} would have {steps} steps, and needs at least "
            f"{metrics.MIN_POINTS}; give at least {math.ceil((metrics.MIN_POINTS - 1) / decades)} steps per decade, or "
            "a wider range."
        )
    if steps > MOST_STEPS:
        raise InputError(
            f"The range test from {lowest} to {highest} would have {steps} steps, more than {MOST_STEPS}; give fewer "
            "steps per decade."
        )
    return steps
