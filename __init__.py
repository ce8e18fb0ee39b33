"""Etude: the ideas of deep learning for vision as pure JAX functions.

The repository is the package: the rooms beside this file are `etude.models`, `etude.train` and so on, each imported by
name. Only what concerns the package as a whole stands here, so that `import etude` brings no library with it.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from typing import Any

__version__ = "0.2.0"


def on_first_use(package: str, modules: Mapping[str, str]) -> Callable[[str], Any]:
    """The `__getattr__` of a package whose names are imported when they are first used (PEP 562).

    Args:
      package: its `__name__`.
      modules: module in it -> the names that it has, between spaces.
    """
    module_of = {name: module for module, names in modules.items() for name in names.split()}

    def get(name: str) -> Any:
        if name not in module_of:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(importlib.import_module(f"{package}.{module_of[name]}"), name)

    return get
