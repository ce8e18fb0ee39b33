"""A user's experiment in one file outside the repository, with its own model and task, is trained as ours are."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from etude import lab

EXPERIMENT = '''
"""How well do a few numbers describe an image? A linear autoencoder, trained by its reconstructions."""

import sys
from dataclasses import dataclass
from typing import Annotated

import flax.linen as nn
import jax
import jax.numpy as jnp
from etude import lab, tasks, train


@dataclass(frozen=True)
class Config:
    """The size of the description."""

    run: lab.RunOptions = lab.RunOptions()
    random: lab.RandomOptions = lab.RandomOptions()
    data: lab.DataOptions = lab.DataOptions()
    batch: lab.BatchOptions = lab.BatchOptions()
    optimizer: lab.OptimizerOptions = lab.OptimizerOptions("adam")
    update: lab.UpdateOptions = lab.UpdateOptions(weight_decay=0.0)
    rate: lab.RateOptions = lab.RateOptions(1e-2)
    schedule: lab.ScheduleOptions = lab.ScheduleOptions()
    training: lab.TrainingOptions = lab.TrainingOptions(epochs=4)
    stopping: lab.StoppingOptions = lab.StoppingOptions()
    grid: lab.GridOptions = lab.GridOptions()
    population: lab.SeedsOptions = lab.SeedsOptions()
    size: Annotated[int, lab.COUNT] = 4
    """Number of numbers that describe an image."""


class Autoencoder(nn.Module):
    size: int

    @nn.compact
    def __call__(self, images):
        flat = images.reshape(len(images), -1)
        return nn.Dense(flat.shape[1])(nn.Dense(self.size)(flat)).reshape(images.shape)


def reconstruction(model, shape):
    """The task: squared errors of reconstructed images in [0, 1]."""

    def init(key):
        return model.init(key, jnp.zeros((1, *shape)))

    def loss(params, model_state, batch, key, train, hyper):
        images = batch["image"] / 255.0
        errors = jnp.square(model.apply({"params": params}, images) - images).mean((1, 2, 3))
        weights = tasks.example_weights(batch)
        metrics = {"worst_pixel": tasks.Mean.of(jnp.sqrt(errors), weights)}
        return tasks.Mean.of(errors, weights), tasks.Aux(model_state, metrics)

    return tasks.Task(init, loss)


def main(config):
    with lab.open_run(__file__, config) as run:
        if run.result:
            return run.result
        source = lab.load(config.data, "train")
        shape = source.element_spec["image"].shape
        training = lab.make_training(
            reconstruction(Autoencoder(config.size), shape), source, lab.load(config.data, "validation"),
            batch=config.batch,
            optimizer=config.optimizer, update=config.update, seed=config.random.seed,
        )
        epochs = config.training.epochs
        trained = lab.fit(
            run, training, training.members(config.rate.learning_rate, config.population, config.grid),
            lab.warmup_cosine(training.steps(epochs), config.schedule), epochs,
            population=lab.population_of(config.population, config.grid),
            checkpoint_every=config.stopping.checkpoint_every, patience=config.stopping.patience,
        )
        rows = trained.chosen_rows(config.population.seeds)
        found = trained.measure(trained.fitted.best, lab.load(config.data, "test"))
        return run.finish({"test_loss": float(found["loss"][rows].mean())}, {})


if __name__ == "__main__":
    sys.exit(lab.command(__doc__, Config, main))
'''

# Runs the file as a user does, and kills the process, without any warning, as its third epoch ends.
KILLED = """
import os, runpy, signal, sys
from etude.train import Journal

end_epoch = Journal.end_epoch

def killed(self, epoch, epochs):
    if epoch["epoch"] == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    end_epoch(self, epoch, epochs)

Journal.end_epoch = killed
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.fixture
def own(tmp_path):
    """The file, imported from where it is."""
    file = tmp_path / "describe.py"
    file.write_text(EXPERIMENT, encoding="utf-8")
    spec = importlib.util.spec_from_file_location("describe", file)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules["describe"] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules["describe"]


def run(own, *arguments):
    assert lab.command(own.__doc__, own.Config, own.main, None, [str(each) for each in arguments]) == 0


def test_it_trains_and_goes_on_after_a_kill_as_if_nothing_had_happened(own, tmp_path, capsys):
    options = ["--checkpoint-every", "10"]
    command = [sys.executable, "-c", KILLED, str(tmp_path / "describe.py"), *options, "--out", str(tmp_path / "killed")]
    ended = subprocess.run(command, env=os.environ, capture_output=True, text=True, check=False)
    assert ended.returncode == -9, ended.stderr
    assert not (tmp_path / "killed" / "result.json").exists()
    run(own, *options, "--out", tmp_path / "killed")
    assert "Resuming after step" in " ".join(capsys.readouterr().out.split())
    run(own, *options, "--out", tmp_path / "whole")
    killed, whole = (lab.read_result(tmp_path / name)["metrics"] for name in ("killed", "whole"))
    assert killed["test_loss"] == pytest.approx(whole["test_loss"], rel=1e-6)
    logged = [(tmp_path / name / "metrics.jsonl").read_text().count("\n") for name in ("killed", "whole")]
    assert logged[0] == logged[1]


def test_it_runs_as_a_population_and_refuses_what_is_not_valid(own, tmp_path, capsys):
    run(
        own,
        "--epochs",
        2,
        "--population.learning-rate",
        "1e-5,1e-2",
        "--population.seeds",
        2,
        "--population.mode",
        "vmap",
        "--out",
        tmp_path / "many",
    )
    table = lab.read_csv(tmp_path / "many" / "members.csv")
    assert table["learning_rate"].tolist() == [1e-5, 1e-5, 1e-2, 1e-2]
    assert table["seed"].tolist() == [0, 1, 0, 1]
    best = table["best_validation_loss"].reshape(2, 2)
    assert (best[1] < best[0]).all()
    assert {"train_worst_pixel", "validation_worst_pixel"} <= table.keys()
    # A member gives what it gives alone.
    run(own, "--epochs", 2, "--seed", 1, "--out", tmp_path / "one")
    alone = lab.read_csv(tmp_path / "one" / "members.csv")
    np.testing.assert_allclose(alone["best_validation_loss"], best[1, 1], rtol=1e-5)
    assert lab.command(own.__doc__, own.Config, own.main, None, ["--learning-rate=-1"]) == 2
    assert "learning_rate is -1.0" in capsys.readouterr().err


def test_no_module_of_lab_hides_a_function_of_its_name():
    modules = {path.stem for path in Path(lab.__file__).parent.glob("*.py")}
    assert not modules & set(lab.__all__)
