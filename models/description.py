"""A network as a few plain values, and back: what a file can hold of a network, so that it can be made again.

A description is a name that `create` takes, and fields: numbers, texts and lists of them; data types and activations
are written by their names, classes of modules by their import paths. Other values are those of the network of that
name. Where they are not, as in a network that was given a function of one's own, the network can't be made again, and
`rebuild` says why.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
import numpy as np

from ..errors import InputError, listed
from .catalogue import create, entry, fields
from .layers import ACTIVATIONS

NOT_KEPT = "not kept"  # {NOT_KEPT: what it was} stands for a value that no file can hold
CLASS = "class"  # {CLASS: its import path} stands for a class of modules
DTYPES = ("dtype", "param_dtype")
OF_A_LAYOUT = ("axis_name",)  # says how a network is trained, and nothing of what it is


def describe(model: nn.Module, name: str | None = None) -> tuple[str, dict[str, Any]]:
    """The name of a network, and its fields as JSON can hold them.

    >>> describe(create("linear", num_classes=3), "linear")[1]
    {'num_classes': 3, 'hidden': [], 'activation': 'relu', 'dropout': 0.0, 'dtype': 'float32', 'param_dtype': 'float32'}

    Args:
      model: the network.
      name: what `create` made it of; by default the import path of its class.
    """
    name = _path_of(type(model)) if name is None else name
    try:
        made = create(name)
        usual = {field: getattr(made, field, None) for field in fields(made)}
    except Exception:  # whatever a constructor raises that wants arguments, or a module that can't be imported again
        usual = {field.name: field.default for field in dataclasses.fields(model)}
    described = {field: _plain(field, getattr(model, field)) for field in fields(model) if field not in OF_A_LAYOUT}
    same = {field for field in described if field in usual and usual[field] is getattr(model, field)}
    return name, {field: plain for field, plain in described.items() if not (field in same and holds_code(plain))}


def rebuild(name: str, described: Mapping[str, Any]) -> nn.Module:
    """The network that `describe` described.

    >>> rebuild("mlp", {"num_classes": 3, "hidden": [16]}).hidden
    (16,)

    Raises: InputError for a name or a field that there is not, a value that a field can't have, or one that was not
      kept.
    """
    values = {field: _value(name, field, plain) for field, plain in described.items()}
    make = entry(name).make
    try:
        model = create(name)
    except TypeError:  # a constructor without defaults
        try:
            model = make(**values)
        except TypeError as error:
            raise InputError(f"{name} can't be made again of {listed(values) or 'nothing'}: {error}.") from error
        if isinstance(model, nn.Module):
            return model
        raise InputError(f"{name} made {type(model).__name__}, which is no flax.linen.Module.") from None
    known = fields(model)
    unknown = [field for field in values if field not in known]
    if unknown:
        raise InputError(f"{name} has no field {unknown[0]} now; the network was made by other code.")
    # A network that names its activation is given the name, and one that has the function, the function.
    named = {field: described[field] for field in values if isinstance(getattr(model, field), str)}
    return model.clone(**{**values, **named})


def holds_code(plain: Any) -> bool:
    """Whether a described value stands for a class or function, and is no plain value."""
    return isinstance(plain, Mapping) or (isinstance(plain, (list, tuple)) and any(map(holds_code, plain)))


def _path_of(cls: type) -> str:
    module = cls.__module__
    file = getattr(sys.modules.get("__main__"), "__file__", None)
    if module == "__main__" and file:  # a script's own class: its module has the name of the file
        module = Path(file).stem
    return f"{module}:{cls.__qualname__}"


def _plain(field: str, value: Any) -> Any:
    if field in DTYPES and value is not None:
        return jnp.dtype(value).name
    if field == "activation" and callable(value):
        return next((name for name, each in ACTIVATIONS.items() if each is value), {NOT_KEPT: str(value)})
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, (np.ndarray, jnp.ndarray)) and value.ndim == 0:
        return value.item()
    if isinstance(value, type) and issubclass(value, nn.Module):
        return {CLASS: _path_of(value)}
    if isinstance(value, (tuple, list)):
        return [_plain("", each) for each in value]
    return {NOT_KEPT: str(value)}


def _value(name: str, field: str, plain: Any) -> Any:
    if isinstance(plain, Mapping) and isinstance(plain.get(CLASS), str):
        return entry(plain[CLASS]).make
    if isinstance(plain, Mapping):
        was = plain.get(NOT_KEPT, plain)
        raise InputError(f"{name} had the {field} {was}, which no file can hold; the network can't be made again.")
    if field in DTYPES and plain is not None:
        try:
            return jnp.dtype(plain)
        except TypeError:
            raise InputError(f"The field {field} of {name} is {plain!r}, which is no data type.") from None
    if field == "activation" and isinstance(plain, str):
        if plain not in ACTIVATIONS:
            raise InputError(f"The field activation of {name} is {plain!r}, and there is no such activation.")
        return ACTIVATIONS[plain]
    return tuple(_value(name, "", each) for each in plain) if isinstance(plain, list) else plain
