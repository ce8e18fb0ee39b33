"""The loop resumes to the bit, stops early, stops on divergence and keeps the best, for one run and a population."""

import dataclasses
import os
import signal
from itertools import pairwise

import jax
import numpy as np
import pytest
from etude import train
from etude.train.progress import Progress

EPOCHS, PER_EPOCH = 3, 6


@pytest.fixture(scope="module", params=["jit", "map"], ids=["one run", "population"])
def problem(request, tools):
    return tools.problem(request.param, ema=True)


@pytest.fixture(scope="module")
def fit(tools):
    def fit(problem, *, folder=None, resident=True, feed=lambda feed: feed, state=None, **options):
        validate = problem.evaluate(tools.make_source(40, "validation", seed=1), batch_size=64)
        return train.fit(
            problem.state if state is None else state,
            feed(problem.feed(tools.make_source(), resident=resident)),
            problem.layout,
            **{
                "epochs": EPOCHS,
                "validate": validate,
                "checkpoints": train.Checkpoints(folder / "checkpoints") if folder else None,
                "journal": train.Journal(folder) if folder else None,
            }
            | options,
        )

    return fit


@pytest.fixture(scope="module")
def whole(tools, problem, fit, tmp_path_factory):
    """The uninterrupted run and its folder."""
    folder = tmp_path_factory.mktemp("whole")
    return fit(problem, folder=folder), folder


def steps_in(folder):
    return [(record["split"], record["step"]) for record in train.read_journal(folder / "metrics.jsonl")]


class Killed(Exception):
    """Stands for SIGKILL: nothing is saved on the way out."""


def raise_killed():
    raise Killed


def terminate():
    os.kill(os.getpid(), signal.SIGTERM)


def interrupted(act, at):
    """The feed of one step a call that acts before step `at`, from 0."""

    def wrap(feed):
        def advance(placed, first, count):
            if first == at:
                act()
            return feed.advance(placed, first, count)

        return dataclasses.replace(feed, advance=advance, most=1)

    return wrap


@pytest.mark.parametrize(
    ("act", "error", "resident"),
    [(terminate, train.Stopped, True), (terminate, train.Stopped, False), (raise_killed, Killed, True)],
    ids=["stopped, resident", "stopped, streaming", "killed, resident"],
)
def test_a_run_interrupted_within_an_epoch_goes_on_to_the_same_bits(
    tools, problem, fit, whole, tmp_path, act, error, resident
):
    expected, its_folder = whole if resident else (fit(problem, resident=False), None)
    with pytest.raises(error):
        fit(problem, folder=tmp_path, resident=resident, feed=interrupted(act, 9), checkpoint_every=4)
    saved = train.Checkpoints(tmp_path / "checkpoints").steps()[-1]
    # A stop saves where it is, in the middle of the second epoch; after a kill there is what was saved before it.
    assert saved == (10 if act is terminate else 8)
    resumed = fit(problem, folder=tmp_path, resident=resident, checkpoint_every=4)
    assert tools.identical(resumed.state, expected.state)
    assert tools.identical(resumed.best, expected.best)
    assert tools.identical(resumed.epochs, expected.epochs)
    np.testing.assert_array_equal(resumed.best_epoch, expected.best_epoch)
    if its_folder:
        assert steps_in(tmp_path) == steps_in(its_folder)


def test_a_run_stopped_in_its_validation_goes_on_to_the_same_bits(tools, problem, fit, whole, tmp_path):
    expected, its_folder = whole
    validate = problem.evaluate(tools.make_source(40, "validation", seed=1), batch_size=64)
    calls = iter([None, terminate])

    def stop_in_the_second(variables):
        act = next(calls)
        if act:
            act()
        return validate(variables)

    with pytest.raises(train.Stopped, match="after step 12 of 18"):
        fit(problem, folder=tmp_path, validate=stop_in_the_second)
    resumed = fit(problem, folder=tmp_path)
    assert tools.identical((resumed.state, resumed.best), (expected.state, expected.best))
    assert tools.identical(resumed.epochs, expected.epochs)
    assert steps_in(tmp_path) == steps_in(its_folder)


def test_with_and_without_checkpoints_the_run_is_the_same(tools, problem, fit, whole):
    without = fit(problem)
    assert tools.identical(without.best, whole[0].best)
    np.testing.assert_array_equal(without.best_epoch, whole[0].best_epoch)
    assert tools.identical(without.epochs, whole[0].epochs)


def test_a_finished_run_takes_no_more_steps(tools, problem, fit, whole):
    fitted, folder = whole
    again = fit(problem, folder=folder, feed=interrupted(raise_killed, 17))
    assert tools.identical((again.state, again.best), (fitted.state, fitted.best))
    assert tools.identical(again.epochs, fitted.epochs)


def test_a_finished_run_whose_newest_checkpoint_is_damaged_ends_with_the_same_bits(tools, problem, fit, tmp_path):
    """The best variables are in every checkpoint, and what is lost after the one before is trained again."""
    first = fit(problem, folder=tmp_path, checkpoint_every=4)
    steps = train.Checkpoints(tmp_path / "checkpoints").steps()
    (tmp_path / "checkpoints" / str(steps[-1]) / "record" / "metadata").write_text("damaged")
    again = fit(problem, folder=tmp_path, checkpoint_every=4)
    assert (tmp_path / "checkpoints_damaged" / str(steps[-1])).exists()
    assert tools.identical((again.state, again.best), (first.state, first.best))
    assert again.best_epoch.tolist() == first.best_epoch.tolist()


def test_records_that_are_gone_when_a_run_goes_on_are_noted_with_their_number(problem, fit, tmp_path):
    fit(problem, folder=tmp_path, epochs=1)
    lines, told = (tmp_path / "metrics.jsonl").read_text().splitlines(keepends=True), []
    journal = train.Journal(tmp_path, note=told.append)
    fit(problem, folder=tmp_path, epochs=1, journal=journal)
    assert not told
    (tmp_path / "metrics.jsonl").write_text("".join(lines[:2]))
    fit(problem, folder=tmp_path, epochs=1, journal=journal)
    assert told == [f"metrics.jsonl lacks {len(lines) - 2} of the {len(lines)} records up to step 6."]
    (tmp_path / "metrics.jsonl").unlink()
    fit(problem, folder=tmp_path, epochs=1, journal=journal)
    assert told[1:] == [f"metrics.jsonl lacks {len(lines)} of the {len(lines)} records up to step 6."]


def test_every_step_and_every_validation_is_in_the_journal(whole):
    _, folder = whole
    expected = []
    for step in range(1, EPOCHS * PER_EPOCH + 1):
        expected += [("train", step)] + [("validation", step)] * (step % PER_EPOCH == 0)
    assert steps_in(folder) == expected


def test_an_epochs_record_is_the_mean_of_its_steps(problem, whole, source):
    fitted, _ = whole
    _, rows = problem.steps(problem.feed(source), EPOCHS * PER_EPOCH)
    for i, epoch in enumerate(fitted.epochs):
        assert (epoch["epoch"], epoch["step"]) == (i + 1, (i + 1) * PER_EPOCH)
        steps = slice(i * PER_EPOCH, (i + 1) * PER_EPOCH)
        for name, mean in rows.items():
            expected = mean.total[steps].astype(np.float64).sum(0) / mean.weight[steps].astype(np.float64).sum(0)
            np.testing.assert_allclose(epoch["train"][name], expected, rtol=1e-6)


def test_steps_are_saved_as_often_as_was_asked(problem, fit, tmp_path):
    saved = []

    class Watched(train.Checkpoints):
        def save(self, step, tree, record):
            saved.append(step)
            super().save(step, tree, record)

    fit(problem, checkpoints=Watched(tmp_path), checkpoint_every=4)
    # A machine under load may take so long for an epoch that its end is saved too.
    assert set(saved) - {6} == {4, 8, 12, 16, 18}


def test_metrics_are_read_one_call_late(problem, fit):
    events = []

    def watched(feed):
        def advance(placed, first, count):
            events.append(("advance", first))
            placed, read = feed.advance(placed, first, count)

            def noted():
                events.append(("read", first))
                return read()

            return placed, noted

        return dataclasses.replace(feed, advance=advance, most=2)

    fit(problem, feed=watched, epochs=1)
    calls = [first for event, first in events if event == "advance"]
    # Each call is dispatched before the metrics of the one before are waited for; the end of the epoch waits for all.
    expected = [("advance", calls[0])]
    for before, now in pairwise(calls):
        expected += [("advance", now), ("read", before)]
    assert len(calls) >= 3
    assert events == [*expected, ("read", calls[-1])]


def test_training_learns(problem, fit):
    fitted = fit(problem, epochs=8)
    assert (fitted.epochs[-1]["train"]["loss"] < 0.9 * fitted.epochs[0]["train"]["loss"]).all()
    assert np.min(fitted.epochs[-1]["train"]["loss"] / fitted.epochs[0]["train"]["loss"]) < 0.7


def scripted(problem, losses, seen=None):
    """A validation that tells the losses of one epoch after the other, whatever the variables, which it notes."""
    told = iter(losses)

    def validate(variables):
        if seen is not None:
            seen.append(jax.tree.map(np.array, variables))
        return {"loss": np.broadcast_to(np.float64(next(told)), problem.layout.shape)}

    return validate


def test_patience_stops_early_and_the_best_is_restored(tools, problem, fit, tmp_path):
    seen = []
    validate = scripted(problem, [3.0, 1.0, 2.0, 1.0, 2.0], seen)
    fitted = fit(problem, folder=tmp_path, epochs=20, patience=2, validate=validate)
    assert fitted.stopped_early.all()
    assert [epoch["epoch"] for epoch in fitted.epochs] == [1, 2, 3, 4]
    assert (fitted.best_epoch == 2).all()
    assert (fitted.at_best("validation", "loss") == 1).all()
    assert tools.identical(jax.tree.map(np.asarray, fitted.best), problem.layout.unplace(seen[1]))
    # What the loop knows of the best and of who stopped comes back with the checkpoint.
    again = fit(problem, folder=tmp_path, epochs=20, patience=2, validate=scripted(problem, []))
    assert tools.identical(again.best, fitted.best)
    assert again.stopped_early.all()
    assert (again.best_epoch == 2).all()


def test_a_validation_that_is_not_finite_is_never_the_best(problem, fit):
    fitted = fit(problem, validate=scripted(problem, [float("nan"), 2.0, float("nan")]))
    assert (fitted.best_epoch == 2).all()


def test_without_validation_the_best_is_the_last(tools, problem, fit):
    fitted = fit(problem, epochs=1, validate=None)
    assert (fitted.best_epoch == 0).all()
    assert fitted.epochs[0]["validation"] == {}
    assert tools.identical(fitted.best, fitted.state.variables)


def with_rate(problem, rate):
    shape = problem.layout.shape
    hyper = {**problem.state.hyper, "learning_rate": np.full(shape, rate, np.float32)}
    return problem.state.replace(hyper=hyper)


def test_divergence_of_all_stops_with_the_step_and_keeps_the_good_checkpoint(problem, fit, tmp_path):
    fit(problem, folder=tmp_path, epochs=1)
    broken = with_rate(problem, np.inf)
    template = {"state": broken, "best": broken.variables}
    good = train.Checkpoints(tmp_path / "checkpoints").restore(template)
    assert good.step == 6
    checkpoints = train.Checkpoints(tmp_path / "other")
    checkpoints.save(6, good.tree | {"state": good.tree["state"].replace(hyper=broken.hyper)}, good.record)
    checkpoints.wait()
    told = (
        r"All 3 members diverged, .* the last in step \d+; the last good checkpoint is that of step 6"
        if problem.layout.shape
        else r"not finite in step \d+ at learning rate inf; the last good checkpoint is that of step 6"
    )
    with pytest.raises(train.Diverged, match=told):
        fit(problem, state=broken, checkpoints=checkpoints)
    assert checkpoints.steps() == [6]


@pytest.mark.parametrize("name", ["epochs", "patience", "checkpoint_every", "log_every"])
def test_numbers_below_one_are_refused(problem, fit, name):
    with pytest.raises(ValueError, match=f"{name} is 0"):
        fit(problem, **{name: 0})


def test_the_best_of_each_member_is_that_of_its_own_best_epoch():
    losses = np.array([[3, 1, 2, 2, 2, 2], [1, 2, np.nan, 2, 1, 3], [2, 3, 1, 2, 1, 1]], float)
    progress = Progress((6,))
    improved = []
    for epoch, values in enumerate(losses, 1):
        better, _ = progress.end_epoch(epoch, 1, {"loss": values}, lambda v: (-v["loss"],), None)
        improved.append(better.tolist())
    assert progress.best_epoch.tolist() == [2, 1, 3, 1, 2, 3]
    assert improved == [[True] * 6, [True, False, False, False, True, False], [False, False, True, False, False, True]]


def test_scores_are_compared_from_the_first_part_on():
    scores = [([1, 1, 1], [5, 5, 5]), ([2, 1, 1], [0, 6, 5]), ([1, 1, 2], [9, 6, 0])]
    progress = Progress((3,))
    for epoch, (first, second) in enumerate(scores, 1):
        values = {"loss": np.array(first), "second": np.array(second)}
        progress.end_epoch(epoch, 1, values, lambda v: (v["loss"], v["second"]), None)
    assert progress.best_epoch.tolist() == [2, 2, 3]
