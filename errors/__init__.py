"""What a user did wrong, as a type: the one exception that a command line shows as a message, without a traceback.

Every room may import this one, and this one imports nothing. Whoever reads a value that a user gave (a name, a number,
a path) raises `InputError` with a message for that user: what was given, and what is valid. Both types are also the
built-in ones that Python programmers expect, so that a notebook catches a ValueError or FileNotFoundError as ever. Any
other exception is a defect of ours and shows in full.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager


class InputError(ValueError):
    """A value that a user gave is not valid; the message says which, and what is."""


class MissingFile(InputError, FileNotFoundError):
    """A file or folder that a user named does not exist."""


@contextmanager
def writing(what: str | os.PathLike[str]) -> Iterator[None]:
    """Turns the system's refusal to write a file (a full disk, a folder that is gone) into an `InputError`.

    Args:
      what: the file or folder, for the message.
    """
    try:
        yield
    except OSError as error:
        raise InputError(f"{os.fspath(what)} can't be written: {error.strerror or error}.") from error


def unknown_name(kind: str, name: str, valid: Iterable[str]) -> InputError:
    """The error for a name that no table has, with the nearest name that one has.

    Args:
      kind: what the name is of, "optimizer".
      name: the name that was given.
      valid: all names that there are.

    >>> unknown_name("optimizer", "adm", ["sgd", "adam"])
    InputError("There is no optimizer 'adm'. Did you mean adam? Valid are: sgd, adam.")
    """
    valid = list(valid)
    near = difflib.get_close_matches(name, valid, n=1)
    hint = f" Did you mean {near[0]}?" if near else ""
    return InputError(f"There is no {kind} {name!r}.{hint} Valid are: {', '.join(valid)}.")


__all__ = ["InputError", "MissingFile", "unknown_name", "writing"]
