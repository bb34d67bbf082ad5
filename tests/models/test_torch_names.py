"""Weights by torch's names: values end where they belong, and errors name them."""

import jax
import numpy as np
import pytest
from jax import numpy as jnp

from jaxkd import models

NETWORKS = {
    "resnet": (
        models.ResNet(3, (2, 1), widths=(4, 8), stem=4, shortcut="pad"),
        models.resnet_torch_name,
        {
            "conv1.weight": (4, 3, 3, 3),
            "layer1.1.bn2.running_var": (4,),
            "layer2.0.conv1.weight": (8, 4, 3, 3),
            "linear.weight": (3, 8),
        },
    ),
    "projection": (
        models.ResNet(3, (1, 1), widths=(4, 8), stem=4),
        models.resnet_torch_name,
        {
            "layer2.0.shortcut.0.weight": (8, 4, 1, 1),
            "layer2.0.shortcut.1.running_mean": (8,),
        },
    ),
    "mobilenet": (
        models.MobileNetV2(5),
        models.mobilenet_torch_name,
        {
            "features.0.0.weight": (32, 3, 3, 3),
            "features.1.conv.0.0.weight": (32, 1, 3, 3),
            "features.1.conv.2.running_mean": (16,),
            "features.2.conv.0.0.weight": (96, 16, 1, 1),
            "features.2.conv.1.0.weight": (96, 1, 3, 3),
            "features.2.conv.2.weight": (24, 96, 1, 1),
            "features.17.conv.3.running_var": (320,),
            "features.18.1.bias": (1280,),
            "classifier.1.weight": (5, 1280),
        },
    ),
    "efficientnet": (
        models.EfficientNetLite0(5),
        models.efficientnet_torch_name,
        {
            "_conv_stem.weight": (32, 3, 3, 3),
            "_blocks.0._depthwise_conv.weight": (32, 1, 3, 3),
            "_blocks.1._bn0.running_var": (96,),
            "_blocks.3._depthwise_conv.weight": (144, 1, 5, 5),
            "_blocks.15._bn2.weight": (320,),
            "_bn1.bias": (1280,),
            "_fc.weight": (5, 1280),
        },
    ),
}


def published(network, names):
    """The shapes of a model, and arrays of torch's shapes, all values different."""
    model = models.from_linen(network)
    batch = {"image": jnp.zeros((1, 32, 32, 3))}
    like = jax.eval_shape(model.init, jax.random.key(0), batch)
    words = {
        **{"kernel": "weight", "scale": "weight", "bias": "bias"},
        **{"mean": "running_mean", "var": "running_var"},
    }
    arrays, first = {}, 0
    for tree in (like.params, like.state["batch_stats"]):
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
            *layer, name = (key.key for key in path)
            shape = leaf.shape
            if name == "kernel":
                shape = (*shape[:-3:-1], *shape[:-2])
            values = first + np.arange(np.prod(shape), dtype=np.float64)
            arrays[f"{names('/'.join(layer))}.{words[name]}"] = values.reshape(shape)
            first += values.size
    return like, arrays


@pytest.mark.parametrize("name", NETWORKS)
def test_arrays_have_the_published_names_and_shapes(name):
    network, names, known = NETWORKS[name]
    like, arrays = published(network, names)
    assert {key: arrays[key].shape for key in known} == known
    arrays["bn.num_batches_tracked"] = np.array(7)
    found = models.read_torch_names(arrays, like, names=names)
    assert jax.tree.map(jnp.shape, found) == jax.tree.map(jnp.shape, like)
    assert {leaf.dtype for leaf in jax.tree.leaves(found)} == {jnp.dtype("float32")}


def test_kernels_are_turned():
    network, names, _ = NETWORKS["resnet"]
    like, arrays = published(network, names)
    found = models.read_torch_names(arrays, like, names=names)
    stem, theirs = found.params["conv"]["kernel"], arrays["conv1.weight"]
    assert stem[2, 1, 0, 3] == theirs[3, 0, 2, 1]
    assert found.params["head"]["kernel"][5, 2] == arrays["linear.weight"][2, 5]
    spread = found.state["batch_stats"]["stage2"]["block1"]["norm1"]["var"]
    np.testing.assert_array_equal(spread, arrays["layer2.0.bn1.running_var"])


def test_the_result_computes_what_torch_computes():
    torch = pytest.importorskip("torch", reason="compares with torch")
    network = models.ResNet(3, (1, 1), widths=(4, 8), stem=4, mean=(0,), std=(1,))
    like, arrays = published(network, models.resnet_torch_name)
    rng = np.random.default_rng(0)
    arrays = {
        name: rng.uniform(0.1, 0.5, x.shape).astype(np.float32)
        for name, x in arrays.items()
    }
    image = rng.normal(size=(2, 9, 9, 3)).astype(np.float32)
    t = {name: torch.from_numpy(x) for name, x in arrays.items()}

    def layer(x, conv, norm, stride=1):
        weight = t[f"{conv}.weight"]
        x = torch.conv2d(x, weight, stride=stride, padding=weight.shape[-1] // 2)
        keys = ("running_mean", "running_var", "weight", "bias")
        values = (t[f"{norm}.{key}"] for key in keys)
        return torch.nn.functional.batch_norm(x, *values, eps=1e-5)

    def block(x, name, stride):
        y = layer(x, f"{name}.conv1", f"{name}.bn1", stride).relu()
        y = layer(y, f"{name}.conv2", f"{name}.bn2")
        if stride > 1:
            x = layer(x, f"{name}.shortcut.0", f"{name}.shortcut.1", stride)
        return (x + y).relu()

    x = layer(torch.from_numpy(image).permute(0, 3, 1, 2), "conv1", "bn1").relu()
    x = block(block(x, "layer1.0", 1), "layer2.0", 2).mean((2, 3))
    expected = x @ t["linear.weight"].T + t["linear.bias"]
    variables = models.read_torch_names(arrays, like, names=models.resnet_torch_name)
    found = models.from_linen(network).apply(*variables, {"image": image}).logits
    np.testing.assert_allclose(found, expected.numpy(), rtol=1e-4)


def test_what_is_wrong_is_named():
    network, names, _ = NETWORKS["resnet"]
    like, arrays = published(network, names)
    less = {name: x for name, x in arrays.items() if name != "layer1.0.bn1.bias"}
    with pytest.raises(KeyError, match=r"1 arrays are missing: layer1\.0\.bn1\.bias"):
        models.read_torch_names(less, like, names=names)
    more = {**arrays, "fc.weight": np.zeros(3)}
    with pytest.raises(KeyError, match=r"belong to no layer of the model: fc\.weight"):
        models.read_torch_names(more, like, names=names)
    other = {**arrays, "linear.weight": np.zeros((4, 8))}
    with pytest.raises(ValueError, match=r"linear\.weight has shape \(8, 4\)"):
        models.read_torch_names(other, like, names=names)
    with pytest.raises(KeyError, match="no name for a layer 'stage1/conv1'"):
        models.resnet_torch_name("stage1/conv1")


def test_files_are_read_by_their_endings(tmp_path):
    arrays = {"a/x": np.arange(3.0), "b/x": np.ones(2)}
    np.savez(tmp_path / "two.npz", **arrays)
    assert set(models.load_torch_file(tmp_path / "two.npz")) == {"a/x", "b/x"}
    one = models.load_torch_file(tmp_path / "two.npz", prefix="b/")
    np.testing.assert_array_equal(one["x"], np.ones(2))
    with pytest.raises(FileNotFoundError, match=r"three\.npz"):
        models.load_torch_file(tmp_path / "three.npz")
    (tmp_path / "x.bin").touch()
    with pytest.raises(ValueError, match=r"x\.bin is none of \.npz, \.pth"):
        models.load_torch_file(tmp_path / "x.bin")


def test_files_of_torch_are_read_where_it_is(tmp_path, monkeypatch):
    torch = pytest.importorskip("torch", reason="writes and reads torch's files")
    torch.save({"x": torch.arange(3)}, tmp_path / "x.pth")
    found = models.load_torch_file(tmp_path / "x.pth")
    np.testing.assert_array_equal(found["x"], np.arange(3))
    monkeypatch.setitem(__import__("sys").modules, "torch", None)
    with pytest.raises(ModuleNotFoundError, match="pip install torch"):
        models.load_torch_file(tmp_path / "x.pth")
