import re
import subprocess
import sys

import jax
import numpy as np
import pytest

from jaxkd import cli, deploy, models


@pytest.fixture(scope="module")
def artefact(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cli") / "student"
    model = models.from_linen(models.MLP(hidden=(8,), classes=3))
    inputs = {"image": np.ones((2, 4), np.float32)}
    deploy.export(model, model.init(jax.random.key(0), inputs), inputs, folder)
    return folder


def run(*words):
    return cli.main([str(word) for word in words])


def test_help_names_every_command(capsys):
    assert run("--help") == 0
    text = capsys.readouterr().out
    words = "demo compress run resume list report tune export evaluate bench predict"
    for command in (*words.split(), "serve", "data"):
        assert re.search(rf"^    {command} +\w+", text, re.M)
        assert run(command, "--help") == 0
        assert "usage: jaxkd " + command in capsys.readouterr().out


def test_version(capsys):
    assert run("--version") == 0
    assert re.match(r"jaxkd \d+\.\d+", capsys.readouterr().out)


@pytest.mark.parametrize("words", [[], ["dmo"], ["demo", "--stepz"], ["predict", "a"]])
def test_wrong_usage_is_2(words, capsys):
    assert run(*words) == 2
    assert "usage: jaxkd" in capsys.readouterr().err


def test_predict_prints_a_class_for_each_example(artefact, tmp_path, capsys):
    x = np.random.default_rng(0).normal(size=(7, 4))
    np.save(tmp_path / "x.npy", x)
    logits = tmp_path / "logits.npy"
    assert run("predict", artefact, tmp_path / "x.npy", "--logits", logits) == 0
    expected = np.asarray(deploy.load(artefact).predict({"image": x}))
    printed = [int(line) for line in capsys.readouterr().out.split()]
    np.testing.assert_array_equal(printed, np.argmax(expected, axis=1))
    np.testing.assert_array_equal(np.load(logits), expected)
    assert run("predict", artefact, tmp_path / "x.npy", "--logits", logits) == 1
    assert "File exists" in capsys.readouterr().err


def test_predict_reads_named_inputs(artefact, tmp_path):
    np.savez(tmp_path / "x.npz", image=np.ones((2, 4), np.float32))
    assert run("predict", artefact, tmp_path / "x.npz") == 0


def bad_inputs(tmp_path):
    np.save(tmp_path / "wide.npy", np.ones((2, 5)))
    np.save(tmp_path / "objects.npy", np.array([{}], object), allow_pickle=True)
    np.savez(tmp_path / "other.npz", imagee=np.ones((2, 4)))
    np.savez(tmp_path / "whole.npz", image=np.ones((2, 4)))
    cut = (tmp_path / "whole.npz").read_bytes()[:-30]
    (tmp_path / "cut.npz").write_bytes(cut)
    (tmp_path / "text.npy").write_text("not an array")
    (tmp_path / "empty.npy").write_text("")
    return {
        "wide.npy": r"'image' has shape \(2, 5\), but must be \(batch, 4\)",
        "objects.npy": "no .npy or .npz file of plain arrays",
        "other.npz": "unknown input 'imagee'; did you mean 'image'",
        "text.npy": "no .npy or .npz file of plain arrays",
        "cut.npz": "no .npy or .npz file of plain arrays",
        "empty.npy": "no .npy or .npz file of plain arrays",
        "missing.npy": "does not exist",
    }


def test_predict_explains_bad_input_in_one_line(artefact, tmp_path, capsys):
    for name, words in bad_inputs(tmp_path).items():
        assert run("predict", artefact, tmp_path / name) == 2
        error = capsys.readouterr().err
        assert re.search(words, error)
        assert error.count("\n") == 1


def test_predict_refuses_what_has_changed(artefact, tmp_path, capsys):
    copy = tmp_path / "copy"
    copy.mkdir()
    for file in artefact.iterdir():
        (copy / file.name).write_bytes(file.read_bytes())
    (copy / "weights.safetensors").write_bytes(b"something else")
    np.save(tmp_path / "x.npy", np.ones((1, 4)))
    assert run("predict", copy, tmp_path / "x.npy") == 1
    assert "has changed since it was written" in capsys.readouterr().err
    assert run("predict", tmp_path, tmp_path / "x.npy") == 2
    assert "is no artefact" in capsys.readouterr().err


def test_demo_refuses_a_bad_folder_before_it_trains(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert run("demo", "--out", tmp_path / "file") == 1
    assert "cannot write to" in capsys.readouterr().err
    assert run("demo", "--out", tmp_path) == 1
    assert "holds other files (file)" in capsys.readouterr().err
    assert run("demo", "--out", tmp_path / "new", "--steps", 0) == 2
    assert not (tmp_path / "new").exists()


def test_the_installed_command_shows_no_traceback(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "jaxkd.cli", "predict", "nowhere", "x.npy"],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 2
    assert done.stderr == "jaxkd: nowhere is no artefact: it has no manifest.json.\n"
