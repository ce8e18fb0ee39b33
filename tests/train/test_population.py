"""A population is many runs: each member's trajectory is that of the run alone, however they are laid out."""

import os
import signal

import jax
import numpy as np
import pytest
from etude import train

FILLED = "devices, with copies that fill up the last one"
PLACEMENTS = {
    "map": train.Placement(1, 1),
    "vmap": train.Placement(1, 6),
    "chunked, with a ragged last chunk": train.Placement(1, 4),
    FILLED: train.Placement(4, 1),
    "vmap on each device": train.Placement(3, 2),
}
MEMBERS = train.grid([7, 11], {"learning_rate": [0.01, 0.1, 0.3], "weight_decay": [1e-3]})


@pytest.fixture(scope="module")
def population(tools):
    return Population(tools)


@pytest.fixture(scope="module")
def alone(population):
    """Each member, trained alone."""
    return [population.fit_alone(i) for i in range(len(MEMBERS))]


class Population:
    """Three epochs of a small problem."""

    def __init__(self, tools):
        self.tools = tools
        self.problem = tools.Problem(ema=True)
        self.source = tools.make_source()
        self.validation = tools.make_source(40, "validation", seed=1)

    def fit_alone(self, i):
        hyper, seed = {name: values[i] for name, values in MEMBERS.hyper.items()}, int(MEMBERS.seeds[i])
        return train.fit(
            train.create_state(self.problem.task, self.tools.make_optimizer, jax.random.key(seed), hyper, ema=True),
            self.problem.feed(self.source, seed=seed),
            self.problem.where,
            epochs=3,
            validate=train.evaluator(self.problem.task, self.validation, batch_size=32),
        )

    def fit(self, placement, members=MEMBERS, *, resident=True, folder=None, validate=None):
        where = train.population_layout(placement, len(members))
        evaluate = train.population_evaluator(self.problem.task, self.validation, where, batch_size=32)
        return train.fit_population(
            train.create_population(self.problem.task, self.tools.make_optimizer, members, ema=True),
            train.population_feed(self.problem.step, self.source, members, where, batch_size=16, resident=resident),
            where,
            epochs=3,
            validate=validate(evaluate) if validate else evaluate,
            checkpoints=train.Checkpoints(folder / "checkpoints") if folder else None,
            journal=train.Journal(folder) if folder else None,
        )


def member(tree, i):
    return jax.tree.map(lambda x: x[i], tree)


@pytest.mark.parametrize(
    ("name", "resident"), [*((name, True) for name in PLACEMENTS), ("vmap", False), (FILLED, False)]
)
def test_each_member_is_the_run_alone(population, alone, name, resident):
    fitted = population.fit(PLACEMENTS[name], resident=resident)
    for i, single in enumerate(alone):
        state = member(fitted.last.state, i)
        assert int(state.step) == int(single.state.step) == 18
        for mine, its in ((state.params, single.state.params), (state.ema, single.state.ema)):
            assert population.tools.relative_difference(mine, its) < 1e-5
        assert population.tools.relative_difference(member(fitted.best, i), single.best) < 1e-5
        for split, metrics in single.best_epoch.items():
            if split in ("train", "validation"):
                for name, value in metrics.items():
                    assert fitted.at_best(split, name)[i] == pytest.approx(value, rel=1e-5)


@pytest.mark.parametrize("name", ["map", "vmap on each device"])
def test_a_diverging_member_is_frozen_and_reported_and_no_other_notices(population, alone, name):
    hyper = {name: values.copy() for name, values in MEMBERS.hyper.items()}
    hyper["learning_rate"][2] = 1e30
    members = train.Members(MEMBERS.seeds, hyper)
    fitted = population.fit(PLACEMENTS[name], members)
    assert (fitted.diverged_at >= 0).tolist() == [False, False, True, False, False, False]
    frozen = member(fitted.last.state, 2)
    assert int(frozen.step) == fitted.diverged_at[2] < 18
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(frozen.params))
    assert fitted.best_epoch[2] == 0
    assert np.isnan(fitted.epochs[-1]["validation"]["loss"][2])
    for i in (0, 1, 3, 4, 5):
        state = member(fitted.last.state, i)
        assert population.tools.relative_difference(state.params, alone[i].state.params) < 1e-5


@pytest.mark.parametrize("placement", [PLACEMENTS["map"], PLACEMENTS["vmap on each device"]], ids=["map", "vmap"])
def test_a_stopped_population_goes_on_to_the_same_bits(population, tmp_path, placement):
    whole = population.fit(placement)

    def stop_after_the_first(evaluate):
        def validate(variables):
            os.kill(os.getpid(), signal.SIGTERM)
            return evaluate(variables)

        return validate

    with pytest.raises(train.Stopped):
        population.fit(placement, folder=tmp_path, validate=stop_after_the_first)
    resumed = population.fit(placement, folder=tmp_path)
    assert population.tools.identical(resumed.last, whole.last)
    assert population.tools.identical(resumed.best, whole.best)
    assert np.array_equal(resumed.best_epoch, whole.best_epoch)
    assert [r["step"] for r in train.read_journal(tmp_path / "metrics.jsonl") if r["split"] == "train"] == [6, 12, 18]


def test_the_best_of_each_member_is_that_of_its_own_best_epoch(population):
    losses = iter([[3, 1, 2, 2, 2, 2], [1, 2, np.nan, 2, 1, 3], [2, 3, 1, 2, 1, 1]])
    seen = []

    def scripted(evaluate):
        def validate(variables):
            seen.append(jax.tree.map(np.array, variables))
            return {"loss": np.asarray(next(losses), float)}

        return validate

    fitted = population.fit(PLACEMENTS["map"], validate=scripted)
    assert fitted.best_epoch.tolist() == [2, 1, 3, 1, 2, 3]
    for i, epoch in enumerate(fitted.best_epoch):
        assert population.tools.identical(member(fitted.best, i), member(seen[epoch - 1], i))


def test_a_grid_has_every_combination_and_the_seed_varies_fastest():
    members = train.grid([0, 1], {"learning_rate": [0.1, 0.2], "weight_decay": [0.0, 1.0]})
    assert members.seeds.tolist() == [0, 1] * 4
    assert members.hyper["learning_rate"].tolist() == [0.1] * 4 + [0.2] * 4
    assert members.hyper["weight_decay"].tolist() == [0, 0, 1, 1] * 2


def test_the_fastest_placement_is_chosen_by_its_measured_time():
    devices, vmap = train.placement("devices", 16), train.placement("vmap", 16)
    seconds = {devices: 3e-2, vmap: 1e-2}
    clock = FakeClock()
    probe = lambda where: lambda steps: clock.sleep(seconds[where] * steps)  # noqa: E731
    assert train.fastest_placement(probe, 16, steps=10_000, clock=clock) == vmap
    seconds[vmap] = 9e-2
    assert train.fastest_placement(probe, 16, steps=10_000, clock=clock) == devices


def test_a_short_run_does_not_measure_what_could_not_pay():
    clock, asked = FakeClock(), []

    def probe(where):
        asked.append(where)
        return lambda steps: clock.sleep(2.0 if len(clock.slept) == 0 else 1e-3 * steps)

    assert train.fastest_placement(probe, 16, steps=100, clock=clock) == train.placement("devices", 16)
    assert len(asked) == 1


class FakeClock:
    def __init__(self):
        self.now, self.slept = 0.0, []

    def __call__(self):
        return self.now

    def sleep(self, seconds):
        self.slept.append(seconds)
        self.now += seconds


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: train.grid([], {"learning_rate": [0.1]}), "none of seeds"),
        (lambda: train.grid([0], {"learning_rate": []}), "none of learning_rate"),
        (lambda: train.placement("pmap", 4), "'pmap'; valid are auto, vmap, map, devices"),
        (lambda: train.placement("vmap", 4, chunk=0), "chunk is 0"),
    ],
)
def test_bad_populations_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
