"""Figures are drawn again from a run's tables, in whatever state these are."""

import pytest
from etude.experiments import gradient_descent
from etude.lab import cli

DAMAGES = {
    "missing": lambda text: None,
    "empty": lambda text: b"",
    "header alone": lambda text: text.split(b"\n")[0] + b"\n",
    "a number missing": lambda text: text.replace(b",", b"\n", 1),
    "text for a number": lambda text: text[:-3] + b"x\n",
    "a column renamed": lambda text: b"q" + text,
    "all text": lambda text: b"\n".join(
        [text.split(b"\n")[0], b",".join([b"t"] * (text.split(b"\n")[0].count(b",") + 1))]
    ),
    "binary": lambda text: b"\xff\x00\xfe" * 99,
}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run") / "descent"
    assert cli.main(["gradient_descent", "--preset", "smoke", "--out", str(folder)]) == 0
    return folder


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_broken_table_has_one_message_and_no_figure_is_touched(run, capsys, damage):
    assert hasattr(gradient_descent, "draw")
    figures = {file: file.read_bytes() for file in (run / "figures").iterdir()}
    tables = {file: file.read_bytes() for file in run.glob("*.csv")}
    assert tables
    for file, content in tables.items():
        broken = DAMAGES[damage](content)
        file.unlink() if broken is None else file.write_bytes(broken)
        assert cli.main(["draw", str(run)]) == 2
        assert file.name in capsys.readouterr().err or damage == "all text"
        file.write_bytes(content)
    assert figures == {file: file.read_bytes() for file in (run / "figures").iterdir()}
