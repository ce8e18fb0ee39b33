"""The command line: lists the experiments, makes a config of flags, a preset or a `config.json`, and runs it.

`etude <experiment> --epochs 3` and `python my_experiment.py --epochs 3` are the same thing: `command` is all that an
experiment's file calls. A user's mistake is an `InputError`; it ends with one message and exit code 2. What anything
else raises is a defect, and shows in full.
"""

from __future__ import annotations

import ast
import contextlib
import dataclasses
import importlib
import importlib.util
import inspect
import os
import shutil
import signal
import sys
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar

from rich.console import Console
from rich.markup import escape

from .. import __version__
from ..errors import InputError, short_paths, unknown_name
from .cache import cache_folder

C = TypeVar("C")

PACKAGE = "etude.experiments"  # every module here is an experiment that has a Config and a main
LINE = 100  # columns of prose, at most
FINISHED, MISTAKE, DIVERGED, STOPPED, UNREAD = 0, 2, 3, 130, 141


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs `etude ARGUMENTS`.

    Args:
      arguments: by default those of the process, which is then also set up for the run: its cache and its devices.
    Returns: the exit code: 0 finished, 2 a user's mistake, 3 divergence, 130 stopped, 141 if whoever reads the
      output has closed it.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    if not given or given[0] in ("-h", "--help"):
        _list()
        return FINISHED
    if given[0] == "--version":
        print(f"etude {__version__}")
        return FINISHED
    name, *rest = given
    if name not in experiments():
        return _fail(str(unknown_name("experiment", name, experiments(), "etude lists them")))
    return run(name, rest, own_process=arguments is None)


def run(name: str, arguments: Sequence[str] | None = None, *, own_process: bool | None = None) -> int:
    """Runs one of the experiments of `experiments()`; otherwise as `command`."""
    own_process = arguments is None if own_process is None else own_process
    if own_process:
        _use_compilation_cache()
    module = importlib.import_module(f"{PACKAGE}.{name}")
    return _run(
        name,
        f"etude {name}",
        module.__doc__,
        module.Config,
        module.main,
        getattr(module, "PRESETS", None),
        sys.argv[1:] if arguments is None else arguments,
        own_process,
    )


def command(
    description: str | None,
    config: type[C],
    main: Callable[[C], Any],
    presets: Mapping[str, C] | None = None,
    arguments: Sequence[str] | None = None,
) -> int:
    """The command line of an experiment in a file of its own: the last line of the file.

        if __name__ == "__main__":
            sys.exit(lab.command(__doc__, Config, main, PRESETS))

    Args:
      description: what --help begins with.
      config: the experiment's dataclass, composed of groups and options.
      main: what runs it. The name of its file is the experiment's name.
      presets: configs by name, among them "demo"; without any there is no --preset.
      arguments: by default those of the process, which is then also set up for the run: its cache and its devices.
    Returns: the exit code: 0 finished, 2 a user's mistake, 3 divergence, 130 stopped, 141 if whoever reads the
      output has closed it.
    """
    file = Path(inspect.getsourcefile(main) or main.__module__)
    own_process = arguments is None
    if own_process:
        _use_compilation_cache()
    return _run(
        file.stem,
        file.name,
        description,
        config,
        main,
        presets,
        sys.argv[1:] if arguments is None else arguments,
        own_process,
    )


def parse(
    experiment: str,
    config: type[C],
    arguments: Sequence[str],
    presets: Mapping[str, C] | None = None,
    *,
    description: str | None = None,
    program: str | None = None,
) -> C:
    """The config that flags name: from the class, a preset (--preset) or a file (--config), and the flags over it.

    Args:
      experiment: its name; the config of another one is refused.
      config: the experiment's dataclass.
      arguments: flags.
      presets: configs by name.
      description: what --help begins with.
      program: the command, for --help; by default `etude <experiment>`.
    Raises: InputError for a preset or file that there is not, or a value that its option can't have; SystemExit where
      tyro has printed help (code 0) or what is wrong with a flag (code 2).
    """
    import tyro

    from . import config as configs

    presets, arguments = presets or {}, list(arguments)
    preset, file = _value_of("--preset", arguments), _value_of("--config", arguments)
    has_runs = any(option.name == "preset" for option in configs.options_of(config))
    base: Any = config
    if has_runs and file is not None:
        if preset is not None:
            raise InputError("--config has all options, those of its preset too; give --config or --preset.")
        base = configs.read_config(Path(file), config, presets, experiment=experiment)
    elif presets:
        preset = "demo" if preset is None else preset
        if preset not in presets:
            raise unknown_name("preset", preset, presets)
        base = presets[preset]

    if not {"-h", "--help"}.isdisjoint(arguments) and description:
        print(_filled(description) + "\n")
    known = configs.options_of(base)
    parsed: Any = tyro.cli(
        _command_line(config.__name__, known, presets, has_runs),
        prog=program or f"etude {experiment}",
        description="",
        args=arguments,
        config=(tyro.conf.HelptextFromCommentsOff,),  # the help is ours, and tyro would look for more in the sources
    )
    values = {}
    for option in known:
        group = getattr(parsed, _part(option.title)) if option.title else parsed
        values[option.path] = getattr(group, _identifier(option.name), option.default)
    built = _built(config, values)
    configs.check(built)
    _refuse_ignored(built, arguments)
    return built


def experiments(package: str = PACKAGE) -> dict[str, str]:
    """Name -> one line on what it is, of every module of a package that is an experiment; none is imported."""
    found = {}
    spec = importlib.util.find_spec(package)
    for folder in (spec and spec.submodule_search_locations) or ():
        for path in sorted(Path(folder).glob("[!_]*.py")):
            tree = ast.parse(path.read_text(encoding="utf-8"))
            defined = {node.name for node in tree.body if isinstance(node, (ast.ClassDef, ast.FunctionDef))}
            imports = (node for node in tree.body if isinstance(node, ast.ImportFrom))
            defined |= {alias.asname or alias.name for node in imports for alias in node.names}
            if {"Config", "main"} <= defined:
                found[path.stem] = (ast.get_docstring(tree) or "").split("\n", 1)[0]
    return found


def _run(
    name: str,
    program: str,
    description: str | None,
    config: type,
    main: Callable[[Any], Any],
    presets: Mapping[str, Any] | None,
    arguments: Sequence[str],
    own_process: bool,
) -> int:
    from ..train import Diverged

    if own_process:
        signal.signal(signal.SIGTERM, _interrupt)
    try:
        chosen = parse(name, config, arguments, presets, description=description, program=program)
        if own_process and _wants_many_devices(chosen):
            _use_all_cores()
        main(chosen)
    except SystemExit as error:  # of the parser, which has printed help or a message
        return error.code if isinstance(error.code, int) else FINISHED
    except InputError as error:
        return _fail(str(error))
    except Diverged as error:
        return _fail(str(error), DIVERGED)
    except KeyboardInterrupt as error:
        return _fail(f"Interrupted: {str(error) or 'nothing had begun'}. The same command goes on from there.", STOPPED)
    except BrokenPipeError:  # whoever reads has enough, as `etude resnet --help | head`
        if own_process:  # at its exit Python would complain that it can't write what is left
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return UNREAD
    return FINISHED


def _interrupt(number: int, frame: Any) -> None:
    """SIGTERM ends a run as SIGINT does: with a message that says what is kept."""
    del number, frame
    raise KeyboardInterrupt


def _command_line(name: str, options: Sequence[Any], presets: Mapping[str, Any], has_runs: bool) -> type:
    """A dataclass as tyro reads it: a part for each heading of --help, and in it every option with its flat flag."""
    import tyro

    from .grids import GRAMMAR
    from .valid import Choice, Grid

    parts: dict[str, list[tuple[str, Any, Any]]] = {"": []}
    about: dict[str, str] = {}
    for option in options:
        if option.name == "preset" and not presets:
            continue
        notes = getattr(option.type, "__metadata__", ())
        word = next((note.metavar for note in notes if isinstance(note, Choice | Grid)), None)
        if option.name == "preset":
            word = "{" + ",".join(presets) + "}"
        positional = tyro.conf.Positional in notes
        if positional:
            word = option.name.upper() + ("..." if _is_tuple(option.type) else "")
            word = word if option.default is dataclasses.MISSING else f"[{word}]"
        elif word is None:
            word = _word_of_optional(option.type)
        elif _is_tuple(option.type):
            word = f"[{word}]"
        flag = tyro.conf.arg(
            name=option.name.replace("_", "-"),
            help=option.help or None,
            metavar=word,
            # The sentence says what happens where there is no value to show.
            help_behavior_hint="" if option.default in (None, ()) or (_is_tuple(option.type) and positional) else None,
            prefix_name=False,
        )
        if any(isinstance(note, Grid) for note in notes):
            about[option.title] = GRAMMAR.replace("\n\n ", "\n ")  # an indented line is a paragraph to tyro
        default: dict[str, Any] = {} if option.default is dataclasses.MISSING else {"default": option.default}
        field = dataclasses.field(**default)
        parts.setdefault(option.title, []).append((_identifier(option.name), Annotated[option.type, flag], field))
        if option.name == "preset" or (has_runs and option.name == "name" and not presets):
            parts[""].append(_config_flag())
    root = parts.pop("")
    for title, fields in parts.items():
        part = dataclasses.make_dataclass(_part(title), fields, kw_only=True)
        part.__doc__ = ""
        heading = tyro.conf.arg(name=title, help=about.get(title, ""))
        root.append((_part(title), Annotated[part, heading], dataclasses.field(default_factory=part)))
    return dataclasses.make_dataclass(name, root, kw_only=True)


def _config_flag() -> tuple[str, Any, Any]:
    import tyro

    flag = tyro.conf.arg(
        name="config",
        metavar="PATH",
        help="File config.json of a run, or its folder, whose options are taken over; flags change them. By default "
        "the preset is.",
        help_behavior_hint="",
    )
    return "config_file", Annotated[Path | None, flag], dataclasses.field(default=None)


def _part(title: str) -> str:
    """The field of a part of the command line; an option of the experiment itself may be named as the part's title."""
    return f"part_{_identifier(title)}"


def _identifier(name: str) -> str:
    """A name as a field of a class."""
    return name.replace(".", "__").replace(" ", "_").replace("-", "_")


def _filled(text: str) -> str:
    """Paragraphs in lines that the terminal shows whole, which tyro's descriptions aren't."""
    width = min(LINE, shutil.get_terminal_size().columns)
    return "\n\n".join(textwrap.fill(paragraph, width) for paragraph in inspect.cleandoc(text).split("\n\n"))


def _word_of_optional(hint: Any) -> str | None:
    """What stands for the value of an option that may be None, which tyro would show as one of two values."""
    from typing import Literal, get_args, get_origin

    words = {int: "INT", float: "FLOAT", str: "STR", Path: "PATH"}
    hint = get_args(hint)[0] if get_origin(hint) is Annotated else hint
    given = [each for each in get_args(hint) if each is not type(None)]
    if type(None) not in get_args(hint) or len(given) != 1:
        return None
    if get_origin(given[0]) is Literal:
        return "{" + ",".join(map(str, get_args(given[0]))) + "}"
    return " ".join(words[each] for each in get_args(given[0]) or given)


def _is_tuple(hint: Any) -> bool:
    from typing import get_args, get_origin

    return get_origin(get_args(hint)[0] if get_origin(hint) is Annotated else hint) is tuple


def _built(config: type[C], values: Mapping[tuple[str, ...], Any]) -> C:
    """A config of values by the paths of their fields."""
    from typing import get_type_hints

    hints, arguments = get_type_hints(config), {}
    for field in dataclasses.fields(config):  # pyright: ignore[reportArgumentType]
        inner = {path[1:]: value for path, value in values.items() if path[0] == field.name}
        arguments[field.name] = inner[()] if () in inner else _built(hints[field.name], inner)
    return config(**arguments)


def _value_of(flag: str, arguments: Sequence[str]) -> str | None:
    """The last value of a flag that decides the others' defaults, so that it is read before they are parsed."""
    found = None
    for position, argument in enumerate(arguments):
        if argument == flag and position + 1 < len(arguments):
            found = arguments[position + 1]
        elif argument.startswith(f"{flag}="):
            found = argument.removeprefix(f"{flag}=")
    return found


def _refuse_ignored(config: Any, arguments: Sequence[str]) -> None:
    """Raises InputError for a flag which a group of the config says has no effect: the group's `without_effect`."""
    flags = _flags(arguments)
    for part in _parts(config):
        for name, reason in getattr(part, "without_effect", {}).items():
            flag = f"--{name.replace('_', '-')}"
            if flag in flags:
                raise InputError(f"{flag} has no effect: {reason}.")


def _flags(arguments: Sequence[str]) -> set[str]:
    """The flags among a command line's arguments, with hyphens."""
    return {argument.split("=", 1)[0].replace("_", "-") for argument in arguments if argument.startswith("--")}


def _parts(config: Any) -> Iterator[Any]:
    """A config and its groups."""
    yield config
    for field in dataclasses.fields(config):
        part = getattr(config, field.name)
        if dataclasses.is_dataclass(part):
            yield from _parts(part)


def _wants_many_devices(config: Any) -> bool:
    """Whether a group of the config, or the config itself, has `many_devices`, and it is true."""
    return any(getattr(part, "many_devices", False) for part in _parts(config))


def _use_compilation_cache() -> None:
    """Keeps compiled programs between processes, unless the user's environment says where or whether."""
    for variable, value in {
        "JAX_COMPILATION_CACHE_DIR": str(cache_folder("jax")),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.5",
    }.items():
        if variable in os.environ:
            continue
        os.environ[variable] = value
        if "jax" in sys.modules:  # a user's own file imports it first, and it reads the environment once
            import jax

            jax.config.update(variable.lower(), float(value) if value[0].isdigit() else value)


def _use_all_cores() -> None:
    """Makes every CPU core a device, for members or parts of a batch side by side; accelerators stay as they are."""
    import jax

    # Once devices were looked for, their number stands.
    with contextlib.suppress(RuntimeError):
        jax.config.update("jax_num_cpu_devices", int(os.environ.get("JAX_NUM_CPU_DEVICES", os.cpu_count() or 1)))


def _list() -> None:
    console, found = Console(), experiments()
    console.print("usage: etude EXPERIMENT [--preset smoke|demo|paper] [options]\n", markup=False, highlight=False)
    width = max(len(name) for name in found)
    for name, line in found.items():
        # A terminal gets columns; a pipe a line for each, so that grep finds names and questions together.
        columns = console.width - width - 4 if console.is_terminal else len(line)
        first, *more = textwrap.wrap(line, max(20, columns)) or [""]
        console.print(f"  [bold]{name:<{width}}[/]  {escape(first)}", highlight=False, soft_wrap=True)
        for each in more:
            console.print(f"{'':<{width + 4}}{escape(each)}", highlight=False, soft_wrap=True)
    console.print("\n[dim]etude EXPERIMENT --help shows its options; etude --version shows the version.[/]")


def _fail(message: str, code: int = MISTAKE) -> int:
    Console(stderr=True).print(f"[bold red]etude:[/] {escape(short_paths(message))}", highlight=False, soft_wrap=True)
    return code


if __name__ == "__main__":
    sys.exit(main())
