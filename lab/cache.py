"""Where a user's machine keeps what can be made again: compiled programs, and which files were checked."""

from __future__ import annotations

import os
from pathlib import Path


def cache_folder(name: str) -> Path:
    """The folder of that name in the user's cache; nothing is made."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "etude" / name
