"""Composed configs seen flat, and what older versions wrote."""

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import pytest
from etude import errors, lab

OLD = Path(__file__).parent / "config_of_the_first_version.json"  # of resnet's smoke run


@dataclass(frozen=True)
class Part:
    """A group with a prefix, and an option that older runs lack."""

    PREFIX: ClassVar[str] = "part."
    BEFORE: ClassVar[Mapping[str, Any]] = {"late": 1.0}

    kind: Literal["a", "b"] = "a"
    """Kind of the part."""
    late: Annotated[float, lab.NON_NEGATIVE] = 2.0
    """Weight of what came later."""


@dataclass(frozen=True)
class Config:
    """A small config."""

    REMOVED: ClassVar[Mapping[str, Any]] = {"gone": 0, "idle": ...}

    run: lab.RunOptions = lab.RunOptions()
    part: Part = Part()
    size: int = 3
    """Number of units,
    on two lines."""
    folder: Path | None = None
    """Folder of something."""
    rates: tuple[float, ...] = (0.1,)
    """Rates of something."""


PRESETS = {"demo": Config(), "smoke": lab.override(Config(), preset="smoke", size=1)}


def test_options_are_flat_with_their_help_and_title():
    size, kind = (next(o for o in lab.options_of(Config) if o.name == name) for name in ("size", "part.kind"))
    assert (size.help, size.title, size.default) == ("Number of units, on two lines.", "", 3)
    assert (kind.help, kind.title, kind.path) == ("Kind of the part.", "part", ("part", "kind"))


def test_every_shared_option_has_a_sentence_that_begins_with_a_capital_and_ends_with_a_stop():
    groups = [getattr(lab, name) for name in lab.__all__ if name.endswith("Options")]
    assert len(groups) > 20
    for group in groups:
        for option in lab.options_of(group):
            assert option.help[:1].isupper(), (group, option.name)
            assert option.help.endswith("."), (group, option.name)


def test_two_options_of_one_name_are_a_defect():
    @dataclass(frozen=True)
    class Twice:
        data: lab.DataOptions = lab.DataOptions()
        image_size: int = 3

    with pytest.raises(TypeError, match="two options named image_size"):
        lab.options_of(Twice)


def test_override_finds_the_group_of_an_option():
    changed = lab.override(Config(), **{"part.kind": "b"}, size=5, name="x")
    assert changed == Config(run=lab.RunOptions(name="x"), part=Part(kind="b"), size=5)
    assert lab.override(Config(), part=Part(late=7.0)).part.late == 7.0
    with pytest.raises(TypeError, match=r"no option sise; did you mean size\?"):
        lab.override(Config(), sise=5)


def read(tmp_path, **flat):
    (tmp_path / "config.json").write_text(json.dumps({"experiment": "small", **flat}))
    return lab.read_config(tmp_path, Config, PRESETS, experiment="small")


def test_what_was_written_is_read(tmp_path):
    config = Config(run=lab.RunOptions("smoke"), part=Part("b", 0.5), size=9, folder=tmp_path, rates=(1.0, 2.0))
    flat = lab.to_json(config)
    assert read(tmp_path, **flat) == config


def test_an_option_that_a_file_lacks_has_the_value_from_before_there_was_one(tmp_path):
    assert read(tmp_path, preset="smoke") == lab.override(PRESETS["smoke"], **{"part.late": 1.0})
    assert read(tmp_path, preset="demo", **{"part.late": 3}).part.late == 3.0


def test_an_option_that_is_no_more_is_dropped_where_it_changed_nothing(tmp_path):
    assert read(tmp_path, gone=0, idle="anything").size == 3
    with pytest.raises(errors.InputError, match=r"gone 4\. There is no such option any more; only 0 can be read"):
        read(tmp_path, gone=4)


@pytest.mark.parametrize(
    ("flat", "message"),
    [
        ({"sise": 3}, "has sise, and there is no such option here. Did you mean size?"),
        ({"size": "three"}, "has size 'three'; wanted a whole number."),
        ({"size": True}, "wanted a whole number"),
        ({"size": 3.5}, "wanted a whole number"),
        ({"rates": 0.1}, "wanted a list"),
        ({"rates": ["fast"]}, "wanted a number"),
        ({"folder": 3}, "wanted a path or null"),
        ({"part.kind": "c"}, "wanted one of a, b"),
        ({"part.late": -1}, "part.late is -1.0; it must be at least 0"),
        ({"experiment": "other"}, "is of other, not of small"),
    ],
)
def test_a_file_that_is_wrong_says_so_in_one_message(tmp_path, flat, message):
    with pytest.raises(errors.InputError) as error:
        read(tmp_path, **flat)
    assert message in str(error.value)


def test_a_damaged_file_is_no_config(tmp_path):
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(errors.InputError, match="damaged"):
        lab.read_config(tmp_path, Config, PRESETS)


def test_a_config_of_the_first_version_reads_into_the_groups_of_today():
    groups = {
        "run": lab.RunOptions,
        "random": lab.RandomOptions,
        "data": lab.DataOptions,
        "batch": lab.BatchOptions,
        "accumulation": lab.AccumulationOptions,
        "model": lab.ModelOptions,
        "drop": lab.DropOptions,
        "loss": lab.LossOptions,
        "augmentation": lab.AugmentationOptions,
        "mixing": lab.MixingOptions,
        "views": lab.ViewOptions,
        "optimizer": lab.OptimizerOptions,
        "update": lab.UpdateOptions,
        "rate": lab.RangeTestOptions,
        "schedule": lab.ScheduleOptions,
        "training": lab.TrainingOptions,
        "averaging": lab.AveragingOptions,
        "stopping": lab.StoppingOptions,
        "precision": lab.PrecisionOptions,
        "layout": lab.LayoutOptions,
        "grid": lab.GridOptions,
        "population": lab.SeedsOptions,
    }
    config = dataclasses.make_dataclass(
        "All", [(name, group, dataclasses.field(default=group())) for name, group in groups.items()], frozen=True
    )
    found = lab.read_config(OLD, config, {}, experiment="resnet")
    written = json.loads(OLD.read_text())
    written.pop("experiment")
    assert lab.to_json(found) == {**written, "final_rate": 0.0, "class_weights": "none", "name": None, "out": None}
