"""The measured factor of the error is that of theory, for paths that end long after float32 has no digits left."""

import jax.numpy as jnp
import numpy as np
import pytest
from etude import lab, train
from etude.experiments import gradient_descent


@pytest.mark.parametrize("steps", [100, 3000])
@pytest.mark.parametrize("start", [(-10.0, 1.0), (1e6, -1e6), (1e-6, 0.0), (3.0, 1e-38)])
def test_the_error_falls_by_the_factor_of_theory_however_long_the_path(steps, start):
    path = gradient_descent.walk(train.sgd(2 / 21, momentum=0.0), jnp.array(start), jnp.array([1.0, 20.0]), steps)
    assert gradient_descent.error_factor(path) == pytest.approx(19 / 21, abs=1e-4)


def test_a_path_that_ends_in_its_first_step_has_the_factor_0():
    assert gradient_descent.error_factor(np.array([[1.0, 1.0], [0.0, 0.0], [0.0, 0.0]])) == 0


def test_a_long_path_from_the_middle_of_the_valley_has_a_result_and_a_figure(tmp_path):
    config = lab.override(gradient_descent.PRESETS["smoke"], start_x=0.0, steps=3000, out=tmp_path / "run")
    result = gradient_descent.main(config)
    assert result.metrics["gradient_descent_factor"] == pytest.approx(19 / 21, abs=1e-4)
    assert (tmp_path / "run" / "figures" / "paths.png").exists()
