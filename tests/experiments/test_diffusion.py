"""`etude diffusion`: told labels or none, what the paper's preset is, and the bound of every schedule."""

import json

import jax
import numpy as np
import pytest
from etude import lab, models
from etude.experiments import diffusion
from etude.lab import cli

SMOKE, PAPER = diffusion.PRESETS["smoke"], diffusion.PRESETS["paper"]
NO_LABELS = lab.override(SMOKE, conditional=False, guidance=1.0, ancestral_steps=0)
CIFAR_TRAIN = 45_000  # examples of CIFAR-10 that are neither for validation nor for the test


def test_a_run_without_labels_reports_no_recognition_and_still_has_its_figures(tmp_path, capsys, few_digits):
    folder = tmp_path / "run"
    arguments = ["--preset", "smoke", "--no-conditional", "--guidance", "1", "--epochs", "1"]
    arguments += ["--ancestral-steps", "0", "--judge", "mlp", "--data", few_digits, "--out", str(folder)]
    arguments += ["--network.kind", "dit", "--network.depth", "1"]
    assert cli.main(["diffusion", *arguments]) == 0, capsys.readouterr().err
    result = json.loads((folder / "result.json").read_text())
    assert {"test_bits_per_dim", "frechet"} <= set(result["metrics"])
    assert not any("recognised" in name for name in result["metrics"])
    assert not any("recognised" in claim.name for claim in diffusion.claims(result["metrics"], NO_LABELS))
    assert {"figures/samples.png", "figures/strip.png", "figures/interpolation.png"} <= set(result["figures"])


def variables_of(training):
    return training.state(training.members(1e-3)).variables


def test_a_network_without_labels_draws_and_is_bounded_the_same_whatever_they_are():
    config = lab.override(SMOKE, conditional=False, guidance=1.0)
    training, model = diffusion.denoising(config)
    variables = variables_of(training)
    assert "classes" not in variables["params"]["conditioning"]
    examples = training.source.read(np.arange(8))
    others = examples | {"label": 9 - examples["label"]}
    draw = diffusion.sampling(config, model, training.source, "ddim", 2)
    np.testing.assert_array_equal(*(draw(variables, each["label"], 0) for each in (examples, others)))
    bounds = [diffusion.bounding(config, model, training, each)(variables) for each in (examples, others)]
    assert bounds[0] == bounds[1]


def test_the_papers_network_has_the_papers_number_of_parameters():
    _, model = diffusion.denoising(lab.override(PAPER, data="digits", parallel="jit"))
    assert models.count_parameters(model, (32, 32, 3)) == 35_746_307  # 35.7 M: Ho et al. 2020, appendix B


def test_the_papers_preset_takes_the_papers_steps():
    an_epoch = CIFAR_TRAIN // PAPER.batch.batch_size
    steps = PAPER.training.epochs * an_epoch
    assert 800_000 <= steps < 800_000 + an_epoch
    assert PAPER.decay.warmup_fraction * steps == pytest.approx(5_000, abs=10)
    assert (PAPER.sampler, PAPER.steps, PAPER.flip) == ("ancestral_large", 1000, True)


def test_flips_mirror_about_half_of_the_images_and_only_if_asked_for():
    assert diffusion.denoising(SMOKE)[0].augment is None
    training, _ = diffusion.denoising(lab.override(SMOKE, flip=True))
    batch = training.source.read(np.arange(64))
    batch = {"image": batch["image"], "index": np.arange(64)}
    assert training.augment is not None
    changed = np.asarray(training.augment(jax.random.key(0), batch, {})["image"])
    mirrored = (changed == batch["image"][:, :, ::-1]).all((1, 2, 3))
    assert (mirrored | (changed == batch["image"]).all((1, 2, 3))).all()
    assert 16 < mirrored.sum() < 48  # four standard deviations


@pytest.mark.parametrize(("name", "variance"), [("ancestral", 0.0), ("ancestral_large", 1.0)])
def test_both_variances_of_the_ancestral_sampler_can_be_chosen(name, variance):
    schedule = diffusion.SCHEDULES["ddpm"]()
    keys, x = jax.random.split(jax.random.key(0), 4), jax.random.normal(jax.random.key(1), (4, 3))
    times = diffusion.diffusion.uniform_times(5)
    chosen = diffusion.SAMPLERS[name](lambda x, t: 0.5 * x, schedule)
    wanted = diffusion.diffusion.ancestral(lambda x, t: 0.5 * x, schedule, variance=variance)
    found, expected = (diffusion.diffusion.sample(sampler, x, times, keys) for sampler in (chosen, wanted))
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("schedule", diffusion.SCHEDULES)
def test_every_schedule_has_a_bound_even_of_the_fewest_steps(schedule):
    config = lab.override(SMOKE, schedule=schedule, bound_steps=2)
    training, model = diffusion.denoising(config)
    bound = diffusion.bounding(config, model, training, training.source.read(np.arange(8)))
    assert np.isfinite(bound(variables_of(training))["test_bits_per_dim"])


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ({"label_dropout": 0.0}, r"label_dropout is 0\.0 and guidance 1\.2.*label_dropout above 0, or --guidance 1"),
        ({"label_dropout": 1.0}, r"label_dropout is 1\.0.*--no-conditional"),
        ({"conditional": False}, r"guidance is 1\.2.*--guidance 1"),
    ],
)
def test_what_guidance_was_never_trained_for_is_refused(choice, message):
    with pytest.raises(ValueError, match=message):
        diffusion.denoising(lab.override(SMOKE, **choice))


def test_without_guidance_all_labels_may_be_seen():
    diffusion.denoising(lab.override(SMOKE, label_dropout=0.0, guidance=1.0))
