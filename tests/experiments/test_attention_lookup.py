"""The box office of the lecture: answers by hand, and the two limits of the scale."""

import numpy as np
import pytest
from etude import lab
from etude.experiments import attention_lookup
from etude.experiments.attention_lookup import dictionary, look_up

VALUES = np.array([[1.0], [7.0], [2847.0], [229.0]])
BY_HAND = [
    (9 * 1 + 7 + 2847 + 229) / 12,
    (1 + 9 * 7 + 2847 + 229) / 12,
    2155.0,
    (1 + 7 + 2847 + 9 * 229) / 12,
    1154.5,
    (1 + 3 * 7 + 2847 + 9 * 229) / 14,
]


def test_at_the_scale_ln_9_answers_and_weights_are_the_fractions_of_a_hand_calculation():
    np.testing.assert_allclose(look_up(np.log(9), VALUES)[:, 0], BY_HAND, rtol=1e-6)
    half = look_up(np.log(9), np.eye(4))[4]
    np.testing.assert_allclose(half, [1 / 8, 1 / 8, 3 / 8, 3 / 8], rtol=1e-6)


def test_sharp_keys_answer_as_a_dictionary_and_a_tie_as_the_mean():
    np.testing.assert_allclose(dictionary(VALUES[:, 0]), [1, 7, 2847, 229, 1538, 229])
    np.testing.assert_allclose(look_up(100.0, VALUES)[:, 0], dictionary(VALUES[:, 0]), rtol=1e-6)


def test_without_a_scale_every_query_gets_the_mean_of_all_values():
    np.testing.assert_allclose(look_up(0.0, VALUES), 771.0, rtol=1e-6)


@pytest.mark.parametrize("scale", [0.0, 1e30])
def test_any_scale_has_a_result_and_a_figure(scale, tmp_path):
    config = lab.override(attention_lookup.PRESETS["demo"], scale=scale, out=tmp_path / "run")
    result = attention_lookup.main(config)
    assert result.metrics["answer_avatar"] == pytest.approx(771 if scale == 0 else 2847)
    assert all(claim.holds for claim in result.claims)
    assert (tmp_path / "run" / "figures" / "lookup.png").exists()
