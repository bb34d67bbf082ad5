import dataclasses
import html
import json

import jax
import numpy as np
import optax
import pytest

from jaxkd import models, objectives, recipes, report, train

pytest.importorskip("sklearn", reason="the digits come with scikit-learn")
SMALL = recipes.MnistConfig(
    seeds=2,
    teacher_steps=60,
    steps=40,
    save_every=20,
    teacher=(32,),
    students=(16,),
    learning_rate=1e-2,
)
FILES = {
    *("checkpoints", "exported", "config.json", "metrics.jsonl", "result.json"),
    *("report.md", "report.html", "report.png", "curves.png", "reliability.png"),
    *("classes.png", "differences.png"),
}
WAYS = ("alone", "distilled", "alone, shifted", "matched")
NAMES = ["teacher", *(f"student 16, {way}" for way in WAYS)]


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mnist") / "run"
    return folder, recipes.RECIPES["mnist"].run(SMALL, folder, quiet=True)


def numbers(folder):
    records = report.JsonLines(folder / "metrics.jsonl").read()
    return sorted(json.dumps(record, sort_keys=True) for record in records)


def test_every_model_of_every_seed_is_trained_measured_and_exported(done):
    folder, result = done
    assert {p.name for p in folder.iterdir() if not p.name.startswith(".")} == FILES
    assert [row.name for row in result.rows] == NAMES
    assert all(len(row.accuracy) == 2 and row.latency > 0 for row in result.rows)
    assert result.rows[0].agreement == (1.0, 1.0)
    assert min(result.rows[1].accuracy) > 0.5
    exported = {path.name for path in (folder / "exported").iterdir()}
    assert exported == {
        "teacher",
        *(f"student-16-{w.replace(', ', '-')}" for w in WAYS),
    }
    text = (folder / "report.html").read_text()
    assert text.count("data:image/png;base64,") == 5
    assert all(html.escape(words) in text for words in result.words)
    assert "On damaged examples" in text
    assert "<th>blur</th>" in text


def test_the_best_checkpoint_is_the_one_that_is_reported(done):
    folder, _ = done
    records = report.JsonLines(folder / "metrics.jsonl").read()
    for name in NAMES:
        for seed in range(2):
            own = [r for r in records if (r["seed"], r["stage"]) == (seed, name)]
            key = "validation_accuracy"
            seen = [record[key] for record in own if key in record]
            assert len(seen) == (3 if name == "teacher" else 2)
            (test,) = [r["test"] for r in own if "test" in r]
            if seen[-1] == max(seen) and seen.count(max(seen)) == 1:
                assert test["last_accuracy"] == test["accuracy"]


def test_a_run_that_lost_its_end_gets_it_again_to_the_bit(done):
    folder, result = done
    before = numbers(folder)
    (folder / "result.json").unlink()
    lines = (folder / "metrics.jsonl").read_text().splitlines(keepends=True)
    (folder / "metrics.jsonl").write_text("".join(lines[:-3]))
    again = recipes.RECIPES["mnist"].run(SMALL, folder, resume=True, quiet=True)
    assert [row.accuracy for row in again.rows] == [r.accuracy for r in result.rows]
    assert numbers(folder) == before
    with pytest.raises(recipes.FolderError, match="holds a run already"):
        recipes.RECIPES["mnist"].run(SMALL, folder, quiet=True)
    other = dataclasses.replace(SMALL, temperature=2.0)
    with pytest.raises(recipes.FolderError, match=r"temperature 4\.0, not 2\.0"):
        recipes.RECIPES["mnist"].run(other, folder, resume=True, quiet=True)


def test_a_run_is_known_by_its_folder(done, tmp_path):
    folder, _ = done
    assert recipes.read_run(folder) == ("mnist", SMALL)
    with pytest.raises(FileNotFoundError, match="holds no run"):
        recipes.read_run(tmp_path)
    found = json.loads((folder / "config.json").read_text())
    found["config"]["recipe"] = "mnis"
    (tmp_path / "config.json").write_text(json.dumps(found))
    with pytest.raises(recipes.FolderError, match="'mnis', which is no recipe"):
        recipes.read_run(tmp_path)


def test_runs_are_compared(done, tmp_path):
    folder, result = done
    second = tmp_path / "second"
    second.mkdir()
    for name in ("config.json", "result.json"):
        (second / name).write_bytes((folder / name).read_bytes())
    rows = recipes.compare_runs([folder, second], tmp_path / "out")
    assert [row.name for row in rows[:5]] == [f"run: {name}" for name in NAMES]
    assert [row.name for row in rows[5:]] == [f"second: {name}" for name in NAMES]
    text = (tmp_path / "out" / "report.html").read_text()
    assert text.count("<h2>") == 4
    assert "temperature" in text
    assert "may have different data" not in text
    saved = json.loads((second / "config.json").read_text())
    saved["config"]["data"] = "mnist.npz"
    (second / "config.json").write_text(json.dumps(saved))
    recipes.compare_runs([folder, second], tmp_path / "out")
    assert "may have different data" in (tmp_path / "out" / "report.md").read_text()
    (one, *_) = recipes.compare_runs([folder], tmp_path / "out")
    assert (one.name, one.accuracy) == ("teacher", result.rows[0].accuracy)
    for wrong in ([], [folder, folder]):
        with pytest.raises(ValueError, match="once"):
            recipes.compare_runs(wrong, tmp_path)
    (second / "result.json").write_text("{}")
    with pytest.raises(ValueError, match="damaged"):
        recipes.compare_runs([second], tmp_path)
    (second / "result.json").unlink()
    with pytest.raises(FileNotFoundError, match="no finished run"):
        recipes.compare_runs([second], tmp_path)


def test_a_model_and_data_of_ones_own_and_a_teacher_that_is_trained(tmp_path):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(90, 5)).astype("float32")
    arrays = {"x": x, "label": (x[:, 0] > 0).astype("int32")}
    parts = [{k: v[i::3] for k, v in arrays.items()} for i in range(3)]
    splits = recipes.Splits(*parts, classes=("no", "yes"), about="Random numbers.")
    make = lambda width: models.from_linen(
        models.MLP(hidden=(width,), classes=2), inputs=("x",)
    )
    teacher = make(16)
    variables = teacher.init(jax.random.key(3), parts[0])
    config = recipes.Training(seeds=1, steps=20, batch_size=8, save_every=10)
    ways = recipes.alone_and_distilled("small", make(4), config)
    experiment = recipes.Experiment(splits, ("x",), teacher, ways, variables=variables)
    result = recipes.run_experiment(
        "own", experiment, config, tmp_path / "run", quiet=True
    )
    assert [row.name for row in result.rows] == ["teacher", *ways]
    step = train.make_eval_step(teacher)
    exact = train.evaluate(step, variables, [parts[2]])["accuracy"]
    assert result.rows[0].accuracy == (pytest.approx(exact),)
    assert not (tmp_path / "run" / "differences.png").exists()
    assert not (tmp_path / "run" / "checkpoints" / "seed0" / "teacher").exists()


def test_the_objective_is_the_weighted_sum():
    objective = recipes.kd(recipes.Training(temperature=2.0, soft_weight=0.25))
    assert isinstance(objective, objectives.Objective)
    logits = jax.random.normal(jax.random.key(0), (3, 4))
    model = models.from_function(lambda params, batch: params["scale"] * batch["x"])
    batch = {"x": logits, "label": np.array([0, 1, 2])}
    value = {}
    for name, weight in (("both", 0.25), ("soft", 1.0), ("hard", 0.0)):
        own = recipes.kd(recipes.Training(temperature=2.0, soft_weight=weight))
        params = {"scale": np.float32(0.5)}
        state = train.init_state(
            jax.random.key(0),
            model,
            model,
            own,
            optax.sgd(0.0),
            batch,
            variables=models.Variables(params),
            teacher_variables=models.Variables({"scale": np.float32(1.0)}),
        )
        step = train.make_train_step(model, model, own, optax.sgd(0.0))
        teacher = models.Variables({"scale": np.float32(1.0)})
        value[name] = float(step(state, teacher, batch)[1]["loss"])
    expected = 0.25 * value["soft"] + 0.75 * value["hard"]
    assert value["both"] == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"seeds": 0}, "`seeds` must be at least 1"),
        ({"seed": -1}, "`seed`"),
        ({"weight_decay": -1.0}, "`weight_decay`"),
        ({"soft_weight": 1.5}, "`soft_weight`"),
        ({"temperature": 0.0}, "`temperature`"),
        ({"network": "cn"}, "did you mean 'cnn'"),
        ({"students": (0,)}, "positive widths"),
        ({"shift": 2.0}, "`shift`"),
    ],
)
def test_wrong_settings_are_named(changes, words):
    with pytest.raises(ValueError, match=words):
        recipes.MnistConfig(**changes)


def test_networks_of_convolutions_shrink_with_their_last_block():
    config = dataclasses.replace(SMALL, network="cnn", teacher=(8, 16), students=(8,))
    ways = recipes.mnist(config).ways
    student = ways["student 8, alone"].model
    batch = {"image": np.zeros((1, 8, 8, 1), np.float32)}
    params = student.init(jax.random.key(0), batch).params
    kernels = [params[f"block{i}"]["conv"]["kernel"].shape[-1] for i in (1, 2)]
    assert kernels == [4, 8]


def test_each_network_has_widths_of_its_own():
    image = {"image": np.zeros((1, 8, 8, 1), np.float32)}
    first = {}
    for network in ("mlp", "cnn"):
        teacher = recipes.mnist(recipes.MnistConfig(network=network)).teacher
        params = jax.eval_shape(teacher.init, jax.random.key(0), image).params
        first[network] = {x.shape[-1] for x in jax.tree.leaves(params)}
    assert first == {"mlp": {1000, 10}, "cnn": {32, 64, 128, 10}}


@pytest.mark.parametrize(
    ("shift", "flip", "views"),
    [(0.08, False, 9), (0.08, True, 18), (0.0, True, 2), (0.0, False, 1)],
)
def test_images_are_shifted_and_mirrored_as_asked(shift, flip, views):
    config = dataclasses.replace(SMALL, shift=shift, flip=flip)
    transform = recipes.mnist(config).transform
    one = np.arange(1.0, 65.0, dtype=np.float32).reshape(1, 8, 8, 1)
    batch = {"image": np.repeat(one, 256, axis=0)}
    seen = np.asarray(transform(jax.random.key(0), batch)["image"])
    assert len(np.unique(seen.reshape(256, -1), axis=0)) == views
