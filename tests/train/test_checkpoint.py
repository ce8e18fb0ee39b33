"""Checkpoints come back exactly, or not at all."""

import shutil

import jax
import numpy as np
import pytest
from etude import train
from etude.errors import InputError


@pytest.fixture
def saved(tmp_path, tools):
    """A folder where the steps 1, 2 and 3 were saved, and the state of step 3."""
    state = tools.problem(ema=True).state
    checkpoints = train.Checkpoints(tmp_path / "checkpoints")
    for _ in range(3):
        state = state.replace(step=state.step + 1, params=jax.tree.map(lambda x: x + 1, state.params))
        checkpoints.save(int(state.step), state, {"text": "é", "number": 0.1 + 0.2, "rows": [[1.5], None]})
    checkpoints.close()
    return tmp_path / "checkpoints", state


def test_a_state_and_its_record_come_back_exactly(saved, tools):
    folder, state = saved
    found = train.Checkpoints(folder).restore(state)
    assert (found.step, found.record) == (3, {"text": "é", "number": 0.1 + 0.2, "rows": [[1.5], None]})
    assert tools.identical(found.tree, state)


def test_any_tree_comes_back_with_its_structure(tmp_path, tools):
    tree = {
        "state": {"a": np.arange(3, dtype=np.int32), "key": jax.random.key(5)},
        "best": None,
        "many": [np.zeros((2, 1), np.float32), (True,)],
    }
    tree = jax.tree.map(lambda x: x if isinstance(x, jax.Array) else np.asarray(x), tree)
    checkpoints = train.Checkpoints(tmp_path)
    checkpoints.save(7, tree, {})
    found = checkpoints.restore(tree)
    checkpoints.close()
    assert jax.tree.structure(found.tree) == jax.tree.structure(tree)
    assert tools.identical(found.tree, tree)


def test_the_newest_two_are_kept(saved):
    folder, state = saved
    checkpoints = train.Checkpoints(folder)
    assert checkpoints.steps() == [2, 3]
    checkpoints.restore(state)
    for step in (4, 5):
        checkpoints.save(step, state, {})
    checkpoints.wait()
    assert checkpoints.steps() == [4, 5]


def test_a_step_that_is_saved_already_is_left_as_it_is(saved, tools):
    folder, state = saved
    checkpoints = train.Checkpoints(folder)
    checkpoints.save(3, jax.tree.map(np.zeros_like, state.replace(key=None)), {})
    found = checkpoints.restore(state)
    assert found.record["text"] == "é"
    assert tools.identical(found.tree, state)


def test_the_newest_up_to_a_step_is_restored(saved):
    folder, state = saved
    checkpoints = train.Checkpoints(folder)
    assert checkpoints.restore(state, step=2).step == 2
    assert checkpoints.restore(state, step=10).step == 3
    assert checkpoints.restore(state, step=1) is None


def files_of(folder, step):
    return sorted(path for path in (folder / str(step)).rglob("*") if path.is_file())


def damage(kind, path):
    content = path.read_bytes()
    if kind == "truncated":
        path.write_bytes(content[: len(content) // 2])
    elif kind == "missing":
        path.unlink()
    else:
        middle = len(content) // 2
        path.write_bytes(content[:middle] + bytes([content[middle] ^ 4]) + content[middle + 1 :])


@pytest.mark.parametrize("kind", ["truncated", "missing", "flipped"])
def test_damage_of_any_file_is_either_harmless_or_found_and_set_aside(saved, tools, tmp_path, kind):
    folder, state = saved
    whole = {step: train.Checkpoints(folder).restore(state, step).tree for step in (2, 3)}
    used = 0
    for number, path in enumerate(files_of(folder, 3)):
        copy = tmp_path / f"copy{number}" / "checkpoints"
        shutil.copytree(folder, copy)
        damage(kind, copy / path.relative_to(folder))
        told = []
        checkpoints = train.Checkpoints(copy, warn=told.append)
        found = checkpoints.restore(state)
        # Whatever was damaged, what comes back is what was saved,
        assert tools.identical(found.tree, whole[found.step]), path
        # and what was set aside was told of and is still there.
        if found.step == 2:
            used += 1
            assert checkpoints.steps() == [2]
            if told:
                assert "step 3 is damaged" in told[0]
                assert (copy.with_name("checkpoints_damaged") / "3").exists()
        checkpoints.close()
    assert used >= 1


def test_a_damaged_step_can_be_saved_again(saved):
    folder, state = saved
    largest = max(files_of(folder, 3), key=lambda path: path.stat().st_size)
    damage("truncated", largest)
    checkpoints = train.Checkpoints(folder)
    assert checkpoints.restore(state).step == 2
    checkpoints.save(3, state, {})
    assert checkpoints.restore(state).step == 3


def test_no_checkpoint_at_all_restores_nothing(tmp_path, saved):
    assert train.Checkpoints(tmp_path / "empty").restore(saved[1]) is None


def test_the_checkpoint_of_another_network_is_an_error_and_not_a_damage(saved):
    folder, state = saved
    other = state.replace(params={"elsewhere": np.zeros(3, np.float32)})
    checkpoints = train.Checkpoints(folder)
    with pytest.raises(ValueError, match="of another run"):
        checkpoints.restore(other)
    assert checkpoints.steps() == [2, 3]


def test_a_disk_that_refuses_a_checkpoint_is_named(saved, monkeypatch):
    folder, state = saved
    checkpoints = train.Checkpoints(folder)

    def refuse(*args, **options):
        raise ValueError("RESOURCE_EXHAUSTED: Error writing local file: No space left on device")

    monkeypatch.setattr(checkpoints._manager, "save", refuse)
    with pytest.raises(InputError, match=r"can't be written to .*checkpoints \(.* bytes are free\): .*No space left"):
        checkpoints.save(4, state, {})


def test_a_folder_that_was_removed_is_named_and_not_made_again(saved):
    folder, state = saved
    checkpoints = train.Checkpoints(folder)
    shutil.rmtree(folder.parent)
    with pytest.raises(InputError, match="checkpoints: the folder was removed"):
        checkpoints.save(4, state, {})
    assert not folder.parent.exists()
