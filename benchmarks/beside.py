"""A peer in a process of its own, and how long a call takes: for benchmarks that let both take turns."""

from __future__ import annotations

import json
import subprocess
import time
from pathlib import Path

import jax


class Peer:
    """A script of benchmarks/peers, run by a Python that has what it needs."""

    def __init__(self, python: str, script: str):
        path = Path(__file__).parent / "peers" / script
        self._process = subprocess.Popen([python, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def ask(self, told) -> dict[str, float]:
        """Tells it a line of JSON, and waits for the line that answers."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(json.dumps(told), file=self._process.stdin, flush=True)
        return json.loads(self._process.stdout.readline())


def seconds_of(calls: int, run, *arguments) -> float:
    """Of one call, the mean of so many; each waits for the last."""
    began = time.perf_counter()
    for _ in range(calls):
        jax.block_until_ready(run(*arguments))
    return (time.perf_counter() - began) / calls
