"""Spoken digits: a network of a hundred thousand numbers teaches a tiny one."""

import dataclasses
import functools
import pathlib

import flax.linen as nn
import numpy as np
from jaxtyping import Array, Float

from jaxkd import data, models
from jaxkd.recipes._experiment.value import (
    Experiment,
    Splits,
    Training,
    alone_and_distilled,
)


@dataclasses.dataclass(frozen=True)
class SpeechConfig(Training):
    """Settings of :func:`speech`.

    Attributes:
        data: a folder, or a tar, of recordings named ``LABEL_SPEAKER_NUMBER.wav``, as
            the Free Spoken Digit Dataset has them. Of each speaker and label, numbers
            0 to 4 are for the test, as its authors ask, and 5 to 9 for validation.
        rate: samples per second of the recordings.
        seconds: to which each recording is padded or cut.
        mels: bands of the spectrogram.
        teacher: channels of the teacher's blocks.
        student: channels of the student's.
        temperature: of the soft targets.
    """

    data: str = "recordings"
    rate: int = 8000
    seconds: float = 0.8
    mels: int = 40
    teacher: tuple[int, ...] = (32, 64, 128)
    student: tuple[int, ...] = (8, 16, 32)
    temperature: float = 2.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if min(*self.teacher, *self.student, 1) < 1:
            raise ValueError("`teacher` and `student` must be positive widths.")


class Listener(nn.Module):
    """Convolutions over a spectrogram.

    Attributes:
        widths: channels of the blocks, see :class:`jaxkd.models.CNN`.
        classes: number of words.
    """

    widths: tuple[int, ...]
    classes: int

    @nn.compact
    def __call__(
        self, mel: Float[Array, "batch frames mels"], *, train: bool = False
    ) -> Float[Array, "batch classes"]:
        """Returns logits."""
        cnn = models.CNN(widths=self.widths, classes=self.classes, name="cnn")
        return cnn(mel[..., None], train=train)


def speech(config: SpeechConfig) -> Experiment:
    """Spoken digits, as log-mel spectrograms: a student alone, and distilled.

    Spectrograms are standardised by the training part's mean and standard deviation,
    and masked in training (SpecAugment).

    Args:
        config: what to do.

    Returns:
        The experiment, for :func:`jaxkd.recipes.run_experiment`.

    Raises:
        FileNotFoundError: if the recordings are not there.
        ValueError: if a recording has another rate, or another name.
    """
    splits = _splits(config)
    network = lambda widths: models.from_linen(
        Listener(widths, len(splits.classes)), inputs=("mel",)
    )
    hide = data.augment.spec_augment(time=(1, 8), mel=(1, 6))
    ways = alone_and_distilled(
        "student", network(config.student), config, transform=hide
    )
    teacher = network(config.teacher)
    return Experiment(splits, ("mel",), teacher, ways, transform=hide)


def _splits(config: SpeechConfig) -> Splits:
    length = round(config.seconds * config.rate)
    names: tuple[str, ...] | None = None
    parts = []
    for numbers in (range(10, 10**6), range(5, 10), range(5)):
        found = data.read_audio(
            config.data,
            rate=config.rate,
            length=length,
            classes=names,
            class_of=functools.partial(_label, numbers=numbers),
        )
        names = tuple(found.classes)
        mel = data.log_mel(
            found.arrays["audio"], rate=config.rate, mels=config.mels, hop=0.016
        )
        parts.append({"mel": np.asarray(mel), "label": found.arrays["label"]})
    mean, spread = parts[0]["mel"].mean(), parts[0]["mel"].std()
    for part in parts:
        part["mel"] = (part["mel"] - mean) / spread
    about = f"{pathlib.Path(config.data).name}: spoken words as log-mel spectrograms."
    return Splits(*parts, classes=names or (), about=about)


def _label(path: pathlib.PurePath, *, numbers: range) -> str | None:
    label, _, rest = path.stem.partition("_")
    number = rest.rpartition("_")[2]
    if not number.isdigit():
        raise ValueError(f"{path.name} is not named LABEL_SPEAKER_NUMBER.wav.")
    return label if int(number) in numbers else None
