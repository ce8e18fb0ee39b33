"""What the tests of the models share: the folder of golden weights, and programs that are cheap to compile.

Nearly all their time goes into compiling programs that run once, so these take their random numbers from a generator
that needs little code.
"""

import sys
from pathlib import Path

import jax
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "golden"))


@pytest.fixture(autouse=True, scope="module")
def short_generator():
    with jax.default_prng_impl("unsafe_rbg"):
        yield
