"""A composed config seen flat: one list of named options, as command lines, `config.json` and presets write them.

An experiment's `Config` is a frozen dataclass whose fields are groups of options, which are frozen dataclasses too, and
options of its own. Everything here follows from that shape. A group says with class variables what its fields can't:

PREFIX   comes before the names of its options, "population."; by default nothing, so that names stay short.
TITLE    heading in --help; groups with one title stand together; by default the name of the Config's field.
BEFORE   option -> the value that runs had before there was the option: what an older config.json means by its absence.
         By default what the preset says.
REMOVED  name of an option that there was once -> the one value with which an older config.json can still be read, or
         `...` where the option had no effect, and any value can be dropped.
"""

from __future__ import annotations

import ast
import dataclasses
import difflib
import inspect
import json
import linecache
import types
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from ..errors import InputError, MissingFile
from .valid import check_value

C = TypeVar("C")

NO_OPTIONS = frozenset({"experiment", "data_fingerprint"})  # what a `config.json` says besides its options


@dataclass(frozen=True)
class Option:
    """One option of a config.

    name: flat, with its group's prefix: "epochs", "population.seeds".
    path: fields that lead to it from the config: ("training", "epochs").
    type: with its metadata.
    help: the sentence below the field; "" if there is none.
    title: heading in --help; "" for the config's own options.
    default: the field's; `dataclasses.MISSING` if it has none.
    """

    name: str
    path: tuple[str, ...]
    type: Any
    help: str
    title: str
    default: Any


def options_of(config: Any) -> tuple[Option, ...]:
    """All options of a config, or of its class with the class's defaults, in the order of their fields.

    Raises: TypeError if two options have one name, or a group has no default.
    """
    found = tuple(_options(config, (), "", ""))
    names = [option.name for option in found]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise TypeError(f"{_class(config).__name__} has two options named {', '.join(twice)}.")
    return found


def flatten(config: Any) -> dict[str, Any]:
    """Flat name -> value.

    >>> from etude.lab import SeedsOptions
    >>> flatten(SeedsOptions(seeds=3))
    {'seeds': 3, 'chunk': None, 'mode': 'auto'}
    """
    return {option.name: _at(config, option.path) for option in options_of(config)}


def override(config: C, /, **changes: Any) -> C:
    """The same config with other values of some options, by their flat names, whichever groups have them.

    Args:
      config: of an experiment.
      changes: options, or whole groups by the names of their fields: `override(DEMO, epochs=3, data="tfds:mnist")`,
        `override(DEMO, population=SeedsOptions(seeds=5))`, `override(DEMO, **{"population.seeds": 5})`.
    Raises: TypeError for a name that is no option: whoever calls this writes code.
    """
    paths = {option.name: option.path for option in options_of(config)}
    groups = {field.name for field in dataclasses.fields(type(config))}  # pyright: ignore[reportArgumentType]
    for name, value in changes.items():
        path = paths.get(name)
        # A group may be named as its option: then a dataclass is the group.
        if path is None or (name in groups and dataclasses.is_dataclass(value)):
            if name not in groups:
                near = difflib.get_close_matches(name, [*paths, *groups], n=1)
                hint = f"; did you mean {near[0]}?" if near else "."
                raise TypeError(f"{type(config).__name__} has no option {name}{hint}")
            path = (name,)
        config = _replaced(config, path, value)
    return config


def check(config: Any) -> None:
    """Checks the values of all options by the notes of their types.

    Raises: InputError for the first that is not valid.
    """
    for option in options_of(config):
        check_value(option.name, _at(config, option.path), _notes(option.type))


def to_json(config: Any) -> dict[str, Any]:
    """Flat name -> value as JSON can hold it: what `config.json` has, besides the experiment's name."""
    return {name: str(value) if isinstance(value, Path) else value for name, value in flatten(config).items()}


def read_config(path: Path, config: type[C], presets: Mapping[str, C], *, experiment: str | None = None) -> C:
    """The config of a run, written by this version or an older one.

    Args:
      path: the run's folder, or its `config.json`.
      config: the experiment's class.
      presets: the experiment's presets. The file's preset says what an option means that the file lacks, unless the
        option's group knows better (BEFORE).
      experiment: refuse the config of another one; by default any name will do.
    Raises: MissingFile if there is none; InputError if it is no JSON, of another experiment, has an option that there
      is not, or a value that its option can't have.
    """
    path = path / "config.json" if path.is_dir() else path
    flat = read_json(path)
    written_for = flat.pop("experiment", None)
    if experiment is not None and written_for != experiment:
        if written_for is None:
            raise InputError(f"{path} does not say which experiment it is of; wanted the config.json of a run.")
        raise InputError(f"{path} is of {written_for}, not of {experiment}; run it with etude {written_for} --config.")
    return from_json(flat, config, presets, path)


def read_json(path: Path) -> dict[str, Any]:
    """The flat values of a `config.json`, as they stand in it.

    Raises: MissingFile if there is none; InputError if it holds no JSON object.
    """
    if not path.is_file():
        raise MissingFile(f"There is no file {path}.")
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is damaged: it is no JSON ({error}).") from None
    if not isinstance(found, dict):
        raise InputError(f"{path} is damaged: it must be a JSON object.")
    return found


def from_json(flat: Mapping[str, Any], config: type[C], presets: Mapping[str, C], path: Path) -> C:
    """A config from flat values. path: where they are from, for the messages. Otherwise as `read_config`."""
    base = presets.get(flat.get("preset", "demo")) or config()
    known = {option.name: option for option in options_of(base)}
    removed = _declared(base, "REMOVED")
    for name, value in flat.items():
        if name in known or name in NO_OPTIONS:
            continue
        if name not in removed:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f" Did you mean {near[0]}?" if near else ""
            raise InputError(f"{path} has {name}, and there is no such option here.{hint}")
        if removed[name] is not ... and value != _listed(removed[name]):
            raise InputError(
                f"{path} has {name} {value!r}. There is no such option any more; only {removed[name]!r} can be read."
            )
    values = {name: value for name, value in _declared(base, "BEFORE").items() if name not in flat}
    for name, option in known.items():
        if name in flat:
            try:
                values[name] = from_plain(flat[name], option.type)
            except TypeError as error:
                raise InputError(f"{path} has {name} {flat[name]!r}; wanted {error}.") from None
    found = override(base, **values)
    check(found)
    return found


def from_plain(value: Any, wanted: Any) -> Any:
    """A value that JSON holds, as a type wants it: lists as tuples, texts as paths, whole numbers as floats.

    Raises: TypeError if the value is not of the type; its message says what is wanted.
    """
    origin, arguments = get_origin(wanted), get_args(wanted)
    if origin is Annotated:
        return from_plain(value, arguments[0])
    if origin is Literal:
        if value in arguments:
            return value
        raise TypeError(f"one of {', '.join(str(each) for each in arguments)}")
    if origin in (Union, types.UnionType):
        errors = []
        for each in arguments:
            try:
                return from_plain(value, each)
            except TypeError as error:
                errors.append(str(error))
        raise TypeError(" or ".join(errors))
    if origin is tuple and isinstance(value, (list, tuple)):
        if len(arguments) == 2 and arguments[1] is ...:
            return tuple(from_plain(each, arguments[0]) for each in value)
        if len(value) == len(arguments):
            return tuple(from_plain(each, kind) for each, kind in zip(value, arguments, strict=True))
    if wanted is Path and isinstance(value, str):
        return Path(value)
    if wanted is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if wanted is type(None) and value is None:
        return None
    if origin is None and isinstance(value, wanted) and not (wanted is int and isinstance(value, bool)):
        return value
    raise TypeError(_WANTED.get(origin or wanted, str(wanted)))


_WANTED = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "a text",
    Path: "a path",
    tuple: "a list",
    type(None): "null",
}


@cache
def fields_help(cls: type) -> Mapping[str, str]:
    """Field -> the string literal below it, of a class whose source can be read, and of those it is made of."""
    found = {
        name: text for base in cls.__bases__[::-1] if base is not object for name, text in fields_help(base).items()
    }
    try:
        definition = _definitions(inspect.getsourcefile(cls))[cls.__qualname__]
    except (OSError, TypeError, KeyError):
        return found
    for field, below in zip(definition.body, definition.body[1:], strict=False):
        if not (isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name)):
            continue
        if isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant) and isinstance(below.value.value, str):
            found[field.target.id] = " ".join(below.value.value.split())
    return found


@cache
def _definitions(file: str | None) -> Mapping[str, ast.ClassDef]:
    """Name -> definition of a file's classes. `inspect.getsource` would parse the file anew for each of them."""
    return dict(_classes(ast.parse("".join(linecache.getlines(file or ""))), ""))


def _classes(node: ast.AST, inside: str) -> Iterator[tuple[str, ast.ClassDef]]:
    """The classes below a node by their qualified names; of two with one name, the last one counts."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.ClassDef):
            yield inside + child.name, child
            yield from _classes(child, f"{inside}{child.name}.")
        elif isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef)):
            yield from _classes(child, f"{inside}{child.name}.<locals>.")
        else:
            yield from _classes(child, inside)


def _options(config: Any, path: tuple[str, ...], prefix: str, title: str) -> Iterator[Option]:
    cls = _class(config)
    hints, texts = get_type_hints(cls, include_extras=True), fields_help(cls)
    for field in dataclasses.fields(cls):
        hint, here = hints[field.name], (*path, field.name)
        default = _default(config, field)
        if dataclasses.is_dataclass(hint):
            if default is dataclasses.MISSING:
                raise TypeError(f"{cls.__name__}.{field.name} needs a default.")
            heading = getattr(hint, "TITLE", field.name) if not path else title
            yield from _options(default, here, prefix + getattr(hint, "PREFIX", ""), heading)
        else:
            yield Option(prefix + field.name, here, hint, texts.get(field.name, ""), title, default)


def _declared(config: Any, variable: str, prefix: str = "") -> dict[str, Any]:
    """What a config and its groups declare with a class variable, under flat names."""
    cls = type(config)
    found = {prefix + name: value for name, value in getattr(cls, variable, {}).items()}
    for field in dataclasses.fields(cls):
        part = getattr(config, field.name)
        if dataclasses.is_dataclass(part):
            found |= _declared(part, variable, prefix + getattr(type(part), "PREFIX", ""))
    return found


def _default(config: Any, field: dataclasses.Field) -> Any:
    if not isinstance(config, type):
        return getattr(config, field.name)
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return field.default


def _class(config: Any) -> type:
    return config if isinstance(config, type) else type(config)


def _at(config: Any, path: tuple[str, ...]) -> Any:
    for name in path:
        config = getattr(config, name)
    return config


def _replaced(config: Any, path: tuple[str, ...], value: Any) -> Any:
    first, *rest = path
    inner = _replaced(getattr(config, first), tuple(rest), value) if rest else value
    return dataclasses.replace(config, **{first: inner})


def _listed(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _notes(hint: Any) -> Iterator[Any]:
    """The metadata of a type and of the types it is made of."""
    if get_origin(hint) is Annotated:
        yield from hint.__metadata__
    for inner in get_args(hint):
        if get_origin(inner) is not None:
            yield from _notes(inner)
