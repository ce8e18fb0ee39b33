"""Eight virtual CPU devices for every test, set before JAX first looks for one, and a fixed seed for hypothesis.

Most of the time of the tests goes into compiling programs that run once. So they, and the processes that they start,
compile with few optimizations and without XLA's fusion emitters: a third of the time, and the same numbers up to
rounding. `make test-all` compiles as users do. With a compilation cache in the environment (`make test` sets one) a
second run of the tests compiles nothing.

Here too is what the tests of `tasks` and of `train` share: `tools`, with a small problem that has everything that can
go wrong (BatchNorm, augmentation, 8-bit images, a ragged last batch), and ways to run and compare.
"""

import os
from functools import cache, partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from etude import data, schedules, tasks, train
from etude.data import augment
from hypothesis import settings

if os.environ.get("JAX_DISABLE_MOST_OPTIMIZATIONS", "1") == "1":
    jax.config.update("jax_disable_most_optimizations", True)
    os.environ["JAX_DISABLE_MOST_OPTIMIZATIONS"] = "1"
    if jax.__version_info__ < (0, 11):  # XLA ends a process that sets a flag it does not know
        flags = "--xla_cpu_use_fusion_emitters=false --xla_cpu_parallel_codegen_split_count=1"
        os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {flags} --xla_backend_optimization_level=1"
    jax.config.update("jax_traceback_in_locations_limit", 0)
jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)

settings.register_profile("etude", deadline=None, derandomize=True)
settings.load_profile("etude")


@pytest.fixture(autouse=True, scope="module")
def programs_of_one_file_at_a_time():
    """Compiled programs stay in memory until they are cleared: gigabytes by the end of the suite."""
    yield
    jax.clear_caches()


@pytest.fixture
def key():
    """The seed of every test that needs one key."""
    return jax.random.key(0)


class SmallNet(nn.Module):
    axis_name: str | None = None

    @nn.compact
    def __call__(self, x, *, train=False):
        x = nn.Conv(8, (3, 3), use_bias=False)(x)
        x = nn.BatchNorm(use_running_average=not train, axis_name=self.axis_name)(x)
        x = nn.Dense(8)(nn.relu(x).mean((1, 2)))
        return nn.Dense(4)(nn.relu(x))


@cache
def make_source(length=100, split="train", seed=0):
    """Examples of a class-dependent brightness, so that there is something to learn."""
    rng = np.random.default_rng(seed)
    records = []
    for _ in range(length):
        label = rng.integers(4)
        image = np.clip(rng.normal(60 * label, 40, (8, 8, 1)), 0, 255).astype(np.uint8)
        records.append({"image": image, "label": np.int32(label)})
    return data.Source("made", split, records, data.image_spec(8, 8, 1), ("a", "b", "c", "d"))


def make_optimizer(learning_rate, hyper):
    return train.sgd(learning_rate, weight_decay=hyper["weight_decay"])


def constant_schedule(hyper):
    return schedules.constant(hyper["learning_rate"])


HYPER = {"learning_rate": 0.05, "weight_decay": 1e-3}
MEMBERS = train.Members(
    np.array([7, 11, 7]), {"learning_rate": np.array([0.01, 0.1, 0.3]), "weight_decay": np.array([1e-3, 1e-3, 0.0])}
)
PLACEMENTS = {
    "map": train.Placement(1, 1),
    "vmap": train.Placement(1, 3),
    "chunked, with a ragged last chunk": train.Placement(1, 2),
    "devices": train.Placement(3, 1),
    "devices, with a copy that fills up the last one": train.Placement(2, 1),
    "vmap on each device": train.Placement(2, 2),
}


@cache
def make_layout(name):
    """The layout of one state, or that of the population `MEMBERS`, of this name."""
    if name in train.LAYOUTS:
        return train.make_layout(name)
    return train.population_layout(PLACEMENTS[name], len(MEMBERS))


class Problem:
    """The pieces of a run, or of the population `MEMBERS`, under a layout. Feeds and evaluators are compiled once."""

    def __init__(self, layout="jit", *, task=None, ema=False, augmented=True, **options):
        self.layout = make_layout(layout)
        preprocess = partial(augment.normalize, mean=jnp.array([0.4]), std=jnp.array([0.3]))
        self.task = task or tasks.classification(SmallNet(self.layout.axis_name), (8, 8, 1), preprocess=preprocess)
        shift = augment.per_example(partial(augment.random_shift, padding=1))
        self.step = train.make_step(
            self.task,
            make_optimizer,
            constant_schedule,
            augment=(lambda key, batch, hyper: shift(key, batch)) if augmented else None,
            axis_name=self.layout.axis_name,
            gather=self.layout.gather,
            ema_decay=0.9 if ema else None,
            **options,
        )
        create = train.compile_create(self.task, make_optimizer, ema=ema)
        self.create = lambda seed, hyper: create(jax.random.key(int(seed)), hyper)
        self.seed = MEMBERS.seeds if self.layout.shape else 0
        self.state = (
            train.create_population(self.task, make_optimizer, MEMBERS, ema=ema)
            if self.layout.shape
            else self.create(0, HYPER)
        )
        self.feed = cache(self._feed)
        self.evaluate = cache(partial(train.evaluator, tasks.evaluation(self.task), layout=self.layout))

    def _feed(self, source, *, batch_size=16, seed=None, resident=True, drop_remainder=True):
        return train.feed(
            self.step,
            source,
            batch_size=batch_size,
            seed=self.seed if seed is None else seed,
            layout=self.layout,
            resident=resident,
            drop_remainder=drop_remainder,
        )

    def steps(self, feed, steps, *, count=None, state=None):
        """(placed state after some steps, `count` of them a call; the metrics of each)"""
        placed = self.layout.place_state(self.state if state is None else state)
        done, rows = 0, []
        while done < steps:
            rest_of_epoch = feed.steps_per_epoch - done % feed.steps_per_epoch
            most = min(count or feed.most, feed.most, steps - done, rest_of_epoch)
            placed, read = feed.advance(placed, done, most)
            rows.append(read())
            done += most
        return placed, jax.tree.map(lambda *parts: np.concatenate(parts), *rows)

    def run(self, source, steps, *, count=None, state=None, **options):
        """(state after some steps, {metric: values [steps, *layout.shape]})"""
        placed, rows = self.steps(self.feed(source, **options), steps, count=count, state=state)
        return self.layout.state(placed), {name: mean.value for name, mean in rows.items()}

    def alone(self, source, steps, i, **options):
        """The run of one of the `MEMBERS`, if this is a problem of one state."""
        hyper = {name: values[i] for name, values in MEMBERS.hyper.items()}
        state = self.create(MEMBERS.seeds[i], hyper)
        return self.run(source, steps, state=state, seed=int(MEMBERS.seeds[i]), **options)


def relative_difference(a, b):
    """The largest ‖a − b‖ / ‖b‖ over the arrays of two trees."""
    pairs = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    norms = [(np.linalg.norm(np.subtract(x, y)), np.linalg.norm(np.asarray(y))) for x, y in pairs]
    return max(difference / max(size, 1e-12) for difference, size in norms)


def identical(a, b):
    """Whether two trees are equal to the bit, NaN being equal to NaN, wherever their arrays live."""

    def host(x):
        is_key = jnp.issubdtype(getattr(x, "dtype", np.float32), jax.dtypes.prng_key)
        return np.asarray(jax.random.key_data(x) if is_key else x)

    def same(x, y):
        x, y = host(x), host(y)
        return x.shape == y.shape and x.dtype == y.dtype and x.tobytes() == y.tobytes()

    return all(jax.tree.leaves(jax.tree.map(same, a, b)))


def per_example(task, params, model_state, batch, key, train, hyper):
    """The loss and the metrics of each example, {name: [batch]}: the means in which it alone has a weight."""

    def of_one(weight):
        loss, aux = task.loss(params, model_state, {**batch, "weight": weight}, key, train, hyper)
        return {"loss": loss.value, **{name: mean.value for name, mean in aux.metrics.items()}}

    return jax.jit(jax.vmap(of_one))(jnp.eye(len(batch["index"])))


@pytest.fixture
def source():
    return make_source()


class Tools:
    """What is above, for the tests."""

    HYPER = HYPER
    MEMBERS = MEMBERS
    PLACEMENTS = PLACEMENTS
    Problem = Problem
    SmallNet = SmallNet
    problem = staticmethod(cache(Problem))
    make_layout = staticmethod(make_layout)
    make_source = staticmethod(make_source)
    make_optimizer = staticmethod(make_optimizer)
    constant_schedule = staticmethod(constant_schedule)
    relative_difference = staticmethod(relative_difference)
    identical = staticmethod(identical)
    per_example = staticmethod(per_example)


@pytest.fixture(scope="session")
def tools():
    return Tools
