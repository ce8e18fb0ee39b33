"""Grids on the command line, and what a population leaves behind."""

import json
import re

import jax
import numpy as np
import pytest
from etude import lab, schedules
from etude.experiments import lr_grid_search, lr_range_test, resnet
from etude.lab import cli


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0.1", [0.1]),
        ("0.1, 1e-3,2**-2", [0.1, 0.001, 0.25]),
        ("2**-15:2**-1", [2.0**k for k in range(-15, 0)]),
        ("0.1:0.4", [0.1, 0.2, 0.4]),
        ("-2**2,.5,2.**2", [-4.0, 0.5, 4.0]),
        ("1e-4:1:5", [1e-4, 1e-3, 1e-2, 1e-1, 1.0]),
    ],
)
def test_a_grid_is_a_list_doublings_or_geometric_steps(text, expected):
    assert lab.parse_grid(text, "rates") == pytest.approx(expected)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "grid of rates is empty"),
        ("1:0.1", "0 < lowest <= highest"),
        ("0:1", "0 < lowest <= highest"),
        ("fast", "'fast' is no number"),
        ("0.1:1:one", "whole n of at least 2"),
        ("__import__('os')", "is no number"),
        ("1.2.3", "'1.2.3' is no number"),
        ("0.1,,0.2", "'' is no number"),
        ("2**99999", "'2**99999' is too large"),
        ("10**999999", "'10**999999' is too large"),
        ("1e999", "'1e999' is too large"),
        ("2**-99999", "'2**-99999' is too small"),
        ("0**-1", "'0**-1' divides by 0"),
        ("2**1" + "0" * 50_000, "is no number"),
        ("0.1," * 50_000, "has 200000 characters"),
        ("0.1," * 20_000, "has 20001 numbers; a grid has at most 10000"),
        ("0.1,0.1,0.2", "0.1 is in it twice"),
        ("1e-4:1:1000000000", "1000000000 numbers; a grid has at most 10000"),
        ("1:1:5", "its steps are all 1"),
        (
            "0.001:0.1",
            "do not end at 0.1, but at 0.064 or 0.128. Give one of them, or a number of steps, 0.001:0.1:8",
        ),
    ],
)
def test_a_bad_grid_says_what_is_wanted(text, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        lab.parse_grid(text, "rates")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["lr_grid_search", "--population.learning-rate", "0.5:0.1"], "0 < lowest <= highest"),
        (["lr_grid_search", "--population.learning-rate", ","], "empty"),
        (["lr_grid_search", "--population.learning-rate", "None"], "A grid search needs a grid"),
        (["lr_grid_search", "--population.seeds", "0"], "population.seeds is 0"),
        (["lr_grid_search", "--subset", "0"], "subset is 0; it must be at least 1"),
        (["lr_grid_search", "--subset", "2000"], "subset of digits train has 1 to 1259"),
        (["lr_range_test", "--population.weight-decay", "nonsense"], "--population.weight-decay"),
        (["lr_range_test", "--steps-per-decade", "1"], "would have 7 steps, and needs at least 20; give at least 4"),
        (["lr_range_test", "--highest", "1e38"], "highest at most 1e+37"),
        (["resnet", "--range-lowest", "1", "--range-highest", "0.1"], "wanted: 0 < lowest < highest"),
        (["lr_grid_search", "--population.seeds", "1000000000"], "population.seeds is 1000000000; it must be at most"),
        (
            ["lr_grid_search", "--population.learning-rate", "1e-4:1:1000", "--population.seeds", "1000"],
            "The population has 1000000 members; it can have at most 10000",
        ),
        (["resnet", "--epochs", "1000000000"], "epochs is 1000000000; it must be at most 1000000"),
        (["resnet", "--image-size", "1000000"], "image_size is 1000000; it must be at most 8192"),
        (["resnet", "--learning-rate", "1e39"], "learning_rate is 1e+39; it must be a number that float32 holds"),
        (["resnet", "--learning-rate", "1e-39"], "it must be a number that float32 holds"),
        (["resnet", "--optimizer", "optax:lionn"], "Did you mean lion?"),
        (["resnet", "--optimizer", "optax:scale_by_adam"], "There is no optimizer of optax"),
        (["resnet", "--schedule", "cosin"], "There is no schedule 'cosin'. Did you mean cosine?"),
        (["resnet", "--schedule", "plateau", "--final-rate", "1"], "on plateaus the rate falls"),
        (["gan", "--schedule", "plateau"], "players of a game have none"),
        (["universal_approximation", "--schedule", "plateau"], "there are none here"),
        (["universal_approximation", "--widths", "4", "4"], "give each once, the smallest first"),
        (["convergence_rate", "--l2", "1e30"], "l2 is 1e+30; it must be at least 0 and at most 1"),
        (["resnet", "--tta", "1000000000"], "tta is 1000000000; it must be at most 1000000"),
        (["resnet", "--population.learning-rate", "10**999999"], "'10**999999' is too large"),
        (["convergence_rate", "--l2", "10"], "l2 is 10.0; it must be at least 0 and at most 1"),
        (["convergence_rate", "--logged", "1"], "logged is 1; it must be at least 8"),
        (
            ["resnet", "--learning-rate=0.5", "--population.learning-rate", "0.01,0.02"],
            "--learning-rate has no effect: every member takes its own of --population.learning-rate 0.01,0.02",
        ),
        (
            ["vae", "--weight_decay", "0.5", "--population.weight_decay", "0.01,0.02"],
            "--weight-decay has no effect: every member takes its own of --population.weight-decay 0.01,0.02",
        ),
        (
            ["lr_grid_search", "--population.momentum", "0.5,0.9", "--momentum", "0.1"],
            "--momentum has no effect: every",
        ),
        (["resnet", "--learning-rate", "0.1", "--range-lowest", "0.01"], "--range-lowest has no effect: the learning"),
        (["vit", "--preset", "paper", "--range-steps-per-decade", "9"], "--range-steps-per-decade has no effect"),
        (
            ["resnet", "--population.learning-rate", "0.1,0.2", "--range-highest", "1"],
            "--range-highest has no effect: every member takes its own of --population.learning-rate 0.1,0.2",
        ),
        (["mlp", "--data-dir", "there"], "--data-dir has no effect: only data sets of the name tfds:"),
        (["depth", "--schedule", "constant", "--final-rate", "0.5"], "--final-rate has no effect: the schedule"),
        (["diffusion", "--rate-schedule", "constant", "--final-rate", "0.5"], "--final-rate has no effect"),
        (["diffusion", "--guidance", "1", "--rescale", "0.5"], "--rescale has no effect: guidance is 1"),
        (["diffusion", "--no-conditional", "--label-dropout", "0.5"], "--label-dropout has no effect"),
        (
            ["vae", "--features", "8"],
            "--features has no effect: the network is dense, and only a conv one has features",
        ),
        (["vae", "--network", "conv", "--hidden", "8"], "--hidden has no effect: the network is conv"),
        (["gan", "--penalty", "None", "--penalty-weight", "2"], "--penalty-weight has no effect: there is no penalty"),
        (["mlp", "--widths", "4", "16", "4"], "widths has 4 twice; give each once"),
        (["mlp", "--activations", "relu", "relu"], "activations has relu twice"),
        (["schedule_race", "--only", "cosine", "step", "cosine"], "only has cosine twice"),
        (["optimizer_race", "--only", "adam", "adam"], "only has adam twice"),
        (["compare", "--models", "linear", "mlp", "linear"], "models has linear twice"),
        (["resnet", "--optimizer", "sgd", "--momentum=0.5"], "--momentum has no effect: sgd has no momentum"),
        (
            ["mlp", "--optimizer", "optax:adagrad", "--population.momentum", "0.5,0.9"],
            "--population.momentum has no effect: optax:adagrad has no momentum",
        ),
        (["rnn_memory", "--networks", "rnn", "--forget-bias", "0"], "--forget-bias has no effect: only gru and lstm"),
        (["attention_lookup", "--scale=-1"], "scale is -1.0; it must be at least 0"),
        (["gan", "--batch-size", "1260"], "batch_size is 1260; digits has only 1259 train examples"),
        (["depth", "--batch-size", "1300"], "batch_size is 1300; digits has only 1259 train examples"),
        (["gan", "--optimizer", "newton_cg"], "newton_cg needs the loss as a function of the parameters, and a game"),
        (["gan", "--optimizer", "optax:sophia"], "optax:sophia needs the loss as a function of the parameters"),
        (["resnet", "--optimizer", "newton_cg", "--parallel", "pmap"], "the layout pmap has none to give"),
        (["diffusion", "--guidance", "1e39"], "guidance is 1e+39; it must be at most 3.4e38 in size"),
        (["gradient_descent", "--start-x=-1e39"], "start_x is -1e+39; it must be at most 1e+06 in size"),
        (["gradient_descent", "--start-y", "1e38"], "start_y is 1e+38; it must be at most 1e+06 in size"),
        (
            ["gradient_descent", "--condition", "1e38"],
            "condition is 1e+38; it must be greater than 1 and at",
        ),
        (["gradient_descent", "--start-x", "0", "--start-y", "0"], "which is the minimum: begin at least 1e-06 away"),
        (["lr_range_test", "--population.learning-rate", "0.1"], "--population.learning-rate"),
        (["lr_range_test", "--lowest", "0"], "lowest is 0.0; it must be positive"),
        (["resnet", "--population.seeds", "2", "--parallel", "pmap"], "its layout is jit"),
        (
            [
                "resnet",
                "--population.seeds",
                "2",
                "--population.chunk",
                "0",
                "--population.mode",
                "vmap",
                "--learning-rate",
                "0.1",
            ],
            "population.chunk is 0",
        ),
        (["convergence_rate", "--steps", "5"], "steps is 5; it must be at least 100"),
    ],
)
def test_mistakes_end_with_one_message(capsys, tmp_path, arguments, message):
    assert cli.main([*arguments, "--out", str(tmp_path / "run")]) == 2
    text = " ".join(capsys.readouterr().err.split())
    assert message in text
    assert "Traceback" not in text


def test_a_population_of_rates_and_seeds_trains_chooses_and_tests(tmp_path):
    quick = lab.override(resnet.PRESETS["smoke"], model="mlp", epochs=2)
    result = resnet.main(
        lab.override(quick, out=tmp_path, **{"population.learning_rate": "1e-4,0.05", "population.seeds": 2})
    )
    table = lab.read_csv(tmp_path / "members.csv")
    assert table["learning_rate"].tolist() == [1e-4, 1e-4, 0.05, 0.05]
    assert table["seed"].tolist() == [0, 1, 0, 1]
    assert result.metrics["learning_rate"] == 0.05
    assert result.metrics["validation_accuracy"] == pytest.approx(table["best_validation_accuracy"][2:].mean())
    assert result.metrics["members"] == 4
    # One member alone gives what it gave among others.
    single = resnet.main(lab.override(quick, learning_rate=0.05, seed=1, out=tmp_path / "single"))
    assert single.metrics["validation_accuracy"] == pytest.approx(table["best_validation_accuracy"][3])


def test_a_grid_search_takes_the_argmin_over_rates_and_its_figure_is_drawn_again_from_the_table(tmp_path):
    config = lab.override(
        lr_grid_search.PRESETS["smoke"],
        out=tmp_path,
        subset=200,
        **{"population.learning_rate": "2**-8:2**-1:4", "population.seeds": 2},
    )
    result = lr_grid_search.main(config)
    table = lab.read_csv(tmp_path / "grid_search.csv")
    medians = {
        rate: np.median(table["validation_loss"][table["learning_rate"] == rate]) for rate in table["learning_rate"]
    }
    assert result.metrics["learning_rate"] == min(medians, key=lambda rate: medians[rate])
    assert (
        result.metrics["learning_rate_low"] <= result.metrics["learning_rate"] <= result.metrics["learning_rate_high"]
    )
    assert lr_grid_search.draw(tmp_path).keys() == {"grid_search"}


def test_a_range_test_of_several_seeds_reports_their_spread(tmp_path):
    config = lab.override(
        lr_range_test.PRESETS["smoke"],
        preset="demo",  # smoke makes no claims
        model="mlp",
        steps_per_decade=20,
        out=tmp_path,
        **{"population.seeds": 3},
    )
    result = lr_range_test.main(config)
    assert result.metrics["suggestion_low"] <= result.metrics["suggestion"] <= result.metrics["suggestion_high"]
    table = lab.read_csv(tmp_path / "range_test.csv")
    assert list(table) == ["learning_rate", "loss_seed0", "loss_seed1", "loss_seed2"]
    assert json.loads((tmp_path / "result.json").read_text())["claims"]


def test_a_range_that_ends_within_the_descent_goes_on_by_itself_and_claims_nothing(tmp_path):
    # A smoke preset claims nothing anyway.
    config = lab.override(lr_range_test.DEMO, model="mlp", steps_per_decade=20, **{"population.seeds": 1})
    whole = lr_range_test.main(lab.override(config, out=tmp_path / "whole"))
    short = lr_range_test.main(lab.override(config, highest=0.001, out=tmp_path / "short"))
    later = lr_range_test.main(lab.override(config, highest=0.01, out=tmp_path / "later"))
    assert whole.metrics["range_extended"] == 0
    assert whole.claims
    assert short.metrics["range_extended"] == 1
    assert short.metrics["highest_rate"] > 0.1
    assert not short.claims
    assert later.metrics["range_extended"] == 1
    assert not later.claims
    for each in (short, later):
        assert each.metrics["suggestion"] == pytest.approx(whole.metrics["suggestion"], rel=0.5)
    both = [lab.read_csv(tmp_path / name / "range_test.csv") for name in ("whole", "short")]
    np.testing.assert_allclose(both[1]["learning_rate"][:80], both[0]["learning_rate"][:80], rtol=1e-5)
    assert lr_range_test.draw(tmp_path / "short").keys() == {"range_test"}


@pytest.mark.parametrize("name", lab.SCHEDULE_NAMES)
def test_every_schedule_moves_in_its_first_step_whatever_its_warmup_and_its_end(name):
    if name == "plateau":
        return
    steps = np.arange(40)

    def rates(**options):
        make = lab.schedule_of(name, lab.ScheduleOptions(**options), 40, 10)
        return np.asarray(make({"learning_rate": 0.3})(steps))

    for found in (rates(), rates(warmup_fraction=0.25), rates(final_rate=0.5)):
        assert (found > 0).all()
        assert found.max() <= 0.3 + 1e-7
    assert rates(final_rate=0.5)[-1] >= 0.15
    assert rates(final_rate=1.0)[-1] == pytest.approx(0.3)
    warmed = rates(warmup_fraction=0.25)
    np.testing.assert_allclose(warmed[:10], warmed[10] * np.arange(1, 11) / 10, rtol=1e-5)
    if name == "warmup_cosine":
        np.testing.assert_allclose(rates(), lab.warmup_cosine(40)({"learning_rate": 0.3})(steps), rtol=1e-5)
        np.testing.assert_allclose(rates()[0], 0.3 / 4, rtol=1e-6)


@pytest.mark.parametrize("seeds", [1, 2])
def test_a_range_test_leaves_the_training_after_it_unchanged_to_the_bit(tmp_path, seeds):
    population = lab.SeedsOptions(seeds=seeds, mode="vmap")
    swept = lab.RangeTestOptions(None, 1e-4, 1.0, 10)
    with lab.open_run("resnet", lab.override(resnet.Config(), out=tmp_path), resnet.PRESETS) as run:

        def trained(before):
            training = lab.classification(
                data=lab.DataOptions(),
                model="mlp",
                batch=lab.BatchOptions(),
                optimizer=lab.OptimizerOptions(),
                update=lab.UpdateOptions(),
            ).training
            before(training)
            start = training.start(
                training.members(0.1, population),
                lambda hyper: schedules.constant(hyper["learning_rate"]),
                10,
                population=lab.population_of(population),
            )
            state, _ = start.feed.advance(start.layout.place_state(start.state), 0, 10)
            return start.layout.state(state)

        without = trained(lambda training: None)
        after = trained(lambda training: lab.range_test(run, training, swept, population))
    assert (tmp_path / "range_test.csv").exists()
    same = jax.tree.map(lambda x, y: bool((x == y).all()), after, without)
    assert all(jax.tree.leaves(same))
