"""First-order optimizers against their papers' formulas, written out in float64; and the plateau's rule."""

import re
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from etude import errors, schedules, tasks, train

STEPS, RATE, MOMENTUM = 100, 0.02, 0.9


def gradients(params, noise):
    """Of Σ cos(3θ) + θ²/2 + noise·θ, a function with many minima."""
    return {name: -3 * np.sin(3 * p) + p + noise[name] for name, p in params.items()}


@pytest.fixture(scope="module")
def noises():
    rng = np.random.default_rng(0)
    return [{"kernel": rng.normal(size=(3, 2)), "bias": rng.normal(size=2)} for _ in range(STEPS)]


START = {"kernel": np.array([[0.3, -1.0], [2.0, 0.7], [-0.2, 1.4]]), "bias": np.array([0.5, -0.5])}


def sgd(momentum, nesterov):
    def step(p, g, s, t):
        v = momentum * s.get("v", 0.0) + g
        return p - RATE * (g + momentum * v if nesterov else v), {"v": v}

    return step


def adagrad(p, g, s, t):
    total = s.get("total", 0.1) + g**2
    return p - RATE * g / np.sqrt(total + 1e-7), {"total": total}


def rmsprop(p, g, s, t):
    v = 0.99 * s.get("v", 0.0) + 0.01 * g**2
    return p - RATE * g / (np.sqrt(v) + 1e-8), {"v": v}


def adam(nesterov=False):
    def step(p, g, s, t):
        m = MOMENTUM * s.get("m", 0.0) + (1 - MOMENTUM) * g
        v = 0.999 * s.get("v", 0.0) + 0.001 * g**2
        mean, square = m / (1 - MOMENTUM**t), v / (1 - 0.999**t)
        if nesterov:  # Dozat's algorithm with a constant µ: the next step's momentum, this step's gradient
            mean = MOMENTUM * m / (1 - MOMENTUM ** (t + 1)) + (1 - MOMENTUM) * g / (1 - MOMENTUM**t)
        return p - RATE * mean / (np.sqrt(square) + 1e-8), {"m": m, "v": v}

    return step


REFERENCES = {
    "sgd": sgd(0.0, False),
    "momentum": sgd(MOMENTUM, False),
    "nesterov": sgd(MOMENTUM, True),
    "adagrad": adagrad,
    "rmsprop": rmsprop,
    "adam": adam(),
    "nadam": adam(nesterov=True),
    "adamw": adam(),
}


def by_reference(name, noises, weight_decay):
    params, states = dict(START), {key: {} for key in START}
    for t, noise in enumerate(noises, 1):
        found = gradients(params, noise)
        for key, p in params.items():
            decay = weight_decay if key == "kernel" else 0.0
            g = found[key] + (decay * p if name != "adamw" else 0.0)
            after, states[key] = REFERENCES[name](p, g, states[key], t)
            params[key] = after - (RATE * decay * p if name == "adamw" else 0.0)
    return params


def by_etude(name, noises, weight_decay, rate=RATE):
    stacked = jax.tree.map(lambda *x: jnp.stack(x), *noises)

    def run(rate):
        optimizer = train.OPTIMIZERS[name](rate, MOMENTUM, weight_decay=weight_decay, clip_norm=None)

        def step(carry, noise):
            params, state = carry
            found = jax.tree.map(lambda p, n: -3 * jnp.sin(3 * p) + p + n, params, noise)
            updates, state = optimizer.update(found, state, params)
            return (jax.tree.map(jnp.add, params, updates), state), None

        start = jax.tree.map(jnp.asarray, START)
        return jax.lax.scan(step, (start, optimizer.init(start)), stacked)[0][0]

    return jax.jit(run)(rate)


@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
@pytest.mark.parametrize("name", REFERENCES)
def test_a_hundred_steps_are_those_of_the_formula_in_float64(name, weight_decay, noises):
    with jax.enable_x64(True):
        ours = jax.tree.map(np.asarray, by_etude(name, noises, weight_decay))
    for key, expected in by_reference(name, noises, weight_decay).items():
        np.testing.assert_allclose(ours[key], expected, rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("name", REFERENCES)
def test_many_rates_at_once_are_each_alone(name, noises):
    short = [jax.tree.map(np.float32, noise) for noise in noises[:20]]
    rates = jnp.array([0.001, 0.02, 0.1])
    together = jax.vmap(lambda rate: by_etude(name, short, 0.1, rate))(rates)
    for i, rate in enumerate(rates):
        alone = by_etude(name, short, 0.1, rate)
        for key in START:
            np.testing.assert_allclose(together[key][i], alone[key], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (train.adagrad, 0.5 / np.sqrt(0.1 + 0.5**2 + 0.2)),
        (train.rmsprop, 0.5 / (np.sqrt(0.01 * 0.5**2) + 0.2)),
        (train.adam, 0.5 / (0.5 + 0.2)),
        (train.adamw, 0.5 / (0.5 + 0.2)),
    ],
)
def test_epsilon_stands_where_the_formula_has_it(make, expected):
    optimizer, params = make(1.0, eps=0.2), {"kernel": jnp.zeros(())}
    updates, _ = optimizer.update({"kernel": jnp.float32(0.5)}, optimizer.init(params), params)
    assert -float(updates["kernel"]) == pytest.approx(expected, rel=1e-5)


TRACEABLE = {
    train.sgd: ("momentum", "weight_decay"),
    train.adagrad: ("initial_accumulator_value", "eps", "weight_decay"),
    train.rmsprop: ("decay", "eps", "weight_decay"),
    train.adam: ("b1", "b2", "eps", "weight_decay"),
    train.adamw: ("b1", "b2", "eps", "weight_decay"),
    train.newton_cg: ("damping", "tolerance", "weight_decay"),
    train.shampoo: ("momentum", "b2", "eps", "weight_decay"),
}


@pytest.mark.parametrize("make", TRACEABLE)
def test_a_population_may_vary_every_real_hyperparameter(make):
    loss = lambda p: sum((jnp.sin(x) ** 2).sum() for x in jax.tree.leaves(p))

    def run(value):
        values = {name: value * (i + 1) / 10 for i, name in enumerate(TRACEABLE[make])}  # all of them different
        optimizer = optax.with_extra_args_support(make(0.1, **values))

        def step(carry, _):
            params, state = carry
            updates, state = optimizer.update(jax.grad(loss)(params), state, params, value_fn=loss)
            return (jax.tree.map(jnp.add, params, updates), state), None

        start = jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), START)
        return jax.lax.scan(step, (start, optimizer.init(start)), None, 5)[0][0]["kernel"]

    values = jnp.array([0.5, 1.0])
    together = jax.jit(jax.vmap(run))(values)
    assert not np.allclose(together[0], together[1])
    for kernel, value in zip(together, values, strict=True):
        np.testing.assert_allclose(kernel, jax.jit(run)(value), rtol=1e-5, atol=1e-6)


def test_weight_decay_alone_pulls_kernels_towards_zero_and_leaves_biases():
    params = {"dense": {"kernel": jnp.array([[2.0, -3.0]]), "bias": jnp.array([2.0, -3.0])}}
    zeros = jax.tree.map(jnp.zeros_like, params)

    @jax.jit  # one program for all optimizers and for both decays
    def updates():
        found = {}
        for name, make in train.OPTIMIZERS.items():
            for decay in (0.0, 0.5):
                optimizer = optax.with_extra_args_support(make(0.1, 0.0, weight_decay=decay, clip_norm=None))
                state = optimizer.init(params)
                found[name, decay], _ = optimizer.update(zeros, state, params, value_fn=lambda p: jnp.float32(0))
        return found

    for (name, decay), update in updates().items():
        np.testing.assert_array_equal(update["dense"]["bias"], 0, err_msg=name)
        moved = np.asarray(update["dense"]["kernel"]) * np.sign(params["dense"]["kernel"])
        if decay:
            assert (moved < -0.05).all(), (name, moved)
        else:
            np.testing.assert_array_equal(moved, 0, err_msg=name)
        if name in ("sgd", "adamw", "shampoo") and decay:  # decay that no statistics scale: 0.1 · 0.5 · |θ|
            np.testing.assert_allclose(moved, [[-0.1, -0.15]], rtol=1e-5, err_msg=name)


@pytest.mark.parametrize("params", [np.float32(1.0), np.ones((2, 2), np.float32), [np.ones(2, np.float32)]])
@pytest.mark.parametrize("make", [train.sgd, train.shampoo])
def test_parameters_without_names_are_decayed(make, params):
    optimizer = make(0.1, weight_decay=1.0)
    params = jax.tree.map(jnp.asarray, params)
    updates, _ = optimizer.update(jax.tree.map(jnp.zeros_like, params), optimizer.init(params), params)
    np.testing.assert_allclose(jax.tree.leaves(updates)[0], -0.1 * jax.tree.leaves(params)[0], rtol=1e-6)


@pytest.fixture(scope="module")
def problem(tools):
    return tools.Problem()


@pytest.mark.parametrize("name", train.OPTIMIZERS)
def test_every_optimizer_by_name_trains_a_small_network(name, problem, source):
    make = lambda rate, hyper: train.OPTIMIZERS[name](rate, 0.9, weight_decay=hyper["weight_decay"], clip_norm=1.0)
    step = train.make_step(problem.task, make, lambda hyper: lambda step: hyper["learning_rate"])
    hyper = {
        "learning_rate": jnp.float32(0.5 if name in ("newton_cg", "sgd") else 0.02),
        "weight_decay": jnp.float32(1e-4),
    }
    opt_state = make(hyper["learning_rate"], hyper).init(problem.state.params)
    state = replace(problem.state, opt_state=opt_state, hyper=hyper)  # as from create_state, without compiling it
    feed = train.feed(step, source, batch_size=50, seed=0, layout=problem.layout)
    placed, losses = problem.layout.place_state(state), []
    for k in range(0, 40, 2):
        placed, read = feed.advance(placed, k, 2)
        losses += read()["loss"].value.tolist()
    assert np.isfinite(losses).all()
    assert np.mean(losses[-5:]) < 0.8 * np.mean(losses[:2]), losses


def test_clipping_bounds_the_gradient_before_anything_else():
    optimizer, params = train.sgd(1.0, momentum=0.0, clip_norm=1.0), {"kernel": jnp.zeros(2)}
    updates, _ = optimizer.update({"kernel": jnp.array([3.0, 4.0])}, optimizer.init(params), params)
    np.testing.assert_allclose(updates["kernel"], [-0.6, -0.8], rtol=1e-6)
    with pytest.raises(ValueError, match="clip_norm is 0"):
        train.adam(0.1, clip_norm=0)


def scales(values, **options):
    """The rate's factor after each value, averaged over one step."""
    optimizer = train.reduce_on_plateau(train.sgd(1.0, momentum=0.0), **options)
    params = {"kernel": jnp.zeros(())}

    def step(state, value):
        updates, state = optimizer.update({"kernel": jnp.ones(())}, state, params, value=value)
        return state, -updates["kernel"]

    return jax.lax.scan(step, optimizer.init(params), jnp.array(values, jnp.float32))[1].tolist()


def test_the_rate_falls_after_exactly_patience_values_without_improvement():
    found = scales([3, 2, 2, 2, 2, 2, 2, 1, 1], factor=0.5, patience=2)
    assert found == [1, 1, 1, 0.5, 0.5, 0.25, 0.25, 0.25, 0.25]


def test_the_rate_never_falls_below_its_least_scale_and_waits_while_it_cools_down():
    assert scales([1] * 6, factor=0.1, patience=1, min_scale=0.05)[-1] == pytest.approx(0.05)
    assert scales([1, 1, 1, 1, 1], factor=0.5, patience=1, cooldown=2) == [1, 0.5, 0.5, 0.5, 0.25]


def test_what_counts_as_an_improvement_does_not_change_if_a_constant_is_added():
    losses = np.r_[3, 1, 1 - 0.9e-4 * 2, 1 - 1.1e-4 * 2, np.linspace(0.9, 0.8999, 5), 0.8, np.full(4, 0.8)]
    plain = scales(losses, factor=0.5, patience=1)
    assert plain[:4] == [1, 1, 0.5, 0.5]  # the fall so far is 2: below a ten-thousandth of it, and above
    for constant in (-1, -3, -0.8, 10):
        assert scales(losses + constant, factor=0.5, patience=1) == plain
    assert scales([-1] * 5, factor=0.5, patience=2) == [1, 1, 0.5, 0.5, 0.25]
    falling = [1 - 0.01 * i for i in range(200)]  # through 0
    assert scales(falling, factor=0.5, patience=1) == [1] * 200


def test_several_steps_make_one_value():
    assert scales([3, 1, 2, 2, 2, 2], factor=0.5, patience=1, accumulation_size=2)[-1] == 0.25


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"factor": 1.0}, "factor is 1.0"),
        ({"factor": 0.0}, "factor is 0.0"),
        ({"patience": 0}, "patience is 0"),
        ({"accumulation_size": 0}, "accumulation_size is 0"),
        ({"cooldown": -1}, "cooldown is -1"),
        ({"min_scale": 2.0}, "min_scale is 2.0"),
    ],
)
def test_a_plateau_out_of_range_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        train.reduce_on_plateau(train.sgd(0.1), **options)


def test_a_plateau_without_a_metric_says_so():
    optimizer = train.reduce_on_plateau(train.sgd(0.1))
    params = {"kernel": jnp.zeros(1)}
    with pytest.raises(ValueError, match="A plateau needs a metric"):
        optimizer.update(params, optimizer.init(params), params)


def inject(learning_rate, hyper):
    return optax.inject_hyperparams(optax.sgd)(learning_rate=learning_rate)


RATED = {
    **{name: lambda rate, hyper, name=name: train.OPTIMIZERS[name](rate, 0.9) for name in train.OPTIMIZERS},
    **{
        f"optax:{name}": lambda rate, hyper, name=name: train.optimizer_named(f"optax:{name}")(
            rate, hyper["momentum"], weight_decay=hyper["weight_decay"], clip_norm=1.0
        )
        for name in train.optax_optimizers()
    },
    "inject_hyperparams": inject,
}


# optax's ADOPT only measures the gradient in its first step, and its Rprop applies the update of the step before.
LATE = {"optax:adopt": 2, "optax:rprop": 2}  # steps until the first that moves


@pytest.fixture(scope="module")
def line():
    """A linear model with one batch, as a task."""
    x = jax.random.normal(jax.random.key(0), (16, 6))

    def init(key):
        return {"params": {"kernel": 0.3 * jax.random.normal(key, (6, 4)), "bias": jnp.zeros(4)}}

    def loss(params, model_state, batch, key, train, hyper):
        errors = ((batch["x"] @ params["kernel"] + params["bias"] - batch["x"][:, :4]) ** 2).mean(1)
        return tasks.Mean.of(errors, jnp.ones(16)), tasks.Aux(model_state, {})

    return tasks.Task(init, loss), {"x": x, "index": jnp.arange(16)}


@pytest.mark.parametrize("name", RATED)
def test_every_optimizer_moves_in_its_first_step_of_a_warmup_and_stays_finite(name, line):
    task, batch = line
    hyper = {"learning_rate": 0.1, "momentum": 0.9, "weight_decay": 1e-4}

    def warm(hyper):
        return schedules.warmup_cosine(hyper["learning_rate"], 10, 20)

    step = train.make_step(task, RATED[name], warm)

    @jax.jit
    def run(key):
        state = train.create_state(task, RATED[name], key, hyper, make_schedule=warm)
        after = step(state, batch)
        if name in LATE:
            after = step(after[0], batch)[0], after[1]
        return state, after, jax.lax.fori_loop(LATE.get(name, 1), 20, lambda _, state: step(state, batch)[0], after[0])

    state, (first, metrics), last = run(jax.random.key(1))
    moved = jax.tree.map(lambda a, b: float(jnp.abs(a - b).max()), first.params, state.params)
    assert max(jax.tree.leaves(moved)) > 0
    assert metrics["learning_rate"].value == pytest.approx(0.01)
    assert all(bool(jnp.isfinite(x).all()) for x in jax.tree.leaves(last.params))


def test_an_optimizer_that_keeps_its_rate_follows_the_schedule(line):
    task, batch = line
    hyper = {"learning_rate": 0.1}

    def warm(hyper):
        return schedules.warmup(schedules.constant(hyper["learning_rate"]), 4)

    def run(make_optimizer):
        state = train.create_state(task, make_optimizer, jax.random.key(0), hyper, make_schedule=warm)
        step = jax.jit(train.make_step(task, make_optimizer, warm))
        for _ in range(6):
            state, _ = step(state, batch)
        return state.params

    plain = run(lambda rate, hyper: optax.sgd(rate))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), run(inject), plain)
    nested = run(lambda rate, hyper: optax.chain(optax.clip(10.0), inject(rate, hyper)))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), nested, plain)


def test_the_logged_rate_has_the_factor_of_the_plateau(line):
    task, batch = line

    def make_optimizer(rate, hyper):
        return train.reduce_on_plateau(optax.chain(optax.sgd(rate), optax.set_to_zero()), factor=0.5, patience=2)

    def constant(hyper):
        return schedules.constant(hyper["learning_rate"])

    state = train.create_state(task, make_optimizer, jax.random.key(0), {"learning_rate": 0.1})
    step, logged = jax.jit(train.make_step(task, make_optimizer, constant)), []
    for _ in range(5):
        state, metrics = step(state, batch)
        logged.append(float(metrics["learning_rate"].value))
    assert logged == pytest.approx([0.1, 0.1, 0.05, 0.05, 0.025])


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("adm", "There is no optimizer 'adm'. Did you mean adam?"),
        ("optax:lionn", "no optimizer of optax 'lionn'. Did you mean lion?"),
        ("optax:schedule_free_sgd", "can't be used here"),
        ("optax:", "no optimizer of optax ''"),
        ("optax:scale_by_adam", "no optimizer of optax"),
    ],
)
def test_a_name_that_is_in_no_table_is_refused(name, message):
    with pytest.raises(errors.InputError, match=re.escape(message)):
        train.optimizer_named(name)


def test_an_optimizer_of_optax_gets_the_options_that_all_have():
    params = {"kernel": jnp.array([2.0]), "bias": jnp.array([2.0])}
    for name, expected in (("lion", -0.1 * 0.5 * 2), ("sign_sgd", -0.1)):
        optimizer = train.optimizer_named(f"optax:{name}")(0.1, 0.0, weight_decay=0.5, clip_norm=1.0)
        updates, _ = optimizer.update(jax.tree.map(jnp.zeros_like, params), optimizer.init(params), params)
        np.testing.assert_allclose(updates["kernel"], expected, rtol=1e-6, err_msg=name)
        np.testing.assert_array_equal(updates["bias"], 0, err_msg=name)
