"""The options that experiments share, in groups small enough that an experiment can use all of a group it has.

A group is a frozen dataclass; the sentence below a field is its help, the notes in its type say which values are valid,
and `config` says what the class variables mean. What belongs to one subject alone stands beside that subject: the run's
place in `run`, augmentation in `augmentation`. No function takes a group that it uses only a part of.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from .. import data as sources
from .. import schedules, train
from ..data import NO_PROGRESS, Report
from .cache import cache_folder
from .valid import COUNT, FRACTION, NON_NEGATIVE, POSITIVE, PROPER_FRACTION, SEED, Choice, Grid, at_least

Feed = Literal["auto", "resident", "stream"]
RANGE = ("range_lowest", "range_highest", "range_steps_per_decade")  # options of a range test that finds the rate
SCHEDULE_NAMES = (*schedules.SCHEDULES, "warmup_linear", "warmup_cosine", "plateau")


@dataclass(frozen=True, eq=False)  # types hash their notes
class OptimizerName(Choice):
    """A name of our table, or of one of optax's."""

    @property
    def metavar(self) -> str:
        """Our names, and how optax's are written."""
        return f"{super().metavar}|optax:NAME"

    def check(self, name: str, value: Any) -> None:
        """Raises InputError if a name, or one of several, is in none of the tables."""
        del name
        for each in value if isinstance(value, tuple) else (value,):
            train.optimizer_named(each)


@dataclass(frozen=True)
class RandomOptions:
    """What is random."""

    TITLE: ClassVar[str] = ""

    seed: Annotated[int, SEED] = 0
    """Seed of initialization, order of examples and all other randomness; the splits do not depend on it."""


@dataclass(frozen=True)
class DataOptions:
    """Where examples come from."""

    TITLE: ClassVar[str] = "data"

    data: str = "digits"
    """Data set: digits (embedded), tfds:<name> (prepared by TensorFlow Datasets) or folder:<path>."""
    data_dir: Path | None = None
    """Folder of prepared TensorFlow data sets; by default the one that TensorFlow Datasets uses."""
    image_size: Annotated[int | None, at_least(1, sources.MOST_PIXELS_PER_SIDE)] = None
    """Side in pixels to which images are resized and cropped; by default they keep their size, which must be one."""

    @property
    def without_effect(self) -> Mapping[str, str]:
        """Options that have no effect beside these data, each with the reason."""
        return {} if self.data.startswith("tfds:") else {"data_dir": "only data sets of the name tfds:… are read there"}

    def load(self, split: str, report: Report = NO_PROGRESS) -> sources.Source:
        """Same as `lab.load`."""
        return sources.load(
            self.data,
            split,
            data_dir=self.data_dir,
            image_size=self.image_size,
            memory=cache_folder("folders"),
            report=report,
        )


@dataclass(frozen=True)
class TextOptions:
    """Where texts come from, and what their tokens are."""

    TITLE: ClassVar[str] = "data"
    WANTED: ClassVar[str] = "text"

    data: str = "dates_en_cs"
    """Set of texts: dates_en_cs (embedded), multi30k_en_cs or sentiment (etude prepare makes them), tfds:<name>,
    tsv:<path> for a table of one's own, or text:<path> and paragraphs:<path> for plain text."""
    data_dir: Path | None = None
    """Folder of prepared sets; by default the one that TensorFlow Datasets uses."""
    tokenizer: Annotated[str, Choice("tokenizer", sources.text.KINDS)] = "subwords"
    """Kind of tokens: bytes of UTF-8, characters, or subwords, which are learned from the training split."""
    vocab_size: Annotated[int, COUNT] = 8000
    """Largest number of different subwords."""
    row_tokens: Annotated[int, at_least(2, 100_000)] = 128
    """Number of tokens of a row, and so of the longest text; several short ones share a row."""

    @property
    def without_effect(self) -> Mapping[str, str]:
        """Options that have no effect beside these, each with the reason."""
        read = self.data.startswith("tfds:") or self.data.partition("#")[0] in sources.text.prepare.SETS
        told = {} if read else {"data_dir": "only prepared sets are read there"}
        if self.tokenizer != "subwords":
            told["vocab_size"] = f"{self.tokenizer} are as many as there are"
        return told

    def load(self, split: str, report: Report = NO_PROGRESS) -> sources.text.Texts:
        """Same as `lab.load`."""
        del report
        return sources.text.load(self.data, split, wanted=self.WANTED, data_dir=self.data_dir)


@dataclass(frozen=True)
class PairOptions(TextOptions):
    """Where pairs of a text and its translation come from, and what their tokens are."""

    WANTED: ClassVar[str] = "pairs"


@dataclass(frozen=True)
class LabeledTextOptions(TextOptions):
    """Where texts with labels come from, and what their tokens are."""

    WANTED: ClassVar[str] = "labels"


@dataclass(frozen=True)
class BatchOptions:
    """What a training step sees."""

    TITLE: ClassVar[str] = "batch"

    batch_size: Annotated[int, COUNT] = 64
    """Number of examples in a training step, of all devices together."""
    feed: Feed = "auto"
    """Place of the examples: resident on the devices, or streamed to them; auto decides by their size."""

    @property
    def resident(self) -> bool | None:
        """`feed` in the words of `train.feed`."""
        return {"auto": None, "resident": True, "stream": False}[self.feed]


@dataclass(frozen=True)
class AccumulationOptions:
    """How many parts a step's batch is cut into."""

    TITLE: ClassVar[str] = "batch"

    accumulate: Annotated[int, COUNT] = 1
    """Number of equal parts into which a batch is cut, to save memory; their gradients are added up."""


@dataclass(frozen=True)
class ModelOptions:
    """Which network is trained."""

    TITLE: ClassVar[str] = "model"

    model: str = "resnet8"
    """Name of the network, such as resnet20, resnet50 or vit_tiny_patch4_32; etude models lists all."""


@dataclass(frozen=True)
class SizeOptions:
    """How large a network that reads texts is."""

    TITLE: ClassVar[str] = "model"

    width: Annotated[int | None, COUNT] = None
    """Width of the tokens and of all layers; by default each network's own."""
    depth: Annotated[int | None, COUNT] = None
    """Number of layers or blocks, of translators in the encoder and in the decoder each; by default each network's
    own."""
    dropout: Annotated[float | None, PROPER_FRACTION] = None
    """Dropout rate; by default each network's own."""


@dataclass(frozen=True)
class DropOptions:
    """What a network drops at random in training."""

    TITLE: ClassVar[str] = "model"

    dropout: Annotated[float | None, PROPER_FRACTION] = None
    """Rate of dropout, such as 0.1, where the network has it; by default its own."""
    drop_path: Annotated[float | None, PROPER_FRACTION] = None
    """Rate of stochastic depth in the last block, such as 0.1, where the network has it; by default its own."""


@dataclass(frozen=True)
class LossOptions:
    """What a classifier's loss is."""

    TITLE: ClassVar[str] = "model"

    label_smoothing: Annotated[float, PROPER_FRACTION] = 0.0
    """Probability that the training target moves from the label to all classes alike, such as 0.1."""
    class_weights: Literal["none", "balanced"] = "none"
    """Weights of the classes in the training loss: balanced lets all classes count alike, however rare."""


@dataclass(frozen=True)
class OptimizerOptions:
    """Which optimizer takes the steps."""

    TITLE: ClassVar[str] = "optimizer"

    optimizer: Annotated[str, OptimizerName("optimizer", train.OPTIMIZERS)] = "nesterov"
    """Name of the optimizer, or optax:NAME for any of optax's, such as optax:lion; sgd is without momentum."""

    @property
    def without_effect(self) -> Mapping[str, str]:
        """Options that have no effect beside this optimizer, each with the reason: a flag that names one is refused."""
        if train.takes_momentum(self.optimizer):
            return {}
        return dict.fromkeys(("momentum", "population.momentum"), f"{self.optimizer} has no momentum")


@dataclass(frozen=True)
class UpdateOptions:
    """What optimizers have besides the learning rate."""

    TITLE: ClassVar[str] = "optimizer"

    momentum: Annotated[float, PROPER_FRACTION] = 0.9
    """Momentum of momentum, nesterov and shampoo; the first moment's decay rate for adam, nadam, adamw and those of
    optax that have one; others have none."""
    weight_decay: Annotated[float, NON_NEGATIVE] = 5e-4
    """Weight decay of all parameters but biases, normalization scales, learned positions and class tokens."""
    clip_norm: Annotated[float | None, POSITIVE] = None
    """Largest norm of a gradient, such as 1; by default gradients are not clipped."""


@dataclass(frozen=True)
class RateOptions:
    """How large the steps are."""

    TITLE: ClassVar[str] = "schedule"

    learning_rate: Annotated[float, POSITIVE] = 1e-3
    """Peak learning rate."""


@dataclass(frozen=True)
class RangeTestOptions:
    """How large the steps are, or how the range test finds that out."""

    TITLE: ClassVar[str] = "schedule"

    learning_rate: Annotated[float | None, POSITIVE] = None
    """Peak learning rate; by default the suggestion of a range test."""
    range_lowest: Annotated[float, POSITIVE] = 1e-4
    """Learning rate of the range test's first step."""
    range_highest: Annotated[float, POSITIVE] = 10.0
    """Learning rate of the range test's last step; it goes on by itself where the loss still falls there."""
    range_steps_per_decade: Annotated[int, at_least(1, 10_000)] = 30
    """Number of steps in which the range test raises its learning rate tenfold."""

    @property
    def without_effect(self) -> Mapping[str, str]:
        """Options of the range test, beside a learning rate that is given."""
        if self.learning_rate is None:
            return {}
        return dict.fromkeys(RANGE, f"the learning rate is {self.learning_rate:g}; --learning-rate None has it found")


@dataclass(frozen=True)
class ShapeOptions:
    """How the learning rate changes."""

    TITLE: ClassVar[str] = "schedule"

    schedule: Annotated[str, Choice("schedule", SCHEDULE_NAMES)] = "warmup_cosine"
    """Name of the schedule of the learning rate."""

    @property
    def without_effect(self) -> Mapping[str, str]:
        """Options that have no effect beside this schedule, each with the reason."""
        return without_end(self.schedule)


def without_end(schedule: str) -> Mapping[str, str]:
    """The option that has no effect beside a schedule that never falls, with the reason."""
    return {"final_rate": "the schedule constant keeps the peak"} if schedule == "constant" else {}


@dataclass(frozen=True)
class ScheduleOptions:
    """How a schedule begins and ends."""

    TITLE: ClassVar[str] = "schedule"
    BEFORE: ClassVar[Mapping[str, Any]] = {"final_rate": 0.0}

    warmup_fraction: Annotated[float | None, PROPER_FRACTION] = None
    """Fraction of the steps in which the learning rate rises linearly to where the schedule starts; by default 0.1 for
    schedules named warmup_…, and 0 for the others."""
    final_rate: Annotated[float, FRACTION] = 0.0
    """Fraction of the peak learning rate that a schedule falls to where it would fall to 0; 1 keeps the peak."""


@dataclass(frozen=True)
class TrainingOptions:
    """How long training takes."""

    TITLE: ClassVar[str] = "training"

    epochs: Annotated[int, COUNT] = 40
    """Number of passes through the training split."""


@dataclass(frozen=True)
class AveragingOptions:
    """Which variables are used after training."""

    TITLE: ClassVar[str] = "training"

    ema_decay: Annotated[float | None, PROPER_FRACTION] = None
    """Decay rate of the moving average of the variables that is used after training, such as 0.999; by default none."""


@dataclass(frozen=True)
class StoppingOptions:
    """When training stops early, and what it saves on the way."""

    TITLE: ClassVar[str] = "training"

    patience: Annotated[int | None, COUNT] = None
    """Number of epochs without a better validation accuracy after which training stops; by default it never does."""
    checkpoint_every: Annotated[int | None, COUNT] = None
    """Number of steps between checkpoints, besides the one after an epoch; by default none."""


@dataclass(frozen=True)
class PrecisionOptions:
    """In which numbers a network computes."""

    TITLE: ClassVar[str] = "compute"

    dtype: Literal["float32", "bfloat16"] = "float32"
    """Data type of activations and gradients; parameters stay float32."""


@dataclass(frozen=True)
class LayoutOptions:
    """How a run is spread over devices."""

    TITLE: ClassVar[str] = "compute"

    parallel: Annotated[str, Choice("layout", train.LAYOUTS)] = "jit"
    """Layout: one device (jit), a batch spread over all devices (data), the state too (fsdp), or replicas (pmap)."""

    @property
    def many_devices(self) -> bool:
        """Whether every CPU core should be a device."""
        return self.parallel != "jit"


@dataclass(frozen=True)
class SeedsOptions:
    """Members trained at once, one for each seed."""

    PREFIX: ClassVar[str] = "population."
    TITLE: ClassVar[str] = "population"

    seeds: Annotated[int, at_least(1, 10_000)] = 1
    """Number of seeds, counted up from --seed, that train at once."""
    chunk: Annotated[int | None, COUNT] = None
    """Largest number of members at a time on each device, under vmap, where memory is short; by default all."""
    mode: Literal["auto", "vmap", "map", "devices"] = "auto"
    """Order of the members: all at once (vmap), one after another (map), or one at a time on each device (devices);
    auto measures which is fastest."""

    @property
    def many_devices(self) -> bool:
        """Whether every CPU core should be a device."""
        return self.seeds != 1


@dataclass(frozen=True)
class GridOptions:
    """Hyperparameters that members differ by, instead of the values of a single run."""

    PREFIX: ClassVar[str] = "population."
    TITLE: ClassVar[str] = "population"

    learning_rate: Annotated[str | None, Grid(POSITIVE)] = None
    """Peak learning rates of the members; by default that of a single run."""
    weight_decay: Annotated[str | None, Grid(NON_NEGATIVE)] = None
    """Weight decays of the members; by default the one of --weight-decay."""
    momentum: Annotated[str | None, Grid(PROPER_FRACTION)] = None
    """Momenta of the members; by default the one of --momentum."""

    @property
    def without_effect(self) -> Mapping[str, str]:
        """Options whose place a grid takes, or that would find its rates, each with the reason."""
        varied = [name for name in ("learning_rate", "weight_decay", "momentum") if getattr(self, name) is not None]
        told = {name: f"--population.{name.replace('_', '-')} {getattr(self, name)}" for name in varied}
        if self.learning_rate is not None:
            told |= dict.fromkeys(RANGE, told["learning_rate"])
        return {name: f"every member takes its own of {grid}; leave one of them out" for name, grid in told.items()}

    @property
    def active(self) -> bool:
        """Whether members differ by more than their seeds."""
        return any(values is not None for values in (self.learning_rate, self.weight_decay, self.momentum))

    @property
    def many_devices(self) -> bool:
        """Whether every CPU core should be a device."""
        return self.active


# For the REMOVED of experiments whose members differ by their seeds alone: once they had a grid, and refused it.
NO_GRID: Mapping[str, Any] = {f"population.{name}": None for name in ("learning_rate", "weight_decay", "momentum")}

LEAST_SAMPLES = 4  # an example and its three nearest neighbors, which `metrics.precision_recall` needs


@dataclass(frozen=True)
class JudgeOptions:
    """Who judges generated images, and how many."""

    TITLE: ClassVar[str] = "judge"

    judge: str = "resnet9_8"
    """Name of the classifier that judges the images; its features are those of the distances."""
    judge_epochs: Annotated[int, COUNT] = 20
    """Number of passes through the training split that train the judge."""
    samples: Annotated[int, at_least(LEAST_SAMPLES)] = 359
    """Number of images that are judged, at most as many as the test split has."""
