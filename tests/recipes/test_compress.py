import json
import os
import subprocess
import sys
import time

import compressing
import jax
import numpy as np
import optax
import pytest
from compressing import STAGES, config, make_task, mlp, whole_config

from jaxkd import compress, data, deploy, objectives, recipes, report, train, trees

pytest.importorskip("sklearn", reason="the digits come with scikit-learn")
pytestmark = pytest.mark.usefixtures("one_device")
DIGITS = recipes.load_digits()


@pytest.fixture(scope="module")
def task(one_device):
    """A trained teacher, and the digits."""
    parts = (mlp((64,)), None, objectives.hard_label(), optax.adam(5e-3))
    batches = data.TrainBatches(DIGITS.train, batch_size=64, seed=0)
    state = train.init_state(jax.random.key(0), *parts, batches.peek())
    step = train.jit_step(train.make_train_step(*parts))
    *_, (state, _) = train.fit(step, state, None, batches, steps=150)
    return make_task(state.student)


@pytest.fixture(scope="module")
def whole(task, tmp_path_factory):
    """A run of all kinds of stages that nothing stopped: its folder, what it gave."""
    folder = tmp_path_factory.mktemp("whole")
    return folder, run(whole_config(), folder, task)


@pytest.fixture(scope="module")
def reverse(task, tmp_path_factory):
    """The same in another order."""
    stages = (
        recipes.Prune(sparsity=0.5, steps=16),
        recipes.Shrink(keep=0.5, steps=0),
        recipes.FineTune(steps=8),
        recipes.Quantize("int4"),
        recipes.Distil(steps=8),
    )
    folder = tmp_path_factory.mktemp("reverse")
    return folder, run(config(*stages), folder, task)


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


def kept(folder, stage):
    file = folder / "stages" / stage / "student.jkd"
    return compress.dequantize(compress.load_tree(file)["params"])


def test_what_stages_do_stays_done_in_either_order(whole, reverse):
    for _, result in (whole, reverse):
        names = [row.name for row in result.rows]
        assert names[0] == "teacher"
        teacher, *_, small = result.rows
        assert small.parameters <= 0.5 * teacher.parameters
        assert small.accuracy == (pytest.approx(accuracy(*result[1:])),)
    assert list(files(whole[0])) == [
        "1-distil",
        "2-shrink",
        "3-prune",
        "4-quantize",
        "5-export",
    ]
    pruned = kept(whole[0], "3-prune")
    assert zeros(pruned) == pytest.approx(0.5, abs=0.002)
    stay_zero(pruned, kept(whole[0], "4-quantize"), exactly=False)
    # The units that left were not the ones with the zeros; those that stayed did stay.
    shrunk = kept(reverse[0], "2-shrink")
    assert zeros(shrunk) > 0.3
    stay_zero(shrunk, kept(reverse[0], "3-fine_tune"), exactly=True)
    stay_zero(shrunk, kept(reverse[0], "5-distil"), exactly=False)


def stay_zero(before, after, *, exactly):
    """Rounding may make zeros of other weights."""
    after = trees.flatten(after)
    for path, x in trees.flatten(before).items():
        if path.endswith("kernel"):
            now = np.asarray(after[path]) == 0
            assert now[x == 0].all()
            assert not exactly or not now[x != 0].any()


def test_distilling_after_quantizing_keeps_the_format(whole, reverse):
    for _, result in (whole, reverse):
        kernel = result.variables.params["dense1"]["kernel"]
        assert kernel.format == compress.INT4
        assert np.abs(kernel.integers()).max() <= 7
        assert result.rows[4].num_bytes < result.rows[0].num_bytes / 4
        assert result.rows[-1].accuracy[0] > 0.8
    last = files(reverse[0])
    assert last["4-quantize"] != last["5-distil"]  # it did train


def test_factors_and_palettes_are_trained_and_read_back(task, tmp_path):
    stages = (
        recipes.Factorize(energy=0.8, steps=16, where="^dense"),
        recipes.Prune(sparsity=0.3, steps=0),
        recipes.Cluster(bits=3, steps=8),
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


def child(folder, task, *words):
    """Another process, at work in the folder until it is killed as the words say."""
    teacher = folder.with_name("teacher.jkd")
    compress.save_tree(task.variables.params, teacher)
    return subprocess.Popen(
        [sys.executable, compressing.__file__, folder, teacher, *words],
        env={**os.environ, "JAX_NUM_CPU_DEVICES": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )


def stamps(folder):
    return {
        file.parent.name: file.stat().st_mtime_ns
        for file in (folder / "stages").glob("*/stage.json")
    }


def check_resumed(folder, whole, task):
    """What was done is not done again, and the end is that of a run that lived."""
    done = stamps(folder)
    result = run(whole_config(), folder, task, resume=True)
    assert stamps(folder).items() >= done.items()
    assert files(folder) == files(whole[0])
    assert trees.digest(result.variables) == trees.digest(whole[1].variables)
    for own, other in zip(result.rows, whole[1].rows, strict=True):
        assert own[:5] == other[:5]  # all but times, and the size of an export,
        assert own.num_bytes == other.num_bytes or own.name.startswith("student-")


@pytest.mark.parametrize(
    "kills",
    [
        # A stage of 8 batches, one of 16; a kill hits after the checkpoint at step 8.
        (("batches", "20"), ("between", "3-prune")),
        pytest.param(
            (
                ("batches", "3"),
                ("within", "1-distil"),
                ("between", "1-distil"),
                ("batches", "14"),
                ("within", "2-shrink"),
                ("batches", "20"),
                ("within", "4-quantize"),
                ("within", "5-export"),
            ),
            marks=pytest.mark.slow,
        ),
    ],
)
def test_killed_and_resumed_it_ends_with_the_same_bits(task, whole, tmp_path, kills):
    folder = tmp_path / "run"
    for words in kills:
        before = stamps(folder)
        with child(folder, task, *words) as process:
            _, said = process.communicate(timeout=300)
        assert process.returncode == -9, said.decode()
        assert stamps(folder).items() >= before.items()
    assert "1-distil" in stamps(folder)
    check_resumed(folder, whole, task)


@pytest.mark.slow
def test_killed_at_any_moment_it_ends_with_the_same_bits(task, whole, tmp_path):
    folder, killed = tmp_path / "run", 0
    draw = np.random.default_rng(0)
    for _ in range(12):
        with child(folder, task) as process:
            while process.poll() is None and not (folder / ".lock").exists():
                time.sleep(0.01)
            time.sleep(draw.uniform(2, 12))
            process.kill()
        killed += process.returncode == -9
    assert killed > 3
    check_resumed(folder, whole, task)


def test_leaves_one_table_and_one_plot(whole):
    folder, result = whole
    text = (folder / "report.md").read_text()
    assert report.markdown_table(result.rows) in text
    assert (folder / "report.png").read_bytes()[:4] == b"\x89PNG"
    kept = json.loads((folder / "stages" / "1-distil" / "stage.json").read_text())
    assert kept["scores"]["accuracy"] == result.rows[1].accuracy[0]
    assert kept["num_bytes"] == len(files(folder)["1-distil"])
    assert kept["latency"] > 0


def test_stops_at_the_floor_and_keeps_what_was_done(task, tmp_path):
    stages = (recipes.Quantize(), recipes.Distil(steps=8))
    broken = config(STAGES[0], recipes.Prune(0.97, steps=0), floor=0.85)
    with pytest.raises(recipes.FloorError, match=r"stage 2-prune .* of 85\.00%"):
        run(broken, tmp_path / "a", task)
    assert list(files(tmp_path / "a")) == ["1-distil"]
    text = (tmp_path / "a" / "report.md").read_text()
    assert "1-distil" in text
    assert "2-prune" not in text
    with pytest.raises(recipes.FloorError, match="model to compress"):
        run(config(*stages, floor=1.0), tmp_path / "b", task)


def test_exports_with_a_card_and_goes_on(whole):
    folder, result = whole
    exported = folder / "exported"
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
    assert [s["stage"] for s in card["recipe"]["stages"]][2:4] == ["prune", "quantize"]
    with pytest.raises(recipes.FolderError, match="by a program of your own"):
        recipes.export_run(folder, ["stablehlo"])


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
