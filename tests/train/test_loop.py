"""The loop: resumes to the bit, stops early, stops on divergence, and keeps the best."""

import os
import signal

import jax
import numpy as np
import pytest
from etude import train


def fit(problem, source, validation, *, folder=None, epochs=3, resident=True, **options):
    checkpoints = train.Checkpoints(folder / "checkpoints") if folder else None
    validate = train.evaluator(problem.task, validation, batch_size=64)
    return train.fit(
        problem.state,
        problem.feed(source, resident=resident),
        problem.where,
        epochs=epochs,
        validate=options.pop("validate", validate),
        checkpoints=checkpoints,
        journal=train.Journal(folder) if folder else None,
        **options,
    )


@pytest.fixture
def validation(tools):
    return tools.make_source(40, "validation", seed=1)


@pytest.mark.parametrize("resident", [True, False])
def test_a_run_stopped_at_any_point_goes_on_to_the_same_bits(tools, source, validation, tmp_path, resident):
    problem = tools.Problem(ema=True)
    whole = fit(problem, source, validation, folder=tmp_path / "whole", resident=resident)
    calls = 0

    def stop_sometimes(variables):
        nonlocal calls
        calls += 1
        if calls == 2:
            os.kill(os.getpid(), signal.SIGTERM)
        return {"loss": 1.0 / calls, "accuracy": 0.5}

    with pytest.raises(train.Stopped):
        fit(problem, source, validation, folder=tmp_path / "cut", resident=resident, validate=stop_sometimes,
            checkpoint_every=4)  # fmt: skip
    resumed = fit(problem, source, validation, folder=tmp_path / "cut", resident=resident, checkpoint_every=4)
    assert tools.identical(resumed.state.params, whole.state.params)
    assert tools.identical(resumed.state.ema, whole.state.ema)
    assert resumed.epochs[-1] == whole.epochs[-1]
    steps = [record["step"] for record in train.read_journal(tmp_path / "cut" / "metrics.jsonl")]
    assert steps == [r["step"] for r in train.read_journal(tmp_path / "whole" / "metrics.jsonl")]


def test_with_and_without_checkpoints_the_run_is_the_same(tools, source, validation, tmp_path):
    problem = tools.Problem()
    with_files = fit(problem, source, validation, folder=tmp_path)
    without = fit(problem, source, validation)
    assert tools.identical(with_files.best, without.best)
    assert with_files.best_step == without.best_step
    assert with_files.epochs == without.epochs


def test_training_learns(tools, source, validation):
    fitted = fit(tools.Problem(), source, validation, epochs=8)
    assert fitted.epochs[-1]["train"]["loss"] < 0.7 * fitted.epochs[0]["train"]["loss"]


def test_patience_stops_early_and_the_best_is_restored(tools, source, validation, tmp_path):
    losses = iter([3.0, 1.0, 2.0, 1.0, 2.0])
    seen = []

    def validate(variables):
        seen.append(jax.tree.map(np.array, variables))
        return {"loss": next(losses)}

    fitted = fit(tools.Problem(), source, validation, folder=tmp_path, epochs=20, patience=2, validate=validate)
    assert fitted.stopped_early
    assert [epoch["epoch"] for epoch in fitted.epochs] == [1, 2, 3, 4]
    assert fitted.best_epoch["epoch"] == 2
    assert tools.identical(fitted.best, seen[1])


def test_divergence_stops_with_the_step_and_keeps_the_good_checkpoint(tools, source, validation, tmp_path):
    problem = tools.Problem()
    fit(problem, source, validation, folder=tmp_path, epochs=1)
    broken = problem.state.replace(hyper=problem.state.hyper | {"learning_rate": np.float32(np.inf)})
    problem.state = broken
    good = train.Checkpoints(tmp_path / "checkpoints").restore(broken)
    checkpoints = train.Checkpoints(tmp_path / "other")
    checkpoints.save(good.state.replace(hyper=broken.hyper), {**good.record}, 6)
    checkpoints.wait()
    with pytest.raises(train.Diverged, match=r"not finite in step \d+.*last good checkpoint is that of step 6"):
        train.fit(
            broken, problem.feed(source), problem.where, epochs=3, checkpoints=checkpoints,
        )  # fmt: skip
    assert checkpoints.steps() == [6]


def test_a_validation_that_is_not_finite_is_never_the_best(tools, source, validation):
    values = iter([float("nan"), 2.0, float("nan")])
    fitted = fit(tools.Problem(), source, validation, validate=lambda v: {"loss": next(values)})
    assert fitted.best_epoch["epoch"] == 2


@pytest.mark.parametrize("name", ["epochs", "patience", "checkpoint_every", "log_every"])
def test_numbers_below_one_are_refused(tools, source, validation, name):
    with pytest.raises(ValueError, match=f"{name} is 0"):
        fit(tools.Problem(), source, validation, **{name: 0})
