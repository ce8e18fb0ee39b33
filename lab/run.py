"""The frame of an experiment: its run folder, its terminal, and the report it ends with.

    def main(config: Config) -> Result:
        with open_run(__file__, config, PRESETS) as run:
            if run.result:
                return run.result
            ...
            return run.finish({"test_accuracy": 0.98}, {"learning_curves": figure}, [Claim(...)])

`open_run` is the only place that reads `RunOptions`. It checks every option, opens the folder, and tells a finished run
from one to begin or to go on with.
"""

from __future__ import annotations

import dataclasses
import hashlib
import math
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Protocol, TypeVar

import jax

from .. import plots
from ..data import Source
from ..data.text import Texts
from ..errors import InputError, listed, unknown_name, writing
from ..train import Checkpoints, Display, Journal, Stopped, open_console
from .config import check, from_json, options_of, read_json, to_json
from .folder import read_result, run_folder, write_json
from .training import load

NOTES = "notes.json"


@dataclass(frozen=True)
class RunOptions:
    """Which run it is, and where it is kept."""

    TITLE: ClassVar[str] = ""

    preset: str = "demo"
    """Preset of all other options: smoke takes seconds, demo minutes on 2 CPU cores, paper is the published setting."""
    name: str | None = None
    """Name of the run; by default the preset and all that differs from it."""
    out: Path | None = None
    """Folder of the run; by default runs/<experiment>/<name>."""


class Composed(Protocol):
    """A config of an experiment that has runs."""

    @property
    def run(self) -> RunOptions: ...


C = TypeVar("C", bound=Composed)
SMOKE = "smoke"  # the preset that shows that a run ends; what its numbers decide, nobody should read


@dataclass(frozen=True)
class Claim:
    """A sentence that a number decides."""

    name: str
    """What is claimed."""
    value: float
    """The number that was measured."""
    target: str
    """What the number should be, such as "< 0.9"."""
    holds: bool
    """Whether it is so."""


@dataclass(frozen=True)
class Result:
    """How a run ended."""

    folder: Path
    """Where its files are."""
    metrics: Mapping[str, float]
    """Its numbers, by name."""
    claims: Sequence[Claim]
    """What the numbers decide."""
    figures: Sequence[str]
    """Paths of its figures, relative to the folder."""
    classes: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    """Numbers of each class of a classifier."""
    notes: Sequence[str] = ()
    """What was not as usual: a fallback that was used, files that were left out."""


@dataclass(frozen=True)
class Run:
    """An open run."""

    folder: Path
    """Where its files go."""
    display: Display
    """What is shown of it."""
    result: Result | None
    """The result of a finished run, else None."""
    about: str = ""
    """What is known before anything is built: the data and the devices."""
    preset: str = ""
    """Its preset."""
    journal: Journal = field(init=False)
    """Its record of metrics."""
    _introduced: list[int] = field(default_factory=list, init=False)

    def __post_init__(self):
        object.__setattr__(self, "journal", Journal(self.folder, display=self.display, note=self.note))

    def checkpoints(self) -> Checkpoints:
        """The run's checkpoints."""
        return Checkpoints(self.folder / "checkpoints", warn=self.note)

    def introduce(self, parameters: int) -> None:
        """Says in one line what is about to train: the data, the devices, the number of parameters. Only once."""
        if not self._introduced:
            self._introduced.append(parameters)
            self.display.say(f"{self.about} · {parameters:,} parameters")

    def note(self, sentence: str) -> None:
        """Says what is not as usual, such as a fallback; `result.json` will have it, whichever start ends the run."""
        self.display.say(sentence)
        kept = read_notes(self.folder)
        if sentence not in kept:
            write_json(self.folder / NOTES, {"notes": [*kept, sentence]})

    def part(self, name: str) -> Run:
        """One of several trainings of this run, with its own folder, journal and checkpoints."""
        folder = self.folder / name
        with writing(folder):
            folder.mkdir(exist_ok=True)
        return Run(folder, self.display, None, self.about, self.preset)

    def finish(
        self,
        metrics: Mapping[str, float],
        figures: Mapping[str, plots.Figure],
        claims: Sequence[Claim] = (),
        classes: Mapping[str, Mapping[str, float]] | None = None,
    ) -> Result:
        """Writes the figures and, last, `result.json`: from then on the run is done.

        Args:
          metrics: numbers by name. One that is NaN, such as the mean over large objects of a split without them, is
            left out, and a note says so.
          figures: by the name of their files.
          claims: what the numbers decide; a run of the preset smoke makes none.
          classes: numbers of each class, of a classifier.
        """
        claims = () if self.preset == SMOKE else claims
        undefined = [name for name, number in metrics.items() if math.isnan(number)]
        if undefined:
            self.note(f"Not defined on this data: {', '.join(undefined)}.")
        defined = {name: number for name, number in metrics.items() if name not in undefined}
        self.display.note("drawing …")
        paths = save_figures(figures, self.folder)
        notes = [note for folder in (self.folder, *sorted(self.folder.glob("*/"))) for note in read_notes(folder)]
        result = Result(self.folder, defined, tuple(claims), tuple(paths), classes or {}, tuple(notes))
        content = {"metrics": result.metrics, "claims": [dataclasses.asdict(c) for c in claims], "figures": paths}
        if classes:
            content["classes"] = classes
        if notes:
            content["notes"] = notes
        write_json(self.folder / "result.json", content)
        self.display.close()
        _report(result, self.display)
        return result


def read_notes(folder: Path) -> list[str]:
    """What starts of a run have noted so far."""
    file = folder / NOTES
    return list(read_json(file).get("notes", [])) if file.exists() else []


def save_figures(figures: Mapping[str, plots.Figure], folder: Path) -> list[str]:
    """Writes figures/<name>.png and .pdf into a run's folder; returns the paths of the .png, relative to it."""
    target = folder / "figures"
    if target.is_symlink():
        raise InputError(f"{target} is a link; figures are written into the run's folder alone. Remove the link.")
    with writing(target):
        target.mkdir(exist_ok=True)
        for name, figure in figures.items():
            for suffix in (".png", ".pdf"):
                # Written beside and then renamed: a file that stands there as a link is replaced, not what it leads to.
                with tempfile.TemporaryDirectory(dir=target) as partial:
                    plots.save(figure, Path(partial) / f"{name}{suffix}")
                    (Path(partial) / f"{name}{suffix}").replace(target / f"{name}{suffix}")
    return [f"figures/{name}.png" for name in figures]


@contextmanager
def open_run(experiment: str, config: C, presets: Mapping[str, C] | None = None) -> Iterator[Run]:
    """Opens the folder of a run, alone.

    Args:
      experiment: its name, or the file that it is in (`__file__`), whose name without .py is the experiment's.
      config: the run's config.
      presets: those of the experiment, by name; what differs from the config's preset names the run.
    Raises: InputError if an option has a value that is not valid, there is no such preset, the folder is taken, of
      another config, or not writable, or memory runs out inside the block.
    """
    presets, name = presets or {}, Path(experiment).stem
    check(config)
    if presets and config.run.preset not in presets:
        raise unknown_name("preset", config.run.preset, presets)
    values = _values(config)
    default = presets.get(config.run.preset) or type(config)()
    chosen = config.run.name
    if chosen is None:
        chosen = _run_name(config.run.preset, values, _values(default))
    folder = config.run.out or Path("runs") / name / _one_component(chosen)
    finished = read_result(folder) is not None

    def reread(file: Path) -> dict[str, Any]:
        there = read_json(file)
        return {"experiment": there.pop("experiment", None), **_values(from_json(there, type(config), presets, file))}

    with Display(open_console()) as display:
        sources = _sources(config, display, needed=not finished)
        contents = sources["train"].contents if sources else None
        with run_folder(folder, {"experiment": name, **values}, reread, contents) as folder:
            result = _finished_result(folder)
            if result is not None:
                display.say(f"This run is finished; delete {folder} to run it again.")
                _report(result, display)
            run = Run(folder, display, result, _describe(sources), config.run.preset)
            if result is None:
                display.note("setting up …")
                for note in sources["train"].notes if sources else ():
                    run.note(note)
            with _ends_in_words(folder):
                yield run


@contextmanager
def _ends_in_words(folder: Path) -> Iterator[None]:
    """An interrupt in the block says what the folder keeps; a lack of memory becomes an InputError."""
    try:
        yield
    except KeyboardInterrupt as error:
        if isinstance(error, Stopped):
            raise
        raise KeyboardInterrupt(_kept(folder)) from None
    except (MemoryError, jax.errors.JaxRuntimeError) as error:
        if isinstance(error, jax.errors.JaxRuntimeError) and "out of memory" not in str(error).lower():
            raise
        raise InputError(
            f"This needs more memory than there is ({(str(error) or 'of the host').splitlines()[0]}). "
            "Give a smaller network, batch, image size or population."
        ) from error


def _one_component(name: str) -> str:
    """The name of a run, which is that of one folder.

    Raises: InputError if it would lead elsewhere, or no file system takes it.
    """
    if name in ("", ".", "..") or any(c in "/\\" or not c.isprintable() for c in name) or len(name.encode()) > 200:
        raise InputError(
            f"name is {name!r}; it must name one folder: printable characters without / and \\, at most 200 bytes. "
            "--out DIR puts a run elsewhere."
        )
    return name


def _sources(config: Any, display: Display, *, needed: bool) -> dict[str, Source | Texts]:
    """The splits of the data that a config names; {} if it names none, or they are not needed and not there."""
    if "data" not in (option.name for option in options_of(config)):
        return {}

    def report(done: int, total: int) -> None:
        display.note(f"checking {config.data.data} … {done:,}/{total:,} files")

    display.note(f"reading {config.data.data} …")
    try:
        return {split: load(config.data, split, report) for split in ("train", "validation", "test")}
    except InputError:
        if needed:
            raise
        return {}


def _describe(sources: Mapping[str, Source | Texts]) -> str:
    """One line on the data and the devices."""
    devices = jax.devices()
    parts = [f"{len(devices)} {'device' if len(devices) == 1 else 'devices'} ({devices[0].device_kind})"]
    if sources:
        source = sources["train"]
        counts = ", ".join(f"{len(each):,} {name}" for name, each in sources.items())
        if isinstance(source, Texts):
            shapes = " and ".join(source.columns)
        else:
            spec = source.element_spec
            shown = {"image": spec["image"]} if "image" in spec else spec
            shapes = ", ".join("×".join(map(str, each.shape)) for each in shown.values() if each.shape)
            if "boxes" in spec:
                shapes += f", up to {spec['boxes'].shape[0]} objects"
        parts = [source.name, *([f"{len(source.classes)} classes"] if source.classes else []), counts, shapes, *parts]
    return " · ".join(parts)


def _finished_result(folder: Path) -> Result | None:
    done = read_result(folder)
    if done is None:
        return None
    try:
        claims = tuple(Claim(**claim) for claim in done.get("claims", ()))
        classes, notes = done.get("classes", {}), tuple(done.get("notes", ()))
        return Result(folder, done["metrics"], claims, tuple(done.get("figures", ())), classes, notes)
    except TypeError as error:
        raise InputError(f"{folder / 'result.json'} is damaged: {error}. Remove it to have it written again.") from None


def _kept(folder: Path) -> str:
    """What an interrupted run can go on from."""
    steps = sorted(int(path.name) for path in folder.glob("**/checkpoints/[0-9]*") if path.name.isdigit())
    saved = f"the checkpoint of step {steps[-1]}" if steps else "no checkpoint"
    tables = sorted(path.name for path in folder.glob("*.csv"))
    return f"{folder} keeps {saved}" + (f" and {listed(tables)}" if tables else "")


def _values(config: Composed) -> dict[str, Any]:
    """All that the numbers of a run depend on; its place is no part of that."""
    return {name: value for name, value in to_json(config).items() if name not in ("name", "out")}


def _run_name(preset: str, values: Mapping[str, Any], default: Mapping[str, Any]) -> str:
    """The preset, and what differs from it: one command, one folder."""
    changed = {name: value for name, value in values.items() if name != "preset" and value != default.get(name)}
    text = ",".join([preset, *(f"{name}={value}" for name, value in changed.items())])
    safe = "".join(c if c.isalnum() or c in ",=.-_+" else "_" for c in text)
    if safe == text and len(safe) <= 100:
        return safe
    # Shortened or replaced characters could make two configs share a name; the digest keeps them apart.
    return f"{safe[:100]}-{hashlib.blake2b(text.encode(), digest_size=4).hexdigest()}"


def number_text(value: float) -> str:
    """A number as it is printed: whole ones, such as counts, in full, others in five digits.

    >>> number_text(269072), number_text(0.0092612345), number_text(1.0), number_text(float("nan"))
    ('269,072', '0.0092612', '1', 'nan')
    """
    return f"{value:,.0f}" if float(value).is_integer() and abs(value) < 1e15 else f"{value:.5g}"


def _report(result: Result, display: Display) -> None:
    rows = {name: number_text(value) for name, value in result.metrics.items()}
    for claim in result.claims:
        rows[claim.name] = f"{number_text(claim.value)} (target {claim.target}: {'holds' if claim.holds else 'MISSED'})"
    width = max(map(len, rows), default=0)
    for name, value in rows.items():
        display.say(f"{name:<{width}}  {value}")
    for note in result.notes:
        display.say(f"note: {note}")
    for path in ("result.json", *result.figures):
        display.say(f"wrote {result.folder / path}")
