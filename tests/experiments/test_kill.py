"""kill -9 at random moments of a real process: the run ends with the same bits as an uninterrupted one."""

import random
import subprocess
import sys
import time

import numpy as np
import pytest
from etude import train

OPTIONS = [
    "--epochs",
    "8",
    "--learning-rate",
    "0.05",
    "--model",
    "resnet8",
    "--batch-size",
    "32",
    "--checkpoint-every",
    "39",
]


def start(folder, feed, log):
    command = [sys.executable, "-m", "etude.lab.cli", "resnet", *OPTIONS, "--feed", feed, "--out", str(folder)]
    return subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)


def last_state(folder):
    """The newest checkpoint's arrays, read without building the network."""
    step = _steps(folder)
    return step, train.read_checkpoint(folder / "checkpoints", step).tree


@pytest.mark.slow  # ten starts of a process; test_own_experiment.py kills a run once
@pytest.mark.parametrize("feed", ["resident", "stream"])
def test_a_run_killed_three_times_ends_bit_identical(tmp_path, feed):
    with (tmp_path / "log").open("w") as log:
        assert start(tmp_path / "whole", feed, log).wait() == 0
        moments = random.Random(0)
        killed = 0
        progressed = -1
        while killed < 3:
            process = start(tmp_path / "killed", feed, log)
            # A random moment after the run went beyond its last checkpoint, which may be in the midst of a save.
            while process.poll() is None and _steps(tmp_path / "killed") <= progressed:
                time.sleep(0.01)
            time.sleep(moments.uniform(0, 0.4))
            assert process.poll() is None, "the run ended before it could be killed"
            process.kill()
            process.wait()
            killed += 1
            progressed = _steps(tmp_path / "killed")
        assert start(tmp_path / "killed", feed, log).wait() == 0
    (step, killed_state), (whole_step, whole_state) = last_state(tmp_path / "killed"), last_state(tmp_path / "whole")
    assert step == whole_step == 8 * 39
    assert killed_state.keys() == whole_state.keys()
    for name, array in whole_state.items():
        np.testing.assert_array_equal(killed_state[name], array, err_msg=name)
    assert "Resuming after step" in (tmp_path / "log").read_text()
    assert (tmp_path / "killed" / "result.json").read_text() == (tmp_path / "whole" / "result.json").read_text()
    assert (tmp_path / "killed" / "metrics.jsonl").read_text() == (tmp_path / "whole" / "metrics.jsonl").read_text()


KILLED = """
import os, signal, sys
from etude.lab import cli
from etude.train import Journal

end_epoch = Journal.end_epoch

def killed(self, epoch, epochs):
    if epoch["epoch"] == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    end_epoch(self, epoch, epochs)

if "--kill" in sys.argv:
    sys.argv.remove("--kill")
    Journal.end_epoch = killed
sys.exit(cli.main(sys.argv[1:]))
"""


def check_that_a_kill_changes_nothing(name, options, tmp_path):
    """A run that is killed in its second epoch and started again has the result of one that was not."""

    def run(folder, *more):
        command = [sys.executable, "-c", KILLED, name, *options, "--checkpoint-every", "2", "--epochs", "3"]
        command += ["--preset", "smoke", "--batch-size", "8", "--out", str(tmp_path / folder), *more]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    assert run("killed", "--kill").returncode == -9
    again = run("killed")
    assert again.returncode == 0, again.stderr
    assert "Resuming after step" in again.stdout
    assert run("whole").returncode == 0
    killed, whole = ((tmp_path / folder / "result.json").read_text() for folder in ("killed", "whole"))
    assert killed == whole


@pytest.mark.slow  # three starts of a process for each
@pytest.mark.parametrize(
    ("name", "few"),
    [("translation", "few_pairs"), ("text_classification", "few_labels"), ("language_model", "few_labels")],
)
def test_a_run_on_texts_that_is_killed_ends_with_the_same_result(name, few, tmp_path, request):
    options = ["--data", request.getfixturevalue(few), "--tokenizer", "characters", "--row-tokens", "48"]
    check_that_a_kill_changes_nothing(name, options, tmp_path)


@pytest.mark.slow  # three starts of a process for each
@pytest.mark.parametrize("name", ["segmentation", "detection", "instance_segmentation", "panoptic"])
def test_a_run_on_scenes_that_is_killed_ends_with_the_same_result(name, tmp_path, few_scenes):
    check_that_a_kill_changes_nothing(name, ["--data", few_scenes], tmp_path)
    (step, state), (whole_step, whole_state) = last_state(tmp_path / "killed"), last_state(tmp_path / "whole")
    assert step == whole_step
    for path, array in whole_state.items():
        np.testing.assert_array_equal(state[path], array, err_msg=path)


def _steps(folder):
    """The newest committed step, -1 while there is none."""
    steps = [int(path.name) for path in (folder / "checkpoints").glob("[0-9]*") if path.name.isdigit()]
    return max(steps, default=-1)
