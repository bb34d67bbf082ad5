"""Which layer of the teacher each layer of the student learns from.

Every map is a tuple with one entry for each layer of the student: the index, from 0, of
a layer of the teacher. ``[teacher_states[i] for i in every_other(6, 12)]``.
"""

import numpy as np


def every_other(student_layers: int, teacher_layers: int) -> tuple[int, ...]:
    """The last of each group of equally many: for half as many layers, every other.

    Args:
        student_layers: how many layers the student has.
        teacher_layers: how many the teacher has, a multiple of that.

    Returns:
        ``(m - 1, 2 m - 1, ...)`` for groups of ``m``.

    Raises:
        ValueError: if the numbers are not positive or do not divide.

    Examples:
        >>> from jaxkd import losses
        >>> losses.layer_maps.every_other(6, 12)
        (1, 3, 5, 7, 9, 11)

    References:
        Sun et al., `Patient Knowledge Distillation for BERT Model Compression
        <https://arxiv.org/abs/1908.09355>`_, 2019, section 3.2 ("skip").
    """
    step = _group(student_layers, teacher_layers)
    return tuple(range(step - 1, teacher_layers, step))


def last(student_layers: int, teacher_layers: int) -> tuple[int, ...]:
    """The teacher's last layers.

    Args:
        student_layers: how many layers the student has.
        teacher_layers: how many the teacher has, no fewer.

    Returns:
        The last ``student_layers`` indices.

    Raises:
        ValueError: if the numbers are not positive, or the student has more.

    Examples:
        >>> from jaxkd import losses
        >>> losses.layer_maps.last(3, 12)
        (9, 10, 11)

    References:
        Sun et al., `Patient Knowledge Distillation for BERT Model Compression
        <https://arxiv.org/abs/1908.09355>`_, 2019, section 3.2 ("last").
    """
    _check(student_layers, teacher_layers)
    return tuple(range(teacher_layers - student_layers, teacher_layers))


def uniform(student_layers: int, teacher_layers: int) -> tuple[int, ...]:
    """Equally spaced from the end of the first group to the last layer, rounded down.

    :func:`every_other` for numbers that need not divide; what distil-whisper is trained
    with.

    Args:
        student_layers: how many layers the student has.
        teacher_layers: how many the teacher has, no fewer.

    Returns:
        One index for each layer of the student, increasing, the last one the teacher's
        last.

    Raises:
        ValueError: if the numbers are not positive, or the student has more.

    Examples:
        >>> from jaxkd import losses
        >>> losses.layer_maps.uniform(4, 12)
        (2, 5, 8, 11)

    References:
        Gandhi et al., `Distil-Whisper: Robust Knowledge Distillation via Large-Scale
        Pseudo Labelling <https://arxiv.org/abs/2311.00430>`_, 2023, in its code.
    """
    _check(student_layers, teacher_layers)
    first = teacher_layers // student_layers - 1
    return _spaced(first, student_layers, teacher_layers, np.floor)


def tinybert(student_layers: int, teacher_layers: int) -> tuple[int, ...]:
    """Of hidden states, with the embeddings as the first: every group's end.

    TinyBERT's attention maps are those of :func:`every_other`.

    Args:
        student_layers: how many layers the student has.
        teacher_layers: how many the teacher has, a multiple of that.

    Returns:
        ``(0, m, 2 m, ...)``: one more entry than layers, as there are states.

    Raises:
        ValueError: if the numbers are not positive or do not divide.

    Examples:
        >>> from jaxkd import losses
        >>> losses.layer_maps.tinybert(4, 12)
        (0, 3, 6, 9, 12)

    References:
        Jiao et al., `TinyBERT: Distilling BERT for Natural Language Understanding
        <https://arxiv.org/abs/1909.10351>`_, 2020, section 3.1, and its code.
    """
    step = _group(student_layers, teacher_layers)
    return tuple(range(0, teacher_layers + 1, step))


def distilbert(student_layers: int, teacher_layers: int) -> tuple[int, ...]:
    """Equally spaced from the first layer to the last, rounded to the nearest.

    The layers that DistilBERT starts from.

    Args:
        student_layers: how many layers the student has.
        teacher_layers: how many the teacher has, no fewer.

    Returns:
        One index for each layer of the student, increasing; the last one alone for one.

    Raises:
        ValueError: if the numbers are not positive, or the student has more.

    Examples:
        >>> from jaxkd import losses
        >>> losses.layer_maps.distilbert(6, 12)
        (0, 2, 4, 7, 9, 11)

    References:
        Sanh et al., `DistilBERT, a distilled version of BERT: smaller, faster, cheaper
        and lighter <https://arxiv.org/abs/1910.01108>`_, 2019, in its code.
    """
    _check(student_layers, teacher_layers)
    return _spaced(0, student_layers, teacher_layers, np.rint)


def distil_whisper(student_layers: int, teacher_layers: int) -> tuple[int, ...]:
    """Equally spaced from the first layer to the last, rounded down.

    The layers that distil-whisper starts from; it is trained with :func:`uniform`.

    Args:
        student_layers: how many layers the student has.
        teacher_layers: how many the teacher has, no fewer.

    Returns:
        One index for each layer of the student, increasing; the last one alone for one.

    Raises:
        ValueError: if the numbers are not positive, or the student has more.

    Examples:
        >>> from jaxkd import losses
        >>> losses.layer_maps.distil_whisper(2, 32)
        (0, 31)

    References:
        Gandhi et al., `Distil-Whisper: Robust Knowledge Distillation via Large-Scale
        Pseudo Labelling <https://arxiv.org/abs/2311.00430>`_, 2023, in its code.
    """
    _check(student_layers, teacher_layers)
    return _spaced(0, student_layers, teacher_layers, np.floor)


def _spaced(
    first: int, student_layers: int, teacher_layers: int, rounded: np.ufunc
) -> tuple[int, ...]:
    places = np.linspace(first, teacher_layers - 1, student_layers)
    return (*map(int, rounded(places[:-1])), teacher_layers - 1)


def _group(student_layers: int, teacher_layers: int) -> int:
    _check(student_layers, teacher_layers)
    if teacher_layers % student_layers:
        raise ValueError(
            f"the teacher's {teacher_layers} layers are no multiple of the student's "
            f"{student_layers}; take `uniform`, which needs none."
        )
    return teacher_layers // student_layers


def _check(student_layers: int, teacher_layers: int) -> None:
    if not 0 < student_layers <= teacher_layers:
        raise ValueError(
            "a layer map needs a student of at least one layer and no more than the "
            f"teacher, got {student_layers} and {teacher_layers}."
        )
