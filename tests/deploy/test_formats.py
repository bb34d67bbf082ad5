"""ONNX, LiteRT and weights: the model's numbers, in runtimes of others."""

import builtins
import importlib
from collections.abc import Callable
from concurrent import futures

import flax.linen as nn
import jax
import numpy as np
import pytest
from jax import numpy as jnp
from tampering import replace_file

from jaxkd import compress, deploy, models

IMAGES = np.random.default_rng(0).normal(size=(70, 8, 8, 1)).astype("f4")
INPUTS = {"image": IMAGES}


def need(kind):
    reason = f"the extra {kind!r} is not installed"
    pytest.importorskip("safetensors", reason="the extra 'deploy' is not installed")
    modules = {
        "onnx": ("onnx", "onnxruntime", "jax2onnx"),
        "litert": ("litert_converter", "ai_edge_litert", "litert_quantizer"),
    }
    for module in modules.get(kind, ()):
        pytest.importorskip(module, reason=reason)


EXPORTS = {
    "stablehlo": deploy.export,
    "onnx": deploy.export_onnx,
    "litert": deploy.export_litert,
}


def cnn(quantized=False):
    model = models.from_linen(models.CNN(widths=(16, 32), classes=5))
    variables = model.init(jax.random.key(0), INPUTS)
    if quantized:
        variables = variables._replace(params=compress.quantize(variables.params))
    return model, variables


def transformer():
    module = models.Transformer(vocabulary=50, classes=3, width=32, max_length=16)
    model = models.from_linen(module, inputs="tokens")
    draw = np.random.default_rng(0)
    inputs = {"tokens": draw.integers(0, 50, size=(9, 16)).astype("i4")}
    return model, model.init(jax.random.key(0), inputs), inputs


def logits(model, variables, inputs):
    params = compress.dequantize(variables.params)
    return np.asarray(model.apply(params, variables.state, inputs).logits)


@pytest.mark.parametrize("quantized", [False, True])
@pytest.mark.parametrize("kind", EXPORTS)
def test_floats_give_the_models_logits_for_any_batch(tmp_path, kind, quantized):
    need(kind)
    model, variables = cnn(quantized)
    artefact = EXPORTS[kind](model, variables, INPUTS, tmp_path / "net")
    assert artefact.manifest["kind"] == kind
    expected = logits(model, variables, INPUTS)
    for length in (1, 3, 9, 16, 17, 70):
        got = deploy.load(tmp_path / "net").predict({"image": IMAGES[:length]})
        np.testing.assert_allclose(got, expected[:length], rtol=1e-4, atol=1e-5)
    check = artefact.manifest["check"]
    assert check["examples"] == 70
    assert check["agreement"] == 1.0
    assert 0 <= check["max_difference"] < 1e-4


@pytest.mark.parametrize("kind", EXPORTS)
def test_transformers(tmp_path, kind):
    need(kind)
    model, variables, inputs = transformer()
    artefact = EXPORTS[kind](model, variables, inputs, tmp_path / "net")
    expected = logits(model, variables, inputs)
    np.testing.assert_allclose(artefact.predict(inputs), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", ["onnx", "litert 8", "litert 4"])
def test_integers_are_small_and_close(tmp_path, kind):
    name, _, bits = kind.partition(" ")
    need(name)
    model = models.from_linen(models.MLP(hidden=(256, 256), classes=5))
    variables = model.init(jax.random.key(0), INPUTS)
    whole = EXPORTS[name](model, variables, INPUTS, tmp_path / "float")
    how = {"bits": int(bits)} if bits else {"calibration": [{**INPUTS, "label": 1}]}
    how["min_agreement"] = 0.8 if bits == "4" else 0.95
    small = EXPORTS[name](model, variables, INPUTS, tmp_path / "int", **how)
    assert small.manifest["numbers"] == f"int{bits or 8}"
    assert small.num_bytes < whole.num_bytes / (3.0 if bits != "4" else 4.5)
    expected = logits(model, variables, INPUTS)
    error = np.abs(np.asarray(small.predict(INPUTS)) - expected).max()
    share = {"4": 0.35}.get(bits, 0.05)
    assert 0 < error < share * np.abs(expected).max()
    found = small.manifest["check"]["max_difference"]
    np.testing.assert_allclose(found, error, rtol=1e-3)


@pytest.mark.parametrize("kind", ["onnx", "litert"])
def test_too_little_agreement_is_refused(tmp_path, kind):
    need(kind)
    how = {"bits": 8} if kind == "litert" else {"calibration": [INPUTS]}
    with pytest.raises(
        deploy.ArtefactError, match=r"less than `min_agreement`, 110\.0 %"
    ):
        EXPORTS[kind](*cnn(), INPUTS, tmp_path / "net", min_agreement=1.1, **how)
    assert list(tmp_path.iterdir()) == []


class Strange(nn.Module):
    function: Callable[[jax.Array], jax.Array]

    @nn.compact
    def __call__(self, x):
        return self.function(x)


class Net(nn.Module):
    function: Callable[[jax.Array], jax.Array]

    @nn.compact
    def __call__(self, image):
        x = nn.Dense(4)(image.reshape(image.shape[0], -1))
        return nn.Dense(3)(Strange(self.function, name="strange")(x))


def rotate(x):
    return x @ jnp.linalg.qr(x.T @ x)[0]


def turn(x):
    return x @ jnp.linalg.eigh(x.T @ x)[1]


def call_back(x):
    return jax.pure_callback(np.asarray, jax.ShapeDtypeStruct(x.shape, x.dtype), x)


@pytest.mark.parametrize(
    ("kind", "function", "operation"),
    [
        ("litert", rotate, "qr"),
        ("onnx", turn, "eigh"),
        ("onnx", call_back, "pure_callback"),
    ],
)
def test_an_operation_that_is_refused_is_named_with_its_module(
    tmp_path, kind, function, operation
):
    need(kind)
    model = models.from_linen(Net(function))
    variables = model.init(jax.random.key(0), INPUTS)
    words = (
        rf"the operation '{operation}' in 'Net/strange' \(.*test_formats.py:\d+.*"
        "cannot be converted to .*nothing was written"
    )
    with pytest.raises(deploy.ArtefactError, match=words):
        EXPORTS[kind](model, variables, INPUTS, tmp_path / "net")
    assert list(tmp_path.iterdir()) == []


def test_a_program_that_onnx_cannot_run_leaves_nothing_behind(tmp_path):
    need("onnx")
    model = models.from_function(
        lambda params, batch: jnp.fft.fft(batch["x"]).real @ params
    )
    variables, x = models.Variables(jnp.ones((4, 3))), {"x": np.ones((2, 4), "f4")}
    with pytest.raises(deploy.ArtefactError, match="nothing was written"):
        deploy.export_onnx(model, variables, x, tmp_path / "net")
    assert list(tmp_path.iterdir()) == []


def test_calibration_without_batches_or_inputs(tmp_path):
    need("onnx")
    with pytest.raises(deploy.ArtefactError, match="`calibration` has no batches"):
        deploy.export_onnx(*cnn(), INPUTS, tmp_path / "net", calibration=[])
    with pytest.raises(KeyError, match=r"needs batch\['image'\]"):
        deploy.export_onnx(*cnn(), INPUTS, tmp_path / "net", calibration=[{"x": 1}])
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_number_of_bits(tmp_path):
    with pytest.raises(ValueError, match="`bits` must be 8, 4 or None, got 3"):
        deploy.export_litert(*cnn(), INPUTS, tmp_path / "net", bits=3)


@pytest.mark.parametrize("kind", ["onnx", "litert"])
def test_foreign_bytes_with_the_right_checksum(tmp_path, kind):
    need(kind)
    EXPORTS[kind](*cnn(), INPUTS, tmp_path / "net")
    name = "model.onnx" if kind == "onnx" else "model.tflite"
    whole = (tmp_path / "net" / name).read_bytes()
    for content in (b"", b"foreign", whole[:100]):
        (tmp_path / "net" / name).write_bytes(content)
        with pytest.raises(deploy.ArtefactError, match="has changed since"):
            deploy.load(tmp_path / "net")
        replace_file(tmp_path / "net", name, content)
        with pytest.raises(deploy.ArtefactError, match="is no program for this"):
            deploy.load(tmp_path / "net")


MISSING = {
    "onnxruntime": (
        deploy.export_onnx,
        r"'\.\[onnx\]' && pip install --no-deps j",
    ),
    "jax2onnx": (deploy.export_onnx, r"this needs jax2onnx; .*--no-deps jax2onnx"),
    "litert_converter": (deploy.export_litert, r"pip install -e '\.\[litert\]'"),
    "safetensors": (deploy.export, r"pip install -e '\.\[deploy\]'"),
}


@pytest.mark.parametrize("module", MISSING)
def test_a_missing_extra_is_named_and_nothing_is_written(tmp_path, monkeypatch, module):
    export, words = MISSING[module]
    find = importlib.import_module

    def without(name, *rest):
        if name.split(".")[0] == module:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        if name.split(".")[0] in ("onnx", "onnxruntime", "jax2onnx"):
            return builtins
        return find(name, *rest)

    monkeypatch.setattr(importlib, "import_module", without)
    with pytest.raises(ModuleNotFoundError, match=words):
        export(*cnn(), INPUTS, tmp_path / "net")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("quantized", [False, True])
def test_weights_come_back_to_their_model(tmp_path, quantized):
    model, variables = cnn(quantized)
    artefact = deploy.export_safetensors(model, variables, INPUTS, tmp_path / "net")
    like = jax.tree.map(jnp.zeros_like, variables)
    found = deploy.load_weights(tmp_path / "net", like=like)
    jax.tree.map(np.testing.assert_array_equal, found, variables)
    safetensors = pytest.importorskip("safetensors.numpy")
    file = tmp_path / "net" / "weights.safetensors"
    theirs, ours = safetensors.load_file(file), deploy.load_weights(tmp_path / "net")
    assert theirs.keys() == ours.keys()
    for name, x in theirs.items():
        np.testing.assert_array_equal(x, ours[name])
    with pytest.raises(deploy.ArtefactError, match="holds weights without a program"):
        artefact.predict(INPUTS)


def test_weights_of_all_dtypes(tmp_path):
    dtypes = [
        "bool",
        "int8",
        "uint8",
        "int16",
        "int32",
        "float16",
        "bfloat16",
        "float32",
    ]
    params = {name: jnp.arange(3).astype(name) for name in dtypes}
    params["empty"] = jnp.zeros((0, 4))
    model = models.from_function(lambda params, batch: batch["x"] * params["float32"])
    x = {"x": np.ones((2, 3), "f4")}
    deploy.export_safetensors(model, models.Variables(params), x, tmp_path / "net")
    found = deploy.load_weights(tmp_path / "net")
    for name, want in params.items():
        got = found[f"params/{name}"]
        assert (got.dtype, got.shape) == (want.dtype, want.shape)
        np.testing.assert_array_equal(got, want)


def test_weights_of_another_model_are_refused(tmp_path):
    model, variables = cnn()
    deploy.export_safetensors(model, variables, INPUTS, tmp_path / "net")
    with pytest.raises(ValueError, match="the artefact has no 'extra'"):
        deploy.load_weights(tmp_path / "net", like={"extra": 1})
    other = models.from_linen(models.CNN(widths=(16, 24), classes=5))
    like = other.init(jax.random.key(0), INPUTS)
    with pytest.raises(ValueError, match=r"has shape .* in the artefact"):
        deploy.load_weights(tmp_path / "net", like=like)


def test_litert_answers_many_threads_at_once_each_its_own(tmp_path):
    need("litert")
    model, variables = cnn()
    artefact = deploy.export_litert(model, variables, INPUTS, tmp_path / "net")
    whole = artefact.predict(INPUTS)
    rows = [slice(i, i + 1 + i % 20) for i in range(50)]
    with futures.ThreadPoolExecutor(8) as pool:
        found = pool.map(lambda s: artefact.predict({"image": IMAGES[s]}), rows)
        for own, logits in zip(rows, found, strict=True):
            np.testing.assert_allclose(logits, whole[own], atol=1e-5)
