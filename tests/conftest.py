"""Eight virtual CPU devices for every test, set before JAX first looks for one, and a fixed seed for hypothesis.

With a compilation cache in the environment (`make test` sets one) a second run of the tests compiles nothing.
"""

import jax
import pytest
from hypothesis import settings

jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)
jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)

settings.register_profile("etude", deadline=None, derandomize=True)
settings.load_profile("etude")


@pytest.fixture
def key():
    """The seed of every test that needs one key."""
    return jax.random.key(0)
