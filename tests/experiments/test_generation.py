"""What experiments that generate share: a run that was cut off between stages ends as one that was not."""

import math

import jax
import numpy as np
import pytest
from etude import lab, models, tasks, train
from etude.errors import InputError
from etude.experiments import diffusion, gan, vae, vqvae
from etude.lab import generation
from PIL import Image


@pytest.mark.parametrize("seeds", [1, 2])
def test_a_run_cut_off_while_it_shows_a_stage_ends_with_the_same_bits(tmp_path, monkeypatch, seeds):
    def config(name):
        smoke = lab.override(vqvae.PRESETS["smoke"], epochs=4, judge="linear")
        return lab.override(smoke, out=tmp_path / name, **{"population.seeds": seeds, "population.mode": "map"})

    def save_until_third(file, arrays):
        if file.parent.name == "stages" and file.stem == "3":
            raise KeyboardInterrupt
        save(file, arrays)

    save = generation.save_arrays
    whole = vqvae.main(config("whole"))
    monkeypatch.setattr(generation, "save_arrays", save_until_third)
    with pytest.raises(KeyboardInterrupt):
        vqvae.main(config("cut"))
    monkeypatch.setattr(generation, "save_arrays", save)
    cut = vqvae.main(config("cut"))
    assert cut.metrics == whole.metrics
    (epochs, images), (whole_epochs, whole_images) = (lab.stages(tmp_path / name) for name in ("cut", "whole"))
    assert epochs == whole_epochs == [0, 1, 2, 3, 4]
    np.testing.assert_array_equal(images, whole_images)


@pytest.mark.parametrize(
    ("experiment", "choice", "message"),
    [
        (diffusion, {"schedule": "rectified_flow", "prediction": "epsilon"}, "prediction can't be epsilon"),
        (diffusion, {"bound_steps": 1}, "bound_steps is 1; it must be at least 2"),
        (diffusion, {"ancestral_steps": -1}, "ancestral_steps is -1"),
        (diffusion, {"draws": 0}, "draws is 0"),
        (diffusion, {"network.dropout": 1.5}, "network.dropout is 1.5"),
        (diffusion, {"guidance": math.nan}, "guidance is nan"),
        (vae, {"beta": -1.0}, "beta is -1.0"),
        (vae, {"importance_samples": 0}, "importance_samples is 0"),
        (diffusion, {"rescale": 5.0}, "rescale is 5.0"),
        (gan, {"discriminator_steps": 5}, "must be a multiple of discriminator_steps, 5"),
        (gan, {"penalty_weight": -1.0}, "penalty_weight is -1.0"),
        (gan, {"penalty_weight": math.nan}, "penalty_weight is nan"),
        (vae, {"beta": math.inf}, "beta is inf"),
        (vqvae, {"commitment": -1.0}, "commitment is -1.0"),
        (vqvae, {"codebook_decay": 1.5}, "codebook_decay is 1.5"),
        (vqvae, {"epochs": 0}, "epochs is 0"),
        (vqvae, {"judge": "foo"}, "foo"),
        (vqvae, {"judge_epochs": 0}, "judge_epochs is 0"),
        (vqvae, {"samples": 3}, "samples is 3; it must be at least 4"),
        (vqvae, {"warmup_fraction": 2.0}, "warmup_fraction is 2.0"),
    ],
)
def test_what_is_not_valid_is_told_before_anything_trains(tmp_path, monkeypatch, experiment, choice, message):
    monkeypatch.setattr(train, "fit", lambda *_, **__: pytest.fail("trains"))
    with pytest.raises(InputError, match=message):
        experiment.main(lab.override(experiment.PRESETS["smoke"], out=tmp_path / "run", **choice))


def test_a_game_has_neither_parts_of_a_batch_nor_a_grid_to_choose_from():
    names = {option.name for option in lab.options_of(gan.Config)}
    assert "population.seeds" in names
    assert not names & {"accumulate", "population.learning_rate", "population.weight_decay", "population.momentum"}


@pytest.mark.parametrize("experiment", [vae, vqvae])
def test_a_data_set_of_few_examples_is_enough(tmp_path, experiment):
    rng = np.random.default_rng(0)
    for number in range(100):  # 80 of them to train on, more than a batch of the judge, and 10 in each other split
        folder = tmp_path / "images" / "ab"[number % 2]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (8, 8), np.uint8)).save(folder / f"{number}.png")
    config = lab.override(
        experiment.PRESETS["smoke"],
        data=f"folder:{tmp_path / 'images'}",
        samples=4,
        batch_size=8,
        epochs=1,
        out=tmp_path / "run",
        judge="mlp",
        **{"population.seeds": 1},
    )
    assert "figures/interpolation.png" in experiment.main(config).figures


def members_of(diverged_at, scores, better):
    """A population of two seeds for each learning rate, as far as a choice among them goes."""
    count = len(diverged_at)
    members = train.Members(np.arange(count) % 2, {"learning_rate": np.repeat(np.arange(count // 2), 2)})
    fitted = train.Fitted(
        state=None,
        best=None,
        best_epoch=np.ones(count, int),
        epochs=({"epoch": 1, "validation": {"loss": np.array(scores)}},),
        diverged_at=np.array(diverged_at),
        stopped_early=np.zeros(count, bool),
    )
    return lab.Trained(None, lab.Start(members, None, None, None), fitted, better)


def test_a_setting_with_a_seed_that_diverged_later_is_not_chosen_and_without_another_nothing_is():
    better = lambda validation: (-validation["loss"],)
    assert members_of([-1, 7, -1, -1], [0.1, 0.1, 0.5, 0.5], better).chosen_rows(2) == slice(2, 4)
    with pytest.raises(train.Diverged, match="A seed of every setting diverged"):
        members_of([-1, 7, 3, -1], [0.1, 0.1, 0.5, 0.5], better).chosen_rows(2)
    for choice in (better, None):
        with pytest.raises(train.Diverged, match="1 of 2 members diverged, the first in step 8"):
            members_of([-1, 7], [0.1, 0.1], choice).chosen_rows(2)
    assert members_of([-1, -1], [0.1, 0.1], None).chosen_rows(2) == slice(0, 2)


def test_no_mean_is_taken_over_what_is_no_number():
    with pytest.raises(train.Diverged, match="test_elbo is 3, nan"):
        lab.over_seeds([{"test_elbo": 3.0}, {"test_elbo": math.nan}])


def test_what_reconstruction_costs_is_measured_on_the_images_that_were_reconstructed():
    labels, real = np.arange(8) % 4, np.random.default_rng(0).normal(size=(8, 3))
    answers = {"original": np.eye(4)[(labels + (np.arange(8) < 2)) % 4], "copy": np.eye(4)[(labels + 1) % 4]}
    judge = lab.Judge(
        0.99,
        lambda images: (answers[str(images[0])], real),
        {"image": np.array(["original"] * 8), "label": labels},
        real,
        real,
    )
    assert judge.recognised_originals() == 0.75  # and not 0.99, of all of the test split
    values = {"judge_accuracy": 0.99, "recognised_originals": 0.75, "recognised": 0.74, "codes_used": 8}
    assert vqvae.claims(values, vqvae.PRESETS["smoke"])[0].value == pytest.approx(0.01)


def test_the_paper_preset_of_the_vae_is_of_black_and_white_images():
    paper = vae.PRESETS["paper"]
    assert (paper.binarize, paper.likelihood, paper.latent, paper.hidden) == ("dynamic", "bernoulli", 50, (200, 200))
    training, _ = vae.autoencoder(lab.override(paper, data="digits"))
    variables = training.state(training.members(1e-3)).variables
    batch = training.validation.read(np.arange(8)) | {"index": np.arange(8)}
    gray = tasks.evaluation(training.task).statistics(variables, batch)
    drawn = tasks.evaluation(training.task).statistics(variables, tasks.binarize(batch))
    np.testing.assert_allclose(gray["elbo"].value, drawn["elbo"].value, rtol=1e-6)


def test_a_judge_of_many_classes_tells_the_share_of_the_rarest():
    predicted = np.arange(64) % 32
    answers = np.eye(32)[predicted], np.random.default_rng(0).normal(size=(64, 3))
    judge = lab.Judge(1.0, lambda images: answers, {}, answers[1], answers[1])
    assert judge.report(np.zeros((64, 1, 1, 1), np.uint8), predicted)["smallest_class"] == 1 / 32


def test_a_judge_counts_the_classes_that_samples_cover():
    predicted = np.array([0] * 88 + [1] * 5 + [2] * 4 + [3] * 3)  # of ten classes, of which two have a share of 0.05
    answers = np.eye(10)[predicted], np.random.default_rng(0).normal(size=(100, 3))
    judge = lab.Judge(1.0, lambda images: answers, {}, answers[1], answers[1])
    found = judge.report(np.zeros((100, 1, 1, 1), np.uint8))
    assert (found["smallest_class"], found["modes_covered"]) == (0, 2)
    assert found["mode_kl"] == pytest.approx(sum(p * math.log(10 * p) for p in (0.88, 0.05, 0.04, 0.03)))


def test_lines_between_pairs_begin_and_end_at_the_encodings():
    encodings = np.random.default_rng(0).normal(size=(5, 2, 3))
    points = lab.between_pairs(encodings, 4)
    assert points.shape == (2, 4, 2, 3)
    np.testing.assert_array_equal(points[:, 0], encodings[[0, 2]])
    np.testing.assert_array_equal(points[:, -1], encodings[[1, 3]])
    np.testing.assert_allclose(points[1, 1], (2 * encodings[2] + encodings[3]) / 3, rtol=1e-12)


@pytest.mark.parametrize(("chosen", "decay"), [(0.9, 0.9), (None, 0.999)])
def test_the_second_moment_of_both_players_decays_as_the_config_says(chosen, decay):
    training, _ = gan.play(lab.override(gan.PRESETS["smoke"], second_momentum=chosen))
    params = {"generator": np.zeros(1), "discriminator": np.zeros(1)}
    optimizer = training.make_optimizer(1.0, {"learning_rate": 1.0, **training.hyper})
    state, updates = optimizer.init(params), params
    for gradient in (1.0, 3.0):
        gradients = {player: np.full(1, gradient) for player in params}
        updates, state = optimizer.update(gradients, state, params)
    second = (1 - decay) * (decay * 1**2 + 3**2) / (1 - decay**2)  # Kingma & Ba 2015, algorithm 1; β1 is 0
    for player in params:
        np.testing.assert_allclose(updates[player], -3 / math.sqrt(second), rtol=1e-4)  # 1 − 0.999² in float32


def test_the_paper_preset_is_the_game_of_the_paper():
    paper = lab.override(gan.PRESETS["paper"], data="digits", parallel="jit")
    _, generator = gan.play(paper)
    assert models.count_parameters(generator.clone(image_shape=(32, 32, 3)), (paper.latent,)) == 4_276_739
    assert (paper.width, paper.update.momentum, paper.second_momentum) == (128, 0.0, 0.9)
    assert paper.training.epochs * (45_000 // paper.batch.batch_size) == pytest.approx(50_000, rel=0.01)


def test_the_paper_preset_of_codes_has_the_steps_of_the_paper():
    paper = vqvae.PRESETS["paper"]
    assert paper.training.epochs * (45_000 // paper.batch.batch_size) == pytest.approx(250_000, rel=0.01)


def test_the_ends_of_an_interpolation_are_the_reconstructions():
    training, model = vqvae.autoencoder(vqvae.PRESETS["smoke"])
    # As a checkpoint gives them, in arrays of NumPy.
    variables = jax.tree.map(np.asarray, training.state(training.members(1e-3)).variables)
    images = training.validation.read(np.arange(5))["image"]
    path = vqvae.interpolation(model, variables, images)
    assert path.shape == (2, 9, *images.shape[1:])
    codes = tasks.images_to_codes(model, variables, images)
    ends = np.asarray(tasks.codes_to_images(model, variables, codes))
    np.testing.assert_array_equal(path[:, [0, -1]].reshape(4, *images.shape[1:]), ends[:4])


def test_a_single_latent_is_the_first_axis_of_the_map(tmp_path):
    config = lab.override(vae.PRESETS["smoke"], latent=1, hidden=(4,))
    training, model = vae.autoencoder(config)
    variables, test = training.state(training.members(1e-3)).variables, lab.load(config.data, "test")
    decode = jax.jit(lambda variables, z: tasks.decode_images(model, variables, z, likelihood=config.likelihood))
    found = vae.latents(config, model, variables, decode, test)["map"]
    assert found.shape == (len(test), 2)
    assert found[:, 0].any()
    assert not found[:, 1].any()
