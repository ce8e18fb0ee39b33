"""What is written runs: examples in docstrings, Python and commands in README, CONTRIBUTING and docs, and --help.

A Markdown file is read as a reader would run it: its Python blocks are one session from top to bottom, and its commands
are parsed into a config, which is not run. A block that takes minutes or needs what a test has not is only compiled; it
says so in the line before it: `<!-- not run: the reason -->`.
"""

import ast
import doctest
import importlib
import json
import re
import shlex
from dataclasses import dataclass
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest
from etude import lab
from etude.lab import cli
from etude.lab.config import options_of

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
SHELL = re.compile(r"(etude|make|pip|python3?|git|cd|pre-commit)(\s|$)")
PLACEHOLDER = re.compile(r"<\w+>|…|\.\.\.|EXPERIMENT")


# Examples in docstrings.


def modules_with_examples() -> list[str]:
    """The names of all modules whose text has an example; read without importing any."""
    files = [path for init in ROOT.glob("*/__init__.py") for path in init.parent.rglob("*.py")]
    found = [path for path in sorted(files) if ">>> " in path.read_text(encoding="utf-8")]
    names = [".".join(("etude", *path.relative_to(ROOT).with_suffix("").parts)) for path in found]
    return [name.removesuffix(".__init__") for name in names]


@pytest.mark.parametrize("name", modules_with_examples())
def test_the_examples_of_a_module_run(name):
    module = importlib.import_module(name)
    finder = doctest.DocTestFinder(exclude_empty=True)
    runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS)
    report = []
    tests = finder.find(module, name)
    for test in tests:
        runner.run(test, out=report.append)
    assert not runner.failures, "".join(report)
    written = Path(str(module.__file__)).read_text(encoding="utf-8").count(">>> ")
    assert sum(len(test.examples) for test in tests) == written, "an example stands where doctest does not look"


# Blocks of Markdown.


@dataclass(frozen=True)
class Block:
    """One block of code: where it begins, its text, and whether it is to be run."""

    line: int
    language: str  # as fenced; "" for an indented block
    text: str
    runs: bool

    @property
    def is_shell(self) -> bool:
        lines = [line for line in self.text.splitlines() if line.strip() and not line.startswith("#")]
        return self.language in ("sh", "bash", "console") or (
            not self.language and all(SHELL.match(line) or line.startswith((" ", "-")) for line in lines)
        )

    @property
    def is_python(self) -> bool:
        return self.language in ("python", "py") or (not self.language and not self.is_shell)

    @property
    def python(self) -> str:
        """The text without the shell lines of a notebook, on lines of the same number as in the file."""
        lines = ["" if line.startswith(("!", "%")) else line for line in self.text.splitlines()]
        return "\n" * (self.line - 1) + "\n".join(lines)


def blocks_of(markdown: str) -> list[Block]:
    """The fenced blocks of a page, and those indented by four columns after an empty line."""
    blocks: list[Block] = []
    lines = [*markdown.splitlines(), ""]
    position, runs = 0, True
    while position < len(lines):
        line, start = lines[position], position + 1
        before = lines[position - 1].strip() if position else ""
        if fence := re.match(r"(```+)\s*(\w*)", line):
            end = next(i for i in range(start, len(lines)) if lines[i].startswith(fence[1]))
            blocks.append(Block(start + 1, fence[2], "\n".join(lines[start:end]), runs))
            position, runs = end + 1, True
        elif line.startswith("    ") and (not before or before.startswith("<!--")):
            end = start
            while end < len(lines) and (lines[end].startswith("    ") or not lines[end].strip()):
                end += 1
            blocks.append(Block(start, "", "\n".join(row[4:] for row in lines[position:end]).rstrip(), runs))
            position, runs = end, True
        else:
            runs = not re.match(r"<!-- not run: .+-->", line.strip()) if line.strip() else runs
            position += 1
    return blocks


def commands_of(markdown: str, program: str) -> list[str]:
    """Every command of a program: the lines of shell blocks, and inline code that begins with its name."""
    blocks = [block for block in blocks_of(markdown) if block.is_shell]
    lines = [line for block in blocks for line in block.text.replace("\\\n", " ").splitlines()]
    spans = re.findall(r"`([^`\n]+(?:\n[^`\n]+)?)`", markdown)
    found = [text.split("#")[0].strip() for text in [*lines, *(span.replace("\n", " ") for span in spans)]]
    return sorted({text for text in found if text == program or text.startswith(program + " ")})


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_the_python_of_a_page_runs(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    session = readers_names()
    for block in blocks_of(page.read_text(encoding="utf-8")):
        if block.is_python:
            code = compile(block.python, f"{page.name}", "exec", dont_inherit=True)
            if block.runs:
                exec(code, session)


def readers_names() -> dict[str, object]:
    """What the pages call the reader's own: a network, its inputs. The rest they import."""
    key = jax.random.key(0)
    return {
        "__name__": "page",  # so that a file's `if __name__ == "__main__":` is read and not run
        "network": lambda x, times, labels: jnp.zeros_like(x),
        "noise": jax.random.normal(key, (2, 4, 4, 1)),
        "labels": jnp.arange(2),
        "key": key,
    }


def commands_of_pages() -> list[str]:
    """Every `etude …` in any page that has no placeholder for a name."""
    found = {command for page in PAGES for command in commands_of(page.read_text(encoding="utf-8"), "etude")}
    return sorted(command for command in found if not PLACEHOLDER.search(command))


def parse(command: str) -> object:
    """Makes the config of `etude …` and does not run it; None where the command only prints."""
    name, *arguments = shlex.split(command)[1:] or ["--help"]
    if name.startswith("-"):
        assert cli.main([name]) == 0
        return None
    module = importlib.import_module(f"etude.experiments.{name}")
    try:
        return lab.parse(name, module.Config, arguments, getattr(module, "PRESETS", None))
    except SystemExit as end:  # of --help, or of a mistake
        if end.code:
            raise AssertionError(f"{command} is not valid") from end
        return None


@pytest.mark.parametrize("command", commands_of_pages())
def test_a_written_command_makes_a_config(command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    if config := re.search(r"etude (\w+) .*--config (\S+)", command):  # the file of a run that the reader has made
        Path(config[2]).parent.mkdir(parents=True)
        Path(config[2]).write_text(json.dumps({"experiment": config[1], "preset": "demo"}), encoding="utf-8")
    assert parse(command) is not None or "--" in command or command == "etude"


def test_a_command_with_an_unknown_option_makes_none():
    with pytest.raises(AssertionError, match="no-such"):
        parse("etude resnet --no-such-option 3")


def test_every_written_target_of_make_exists():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([\w-]+):", makefile, flags=re.MULTILINE))
    written = [command for page in PAGES for command in commands_of(page.read_text(encoding="utf-8"), "make")]
    named = {word for command in written for word in command.split()[1:] if "=" not in word}
    assert {"demo", "test", "check"} <= named
    assert named <= targets
    helped = set(re.findall(r"make ([\w-]+)", makefile.split("help:\n", 1)[1].split("\n\n", 1)[0]))
    phony = re.search(r"^\.PHONY: (.*)$", makefile, flags=re.MULTILINE)
    assert phony
    assert helped == set(phony[1].split()) - {"help"}


# --help.


@pytest.mark.parametrize("name", sorted(cli.experiments()))
def test_every_option_has_a_sentence_of_help(name):
    config = importlib.import_module(f"etude.experiments.{name}").Config
    options = options_of(config)
    assert options
    for option in options:
        assert re.fullmatch(r"[^a-z\s].*\s.*[.?)]", option.help or "", flags=re.DOTALL), (
            f"--{option.name}: {option.help!r}"
        )


# The reader of Markdown itself.

PAGE = """
Text, `etude vit --epochs 3`, and a list:

    etude resnet     # trains
    make test

<!-- not run: takes an hour -->

    import etude
    !pip install x
    etude.nothing()

```python
x = 1
```
"""


def test_blocks_are_told_apart():
    shell, skipped, fenced = blocks_of(PAGE)
    assert (shell.is_shell, shell.is_python, shell.line) == (True, False, 4)
    assert (skipped.is_python, skipped.runs, skipped.line) == (True, False, 9)
    assert ast.unparse(ast.parse(skipped.python)) == "import etude\netude.nothing()"
    assert (fenced.is_python, fenced.runs, fenced.text, fenced.line) == (True, True, "x = 1", 14)
    assert commands_of(PAGE, "etude") == ["etude resnet", "etude vit --epochs 3"]
    assert commands_of(PAGE, "make") == ["make test"]
