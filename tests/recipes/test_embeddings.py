import dataclasses
import json

import jax
import numpy as np
import pytest
from scipy import stats
from toys import tiny_model, write_sentences

from jaxkd import data, deploy, models, recipes
from jaxkd.recipes._systems.embeddings import embed
from jaxkd.recipes._systems.sentences import load_sentences

pytest.importorskip("tokenizers", reason="the extra `text`")

SMALL = {
    "seeds": 1,
    "steps": 20,
    "save_every": 20,
    "batch_size": 8,
    "max_length": 8,
    "students": [1],
    "learning_rate": 1e-2,
}
NAMES = ["as kept", "cosine", "and relations", "random start"]


@pytest.fixture
def config(tmp_path):
    source = write_sentences(tmp_path / "texts", train=40, test=20)
    model = tiny_model(tmp_path / "model", depth=2)
    return recipes.from_json(
        recipes.EmbeddingsConfig, {**SMALL, "data": source, "model": model}
    )


def test_students_come_nearer_to_the_teachers_embeddings(tmp_path, config):
    folder = tmp_path / "run"
    result = recipes.RECIPES["embeddings"].run(config, folder, quiet=True)
    rows = {row.name.removeprefix("1 layer, "): row for row in result.rows}
    assert list(rows) == ["teacher", *NAMES]
    cosines = {name: row.accuracy[0] for name, row in rows.items()}
    assert cosines["teacher"] == pytest.approx(1.0, abs=1e-5)
    for name in ("cosine", "and relations"):
        assert cosines["as kept"] < cosines[name] < 1
    assert rows["cosine"].quality == "cosine with the teacher"
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    found = [json.loads(line) for line in lines]
    steps = [r for r in found if r["stage"] == "1 layer, and relations" and "loss" in r]
    assert any(r["relations"] > 0 for r in steps)
    page = (folder / "report.html").read_text()
    for words in ("typos in 1 word of 3", "label of the most similar sentence"):
        assert words in page
    student = "1-layer-cosine"
    saved, program = recipes.export_run(
        folder, ["huggingface", "stablehlo"], name=student
    )
    module, variables = deploy.read_bert(saved, pooling="mean")
    again = models.from_linen(module, inputs=("tokens", "attention_mask"))
    test = recipes.embeddings(config).splits.test
    ours = embed(again, variables, test)
    inputs = {name: test[name] for name in ("tokens", "attention_mask")}
    exported = deploy.load(folder / "exported" / student).predict(inputs)
    np.testing.assert_allclose(ours, exported, atol=1e-5)
    # Embeddings are scored by no label, so there is no card to say how well they do.
    assert not (program / "card.json").exists()


def test_nothing_that_is_trained_on_is_a_label(config):
    experiment = recipes.embeddings(config)
    train, _, test = experiment.splits[:3]
    assert set(train) == {"tokens", "attention_mask", "stored"}
    assert "label" not in test
    module, variables = deploy.read_bert(config.model, pooling="mean")
    model = models.from_linen(module, inputs=experiment.inputs)
    batch = {name: train[name] for name in experiment.inputs}
    expected = model.apply(*variables, batch).logits
    np.testing.assert_allclose(train["stored"], expected, atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(expected, axis=1), 1.0, atol=1e-5)
    for damage in experiment.damaged.values():  # what is wanted stays that of no typos
        np.testing.assert_array_equal(damage["stored"], test["stored"])


def test_what_is_measured_of_any_embeddings(config):
    experiment = recipes.embeddings(config)
    test, rng = experiment.splits.test, np.random.default_rng(0)
    noise = rng.normal(size=test["stored"].shape).astype(np.float32)
    given = test["stored"] + 0.2 * noise
    given /= np.linalg.norm(given, axis=1, keepdims=True)
    size = len(given)
    assert size < 250  # so that it is one batch
    model = models.from_function(lambda params, batch: params)
    measure = experiment.measure
    assert measure is not None
    scores = measure(model, models.Variables(given), test)
    theirs, classes = test["stored"], test["class"]
    pairs = [(i, j) for i in range(size) for j in range(i)]
    ours, wanted = ([x[i] @ x[j] for i, j in pairs] for x in (given, theirs))
    right = 0
    for i in range(size):
        others = [j for j in range(size) if j != i]
        right += classes[max(others, key=lambda j: given[i] @ given[j])] == classes[i]
    assert scores == {
        "accuracy": pytest.approx(np.mean(np.sum(given * theirs, axis=1)), abs=1e-6),
        "rank correlation of similarities": pytest.approx(
            stats.spearmanr(ours, wanted)[0], abs=0.01
        ),
        "label of the most similar sentence": right / size,
    }
    same = models.Variables(np.tile(given[:1], (size, 1)))
    assert measure(model, same, test)["rank correlation of similarities"] == 0


def test_a_last_batch_that_is_short_is_embedded_too():
    model = models.from_function(
        lambda params, batch: batch["tokens"] * batch["attention_mask"]
    )
    tokens = np.arange(302)[:, None]
    arrays = {"tokens": tokens, "attention_mask": np.ones_like(tokens)}
    found = embed(model, models.Variables({}), arrays)
    np.testing.assert_array_equal(found, tokens)


def test_students_start_from_the_teachers_layers_or_from_nothing(config):
    ways = recipes.embeddings(config).ways
    _, teacher = deploy.read_bert(config.model, pooling="mean")
    for name in NAMES[:3]:
        start = ways[f"1 layer, {name}"].start
        assert start is not None
        jax.tree.map(
            np.testing.assert_array_equal,
            start(teacher).params["block1"],
            teacher.params["block2"],
        )
    assert ways["1 layer, random start"].start is None


def test_sentences_need_no_label(tmp_path, config):
    folder = tmp_path / "plain"
    folder.mkdir()
    lines = ["it is good", "a bad film", "is it", "really good plot"]
    (folder / "train").write_text("\n".join(lines * 10) + "\n\n")
    (folder / "test").write_text("\r\n".join(lines))
    found = load_sentences(str(folder), labelled=False)
    assert found.test["text"].tolist() == lines
    plain = dataclasses.replace(config, data=str(folder), labelled=False)
    experiment = recipes.embeddings(plain)
    assert len(experiment.splits.train["tokens"]) == 36
    tokens = data.tokenize(lines, f"{config.model}/tokenizer.json", max_length=8)
    test, measure = experiment.splits.test, experiment.measure
    np.testing.assert_array_equal(test["tokens"], tokens["tokens"])
    assert measure is not None
    assert experiment.variables is not None
    scores = measure(experiment.teacher, experiment.variables, test)
    assert set(scores) == {"accuracy", "rank correlation of similarities"}
    (folder / "test").write_bytes("café\n".encode("latin-1"))
    with pytest.raises(ValueError, match="is not utf-8"):
        load_sentences(str(folder), labelled=False)
    (folder / "test").write_text("\n")
    with pytest.raises(ValueError, match="the dataset is empty"):
        load_sentences(str(folder), labelled=False)
    (folder / "test").write_text("it\nis\n")
    with pytest.raises(ValueError, match="of 2 sentences held out"):
        recipes.embeddings(plain)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"students": [3]}, "got 3 and 2"),
        ({"students": []}, "`students` must be numbers of layers"),
        ({"relations_weight": -1.0}, "`relations_weight` must not be negative"),
    ],
)
def test_settings_that_cannot_be_are_refused(config, settings, words):
    with pytest.raises(ValueError, match=words):
        recipes.embeddings(
            recipes.from_json(
                recipes.EmbeddingsConfig, {**recipes.to_json(config), **settings}
            )
        )
