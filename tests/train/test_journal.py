"""The records of a run, of one state or of a population."""

import numpy as np
from etude import train
from etude.train.journal import summary


def test_a_journal_cuts_off_what_came_after_the_step_it_resumes_from(tmp_path):
    journal = train.Journal(tmp_path)
    journal.begin("run", 0, 10)
    for step in range(1, 6):
        journal.record("train", step, step / 10, {"loss": np.float64("nan" if step == 2 else 1.0)})
    journal.end()
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"split": "train", "st')  # a killed run's last write
    journal.begin("run", 3, 10)
    journal.record("train", 4, 0.4, {"loss": np.float64(4.0)})
    journal.end()
    records = train.read_journal(tmp_path / "metrics.jsonl")
    assert [(record["step"], record["loss"]) for record in records] == [(1, 1.0), (2, None), (3, 1.0), (4, 4.0)]


def test_of_a_population_the_median_of_the_finite_members_is_recorded():
    values = {"loss": np.array([3.0, np.nan, 1.0, 8.0, np.inf]), "accuracy": np.array([np.nan, np.nan])}
    assert summary(values)["loss_median"] == 3
    assert np.isnan(summary(values)["accuracy_median"])
    assert summary({"loss": np.float64(2)}) == {"loss": 2}
