"""What Hugging Face calls the parts of BERT and of DistilBERT."""

# From our paths to their names, of BERT and of DistilBERT.
NAMES = {
    "bert": {
        "embed/tokens": "embeddings.word_embeddings",
        "embed/positions": "embeddings.position_embeddings",
        "embed/types": "embeddings.token_type_embeddings",
        "embed/norm": "embeddings.LayerNorm",
        "block": "encoder.layer.",
        "attention/query": "attention.self.query",
        "attention/key": "attention.self.key",
        "attention/value": "attention.self.value",
        "attention/out": "attention.output.dense",
        "norm1": "attention.output.LayerNorm",
        "up": "intermediate.dense",
        "down": "output.dense",
        "norm2": "output.LayerNorm",
        "pooler": "pooler.dense",
        "head": "classifier",
    },
    "distilbert": {
        "embed/tokens": "embeddings.word_embeddings",
        "embed/positions": "embeddings.position_embeddings",
        "embed/norm": "embeddings.LayerNorm",
        "block": "transformer.layer.",
        "attention/query": "attention.q_lin",
        "attention/key": "attention.k_lin",
        "attention/value": "attention.v_lin",
        "attention/out": "attention.out_lin",
        "norm1": "sa_layer_norm",
        "up": "ffn.lin1",
        "down": "ffn.lin2",
        "norm2": "output_layer_norm",
        "pooler": "pre_classifier",
        "head": "classifier",
    },
}
LEAVES = {"kernel": "weight", "scale": "weight", "embedding": "weight", "bias": "bias"}
# From our attributes to the entries of their configs.
SIZES = {
    "bert": {
        "vocabulary": "vocab_size",
        "width": "hidden_size",
        "depth": "num_hidden_layers",
        "heads": "num_attention_heads",
        "hidden": "intermediate_size",
        "max_length": "max_position_embeddings",
        "types": "type_vocab_size",
        "dropout": "hidden_dropout_prob",
        "eps": "layer_norm_eps",
    },
    "distilbert": {
        "vocabulary": "vocab_size",
        "width": "dim",
        "depth": "n_layers",
        "heads": "n_heads",
        "hidden": "hidden_dim",
        "max_length": "max_position_embeddings",
        "dropout": "dropout",
    },
}
ARCHITECTURES = {"bert": "Bert", "distilbert": "DistilBert"}


def their_name(path: str, kind: str) -> str:
    """What a parameter is called in the files of Hugging Face.

    Args:
        path: of a parameter of :class:`jaxkd.models.Bert`.
        kind: ``"bert"`` or ``"distilbert"``.

    Returns:
        The tensor's name, without the prefix.
    """
    names, (place, _, leaf) = NAMES[kind], path.rpartition("/")
    block, _, inside = place.partition("/")
    number = block.removeprefix("block")
    if number.isdigit():
        return f"{names['block']}{int(number) - 1}.{names[inside]}.{LEAVES[leaf]}"
    return f"{names[place]}.{LEAVES[leaf]}"
