"""What is built and installed: the wheel holds the rooms alone, the source distribution all that its tests need.

The slow test builds both with the setuptools of pyproject.toml, and runs the installed command outside the clone.
"""

import os
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import venv
import zipfile
from importlib import metadata
from pathlib import Path

import etude
import pytest
from etude.lab import cli

ROOT = Path(__file__).resolve().parent.parent
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def test_the_version_is_written_once(capsys):
    assert PYPROJECT["project"]["dynamic"] == ["version"]
    assert re.fullmatch(r"\d+\.\d+\.\d+", etude.__version__)
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out == f"etude {etude.__version__}\n"


def test_the_changelog_and_the_citation_tell_of_this_version():
    assert f"## [{etude.__version__}]" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert f"\nversion: {etude.__version__}\n" in (ROOT / "CITATION.cff").read_text(encoding="utf-8")


def test_importing_the_package_brings_no_library():
    code = "import etude, sys; print(etude.__version__, sorted({'jax', 'numpy', 'flax'} & set(sys.modules)))"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ended.stdout.split(maxsplit=1) == [etude.__version__, "[]\n"]


def test_every_oldest_version_is_one_that_pyproject_allows_and_none_is_forgotten():
    """tests/oldest.txt pins what pyproject.toml says is the oldest that works, so that `make test-oldest` tests it."""
    lines = (ROOT / "tests" / "oldest.txt").read_text(encoding="utf-8").splitlines()
    pins = dict(line.split("#")[0].strip().split("==") for line in lines if "==" in line)
    bounds = dict(requirement.split(",")[0].split(">=") for requirement in PYPROJECT["project"]["dependencies"])
    assert bounds.keys() <= pins.keys()
    for name, bound in bounds.items():
        assert (pins[name] + ".").startswith(bound + "."), f"{name} is tested at {pins[name]}, allowed from {bound}"


def run(*command, folder, **environment):
    """Runs a command away from the clone; returns what it printed."""
    ended = subprocess.run(
        list(map(str, command)), cwd=folder, env=os.environ | environment, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


@pytest.mark.slow
def test_the_source_distribution_builds_a_wheel_that_works_outside_the_clone(tmp_path):
    clone = tmp_path / "clone"
    kept = subprocess.run(
        ["git", "-C", str(ROOT), "ls-files", "-co", "--exclude-standard"], capture_output=True, text=True, check=False
    )
    if kept.returncode != 0:
        pytest.skip("only a clone knows which files belong to it")
    files = [name for name in kept.stdout.splitlines() if (ROOT / name).is_file()]
    for name in files:
        (clone / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, clone / name)

    venv.create(tmp_path / "build", with_pip=True)
    builder = tmp_path / "build" / "bin" / "python"
    run(builder, "-m", "pip", "install", "--quiet", *PYPROJECT["build-system"]["requires"], folder=tmp_path)
    build = "import sys, setuptools.build_meta as b; getattr(b, sys.argv[1])(sys.argv[2])"
    run(builder, "-c", build, "build_sdist", tmp_path, folder=clone)
    with tarfile.open(tmp_path / f"etude-{etude.__version__}.tar.gz") as archive:
        shipped = {name.split("/", 1)[1] for name in archive.getnames() if "/" in name}
        archive.extractall(tmp_path, filter="data")
    assert {name for name in files if name != ".gitignore" and not name.startswith(".ci/")} <= shipped

    run(builder, "-c", build, "build_wheel", tmp_path, folder=tmp_path / f"etude-{etude.__version__}")
    [wheel] = tmp_path.glob("*.whl")
    rooms = {name.removeprefix("etude.").split(".")[0] for name in PYPROJECT["tool"]["setuptools"]["packages"]}
    sources = {name for name in files if name.split("/")[0] in rooms or name in ("__init__.py", "py.typed")}
    with zipfile.ZipFile(wheel) as archive:
        installed = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert installed == {f"etude/{name}" for name in sources}

    # The libraries are those of this Python; the package is the wheel, though this Python has the clone.
    target = tmp_path / "installed"
    run(builder, "-m", "pip", "install", "--quiet", "--no-deps", "--target", target, wheel, folder=tmp_path)
    where = run(sys.executable, "-c", "import etude; print(etude.__file__)", folder=tmp_path, PYTHONPATH=str(target))
    assert where.strip() == str(target / "etude" / "__init__.py")
    result = tmp_path / "run"
    command = [sys.executable, "-m", "etude.experiments.resnet", "--preset", "smoke", "--out", result]
    run(*command, folder=tmp_path, PYTHONPATH=str(target))
    assert (result / "result.json").exists()
    assert "resnet" in run(sys.executable, target / "bin" / "etude", folder=tmp_path, PYTHONPATH=str(target))


def test_the_metadata_names_the_command_the_license_and_the_addresses():
    found = metadata.metadata("etude")
    assert found["License-Expression"] == "Apache-2.0"
    assert {line.split(",")[0] for line in found.get_all("Project-URL")} >= {"Repository", "Changelog", "Issues"}
    [command] = metadata.entry_points(group="console_scripts", name="etude")
    assert command.load() is cli.main
