"""Grids on the command line, and what a population leaves behind."""

import json

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
        ("0.1:0.5", [0.1, 0.2, 0.4]),
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
    ],
)
def test_a_bad_grid_says_what_is_wanted(text, message):
    with pytest.raises(ValueError, match=message.replace("(", r"\(")):
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
