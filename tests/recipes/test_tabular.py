import dataclasses

import jax
import numpy as np
import optax
import pytest

from jaxkd import models, objectives, recipes, report, train

SMALL = recipes.TabularConfig(
    seeds=1,
    teacher_steps=200,
    steps=60,
    save_every=30,
    batch_size=32,
    teacher=(16,),
    learning_rate=1e-2,
    tasks=("size", "price>10"),
)


def rows(number=400):
    """The size is told by a word and a number; the price by the number."""
    rng = np.random.default_rng(0)
    height = rng.normal(size=number)
    colour = rng.choice(["red", "green", "blue"], number)
    size = np.where((height > 0) == (colour == "red"), "large", "small")
    return {"height": height, "colour": colour, "size": size, "price": 10 + height}


def write_csv(file, table):
    lines = zip(*(map(str, x) for x in table.values()), strict=True)
    text = [",".join(table), *(",".join(line) for line in lines)]
    file.write_text("\n".join(text) + "\n")
    return dataclasses.replace(SMALL, data=str(file))


@pytest.fixture
def config(tmp_path):
    return write_csv(tmp_path / "things.csv", rows())


def test_columns_become_numbers_words_and_labels(config):
    splits = recipes.tabular(config).splits
    assert [len(part["size"]) for part in splits[:3]] == [250, 50, 100]
    assert splits.classes[:2] == ("size: large", "size: small")
    assert splits.classes[2:] == ("price>10: at most 10", "price>10: above 10")
    train = splits.train
    assert train["numbers"].shape == (250, 1)  # the price is a task's, so no input
    assert abs(train["numbers"].mean()) < 1e-6
    assert train["numbers"].std() == pytest.approx(1, abs=1e-5)
    assert set(train["words"].ravel()) == {1, 2, 3}
    above = train["price>10"] == 1
    assert (
        above == (train["numbers"] > train["numbers"][above].min() - 1e-6)[:, 0]
    ).all()
    assert train["labelled"].all()


def test_a_word_that_training_lacks_is_another(config, tmp_path):
    table = rows()
    order = np.random.default_rng(0).permutation(400)
    table["colour"][order[0]] = "pink"  # the test part comes first
    splits = recipes.tabular(write_csv(tmp_path / "pink.csv", table)).splits
    assert splits.test["words"][0, 0] == 0
    assert splits.train["words"].min() == 1


def test_tasks_are_learned_measured_and_reported(config, tmp_path):
    config = dataclasses.replace(config, labels=20)
    result = recipes.RECIPES["tabular"].run(config, tmp_path / "run", quiet=True)
    names = ["teacher", "student, alone", "student, distilled"]
    assert [row.name for row in result.rows] == names
    assert result.rows[0].accuracy[0] > 0.85
    records = report.JsonLines(tmp_path / "run" / "metrics.jsonl").read()
    (test,) = [r["test"] for r in records if "test" in r and r["stage"] == "teacher"]
    assert test["accuracy"] == pytest.approx((test["size"] + test["price>10"]) / 2)
    text = (tmp_path / "run" / "report.md").read_text()
    assert "mean accuracy of the tasks %" in text
    assert "labels of 20 rows" in text


def test_each_task_has_its_weight_and_its_part_of_the_logits(config):
    config = dataclasses.replace(config, weights=(0.25, 2.0), labels=30)
    experiment = recipes.tabular(config)
    batch = {n: x[:100] for n, x in experiment.splits.train.items()}
    way = experiment.ways["student, distilled"]
    teacher = experiment.teacher.init(jax.random.key(1), batch)
    view = objectives.View(
        way.model.apply(*way.model.init(jax.random.key(0), batch), batch),
        experiment.teacher.apply(*teacher, batch),
        batch,
        0,
        jax.random.key(0),
    )
    terms, _ = way.objective.apply(*way.objective.init(jax.random.key(0), view), view)
    weights = {name: round(float(term.weight), 6) for name, term in terms.items()}
    assert weights == {
        "size/soft": 0.225,
        "size/hard": 0.025,
        "price>10/soft": 1.8,
        "price>10/hard": 0.2,
    }
    known = batch["labelled"]
    assert 0 < known.sum() < 100
    logits = np.asarray(view.student.logits)[:, 2:]
    log_p = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    hard = -log_p[np.arange(100), batch["price>10"]][known].sum()
    assert float(terms["price>10/hard"].mean.total) == pytest.approx(hard, rel=1e-5)
    assert float(terms["price>10/hard"].mean.count) == known.sum()


def test_a_part_of_the_logits_trains_only_its_own():
    model = models.from_function(lambda params, batch: batch["x"] @ params)
    batch = {"x": np.eye(4, dtype=np.float32), "label": np.array([0, 1, 0, 1])}
    objective, tx = (
        recipes.on_part(objectives.hard_label(), slice(1, 3)),
        optax.sgd(1.0),
    )
    start = models.Variables(np.zeros((4, 5), np.float32))
    state = train.init_state(
        jax.random.key(0), model, None, objective, tx, batch, variables=start
    )
    step = train.make_train_step(model, None, objective, tx)
    after = np.asarray(step(state, None, batch)[0].student.params)
    assert (after[:, [0, 3, 4]] == 0).all()
    assert (after[:, 1:3] != 0).all()


def test_the_wines_need_no_file():
    pytest.importorskip("sklearn", reason="the wines come with scikit-learn")
    splits = recipes.tabular(recipes.TabularConfig()).splits
    assert splits.train["numbers"].shape == (112, 12)
    assert len(splits.classes) == 5


def test_parquet_and_npz_are_read_as_well(tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    table = {**rows(), "label": rows()["size"]}
    parquet.write_table(pyarrow.table(table), tmp_path / "a.parquet")
    np.savez(tmp_path / "a.npz", **{k: x for k, x in table.items() if k != "colour"})
    for name, columns in (("a.parquet", ("height", "colour")), ("a.npz", ("height",))):
        tasks = ("label", "price>10")
        config = dataclasses.replace(
            SMALL, data=str(tmp_path / name), tasks=tasks, columns=columns
        )
        splits = recipes.tabular(config).splits
        assert splits.classes[0] == "label: large"
        assert ("words" in splits.train) == ("colour" in columns)


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"tasks": ("sise",)}, KeyError, "no column 'sise'; did you mean 'size'"),
        ({"tasks": ("height",)}, ValueError, "cut in two by 'height>NUMBER'"),
        ({"tasks": ("size>3",)}, ValueError, "of a numeric column"),
        ({"tasks": ("price>x",)}, ValueError, "must be NAME>NUMBER"),
        ({"columns": ("heigt",)}, KeyError, "no column 'heigt'"),
        ({"columns": ("size",)}, ValueError, "0 columns to predict from"),
        ({"labels": 300}, ValueError, "400 rows .* 250 rows are left"),
        ({"tasks": ()}, ValueError, "must name different tasks"),
        ({"tasks": ("size", "size")}, ValueError, "must name different tasks"),
        ({"weights": (1.0,)}, ValueError, "`weights` must have one for each of 2"),
        ({"weights": (1.0, 0.0)}, ValueError, "`weights`"),
        ({"labels": -1}, ValueError, "`labels` must not be negative"),
        ({"student": (0,)}, ValueError, "positive widths"),
    ],
)
def test_wrong_settings_and_columns_are_named(config, changes, error, words):
    with pytest.raises(error, match=words):
        recipes.tabular(dataclasses.replace(config, **changes))


def test_numbers_that_are_none_are_refused(tmp_path):
    table = rows()
    table["height"][3] = np.nan
    np.savez(tmp_path / "a.npz", **{n: x for n, x in table.items() if n != "colour"})
    config = dataclasses.replace(
        SMALL, data=str(tmp_path / "a.npz"), tasks=("price>10",), columns=("height",)
    )
    with pytest.raises(ValueError, match="gaps"):
        recipes.tabular(config)


def test_a_table_that_is_not_there_or_ragged_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no file .*none\.csv"):
        recipes.tabular(dataclasses.replace(SMALL, data=str(tmp_path / "none.csv")))
    file = tmp_path / "ragged.csv"
    for text, words in (
        ("a,b\n1,2\n3\n", "row 3 has 1 cells"),
        ("a,b\n", "rows under a header"),
        ("a,a\n1,2\n", "different names"),
        ("a,b\n1,2\n,3\n4,NaN\n", "'a' has 1 gaps"),
    ):
        file.write_text(text)
        with pytest.raises(ValueError, match=words):
            recipes.tabular(dataclasses.replace(SMALL, data=str(file)))
