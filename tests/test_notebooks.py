"""Notebooks fit the package: every name that they take from it exists, and (slow) they run from first cell to last.

Their text has no number of a result: those are printed, and what the text says of settings stands in the code.
"""

import ast
import importlib
import inspect
import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

NOTEBOOKS = sorted((Path(__file__).resolve().parent.parent / "notebooks").glob("*.ipynb"))
notebooks = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def cells_of(path, kind):
    """The cells of a notebook of one kind, "code" or "markdown"."""
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return ["".join(cell["source"]) for cell in cells if cell["cell_type"] == kind]


def misfits(code):
    """What a program takes from etude that is not there: modules, attributes, and keywords of calls."""
    tree, names, wrong = ast.parse(code), {}, []

    def resolve(node):
        """The object of etude that an expression names; None if it names another or none."""
        if isinstance(node, ast.Name):
            return names.get(node.id)
        owner = resolve(node.value) if isinstance(node, ast.Attribute) else None
        return getattr(owner, node.attr, None) if owner is not None else None

    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "etude":
            for alias in node.names:
                try:
                    names[alias.asname or alias.name] = imported(node.module, alias.name)
                except (ImportError, AttributeError):
                    wrong.append(f"{node.module}.{alias.name}")
        elif isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.partition(".")[0] == "etude":
                    module = importlib.import_module(alias.name)
                    names[alias.asname or "etude"] = module if alias.asname else importlib.import_module("etude")
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and inspect.ismodule(owner := resolve(node.value)):
            if not hasattr(owner, node.attr):
                wrong.append(ast.unparse(node))
        elif isinstance(node, ast.Call) and callable(function := resolve(node.func)):
            taken = inspect.signature(function).parameters.values()
            if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in taken):
                unknown = {keyword.arg for keyword in node.keywords if keyword.arg} - {one.name for one in taken}
                wrong += [f"{ast.unparse(node.func)}({name}=…)" for name in sorted(unknown)]
    return wrong


def imported(module, name):
    owner = importlib.import_module(module)
    return getattr(owner, name) if hasattr(owner, name) else importlib.import_module(f"{module}.{name}")


@notebooks
def test_every_cell_is_a_program_and_every_name_of_etude_exists(path):
    cells = cells_of(path, "code")
    assert cells
    for number, cell in enumerate(cells):
        compile(cell, f"{path.name}, code cell {number}", "exec")
    code = "\n\n".join(cells)
    assert "etude" in code
    assert misfits(code) == []


@pytest.mark.parametrize(
    ("code", "wrong"),
    [
        ("from etude import data\ndata.load('digits', 'train')", []),
        ("from etude import data\ndata.laod('digits', 'train')", ["data.laod"]),
        ("from etude import data as d\nd.augment.random_rotate", ["d.augment.random_rotate"]),
        ("from etude import dataset", ["etude.dataset"]),
        ("from etude.data import augment\naugment.normalize(x, mean=0, sd=1)", ["augment.normalize(sd=…)"]),
        ("import numpy as np\nnp.laod('x', z=1)", []),
    ],
)
def test_a_name_that_is_not_there_is_found(code, wrong):
    assert misfits(code) == wrong


def unbacked(text, code):
    """The numbers of a text, formulas left out, that no line of code sets."""
    constants = [node.value for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Constant)]
    set_there = {float(value) for value in constants if isinstance(value, int | float)}
    written = re.findall(r"\d[\d,]*(?:\.\d+)?(?:e[+-]?\d+)?", re.sub(r"\$[^$]*\$", "", text))
    return [number for number in written if float(number.replace(",", "")) not in set_there]


@notebooks
def test_every_number_of_the_text_is_a_setting_of_the_code(path):
    assert unbacked("\n".join(cells_of(path, "markdown")), "\n".join(cells_of(path, "code"))) == []


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("At a rate of 0.1 for 4,000 steps, $x^2$.", []),
        ("It reaches 94.7 % at 1e-3.", ["94.7", "1e-3"]),
        ("After 10 of 4,000 steps", ["10"]),
    ],
)
def test_a_number_that_is_typed_is_found(text, wrong):
    assert unbacked(text, "fit(rate=0.1, steps=4_000, name='10')") == wrong


@pytest.mark.parametrize("importable", [True, False])
@notebooks
def test_the_first_cell_installs_the_repository_where_there_is_no_etude_and_does_nothing_else(
    path, importable, monkeypatch
):
    project = tomllib.loads((path.parent.parent / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    install = [sys.executable, "-m", "pip", "install", "-q", f"git+{project['urls']['Repository']}"]
    ran, names = [], {}
    monkeypatch.setattr("subprocess.check_call", ran.append)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: object() if importable else None)
    exec(cells_of(path, "code")[0], names)
    assert ran == ([] if importable else [install])
    assert names.keys() <= {"__builtins__", "importlib", "subprocess", "sys"}


# What a notebook prints where it gets to its results.
PRINTS = {"learning_rates": ["momentum 0.9: best rate", "Adam's rate for this network: 0.0", "14 of 14 claims hold"]}


@pytest.mark.slow
@notebooks
def test_a_notebook_runs_from_the_first_cell_to_the_last(path, tmp_path):
    script = tmp_path / "notebook.py"
    script.write_text("\n\n".join([*cells_of(path, "code"), "print('the end')"]), encoding="utf-8")
    environment = os.environ | {"TMPDIR": str(tmp_path)}
    command = [sys.executable, str(script)]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.endswith("the end\n")
    for words in PRINTS.get(path.stem, []):
        assert words in ended.stdout
    assert list(tmp_path.rglob("*.png"))


def test_notebooks_are_committed_without_outputs():
    assert NOTEBOOKS
    for path in NOTEBOOKS:
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        assert not any(cell.get("outputs") or cell.get("execution_count") for cell in cells), path.name
