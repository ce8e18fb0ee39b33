"""kill -9 at random moments of a real process: the run ends with the same bits as an uninterrupted one."""

import random
import subprocess
import sys
import time

import numpy as np
import pytest
from etude.train import Checkpoints

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
    checkpoints = Checkpoints(folder / "checkpoints")
    step = checkpoints.steps()[-1]
    return step, checkpoints._read(step)["state"]


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


def _steps(folder):
    """The newest committed step, -1 while there is none."""
    steps = [int(path.name) for path in (folder / "checkpoints").glob("[0-9]*") if path.name.isdigit()]
    return max(steps, default=-1)
