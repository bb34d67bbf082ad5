"""How good a shipped model is, and who pays for its compression."""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np

from jaxkd import _checks, _names
from jaxkd.deploy._artefact import Artefact


class Quality(NamedTuple):
    """What a model scored on labelled examples.

    Attributes:
        examples: how many there were.
        accuracy: the share of right answers.
        calibration_error: the expected calibration error, in ``[0, 1]``.
        agreement: the share of examples on which it answers as the teacher; ``None``
            without one.
        class_examples: how many examples each class has.
        class_accuracy: the share of right answers among them; NaN for none.
    """

    examples: int
    accuracy: float
    calibration_error: float
    agreement: float | None
    class_examples: tuple[int, ...]
    class_accuracy: tuple[float, ...]


def score(
    logits: Any, labels: Any, teacher_logits: Any = None, *, bins: int = 15
) -> Quality:
    r"""Scores logits: accuracy, over all and by class, calibration, agreement.

    The calibration error is how far confidence and accuracy lie apart, in bins of
    equal width of the confidence :math:`\max_c p_c`,

    .. math::
        \mathrm{ECE} = \sum_b \frac{n_b}{n} \, | \mathrm{accuracy}_b -
        \mathrm{confidence}_b |

    Args:
        logits: shape ``[*batch, classes]``.
        labels: integers, shape ``[*batch]``; negative ones are left out.
        teacher_logits: the teacher's, in the shape of ``logits``; or ``None``.
        bins: number of bins.

    Returns:
        :class:`Quality`.

    Raises:
        ValueError: if the shapes do not fit, a label is no class, or no label is left.
        TypeError: if the labels are no integers.

    Examples:
        >>> import numpy as np
        >>> from jaxkd import deploy
        >>> logits = np.log([[0.9, 0.1], [0.8, 0.2], [0.6, 0.4]])
        >>> scores = deploy.score(logits, np.array([0, 1, 0]))
        >>> round(scores.accuracy, 3), scores.class_accuracy
        (0.667, (1.0, 0.0))
        >>> round(scores.calibration_error, 3)  # |1 - .9| / 3 + |0 - .8| / 3 + ...
        0.433

    References:
        Guo, Pleiss, Sun, Weinberger, `On calibration of modern neural networks
        <https://arxiv.org/abs/1706.04599>`_, 2017, section 2.
    """
    logits, labels = _checked(logits, labels)
    classes = logits.shape[-1]
    kept = labels.ravel() >= 0
    flat, truth = logits.reshape(-1, classes)[kept], labels.ravel()[kept]
    if not len(truth):
        raise ValueError("there is nothing to score: no labels.")
    chosen = np.argmax(flat, axis=-1)
    right = chosen == truth
    agreement = None
    if teacher_logits is not None:
        _checks.check_same_shape(logits=logits, teacher_logits=teacher_logits)
        teacher = np.asarray(teacher_logits).reshape(-1, classes)[kept]
        agreement = float(np.mean(chosen == np.argmax(teacher, axis=-1)))
    counts = np.bincount(truth, minlength=classes)
    hits = np.bincount(truth[right], minlength=classes)
    share = np.divide(hits, counts, where=counts > 0, out=np.full(classes, np.nan))
    return Quality(
        examples=len(truth),
        accuracy=float(np.mean(right)),
        calibration_error=_calibration_error(_confidence(flat), right, bins),
        agreement=agreement,
        class_examples=tuple(counts.tolist()),
        class_accuracy=tuple(share.tolist()),
    )


def _checked(logits: Any, labels: Any) -> tuple[np.ndarray, np.ndarray]:
    logits, labels = np.asarray(logits, np.float64), np.asarray(labels)
    if not np.issubdtype(labels.dtype, np.integer):
        raise TypeError(f"`labels` must be integers, got {labels.dtype}.")
    if logits.shape[:-1] != labels.shape or logits.ndim < 2:
        raise ValueError(
            f"`labels` has shape {labels.shape}, but `logits` has {logits.shape}; they "
            "must be equal but for the last axis, of classes."
        )
    if labels.size and labels.max() >= logits.shape[-1]:
        raise ValueError(
            f"`labels` has the class {labels.max()}, but `logits` only "
            f"{logits.shape[-1]} classes."
        )
    return logits, labels


def _confidence(logits: np.ndarray) -> np.ndarray:
    best = np.max(logits, axis=-1, keepdims=True)
    return 1.0 / np.sum(np.exp(logits - best), axis=-1)


def _calibration_error(confidence: np.ndarray, right: np.ndarray, bins: int) -> float:
    place = np.minimum(np.ceil(confidence * bins).astype(int) - 1, bins - 1)
    gaps = np.bincount(place, weights=right - confidence, minlength=bins)
    return float(np.sum(np.abs(gaps)) / len(right))


def evaluate_artefact(
    artefact: Artefact,
    batches: Iterable[Mapping[str, Any]],
    *,
    teacher: Artefact | None = None,
    label: str = "label",
) -> tuple[Quality, Quality | None]:
    """Scores an artefact, by what it answers where it runs.

    Args:
        artefact: of :func:`load`.
        batches: dicts of the inputs and labels, such as
            :func:`jaxkd.data.eval_batches`; where ``mask`` is false, an example is
            left out.
        teacher: the teacher's artefact, if it is to be compared with one.
        label: the entry with integer labels.

    Returns:
        The artefact's :class:`Quality`, and the teacher's.

    Raises:
        ValueError: if there are no batches.
    """
    found: list[tuple[np.ndarray, ...]] = []
    for batch in batches:
        labels = np.array(_names.get(batch, label, "evaluation"))
        if "mask" in batch:
            labels[~np.asarray(batch["mask"], bool)] = -1
        models = [artefact] if teacher is None else [artefact, teacher]
        found.append((labels, *(_answer(model, batch) for model in models)))
    if not found:
        raise ValueError("there is nothing to evaluate: no batches.")
    labels, logits, *others = (np.concatenate(x) for x in zip(*found, strict=True))
    if not others:
        return score(logits, labels), None
    return score(logits, labels, others[0]), score(others[0], labels)


def _answer(artefact: Artefact, batch: Mapping[str, Any]) -> np.ndarray:
    names = artefact.manifest["inputs"]
    return np.asarray(artefact.predict({n: batch[n] for n in names if n in batch}))
