import dataclasses
import json

import jax
import numpy as np
import optax
import pytest

from jaxkd import (
    cli,
    compress,
    data,
    deploy,
    models,
    objectives,
    recipes,
    report,
    train,
    trees,
)

pytest.importorskip("sklearn", reason="the digits come with scikit-learn")
DIGITS = recipes.load_digits()


def mlp(widths):
    return models.from_linen(models.MLP(hidden=tuple(widths), classes=10))


def rebuild(widths):
    return mlp((widths["params/dense1/kernel:1"],))


@pytest.fixture(scope="module")
def task():
    """A trained teacher, and the digits."""
    parts = (mlp((64,)), None, objectives.hard_label(), optax.adam(5e-3))
    batches = data.TrainBatches(DIGITS.train, batch_size=64, seed=0)
    state = train.init_state(jax.random.key(0), *parts, batches.peek())
    step = train.jit_step(train.make_train_step(*parts))
    *_, (state, _) = train.fit(step, state, None, batches, steps=150)
    return recipes.Task(
        parts[0], state.student, DIGITS.train, DIGITS.test, rebuild=rebuild
    )


def config(*stages, **settings):
    return recipes.CompressConfig(stages, **settings)


def run(config, folder, task, **options):
    return recipes.compress(config, folder, task, quiet=True, **options)


def files(folder):
    """What every stage kept, to the bit."""
    return {
        file.parent.name: file.read_bytes()
        for file in sorted((folder / "stages").glob("*/student.jkd"))
    }


def zeros(tree):
    return trees.sparsity(
        {name: layer["kernel"] for name, layer in compress.dequantize(tree).items()}
    )


def accuracy(model, variables):
    params = compress.dequantize(variables.params)
    logits = model.apply(params, variables.state, DIGITS.test).logits
    return np.mean(np.argmax(logits, axis=1) == DIGITS.test["label"])


def test_what_stages_do_stays_done_in_either_order(task, tmp_path):
    prune = recipes.Prune(sparsity=0.5, steps=20)
    shrink = recipes.Shrink(keep=0.5, steps=16)
    first = run(config(prune, shrink, recipes.FineTune(steps=8)), tmp_path / "a", task)
    last = run(config(shrink, prune, recipes.Distil(steps=8)), tmp_path / "b", task)
    for result in (first, last):
        names = [row.name for row in result.rows]
        assert names[0] == "teacher"
        teacher, *_, small = result.rows
        assert small.parameters <= 0.5 * teacher.parameters
        assert small.accuracy == (pytest.approx(accuracy(*result[1:])),)
    assert zeros(last.variables.params) == pytest.approx(0.5, abs=0.002)
    # The units that left were not the ones with the zeros; those that stayed did stay.
    before = compress.load_tree(tmp_path / "a" / "stages" / "2-shrink" / "student.jkd")
    after = trees.flatten(first.variables.params)
    assert zeros(before["params"]) > 0.3
    for path, x in trees.flatten(before["params"]).items():
        if path.endswith("kernel"):
            np.testing.assert_array_equal(np.asarray(after[path]) == 0, x == 0)
    assert list(files(tmp_path / "b")) == ["1-shrink", "2-prune", "3-distil"]


def test_distilling_after_quantizing_keeps_the_format(task, tmp_path):
    distil = recipes.Distil(steps=16, learning_rate=1e-3)
    quantize = recipes.Quantize("int4", steps=16)
    for name, stages in {"a": (distil, quantize), "b": (quantize, distil)}.items():
        result = run(config(*stages), tmp_path / name, task)
        kernel = result.variables.params["dense1"]["kernel"]
        assert kernel.format == compress.INT4
        assert np.abs(kernel.integers()).max() <= 7
        assert result.rows[-1].num_bytes < result.rows[0].num_bytes / 4
        assert result.rows[-1].accuracy[0] > 0.8
    kept = files(tmp_path / "b")
    assert kept["1-quantize"] != kept["2-distil"]  # it did train


def test_factors_and_palettes_are_trained_and_read_back(task, tmp_path):
    stages = (
        recipes.Factorize(energy=0.8, steps=16, where="^dense"),
        recipes.Prune(sparsity=0.3, steps=0),
        recipes.Cluster(bits=3, steps=16),
        recipes.Distil(steps=8),
    )
    result = run(config(*stages), tmp_path / "run", task)
    palette = result.variables.params["dense1"]["first"]["kernel"]
    assert isinstance(palette, compress.Palette)
    assert palette.keeps_zero
    assert palette.centroids.shape == (8,)
    assert accuracy(*result[1:]) == pytest.approx(result.rows[-1].accuracy[0])
    again = run(config(*stages), tmp_path / "run", task, resume=True)
    assert trees.digest(again.variables) == trees.digest(result.variables)
    factored, *_, small = result.rows[1:]
    assert factored.parameters < result.rows[0].parameters
    assert small.num_bytes < factored.num_bytes / 3


def test_calibration_lowers_the_error(task, tmp_path):
    inputs = {"image": DIGITS.train["image"][:200]}
    want = task.teacher.apply(*task.variables, inputs).logits
    errors = []
    for name, examples in (("a", 0), ("b", 200)):
        stage = recipes.Quantize("int2", calibrate=examples)
        result = run(config(stage), tmp_path / name, task)
        params = compress.dequantize(result.variables.params)
        logits = result.model.apply(params, {}, inputs).logits
        errors.append(float(np.mean((logits - want) ** 2)))
    assert errors[1] < 0.9 * errors[0]


STAGES = (
    recipes.Distil(steps=16),
    recipes.Shrink(keep=0.6, steps=16),
    recipes.Prune(sparsity=0.5, steps=16),
    recipes.Quantize(steps=16),
)


def fails_after(batches):
    """A transform as of a process that is killed when it has made so many batches."""
    made = []

    def transform(key, batch):
        made.append(0)
        if len(made) > batches:
            raise KeyboardInterrupt
        return batch

    return transform


def stamp(folder, name):
    return (folder / "stages" / name / "stage.json").stat().st_mtime_ns


def test_killed_and_resumed_it_ends_with_the_same_bits(task, tmp_path):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    settings = config(*STAGES, save_every=8)
    expected = run(settings, whole, task)
    for batches in (45, 20):  # within the third stage, and later
        killed = task._replace(transform=fails_after(batches))
        with pytest.raises(KeyboardInterrupt):
            run(settings, parts, killed, resume=True)
    done = {name: stamp(parts, name) for name in files(parts)}
    assert list(done)[:2] == ["1-distil", "2-shrink"]
    result = run(settings, parts, task, resume=True)
    for name, before in done.items():
        assert stamp(parts, name) == before
    assert files(parts) == files(whole)
    assert trees.digest(result.variables) == trees.digest(expected.variables)
    for own, other in zip(result.rows, expected.rows, strict=True):
        assert own[:6] == other[:6]  # all but times


def test_leaves_one_table_and_one_plot(task, tmp_path):
    result = run(config(recipes.Quantize()), tmp_path, task)
    text = (tmp_path / "report.md").read_text()
    assert report.markdown_table(result.rows) in text
    assert (tmp_path / "report.png").read_bytes()[:4] == b"\x89PNG"
    kept = json.loads((tmp_path / "stages" / "1-quantize" / "stage.json").read_text())
    assert kept["scores"]["accuracy"] == result.rows[1].accuracy[0]
    assert kept["num_bytes"] == len(files(tmp_path)["1-quantize"])
    assert kept["latency"] > 0


def test_stops_at_the_floor_and_keeps_what_was_done(task, tmp_path):
    stages = (recipes.Quantize(), recipes.Distil(steps=8))
    broken = config(recipes.Distil(steps=8), recipes.Prune(0.97, steps=0), floor=0.85)
    with pytest.raises(recipes.FloorError, match=r"stage 2-prune .* of 85\.00%"):
        run(broken, tmp_path / "a", task)
    assert list(files(tmp_path / "a")) == ["1-distil"]
    text = (tmp_path / "a" / "report.md").read_text()
    assert "1-distil" in text
    assert "2-prune" not in text
    with pytest.raises(recipes.FloorError, match="model to compress"):
        run(config(*stages, floor=1.0), tmp_path / "b", task)


def test_exports_with_a_card_and_goes_on(task, tmp_path):
    stages = (recipes.Quantize(), recipes.Export(("stablehlo", "safetensors")))
    result = run(config(*stages), tmp_path, task)
    exported = tmp_path / "exported"
    assert {p.name for p in exported.iterdir()} == {
        "teacher",
        "student-stablehlo",
        "student-safetensors",
    }
    artefact = deploy.load(exported / "student-stablehlo")
    logits = artefact.predict({"image": DIGITS.test["image"]})
    right = np.mean(np.argmax(np.asarray(logits), 1) == DIGITS.test["label"])
    assert result.rows[-1].name == "student-stablehlo"
    assert result.rows[-1].accuracy == (pytest.approx(right),)
    assert result.rows[-1].num_bytes == artefact.num_bytes
    card = json.loads((exported / "student-stablehlo" / "card.json").read_text())
    assert card["recipe"]["stages"][0]["stage"] == "quantize"
    with pytest.raises(recipes.FolderError, match="by a program of your own"):
        recipes.export_run(tmp_path, ["stablehlo"])


def test_another_task_or_config_is_refused(task, tmp_path):
    run(config(recipes.Quantize()), tmp_path, task)
    other = task._replace(test={k: x[:100] for k, x in task.test.items()})
    with pytest.raises(recipes.FolderError, match="a run with another test"):
        run(config(recipes.Quantize()), tmp_path, other, resume=True)
    with pytest.raises(recipes.FolderError, match="holds a run with seed 0, not 1"):
        run(config(recipes.Quantize(), seed=1), tmp_path, task, resume=True)
    (tmp_path / "stages" / "1-quantize" / "student.jkd").write_bytes(b"damaged")
    with pytest.raises(recipes.FolderError, match="1-quantize is damaged"):
        run(config(recipes.Quantize()), tmp_path, task, resume=True)


def test_a_fresh_student_is_trained_first(task, tmp_path):
    fresh = task._replace(student=mlp((24,)))
    with pytest.raises(ValueError, match="first stage must be distil or fine_tune"):
        run(config(recipes.Quantize()), tmp_path / "a", fresh)
    assert not (tmp_path / "a").exists()
    result = run(config(recipes.Distil(steps=100)), tmp_path / "b", fresh)
    assert result.rows[1].parameters < result.rows[0].parameters / 2
    assert result.rows[1].accuracy[0] > 0.7


@pytest.mark.parametrize(
    ("stages", "changes", "words"),
    [
        ((recipes.Shrink(keep=0.5),), {"rebuild": None}, "give the task a `rebuild`"),
        ((recipes.Shrink(keep=1e-4),), {}, "stage 1-shrink: the target .* cannot be"),
        ((recipes.Prune(where="kernal$"),), {}, "stage 1-prune: .*'kernal.* no path"),
        ((recipes.Quantize(),), {"inputs": ("x",)}, r"needs batch\['x'\]"),
    ],
)
def test_what_does_not_fit_is_said_before_anything_is_written(
    task, tmp_path, stages, changes, words
):
    with pytest.raises((ValueError, KeyError), match=words):
        run(config(*stages), tmp_path / "run", task._replace(**changes))
    assert not (tmp_path / "run").exists()


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
        recipes.Export(("onnx", "stablehlo")),
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
    stages = [{"stage": "shrink", "keep": 0.1, "steps": 9}]
    file.write_text(json.dumps({"teacher_steps": 2, "stages": stages}))
    words = ("compress", "--config", file, "--set", "stages.1.steps=0", "--quiet")
    assert command(*words, "--folder", folder) == 0
    assert "1-shrink" in capsys.readouterr().out
    saved = json.loads((folder / "config.json").read_text())["config"]
    assert recipes.config_of(saved).stages == (recipes.Shrink(keep=0.1, steps=0),)
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
        (("--set", "floor"), "--set needs NAME=VALUE"),
        (("--set", "stages.9.steps=1"), "there are 3 stages"),
        (("--set", "stages.x.steps=1"), "name a setting such as floor"),
        (("--set", "stages.1.keep=2"), "stage 1, shrink: `keep`"),
        (("--config", "nowhere.json"), "nowhere.json does not exist"),
    ],
)
def test_the_command_line_explains_what_is_wrong(words, said, tmp_path, capsys):
    assert command("compress", "--folder", tmp_path / "run", *words) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
