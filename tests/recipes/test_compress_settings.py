import dataclasses
import json

import numpy as np
import pytest
from compressing import EXPORT, STAGES, config

from jaxkd import cli, deploy, recipes

pytest.importorskip("sklearn", reason="the digits come with scikit-learn")
pytestmark = pytest.mark.usefixtures("one_device")
DIGITS = recipes.load_digits()


def stage(kind, **settings):
    return {"stages": [{"stage": "distil"}, {"stage": kind, **settings}]}


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"stages": []}, "nothing to do"),
        ({"stages": 3}, "`stages` must be tuple"),
        ({"stages": ["distil"]}, "stage 1 must be a table"),
        ({"flor": 0.5}, "'flor' is no setting; did you mean 'floor'"),
        ({"floor": 1.5}, r"`floor` must be in \[0, 1\], got 1\.5"),
        ({"floor": "high"}, "`floor` must be float, got 'high'"),
        ({"batch_size": True}, "`batch_size` must be int, got True"),
        ({"seed": -1}, "`seed` must be in"),
        (stage("shrnk"), "stage 2: 'shrnk' is no stage; did you mean 'shrink'"),
        (stage("shrink", kep=0.5), "stage 2, shrink: 'kep' is no setting.*'keep'"),
        (stage("shrink", keep=1.0), "stage 2, shrink: `keep` must be strictly"),
        (stage("shrink", of="parms"), "`of` has no 'parms'; did you mean 'params'"),
        (stage("distil", steps=0), "`steps` must be at least 1, got 0"),
        (stage("prune", learning_rate=0), "`learning_rate` must be positive"),
        (stage("quantize", format="int9"), "no 'int9'; did you mean 'int8'"),
        (stage("quantize", steps=5, calibrate=9), "`calibrate` must be 0 with"),
        (stage("cluster", bits=9), "`bits` must be from 1 to 8"),
        (stage("export", formats=["onxn"]), "no 'onxn'; did you mean 'onnx'"),
        (stage("export", formats=[]), "nothing to export"),
    ],
)
def test_bad_settings(settings, words):
    with pytest.raises((ValueError, TypeError), match=words):
        recipes.CompressConfig.from_json(settings)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (recipes.Quantize(), recipes.Shrink()),
        (recipes.Cluster(), recipes.Prune()),
        (recipes.Factorize(), recipes.Shrink()),
    ],
)
def test_orders_without_meaning_are_refused(first, second):
    with pytest.raises(ValueError, match=r"cannot follow stage 1, .* put it before"):
        config(first, second)
    config(second, first)
    with pytest.raises(ValueError, match="2, quantize, cannot follow stage 1, cluster"):
        config(recipes.Cluster(), recipes.Quantize())


def test_a_config_survives_json():
    every = (
        *STAGES,
        EXPORT,
        recipes.FineTune(steps=3),
    )
    before = recipes.CompressConfig(every, floor=0.5)
    text = json.dumps(before.to_json())
    assert recipes.CompressConfig.from_json(json.loads(text)) == before
    with pytest.raises(dataclasses.FrozenInstanceError):
        before.floor = 0.1


def command(*words):
    return cli.main([str(word) for word in words])


def test_the_command_line(tmp_path, capsys):
    folder, file = tmp_path / "run", tmp_path / "config.json"
    stages = [{"stage": "shrink", "keep": 0.5, "steps": 9}]
    file.write_text(
        json.dumps({"teacher_steps": 2, "widths": [8, 8], "stages": stages})
    )
    words = ("compress", "--config", file, "--set", "stages.1.steps=0", "--quiet")
    assert command(*words, "--folder", folder) == 0
    assert "1-shrink" in capsys.readouterr().out
    saved = json.loads((folder / "config.json").read_text())["config"]
    assert recipes.config_of(saved).stages == (recipes.Shrink(keep=0.5, steps=0),)
    assert command("compress", "--folder", folder) == 1
    assert "add --resume" in capsys.readouterr().err
    assert command("compress", "--folder", folder, "--resume", "--quiet") == 0
    assert command("export", folder, "--to", "onnx", "--model", "1-shrnk") == 2
    assert "did you mean '1-shrink'" in capsys.readouterr().err
    assert command("export", folder, "--to", "stablehlo") == 0
    made = folder / "exported" / "student-stablehlo"
    assert capsys.readouterr().out.split() == [str(made)]
    inputs = {"image": DIGITS.test["image"][:9]}
    found = recipes.read_exportable(folder, "1-shrink")
    logits = found.model.apply(*found.variables, inputs).logits
    np.testing.assert_allclose(
        deploy.load(made).predict(inputs), logits, rtol=1e-4, atol=1e-4
    )
    teacher = folder / "exported" / "teacher"
    assert command("bench", teacher, made, "--batch", 1, "--rounds", 1) == 0
    assert "÷" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--set", "flor=0.5"), "'flor' is no setting; did you mean 'floor'"),
        (("--set", "floor"), "a setting is NAME=VALUE"),
        (("--set", "stages.9.steps=1"), "'9' holds no settings; known are '1', '2'"),
        (("--set", "stages.x.steps=1"), "'x' holds no settings"),
        (("--set", "stages.1.keep=2"), "stage 1, shrink: `keep`"),
        (("--config", "nowhere.json"), "nowhere.json does not exist"),
    ],
)
def test_the_command_line_explains_what_is_wrong(words, said, tmp_path, capsys):
    assert command("compress", "--folder", tmp_path / "run", *words) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
