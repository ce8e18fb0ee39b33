"""What experiments that generate share: a run that was cut off between stages ends as one that was not."""

from dataclasses import replace

import numpy as np
import pytest
from etude.experiments import _generation, vqvae


@pytest.mark.parametrize("seeds", [1, 2])
def test_a_run_cut_off_while_it_shows_a_stage_ends_with_the_same_bits(tmp_path, monkeypatch, seeds):
    def config(name):
        smoke = vqvae.PRESETS["smoke"]
        population = replace(smoke.population, seeds=seeds)
        return replace(smoke, epochs=4, population=population, out=tmp_path / name)

    def save_until_third(file, arrays):
        if file.parent.name == "stages" and file.stem == "3":
            raise KeyboardInterrupt
        save(file, arrays)

    save = _generation.save_arrays
    whole = vqvae.main(config("whole"))
    monkeypatch.setattr(_generation, "save_arrays", save_until_third)
    with pytest.raises(KeyboardInterrupt):
        vqvae.main(config("cut"))
    monkeypatch.setattr(_generation, "save_arrays", save)
    cut = vqvae.main(config("cut"))
    assert cut.metrics == whole.metrics
    (epochs, images), (whole_epochs, whole_images) = (_generation.stages(tmp_path / name) for name in ("cut", "whole"))
    assert epochs == whole_epochs == [0, 1, 2, 3, 4]
    np.testing.assert_array_equal(images, whole_images)
