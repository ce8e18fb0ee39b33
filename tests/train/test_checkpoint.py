"""Checkpoints come back exactly, or not at all."""

import shutil

import jax
import numpy as np
import pytest
from etude import train


@pytest.fixture
def saved(tmp_path, tools):
    """A folder with the checkpoints of steps 1, 2, 3 (the first is the best), and the state of step 3."""
    state = tools.Problem(ema=True).state
    checkpoints = train.Checkpoints(tmp_path / "checkpoints")
    for _ in range(3):
        state = state.replace(step=state.step + 1, params=jax.tree.map(lambda x: x + 1, state.params))
        checkpoints.save(state, {"best_step": 1, "text": "é", "number": 0.1 + 0.2}, best=1)
    checkpoints.close()
    return tmp_path / "checkpoints", state


def test_a_state_and_its_record_come_back_exactly(saved, tools):
    folder, state = saved
    found = train.Checkpoints(folder).restore(state)
    assert (found.step, found.record["number"]) == (3, 0.1 + 0.2)
    assert tools.identical(found.state, state)


def test_the_newest_two_and_the_best_are_kept(saved, tools):
    folder, state = saved
    checkpoints = train.Checkpoints(folder)
    checkpoints.restore(state)
    for step in (4, 5):
        checkpoints.save(state.replace(step=state.step + step - 3), {"best_step": 1}, best=1)
    checkpoints.wait()
    assert checkpoints.steps() == [1, 4, 5]


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
    whole = {step: train.Checkpoints(folder).restore(state, step).state for step in (2, 3)}
    used = 0
    for number, path in enumerate(files_of(folder, 3)):
        copy = tmp_path / f"copy{number}" / "checkpoints"
        shutil.copytree(folder, copy)
        damage(kind, copy / path.relative_to(folder))
        told = []
        checkpoints = train.Checkpoints(copy, warn=told.append)
        found = checkpoints.restore(state)
        # Whatever was damaged, what comes back is what was saved,
        assert tools.identical(found.state, whole[found.step]), path
        # and what was set aside was told of and is still there.
        if found.step == 2:
            used += 1
            assert checkpoints.steps() == [1, 2]
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
    checkpoints.save(state, {"best_step": 1}, best=1)
    assert checkpoints.restore(state).step == 3


def test_no_checkpoint_at_all_restores_nothing(tmp_path, saved):
    assert train.Checkpoints(tmp_path / "empty").restore(saved[1]) is None


def test_the_checkpoint_of_another_network_is_an_error_and_not_a_damage(saved):
    folder, state = saved
    other = state.replace(params={"elsewhere": np.zeros(3, np.float32)})
    checkpoints = train.Checkpoints(folder)
    with pytest.raises(ValueError, match="of another run"):
        checkpoints.restore(other)
    assert checkpoints.steps() == [1, 2, 3]
