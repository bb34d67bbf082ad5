import json
import os
import subprocess
import sys

import jax
import numpy as np
import pytest
from flax import nnx
from tampering import replace_file, reseal

from jaxkd import compress, deploy, models, trees

INPUTS = {"image": np.random.default_rng(0).normal(size=(4, 8, 8, 1)).astype("f4")}


def make(quantized=False):
    model = models.from_linen(models.CNN(widths=(8, 16), classes=3))
    variables = model.init(jax.random.key(0), INPUTS)
    if quantized:
        params = compress.quantize(variables.params)
        variables = models.Variables(params, variables.state)
    return model, variables


@pytest.fixture
def folder(tmp_path):
    deploy.export(*make(), INPUTS, tmp_path / "student", metadata={"seed": 1})
    return tmp_path / "student"


@pytest.mark.parametrize("quantized", [False, True])
@pytest.mark.parametrize("length", [1, 4, 33])
def test_gives_the_models_logits_for_any_batch_length(tmp_path, quantized, length):
    model, variables = make(quantized)
    deploy.export(model, variables, INPUTS, tmp_path / "student")
    batch = {"image": np.resize(INPUTS["image"], (length, 8, 8, 1))}
    params = compress.dequantize(variables.params)
    expected = model.apply(params, variables.state, batch).logits
    got = deploy.load(tmp_path / "student").predict(batch)
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-5)


def test_integers_are_stored_as_integers(tmp_path):
    sizes = {}
    for quantized in (False, True):
        model, variables = make(quantized)
        folder = tmp_path / str(quantized)
        artefact = deploy.export(model, variables, INPUTS, folder)
        sizes[quantized] = artefact.manifest["files"]["weights.safetensors"]["bytes"]
        assert artefact.num_bytes == sum(f.stat().st_size for f in folder.iterdir())
        assert sizes[quantized] >= trees.num_bytes(variables)
    assert sizes[True] < 0.6 * sizes[False]


def test_nnx_models_with_random_streams(tmp_path):
    class Net(nnx.Module):
        def __init__(self, rngs):
            self.dense = nnx.Linear(64, 3, rngs=rngs)
            self.dropout = nnx.Dropout(0.5, rngs=rngs)

        def __call__(self, x):
            return self.dense(self.dropout(x.reshape(x.shape[0], -1)))

    model = models.from_nnx(Net(nnx.Rngs(0)))
    variables = model.init(jax.random.key(0), INPUTS)
    artefact = deploy.export(model, variables, INPUTS, tmp_path / "net")
    expected = model.apply(*variables, INPUTS).logits
    np.testing.assert_allclose(artefact.predict(INPUTS), expected, rtol=1e-5, atol=1e-6)


def test_manifest_says_what_goes_in(folder):
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["inputs"] == {
        "image": {"shape": ["batch", 8, 8, 1], "dtype": "float32"}
    }
    assert manifest["output"]["shape"] == ["batch", 3]
    assert manifest["metadata"] == {"seed": 1}
    assert {"cpu", "cuda", "tpu"} <= set(manifest["platforms"])


CODE = """
import sys, numpy as np
from jaxkd import deploy
print(deploy.load(sys.argv[1]).predict({"image": np.zeros((2, 8, 8, 1))}).shape)
heavy = {"orbax", "tensorflow_datasets", "grain", "jaxkd.train"}
print(sorted(heavy & set(sys.modules)))
"""


def test_runs_in_a_fresh_process_without_the_training_code(folder):
    done = subprocess.run(
        [sys.executable, "-c", CODE, str(folder)],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    assert done.stdout.splitlines() == ["(2, 3)", "[]"]


@pytest.mark.parametrize("name", ["program.bin", "weights.safetensors"])
@pytest.mark.parametrize("damage", ["flip", "cut", "remove"])
def test_files_that_changed_are_not_used(folder, name, damage):
    content = bytearray((folder / name).read_bytes())
    if damage == "flip":
        content[len(content) // 2] ^= 1
    (folder / name).write_bytes(content[:50] if damage == "cut" else content)
    if damage == "remove":
        (folder / name).unlink()
    with pytest.raises(deploy.ArtefactError, match=rf"{name} (has changed|is missing)"):
        deploy.load(folder)


NO_SHA = json.dumps(
    {
        "format": 2,
        "kind": "stablehlo",
        "inputs": {},
        "output": {"shape": ["batch", 3], "dtype": "float32"},
        "files": {"program.bin": {}, "weights.safetensors": {}},
    }
)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "{}",
        '{"format": 2, "files": 3}',
        NO_SHA,
        " " * 2**21,
        "[" * 10**5,
    ],
)
def test_a_damaged_manifest(folder, text):
    (folder / "manifest.json").write_text(text)
    with pytest.raises(deploy.ArtefactError, match=r"manifest\.json is damaged"):
        deploy.load(folder)


def test_a_manifest_that_names_other_files_or_another_format(folder):
    manifest = json.loads((folder / "manifest.json").read_text())
    foreign = {"files": {"../../etc/passwd": {}}}
    for change in (foreign, {"format": 99}, {"kind": "onxn"}, {"kind": "onnx"}):
        reseal(folder, {**manifest, **change})
        with pytest.raises(deploy.ArtefactError, match="this version reads format 2"):
            deploy.load(folder)


def test_a_manifest_that_was_changed_by_hand(folder):
    file = folder / "manifest.json"
    file.write_text(file.read_text().replace('"seed": 1', '"seed": 2'))
    with pytest.raises(deploy.ArtefactError, match=r"manifest\.json has changed since"):
        deploy.load(folder)


def test_a_manifest_with_a_wrong_field_and_the_right_checksum(folder):
    manifest = json.loads((folder / "manifest.json").read_text())
    inputs = [{"shape": [8, 8], "dtype": "f4"}, {"shape": ["batch", -1], "dtype": "f4"}]
    for found in (*inputs, {"shape": ["batch"], "dtype": "no"}, {"shape": 3}):
        reseal(folder, {**manifest, "inputs": {"image": found}})
        with pytest.raises(deploy.ArtefactError, match="is damaged"):
            deploy.load(folder)


def test_files_larger_than_allowed_are_not_read(folder):
    with pytest.raises(deploy.ArtefactError, match="more than `max_bytes`, 100"):
        deploy.load(folder, max_bytes=100)


def test_weights_of_another_program(folder, tmp_path):
    model = models.from_linen(models.CNN(widths=(8, 24), classes=3))
    variables = model.init(jax.random.key(0), INPUTS)
    deploy.export(model, variables, INPUTS, tmp_path / "other")
    content = (tmp_path / "other" / "weights.safetensors").read_bytes()
    replace_file(folder, "weights.safetensors", content)
    with pytest.raises(deploy.ArtefactError, match="not the weights of its program"):
        deploy.load(folder)


def test_a_program_of_foreign_bytes_with_the_right_checksum(folder):
    replace_file(folder, "program.bin", b"foreign")
    with pytest.raises(deploy.ArtefactError, match="is no program for this version"):
        deploy.load(folder)


def test_masked_classes_foreign_layouts_and_plain_numbers_are_exported(tmp_path):
    kernel = np.arange(12.0, dtype="f4").reshape(3, 4).T  # not contiguous
    model = models.from_function(
        lambda params, batch: (
            batch["x"] @ params["kernel"] * params["scale"]
            + np.array([0, -np.inf, 0], "f4")
        )
    )
    variables = models.Variables({"kernel": kernel, "scale": 2.0})
    x = np.ones((2, 4), np.float32)
    artefact = deploy.export(model, variables, {"x": x}, tmp_path / "model")
    expected = x @ kernel * 2.0 + np.array([0, -np.inf, 0])
    np.testing.assert_allclose(artefact.predict({"x": x}), expected, rtol=1e-6)
    with pytest.raises(deploy.ArtefactError, match="`metadata` must be plain values"):
        deploy.export(
            model, variables, {"x": x}, tmp_path / "other", metadata={"a": np.ones(2)}
        )


def test_what_is_no_artefact(tmp_path):
    with pytest.raises(FileNotFoundError, match="is no artefact"):
        deploy.load(tmp_path)


def test_nothing_is_overwritten(folder):
    with pytest.raises(deploy.ArtefactError, match="exists already"):
        deploy.export(*make(), INPUTS, folder)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_may_not_be_written(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(deploy.ArtefactError, match="cannot write"):
        deploy.export(*make(), INPUTS, tmp_path / "student")


def test_a_folder_below_a_file(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(deploy.ArtefactError, match="cannot write"):
        deploy.export(*make(), INPUTS, tmp_path / "file" / "student")


def test_a_failed_export_leaves_nothing_behind(tmp_path):
    model, variables = make()
    flips = iter([1.0, 2.0, 3.0, 4.0, 5.0])  # another function at every trace

    def unstable(params, state, batch, **kwargs):
        out = model.apply(params, state, batch, **kwargs)
        return out._replace(logits=out.logits * next(flips))

    with pytest.raises(deploy.ArtefactError, match="differs from the model"):
        deploy.export(
            models.Model(model.init, unstable), variables, INPUTS, tmp_path / "student"
        )
    assert list(tmp_path.iterdir()) == []


def test_wrong_inputs_are_explained(folder):
    predict = deploy.load(folder).predict
    with pytest.raises(
        ValueError, match=r"'image' has shape \(2, 8\).*\(batch, 8, 8, 1\)"
    ):
        predict({"image": np.zeros((2, 8))})
    with pytest.raises(ValueError, match="has shape \\(0, 8, 8, 1\\)"):
        predict({"image": np.zeros((0, 8, 8, 1))})
    with pytest.raises(TypeError, match="is complex128, but must be float32"):
        predict({"image": np.zeros((2, 8, 8, 1), complex)})
    with pytest.raises(KeyError, match=r"needs batch\['image'\]"):
        predict({})
    with pytest.raises(
        ValueError, match="unknown input 'imagee'; did you mean 'image'"
    ):
        predict({**INPUTS, "imagee": 1})
    with pytest.raises(ValueError, match=r"'image' is no array: .* inhomogeneous"):
        predict({"image": [[1, 2], [3]]})
    with pytest.raises(TypeError, match=r"by name, {'image': ...}, got <class 'list'>"):
        predict([1, 2])
    with pytest.raises(ValueError, match="unknown input '7'"):
        predict({**INPUTS, 7: 1, "8": 2})


def test_integers_that_do_not_fit_are_refused(tmp_path):
    model = models.from_function(lambda params, batch: params[batch["tokens"]])
    tokens = {"tokens": np.array([1, 2], "i4")}
    folder = tmp_path / "model"
    artefact = deploy.export(model, models.Variables(np.eye(4)), tokens, folder)
    assert artefact.predict({"tokens": np.array([3], "i8")}).shape == (1, 4)
    with pytest.raises(ValueError, match="'tokens' has numbers beyond int32"):
        artefact.predict({"tokens": np.array([2**32])})
    with pytest.raises(TypeError, match="is float64, but must be int32"):
        artefact.predict({"tokens": np.array([1.0])})


def test_inputs_of_different_lengths_are_refused(tmp_path):
    model = models.from_function(lambda params, batch: batch["a"] + batch["b"])
    x = np.ones((2, 3), "f4")
    variables, folder = models.Variables({}), tmp_path / "model"
    with pytest.raises(ValueError, match="`inputs` must be arrays with one first axis"):
        deploy.export(model, variables, {"a": x, "b": x[:1]}, folder)
    predict = deploy.export(model, variables, {"a": x, "b": x}, folder).predict
    with pytest.raises(ValueError, match="number of examples: 'a' 2, 'b' 1"):
        predict({"a": x, "b": x[:1]})


def test_what_cannot_be_exported_is_named(tmp_path):
    model, variables = make()
    wrong = [
        ((model, variables.params, INPUTS), "takes a Model, .* got a Model and a dict"),
        ((variables, model, INPUTS), "got a Variables and a Model"),
        ((model, variables, INPUTS["image"]), "`inputs` must be a dict of arrays"),
    ]
    for arguments, words in wrong:
        with pytest.raises(TypeError, match=words):
            deploy.export(*arguments, tmp_path / "student")
    assert list(tmp_path.iterdir()) == []
