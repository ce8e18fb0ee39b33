"""What is wrong with weights that were saved around the network, and the line that saves them as they are wanted.

Training scripts save more than a state dict: names begin with "module." (DataParallel), "_orig_mod." (torch.compile)
or the name of a field, and a checkpoint holds the state dict under "state_dict", "model" or another key. Nothing here
executes a pickle: its strings are read, and nothing else.
"""

from __future__ import annotations

import io
import pickletools
import zipfile
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

PICKLES = (b"PK\x03\x04", b"\x80")  # torch.save's zip archive, and the bare pickles before it
KEYS = (
    "state_dict",
    "model_state_dict",
    "model_state",
    "model",
    "net",
    "network",
    "module",
    "ema_state_dict",
    "params",
)
PREFIXES = ("module._orig_mod.", "_orig_mod.module.", "module.", "_orig_mod.", "model.", "backbone.", "net.")
STRINGS = ("SHORT_BINUNICODE", "BINUNICODE", "UNICODE", "SHORT_BINSTRING", "BINSTRING", "STRING")  # of Python 3, of 2
MOST_BYTES = 2**24  # of a pickle that is searched for strings; one of a large network has less than 1 MB
SHARE = 0.5  # of the wanted names that a prefix must lead to


def cure_of_names(given: Iterable[str], wanted: Iterable[str]) -> str:
    """What to do about names that all would fit without their beginning; "" if that is not what is wrong.

    >>> cure_of_names(["module.fc.weight", "module.fc.bias"], ["fc.weight", "fc.bias"])[:56]
    'The names of these weights begin with "module.", where t'
    """
    given, wanted = list(given), set(wanted)
    if len(wanted.intersection(given)) >= SHARE * len(wanted):
        return ""
    beginnings: Counter[str] = Counter()
    for name in given:
        dots = [i + 1 for i, letter in enumerate(name) if letter == "."]
        beginnings.update(name[:dot] for dot in dots if name[dot:] in wanted)
    for prefix, count in beginnings.most_common(1):
        if count >= SHARE * len(wanted):
            return (
                f'The names of these weights begin with "{prefix}", where the network\'s do not. Save them without it: '
                f'save_file({{k.removeprefix("{prefix}"): v for k, v in load_file("in.safetensors").items() if '
                f'k.startswith("{prefix}")}}, "out.safetensors"), both from safetensors.numpy.'
            )
    return ""


def cure_of_pickle(path: Path) -> str:
    """How the weights in a pickle of PyTorch are saved as safetensors; "" for a file that is none."""
    try:
        with path.open("rb") as file:
            if not file.read(4).startswith(PICKLES):
                return ""
        strings = _strings(path)
    except Exception:  # whatever a damaged archive or pickle raises: the general line will do
        strings = []
    key = next((name for name in strings if name in KEYS), None)
    names = [name for name in strings if "." in name]
    prefix = next(
        (known for known in PREFIXES if names and sum(n.startswith(known) for n in names) > len(names) / 2), ""
    )
    state = f'torch.load("{path.name}", map_location="cpu", weights_only=True)' + (f'["{key}"]' if key else "")
    renamed = f'k.removeprefix("{prefix}")' if prefix else "k"
    return (
        " It looks like a pickle of PyTorch, which could run any code, so it is not opened. With torch installed this "
        f"line converts it: import torch, safetensors.torch; safetensors.torch.save_file({{{renamed}: v.contiguous() "
        f'for k, v in {state}.items()}}, "{path.with_suffix(".safetensors").name}")'
    )


def _strings(path: Path) -> list[str]:
    """The first strings of a pickle, or of the one in torch.save's archive, in their order."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            name = next(name for name in archive.namelist() if name.endswith("data.pkl"))
            with archive.open(name) as file:
                content = file.read(MOST_BYTES)
    else:
        with path.open("rb") as file:
            content = file.read(MOST_BYTES)
    found, stream = [], io.BytesIO(content)
    try:
        while stream.tell() < len(content):  # before its archives, torch.save wrote several pickles one after another
            for operation, argument, _ in pickletools.genops(stream):
                if operation.name in STRINGS and isinstance(argument, str):
                    found.append(argument)
    except ValueError:  # the pickle ends early, is longer than what was read, or is followed by the tensors' bytes
        pass
    return found
