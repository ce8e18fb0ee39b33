"""What is reported of a task: its loss and metrics as means of what was counted."""

import numpy as np
import pytest
from etude import tasks
from etude.tasks import Mean


def test_the_evaluation_of_a_task_is_its_loss_and_metrics_at_prediction():
    def loss(params, model_state, batch, key, train, hyper):
        assert (train, dict(hyper)) == (False, {})
        values = params * batch["x"] + model_state["shift"]
        weights = tasks.example_weights(batch)
        return Mean.of(values, weights), tasks.Aux(model_state, {"largest": Mean.of(values > 5, weights)})

    evaluation = tasks.evaluation(tasks.Task(lambda key: {}, loss))
    batch = {"x": np.array([1.0, 2.0, 5.0]), "weight": np.array([1.0, 0.0, 3.0])}
    sums = evaluation.statistics({"params": 2.0, "shift": 1.0}, batch)
    assert evaluation.report(sums) == pytest.approx({"loss": (3 + 3 * 11) / 4, "largest": 3 / 4})


def test_nothing_counted_is_reported_as_nan():
    report = tasks.report_means({"loss": Mean(np.float64(3), np.float64(2)), "rare": Mean(np.zeros(()), np.zeros(()))})
    assert report["loss"] == 1.5
    assert np.isnan(report["rare"])
