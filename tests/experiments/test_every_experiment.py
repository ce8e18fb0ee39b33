"""Every experiment runs from end to end in its quick form, and its figures can be drawn again."""

import importlib
import json

import pytest
from etude import lab, train
from etude.lab import cli

MODULES = {name: importlib.import_module(f"etude.experiments.{name}") for name in cli.experiments()}
EXPERIMENTS = [name for name, module in MODULES.items() if hasattr(module, "PRESETS")]
RATES = ("learning_rate", "population.learning_rate", "lowest")  # options that hold a learning rate
OF_SCENES = {"segmentation", "detection", "instance_segmentation", "panoptic"}  # they need annotated images
OF_TEXTS = {"translation": "few_pairs", "text_classification": "few_labels", "language_model": "few_labels"}
# What makes a smoke run shorter still, so that every experiment can be run whenever the tests are.
SHORT = {
    "vit": ["--learning-rate", "1e-3"],  # the range test is that of resnet
    "diffusion": ["--network.kind", "dit", "--network.depth", "1"],
    "depth": ["--epochs", "1"],
    **{name: ["--tokenizer", "characters", "--row-tokens", "48", "--batch-size", "8"] for name in OF_TEXTS},
    **{name: ["--batch-size", "8"] for name in OF_SCENES},
}
WITHOUT_RATE = {"convergence_rate", "gradient_descent", "attention_lookup"}  # computed from the curvature, or none


def check_run(name, folder, capsys, options=()):
    assert cli.main([name, "--preset", "smoke", *options, "--out", str(folder)]) == 0, capsys.readouterr().err
    result = json.loads((folder / "result.json").read_text())
    assert result["metrics"]
    assert all(isinstance(value, int | float) for value in result["metrics"].values())
    assert result["claims"] == []  # a smoke run shows that it ends, and decides nothing
    if not hasattr(MODULES[name], "draw"):
        assert cli.main(["draw", str(folder)]) == 2
        assert "show more than its tables hold" in " ".join(capsys.readouterr().err.split())
        return
    for path in result["figures"]:
        (folder / path).unlink()
    assert cli.main(["draw", str(folder)]) == 0
    for path in result["figures"]:
        assert (folder / path).exists()
        assert (folder / path).with_suffix(".pdf").exists()


@pytest.mark.parametrize("name", [name for name in EXPERIMENTS if name != "resnet"])  # which test_cli.py runs
def test_a_short_run_ends_with_numbers_and_figures_that_can_be_drawn_again(name, tmp_path, capsys, request):
    known, options = {option.name for option in lab.options_of(MODULES[name].Config)}, SHORT.get(name, [])
    few = request.getfixturevalue(OF_TEXTS.get(name, "few_scenes" if name in OF_SCENES else "few_digits"))
    options = options + (["--data", few] if "data" in known else [])
    options += ["--population.mode", "map"] if "population.mode" in known else []
    check_run(name, tmp_path / "run", capsys, options)


@pytest.mark.parametrize(("name", "parallel"), [("segmentation", "data"), ("panoptic", "pmap"), ("detection", "fsdp")])
def test_what_many_devices_trained_on_scenes_is_measured_and_ends(name, parallel, tmp_path, capsys, few_scenes):
    check_run(name, tmp_path / "run", capsys, [*SHORT[name], "--data", few_scenes, "--parallel", parallel])


@pytest.mark.parametrize("parallel", ["data", "fsdp", "pmap"])
def test_a_classifier_that_many_devices_trained_is_judged_and_ends(parallel, tmp_path, capsys, few_digits):
    options = ["--data", few_digits, "--model", "resnet8", "--epochs", "1", "--learning-rate", "0.05"]
    check_run("resnet", tmp_path / "run", capsys, [*options, "--parallel", parallel])


@pytest.mark.slow
@pytest.mark.parametrize("name", EXPERIMENTS)
def test_a_smoke_run_ends_with_numbers_and_figures_that_can_be_drawn_again(name, tmp_path, capsys):
    check_run(name, tmp_path / "run", capsys)


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_preset_is_one_of_its_experiment_and_knows_its_name(name):
    presets = MODULES[name].PRESETS
    assert set(presets) - {"fashion_mnist", "bccd", "isbi", "multi30k"} == {"smoke", "demo", "paper"}
    assert all(config.run.preset == preset for preset, config in presets.items())


def test_every_experiment_that_trains_by_a_schedule_offers_them_all():
    fixed = {"lr_range_test", "schedule_race"} | WITHOUT_RATE  # whose subject is the rate, or that have none
    for name in EXPERIMENTS:
        options = {option.name: option for option in lab.options_of(MODULES[name].Config)}
        chosen = options.get("rate_schedule" if name == "diffusion" else "schedule")
        assert (chosen is None) == (name in fixed), name
        if chosen:
            (choice,) = [note for note in chosen.type.__metadata__ if isinstance(note, lab.Choice)]
            assert choice.names == lab.SCHEDULE_NAMES, name


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["schedule_race", "--only", "cosin"], "no schedule 'cosin'. Did you mean cosine? Valid are: cosine,"),
        (["optimizer_race", "--only", "adan"], "no optimizer 'adan'. Did you mean adam?"),
        (["gradient_descent", "--condition", "0.5"], "condition is 0.5; it must be greater than 1"),
        (["gradient_descent", "--steps", "5"], "steps is 5; it must be at least 10"),
        (["universal_approximation", "--target", "noise"], "no target 'noise'. Valid are: waves, kink, steps"),
        (["mlp", "--activations", "rely"], "no activation 'rely'. Did you mean relu? Valid are: sigmoid"),
        (["mlp", "--widths", "0"], "widths is 0; it must be at least 1"),
        (["depth", "--depths", "20", "8"], "give at least two, the smallest first"),
        (["depth", "--depths", "8", "9"], "depth is 9"),
        (["depth", "--population.momentum", "0.5,0.9"], "--population.momentum"),
        (["depth", "--population.seeds", "1", "--parallel", "data"], "--parallel"),
        (["regularization", "--mixup", "0"], "mixup is 0.0; it must be positive"),
        (["regularization", "--mixup", "-1"], "mixup is -1.0"),
        (["regularization", "--dropout", "1.5"], "dropout is 1.5; it must be in [0, 1)"),
        (["regularization", "--cutmix", "1"], "--cutmix"),
        (["regularization", "--population.seeds", "0"], "population.seeds is 0"),
        (["regularization", "--population.seeds", "1", "--parallel", "pmap"], "--parallel"),
        (["regularization", "--population.learning-rate", "0.1"], "--population.learning-rate"),
        (["regularization", "--tta", "0"], "test-time augmentation need"),
        (["vae", "--likelihood", "poisson"], "There is no likelihood 'poisson'. Valid are: bernoulli"),
        (["vae", "--network", "conv", "--features", "8", "8", "8", "8"], "8"),
        (["diffusion", "--network.multipliers", "1", "1", "1", "1", "1"], "multiples of 16"),
        (["diffusion", "--network.kind", "dit", "--network.patch-size", "3"], "3"),
        (["vae", "--network", "conv", "--features", "8", "0"], "features is 0; it must be at least 1"),
        (["vae", "--network", "conv", "--features", "-1"], "features is -1; it must be at least 1"),
        (["vae", "--hidden", "0"], "hidden is 0; it must be at least 1"),
        (["vae", "--binarize", "static"], "binarize is static and likelihood discretized_logistic"),
        (["vae", "--latent", "-1"], "latent is -1; it must be at least 1"),
        (["gan", "--latent", "0"], "latent is 0; it must be at least 1"),
        (["gan", "--generator-width", "0"], "generator_width is 0; it must be at least 1"),
        (["gan", "--rate-ratio", "0"], "rate_ratio is 0.0; it must be positive"),
        (["gan", "--second-momentum", "1"], "second_momentum is 1.0; it must be in [0, 1)"),
        (["gan", "--second-momentum", "0.9", "--optimizer", "sgd"], "second_momentum is 0.9; sgd has none"),
        (["vqvae", "--halvings", "4"], "8"),
        (["diffusion", "--label-dropout", "2"], "label_dropout is 2"),
        (["resnet", "--model", "dit_small_patch2"], "dit_small_patch2 is a denoiser"),
        (["compare", "--models", "linear", "ddpm_cifar10"], "ddpm_cifar10 is a denoiser"),
        (["resnet", "--mixup", "0.2", "--cutmix", "1"], "give one of them"),
        (["resnet", "--mixup", "-1"], "mixup is -1.0"),
        (["resnet", "--learning-rate", "-0.1"], "learning_rate is -0.1; it must be positive"),
        (["resnet", "--weight-decay", "-1"], "weight_decay is -1.0; it must be at least 0"),
        (["vae", "--momentum", "1"], "momentum is 1.0; it must be in [0, 1)"),
        (
            ["compare", "--models", "linear", "mlp", "--population.learning-rate", "0.1,0"],
            "population.learning_rate is 0.0",
        ),
        (["depth", "--learning-rate", "0"], "learning_rate is 0.0; it must be positive"),
        (["vit", "--tta", "2", "--shift", "0"], "nothing makes copies of an image differ"),
        (["vit", "--model", "vit_small_patch16_224"], "16"),
        (["vit", "--model", "resnet8", "--drop-path", "1.5"], "drop_path is 1.5"),
        (["universal_approximation", "--widths", "0"], "widths is 0; it must be at least 1"),
        (["universal_approximation", "--widths"], "There is no width to fit"),
    ],
)
def test_a_wrong_choice_names_the_valid_ones(arguments, message, tmp_path, capsys):
    assert cli.main([*arguments, "--out", str(tmp_path / "run")]) == 2
    assert message in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize(
    ("option", "message"),
    [
        (["--epochs", "0"], "epochs is 0"),
        (["--patience", "0"], "patience is 0"),
        (["--checkpoint-every", "0"], "checkpoint_every is 0"),
        (["--ema-decay", "2"], "ema_decay is 2"),
        (["--warmup-fraction", "-0.1"], "warmup_fraction is -0.1"),
        (["--warmup-fraction", "1"], "it must be in [0, 1)"),
    ],
)
def test_what_is_wrong_with_a_training_comes_out_before_the_range_test(option, message, tmp_path, capsys):
    assert cli.main(["resnet", "--model", "linear", *option, "--out", str(tmp_path / "run")]) == 2
    assert message in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "run" / "range_test.csv").exists()


@pytest.mark.parametrize("name", [name for name in EXPERIMENTS if name not in WITHOUT_RATE])
def test_a_negative_learning_rate_ends_with_one_message_before_anything_trains(name, tmp_path, capsys, monkeypatch):
    for function in ("fit", "sweep", "create_state", "compile_create"):
        monkeypatch.setattr(train, function, lambda *_, **__: pytest.fail("trains"))
    options = [option.name for option in lab.options_of(MODULES[name].Config) if option.name in RATES]
    assert options
    for option in options:
        flag = f"--{option.replace('_', '-')}=-1"
        assert cli.main([name, "--preset", "smoke", flag, "--out", str(tmp_path / "run")]) == 2
        captured = capsys.readouterr()
        assert f"{option} is -1.0; it must be positive" in " ".join(captured.err.split())
        assert captured.err.count("etude:") == 1
        assert "Traceback" not in captured.err + captured.out
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("arguments", [["regularization", "--model", "mlp"], ["depth", "--depths", "8", "14"]])
def test_where_all_members_are_compared_one_that_diverges_ends_the_run(arguments, tmp_path, capsys):
    options = ["--preset", "smoke", "--learning-rate", "1e12", "--out", str(tmp_path / "run")]
    assert cli.main([*arguments, *options]) == cli.DIVERGED
    assert "members diverged, the first in step" in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "run" / "table.csv").exists()


@pytest.mark.parametrize("name", ["diffusion", "vae", "gan", "vqvae"])
def test_what_a_generator_that_diverged_makes_enters_no_result(name, tmp_path, capsys, few_digits):
    options = ["--data", few_digits, "--learning-rate", "1e20", "--population.seeds", "2", "--population.mode", "map"]
    options += [*SHORT.get(name, []), "--preset", "smoke", "--out", str(tmp_path / "run")]
    assert cli.main([name, *options]) == cli.DIVERGED
    assert "diverged" in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "run" / "result.json").exists()


def test_a_network_that_diverges_is_not_among_those_that_approximate(tmp_path, capsys):
    options = ["--widths", "4", "--steps", "600", "--seeds", "2", "--learning-rate", "1e20", "--out", str(tmp_path)]
    assert cli.main(["universal_approximation", *options]) == cli.DIVERGED
    assert "networks of width 4 diverged; give a lower --learning-rate" in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "errors.csv").exists()


def test_drawing_what_is_no_run_says_so(tmp_path, capsys):
    assert cli.main(["draw", str(tmp_path)]) == 2
    assert "no finished run" in " ".join(capsys.readouterr().err.split())


def test_drawing_a_run_of_an_experiment_that_is_not_here_says_so(tmp_path, capsys):
    (tmp_path / "result.json").write_text('{"metrics": {}}')
    (tmp_path / "config.json").write_text('{"experiment": "counting"}')
    assert cli.main(["draw", str(tmp_path)]) == 2
    assert "no experiment 'counting'" in " ".join(capsys.readouterr().err.split())


def test_drawing_a_run_whose_config_names_no_experiment_says_so(tmp_path, capsys):
    (tmp_path / "result.json").write_text('{"metrics": {}}')
    (tmp_path / "config.json").write_text('{"epochs": 3}')
    assert cli.main(["draw", str(tmp_path)]) == 2
    assert "config.json does not say which experiment it is of" in " ".join(capsys.readouterr().err.split())


def test_regularization_weighs_rare_classes_of_its_small_training_split(few_digits, tmp_path, capsys):
    options = [
        "--preset",
        "smoke",
        "--data",
        few_digits,
        "--epochs",
        "1",
        "--population.seeds",
        "1",
        "--train-size",
        "60",
    ]
    options += ["--class-weights", "balanced", "--population.mode", "map", "--out", str(tmp_path / "run")]
    assert cli.main(["regularization", *options]) == 0, capsys.readouterr().err
