"""BERT and DistilBERT, from and to the folders of Hugging Face."""

import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import jax
import numpy as np

from jaxkd import _names, trees
from jaxkd._extras import require
from jaxkd._types import PRNGKey
from jaxkd.deploy._bert_names import ARCHITECTURES, SIZES, their_name
from jaxkd.deploy._folder import ArtefactError, staged
from jaxkd.deploy._weights import read_arrays
from jaxkd.models import Bert, Variables

_CONFIG, _WEIGHTS, _TOKENIZER = "config.json", "model.safetensors", "tokenizer.json"

_MAX_DEPTH = 1000
# Of pretraining, or no weights at all.
_UNUSED = ("cls.", "vocab_", "embeddings.position_ids")
_SPECIAL = {
    "unk_token": "[UNK]",
    "sep_token": "[SEP]",
    "pad_token": "[PAD]",
    "cls_token": "[CLS]",
    "mask_token": "[MASK]",
}


def read_bert(
    folder: str | pathlib.Path,
    *,
    classes: int | None = None,
    pooling: Literal["cls", "mean"] = "cls",
    key: PRNGKey | None = None,
) -> tuple[Bert, Variables]:
    """A published BERT, MiniLM or DistilBERT, by the names of its weights.

    The folder is that of Hugging Face: ``config.json`` and ``model.safetensors``. What
    belongs to pretraining is left out. Nothing in it is run.

    Args:
        folder: the folder.
        classes: of a new classifier; ``None`` for what the file has: its classifier, or
            else the encoder.
        pooling: what a classifier reads, see :class:`jaxkd.models.Bert`. With
            ``"mean"``, pooler and classifier of the file are left out, and without
            ``classes`` the output is the sentence embedding.
        key: draws what a new classifier needs and the file does not have; by default
            ``jax.random.key(0)``.

    Returns:
        The module, for ``models.from_linen(module, inputs=("tokens",
        "attention_mask"))``, and its variables, in float32.

    Raises:
        FileNotFoundError: if there is no such folder or file.
        ArtefactError: if a file is damaged, or holds another model: a tensor is
            missing, unknown, or of another shape.

    Examples:
        >>> import tempfile
        >>> import jax, jax.numpy as jnp
        >>> from jaxkd import deploy, models
        >>> bert = models.Bert(9, width=8, depth=2, heads=2, hidden=16, max_length=4)
        >>> model = models.from_linen(bert, inputs=("tokens", "attention_mask"))
        >>> batch = {
        ...     "tokens": jnp.ones((1, 3), int),
        ...     "attention_mask": jnp.ones((1, 3)),
        ... }
        >>> folder = tempfile.mkdtemp() + "/bert"
        >>> _ = deploy.write_bert(folder, bert, model.init(jax.random.key(0), batch))
        >>> module, variables = deploy.read_bert(folder, classes=3)
        >>> again = models.from_linen(module, inputs=("tokens", "attention_mask"))
        >>> again.apply(*variables, batch).logits.shape
        (1, 3)
    """
    folder = pathlib.Path(folder)
    for name in (_CONFIG, _WEIGHTS):
        if not (folder / name).is_file():
            raise FileNotFoundError(
                f"there is no {folder / name}; BERT is read from a folder with "
                f"{_CONFIG} and {_WEIGHTS}."
            )
    kind, sizes = _read_config(folder / _CONFIG)
    found = {_plain(k, kind): x for k, x in read_arrays(folder / _WEIGHTS).items()}
    unused, new = _UNUSED, ()
    if classes is None and pooling == "cls" and "classifier.weight" in found:
        classes = len(found["classifier.weight"])
    elif classes is not None:
        new = ("head/", "pooler/")
        unused = (*unused, "classifier.")
    if pooling == "mean":
        unused = (*unused, "pooler.", "pre_classifier.", "classifier.")
    found = {name: x for name, x in found.items() if not name.startswith(unused)}
    module = Bert(classes=classes, pooling=pooling, **sizes)
    params = _fill(folder / _WEIGHTS, module, kind, found, new, key)
    return module, Variables(params, {})


def write_bert(
    folder: str | pathlib.Path,
    module: Bert,
    variables: Variables,
    *,
    tokenizer: Any = None,
    labels: Sequence[str] = (),
) -> pathlib.Path:
    """Writes a folder that ``transformers`` loads, as :func:`read_bert` reads it.

    A classifier is loaded by ``AutoModelForSequenceClassification``, an encoder by
    ``AutoModel``, the tokenizer by ``AutoTokenizer``. The folder takes its name when
    all is written.

    Args:
        folder: the folder to make.
        module: the model.
        variables: its variables; saved in float32.
        tokenizer: a ``tokenizers.Tokenizer``, or the path of a ``tokenizer.json``, to
            be saved beside; its padding and truncation are not.
        labels: the names of the classes; ``LABEL_0`` and so on by default.

    Returns:
        The folder.

    Raises:
        ArtefactError: if it exists or cannot be written.
        ValueError: if the variables are not the module's, the labels not as many as its
            classes, or ``transformers`` has no such model: a classifier by the mean, or
            a DistilBERT of another ``eps``.
        FileNotFoundError: if there is no such tokenizer.
        ModuleNotFoundError: if ``safetensors``, or for a tokenizer ``tokenizers``, is
            not installed.

    Examples:
        >>> import tempfile
        >>> import jax, jax.numpy as jnp
        >>> from jaxkd import deploy, models
        >>> bert = models.Bert(9, classes=2, width=8, depth=1, heads=2, hidden=16)
        >>> variables = models.from_linen(bert, inputs="tokens").init(
        ...     jax.random.key(0), {"tokens": jnp.ones((1, 3), int)}
        ... )
        >>> folder = deploy.write_bert(
        ...     tempfile.mkdtemp() + "/bert", bert, variables, labels=("bad", "good")
        ... )
        >>> sorted(path.name for path in folder.iterdir())
        ['config.json', 'model.safetensors']
    """
    folder = pathlib.Path(folder)
    if module.classes is not None and module.pooling != "cls":
        raise ValueError(
            "a classifier that reads the mean state is none that transformers knows; "
            "train one with `pooling='cls'`, or save its encoder, without classes."
        )
    if labels and len(labels) != module.classes:
        raise ValueError(f"{len(labels)} `labels` for {module.classes} classes.")
    kind = "bert" if module.types else "distilbert"
    if kind == "distilbert" and module.eps != Bert.eps:
        raise ValueError(f"DistilBERT has eps={Bert.eps}, and the module {module.eps}.")
    tensors = _tensors(module, variables, kind)
    safetensors = require("safetensors.numpy", "deploy")
    saved = None if tokenizer is None else _plain_tokenizer(tokenizer)
    with staged(folder) as staging:
        _write_json(staging / _CONFIG, _config_of(module, kind, labels))
        # transformers does not read a file that does not say which library it is for.
        content = safetensors.save(tensors, metadata={"format": "pt"})
        (staging / _WEIGHTS).write_bytes(content)
        if saved is not None:
            saved.save(str(staging / _TOKENIZER))
            settings = _tokenizer_config(saved, module.max_length)
            _write_json(staging / "tokenizer_config.json", settings)
    return folder


def _read_config(file: pathlib.Path) -> tuple[str, dict[str, Any]]:
    """Which kind of model it is, and the attributes of our module."""
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
        kind = config["model_type"]
        if kind not in SIZES:
            raise ValueError(f"model_type {kind!r}; {_names.nearest(kind, SIZES)}")
        sizes = {ours: config[theirs] for ours, theirs in SIZES[kind].items()}
        _check_sizes(sizes)
    except KeyError as error:
        raise ArtefactError(f"{file} has no entry {error}.") from error
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise ArtefactError(f"{file} is no config of BERT: {error}.") from error
    act = config.get("hidden_act", config.get("activation", "gelu"))
    places = config.get("position_embedding_type", "absolute")
    if (act, places) != ("gelu", "absolute"):
        raise ArtefactError(
            f"{file} wants the activation {act!r} and {places!r} positions; jaxkd's "
            "BERT has 'gelu' and 'absolute' ones."
        )
    return kind, {"types": 0, **sizes}


def _check_sizes(sizes: Mapping[str, Any]) -> None:
    for name, value in sizes.items():
        real = name in {"dropout", "eps"}
        if type(value) not in ((int, float) if real else (int,)) or value < 0:
            raise ValueError(f"{name} is {value!r}")
        if not real and value == 0:
            raise ValueError(f"{name} is 0")
    if sizes["depth"] > _MAX_DEPTH:  # not to build for hours what no file holds
        raise ValueError(f"depth is {sizes['depth']}")
    if sizes["width"] % sizes["heads"]:
        raise ValueError(f"width {sizes['width']} for {sizes['heads']} heads")


def _plain(name: str, kind: str) -> str:
    """A tensor's name without the prefix, and as newer files have it."""
    name = name.removeprefix(f"{kind}.")
    return name.replace("LayerNorm.gamma", "LayerNorm.weight").replace(
        "LayerNorm.beta", "LayerNorm.bias"
    )


def _shapes(module: Bert) -> Any:
    token = np.zeros((1, 1), np.int32)
    return jax.eval_shape(lambda: module.init(jax.random.key(0), token))["params"]


def _fill(
    file: pathlib.Path,
    module: Bert,
    kind: str,
    found: dict[str, np.ndarray],
    new: tuple[str, ...],
    key: PRNGKey | None,
) -> Any:
    key, shapes = jax.random.key(0) if key is None else key, _shapes(module)
    wanted = {their_name(path, kind) for path in trees.flatten(shapes)}
    unknown = sorted({*found} - wanted)
    if unknown:
        raise ArtefactError(
            f"{file} has a tensor {unknown[0]!r}, which the model of its {_CONFIG} "
            f"has not; {_names.nearest(unknown[0], wanted)}"
        )

    def fill(path: str, like: jax.ShapeDtypeStruct) -> jax.Array:
        name = their_name(path, kind)
        if name not in found and new and path.startswith(new):
            return _draw(key, path, like)
        if name not in found:
            raise ArtefactError(
                f"{file} has no tensor {name!r}; {_names.nearest(name, found)}"
            )
        x = found[name].T if path.endswith("/kernel") else found[name]
        if x.shape != like.shape:
            shape = like.shape[::-1] if path.endswith("/kernel") else like.shape
            raise ArtefactError(
                f"tensor {name!r} of {file} has shape {found[name].shape}, and by "
                f"{_CONFIG} it would be {shape}."
            )
        return jax.numpy.asarray(x, jax.numpy.float32)

    return trees.map_with_path(fill, shapes)


def _draw(key: PRNGKey, path: str, like: jax.ShapeDtypeStruct) -> jax.Array:
    if path.endswith("/bias"):
        return jax.numpy.zeros(like.shape)
    key = jax.random.fold_in(key, path.startswith("head/"))
    return 0.02 * jax.random.normal(key, like.shape)  # as BERT itself was drawn


def _tensors(module: Bert, variables: Variables, kind: str) -> dict[str, np.ndarray]:
    wanted = trees.flatten(_shapes(module))
    found = trees.flatten(variables.params)
    for path in sorted({*wanted} ^ {*found}):
        side = "variables have" if path in wanted else "module has"
        raise ValueError(f"the {side} no {path!r}.")
    tensors = {}
    for path, x in found.items():
        if np.shape(x) != wanted[path].shape:
            raise ValueError(
                f"{path!r} has shape {np.shape(x)}, and the module needs "
                f"{wanted[path].shape}."
            )
        name = their_name(path, kind)
        if module.classes is not None and not name.startswith(
            ("classifier", "pre_classifier")
        ):
            name = f"{kind}.{name}"
        x = np.asarray(x, np.float32)
        # safetensors saves the memory as it lies.
        tensors[name] = np.ascontiguousarray(x.T if path.endswith("/kernel") else x)
    return tensors


def _config_of(module: Bert, kind: str, labels: Sequence[str]) -> dict[str, Any]:
    task = "Model" if module.classes is None else "ForSequenceClassification"
    config: dict[str, Any] = {
        "architectures": [ARCHITECTURES[kind] + task],
        "model_type": kind,
        **{theirs: getattr(module, ours) for ours, theirs in SIZES[kind].items()},
        "pad_token_id": 0,
        "dtype": "float32",
    }
    if kind == "bert":
        config |= {
            "hidden_act": "gelu",
            "attention_probs_dropout_prob": module.dropout,
        }
    else:
        config |= {"activation": "gelu", "attention_dropout": module.dropout}
    if module.classes is not None:
        names = labels or [f"LABEL_{i}" for i in range(module.classes)]
        config["id2label"] = {str(i): name for i, name in enumerate(names)}
        config["label2id"] = {name: i for i, name in enumerate(names)}
    return config


def _plain_tokenizer(tokenizer: Any) -> Any:
    module = require("tokenizers", "text")
    if not isinstance(tokenizer, module.Tokenizer):
        file = pathlib.Path(tokenizer)
        if not file.is_file():
            raise FileNotFoundError(f"there is no tokenizer {file}.")
        tokenizer = module.Tokenizer.from_file(str(file))
    own = module.Tokenizer.from_str(tokenizer.to_str())
    own.no_padding()
    own.no_truncation()
    return own


def _tokenizer_config(tokenizer: Any, max_length: int) -> dict[str, Any]:
    special = {
        name: token
        for name, token in _SPECIAL.items()
        if tokenizer.token_to_id(token) is not None
    }
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": max_length,
        **special,
    }


def _write_json(file: pathlib.Path, content: Mapping[str, Any]) -> None:
    file.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
