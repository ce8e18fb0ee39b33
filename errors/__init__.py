"""What a user did wrong, as a type: the one exception that a command line shows as a message, without a traceback.

Every room may import this one, and this one imports nothing. Whoever reads a value that a user gave (a name, a number,
a path) raises `InputError` with a message for that user: what was given, and what is valid. Both types are also the
built-in ones that Python programmers expect, so that a notebook catches a ValueError or FileNotFoundError as ever. Any
other exception is a defect of ours and shows in full.
"""

from __future__ import annotations

import difflib
import os
import re
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


def short_paths(text: str) -> str:
    """A message as it is shown: paths below the current folder are relative to it, and others stay as they are.

    A folder that is used while a program runs is kept absolute; a person reads and copies it in short.
    """
    here = os.getcwd()
    if here == os.sep:
        return text
    return re.sub(rf"(?<![^\s'\"(=:,;]){re.escape(here)}/(?=[^\s/])", "", text)


MOST = 10  # names in one message


def listed(names: Iterable[str], like: str = "", where: str = "") -> str:
    """Names for a message, at most ten of them.

    Args:
      names: all of them; up to ten are told in their order.
      like: of more than ten, those nearest to this come first.
      where: what tells the rest, such as "etude models lists them".

    >>> listed(["sgd", "adam"])
    'sgd, adam'
    >>> listed(map(str, range(100)), where="a table has them")
    '0, 1, 2, 3, 4, 5, 6, 7, 8, 9 … and 90 more; a table has them'
    """
    names = list(names)
    if len(names) <= MOST:
        return ", ".join(names)
    shown = difflib.get_close_matches(like, names, n=MOST, cutoff=0.0) if like else names[:MOST]
    rest = f" … and {len(names) - MOST} more"
    return ", ".join(shown) + rest + (f"; {where}" if where else "")


def unknown_name(kind: str, name: str, valid: Iterable[str], where: str = "") -> InputError:
    """The error for a name that no table has, with the nearest names that one has.

    Args:
      kind: what the name is of, "optimizer".
      name: the name that was given.
      valid: all names that there are.
      where: what tells those that do not fit into the message.

    >>> unknown_name("optimizer", "adm", ["sgd", "adam"])
    InputError("There is no optimizer 'adm'. Did you mean adam? Valid are: sgd, adam.")
    """
    valid = list(valid)
    near = difflib.get_close_matches(name, valid, n=1)
    hint = f" Did you mean {near[0]}?" if near else ""
    return InputError(f"There is no {kind} {name!r}.{hint} Valid are: {listed(valid, like=name, where=where)}.")


__all__ = ["InputError", "MissingFile", "listed", "short_paths", "unknown_name", "writing"]
