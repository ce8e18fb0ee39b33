"""Weights there and back: published names and shapes, exact round trips, and files that are not what they should be."""

import json
import pickle
import struct
import zipfile
from pathlib import Path

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from etude import models
from etude.models import pretrained
from etude.models.classifiers import alexnet, mlp, resnet, vgg, vit
from etude.models.layers import positions
from etude.models.weights import alexnet_names
from safetensors.numpy import save_file

PUBLISHED = np.load(Path(__file__).resolve().parents[2] / "golden" / "torchvision_names.npz")
HEAD = {"num_classes": 3, "hidden": (8, 7), "grid": 2}
SMALL = {
    "alexnet": alexnet.AlexNet(features=(4, 6, 4, 6, 4), **HEAD),
    "vgg": vgg.VGG(stages=((4,), (6, 6)), **HEAD),
    "vgg with a linear head": vgg.VGG(num_classes=3, stages=((4,), (6, 6)), batch_norm=True, hidden=(), grid=1),
    "resnet": resnet.ResNet(num_classes=3, stage_sizes=(3, 2), width=8),
    "bottlenecks of resnet-d": resnet.ResNet(3, models.classifiers.BottleneckBlock, (1, 3), 8, **resnet.RESNET_D),
    "pre-activation": resnet.PreActResNet(num_classes=3, stage_sizes=(1, 3), width=8),
    "wide": resnet.wide(16, 1),
    "vit": vit.ViT(num_classes=3, patch_size=4, width=12, depth=2, num_heads=3),
}
SHAPE = (16, 16, 3)


def random_variables(model, dtype="float32"):
    """Numbers of no regularity for every leaf of a network; variances are positive."""
    rng = np.random.default_rng(0)

    def draw(path, leaf):
        numbers = rng.standard_normal(leaf.shape)
        return (abs(numbers) if path[-1].key == "var" else numbers).astype(dtype)

    return jax.tree_util.tree_map_with_path(draw, pretrained.template(model, SHAPE))


def assert_same(one, other):
    assert jax.tree.structure(one) == jax.tree.structure(other)
    for x, y in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        assert x.dtype == y.dtype
        np.testing.assert_array_equal(x, y)


@pytest.mark.parametrize("name", PUBLISHED.files)
def test_names_and_shapes_are_the_published_ones(name):
    model = models.create(name)
    empty = jax.tree.map(lambda x: np.broadcast_to(np.int8(0), x.shape), pretrained.template(model, (224, 224, 3)))
    ours = [f"{key} {x.shape}" for key, x in sorted(pretrained.to_torch(model, empty).items())]
    assert ours == list(PUBLISHED[name])


@pytest.mark.parametrize("name", SMALL)
def test_the_way_to_torch_and_back_is_exact_and_misses_no_number(name):
    variables = random_variables(SMALL[name])
    named = pretrained.to_torch(SMALL[name], variables)
    assert sum(x.size for x in named.values()) == sum(x.size for x in jax.tree.leaves(variables))
    assert_same(pretrained.from_torch(SMALL[name], named, variables), variables)


@pytest.mark.parametrize("name", ["alexnet", "wide", "vit"])
def test_the_way_through_a_file_is_exact(name, tmp_path):
    variables = random_variables(SMALL[name])
    pretrained.save(SMALL[name], variables, tmp_path / "weights.safetensors")
    assert_same(pretrained.load(SMALL[name], tmp_path / "weights.safetensors", SHAPE), variables)
    assert [path.name for path in tmp_path.iterdir()] == ["weights.safetensors"]


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_a_file_of_half_precision_is_loaded_without_loss(dtype, tmp_path):
    model = SMALL["vgg"]
    variables = random_variables(model, np.dtype(dtype))
    pretrained.save(model, variables, tmp_path / "half.safetensors")
    assert next(iter(pretrained.read(tmp_path / "half.safetensors").values())).dtype == dtype
    loaded = pretrained.load(model, tmp_path / "half.safetensors", SHAPE)
    assert_same(loaded, jax.tree.map(lambda x: x.astype(np.float32), variables))


def test_positions_of_a_state_dict_move_to_the_grid_of_other_images():
    model = SMALL["vit"]
    named = pretrained.to_torch(model, random_variables(model))
    moved = pretrained.at_resolution(model, named, (24, 8, 3))
    expected = positions.interpolate_positions(jnp.asarray(named["pos_embed"]), (4, 4), (6, 2))
    np.testing.assert_array_equal(moved["pos_embed"], expected)
    loaded = pretrained.from_torch(model, moved, pretrained.template(model, (24, 8, 3)))
    assert loaded["params"]["pos_embed"].shape == (1, 13, 12)
    assert pretrained.at_resolution(SMALL["vgg"], named, (24, 8, 3)) is named
    with pytest.raises(ValueError, match="have shape"):
        pretrained.at_resolution(model, named | {"pos_embed": np.zeros((1, 16, 12))}, (24, 8, 3))


def test_a_network_of_bfloat16_parameters_comes_back_as_such(tmp_path):
    model = SMALL["vgg"].clone(param_dtype=jnp.bfloat16)
    variables = random_variables(model, ml_dtypes.bfloat16)
    pretrained.save(model, variables, tmp_path / "half.safetensors")
    assert_same(pretrained.load(model, tmp_path / "half.safetensors", SHAPE), variables)


def test_a_dense_layer_after_flattening_reads_the_same_pixels_as_torchs():
    # Given a first dense layer whose kernel says which pixel it weighs,
    kernel = np.arange(2 * 3 * 4 * 5, dtype=np.float32).reshape(2, 3, 4, 5)
    ((_, there),) = alexnet_names.torch_entries(("params", "head", "dense1", "kernel"), kernel)
    # when torch's layer meets an image flattened channel first, then it answers what ours does.
    image = np.random.default_rng(0).standard_normal((2, 3, 4)).astype(np.float32)
    np.testing.assert_allclose(
        there @ image.transpose(2, 0, 1).ravel(), np.einsum("hwc,hwcf->f", image, kernel), rtol=1e-5
    )


@pytest.mark.parametrize("name", ["alexnet", "vgg", "resnet", "pre-activation", "vit"])
def test_the_number_of_classes_is_read_off_the_weights(name):
    named = pretrained.to_torch(SMALL[name], random_variables(SMALL[name]))
    assert pretrained.num_classes(SMALL[name].clone(num_classes=1000), named, SHAPE) == 3


def test_weights_without_a_classifier_tell_no_number_of_classes():
    named = pretrained.to_torch(SMALL["resnet"], random_variables(SMALL["resnet"]))
    del named["fc.bias"]
    with pytest.raises(ValueError, match=r"missing: fc\.bias"):
        pretrained.num_classes(SMALL["resnet"], named, SHAPE)


@pytest.mark.parametrize("shape", [(), (0,), (3, 1)])
def test_a_classifier_whose_bias_is_no_list_tells_no_number_of_classes(shape):
    named = pretrained.to_torch(SMALL["resnet"], random_variables(SMALL["resnet"]))
    named["fc.bias"] = np.zeros(shape, np.float32)
    with pytest.raises(ValueError, match=r"of another shape: fc\.bias .* for \(classes,\)"):
        pretrained.num_classes(SMALL["resnet"], named, SHAPE)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("value", [np.nan, -np.inf])
def test_weights_that_are_not_finite_are_refused_by_name(value, dtype):
    variables = random_variables(SMALL["resnet"])
    named = pretrained.to_torch(SMALL["resnet"], variables)
    named["bn1.bias"] = named["bn1.bias"].astype(dtype)
    named["bn1.bias"][2] = value
    with pytest.raises(ValueError, match=r"do not fit this network\. not finite: bn1\.bias\.$"):
        pretrained.from_torch(SMALL["resnet"], named, variables)


def test_weights_that_the_networks_type_can_not_hold_are_refused_by_name():
    variables = random_variables(SMALL["resnet"])
    named = pretrained.to_torch(SMALL["resnet"], variables)
    named["fc.bias"] = np.full_like(named["fc.bias"], 1e300, np.float64)
    with pytest.raises(ValueError, match=r"not finite: fc\.bias\.$"):
        pretrained.from_torch(SMALL["resnet"], named, variables)


def test_variances_below_zero_are_refused_by_name():
    variables = random_variables(SMALL["resnet"])
    named = pretrained.to_torch(SMALL["resnet"], variables)
    named["bn1.running_var"] = named["bn1.running_var"].copy()
    named["bn1.running_var"][1] = -1e-3
    with pytest.raises(ValueError, match=r"negative: bn1\.running_var\.$"):
        pretrained.from_torch(SMALL["resnet"], named, variables)


def test_weights_that_do_not_fit_are_listed_and_counts_of_batches_are_not():
    model = SMALL["resnet"]
    variables = random_variables(model)
    named = pretrained.to_torch(model, variables)
    named["bn1.num_batches_tracked"] = np.array(3)
    named["fc.bias"] = named["fc.bias"][:2]
    named["head"] = named.pop("bn1.weight")
    named["bn1.bias"] = named["bn1.bias"].astype(np.int32)
    message = (
        r"missing: bn1\.weight; unknown: head; of another shape: fc\.bias \(2,\) for \(3,\); "
        r"not of a floating type: bn1\.bias\.$"
    )
    with pytest.raises(ValueError, match=message):
        pretrained.from_torch(model, named, variables)


def timm_vgg(named):
    """timm's names of torchvision's VGG of two stages: its hidden layers are convolutions, its head is a layer."""
    renamed = {"classifier.0": "pre_logits.fc1", "classifier.3": "pre_logits.fc2", "classifier.6": "head.fc"}
    shapes = {"classifier.0.weight": (8, 6, 2, 2), "classifier.3.weight": (7, 8, 1, 1)}
    found = {}
    for name, array in named.items():
        layer, _, leaf = name.rpartition(".")
        found[f"{renamed.get(layer, layer)}.{leaf}"] = array.reshape(shapes.get(name, array.shape))
    return found


def test_timms_names_of_vgg_are_read_as_torchvisions():
    model = SMALL["vgg"]
    variables = random_variables(model)
    theirs = timm_vgg(pretrained.to_torch(model, variables))
    assert {"pre_logits.fc1.weight", "pre_logits.fc2.bias", "head.fc.weight"} <= theirs.keys()
    assert pretrained.num_classes(model, theirs, SHAPE) == 3
    assert_same(pretrained.from_torch(model, theirs, variables), variables)


def test_the_names_of_resnets_for_cifar_are_read_as_torchvisions():
    model = SMALL["resnet"]
    variables = random_variables(model)
    named = pretrained.to_torch(model, variables)
    theirs = {name.replace("downsample", "shortcut").replace("fc.", "linear."): x for name, x in named.items()}
    assert {"linear.weight", "layer2.0.shortcut.1.running_var"} <= theirs.keys()
    assert pretrained.num_classes(model, theirs, SHAPE) == 3
    assert_same(pretrained.from_torch(model, theirs, variables), variables)


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "state_dict.", "model.backbone."])
def test_names_with_something_before_them_are_told_the_line_that_removes_it(prefix, tmp_path):
    model = SMALL["resnet"]
    variables = random_variables(model)
    wrapped = {prefix + name: array for name, array in pretrained.to_torch(model, variables).items()}
    save_file(wrapped, tmp_path / "in.safetensors")
    for call in (
        lambda: pretrained.from_torch(model, wrapped, variables),
        lambda: pretrained.num_classes(model, wrapped, SHAPE),
    ):
        with pytest.raises(ValueError, match="The names of these weights begin with") as error:
            call()
    # The line does what it says.
    line = str(error.value).split("without it: ")[1].split(", both from")[0]
    cured = {}
    exec(line, {"load_file": lambda name: wrapped, "save_file": lambda arrays, name: cured.update(arrays)})
    assert_same(pretrained.from_torch(model, cured, variables), variables)


def test_a_message_names_at_most_ten_weights():
    named = pretrained.to_torch(SMALL["resnet"], random_variables(SMALL["resnet"]))
    with pytest.raises(ValueError, match=r"missing: .* … and \d+ more") as error:
        pretrained.from_torch(SMALL["resnet"], {}, random_variables(SMALL["resnet"]))
    assert str(error.value).count(",") == 9
    assert len(named) > 10


def pickled(path, content, names, key):
    """A state dict as torch.save writes it, under a key or not: in an archive, or as before its archives."""
    state = dict.fromkeys(names, 0)
    data = pickle.dumps({"epoch": 3, key: state} if key else state, protocol=2)
    if content == "bare":
        path.write_bytes(data)
    elif content == "several":  # magic number, version, machine; the object; its tensors' keys, bytes
        before = [0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}]
        path.write_bytes(b"".join(pickle.dumps(each, 2) for each in before) + data + pickle.dumps(["1"], 2) + bytes(99))
    else:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("archive/data.pkl", data)


@pytest.mark.parametrize("content", ["bare", "several", "archive"])
@pytest.mark.parametrize("key", ["", "state_dict", "model", "model_state_dict"])
@pytest.mark.parametrize("prefix", ["", "module."])
def test_a_pickle_is_answered_with_the_line_that_converts_it(content, key, prefix, tmp_path):
    path = tmp_path / "weights.pth"
    pickled(path, content, [f"{prefix}fc.weight", f"{prefix}fc.bias"], key)
    with pytest.raises(ValueError, match="looks like a pickle") as error:
        pretrained.read(path)
    message = str(error.value)
    assert ('["' in message) == bool(key)
    assert (f'["{key}"]' in message) == bool(key)
    assert ('removeprefix("module.")' in message) == bool(prefix)
    assert 'map_location="cpu"' in message  # many files were saved on a GPU
    compile(message.split("converts it: ")[1], "the line", "exec")


def test_a_network_without_published_names_keeps_its_own(tmp_path):
    model = mlp.MLP(num_classes=3, hidden=(4,))
    variables = random_variables(model)
    pretrained.save(model, variables, tmp_path / "own.safetensors")
    stored = pretrained.read(tmp_path / "own.safetensors")
    assert sorted(stored) == [
        f"params.{layer}.{leaf}" for layer in ("hidden1", "output") for leaf in ("bias", "kernel")
    ]
    assert pretrained.num_classes(model.clone(num_classes=1000), stored, SHAPE) == 3
    assert_same(pretrained.load(model, tmp_path / "own.safetensors", SHAPE), variables)


def forged(header, data=b"\0" * 16):
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def tensor(low, high, dtype="F32", shape=(2,)):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [low, high]}


class Bomb:
    """Creates a file when it is unpickled."""

    def __reduce__(self):
        return open, ("exploded", "w")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not a readable safetensors file"),
        (b"\xff" * 64, "not a readable safetensors file"),
        (struct.pack("<Q", 2**63) + b"{}", "not a readable safetensors file"),
        (forged({"a": tensor(0, 8)}), "not a readable safetensors file"),
        (forged({"a": tensor(0, 8), "b": tensor(4, 12)}), "not a readable safetensors file"),
        (forged({"a": tensor(0, 64, shape=(16,))}), "not a readable safetensors file"),
        (forged({"a": tensor(0, 16, shape=(2**62, 8))}), "not a readable safetensors file"),
        (forged({"a": tensor(0, 16, "F8_E4M3", (16,))}), "holds numbers of a type"),
        (pickle.dumps(Bomb()), "looks like a pickle"),
        (b"PK\x03\x04" + bytes(100), "looks like a pickle"),
    ],
)
def test_a_file_that_is_not_in_the_format_is_refused_and_never_run(content, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "weights.safetensors").write_bytes(content)
    with pytest.raises(ValueError, match=message):
        pretrained.load(SMALL["vgg"], tmp_path / "weights.safetensors", SHAPE)
    assert not (tmp_path / "exploded").exists()


def test_every_file_that_is_cut_short_is_refused(tmp_path):
    path = tmp_path / "weights.safetensors"
    save_file({"a": np.ones(4, np.float32)}, path)
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(ValueError, match="not a readable safetensors file"):
            pretrained.read(path)


def test_missing_files_and_folders_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="nothing"):
        pretrained.load(SMALL["vgg"], tmp_path / "nothing", SHAPE)
    with pytest.raises(FileNotFoundError, match="no folder"):
        pretrained.save(SMALL["vgg"], {}, tmp_path / "nowhere" / "weights.safetensors")
