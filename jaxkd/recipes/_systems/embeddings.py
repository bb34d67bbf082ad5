"""Sentence embeddings: a published encoder teaches shallower ones, without labels."""

import dataclasses
import functools
import pathlib
from collections.abc import Callable, Sequence

import jax
import numpy as np
from jaxtyping import Array

from jaxkd import data, deploy, losses, models, objectives
from jaxkd._types import Batch, Logits, PerExample, Scalar
from jaxkd.models import Bert, Model, Variables
from jaxkd.recipes._experiment.value import Experiment, Splits, Training, Way
from jaxkd.recipes._systems.sentences import Sentences, load_sentences, with_typos
from jaxkd.recipes._systems.text import model_folder

_INPUTS = ("tokens", "attention_mask")
_BATCH = 250
# Of more sentences, similarities in pairs would not fit in memory.
_PAIRED = 1000


@dataclasses.dataclass(frozen=True)
class EmbeddingsConfig(Training):
    """Settings of :func:`embeddings`.

    Attributes:
        data: where the sentences are, and how the names of their files begin, as in
            :class:`TextConfig`.
        encoding: of these files.
        labelled: whether a label and a space begin each line. Labels are what is
            measured by; nothing learns from them.
        model: the folder of the teacher, as in :class:`TextConfig`.
        max_length: tokens to which each sentence is padded or cut.
        students: how many layers each student has.
        relations_weight: weight of the relations, numbers of about 1 / ``batch_size``.
        seeds: how many; each trains students of its own.
        batch_size: examples in a batch.
        learning_rate: the peak of its cosine schedule.
        warmup: share of the updates in which the rate rises to its peak.
        weight_decay: of the optimizer.
    """

    data: str = "texts/"
    encoding: str = "utf-8"
    labelled: bool = True
    model: str = ""
    max_length: int = 64
    students: tuple[int, ...] = (2,)
    relations_weight: float = 64.0
    seeds: int = 1
    batch_size: int = 64
    learning_rate: float = 3e-4
    warmup: float = 0.1
    weight_decay: float = 0.01

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.students or min(self.students) < 1:
            raise ValueError("`students` must be numbers of layers, at least 1.")
        if self.relations_weight < 0:
            raise ValueError(
                f"`relations_weight` must not be negative, got {self.relations_weight}."
            )


def embeddings(config: EmbeddingsConfig) -> Experiment:
    """A published sentence encoder teaches shallower ones, on sentences alone.

    The teacher embeds each sentence once. Students made of some of its layers are
    compared as they are, trained on the cosine with the teacher's embeddings, and on
    how similar the sentences of a batch are to each other besides; one more learns the
    cosine from a random start. What is measured is the mean cosine with the teacher's
    embeddings of sentences held out, that of the similarities of all pairs (Spearman's
    correlation), and how often the most similar sentence has the same label.

    Args:
        config: what to do.

    Returns:
        The experiment, for :func:`jaxkd.recipes.run_experiment`.

    Raises:
        FileNotFoundError: if the sentences or the model are not there.
        ValueError: if there are too few sentences, or a student has more layers than
            the teacher.
        ModuleNotFoundError: if ``tokenizers`` is not installed.

    References:
        Reimers, Gurevych, `Making Monolingual Sentence Embeddings Multilingual using
        Knowledge Distillation <https://arxiv.org/abs/2004.09813>`_, 2020, section 2,
        for embeddings as targets; Tung, Mori, `Similarity-Preserving Knowledge
        Distillation <https://arxiv.org/abs/1907.09682>`_, 2019, section 3, for the
        relations.
    """
    folder = model_folder(config.model)
    tokenizer = folder / "tokenizer.json"
    module, variables = deploy.read_bert(folder, pooling="mean")
    teacher = _model(module)
    tokenize = functools.partial(
        data.tokenize, tokenizer=tokenizer, max_length=config.max_length
    )
    found = load_sentences(
        config.data, encoding=config.encoding, labelled=config.labelled
    )
    parts = [
        {**tokens, "stored": embed(teacher, variables, tokens)}
        for tokens in (tokenize(part["text"]) for part in found[:3])
    ]
    splits = _splits(config, found, parts)
    ways: dict[str, Way] = {}
    for depth in config.students:
        ways |= _ways(config, module, depth)

    def save(name: str, variables: Variables, folder: pathlib.Path) -> object:
        depth = module.depth if name == "teacher" else int(name.split()[0])
        student = module.clone(depth=depth)
        return deploy.write_bert(folder, student, variables, tokenizer=tokenizer)

    return Experiment(
        splits,
        _INPUTS,
        teacher,
        ways,
        variables=variables,
        measure=_measure,
        quality="cosine with the teacher",
        damaged=with_typos(splits.test, found.test["text"], tokenize),
        formats={"huggingface": save},
    )


def _splits(
    config: EmbeddingsConfig, found: Sentences, parts: Sequence[data.Arrays]
) -> Splits:
    """Labels to measure by, in the parts that are held out."""
    train, *held = parts
    for part in held:
        if len(part["stored"]) < 3:
            raise ValueError(
                f"{config.data}: similarities of {len(part['stored'])} sentences held "
                "out cannot be compared; 3 are the least."
            )
    validation, test = held
    if config.labelled:
        # Not as `label`, by which outputs would be taken for logits of classes.
        validation = {**validation, "class": found.validation["label"]}
        test = {**test, "class": found.test["label"]}
    about = f"{pathlib.Path(config.data).name}: sentences, learned without labels."
    return Splits(train, validation, test, found.classes, about)


def embed(model: Model, variables: Variables, arrays: data.Arrays) -> np.ndarray:
    """The embeddings of sentences.

    Args:
        model: an encoder.
        variables: its variables.
        arrays: ``tokens`` and ``attention_mask``, shape ``[n, length]``.

    Returns:
        Vectors of length 1, shape ``[n, width]``, float32.
    """
    inputs = {name: arrays[name] for name in _INPUTS}
    size = min(_BATCH, len(inputs["tokens"]))
    apply, found = _encoder(model), []
    for batch in data.eval_batches(inputs, batch_size=size):
        rows = np.asarray(apply(variables, batch))
        found.append(rows[np.asarray(batch["mask"])])
    return np.concatenate(found).astype(np.float32)


@functools.cache
def _encoder(model: Model) -> Callable[[Variables, Batch], Array]:
    def encode(variables: Variables, batch: Batch) -> Array:
        return model.apply(*variables, batch).logits

    return jax.jit(encode)


def _ways(config: EmbeddingsConfig, teacher: Bert, depth: int) -> dict[str, Way]:
    kept = losses.layer_maps.uniform(depth, teacher.depth)
    # Without dropout: the targets are one vector for each sentence, not a class.
    student = _model(teacher.clone(depth=depth, dropout=0.0))
    name = f"{depth} layer{'s' if depth > 1 else ''}"

    def start(teacher: Variables) -> Variables:
        return models.keep_layers(teacher, kept)

    cosine = objectives.on_logits(_cosine)
    relations = objectives.combine(
        cosine=(1.0, cosine),
        relations=(config.relations_weight, objectives.on_logits(_relations)),
    )
    as_kept, taught = f"{name}, as kept", f"{name}, cosine"
    return {
        as_kept: Way(student, cosine, start=start, steps=0),
        taught: Way(student, cosine, start=start, beside=as_kept),
        f"{name}, and relations": Way(student, relations, start=start, beside=taught),
        f"{name}, random start": Way(student, cosine, beside=taught),
    }


def _model(module: Bert) -> Model:
    return models.from_linen(module, inputs=_INPUTS)


def _cosine(student_logits: Logits, stored: Logits) -> PerExample:
    return losses.logit_cosine_distance(student_logits, stored)


def _relations(
    student_logits: Logits,
    stored: Logits,
    *,
    where: Array | None = None,
    axis_name: str | None = None,
) -> Scalar:
    return losses.similarity_preserving(
        student_logits, stored, where=where, axis_name=axis_name
    )


def _measure(
    model: Model, variables: Variables, arrays: data.Arrays
) -> dict[str, float]:
    found, wanted = embed(model, variables, arrays), np.asarray(arrays["stored"])
    ours, theirs = (x[:_PAIRED] @ x[:_PAIRED].T for x in (found, wanted))
    pairs = np.triu_indices(len(ours), 1)
    scores = {
        "accuracy": float(np.mean(np.sum(found * wanted, axis=1))),
        "rank correlation of similarities": _spearman(ours[pairs], theirs[pairs]),
    }
    if "class" in arrays:
        classes = np.asarray(arrays["class"])[:_PAIRED]
        np.fill_diagonal(ours, -np.inf)
        same = classes[ours.argmax(axis=1)] == classes
        scores["label of the most similar sentence"] = float(same.mean())
    return scores


def _spearman(x: np.ndarray, y: np.ndarray) -> float:
    """The correlation of ranks; 0 if one side is constant."""
    from scipy import stats

    a, b = (stats.rankdata(z) - (len(z) + 1) / 2 for z in (x, y))
    scale = np.sqrt(np.sum(a * a) * np.sum(b * b))
    return float(np.sum(a * b) / scale) if scale else 0.0
