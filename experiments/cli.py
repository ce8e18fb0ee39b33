"""The `etude` command: lists the experiments, builds one's config from the command line, and runs it.

A user's mistake ends with one message and exit code 2, never with a traceback: a mistake is a ValueError or
FileNotFoundError that our own code raised. What any other code raises is a defect, and is shown in full.
"""

from __future__ import annotations

import ast
import contextlib
import difflib
import importlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.markup import escape

HERE = Path(__file__).resolve().parent
COMMAND_ERROR, DIVERGED, STOPPED = 2, 3, 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs `etude ARGUMENTS`; returns the exit code: 0, 2 a user's mistake, 3 divergence, 130 stopped."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    if not arguments or arguments[0] in ("-h", "--help"):
        _list()
        return 0
    name, *rest = arguments
    if name not in experiments():
        near = difflib.get_close_matches(name, experiments(), n=1)
        hint = f" Did you mean {near[0]}?" if near else ""
        return _fail(f"There is no experiment {name!r}.{hint} Valid are: {', '.join(experiments())}.")
    return run(name, rest)


def run(name: str, arguments: Sequence[str] | None = None) -> int:
    """Runs one experiment with command-line arguments; returns the exit code."""
    import tyro

    arguments = list(sys.argv[1:] if arguments is None else arguments)
    _use_compilation_cache()
    module = importlib.import_module(f"etude.experiments.{name}")
    presets = getattr(module, "PRESETS", {})
    preset = _preset_of(arguments)
    default = presets.get(preset)
    if presets and default is None:
        return _fail(f"There is no preset {preset!r}. Valid are: {', '.join(presets)}.")
    config = tyro.cli(
        module.Config,
        prog=f"etude {name}",
        description=module.__doc__,
        args=arguments,
        **({"default": default} if default is not None else {}),
    )
    if getattr(config, "many_devices", False):
        _use_all_cores()
    from ..train import Diverged  # brings JAX, which reads the place of its cache once

    try:
        module.main(config)
    except (ValueError, FileNotFoundError) as error:
        if not _raised_by_us(error):
            raise
        return _fail(str(error))
    except Diverged as error:
        return _fail(str(error), DIVERGED)
    except KeyboardInterrupt as error:
        return _fail(f"Interrupted: {error or 'nothing was saved'}. The same command goes on from there.", STOPPED)
    return 0


def experiments() -> dict[str, str]:
    """Name -> one line on what it is, of every module here that is one; read without importing any."""
    found = {}
    for path in sorted(HERE.glob("[!_]*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        if any(isinstance(node, ast.ClassDef) and node.name == "Config" for node in tree.body):
            found[path.stem] = (ast.get_docstring(tree) or "").split("\n", 1)[0]
    return found


def _list() -> None:
    console = Console()
    console.print("usage: etude EXPERIMENT [--preset smoke|demo|paper] [options]\n", markup=False, highlight=False)
    width = max(len(name) for name in experiments())
    for name, line in experiments().items():
        console.print(f"  [bold]{name:<{width}}[/]  {escape(line)}", highlight=False, soft_wrap=True)
    console.print("\n[dim]etude EXPERIMENT --help tells all of its options.[/]")


def _preset_of(arguments: Sequence[str]) -> str:
    """The preset that the arguments name: it decides the defaults, so it must be known before they are parsed."""
    preset = "demo"
    for position, argument in enumerate(arguments):
        if argument == "--preset" and position + 1 < len(arguments):
            preset = arguments[position + 1]
        elif argument.startswith("--preset="):
            preset = argument.removeprefix("--preset=")
    return preset


def _use_compilation_cache() -> None:
    """Keeps compiled programs between processes, unless the user's environment says where or whether."""
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "etude" / "jax"
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(cache))
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.5")


def _use_all_cores() -> None:
    """Makes every CPU core a device, for members or parts of a batch side by side; accelerators stay as they are."""
    import jax

    # Once devices were looked for (in a notebook, say) their number stands.
    with contextlib.suppress(RuntimeError):
        jax.config.update("jax_num_cpu_devices", int(os.environ.get("JAX_NUM_CPU_DEVICES", os.cpu_count() or 1)))


def _raised_by_us(error: BaseException) -> bool:
    """Whether the innermost frame of an exception is in this package: then its message is written for users."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return trace is not None and trace.tb_frame.f_globals.get("__name__", "").startswith(("etude.", "__main__"))


def _fail(message: str, code: int = COMMAND_ERROR) -> int:
    Console(stderr=True).print(f"[bold red]etude:[/] {escape(message)}", highlight=False, soft_wrap=True)
    return code


if __name__ == "__main__":
    sys.exit(main())
