"""A user's own experiment in one file outside the repository, and all that its command line does and refuses."""

import ast
import importlib
import importlib.util
import inspect
import json
import subprocess
import sys
from pathlib import Path

import pytest
from etude import errors, lab, plots
from etude.lab import cli

EXPERIMENT = '''
"""Does it count?

Answer: result.json.
"""
from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Mapping

from etude import lab


@dataclass(frozen=True)
class Config:
    """What is counted."""

    REMOVED: ClassVar[Mapping[str, Any]] = {"parallel": "jit", "tta": ...}

    run: lab.RunOptions = lab.RunOptions()
    random: lab.RandomOptions = lab.RandomOptions()
    data: lab.DataOptions = lab.DataOptions()
    optimizer: lab.OptimizerOptions = lab.OptimizerOptions()
    update: lab.UpdateOptions = lab.UpdateOptions()
    rate: lab.RangeTestOptions = lab.RangeTestOptions()
    training: lab.TrainingOptions = lab.TrainingOptions(epochs=3)
    grid: lab.GridOptions = lab.GridOptions()
    population: lab.SeedsOptions = lab.SeedsOptions()
    sizes: Annotated[tuple[int, ...], lab.COUNT] = (3, 4)
    """Numbers of units."""


DEMO = Config()
PRESETS = {"smoke": lab.override(DEMO, preset="smoke", epochs=1, **{"population.seeds": 2}), "demo": DEMO}
SEEN = []


def main(config):
    with lab.open_run(__file__, config, PRESETS) as run:
        if run.result:
            return run.result
        SEEN.append(config)
        return run.finish({"total": float(sum(config.sizes))}, {}, [lab.Claim("it counts", 7.0, "> 0", True)])


if __name__ == "__main__":
    sys.exit(lab.command(__doc__, Config, main, PRESETS))
'''


@pytest.fixture
def counting(tmp_path, monkeypatch):
    """The experiment's module, with runs/ below a temporary folder."""
    file = tmp_path / "counting.py"
    file.write_text(EXPERIMENT)
    spec = importlib.util.spec_from_file_location("counting", file)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "counting", module)
    spec.loader.exec_module(module)
    monkeypatch.chdir(tmp_path)
    return module


def run(capsys, module, *arguments, presets=True):
    code = lab.command(
        module.__doc__, module.Config, module.main, module.PRESETS if presets else None, [str(x) for x in arguments]
    )
    captured = capsys.readouterr()
    return code, " ".join((captured.out + captured.err).split())


def test_flags_are_flat_and_change_the_preset(capsys, counting):
    code, _ = run(
        capsys,
        counting,
        "--preset",
        "smoke",
        "--learning-rate",
        "0.1",
        "--sizes",
        "1",
        "2",
        "--seed=4",
        "--population.weight-decay",
        "0.1,0.2",
        "--clip_norm",
        "1",
    )
    assert code == 0
    expected = lab.override(
        counting.PRESETS["smoke"],
        learning_rate=0.1,
        sizes=(1, 2),
        seed=4,
        clip_norm=1.0,
        **{"population.weight_decay": "0.1,0.2"},
    )
    assert [expected] == counting.SEEN
    assert expected.population.seeds == 2


def test_help_groups_the_flags_and_offers_the_presets_that_there_are(capsys, counting, monkeypatch):
    monkeypatch.setenv("COLUMNS", "300")
    code, text = run(capsys, counting, "--help")
    assert code == 0
    assert "Does it count?" in text
    assert "--preset {smoke,demo}" in text
    assert "paper}" not in text
    for part in ("data options", "optimizer options", "schedule options", "population options", "nesterov,adagrad"):
        assert part in text
    for option in lab.options_of(counting.Config):
        assert f"--{option.name.replace('_', '-')}" in text


def test_without_presets_there_is_no_such_flag(capsys, counting):
    assert "--preset" not in run(capsys, counting, "--help", presets=False)[1]
    assert run(capsys, counting, "--epochs", "5", presets=False)[0] == 0
    assert [lab.override(counting.Config(), epochs=5)] == counting.SEEN


def test_the_same_command_again_finds_the_run_finished(capsys, counting):
    assert run(capsys, counting, "--seed", "1")[0] == 0
    folder = Path("runs/counting/demo,seed=1")
    assert json.loads((folder / "result.json").read_text())["metrics"] == {"total": 7.0}
    code, text = run(capsys, counting, "--seed", "1")
    assert code == 0
    assert "finished" in text
    assert len(counting.SEEN) == 1


def test_a_config_file_runs_the_same_run_again_and_flags_change_it(capsys, counting):
    run(capsys, counting, "--preset", "smoke", "--name", "first", "--sizes", "5")
    file = "runs/counting/first/config.json"
    assert run(capsys, counting, "--config", file, "--name", "second")[0] == 0
    assert run(capsys, counting, "--config", "runs/counting/first", "--name", "third", "--epochs", "9")[0] == 0
    first, second, third = counting.SEEN
    assert second == lab.override(first, name="second")
    assert third == lab.override(first, name="third", epochs=9)
    code, text = run(capsys, counting, "--config", file, "--preset", "demo")
    assert code == 2
    assert "give --config or --preset" in text


def test_the_config_of_another_experiment_is_refused(capsys, counting):
    Path("config.json").write_text(json.dumps({"experiment": "vit", "preset": "demo"}))
    code, text = run(capsys, counting, "--config", "config.json")
    assert code == 2
    assert "is of vit, not of counting" in text


def test_a_folder_of_another_config_is_refused(capsys, counting):
    run(capsys, counting, "--out", "there")
    code, text = run(capsys, counting, "--out", "there", "--epochs", "8")
    assert code == 2
    assert "epochs 3 there, 8 here" in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--preset", "smok"], "There is no preset 'smok'. Did you mean smoke? Valid are: smoke, demo."),
        (["--optimizer", "adm"], "There is no optimizer 'adm'. Did you mean adam?"),
        (["--learning-rate", "-1"], "learning_rate is -1.0; it must be positive and finite."),
        (["--learning-rate", "nan"], "learning_rate is nan; it must be finite."),
        (["--momentum", "1"], "momentum is 1.0; it must be in [0, 1)."),
        (["--seed", "-1"], "seed is -1; it must be at least 0 and less than 2^32."),
        (["--sizes", "3", "0"], "sizes is 0; it must be at least 1."),
        (["--population.seeds", "0"], "population.seeds is 0"),
        (["--population.learning-rate", "0.5:0.1"], "0 < lowest <= highest"),
        (["--population.weight-decay", "0,-1"], "population.weight_decay is -1.0"),
        (["--config", "nowhere.json"], "There is no file nowhere.json"),
        (["--epoch", "3"], "--epochs"),
        (["--epochs", "three"], "three"),
        (["--accumulate", "2"], "--accumulate"),
    ],
)
def test_a_mistake_ends_with_one_message_and_exit_code_2(capsys, counting, arguments, message):
    code, text = run(capsys, counting, *arguments)
    assert code == 2
    assert message in text
    assert "Traceback" not in text
    assert not counting.SEEN


def test_what_is_no_mistake_of_the_user_shows_in_full(counting):
    def main(config):
        raise ValueError("a defect of ours")

    with pytest.raises(ValueError, match="a defect of ours"):
        lab.command("", counting.Config, main, None, [])


def test_a_missing_file_is_an_error_of_the_three_types():
    error = errors.MissingFile("There is no file x.")
    assert isinstance(error, errors.InputError)
    assert isinstance(error, ValueError)
    assert isinstance(error, FileNotFoundError)
    assert str(error) == "There is no file x."


def test_experiments_are_found_without_importing_them(capsys):
    assert {"resnet", "prepare"} <= cli.experiments().keys()
    assert cli.experiments()["resnet"].startswith("Train a residual network")
    assert cli.main(["resent"]) == 2
    assert "Did you mean resnet?" in " ".join(capsys.readouterr().err.split())
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("etude ")


def test_the_list_of_experiments_needs_no_jax():
    program = (
        "import sys\nfrom etude.lab import cli\ncli.main([])\nassert not {'jax', 'numpy', 'tyro'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True, capture_output=True)


@pytest.mark.parametrize("room", [lab, plots])
def test_a_room_offers_the_same_names_to_readers_and_to_imports(room):
    source = ast.parse(inspect.getsource(room))
    (block,) = [node for node in source.body if isinstance(node, ast.If)]
    static = {a.name: node.module for node in block.body if isinstance(node, ast.ImportFrom) for a in node.names}
    assert set(room.__all__) == set(dir(room)) == set(static)
    for name, module in static.items():
        assert getattr(room, name) is getattr(importlib.import_module(f"{room.__name__}.{module}"), name)
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = room.nothing


def test_help_whose_reader_has_enough_ends_without_a_traceback():
    command = [sys.executable, "-m", "etude.lab.cli", "mlp", "--help"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout
    assert process.stderr
    process.stdout.close()
    assert process.stderr.read() == ""
    assert process.wait() == 141


def test_a_refusal_waits_for_no_library_that_draws_writes_or_scores():
    program = (
        "import sys\nfrom etude.lab import cli\n"
        "for name in sorted(cli.experiments()):\n"
        "    assert cli.main([name, '--such-a-flag', 'is not there']) == 2\n"
        "assert cli.main(['resnet', '--learning-rate', '-1']) == 2\n"
        "print({'matplotlib', 'orbax', 'sklearn', 'scipy', 'tensorstore'} & set(sys.modules))"
    )
    ended = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert ended.stdout == "set()\n"


def test_an_interrupt_before_a_run_has_begun_says_so(capsys, counting, monkeypatch):
    def interrupted(config):
        raise KeyboardInterrupt

    monkeypatch.setattr(counting, "main", interrupted)
    assert run(capsys, counting)[0] == 130
    assert "Interrupted: nothing had begun." in run(capsys, counting)[1]
