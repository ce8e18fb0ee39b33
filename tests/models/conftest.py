"""What the tests of the models share: the folder of golden weights, and programs that are cheap to compile.

Nearly all their time goes into compiling programs that run once, so these are compiled without most optimizations and
with a random generator that takes little code: a third of the time, and the same numbers up to rounding.
"""

import sys
from pathlib import Path

import jax
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "golden"))


@pytest.fixture(autouse=True, scope="module")
def cheap_programs():
    optimized = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", True)
    with jax.default_prng_impl("unsafe_rbg"):
        yield
    jax.config.update("jax_disable_most_optimizations", optimized)
