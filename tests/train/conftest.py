"""A small problem with everything that can go wrong: BatchNorm, augmentation, 8-bit images, a ragged last batch."""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from etude import data, schedules, train
from etude.data import augment


class SmallNet(nn.Module):
    axis_name: str | None = None

    @nn.compact
    def __call__(self, x, *, train=False):
        x = nn.Conv(16, (3, 3), use_bias=False)(x)
        x = nn.BatchNorm(use_running_average=not train, axis_name=self.axis_name)(x)
        x = nn.Dense(8)(nn.relu(x).mean((1, 2)))
        return nn.Dense(4)(nn.relu(x))


class Records(list):
    """Examples of a class-dependent brightness, so that there is something to learn."""

    def __init__(self, length, seed=0):
        rng = np.random.default_rng(seed)
        for _ in range(length):
            label = rng.integers(4)
            image = np.clip(rng.normal(60 * label, 40, (8, 8, 1)), 0, 255).astype(np.uint8)
            self.append({"image": image, "label": np.int32(label)})


def make_source(length=100, split="train", seed=0):
    spec = {"image": jax.ShapeDtypeStruct((8, 8, 1), np.uint8), "label": jax.ShapeDtypeStruct((), np.int32)}
    return data.Source("made", split, Records(length, seed), spec, ("a", "b", "c", "d"))


def make_optimizer(learning_rate, hyper):
    return train.sgd(learning_rate, weight_decay=hyper["weight_decay"])


def constant_schedule(hyper):
    return schedules.constant(hyper["learning_rate"])


class Problem:
    """The pieces of a run under a layout."""

    def __init__(self, parallel="jit", *, learning_rate=0.05, ema=False, augmented=True, **options):
        self.where = train.layout(parallel)
        preprocess = partial(augment.normalise, mean=jnp.array([0.4]), std=jnp.array([0.3]))
        self.task = train.classification(SmallNet(self.where.axis_name), (8, 8, 1), preprocess=preprocess)
        shift = augment.per_example(partial(augment.random_shift, padding=1))
        self.step = train.make_step(
            self.task,
            make_optimizer,
            constant_schedule,
            augment=(lambda key, batch, hyper: shift(key, batch)) if augmented else None,
            axis_name=self.where.axis_name,
            gather=self.where.gather,
            ema_decay=0.9 if ema else None,
            **options,
        )
        hyper = {"learning_rate": learning_rate, "weight_decay": 1e-3}
        self.state = jax.jit(partial(train.create_state, self.task, make_optimizer, ema=ema))(jax.random.key(0), hyper)

    def feed(self, source, *, batch_size=16, seed=0, resident=None):
        return train.feed(self.step, source, batch_size=batch_size, seed=seed, where=self.where, resident=resident)

    def run(self, source, steps, *, resident=True, count=None):
        """Parameters after some steps, `count` of them a call."""
        feed = self.feed(source, resident=resident)
        state, done = self.where.place_state(self.state), 0
        while done < steps:
            most = min(
                count or feed.most,
                feed.most,
                steps - done,
                feed.steps_per_epoch - done % feed.steps_per_epoch,
            )
            state, _ = feed.advance(state, done, most)
            done += most
        return self.where.logical(state)


def relative_difference(a, b):
    """The largest ‖a − b‖ / ‖b‖ over the arrays of two trees."""
    pairs = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    norms = [(np.linalg.norm(np.subtract(x, y)), np.linalg.norm(np.asarray(y))) for x, y in pairs]
    return max(difference / max(size, 1e-12) for difference, size in norms)


def identical(a, b):
    """Whether two trees are equal to the bit, wherever their arrays live."""

    def host(x):
        is_key = jnp.issubdtype(getattr(x, "dtype", np.float32), jax.dtypes.prng_key)
        return np.asarray(jax.random.key_data(x) if is_key else x)

    return all(jax.tree.leaves(jax.tree.map(lambda x, y: np.array_equal(host(x), host(y)), a, b)))


@pytest.fixture
def source():
    return make_source()


@pytest.fixture(scope="session")
def tools():
    """The helpers above, for tests that need more than one problem."""

    class Tools:
        Problem = Problem
        make_source = staticmethod(make_source)
        make_optimizer = staticmethod(make_optimizer)
        relative_difference = staticmethod(relative_difference)
        identical = staticmethod(identical)

    return Tools
