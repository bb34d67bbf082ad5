"""A tiny encoder and sentences for it."""

import jax
import numpy as np
import pytest

from jaxkd import deploy, models

WORDS = ["a", "good", "bad", "film", "plot", "is", "really", "it"]


def tiny_model(folder, depth=4):
    """A random BERT and its tokenizer, in the published form."""
    tokenizers = pytest.importorskip("tokenizers", reason="the extra `text`")
    names = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *WORDS]
    level = tokenizers.models.WordLevel(
        {name: i for i, name in enumerate(names)}, unk_token="[UNK]"
    )
    tokenizer = tokenizers.Tokenizer(level)
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    tokenizer.post_processor = tokenizers.processors.BertProcessing(
        ("[SEP]", 3), ("[CLS]", 2)
    )
    bert = models.Bert(
        len(names), width=8, depth=depth, heads=2, hidden=16, max_length=8
    )
    tokens = {"tokens": np.ones((1, 4), np.int32)}
    variables = models.from_linen(bert, inputs="tokens").init(jax.random.key(0), tokens)
    return str(deploy.write_bert(folder, bert, variables, tokenizer=tokenizer))


def write_sentences(folder, **sizes):
    """Lines such as ``1 a good film``, of which the third word tells the label."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    for part, size in sizes.items():
        lines = []
        for i in range(size):
            more = " ".join(rng.choice(["film", "plot", "really", "is"], size=2))
            lines.append(f"{i % 2} it is {('bad', 'good')[i % 2]} {more}\n")
        (folder / f"toy.{part}.all").write_text("".join(lines))
    return str(folder / "toy")
