"""Data for tests: real files where they are, and small prepared sets of TensorFlow Datasets."""

from pathlib import Path

import pytest


@pytest.fixture
def real_data():
    """(folder, where it is from) -> its path in a folder shared/data beside the repository; without it, skips."""

    def real_data(name, source):
        for parent in Path(__file__).resolve().parents:
            if (parent / "shared" / "data" / name).is_dir():
                return parent / "shared" / "data" / name
        pytest.skip(f"needs the files of {source} in shared/data/{name} beside the repository")

    return real_data


@pytest.fixture
def write_set(tmp_path):
    """(name[/config], features, {split: examples}) -> data_dir: a prepared tfds set; its images are encoded bytes."""
    import tensorflow_datasets as tfds

    def write(name, features, splits, file_format="array_record"):
        data_dir, (set_name, _, config) = tmp_path / "tfds", name.partition("/")
        identity = tfds.core.DatasetIdentity(
            name=set_name,
            config_name=config or None,
            version=tfds.core.Version("1.0.0"),
            data_dir=str(data_dir / name / "1.0.0"),
            module_name="",
        )
        if not isinstance(features, tfds.features.FeaturesDict):
            features = tfds.features.FeaturesDict(features)
        info = tfds.core.DatasetInfo(builder=identity, features=features)
        Path(identity.data_dir).mkdir(parents=True)
        writer = tfds.core.SequentialWriter(info, max_examples_per_shard=7, file_format=file_format)
        writer.initialize_splits(list(splits))
        writer.add_examples(splits)
        writer.close_all()
        return data_dir

    return write
