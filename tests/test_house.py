"""The plan of the house: which room may import which, what is installed, and that an import changes nothing.

The guard reads source files without importing them. It is a function of a folder, so that the tests below can show on
small made-up trees that it finds what it is there to find.
"""

import ast
import functools
import json
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from etude.lab import cli

ROOT = Path(__file__).resolve().parent.parent

# Rooms from the top of the house to the ground: a room imports rooms of lower floors only.
FLOORS = (
    ("experiments",),
    ("lab",),
    ("train", "plots"),
    ("tasks",),
    ("metrics", "data"),
    ("losses", "diffusion", "schedules", "models"),
    ("errors",),
)
MAY_IMPORT = {
    room: {below for lower in FLOORS[level + 1 :] for below in lower}
    for level, rooms in enumerate(FLOORS)
    for room in rooms
}
MAY_IMPORT["plots"] = {"metrics", "errors"}  # figures draw results; they train nothing and load nothing
TYPES_OF_TASKS = {
    *("Aux", "Batch", "Evaluation", "Game", "Hyper", "Mean", "RowEvaluation", "Task", "Variables"),
    *("DISCRIMINATOR", "GENERATOR"),  # names of the players
}
KNOW_THE_COMMAND_LINE = {"experiments", "lab"}


@dataclass(frozen=True)
class Import:
    """One imported name: where, the module's absolute name, and the name taken from it (None for the module itself)."""

    path: Path
    line: int
    relative: bool
    module: tuple[str, ...]
    name: str | None


def rooms_of(root: Path) -> list[str]:
    """The top-level packages."""
    return sorted(init.parent.name for init in root.glob("*/__init__.py"))


def imports_of(path: Path, root: Path) -> Iterator[Import]:
    """Every import of a file, inside functions too; relative ones as absolute modules `("etude", room, …)`."""
    package = ("etude", *path.relative_to(root).parent.parts)
    for node in ast.walk(parse(path)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(path, node.lineno, False, tuple(alias.name.split(".")), None)
        elif isinstance(node, ast.ImportFrom):
            base = package[: max(len(package) - node.level + 1, 0)] if node.level else ()
            module = (*base, *(node.module.split(".") if node.module else ()))
            for alias in node.names:
                # A relative import that climbs out of the package has an empty base.
                absolute = module if base or not node.level else ("..", *module)
                yield Import(path, node.lineno, node.level > 0, absolute, alias.name)


@functools.cache
def parse(path: Path) -> ast.Module:
    """The syntax tree of a file, which several tests read."""
    return ast.parse(path.read_text(encoding="utf-8"))


def file_of(module: tuple[str, ...], root: Path) -> Path | None:
    """The file of a module `("etude", room, …)`, or None where it is no module of ours."""
    if len(module) < 2:
        return None
    stem = root.joinpath(*module[1:])
    candidates = (stem / "__init__.py", stem.with_suffix(".py"))
    return next((candidate for candidate in candidates if candidate.exists()), None)


def offered_by(init: Path) -> set[str]:
    """The names which an `__init__.py` binds at module level."""
    bound = set()
    for node in parse(init).body:
        if isinstance(node, ast.Import | ast.ImportFrom):
            bound |= {(alias.asname or alias.name).split(".")[0] for alias in node.names}
        elif isinstance(node, ast.FunctionDef | ast.ClassDef):
            bound.add(node.name)
        elif isinstance(node, ast.Assign):
            bound |= {target.id for target in node.targets if isinstance(target, ast.Name)}
    return bound


def wrong_imports(room: str, root: Path = ROOT) -> list[str]:
    """What the files of a room import and must not, each as `file:line: what is wrong`."""
    found = []
    for path in sorted((root / room).rglob("*.py")):
        package = ("etude", *path.relative_to(root).parent.parts)
        for node in imports_of(path, root):
            wrong = _wrong(node, package, root)
            if wrong:
                found.append(f"{path.relative_to(root)}:{node.line}: {wrong}")
    return found


def _wrong(node: Import, package: tuple[str, ...], root: Path) -> str | None:
    if node.module[0] == "..":
        return "climbs out of the package"
    # A room's bare name resolves, too, for whoever starts Python in the repository.
    if not node.relative and node.module[0] in {"etude", *MAY_IMPORT}:
        return f"imports {'.'.join(node.module)} absolutely"
    if node.module[0] != "etude":
        return None  # a library
    room = package[1]
    other = node.module[1] if len(node.module) > 1 else node.name
    if other in ("__version__", "on_first_use"):  # of the package itself
        return None
    if other != room and other not in MAY_IMPORT[room]:
        return f"must not import {other}"
    if (room, other) == ("train", "tasks") and (len(node.module) < 2 or node.name not in TYPES_OF_TASKS):
        return f"takes {node.name} from tasks, of which train knows only {', '.join(sorted(TYPES_OF_TASKS))}"
    return _inside_of_a_sibling(node, package, root) if other == room else None


def _inside_of_a_sibling(node: Import, package: tuple[str, ...], root: Path) -> str | None:
    """A chapter (subfolder) imports another chapter of its room through that chapter's `__init__` alone."""
    shared = 0
    while shared < min(len(package), len(node.module)) and package[shared] == node.module[shared]:
        shared += 1
    if shared == len(package):
        return None  # the file's own chapter, or below it
    if len(node.module) == shared:  # `from .. import sibling`: the chapter itself, or a file beside it
        return None
    sibling = node.module[: shared + 1]
    init = root.joinpath(*sibling[1:], "__init__.py")
    if not init.exists():
        return None  # a plain file beside the chapter
    submodule = file_of((*node.module, node.name), root) if node.name else None
    if node.module != sibling or (submodule and node.name not in offered_by(init)):
        return f"reaches inside of the chapter {sibling[-1]}; import from its __init__"
    return None


def circle_of(room: str, root: Path = ROOT) -> list[str]:
    """The files of one circle of imports in a room, first to first again; empty where there is none."""
    files = sorted((root / room).rglob("*.py"))
    targets = {path: {file for node in imports_of(path, root) for file in _files_run_by(node, root)} for path in files}
    graph = {path: sorted(files - {path}) for path, files in targets.items()}
    done: set[Path] = set()

    def search(path: Path, trail: list[Path]) -> list[Path]:
        if path in trail:
            return [*trail[trail.index(path) :], path]
        if path in done or path not in graph:
            return []
        for target in graph[path]:
            if circle := search(target, [*trail, path]):
                return circle
        done.add(path)
        return []

    circle = next(filter(None, (search(path, []) for path in files)), [])
    return [str(path.relative_to(root)) for path in circle]


def _files_run_by(node: Import, root: Path) -> Iterator[Path]:
    """The files which an import needs, leaving out packages around the importing file: Python is inside of them."""
    around = {folder / "__init__.py" for folder in node.path.parents}
    submodule = file_of((*node.module, node.name), root) if node.name else None
    if submodule:
        yield submodule
    for length in range(2, len(node.module) + 1):
        path = file_of(node.module[:length], root)
        needs_the_package_itself = length == len(node.module) and not submodule
        if path and (path not in around or needs_the_package_itself):
            yield path


# The house as it stands.

ROOMS = rooms_of(ROOT)
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


@pytest.mark.parametrize("room", ROOMS)
def test_imports_point_one_way(room):
    assert not wrong_imports(room)


@pytest.mark.parametrize("room", ROOMS)
def test_no_files_of_a_room_import_each_other_in_a_circle(room):
    assert not circle_of(room)


def test_every_room_has_its_floor():
    assert ROOMS
    assert set(ROOMS) <= MAY_IMPORT.keys()


def test_everything_that_is_a_package_is_installed_under_its_name():
    setuptools = PYPROJECT["tool"]["setuptools"]
    folders = [init.parent.relative_to(ROOT) for room in ROOMS for init in (ROOT / room).rglob("__init__.py")]
    assert sorted(setuptools["packages"]) == sorted(["etude", *("etude." + ".".join(f.parts) for f in folders)])
    assert setuptools["package-dir"] == {"etude": "."}


def test_no_file_of_a_room_lies_in_a_folder_that_is_no_package():
    """Such a file is imported in a working copy, and is missing where the wheel is installed."""
    lost = {path.parent for room in ROOMS for path in (ROOT / room).rglob("*.py")}
    assert not [folder for folder in lost if not (folder / "__init__.py").exists()]


def test_every_file_with_a_config_and_a_main_is_an_experiment():
    found = set()
    for path in (ROOT / "experiments").glob("[!_]*.py"):
        names = {node.name for node in parse(path).body if isinstance(node, ast.ClassDef | ast.FunctionDef)}
        imports = [node for node in parse(path).body if isinstance(node, ast.ImportFrom)]
        names |= {alias.name for node in imports for alias in node.names}  # an experiment may share another's Config
        assert "main" in names or "Config" not in names, f"{path.name} has a Config and no main"
        if {"Config", "main"} <= names:
            found.add(path.stem)
    assert found
    assert cli.experiments().keys() == found


def test_nothing_below_the_lab_knows_the_command_line():
    for room in set(ROOMS) - KNOW_THE_COMMAND_LINE:
        for path in (ROOT / room).rglob("*.py"):
            assert "tyro" not in path.read_text(encoding="utf-8"), path
            assert "argparse" not in path.read_text(encoding="utf-8"), path


def test_every_figure_of_the_readme_exists():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    figures = [part.split(")")[0] for part in readme.split("](")[1:] if part.split(")")[0].endswith(".png")]
    assert figures
    assert all((ROOT / figure).exists() for figure in figures)


WATCH = """
import importlib, json, logging, os, pkgutil, sys, warnings
for library in json.loads(sys.argv[2]):
    importlib.import_module(library)
import jax, matplotlib, numpy

def tables():
    modules = [m for name, m in list(sys.modules.items()) if name.startswith("etude.") and m]
    return {f"{m.__name__}.{k}": repr(sorted(map(repr, v))) for m in modules for k, v in vars(m).items()
            if isinstance(v, dict | list | set) and not k.startswith("__")}

def effects():
    loggers = {k: v for k, v in logging.root.manager.loggerDict.items() if isinstance(v, logging.Logger)}
    loggers["root"] = logging.root
    state = {f"level of the logger {k}": (v.level, v.disabled, len(v.handlers)) for k, v in loggers.items()}
    state |= {f"jax.config.{k}": v for k, v in jax.config.values.items()}
    state |= {f"matplotlib.rcParams[{k}]": v for k, v in dict.items(matplotlib.rcParams)}
    state |= {f"os.environ[{k}]": v for k, v in os.environ.items()}
    state["numpy's errors"] = numpy.geterr()
    state["numpy's printing"] = numpy.get_printoptions()
    state["warnings.filters"] = warnings.filters
    state["tables of rooms"] = 0
    return {k: repr(v) for k, v in state.items()}

changed = {}
for room in json.loads(sys.argv[1]):
    before, before_tables = effects(), tables()
    package = importlib.import_module(f"etude.{room}")
    for module in pkgutil.walk_packages(package.__path__, f"etude.{room}."):
        importlib.import_module(module.name)
    after = effects() | tables()
    changed[room] = [k for k, v in (before | before_tables).items() if after.get(k) != v]
print(json.dumps(changed))
"""


def test_importing_a_room_changes_no_logger_no_config_and_no_table():
    command = [sys.executable, "-c", WATCH, json.dumps(from_the_ground_up()), json.dumps(sorted(libraries()))]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    changed = json.loads(ended.stdout.splitlines()[-1])
    assert changed.keys() == set(ROOMS)
    assert not {room: names for room, names in changed.items() if names}


def from_the_ground_up() -> list[str]:
    """The rooms in an order in which what is imported first needs nothing of what follows."""
    return [room for rooms in reversed(FLOORS) for room in rooms if room in ROOMS]


def libraries() -> set[str]:
    """The libraries which our modules import when they are imported; what these change is not our doing."""
    found = set()
    for room in ROOMS:
        for path in (ROOT / room).rglob("*.py"):
            for node in parse(path).body:
                if isinstance(node, ast.Import):
                    found |= {alias.name for alias in node.names}
                elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
                    found.add(node.module)
    return found


# The guard itself: each made-up house has one fault, or none.


def house(root: Path, files: dict[str, str]) -> Path:
    """Writes a made-up house: the given files, and an empty `__init__.py` in each of their folders."""
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        for folder in [path.parent, *path.parent.parents]:
            if folder == root:
                break
            (folder / "__init__.py").touch()
        path.write_text(text, encoding="utf-8")
    return root


@pytest.mark.parametrize(
    ("path", "text", "message"),
    [
        ("models/x.py", "from ..train import fit", "models/x.py:1: must not import train"),
        ("models/x.py", "from ..train.loop import fit", "must not import train"),
        ("models/x.py", "from .. import train", "must not import train"),
        ("models/layers/x.py", "from ...train import fit", "models/layers/x.py:1: must not import train"),
        ("models/layers/__init__.py", "from ...train import fit", "must not import train"),
        ("models/layers/deep/x.py", "from ....data.order import epoch", "must not import data"),
        ("models/layers/x.py", "from ... import losses", "must not import losses"),
        ("models/x.py", "def f():\n    from ..data import load", "models/x.py:2: must not import data"),
        ("models/x.py", "class A:\n    def f(self):\n        from .. import lab", "must not import lab"),
        ("models/x.py", "import etude.models.y", "imports etude.models.y absolutely"),
        ("train/x.py", "import etude", "imports etude absolutely"),
        ("train/x.py", "from etude import models", "imports etude absolutely"),
        ("train/x.py", "def f():\n    from etude.models import y", "imports etude.models absolutely"),
        ("train/x.py", "import models", "imports models absolutely"),
        ("train/x.py", "from models import y", "imports models absolutely"),
        ("models/x.py", "from ...elsewhere import y", "climbs out of the package"),
        ("plots/x.py", "from ..train import fit", "must not import train"),
        ("plots/x.py", "from ..models import create", "must not import models"),
        ("lab/x.py", "from ..experiments import resnet", "must not import experiments"),
        ("tasks/x.py", "from ..train import fit", "must not import train"),
        ("train/x.py", "from ..tasks import classification", "takes classification from tasks"),
        ("train/x.py", "from .. import tasks", "takes tasks from tasks"),
        ("models/dense/x.py", "from ..layers.attention import A", "reaches inside of the chapter layers"),
        ("models/dense/x.py", "from ..layers import attention", "reaches inside of the chapter layers"),
        ("models/dense/sub/x.py", "from ...layers.attention import A", "reaches inside of the chapter layers"),
        ("models/dense/sub/x.py", "from ..other.inner import A", "reaches inside of the chapter other"),
    ],
)
def test_the_guard_finds(tmp_path, path, text, message):
    others = dict.fromkeys(["models/layers/attention.py", "models/dense/other/inner.py", "data/order.py"], "")
    root = house(tmp_path, {**others, path: text})
    [wrong] = wrong_imports(Path(path).parts[0], root)
    assert message in wrong


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("experiments/x.py", "from .. import lab, train, plots, tasks, models\nfrom ..data.order import epoch"),
        ("lab/x.py", "from .. import __version__"),
        ("train/x.py", "from ..tasks import Batch, Mean, Task\nfrom ..models import create"),
        ("train/x.py", "import jax\nfrom data_of_others import y\nfrom . import y\nfrom .y import z"),
        ("models/dense/x.py", "from ..layers import A\nfrom ..catalogue import create\nfrom .y import z"),
        ("models/dense/x.py", "from .. import layers"),
        ("models/dense/x.py", "from ..sequences import words"),  # offered: its __init__ imports it
        ("models/catalogue.py", "from .layers.attention import A"),
    ],
)
def test_the_guard_lets_pass(tmp_path, path, text):
    others = {
        "models/layers/attention.py": "",
        "models/catalogue.py": "",
        "data/order.py": "",
        "models/sequences/words.py": "",
        "models/sequences/__init__.py": "from . import words",
    }
    root = house(tmp_path, {**others, path: text})
    assert not wrong_imports(Path(path).parts[0], root)


@pytest.mark.parametrize(
    "files",
    [
        {"data/a.py": "from .b import x", "data/b.py": "from .a import y"},
        {"data/a.py": "from . import b", "data/b.py": "from .c import x", "data/c.py": "def f():\n    from . import a"},
        {"data/__init__.py": "from .a import x", "data/a.py": "from . import x"},
        {
            "data/__init__.py": "from .text import x",
            "data/text/__init__.py": "from .words import x",
            "data/text/words.py": "from .. import x",
        },
        {
            "data/text/a.py": "from ..image import x",
            "data/image/__init__.py": "from .b import x",
            "data/image/b.py": "from ..text.a import y",
        },
    ],
)
def test_the_guard_finds_a_circle(tmp_path, files):
    circle = circle_of("data", house(tmp_path, files))
    assert circle[0] == circle[-1]
    assert set(circle) <= files.keys()
    assert len(circle) > 2


def test_the_guard_finds_no_circle_where_imports_only_share_a_target(tmp_path):
    files = {
        "data/__init__.py": "from . import a\nfrom .b import x\nfrom .text import y",
        "data/a.py": "from .c import x",
        "data/b.py": "from .c import x\nfrom . import a",
        "data/c.py": "",
        "data/text/__init__.py": "from .words import y",
        "data/text/words.py": "from .. import a\nfrom ..c import x\nfrom . import letters",
        "data/text/letters.py": "",
    }
    assert circle_of("data", house(tmp_path, files)) == []
