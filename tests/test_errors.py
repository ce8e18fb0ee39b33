"""Messages name the nearest of the valid names, and never more than ten."""

from etude import errors
from etude.errors import listed, unknown_name

MANY = [f"net{i}" for i in range(123)]


def test_few_names_are_told_in_their_order():
    assert (
        str(unknown_name("net", "b1", ["c", "b", "a"])) == "There is no net 'b1'. Did you mean b? Valid are: c, b, a."
    )


def test_of_many_names_the_nearest_ten_are_told_and_where_the_rest_is():
    text = str(unknown_name("net", "net42", MANY, "etude nets lists them"))
    assert text.startswith("There is no net 'net42'. Did you mean net42? Valid are: net42, ")
    assert text.endswith(" … and 113 more; etude nets lists them.")
    assert text.count("net") - 3 - 1 == 10


def test_of_many_names_without_one_to_be_near_the_first_ten_are_told():
    assert listed(MANY) == ", ".join(MANY[:10]) + " … and 113 more"
    assert listed(MANY[:10]) == ", ".join(MANY[:10])


def test_paths_below_the_current_folder_are_shown_relative_and_others_whole(tmp_path, monkeypatch):
    here = tmp_path / "a b"
    here.mkdir()
    monkeypatch.chdir(here)
    assert errors.short_paths(f"wrote {here}/runs/x/result.json") == "wrote runs/x/result.json"
    assert errors.short_paths(f"{here}/x can't be written ({here}/y, '{here}/z').") == "x can't be written (y, 'z')."
    for other in (f"wrote {tmp_path}/x", f"wrote {here}", f"wrote {here}2/x", f"wrote /mnt{here}/x"):
        assert errors.short_paths(other) == other
    monkeypatch.chdir("/")
    assert errors.short_paths("wrote /tmp/x") == "wrote /tmp/x"
