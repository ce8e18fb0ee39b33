"""Each schedule equals its closed form in float64 under every transformation, and equals optax where optax has it.

`CASES` has one row per schedule: how it is made, its formula as in the papers, and the values of each parameter.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from etude import schedules
from hypothesis import given, settings
from hypothesis import strategies as st

ONE_ULP = 2e-7  # of float32, rounded up
LONG = 10**7  # steps; float32 counts to 1.6e7


class Parameter(NamedTuple):
    drawn: st.SearchStrategy
    population: tuple  # three values; lengths are ints


class Case(NamedTuple):
    make: Callable[..., optax.Schedule]
    closed_form: Callable[..., np.ndarray]  # (steps in float64, **parameters)
    parameters: dict[str, Parameter]

    @property
    def example(self):
        return {name: parameter.population[1] for name, parameter in self.parameters.items()}


# These ranges keep every combination valid: each end is below each peak, each warm-up shorter than each total.
# Floats have 32 bits, so that concrete and traced parameters have the same closed form.
PEAK = Parameter(st.floats(0.5, 10, width=32), (0.6, 1.0, 8.0))
END = Parameter(st.floats(0, 0.25, width=32), (0.0, 0.01, 0.2))
FACTOR = Parameter(st.floats(1 / 16, 1023 / 1024, width=32), (0.1, 0.5, 0.95))
LENGTH = Parameter(st.integers(1, 10**6), (7, 41, 83))
SHIFT = Parameter(st.floats(1 / 16, 2**17, width=32), (0.5, 10.0, 1e4))
WARMUP = Parameter(st.integers(0, 5000), (0, 5, 20))
TOTAL = Parameter(st.integers(5001, 10**6), (41, 83, 200))


def fall(t, total):
    return (1 + np.cos(np.pi * np.clip(t / total, 0, 1))) / 2


def cosine(t, init_value, total_steps, end_value):
    return end_value + (init_value - end_value) * fall(t, total_steps)


def warmup_cosine(t, peak_value, warmup_steps, total_steps, end_value):
    rising = peak_value * (t + 1) / max(warmup_steps, 1)
    return np.where(
        t < warmup_steps, rising, cosine(t - warmup_steps, peak_value, total_steps - warmup_steps, end_value)
    )


def restarts(t, peak_value, first_steps, multiplier, end_value):
    """Finds the cycle of each step by counting, without the closed form."""

    def one(t):
        length = first_steps
        if multiplier == 1:
            t = t % length
        while t >= length:
            t, length = t - length, length * multiplier
        return cosine(t, peak_value, length, end_value)

    return np.vectorize(one)(t)


def triangle(t, half_period):
    """(cycle, height) as in the paper's listing, where cycles count from 1."""
    cycle = np.floor(1 + t / (2 * half_period))
    return cycle, np.maximum(0, 1 - np.abs(t / half_period - 2 * cycle + 1))


def one_cycle(t, peak_value, warmup_steps, total_steps, start_divisor, end_divisor):
    start = peak_value / start_divisor
    rising = peak_value + (start - peak_value) * fall(t, warmup_steps)
    falling = cosine(t - warmup_steps, peak_value, total_steps - warmup_steps, start / end_divisor)
    return np.where(t < warmup_steps, rising, falling)


CASES = {
    "constant": Case(schedules.constant, lambda t, value: np.full(t.shape, value), {"value": PEAK}),
    "step_decay": Case(
        schedules.step_decay,
        lambda t, init_value, decay_rate, decay_steps: init_value * decay_rate ** np.floor(t / decay_steps),
        {"init_value": PEAK, "decay_rate": FACTOR, "decay_steps": LENGTH},
    ),
    "milestone_decay": Case(
        lambda init_value, decay_rate, first, second: schedules.milestone_decay(
            init_value, decay_rate, [first, second]
        ),
        lambda t, init_value, decay_rate, first, second: (
            init_value * np.where(t < first, 1, np.where(t < second, decay_rate, decay_rate**2))
        ),
        {
            "init_value": PEAK,
            "decay_rate": FACTOR,
            "first": Parameter(st.integers(1, 5000), (1, 5, 20)),
            "second": TOTAL,
        },
    ),
    "exponential_decay": Case(
        schedules.exponential_decay,
        lambda t, init_value, decay_rate, decay_steps: init_value * decay_rate ** (t / decay_steps),
        {"init_value": PEAK, "decay_rate": FACTOR, "decay_steps": LENGTH},
    ),
    "linear_decay": Case(
        schedules.linear_decay,
        lambda t, init_value, total_steps, end_value: (
            init_value + (end_value - init_value) * np.minimum(t / total_steps, 1)
        ),
        {"init_value": PEAK, "total_steps": LENGTH, "end_value": END},
    ),
    "cosine_decay": Case(schedules.cosine_decay, cosine, {"init_value": PEAK, "total_steps": LENGTH, "end_value": END}),
    "inverse_time": Case(
        schedules.inverse_time,
        lambda t, init_value, shift: init_value * shift / (t + shift),
        {"init_value": PEAK, "shift": SHIFT},
    ),
    "inverse_sqrt": Case(
        schedules.inverse_sqrt,
        lambda t, init_value, shift: init_value * np.sqrt(shift / (t + shift)),
        {"init_value": PEAK, "shift": SHIFT},
    ),
    "warmup_cosine": Case(
        schedules.warmup_cosine,
        warmup_cosine,
        {"peak_value": PEAK, "warmup_steps": WARMUP, "total_steps": TOTAL, "end_value": END},
    ),
    "cosine_restarts": Case(
        schedules.cosine_restarts,
        restarts,
        {
            "peak_value": PEAK,
            "first_steps": LENGTH,
            "multiplier": Parameter(st.integers(1, 5), (1, 2, 3)),
            "end_value": END,
        },
    ),
    "triangular": Case(
        schedules.triangular,
        lambda t, min_value, max_value, half_period: min_value + (max_value - min_value) * triangle(t, half_period)[1],
        {"min_value": END, "max_value": PEAK, "half_period": LENGTH},
    ),
    "triangular2": Case(
        schedules.triangular2,
        lambda t, min_value, max_value, half_period: (
            min_value + (max_value - min_value) * triangle(t, half_period)[1] * 0.5 ** (triangle(t, half_period)[0] - 1)
        ),
        {"min_value": END, "max_value": PEAK, "half_period": LENGTH},
    ),
    "one_cycle": Case(
        schedules.one_cycle,
        one_cycle,
        {
            "peak_value": PEAK,
            "warmup_steps": Parameter(st.integers(1, 5000), (2, 5, 20)),
            "total_steps": TOTAL,
            "start_divisor": Parameter(st.floats(1, 100, width=32), (1.0, 25.0, 50.0)),
            "end_divisor": Parameter(st.floats(1, 2**14, width=32), (1.0, 10.0, 1e4)),
        },
    ),
    "exponential_sweep": Case(
        schedules.exponential_sweep,
        lambda t, min_value, max_value, num_steps: (
            min_value * (max_value / min_value) ** np.clip(t / (num_steps - 1), 0, 1)
        ),
        {
            "min_value": Parameter(st.floats(2**-20, 2**-4, width=32), (1e-5, 1e-3, 1e-2)),
            "max_value": PEAK,
            "num_steps": Parameter(st.integers(2, 10**5), (41, 83, 200)),
        },
    ),
}
every_schedule = pytest.mark.parametrize("name", CASES)


@st.composite
def parameters_and_steps(draw, case):
    """Valid parameters, and steps of every magnitude as well as around multiples of each length."""
    parameters = {name: draw(parameter.drawn) for name, parameter in case.parameters.items()}
    lengths = [parameters[name] for name in lengths_of(case)]
    steps = draw(st.lists(st.one_of(*(st.integers(0, 10**k) for k in (1, 3, 5, 7))), min_size=12, max_size=12))
    steps += [length * draw(st.integers(1, 9)) + off for length in lengths for off in (-1, 0, 1)]
    return parameters, np.minimum(np.array(steps), LONG)


def lengths_of(case):
    return [name for name, parameter in case.parameters.items() if isinstance(parameter.population[0], int)]


def traced(case):
    return jax.jit(lambda parameters, steps: case.make(**parameters)(steps))


def assert_close_to_closed_form(rates, case, parameters, steps):
    # Rates of 1e-14 of the peak are lost to float64 itself, in 1 + cos.
    expected = case.closed_form(steps.astype(np.float64), **parameters)
    np.testing.assert_allclose(rates, expected, rtol=1e-5, atol=1e-14)


@every_schedule
def test_a_schedule_equals_its_closed_form_in_float64(name):
    case = CASES[name]

    @settings(max_examples=30)
    @given(drawn=parameters_and_steps(case))
    def holds(drawn):
        parameters, steps = drawn
        assert_close_to_closed_form(case.make(**parameters)(steps), case, parameters, steps)

    holds()


@pytest.mark.parametrize("length_type", [jnp.int32, jnp.float32])
@every_schedule
def test_a_schedule_of_traced_parameters_equals_its_closed_form(name, length_type):
    case = CASES[name]
    compiled = traced(case)

    @settings(max_examples=30)
    @given(drawn=parameters_and_steps(case))
    def holds(drawn):
        parameters, steps = drawn
        arrays = {
            k: jnp.asarray(v, length_type if k in lengths_of(case) else jnp.float32) for k, v in parameters.items()
        }
        assert_close_to_closed_form(compiled(arrays, steps), case, parameters, steps)

    holds()


@every_schedule
def test_a_schedule_can_be_made_of_numbers_inside_a_compiled_step(name):
    case = CASES[name]
    steps = np.arange(300)
    rates = jax.jit(lambda steps: case.make(**case.example)(steps))(steps)
    assert_close_to_closed_form(rates, case, case.example, steps)


@every_schedule
def test_a_population_that_varies_one_parameter_equals_each_member_alone(name):
    case, steps = CASES[name], np.arange(300)
    populations = {parameter: case.parameters[parameter].population for parameter in case.parameters}

    def schedule(parameter, value):
        return case.make(**{**case.example, parameter: value})(steps)

    @jax.jit  # one program for all parameters; in each of its parts the other parameters are concrete
    def together(populations):
        return {name: jax.vmap(partial(schedule, name))(values) for name, values in populations.items()}

    for parameter, rows in together(
        jax.tree.map(jnp.array, populations, is_leaf=lambda x: isinstance(x, tuple))
    ).items():
        for value, row in zip(populations[parameter], rows, strict=True):
            expected = schedule(parameter, value)
            np.testing.assert_allclose(row, expected, rtol=1e-5, atol=1e-12, err_msg=f"{parameter} = {value}")


@every_schedule
def test_gradients_in_the_parameters_equal_those_of_the_closed_form(name):
    case = CASES[name]
    # None is a multiple of a length, where cyclic schedules and stairs jump.
    steps = np.array([1, 3, 17, 30, 50, 71, 100])
    gradients = jax.jit(jax.jacrev(lambda parameters: case.make(**parameters)(steps)))(
        {k: jnp.float32(v) for k, v in case.example.items()}
    )
    for parameter, value in case.example.items():
        width = 1e-6 * value
        above, below = (
            case.closed_form(steps.astype(np.float64), **{**case.example, parameter: value + shift})
            for shift in (width, -width)
        )
        expected = (above - below) / (2 * width)
        # Where a gradient vanishes, terms of the largest one's size may cancel.
        atol = 1e-7 + 2e-6 * np.abs(expected).max()
        np.testing.assert_allclose(gradients[parameter], expected, rtol=1e-4, atol=atol, err_msg=parameter)


@pytest.mark.parametrize("step", [5, 5.0, jnp.uint32(5), np.ones((2, 3), np.int64)])
@every_schedule
def test_rates_are_float32_and_have_the_shape_of_the_steps(name, step):
    rates = jax.eval_shape(lambda: CASES[name].make(**CASES[name].example)(step))
    assert rates.dtype == jnp.float32
    assert rates.shape == np.shape(step)


@every_schedule
def test_a_warmup_grows_linearly_to_where_any_schedule_starts_and_then_shifts_it(name):
    schedule = CASES[name].make(**CASES[name].example)
    plain, warmed = schedule(np.arange(300)), schedules.warmup(schedule, 50)(np.arange(300))
    np.testing.assert_allclose(warmed[:50], plain[0] * np.arange(1, 51) / 50, rtol=1e-6)
    np.testing.assert_array_equal(warmed[50:], plain[:250])


@pytest.mark.parametrize("total", [1, 2, 6, 7, 100])
@pytest.mark.parametrize("name", schedules.SCHEDULES)
def test_no_schedule_by_name_has_a_step_that_does_nothing_or_exceeds_its_peak(name, total):
    rates = np.asarray(schedules.SCHEDULES[name](0.3, total, max(1, total // 4))(np.arange(total)))
    assert (rates > 0).all()
    assert rates.max() <= 0.3 + 1e-7
    assert schedules.warmup(schedules.SCHEDULES[name](0.3, total, 1), 10)(0) > 0


def test_a_warmup_of_no_steps_changes_nothing():
    schedule = schedules.inverse_time(0.3, 7)
    np.testing.assert_array_equal(schedules.warmup(schedule, 0)(np.arange(20)), schedule(np.arange(20)))


def test_a_population_can_vary_the_warmup_of_any_schedule():
    steps = np.arange(100)

    def warmed(warmup_steps):
        return schedules.warmup(schedules.triangular(0.1, 1.0, 9), warmup_steps)(steps)

    for lengths in (jnp.array([0, 5, 60]), jnp.array([0.0, 5.0, 60.0])):
        together = jax.jit(jax.vmap(warmed))(lengths)
        for length, row in zip((0, 5, 60), together, strict=True):
            np.testing.assert_allclose(row, warmed(length), rtol=1e-6)


# Boundaries and precision


@pytest.mark.parametrize(
    ("schedule", "rates"),
    [
        (schedules.linear_decay(0.3, 41, 0.01), {0: 0.3, 41: 0.01, 42: 0.01, LONG: 0.01}),
        (schedules.cosine_decay(0.3, 41, 0.01), {0: 0.3, 41: 0.01, 42: 0.01, LONG: 0.01}),
        (schedules.cosine_decay(0.3, 41), {0: 0.3, 41: 0, LONG: 0}),
        (schedules.warmup_cosine(0.3, 10, 100, 0.01), {0: 0.03, 1: 0.06, 9: 0.3, 10: 0.3, 100: 0.01, 1000: 0.01}),
        (schedules.cosine_restarts(0.3, 41), {0: 0.3, 41: 0.3, 82: 0.3, 41 * 10**5: 0.3}),
        (schedules.cosine_restarts(0.3, 41, 2), {0: 0.3, 41: 0.3, 41 * 3: 0.3, 41 * 7: 0.3}),
        (schedules.triangular(0.1, 0.3, 41), {0: 0.1, 41: 0.3, 82: 0.1, 123: 0.3, 41 * 10**5: 0.1}),
        (schedules.triangular2(0.1, 0.3, 41), {0: 0.1, 41: 0.3, 82: 0.1, 123: 0.2, 205: 0.15, LONG: 0.1}),
        (schedules.one_cycle(0.3, 30, 100), {0: 0.012, 30: 0.3, 100: 1.2e-6, 101: 1.2e-6, LONG: 1.2e-6}),
        (schedules.inverse_time(0.3, 41), {0: 0.3, 41: 0.15}),
        (schedules.inverse_sqrt(0.3, 41), {0: 0.3, 123: 0.15}),
        (schedules.step_decay(0.3, 0.5, 41), {0: 0.3, 40: 0.3, 41: 0.15, 81: 0.15, 82: 0.075}),
        (schedules.exponential_decay(0.3, 0.5, 41), {0: 0.3, 41: 0.15, 82: 0.075}),
        (schedules.exponential_decay(0.3, 0.5, 41, staircase=True), {0: 0.3, 40: 0.3, 41: 0.15, 82: 0.075}),
        (schedules.milestone_decay(0.3, 0.5, [41, 83]), {0: 0.3, 40: 0.3, 41: 0.15, 82: 0.15, 83: 0.075, LONG: 0.075}),
    ],
)
def test_a_schedule_is_right_to_the_last_digits_at_its_boundaries(schedule, rates):
    steps, expected = np.resize(list(rates), 8), np.resize(list(rates.values()), 8)  # one shape: fewer compilations
    for rates in (schedule(steps), jax.jit(schedule)(steps)):
        np.testing.assert_allclose(rates, expected, rtol=ONE_ULP)


@pytest.mark.parametrize("every", [41, 47, 55, 61, 83])
def test_stairs_fall_on_their_step_where_a_reciprocal_is_inexact(every):
    # In compiled code x / 41 is x · (1/41), just below 1 at x = 41: rounding that down would be a step late.
    steps = every * np.arange(1, 20)
    rates = jax.jit(schedules.step_decay(1.0, 0.5, every))(np.stack([steps - 1, steps]))
    np.testing.assert_allclose(rates, [0.5 ** np.arange(19), 0.5 ** np.arange(1, 20)], rtol=1e-5)


@pytest.mark.parametrize("length_type", [jnp.int32, jnp.float32])
def test_restarts_fall_on_their_step_up_to_step_ten_million(length_type):
    compiled = jax.jit(lambda first, multiplier, steps: schedules.cosine_restarts(0.3, first, multiplier)(steps))
    for first, multiplier in [(1, 1), (7, 1), (1, 2), (10, 2), (3, 3), (1, 5), (9, 10), (41, 1000)]:
        starts = [0]
        length = first
        while starts[-1] + length <= LONG and len(starts) < 1000:
            starts.append(starts[-1] + length)
            length *= multiplier
        starts = np.resize(starts, 1000)  # by repetition, so that one program serves all
        rates, before = (
            compiled(length_type(first), length_type(multiplier), np.maximum(steps, 0))
            for steps in (starts, starts - 1)
        )
        np.testing.assert_allclose(rates, 0.3, rtol=ONE_ULP)
        # In the second half of a cycle of two steps or more, the last step is at half the peak or below.
        assert (before[(starts > first) & (multiplier > 1)] <= 0.3 * fall(1, 2) * (1 + ONE_ULP)).all()


def test_integer_cycles_are_exact_where_float32_no_longer_tells_steps_apart():
    steps = 2**29 + np.arange(200)
    expected = 0.1 + 0.9 * triangle(steps, 41)[1]
    np.testing.assert_allclose(schedules.triangular(0.1, 1.0, 41)(steps), expected, rtol=1e-6)


def test_a_factor_close_to_one_keeps_its_digits():
    rate = float(schedules.exponential_decay(1.0, 0.99999, 1)(10**6))
    assert rate == pytest.approx(math.exp(10**6 * math.log(0.99999)), rel=1e-5)


def test_the_last_steps_of_a_cosine_keep_their_digits():
    steps = LONG - np.array([1, 10, 100])
    np.testing.assert_allclose(
        schedules.cosine_decay(1.0, LONG)(steps), np.sin(np.pi / 2 * np.array([1, 10, 100]) / LONG) ** 2, rtol=1e-5
    )


@given(low=st.floats(1e-7, 1e-3), factor=st.floats(2, 1e6), steps=st.integers(2, 500))
def test_the_sweep_grows_by_a_constant_factor_between_its_ends(low, factor, steps):
    swept = np.asarray(schedules.exponential_sweep(low, low * factor, steps)(np.arange(500)), np.float64)[:steps]
    np.testing.assert_allclose(swept[[0, -1]], [low, low * factor], rtol=1e-5)
    np.testing.assert_allclose(swept[1:] / swept[:-1], factor ** (1 / (steps - 1)), rtol=1e-5)


# optax as an oracle


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (schedules.constant(0.3), optax.constant_schedule(0.3)),
        (schedules.linear_decay(0.3, 141, 0.02), optax.linear_schedule(0.3, 0.02, 141)),
        (schedules.cosine_decay(0.3, 141), optax.cosine_decay_schedule(0.3, 141)),
        (schedules.cosine_decay(0.3, 141, 0.03), optax.cosine_decay_schedule(0.3, 141, alpha=0.1)),
        (schedules.exponential_decay(0.3, 0.9, 17), optax.exponential_decay(0.3, 17, 0.9)),
        (
            schedules.exponential_decay(0.3, 0.9, 17, staircase=True),
            optax.exponential_decay(0.3, 17, 0.9, staircase=True),
        ),
        (schedules.step_decay(0.3, 0.9, 17), optax.exponential_decay(0.3, 17, 0.9, staircase=True)),
        (
            schedules.milestone_decay(0.3, 0.1, [30, 60, 200]),
            optax.piecewise_constant_schedule(0.3, {30: 0.1, 60: 0.1, 200: 0.1}),
        ),
        (schedules.warmup(schedules.constant(0.3), 17), optax.warmup_constant_schedule(0.3 / 17, 0.3, 16)),
        (
            schedules.warmup_cosine(0.3, 17, 141, 0.02),
            optax.join_schedules(
                [optax.linear_schedule(0.3 / 17, 0.3, 16), optax.cosine_decay_schedule(0.3, 124, 0.02 / 0.3)], [17]
            ),
        ),
        (
            schedules.warmup(schedules.exponential_decay(0.3, 0.9, 20), 17),
            optax.join_schedules(
                [optax.linear_schedule(0.3 / 17, 0.3, 16), optax.exponential_decay(0.3, 20, 0.9)], [17]
            ),
        ),
        (
            schedules.cosine_restarts(0.3, 30, 2, 0.02),
            optax.sgdr_schedule(
                [
                    {"init_value": 0.3, "peak_value": 0.3, "warmup_steps": 0, "decay_steps": steps, "end_value": 0.02}
                    for steps in (30, 60, 120, 240)
                ]
            ),
        ),
        (schedules.one_cycle(0.3, 42, 141), optax.cosine_onecycle_schedule(141, 0.3)),
        (schedules.one_cycle(0.3, 70, 141, 10.0, 50.0), optax.cosine_onecycle_schedule(141, 0.3, 0.5, 10.0, 50.0)),
    ],
)
def test_a_schedule_that_optax_has_equals_optax(ours, theirs):
    # optax's cosines lose 1e-7 of the peak near the end.
    expected = [float(theirs(step)) for step in range(300)]
    np.testing.assert_allclose(ours(np.arange(300)), expected, rtol=2e-6, atol=1e-7)


# What is refused


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: schedules.constant(-0.1), "value is -0.1; it must be at least 0"),
        (lambda: schedules.constant(math.nan), "value is nan"),
        (lambda: schedules.constant(jnp.ones(3)), r"value has shape \(3,\); it must be a scalar"),
        (lambda: schedules.step_decay(0.1, 1.0, 10), "decay_rate is 1.0; it must be greater than 0 and less than 1"),
        (lambda: schedules.step_decay(0.1, 0.0, 10), "decay_rate is 0.0"),
        (lambda: schedules.step_decay(0.1, 0.5, 0), "decay_steps is 0; it must be greater than 0"),
        (lambda: schedules.step_decay(0.1, 0.5, 10**10), "decay_steps is 10000000000; .* less than 2\\^30 steps"),
        (lambda: schedules.step_decay(-0.1, 0.5, 10), "init_value is -0.1; it must be positive"),
        (lambda: schedules.exponential_decay(0.1, 1.5, 10), "decay_rate is 1.5"),
        (lambda: schedules.exponential_decay(0.1, -0.5, 10), "decay_rate is -0.5"),
        (lambda: schedules.exponential_decay(0.1, 0.5, -1), "decay_steps is -1"),
        (lambda: schedules.exponential_decay(0.1, 2.0, 10, staircase=True), "decay_rate is 2.0"),
        (lambda: schedules.milestone_decay(0.1, 0.5, [20, 10]), r"milestones are \[20, 10\]; they must be ascending"),
        (lambda: schedules.milestone_decay(0.1, 0.5, [0, 10]), "milestones are .* greater than 0"),
        (lambda: schedules.milestone_decay(0.1, 0.5, jnp.array([10, 10])), "they must be ascending"),
        (lambda: schedules.milestone_decay(0.1, 0.5, jnp.ones((2, 2))), r"milestones have shape \(2, 2\)"),
        (lambda: schedules.milestone_decay(0.1, 1.0, [10]), "decay_rate is 1.0"),
        (lambda: schedules.linear_decay(0.0, 10), "init_value is 0.0; it must be positive"),
        (lambda: schedules.linear_decay(math.inf, 10), "init_value is inf; it must be positive and finite"),
        (lambda: schedules.linear_decay(0.1, 0), "total_steps is 0"),
        (lambda: schedules.linear_decay(0.1, 10, 0.2), "they must satisfy end_value <= init_value"),
        (lambda: schedules.cosine_decay(0.1, 10, -0.2), "end_value is -0.2; it must be at least 0"),
        (lambda: schedules.cosine_decay(0.1, -10), "total_steps is -10"),
        (lambda: schedules.inverse_time(0.1, 0), "shift is 0; it must be positive"),
        (lambda: schedules.inverse_time(-0.1, 1), "init_value is -0.1"),
        (lambda: schedules.inverse_sqrt(0.1, -5.0), "shift is -5.0; it must be positive"),
        (lambda: schedules.warmup(schedules.constant(0.1), -1), "warmup_steps is -1; it must be at least 0"),
        (lambda: schedules.warmup_cosine(0.1, -1, 10), "warmup_steps is -1; it must be at least 0"),
        (lambda: schedules.warmup_cosine(0.1, 10, 10), "warmup_steps is 10, total_steps is 10; they must .* total"),
        (lambda: schedules.warmup_cosine(0.1, 11, 10), "they must satisfy warmup_steps < total_steps"),
        (lambda: schedules.warmup_cosine(0.1, 1, 10, 0.2), "they must satisfy end_value <= peak_value"),
        (lambda: schedules.warmup_cosine(-0.1, 1, 10), "peak_value is -0.1"),
        (lambda: schedules.cosine_restarts(0.1, 0), "first_steps is 0"),
        (lambda: schedules.cosine_restarts(0.1, 10, 0), "multiplier is 0; it must be a whole number of at least 1"),
        (lambda: schedules.cosine_restarts(0.1, 10, 1.5), "multiplier is 1.5; it must be a whole number"),
        (lambda: schedules.cosine_restarts(0.1, 10, 2, 0.2), "they must satisfy end_value <= peak_value"),
        (lambda: schedules.triangular(0.2, 0.1, 10), "min_value is 0.2, max_value is 0.1; they .* min_val.* < max_val"),
        (lambda: schedules.triangular(-0.2, 0.1, 10), "min_value is -0.2"),
        (lambda: schedules.triangular2(0.1, 0.2, 0), "half_period is 0"),
        (lambda: schedules.one_cycle(0.1, 10, 10), "they must satisfy warmup_steps < total_steps"),
        (lambda: schedules.one_cycle(0.1, 0, 10), "warmup_steps is 0; it must be greater than 0"),
        (lambda: schedules.one_cycle(0.1, 3, 10, 0.5), "start_divisor is 0.5; it must be at least 1"),
        (lambda: schedules.one_cycle(0.1, 3, 10, 25.0, 0.0), "end_divisor is 0.0; it must be at least 1"),
        (lambda: schedules.exponential_sweep(1.0, 0.1, 10), "they must satisfy min_value < max_value"),
        (lambda: schedules.exponential_sweep(0.0, 1.0, 10), "min_value is 0.0; it must be positive"),
        (lambda: schedules.exponential_sweep(1.0, math.inf, 10), "max_value is inf; it must be positive and finite"),
        (lambda: schedules.exponential_sweep(0.1, 1.0, 1), "num_steps is 1; it must be at least 2"),
    ],
)
def test_a_concrete_parameter_out_of_range_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_a_traced_parameter_is_trusted_but_concrete_ones_beside_it_are_checked():
    jax.jit(lambda rate: schedules.linear_decay(rate, 10, 0.5)(3))(-1.0)
    with pytest.raises(ValueError, match="total_steps is 0"):
        jax.jit(lambda rate: schedules.linear_decay(rate, 0)(3))(1.0)


def test_a_population_that_was_not_vmapped_is_refused_while_traced():
    with pytest.raises(ValueError, match="must be a scalar"):
        jax.jit(lambda rates: schedules.linear_decay(rates, 10)(3))(jnp.ones(4))
