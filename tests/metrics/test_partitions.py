"""V-Rand, V-info and adapted Rand error against loops over pairs, scikit-image and Fiji."""

from itertools import product
from pathlib import Path

import numpy as np
import pytest
from etude import metrics
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from skimage.metrics import adapted_rand_error, variation_of_information
from skimage.segmentation import watershed

GOLDEN = np.load(Path(__file__).resolve().parents[1] / "golden" / "fiji_thinning.npz")
NAMES = ("v_rand", "v_rand_split", "v_rand_merge", "v_info", "v_info_split", "v_info_merge")
SCORES = [metrics.v_rand, metrics.v_info]
labels = hnp.arrays(np.int32, (4, 5), elements=st.integers(0, 3))
pair = st.tuples(labels, labels)


def singletons(truth, prediction):
    """The pixels of the true foreground, those that are in no predicted region each with a label of its own."""
    kept = truth != 0
    truth, prediction = truth[kept].astype(int), prediction[kept].astype(int)
    loose = prediction == 0
    prediction[loose] = 1000 + np.arange(loose.sum())
    return truth, prediction


@given(pair)
def test_v_rand_counts_pairs_of_pixels_that_belong_together(maps):
    truth, prediction = singletons(*maps)
    pairs = list(product(range(len(truth)), repeat=2))
    true = {(i, j) for i, j in pairs if truth[i] == truth[j]}
    predicted = {(i, j) for i, j in pairs if prediction[i] == prediction[j]}
    scores = metrics.v_rand(*maps)
    if not pairs:
        assert np.isnan(scores).all()
        return
    both = len(true & predicted)
    expected = 2 * both / (len(true) + len(predicted)), both / len(true), both / len(predicted)
    np.testing.assert_allclose(scores, expected, rtol=1e-12)


@given(pair)
def test_v_info_is_made_of_the_entropies_that_scikit_image_finds(maps):
    truth, prediction = singletons(*maps)
    scores = metrics.v_info(*maps)

    def entropy(values):
        shares = np.unique(values, return_counts=True)[1] / max(len(values), 1)
        return float(-(shares * np.log2(shares)).sum())

    of_truth, of_prediction = entropy(truth), entropy(prediction)
    if of_truth == 0 or of_prediction == 0:
        assert np.isnan(scores.merge) == (of_truth == 0)
        assert np.isnan(scores.split) == (of_prediction == 0)
        return
    truth_is_given, prediction_is_given = variation_of_information(truth, prediction)  # H(S|T), H(T|S)
    np.testing.assert_allclose(scores.split, 1 - truth_is_given / of_prediction, atol=1e-9)
    np.testing.assert_allclose(scores.merge, 1 - prediction_is_given / of_truth, atol=1e-9)
    harmonic = 2 * scores.split * scores.merge / max(scores.split + scores.merge, 1e-30)
    np.testing.assert_allclose(scores.f, harmonic, atol=1e-9)


@given(pair)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # scikit-image divides by 0 where nothing can be paired
def test_adapted_rand_error_is_scikit_images(maps):
    expected = adapted_rand_error(*maps)[0] if maps[0].any() else np.nan
    np.testing.assert_allclose(metrics.adapted_rand_error(*maps), expected, atol=1e-12)


@given(pair, st.permutations(range(1, 4)), st.permutations(range(1, 4)))
def test_only_equality_of_labels_matters(maps, true_names, predicted_names):
    truth, prediction = maps
    renamed = np.array([0, *true_names])[truth], np.array([0, *predicted_names])[prediction]
    for score in [*SCORES, metrics.adapted_rand_error]:
        np.testing.assert_allclose(score(*renamed), score(truth, prediction), atol=1e-12)
        padded = np.pad(truth, 3), np.pad(prediction, 3, constant_values=2)
        np.testing.assert_allclose(score(*padded), score(truth, prediction), atol=1e-12)


@given(pair)
def test_equal_partitions_score_1_and_all_scores_lie_between_0_and_1(maps):
    for score in SCORES:
        agreement = score(maps[0], maps[0])
        assert all(np.isnan(value) or value == pytest.approx(1) for value in agreement)
        assert all(np.isnan(value) or 0 <= value <= 1 + 1e-12 for value in score(*maps))


def test_a_merge_lowers_one_number_and_a_split_the_other():
    two, one = np.array([1, 1, 2, 2]), np.array([5, 5, 5, 5])
    assert metrics.v_rand(two, one) == (2 / 3, 1, 0.5)
    assert metrics.v_rand(one, two) == (2 / 3, 0.5, 1)
    four = np.array([1, 2, 3, 4])
    assert metrics.v_info(two, four) == pytest.approx((2 / 3, 0.5, 1))
    assert metrics.v_info(four, two) == pytest.approx((2 / 3, 1, 0.5))
    assert metrics.v_rand(two, np.zeros(4, int)) == metrics.v_rand(two, four)  # pixels of no region are alone


@pytest.mark.parametrize("name", ["thin", "wide", "noise", "nothing"])
def test_borders_are_thinned_as_fiji_does(name):
    ours, fijis = metrics.thin_borders(GOLDEN[f"{name}_inside"]), GOLDEN[f"{name}_regions"].astype(int)
    np.testing.assert_array_equal(ours == 0, fijis == 0)
    names = np.unique(np.stack([ours.ravel(), fijis.ravel()]), axis=1)
    assert len(np.unique(names[0])) == len(np.unique(names[1])) == names.shape[1]  # the same regions by other names


def test_thinning_agrees_with_scikit_images_watershed_up_to_the_place_of_lines():
    inside = GOLDEN["wide_inside"]
    expected = watershed(~inside, metrics.regions(inside), connectivity=1, watershed_line=True)
    assert metrics.v_rand(expected, metrics.thin_borders(inside)).f > 0.9


def test_the_width_of_a_border_is_no_error_and_a_gap_in_it_is_a_merge():
    truth = np.ones((1, 21, 31), bool)
    truth[0, :, 15] = False
    wide = truth.copy()
    wide[0, :, 13:18] = False
    assert metrics.isbi_scores(wide, truth) == pytest.approx(dict.fromkeys(NAMES, 1.0))
    wide[0, 10, :] = True
    scores = metrics.isbi_scores(wide, truth)
    assert scores["v_rand_merge"] == pytest.approx(0.5, abs=1e-2)
    assert scores["v_rand_split"] == 1
    assert scores["v_info"] == scores["v_info_merge"] == 0
    assert np.isnan(scores["v_info_split"])  # one predicted region has no entropy


def test_sections_are_averaged_in_any_order_and_those_without_foreground_left_out():
    inside = np.stack([GOLDEN["thin_inside"], GOLDEN["wide_inside"].T])
    truth = inside[:, ::-1].copy()
    scores = metrics.isbi_scores(inside, truth)
    single = [metrics.isbi_scores(inside[i : i + 1], truth[i : i + 1])["v_rand"] for i in (0, 1)]
    assert scores["v_rand"] == pytest.approx(np.mean(single))
    assert metrics.isbi_scores(inside[::-1], truth[::-1]) == pytest.approx(scores)
    with_empty = [np.concatenate([maps, np.zeros_like(maps[:1])]) for maps in (inside, truth)]
    assert metrics.isbi_scores(*with_empty) == pytest.approx(scores)
    assert all(np.isnan(value) for value in metrics.isbi_scores(inside[:0], truth[:0]).values())


def test_the_best_threshold_is_found():
    inside = GOLDEN["thin_inside"][None]
    best = metrics.best_isbi_scores(np.where(inside, 0.75, 0.35), inside)
    assert best["v_rand"] == best["v_info"] == 1
    assert 0.4 <= best["v_rand_threshold"] <= 0.7


def test_wrong_maps_are_refused():
    maps = np.zeros((2, 4, 4), int)
    for score in [*SCORES, metrics.adapted_rand_error]:
        with pytest.raises(ValueError, match="one shape"):
            score(maps, maps[:1])
        with pytest.raises(ValueError, match="integer labels"):
            score(maps, maps.astype(float))
    with pytest.raises(ValueError, match="bool maps"):
        metrics.isbi_scores(maps, maps > 0)
    with pytest.raises(ValueError, match="at least one threshold"):
        metrics.best_isbi_scores(maps, maps > 0, ())
