"""A population is many runs: each member's trajectory is that of the run alone, however they are laid out.

What holds for one run and for a population alike is tested in `test_loop`.
"""

import os
import signal
from functools import cache

import jax
import numpy as np
import pytest
from etude import train

EPOCHS, STEPS = 3, 18
FILLED = "devices, with a copy that fills up the last one"


def fit(tools, problem, *, members=None, state=None, seed=None, resident=True, folder=None, **options):
    validate = problem.evaluate(tools.make_source(40, "validation", seed=1), batch_size=32)
    if members is not None:
        state = train.create_population(problem.task, tools.make_optimizer, members, ema=True)
    options = {"epochs": EPOCHS, "validate": validate} | options
    return train.fit(
        problem.state if state is None else state,
        problem.feed(tools.make_source(), seed=seed, resident=resident),
        problem.layout,
        checkpoints=train.Checkpoints(folder / "checkpoints") if folder else None,
        journal=train.Journal(folder) if folder else None,
        **options,
    )


@pytest.fixture(scope="module")
def alone(tools):
    @cache
    def alone(i, losses=None, patience=None):
        """One member, trained alone; with a script of validation losses or without."""
        problem = tools.problem("jit", ema=True)
        seed = int(tools.MEMBERS.seeds[i])
        state = problem.create(seed, {name: values[i] for name, values in tools.MEMBERS.hyper.items()})
        options = {}
        if losses is not None:
            script = iter(losses)
            options = {"validate": lambda variables: {"loss": np.float64(next(script))}, "patience": patience}
        return fit(tools, problem, state=state, seed=seed, **options)

    return alone


def member(tree, i):
    return jax.tree.map(lambda x: x[i], tree)


def assert_is(tools, fitted, i, single):
    """Whether a member of a population ended like a run alone."""
    state = member(fitted.state, i)
    assert int(state.step) == int(single.state.step)
    for mine, its in ((state.params, single.state.params), (state.ema, single.state.ema)):
        assert tools.relative_difference(mine, its) < 1e-5
    assert tools.relative_difference(member(fitted.best, i), single.best) < 1e-5
    assert fitted.best_epoch[i] == single.best_epoch
    for mine, its in zip(fitted.epochs, single.epochs, strict=False):
        assert (mine["epoch"], mine["step"]) == (its["epoch"], its["step"])
        for split in ("train", "validation"):
            assert mine[split].keys() == its[split].keys()
            for name in its[split]:
                assert mine[split][name][i] == pytest.approx(float(its[split][name]), rel=1e-5)
                assert fitted.at_best(split, name)[i] == pytest.approx(float(single.at_best(split, name)), rel=1e-5)


@pytest.fixture(scope="module")
def fitted(tools):
    return cache(lambda name, resident=True: fit(tools, tools.problem(name, ema=True), resident=resident))


@pytest.mark.parametrize(
    ("name", "resident"),
    [
        ("map", True),
        ("vmap", True),
        ("chunked, with a ragged last chunk", True),
        (FILLED, True),
        ("vmap on each device", True),
        ("vmap", False),
        (FILLED, False),
    ],
)
def test_each_member_is_the_run_alone(tools, alone, fitted, name, resident):
    for i in range(len(tools.MEMBERS)):
        assert int(alone(i).state.step) == STEPS
        assert_is(tools, fitted(name, resident), i, alone(i))


@pytest.mark.parametrize("name", ["map", "vmap on each device"])
def test_a_diverging_member_is_frozen_and_reported_and_no_other_notices(tools, alone, name):
    hyper = {name: values.copy() for name, values in tools.MEMBERS.hyper.items()}
    hyper["learning_rate"][1] = 1e30
    fitted = fit(tools, tools.problem(name, ema=True), members=train.Members(tools.MEMBERS.seeds, hyper))
    assert (fitted.diverged_at >= 0).tolist() == [False, True, False]
    frozen = member(fitted.state, 1)
    assert int(frozen.step) == fitted.diverged_at[1] < STEPS
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(frozen.params))
    assert fitted.best_epoch[1] == 0
    assert np.isnan(fitted.epochs[-1]["train"]["loss"][1])
    assert np.isnan(fitted.epochs[-1]["validation"]["loss"][1])
    assert np.isnan(fitted.at_best("validation", "loss")[1])
    assert not fitted.stopped_early.any()
    for i in (0, 2):
        assert_is(tools, fitted, i, alone(i))


@pytest.mark.parametrize("name", ["map", "vmap on each device"])
def test_a_member_retired_by_patience_stands_still_and_is_the_run_alone_with_patience(tools, alone, name, tmp_path):
    # Given losses by which the first stops after epoch 2, the second never and the third after epoch 3,
    losses = [(1.0, 2.0, 0.5, 0.1), (4.0, 3.0, 2.0, 1.0), (3.0, 1.0, 2.0, 0.5)]
    script = iter(np.array(losses).T)
    seen = []

    def validate(variables):
        seen.append(jax.tree.map(np.array, variables))
        return {"loss": next(script)}

    problem = tools.problem(name, ema=True)
    fitted = fit(tools, problem, validate=validate, patience=1, epochs=4)
    assert fitted.stopped_early.tolist() == [True, False, True]
    assert fitted.best_epoch.tolist() == [1, 4, 2]
    assert fitted.state.step.tolist() == [12, 24, 18]
    assert (fitted.diverged_at == -1).all()
    for i, end in enumerate((2, 4, 3)):
        # then it stands still from there on,
        for later in seen[end:]:
            assert tools.identical(
                member(problem.layout.unplace(later), i), member(problem.layout.unplace(seen[end - 1]), i)
            )
        for epoch in fitted.epochs[end:]:
            assert np.isnan(epoch["validation"]["loss"][i])
            assert np.isnan(epoch["train"]["loss"][i])
        # as the run alone does.
        if i != 1:
            single = alone(i, losses[i], patience=1)
            assert single.stopped_early
            assert len(single.epochs) == end
            assert_is(tools, fitted, i, single)


def test_a_population_whose_members_stopped_one_by_one_resumes_to_the_same_bits(tools, tmp_path):
    losses = np.array([(1.0, 2.0, 9.0, 9.0), (4.0, 3.0, 2.0, 1.0), (3.0, 1.0, 2.0, 9.0)]).T
    problem = tools.problem("map", ema=True)

    def scripted(first, stop_at=None):
        def validate(variables):
            nonlocal first
            if first == stop_at:
                os.kill(os.getpid(), signal.SIGTERM)
            first += 1
            return {"loss": losses[first - 1]}

        return validate

    options = {"patience": 1, "epochs": 4}
    whole = fit(tools, problem, validate=scripted(0), **options)
    with pytest.raises(train.Stopped):
        fit(tools, problem, folder=tmp_path, validate=scripted(0, stop_at=2), **options)
    resumed = fit(tools, problem, folder=tmp_path, validate=scripted(3), **options)
    assert tools.identical((resumed.state, resumed.best), (whole.state, whole.best))
    assert tools.identical(resumed.epochs, whole.epochs)
    assert resumed.stopped_early.tolist() == whole.stopped_early.tolist() == [True, False, True]


@pytest.mark.parametrize("name", ["map", "vmap on each device"])
def test_a_stopped_population_goes_on_to_the_same_bits(tools, fitted, tmp_path, name):
    problem, whole = tools.problem(name, ema=True), fitted(name)
    evaluate = problem.evaluate(tools.make_source(40, "validation", seed=1), batch_size=32)

    def stop(variables):
        os.kill(os.getpid(), signal.SIGTERM)
        return evaluate(variables)

    with pytest.raises(train.Stopped):
        fit(tools, problem, folder=tmp_path, validate=stop, log_every=6)
    resumed = fit(tools, problem, folder=tmp_path, log_every=6)
    assert tools.identical(resumed.state, whole.state)
    assert tools.identical(resumed.best, whole.best)
    assert np.array_equal(resumed.best_epoch, whole.best_epoch)
    assert tools.identical(resumed.epochs, whole.epochs)
    assert [r["step"] for r in train.read_journal(tmp_path / "metrics.jsonl") if r["split"] == "train"] == [6, 12, 18]


def test_the_best_of_each_member_is_that_of_its_own_best_epoch(tools):
    losses = iter([[3, 2, 2], [1, np.nan, 2], [2, 1, 2]])
    seen = []

    def validate(variables):
        seen.append(jax.tree.map(np.array, variables))
        return {"loss": np.asarray(next(losses), float)}

    fitted = fit(tools, tools.problem("map", ema=True), validate=validate)
    assert fitted.best_epoch.tolist() == [2, 3, 1]
    for i, epoch in enumerate(fitted.best_epoch):
        assert tools.identical(member(fitted.best, i), member(seen[epoch - 1], i))


def test_a_member_of_a_new_population_is_the_state_created_alone(tools):
    problem = tools.problem("map", ema=True)
    for i, seed in enumerate(tools.MEMBERS.seeds):
        alone = problem.create(seed, {name: values[i] for name, values in tools.MEMBERS.hyper.items()})
        assert tools.identical(train.member(problem.state, i), alone)


def test_a_grid_has_every_combination_and_the_seed_varies_fastest():
    members = train.grid([0, 1], {"learning_rate": [0.1, 0.2], "weight_decay": [0.0, 1.0]})
    assert len(members) == 8
    assert members.seeds.tolist() == [0, 1] * 4
    assert members.hyper["learning_rate"].tolist() == [0.1] * 4 + [0.2] * 4
    assert members.hyper["weight_decay"].tolist() == [0, 0, 1, 1] * 2


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: train.grid([], {"learning_rate": [0.1]}), "none of seeds"),
        (lambda: train.grid([0], {"learning_rate": []}), "none of learning_rate"),
    ],
)
def test_bad_populations_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
