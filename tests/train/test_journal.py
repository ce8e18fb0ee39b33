"""The records of a run, of one state or of a population."""

import errno
import os

import numpy as np
import pytest
from etude import train
from etude.errors import InputError
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


def write(journal, steps):
    for step in steps:
        journal.record("train", step, step / 10, {"loss": np.float64(1.0)})


@pytest.mark.parametrize("damage", ['{"split": "tr', "[]", "null", '{"loss": 1}', "\0\0\0"])
def test_a_damaged_record_before_the_last_is_named_and_no_record_is_dropped(tmp_path, damage):
    journal = train.Journal(tmp_path)
    journal.begin("run", 0, 10)
    write(journal, range(1, 6))
    journal.end()
    file = tmp_path / "metrics.jsonl"
    lines = file.read_text().splitlines()
    lines[2] = damage
    file.write_text("\n".join(lines) + "\n")
    with pytest.raises(InputError, match=r"metrics\.jsonl is damaged: line 3 is no record"):
        journal.begin("run", 5, 10)
    assert file.read_text().splitlines() == lines


def test_a_full_disk_is_named(tmp_path, monkeypatch):
    def refuse(number):
        raise OSError(errno.ENOSPC, "No space left on device")

    journal = train.Journal(tmp_path)
    journal.begin("run", 0, 10)
    write(journal, [1])
    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", refuse)
        with pytest.raises(InputError, match=r"metrics\.jsonl can't be written: No space left on device"):
            journal.flush()
    journal.end()


def test_a_file_that_was_removed_stops_the_run(tmp_path, monkeypatch):
    monkeypatch.setattr("etude.train.journal.LOOK_SECONDS", 0)
    journal = train.Journal(tmp_path)
    journal.begin("run", 0, 10)
    write(journal, [1, 2])
    os.remove(tmp_path / "metrics.jsonl")
    with pytest.raises(InputError, match=r"metrics\.jsonl was removed while the run wrote it"):
        write(journal, [3])
    journal.end()
