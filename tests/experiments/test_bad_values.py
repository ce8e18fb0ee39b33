"""Command lines with one bad value each, over all experiments: one message, exit code 2, at once, and nothing left."""

import importlib
import os
import random
import subprocess
import sys
import types
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import pytest
from etude.lab import cli, valid
from etude.lab.config import options_of

SEED, LINES = 14, 60
SECONDS = 5.0  # of a core, so that what else the machine does is not counted

# What no option of a type takes.
OF_TYPE = {
    int: ("x", "1.5", "nan", "-1", "10000000000000", "1e3", ""),
    float: ("x", "nan", "-inf", "1e39", "1e400", "0.1,0.2", ""),
    bool: ("maybe", "2"),
    Literal: ("nonsense", "", "AUTO"),
    valid.Choice: ("nonsense", "", "optax:", "../../x"),
    valid.Grid: ("2**99999", "0**-1", "1.2.3", "0.1,0.1", "1e-4:1:1000000000", "10**999999", "nan,1", "1:", ""),
}
# What an option of a name doesn't take, whatever its type.
OF_NAME = {
    "preset": ("huge", ""),
    "config": ("nowhere", "damaged", "others"),
    "data": ("nonsense", "", "tfds:", "tfds:nothing_such", "folder:nowhere", "folder:empty", "folder:others"),
    "name": ("../../x", "", "a/b", "..", "x" * 300),
    "out": ("others", "others/mine.txt", "/proc/x"),
    "model": ("nonsense", "resnet9999", "no_module:tiny", "json:nothing"),
    "judge": ("nonsense", "etude.models:nothing"),
    "weights": ("nowhere", "others", "others/mine.txt"),
    "batch-size": ("1000000",),
    "learning-rte": ("0.1",),  # there is no such option
    "epochs": ("1 stray",),
}
NOT_TRAINED = {"classify", "compare_runs", "draw", "export", "models", "prepare"}  # their words are files or names
NOT_TRAINED |= {"classify_text", "generate", "translate"}  # or texts


def kind_of(hint: Any) -> Any:
    """What decides the valid values of an option: a note of its type, or the type."""
    origin = get_origin(hint)
    if origin is Annotated:
        for kind in (valid.Choice, valid.Grid):
            if any(isinstance(note, kind) for note in hint.__metadata__):
                return kind
        return kind_of(get_args(hint)[0])
    if origin in (Union, types.UnionType):
        return next(kind_of(each) for each in get_args(hint) if each is not type(None))
    if origin is tuple:
        return kind_of(get_args(hint)[0])
    return origin if origin is Literal else hint


def bad_lines() -> list[str]:
    """Lines of a seeded draw: every experiment in turn, then one of its options, then a value that it can't have."""
    draw = random.Random(SEED)
    trained = sorted(cli.experiments().keys() - NOT_TRAINED)
    found: list[str] = []
    while len(found) < LINES:
        name = trained[len(found) % len(trained)]
        module = importlib.import_module(f"etude.experiments.{name}")
        by_name = {"learning-rte": OF_NAME["learning-rte"], "config": OF_NAME["config"]}
        by_type = {}
        for option in options_of(module.Config):
            flag = option.name.replace("_", "-")
            by_type[flag] = OF_TYPE.get(kind_of(option.type), ())
            by_name[flag] = OF_NAME.get(flag, ())
        if name == "convergence_rate":  # its batches are drawn with replacement
            by_name["batch-size"] = ()
        bad = {flag: values for flag, values in draw.choice((by_name, by_type)).items() if values}
        flag = draw.choice(sorted(bad))
        line = f"{name} --{flag} {draw.choice(bad[flag]) or repr('')}"
        if line not in found:
            found.append(line)
    return found


def test_the_draw_is_seeded_and_reaches_every_experiment_and_kind():
    lines = bad_lines()
    assert lines == bad_lines()
    assert {line.split()[0] for line in lines} == cli.experiments().keys() - NOT_TRAINED
    flags = {line.split()[1].removeprefix("--") for line in lines}
    assert len(flags) > LINES / 2
    assert flags & OF_NAME.keys()


@pytest.mark.slow
@pytest.mark.parametrize("line", bad_lines())
def test_a_bad_value_is_refused_at_once_with_one_message(tmp_path, line):
    (tmp_path / "empty").mkdir()
    for folder, name, text in [("others", "mine.txt", "mine"), ("damaged", "config.json", '{"preset": ')]:
        (tmp_path / folder).mkdir()
        (tmp_path / folder / name).write_text(text)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    name, flag, *values = line.split()
    values = [value.replace("''", "") for value in values]
    preset = [] if flag in ("--preset", "--config") else ["--preset", "smoke"]
    with (tmp_path / "errors").open("w+") as errors:
        process = subprocess.Popen(
            [sys.executable, "-m", "etude.lab.cli", name, *preset, flag, *values],
            cwd=tmp_path,
            stdout=errors,
            stderr=errors,
            env=os.environ | {"COLUMNS": "200"},
        )
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        errors.seek(0)
        text = errors.read()
    (tmp_path / "errors").unlink()
    assert process.returncode == 2, text
    assert "Traceback" not in text
    message = [row for row in text.splitlines() if row.strip()]
    from_the_parser = message[0].startswith("╭")
    assert from_the_parser or (len(message) == 1 and message[0].startswith("etude: ")), text
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before
    assert used.ru_utime + used.ru_stime < SECONDS
