"""Folders and tars of recordings."""

import io
import pathlib
import wave
from collections.abc import Sequence

import numpy as np

from jaxkd import _checks
from jaxkd.data._dataset import ClassOf, Dataset, class_folder, collect, walk


def read_audio(
    source: str | pathlib.Path,
    *,
    rate: int,
    length: int | None = None,
    split: str | None = None,
    classes: Sequence[str] | None = None,
    class_of: ClassOf = class_folder,
) -> Dataset:
    r"""Reads recordings (WAV, PCM) that lie in a folder for each class.

    Args:
        source: a folder, or a tar, compressed or not.
        rate: samples per second that all must have; nothing is resampled.
        length: samples to which each is padded with zeros or cut; by default the
            longest one's.
        split: reads only the folder of this name, such as ``"train"``.
        classes: the names of the classes, those of the split read before; by default
            those found, sorted.
        class_of: from the path (below the split) to its class, or ``None`` to leave the
            file out; by default the file's folder.

    Returns:
        A :class:`Dataset` of ``audio`` ``[n, samples]``, float32 in ``[-1, 1)``, the
        mean of the channels; ``length`` ``[n]``, how many samples are no padding; and
        ``label`` ``[n]``; sorted by path.

    Raises:
        FileNotFoundError: if there is no such source.
        ValueError: if there are no recordings, one cannot be read, is empty or has
            another rate, or a class is none of ``classes``.

    Examples:
        >>> import pathlib, tempfile, wave
        >>> from jaxkd import data
        >>> folder = pathlib.Path(tempfile.mkdtemp())
        >>> for n, name in ((2, "no"), (3, "yes")):
        ...     (folder / name).mkdir()
        ...     with wave.open(str(folder / name / "1.wav"), "wb") as file:
        ...         file.setparams((1, 2, 8000, 0, "NONE", ""))
        ...         file.writeframes(n * b"\x00\x40")
        >>> print(data.read_audio(folder, rate=8000).arrays["audio"])
        [[0.5 0.5 0. ]
         [0.5 0.5 0.5]]
    """
    _checks.check_positive(rate=rate, length=1 if length is None else length)
    sounds, _, labels, names = collect(
        walk(source, (".wav",), split),
        lambda content: _decode(content, rate),
        class_of,
        classes,
    )
    width = max(map(len, sounds)) if length is None else length
    audio = np.zeros((len(sounds), width), np.float32)
    for row, sound in zip(audio, sounds, strict=True):
        row[: len(sound)] = sound[:width]
    lengths = np.array([min(len(sound), width) for sound in sounds], np.int32)
    return Dataset({"audio": audio, "length": lengths, "label": labels}, names)


def _decode(content: bytes, rate: int) -> np.ndarray:
    try:
        with wave.open(io.BytesIO(content)) as file:
            channels, width = file.getnchannels(), file.getsampwidth()
            found, frames = file.getframerate(), file.getnframes()
            raw = file.readframes(frames)
    except (wave.Error, EOFError) as error:
        raise ValueError(
            f"it is no WAV of PCM, or damaged: {error or 'it ends early'}."
        ) from error
    if found != rate:
        raise ValueError(f"it has {found} samples per second, `rate` is {rate}.")
    if frames == 0 or len(raw) < frames * channels * width:
        raise ValueError(
            f"it should have {frames} samples, but ends early or is empty."
        )
    return _samples(raw, width).reshape(-1, channels).mean(1, dtype=np.float32)


def _samples(raw: bytes, width: int) -> np.ndarray:
    if width == 1:  # the only width without a sign
        return (np.frombuffer(raw, np.uint8).astype(np.float32) - 128) / 128
    # The bytes of a sample become the upper ones of 32 bits.
    wide = np.zeros((len(raw) // width, 4), np.uint8)
    wide[:, 4 - width :] = np.frombuffer(raw, np.uint8).reshape(-1, width)
    return (wide.view("<i4")[:, 0] / 2.0**31).astype(np.float32)
