"""Export, bench and serve, from the command line."""

import json
import re
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request

import jax
import numpy as np
import pytest

from jaxkd import cli, compress, deploy, models, recipes

pytest.importorskip("sklearn", reason="the digits come with scikit-learn")


def run(*words):
    return cli.main([str(word) for word in words])


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """The folder of a demo's run, its models untrained."""
    folder = tmp_path_factory.mktemp("run")
    config = recipes.DemoConfig(teacher_widths=(8, 8), student_widths=(4, 8))
    settings = json.loads(json.dumps(config.__dict__))
    record = {"config": settings, "versions": recipes.versions()}
    (folder / "config.json").write_text(json.dumps(record))
    inputs = {"image": recipes.load_digits().test["image"][:4]}
    student, teacher = recipes.make_models(config)
    (folder / "exported").mkdir()
    variables = teacher.init(jax.random.key(0), inputs)
    deploy.export(teacher, variables, inputs, folder / "exported" / "teacher")
    variables = student.init(jax.random.key(1), inputs)
    variables = variables._replace(params=compress.quantize(variables.params))
    deploy.export(student, variables, inputs, folder / "exported" / "student")
    return folder


def test_export_writes_artefacts_and_cards(demo, capsys):
    assert run("export", demo, "--to", "stablehlo,safetensors") == 0
    paths = [demo / "exported" / f"student-{x}" for x in ("stablehlo", "safetensors")]
    assert capsys.readouterr().out.split() == [str(path) for path in paths]
    images = {"image": recipes.load_digits().test["image"]}
    original = deploy.load(demo / "exported" / "student").predict(images)
    np.testing.assert_allclose(deploy.load(paths[0]).predict(images), original)
    card = json.loads((paths[0] / "card.json").read_text())
    labels = recipes.load_digits().test["label"]
    right = np.mean(np.argmax(np.asarray(original), 1) == labels)
    assert card["accuracy"] == pytest.approx(right)
    assert card["recipe"]["student_widths"] == [4, 8]
    assert len(card["classes"]) == 10
    assert all("change" in entry for entry in card["classes"])
    assert len(card["teacher"]["fingerprint"]) >= 32
    assert card["speed"]["batches"][0]["length"] == 1
    assert run("export", demo, "--to", "stablehlo") == 1
    assert "exists already" in capsys.readouterr().err


@pytest.mark.parametrize("kind", ["onnx", "onnx-int8", "litert", "litert-int8"])
def test_export_to_other_runtimes(demo, kind, tmp_path, capsys):
    needed = {"onnx": "jax2onnx", "litert": "litert_converter"}[kind.split("-")[0]]
    pytest.importorskip(needed, reason="its extra is not installed")
    assert run("export", demo, "--to", kind) == 0
    folder = demo / "exported" / f"student-{kind}"
    assert (folder / "card.md").is_file()
    np.save(tmp_path / "x.npy", recipes.load_digits().test["image"][:9])
    capsys.readouterr()
    assert run("predict", folder, tmp_path / "x.npy") == 0
    assert len(capsys.readouterr().out.split()) == 9


def test_export_explains_what_is_wrong(demo, tmp_path, capsys):
    for words, code, said in (
        ((demo, "--to", "onxn"), 2, "'onxn' is no format; did you mean 'onnx'"),
        ((demo, "--to", "onnx", "--model", "studnet"), 2, "did you mean 'student'"),
        ((tmp_path, "--to", "onnx"), 2, "holds no finished run"),
    ):
        assert run("export", *words) == code
        assert said in capsys.readouterr().err


def test_bench_shows_ratios(demo, capsys):
    folders = [demo / "exported" / name for name in ("teacher", "student")]
    assert run("bench", *folders, "--batch", 1, 8, "--rounds", 2) == 0
    header, _, teacher, student = capsys.readouterr().out.splitlines()
    assert "examples/s, 8" in header
    assert "÷" not in teacher
    assert re.search(r"\| student +\| stablehlo +\| +[\d.]+ ÷\d", student)
    assert run("bench", demo) == 2
    assert "is no artefact" in capsys.readouterr().err
    assert run("bench", *folders, "--rounds", 0) == 2


@pytest.fixture
def server(demo):
    pytest.importorskip("uvicorn", reason="the extra 'serve' is not installed")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    folder = demo / "exported" / "student"
    words = [sys.executable, "-m", "jaxkd.cli", "serve", folder, "--port", port]
    process = subprocess.Popen([str(word) for word in words], stderr=subprocess.PIPE)
    address = f"http://127.0.0.1:{port}"
    try:
        wait_for(f"{address}/health", process)
        yield address
    finally:
        process.terminate()
        process.communicate(timeout=60)


def wait_for(address, process):
    for _ in range(600):
        try:
            return urllib.request.urlopen(address, timeout=5).read()
        except OSError:
            assert process.poll() is None
            time.sleep(0.1)
    raise TimeoutError(address)


def test_serve_answers_over_http(demo, server):
    images = recipes.load_digits().test["image"][:3]
    body = json.dumps({"inputs": {"image": images.tolist()}}).encode()
    with urllib.request.urlopen(f"{server}/predict", body, timeout=60) as answer:
        found = json.loads(answer.read())
    expected = deploy.load(demo / "exported" / "student").predict({"image": images})
    np.testing.assert_allclose(found["logits"], expected, rtol=1e-4, atol=1e-5)
    with pytest.raises(urllib.error.HTTPError, match="413"):
        urllib.request.urlopen(f"{server}/predict", b" " * 2_000_000, timeout=60)


def test_predict_refuses_weights_alone(tmp_path, capsys):
    model = models.from_linen(models.MLP(hidden=(8,), classes=3))
    inputs = {"image": np.ones((2, 4), np.float32)}
    variables = model.init(jax.random.key(0), inputs)
    deploy.export_safetensors(model, variables, inputs, tmp_path / "weights")
    np.save(tmp_path / "x.npy", inputs["image"])
    assert run("predict", tmp_path / "weights", tmp_path / "x.npy") == 1
    assert "holds weights without a program" in capsys.readouterr().err


def test_arrays_that_say_they_are_huge_and_ports_beyond_all_are_refused(
    tmp_path, capsys
):
    model = models.from_linen(models.MLP(hidden=(2,), classes=2))
    inputs = {"image": np.ones((2, 4), np.float32)}
    variables = model.init(jax.random.key(0), inputs)
    deploy.export(model, variables, inputs, tmp_path / "net")
    for shape in ((2**40, 4), (2**62, 4), (-1, 4)):
        with (tmp_path / "x.npy").open("wb") as stream:
            head = {"descr": "<f4", "fortran_order": False, "shape": shape}
            np.lib.format.write_array_header_1_0(stream, head)
        assert run("predict", tmp_path / "net", tmp_path / "x.npy") == 2
        assert "is no .npy or .npz file" in capsys.readouterr().err
    for port in (0, 65536, -1):
        assert run("serve", tmp_path / "net", "--port", port) == 2
        assert "--port must be from 1 to 65535" in capsys.readouterr().err
